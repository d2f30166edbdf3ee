//! Reading records over HTTP: pages, single records, and what a real log does to both.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::streams::{Stream, ndjson};
use crate::support::broker::Broker;
use crate::support::gateway::Gateway;
use crate::support::http::{self, Reply};
use crate::support::kafka_client::{Plain, PlainOutgoing, PlainRecord};
use crate::support::{eventually, kafka, shared_gateway, topic};

/// Longer than any page may take that does not wait, even on a busy machine, and shorter than the
/// waits that tests ask for where an answer must come before their end.
const PROMPT: Duration = Duration::from_secs(22);

/// A topic of a test, as the gateway shows it.
#[derive(Clone)]
struct Door {
    topic: String,
    gateway: String,
    plain: Plain,
}

impl Door {
    async fn open(prefix: &str, partitions: i32, configs: &[(&str, &str)]) -> Self {
        Self::of(&topic(prefix), partitions, configs).await
    }

    async fn of(topic: &str, partitions: i32, configs: &[(&str, &str)]) -> Self {
        let plain = kafka().await.plain();
        plain.create_topic(topic, partitions, configs).await;
        Self {
            topic: topic.to_owned(),
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
        format!("{}/topics/{}/records", self.gateway, self.topic)
    }

    fn record(&self, partition: i32, offset: i64) -> String {
        format!(
            "{}/topics/{}/partitions/{partition}/records/{offset}",
            self.gateway, self.topic
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_starts_where_from_says() {
    let door = Door::open("from", 2, &[]).await;
    // Timestamps in steps of ten seconds, the same in both partitions.
    let start = 1_700_000_000_000_i64;
    let records: Vec<Value> = (0..10_i64)
        .map(|n| json!({"partition": n % 2, "value": n / 2, "timestamp": start + n / 2 * 10_000}))
        .collect();
    door.write(&Value::from(records)).await;
    let offsets =
        async |from: &str| by_partition(&door.page(&format!("from={from}")).await.records);
    let both = |offsets: &[i64]| BTreeMap::from([(0, offsets.to_vec()), (1, offsets.to_vec())]);

    assert_eq!(offsets("earliest").await, both(&[0, 1, 2, 3, 4]));
    assert_eq!(offsets("latest").await, BTreeMap::new());
    assert_eq!(by_partition(&door.page("").await.records), BTreeMap::new());
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

    let name = &door.topic;
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
    let door = Door::open("from-future", 1, &[]).await;
    door.fill(&[3]).await;
    let page = door.page("from=2099-01-01T00:00:00Z").await;
    assert!(page.records.is_empty());
    door.fill(&[1]).await;
    assert_eq!(
        door.page(&format!("from={}", page.next)).await.places(),
        [(0, 3)]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn next_never_skips_or_repeats() {
    let door = Door::open("walk", 5, &[]).await;
    // One partition is empty, and one longer than a page.
    let counts = [700, 3, 0, 251, 40];
    door.fill(&counts).await;
    let expected: BTreeMap<i64, Vec<i64>> = (0..)
        .zip(counts)
        .filter(|(_, count)| *count > 0)
        .map(|(partition, count)| (partition, (0..count).collect()))
        .collect();

    for limit in [13, 100, 993, 994, 10_000] {
        let records = door.walk("earliest", &format!("limit={limit}")).await;
        assert_eq!(by_partition(&records), expected, "limit={limit}");
        for record in &records {
            assert_eq!(record["value"], record["offset"]);
        }
    }
    // The default, and one record at a time.
    assert_eq!(door.page("from=earliest").await.records.len(), 100);
    let records = door.walk("-4", "limit=1").await;
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
    let door = Door::open("walk-live", 4, &[]).await;
    let done = Arc::new(AtomicBool::new(false));
    let writer = tokio::spawn({
        let (door, done) = (door.clone(), Arc::clone(&done));
        async move {
            for _ in 0..BATCHES {
                // Without a key, wherever they go.
                door.write(&Value::from(vec![json!({"value": "x"}); BATCH]))
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
        let page = door
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
    let door = Door::open("partitions", 4, &[]).await;
    door.fill(&[2, 2, 2, 2]).await;

    for (asked, read) in [
        ("2", vec![2]),
        ("0,3", vec![0, 3]),
        ("3,0,0", vec![0, 3]),
        ("1-2", vec![1, 2]),
        ("0-1,3", vec![0, 1, 3]),
        ("0-3", vec![0, 1, 2, 3]),
    ] {
        let page = door
            .page(&format!("from=earliest&partitions={asked}"))
            .await;
        let partitions: Vec<i64> = by_partition(&page.records).into_keys().collect();
        assert_eq!(partitions, read, "{asked}");
        let rest = door
            .page(&format!("from={}&partitions={asked}", page.next))
            .await;
        assert!(rest.records.is_empty(), "{asked}");
    }
    let error = error_of(&door.reply("partitions=0,4").await, 404, "partitions");
    assert_eq!(error["error_code"], 40402);
    says(&error, "0 to 3");
    for wrong in ["", "x", "-1", "2-1", "0,,1", "99999999999"] {
        let error = error_of(
            &door.reply(&format!("partitions={wrong}")).await,
            400,
            "partitions",
        );
        says(&error, "0,2-3");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wait_ends_with_the_first_record_or_with_its_time() {
    let door = Door::open("wait", 3, &[]).await;
    door.fill(&[1, 1, 1]).await;

    let started = Instant::now();
    let page = door.page("wait=700").await;
    assert!(page.records.is_empty());
    assert!(started.elapsed() >= Duration::from_millis(700));
    assert!(started.elapsed() < PROMPT);

    // `next` and not `latest`: it does not matter which of the two comes first.
    let started = Instant::now();
    let query = format!("from={}&wait=25000", page.next);
    let (page, _) = tokio::join!(door.page(&query), async {
        // Most likely it waits by then.
        tokio::time::sleep(Duration::from_millis(300)).await;
        door.write(&json!({"partition": 1, "value": "new"})).await
    });
    assert_eq!(page.places(), [(1, 1)]);
    assert!(started.elapsed() < PROMPT, "{:?}", started.elapsed());

    // What is there already is not waited for, and neither is `until=end`.
    let started = Instant::now();
    assert_eq!(door.page("from=earliest&wait=25000").await.records.len(), 4);
    let page = door
        .page(&format!("from={}&wait=25000&until=end", page.next))
        .await;
    assert!(page.records.is_empty());
    assert!(started.elapsed() < PROMPT, "{:?}", started.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_ends_the_wait_of_everyone() {
    const CLIENTS: usize = 40;
    let door = Door::open("wait-many", 2, &[]).await;
    let next = door.page("").await.next;
    let started = Instant::now();
    let waits: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let (door, query) = (door.clone(), format!("from={next}&wait=25000"));
            tokio::spawn(async move { door.page(&query).await })
        })
        .collect();

    tokio::time::sleep(Duration::from_millis(1500)).await;
    door.write(&json!({"partition": 1, "value": "news"})).await;

    for wait in waits {
        let page = wait.await.unwrap();
        assert_eq!(page.places(), [(1, 0)]);
        assert_eq!(page.values(), ["news"]);
    }
    assert!(started.elapsed() < PROMPT, "{:?}", started.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_is_shown_in_the_format_asked_for_else_in_one_that_holds_it() {
    type Content = Option<&'static [u8]>;
    let door = Door::open("shown", 1, &[]).await;
    let headers: [(&str, Option<&[u8]>); 4] = [
        ("a", Some(b"1")),
        ("b", None),
        ("a", Some(b"\xff\x00")),
        ("é", Some("\"é\"\n".as_bytes())),
    ];
    let records: [(Content, Content); 6] = [
        (Some(b"k"), Some(b"{\"n\": 12345678901234567890}")),
        (Some(b"17"), Some(b"plain \"text\"")),
        (Some(b"\xff"), Some(b"\xfe\xff")),
        (None, None),
        (Some(b""), Some(b"")),
        (Some(b"\"q\""), Some(b"[1,2]")),
    ];
    for (n, (key, value)) in records.into_iter().enumerate() {
        let record = PlainOutgoing {
            topic: &door.topic,
            key,
            value,
            headers: if n == 0 { &headers } else { &[] },
            timestamp: Some(1_700_000_000_000),
            ..PlainOutgoing::default()
        };
        door.plain.produce(record).await;
    }

    let reply = door.reply("from=earliest").await;
    // As text, since a JSON library loses digits.
    let expected = format!(
        r#"{{"records":[{{"topic":"{}","partition":0,"offset":0,"timestamp":1700000000000,"key":"k","value":{{"n": 12345678901234567890}},"headers":[["a","1"],["b",null],["a",{{"b64":"/wA="}}],["é","\"é\"\n"]]}},"#,
        door.topic
    );
    assert!(reply.text().starts_with(&expected), "{}", reply.text());

    // key, kf, value, vf
    let shown = async |query: &str| -> Vec<Value> {
        let page = door.page(&format!("from=earliest&{query}")).await;
        let fields = |r: &Value| ["key", "kf", "value", "vf"].map(|name| r[name].clone());
        page.records.iter().map(|r| json!(fields(r))).collect()
    };
    assert_eq!(
        shown("").await[1..],
        [
            json!(["17", null, "plain \"text\"", "string"]),
            json!(["/w==", "binary", "/v8=", "binary"]),
            json!([null, null, null, "null"]),
            json!(["", null, "", "string"]),
            json!(["\"q\"", null, [1, 2], null]),
        ]
    );
    assert_eq!(
        shown("key_format=json&value_format=string").await[1..],
        [
            json!([17, null, "plain \"text\"", null]),
            json!(["/w==", "binary", "/v8=", "binary"]),
            json!([null, null, null, "null"]),
            json!(["", "string", "", null]),
            json!(["q", null, "[1,2]", null]),
        ]
    );
    assert_eq!(
        shown("key_format=binary&value_format=binary").await[1..4],
        [
            json!(["MTc=", null, "cGxhaW4gInRleHQi", null]),
            json!(["/w==", null, "/v8=", null]),
            json!([null, null, null, "null"]),
        ]
    );
    let one = http::get(&format!("{}?value_format=binary", door.record(0, 5))).await;
    assert_eq!(one.json()["value"], "WzEsMl0=");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_timestamp_of_the_broker_is_marked() {
    let door = Door::open("append", 1, &[("message.timestamp.type", "LogAppendTime")]).await;
    door.write(&json!({"value": 1, "timestamp": 1000})).await;
    let record = &door.page("from=earliest").await.records[0];
    let in_kafka = door.plain.consume_all(&door.topic).await[0].timestamp;
    assert!(in_kafka > Some(1_000));
    assert_eq!(record["timestamp"].as_i64(), in_kafka);
    assert_eq!(record["timestamp_type"], "append");

    let door = Door::open("create", 1, &[]).await;
    door.write(&json!({"value": 1, "timestamp": 1000})).await;
    let record = &door.page("from=earliest").await.records[0];
    assert_eq!(record["timestamp"], 1000);
    assert!(record.get("timestamp_type").is_none(), "{record}");
}

async fn transact(door: &Door, commit: bool, values: &[&str]) {
    let transaction = door.plain.transaction(&door.topic).await;
    for value in values {
        let record = PlainOutgoing {
            topic: &door.topic,
            value: Some(value.as_bytes()),
            ..PlainOutgoing::default()
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
    let door = Door::open("transactions", 1, &[]).await;
    // Offsets: 0-1 aborted, 2 marker, 3-4 committed, 5 marker, 6-7 aborted, 8 marker.
    transact(&door, false, &["1", "2"]).await;
    transact(&door, true, &["3", "4"]).await;
    transact(&door, false, &["5", "6"]).await;
    // What lies before an open transaction's end is not readable yet; a position there is beyond
    // the end.
    eventually(Duration::from_secs(60), async || {
        door.reply("from=0@9").await.status == 200
    })
    .await;

    let started = Instant::now();
    let page = door.page("from=earliest").await;
    assert_eq!(page.places(), [(0, 3), (0, 4)]);
    assert_eq!(page.values(), [&json!(3), &json!(4)]);
    // A page that found nothing but a marker, or but aborted records, ends at once and moves on.
    let end = door.page("from=latest").await.next;
    assert_eq!(page.next, end);
    for offset in [5, 6, 8] {
        let page = door.page(&format!("from=0@{offset}")).await;
        assert!(page.records.is_empty(), "{offset}: {:?}", page.records);
        assert_eq!(page.next, end, "{offset}");
    }
    assert_eq!(door.page("from=earliest&limit=1").await.places(), [(0, 3)]);
    let records = door.walk("earliest", "limit=1").await;
    assert_eq!(places(&records), [(0, 3), (0, 4)]);
    assert!(started.elapsed() < PROMPT, "{:?}", started.elapsed());

    for (offset, what) in [
        (0, "aborted"),
        (2, "marks a transaction"),
        (8, "marks a transaction"),
    ] {
        let reply = http::get(&door.record(0, offset)).await;
        says(&error_of(&reply, 404, "offset"), what);
    }
    let started = Instant::now();
    let page = door.page(&format!("from={end}&wait=500")).await;
    assert!(page.records.is_empty());
    assert!(started.elapsed() < PROMPT, "{:?}", started.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_committed_yet_is_waited_for() {
    let door = Door::open("open-transaction", 1, &[]).await;
    let record = PlainOutgoing {
        topic: &door.topic,
        value: Some(b"1"),
        ..PlainOutgoing::default()
    };
    let transaction = door.plain.transaction(&door.topic).await;
    transaction.produce(record).await;
    door.plain
        .produce(PlainOutgoing {
            value: Some(b"2"),
            ..record
        })
        .await;

    let page = door.page("from=earliest").await;
    assert!(page.records.is_empty());
    let query = format!("from={}&wait=25000", page.next);
    let started = Instant::now();
    let (page, ()) = tokio::join!(door.page(&query), transaction.commit());
    assert!(!page.records.is_empty());
    let mut all = page.records;
    all.extend(door.walk(&page.next, "").await);
    assert_eq!(places(&all), [(0, 0), (0, 1)]);
    assert!(started.elapsed() < PROMPT, "{:?}", started.elapsed());
}

/// Aborts move the position; the wait has its time all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wait_is_not_made_longer_by_aborted_transactions() {
    let door = Door::open("aborts", 1, &[]).await;
    let next = door.page("").await.next;
    let stop = Arc::new(AtomicBool::new(false));
    let aborting = tokio::spawn({
        let (door, stop) = (door.clone(), Arc::clone(&stop));
        async move {
            while !stop.load(Ordering::SeqCst) {
                transact(&door, false, &["x"]).await;
            }
        }
    });

    let started = Instant::now();
    let page = door.page(&format!("from={next}&wait=2000")).await;
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
    let door = Door {
        topic: "compacted".to_owned(),
        gateway: gateway.url(""),
        plain: broker.plain(),
    };
    let configs = [
        ("cleanup.policy", "compact"),
        ("segment.ms", "100"),
        ("min.cleanable.dirty.ratio", "0.01"),
    ];
    door.plain.create_topic(&door.topic, 1, &configs).await;
    for n in 0..20 {
        door.write(
            &json!([{"key": format!("k{}", n % 4), "value": n}, {"key": "same", "value": n}]),
        )
        .await;
    }
    // Each further record may begin a new segment, and the one before can then be cleaned.
    eventually(Duration::from_secs(180), async || {
        door.write(&json!({"key": "tick", "value": 0})).await;
        let records = door.plain.consume_all(&door.topic).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        records.first().is_some_and(|first| first.offset > 10)
    })
    .await;

    // Cleaning goes on meanwhile, so a walk counts when the topic looked the same before and after.
    let in_kafka = async || -> Vec<(i64, i64)> {
        let records = door.plain.consume_all(&door.topic).await;
        let place = |r: &PlainRecord| (i64::from(r.partition), r.offset);
        records.iter().map(place).collect()
    };
    let end = Instant::now() + Duration::from_secs(180);
    let mut expected = in_kafka().await;
    for limit in [1, 3, 100] {
        loop {
            let walked = door.walk("earliest", &format!("limit={limit}")).await;
            let before = std::mem::replace(&mut expected, in_kafka().await);
            if before == expected {
                assert_eq!(places(&walked), expected, "limit={limit}");
                break;
            }
            assert!(Instant::now() < end, "the cleaner does not come to rest");
        }
    }
    assert!(!expected.contains(&(0, 0)));
    let error = error_of(&http::get(&door.record(0, 0)).await, 404, "offset");
    says(&error, "compacted away");
    eventually(Duration::from_secs(60), async || {
        let before = in_kafka().await;
        let page = door.page("from=0@0&limit=1").await;
        let last = door.page("from=-3").await;
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
    let door = Door::open("deleted", 2, &[]).await;
    door.fill(&[10, 5]).await;
    let start = door.page("from=earliest&limit=1&partitions=0").await.next;
    door.plain.delete_records(&door.topic, 0, 4).await;

    for query in ["from=0@3,1@2".to_owned(), "from=0@0".to_owned()] {
        let error = error_of(&door.reply(&query).await, 410, "from");
        assert_eq!(error["error_code"], 410);
        assert_eq!(error["earliest"], json!({"0": 4, "1": 0}), "{query}");
        says(&error, "from=earliest");
        says(&error, "starts at 4");
    }
    let error = error_of(
        &door.reply(&format!("from={start}&partitions=0")).await,
        410,
        "from",
    );
    assert_eq!(error["earliest"], json!({"0": 4}));

    let records = door.walk("earliest", "").await;
    assert_eq!(
        by_partition(&records),
        BTreeMap::from([(0, (4..10).collect()), (1, (0..5).collect())])
    );
    assert_eq!(door.page("from=0@4,1@5").await.records.len(), 6);
    assert_eq!(door.page("from=-100&partitions=0").await.records.len(), 6);

    let reply = http::get(&door.record(0, 3)).await;
    assert_eq!(reply.status, 410);
    let error = reply.json();
    assert_eq!(error["earliest"], json!({"0": 4}));
    assert_eq!(error["field"], "offset", "{error}");
    says(&error, "starts at 4");
    // The path has no such parameter.
    assert!(!reply.text().contains("from"), "{error}");
    assert_eq!(http::get(&door.record(0, 4)).await.json()["value"], 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tombstone_is_told_from_the_json_null() {
    let door = Door::open("nulls", 1, &[]).await;
    for value in [None, Some(b"null".as_slice())] {
        let record = PlainOutgoing {
            topic: &door.topic,
            key: Some(b"k"),
            value,
            ..PlainOutgoing::default()
        };
        door.plain.produce(record).await;
    }
    let shown = |records: &[Value]| -> Vec<(Value, Value)> {
        let records = records.iter();
        records
            .map(|record| (record["value"].clone(), record["vf"].clone()))
            .collect()
    };
    let tombstone = (Value::Null, json!("null"));
    let url = format!(
        "{}/topics/{}/records?from=earliest&until=end",
        door.gateway, door.topic
    );
    for (format, other) in [
        ("", (Value::Null, Value::Null)),
        ("&value_format=string", (json!("null"), Value::Null)),
        ("&value_format=binary", (json!("bnVsbA=="), Value::Null)),
        ("&fields=/a", (json!({}), Value::Null)),
    ] {
        let url = format!("{url}{format}");
        let expected = [tombstone.clone(), other];
        let page = http::get(&url).await.json();
        assert_eq!(
            shown(page["records"].as_array().unwrap()),
            expected,
            "{url}"
        );
        let lines = ndjson(&url).await.into_iter();
        let lines: Vec<Value> = lines.filter(|l| l.get("event").is_none()).collect();
        assert_eq!(shown(&lines), expected, "{url}");
        let mut stream = Stream::open(&url, None).await;
        let events = stream.records(2).await;
        let events: Vec<Value> = events.iter().map(|event| event.json()).collect();
        assert_eq!(shown(&events), expected, "{url}");
    }
    for (offset, vf) in [(0, json!("null")), (1, Value::Null)] {
        let record = http::get(&door.record(0, offset)).await.json();
        assert_eq!((&record["value"], &record["vf"]), (&Value::Null, &vf));
    }
    // Where there are values alone, nothing is left to tell them by.
    assert_eq!(
        ndjson(&format!("{url}&meta=none")).await,
        [Value::Null, Value::Null]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn times_of_far_years_are_read_and_seconds_are_refused() {
    let door = Door::open("years", 1, &[]).await;
    door.fill(&[3]).await;
    for (from, count) in [
        ("1960-01-01T00:00:00Z", 3),
        ("0001-01-01", 3),
        ("9999-12-31T23:59:59Z", 0),
    ] {
        let page = door.page(&format!("from={from}")).await;
        assert_eq!(page.records.len(), count, "{from}");
        let url = format!(
            "{}/topics/{}/records?from={from}&until=end",
            door.gateway, door.topic
        );
        let lines = ndjson(&url).await.into_iter();
        let records = lines.filter(|line| line.get("event").is_none());
        assert_eq!(records.count(), count, "{from}");
    }
    for accept in [
        "application/json",
        "application/x-ndjson",
        "text/event-stream",
    ] {
        let get = async |query: &str| {
            let url = format!("{}/topics/{}/records?{query}", door.gateway, door.topic);
            http::send(http::client().get(url).header("accept", accept)).await
        };
        let error = error_of(&get("from=1700000000").await, 400, "from");
        says(&error, "1700000000000");
        says(&error, "2023-11-14T22:13:20Z");
        if accept != "application/json" {
            let error = error_of(&get("until=1700000000").await, 400, "until");
            says(&error, "1700000000000");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_position_that_fits_nothing_is_refused() {
    let door = Door::open("positions", 2, &[]).await;
    let other = Door::open("positions-other", 2, &[]).await;
    door.fill(&[3, 3]).await;
    other.fill(&[3, 3]).await;
    let foreign = other.page("from=earliest").await.next;
    let own = door.page("from=earliest").await.next;

    let cases = [
        ("0@4".to_owned(), "beyond the end"),
        (format!("{}:1@99", door.topic), "beyond the end"),
        (foreign, "another cluster or to other topics"),
        (format!("{}:0@0", other.topic), &other.topic),
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
        let reply = door.reply(&format!("from={from}")).await;
        let error = error_of(&reply, 400, "from");
        assert_eq!(error["error_code"], 400, "{from}");
        says(&error, part);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_position_does_not_outlive_its_topic() {
    let door = Door::open("reborn", 1, &[]).await;
    door.fill(&[3]).await;
    let next = door.page("from=earliest&limit=1").await.next;
    door.plain.delete_topic(&door.topic).await;
    eventually(Duration::from_secs(60), async || {
        door.plain.leader(&door.topic, 0).await.is_none()
    })
    .await;
    // A topic's description is kept for some seconds.
    eventually(Duration::from_secs(60), async || {
        door.reply("").await.status == 404
    })
    .await;
    let door = Door::of(&door.topic, 1, &[]).await;
    eventually(Duration::from_secs(60), async || {
        door.reply("").await.status == 200
    })
    .await;
    door.fill(&[3]).await;

    // A reader that still knows the topic of the past finds that out first: 503, to be tried again.
    let old = format!("from={next}");
    eventually(Duration::from_secs(60), async || {
        let reply = door.reply(&old).await;
        if [503, 504].contains(&reply.status.as_u16()) {
            return false;
        }
        says(&error_of(&reply, 400, "from"), "created again");
        true
    })
    .await;
    let started = Instant::now();
    assert_eq!(door.page("from=earliest").await.records.len(), 3);
    assert!(started.elapsed() < PROMPT, "{:?}", started.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partition_that_came_later_is_read_from_its_start() {
    let door = Door::open("grown", 1, &[]).await;
    door.fill(&[2]).await;
    let next = door.page("from=earliest").await.next;
    door.plain.add_partitions(&door.topic, 3).await;
    for value in ["a", "b"] {
        let record = PlainOutgoing {
            topic: &door.topic,
            partition: Some(2),
            value: Some(value.as_bytes()),
            ..PlainOutgoing::default()
        };
        door.plain.produce(record).await;
    }

    // The gateway learns of partitions within seconds; until then nothing is lost by asking.
    eventually(Duration::from_secs(60), async || {
        let page = door.page(&format!("from={next}")).await;
        assert!(page.records.is_empty() || page.places() == [(2, 0), (2, 1)]);
        !page.records.is_empty()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_record_comes_as_json_or_as_its_bytes() {
    let door = Door::open("single", 2, &[]).await;
    let image = b"\x89PNG\r\n\x00\xff";
    let record = PlainOutgoing {
        topic: &door.topic,
        partition: Some(1),
        key: Some(b"k"),
        value: Some(image),
        timestamp: Some(1_700_000_000_000),
        ..PlainOutgoing::default()
    };
    door.plain.produce(record).await;
    door.plain
        .produce(PlainOutgoing {
            value: None,
            ..record
        })
        .await;
    let get = async |partition: i32, offset: i64, accept: &str| {
        let request = http::client()
            .get(door.record(partition, offset))
            .header("accept", accept);
        http::send(request).await
    };

    let reply = get(1, 0, "*/*").await;
    assert_eq!(reply.status, 200);
    assert_eq!(reply.header("content-type"), "application/json");
    assert_eq!(
        reply.json(),
        json!({"topic": door.topic, "partition": 1, "offset": 0, "timestamp": 1_700_000_000_000_i64,
            "key": "k", "value": "iVBORw0KAP8=", "vf": "binary", "headers": []})
    );
    let reply = get(1, 0, "application/octet-stream").await;
    assert_eq!(reply.status, 200);
    assert_eq!(reply.body, image);
    assert_eq!(reply.header("content-type"), "application/octet-stream");
    assert_eq!(reply.header("x-content-type-options"), "nosniff");
    assert_eq!(reply.header("content-length"), image.len().to_string());
    assert_eq!(reply.header("kafka-partition"), "1");
    assert_eq!(reply.header("kafka-offset"), "0");
    assert_eq!(reply.header("kafka-timestamp"), "1700000000000");
    let reply = get(1, 1, "application/octet-stream").await;
    assert_eq!(reply.status, 204);
    assert!(reply.body.is_empty());
    assert_eq!(reply.header("kafka-offset"), "1");
    let tombstone = get(1, 1, "application/json").await.json();
    assert_eq!(
        (&tombstone["value"], &tombstone["vf"]),
        (&Value::Null, &json!("null"))
    );

    let error = error_of(&get(1, 2, "*/*").await, 404, "offset");
    says(&error, "ends at offset 2");
    error_of(&get(0, 0, "*/*").await, 404, "offset");
    let error = error_of(&get(2, 0, "*/*").await, 404, "partition");
    assert_eq!(error["error_code"], 40402);
    says(
        &error_of(&get(-1, 0, "*/*").await, 400, "partition"),
        "whole number",
    );
    says(
        &error_of(&get(0, -1, "*/*").await, 400, "offset"),
        "whole number",
    );
    let error = error_of(&get(1, 0, "image/png").await, 406, "Accept");
    says(&error, "application/json, application/octet-stream");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_offered_is_refused_with_what_is() {
    let door = Door::open("accept", 1, &[]).await;
    let request = http::client()
        .get(door.records())
        .header("accept", "text/html, image/*");
    let error = error_of(&http::send(request).await, 406, "Accept");
    assert_eq!(error["error_code"], 406);
    says(&error, "application/json");
    let request = http::client()
        .get(door.records())
        .header("accept", "text/html;q=0.9, application/json;q=0.1");
    assert_eq!(http::send(request).await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_empty_topic_is_an_empty_page_with_a_place_to_go_on() {
    let door = Door::open("empty", 3, &[]).await;
    let mut next = Vec::new();
    for from in ["earliest", "latest", "-5", "0", "2023-11-14", "0@0,1@0"] {
        let page = door.page(&format!("from={from}")).await;
        assert!(page.records.is_empty(), "{from}");
        next.push(page.next);
    }
    next.dedup();
    assert_eq!(next.len(), 1, "{next:?}");
    door.fill(&[1, 0, 1]).await;
    let page = door.page(&format!("from={}", next[0])).await;
    assert_eq!(
        by_partition(&page.records),
        BTreeMap::from([(0, vec![0]), (2, vec![0])])
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_larger_than_everything_comes_all_the_same() {
    let door = Door::open("large", 1, &[]).await;
    // Larger than what is asked of a partition at once, and than a page of the second gateway.
    let large = "x".repeat(900_000);
    for value in ["a", &large, "b", &large, &large] {
        door.write(&json!({"value": value})).await;
    }
    let records = door.walk("earliest", "limit=2").await;
    assert_eq!(places(&records), [(0, 0), (0, 1), (0, 2), (0, 3), (0, 4)]);
    assert_eq!(records[1]["value"], large);
    assert_eq!(http::get(&door.record(0, 3)).await.json()["value"], large);

    let small = Gateway::builder(&kafka().await.bootstrap())
        .set("limits.record_bytes", "1000")
        .set("http.max_body_bytes", "5000")
        .set("kafka.consumer.\"max.partition.fetch.bytes\"", "2000")
        .set("kafka.consumer.\"fetch.max.bytes\"", "2000")
        .start()
        .await;
    let door = door.through(&small);
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
        let page = door.page(&format!("from={from}")).await;
        assert_eq!(page.places(), expected);
        from = page.next;
    }
    assert_eq!(http::get(&door.record(0, 4)).await.json()["value"], large);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http_2_with_prior_knowledge_and_head_work() {
    let door = Door::open("versions", 1, &[]).await;
    door.fill(&[3]).await;
    let url = format!("{}?from=earliest", door.records());

    let client = reqwest::Client::builder()
        .http2_prior_knowledge()
        .timeout(Duration::from_secs(60))
        .build()
        .unwrap();
    let response = client.get(&url).send().await.unwrap();
    assert_eq!(response.version(), reqwest::Version::HTTP_2);
    assert_eq!(response.status(), 200);
    let page: Value = response.json().await.unwrap();
    assert_eq!(
        places(page["records"].as_array().unwrap()),
        [(0, 0), (0, 1), (0, 2)]
    );
    let body = json!({"value": "x".repeat(500_000)});
    let response = client
        .post(door.records())
        .json(&body)
        .send()
        .await
        .unwrap();
    assert_eq!(
        (response.version(), response.status().as_u16()),
        (reqwest::Version::HTTP_2, 200)
    );
    let many = (0..20).map(async |_| {
        // Read at once: a stream that nobody reads holds up the others of its connection.
        let response = client.get(&url).send().await.unwrap();
        response.bytes().await.unwrap()
    });
    for body in futures::future::join_all(many).await {
        assert!(body.len() > 500_000);
    }
    let response = client.get(door.record(9, 0)).send().await.unwrap();
    assert_eq!(response.status(), 404);

    for url in [url, door.record(0, 1)] {
        let reply = http::send(http::client().head(&url)).await;
        assert_eq!(reply.status, 200);
        assert_eq!(reply.header("content-type"), "application/json");
        assert!(reply.body.is_empty());
        assert_ne!(reply.header("x-request-id"), "");
    }
    let reply = http::send(http::client().head(door.record(0, 77))).await;
    assert_eq!(reply.status, 404);
    assert!(reply.body.is_empty());
}
