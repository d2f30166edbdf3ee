//! Members of consumer groups, below every API: what any engine behind `kafka::member` has to keep.
//!
//! The scenarios are about this interface and nothing else, so that a second engine runs the same ones. What
//! is committed is looked at with the plain client.
//!
//! - `failures`: brokers and processes that are away, freeze, or die
//! - `read`: what a member reads and commits
//! - `rebalance`: partitions that are revoked and given, members that come and go
//! - `several_leaders`: partitions that several brokers lead
//! - `start_offsets`: where a member starts, and what is committed of that
//! - `topic_changes`: topics that are not there, come, and go

mod failures;
mod read;
mod rebalance;
mod several_leaders;
mod start_offsets;
mod topic_changes;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tidegate::config::{GroupEngine, Settings};
use tidegate::kafka::Cluster;
use tidegate::kafka::fault::Fault;
use tidegate::kafka::member::{
    Assigned, Command, Event, Member, Members, OffsetReset, Options, Release, SeekTo, State, Timing,
};
use tidegate::record::{ConsumerRecord, TopicPartition};
use tokio::sync::OnceCell;
use tokio::time::{Instant, timeout_at};

use crate::support::broker::Broker;
use crate::support::kafka_client::{KafkaClient, OutgoingRecord};

/// For what must happen, on a machine that is busy.
const LONG: Duration = Duration::from_secs(60);

/// The engine that the scenarios are run with.
const ENGINE: GroupEngine = GroupEngine::Native;

/// What became of each partition.
type Results = Vec<(TopicPartition, Result<i64, Fault>)>;

/// Brokers with short group intervals that the scenarios share which do them no harm. There are two, so
/// that a topic of two partitions has two leaders.
async fn kafka() -> &'static Broker {
    static SHARED: OnceCell<Broker> = OnceCell::const_new();
    SHARED
        .get_or_init(|| Broker::builder().nodes(2).fast_groups().start())
        .await
}

/// The clients of a gateway's process, and what they are to a test: each test has its own.
struct Process {
    cluster: Cluster,
    plain: KafkaClient,
}

impl Process {
    async fn new(broker: &Broker) -> Self {
        Self::with_connections(broker, 1_000).await
    }

    async fn with_connections(broker: &Broker, own: usize) -> Self {
        let mut settings = Settings::default();
        settings.kafka.bootstrap_servers = broker.bootstrap();
        settings.kafka.group_engine = ENGINE;
        settings.websocket.own_connections = own;
        let cluster = Cluster::start(&settings.kafka, &settings.limits, &settings.websocket);
        Self {
            cluster: cluster.await.unwrap(),
            plain: broker.plain(),
        }
    }

    fn join(&self, options: Options) -> Watched {
        Watched::new(&self.cluster.members, options)
    }

    fn join_within(&self, timing: Timing, options: Options) -> Watched {
        Watched::new(&self.cluster.members.with_timing(timing), options)
    }

    /// Writes records with the values `from..to`, each to the partition of its remainder.
    async fn write(&self, topic: &str, partitions: i32, values: std::ops::Range<i32>) {
        let writes = values.map(|value| async move {
            let text = value.to_string();
            let record = OutgoingRecord {
                topic,
                partition: Some(value % partitions),
                value: Some(text.as_bytes()),
                ..OutgoingRecord::default()
            };
            self.plain.produce(record).await;
        });
        futures::future::join_all(writes).await;
    }
}

fn earliest(group: &str, topic: &str) -> Options {
    Options {
        reset: OffsetReset::Earliest,
        ..Options::new(group, [topic])
    }
}

fn at(topic: &str, partition: i32) -> TopicPartition {
    TopicPartition::new(topic, partition)
}

/// A member, and what its events have told so far.
struct Watched {
    member: Member,
    state: Option<State>,
    /// Every state, in order.
    states: Vec<State>,
    assigned: BTreeSet<TopicPartition>,
    starts: Vec<Assigned>,
    /// How often partitions were assigned.
    assignments: usize,
    records: Vec<ConsumerRecord>,
    next: BTreeMap<TopicPartition, i64>,
    gaps: Vec<(TopicPartition, i64, i64)>,
    lost: Vec<TopicPartition>,
    revoked: Vec<TopicPartition>,
    /// A revoke that nobody has let go yet.
    release: Option<Release>,
    /// Lets go at once.
    releases: bool,
    committed: BTreeMap<u64, Results>,
    sought: BTreeMap<u64, Results>,
    ends: BTreeMap<u64, Results>,
    ended: Option<Option<Fault>>,
    token: u64,
}

impl Watched {
    fn new(members: &Members, options: Options) -> Self {
        Self {
            member: members.join(options).unwrap(),
            state: None,
            states: Vec::new(),
            assigned: BTreeSet::new(),
            starts: Vec::new(),
            assignments: 0,
            records: Vec::new(),
            next: BTreeMap::new(),
            gaps: Vec::new(),
            lost: Vec::new(),
            revoked: Vec::new(),
            release: None,
            releases: true,
            committed: BTreeMap::new(),
            sought: BTreeMap::new(),
            ends: BTreeMap::new(),
            ended: None,
            token: 0,
        }
    }

    fn note(&mut self, event: Event) {
        match event {
            Event::State(state) => {
                self.states.push(state.clone());
                self.state = Some(state);
            }
            Event::Assigned { added, all } => {
                self.assignments += 1;
                for one in &added {
                    assert!(self.assigned.insert(one.partition.clone()), "{one:?} twice");
                    self.next.insert(one.partition.clone(), one.start);
                }
                assert_eq!(self.assigned, all.into_iter().collect());
                self.starts.extend(added);
            }
            Event::Records { records, next } => {
                for record in &records {
                    let place = TopicPartition::new(&*record.topic, record.partition);
                    assert!(self.assigned.contains(&place), "{place:?} is not assigned");
                    let expected = self.next.insert(place, record.offset + 1);
                    assert!(expected.is_none_or(|next| record.offset >= next));
                }
                self.next.extend(next);
                self.records.extend(records);
            }
            Event::Gap {
                partition,
                from,
                to,
            } => {
                self.next.insert(partition.clone(), to);
                self.gaps.push((partition, from, to));
            }
            Event::Revoking {
                partitions,
                release,
            } => {
                for partition in &partitions {
                    assert!(self.assigned.remove(partition));
                }
                self.revoked.extend(partitions);
                if !self.releases {
                    self.release = Some(release);
                }
            }
            Event::Lost(partitions) => {
                for partition in &partitions {
                    // Of a revoke that was held too long they are gone already.
                    let was = self.assigned.remove(partition);
                    assert!(was || self.revoked.contains(partition));
                }
                self.lost.extend(partitions);
            }
            Event::Committed { token, results } => {
                self.committed.insert(token, results);
            }
            Event::Seeked { token, results } => {
                for (partition, result) in &results {
                    if let Ok(next) = result {
                        self.next.insert(partition.clone(), *next);
                    }
                }
                self.sought.insert(token, results);
            }
            Event::Ends { token, results } => {
                self.ends.insert(token, results);
            }
            Event::Ended(fault) => self.ended = Some(fault),
        }
    }

    /// Takes events until the condition holds.
    #[track_caller]
    fn until(&mut self, condition: impl Fn(&Self) -> bool) -> impl Future<Output = ()> {
        let caller = std::panic::Location::caller();
        async move {
            let end = Instant::now() + LONG;
            while !condition(self) {
                match timeout_at(end, self.member.event()).await {
                    Ok(Some(event)) => self.note(event),
                    Ok(None) => panic!("{caller}: it ended with {:?}", self.ended),
                    Err(_) => panic!("{caller}: not after {LONG:?}; {self:?}"),
                }
            }
        }
    }

    /// Takes events for this long.
    async fn during(&mut self, time: Duration) {
        let end = Instant::now() + time;
        while let Ok(Some(event)) = timeout_at(end, self.member.event()).await {
            self.note(event);
        }
    }

    fn command(&self, command: Command) {
        self.member.command(command).unwrap();
    }

    fn order_commit(&mut self, offsets: &[(TopicPartition, i64)]) -> u64 {
        self.token += 1;
        self.command(Command::Commit {
            token: self.token,
            offsets: offsets
                .iter()
                .map(|(partition, offset)| (partition.clone(), *offset, None))
                .collect(),
        });
        self.token
    }

    /// Commits, and fails unless all of it was.
    #[track_caller]
    fn commit(&mut self, offsets: &[(TopicPartition, i64)]) -> impl Future<Output = ()> {
        let caller = std::panic::Location::caller();
        let token = self.order_commit(offsets);
        async move {
            self.until(|seen| seen.committed.contains_key(&token)).await;
            for (partition, result) in &self.committed[&token] {
                assert!(result.is_ok(), "{caller}: {partition:?}: {result:?}");
            }
        }
    }

    async fn seek(&mut self, partition: TopicPartition, to: SeekTo) -> Result<i64, Fault> {
        self.token += 1;
        let token = self.token;
        self.command(Command::Seek {
            token,
            positions: vec![(partition, to)],
        });
        self.until(|seen| seen.sought.contains_key(&token)).await;
        self.sought[&token][0].1.clone()
    }

    async fn ends(&mut self) -> BTreeMap<TopicPartition, i64> {
        self.token += 1;
        let token = self.token;
        self.command(Command::Ends { token });
        self.until(|seen| seen.ends.contains_key(&token)).await;
        let results = self.ends[&token].iter().cloned();
        results
            .map(|(partition, end)| (partition, end.unwrap()))
            .collect()
    }

    fn values(&self) -> BTreeSet<i32> {
        self.records.iter().map(value).collect()
    }

    /// Leaves, and waits for the end of it.
    async fn leave(mut self) -> Self {
        self.command(Command::Leave { stay: false });
        self.until(|seen| seen.ended.is_some()).await;
        assert_eq!(self.ended, Some(None));
        assert!(self.member.event().await.is_none(), "nothing after the end");
        self
    }
}

impl std::fmt::Debug for Watched {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watched")
            .field("states", &self.states)
            .field("assigned", &self.assigned)
            .field("starts", &self.starts)
            .field("next", &self.next)
            .field("records", &self.records.len())
            .field("gaps", &self.gaps)
            .field("lost", &self.lost)
            .field("revoked", &self.revoked)
            .field("committed", &self.committed)
            .field("sought", &self.sought)
            .field("ended", &self.ended)
            .finish()
    }
}

fn value(record: &ConsumerRecord) -> i32 {
    let value = record.value.as_deref().unwrap();
    std::str::from_utf8(value).unwrap().parse().unwrap()
}
