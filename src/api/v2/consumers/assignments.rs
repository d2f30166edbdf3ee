//! `…/assignments`: partitions that an instance takes by hand, or has by its group.

use axum::Extension;
use axum::extract::Request;
use axum::http::HeaderMap;
use axum::response::Response;

use super::errors::{self, OfAsking, OfTelling};
use super::{ConsumerPartitions, Name, done, found, kind, known, permit, read, requests};
use crate::api::v2::answer;
use crate::auth::Principal;
use crate::gateway::Gateway;
use crate::http::error::ApiError;
use crate::http::extract::Path;

/// Assign partitions
///
/// In the place of those before, and without the group's members knowing. Reading goes on at what the
/// group has committed. Such an instance can commit only while the group has no members.
///
/// Needs `group` on the group, and `consume` on the topics.
#[utoipa::path(
    post,
    path = "/consumers/{group}/instances/{instance}/assignments",
    operation_id = "assignConsumerV2",
    tag = "Compatible REST v2",
    params(Name),
    request_body(content(
        (ConsumerPartitions = "application/vnd.kafka.v2+json", example = json!({"partitions": [{"topic": "orders", "partition": 0}]})),
        (ConsumerPartitions = "application/json"),
    )),
    responses((status = 204, description = "It reads them"), OfTelling)
)]
pub async fn post(
    gateway: Gateway,
    Path(name): Path<Name>,
    Extension(principal): Extension<Principal>,
    request: Request,
) -> Result<Response, ApiError> {
    let (kind, body) = read(&gateway, request).await?;
    let assigned = async {
        let handle = found(&gateway, &name, &principal)?;
        let partitions = requests::partitions(&body)?.ok_or_else(requests::no_partitions)?;
        known(&gateway, &principal, "partitions", partitions.iter()).await?;
        let assigned = handle.assign(partitions).await;
        assigned.map_err(|refused| errors::of_instance(refused, &name))
    };
    done(kind, assigned.await)
}

/// Show the partitions
///
/// Those that were assigned by hand, or that the group has given to the instance by now.
///
/// Needs `group` on the group, and `consume` on the topics.
#[utoipa::path(
    get,
    path = "/consumers/{group}/instances/{instance}/assignments",
    operation_id = "getConsumerAssignmentsV2",
    tag = "Compatible REST v2",
    params(Name),
    responses(
        (status = 200, description = "The partitions", content(
            (ConsumerPartitions = "application/vnd.kafka.v2+json", example = json!({"partitions": [{"topic": "orders", "partition": 0}]})),
            (ConsumerPartitions = "application/json"),
        )),
        OfAsking,
    )
)]
pub async fn get(
    gateway: Gateway,
    Path(name): Path<Name>,
    Extension(principal): Extension<Principal>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let kind = kind(&headers)?;
    let shown = async {
        let handle = found(&gateway, &name, &principal)?;
        permit(&handle, &principal, &name).await?;
        let partitions = handle.assignments().await;
        let partitions = partitions.map_err(|refused| errors::of_instance(refused, &name))?;
        Ok(ConsumerPartitions {
            partitions: partitions.into_iter().map(Into::into).collect(),
        })
    };
    answer(kind, shown.await)
}
