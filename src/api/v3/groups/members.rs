//! `…/consumer-groups/{group}/consumers`: the members of a group, and the partitions that each reads.

use axum::response::Response;
use serde::{Deserialize, Serialize};

use super::{GroupPath, missing};
use crate::admin::groups;
use crate::api::json::ok;
use crate::api::v3::call::{Call, not_found, shown};
use crate::api::v3::error::Errors;
use crate::api::v3::page::{PageParams, PrefixParam};
use crate::api::v3::resource::{Metadata, Related, resource};
use crate::http::error::ApiError;
use crate::http::extract::Path;
use crate::kafka::admin::{DescribedGroup, Member};
use crate::record::TopicPartition;

resource!(
    /// Members of a group
    ConsumerList of Consumer: ConsumerKind, ConsumerListKind, "KafkaConsumer", "KafkaConsumerList"
);

resource!(
    /// Partitions that a member reads
    ConsumerAssignmentList of ConsumerAssignment: ConsumerAssignmentKind, ConsumerAssignmentListKind, "KafkaConsumerAssignment", "KafkaConsumerAssignmentList"
);

/// A member of a group
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Consumer {
    kind: ConsumerKind,
    metadata: Metadata,
    /// The cluster's id.
    cluster_id: String,
    /// The group.
    consumer_group_id: String,
    /// Its id.
    consumer_id: String,
    /// The name that it keeps over restarts (KIP-345); `null` where it has none.
    #[schema(required = true)]
    instance_id: Option<String>,
    /// What its client calls itself.
    client_id: String,
    /// Where it connects from. Not in the reference.
    host: String,
    /// The partitions that it reads.
    assignments: Related,
}

/// A partition that a member reads
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct ConsumerAssignment {
    kind: ConsumerAssignmentKind,
    metadata: Metadata,
    /// The cluster's id.
    cluster_id: String,
    /// The group.
    consumer_group_id: String,
    /// The member.
    consumer_id: String,
    /// The topic.
    topic_name: String,
    /// The partition.
    partition_id: i32,
    /// The partition.
    partition: Related,
    /// How far the group is behind in it.
    lag: Related,
}

/// The member that a path names.
#[derive(Debug, Deserialize)]
pub struct MemberPath {
    pub(in crate::api::v3) group: String,
    pub(in crate::api::v3) consumer: String,
}

/// The partition of a member that a path names.
#[derive(Debug, Deserialize)]
pub struct AssignmentPath {
    pub(in crate::api::v3) group: String,
    pub(in crate::api::v3) consumer: String,
    topic: String,
    partition: String,
}

impl AssignmentPath {
    /// The partition that the path names, of those that the member reads.
    pub(in crate::api::v3) fn find<'m>(
        &self,
        member: &'m Member,
    ) -> Result<&'m TopicPartition, ApiError> {
        let number = self.partition.parse().ok();
        let is_meant =
            |one: &&TopicPartition| *one.topic == *self.topic && Some(one.partition) == number;
        member.partitions.iter().find(is_meant).ok_or_else(|| {
            not_found(
                &format!("Assignment of partition {}", shown(&self.partition)),
                "partition",
            )
        })
    }
}

async fn group(call: &Call, id: &str) -> Result<DescribedGroup, ApiError> {
    let described = groups::describe(call.cluster(), &call.principal, id).await;
    described.map_err(|fault| missing(call, id, &fault))
}

/// The member of this id.
pub(in crate::api::v3) fn member<'a>(
    group: &'a DescribedGroup,
    id: &str,
) -> Result<&'a Member, ApiError> {
    let found = group.members.iter().find(|member| member.id == id);
    found.ok_or_else(|| not_found(&format!("Consumer {}", shown(id)), "consumer"))
}

fn described(call: &Call, group: &str, member: &Member) -> Consumer {
    let (links, id) = (&call.links, &member.id);
    Consumer {
        kind: ConsumerKind::It,
        metadata: links.metadata(
            &["consumer-groups", group, "consumers", id],
            &[("consumer-group", group), ("consumer", id)],
        ),
        cluster_id: links.id(),
        consumer_group_id: group.to_owned(),
        consumer_id: id.clone(),
        instance_id: member.instance_id.clone(),
        client_id: member.client_id.clone(),
        host: member.host.clone(),
        assignments: links.related(&["consumer-groups", group, "consumers", id, "assignments"]),
    }
}

fn assigned(
    call: &Call,
    group: &str,
    member: &Member,
    partition: &TopicPartition,
) -> ConsumerAssignment {
    let (links, id) = (&call.links, &member.id);
    let (topic, number) = (&*partition.topic, partition.partition.to_string());
    ConsumerAssignment {
        kind: ConsumerAssignmentKind::It,
        metadata: links.metadata(
            &[
                "consumer-groups",
                group,
                "consumers",
                id,
                "assignments",
                topic,
                "partitions",
                &number,
            ],
            &[
                ("consumer-group", group),
                ("consumer", id),
                ("assignment", topic),
                ("partition", &number),
            ],
        ),
        cluster_id: links.id(),
        consumer_group_id: group.to_owned(),
        consumer_id: id.clone(),
        topic_name: topic.to_owned(),
        partition_id: partition.partition,
        partition: links.related(&["topics", topic, "partitions", &number]),
        lag: links.related(&[
            "consumer-groups",
            group,
            "lags",
            topic,
            "partitions",
            &number,
        ]),
    }
}

/// List a group's members
///
/// Needs `describe` on the group.
#[utoipa::path(
    get,
    path = "/v3/clusters/{cluster}/consumer-groups/{group}/consumers",
    operation_id = "listConsumersV3",
    tag = "Compatible REST v3",
    params(
        ("cluster" = String, Path, description = "The cluster's id"),
        ("group" = String, Path, description = "The group", example = "billing"),
        PageParams,
        PrefixParam,
    ),
    responses(
        (status = 200, description = "The members, by id", body = ConsumerList),
        Errors,
    )
)]
pub async fn list(mut call: Call, Path(path): Path<GroupPath>) -> Result<Response, ApiError> {
    let page = call.page()?;
    let group = group(&call, &path.group).await?;
    let url = call
        .links
        .url(&["consumer-groups", &path.group, "consumers"]);
    let members = group.members.iter().collect();
    let page = page.of_names(url, members, |member: &&Member| &member.id);
    let data = page.data.into_iter();
    let data = data.map(|member| described(&call, &path.group, member));
    ok(&ConsumerList::new(page.metadata, data.collect()))
}

/// Describe a member of a group
///
/// Needs `describe` on the group.
#[utoipa::path(
    get,
    path = "/v3/clusters/{cluster}/consumer-groups/{group}/consumers/{consumer}",
    operation_id = "getConsumerV3",
    tag = "Compatible REST v3",
    params(
        ("cluster" = String, Path, description = "The cluster's id"),
        ("group" = String, Path, description = "The group", example = "billing"),
        ("consumer" = String, Path, description = "The member's id"),
    ),
    responses(
        (status = 200, description = "The member", body = Consumer),
        Errors,
    )
)]
pub async fn get(call: Call, Path(path): Path<MemberPath>) -> Result<Response, ApiError> {
    let group = group(&call, &path.group).await?;
    ok(&described(
        &call,
        &path.group,
        member(&group, &path.consumer)?,
    ))
}

/// List the partitions that a member reads
///
/// Of the topics that the caller may describe, by topic and partition.
///
/// Needs `describe` on the group.
#[utoipa::path(
    get,
    path = "/v3/clusters/{cluster}/consumer-groups/{group}/consumers/{consumer}/assignments",
    operation_id = "listConsumerAssignmentsV3",
    tag = "Compatible REST v3",
    params(
        ("cluster" = String, Path, description = "The cluster's id"),
        ("group" = String, Path, description = "The group", example = "billing"),
        ("consumer" = String, Path, description = "The member's id"),
        PageParams,
    ),
    responses(
        (status = 200, description = "The partitions", body = ConsumerAssignmentList),
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
    let url = call.links.url(&[
        "consumer-groups",
        &path.group,
        "consumers",
        &path.consumer,
        "assignments",
    ]);
    let partitions = member.partitions.iter().collect();
    let page = page.of_partitions(url, partitions, |one| *one)?;
    let data = page.data.into_iter();
    let data = data.map(|partition| assigned(&call, &path.group, member, partition));
    ok(&ConsumerAssignmentList::new(page.metadata, data.collect()))
}

/// Tell of a partition that a member reads
///
/// Needs `describe` on the group.
#[utoipa::path(
    get,
    path = "/v3/clusters/{cluster}/consumer-groups/{group}/consumers/{consumer}/assignments/{topic}/partitions/{partition}",
    operation_id = "getConsumerAssignmentV3",
    tag = "Compatible REST v3",
    params(
        ("cluster" = String, Path, description = "The cluster's id"),
        ("group" = String, Path, description = "The group", example = "billing"),
        ("consumer" = String, Path, description = "The member's id"),
        ("topic" = String, Path, description = "The topic", example = "orders"),
        ("partition" = i32, Path, description = "The partition", example = 0),
    ),
    responses(
        (status = 200, description = "The member reads it; 404 where it does not", body = ConsumerAssignment),
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
