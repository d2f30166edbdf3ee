//! What the OpenAPI document says about the errors of this API, and the error of records that were refused.

use std::collections::BTreeMap;

use axum::http::StatusCode;
use utoipa::openapi::{RefOr, Response};

use super::media::{PLAIN, V2};
use crate::api::openapi::error_responses;
pub use crate::api::rest_proxy_codes::{of_record, of_request, status_of_record};
use crate::http::error::ApiError;
use crate::write::WriteError;

/// The error of a request to write of which nothing was written.
pub(super) fn of_rejected(rejected: WriteError) -> ApiError {
    let is_invalid = matches!(rejected, WriteError::Invalid(_));
    let error = ApiError::from_rejected(rejected, |at| format!("/records/{at}"));
    if !is_invalid {
        return error;
    }
    // As a key or value that is not of its format.
    let message = format!("Bad Request: {}", error.message());
    error.coded(StatusCode::BAD_REQUEST, 400).saying(message)
}

/// The errors of requests that read lists.
pub(super) struct ListErrors;
/// The errors of requests about one topic.
pub(super) struct TopicErrors;
/// The errors of requests that read a partition.
pub(super) struct PartitionErrors;
/// The errors of requests that make a topic.
pub(super) struct CreateTopicErrors;
/// The errors of requests that write records.
pub(super) struct ProduceErrors;
/// The errors of requests that write records to the partition in their path.
pub(super) struct ProduceToPartitionErrors;

const LISTS: &[(&str, &str)] = &[
    (
        "401",
        "Kafka does not accept the gateway's credentials (40101)",
    ),
    ("403", "No permission at the broker (40301)"),
    ("406", "`Accept` rules out both types of answer"),
    (
        "500",
        "Kafka refused (50002), or did not answer in time (50003): try again",
    ),
    ("503", "Kafka cannot be reached (50302): try again"),
];

const TOPICS: &[(&str, &str)] = &[
    ("400", "Not a name that a topic can have (40002)"),
    ("403", "No permission, here or at the broker (40301)"),
    ("404", "No such topic (40403) or partition (40402)"),
];

const PRODUCE: &[(&str, &str)] = &[
    (
        "400",
        "The body is not JSON or not of this shape, or a key or value is not of its format or not valid by the topic's schema (`records` tells which); nothing was written",
    ),
    (
        "401",
        "Kafka does not accept the gateway's credentials; the body has an entry for each record",
    ),
    (
        "403",
        "No permission, here or at the broker, or one of Kafka's own topics; but for a permission that is missing here, the body has an entry for each record",
    ),
    ("406", "`Accept` rules out both types of answer"),
    ("408", "The body did not arrive in time"),
    ("413", "The body or the number of records is over the limit"),
    (
        "415",
        "Not a content type that is read here; the answer lists them",
    ),
    (
        "422",
        "A field is unknown or given twice, or there are no records; or the format needs a schema registry (42206, 42207)",
    ),
    ("500", "The gateway failed; its log says why"),
    ("507", "The embedded broker is full"),
];

pub(super) fn documented<'a>(
    rows: impl IntoIterator<Item = &'a (&'a str, &'a str)>,
) -> BTreeMap<String, RefOr<Response>> {
    error_responses::documented(&[V2, PLAIN], rows)
}

impl utoipa::IntoResponses for ListErrors {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        documented(LISTS)
    }
}

impl utoipa::IntoResponses for TopicErrors {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        documented(LISTS.iter().chain(TOPICS))
    }
}

impl utoipa::IntoResponses for PartitionErrors {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        let own = [
            (
                "400",
                "A parameter is missing or cannot be read, or there is none such; or not a name that a topic can have (40002)",
            ),
            (
                "404",
                "No such topic (40403) or partition (40402); or the partition ends before the offset",
            ),
        ];
        documented(LISTS.iter().chain(TOPICS).chain(&own))
    }
}

impl utoipa::IntoResponses for CreateTopicErrors {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        let own = [
            (
                "400",
                "The body is not JSON, or a field is not of its type; or Kafka cannot make such a topic (40002)",
            ),
            ("403", "No permission, here or at the broker (40301)"),
            ("408", "The body did not arrive in time"),
            ("413", "The body is over the limit"),
            (
                "415",
                "Not a content type that is read here; the answer lists them",
            ),
            (
                "422",
                "A field is unknown, given twice, missing or out of range, or the name is Kafka's own",
            ),
        ];
        documented(LISTS.iter().chain(&own))
    }
}

impl utoipa::IntoResponses for ProduceErrors {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        documented(PRODUCE)
    }
}

impl utoipa::IntoResponses for ProduceToPartitionErrors {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        documented(
            PRODUCE
                .iter()
                .chain(&[("404", "The partition is not a number")]),
        )
    }
}
