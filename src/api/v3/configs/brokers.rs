//! `/v3/clusters/{cluster}/brokers/{broker}/configs`: settings of brokers.

use axum::response::Response;
use serde::Serialize;

use super::{AlterConfigs, ConfigFields, NamePath, UpdateConfig, alter, change, one};
use crate::admin::configs;
use crate::api::json::ok;
use crate::api::v3::brokers::BrokerPath;
use crate::api::v3::call::{Call, JsonBody};
use crate::api::v3::error::{BodyErrors, Errors};
use crate::api::v3::page::{PageParams, Pair, PrefixParam};
use crate::api::v3::resource::{Metadata, resource};
use crate::http::error::ApiError;
use crate::http::extract::Path;
use crate::kafka::admin::{ConfigEntry, ConfigOwner};

resource!(
    /// Settings of brokers
    BrokerConfigList of BrokerConfig: BrokerConfigKind, BrokerConfigListKind, "KafkaBrokerConfig", "KafkaBrokerConfigList"
);

/// A setting of a broker
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct BrokerConfig {
    kind: BrokerConfigKind,
    metadata: Metadata,
    /// The cluster's id.
    cluster_id: String,
    /// The broker's id.
    broker_id: i32,
    #[serde(flatten)]
    fields: ConfigFields,
}

fn described(call: &Call, broker: i32, entry: ConfigEntry) -> BrokerConfig {
    let (links, id) = (&call.links, broker.to_string());
    BrokerConfig {
        kind: BrokerConfigKind::It,
        metadata: links.metadata(
            &["brokers", &id, "configs", &entry.name],
            &[("broker", &id), ("config", &entry.name)],
        ),
        cluster_id: links.id(),
        broker_id: broker,
        fields: entry.into(),
    }
}

/// List a broker's settings
///
/// By name; secret values are `null`.
///
/// Needs `describe` on the cluster.
#[utoipa::path(
    get,
    path = "/v3/clusters/{cluster}/brokers/{broker}/configs",
    operation_id = "listBrokerConfigsV3",
    tag = "Compatible REST v3",
    params(
        ("cluster" = String, Path, description = "The cluster's id"),
        ("broker" = i32, Path, description = "The broker's id"),
        PageParams,
        PrefixParam,
    ),
    responses(
        (status = 200, description = "The settings", body = BrokerConfigList),
        Errors,
    )
)]
pub async fn list(mut call: Call, Path(path): Path<BrokerPath>) -> Result<Response, ApiError> {
    let page = call.page()?;
    let id = path.id()?;
    let entries = configs::of(call.cluster(), &ConfigOwner::Broker(id)).await;
    let entries = entries.map_err(|error| call.refused(error))?;
    let url = call.links.url(&["brokers", &id.to_string(), "configs"]);
    let page = page.of_names(url, entries, |entry| &entry.name);
    let data = page.data.into_iter();
    let data = data.map(|entry| described(&call, id, entry));
    ok(&BrokerConfigList::new(page.metadata, data.collect()))
}

/// List the settings of all brokers
///
/// By broker and setting; secret values are `null`.
///
/// Needs `describe` on the cluster.
#[utoipa::path(
    get,
    path = "/v3/clusters/{cluster}/brokers/-/configs",
    operation_id = "listAllBrokerConfigsV3",
    tag = "Compatible REST v3",
    params(("cluster" = String, Path, description = "The cluster's id"), PageParams),
    responses(
        (status = 200, description = "The settings", body = BrokerConfigList),
        Errors,
    )
)]
pub async fn list_all(mut call: Call) -> Result<Response, ApiError> {
    let page = call.page()?;
    let brokers = call.cluster().metadata.brokers().await;
    let brokers = brokers.map_err(|fault| call.fault(&fault))?;
    let owners: Vec<ConfigOwner> = brokers
        .iter()
        .map(|one| ConfigOwner::Broker(one.id))
        .collect();
    let told = configs::of_each(call.cluster(), &owners).await;
    let mut all = Vec::new();
    for ((_, entries), broker) in told
        .map_err(|fault| call.fault(&fault))?
        .into_iter()
        .zip(&brokers)
    {
        // A broker that does not answer is no broker without settings.
        let entries = entries.map_err(|fault| call.fault(&fault))?.into_iter();
        all.extend(entries.map(|entry| (broker.id, entry)));
    }
    let url = call.links.url(&["brokers", "-", "configs"]);
    let key = |(id, entry): &(i32, ConfigEntry)| Pair(*id, entry.name.clone());
    let page = page.of_keys(url, all, key)?;
    let data = page.data.into_iter();
    let data = data.map(|(id, entry)| described(&call, id, entry));
    ok(&BrokerConfigList::new(page.metadata, data.collect()))
}

/// Describe a setting of a broker
///
/// Needs `describe` on the cluster.
#[utoipa::path(
    get,
    path = "/v3/clusters/{cluster}/brokers/{broker}/configs/{name}",
    operation_id = "getBrokerConfigV3",
    tag = "Compatible REST v3",
    params(
        ("cluster" = String, Path, description = "The cluster's id"),
        ("broker" = i32, Path, description = "The broker's id"),
        ("name" = String, Path, description = "The setting", example = "compression.type"),
    ),
    responses(
        (status = 200, description = "The setting", body = BrokerConfig),
        Errors,
    )
)]
pub async fn get(
    call: Call,
    Path(path): Path<BrokerPath>,
    Path(NamePath { name }): Path<NamePath>,
) -> Result<Response, ApiError> {
    let id = path.id()?;
    let entry = one(&call, &ConfigOwner::Broker(id), &name).await?;
    ok(&described(&call, id, entry))
}

/// Change a setting of a broker
///
/// Needs `admin` on the cluster.
#[utoipa::path(
    put,
    path = "/v3/clusters/{cluster}/brokers/{broker}/configs/{name}",
    operation_id = "updateBrokerConfigV3",
    tag = "Compatible REST v3",
    params(
        ("cluster" = String, Path, description = "The cluster's id"),
        ("broker" = i32, Path, description = "The broker's id"),
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
    Path(path): Path<BrokerPath>,
    Path(NamePath { name }): Path<NamePath>,
    body: JsonBody,
) -> Result<Response, ApiError> {
    change(&call, ConfigOwner::Broker(path.id()?), name, Some(body)).await
}

/// Take a setting of a broker back
///
/// The broker has the value of all brokers again, or the one that it was started with.
///
/// Needs `admin` on the cluster.
#[utoipa::path(
    delete,
    path = "/v3/clusters/{cluster}/brokers/{broker}/configs/{name}",
    operation_id = "deleteBrokerConfigV3",
    tag = "Compatible REST v3",
    params(
        ("cluster" = String, Path, description = "The cluster's id"),
        ("broker" = i32, Path, description = "The broker's id"),
        ("name" = String, Path, description = "The setting", example = "compression.type"),
    ),
    responses(
        (status = 204, description = "It is taken back"),
        Errors,
    )
)]
pub async fn delete(
    call: Call,
    Path(path): Path<BrokerPath>,
    Path(NamePath { name }): Path<NamePath>,
) -> Result<Response, ApiError> {
    change(&call, ConfigOwner::Broker(path.id()?), name, None).await
}

/// Change settings of a broker
///
/// All of the changes are made, or none.
///
/// Needs `admin` on the cluster.
#[utoipa::path(
    post,
    path = "/v3/clusters/{cluster}/brokers/{broker}/configs:alter",
    operation_id = "alterBrokerConfigsV3",
    tag = "Compatible REST v3",
    params(
        ("cluster" = String, Path, description = "The cluster's id"),
        ("broker" = i32, Path, description = "The broker's id"),
    ),
    request_body(content = AlterConfigs, example = json!({"data": [{"name": "compression.type", "value": "gzip"}]})),
    responses(
        (status = 204, description = "They are made"),
        BodyErrors,
    )
)]
pub async fn alter_one(
    call: Call,
    Path(path): Path<BrokerPath>,
    body: JsonBody,
) -> Result<Response, ApiError> {
    alter(&call, ConfigOwner::Broker(path.id()?), &body).await
}
