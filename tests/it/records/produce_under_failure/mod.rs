//! What was acknowledged is in Kafka exactly once, and everything else got an answer that says so, while
//! brokers are killed, frozen and short of replicas. What the tests share is here.
//!
//! - `acknowledged`: a burst of records while brokers and the gateway end
//! - `full_queue`: a queue that is full says so at once
//! - `leaderless_topics`: topics without a leader or enough replicas, beside others
//! - `topic_limits`: topics that refuse what is larger, and topics that are deleted

mod acknowledged;
mod full_queue;
mod leaderless_topics;
mod topic_limits;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use reqwest::Client;
use serde_json::{Value, json};

use crate::support::eventually;
use crate::support::gateway::Gateway;
use crate::support::http::{self, Reply};
use crate::support::kafka_client::{Isolation, KafkaClient};

/// `message.timeout.ms`, as the gateway sets it, and what librdkafka and a busy machine may add.
const LONGEST: Duration = Duration::from_secs(20 + 35);

/// What clients were told about the records they posted; each value is posted once.
#[derive(Default)]
struct Told {
    written: Vec<(i32, i64, u64)>,
    maybe: HashSet<u64>,
    not: HashSet<u64>,
    /// The connection broke before an answer.
    unanswered: HashSet<u64>,
    slowest: Duration,
}

impl Told {
    fn outcome(&mut self, value: u64, outcome: &Value) {
        match (outcome["partition"].as_i64(), outcome["offset"].as_i64()) {
            (Some(partition), Some(offset)) => {
                let partition = i32::try_from(partition).unwrap();
                self.written.push((partition, offset, value));
            }
            // Acknowledged without an offset: a retry of what was there already.
            (Some(_), None) => {
                self.maybe.insert(value);
            }
            _ if outcome["maybe_written"] == true => {
                self.maybe.insert(value);
            }
            _ => {
                assert_eq!(outcome["retriable"], true, "{outcome}");
                self.not.insert(value);
            }
        }
    }

    fn merge(&mut self, other: Self) {
        self.written.extend(other.written);
        self.maybe.extend(other.maybe);
        self.not.extend(other.not);
        self.unanswered.extend(other.unanswered);
        self.slowest = self.slowest.max(other.slowest);
    }

    /// Compares with what is in the topic.
    async fn check(&self, plain: &KafkaClient, topic: &str) {
        let end = Instant::now() + Duration::from_secs(60);
        let mut places = loop {
            let places = places(plain, topic).await;
            let mut written = self.written.iter();
            // A leader that is new knows only a moment later how far the replicas are.
            if written.all(|(_, _, value)| places.contains_key(value)) || Instant::now() > end {
                break places;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        };
        for (partition, offset, value) in &self.written {
            assert_eq!(
                places.remove(value),
                Some(vec![(*partition, *offset)]),
                "{value} was acknowledged at {partition}@{offset}"
            );
        }
        for (value, places) in places {
            assert!(
                self.maybe.contains(&value) || self.unanswered.contains(&value),
                "{value} is at {places:?}, and its client was told that it is not"
            );
            assert_eq!(places.len(), 1, "{value} is there twice: {places:?}");
        }
        println!(
            "{} written, {} perhaps, {} not, {} without an answer, slowest answer {:?}",
            self.written.len(),
            self.maybe.len(),
            self.not.len(),
            self.unanswered.len(),
            self.slowest,
        );
    }
}

/// Where each value is in a topic.
async fn places(plain: &KafkaClient, topic: &str) -> HashMap<u64, Vec<(i32, i64)>> {
    let records = plain
        .consume_all_as(topic, Isolation::ReadUncommitted)
        .await;
    let mut places: HashMap<u64, Vec<(i32, i64)>> = HashMap::new();
    for record in &records {
        let value: u64 = record.text().unwrap().parse().unwrap();
        let place = (record.partition, record.offset);
        places.entry(value).or_default().push(place);
    }
    places
}

/// Clients that post numbers one after the other, every fourth time a handful at once, until they
/// are told to stop.
struct Burst {
    clients: Vec<tokio::task::JoinHandle<Told>>,
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
}

impl Burst {
    fn start(gateway: &Gateway, topic: &str, clients: u64) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let answered = Arc::new(AtomicU64::new(0));
        let url = gateway.url(&format!("/topics/{topic}/records"));
        let start = |number: u64| {
            let (stop, answered, url) = (Arc::clone(&stop), Arc::clone(&answered), url.clone());
            tokio::spawn(async move {
                let http = http::client();
                let mut told = Told::default();
                let mut next = number * 1_000_000;
                while !stop.load(Ordering::Relaxed) {
                    let many = if next.is_multiple_of(4) { 7 } else { 1 };
                    let values: Vec<u64> = (next..next + many).collect();
                    next += many;
                    post(&http, &url, &values, &mut told).await;
                    answered.fetch_add(1, Ordering::Relaxed);
                }
                told
            })
        };
        Self {
            clients: (0..clients).map(start).collect(),
            stop,
            answered,
        }
    }

    async fn goes_on(&self, answers: u64) {
        let before = self.answered.load(Ordering::Relaxed);
        eventually(Duration::from_secs(240), async || {
            self.answered.load(Ordering::Relaxed) >= before + answers
        })
        .await;
    }

    async fn end(self) -> Told {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Told::default();
        for client in self.clients {
            all.merge(client.await.unwrap());
        }
        all
    }
}

async fn post(http: &Client, url: &str, values: &[u64], told: &mut Told) {
    let body = match values {
        [value] => json!({ "value": value }),
        values => values
            .iter()
            .map(|value| json!({ "value": value }))
            .collect(),
    };
    let began = Instant::now();
    let answer = http.post(url).json(&body).send().await;
    let answer = match answer {
        Ok(response) => {
            let status = response.status();
            response.json::<Value>().await.map(|body| (status, body))
        }
        Err(error) => Err(error),
    };
    told.slowest = told.slowest.max(began.elapsed());
    match answer {
        Ok((status, body)) => {
            assert!(
                [200, 503, 504].contains(&status.as_u16()),
                "{status}: {body}"
            );
            for (index, value) in values.iter().enumerate() {
                // An array is answered one by one, or refused as a whole.
                told.outcome(*value, body.get(index).unwrap_or(&body));
            }
        }
        Err(error) => {
            assert!(!error.is_timeout(), "no answer: {error}");
            told.unanswered.extend(values);
            // So that a gateway that is gone is not asked a million times.
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

async fn send(http: &Client, url: &str, body: &Value) -> Reply {
    http::send(http.post(url).json(body)).await
}

/// Posts to a topic one record after the other until told to stop: the slowest answer, and the
/// answers that were no success.
fn steadily(
    gateway: &Gateway,
    topic: &str,
    stop: &Arc<AtomicBool>,
) -> tokio::task::JoinHandle<(u64, Duration, Vec<String>)> {
    let url = gateway.url(&format!("/topics/{topic}/records"));
    let stop = Arc::clone(stop);
    tokio::spawn(async move {
        let http = http::client();
        let (mut count, mut slowest, mut failures) = (0, Duration::ZERO, Vec::new());
        while !stop.load(Ordering::Relaxed) {
            let began = Instant::now();
            let reply = send(&http, &url, &json!({ "value": count })).await;
            if reply.status != 200 {
                failures.push(format!("{:?} {}", began.elapsed(), reply.text()));
            }
            count += 1;
            slowest = slowest.max(began.elapsed());
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        (count, slowest, failures)
    })
}
