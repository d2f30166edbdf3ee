//! `…/positions`: where an instance reads on.

use axum::response::Response;

use super::errors::InstanceBodyErrors;
use super::{ConsumerBody, ConsumerPartitions, InstanceCall, Name, requests};
use crate::consumer::SeekTargets;
use crate::http::error::ApiError;
use crate::http::json_object::needed;
use crate::kafka::member::SeekTo;
use crate::record::TopicPartition;

/// Where to read on
#[derive(Debug, utoipa::ToSchema)]
#[expect(dead_code, reason = "the shape is read by hand; this describes it")]
pub struct PositionsRequest {
    /// By offset, that of the next record.
    offsets: Option<Vec<PositionOffset>>,
    /// By time.
    timestamps: Option<Vec<PositionTimestamp>>,
}

/// An offset to read on at
#[derive(Debug, utoipa::ToSchema)]
#[expect(dead_code, reason = "the shape is read by hand; this describes it")]
pub struct PositionOffset {
    /// The topic.
    #[schema(example = "orders")]
    topic: String,
    /// The partition.
    #[schema(minimum = 0)]
    partition: i32,
    /// The offset of the next record.
    #[schema(minimum = 0)]
    offset: i64,
    /// Taken, and not kept.
    metadata: Option<String>,
}

/// A time to read on at
#[derive(Debug, utoipa::ToSchema)]
#[expect(dead_code, reason = "the shape is read by hand; this describes it")]
pub struct PositionTimestamp {
    /// The topic.
    #[schema(example = "orders")]
    topic: String,
    /// The partition.
    #[schema(minimum = 0)]
    partition: i32,
    /// An ISO 8601 time, or seconds since 1970: the first record at or after it is the next; the end
    /// where there is none.
    #[schema(example = "2026-05-01T12:00:00Z")]
    timestamp: SecondsOrText,
    /// Taken, and not kept.
    metadata: Option<String>,
}

/// A time: seconds since 1970, or ISO 8601
#[derive(Debug, utoipa::ToSchema)]
#[serde(untagged)]
pub enum SecondsOrText {
    /// Seconds since 1970.
    Seconds(f64),
    /// ISO 8601.
    Text(String),
}

/// Read on elsewhere
///
/// Nothing is committed by this.
///
/// Needs `group` on the group, and `consume` on the topics.
#[utoipa::path(
    post,
    path = "/consumers/{group}/instances/{instance}/positions",
    operation_id = "seekConsumerV2",
    tag = "Compatible REST v2",
    params(Name),
    request_body(content(
        (PositionsRequest = "application/vnd.kafka.v2+json", example = json!({"offsets": [{"topic": "orders", "partition": 0, "offset": 20}], "timestamps": [{"topic": "orders", "partition": 1, "timestamp": "2026-05-01T12:00:00Z"}]})),
        (PositionsRequest = "application/json"),
    )),
    responses((status = 204, description = "The next read begins there"), InstanceBodyErrors)
)]
pub async fn post(call: InstanceCall, body: ConsumerBody) -> Result<Response, ApiError> {
    let sought = async {
        let handle = call.instance()?;
        let Some(positions) = requests::positions(&body.bytes)? else {
            return Err(needed(
                "/offsets",
                "{\"offsets\": [{\"topic\": …, \"partition\": …, \"offset\": …}]}",
            ));
        };
        if positions.offsets.is_empty() && positions.times.is_empty() {
            call.authorize_instance(&handle).await?;
        }
        let by_offset = positions.offsets.iter().map(|(p, _)| p);
        call.check_partitions("offsets", by_offset).await?;
        let by_time = positions.times.iter().map(|(p, _)| p);
        call.check_partitions("timestamps", by_time).await?;
        let offsets = positions.offsets.into_iter();
        let times = positions.times.into_iter();
        let mut targets: Vec<(TopicPartition, SeekTo)> = Vec::new();
        let all = offsets
            .map(|(p, offset)| (p, SeekTo::Offset(offset)))
            .chain(times.map(|(p, time)| (p, SeekTo::Time(time))));
        // Of several targets of a partition the last one holds.
        for (partition, target) in all {
            targets.retain(|(known, _)| *known != partition);
            targets.push((partition, target));
        }
        call.ask(handle.seek(SeekTargets::Each(targets))).await
    };
    body.answer.no_content(sought.await)
}

/// Read on at the beginning
///
/// Of the partitions named, or of all that the instance has if none is.
///
/// Needs `group` on the group, and `consume` on the topics.
#[utoipa::path(
    post,
    path = "/consumers/{group}/instances/{instance}/positions/beginning",
    operation_id = "seekConsumerToBeginningV2",
    tag = "Compatible REST v2",
    params(Name),
    request_body(content(
        (ConsumerPartitions = "application/vnd.kafka.v2+json", example = json!({"partitions": [{"topic": "orders", "partition": 0}]})),
        (ConsumerPartitions = "application/json"),
    )),
    responses((status = 204, description = "The next read begins there"), InstanceBodyErrors)
)]
pub async fn beginning(call: InstanceCall, body: ConsumerBody) -> Result<Response, ApiError> {
    edge(&call, SeekTo::Beginning, &body).await
}

/// Read on at the end
///
/// Of the partitions named, or of all that the instance has if none is.
///
/// Needs `group` on the group, and `consume` on the topics.
#[utoipa::path(
    post,
    path = "/consumers/{group}/instances/{instance}/positions/end",
    operation_id = "seekConsumerToEndV2",
    tag = "Compatible REST v2",
    params(Name),
    request_body(content(
        (ConsumerPartitions = "application/vnd.kafka.v2+json", example = json!({"partitions": [{"topic": "orders", "partition": 0}]})),
        (ConsumerPartitions = "application/json"),
    )),
    responses((status = 204, description = "The next read begins there"), InstanceBodyErrors)
)]
pub async fn end(call: InstanceCall, body: ConsumerBody) -> Result<Response, ApiError> {
    edge(&call, SeekTo::End, &body).await
}

/// Reads on at an edge of the partitions that the body names.
async fn edge(
    call: &InstanceCall,
    target: SeekTo,
    body: &ConsumerBody,
) -> Result<Response, ApiError> {
    let sought = async {
        let handle = call.instance()?;
        let partitions = requests::partitions(&body.bytes)?.ok_or_else(requests::no_partitions)?;
        call.check_partitions("partitions", partitions.iter())
            .await?;
        let targets = if partitions.is_empty() {
            call.authorize_instance(&handle).await?;
            SeekTargets::All(target)
        } else {
            SeekTargets::Each(partitions.into_iter().map(|p| (p, target)).collect())
        };
        call.ask(handle.seek(targets)).await
    };
    body.answer.no_content(sought.await)
}
