//! Moves what a group has committed: to the beginning or the end, to a time, by a number of records, or to offsets
//! that are named. Only for a group without members: they would go on from where they are and commit over it. Where a
//! share group starts is moved in `share.rs`, by what is looked up here.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use super::{describe, has_members, share};
use crate::admin::AdminError;
use crate::auth::Principal;
use crate::auth::permission::{Action, Resource, authorize, is_allowed};
use crate::kafka::Cluster;
use crate::kafka::admin::Isolation;
use crate::kafka::fault::{Fault, FaultKind};
use crate::kafka::member::SeekTo;
use crate::record::TopicPartition;

/// How long all partitions may be looked up: what the check for members said is old after that.
const LOOKING: Duration = Duration::from_secs(30);

/// Where to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ResetTo {
    /// The first record that is still there.
    Earliest,
    /// Behind the last record.
    Latest,
    /// The first record at or after this time, in milliseconds since 1970; the end where there is none.
    Time(i64),
    /// That many records on, or back where it is below 0, within what the log has.
    Shift(i64),
    /// These offsets, which must be in the log.
    Offsets(Vec<(TopicPartition, i64)>),
}

/// Of which partitions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ResetScope {
    /// All for which the group has committed.
    Committed,
    /// All of these topics.
    Topics(Vec<Arc<str>>),
    /// These.
    Partitions(Vec<TopicPartition>),
}

/// What becomes of one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Moved {
    pub(crate) partition: TopicPartition,
    /// What the group had committed; `None` is nothing.
    pub(crate) before: Option<i64>,
    /// What it has committed now, or would have.
    pub(crate) after: i64,
    /// Where the log ends.
    pub(crate) end: i64,
    /// Why it was not committed.
    pub(crate) fault: Option<Fault>,
}

/// Moves what `group` has committed for `principal`, who needs `consume` on the topics beside the permission on the
/// group, for which the route has asked; with `dry_run` nothing is changed. All partitions are looked up before
/// any is changed; Kafka may still refuse one of them, which is in its place.
///
/// # Errors
///
/// [`AdminError`], when nothing was changed.
pub(crate) async fn reset(
    cluster: &Cluster,
    principal: &Principal,
    group: &str,
    to: &ResetTo,
    scope: &ResetScope,
    dry_run: bool,
) -> Result<Vec<Moved>, AdminError> {
    match describe(cluster, principal, group).await {
        Ok(described) if described.has_members() => {
            return Err(AdminError::HasMembers {
                group: group.to_owned(),
                members: described.members.len(),
            });
        }
        Ok(_) => {}
        // Of share groups Kafka says there that there is none.
        Err(fault)
            if fault.kind == FaultKind::NotFound && share::is_there(cluster, group).await? =>
        {
            return share::reset(cluster, principal, group, to, scope, dry_run).await;
        }
        // A group comes into being by its first commit.
        Err(fault) if fault.kind == FaultKind::NotFound => {}
        Err(fault) => return Err(AdminError::Kafka(fault)),
    }
    let committed = cluster
        .all_commits(group)
        .await
        .map_err(AdminError::Kafka)?;
    let mut moved = looked_up(cluster, principal, to, scope, &committed).await?;
    if !dry_run && !moved.is_empty() {
        commit(cluster, group, &mut moved).await?;
    }
    Ok(moved)
}

/// Where each partition that is meant is moved to, within the time that looking may take.
pub(super) async fn looked_up(
    cluster: &Cluster,
    principal: &Principal,
    to: &ResetTo,
    scope: &ResetScope,
    committed: &BTreeMap<TopicPartition, i64>,
) -> Result<Vec<Moved>, AdminError> {
    let looking = async {
        let partitions = partitions(cluster, principal, to, scope, committed).await?;
        let mut moved = Vec::new();
        for (topic, partitions) in partitions {
            moved.extend(places(cluster, &topic, &partitions, to, committed).await?);
        }
        Ok::<_, AdminError>(moved)
    };
    timeout(LOOKING, looking).await.map_err(|_| {
        let message = "Kafka did not tell of all partitions in time; name fewer topics at once.";
        AdminError::Kafka(Fault::new(FaultKind::TimedOut, message))
    })?
}

/// The partitions that are meant, by topic, and whether the principal may commit for them.
async fn partitions<'m>(
    cluster: &Cluster,
    principal: &Principal,
    to: &'m ResetTo,
    scope: &'m ResetScope,
    committed: &'m BTreeMap<TopicPartition, i64>,
) -> Result<BTreeMap<Arc<str>, BTreeSet<i32>>, AdminError> {
    // Where none of a topic's are named, all are meant.
    let mut meant: BTreeMap<&Arc<str>, BTreeSet<i32>> = BTreeMap::new();
    let mut add = |at: &'m TopicPartition| {
        meant.entry(&at.topic).or_default().insert(at.partition);
    };
    match (to, scope) {
        (ResetTo::Offsets(offsets), _) => offsets.iter().for_each(|(at, _)| add(at)),
        (_, ResetScope::Partitions(named)) => named.iter().for_each(add),
        (_, ResetScope::Committed) => committed.keys().for_each(add),
        (_, ResetScope::Topics(topics)) => {
            meant.extend(topics.iter().map(|topic| (topic, BTreeSet::new())));
        }
    }
    let are_committed =
        !matches!(to, ResetTo::Offsets(_)) && matches!(scope, ResetScope::Committed);
    let mut partitions = BTreeMap::new();
    for (topic, mut ids) in meant {
        // Of topics that are hidden from the principal nothing is said and nothing is moved.
        if are_committed && !is_allowed(principal, Action::Consume, Resource::Topic(topic)) {
            continue;
        }
        authorize(principal, Action::Consume, Resource::Topic(topic))?;
        let known = match cluster.metadata.topic(topic).await {
            Ok(known) => known,
            // It was deleted after the commit.
            Err(fault) if are_committed && fault.kind == FaultKind::UnknownTopic => continue,
            Err(fault) => return Err(AdminError::Kafka(fault)),
        };
        if ids.is_empty() {
            ids.extend(known.partitions.iter().map(|one| one.id));
        }
        if are_committed {
            ids.retain(|id| known.partition(*id).is_ok());
        }
        for id in &ids {
            known.partition(*id).map_err(AdminError::Kafka)?;
        }
        if !ids.is_empty() {
            partitions.insert(Arc::clone(topic), ids);
        }
    }
    Ok(partitions)
}

/// Where each of a topic's partitions is moved to.
async fn places(
    cluster: &Cluster,
    topic: &Arc<str>,
    partitions: &BTreeSet<i32>,
    to: &ResetTo,
    committed: &BTreeMap<TopicPartition, i64>,
) -> Result<Vec<Moved>, AdminError> {
    let named: HashMap<i32, i64> = match to {
        ResetTo::Offsets(offsets) => offsets
            .iter()
            .filter(|(at, _)| at.topic == *topic)
            .map(|(at, offset)| (at.partition, *offset))
            .collect(),
        _ => HashMap::new(),
    };
    let before = |partition: &TopicPartition| committed.get(partition).copied();
    let mut aims = Vec::with_capacity(partitions.len());
    for id in partitions {
        let partition = TopicPartition::new(Arc::clone(topic), *id);
        let aim = match to {
            ResetTo::Earliest => SeekTo::Beginning,
            ResetTo::Latest => SeekTo::End,
            ResetTo::Time(ms) => SeekTo::Time(*ms),
            ResetTo::Shift(by) => match before(&partition) {
                Some(before) => SeekTo::Offset(before.saturating_add(*by).max(0)),
                None => return Err(AdminError::NothingCommitted(partition)),
            },
            ResetTo::Offsets(_) => match named.get(id) {
                Some(offset) => SeekTo::Offset(*offset),
                None => continue,
            },
        };
        aims.push((*id, aim));
    }
    let found = cluster.resolve(Isolation::Uncommitted, topic, &aims).await;
    let found = found.map_err(AdminError::Kafka)?;
    let mut moved = Vec::with_capacity(aims.len());
    for ((id, _), found) in aims.into_iter().zip(found) {
        let partition = TopicPartition::new(Arc::clone(topic), id);
        if let (ResetTo::Offsets(_), Some(offset)) = (to, found.missed) {
            return Err(AdminError::OutsideLog {
                partition,
                offset,
                low: found.low,
                end: found.end,
            });
        }
        moved.push(Moved {
            before: before(&partition),
            partition,
            after: found.at,
            end: found.end,
            fault: None,
        });
    }
    Ok(moved)
}

async fn commit(cluster: &Cluster, group: &str, moved: &mut [Moved]) -> Result<(), AdminError> {
    let offsets: Vec<_> = moved
        .iter()
        .map(|one| (one.partition.clone(), one.after, None))
        .collect();
    let done = cluster.commit_for_group(group, &offsets).await;
    let done = done.map_err(AdminError::Kafka)?;
    // A member that has joined since has all of them refused.
    let is_of_members = |(_, answer): &(TopicPartition, Result<i64, Fault>)| matches!(answer, Err(fault) if fault.kafka_error == Some("UNKNOWN_MEMBER_ID"));
    if !done.is_empty() && done.iter().all(is_of_members) {
        return Err(has_members(cluster, group).await);
    }
    for (one, (_, answer)) in moved.iter_mut().zip(done) {
        one.fault = answer.err();
    }
    Ok(())
}

/// Deletes what `group` has committed for a topic, in all of its partitions or in one, for `principal`, who needs
/// `consume` on the topic beside the permission on the group, for which the route has asked. What Kafka did not
/// delete is in its place. Of a share group it is where it starts in the topic, of which there are no parts.
///
/// # Errors
///
/// [`AdminError`], when nothing was deleted: `NotFound` where nothing is committed.
pub(crate) async fn delete(
    cluster: &Cluster,
    principal: &Principal,
    group: &str,
    topic: &str,
    partition: Option<i32>,
) -> Result<Vec<(TopicPartition, Result<(), Fault>)>, AdminError> {
    authorize(principal, Action::Consume, Resource::Topic(topic))?;
    let committed = match cluster.all_commits(group).await {
        Ok(committed) => committed,
        // Of a share group Kafka says so too.
        Err(fault) if fault.kind == FaultKind::NotFound => BTreeMap::new(),
        Err(fault) => return Err(AdminError::Kafka(fault)),
    };
    let meant = committed.into_keys().filter(|at| {
        *at.topic == *topic && partition.is_none_or(|partition| partition == at.partition)
    });
    let meant: Vec<TopicPartition> = meant.collect();
    if meant.is_empty() && share::is_there(cluster, group).await? {
        if partition.is_some() {
            let message = "Where a share group starts is forgotten in all partitions of a topic at once: leave \
                           partition out.";
            return Err(AdminError::Kafka(Fault::new(FaultKind::Invalid, message)));
        }
        share::delete_offsets(cluster, principal, group, topic).await?;
        return Ok(Vec::new());
    }
    if meant.is_empty() {
        let message = format!("Group {group} has committed nothing for topic {topic} there.");
        return Err(AdminError::Kafka(Fault::new(FaultKind::NotFound, message)));
    }
    let deleted = cluster.delete_commits(group, &meant).await;
    deleted.map_err(AdminError::Kafka)
}
