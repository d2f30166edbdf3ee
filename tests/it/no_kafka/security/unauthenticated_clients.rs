//! Clients that nobody knows: what they send costs next to nothing, and takes nothing from those who
//! are known.

use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt, stream};
use reqwest::{Client, StatusCode};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;

use crate::support::eventually;
use crate::support::gateway::{Builder, Gateway};
use crate::support::http::{client, send};
use crate::support::metric;
use crate::support::tokens::token;
use crate::support::ws::at;

const BOUND: Duration = Duration::from_secs(60);
/// A body just under the default limit.
const BODY: usize = (8 << 20) - 1;
/// More memory than this for all of an attack is too much: once it was gigabytes.
const MOST: usize = 64 << 20;

fn jwt() -> Builder {
    Gateway::embedded().with_tokens()
}

/// The most memory that the gateway has had, in bytes.
fn peak_bytes(gateway: &Gateway) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{}/status", gateway.pid())).unwrap();
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"));
    let kib = line.unwrap().trim().trim_end_matches(" kB");
    kib.parse::<usize>().unwrap() << 10
}

fn assert_cheap(gateway: &Gateway, before: usize, what: &str) {
    let growth = peak_bytes(gateway).saturating_sub(before);
    eprintln!("{what}: {} KiB more of {} KiB", growth >> 10, before >> 10);
    assert!(growth < MOST, "{what}: {growth} bytes more");
}

/// A body that comes as far as `length` and never to its end.
fn unfinished(length: usize) -> reqwest::Body {
    const PIECE: usize = 64 << 10;
    let pieces = length.div_ceil(PIECE);
    let piece = Bytes::from(vec![b' '; PIECE]);
    let sent = stream::iter((0..pieces).map(move |n| {
        let left = length - n * PIECE;
        Ok::<_, std::io::Error>(piece.slice(..left.min(PIECE)))
    }));
    reqwest::Body::wrap_stream(sent.chain(stream::pending()))
}

/// The answers to so many unfinished bodies on the open route; `None` where the connection ended first.
async fn post_unfinished(
    gateway: &Gateway,
    clients: &[Client],
    each: usize,
) -> Vec<Option<StatusCode>> {
    let mut requests = JoinSet::new();
    for client in clients {
        for _ in 0..each {
            let request = client
                .post(gateway.url("/"))
                .header("content-type", "application/json")
                .body(unfinished(BODY));
            requests.spawn(async move { request.send().await.ok().map(|reply| reply.status()) });
        }
    }
    timeout(BOUND, requests.join_all())
        .await
        .expect("nobody waits for the end of a stranger's body")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_without_valid_credentials_take_no_memory() {
    let gateway = jwt().start().await;
    let before = peak_bytes(&gateway);
    let one: Vec<_> = (0..40).map(|_| client()).collect();
    let two = || Client::builder().http2_prior_knowledge().build().unwrap();
    let two = [two(), two()];
    for (what, clients, each) in [("HTTP/1", &one[..], 1), ("HTTP/2", &two[..], 150)] {
        let answers = post_unfinished(&gateway, clients, each).await;
        assert_eq!(answers.len(), clients.len() * each);
        // One that still writes when it is refused may not see why.
        let told = answers.iter().flatten().collect::<Vec<_>>();
        assert!(told.iter().all(|status| **status == 413), "{told:?}");
        assert_cheap(&gateway, before, what);
    }
    // What is short is read.
    for (body, status) in [("{}", 200), ("", 200), ("[]", 400), (&" ".repeat(600), 413)] {
        let request = client().post(gateway.url("/")).body(body.to_owned());
        let reply = send(request.header("content-type", "application/json")).await;
        assert_eq!(reply.status, status, "{body:?}");
    }
}

/// A connection whose client has said nothing but the handshake.
async fn unknown(gateway: &Gateway) -> TcpStream {
    let mut stream = TcpStream::connect(gateway.address()).await.unwrap();
    let head = format!(
        "GET /ws HTTP/1.1\r\nHost: {}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        gateway.address()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let byte = timeout(BOUND, stream.read_u8()).await.expect("an answer");
        head.push(byte.unwrap());
    }
    assert!(head.starts_with(b"HTTP/1.1 101"), "{head:?}");
    stream
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_frames_before_authentication_take_no_memory() {
    let gateway = jwt()
        .set("websocket.hello_timeout_ms", "60000")
        // A quarter of them is for one address.
        .set("limits.unknown_sessions", "1000")
        .start()
        .await;
    let before = peak_bytes(&gateway);
    let mut attackers = JoinSet::new();
    for _ in 0..150 {
        let mut stream = unknown(&gateway).await;
        attackers.spawn(async move {
            // A text of 2 MiB, of which the last byte does not come.
            let length: u64 = 2 << 20;
            let mut frame = vec![0x81, 0xff];
            frame.extend(length.to_be_bytes());
            frame.extend([0; 4]);
            frame.resize(frame.len() + (2 << 20) - 1, b' ');
            let _ = stream.write_all(&frame).await;
            let mut said = Vec::new();
            let _ = timeout(BOUND, stream.read_to_end(&mut said))
                .await
                .expect("it is told that this is too much");
            // What was still to be written may have reset the connection.
            said.is_empty() || said.windows(2).any(|code| code == 1009_u16.to_be_bytes())
        });
    }
    assert!(attackers.join_all().await.into_iter().all(|told| told));
    assert_cheap(&gateway, before, "WebSocket");

    // Whoever is known sends what it likes, also when it has said so in its first frame.
    let mut ann = at(&gateway, "/ws").connect().await;
    ann.send(json!({"type": "hello", "token": token("ann", "consume:*")}))
        .await;
    ann.until("welcome").await;
    ann.send(json!({"type": "auth", "id": 1, "token": "x".repeat(1 << 20)}))
        .await;
    let closed = ann.closed().await;
    assert_eq!(
        closed.code,
        Some(4501),
        "it was read, and is no token: {closed:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unauthenticated_sessions_take_no_place_of_authenticated_ones() {
    let gateway = jwt()
        .set("limits.unknown_sessions", "3")
        .set("limits.group_sessions", "2")
        .set("websocket.hello_timeout_ms", "60000")
        .start()
        .await;
    let mut strangers = Vec::new();
    for _ in 0..3 {
        strangers.push(at(&gateway, "/ws").connect().await);
    }
    let (status, body, headers) = at(&gateway, "/ws").refused().await;
    assert_eq!(status, 503);
    assert!(
        body["message"]
            .as_str()
            .unwrap()
            .contains("limits.unknown_sessions")
    );
    assert!(headers.contains_key("retry-after"));
    // A good token has a place all the same.
    let good = token("ann", "consume:*");
    let mut ann = at(&gateway, "/ws").token(&good).connect().await;
    ann.until("welcome").await;
    // One of them says who it is, and makes room for another.
    let mut bob = strangers.pop().unwrap();
    bob.send(json!({"type": "hello", "token": token("bob", "consume:*")}))
        .await;
    bob.until("welcome").await;
    strangers.push(at(&gateway, "/ws").connect().await);
    let mut late = strangers.pop().unwrap();
    late.send(json!({"type": "hello", "token": token("eve", "consume:*")}))
        .await;
    let closed = late.closed().await;
    let goodbye = closed.goodbye.unwrap();
    assert!(
        goodbye["message"]
            .as_str()
            .unwrap()
            .contains("limits.group_sessions"),
        "{goodbye}"
    );
    bob.bye().await;
    ann.bye().await;
    for stranger in strangers {
        stranger.drop_dead();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_of_one_address_leave_places_to_those_of_others() {
    let gateway = jwt()
        .set("http.trusted_proxies", "127.0.0.1")
        .set("limits.unknown_sessions", "40")
        .set("websocket.hello_timeout_ms", "600000")
        .start()
        .await;
    let from = |address: &str| at(&gateway, "/ws").header("x-forwarded-for", address);
    let mut strangers = Vec::new();
    for _ in 0..10 {
        strangers.push(from("203.0.113.1").connect().await);
    }
    let (status, body, headers) = from("203.0.113.1").refused().await;
    assert_eq!(status, 429, "{body}");
    let message = body["message"].as_str().unwrap();
    assert!(message.contains("limits.unknown_sessions"), "{message}");
    assert!(headers.contains_key("retry-after"));
    strangers.push(from("203.0.113.2").connect().await);
    // Whoever shows a token there is no stranger, and who says in the first frame who it is no longer.
    let good = token("ann", "consume:*");
    let mut ann = from("203.0.113.1").token(&good).connect().await;
    ann.until("welcome").await;
    strangers[0]
        .send(json!({"type": "hello", "token": token("bob", "consume:*")}))
        .await;
    strangers[0].until("welcome").await;
    strangers.push(from("203.0.113.1").connect().await);
    ann.bye().await;
    for stranger in strangers {
        stranger.drop_dead();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_bodies_together_have_a_bound() {
    let gateway = jwt().set("limits.body_total_bytes", "8 MiB").start().await;
    let good = token("ann", "produce:*");
    let post = |body: reqwest::Body| {
        client()
            .post(gateway.url("/topics/orders/records"))
            .bearer_auth(&good)
            .header("content-type", "application/json")
            .body(body)
    };
    let held = tokio::spawn(post(unfinished(6 << 20)).send());
    let large = || send(post(vec![b' '; 6 << 20].into()));
    // What is held counts as soon as it has come. Before that the large one might take its room.
    let kept = async || metric(&gateway, "http_body_bytes").await;
    eventually(BOUND, async || kept().await >= f64::from(6 << 20)).await;
    let refused = large().await;
    assert_eq!(refused.status, 503, "{}", refused.text());
    assert!(refused.header("retry-after").parse::<u64>().unwrap() > 0);
    let message = refused.json()["message"].as_str().unwrap().to_owned();
    assert!(message.contains("limits.body_total_bytes"), "{message}");
    // A small one has room beside it, and the large one when that is gone.
    let small = send(post("{\"value\":1}".into())).await;
    assert_eq!(small.status, 200, "{}", small.text());
    held.abort();
    eventually(BOUND, async || large().await.status == 400).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_principal_leaves_half_of_the_bodies_to_others() {
    let gateway = jwt()
        .set("limits.body_total_bytes", "16 MiB")
        .set("http.max_body_bytes", "6 MiB")
        .start()
        .await;
    let post = |name: &str, kind: &str, body: reqwest::Body| {
        client()
            .post(gateway.url("/topics/orders/records"))
            .bearer_auth(token(name, "produce:*"))
            .header("content-type", kind)
            .body(body)
    };
    let json = "application/json";
    let held = tokio::spawn(post("ann", json, unfinished(6 << 20)).send());
    let kept = async || metric(&gateway, "http_body_bytes").await;
    eventually(BOUND, async || kept().await >= f64::from(6 << 20)).await;
    let large = |name| send(post(name, json, vec![b' '; 6 << 20].into()));
    let refused = large("ann").await;
    assert_eq!(refused.status, 429, "{}", refused.text());
    assert!(refused.header("retry-after").parse::<u64>().unwrap() > 0);
    let message = refused.json()["message"].as_str().unwrap().to_owned();
    assert!(message.contains("limits.body_total_bytes"), "{message}");
    // Others do not notice: spaces are read, and are no JSON.
    let other = large("bob").await;
    assert_eq!(other.status, 400, "{}", other.text());
    let small = send(post("ann", json, "{\"value\":1}".into())).await;
    assert_eq!(small.status, 200, "{}", small.text());
    held.abort();
    eventually(BOUND, async || large("ann").await.status == 400).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn credentials_are_not_checked_where_authentication_is_off() {
    let open = Gateway::embedded().start().await;
    let asks = jwt().start().await;
    for (scheme, credentials) in [
        ("Basic", "dXNlcjpwdw=="),
        ("Bearer", "nonsense"),
        ("Digest", "x"),
    ] {
        let header = format!("{scheme} {credentials}");
        let ask = |gateway: &Gateway| {
            let request = client().get(gateway.url("/topics?access_token=x"));
            send(request.header("authorization", &header))
        };
        let reply = ask(&open).await;
        assert_eq!(reply.status, 200, "{scheme}: {}", reply.text());
        let mut session = at(&open, "/ws")
            .header("authorization", &header)
            .connect()
            .await;
        session.until("welcome").await;
        session.bye().await;
        let reply = ask(&asks).await;
        assert_eq!(reply.status, 401, "{scheme}: {}", reply.text());
        if scheme != "Bearer" {
            assert!(
                reply.text().contains("Authorization: Bearer"),
                "{}",
                reply.text()
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_binary_frame_of_a_stranger_is_no_hello() {
    let gateway = jwt().start().await;
    let mut stranger = at(&gateway, "/ws").connect().await;
    stranger
        .send_message(Message::Binary(Bytes::from_static(b"x")))
        .await;
    assert_eq!(stranger.closed().await.code, Some(1003));
}
