//! `…/reassignment`: the partitions that are being moved to other brokers, and how they are moved. Confluent REST
//! Proxy has the first alone.

use std::collections::HashSet;

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::call::{Call, JsonBody, is_deletion, not_found};
use super::error::{BodyErrors, Errors};
use super::page::{PageParams, PageQuery};
use super::partitions::{PartitionPath, TopicPath};
use super::resource::{Metadata, Related, resource};
use crate::admin::partitions::{self, NothingDone};
use crate::api::json::{json, ok};
use crate::http::error::ApiError;
use crate::http::extract::Path;
use crate::http::json_object::{Object, unacceptable, wrong};
use crate::kafka::admin::{OfPartitions, Reassignment as Moved, Target};
use crate::kafka::fault::{Fault, FaultKind};
use crate::record::TopicPartition;

resource!(
    /// Partitions that are being moved
    ReassignmentList of Reassignment: ReassignmentKind, ReassignmentListKind, "KafkaReassignment", "KafkaReassignmentList"
);

/// A partition that is being moved to other brokers
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Reassignment {
    kind: ReassignmentKind,
    metadata: Metadata,
    /// The cluster's id.
    cluster_id: String,
    /// The topic.
    topic_name: String,
    /// The partition.
    partition_id: i32,
    /// The brokers that are to get it.
    adding_replicas: Vec<i32>,
    /// The brokers that are to lose it.
    removing_replicas: Vec<i32>,
    /// Its replicas.
    replicas: Related,
}

/// Where a partition is to be
#[derive(Debug, utoipa::ToSchema)]
#[expect(dead_code, reason = "the shape is read by hand; this describes it")]
pub struct ReassignPartition {
    /// The ids of the brokers that are to have it, the preferred leader first. Another number of them than now
    /// changes how many replicas there are.
    #[schema(example = json!([2, 3]), min_items = 1)]
    replicas: Vec<i32>,
}

/// Partitions that are to be moved, or moves that are to end
#[derive(Debug, utoipa::ToSchema)]
#[expect(dead_code, reason = "the shape is read by hand; this describes it")]
pub struct AlterReassignments {
    /// The partitions.
    data: Vec<AlterReassignment>,
}

/// A partition that is to be moved, or whose move is to end
#[derive(Debug, utoipa::ToSchema)]
#[expect(dead_code, reason = "the shape is read by hand; this describes it")]
pub struct AlterReassignment {
    /// The topic.
    #[schema(example = "orders")]
    topic_name: String,
    /// The partition.
    #[schema(example = 0, minimum = 0)]
    partition_id: i32,
    /// The ids of the brokers that are to have it, the preferred leader first; not with `DELETE`.
    #[schema(example = json!([2, 3]), min_items = 1)]
    replicas: Option<Vec<i32>>,
    /// `SET`, or `DELETE` to end its move. Without it `SET`.
    operation: Option<String>,
}

/// The partitions that Kafka did not take on
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct PartitionFailures {
    /// Each with the reason. What is not here is under way.
    failures: Vec<PartitionFailure>,
}

/// A partition that Kafka did not take on
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct PartitionFailure {
    /// The topic.
    topic_name: String,
    /// The partition.
    partition_id: i32,
    /// The code that the request would have got for it alone.
    error_code: u32,
    /// Why.
    message: String,
}

impl PartitionFailure {
    pub(super) fn new(call: &Call, partition: &TopicPartition, fault: &Fault) -> Self {
        let error = of_partition(call, fault).into_body();
        Self {
            topic_name: partition.topic.to_string(),
            partition_id: partition.partition,
            error_code: error.error_code,
            message: error.message,
        }
    }
}

/// What is wrong with a partition that was to be moved or led.
pub(super) fn of_partition(call: &Call, fault: &Fault) -> ApiError {
    let error = call.fault(fault);
    match fault.kind {
        FaultKind::NotFound => error.at("partition"),
        FaultKind::Invalid => error.at("replicas"),
        _ => error,
    }
}

/// What is wrong with all of them alike, such as a right that the gateway lacks: then it is said as of one.
pub(super) fn of_all(changed: &OfPartitions) -> Option<&Fault> {
    let (_, first) = changed.first()?;
    let first = first.as_ref().err()?;
    let mut answers = changed.iter().map(|(_, answer)| answer.as_ref());
    answers.all(|answer| answer == Err(first)).then_some(first)
}

/// Why nothing was done; `list` is the field that names the partitions.
pub(super) fn nothing_done(call: &Call, list: &str, why: NothingDone) -> ApiError {
    match why {
        NothingDone::Kafka(fault) => call.fault(&fault),
        NothingDone::Named(at, fault) => {
            let field = match fault.kind {
                FaultKind::UnknownPartition => "partition_id",
                _ => "topic_name",
            };
            call.fault(&fault).at(format!("/{list}/{at}/{field}"))
        }
    }
}

/// The ids of the brokers that are to have a partition.
fn replicas(body: &Object<'_>) -> Result<Option<Vec<i32>>, ApiError> {
    const FIELD: &str = "replicas";
    let Some(raw) = body.get(FIELD) else {
        return Ok(None);
    };
    let at = body.pointer(FIELD);
    let brokers: Vec<i32> = serde_json::from_str(raw.get())
        .map_err(|_| wrong(&at, "an array of the ids of brokers", raw))?;
    let mut seen = HashSet::new();
    if brokers.is_empty() || !brokers.iter().all(|id| *id >= 0 && seen.insert(*id)) {
        return Err(unacceptable(
            &at,
            "expected the ids of brokers, at least one and each once",
        ));
    }
    Ok(Some(brokers))
}

fn targets(body: &JsonBody) -> Result<Vec<Target>, ApiError> {
    let fields = ["topic_name", "partition_id", "replicas", "operation"];
    let body = body.object(&["data"])?;
    let list = body.needed("data", body.objects("data", &fields)?)?;
    let mut targets = Vec::with_capacity(list.len());
    let mut seen = HashSet::new();
    for entry in &list {
        let partition = entry.partition_by("topic_name", "partition_id")?;
        if !seen.insert(partition.clone()) {
            let what = "names a partition that is named already";
            return Err(unacceptable(&entry.pointer("partition_id"), what));
        }
        let replicas = replicas(entry)?;
        let target = match (is_deletion(entry)?, replicas) {
            (false, replicas) => Some(entry.needed("replicas", replicas)?),
            (true, None) => None,
            (true, Some(_)) => {
                let what = "not with operation DELETE, which ends the move";
                return Err(unacceptable(&entry.pointer("replicas"), what));
            }
        };
        targets.push((partition, target));
    }
    Ok(targets)
}

fn described(call: &Call, moved: Moved) -> Reassignment {
    let (topic, number) = (
        &*moved.partition.topic,
        moved.partition.partition.to_string(),
    );
    let links = &call.links;
    Reassignment {
        kind: ReassignmentKind::It,
        metadata: links.metadata(
            &["topics", topic, "partitions", &number, "reassignment"],
            &[
                ("topic", topic),
                ("partition", &number),
                ("reassignment", ""),
            ],
        ),
        cluster_id: links.id(),
        topic_name: topic.to_owned(),
        partition_id: moved.partition.partition,
        adding_replicas: moved.adding,
        removing_replicas: moved.removing,
        replicas: links.related(&["topics", topic, "partitions", &number, "replicas"]),
    }
}

fn listed(
    call: &Call,
    page: PageQuery,
    topic: &str,
    moved: Vec<Moved>,
) -> Result<Response, ApiError> {
    let url = call
        .links
        .url(&["topics", topic, "partitions", "-", "reassignment"]);
    let page = page.of_partitions(url, moved, |one| &one.partition)?;
    let data = page.data.into_iter().map(|moved| described(call, moved));
    ok(&ReassignmentList::new(page.metadata, data.collect()))
}

/// List the partitions that are being moved
///
/// Of the topics that the caller may describe.
///
/// Needs no permission to be called; shows what `describe` allows.
#[utoipa::path(
    get,
    path = "/v3/clusters/{cluster}/topics/-/partitions/-/reassignment",
    operation_id = "listReassignmentsV3",
    tag = "Compatible REST v3",
    params(("cluster" = String, Path, description = "The cluster's id"), PageParams),
    responses(
        (status = 200, description = "The partitions that are being moved, by topic and number", body = ReassignmentList),
        Errors,
    )
)]
pub async fn list(mut call: Call) -> Result<Response, ApiError> {
    let page = call.page()?;
    let moved = partitions::reassignments(call.cluster(), &call.principal).await;
    let moved = moved.map_err(|fault| call.fault(&fault))?;
    listed(&call, page, "-", moved)
}

/// List a topic's partitions that are being moved
///
/// Needs `describe` on the topic.
#[utoipa::path(
    get,
    path = "/v3/clusters/{cluster}/topics/{topic}/partitions/-/reassignment",
    operation_id = "listTopicReassignmentsV3",
    tag = "Compatible REST v3",
    params(
        ("cluster" = String, Path, description = "The cluster's id"),
        ("topic" = String, Path, description = "The topic", example = "orders"),
        PageParams,
    ),
    responses(
        (status = 200, description = "The partitions that are being moved, by number", body = ReassignmentList),
        Errors,
    )
)]
pub async fn of_topic(mut call: Call, Path(path): Path<TopicPath>) -> Result<Response, ApiError> {
    let page = call.page()?;
    let moved = partitions::reassignments_of(call.cluster(), &path.topic).await;
    let moved = moved.map_err(|fault| call.fault(&fault))?;
    listed(&call, page, &path.topic, moved)
}

/// Tell how a partition is being moved
///
/// Needs `describe` on the topic.
#[utoipa::path(
    get,
    path = "/v3/clusters/{cluster}/topics/{topic}/partitions/{partition}/reassignment",
    operation_id = "getReassignmentV3",
    tag = "Compatible REST v3",
    params(
        ("cluster" = String, Path, description = "The cluster's id"),
        ("topic" = String, Path, description = "The topic", example = "orders"),
        ("partition" = i32, Path, description = "The partition", example = 0),
    ),
    responses(
        (status = 200, description = "How it is being moved; 404 where it is not", body = Reassignment),
        Errors,
    )
)]
pub async fn get(call: Call, Path(path): Path<PartitionPath>) -> Result<Response, ApiError> {
    let number = path.number()?;
    let moved = partitions::reassignments_of(call.cluster(), &path.topic).await;
    let mut moved = moved.map_err(|fault| call.fault(&fault))?.into_iter();
    match moved.find(|moved| moved.partition.partition == number) {
        Some(moved) => ok(&described(&call, moved)),
        None => Err(not_found(
            &format!("Reassignment of partition {number}"),
            "partition",
        )),
    }
}

/// Move a partition to other brokers
///
/// Answers when the controller has taken it on; the records are copied after that, and `GET` tells how it is being
/// moved meanwhile. No record is lost: the old replicas go when the new ones have all that the leader has.
///
/// Needs `admin` on the cluster.
#[utoipa::path(
    put,
    path = "/v3/clusters/{cluster}/topics/{topic}/partitions/{partition}/reassignment",
    operation_id = "reassignPartitionV3",
    tag = "Compatible REST v3",
    params(
        ("cluster" = String, Path, description = "The cluster's id"),
        ("topic" = String, Path, description = "The topic", example = "orders"),
        ("partition" = i32, Path, description = "The partition", example = 0),
    ),
    request_body(content = ReassignPartition),
    responses(
        (status = 200, description = "How it is being moved; with nothing to add or remove where it is there already", body = Reassignment),
        BodyErrors,
    )
)]
pub async fn put(
    call: Call,
    Path(path): Path<PartitionPath>,
    body: JsonBody,
) -> Result<Response, ApiError> {
    let number = path.number()?;
    let body = body.object(&["replicas"])?;
    let brokers = body.needed("replicas", replicas(&body)?)?;
    let partition = TopicPartition::new(&*path.topic, number);
    change(&call, partition.clone(), Some(brokers)).await?;
    let asked = [partition.clone()];
    let moved = call.cluster().reassignments(Some(&asked)).await;
    let moved = moved.map_err(|fault| call.fault(&fault))?;
    let moved = moved.into_iter().next().unwrap_or_else(|| Moved {
        partition,
        replicas: Vec::new(),
        adding: Vec::new(),
        removing: Vec::new(),
    });
    ok(&described(&call, moved))
}

/// End the move of a partition
///
/// It stays on, or goes back to, the brokers that had it.
///
/// Needs `admin` on the cluster.
#[utoipa::path(
    delete,
    path = "/v3/clusters/{cluster}/topics/{topic}/partitions/{partition}/reassignment",
    operation_id = "cancelReassignmentV3",
    tag = "Compatible REST v3",
    params(
        ("cluster" = String, Path, description = "The cluster's id"),
        ("topic" = String, Path, description = "The topic", example = "orders"),
        ("partition" = i32, Path, description = "The partition", example = 0),
    ),
    responses(
        (status = 204, description = "The move has ended; 404 where there was none"),
        Errors,
    )
)]
pub async fn delete(call: Call, Path(path): Path<PartitionPath>) -> Result<Response, ApiError> {
    let number = path.number()?;
    change(&call, TopicPartition::new(&*path.topic, number), None).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

async fn change(
    call: &Call,
    partition: TopicPartition,
    brokers: Option<Vec<i32>>,
) -> Result<(), ApiError> {
    let targets = [(partition, brokers)];
    let changed = partitions::reassign(call.cluster(), &targets).await;
    let changed = changed.map_err(|why| call.fault(&why.into_fault()))?;
    match changed.into_iter().find_map(|(_, answer)| answer.err()) {
        Some(fault) => Err(of_partition(call, &fault)),
        None => Ok(()),
    }
}

/// Move several partitions to other brokers
///
/// Or end their moves. Kafka takes each on for itself, or does not; nothing is moved where a partition is not there.
///
/// Needs `admin` on the cluster.
#[utoipa::path(
    post,
    path = "/v3/clusters/{cluster}/topics/-/partitions/-/reassignment:alter",
    operation_id = "alterReassignmentsV3",
    tag = "Compatible REST v3",
    params(("cluster" = String, Path, description = "The cluster's id")),
    request_body(content = AlterReassignments, example = json!({"data": [{"topic_name": "orders", "partition_id": 0, "replicas": [2, 3]}, {"topic_name": "orders", "partition_id": 1, "operation": "DELETE"}]})),
    responses(
        (status = 204, description = "The controller has taken all of them on"),
        (status = 207, description = "Kafka refused some of them, or all with different reasons", body = PartitionFailures),
        BodyErrors,
    )
)]
pub async fn alter(call: Call, body: JsonBody) -> Result<Response, ApiError> {
    let targets = targets(&body)?;
    let changed = partitions::reassign(call.cluster(), &targets).await;
    let changed = changed.map_err(|why| nothing_done(&call, "data", why))?;
    if let Some(fault) = of_all(&changed) {
        return Err(of_partition(&call, fault));
    }
    let failures: Vec<PartitionFailure> = changed
        .iter()
        .filter_map(|(partition, answer)| {
            let fault = answer.as_ref().err()?;
            Some(PartitionFailure::new(&call, partition, fault))
        })
        .collect();
    if failures.is_empty() {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    json(StatusCode::MULTI_STATUS, &PartitionFailures { failures })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_with_all_alike_is_said_as_of_one() {
        let at = |partition| TopicPartition::new("t", partition);
        let fault = Fault::new(FaultKind::NotAuthorized, "no");
        let other = Fault::new(FaultKind::NotFound, "no");
        let alike = vec![(at(0), Err(fault.clone())), (at(1), Err(fault.clone()))];
        assert_eq!(of_all(&alike), Some(&fault));
        for several in [
            vec![],
            vec![(at(0), Ok(()))],
            vec![(at(0), Err(fault.clone())), (at(1), Ok(()))],
            vec![(at(0), Err(fault)), (at(1), Err(other))],
        ] {
            assert_eq!(of_all(&several), None, "{several:?}");
        }
    }

    #[test]
    fn a_move_names_its_brokers_and_the_end_of_one_does_not() {
        let body = r#"{"data":[{"topic_name":"t","partition_id":0,"replicas":[2,1]},
            {"topic_name":"t","partition_id":1,"operation":"delete"}]}"#;
        let expected = vec![
            (TopicPartition::new("t", 0), Some(vec![2, 1])),
            (TopicPartition::new("t", 1), None),
        ];
        assert_eq!(targets(&JsonBody::of(body)).unwrap(), expected);
        let one = |fields: &str| format!(r#"{{"data":[{{{fields}}}]}}"#);
        for (body, status, field) in [
            (String::new(), 422, ""),
            ("{}".to_owned(), 422, "/data"),
            (
                one(r#""partition_id":0,"replicas":[1]"#),
                422,
                "/data/0/topic_name",
            ),
            (
                one(r#""topic_name":"t","replicas":[1]"#),
                422,
                "/data/0/partition_id",
            ),
            (
                one(r#""topic_name":"t","partition_id":-1,"replicas":[1]"#),
                422,
                "/data/0/partition_id",
            ),
            (
                one(r#""topic_name":"t","partition_id":0"#),
                422,
                "/data/0/replicas",
            ),
            (
                one(r#""topic_name":"t","partition_id":0,"replicas":[]"#),
                422,
                "/data/0/replicas",
            ),
            (
                one(r#""topic_name":"t","partition_id":0,"replicas":[1,1]"#),
                422,
                "/data/0/replicas",
            ),
            (
                one(r#""topic_name":"t","partition_id":0,"replicas":"1""#),
                400,
                "/data/0/replicas",
            ),
            (
                one(r#""topic_name":"t","partition_id":0,"replicas":[1],"operation":"DELETE""#),
                422,
                "/data/0/replicas",
            ),
            (
                r#"{"data":[{"topic_name":"t","partition_id":0,"replicas":[1]},
                    {"topic_name":"t","partition_id":0,"operation":"DELETE"}]}"#
                    .to_owned(),
                422,
                "/data/1/partition_id",
            ),
        ] {
            let error = targets(&JsonBody::of(&body)).unwrap_err();
            assert_eq!(error.status().as_u16(), status, "{body}");
            let told = error.into_body().field.unwrap_or_default();
            assert_eq!(told, field, "{body}");
        }
    }
}
