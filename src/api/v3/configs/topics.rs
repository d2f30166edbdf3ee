//! `/v3/clusters/{cluster}/topics/{topic}/configs`: settings of topics.

use std::collections::HashSet;

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::{
    AlterConfig, AlterConfigs, ConfigFields, NamePath, UpdateConfig, alter, change, changes, one,
};
use crate::admin::{configs, topics};
use crate::api::json::{json, ok};
use crate::api::v3::call::{Call, JsonBody};
use crate::api::v3::error::{BodyErrors, Errors};
use crate::api::v3::page::{PageParams, PrefixParam};
use crate::api::v3::partitions::TopicPath;
use crate::api::v3::resource::{Metadata, resource};
use crate::http::error::ApiError;
use crate::http::extract::Path;
use crate::http::json_object::unacceptable;
use crate::kafka::admin::{ConfigEntry, ConfigOwner};
use crate::kafka::fault::{Fault, FaultKind};

resource!(
    /// Settings of topics
    TopicConfigList of TopicConfig: TopicConfigKind, TopicConfigListKind, "KafkaTopicConfig", "KafkaTopicConfigList"
);

/// A setting of a topic
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct TopicConfig {
    kind: TopicConfigKind,
    metadata: Metadata,
    /// The cluster's id.
    cluster_id: String,
    /// The topic.
    #[schema(example = "orders")]
    topic_name: String,
    #[serde(flatten)]
    fields: ConfigFields,
}

/// Changes of settings of several topics
#[derive(Debug, utoipa::ToSchema)]
#[expect(dead_code, reason = "the shape is read by hand; this describes it")]
pub struct AlterTopicsConfigs {
    /// The topics.
    data: Vec<AlterTopicConfigs>,
    /// `true`: Kafka only says whether it would make the changes.
    validate_only: Option<bool>,
}

/// Changes of settings of a topic
#[derive(Debug, utoipa::ToSchema)]
#[expect(dead_code, reason = "the shape is read by hand; this describes it")]
pub struct AlterTopicConfigs {
    /// The topic.
    #[schema(example = "orders")]
    topic_name: String,
    /// The changes: all of them are made, or none.
    configs: Vec<AlterConfig>,
}

/// The topics that were not changed
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct AlterTopicsFailures {
    /// The topics whose changes Kafka refused. All others are changed.
    failures: Vec<AlterTopicFailure>,
}

/// A topic that was not changed
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct AlterTopicFailure {
    /// The topic.
    topic_name: String,
    /// As in an error.
    #[schema(example = 40002)]
    error_code: u32,
    /// What is wrong.
    message: String,
}

/// The topic that a path names, as what has settings.
fn owner(path: TopicPath) -> ConfigOwner {
    ConfigOwner::Topic(path.topic)
}

fn described(call: &Call, topic: &str, entry: ConfigEntry) -> TopicConfig {
    let links = &call.links;
    TopicConfig {
        kind: TopicConfigKind::It,
        metadata: links.metadata(
            &["topics", topic, "configs", &entry.name],
            &[("topic", topic), ("config", &entry.name)],
        ),
        cluster_id: links.id(),
        topic_name: topic.to_owned(),
        fields: entry.into(),
    }
}

/// Of how many topics all settings are told where no page is asked for.
const MOST_TOPICS: usize = 1_000;

/// List a topic's settings
///
/// With the brokers' defaults, by name.
///
/// Needs `describe` on the topic.
#[utoipa::path(
    get,
    path = "/v3/clusters/{cluster}/topics/{topic}/configs",
    operation_id = "listTopicConfigsV3",
    tag = "Compatible REST v3",
    params(
        ("cluster" = String, Path, description = "The cluster's id"),
        ("topic" = String, Path, description = "The topic", example = "orders"),
        PageParams,
        PrefixParam,
    ),
    responses(
        (status = 200, description = "The settings", body = TopicConfigList),
        Errors,
    )
)]
pub async fn list(mut call: Call, Path(path): Path<TopicPath>) -> Result<Response, ApiError> {
    let page = call.page()?;
    let topic = path.topic.clone();
    let entries = configs::of(call.cluster(), &owner(path)).await;
    let entries = entries.map_err(|error| call.refused(error))?;
    let url = call.links.url(&["topics", &topic, "configs"]);
    let page = page.of_names(url, entries, |entry| &entry.name);
    let data = page.data.into_iter();
    let data = data.map(|entry| described(&call, &topic, entry));
    ok(&TopicConfigList::new(page.metadata, data.collect()))
}

/// List the settings of a new topic
///
/// What a topic of this name would have if it were made now without settings of its own.
///
/// Needs `describe` on the topic.
#[utoipa::path(
    get,
    path = "/v3/clusters/{cluster}/topics/{topic}/default-configs",
    operation_id = "listDefaultTopicConfigsV3",
    tag = "Compatible REST v3",
    params(
        ("cluster" = String, Path, description = "The cluster's id"),
        ("topic" = String, Path, description = "The topic, which need not be there", example = "orders"),
        PageParams,
        PrefixParam,
    ),
    responses(
        (status = 200, description = "The settings, by name", body = TopicConfigList),
        Errors,
    )
)]
pub async fn defaults(mut call: Call, Path(path): Path<TopicPath>) -> Result<Response, ApiError> {
    let page = call.page()?;
    let entries = configs::of_new_topic(call.cluster(), &call.principal).await;
    let Some(entries) = entries.map_err(|fault| call.fault(&fault))? else {
        let message =
            "The defaults are read from a topic that you may describe, and there is none.";
        return Err(call.fault(&Fault::new(FaultKind::Unsupported, message)));
    };
    let url = call.links.url(&["topics", &path.topic, "default-configs"]);
    let page = page.of_names(url, entries, |entry| &entry.name);
    let data = page.data.into_iter();
    let data = data.map(|entry| described(&call, &path.topic, entry));
    ok(&TopicConfigList::new(page.metadata, data.collect()))
}

/// List the settings of all topics
///
/// Of the topics that the caller may describe, by topic and setting. A page is of topics; without `page_size` it
/// has 1,000 of them, which are about 17 MB.
///
/// Needs no permission to be called; shows what `describe` allows.
#[utoipa::path(
    get,
    path = "/v3/clusters/{cluster}/topics/-/configs",
    operation_id = "listAllTopicConfigsV3",
    tag = "Compatible REST v3",
    params(
        ("cluster" = String, Path, description = "The cluster's id"),
        PageParams,
        PrefixParam,
    ),
    responses(
        (status = 200, description = "The settings", body = TopicConfigList),
        Errors,
    )
)]
pub async fn list_all(mut call: Call) -> Result<Response, ApiError> {
    let page = call.page()?.at_most(MOST_TOPICS);
    let all = topics::visible(call.cluster(), &call.principal).await;
    let all = all.map_err(|fault| call.fault(&fault))?;
    let url = call.links.url(&["topics", "-", "configs"]);
    let page = page.of_names(url, all, |topic| &topic.name);
    let owners = page.data.iter();
    let owners: Vec<ConfigOwner> = owners
        .map(|topic| ConfigOwner::Topic(topic.name.to_string()))
        .collect();
    let told = configs::of_each(call.cluster(), &owners).await;
    let mut data = Vec::new();
    for (owner, entries) in told.map_err(|fault| call.fault(&fault))? {
        let ConfigOwner::Topic(topic) = owner else {
            continue;
        };
        match entries {
            Ok(entries) => {
                data.extend(
                    entries
                        .into_iter()
                        .map(|entry| described(&call, &topic, entry)),
                );
            }
            // It was deleted a moment ago.
            Err(fault) if fault.kind == FaultKind::UnknownTopic => {}
            Err(fault) => return Err(call.fault(&fault)),
        }
    }
    ok(&TopicConfigList::new(page.metadata, data))
}

/// Describe a setting of a topic
///
/// Needs `describe` on the topic.
#[utoipa::path(
    get,
    path = "/v3/clusters/{cluster}/topics/{topic}/configs/{name}",
    operation_id = "getTopicConfigV3",
    tag = "Compatible REST v3",
    params(
        ("cluster" = String, Path, description = "The cluster's id"),
        ("topic" = String, Path, description = "The topic", example = "orders"),
        ("name" = String, Path, description = "The setting", example = "retention.ms"),
    ),
    responses(
        (status = 200, description = "The setting", body = TopicConfig),
        Errors,
    )
)]
pub async fn get(
    call: Call,
    Path(path): Path<TopicPath>,
    Path(NamePath { name }): Path<NamePath>,
) -> Result<Response, ApiError> {
    let topic = path.topic.clone();
    let entry = one(&call, &owner(path), &name).await?;
    ok(&described(&call, &topic, entry))
}

/// Change a setting of a topic
///
/// Needs `alter` on the topic.
#[utoipa::path(
    put,
    path = "/v3/clusters/{cluster}/topics/{topic}/configs/{name}",
    operation_id = "updateTopicConfigV3",
    tag = "Compatible REST v3",
    params(
        ("cluster" = String, Path, description = "The cluster's id"),
        ("topic" = String, Path, description = "The topic", example = "orders"),
        ("name" = String, Path, description = "The setting", example = "retention.ms"),
    ),
    request_body(content = UpdateConfig),
    responses(
        (status = 204, description = "It is changed"),
        BodyErrors,
    )
)]
pub async fn put(
    call: Call,
    Path(path): Path<TopicPath>,
    Path(NamePath { name }): Path<NamePath>,
    body: JsonBody,
) -> Result<Response, ApiError> {
    change(&call, owner(path), name, Some(body)).await
}

/// Take a setting of a topic back
///
/// The topic has the brokers' own value again.
///
/// Needs `alter` on the topic.
#[utoipa::path(
    delete,
    path = "/v3/clusters/{cluster}/topics/{topic}/configs/{name}",
    operation_id = "deleteTopicConfigV3",
    tag = "Compatible REST v3",
    params(
        ("cluster" = String, Path, description = "The cluster's id"),
        ("topic" = String, Path, description = "The topic", example = "orders"),
        ("name" = String, Path, description = "The setting", example = "retention.ms"),
    ),
    responses(
        (status = 204, description = "It is taken back"),
        Errors,
    )
)]
pub async fn delete(
    call: Call,
    Path(path): Path<TopicPath>,
    Path(NamePath { name }): Path<NamePath>,
) -> Result<Response, ApiError> {
    change(&call, owner(path), name, None).await
}

/// Change settings of a topic
///
/// All of the changes are made, or none.
///
/// Needs `alter` on the topic.
#[utoipa::path(
    post,
    path = "/v3/clusters/{cluster}/topics/{topic}/configs:alter",
    operation_id = "alterTopicConfigsV3",
    tag = "Compatible REST v3",
    params(
        ("cluster" = String, Path, description = "The cluster's id"),
        ("topic" = String, Path, description = "The topic", example = "orders"),
    ),
    request_body(content = AlterConfigs, example = json!({"data": [{"name": "retention.ms", "value": "604800000"}, {"name": "cleanup.policy", "operation": "DELETE"}]})),
    responses(
        (status = 204, description = "They are made"),
        BodyErrors,
    )
)]
pub async fn alter_one(
    call: Call,
    Path(path): Path<TopicPath>,
    body: JsonBody,
) -> Result<Response, ApiError> {
    alter(&call, owner(path), &body).await
}

/// Change settings of several topics
///
/// All of the changes of a topic are made, or none of that topic's. Nothing is changed where a topic or a setting
/// is not there or a permission is missing.
///
/// Needs `alter` on each of the topics.
#[utoipa::path(
    post,
    path = "/v3/clusters/{cluster}/topics/-/configs:alter",
    operation_id = "alterAllTopicConfigsV3",
    tag = "Compatible REST v3",
    params(("cluster" = String, Path, description = "The cluster's id")),
    request_body(content = AlterTopicsConfigs, example = json!({"data": [{"topic_name": "orders", "configs": [{"name": "retention.ms", "value": "604800000"}]}]})),
    responses(
        (status = 204, description = "They are made"),
        (status = 207, description = "Kafka refused those of some topics", body = AlterTopicsFailures),
        BodyErrors,
    )
)]
pub async fn alter_several(call: Call, body: JsonBody) -> Result<Response, ApiError> {
    let body = body.object(&["data", "validate_only"])?;
    let validate_only = body.truth("validate_only")?.unwrap_or(false);
    let list = body.objects("data", &["topic_name", "configs"])?;
    let list = body.needed("data", list)?;
    let mut asked: Vec<(String, Vec<_>)> = Vec::with_capacity(list.len());
    let mut seen = HashSet::new();
    for one in &list {
        let topic = one
            .needed("topic_name", one.text("topic_name")?)?
            .into_owned();
        if !seen.insert(topic.clone()) {
            return Err(unacceptable(&one.pointer("topic_name"), "is given twice"));
        }
        asked.push((topic, changes(one, "configs")?));
    }
    let altered = configs::alter_topics(call.cluster(), &call.principal, asked, validate_only);
    let refused = altered.await.map_err(|error| call.refused(error))?;
    if refused.is_empty() {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let failures = refused.into_iter().map(|(topic_name, fault)| {
        let error = call.fault(&fault).into_body();
        AlterTopicFailure {
            topic_name,
            error_code: error.error_code,
            message: error.message,
        }
    });
    let failures = AlterTopicsFailures {
        failures: failures.collect(),
    };
    json(StatusCode::MULTI_STATUS, &failures)
}
