//! `/v3/clusters/{cluster}/brokers`: the brokers, and the replicas that each has.

use axum::response::Response;
use serde::{Deserialize, Serialize};

use super::call::{Call, not_found, shown};
use super::error::Errors;
use super::page::{PageParams, Pair};
use super::partitions::{ReplicaList, replica};
use super::resource::{Metadata, Related, resource};
use crate::admin::topics;
use crate::api::json::ok;
use crate::http::error::ApiError;
use crate::http::extract::Path;
use crate::kafka::metadata;

resource!(
    /// Brokers
    BrokerList of Broker: BrokerKind, BrokerListKind, "KafkaBroker", "KafkaBrokerList"
);

/// A broker
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = BrokerV3)]
pub struct Broker {
    kind: BrokerKind,
    metadata: Metadata,
    /// The cluster's id.
    cluster_id: String,
    /// Its id.
    #[schema(example = 1)]
    broker_id: i32,
    /// Where Kafka's clients reach it.
    #[schema(required = true)]
    host: Option<String>,
    /// Where Kafka's clients reach it.
    #[schema(required = true)]
    port: Option<i32>,
    /// Its rack; `null` where it has none.
    #[schema(required = true)]
    rack: Option<String>,
    /// Its settings.
    configs: Related,
    /// The replicas that it has.
    partition_replicas: Related,
}

/// The broker that a path names.
#[derive(Debug, Deserialize)]
pub struct BrokerPath {
    broker: String,
}

impl BrokerPath {
    /// Its id. What is no number names no broker.
    pub(super) fn id(&self) -> Result<i32, ApiError> {
        self.broker
            .parse()
            .map_err(|_| not_found(&format!("Broker {}", shown(&self.broker)), "broker"))
    }
}

fn described(call: &Call, broker: &metadata::Broker) -> Broker {
    let id = broker.id.to_string();
    let links = &call.links;
    Broker {
        kind: BrokerKind::It,
        metadata: links.metadata(&["brokers", &id], &[("broker", &id)]),
        cluster_id: links.id(),
        broker_id: broker.id,
        host: Some(broker.host.clone()),
        port: Some(broker.port),
        rack: broker.rack.clone(),
        configs: links.related(&["brokers", &id, "configs"]),
        partition_replicas: links.related(&["brokers", &id, "partition-replicas"]),
    }
}

/// The broker of this id.
pub(super) async fn known(call: &Call, id: i32) -> Result<metadata::Broker, ApiError> {
    let brokers = call.cluster().metadata.brokers().await;
    let mut brokers = brokers.map_err(|fault| call.fault(&fault))?.into_iter();
    brokers
        .find(|broker| broker.id == id)
        .ok_or_else(|| not_found(&format!("Broker {id}"), "broker"))
}

/// List the brokers
///
/// Needs no permission: any caller may ask.
#[utoipa::path(
    get,
    path = "/v3/clusters/{cluster}/brokers",
    operation_id = "listBrokersV3",
    tag = "Compatible REST v3",
    params(("cluster" = String, Path, description = "The cluster's id")),
    responses(
        (status = 200, description = "The brokers, by id", body = BrokerList),
        Errors,
    )
)]
pub async fn list(mut call: Call) -> Result<Response, ApiError> {
    let page = call.page()?;
    let brokers = call.cluster().metadata.brokers().await;
    let brokers = brokers.map_err(|fault| call.fault(&fault))?;
    let page = page.of_keys(call.links.url(&["brokers"]), brokers, |broker| broker.id)?;
    let data = page.data.iter().map(|broker| described(&call, broker));
    ok(&BrokerList::new(page.metadata, data.collect()))
}

/// Describe a broker
///
/// Needs no permission: any caller may ask.
#[utoipa::path(
    get,
    path = "/v3/clusters/{cluster}/brokers/{broker}",
    operation_id = "getBrokerV3",
    tag = "Compatible REST v3",
    params(
        ("cluster" = String, Path, description = "The cluster's id"),
        ("broker" = i32, Path, description = "The broker's id"),
    ),
    responses(
        (status = 200, description = "The broker", body = Broker),
        Errors,
    )
)]
pub async fn get(call: Call, Path(path): Path<BrokerPath>) -> Result<Response, ApiError> {
    let broker = known(&call, path.id()?).await?;
    ok(&described(&call, &broker))
}

/// List a broker's replicas
///
/// Of the topics that the caller may describe, by topic and partition.
///
/// Needs no permission to be called; shows what `describe` allows.
#[utoipa::path(
    get,
    path = "/v3/clusters/{cluster}/brokers/{broker}/partition-replicas",
    operation_id = "listBrokerReplicasV3",
    tag = "Compatible REST v3",
    params(
        ("cluster" = String, Path, description = "The cluster's id"),
        ("broker" = i32, Path, description = "The broker's id"),
        PageParams,
    ),
    responses(
        (status = 200, description = "The replicas that it has, by topic and partition", body = ReplicaList),
        Errors,
    )
)]
pub async fn replicas(mut call: Call, Path(path): Path<BrokerPath>) -> Result<Response, ApiError> {
    let page = call.page()?;
    let broker = known(&call, path.id()?).await?;
    let topics = topics::visible(call.cluster(), &call.principal).await;
    let topics = topics.map_err(|fault| call.fault(&fault))?;
    let mut here = Vec::new();
    for topic in &topics {
        let partitions = topic.partitions.iter();
        let held = partitions.filter(|partition| partition.replicas.contains(&broker.id));
        here.extend(held.map(|partition| (&*topic.name, partition)));
    }
    let id = broker.id.to_string();
    let url = call.links.url(&["brokers", &id, "partition-replicas"]);
    let key =
        |(topic, partition): &(&str, &metadata::Partition)| Pair((*topic).to_owned(), partition.id);
    let page = page.of_keys(url, here, key)?;
    let data = page.data.into_iter();
    let data = data.map(|(topic, partition)| replica(&call, topic, partition, broker.id));
    ok(&ReplicaList::new(page.metadata, data.collect()))
}
