//! Tokens and issuers that are large or without end: a clear answer, in bounded time and memory.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::support::eventually;
use crate::support::gateway::Gateway;
use crate::support::http::{Reply, client, send};
use crate::support::tokens::{SECRET, claims, sign, signed_by_issuer, token};

async fn list(gateway: &Gateway, token: &str) -> Reply {
    let request = client().get(gateway.url("/topics"));
    send(request.header("authorization", format!("Bearer {token}"))).await
}

fn memory_kib(gateway: &Gateway) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", gateway.pid())).unwrap();
    let rss = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .unwrap();
    rss.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_of_any_size_has_a_clear_answer() {
    let gateway = Gateway::embedded()
        .with_tokens()
        .set("http.max_header_bytes", "1 MiB")
        .start()
        .await;
    let scopes = |count: usize| {
        let scopes: Vec<String> = (0..count).map(|n| format!("group:{n}")).collect();
        token("ann", &scopes.join(" "))
    };
    assert_eq!(list(&gateway, &scopes(1000)).await.status, 200);
    let many = list(&gateway, &scopes(1001)).await;
    assert_eq!(many.status, 401);
    assert!(many.text().contains("more than 1000 permissions"));
    let mut large = claims("ann", "consume:*");
    large["more"] = json!("x".repeat(700_000));
    for token in [sign(&large, SECRET.as_bytes()), "a".repeat(1_000_000)] {
        let reply = list(&gateway, &token).await;
        assert_eq!(reply.status, 401);
        assert!(reply.text().contains("larger than 16384 bytes"));
        assert!(reply.body.len() < 500 && reply.headers.len() < 20);
    }
    // With the default limit on a request's head, it does not get as far.
    let default = Gateway::embedded().start().await;
    assert_eq!(list(&default, &"a".repeat(1_000_000)).await.status, 431);
}

/// An issuer whose answers never end: a piece now and then, or as fast as they are taken.
async fn endless(piece: usize, pause: Duration) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            tokio::spawn(async move {
                let _ = socket.read(&mut [0; 4096]).await;
                let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
                let chunk = format!("{piece:x}\r\n{}\r\n", " ".repeat(piece));
                let mut next = head;
                while socket.write_all(next.as_bytes()).await.is_ok() {
                    next = &chunk;
                    tokio::time::sleep(pause).await;
                }
            });
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_issuer_whose_answer_never_ends_is_left_alone() {
    let slow = endless(1, Duration::from_millis(50)).await;
    let fast = endless(1 << 16, Duration::ZERO).await;
    for (issuer, why) in [(slow, "no answer within 5 s"), (fast, "larger than")] {
        let issuers = format!("[{{ jwks_url = \"http://{issuer}/jwks.json\" }}]");
        let gateway = Gateway::embedded()
            .set("auth.mode", "jwt")
            .set("auth.issuers", &issuers)
            .start()
            .await;
        let asked = Instant::now();
        let token = signed_by_issuer(&claims("ann", "consume:*"), "one");
        // Both wait for one and the same question.
        let (one, other) = tokio::join!(list(&gateway, &token), list(&gateway, &token));
        for reply in [one, other] {
            assert_eq!(reply.status, 503, "{}", reply.text());
            assert_eq!(reply.json()["retriable"], true);
        }
        assert!(
            asked.elapsed() < Duration::from_secs(40),
            "{:?}",
            asked.elapsed()
        );
        eventually(Duration::from_secs(60), async || {
            let log = gateway.stderr();
            log.contains(why) || log.contains("timed out")
        })
        .await;
        assert!(memory_kib(&gateway) < 150 * 1024);
    }
}
