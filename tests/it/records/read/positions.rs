//! Where a read starts, where the next one goes on, and positions that are not good any more.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{PROMPT, TestTopic, by_partition, error_of, says};
use crate::support::eventually;
use crate::support::kafka_client::OutgoingRecord;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_starts_where_from_says() {
    let topic = TestTopic::open("from", 2, &[]).await;
    // Timestamps in steps of ten seconds, the same in both partitions.
    let start = 1_700_000_000_000_i64;
    let records: Vec<Value> = (0..10_i64)
        .map(|n| json!({"partition": n % 2, "value": n / 2, "timestamp": start + n / 2 * 10_000}))
        .collect();
    topic.write(&Value::from(records)).await;
    let offsets =
        async |from: &str| by_partition(&topic.page(&format!("from={from}")).await.records);
    let both = |offsets: &[i64]| BTreeMap::from([(0, offsets.to_vec()), (1, offsets.to_vec())]);

    assert_eq!(offsets("earliest").await, both(&[0, 1, 2, 3, 4]));
    assert_eq!(offsets("latest").await, BTreeMap::new());
    assert_eq!(by_partition(&topic.page("").await.records), BTreeMap::new());
    assert_eq!(offsets("-2").await, both(&[3, 4]));
    assert_eq!(offsets("-0").await, BTreeMap::new());
    assert_eq!(offsets("-100").await, both(&[0, 1, 2, 3, 4]));
    assert_eq!(offsets("0").await, both(&[0, 1, 2, 3, 4]));
    assert_eq!(
        offsets(&(start + 20_000).to_string()).await,
        both(&[2, 3, 4])
    );
    assert_eq!(offsets(&(start + 20_001).to_string()).await, both(&[3, 4]));
    assert_eq!(offsets("2023-11-14T22:13:40Z").await, both(&[2, 3, 4]));
    assert_eq!(
        offsets("2023-11-14T23:13:40.001%2B01:00").await,
        both(&[3, 4])
    );
    assert_eq!(offsets("2099-01-01T00:00:00Z").await, BTreeMap::new());

    let name = &topic.name;
    let written_out = offsets(&format!("{name}:0@4,{name}:1@2")).await;
    assert_eq!(
        written_out,
        BTreeMap::from([(0, vec![4]), (1, vec![2, 3, 4])])
    );
    // A partition that is not named is read from its start, as one that came later.
    let written_out = offsets(&format!("{name}:0@5")).await;
    assert_eq!(written_out, BTreeMap::from([(1, vec![0, 1, 2, 3, 4])]));
    assert_eq!(offsets("0@5,1@5").await, BTreeMap::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_time_after_the_last_record_waits_for_the_next_one() {
    let topic = TestTopic::open("from-future", 1, &[]).await;
    topic.fill(&[3]).await;
    let page = topic.page("from=2099-01-01T00:00:00Z").await;
    assert!(page.records.is_empty());
    topic.fill(&[1]).await;
    assert_eq!(
        topic.page(&format!("from={}", page.next)).await.places(),
        [(0, 3)]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn next_never_skips_or_repeats() {
    let topic = TestTopic::open("walk", 5, &[]).await;
    // One partition is empty, and one longer than a page.
    let counts = [700, 3, 0, 251, 40];
    topic.fill(&counts).await;
    let expected: BTreeMap<i64, Vec<i64>> = (0..)
        .zip(counts)
        .filter(|(_, count)| *count > 0)
        .map(|(partition, count)| (partition, (0..count).collect()))
        .collect();

    for limit in [13, 100, 993, 994, 10_000] {
        let records = topic.walk("earliest", &format!("limit={limit}")).await;
        assert_eq!(by_partition(&records), expected, "limit={limit}");
        for record in &records {
            assert_eq!(record["value"], record["offset"]);
        }
    }
    // The default, and one record at a time.
    assert_eq!(topic.page("from=earliest").await.records.len(), 100);
    let records = topic.walk("-4", "limit=1").await;
    let last: BTreeMap<i64, Vec<i64>> = expected
        .iter()
        .map(|(partition, offsets)| {
            (
                *partition,
                offsets[offsets.len().saturating_sub(4)..].to_vec(),
            )
        })
        .collect();
    assert_eq!(by_partition(&records), last);
    assert_eq!(records.len(), 15);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn next_never_skips_or_repeats_while_others_write() {
    const BATCHES: usize = 40;
    const BATCH: usize = 25;
    let topic = TestTopic::open("walk-live", 4, &[]).await;
    let done = Arc::new(AtomicBool::new(false));
    let writer = tokio::spawn({
        let (topic, done) = (topic.clone(), Arc::clone(&done));
        async move {
            for _ in 0..BATCHES {
                // Without a key, wherever they go.
                topic
                    .write(&Value::from(vec![json!({"value": "x"}); BATCH]))
                    .await;
            }
            done.store(true, Ordering::SeqCst);
        }
    });

    let end = Instant::now() + Duration::from_secs(180);
    let mut from = "earliest".to_owned();
    let mut all = Vec::new();
    for limit in [1, 7, 50, 3].iter().cycle() {
        let done = done.load(Ordering::SeqCst);
        let page = topic
            .page(&format!("from={from}&limit={limit}&wait=200"))
            .await;
        from = page.next;
        if page.records.is_empty() && done {
            break;
        }
        all.extend(page.records);
        assert!(Instant::now() < end, "{} records read", all.len());
    }
    writer.await.unwrap();

    assert_eq!(all.len(), BATCHES * BATCH);
    for (partition, offsets) in by_partition(&all) {
        let whole: Vec<i64> = (0..).take(offsets.len()).collect();
        assert_eq!(offsets, whole, "partition {partition}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_the_partitions_asked_for_are_read() {
    let topic = TestTopic::open("partitions", 4, &[]).await;
    topic.fill(&[2, 2, 2, 2]).await;

    for (asked, read) in [
        ("2", vec![2]),
        ("0,3", vec![0, 3]),
        ("3,0,0", vec![0, 3]),
        ("1-2", vec![1, 2]),
        ("0-1,3", vec![0, 1, 3]),
        ("0-3", vec![0, 1, 2, 3]),
    ] {
        let page = topic
            .page(&format!("from=earliest&partitions={asked}"))
            .await;
        let partitions: Vec<i64> = by_partition(&page.records).into_keys().collect();
        assert_eq!(partitions, read, "{asked}");
        let rest = topic
            .page(&format!("from={}&partitions={asked}", page.next))
            .await;
        assert!(rest.records.is_empty(), "{asked}");
    }
    let error = error_of(&topic.reply("partitions=0,4").await, 404, "partitions");
    assert_eq!(error["error_code"], 40402);
    says(&error, "0 to 3");
    for wrong in ["", "x", "-1", "2-1", "0,,1", "99999999999"] {
        let error = error_of(
            &topic.reply(&format!("partitions={wrong}")).await,
            400,
            "partitions",
        );
        says(&error, "0,2-3");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_position_that_fits_nothing_is_refused() {
    let topic = TestTopic::open("positions", 2, &[]).await;
    let other = TestTopic::open("positions-other", 2, &[]).await;
    topic.fill(&[3, 3]).await;
    other.fill(&[3, 3]).await;
    let foreign = other.page("from=earliest").await.next;
    let own = topic.page("from=earliest").await.next;

    let cases = [
        ("0@4".to_owned(), "beyond the end"),
        (format!("{}:1@99", topic.name), "beyond the end"),
        (foreign, "another cluster or to other topics"),
        (format!("{}:0@0", other.name), &other.name),
        ("7@0".to_owned(), "no partition 7"),
        ("0@-1".to_owned(), "0 or more"),
        ("0@0,0@1".to_owned(), "named twice"),
        ("0@x".to_owned(), "earliest"),
        ("yesterday".to_owned(), "earliest"),
        ("".to_owned(), "earliest"),
        ("!!".to_owned(), "earliest"),
        ("-x".to_owned(), "the last N"),
        ("2023-13-45".to_owned(), "ISO 8601"),
        (own[..own.len() - 2].to_owned(), "earliest"),
        (format!("{own}AAAA"), "earliest"),
    ];
    for (from, part) in cases {
        let reply = topic.reply(&format!("from={from}")).await;
        let error = error_of(&reply, 400, "from");
        assert_eq!(error["error_code"], 400, "{from}");
        says(&error, part);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_position_does_not_outlive_its_topic() {
    let topic = TestTopic::open("reborn", 1, &[]).await;
    topic.fill(&[3]).await;
    let next = topic.page("from=earliest&limit=1").await.next;
    topic.plain.delete_topic(&topic.name).await;
    eventually(Duration::from_secs(60), async || {
        topic.plain.leader(&topic.name, 0).await.is_none()
    })
    .await;
    // A topic's description is kept for some seconds.
    eventually(Duration::from_secs(60), async || {
        topic.reply("").await.status == 404
    })
    .await;
    let topic = TestTopic::of(&topic.name, 1, &[]).await;
    eventually(Duration::from_secs(60), async || {
        topic.reply("").await.status == 200
    })
    .await;
    topic.fill(&[3]).await;

    // A reader that still knows the topic of the past finds that out first: 503, to be tried again.
    let old = format!("from={next}");
    eventually(Duration::from_secs(60), async || {
        let reply = topic.reply(&old).await;
        if [503, 504].contains(&reply.status.as_u16()) {
            return false;
        }
        says(&error_of(&reply, 400, "from"), "created again");
        true
    })
    .await;
    let started = Instant::now();
    assert_eq!(topic.page("from=earliest").await.records.len(), 3);
    assert!(started.elapsed() < PROMPT, "{:?}", started.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partition_that_came_later_is_read_from_its_start() {
    let topic = TestTopic::open("grown", 1, &[]).await;
    topic.fill(&[2]).await;
    let next = topic.page("from=earliest").await.next;
    topic.plain.add_partitions(&topic.name, 3).await;
    for value in ["a", "b"] {
        let record = OutgoingRecord {
            topic: &topic.name,
            partition: Some(2),
            value: Some(value.as_bytes()),
            ..OutgoingRecord::default()
        };
        topic.plain.produce(record).await;
    }

    // The gateway learns of partitions within seconds; until then nothing is lost by asking.
    eventually(Duration::from_secs(60), async || {
        let page = topic.page(&format!("from={next}")).await;
        assert!(page.records.is_empty() || page.places() == [(2, 0), (2, 1)]);
        !page.records.is_empty()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_empty_topic_is_an_empty_page_with_a_place_to_go_on() {
    let topic = TestTopic::open("empty", 3, &[]).await;
    let mut next = Vec::new();
    for from in ["earliest", "latest", "-5", "0", "2023-11-14", "0@0,1@0"] {
        let page = topic.page(&format!("from={from}")).await;
        assert!(page.records.is_empty(), "{from}");
        next.push(page.next);
    }
    next.dedup();
    assert_eq!(next.len(), 1, "{next:?}");
    topic.fill(&[1, 0, 1]).await;
    let page = topic.page(&format!("from={}", next[0])).await;
    assert_eq!(
        by_partition(&page.records),
        BTreeMap::from([(0, vec![0]), (2, vec![0])])
    );
}
