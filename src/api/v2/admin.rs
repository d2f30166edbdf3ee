//! `POST /admin/topics`: makes a topic, as Strimzi's bridge has it.

use axum::Extension;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::consumers::ConsumerBody;
use super::error;
use crate::admin::{AdminError, topics};
use crate::auth::Principal;
use crate::gateway::Gateway;
use crate::http::error::ApiError;
use crate::http::json_object::{Object, needed};
use crate::kafka::admin::NewTopic;
use crate::kafka::fault::FaultKind;

/// A topic to be made
#[derive(Debug, utoipa::ToSchema)]
#[expect(dead_code, reason = "the shape is read by hand; this describes it")]
pub struct TopicRequest {
    /// Its name.
    #[schema(example = "orders")]
    topic_name: String,
    /// How many partitions; without it as the brokers make topics.
    #[schema(minimum = 1)]
    partitions_count: Option<i32>,
    /// How many copies of each partition; without it as the brokers make topics.
    #[schema(minimum = 1)]
    replication_factor: Option<i16>,
}

/// Make a topic
///
/// As Strimzi's bridge has it; not in the reference's v2. Names that begin with two underscores are Kafka's
/// own and are refused.
///
/// Needs `admin` on the cluster.
#[utoipa::path(
    post,
    path = "/admin/topics",
    operation_id = "createTopicV2",
    tag = "Compatible REST v2",
    request_body(content(
        (TopicRequest = "application/vnd.kafka.v2+json", example = json!({"topic_name": "orders", "partitions_count": 3, "replication_factor": 1})),
        (TopicRequest = "application/vnd.kafka.json.v2+json"),
        (TopicRequest = "application/json"),
    )),
    responses(
        (status = 201, description = "It is made; `Location` says where it is described", headers(("Location" = String, description = "The path of the topic"))),
        (status = 409, description = "There is such a topic (409)"),
        error::CreateTopicErrors,
    )
)]
pub async fn create_topic(
    gateway: Gateway,
    Extension(principal): Extension<Principal>,
    body: ConsumerBody,
) -> Result<Response, ApiError> {
    let made = async {
        let topic = new_topic(&body.bytes)?;
        let made = topics::create(gateway.cluster(), &principal, &topic, false).await;
        made.map_err(refused)?;
        Ok(topic.name)
    };
    let name = made.await.map_err(|error| body.answer.error(error))?;
    let at = format!("/topics/{}", utf8_percent_encode(&name, NON_ALPHANUMERIC));
    let mut response = StatusCode::CREATED.into_response();
    if let Ok(at) = HeaderValue::from_str(&at) {
        response.headers_mut().insert(header::LOCATION, at);
    }
    Ok(response)
}

/// The topic that a body asks for.
fn new_topic(body: &[u8]) -> Result<NewTopic, ApiError> {
    const FIELDS: &[&str] = &["topic_name", "partitions_count", "replication_factor"];
    let missing = || needed("/topic_name", "{\"topic_name\": …}");
    let body = Object::body(body, FIELDS)?.ok_or_else(missing)?;
    let name = body.text("topic_name")?;
    let name = body.needed("topic_name", name)?;
    topics::check_new_name(&name).map_err(refused)?;
    Ok(NewTopic {
        partitions: body.count("partitions_count")?,
        replication: body.count("replication_factor")?,
        ..NewTopic::with_broker_defaults(&name)
    })
}

/// Why the topic is not made.
fn refused(error: AdminError) -> ApiError {
    match error {
        AdminError::Denied(denied) => denied.into(),
        AdminError::Name(fault) => ApiError::from_fault(&fault).at("/topic_name"),
        AdminError::Reserved => ApiError::unprocessable(error.to_string()).at("/topic_name"),
        AdminError::Kafka(fault) if fault.kind == FaultKind::Exists => {
            ApiError::from_fault(&fault).at("/topic_name")
        }
        AdminError::Kafka(fault) => error::of_request(&fault),
        // Of what is there already.
        AdminError::ReadOnly(_)
        | AdminError::NoSuchConfig(_)
        | AdminError::NoSuchBroker(_)
        | AdminError::HasMembers { .. }
        | AdminError::NoOpenTransaction(_)
        | AdminError::TransactionRuns(_)
        | AdminError::TooManyPartitions { .. }
        | AdminError::TooManyTransactions { .. }
        | AdminError::NothingCommitted(_)
        | AdminError::OutsideLog { .. } => {
            ApiError::internal(format_args!("a topic that is to be made: {error}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_is_read_with_or_without_its_numbers() {
        let body = br#"{"topic_name":"t","partitions_count":"3","replication_factor":1}"#;
        let topic = new_topic(body).unwrap();
        assert_eq!((topic.partitions, topic.replication), (Some(3), Some(1)));
        let topic = new_topic(br#"{"topic_name":"t"}"#).unwrap();
        assert_eq!(topic, NewTopic::with_broker_defaults("t"));
    }

    #[test]
    fn what_cannot_be_a_topic_is_named() {
        for (body, expected) in [
            ("", (422, "/topic_name")),
            ("{}", (422, "/topic_name")),
            (r#"{"topic_name":"a b"}"#, (400, "/topic_name")),
            (
                r#"{"topic_name":"__consumer_offsets"}"#,
                (422, "/topic_name"),
            ),
            (
                r#"{"topic_name":"t","partitions_count":0}"#,
                (422, "/partitions_count"),
            ),
            (
                r#"{"topic_name":"t","partitions_count":"x"}"#,
                (400, "/partitions_count"),
            ),
            (
                r#"{"topic_name":"t","replication_factor":400000}"#,
                (422, "/replication_factor"),
            ),
            (r#"{"topic_name":"t","x":1}"#, (422, "/x")),
        ] {
            let error = new_topic(body.as_bytes()).unwrap_err();
            let status = error.status().as_u16();
            let field = error.into_body().field.unwrap_or_default();
            assert_eq!((status, &*field), expected, "{body}");
        }
    }
}
