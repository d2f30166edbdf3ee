//! What a real log does to a read: transactions, compaction, retention, and records larger than any limit.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;

use super::{PROMPT, TestTopic, by_partition, error_of, places, says};
use crate::support::broker::Broker;
use crate::support::gateway::Gateway;
use crate::support::http;
use crate::support::kafka_client::{OutgoingRecord, StoredRecord};
use crate::support::{eventually, kafka};

async fn transact(topic: &TestTopic, commit: bool, values: &[&str]) {
    let transaction = topic.plain.transaction(&topic.name).await;
    for value in values {
        let record = OutgoingRecord {
            topic: &topic.name,
            value: Some(value.as_bytes()),
            ..OutgoingRecord::default()
        };
        transaction.produce(record).await;
    }
    if commit {
        transaction.commit().await;
    } else {
        transaction.abort().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_aborted_is_left_out_and_passed_over() {
    let topic = TestTopic::open("transactions", 1, &[]).await;
    // Offsets: 0-1 aborted, 2 marker, 3-4 committed, 5 marker, 6-7 aborted, 8 marker.
    transact(&topic, false, &["1", "2"]).await;
    transact(&topic, true, &["3", "4"]).await;
    transact(&topic, false, &["5", "6"]).await;
    // What lies before an open transaction's end is not readable yet; a position there is beyond
    // the end.
    eventually(Duration::from_secs(60), async || {
        topic.reply("from=0@9").await.status == 200
    })
    .await;

    let started = Instant::now();
    let page = topic.page("from=earliest").await;
    assert_eq!(page.places(), [(0, 3), (0, 4)]);
    assert_eq!(page.values(), [&json!(3), &json!(4)]);
    // A page that found nothing but a marker, or but aborted records, ends at once and moves on.
    let end = topic.page("from=latest").await.next;
    assert_eq!(page.next, end);
    for offset in [5, 6, 8] {
        let page = topic.page(&format!("from=0@{offset}")).await;
        assert!(page.records.is_empty(), "{offset}: {:?}", page.records);
        assert_eq!(page.next, end, "{offset}");
    }
    assert_eq!(topic.page("from=earliest&limit=1").await.places(), [(0, 3)]);
    let records = topic.walk("earliest", "limit=1").await;
    assert_eq!(places(&records), [(0, 3), (0, 4)]);
    assert!(started.elapsed() < PROMPT, "{:?}", started.elapsed());

    for (offset, what) in [
        (0, "aborted"),
        (2, "marks a transaction"),
        (8, "marks a transaction"),
    ] {
        let reply = http::get(&topic.record(0, offset)).await;
        says(&error_of(&reply, 404, "offset"), what);
    }
    let started = Instant::now();
    let page = topic.page(&format!("from={end}&wait=500")).await;
    assert!(page.records.is_empty());
    assert!(started.elapsed() < PROMPT, "{:?}", started.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_committed_yet_is_waited_for() {
    let topic = TestTopic::open("open-transaction", 1, &[]).await;
    let record = OutgoingRecord {
        topic: &topic.name,
        value: Some(b"1"),
        ..OutgoingRecord::default()
    };
    let transaction = topic.plain.transaction(&topic.name).await;
    transaction.produce(record).await;
    topic
        .plain
        .produce(OutgoingRecord {
            value: Some(b"2"),
            ..record
        })
        .await;

    let page = topic.page("from=earliest").await;
    assert!(page.records.is_empty());
    let query = format!("from={}&wait=25000", page.next);
    let started = Instant::now();
    let (page, ()) = tokio::join!(topic.page(&query), transaction.commit());
    assert!(!page.records.is_empty());
    let mut all = page.records;
    all.extend(topic.walk(&page.next, "").await);
    assert_eq!(places(&all), [(0, 0), (0, 1)]);
    assert!(started.elapsed() < PROMPT, "{:?}", started.elapsed());
}

/// Aborts move the position; the wait has its time all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wait_is_not_made_longer_by_aborted_transactions() {
    let topic = TestTopic::open("aborts", 1, &[]).await;
    let next = topic.page("").await.next;
    let stop = Arc::new(AtomicBool::new(false));
    let aborting = tokio::spawn({
        let (topic, stop) = (topic.clone(), Arc::clone(&stop));
        async move {
            while !stop.load(Ordering::SeqCst) {
                transact(&topic, false, &["x"]).await;
            }
        }
    });

    let started = Instant::now();
    let page = topic.page(&format!("from={next}&wait=2000")).await;
    let elapsed = started.elapsed();
    stop.store(true, Ordering::SeqCst);
    aborting.await.unwrap();

    assert!(page.records.is_empty(), "{:?}", page.records);
    assert!(elapsed < PROMPT, "{elapsed:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_compacted_topic_is_read_over_its_gaps() {
    // A cleaner that does not sleep for fifteen seconds.
    let broker = Broker::builder()
        .property("log.cleaner.backoff.ms", "100")
        .start()
        .await;
    let gateway = Gateway::start(&broker.bootstrap()).await;
    let topic = TestTopic {
        name: "compacted".to_owned(),
        gateway: gateway.url(""),
        plain: broker.plain(),
    };
    let configs = [
        ("cleanup.policy", "compact"),
        ("segment.ms", "100"),
        ("min.cleanable.dirty.ratio", "0.01"),
    ];
    topic.plain.create_topic(&topic.name, 1, &configs).await;
    for n in 0..20 {
        topic
            .write(
                &json!([{"key": format!("k{}", n % 4), "value": n}, {"key": "same", "value": n}]),
            )
            .await;
    }
    // Each further record may begin a new segment, and the one before can then be cleaned.
    eventually(Duration::from_secs(180), async || {
        topic.write(&json!({"key": "tick", "value": 0})).await;
        let records = topic.plain.consume_all(&topic.name).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        records.first().is_some_and(|first| first.offset > 10)
    })
    .await;

    // Cleaning goes on meanwhile, so a walk counts when the topic looked the same before and after.
    let in_kafka = async || -> Vec<(i64, i64)> {
        let records = topic.plain.consume_all(&topic.name).await;
        let place = |r: &StoredRecord| (i64::from(r.partition), r.offset);
        records.iter().map(place).collect()
    };
    let end = Instant::now() + Duration::from_secs(180);
    let mut expected = in_kafka().await;
    for limit in [1, 3, 100] {
        loop {
            let walked = topic.walk("earliest", &format!("limit={limit}")).await;
            let before = std::mem::replace(&mut expected, in_kafka().await);
            if before == expected {
                assert_eq!(places(&walked), expected, "limit={limit}");
                break;
            }
            assert!(Instant::now() < end, "the cleaner does not come to rest");
        }
    }
    assert!(!expected.contains(&(0, 0)));
    let error = error_of(&http::get(&topic.record(0, 0)).await, 404, "offset");
    says(&error, "compacted away");
    eventually(Duration::from_secs(60), async || {
        let before = in_kafka().await;
        let page = topic.page("from=0@0&limit=1").await;
        let last = topic.page("from=-3").await;
        let same = before == in_kafka().await;
        assert!(!same || page.places() == before[..1], "{before:?}");
        let from = before.len().saturating_sub(3);
        assert!(!same || last.places() == before[from..], "{before:?}");
        same
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_deleted_is_gone_and_the_answer_says_what_is_left() {
    let topic = TestTopic::open("deleted", 2, &[]).await;
    topic.fill(&[10, 5]).await;
    let start = topic.page("from=earliest&limit=1&partitions=0").await.next;
    topic.plain.delete_records(&topic.name, 0, 4).await;

    for query in ["from=0@3,1@2".to_owned(), "from=0@0".to_owned()] {
        let error = error_of(&topic.reply(&query).await, 410, "from");
        assert_eq!(error["error_code"], 410);
        assert_eq!(error["earliest"], json!({"0": 4, "1": 0}), "{query}");
        says(&error, "from=earliest");
        says(&error, "starts at 4");
    }
    let error = error_of(
        &topic.reply(&format!("from={start}&partitions=0")).await,
        410,
        "from",
    );
    assert_eq!(error["earliest"], json!({"0": 4}));

    let records = topic.walk("earliest", "").await;
    assert_eq!(
        by_partition(&records),
        BTreeMap::from([(0, (4..10).collect()), (1, (0..5).collect())])
    );
    assert_eq!(topic.page("from=0@4,1@5").await.records.len(), 6);
    assert_eq!(topic.page("from=-100&partitions=0").await.records.len(), 6);

    let reply = http::get(&topic.record(0, 3)).await;
    assert_eq!(reply.status, 410);
    let error = reply.json();
    assert_eq!(error["earliest"], json!({"0": 4}));
    assert_eq!(error["field"], "offset", "{error}");
    says(&error, "starts at 4");
    // The path has no such parameter.
    assert!(!reply.text().contains("from"), "{error}");
    assert_eq!(http::get(&topic.record(0, 4)).await.json()["value"], 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_larger_than_everything_comes_all_the_same() {
    let topic = TestTopic::open("large", 1, &[]).await;
    // Larger than what is asked of a partition at once, and than a page of the second gateway.
    let large = "x".repeat(900_000);
    for value in ["a", &large, "b", &large, &large] {
        topic.write(&json!({"value": value})).await;
    }
    let records = topic.walk("earliest", "limit=2").await;
    assert_eq!(places(&records), [(0, 0), (0, 1), (0, 2), (0, 3), (0, 4)]);
    assert_eq!(records[1]["value"], large);
    assert_eq!(http::get(&topic.record(0, 3)).await.json()["value"], large);

    let small = Gateway::builder(&kafka().await.bootstrap())
        .set("limits.record_bytes", "1000")
        .set("http.max_body_bytes", "5000")
        .set("kafka.consumer.\"max.partition.fetch.bytes\"", "2000")
        .set("kafka.consumer.\"fetch.max.bytes\"", "2000")
        .start()
        .await;
    let topic = topic.through(&small);
    let pages = [
        vec![(0, 0)],
        vec![(0, 1)],
        vec![(0, 2)],
        vec![(0, 3)],
        vec![(0, 4)],
        vec![],
    ];
    let mut from = "earliest".to_owned();
    for expected in pages {
        let page = topic.page(&format!("from={from}")).await;
        assert_eq!(page.places(), expected);
        from = page.next;
    }
    assert_eq!(http::get(&topic.record(0, 4)).await.json()["value"], large);
}
