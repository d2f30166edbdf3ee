//! Batches of a stream: the one that is being gathered, and those whose outcomes are still open, which are
//! bounded.

use std::vec;

use futures::FutureExt;
use futures::future::BoxFuture;
use futures::stream::{FuturesOrdered, StreamExt};

use super::wire::Item;
use crate::http::error::ApiError;
use crate::kafka::producer::Outcome;
use crate::record::ProducerRecord;

/// Most records and bytes that go to the producer together.
pub(super) const BATCH_RECORDS: usize = 1_000;
pub(super) const BATCH_BYTES: usize = 1 << 20;
/// Most batches of one stream whose outcomes are still open; more of them as long as they are small, and hold
/// no more together than one large one. A client that sends each record by itself would wait for Kafka after
/// a few records otherwise.
const BATCHES_UNDER_WAY: usize = 8;

/// What is being gathered for the producer.
pub(super) struct Batch<P> {
    /// One for each item that has a result: its place, and the error of one that holds no record.
    pub(super) places: Vec<(P, Option<ApiError>)>,
    pub(super) records: Vec<ProducerRecord>,
    pub(super) bytes: usize,
    /// Items that were looked at, blank ones too.
    pub(super) looked_at: usize,
}

impl<P> Default for Batch<P> {
    fn default() -> Self {
        Self {
            places: Vec::new(),
            records: Vec::new(),
            bytes: 0,
            looked_at: 0,
        }
    }
}

impl<P> Batch<P> {
    /// Adds an item; `true` when nothing can be read behind it.
    pub(super) fn take(&mut self, item: Item<P>) -> bool {
        self.looked_at += 1;
        let is_broken = matches!(item, Item::Broken(..));
        match item {
            Item::Blank => {}
            Item::Record(record, place) => {
                self.bytes += record.size();
                self.records.push(record);
                self.places.push((place, None));
            }
            Item::Unfit(error, place) | Item::Broken(error, place) => {
                self.places.push((place, Some(error)));
            }
        }
        is_broken
    }
}

/// What became of an item.
pub(super) struct Entry<P> {
    pub(super) place: P,
    pub(super) outcome: Result<Outcome, ApiError>,
}

/// The batches that were handed over and have no outcomes yet, in order.
pub(super) struct UnderWay<P> {
    batches: FuturesOrdered<BoxFuture<'static, Answered<P>>>,
    records: usize,
    bytes: usize,
}

/// A batch whose outcomes have come.
struct Answered<P> {
    entries: Vec<Entry<P>>,
    bytes: usize,
}

impl<P> Default for UnderWay<P> {
    fn default() -> Self {
        Self {
            batches: FuturesOrdered::new(),
            records: 0,
            bytes: 0,
        }
    }
}

impl<P: Send + 'static> UnderWay<P> {
    /// Whether one more may be handed over.
    pub(super) fn has_room(&self) -> bool {
        self.batches.len() < BATCHES_UNDER_WAY
            || (self.records < BATCH_RECORDS && self.bytes < BATCH_BYTES)
    }

    pub(super) fn push(
        &mut self,
        records: usize,
        bytes: usize,
        entries: impl Future<Output = Vec<Entry<P>>> + Send + 'static,
    ) {
        self.records += records;
        self.bytes += bytes;
        self.batches.push_back(Box::pin(async move {
            let entries = entries.await;
            Answered { entries, bytes }
        }));
    }

    /// Waits for the outcomes of the next batch; those of the batches behind it that have come too come with
    /// it. `None` when none is under way.
    pub(super) async fn next(&mut self) -> Option<Vec<Entry<P>>> {
        let first = self.batches.next().await?;
        let mut entries = self.taken(first);
        while entries.len() < BATCH_RECORDS {
            let Some(Some(more)) = self.batches.next().now_or_never() else {
                break;
            };
            entries.append(&mut self.taken(more));
        }
        Some(entries)
    }

    fn taken(&mut self, answered: Answered<P>) -> Vec<Entry<P>> {
        let Answered { entries, bytes } = answered;
        self.records = self.records.saturating_sub(entries.len());
        self.bytes = self.bytes.saturating_sub(bytes);
        entries
    }
}

/// What became of the records of a batch, in their order.
pub(in crate::api) struct Outcomes {
    outcomes: vec::IntoIter<Outcome>,
    /// What befell all of them alike.
    whole: Option<ApiError>,
}

impl Outcomes {
    pub(in crate::api) fn new(outcomes: Result<Vec<Outcome>, ApiError>) -> Self {
        let (outcomes, whole) = match outcomes {
            Ok(outcomes) => (outcomes, None),
            Err(error) => (Vec::new(), Some(error)),
        };
        Self {
            outcomes: outcomes.into_iter(),
            whole,
        }
    }

    /// That of the next record.
    ///
    /// # Errors
    ///
    /// Why there is none.
    pub(in crate::api) fn take_next(&mut self) -> Result<Outcome, ApiError> {
        self.outcomes.next().ok_or_else(|| {
            self.whole.clone().unwrap_or_else(|| {
                ApiError::internal("the producer gave fewer outcomes than it got records")
            })
        })
    }
}

/// The outcome of each item of a batch, in order.
pub(super) fn entries<P>(
    places: Vec<(P, Option<ApiError>)>,
    outcomes: Result<Vec<Outcome>, ApiError>,
) -> Vec<Entry<P>> {
    let mut outcomes = Outcomes::new(outcomes);
    places
        .into_iter()
        .map(|(place, unfit)| Entry {
            place,
            outcome: match unfit {
                Some(error) => Err(error),
                None => outcomes.take_next(),
            },
        })
        .collect()
}

#[cfg(test)]
mod tests;
