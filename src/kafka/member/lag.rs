//! The gauges of what a member is behind, fed from what krafka knows anyway.

use metrics::{Gauge, gauge};

use crate::observe::metrics::own_labels;
use crate::record::TopicPartition;

/// The gauge of one partition of one group. It says 0 when the partition has left this process: the
/// recorder cannot forget.
#[derive(Debug)]
pub(super) struct Lag(Gauge);

impl Lag {
    /// `None` where the labels are used up: many partitions would write over each other.
    pub(super) fn of(group: &str, partition: &TopicPartition) -> Option<Self> {
        let (group, topic) = own_labels(group, &partition.topic)?;
        Some(Self(gauge!("kafka_consumer_lag",
            "group" => group, "topic" => topic, "partition" => partition.partition.to_string())))
    }

    pub(super) fn set(&self, records: u64) {
        #[expect(clippy::cast_precision_loss, reason = "a gauge is a float")]
        self.0.set(records as f64);
    }
}

impl Drop for Lag {
    fn drop(&mut self) {
        self.0.set(0.0);
    }
}
