//! On which brokers partitions are: they are moved to other brokers, and their leaders are elected.

use std::time::Duration;

use krafka::admin::{
    AlterPartitionReassignmentsOptions, ElectLeadersOptions, ElectionType,
    ListPartitionReassignmentsOptions,
};

use super::partitions::{from_krafka, take, to_krafka};
use super::{Admin, bounded};
use crate::kafka::fault::Fault;
use crate::record::TopicPartition;

/// A partition that is being moved to other brokers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reassignment {
    /// Which partition.
    pub(crate) partition: TopicPartition,
    /// The brokers that hold it, those that are to get and to lose it included.
    pub(crate) replicas: Vec<i32>,
    /// Those that are to get it.
    pub(crate) adding: Vec<i32>,
    /// Those that are to lose it.
    pub(crate) removing: Vec<i32>,
}

/// Which brokers are to have a partition, the preferred leader first; `None` ends its move.
pub(crate) type Target = (TopicPartition, Option<Vec<i32>>);

/// What became of each partition.
pub(crate) type OfPartitions = Vec<(TopicPartition, Result<(), Fault>)>;

/// Which replica is to lead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Election {
    /// The first of its replicas.
    Preferred,
    /// Any that is there where none is in sync: what the others had and it has not is lost (KIP-460).
    Unclean,
}

impl Admin {
    /// The partitions that are being moved, by topic and number: of `partitions`, or of all.
    ///
    /// # Errors
    ///
    /// `NotAuthorized`, and whatever kept the controller from answering.
    pub(crate) async fn reassignments(
        &self,
        partitions: Option<&[TopicPartition]>,
        bound: Duration,
    ) -> Result<Vec<Reassignment>, Fault> {
        let mut options = ListPartitionReassignmentsOptions::default().timeout(bound);
        if let Some(partitions) = partitions {
            options = options.partitions(partitions.iter().map(to_krafka).collect());
        }
        let client = &self.link(bound).await?.client;
        let found = bounded(bound, client.list_partition_reassignments(options)).await?;
        let mut found: Vec<Reassignment> = found
            .into_iter()
            .map(|(partition, moved)| Reassignment {
                partition: from_krafka(&partition),
                replicas: moved.replicas,
                adding: moved.adding_replicas,
                removing: moved.removing_replicas,
            })
            .collect();
        found.sort_unstable_by(|a, b| a.partition.cmp(&b.partition));
        Ok(found)
    }

    /// Has the controller move partitions, or end their moves. Answers when it has taken it on, not when the
    /// records are copied.
    ///
    /// # Errors
    ///
    /// What kept the controller from answering. What is wrong with one partition is in its place: `NotAuthorized`,
    /// `Invalid` (brokers that there are not), `NotFound` where there is no move to end.
    pub(crate) async fn reassign(
        &self,
        targets: &[Target],
        bound: Duration,
    ) -> Result<OfPartitions, Fault> {
        let options = AlterPartitionReassignmentsOptions::default().timeout(bound);
        let client = &self.link(bound).await?.client;
        let asked = targets
            .iter()
            .map(|(partition, brokers)| (to_krafka(partition), brokers.clone()));
        let call = client.alter_partition_reassignments(asked, options);
        let mut answers = bounded(bound, call).await?;
        Ok(targets
            .iter()
            .map(|(partition, _)| (partition.clone(), take(&mut answers, partition)))
            .collect())
    }

    /// Has the controller elect leaders of `partitions`, or of all, and tells what became of each; of all only of
    /// those that have another leader now. A partition that is led as wanted already is no failure.
    ///
    /// # Errors
    ///
    /// What kept the controller from answering. What is wrong with one partition is in its place: `NotAuthorized`,
    /// `Unavailable` where no replica that may lead is there.
    pub(crate) async fn elect_leaders(
        &self,
        election: Election,
        partitions: Option<&[TopicPartition]>,
        bound: Duration,
    ) -> Result<OfPartitions, Fault> {
        let kind = match election {
            Election::Preferred => ElectionType::Preferred,
            Election::Unclean => ElectionType::Unclean,
        };
        let options = ElectLeadersOptions::default().timeout(bound);
        let client = &self.link(bound).await?.client;
        let asked = partitions.map(|partitions| partitions.iter().map(to_krafka).collect());
        let call = client.elect_leaders(kind, asked, options);
        let mut answers = bounded(bound, call).await?;
        if let Some(partitions) = partitions {
            return Ok(partitions
                .iter()
                .map(|partition| (partition.clone(), take(&mut answers, partition)))
                .collect());
        }
        let mut elected: OfPartitions = answers
            .into_iter()
            .map(|(partition, answer)| (from_krafka(&partition), answer.map_err(Fault::from)))
            .collect();
        elected.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        Ok(elected)
    }
}
