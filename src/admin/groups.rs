//! Consumer groups as an administrator sees them: which there are, their members, how far they are behind, and how
//! they are deleted. `reset.rs` moves what they have committed, `share.rs` is about share groups.
//!
//! What is told of a group is told of the topics that the principal may describe: a group's members and commits
//! name topics, and these may be hidden from one who sees the group.

pub(crate) mod reset;
pub(crate) mod share;

use std::collections::HashMap;
use std::sync::Arc;

use super::{AdminError, may_see};
use crate::auth::Principal;
use crate::auth::permission::{Action, Resource, is_allowed};
use crate::kafka::Cluster;
use crate::kafka::admin::{DescribedGroup, GroupProtocol, ListedGroup, Member, PartitionLag};
use crate::kafka::fault::{Fault, FaultKind};
use crate::record::TopicPartition;

/// A group of consumers, and the broker that coordinates it.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) group: DescribedGroup,
    /// `None` where no broker lists it: it has come or gone a moment ago.
    pub(crate) coordinator: Option<i32>,
}

/// How far a group is behind in a partition, and the member that reads it.
#[derive(Debug)]
pub(crate) struct GroupLag {
    pub(crate) lag: PartitionLag,
    /// `None` where nobody reads it now.
    pub(crate) member: Option<Arc<Member>>,
}

/// The groups of consumers that `principal` may describe, by id. Groups that are left out are no refusals.
///
/// # Errors
///
/// What kept the brokers from answering.
pub(crate) async fn listed(
    cluster: &Cluster,
    principal: &Principal,
) -> Result<Vec<ListedGroup>, Fault> {
    visible(cluster, principal, ListedGroup::is_of_consumers).await
}

/// The same with those of other kinds whose brokers tell that: share groups, and those of Kafka Streams.
///
/// # Errors
///
/// What kept the brokers from answering.
pub(crate) async fn listed_of_all_kinds(
    cluster: &Cluster,
    principal: &Principal,
) -> Result<Vec<ListedGroup>, Fault> {
    use GroupProtocol::{Share, Streams};
    visible(cluster, principal, |group| {
        group.is_of_consumers() || matches!(group.protocol, Some(Share | Streams))
    })
    .await
}

/// The groups of the kind that is meant, of those that `principal` may describe.
async fn visible(
    cluster: &Cluster,
    principal: &Principal,
    is_meant: impl Fn(&ListedGroup) -> bool,
) -> Result<Vec<ListedGroup>, Fault> {
    let mut groups = cluster.groups().await?;
    groups.retain(|group| {
        is_meant(group) && is_allowed(principal, Action::Describe, Resource::Group(&group.id))
    });
    Ok(groups)
}

/// Describes each of `groups`, which were listed. One that is gone since, or that the gateway's own Kafka user may
/// not describe, is left out.
///
/// # Errors
///
/// What kept the brokers from answering.
pub(crate) async fn describe_each(
    cluster: &Cluster,
    principal: &Principal,
    groups: &[ListedGroup],
) -> Result<Vec<Group>, Fault> {
    let ids: Vec<Arc<str>> = groups.iter().map(|group| Arc::clone(&group.id)).collect();
    let described = cluster.describe_groups(&ids).await?;
    let listed = groups.iter().zip(described);
    all_shown(
        principal,
        listed.map(|(listed, (_, described))| (listed.coordinator, described)),
    )
}

/// What may be told of groups that were listed, each with its coordinator.
fn all_shown(
    principal: &Principal,
    described: impl Iterator<Item = (i32, Result<DescribedGroup, Fault>)>,
) -> Result<Vec<Group>, Fault> {
    let mut all = Vec::new();
    for (coordinator, described) in described {
        match described {
            Ok(group) => all.push(Group {
                group: shown(principal, group),
                coordinator: Some(coordinator),
            }),
            Err(fault) if matches!(fault.kind, FaultKind::NotFound | FaultKind::NotAuthorized) => {}
            Err(fault) => return Err(fault),
        }
    }
    Ok(all)
}

/// Describes one group. The route has asked for the permission.
///
/// # Errors
///
/// `NotFound` for a group that there is not, or whose members are no consumers; what kept its coordinator from
/// answering.
pub(crate) async fn describe(
    cluster: &Cluster,
    principal: &Principal,
    id: &str,
) -> Result<DescribedGroup, Fault> {
    let described = cluster.describe_groups(&[Arc::from(id)]).await?;
    let described = described.into_iter().next().map(|(_, described)| described);
    let group = described.unwrap_or_else(|| Err(gone(id)))?;
    Ok(shown(principal, group))
}

/// The same, with the broker that coordinates it: no request of Kafka's tells it but the list of groups.
///
/// # Errors
///
/// As [`describe`].
pub(crate) async fn describe_whole(
    cluster: &Cluster,
    principal: &Principal,
    id: &str,
) -> Result<Group, Fault> {
    let (group, listed) = tokio::join!(describe(cluster, principal, id), cluster.groups());
    let group = group?;
    // A broker that does not answer keeps nothing back but who coordinates it.
    let listed = listed.unwrap_or_default();
    let coordinator = listed.iter().find(|listed| *listed.id == *id);
    Ok(Group {
        group,
        coordinator: coordinator.map(|listed| listed.coordinator),
    })
}

/// How far a group is behind, the partition with the largest lag first. The route has asked for the permission on
/// the group; partitions of topics that the principal may not describe are left out. A group that has committed
/// nothing has no lag in any partition.
///
/// # Errors
///
/// As [`describe`], and what kept the leaders from answering.
pub(crate) async fn lags(
    cluster: &Cluster,
    principal: &Principal,
    id: &str,
) -> Result<(DescribedGroup, Vec<GroupLag>), Fault> {
    let is_wanted = |partition: &TopicPartition| may_see(principal, partition);
    let (group, lags) = tokio::join!(
        describe(cluster, principal, id),
        cluster.group_lags(id, is_wanted)
    );
    let group = group?;
    let mut readers: HashMap<TopicPartition, Arc<Member>> = HashMap::new();
    for member in &group.members {
        let reader = Arc::new(Member {
            partitions: Vec::new(),
            ..member.clone()
        });
        let partitions = member.partitions.iter().cloned();
        readers.extend(partitions.map(|partition| (partition, Arc::clone(&reader))));
    }
    let mut lags: Vec<GroupLag> = lags?
        .into_iter()
        .map(|lag| GroupLag {
            member: readers.get(&lag.partition).cloned(),
            lag,
        })
        .collect();
    // They come by topic and partition, and stay so where lags are equal.
    lags.sort_by_key(|lag| std::cmp::Reverse(lag.lag.lag()));
    Ok((group, lags))
}

/// The same of a group of consumers or a share group, of which the partitions are no one member's.
///
/// # Errors
///
/// As [`lags`].
pub(crate) async fn lags_of_any_kind(
    cluster: &Cluster,
    principal: &Principal,
    id: &str,
) -> Result<(DescribedGroup, Vec<GroupLag>), Fault> {
    match lags(cluster, principal, id).await {
        Err(missing) if missing.kind == FaultKind::NotFound => {
            match share::lags(cluster, principal, id).await {
                // Brokers without share groups have not this one either.
                Err(fault)
                    if matches!(fault.kind, FaultKind::NotFound | FaultKind::Unsupported) =>
                {
                    Err(of_streams(cluster, id).await.unwrap_or(missing))
                }
                answer => answer,
            }
        }
        answer => answer,
    }
}

/// That a group is one of Kafka Streams, which is listed and not described; `None` where it is none.
async fn of_streams(cluster: &Cluster, id: &str) -> Option<Fault> {
    let listed = cluster.groups().await.ok()?;
    let group = listed.into_iter().find(|group| *group.id == *id)?;
    let is_of_streams = group.protocol == Some(GroupProtocol::Streams);
    is_of_streams.then(|| {
        let message =
            format!("Group {id} is one of Kafka Streams (KIP-1071): it is listed, not described.");
        Fault::new(FaultKind::Unsupported, message)
    })
}

/// Deletes a group with all that it has committed. The route has asked for the permission.
///
/// # Errors
///
/// [`AdminError::HasMembers`] and [`AdminError::Kafka`].
pub(crate) async fn delete(cluster: &Cluster, id: &str) -> Result<(), AdminError> {
    match cluster.delete_group(id).await {
        Err(fault) if fault.kafka_error == Some("NON_EMPTY_GROUP") => {
            Err(has_members(cluster, id).await)
        }
        deleted => deleted.map_err(AdminError::Kafka),
    }
}

/// That a group has members, and how many.
async fn has_members(cluster: &Cluster, id: &str) -> AdminError {
    let described = cluster.describe_groups(&[Arc::from(id)]).await;
    let group = described.ok().and_then(|mut all| all.pop()?.1.ok());
    let group = match group {
        Some(group) => Some(group),
        None => share::found(cluster, id).await.ok().map(|(_, group)| group),
    };
    AdminError::HasMembers {
        group: id.to_owned(),
        members: group.map_or(1, |group| group.members.len()),
    }
}

/// The group without what its members read of topics that are hidden from `principal`.
fn shown(principal: &Principal, mut group: DescribedGroup) -> DescribedGroup {
    for member in &mut group.members {
        member
            .partitions
            .retain(|partition| may_see(principal, partition));
    }
    group
}

fn gone(id: &str) -> Fault {
    Fault::new(FaultKind::NotFound, format!("Group {id} does not exist."))
}
