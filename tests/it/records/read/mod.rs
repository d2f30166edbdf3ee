//! Reading records over HTTP. What the tests share is here.
//!
//! - `format`: how a record is shown
//! - `log_gaps`: what a real log does to a read: transactions, compaction, retention
//! - `positions`: where a read starts, and where the next one goes on
//! - `waits`: reads that wait for a record

mod format;
mod log_gaps;
mod positions;
mod waits;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::gateway::Gateway;
use crate::support::http::{self, Reply};
use crate::support::kafka_client::KafkaClient;
use crate::support::{kafka, shared_gateway, topic};

/// Longer than any page may take that does not wait, even on a busy machine, and shorter than the
/// waits that tests ask for where an answer must come before their end.
const PROMPT: Duration = Duration::from_secs(22);

/// A topic of a test, as the gateway shows it.
#[derive(Clone)]
struct TestTopic {
    name: String,
    gateway: String,
    plain: KafkaClient,
}

impl TestTopic {
    async fn open(prefix: &str, partitions: i32, configs: &[(&str, &str)]) -> Self {
        Self::of(&topic(prefix), partitions, configs).await
    }

    async fn of(topic: &str, partitions: i32, configs: &[(&str, &str)]) -> Self {
        let plain = kafka().await.plain();
        plain.create_topic(topic, partitions, configs).await;
        Self {
            name: topic.to_owned(),
            gateway: shared_gateway().await.url(""),
            plain,
        }
    }

    /// The same topic through another gateway.
    fn through(&self, gateway: &Gateway) -> Self {
        Self {
            gateway: gateway.url(""),
            ..self.clone()
        }
    }

    fn records(&self) -> String {
        format!("{}/topics/{}/records", self.gateway, self.name)
    }

    fn record(&self, partition: i32, offset: i64) -> String {
        format!(
            "{}/topics/{}/partitions/{partition}/records/{offset}",
            self.gateway, self.name
        )
    }

    async fn reply(&self, query: &str) -> Reply {
        http::get(&format!("{}?{query}", self.records())).await
    }

    async fn page(&self, query: &str) -> Page {
        let end = Instant::now() + Duration::from_secs(120);
        let reply = loop {
            let reply = self.reply(query).await;
            // A busy machine may keep Kafka from answering in time: then it is asked again.
            let passes = [503, 504].contains(&reply.status.as_u16());
            if !passes || reply.json()["retriable"] != true || Instant::now() > end {
                break reply;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        };
        assert_eq!(reply.status, 200, "{query}: {}", reply.text());
        assert_eq!(reply.header("content-type"), "application/json");
        let Value::Object(mut page) = reply.json() else {
            panic!("{query}: {}", reply.text());
        };
        assert_eq!(page.keys().collect::<Vec<_>>(), ["next", "records"]);
        let Some(Value::Array(records)) = page.remove("records") else {
            panic!("{query}: {}", reply.text());
        };
        Page {
            next: page["next"].as_str().unwrap().to_owned(),
            records,
        }
    }

    /// Page after page until one is empty.
    async fn walk(&self, from: &str, query: &str) -> Vec<Value> {
        let mut from = from.to_owned();
        let mut all = Vec::new();
        loop {
            let page = self.page(&format!("from={from}&{query}")).await;
            if page.records.is_empty() {
                assert_eq!(
                    self.page(&format!("from={}", page.next)).await.next,
                    page.next
                );
                return all;
            }
            assert_ne!(page.next, from, "{query}");
            from = page.next;
            all.extend(page.records);
        }
    }

    async fn write(&self, body: &Value) -> Value {
        let reply = http::post_json(&self.records(), body).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
        assert_eq!(reply.header("tidegate-failed-records"), "");
        reply.json()
    }

    /// Writes 0, 1, 2, … to each of the partitions, so that a value is its offset.
    async fn fill(&self, counts: &[i64]) {
        for (partition, count) in (0..).zip(counts) {
            let records: Vec<Value> = (0..*count)
                .map(|n| json!({"partition": partition, "value": n}))
                .collect();
            for batch in records.chunks(1000) {
                self.write(&Value::from(batch)).await;
            }
        }
    }
}

struct Page {
    records: Vec<Value>,
    next: String,
}

impl Page {
    fn places(&self) -> Vec<(i64, i64)> {
        places(&self.records)
    }

    fn values(&self) -> Vec<&Value> {
        self.records.iter().map(|record| &record["value"]).collect()
    }
}

fn places(records: &[Value]) -> Vec<(i64, i64)> {
    let number = |record: &Value, name: &str| record[name].as_i64().unwrap();
    records
        .iter()
        .map(|record| (number(record, "partition"), number(record, "offset")))
        .collect()
}

/// The offsets of each partition, in the order in which they came.
fn by_partition(records: &[Value]) -> BTreeMap<i64, Vec<i64>> {
    let mut all = BTreeMap::<i64, Vec<i64>>::new();
    for (partition, offset) in places(records) {
        all.entry(partition).or_default().push(offset);
    }
    all
}

fn error_of(reply: &Reply, status: u16, field: &str) -> Value {
    assert_eq!(reply.status, status, "{}", reply.text());
    let error = reply.json();
    assert_eq!(error["field"], field, "{error}");
    assert_eq!(error["request_id"], reply.header("x-request-id"));
    error
}

fn says(error: &Value, part: &str) {
    let message = error["message"].as_str().unwrap();
    assert!(message.contains(part), "{error}");
}
