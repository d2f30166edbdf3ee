//! Members of consumer groups, below every door: what any engine behind `kafka::member` has to keep.
//!
//! The scenarios are about the seam and nothing else, so that a second engine runs the same ones. What
//! is committed is looked at with the plain client.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tidegate::config::{GroupEngine, Settings};
use tidegate::kafka::Cluster;
use tidegate::kafka::admin::Isolation;
use tidegate::kafka::fault::{Fault, FaultKind};
use tidegate::kafka::member::{
    Assigned, Command, Event, From, Member, Members, Options, Release, Reset, SeekTo, State, Timing,
};
use tidegate::record::{Delivered, TopicPartition};
use tokio::sync::OnceCell;
use tokio::time::{Instant, timeout_at};

use super::support::broker::Broker;
use super::support::plain::{Plain, PlainOutgoing};
use super::support::{eventually, topic};

/// For what must happen, on a machine that is busy.
const LONG: Duration = Duration::from_secs(60);

/// The engine that the scenarios are run with.
const ENGINE: GroupEngine = GroupEngine::Native;

/// What became of each partition.
type Results = Vec<(TopicPartition, Result<i64, Fault>)>;

/// A broker with short group intervals that the scenarios share which do it no harm.
async fn kafka() -> &'static Broker {
    static SHARED: OnceCell<Broker> = OnceCell::const_new();
    SHARED
        .get_or_init(|| Broker::builder().fast_groups().start())
        .await
}

/// The clients of a gateway's process, and what they are to a test: each test has its own.
struct Process {
    cluster: Cluster,
    plain: Plain,
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
            let record = PlainOutgoing {
                topic,
                partition: Some(value % partitions),
                value: Some(text.as_bytes()),
                ..PlainOutgoing::default()
            };
            self.plain.produce(record).await;
        });
        futures::future::join_all(writes).await;
    }
}

fn earliest(group: &str, topic: &str) -> Options {
    Options {
        reset: Reset::Earliest,
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
    records: Vec<Delivered>,
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

fn value(record: &Delivered) -> i32 {
    let value = record.value.as_deref().unwrap();
    std::str::from_utf8(value).unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_reads_commits_and_leaves() {
    let process = Process::new(kafka().await).await;
    let orders = topic("members-orders");
    process.plain.create_topic(&orders, 3, &[]).await;
    process.write(&orders, 3, 0..30).await;

    let mut member = process.join(earliest("reads-and-commits", &orders));
    member.until(|seen| seen.records.len() == 30).await;

    assert_eq!(member.values(), (0..30).collect());
    assert_eq!(member.states[0], State::Joining(None));
    assert_eq!(member.state, Some(State::Active));
    for start in &member.starts {
        assert_eq!((start.start, start.committed, start.end), (0, None, 10));
    }
    let ends = member.ends().await;
    assert_eq!(ends, member.next, "all of it was read");
    let offsets: Vec<_> = member.next.clone().into_iter().collect();
    member.commit(&offsets).await;
    member.commit(&[(at(&orders, 1), 7)]).await;
    member.leave().await;

    let mut committed = Vec::new();
    for partition in 0..3 {
        let plain = &process.plain;
        committed.push(
            plain
                .committed("reads-and-commits", &orders, partition)
                .await,
        );
    }
    assert_eq!(committed, [Some(10), Some(7), Some(10)]);

    let mut next = process.join(earliest("reads-and-commits", &orders));
    next.until(|seen| seen.records.len() == 3).await;
    assert_eq!(next.values(), BTreeSet::from([22, 25, 28]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoke_waits_for_its_release_and_takes_commits() {
    let process = Process::new(kafka().await).await;
    let orders = topic("members-revoked");
    process.plain.create_topic(&orders, 4, &[]).await;
    process.write(&orders, 4, 0..40).await;
    let mut first = process.join(earliest("revoked", &orders));
    first.releases = false;
    first.until(|seen| seen.records.len() == 40).await;

    let mut second = process.join(earliest("revoked", &orders));
    first.until(|seen| seen.release.is_some()).await;
    let revoked = first.revoked.clone();
    assert_eq!(revoked.len(), 2);
    // Long enough for the other one to get them, if it could.
    second.during(Duration::from_secs(3)).await;
    assert!(second.starts.is_empty(), "{second:?}");
    let offsets: Vec<_> = revoked.iter().map(|p| (p.clone(), 6)).collect();
    first.commit(&offsets).await;
    // Ordered before the release, and not waited for.
    let token = first.order_commit(&[(revoked[0].clone(), 8)]);
    first.release = None;

    second.until(|seen| seen.assigned.len() == 2).await;
    for start in &second.starts {
        let committed = if start.partition == revoked[0] { 8 } else { 6 };
        assert_eq!((start.start, start.committed), (committed, Some(committed)));
    }
    second.until(|seen| seen.records.len() == 6).await;
    first
        .until(|seen| seen.committed.contains_key(&token))
        .await;
    assert_eq!(first.committed[&token], [(revoked[0].clone(), Ok(8))]);
    // What is another one's is not overwritten.
    let late = first.order_commit(&[(revoked[0].clone(), 3)]);
    first.until(|seen| seen.committed.contains_key(&late)).await;
    assert!(first.committed[&late][0].1.is_err());
    let committed = process
        .plain
        .committed("revoked", &orders, revoked[0].partition);
    assert_eq!(committed.await, Some(8));
    assert!(first.lost.is_empty() && second.lost.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dropped_member_gives_its_partitions_to_the_others() {
    let process = Process::new(kafka().await).await;
    let orders = topic("members-dropped");
    process.plain.create_topic(&orders, 2, &[]).await;
    let first = process.join(earliest("dropped", &orders));
    let mut second = process.join(earliest("dropped", &orders));
    second.until(|seen| !seen.assigned.is_empty()).await;

    drop(first);

    second.until(|seen| seen.assigned.len() == 2).await;
    assert_eq!(process.plain.committed("dropped", &orders, 0).await, None);
    drop(second);
    // Nothing keeps a consumer: their seats are free.
    eventually(LONG, || async { process.cluster.members.seats() == (0, 0) }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_release_that_is_held_too_long_is_not_waited_for() {
    let process = Process::new(kafka().await).await;
    let orders = topic("members-held");
    process.plain.create_topic(&orders, 2, &[]).await;
    let timing = Timing {
        release: Duration::from_secs(2),
        ..Timing::default()
    };
    let mut first = process.join_within(timing, earliest("held", &orders));
    first.releases = false;
    first.until(|seen| seen.assigned.len() == 2).await;

    let mut second = process.join(earliest("held", &orders));
    first.until(|seen| !seen.lost.is_empty()).await;

    assert!(first.release.is_some());
    assert_eq!(first.lost, first.revoked);
    second.until(|seen| seen.assigned.len() == 1).await;
    first.until(|seen| seen.assigned.len() == 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: nobody takes events for several poll intervals"]
async fn a_member_whose_events_are_not_taken_stays_and_gives_all_records() {
    let process = Process::new(kafka().await).await;
    let orders = topic("members-slow");
    process.plain.create_topic(&orders, 2, &[]).await;
    process.write(&orders, 2, 0..6000).await;
    let timing = Timing {
        poll_interval: Duration::from_secs(2),
        ..Timing::default()
    };
    let mut member = process.join_within(timing, earliest("slow", &orders));
    member.until(|seen| !seen.records.is_empty()).await;

    // Several times what a member may be silent for.
    tokio::time::sleep(Duration::from_secs(8)).await;

    member.until(|seen| seen.records.len() == 6000).await;
    assert_eq!(member.values(), (0..6000).collect());
    assert!(member.lost.is_empty() && member.revoked.is_empty());
    assert_eq!(member.assignments, 1);
    let offsets: Vec<_> = member.next.clone().into_iter().collect();
    member.commit(&offsets).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paused_partition_is_silent_and_a_seek_goes_anywhere() {
    let process = Process::new(kafka().await).await;
    let orders = topic("members-seek");
    process.plain.create_topic(&orders, 2, &[]).await;
    process.write(&orders, 2, 0..20).await;
    let mut member = process.join(earliest("seek", &orders));
    member.until(|seen| seen.records.len() == 20).await;
    let (zero, one) = (at(&orders, 0), at(&orders, 1));

    member.command(Command::Pause(vec![zero.clone(), at(&orders, 9)]));
    process.write(&orders, 2, 20..40).await;
    member
        .until(|seen| seen.next[&at(&seen.records[0].topic, 1)] == 20)
        .await;
    member.during(Duration::from_secs(1)).await;
    assert_eq!(member.next[&zero], 10, "nothing of what is paused");
    member.command(Command::Resume(vec![zero.clone()]));
    member.until(|seen| seen.records.len() == 40).await;

    member.commit(&[(one.clone(), 12)]).await;
    let time = member
        .records
        .iter()
        .find(|r| r.partition == 1 && r.offset == 15)
        .unwrap();
    let (time, later) = (time.timestamp, time.timestamp + 3_600_000);
    for (to, offset) in [
        (SeekTo::Offset(3), 3),
        (SeekTo::Beginning, 0),
        (SeekTo::Committed, 12),
        (SeekTo::End, 20),
        (SeekTo::Time(later), 20),
        // Outside of the log: as the reset says.
        (SeekTo::Offset(21), 0),
    ] {
        member.records.clear();
        assert_eq!(member.seek(one.clone(), to).await, Ok(offset), "{to:?}");
        // All that comes from now on comes from there, which `note` checks.
        let missing = usize::try_from(20 - offset).unwrap();
        member.records.clear();
        member.until(|seen| seen.records.len() == missing).await;
        assert!(member.records.iter().all(|record| record.partition == 1));
    }
    let found = member.seek(one.clone(), SeekTo::Time(time)).await.unwrap();
    assert!((10..=15).contains(&found), "{found}");

    let strange = member.seek(at(&orders, 7), SeekTo::Beginning).await;
    assert_eq!(strange.unwrap_err().kind, FaultKind::NotFound);
    assert!(member.gaps.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_is_where_from_and_reset_say() {
    let process = Process::new(kafka().await).await;
    let orders = topic("members-from");
    process.plain.create_topic(&orders, 1, &[]).await;
    process.write(&orders, 1, 0..20).await;
    process.plain.delete_records(&orders, 0, 5).await;
    let place = at(&orders, 0);

    let positions = |offset| From::Positions(vec![(place.clone(), offset)]);
    for (n, (from, reset, committed, start, gap)) in [
        (From::Committed, Reset::Earliest, None, 5, None),
        (From::Committed, Reset::Latest, None, 20, None),
        (From::Committed, Reset::Error, Some(7), 7, None),
        (From::Committed, Reset::Earliest, Some(20), 20, None),
        (From::Committed, Reset::Earliest, Some(2), 5, Some((2, 5))),
        (From::Committed, Reset::Latest, Some(2), 20, Some((2, 20))),
        (From::Committed, Reset::Earliest, Some(99), 5, Some((99, 5))),
        (From::Earliest, Reset::Latest, Some(7), 5, None),
        (From::Latest, Reset::Earliest, Some(7), 20, None),
        (From::Time(0), Reset::Error, Some(7), 5, None),
        (From::Time(i64::MAX), Reset::Error, Some(7), 20, None),
        (positions(11), Reset::Error, Some(7), 11, None),
        (positions(1), Reset::Earliest, Some(7), 5, Some((1, 5))),
        (From::Positions(Vec::new()), Reset::Error, Some(7), 7, None),
    ]
    .into_iter()
    .enumerate()
    {
        let group = format!("from-{n}");
        if let Some(offset) = committed {
            process.plain.commit(&group, &orders, 0, offset).await;
        }
        let mut member = process.join(Options {
            from,
            reset,
            ..Options::new(&*group, [&*orders])
        });
        member.until(|seen| !seen.starts.is_empty()).await;
        let expected = Assigned {
            partition: place.clone(),
            start,
            committed,
            end: 20,
        };
        assert_eq!(member.starts, [expected], "{n}");
        let gap = gap.map(|(from, to)| (place.clone(), from, to));
        let rest = usize::try_from(20 - start).unwrap();
        member
            .until(|seen| seen.records.len() == rest && seen.gaps.len() == gap.iter().count())
            .await;
        assert_eq!(member.gaps, Vec::from_iter(gap), "{n}");
    }

    let mut nowhere = process.join(Options {
        reset: Reset::Error,
        ..Options::new("from-nowhere", [&*orders])
    });
    nowhere.until(|seen| seen.ended.is_some()).await;
    let fault = nowhere.ended.unwrap().unwrap();
    assert_eq!(fault.kind, FaultKind::OffsetOutOfRange);
    assert!(
        fault
            .message
            .contains(&format!("Partition 0 of topic {orders}")),
        "{fault}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn from_holds_once_and_after_a_rebalance_the_commit_does() {
    let process = Process::new(kafka().await).await;
    let orders = topic("members-once");
    process.plain.create_topic(&orders, 2, &[]).await;
    process.write(&orders, 2, 0..20).await;
    let mut first = process.join(Options {
        from: From::Earliest,
        ..Options::new("once", [&*orders])
    });
    first.until(|seen| seen.records.len() == 20).await;
    let offsets = [(at(&orders, 0), 4), (at(&orders, 1), 4)];
    first.commit(&offsets).await;

    let mut second = process.join(earliest("once", &orders));
    first.until(|seen| !seen.revoked.is_empty()).await;
    second.until(|seen| !seen.starts.is_empty()).await;
    second.leave().await;

    first.until(|seen| seen.assigned.len() == 2).await;
    assert_eq!(first.starts.len(), 3);
    assert_eq!(
        (first.starts[2].start, first.starts[2].committed),
        (4, Some(4))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn aborted_records_and_markers_are_passed_over() {
    let process = Process::new(kafka().await).await;
    let orders = topic("members-transactions");
    process.plain.create_topic(&orders, 1, &[]).await;
    let record = |value: &'static str| PlainOutgoing {
        topic: &orders,
        partition: Some(0),
        value: Some(value.as_bytes()),
        ..PlainOutgoing::default()
    };
    process.plain.produce(record("0")).await;
    let aborted = process.plain.transaction("members-aborts").await;
    aborted.produce(record("1")).await;
    aborted.abort().await;
    let kept = process.plain.transaction("members-commits").await;
    kept.produce(record("2")).await;
    kept.commit().await;
    let place = at(&orders, 0);

    let mut member = process.join(earliest("transactions", &orders));
    // A record, an aborted one and its marker, a kept one and its marker.
    member.until(|seen| seen.next.get(&place) == Some(&5)).await;
    assert_eq!(member.values(), BTreeSet::from([0, 2]));
    assert_eq!(member.ends().await, member.next, "the lag is none");

    // Only markers and what was aborted.
    let aborted = process.plain.transaction("members-aborts").await;
    aborted.produce(record("3")).await;
    member.during(Duration::from_secs(1)).await;
    assert_eq!(member.ends().await[&place], 5, "open is not there yet");
    aborted.abort().await;
    member.until(|seen| seen.next[&place] == 7).await;
    assert_eq!(member.ends().await[&place], 7);

    let mut other = process.join(Options {
        isolation: Isolation::Uncommitted,
        ..earliest("transactions-all", &orders)
    });
    other.until(|seen| seen.next.get(&place) == Some(&7)).await;
    assert_eq!(other.values(), BTreeSet::from([0, 1, 2, 3]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_retention_took_is_a_gap() {
    let process = Process::new(kafka().await).await;
    for (reset, to) in [
        (Reset::Earliest, Some(15)),
        (Reset::Latest, Some(20)),
        (Reset::Error, None),
    ] {
        let orders = topic("members-gap");
        process.plain.create_topic(&orders, 2, &[]).await;
        process.write(&orders, 2, 0..10).await;
        let group = format!("gap-{reset:?}");
        let mut member = process.join(Options {
            reset,
            from: From::Earliest,
            ..Options::new(&*group, [&*orders])
        });
        member.until(|seen| seen.records.len() == 10).await;
        let place = at(&orders, 0);
        member.command(Command::Pause(vec![place.clone()]));
        // What is under way has come.
        member.during(Duration::from_millis(1500)).await;
        process.write(&orders, 2, 10..40).await;
        process.plain.delete_records(&orders, 0, 15).await;

        member.command(Command::Resume(vec![place.clone()]));

        let Some(to) = to else {
            member.until(|seen| seen.ended.is_some()).await;
            let fault = member.ended.unwrap().unwrap();
            assert_eq!(fault.kind, FaultKind::OffsetOutOfRange);
            assert!(fault.message.contains("Partition 0"), "{fault}");
            continue;
        };
        member.until(|seen| !seen.gaps.is_empty()).await;
        assert_eq!(member.gaps, [(place.clone(), 5, to)]);
        member
            .until(|seen| seen.next.values().all(|next| *next == 20))
            .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: the broker is killed and started again"]
async fn members_last_longer_than_their_brokers() {
    // Sessions as long as they are by default: a member is back in time.
    let broker = Broker::builder()
        .fast_groups()
        .property("group.consumer.session.timeout.ms", "45000")
        .start()
        .await;
    let process = Process::new(&broker).await;
    let orders = topic("members-down");
    process.plain.create_topic(&orders, 2, &[]).await;
    process.write(&orders, 2, 0..20).await;
    let timing = Timing {
        commit: LONG,
        ..Timing::default()
    };
    let mut member = process.join_within(timing, earliest("down", &orders));
    member.until(|seen| seen.records.len() == 20).await;

    broker.kill();
    let killed = Instant::now();
    member
        .until(|seen| matches!(seen.state, Some(State::Unavailable(_))))
        .await;
    let noticed = killed.elapsed();
    assert!(noticed < Duration::from_secs(7), "{noticed:?}");
    let first = member.order_commit(&[(at(&orders, 0), 3)]);
    let second = member.order_commit(&[(at(&orders, 0), 4)]);
    member.during(Duration::from_secs(3)).await;
    assert!(member.committed.is_empty());

    broker.restart().await;
    member.until(|seen| seen.state == Some(State::Active)).await;
    member.until(|seen| seen.committed.len() == 2).await;
    assert_eq!(member.committed[&first], [(at(&orders, 0), Ok(3))]);
    assert_eq!(member.committed[&second], [(at(&orders, 0), Ok(4))]);
    process.write(&orders, 2, 20..40).await;
    member.until(|seen| seen.records.len() >= 40).await;
    assert_eq!(member.records.len(), 40, "nothing twice");
    assert_eq!(member.values(), (0..40).collect());
    assert!(member.gaps.is_empty());
    assert_eq!(process.plain.committed("down", &orders, 0).await, Some(4));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: the broker stays frozen for longer than a session"]
async fn a_session_that_timed_out_is_lost_and_joined_again() {
    let broker = Broker::builder().fast_groups().start().await;
    let process = Process::new(&broker).await;
    let orders = topic("members-frozen");
    process.plain.create_topic(&orders, 1, &[]).await;
    process.write(&orders, 1, 0..10).await;
    let mut member = process.join(earliest("frozen", &orders));
    member.until(|seen| seen.records.len() == 10).await;
    member.commit(&[(at(&orders, 0), 6)]).await;

    broker.pause();
    member
        .until(|seen| matches!(seen.state, Some(State::Unavailable(_))))
        .await;
    // Longer than the session, whatever the broker did when it stood still.
    member.during(Duration::from_secs(5)).await;
    broker.resume();

    member.until(|seen| seen.state == Some(State::Active)).await;
    process.write(&orders, 1, 10..20).await;
    member
        .until(|seen| seen.values() == (0..20).collect() && seen.assigned.len() == 1)
        .await;
    if !member.lost.is_empty() {
        assert_eq!(member.starts[1].start, 6, "from what was committed");
    }
    member.commit(&[(at(&orders, 0), 20)]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_static_member_waits_for_its_instance_id() {
    let process = Process::new(kafka().await).await;
    let orders = topic("members-static");
    process.plain.create_topic(&orders, 1, &[]).await;
    process.write(&orders, 1, 0..10).await;
    let options = Options {
        instance_id: Some("one".to_owned()),
        ..earliest("static", &orders)
    };
    let mut first = process.join(options.clone());
    first.until(|seen| seen.records.len() == 10).await;
    first.commit(&[(at(&orders, 0), 10)]).await;

    let mut second = process.join(options.clone());
    second
        .until(|seen| {
            matches!(&seen.state, Some(State::Joining(Some(fault)))
            if fault.kafka_error == Some("UNRELEASED_INSTANCE_ID"))
        })
        .await;
    first.command(Command::Leave { stay: true });
    first.until(|seen| seen.ended.is_some()).await;
    assert_eq!(first.ended, Some(None));

    second.until(|seen| seen.assigned.len() == 1).await;
    assert_eq!(second.starts[0].start, 10);

    let timing = Timing {
        unreleased: Duration::from_secs(3),
        ..Timing::default()
    };
    let mut third = process.join_within(timing, options);
    third.until(|seen| seen.ended.is_some()).await;
    let fault = third.ended.unwrap().unwrap();
    assert_eq!(fault.kafka_error, Some("UNRELEASED_INSTANCE_ID"));
    second.leave().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_that_is_not_there_ends_the_member() {
    let process = Process::new(kafka().await).await;
    let mut member = process.join(Options::new("missing", [topic("members-missing")]));
    member.until(|seen| seen.ended.is_some()).await;
    assert_eq!(member.ended.unwrap().unwrap().kind, FaultKind::UnknownTopic);
    assert!(
        process
            .cluster
            .members
            .join(Options::new("", ["a"]))
            .is_err()
    );
    assert!(
        process
            .cluster
            .members
            .join(Options::new("a", [""; 0]))
            .is_err()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_comes_and_goes_under_a_subscription() {
    let mut process = Process::new(kafka().await).await;
    let orders = topic("members-comes");
    process.plain.create_topic(&orders, 1, &[]).await;
    process.write(&orders, 1, 0..10).await;
    let mut member = process.join(earliest("comes", &orders));
    member.until(|seen| seen.records.len() == 10).await;

    process.plain.add_partitions(&orders, 2).await;
    member.until(|seen| seen.assigned.len() == 2).await;
    // A producer keeps what it knew of the topic.
    process.plain = kafka().await.plain();
    process.write(&orders, 2, 11..12).await;
    member.until(|seen| seen.records.len() == 11).await;
    member.commit(&[(at(&orders, 0), 10)]).await;

    process.plain.delete_topic(&orders).await;
    member.until(|seen| seen.assigned.is_empty()).await;
    assert_eq!(member.state, Some(State::Active));
    member.records.clear();

    // Another one under its name.
    process.plain = kafka().await.plain();
    process.plain.create_topic(&orders, 1, &[]).await;
    process.write(&orders, 1, 20..23).await;
    member
        .until(|seen| seen.values() == (20..23).collect())
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_created_again_at_once_is_another_topic() {
    let mut process = Process::new(kafka().await).await;
    let orders = topic("members-again");
    process.plain.create_topic(&orders, 1, &[]).await;
    process.write(&orders, 1, 0..10).await;
    let mut member = process.join(earliest("again", &orders));
    member.until(|seen| seen.records.len() == 10).await;
    // So that its id is known.
    member.during(Duration::from_secs(1)).await;

    process.plain.delete_topic(&orders).await;
    process.plain = kafka().await.plain();
    process.plain.create_topic(&orders, 1, &[]).await;
    process.write(&orders, 1, 20..23).await;

    member
        .until(|seen| seen.values().is_superset(&(20..23).collect()))
        .await;
    assert_eq!(member.records.len(), 13);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_subscribes_to_other_topics() {
    let process = Process::new(kafka().await).await;
    let (old, new) = (topic("members-old"), topic("members-new"));
    for name in [&old, &new] {
        process.plain.create_topic(name, 1, &[]).await;
        process.write(name, 1, 0..5).await;
    }
    let mut member = process.join(earliest("others", &old));
    member.until(|seen| seen.records.len() == 5).await;

    member.command(Command::Subscribe(vec![new.as_str().into()]));

    member.until(|seen| seen.records.len() == 10).await;
    assert_eq!(member.assigned, BTreeSet::from([at(&new, 0)]));
    assert_eq!(member.revoked, [at(&old, 0)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_members_than_partitions_wait_for_one() {
    let process = Process::new(kafka().await).await;
    let orders = topic("members-more");
    process.plain.create_topic(&orders, 1, &[]).await;
    let mut first = process.join(earliest("more", &orders));
    first.until(|seen| seen.assigned.len() == 1).await;

    let mut second = process.join(earliest("more", &orders));
    second
        .until(|seen| seen.state == Some(State::Active) && seen.assignments > 0)
        .await;
    assert!(second.assigned.is_empty());
    first.leave().await;
    second.until(|seen| seen.assigned.len() == 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_members_share_connections() {
    let process = Process::with_connections(kafka().await, 2).await;
    let orders = topic("members-many");
    process.plain.create_topic(&orders, 1, &[]).await;
    process.write(&orders, 1, 0..1).await;

    let joins = (0..200).map(|n| {
        let mut member = process.join(earliest(&format!("many-{n}"), &orders));
        async move {
            member.until(|seen| seen.records.len() == 1).await;
            member
        }
    });
    let mut members = futures::future::join_all(joins).await;
    assert_eq!(process.cluster.members.seats(), (2, 198));

    process.write(&orders, 1, 1..2).await;
    let reads = members
        .iter_mut()
        .map(|member| member.until(|seen| seen.records.len() == 2));
    futures::future::join_all(reads).await;
    futures::future::join_all(members.into_iter().map(Watched::leave)).await;
    assert_eq!(process.cluster.members.seats(), (0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_whose_process_died_is_replaced() {
    let process = Process::new(kafka().await).await;
    let orders = topic("members-died");
    process.plain.create_topic(&orders, 2, &[]).await;
    process.write(&orders, 2, 0..20).await;
    // A runtime that ends is a process that does: nobody takes leave.
    let dying = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let options = earliest("died", &orders);
    let place = at(&orders, 0);
    let read = dying.spawn(async move {
        let process = Process::new(kafka().await).await;
        let mut first = process.join(options);
        first.until(|seen| seen.records.len() == 20).await;
        first.commit(&[(place, 6)]).await;
        (process, first)
    });
    let died = read.await.unwrap();
    dying.shutdown_background();

    let mut second = process.join(earliest("died", &orders));
    second.until(|seen| seen.assigned.len() == 2).await;
    second.until(|seen| seen.records.len() == 14).await;
    let starts: BTreeSet<i64> = second.starts.iter().map(|one| one.start).collect();
    assert_eq!(starts, BTreeSet::from([0, 6]));
    std::mem::forget(died);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: starts three brokers and kills one"]
async fn a_coordinator_that_died_is_followed() {
    let broker = Broker::builder().nodes(3).fast_groups().start().await;
    let process = Process::new(&broker).await;
    let orders = topic("members-coordinator");
    process.plain.create_topic(&orders, 3, &[]).await;
    process.write(&orders, 3, 0..30).await;
    let mut members = Vec::new();
    for instance_id in [None, Some("one".to_owned())] {
        let group = format!("coordinator-{instance_id:?}");
        let mut member = process.join(Options {
            instance_id,
            ..earliest(&group, &orders)
        });
        member.until(|seen| seen.records.len() == 30).await;
        let offsets: Vec<_> = member.next.clone().into_iter().collect();
        member.commit(&offsets).await;
        members.push(member);
    }

    let coordinator = process.plain.leader("__consumer_offsets", 0).await.unwrap();
    broker.node(u32::try_from(coordinator).unwrap()).kill();
    process.write(&orders, 3, 30..60).await;

    for mut member in members {
        // While nobody coordinates, its time may run out: then it joins again, also during a commit.
        let mut committed = false;
        let end = Instant::now() + LONG;
        while !committed {
            assert!(Instant::now() < end, "{member:?}");
            member
                .until(|seen| seen.values() == (0..60).collect() && seen.assigned.len() == 3)
                .await;
            let offsets: Vec<_> = member.next.clone().into_iter().collect();
            let token = member.order_commit(&offsets);
            member
                .until(|seen| seen.committed.contains_key(&token))
                .await;
            let results = &member.committed[&token];
            committed = results.iter().all(|(_, result)| result.is_ok());
        }
        // What was committed before does not come again.
        assert_eq!(member.records.iter().filter(|r| value(r) < 30).count(), 30);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metrics_tell_of_lag_rebalances_and_commits() {
    // The only test of this binary that has the process' recorder.
    let metrics = tidegate::observe::metrics::install().unwrap();
    let process = Process::new(kafka().await).await;
    let orders = topic("members-lag");
    process.plain.create_topic(&orders, 1, &[]).await;
    process.write(&orders, 1, 0..4000).await;
    let of = |name: &str| {
        let rendered = metrics.render();
        let line = rendered
            .lines()
            .find(|line| line.starts_with(name) && line.contains("lag-group"))?;
        line.rsplit(' ').next()?.parse::<f64>().ok()
    };
    let lag = || {
        of(&format!(
            "kafka_consumer_lag{{group=\"lag-group\",topic=\"{orders}\""
        ))
    };

    let mut member = process.join(earliest("lag-group", &orders));
    // Nobody takes them.
    eventually(LONG, || async { lag().is_some_and(|lag| lag > 1000.0) }).await;
    member.until(|seen| seen.records.len() == 4000).await;
    eventually(LONG, || async { lag() == Some(0.0) }).await;
    assert!(of("kafka_group_rebalances_total").is_some_and(|count| count >= 1.0));
    member.commit(&[(at(&orders, 0), 4000)]).await;
    assert!(
        metrics
            .render()
            .contains("kafka_commit_duration_seconds_count")
    );
    member.leave().await;
    assert_eq!(lag(), Some(0.0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_tells_what_became_of_each_partition() {
    let process = Process::new(kafka().await).await;
    let orders = topic("members-each");
    process.plain.create_topic(&orders, 3, &[]).await;
    let mut member = process.join(earliest("each", &orders));
    member.until(|seen| seen.assigned.len() == 3).await;

    let text = |length| Some("x".repeat(length));
    member.command(Command::Commit {
        token: 7,
        offsets: vec![
            (at(&orders, 0), 1, text(4)),
            // More than a broker keeps.
            (at(&orders, 1), 2, text(5000)),
            (at(&orders, 2), 3, None),
            (at(&orders, 9), 4, None),
        ],
    });
    member.until(|seen| seen.committed.contains_key(&7)).await;

    let results: BTreeMap<_, _> = member.committed.remove(&7).unwrap().into_iter().collect();
    assert_eq!(results[&at(&orders, 0)], Ok(1));
    let refused = results[&at(&orders, 1)].clone().unwrap_err();
    assert_eq!(refused.kafka_error, Some("OFFSET_METADATA_TOO_LARGE"));
    assert_eq!(results[&at(&orders, 2)], Ok(3));
    let strange = results[&at(&orders, 9)].clone().unwrap_err();
    assert_eq!(strange.kind, FaultKind::NotFound);
    let mut committed = Vec::new();
    for partition in 0..3 {
        committed.push(process.plain.committed("each", &orders, partition).await);
    }
    assert_eq!(committed, [Some(1), None, Some(3)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: twenty seconds of members that come and go"]
async fn nothing_is_lost_while_members_come_and_go() {
    let process = Process::new(kafka().await).await;
    let orders = topic("members-churn");
    process.plain.create_topic(&orders, 8, &[]).await;
    let end = Instant::now() + Duration::from_secs(20);
    let writing = async {
        let mut written = 0;
        while Instant::now() < end {
            process.write(&orders, 8, written..written + 100).await;
            written += 100;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        written
    };
    // What was committed, and how often each record was.
    let counted = std::sync::Mutex::new(BTreeMap::<i32, u32>::new());
    let reading = async {
        let handle = async |seen: &mut Watched| {
            let records = std::mem::take(&mut seen.records);
            if records.is_empty() {
                return;
            }
            let mine: Vec<_> = records
                .iter()
                .filter(|r| seen.assigned.contains(&at(&r.topic, r.partition)))
                .collect();
            let mut next = BTreeMap::new();
            for record in &mine {
                next.insert(at(&record.topic, record.partition), record.offset + 1);
            }
            let values: Vec<(TopicPartition, i32)> = mine
                .iter()
                .map(|r| (at(&r.topic, r.partition), value(r)))
                .collect();
            let offsets: Vec<_> = next.into_iter().collect();
            let token = seen.order_commit(&offsets);
            seen.until(|seen| seen.committed.contains_key(&token)).await;
            let results = seen.committed.remove(&token).unwrap();
            let mut counted = counted.lock().unwrap();
            for (partition, value) in values {
                if results.iter().any(|(p, r)| *p == partition && r.is_ok()) {
                    *counted.entry(value).or_default() += 1;
                }
            }
        };
        let mut members: Vec<Watched> = Vec::new();
        let mut round = 0;
        while Instant::now() < end {
            round += 1;
            match round % 3 {
                // One is dropped without a word, one leaves.
                0 if members.len() > 2 => drop(members.remove(0)),
                1 if members.len() > 2 => {
                    let mut member = members.remove(0);
                    handle(&mut member).await;
                    member.leave().await;
                }
                _ => members.push(process.join(earliest("churn", &orders))),
            }
            let until = Instant::now() + Duration::from_millis(1500);
            while Instant::now() < until {
                for member in &mut members {
                    member.during(Duration::from_millis(20)).await;
                    handle(member).await;
                }
            }
        }
        members
    };
    let (written, mut members) = tokio::join!(writing, reading);
    let mut last = process.join(earliest("churn", &orders));
    for member in members.drain(..) {
        member.leave().await;
    }
    let total = async |last: &Watched| {
        let mut all: BTreeSet<i32> = counted.lock().unwrap().keys().copied().collect();
        all.extend(last.values());
        all.len()
    };
    let all = usize::try_from(written).unwrap();
    let bound = Instant::now() + LONG;
    while total(&last).await < all {
        assert!(Instant::now() < bound, "{} of {all}", total(&last).await);
        last.during(Duration::from_millis(200)).await;
    }
    let twice = counted.lock().unwrap().values().filter(|n| **n > 1).count();
    assert!(
        twice * 50 < all,
        "{twice} of {all} were committed more than once"
    );
}
