//! `/groups/{group}/offsets`: what a group has committed is moved or deleted.

use std::collections::HashSet;

use axum::Extension;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::PlainBody;
use super::error::{BodyErrors, KafkaErrors, fault, refused};
use crate::admin::groups::reset::{self, Moved, ResetScope, ResetTo};
use crate::api::json::json;
use crate::auth::Principal;
use crate::gateway::Gateway;
use crate::http::error::{ApiError, ErrorBody};
use crate::http::extract::{Path, Query, unexpected};
use crate::http::json_object::{Object, unacceptable, wrong};
use crate::position::{number_ms, time_ms};
use crate::record::TopicPartition;

/// Where a group is to go on
#[derive(Debug, utoipa::ToSchema)]
#[expect(dead_code, reason = "the shape is read by hand; this describes it")]
pub struct ResetOffsets {
    /// `earliest`, `latest`, an ISO 8601 time, or milliseconds since 1970: the first record at or after it.
    #[schema(value_type = Option<Value>, example = "earliest")]
    to: (),
    /// In the place of `to`: that many records on, or back where it is below 0, within what the log has.
    #[schema(example = -100)]
    shift: Option<i64>,
    /// In the place of `to`: the offset of the next record to read, in each of these partitions.
    offsets: Option<Vec<ResetOffset>>,
    /// All partitions of these topics. Without it and `partitions`: all for which the group has committed.
    topics: Option<Vec<String>>,
    /// These partitions.
    partitions: Option<Vec<ResetPartition>>,
    /// `true`: the answer says what would be done, and nothing is.
    dry_run: Option<bool>,
}

/// A partition
#[derive(Debug, utoipa::ToSchema)]
#[expect(dead_code, reason = "the shape is read by hand; this describes it")]
pub struct ResetPartition {
    /// The topic.
    #[schema(example = "orders")]
    topic: String,
    /// The partition.
    #[schema(minimum = 0)]
    partition: i32,
}

/// A partition, and where a group is to go on in it
#[derive(Debug, utoipa::ToSchema)]
#[expect(dead_code, reason = "the shape is read by hand; this describes it")]
pub struct ResetOffset {
    /// The topic.
    #[schema(example = "orders")]
    topic: String,
    /// The partition.
    #[schema(minimum = 0)]
    partition: i32,
    /// The offset of the next record to read.
    #[schema(minimum = 0, example = 42)]
    offset: i64,
}

/// What was done
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct ResetResult {
    /// The group.
    group: String,
    /// Whether nothing was done.
    dry_run: bool,
    /// Each partition, by topic and number.
    partitions: Vec<MovedPartition>,
}

/// What became of a partition
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct MovedPartition {
    /// The topic.
    #[schema(example = "orders")]
    topic: String,
    /// The partition.
    partition: i32,
    /// What the group had committed; `null` is nothing.
    #[schema(required = true)]
    before: Option<i64>,
    /// What it has committed now, or would have.
    after: i64,
    /// Records from there to the end.
    lag: i64,
    /// Why Kafka did not take it; only where it did not.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    /// The Kafka protocol's name of the error.
    #[serde(skip_serializing_if = "Option::is_none")]
    kafka_error: Option<&'static str>,
}

/// The commits that were deleted
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct DeletedOffsets {
    /// The group.
    group: String,
    /// Each partition, by number.
    partitions: Vec<DeletedOffset>,
}

/// What became of a commit
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct DeletedOffset {
    /// The topic.
    topic: String,
    /// The partition.
    partition: i32,
    /// Why Kafka did not delete it; only where it did not.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    /// The Kafka protocol's name of the error.
    #[serde(skip_serializing_if = "Option::is_none")]
    kafka_error: Option<&'static str>,
}

impl From<Moved> for MovedPartition {
    fn from(moved: Moved) -> Self {
        Self {
            topic: moved.partition.topic.to_string(),
            partition: moved.partition.partition,
            before: moved.before,
            after: moved.after,
            lag: (moved.end - moved.after).max(0),
            kafka_error: moved.fault.as_ref().and_then(|fault| fault.kafka_error),
            error: moved.fault.map(|fault| fault.message),
        }
    }
}

/// What a body asks for.
#[derive(Debug, PartialEq, Eq)]
struct Wanted {
    to: ResetTo,
    scope: ResetScope,
    dry_run: bool,
}

/// Move what a group has committed
///
/// To the beginning, to the end, to a time, by a number of records, or to offsets that are named. Only for a group
/// without members: they would go on from where they are, and commit over it. All partitions are looked up before
/// any is moved, and a group that is not there comes into being.
///
/// Needs `group` on the group and `consume` on the topics; without `topics` or `partitions`, topics that the caller
/// may not consume stay as they are.
#[utoipa::path(
    post,
    path = "/groups/{group}/offsets",
    operation_id = "resetGroupOffsets",
    tag = "Administration",
    params(("group" = String, Path, description = "The group", example = "billing")),
    request_body(
        content = ResetOffsets,
        examples(
            ("to a time" = (value = json!({"to": "2026-05-01T12:00:00Z", "topics": ["orders"], "dry_run": true}))),
            ("to the beginning" = (value = json!({"to": "earliest"}))),
            ("a hundred records back" = (value = json!({"shift": -100}))),
            ("to offsets" = (value = json!({"offsets": [{"topic": "orders", "partition": 0, "offset": 42}]}))),
        ),
    ),
    responses(
        (status = 200, description = "What was done, or with `dry_run` would be", body = ResetResult),
        (status = 207, description = "Kafka did not take some of them: look at `error` of each", body = ResetResult),
        (status = 400, description = "The body is not JSON, or a field is not of its type, or not a name that a topic can have (40002)", body = ErrorBody),
        (status = 403, description = "No permission, here or at the broker (40301)", body = ErrorBody),
        (status = 404, description = "No such topic (40401) or partition (40402)", body = ErrorBody),
        (status = 409, description = "The group has members", body = ErrorBody),
        (status = 422, description = "A field is unknown, given twice, missing or has an impossible value, such as an offset that is not in the log", body = ErrorBody),
        (status = 501, description = "The brokers do not offer it, such as the embedded broker", body = ErrorBody),
        BodyErrors,
        KafkaErrors,
    )
)]
pub async fn post(
    gateway: Gateway,
    Extension(principal): Extension<Principal>,
    Path(group): Path<String>,
    query: Query,
    body: PlainBody,
) -> Result<Response, ApiError> {
    query.finish()?;
    let wanted = wanted(&body)?;
    let cluster = gateway.cluster();
    let Wanted { to, scope, dry_run } = &wanted;
    let moved = reset::reset(cluster, &principal, &group, to, scope, *dry_run).await;
    let moved = moved.map_err(|error| refused(&gateway, error))?;
    let has_failed = moved.iter().any(|one| one.fault.is_some());
    let result = ResetResult {
        group,
        dry_run: *dry_run,
        partitions: moved.into_iter().map(MovedPartition::from).collect(),
    };
    json(status(has_failed), &result)
}

fn status(has_failed: bool) -> StatusCode {
    match has_failed {
        true => StatusCode::MULTI_STATUS,
        false => StatusCode::OK,
    }
}

fn wanted(body: &PlainBody) -> Result<Wanted, ApiError> {
    const FIELDS: &[&str] = &["to", "shift", "offsets", "topics", "partitions", "dry_run"];
    const ONE: &str = "expected one of to, shift and offsets";
    let Some(body) = body.object(FIELDS)? else {
        return Err(ApiError::unprocessable(format!("the body is empty; {ONE}")).at("/to"));
    };
    let (to, shift, offsets) = (place(&body)?, body.number("shift")?, offsets(&body)?);
    let to = match (to, shift, offsets) {
        (Some(to), None, None) => to,
        (None, Some(by), None) => ResetTo::Shift(by),
        (None, None, Some(offsets)) => ResetTo::Offsets(offsets),
        (None, None, None) => return Err(unacceptable("/to", format!("is missing; {ONE}"))),
        _ => return Err(unacceptable("/to", ONE)),
    };
    let scope = scope(&body)?;
    if matches!(to, ResetTo::Offsets(_)) && scope != ResetScope::Committed {
        return Err(unacceptable(
            "/offsets",
            "expected without topics and partitions",
        ));
    }
    let dry_run = body.truth("dry_run")?.unwrap_or(false);
    Ok(Wanted { to, scope, dry_run })
}

fn place(body: &Object<'_>) -> Result<Option<ResetTo>, ApiError> {
    const EXPECTED: &str =
        "earliest, latest, an ISO 8601 time (2026-05-01T12:00:00Z), or milliseconds since 1970";
    let Some(raw) = body.get("to") else {
        return Ok(None);
    };
    let text = body.text("to")?.unwrap_or_default();
    let to = match &*text {
        "earliest" => Some(ResetTo::Earliest),
        "latest" => Some(ResetTo::Latest),
        time => {
            let is_number = time.bytes().all(|digit| digit.is_ascii_digit());
            let at = time_ms(time);
            if is_number && at.is_some_and(|ms| number_ms(ms).is_err()) {
                return Err(wrong(
                    "/to",
                    "milliseconds since 1970, which have 13 digits today",
                    raw,
                ));
            }
            at.map(ResetTo::Time)
        }
    };
    to.map(Some).ok_or_else(|| wrong("/to", EXPECTED, raw))
}

fn scope(body: &Object<'_>) -> Result<ResetScope, ApiError> {
    let topics = body.topics("topics")?;
    let partitions = body.objects("partitions", &["topic", "partition"])?;
    match (topics, partitions) {
        (None, None) => Ok(ResetScope::Committed),
        (Some(topics), None) => Ok(ResetScope::Topics(topics)),
        (None, Some(list)) => {
            let partitions = list
                .iter()
                .map(Object::partition)
                .collect::<Result<_, _>>()?;
            Ok(ResetScope::Partitions(partitions))
        }
        (Some(_), Some(_)) => Err(unacceptable(
            "/partitions",
            "expected topics, or partitions: not both",
        )),
    }
}

fn offsets(body: &Object<'_>) -> Result<Option<Vec<(TopicPartition, i64)>>, ApiError> {
    let Some(list) = body.objects("offsets", &["topic", "partition", "offset"])? else {
        return Ok(None);
    };
    let mut offsets: Vec<(TopicPartition, i64)> = Vec::with_capacity(list.len());
    let mut seen = HashSet::new();
    for object in &list {
        let partition = object.partition()?;
        let offset = object.needed("offset", object.number("offset")?)?;
        if offset < 0 {
            let at = object.pointer("offset");
            return Err(unacceptable(
                &at,
                format!("expected a whole number from 0, not {offset}"),
            ));
        }
        if !seen.insert(partition.clone()) {
            return Err(unacceptable(&object.pointer("partition"), "is named twice"));
        }
        offsets.push((partition, offset));
    }
    Ok(Some(offsets))
}

/// Delete what a group has committed for a topic
///
/// For all of its partitions, or for one. Kafka refuses while a member of the group reads the topic.
///
/// Needs `group` on the group and `consume` on the topic.
#[utoipa::path(
    delete,
    path = "/groups/{group}/offsets",
    operation_id = "deleteGroupOffsets",
    tag = "Administration",
    params(
        ("group" = String, Path, description = "The group", example = "billing"),
        ("topic" = String, Query, description = "The topic", example = "orders"),
        ("partition" = Option<i32>, Query, description = "Only this partition", minimum = 0),
    ),
    responses(
        (status = 204, description = "They are deleted"),
        (status = 207, description = "Kafka did not delete some of them: look at `error` of each", body = DeletedOffsets),
        (status = 400, description = "A parameter is missing, unknown or cannot be read", body = ErrorBody),
        (status = 403, description = "No permission, here or at the broker (40301)", body = ErrorBody),
        (status = 404, description = "No such group, or it has committed nothing there", body = ErrorBody),
        (status = 409, description = "A member of the group reads the topic", body = ErrorBody),
        (status = 501, description = "The brokers do not offer it, such as the embedded broker", body = ErrorBody),
        KafkaErrors,
    )
)]
pub async fn delete(
    gateway: Gateway,
    Extension(principal): Extension<Principal>,
    Path(group): Path<String>,
    mut query: Query,
) -> Result<Response, ApiError> {
    const READ: &str = "GROUP_SUBSCRIBED_TO_TOPIC";
    let topic = query.take("topic")?;
    let partition = query.take_as::<i32>("partition", "a whole number from 0")?;
    query.finish()?;
    let Some(topic) = topic else {
        return Err(
            ApiError::bad_request("topic: is missing; expected the topic's name").at("topic"),
        );
    };
    if let Some(partition @ ..0) = partition {
        let given = partition.to_string();
        return Err(unexpected("partition", &given, "a whole number from 0"));
    }
    let cluster = gateway.cluster();
    let deleted = reset::delete(cluster, &principal, &group, &topic, partition).await;
    let deleted = deleted.map_err(|error| refused(&gateway, error))?;
    if deleted.iter().all(|(_, answer)| answer.is_ok()) {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let first = deleted.iter().find_map(|(_, answer)| answer.as_ref().err());
    if let Some(why) = first
        && deleted.iter().all(|(_, answer)| answer.is_err())
    {
        let error = fault(&gateway, why);
        return Err(match why.kafka_error {
            Some(READ) => error.coded(StatusCode::CONFLICT, 409).at("topic"),
            _ => error,
        });
    }
    let partitions = deleted.into_iter().map(|(at, answer)| {
        let why = answer.err();
        DeletedOffset {
            topic: at.topic.to_string(),
            partition: at.partition,
            kafka_error: why.as_ref().and_then(|why| why.kafka_error),
            error: why.map(|why| why.message),
        }
    });
    let partitions = partitions.collect();
    json(
        StatusCode::MULTI_STATUS,
        &DeletedOffsets { group, partitions },
    )
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn read(body: &str) -> Result<Wanted, ApiError> {
        wanted(&PlainBody::of(body))
    }

    #[test]
    fn a_reset_says_where_to_and_of_which_partitions() {
        let to = |body: &str| read(body).unwrap().to;
        assert_eq!(to(r#"{"to":"earliest"}"#), ResetTo::Earliest);
        assert_eq!(to(r#"{"to":"latest"}"#), ResetTo::Latest);
        assert_eq!(to(r#"{"to":1000}"#), ResetTo::Time(1000));
        assert_eq!(to(r#"{"to":"1970-01-01T00:00:01Z"}"#), ResetTo::Time(1000));
        assert_eq!(to(r#"{"shift":-5}"#), ResetTo::Shift(-5));
        let place = TopicPartition::new("t", 1);
        assert_eq!(
            to(r#"{"offsets":[{"topic":"t","partition":1,"offset":7}]}"#),
            ResetTo::Offsets(vec![(place.clone(), 7)])
        );
        let whole = read(r#"{"to":"latest","dry_run":true}"#).unwrap();
        assert_eq!((whole.scope, whole.dry_run), (ResetScope::Committed, true));
        let topics = read(r#"{"to":"latest","topics":["a","a","b"]}"#).unwrap();
        let expected = ResetScope::Topics(vec![Arc::from("a"), Arc::from("b")]);
        assert_eq!(topics.scope, expected);
        let one = read(r#"{"to":"latest","partitions":[{"topic":"t","partition":1}]}"#).unwrap();
        assert_eq!(one.scope, ResetScope::Partitions(vec![place]));
    }

    #[test]
    fn what_is_wrong_with_a_reset_is_named() {
        for (body, expected) in [
            ("", (422, "/to")),
            ("{}", (422, "/to")),
            ("[", (400, "")),
            (r#"{"to":"soon"}"#, (400, "/to")),
            (r#"{"to":1777636800}"#, (400, "/to")),
            (r#"{"to":"1777636800"}"#, (400, "/to")),
            (r#"{"to":{}}"#, (400, "/to")),
            (r#"{"to":"latest","shift":1}"#, (422, "/to")),
            (r#"{"shift":"x"}"#, (400, "/shift")),
            (r#"{"to":"latest","topics":"t"}"#, (400, "/topics")),
            (r#"{"to":"latest","topics":["a b"]}"#, (400, "/topics/0")),
            (
                r#"{"to":"latest","topics":[],"partitions":[]}"#,
                (422, "/partitions"),
            ),
            (
                r#"{"to":"latest","partitions":[{"topic":"t"}]}"#,
                (422, "/partitions/0/partition"),
            ),
            (
                r#"{"to":"latest","partitions":[{"topic":"t","partition":-1}]}"#,
                (422, "/partitions/0/partition"),
            ),
            (
                r#"{"offsets":[{"topic":"t","partition":0,"offset":-1}]}"#,
                (422, "/offsets/0/offset"),
            ),
            (
                r#"{"offsets":[{"topic":"t","partition":0,"offset":1},{"topic":"t","partition":0,"offset":2}]}"#,
                (422, "/offsets/1/partition"),
            ),
            (
                r#"{"offsets":[{"topic":"t","partition":0,"offset":1}],"topics":["t"]}"#,
                (422, "/offsets"),
            ),
            (r#"{"to":"latest","dry":true}"#, (422, "/dry")),
        ] {
            let error = read(body).unwrap_err();
            let status = error.status().as_u16();
            let field = error.into_body().field.unwrap_or_default();
            assert_eq!((status, &*field), expected, "{body}");
        }
    }
}
