//! Clients whose records a topic does not take, beside clients whose records it does. Kafka takes or
//! refuses a batch as a whole, and the producer makes batches of what comes together.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use krafka::admin::AclOperation;
use serde_json::{Value, json};

use crate::kafka::broker_security::{by_sasl, password, secured};
use crate::support::gateway::Gateway;
use crate::support::http::{self, post_json, post_text};
use crate::support::kafka_client::KafkaClient;
use crate::support::secured::{PASSWORD, USER};
use crate::support::{eventually, kafka, metric, shared_gateway, topic};

const BOUND: Duration = Duration::from_secs(60);

/// Good writers, bad ones, and the requests of each good one.
const GOOD: usize = 4;
const BAD: usize = 3;
const REQUESTS: usize = 60;

/// Good writers write to a compacted topic while bad ones post records without a key, alone and among
/// others, until the good ones are done. What the bad ones were told is checked as well.
async fn beside(gateway: &Gateway, plain: &KafkaClient, topic: &str) {
    let url = gateway.url(&format!("/topics/{topic}/records"));
    let done = Arc::new(AtomicBool::new(false));
    let bad: Vec<_> = (0..BAD)
        .map(|writer| {
            let (url, done) = (url.clone(), Arc::clone(&done));
            tokio::spawn(async move {
                let client = http::client();
                let mut refused = 0;
                while !done.load(Ordering::Relaxed) {
                    let key = format!("bad-{writer}-{refused}");
                    let records = json!([{"value": 0}, {"key": key, "value": 0}, {"value": 0}]);
                    let reply = http::send(client.post(&url).json(&records)).await;
                    let outcomes = reply.json();
                    assert_eq!(outcomes[0]["kafka_error"], "INVALID_RECORD", "{outcomes}");
                    assert_eq!(outcomes[0]["retriable"], false, "{outcomes}");
                    assert_eq!(outcomes[2]["kafka_error"], "INVALID_RECORD", "{outcomes}");
                    assert!(outcomes[1]["offset"].is_i64(), "{outcomes}");
                    refused += 1;
                }
                refused
            })
        })
        .collect();
    let good: Vec<_> = (0..GOOD)
        .map(|writer| {
            let url = url.clone();
            tokio::spawn(async move {
                let client = http::client();
                for request in 0..REQUESTS {
                    let key = format!("good-{writer}-{request}");
                    let body = json!({"key": key, "value": request});
                    let reply = http::send(client.post(&url).json(&body)).await;
                    assert_eq!(reply.status, 200, "{key}: {}", reply.text());
                }
            })
        })
        .collect();
    for writer in good {
        writer.await.unwrap();
    }
    done.store(true, Ordering::Relaxed);
    let mut refused = 0;
    for writer in bad {
        refused += writer.await.unwrap();
    }
    println!(
        "{refused} bad requests beside {} good ones",
        GOOD * REQUESTS
    );
    assert!(refused > 0);
    let records = plain.consume_all(topic).await;
    let mut keys = BTreeSet::new();
    for record in &records {
        let key = record
            .key
            .clone()
            .expect("the topic takes none without a key");
        let key = String::from_utf8(key).unwrap();
        assert!(keys.insert(key.clone()), "{key} is there twice");
    }
    assert_eq!(keys.len(), GOOD * REQUESTS + refused);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_of_good_writers_are_not_refused_for_bad_ones_in_the_same_batch() {
    let (gateway, plain) = (shared_gateway().await, kafka().await.plain());
    let topic = topic("beside");
    let compacted = [("cleanup.policy", "compact")];
    plain.create_topic(&topic, 1, &compacted).await;
    beside(gateway, &plain, &topic).await;
}

/// The broker alone finds the bad records out, in batches with the good ones.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_of_good_writers_are_not_refused_where_topic_configurations_cannot_be_read() {
    let broker = secured().await;
    let plain = broker.plain();
    let topic = topic("beside");
    let compacted = [("cleanup.policy", "compact")];
    plain.create_topic(&topic, 1, &compacted).await;
    let rights = [AclOperation::Describe, AclOperation::Write];
    broker.allow(USER, &topic, &rights).await;
    let login = password("SCRAM-SHA-256", "gateway", PASSWORD);
    let gateway = by_sasl(broker, &login)
        .set("kafka.metadata_timeout_ms", "30000")
        .start()
        .await;
    beside(&gateway, &plain, &topic).await;
    let refused = metric(&gateway, "kafka_produce_errors_total").await;
    assert!(refused > 0.0, "it was the broker that refused");
}

/// What is known of a topic is told at once, of the record at fault alone, and only as long as it is so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_that_breaks_the_topics_rules_is_refused_before_it_is_sent_to_the_broker() {
    let plain = kafka().await.plain();
    let gateway = Gateway::builder(&kafka().await.bootstrap())
        .set("kafka.metadata_timeout_ms", "30000")
        .start()
        .await;
    let now = jiff::Timestamp::now().as_millisecond();
    let day = 86_400_000;
    let large = "x".repeat(3_000);
    let cases: [(&str, &str, Value, &str, u16, &str); 4] = [
        (
            "cleanup.policy",
            "compact",
            json!({"value": 1}),
            "INVALID_RECORD",
            400,
            "the topic is compacted",
        ),
        (
            "max.message.bytes",
            "2000",
            json!({"key": "k", "value": large}),
            "MESSAGE_TOO_LARGE",
            413,
            "max.message.bytes is 2000",
        ),
        (
            "message.timestamp.before.max.ms",
            "3600000",
            json!({"key": "k", "value": 1, "timestamp": now - day}),
            "INVALID_TIMESTAMP",
            400,
            "ms before now",
        ),
        (
            "message.timestamp.after.max.ms",
            "3600000",
            json!({"key": "k", "value": 1, "timestamp": now + day}),
            "INVALID_TIMESTAMP",
            400,
            "ms after now",
        ),
    ];
    for (config, value, bad, error, status, reason) in cases {
        let topic = topic("rules");
        plain.create_topic(&topic, 1, &[(config, value)]).await;
        let url = gateway.url(&format!("/topics/{topic}/records"));
        // Until the rules are known, it is the broker that refuses, without the reason.
        eventually(BOUND, || async {
            let reply = post_json(&url, &bad).await;
            assert_eq!(reply.status, status, "{config}: {}", reply.text());
            assert_eq!(reply.json()["kafka_error"], error, "{}", reply.text());
            reply.text().contains(reason)
        })
        .await;
        let among = json!([{"key": "a", "value": 1}, bad, {"key": "b", "value": 2}]);
        let reply = post_json(&url, &among).await;
        let outcomes = reply.json();
        assert_eq!(reply.status, 200, "{outcomes}");
        assert_eq!(outcomes[1]["kafka_error"], error, "{outcomes}");
        let placed: Vec<_> = [0, 2].map(|at| outcomes[at]["offset"].as_i64()).into();
        let records = plain.consume_all(&topic).await;
        let found: Vec<_> = records.iter().map(|record| Some(record.offset)).collect();
        assert_eq!(placed, found, "{config}");
        // A rule that is gone refuses nothing, or for no longer than a broker needs to hear of it.
        plain.set_topic_configs(&topic, &[]).await;
        if config != "message.timestamp.after.max.ms" {
            eventually(Duration::from_secs(10), || async {
                post_text(&url, &bad.to_string()).await.status == 200
            })
            .await;
        }
    }
}
