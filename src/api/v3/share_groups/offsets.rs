//! `…/share-groups/{group}/offsets`: where a share group starts in each partition, and how that is moved and forgotten.
//! Not in Confluent's API.

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};

use super::{missing, refused};
use crate::admin::AdminError;
use crate::admin::groups::reset::Moved;
use crate::admin::groups::share;
use crate::api::json::{json, ok};
use crate::api::offset_reset::{self, FIELDS, V3};
use crate::api::v3::call::{Call, JsonBody};
use crate::api::v3::error::{BodyErrors, Errors};
use crate::api::v3::groups::GroupPath;
use crate::api::v3::page::{PageParams, PrefixParam};
use crate::api::v3::resource::{Related, resource};
use crate::http::error::{ApiError, ErrorBody};
use crate::http::extract::Path;
use crate::kafka::admin::ShareOffset;
use crate::record::TopicPartition;

resource!(
    /// Where a share group starts
    ShareGroupOffsetList of ShareGroupOffset: ShareGroupOffsetKind, ShareGroupOffsetListKind, "KafkaShareGroupOffset", "KafkaShareGroupOffsetList"
);

/// Where a share group starts in a partition
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct ShareGroupOffset {
    kind: ShareGroupOffsetKind,
    /// The cluster's id.
    cluster_id: String,
    /// The group.
    group_id: String,
    /// The topic.
    #[schema(example = "orders")]
    topic_name: String,
    /// The partition.
    partition_id: i32,
    /// The first record that the group may still deliver; `null` until a member has acknowledged something there.
    #[schema(required = true)]
    start_offset: Option<i64>,
    /// How many records it has yet to deliver; `null` where the broker does not tell (before Kafka 4.3).
    #[schema(required = true)]
    lag: Option<i64>,
    /// The partition.
    partition: Related,
}

/// Where a share group is to start
#[derive(Debug, utoipa::ToSchema)]
#[expect(dead_code, reason = "the shape is read by hand; this describes it")]
pub struct AlterShareGroupOffsets {
    /// `earliest`, `latest`, an ISO 8601 time, or milliseconds since 1970: the first record at or after it.
    #[schema(value_type = Option<Value>, example = "earliest")]
    to: (),
    /// In the place of `to`: that many records on, or back where it is below 0, within what the log has.
    #[schema(example = -100)]
    shift: Option<i64>,
    /// In the place of `to`: the offset of the first record, in each of these partitions.
    offsets: Option<Vec<AlterShareGroupOffset>>,
    /// All partitions of these topics. Without it and `partitions`: all in which the group has a start.
    topics: Option<Vec<String>>,
    /// These partitions.
    partitions: Option<Vec<AlterShareGroupPartition>>,
    /// `true`: the answer says what would be done, and nothing is.
    dry_run: Option<bool>,
}

/// A partition
#[derive(Debug, utoipa::ToSchema)]
#[expect(dead_code, reason = "the shape is read by hand; this describes it")]
pub struct AlterShareGroupPartition {
    /// The topic.
    #[schema(example = "orders")]
    topic_name: String,
    /// The partition.
    #[schema(minimum = 0)]
    partition_id: i32,
}

/// A partition, and where a share group is to start in it
#[derive(Debug, utoipa::ToSchema)]
#[expect(dead_code, reason = "the shape is read by hand; this describes it")]
pub struct AlterShareGroupOffset {
    /// The topic.
    #[schema(example = "orders")]
    topic_name: String,
    /// The partition.
    #[schema(minimum = 0)]
    partition_id: i32,
    /// The offset of the first record.
    #[schema(minimum = 0, example = 42)]
    start_offset: i64,
}

/// What was done
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct AlteredShareGroupOffsets {
    /// The cluster's id.
    cluster_id: String,
    /// The group.
    group_id: String,
    /// Whether nothing was done.
    dry_run: bool,
    /// Each partition, by topic and number.
    data: Vec<AlteredShareGroupOffset>,
}

/// What became of a partition
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct AlteredShareGroupOffset {
    /// The topic.
    #[schema(example = "orders")]
    topic_name: String,
    /// The partition.
    partition_id: i32,
    /// Where the group started; `null` where nothing had been acknowledged yet.
    #[schema(required = true)]
    previous_start_offset: Option<i64>,
    /// Where it starts now, or would.
    start_offset: i64,
    /// As in an error; only where Kafka did not take it.
    #[serde(skip_serializing_if = "Option::is_none")]
    error_code: Option<u32>,
    /// Why Kafka did not take it.
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
}

/// The topic of a group that a path names.
#[derive(Debug, Deserialize)]
pub struct TopicOfGroupPath {
    group: String,
    topic: String,
}

fn described(
    call: &Call,
    group: &str,
    at: &TopicPartition,
    offset: ShareOffset,
) -> ShareGroupOffset {
    let number = at.partition.to_string();
    ShareGroupOffset {
        kind: ShareGroupOffsetKind::It,
        cluster_id: call.links.id(),
        group_id: group.to_owned(),
        topic_name: at.topic.to_string(),
        partition_id: at.partition,
        start_offset: offset.start,
        lag: offset.lag,
        partition: call
            .links
            .related(&["topics", &at.topic, "partitions", &number]),
    }
}

fn altered(call: &Call, moved: Moved) -> AlteredShareGroupOffset {
    let error = moved.fault.map(|fault| call.fault(&fault).into_body());
    AlteredShareGroupOffset {
        topic_name: moved.partition.topic.to_string(),
        partition_id: moved.partition.partition,
        previous_start_offset: moved.before,
        start_offset: moved.after,
        error_code: error.as_ref().map(|error| error.error_code),
        message: error.map(|error| error.message),
    }
}

/// List where a share group starts
///
/// In each partition that it reads or has read, of the topics that the caller may describe. Not in the reference.
///
/// Needs `describe` on the group.
#[utoipa::path(
    get,
    path = "/v3/clusters/{cluster}/share-groups/{group}/offsets",
    operation_id = "listShareGroupOffsetsV3",
    tag = "Compatible REST v3",
    params(
        ("cluster" = String, Path, description = "The cluster's id"),
        ("group" = String, Path, description = "The group", example = "parcels"),
        PageParams,
        PrefixParam,
    ),
    responses(
        (status = 200, description = "The partitions, by topic and number", body = ShareGroupOffsetList),
        Errors,
    )
)]
pub async fn list(mut call: Call, Path(path): Path<GroupPath>) -> Result<Response, ApiError> {
    let page = call.page()?;
    let group = &path.group;
    let found = share::offsets(call.cluster(), &call.principal, group).await;
    let found = found.map_err(|fault| missing(&call, group, &fault))?;
    let url = call.links.url(&["share-groups", group, "offsets"]);
    let page = page.of_partitions(url, found.into_iter().collect(), |(at, _)| at)?;
    let data = page.data.iter();
    let data = data.map(|(at, offset)| described(&call, group, at, *offset));
    ok(&ShareGroupOffsetList::new(page.metadata, data.collect()))
}

/// Move where a share group starts
///
/// To the beginning, to the end, to a time, by a number of records, or to offsets that are named. What was delivered and
/// not acknowledged is forgotten. Only for a group without members. All partitions are looked up before any is moved. Not
/// in the reference.
///
/// Needs `group` on the group and `consume` on the topics; without `topics` or `partitions`, topics that the caller may
/// not consume stay as they are.
#[utoipa::path(
    post,
    path = "/v3/clusters/{cluster}/share-groups/{group}/offsets:alter",
    operation_id = "alterShareGroupOffsetsV3",
    tag = "Compatible REST v3",
    params(
        ("cluster" = String, Path, description = "The cluster's id"),
        ("group" = String, Path, description = "The group", example = "parcels"),
    ),
    request_body(
        content = AlterShareGroupOffsets,
        examples(
            ("to the beginning" = (value = json!({"to": "earliest", "topics": ["orders"]}))),
            ("to offsets" = (value = json!({"offsets": [{"topic_name": "orders", "partition_id": 0, "start_offset": 42}]}))),
        ),
    ),
    responses(
        (status = 200, description = "What was done, or with `dry_run` would be", body = AlteredShareGroupOffsets),
        (status = 207, description = "Kafka did not take some of them: look at `error_code` of each", body = AlteredShareGroupOffsets),
        (status = 409, description = "The group has members (409)", body = ErrorBody),
        BodyErrors,
    )
)]
pub async fn alter(
    call: Call,
    Path(path): Path<GroupPath>,
    body: JsonBody,
) -> Result<Response, ApiError> {
    let group = &path.group;
    let wanted = offset_reset::wanted(Some(body.object(FIELDS)?), &V3)?;
    let (to, scope) = (&wanted.to, &wanted.scope);
    let moved = share::reset(
        call.cluster(),
        &call.principal,
        group,
        to,
        scope,
        wanted.dry_run,
    );
    let moved = moved.await.map_err(|error| refused(&call, group, error))?;
    let status = match moved.iter().any(|one| one.fault.is_some()) {
        true => StatusCode::MULTI_STATUS,
        false => StatusCode::OK,
    };
    let data = moved.into_iter().map(|one| altered(&call, one));
    json(
        status,
        &AlteredShareGroupOffsets {
            cluster_id: call.links.id(),
            group_id: group.clone(),
            dry_run: wanted.dry_run,
            data: data.collect(),
        },
    )
}

/// Forget where a share group starts in a topic
///
/// In all of its partitions: a member that comes starts there as in a topic that is new to the group
/// (`share.auto.offset.reset`). Only for a group without members. Not in the reference.
///
/// Needs `group` on the group and `consume` on the topic.
#[utoipa::path(
    delete,
    path = "/v3/clusters/{cluster}/share-groups/{group}/offsets/{topic}",
    operation_id = "deleteShareGroupOffsetsV3",
    tag = "Compatible REST v3",
    params(
        ("cluster" = String, Path, description = "The cluster's id"),
        ("group" = String, Path, description = "The group", example = "parcels"),
        ("topic" = String, Path, description = "The topic", example = "orders"),
    ),
    responses(
        (status = 204, description = "It is forgotten"),
        (status = 409, description = "The group has members (409)", body = ErrorBody),
        Errors,
    )
)]
pub async fn delete(call: Call, Path(path): Path<TopicOfGroupPath>) -> Result<Response, ApiError> {
    let TopicOfGroupPath { group, topic } = &path;
    let deleted = share::forget(call.cluster(), &call.principal, group, topic).await;
    deleted.map_err(|error| match error {
        // It says whether the group is not there or has no start in the topic.
        AdminError::Kafka(fault) => call.fault(&fault),
        other => refused(&call, group, other),
    })?;
    Ok(StatusCode::NO_CONTENT.into_response())
}
