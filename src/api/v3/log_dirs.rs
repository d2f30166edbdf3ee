//! `/v3/clusters/{cluster}/brokers/{broker}/log-dirs`: the directories in which a broker keeps partitions. Not in
//! Confluent REST Proxy.

use axum::response::Response;
use serde::Serialize;

use super::brokers::BrokerPath;
use super::call::Call;
use super::error::Errors;
use super::resource::{ListMetadata, Related, resource};
use crate::admin::storage;
use crate::api::json::ok;
use crate::http::error::ApiError;
use crate::http::extract::Path;
use crate::kafka::admin::LogDir as Known;

resource!(
    /// Directories of a broker
    LogDirList of LogDir: LogDirKind, LogDirListKind, "KafkaLogDir", "KafkaLogDirList"
);

/// A directory in which a broker keeps partitions
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct LogDir {
    kind: LogDirKind,
    /// The cluster's id.
    cluster_id: String,
    /// The broker.
    broker_id: i32,
    /// Where it is on the broker.
    #[schema(example = "/var/lib/kafka/data")]
    path: String,
    /// The size of its volume in bytes; `null` where the broker does not tell (before Kafka 3.3).
    #[schema(required = true)]
    total_bytes: Option<i64>,
    /// What is free of it.
    #[schema(required = true)]
    usable_bytes: Option<i64>,
    /// Why it cannot be used; `null` where it can.
    #[schema(required = true)]
    error: Option<String>,
    /// What is in it of the topics that the caller may describe, by topic and partition.
    replicas: Vec<LogDirReplica>,
}

/// A replica in a directory
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct LogDirReplica {
    /// The topic.
    #[schema(example = "orders")]
    topic_name: String,
    /// The partition.
    partition_id: i32,
    /// Its size in bytes.
    size_bytes: i64,
    /// How many records it is behind the high watermark.
    offset_lag: i64,
    /// Whether it is being moved here from another directory of the broker.
    is_future: bool,
    /// The partition.
    partition: Related,
}

fn described(call: &Call, broker: i32, dir: Known) -> LogDir {
    let links = &call.links;
    let replicas = dir.replicas.into_iter().map(|replica| {
        let (topic, number) = (
            &replica.partition.topic,
            replica.partition.partition.to_string(),
        );
        LogDirReplica {
            topic_name: topic.to_string(),
            partition_id: replica.partition.partition,
            size_bytes: replica.bytes,
            offset_lag: replica.behind,
            is_future: replica.is_future,
            partition: links.related(&["topics", topic, "partitions", &number]),
        }
    });
    LogDir {
        kind: LogDirKind::It,
        cluster_id: links.id(),
        broker_id: broker,
        path: dir.path,
        total_bytes: dir.total_bytes,
        usable_bytes: dir.usable_bytes,
        error: dir.fault.map(|fault| fault.message),
        replicas: replicas.collect(),
    }
}

/// List a broker's directories
///
/// With the size of each replica in them. Not in the reference.
///
/// Needs `describe` on the cluster.
#[utoipa::path(
    get,
    path = "/v3/clusters/{cluster}/brokers/{broker}/log-dirs",
    operation_id = "listLogDirsV3",
    tag = "Compatible REST v3",
    params(
        ("cluster" = String, Path, description = "The cluster's id"),
        ("broker" = i32, Path, description = "The broker's id"),
    ),
    responses(
        (status = 200, description = "The directories, by path", body = LogDirList),
        Errors,
    )
)]
pub async fn list(call: Call, Path(path): Path<BrokerPath>) -> Result<Response, ApiError> {
    let id = path.id()?;
    let dirs = storage::log_dirs(call.cluster(), &call.principal, id).await;
    let dirs = dirs.map_err(|error| call.refused(error))?;
    let metadata = ListMetadata {
        url: call.links.url(&["brokers", &id.to_string(), "log-dirs"]),
        next: None,
    };
    let data = dirs.into_iter().map(|dir| described(&call, id, dir));
    ok(&LogDirList::new(metadata, data.collect()))
}
