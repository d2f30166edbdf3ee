//! Catch-up reads: pages from Kafka for followers that are not in the ring.
//!
//! There are at most so many reads at a time, and no more than so many bytes of pages are held, whoever
//! waits for them. A page is read by a task of its own, so a follower whose client has stopped reading
//! keeps neither a read from going on nor a page in memory: where there is too much, the pages that were
//! used longest ago are let go of, and whoever had not finished its page reads a smaller one from its
//! cursor. Followers that stand at the same place share a page, so that a crowd that asks for the
//! beginning is one reader.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use futures::future::BoxFuture;
use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore};
use tokio::time::{Instant, sleep, timeout};

use super::Login;
use super::entry::{Entry, Load};
use super::feed::Feed;
use crate::kafka::fault::{Fault, FaultKind};
use crate::kafka::reader::{Page, PageRequest, Span};
use crate::kafka::watermarks::Watermarks;
use crate::reader_options::Isolation;

/// Most records of a page.
const RECORDS: usize = 10_000;
/// Most bytes of a page, and to what it comes down for one who does not finish it in time.
pub(super) const MOST_BYTES: usize = 1 << 20;
pub(super) const LEAST_BYTES: usize = 64 << 10;
/// Longest wait for a read to begin.
const BUSY: Duration = Duration::from_secs(30);

/// Where pages come from: Kafka, or a test.
pub(super) trait Source: Send + Sync + std::fmt::Debug {
    /// One page.
    fn page(&self, request: PageRequest) -> BoxFuture<'_, Result<Page, Fault>>;
    /// Where these partitions start and end now.
    fn watermarks<'a>(
        &'a self,
        isolation: Isolation,
        topic: &'a str,
        partitions: &'a [i32],
    ) -> BoxFuture<'a, Result<Vec<Watermarks>, Fault>>;
}

/// A page, shared by those who stand where it begins.
#[derive(Debug)]
pub(super) struct CatchUpPage {
    pub(super) entries: Vec<Arc<Entry>>,
    pub(super) next: Vec<(i32, i64)>,
}

/// What a load came to.
#[derive(Debug)]
pub(super) enum Loaded {
    Page(Arc<Slot>),
    /// Some of it is no longer in the log, or not yet: this is.
    Watermarks(Vec<Watermarks>),
    /// No read could begin in time.
    Busy,
    Failed(Fault),
}

pub(super) type Loading = BoxFuture<'static, Loaded>;

#[derive(Debug, PartialEq, Eq, Hash)]
struct Key {
    login: Login,
    topic: Arc<str>,
    id: [u8; 16],
    isolation: Isolation,
    from: Vec<(i32, i64)>,
}

/// A page that is being read, or was, or has been let go of. Those who wait for it hold it, so that one
/// who is quick does not take it away from the others.
#[derive(Debug, Default)]
pub(super) struct Slot {
    /// What the read came to; the page itself stands in `page`.
    read: OnceLock<Result<(), Failed>>,
    page: Mutex<Option<Arc<CatchUpPage>>>,
    done: Notify,
    waiting: AtomicUsize,
    /// When it was used last, counted in uses of all pages.
    used: AtomicU64,
}

/// Why there is no page.
#[derive(Debug, Clone)]
enum Failed {
    /// No read could begin in time.
    Busy,
    /// When it could, nobody waited for it any more.
    Abandoned,
    Fault(Fault),
}

/// One who waits for a page, counted.
struct Waiting(Arc<Slot>);

impl Waiting {
    fn of(slot: Arc<Slot>) -> Self {
        slot.waiting.fetch_add(1, Ordering::AcqRel);
        Self(slot)
    }

    async fn read(&self) -> Result<(), Failed> {
        loop {
            let done = self.0.done.notified();
            if let Some(read) = self.0.read.get() {
                return read.clone();
            }
            done.await;
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::AcqRel);
    }
}

/// A read under way, counted.
struct Reading;

impl Reading {
    fn new() -> Self {
        metrics::gauge!("tail_catchup_readers").increment(1.0);
        Self
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        metrics::gauge!("tail_catchup_readers").decrement(1.0);
    }
}

/// The pages that are known, and at how many those are looked for that nobody needs any more.
#[derive(Debug)]
struct Slots {
    of: HashMap<Key, Weak<Slot>>,
    sweep_at: usize,
}

/// Below so many pages nobody looks for those that are not needed.
const FEW: usize = 64;

/// What the pools of all logins share.
#[derive(Debug)]
pub(super) struct Shared {
    permits: Semaphore,
    most_bytes: usize,
    slots: Mutex<Slots>,
    uses: AtomicU64,
    load: Arc<Load>,
}

impl Shared {
    /// At most `most` reads at once, and about `most_bytes` of pages.
    pub(super) fn new(most: usize, most_bytes: usize) -> Arc<Self> {
        Arc::new(Self {
            permits: Semaphore::new(most),
            most_bytes,
            slots: Mutex::new(Slots {
                of: HashMap::new(),
                sweep_at: FEW,
            }),
            uses: AtomicU64::new(0),
            load: Arc::new(Load::new(Arc::default())),
        })
    }
}

/// Loads the pages of followers that are not in the ring, within bounds that all logins share.
#[derive(Debug)]
pub(super) struct CatchUpPool {
    source: Arc<dyn Source>,
    login: Login,
    shared: Arc<Shared>,
}

impl CatchUpPool {
    pub(super) fn new(source: Arc<dyn Source>, login: Login, shared: Arc<Shared>) -> Self {
        Self {
            source,
            login,
            shared,
        }
    }

    /// Loads pages by another login, within the same bounds.
    pub(super) fn beside(&self, login: Login, source: Arc<dyn Source>) -> Self {
        Self::new(source, login, Arc::clone(&self.shared))
    }

    #[cfg(test)]
    pub(super) fn shares_bounds_with(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.shared, &other.shared) && self.login != other.login
    }

    /// The bytes of all pages that are held.
    pub(super) fn held(&self) -> usize {
        self.shared.load.bytes()
    }

    /// Reads on from these spans, about `bytes`, after `pause`.
    pub(super) fn load(
        self: &Arc<Self>,
        feed: &Arc<Feed>,
        spans: Vec<Span>,
        bytes: usize,
        pause: Duration,
    ) -> Loading {
        let pages = Arc::clone(self);
        let feed = Arc::clone(feed);
        Box::pin(async move {
            if !pause.is_zero() {
                sleep(pause).await;
            }
            let begun = Instant::now();
            loop {
                let waiting = pages.wait(&feed, &spans, bytes);
                let fault = match waiting.read().await {
                    Ok(()) => return Loaded::Page(Arc::clone(&waiting.0)),
                    // It was another one's wait that was too long, or that ended.
                    Err(Failed::Busy) if begun.elapsed() >= BUSY => return Loaded::Busy,
                    Err(Failed::Busy | Failed::Abandoned) => continue,
                    Err(Failed::Fault(fault)) => fault,
                };
                if fault.kind != FaultKind::OffsetOutOfRange {
                    return Loaded::Failed(fault);
                }
                let partitions: Vec<i32> = spans.iter().map(|span| span.partition).collect();
                let name = &feed.topic.name;
                let bounds = pages.source.watermarks(feed.isolation, name, &partitions);
                return match bounds.await {
                    Ok(bounds) => Loaded::Watermarks(bounds),
                    Err(fault) => Loaded::Failed(fault),
                };
            }
        })
    }

    /// The page that a follower reads on in; `None` when it has been let go of.
    pub(super) fn page(&self, slot: &Slot) -> Option<Arc<CatchUpPage>> {
        slot.used.store(self.use_now(), Ordering::Relaxed);
        let page = slot.page.lock().clone();
        // What encoders have made of records counts too.
        self.relieve();
        page
    }

    fn use_now(&self) -> u64 {
        self.shared.uses.fetch_add(1, Ordering::Relaxed)
    }

    /// Waits for the page at this place: the one that is there, or one that a task begins to read.
    fn wait(self: &Arc<Self>, feed: &Feed, spans: &[Span], bytes: usize) -> Waiting {
        let places = spans.iter().map(|span| (span.partition, span.from));
        let key = Key {
            login: self.login,
            topic: Arc::clone(&feed.topic.name),
            id: feed.topic.id,
            isolation: feed.isolation,
            from: places.collect(),
        };
        let mut slots = self.shared.slots.lock();
        if let Some(slot) = slots.of.get(&key).and_then(Weak::upgrade)
            && match slot.read.get() {
                None => true,
                Some(Ok(())) => slot.page.lock().is_some(),
                Some(Err(_)) => false,
            }
        {
            return Waiting::of(slot);
        }
        if slots.of.len() >= slots.sweep_at {
            slots.of.retain(|_, slot| slot.strong_count() > 0);
            slots.sweep_at = FEW.max(2 * slots.of.len());
        }
        let slot = Arc::new(Slot::default());
        slots.of.insert(key, Arc::downgrade(&slot));
        drop(slots);
        let request = PageRequest {
            topic: Arc::clone(&feed.topic),
            spans: spans.to_vec(),
            limit: RECORDS,
            max_bytes: bytes,
            wait: Duration::ZERO,
            isolation: feed.isolation,
        };
        let waiting = Waiting::of(Arc::clone(&slot));
        let pages = Arc::clone(self);
        tokio::spawn(async move {
            let read = pages.read(&slot, request).await;
            // Nobody else sets it.
            let _ = slot.read.set(read);
            slot.done.notify_waiters();
        });
        waiting
    }

    async fn read(&self, slot: &Slot, request: PageRequest) -> Result<(), Failed> {
        let permit = timeout(BUSY, self.shared.permits.acquire());
        let Ok(Ok(_permit)) = permit.await else {
            return Err(Failed::Busy);
        };
        if slot.waiting.load(Ordering::Acquire) == 0 {
            return Err(Failed::Abandoned);
        }
        let _reading = Reading::new();
        metrics::counter!("tail_catchup_pages_total").increment(1);
        let page = self.source.page(request).await.map_err(Failed::Fault)?;
        let page = page.to_keep();
        let entries = page.records.into_iter();
        let page = CatchUpPage {
            entries: entries
                .map(|record| Entry::new(record, &self.shared.load))
                .collect(),
            next: page.next,
        };
        slot.used.store(self.use_now(), Ordering::Relaxed);
        *slot.page.lock() = Some(Arc::new(page));
        self.relieve();
        Ok(())
    }

    /// Lets go of the pages that were used longest ago, where there is too much, and of a few more so
    /// that it is not done for each.
    fn relieve(&self) {
        if self.held() <= self.shared.most_bytes {
            return;
        }
        let mut slots = self.shared.slots.lock();
        // Dropped when the lock is free.
        let mut held: Vec<Arc<Slot>> = Vec::new();
        slots.of.retain(|_, slot| {
            let Some(slot) = slot.upgrade() else {
                return false;
            };
            let keep = slot.read.get().is_none() || slot.page.lock().is_some();
            held.push(slot);
            keep
        });
        drop(slots);
        held.sort_by_cached_key(|slot| slot.used.load(Ordering::Relaxed));
        // The one that was used last stays, however large it is.
        held.pop();
        for slot in &held {
            if self.held() <= self.shared.most_bytes / 8 * 7 {
                return;
            }
            if slot.page.lock().take().is_some() {
                metrics::counter!("tail_catchup_pages_dropped_total").increment(1);
            }
        }
    }
}
