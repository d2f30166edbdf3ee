//! `…/assignments`: partitions that an instance takes by hand, or has by its group.

use axum::response::Response;

use super::errors::{InstanceBodyErrors, InstanceErrors};
use super::{ConsumerBody, ConsumerPartitions, InstanceAnswer, InstanceCall, Name, requests};
use crate::http::error::ApiError;

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
    responses((status = 204, description = "It reads them"), InstanceBodyErrors)
)]
pub async fn post(call: InstanceCall, body: ConsumerBody) -> Result<Response, ApiError> {
    let assigned = async {
        let handle = call.instance()?;
        let partitions = requests::partitions(&body.bytes)?.ok_or_else(requests::no_partitions)?;
        call.check_partitions("partitions", partitions.iter())
            .await?;
        call.ask(handle.assign(partitions)).await
    };
    body.answer.no_content(assigned.await)
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
        let partitions = call.ask(handle.assignments()).await?;
        Ok(ConsumerPartitions {
            partitions: partitions.into_iter().map(Into::into).collect(),
        })
    };
    answer.json(shown.await)
}
