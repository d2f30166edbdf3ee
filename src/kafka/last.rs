//! Where the last records of partitions begin: as many as were asked for, and not as many offsets. Markers
//! of transactions, aborted records, compacted ones, and those that the client is not shown have offsets too.
//!
//! So it is looked back from the end in steps, each four times as long as the last one, until there are
//! enough, or the log begins. What is looked at is bounded; from there on offsets count. Those who ask the same at the
//! same place share one look.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use moka::future::Cache;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout, timeout_at};

use super::admin::Isolation;
use super::fault::Fault;
use super::metadata::Topic;
use super::reader::{PageRequest, Reader, Span};
use super::watermarks::Watermarks;
use crate::auth::policy::RecordVisibility;
use crate::filter::Filter;
use crate::record::ConsumerRecord;

/// Above so many records of a partition offsets are counted.
pub const MOST: i64 = 10_000;
/// Records and bytes of them that are looked at, and for how long.
const MOST_LOOKED_AT: i64 = 200_000;
const MOST_BYTES: usize = 64 << 20;
const LONGEST: Duration = Duration::from_secs(3);
/// Records that a step may come to, by how many there were in the one before.
const STEP_RECORDS: i64 = 5_000;
/// How much longer each step is than the last one.
const GROWTH: i64 = 4;
/// Records and bytes of one read.
const PAGE_RECORDS: usize = 2_000;
const PAGE_BYTES: usize = 1 << 20;
/// Most looks at once, and how long one waits for its turn.
const AT_ONCE: usize = 16;
const TURN: Duration = Duration::from_secs(1);
/// How long what was found is remembered: the place of the end is part of the question.
const REMEMBERED: Duration = Duration::from_secs(10);
const MOST_REMEMBERED: u64 = 256;

/// What is asked for.
pub struct Last<'a> {
    /// The topic.
    pub topic: &'a Arc<Topic>,
    /// Where its partitions begin and end.
    pub bounds: &'a [Watermarks],
    /// How many records of each.
    pub count: i64,
    /// Which records of transactions are read.
    pub isolation: Isolation,
    /// Which records count; `view` tells one such choice from others.
    pub shows: &'a (dyn Fn(&ConsumerRecord) -> bool + Sync),
    /// See `shows`.
    pub view: (RecordVisibility, Filter),
}

impl std::fmt::Debug for Last<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Last")
            .field("topic", &self.topic.name)
            .field("count", &self.count)
            .finish_non_exhaustive()
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Key {
    topic: Arc<str>,
    id: [u8; 16],
    places: Vec<(i32, i64, i64)>,
    count: i64,
    isolation: Isolation,
    view: (RecordVisibility, Filter),
}

/// Looks back.
#[derive(Debug)]
pub(super) struct LookBack {
    reader: Arc<Reader>,
    turns: Semaphore,
    known: Cache<Key, Arc<[i64]>>,
}

/// One partition that is looked at.
#[derive(Debug)]
struct Looking {
    partition: i32,
    low: i64,
    /// From here on all has been looked at.
    start: i64,
    /// So many records are still wanted from before.
    wanted: i64,
    /// Offsets of the next step.
    step: i64,
}

impl Looking {
    fn new(bound: &Watermarks, count: i64) -> Self {
        Self {
            partition: bound.partition,
            low: bound.low,
            start: bound.end,
            wanted: count,
            step: count,
        }
    }

    /// What is to be looked at next; `None` when it is done.
    fn span(&self) -> Option<Span> {
        (self.wanted > 0 && self.start > self.low).then(|| Span {
            partition: self.partition,
            from: self.low.max(self.start.saturating_sub(self.step)),
            end: self.start,
        })
    }

    /// Takes what was found in a step: its last records that count, and of how many.
    fn found(&mut self, span: Span, seen: &Seen) {
        let found = i64::try_from(seen.counting.len()).unwrap_or(i64::MAX);
        let length = (span.end - span.from).max(1);
        if found >= self.wanted {
            let at = usize::try_from(found - self.wanted).unwrap_or(0);
            self.start = seen.counting.get(at).copied().unwrap_or(span.from);
            self.wanted = 0;
            return;
        }
        self.wanted -= found;
        self.start = span.from;
        // Where offsets are sparse there are few records in many of them.
        let dense = length.saturating_mul(STEP_RECORDS) / seen.records.max(1);
        self.step = length.saturating_mul(GROWTH).min(dense.max(1));
    }
}

/// What a step has seen of a partition.
#[derive(Debug, Default)]
struct Seen {
    records: i64,
    /// The offsets of the last ones that count.
    counting: VecDeque<i64>,
}

/// What may still be looked at.
#[derive(Debug)]
struct Budget {
    records: i64,
    bytes: usize,
}

impl LookBack {
    pub(super) fn new(reader: Arc<Reader>) -> Self {
        Self {
            reader,
            turns: Semaphore::new(AT_ONCE),
            known: Cache::builder()
                .time_to_live(REMEMBERED)
                .max_capacity(MOST_REMEMBERED)
                .build(),
        }
    }

    /// Where the last records of each partition begin, in the order of the bounds.
    pub(super) async fn starts(&self, last: Last<'_>) -> Arc<[i64]> {
        if last.count <= 0 || last.count > MOST {
            return counted(&last).into();
        }
        let places = last.bounds.iter();
        let key = Key {
            topic: Arc::clone(&last.topic.name),
            id: last.topic.id,
            places: places.map(|b| (b.partition, b.low, b.end)).collect(),
            count: last.count,
            isolation: last.isolation,
            view: last.view.clone(),
        };
        self.known.get_with(key, self.look(last)).await
    }

    async fn look(&self, last: Last<'_>) -> Arc<[i64]> {
        let counted = counted(&last);
        let Ok(Ok(_turn)) = timeout(TURN, self.turns.acquire()).await else {
            return counted.into();
        };
        let until = Instant::now() + LONGEST;
        let mut budget = Budget {
            records: MOST_LOOKED_AT,
            bytes: MOST_BYTES,
        };
        let bounds = last.bounds.iter();
        let mut parts: Vec<Looking> = bounds.map(|b| Looking::new(b, last.count)).collect();
        loop {
            let spans: Vec<Span> = parts.iter().filter_map(Looking::span).collect();
            if spans.is_empty() {
                break;
            }
            let step = self.step(&last, spans.clone(), &parts, &mut budget);
            let seen = match timeout_at(until, step).await {
                Ok(Ok(Some(seen))) => seen,
                Ok(Ok(None)) | Err(_) => break,
                Ok(Err(fault)) => {
                    tracing::debug!(
                        topic = &*last.topic.name,
                        "offsets are counted in the place of records, because of: {fault}"
                    );
                    break;
                }
            };
            for span in spans {
                let part = parts
                    .iter_mut()
                    .find(|part| part.partition == span.partition);
                if let (Some(part), Some(seen)) = (part, seen.get(&span.partition)) {
                    part.found(span, seen);
                }
            }
        }
        let starts = parts.iter().zip(counted);
        // Where not even the first step was done, nothing is known.
        starts
            .map(|(part, counted)| part.start.min(counted))
            .collect()
    }

    /// What lies in these spans; `None` when there is more than may be looked at.
    async fn step(
        &self,
        last: &Last<'_>,
        mut spans: Vec<Span>,
        parts: &[Looking],
        budget: &mut Budget,
    ) -> Result<Option<HashMap<i32, Seen>>, Fault> {
        let mut all: HashMap<i32, Seen> = HashMap::new();
        for span in &spans {
            all.insert(span.partition, Seen::default());
        }
        let wanted = |partition: i32| {
            let part = parts.iter().find(|part| part.partition == partition);
            part.map_or(0, |part| usize::try_from(part.wanted).unwrap_or(usize::MAX))
        };
        while !spans.is_empty() {
            if budget.records <= 0 || budget.bytes == 0 {
                return Ok(None);
            }
            let page = self.reader.page(PageRequest {
                topic: Arc::clone(last.topic),
                spans: spans.clone(),
                limit: PAGE_RECORDS,
                max_bytes: PAGE_BYTES,
                wait: Duration::ZERO,
                isolation: last.isolation,
            });
            let page = page.await?;
            for record in &page.records {
                budget.records -= 1;
                budget.bytes = budget.bytes.saturating_sub(record.size());
                let Some(seen) = all.get_mut(&record.partition) else {
                    continue;
                };
                seen.records += 1;
                if (last.shows)(record) {
                    seen.counting.push_back(record.offset);
                    if seen.counting.len() > wanted(record.partition) {
                        seen.counting.pop_front();
                    }
                }
            }
            let mut moved = false;
            for span in &mut spans {
                let next = page.next.iter().find(|(id, _)| *id == span.partition);
                if let Some((_, next)) = next {
                    moved |= *next > span.from;
                    span.from = span.from.max(*next);
                }
            }
            spans.retain(|span| span.from < span.end);
            if !moved {
                return Ok(None);
            }
        }
        Ok(Some(all))
    }
}

/// Where so many offsets begin.
fn counted(last: &Last<'_>) -> Vec<i64> {
    let bounds = last.bounds.iter();
    bounds
        .map(|bound| bound.low.max(bound.end.saturating_sub(last.count.max(0))))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(records: i64, counting: &[i64]) -> Seen {
        Seen {
            records,
            counting: counting.iter().copied().collect(),
        }
    }

    fn looking(low: i64, end: i64, count: i64) -> Looking {
        let bound = Watermarks {
            partition: 0,
            low,
            end,
        };
        Looking::new(&bound, count)
    }

    #[test]
    fn the_search_for_the_last_records_goes_back_further_each_time_until_it_has_enough() {
        let mut part = looking(0, 1_000, 3);
        let span = part.span().unwrap();
        assert_eq!((span.from, span.end), (997, 1_000));
        part.found(span, &seen(1, &[998]));
        let span = part.span().unwrap();
        assert_eq!((span.from, span.end), (985, 997));
        part.found(span, &seen(0, &[]));
        let span = part.span().unwrap();
        assert_eq!((span.from, span.end), (937, 985));
        part.found(span, &seen(4, &[950, 960, 970, 980]));
        assert_eq!((part.start, part.span()), (970, None));
    }

    #[test]
    fn the_search_for_the_last_records_ends_where_the_log_begins() {
        let mut part = looking(5, 10, 20);
        let span = part.span().unwrap();
        assert_eq!((span.from, span.end), (5, 10));
        part.found(span, &seen(2, &[6, 8]));
        assert_eq!((part.start, part.span()), (5, None));
        assert_eq!(looking(7, 7, 3).span(), None);
        assert_eq!(looking(0, 7, 0).span(), None);
    }

    #[test]
    fn a_step_back_over_records_that_do_not_count_is_bounded() {
        let mut part = looking(0, 1_000_000, 1_000);
        let span = part.span().unwrap();
        part.found(span, &seen(1_000, &[]));
        let span = part.span().unwrap();
        assert_eq!(span.end - span.from, 4_000);
        part.found(span, &seen(4_000, &[]));
        let span = part.span().unwrap();
        assert_eq!(span.end - span.from, STEP_RECORDS);
    }
}
