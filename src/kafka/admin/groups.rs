//! What consumer groups have committed.

use std::collections::HashMap;
use std::time::Duration;

use krafka::admin::{ListConsumerGroupOffsetsOptions, TopicPartition as Place};

use super::{Admin, bounded};
use crate::kafka::fault::{Fault, FaultKind};
use crate::record::TopicPartition;

impl Admin {
    /// What `group` has committed for each of `partitions`; `None` is nothing.
    ///
    /// Offsets that a transaction has committed count once it is decided, and are waited for: asked
    /// for otherwise, the broker would answer what was there before, just after the commit too.
    /// krafka's consumer answers the same question, but takes a partition whose offset could not be
    /// read for one without.
    ///
    /// # Errors
    ///
    /// `NotAuthorized`, and whatever kept the group's coordinator from answering.
    pub async fn group_offsets(
        &self,
        group: &str,
        partitions: &[TopicPartition],
        bound: Duration,
    ) -> Result<HashMap<TopicPartition, Result<Option<i64>, Fault>>, Fault> {
        let places: Vec<Place> = partitions
            .iter()
            .map(|partition| Place::new(&*partition.topic, partition.partition))
            .collect();
        let options = ListConsumerGroupOffsetsOptions::default()
            .timeout(bound)
            .require_stable(true)
            .partitions(places.clone());
        let client = &self.link(bound).await?.client;
        let call = client.list_consumer_group_offsets(group, options);
        let mut found = bounded(bound, call).await?;
        Ok(partitions
            .iter()
            .zip(places)
            .map(|(partition, place)| {
                let answer = match found.remove(&place) {
                    Some(answer) => answer.map(|known| known.offset).map_err(Fault::from),
                    None => Err(Fault::new(
                        FaultKind::Unavailable,
                        format!(
                            "Partition {} of topic {}: the broker's answer does not mention it.",
                            partition.partition, partition.topic
                        ),
                    )),
                };
                (partition.clone(), answer)
            })
            .collect())
    }
}
