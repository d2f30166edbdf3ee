//! The errors of this API, and what the OpenAPI document says of them.

use std::collections::BTreeMap;

use axum::http::StatusCode;
use utoipa::openapi::{RefOr, Response};

use crate::admin::AdminError;
use crate::api::json::JSON;
use crate::api::openapi::error_responses::documented;
use crate::gateway::Gateway;
use crate::http::error::ApiError;
use crate::kafka::fault::{Fault, FaultKind};

/// What Kafka said, as an error that names the parameter of the path.
pub(super) fn fault(gateway: &Gateway, fault: &Fault) -> ApiError {
    let error = ApiError::from_fault(fault);
    match fault.kind {
        FaultKind::UnknownTopic | FaultKind::Invalid | FaultKind::Exists => error.at("topic"),
        FaultKind::UnknownPartition => error.at("partition"),
        FaultKind::NotFound => error.at("group"),
        FaultKind::Unsupported if gateway.cluster().is_embedded() => {
            error.saying("not supported by the embedded broker".to_owned())
        }
        _ => error,
    }
}

/// Why something was not shown or changed.
pub(super) fn refused(gateway: &Gateway, error: AdminError) -> ApiError {
    let message = error.to_string();
    match error {
        AdminError::Denied(denied) => denied.into(),
        AdminError::Name(why) => fault(gateway, &why),
        AdminError::Reserved | AdminError::ReadOnly(_) => {
            ApiError::new(StatusCode::FORBIDDEN, 40301, message).at("topic")
        }
        AdminError::NoSuchConfig(_) => ApiError::unprocessable(message).at("/configs"),
        AdminError::NoSuchBroker(_) | AdminError::NoOpenTransaction(_) => {
            ApiError::plain(StatusCode::NOT_FOUND, message)
        }
        AdminError::TransactionRuns(_) => ApiError::plain(StatusCode::CONFLICT, message),
        AdminError::TooManyPartitions { .. } | AdminError::TooManyTransactions { .. } => {
            ApiError::unprocessable(message)
        }
        AdminError::HasMembers { .. } => ApiError::plain(StatusCode::CONFLICT, message).at("group"),
        AdminError::NothingCommitted(_) => ApiError::unprocessable(message).at("/shift"),
        AdminError::OutsideLog { .. } => ApiError::unprocessable(message).at("/offsets"),
        AdminError::Kafka(why) => fault(gateway, &why),
    }
}

/// The errors of requests that Kafka does not serve.
pub(super) struct KafkaErrors;
/// The errors of requests whose body is not read.
pub(super) struct BodyErrors;

impl utoipa::IntoResponses for KafkaErrors {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        documented(
            &[JSON],
            &[
                ("500", "Kafka refused; the message says why"),
                ("503", "Kafka cannot be reached: try again"),
                ("504", "Kafka did not answer in time: try again"),
            ],
        )
    }
}

impl utoipa::IntoResponses for BodyErrors {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        documented(
            &[JSON],
            &[
                ("406", "`Accept` rules out JSON"),
                ("408", "The body did not arrive in time"),
                ("413", "The body is over the limit"),
                ("415", "The body is not `application/json`"),
            ],
        )
    }
}
