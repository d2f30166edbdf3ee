//! When what is in flight comes again. Tags are given in the order of time and all have the same
//! time to be acknowledged, so their deadlines are kept for many at once; those that a client moved
//! are kept one by one.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::ops::Range;
use std::time::{Duration, Instant};

/// Deadlines that differ by less than this part of the whole time are one.
const PARTS: u32 = 64;
/// And never by less than this.
const FINEST: Duration = Duration::from_millis(5);

#[derive(Debug)]
struct Bucket {
    /// When the last of them is due.
    due: Instant,
    /// From here on a new bucket begins.
    until: Instant,
    tags: Range<u64>,
}

/// The deadlines of one subscription.
#[derive(Debug)]
pub(super) struct Deadlines {
    timeout: Option<Duration>,
    buckets: VecDeque<Bucket>,
    moved: HashMap<u64, Instant>,
    moved_by_time: BTreeSet<(Instant, u64)>,
}

impl Deadlines {
    pub(super) fn new(timeout: Option<Duration>) -> Self {
        Self {
            timeout,
            buckets: VecDeque::new(),
            moved: HashMap::new(),
            moved_by_time: BTreeSet::new(),
        }
    }

    /// `tag` goes out now; it is the highest so far.
    pub(super) fn set(&mut self, tag: u64, now: Instant) {
        let Some(timeout) = self.timeout else {
            return;
        };
        match self.buckets.back_mut() {
            Some(last) if now < last.until && last.tags.end == tag => last.tags.end = tag + 1,
            _ => {
                let width = (timeout / PARTS).max(FINEST);
                self.buckets.push_back(Bucket {
                    due: now + width + timeout,
                    until: now + width,
                    tags: tag..tag + 1,
                });
            }
        }
    }

    /// Moves one tag's deadline.
    pub(super) fn move_to(&mut self, tag: u64, due: Instant) {
        self.forget(tag);
        self.moved.insert(tag, due);
        self.moved_by_time.insert((due, tag));
    }

    /// `tag` is settled.
    pub(super) fn forget(&mut self, tag: u64) {
        if !self.moved.is_empty()
            && let Some(due) = self.moved.remove(&tag)
        {
            self.moved_by_time.remove(&(due, tag));
        }
    }

    /// When [`Deadlines::pop`] will have something to say.
    pub(super) fn next(&self) -> Option<Instant> {
        let bucket = self.buckets.front().map(|bucket| bucket.due);
        let moved = self.moved_by_time.first().map(|(due, _)| *due);
        bucket.into_iter().chain(moved).min()
    }

    /// Tags whose time is over; those among them that are settled, or for which
    /// [`Deadlines::is_moved`] holds, are to be passed over.
    pub(super) fn pop(&mut self, now: Instant) -> Option<Range<u64>> {
        if let Some((due, tag)) = self.moved_by_time.first().copied()
            && due <= now
        {
            self.forget(tag);
            return Some(tag..tag + 1);
        }
        let front = self.buckets.front()?;
        if front.due > now {
            return None;
        }
        self.buckets.pop_front().map(|bucket| bucket.tags)
    }

    pub(super) fn is_moved(&self, tag: u64) -> bool {
        self.moved.contains_key(&tag)
    }
}
