//! `/v3/clusters/{cluster}/topics`: topics are listed, described, made, given more partitions and deleted.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::call::{Call, JsonBody};
use super::error::{BodyErrors, Errors};
use super::page::{PageParams, PrefixParam};
use super::partitions::TopicPath;
use super::resource::{Metadata, Related, resource};
use crate::admin::AdminError;
use crate::admin::topics::{self, Operation};
use crate::api::json::{json, ok};
use crate::http::error::ApiError;
use crate::http::extract::Path;
use crate::http::json_object::{Object, unacceptable, wrong};
use crate::kafka::admin::NewTopic;
use crate::kafka::metadata::Topic as Known;

resource!(
    /// Topics
    TopicList of Topic: TopicKind, TopicListKind, "KafkaTopic", "KafkaTopicList"
);

/// A topic
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = TopicV3)]
pub struct Topic {
    kind: TopicKind,
    metadata: Metadata,
    /// The cluster's id.
    cluster_id: String,
    /// Its name.
    #[schema(example = "orders")]
    topic_name: String,
    /// Whether it is one of Kafka's own.
    is_internal: bool,
    /// How many replicas each of its partitions has.
    #[schema(example = 3)]
    replication_factor: usize,
    /// How many partitions it has.
    #[schema(example = 6)]
    partitions_count: usize,
    /// Its partitions.
    partitions: Related,
    /// Its settings.
    configs: Related,
    /// Those of its partitions that are being moved.
    partition_reassignments: Related,
    /// What the caller may do with it, where that was asked for: what both its permissions and Kafka's ACLs
    /// allow. Empty else.
    #[schema(example = json!(["READ", "DESCRIBE"]))]
    authorized_operations: Vec<&'static str>,
}

/// A topic to be made
#[derive(Debug, utoipa::ToSchema)]
#[expect(dead_code, reason = "the shape is read by hand; this describes it")]
#[schema(as = CreateTopicV3)]
pub struct CreateTopic {
    /// Its name.
    #[schema(example = "orders")]
    topic_name: String,
    /// How many partitions; without it as the brokers make topics.
    #[schema(minimum = 1)]
    partitions_count: Option<i32>,
    /// How many replicas of each partition; without it as the brokers make topics.
    #[schema(minimum = 1)]
    replication_factor: Option<i16>,
    /// The brokers that hold each partition, by its number, the preferred leader first; in the place of the two
    /// numbers.
    #[schema(example = json!({"0": [1, 2], "1": [2, 3]}))]
    replicas_assignments: Option<BTreeMap<String, Vec<i32>>>,
    /// Settings that differ from the brokers' own.
    configs: Option<Vec<NewConfig>>,
    /// `true`: Kafka only says whether it would make the topic.
    validate_only: Option<bool>,
}

/// A setting of a topic to be made
#[derive(Debug, utoipa::ToSchema)]
#[expect(dead_code, reason = "the shape is read by hand; this describes it")]
pub struct NewConfig {
    /// Its name.
    #[schema(example = "retention.ms")]
    name: String,
    /// Its value; `null` is the brokers' own.
    #[schema(example = "604800000")]
    value: Option<String>,
}

/// How a topic is to be changed
#[derive(Debug, utoipa::ToSchema)]
#[expect(dead_code, reason = "the shape is read by hand; this describes it")]
#[schema(as = UpdateTopicV3)]
pub struct UpdateTopic {
    /// How many partitions it is to have: more than now.
    #[schema(minimum = 1, maximum = 100_000, example = 12)]
    partitions_count: i32,
}

/// How large a topic is.
#[derive(Debug, Clone, Copy)]
struct Size {
    partitions: usize,
    replication: usize,
}

impl Size {
    fn of(topic: &Known) -> Self {
        Self {
            partitions: topic.partitions.len(),
            replication: topic
                .partitions
                .first()
                .map_or(0, |first| first.replicas.len()),
        }
    }
}

fn described(
    call: &Call,
    name: &str,
    size: Size,
    is_internal: bool,
    operations: &[Operation],
) -> Topic {
    let links = &call.links;
    let operations = operations.iter().map(|operation| operation.name());
    Topic {
        kind: TopicKind::It,
        metadata: links.metadata(&["topics", name], &[("topic", name)]),
        cluster_id: links.id(),
        topic_name: name.to_owned(),
        is_internal,
        replication_factor: size.replication,
        partitions_count: size.partitions,
        partitions: links.related(&["topics", name, "partitions"]),
        configs: links.related(&["topics", name, "configs"]),
        partition_reassignments: links.related(&[
            "topics",
            name,
            "partitions",
            "-",
            "reassignment",
        ]),
        authorized_operations: operations.collect(),
    }
}

/// What the caller may do with each topic, where that is asked for.
async fn operations(
    call: &Call,
    are_wanted: bool,
    topics: &[Arc<Known>],
) -> Result<Vec<Vec<Operation>>, ApiError> {
    if !are_wanted {
        return Ok(vec![Vec::new(); topics.len()]);
    }
    let found = topics::operations(call.cluster(), &call.principal, topics).await;
    found.map_err(|fault| call.fault(&fault))
}

/// List the topics
///
/// By name, without Kafka's internal ones, and only those that the caller may describe.
///
/// Needs no permission to be called; shows what `describe` allows.
#[utoipa::path(
    get,
    path = "/v3/clusters/{cluster}/topics",
    operation_id = "listTopicsV3",
    tag = "Compatible REST v3",
    params(
        ("cluster" = String, Path, description = "The cluster's id"),
        ("include_authorized_operations" = Option<bool>, Query, description = "`true`: what the caller may do with each topic; also as `includeAuthorizedOperations`"),
        PageParams,
        PrefixParam,
    ),
    responses(
        (status = 200, description = "The topics", body = TopicList),
        Errors,
    )
)]
pub async fn list(mut call: Call) -> Result<Response, ApiError> {
    let page = call.page()?;
    let are_wanted = call.flag("include_authorized_operations")?;
    let all = topics::visible(call.cluster(), &call.principal).await;
    let all = all.map_err(|fault| call.fault(&fault))?;
    let page = page.of_names(call.links.url(&["topics"]), all, |topic| &topic.name);
    let operations = operations(&call, are_wanted, &page.data).await?;
    let data = page
        .data
        .iter()
        .zip(&operations)
        .map(|(topic, operations)| {
            described(
                &call,
                &topic.name,
                Size::of(topic),
                topic.internal,
                operations,
            )
        });
    ok(&TopicList::new(page.metadata, data.collect()))
}

/// Describe a topic
///
/// Needs `describe` on the topic.
#[utoipa::path(
    get,
    path = "/v3/clusters/{cluster}/topics/{topic}",
    operation_id = "getTopicV3",
    tag = "Compatible REST v3",
    params(
        ("cluster" = String, Path, description = "The cluster's id"),
        ("topic" = String, Path, description = "The topic", example = "orders"),
        ("include_authorized_operations" = Option<bool>, Query, description = "`true`: what the caller may do with it"),
    ),
    responses(
        (status = 200, description = "The topic", body = Topic),
        Errors,
    )
)]
pub async fn get(mut call: Call, Path(path): Path<TopicPath>) -> Result<Response, ApiError> {
    let are_wanted = call.flag("include_authorized_operations")?;
    let topic = call.cluster().metadata.topic(&path.topic).await;
    let topic = [topic.map_err(|fault| call.fault(&fault))?];
    let operations = operations(&call, are_wanted, &topic).await?;
    let operations = operations.first().map(Vec::as_slice).unwrap_or_default();
    let [topic] = topic;
    ok(&described(
        &call,
        &topic.name,
        Size::of(&topic),
        topic.internal,
        operations,
    ))
}

/// Make a topic
///
/// Answers when Kafka has made it and the brokers know of it.
///
/// Needs `create` on the topic.
#[utoipa::path(
    post,
    path = "/v3/clusters/{cluster}/topics",
    operation_id = "createTopicV3",
    tag = "Compatible REST v3",
    params(("cluster" = String, Path, description = "The cluster's id")),
    request_body(
        content = CreateTopic,
        example = json!({"topic_name": "orders", "partitions_count": 6, "replication_factor": 3, "configs": [{"name": "retention.ms", "value": "604800000"}]}),
    ),
    responses(
        (status = 201, description = "It is made", body = Topic, headers(("Location" = String, description = "Its URL"))),
        (status = 200, description = "With `validate_only`: Kafka would make it", body = Topic),
        BodyErrors,
    )
)]
pub async fn create(call: Call, body: JsonBody) -> Result<Response, ApiError> {
    let (topic, validate_only) = new_topic(&body)?;
    let made = topics::create(call.cluster(), &call.principal, &topic, validate_only).await;
    made.map_err(|error| match error {
        AdminError::Reserved => call.refused(error).at("/topic_name"),
        // What is wrong with its settings or numbers the message says.
        other => call.refused(other),
    })?;
    let size = if validate_only {
        planned(&call, &topic).await?
    } else {
        let least = topic.partitions.and_then(|n| usize::try_from(n).ok());
        match call
            .cluster()
            .settled_topic(&topic.name, least.unwrap_or(1))
            .await
        {
            Ok(known) => Size::of(&known),
            // It is made, whatever the brokers have heard of it.
            Err(_) => planned(&call, &topic).await?,
        }
    };
    let described = described(&call, &topic.name, size, false, &[]);
    if validate_only {
        return ok(&described);
    }
    let mut response = json(StatusCode::CREATED, &described)?;
    if let Ok(at) = HeaderValue::from_str(&call.links.url(&["topics", &topic.name])) {
        response.headers_mut().insert(header::LOCATION, at);
    }
    Ok(response)
}

/// How large the topic is to be.
async fn planned(call: &Call, topic: &NewTopic) -> Result<Size, ApiError> {
    let planned = topics::planned_size(call.cluster(), topic).await;
    let (partitions, replication) = planned.map_err(|fault| call.fault(&fault))?;
    let count = |number: Option<i32>| number.and_then(|n| usize::try_from(n).ok()).unwrap_or(1);
    Ok(Size {
        partitions: count(partitions),
        replication: count(replication.map(i32::from)),
    })
}

/// The topic that a body asks for, and whether it is only to be looked at.
fn new_topic(body: &JsonBody) -> Result<(NewTopic, bool), ApiError> {
    const FIELDS: &[&str] = &[
        "topic_name",
        "partitions_count",
        "replication_factor",
        "replicas_assignments",
        "configs",
        "validate_only",
    ];
    let body = body.object(FIELDS)?;
    let Some(name) = body.text("topic_name")? else {
        let message = "/topic_name: is missing; expected the name of the topic";
        return Err(ApiError::bad_request(message).at("/topic_name"));
    };
    match topics::check_new_name(&name) {
        // Who may create is asked first, when it is to be made.
        Ok(()) | Err(AdminError::Reserved) => {}
        Err(error) => {
            let message = format!("/topic_name: {error}");
            return Err(
                ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, 42206, message).at("/topic_name"),
            );
        }
    }
    let mut topic = NewTopic::with_broker_defaults(&name);
    topic.partitions = number(&body, "partitions_count")?;
    topic.replication = number(&body, "replication_factor")?;
    topic.assignments = assignments(&body)?;
    if !topic.assignments.is_empty() && (topic.partitions.is_some() || topic.replication.is_some())
    {
        let message = "/replicas_assignments: expected either them, or partitions_count and \
                       replication_factor";
        return Err(invalid(message).at("/replicas_assignments"));
    }
    let mut seen = HashSet::new();
    for config in body
        .objects("configs", &["name", "value"])?
        .unwrap_or_default()
    {
        let name = config.needed("name", config.text("name")?)?.into_owned();
        if !seen.insert(name.clone()) {
            return Err(unacceptable(&config.pointer("name"), "is given twice"));
        }
        if let Some(value) = config.text("value")? {
            topic.configs.push((name, value.into_owned()));
        }
    }
    Ok((topic, body.truth("validate_only")?.unwrap_or(false)))
}

/// A number as large as Kafka takes it; which ones make sense Kafka says.
fn number<T: TryFrom<i64>>(body: &Object<'_>, field: &str) -> Result<Option<T>, ApiError> {
    let Some(given) = body.number(field)? else {
        return Ok(None);
    };
    T::try_from(given).map(Some).map_err(|_| {
        let at = body.pointer(field);
        invalid(&format!(
            "{at}: expected a whole number from 1, not {given}"
        ))
        .at(at)
    })
}

/// Most partitions that a topic may be asked to have: far more than brokers make at once. Of some two thousand
/// millions they do not say what is wrong, they fail.
const MOST_PARTITIONS: i32 = 100_000;

/// What Kafka would call invalid.
fn invalid(message: &str) -> ApiError {
    ApiError::new(StatusCode::BAD_REQUEST, 40002, message)
}

fn assignments(body: &Object<'_>) -> Result<BTreeMap<i32, Vec<i32>>, ApiError> {
    const FIELD: &str = "replicas_assignments";
    let mut assignments = BTreeMap::new();
    for (partition, brokers) in body.members(FIELD)?.unwrap_or_default() {
        let at = format!("{}/{partition}", body.pointer(FIELD));
        let Ok(number @ 0..) = partition.parse::<i32>() else {
            let what = "expected the number of a partition";
            return Err(unacceptable(&at, what));
        };
        let brokers: Vec<i32> = serde_json::from_str(brokers.get())
            .map_err(|_| wrong(&at, "an array of the ids of brokers", brokers))?;
        if assignments.insert(number, brokers).is_some() {
            return Err(unacceptable(&at, "names a partition that is named already"));
        }
    }
    let numbers = 0..i32::try_from(assignments.len()).unwrap_or(i32::MAX);
    if let Some((_, gap)) = numbers.zip(assignments.keys()).find(|(n, key)| n != *key) {
        let at = format!("{}/{gap}", body.pointer(FIELD));
        return Err(unacceptable(
            &at,
            "expected partitions from 0 without a gap",
        ));
    }
    Ok(assignments)
}

/// Give a topic more partitions
///
/// Records with keys that come later may go to other partitions than those before. Answers when the brokers
/// know of the new partitions.
///
/// Needs `alter` on the topic.
#[utoipa::path(
    patch,
    path = "/v3/clusters/{cluster}/topics/{topic}",
    operation_id = "updateTopicV3",
    tag = "Compatible REST v3",
    params(
        ("cluster" = String, Path, description = "The cluster's id"),
        ("topic" = String, Path, description = "The topic", example = "orders"),
    ),
    request_body(content = UpdateTopic, example = json!({"partitions_count": 12})),
    responses(
        (status = 200, description = "The topic as it is now", body = Topic),
        BodyErrors,
    )
)]
pub async fn update(
    call: Call,
    Path(path): Path<TopicPath>,
    body: JsonBody,
) -> Result<Response, ApiError> {
    const FIELD: &str = "partitions_count";
    let body = body.object(&[FIELD])?;
    let total = number(&body, FIELD)?;
    let total = body.needed(FIELD, total)?;
    if total > MOST_PARTITIONS {
        let at = body.pointer(FIELD);
        let message = format!("{at}: expected at most {MOST_PARTITIONS}, not {total}");
        return Err(invalid(&message).at(at));
    }
    let topic = topics::add_partitions(call.cluster(), &path.topic, total).await;
    let topic = topic.map_err(|error| call.refused(error))?;
    ok(&described(
        &call,
        &topic.name,
        Size::of(&topic),
        topic.internal,
        &[],
    ))
}

/// Delete a topic
///
/// With all of its records: there is no way back. Answers when Kafka has deleted it.
///
/// Needs `delete` on the topic.
#[utoipa::path(
    delete,
    path = "/v3/clusters/{cluster}/topics/{topic}",
    operation_id = "deleteTopicV3",
    tag = "Compatible REST v3",
    params(
        ("cluster" = String, Path, description = "The cluster's id"),
        ("topic" = String, Path, description = "The topic", example = "orders"),
    ),
    responses(
        (status = 204, description = "It is deleted"),
        Errors,
    )
)]
pub async fn delete(call: Call, Path(path): Path<TopicPath>) -> Result<Response, ApiError> {
    let deleted = topics::delete(call.cluster(), &path.topic).await;
    deleted.map_err(|error| call.refused(error))?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &str) -> Result<(NewTopic, bool), ApiError> {
        new_topic(&JsonBody::of(body))
    }

    #[test]
    fn a_topic_is_read_with_all_that_it_may_have() {
        let body = r#"{"topic_name":"t","partitions_count":3,"replication_factor":"2",
            "configs":[{"name":"a","value":"1"},{"name":"b","value":null},{"name":"c","value":5}],
            "validate_only":true}"#;
        let (topic, validate_only) = read(body).unwrap();
        assert!(validate_only);
        assert_eq!((topic.partitions, topic.replication), (Some(3), Some(2)));
        let configs = [("a", "1"), ("c", "5")].map(|(n, v)| (n.to_owned(), v.to_owned()));
        assert_eq!(topic.configs, configs);
        let body = r#"{"topic_name":"t","replicas_assignments":{"1":[2,1],"0":[1,2]}}"#;
        let (topic, validate_only) = read(body).unwrap();
        assert!(!validate_only);
        let expected = BTreeMap::from([(0, vec![1, 2]), (1, vec![2, 1])]);
        assert_eq!(topic.assignments, expected);
    }

    #[test]
    fn what_is_wrong_with_a_topic_is_named() {
        for (body, expected) in [
            ("", (422, 42206, "")),
            ("{", (400, 400, "")),
            ("{}", (400, 400, "/topic_name")),
            (r#"{"topic_name":"a b"}"#, (422, 42206, "/topic_name")),
            (r#"{"topic_name":"t","x":1}"#, (422, 422, "/x")),
            (
                r#"{"topic_name":"t","partitions_count":99999999999}"#,
                (400, 40002, "/partitions_count"),
            ),
            (
                r#"{"topic_name":"t","partitions_count":"x"}"#,
                (400, 400, "/partitions_count"),
            ),
            (
                r#"{"topic_name":"t","partitions_count":1,"replicas_assignments":{"0":[1]}}"#,
                (400, 40002, "/replicas_assignments"),
            ),
            (
                r#"{"topic_name":"t","replicas_assignments":{"1":[1]}}"#,
                (422, 422, "/replicas_assignments/1"),
            ),
            (
                r#"{"topic_name":"t","replicas_assignments":{"0":[1],"00":[2]}}"#,
                (422, 422, "/replicas_assignments/00"),
            ),
            (
                r#"{"topic_name":"t","replicas_assignments":{"0":1}}"#,
                (400, 400, "/replicas_assignments/0"),
            ),
            (
                r#"{"topic_name":"t","configs":[{"value":"1"}]}"#,
                (422, 422, "/configs/0/name"),
            ),
            (
                r#"{"topic_name":"t","configs":[{"name":"a","value":"1"},{"name":"a"}]}"#,
                (422, 422, "/configs/1/name"),
            ),
            (
                r#"{"topic_name":"t","validate_only":"soon"}"#,
                (400, 400, "/validate_only"),
            ),
        ] {
            let error = read(body).unwrap_err();
            let status = error.status().as_u16();
            let told = error.into_body();
            let field = told.field.unwrap_or_default();
            assert_eq!((status, told.error_code, &*field), expected, "{body}");
        }
    }
}
