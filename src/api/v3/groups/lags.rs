//! `…/consumer-groups/{group}/lags` and `…/lag-summary`: how far a group is behind.

use axum::response::Response;
use serde::{Deserialize, Serialize};

use super::{GroupPath, missing};
use crate::admin::groups::{self, GroupLag};
use crate::api::json::ok;
use crate::api::v3::call::{Call, not_found, shown};
use crate::api::v3::error::Errors;
use crate::api::v3::page::PageParams;
use crate::api::v3::resource::{Metadata, Related, resource};
use crate::http::error::ApiError;
use crate::http::extract::Path;
use crate::kafka::admin::Member;

resource!(
    /// How far a group is behind, in each partition
    ConsumerLagList of ConsumerLag: ConsumerLagKind, ConsumerLagListKind, "KafkaConsumerLag", "KafkaConsumerLagList"
);

/// How far a group is behind in a partition
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct ConsumerLag {
    kind: ConsumerLagKind,
    metadata: Metadata,
    /// The cluster's id.
    cluster_id: String,
    /// The group.
    consumer_group_id: String,
    /// The topic.
    topic_name: String,
    /// The partition.
    partition_id: i32,
    /// The member that reads it; empty where none does.
    consumer_id: String,
    /// The name that the member keeps over restarts; `null` where it has none.
    #[schema(required = true)]
    instance_id: Option<String>,
    /// What the member's client calls itself; empty where no member reads the partition.
    client_id: String,
    /// The offset of the next record that the group reads.
    current_offset: i64,
    /// The offset behind the last record that it may read now: what open transactions have written is not
    /// counted.
    log_end_offset: i64,
    /// Records between the two.
    lag: i64,
}

/// What the resource is
#[derive(Debug, Clone, Copy, Serialize, utoipa::ToSchema)]
pub enum LagSummaryKind {
    /// The only one.
    #[serde(rename = "KafkaConsumerGroupLagSummary")]
    It,
}

/// How far a group is behind in all
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct LagSummary {
    kind: LagSummaryKind,
    metadata: Metadata,
    /// The cluster's id.
    cluster_id: String,
    /// The group.
    consumer_group_id: String,
    /// The member that reads the partition with the largest lag; empty where none does.
    max_lag_consumer_id: String,
    /// The name that it keeps over restarts; `null` where it has none.
    #[schema(required = true)]
    max_lag_instance_id: Option<String>,
    /// What its client calls itself; empty where no member reads the partition.
    max_lag_client_id: String,
    /// The topic of the partition with the largest lag.
    max_lag_topic_name: String,
    /// The partition with the largest lag.
    max_lag_partition_id: i32,
    /// Its lag.
    max_lag: i64,
    /// The lags of all partitions together.
    total_lag: i64,
    /// The member; its link is that of the group's members where no member reads the partition.
    max_lag_consumer: Related,
    /// The partition.
    max_lag_partition: Related,
}

/// The lag that a path names.
#[derive(Debug, Deserialize)]
pub struct LagPath {
    group: String,
    topic: String,
    partition: String,
}

/// The lags of a group, the largest first. A group that has committed nothing has none to be told.
async fn lags(call: &Call, group: &str) -> Result<Vec<GroupLag>, ApiError> {
    let found = groups::lags(call.cluster(), &call.principal, group).await;
    let (_, lags) = found.map_err(|fault| missing(call, group, &fault))?;
    if lags.is_empty() {
        let what = format!(
            "Consumer lag of group {}, which has committed nothing,",
            shown(group)
        );
        return Err(not_found(&what, "group"));
    }
    Ok(lags)
}

fn described(call: &Call, group: &str, lag: &GroupLag) -> ConsumerLag {
    let links = &call.links;
    let (topic, id) = (&*lag.lag.partition.topic, lag.lag.partition.partition);
    let number = id.to_string();
    let member = lag.member.as_deref();
    ConsumerLag {
        kind: ConsumerLagKind::It,
        metadata: links.metadata(
            &[
                "consumer-groups",
                group,
                "lags",
                topic,
                "partitions",
                &number,
            ],
            &[
                ("consumer-group", group),
                ("lag", topic),
                ("partition", &number),
            ],
        ),
        cluster_id: links.id(),
        consumer_group_id: group.to_owned(),
        topic_name: topic.to_owned(),
        partition_id: id,
        consumer_id: member.map(|member| member.id.clone()).unwrap_or_default(),
        instance_id: member.and_then(|member| member.instance_id.clone()),
        client_id: member
            .map(|member| member.client_id.clone())
            .unwrap_or_default(),
        current_offset: lag.lag.committed,
        log_end_offset: lag.lag.end,
        lag: lag.lag.lag(),
    }
}

/// List a group's lags
///
/// In each partition for which it has committed, the largest first; of the topics that the caller may describe. Pages
/// are by topic and partition, which stay where they are while lags change.
///
/// Needs `describe` on the group.
#[utoipa::path(
    get,
    path = "/v3/clusters/{cluster}/consumer-groups/{group}/lags",
    operation_id = "listConsumerLagsV3",
    tag = "Compatible REST v3",
    params(
        ("cluster" = String, Path, description = "The cluster's id"),
        ("group" = String, Path, description = "The group", example = "billing"),
        PageParams,
    ),
    responses(
        (status = 200, description = "The lags; 404 where the group has committed nothing", body = ConsumerLagList),
        Errors,
    )
)]
pub async fn list(mut call: Call, Path(path): Path<GroupPath>) -> Result<Response, ApiError> {
    let page = call.page()?;
    let mut lags = lags(&call, &path.group).await?;
    if page.is_part_of(lags.len()) {
        lags.sort_by(|a, b| a.lag.partition.cmp(&b.lag.partition));
    }
    let url = call.links.url(&["consumer-groups", &path.group, "lags"]);
    let page = page.of_partitions(url, lags, |one| &one.lag.partition)?;
    let data = page.data.iter();
    let data = data.map(|lag| described(&call, &path.group, lag));
    ok(&ConsumerLagList::new(page.metadata, data.collect()))
}

/// Tell a group's lag in a partition
///
/// Needs `describe` on the group.
#[utoipa::path(
    get,
    path = "/v3/clusters/{cluster}/consumer-groups/{group}/lags/{topic}/partitions/{partition}",
    operation_id = "getConsumerLagV3",
    tag = "Compatible REST v3",
    params(
        ("cluster" = String, Path, description = "The cluster's id"),
        ("group" = String, Path, description = "The group", example = "billing"),
        ("topic" = String, Path, description = "The topic", example = "orders"),
        ("partition" = i32, Path, description = "The partition", example = 0),
    ),
    responses(
        (status = 200, description = "The lag; 404 where the group has committed nothing for the partition", body = ConsumerLag),
        Errors,
    )
)]
pub async fn get(call: Call, Path(path): Path<LagPath>) -> Result<Response, ApiError> {
    let lags = lags(&call, &path.group).await?;
    let number = path.partition.parse().ok();
    let found = lags.iter().find(|lag| {
        let partition = &lag.lag.partition;
        *partition.topic == *path.topic && Some(partition.partition) == number
    });
    match found {
        Some(lag) => ok(&described(&call, &path.group, lag)),
        None => Err(not_found(
            &format!("Consumer lag of partition {}", shown(&path.partition)),
            "partition",
        )),
    }
}

/// Tell how far a group is behind in all
///
/// Of the topics that the caller may describe.
///
/// Needs `describe` on the group.
#[utoipa::path(
    get,
    path = "/v3/clusters/{cluster}/consumer-groups/{group}/lag-summary",
    operation_id = "getConsumerGroupLagSummaryV3",
    tag = "Compatible REST v3",
    params(
        ("cluster" = String, Path, description = "The cluster's id"),
        ("group" = String, Path, description = "The group", example = "billing"),
    ),
    responses(
        (status = 200, description = "The largest lag and all together; 404 where the group has committed nothing", body = LagSummary),
        Errors,
    )
)]
pub async fn summary(call: Call, Path(path): Path<GroupPath>) -> Result<Response, ApiError> {
    let lags = lags(&call, &path.group).await?;
    let Some(largest) = lags.first() else {
        return Err(ApiError::internal("a group with lags has no largest one"));
    };
    let (links, group) = (&call.links, &*path.group);
    let partition = &largest.lag.partition;
    let number = partition.partition.to_string();
    let member = largest.member.as_deref();
    let text = |of: fn(&Member) -> &String| member.map(of).cloned().unwrap_or_default();
    ok(&LagSummary {
        kind: LagSummaryKind::It,
        metadata: links.metadata(
            &["consumer-groups", group, "lag-summary"],
            &[("consumer-group", group), ("lag-summary", "")],
        ),
        cluster_id: links.id(),
        consumer_group_id: group.to_owned(),
        max_lag_consumer_id: text(|member| &member.id),
        max_lag_instance_id: member.and_then(|member| member.instance_id.clone()),
        max_lag_client_id: text(|member| &member.client_id),
        max_lag_topic_name: partition.topic.to_string(),
        max_lag_partition_id: partition.partition,
        max_lag: largest.lag.lag(),
        total_lag: lags.iter().map(|lag| lag.lag.lag()).sum(),
        max_lag_consumer: match member {
            Some(member) => links.related(&["consumer-groups", group, "consumers", &member.id]),
            None => links.related(&["consumer-groups", group, "consumers"]),
        },
        max_lag_partition: links.related(&["topics", &partition.topic, "partitions", &number]),
    })
}
