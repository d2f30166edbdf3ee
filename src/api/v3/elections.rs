//! `…/leader:elect`: the leaders of partitions are elected. Confluent REST Proxy has no such thing.

use axum::http::StatusCode;
use axum::response::Response;
use serde::Serialize;

use super::call::{Call, JsonBody, shown};
use super::error::BodyErrors;
use super::partitions::PartitionPath;
use super::reassignments::{PartitionFailure, nothing_done, of_all, of_partition};
use crate::admin::partitions::{self, Named};
use crate::api::fields::topic_name;
use crate::api::json::{json, ok};
use crate::http::error::ApiError;
use crate::http::extract::Path;
use crate::http::json_object::{Object, unacceptable};
use crate::kafka::admin::{Election, OfPartitions};

/// How a leader is elected
#[derive(Debug, utoipa::ToSchema)]
#[expect(dead_code, reason = "the shape is read by hand; this describes it")]
pub struct ElectLeader {
    /// `PREFERRED`: the first of its replicas, where it is in sync. `UNCLEAN`: any that is there, where none is in
    /// sync; records that were acknowledged and that it does not have are lost. Without it `PREFERRED`.
    #[schema(example = "PREFERRED")]
    election_type: Option<String>,
}

/// Whose leaders are elected, and how
#[derive(Debug, utoipa::ToSchema)]
#[expect(dead_code, reason = "the shape is read by hand; this describes it")]
pub struct ElectLeaders {
    /// `PREFERRED`: the first of the replicas, where it is in sync. `UNCLEAN`: any that is there, where none is in
    /// sync; records that were acknowledged and that it does not have are lost. Without it `PREFERRED`.
    #[schema(example = "PREFERRED")]
    election_type: Option<String>,
    /// Which partitions; without it all of the cluster, which an `UNCLEAN` election refuses.
    partitions: Option<Vec<ElectedPartition>>,
}

/// A partition whose leader is elected
#[derive(Debug, utoipa::ToSchema)]
#[expect(dead_code, reason = "the shape is read by hand; this describes it")]
pub struct ElectedPartition {
    /// The topic.
    #[schema(example = "orders")]
    topic_name: String,
    /// The partition; without it all of the topic.
    #[schema(example = 0, minimum = 0)]
    partition_id: Option<i32>,
}

/// What became of an election
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct LeaderElections {
    /// The partitions that are led as was asked for. Where none were named, those that have another leader now.
    data: Vec<LedPartition>,
    /// Those that are not, each with the reason.
    failures: Vec<PartitionFailure>,
}

/// A partition that is led as was asked for
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct LedPartition {
    /// The topic.
    topic_name: String,
    /// The partition.
    partition_id: i32,
}

fn election(body: &Object<'_>) -> Result<Election, ApiError> {
    const FIELD: &str = "election_type";
    match body.text(FIELD)?.as_deref() {
        None => Ok(Election::Preferred),
        Some(kind) if kind.eq_ignore_ascii_case("PREFERRED") => Ok(Election::Preferred),
        Some(kind) if kind.eq_ignore_ascii_case("UNCLEAN") => Ok(Election::Unclean),
        Some(other) => {
            let what = format!("expected PREFERRED or UNCLEAN, not {:?}", shown(other));
            Err(unacceptable(&body.pointer(FIELD), what))
        }
    }
}

fn wanted(body: &JsonBody) -> Result<(Election, Option<Vec<Named>>), ApiError> {
    const LIST: &str = "partitions";
    let Some(body) = body.optional_object(&["election_type", LIST])? else {
        return Ok((Election::Preferred, None));
    };
    let election = election(&body)?;
    let Some(list) = body.objects(LIST, &["topic_name", "partition_id"])? else {
        return match election {
            Election::Preferred => Ok((election, None)),
            Election::Unclean => Err(unacceptable(
                &body.pointer(LIST),
                "is missing: an unclean election can lose records, so it needs what it is about",
            )),
        };
    };
    let named = list.iter().map(|entry| {
        let topic = entry.needed("topic_name", entry.text("topic_name")?)?;
        Ok(Named {
            topic: topic_name(&topic, &entry.pointer("topic_name"))?,
            partition: entry.natural("partition_id")?,
        })
    });
    Ok((election, Some(named.collect::<Result<_, ApiError>>()?)))
}

fn result(call: &Call, elected: OfPartitions) -> LeaderElections {
    let mut result = LeaderElections {
        data: Vec::with_capacity(elected.len()),
        failures: Vec::new(),
    };
    for (partition, answer) in elected {
        match answer {
            Ok(()) => result.data.push(LedPartition {
                topic_name: partition.topic.to_string(),
                partition_id: partition.partition,
            }),
            Err(fault) => {
                let failure = PartitionFailure::new(call, &partition, &fault);
                result.failures.push(failure);
            }
        }
    }
    result
}

/// Elect leaders of several partitions
///
/// Of those that are named, of all partitions of a topic, or of the whole cluster: such as after a broker is back.
/// What is led as asked for already is no failure.
///
/// Needs `admin` on the cluster.
#[utoipa::path(
    post,
    path = "/v3/clusters/{cluster}/topics/-/partitions/-/leader:elect",
    operation_id = "electLeadersV3",
    tag = "Compatible REST v3",
    params(("cluster" = String, Path, description = "The cluster's id")),
    request_body(content = Option<ElectLeaders>, example = json!({"partitions": [{"topic_name": "orders"}]})),
    responses(
        (status = 200, description = "All are led as was asked for", body = LeaderElections),
        (status = 207, description = "Some are not, or none with different reasons: look at `failures`", body = LeaderElections),
        BodyErrors,
    )
)]
pub async fn several(call: Call, body: JsonBody) -> Result<Response, ApiError> {
    let (election, named) = wanted(&body)?;
    let elected = partitions::elect_leaders(call.cluster(), election, named.as_deref()).await;
    let elected = elected.map_err(|why| nothing_done(&call, "partitions", why))?;
    if let Some(fault) = of_all(&elected) {
        return Err(of_partition(&call, fault));
    }
    let result = result(&call, elected);
    let status = match result.failures.is_empty() {
        true => StatusCode::OK,
        false => StatusCode::MULTI_STATUS,
    };
    json(status, &result)
}

/// Elect the leader of a partition
///
/// Needs `admin` on the cluster.
#[utoipa::path(
    post,
    path = "/v3/clusters/{cluster}/topics/{topic}/partitions/{partition}/leader:elect",
    operation_id = "electLeaderV3",
    tag = "Compatible REST v3",
    params(
        ("cluster" = String, Path, description = "The cluster's id"),
        ("topic" = String, Path, description = "The topic", example = "orders"),
        ("partition" = i32, Path, description = "The partition", example = 0),
    ),
    request_body(content = Option<ElectLeader>),
    responses(
        (status = 200, description = "It is led as was asked for", body = LeaderElections),
        BodyErrors,
    )
)]
pub async fn one(
    call: Call,
    Path(path): Path<PartitionPath>,
    body: JsonBody,
) -> Result<Response, ApiError> {
    let partition = Some(path.number()?);
    let election = match body.optional_object(&["election_type"])? {
        Some(body) => election(&body)?,
        None => Election::Preferred,
    };
    let topic = path.topic.as_str().into();
    let named = [Named { topic, partition }];
    let elected = partitions::elect_leaders(call.cluster(), election, Some(&named)).await;
    let elected = elected.map_err(|why| call.fault(&why.into_fault()))?;
    let fault = elected.iter().find_map(|(_, answer)| answer.as_ref().err());
    match fault {
        Some(fault) => Err(of_partition(&call, fault)),
        None => ok(&result(&call, elected)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unclean_election_needs_what_it_is_about() {
        let read = |body: &str| wanted(&JsonBody::of(body));
        assert_eq!(read("").unwrap(), (Election::Preferred, None));
        let (election, named) = read(
            r#"{"election_type":"unclean","partitions":[{"topic_name":"t"},{"topic_name":"t","partition_id":2}]}"#,
        )
        .unwrap();
        assert_eq!(election, Election::Unclean);
        let named: Vec<Option<i32>> = named.unwrap().iter().map(|one| one.partition).collect();
        assert_eq!(named, [None, Some(2)]);
        for (body, status, field) in [
            (r#"{"election_type":"UNCLEAN"}"#, 422, "/partitions"),
            (r#"{"election_type":"BEST"}"#, 422, "/election_type"),
            (r#"{"partitions":{}}"#, 400, "/partitions"),
            (r#"{"partitions":[{}]}"#, 422, "/partitions/0/topic_name"),
            (
                r#"{"partitions":[{"topic_name":"t","partition_id":-2}]}"#,
                422,
                "/partitions/0/partition_id",
            ),
        ] {
            let error = read(body).unwrap_err();
            assert_eq!(error.status().as_u16(), status, "{body}");
            let told = error.into_body().field.unwrap_or_default();
            assert_eq!(told, field, "{body}");
        }
    }
}
