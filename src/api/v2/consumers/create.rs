//! `POST /consumers/{group}` and `DELETE /consumers/{group}/instances/{instance}`.

use std::time::Duration;

use axum::Extension;
use axum::extract::{FromRequest, Request};
use axum::http::HeaderMap;
use axum::response::Response;
use serde::Serialize;

use super::errors::{CreateErrors, InstanceErrors, create_error};
use super::{ConsumerBody, InstanceAnswer, InstanceCall, Name, has};
use crate::api::v2::media::{BINARY, Embedded, JSON};
use crate::auth::Principal;
use crate::consumer::{Options, Stop};
use crate::gateway::Gateway;
use crate::http::error::ApiError;
use crate::http::extract::Path;
use crate::http::json_object::{Object, coded};
use crate::http::own_url::Segment;
use crate::reader_options::{Isolation, OffsetReset};

/// Longest name of an instance, in bytes.
const MAX_NAME: usize = 249;
/// Most of `fetch.min.bytes`, as in Confluent REST Proxy.
const MAX_FETCH_MIN_BYTES: i64 = 10_000_000;
/// Longest `consumer.request.timeout.ms`.
const MAX_TIMEOUT_MS: i64 = 600_000;
/// Longest wait for an instance that is deleted to leave its group.
const LEAVING: Duration = Duration::from_secs(20);
/// Longest wait for an instance to hear which answer its client has, before it is deleted.
const ACKNOWLEDGING: Duration = Duration::from_secs(2);
/// How an instance is to be
#[derive(Debug, utoipa::ToSchema)]
#[expect(dead_code, reason = "the shape is read by hand; this describes it")]
pub struct ConsumerRequest {
    /// Its name in the group; without it, one is made up.
    #[schema(example = "one")]
    name: Option<String>,
    /// The same, and wins over `name`. Of older clients.
    id: Option<String>,
    /// How keys and values are shown: `binary`, `json` or `text`, in any case. Without it, `binary`.
    #[schema(example = "json")]
    format: Option<String>,
    /// Where a partition without a committed offset begins: `latest` (the default), `earliest` or
    /// `none`. What comes after the instance has subscribed begins at its beginning.
    #[schema(rename = "auto.offset.reset", example = "earliest")]
    auto_offset_reset: Option<String>,
    /// Whether what the client has handled is committed every five seconds: `true` (the default) or
    /// `false`, also as a string.
    #[schema(rename = "auto.commit.enable", example = false)]
    auto_commit_enable: Option<bool>,
    /// Bytes of keys and values that a read waits for; -1, the default, and 0 and 1 are any.
    #[schema(rename = "fetch.min.bytes", minimum = -1, maximum = 10_000_000)]
    fetch_min_bytes: Option<i64>,
    /// Longest wait of a read, in milliseconds.
    #[schema(rename = "consumer.request.timeout.ms", minimum = 0, maximum = 600_000)]
    consumer_request_timeout_ms: Option<i64>,
    /// Which records of transactions are read: `read_committed` or `read_uncommitted`. Without it, as
    /// the gateway is set. Not in the reference.
    #[schema(rename = "isolation.level", example = "read_committed")]
    isolation_level: Option<String>,
    /// Another name of `auto.commit.enable`.
    #[schema(rename = "enable.auto.commit")]
    enable_auto_commit: Option<bool>,
    /// Another name of `fetch.min.bytes`.
    #[schema(rename = "responseMinBytes", minimum = -1, maximum = 10_000_000)]
    response_min_bytes: Option<i64>,
    /// Another name of `consumer.request.timeout.ms`.
    #[schema(rename = "requestWaitMs", minimum = 0, maximum = 600_000)]
    request_wait_ms: Option<i64>,
}

/// An instance that was made
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct ConsumerInstance {
    /// Its name.
    #[schema(example = "one")]
    instance_id: String,
    /// Where it is to be called: the process that made it is the only one that has it.
    #[schema(example = "http://localhost:8082/consumers/web/instances/one")]
    base_uri: String,
}

const FIELDS: &[&str] = &[
    "name",
    "id",
    "format",
    "auto.offset.reset",
    "auto.commit.enable",
    "enable.auto.commit",
    "fetch.min.bytes",
    "responseMinBytes",
    "consumer.request.timeout.ms",
    "requestWaitMs",
    "isolation.level",
];

/// Make a consumer instance
///
/// It joins the group when it subscribes. Other requests name it, and reach it only in the process that
/// made it. It is gone when it was idle for `rest.consumer_instance_timeout_ms`.
///
/// Needs `group` on the group.
#[utoipa::path(
    post,
    path = "/consumers/{group}",
    operation_id = "createConsumerV2",
    tag = "Compatible REST v2",
    params(("group" = String, Path, description = "The consumer group", example = "web")),
    request_body(
        description = "How the instance is to be; without a body, all is as by default. `responseMinBytes`, `requestWaitMs` and `enable.auto.commit` are other names of `fetch.min.bytes`, `consumer.request.timeout.ms` and `auto.commit.enable`.",
        content((ConsumerRequest = "application/vnd.kafka.v2+json", example = json!({"name": "one", "format": "json", "auto.offset.reset": "earliest", "auto.commit.enable": "false"})), (ConsumerRequest = "application/json"))
    ),
    responses(
        (status = 200, description = "The instance", content(
            (ConsumerInstance = "application/vnd.kafka.v2+json", example = json!({"instance_id": "one", "base_uri": "http://localhost:8082/consumers/web/instances/one"})),
            (ConsumerInstance = "application/json"),
        )),
        CreateErrors,
    )
)]
pub async fn create(
    gateway: Gateway,
    Path(group): Path<String>,
    Extension(principal): Extension<Principal>,
    request: Request,
) -> Result<Response, ApiError> {
    let (parts, body) = request.into_parts();
    let base = gateway
        .own_url()
        .of(&parts, &format!("/consumers/{}", Segment(&group)))?;
    let request = Request::from_parts(parts, body);
    let body = ConsumerBody::from_request(request, &gateway).await?;
    let created = options(&gateway, group, &body.bytes).and_then(|options| {
        let instance = ConsumerInstance {
            instance_id: options.name.clone(),
            base_uri: format!("{base}/instances/{}", Segment(&options.name)),
        };
        let instances = gateway.instances();
        let created = instances.make(options, gateway.clients(), principal);
        created.map(|()| instance).map_err(create_error)
    });
    body.answer.json(created)
}

/// Delete a consumer instance
///
/// Commits what was delivered, if the instance commits by itself, and leaves the group.
///
/// Needs `group` on the group.
#[utoipa::path(
    delete,
    path = "/consumers/{group}/instances/{instance}",
    operation_id = "deleteConsumerV2",
    tag = "Compatible REST v2",
    params(
        Name,
        ("Tidegate-Delivery" = Option<String>, Header, description = "The last answer that the client has, as in reads: an instance that commits by itself commits up to that one. Not in the reference"),
    ),
    responses(
        (status = 204, description = "It is gone"),
        (status = 400, description = "`Tidegate-Delivery` cannot be read"),
        (status = 409, description = "The instance gave no such answer (40903)"),
        InstanceErrors,
    )
)]
pub async fn delete(
    call: InstanceCall,
    InstanceAnswer(answer): InstanceAnswer,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let deleted = async {
        let handle = call.instance()?;
        if let Some(has) = has(&headers)? {
            let acknowledging = call.ask(handle.acknowledge(has));
            if let Ok(acknowledged) = tokio::time::timeout(ACKNOWLEDGING, acknowledging).await {
                acknowledged?;
            }
            // A read that is under way says itself which answer the client has.
        }
        handle.stop(Stop::Deleted);
        let _ = tokio::time::timeout(LEAVING, handle.gone().cancelled()).await;
        Ok(())
    };
    answer.no_content(deleted.await)
}

fn options(gateway: &Gateway, group: String, body: &[u8]) -> Result<Options, ApiError> {
    let rest = &gateway.settings().rest;
    let mut options = Options {
        group,
        name: String::new(),
        format: Embedded::Binary,
        reset: OffsetReset::Latest,
        auto_commit: true,
        fetch_min_bytes: 0,
        timeout: rest.consumer_request_timeout,
        isolation: gateway.cluster().reader.isolation(),
    };
    if let Some(body) = Object::body(body, FIELDS)? {
        read_options(&body, &mut options)?;
    }
    if options.name.is_empty() {
        options.name = made_up(rest.instance_id.as_deref())?;
    }
    Ok(options)
}

fn read_options(body: &Object<'_>, options: &mut Options) -> Result<(), ApiError> {
    let unacceptable = |name: &str, what: String| coded(422, body.pointer(name), what);
    let refused = |name: &str, what: String| coded(42204, body.pointer(name), what);
    for field in ["name", "id"] {
        let Some(name) = body.text(field)? else {
            continue;
        };
        let wrong = if name.is_empty() {
            "is empty".to_owned()
        } else if name.len() > MAX_NAME {
            format!("expected at most {MAX_NAME} bytes")
        } else if matches!(&*name, "." | "..") || name.chars().any(char::is_control) {
            "cannot stand in a path".to_owned()
        } else {
            options.name = name.into_owned();
            continue;
        };
        return Err(unacceptable(field, wrong));
    }
    if let Some(format) = body.text("format")? {
        options.format = match format.to_ascii_lowercase().as_str() {
            "binary" => Embedded::Binary,
            "json" => Embedded::Json,
            "text" => Embedded::Text,
            "avro" | "jsonschema" | "protobuf" => {
                return Err(coded(
                    42207,
                    body.pointer("format"),
                    format!(
                        "{format} needs a schema registry, which this version does not offer; use \
                         json or binary ({JSON}, {BINARY})"
                    ),
                ));
            }
            _ => {
                let given: String = format.chars().take(40).collect();
                let what = format!("expected binary, json or text, not {given:?}");
                return Err(unacceptable("format", what));
            }
        };
    }
    if let Some(reset) = body.text("auto.offset.reset")? {
        options.reset = match reset.to_ascii_lowercase().as_str() {
            "latest" => OffsetReset::Latest,
            "earliest" => OffsetReset::Earliest,
            "none" => OffsetReset::Error,
            _ => {
                let given: String = reset.chars().take(40).collect();
                let what = format!("expected latest, earliest or none, not {given:?}");
                return Err(refused("auto.offset.reset", what));
            }
        };
    }
    for field in ["enable.auto.commit", "auto.commit.enable"] {
        let Some(enable) = body.text(field)? else {
            continue;
        };
        options.auto_commit = match enable.to_ascii_lowercase().as_str() {
            "true" => true,
            "false" => false,
            _ => {
                let given: String = enable.chars().take(40).collect();
                let what = format!("expected true or false, not {given:?}");
                return Err(refused(field, what));
            }
        };
    }
    for field in ["responseMinBytes", "fetch.min.bytes"] {
        if let Some(bytes) = body.number(field)? {
            if !(-1..=MAX_FETCH_MIN_BYTES).contains(&bytes) {
                let what = format!("expected -1 to {MAX_FETCH_MIN_BYTES}, not {bytes}");
                return Err(coded(40001, body.pointer(field), what));
            }
            options.fetch_min_bytes = u64::try_from(bytes).unwrap_or(0);
        }
    }
    for field in ["requestWaitMs", "consumer.request.timeout.ms"] {
        if let Some(ms) = body.number(field)? {
            match u64::try_from(ms) {
                Ok(ms) if i64::try_from(ms).is_ok_and(|ms| ms <= MAX_TIMEOUT_MS) => {
                    options.timeout = Duration::from_millis(ms);
                }
                _ => {
                    let what = format!("expected 0 to {MAX_TIMEOUT_MS}, not {ms}");
                    return Err(refused(field, what));
                }
            }
        }
    }
    if let Some(level) = body.text("isolation.level")? {
        options.isolation = Isolation::parse(&level.to_ascii_lowercase()).ok_or_else(|| {
            let given: String = level.chars().take(40).collect();
            let what = format!("expected read_committed or read_uncommitted, not {given:?}");
            refused("isolation.level", what)
        })?;
    }
    Ok(())
}

/// A name that no other instance has: a UUID (RFC 9562, version 4) after the process's id.
fn made_up(process: Option<&str>) -> Result<String, ApiError> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| {
        ApiError::internal(format_args!(
            "the system has no random numbers for an instance's name: {error}"
        ))
    })?;
    let [.., version, _, variant, _, _, _, _, _, _, _] = &mut bytes;
    *version = *version & 0x0f | 0x40;
    *variant = *variant & 0x3f | 0x80;
    let digits = format!("{:032x}", u128::from_be_bytes(bytes));
    let uuid: Vec<&str> = [(0, 8), (8, 12), (12, 16), (16, 20), (20, 32)]
        .iter()
        .filter_map(|(start, end)| digits.get(*start..*end))
        .collect();
    let process = process.map(|id| format!("{id}-")).unwrap_or_default();
    Ok(format!("rest-consumer-{process}{}", uuid.join("-")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_made_up_are_uuids_after_the_processs_id() {
        let name = made_up(Some("gw-1")).unwrap();
        let uuid = name.strip_prefix("rest-consumer-gw-1-").unwrap();
        let lengths: Vec<usize> = uuid.split('-').map(str::len).collect();
        assert_eq!(lengths, [8, 4, 4, 4, 12]);
        assert_eq!(uuid.as_bytes()[14], b'4', "{uuid}");
        assert!(b"89ab".contains(&uuid.as_bytes()[19]), "{uuid}");
        assert_ne!(made_up(None).unwrap(), made_up(None).unwrap());
    }
}
