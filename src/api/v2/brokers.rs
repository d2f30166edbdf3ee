//! `GET /brokers`.

use axum::response::Response;
use serde::Serialize;

use super::answer::AnswerType;
use super::error;
use crate::gateway::Gateway;
use crate::http::error::ApiError;

/// The ids of the cluster's brokers
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = BrokerIds)]
pub struct BrokerList {
    /// Their ids, in order.
    #[schema(example = json!([1, 2, 3]))]
    brokers: Vec<i32>,
}

/// List the brokers
///
/// Needs no permission: any caller may ask.
#[utoipa::path(
    get,
    path = "/brokers",
    operation_id = "listBrokersV2",
    tag = "Compatible REST v2",
    responses(
        (status = 200, description = "Their ids", content(
            (BrokerList = "application/vnd.kafka.v2+json", example = json!({"brokers": [1, 2, 3]})),
            (BrokerList = "application/json"),
        )),
        error::ListErrors,
    )
)]
pub async fn list(gateway: Gateway, answer: AnswerType) -> Result<Response, ApiError> {
    let cluster = gateway.cluster().metadata.cluster().await;
    let list = cluster
        .map(|cluster| BrokerList {
            brokers: cluster.brokers.iter().map(|broker| broker.id).collect(),
        })
        .map_err(|fault| error::of_request(&fault));
    answer.json(list)
}
