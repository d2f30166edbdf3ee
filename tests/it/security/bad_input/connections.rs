//! Clients that are slow, silent, leave half way, speak no HTTP, or are too many.

use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{CLOSED_BOUND, LEFT_BOUND, Victim, assert_refused, refusal, until_closed};
use crate::support::eventually;
use crate::support::http::{self, raw_request};

/// Writes bytes one at a time until the other side closes, and says how long that was after `started`.
async fn trickle(
    stream: &mut TcpStream,
    bytes: impl Iterator<Item = u8>,
    started: Instant,
) -> (String, Duration) {
    let mut reply = Vec::new();
    let mut chunk = [0; 4096];
    for byte in bytes {
        assert!(started.elapsed() < CLOSED_BOUND, "nobody ends it");
        let written = stream.write_all(&[byte]).await;
        match tokio::time::timeout(Duration::from_millis(50), stream.read(&mut chunk)).await {
            Ok(Ok(0) | Err(_)) => {
                return (String::from_utf8_lossy(&reply).into(), started.elapsed());
            }
            Ok(Ok(n)) => reply.extend_from_slice(&chunk[..n]),
            Err(_) if written.is_err() => {
                return (String::from_utf8_lossy(&reply).into(), started.elapsed());
            }
            Err(_) => {}
        }
    }
    panic!("all was taken");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_trickles_is_refused_in_time() {
    let victim = Victim::hasty().await;
    let bodies = [
        victim.head("content-length: 1000\r\n\r\n{\"value\":\""),
        victim.head("transfer-encoding: chunked\r\n\r\n3e8\r\n{\"value\":\""),
        victim.head("content-length: 1000\r\n\r\n"),
    ];
    for head in bodies {
        let started = Instant::now();
        let mut stream = victim.connect().await;
        stream.write_all(head.as_bytes()).await.unwrap();
        let bytes = std::iter::repeat_n(b'x', 900);
        let (text, took) = trickle(&mut stream, bytes, started).await;
        assert!(text.starts_with("HTTP/1.1 408 "), "{text}");
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.contains("x-request-id: "), "{head}");
        let error: Value = serde_json::from_str(body).unwrap();
        assert_eq!(error["error_code"], 408);
        let message = error["message"].as_str().unwrap();
        assert!(
            message.contains("1500 ms (http.request_timeout_ms)"),
            "{message}"
        );
        assert!(took >= Duration::from_secs(1), "{took:?}");
    }

    // And over HTTP/2, where the connection goes on.
    let client = reqwest::Client::builder()
        .http2_prior_knowledge()
        .timeout(CLOSED_BOUND)
        .build()
        .unwrap();
    let slow = futures::stream::unfold(0, |n| async move {
        tokio::time::sleep(Duration::from_millis(50)).await;
        Some((Ok::<_, std::io::Error>(vec![b' ']), n + 1))
    });
    let request = client
        .post(victim.records())
        .header("content-type", "application/json")
        .body(reqwest::Body::wrap_stream(slow));
    let reply = http::send(request).await;
    assert_refused(&reply, &refusal(408, "", &["1500 ms"]), "h2");
    let reply = http::send(client.get(victim.records())).await;
    assert_eq!(reply.status, 200);
    drop(client);
    victim.unharmed().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_says_nothing_useful_is_closed_in_time() {
    let victim = Victim::hasty().await;
    // Silence, half a request line, half a head, half a preface of HTTP/2, and a whole one with
    // nothing behind it are all waited for at the same time.
    let half_head = victim.head("content-le");
    let starts: [&[u8]; 6] = [
        b"",
        b"G",
        b"GET /top",
        half_head.as_bytes(),
        b"PRI * HT",
        b"PRI * HTTP/2.0\r\n\r\nSM",
    ];
    let mut waits = Vec::new();
    for start in starts {
        let mut stream = victim.connect().await;
        stream.write_all(start).await.unwrap();
        waits.push(tokio::spawn(
            async move { until_closed(&mut stream).await.1 },
        ));
    }
    // A head that comes a byte at a time.
    let mut stream = victim.connect().await;
    let head = victim.head("content-length: 10\r\nx-slow: ");
    let endless = head.into_bytes().into_iter().chain(std::iter::repeat(b'x'));
    let (_, took) = trickle(&mut stream, endless, Instant::now()).await;
    assert!(took < CLOSED_BOUND, "{took:?}");
    for wait in waits {
        wait.await.unwrap();
    }
    // A connection that was used and then says nothing more.
    let mut stream = victim.connect().await;
    let request = format!(
        "GET /topics/{}/records HTTP/1.1\r\nhost: localhost\r\n\r\n",
        victim.topic
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let (text, _) = until_closed(&mut stream).await;
    assert!(text.starts_with("HTTP/1.1 200 "), "{text}");
    victim.unharmed().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_leaves_half_way_leaves_nothing_behind() {
    let victim = Victim::start().await;
    let halves = [
        victim.head("content-length: 100\r\n\r\n{\"value\":1"),
        victim.head("transfer-encoding: chunked\r\n\r\nb\r\n{\"value\":1}\r\n"),
        victim.head("content-le"),
        // A page that waits: its reader leaves with it.
        format!(
            "GET /topics/{}/records?wait=25000 HTTP/1.1\r\nhost: localhost\r\n\r\n",
            victim.topic
        ),
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0".to_owned(),
    ];
    for half in &halves {
        for _ in 0..3 {
            let mut stream = victim.connect().await;
            stream.write_all(half.as_bytes()).await.unwrap();
            stream.flush().await.unwrap();
            drop(stream);
        }
    }
    victim.unharmed().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn heads_that_are_too_large_or_no_http_are_refused() {
    let victim = Victim::start().await;
    let large = victim.head(&format!("x-large: {}\r\n\r\n", "x".repeat(1 << 20)));
    let many = victim.head(&format!("{}\r\n", "x-many: y\r\n".repeat(50_000)));
    let long = format!(
        "GET /{} HTTP/1.1\r\nhost: localhost\r\n\r\n",
        "x".repeat(1 << 20)
    );
    for head in [large, many, long] {
        let reply = raw_request(victim.gateway.address(), head.as_bytes(), CLOSED_BOUND).await;
        assert!(reply.closed);
        // The answer may be lost to a reset, as not all was read.
        assert!(
            reply.text.is_empty()
                || reply.text.starts_with("HTTP/1.1 431 ")
                || reply.text.starts_with("HTTP/1.1 414 "),
            "{}",
            reply.text
        );
    }
    let good = format!(
        "GET /topics/{}/records HTTP/1.1\r\nhost: localhost\r\n\r\n",
        victim.topic
    );
    let garbage: [(Vec<u8>, &str); 6] = [
        (
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 tls".to_vec(),
            "HTTP/1.1 400 ",
        ),
        (b"\0\0\0\0\r\n\r\n".to_vec(), "HTTP/1.1 400 "),
        (b"hello there\r\n\r\n".to_vec(), "HTTP/1.1 400 "),
        // Behind a request that is good.
        (
            [good.as_bytes(), b"\x01\x02garbage\r\n\r\n"].concat(),
            "HTTP/1.1 200 ",
        ),
        (
            victim
                .head("content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n")
                .into_bytes(),
            "HTTP/1.1 400 ",
        ),
        (
            victim.head("content-length: -1\r\n\r\n").into_bytes(),
            "HTTP/1.1 400 ",
        ),
    ];
    for (bytes, expected) in garbage {
        let reply = raw_request(victim.gateway.address(), &bytes, CLOSED_BOUND).await;
        let sent = String::from_utf8_lossy(&bytes).into_owned();
        assert!(reply.closed, "{sent:?}: {}", reply.text);
        assert!(reply.text.starts_with(expected), "{sent:?}: {}", reply.text);
    }
    victim.unharmed().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_over_the_limit_are_closed_and_the_others_served() {
    let victim = Victim::start().await;
    // Held open by pages that wait, which the request timeout does not end.
    let wait = format!(
        "GET /topics/{}/records?wait=25000 HTTP/1.1\r\nhost: localhost\r\n\r\n",
        victim.topic
    );
    let mut held = Vec::new();
    for _ in 0..40 {
        let mut stream = victim.connect().await;
        stream.write_all(wait.as_bytes()).await.unwrap();
        held.push(stream);
    }
    eventually(CLOSED_BOUND, async || victim.gauge().await == "40").await;
    for _ in 0..5 {
        let mut stream = victim.connect().await;
        let (text, _) = until_closed(&mut stream).await;
        assert_eq!(text, "");
    }
    let metrics = http::get(&victim.gateway.management_url("/metrics")).await;
    assert!(
        metrics
            .text()
            .contains("\nhttp_connections_refused_total{reason=\"connections\"} 5\n"),
        "{}",
        metrics.text()
    );
    drop(held);
    eventually(LEFT_BOUND, async || {
        victim.gauge().await == victim.connections
    })
    .await;
    victim.unharmed().await;
}
