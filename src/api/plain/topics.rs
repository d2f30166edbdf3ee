//! `PUT /topics/{topic}` makes a topic, `DELETE /topics/{topic}` deletes it.

use std::collections::BTreeMap;

use axum::Extension;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::PlainBody;
use super::error::{BodyErrors, KafkaErrors, fault, refused};
use crate::admin::{AdminError, topics};
use crate::api::json::{json, ok};
use crate::auth::Principal;
use crate::auth::permission::{Action, Resource, is_allowed};
use crate::gateway::Gateway;
use crate::http::error::{ApiError, ErrorBody};
use crate::http::extract::{Path, Query};
use crate::http::json_object::wrong;
use crate::kafka::admin::{ConfigEntry, NewTopic};
use crate::kafka::fault::FaultKind;
use crate::kafka::metadata::Topic;

/// How a topic is to be
#[derive(Debug, utoipa::ToSchema)]
#[expect(dead_code, reason = "the shape is read by hand; this describes it")]
pub struct PutTopic {
    /// How many partitions; without it as the brokers make topics.
    #[schema(minimum = 1, example = 6)]
    partitions: Option<i32>,
    /// How many replicas of each partition; without it as the brokers make topics.
    #[schema(minimum = 1, example = 3)]
    replication: Option<i16>,
    /// Settings that differ from the brokers' own.
    #[schema(example = json!({"retention.ms": "604800000"}))]
    configs: Option<BTreeMap<String, String>>,
}

/// A topic that is there
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct PutTopicResult {
    /// Its name.
    #[schema(example = "orders")]
    topic: String,
    /// Whether this request made it.
    created: bool,
    /// How many partitions it has.
    #[schema(example = 6)]
    partitions: usize,
    /// How many replicas each of them has.
    #[schema(example = 3)]
    replication: usize,
}

fn described(topic: &Topic, created: bool) -> PutTopicResult {
    let first = topic.partitions.first();
    PutTopicResult {
        topic: topic.name.to_string(),
        created,
        partitions: topic.partitions.len(),
        replication: first.map_or(0, |first| first.replicas.len()),
    }
}

/// Make a topic
///
/// Answers when Kafka has made it and the brokers know of it. Where there is such a topic already it is left as
/// it is: the answer is 200 if it is as asked for, so that a script can be run again, and 409 with the
/// difference if it is not.
///
/// Needs `create` on the topic.
#[utoipa::path(
    put,
    path = "/topics/{topic}",
    operation_id = "putTopic",
    tag = "Administration",
    params(
        ("topic" = String, Path, description = "The topic", example = "orders"),
        ("dry_run" = Option<bool>, Query, description = "`true`: Kafka only says whether it would make it"),
    ),
    request_body(
        content = Option<PutTopic>,
        example = json!({"partitions": 6, "replication": 3, "configs": {"retention.ms": "604800000"}}),
    ),
    responses(
        (status = 201, description = "It is made", body = PutTopicResult),
        (status = 200, description = "There is such a topic already; or, with `dry_run`, Kafka would make it", body = PutTopicResult),
        (status = 400, description = "Kafka cannot make such a topic (40002), or the body cannot be read", body = ErrorBody),
        (status = 403, description = "No permission, here or at the broker, or a name that is kept (40301)", body = ErrorBody),
        (status = 404, description = "It was deleted by somebody else as soon as it was made (40401)", body = ErrorBody),
        (status = 409, description = "There is a topic of this name that is not as asked for", body = ErrorBody),
        (status = 422, description = "A field is unknown, given twice or has an impossible value", body = ErrorBody),
        BodyErrors,
        KafkaErrors,
    )
)]
pub async fn put(
    gateway: Gateway,
    Extension(principal): Extension<Principal>,
    Path(name): Path<String>,
    mut query: Query,
    body: PlainBody,
) -> Result<Response, ApiError> {
    let dry_run = query
        .take_as::<bool>("dry_run", "true or false")?
        .unwrap_or(false);
    query.finish()?;
    let topic = new_topic(&name, &body)?;
    let cluster = gateway.cluster();
    match topics::create(cluster, &principal, &topic, dry_run).await {
        Ok(()) if dry_run => ok(&planned(&gateway, &topic, false).await?),
        Ok(()) => {
            let least = topic.partitions.and_then(|n| usize::try_from(n).ok());
            let made = match cluster.settled_topic(&name, least.unwrap_or(1)).await {
                Ok(settled) => described(&settled, true),
                // It is made, whatever the brokers have heard of it.
                Err(_) => planned(&gateway, &topic, true).await?,
            };
            json(StatusCode::CREATED, &made)
        }
        Err(AdminError::Kafka(why)) if why.kind == FaultKind::Exists => {
            let there = existing(&gateway, &principal, &topic).await?;
            ok(&described(&there, false))
        }
        Err(error) => Err(refused(&gateway, error)),
    }
}

/// What the topic is to be.
async fn planned(
    gateway: &Gateway,
    topic: &NewTopic,
    created: bool,
) -> Result<PutTopicResult, ApiError> {
    let planned = topics::planned_size(gateway.cluster(), topic).await;
    let (partitions, replication) = planned.map_err(|why| fault(gateway, &why))?;
    let count = |n: i32| usize::try_from(n).unwrap_or(0);
    Ok(PutTopicResult {
        topic: topic.name.clone(),
        created,
        partitions: partitions.map_or(1, count),
        replication: replication.map_or(1, |n| count(i32::from(n))),
    })
}

/// The topic that is there already, if it is as `wanted`. One that the principal may not describe is only said to
/// be there, which Kafka's answer says anyhow.
async fn existing(
    gateway: &Gateway,
    principal: &Principal,
    wanted: &NewTopic,
) -> Result<std::sync::Arc<Topic>, ApiError> {
    let conflict = |what: String| ApiError::plain(StatusCode::CONFLICT, what).at("topic");
    let name = &wanted.name;
    if !is_allowed(principal, Action::Describe, Resource::Topic(name)) {
        return Err(conflict(format!("there is a topic {name} already")));
    }
    let known = topics::describe(gateway.cluster(), name).await;
    let known = known.map_err(|why| fault(gateway, &why))?;
    match difference(wanted, &known.topic, &known.configs) {
        None => Ok(known.topic),
        Some(what) => Err(conflict(format!(
            "there is a topic {name} already, and {what}"
        ))),
    }
}

/// In what `known` is not as `wanted`.
fn difference(wanted: &NewTopic, known: &Topic, configs: &[ConfigEntry]) -> Option<String> {
    let partitions = known.partitions.len();
    if wanted
        .partitions
        .is_some_and(|n| usize::try_from(n).ok() != Some(partitions))
    {
        return Some(format!("it has {partitions} partitions"));
    }
    let replicas = known
        .partitions
        .first()
        .map_or(0, |first| first.replicas.len());
    if wanted
        .replication
        .is_some_and(|n| usize::try_from(n).ok() != Some(replicas))
    {
        return Some(format!("its partitions have {replicas} replicas"));
    }
    wanted.configs.iter().find_map(|(name, value)| {
        let known = configs.iter().find(|entry| entry.name == *name);
        let known = known.and_then(|entry| entry.value.as_deref());
        (known != Some(value.as_str()))
            .then(|| format!("its {name} is {}", known.unwrap_or("not set")))
    })
}

fn new_topic(name: &str, body: &PlainBody) -> Result<NewTopic, ApiError> {
    let mut topic = NewTopic::with_broker_defaults(name);
    let Some(body) = body.object(&["partitions", "replication", "configs"])? else {
        return Ok(topic);
    };
    topic.partitions = body.count("partitions")?;
    topic.replication = body.count("replication")?;
    for (name, value) in body.members("configs")?.unwrap_or_default() {
        let text = match serde_json::from_str(value.get()) {
            Ok(serde_json::Value::String(text)) => text,
            Ok(serde_json::Value::Number(_) | serde_json::Value::Bool(_)) => value.get().to_owned(),
            _ => {
                let at = format!("{}/{name}", body.pointer("configs"));
                return Err(wrong(&at, "a string", value));
            }
        };
        topic.configs.push((name, text));
    }
    Ok(topic)
}

/// Delete a topic
///
/// With all of its records: there is no way back. Answers when Kafka has deleted it.
///
/// Needs `delete` on the topic.
#[utoipa::path(
    delete,
    path = "/topics/{topic}",
    operation_id = "deleteTopic",
    tag = "Administration",
    params(("topic" = String, Path, description = "The topic", example = "orders")),
    responses(
        (status = 204, description = "It is deleted"),
        (status = 400, description = "Not a name that a topic can have, or the brokers delete no topics (40002)", body = ErrorBody),
        (status = 403, description = "No permission, here or at the broker, or one of Kafka's own topics (40301)", body = ErrorBody),
        (status = 404, description = "No such topic (40401)", body = ErrorBody),
        KafkaErrors,
    )
)]
pub async fn delete(
    gateway: Gateway,
    Path(name): Path<String>,
    query: Query,
) -> Result<Response, ApiError> {
    query.finish()?;
    let deleted = topics::delete(gateway.cluster(), &name).await;
    deleted.map_err(|error| refused(&gateway, error))?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_may_be_asked_for_without_a_body() {
        let bare = new_topic("t", &PlainBody::of("")).unwrap();
        assert_eq!(bare, NewTopic::with_broker_defaults("t"));
        let body = r#"{"partitions":3,"replication":1,"configs":{"a":"x","b":5,"c":true}}"#;
        let topic = new_topic("t", &PlainBody::of(body)).unwrap();
        let configs = [("a", "x"), ("b", "5"), ("c", "true")];
        let configs = configs.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!((topic.partitions, topic.replication), (Some(3), Some(1)));
        assert_eq!(topic.configs, configs);
    }

    #[test]
    fn what_cannot_be_is_named() {
        for (body, expected) in [
            (r#"{"partitions":0}"#, (422, "/partitions")),
            (r#"{"partitions":"x"}"#, (400, "/partitions")),
            (r#"{"replication":40000}"#, (422, "/replication")),
            (r#"{"configs":[]}"#, (400, "/configs")),
            (r#"{"configs":{"a":{}}}"#, (400, "/configs/a")),
            (r#"{"configs":{"a":1,"a":2}}"#, (422, "/configs/a")),
            (r#"{"partition":1}"#, (422, "/partition")),
        ] {
            let error = new_topic("t", &PlainBody::of(body)).unwrap_err();
            let status = error.status().as_u16();
            let field = error.into_body().field.unwrap_or_default();
            assert_eq!((status, &*field), expected, "{body}");
        }
    }

    #[test]
    fn a_topic_that_is_there_is_held_against_what_is_asked_for() {
        let known = Topic::led("t", 1, 3);
        let configs = [ConfigEntry {
            name: "retention.ms".to_owned(),
            value: Some("1".to_owned()),
            is_default: false,
            is_read_only: false,
            is_sensitive: false,
            source: "DYNAMIC_TOPIC_CONFIG",
            synonyms: Vec::new(),
        }];
        let wanted = |body: &str| new_topic("t", &PlainBody::of(body)).unwrap();
        for (body, expected) in [
            ("", None),
            (
                r#"{"partitions":3,"replication":1,"configs":{"retention.ms":1}}"#,
                None,
            ),
            (r#"{"partitions":4}"#, Some("it has 3 partitions")),
            (
                r#"{"replication":2}"#,
                Some("its partitions have 1 replicas"),
            ),
            (
                r#"{"configs":{"retention.ms":2}}"#,
                Some("its retention.ms is 1"),
            ),
            (r#"{"configs":{"other":2}}"#, Some("its other is not set")),
        ] {
            let found = difference(&wanted(body), &known, &configs);
            assert_eq!(found.as_deref(), expected, "{body}");
        }
    }
}
