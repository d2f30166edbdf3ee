//! Partitions that are being moved to other brokers.

use crate::auth::Principal;
use crate::auth::permission::{Action, Resource, is_allowed};
use crate::kafka::Cluster;
use crate::kafka::admin::Reassignment;
use crate::kafka::fault::Fault;
use crate::record::TopicPartition;

/// All that are being moved, of the topics that `principal` may describe.
///
/// # Errors
///
/// What kept the controller from answering.
pub(crate) async fn reassignments(
    cluster: &Cluster,
    principal: &Principal,
) -> Result<Vec<Reassignment>, Fault> {
    let mut moved = cluster.reassignments(None).await?;
    moved.retain(|one| {
        is_allowed(
            principal,
            Action::Describe,
            Resource::Topic(&one.partition.topic),
        )
    });
    Ok(moved)
}

/// Those of a topic. The route has asked for the permission.
///
/// # Errors
///
/// `UnknownTopic`, and what kept the controller from answering.
pub(crate) async fn reassignments_of(
    cluster: &Cluster,
    topic: &str,
) -> Result<Vec<Reassignment>, Fault> {
    let topic = cluster.metadata.topic(topic).await?;
    let partitions: Vec<TopicPartition> = topic
        .partitions
        .iter()
        .map(|partition| TopicPartition::new(&*topic.name, partition.id))
        .collect();
    cluster.reassignments(Some(&partitions)).await
}
