//! The limits on Kafka's side: the client library called directly, with nothing in front of it.
//!
//! Producers are given the very properties that the gateway gives its own, so that what is compared
//! is the way to the producer and not its tuning.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{
    BaseRecord, FutureProducer, FutureRecord, Producer, ProducerContext, ThreadedProducer,
};
use rdkafka::util::IntoOpaque;
use rdkafka::{ClientConfig, ClientContext, Message, Offset, TopicPartitionList};
use tidegate::config::{KafkaSettings, LimitSettings};
use tidegate::kafka::Role;
use tidegate::kafka::client;

use super::load::{Pace, Ran};
use super::records::Record;

/// Longest time for Kafka to give what it was asked for.
const BOUND: Duration = Duration::from_secs(60);

/// Records that a `FutureProducer` has under way, each with its future: enough that the library is
/// never out of work.
const WINDOW: usize = 10_000;

/// Kafka, as the library's own user meets it.
#[derive(Clone)]
pub struct Direct {
    producer: ClientConfig,
    consumer: ClientConfig,
}

impl Direct {
    /// Clients of the Kafka at these addresses.
    pub fn new(bootstrap: &str) -> Self {
        let settings = KafkaSettings {
            bootstrap_servers: bootstrap.to_owned(),
            ..KafkaSettings::default()
        };
        let producer = client::librdkafka(&settings, &LimitSettings::default(), Role::Producer);
        let mut consumer = ClientConfig::new();
        consumer
            .set("bootstrap.servers", bootstrap)
            // Wanted before partitions are assigned, and used for nothing here.
            .set("group.id", "bench")
            .set("enable.auto.commit", "false")
            .set("enable.partition.eof", "true")
            // The library's second stalls a fast reader; with this it reads at its best.
            .set("fetch.queue.backoff.ms", "5");
        Self { producer, consumer }
    }

    /// Creates topics and waits until each has a leader.
    pub async fn create_topics(&self, names: &[String], partitions: i32) {
        let topic = |name| NewTopic::new(name, partitions, TopicReplication::Fixed(1));
        self.create(names.iter().map(|name| topic(name)).collect())
            .await;
    }

    /// Creates a topic that keeps only the last of what is written to it.
    pub async fn create_written(&self, name: &str, partitions: i32) {
        let topic = NewTopic::new(name, partitions, TopicReplication::Fixed(1))
            .set("segment.bytes", "16777216")
            .set("retention.bytes", "33554432");
        self.create(vec![topic]).await;
    }

    /// Creates a compacted topic, which takes no record without a key.
    pub async fn create_compacted(&self, name: &str, partitions: i32) {
        let topic = NewTopic::new(name, partitions, TopicReplication::Fixed(1))
            .set("cleanup.policy", "compact")
            .set("segment.bytes", "16777216");
        self.create(vec![topic]).await;
    }

    async fn create(&self, topics: Vec<NewTopic<'_>>) {
        let admin: AdminClient<_> = self.consumer.create().expect("an administration client");
        let options = AdminOptions::new().operation_timeout(Some(BOUND));
        let created = admin.create_topics(&topics, &options).await;
        for topic in created.expect("Kafka answers") {
            topic.expect("a new topic");
        }
        let last = topics.last().expect("at least one topic");
        let (last, partitions) = (last.name, last.num_partitions);
        let end = Instant::now() + BOUND;
        loop {
            let metadata = admin.inner().fetch_metadata(Some(last), BOUND);
            let metadata = metadata.expect("Kafka answers");
            let led = metadata
                .topics()
                .iter()
                .flat_map(|topic| topic.partitions());
            let led = led.filter(|partition| partition.leader() >= 0).count();
            if i32::try_from(led) == Ok(partitions) {
                return;
            }
            assert!(Instant::now() < end, "{last} has no leaders");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// One thread that hands over records as fast as the library takes them, and a context that
    /// counts the reports. Ends after `time`.
    pub fn produce(&self, topic: &str, records: &[Record], time: Duration) -> Ran {
        pour(&self.producer, topic, records, time, u64::MAX)
    }

    /// Writes so many records in batches of 16 KiB, as Java's producers make them. Left alone, this
    /// library would make batches of a megabyte here, which no reader of single pages deserves.
    pub fn fill(&self, topic: &str, records: &[Record], count: u64) {
        let mut config = self.producer.clone();
        config.set("batch.size", "16384");
        pour(&config, topic, records, BOUND, count);
    }

    /// The same with the library's `FutureProducer`: a future for each record, awaited in order.
    pub async fn produce_futures(&self, topic: &str, records: &[Record], time: Duration) -> Ran {
        let producer: FutureProducer = self.producer.create().expect("a producer");
        let first = FutureRecord::to(topic)
            .key(&records[0].key)
            .payload(&records[0].value);
        producer.send(first, BOUND).await.expect("a record written");
        let started = Instant::now();
        let mut under_way = VecDeque::with_capacity(WINDOW);
        let mut written = 0_u64;
        for record in records.iter().cycle() {
            if written.is_multiple_of(256) && started.elapsed() >= time {
                break;
            }
            if under_way.len() == WINDOW {
                let done: rdkafka::producer::DeliveryFuture =
                    under_way.pop_front().expect("it is full");
                done.await.expect("a report").expect("a record written");
                written += 1;
            }
            let mut future = FutureRecord::to(topic)
                .key(&record.key)
                .payload(&record.value);
            loop {
                match producer.send_result(future) {
                    Ok(delivery) => break under_way.push_back(delivery),
                    Err((error, back)) => {
                        wait_for_room(&error);
                        future = back;
                    }
                }
            }
        }
        for done in under_way {
            done.await.expect("a report").expect("a record written");
            written += 1;
        }
        Ran {
            requests: written,
            elapsed: started.elapsed(),
            latencies: Vec::new(),
        }
    }

    /// So many records a second, each timed from its hand-over to its report.
    pub async fn produce_paced(
        &self,
        topic: &str,
        records: &[Record],
        rate: u32,
        time: Duration,
    ) -> Ran {
        #[derive(Default)]
        struct Clock(Mutex<Vec<u64>>);
        impl Clock {
            fn take(&self) -> Vec<u64> {
                std::mem::take(&mut *self.0.lock().expect("nothing panics in it"))
            }
        }
        impl ClientContext for Clock {}
        impl ProducerContext for Clock {
            type DeliveryOpaque = Box<Instant>;
            fn delivery(&self, result: &DeliveryResult<'_>, sent: Box<Instant>) {
                assert!(result.is_ok(), "a record failed");
                let nanos = u64::try_from(sent.elapsed().as_nanos()).unwrap_or(u64::MAX);
                self.0.lock().expect("nothing panics in it").push(nanos);
            }
        }
        let producer: ThreadedProducer<Clock> = self
            .producer
            .create_with_context(Clock::default())
            .expect("a producer");
        let first = record_of(topic, &records[0], Box::new(Instant::now()));
        assert!(producer.send(first).is_ok());
        producer.flush(BOUND).expect("the first record is reported");
        producer.context().take();
        let started = Instant::now();
        let mut pace = Pace::new(rate);
        let mut next = records.iter().cycle();
        while started.elapsed() < time {
            for _ in 0..pace.wait().await {
                let Some(record) = next.next() else { break };
                let native = record_of(topic, record, Box::new(Instant::now()));
                assert!(producer.send(native).is_ok(), "no room for a record");
            }
        }
        let elapsed = started.elapsed();
        producer.flush(BOUND).expect("every record is reported");
        let latencies = producer.context().take();
        Ran {
            requests: latencies.len() as u64,
            elapsed,
            latencies,
        }
    }

    /// A producer that single records are handed to.
    pub fn plain_producer(&self) -> Sender {
        Sender {
            producer: self.producer.create().expect("a producer"),
        }
    }

    /// One consumer that reads partition 0 from its start to its end, or for `time`; the clock
    /// starts with the first record.
    pub fn consume(&self, topic: &str, time: Duration) -> Ran {
        let consumer = self.consumer();
        assign(&consumer, topic, 0);
        let begin = Instant::now();
        let mut started = None;
        let mut count = 0_u64;
        loop {
            match consumer.poll(Duration::from_millis(100)) {
                Some(Ok(message)) => {
                    std::hint::black_box(message.payload());
                    count += 1;
                }
                Some(Err(KafkaError::PartitionEOF(_))) => break,
                Some(Err(error)) => panic!("reading {topic}: {error}"),
                None => assert!(begin.elapsed() < BOUND, "{topic} cannot be read"),
            }
            let started = started.get_or_insert_with(Instant::now);
            if count.is_multiple_of(256) && started.elapsed() >= time {
                break;
            }
        }
        Ran {
            requests: count,
            elapsed: started.map_or(Duration::ZERO, |started| started.elapsed()),
            latencies: Vec::new(),
        }
    }

    /// `clients` threads, each with a consumer that it keeps, each reading `length` records from
    /// one random offset of partition 0 after the other.
    pub fn pages(&self, topic: &str, end: u64, length: u64, clients: usize, time: Duration) -> Ran {
        let ready = std::sync::Barrier::new(clients + 1);
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..clients)
                .map(|_| {
                    scope.spawn(|| {
                        let consumer = self.consumer();
                        // The first page pays for the connection.
                        read_page(&consumer, topic, 0, length);
                        ready.wait();
                        let started = Instant::now();
                        let mut latencies = Vec::new();
                        while started.elapsed() < time {
                            let asked = Instant::now();
                            let from = fastrand::u64(..end - length);
                            read_page(&consumer, topic, from, length);
                            let nanos = asked.elapsed().as_nanos();
                            latencies.push(u64::try_from(nanos).unwrap_or(u64::MAX));
                        }
                        latencies
                    })
                })
                .collect();
            ready.wait();
            let started = Instant::now();
            let mut ran = Ran::default();
            for thread in threads {
                ran.latencies.extend(thread.join().expect("no panic"));
            }
            // Without the time that the consumers take to close.
            ran.elapsed = time.min(started.elapsed());
            ran.requests = ran.latencies.len() as u64;
            ran
        })
    }

    /// The id of the cluster.
    pub fn cluster_id(&self) -> String {
        let id = self.consumer().client().fetch_cluster_id(BOUND);
        id.expect("a cluster that tells its id")
    }

    /// Commits offset 0 of the first `partitions` of a topic for a group.
    pub fn commit(&self, group: &str, topic: &str, partitions: i32) {
        let consumer = self.member_of(group);
        let commits = first_partitions(topic, partitions, Offset::Offset(0));
        let committed = consumer.commit(&commits, CommitMode::Sync);
        committed.expect("Kafka commits");
    }

    /// How far a group is behind in each of these partitions, again and again.
    pub fn lags(&self, group: &str, topic: &str, partitions: i32, time: Duration) -> Ran {
        let consumer = self.member_of(group);
        let lag = || {
            let asked = first_partitions(topic, partitions, Offset::Invalid);
            let committed = consumer.committed_offsets(asked, BOUND);
            let committed = committed.expect("Kafka tells what is committed");
            let ends = first_partitions(topic, partitions, Offset::End);
            // In the place of a time Kafka takes it for the end of the partition.
            let ends = consumer.offsets_for_times(ends, BOUND);
            let ends = ends.expect("Kafka tells the ends");
            std::hint::black_box((committed, ends));
        };
        // The first one pays for the connections.
        lag();
        let started = Instant::now();
        let mut ran = Ran::default();
        while started.elapsed() < time {
            let asked = Instant::now();
            lag();
            let nanos = asked.elapsed().as_nanos();
            ran.latencies.push(u64::try_from(nanos).unwrap_or(u64::MAX));
        }
        ran.elapsed = started.elapsed();
        ran.requests = ran.latencies.len() as u64;
        ran
    }

    fn member_of(&self, group: &str) -> BaseConsumer {
        let mut config = self.consumer.clone();
        config.set("group.id", group);
        config.create().expect("a consumer")
    }

    fn consumer(&self) -> BaseConsumer {
        self.consumer.create().expect("a consumer")
    }
}

fn first_partitions(topic: &str, partitions: i32, offset: Offset) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    for partition in 0..partitions {
        let added = list.add_partition_offset(topic, partition, offset);
        added.expect("an offset that a list can have");
    }
    list
}

/// Sends single records.
pub struct Sender {
    producer: ThreadedProducer<rdkafka::producer::DefaultProducerContext>,
}

impl Sender {
    /// Hands over a record without a key.
    pub fn send(&self, topic: &str, value: &[u8]) {
        let record: BaseRecord<'_, (), [u8]> = BaseRecord::to(topic).payload(value);
        assert!(self.producer.send(record).is_ok(), "no room for a record");
    }

    /// Hands over a record with a key.
    pub fn send_keyed(&self, topic: &str, key: &[u8], value: &[u8]) {
        let record = BaseRecord::to(topic).key(key).payload(value);
        assert!(self.producer.send(record).is_ok(), "no room for a record");
    }
}

fn pour(config: &ClientConfig, topic: &str, records: &[Record], time: Duration, most: u64) -> Ran {
    #[derive(Default)]
    struct Count {
        written: AtomicU64,
        failed: AtomicU64,
    }
    impl ClientContext for Count {}
    impl ProducerContext for Count {
        type DeliveryOpaque = ();
        fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
            let counter = match result {
                Ok(_) => &self.written,
                Err(_) => &self.failed,
            };
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }
    let producer: ThreadedProducer<Count> = config
        .create_with_context(Count::default())
        .expect("a producer");
    // The first record pays for the connection and the producer's id; the clock starts after it.
    assert!(producer.send(record_of(topic, &records[0], ())).is_ok());
    producer.flush(BOUND).expect("the first record is reported");
    producer.context().written.store(0, Ordering::Relaxed);
    let started = Instant::now();
    for (sent, record) in (0_u64..).zip(records.iter().cycle()) {
        if sent >= most || (sent.is_multiple_of(256) && started.elapsed() >= time) {
            break;
        }
        let mut native = record_of(topic, record, ());
        while let Err((error, back)) = producer.send(native) {
            wait_for_room(&error);
            native = back;
        }
    }
    producer.flush(BOUND).expect("every record is reported");
    let elapsed = started.elapsed();
    let count = producer.context();
    assert_eq!(count.failed.load(Ordering::Relaxed), 0, "records failed");
    Ran {
        requests: count.written.load(Ordering::Relaxed),
        elapsed,
        latencies: Vec::new(),
    }
}

fn record_of<'a, O: IntoOpaque>(
    topic: &'a str,
    record: &'a Record,
    opaque: O,
) -> BaseRecord<'a, String, String, O> {
    BaseRecord::with_opaque_to(topic, opaque)
        .key(&record.key)
        .payload(&record.value)
}

fn assign(consumer: &BaseConsumer, topic: &str, offset: u64) {
    let mut place = TopicPartitionList::new();
    let offset = Offset::Offset(i64::try_from(offset).unwrap_or(i64::MAX));
    place
        .add_partition_offset(topic, 0, offset)
        .expect("a valid offset");
    consumer.assign(&place).expect("an assignment");
}

fn read_page(consumer: &BaseConsumer, topic: &str, from: u64, length: u64) {
    assign(consumer, topic, from);
    let begin = Instant::now();
    let mut count = 0;
    while count < length {
        match consumer.poll(Duration::from_millis(100)) {
            Some(Ok(message)) => {
                std::hint::black_box(message.payload());
                count += 1;
            }
            Some(Err(error)) => panic!("reading {topic} at {from}: {error}"),
            None => assert!(begin.elapsed() < BOUND, "{topic} cannot be read"),
        }
    }
}

/// A full queue is what a producer that is never out of work runs into; all else is a failure.
fn wait_for_room(error: &KafkaError) {
    assert_eq!(
        error.rdkafka_error_code(),
        Some(RDKafkaErrorCode::QueueFull),
        "{error}"
    );
    std::thread::sleep(Duration::from_micros(200));
}
