//! Partitions in krafka's words, and what its answers say of each.

use std::collections::HashMap;

use krafka::admin::TopicPartition as KrafkaPartition;

use crate::kafka::fault::{Fault, FaultKind};
use crate::record::TopicPartition;

pub(super) fn to_krafka(partition: &TopicPartition) -> KrafkaPartition {
    KrafkaPartition::new(&*partition.topic, partition.partition)
}

pub(super) fn from_krafka(partition: &KrafkaPartition) -> TopicPartition {
    TopicPartition::new(&*partition.topic, partition.partition)
}

/// Takes what an answer says of `partition`: once, of one that was asked for twice.
///
/// # Errors
///
/// What is wrong with it, and that the broker does not mention it.
pub(super) fn take<T>(
    answers: &mut HashMap<KrafkaPartition, krafka::Result<T>>,
    partition: &TopicPartition,
) -> Result<T, Fault> {
    match answers.remove(&to_krafka(partition)) {
        Some(answer) => answer.map_err(Fault::from),
        None => Err(unmentioned(&partition.topic, partition.partition)),
    }
}

pub(super) fn unmentioned(topic: &str, partition: i32) -> Fault {
    Fault::new(
        FaultKind::Unavailable,
        format!("Partition {partition} of topic {topic}: the broker's answer does not mention it."),
    )
}
