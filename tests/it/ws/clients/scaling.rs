//! Several copies of the client of docs/websocket.md share a group: more are started while records are
//! handled, and some are stopped by SIGTERM. Every record is handled once.

use std::collections::BTreeMap;
use std::process::Command;

use serde_json::Value;

use super::{BOUND, broker, whole_client};
use crate::support::doc_snippets::put;
use crate::support::gateway::Gateway;
use crate::support::kafka_client::{KafkaClient, OutgoingRecord};
use crate::support::process::{Signal, Supervised};
use crate::support::{blocking, eventually, metric, topic};

const ORDERS: i64 = 1_200;
const PARTITIONS: i32 = 6;

/// How often each order has its invoice.
async fn invoiced(plain: &KafkaClient, invoices: &str) -> BTreeMap<i64, u32> {
    let mut times = BTreeMap::new();
    for record in plain.consume_all(invoices).await {
        let invoice: Value = serde_json::from_str(record.text().unwrap()).unwrap();
        *times.entry(invoice["order"].as_i64().unwrap()).or_default() += 1;
    }
    times
}

/// `slow` is what is written in the client, and what is put in its place so that a record takes 20 ms.
pub async fn scale(language: &str, name: &str, slow: (&str, &str), program: Command) {
    let plain = broker().await.plain();
    let gateway = Gateway::start(&broker().await.bootstrap()).await;
    let orders = topic("ws-copies");
    let (invoices, group) = (format!("{orders}-invoices"), format!("{orders}-billing"));
    plain.create_topic(&orders, PARTITIONS, &[]).await;
    plain.create_topic(&invoices, 1, &[]).await;
    for id in 0..ORDERS {
        let value = format!("{{\"id\":{id},\"total\":{id}}}");
        let record = OutgoingRecord {
            topic: &orders,
            partition: Some(i32::try_from(id).unwrap() % PARTITIONS),
            value: Some(value.as_bytes()),
            ..OutgoingRecord::default()
        };
        plain.produce(record).await;
    }
    let address = gateway.url("").replacen("http://", "", 1);
    // The record in hand has this long to be done, on a busy machine too.
    let more = [("revoke_grace_ms", "5000")];
    let text = whole_client(language, &address, &group, &orders, &invoices, &more);
    let text = put(&text, slow.0, slow.1);
    let start = || {
        let mut copy = Supervised::new("tidegate-client-");
        std::fs::write(copy.folder().join(name), &text).unwrap();
        let mut command = Command::new(program.get_program());
        command
            .args(program.get_args())
            .arg(copy.folder().join(name));
        copy.spawn(&mut command);
        copy
    };
    let until = async |count: usize| {
        eventually(BOUND, async || {
            invoiced(&plain, &invoices).await.len() >= count
        })
        .await;
    };
    let stopped = async |mut copy: Supervised| {
        copy.signal(Signal::TERM);
        let (status, stdout, stderr) = blocking(move || {
            let status = copy.wait(BOUND);
            (status, copy.stdout(), copy.stderr())
        })
        .await;
        assert!(
            status.is_some_and(|status| status.success()),
            "{status:?}: {stdout}{stderr}"
        );
        assert!(stdout.contains("ended 1000 bye"), "{stdout}{stderr}");
    };

    let first = start();
    until(20).await;
    let (second, third) = (start(), start());
    // They have to be there before one of them can be told to stop.
    eventually(BOUND, async || {
        metric(&gateway, "websocket_subscriptions").await >= 3.0
    })
    .await;
    until(700).await;
    stopped(second).await;
    until(usize::try_from(ORDERS).unwrap()).await;
    stopped(first).await;
    stopped(third).await;

    let twice: Vec<i64> = invoiced(&plain, &invoices)
        .await
        .into_iter()
        .filter_map(|(order, times)| (times > 1).then_some(order))
        .collect();
    assert!(twice.is_empty(), "handled twice: {twice:?}");
    for partition in 0..PARTITIONS {
        let all = ORDERS / i64::from(PARTITIONS);
        assert_eq!(plain.committed(&group, &orders, partition).await, Some(all));
    }
}
