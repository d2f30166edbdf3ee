//! Delivers what goes out, as far as the window allows.

use std::time::Instant;

use super::super::AckMode;
use super::super::partition::{State, Trouble};
use super::super::tags::{Found, PartitionId};
use super::{DeadLetterId, Delivery, Ledger, Take, Took, Verdict};

/// Earlier tags of one record that are remembered.
const MOST_OLD_TAGS: usize = 16;

impl Ledger {
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
}
