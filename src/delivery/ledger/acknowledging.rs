//! What the client says of records that it has: that it is done with them, could not handle them, or needs
//! more time.

use std::time::{Duration, Instant};

use super::super::AckMode;
use super::super::partition::State;
use super::super::tags::{Found, PartitionId};
use super::{Ledger, Refused, Stale};
use crate::record::TopicPartition;

/// Longest time from a delivery to which its deadline can be moved.
const LONGEST_EXTENSION: Duration = Duration::from_secs(6_000);

impl Ledger {
    /// Whether the record under `tag` is with the client; `Ok(None)` when it is acknowledged.
    pub(super) fn in_flight_at(
        &self,
        tag: u64,
    ) -> Result<Option<(PartitionId, u64, Instant)>, Refused> {
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
    pub(in crate::delivery) fn is_out(&self, tag: u64) -> bool {
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
    pub(super) fn settle(&mut self, id: PartitionId, seq: u64) {
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
    pub(super) fn finish(&mut self, id: PartitionId, seq: u64) {
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
}
