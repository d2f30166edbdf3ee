//! `max_rate` and `conflate`: of the records that wait to be written only the newest stays, of all of
//! them or of each key.
//!
//! Records leave in the order in which they came, so within a partition by offset: a reader's position
//! after one of them never lies behind what still waits, and never before what was written. What was
//! replaced is not missed by one who comes back, since what replaced it is behind the position too.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use crate::record::ConsumerRecord;

/// Most records that wait, and bytes of them. Beyond, no more is taken in until some have left.
const MOST: usize = 10_000;
const MOST_BYTES: usize = 1 << 20;

/// Whose newest record is kept.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Of {
    All,
    /// A key of a partition of the topic with this index.
    Key(usize, i32, Bytes),
}

/// A record that waits.
#[derive(Debug, PartialEq, Eq)]
pub struct Waiting {
    of: Option<Of>,
    /// The index of its topic.
    pub index: usize,
    /// Its partition.
    pub partition: i32,
    /// Its offset.
    pub offset: i64,
    /// Its time, in milliseconds since 1970.
    pub timestamp: i64,
    /// Bytes of its key, value and headers.
    pub size: usize,
    /// What it was made into.
    pub made: Bytes,
}

/// What waits to be written.
#[derive(Debug)]
pub struct Conflation {
    /// Between two records.
    interval: Option<Duration>,
    by_key: bool,
    next: Option<Instant>,
    /// In the order in which they came.
    waiting: BTreeMap<u64, Waiting>,
    of: HashMap<Of, u64>,
    count: u64,
    bytes: usize,
}

impl Conflation {
    /// At most `rate` records a second; with `by_key` the newest of each key, else the newest of all.
    pub fn new(rate: Option<f64>, by_key: bool) -> Self {
        Self {
            interval: rate.map(|rate| Duration::from_secs_f64(1.0 / rate)),
            by_key,
            next: None,
            waiting: BTreeMap::new(),
            of: HashMap::new(),
            count: 0,
            bytes: 0,
        }
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// How many records wait.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Bytes of what they were made into.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether some must leave before more is taken in. `pressure` divides by two to its power how much
    /// that is, for those who are short of memory. What waits alone keeps nothing newer from its place.
    pub fn is_full(&self, pressure: u32) -> bool {
        let most = |most: usize| most.checked_shr(pressure).unwrap_or(0);
        self.len() > 1 && (self.len() >= most(MOST) || self.bytes >= most(MOST_BYTES))
    }

    /// A record came. It takes the place of those that it is newer than.
    pub fn came(&mut self, index: usize, record: &ConsumerRecord, made: Bytes) {
        let of = match (self.by_key, &record.key) {
            (false, _) => Some(Of::All),
            (true, Some(key)) => Some(Of::Key(index, record.partition, key.clone())),
            // What has no key is newer than nothing.
            (true, None) => None,
        };
        self.count += 1;
        self.bytes += made.len();
        if let Some(of) = &of
            && let Some(old) = self.of.insert(of.clone(), self.count)
            && let Some(old) = self.waiting.remove(&old)
        {
            self.bytes -= old.made.len();
            metrics::counter!("stream_records_conflated_total").increment(1);
        }
        let waiting = Waiting {
            of,
            index,
            partition: record.partition,
            offset: record.offset,
            timestamp: record.timestamp,
            size: record.size(),
            made,
        };
        self.waiting.insert(self.count, waiting);
    }

    /// When the next one may leave, if one waits and that is later than now.
    pub fn due(&self) -> Option<Instant> {
        self.next.filter(|_| !self.is_empty())
    }

    /// The one that [`Conflation::leave`] would give.
    pub fn first(&self, now: Instant, all: bool) -> Option<&Waiting> {
        if !all && self.next.is_some_and(|next| next > now) {
            return None;
        }
        self.waiting.first_key_value().map(|(_, waiting)| waiting)
    }

    /// The next one to be written, if it may leave now. `all` do.
    pub fn leave(&mut self, now: Instant, all: bool) -> Option<Waiting> {
        self.first(now, all)?;
        let count = *self.waiting.first_key_value()?.0;
        let waiting = self.remove(count)?;
        self.next = self.interval.map(|interval| {
            // Kept on average, as long as the timer is not much later than asked.
            let since = self
                .next
                .filter(|next| now.duration_since(*next) < interval);
            since.unwrap_or(now) + interval
        });
        Some(waiting)
    }

    /// Drops what waits of these partitions of the topic with this index, and tells of which of them
    /// something did. What of other partitions it took the place of is not there any more either: see
    /// [`Conflation::is_of_all`].
    pub fn drop_of(&mut self, index: usize, partitions: &[i32]) -> Vec<i32> {
        let of_these =
            |waiting: &Waiting| waiting.index == index && partitions.contains(&waiting.partition);
        let counts = self.waiting.iter().filter(|(_, waiting)| of_these(waiting));
        let counts: Vec<u64> = counts.map(|(count, _)| *count).collect();
        let mut dropped = Vec::new();
        for count in counts {
            if let Some(waiting) = self.remove(count)
                && !dropped.contains(&waiting.partition)
            {
                dropped.push(waiting.partition);
            }
        }
        dropped
    }

    /// Whether the newest is that of all partitions, so that it takes the place of others' records too.
    pub fn is_of_all(&self) -> bool {
        !self.by_key
    }

    fn remove(&mut self, count: u64) -> Option<Waiting> {
        let waiting = self.waiting.remove(&count)?;
        self.bytes -= waiting.made.len();
        if let Some(of) = &waiting.of
            && self.of.get(of) == Some(&count)
        {
            self.of.remove(of);
        }
        Some(waiting)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::record::TimestampType;

    fn offsets(conflation: &mut Conflation, now: Instant, all: bool) -> Vec<i64> {
        std::iter::from_fn(|| conflation.leave(now, all))
            .map(|waiting| waiting.offset)
            .collect()
    }

    fn came(conflation: &mut Conflation, partition: i32, offset: i64, key: Option<&'static str>) {
        let record = record(partition, offset, key);
        conflation.came(0, &record, Bytes::from_static(b"x"));
    }

    fn record(partition: i32, offset: i64, key: Option<&'static str>) -> ConsumerRecord {
        ConsumerRecord {
            topic: Arc::from("t"),
            partition,
            offset,
            timestamp: offset,
            timestamp_type: TimestampType::Create,
            key: key.map(|key| Bytes::from_static(key.as_bytes())),
            value: None,
            headers: Vec::new(),
        }
    }

    #[tokio::test]
    async fn conflation_keeps_the_newest_record_of_each_key_in_order_of_arrival() {
        let mut conflation = Conflation::new(None, true);
        let now = Instant::now();
        for (offset, key) in [(0, "a"), (1, "b"), (2, "a"), (3, "c"), (4, "b")] {
            came(&mut conflation, 0, offset, Some(key));
        }
        came(&mut conflation, 0, 5, None);
        came(&mut conflation, 0, 6, None);
        came(&mut conflation, 1, 0, Some("a"));
        assert_eq!(offsets(&mut conflation, now, false), [2, 3, 4, 5, 6, 0]);
        assert!(conflation.is_empty() && conflation.bytes == 0 && conflation.of.is_empty());
    }

    #[tokio::test]
    async fn conflation_with_a_rate_gives_the_newest_record_and_keeps_the_interval() {
        let mut conflation = Conflation::new(Some(10.0), false);
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        came(&mut conflation, 0, 0, None);
        assert_eq!(conflation.due(), None);
        assert_eq!(offsets(&mut conflation, at(0), false), [0]);
        assert_eq!(conflation.due(), None, "nothing waits");
        came(&mut conflation, 0, 1, None);
        came(&mut conflation, 1, 7, None);
        assert_eq!(conflation.due(), Some(at(100)));
        assert_eq!(offsets(&mut conflation, at(99), false), [0_i64; 0]);
        assert_eq!(offsets(&mut conflation, at(103), false), [7]);
        came(&mut conflation, 0, 2, None);
        assert_eq!(conflation.due(), Some(at(200)), "three late, on time again");
        assert_eq!(offsets(&mut conflation, at(900), false), [2]);
        came(&mut conflation, 0, 3, None);
        assert_eq!(
            conflation.due(),
            Some(at(1_000)),
            "what was not used is lost"
        );
        assert_eq!(offsets(&mut conflation, at(901), true), [3], "at the end");
    }

    #[tokio::test]
    async fn records_that_wait_for_conflation_are_bounded_in_bytes() {
        let mut conflation = Conflation::new(None, true);
        let mut offset = 0;
        while !conflation.is_full(0) {
            let made = Bytes::from(vec![0; 100_000]);
            conflation.came(0, &record(0, offset, None), made);
            offset += 1;
        }
        assert_eq!(offset, 11);
        assert!(conflation.leave(Instant::now(), false).is_some() && !conflation.is_full(0));
        assert!(conflation.is_full(1));
        while conflation.len() > 1 {
            conflation.leave(Instant::now(), false);
        }
        assert!(!conflation.is_full(30), "what waits alone is replaced");
    }

    #[tokio::test]
    async fn dropping_the_records_of_some_partitions_leaves_those_of_the_others() {
        let mut conflation = Conflation::new(None, true);
        for (partition, offset) in [(0, 0), (1, 5), (0, 1), (2, 9)] {
            came(&mut conflation, partition, offset, None);
        }
        came(&mut conflation, 0, 2, Some("a"));
        assert_eq!(
            conflation.drop_of(1, &[0, 1]),
            [0_i32; 0],
            "another topic's"
        );
        assert_eq!(conflation.drop_of(0, &[0, 2, 3]), [0, 2]);
        assert_eq!((conflation.len(), conflation.bytes()), (1, 1));
        assert_eq!(conflation.of.len(), 0);
        assert_eq!(offsets(&mut conflation, Instant::now(), false), [5]);
    }
}
