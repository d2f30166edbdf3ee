//! `/v3/clusters/{cluster}/share-groups`: share groups (KIP-932), in the shapes of Confluent's newer API.
//!
//! - `members.rs`: members and what each reads
//! - `offsets.rs`: where a group starts in each partition, and how that is moved

pub mod members;
pub mod offsets;

use std::collections::BTreeSet;

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::call::{Call, not_found, shown};
use super::error::Errors;
use super::groups::{GroupPath, upper_snake};
use super::page::{PageParams, PrefixParam};
use super::resource::{Metadata, Related, resource};
use crate::admin::AdminError;
use crate::admin::groups::{Group, share};
use crate::api::json::ok;
use crate::http::error::ApiError;
use crate::http::extract::Path;
use crate::kafka::fault::{Fault, FaultKind};
use crate::record::TopicPartition;

resource!(
    /// Share groups
    ShareGroupList of ShareGroup: ShareGroupKind, ShareGroupListKind, "KafkaShareGroup", "KafkaShareGroupList"
);

/// A share group
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct ShareGroup {
    kind: ShareGroupKind,
    metadata: Metadata,
    /// The cluster's id.
    cluster_id: String,
    /// Its id.
    #[schema(example = "parcels")]
    share_group_id: String,
    /// How partitions are divided among its members. Not in the reference.
    #[schema(example = "simple")]
    partition_assignor: String,
    /// Its state in Kafka's words.
    #[schema(example = "STABLE")]
    state: String,
    /// How many members it has.
    consumer_count: usize,
    /// How many partitions its members read, each counted once.
    partition_count: usize,
    /// The broker that coordinates it; `null` where that is not known at the moment.
    #[schema(required = true)]
    coordinator: Option<Related>,
    /// Its members.
    consumers: Related,
    /// Where it starts in each partition. Not in the reference.
    offsets: Related,
}

/// What was not found; other faults as they are.
fn missing(call: &Call, group: &str, fault: &Fault) -> ApiError {
    match fault.kind {
        FaultKind::NotFound => not_found(&format!("Share group {}", shown(group)), "group"),
        _ => call.fault(fault),
    }
}

/// The same of what is refused here.
fn refused(call: &Call, group: &str, error: AdminError) -> ApiError {
    match error {
        AdminError::Kafka(fault) => missing(call, group, &fault),
        other => call.refused(other),
    }
}

fn described(call: &Call, one: &Group) -> ShareGroup {
    let (links, group, id) = (&call.links, &one.group, &*one.group.id);
    let members = group.members.iter();
    let partitions: BTreeSet<&TopicPartition> =
        members.flat_map(|member| &member.partitions).collect();
    let coordinator = one.coordinator.map(|broker| broker.to_string());
    ShareGroup {
        kind: ShareGroupKind::It,
        metadata: links.metadata(&["share-groups", id], &[("share-group", id)]),
        cluster_id: links.id(),
        share_group_id: id.to_owned(),
        partition_assignor: group.assignor.clone(),
        state: upper_snake(&group.state),
        consumer_count: group.members.len(),
        partition_count: partitions.len(),
        coordinator: coordinator.map(|broker| links.related(&["brokers", &broker])),
        consumers: links.related(&["share-groups", id, "consumers"]),
        offsets: links.related(&["share-groups", id, "offsets"]),
    }
}

/// List the share groups
///
/// By id, and only those that the caller may describe. Brokers that have no share groups, before Kafka 4.1, are 501.
///
/// Needs no permission to be called; shows what `describe` allows.
#[utoipa::path(
    get,
    path = "/v3/clusters/{cluster}/share-groups",
    operation_id = "listShareGroupsV3",
    tag = "Compatible REST v3",
    params(
        ("cluster" = String, Path, description = "The cluster's id"),
        PageParams,
        PrefixParam,
    ),
    responses(
        (status = 200, description = "The groups", body = ShareGroupList),
        Errors,
    )
)]
pub async fn list(mut call: Call) -> Result<Response, ApiError> {
    let page = call.page()?;
    let listed = share::listed(call.cluster(), &call.principal).await;
    let listed = listed.map_err(|fault| call.fault(&fault))?;
    let page = page.of_names(call.links.url(&["share-groups"]), listed, |group| &group.id);
    let all = share::describe_each(call.cluster(), &call.principal, &page.data).await;
    let all = all.map_err(|fault| call.fault(&fault))?;
    let data = all.iter().map(|one| described(&call, one));
    ok(&ShareGroupList::new(page.metadata, data.collect()))
}

/// Describe a share group
///
/// Needs `describe` on the group.
#[utoipa::path(
    get,
    path = "/v3/clusters/{cluster}/share-groups/{group}",
    operation_id = "getShareGroupV3",
    tag = "Compatible REST v3",
    params(
        ("cluster" = String, Path, description = "The cluster's id"),
        ("group" = String, Path, description = "The group", example = "parcels"),
    ),
    responses(
        (status = 200, description = "The group", body = ShareGroup),
        Errors,
    )
)]
pub async fn get(call: Call, Path(path): Path<GroupPath>) -> Result<Response, ApiError> {
    let group = share::describe(call.cluster(), &call.principal, &path.group).await;
    let group = group.map_err(|fault| missing(&call, &path.group, &fault))?;
    ok(&described(&call, &group))
}

/// Delete a share group
///
/// With its starts in all partitions. A group that has members is not deleted, and none that is no share group. Not in
/// the reference.
///
/// Needs `group` on the group.
#[utoipa::path(
    delete,
    path = "/v3/clusters/{cluster}/share-groups/{group}",
    operation_id = "deleteShareGroupV3",
    tag = "Compatible REST v3",
    params(
        ("cluster" = String, Path, description = "The cluster's id"),
        ("group" = String, Path, description = "The group", example = "parcels"),
    ),
    responses(
        (status = 204, description = "It is deleted"),
        (status = 409, description = "It has members (409)", body = crate::http::error::ErrorBody),
        Errors,
    )
)]
pub async fn delete(call: Call, Path(path): Path<GroupPath>) -> Result<Response, ApiError> {
    let deleted = share::delete(call.cluster(), &path.group).await;
    deleted.map_err(|error| refused(&call, &path.group, error))?;
    Ok(StatusCode::NO_CONTENT.into_response())
}
