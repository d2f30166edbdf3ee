//! `GET /topics/{topic}/partitions`, one of them, and where it starts and ends.

use axum::http::StatusCode;
use axum::response::Response;
use serde::Serialize;

use super::answer::AnswerType;
use super::error;
use crate::gateway::Gateway;
use crate::http::error::ApiError;
use crate::http::extract::Path;
use crate::kafka::metadata::Partition;

/// A partition
#[derive(Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct PartitionInfo {
    /// Its number.
    partition: i32,
    /// The broker that leads it; -1 while there is none.
    #[schema(example = 1)]
    leader: i32,
    /// The brokers that hold it, the preferred leader first.
    replicas: Vec<ReplicaInfo>,
}

/// A broker's copy of a partition
#[derive(Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct ReplicaInfo {
    /// The broker.
    #[schema(example = 1)]
    broker: i32,
    /// Whether it is the leader.
    leader: bool,
    /// Whether it has all that the leader has acknowledged.
    in_sync: bool,
}

/// Where a partition starts and ends
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct PartitionOffsets {
    /// The first offset that is still there.
    beginning_offset: i64,
    /// The offset that the next record gets.
    end_offset: i64,
}

impl From<&Partition> for PartitionInfo {
    fn from(partition: &Partition) -> Self {
        Self {
            partition: partition.id,
            leader: partition.leader.unwrap_or(-1),
            replicas: partition
                .replicas
                .iter()
                .map(|broker| ReplicaInfo {
                    broker: *broker,
                    leader: partition.leader == Some(*broker),
                    in_sync: partition.isr.contains(broker),
                })
                .collect(),
        }
    }
}

/// List a topic's partitions
///
/// With their leaders and replicas.
///
/// Needs `describe` on the topic.
#[utoipa::path(
    get,
    path = "/topics/{topic}/partitions",
    operation_id = "listPartitionsV2",
    tag = "Compatible REST v2",
    params(("topic" = String, Path, description = "The topic", example = "orders")),
    responses(
        (status = 200, description = "The partitions, by number", content(
            (Vec<PartitionInfo> = "application/vnd.kafka.v2+json", example = json!([
                {"partition": 0, "leader": 1, "replicas": [{"broker": 1, "leader": true, "in_sync": true}]},
            ])),
            (Vec<PartitionInfo> = "application/json"),
        )),
        error::TopicErrors,
    )
)]
pub async fn list(
    gateway: Gateway,
    Path(topic): Path<String>,
    answer: AnswerType,
) -> Result<Response, ApiError> {
    let topic = gateway.cluster().metadata.topic(&topic).await;
    let list = topic
        .map(|topic| {
            topic
                .partitions
                .iter()
                .map(PartitionInfo::from)
                .collect::<Vec<_>>()
        })
        .map_err(|fault| error::of_request(&fault));
    answer.json(list)
}

/// Describe a partition
///
/// Its leader and replicas.
///
/// Needs `describe` on the topic.
#[utoipa::path(
    get,
    path = "/topics/{topic}/partitions/{partition}",
    operation_id = "getPartitionV2",
    tag = "Compatible REST v2",
    params(
        ("topic" = String, Path, description = "The topic", example = "orders"),
        ("partition" = i32, Path, description = "The partition", example = 0),
    ),
    responses(
        (status = 200, description = "The partition", content(
            (PartitionInfo = "application/vnd.kafka.v2+json", example = json!(
                {"partition": 0, "leader": 1, "replicas": [{"broker": 1, "leader": true, "in_sync": true}]}
            )),
            (PartitionInfo = "application/json"),
        )),
        error::TopicErrors,
    )
)]
pub async fn get(
    gateway: Gateway,
    Path((topic, partition)): Path<(String, String)>,
    answer: AnswerType,
) -> Result<Response, ApiError> {
    let described = async {
        let id = number(&partition)?;
        let topic = gateway.cluster().metadata.topic(&topic).await;
        topic
            .and_then(|topic| topic.partition(id).map(PartitionInfo::from))
            .map_err(|fault| error::of_request(&fault))
    };
    answer.json(described.await)
}

/// Where a partition starts and ends
///
/// The end counts every record in the log, those of open transactions too.
///
/// Needs `describe` on the topic.
#[utoipa::path(
    get,
    path = "/topics/{topic}/partitions/{partition}/offsets",
    operation_id = "getPartitionOffsetsV2",
    tag = "Compatible REST v2",
    params(
        ("topic" = String, Path, description = "The topic", example = "orders"),
        ("partition" = i32, Path, description = "The partition", example = 0),
    ),
    responses(
        (status = 200, description = "The offsets", content(
            (PartitionOffsets = "application/vnd.kafka.v2+json", example = json!({"beginning_offset": 10, "end_offset": 42})),
            (PartitionOffsets = "application/json"),
        )),
        error::TopicErrors,
    )
)]
pub async fn offsets(
    gateway: Gateway,
    Path((topic, partition)): Path<(String, String)>,
    answer: AnswerType,
) -> Result<Response, ApiError> {
    let cluster = gateway.cluster();
    let found = async {
        let id = number(&partition)?;
        let bounds = async {
            cluster.metadata.topic(&topic).await?.partition(id)?;
            cluster.log_watermarks(&topic, id).await
        };
        let bounds = bounds.await.map_err(|fault| error::of_request(&fault))?;
        Ok(PartitionOffsets {
            beginning_offset: bounds.low,
            end_offset: bounds.end,
        })
    };
    answer.json(found.await)
}

/// The number of a partition in a path. One that is no number names nothing, as in Confluent REST Proxy.
///
/// # Errors
///
/// 404, with what was there instead.
pub(super) fn number(text: &str) -> Result<i32, ApiError> {
    text.parse().map_err(|_| {
        let given: String = text.chars().take(40).collect();
        ApiError::plain(
            StatusCode::NOT_FOUND,
            format!("partition: expected a whole number, not {given:?}"),
        )
        .at("partition")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_without_a_leader_says_minus_one() {
        let partition = Partition {
            id: 3,
            leader: None,
            replicas: vec![2, 1],
            isr: vec![1],
            offline: vec![2],
        };
        assert_eq!(
            serde_json::to_string(&PartitionInfo::from(&partition)).unwrap(),
            "{\"partition\":3,\"leader\":-1,\"replicas\":[\
             {\"broker\":2,\"leader\":false,\"in_sync\":false},\
             {\"broker\":1,\"leader\":false,\"in_sync\":true}]}"
        );
    }
}
