//! What tests of sessions as group members share: a Kafka whose groups rebalance quickly, a gateway
//! before it, and ways to fill topics and to look at what is committed.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::OnceCell;

use super::broker::Broker;
use super::gateway::Gateway;
use super::kafka_client::KafkaClient;
use super::ws::Client;
use super::{eventually, http};

/// Longest wait for what a group or a commit brings about.
const BOUND: Duration = Duration::from_secs(60);

/// A broker whose groups rebalance quickly, which the tests of sessions share.
pub async fn broker() -> &'static Broker {
    static SHARED: OnceCell<Broker> = OnceCell::const_new();
    SHARED
        .get_or_init(|| Broker::builder().fast_groups().never_killed().start())
        .await
}

/// A gateway before it, with the default settings, but that it has more patience with a Kafka on a busy
/// machine.
pub async fn gateway() -> &'static Gateway {
    static SHARED: OnceCell<Gateway> = OnceCell::const_new();
    SHARED
        .get_or_init(|| async {
            Gateway::builder(&broker().await.bootstrap())
                .set("kafka.metadata_timeout_ms", "30000")
                .start()
                .await
        })
        .await
}

/// Writes the numbers of `range` as values to one partition.
pub async fn fill(gateway: &Gateway, topic: &str, partition: i32, range: Range<i64>) {
    for start in range.clone().step_by(1_000) {
        let end = (start + 1_000).min(range.end);
        let records: Vec<Value> = (start..end)
            .map(|n| json!({"value": n, "partition": partition}))
            .collect();
        write(gateway, topic, json!(records)).await;
    }
}

/// Writes records as the records API takes them.
pub async fn write(gateway: &Gateway, topic: &str, records: Value) {
    let url = gateway.url(&format!("/topics/{topic}/records"));
    let reply = http::post_json(&url, &records).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
}

/// Waits until the group has committed this.
pub async fn committed(plain: &KafkaClient, group: &str, topic: &str, partition: i32, offset: i64) {
    eventually(BOUND, async || {
        plain.committed(group, topic, partition).await == Some(offset)
    })
    .await;
}

/// How often the broker has given a group another epoch: how often it rebalanced.
pub fn epochs(broker: &Broker, group: &str) -> usize {
    let log = broker.node(1).log();
    let of_group = format!("[GroupId {group}]");
    log.lines()
        .filter(|line| line.contains(&of_group) && line.contains("Bumped group epoch to"))
        .count()
}

/// Waits until a subscription has as many partitions in all, and gives the place of each that came.
pub async fn assigned(client: &mut Client, count: usize) -> BTreeMap<(String, i64), Value> {
    let mut starts = BTreeMap::new();
    loop {
        let frame = client.until("assigned").await;
        for partition in frame["partitions"].as_array().unwrap() {
            starts.insert(place(partition), partition.clone());
        }
        if frame["assignment"].as_array().unwrap().len() == count {
            return starts;
        }
    }
}

/// The topic and partition of something that has both.
pub fn place(of: &Value) -> (String, i64) {
    let topic = of["topic"].as_str().unwrap().to_owned();
    (topic, of["partition"].as_i64().unwrap())
}

/// The partition and offset of something that has both.
pub fn spot(of: &Value) -> (i64, i64) {
    let number = |name: &str| of[name].as_i64().unwrap();
    (number("partition"), number("offset"))
}
