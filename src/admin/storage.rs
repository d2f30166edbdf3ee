//! What the brokers keep of topics: how many records and bytes, how fast they come, and how the oldest are deleted.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::AdminError;
use super::topics::check_not_kafkas;
use crate::auth::Principal;
use crate::auth::permission::{Action, Resource, is_allowed};
use crate::kafka::Cluster;
use crate::kafka::admin::{Isolation, LogDir};
use crate::kafka::fault::{Fault, FaultKind};
use crate::kafka::member::SeekTo;
use crate::record::TopicPartition;

/// Over how long the rate of a topic is taken, in milliseconds.
const RATE_OVER_MS: i64 = 60_000;

/// What there is of a topic.
#[derive(Debug)]
pub(crate) struct TopicSize {
    /// By number.
    pub(crate) partitions: Vec<PartitionSize>,
}

/// What there is of a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PartitionSize {
    pub(crate) partition: i32,
    /// The first offset that is still there.
    pub(crate) low: i64,
    /// The offset that the next record gets.
    pub(crate) end: i64,
    /// How many offsets the last minute has filled.
    pub(crate) last_minute: i64,
    /// The size of the leader's replica; `None` where it has no leader, or brokers do not tell.
    pub(crate) bytes: Option<i64>,
    /// The size of all of its replicas together; `None` where a broker does not tell.
    pub(crate) bytes_of_replicas: Option<i64>,
}

impl PartitionSize {
    /// How many offsets there are: as many records, but for those that compaction took and the markers of
    /// transactions.
    pub(crate) fn records(&self) -> i64 {
        (self.end - self.low).max(0)
    }
}

/// How large a topic is. The route has asked for the permission. Sizes in bytes are told as far as the gateway's own
/// Kafka user may see them.
///
/// # Errors
///
/// `UnknownTopic`, and what kept the leaders from answering.
pub(crate) async fn of_topic(cluster: &Cluster, name: &str) -> Result<TopicSize, Fault> {
    let topic = cluster.metadata.topic(name).await?;
    let since = jiff::Timestamp::now().as_millisecond() - RATE_OVER_MS;
    let aims: Vec<(i32, SeekTo)> = topic
        .partitions
        .iter()
        .map(|one| (one.id, SeekTo::Time(since)))
        .collect();
    let partitions: Vec<TopicPartition> = topic
        .partitions
        .iter()
        .map(|one| TopicPartition::new(Arc::clone(&topic.name), one.id))
        .collect();
    let brokers: Vec<i32> = cluster
        .metadata
        .brokers()
        .await?
        .iter()
        .map(|one| one.id)
        .collect();
    let (found, dirs) = tokio::join!(
        cluster.resolve(Isolation::Uncommitted, name, &aims),
        cluster.log_dirs(&brokers, Some(&partitions)),
    );
    let (bytes, are_whole) = match dirs {
        Ok(dirs) => (bytes(&dirs), dirs.values().all(Result::is_ok)),
        Err(fault) if is_not_told(&fault) => (BTreeMap::new(), false),
        Err(fault) => return Err(fault),
    };
    let sizes = topic.partitions.iter().zip(found?).map(|(one, found)| {
        let of = bytes.get(&one.id);
        PartitionSize {
            partition: one.id,
            low: found.low,
            end: found.end,
            last_minute: (found.end - found.at.max(found.low)).max(0),
            bytes: one.leader.and_then(|leader| of?.get(&leader).copied()),
            // Without those of a broker that does not answer it would be too small a number.
            bytes_of_replicas: of.filter(|_| are_whole).map(|of| of.values().sum()),
        }
    });
    Ok(TopicSize {
        partitions: sizes.collect(),
    })
}

/// Whether brokers just do not tell the gateway.
fn is_not_told(fault: &Fault) -> bool {
    matches!(
        fault.kind,
        FaultKind::NotAuthorized | FaultKind::Unsupported
    )
}

/// The sizes of the replicas of one topic: by partition, then by broker.
fn bytes(dirs: &BTreeMap<i32, Result<Vec<LogDir>, Fault>>) -> BTreeMap<i32, BTreeMap<i32, i64>> {
    let mut sizes: BTreeMap<i32, BTreeMap<i32, i64>> = BTreeMap::new();
    for (broker, dirs) in dirs {
        let replicas = dirs.iter().flatten().flat_map(|dir| &dir.replicas);
        for replica in replicas.filter(|replica| !replica.is_future) {
            let of_partition = sizes.entry(replica.partition.partition).or_default();
            *of_partition.entry(*broker).or_default() += replica.bytes;
        }
    }
    sizes
}

/// The directories of one broker, with what is in them of the topics that `principal` may describe. The route has
/// asked for the permission on the cluster.
///
/// # Errors
///
/// [`AdminError::NoSuchBroker`] and [`AdminError::Kafka`].
pub(crate) async fn log_dirs(
    cluster: &Cluster,
    principal: &Principal,
    broker: i32,
) -> Result<Vec<LogDir>, AdminError> {
    let known = cluster
        .metadata
        .brokers()
        .await
        .map_err(AdminError::Kafka)?;
    if !known.iter().any(|one| one.id == broker) {
        return Err(AdminError::NoSuchBroker(broker));
    }
    let dirs = cluster
        .log_dirs(&[broker], None)
        .await
        .map_err(AdminError::Kafka)?;
    let mut dirs = match dirs.into_values().next() {
        Some(dirs) => dirs.map_err(AdminError::Kafka)?,
        None => Vec::new(),
    };
    for dir in &mut dirs {
        dir.replicas.retain(|replica| {
            is_allowed(
                principal,
                Action::Describe,
                Resource::Topic(&replica.partition.topic),
            )
        });
    }
    Ok(dirs)
}

/// Up to where records are deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DeleteBefore {
    /// All that there are.
    End,
    /// Those before this time, in milliseconds since 1970.
    Time(i64),
    /// Those before this offset, which must be in the log.
    Offset(i64),
}

/// What became of a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Deleted {
    pub(crate) partition: i32,
    /// Where it started.
    pub(crate) before: i64,
    /// Where it starts now, or would; or why Kafka did not delete anything.
    pub(crate) after: Result<i64, Fault>,
}

/// Deletes the oldest records of a topic, in all of its partitions or in one; with `dry_run` none. The route has
/// asked for the permission. All partitions are looked up before any is changed.
///
/// # Errors
///
/// [`AdminError`], when nothing was deleted.
pub(crate) async fn delete_records(
    cluster: &Cluster,
    name: &str,
    partition: Option<i32>,
    before: DeleteBefore,
    dry_run: bool,
) -> Result<Vec<Deleted>, AdminError> {
    check_not_kafkas(name)?;
    let topic = cluster
        .metadata
        .topic(name)
        .await
        .map_err(AdminError::Kafka)?;
    let partitions: Vec<i32> = match partition {
        Some(id) => vec![topic.partition(id).map_err(AdminError::Kafka)?.id],
        None => topic.partitions.iter().map(|one| one.id).collect(),
    };
    let aim = match before {
        DeleteBefore::End => SeekTo::End,
        DeleteBefore::Time(ms) => SeekTo::Time(ms),
        DeleteBefore::Offset(offset) => SeekTo::Offset(offset),
    };
    let aims: Vec<(i32, SeekTo)> = partitions.iter().map(|id| (*id, aim)).collect();
    // What open transactions have written cannot be deleted before they end.
    let found = cluster.resolve(Isolation::Committed, name, &aims).await;
    let found = found.map_err(AdminError::Kafka)?;
    let mut asked = Vec::with_capacity(aims.len());
    let mut deleted = Vec::with_capacity(aims.len());
    for (id, found) in partitions.into_iter().zip(found) {
        let at = TopicPartition::new(Arc::clone(&topic.name), id);
        if let (DeleteBefore::Offset(_), Some(offset)) = (before, found.missed) {
            return Err(AdminError::OutsideLog {
                partition: at,
                offset,
                low: found.low,
                end: found.end,
            });
        }
        asked.push((at, found.at));
        deleted.push(Deleted {
            partition: id,
            before: found.low,
            after: Ok(found.at),
        });
    }
    if dry_run {
        return Ok(deleted);
    }
    let answers = cluster
        .delete_records(&asked)
        .await
        .map_err(AdminError::Kafka)?;
    for (one, (_, answer)) in deleted.iter_mut().zip(answers) {
        one.after = answer;
    }
    Ok(deleted)
}
