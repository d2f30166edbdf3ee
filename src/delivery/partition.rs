//! The records of one partition, from the first that is not acknowledged to the last that was
//! offered, each with its state. What is acknowledged at the front is forgotten, so the front tells
//! what may be committed; nothing is ever forgotten in the middle.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Instant;

use super::{Order, Reason};
use crate::record::{ConsumerRecord, TopicPartition};

/// How a record stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// Offered, never delivered.
    Queued,
    /// With the client.
    InFlight,
    /// To be delivered again, now or later.
    Waiting,
    /// On its way to the dead-letter topic.
    DeadLettering,
    /// Done with.
    Acked,
}

#[derive(Debug)]
pub(super) struct Slot {
    pub(super) offset: i64,
    pub(super) bytes: u64,
    pub(super) deliveries: u32,
    pub(super) state: State,
    /// The tag of the last delivery.
    pub(super) tag: u64,
    /// `None` when it is not needed any more.
    pub(super) record: Option<ConsumerRecord>,
}

/// What is kept beside a record that was not simply acknowledged.
#[derive(Debug, Default)]
pub(super) struct Trouble {
    /// The tags of its earlier deliveries.
    pub(super) old_tags: Vec<u64>,
    /// When it may go out again; `None` while nothing is waited for.
    pub(super) due: Option<Instant>,
    pub(super) reason: Option<Reason>,
    /// How often it could not be written to the dead-letter topic.
    pub(super) failures: u32,
}

#[derive(Debug)]
pub(super) struct Partition {
    pub(super) key: TopicPartition,
    slots: VecDeque<Slot>,
    /// The front's place: places are counted from 0 for as long as the partition is assigned.
    base: u64,
    /// The place of the first record that was never delivered.
    fresh: u64,
    /// The next offset that will be offered.
    next: i64,
    /// Records that have come back and are not acknowledged, by place.
    pub(super) troubled: BTreeMap<u64, Trouble>,
    /// Those of them that may go out now.
    pub(super) ready: BTreeSet<u64>,
    /// Bytes of records that were never delivered.
    pub(super) queued_bytes: u64,
    /// What Kafka has, as far as is known.
    pub(super) committed: Option<i64>,
    /// What Kafka was asked to have, or where the partition started.
    pub(super) requested: i64,
    /// What Kafka has, or was asked to have since.
    pub(super) asked: Option<i64>,
    /// The client wants nothing of it.
    pub(super) paused: bool,
    /// It is on its way to another position.
    pub(super) seeking: bool,
    /// Kafka was asked to hold it back.
    pub(super) held: bool,
    /// The client was told that it stands still for its gap.
    pub(super) told_gap: bool,
}

impl Partition {
    pub(super) fn new(key: TopicPartition, start: i64, committed: Option<i64>) -> Self {
        Self {
            key,
            slots: VecDeque::new(),
            base: 0,
            fresh: 0,
            next: start,
            troubled: BTreeMap::new(),
            ready: BTreeSet::new(),
            queued_bytes: 0,
            committed,
            requested: start,
            asked: committed,
            paused: false,
            seeking: false,
            held: false,
            told_gap: false,
        }
    }

    /// A record to be delivered after those that are here.
    pub(super) fn offer(&mut self, record: ConsumerRecord) {
        let bytes = record.size() as u64;
        self.next = self.next.max(record.offset + 1);
        self.queued_bytes += bytes;
        self.slots.push_back(Slot {
            offset: record.offset,
            bytes,
            deliveries: 0,
            state: State::Queued,
            tag: 0,
            record: Some(record),
        });
    }

    /// Kafka is asked to have this.
    pub(super) fn request(&mut self, offset: i64) {
        self.requested = offset;
        self.asked = Some(offset);
    }

    /// All before this offset has been offered, or never will be.
    pub(super) fn advance(&mut self, next: i64) {
        self.next = self.next.max(next);
    }

    /// The first offset that is not acknowledged: what may be committed.
    pub(super) fn low(&self) -> i64 {
        self.slots.front().map_or(self.next, |slot| slot.offset)
    }

    /// The first offset that was never delivered.
    pub(super) fn delivered(&self) -> i64 {
        self.get(self.fresh).map_or(self.next, |slot| slot.offset)
    }

    pub(super) fn get(&self, seq: u64) -> Option<&Slot> {
        self.slots.get(index(seq.checked_sub(self.base)?)?)
    }

    pub(super) fn get_mut(&mut self, seq: u64) -> Option<&mut Slot> {
        self.slots.get_mut(index(seq.checked_sub(self.base)?)?)
    }

    /// Places of the records that have been delivered and may not be acknowledged.
    pub(super) fn out(&self) -> std::ops::Range<u64> {
        self.base..self.fresh
    }

    /// The last record that was delivered whose offset is not beyond this one.
    pub(super) fn last_through(&self, offset: i64) -> Option<u64> {
        let count = self.slots.partition_point(|slot| slot.offset <= offset) as u64;
        let end = (self.base + count).min(self.fresh);
        (end > self.base).then(|| end - 1)
    }

    /// Records that were never delivered.
    pub(super) fn queued(&self) -> u64 {
        self.base + self.slots.len() as u64 - self.fresh
    }

    /// Records that were delivered and are not acknowledged.
    pub(super) fn unacked(&self) -> u64 {
        let out = self.out();
        let states = self
            .slots
            .iter()
            .take(index(out.end - out.start).unwrap_or(0));
        states.filter(|slot| slot.state != State::Acked).count() as u64
    }

    /// Whether new records stand still because the first that is not acknowledged is too far back.
    pub(super) fn has_gap(&self, max_gap: i64) -> bool {
        self.get(self.fresh)
            .is_some_and(|slot| slot.offset - self.low() >= max_gap)
    }

    /// The record that may go out next, if there is one.
    pub(super) fn candidate(&self, order: Order, max_gap: i64, new_ones: bool) -> Option<u64> {
        if self.paused || self.seeking {
            return None;
        }
        match order {
            Order::Partition => {
                if let Some((first, _)) = self.troubled.first_key_value() {
                    return self.ready.first().copied().filter(|ready| ready == first);
                }
            }
            Order::Relaxed => {
                if let Some(first) = self.ready.first() {
                    return Some(*first);
                }
            }
        }
        let fresh = new_ones && self.queued() > 0 && !self.has_gap(max_gap);
        fresh.then_some(self.fresh)
    }

    /// The first new record goes out, or is done with unseen.
    pub(super) fn pass(&mut self, seq: u64) {
        if seq == self.fresh
            && let Some(slot) = self.get(seq)
        {
            self.queued_bytes -= slot.bytes;
            self.fresh += 1;
        }
    }

    /// Forgets what is acknowledged at the front.
    pub(super) fn settle_front(&mut self) {
        while self.base < self.fresh
            && self
                .slots
                .front()
                .is_some_and(|slot| slot.state == State::Acked)
        {
            self.slots.pop_front();
            self.base += 1;
        }
        // A burst must not be paid for as long as the partition is assigned.
        if self.slots.is_empty() && self.slots.capacity() > 1024 {
            self.slots = VecDeque::new();
        }
    }

    pub(super) fn slots(&self) -> impl Iterator<Item = &Slot> {
        self.slots.iter()
    }
}

fn index(distance: u64) -> Option<usize> {
    usize::try_from(distance).ok()
}
