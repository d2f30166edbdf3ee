//! Topics that Kafka and its tools keep for themselves, on a Kafka that has none of them yet: nothing
//! that a client does creates one or writes to one of Kafka's.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::broker::Broker;
use crate::support::gateway::Gateway;
use crate::support::http::{Reply, client, get, send};
use crate::support::kafka_client::{Isolation, OutgoingRecord};
use crate::support::tokens::{self, SECRET};
use crate::support::ws::{Client, tags};
use crate::support::{eventually, topic};

const BOUND: Duration = Duration::from_secs(60);

/// Kafka's own, one that would keep Kafka from creating its own, and the like.
const OF_KAFKA: [&str; 6] = [
    "__consumer_offsets",
    "__transaction_state",
    "__share_group_state",
    "__cluster_metadata",
    "__remote_log_metadata",
    "__consumer.offsets",
];

const V2_JSON: &str = "application/vnd.kafka.json.v2+json";

/// Every way to write one record over HTTP: path, type, body.
fn ways(topic: &str) -> Vec<(String, &'static str, &'static str)> {
    let records = format!("/topics/{topic}/records");
    vec![
        (records.clone(), "application/json", r#"{"value":1}"#),
        (records.clone(), "application/json", r#"[{"value":1}]"#),
        (records.clone(), "application/x-ndjson", r#"{"value":1}"#),
        (records, "text/plain", "1"),
        (
            format!("/topics/{topic}"),
            V2_JSON,
            r#"{"records":[{"value":1}]}"#,
        ),
        (
            format!("/topics/{topic}/partitions/0"),
            V2_JSON,
            r#"{"records":[{"value":1}]}"#,
        ),
    ]
}

async fn post(gateway: &Gateway, token: &str, path: &str, kind: &str, body: &str) -> Reply {
    let request = client()
        .post(gateway.url(path))
        .header("content-type", kind)
        .body(body.to_owned());
    send(if token.is_empty() {
        request
    } else {
        request.bearer_auth(token)
    })
    .await
}

/// The error of an answer to one record, wherever the API puts it.
fn error(reply: &Reply) -> Value {
    let text = reply.text().lines().next().unwrap_or_default();
    let body: Value = serde_json::from_str(text).unwrap();
    if body["offsets"].is_array() {
        body["offsets"][0].clone()
    } else if body.is_array() {
        body[0].clone()
    } else {
        body
    }
}

async fn kept(kafka: &Broker) -> BTreeSet<String> {
    let mut names = kafka.plain().topics().await;
    names.retain(|name| name.starts_with("__"));
    names
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kept_name_is_never_created_and_kafkas_own_never_written_to() {
    let kafka = Broker::builder().never_killed().start().await;
    let plain = kafka.plain();
    let open = Gateway::builder(&kafka.bootstrap())
        .set("kafka.auto_create_topics", "true")
        .set("kafka.metadata_timeout_ms", "30000")
        .start()
        .await;
    let guarded = Gateway::builder(&kafka.bootstrap())
        .file("secret", SECRET)
        .file(
            "tidegate.toml",
            "[kafka]\nauto_create_topics = true\nmetadata_timeout_ms = 30000\n[auth]\nmode = \"jwt\"\n\
             [[auth.issuers]]\nissuer = \"https://issuer.test\"\naudience = \"tidegate\"\n\
             secret_file = \"secret\"\n",
        )
        .start()
        .await;
    let admin = tokens::token("root", "admin:*");

    for name in OF_KAFKA {
        for (gateway, token) in [(&open, ""), (&guarded, &*admin)] {
            for (path, kind, body) in ways(name) {
                let reply = post(gateway, token, &path, kind, body).await;
                let error = error(&reply);
                assert_eq!(reply.status, 403, "{path} {kind}: {error}");
                assert_eq!(error["error_code"], 40301, "{path} {kind}: {error}");
                assert_eq!(error["kafka_error"], "INVALID_TOPIC_EXCEPTION", "{error}");
            }
        }
        let mut socket = Client::welcomed(&open).await;
        let frame = json!({"type": "produce", "id": 1, "topic": name, "records": [{"value": 1}]});
        let refused = socket.ask(frame).await;
        assert_eq!(refused["code"], "forbidden", "{refused}");
        socket.bye().await;
    }
    // A tool's is not created either, but is no secret.
    for (path, kind, body) in ways("__tool") {
        let reply = post(&open, "", &path, kind, body).await;
        let (error, is_v2) = (error(&reply), kind == V2_JSON);
        let expected = if is_v2 { (200, 50003) } else { (404, 40401) };
        let found = (reply.status.as_u16(), error["error_code"].as_u64().unwrap());
        assert_eq!(found, expected, "{path} {kind}: {error}");
    }
    assert_eq!(kept(&kafka).await, BTreeSet::new());

    // What reads does not create them either.
    for name in ["__transaction_state", "__tool"] {
        let url = open.url(&format!("/topics/{name}/records"));
        assert_eq!(get(&url).await.status, 404);
        let stream = client().get(&url).header("accept", "text/event-stream");
        assert_eq!(send(stream).await.status, 404);
        let mut socket = Client::welcomed(&open).await;
        let tail = json!({"type": "subscribe", "id": 3, "sub": "t", "topics": [name]});
        let refused = socket.ask(tail).await;
        assert_eq!(refused["code"], "topic_not_found", "{refused}");
        let subscribe = json!({
            "type": "subscribe", "id": 1, "sub": "o", "group": topic("kept"), "topics": [name],
        });
        let refused = socket.ask(subscribe).await;
        assert_eq!(refused["code"], "topic_not_found", "{refused}");
        let letters = json!({
            "type": "subscribe", "id": 2, "sub": "o", "group": topic("kept"),
            "topics": ["orders"], "dlq": "__transaction_state",
        });
        let refused = socket.ask(letters).await;
        assert_eq!(refused["code"], "forbidden", "{refused}");
        socket.bye().await;
        let consumer = json!({"name": "one", "format": "json"});
        let base = format!("/consumers/{}", topic("kept"));
        let kind = "application/vnd.kafka.v2+json";
        let made = post(&open, "", &base, kind, &consumer.to_string()).await;
        assert_eq!(made.status, 200, "{}", made.text());
        let wanted = json!({"topics": [name]}).to_string();
        let path = format!("{base}/instances/one");
        let subscription = format!("{path}/subscription");
        let reply = post(&open, "", &subscription, kind, &wanted).await;
        assert_eq!(reply.status, 204, "it may come: {}", reply.text());
        let wanted = json!({"partitions": [{"topic": name, "partition": 0}]}).to_string();
        let assignments = format!("{path}/assignments");
        let reply = post(&open, "", &assignments, kind, &wanted).await;
        assert!(reply.status.is_client_error(), "{}", reply.text());
        let gone = send(client().delete(open.url(&path))).await;
        assert_eq!(gone.status, 204, "{}", gone.text());
    }
    // Groups have worked, so Kafka has made the one that it needs, and it alone.
    let made = BTreeSet::from(["__consumer_offsets".to_owned()]);
    assert!(kept(&kafka).await.is_subset(&made));

    // One that is there is not written to.
    plain.create_topic("own", 1, &[]).await;
    let transaction = plain.transaction("t").await;
    let record = OutgoingRecord {
        topic: "own",
        ..OutgoingRecord::default()
    };
    transaction.produce(record).await;
    transaction.commit().await;
    assert!(kept(&kafka).await.contains("__transaction_state"));
    for (path, kind, body) in ways("__transaction_state") {
        let reply = post(&open, "", &path, kind, body).await;
        assert_eq!(reply.status, 403, "{path} {kind}: {}", reply.text());
    }

    // A dead-letter topic whose name begins so, made by its owner, is.
    plain.create_topic("__letters", 1, &[]).await;
    let url = open.url("/topics/__letters/records");
    eventually(BOUND, || async {
        let body = r#"{"value":"by hand"}"#;
        post(
            &open,
            "",
            &url[url.find("/topics").unwrap()..],
            "application/json",
            body,
        )
        .await
        .status
            == 200
    })
    .await;
    let reply = post(
        &open,
        "",
        "/topics/own/records",
        "application/json",
        r#"{"value":"bad"}"#,
    );
    assert_eq!(reply.await.status, 200);
    let mut socket = Client::welcomed(&open).await;
    let options = json!({"dlq": "__letters", "offset_reset": "earliest"});
    socket.subscribe(&topic("kept"), "own", options).await;
    let bad = loop {
        let mut records = socket.records(1).await;
        if let Some(bad) = records.pop().filter(|record| record["value"] == "bad") {
            break bad;
        }
    };
    let nack = json!({"type": "nack", "sub": "o", "tags": tags(&[bad]), "dead_letter": true});
    socket.send(nack).await;
    eventually(BOUND, || async {
        let letters = plain
            .consume_all_as("__letters", Isolation::ReadUncommitted)
            .await;
        letters
            .iter()
            .any(|letter| letter.text() == Some("\"bad\""))
    })
    .await;
}
