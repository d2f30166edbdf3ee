//! WebSocket sessions, on a real Kafka. What several of these files share is here.
//!
//! - `clients`: the clients of docs/websocket.md, on Node.js and Python
//! - `dead_letters`: records that are given up
//! - `delivery`: what is delivered, and what may be committed of it
//! - `group_positions`: the position of a group from its first session on
//! - `groups`: sessions as members of consumer groups
//! - `python_member`: a group that a session shares with a Python client of Kafka
//! - `rebalance`: members come, go, die and take over
//! - `redelivery`: records that come again
//! - `robustness`: clients that send nonsense, read nothing, write too much or vanish
//! - `seek`: where a subscription starts, and where it is told to go on
//! - `static_members`: a session that comes again with the same instance id
//! - `tail_failures`: cuts, slow sockets, and topics, rights and brokers that go
//! - `tail_flow`: how much of a tail goes out
//! - `tail_keys`: tails that want one key
//! - `tails`: subscriptions without a group: where they begin and what they show
//! - `token_expiry`: tokens that expire, and rights that change, while a session goes on

mod clients;
mod dead_letters;
mod delivery;
mod group_positions;
mod groups;
mod python_member;
mod rebalance;
mod redelivery;
mod robustness;
mod seek;
mod static_members;
mod tail_failures;
mod tail_flow;
mod tail_keys;
mod tails;
mod token_expiry;

use serde_json::{Value, json};

use crate::support::kafka_client::{KafkaClient, OutgoingRecord};
pub use crate::support::topic_of;
use crate::support::ws::Client;

pub async fn write(plain: &KafkaClient, topic: &str, partition: i32, value: &str) -> i64 {
    let record = OutgoingRecord {
        topic,
        partition: Some(partition),
        key: Some(b"k"),
        value: Some(value.as_bytes()),
        ..OutgoingRecord::default()
    };
    plain.produce(record).await.1
}

/// Subscribes, and gives back the answer.
pub async fn tail(client: &mut Client, sub: &str, topic: &str, mut options: Value) -> Value {
    let frame = options.as_object_mut().unwrap();
    frame.insert("type".to_owned(), "subscribe".into());
    frame.insert("id".to_owned(), json!(format!("tail {sub}")));
    frame.insert("sub".to_owned(), sub.into());
    frame.entry("topics").or_insert_with(|| json!([topic]));
    client.ask(options).await
}

/// The same, which must be taken.
pub async fn follow(client: &mut Client, topic: &str, options: Value) -> Value {
    let answer = tail(client, "t", topic, options).await;
    assert_eq!(answer["type"], "subscribed", "{answer}");
    answer
}

fn values(records: &[Value]) -> Vec<Value> {
    records.iter().map(|r| r["value"].clone()).collect()
}

/// A topic with the numbers from 0 to 9 in partition 0.
async fn digits(plain: &KafkaClient) -> String {
    let name = topic_of(plain, "tail-digits", 1).await;
    for n in 0..10 {
        write(plain, &name, 0, &n.to_string()).await;
    }
    name
}
