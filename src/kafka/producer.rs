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

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use metrics::Counter;
use parking_lot::{Mutex, RwLock};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Header as NativeHeader, OwnedHeaders};
use rdkafka::producer::{
    BaseRecord, Producer as _, ProducerContext, PurgeConfig, ThreadedProducer,
};
use rdkafka::{ClientConfig, ClientContext, Message};
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use super::fault::{Fault, FaultKind};
use super::ffi::{Persisted, persisted};
use crate::record::{Header, Outgoing, Written};

/// What became of one record.
pub type Outcome = Result<Written, Box<Fault>>;

/// Records handed to librdkafka between two points where other tasks may run: a record costs about
/// a microsecond, so a large batch must not hold an async worker for milliseconds.
const ENQUEUE_RUN: usize = 256;

/// Pause between looks at a queue that is too full for a stream to go on.
const ROOM_POLL: Duration = Duration::from_millis(5);

/// Records that were handed over, on their way to their outcomes.
#[derive(Debug)]
pub struct Sending(Option<(usize, oneshot::Receiver<Vec<Option<Outcome>>>)>);

impl Sending {
    /// One outcome for each record, in the order they were given.
    pub async fn outcomes(self) -> Vec<Outcome> {
        let Some((count, done)) = self.0 else {
            return Vec::new();
        };
        match done.await {
            Ok(outcomes) => outcomes
                .into_iter()
                .map(|outcome| outcome.unwrap_or_else(|| Err(Box::new(lost()))))
                .collect(),
            // Every ticket was dropped unresolved: librdkafka was torn down under us.
            Err(_) => vec![Err(Box::new(lost())); count],
        }
    }
}

/// A producer shared by every request. Cheap to use from any task.
#[derive(Debug)]
pub struct Producer {
    live: RwLock<Arc<Live>>,
    config: ClientConfig,
    topics: RwLock<HashMap<Arc<str>, Arc<TopicQueue>>>,
    /// Half of librdkafka's queue: what one topic may hold at most, so that a topic without a
    /// leader cannot keep the healthy ones out.
    share: Share,
    fatal: Arc<Notify>,
}

#[derive(Debug, Clone, Copy)]
struct Share {
    records: u64,
    bytes: u64,
}

struct Live {
    client: ThreadedProducer<Context>,
}

impl std::fmt::Debug for Live {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Live")
            .field("in_flight", &self.client.in_flight_count())
            .finish_non_exhaustive()
    }
}

/// What one topic has waiting in the producer, and its counters.
#[derive(Debug)]
struct TopicQueue {
    records: AtomicU64,
    bytes: AtomicU64,
    produced: Counter,
    produced_bytes: Counter,
    failed: Counter,
}

/// The records of one `send`, until the last delivery report.
#[derive(Debug)]
struct Batch {
    queue: Arc<TopicQueue>,
    progress: Mutex<Progress>,
}

#[derive(Debug)]
struct Progress {
    outcomes: Vec<Option<Outcome>>,
    left: usize,
    waiter: Option<oneshot::Sender<Vec<Option<Outcome>>>>,
}

/// What librdkafka carries beside a record and gives back with its delivery report.
struct Ticket {
    batch: Arc<Batch>,
    index: usize,
    bytes: u64,
}

impl Ticket {
    fn resolve(self, outcome: Outcome) {
        let queue = &self.batch.queue;
        queue.records.fetch_sub(1, Ordering::Relaxed);
        queue.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
        self.batch.resolve(self.index, self.bytes, outcome);
    }
}

impl Batch {
    fn resolve(&self, index: usize, bytes: u64, outcome: Outcome) {
        match outcome {
            Ok(_) => {
                self.queue.produced.increment(1);
                self.queue.produced_bytes.increment(bytes);
            }
            Err(_) => self.queue.failed.increment(1),
        }
        let finished = {
            let mut progress = self.progress.lock();
            if let Some(slot) = progress.outcomes.get_mut(index) {
                *slot = Some(outcome);
            }
            progress.left -= 1;
            (progress.left == 0)
                .then(|| {
                    progress
                        .waiter
                        .take()
                        .map(|waiter| (waiter, std::mem::take(&mut progress.outcomes)))
                })
                .flatten()
        };
        if let Some((waiter, outcomes)) = finished {
            // A client that has gone away does not wait any more; its records are written all the same.
            let _ = waiter.send(outcomes);
        }
    }
}

struct Context {
    fatal: Arc<Notify>,
}

impl ClientContext for Context {
    fn error(&self, error: KafkaError, reason: &str) {
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::Fatal) {
            tracing::error!(reason, "the producer failed for good and is replaced");
            self.fatal.notify_one();
        } else {
            tracing::warn!(%error, reason, "producer");
        }
    }
}

impl ProducerContext for Context {
    type DeliveryOpaque = Box<Ticket>;

    fn delivery(&self, result: &DeliveryResult<'_>, ticket: Box<Ticket>) {
        let outcome = match result {
            Ok(message) => Ok(Written {
                partition: message.partition(),
                offset: Some(message.offset()).filter(|offset| *offset >= 0),
                timestamp: message.timestamp().to_millis().unwrap_or(-1),
            }),
            Err((error, message)) => {
                let mut fault = fault_of(error);
                fault.maybe_written = persisted(message) != Persisted::No;
                Err(Box::new(fault))
            }
        };
        ticket.resolve(outcome);
    }
}

fn fault_of(error: &KafkaError) -> Fault {
    match error.rdkafka_error_code() {
        Some(code) => Fault::from_librdkafka_code(code),
        None => Fault::new(FaultKind::Other, error.to_string()),
    }
}

impl Producer {
    /// Creates the client (no broker is contacted yet) and starts the task that replaces it after a
    /// fatal error. `config` is what `kafka::client` made of the settings.
    ///
    /// # Errors
    ///
    /// librdkafka refuses the configuration.
    pub fn start(config: ClientConfig) -> Result<Arc<Self>, Fault> {
        let number = |name: &str, default: u64| {
            config
                .get(name)
                .and_then(|value| value.parse::<u64>().ok())
                .unwrap_or(default)
        };
        let share = Share {
            records: number("queue.buffering.max.messages", 100_000) / 2,
            bytes: number("queue.buffering.max.kbytes", 1 << 20) * 1024 / 2,
        };
        let fatal = Arc::new(Notify::new());
        let live = Arc::new(connect(&config, &fatal)?);
        let producer = Arc::new(Self {
            live: RwLock::new(live),
            config,
            topics: RwLock::default(),
            share,
            fatal: Arc::clone(&fatal),
        });
        let weak = Arc::downgrade(&producer);
        tokio::spawn(async move {
            loop {
                fatal.notified().await;
                let Some(producer) = weak.upgrade() else {
                    return;
                };
                producer.replace().await;
            }
        });
        Ok(producer)
    }

    /// Writes `records` to `topic`, in order, and answers with one outcome for each, in the same
    /// order. Records that librdkafka did not take (its queue is full) have an outcome at once.
    ///
    /// Dropping the future does not take back what was handed over already.
    pub async fn send(&self, topic: &Arc<str>, records: Vec<Outgoing>) -> Vec<Outcome> {
        self.begin(topic, records).await.outcomes().await
    }

    /// The first half of [`Producer::send`]: hands the records over. Batches that are begun one
    /// after the other are in the topic in that order.
    pub async fn begin(&self, topic: &Arc<str>, records: Vec<Outgoing>) -> Sending {
        if records.is_empty() {
            return Sending(None);
        }
        let (waiter, done) = oneshot::channel();
        let batch = Arc::new(Batch {
            queue: self.queue(topic),
            progress: Mutex::new(Progress {
                outcomes: vec![None; records.len()],
                left: records.len(),
                waiter: Some(waiter),
            }),
        });
        let live = Arc::clone(&self.live.read());
        for (index, record) in records.iter().enumerate() {
            if index > 0 && index % ENQUEUE_RUN == 0 {
                tokio::task::yield_now().await;
            }
            self.enqueue(&live, topic, &batch, index, record);
        }
        Sending(Some((records.len(), done)))
    }

    /// Waits, at most `bound`, until `topic` has used no more than half of its share of the queue:
    /// how a long stream is slowed down to what Kafka takes.
    pub async fn room(&self, topic: &Arc<str>, bound: Duration) {
        let queue = self.queue(topic);
        let deadline = Instant::now() + bound;
        while Instant::now() < deadline
            && (queue.records.load(Ordering::Relaxed) > self.share.records / 2
                || queue.bytes.load(Ordering::Relaxed) > self.share.bytes / 2
                || self.waiting() > self.share.records * 3 / 2)
        {
            tokio::time::sleep(ROOM_POLL).await;
        }
    }

    /// Records of all topics without an answer yet.
    fn waiting(&self) -> u64 {
        u64::try_from(self.live.read().client.in_flight_count()).unwrap_or(0)
    }

    fn enqueue(
        &self,
        live: &Live,
        topic: &str,
        batch: &Arc<Batch>,
        index: usize,
        record: &Outgoing,
    ) {
        let bytes = record.size() as u64;
        let queue = &batch.queue;
        let waiting = queue.records.fetch_add(1, Ordering::Relaxed);
        let waiting_bytes = queue.bytes.fetch_add(bytes, Ordering::Relaxed);
        let ticket = Ticket {
            batch: Arc::clone(batch),
            index,
            bytes,
        };
        // The first record of a topic is always let through, whatever its size.
        if waiting >= self.share.records
            || (waiting > 0 && waiting_bytes + bytes > self.share.bytes)
        {
            ticket.resolve(Err(Box::new(Fault::from_librdkafka_code(
                RDKafkaErrorCode::QueueFull,
            ))));
            return;
        }
        let mut native =
            BaseRecord::<[u8], [u8], Box<Ticket>>::with_opaque_to(topic, Box::new(ticket));
        native.partition = record.partition;
        native.timestamp = record.timestamp;
        native.key = record.key.as_deref();
        native.payload = record.value.as_deref();
        native.headers = native_headers(&record.headers);
        if let Err((error, native)) = live.client.send(native) {
            if live.client.client().fatal_error().is_some() {
                self.fatal.notify_one();
            }
            native
                .delivery_opaque
                .resolve(Err(Box::new(fault_of(&error))));
        }
    }

    fn queue(&self, topic: &Arc<str>) -> Arc<TopicQueue> {
        if let Some(queue) = self.topics.read().get(topic) {
            return Arc::clone(queue);
        }
        let mut topics = self.topics.write();
        let queue = topics.entry(Arc::clone(topic)).or_insert_with(|| {
            Arc::new(TopicQueue {
                records: AtomicU64::new(0),
                bytes: AtomicU64::new(0),
                produced: metrics::counter!(
                    "kafka_messages_produced_total", "topic" => topic.to_string()),
                produced_bytes: metrics::counter!(
                    "kafka_bytes_produced_total", "topic" => topic.to_string()),
                failed: metrics::counter!(
                    "kafka_messages_failed_total", "topic" => topic.to_string()),
            })
        });
        Arc::clone(queue)
    }

    /// Puts a new client in the place of one that failed for good. What waited in the old one is
    /// purged: each record's delivery report says whether it may have been written.
    async fn replace(self: &Arc<Self>) {
        let this = Arc::clone(self);
        let swapped = tokio::task::spawn_blocking(move || {
            let old = Arc::clone(&this.live.read());
            if old.client.client().fatal_error().is_none() {
                return Ok(());
            }
            let new = Arc::new(connect(&this.config, &this.fatal)?);
            *this.live.write() = new;
            metrics::counter!("kafka_producer_replaced_total").increment(1);
            old.client.purge(PurgeConfig::default().queue().inflight());
            // The purge's reports come through the old client's polling thread, which lives as
            // long as the client; dropping it blocks for up to 100 ms, so it is dropped here.
            let _ = old.client.flush(Duration::from_secs(5));
            Ok::<(), Fault>(())
        })
        .await;
        match swapped {
            Ok(Ok(())) => {}
            Ok(Err(fault)) => tracing::error!(%fault, "the producer could not be replaced"),
            Err(error) => tracing::error!(%error, "the producer could not be replaced"),
        }
    }

    /// Waits until everything that was handed over has its outcome, at most `bound`. Returns the
    /// number of records that are still without one.
    pub async fn flush(self: &Arc<Self>, bound: Duration) -> usize {
        let live = Arc::clone(&self.live.read());
        let left = tokio::task::spawn_blocking(move || {
            let _ = live.client.flush(bound);
            live.client.in_flight_count()
        })
        .await
        .unwrap_or(0);
        usize::try_from(left).unwrap_or(0)
    }
}

fn connect(config: &ClientConfig, fatal: &Arc<Notify>) -> Result<Live, Fault> {
    let context = Context {
        fatal: Arc::clone(fatal),
    };
    let client = config
        .create_with_context(context)
        .map_err(|error| Fault::new(FaultKind::Other, format!("librdkafka: {error}")))?;
    Ok(Live { client })
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

fn lost() -> Fault {
    Fault {
        kind: FaultKind::Other,
        kafka_error: None,
        message: "the producer was closed before an answer came; the record may have been written"
            .into(),
        retriable: true,
        maybe_written: true,
    }
}
