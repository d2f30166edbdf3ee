//! Cut at random bytes and resumed by its last id, a stream misses nothing, and repeats nothing but what
//! it had shown since that id. A gateway that stops tells its streams to come back.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::{StreamExt, stream};
use serde_json::Value;
use tokio::time::{Instant, sleep, timeout};

use super::{Event, PROMPT, Parser, Stream, place, topic_of, write};
use crate::support::broker::Broker;
use crate::support::gateway::Gateway;
use crate::support::kafka_client::{KafkaClient, OutgoingRecord};
use crate::support::tcp_proxy::TcpProxy;
use crate::support::{kafka, metric, shared_gateway, topic};

/// Topic, partition and offset.
type Place = (String, i64, i64);

/// Silence after which a reader takes it that there is nothing more.
const SILENCE: Duration = Duration::from_millis(700);

/// Numbers without a pattern, and the same in each run.
struct Random(u64);

impl Random {
    fn below(&mut self, most: u64) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005);
        self.0 = self.0.wrapping_add(1_442_695_040_888_963_407);
        usize::try_from((self.0 >> 33) % most).unwrap()
    }
}

/// A client that is cut off again and again, and keeps account of what it saw.
struct Reader {
    random: Random,
    client: reqwest::Client,
    /// The id with which it comes back.
    id: Option<String>,
    /// How often each record came.
    seen: BTreeMap<Place, u32>,
    /// What it has seen of what lies after that id: the only records that may come again.
    since_id: BTreeSet<Place>,
    repeats: usize,
    /// Most records that came after an id.
    longest: usize,
    /// What brokers and gateways in trouble said.
    errors: BTreeSet<String>,
}

impl Reader {
    fn new() -> Self {
        Self {
            random: Random(7),
            client: reqwest::Client::new(),
            id: None,
            seen: BTreeMap::new(),
            since_id: BTreeSet::new(),
            repeats: 0,
            longest: 0,
            errors: BTreeSet::new(),
        }
    }

    /// Connects and reads a random number of bytes, up to `most`; `false` where nobody answered.
    async fn read(&mut self, url: &str, most: u64) -> bool {
        let mut budget = self.random.below(most);
        let mut request = self.client.get(url).header("accept", "text/event-stream");
        if let Some(id) = &self.id {
            request = request.header("last-event-id", id);
        }
        let mut response = match timeout(PROMPT, request.send()).await.unwrap() {
            Ok(response) if response.status() == 200 => response,
            Ok(response) => {
                let status = response.status().as_u16();
                assert!([503, 504].contains(&status), "{status}");
                return false;
            }
            Err(_) => return false,
        };
        let mut parser = Parser::default();
        let mut last: BTreeMap<(String, i64), i64> = BTreeMap::new();
        let mut may_repeat = self.since_id.clone();
        while let Ok(Ok(Some(chunk))) = timeout(SILENCE, response.chunk()).await {
            let take = chunk.len().min(budget);
            for event in parser.push(&chunk[..take]) {
                self.event(&event, &mut last, &mut may_repeat);
            }
            if let Some(id) = &parser.resume {
                self.stands_at(id, &may_repeat);
            }
            budget -= take;
            if budget == 0 {
                break;
            }
        }
        true
    }

    fn event(
        &mut self,
        event: &Event,
        last: &mut BTreeMap<(String, i64), i64>,
        may_repeat: &mut BTreeSet<Place>,
    ) {
        match event.name.as_str() {
            "" => {
                let place = place(event);
                let of = (place.0.clone(), place.1);
                let before = last.insert(of, place.2);
                assert!(before < Some(place.2), "{place:?} after {before:?}");
                let count = self.seen.entry(place.clone()).or_default();
                *count += 1;
                if *count > 1 {
                    self.repeats += 1;
                    assert!(may_repeat.remove(&place), "{place:?} comes again");
                }
                self.since_id.insert(place);
                self.longest = self.longest.max(self.since_id.len());
            }
            "ready" => assert!(
                self.id.is_none() || event.json()["exact"] == true,
                "{}",
                event.data
            ),
            "stream-error" => {
                let said = event.json();
                self.errors.insert(said["message"].to_string());
            }
            "lag" | "drain" => {}
            other => panic!("{other}: {}", event.data),
        }
        if !event.id.is_empty() {
            self.stands_at(&event.id, may_repeat);
        }
    }

    /// What has not come again yet, of what it had seen when it connected, still may: the id says that
    /// other partitions have come further.
    fn stands_at(&mut self, id: &str, may_repeat: &BTreeSet<Place>) {
        if self.id.as_deref() != Some(id) {
            self.id = Some(id.to_owned());
            self.since_id.clone_from(may_repeat);
        }
    }

    fn places(&self) -> BTreeSet<Place> {
        self.seen.keys().cloned().collect()
    }
}

/// A transaction of this many records, committed or aborted.
async fn transaction(
    plain: &KafkaClient,
    (topic, partitions): &(String, i32),
    count: i32,
    value: &str,
    commits: bool,
) -> Vec<Place> {
    let transaction = plain.transaction(topic).await;
    let (of, value) = (&transaction, value.as_bytes());
    let places = stream::iter(0..count)
        .map(|n| async move {
            let record = OutgoingRecord {
                topic,
                partition: Some(n % partitions),
                value: Some(value),
                ..OutgoingRecord::default()
            };
            let (partition, offset) = of.produce(record).await;
            (topic.clone(), i64::from(partition), offset)
        })
        .buffered(500);
    let places = places.collect().await;
    if commits {
        transaction.commit().await;
        places
    } else {
        transaction.abort().await;
        Vec::new()
    }
}

async fn three_topics(plain: &KafkaClient, partitions: [i32; 3]) -> Vec<(String, i32)> {
    let mut topics = Vec::new();
    for (prefix, partitions) in ["cut-a", "cut-b", "cut-tx"].into_iter().zip(partitions) {
        topics.push((topic_of(plain, prefix, partitions).await, partitions));
    }
    topics
}

fn path(topics: &[(String, i32)]) -> String {
    let names: Vec<&str> = topics.iter().map(|(name, _)| name.as_str()).collect();
    format!("/records?topics={}&from=earliest", names.join(","))
}

/// Each event has an id of its own where there are few partitions.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_is_cut_goes_on_where_it_was() {
    let plain = kafka().await.plain();
    let topics = three_topics(&plain, [1, 3, 2]).await;
    let mut written = Some(tokio::spawn({
        let (plain, topics) = (plain.clone(), topics.clone());
        async move {
            let mut all = BTreeSet::new();
            for n in 0..600_i32 {
                let (name, partitions) = &topics[usize::try_from(n % 2).unwrap()];
                let partition = n % partitions;
                let offset = write(&plain, name, partition, &n.to_string()).await;
                all.insert((name.clone(), i64::from(partition), offset));
                if n % 30 == 0 {
                    let commits = n % 60 != 0;
                    all.extend(transaction(&plain, &topics[2], 4, "1", commits).await);
                }
            }
            all
        }
    }));
    let url = shared_gateway().await.url(&path(&topics));
    let mut reader = Reader::new();
    let mut cuts = 0;
    let deadline = Instant::now() + Duration::from_secs(400);
    let mut all = None;
    while all
        .as_ref()
        .is_none_or(|all: &BTreeSet<_>| reader.seen.len() < all.len())
    {
        assert!(reader.read(&url, 6_000).await);
        cuts += 1;
        if written.as_ref().is_some_and(|task| task.is_finished()) {
            all = Some(written.take().unwrap().await.unwrap());
        }
        let count = reader.seen.len();
        assert!(Instant::now() < deadline, "{count} after {cuts} cuts");
    }
    assert_eq!(reader.places(), all.unwrap());
    assert!(cuts > 10, "{cuts}");
    assert_eq!(reader.repeats, 0, "each event has its own id");
    assert!(reader.errors.is_empty(), "{:?}", reader.errors);
}

/// NDJSON has no ids on records: a client that was cut goes on with the offsets that it has seen.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lines_that_are_cut_go_on_after_the_offsets_that_were_seen() {
    let plain = kafka().await.plain();
    let name = topic_of(&plain, "cut-lines", 3).await;
    for n in 0..300 {
        write(&plain, &name, n % 3, &n.to_string()).await;
    }
    let url = shared_gateway()
        .await
        .url(&format!("/topics/{name}/records"));
    let mut random = Random(11);
    let mut next: BTreeMap<i64, i64> = BTreeMap::new();
    let mut seen = 0;
    let mut cuts = 0;
    while seen < 300 {
        let from: Vec<String> = next.iter().map(|(p, o)| format!("{p}@{o}")).collect();
        let from = if from.is_empty() {
            "earliest".to_owned()
        } else {
            from.join(",")
        };
        let request = reqwest::Client::new()
            .get(format!("{url}?from={from}"))
            .header("accept", "application/x-ndjson");
        let mut response = request.send().await.unwrap();
        assert_eq!(response.status(), 200);
        let mut budget = random.below(6_000);
        let mut bytes = Vec::new();
        while let Ok(Ok(Some(chunk))) = timeout(SILENCE, response.chunk()).await {
            let take = chunk.len().min(budget);
            bytes.extend_from_slice(&chunk[..take]);
            budget -= take;
            if budget == 0 {
                break;
            }
        }
        let whole = bytes.iter().rposition(|b| *b == b'\n').map_or(0, |at| at);
        for line in bytes[..whole].split(|b| *b == b'\n') {
            if line.is_empty() {
                continue;
            }
            let line: Value = serde_json::from_slice(line).unwrap();
            if line.get("event").is_some() {
                assert_eq!(line["event"], "ready", "{line}");
                continue;
            }
            // Where it had seen nothing of a partition yet, that one begins at its beginning.
            let offset = line["offset"].as_i64().unwrap();
            let before = next.insert(line["partition"].as_i64().unwrap(), offset + 1);
            assert_eq!(before.unwrap_or(0), offset, "{line}");
            seen += 1;
        }
        cuts += 1;
        assert!(cuts < 500, "{seen} after {cuts} cuts");
    }
    assert!(cuts > 5, "{cuts}");
}

/// Records that a reader of committed ones sees.
const VISIBLE: usize = 100_000;
const CUTS: usize = 1_000;

/// What is written while the reader reads: a part whenever it has been cut so often.
async fn write_all(plain: KafkaClient, topics: Vec<(String, i32)>, cuts: Arc<AtomicUsize>) {
    const ROUNDS: usize = 100;
    // Of 1,000 visible records of a round, 200 are of a committed transaction.
    const EACH: i32 = 800;
    let value = format!("{{\"text\":\"{}\"}}", "x".repeat(150));
    for round in 0..ROUNDS {
        while cuts.load(Ordering::Relaxed) < round * CUTS * 8 / 10 / ROUNDS {
            sleep(Duration::from_millis(20)).await;
        }
        let (plain, topics, value) = (&plain, &topics, &value);
        let single = stream::iter(0..EACH)
            .map(|n| async move {
                let (topic, partitions) = &topics[usize::try_from(n % 2).unwrap()];
                write(plain, topic, n / 2 % partitions, value).await
            })
            .buffered(400)
            .count();
        let inside = async {
            if round % 2 == 0 {
                transaction(plain, &topics[2], 100, value, false).await;
            }
            transaction(plain, &topics[2], 200, value, true).await;
        };
        tokio::join!(single, inside);
    }
}

/// Over more than eight partitions, so that not each event has an id. A broker is killed and comes back,
/// one gateway is killed and one is asked to end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: a thousand cuts, with three brokers of which one dies, and three gateways"]
async fn a_thousand_cuts_lose_nothing_and_repeat_only_what_had_no_id_yet() {
    let kafka = Broker::builder().nodes(3).start().await;
    let plain = kafka.plain();
    let mut topics = Vec::new();
    for prefix in ["cuts-a", "cuts-b", "cuts-tx"] {
        let name = topic(prefix);
        plain.create_topic(&name, 4, &[]).await;
        topics.push((name, 4));
    }
    let first = Gateway::start(&kafka.bootstrap()).await;
    let front = TcpProxy::of(&first).await;
    let url = front.url(&path(&topics));
    let cuts = Arc::new(AtomicUsize::new(0));
    let mut written = Some(tokio::spawn(write_all(
        plain.clone(),
        topics.clone(),
        Arc::clone(&cuts),
    )));
    let after = async |count: usize| {
        while cuts.load(Ordering::Relaxed) < count {
            sleep(Duration::from_millis(20)).await;
        }
    };
    let trouble = async {
        after(CUTS / 5).await;
        let leads = plain.leader(&topics[0].0, 0).await.unwrap();
        let node = kafka.node(u32::try_from(leads).unwrap());
        node.kill();
        after(2 * CUTS / 5).await;
        node.restart().await;
        after(CUTS / 2).await;
        let second = Gateway::start(&kafka.bootstrap()).await;
        front.lead_to(&second);
        first.kill();
        after(3 * CUTS / 4).await;
        let third = Gateway::start(&kafka.bootstrap()).await;
        front.lead_to(&third);
        assert!(second.terminate().await.status.success());
        third
    };
    let mut reader = Reader::new();
    let read = async {
        let deadline = Instant::now() + Duration::from_secs(1_000);
        loop {
            let so_far = cuts.load(Ordering::Relaxed);
            // What is left after the last cut that was asked for comes in large pieces.
            let most = if so_far < CUTS { 90_000 } else { 4 << 20 };
            if reader.read(&url, most).await {
                cuts.fetch_add(1, Ordering::Relaxed);
            } else {
                sleep(Duration::from_millis(50)).await;
            }
            if written.as_ref().is_some_and(|task| task.is_finished()) {
                written.take().unwrap().await.unwrap();
            }
            let count = reader.seen.len();
            if written.is_none() && so_far >= CUTS && count >= VISIBLE {
                return;
            }
            assert!(
                Instant::now() < deadline,
                "{count} after {so_far} cuts; {:?}",
                reader.errors
            );
        }
    };
    let begun = Instant::now();
    let (third, ()) = tokio::join!(trouble, read);
    let mut wanted = BTreeSet::new();
    for (topic, _) in &topics {
        // What a producer tried twice while a broker died may be there twice.
        for record in plain.consume_all(topic).await {
            wanted.insert((topic.clone(), i64::from(record.partition), record.offset));
        }
    }
    assert!(wanted.len() >= VISIBLE);
    while reader.seen.len() < wanted.len() {
        assert!(begun.elapsed() < Duration::from_secs(1_100));
        reader.read(&url, 4 << 20).await;
    }
    assert_eq!(reader.places(), wanted);
    eprintln!(
        "{} records, {} cuts, {} repeats, at most {} since an id, {:?}: {:?}",
        wanted.len(),
        cuts.load(Ordering::Relaxed),
        reader.repeats,
        reader.longest,
        begun.elapsed(),
        reader.errors,
    );
    assert!(reader.repeats > 0, "cuts come between ids");
    // What was sent together of each topic is some kilobytes.
    assert!(reader.longest < 3_000, "{}", reader.longest);
    assert!(metric(&third, "stream_readers").await < 1.5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_that_stops_sends_its_streams_away() {
    let plain = kafka().await.plain();
    let name = topic_of(&plain, "drain", 1).await;
    let gateway = Gateway::start(&kafka().await.bootstrap()).await;
    let url = gateway.url(&format!("/topics/{name}/records"));
    let mut streams = Vec::new();
    for _ in 0..5 {
        let mut stream = Stream::open(&url, None).await;
        stream.named("ready").await;
        streams.push(stream);
    }
    gateway.ask_to_end();
    let mut retries = BTreeSet::new();
    for mut stream in streams {
        let drain = stream.named("drain").await;
        assert_eq!(stream.next().await, None);
        assert_eq!(stream.parser.retry, drain.json()["retry"].as_u64());
        retries.insert(stream.parser.retry);
    }
    assert!(retries.len() > 1, "{retries:?}");
    assert!(gateway.ended().await.status.success());
}
