//! What the client of one subscription has, has acknowledged and will get again.
//!
//! What must hold at all times, and is tested against a simple model:
//!
//! - what may be committed is never beyond the first record that is not acknowledged;
//! - what is acknowledged is not delivered again;
//! - what is not acknowledged is never passed over: it is delivered, again and again, or becomes a
//!   dead letter, or goes with its partition to whoever has it next;
//! - a record leaves the window once for each time that it entered.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::time::{Duration, Instant};

use super::deadlines::Deadlines;
use super::partition::{Partition, State, Trouble};
use super::tags::{Found, PartitionId, Tags};
use super::window::Window;
use super::{AckMode, Policy, Reason};
use crate::record::{Delivered, TopicPartition};

/// Longest time from a delivery to which its deadline can be moved.
const LONGEST_EXTENSION: Duration = Duration::from_secs(6_000);
/// Earlier tags of one record that are remembered.
const MOST_OLD_TAGS: usize = 16;
/// Pause before a dead letter is tried again, doubled each time up to the second.
const DEAD_LETTER_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_DEAD_LETTER_PAUSE: Duration = Duration::from_secs(30);
/// A partition is held back from here on, and goes on when half of it is left.
const MOST_QUEUED_RECORDS: u64 = 1_000;
const MOST_QUEUED_BYTES: u64 = 512 << 10;
/// All of them together.
const MOST_QUEUED_TOTAL: u64 = 4 << 20;
/// Partitions that were taken away, to say so to a late acknowledgement.
const MOST_GONE: usize = 1_000;

/// A record that goes out.
#[derive(Debug)]
pub struct Delivery<'a> {
    /// Unique in the session, and rising.
    pub tag: u64,
    /// How often it has been delivered, with this time.
    pub deliveries: u32,
    /// The record.
    pub record: &'a Delivered,
}

/// What became of a record that could go out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It goes out.
    Taken,
    /// It is done with, unseen.
    Skip,
    /// It becomes a dead letter, unseen.
    DeadLetter(Reason),
    /// It does not fit any more; it is asked for again next time.
    Full,
}

/// Most that goes out at once.
#[derive(Debug, Clone, Copy)]
pub struct Take {
    /// Records.
    pub records: usize,
    /// Bytes of keys, values and headers; a larger record goes alone.
    pub bytes: u64,
}

/// What went out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Took {
    /// How many records.
    pub records: usize,
    /// Those of them that went out before.
    pub redelivered: usize,
    /// The tag after the last one.
    pub end: u64,
    /// There is, or may be, more.
    pub more: bool,
}

/// Why an acknowledgement was not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refused {
    /// This tag was never given.
    Unknown {
        /// The tag.
        tag: u64,
    },
    /// It was given and is no longer valid.
    Stale {
        /// The tag.
        tag: u64,
        /// What became of it.
        why: Stale,
    },
}

/// Why a tag is no longer valid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stale {
    /// The record was refused, or its deadline passed, and comes again under another tag or has.
    Superseded(TopicPartition),
    /// Its partition was taken away or sought.
    Gone {
        /// The partition.
        partition: TopicPartition,
        /// The session's count of assignment changes with which it went.
        epoch: u64,
        /// What had been committed by then.
        committed: Option<i64>,
    },
}

/// What is left of a partition that goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Left {
    /// The first offset that is not acknowledged.
    pub low: i64,
    /// What is committed, as far as is known.
    pub committed: Option<i64>,
    /// Records that were delivered and are not acknowledged.
    pub unacked: u64,
}

/// Where a partition stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The partition.
    pub partition: TopicPartition,
    /// The next offset that will be delivered for the first time.
    pub delivered: i64,
    /// The first offset that is not acknowledged.
    pub acked: i64,
    /// What is committed, as far as is known.
    pub committed: Option<i64>,
}

/// Partitions that are to be held back, and those that are not any more.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Flow {
    /// Enough of these is waiting here.
    pub hold: Vec<TopicPartition>,
    /// Too little of these.
    pub go_on: Vec<TopicPartition>,
}

/// Names a dead letter until it is known what became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct DeadLetterId {
    partition: PartitionId,
    seq: u64,
}

/// A record for the dead-letter topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// To be given back with what became of it.
    pub id: DeadLetterId,
    /// The record.
    pub record: Delivered,
    /// How often it was delivered.
    pub deliveries: u32,
    /// Why it is one.
    pub reason: Reason,
}

/// A partition that was taken away.
#[derive(Debug)]
struct Gone {
    partition: TopicPartition,
    epoch: u64,
    committed: Option<i64>,
}

/// The state of one subscription's deliveries.
#[derive(Debug)]
pub struct Ledger {
    policy: Policy,
    partitions: BTreeMap<PartitionId, Partition>,
    ids: HashMap<TopicPartition, PartitionId>,
    next_id: PartitionId,
    /// Whose turn it is, by place in `order`.
    turn: usize,
    order: Vec<PartitionId>,
    tags: Tags,
    window: Window,
    deadlines: Deadlines,
    /// What waits for its time to go out again.
    due: BTreeSet<(Instant, PartitionId, u64)>,
    /// Records that have come back and are not acknowledged.
    waiting: usize,
    dead: VecDeque<DeadLetterId>,
    gone: BTreeMap<PartitionId, Gone>,
    held_bytes: u64,
}

impl Ledger {
    /// A ledger that gives tags from `first_tag` on.
    pub fn new(policy: Policy, first_tag: u64) -> Self {
        let auto = policy.ack == AckMode::Auto;
        Self {
            partitions: BTreeMap::new(),
            ids: HashMap::new(),
            next_id: 0,
            turn: 0,
            order: Vec::new(),
            tags: Tags::new(first_tag.max(1)),
            window: Window::new(policy.window, policy.max_records, policy.max_bytes),
            deadlines: Deadlines::new(policy.ack_timeout.filter(|_| !auto)),
            due: BTreeSet::new(),
            waiting: 0,
            dead: VecDeque::new(),
            gone: BTreeMap::new(),
            held_bytes: 0,
            policy,
        }
    }

    /// The tag that will be given next.
    pub fn next_tag(&self) -> u64 {
        self.tags.next()
    }

    /// Records and bytes in flight.
    pub fn in_flight(&self) -> (u64, u64) {
        self.window.in_flight()
    }

    /// Bytes of all records that are kept here.
    pub fn held_bytes(&self) -> u64 {
        self.held_bytes
    }

    /// Whether `partition` is assigned.
    pub fn has(&self, partition: &TopicPartition) -> bool {
        self.ids.contains_key(partition)
    }

    /// Whether the client has paused `partition`.
    pub fn is_paused(&self, partition: &TopicPartition) -> bool {
        self.get(partition).is_some_and(|p| p.paused)
    }

    fn get(&self, partition: &TopicPartition) -> Option<&Partition> {
        self.partitions.get(self.ids.get(partition)?)
    }

    fn get_mut(&mut self, partition: &TopicPartition) -> Option<&mut Partition> {
        self.partitions.get_mut(self.ids.get(partition)?)
    }

    // What Kafka gives and takes.

    /// `partition` is assigned, and delivery begins at `start`.
    pub fn assign(&mut self, partition: TopicPartition, start: i64, committed: Option<i64>) {
        if self.has(&partition) {
            return;
        }
        let id = self.next_id;
        self.next_id = self.next_id.wrapping_add(1);
        self.ids.insert(partition.clone(), id);
        self.partitions
            .insert(id, Partition::new(partition, start, committed));
        self.order.push(id);
    }

    /// `partition` goes. What of it is not acknowledged is not this ledger's any more.
    pub fn revoke(&mut self, partition: &TopicPartition, epoch: u64) -> Option<Left> {
        let id = self.ids.remove(partition)?;
        let gone = self.partitions.remove(&id)?;
        self.order.retain(|other| *other != id);
        for slot in gone.slots() {
            if slot.state == State::InFlight {
                self.window.settle(slot.bytes);
                self.deadlines.forget(slot.tag);
            }
            if slot.record.is_some() {
                self.held_bytes -= slot.bytes;
            }
        }
        self.waiting -= gone.troubled.len();
        self.due.retain(|(_, of, _)| *of != id);
        self.dead.retain(|dead| dead.partition != id);
        self.tags.stale(id);
        let left = Left {
            low: gone.low(),
            committed: gone.committed,
            unacked: gone.unacked(),
        };
        self.gone.insert(
            id,
            Gone {
                partition: gone.key,
                epoch,
                committed: gone.committed,
            },
        );
        while self.gone.len() > MOST_GONE {
            self.gone.pop_first();
        }
        Some(left)
    }

    /// Records came, and positions moved. What is not assigned is passed over.
    pub fn offer(&mut self, records: Vec<Delivered>, next: &[(TopicPartition, i64)]) {
        let mut records = records.into_iter().peekable();
        while let Some(first) = records.peek() {
            let key = TopicPartition::new(std::sync::Arc::clone(&first.topic), first.partition);
            let of_same =
                |record: &Delivered| record.partition == key.partition && record.topic == key.topic;
            let Some(partition) = self
                .ids
                .get(&key)
                .and_then(|id| self.partitions.get_mut(id))
            else {
                while records.next_if(|record| of_same(record)).is_some() {}
                continue;
            };
            while let Some(record) = records.next_if(|record| of_same(record)) {
                self.held_bytes += record.size() as u64;
                partition.offer(record);
            }
        }
        for (partition, next) in next {
            if let Some(partition) = self.get_mut(partition) {
                partition.advance(*next);
            }
        }
    }

    /// Which partitions Kafka is to hold back, and which not any more; says each once.
    pub fn flow(&mut self) -> Flow {
        let max_gap = self.policy.max_gap;
        // What stands still by itself must not stop the others.
        let total: u64 = self
            .partitions
            .values()
            .filter(|p| !p.has_gap(max_gap) && p.troubled.is_empty())
            .map(|p| p.queued_bytes)
            .sum();
        let mut flow = Flow::default();
        for partition in self.partitions.values_mut() {
            let full = partition.queued() >= MOST_QUEUED_RECORDS
                || partition.queued_bytes >= MOST_QUEUED_BYTES
                || (total >= MOST_QUEUED_TOTAL && partition.queued() > 0);
            let low = partition.queued() <= MOST_QUEUED_RECORDS / 2
                && partition.queued_bytes <= MOST_QUEUED_BYTES / 2
                && total <= MOST_QUEUED_TOTAL / 2;
            if full && !partition.held {
                partition.held = true;
                flow.hold.push(partition.key.clone());
            } else if partition.held && low {
                partition.held = false;
                flow.go_on.push(partition.key.clone());
            }
        }
        flow
    }

    /// Partitions that now stand still because their first record that is not acknowledged is too
    /// far back; each is named once until it moves again.
    pub fn new_gaps(&mut self) -> Vec<TopicPartition> {
        let max_gap = self.policy.max_gap;
        let mut gaps = Vec::new();
        for partition in self.partitions.values_mut() {
            let has_gap = partition.has_gap(max_gap);
            if has_gap && !partition.told_gap {
                gaps.push(partition.key.clone());
            }
            partition.told_gap = has_gap;
        }
        gaps
    }

    // What the client wants.

    /// More credit.
    pub fn credit(&mut self, records: u64, bytes: Option<u64>) {
        self.window.credit(records, bytes);
    }

    /// Divides what may be in flight by two to this power, while memory is short.
    pub fn squeeze(&mut self, squeeze: u32) {
        self.window.squeeze(squeeze);
    }

    /// The client wants nothing of `partition`, or does again. False when it is not assigned.
    pub fn pause(&mut self, partition: &TopicPartition, paused: bool) -> bool {
        self.get_mut(partition).is_some_and(|partition| {
            partition.paused = paused;
            true
        })
    }

    /// All assigned partitions.
    pub fn partitions(&self) -> impl Iterator<Item = &TopicPartition> {
        self.partitions.values().map(|partition| &partition.key)
    }

    /// `partition` is on its way to another position, or did not get there: nothing of it is
    /// delivered meanwhile.
    pub fn seeking(&mut self, partition: &TopicPartition, seeking: bool) {
        if let Some(partition) = self.get_mut(partition) {
            partition.seeking = seeking;
        }
    }

    /// `partition` goes on at `start`; all that is out of it is stale. What is committed stays.
    pub fn sought(&mut self, partition: &TopicPartition, start: i64, epoch: u64) -> Option<Left> {
        let paused = self.is_paused(partition);
        let held = self.get(partition).is_some_and(|p| p.held);
        let left = self.revoke(partition, epoch)?;
        self.assign(partition.clone(), start, left.committed);
        if let Some(partition) = self.get_mut(partition) {
            partition.paused = paused;
            partition.held = held;
        }
        Some(left)
    }

    // Deliveries.

    /// Hands out what may go out now, as far as the window and `most` allow. Partitions take turns.
    pub fn take(
        &mut self,
        now: Instant,
        most: Take,
        mut each: impl FnMut(Delivery<'_>) -> Verdict,
    ) -> Took {
        let mut took = Took {
            records: 0,
            redelivered: 0,
            end: self.tags.next(),
            more: false,
        };
        let mut bytes = 0;
        let turns = self.order.len();
        for _ in 0..turns {
            self.turn %= turns;
            let Some(id) = self.order.get(self.turn).copied() else {
                break;
            };
            took.more = self.take_from(id, now, most, &mut bytes, &mut took, &mut each);
            if took.more {
                // The rest of this partition waits until the others had their turn.
                self.turn += 1;
                break;
            }
            self.turn += 1;
        }
        took.end = self.tags.next();
        took
    }

    /// True when something stopped it that had nothing to do with the partition.
    fn take_from(
        &mut self,
        id: PartitionId,
        now: Instant,
        most: Take,
        bytes: &mut u64,
        took: &mut Took,
        each: &mut impl FnMut(Delivery<'_>) -> Verdict,
    ) -> bool {
        let policy = &self.policy;
        let Some(partition) = self.partitions.get_mut(&id) else {
            return false;
        };
        let auto = policy.ack == AckMode::Auto;
        // The run of tags that is being given, by its first place and length.
        let mut run: Option<(u64, u64)> = None;
        let mut stopped = false;
        loop {
            let new_ones = self.waiting < policy.max_waiting;
            let Some(seq) = partition.candidate(policy.order, policy.max_gap, new_ones) else {
                break;
            };
            let Some(slot) = partition.get_mut(seq) else {
                break;
            };
            let size = slot.bytes;
            let full = took.records > 0 && bytes.saturating_add(size) > most.bytes;
            if took.records >= most.records || full || !self.window.admits(size) {
                stopped = true;
                break;
            }
            let Some(record) = &slot.record else {
                break;
            };
            let tag = self.tags.next() + run.map_or(0, |(_, count)| count);
            let verdict = each(Delivery {
                tag,
                deliveries: slot.deliveries + 1,
                record,
            });
            match verdict {
                Verdict::Full => {
                    stopped = true;
                    break;
                }
                Verdict::Skip => {
                    slot.state = State::Acked;
                    slot.record = None;
                    self.held_bytes -= size;
                    let tag = slot.tag;
                    let deliveries = slot.deliveries;
                    partition.pass(seq);
                    if let Some(trouble) = partition.troubled.remove(&seq) {
                        self.waiting -= 1;
                        partition.ready.remove(&seq);
                        trouble.old_tags.iter().for_each(|t| self.tags.settle(*t));
                    }
                    if deliveries > 0 {
                        self.tags.settle(tag);
                    }
                    partition.settle_front();
                }
                Verdict::DeadLetter(reason) => {
                    slot.state = State::DeadLettering;
                    partition.pass(seq);
                    partition.ready.remove(&seq);
                    let trouble = partition.troubled.entry(seq).or_insert_with(|| {
                        self.waiting += 1;
                        Trouble::default()
                    });
                    trouble.reason = Some(reason);
                    trouble.due = None;
                    self.dead.push_back(DeadLetterId { partition: id, seq });
                }
                Verdict::Taken => {
                    let old = slot.tag;
                    let again = slot.deliveries > 0;
                    slot.state = State::InFlight;
                    slot.deliveries += 1;
                    slot.tag = tag;
                    if auto {
                        slot.record = None;
                        self.held_bytes -= size;
                    }
                    partition.pass(seq);
                    if again {
                        took.redelivered += 1;
                        partition.ready.remove(&seq);
                        if let Some(trouble) = partition.troubled.get_mut(&seq) {
                            trouble.due = None;
                            trouble.old_tags.push(old);
                            if trouble.old_tags.len() > MOST_OLD_TAGS {
                                let oldest = trouble.old_tags.remove(0);
                                self.tags.settle(oldest);
                            }
                        }
                    }
                    self.window.take(size);
                    if !auto {
                        self.deadlines.set(tag, now);
                    }
                    took.records += 1;
                    *bytes += size;
                    match &mut run {
                        Some((first, count)) if *first + *count == seq => *count += 1,
                        _ => {
                            if let Some((first, count)) = run {
                                self.tags.give(id, first, count, now);
                            }
                            run = Some((seq, 1));
                        }
                    }
                }
            }
        }
        if let Some((first, count)) = run {
            self.tags.give(id, first, count, now);
        }
        stopped
    }

    /// In [`AckMode::Auto`]: all before the tag `end` has been written to the client's connection.
    pub fn flushed(&mut self, end: u64) {
        if self.policy.ack != AckMode::Auto {
            return;
        }
        // One by one and not until none is left: what the client has acknowledged before, out of its
        // turn, is among them.
        for tag in self.tags.open_below(end) {
            match self.tags.find(tag) {
                Found::At(id, seq, _) if self.partitions.contains_key(&id) => {
                    self.settle(id, seq);
                }
                Found::At(..) => self.tags.settle(tag),
                Found::Unknown | Found::Settled => {}
            }
        }
    }

    // Acknowledgements.

    /// Whether the record under `tag` is with the client; `Ok(None)` when it is acknowledged.
    fn in_flight_at(&self, tag: u64) -> Result<Option<(PartitionId, u64, Instant)>, Refused> {
        let (id, seq, taken) = match self.tags.find(tag) {
            Found::Unknown => return Err(Refused::Unknown { tag }),
            Found::Settled => return Ok(None),
            Found::At(id, seq, taken) => (id, seq, taken),
        };
        let Some(partition) = self.partitions.get(&id) else {
            return match self.gone.get(&id) {
                Some(gone) => Err(Refused::Stale {
                    tag,
                    why: Stale::Gone {
                        partition: gone.partition.clone(),
                        epoch: gone.epoch,
                        committed: gone.committed,
                    },
                }),
                None => Ok(None),
            };
        };
        match partition.get(seq) {
            None => Ok(None),
            Some(slot) if slot.state == State::Acked => Ok(None),
            Some(slot) if slot.tag == tag && slot.state == State::InFlight => {
                Ok(Some((id, seq, taken)))
            }
            Some(_) => Err(Refused::Stale {
                tag,
                why: Stale::Superseded(partition.key.clone()),
            }),
        }
    }

    #[cfg(test)]
    pub(super) fn is_out(&self, tag: u64) -> bool {
        matches!(self.in_flight_at(tag), Ok(Some(_)))
    }

    /// The client is done with the records under these tags, or, in [`AckMode::Cumulative`], with
    /// all up to each of them in its partition. Tags that are acknowledged already are passed over.
    pub fn ack(&mut self, tags: &[u64]) -> Vec<Refused> {
        let mut refused = Vec::new();
        for tag in tags {
            match self.in_flight_at(*tag) {
                Err(why) => refused.push(why),
                Ok(None) => {}
                Ok(Some((id, seq, _))) if self.policy.ack == AckMode::Cumulative => {
                    self.settle_through(id, seq);
                }
                Ok(Some((id, seq, _))) => self.settle(id, seq),
            }
        }
        refused
    }

    /// The client is done with all records of `partition` that were delivered, up to this offset
    /// and with it. False when the partition is not assigned.
    pub fn ack_through(&mut self, partition: &TopicPartition, offset: i64) -> bool {
        let Some(id) = self.ids.get(partition).copied() else {
            return false;
        };
        let last = self
            .partitions
            .get(&id)
            .and_then(|p| p.last_through(offset));
        if let Some(last) = last {
            self.settle_through(id, last);
        }
        true
    }

    fn settle_through(&mut self, id: PartitionId, last: u64) {
        let Some(first) = self.partitions.get(&id).map(|p| p.out().start) else {
            return;
        };
        for seq in first..=last {
            self.settle(id, seq);
        }
    }

    /// A record is done with, wherever it was.
    fn settle(&mut self, id: PartitionId, seq: u64) {
        let Some(partition) = self.partitions.get_mut(&id) else {
            return;
        };
        let Some(slot) = partition.get_mut(seq) else {
            return;
        };
        match slot.state {
            // One that is on its way to the dead-letter topic cannot be called back.
            State::Acked | State::Queued | State::DeadLettering => return,
            State::InFlight => {
                self.window.settle(slot.bytes);
                self.deadlines.forget(slot.tag);
            }
            State::Waiting => {}
        }
        self.finish(id, seq);
    }

    /// Marks a record as acknowledged and forgets what was kept of it.
    fn finish(&mut self, id: PartitionId, seq: u64) {
        let Some(partition) = self.partitions.get_mut(&id) else {
            return;
        };
        let Some(slot) = partition.get_mut(seq) else {
            return;
        };
        slot.state = State::Acked;
        if slot.record.take().is_some() {
            self.held_bytes -= slot.bytes;
        }
        if slot.deliveries > 0 {
            let tag = slot.tag;
            self.tags.settle(tag);
        }
        if let Some(trouble) = partition.troubled.remove(&seq) {
            self.waiting -= 1;
            partition.ready.remove(&seq);
            if let Some(due) = trouble.due {
                self.due.remove(&(due, id, seq));
            }
            for tag in trouble.old_tags {
                self.tags.settle(tag);
            }
        }
        partition.settle_front();
    }

    /// The client could not handle the record under `tag`: it comes again after `delay`, or becomes
    /// a dead letter, at once if that is what the client wants. In [`AckMode::Auto`] neither: nothing
    /// of the record is kept.
    ///
    /// # Errors
    ///
    /// The tag was never given, or is no longer valid.
    pub fn nack(
        &mut self,
        tag: u64,
        now: Instant,
        delay: Duration,
        dead_letter: bool,
        reason: Option<String>,
    ) -> Result<(), Refused> {
        if let Some((id, seq, _)) = self.in_flight_at(tag)?
            && self.policy.ack != AckMode::Auto
        {
            if let Some(slot) = self.partitions.get(&id).and_then(|p| p.get(seq)) {
                self.window.settle(slot.bytes);
            }
            self.return_record(id, seq, now + delay, dead_letter, reason, now);
        }
        Ok(())
    }

    /// Gives the client more time for the record under `tag`.
    ///
    /// # Errors
    ///
    /// As [`Ledger::nack`].
    pub fn extend(&mut self, tag: u64, now: Instant, time: Duration) -> Result<(), Refused> {
        if let Some((_, _, taken)) = self.in_flight_at(tag)?
            && self.policy.ack_timeout.is_some()
        {
            let due = (now + time).min(taken + LONGEST_EXTENSION);
            self.deadlines.move_to(tag, due);
        }
        Ok(())
    }

    /// What was in flight, and is out of the window already, comes back.
    fn return_record(
        &mut self,
        id: PartitionId,
        seq: u64,
        due: Instant,
        dead_letter: bool,
        words: Option<String>,
        now: Instant,
    ) {
        let policy = &self.policy;
        let Some(partition) = self.partitions.get_mut(&id) else {
            return;
        };
        let Some(slot) = partition.get_mut(seq) else {
            return;
        };
        self.deadlines.forget(slot.tag);
        let exhausted = slot.deliveries >= policy.max_deliveries;
        let dead = policy.dead_letters && (dead_letter || exhausted);
        slot.state = if dead {
            State::DeadLettering
        } else {
            State::Waiting
        };
        // The rest of the fetch it came with must not be kept for as long as it is.
        if let Some(record) = &mut slot.record {
            detach(record);
        }
        let trouble = partition.troubled.entry(seq).or_insert_with(|| {
            self.waiting += 1;
            Trouble::default()
        });
        if dead {
            trouble.reason = Some(if dead_letter {
                Reason::Refused(words)
            } else {
                Reason::Exhausted(words)
            });
            self.dead.push_back(DeadLetterId { partition: id, seq });
        } else if due <= now {
            partition.ready.insert(seq);
        } else {
            trouble.due = Some(due);
            self.due.insert((due, id, seq));
        }
    }

    // Time.

    /// When [`Ledger::tick`] will have something to do.
    pub fn next_tick(&self) -> Option<Instant> {
        let due = self.due.first().map(|(due, _, _)| *due);
        due.into_iter().chain(self.deadlines.next()).min()
    }

    /// Does what time has brought about; returns how many records were not acknowledged in time.
    pub fn tick(&mut self, now: Instant) -> usize {
        let mut expired = 0;
        while let Some(range) = self.deadlines.pop(now) {
            for tag in self.tags.open_in(range) {
                if self.deadlines.is_moved(tag) {
                    continue;
                }
                if let Ok(Some((id, seq, _))) = self.in_flight_at(tag) {
                    expired += 1;
                    if let Some(slot) = self.partitions.get(&id).and_then(|p| p.get(seq)) {
                        self.window.expire(slot.bytes);
                    }
                    self.return_record(id, seq, now, false, None, now);
                }
            }
        }
        while let Some((due, id, seq)) = self.due.first().copied()
            && due <= now
        {
            self.due.remove(&(due, id, seq));
            let Some(partition) = self.partitions.get_mut(&id) else {
                continue;
            };
            if let Some(trouble) = partition.troubled.get_mut(&seq) {
                trouble.due = None;
            }
            match partition.get(seq).map(|slot| slot.state) {
                Some(State::Waiting) => {
                    partition.ready.insert(seq);
                }
                Some(State::DeadLettering) => {
                    self.dead.push_back(DeadLetterId { partition: id, seq });
                }
                _ => {}
            }
        }
        expired
    }

    // Dead letters.

    /// The next record for the dead-letter topic.
    pub fn next_dead_letter(&mut self) -> Option<DeadLetter> {
        while let Some(id) = self.dead.pop_front() {
            let Some(partition) = self.partitions.get(&id.partition) else {
                continue;
            };
            let (Some(slot), Some(trouble)) =
                (partition.get(id.seq), partition.troubled.get(&id.seq))
            else {
                continue;
            };
            if let Some(record) = &slot.record {
                return Some(DeadLetter {
                    id,
                    record: record.clone(),
                    deliveries: slot.deliveries,
                    reason: trouble.reason.clone().unwrap_or(Reason::Exhausted(None)),
                });
            }
        }
        None
    }

    /// What became of a dead letter: it was written, and its record is done with; or not, and it is
    /// tried again after a pause. True when it counted.
    pub fn dead_lettered(&mut self, id: DeadLetterId, written: bool, now: Instant) -> bool {
        let Some(partition) = self.partitions.get_mut(&id.partition) else {
            return false;
        };
        if partition.get(id.seq).map(|slot| slot.state) != Some(State::DeadLettering) {
            return false;
        }
        if written {
            self.finish(id.partition, id.seq);
            return true;
        }
        if let Some(trouble) = partition.troubled.get_mut(&id.seq) {
            let pause = DEAD_LETTER_PAUSE * 2_u32.pow(trouble.failures.min(6));
            let due = now + pause.min(LONGEST_DEAD_LETTER_PAUSE);
            trouble.failures += 1;
            trouble.due = Some(due);
            self.due.insert((due, id.partition, id.seq));
        }
        true
    }

    // Commits.

    /// What is to be committed: the first offset that is not acknowledged of each partition where it
    /// is another one than Kafka was last asked to have.
    pub fn commits(&mut self) -> Vec<(TopicPartition, i64)> {
        let moved = self.partitions.values_mut().filter_map(|partition| {
            let low = partition.low();
            let moved = low != partition.requested && !partition.seeking;
            moved.then(|| {
                partition.requested = low;
                (partition.key.clone(), low)
            })
        });
        moved.collect()
    }

    /// Whether there is anything to commit.
    pub fn has_commits(&self) -> bool {
        self.partitions
            .values()
            .any(|partition| partition.low() != partition.requested && !partition.seeking)
    }

    /// What Kafka was last asked to have of `partition`.
    pub fn requested_of(&self, partition: &TopicPartition) -> Option<i64> {
        self.get(partition).map(|partition| partition.requested)
    }

    /// What is committed of `partition`, as far as is known.
    pub fn committed_of(&self, partition: &TopicPartition) -> Option<i64> {
        self.get(partition)?.committed
    }

    /// The first offset of `partition` that was never delivered.
    pub fn delivered_of(&self, partition: &TopicPartition) -> Option<i64> {
        self.get(partition).map(Partition::delivered)
    }

    /// Records that were never delivered.
    pub fn queued(&self) -> u64 {
        self.partitions.values().map(Partition::queued).sum()
    }

    /// The first offset of `partition` that is not acknowledged.
    pub fn low(&self, partition: &TopicPartition) -> Option<i64> {
        self.get(partition).map(Partition::low)
    }

    /// The client itself says what Kafka is to have.
    pub fn requested(&mut self, partition: &TopicPartition, offset: i64) {
        if let Some(partition) = self.get_mut(partition) {
            partition.requested = offset;
        }
    }

    /// What became of a commit of `offset`; one that failed is asked for again.
    pub fn committed(&mut self, partition: &TopicPartition, offset: i64, done: bool) {
        if let Some(partition) = self.get_mut(partition) {
            if done {
                partition.committed = Some(offset);
            } else if partition.requested == offset {
                // Anything else than what is to be committed.
                partition.requested = partition.committed.unwrap_or(i64::MIN);
            }
        }
    }

    /// Records of `partition` that were delivered and are not acknowledged.
    pub fn unacked(&self, partition: &TopicPartition) -> u64 {
        self.get(partition).map_or(0, Partition::unacked)
    }

    /// Where each partition stands.
    pub fn places(&self) -> Vec<Place> {
        let places = self.partitions.values().map(|partition| Place {
            partition: partition.key.clone(),
            delivered: partition.delivered(),
            acked: partition.low(),
            committed: partition.committed,
        });
        places.collect()
    }
}

/// Makes a record's bytes its own: they are a piece of a whole fetch.
fn detach(record: &mut Delivered) {
    let own = |bytes: &mut Option<bytes::Bytes>| {
        if let Some(bytes) = bytes {
            *bytes = bytes::Bytes::copy_from_slice(bytes);
        }
    };
    own(&mut record.key);
    own(&mut record.value);
    for header in &mut record.headers {
        own(&mut header.value);
    }
}
