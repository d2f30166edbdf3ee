//! That what was acknowledged is in Kafka exactly once, and that everything else got an answer that
//! says so, while brokers are killed, frozen and short of replicas.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use reqwest::Client;
use serde_json::{Value, json};

use crate::support::broker::Broker;
use crate::support::gateway::Gateway;
use crate::support::http::{self, Reply};
use crate::support::kafka_client::{Isolation, Plain};
use crate::support::{assert_readable, eventually, kafka, metric, topic};

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
    async fn check(&self, plain: &Plain, topic: &str) {
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
async fn places(plain: &Plain, topic: &str) -> HashMap<u64, Vec<(i32, i64)>> {
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: a broker is killed and restarted twice under load"]
async fn what_was_acknowledged_survives_the_only_broker() {
    let broker = Broker::start().await;
    let gateway = Gateway::start(&broker.bootstrap()).await;
    broker.plain().create_topic("burst", 3, &[]).await;

    let burst = Burst::start(&gateway, "burst", 8);
    for _ in 0..2 {
        burst.goes_on(500).await;
        broker.kill();
        tokio::time::sleep(Duration::from_secs(3)).await;
        broker.restart().await;
    }
    burst.goes_on(500).await;

    let told = burst.end().await;
    assert!(told.slowest < LONGEST, "{:?}", told.slowest);
    assert!(told.unanswered.is_empty());
    told.check(&broker.plain(), "burst").await;
}

/// Long enough away that records are given up.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: a broker stays away longer than a record may wait"]
async fn what_waited_in_vain_is_told_so() {
    let broker = Broker::start().await;
    let gateway = Gateway::builder(&broker.bootstrap())
        .set("kafka.producer.message.timeout.ms", "3000")
        .start()
        .await;
    broker.plain().create_topic("burst", 3, &[]).await;

    let burst = Burst::start(&gateway, "burst", 8);
    burst.goes_on(500).await;
    broker.kill();
    tokio::time::sleep(Duration::from_secs(8)).await;
    broker.restart().await;
    burst.goes_on(500).await;
    broker.pause();
    tokio::time::sleep(Duration::from_secs(8)).await;
    broker.resume();
    burst.goes_on(500).await;

    let told = burst.end().await;
    assert!(!told.not.is_empty() || !told.maybe.is_empty());
    assert!(told.slowest < Duration::from_secs(3 + 35));
    told.check(&broker.plain(), "burst").await;
    assert_readable(&gateway.stderr());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: three brokers, of which one is killed and one frozen"]
async fn what_was_acknowledged_survives_a_leader() {
    let broker = Broker::builder().nodes(3).start().await;
    let gateway = Gateway::start(&broker.bootstrap()).await;
    let plain = broker.plain();
    plain
        .create_topic("burst", 3, &[("min.insync.replicas", "2")])
        .await;

    let burst = Burst::start(&gateway, "burst", 8);
    burst.goes_on(500).await;
    broker.node(1).kill();
    burst.goes_on(500).await;
    broker.node(1).restart().await;
    burst.goes_on(500).await;
    // Not fenced before it is frozen, or the topic has too few replicas for a while.
    broker.node(2).pause();
    tokio::time::sleep(Duration::from_secs(10)).await;
    broker.node(2).resume();
    burst.goes_on(500).await;

    let told = burst.end().await;
    assert!(told.slowest < LONGEST, "{:?}", told.slowest);
    assert!(told.unanswered.is_empty());
    told.check(&plain, "burst").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_end_in_the_middle_of_a_burst_loses_nothing() {
    let plain = kafka().await.plain();
    let gateway = Gateway::start(&kafka().await.bootstrap()).await;
    let topic = topic("ended");
    plain.create_topic(&topic, 3, &[]).await;

    let burst = Burst::start(&gateway, &topic, 16);
    burst.goes_on(1000).await;
    let ended = gateway.terminate().await;
    // So that each of them has met with its absence.
    burst.goes_on(2 * 16).await;
    let told = burst.end().await;

    assert_eq!(ended.status.code(), Some(0), "{}", ended.stderr);
    assert!(!ended.stderr.contains("panicked"), "{}", ended.stderr);
    assert!(!told.unanswered.is_empty(), "the end came after the burst");
    told.check(&plain, &topic).await;
}

async fn send(http: &Client, url: &str, body: &Value) -> Reply {
    http::send(http.post(url).json(body)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: a broker stays frozen while the queue fills"]
async fn a_full_queue_is_said_at_once_and_empties_again() {
    let broker = Broker::start().await;
    let gateway = Gateway::builder(&broker.bootstrap())
        .set("kafka.producer.queue.buffering.max.messages", "200")
        .set("kafka.producer.queue.buffering.max.kbytes", "16384")
        // What waits does so until the broker goes on.
        .set("kafka.producer.message.timeout.ms", "120000")
        .start()
        .await;
    let plain = broker.plain();
    plain.create_topic("full", 1, &[]).await;
    let url = gateway.url("/topics/full/records");
    let http = http::client();
    assert_eq!(send(&http, &url, &json!({"value": 0})).await.status, 200);
    broker.pause();

    let posts = (1..=500_u64).map(|value| {
        let (http, url) = (http.clone(), url.clone());
        tokio::spawn(async move {
            let began = Instant::now();
            let reply = send(&http, &url, &json!({ "value": value })).await;
            (value, reply, began.elapsed())
        })
    });
    let posts: Vec<_> = posts.collect();
    // All but those that fit are answered although nothing moves.
    eventually(Duration::from_secs(30), async || {
        posts.iter().filter(|post| post.is_finished()).count() >= 400
    })
    .await;
    // Large records, to fill the queue's bytes and not only its places.
    let before = resident(&gateway);
    let large = json!({ "value": "x".repeat(900_000) });
    let larges: Vec<_> = (0..100)
        .map(|_| {
            let (http, url, large) = (http.clone(), url.clone(), large.clone());
            tokio::spawn(async move { send(&http, &url, &large).await })
        })
        .collect();
    for post in larges {
        let reply = post.await.unwrap();
        assert_eq!(reply.status, 503, "{reply:?}");
    }
    let grown = resident(&gateway).saturating_sub(before);
    println!("{} MiB more for 90 MB of refused records", grown >> 20);
    broker.resume();

    let mut told = Told::default();
    for post in posts {
        let (value, reply, took) = post.await.unwrap();
        let body = reply.json();
        if reply.status == 503 {
            assert!(took < Duration::from_secs(30), "{took:?}");
            assert_eq!(reply.header("retry-after"), "1");
            assert_eq!(body["retriable"], true, "{body}");
            assert_eq!(body.get("maybe_written"), None, "{body}");
        } else {
            assert_eq!(reply.status, 200, "{reply:?}");
        }
        told.outcome(value, &body);
    }
    assert_eq!((told.written.len(), told.not.len()), (100, 400));
    let reply = send(&http, &url, &json!({"value": 501})).await;
    told.outcome(501, &reply.json());
    assert_eq!(reply.status, 200, "{reply:?}");
    told.written.push((0, 0, 0));
    told.check(&plain, "full").await;
    assert!(grown < 128 << 20, "{grown} bytes more");
}

/// Bytes of memory that the gateway holds.
fn resident(gateway: &Gateway) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", gateway.pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let kib: u64 = line
        .and_then(|line| line.split_whitespace().nth(1))
        .unwrap()
        .parse()
        .unwrap();
    kib << 10
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

#[derive(Clone, Copy, PartialEq)]
enum Trouble {
    Killed,
    Frozen,
}

/// How long a record for a dead broker waits; a good deal longer than one for a healthy one may take.
const GIVEN_UP: Duration = Duration::from_secs(16);

/// A topic that only a dead broker has, beside one that all have.
async fn beside_the_dead(trouble: Trouble) {
    let broker = Broker::builder().nodes(3).start().await;
    let plain = broker.plain();
    let gateway = Gateway::builder(&broker.bootstrap())
        .set("kafka.producer.queue.buffering.max.messages", "400")
        .set(
            "kafka.producer.message.timeout.ms",
            &GIVEN_UP.as_millis().to_string(),
        )
        .start()
        .await;
    plain.create_topic_on("dead", &[3], &[]).await;
    plain.create_topic_on("healthy", &[1, 2, 1, 2], &[]).await;
    let dead = gateway.url("/topics/dead/records");
    let http = http::client();
    let mut told = Told::default();
    // Both are known before: the first request for a topic asks any broker about it, and if that is
    // the frozen one it gets a 504 and asks another one the next time.
    let known = gateway.url("/topics/healthy/records");
    for partition in 0..4 {
        let reply = send(&http, &known, &json!({"value": 0, "partition": partition})).await;
        assert_eq!(reply.status, 200, "{reply:?}");
    }
    let first = send(&http, &dead, &json!({"value": 1_000_000})).await;
    told.outcome(1_000_000, &first.json());
    match trouble {
        Trouble::Killed => broker.node(3).kill(),
        Trouble::Frozen => broker.node(3).pause(),
    }

    let stop = Arc::new(AtomicBool::new(false));
    let healthy = steadily(&gateway, "healthy", &stop);
    let began = Instant::now();
    let posts: Vec<_> = (0..600_u64)
        .map(|value| {
            let (http, dead) = (http.clone(), dead.clone());
            tokio::spawn(async move {
                let began = Instant::now();
                let reply = send(&http, &dead, &json!({ "value": value })).await;
                (value, reply, began.elapsed())
            })
        })
        .collect();
    let (mut refused, mut waited) = (0, 0);
    for post in posts {
        let (value, reply, took) = post.await.unwrap();
        let body = reply.json();
        assert!(reply.status == 503 || reply.status == 504, "{reply:?}");
        assert!(took < GIVEN_UP + Duration::from_secs(35), "{took:?}");
        if body["message"].as_str().unwrap().contains("queue is full") {
            refused += 1;
        } else {
            waited += 1;
            if trouble == Trouble::Killed {
                assert_eq!(body["kafka_error"], "LEADER_NOT_AVAILABLE", "{body}");
                assert_eq!(body.get("maybe_written"), None, "{body}");
            }
        }
        told.outcome(value, &body);
    }
    println!(
        "{waited} waited for the dead topic, {refused} were refused, {:?}",
        began.elapsed()
    );
    assert!(waited <= 200, "{waited} of 400 places");
    stop.store(true, Ordering::Relaxed);
    let (count, slowest, failures) = healthy.await.unwrap();
    println!("healthy: {count} posts, the slowest took {slowest:?}");
    assert!(failures.is_empty(), "{failures:?}");
    assert!(slowest < GIVEN_UP - Duration::from_secs(4), "{slowest:?}");

    match trouble {
        Trouble::Killed => broker.node(3).restart().await,
        Trouble::Frozen => broker.node(3).resume(),
    }
    let end = Instant::now() + Duration::from_secs(180);
    for value in 2_000_000.. {
        let reply = send(&http, &dead, &json!({ "value": value })).await;
        told.outcome(value, &reply.json());
        if reply.status == 200 {
            break;
        }
        assert!(
            Instant::now() < end,
            "the topic does not come back: {reply:?}"
        );
    }
    told.check(&plain, "dead").await;
    let replaced = metric(&gateway, "kafka_producer_replaced_total").await;
    println!("producers replaced: {replaced}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: three brokers, of which one stays dead until records are given up"]
async fn a_topic_without_a_leader_leaves_the_others_alone() {
    beside_the_dead(Trouble::Killed).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: three brokers, of which one stays frozen until records are given up"]
async fn a_frozen_broker_leaves_the_topics_of_others_alone() {
    beside_the_dead(Trouble::Frozen).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: a record waits for a second replica as long as it may"]
async fn too_few_replicas_are_named() {
    let broker = Broker::builder().nodes(2).start().await;
    let plain = broker.plain();
    let gateway = Gateway::builder(&broker.bootstrap())
        .set("kafka.producer.message.timeout.ms", "4000")
        .start()
        .await;
    plain
        .create_topic("pair", 1, &[("min.insync.replicas", "2")])
        .await;
    let url = gateway.url("/topics/pair/records");
    assert_eq!(
        http::post_json(&url, &json!({"value": 1})).await.status,
        200
    );
    let leader = plain.leader("pair", 0).await.unwrap();
    broker.node(if leader == 1 { 2 } else { 1 }).kill();

    // Until the dead one is out of the replicas in sync, its acknowledgement is waited for.
    let end = Instant::now() + Duration::from_secs(180);
    let refused = loop {
        let began = Instant::now();
        let reply = http::post_json(&url, &json!({"value": 2})).await;
        assert!(began.elapsed() < Duration::from_secs(4 + 35));
        assert!(reply.status == 503 || reply.status == 504, "{reply:?}");
        let body = reply.json();
        println!("{:?} {body}", began.elapsed());
        assert_eq!(body["retriable"], true, "{body}");
        if body["kafka_error"] == "NOT_ENOUGH_REPLICAS" && body.get("maybe_written").is_none() {
            break reply;
        }
        assert!(Instant::now() < end, "{body}");
    };
    assert_eq!(refused.status, 503);

    broker.node(if leader == 1 { 2 } else { 1 }).restart().await;
    eventually(Duration::from_secs(120), async || {
        http::post_json(&url, &json!({"value": 3})).await.status == 200
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topics_own_limit_refuses_what_is_larger() {
    let plain = kafka().await.plain();
    let gateway = Gateway::start(&kafka().await.bootstrap()).await;
    let topic = topic("limited");
    plain
        .create_topic(&topic, 1, &[("max.message.bytes", "2000")])
        .await;
    let url = gateway.url(&format!("/topics/{topic}/records"));

    let reply = http::post_json(&url, &json!({"value": "x".repeat(3000)})).await;
    assert_eq!(reply.status, 413, "{reply:?}");
    let body = reply.json();
    assert_eq!(body["kafka_error"], "MESSAGE_TOO_LARGE", "{body}");
    assert_eq!(body["retriable"], false, "{body}");
    assert_eq!(body.get("maybe_written"), None, "{body}");

    let reply = http::post_json(&url, &json!({"value": "small"})).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    assert_eq!(plain.consume_all(&topic).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_that_was_deleted_meanwhile_is_said_to_be_gone() {
    let plain = kafka().await.plain();
    let gateway = Gateway::start(&kafka().await.bootstrap()).await;
    let topic = topic("deleted");
    plain.create_topic(&topic, 1, &[]).await;
    let url = gateway.url(&format!("/topics/{topic}/records"));
    assert_eq!(
        http::post_json(&url, &json!({"value": 1})).await.status,
        200
    );
    plain.delete_topic(&topic).await;

    eventually(Duration::from_secs(120), async || {
        let began = Instant::now();
        let reply = http::post_json(&url, &json!({"value": 2})).await;
        assert!(began.elapsed() < LONGEST);
        // The deletion may not have reached the broker yet.
        assert!(
            [200, 404, 503, 504].contains(&reply.status.as_u16()),
            "{reply:?}"
        );
        if reply.status == 404 {
            assert_eq!(reply.json()["error_code"], 40401, "{reply:?}");
        }
        reply.status == 404
    })
    .await;

    plain.create_topic(&topic, 1, &[]).await;
    eventually(Duration::from_secs(120), async || {
        http::post_json(&url, &json!({"value": "again"}))
            .await
            .status
            == 200
    })
    .await;
    let records = plain.consume_all(&topic).await;
    assert_eq!(records.last().unwrap().text(), Some(r#""again""#));
}

/// Together they are larger than the topic takes at once, one by one they are not; but for one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_small_records_fit_a_topic_with_a_small_limit() {
    let plain = kafka().await.plain();
    let gateway = Gateway::start(&kafka().await.bootstrap()).await;
    let topic = topic("small");
    plain
        .create_topic(&topic, 2, &[("max.message.bytes", "2000")])
        .await;
    let url = gateway.url(&format!("/topics/{topic}/records"));
    let record = |n: usize, size: usize| {
        json!({
            "key": n.to_string(), "value": format!("{n:0>size$}"), "partition": n % 2,
            "timestamp": 1_700_000_000_000_u64 + n as u64, "headers": [["n", n.to_string()]],
        })
    };
    let mut body: Vec<Value> = (0..100).map(|n| record(n, 200)).collect();
    body[77] = record(77, 3000);

    let reply = http::post_json(&url, &json!(body)).await;

    assert_eq!(reply.status, 200, "{reply:?}");
    assert_eq!(
        reply.header("tidegate-failed-records"),
        "1",
        "{}",
        reply.text()
    );
    let outcomes = reply.json();
    assert_eq!(
        outcomes[77]["kafka_error"], "MESSAGE_TOO_LARGE",
        "{outcomes}"
    );
    let records = plain.consume_all(&topic).await;
    assert_eq!(records.len(), 99);
    for record in &records {
        let n: usize = std::str::from_utf8(record.key.as_deref().unwrap())
            .unwrap()
            .parse()
            .unwrap();
        assert_eq!(record.text(), Some(format!("\"{n:0>200}\"").as_str()));
        assert_eq!(record.timestamp, Some(1_700_000_000_000 + n as i64));
        assert_eq!(
            record.headers[0].1.as_deref(),
            Some(n.to_string().as_bytes())
        );
        assert_eq!(outcomes[n]["offset"], record.offset, "{n}");
        assert_eq!(outcomes[n]["partition"], record.partition, "{n}");
    }

    // Single records of many clients come into one batch, too.
    body.remove(77);
    let posts = body.iter().map(|record| http::post_json(&url, record));
    for reply in futures::future::join_all(posts).await {
        assert_eq!(reply.status, 200, "{reply:?}");
    }
}
