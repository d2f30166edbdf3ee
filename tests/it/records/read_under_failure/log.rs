//! What a real log has: compression, transactions, compaction, a truncated head, large records.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use serde_json::json;

use super::{Walk, number, numbers, write, writer};
use crate::streams::{Stream, place};
use crate::support::broker::Broker;
use crate::support::gateway::Gateway;
use crate::support::http::get;
use crate::support::kafka_client::{Isolation, OutgoingRecord};
use crate::support::ws::Client;
use crate::support::{eventually, kafka, topic};
use crate::ws::follow;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_compression_is_read() {
    let gateway = Gateway::start(&kafka().await.bootstrap()).await;
    let plain = kafka().await.plain();
    let topic = topic("compressed");
    plain.create_topic(&topic, 2, &[]).await;
    let mut first = 0;
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        let settings = [("compression.type", codec), ("linger.ms", "20")];
        let producer = writer(kafka().await, &settings);
        for partition in 0..2 {
            write(&producer, &topic, partition, &numbers(first..first + 500)).await;
            first += 500;
        }
    }

    // So that pages end in the middle of batches.
    let mut walk = Walk::new(&gateway, &topic, 333);
    walk.finish().await;
    assert_eq!(walk.records.len(), 5000);
    walk.check(&plain, &topic).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn aborted_transactions_are_passed_over() {
    let gateway = Gateway::start(&kafka().await.bootstrap()).await;
    let plain = kafka().await.plain();
    let topic = topic("aborted");
    plain.create_topic(&topic, 2, &[]).await;
    for round in 0..6 {
        let transaction = plain.transaction(&format!("{topic}-{}", round % 2)).await;
        for n in 0..7 {
            let value = format!("{round}{n}");
            transaction.produce(number(&topic, n % 2, &value)).await;
        }
        if round % 2 == 0 {
            transaction.abort().await;
        } else {
            transaction.commit().await;
        }
        // Some outside of transactions, so that pages end beside markers in every way.
        for n in 0..round {
            plain
                .produce(number(&topic, n % 2, &format!("9{round}{n}")))
                .await;
        }
    }
    // And the last thing in the log is an abort.
    let transaction = plain.transaction(&topic).await;
    let (_, last) = transaction.produce(number(&topic, 0, "77")).await;
    transaction.abort().await;
    // Its marker comes after the answer, as those before it did.
    eventually(Duration::from_secs(60), async || {
        let (_, end) = plain.watermarks(&topic, 0).await;
        end == last + 2 && plain.consume_all(&topic).await.len() == 3 * 7 + 15
    })
    .await;

    for limit in [1, 2, 3, 5, 100] {
        let mut walk = Walk::new(&gateway, &topic, limit);
        let began = Instant::now();
        walk.finish().await;
        assert!(
            began.elapsed() < Duration::from_secs(120),
            "{:?}",
            began.elapsed()
        );
        walk.check(&plain, &topic).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_open_transaction_is_the_end_until_it_is_decided() {
    let gateway = Gateway::start(&kafka().await.bootstrap()).await;
    let plain = kafka().await.plain();
    let topic = topic("open");
    plain.create_topic(&topic, 1, &[]).await;
    plain.produce(number(&topic, 0, "1")).await;
    let open = plain.transaction(&topic).await;
    open.produce(number(&topic, 0, "2")).await;
    plain.produce(number(&topic, 0, "3")).await;

    let mut walk = Walk::new(&gateway, &topic, 10);
    walk.finish().await;
    assert_eq!(walk.records.len(), 1, "{:?}", walk.records);
    // A wait for what is not decided ends in time.
    let began = Instant::now();
    assert_eq!(walk.page("&wait=1000").await, 0);
    assert!(began.elapsed() < Duration::from_secs(20));
    open.commit().await;
    walk.until(3).await;
    walk.check(&plain, &topic).await;
}

/// An offset behind an open transaction is in the log: whoever starts there waits for its record.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_may_start_behind_an_open_transaction() {
    let gateway = Gateway::start(&kafka().await.bootstrap()).await;
    let plain = kafka().await.plain();
    let topic = topic("behind-open");
    plain.create_topic(&topic, 1, &[]).await;
    plain.produce(number(&topic, 0, "1")).await;
    let open = plain.transaction(&topic).await;
    open.produce(number(&topic, 0, "2")).await;
    let (_, behind) = plain.produce(number(&topic, 0, "3")).await;

    let records = gateway.url(&format!("/topics/{topic}/records"));
    let page = get(&format!("{records}?from=0@{behind}")).await;
    assert_eq!(page.status, 200, "{}", page.text());
    assert_eq!(page.json()["records"], json!([]));
    let of_partition = gateway.url(&format!(
        "/topics/{topic}/partitions/0/records?offset={behind}&timeout=0"
    ));
    let page = get(&of_partition).await;
    assert_eq!(page.status, 200, "{}", page.text());
    assert_eq!(page.header("tidegate-next-offset"), behind.to_string());
    let beyond = get(&format!("{records}?from=0@{}", behind + 2)).await;
    assert_eq!(beyond.status, 400, "{}", beyond.text());
    let end = behind + 1;
    let says = format!("which is {end}");
    assert!(beyond.text().contains(&says), "{}", beyond.text());
    let of_partition = gateway.url(&format!(
        "/topics/{topic}/partitions/0/records?offset={}&timeout=0",
        behind + 2
    ));
    let beyond = get(&of_partition).await;
    assert_eq!(beyond.status, 404, "{}", beyond.text());
    let says = format!("ends at offset {end}");
    assert!(beyond.text().contains(&says), "{}", beyond.text());

    let mut stream = Stream::open(&format!("{records}?from=0@{behind}"), None).await;
    let ready = stream.named("ready").await;
    assert!(!ready.data.contains("beyond the end"), "{}", ready.data);
    let mut session = Client::welcomed(&gateway).await;
    let from = json!({"from": format!("{topic}:0@{behind}")});
    follow(&mut session, &topic, from).await;
    open.commit().await;
    assert_eq!(place(&stream.named("").await).2, behind);
    let frame = session.until("records").await;
    assert_eq!(frame["records"][0]["offset"], behind, "{frame}");
}

/// More bytes of nothing than one fetch brings, however few records are asked for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: megabytes of aborted records are written one transaction at a time"]
async fn a_long_run_of_aborted_records_is_passed_over_quickly() {
    let broker = kafka().await;
    let gateway = Gateway::start(&broker.bootstrap()).await;
    let plain = broker.plain();
    let topic = topic("run");
    plain.create_topic(&topic, 1, &[]).await;
    plain.produce(number(&topic, 0, "1")).await;
    let large = "7".repeat(100_000);
    for n in 0..4 {
        let transaction = plain.transaction(&format!("{topic}-{n}")).await;
        for _ in 0..40 {
            transaction.produce(number(&topic, 0, &large)).await;
        }
        transaction.abort().await;
    }
    plain.produce(number(&topic, 0, "2")).await;

    for limit in [1, 100] {
        let mut walk = Walk::new(&gateway, &topic, limit);
        let began = Instant::now();
        walk.finish().await;
        println!("16 MB of aborted records in {:?}", began.elapsed());
        assert!(began.elapsed() < Duration::from_secs(60));
        walk.check(&plain, &topic).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_larger_than_a_fetch_are_read() {
    let broker = kafka().await;
    let gateway = Gateway::builder(&broker.bootstrap())
        .set("kafka.consumer.max.partition.fetch.bytes", "1000")
        .set("kafka.consumer.fetch.max.bytes", "2000")
        .start()
        .await;
    let plain = broker.plain();
    let topic = topic("large");
    let limit = [("max.message.bytes", "6000000")];
    plain.create_topic(&topic, 3, &limit).await;
    let producer = writer(broker, &[("message.max.bytes", "6000000")]);
    for n in 0..12_u32 {
        let size = if n % 3 == 0 {
            10
        } else {
            400_000 * (n as usize)
        };
        let value = format!("\"{}\"", "x".repeat(size));
        write(&producer, &topic, i32::try_from(n % 3).unwrap(), &[value]).await;
    }

    for limit in [1, 2, 100] {
        let mut walk = Walk::new(&gateway, &topic, limit);
        walk.finish().await;
        walk.check(&plain, &topic).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: the log cleaner must have run"]
async fn gaps_of_a_compacted_topic_are_passed_over() {
    let broker = Broker::builder()
        .property("log.cleaner.backoff.ms", "200")
        .start()
        .await;
    let gateway = Gateway::start(&broker.bootstrap()).await;
    let plain = broker.plain();
    plain
        .create_topic(
            "compacted",
            1,
            &[
                ("cleanup.policy", "compact"),
                ("segment.bytes", "1048576"),
                ("segment.ms", "500"),
                ("min.cleanable.dirty.ratio", "0"),
                ("min.compaction.lag.ms", "0"),
                ("max.compaction.lag.ms", "1000"),
                ("delete.retention.ms", "0"),
            ],
        )
        .await;
    let keyed = |n: u32, key: u32| {
        let value: &'static [u8] = n.to_string().leak().as_bytes();
        OutgoingRecord {
            topic: "compacted",
            key: Some(key.to_string().leak().as_bytes()),
            value: Some(value),
            ..OutgoingRecord::default()
        }
    };
    let mut written = 0;
    for _ in 0..4 {
        for n in 0..100_u32 {
            // A few keys stay, most are written over; whole batches become empty.
            let key = if n % 20 == 0 { written } else { n % 7 };
            plain.produce(keyed(written, key)).await;
            written += 1;
        }
        // A new segment begins when the active one is older than segment.ms and a record comes.
        tokio::time::sleep(Duration::from_millis(700)).await;
    }
    eventually(Duration::from_secs(180), async || {
        tokio::time::sleep(Duration::from_millis(600)).await;
        plain.produce(keyed(1_000_000, 1_000_000)).await;
        plain.consume_all("compacted").await.len() < 100
    })
    .await;
    let before = plain.consume_all("compacted").await;
    let gaps = before
        .windows(2)
        .filter(|two| two[1].offset > two[0].offset + 1);
    assert!(gaps.count() > 5, "hardly a gap: {} records", before.len());

    for limit in [1, 2, 7, 100] {
        // The cleaner may run meanwhile; what it left is what counts.
        let mut walk = Walk::new(&gateway, "compacted", limit);
        walk.finish().await;
        let after = plain.consume_all("compacted").await;
        let came: HashSet<i64> = walk.records.iter().map(|(_, offset, _)| *offset).collect();
        assert_eq!(came.len(), walk.records.len(), "a record came twice");
        for record in &after {
            assert!(
                came.contains(&record.offset),
                "{} was skipped",
                record.offset
            );
        }
        println!(
            "{} records of {written} on {} pages",
            came.len(),
            walk.pages
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_truncated_head_is_gone_and_says_where_the_log_starts() {
    let broker = kafka().await;
    let gateway = Gateway::start(&broker.bootstrap()).await;
    let plain = broker.plain();
    let topic = topic("truncated");
    plain.create_topic(&topic, 2, &[]).await;
    let producer = writer(broker, &[]);
    write(&producer, &topic, 0, &numbers(0..50)).await;
    write(&producer, &topic, 1, &numbers(50..100)).await;
    plain.delete_records(&topic, 0, 10).await;

    let mut walk = Walk::new(&gateway, &topic, 5);
    walk.until(5).await;
    let old = walk.next.clone();
    plain.delete_records(&topic, 0, 40).await;
    plain.delete_records(&topic, 1, 30).await;

    let reply = walk.ask("").await;
    assert_eq!(reply.status, 410, "{reply:?}");
    let body = reply.json();
    assert_eq!(
        body["earliest"],
        serde_json::json!({"0": 40, "1": 30}),
        "{body}"
    );
    assert_eq!(walk.next, old);
    let mut walk = Walk::new(&gateway, &topic, 7);
    walk.finish().await;
    walk.check(&plain, &topic).await;
    assert_eq!(walk.records.len(), 30);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_committed_is_read_only_when_asked_for() {
    let broker = kafka().await;
    let gateway = Gateway::builder(&broker.bootstrap())
        .set("kafka.consumer.isolation.level", "read_uncommitted")
        .start()
        .await;
    let plain = broker.plain();
    let topic = topic("uncommitted");
    plain.create_topic(&topic, 1, &[]).await;
    let transaction = plain.transaction(&topic).await;
    transaction.produce(number(&topic, 0, "1")).await;
    transaction.abort().await;
    plain.produce(number(&topic, 0, "2")).await;
    let mut walk = Walk::new(&gateway, &topic, 10);
    walk.finish().await;
    let all = plain
        .consume_all_as(&topic, Isolation::ReadUncommitted)
        .await;
    walk.check_with(&all);
}
