//! Topics whose partitions change under those who write to them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::gateway::Gateway;
use crate::support::http::{client, post_json, post_text, send};
use crate::support::kafka_client::OutgoingRecord;
use crate::support::ws::Client;
use crate::support::{eventually, kafka, metric, shared_gateway, topic};

/// "Seconds", and what a busy machine makes of them. Kafka's clients look every five minutes.
const SECONDS: Duration = Duration::from_secs(30);

const KEYS: u16 = 40;

/// Writes a record of each key in one request, and says where they went.
async fn keyed(gateway: &Gateway, topic: &str) -> BTreeMap<String, i64> {
    let keys: Vec<String> = (0..KEYS).map(|key| format!("k{key}")).collect();
    let records: Vec<Value> = keys.iter().map(|k| json!({"key": k, "value": 1})).collect();
    let url = gateway.url(&format!("/topics/{topic}/records"));
    let reply = post_json(&url, &json!(records)).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    let outcomes = reply.json();
    let placed = outcomes.as_array().unwrap().iter().zip(keys);
    placed
        .map(|(outcome, key)| {
            let partition = outcome["partition"].as_i64();
            (key, partition.unwrap_or_else(|| panic!("{outcome}")))
        })
        .collect()
}

fn used(placed: &BTreeMap<String, i64>) -> BTreeSet<i64> {
    placed.values().copied().collect()
}

/// Where a client that has just come puts the same keys.
async fn placed_by_others(topic: &str) -> BTreeMap<String, i64> {
    let plain = kafka().await.plain();
    let mut placed = BTreeMap::new();
    for key in (0..KEYS).map(|key| format!("k{key}")) {
        let record = OutgoingRecord {
            topic,
            key: Some(key.as_bytes()),
            ..OutgoingRecord::default()
        };
        let (partition, _) = plain.produce(record).await;
        placed.insert(key, i64::from(partition));
    }
    placed
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn added_partitions_are_written_to_within_seconds() {
    let (gateway, plain) = (shared_gateway().await, kafka().await.plain());
    let topic = topic("grows");
    plain.create_topic(&topic, 1, &[]).await;
    assert_eq!(used(&keyed(gateway, &topic).await), BTreeSet::from([0]));
    let url = gateway.url(&format!("/topics/{topic}/records"));
    let refused = post_text(&url, r#"{"value":1,"partition":2}"#).await;
    assert_eq!(refused.status, 404, "{}", refused.text());

    plain.add_partitions(&topic, 3).await;

    let named = r#"{"value":"json","partition":2}"#;
    eventually(SECONDS, || async {
        post_text(&url, named).await.status == 200
    })
    .await;
    let lines = client()
        .post(&url)
        .header("content-type", "application/x-ndjson");
    let lines = lines.body(r#"{"value":"lines","partition":2}"#);
    assert_eq!(send(lines).await.json()["partition"], 2);
    let raw = client().post(format!("{url}?partition=1"));
    let raw = raw.header("content-type", "text/plain").body("raw");
    assert_eq!(send(raw).await.json()["partition"], 1);
    for path in [
        format!("/topics/{topic}/partitions/2"),
        format!("/topics/{topic}"),
    ] {
        let body = json!({"records": [{"value": "v2", "partition": 2}]}).to_string();
        let request = client().post(gateway.url(&path)).body(body);
        let request = request.header("content-type", "application/vnd.kafka.json.v2+json");
        let reply = send(request).await.json();
        assert_eq!(reply["offsets"][0]["partition"], 2, "{path}: {reply}");
    }
    let mut socket = Client::welcomed(gateway).await;
    let frame = json!({
        "type": "produce", "id": 1, "topic": topic, "records": [{"value": "ws", "partition": 2}],
    });
    let produced = socket.ask(frame).await;
    assert_eq!(produced["type"], "produced", "{produced}");
    assert_eq!(produced["results"][0]["partition"], 2, "{produced}");

    let all = BTreeSet::from([0, 1, 2]);
    eventually(SECONDS, || async {
        used(&keyed(gateway, &topic).await) == all
    })
    .await;
    let placed = keyed(gateway, &topic).await;
    assert_eq!(placed, placed_by_others(&topic).await);
    let written = plain.consume_all(&topic).await;
    for value in ["\"json\"", "\"lines\"", "\"ws\""] {
        let found = written.iter().find(|record| record.text() == Some(value));
        assert_eq!(found.map(|record| record.partition), Some(2), "{value}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_made_anew_is_written_to_as_it_is_now() {
    let (gateway, plain) = (shared_gateway().await, kafka().await.plain());
    let topic = topic("anew");
    let url = gateway.url(&format!("/topics/{topic}/records"));
    for partitions in [1_i64, 4, 2] {
        if partitions > 1 {
            plain.delete_topic(&topic).await;
        }
        let count = i32::try_from(partitions).unwrap();
        plain.create_topic(&topic, count, &[]).await;
        let all: BTreeSet<i64> = (0..partitions).collect();
        let last = json!({"value": 1, "partition": partitions - 1});
        eventually(SECONDS, || async {
            let reply = post_json(&url, &last).await;
            if reply.status != 200 {
                let is_clear = [404, 503].contains(&reply.status.as_u16());
                assert!(is_clear, "{}", reply.text());
                return false;
            }
            used(&keyed(gateway, &topic).await) == all
        })
        .await;
        let placed = keyed(gateway, &topic).await;
        assert_eq!(placed, placed_by_others(&topic).await);
        let beyond = post_json(&url, &json!({"value": 1, "partition": partitions})).await;
        assert_eq!(beyond.status, 404, "{}", beyond.text());
        assert_eq!(beyond.json()["error_code"], 40402);
    }
}

/// librdkafka drops what waits for a partition that a topic made anew does not have.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_that_wait_while_their_topic_is_made_anew_are_written() {
    let (kafka, plain) = (kafka().await, kafka().await.plain());
    let gateway = Gateway::builder(&kafka.bootstrap())
        .set("kafka.producer.linger.ms", "5000")
        .start()
        .await;
    let topic = topic("anew-waiting");
    plain.create_topic(&topic, 4, &[]).await;
    let waiting = || metric(&gateway, "kafka_producer_queue_records");

    // Each asks for the status of all of its records.
    let (first, ()) = tokio::join!(keyed(&gateway, &topic), async {
        eventually(SECONDS, || async { waiting().await >= f64::from(KEYS) }).await;
        plain.delete_topic(&topic).await;
        plain.create_topic(&topic, 2, &[]).await;
        let url = gateway.url(&format!("/topics/{topic}/records"));
        eventually(SECONDS, || async {
            let refused = post_text(&url, r#"{"value":1,"partition":9}"#).await;
            assert_eq!(refused.status, 404, "{}", refused.text());
            // The gateway has seen the topic that is there now.
            refused.text().contains("partitions are 0 to 1")
        })
        .await;
        keyed(&gateway, &topic).await;
    });
    assert_eq!(first.len(), usize::from(KEYS));
}
