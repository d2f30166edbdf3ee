//! `/v3/clusters/{cluster}/broker-configs`: settings that all brokers have which have no value of their own. Only
//! those are told that somebody set.

use axum::response::Response;
use serde::Serialize;

use super::{AlterConfigs, ConfigFields, NamePath, UpdateConfig, alter, change, one};
use crate::admin::configs;
use crate::api::json::ok;
use crate::api::v3::call::{Call, JsonBody};
use crate::api::v3::error::{BodyErrors, Errors};
use crate::api::v3::page::{PageParams, PrefixParam};
use crate::api::v3::resource::{Metadata, resource};
use crate::http::error::ApiError;
use crate::http::extract::Path;
use crate::kafka::admin::{ConfigEntry, ConfigOwner};

resource!(
    /// Settings of all brokers
    ClusterConfigList of ClusterConfig: ClusterConfigKind, ClusterConfigListKind, "KafkaClusterConfig", "KafkaClusterConfigList"
);

/// Whose settings they are
#[derive(Debug, Clone, Copy, Serialize, utoipa::ToSchema)]
pub enum ClusterConfigType {
    /// The brokers'.
    #[serde(rename = "BROKER")]
    Broker,
}

/// A setting of all brokers
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct ClusterConfig {
    kind: ClusterConfigKind,
    metadata: Metadata,
    /// The cluster's id.
    cluster_id: String,
    config_type: ClusterConfigType,
    #[serde(flatten)]
    fields: ConfigFields,
}

fn described(call: &Call, entry: ConfigEntry) -> ClusterConfig {
    let links = &call.links;
    ClusterConfig {
        kind: ClusterConfigKind::It,
        metadata: links.metadata(
            &["broker-configs", &entry.name],
            &[("broker-config", &entry.name)],
        ),
        cluster_id: links.id(),
        config_type: ClusterConfigType::Broker,
        fields: entry.into(),
    }
}

/// List the settings of all brokers
///
/// Only those that somebody set for all brokers together, by name.
///
/// Needs `describe` on the cluster.
#[utoipa::path(
    get,
    path = "/v3/clusters/{cluster}/broker-configs",
    operation_id = "listClusterConfigsV3",
    tag = "Compatible REST v3",
    params(("cluster" = String, Path, description = "The cluster's id"), PageParams, PrefixParam),
    responses(
        (status = 200, description = "The settings", body = ClusterConfigList),
        Errors,
    )
)]
pub async fn list(mut call: Call) -> Result<Response, ApiError> {
    let page = call.page()?;
    let entries = configs::of(call.cluster(), &ConfigOwner::AllBrokers).await;
    let entries = entries.map_err(|error| call.refused(error))?;
    let url = call.links.url(&["broker-configs"]);
    let page = page.of_names(url, entries, |entry| &entry.name);
    let data = page.data.into_iter();
    let data = data.map(|entry| described(&call, entry));
    ok(&ClusterConfigList::new(page.metadata, data.collect()))
}

/// Describe a setting of all brokers
///
/// Needs `describe` on the cluster.
#[utoipa::path(
    get,
    path = "/v3/clusters/{cluster}/broker-configs/{name}",
    operation_id = "getClusterConfigV3",
    tag = "Compatible REST v3",
    params(
        ("cluster" = String, Path, description = "The cluster's id"),
        ("name" = String, Path, description = "The setting", example = "compression.type"),
    ),
    responses(
        (status = 200, description = "The setting; 404 where nobody set it for all brokers", body = ClusterConfig),
        Errors,
    )
)]
pub async fn get(
    call: Call,
    Path(NamePath { name }): Path<NamePath>,
) -> Result<Response, ApiError> {
    let entry = one(&call, &ConfigOwner::AllBrokers, &name).await?;
    ok(&described(&call, entry))
}

/// Change a setting of all brokers
///
/// Needs `admin` on the cluster.
#[utoipa::path(
    put,
    path = "/v3/clusters/{cluster}/broker-configs/{name}",
    operation_id = "updateClusterConfigV3",
    tag = "Compatible REST v3",
    params(
        ("cluster" = String, Path, description = "The cluster's id"),
        ("name" = String, Path, description = "The setting", example = "compression.type"),
    ),
    request_body(content = UpdateConfig),
    responses(
        (status = 204, description = "It is changed"),
        BodyErrors,
    )
)]
pub async fn put(
    call: Call,
    Path(NamePath { name }): Path<NamePath>,
    body: JsonBody,
) -> Result<Response, ApiError> {
    change(&call, ConfigOwner::AllBrokers, name, Some(body)).await
}

/// Take a setting of all brokers back
///
/// Needs `admin` on the cluster.
#[utoipa::path(
    delete,
    path = "/v3/clusters/{cluster}/broker-configs/{name}",
    operation_id = "deleteClusterConfigV3",
    tag = "Compatible REST v3",
    params(
        ("cluster" = String, Path, description = "The cluster's id"),
        ("name" = String, Path, description = "The setting", example = "compression.type"),
    ),
    responses(
        (status = 204, description = "It is taken back"),
        Errors,
    )
)]
pub async fn delete(
    call: Call,
    Path(NamePath { name }): Path<NamePath>,
) -> Result<Response, ApiError> {
    change(&call, ConfigOwner::AllBrokers, name, None).await
}

/// Change settings of all brokers
///
/// All of the changes are made, or none.
///
/// Needs `admin` on the cluster.
#[utoipa::path(
    post,
    path = "/v3/clusters/{cluster}/broker-configs:alter",
    operation_id = "alterClusterConfigsV3",
    tag = "Compatible REST v3",
    params(("cluster" = String, Path, description = "The cluster's id")),
    request_body(content = AlterConfigs, example = json!({"data": [{"name": "compression.type", "value": "gzip"}]})),
    responses(
        (status = 204, description = "They are made"),
        BodyErrors,
    )
)]
pub async fn alter_all(call: Call, body: JsonBody) -> Result<Response, ApiError> {
    alter(&call, ConfigOwner::AllBrokers, &body).await
}
