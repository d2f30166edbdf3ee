//! What is to be committed, and where each partition stands.

use super::super::partition::Partition;
use super::{Ledger, Place};
use crate::record::TopicPartition;

impl Ledger {
    /// What is to be committed: the first offset that is not acknowledged of each partition where it
    /// is another one than Kafka was last asked to have.
    pub fn commits(&mut self) -> Vec<(TopicPartition, i64)> {
        let moved = self.partitions.values_mut().filter_map(|partition| {
            let low = partition.low();
            let moved = low != partition.requested && !partition.seeking;
            moved.then(|| {
                partition.request(low);
                (partition.key.clone(), low)
            })
        });
        moved.collect()
    }

    /// What is to be committed when the client asks for it: where the next record of each partition
    /// will be read, also where nothing was acknowledged since it started or was sought, if that is
    /// not what Kafka has or was asked to have.
    pub fn commits_of_all(&mut self) -> Vec<(TopicPartition, i64)> {
        let others = self.partitions.values_mut().filter_map(|partition| {
            let low = partition.low();
            let is_other = partition.asked != Some(low) && !partition.seeking;
            is_other.then(|| {
                partition.request(low);
                (partition.key.clone(), low)
            })
        });
        others.collect()
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

    /// The client itself says what Kafka is to have.
    pub fn requested(&mut self, partition: &TopicPartition, offset: i64) {
        if let Some(partition) = self.get_mut(partition) {
            partition.request(offset);
        }
    }

    /// What is committed of `partition`, as far as is known.
    pub fn committed_of(&self, partition: &TopicPartition) -> Option<i64> {
        self.get(partition)?.committed
    }

    /// What became of a commit of `offset`; one that failed is asked for again.
    pub fn committed(&mut self, partition: &TopicPartition, offset: i64, done: bool) {
        if let Some(partition) = self.get_mut(partition) {
            if done {
                partition.committed = Some(offset);
            } else if partition.asked == Some(offset) {
                partition.asked = partition.committed;
                if partition.requested == offset {
                    // Anything else than what is to be committed.
                    partition.requested = partition.committed.unwrap_or(i64::MIN);
                }
            }
        }
    }

    /// The first offset of `partition` that was never delivered.
    pub fn delivered_of(&self, partition: &TopicPartition) -> Option<i64> {
        self.get(partition).map(Partition::delivered)
    }

    /// The first offset of `partition` that is not acknowledged.
    pub fn low(&self, partition: &TopicPartition) -> Option<i64> {
        self.get(partition).map(Partition::low)
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
