//! A plain Kafka client, to arrange topics and to look at what is really in them.
//!
//! It is librdkafka with hardly a setting and none of Tidegate's code, so that a mistake of ours
//! cannot hide itself. Every call fails the test when Kafka refuses or does not answer in time.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use rdkafka::admin::{
    AdminClient, AdminOptions, AlterConfig, NewPartitions, NewTopic, ResourceSpecifier,
    TopicReplication,
};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Header, Headers, Message, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord, Producer};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use super::blocking;

/// For one call to Kafka, and for what is asked again until Kafka is ready for it. A broker that a test
/// has just restarted needs some seconds.
const BOUND: Duration = Duration::from_secs(60);
/// Before it is asked again.
const PAUSE: Duration = Duration::from_millis(50);

/// A client of one cluster; a clone shares its connections.
#[derive(Clone)]
pub struct KafkaClient {
    bootstrap: String,
    producer: Arc<OnceLock<FutureProducer>>,
}

/// A record to write. Only the topic has no default.
#[derive(Clone, Copy, Default)]
pub struct OutgoingRecord<'a> {
    pub topic: &'a str,
    /// Chosen by the hash of the key when absent, as every client does.
    pub partition: Option<i32>,
    pub key: Option<&'a [u8]>,
    pub value: Option<&'a [u8]>,
    pub headers: &'a [(&'a str, Option<&'a [u8]>)],
    /// In milliseconds; now when absent.
    pub timestamp: Option<i64>,
}

/// A record as it is in the topic.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredRecord {
    pub partition: i32,
    pub offset: i64,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    /// In the order in which they were written; a name may come twice.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
    pub timestamp: Option<i64>,
}

impl StoredRecord {
    /// The value as text, for an `assert_eq!` that can be read.
    pub fn text(&self) -> Option<&str> {
        self.value
            .as_deref()
            .map(|value| std::str::from_utf8(value).expect("a value that is text"))
    }
}

/// Which records a reader sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isolation {
    ReadCommitted,
    ReadUncommitted,
}

impl KafkaClient {
    pub fn new(bootstrap: &str) -> Self {
        Self {
            bootstrap: bootstrap.to_owned(),
            producer: Arc::default(),
        }
    }

    fn config(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.bootstrap);
        config
    }

    /// Creates a topic, replicated as the broker's default says, and waits until every broker
    /// that answers knows it.
    pub async fn create_topic(&self, name: &str, partitions: i32, configs: &[(&str, &str)]) {
        let replicas = TopicReplication::Fixed(-1);
        self.create(NewTopic::new(name, partitions, replicas), configs)
            .await;
    }

    /// Creates a topic of which each partition is on the one node given for it.
    pub async fn create_topic_on(&self, name: &str, nodes: &[i32], configs: &[(&str, &str)]) {
        let places: Vec<&[i32]> = nodes.iter().map(std::slice::from_ref).collect();
        let partitions = i32::try_from(places.len()).unwrap();
        let replicas = TopicReplication::Variable(&places);
        self.create(NewTopic::new(name, partitions, replicas), configs)
            .await;
    }

    async fn create<'a>(&self, mut topic: NewTopic<'a>, configs: &[(&'a str, &'a str)]) {
        for (key, value) in configs {
            topic = topic.set(key, value);
        }
        let end = Instant::now() + BOUND;
        let mut again = false;
        loop {
            let results = self.admin().create_topics([&topic], &options()).await;
            let refused = match results {
                Ok(results) => results
                    .into_iter()
                    .find_map(Result::err)
                    .map(|(_, code)| code),
                Err(error) => Some(error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Fail)),
            };
            match refused {
                None => break,
                Some(RDKafkaErrorCode::TopicAlreadyExists) if again => break,
                // A busy machine may have kept a broker from its heartbeats for a moment.
                Some(code) if Instant::now() < end && is_passing(code) => again = true,
                Some(code) => panic!("creating {}: {code}", topic.name),
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        self.wait_for_partitions(topic.name, topic.num_partitions)
            .await;
    }

    /// The names of all topics, Kafka's own included.
    pub async fn topics(&self) -> BTreeSet<String> {
        let config = self.config();
        blocking(move || {
            let consumer: BaseConsumer = config.create().unwrap();
            let metadata = insist(|| consumer.fetch_metadata(None, BOUND));
            let topics = metadata.topics().iter();
            topics.map(|topic| topic.name().to_owned()).collect()
        })
        .await
    }

    pub async fn delete_topic(&self, name: &str) {
        let results = self.admin().delete_topics(&[name], &options()).await;
        for result in results.unwrap() {
            result.unwrap();
        }
    }

    /// Raises a topic to this many partitions in all.
    pub async fn add_partitions(&self, name: &str, total: i32) {
        let partitions = NewPartitions::new(name, usize::try_from(total).unwrap());
        let results = self
            .admin()
            .create_partitions([&partitions], &options())
            .await;
        for result in results.unwrap() {
            result.unwrap();
        }
        self.wait_for_partitions(name, total).await;
    }

    /// Gives a topic this whole set of configs: those not named go back to their defaults.
    pub async fn set_topic_configs(&self, name: &str, configs: &[(&str, &str)]) {
        let mut change = AlterConfig::new(ResourceSpecifier::Topic(name));
        for (key, value) in configs {
            change = change.set(key, value);
        }
        let results = self.admin().alter_configs([&change], &options()).await;
        for result in results.unwrap() {
            result.unwrap();
        }
    }

    /// Deletes the records of a partition that lie before an offset.
    pub async fn delete_records(&self, topic: &str, partition: i32, before: i64) {
        let mut offsets = TopicPartitionList::new();
        offsets
            .add_partition_offset(topic, partition, Offset::Offset(before))
            .unwrap();
        let result = self
            .admin()
            .delete_records(&offsets, &options())
            .await
            .unwrap();
        for element in result.elements() {
            element.error().unwrap();
        }
    }

    /// Writes a record and waits until every replica in sync has it: its partition and offset.
    pub async fn produce(&self, record: OutgoingRecord<'_>) -> (i32, i64) {
        let producer = self.producer.get_or_init(|| {
            self.config()
                // Java's way to find a partition, so that it is everyone's.
                .set("partitioner", "murmur2_random")
                .create()
                .unwrap()
        });
        send(producer, record).await
    }

    /// Starts a transaction. Of two with the same id, the later fences the earlier.
    pub async fn transaction(&self, transactional_id: &str) -> Transaction {
        let mut config = self.config();
        config.set("transactional.id", transactional_id);
        // A minute by default, after which Kafka aborts what a test on a busy machine still holds open.
        config.set("transaction.timeout.ms", "600000");
        blocking(move || {
            let producer: FutureProducer = config.create().unwrap();
            producer.init_transactions(BOUND).unwrap();
            producer.begin_transaction().unwrap();
            Transaction { producer }
        })
        .await
    }

    /// All records of a topic that a reader of committed records sees: partition by partition,
    /// each in the order of its offsets.
    pub async fn consume_all(&self, topic: &str) -> Vec<StoredRecord> {
        self.consume_all_as(topic, Isolation::ReadCommitted).await
    }

    /// From the earliest record to the end that each partition has when it is reached.
    pub async fn consume_all_as(&self, topic: &str, isolation: Isolation) -> Vec<StoredRecord> {
        let mut config = self.config();
        config
            // The library wants a name before it assigns partitions, and uses it for nothing here.
            .set("group.id", "plain")
            .set("enable.auto.commit", "false")
            .set("enable.partition.eof", "true")
            .set(
                "isolation.level",
                match isolation {
                    Isolation::ReadCommitted => "read_committed",
                    Isolation::ReadUncommitted => "read_uncommitted",
                },
            );
        let topic = topic.to_owned();
        blocking(move || {
            let consumer: BaseConsumer = config.create().unwrap();
            let end = Instant::now() + BOUND;
            let partitions = loop {
                let partitions = partitions(&consumer, &topic);
                if !partitions.is_empty() {
                    break partitions;
                }
                // Of several brokers, the one that was asked may not have heard of it yet.
                assert!(Instant::now() < end, "there is no topic {topic}");
                std::thread::sleep(PAUSE);
            };
            let mut assignment = TopicPartitionList::new();
            for partition in &partitions {
                assignment
                    .add_partition_offset(&topic, *partition, Offset::Beginning)
                    .unwrap();
            }
            consumer.assign(&assignment).unwrap();
            let mut unread: BTreeSet<i32> = partitions;
            let mut records = Vec::new();
            let mut last = None;
            let end = Instant::now() + BOUND;
            while !unread.is_empty() {
                assert!(
                    Instant::now() < end,
                    "{topic}: no end of {unread:?} after {BOUND:?}, {last:?}"
                );
                match consumer.poll(Duration::from_millis(100)) {
                    None => {}
                    Some(Ok(message)) => records.push(record(&message)),
                    Some(Err(KafkaError::PartitionEOF(partition))) => {
                        unread.remove(&partition);
                    }
                    Some(Err(KafkaError::MessageConsumption(code))) if is_passing(code) => {
                        last = Some(code);
                    }
                    Some(Err(error)) => panic!("reading {topic}: {error}"),
                }
            }
            records.sort_by_key(|record: &StoredRecord| (record.partition, record.offset));
            records
        })
        .await
    }

    /// The offset of a partition's first record, and the one that its next will get.
    pub async fn watermarks(&self, topic: &str, partition: i32) -> (i64, i64) {
        let (config, topic) = (self.config(), topic.to_owned());
        blocking(move || {
            let consumer: BaseConsumer = config.create().unwrap();
            insist(|| consumer.fetch_watermarks(&topic, partition, BOUND))
        })
        .await
    }

    /// The id of the cluster.
    pub async fn cluster_id(&self) -> String {
        let config = self.config();
        blocking(move || {
            let consumer: BaseConsumer = config.create().unwrap();
            let id = consumer.client().fetch_cluster_id(BOUND);
            id.expect("a cluster that tells its id")
        })
        .await
    }

    /// The node that leads a partition; `None` while it has no leader or does not exist.
    pub async fn leader(&self, topic: &str, partition: i32) -> Option<i32> {
        let (config, topic) = (self.config(), topic.to_owned());
        blocking(move || {
            let consumer: BaseConsumer = config.create().unwrap();
            let metadata = insist(|| consumer.fetch_metadata(Some(&topic), BOUND));
            let partitions = metadata.topics().first()?.partitions();
            let found = partitions.iter().find(|found| found.id() == partition)?;
            (found.leader() >= 0).then_some(found.leader())
        })
        .await
    }

    /// How many replicas of a partition are in sync.
    pub async fn in_sync(&self, topic: &str, partition: i32) -> usize {
        let (config, topic) = (self.config(), topic.to_owned());
        blocking(move || {
            let consumer: BaseConsumer = config.create().unwrap();
            let metadata = insist(|| consumer.fetch_metadata(Some(&topic), BOUND));
            let topics = metadata.topics().iter();
            let mut partitions = topics.flat_map(|topic| topic.partitions());
            let found = partitions.find(|found| found.id() == partition);
            found.map_or(0, |found| found.isr().len())
        })
        .await
    }

    /// The offset that a group has committed for a partition.
    pub async fn committed(&self, group: &str, topic: &str, partition: i32) -> Option<i64> {
        let committed = self.committed_with_text(group, topic, partition).await;
        committed.map(|(offset, _)| offset)
    }

    /// The same with the text that was kept with it.
    pub async fn committed_with_text(
        &self,
        group: &str,
        topic: &str,
        partition: i32,
    ) -> Option<(i64, String)> {
        let mut config = self.config();
        config.set("group.id", group);
        let mut wanted = TopicPartitionList::new();
        wanted.add_partition(topic, partition);
        blocking(move || {
            let consumer: BaseConsumer = config.create().unwrap();
            let committed = insist(|| consumer.committed_offsets(wanted.clone(), BOUND));
            let first = committed.elements().into_iter().next()?;
            match first.offset() {
                Offset::Offset(offset) => Some((offset, first.metadata().to_owned())),
                _ => None,
            }
        })
        .await
    }

    /// Commits an offset for a group that has no members.
    pub async fn commit(&self, group: &str, topic: &str, partition: i32, offset: i64) {
        let mut config = self.config();
        config.set("group.id", group);
        let mut offsets = TopicPartitionList::new();
        offsets
            .add_partition_offset(topic, partition, Offset::Offset(offset))
            .unwrap();
        blocking(move || {
            let consumer: BaseConsumer = config.create().unwrap();
            // The group's last member may still be about to leave.
            insist(|| consumer.commit(&offsets, CommitMode::Sync));
        })
        .await;
    }

    /// A member of a group by KIP-848, which reads from the beginning and commits nothing.
    pub async fn member(&self, group: &str, topic: &str) -> GroupMember {
        let mut config = self.config();
        config
            .set("group.id", group)
            .set("group.protocol", "consumer")
            .set("auto.offset.reset", "earliest")
            .set("enable.auto.commit", "false");
        let topic = topic.to_owned();
        let consumer = blocking(move || {
            let consumer: BaseConsumer = config.create().unwrap();
            consumer.subscribe(&[&topic]).unwrap();
            consumer
        });
        GroupMember {
            consumer: Arc::new(consumer.await),
            taken: Arc::default(),
        }
    }

    fn admin(&self) -> AdminClient<DefaultClientContext> {
        self.config().create().unwrap()
    }

    /// Creation is answered by the controller; the brokers learn of it a moment later.
    async fn wait_for_partitions(&self, topic: &str, count: i32) {
        let (config, topic) = (self.config(), topic.to_owned());
        blocking(move || {
            let consumer: BaseConsumer = config.create().unwrap();
            let end = Instant::now() + BOUND;
            loop {
                let metadata = insist(|| consumer.fetch_metadata(Some(&topic), BOUND));
                let led = metadata
                    .topics()
                    .iter()
                    .flat_map(|found| found.partitions());
                let led = led.filter(|partition| partition.leader() >= 0).count();
                if i32::try_from(led) == Ok(count) {
                    return;
                }
                assert!(
                    Instant::now() < end,
                    "{topic}: {led} of {count} partitions have a leader"
                );
                std::thread::sleep(Duration::from_millis(20));
            }
        })
        .await;
    }
}

/// A member of a group. It takes part in it only while one of these calls is under way.
pub struct GroupMember {
    consumer: Arc<BaseConsumer>,
    taken: Arc<Mutex<Vec<i64>>>,
}

impl GroupMember {
    async fn poll(&self) {
        let (consumer, taken) = (Arc::clone(&self.consumer), Arc::clone(&self.taken));
        blocking(move || {
            let until = Instant::now() + Duration::from_millis(100);
            while Instant::now() < until {
                if let Some(Ok(record)) = consumer.poll(Duration::from_millis(20)) {
                    let text = std::str::from_utf8(record.payload().unwrap()).unwrap();
                    taken.lock().unwrap().push(text.parse().unwrap());
                }
            }
        })
        .await;
    }

    /// How many partitions it has.
    pub async fn partitions(&self) -> usize {
        self.poll().await;
        self.consumer.assignment().unwrap().count()
    }

    /// Reads so many records, whose values are numbers.
    pub async fn take(&self, count: usize) -> Vec<i64> {
        let end = Instant::now() + BOUND;
        while self.taken.lock().unwrap().len() < count {
            assert!(Instant::now() < end, "{count} records did not come");
            self.poll().await;
        }
        std::mem::take(&mut *self.taken.lock().unwrap())
    }

    /// Leaves the group.
    pub async fn leave(self) {
        blocking(move || drop(self)).await;
    }
}

/// A transaction that is open until it is committed or aborted.
pub struct Transaction {
    producer: FutureProducer,
}

impl Transaction {
    pub async fn produce(&self, record: OutgoingRecord<'_>) -> (i32, i64) {
        send(&self.producer, record).await
    }

    pub async fn commit(self) {
        blocking(move || self.producer.commit_transaction(BOUND).unwrap()).await;
    }

    pub async fn abort(self) {
        blocking(move || self.producer.abort_transaction(BOUND).unwrap()).await;
    }
}

async fn send(producer: &FutureProducer, record: OutgoingRecord<'_>) -> (i32, i64) {
    let mut headers = OwnedHeaders::new();
    for (key, value) in record.headers {
        headers = headers.insert(Header { key, value: *value });
    }
    let future = FutureRecord {
        topic: record.topic,
        partition: record.partition,
        payload: record.value,
        key: record.key,
        timestamp: record.timestamp,
        headers: (!record.headers.is_empty()).then_some(headers),
    };
    let delivery = tokio::time::timeout(BOUND, producer.send(future, BOUND)).await;
    match delivery.expect("a delivery report in time") {
        Ok(delivery) => (delivery.partition, delivery.offset),
        Err((error, _)) => panic!("producing to {}: {error}", record.topic),
    }
}

/// Asks until the answer is no error: leaders and coordinators move, and are loaded after a start.
fn insist<T>(mut ask: impl FnMut() -> KafkaResult<T>) -> T {
    let end = Instant::now() + BOUND;
    loop {
        match ask() {
            Ok(answer) => return answer,
            Err(error) => assert!(Instant::now() < end, "after {BOUND:?} still {error}"),
        }
        std::thread::sleep(PAUSE);
    }
}

/// What may be otherwise a moment later, without anyone's doing.
fn is_passing(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode as Code;
    matches!(
        code,
        Code::BrokerTransportFailure
            | Code::AllBrokersDown
            | Code::OperationTimedOut
            | Code::RequestTimedOut
            | Code::InvalidReplicationFactor
            | Code::BrokerNotAvailable
            | Code::NotController
            | Code::LeaderNotAvailable
            | Code::NotLeaderForPartition
            | Code::ReplicaNotAvailable
            | Code::UnknownTopicOrPartition
            | Code::UnknownTopic
            | Code::UnknownPartition
            | Code::UnknownTopicId
            | Code::UnknownLeaderEpoch
            | Code::FencedLeaderEpoch
    )
}

fn partitions(consumer: &BaseConsumer, topic: &str) -> BTreeSet<i32> {
    let metadata = insist(|| consumer.fetch_metadata(Some(topic), BOUND));
    let partitions = metadata
        .topics()
        .iter()
        .flat_map(|topic| topic.partitions());
    partitions.map(|partition| partition.id()).collect()
}

fn record(message: &BorrowedMessage<'_>) -> StoredRecord {
    let headers = message.headers().map_or_else(Vec::new, |headers| {
        let owned =
            |header: Header<'_, &[u8]>| (header.key.to_owned(), header.value.map(<[u8]>::to_vec));
        headers.iter().map(owned).collect()
    });
    StoredRecord {
        partition: message.partition(),
        offset: message.offset(),
        key: message.key().map(<[u8]>::to_vec),
        value: message.payload().map(<[u8]>::to_vec),
        headers,
        timestamp: message.timestamp().to_millis(),
    }
}

fn options() -> AdminOptions {
    AdminOptions::new()
        .request_timeout(Some(BOUND))
        .operation_timeout(Some(BOUND))
}
