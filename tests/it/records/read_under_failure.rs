//! That pages neither skip nor repeat a record, whatever becomes of brokers and topics meanwhile:
//! what `GET /topics/{topic}/records` gives page by page is compared with what a plain client reads
//! of the same topic.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::producer::{FutureProducer, FutureRecord};
use reqwest::Client;
use serde_json::Value;

use crate::support::broker::Broker;
use crate::support::gateway::Gateway;
use crate::support::http::{self, Reply};
use crate::support::kafka_client::{Isolation, Plain, PlainOutgoing, PlainRecord};
use crate::support::{eventually, kafka, topic};

/// Longest time for one page, whatever the brokers do: metadata, bounds, and the page itself.
const PAGE: Duration = Duration::from_secs(55);

/// A client that goes through a topic, page by page.
struct Walk {
    http: Client,
    url: String,
    next: String,
    records: Vec<(i64, i64, Value)>,
    pages: usize,
    /// Answers that asked to try again.
    retried: Vec<String>,
    slowest: Duration,
}

impl Walk {
    fn new(gateway: &Gateway, topic: &str, limit: usize) -> Self {
        Self {
            http: http::client(),
            url: gateway.url(&format!("/topics/{topic}/records?limit={limit}")),
            next: "earliest".to_owned(),
            records: Vec::new(),
            pages: 0,
            retried: Vec::new(),
            slowest: Duration::ZERO,
        }
    }

    async fn ask(&mut self, more: &str) -> Reply {
        let url = format!("{}&from={}{more}", self.url, self.next);
        let began = Instant::now();
        let reply = http::send(self.http.get(url)).await;
        self.slowest = self.slowest.max(began.elapsed());
        assert!(began.elapsed() < PAGE, "a page took {:?}", began.elapsed());
        reply
    }

    /// The next page; how many records came. An error must be one that asks to try again.
    async fn page(&mut self, more: &str) -> usize {
        let reply = self.ask(more).await;
        if reply.status != 200 {
            assert!(
                reply.status == 503 || reply.status == 504,
                "{}",
                reply.text()
            );
            assert_eq!(reply.json()["retriable"], true, "{}", reply.text());
            assert_eq!(reply.header("retry-after"), "1");
            self.retried.push(reply.text().to_owned());
            tokio::time::sleep(Duration::from_millis(100)).await;
            return 0;
        }
        let body = reply.json();
        let came = body["records"].as_array().unwrap();
        for record in came {
            self.records.push((
                record["partition"].as_i64().unwrap(),
                record["offset"].as_i64().unwrap(),
                record["value"].clone(),
            ));
        }
        self.next = body["next"].as_str().unwrap().to_owned();
        self.pages += 1;
        came.len()
    }

    /// Pages until one is empty.
    async fn finish(&mut self) {
        loop {
            let errors = self.retried.len();
            if self.page("&until=end").await == 0 && self.retried.len() == errors {
                return;
            }
        }
    }

    /// Pages until `count` records have come.
    async fn until(&mut self, count: usize) {
        let end = Instant::now() + Duration::from_secs(300);
        while self.records.len() < count {
            self.page("&wait=1000").await;
            assert!(Instant::now() < end, "{} of {count}", self.records.len());
        }
    }

    /// Compares with all that is in the topic.
    async fn check(&self, plain: &Plain, topic: &str) {
        self.check_with(&plain.consume_all(topic).await);
    }

    fn check_with(&self, there: &[PlainRecord]) {
        let mut seen = HashSet::new();
        let mut last = std::collections::HashMap::new();
        for (partition, offset, _) in &self.records {
            assert!(
                seen.insert((*partition, *offset)),
                "{partition}@{offset} came twice"
            );
            let before = last.insert(*partition, *offset);
            assert!(
                before < Some(*offset),
                "{partition}@{offset} after {before:?}"
            );
        }
        let mut mine: Vec<_> = self.records.iter().collect();
        mine.sort_by_key(|(partition, offset, _)| (*partition, *offset));
        let places = |(partition, offset, _): &&(i64, i64, Value)| (*partition, *offset);
        let mine_at: Vec<_> = mine.iter().map(places).collect();
        let there_at: Vec<_> = there
            .iter()
            .map(|record| (i64::from(record.partition), record.offset))
            .collect();
        let missing: Vec<_> = there_at.iter().filter(|at| !seen.contains(at)).collect();
        assert!(missing.is_empty(), "skipped: {missing:?}");
        assert_eq!(mine_at, there_at, "more came than there is");
        for ((_, _, value), record) in mine.iter().zip(there) {
            assert_eq!(value.to_string(), record.text().unwrap());
        }
        println!(
            "{} records on {} pages, {} asked to try again, the slowest took {:?}",
            self.records.len(),
            self.pages,
            self.retried.len(),
            self.slowest
        );
    }
}

fn number(topic: &str, partition: i32, text: &str) -> PlainOutgoing<'static> {
    // Leaked by tests only, for records that are described in a line.
    let leak = |text: &str| -> &'static str { Box::leak(text.to_owned().into_boxed_str()) };
    PlainOutgoing {
        topic: leak(topic),
        partition: Some(partition),
        value: Some(leak(text).as_bytes()),
        ..PlainOutgoing::default()
    }
}

/// A plain producer with settings of its own.
fn writer(broker: &Broker, settings: &[(&str, &str)]) -> FutureProducer {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", broker.bootstrap());
    for (name, value) in settings {
        config.set(*name, *value);
    }
    config.create().unwrap()
}

/// Writes values to a partition, many at a time.
async fn write(producer: &FutureProducer, topic: &str, partition: i32, values: &[String]) {
    let sent = values.iter().map(|value| {
        let record: FutureRecord<'_, [u8], str> = FutureRecord::to(topic)
            .partition(partition)
            .payload(value.as_str());
        producer
            .send_result(record)
            .map_err(|(error, _)| error)
            .unwrap()
    });
    for report in futures::future::join_all(sent).await {
        report.unwrap().map_err(|(error, _)| error).unwrap();
    }
}

fn numbers(range: std::ops::Range<u32>) -> Vec<String> {
    range.map(|n| n.to_string()).collect()
}

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
        PlainOutgoing {
            topic: "compacted",
            key: Some(key.to_string().leak().as_bytes()),
            value: Some(value),
            ..PlainOutgoing::default()
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

/// Writes to all partitions until told to stop.
struct Writes {
    task: tokio::task::JoinHandle<usize>,
    stop: Arc<AtomicBool>,
}

impl Writes {
    fn start(broker: &Broker, topic: &str, partitions: i32) -> Self {
        let producer = writer(
            broker,
            &[
                ("enable.idempotence", "true"),
                ("reconnect.backoff.max.ms", "500"),
            ],
        );
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, topic) = (Arc::clone(&stop), topic.to_owned());
        let task = tokio::spawn(async move {
            let mut count = 0;
            while !stopped.load(Ordering::Relaxed) {
                for partition in 0..partitions {
                    let next = u32::try_from(count).unwrap();
                    write(&producer, &topic, partition, &numbers(next..next + 5)).await;
                    count += 5;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            count
        });
        Self { task, stop }
    }

    async fn end(self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.unwrap()
    }
}

/// Walks a topic that is written to, while something happens to the brokers.
async fn walk_through<F: Future<Output = ()>>(
    broker: &Broker,
    trouble: impl FnOnce() -> F,
) -> Walk {
    let gateway = Gateway::start(&broker.bootstrap()).await;
    let plain = broker.plain();
    plain.create_topic("walked", 3, &[]).await;
    let writes = Writes::start(broker, "walked", 3);
    let mut walk = Walk::new(&gateway, "walked", 40);
    walk.until(1000).await;

    let over = AtomicBool::new(false);
    let walking = async {
        while !over.load(Ordering::Relaxed) {
            walk.page("&wait=2000").await;
        }
        walk
    };
    let troubling = async {
        trouble().await;
        over.store(true, Ordering::Relaxed);
    };
    let (mut walk, ()) = tokio::join!(walking, troubling);
    let count = walk.records.len();
    walk.until(count + 500).await;
    let written = writes.end().await;
    walk.until(written).await;
    walk.finish().await;
    walk.check(&plain, "walked").await;
    println!("{:#?}", walk.retried.iter().collect::<HashSet<_>>());
    walk
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: three brokers, each of which loses its leaderships once"]
async fn a_leader_change_skips_and_repeats_nothing() {
    let broker = Broker::builder().nodes(3).start().await;
    let plain = broker.plain();
    walk_through(&broker, async || {
        for node in 1..=3_u32 {
            broker.node(node).kill();
            let led = async |partition| {
                let leader = plain.leader("walked", partition).await;
                leader.is_some_and(|leader| leader != i32::try_from(node).unwrap())
            };
            eventually(Duration::from_secs(180), async || {
                led(0).await && led(1).await && led(2).await
            })
            .await;
            tokio::time::sleep(Duration::from_secs(3)).await;
            broker.node(node).restart().await;
            // Until it is in sync again: the next one that dies must not be the last in sync.
            let whole = async |partition| plain.in_sync("walked", partition).await == 3;
            eventually(Duration::from_secs(180), async || {
                whole(0).await && whole(1).await && whole(2).await
            })
            .await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: the broker stays frozen for ten seconds"]
async fn a_frozen_broker_skips_and_repeats_nothing() {
    let broker = Broker::start().await;
    walk_through(&broker, async || {
        broker.pause();
        tokio::time::sleep(Duration::from_secs(10)).await;
        broker.resume();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: one of three brokers stays frozen for ten seconds"]
async fn one_frozen_broker_of_three_skips_and_repeats_nothing() {
    let broker = Broker::builder().nodes(3).start().await;
    walk_through(&broker, async || {
        broker.node(1).pause();
        tokio::time::sleep(Duration::from_secs(10)).await;
        broker.node(1).resume();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: the only broker is killed and restarted, and stopped and restarted"]
async fn a_restarted_broker_skips_and_repeats_nothing() {
    let broker = Broker::start().await;
    walk_through(&broker, async || {
        broker.kill();
        tokio::time::sleep(Duration::from_secs(3)).await;
        broker.restart().await;
        tokio::time::sleep(Duration::from_secs(2)).await;
        broker.restart().await;
    })
    .await;
}

/// A page that waits for records, under which the broker freezes, or dies and comes back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: the broker is frozen for ten seconds, and killed"]
async fn an_open_wait_survives_its_broker() {
    let broker = Broker::start().await;
    let gateway = Gateway::start(&broker.bootstrap()).await;
    let plain = broker.plain();
    plain.create_topic("waited", 2, &[]).await;
    for n in 0..20 {
        plain.produce(number("waited", n % 2, &n.to_string())).await;
    }
    let mut walk = Walk::new(&gateway, "waited", 100);
    walk.finish().await;

    // Longest time for the trouble until a record is written, so that the page still waits then.
    let soon = Duration::from_secs(20);
    let trouble = async {
        let began = Instant::now();
        tokio::time::sleep(Duration::from_secs(4)).await;
        broker.pause();
        tokio::time::sleep(Duration::from_secs(10)).await;
        broker.resume();
        plain.produce(number("waited", 0, "100")).await;
        began.elapsed() < soon
    };
    let (came, in_time) = tokio::join!(walk.page("&wait=25000"), trouble);
    assert!(came == 1 || !in_time, "{:?}", walk.retried);
    walk.until(21).await;

    let trouble = async {
        let began = Instant::now();
        tokio::time::sleep(Duration::from_secs(4)).await;
        broker.kill();
        tokio::time::sleep(Duration::from_secs(2)).await;
        broker.restart().await;
        plain.produce(number("waited", 1, "101")).await;
        began.elapsed() < soon
    };
    let (came, in_time) = tokio::join!(walk.page("&wait=25000"), trouble);
    assert!(came == 1 || !in_time, "{:?}", walk.retried);
    walk.until(22).await;
    walk.check(&plain, "waited").await;

    // And one that waits in vain says why, and when it was told to.
    walk.retried.clear();
    let began = Instant::now();
    let trouble = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        broker.kill();
    };
    let (came, ()) = tokio::join!(walk.page("&wait=5000"), trouble);
    assert_eq!((came, walk.retried.len()), (0, 1));
    assert!(
        began.elapsed() < Duration::from_secs(40),
        "{:?}",
        began.elapsed()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: a topic is deleted and created again four times"]
async fn a_topic_created_again_is_not_taken_for_the_old_one() {
    let broker = kafka().await;
    let gateway = Gateway::builder(&broker.bootstrap())
        .set("telemetry.log_level", "info,krafka=debug")
        .start()
        .await;
    let plain = broker.plain();
    let topic = topic("again");
    let producer = writer(broker, &[]);
    for round in 0..4_u32 {
        plain.create_topic(&topic, 1, &[]).await;
        let first = round * 1000;
        // Fewer or more than before, so that old offsets are beyond the end or within the log.
        let count = [50, 20, 200, 200][round as usize];
        write(&producer, &topic, 0, &numbers(first..first + count)).await;
        // What is known of the old one is believed for some seconds; its records never come.
        let mut walk = Walk::new(&gateway, &topic, 10);
        eventually(Duration::from_secs(60), async || {
            let reply = http::get(&format!("{}&from=earliest", walk.url)).await;
            assert!(
                [200, 404, 503, 504].contains(&reply.status.as_u16()),
                "{reply:?}"
            );
            reply.status == 200
        })
        .await;
        for _ in 0..3 {
            walk.page("").await;
        }
        if round == 0 {
            walk.finish().await;
            assert_eq!(walk.records.len(), 50);
        }
        let old = walk.next.clone();
        let values: HashSet<u64> = walk.records.iter().map(|r| r.2.as_u64().unwrap()).collect();
        assert!(
            values.iter().all(|value| value / 1000 == u64::from(round)),
            "{values:?} in round {round}"
        );
        plain.delete_topic(&topic).await;
        eventually(Duration::from_secs(60), async || {
            plain.leader(&topic, 0).await.is_none()
        })
        .await;
        plain.create_topic(&topic, 1, &[]).await;
        write(&producer, &topic, 0, &numbers(900_000..900_300)).await;
        // The old position gives nothing of the new topic, at no time.
        let mut walk = Walk::new(&gateway, &topic, 10);
        walk.next = old;
        let mut kinds = HashSet::new();
        let end = Instant::now() + Duration::from_secs(60);
        loop {
            let reply = walk.ask("").await;
            kinds.insert(reply.status.as_u16());
            assert!(
                [400, 404, 503, 504].contains(&reply.status.as_u16()),
                "{}",
                reply.text()
            );
            if reply.status == 400 && reply.text().contains("created again") {
                break;
            }
            assert!(Instant::now() < end, "{}", reply.text());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        println!("{kinds:?}");
        let mut walk = Walk::new(&gateway, &topic, 100);
        walk.finish().await;
        walk.check(&plain, &topic).await;
        plain.delete_topic(&topic).await;
        eventually(Duration::from_secs(60), async || {
            plain.leader(&topic, 0).await.is_none()
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn partitions_added_during_a_walk_are_read_from_their_start() {
    let broker = kafka().await;
    let gateway = Gateway::start(&broker.bootstrap()).await;
    let plain = broker.plain();
    let topic = topic("grown");
    plain.create_topic(&topic, 1, &[]).await;
    let producer = writer(broker, &[]);
    write(&producer, &topic, 0, &numbers(0..50)).await;
    let mut walk = Walk::new(&gateway, &topic, 20);
    walk.until(20).await;

    plain.add_partitions(&topic, 3).await;
    let producer = writer(broker, &[]);
    write(&producer, &topic, 1, &numbers(100..150)).await;
    write(&producer, &topic, 2, &numbers(200..250)).await;

    walk.until(150).await;
    walk.finish().await;
    walk.check(&plain, &topic).await;
}

/// More than there are handles, each given up by its client in the middle.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn waits_that_nobody_waits_for_any_more_cost_nothing() {
    let broker = kafka().await;
    let gateway = Gateway::builder(&broker.bootstrap())
        .set("telemetry.log_level", "info")
        .start()
        .await;
    let plain = broker.plain();
    let topic = topic("abandoned");
    plain.create_topic(&topic, 1, &[]).await;
    plain.produce(number(&topic, 0, "1")).await;
    let url = gateway.url(&format!("/topics/{topic}/records"));
    let waiting = format!("{url}?from=latest&wait=25000");
    let client = http::client();
    for _ in 0..6 {
        let waits: Vec<_> = (0..100)
            .map(|_| tokio::spawn(client.get(&waiting).send()))
            .collect();
        tokio::time::sleep(Duration::from_millis(300)).await;
        waits.iter().for_each(tokio::task::JoinHandle::abort);
        // What is left behind takes its leave, and until then there may be no room. It would not go by
        // itself within this time.
        eventually(Duration::from_secs(22), async || {
            let reply = http::get(&format!("{url}?from=earliest")).await;
            assert!(reply.status == 200 || reply.status == 503, "{reply:?}");
            reply.status == 200
        })
        .await;
    }
    // And waits are taken again: one that is refused says so at once.
    eventually(Duration::from_secs(60), async || {
        let reply = http::get(&format!("{url}?from=latest&wait=1")).await;
        assert!(reply.status == 200 || reply.status == 503, "{reply:?}");
        reply.status == 200
    })
    .await;
    let log = gateway.stderr();
    assert!(!log.contains("without close"), "{log}");
    assert!(!log.contains("panicked"), "{log}");
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
