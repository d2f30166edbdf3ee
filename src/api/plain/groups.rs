//! `/groups`: consumer groups and share groups are listed, described with their lag, and deleted.

use axum::Extension;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::error::{KafkaErrors, fault, refused};
use crate::admin::groups::{self, GroupLag};
use crate::api::json::ok;
use crate::auth::Principal;
use crate::gateway::Gateway;
use crate::http::error::{ApiError, ErrorBody};
use crate::http::extract::{Path, Query, unexpected};
use crate::kafka::admin::{DescribedGroup, GroupProtocol, ListedGroup, Member};

/// A consumer group in a list
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct ListedGroupInfo {
    /// Its id.
    #[schema(example = "billing")]
    group: String,
    /// Its state in Kafka's words, such as `Stable` or `Empty`; `null` where the brokers do not tell (before
    /// Kafka 2.6).
    #[schema(required = true, example = "Stable")]
    state: Option<String>,
    /// What kind of group it is, by the protocol that its members speak: `classic`, `consumer` (KIP-848), `share`
    /// (KIP-932) or `streams` (KIP-1071); `null` where the brokers do not tell (before Kafka 3.8).
    #[schema(required = true, example = "consumer")]
    protocol: Option<String>,
    /// The broker that coordinates it.
    #[schema(example = 1)]
    coordinator: i32,
}

/// A consumer group
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct GroupInfo {
    /// Its id.
    #[schema(example = "billing")]
    group: String,
    /// Its state in Kafka's words, such as `Stable` or `Empty`.
    #[schema(example = "Stable")]
    state: String,
    /// What kind of group it is, by the protocol that its members speak: `classic`, `consumer` (KIP-848) or `share`
    /// (KIP-932).
    #[schema(example = "consumer")]
    protocol: String,
    /// How partitions are divided among its members; empty where it has none.
    #[schema(example = "uniform")]
    assignor: String,
    /// The lags of all partitions together.
    #[schema(example = 120)]
    lag: i64,
    /// Its members, by id.
    members: Vec<GroupMemberInfo>,
    /// The partitions for which it has committed, or in which a share group has a start, the one with the largest lag
    /// first.
    partitions: Vec<GroupPartitionInfo>,
}

/// A member of a group
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct GroupMemberInfo {
    /// Its id.
    member: String,
    /// The name that it keeps over restarts (KIP-345); only where it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    instance_id: Option<String>,
    /// What its client calls itself.
    client_id: String,
    /// Where it connects from.
    host: String,
    /// How many partitions it reads, of the topics that the caller may describe.
    partitions: usize,
}

/// How far a group is in a partition
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct GroupPartitionInfo {
    /// The topic.
    #[schema(example = "orders")]
    topic: String,
    /// The partition.
    partition: i32,
    /// The offset of the next record that the group reads; of a share group, that of the first record which it may
    /// still deliver.
    committed: i64,
    /// The offset behind the last record that it may read now.
    end: i64,
    /// Records between the two; of a share group, without those that it is done with, where the broker tells (Kafka
    /// 4.3).
    lag: i64,
    /// The member that reads it; `null` where none does, and of a share group.
    #[schema(required = true)]
    member: Option<String>,
}

impl From<ListedGroup> for ListedGroupInfo {
    fn from(group: ListedGroup) -> Self {
        let protocol = group
            .protocol
            .map(|protocol| protocol.name().to_lowercase());
        Self {
            group: group.id.to_string(),
            state: group.state,
            protocol,
            coordinator: group.coordinator,
        }
    }
}

impl From<&Member> for GroupMemberInfo {
    fn from(member: &Member) -> Self {
        Self {
            member: member.id.clone(),
            instance_id: member.instance_id.clone(),
            client_id: member.client_id.clone(),
            host: member.host.clone(),
            partitions: member.partitions.len(),
        }
    }
}

impl From<&GroupLag> for GroupPartitionInfo {
    fn from(lag: &GroupLag) -> Self {
        let partition = &lag.lag.partition;
        Self {
            topic: partition.topic.to_string(),
            partition: partition.partition,
            committed: lag.lag.committed,
            end: lag.lag.end,
            lag: lag.lag.lag(),
            member: lag.member.as_ref().map(|member| member.id.clone()),
        }
    }
}

fn described(group: &DescribedGroup, lags: &[GroupLag]) -> GroupInfo {
    GroupInfo {
        group: group.id.to_string(),
        state: group.state.clone(),
        protocol: group.protocol.name().to_lowercase(),
        assignor: group.assignor.clone(),
        lag: lags.iter().map(|lag| lag.lag.lag()).sum(),
        members: group.members.iter().map(GroupMemberInfo::from).collect(),
        partitions: lags.iter().map(GroupPartitionInfo::from).collect(),
    }
}

/// List the groups
///
/// Those of consumers, share groups and those of Kafka Streams, by id, and only those that the caller may describe. Each
/// broker is asked once.
///
/// Needs no permission to be called; shows what `describe` allows.
#[utoipa::path(
    get,
    path = "/groups",
    operation_id = "listGroups",
    tag = "Administration",
    params(
        ("prefix" = Option<String>, Query, description = "Only groups whose ids begin so"),
        ("protocol" = Option<String>, Query, description = "Only groups of this kind: `classic`, `consumer`, `share` or `streams`", example = "share"),
    ),
    responses(
        (status = 200, description = "The groups", body = Vec<ListedGroupInfo>),
        (status = 400, description = "A parameter is unknown, given twice or cannot be read", body = ErrorBody),
        (status = 501, description = "The brokers do not offer it, such as the embedded broker", body = ErrorBody),
        KafkaErrors,
    )
)]
pub async fn list(
    gateway: Gateway,
    Extension(principal): Extension<Principal>,
    mut query: Query,
) -> Result<Response, ApiError> {
    let prefix = query.take("prefix")?.unwrap_or_default();
    let protocol = match query.take("protocol")? {
        None => None,
        Some(word) => Some(
            GroupProtocol::of_name(&word)
                .ok_or_else(|| unexpected("protocol", &word, GroupProtocol::WORDS))?,
        ),
    };
    query.finish()?;
    let groups = groups::listed_of_all_kinds(gateway.cluster(), &principal).await;
    let groups = groups.map_err(|why| fault(&gateway, &why))?.into_iter();
    let groups = groups.filter(|group| {
        group.id.starts_with(&prefix) && (protocol.is_none() || protocol == group.protocol)
    });
    let groups: Vec<ListedGroupInfo> = groups.map(ListedGroupInfo::from).collect();
    ok(&groups)
}

/// Describe a group
///
/// One of consumers, or a share group: its members, and its lag in each partition for which it has committed. Topics
/// that the caller may not describe are left out, of the lag too.
///
/// Needs `describe` on the group.
#[utoipa::path(
    get,
    path = "/groups/{group}",
    operation_id = "getGroup",
    tag = "Administration",
    params(("group" = String, Path, description = "The group", example = "billing")),
    responses(
        (status = 200, description = "The group", body = GroupInfo),
        (status = 400, description = "A parameter is unknown", body = ErrorBody),
        (status = 403, description = "No permission, here or at the broker (40301)", body = ErrorBody),
        (status = 404, description = "No such group", body = ErrorBody),
        (status = 501, description = "The brokers do not offer it, such as the embedded broker", body = ErrorBody),
        KafkaErrors,
    )
)]
pub async fn get(
    gateway: Gateway,
    Extension(principal): Extension<Principal>,
    Path(id): Path<String>,
    query: Query,
) -> Result<Response, ApiError> {
    query.finish()?;
    let found = groups::lags_of_any_kind(gateway.cluster(), &principal, &id).await;
    let (group, lags) = found.map_err(|why| fault(&gateway, &why))?;
    ok(&described(&group, &lags))
}

/// Delete a group
///
/// With all that it has committed. A group that has members is not deleted: stop them first.
///
/// Needs `group` on the group.
#[utoipa::path(
    delete,
    path = "/groups/{group}",
    operation_id = "deleteGroup",
    tag = "Administration",
    params(("group" = String, Path, description = "The group", example = "billing")),
    responses(
        (status = 204, description = "It is deleted"),
        (status = 400, description = "A parameter is unknown", body = ErrorBody),
        (status = 403, description = "No permission, here or at the broker (40301)", body = ErrorBody),
        (status = 404, description = "No such group", body = ErrorBody),
        (status = 409, description = "It has members", body = ErrorBody),
        (status = 501, description = "The brokers do not offer it, such as the embedded broker", body = ErrorBody),
        KafkaErrors,
    )
)]
pub async fn delete(
    gateway: Gateway,
    Path(id): Path<String>,
    query: Query,
) -> Result<Response, ApiError> {
    query.finish()?;
    let deleted = groups::delete(gateway.cluster(), &id).await;
    deleted.map_err(|error| refused(&gateway, error))?;
    Ok(StatusCode::NO_CONTENT.into_response())
}
