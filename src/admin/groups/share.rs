//! Share groups (KIP-932): their members each get some of a partition's records, and the group has a start in each
//! partition instead of a commit. Who may see or change what is as with groups of consumers.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::reset::{self, Moved, ResetScope, ResetTo};
use super::{Group, GroupLag, all_shown, has_members, shown, visible};
use crate::admin::{AdminError, may_see};
use crate::auth::Principal;
use crate::auth::permission::{Action, Resource, authorize};
use crate::kafka::Cluster;
use crate::kafka::admin::{DescribedGroup, GroupProtocol, ListedGroup, ShareGroupAt, ShareOffset};
use crate::kafka::fault::{Fault, FaultKind};
use crate::record::TopicPartition;

/// The share groups that `principal` may describe, by id. Groups that are left out are no refusals.
///
/// # Errors
///
/// `Unsupported` where the brokers have no share groups; what kept them from answering.
pub(crate) async fn listed(
    cluster: &Cluster,
    principal: &Principal,
) -> Result<Vec<ListedGroup>, Fault> {
    cluster.need_share_groups().await?;
    let is_share = |group: &ListedGroup| group.protocol == Some(GroupProtocol::Share);
    visible(cluster, principal, is_share).await
}

/// Describes each of `groups`, which were listed. One that is gone since, or that the gateway's own Kafka user may not
/// describe, is left out.
///
/// # Errors
///
/// What kept the brokers from answering.
pub(crate) async fn describe_each(
    cluster: &Cluster,
    principal: &Principal,
    groups: &[ListedGroup],
) -> Result<Vec<Group>, Fault> {
    let at = groups.iter().map(|group| ShareGroupAt {
        id: Arc::clone(&group.id),
        coordinator: Some(group.coordinator),
    });
    let at: Vec<ShareGroupAt> = at.collect();
    let described = cluster.describe_share_groups(&at).await?;
    all_shown(principal, described.into_iter())
}

/// Describes one share group. The route has asked for the permission.
///
/// # Errors
///
/// `NotFound` for a group that there is not, or of another kind; `Unsupported`; what kept its coordinator from
/// answering.
pub(crate) async fn describe(
    cluster: &Cluster,
    principal: &Principal,
    id: &str,
) -> Result<Group, Fault> {
    let (coordinator, group) = found(cluster, id).await?;
    Ok(Group {
        group: shown(principal, group),
        coordinator: Some(coordinator),
    })
}

/// A share group with all of its partitions, and its coordinator.
pub(super) async fn found(cluster: &Cluster, id: &str) -> Result<(i32, DescribedGroup), Fault> {
    let at = ShareGroupAt {
        id: Arc::from(id),
        coordinator: None,
    };
    let mut found = cluster.describe_share_groups(&[at]).await?;
    let found = found.pop().ok_or_else(|| super::gone(id))?;
    Ok((found.0, found.1?))
}

/// Whether there is such a share group. Brokers that have none have not this one either.
pub(super) async fn is_there(cluster: &Cluster, id: &str) -> Result<bool, AdminError> {
    match found(cluster, id).await {
        Ok(_) => Ok(true),
        Err(fault) if matches!(fault.kind, FaultKind::NotFound | FaultKind::Unsupported) => {
            Ok(false)
        }
        Err(fault) => Err(AdminError::Kafka(fault)),
    }
}

/// Where a share group is in each partition, by topic and number. The route has asked for the permission on the group;
/// topics that the principal may not describe are left out.
///
/// # Errors
///
/// As [`describe`].
pub(crate) async fn offsets(
    cluster: &Cluster,
    principal: &Principal,
    id: &str,
) -> Result<BTreeMap<TopicPartition, ShareOffset>, Fault> {
    // Asked for its offsets, Kafka does not tell a group that there is not from one that has read nothing.
    found(cluster, id).await?;
    let mut offsets = cluster.share_offsets(id).await?;
    offsets.retain(|partition, _| may_see(principal, partition));
    Ok(offsets)
}

/// How far a share group is behind, the partition with the largest lag first. No partition is one member's. The route
/// has asked for the permission on the group; topics that the principal may not describe are left out.
///
/// # Errors
///
/// As [`describe`], and what kept the leaders from answering.
pub(crate) async fn lags(
    cluster: &Cluster,
    principal: &Principal,
    id: &str,
) -> Result<(DescribedGroup, Vec<GroupLag>), Fault> {
    let group = describe(cluster, principal, id).await?.group;
    let is_wanted = |partition: &TopicPartition| may_see(principal, partition);
    let lags = cluster.share_lags(id, is_wanted).await?.into_iter();
    let mut lags: Vec<GroupLag> = lags.map(|lag| GroupLag { lag, member: None }).collect();
    lags.sort_by_key(|lag| std::cmp::Reverse(lag.lag.lag()));
    Ok((group, lags))
}

/// Moves where a share group starts, for `principal`, who needs `consume` on the topics beside the permission on the
/// group, for which the route has asked; with `dry_run` nothing is changed. What was delivered and not acknowledged is
/// forgotten with it. All partitions are looked up before any is changed; Kafka may still refuse one of them, which is
/// in its place.
///
/// # Errors
///
/// [`AdminError`], when nothing was changed.
pub(crate) async fn reset(
    cluster: &Cluster,
    principal: &Principal,
    id: &str,
    to: &ResetTo,
    scope: &ResetScope,
    dry_run: bool,
) -> Result<Vec<Moved>, AdminError> {
    let (_, group) = found(cluster, id).await.map_err(AdminError::Kafka)?;
    if group.has_members() {
        return Err(AdminError::HasMembers {
            group: id.to_owned(),
            members: group.members.len(),
        });
    }
    let starts = cluster.share_offsets(id).await.map_err(AdminError::Kafka)?;
    let starts = starts.into_iter();
    let starts: BTreeMap<TopicPartition, i64> = starts
        .filter_map(|(partition, offset)| Some((partition, offset.start?)))
        .collect();
    let mut moved = reset::looked_up(cluster, principal, to, scope, &starts).await?;
    if dry_run || moved.is_empty() {
        return Ok(moved);
    }
    let offsets = moved.iter().map(|one| (one.partition.clone(), one.after));
    let offsets: Vec<(TopicPartition, i64)> = offsets.collect();
    let done = cluster.alter_share_offsets(id, &offsets).await;
    let done = done.map_err(AdminError::Kafka)?;
    // A member that has joined since has all of them refused.
    if done.iter().all(|(_, answer)| is_of_members(answer)) {
        return Err(has_members(cluster, id).await);
    }
    for (one, (_, answer)) in moved.iter_mut().zip(done) {
        one.fault = answer.err();
    }
    Ok(moved)
}

fn is_of_members(answer: &Result<(), Fault>) -> bool {
    matches!(answer, Err(fault) if fault.kafka_error == Some("NON_EMPTY_GROUP"))
}

/// Forgets where a share group starts in a topic, for `principal`, who needs `consume` on it beside the permission on
/// the group, for which the route has asked.
///
/// # Errors
///
/// [`AdminError`], when nothing was deleted: `NotFound` where the group has no start in the topic.
pub(super) async fn delete_offsets(
    cluster: &Cluster,
    principal: &Principal,
    id: &str,
    topic: &str,
) -> Result<(), AdminError> {
    authorize(principal, Action::Consume, Resource::Topic(topic))?;
    let starts = cluster.share_offsets(id).await.map_err(AdminError::Kafka)?;
    if !starts.keys().any(|partition| *partition.topic == *topic) {
        let message = format!("Group {id} has no start in topic {topic}.");
        return Err(AdminError::Kafka(Fault::new(FaultKind::NotFound, message)));
    }
    match cluster.delete_share_offsets(id, topic).await {
        Err(fault) if fault.kafka_error == Some("NON_EMPTY_GROUP") => {
            Err(has_members(cluster, id).await)
        }
        deleted => deleted.map_err(AdminError::Kafka),
    }
}

/// The same, of a group that may not be there.
///
/// # Errors
///
/// As [`delete_offsets`]; `NotFound` also for a group that there is not, or of another kind.
pub(crate) async fn forget(
    cluster: &Cluster,
    principal: &Principal,
    id: &str,
    topic: &str,
) -> Result<(), AdminError> {
    found(cluster, id).await.map_err(AdminError::Kafka)?;
    delete_offsets(cluster, principal, id, topic).await
}

/// Deletes a share group. The route has asked for the permission.
///
/// # Errors
///
/// [`AdminError::HasMembers`], and [`AdminError::Kafka`]: `NotFound` also for a group of another kind.
pub(crate) async fn delete(cluster: &Cluster, id: &str) -> Result<(), AdminError> {
    found(cluster, id).await.map_err(AdminError::Kafka)?;
    super::delete(cluster, id).await
}
