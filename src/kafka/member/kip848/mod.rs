//! The engine over krafka, by the protocol of KIP-848.
//!
//! One task for each member. It has one thing under way with krafka, its *turn* (making the consumer, a
//! poll, or a rest), and serves everything else meanwhile:
//!
//! ```text
//!              turn: attach | poll | rest           group consumer: it and its callbacks
//! commands --> served also during a turn            offsets: lookups, as jobs beside the turn
//! events   <-- outbox, in order                     commits: one at a time
//!              fetchers: polls beside the turn, one for each broker, where several lead
//! ```
//!
//! A poll is never dropped, unless the consumer goes with it: krafka calls it cancel safe, but an
//! assignment whose callback was cut off would never be applied.
//!
//! A partition flows when it has a place and nobody holds it: not the client (`Pause`), not a lookup
//! under way, not a revoke, not an outbox that is not taken. They are kept apart here and become one pause
//! in krafka. While nothing flows, or all of it through fetchers, krafka is polled now and then for the
//! group's sake, with no wait.

mod broker_fetcher;
mod broker_fetchers;
mod commands;
mod commits;
mod error_class;
mod group_consumer;
mod outbox;
mod pause;
mod rebalance;
mod records;

use std::collections::HashMap;
use std::mem;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use krafka::GroupMembershipOperation;
use krafka::consumer::{Consumer, ConsumerRecord};
use krafka::error::KrafkaError;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::time::{Instant, sleep_until, timeout};

use self::broker_fetcher::{BrokerFetchers, FetcherId, FetcherTurn, Via};
use self::broker_fetchers::Leaders;
use self::commits::{Commit, Commits, Purpose, Results};
use self::error_class::ErrorClass;
use self::group_consumer::{FETCH_WAIT, GroupConsumer, Notice};
use self::outbox::Outbox;
use self::rebalance::released;
use self::records::Aim;
use super::connections::Permit;
use super::health::Known;
use super::lag::Lag;
use super::start::Before;
use super::{Command, Event, Options, Shared, State, Timing, Token};
use crate::kafka::append_time::Begun;
use crate::kafka::consumer_guard::ConsumerGuard;
use crate::kafka::fault::{Fault, FaultKind};
use crate::kafka::metadata::Topic;
use crate::kafka::offset_resolver::{OffsetResolver, ResolvedOffsets};
use crate::observe::groups::GroupMetrics;
use crate::record::TopicPartition;

/// How long a poll waits for records. It also bounds how late a rebalance is noticed.
const POLL: Duration = FETCH_WAIT;
/// Longest time to get ready to join; each step of it has a bound of its own.
const ATTACH: Duration = Duration::from_secs(30);
/// How often krafka is polled while nothing flows.
const REST: Duration = Duration::from_millis(500);
/// First and longest pause after an error.
const PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// Pause before another try to find where a partition goes on.
const RECOVERY_PAUSE: Duration = Duration::from_millis(500);
/// Longest pause between two tries for the instance id that another member has.
const UNRELEASED_PAUSE: Duration = Duration::from_secs(2);
/// How often it is looked whether topics are still the same.
const ROUND: Duration = Duration::from_secs(5);
/// How often a failing fetch makes krafka ask where the leaders are.
const REFRESH: Duration = Duration::from_secs(1);
/// How often a batch may fail to be decoded before it counts as damaged in the log.
const UNDECODABLE: u32 = 5;
/// Most commits and other orders that wait before no further command is taken.
const MOST_COMMITS: usize = 64;
const MOST_JOBS: usize = 64;
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
    /// The consumer, and what was found of its topics.
    Attached(Result<(GroupConsumer, Before), Fault>),
    Polled(Result<Vec<ConsumerRecord>, KrafkaError>),
    /// The consumer could not be told of other topics.
    Unsubscribed(Fault),
    Rested,
}

/// What the task woke up for.
enum Woken {
    Turn(Turn),
    Fetcher(FetcherId, FetcherTurn),
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
    /// Where partitions start that were just assigned, which topics those are that were not known, and
    /// the pause before this try.
    Started(Vec<u64>, ResolvedOffsets, Vec<Arc<Topic>>, Duration),
    /// Where partitions go on that stood outside of the log.
    Recovered(Vec<u64>, Vec<Aim>, ResolvedOffsets, Vec<Arc<Topic>>),
    Sought(
        Token,
        Vec<u64>,
        ResolvedOffsets,
        Vec<(TopicPartition, Fault)>,
    ),
    Ends(Token, Vec<(TopicPartition, Result<i64, Fault>)>),
    Committed(Commit, Option<Fault>),
    CommitAgain(Commit),
    /// What became of a commit that partitions wait for.
    Landed(Purpose, Results),
    /// Whether these topics may be subscribed to, which of them have appeared, and what was found.
    Checked(Vec<Arc<str>>, Vec<Arc<str>>, Result<Before, Fault>),
    SubscribeAgain(Vec<Arc<str>>, Vec<Arc<str>>),
    /// krafka asked where the leaders are.
    Refreshed(Leaders),
    /// Where krafka believes the leaders to be.
    Leaders(Leaders),
    /// Partitions are in this fetcher, whose consumer is this one if it is new.
    Laid(FetcherId, Result<Option<ConsumerGuard>, Fault>),
    /// What topics are now, or that one may not be read any more.
    Topics(Result<Vec<Arc<Topic>>, Fault>),
}

/// A partition of this member.
struct Held {
    /// Tells this assignment of the partition, and each later place of it, from others.
    turn: u64,
    /// The offset of the next record; `None` until its start is known and told.
    next: Option<i64>,
    /// A lookup, or a commit that it waits for, will give it a new place.
    busy: bool,
    /// Its start is being looked up, for the first time, and committed.
    lands: bool,
    /// By [`Command::Pause`].
    paused: bool,
    /// The client is being told to let it go.
    revoked: bool,
    /// Through which consumer it is fetched.
    via: Via,
    /// What that one was told last.
    stopped: bool,
    /// That one may have read ahead of it.
    read_ahead: bool,
    /// Who led it when that was last known.
    leader: Option<i32>,
    /// The handle was asked for that.
    is_asked: bool,
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
    resolver: Arc<OffsetResolver>,
    permit: Arc<Permit>,
    commands: mpsc::Receiver<Command>,
    events: mpsc::Sender<Event>,
    /// What is told of the group to operators.
    metrics: GroupMetrics,
    /// Events that are not in the channel yet.
    outbox: Outbox,
    /// Ends a rest.
    wake: Arc<Notify>,
    group_consumer: Option<GroupConsumer>,
    fetchers: BrokerFetchers,
    /// Not before this moment does the next turn begin.
    retry_at: Option<Instant>,
    pause: Duration,
    polled_at: Option<Instant>,
    /// That poll waits for records.
    waits: bool,
    /// The consumer is told of other topics with the next poll.
    subscribes: bool,
    jobs: FuturesUnordered<BoxFuture<'static, Done>>,
    held: HashMap<TopicPartition, Held>,
    /// How topics were found when they were subscribed to.
    before: Arc<Before>,
    /// Where partitions started of which nothing was committed, while that is so.
    starts: HashMap<TopicPartition, i64>,
    turns: u64,
    revoking: Option<Revoking>,
    commits: Commits,
    /// Told to leave, as soon as the commits are done.
    leaving: Option<GroupMembershipOperation>,
    state: State,
    joined: bool,
    /// The broker has taken this consumer in before.
    was_member: bool,
    /// The group has taken this member in before, by whichever consumer.
    was_in: bool,
    health: watch::Receiver<Known>,
    /// The ids of topics as they were when partitions were assigned.
    topics: HashMap<Arc<str>, [u8; 16]>,
    /// Batches with the broker's time of which some records have not come yet.
    begun: Begun,
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
        let resolver = OffsetResolver {
            admin: shared.admin.clone(),
            group: Arc::from(options.group.as_str()),
            isolation: options.isolation,
            reset: options.reset,
            bound: shared.bound,
        };
        let metrics = GroupMetrics::of_member(&options.group, options.owner.as_ref());
        let options = Arc::new(options);
        Self {
            resolver: Arc::new(resolver),
            attaching: Arc::clone(&options),
            permit: Arc::new(shared.connections.permit()),
            health: shared.health.watch(),
            shared,
            timing,
            options,
            commands,
            events,
            metrics,
            outbox: Outbox::default(),
            wake: Arc::default(),
            group_consumer: None,
            fetchers: BrokerFetchers::default(),
            retry_at: None,
            pause: PAUSE,
            polled_at: None,
            waits: false,
            subscribes: false,
            jobs: FuturesUnordered::new(),
            held: HashMap::new(),
            before: Arc::default(),
            starts: HashMap::new(),
            turns: 0,
            revoking: None,
            commits: Commits::default(),
            leaving: None,
            state: State::Joining(None),
            joined: false,
            was_member: false,
            was_in: false,
            topics: HashMap::new(),
            begun: Begun::default(),
            unreleased_since: None,
            undecodable: 0,
            fetch_errors: 0,
            looked_at: Instant::now(),
            round_at: Instant::now(),
            refreshing: false,
        }
    }

    async fn run(mut self) {
        self.outbox.put(Event::State(State::Joining(None)));
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
        self.look_at_fetchers();
        let polled_at = self.polled_at;
        let mut turn = pin!(self.next_turn().await);
        let polls = self.polled_at != polled_at;
        loop {
            let takes_commands = !self.outbox.is_full()
                && self.commits.waiting.len() < MOST_COMMITS
                && self.jobs.len() < MOST_JOBS
                && self.leaving.is_none();
            let desk = self
                .group_consumer
                .as_ref()
                .map(|group_consumer| Arc::clone(&group_consumer.desk));
            let woken = tokio::select! {
                turn = &mut turn => Woken::Turn(turn),
                (fetcher, turn) = self.fetchers.next(), if !self.fetchers.is_empty() => {
                    Woken::Fetcher(fetcher, turn)
                }
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
                        if let Some(event) = self.outbox.take() {
                            permit.send(event);
                        }
                        Woken::Room
                    }
                    Err(_) => Woken::Gone,
                },
                () = self.events.closed() => Woken::Gone,
                () = released(&mut self.revoking) => Woken::Released,
                () = async {
                    if self.health.changed().await.is_err() {
                        // Nobody asks any more: the runtime is ending.
                        std::future::pending::<()>().await;
                    }
                } => Woken::Health,
            };
            let ended = matches!(woken, Woken::Turn(_));
            let end = match (self.woken(woken).await, self.leaving) {
                (Err(end), _) => Some(end),
                (Ok(()), Some(operation)) if self.commits.is_empty() => Some(End::Leave(operation)),
                (Ok(()), _) => None,
            };
            if let Some(end) = end {
                if polls && !ended && !self.joined {
                    self.finish_joining(turn).await;
                }
                return Err(end);
            }
            if ended {
                return Ok(());
            }
        }
    }

    /// Lets a poll that may be about to join have its answer. krafka says goodbye only to a group that
    /// it knows to have let it in, so a poll that is dropped before that could leave a member behind,
    /// which keeps its partitions from all others until its session times out.
    async fn finish_joining(&mut self, turn: impl Future<Output = Turn>) {
        if let Some(group_consumer) = &self.group_consumer {
            group_consumer.desk.close();
            let _ = timeout(self.timing.leave, turn).await;
        }
    }

    async fn woken(&mut self, woken: Woken) -> Result<(), End> {
        let changes = matches!(woken, Woken::Command(_) | Woken::Done(_));
        match woken {
            Woken::Turn(turn) => self.turned(turn).await?,
            Woken::Fetcher(fetcher, turn) => self.fetcher_turned(fetcher, turn).await?,
            Woken::Notice(notice) => self.noticed(notice),
            Woken::Command(Some(command)) => self.commanded(command),
            Woken::Command(None) | Woken::Gone => {
                return Err(End::Leave(GroupMembershipOperation::Default));
            }
            Woken::Done(done) => self.done(*done).await?,
            Woken::Room => {
                self.flush();
                if self.has_room(Via::Group) {
                    self.wake.notify_one();
                }
            }
            Woken::Released => self.released(),
            Woken::Health => self.health_changed(),
        }
        if changes || !self.fetchers.is_empty() {
            self.hold().await;
        }
        self.run_fetchers();
        Ok(())
    }

    // -- turns

    /// What to do with krafka next. The future holds nothing of `self`.
    async fn next_turn(&mut self) -> impl Future<Output = Turn> + Send + 'static {
        let room = self.has_room(Via::Group);
        let flows = self
            .held
            .values()
            .any(|held| held.via == Via::Group && held.flows(room));
        let wake = Arc::clone(&self.wake);
        let now = Instant::now();
        let resting = match self.retry_at.take_if(|at| *at <= now) {
            Some(_) => None,
            None => self.retry_at,
        };
        // When krafka was polled not long ago and has nothing to give, or nobody takes it.
        let resting = resting.or_else(|| {
            let next = self.polled_at? + REST;
            (self.group_consumer.is_some() && !flows && next > now).then_some(next)
        });
        let polling = match (&self.group_consumer, resting) {
            (Some(group_consumer), None) => Some(Arc::clone(&group_consumer.consumer)),
            _ => None,
        };
        let mut subscribing = None;
        if polling.is_some() {
            self.hold().await;
            self.polled_at = Some(now);
            self.waits = flows;
            subscribing = mem::take(&mut self.subscribes).then(|| Arc::clone(&self.options));
        }
        let attaching = (self.group_consumer.is_none() && resting.is_none()).then(|| {
            self.attaching = Arc::clone(&self.options);
            let shared = Arc::clone(&self.shared);
            let timing = self.timing;
            let options = Arc::clone(&self.options);
            let permit = Arc::clone(&self.permit);
            let was_in = self.was_in;
            let looking = self.look_before(&options.topics, &options.appeared);
            // On the heap, for a while only: it is larger than all else that a member is.
            Box::pin(async move {
                let making = async {
                    let joining = GroupConsumer::make(&shared, &timing, &options, &permit, was_in);
                    tokio::try_join!(joining, looking)
                };
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
                    // krafka joins again with the other topics only if no answer to a heartbeat of
                    // before comes between the two: it would take the member for one that is in the
                    // group, with no heartbeats any more. So they are one step, with no wait between.
                    if let Some(options) = subscribing
                        && let Err(fault) = group_consumer::subscribe(&consumer, &options).await
                    {
                        return Turn::Unsubscribed(fault);
                    }
                    let wait = if flows { POLL } else { Duration::ZERO };
                    Turn::Polled(consumer.poll(wait).await)
                }
                None => Turn::Rested,
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
                    Ok((group_consumer, before)) => {
                        self.keep_before(before);
                        self.group_consumer = Some(group_consumer);
                        self.subscribes = false;
                        self.was_member = false;
                        self.polled_at = None;
                        self.fetch_errors = 0;
                        // The pause stays what it is until a poll goes well: a consumer can be made
                        // again and again for a group that does not let it in.
                        if is_changed {
                            let options = Arc::clone(&self.options);
                            self.subscribe(options.topics.clone(), options.appeared.clone());
                        }
                    }
                    Err(fault) if fault.retriable || is_changed => {
                        self.wait_after(fault, LONGEST_PAUSE);
                    }
                    Err(fault) => return Err(End::Fault(fault)),
                }
                Ok(())
            }
            // Of a consumer that is gone: the next one begins with what is wanted now.
            Turn::Polled(_) | Turn::Unsubscribed(_) if self.group_consumer.is_none() => Ok(()),
            Turn::Polled(Ok(records)) => {
                self.take_notices();
                self.pause = PAUSE;
                self.undecodable = 0;
                if let Some(consumer) = self.consumer() {
                    let nothing = records.is_empty();
                    self.polled(Via::Group, &consumer, records).await;
                    let is_early = self.polled_at.is_some_and(|at| at.elapsed() < POLL / 2);
                    if nothing && self.waits && is_early {
                        self.empty(Via::Group).await;
                    }
                    // Also while some records come: the others may have stopped.
                    self.look_at_fetches(&consumer);
                }
                Ok(())
            }
            Turn::Polled(Err(error)) => {
                self.take_notices();
                self.failed(&error)
            }
            Turn::Unsubscribed(fault) if fault.retriable => {
                tracing::debug!(group = %self.options.group, "subscribing is tried again: {fault}");
                self.subscribes = true;
                self.wait_after(fault, LONGEST_PAUSE);
                Ok(())
            }
            Turn::Unsubscribed(fault) => Err(End::Fault(fault)),
        }
    }

    /// What the callbacks of a poll left comes before what the poll came to.
    fn take_notices(&mut self) {
        while let Some(notice) = self
            .group_consumer
            .as_ref()
            .and_then(|group_consumer| group_consumer.desk.take())
        {
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
        match ErrorClass::of(error) {
            ErrorClass::Retry(fault) => {
                tracing::debug!(group = %self.options.group, "a poll failed: {fault}");
                self.wait_after(fault, LONGEST_PAUSE);
            }
            ErrorClass::Anew(fault) => {
                self.anew();
                self.wait_after(fault, LONGEST_PAUSE);
            }
            // The member that it was is in the group until its session times out, and has the
            // partitions until then.
            ErrorClass::Confused(fault) if self.was_member => {
                self.anew();
                self.wait_after(fault, LONGEST_PAUSE);
            }
            ErrorClass::Confused(fault) => return Err(End::Fault(fault)),
            ErrorClass::Unreleased(fault) => return self.unreleased(fault),
            ErrorClass::OutOfRange(places) => self.out_of_range(Via::Group, places),
            ErrorClass::Undecodable(fault) => {
                self.undecodable += 1;
                Self::undecodable(self.undecodable, fault.clone())?;
                self.wait_after(fault, LONGEST_PAUSE);
            }
            ErrorClass::End(fault) => return Err(End::Fault(fault)),
        }
        Ok(())
    }

    /// What cannot be decoded for so many times in a row is damaged in the log.
    fn undecodable(times: u32, fault: Fault) -> Result<(), End> {
        if times < UNDECODABLE {
            return Ok(());
        }
        Err(End::Fault(Fault {
            message: format!(
                "Records cannot be decoded: they are damaged in Kafka, or in a format that is not \
                 supported. {}",
                fault.message
            ),
            ..fault
        }))
    }

    /// Another member has the instance id; it may be the one that this was, before the coordinator moved
    /// and krafka forgot its id. krafka gives up for good at this.
    fn unreleased(&mut self, fault: Fault) -> Result<(), End> {
        let since = *self.unreleased_since.get_or_insert_with(Instant::now);
        if since.elapsed() >= self.timing.unreleased {
            return Err(End::Fault(fault));
        }
        self.anew();
        self.wait_after(fault, UNRELEASED_PAUSE);
        Ok(())
    }

    /// Takes leave of the consumer and lets a new one join. What it had is lost.
    fn anew(&mut self) {
        if let Some(revoking) = self.revoking.take() {
            drop(revoking.done);
        }
        self.lose(self.held.keys().cloned().collect());
        self.fetchers.all.clear();
        self.begun = Begun::default();
        // Jobs go on, so that every order is answered; of partitions that are gone they come to nothing.
        self.joined = false;
        if let Some(group_consumer) = self.group_consumer.take() {
            tokio::spawn(
                group_consumer.leave(GroupMembershipOperation::Default, self.timing.leave),
            );
        }
        // Answers those that wait.
        self.next_commit();
    }

    // -- events

    fn tell(&mut self, event: Event) {
        self.outbox.put(event);
        self.flush();
    }

    /// Puts what there is room for into the channel.
    pub(super) fn flush(&mut self) {
        // Nobody else puts anything there.
        while self.events.capacity() > 0 {
            let Some(event) = self.outbox.take() else {
                return;
            };
            // A closed channel is noticed elsewhere.
            let _ = self.events.try_send(event);
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
        let revoking = self.revoking.as_ref();
        let told = self.held.iter().filter(|(partition, held)| {
            held.next.is_some() && !revoking.is_some_and(|r| r.partitions.contains(partition))
        });
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
                for fetcher in &mut self.fetchers.all {
                    fetcher.rouse();
                }
                self.wake.notify_one();
            }
        }
    }

    // -- what several files use

    /// krafka's partitions as ours.
    fn own(&self, places: Vec<group_consumer::KrafkaPartition>) -> Vec<TopicPartition> {
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
        self.group_consumer
            .as_ref()
            .map(|group_consumer| Arc::clone(&group_consumer.consumer))
    }

    // -- jobs

    async fn done(&mut self, done: Done) -> Result<(), End> {
        match done {
            Done::Started(turns, places, topics, pause) => {
                return self.started(turns, places, topics, pause).await;
            }
            Done::Recovered(turns, aims, places, topics) => {
                return self.recovered(turns, aims, places, topics).await;
            }
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
            Done::Landed(purpose, results) => return self.landed(purpose, results).await,
            Done::Checked(topics, appeared, result) => {
                return self.checked(topics, appeared, result);
            }
            Done::SubscribeAgain(topics, appeared) => self.subscribe(topics, appeared),
            Done::Refreshed(leaders) => self.refreshed(leaders).await,
            Done::Leaders(leaders) => self.led(leaders).await,
            Done::Laid(fetcher, result) => self.laid(fetcher, result).await,
            Done::Topics(Ok(topics)) => self.compare_topics(&topics).await,
            Done::Topics(Err(fault)) => return Err(End::Fault(fault)),
        }
        Ok(())
    }

    // -- the end

    async fn end(mut self, end: End) {
        let (operation, fault) = match end {
            End::Leave(operation) => (operation, None),
            End::Fault(fault) => (GroupMembershipOperation::Default, Some(fault)),
        };
        self.commands.close();
        // What is under way has the consumer too.
        self.jobs.clear();
        // They take their leave by themselves.
        self.fetchers.all.clear();
        if let Some(group_consumer) = self.group_consumer.take() {
            group_consumer.leave(operation, self.timing.leave).await;
        }
        self.held.clear();
        let unanswered: Vec<Commit> = self.commits.waiting.drain(..).collect();
        for mut commit in unanswered {
            commit.fail(&out_of_group());
            self.answer(commit);
        }
        self.outbox.put(Event::Ended(fault));
        drop(self.permit);
        let events = self.events;
        let mut outbox = self.outbox;
        let telling = async {
            while let Some(event) = outbox.take() {
                if events.send(event).await.is_err() {
                    return;
                }
            }
        };
        let _ = timeout(LAST_EVENTS, telling).await;
    }
}

fn out_of_group() -> Fault {
    Fault::new(
        FaultKind::NotFound,
        "The member is not in the group at the moment, so that it cannot commit.",
    )
}
