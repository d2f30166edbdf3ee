//! Roles, keys and the ticket key that are read again while the gateway runs.

use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt, stream};
use reqwest::{Body, Method, RequestBuilder, Response};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::support::eventually;
use crate::support::gateway::{Builder, Gateway};
use crate::support::http::{Reply, client, post_json, send};
use crate::support::tokens::{SECRET, claims, clerk, settings_of_clerk, sign, token};
use crate::support::ws;

/// The gateway looks at its files every two seconds; a busy machine takes its time.
const BOUND: Duration = Duration::from_secs(60);

/// Longer than any test.
const PINGS: &str = "600000";

const OTHER_SECRET: &str = "another shared secret, long enough for HS256 as well";

/// Settings in which the role `clerk` has these permissions, with other lines at the top.
fn settings(top: &str, clerk: &str) -> String {
    settings_of_clerk(top, r#"ticket_key_file = "ticket""#, clerk)
}

fn builder() -> Builder {
    Gateway::embedded()
        .file("tidegate.toml", &settings("", r#""produce:orders""#))
        .file("secret", SECRET)
        .file("ticket", "3c6e0b8a9c15224a8228b9a98ca1531d1e47c6d29c7b5a04")
        // A session that a test does not look at answers no pings.
        .set("websocket.ping_interval_ms", PINGS)
}

async fn read(gateway: &Gateway, token: &str) -> Reply {
    send(
        client()
            .get(gateway.url("/topics/orders/records"))
            .bearer_auth(token),
    )
    .await
}

async fn write(gateway: &Gateway, token: &str) -> Reply {
    let post = client().post(gateway.url("/topics/orders/records"));
    send(post.bearer_auth(token).json(&json!({"value": 1}))).await
}

async fn reads(gateway: &Gateway, token: &str, status: u16) {
    eventually(BOUND, async || read(gateway, token).await.status == status).await;
}

async fn writes(gateway: &Gateway, token: &str, status: u16) {
    eventually(BOUND, async || write(gateway, token).await.status == status).await;
}

async fn logs(gateway: &Gateway, text: &str) {
    eventually(BOUND, async || gateway.stderr().contains(text)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_role_gains_and_loses_permissions_by_sighup_also_in_sessions_that_are_open() {
    let gateway = builder().start().await;
    let clerk = clerk();
    writes(&gateway, &clerk, 200).await;
    reads(&gateway, &clerk, 403).await;
    let mut session = ws::at(&gateway, "/ws").token(&clerk).connect().await;
    session.until("welcome").await;
    // The answer to an id is kept, so each has its own.
    let produce = |id: u64| json!({"type": "produce", "id": id, "topic": "orders", "records": [{"value": 1}]});
    assert_eq!(session.ask(produce(1)).await["type"], "produced");

    gateway.replace_file("tidegate.toml", &settings("", r#""consume:orders""#));
    gateway.reload();
    reads(&gateway, &clerk, 200).await;
    writes(&gateway, &clerk, 403).await;
    let refused = session.ask(produce(2)).await;
    assert_eq!(refused["type"], "error", "{refused}");
    assert_eq!(refused["code"], "forbidden", "{refused}");

    // The file is noticed without a signal, too.
    let both = r#""consume:orders", "produce:orders""#;
    gateway.replace_file("tidegate.toml", &settings("", both));
    writes(&gateway, &clerk, 200).await;
    assert_eq!(session.ask(produce(3)).await["type"], "produced");
    session.bye().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settings_that_are_broken_change_nothing_and_are_told_once() {
    let gateway = builder().start().await;
    let clerk = clerk();
    writes(&gateway, &clerk, 200).await;
    let broken = settings("", r#""consume:orders", "fly:orders""#);
    gateway.replace_file("tidegate.toml", &broken);
    logs(&gateway, "changed settings or keys cannot be used").await;
    logs(&gateway, "auth.roles.clerk").await;
    assert_eq!(write(&gateway, &clerk).await.status, 200);
    assert_eq!(read(&gateway, &clerk).await.status, 403);
    let told = || {
        let stderr = gateway.stderr();
        stderr
            .matches("changed settings or keys cannot be used")
            .count()
    };
    // A file with a key is not taken either, until all is well; it is told of again by whoever asks.
    gateway.reload();
    eventually(BOUND, async || told() >= 2).await;
    gateway.replace_file("tidegate.toml", &settings("", r#""consume:orders""#));
    reads(&gateway, &clerk, 200).await;
    assert_eq!(told(), 2, "{}", gateway.stderr());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_needs_a_restart_is_named_and_the_rest_holds() {
    let gateway = builder().start().await;
    let clerk = clerk();
    writes(&gateway, &clerk, 200).await;
    let text = settings(
        "advertised_url = \"http://gw.example\"",
        r#""consume:orders""#,
    );
    gateway.replace_file("tidegate.toml", &text);
    gateway.reload();
    reads(&gateway, &clerk, 200).await;
    logs(&gateway, "hold only after a restart").await;
    logs(&gateway, "advertised_url").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replaced_secret_takes_the_place_of_the_one_before() {
    let gateway = builder().start().await;
    let old = token("ann", "produce:orders");
    let new = sign(&claims("ann", "produce:orders"), OTHER_SECRET.as_bytes());
    writes(&gateway, &old, 200).await;
    assert_eq!(write(&gateway, &new).await.status, 401);
    // Too short for a secret: the one before stays.
    gateway.replace_file("secret", "short");
    logs(&gateway, "settings or keys cannot be used").await;
    assert_eq!(write(&gateway, &old).await.status, 200);
    gateway.replace_file("secret", OTHER_SECRET);
    writes(&gateway, &new, 200).await;
    writes(&gateway, &old, 401).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tickets_of_a_replaced_key_are_taken_until_they_expire() {
    let gateway = builder().start().await;
    writes(&gateway, &clerk(), 200).await;
    let reader = token("ann", "consume:orders");
    let mint = async || {
        let wish = client().post(gateway.url("/tickets")).bearer_auth(&reader);
        let reply = send(wish.json(&json!({"kind": "sse"}))).await;
        assert_eq!(reply.status, 201, "{}", reply.text());
        reply.json()["ticket"].as_str().unwrap().to_owned()
    };
    let shown = async |ticket: &str| {
        let url = gateway.url(&format!("/topics/orders/records?ticket={ticket}"));
        send(client().get(url)).await.status
    };
    let old = mint().await;
    assert_eq!(shown(&old).await, 200);
    gateway.replace_file(
        "ticket",
        "a04e1f2ab8a6e3d9b703c6e0b8a9c15224a8228b9a98ca1531",
    );
    logs(&gateway, "the ticket key was replaced").await;
    assert_eq!(shown(&old).await, 200);
    assert_eq!(shown(&mint().await).await, 200);
    let reply = post_json(&gateway.url("/tickets?ticket=nonsense"), &json!({})).await;
    assert_eq!(reply.status, 401);
}

/// What the role of the tests has while all of it is open.
const ALL: &str = r#""consume:orders", "produce:orders", "group:web", "group:g""#;

/// A gateway with the role, a token of it, and a record in the topic.
async fn with_record() -> (Gateway, String) {
    let gateway = builder()
        .file("tidegate.toml", &settings("", ALL))
        .set("rest.consumer_request_timeout_ms", "600000")
        .start()
        .await;
    let clerk = clerk();
    let post = client().post(gateway.url("/topics/orders/records"));
    let post = post.json(&json!({"value": 1, "partition": 0}));
    let written = send(post.bearer_auth(&clerk)).await;
    assert_eq!(written.status, 200, "{}", written.text());
    (gateway, clerk)
}

/// A stream, and its text up to the record that is there.
async fn streamed(request: RequestBuilder, accept: &str) -> (Response, String) {
    let answer = timeout(BOUND, request.header("accept", accept).send());
    let mut stream = answer.await.unwrap().unwrap();
    assert_eq!(stream.status(), 200);
    let mut text = String::new();
    while !text.contains("\"value\":1") {
        let piece = timeout(BOUND, stream.chunk()).await.unwrap().unwrap();
        text += &String::from_utf8_lossy(&piece.expect("the stream goes on"));
    }
    (stream, text)
}

/// All that still comes.
async fn rest(stream: Response) -> String {
    timeout(BOUND, stream.text())
        .await
        .expect("it ends")
        .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_end_when_their_role_may_not_read_any_more() {
    let (gateway, clerk) = with_record().await;
    let url = gateway.url("/topics/orders/records?from=earliest");
    let read = || client().get(&url).bearer_auth(&clerk);
    let (sse, _) = streamed(read(), "text/event-stream").await;
    let (lines, _) = streamed(read(), "application/x-ndjson").await;
    let minted = client().post(gateway.url("/tickets")).bearer_auth(&clerk);
    let minted = send(minted.json(&json!({"kind": "sse"}))).await.json();
    let ticket = minted["ticket"].as_str().unwrap().to_owned();
    let by_ticket = client().get(format!("{url}&ticket={ticket}"));
    let (by_ticket, _) = streamed(by_ticket, "text/event-stream").await;
    // Whoever has the right of itself goes on.
    let other = token("ann", "consume:orders produce:orders");
    let (mut goes_on, mut text) =
        streamed(client().get(&url).bearer_auth(&other), "text/event-stream").await;

    gateway.replace_file("tidegate.toml", &settings("", r#""produce:orders""#));
    gateway.reload();
    for (stream, what) in [(sse, "SSE"), (lines, "NDJSON"), (by_ticket, "ticket")] {
        let rest = rest(stream).await;
        assert!(rest.contains("stream-error"), "{what}: {rest}");
        assert!(rest.contains("40301"), "{what}: {rest}");
        assert!(rest.contains("consume:orders"), "{what}: {rest}");
        assert!(!rest.contains("\"value\""), "{what}: {rest}");
        // The place behind what has not been shown is not told.
        let mut events = rest.split("\n\n");
        let error = events.find(|event| event.contains("stream-error")).unwrap();
        let has_id = error.lines().any(|line| line.starts_with("id:"));
        assert!(!has_id, "{what}: {rest}");
    }
    let again = client().get(format!("{url}&ticket={ticket}"));
    assert_eq!(send(again).await.status, 403);
    let post = client().post(gateway.url("/topics/orders/records"));
    let written = send(post.bearer_auth(&other).json(&json!({"value": 2}))).await;
    assert_eq!(written.status, 200, "{}", written.text());
    while !text.contains("\"value\":2") {
        let piece = timeout(BOUND, goes_on.chunk()).await.unwrap().unwrap();
        text += &String::from_utf8_lossy(&piece.expect("the stream goes on"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_ends_when_its_role_may_not_write_any_more() {
    let (gateway, clerk) = with_record().await;
    let (feed, mut fed) = mpsc::channel::<&'static str>(1);
    let body = stream::poll_fn(move |context| fed.poll_recv(context))
        .map(|text| Ok::<_, std::io::Error>(Bytes::from_static(text.as_bytes())));
    let request = client()
        .post(gateway.url("/topics/orders/records"))
        .bearer_auth(&clerk)
        .header("content-type", "application/x-ndjson")
        .body(Body::wrap_stream(body));
    let reply = tokio::spawn(request.send());
    feed.send("{\"value\":1}\n{\"val").await.unwrap();
    let mut reply = timeout(BOUND, reply).await.unwrap().unwrap().unwrap();
    assert_eq!(reply.status(), 200);
    let mut text = String::new();
    while !text.contains("\"offset\"") {
        let piece = timeout(BOUND, reply.chunk()).await.unwrap().unwrap();
        text += &String::from_utf8_lossy(&piece.expect("it goes on"));
    }

    gateway.replace_file("tidegate.toml", &settings("", r#""consume:orders""#));
    gateway.reload();
    text += &rest(reply).await;
    drop(feed);
    let lines: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.len(), 2, "{text}");
    assert_eq!(lines[1]["error_code"], 40301, "{text}");
    assert_eq!(lines[1]["summary"]["written"], 1, "{text}");
    let message = lines[1]["message"].as_str().unwrap();
    assert!(message.contains("produce:orders"), "{message}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_that_wait_end_when_their_role_may_not_read_any_more() {
    let (gateway, clerk) = with_record().await;
    let call = |method: Method, url: &str, body: Value| {
        let request = reqwest::Client::new()
            .request(method, url)
            .bearer_auth(&clerk)
            .timeout(BOUND);
        match body {
            Value::Null => request,
            body => request
                .header("content-type", "application/vnd.kafka.v2+json")
                .body(body.to_string()),
        }
    };
    let make = json!({"auto.offset.reset": "latest", "auto.commit.enable": "false"});
    let made = send(call(Method::POST, &gateway.url("/consumers/web"), make)).await;
    assert_eq!(made.status, 200, "{}", made.text());
    let base = made.json()["base_uri"].as_str().unwrap().to_owned();
    let partitions = json!({"partitions": [{"topic": "orders", "partition": 0}]});
    let assign = call(Method::POST, &format!("{base}/assignments"), partitions);
    assert_eq!(send(assign).await.status, 204);
    // None of them has anything to read.
    let waits = [
        gateway.url("/topics/orders/records?from=latest&wait=25000"),
        gateway.url("/topics/orders/partitions/0/records?offset=1&timeout=25000"),
        format!("{base}/records?timeout=600000"),
    ];
    let waiting: Vec<_> = waits
        .iter()
        .map(|url| tokio::spawn(send(call(Method::GET, url, Value::Null))))
        .collect();
    // Each answers for itself, whether it waits already or comes only now.
    gateway.replace_file("tidegate.toml", &settings("", r#""group:web""#));
    gateway.reload();
    for (waiting, url) in waiting.into_iter().zip(&waits) {
        let refused = timeout(BOUND, waiting).await.unwrap().unwrap();
        assert_eq!(refused.status, 403, "{url}: {}", refused.text());
        assert!(refused.text().contains("consume:orders"), "{url}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tail_ends_when_its_role_may_not_read_any_more_and_the_session_goes_on() {
    let (gateway, clerk) = with_record().await;
    let mut session = ws::at(&gateway, "/ws").token(&clerk).connect().await;
    session.until("welcome").await;
    let tail = json!({
        "type": "subscribe", "id": 1, "sub": "o", "mode": "tail", "topics": ["orders"],
        "from": "earliest",
    });
    assert_eq!(session.ask(tail).await["type"], "subscribed");
    assert_eq!(session.records(1).await.len(), 1);

    gateway.replace_file("tidegate.toml", &settings("", r#""produce:orders""#));
    gateway.reload();
    let error = session.until("error").await;
    assert_eq!(
        (&error["code"], &error["sub"]),
        (&json!("forbidden"), &json!("o"))
    );
    assert_eq!(session.until("unsubscribed").await["sub"], "o");
    let produce = json!({
        "type": "produce", "id": 2, "topic": "orders", "records": [{"value": 1}],
    });
    assert_eq!(session.ask(produce).await["type"], "produced");
    session.bye().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_token_has_open_ends_with_the_key_of_its_issuer() {
    let gateway = builder().start().await;
    let old = token("ann", "consume:orders produce:orders");
    writes(&gateway, &old, 200).await;
    let url = gateway.url("/topics/orders/records?from=earliest");
    let read = client().get(&url).bearer_auth(&old);
    let (stream, _) = streamed(read, "text/event-stream").await;
    let mut session = ws::at(&gateway, "/ws").token(&old).connect().await;
    session.until("welcome").await;
    gateway.replace_file("secret", OTHER_SECRET);
    let rest = rest(stream).await;
    assert!(rest.contains("40101"), "{rest}");
    let closed = session.closed().await;
    assert_eq!(
        (closed.code, closed.reason.as_str()),
        (Some(4501), "unauthenticated")
    );
}
