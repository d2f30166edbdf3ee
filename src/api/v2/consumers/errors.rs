//! The errors of consumer instances, and what the OpenAPI document says about them.

use std::collections::BTreeMap;

use axum::http::StatusCode;
use utoipa::openapi::{RefOr, Response};

use super::Name;
use crate::api::v2::error::{documented, of_request};
use crate::api::v2::media::Embedded;
use crate::consumer::registry::{CreateError, LookupError};
use crate::consumer::{InstanceError, Unfit};
use crate::http::error::{ApiError, PartitionError};
use crate::kafka::fault::{Fault, FaultKind};
use crate::record::TopicPartition;

/// The instance is not here.
const UNKNOWN_INSTANCE: u32 = 40403;
/// A record is not of the instance's format.
const NOT_OF_FORMAT: u32 = 40801;
/// There is an instance of this name.
const EXISTS: u32 = 40902;
/// The instance is in no state for it.
const ILLEGAL_STATE: u32 = 40903;
/// Kafka refused, and would again.
const REFUSED: u32 = 50002;
/// Kafka, or the part of it that is needed, cannot be reached.
const UNREACHABLE: u32 = 50302;
/// Most partitions that the message of an error names.
const NAMED: usize = 5;
/// Seconds after which one who found no place may try again.
const RETRY_AFTER: u64 = 5;

/// What an instance refused.
pub(super) fn of_instance(refused: InstanceError, name: &Name) -> ApiError {
    match refused {
        InstanceError::IllegalState(message) => ApiError::new(
            StatusCode::CONFLICT,
            ILLEGAL_STATE,
            format!("Illegal state: {message}"),
        ),
        InstanceError::Denied(denied) => denied.into(),
        InstanceError::NotVisible(not_visible) => not_visible.into(),
        InstanceError::Expired => {
            ApiError::unauthenticated(Some("invalid_token"), refused.to_string())
        }
        InstanceError::Kafka(fault, field) => {
            let error = of_kafka(&fault);
            match field {
                Some(field) => error.at(field),
                None => error,
            }
        }
        InstanceError::NotCommitted(failed) => not_committed(&failed),
        InstanceError::NotLetIn(fault) => {
            of_kafka(&fault).coded(StatusCode::SERVICE_UNAVAILABLE, UNREACHABLE)
        }
        InstanceError::Unfit(unfit, format) => not_of_format(&unfit, format),
        InstanceError::Busy(message) => {
            ApiError::plain(StatusCode::SERVICE_UNAVAILABLE, message).retry()
        }
        InstanceError::Gone => lookup_error(LookupError::Unknown, name),
    }
}

/// What Kafka refused.
pub(super) fn of_kafka(fault: &Fault) -> ApiError {
    match fault.kind {
        // There is nothing to begin at; or the group has moved on without the instance.
        FaultKind::OffsetOutOfRange | FaultKind::NotFound => {
            ApiError::from_fault(fault).coded(StatusCode::INTERNAL_SERVER_ERROR, REFUSED)
        }
        _ => of_request(fault),
    }
}

/// What could not be committed, partition by partition; the status and the code are those of the first.
fn not_committed(failed: &[(TopicPartition, Fault)]) -> ApiError {
    let Some((_, first)) = failed.first() else {
        return ApiError::internal("a commit failed without a partition that it failed for");
    };
    let mut named: Vec<String> = failed
        .iter()
        .take(NAMED)
        .map(|(partition, fault)| {
            let TopicPartition { topic, partition } = partition;
            format!("{topic}:{partition} ({})", fault.message)
        })
        .collect();
    if failed.len() > NAMED {
        named.push(format!("and {} more", failed.len() - NAMED));
    }
    let partitions = failed.iter().map(|(partition, fault)| PartitionError {
        topic: partition.topic.to_string(),
        partition: partition.partition,
        message: fault.message.clone(),
        kafka_error: fault.kafka_error,
    });
    of_kafka(first)
        .saying(format!("Not committed: {}", named.join(", ")))
        .of_partitions(partitions.collect())
}

/// A record cannot be shown in this format.
pub(in crate::api::v2) fn not_of_format(unfit: &Unfit, format: Embedded) -> ApiError {
    let wanted = match format {
        Embedded::Text => "text in UTF-8",
        _ => "JSON",
    };
    let Unfit {
        partition,
        offset,
        what,
        is_text,
    } = unfit;
    let others = match is_text {
        true => "text or binary",
        false => "binary",
    };
    ApiError::new(
        StatusCode::REQUEST_TIMEOUT,
        NOT_OF_FORMAT,
        format!(
            "the {what} of offset {offset} in partition {} of topic {} is not {wanted}; read it with an \
             instance of format {others}, or go on after it by posting offset {} to positions",
            partition.partition,
            partition.topic,
            offset + 1
        ),
    )
}

/// There is no such instance to be had.
pub(super) fn lookup_error(why: LookupError, name: &Name) -> ApiError {
    let Name { group, instance } = name;
    match why {
        LookupError::Unknown => ApiError::new(
            StatusCode::NOT_FOUND,
            UNKNOWN_INSTANCE,
            format!(
                "Consumer instance not found: this process has no instance {} in group {}. It was \
                 deleted or was idle for longer than rest.consumer_instance_timeout_ms, or the \
                 request reached another process than the one that made it: use the base_uri that \
                 it was made with, or route by it (docs/compatibility.md)",
                short(instance),
                short(group)
            ),
        ),
        LookupError::Foreign => ApiError::new(
            StatusCode::FORBIDDEN,
            40301,
            format!(
                "the instance {} in group {} was made by another principal",
                short(instance),
                short(group)
            ),
        ),
    }
    .at("instance")
}

/// The instance was not made.
pub(super) fn create_error(why: CreateError) -> ApiError {
    let message = why.to_string();
    match why {
        CreateError::Exists => ApiError::new(StatusCode::CONFLICT, EXISTS, message).at("/name"),
        CreateError::OfPrincipal => {
            ApiError::plain(StatusCode::TOO_MANY_REQUESTS, message).retry_after(RETRY_AFTER)
        }
        CreateError::Full | CreateError::Draining => {
            ApiError::plain(StatusCode::SERVICE_UNAVAILABLE, message).retry_after(RETRY_AFTER)
        }
    }
}

fn short(name: &str) -> String {
    name.chars().take(80).collect()
}

const ALL: &[(&str, &str)] = &[
    (
        "401",
        "Kafka does not accept the gateway's credentials (40101)",
    ),
    (
        "403",
        "No permission, here or at the broker, or the instance is another principal's (40301)",
    ),
    ("406", "`Accept` rules out the types that are offered"),
    (
        "500",
        "Kafka refused (50002), also a commit after a rebalance; or did not answer in time (50003): try again",
    ),
    (
        "503",
        "Kafka cannot be reached (50302), the instance has too much to do, or the gateway is about to stop: try again",
    ),
];
const INSTANCE: (&str, &str) = (
    "404",
    "This process has no such instance (40403), or Kafka has no such topic (40403) or partition (40402)",
);
const BODY: &[(&str, &str)] = &[
    (
        "400",
        "The body is not JSON, or a field is not of its type; or not a name that a topic can have (40002)",
    ),
    ("408", "The body did not arrive in time"),
    ("413", "The body is over the limit"),
    (
        "415",
        "Not a content type that is read here; the answer lists them",
    ),
    (
        "422",
        "A field is unknown, given twice, missing or out of range",
    ),
];

/// The errors of making an instance.
pub(super) struct CreateErrors;
/// The errors of requests without a body.
pub(super) struct InstanceErrors;
/// The errors of requests with a body.
pub(super) struct InstanceBodyErrors;
/// The errors of reads.
pub(super) struct ReadErrors;

impl utoipa::IntoResponses for CreateErrors {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        let own = [
            ("409", "The group has an instance of this name (40902)"),
            (
                "422",
                "A field is unknown, given twice or has an impossible value (422, 40001, 42204), or the format needs a schema registry (42207)",
            ),
        ];
        documented(ALL.iter().chain(BODY).chain(&own))
    }
}

impl utoipa::IntoResponses for InstanceErrors {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        documented(ALL.iter().chain([&INSTANCE]))
    }
}

impl utoipa::IntoResponses for InstanceBodyErrors {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        let own = [(
            "409",
            "The instance is in no state for it (40903): topics and partitions at once, a partition that it does not have, a commit for a group with members",
        )];
        documented(ALL.iter().chain([&INSTANCE]).chain(BODY).chain(&own))
    }
}

impl utoipa::IntoResponses for ReadErrors {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        let own = [
            ("400", "A parameter is not a number, or there is none such"),
            (
                "406",
                "`Accept` names another format than the instance's (40601), or none that is offered",
            ),
            (
                "408",
                "A record is not of the instance's format (40801); the message says how to go on",
            ),
            (
                "409",
                "The instance has neither topics nor partitions (40903)",
            ),
        ];
        documented(ALL.iter().chain([&INSTANCE]).chain(&own))
    }
}
