//! `…/subscription`: the topics of an instance.

use axum::response::Response;
use serde::Serialize;

use super::errors::{InstanceBodyErrors, InstanceErrors};
use super::{ConsumerBody, InstanceAnswer, InstanceCall, Name};
use crate::consumer::TopicSelection;
use crate::http::error::ApiError;
use crate::http::json_object::{Object, coded, needed};
use crate::topic_pattern::Pattern;

/// What to subscribe to
#[derive(Debug, utoipa::ToSchema)]
#[expect(dead_code, reason = "the shape is read by hand; this describes it")]
pub struct SubscriptionRequest {
    /// Topics; they may still have to be created. An empty list ends the subscription.
    #[schema(example = json!(["orders"]))]
    topics: Option<Vec<String>>,
    /// Or a regular expression that whole names must match; `topics` goes before it.
    topic_pattern: Option<String>,
}

/// What is subscribed to
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Subscription {
    /// The topics: those that were named, or those that the pattern finds now.
    #[schema(example = json!(["orders"]))]
    topics: Vec<String>,
}

/// Subscribe
///
/// In the place of the topics before. The instance joins the group at once.
///
/// Needs `group` on the group, and `consume` on each topic; a pattern finds those that may be consumed.
#[utoipa::path(
    post,
    path = "/consumers/{group}/instances/{instance}/subscription",
    operation_id = "subscribeConsumerV2",
    tag = "Compatible REST v2",
    params(Name),
    request_body(content(
        (SubscriptionRequest = "application/vnd.kafka.v2+json", example = json!({"topics": ["orders"]})),
        (SubscriptionRequest = "application/json"),
    )),
    responses((status = 204, description = "It subscribes to them"), InstanceBodyErrors)
)]
pub async fn post(call: InstanceCall, body: ConsumerBody) -> Result<Response, ApiError> {
    let subscribed = async {
        let handle = call.instance()?;
        let Some(selection) = selection(&body.bytes)? else {
            return Ok(());
        };
        if let TopicSelection::Names(names) = &selection {
            call.authorize_topics(names.iter().map(|name| &**name))?;
        }
        let subscribing = handle.subscribe(selection, call.principal.clone());
        call.ask(subscribing).await
    };
    body.answer.no_content(subscribed.await)
}

/// Show the subscription
///
/// Needs `group` on the group, and `consume` on the topics.
#[utoipa::path(
    get,
    path = "/consumers/{group}/instances/{instance}/subscription",
    operation_id = "getConsumerSubscriptionV2",
    tag = "Compatible REST v2",
    params(Name),
    responses(
        (status = 200, description = "The topics; none of an instance that has not subscribed", content(
            (Subscription = "application/vnd.kafka.v2+json", example = json!({"topics": ["orders"]})),
            (Subscription = "application/json"),
        )),
        InstanceErrors,
    )
)]
pub async fn get(
    call: InstanceCall,
    InstanceAnswer(answer): InstanceAnswer,
) -> Result<Response, ApiError> {
    let shown = async {
        let handle = call.instance()?;
        call.authorize_instance(&handle).await?;
        let topics = call.ask(handle.subscription()).await?;
        Ok(Subscription {
            topics: topics.iter().map(ToString::to_string).collect(),
        })
    };
    answer.json(shown.await)
}

/// End the subscription
///
/// Partitions that were assigned by hand are let go of, too. Commits what was delivered, if the instance
/// commits by itself, and leaves the group.
///
/// Needs `group` on the group.
#[utoipa::path(
    delete,
    path = "/consumers/{group}/instances/{instance}/subscription",
    operation_id = "unsubscribeConsumerV2",
    tag = "Compatible REST v2",
    params(Name),
    responses((status = 204, description = "It has neither topics nor partitions"), InstanceErrors)
)]
pub async fn delete(
    call: InstanceCall,
    InstanceAnswer(answer): InstanceAnswer,
) -> Result<Response, ApiError> {
    let ended = async {
        let handle = call.instance()?;
        call.ask(handle.unsubscribe()).await
    };
    answer.no_content(ended.await)
}

/// What the body asks for; `None` where it asks for nothing, as Confluent REST Proxy allows.
fn selection(body: &[u8]) -> Result<Option<TopicSelection>, ApiError> {
    let Some(body) = Object::body(body, &["topics", "topic_pattern"])? else {
        return Err(needed(
            "/topics",
            "{\"topics\": [\"…\"]} or {\"topic_pattern\": \"…\"}",
        ));
    };
    let (topics, pattern) = (body.topics("topics")?, body.text("topic_pattern")?);
    if let Some(topics) = topics {
        return Ok(Some(TopicSelection::Names(topics)));
    }
    let Some(pattern) = pattern else {
        return Ok(None);
    };
    let pattern =
        Pattern::new(&pattern).map_err(|why| coded(422, body.pointer("topic_pattern"), why))?;
    Ok(Some(TopicSelection::Pattern(pattern)))
}
