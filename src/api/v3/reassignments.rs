//! `…/reassignment`: the partitions that are being moved to other brokers.

use axum::response::Response;
use serde::Serialize;

use super::call::{Call, not_found};
use super::error::Errors;
use super::partitions::{PartitionPath, TopicPath};
use super::resource::{ListMetadata, Metadata, Related, resource};
use crate::admin::partitions;
use crate::api::json::ok;
use crate::http::error::ApiError;
use crate::http::extract::Path;
use crate::kafka::admin::Reassignment as Moved;

resource!(
    /// Partitions that are being moved
    ReassignmentList of Reassignment: ReassignmentKind, ReassignmentListKind, "KafkaReassignment", "KafkaReassignmentList"
);

/// A partition that is being moved to other brokers
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Reassignment {
    kind: ReassignmentKind,
    metadata: Metadata,
    /// The cluster's id.
    cluster_id: String,
    /// The topic.
    topic_name: String,
    /// The partition.
    partition_id: i32,
    /// The brokers that are to get it.
    adding_replicas: Vec<i32>,
    /// The brokers that are to lose it.
    removing_replicas: Vec<i32>,
    /// Its replicas.
    replicas: Related,
}

fn described(call: &Call, moved: Moved) -> Reassignment {
    let (topic, number) = (
        &*moved.partition.topic,
        moved.partition.partition.to_string(),
    );
    let links = &call.links;
    Reassignment {
        kind: ReassignmentKind::It,
        metadata: links.metadata(
            &["topics", topic, "partitions", &number, "reassignment"],
            &[
                ("topic", topic),
                ("partition", &number),
                ("reassignment", ""),
            ],
        ),
        cluster_id: links.id(),
        topic_name: topic.to_owned(),
        partition_id: moved.partition.partition,
        adding_replicas: moved.adding,
        removing_replicas: moved.removing,
        replicas: links.related(&["topics", topic, "partitions", &number, "replicas"]),
    }
}

fn listed(call: &Call, topic: &str, moved: Vec<Moved>) -> Result<Response, ApiError> {
    let metadata = ListMetadata {
        url: call
            .links
            .url(&["topics", topic, "partitions", "-", "reassignment"]),
        next: None,
    };
    let data = moved.into_iter().map(|moved| described(call, moved));
    ok(&ReassignmentList::new(metadata, data.collect()))
}

/// List the partitions that are being moved
///
/// Of the topics that the caller may describe.
///
/// Needs no permission to be called; shows what `describe` allows.
#[utoipa::path(
    get,
    path = "/v3/clusters/{cluster}/topics/-/partitions/-/reassignment",
    operation_id = "listReassignmentsV3",
    tag = "Compatible REST v3",
    params(("cluster" = String, Path, description = "The cluster's id")),
    responses(
        (status = 200, description = "The partitions that are being moved, by topic and number", body = ReassignmentList),
        Errors,
    )
)]
pub async fn list(call: Call) -> Result<Response, ApiError> {
    let moved = partitions::reassignments(call.cluster(), &call.principal).await;
    let moved = moved.map_err(|fault| call.fault(&fault))?;
    listed(&call, "-", moved)
}

/// List a topic's partitions that are being moved
///
/// Needs `describe` on the topic.
#[utoipa::path(
    get,
    path = "/v3/clusters/{cluster}/topics/{topic}/partitions/-/reassignment",
    operation_id = "listTopicReassignmentsV3",
    tag = "Compatible REST v3",
    params(
        ("cluster" = String, Path, description = "The cluster's id"),
        ("topic" = String, Path, description = "The topic", example = "orders"),
    ),
    responses(
        (status = 200, description = "The partitions that are being moved, by number", body = ReassignmentList),
        Errors,
    )
)]
pub async fn of_topic(call: Call, Path(path): Path<TopicPath>) -> Result<Response, ApiError> {
    let moved = partitions::reassignments_of(call.cluster(), &path.topic).await;
    let moved = moved.map_err(|fault| call.fault(&fault))?;
    listed(&call, &path.topic, moved)
}

/// Tell how a partition is being moved
///
/// Needs `describe` on the topic.
#[utoipa::path(
    get,
    path = "/v3/clusters/{cluster}/topics/{topic}/partitions/{partition}/reassignment",
    operation_id = "getReassignmentV3",
    tag = "Compatible REST v3",
    params(
        ("cluster" = String, Path, description = "The cluster's id"),
        ("topic" = String, Path, description = "The topic", example = "orders"),
        ("partition" = i32, Path, description = "The partition", example = 0),
    ),
    responses(
        (status = 200, description = "How it is being moved; 404 where it is not", body = Reassignment),
        Errors,
    )
)]
pub async fn get(call: Call, Path(path): Path<PartitionPath>) -> Result<Response, ApiError> {
    let number = path.number()?;
    let moved = partitions::reassignments_of(call.cluster(), &path.topic).await;
    let mut moved = moved.map_err(|fault| call.fault(&fault))?.into_iter();
    match moved.find(|moved| moved.partition.partition == number) {
        Some(moved) => ok(&described(&call, moved)),
        None => Err(not_found(
            &format!("Reassignment of partition {number}"),
            "partition",
        )),
    }
}
