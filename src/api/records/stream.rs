//! Streams of records: `GET /topics/{topic}/records` and `GET /records?topics=` as NDJSON and as server-sent
//! events. They go on as records come, and a client that was cut off goes on where it was.
//! Here they are asked for and answered; what makes them is in `stream/`.

use std::convert::Infallible;
use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures::stream;

use super::read::RecordPage;
use super::{EVENT_STREAM, JSON, NDJSON, page};
use crate::auth::Principal;
use crate::gateway::Gateway;
use crate::http::error::{ApiError, ErrorBody};
use crate::http::extract::Query;
use crate::http::negotiate;
use crate::http::request_id::RequestId;
use crate::kafka::metadata::Topic;
use crate::position::StartPosition;
use crate::read::error::ReadError;
use crate::read::partitions::{Part, Scope};
use crate::stream::encoder::RecordView;
use crate::stream::error::{ErrorEvent, TellError};
use crate::stream::event_format::{self, Transport};
use crate::stream::limits::Full;
use crate::stream::params::{Asked, Origin, Until};
use crate::stream::run::{OVER, RETRY_BUSY, RecordStream, StreamTopics};
use crate::stream::start_offsets;
use crate::transport::connection::Connection;

/// Most topics of one stream.
const MOST_TOPICS: usize = 16;

/// Who asks for a stream, and over what.
pub(super) struct Caller {
    pub(super) gateway: Gateway,
    pub(super) principal: Principal,
    pub(super) connection: Option<Arc<Connection>>,
    pub(super) headers: HeaderMap,
    pub(super) request_id: RequestId,
}

/// The topics that a query names, so that the permission for each can be asked.
///
/// # Errors
///
/// 400 where the query cannot be read.
pub fn named(query: Option<&str>) -> Result<Vec<String>, ApiError> {
    let mut query = Query::parse(query.unwrap_or_default())?;
    list(&mut query)
}

/// The parameter `topics`. It is read before anything is decided, so that too many are refused before the
/// audit log has a line for each.
fn list(query: &mut Query) -> Result<Vec<String>, ApiError> {
    let topics = query.take("topics")?;
    let topics = topics.as_deref().unwrap_or_default();
    let mut list: Vec<String> = Vec::new();
    for topic in topics.split(',').map(str::trim).filter(|t| !t.is_empty()) {
        if !list.iter().any(|known| known == topic) {
            list.push(topic.to_owned());
        }
    }
    if list.len() > MOST_TOPICS {
        let problem = format!("topics: at most {MOST_TOPICS}");
        return Err(ApiError::bad_request(problem).at("topics"));
    }
    Ok(list)
}

/// The parameters of streams alone.
#[derive(Debug, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "the query is read by hand; this describes it")]
pub struct OfStreams {
    /// Of a stream: the id after which to go on; before `from`. The header `Last-Event-ID` stands before both. Taken in
    /// any spelling, such as `lastEventId`; the last one counts.
    last_event_id: Option<String>,
    /// Of a stream: its longest time, in milliseconds.
    #[param(minimum = 1, maximum = 86_400_000)]
    timeout: Option<u64>,
    /// Of a stream: `none` for the values alone; `full` is the default.
    meta: Option<String>,
    /// Of a stream, when the reader is too slow: `catchup` (default, reads on from Kafka), `skip` (goes on with what is
    /// new, after a `gap`) or `close`.
    on_lag: Option<String>,
    /// Of a stream: most records a second; of those that come in between the newest is sent, the others are left out.
    #[param(minimum = 0.1, maximum = 1000)]
    max_rate: Option<f64>,
    /// Of a stream: `key`; of records that wait because the client reads slowly, or because of `max_rate`, only the
    /// newest of each key is sent.
    conflate: Option<String>,
    /// Of a stream: seconds of silence before a sign of life (15).
    #[param(minimum = 5, maximum = 60)]
    heartbeat: Option<u64>,
    /// Of a stream: milliseconds that an `EventSource` waits before it connects again (a random time of 1 to 5 s).
    #[param(minimum = 1, maximum = 600_000)]
    retry: Option<u64>,
    /// Of a stream: `every` for an id on every event, where there are more than 8 partitions too; `time` for ids that
    /// are good in a cluster that mirrors the topics, too; or both.
    #[param(example = "every,time")]
    ids: Option<String>,
}

/// Read topics: a page, or a stream
///
/// As JSON a page of all of them, as `GET /topics/{topic}/records` has it of one; topics that have something
/// to read share it.
///
/// With `Accept: application/x-ndjson`, or `text/event-stream` for server-sent events, records as they
/// come, for ever unless `until`, `limit` or `timeout` says otherwise. However many read a topic, it is read from Kafka
/// once. The id of an event is a position over all partitions: whoever connects again with
/// `Last-Event-ID` goes on exactly there, on any gateway of the same cluster.
///
/// Beside records there are the events `ready` (where it really begins), `gap` (offsets that do not
/// come, and why), `reset` (the position could not be used, and why), `lag`, `auth-expiring`, `drain`,
/// `stream-error` and `end`, and in NDJSON `position` (it has moved over what is left out). In NDJSON they are lines with the field `event`. After `end` a client
/// that comes back gets 204.
///
/// Needs `consume` on each of the topics. Which records are shown may depend on the token
/// (`auth.topic_filters`).
#[utoipa::path(
    get,
    path = "/records",
    operation_id = "streamRecords",
    tag = "Records",
    params(
        ("topics" = String, Query, description = "The topics, as a comma list (at most 16)", example = "orders,payments"),
        ("from" = Option<String>, Query, description = "`latest` (default), `earliest`, `-N` (the last N of each partition), an ISO 8601 time or milliseconds, an id, or `topic:partition@offset,…`", example = "-10"),
        ("until" = Option<String>, Query, description = "`end`: what is there now; of streams also a time, past or future, or a position", example = "end"),
        ("limit" = Option<u64>, Query, description = "Most records; of a page 100 where it is not given, and no more than 10000", minimum = 1),
        ("wait" = Option<u64>, Query, description = "Of a page, when there is nothing to read yet: milliseconds to wait for the first record (0)", maximum = 25000),
        ("partitions" = Option<String>, Query, description = "Only these; a topic that is not named is read whole. A number without a topic is of the topic before it", example = "orders:0,orders:2-3,users:1"),
        ("key" = Option<String>, Query, description = "Only records with this key"),
        ("key_prefix" = Option<String>, Query, description = "Only records whose key begins so"),
        ("header.NAME" = Option<String>, Query, description = "Only records with a header of this name and value"),
        ("where" = Option<String>, Query, description = "Only records whose value fulfils all of these, such as `/price>=10;/type==\"x\";/a/b exists`"),
        ("fields" = Option<String>, Query, description = "Only these parts of values, as JSON Pointers", example = "/id,/customer/name"),
        ("key_format" = Option<String>, Query, description = "`auto`, `json`, `string` or `binary`"),
        ("value_format" = Option<String>, Query, description = "`auto`, `json`, `string` or `binary`"),
        ("isolation" = Option<String>, Query, description = "`read_committed`, or `read_uncommitted` to see records of open and aborted transactions too; without it as `kafka.consumer` is set"),
        OfStreams,
    ),
    responses(
        (status = 200, description = "The page, or the stream", content((RecordPage = "application/json"), (String = "application/x-ndjson"), (String = "text/event-stream"))),
        (status = 204, description = "The stream with this id is over"),
        (status = 400, description = "A parameter cannot be read", body = ErrorBody),
        (status = 403, description = "No permission, here or at the broker, or no claim by which records are shown", body = ErrorBody),
        (status = 404, description = "No such topic or partition", body = ErrorBody),
        (status = 406, description = "`Accept` asks for what is not offered; the answer lists what is", body = ErrorBody),
        (status = 410, description = "Of a page: `from` is no longer in the log; `earliest` says where it starts now", body = ErrorBody),
        (status = 429, description = "The principal has as many streams as it may", body = ErrorBody),
        (status = 503, description = "Kafka cannot be reached, or there are too many streams; try again", body = ErrorBody),
        (status = 504, description = "Kafka did not answer in time", body = ErrorBody),
    )
)]
pub async fn several(
    gateway: Gateway,
    Extension(principal): Extension<Principal>,
    connection: Option<Extension<Arc<Connection>>>,
    Extension(request_id): Extension<RequestId>,
    headers: HeaderMap,
    mut query: Query,
) -> Result<Response, ApiError> {
    let kind = negotiate::accept(&headers, &[JSON, NDJSON, EVENT_STREAM])?;
    let topics = list(&mut query)?;
    if topics.is_empty() {
        let problem = "topics: name at least one, as in topics=orders,payments";
        return Err(ApiError::bad_request(problem).at("topics"));
    }
    if kind == JSON {
        return page::answer(&gateway, &principal, &topics, query).await;
    }
    let caller = Caller {
        gateway,
        principal,
        connection: connection.map(|Extension(connection)| connection),
        headers,
        request_id,
    };
    Ok(answer(caller, topics, kind, query).await)
}

/// A stream of these topics. The permissions have been asked for.
pub(super) async fn answer(
    caller: Caller,
    topics: Vec<String>,
    kind: &'static str,
    query: Query,
) -> Response {
    let transport = Transport::of(kind);
    let comes_back = comes_back(&caller.headers);
    match begin(caller, topics, transport, query).await {
        Ok(response) => response,
        Err(error) if transport == Transport::Sse && comes_back && error.is_worth_retrying() => {
            busy(error).into_response()
        }
        Err(error) => error.into_response(),
    }
}

async fn begin(
    caller: Caller,
    topics: Vec<String>,
    transport: Transport,
    mut query: Query,
) -> Result<Response, ApiError> {
    let Caller {
        gateway,
        principal,
        connection,
        headers,
        request_id,
    } = caller;
    let asked = Asked::parse(&mut query, &headers, gateway.cluster())?;
    query.finish()?;
    if matches!(&asked.origin, Origin::Id(id) if id.ends_with(OVER)) {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let scope = Scope::new(
        gateway.cluster(),
        &gateway.settings().streams.keyed_topics,
        &principal,
        &topics,
        &asked.partitions,
        &asked.filter,
    )
    .await?;
    let Scope { parts, visibility } = scope;
    let cluster = gateway.cluster();
    let cluster_id = cluster.id().await?;
    // What a person wrote is answered as such; an id that is no good is told in the stream.
    if let Origin::From(StartPosition::ResumeToken(text)) = &asked.origin {
        written(text, &parts)?;
    }
    if let Some(Until::ResumeToken(text)) = &asked.until {
        start_offsets::resume_token(text, &cluster_id, &parts)
            .map_err(|error| ApiError::bad_request(format!("until: {error}")).at("until"))?;
    }
    let permit = gateway
        .streams()
        .permit(transport.name(), principal.identity(), connection)
        .map_err(full)?;
    let encoder = gateway.streams().encoders().encoder(RecordView {
        transport,
        formats: asked.formats,
        bare: asked.bare,
        fields: asked.fields.clone(),
        filter: asked.filter.clone(),
        visibility,
    });
    let mut run = RecordStream::new(
        gateway.clients(),
        &principal,
        permit,
        encoder,
        tell_error(request_id),
        StreamTopics { parts, cluster_id },
        asked,
    );
    run.hello();
    // On the heap: the state of a stream is not moved with every piece.
    let pieces = stream::unfold(Box::new(run), |mut run| async move {
        let piece = run.piece().await?;
        Some((Ok::<_, Infallible>(piece), run))
    });
    Ok(streamed(transport, Body::from_stream(pieces)))
}

/// A resume token in `from` that is written out must fit the request; an opaque one is looked at later.
fn written(text: &str, parts: &[Part]) -> Result<(), ApiError> {
    if !text.contains('@') {
        return Ok(());
    }
    let topics: Vec<&Topic> = parts.iter().map(|part| &*part.topic).collect();
    match crate::position::decode(text, "", &topics) {
        Ok(_) => Ok(()),
        Err(error) => Err(ReadError::Position(error).into()),
    }
}

fn streamed(transport: Transport, body: Body) -> Response {
    const X_ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");
    let mut response = (
        [
            (header::CONTENT_TYPE, transport.content_type()),
            (header::CACHE_CONTROL, "no-store, no-transform"),
        ],
        body,
    )
        .into_response();
    // nginx would gather what comes.
    let headers = response.headers_mut();
    headers.insert(X_ACCEL_BUFFERING, HeaderValue::from_static("no"));
    response
}

/// Whether this is an `EventSource`, which never comes back after another status than 200: that of a
/// browser, or one elsewhere that has been here before.
fn comes_back(headers: &HeaderMap) -> bool {
    headers.contains_key("last-event-id")
        || headers
            .get(header::USER_AGENT)
            .and_then(|agent| agent.to_str().ok())
            .is_some_and(|agent| agent.starts_with("Mozilla/"))
}

/// How a stream tells its client of an error, and the log of its cause.
fn tell_error(request_id: RequestId) -> TellError {
    Arc::new(move |error, event| {
        let error = ApiError::from(error).logged_under(request_id.as_str());
        if let Some(event) = event {
            error_event(error, event);
        }
    })
}

fn error_event(error: ApiError, event: ErrorEvent<'_>) {
    let ErrorEvent { out, transport, id } = event;
    event_format::event(out, transport, "stream-error", id, &error.into_body());
}

fn busy(error: ApiError) -> Response {
    let mut out = Vec::new();
    event_format::retry(&mut out, RETRY_BUSY);
    let event = ErrorEvent {
        out: &mut out,
        transport: Transport::Sse,
        id: None,
    };
    error_event(error, event);
    streamed(Transport::Sse, Body::from(out))
}

fn full(full: Full) -> ApiError {
    let status = match full {
        Full::Tails => StatusCode::SERVICE_UNAVAILABLE,
        Full::OfPrincipal => StatusCode::TOO_MANY_REQUESTS,
    };
    ApiError::plain(status, full.to_string()).retry()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::permission::Denied;
    use crate::kafka::fault::{Fault, FaultKind};
    use crate::stream::error::StreamError;

    #[test]
    fn an_error_of_a_stream_is_an_event_with_the_body_of_an_answer() {
        let id = RequestId::of(&HeaderMap::new(), false);
        let tell = tell_error(id);
        let told = |error: &StreamError, transport, id| {
            let mut out = Vec::new();
            let event = ErrorEvent {
                out: &mut out,
                transport,
                id,
            };
            tell(error.clone(), Some(event));
            String::from_utf8(out).unwrap()
        };
        let fault = Fault::new(FaultKind::UnknownTopic, "topic orders does not exist");
        for (error, body) in [
            (
                StreamError::Kafka(fault),
                r#"{"error_code":40401,"message":"topic orders does not exist","retriable":false}"#,
            ),
            (
                StreamError::NotAllowed(ReadError::VisibilityChanged),
                r#"{"error_code":40301,"message":"other records are shown to you now (auth.topic_filters): ask again"}"#,
            ),
            (
                StreamError::Expired,
                r#"{"error_code":40101,"message":"the token or certificate has expired; connect again with a new one"}"#,
            ),
            (
                StreamError::Recreated("orders".to_owned()),
                r#"{"error_code":503,"message":"topic orders was deleted and created again; connect again","retriable":true}"#,
            ),
            (
                StreamError::Busy,
                r#"{"error_code":503,"message":"too many others are catching up; connect again with the last id","retriable":true}"#,
            ),
        ] {
            assert_eq!(
                told(&error, Transport::Sse, Some("a")),
                format!("event: stream-error\nid: a\ndata: {body}\n\n")
            );
            assert_eq!(
                told(&error, Transport::Ndjson, None),
                format!("{{\"event\":\"stream-error\",\"data\":{body}}}\n")
            );
        }
        let gone = StreamError::NotAllowed(ReadError::Denied(Denied::Gone));
        assert!(told(&gone, Transport::Sse, None).contains(r#""error_code":40101,"#));
    }
}
