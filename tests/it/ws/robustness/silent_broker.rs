//! One broker of several that is silent, under a member of a group.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::support::broker::Broker;
use crate::support::gateway::Gateway;
use crate::support::kafka_client::{KafkaClient, OutgoingRecord};
use crate::support::ws::Client;
use crate::support::{assert_readable, topic};

/// How long records are written meanwhile.
const WHILE: Duration = Duration::from_secs(25);
/// Longest way of a record, also of the first ones after the broker has fallen silent.
const BOUND: Duration = Duration::from_secs(60);
/// Half of what a broker holds a fetch for that finds nothing: the median way of a record that waits for
/// no such fetch is far below.
const PROMPT: Duration = Duration::from_millis(250);

async fn write(plain: &KafkaClient, topic: &str, partition: i32) -> (i64, i64) {
    let record = OutgoingRecord {
        topic,
        partition: Some(partition),
        value: Some(b"1"),
        ..OutgoingRecord::default()
    };
    let (partition, offset) = plain.produce(record).await;
    (partition.into(), offset)
}

fn place(record: &Value) -> (i64, i64) {
    let number = |name: &str| record[name].as_i64().unwrap();
    (number("partition"), number("offset"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: a broker is frozen for half a minute"]
async fn a_member_goes_on_with_other_brokers_partitions_while_one_is_silent() {
    // With the usual session timeouts: a poll that waits for the silent broker may be longer than short
    // ones.
    let kafka = Broker::builder().nodes(3).start().await;
    let plain = kafka.plain();
    let name = topic("ws-silent");
    // Not the one that coordinates groups: without it nobody is a member.
    plain.create_topic_on(&name, &[1, 2, 3], &[]).await;
    let gateway = Gateway::start(&kafka.bootstrap()).await;
    let mut client = Client::welcomed(&gateway).await;
    let options = json!({"ack": "auto", "offset_reset": "earliest"});
    client.subscribe(&name, &name, options).await;
    let coordinator = plain.leader("__consumer_offsets", 0).await.unwrap();
    let silent = if coordinator == 3 { 2 } else { 3 };
    let others: Vec<i32> = (0..3).filter(|partition| partition + 1 != silent).collect();

    let mut seen = BTreeSet::new();
    let mut healthy = Vec::new();
    for n in 0..30 {
        let begun = Instant::now();
        let written = write(&plain, &name, n % 3).await;
        let records = client.records(1).await;
        assert_eq!(place(&records[0]), written);
        assert!(seen.insert(written));
        healthy.push(begun.elapsed());
    }
    healthy.sort_unstable();
    println!("all well: p50 {:?}, longest {:?}", healthy[15], healthy[29]);
    assert!(healthy[15] < PROMPT);

    kafka.node(silent.unsigned_abs()).pause();
    let frozen = Instant::now();
    let mut times = Vec::new();
    for n in 0.. {
        if frozen.elapsed() >= WHILE {
            break;
        }
        let begun = Instant::now();
        let written = write(&plain, &name, others[n % 2]).await;
        while !seen.contains(&written) {
            let left = BOUND.saturating_sub(begun.elapsed());
            let frame = client.next_within(left).await.expect("records in time");
            for record in frame["records"].as_array().into_iter().flatten() {
                assert!(seen.insert(place(record)), "{record} comes again");
            }
        }
        times.push(begun.elapsed());
        sleep(Duration::from_millis(50)).await;
    }
    times.sort_unstable();
    let (count, at) = (times.len(), |percent| {
        times[(times.len() - 1) * percent / 100]
    });
    println!(
        "one silent: {count}, p50 {:?}, p99 {:?}, longest {:?}",
        at(50),
        at(99),
        at(100)
    );
    // Were they to wait for the silent one, each would take seconds.
    assert!(at(90) < Duration::from_secs(1));

    kafka.node(silent.unsigned_abs()).resume();
    let written = write(&plain, &name, silent - 1).await;
    let begun = Instant::now();
    while !seen.contains(&written) {
        let left = (BOUND * 2).saturating_sub(begun.elapsed());
        let frame = client.next_within(left).await.expect("records in time");
        for record in frame["records"].as_array().into_iter().flatten() {
            assert!(seen.insert(place(record)), "{record} comes again");
        }
    }
    println!("back after {:?}", begun.elapsed());
    assert_readable(&gateway.stderr());
    assert!(gateway.terminate().await.status.success());
}
