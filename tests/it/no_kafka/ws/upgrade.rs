//! What stands before a WebSocket session: the handshake, credentials, limits. All that can be known
//! before the upgrade is an HTTP answer in our error shape; the rest has close codes.

use std::time::Duration;

use futures::StreamExt;
use reqwest::header::HeaderMap;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;

use crate::support::certs::Authority;
use crate::support::gateway::{Builder, Gateway};
use crate::support::http::{client, get, send};
use crate::support::tokens::{SECRET, claims, seconds_from_now, sign, token};
use crate::support::ws::{Client, at};
use crate::support::{eventually, metric};

const PAGE: &str = "https://app.example";
const BOUND: Duration = Duration::from_secs(60);
const PROTOCOL: &str = "sec-websocket-protocol";

fn jwt() -> Builder {
    Gateway::embedded()
        .with_tokens()
        .set("http.cors.origins", PAGE)
}

fn expired() -> String {
    let mut claims = claims("ann", "consume:*");
    claims["exp"] = seconds_from_now(-3_600).into();
    sign(&claims, SECRET.as_bytes())
}

/// Sees that an answer has our error shape and gives back its message.
fn message((status, body, headers): (u16, Value, HeaderMap), expected: u16) -> String {
    assert_eq!(status, expected, "{body}");
    let id = headers["x-request-id"].to_str().unwrap();
    assert_eq!(body["request_id"], id, "{body}");
    assert!(body["error_code"].is_u64(), "{body}");
    body["message"].as_str().unwrap().to_owned()
}

/// A handshake as it goes over the wire, with these lines in the place of its own.
fn handshake(path: &str, instead: &[(&str, Option<&str>)]) -> String {
    let mut head = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n");
    let own = [
        ("connection", "keep-alive, Upgrade"),
        ("upgrade", "WebSocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];
    for (name, value) in own {
        let value = match instead.iter().find(|(other, _)| *other == name) {
            Some((_, value)) => *value,
            None => Some(value),
        };
        if let Some(value) = value {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
    }
    head + "\r\n"
}

/// The whole answer to a handshake; where it is an upgrade, with the first frame.
async fn shake(gateway: &Gateway, instead: &[(&str, Option<&str>)]) -> String {
    let mut stream = TcpStream::connect(gateway.address()).await.unwrap();
    let request = handshake("/ws", instead);
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&answer).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length: "));
            let is_whole = match length {
                Some(length) => body.len() >= length.parse().unwrap(),
                None => body.contains(r#""type":"welcome""#),
            };
            if is_whole {
                return text;
            }
        }
        let read = timeout(BOUND, stream.read_buf(&mut answer)).await;
        assert_ne!(read.unwrap().unwrap(), 0, "{text}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_to_ws_that_is_no_websocket_handshake_is_refused_with_426() {
    let gateway = Gateway::embedded().start().await;
    let plain = get(&gateway.url("/ws?topics=orders")).await;
    assert_eq!(plain.status, 426);
    assert_eq!(plain.header("upgrade"), "websocket");
    assert_eq!(plain.json()["request_id"], plain.header("x-request-id"));
    let two = client_of_http2().get(gateway.url("/ws"));
    assert_eq!(send(two).await.status, 426);
    let posted = send(client().post(gateway.url("/ws"))).await;
    assert_eq!(posted.status, 405);

    // As RFC 6455 has it, section 1.3.
    let good = shake(&gateway, &[]).await;
    assert!(good.starts_with("HTTP/1.1 101 "), "{good}");
    let accept = "sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
    assert!(
        good.to_lowercase().contains(&accept.to_lowercase()),
        "{good}"
    );
    assert!(good.contains("x-request-id: ") && good.contains(r#""type":"welcome""#));

    for (header, value, expected) in [
        ("upgrade", None, "426"),
        ("upgrade", Some("h2c"), "426"),
        ("connection", Some("close"), "426"),
        ("sec-websocket-version", None, "400"),
        ("sec-websocket-version", Some("8"), "400"),
        ("sec-websocket-key", None, "400"),
        ("sec-websocket-key", Some("short"), "400"),
    ] {
        let answer = shake(&gateway, &[(header, value)]).await;
        let what = format!("{header} {value:?}: {answer}");
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {expected}")),
            "{what}"
        );
        assert!(answer.contains(r#""request_id":""#), "{what}");
        if expected == "400" {
            assert!(
                answer
                    .to_lowercase()
                    .contains(&format!(r#""field":"{header}""#)),
                "{what}"
            );
        }
        if header == "sec-websocket-version" {
            assert!(answer.contains("sec-websocket-version: 13"), "{what}");
        }
    }

    for (query, named) in [
        ("topic=orders", "topic"),
        ("topics=a&topics=b", "topics"),
        ("topics=%ff", "topics"),
    ] {
        let refused = at(&gateway, &format!("/ws?{query}")).refused().await;
        let message = message(refused, 400);
        assert!(message.contains(named), "{query}: {message}");
    }
    let open = at(&gateway, "/ws").header("origin", "https://evil.example");
    message(open.refused().await, 403);
    eventually(BOUND, async || {
        metric(&gateway, "websocket_sessions").await == 0.0
    })
    .await;
}

fn client_of_http2() -> reqwest::Client {
    reqwest::Client::builder()
        .http2_prior_knowledge()
        .build()
        .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_upgrade_agrees_only_to_a_subprotocol_that_the_client_offers() {
    let gateway = jwt().start().await;
    let good = token("ann", "consume:*");
    let bearer = format!("tidegate.bearer.{good}");
    let unknown = at(&gateway, "/ws").header(PROTOCOL, "mqtt, graphql-ws");
    let message = message(unknown.refused().await, 400);
    assert!(
        message.contains("tidegate.v1") && !message.contains("mqtt"),
        "{message}"
    );
    // A token alone says nothing of how to talk.
    let alone = at(&gateway, "/ws").header(PROTOCOL, &bearer);
    let (status, body, _) = alone.refused().await;
    assert_eq!(status, 400);
    assert!(!body.to_string().contains(&good));

    // (tungstenite's client refuses an answer without the subprotocol that it has offered.)
    let offered = at(&gateway, "/ws").header(PROTOCOL, "mqtt, tidegate.v1");
    let ours = offered.token(&good).connect().await;
    assert_eq!(ours.protocol.as_deref(), Some("tidegate.v1"));
    let none = at(&gateway, "/ws").token(&good).connect().await;
    assert_eq!(none.protocol, None);
    for offer in [
        format!("tidegate.v1, {bearer}"),
        format!("{bearer},tidegate.v1"),
    ] {
        let mut shown = at(&gateway, "/ws").header(PROTOCOL, &offer).connect().await;
        assert_eq!(shown.protocol.as_deref(), Some("tidegate.v1"));
        assert_eq!(shown.until("welcome").await["principal"], "ann");
        shown.bye().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn credentials_of_the_upgrade_must_be_good() {
    let gateway = jwt().start().await;
    let forged = sign(
        &claims("ann", "consume:*"),
        b"another secret, of much the same length",
    );
    for bad in [expired(), forged, "nonsense".to_owned()] {
        message(at(&gateway, "/ws").token(&bad).refused().await, 401);
        message(
            at(&gateway, &format!("/ws?ticket={bad}")).refused().await,
            401,
        );
        let offer = format!("tidegate.v1, tidegate.bearer.{bad}");
        let shown = at(&gateway, "/ws").header(PROTOCOL, &offer);
        let (status, body, headers) = shown.refused().await;
        assert_eq!(status, 401);
        assert!(headers.contains_key("www-authenticate"));
        assert!(!body.to_string().contains(&bad), "{body}");
    }
    let basic = at(&gateway, "/ws").header("authorization", "Basic eA==");
    message(basic.refused().await, 401);
    let good = token("ann", "consume:*");
    let foreign = at(&gateway, "/ws").token(&good);
    message(
        foreign
            .header("origin", "https://evil.example")
            .refused()
            .await,
        403,
    );
    for origin in [PAGE.to_owned(), gateway.url("")] {
        let page = at(&gateway, "/ws").token(&good).header("origin", &origin);
        let mut page = page.connect().await;
        assert_eq!(page.until("welcome").await["principal"], "ann");
        page.bye().await;
    }
    // Not allowed, so not looked at: nothing was shown.
    let mut ignored = at(&gateway, &format!("/ws?access_token={good}"))
        .connect()
        .await;
    ignored.send(json!({"type": "ping"})).await;
    assert_eq!(ignored.closed().await.code, Some(4500));
    let allows = jwt().set("auth.allow_query_token", "true").start().await;
    let mut shown = at(&allows, &format!("/ws?access_token={good}"))
        .connect()
        .await;
    assert_eq!(shown.until("welcome").await["principal"], "ann");
    shown.bye().await;
    let bad = at(&allows, "/ws?access_token=nonsense").refused().await;
    message(bad, 401);
}

async fn ticket(gateway: &Gateway, kind: &str, origin: Option<&str>) -> Value {
    let mut request = client()
        .post(gateway.url("/tickets"))
        .json(&json!({"kind": kind}))
        .bearer_auth(token("ann", "consume:* group:*"));
    if let Some(origin) = origin {
        request = request.header("origin", origin);
    }
    let reply = send(request).await;
    assert_eq!(reply.status, 201, "{}", reply.text());
    reply.json()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ticket_opens_one_socket_of_its_page() {
    let gateway = jwt().start().await;
    let before = seconds_from_now(0) * 1_000;
    let minted = ticket(&gateway, "ws", None).await;
    let after = seconds_from_now(1) * 1_000;
    let expires = minted["expires_at"].as_i64().unwrap();
    assert!(
        (before + 25_000..=after + 30_000).contains(&expires),
        "{minted}"
    );
    assert_eq!(minted["expires_in_ms"], 30_000);
    assert_eq!(minted.as_object().unwrap().len(), 3);
    let path = |ticket: &Value| format!("/ws?ticket={}", ticket["ticket"].as_str().unwrap());

    let mut first = at(&gateway, &path(&minted)).connect().await;
    assert_eq!(first.until("welcome").await["principal"], "ann");
    let again = message(at(&gateway, &path(&minted)).refused().await, 401);
    assert!(again.contains("used"), "{again}");
    first.bye().await;
    let other = ticket(&gateway, "sse", None).await;
    let other = message(at(&gateway, &path(&other)).refused().await, 401);
    assert!(other.contains("another kind"), "{other}");

    let of_page = ticket(&gateway, "ws", Some(PAGE)).await;
    let own = gateway.url("");
    for origin in [None, Some(own.as_str())] {
        let mut stolen = at(&gateway, &path(&of_page));
        if let Some(origin) = origin {
            stolen = stolen.header("origin", origin);
        }
        let stolen = message(stolen.refused().await, 401);
        assert!(stolen.contains("origin"), "{stolen}");
    }
    let page = at(&gateway, &path(&of_page)).header("origin", PAGE);
    let mut page = page.connect().await;
    assert_eq!(page.until("welcome").await["principal"], "ann");
    page.bye().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: a ticket is good for 30 s"]
async fn a_ticket_expires_within_30_s() {
    let gateway = jwt().start().await;
    let minted = ticket(&gateway, "ws", None).await;
    let expires = minted["expires_at"].as_i64().unwrap();
    eventually(2 * BOUND, async || seconds_from_now(-1) * 1_000 > expires).await;
    let path = format!("/ws?ticket={}", minted["ticket"].as_str().unwrap());
    let late = message(at(&gateway, &path).refused().await, 401);
    assert!(late.contains("expired"), "{late}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_does_not_last_is_not_warned_of_at_once() {
    let gateway = jwt().start().await;
    let mut claims = claims("ann", "consume:*");
    claims["exp"] = seconds_from_now(30).into();
    let short = sign(&claims, SECRET.as_bytes());
    let mut session = at(&gateway, "/ws").token(&short).connect().await;
    session.until("welcome").await;
    // The obvious answer to a warning is to show what one has: it brings no other one about.
    for id in 0..20 {
        session
            .send(json!({"type": "auth", "id": id, "token": short}))
            .await;
        assert_eq!(session.next().await["type"], "ok");
    }
    session.silent(Duration::from_millis(500)).await;
    session.bye().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_without_credentials_must_send_hello_in_time() {
    let gateway = jwt().set("websocket.hello_timeout_ms", "60000");
    let gateway = gateway.start().await;
    let hasty = jwt().set("websocket.hello_timeout_ms", "500").start().await;
    let open = async || at(&gateway, "/ws").connect().await;
    let mut welcome = open().await;
    let hello = json!({
        "type": "hello", "id": 7, "token": token("ann", "consume:*"), "heartbeat_ms": 1,
        "client": "test/1",
    });
    let welcomed = welcome.ask(hello).await;
    assert_eq!(
        (&welcomed["principal"], &welcomed["heartbeat_ms"]),
        (&json!("ann"), &json!(5_000))
    );
    let late = welcome.ask(json!({"type": "hello", "id": 8})).await;
    assert_eq!(late["code"], "unexpected_hello");
    welcome.bye().await;

    let cases = [
        (Some(json!({"type": "hello", "token": "nonsense"})), 4501),
        (Some(json!({"type": "hello", "token": expired()})), 4501),
        (Some(json!({"type": "hello"})), 4501),
        (Some(json!({"type": "ping"})), 4500),
        (
            Some(json!({"type": "produce", "id": 1, "topic": "t", "records": [{"value": 1}]})),
            4500,
        ),
        (None, 4507),
    ];
    for (frame, code) in cases {
        let mut client = match &frame {
            Some(_) => open().await,
            None => at(&hasty, "/ws").connect().await,
        };
        if let Some(frame) = &frame {
            client.send(frame.clone()).await;
        }
        let closed = client.closed().await;
        assert_eq!(closed.code, Some(code), "{frame:?}");
        let goodbye = closed.goodbye.unwrap();
        assert_eq!(
            (&goodbye["code"], &goodbye["name"]),
            (&json!(code), &json!(closed.reason))
        );
        assert!(!goodbye.to_string().contains(&expired()));
    }
    let mut nothing = open().await;
    nothing.send_text("}").await;
    assert_eq!(nothing.closed().await.code, Some(4500));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_certificate_says_who_it_is() {
    let authority = Authority::new();
    let clients = Authority::named("clients");
    let server = authority.server("a");
    let gateway = jwt()
        .file("cert.pem", &server.cert)
        .file("key.pem", &server.key)
        .file("clients.pem", &clients.pem())
        .set("tls.cert", "cert.pem")
        .set("tls.key", "key.pem")
        .set("tls.client_ca", "clients.pem")
        .start()
        .await;
    let shown = clients.client("billing");
    let tls = authority.tls().identity(&shown);
    let mut stream = tls.connect(gateway.address()).await.unwrap();
    stream
        .write_all(handshake("/ws", &[]).as_bytes())
        .await
        .unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    assert!(head.starts_with(b"HTTP/1.1 101 "));
    let mut socket = WebSocketStream::from_raw_socket(stream, Role::Client, None).await;
    let Some(Ok(Message::Text(welcome))) = socket.next().await else {
        panic!("no welcome");
    };
    let welcome: Value = serde_json::from_str(&welcome).unwrap();
    assert!(
        welcome["principal"].as_str().unwrap().contains("billing"),
        "{welcome}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn places_are_bounded_and_come_back() {
    let gateway = jwt()
        .set("limits.sessions_per_principal", "2")
        .set("limits.group_sessions", "3")
        .start()
        .await;
    let ann = token("ann", "consume:*");
    let bob = token("bob", "consume:*");
    let open = async |token: &str| {
        let mut client = at(&gateway, "/ws").token(token).connect().await;
        client.until("welcome").await;
        client
    };
    let (one, two) = (open(&ann).await, open(&ann).await);
    let refused = at(&gateway, "/ws").token(&ann).refused().await;
    assert!(refused.2.contains_key("retry-after"));
    assert!(message(refused, 429).contains("sessions_per_principal"));
    let three = open(&bob).await;
    eventually(BOUND, async || {
        metric(&gateway, "websocket_sessions").await == 3.0
    })
    .await;
    let refused = at(&gateway, "/ws").token(&bob).refused().await;
    assert!(refused.2.contains_key("retry-after"));
    assert!(message(refused, 503).contains("group_sessions"));
    two.bye().await;
    // One whose name is found out only after the upgrade.
    let free = async || {
        eventually(BOUND, async || {
            metric(&gateway, "websocket_sessions").await == 2.0
        })
        .await;
    };
    free().await;
    let two = open(&ann).await;
    three.drop_dead();
    free().await;
    let mut late = at(&gateway, "/ws").connect().await;
    late.send(json!({"type": "hello", "token": ann})).await;
    let closed = late.closed().await;
    assert_eq!(
        (closed.code, closed.reason.as_str()),
        (Some(4508), "limit_exceeded")
    );
    one.bye().await;
    two.bye().await;
    eventually(BOUND, async || {
        metric(&gateway, "websocket_sessions").await == 0.0
    })
    .await;
    eventually(BOUND, async || {
        metric(&gateway, "websocket_closes_total").await == 5.0
    })
    .await;
}

/// A connection that had begun when the gateway was told to stop is answered; there are no new ones.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_that_stops_lets_nobody_in() {
    let gateway = Gateway::embedded().start().await;
    let mut kept = Client::welcomed(&gateway).await;
    let request = handshake("/ws", &[]);
    let (first, rest) = request.split_at(40);
    let mut begun = TcpStream::connect(gateway.address()).await.unwrap();
    begun.write_all(first.as_bytes()).await.unwrap();
    // It has been looked at once some later ones are answered.
    for _ in 0..10 {
        get(&gateway.url("/")).await;
    }
    gateway.ask_to_end();
    let drain = kept.until("drain").await;
    assert!(drain["reconnect_after_ms"].is_u64());
    begun.write_all(rest.as_bytes()).await.unwrap();
    let mut answer = String::new();
    begun.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    assert!(
        answer.contains("retry-after: ") && answer.contains("about to stop"),
        "{answer}"
    );
    eventually(BOUND, async || {
        TcpStream::connect(gateway.address()).await.is_err()
    })
    .await;
    assert_eq!(kept.closed().await.code, Some(1012));
    assert!(gateway.ended().await.status.success());
}
