//! The shared producer: a batch of records goes in, one completion with an outcome for each comes out.
//!
//! ```text
//! send() --rd_kafka_producev--> librdkafka's queues --> broker
//!   ^                                                     |
//!   '-- one oneshot per batch <-- delivery reports <------'   (librdkafka's polling thread)
//! ```
//!
//! One allocation is shared by the records of a batch and one wake-up ends it, however many records
//! it holds. Nothing here waits for room: a full queue is an outcome ([`FaultKind::QueueFull`]), so
//! that back-pressure reaches the client instead of the gateway's memory.
//!
//! librdkafka answers for every record within `message.timeout.ms`, and a fatal error of its
//! idempotent producer kills the client for good: it is then replaced by a new one (`replace`). What
//! it complains of meanwhile is kept (`client_errors`), to explain what becomes of records. What it refused
//! for another record's sake goes out again (`resend`), and it is told of partitions that it has not
//! heard of (`informed`).

mod client_errors;
mod informed;
mod isolated_retry;
mod login;
mod resend;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use metrics::Histogram;
use parking_lot::{Mutex, RwLock};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Header as NativeHeader, OwnedHeaders};
use rdkafka::producer::{
    BaseRecord, Producer as _, ProducerContext, PurgeConfig, ThreadedProducer,
};
use rdkafka::{ClientConfig, ClientContext, Message};
use tokio::sync::{Notify, Semaphore, mpsc, oneshot};
use tokio::time::{Instant, timeout};

use super::client::Tokens;
use super::fault::addresses::without_addresses;
use super::fault::{Fault, FaultKind};
use super::ffi::{Persisted, persisted};
use super::metadata::Topic;
use crate::observe::topics::TopicWrites;
use crate::record::{Header, ProducerRecord, RecordMetadata, Unplaced};
use client_errors::ClientErrors;
use informed::Knowledge;
use isolated_retry::IsolatedRetry;
use login::Login;
use resend::Refused;

/// What became of one record.
pub type Outcome = Result<RecordMetadata, Box<Fault>>;

/// Records handed to librdkafka between two points where other tasks may run: a record costs about
/// a microsecond, so a large batch must not hold an async worker for milliseconds.
const ENQUEUE_RUN: usize = 256;

/// What is added to `message.timeout.ms` before a batch is given up: librdkafka looks for records
/// that are too old once a second, and a busy machine lets it wait.
const REPORT_GRACE: Duration = Duration::from_secs(10);

/// How long a client that failed for good may wait for the answers of what it had sent, which tell
/// for certain what became of it.
const LAST_ANSWERS: Duration = Duration::from_secs(5);

/// Least time from one replacement to the next, so that a cluster that fails each client at once is
/// not flooded with them.
const REPLACE_PAUSE: Duration = Duration::from_secs(1);

/// Pause between looks at a queue that is too full for a stream to go on.
const ROOM_POLL: Duration = Duration::from_millis(5);

/// Records that were handed over, on their way to their outcomes.
#[derive(Debug)]
pub struct Sending {
    topic: Arc<str>,
    batch: Arc<Batch>,
    done: oneshot::Receiver<()>,
    patience: Duration,
    begun: Instant,
    duration: Histogram,
}

impl Sending {
    /// What becomes of the records: one outcome for each, in the order they were given.
    pub async fn sent(self) -> Sent {
        // The sender goes when the batch is resolved, and at once when it was empty.
        if timeout(self.patience, self.done).await.is_err() {
            tracing::error!(
                topic = &*self.topic,
                "a batch is given up: its delivery reports did not come"
            );
        }
        self.duration.record(self.begun.elapsed());
        self.batch.progress.lock().sent()
    }
}

/// A producer shared by every request. Cheap to use from any task.
#[derive(Debug)]
pub struct Producer {
    live: RwLock<Arc<Live>>,
    config: ClientConfig,
    topics: RwLock<HashMap<Arc<str>, Arc<TopicQueue>>>,
    /// The size of librdkafka's queue.
    capacity: Load,
    /// What is in it, and in those of the process's other producers of this cluster.
    held: Arc<Held>,
    /// Longest time for a delivery report.
    patience: Duration,
    reports: Arc<Reports>,
    login: Arc<Login>,
    /// When the client at work was made; held while it is replaced.
    made: tokio::sync::Mutex<Instant>,
    /// The client at work failed for good because the gateway's user may write to no topic. Another
    /// one would fail as well, so it is replaced when there is something to write.
    barred: AtomicBool,
    /// Takes what goes out again.
    refused: mpsc::UnboundedSender<Refused>,
    /// Whether batches are compressed.
    compresses: bool,
    /// From handing a batch over to its last outcome.
    duration: Histogram,
}

/// What the client says beside its delivery reports.
#[derive(Debug, Default)]
struct Reports {
    /// Something happened after which the client may have failed for good.
    failed: Notify,
    client_errors: ClientErrors,
}

/// Records and their bytes.
#[derive(Debug, Clone, Copy, Default)]
struct Load {
    records: u64,
    bytes: u64,
}

/// Records and their bytes that wait for their delivery reports.
#[derive(Debug, Default)]
pub(super) struct Held {
    records: AtomicU64,
    bytes: AtomicU64,
}

impl Held {
    /// Counts one more record; what was held before it.
    fn add(&self, bytes: u64) -> Load {
        Load {
            records: self.records.fetch_add(1, Ordering::Relaxed),
            bytes: self.bytes.fetch_add(bytes, Ordering::Relaxed),
        }
    }

    fn load(&self) -> Load {
        Load {
            records: self.records.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
        }
    }

    fn remove(&self, bytes: u64) {
        self.records.fetch_sub(1, Ordering::Relaxed);
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}

impl Load {
    /// Whether a topic that holds `own` may take one record of `bytes` more when all topics
    /// together hold `all`: a topic may hold as much as is free. One that has no leader ends at half
    /// of the queue, two at a third each, and there is always room left for the healthy ones, whose
    /// records do not stay. The first record of a topic is let through whatever its size.
    fn admits(self, own: Load, all: Load, bytes: u64) -> bool {
        own.records < self.records.saturating_sub(all.records)
            && (own.records == 0
                || own.bytes.saturating_add(bytes) <= self.bytes.saturating_sub(all.bytes))
    }

    /// Whether a stream may go on with a topic that holds `own` when all topics together hold
    /// `all`: a quarter of the queue for one topic, three quarters for all.
    fn has_room(self, own: Self, all: Self) -> bool {
        own.records <= self.records / 4
            && own.bytes <= self.bytes / 4
            && all.records <= self.records / 4 * 3
            && all.bytes <= self.bytes / 4 * 3
    }
}

struct Live {
    /// Tells it from the one that it takes the place of.
    number: u64,
    /// Bounds how many questions of ours are under way.
    asks: Semaphore,
    /// Only `None` while it is dropped.
    client: Option<ThreadedProducer<Context>>,
}

impl Live {
    fn new(client: ThreadedProducer<Context>, number: u64) -> Self {
        Self {
            number,
            asks: Semaphore::new(informed::AT_ONCE),
            client: Some(client),
        }
    }

    fn client(&self) -> &ThreadedProducer<Context> {
        self.client.as_ref().expect("it is taken only by drop")
    }
}

impl Drop for Live {
    /// Dropping a client blocks for 100 ms and more, and the last to let go of it may be a request.
    fn drop(&mut self) {
        let Some(client) = self.client.take() else {
            return;
        };
        let let_go = move || {
            // A record that is still in there would be forgotten without a report.
            client.purge(PurgeConfig::default().queue().inflight());
            let _ = client.flush(Duration::from_secs(1));
        };
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(let_go)),
            Err(_) => let_go(),
        }
    }
}

impl std::fmt::Debug for Live {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Live")
            .field("in_flight", &self.client().in_flight_count())
            .finish_non_exhaustive()
    }
}

/// What one topic has waiting in the producer.
#[derive(Debug)]
struct TopicQueue {
    held: Held,
    all: Arc<Held>,
    /// What the client at work knows of the topic.
    knowledge: Knowledge,
}

/// What became of the records of one `send`, in their order.
#[derive(Debug)]
pub struct Sent {
    /// One for each record.
    pub outcomes: Vec<Outcome>,
    /// Records that were given up for lack of an acknowledgement in time: their index, and the
    /// partition they were meant for where one was chosen already.
    pub timed_out: Vec<(usize, Option<i32>)>,
}

/// The records of one `send`, until the last delivery report.
#[derive(Debug)]
struct Batch {
    queue: Arc<TopicQueue>,
    /// Where its records are counted.
    metrics: TopicWrites,
    progress: Mutex<Progress>,
}

#[derive(Debug)]
struct Progress {
    outcomes: Vec<Option<Outcome>>,
    timed_out: Vec<(usize, Option<i32>)>,
    left: usize,
    waiter: Option<oneshot::Sender<()>>,
}

impl Progress {
    /// Takes what has become of the records so far. Those without a report may be anywhere.
    fn sent(&mut self) -> Sent {
        self.waiter = None;
        Sent {
            outcomes: std::mem::take(&mut self.outcomes)
                .into_iter()
                .map(|outcome| outcome.unwrap_or_else(|| Err(Box::new(unreported()))))
                .collect(),
            timed_out: std::mem::take(&mut self.timed_out),
        }
    }
}

/// What librdkafka carries beside a record and gives back with its delivery report.
struct Ticket {
    batch: Arc<Batch>,
    index: usize,
    bytes: u64,
    /// The report of a record that was refused does not have it.
    timestamp: Option<i64>,
    /// The one that the client asked for; the report has the one that was chosen.
    partition: Option<i32>,
    /// How often it has gone out again.
    tries: u8,
}

impl Ticket {
    fn resolve(self, outcome: Outcome) {
        let queue = &self.batch.queue;
        queue.held.remove(self.bytes);
        queue.all.remove(self.bytes);
        self.batch.resolve(self.index, self.bytes, outcome);
    }

    /// Notes that the record was given up for lack of an acknowledgement. Comes before `resolve`.
    fn timed_out(&self, partition: i32) {
        let partition = Some(partition).filter(|partition| *partition >= 0);
        let mut progress = self.batch.progress.lock();
        progress.timed_out.push((self.index, partition));
    }
}

/// Records that the client did not find a partition for. When nobody waits any more for it to ask, they
/// are given up, so that they do not count as held for ever.
#[derive(Default)]
struct Missed(Vec<Ticket>);

impl Drop for Missed {
    fn drop(&mut self) {
        for ticket in self.0.drain(..) {
            ticket.resolve(Err(Box::new(Fault::from_librdkafka_code(
                RDKafkaErrorCode::UnknownPartition,
            ))));
        }
    }
}

impl Batch {
    fn resolve(&self, index: usize, bytes: u64, outcome: Outcome) {
        match outcome {
            Ok(_) => self.metrics.produced(bytes),
            Err(ref fault) => self.metrics.refused(fault.name()),
        }
        let finished = {
            let mut progress = self.progress.lock();
            if let Some(slot) = progress.outcomes.get_mut(index) {
                *slot = Some(outcome);
            }
            progress.left -= 1;
            if progress.left == 0 {
                progress.waiter.take()
            } else {
                None
            }
        };
        if let Some(waiter) = finished {
            // A client that has gone away does not wait any more; its records are written all the same.
            let _ = waiter.send(());
        }
    }
}

struct Context {
    reports: Arc<Reports>,
    /// Where records go that were refused through no fault of their own; `None` where there is none
    /// but their own.
    refused: Option<mpsc::UnboundedSender<Refused>>,
    /// Why a record that is written has no offset.
    unplaced: Unplaced,
}

/// Why a record that a client of this configuration has written may have no offset.
fn unplaced(config: &ClientConfig) -> Unplaced {
    match config.get("request.required.acks") {
        Some("0") => Unplaced::Unasked,
        _ => Unplaced::Retried,
    }
}

impl ClientContext for Context {
    /// The only place where errors of connections, TLS and logins show. A fatal error comes
    /// under the code of its cause, so it is the client that has to be asked whether it is one.
    fn error(&self, error: KafkaError, reason: &str) {
        if let Some(code) = error.rdkafka_error_code() {
            self.reports.client_errors.note(code, reason);
        }
        self.reports.failed.notify_one();
    }
}

impl ProducerContext for Context {
    type DeliveryOpaque = Box<Ticket>;

    fn delivery(&self, result: &DeliveryResult<'_>, ticket: Box<Ticket>) {
        let outcome = match result {
            Ok(message) => {
                self.reports.client_errors.over();
                Ok(RecordMetadata {
                    partition: message.partition(),
                    offset: match message.offset() {
                        offset @ 0.. => Ok(offset),
                        _ => Err(self.unplaced),
                    },
                    timestamp: message.timestamp().to_millis().unwrap_or(-1),
                })
            }
            Err((error, message)) => {
                let mut fault = self.reports.explained(error);
                let code = error.rdkafka_error_code();
                if code == Some(RDKafkaErrorCode::MessageTimedOut) {
                    ticket.timed_out(message.partition());
                }
                fault.maybe_written = persisted(message) != Persisted::No;
                let certain = !fault.maybe_written;
                let outcome = Err(Box::new(fault));
                if let Some(refused) = &self.refused
                    && certain
                    && let Some(resend) = resend::resend_for(code, ticket.tries)
                {
                    let record = Refused::new(message, *ticket, outcome, resend);
                    if let Err(closed) = refused.send(record) {
                        closed.0.give_up();
                    }
                    return;
                }
                outcome
            }
        };
        ticket.resolve(outcome);
    }
}

impl Reports {
    fn explained(&self, error: &KafkaError) -> Fault {
        let fault = fault_of(error);
        match error.rdkafka_error_code() {
            Some(code) => self.client_errors.explain(code, fault),
            None => fault,
        }
    }
}

fn fault_of(error: &KafkaError) -> Fault {
    use RDKafkaErrorCode as Code;
    let Some(code) = error.rdkafka_error_code() else {
        return Fault::new(FaultKind::Other, error.to_string());
    };
    let fault = Fault::from_librdkafka_code(code);
    match code {
        // Between the producer and the broker, and no fault of the record: a new sequence, if need
        // be of a new producer, takes it.
        Code::OutOfOrderSequenceNumber
        | Code::DuplicateSequenceNumber
        | Code::UnknownProducerId
        | Code::InvalidProducerEpoch
        | Code::InvalidProducerIdMapping
        | Code::Fenced => Fault {
            kafka_error: fault.kafka_error,
            ..Fault::new(
                FaultKind::Unavailable,
                format!("{} Try again.", fault.message),
            )
        },
        _ => fault,
    }
}

impl Producer {
    /// Creates the client (no broker is contacted yet) and starts the task that replaces it after a
    /// fatal error. `config` is what `kafka::client` made of the settings, `tokens` what connections
    /// log in with, if it is by token. `held` counts what waits, together with other producers that have
    /// the same one.
    ///
    /// # Errors
    ///
    /// librdkafka refuses the configuration.
    pub(super) fn start(
        config: ClientConfig,
        tokens: Option<Tokens>,
        held: Arc<Held>,
    ) -> Result<Arc<Self>, Fault> {
        let number = |name: &str, default: u64| {
            config
                .get(name)
                .and_then(|value| value.parse::<u64>().ok())
                .unwrap_or(default)
        };
        // To librdkafka 0 is "no limit", here and in the timeout.
        let limit = |number: u64| if number == 0 { u64::MAX } else { number };
        let capacity = Load {
            records: limit(number("queue.buffering.max.messages", 100_000)),
            bytes: number("queue.buffering.max.kbytes", 1 << 20).saturating_mul(1024),
        };
        let patience = match number("message.timeout.ms", 300_000) {
            0 => Duration::MAX,
            millis => Duration::from_millis(millis) + REPORT_GRACE,
        };
        let reports = Arc::new(Reports::default());
        let login = Arc::new(Login::new(tokens));
        let isolated_retry = IsolatedRetry::new(&config, &login);
        let (refused, to_resend) = mpsc::unbounded_channel();
        let live = connect(&config, &reports, &login, &refused, 1)?;
        let compresses = ["compression.type", "compression.codec"]
            .iter()
            .filter_map(|name| config.get(name))
            .any(|codec| codec != "none");
        let producer = Arc::new(Self {
            live: RwLock::new(live),
            config,
            topics: RwLock::default(),
            capacity,
            held,
            patience,
            reports: Arc::clone(&reports),
            login: Arc::clone(&login),
            made: tokio::sync::Mutex::new(Instant::now()),
            barred: AtomicBool::new(false),
            refused,
            compresses,
            duration: metrics::histogram!("kafka_produce_duration_seconds"),
        });
        resend::start(Arc::downgrade(&producer), isolated_retry, to_resend);
        let weak = Arc::downgrade(&producer);
        let at_work = Arc::clone(&reports);
        tokio::spawn(async move {
            loop {
                at_work.failed.notified().await;
                let Some(producer) = weak.upgrade() else {
                    return;
                };
                producer.replace(false).await;
            }
        });
        let weak = Arc::downgrade(&producer);
        tokio::spawn(async move {
            let code = RDKafkaErrorCode::Authentication;
            let wanted = || weak.strong_count() > 0;
            login
                .renew(wanted, |why| reports.client_errors.note(code, why))
                .await;
        });
        Ok(producer)
    }

    /// Why nothing can be written at all, if that is for TLS or for the login.
    ///
    /// # Errors
    ///
    /// What the client complains of.
    pub fn probe(&self) -> Result<(), Fault> {
        match self.reports.client_errors.locked_out() {
            Some(fault) => Err(fault),
            None => Ok(()),
        }
    }

    /// Writes `records` to `topic`, in order, and answers with one outcome for each, in the same
    /// order; they are counted in `metrics`. Records that librdkafka did not take (its queue is full) have an outcome at once.
    ///
    /// Dropping the future does not take back what was handed over already.
    pub async fn send(
        self: &Arc<Self>,
        topic: &Topic,
        records: Vec<ProducerRecord>,
        metrics: TopicWrites,
    ) -> Sent {
        self.begin(topic, records, metrics).await.sent().await
    }

    /// The first half of [`Producer::send`]: hands the records over. Batches that are begun one
    /// after the other are in the topic in that order.
    pub async fn begin(
        self: &Arc<Self>,
        topic: &Topic,
        records: Vec<ProducerRecord>,
        metrics: TopicWrites,
    ) -> Sending {
        let begun = Instant::now();
        let (waiter, done) = oneshot::channel();
        let queue = self.queue(&topic.name);
        let batch = Arc::new(Batch {
            queue: Arc::clone(&queue),
            metrics,
            progress: Mutex::new(Progress {
                outcomes: vec![None; records.len()],
                timed_out: Vec::new(),
                left: records.len(),
                waiter: (!records.is_empty()).then_some(waiter),
            }),
        });
        if self.barred.load(Ordering::Relaxed) {
            self.replace(true).await;
        }
        let live = Arc::clone(&self.live.read());
        Self::inform(&live, &queue, topic).await;
        let mut missed = Missed::default();
        for (index, record) in records.iter().enumerate() {
            if index > 0 && index % ENQUEUE_RUN == 0 {
                tokio::task::yield_now().await;
            }
            let ticket = Ticket {
                batch: Arc::clone(&batch),
                index,
                bytes: record.size() as u64,
                timestamp: record.timestamp,
                partition: record.partition,
                tries: 0,
            };
            if let Err(ticket) = self.enqueue(&live, &topic.name, record, ticket) {
                missed.0.push(*ticket);
            }
        }
        if !missed.0.is_empty() {
            Box::pin(Self::inform_anew(&live, topic)).await;
            for ticket in std::mem::take(&mut missed.0) {
                if let Some(record) = records.get(ticket.index)
                    && let Err((error, ticket)) =
                        hand_over(&live, &topic.name, record, Box::new(ticket))
                {
                    self.refuse(&error, *ticket);
                }
            }
        }
        Sending {
            topic: Arc::clone(&topic.name),
            batch,
            done,
            patience: self.patience,
            begun,
            duration: self.duration.clone(),
        }
    }

    /// Waits, at most `bound`, until the queue and `topic`'s part of it have room for
    /// more: how a long stream is slowed down to what Kafka takes. `topic` need not exist, and nothing is
    /// kept of its name.
    pub async fn wait_for_capacity(&self, topic: &str, bound: Duration) {
        let deadline = Instant::now() + bound;
        while Instant::now() < deadline && !self.has_capacity(topic) {
            tokio::time::sleep(ROOM_POLL).await;
        }
    }

    fn has_capacity(&self, topic: &str) -> bool {
        let topics = self.topics.read();
        // A topic that nothing was written to yet holds nothing.
        let own = topics.get(topic).map(|queue| queue.held.load());
        self.capacity
            .has_room(own.unwrap_or_default(), self.held.load())
    }

    /// Hands a record over, if there is room for it.
    ///
    /// # Errors
    ///
    /// The ticket, when the client has not heard of the record's topic or partition.
    fn enqueue(
        &self,
        live: &Live,
        topic: &str,
        record: &ProducerRecord,
        ticket: Ticket,
    ) -> Result<(), Box<Ticket>> {
        let own = ticket.batch.queue.held.add(ticket.bytes);
        let all = self.held.add(ticket.bytes);
        if !self.capacity.admits(own, all, ticket.bytes) {
            ticket.resolve(Err(Box::new(Fault::from_librdkafka_code(
                RDKafkaErrorCode::QueueFull,
            ))));
            return Ok(());
        }
        let Err((error, ticket)) = hand_over(live, topic, record, Box::new(ticket)) else {
            return Ok(());
        };
        if let Some(RDKafkaErrorCode::UnknownPartition | RDKafkaErrorCode::UnknownTopic) =
            error.rdkafka_error_code()
        {
            return Err(ticket);
        }
        self.refuse(&error, *ticket);
        Ok(())
    }

    /// The client has not taken a record, and another try would not help.
    fn refuse(&self, error: &KafkaError, ticket: Ticket) {
        self.reports.failed.notify_one();
        ticket.resolve(Err(Box::new(self.reports.explained(error))));
    }

    /// Whether batches are compressed on their way, so that a record's size says nothing about the
    /// batch's.
    pub fn compresses(&self) -> bool {
        self.compresses
    }

    fn queue(&self, topic: &Arc<str>) -> Arc<TopicQueue> {
        if let Some(queue) = self.topics.read().get(topic) {
            return Arc::clone(queue);
        }
        let mut topics = self.topics.write();
        let queue = topics.entry(Arc::clone(topic)).or_insert_with(|| {
            Arc::new(TopicQueue {
                held: Held::default(),
                all: Arc::clone(&self.held),
                knowledge: Knowledge::default(),
            })
        });
        Arc::clone(queue)
    }

    /// Puts a new client in the place of the one at work, if that has failed for good. What the old
    /// one had not sent fails at once, certainly unwritten; what it had sent is waited for a little,
    /// because an answer makes it certain, and then given up as perhaps written. `to_write`: there is
    /// something to write, so even a client that was refused is worth another try.
    async fn replace(self: &Arc<Self>, to_write: bool) {
        let mut made = self.made.lock().await;
        let old = Arc::clone(&self.live.read());
        let Some((code, reason)) = old.client().client().fatal_error() else {
            return;
        };
        if code == RDKafkaErrorCode::ClusterAuthorizationFailed && !to_write {
            if !self.barred.swap(true, Ordering::Relaxed) {
                tracing::error!(
                    reason,
                    "the gateway's Kafka user may write to no topic; this is tried again when \
                     there is something to write"
                );
            }
            old.client().purge(PurgeConfig::default().queue());
            return;
        }
        let pause = REPLACE_PAUSE.saturating_sub(made.elapsed());
        if to_write && !pause.is_zero() {
            // It has just been tried.
            return;
        }
        tokio::time::sleep(pause).await;
        let this = Arc::clone(self);
        let number = old.number + 1;
        let swapped = tokio::task::spawn_blocking(move || {
            tracing::error!(reason, "the producer failed for good and is replaced");
            let new = connect(
                &this.config,
                &this.reports,
                &this.login,
                &this.refused,
                number,
            )?;
            *this.live.write() = new;
            this.barred.store(false, Ordering::Relaxed);
            metrics::counter!("kafka_producer_replaced_total").increment(1);
            Ok::<(), Fault>(())
        })
        .await;
        *made = Instant::now();
        drop(made);
        // Others may write through the new one meanwhile.
        drop(tokio::task::spawn_blocking(move || {
            old.client().purge(PurgeConfig::default().queue());
            let _ = old.client().flush(LAST_ANSWERS);
            old.client().purge(PurgeConfig::default().inflight());
            let _ = old.client().flush(LAST_ANSWERS);
        }));
        match swapped {
            Ok(Ok(())) => {}
            Ok(Err(fault)) => tracing::error!(%fault, "the producer could not be replaced"),
            Err(error) => tracing::error!(%error, "the producer could not be replaced"),
        }
    }

    /// Waits until everything that was handed over has its outcome, at most `bound`. Returns the
    /// number of records that are still without one.
    pub async fn flush(self: &Arc<Self>, bound: Duration) -> usize {
        let deadline = Instant::now() + bound;
        let live = Arc::clone(&self.live.read());
        let flushed = tokio::task::spawn_blocking(move || live.client().flush(bound)).await;
        match flushed {
            Ok(Ok(())) => tracing::debug!("flushed the producer"),
            Ok(Err(error)) => tracing::debug!("the producer is not flushed: {}", fault_of(&error)),
            Err(error) => tracing::debug!("the producer is not flushed: {error}"),
        }
        // What is on its way to a second try is in none of the client's queues.
        while self.waiting() > 0 && Instant::now() < deadline {
            tokio::time::sleep(ROOM_POLL).await;
        }
        usize::try_from(self.waiting()).unwrap_or(usize::MAX)
    }

    /// How many records of its own wait for their outcomes.
    fn waiting(&self) -> u64 {
        let topics = self.topics.read();
        let waiting = topics.values().map(|queue| queue.held.load().records);
        waiting.sum()
    }

    /// What counts the records that wait, for another producer that shares the bound.
    pub(super) fn held(&self) -> Arc<Held> {
        Arc::clone(&self.held)
    }

    /// Puts what is in the queues now into the metrics.
    pub fn observe(&self) {
        let held = self.held.load();
        #[expect(
            clippy::cast_precision_loss,
            reason = "a gauge is a float, and a queue is far smaller than 2^52"
        )]
        {
            metrics::gauge!("kafka_producer_queue_records").set(held.records as f64);
            metrics::gauge!("kafka_producer_queue_bytes").set(held.bytes as f64);
        }
    }
}

fn connect(
    config: &ClientConfig,
    reports: &Arc<Reports>,
    login: &Login,
    refused: &mpsc::UnboundedSender<Refused>,
    number: u64,
) -> Result<Arc<Live>, Fault> {
    let context = Context {
        reports: Arc::clone(reports),
        refused: Some(refused.clone()),
        unplaced: unplaced(config),
    };
    let client = config.create_with_context(context).map_err(|error| {
        let error = error.to_string();
        let told = without_addresses(&error);
        Fault::new(FaultKind::Other, format!("librdkafka: {told}"))
    })?;
    let live = Arc::new(Live::new(client, number));
    login.add(&live);
    Ok(live)
}

/// Hands a record to the client.
fn hand_over(
    live: &Live,
    topic: &str,
    record: &ProducerRecord,
    ticket: Box<Ticket>,
) -> Result<(), (KafkaError, Box<Ticket>)> {
    let mut native = BaseRecord::<[u8], [u8], Box<Ticket>>::with_opaque_to(topic, ticket);
    native.partition = record.partition;
    native.timestamp = record.timestamp;
    native.key = record.key.as_deref();
    native.payload = record.value.as_deref();
    native.headers = native_headers(&record.headers);
    live.client()
        .send(native)
        .map_err(|(error, native)| (error, native.delivery_opaque))
}

fn native_headers(headers: &[Header]) -> Option<OwnedHeaders> {
    if headers.is_empty() {
        return None;
    }
    let native = OwnedHeaders::new_with_capacity(headers.len());
    Some(headers.iter().fold(native, |native, header| {
        native.insert(NativeHeader {
            key: &header.name,
            value: header.value.as_deref(),
        })
    }))
}

fn unreported() -> Fault {
    Fault {
        maybe_written: true,
        ..Fault::new(
            FaultKind::TimedOut,
            "The producer did not report what became of the record: it may have been written.",
        )
    }
}

#[cfg(test)]
mod tests;
