//! What the reader of a topic has read lately, in the order in which it came.
//!
//! For each partition the ring says from which offset on it lacks nothing (`low`), and how far the
//! reader has come (`next`). So whoever stands at or after `low` in all of its partitions misses
//! nothing by reading on from here, and records that it has seen are known by their offsets.
//!
//! A place in the ring is a number that never comes again, so that a follower knows at once whether
//! what it has not read is still there. What came together is pulled together, so that those who follow
//! at the head are given the very same, and what was made of it for one of them serves the others.
//!
//! Of keys that are followed alone the ring knows the places (`key_index.rs`): who follows one is woken by
//! its records only, and does not look at others.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;
use tokio::time::Instant;

use super::entry::{Entry, Load};
use super::key_index::{Changed, KeyIndex};
use crate::record::ConsumerRecord;

/// Most entries that are passed over in one pull, so that the ring is not held for long.
const MOST_PASSED: usize = 4_096;

/// How much is kept.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bound {
    pub(super) bytes: usize,
    pub(super) age: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Range {
    low: i64,
    next: i64,
}

/// The ring of one topic.
#[derive(Debug)]
pub(super) struct Ring {
    entries: VecDeque<(Instant, Arc<Entry>)>,
    /// The place of the first entry.
    first: u64,
    ranges: BTreeMap<i32, Range>,
    /// The places after what came together.
    joints: VecDeque<u64>,
    keys: KeyIndex,
    /// How often a partition's log turned out to end before what was read of it.
    rewinds: u64,
    /// How many partitions have begun to be read.
    begun: u64,
    bound: Bound,
    load: Arc<Load>,
}

/// What a pull came to.
pub(super) struct Pull {
    pub(super) entries: Vec<Arc<Entry>>,
    /// Where to go on.
    pub(super) place: u64,
    /// There is nothing after `place` yet.
    pub(super) at_end: bool,
}

impl Ring {
    pub(super) fn new(bound: Bound, load: Arc<Load>) -> Self {
        Self {
            entries: VecDeque::new(),
            first: 0,
            ranges: BTreeMap::new(),
            joints: VecDeque::new(),
            keys: KeyIndex::default(),
            rewinds: 0,
            begun: 0,
            bound,
            load,
        }
    }

    /// The place after the last entry.
    pub(super) fn end(&self) -> u64 {
        self.first + self.entries.len() as u64
    }

    pub(super) fn first(&self) -> u64 {
        self.first
    }

    pub(super) fn rewinds(&self) -> u64 {
        self.rewinds
    }

    /// Counts up when a partition begins to be read that was not.
    pub(super) fn begun(&self) -> u64 {
        self.begun
    }

    /// From where on nothing of the partition is missing; `None` while it is not read.
    pub(super) fn low(&self, partition: i32) -> Option<i64> {
        self.ranges.get(&partition).map(|range| range.low)
    }

    /// How far the partition has been read.
    pub(super) fn next(&self, partition: i32) -> Option<i64> {
        self.ranges.get(&partition).map(|range| range.next)
    }

    /// The partitions that are read, and from where on nothing of them is missing.
    pub(super) fn partitions(&self) -> impl Iterator<Item = (i32, i64)> {
        self.ranges.iter().map(|(id, range)| (*id, range.low))
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The timestamp of the last entry.
    pub(super) fn newest(&self) -> Option<i64> {
        let (_, last) = self.entries.back()?;
        Some(last.record().timestamp)
    }

    /// How old the first entry is.
    pub(super) fn age(&self) -> Duration {
        self.entries
            .front()
            .map_or(Duration::ZERO, |(at, _)| at.elapsed())
    }

    /// The partition is read from `offset` on. What was kept of it is dropped if that does not join
    /// it.
    pub(super) fn begin(&mut self, partition: i32, offset: i64) {
        let begun = Range {
            low: offset,
            next: offset,
        };
        match self.ranges.get(&partition) {
            Some(range) if range.next == offset => {}
            None => {
                self.begun += 1;
                self.ranges.insert(partition, begun);
            }
            Some(range) => {
                if offset < range.next {
                    self.rewinds += 1;
                }
                self.clear();
                // A place before which nobody stands: all look at their offsets again.
                self.first += 1;
                self.keys.forget(self.first);
                self.ranges.insert(partition, begun);
            }
        }
    }

    /// Appends a record. One that was read before is left out.
    pub(super) fn push(&mut self, record: ConsumerRecord, now: Instant) {
        let Some(range) = self.ranges.get_mut(&record.partition) else {
            return;
        };
        if record.offset < range.next {
            return;
        }
        range.next = record.offset + 1;
        if let Some(key) = &record.key {
            let place = self.first + self.entries.len() as u64;
            self.keys.came(key, place);
        }
        let entry = Entry::new(record, &self.load);
        self.entries.push_back((now, entry));
        self.trim(now);
    }

    /// What was pushed since the last call came together. Tells whom of those who follow keys it is for.
    pub(super) fn join(&mut self) -> Vec<Changed> {
        let end = self.end();
        if self.joints.back() != Some(&end) {
            self.joints.push_back(end);
        }
        while self.joints.front().is_some_and(|at| *at <= self.first) {
            self.joints.pop_front();
        }
        self.keys.changed()
    }

    /// One more who follows this key alone.
    pub(super) fn follow_key(&mut self, key: &Bytes) -> watch::Receiver<u64> {
        let end = self.end();
        self.keys.follow(key, end)
    }

    /// One of them has left.
    pub(super) fn leave_key(&mut self, key: &Bytes) {
        self.keys.leave(key);
    }

    /// All who follow keys.
    pub(super) fn all_keys(&self) -> Vec<Changed> {
        self.keys.all()
    }

    /// Whether nothing of the key that came at or after `place` has been let go of.
    pub(super) fn has_all_of(&self, key: &Bytes, place: u64) -> bool {
        self.keys.has_all(key, place)
    }

    /// The reader has come to `offset`, over records that are not delivered.
    pub(super) fn reached(&mut self, partition: i32, offset: i64) -> bool {
        match self.ranges.get_mut(&partition) {
            Some(range) if range.next < offset => {
                range.next = offset;
                true
            }
            _ => false,
        }
    }

    /// Lets go of what is too old or too much.
    pub(super) fn trim(&mut self, now: Instant) {
        while let Some((at, _)) = self.entries.front() {
            let old = now.saturating_duration_since(*at) > self.bound.age;
            let much = self.load.bytes() > self.bound.bytes;
            // The last one stays for those who are about to read it.
            if !old && (!much || self.entries.len() == 1) {
                return;
            }
            self.drop_first();
        }
    }

    /// Lets go of what is needed for all rings together to be within `total`.
    pub(super) fn relieve(&mut self, total: usize) {
        while self.load.total() > total && self.entries.len() > 1 {
            self.drop_first();
        }
    }

    /// The bytes that it may hold.
    pub(super) fn most_bytes(&self) -> usize {
        self.bound.bytes
    }

    /// The bytes that it holds.
    pub(super) fn bytes(&self) -> usize {
        self.load.bytes()
    }

    /// Lets go of everything.
    pub(super) fn clear(&mut self) {
        while !self.entries.is_empty() {
            self.drop_first();
        }
    }

    fn drop_first(&mut self) {
        let Some((_, entry)) = self.entries.pop_front() else {
            return;
        };
        let record = entry.record();
        if let Some(key) = &record.key {
            self.keys.went(key, self.first);
        }
        self.first += 1;
        if let Some(range) = self.ranges.get_mut(&record.partition) {
            range.low = range.low.max(record.offset + 1);
        }
    }

    /// Whether one who stands at `cursor` misses nothing by reading on from here.
    #[cfg(test)]
    pub(super) fn joins(&self, cursor: &[(i32, i64)]) -> bool {
        cursor
            .iter()
            .all(|(partition, offset)| self.low(*partition).is_some_and(|low| low <= *offset))
    }

    /// The place from which one who stands at `cursor` reads on: all that comes before it was seen.
    pub(super) fn place_of(&self, cursor: &[(i32, i64)]) -> u64 {
        let mut open: Vec<(i32, i64)> = cursor
            .iter()
            .copied()
            .filter(|(partition, offset)| self.next(*partition).is_some_and(|next| *offset < next))
            .collect();
        let mut place = self.end();
        // Backwards, since most come at or near the end.
        for (_, entry) in self.entries.iter().rev() {
            if open.is_empty() {
                break;
            }
            let record = entry.record();
            open.retain(|(partition, offset)| {
                *partition != record.partition || *offset <= record.offset
            });
            place -= 1;
        }
        place
    }

    /// What is kept of the key at or after `place`, with where it stands; `None` where not all of it is
    /// known.
    pub(super) fn of_key(
        &self,
        key: &Bytes,
        place: u64,
    ) -> Option<impl Iterator<Item = (u64, &Arc<Entry>)>> {
        let places = self.keys.after(key, place)?;
        Some(places.filter_map(|at| {
            let index = usize::try_from(at.saturating_sub(self.first)).unwrap_or(usize::MAX);
            let (_, entry) = self.entries.get(index)?;
            Some((at, entry))
        }))
    }

    /// The same of one key.
    pub(super) fn pull_key(
        &self,
        key: &Bytes,
        place: u64,
        most_bytes: usize,
        mut wants: impl FnMut(&ConsumerRecord) -> bool,
    ) -> Pull {
        let of_key = |record: &ConsumerRecord| record.key.as_ref() == Some(key);
        let Some(known) = self.of_key(key, place) else {
            return self.pull(place, most_bytes, |record| of_key(record) && wants(record));
        };
        let mut entries = Vec::new();
        let mut bytes = 0;
        for (at, entry) in known {
            let record = entry.record();
            if !wants(record) {
                continue;
            }
            let size = record.size();
            if !entries.is_empty() && bytes + size > most_bytes {
                return Pull {
                    entries,
                    place: at,
                    at_end: false,
                };
            }
            bytes += size;
            entries.push(Arc::clone(entry));
        }
        Pull {
            entries,
            place: self.end(),
            at_end: true,
        }
    }

    /// Up to `most_bytes` of what stands at or after `place` and `wants` lets through, at least one; and
    /// no more than came together.
    pub(super) fn pull(
        &self,
        place: u64,
        most_bytes: usize,
        mut wants: impl FnMut(&ConsumerRecord) -> bool,
    ) -> Pull {
        let skip = usize::try_from(place.saturating_sub(self.first)).unwrap_or(usize::MAX);
        let mut entries = Vec::new();
        let mut bytes = 0;
        let mut place = place.max(self.first);
        let joint = self.joints.partition_point(|at| *at <= place);
        let joint = self.joints.get(joint).map_or(u64::MAX, |at| at - place);
        let together = usize::try_from(joint).unwrap_or(usize::MAX);
        for (_, entry) in self
            .entries
            .range(skip.min(self.entries.len())..)
            .take(MOST_PASSED.min(together))
        {
            let record = entry.record();
            if wants(record) {
                let size = record.size();
                if !entries.is_empty() && bytes + size > most_bytes {
                    break;
                }
                bytes += size;
                entries.push(Arc::clone(entry));
            }
            place += 1;
        }
        Pull {
            entries,
            at_end: place >= self.end(),
            place,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::super::tests::record;
    use super::*;

    fn ring(bytes: usize) -> Ring {
        let bound = Bound {
            bytes,
            age: Duration::from_secs(60),
        };
        Ring::new(bound, Arc::new(Load::new(Arc::new(AtomicUsize::new(0)))))
    }

    fn offsets(pull: &Pull) -> Vec<(i32, i64)> {
        let place = |entry: &Arc<Entry>| (entry.record().partition, entry.record().offset);
        pull.entries.iter().map(place).collect()
    }

    #[tokio::test]
    async fn a_ring_knows_which_offsets_it_has_dropped() {
        let mut ring = ring(1_000);
        ring.begin(0, 10);
        ring.begin(1, 5);
        for offset in 10..100 {
            ring.push(record(0, offset), Instant::now());
        }
        assert!(ring.low(0) > Some(90) && ring.next(0) == Some(100));
        assert_eq!((ring.low(1), ring.next(1)), (Some(5), Some(5)));
        assert!(ring.joins(&[(0, 100), (1, 5)]) && !ring.joins(&[(0, 50), (1, 5)]));
        assert!(!ring.joins(&[(0, 100), (1, 4)]) && !ring.joins(&[(2, 0)]));
        let low = ring.low(0).unwrap();
        let pull = ring.pull(ring.place_of(&[(0, low)]), 1 << 20, |_| true);
        assert_eq!(offsets(&pull).first(), Some(&(0, low)));
        assert!(pull.at_end);
    }

    #[tokio::test]
    async fn a_record_that_came_before_is_left_out() {
        let mut ring = ring(1 << 20);
        ring.begin(0, 0);
        for offset in [0, 1, 1, 0, 2] {
            ring.push(record(0, offset), Instant::now());
        }
        let pull = ring.pull(0, 1 << 20, |_| true);
        assert_eq!(offsets(&pull), [(0, 0), (0, 1), (0, 2)]);
        assert!(ring.reached(0, 9) && !ring.reached(0, 9) && !ring.reached(0, 8));
        assert_eq!(ring.next(0), Some(9));
        // A reader that begins where the last one stopped keeps all.
        ring.begin(0, 9);
        assert!(!ring.is_empty());
        let first = ring.first();
        ring.begin(0, 4);
        assert_eq!(ring.rewinds(), 1);
        assert!(ring.is_empty() && ring.first() > first);
        assert_eq!((ring.low(0), ring.next(0)), (Some(4), Some(4)));
    }

    #[tokio::test]
    async fn a_ring_drops_records_that_are_older_than_its_age() {
        let mut ring = ring(1 << 20);
        let now = Instant::now();
        ring.begin(0, 0);
        ring.push(record(0, 0), now);
        ring.push(record(0, 1), now + Duration::from_secs(50));
        ring.trim(now + Duration::from_secs(59));
        assert_eq!(ring.low(0), Some(0));
        ring.trim(now + Duration::from_secs(70));
        assert_eq!(ring.low(0), Some(1));
    }

    #[tokio::test]
    async fn a_pull_is_bounded_but_never_empty_for_its_size() {
        let mut ring = ring(1 << 20);
        ring.begin(0, 0);
        for offset in 0..10 {
            ring.push(record(0, offset), Instant::now());
        }
        let one = ring.pull(0, 0, |_| true);
        assert_eq!((offsets(&one), one.at_end), (vec![(0, 0)], false));
        let rest = ring.pull(one.place, 1 << 20, |record| record.offset % 2 == 0);
        assert_eq!(offsets(&rest), [(0, 2), (0, 4), (0, 6), (0, 8)]);
        assert!(rest.at_end && rest.place == ring.end());
    }
}
