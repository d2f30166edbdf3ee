//! Transactions, the producers of partitions, and what hangs: transactions that a partition has open and no coordinator
//! knows, so that nobody ends them.
//!
//! A transactional id is authorized by `admin` on the cluster, a partition's producers by `describe` on its topic; the
//! routes ask for both. Topics that the principal may not describe are left out of what is shown.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::{AdminError, may_see};
use crate::auth::Principal;
use crate::auth::permission::{Action, Resource, is_allowed};
use crate::kafka::Cluster;
use crate::kafka::admin::{ActiveProducer, DescribedTransaction, TransactionFilter};
use crate::kafka::fault::{Fault, FaultKind};
use crate::record::TopicPartition;

/// Most partitions of one search for what hangs.
const MOST_PARTITIONS: usize = 20_000;
/// Most producers that one search asks the coordinators for.
const MOST_PRODUCERS: usize = 1_000;

/// Describes a transactional id, with the broker that coordinates it: `None` where no broker lists it at the moment.
///
/// # Errors
///
/// `NotFound`, and what kept the brokers from answering.
pub(crate) async fn describe(
    cluster: &Cluster,
    principal: &Principal,
    id: &str,
) -> Result<(DescribedTransaction, Option<i32>), Fault> {
    let mut found = cluster.describe_transactions(&[id.to_owned()]).await?;
    let mut found = found.pop().unwrap_or_else(|| {
        let message = format!("Transactional id {id} does not exist.");
        Err(Fault::new(FaultKind::NotFound, message))
    })?;
    found
        .partitions
        .retain(|partition| may_see(principal, partition));
    let of_producer = TransactionFilter {
        producer_ids: vec![found.producer_id],
        ..TransactionFilter::default()
    };
    // A broker that does not answer keeps nothing back but who coordinates it.
    let listed = cluster.transactions(&of_producer).await.unwrap_or_default();
    let coordinator = listed.iter().find(|listed| listed.id == id);
    Ok((found, coordinator.map(|listed| listed.coordinator)))
}

/// The producers that a partition knows, by id. The route has asked for the permission.
///
/// # Errors
///
/// `UnknownTopic`, `UnknownPartition`, and what kept the leader from answering.
pub(crate) async fn producers(
    cluster: &Cluster,
    at: &TopicPartition,
) -> Result<Vec<ActiveProducer>, Fault> {
    let topic = cluster.metadata.topic(&at.topic).await?;
    topic.partition(at.partition)?;
    let mut found = cluster.producers(std::slice::from_ref(at)).await?;
    found.pop().unwrap_or_else(|| Ok(Vec::new()))
}

/// Which open transaction of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OpenTransaction {
    /// That of this producer.
    OfProducer(i64),
    /// The one that begins at this offset.
    From(i64),
}

/// Aborts an open transaction in one partition: with the epochs that the partition itself has of its producer. One that
/// a coordinator knows there is refused unless `force`: it ends by itself, and its other partitions may still commit.
/// The route has asked for the permission.
///
/// # Errors
///
/// [`AdminError`], when nothing was aborted.
pub(crate) async fn abort(
    cluster: &Cluster,
    at: &TopicPartition,
    which: OpenTransaction,
    force: bool,
) -> Result<ActiveProducer, AdminError> {
    let producers = producers(cluster, at).await.map_err(AdminError::Kafka)?;
    let is_meant = |producer: &ActiveProducer| match (which, producer.transaction_start) {
        (OpenTransaction::OfProducer(id), Some(_)) => producer.id == id,
        (OpenTransaction::From(offset), Some(start)) => start == offset,
        (_, None) => false,
    };
    let meant = producers.into_iter().find(is_meant);
    let meant = meant.ok_or_else(|| AdminError::NoOpenTransaction(at.clone()))?;
    if !force {
        let known = known_to_coordinators(cluster, [meant.id]).await;
        let known = known.map_err(AdminError::Kafka)?;
        let owner = known
            .iter()
            .find(|one| one.producer_id == meant.id && one.partitions.contains(at));
        if let Some(owner) = owner {
            return Err(AdminError::TransactionRuns(owner.id.clone()));
        }
    }
    let aborted = cluster.abort_transaction(at, &meant).await;
    aborted.map_err(AdminError::Kafka)?;
    Ok(meant)
}

/// What the coordinators know of these producers' transactions.
async fn known_to_coordinators(
    cluster: &Cluster,
    producer_ids: impl IntoIterator<Item = i64>,
) -> Result<Vec<DescribedTransaction>, Fault> {
    let filter = TransactionFilter {
        producer_ids: producer_ids.into_iter().collect(),
        ..TransactionFilter::default()
    };
    let listed = cluster.transactions(&filter).await?;
    let ids: Vec<String> = listed.into_iter().map(|listed| listed.id).collect();
    let described = cluster.describe_transactions(&ids).await?;
    let mut known = Vec::with_capacity(described.len());
    for described in described {
        match described {
            Ok(described) => known.push(described),
            // It has expired since.
            Err(fault) if fault.kind == FaultKind::NotFound => {}
            Err(fault) => return Err(fault),
        }
    }
    Ok(known)
}

/// Where to look for what hangs: in the partitions that fit all that is said.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct HangingScope {
    pub(crate) topic: Option<String>,
    /// Of the topic.
    pub(crate) partition: Option<i32>,
    /// Those that this broker leads.
    pub(crate) broker: Option<i32>,
}

/// A transaction that hangs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HangingTransaction {
    pub(crate) at: TopicPartition,
    pub(crate) producer: ActiveProducer,
    /// Where it begins.
    pub(crate) start: i64,
    /// The transactional id that the producer has, if a coordinator knows one: then without this partition.
    pub(crate) transactional_id: Option<String>,
}

/// What a search has found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct HangingTransactions {
    /// By topic, partition and producer.
    pub(crate) found: Vec<HangingTransaction>,
    /// The partitions that could not be looked at, and why.
    pub(crate) unchecked: Vec<(TopicPartition, Fault)>,
}

/// The open transactions whose last record is older than `older_than`, which is to be as long as transactions may take,
/// and that no coordinator knows. Topics that `principal` may not describe are left out. The route has asked for the
/// permission.
///
/// # Errors
///
/// [`AdminError::TooManyPartitions`] and [`AdminError::TooManyTransactions`] where the search has to be narrower;
/// [`AdminError::NoSuchBroker`]; `UnknownTopic`, `UnknownPartition`, and what kept the brokers from answering.
pub(crate) async fn hanging(
    cluster: &Cluster,
    principal: &Principal,
    scope: &HangingScope,
    older_than: Duration,
) -> Result<HangingTransactions, AdminError> {
    let mut search = HangingTransactions::default();
    let partitions = partitions(cluster, principal, scope, &mut search.unchecked).await?;
    let known = cluster.producers(&partitions).await;
    let known = known.map_err(AdminError::Kafka)?;
    let oldest = jiff::Timestamp::now().as_millisecond()
        - i64::try_from(older_than.as_millis()).unwrap_or(i64::MAX);
    let mut open = Vec::new();
    for (at, producers) in partitions.into_iter().zip(known) {
        match producers {
            Ok(producers) => open.extend(old_transactions(&at, producers, oldest)),
            // It was deleted a moment ago.
            Err(fault)
                if matches!(
                    fault.kind,
                    FaultKind::UnknownTopic | FaultKind::UnknownPartition
                ) => {}
            // No broker tells then.
            Err(fault) if fault.kind == FaultKind::Unsupported => {
                return Err(AdminError::Kafka(fault));
            }
            Err(fault) => search.unchecked.push((at, fault)),
        }
    }
    let producers: BTreeSet<i64> = open.iter().map(|one| one.producer.id).collect();
    if producers.len() > MOST_PRODUCERS {
        return Err(AdminError::TooManyTransactions {
            found: producers.len(),
            most: MOST_PRODUCERS,
        });
    }
    if !open.is_empty() {
        let known = known_to_coordinators(cluster, producers).await;
        search.found = unknown_of(open, &known.map_err(AdminError::Kafka)?);
    }
    Ok(search)
}

/// The partitions that are looked at; those without a leader are among what is not.
async fn partitions(
    cluster: &Cluster,
    principal: &Principal,
    scope: &HangingScope,
    unchecked: &mut Vec<(TopicPartition, Fault)>,
) -> Result<Vec<TopicPartition>, AdminError> {
    let topics = match &scope.topic {
        Some(name) => Arc::from([cluster
            .metadata
            .topic(name)
            .await
            .map_err(AdminError::Kafka)?]),
        None => cluster.metadata.topics().await.map_err(AdminError::Kafka)?,
    };
    if let Some(broker) = scope.broker {
        let brokers = cluster.metadata.brokers().await;
        let brokers = brokers.map_err(AdminError::Kafka)?;
        if !brokers.iter().any(|one| one.id == broker) {
            return Err(AdminError::NoSuchBroker(broker));
        }
    }
    let mut partitions = Vec::new();
    for topic in topics.iter() {
        if !is_allowed(principal, Action::Describe, Resource::Topic(&topic.name)) {
            continue;
        }
        if let Some(partition) = scope.partition {
            topic.partition(partition).map_err(AdminError::Kafka)?;
        }
        let meant = topic.partitions.iter().filter(|one| {
            scope.partition.is_none_or(|partition| partition == one.id)
                && (scope.broker.is_none() || scope.broker == one.leader)
        });
        for one in meant {
            let at = TopicPartition::new(Arc::clone(&topic.name), one.id);
            match one.leader {
                Some(_) => partitions.push(at),
                None => {
                    let message = "The partition has no leader at the moment.";
                    unchecked.push((at, Fault::new(FaultKind::Unavailable, message)));
                }
            }
        }
    }
    if partitions.len() > MOST_PARTITIONS {
        return Err(AdminError::TooManyPartitions {
            found: partitions.len(),
            most: MOST_PARTITIONS,
        });
    }
    Ok(partitions)
}

/// The open transactions of a partition whose last record is older than `oldest`, or of an unknown age.
fn old_transactions(
    at: &TopicPartition,
    producers: Vec<ActiveProducer>,
    oldest: i64,
) -> impl Iterator<Item = HangingTransaction> {
    producers.into_iter().filter_map(move |producer| {
        let is_old = producer.last_timestamp.is_none_or(|last| last < oldest);
        let start = producer.transaction_start.filter(|_| is_old)?;
        Some(HangingTransaction {
            at: at.clone(),
            producer,
            start,
            transactional_id: None,
        })
    })
}

/// Those that no coordinator has in a transaction.
fn unknown_of(
    open: Vec<HangingTransaction>,
    known: &[DescribedTransaction],
) -> Vec<HangingTransaction> {
    let mut by_producer: BTreeMap<i64, Vec<&DescribedTransaction>> = BTreeMap::new();
    for known in known {
        by_producer
            .entry(known.producer_id)
            .or_default()
            .push(known);
    }
    let none = Vec::new();
    let mut unknown = Vec::new();
    for mut one in open {
        let known = by_producer.get(&one.producer.id).unwrap_or(&none);
        if known.iter().any(|known| known.partitions.contains(&one.at)) {
            continue;
        }
        one.transactional_id = known.first().map(|known| known.id.clone());
        unknown.push(one);
    }
    unknown
}

#[cfg(test)]
mod tests {
    use super::*;

    fn producer(id: i64, last_timestamp: Option<i64>, start: Option<i64>) -> ActiveProducer {
        ActiveProducer {
            id,
            epoch: 0,
            last_sequence: None,
            last_timestamp,
            coordinator_epoch: None,
            transaction_start: start,
        }
    }

    #[test]
    fn what_hangs_is_open_and_old_and_known_to_no_coordinator() {
        let at = TopicPartition::new("t", 0);
        let producers = vec![
            producer(1, Some(99), Some(10)),
            producer(2, Some(100), Some(20)),
            producer(3, Some(5), None),
            producer(4, None, Some(30)),
            producer(5, Some(1), Some(40)),
        ];
        let open: Vec<HangingTransaction> = old_transactions(&at, producers, 100).collect();
        let starts: Vec<i64> = open.iter().map(|one| one.start).collect();
        assert_eq!(starts, [10, 30, 40]);

        let known = |producer_id, partition| DescribedTransaction {
            id: format!("of-{producer_id}"),
            state: "Ongoing".to_owned(),
            producer_id,
            producer_epoch: 0,
            timeout: Duration::from_secs(60),
            started_ms: Some(1),
            partitions: vec![TopicPartition::new("t", partition)],
        };
        // One runs there; the other has gone on elsewhere.
        let unknown = unknown_of(open, &[known(1, 0), known(5, 1)]);
        let found: Vec<_> = unknown
            .iter()
            .map(|one| (one.producer.id, one.transactional_id.as_deref()))
            .collect();
        assert_eq!(found, [(4, None), (5, Some("of-5"))]);
    }
}
