//! `…/share-groups/{group}/consumers`: the members of a share group, and the partitions that each reads. Several members
//! read one partition, and each gets some of its records.

use axum::response::Response;
use serde::Serialize;

use super::missing;
use crate::admin::groups::share;
use crate::api::json::ok;
use crate::api::v3::call::Call;
use crate::api::v3::error::Errors;
use crate::api::v3::groups::GroupPath;
use crate::api::v3::groups::members::{AssignmentPath, MemberPath, member};
use crate::api::v3::page::PageParams;
use crate::api::v3::resource::{Metadata, Related, resource};
use crate::http::error::ApiError;
use crate::http::extract::Path;
use crate::kafka::admin::{DescribedGroup, Member};
use crate::record::TopicPartition;

resource!(
    /// Members of a share group
    ShareGroupConsumerList of ShareGroupConsumer: ShareGroupConsumerKind, ShareGroupConsumerListKind, "KafkaShareGroupConsumer", "KafkaShareGroupConsumerList"
);

resource!(
    /// Partitions that a member reads
    ShareGroupAssignmentList of ShareGroupAssignment: ShareGroupAssignmentKind, ShareGroupAssignmentListKind, "KafkaShareGroupConsumerAssignment", "KafkaShareGroupConsumerAssignmentList"
);

/// A member of a share group
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct ShareGroupConsumer {
    kind: ShareGroupConsumerKind,
    metadata: Metadata,
    /// The cluster's id.
    cluster_id: String,
    /// The group.
    group_id: String,
    /// Its id.
    consumer_id: String,
    /// What its client calls itself.
    client_id: String,
    /// Where it connects from. Not in the reference.
    host: String,
    /// The partitions that it reads.
    assignments: Related,
}

/// A partition that a member reads
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct ShareGroupAssignment {
    kind: ShareGroupAssignmentKind,
    metadata: Metadata,
    /// The cluster's id.
    cluster_id: String,
    /// The group.
    group_id: String,
    /// The member.
    consumer_id: String,
    /// The topic.
    topic_name: String,
    /// The partition.
    partition_id: i32,
    /// The partition.
    partition: Related,
}

async fn group(call: &Call, id: &str) -> Result<DescribedGroup, ApiError> {
    let described = share::describe(call.cluster(), &call.principal, id).await;
    let described = described.map_err(|fault| missing(call, id, &fault))?;
    Ok(described.group)
}

fn described(call: &Call, group: &str, member: &Member) -> ShareGroupConsumer {
    let (links, id) = (&call.links, &member.id);
    ShareGroupConsumer {
        kind: ShareGroupConsumerKind::It,
        metadata: links.metadata(
            &["share-groups", group, "consumers", id],
            &[("share-group", group), ("consumer", id)],
        ),
        cluster_id: links.id(),
        group_id: group.to_owned(),
        consumer_id: id.clone(),
        client_id: member.client_id.clone(),
        host: member.host.clone(),
        assignments: links.related(&["share-groups", group, "consumers", id, "assignments"]),
    }
}

fn assigned(
    call: &Call,
    group: &str,
    member: &Member,
    partition: &TopicPartition,
) -> ShareGroupAssignment {
    let (links, id) = (&call.links, &*member.id);
    let (topic, number) = (&*partition.topic, partition.partition.to_string());
    let path = [
        "share-groups",
        group,
        "consumers",
        id,
        "assignments",
        topic,
        "partitions",
        &number,
    ];
    let names = [
        ("share-group", group),
        ("consumer", id),
        ("assignment", topic),
        ("partition", &number),
    ];
    ShareGroupAssignment {
        kind: ShareGroupAssignmentKind::It,
        metadata: links.metadata(&path, &names),
        cluster_id: links.id(),
        group_id: group.to_owned(),
        consumer_id: id.to_owned(),
        topic_name: topic.to_owned(),
        partition_id: partition.partition,
        partition: links.related(&["topics", topic, "partitions", &number]),
    }
}

/// List a share group's members
///
/// Needs `describe` on the group.
#[utoipa::path(
    get,
    path = "/v3/clusters/{cluster}/share-groups/{group}/consumers",
    operation_id = "listShareGroupConsumersV3",
    tag = "Compatible REST v3",
    params(
        ("cluster" = String, Path, description = "The cluster's id"),
        ("group" = String, Path, description = "The group", example = "parcels"),
        PageParams,
    ),
    responses(
        (status = 200, description = "The members, by id", body = ShareGroupConsumerList),
        Errors,
    )
)]
pub async fn list(mut call: Call, Path(path): Path<GroupPath>) -> Result<Response, ApiError> {
    let page = call.page()?;
    let group = group(&call, &path.group).await?;
    let url = call.links.url(&["share-groups", &path.group, "consumers"]);
    let page = page.of_names(url, group.members, |member| &member.id);
    let data = page.data.iter();
    let data = data.map(|member| described(&call, &path.group, member));
    ok(&ShareGroupConsumerList::new(page.metadata, data.collect()))
}

/// Describe a member of a share group
///
/// Needs `describe` on the group.
#[utoipa::path(
    get,
    path = "/v3/clusters/{cluster}/share-groups/{group}/consumers/{consumer}",
    operation_id = "getShareGroupConsumerV3",
    tag = "Compatible REST v3",
    params(
        ("cluster" = String, Path, description = "The cluster's id"),
        ("group" = String, Path, description = "The group", example = "parcels"),
        ("consumer" = String, Path, description = "The member's id"),
    ),
    responses(
        (status = 200, description = "The member", body = ShareGroupConsumer),
        Errors,
    )
)]
pub async fn get(call: Call, Path(path): Path<MemberPath>) -> Result<Response, ApiError> {
    let group = group(&call, &path.group).await?;
    let member = member(&group, &path.consumer)?;
    ok(&described(&call, &path.group, member))
}

/// List the partitions that a member of a share group reads
///
/// Of the topics that the caller may describe, by topic and partition. Other members may read them too.
///
/// Needs `describe` on the group.
#[utoipa::path(
    get,
    path = "/v3/clusters/{cluster}/share-groups/{group}/consumers/{consumer}/assignments",
    operation_id = "listShareGroupAssignmentsV3",
    tag = "Compatible REST v3",
    params(
        ("cluster" = String, Path, description = "The cluster's id"),
        ("group" = String, Path, description = "The group", example = "parcels"),
        ("consumer" = String, Path, description = "The member's id"),
        PageParams,
    ),
    responses(
        (status = 200, description = "The partitions", body = ShareGroupAssignmentList),
        Errors,
    )
)]
pub async fn assignments(
    mut call: Call,
    Path(path): Path<MemberPath>,
) -> Result<Response, ApiError> {
    let page = call.page()?;
    let group = group(&call, &path.group).await?;
    let member = member(&group, &path.consumer)?;
    let url = [
        "share-groups",
        &path.group,
        "consumers",
        &path.consumer,
        "assignments",
    ];
    let partitions = member.partitions.iter().collect();
    let page = page.of_partitions(call.links.url(&url), partitions, |one| *one)?;
    let data = page.data.into_iter();
    let data = data.map(|partition| assigned(&call, &path.group, member, partition));
    ok(&ShareGroupAssignmentList::new(
        page.metadata,
        data.collect(),
    ))
}

/// Tell of a partition that a member of a share group reads
///
/// Needs `describe` on the group.
#[utoipa::path(
    get,
    path = "/v3/clusters/{cluster}/share-groups/{group}/consumers/{consumer}/assignments/{topic}/partitions/{partition}",
    operation_id = "getShareGroupAssignmentV3",
    tag = "Compatible REST v3",
    params(
        ("cluster" = String, Path, description = "The cluster's id"),
        ("group" = String, Path, description = "The group", example = "parcels"),
        ("consumer" = String, Path, description = "The member's id"),
        ("topic" = String, Path, description = "The topic", example = "orders"),
        ("partition" = i32, Path, description = "The partition", example = 0),
    ),
    responses(
        (status = 200, description = "The member reads it; 404 where it does not", body = ShareGroupAssignment),
        Errors,
    )
)]
pub async fn assignment(
    call: Call,
    Path(path): Path<AssignmentPath>,
) -> Result<Response, ApiError> {
    let group = group(&call, &path.group).await?;
    let member = member(&group, &path.consumer)?;
    let partition = path.find(member)?;
    ok(&assigned(&call, &path.group, member, partition))
}
