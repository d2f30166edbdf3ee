//! `/consumers/{group}`: consumer instances of Confluent REST Proxy's API. A client makes one, has it subscribe
//! to topics or takes partitions by hand, reads, and commits; the instance lives in this process until it
//! is deleted or idle.
//!
//! - `create.rs`: making and deleting; `subscription.rs`, `assignments.rs`, `records.rs`, `offsets.rs`,
//!   `positions.rs`: one resource each
//! - `call.rs`: who calls which instance, the type of the answer and the body; `requests.rs`: what bodies say
//! - `errors.rs`: which error is which status and code
//!
//! What an instance does is in `consumer/`.

pub mod assignments;
mod call;
pub mod create;
mod errors;
pub mod offsets;
pub mod positions;
pub mod records;
mod requests;
pub mod subscription;

use axum::http::{HeaderMap, HeaderName};
use serde::Serialize;

pub(super) use self::call::ConsumerBody;
use self::call::{InstanceAnswer, InstanceCall, Name};
pub(super) use self::errors::not_of_format;
use crate::consumer::Has;
pub(super) use crate::consumer::{Unfit, fits};
use crate::http::error::ApiError;
use crate::record::TopicPartition;

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
