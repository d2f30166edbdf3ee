//! The assignment, what Kafka gives and takes: partitions, their records, and which of them it is to hold
//! back.

use super::super::partition::{Partition, State};
use super::{Flow, Gone, Ledger, Left};
use crate::record::{ConsumerRecord, TopicPartition};

/// A partition is held back from here on, and goes on when half of it is left.
const MOST_QUEUED_RECORDS: u64 = 1_000;
const MOST_QUEUED_BYTES: u64 = 512 << 10;
/// All of them together.
const MOST_QUEUED_TOTAL: u64 = 4 << 20;
/// Partitions that were taken away, to say so to a late acknowledgement.
const MOST_GONE: usize = 1_000;

impl Ledger {
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

    /// `partition` goes on at `start`; all that is out of it is stale. What is committed stays.
    pub fn sought(&mut self, partition: &TopicPartition, start: i64, epoch: u64) -> Option<Left> {
        let paused = self.is_paused(partition);
        let held = self.get(partition).is_some_and(|p| p.held);
        let asked = self.get(partition).and_then(|p| p.asked);
        let left = self.revoke(partition, epoch)?;
        self.assign(partition.clone(), start, left.committed);
        if let Some(partition) = self.get_mut(partition) {
            partition.paused = paused;
            partition.held = held;
            partition.asked = asked;
        }
        Some(left)
    }

    /// `partition` is on its way to another position, or did not get there: nothing of it is
    /// delivered meanwhile.
    pub fn seeking(&mut self, partition: &TopicPartition, seeking: bool) {
        if let Some(partition) = self.get_mut(partition) {
            partition.seeking = seeking;
        }
    }

    /// Records came, and positions moved. What is not assigned is passed over.
    pub fn offer(&mut self, records: Vec<ConsumerRecord>, next: &[(TopicPartition, i64)]) {
        let mut records = records.into_iter().peekable();
        while let Some(first) = records.peek() {
            let key = TopicPartition::new(std::sync::Arc::clone(&first.topic), first.partition);
            let of_same = |record: &ConsumerRecord| {
                record.partition == key.partition && record.topic == key.topic
            };
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

    /// Whether a partition that was named by [`Ledger::new_gaps`] still stands still.
    pub fn has_told_gaps(&self) -> bool {
        self.partitions.values().any(|partition| partition.told_gap)
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
}
