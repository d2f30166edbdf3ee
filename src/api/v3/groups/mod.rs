//! `/v3/clusters/{cluster}/consumer-groups`: groups, their members, and how far they are behind.
//!
//! - `members.rs`: members and what each reads
//! - `lags.rs`: how far a group is behind, in each partition and in all

pub mod lags;
pub mod members;

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};

use super::call::{Call, not_found, shown};
use super::error::Errors;
use super::page::{PageParams, PrefixParam};
use super::resource::{Metadata, Related, resource};
use crate::admin::groups;
use crate::api::json::ok;
use crate::http::error::ApiError;
use crate::http::extract::Path;
use crate::kafka::admin::DescribedGroup;
use crate::kafka::fault::{Fault, FaultKind};

resource!(
    /// Consumer groups
    ConsumerGroupList of ConsumerGroup: ConsumerGroupKind, ConsumerGroupListKind, "KafkaConsumerGroup", "KafkaConsumerGroupList"
);

/// A consumer group
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct ConsumerGroup {
    kind: ConsumerGroupKind,
    metadata: Metadata,
    /// The cluster's id.
    cluster_id: String,
    /// Its id.
    #[schema(example = "billing")]
    consumer_group_id: String,
    /// Whether it only keeps offsets and never had members.
    is_simple: bool,
    /// How partitions are divided among its members; empty where it has none.
    #[schema(example = "range")]
    partition_assignor: String,
    /// Its state in Kafka's words.
    #[schema(example = "STABLE")]
    state: String,
    /// Which protocol its members speak: `CLASSIC`, or `CONSUMER` (KIP-848).
    #[schema(example = "CONSUMER")]
    r#type: &'static str,
    /// Whether it has members of both protocols.
    is_mixed_consumer_group: bool,
    /// The broker that coordinates it; `null` where that is not known at the moment.
    #[schema(required = true)]
    coordinator: Option<Related>,
    /// Its members.
    consumers: Related,
    /// How far it is behind in all.
    lag_summary: Related,
}

/// The group that a path names.
#[derive(Debug, Deserialize)]
pub struct GroupPath {
    pub(super) group: String,
}

/// What was not found, as Confluent REST Proxy says it; other faults as they are.
fn missing(call: &Call, group: &str, fault: &Fault) -> ApiError {
    match fault.kind {
        FaultKind::NotFound => not_found(&format!("Consumer group {}", shown(group)), "group"),
        _ => call.fault(fault),
    }
}

/// A word of Kafka's in upper case, its parts apart: `PreparingRebalance` is `PREPARING_REBALANCE`.
pub(super) fn upper_snake(word: &str) -> String {
    let mut snake = String::with_capacity(word.len() + 4);
    for (at, letter) in word.char_indices() {
        if at > 0 && letter.is_ascii_uppercase() {
            snake.push('_');
        }
        snake.push(letter.to_ascii_uppercase());
    }
    snake
}

fn described(call: &Call, group: &DescribedGroup, coordinator: Option<i32>) -> ConsumerGroup {
    let (links, id) = (&call.links, &*group.id);
    let is_classic = |member: &crate::kafka::admin::Member| member.is_classic;
    let classic = group
        .members
        .iter()
        .filter(|member| is_classic(member))
        .count();
    ConsumerGroup {
        kind: ConsumerGroupKind::It,
        metadata: links.metadata(&["consumer-groups", id], &[("consumer-group", id)]),
        cluster_id: links.id(),
        consumer_group_id: id.to_owned(),
        is_simple: group.protocol_type.is_empty(),
        partition_assignor: group.assignor.clone(),
        state: upper_snake(&group.state),
        r#type: group.protocol.name(),
        is_mixed_consumer_group: classic > 0 && classic < group.members.len(),
        coordinator: coordinator.map(|broker| links.related(&["brokers", &broker.to_string()])),
        consumers: links.related(&["consumer-groups", id, "consumers"]),
        lag_summary: links.related(&["consumer-groups", id, "lag-summary"]),
    }
}

/// List the consumer groups
///
/// By id, and only those that the caller may describe.
///
/// Needs no permission to be called; shows what `describe` allows.
#[utoipa::path(
    get,
    path = "/v3/clusters/{cluster}/consumer-groups",
    operation_id = "listConsumerGroupsV3",
    tag = "Compatible REST v3",
    params(
        ("cluster" = String, Path, description = "The cluster's id"),
        PageParams,
        PrefixParam,
    ),
    responses(
        (status = 200, description = "The groups", body = ConsumerGroupList),
        Errors,
    )
)]
pub async fn list(mut call: Call) -> Result<Response, ApiError> {
    let page = call.page()?;
    let listed = groups::listed(call.cluster(), &call.principal).await;
    let listed = listed.map_err(|fault| call.fault(&fault))?;
    let page = page.of_names(call.links.url(&["consumer-groups"]), listed, |group| {
        &group.id
    });
    let all = groups::describe_each(call.cluster(), &call.principal, &page.data).await;
    let all = all.map_err(|fault| call.fault(&fault))?;
    let data = all
        .iter()
        .map(|one| described(&call, &one.group, one.coordinator));
    ok(&ConsumerGroupList::new(page.metadata, data.collect()))
}

/// Describe a consumer group
///
/// Needs `describe` on the group.
#[utoipa::path(
    get,
    path = "/v3/clusters/{cluster}/consumer-groups/{group}",
    operation_id = "getConsumerGroupV3",
    tag = "Compatible REST v3",
    params(
        ("cluster" = String, Path, description = "The cluster's id"),
        ("group" = String, Path, description = "The group", example = "billing"),
    ),
    responses(
        (status = 200, description = "The group", body = ConsumerGroup),
        Errors,
    )
)]
pub async fn get(call: Call, Path(path): Path<GroupPath>) -> Result<Response, ApiError> {
    let group = groups::describe_whole(call.cluster(), &call.principal, &path.group).await;
    let group = group.map_err(|fault| missing(&call, &path.group, &fault))?;
    ok(&described(&call, &group.group, group.coordinator))
}

/// Delete a consumer group
///
/// With all that it has committed. A group that has members is not deleted. Not in the reference.
///
/// Needs `group` on the group.
#[utoipa::path(
    delete,
    path = "/v3/clusters/{cluster}/consumer-groups/{group}",
    operation_id = "deleteConsumerGroupV3",
    tag = "Compatible REST v3",
    params(
        ("cluster" = String, Path, description = "The cluster's id"),
        ("group" = String, Path, description = "The group", example = "billing"),
    ),
    responses(
        (status = 204, description = "It is deleted"),
        (status = 409, description = "It has members (409)", body = crate::http::error::ErrorBody),
        Errors,
    )
)]
pub async fn delete(call: Call, Path(path): Path<GroupPath>) -> Result<Response, ApiError> {
    let deleted = groups::delete(call.cluster(), &path.group).await;
    deleted.map_err(|error| match error {
        crate::admin::AdminError::Kafka(fault) => missing(&call, &path.group, &fault),
        other => call.refused(other),
    })?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_are_kafkas_words_in_upper_case() {
        for (word, expected) in [
            ("Stable", "STABLE"),
            ("PreparingRebalance", "PREPARING_REBALANCE"),
            ("CompletingRebalance", "COMPLETING_REBALANCE"),
            ("Empty", "EMPTY"),
            ("", ""),
        ] {
            assert_eq!(upper_snake(word), expected);
        }
    }
}
