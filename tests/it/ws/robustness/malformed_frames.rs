//! What is no frame, or a frame that asks for what there is not: each is answered by name or ends its
//! own session, and no other one notices.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_tungstenite::tungstenite::Message;

use super::{becomes, broker, ends_as_too_large, fill, raw};
use crate::support::gateway::Gateway;
use crate::support::topic;
use crate::support::ws::Client;

/// A second session in the same process, to which a record comes whenever it is asked.
struct Bystander<'a> {
    gateway: &'a Gateway,
    client: Client,
    topic: String,
    seen: i64,
}

impl<'a> Bystander<'a> {
    async fn new(gateway: &'a Gateway) -> Self {
        let topic = topic("ws-bystander");
        broker().await.plain().create_topic(&topic, 1, &[]).await;
        let mut client = Client::welcomed(gateway).await;
        client.subscribe(&topic, &topic, json!({})).await;
        Self {
            gateway,
            client,
            topic,
            seen: 0,
        }
    }

    async fn notices_nothing(&mut self) {
        fill(self.gateway, &self.topic, 0, self.seen..self.seen + 1).await;
        let records = self.client.records(1).await;
        assert_eq!(records[0]["value"], self.seen);
        assert!(records[0].get("redelivered").is_none());
        self.client
            .ack(&[records[0]["tag"].as_u64().unwrap()])
            .await;
        self.seen += 1;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_bad_frame_is_answered_by_name_and_nobody_else_notices() {
    let gateway = Gateway::start(&broker().await.bootstrap()).await;
    let mut bystander = Bystander::new(&gateway).await;
    let topic = topic("ws-bad");
    broker().await.plain().create_topic(&topic, 1, &[]).await;
    fill(&gateway, &topic, 0, 0..1).await;
    let mut client = Client::welcomed(&gateway).await;
    client
        .subscribe(&topic, &topic, json!({"offset_reset": "earliest"}))
        .await;
    client.records(1).await;
    let long = "x".repeat(65);
    let cases = [
        (json!({"type": "fly"}), "unknown_type", "type"),
        (json!({"type": "ack", "sub": 5}), "invalid_frame", "sub"),
        (json!({"type": "ack", "tags": [1]}), "invalid_frame", "sub"),
        (
            json!({"type": "ack", "sub": "o", "tags": "1"}),
            "invalid_frame",
            "tags",
        ),
        (
            json!({"type": "ack", "sub": "o", "tags": [1, -1]}),
            "invalid_frame",
            "tags[1]",
        ),
        (
            json!({"type": "ack", "sub": "none", "tags": [1]}),
            "unknown_sub",
            "sub",
        ),
        (
            json!({"type": "ack", "sub": "o", "tags": [99]}),
            "ack_unknown",
            "",
        ),
        (
            json!({"type": "nack", "sub": "o", "tags": [99]}),
            "ack_unknown",
            "",
        ),
        (json!({"type": "nack", "sub": "o"}), "invalid_frame", "tags"),
        (
            json!({"type": "extend", "sub": "o", "tags": [1], "ms": "1"}),
            "invalid_frame",
            "ms",
        ),
        (
            json!({"type": "credit", "sub": "o", "records": -1}),
            "invalid_frame",
            "sub",
        ),
        (
            json!({"type": "seek", "sub": "o", "positions": [{"topic": topic, "partition": 7, "offset": 0}]}),
            "not_assigned",
            "positions",
        ),
        (
            json!({"type": "seek", "sub": "o", "positions": [{"topic": topic, "partition": 0}]}),
            "invalid_frame",
            "positions[0]",
        ),
        (
            json!({"type": "commit", "sub": "none"}),
            "unknown_sub",
            "sub",
        ),
        (
            json!({"type": "position", "sub": "none"}),
            "unknown_sub",
            "sub",
        ),
        (
            json!({"type": "unsubscribe", "sub": "none"}),
            "unknown_sub",
            "sub",
        ),
        (
            json!({"type": "subscribe", "sub": "p", "group": "g", "topics": ["t"], "ack": "maybe"}),
            "invalid_frame",
            "ack",
        ),
        (
            json!({"type": "subscribe", "sub": "o", "group": "g", "topics": ["t"]}),
            "already_subscribed",
            "sub",
        ),
        (
            json!({"type": "subscribe", "sub": "p", "group": "g", "topics": ["t"]}),
            "limit_exceeded",
            "",
        ),
        (
            json!({"type": "produce", "topic": topic}),
            "invalid_frame",
            "records",
        ),
        (
            json!({"type": "produce", "records": [{"value": 1}]}),
            "invalid_frame",
            "topic",
        ),
        (
            json!({"type": "produce", "topic": topic, "records": []}),
            "invalid_frame",
            "records",
        ),
        (
            json!({"type": "hello", "heartbeat_ms": "1"}),
            "invalid_frame",
            "heartbeat_ms",
        ),
        (json!({"type": "hello"}), "unexpected_hello", ""),
    ];
    let mut wrong = Vec::new();
    for (number, (mut frame, code, field)) in cases.into_iter().enumerate() {
        frame["id"] = number.into();
        client.send_text(&frame.to_string()).await;
        // Of acknowledgements with a bad tag comes `acked`, and then this.
        let error = client
            .until_such("error with the id", |frame| {
                frame["type"] == "error" && frame["id"] == number
            })
            .await;
        let said = error["field"].as_str().unwrap_or_default();
        let right = error["type"] == "error"
            && error["code"] == code
            && said.starts_with(field)
            && field.is_empty() == said.is_empty()
            && error["tags"].is_array() == (code == "ack_unknown")
            && error["message"].as_str().is_some_and(|m| m.len() > 5)
            && (!frame["sub"].is_string() || error["sub"] == frame["sub"]);
        if !right {
            wrong.push(format!("{frame}: {error}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    bystander.notices_nothing().await;
    // Ids that are none, and a `produce` without one.
    for frame in [
        json!({"type": "ping", "id": {}}),
        json!({"type": "ping", "id": long}),
        json!({"type": "ping", "id": 1.5}),
        json!({"type": "produce", "topic": topic, "records": [{"value": 1}]}),
    ] {
        client.send_text(&frame.to_string()).await;
        let error = client.until("error").await;
        assert_eq!(error["code"], "invalid_frame", "{frame}: {error}");
        assert_eq!(error["field"], "id", "{frame}: {error}");
        assert!(error.get("id").is_none());
    }
    // Records that are none fail alone.
    let mixed = json!({"type": "produce", "id": "m", "topic": topic, "records": [
        {"key": 1}, {"value": 1, "partition": "x"}, {"value": 2}, 7, {"value": 1, "headers": [["a"]]},
    ]});
    client.send_text(&mixed.to_string()).await;
    let mixed = client.answer("m").await;
    for (index, result) in mixed["results"].as_array().unwrap().iter().enumerate() {
        if index == 2 {
            assert_eq!(result["offset"], 1, "{mixed}");
        } else {
            let error = &result["error"];
            assert_eq!(error["code"], "invalid_record", "{mixed}");
            let at = error["field"].as_str().unwrap_or_default();
            assert!(at.starts_with(&format!("/records/{index}")), "{mixed}");
        }
    }
    let again = client
        .ask(json!({"type": "produce", "id": "m", "topic": topic, "records": [{"value": 3}]}))
        .await;
    assert_eq!(
        (&again["duplicate"], &again["results"]),
        (&json!(true), &mixed["results"])
    );
    // Nothing of this has touched what was delivered.
    let acked = client
        .ask(json!({"type": "ack", "sub": "o", "tags": [1], "id": "a"}))
        .await;
    assert_eq!(acked["positions"][0]["offset"], 1);
    bystander.notices_nothing().await;
    client.bye().await;
    becomes(&gateway, "websocket_records_in_flight", 0.0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_frame_ends_its_session_and_no_other() {
    let gateway = Gateway::start(&broker().await.bootstrap()).await;
    let mut bystander = Bystander::new(&gateway).await;
    let nested = |depth: usize| {
        let (open, close) = ("[".repeat(depth - 1), "]".repeat(depth - 1));
        format!(r#"{{"type":"ping","t":{open}{close}}}"#)
    };
    let cases = [
        (Message::text(""), 4500),
        (Message::text(r#"{"type":"#), 4500),
        (Message::text("[]"), 4500),
        (Message::text(r#"{"type":7}"#), 4500),
        (Message::text(r#"{"sub":"o"}"#), 4500),
        (Message::text(nested(65)), 4500),
        (Message::text(nested(100_000)), 4500),
        (
            Message::text(format!(
                r#"{{"type":"ping","t":"{}"}}"#,
                "x".repeat(10 << 20)
            )),
            1009,
        ),
        (Message::binary(r#"{"type":"ping"}"#), 1003),
    ];
    for (message, code) in cases {
        let mut client = Client::welcomed(&gateway).await;
        let shown: String = message
            .to_text()
            .unwrap_or_default()
            .chars()
            .take(40)
            .collect();
        client.send_as_far_as_taken(message).await;
        if code == 1009 {
            ends_as_too_large(&gateway, &mut client, 1.0).await;
            bystander.notices_nothing().await;
            continue;
        }
        let closed = client.closed().await;
        assert_eq!(closed.code, Some(code), "{shown}");
        if code == 4500 {
            let goodbye = closed.goodbye.unwrap();
            assert!(
                goodbye["message"].as_str().is_some_and(|m| m.len() > 5),
                "{goodbye}"
            );
        }
        bystander.notices_nothing().await;
    }
    let mut client = Client::welcomed(&gateway).await;
    client.send_text(&nested(64)).await;
    client.until("pong").await;
    // So many within a minute are too many.
    let flies = (1..=50).map(|n| json!({"type": "fly", "id": n}).to_string());
    client.send_texts(flies).await;
    for n in 1..=50 {
        assert_eq!(client.answer(n).await["code"], "unknown_type");
    }
    let closed = client.closed().await;
    assert_eq!(
        (closed.code, closed.reason.as_str()),
        (Some(4510), "too_many_errors")
    );
    bystander.notices_nothing().await;
    bystander.client.bye().await;
    becomes(&gateway, "websocket_sessions", 0.0).await;
    becomes(&gateway, "websocket_closes_total", 11.0).await;
}

/// Pieces of a byte each, in frames of a byte each.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_may_come_byte_by_byte() {
    let gateway = Gateway::start(&broker().await.bootstrap()).await;
    let mut stream = raw(&gateway, "/ws").await.into_inner();
    stream.set_nodelay(true).unwrap();
    let text = br#"{"type":"ping","id":"slowly"}"#;
    for (index, byte) in text.iter().enumerate() {
        let opcode = u8::from(index == 0);
        let last = if index + 1 == text.len() { 0x80 } else { 0 };
        for byte in [opcode | last, 0x81, 0, 0, 0, 0, *byte] {
            stream.write_all(&[byte]).await.unwrap();
        }
    }
    let mut all = String::new();
    while !all.contains(r#""type":"pong""#) {
        let mut piece = [0; 4_096];
        let count = stream.read(&mut piece).await.unwrap();
        assert!(count > 0, "{all}");
        all.push_str(&String::from_utf8_lossy(&piece[..count]));
    }
    assert!(all.contains(r#""id":"slowly""#), "{all}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_over_the_rate_are_refused_by_their_ids() {
    let gateway = Gateway::start(&broker().await.bootstrap()).await;
    let mut bystander = Bystander::new(&gateway).await;
    let mut client = Client::welcomed(&gateway).await;
    let begin = Instant::now();
    let mut sent = 0_u64;
    let mut answers: BTreeMap<u64, Value> = BTreeMap::new();
    let refused = |answers: &BTreeMap<u64, Value>| {
        answers
            .values()
            .filter(|a| a["code"] == "rate_limited")
            .count() as u64
    };
    while refused(&answers) < 100 {
        // A machine that is busy may not get through so many in any one second: it has many of them.
        assert!(begin.elapsed() < Duration::from_secs(300));
        let frames =
            (sent..sent + 3_000).map(|id| format!(r#"{{"type":"auth","token":"t","id":{id}}}"#));
        client.send_texts(frames).await;
        sent += 3_000;
        while (answers.len() as u64) < sent {
            let answer = client.next().await;
            let id = answer["id"].as_u64().unwrap();
            assert!(
                answers.insert(id, answer).is_none(),
                "{id} was answered twice"
            );
        }
    }
    let passed = sent - refused(&answers);
    assert!(
        passed <= 2_000 * (begin.elapsed().as_secs() + 2),
        "{passed}"
    );
    for answer in answers.values() {
        assert!(
            answer["type"] == "ok" || answer["retry_after_ms"].is_u64(),
            "{answer}"
        );
    }
    // Which is no offence, and pings are not counted.
    client.send(json!({"type": "ping", "id": "p"})).await;
    assert_eq!(client.answer("p").await["type"], "pong");
    bystander.notices_nothing().await;
    client.bye().await;
}
