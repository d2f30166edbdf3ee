//! From a tag to its record. Tags of records that went out one after the other stand together as a
//! run, so that a tag is found in the time it takes to find its run, and what is acknowledged leaves
//! nothing behind.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Instant;

/// Which partition, for one time that it was assigned.
pub(super) type PartitionId = u32;

/// Most runs that are kept of partitions that are gone, to say so to a late acknowledgement.
const MOST_STALE: usize = 10_000;

/// Tags that follow each other, for records that do too.
#[derive(Debug)]
struct Run {
    count: u64,
    partition: PartitionId,
    /// The first record's place in its partition.
    seq: u64,
    /// Records that are not acknowledged.
    open: u64,
    taken: Instant,
    stale: bool,
}

/// What a tag stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    /// Never given.
    Unknown,
    /// Acknowledged, so long ago that nothing is left of it.
    Settled,
    /// A record, by its partition and its place there.
    At(PartitionId, u64, Instant),
}

/// The tags of one subscription.
#[derive(Debug)]
pub(super) struct Tags {
    runs: BTreeMap<u64, Run>,
    next: u64,
    stale: usize,
}

impl Tags {
    /// `next` is the first tag that will be given.
    pub(super) fn new(next: u64) -> Self {
        Self {
            runs: BTreeMap::new(),
            next,
            stale: 0,
        }
    }

    /// The tag that will be given next.
    pub(super) fn next(&self) -> u64 {
        self.next
    }

    /// Gives the next `count` tags to the records from `seq` on.
    pub(super) fn give(&mut self, partition: PartitionId, seq: u64, count: u64, now: Instant) {
        if count == 0 {
            return;
        }
        self.runs.insert(
            self.next,
            Run {
                count,
                partition,
                seq,
                open: count,
                taken: now,
                stale: false,
            },
        );
        self.next += count;
    }

    pub(super) fn find(&self, tag: u64) -> Found {
        if tag == 0 || tag >= self.next {
            return Found::Unknown;
        }
        match self.runs.range(..=tag).next_back() {
            Some((first, run)) if tag - first < run.count => {
                Found::At(run.partition, run.seq + (tag - first), run.taken)
            }
            _ => Found::Settled,
        }
    }

    /// The record that was delivered under `tag` is acknowledged.
    pub(super) fn settle(&mut self, tag: u64) {
        if let Some((first, run)) = self.runs.range_mut(..=tag).next_back()
            && tag - first < run.count
        {
            run.open = run.open.saturating_sub(1);
            if run.open == 0 {
                let first = *first;
                self.runs.remove(&first);
            }
        }
    }

    /// `partition` is gone: what is left of it is stale.
    pub(super) fn stale(&mut self, partition: PartitionId) {
        for run in self.runs.values_mut() {
            if run.partition == partition && !run.stale {
                run.stale = true;
                self.stale += 1;
            }
        }
        if self.stale > MOST_STALE {
            let mut surplus = self.stale - MOST_STALE / 2;
            self.stale = MOST_STALE / 2;
            self.runs.retain(|_, run| {
                let drop = run.stale && surplus > 0;
                surplus -= usize::from(drop);
                !drop
            });
        }
    }

    /// The tags below `end` that may still be open, those of partitions that are gone too.
    pub(super) fn open_below(&self, end: u64) -> Vec<u64> {
        let runs = self.runs.range(..end);
        let tags = runs.flat_map(|(first, run)| *first..(first + run.count).min(end));
        tags.collect()
    }

    /// The tags in `range` that may still be open.
    pub(super) fn open_in(&self, range: Range<u64>) -> Vec<u64> {
        let before = self.runs.range(..range.start).next_back();
        before
            .into_iter()
            .chain(self.runs.range(range.clone()))
            .filter(|(_, run)| !run.stale)
            .flat_map(|(first, run)| *first..first + run.count)
            .filter(|tag| range.contains(tag))
            .collect()
    }
}
