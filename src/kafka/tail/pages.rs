//! Catch-up reads: pages from Kafka for followers that are not in the ring.
//!
//! There are at most so many pages at a time, whoever waits for them: a page holds its permit until
//! the last follower has let go of it, so that memory is bounded with it. Followers that stand at the
//! same place share a page, so that a crowd that asks for the beginning is one reader.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures::future::BoxFuture;
use parking_lot::Mutex;
use tokio::sync::{OnceCell, OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};

use super::entry::{Entry, Load};
use crate::kafka::bounds::Bounds;
use crate::kafka::fault::{Fault, FaultKind};
use crate::kafka::metadata::Topic;
use crate::kafka::reader::{Page, PageRequest, Span};

/// Most records and bytes of a page.
const RECORDS: usize = 10_000;
const BYTES: usize = 1 << 20;
/// Longest wait for a permit.
const BUSY: Duration = Duration::from_secs(30);

/// Where pages come from: Kafka, or a test.
pub(super) trait Source: Send + Sync + std::fmt::Debug {
    /// One page.
    fn page(&self, request: PageRequest) -> BoxFuture<'_, Result<Page, Fault>>;
    /// Where these partitions start and end now.
    fn bounds<'a>(
        &'a self,
        topic: &'a str,
        partitions: &'a [i32],
    ) -> BoxFuture<'a, Result<Vec<Bounds>, Fault>>;
}

/// A page, shared by those who stand where it begins.
#[derive(Debug)]
pub(super) struct CatchUp {
    pub(super) entries: Vec<Arc<Entry>>,
    pub(super) next: Vec<(i32, i64)>,
    _permit: Reading,
}

/// What a load came to.
#[derive(Debug)]
pub(super) enum Loaded {
    Page(Arc<Slot>),
    /// Some of it is no longer in the log, or not yet: this is.
    Bounds(Vec<Bounds>),
    /// There was no permit in time.
    Busy,
    Failed(Fault),
}

pub(super) type Loading = BoxFuture<'static, Loaded>;

#[derive(Debug, PartialEq, Eq, Hash)]
struct Key {
    topic: Arc<str>,
    id: [u8; 16],
    from: Vec<(i32, i64)>,
}

/// A page that is being read, or was. Whoever waits for it holds it too, so that one who is quick does
/// not take it away from the others.
pub(super) type Slot = OnceCell<CatchUp>;

/// The permit of a page, counted.
#[derive(Debug)]
struct Reading {
    _permit: OwnedSemaphorePermit,
}

impl Reading {
    fn new(permit: OwnedSemaphorePermit) -> Self {
        metrics::gauge!("tail_catchup_readers").increment(1.0);
        Self { _permit: permit }
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        metrics::gauge!("tail_catchup_readers").decrement(1.0);
    }
}

/// Loads pages.
#[derive(Debug)]
pub(super) struct Pages {
    source: Arc<dyn Source>,
    permits: Arc<Semaphore>,
    most: usize,
    slots: Mutex<HashMap<Key, Weak<Slot>>>,
    load: Arc<Load>,
}

impl Pages {
    pub(super) fn new(source: Arc<dyn Source>, most: usize, load: Arc<Load>) -> Self {
        Self {
            source,
            permits: Arc::new(Semaphore::new(most)),
            most,
            slots: Mutex::default(),
            load,
        }
    }

    /// Reads on from these spans, after `pause`.
    pub(super) fn load(
        self: &Arc<Self>,
        topic: &Arc<Topic>,
        spans: Vec<Span>,
        pause: Duration,
    ) -> Loading {
        let pages = Arc::clone(self);
        let topic = Arc::clone(topic);
        Box::pin(async move {
            if !pause.is_zero() {
                sleep(pause).await;
            }
            match pages.page(&topic, &spans).await {
                Ok(Some(page)) => Loaded::Page(page),
                Ok(None) => Loaded::Busy,
                Err(fault) if fault.kind == FaultKind::OffsetOutOfRange => {
                    let partitions: Vec<i32> = spans.iter().map(|span| span.partition).collect();
                    match pages.source.bounds(&topic.name, &partitions).await {
                        Ok(bounds) => Loaded::Bounds(bounds),
                        Err(fault) => Loaded::Failed(fault),
                    }
                }
                Err(fault) => Loaded::Failed(fault),
            }
        })
    }

    /// The page at this place; `None` when there was no permit in time. Whoever comes first reads for
    /// all who wait.
    async fn page(&self, topic: &Arc<Topic>, spans: &[Span]) -> Result<Option<Arc<Slot>>, Fault> {
        let slot = self.slot(Key {
            topic: Arc::clone(&topic.name),
            id: topic.id,
            from: spans
                .iter()
                .map(|span| (span.partition, span.from))
                .collect(),
        });
        match slot.get_or_try_init(|| self.read(topic, spans)).await {
            Ok(_) => Ok(Some(slot)),
            Err(None) => Ok(None),
            Err(Some(fault)) => Err(fault),
        }
    }

    /// Reads a page; the error is `None` when there was no permit in time.
    async fn read(&self, topic: &Arc<Topic>, spans: &[Span]) -> Result<CatchUp, Option<Fault>> {
        let permit = timeout(BUSY, Arc::clone(&self.permits).acquire_owned());
        let Ok(Ok(permit)) = permit.await else {
            return Err(None);
        };
        let reading = Reading::new(permit);
        let request = PageRequest {
            topic: Arc::clone(topic),
            spans: spans.to_vec(),
            limit: RECORDS,
            max_bytes: BYTES,
            wait: Duration::ZERO,
        };
        metrics::counter!("tail_catchup_pages_total").increment(1);
        let page = self.source.page(request).await.map_err(Some)?;
        let entries = page.records.into_iter();
        Ok(CatchUp {
            entries: entries
                .map(|record| Entry::new(record, &self.load))
                .collect(),
            next: page.next,
            _permit: reading,
        })
    }

    fn slot(&self, key: Key) -> Arc<Slot> {
        let mut slots = self.slots.lock();
        if let Some(slot) = slots.get(&key).and_then(Weak::upgrade) {
            return slot;
        }
        if slots.len() > 4 * self.most + 64 {
            slots.retain(|_, slot| slot.strong_count() > 0);
        }
        let slot = Arc::new(Slot::new());
        slots.insert(key, Arc::downgrade(&slot));
        slot
    }
}
