//! `GET /v3/clusters` and `GET /v3/clusters/{cluster}`: the gateway's one cluster.

use axum::response::Response;
use serde::Serialize;

use super::call::Call;
use super::error::Errors;
use super::resource::{ListMetadata, Metadata, Related, resource};
use crate::api::json::ok;
use crate::http::error::ApiError;

resource!(
    /// The clusters, which is one
    ClusterList of Cluster: ClusterKind, ClusterListKind, "KafkaCluster", "KafkaClusterList"
);

/// A cluster
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = ClusterV3)]
pub struct Cluster {
    kind: ClusterKind,
    metadata: Metadata,
    /// Its id.
    #[schema(example = "4L6g3nShT-eMCtK--X86sw")]
    cluster_id: String,
    /// The broker that controls it; `null` while there is none.
    #[schema(required = true)]
    controller: Option<Related>,
    /// Its ACLs.
    acls: Related,
    /// Its brokers.
    brokers: Related,
    /// What all brokers of the cluster are told that have no value of their own.
    broker_configs: Related,
    /// Its consumer groups.
    consumer_groups: Related,
    /// Its topics.
    topics: Related,
    /// The partitions that are being moved.
    partition_reassignments: Related,
}

async fn described(call: &Call) -> Result<Cluster, ApiError> {
    let links = &call.links;
    let known = call.cluster().metadata.cluster().await;
    let known = known.map_err(|fault| call.fault(&fault))?;
    let controller = known.controller.map(|id| id.to_string());
    Ok(Cluster {
        kind: ClusterKind::It,
        metadata: links.metadata(&[], &[]),
        cluster_id: links.id(),
        controller: controller.map(|id| links.related(&["brokers", &id])),
        acls: links.related(&["acls"]),
        brokers: links.related(&["brokers"]),
        broker_configs: links.related(&["broker-configs"]),
        consumer_groups: links.related(&["consumer-groups"]),
        topics: links.related(&["topics"]),
        partition_reassignments: links.related(&["topics", "-", "partitions", "-", "reassignment"]),
    })
}

/// List the clusters
///
/// A gateway serves one cluster, so that there is always one in the list.
///
/// Needs no permission: any caller may ask.
#[utoipa::path(
    get,
    path = "/v3/clusters",
    operation_id = "listClustersV3",
    tag = "Compatible REST v3",
    responses(
        (status = 200, description = "The one cluster", body = ClusterList),
        Errors,
    )
)]
pub async fn list(call: Call) -> Result<Response, ApiError> {
    let metadata = ListMetadata {
        url: call.links.clusters(),
        next: None,
    };
    ok(&ClusterList::new(metadata, vec![described(&call).await?]))
}

/// Describe the cluster
///
/// Needs no permission: any caller may ask.
#[utoipa::path(
    get,
    path = "/v3/clusters/{cluster}",
    operation_id = "getClusterV3",
    tag = "Compatible REST v3",
    params(("cluster" = String, Path, description = "The cluster's id, as `GET /v3/clusters` tells it")),
    responses(
        (status = 200, description = "The cluster", body = Cluster),
        Errors,
    )
)]
pub async fn get(call: Call) -> Result<Response, ApiError> {
    ok(&described(&call).await?)
}
