//! On which brokers partitions are: which are being moved, how they are moved, and how their leaders are elected.
//! Kafka's own topics are moved and led like all others: nothing of what is in them changes.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::may_see;
use crate::auth::Principal;
use crate::kafka::Cluster;
use crate::kafka::admin::{Election, OfPartitions, Reassignment, Target};
use crate::kafka::fault::Fault;
use crate::kafka::metadata::Topic;
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
    moved.retain(|one| may_see(principal, &one.partition));
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
    let partitions = partitions(&topic, None)?;
    cluster.reassignments(Some(&partitions)).await
}

/// A partition of a topic, or all of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Named {
    pub(crate) topic: Arc<str>,
    pub(crate) partition: Option<i32>,
}

/// Why nothing was done.
#[derive(Debug, PartialEq)]
pub(crate) enum NothingDone {
    /// What is named at this place is not there, or nobody can tell.
    Named(usize, Fault),
    /// What kept the controller from answering.
    Kafka(Fault),
}

impl NothingDone {
    /// Why, where it is clear of what.
    pub(crate) fn into_fault(self) -> Fault {
        match self {
            Self::Named(_, fault) | Self::Kafka(fault) => fault,
        }
    }
}

/// Has partitions moved to other brokers, or ends their moves: of each, what Kafka said. The route has asked for
/// the permission. Nothing is moved where a partition is not there.
///
/// # Errors
///
/// [`NothingDone`].
pub(crate) async fn reassign(
    cluster: &Cluster,
    targets: &[Target],
) -> Result<OfPartitions, NothingDone> {
    let named: Vec<Named> = targets
        .iter()
        .map(|(partition, _)| Named {
            topic: Arc::clone(&partition.topic),
            partition: Some(partition.partition),
        })
        .collect();
    existing(cluster, &named).await?;
    let answer = cluster.reassign(targets).await;
    answer.map_err(NothingDone::Kafka)
}

/// Has leaders elected of what is named, or of all partitions: of each, what Kafka said; of all only of those that
/// have another leader now. The route has asked for the permission.
///
/// # Errors
///
/// [`NothingDone`].
pub(crate) async fn elect_leaders(
    cluster: &Cluster,
    election: Election,
    named: Option<&[Named]>,
) -> Result<OfPartitions, NothingDone> {
    let partitions = match named {
        None => None,
        Some(named) => Some(existing(cluster, named).await?),
    };
    let elected = cluster.elect_leaders(election, partitions.as_deref());
    elected.await.map_err(NothingDone::Kafka)
}

/// The partitions that are named, each once, by topic and number.
async fn existing(cluster: &Cluster, named: &[Named]) -> Result<Vec<TopicPartition>, NothingDone> {
    let topics = cluster.metadata.topics().await;
    let topics = topics.map_err(NothingDone::Kafka)?;
    let mut found = BTreeSet::new();
    for (at, one) in named.iter().enumerate() {
        let listed = topics.binary_search_by(|topic| topic.name.cmp(&one.topic));
        let listed = listed.ok().and_then(|index| topics.get(index));
        let known = match listed.map(|topic| partitions(topic, one.partition)) {
            Some(Ok(known)) => known,
            // The list may be a second old.
            Some(Err(_)) | None => {
                let now = cluster.metadata.confirmed(&one.topic).await;
                let now = now.and_then(|topic| partitions(&topic, one.partition));
                now.map_err(|fault| NothingDone::Named(at, fault))?
            }
        };
        found.extend(known);
    }
    Ok(found.into_iter().collect())
}

fn partitions(topic: &Topic, wanted: Option<i32>) -> Result<Vec<TopicPartition>, Fault> {
    if let Some(wanted) = wanted {
        topic.partition(wanted)?;
        return Ok(vec![TopicPartition::new(&*topic.name, wanted)]);
    }
    let all = topic.partitions.iter();
    Ok(all
        .map(|partition| TopicPartition::new(&*topic.name, partition.id))
        .collect())
}
