//! `…/offsets`: what the group has committed.

use axum::http::HeaderMap;
use axum::response::Response;
use serde::Serialize;

use super::errors::{InstanceBodyErrors, InstanceErrors};
use super::{ConsumerBody, ConsumerPartitions, InstanceCall, Name, has, requests};
use crate::http::error::ApiError;
use crate::http::extract::{Query, unexpected};
use crate::http::json_object::needed;

/// Offsets of partitions
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct ConsumerOffsets {
    /// One for each partition.
    offsets: Vec<ConsumerOffset>,
}

/// The offset of a partition
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct ConsumerOffset {
    /// The topic.
    #[schema(example = "orders")]
    topic: String,
    /// The partition.
    #[schema(minimum = 0)]
    partition: i32,
    /// To be committed: the offset of the last record that was handled. Committed: that of the next
    /// one, which is one more.
    #[schema(minimum = 0)]
    offset: i64,
    /// A text that is kept with it.
    #[schema(required = false)]
    metadata: String,
}

/// Commit
///
/// Each offset given in `offsets` is that of the last record that was handled: one more is committed, as in
/// the reference. Those in `partitions`, which clients of Redpanda's proxy send instead, are those of the next
/// record, and are committed as they are. Without a body, what was delivered to the client is committed, and
/// nothing else; of partitions that have moved on meanwhile it is not, which the answer says for each.
///
/// Needs `group` on the group, and `consume` on the topics.
#[utoipa::path(
    post,
    path = "/consumers/{group}/instances/{instance}/offsets",
    operation_id = "commitConsumerOffsetsV2",
    tag = "Compatible REST v2",
    params(
        Name,
        ("async" = Option<bool>, Query, description = "`true`: answer without waiting for Kafka. `false`, the default"),
        ("Tidegate-Delivery" = Option<String>, Header, description = "The last answer that the client has, as in reads: what was delivered is what came up to that one. Needed for a commit without a body after a read that had it. Not in the reference"),
    ),
    request_body(
        description = "The offsets, in `offsets` or, without `metadata`, in `partitions`; without a body, of what was delivered.",
        content(
            (ConsumerOffsets = "application/vnd.kafka.v2+json", example = json!({"offsets": [{"topic": "orders", "partition": 0, "offset": 42}]})),
            (ConsumerOffsets = "application/json"),
        )
    ),
    responses(
        (status = 200, description = "They are committed", content(
            (Vec<Object> = "application/vnd.kafka.v2+json", example = json!([])),
            (Vec<Object> = "application/json"),
        )),
        InstanceBodyErrors,
    )
)]
pub async fn commit(
    call: InstanceCall,
    mut query: Query,
    headers: HeaderMap,
    body: ConsumerBody,
) -> Result<Response, ApiError> {
    let committed = async {
        let has = has(&headers)?;
        let handle = call.instance()?;
        let waits = match query.take("async")?.as_deref() {
            None | Some("false" | "") => true,
            Some("true") => false,
            Some(other) => return Err(unexpected("async", other, "true or false")),
        };
        query.finish()?;
        let commits = requests::commits(&body.bytes)?;
        match &commits {
            Some(commits) if !commits.offsets.is_empty() => {
                let partitions = commits.offsets.iter().map(|(partition, ..)| partition);
                call.check_partitions(commits.field, partitions).await?;
            }
            Some(_) | None => call.authorize_instance(&handle).await?,
        }
        let offsets = commits.map(|commits| commits.offsets);
        if waits {
            call.ask(handle.commit(offsets, has)).await?;
        } else {
            let group = call.name.group;
            tokio::spawn(async move {
                if let Err(refused) = handle.commit(offsets, has).await {
                    tracing::debug!(group, "an asynchronous commit failed: {refused}");
                }
            });
        }
        Ok([(); 0])
    };
    body.answer.json(committed.await)
}

/// Show what is committed
///
/// For the partitions in the body, which the request has although it is a GET, as in the reference; or for
/// those that `topic` and `partition` name. A partition without a committed offset is left out.
///
/// Needs `group` on the group, and `consume` on the topics.
#[utoipa::path(
    get,
    path = "/consumers/{group}/instances/{instance}/offsets",
    operation_id = "getConsumerOffsetsV2",
    tag = "Compatible REST v2",
    params(
        Name,
        ("topic" = Option<String>, Query, description = "For clients that cannot send a body with GET: a topic, before its partitions. Several, each before its own: `topic=a&partition=0&topic=b&partition=1`. Not in the reference", example = "orders"),
        ("partition" = Option<String>, Query, description = "Partitions of the topic before, with commas between them. Not in the reference", example = "0,1"),
    ),
    request_body(content(
        (ConsumerPartitions = "application/vnd.kafka.v2+json", example = json!({"partitions": [{"topic": "orders", "partition": 0}]})),
        (ConsumerPartitions = "application/json"),
    )),
    responses(
        (status = 200, description = "The offsets, each that of the next record", content(
            (ConsumerOffsets = "application/vnd.kafka.v2+json", example = json!({"offsets": [{"topic": "orders", "partition": 0, "offset": 43, "metadata": ""}]})),
            (ConsumerOffsets = "application/json"),
        )),
        (status = 400, description = "The body is not JSON, or a field is not of its type; or not a name that a topic can have (40002)"),
        (status = 415, description = "Not a content type that is read here"),
        (status = 422, description = "A field is unknown, given twice, missing or out of range"),
        InstanceErrors,
    )
)]
pub async fn committed(
    call: InstanceCall,
    mut query: Query,
    body: ConsumerBody,
) -> Result<Response, ApiError> {
    let found = async {
        let handle = call.instance()?;
        let queried = requests::queried(&mut query)?;
        query.finish()?;
        let partitions = match requests::partitions(&body.bytes)? {
            None if queried.is_empty() => {
                return Err(needed(
                    "/partitions",
                    "{\"partitions\": [{\"topic\": …, \"partition\": …}]}, or topic=…&partition=… in the \
                     query",
                ));
            }
            None => queried,
            Some(partitions) if queried.is_empty() => partitions,
            Some(_) => {
                let message = "expected the partitions in the body or in the query, not in both";
                return Err(ApiError::bad_request(message).at("topic"));
            }
        };
        if partitions.is_empty() {
            call.authorize_instance(&handle).await?;
        }
        call.check_partitions("partitions", partitions.iter())
            .await?;
        let committed = call.ask(handle.committed(partitions)).await?;
        let offsets = committed
            .into_iter()
            .map(|(partition, known)| ConsumerOffset {
                topic: partition.topic.to_string(),
                partition: partition.partition,
                offset: known.offset,
                metadata: known.metadata,
            });
        Ok(ConsumerOffsets {
            offsets: offsets.collect(),
        })
    };
    body.answer.json(found.await)
}
