//! `GET /topics/{topic}/size` tells what there is of a topic, `DELETE /topics/{topic}/records` deletes its oldest
//! records.

use axum::http::StatusCode;
use axum::response::Response;
use serde::Serialize;

use super::error::{KafkaErrors, fault, refused};
use crate::admin::storage::{self, DeleteBefore, Deleted, PartitionSize};
use crate::api::json::{json, ok};
use crate::gateway::Gateway;
use crate::http::error::{ApiError, ErrorBody};
use crate::http::extract::{Path, Query, unexpected};
use crate::position::time_ms;

/// What there is of a topic
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct TopicSizeInfo {
    /// The topic.
    #[schema(example = "orders")]
    topic: String,
    /// How many records there are, counted by offsets: what compaction took and the markers of transactions count
    /// too.
    #[schema(example = 120_000)]
    records: i64,
    /// Records a second, over the last minute.
    #[schema(example = 12.5)]
    records_per_second: f64,
    /// The size of the leaders' replicas together, in bytes; `null` where the brokers do not tell the gateway.
    #[schema(required = true, example = 73_400_320)]
    bytes: Option<i64>,
    /// The size of all replicas together, in bytes; `null` where the brokers do not tell the gateway.
    #[schema(required = true, example = 220_200_960)]
    bytes_of_replicas: Option<i64>,
    /// Each partition, by number.
    partitions: Vec<PartitionSizeInfo>,
}

/// What there is of a partition
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct PartitionSizeInfo {
    /// The partition.
    partition: i32,
    /// The first offset that is still there.
    earliest_offset: i64,
    /// The offset that the next record gets.
    latest_offset: i64,
    /// How many records there are, counted by offsets.
    records: i64,
    /// The size of the leader's replica, in bytes; `null` where it is not told.
    #[schema(required = true)]
    bytes: Option<i64>,
    /// The size of all of its replicas together, in bytes; `null` where a broker does not tell.
    #[schema(required = true)]
    bytes_of_replicas: Option<i64>,
}

/// The records that were deleted
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct DeletedRecords {
    /// The topic.
    #[schema(example = "orders")]
    topic: String,
    /// Whether nothing was done.
    dry_run: bool,
    /// Each partition, by number.
    partitions: Vec<DeletedPartition>,
}

/// What became of a partition
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct DeletedPartition {
    /// The partition.
    partition: i32,
    /// The first offset that was there.
    before: i64,
    /// The first offset that is still there, or would be; `null` where Kafka did not delete, or did not say so in
    /// time.
    #[schema(required = true)]
    after: Option<i64>,
    /// Why Kafka did not; only where it did not.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    /// The Kafka protocol's name of the error.
    #[serde(skip_serializing_if = "Option::is_none")]
    kafka_error: Option<&'static str>,
}

impl From<PartitionSize> for PartitionSizeInfo {
    fn from(size: PartitionSize) -> Self {
        Self {
            partition: size.partition,
            earliest_offset: size.low,
            latest_offset: size.end,
            records: size.records(),
            bytes: size.bytes,
            bytes_of_replicas: size.bytes_of_replicas,
        }
    }
}

impl From<Deleted> for DeletedPartition {
    fn from(deleted: Deleted) -> Self {
        let (after, why) = match deleted.after {
            Ok(after) => (Some(after), None),
            Err(why) => (None, Some(why)),
        };
        Self {
            partition: deleted.partition,
            before: deleted.before,
            after,
            kafka_error: why.as_ref().and_then(|why| why.kafka_error),
            error: why.map(|why| why.message),
        }
    }
}

/// Tell how large a topic is
///
/// Records by offsets, bytes on the brokers' disks, and how fast records come. Each broker is asked once.
///
/// Needs `describe` on the topic.
#[utoipa::path(
    get,
    path = "/topics/{topic}/size",
    operation_id = "getTopicSize",
    tag = "Administration",
    params(("topic" = String, Path, description = "The topic", example = "orders")),
    responses(
        (status = 200, description = "What there is of it", body = TopicSizeInfo),
        (status = 400, description = "A parameter is unknown, or not a name that a topic can have (40002)", body = ErrorBody),
        (status = 403, description = "No permission, here or at the broker (40301)", body = ErrorBody),
        (status = 404, description = "No such topic (40401)", body = ErrorBody),
        KafkaErrors,
    )
)]
pub async fn size(
    gateway: Gateway,
    Path(topic): Path<String>,
    query: Query,
) -> Result<Response, ApiError> {
    query.finish()?;
    let size = storage::of_topic(gateway.cluster(), &topic).await;
    let size = size.map_err(|why| fault(&gateway, &why))?;
    let all = |of: fn(&PartitionSize) -> Option<i64>| size.partitions.iter().map(of).sum();
    let last_minute: i64 = size.partitions.iter().map(|one| one.last_minute).sum();
    #[expect(
        clippy::cast_precision_loss,
        reason = "far below what a float counts exactly"
    )]
    let records_per_second = last_minute as f64 / 60.0;
    let info = TopicSizeInfo {
        topic,
        records: size.partitions.iter().map(PartitionSize::records).sum(),
        records_per_second,
        bytes: all(|one| one.bytes),
        bytes_of_replicas: all(|one| one.bytes_of_replicas),
        partitions: size
            .partitions
            .into_iter()
            .map(PartitionSizeInfo::from)
            .collect(),
    };
    ok(&info)
}

/// Delete a topic's oldest records
///
/// In all of its partitions, or in one. There is no way back: try it with `dry_run` first. All partitions are
/// looked up before any is changed. What open transactions have written stays.
///
/// Needs `delete` on the topic.
#[utoipa::path(
    delete,
    path = "/topics/{topic}/records",
    operation_id = "deleteRecords",
    tag = "Administration",
    params(
        ("topic" = String, Path, description = "The topic", example = "orders"),
        ("before" = String, Query, description = "Up to where: `latest`, an ISO 8601 time, or with `partition` an offset", example = "2026-05-01T12:00:00Z"),
        ("partition" = Option<i32>, Query, description = "Only in this partition", minimum = 0),
        ("dry_run" = Option<bool>, Query, description = "`true`: the answer says what would be done, and nothing is"),
    ),
    responses(
        (status = 200, description = "What was done, or with `dry_run` would be", body = DeletedRecords),
        (status = 207, description = "Kafka did not delete records of some partitions: look at `error` of each", body = DeletedRecords),
        (status = 400, description = "A parameter is missing, unknown or cannot be read; or Kafka does not delete records of this topic (40002)", body = ErrorBody),
        (status = 403, description = "No permission, here or at the broker, or one of Kafka's own topics (40301)", body = ErrorBody),
        (status = 404, description = "No such topic (40401) or partition (40402)", body = ErrorBody),
        (status = 422, description = "The offset is not in the log", body = ErrorBody),
        (status = 501, description = "The brokers do not offer it, such as the embedded broker", body = ErrorBody),
        KafkaErrors,
    )
)]
pub async fn delete(
    gateway: Gateway,
    Path(topic): Path<String>,
    mut query: Query,
) -> Result<Response, ApiError> {
    let (partition, before, dry_run) = wanted(&mut query)?;
    query.finish()?;
    let cluster = gateway.cluster();
    let deleted = storage::delete_records(cluster, &topic, partition, before, dry_run).await;
    let deleted = deleted.map_err(|error| match error {
        crate::admin::AdminError::OutsideLog { .. } => refused(&gateway, error).at("before"),
        error => refused(&gateway, error),
    })?;
    let failures = deleted.iter().filter(|one| one.after.is_err()).count();
    let first = deleted.iter().find_map(|one| one.after.as_ref().err());
    if let Some(why) = first
        && failures == deleted.len()
    {
        return Err(fault(&gateway, why));
    }
    let status = match failures {
        0 => StatusCode::OK,
        _ => StatusCode::MULTI_STATUS,
    };
    let result = DeletedRecords {
        topic,
        dry_run,
        partitions: deleted.into_iter().map(DeletedPartition::from).collect(),
    };
    json(status, &result)
}

fn wanted(query: &mut Query) -> Result<(Option<i32>, DeleteBefore, bool), ApiError> {
    const BEFORE: &str =
        "latest, an ISO 8601 time (2026-05-01T12:00:00Z), or with partition an offset";
    const NUMBER: &str = "a whole number from 0";
    let partition = query.take_as::<i32>("partition", NUMBER)?;
    if let Some(below @ ..0) = partition {
        return Err(unexpected("partition", &below.to_string(), NUMBER));
    }
    let dry_run = query
        .take_as::<bool>("dry_run", "true or false")?
        .unwrap_or(false);
    let Some(text) = query.take("before")? else {
        let message = format!("before: is missing; expected {BEFORE}");
        return Err(ApiError::bad_request(message).at("before"));
    };
    let is_number = !text.is_empty() && text.bytes().all(|digit| digit.is_ascii_digit());
    let before = match &*text {
        "latest" => Some(DeleteBefore::End),
        // Of several partitions one offset would mean another record in each.
        offset if is_number => match partition {
            Some(_) => offset.parse().ok().map(DeleteBefore::Offset),
            None => None,
        },
        time => time_ms(time).map(DeleteBefore::Time),
    };
    match before {
        Some(before) => Ok((partition, before, dry_run)),
        None => Err(unexpected("before", &text, BEFORE)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offset_needs_its_partition() {
        let read = |query: &str| wanted(&mut Query::parse(query).unwrap());
        assert_eq!(
            read("before=latest").unwrap(),
            (None, DeleteBefore::End, false)
        );
        assert_eq!(
            read("before=7&partition=1&dry_run=true").unwrap(),
            (Some(1), DeleteBefore::Offset(7), true)
        );
        assert_eq!(
            read("before=1970-01-01T00:00:01Z").unwrap(),
            (None, DeleteBefore::Time(1_000), false)
        );
        for (query, field) in [
            ("", "before"),
            ("before=7", "before"),
            ("before=soon", "before"),
            ("before=", "before"),
            ("before=-1&partition=0", "before"),
            ("before=latest&partition=-1", "partition"),
            ("before=latest&dry_run=1", "dry_run"),
        ] {
            let error = read(query).unwrap_err();
            assert_eq!(error.status(), StatusCode::BAD_REQUEST, "{query}");
            assert_eq!(error.into_body().field.as_deref(), Some(field), "{query}");
        }
    }
}
