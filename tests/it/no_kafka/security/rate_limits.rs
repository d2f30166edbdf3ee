//! Requests, bytes and connections of one client, held within their limits.

use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::stream;
use reqwest::Body;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::support::gateway::Gateway;
use crate::support::http::{self, Reply, client, raw_request};
use crate::support::tokens::{claims, sign, token};
use crate::support::{eventually, metric};

const RECORDS: &str = "/topics/orders/records";
const BOUND: Duration = Duration::from_secs(60);

async fn from(gateway: &Gateway, address: &str) -> Reply {
    let request = client()
        .get(gateway.url("/"))
        .header("x-forwarded-for", address);
    http::send(request).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_over_the_limit_are_told_when_to_come_again() {
    let gateway = Gateway::embedded()
        .set("limits.requests_per_second", "5")
        .start()
        .await;
    // Many at once, so that a slow machine sends more than five a second too.
    let (client, url) = (client(), gateway.url("/"));
    let many = (0..200).map(|_| http::send(client.get(&url)));
    let replies = futures::future::join_all(many).await;
    let mut taken = 0;
    let mut refused = None;
    for reply in replies {
        assert_eq!(reply.header("ratelimit-limit"), "5", "{reply:?}");
        if reply.status == 429 {
            refused = Some(reply);
            continue;
        }
        assert_eq!(reply.status, 200, "{reply:?}");
        assert!(reply.header("ratelimit-remaining").parse::<u32>().unwrap() < 5);
        taken += 1;
    }
    let reply = refused.expect("200 requests within 40 s");
    assert!(taken >= 5, "{taken}");
    assert_eq!(reply.json()["error_code"], 429);
    assert_eq!(reply.json()["retriable"], true);
    let message = reply.json()["message"].as_str().unwrap().to_owned();
    assert!(message.contains("limits.requests_per_second"), "{message}");
    assert_eq!(reply.header("ratelimit-remaining"), "0");
    assert_eq!(reply.header("retry-after"), reply.header("ratelimit-reset"));
    let wait: u64 = reply.header("retry-after").parse().unwrap();
    assert_eq!(wait, 1);
    tokio::time::sleep(Duration::from_secs(wait)).await;
    assert_eq!(http::get(&gateway.url("/")).await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_address_behind_a_trusted_proxy_has_its_own_limit() {
    let gateway = Gateway::embedded()
        .set("limits.requests_per_second", "1")
        .set("http.trusted_proxies", "127.0.0.1")
        .start()
        .await;
    let mut seen = Vec::new();
    for address in ["203.0.113.1", "203.0.113.2", "203.0.113.3", "2001:db8::1"] {
        seen.push(from(&gateway, address).await.status.as_u16());
    }
    assert_eq!(seen, [200; 4]);

    let gateway = Gateway::embedded()
        .set("limits.requests_per_second", "1")
        .start()
        .await;
    let mut refused = false;
    for n in 0..100 {
        refused |= from(&gateway, &format!("203.0.113.{n}")).await.status == 429;
    }
    assert!(refused, "a header that anyone can write was believed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_limits_no_answer_speaks_of_them() {
    let gateway = Gateway::embedded().start().await;
    let reply = http::get(&gateway.url("/")).await;
    assert!(
        reply
            .headers
            .keys()
            .all(|name| !name.as_str().starts_with("ratelimit"))
    );
}

async fn post(gateway: &Gateway, bytes: usize) -> Reply {
    let request = client()
        .post(gateway.url(RECORDS))
        .header("content-type", "application/octet-stream")
        .body(vec![b'x'; bytes]);
    http::send(request).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_over_the_limit_are_refused_before_they_are_written() {
    let gateway = Gateway::embedded()
        .set("limits.bytes_per_second", "100000")
        .start()
        .await;
    assert_eq!(post(&gateway, 90_000).await.status, 200);
    // Too soon for 90,000 more: they need 0.8 s.
    let reply = post(&gateway, 90_000).await;
    if reply.status == 429 {
        assert_eq!(reply.header("retry-after"), "1");
        let message = reply.json()["message"].as_str().unwrap().to_owned();
        assert!(message.contains("limits.bytes_per_second"), "{message}");
    } else {
        // On a machine that took this long there is nothing to refuse.
        assert_eq!(reply.status, 200, "{reply:?}");
    }
    // What can never arrive in time is not told to come again.
    let reply = post(&gateway, 5_000_000).await;
    assert_eq!(reply.status, 413, "{reply:?}");
    assert!(reply.text().contains("limits.bytes_per_second"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_of_several_seconds_is_slowed_down_and_written_whole() {
    let gateway = Gateway::embedded()
        .set("limits.bytes_per_second", "200000")
        .start()
        .await;
    let begun = Instant::now();
    let reply = post(&gateway, 500_000).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    let took = begun.elapsed();
    // A second's worth at once, and 1.5 s for the rest.
    assert!(took >= Duration::from_millis(1450), "{took:?}");
    let one = client()
        .get(gateway.url("/topics/orders/partitions/0/records/0"))
        .header("accept", "application/octet-stream");
    assert_eq!(http::send(one).await.body.len(), 500_000);
}

/// The client writes as fast as it can; the stream is read at its rate, and nothing is lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_is_slowed_down_instead_of_failed() {
    let gateway = Gateway::embedded()
        .set("limits.bytes_per_second", "200000")
        // Less than the stream lasts: waiting for the bucket is not a client that stopped.
        .set("http.request_timeout_ms", "2500")
        .start()
        .await;
    let line = format!("{{\"value\":\"{}\"}}\n", "x".repeat(985));
    let lines =
        stream::iter((0..900).map(move |_| Ok::<_, std::io::Error>(Bytes::from(line.clone()))));
    let begun = Instant::now();
    let request = client()
        .post(gateway.url(&format!("{RECORDS}?results=summary")))
        .header("content-type", "application/x-ndjson")
        .body(Body::wrap_stream(lines));
    let reply = http::send(request).await;
    let took = begun.elapsed();
    assert_eq!(reply.status, 200);
    assert_eq!(reply.json()["summary"]["written"], 900, "{}", reply.text());
    assert!(took >= Duration::from_millis(3400), "{took:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_of_one_address_are_bounded() {
    let gateway = Gateway::embedded()
        .set("limits.connections_per_address", "3")
        .start()
        .await;
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(TcpStream::connect(gateway.address()).await.unwrap());
    }
    let mut fourth = TcpStream::connect(gateway.address()).await.unwrap();
    let mut byte = [0];
    let ended = timeout(BOUND, fourth.read(&mut byte)).await.unwrap();
    assert!(matches!(ended, Ok(0) | Err(_)), "{ended:?}");
    assert_eq!(
        metric(&gateway, "http_connections_refused_total").await,
        1.0
    );
    let metrics = http::get(&gateway.management_url("/metrics")).await;
    assert!(
        metrics
            .text()
            .contains("reason=\"connections_per_address\"")
    );

    // Those that are there are served, and one that ends makes room.
    let request = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
    held[0].write_all(request).await.unwrap();
    let mut answer = [0; 12];
    timeout(BOUND, held[0].read_exact(&mut answer))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200");
    held.pop();
    eventually(BOUND, async || {
        let reply = raw_request(gateway.address(), request, Duration::from_secs(2)).await;
        reply.text.starts_with("HTTP/1.1 200")
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_without_a_request_is_ended() {
    let gateway = Gateway::embedded()
        .set("http.request_timeout_ms", "500")
        .start()
        .await;
    let mut kept = TcpStream::connect(gateway.address()).await.unwrap();
    kept.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .await
        .unwrap();
    let mut answer = Vec::new();
    timeout(BOUND, kept.read_to_end(&mut answer))
        .await
        .expect("an idle connection of HTTP/1 ends")
        .unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 200"));

    // HTTP/2: the client's preface and empty SETTINGS, and from then on nothing but answers to pings.
    let mut kept = TcpStream::connect(gateway.address()).await.unwrap();
    let mut hello = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    hello.extend_from_slice(&[0, 0, 0, 4, 0, 0, 0, 0, 0]);
    kept.write_all(&hello).await.unwrap();
    timeout(BOUND, async {
        let mut head = [0; 9];
        while kept.read_exact(&mut head).await.is_ok() {
            let length = usize::from(head[1]) << 8 | usize::from(head[2]);
            let mut payload = vec![0; length];
            if kept.read_exact(&mut payload).await.is_err() {
                return;
            }
            let (kind, flags) = (head[3], head[4]);
            if kind == 6 && flags == 0 {
                head[4] = 1;
                let pong = [&head[..], &payload].concat();
                if kept.write_all(&pong).await.is_err() {
                    return;
                }
            }
        }
    })
    .await
    .expect("an idle connection of HTTP/2 ends");
    eventually(BOUND, async || {
        metric(&gateway, "http_connections").await == 0.0
    })
    .await;
}

/// Longer than the time after which an idle connection is ended.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_under_way_keeps_its_connection() {
    let gateway = Gateway::embedded()
        .set("http.request_timeout_ms", "1500")
        .start()
        .await;
    for client in [
        reqwest::Client::new(),
        reqwest::Client::builder()
            .http2_prior_knowledge()
            .build()
            .unwrap(),
    ] {
        let one = serde_json::json!({"value": 1});
        let written = http::post_json(&gateway.url(RECORDS), &one).await;
        assert_eq!(written.status, 200, "{written:?}");
        let wait = client.get(gateway.url(&format!("{RECORDS}?from=latest&wait=4000")));
        let begun = Instant::now();
        let reply = http::send(wait).await;
        assert_eq!(reply.status, 200, "{reply:?}");
        assert!(begun.elapsed() >= Duration::from_millis(3500));
    }
}

/// A gateway that refuses one request a second of each address.
async fn strict() -> Gateway {
    Gateway::embedded()
        .with_tokens()
        .set("http.trusted_proxies", "127.0.0.1")
        .set("limits.refused_per_second", "1")
        .start()
        .await
}

async fn ask(gateway: &Gateway, path: &str, address: &str, token: &str) -> Reply {
    let mut request = client().get(gateway.url(path));
    request = request.header("x-forwarded-for", address);
    if !token.is_empty() {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    http::send(request).await
}

/// Asks until the answer is 429; every answer before it has this status.
async fn until_too_many(gateway: &Gateway, path: &str, address: &str, token: &str, status: u16) {
    for _ in 0..100 {
        let reply = ask(gateway, path, address, token).await;
        if reply.status == 429 {
            assert_eq!(reply.header("ratelimit-limit"), "1");
            assert_eq!(reply.header("retry-after"), "1");
            let message = reply.json()["message"].as_str().unwrap().to_owned();
            assert!(message.contains("limits.refused_per_second"), "{message}");
            return;
        }
        assert_eq!(reply.status, status, "{path}: {reply:?}");
    }
    panic!("100 refusals of {path}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_that_is_refused_too_often_is_not_listened_to() {
    let gateway = strict().await;
    let ann = token("ann", "consume:*");
    assert_eq!(
        ask(&gateway, "/topics", "192.0.2.9", &ann).await.status,
        200
    );
    let forged = sign(
        &claims("mallory", "admin:*"),
        b"another secret, of much the same length",
    );
    until_too_many(&gateway, "/topics", "192.0.2.1", &forged, 401).await;
    until_too_many(&gateway, "/topics", "192.0.2.2", "", 401).await;
    until_too_many(&gateway, "/nowhere", "192.0.2.3", "", 404).await;
    let none = token("bob", "openid");
    until_too_many(&gateway, "/topics/orders", "192.0.2.4", &none, 403).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_principal_that_was_let_in_before_is_served_when_its_address_is_refused() {
    let gateway = strict().await;
    let (ann, bob) = (token("ann", "consume:*"), token("bob", "consume:*"));
    assert_eq!(
        ask(&gateway, "/topics", "192.0.2.1", &ann).await.status,
        200
    );
    let topics = async |address: &str, token: &str| {
        let reply = ask(&gateway, "/topics", address, token).await;
        reply.status.as_u16()
    };
    // A slow machine may give a place back between the two questions.
    eventually(BOUND, async || {
        until_too_many(&gateway, "/topics", "192.0.2.1", "nonsense", 401).await;
        let fresh = token(&fastrand::u64(..).to_string(), "consume:*");
        topics("192.0.2.1", &fresh).await == 429
    })
    .await;
    for _ in 0..3 {
        until_too_many(&gateway, "/topics", "192.0.2.1", "nonsense", 401).await;
        assert_eq!(topics("192.0.2.1", &ann).await, 200);
        assert_eq!(ask(&gateway, "/", "192.0.2.1", "").await.status, 200);
        // Seen from elsewhere, it is remembered here too.
        assert_eq!(topics("192.0.2.2", &bob).await, 200);
        assert_eq!(topics("192.0.2.1", &bob).await, 200);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_to_a_client_that_repeats_refused_requests_are_delayed() {
    let gateway = Gateway::embedded().start().await;
    // Over HTTP/1 a client may open a second connection.
    let client = reqwest::Client::builder();
    let client = client
        .http2_prior_knowledge()
        .timeout(BOUND)
        .build()
        .unwrap();
    let post = async |body: &'static str| {
        let request = client.post(gateway.url(RECORDS));
        let request = request.header("content-type", "application/json");
        http::send(request.body(body)).await.status
    };
    for _ in 0..100 {
        assert_eq!(post("no JSON").await, 400);
    }
    let begun = Instant::now();
    for _ in 0..30 {
        assert_eq!(post("no JSON").await, 400);
    }
    let took = begun.elapsed();
    assert!(took >= Duration::from_millis(290), "{took:?}");
    assert_eq!(post("{\"value\":1}").await, 200);
}
