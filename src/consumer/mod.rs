//! Consumer instances of the v2 API: what a client made with `POST /consumers/{group}` and calls by its name
//! until it deletes it or leaves it alone for too long. The requests are in `api/v2/consumers/`. Knows Kafka, and
//! nothing of HTTP but whether an answer has gone out.
//!
//! One task for each. It owns the member of the group, takes what the member tells at any time, so that
//! a rebalance waits for nobody, and serves commands one after the other: requests that come together
//! wait for each other.
//!
//! ```text
//! Handle::read, commit, … --command-> task --> RecordBuffer: what was read, what is out, what was delivered
//!                         <--reply---  |
//!                                      +-- group_subscription: a kafka::member::Member tells what comes
//!                                      +-- manual_assignment: pages of kafka::Reader, read when they are asked for
//! ```
//!
//! - `registry.rs`: all instances of the process
//! - `command.rs`: the commands, their answers, and the handle that sends them
//! - `record_buffer.rs`: records and positions
//! - `delivery_receipt.rs`: records on their way to the client, and whether they arrived
//! - `delivery.rs`: answers that the client names, which are kept until it does
//! - `group_subscription.rs`: what a member tells; topics that come and go
//! - `manual_assignment.rs`: partitions that were chosen by hand
//! - `read.rs`, `commit.rs`, `seek.rs`: one command each

mod command;
mod commit;
mod delivery;
mod delivery_receipt;
mod group_subscription;
mod manual_assignment;
mod read;
mod record_buffer;
pub mod registry;
mod seek;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

pub use self::command::{Handle, InstanceError, Offset, SeekTargets, TopicSelection};
pub use self::delivery::Has;
pub use self::delivery_receipt::{ConnectionRef, RecordDelivery};
pub use self::read::fits;
pub use self::record_buffer::Unfit;

use self::command::Command;
use self::delivery::Deliveries;
use self::delivery_receipt::DeliveryReceipt;
pub use self::delivery_receipt::DeliveryStatus;
use self::group_subscription::Subscribed;
use self::record_buffer::RecordBuffer;
use crate::auth::Principal;
use crate::auth::policy::RecordVisibility;
use crate::codec::embedded::Embedded;
use crate::kafka::Cluster;
use crate::kafka::fault::{Fault, FaultKind};
use crate::kafka::member::{Event, OffsetReset};
use crate::limits::memory::Budget;
use crate::observe::topics::TopicReads;
use crate::reader_options::Isolation;
use crate::record::TopicPartition;

/// Most commands that wait in the queue of an instance; the requests of others wait to be let in.
const COMMANDS: usize = 32;
/// How often what was handled is committed: `auto.commit.interval.ms` of Kafka's own clients.
const AUTO_COMMIT: Duration = Duration::from_secs(5);
/// How much is read ahead of the client, at least and at most: it follows what the client takes.
const LEAST_AHEAD: usize = 64 << 10;
const MOST_AHEAD: usize = 4 << 20;
/// Tenths of the gateway's budget from which on it is the least.
const SHORT: u64 = 8;
/// Longest wait for an answer to be written before the next request on the instance is refused.
const SETTLING: Duration = Duration::from_secs(60);
/// The same when the instance ends.
const LAST_SETTLING: Duration = Duration::from_secs(2);
/// Longest wait for a member's answer; its own bounds are below.
const ANSWER: Duration = Duration::from_secs(30);
/// Longest wait for a member to leave.
const LEAVING: Duration = Duration::from_secs(12);

/// How an instance was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// The group.
    pub group: String,
    /// Its name in the group.
    pub name: String,
    /// How keys and values are shown.
    pub format: Embedded,
    /// `auto.offset.reset`.
    pub reset: OffsetReset,
    /// `auto.commit.enable`.
    pub auto_commit: bool,
    /// `fetch.min.bytes`: what a read waits for, in bytes of keys and values.
    pub fetch_min_bytes: u64,
    /// `consumer.request.timeout.ms`: longest wait of a read.
    pub timeout: Duration,
    /// `isolation.level`.
    pub isolation: Isolation,
}

/// Why an instance ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// Its client deleted it.
    Deleted,
    /// The gateway stops.
    Draining,
}

/// Where records come from.
enum Source {
    Nowhere,
    Subscribed(Box<Subscribed>),
    /// Partitions that were chosen by hand, which are in the buffer.
    Assigned,
}

/// What a wait came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Happened {
    Something,
    TooLate,
    Stopped,
}

/// An instance at work.
pub struct Instance {
    options: Arc<Options>,
    cluster: Arc<Cluster>,
    commands: mpsc::Receiver<Command>,
    stop: watch::Receiver<Option<Stop>>,
    idle_timeout: Duration,
    budget: Arc<Budget>,
    source: Source,
    buffer: RecordBuffer,
    receipt: Option<DeliveryReceipt>,
    deliveries: Deliveries,
    /// Which records the last read was shown.
    visibility: RecordVisibility,
    /// Whose topics a pattern may find.
    principal: Principal,
    ahead: usize,
    /// Bytes that a read waits for.
    wanted: usize,
    kept: u64,
    used: Instant,
    commit_at: Option<Instant>,
}

/// How an instance came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Its client deleted it.
    Deleted,
    /// It was idle.
    Expired,
    /// The gateway stops.
    Draining,
}

impl Instance {
    /// An instance of `principal`, and the handle to it. It does nothing until it is run.
    pub fn new(
        options: Options,
        cluster: Arc<Cluster>,
        budget: Arc<Budget>,
        idle_timeout: Duration,
        principal: Principal,
    ) -> (Self, Handle) {
        let (commands_in, commands) = mpsc::channel(COMMANDS);
        let (stopping, stop) = watch::channel(None);
        let options = Arc::new(options);
        let handle = Handle::new(
            Arc::clone(&options),
            commands_in,
            stopping,
            CancellationToken::new(),
        );
        let instance = Self {
            options,
            cluster,
            commands,
            stop,
            idle_timeout,
            budget,
            source: Source::Nowhere,
            buffer: RecordBuffer::default(),
            receipt: None,
            deliveries: Deliveries::new(),
            visibility: RecordVisibility::Of(Vec::new()),
            principal,
            ahead: LEAST_AHEAD,
            wanted: 0,
            kept: 0,
            used: Instant::now(),
            commit_at: None,
        };
        (instance, handle)
    }

    /// Serves until the instance is deleted, is idle for too long, or the gateway stops. `forget` is
    /// called as soon as that is so: from then on nobody shall find it.
    pub async fn run(mut self, forget: impl FnOnce(End)) -> End {
        let end = loop {
            let due = self.due();
            let stopped = *self.stop.borrow_and_update();
            match stopped {
                Some(Stop::Deleted) => break End::Deleted,
                Some(Stop::Draining) => break End::Draining,
                None => {}
            }
            tokio::select! {
                _ = self.stop.changed() => {}
                event = next_event(&mut self.source) => self.event(event),
                command = self.commands.recv() => match command {
                    Some(command) => self.serve(command).await,
                    None => break End::Deleted,
                },
                () = sleep_until(due) => {
                    if self.is_expired() {
                        break End::Expired;
                    }
                    // On the heap, for a while only.
                    Box::pin(self.tick()).await;
                }
            }
        };
        forget(end);
        Box::pin(self.finish(end)).await;
        end
    }

    async fn serve(&mut self, command: Command) {
        self.used = Instant::now();
        Box::pin(self.execute(command)).await;
        self.used = Instant::now();
    }

    async fn execute(&mut self, command: Command) {
        match command {
            Command::Subscribe(wanted, principal, reply) => {
                self.principal = principal;
                let _ = reply.send(self.subscribe(wanted).await);
            }
            Command::Subscription(reply) => {
                let _ = reply.send(Ok(self.subscription()));
            }
            Command::Unsubscribe(reply) => {
                let done = self.unsubscribe().await;
                let _ = reply.send(done);
            }
            Command::Assign(partitions, reply) => {
                let _ = reply.send(self.assign(partitions).await);
            }
            Command::Assignments(reply) => {
                let _ = reply.send(Ok(self.buffer.partitions()));
            }
            Command::Permit(principal, reply) => {
                let _ = reply.send(self.permits(principal).await);
            }
            Command::Read(read, principal, reply) => {
                self.principal = principal;
                self.read(read, reply).await;
            }
            Command::Commit(offsets, has, reply) => {
                let done = self.commit(offsets, has).await;
                let _ = reply.send(done);
            }
            Command::Acknowledge(has, reply) => {
                let _ = reply.send(self.acknowledge(&has).map(drop));
            }
            Command::Committed(partitions, reply) => {
                let _ = reply.send(self.committed(partitions).await);
            }
            Command::Seek(aims, reply) => {
                let _ = reply.send(self.seek(aims).await);
            }
        }
    }

    // -- time

    fn due(&self) -> Instant {
        let mut due = self.used + self.idle_timeout;
        if let Some(at) = self.commit_at {
            due = due.min(at);
        }
        if let Source::Subscribed(subscribed) = &self.source
            && let Some(at) = subscribed.looks_at()
        {
            due = due.min(at);
        }
        due
    }

    /// Nothing was asked of it for too long. An answer that is still being written is a use.
    fn is_expired(&mut self) -> bool {
        if self.used.elapsed() < self.idle_timeout || !self.commands.is_empty() {
            return false;
        }
        if let Some(receipt) = &self.receipt
            && receipt.status() == DeliveryStatus::Open
            && self.used.elapsed() < self.idle_timeout + SETTLING
        {
            self.used = Instant::now();
            return false;
        }
        true
    }

    async fn tick(&mut self) {
        let now = Instant::now();
        if self.commit_at.is_some_and(|at| at <= now) {
            self.commit_at = self.options.auto_commit.then(|| now + AUTO_COMMIT);
            self.settle_now();
            self.commit_handled().await;
            if self.used.elapsed() >= AUTO_COMMIT * 2 {
                self.ahead = LEAST_AHEAD;
            }
        }
        self.look_if_due().await;
    }

    // -- waiting

    /// Waits until the member has told something or somebody wants the instance to stop.
    async fn happened(&mut self, until: Instant) -> Happened {
        if self.stop.borrow().is_some() {
            return Happened::Stopped;
        }
        tokio::select! {
            biased;
            event = next_event(&mut self.source) => {
                self.event(event);
                Happened::Something
            }
            _ = self.stop.changed() => Happened::Stopped,
            () = sleep_until(until) => Happened::TooLate,
        }
    }

    /// Waits for something else, and takes what the member tells meanwhile.
    async fn beside<T>(&mut self, work: impl Future<Output = T>) -> T {
        let mut work = std::pin::pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return done,
                event = next_event(&mut self.source) => self.event(event),
            }
        }
    }

    // -- answers that are out

    /// Takes note of what became of the last answer, as far as that is known; true if it is. Of one that
    /// is kept it is the client who says so.
    fn settle_now(&mut self) -> bool {
        if self.deliveries.is_kept() {
            return true;
        }
        let Some(receipt) = &self.receipt else {
            return true;
        };
        match receipt.status() {
            DeliveryStatus::Open => return false,
            DeliveryStatus::Written => self.count_delivered(),
            DeliveryStatus::Lost => {
                self.buffer.lost();
                self.deliveries.put_back();
            }
        }
        self.receipt = None;
        self.keep_count();
        true
    }

    /// Waits until that is known.
    async fn settle(&mut self, bound: Duration) -> Result<(), InstanceError> {
        let begun = Instant::now();
        let until = begun + bound;
        let mut pause = Duration::from_millis(1);
        while !self.settle_now() {
            let is_stopped = self.stop.borrow().is_some();
            let now = Instant::now();
            if now >= until || (is_stopped && now >= begun + LAST_SETTLING) {
                return Err(InstanceError::Busy(
                    "The last answer of this instance is still being written to its client. Try \
                     again when it has been read.",
                ));
            }
            let receipt = self.receipt.take();
            if let Some(receipt) = &receipt {
                let waiting = tokio::time::timeout(Duration::from_millis(50), receipt.settled());
                // Taken whole, and not flushed yet: that is a matter of moments.
                if self.beside(waiting).await.is_ok() && receipt.status() == DeliveryStatus::Open {
                    self.beside(tokio::time::sleep(pause)).await;
                    pause = (pause * 2).min(Duration::from_millis(50));
                }
            }
            self.receipt = receipt;
        }
        Ok(())
    }

    fn count_delivered(&mut self) {
        let Some(records) = self.buffer.written() else {
            return;
        };
        for run in records.chunk_by(|a, b| a.topic == b.topic) {
            let Some(first) = run.first() else { continue };
            TopicReads::of(&first.topic, self.principal.identity()).count(run.len() as u64);
        }
    }

    // -- memory

    /// Tells the budget what is kept; reads less ahead when it runs short.
    fn keep_count(&mut self) {
        let kept = self.buffer.bytes() as u64;
        if kept != self.kept {
            self.budget.keeps(self.kept, kept);
            if self.budget.tenths() >= SHORT {
                self.ahead = LEAST_AHEAD;
            }
            self.kept = kept;
        }
    }

    // -- the end

    async fn finish(&mut self, end: End) {
        self.commands.close();
        if end == End::Draining {
            // Requests under way get their answers.
            while let Ok(command) = self.commands.try_recv() {
                self.serve(command).await;
            }
        }
        let _ = self.settle(LAST_SETTLING).await;
        let offsets = match end {
            // It says that it is done with what it was given.
            End::Deleted => self.buffer.delivered(),
            End::Expired | End::Draining => self.buffer.handled(),
        };
        self.leave(offsets).await;
        self.buffer.clear();
        self.keep_count();
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        self.budget.keeps(self.kept, 0);
    }
}

async fn next_event(source: &mut Source) -> Option<Event> {
    match source {
        Source::Subscribed(subscribed) => subscribed.event().await,
        Source::Nowhere | Source::Assigned => std::future::pending().await,
    }
}

/// The fault of an instance that was asked for what it does not have.
fn not_assigned(partition: &TopicPartition) -> InstanceError {
    InstanceError::IllegalState(format!(
        "partition {} of topic {} is not assigned to this instance",
        partition.partition, partition.topic
    ))
}

fn no_answer(what: &str) -> InstanceError {
    InstanceError::Kafka(
        Fault::new(
            FaultKind::TimedOut,
            format!("{what}: no answer from Kafka in time"),
        ),
        None,
    )
}
