//! The engine over krafka, by the protocol of KIP-848.
//!
//! One task for each member. It has one thing under way with krafka, its *turn* (making the consumer, a
//! poll, or a rest), and serves everything else meanwhile:
//!
//! ```text
//!              turn: attach | poll | rest           link: the consumer and its callbacks
//! commands --> served also during a turn            place: lookups, as jobs beside the turn
//! events   <-- outbox, in order                     commits: one at a time
//! ```
//!
//! A poll is never dropped, unless the consumer goes with it: krafka calls it cancel safe, but an
//! assignment whose callback was cut off would never be applied.
//!
//! A partition flows when it has a place and nobody holds it: not the client (`Pause`), not a lookup
//! under way, not an outbox that is not taken. The three are kept apart here and become one pause in
//! krafka. While nothing flows, krafka is polled now and then for the group's sake, with no wait.

mod commits;
mod fate;
mod link;

use std::collections::{HashMap, HashSet, VecDeque};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use krafka::GroupMembershipOperation;
use krafka::consumer::{Consumer, ConsumerRecord, TimestampType};
use krafka::error::KrafkaError;
use metrics::{counter, histogram};
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use self::commits::{Commit, Commits, not_assigned};
use self::fate::Fate;
use self::link::{FETCH_WAIT, Link, Notice};
use super::handles::Seat;
use super::health::Known;
use super::lag::Lag;
use super::place::{Asker, Places};
use super::{
    Assigned, Command, Event, From, Options, Release, SeekTo, Shared, State, Timing, Token,
};
use crate::kafka::fault::{Fault, FaultKind};
use crate::observe::metrics::group_label;
use crate::record::{Delivered, Header, TimestampType as RecordTime, TopicPartition};

/// How long a poll waits for records. It also bounds how late a rebalance is noticed.
const POLL: Duration = FETCH_WAIT;
/// Longest time to get ready to join; each step of it has a bound of its own.
const ATTACH: Duration = Duration::from_secs(30);
/// How often krafka is polled while nothing flows.
const REST: Duration = Duration::from_millis(500);
/// First and longest pause after an error.
const PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// Longest pause between two tries for the instance id that another member has.
const UNRELEASED_PAUSE: Duration = Duration::from_secs(2);
/// How often it is looked whether topics are still the same, and gauges are set.
const ROUND: Duration = Duration::from_secs(5);
/// How often a failing fetch makes krafka ask where the leaders are.
const REFRESH: Duration = Duration::from_secs(1);
/// How often a batch may fail to be decoded before it counts as damaged in the log.
const UNDECODABLE: u32 = 5;
/// Most events and commits that wait before no further command is taken.
const MOST_EVENTS: usize = 64;
const MOST_COMMITS: usize = 64;
/// Longest time for the last events to be taken.
const LAST_EVENTS: Duration = Duration::from_secs(60);

/// Starts a member's task.
pub(super) fn start(
    shared: Arc<Shared>,
    timing: Timing,
    options: Options,
    commands: mpsc::Receiver<Command>,
    events: mpsc::Sender<Event>,
) {
    tokio::spawn(async move {
        let engine = Engine::new(shared, timing, options, commands, events);
        engine.run().await;
    });
}

/// What a turn came to.
enum Turn {
    Attached(Result<Link, Fault>),
    Polled(Result<Vec<ConsumerRecord>, KrafkaError>),
    Rested,
}

/// What the task woke up for.
enum Woken {
    Turn(Turn),
    Notice(Notice),
    Command(Option<Command>),
    Done(Box<Done>),
    Room,
    Released,
    Health,
    /// Nobody will take events any more.
    Gone,
}

/// What a job came to.
enum Done {
    /// Where partitions start that were just assigned.
    Started(Vec<u64>, Places),
    /// Where partitions go on that stood outside of the log.
    Recovered(Vec<u64>, Places),
    Sought(Token, Vec<u64>, Places, Vec<(TopicPartition, Fault)>),
    Ends(Token, Vec<(TopicPartition, Result<i64, Fault>)>),
    Committed(Commit, Option<Fault>),
    CommitAgain(Commit),
    Subscribed(Vec<Arc<str>>, Result<(), Fault>),
    SubscribeAgain(Vec<Arc<str>>),
    /// krafka asked where the leaders are.
    Refreshed,
    /// The ids that topics have now.
    Topics(Vec<(Arc<str>, [u8; 16])>),
}

/// A partition of this member.
struct Held {
    /// Tells this assignment of the partition, and each later place of it, from others.
    turn: u64,
    /// The offset of the next record; `None` until its start is known and told.
    next: Option<i64>,
    /// A lookup will give it a new place.
    busy: bool,
    /// By [`Command::Pause`].
    paused: bool,
    /// What krafka was told last.
    stopped: bool,
    lag: Option<Lag>,
}

/// A revoke that waits.
struct Revoking {
    partitions: Vec<TopicPartition>,
    released: oneshot::Receiver<()>,
    /// Lets krafka go on.
    done: oneshot::Sender<()>,
    deadline: Instant,
    /// The release has come; what was ordered before it is being done.
    is_released: bool,
}

/// Why the task ends.
enum End {
    /// It was told to; or nobody listens.
    Leave(GroupMembershipOperation),
    Fault(Fault),
}

struct Engine {
    shared: Arc<Shared>,
    timing: Timing,
    options: Arc<Options>,
    /// With which the consumer was or is being made.
    attaching: Arc<Options>,
    asker: Arc<Asker>,
    seat: Arc<Seat>,
    commands: mpsc::Receiver<Command>,
    events: mpsc::Sender<Event>,
    /// Events that are not in the channel yet.
    outbox: VecDeque<Event>,
    /// Ends a rest.
    wake: Arc<Notify>,
    link: Option<Link>,
    /// Not before this moment does the next turn begin.
    retry_at: Option<Instant>,
    pause: Duration,
    polled_at: Option<Instant>,
    jobs: FuturesUnordered<BoxFuture<'static, Done>>,
    held: HashMap<TopicPartition, Held>,
    /// Partitions that had their first assignment.
    seen: HashSet<TopicPartition>,
    turns: u64,
    revoking: Option<Revoking>,
    commits: Commits,
    /// Told to leave, as soon as the commits are done.
    leaving: Option<GroupMembershipOperation>,
    state: State,
    joined: bool,
    health: watch::Receiver<Known>,
    /// The ids of topics as they were when partitions were assigned.
    topics: HashMap<Arc<str>, [u8; 16]>,
    unreleased_since: Option<Instant>,
    undecodable: u32,
    fetch_errors: u64,
    looked_at: Instant,
    round_at: Instant,
    refreshing: bool,
}

impl Engine {
    fn new(
        shared: Arc<Shared>,
        timing: Timing,
        options: Options,
        commands: mpsc::Receiver<Command>,
        events: mpsc::Sender<Event>,
    ) -> Self {
        let asker = Asker {
            admin: shared.admin.clone(),
            group: Arc::from(options.group.as_str()),
            isolation: options.isolation,
            reset: options.reset,
            bound: shared.bound,
        };
        let options = Arc::new(options);
        Self {
            asker: Arc::new(asker),
            attaching: Arc::clone(&options),
            seat: Arc::new(shared.handles.seat()),
            health: shared.health.watch(),
            shared,
            timing,
            options,
            commands,
            events,
            outbox: VecDeque::new(),
            wake: Arc::default(),
            link: None,
            retry_at: None,
            pause: PAUSE,
            polled_at: None,
            jobs: FuturesUnordered::new(),
            held: HashMap::new(),
            seen: HashSet::new(),
            turns: 0,
            revoking: None,
            commits: Commits::default(),
            leaving: None,
            state: State::Joining(None),
            joined: false,
            topics: HashMap::new(),
            unreleased_since: None,
            undecodable: 0,
            fetch_errors: 0,
            looked_at: Instant::now(),
            round_at: Instant::now(),
            refreshing: false,
        }
    }

    async fn run(mut self) {
        self.outbox.push_back(Event::State(State::Joining(None)));
        let end = loop {
            if let Err(end) = self.turn().await {
                break end;
            }
        };
        self.end(end).await;
    }

    /// One turn, and all that comes up during it.
    async fn turn(&mut self) -> Result<(), End> {
        self.round();
        let mut turn = pin!(self.next_turn().await);
        loop {
            let takes_commands = self.outbox.len() < MOST_EVENTS
                && self.commits.waiting.len() < MOST_COMMITS
                && self.leaving.is_none();
            let desk = self.link.as_ref().map(|link| Arc::clone(&link.desk));
            let woken = tokio::select! {
                turn = &mut turn => Woken::Turn(turn),
                notice = async {
                    match &desk {
                        Some(desk) => desk.notice().await,
                        None => std::future::pending().await,
                    }
                } => Woken::Notice(notice),
                command = self.commands.recv(), if takes_commands => Woken::Command(command),
                Some(done) = self.jobs.next(), if !self.jobs.is_empty() => {
                    Woken::Done(Box::new(done))
                }
                permit = self.events.reserve(), if !self.outbox.is_empty() => match permit {
                    Ok(permit) => {
                        if let Some(event) = self.outbox.pop_front() {
                            permit.send(event);
                        }
                        Woken::Room
                    }
                    Err(_) => Woken::Gone,
                },
                () = self.events.closed() => Woken::Gone,
                () = released(&mut self.revoking) => Woken::Released,
                changed = self.health.changed() => match changed {
                    Ok(()) => Woken::Health,
                    // Its task lives as long as this receiver.
                    Err(_) => Woken::Room,
                },
            };
            let ended = matches!(woken, Woken::Turn(_));
            self.woken(woken).await?;
            if let Some(operation) = self.leaving
                && self.commits.is_empty()
            {
                return Err(End::Leave(operation));
            }
            if ended {
                return Ok(());
            }
        }
    }

    async fn woken(&mut self, woken: Woken) -> Result<(), End> {
        match woken {
            Woken::Turn(turn) => return self.turned(turn).await,
            Woken::Notice(notice) => self.noticed(notice),
            Woken::Command(Some(command)) => {
                let stops = matches!(command, Command::Pause(_) | Command::Seek { .. });
                self.commanded(command);
                // At once: the poll that is under way may be about to deliver.
                if stops && let Some(consumer) = self.consumer() {
                    let room = self.has_room();
                    self.tell_pauses(&consumer, room).await;
                }
            }
            Woken::Command(None) | Woken::Gone => {
                return Err(End::Leave(GroupMembershipOperation::Default));
            }
            Woken::Done(done) => return self.done(*done).await,
            Woken::Room => {
                self.flush();
                if self.has_room() {
                    self.wake.notify_one();
                }
            }
            Woken::Released => self.released(),
            Woken::Health => self.health_changed(),
        }
        Ok(())
    }

    // -- turns

    /// What to do with krafka next. The future holds nothing of `self`.
    async fn next_turn(&mut self) -> impl Future<Output = Turn> + Send + 'static {
        let room = self.has_room();
        let flows = self.held.values().any(|held| held.flows(room));
        let wake = Arc::clone(&self.wake);
        let now = Instant::now();
        let resting = match self.retry_at.take_if(|at| *at <= now) {
            Some(_) => None,
            None => self.retry_at,
        };
        // When krafka was polled not long ago and has nothing to give, or nobody takes it.
        let resting = resting.or_else(|| {
            let next = self.polled_at? + REST;
            (self.link.is_some() && !flows && next > now).then_some(next)
        });
        let polling = match (&self.link, resting) {
            (Some(link), None) => Some(Arc::clone(&link.consumer)),
            _ => None,
        };
        if let Some(consumer) = &polling {
            self.tell_pauses(consumer, room).await;
            self.polled_at = Some(now);
        }
        let attaching = (self.link.is_none() && resting.is_none()).then(|| {
            self.attaching = Arc::clone(&self.options);
            let shared = Arc::clone(&self.shared);
            let timing = self.timing;
            let options = Arc::clone(&self.options);
            let seat = Arc::clone(&self.seat);
            // On the heap, for a while only: it is larger than all else that a member is.
            Box::pin(async move {
                let making = Link::make(&shared, &timing, &options, &seat);
                timeout(ATTACH, making).await.unwrap_or_else(|_| {
                    Err(Fault::new(
                        FaultKind::TimedOut,
                        "Kafka did not answer in time when the group was to be joined.",
                    ))
                })
            })
        });
        async move {
            if let Some(until) = resting {
                tokio::select! {
                    () = sleep_until(until) => {}
                    () = wake.notified() => {}
                }
                return Turn::Rested;
            }
            if let Some(attaching) = attaching {
                return Turn::Attached(attaching.await);
            }
            match polling {
                Some(consumer) => {
                    let wait = if flows { POLL } else { Duration::ZERO };
                    Turn::Polled(consumer.poll(wait).await)
                }
                None => Turn::Rested,
            }
        }
    }

    /// Tells krafka which partitions flow, as far as it does not know.
    async fn tell_pauses(&mut self, consumer: &Consumer, room: bool) {
        for (partition, held) in &mut self.held {
            let stop = !held.flows(room);
            if stop == held.stopped {
                continue;
            }
            held.stopped = stop;
            let numbers = [partition.partition];
            if stop {
                consumer.pause(&partition.topic, &numbers).await;
            } else {
                consumer.resume(&partition.topic, &numbers).await;
            }
        }
    }

    async fn turned(&mut self, turn: Turn) -> Result<(), End> {
        match turn {
            Turn::Rested => Ok(()),
            Turn::Attached(attached) => {
                // Told to subscribe to others meanwhile.
                let is_changed = !Arc::ptr_eq(&self.attaching, &self.options);
                match attached {
                    Ok(link) => {
                        self.link = Some(link);
                        self.polled_at = None;
                        self.fetch_errors = 0;
                        self.pause = PAUSE;
                        if is_changed {
                            self.subscribe(self.options.topics.clone());
                        }
                    }
                    Err(fault) if fault.retriable || is_changed => {
                        self.wait_after(fault, LONGEST_PAUSE);
                    }
                    Err(fault) => return Err(End::Fault(fault)),
                }
                Ok(())
            }
            // Of a consumer that is gone.
            Turn::Polled(_) if self.link.is_none() => Ok(()),
            Turn::Polled(Ok(records)) => {
                self.take_notices();
                self.pause = PAUSE;
                self.undecodable = 0;
                self.polled(records).await;
                Ok(())
            }
            Turn::Polled(Err(error)) => {
                self.take_notices();
                self.failed(&error)
            }
        }
    }

    /// What the callbacks of a poll left comes before what the poll came to.
    fn take_notices(&mut self) {
        while let Some(notice) = self.link.as_ref().and_then(|link| link.desk.take()) {
            self.noticed(notice);
        }
    }

    /// Begins the next turn only after a pause, and says why where nothing else was heard yet.
    fn wait_after(&mut self, fault: Fault, longest: Duration) {
        // Members that fail together must not come back together.
        let pause = self.pause.mul_f64(0.75 + fastrand::f64() / 2.0);
        self.retry_at = Some(Instant::now() + pause);
        self.pause = (self.pause * 2).min(longest);
        if !self.joined {
            self.set_state(State::Joining(Some(fault)));
        }
    }

    fn failed(&mut self, error: &KrafkaError) -> Result<(), End> {
        match Fate::of(error) {
            Fate::Retry(fault) => {
                tracing::debug!(group = %self.options.group, "a poll failed: {fault}");
                self.wait_after(fault, LONGEST_PAUSE);
            }
            Fate::Anew(fault) => {
                self.anew();
                self.wait_after(fault, LONGEST_PAUSE);
            }
            Fate::Unreleased(fault) => {
                let since = *self.unreleased_since.get_or_insert_with(Instant::now);
                if since.elapsed() >= self.timing.unreleased {
                    return Err(End::Fault(fault));
                }
                // krafka gives up for good at this.
                self.anew();
                self.wait_after(fault, UNRELEASED_PAUSE);
            }
            Fate::OutOfRange(places) => self.out_of_range(places),
            Fate::Undecodable(fault) => {
                self.undecodable += 1;
                if self.undecodable >= UNDECODABLE {
                    return Err(End::Fault(Fault {
                        message: format!(
                            "Records cannot be decoded: they are damaged in Kafka, or in a format \
                             that is not supported. {}",
                            fault.message
                        ),
                        ..fault
                    }));
                }
                self.wait_after(fault, LONGEST_PAUSE);
            }
            Fate::End(fault) => return Err(End::Fault(fault)),
        }
        Ok(())
    }

    /// Takes leave of the consumer and lets a new one join. What it had is lost.
    fn anew(&mut self) {
        if let Some(revoking) = self.revoking.take() {
            drop(revoking.done);
        }
        self.lose(self.held.keys().cloned().collect());
        self.jobs.clear();
        self.commits.under_way = false;
        self.refreshing = false;
        self.joined = false;
        if let Some(link) = self.link.take() {
            tokio::spawn(link.leave(GroupMembershipOperation::Default, self.timing.leave));
        }
    }

    // -- events

    fn has_room(&self) -> bool {
        self.outbox.len() < MOST_EVENTS
            && self.leaving.is_none()
            && !self
                .outbox
                .iter()
                .any(|event| matches!(event, Event::Records { .. }))
    }

    fn tell(&mut self, event: Event) {
        self.outbox.push_back(event);
        self.flush();
    }

    /// Puts what there is room for into the channel.
    fn flush(&mut self) {
        while let Some(event) = self.outbox.pop_front() {
            if let Err(error) = self.events.try_send(event) {
                // A closed channel is noticed elsewhere.
                if let mpsc::error::TrySendError::Full(event) = error {
                    self.outbox.push_front(event);
                }
                return;
            }
        }
    }

    fn set_state(&mut self, state: State) {
        if self.state != state {
            self.state = state.clone();
            self.tell(Event::State(state));
        }
    }

    /// All partitions that the client knows to be its own.
    fn told(&self) -> Vec<TopicPartition> {
        let told = self.held.iter().filter(|(_, held)| held.next.is_some());
        let mut told: Vec<TopicPartition> = told.map(|(partition, _)| partition.clone()).collect();
        told.sort_unstable();
        told
    }

    fn health_changed(&mut self) {
        let known = self.health.borrow_and_update().clone();
        match known {
            Some(fault) if self.joined => {
                self.set_state(State::Unavailable((*fault).clone()));
            }
            Some(fault) => self.set_state(State::Joining(Some((*fault).clone()))),
            None => {
                if self.joined {
                    self.set_state(State::Active);
                }
                // krafka's own pause may have grown to half a minute meanwhile.
                self.refresh();
                self.retry_at = None;
                self.wake.notify_one();
            }
        }
    }

    // -- rebalances

    fn noticed(&mut self, notice: Notice) {
        match notice {
            Notice::Assigned(places) => self.assigned(places),
            Notice::Revoked(places, done) => {
                let partitions = self.own(places);
                let (told, untold): (Vec<_>, Vec<_>) =
                    partitions.into_iter().partition(|partition| {
                        let held = self.held.get(partition);
                        held.is_some_and(|held| held.next.is_some())
                    });
                for partition in &untold {
                    self.held.remove(partition);
                }
                if told.is_empty() {
                    // Dropping `done` lets krafka go on.
                    return;
                }
                let (release, released) = Release::new();
                self.revoking = Some(Revoking {
                    partitions: told.clone(),
                    released,
                    done,
                    deadline: Instant::now() + self.timing.release,
                    is_released: false,
                });
                self.tell(Event::Revoking {
                    partitions: told,
                    release,
                });
            }
            Notice::Lost(places) => {
                let partitions = self.own(places);
                self.joined = false;
                self.lose(partitions);
                self.set_state(State::Joining(None));
            }
        }
    }

    fn assigned(&mut self, places: Vec<link::Place>) {
        counter!("kafka_group_rebalances_total", "group" => group_label(&self.options.group))
            .increment(1);
        self.joined = true;
        self.unreleased_since = None;
        let state = match &*self.health.borrow() {
            Some(fault) => State::Unavailable((**fault).clone()),
            None => State::Active,
        };
        self.set_state(state);
        let added = self.own(places);
        if added.is_empty() {
            let all = self.told();
            self.tell(Event::Assigned {
                added: Vec::new(),
                all,
            });
            return;
        }
        for partition in &added {
            // Of a topic that comes back under this name, the id before does not matter.
            if !self.held.keys().any(|held| held.topic == partition.topic) {
                self.topics.remove(&partition.topic);
            }
            self.turns += 1;
            let held = Held {
                turn: self.turns,
                next: None,
                busy: true,
                paused: false,
                // By the listener.
                stopped: true,
                lag: None,
            };
            self.held.insert(partition.clone(), held);
        }
        self.look_up_starts(added, Duration::ZERO);
    }

    /// Has the start of partitions looked up that were assigned.
    fn look_up_starts(&mut self, partitions: Vec<TopicPartition>, pause: Duration) {
        let aims: Vec<(TopicPartition, SeekTo)> = partitions
            .into_iter()
            .map(|partition| {
                let aim = self.start_of(&partition);
                (partition, aim)
            })
            .collect();
        let turns = self.turns_of(aims.iter().map(|(partition, _)| partition));
        let asker = Arc::clone(&self.asker);
        let metadata = self.shared.metadata.clone();
        self.jobs.push(Box::pin(async move {
            if !pause.is_zero() {
                sleep(pause).await;
                // A topic that was created again has other leaders, and krafka's admin client may
                // not have heard.
                for (partition, _) in &aims {
                    let _ = metadata.topic(&partition.topic).await;
                }
            }
            Done::Started(turns, asker.places(&aims, true).await)
        }));
    }

    /// Where a partition starts that is assigned now.
    fn start_of(&self, partition: &TopicPartition) -> SeekTo {
        if self.seen.contains(partition) {
            return SeekTo::Committed;
        }
        match &self.options.from {
            From::Committed => SeekTo::Committed,
            From::Earliest => SeekTo::Beginning,
            From::Latest => SeekTo::End,
            From::Time(time) => SeekTo::Time(*time),
            From::Positions(positions) => positions
                .iter()
                .find(|(named, _)| named == partition)
                .map_or(SeekTo::Committed, |(_, offset)| SeekTo::Offset(*offset)),
        }
    }

    async fn started(&mut self, turns: Vec<u64>, places: Places) -> Result<(), End> {
        let Some(consumer) = self.consumer() else {
            return Ok(());
        };
        let mut added = Vec::new();
        let mut gaps = Vec::new();
        let mut again = Vec::new();
        for ((partition, place), turn) in places.into_iter().zip(turns) {
            let Some(held) = self.held.get_mut(&partition).filter(|h| h.turn == turn) else {
                continue;
            };
            let place = match place {
                Ok(place) => place,
                Err(fault) if fault.kind == FaultKind::OffsetOutOfRange => {
                    return Err(End::Fault(fault));
                }
                Err(fault) if fault.kind == FaultKind::NotAuthorized => {
                    return Err(End::Fault(fault));
                }
                Err(fault) => {
                    tracing::debug!(group = %self.options.group, "a start is looked up again: {fault}");
                    again.push(partition);
                    continue;
                }
            };
            let sought = consumer.seek(&partition.topic, partition.partition, place.at);
            if sought.await.is_err() {
                // Taken away again; the notice is on its way.
                continue;
            }
            held.next = Some(place.at);
            held.busy = false;
            held.lag = Lag::of(&self.options.group, &partition);
            self.seen.insert(partition.clone());
            if let Some(missed) = place.missed {
                gaps.push(Event::Gap {
                    partition: partition.clone(),
                    from: missed,
                    to: place.at,
                });
            }
            added.push(Assigned {
                partition,
                start: place.at,
                committed: place.committed,
                end: place.end,
            });
        }
        if !again.is_empty() {
            let pause = self.pause;
            self.pause = (self.pause * 2).min(LONGEST_PAUSE);
            self.look_up_starts(again, pause);
        }
        if !added.is_empty() {
            self.look_at_topics();
            let all = self.told();
            self.tell(Event::Assigned { added, all });
            for gap in gaps {
                self.tell(gap);
            }
            self.wake.notify_one();
        }
        Ok(())
    }

    /// Goes on after a revoke once what was ordered before its release is done.
    fn released(&mut self) {
        let Some(revoking) = &mut self.revoking else {
            return;
        };
        let is_late = Instant::now() >= revoking.deadline;
        if !revoking.is_released && !is_late {
            revoking.is_released = true;
            revoking.deadline = Instant::now() + self.timing.commit;
            while let Ok(command) = self.commands.try_recv() {
                self.commanded(command);
            }
        }
        self.end_revoke();
    }

    fn end_revoke(&mut self) {
        let Some(revoking) = &self.revoking else {
            return;
        };
        let is_late = Instant::now() >= revoking.deadline;
        let is_done = revoking.is_released && self.commits.is_empty();
        if !is_late && !is_done {
            return;
        }
        let Some(revoking) = self.revoking.take() else {
            return;
        };
        for partition in &revoking.partitions {
            self.held.remove(partition);
        }
        if !revoking.is_released {
            tracing::warn!(
                group = %self.options.group,
                "revoked partitions were not let go in time and are taken"
            );
            self.tell(Event::Lost(revoking.partitions));
        }
        // An error is that krafka's poll is gone.
        let _ = revoking.done.send(());
    }

    fn lose(&mut self, mut partitions: Vec<TopicPartition>) {
        partitions.retain(|partition| {
            let held = self.held.remove(partition);
            held.is_some_and(|held| held.next.is_some())
        });
        if !partitions.is_empty() {
            partitions.sort_unstable();
            self.tell(Event::Lost(partitions));
        }
    }

    /// krafka's partitions as ours.
    fn own(&self, places: Vec<link::Place>) -> Vec<TopicPartition> {
        places
            .into_iter()
            .map(|place| TopicPartition {
                topic: self.topic(&place.topic),
                partition: place.partition,
            })
            .collect()
    }

    fn topic(&self, name: &str) -> Arc<str> {
        let known = self.options.topics.iter().find(|topic| ***topic == *name);
        known.map_or_else(|| Arc::from(name), Arc::clone)
    }

    fn turns_of<'a>(&self, partitions: impl Iterator<Item = &'a TopicPartition>) -> Vec<u64> {
        partitions
            .map(|partition| self.held.get(partition).map_or(0, |held| held.turn))
            .collect()
    }

    fn consumer(&self) -> Option<Arc<Consumer>> {
        self.link.as_ref().map(|link| Arc::clone(&link.consumer))
    }

    // -- records

    async fn polled(&mut self, records: Vec<ConsumerRecord>) {
        let Some(consumer) = self.consumer() else {
            return;
        };
        let nothing = records.is_empty();
        let mut next = Vec::new();
        let mut cut = Vec::new();
        for (place, known) in consumer.lag().await {
            let Some(position) = known.position else {
                continue;
            };
            let partition = TopicPartition {
                topic: self.topic(&place.topic),
                partition: place.partition,
            };
            let Some(held) = self.held.get_mut(&partition).filter(|held| !held.busy) else {
                continue;
            };
            if let (Some(lag), Some(records)) = (&held.lag, known.lag) {
                lag.set(records);
            }
            match held.next {
                Some(before) if position > before => {
                    held.next = Some(position);
                    next.push((partition, position));
                }
                // The log was cut off behind a leader that failed, and krafka went back with it.
                Some(before) if position < before => {
                    held.next = Some(position);
                    cut.push((partition, before, position));
                }
                _ => {}
            }
        }
        for (partition, from, to) in cut {
            self.tell(Event::Gap {
                partition,
                from,
                to,
            });
        }
        if nothing && next.is_empty() {
            self.look_at_fetches(&consumer);
            return;
        }
        next.sort_unstable();
        let records = records.into_iter().map(delivered).collect();
        self.tell(Event::Records { records, next });
    }

    /// krafka keeps failed fetches to itself, and does not ask whether the leader has moved.
    fn look_at_fetches(&mut self, consumer: &Consumer) {
        if self.looked_at.elapsed() < REFRESH {
            return;
        }
        self.looked_at = Instant::now();
        let errors = consumer.metrics().consumer.errors;
        if errors > self.fetch_errors && self.health.borrow().is_none() {
            self.refresh();
        }
        self.fetch_errors = errors;
    }

    /// Has krafka ask for the leaders of the topics, and try again at once where it was pausing.
    fn refresh(&mut self) {
        let Some(consumer) = self.consumer() else {
            return;
        };
        if self.refreshing || self.held.is_empty() {
            return;
        }
        self.refreshing = true;
        let topics: HashSet<Arc<str>> = self.held.keys().map(|p| Arc::clone(&p.topic)).collect();
        let bound = self.shared.bound;
        self.jobs.push(Box::pin(async move {
            // Not all members of the process at the same moment.
            sleep(Duration::from_millis(fastrand::u64(0..500))).await;
            for topic in topics {
                // Of a partition that cannot exist krafka knows no leader, and so it asks for the
                // topic: the one way to make it, short of asking for all topics of the cluster.
                let asked = consumer.fetch_watermarks(&topic, i32::MAX);
                let _ = timeout(bound, asked).await;
            }
            Done::Refreshed
        }));
    }

    async fn refreshed(&mut self) {
        self.refreshing = false;
        let Some(consumer) = self.consumer() else {
            return;
        };
        for (partition, held) in &mut self.held {
            let (Some(next), false) = (held.next, held.busy) else {
                continue;
            };
            let (topic, number) = (&*partition.topic, partition.partition);
            // Only what krafka has nothing of: a seek throws away what it has read ahead.
            if consumer.fetch_position(topic, number).await == Some(next) {
                let _ = consumer.seek(topic, number, next).await;
            }
        }
    }

    fn out_of_range(&mut self, places: Vec<(String, i32)>) {
        let places = places
            .into_iter()
            .map(|(topic, partition)| link::Place::new(topic, partition))
            .collect();
        let mut aims = Vec::new();
        for partition in self.own(places) {
            if let Some(held) = self.held.get_mut(&partition)
                && let (Some(next), false) = (held.next, held.busy)
            {
                held.busy = true;
                aims.push((partition, SeekTo::Offset(next)));
            }
        }
        if !aims.is_empty() {
            self.recover(aims, Duration::ZERO);
        }
    }

    fn recover(&mut self, aims: Vec<(TopicPartition, SeekTo)>, pause: Duration) {
        let turns = self.turns_of(aims.iter().map(|(partition, _)| partition));
        let asker = Arc::clone(&self.asker);
        self.jobs.push(Box::pin(async move {
            sleep(pause).await;
            Done::Recovered(turns, asker.places(&aims, false).await)
        }));
    }

    async fn recovered(&mut self, turns: Vec<u64>, places: Places) -> Result<(), End> {
        let Some(consumer) = self.consumer() else {
            return Ok(());
        };
        let mut again = Vec::new();
        for ((partition, place), turn) in places.into_iter().zip(turns) {
            let Some(held) = self.held.get_mut(&partition).filter(|h| h.turn == turn) else {
                continue;
            };
            match place {
                Ok(place) => {
                    let sought = consumer.seek(&partition.topic, partition.partition, place.at);
                    if sought.await.is_err() {
                        continue;
                    }
                    held.busy = false;
                    held.next = Some(place.at);
                    if let Some(from) = place.missed {
                        let to = place.at;
                        self.tell(Event::Gap {
                            partition,
                            from,
                            to,
                        });
                    }
                }
                Err(fault)
                    if matches!(
                        fault.kind,
                        FaultKind::OffsetOutOfRange | FaultKind::NotAuthorized
                    ) =>
                {
                    return Err(End::Fault(fault));
                }
                Err(_) => {
                    if let Some(next) = held.next {
                        again.push((partition, SeekTo::Offset(next)));
                    }
                }
            }
        }
        if !again.is_empty() {
            self.recover(again, Duration::from_millis(500));
        }
        self.wake.notify_one();
        Ok(())
    }

    // -- commands

    fn commanded(&mut self, command: Command) {
        match command {
            Command::Commit { token, offsets } => {
                self.commits.waiting.push_back(Commit::new(token, offsets));
                self.next_commit();
            }
            Command::Pause(partitions) => self.set_paused(&partitions, true),
            Command::Resume(partitions) => self.set_paused(&partitions, false),
            Command::Seek { token, positions } => self.seek(token, positions),
            Command::Ends { token } => {
                let asker = Arc::clone(&self.asker);
                let partitions = self.told();
                self.jobs.push(Box::pin(async move {
                    Done::Ends(token, asker.ends(&partitions).await)
                }));
            }
            Command::Subscribe(topics) => self.subscribe(topics),
            Command::Leave { stay } => {
                self.leaving = Some(if stay {
                    // Of a static member: epoch -2, which keeps its place and gives up the
                    // instance id, so that the next one may have it at once.
                    GroupMembershipOperation::Default
                } else {
                    GroupMembershipOperation::LeaveGroup
                });
            }
        }
    }

    fn set_paused(&mut self, partitions: &[TopicPartition], paused: bool) {
        for partition in partitions {
            if let Some(held) = self.held.get_mut(partition) {
                held.paused = paused;
            }
        }
        self.wake.notify_one();
    }

    fn seek(&mut self, token: Token, positions: Vec<(TopicPartition, SeekTo)>) {
        let mut refused = Vec::new();
        let mut aims = Vec::with_capacity(positions.len());
        for (partition, aim) in positions {
            self.turns += 1;
            let revoked = self.revoking.as_ref();
            let revoked = revoked.is_some_and(|r| r.partitions.contains(&partition));
            match self.held.get_mut(&partition) {
                Some(held) if held.next.is_some() && !revoked => {
                    // An earlier seek that is still under way does not count any more.
                    held.turn = self.turns;
                    held.busy = true;
                    aims.push((partition, aim));
                }
                _ => {
                    let fault = not_assigned(&partition);
                    refused.push((partition, fault));
                }
            }
        }
        let turns = self.turns_of(aims.iter().map(|(partition, _)| partition));
        let asker = Arc::clone(&self.asker);
        self.jobs.push(Box::pin(async move {
            let places = asker.places(&aims, false).await;
            Done::Sought(token, turns, places, refused)
        }));
    }

    async fn sought(
        &mut self,
        token: Token,
        turns: Vec<u64>,
        places: Places,
        refused: Vec<(TopicPartition, Fault)>,
    ) {
        let mut results: Vec<_> = refused
            .into_iter()
            .map(|(partition, fault)| (partition, Err(fault)))
            .collect();
        let consumer = self.consumer();
        for ((partition, place), turn) in places.into_iter().zip(turns) {
            let result = match (self.held.get_mut(&partition), &consumer) {
                (Some(held), Some(consumer)) if held.turn == turn => {
                    held.busy = false;
                    match place {
                        Ok(place) => {
                            let seek =
                                consumer.seek(&partition.topic, partition.partition, place.at);
                            match seek.await {
                                Ok(()) => {
                                    held.next = Some(place.at);
                                    Ok(place.at)
                                }
                                Err(_) => Err(not_assigned(&partition)),
                            }
                        }
                        Err(fault) => Err(fault),
                    }
                }
                (Some(_), Some(_)) => Err(Fault::new(
                    FaultKind::Other,
                    format!(
                        "Partition {} of topic {} was sent elsewhere meanwhile.",
                        partition.partition, partition.topic
                    ),
                )),
                _ => Err(not_assigned(&partition)),
            };
            results.push((partition, result));
        }
        self.tell(Event::Seeked { token, results });
        self.wake.notify_one();
    }

    fn subscribe(&mut self, topics: Vec<Arc<str>>) {
        let Some(consumer) = self.consumer() else {
            // Not in the group yet: it joins with these. A turn that is just ending has the others,
            // and what it finds out about them would not hold.
            self.set_topics(topics);
            return;
        };
        let shared = Arc::clone(&self.shared);
        self.jobs.push(Box::pin(async move {
            let names = topics.iter().map(|topic| &**topic);
            let result = async {
                link::check_topics(&shared, names.clone()).await?;
                consumer.subscribe(names).await?;
                Ok(())
            };
            let result = result.await;
            Done::Subscribed(topics, result)
        }));
    }

    fn set_topics(&mut self, topics: Vec<Arc<str>>) {
        self.options = Arc::new(Options {
            topics,
            ..(*self.options).clone()
        });
    }

    fn subscribed(&mut self, topics: Vec<Arc<str>>, result: Result<(), Fault>) -> Result<(), End> {
        match result {
            Ok(()) => {
                self.set_topics(topics);
                self.polled_at = None;
                self.wake.notify_one();
                Ok(())
            }
            Err(fault) if fault.retriable => {
                tracing::debug!(group = %self.options.group, "subscribing is tried again: {fault}");
                let pause = self.pause;
                self.pause = (self.pause * 2).min(LONGEST_PAUSE);
                self.jobs.push(Box::pin(async move {
                    sleep(pause).await;
                    Done::SubscribeAgain(topics)
                }));
                Ok(())
            }
            Err(fault) => Err(End::Fault(fault)),
        }
    }

    // -- commits

    /// Sends the next commit, if none is under way.
    fn next_commit(&mut self) {
        while !self.commits.under_way {
            let Some(mut commit) = self.commits.waiting.pop_front() else {
                break;
            };
            commit.keep(|partition| {
                let held = self.held.get(partition);
                held.is_some_and(|held| held.next.is_some())
            });
            let now = Instant::now();
            let deadline = *commit.deadline.get_or_insert(now + self.timing.commit);
            let Some(consumer) = self.consumer() else {
                commit.fail(&out_of_group());
                self.answer(commit);
                continue;
            };
            if commit.offsets.is_empty() {
                self.answer(commit);
                continue;
            }
            if now >= deadline {
                commit.fail(&too_late());
                self.answer(commit);
                continue;
            }
            self.commits.under_way = true;
            self.jobs.push(Box::pin(async move {
                let (commit, fault) = commit.attempt(&consumer).await;
                Done::Committed(commit, fault)
            }));
        }
    }

    fn committed(&mut self, mut commit: Commit, fault: Option<Fault>) -> Result<(), End> {
        if let Some(fault) = fault {
            let pause = commit.next_pause();
            let is_over = commit
                .deadline
                .is_none_or(|deadline| Instant::now() + pause >= deadline);
            if !is_over {
                self.jobs.push(Box::pin(async move {
                    sleep(pause).await;
                    Done::CommitAgain(commit)
                }));
                return Ok(());
            }
            commit.fail(&fault);
        }
        // Another member has the instance id, and krafka does not take the heartbeat's word for it.
        let fenced = commit.results.iter().find_map(|(_, result)| match result {
            Err(fault) if fault.kafka_error == Some("FENCED_INSTANCE_ID") => Some(fault.clone()),
            _ => None,
        });
        self.answer(commit);
        self.commits.under_way = false;
        if let Some(fault) = fenced {
            return Err(End::Fault(fault));
        }
        self.next_commit();
        self.end_revoke();
        Ok(())
    }

    fn answer(&mut self, commit: Commit) {
        if commit.results.iter().any(|(_, result)| result.is_ok()) {
            histogram!("kafka_commit_duration_seconds").record(commit.given.elapsed());
        }
        self.tell(Event::Committed {
            token: commit.token,
            results: commit.results,
        });
    }

    // -- jobs

    async fn done(&mut self, done: Done) -> Result<(), End> {
        match done {
            Done::Started(turns, places) => return self.started(turns, places).await,
            Done::Recovered(turns, places) => return self.recovered(turns, places).await,
            Done::Sought(token, turns, places, refused) => {
                self.sought(token, turns, places, refused).await;
            }
            Done::Ends(token, results) => self.tell(Event::Ends { token, results }),
            Done::Committed(commit, fault) => return self.committed(commit, fault),
            Done::CommitAgain(commit) => {
                self.commits.under_way = false;
                self.commits.waiting.push_front(commit);
                self.next_commit();
                self.end_revoke();
            }
            Done::Subscribed(topics, result) => return self.subscribed(topics, result),
            Done::SubscribeAgain(topics) => self.subscribe(topics),
            Done::Refreshed => self.refreshed().await,
            Done::Topics(topics) => self.compare_topics(topics),
        }
        Ok(())
    }

    /// What is to be done every few seconds.
    fn round(&mut self) {
        if self.round_at.elapsed() < ROUND {
            return;
        }
        self.round_at = Instant::now();
        self.look_at_topics();
    }

    /// Asks which ids the topics have: one that was created again under the same name is another
    /// topic, and krafka may not notice.
    fn look_at_topics(&mut self) {
        if self.held.is_empty() || self.health.borrow().is_some() {
            return;
        }
        let names: HashSet<Arc<str>> = self.held.keys().map(|p| Arc::clone(&p.topic)).collect();
        let metadata = self.shared.metadata.clone();
        self.jobs.push(Box::pin(async move {
            let mut topics = Vec::with_capacity(names.len());
            for name in names {
                if let Ok(topic) = metadata.topic(&name).await {
                    topics.push((name, topic.id));
                }
            }
            Done::Topics(topics)
        }));
    }

    fn compare_topics(&mut self, topics: Vec<(Arc<str>, [u8; 16])>) {
        const UNKNOWN: [u8; 16] = [0; 16];
        let mut others = false;
        for (name, id) in topics {
            let before = self.topics.insert(name, id);
            others |= before.is_some_and(|before| before != id && before != UNKNOWN);
        }
        if others && id_matters(&self.held) {
            tracing::info!(
                group = %self.options.group,
                "a topic was created again: the member begins anew"
            );
            self.topics.clear();
            self.anew();
            self.refresh();
            self.set_state(State::Joining(None));
            self.wake.notify_one();
        }
    }

    // -- the end

    async fn end(mut self, end: End) {
        let (operation, fault) = match end {
            End::Leave(operation) => (operation, None),
            End::Fault(fault) => (GroupMembershipOperation::Default, Some(fault)),
        };
        // What is under way has the consumer too.
        self.jobs.clear();
        if let Some(link) = self.link.take() {
            link.leave(operation, self.timing.leave).await;
        }
        // The gauges go to zero, and the seat is free.
        self.held.clear();
        let unanswered: Vec<Commit> = self.commits.waiting.drain(..).collect();
        for mut commit in unanswered {
            commit.fail(&out_of_group());
            self.answer(commit);
        }
        self.outbox.push_back(Event::Ended(fault));
        drop(self.seat);
        let events = self.events;
        let outbox = self.outbox;
        let telling = async {
            for event in outbox {
                if events.send(event).await.is_err() {
                    return;
                }
            }
        };
        let _ = timeout(LAST_EVENTS, telling).await;
    }
}

impl Held {
    fn flows(&self, room: bool) -> bool {
        room && self.next.is_some() && !self.busy && !self.paused
    }
}

/// Ends when the revoke that waits may go on, or may wait no longer.
async fn released(revoking: &mut Option<Revoking>) {
    match revoking {
        None => std::future::pending().await,
        Some(revoking) if revoking.is_released => sleep_until(revoking.deadline).await,
        Some(revoking) => {
            tokio::select! {
                _ = &mut revoking.released => {}
                () = sleep_until(revoking.deadline) => {}
            }
        }
    }
}

fn id_matters(held: &HashMap<TopicPartition, Held>) -> bool {
    held.values().any(|held| held.next.is_some())
}

fn out_of_group() -> Fault {
    Fault::new(
        FaultKind::NotFound,
        "The member is not in the group at the moment, so that it cannot commit.",
    )
}

fn too_late() -> Fault {
    Fault::new(
        FaultKind::TimedOut,
        "The commit waited too long behind others.",
    )
}

fn delivered(record: ConsumerRecord) -> Delivered {
    Delivered {
        topic: record.topic,
        partition: record.partition,
        offset: record.offset,
        timestamp: record.timestamp,
        timestamp_type: match record.timestamp_type {
            TimestampType::LogAppendTime => RecordTime::Append,
            _ => RecordTime::Create,
        },
        key: record.key,
        value: record.value,
        headers: record
            .headers
            .into_iter()
            .map(|(name, value)| Header { name, value })
            .collect(),
    }
}
