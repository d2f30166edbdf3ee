//! `GET /topics` and `GET /topics/{topic}`.

use std::collections::BTreeMap;

use axum::Extension;
use axum::response::Response;
use serde::Serialize;

use super::answer::AnswerType;
use super::error;
use super::partitions::PartitionInfo;
use crate::admin::topics::{self, TopicDescription};
use crate::auth::Principal;
use crate::gateway::Gateway;
use crate::http::error::ApiError;
use crate::http::extract::Path;

/// A topic
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct TopicInfo {
    /// Its name.
    #[schema(example = "orders")]
    name: String,
    /// Its configuration, the broker's defaults included; a secret value is `null`. Empty where the
    /// broker does not tell (the embedded one).
    #[schema(example = json!({"cleanup.policy": "delete", "retention.ms": "604800000"}))]
    configs: BTreeMap<String, Option<String>>,
    /// Its partitions, by number.
    partitions: Vec<PartitionInfo>,
}

/// List the topics
///
/// By name, without Kafka's internal ones, and only those that the caller may describe. A topic
/// created a moment ago shows within a second.
///
/// Needs no permission to be called; shows what `describe` allows.
#[utoipa::path(
    get,
    path = "/topics",
    operation_id = "listTopicsV2",
    tag = "Compatible REST v2",
    responses(
        (status = 200, description = "Their names", content(
            (Vec<String> = "application/vnd.kafka.v2+json", example = json!(["orders", "payments"])),
            (Vec<String> = "application/json"),
        )),
        error::ListErrors,
    )
)]
pub async fn list(
    gateway: Gateway,
    Extension(principal): Extension<Principal>,
    answer: AnswerType,
) -> Result<Response, ApiError> {
    let visible = topics::visible(gateway.cluster(), &principal).await;
    let names = visible.map(|topics| {
        let names = topics.into_iter().map(|topic| topic.name.to_string());
        names.collect::<Vec<_>>()
    });
    answer.json(names.map_err(|fault| error::of_request(&fault)))
}

/// Describe a topic
///
/// Its configuration and its partitions with their leaders and replicas.
///
/// Needs `describe` on the topic.
#[utoipa::path(
    get,
    path = "/topics/{topic}",
    operation_id = "getTopicV2",
    tag = "Compatible REST v2",
    params(("topic" = String, Path, description = "The topic", example = "orders")),
    responses(
        (status = 200, description = "The topic", content(
            (TopicInfo = "application/vnd.kafka.v2+json", example = json!({
                "name": "orders",
                "configs": {"cleanup.policy": "delete", "retention.ms": "604800000"},
                "partitions": [{"partition": 0, "leader": 1, "replicas": [{"broker": 1, "leader": true, "in_sync": true}]}],
            })),
            (TopicInfo = "application/json"),
        )),
        error::TopicErrors,
    )
)]
pub async fn get(
    gateway: Gateway,
    Path(topic): Path<String>,
    answer: AnswerType,
) -> Result<Response, ApiError> {
    let described = topics::describe(gateway.cluster(), &topic).await;
    let described = described.map(TopicInfo::from);
    answer.json(described.map_err(|fault| error::of_request(&fault)))
}

impl From<TopicDescription> for TopicInfo {
    fn from(TopicDescription { topic, configs }: TopicDescription) -> Self {
        let configs = configs.into_iter();
        Self {
            name: topic.name.to_string(),
            configs: configs.map(|config| (config.name, config.value)).collect(),
            partitions: topic.partitions.iter().map(PartitionInfo::from).collect(),
        }
    }
}
