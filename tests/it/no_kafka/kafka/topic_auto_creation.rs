//! Who creates a topic by a first use, where `kafka.auto_create_topics` is on: whoever may write to it or
//! create it. Who may only read creates nothing, and has no topic of dead letters created.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::eventually;
use crate::support::gateway::Gateway;
use crate::support::http::{Reply, client, send};
use crate::support::tokens::token;
use crate::support::ws::{Client, at, tags};

const BOUND: Duration = Duration::from_secs(60);

async fn post(gateway: &Gateway, path: &str, token: &str, body: Value) -> Reply {
    let request = client()
        .post(gateway.url(path))
        .header("content-type", "application/vnd.kafka.v2+json")
        .bearer_auth(token);
    send(request.body(body.to_string())).await
}

/// Whether there is a topic of this name, as someone sees it who may do everything.
async fn is_there(gateway: &Gateway, topic: &str) -> bool {
    let request = client()
        .get(gateway.url("/topics"))
        .bearer_auth(token("root", "admin:*"));
    let reply = send(request).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    reply.text().contains(&format!("\"{topic}\""))
}

async fn session(gateway: &Gateway, token: &str) -> Client {
    let mut session = at(gateway, "/ws").token(token).connect().await;
    session.until("welcome").await;
    session
}

/// An instance of `name` in the group `web`.
async fn make(gateway: &Gateway, token: &str, name: &str) {
    let made = post(gateway, "/consumers/web", token, json!({"name": name})).await;
    assert_eq!(made.status, 200, "{}", made.text());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn consume_alone_creates_no_topic() {
    let gateway = Gateway::embedded().with_tokens().start().await;
    let reader = token("ann", "consume:* group:*");

    let mut socket = session(&gateway, &reader).await;
    let subscribe = json!({
        "type": "subscribe", "id": 1, "sub": "o", "group": "g", "topics": ["orders"],
    });
    let refused = socket.ask(subscribe).await;
    assert_eq!(
        (&refused["type"], &refused["code"]),
        (&json!("error"), &json!("topic_not_found")),
        "{refused}"
    );
    socket.bye().await;

    make(&gateway, &reader, "one").await;
    let base = "/consumers/web/instances/one";
    let assigned = post(
        &gateway,
        &format!("{base}/assignments"),
        &reader,
        json!({"partitions": [{"topic": "orders", "partition": 0}]}),
    )
    .await;
    assert_eq!(assigned.status, 404, "{}", assigned.text());
    let subscribed = post(
        &gateway,
        &format!("{base}/subscription"),
        &reader,
        json!({"topics": ["orders"]}),
    )
    .await;
    // A topic that is still to come is taken, as Confluent REST Proxy takes it.
    assert_eq!(subscribed.status, 204, "{}", subscribed.text());
    assert!(!is_there(&gateway, "orders").await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_may_write_to_a_topic_or_create_it_creates_it() {
    let gateway = Gateway::embedded().with_tokens().start().await;
    for more in ["produce", "create", "admin"] {
        let reader = token("ann", &format!("consume:* group:* {more}:*"));
        let topic = format!("by-session-{more}");
        let mut socket = session(&gateway, &reader).await;
        socket.subscribe(&topic, &topic, json!({})).await;
        socket.bye().await;
        assert!(is_there(&gateway, &topic).await, "{topic}");

        let topic = format!("by-instance-{more}");
        make(&gateway, &reader, more).await;
        let assigned = post(
            &gateway,
            &format!("/consumers/web/instances/{more}/assignments"),
            &reader,
            json!({"partitions": [{"topic": topic, "partition": 0}]}),
        )
        .await;
        assert_eq!(assigned.status, 204, "{}", assigned.text());
        assert!(is_there(&gateway, &topic).await, "{topic}");
    }
}

/// Writes one record to the topic.
async fn write(gateway: &Gateway, topic: &str) {
    let request = client()
        .post(gateway.url(&format!("/topics/{topic}/records")))
        .bearer_auth(token("root", "admin:*"));
    let written = send(request.json(&json!({"value": topic}))).await;
    assert_eq!(written.status, 200, "{}", written.text());
}

/// How many records the topic has.
async fn count(gateway: &Gateway, topic: &str) -> usize {
    let request = client()
        .get(gateway.url(&format!("/topics/{topic}/records?from=earliest")))
        .bearer_auth(token("eve", "consume:*"));
    let reply = send(request).await;
    if reply.status == 404 {
        return 0;
    }
    assert_eq!(reply.status, 200, "{}", reply.text());
    reply.json()["records"].as_array().unwrap().len()
}

/// Has the only record of the topic become a dead letter of the session.
async fn give_up(gateway: &Gateway, token: &str, topic: &str) -> Client {
    let mut socket = session(gateway, token).await;
    let options = json!({"offset_reset": "earliest"});
    socket.subscribe(topic, topic, options).await;
    let records = socket.records(1).await;
    let nack = json!({
        "type": "nack", "sub": "o", "id": 1, "tags": tags(&records), "dead_letter": true,
    });
    assert_eq!(socket.ask(nack).await["type"], "acked");
    socket
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_default_dead_letter_topic_is_created_for_those_alone_who_may() {
    let gateway = Gateway::embedded()
        .with_tokens()
        .set("kafka.metadata_timeout_ms", "30000")
        .start()
        .await;
    write(&gateway, "orders").await;
    let reader = token("ann", "consume:* group:*");
    let mut socket = give_up(&gateway, &reader, "orders").await;
    let is_told = |frame: &Value| {
        let detail = frame["detail"].as_str().unwrap_or_default();
        frame["type"] == "state"
            && detail.contains("create:orders.dlq")
            && detail.contains("produce:orders.dlq")
    };
    socket.until_such("what is missing", is_told).await;
    assert!(!is_there(&gateway, "orders.dlq").await);
    // The record waits, and once the topic is there no right is needed.
    write(&gateway, "orders.dlq").await;
    eventually(BOUND, async || count(&gateway, "orders.dlq").await == 2).await;
    socket.bye().await;

    for right in ["create", "produce"] {
        let topic = format!("to-{right}");
        write(&gateway, &topic).await;
        let scope = format!("consume:* group:* {right}:{topic}.dlq");
        let socket = give_up(&gateway, &token("ann", &scope), &topic).await;
        let dead = format!("{topic}.dlq");
        eventually(BOUND, async || count(&gateway, &dead).await == 1).await;
        socket.bye().await;
    }
}
