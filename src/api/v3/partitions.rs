//! `/v3/clusters/{cluster}/topics/{topic}/partitions`: partitions, their ends and their replicas.

use axum::response::Response;
use serde::{Deserialize, Serialize};

use super::call::{Call, not_found, shown};
use super::error::Errors;
use super::page::PageParams;
use super::resource::{ListMetadata, Metadata, Related, resource};
use crate::api::json::ok;
use crate::http::error::ApiError;
use crate::http::extract::{Path, unexpected};
use crate::kafka::metadata::Partition as Known;

resource!(
    /// Partitions of a topic
    PartitionList of Partition: PartitionKind, PartitionListKind, "KafkaPartition", "KafkaPartitionList"
);

resource!(
    /// Replicas of partitions
    ReplicaList of Replica: ReplicaKind, ReplicaListKind, "KafkaReplica", "KafkaReplicaList"
);

/// A partition
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = PartitionV3)]
pub struct Partition {
    kind: PartitionKind,
    metadata: Metadata,
    /// The cluster's id.
    cluster_id: String,
    /// Its topic.
    #[schema(example = "orders")]
    topic_name: String,
    /// Its number.
    partition_id: i32,
    /// The replica that leads it; `null` while there is none.
    #[schema(required = true)]
    leader: Option<Related>,
    /// Its replicas.
    replicas: Related,
    /// How it is being moved, if it is.
    reassignment: Related,
}

/// What the resource is
#[derive(Debug, Clone, Copy, Serialize, utoipa::ToSchema)]
pub enum PartitionOffsetsKind {
    /// The only one.
    #[serde(rename = "KafkaPartitionWithOffsets")]
    It,
}

/// Where a partition starts and ends
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = PartitionOffsetsV3)]
pub struct PartitionOffsets {
    kind: PartitionOffsetsKind,
    metadata: Metadata,
    /// The cluster's id.
    cluster_id: String,
    /// Its topic.
    topic_name: String,
    /// Its number.
    partition_id: i32,
    /// The first offset that is still there.
    earliest_offset: i64,
    /// The offset that the next record gets.
    latest_offset: i64,
}

/// A broker's copy of a partition
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = ReplicaV3)]
pub struct Replica {
    kind: ReplicaKind,
    metadata: Metadata,
    /// The cluster's id.
    cluster_id: String,
    /// The topic.
    topic_name: String,
    /// The partition.
    partition_id: i32,
    /// The broker that has it.
    broker_id: i32,
    /// Whether it leads the partition.
    is_leader: bool,
    /// Whether it has all that the leader has acknowledged.
    is_in_sync: bool,
    /// The broker.
    broker: Related,
}

/// The topic that a path names.
#[derive(Debug, Deserialize)]
pub struct TopicPath {
    pub(super) topic: String,
}

/// The partition that a path names.
#[derive(Debug, Deserialize)]
pub struct PartitionPath {
    pub(super) topic: String,
    partition: String,
}

impl PartitionPath {
    /// Its number. What is no number names no partition.
    pub(super) fn number(&self) -> Result<i32, ApiError> {
        let partition = shown(&self.partition);
        self.partition
            .parse()
            .map_err(|_| not_found(&format!("Partition {partition}"), "partition"))
    }
}

/// The replica that a path names.
#[derive(Debug, Deserialize)]
pub struct ReplicaPath {
    topic: String,
    partition: String,
    broker: String,
}

fn described(call: &Call, topic: &str, partition: &Known) -> Partition {
    let number = partition.id.to_string();
    let links = &call.links;
    let below = |what: &str| links.related(&["topics", topic, "partitions", &number, what]);
    Partition {
        kind: PartitionKind::It,
        metadata: links.metadata(
            &["topics", topic, "partitions", &number],
            &[("topic", topic), ("partition", &number)],
        ),
        cluster_id: links.id(),
        topic_name: topic.to_owned(),
        partition_id: partition.id,
        leader: partition.leader.map(|leader| {
            let leader = leader.to_string();
            links.related(&["topics", topic, "partitions", &number, "replicas", &leader])
        }),
        replicas: below("replicas"),
        reassignment: below("reassignment"),
    }
}

/// The copy of `partition` that `broker` has.
pub(super) fn replica(call: &Call, topic: &str, partition: &Known, broker: i32) -> Replica {
    let (number, id) = (partition.id.to_string(), broker.to_string());
    let links = &call.links;
    Replica {
        kind: ReplicaKind::It,
        metadata: links.metadata(
            &["topics", topic, "partitions", &number, "replicas", &id],
            &[("topic", topic), ("partition", &number), ("replica", &id)],
        ),
        cluster_id: links.id(),
        topic_name: topic.to_owned(),
        partition_id: partition.id,
        broker_id: broker,
        is_leader: partition.leader == Some(broker),
        is_in_sync: partition.isr.contains(&broker),
        broker: links.related(&["brokers", &id]),
    }
}

/// The partition that is named, of a topic that there is.
async fn known(call: &Call, topic: &str, number: i32) -> Result<Known, ApiError> {
    let topic = call.cluster().metadata.topic(topic).await;
    let topic = topic.map_err(|fault| call.fault(&fault))?;
    let found = topic.partition(number).cloned();
    // Of the plain kind, as Confluent REST Proxy has it where a partition is looked for in its topic.
    found.map_err(|_| not_found(&format!("Partition {number}"), "partition"))
}

/// List a topic's partitions
///
/// Needs `describe` on the topic.
#[utoipa::path(
    get,
    path = "/v3/clusters/{cluster}/topics/{topic}/partitions",
    operation_id = "listPartitionsV3",
    tag = "Compatible REST v3",
    params(
        ("cluster" = String, Path, description = "The cluster's id"),
        ("topic" = String, Path, description = "The topic", example = "orders"),
        PageParams,
    ),
    responses(
        (status = 200, description = "The partitions, by number", body = PartitionList),
        Errors,
    )
)]
pub async fn list(mut call: Call, Path(path): Path<TopicPath>) -> Result<Response, ApiError> {
    let page = call.page()?;
    let topic = call.cluster().metadata.topic(&path.topic).await;
    let topic = topic.map_err(|fault| call.fault(&fault))?;
    let url = call.links.url(&["topics", &path.topic, "partitions"]);
    let page = page.of_keys(url, topic.partitions.iter().collect(), |one| one.id)?;
    let data = page.data.into_iter();
    let data = data.map(|partition| described(&call, &path.topic, partition));
    ok(&PartitionList::new(page.metadata, data.collect()))
}

/// Describe a partition
///
/// Needs `describe` on the topic.
#[utoipa::path(
    get,
    path = "/v3/clusters/{cluster}/topics/{topic}/partitions/{partition}",
    operation_id = "getPartitionV3",
    tag = "Compatible REST v3",
    params(
        ("cluster" = String, Path, description = "The cluster's id"),
        ("topic" = String, Path, description = "The topic", example = "orders"),
        ("partition" = i32, Path, description = "The partition", example = 0),
    ),
    responses(
        (status = 200, description = "The partition", body = Partition),
        Errors,
    )
)]
pub async fn get(call: Call, Path(path): Path<PartitionPath>) -> Result<Response, ApiError> {
    let partition = known(&call, &path.topic, path.number()?).await?;
    ok(&described(&call, &path.topic, &partition))
}

/// Where a partition starts and ends
///
/// The end counts every record in the log, those of open transactions too.
///
/// Needs `describe` on the topic.
#[utoipa::path(
    get,
    path = "/v3/clusters/{cluster}/topics/{topic}/partitions/{partition}/offset",
    operation_id = "getPartitionOffsetsV3",
    tag = "Compatible REST v3",
    params(
        ("cluster" = String, Path, description = "The cluster's id"),
        ("topic" = String, Path, description = "The topic", example = "orders"),
        ("partition" = i32, Path, description = "The partition", example = 0),
        ("offset_type" = Option<String>, Query, description = "Only `earliest_and_latest`, which is the default"),
    ),
    responses(
        (status = 200, description = "The offsets", body = PartitionOffsets),
        Errors,
    )
)]
pub async fn offsets(
    mut call: Call,
    Path(path): Path<PartitionPath>,
) -> Result<Response, ApiError> {
    const BOTH: &str = "earliest_and_latest";
    match call.query.take("offset_type")? {
        Some(kind) if !kind.eq_ignore_ascii_case(BOTH) => {
            return Err(unexpected("offset_type", &kind, BOTH));
        }
        Some(_) | None => {}
    }
    let id = path.number()?;
    let cluster = call.cluster();
    let bounds = async {
        cluster.metadata.topic(&path.topic).await?.partition(id)?;
        cluster.log_watermarks(&path.topic, id).await
    };
    let bounds = bounds.await.map_err(|fault| call.fault(&fault))?;
    let number = id.to_string();
    ok(&PartitionOffsets {
        kind: PartitionOffsetsKind::It,
        metadata: call.links.metadata(
            &["topics", &path.topic, "partitions", &number, "offset"],
            &[
                ("topic", &path.topic),
                ("partition", &number),
                ("offset_type", BOTH),
            ],
        ),
        cluster_id: call.links.id(),
        topic_name: path.topic,
        partition_id: id,
        earliest_offset: bounds.low,
        latest_offset: bounds.end,
    })
}

/// List a partition's replicas
///
/// Needs `describe` on the topic.
#[utoipa::path(
    get,
    path = "/v3/clusters/{cluster}/topics/{topic}/partitions/{partition}/replicas",
    operation_id = "listReplicasV3",
    tag = "Compatible REST v3",
    params(
        ("cluster" = String, Path, description = "The cluster's id"),
        ("topic" = String, Path, description = "The topic", example = "orders"),
        ("partition" = i32, Path, description = "The partition", example = 0),
    ),
    responses(
        (status = 200, description = "The replicas, the preferred leader first", body = ReplicaList),
        Errors,
    )
)]
pub async fn replicas(call: Call, Path(path): Path<PartitionPath>) -> Result<Response, ApiError> {
    let partition = known(&call, &path.topic, path.number()?).await?;
    let data = partition.replicas.iter();
    let data = data.map(|broker| replica(&call, &path.topic, &partition, *broker));
    let number = partition.id.to_string();
    let metadata = ListMetadata {
        url: call
            .links
            .url(&["topics", &path.topic, "partitions", &number, "replicas"]),
        next: None,
    };
    ok(&ReplicaList::new(metadata, data.collect()))
}

/// Describe a replica
///
/// Needs `describe` on the topic.
#[utoipa::path(
    get,
    path = "/v3/clusters/{cluster}/topics/{topic}/partitions/{partition}/replicas/{broker}",
    operation_id = "getReplicaV3",
    tag = "Compatible REST v3",
    params(
        ("cluster" = String, Path, description = "The cluster's id"),
        ("topic" = String, Path, description = "The topic", example = "orders"),
        ("partition" = i32, Path, description = "The partition", example = 0),
        ("broker" = i32, Path, description = "The broker's id", example = 1),
    ),
    responses(
        (status = 200, description = "The replica", body = Replica),
        Errors,
    )
)]
pub async fn get_replica(call: Call, Path(path): Path<ReplicaPath>) -> Result<Response, ApiError> {
    let ReplicaPath {
        topic,
        partition,
        broker,
    } = path;
    let path = PartitionPath { topic, partition };
    let partition = known(&call, &path.topic, path.number()?).await?;
    let id = broker.parse().ok();
    match id.filter(|id| partition.replicas.contains(id)) {
        Some(id) => ok(&replica(&call, &path.topic, &partition, id)),
        None => Err(not_found(&format!("Replica {}", shown(&broker)), "broker")),
    }
}
