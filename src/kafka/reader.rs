//! Reads partitions from given offsets without a consumer group: a page at a time.
//!
//! A page has a krafka consumer of its own, assigned by hand and thrown away (creating one costs
//! nothing); what is pooled is the handle under it, with its connections to the brokers. A broker
//! answers the requests of one connection one after the other, so a handle serves one page at a
//! time: a page that waits for records must not hold up the others.
//!
//! krafka waits for the slowest of the brokers that it fetches from. Where one of several is late, the page
//! is read from each by itself (`apart.rs`): what the others have comes, and the page says whose does not.
//!
//! After a failed fetch, which only a counter of krafka's shows (`kafka::fetcher`), a page goes on with a
//! new handle, which knows the cluster as it is now: a leader change or a broker's restart is a pause to
//! the reader, or a clear error if it is a long one.

mod apart;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use krafka::Kafka;
use krafka::consumer::{Consumer, ConsumerRecord as KafkaRecord};
use krafka::error::{KrafkaError, ProtocolErrorKind};
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep_until, timeout_at};

use super::admin::Isolation;
use super::apart::by_leader;
use super::append_time::{AppendTimes, Begun};
use super::client::{self, Clients, ReaderTuning, Role};
use super::copied::copied;
use super::fault::{Fault, FaultKind};
use super::fetcher::{self, FetchLimits, delivered, is_other_topic};
use super::metadata::{Metadata, Right, Topic};
use crate::record::ConsumerRecord;

/// Most pages being read at once; each holds a handle, about 84 KiB and a connection per broker.
const MAX_HANDLES: usize = 256;
/// Most of them that may be waiting for records to come, so that pages that find theirs at once
/// always get a handle.
const MAX_WAITING: usize = 192;
/// How long a broker holds a fetch that finds nothing. A read from several brokers is as slow as
/// the slowest of them, so this is also what a waiting page can be late.
const FETCH_WAIT: Duration = Duration::from_millis(500);
/// The same at first where there are records. krafka fetches again until it can deliver some, so
/// where a span ends in what is not delivered this is what the page is late.
const FIRST_FETCH_WAIT: Duration = Duration::from_millis(10);
/// Longest time without progress before a page that should have found records gives up.
const STALL: Duration = Duration::from_secs(12);
/// Longest time for a page in all. What is passed over meanwhile, such as a long run of aborted
/// records, is behind the next page.
const LONGEST: Duration = Duration::from_secs(25);
/// The same for one handle: what krafka knows of the topic may be wrong without its noticing.
const HANDLE_STALL: Duration = Duration::from_secs(2);
/// How much longer than it holds a fetch a broker may take to answer, where others are waited for with it.
const LATE: Duration = Duration::from_millis(600);
/// Pause before a failed read goes on with a new handle.
const PAUSE: Duration = Duration::from_millis(250);
/// Longest time for a consumer to take its leave.
const CLOSE: Duration = Duration::from_secs(2);
/// Bytes asked of one partition at a time, at least and at most; in between they follow `limit`. A
/// larger record comes all the same.
const LEAST_PARTITION_BYTES: i32 = 64 << 10;
const MOST_PARTITION_BYTES: i32 = 1 << 20;

/// Where one partition is read from, and how far there are records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
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
    /// Which records of transactions are read.
    pub isolation: Isolation,
}

/// Records, and where to go on.
#[derive(Debug, Default)]
pub struct Page {
    /// The records; in order within a partition.
    pub records: Vec<ConsumerRecord>,
    /// The next offset of each partition of the request, sorted by partition.
    pub next: Vec<(i32, i64)>,
    /// Partitions whose broker did not answer in time, although others did.
    pub unanswered: Vec<i32>,
}

impl Page {
    /// The page for one who keeps its records: nothing of what Kafka answered is kept with them.
    #[must_use]
    pub fn to_keep(mut self) -> Self {
        self.records = copied(self.records);
        self
    }
}

/// Reads pages.
#[derive(Debug)]
pub struct Reader {
    handles: Arc<Handles>,
    waiting: Arc<Semaphore>,
    tuning: ReaderTuning,
    metadata: Metadata,
    times: AppendTimes,
}

/// The idle handles, and the permits for handles in use.
struct Handles {
    clients: Clients,
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

impl Handles {
    async fn permit(&self, deadline: Instant) -> Result<Arc<OwnedSemaphorePermit>, Fault> {
        match timeout_at(deadline, Arc::clone(&self.permits).acquire_owned()).await {
            Ok(Ok(permit)) => Ok(Arc::new(permit)),
            Ok(Err(_)) | Err(_) => Err(busy()),
        }
    }

    /// An idle handle, or a new one, and whether it is new.
    async fn handle(&self) -> Result<(Kafka, bool), Fault> {
        let idle = self.idle.lock().pop();
        match idle {
            Some(kafka) => Ok((kafka, false)),
            None => Ok((client::krafka(&self.clients, Role::Reader).await?, true)),
        }
    }

    /// Lets go of the idle handles: the cluster is not any more as they know it.
    fn forget(&self) {
        let idle = std::mem::take(&mut *self.idle.lock());
        drop(idle);
    }
}

/// A consumer on a handle of its own. Whatever ends the page, a client that went away in the middle
/// of it too, the consumer takes its leave in the background, so that the broker forgets its fetch
/// session; only then is the handle free of fetches that would hold up its next user.
struct Attached {
    /// Only `None` while it is dropped.
    consumer: Option<Consumer>,
    kafka: Kafka,
    /// The handle can serve another page.
    sound: bool,
    handles: Arc<Handles>,
    permit: Arc<OwnedSemaphorePermit>,
}

impl Attached {
    fn consumer(&self) -> &Consumer {
        self.consumer.as_ref().expect("it is taken only by drop")
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        let Some(consumer) = self.consumer.take() else {
            return;
        };
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return;
        };
        let kafka = self.sound.then(|| self.kafka.clone());
        let handles = Arc::clone(&self.handles);
        let permit = Arc::clone(&self.permit);
        runtime.spawn(async move {
            let options = krafka::CloseOptions::new().timeout(CLOSE);
            let closed = consumer.close_with(options).await;
            if closed.is_ok()
                && let Some(kafka) = kafka
            {
                handles.idle.lock().push(kafka);
            }
            drop(permit);
        });
    }
}

impl Reader {
    /// A reader that connects as `clients` says, when a connection is needed. `metadata` is told when
    /// a topic turns out to be another one than it said, and knows who may read it.
    pub(super) fn new(
        clients: Clients,
        tuning: ReaderTuning,
        metadata: Metadata,
        times: AppendTimes,
    ) -> Self {
        Self {
            handles: Arc::new(Handles {
                clients,
                idle: Mutex::default(),
                permits: Arc::new(Semaphore::new(MAX_HANDLES)),
            }),
            waiting: Arc::new(Semaphore::new(MAX_WAITING)),
            tuning,
            metadata,
            times,
        }
    }

    /// Whether records of open and aborted transactions are left out where nobody asks for anything
    /// else, as set.
    pub fn isolation(&self) -> Isolation {
        if self.tuning.read_committed {
            Isolation::Committed
        } else {
            Isolation::Uncommitted
        }
    }

    /// Reads one page: what lies between the spans' bounds, up to the limits; or, when that is
    /// nothing and there is time to wait, the first records that come.
    ///
    /// # Errors
    ///
    /// Kafka's refusal, [`FaultKind::NotAuthorized`] among them, [`FaultKind::OffsetOutOfRange`] when the log was truncated meanwhile,
    /// [`FaultKind::TimedOut`] when nothing came although there should be records,
    /// [`FaultKind::Unavailable`] when a broker cannot be reached, when the topic was created again
    /// meanwhile, or when too many pages are being read.
    pub async fn page(&self, request: PageRequest) -> Result<Page, Fault> {
        let mut reading = Reading::new(&request);
        reading.of_several = reading.brokers().len() > 1;
        let over = reading.waits && request.wait.is_zero();
        if request.limit == 0 || request.spans.is_empty() || over {
            return Ok(reading.page());
        }
        let _waiter = if reading.waits {
            let permit = Arc::clone(&self.waiting).try_acquire_owned();
            Some(permit.map_err(|_| busy())?)
        } else {
            None
        };
        self.may_read(&request.topic).await?;
        let permit = self.handles.permit(Instant::now() + STALL).await?;
        reading.started();
        loop {
            let attempt = self.attempt(&permit, &request, &mut reading);
            let fault = match attempt.await {
                Ok(()) => return Ok(reading.page()),
                Err(fault) => fault,
            };
            // Half a page is better than none; the next one meets the error again.
            if !reading.records.is_empty() {
                return Ok(reading.page());
            }
            if reading.late {
                drop(permit);
                self.handles.forget();
                // Others may lead by now.
                self.metadata.invalidate(&request.topic.name).await;
                return self.page_apart(&request, reading).await;
            }
            if fault.kind == FaultKind::TimedOut {
                // An ACL may have been taken away meanwhile.
                self.metadata.invalidate(&request.topic.name).await;
                if let Ok(topic) = self.metadata.topic(&request.topic.name).await {
                    self.may_read(&topic).await?;
                }
            }
            let again = Instant::now() + PAUSE;
            let hopeless = !fault.retriable || is_other_topic(&fault);
            if hopeless || again >= reading.until() {
                return Err(fault);
            }
            tracing::debug!(
                topic = &*request.topic.name,
                "reading goes on after: {fault}"
            );
            self.handles.forget();
            sleep_until(again).await;
        }
    }

    /// Asked beforehand, because krafka tries a refused fetch again and again and says nothing.
    async fn may_read(&self, topic: &Arc<Topic>) -> Result<(), Fault> {
        let granted = self.metadata.granted(Arc::clone(topic), Right::Read);
        granted.await.map(|_| ())
    }

    /// Reads on one handle until the page is done or the handle fails.
    async fn attempt(
        &self,
        permit: &Arc<OwnedSemaphorePermit>,
        request: &PageRequest,
        reading: &mut Reading,
    ) -> Result<(), Fault> {
        let attaching = self.attach(permit, request, reading);
        let longest = reading.until() + FETCH_WAIT;
        // What an idle handle does not know it may ask of a broker that is silent.
        let longest = match reading.of_several {
            true => longest.min(Instant::now() + FETCH_WAIT + LATE),
            false => longest,
        };
        let Ok(attached) = timeout_at(longest, attaching).await else {
            reading.late = reading.of_several;
            return Err(timed_out("connecting to Kafka"));
        };
        let mut attached = attached?;
        let mut outcome = reading.run(attached.consumer(), &self.times).await;
        if outcome.is_ok() {
            // It may have been created again under the read.
            outcome = self.same_topic(attached.consumer(), &request.topic).await;
        }
        attached.sound = outcome
            .as_ref()
            .map_or_else(|fault| !fault.retriable, |()| true);
        outcome
    }

    /// A consumer that stands where `reading` goes on, on a handle that means the same topic.
    async fn attach(
        &self,
        permit: &Arc<OwnedSemaphorePermit>,
        request: &PageRequest,
        reading: &Reading,
    ) -> Result<Attached, Fault> {
        loop {
            let (kafka, new) = self.handles.handle().await?;
            let consumer = self.consumer(&kafka, request).await?;
            let mut attached = Attached {
                consumer: Some(consumer),
                kafka,
                sound: false,
                handles: Arc::clone(&self.handles),
                permit: Arc::clone(permit),
            };
            reading.start(attached.consumer()).await?;
            match self.same_topic(attached.consumer(), &request.topic).await {
                Ok(()) => {
                    // Until it fails, so also when the client goes away.
                    attached.sound = true;
                    return Ok(attached);
                }
                Err(fault) if new => return Err(fault),
                // The handle is the one that is behind, and with it all of its age.
                Err(_) => self.handles.forget(),
            }
        }
    }

    async fn same_topic(&self, consumer: &Consumer, topic: &Topic) -> Result<(), Fault> {
        fetcher::same_topic(consumer, &self.metadata, topic, FETCH_WAIT).await
    }

    async fn consumer(&self, kafka: &Kafka, request: &PageRequest) -> Result<Consumer, Fault> {
        let limit = i32::try_from(request.limit).unwrap_or(i32::MAX);
        let partition_bytes = limit
            .saturating_mul(1 << 10)
            .clamp(LEAST_PARTITION_BYTES, MOST_PARTITION_BYTES)
            .min(self.tuning.max_partition_fetch_bytes);
        let partitions = i32::try_from(request.spans.len().clamp(1, 8)).unwrap_or(8);
        let limits = FetchLimits {
            partition_bytes,
            bytes: partition_bytes.saturating_mul(partitions),
            wait: FETCH_WAIT,
            records: limit,
        };
        fetcher::consumer(kafka, &self.tuning, request.isolation, limits).await
    }
}

/// One page under way.
struct Reading {
    topic: Arc<Topic>,
    /// There is nothing to read yet: the first records that come are the page.
    waits: bool,
    wait: Duration,
    /// Several brokers lead its partitions, and are read together.
    of_several: bool,
    /// One of them was late.
    late: bool,
    /// A broker has answered.
    answered: Arc<AtomicBool>,
    /// Partitions not read to their end yet.
    spans: Vec<Span>,
    next: HashMap<i32, i64>,
    limit: usize,
    bytes_left: usize,
    records: Vec<ConsumerRecord>,
    /// When the page is over without progress, and when it is over in any case.
    stall: Instant,
    last: Instant,
}

impl Reading {
    fn new(request: &PageRequest) -> Self {
        let open: Vec<Span> = request
            .spans
            .iter()
            .copied()
            .filter(|span| span.from < span.end)
            .collect();
        let waits = open.is_empty();
        let now = Instant::now();
        Self {
            topic: Arc::clone(&request.topic),
            waits,
            wait: request.wait,
            of_several: false,
            late: false,
            answered: Arc::default(),
            spans: if waits { request.spans.clone() } else { open },
            next: request
                .spans
                .iter()
                .map(|span| (span.partition, span.from))
                .collect(),
            limit: request.limit,
            bytes_left: request.max_bytes,
            records: Vec::with_capacity(request.limit.min(1024)),
            stall: now,
            last: now,
        }
    }

    /// The clock runs from now on.
    fn started(&mut self) {
        let now = Instant::now();
        (self.stall, self.last) = if self.waits {
            (now + self.wait, now + self.wait)
        } else {
            (now + STALL, now + LONGEST)
        };
    }

    fn until(&self) -> Instant {
        self.stall.min(self.last)
    }

    fn page(self) -> Page {
        let mut next: Vec<(i32, i64)> = self.next.into_iter().collect();
        next.sort_unstable();
        Page {
            records: self.records,
            next,
            unanswered: Vec::new(),
        }
    }

    /// The partitions that are not read yet, by who leads them.
    fn brokers(&self) -> BTreeMap<Option<i32>, Vec<i32>> {
        by_leader(&self.topic, self.spans.iter().map(|span| span.partition))
    }

    async fn start(&self, consumer: &Consumer) -> Result<(), Fault> {
        let place = |span: &Span| {
            let next = self.next.get(&span.partition).copied();
            (span.partition, next.unwrap_or(span.from))
        };
        let places: Vec<(i32, i64)> = self.spans.iter().map(place).collect();
        fetcher::assign(consumer, &self.topic.name, &places).await
    }

    /// Polls until the page is full or every span is read. Without progress for too long it has
    /// failed; a wait for new records simply ends with its time, whatever transactions were aborted
    /// meanwhile.
    async fn run(&mut self, consumer: &Consumer, times: &AppendTimes) -> Result<(), Fault> {
        let mut begun = Begun::default();
        let mut fetch_wait = if self.waits {
            FETCH_WAIT
        } else {
            FIRST_FETCH_WAIT
        };
        let mut stuck = Instant::now() + HANDLE_STALL;
        loop {
            let until = self.until();
            let now = Instant::now();
            let wait = until.saturating_duration_since(now).min(fetch_wait);
            let longest = match self.of_several {
                true => now + wait + LATE,
                false => until + FETCH_WAIT,
            };
            let mut records = match timeout_at(longest, consumer.poll(wait)).await {
                Ok(Ok(records)) => {
                    self.answered.store(true, Ordering::Relaxed);
                    records
                }
                Ok(Err(error)) => return Err(self.fault(&error)),
                Err(_) if self.of_several => {
                    self.late = true;
                    return Err(timed_out("reading the topic"));
                }
                Err(_) => Vec::new(),
            };
            times.put(&mut records, &mut begun).await?;
            let nothing = records.is_empty();
            let before = self.progress();
            if !nothing {
                let full = self.take(records);
                if full || self.waits {
                    return Ok(());
                }
            }
            self.advance(consumer).await;
            if !self.waits && self.spans.is_empty() {
                return Ok(());
            }
            let now = Instant::now();
            let progress = self.progress() > before;
            if progress && !self.waits {
                stuck = now + HANDLE_STALL;
                self.stall = now + STALL;
            }
            if nothing && !progress {
                if fetcher::fetches_fail(consumer) {
                    return Err(broken(&self.topic.name));
                }
                fetch_wait = (fetch_wait * 2).min(FETCH_WAIT);
            }
            if now >= stuck && !self.waits {
                return Err(timed_out("reading the topic"));
            }
            if now >= self.until() {
                return if self.waits || now >= self.last {
                    Ok(())
                } else {
                    Err(timed_out("reading the topic"))
                };
            }
        }
    }

    /// krafka's advice for a batch that it cannot decode is for those who hold the consumer.
    fn fault(&self, error: &KrafkaError) -> Fault {
        let Some(kind) = error.protocol_error_kind() else {
            return error.into();
        };
        let mut places: Vec<String> = self
            .next
            .iter()
            .map(|(partition, offset)| format!("{partition}@{offset}"))
            .collect();
        places.sort_unstable();
        places.truncate(8);
        Fault::new(
            FaultKind::Other,
            format!(
                "Records of topic {} cannot be decoded ({}), at or soon after {}: they are damaged in \
                 Kafka, or in a format that is not supported. Read on from a later offset.",
                self.topic.name,
                what_is_wrong(kind),
                places.join(",")
            ),
        )
    }

    fn progress(&self) -> i64 {
        self.next.values().sum()
    }

    /// Takes what fits; true when the page is full.
    fn take(&mut self, records: Vec<KafkaRecord>) -> bool {
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
            let size = record.size();
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
    async fn advance(&mut self, consumer: &Consumer) {
        let mut open = Vec::with_capacity(self.spans.len());
        for span in &self.spans {
            let position = consumer
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
                consumer.pause(&self.topic.name, &[span.partition]).await;
            }
            self.spans = open;
        }
    }
}

/// What a batch that cannot be decoded has that others do not.
fn what_is_wrong(kind: ProtocolErrorKind) -> &'static str {
    match kind {
        ProtocolErrorKind::TruncatedFrame => "a batch is cut short",
        ProtocolErrorKind::CrcMismatch => "a checksum does not match",
        ProtocolErrorKind::InvalidLength => "a length is not possible",
        ProtocolErrorKind::InvalidUtf8 => "a text is not UTF-8",
        ProtocolErrorKind::UnsupportedMagic => "the version of a batch is not known",
        _ => "a batch makes no sense",
    }
}

fn timed_out(what: &str) -> Fault {
    Fault::new(
        FaultKind::TimedOut,
        format!("{what}: no answer from Kafka in time"),
    )
}

fn broken(topic: &str) -> Fault {
    Fault::new(
        FaultKind::Unavailable,
        format!(
            "A broker that leads a partition of topic {topic} does not answer. Try again in a \
             moment."
        ),
    )
}

fn busy() -> Fault {
    Fault::new(
        FaultKind::Unavailable,
        "too many reads are under way; try again",
    )
}
