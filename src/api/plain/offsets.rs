//! `/groups/{group}/offsets`: what a group has committed is moved or deleted.

use axum::Extension;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::PlainBody;
use super::error::{BodyErrors, KafkaErrors, fault, refused};
use crate::admin::groups::reset::{self, Moved};
use crate::api::json::json;
use crate::api::offset_reset::{self, FIELDS, PLAIN, Wanted};
use crate::auth::Principal;
use crate::gateway::Gateway;
use crate::http::error::{ApiError, ErrorBody};
use crate::http::extract::{Path, Query, unexpected};

/// Where a group is to go on, by one of `to`, `shift` and `offsets`
#[derive(Debug, utoipa::ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "the shape is read by hand; this describes it")]
pub enum ResetOffsets {
    /// At a place or a time.
    To(ResetToPlace),
    /// So far away.
    Shift(ResetByShift),
    /// At these offsets.
    Offsets(ResetToOffsets),
}

/// At which place or time a group is to go on
#[derive(Debug, utoipa::ToSchema)]
#[expect(dead_code, reason = "the shape is read by hand; this describes it")]
pub struct ResetToPlace {
    /// `earliest`, `latest`, an ISO 8601 time, or milliseconds since 1970: the first record at or after it.
    #[schema(example = "earliest")]
    to: PlaceOrTime,
    /// All partitions of these topics. Without it and `partitions`: all for which the group has committed.
    topics: Option<Vec<String>>,
    /// These partitions.
    partitions: Option<Vec<ResetPartition>>,
    /// `true`: the answer says what would be done, and nothing is.
    dry_run: Option<bool>,
}

/// A place, or a time
#[derive(Debug, utoipa::ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "the shape is read by hand; this describes it")]
pub enum PlaceOrTime {
    /// `earliest`, `latest` or an ISO 8601 time.
    Text(String),
    /// Milliseconds since 1970.
    Milliseconds(i64),
}

/// How far a group is to go
#[derive(Debug, utoipa::ToSchema)]
#[expect(dead_code, reason = "the shape is read by hand; this describes it")]
pub struct ResetByShift {
    /// That many records on, or back where it is below 0, within what the log has.
    #[schema(example = -100)]
    shift: i64,
    /// All partitions of these topics. Without it and `partitions`: all for which the group has committed.
    topics: Option<Vec<String>>,
    /// These partitions.
    partitions: Option<Vec<ResetPartition>>,
    /// `true`: the answer says what would be done, and nothing is.
    dry_run: Option<bool>,
}

/// At which offsets a group is to go on
#[derive(Debug, utoipa::ToSchema)]
#[expect(dead_code, reason = "the shape is read by hand; this describes it")]
pub struct ResetToOffsets {
    /// The offset of the next record to read, in each of these partitions.
    offsets: Vec<ResetOffset>,
    /// `true`: the answer says what would be done, and nothing is.
    dry_run: Option<bool>,
}

/// A partition
#[derive(Debug, utoipa::ToSchema)]
#[expect(dead_code, reason = "the shape is read by hand; this describes it")]
pub struct ResetPartition {
    /// The topic.
    #[schema(example = "orders")]
    topic: String,
    /// The partition.
    #[schema(minimum = 0)]
    partition: i32,
}

/// A partition, and where a group is to go on in it
#[derive(Debug, utoipa::ToSchema)]
#[expect(dead_code, reason = "the shape is read by hand; this describes it")]
pub struct ResetOffset {
    /// The topic.
    #[schema(example = "orders")]
    topic: String,
    /// The partition.
    #[schema(minimum = 0)]
    partition: i32,
    /// The offset of the next record to read.
    #[schema(minimum = 0, example = 42)]
    offset: i64,
}

/// What was done
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct ResetResult {
    /// The group.
    group: String,
    /// Whether nothing was done.
    dry_run: bool,
    /// Each partition, by topic and number.
    partitions: Vec<MovedPartition>,
}

/// What became of a partition
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct MovedPartition {
    /// The topic.
    #[schema(example = "orders")]
    topic: String,
    /// The partition.
    partition: i32,
    /// What the group had committed; `null` is nothing.
    #[schema(required = true)]
    before: Option<i64>,
    /// What it has committed now, or would have.
    after: i64,
    /// Records from there to the end.
    lag: i64,
    /// Why Kafka did not take it; only where it did not.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    /// The Kafka protocol's name of the error.
    #[serde(skip_serializing_if = "Option::is_none")]
    kafka_error: Option<&'static str>,
}

/// The commits that were deleted
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct DeletedOffsets {
    /// The group.
    group: String,
    /// Each partition, by number.
    partitions: Vec<DeletedOffset>,
}

/// What became of a commit
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct DeletedOffset {
    /// The topic.
    topic: String,
    /// The partition.
    partition: i32,
    /// Why Kafka did not delete it; only where it did not.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    /// The Kafka protocol's name of the error.
    #[serde(skip_serializing_if = "Option::is_none")]
    kafka_error: Option<&'static str>,
}

impl From<Moved> for MovedPartition {
    fn from(moved: Moved) -> Self {
        Self {
            topic: moved.partition.topic.to_string(),
            partition: moved.partition.partition,
            before: moved.before,
            after: moved.after,
            lag: (moved.end - moved.after).max(0),
            kafka_error: moved.fault.as_ref().and_then(|fault| fault.kafka_error),
            error: moved.fault.map(|fault| fault.message),
        }
    }
}

/// Move what a group has committed
///
/// To the beginning, to the end, to a time, by a number of records, or to offsets that are named; of a share group,
/// where it starts. Only for a group without members: they would go on from where they are, and commit over it. All
/// partitions are looked up before any is moved, and a group that is not there comes into being.
///
/// Needs `group` on the group and `consume` on the topics; without `topics` or `partitions`, topics that the caller
/// may not consume stay as they are.
#[utoipa::path(
    post,
    path = "/groups/{group}/offsets",
    operation_id = "resetGroupOffsets",
    tag = "Administration",
    params(("group" = String, Path, description = "The group", example = "billing")),
    request_body(
        content = ResetOffsets,
        examples(
            ("to a time" = (value = json!({"to": "2026-05-01T12:00:00Z", "topics": ["orders"], "dry_run": true}))),
            ("to the beginning" = (value = json!({"to": "earliest"}))),
            ("a hundred records back" = (value = json!({"shift": -100}))),
            ("to offsets" = (value = json!({"offsets": [{"topic": "orders", "partition": 0, "offset": 42}]}))),
        ),
    ),
    responses(
        (status = 200, description = "What was done, or with `dry_run` would be", body = ResetResult),
        (status = 207, description = "Kafka did not take some of them: look at `error` of each", body = ResetResult),
        (status = 400, description = "The body is not JSON, or a field is not of its type, or not a name that a topic can have (40002)", body = ErrorBody),
        (status = 403, description = "No permission, here or at the broker (40301)", body = ErrorBody),
        (status = 404, description = "No such topic (40401) or partition (40402)", body = ErrorBody),
        (status = 409, description = "The group has members", body = ErrorBody),
        (status = 422, description = "A field is unknown, given twice, missing or has an impossible value, such as an offset that is not in the log", body = ErrorBody),
        (status = 501, description = "The brokers do not offer it, such as the embedded broker", body = ErrorBody),
        BodyErrors,
        KafkaErrors,
    )
)]
pub async fn post(
    gateway: Gateway,
    Extension(principal): Extension<Principal>,
    Path(group): Path<String>,
    query: Query,
    body: PlainBody,
) -> Result<Response, ApiError> {
    query.finish()?;
    let wanted = offset_reset::wanted(body.object(FIELDS)?, &PLAIN)?;
    let cluster = gateway.cluster();
    let Wanted { to, scope, dry_run } = &wanted;
    let moved = reset::reset(cluster, &principal, &group, to, scope, *dry_run).await;
    let moved = moved.map_err(|error| refused(&gateway, error))?;
    let has_failed = moved.iter().any(|one| one.fault.is_some());
    let result = ResetResult {
        group,
        dry_run: *dry_run,
        partitions: moved.into_iter().map(MovedPartition::from).collect(),
    };
    json(status(has_failed), &result)
}

fn status(has_failed: bool) -> StatusCode {
    match has_failed {
        true => StatusCode::MULTI_STATUS,
        false => StatusCode::OK,
    }
}

/// Delete what a group has committed for a topic
///
/// For all of its partitions, or for one; of a share group, where it starts in all of them. Kafka refuses while a member
/// of the group reads the topic.
///
/// Needs `group` on the group and `consume` on the topic.
#[utoipa::path(
    delete,
    path = "/groups/{group}/offsets",
    operation_id = "deleteGroupOffsets",
    tag = "Administration",
    params(
        ("group" = String, Path, description = "The group", example = "billing"),
        ("topic" = String, Query, description = "The topic", example = "orders"),
        ("partition" = Option<i32>, Query, description = "Only this partition", minimum = 0),
    ),
    responses(
        (status = 204, description = "They are deleted"),
        (status = 207, description = "Kafka did not delete some of them: look at `error` of each", body = DeletedOffsets),
        (status = 400, description = "A parameter is missing, unknown or cannot be read", body = ErrorBody),
        (status = 403, description = "No permission, here or at the broker (40301)", body = ErrorBody),
        (status = 404, description = "No such group, or it has committed nothing there", body = ErrorBody),
        (status = 409, description = "A member of the group reads the topic", body = ErrorBody),
        (status = 501, description = "The brokers do not offer it, such as the embedded broker", body = ErrorBody),
        KafkaErrors,
    )
)]
pub async fn delete(
    gateway: Gateway,
    Extension(principal): Extension<Principal>,
    Path(group): Path<String>,
    mut query: Query,
) -> Result<Response, ApiError> {
    const READ: &str = "GROUP_SUBSCRIBED_TO_TOPIC";
    let topic = query.take("topic")?;
    let partition = query.take_as::<i32>("partition", "a whole number from 0")?;
    query.finish()?;
    let Some(topic) = topic else {
        return Err(
            ApiError::bad_request("topic: is missing; expected the topic's name").at("topic"),
        );
    };
    if let Some(partition @ ..0) = partition {
        let given = partition.to_string();
        return Err(unexpected("partition", &given, "a whole number from 0"));
    }
    let cluster = gateway.cluster();
    let deleted = reset::delete(cluster, &principal, &group, &topic, partition).await;
    let deleted = deleted.map_err(|error| refused(&gateway, error))?;
    if deleted.iter().all(|(_, answer)| answer.is_ok()) {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let first = deleted.iter().find_map(|(_, answer)| answer.as_ref().err());
    if let Some(why) = first
        && deleted.iter().all(|(_, answer)| answer.is_err())
    {
        let error = fault(&gateway, why);
        return Err(match why.kafka_error {
            Some(READ) => error.coded(StatusCode::CONFLICT, 409).at("topic"),
            _ => error,
        });
    }
    let partitions = deleted.into_iter().map(|(at, answer)| {
        let why = answer.err();
        DeletedOffset {
            topic: at.topic.to_string(),
            partition: at.partition,
            kafka_error: why.as_ref().and_then(|why| why.kafka_error),
            error: why.map(|why| why.message),
        }
    });
    let partitions = partitions.collect();
    json(
        StatusCode::MULTI_STATUS,
        &DeletedOffsets { group, partitions },
    )
}
