//! Reads partitions from given offsets without a consumer group: a page at a time.
//!
//! A page has a krafka consumer of its own, assigned by hand and thrown away (creating one costs
//! nothing); what is pooled is the handle under it, with its connections to the brokers. A broker
//! answers the requests of one connection one after the other, so a handle serves one page at a
//! time: a page that waits for records must not hold up the others.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use krafka::Kafka;
use krafka::consumer::{AutoOffsetReset, Consumer, ConsumerRecord, IsolationLevel, TimestampType};
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

use super::client::{self, ReaderTuning, Role};
use super::fault::{Fault, FaultKind};
use super::metadata::Topic;
use crate::config::KafkaSettings;
use crate::record::{Delivered, Header, TimestampType as RecordTime};

/// Most pages being read at once; each holds a handle, about 84 KiB and a connection per broker.
const MAX_HANDLES: usize = 256;
/// Most of them that may be waiting for records to come, so that pages that find theirs at once
/// always get a handle.
const MAX_WAITING: usize = 192;
/// How long a broker holds a fetch that finds nothing. A read from several brokers is as slow as
/// the slowest of them, so this is also what a waiting page can be late.
const FETCH_WAIT: Duration = Duration::from_millis(500);
/// Longest time without a single record before a page that should have found some gives up.
const STALL: Duration = Duration::from_secs(12);
/// Bytes asked of one partition at a time, at least and at most; in between they follow `limit`. A
/// larger record comes all the same.
const LEAST_PARTITION_BYTES: i32 = 64 << 10;
const MOST_PARTITION_BYTES: i32 = 1 << 20;

/// Where one partition is read from, and how far there are records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// The partition.
    pub partition: i32,
    /// The first offset to read.
    pub from: i64,
    /// Where to stop: the offset after the last record to read.
    pub end: i64,
}

/// What a page is made of.
#[derive(Debug)]
pub struct PageRequest {
    /// The topic.
    pub topic: Arc<Topic>,
    /// The partitions, each with its bounds.
    pub spans: Vec<Span>,
    /// Most records.
    pub limit: usize,
    /// Most bytes of keys, values and headers; one record always comes, whatever its size.
    pub max_bytes: usize,
    /// When no span has a record: how long to wait for the first one to be written.
    pub wait: Duration,
}

/// Records, and where to go on.
#[derive(Debug)]
pub struct Page {
    /// The records; in order within a partition.
    pub records: Vec<Delivered>,
    /// The next offset of each partition of the request, sorted by partition.
    pub next: Vec<(i32, i64)>,
}

/// Reads pages.
#[derive(Debug)]
pub struct Reader {
    handles: Arc<Handles>,
    waiting: Arc<Semaphore>,
    tuning: ReaderTuning,
}

/// The idle handles, and the permits for handles in use.
struct Handles {
    settings: KafkaSettings,
    idle: Mutex<Vec<Kafka>>,
    permits: Arc<Semaphore>,
}

impl std::fmt::Debug for Handles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Handles")
            .field("idle", &self.idle.lock().len())
            .field("free", &self.permits.available_permits())
            .finish_non_exhaustive()
    }
}

/// A handle in use. It goes back to the idle ones only by [`Lease::give_back`]: one that is dropped
/// in the middle of a read may have a long fetch under way and would hold up its next user.
struct Lease {
    kafka: Kafka,
    handles: Arc<Handles>,
    _permit: OwnedSemaphorePermit,
}

impl Lease {
    fn give_back(self) {
        self.handles.idle.lock().push(self.kafka.clone());
    }
}

impl Handles {
    async fn lease(self: &Arc<Self>, deadline: Instant) -> Result<Lease, Fault> {
        let permit = timeout_at(deadline, Arc::clone(&self.permits).acquire_owned())
            .await
            .map_err(|_| busy())?
            .map_err(|_| busy())?;
        let idle = self.idle.lock().pop();
        let kafka = match idle {
            Some(kafka) => kafka,
            None => timeout_at(deadline, client::krafka(&self.settings, Role::Reader))
                .await
                .map_err(|_| timed_out("connecting to Kafka"))??,
        };
        Ok(Lease {
            kafka,
            handles: Arc::clone(self),
            _permit: permit,
        })
    }
}

impl Reader {
    /// A reader that connects by `settings`, when a connection is needed.
    pub fn new(settings: KafkaSettings, tuning: ReaderTuning) -> Self {
        Self {
            handles: Arc::new(Handles {
                settings,
                idle: Mutex::default(),
                permits: Arc::new(Semaphore::new(MAX_HANDLES)),
            }),
            waiting: Arc::new(Semaphore::new(MAX_WAITING)),
            tuning,
        }
    }

    /// Reads one page: what lies between the spans' bounds, up to the limits; or, when that is
    /// nothing and there is time to wait, the first records that come.
    ///
    /// # Errors
    ///
    /// Kafka's refusal, [`FaultKind::OffsetOutOfRange`] when the log was truncated meanwhile,
    /// [`FaultKind::TimedOut`] when nothing came although there should be records,
    /// [`FaultKind::Unavailable`] when too many pages are being read.
    pub async fn page(&self, request: PageRequest) -> Result<Page, Fault> {
        let mut spans: Vec<Span> = request
            .spans
            .iter()
            .copied()
            .filter(|span| span.from < span.end)
            .collect();
        let waits = spans.is_empty();
        let mut next: Vec<(i32, i64)> = request
            .spans
            .iter()
            .map(|span| (span.partition, span.from))
            .collect();
        next.sort_unstable();
        if request.limit == 0 || request.spans.is_empty() || (waits && request.wait.is_zero()) {
            return Ok(Page {
                records: Vec::new(),
                next,
            });
        }
        let _waiter = if waits {
            spans.clone_from(&request.spans);
            let permit = Arc::clone(&self.waiting).try_acquire_owned();
            Some(permit.map_err(|_| busy())?)
        } else {
            None
        };
        let stall = if waits { request.wait } else { STALL };
        let lease = self.handles.lease(Instant::now() + STALL).await?;
        let consumer = self.consumer(&lease.kafka, &request).await?;
        let mut reading = Reading {
            consumer,
            topic: Arc::clone(&request.topic),
            spans,
            next: next.into_iter().collect(),
            limit: request.limit,
            bytes_left: request.max_bytes,
            records: Vec::with_capacity(request.limit.min(1024)),
        };
        reading.start().await?;
        let outcome = reading.run(waits, stall).await;
        let Reading {
            consumer,
            records,
            next,
            ..
        } = reading;
        // Closing tells the broker to forget the fetch session: a request that nobody waits for.
        tokio::spawn(async move {
            let options = krafka::CloseOptions::new().timeout(Duration::from_secs(2));
            if consumer.close_with(options).await.is_ok() {
                lease.give_back();
            }
        });
        outcome?;
        let mut next: Vec<(i32, i64)> = next.into_iter().collect();
        next.sort_unstable();
        Ok(Page { records, next })
    }

    async fn consumer(&self, kafka: &Kafka, request: &PageRequest) -> Result<Consumer, Fault> {
        let limit = i32::try_from(request.limit).unwrap_or(i32::MAX);
        let partition_bytes = limit
            .saturating_mul(1 << 10)
            .clamp(LEAST_PARTITION_BYTES, MOST_PARTITION_BYTES)
            .min(self.tuning.max_partition_fetch_bytes);
        let partitions = i32::try_from(request.spans.len().clamp(1, 8)).unwrap_or(8);
        let fetch_bytes = partition_bytes
            .saturating_mul(partitions)
            .min(self.tuning.fetch_max_bytes);
        let mut builder = kafka
            .consumer_without_group()
            .auto_offset_reset(AutoOffsetReset::None)
            .isolation_level(if self.tuning.read_committed {
                IsolationLevel::ReadCommitted
            } else {
                IsolationLevel::ReadUncommitted
            })
            .enable_auto_commit(false)
            .metrics_push(false)
            .max_partition_fetch_bytes(partition_bytes)
            .fetch_max_bytes(fetch_bytes)
            .fetch_max_wait(FETCH_WAIT.min(self.tuning.fetch_max_wait))
            .max_poll_records(limit)
            .max_buffered_records(limit);
        if let Some(rack) = &self.tuning.rack {
            builder = builder.client_rack(rack);
        }
        builder.build().await.map_err(Fault::from)
    }
}

/// One page under way.
struct Reading {
    consumer: Consumer,
    topic: Arc<Topic>,
    /// Partitions not read to their end yet.
    spans: Vec<Span>,
    next: HashMap<i32, i64>,
    limit: usize,
    bytes_left: usize,
    records: Vec<Delivered>,
}

impl Reading {
    async fn start(&self) -> Result<(), Fault> {
        let name: &str = &self.topic.name;
        let partitions = self.spans.iter().map(|span| span.partition).collect();
        self.consumer.assign(name, partitions).await?;
        self.consumer
            .seek_many(self.spans.iter().map(|span| {
                let place = krafka::consumer::TopicPartition::new(name, span.partition);
                (place, span.from)
            }))
            .await?;
        Ok(())
    }

    /// Polls until the page is full or every span is read. `stall` is the longest time without
    /// progress, which has failed then; or the time of a wait for new records, which simply ends,
    /// whatever transactions were aborted meanwhile.
    async fn run(&mut self, waits: bool, stall: Duration) -> Result<(), Fault> {
        let mut deadline = Instant::now() + stall;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let polled = timeout_at(
                deadline + FETCH_WAIT,
                self.consumer.poll(left.min(FETCH_WAIT)),
            );
            let records = match polled.await {
                Ok(Ok(records)) => records,
                Ok(Err(error)) => return self.fail(error.into()),
                Err(_) => Vec::new(),
            };
            let before = self.progress();
            if !records.is_empty() {
                let full = self.take(records);
                if full || waits {
                    return Ok(());
                }
            }
            self.advance().await;
            if !waits && self.spans.is_empty() {
                return Ok(());
            }
            let now = Instant::now();
            if !waits && self.progress() > before {
                deadline = now + stall;
            } else if now >= deadline {
                return if waits {
                    Ok(())
                } else {
                    self.fail(timed_out("reading the topic"))
                };
            }
        }
    }

    /// Half a page is better than none: an error counts only when nothing was read before it. The
    /// next page starts where this one ended and meets the error again.
    fn fail(&self, fault: Fault) -> Result<(), Fault> {
        if self.records.is_empty() {
            Err(fault)
        } else {
            Ok(())
        }
    }

    fn progress(&self) -> i64 {
        self.next.values().sum()
    }

    /// Takes what fits; true when the page is full.
    fn take(&mut self, records: Vec<ConsumerRecord>) -> bool {
        for record in records {
            // Not past a span's end, and nothing of a span that is read: what lies between its end
            // and such a record would be skipped.
            let wanted = self.spans.iter().any(|s| {
                s.partition == record.partition && (record.offset < s.end || s.from >= s.end)
            });
            if !wanted {
                continue;
            }
            let record = delivered(record);
            let size = record_size(&record);
            if !self.records.is_empty()
                && (self.records.len() >= self.limit || size > self.bytes_left)
            {
                return true;
            }
            self.bytes_left = self.bytes_left.saturating_sub(size);
            self.next.insert(record.partition, record.offset + 1);
            self.records.push(record);
        }
        self.records.len() >= self.limit
    }

    /// Moves on over what is not delivered (aborted records, transaction markers, compacted gaps)
    /// and drops the spans that are read.
    async fn advance(&mut self) {
        let mut open = Vec::with_capacity(self.spans.len());
        for span in &self.spans {
            let position = self
                .consumer
                .position(&self.topic.name, span.partition)
                .await
                .unwrap_or(span.from);
            let next = self.next.entry(span.partition).or_insert(span.from);
            let waiting = span.from >= span.end;
            // Records at and after the end were left out; the position has passed them all the same.
            let reached = if waiting {
                position
            } else {
                position.min(span.end)
            };
            *next = (*next).max(reached);
            if *next < span.end || waiting {
                open.push(*span);
            }
        }
        if open.len() < self.spans.len() {
            for span in self.spans.iter().filter(|span| !open.contains(span)) {
                self.consumer
                    .pause(&self.topic.name, &[span.partition])
                    .await;
            }
            self.spans = open;
        }
    }
}

fn record_size(record: &Delivered) -> usize {
    record.key.as_ref().map_or(0, bytes::Bytes::len)
        + record.value.as_ref().map_or(0, bytes::Bytes::len)
        + record
            .headers
            .iter()
            .map(|h| h.name.len() + h.value.as_ref().map_or(0, bytes::Bytes::len))
            .sum::<usize>()
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

fn timed_out(what: &str) -> Fault {
    let mut fault = Fault::new(
        FaultKind::TimedOut,
        format!("{what}: no answer from Kafka in time"),
    );
    fault.retriable = true;
    fault
}

fn busy() -> Fault {
    let mut fault = Fault::new(
        FaultKind::Unavailable,
        "too many reads are under way; try again".to_owned(),
    );
    fault.retriable = true;
    fault
}
