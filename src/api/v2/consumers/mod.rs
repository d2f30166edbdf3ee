//! `/consumers/{group}`: consumer instances of the reference's API. A client makes one, has it subscribe
//! to topics or takes partitions by hand, reads, and commits; the instance lives in this process until it
//! is deleted or idle.
//!
//! - `create.rs`: making and deleting; `subscription.rs`, `assignments.rs`, `records.rs`, `offsets.rs`,
//!   `positions.rs`: one resource each
//! - `requests.rs`: the bodies, read
//! - `errors.rs`: which error is which status and code
//!
//! What an instance does is in `consumer/`.

pub mod assignments;
pub mod create;
mod errors;
pub mod offsets;
pub mod positions;
pub mod records;
pub(super) mod requests;
pub mod subscription;

use std::collections::HashSet;
use std::sync::Arc;

use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use self::errors::lookup_error;
pub(super) use self::errors::not_of_format;
use self::errors::of_kafka;
use super::media;
use crate::auth::Principal;
use crate::auth::permission::{Action, Resource, authorize, may_create};
use crate::consumer::{Handle, Has};
pub(super) use crate::consumer::{Unfit, fits};
use crate::gateway::Gateway;
use crate::http::error::ApiError;
use crate::read::partitions::visibility;
use crate::record::TopicPartition;

/// The instance that a path names.
#[derive(Debug, Clone, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Path)]
pub struct Name {
    /// The consumer group
    #[param(example = "web")]
    group: String,
    /// The instance
    #[param(example = "one")]
    instance: String,
}

/// A partition of a topic
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct ConsumerPartition {
    /// The topic.
    #[schema(example = "orders")]
    topic: String,
    /// The partition.
    #[schema(minimum = 0)]
    partition: i32,
}

/// Partitions of topics
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct ConsumerPartitions {
    /// Each once.
    partitions: Vec<ConsumerPartition>,
}

impl From<TopicPartition> for ConsumerPartition {
    fn from(partition: TopicPartition) -> Self {
        Self {
            topic: partition.topic.to_string(),
            partition: partition.partition,
        }
    }
}

/// The instance, if it is here and the principal's.
fn found(gateway: &Gateway, name: &Name, principal: &Principal) -> Result<Handle, ApiError> {
    gateway
        .instances()
        .find(&name.group, &name.instance, principal)
        .map_err(|why| lookup_error(why, name))
}

/// What a request with a body is: the type of its answer, and the body.
pub(super) async fn read(
    gateway: &Gateway,
    request: Request,
) -> Result<(&'static str, Bytes), ApiError> {
    media::of_consumer_request(request.headers())?;
    let kind = media::of_consumer_answer(request.headers())?;
    let (parts, body) = request.into_parts();
    let body = gateway.body(&parts, body);
    let body = body.await.map_err(|error| error.typed(kind))?;
    Ok((kind, body))
}

/// The answer to a request that has none.
fn done(kind: &'static str, result: Result<(), ApiError>) -> Result<Response, ApiError> {
    match result {
        Ok(()) => Ok(StatusCode::NO_CONTENT.into_response()),
        Err(error) => Err(error.typed(kind)),
    }
}

/// Names an answer with records; in a request, the last that the client has.
const DELIVERY: HeaderName = HeaderName::from_static("tidegate-delivery");
/// Before the first.
const NONE: &str = "none";
/// Longest name of an answer that is looked at.
const MAX_DELIVERY: usize = 64;

/// Which answer the client says that it has, if it says so.
fn has(headers: &HeaderMap) -> Result<Option<Has>, ApiError> {
    let mut named = headers.get_all(DELIVERY).iter();
    let Some(name) = named.next() else {
        return Ok(None);
    };
    let name = name.to_str().ok().map(str::trim);
    match name.filter(|name| (1..=MAX_DELIVERY).contains(&name.len())) {
        Some(name) if named.next().is_none() => Ok(Some(if name == NONE {
            Has::Nothing
        } else {
            Has::Delivery(name.to_owned())
        })),
        _ => Err(ApiError::bad_request(
            "Tidegate-Delivery: expected once, the name of an answer, or none",
        )
        .at("Tidegate-Delivery")),
    }
}

/// The type of an answer without records.
fn kind(headers: &HeaderMap) -> Result<&'static str, ApiError> {
    media::of_consumer_answer(headers)
}

/// Whether the principal may consume what the instance subscribes to and has: for a request that names no
/// topic of its own. Rights may have gone since the instance was given these.
async fn permit(handle: &Handle, principal: &Principal, name: &Name) -> Result<(), ApiError> {
    let permitted = handle.permit(principal.clone()).await;
    permitted.map_err(|refused| errors::of_instance(refused, name))
}

/// Whether the principal may consume these topics, and is shown any of them.
fn may_consume<'a>(
    principal: &Principal,
    topics: impl Iterator<Item = &'a str>,
) -> Result<(), ApiError> {
    let asked: HashSet<&str> = topics.collect();
    for topic in &asked {
        authorize(principal, Action::Consume, Resource::Topic(topic))?;
    }
    let asked: Vec<Arc<str>> = asked.into_iter().map(Arc::from).collect();
    visibility(principal, &asked)?;
    Ok(())
}

/// Whether the principal may consume these partitions' topics, and there are such. `list` is the field
/// that they stand in.
async fn known(
    gateway: &Gateway,
    principal: &Principal,
    list: &str,
    partitions: impl Iterator<Item = &TopicPartition> + Clone,
) -> Result<(), ApiError> {
    may_consume(principal, partitions.clone().map(|p| &*p.topic))?;
    let metadata = &gateway.cluster().metadata;
    for (index, partition) in partitions.enumerate() {
        let may_create = may_create(principal, &partition.topic);
        let topic = metadata.topic_to_use(&partition.topic, may_create).await;
        let topic = topic.map_err(|fault| of_kafka(&fault).at(format!("/{list}/{index}/topic")))?;
        topic
            .partition(partition.partition)
            .map_err(|fault| of_kafka(&fault).at(format!("/{list}/{index}/partition")))?;
    }
    Ok(())
}
