//! Pages neither skip nor repeat a record, whatever becomes of brokers and topics meanwhile: what
//! `GET /topics/{topic}/records` gives page by page is compared with what a plain client reads of the same
//! topic. What the tests share is here.
//!
//! - `broker_failures`: leaders that change, brokers that freeze, die and come back
//! - `log`: compression, transactions, compaction, large records
//! - `topic_changes`: topics that are created again, and partitions that are added

mod broker_failures;
mod log;
mod topic_changes;

use std::collections::HashSet;
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::producer::{FutureProducer, FutureRecord};
use reqwest::Client;
use serde_json::Value;

use crate::support::broker::Broker;
use crate::support::gateway::Gateway;
use crate::support::http::{self, Reply};
use crate::support::kafka_client::{KafkaClient, OutgoingRecord, StoredRecord};

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
    async fn check(&self, plain: &KafkaClient, topic: &str) {
        self.check_with(&plain.consume_all(topic).await);
    }

    fn check_with(&self, there: &[StoredRecord]) {
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

fn number(topic: &str, partition: i32, text: &str) -> OutgoingRecord<'static> {
    // Leaked by tests only, for records that are described in a line.
    let leak = |text: &str| -> &'static str { Box::leak(text.to_owned().into_boxed_str()) };
    OutgoingRecord {
        topic: leak(topic),
        partition: Some(partition),
        value: Some(leak(text).as_bytes()),
        ..OutgoingRecord::default()
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
