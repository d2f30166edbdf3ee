//! `max_rate` and `conflate`: of the records that wait to be written only the newest stays, of all of
//! them or of each key.
//!
//! Records leave in the order in which they came, so within a partition by offset: a stream's position
//! after one of them never lies behind what still waits, and never before what was written. What was
//! replaced is not missed by one who comes back, since what replaced it is behind the position too.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use crate::record::Delivered;

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
pub(super) struct Waiting {
    of: Option<Of>,
    /// The index of its topic.
    pub(super) index: usize,
    pub(super) partition: i32,
    pub(super) offset: i64,
    pub(super) timestamp: i64,
    pub(super) made: Bytes,
}

/// What waits to be written.
#[derive(Debug)]
pub(super) struct Latest {
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

impl Latest {
    /// At most `rate` records a second; with `by_key` the newest of each key, else the newest of all.
    pub(super) fn new(rate: Option<f64>, by_key: bool) -> Self {
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

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Whether some must leave before more is taken in.
    pub(super) fn is_full(&self) -> bool {
        self.waiting.len() >= MOST || self.bytes >= MOST_BYTES
    }

    /// A record came. It takes the place of those that it is newer than.
    pub(super) fn came(&mut self, index: usize, record: &Delivered, made: Bytes) {
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
            made,
        };
        self.waiting.insert(self.count, waiting);
    }

    /// When the next one may leave, if one waits and that is later than now.
    pub(super) fn due(&self) -> Option<Instant> {
        self.next.filter(|_| !self.is_empty())
    }

    /// The next one to be written, if it may leave now. `all` do.
    pub(super) fn leave(&mut self, now: Instant, all: bool) -> Option<Waiting> {
        if !all && self.next.is_some_and(|next| next > now) {
            return None;
        }
        let (count, waiting) = self.waiting.pop_first()?;
        self.bytes -= waiting.made.len();
        if let Some(of) = &waiting.of
            && self.of.get(of) == Some(&count)
        {
            self.of.remove(of);
        }
        self.next = self.interval.map(|interval| {
            // Kept on average, as long as the timer is not much later than asked.
            let since = self
                .next
                .filter(|next| now.duration_since(*next) < interval);
            since.unwrap_or(now) + interval
        });
        Some(waiting)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::record::TimestampType;

    fn offsets(latest: &mut Latest, now: Instant, all: bool) -> Vec<i64> {
        std::iter::from_fn(|| latest.leave(now, all))
            .map(|waiting| waiting.offset)
            .collect()
    }

    fn came(latest: &mut Latest, partition: i32, offset: i64, key: Option<&'static str>) {
        let record = record(partition, offset, key);
        latest.came(0, &record, Bytes::from_static(b"x"));
    }

    fn record(partition: i32, offset: i64, key: Option<&'static str>) -> Delivered {
        Delivered {
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
    async fn of_each_key_the_newest_is_left_in_the_order_in_which_they_came() {
        let mut latest = Latest::new(None, true);
        let now = Instant::now();
        for (offset, key) in [(0, "a"), (1, "b"), (2, "a"), (3, "c"), (4, "b")] {
            came(&mut latest, 0, offset, Some(key));
        }
        came(&mut latest, 0, 5, None);
        came(&mut latest, 0, 6, None);
        came(&mut latest, 1, 0, Some("a"));
        assert_eq!(offsets(&mut latest, now, false), [2, 3, 4, 5, 6, 0]);
        assert!(latest.is_empty() && latest.bytes == 0 && latest.of.is_empty());
    }

    #[tokio::test]
    async fn a_rate_lets_the_newest_through_and_keeps_time() {
        let mut latest = Latest::new(Some(10.0), false);
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        came(&mut latest, 0, 0, None);
        assert_eq!(latest.due(), None);
        assert_eq!(offsets(&mut latest, at(0), false), [0]);
        assert_eq!(latest.due(), None, "nothing waits");
        came(&mut latest, 0, 1, None);
        came(&mut latest, 1, 7, None);
        assert_eq!(latest.due(), Some(at(100)));
        assert_eq!(offsets(&mut latest, at(99), false), [0_i64; 0]);
        assert_eq!(offsets(&mut latest, at(103), false), [7]);
        came(&mut latest, 0, 2, None);
        assert_eq!(latest.due(), Some(at(200)), "three late, on time again");
        assert_eq!(offsets(&mut latest, at(900), false), [2]);
        came(&mut latest, 0, 3, None);
        assert_eq!(latest.due(), Some(at(1_000)), "what was not used is lost");
        assert_eq!(offsets(&mut latest, at(901), true), [3], "at the end");
    }

    #[tokio::test]
    async fn what_waits_is_bounded() {
        let mut latest = Latest::new(None, true);
        let mut offset = 0;
        while !latest.is_full() {
            let made = Bytes::from(vec![0; 100_000]);
            latest.came(0, &record(0, offset, None), made);
            offset += 1;
        }
        assert_eq!(offset, 11);
        assert!(latest.leave(Instant::now(), false).is_some() && !latest.is_full());
    }
}
