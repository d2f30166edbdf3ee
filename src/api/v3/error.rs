//! The errors of this API, and what the OpenAPI document says of them.

use std::collections::BTreeMap;

use axum::http::StatusCode;
use utoipa::openapi::{RefOr, Response};

use super::call::not_found;
use crate::admin::AdminError;
use crate::api::json::JSON;
use crate::api::openapi::error_responses::documented;
use crate::api::rest_proxy_codes::code_of_request;
use crate::http::error::ApiError;
use crate::kafka::fault::{Fault, FaultKind};

/// The error that a request which failed at Kafka gets.
pub(super) fn of_fault(fault: &Fault) -> ApiError {
    let error = ApiError::from_fault(fault);
    let error = match fault.kind {
        FaultKind::UnknownTopic => error.at("topic"),
        FaultKind::UnknownPartition => error.at("partition"),
        FaultKind::NotFound => error.at("group"),
        _ => error,
    };
    match code_of_request(fault) {
        Some((status, code)) => error.coded(status, code),
        None => error,
    }
}

/// The error where the gateway itself refuses.
pub(super) fn of_admin(error: AdminError) -> ApiError {
    let message = error.to_string();
    match error {
        AdminError::Denied(denied) => denied.into(),
        AdminError::Name(fault) => of_fault(&fault).at("topic"),
        AdminError::Reserved | AdminError::ReadOnly(_) => {
            ApiError::new(StatusCode::FORBIDDEN, 40301, message).at("topic")
        }
        AdminError::NoSuchConfig(name) => {
            let name = super::call::shown(&name);
            not_found(&format!("Config {name}"), "name")
        }
        AdminError::NoSuchBroker(id) => not_found(&format!("Broker {id}"), "broker"),
        AdminError::HasMembers { .. } => ApiError::plain(StatusCode::CONFLICT, message).at("group"),
        AdminError::NothingCommitted(_) => ApiError::unprocessable(message).at("/shift"),
        AdminError::OutsideLog { .. } => ApiError::unprocessable(message).at("/offsets"),
        AdminError::NoOpenTransaction(_) => ApiError::plain(StatusCode::NOT_FOUND, message),
        AdminError::TransactionRuns(_) => {
            ApiError::plain(StatusCode::CONFLICT, message).at("/force")
        }
        AdminError::TooManyPartitions { .. } => ApiError::unprocessable(message).at("topic"),
        AdminError::TooManyTransactions { .. } => {
            ApiError::unprocessable(message).at("older_than_ms")
        }
        AdminError::Kafka(fault) => of_fault(&fault),
    }
}

/// The errors of requests without a body.
pub(super) struct Errors;
/// The errors of requests with a body.
pub(super) struct BodyErrors;

const ALL: &[(&str, &str)] = &[
    (
        "400",
        "A parameter cannot be read, or Kafka calls the request invalid (40002)",
    ),
    (
        "401",
        "Kafka does not accept the gateway's credentials (40101)",
    ),
    ("403", "No permission, here or at the broker (40301)"),
    (
        "404",
        "No such cluster, broker, setting (404), topic (40403) or partition (40402)",
    ),
    ("406", "`Accept` rules out JSON"),
    (
        "500",
        "Kafka refused (50002), or did not answer in time (50003): try again",
    ),
    (
        "501",
        "The brokers do not offer it, such as the embedded broker",
    ),
    ("503", "Kafka cannot be reached (50302): try again"),
];

const BODY: &[(&str, &str)] = &[
    ("408", "The body did not arrive in time"),
    ("413", "The body is over the limit"),
    ("415", "The body is not `application/json`"),
    (
        "422",
        "There is no body (42206), or a field is unknown, given twice, missing or has an impossible value",
    ),
];

impl utoipa::IntoResponses for Errors {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        documented(&[JSON], ALL)
    }
}

impl utoipa::IntoResponses for BodyErrors {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        documented(&[JSON], ALL.iter().chain(BODY))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(error: AdminError) -> (u16, u32) {
        let error = of_admin(error);
        (error.status().as_u16(), error.into_body().error_code)
    }

    #[test]
    fn what_the_gateway_refuses_has_the_codes_of_confluent_rest_proxy() {
        let no_config = AdminError::NoSuchConfig("x".to_owned());
        assert_eq!(of(no_config), (404, 404));
        assert_eq!(of(AdminError::NoSuchBroker(7)), (404, 404));
        assert_eq!(of(AdminError::Reserved), (403, 40301));
        let unknown = AdminError::Kafka(Fault::unknown_topic("t"));
        assert_eq!(of(unknown), (404, 40403));
        let exists = AdminError::Kafka(Fault::new(FaultKind::Exists, "there is one"));
        assert_eq!(of(exists), (400, 40002));
    }
}
