//! `until` with a time that has not come yet.
//!
//! A partition is at its end at the first record of that time or a later one, as it is for a time that
//! has passed; or, once the clock has passed it, where the log ends then.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::kafka::Watermarks;
use crate::position::Offsets;
use crate::position::now_ms;
use crate::record::ConsumerRecord;

/// Longest time between looks at the clock, which may be set meanwhile.
const LOOK: Duration = Duration::from_secs(60);

/// Where the partitions of a stream end, as far as it is known.
#[derive(Debug)]
pub(super) struct Ahead {
    /// In ms since 1970.
    time: i64,
    /// Of each part, by partition.
    ends: Vec<BTreeMap<i32, i64>>,
    /// The clock has passed it: nothing else comes into being.
    closed: bool,
}

impl Ahead {
    /// With the ends that are known already, of each part.
    pub(super) fn new(time: i64, known: Vec<BTreeMap<i32, i64>>) -> Self {
        Self {
            time,
            ends: known,
            closed: false,
        }
    }

    /// Whether the record of a part comes before the end. One that is of the time, or later, is the end.
    pub(super) fn takes(&mut self, index: usize, record: &ConsumerRecord) -> bool {
        let Some(ends) = self.ends.get_mut(index) else {
            return false;
        };
        if record.timestamp >= self.time {
            let end = ends.entry(record.partition).or_insert(record.offset);
            *end = (*end).min(record.offset);
        }
        ends.get(&record.partition)
            .is_none_or(|end| record.offset < *end)
    }

    /// Moves what lies beyond its end back to it.
    pub(super) fn bound(&self, index: usize, offsets: &mut Offsets) {
        for (partition, offset) in offsets {
            if let Some(end) = self.ends.get(index).and_then(|ends| ends.get(partition)) {
                *offset = (*offset).min(*end);
            }
        }
    }

    /// Whether all partitions are at their ends.
    pub(super) fn is_reached(&self, sent: &[Offsets]) -> bool {
        let at_end = |(ends, offsets): (&BTreeMap<i32, i64>, &Offsets)| {
            offsets
                .iter()
                .all(|(partition, offset)| ends.get(partition).is_some_and(|end| offset >= end))
        };
        self.ends.iter().zip(sent).all(at_end)
    }

    /// How long to wait before looking at the clock; `None` when that is over.
    pub(super) fn due(&self) -> Option<Duration> {
        let left = u64::try_from(self.time - now_ms()).unwrap_or(0);
        (!self.closed).then(|| Duration::from_millis(left).min(LOOK))
    }

    /// Whether the clock has passed the time, and the ends are to be asked for.
    pub(super) fn is_due(&self) -> bool {
        self.due().is_some_and(|left| left.is_zero())
    }

    /// The logs of a part end here. Where the end is known already it is the earlier one.
    pub(super) fn close(&mut self, index: usize, bounds: &[Watermarks]) {
        if let Some(ends) = self.ends.get_mut(index) {
            for bound in bounds {
                ends.entry(bound.partition).or_insert(bound.end);
            }
        }
        self.closed = true;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::record::TimestampType;

    fn record(partition: i32, offset: i64, timestamp: i64) -> ConsumerRecord {
        ConsumerRecord {
            topic: Arc::from("t"),
            partition,
            offset,
            timestamp,
            timestamp_type: TimestampType::Create,
            key: None,
            value: None,
            headers: Vec::new(),
        }
    }

    #[test]
    fn a_partition_ends_at_a_later_record_or_where_the_log_does_then() {
        let soon = now_ms() + 3_600_000;
        let mut ahead = Ahead::new(soon, vec![BTreeMap::new()]);
        assert_eq!(ahead.due(), Some(LOOK));
        assert!(ahead.takes(0, &record(0, 5, soon - 1)));
        assert!(!ahead.takes(0, &record(0, 6, soon)));
        assert!(
            !ahead.takes(0, &record(0, 7, soon - 1)),
            "it is after the end"
        );
        assert!(ahead.takes(0, &record(1, 9, 0)));
        let mut sent = vec![vec![(0, 8), (1, 10)]];
        ahead.bound(0, &mut sent[0]);
        assert_eq!(sent[0], [(0, 6), (1, 10)]);
        assert!(!ahead.is_reached(&sent), "partition 1 may go on");
        let end = |partition, end| Watermarks {
            partition,
            low: 0,
            end,
        };
        ahead.close(0, &[end(0, 20), end(1, 11)]);
        assert_eq!(ahead.due(), None);
        assert!(!ahead.is_reached(&sent));
        assert!(ahead.takes(0, &record(1, 10, 0)) && !ahead.takes(0, &record(1, 11, 0)));
        sent[0][1].1 = 11;
        assert!(ahead.is_reached(&sent));
    }

    #[test]
    fn a_time_that_has_passed_is_due() {
        let ahead = Ahead::new(now_ms() - 1, vec![BTreeMap::new()]);
        assert!(ahead.is_due());
    }
}
