//! The error codes of this API, where they differ from the table that all APIs share, and what
//! the OpenAPI document says about its errors.

use std::collections::BTreeMap;

use axum::http::StatusCode;
use utoipa::openapi::{Content, Ref, RefOr, Response, ResponseBuilder};

use super::media::{PLAIN, V2};
use crate::http::error::ApiError;
use crate::kafka::fault::{Fault, FaultKind};

/// Kafka refused, and would again.
const REFUSED: u32 = 50002;
/// Kafka could not, and may the next time.
const RETRIABLE: u32 = 50003;
/// The gateway's credentials are not accepted.
const UNAUTHENTICATED: u32 = 40101;
/// The gateway's Kafka user lacks a right.
const NOT_AUTHORIZED: u32 = 40301;

/// The error that a request which failed at Kafka gets.
pub fn of_request(fault: &Fault) -> ApiError {
    let error = ApiError::from_fault(fault);
    let error = match fault.kind {
        FaultKind::UnknownTopic | FaultKind::Invalid => error.at("topic"),
        FaultKind::UnknownPartition => error.at("partition"),
        _ => error,
    };
    match code_of_request(fault) {
        Some((status, code)) => error.coded(status, code),
        None => error,
    }
}

/// Status and code, where the shared table has others.
fn code_of_request(fault: &Fault) -> Option<(StatusCode, u32)> {
    Some(match fault.kind {
        FaultKind::UnknownTopic => (StatusCode::NOT_FOUND, 40403),
        FaultKind::Unauthenticated => (StatusCode::UNAUTHORIZED, UNAUTHENTICATED),
        FaultKind::Exists => (StatusCode::BAD_REQUEST, 40002),
        // What has a code of its own keeps it: a broker that cannot be reached.
        FaultKind::Unavailable if is_unreachable(fault) => return None,
        FaultKind::Unavailable | FaultKind::TimedOut | FaultKind::QueueFull => {
            (StatusCode::INTERNAL_SERVER_ERROR, RETRIABLE)
        }
        FaultKind::Other if fault.retriable => (StatusCode::INTERNAL_SERVER_ERROR, RETRIABLE),
        _ => return None,
    })
}

fn is_unreachable(fault: &Fault) -> bool {
    matches!(fault.kafka_error, None | Some("BROKER_NOT_AVAILABLE"))
}

/// The code in the entry of a record that was not written. A topic or partition that does not
/// exist counts as retriable, as it does for Kafka's own clients.
pub fn of_record(fault: &Fault) -> u32 {
    match fault.kind {
        FaultKind::NotAuthorized => NOT_AUTHORIZED,
        FaultKind::Unauthenticated => UNAUTHENTICATED,
        FaultKind::UnknownTopic | FaultKind::UnknownPartition => RETRIABLE,
        _ if fault.retriable => RETRIABLE,
        _ => REFUSED,
    }
}

/// The status of an answer with an entry of this code, where it is not 200.
pub fn status_of_record(code: u32) -> Option<StatusCode> {
    match code {
        UNAUTHENTICATED => Some(StatusCode::UNAUTHORIZED),
        NOT_AUTHORIZED => Some(StatusCode::FORBIDDEN),
        _ => None,
    }
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
        "The body is not JSON or not of this shape, or a key or value is not of its format; nothing was written",
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
    let body = || Content::new(Some(Ref::from_schema_name("Error")));
    rows.into_iter()
        .map(|(status, description)| {
            let response = ResponseBuilder::new()
                .description(*description)
                .content(V2, body())
                .content(PLAIN, body())
                .build();
            ((*status).to_owned(), RefOr::T(response))
        })
        .collect()
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

#[cfg(test)]
mod tests {
    use super::*;

    fn code(fault: &Fault) -> (u16, u32) {
        let error = of_request(fault);
        (error.status().as_u16(), error.into_body().error_code)
    }

    #[test]
    fn requests_get_the_error_codes_of_confluent_rest_proxy() {
        // LEADER_NOT_AVAILABLE, TOPIC_AUTHORIZATION_FAILED, SASL_AUTHENTICATION_FAILED,
        // INVALID_TOPIC_EXCEPTION, THROTTLING_QUOTA_EXCEEDED, BROKER_NOT_AVAILABLE, unknown
        for (protocol, expected) in [
            (5, (500, 50003)),
            (7, (500, 50003)),
            (29, (403, 40301)),
            (58, (401, 40101)),
            (17, (400, 40002)),
            (36, (400, 40002)),
            (89, (429, 42901)),
            (8, (503, 50302)),
            (-1, (500, 50002)),
        ] {
            let fault = Fault::from_protocol_code(protocol, None);
            assert_eq!(code(&fault), expected, "{protocol}");
        }
        assert_eq!(code(&Fault::unknown_topic("t")), (404, 40403));
        assert_eq!(code(&Fault::unknown_partition("t", 7, 3)), (404, 40402));
        let unreachable = Fault::new(FaultKind::Unavailable, "no connection");
        assert_eq!(code(&unreachable), (503, 50302));
        assert_eq!(
            code(&Fault::new(FaultKind::TimedOut, "no answer")),
            (500, 50003)
        );
    }

    #[test]
    fn records_are_refused_or_worth_another_try() {
        for (protocol, expected) in [
            (10, 50002),
            (19, 50003),
            (29, 40301),
            (58, 40101),
            (44, 50002),
        ] {
            let fault = Fault::from_protocol_code(protocol, None);
            assert_eq!(of_record(&fault), expected, "{protocol}");
        }
        assert_eq!(of_record(&Fault::unknown_topic("t")), 50003);
        assert_eq!(of_record(&Fault::unknown_partition("t", 7, 3)), 50003);
        assert_eq!(of_record(&Fault::new(FaultKind::QueueFull, "full")), 50003);
    }
}
