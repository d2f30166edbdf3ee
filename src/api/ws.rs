//! `GET /ws`: what is asked before a connection becomes a session. All that can be known before is
//! answered as HTTP; browsers cannot read that, so what is found later has close codes.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use axum::Extension;
use axum::body::Body;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::Response;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use crate::auth::Principal;
use crate::auth::audit_context::AuditContext;
use crate::gateway::Gateway;
use crate::http::error::{ApiError, ErrorBody};
use crate::http::extract::Query;
use crate::session::clock::Clock;
use crate::session::driver::SessionDriver;
use crate::session::machine::Session;
use crate::session::machine::url_subscription::Short;
use crate::session::protocol::SUBPROTOCOL;
use crate::session::registry::{Full, Permit};
use crate::transport::connection::Connection;

/// Seconds after which a client that found no place may try again.
const RETRY_AFTER: u64 = 5;

/// What the upgrade has shown.
#[derive(Debug, Clone)]
pub struct Shown {
    /// Whose session it is; `None` where only `hello` can say.
    pub principal: Option<Principal>,
    /// Whose request it was, for whoever is found out later.
    pub audit_context: AuditContext,
    /// Where it comes from, as limits count it.
    pub address: Option<IpAddr>,
}

/// Open a session over a WebSocket
///
/// One socket is one session: with a group it is a real member of a Kafka consumer group, without one it
/// follows topics by itself (a tail), and however many follow a topic, it is read once. The frames
/// are in `/asyncapi.json` and docs/websocket.md. Subprotocol `tidegate.v1`, or none.
///
/// With `topics` or `pattern` the session subscribes at once, as subscription `main`, with `ack=auto`
/// unless said otherwise; `websocat 'ws://localhost:8082/ws?topics=orders'` prints records.
///
/// Credentials: the `Authorization` header, `?ticket=` from `POST /tickets`, the subprotocol
/// `tidegate.bearer.` followed by the token, beside `tidegate.v1`, or the first frame, `hello`. What is
/// shown here must be valid; with nothing shown, `hello` must follow.
///
/// A principal that has too many sessions already gets a 429, too.
///
/// Needs no permission; subscribing needs `consume` on each topic, and `group` on the group if there is
/// one, writing `produce`.
#[utoipa::path(
    get,
    path = "/ws",
    operation_id = "openSession",
    tag = "WebSocket",
    params(
        ("topics" = Option<String>, Query, description = "Topics to subscribe to, separated by commas", example = "orders"),
        ("pattern" = Option<String>, Query, description = "Or a regular expression that whole names must match"),
        ("group" = Option<String>, Query, description = "The consumer group; without it the session follows the topics by itself, as a tail", example = "web"),
        ("instance_id" = Option<String>, Query, description = "Makes the session a static member"),
        ("from" = Option<String>, Query, description = "Of a group, where a partition starts of which nothing is committed: committed (the default: as offset_reset says), earliest, latest, a time, or topic:partition@offset,…; where a tail starts: the same but for committed, latest being the default, and also -N, the last N records of each partition, or a position that the gateway gave"),
        ("offset_reset" = Option<String>, Query, description = "Short for from, from which it must not differ: where a partition of the group starts of which nothing is committed: latest (the default), earliest or error"),
        ("ack" = Option<String>, Query, description = "auto (the default), cumulative or individual"),
        ("key_format" = Option<String>, Query, description = "auto, json, string (the default) or binary"),
        ("value_format" = Option<String>, Query, description = "auto, json (the default), string or binary"),
        ("where" = Option<String>, Query, description = "Only records whose value fulfils all of these, such as `/price>=10;/type==\"x\"`"),
        ("fields" = Option<String>, Query, description = "Of a tail: only these parts of values, as JSON Pointers", example = "/id,/customer/name"),
        ("on_lag" = Option<String>, Query, description = "Of a tail that cannot keep up: catchup (the default), skip or close"),
        ("max_rate" = Option<f64>, Query, description = "Of a tail: most records a second; of those that come in between the newest is sent, the others are left out", minimum = 0.1, maximum = 1000),
        ("conflate" = Option<String>, Query, description = "Of a tail: `key` sends only the newest of each key of the records that wait, because the client reads slowly or because of `max_rate`"),
        ("ticket" = Option<String>, Query, description = "A ticket of kind `ws`"),
    ),
    responses(
        (status = 101, description = "The session begins; `welcome` is its first frame"),
        (status = 400, description = "A parameter that there is not, no valid handshake, or only subprotocols that are not known", body = ErrorBody),
        (status = 426, description = "Not a WebSocket handshake", body = ErrorBody),
        (status = 503, description = "The gateway has no place, or is about to stop; `Retry-After` says when to try again", body = ErrorBody),
    )
)]
pub async fn get(
    State(gateway): State<Gateway>,
    Extension(shown): Extension<Shown>,
    mut request: Request,
) -> Result<Response, ApiError> {
    let key = handshake(&request)?;
    let protocol = subprotocol(request.headers())?;
    let short = short(request.uri().query())?;
    let address = shown.address;
    let permit = permit(&gateway, shown.principal.as_ref(), address)?;
    let gateway = match &shown.principal {
        Some(principal) => gateway.of(principal).await?,
        // Whose it is says the first frame.
        None => gateway,
    };
    let peer = request
        .extensions()
        .get::<ConnectInfo<SocketAddr>>()
        .map(|ConnectInfo(peer)| *peer);
    let extensions = request.extensions_mut();
    let (Some(upgrade), Some(connection)) = (
        extensions.remove::<OnUpgrade>(),
        extensions.remove::<Arc<Connection>>(),
    ) else {
        return Err(not_a_handshake());
    };
    // In a box: what the connection's task is given it keeps to its end, also where it has passed it on.
    let opening = Box::new(Opening {
        gateway: gateway.clone(),
        shown,
        short,
        permit,
        peer,
    });
    let limits = gateway.sessions().limits();
    gateway.sessions().tasks().spawn(async move {
        match upgrade.await {
            Ok(stream) => {
                if let Some(session) = opening.open() {
                    session
                        .serve(TokioIo::new(stream), &connection, limits)
                        .await;
                }
            }
            Err(error) => tracing::debug!(%error, "a connection was not upgraded"),
        }
    });
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    let accept = derive_accept_key(key.as_bytes());
    if let Ok(accept) = HeaderValue::from_str(&accept) {
        headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    }
    if let Some(protocol) = protocol {
        headers.insert(
            header::SEC_WEBSOCKET_PROTOCOL,
            HeaderValue::from_static(protocol),
        );
    }
    Ok(response)
}

/// A connection that is about to be a session.
struct Opening {
    gateway: Gateway,
    shown: Shown,
    short: Option<Short>,
    permit: Permit,
    peer: Option<SocketAddr>,
}

impl Opening {
    /// The session; `None` without random numbers for its id.
    fn open(self) -> Option<Box<SessionDriver>> {
        let now = Instant::now();
        let wall = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(0));
        let Some(id) = session_id() else {
            tracing::error!("the system has no random numbers for a session's id");
            return None;
        };
        let session = Session::new(
            id,
            Arc::clone(self.gateway.sessions().rules()),
            self.shown.principal,
            self.short.map(Short::subscribe),
            Clock::new(now, wall),
            now,
        );
        let run = SessionDriver::new(
            session,
            Arc::clone(self.gateway.session_services()),
            Arc::clone(self.gateway.clients()),
            self.shown.audit_context,
            self.permit,
            self.peer,
        );
        Some(Box::new(run))
    }
}

/// A name that nobody can guess.
fn session_id() -> Option<String> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).ok()?;
    Some(format!("{:032x}", u128::from_be_bytes(bytes)))
}

/// Whether the request wants to be a WebSocket at all: what does not shall not cost a ticket.
pub fn is_handshake(request: &Request) -> bool {
    handshake(request).is_ok()
}

/// The key of a valid handshake (RFC 6455, section 4.2.1).
fn handshake(request: &Request) -> Result<String, ApiError> {
    let headers = request.headers();
    let has = |name: header::HeaderName, token: &str| {
        headers.get_all(name).iter().any(|value| {
            value
                .to_str()
                .is_ok_and(|v| v.split(',').any(|t| t.trim().eq_ignore_ascii_case(token)))
        })
    };
    if request.method() != Method::GET
        || !has(header::UPGRADE, "websocket")
        || !has(header::CONNECTION, "upgrade")
    {
        return Err(not_a_handshake());
    }
    if headers
        .get(header::SEC_WEBSOCKET_VERSION)
        .is_none_or(|version| version != "13")
    {
        return Err(ApiError::bad_request("expected Sec-WebSocket-Version: 13")
            .at("Sec-WebSocket-Version")
            .header(
                header::SEC_WEBSOCKET_VERSION,
                HeaderValue::from_static("13"),
            ));
    }
    let key = headers
        .get(header::SEC_WEBSOCKET_KEY)
        .and_then(|key| key.to_str().ok())
        .filter(|key| key.len() == 24);
    key.map(str::to_owned).ok_or_else(|| {
        ApiError::bad_request("expected Sec-WebSocket-Key, 16 bytes in base64")
            .at("Sec-WebSocket-Key")
    })
}

fn not_a_handshake() -> ApiError {
    ApiError::plain(
        StatusCode::UPGRADE_REQUIRED,
        "this path speaks WebSocket over HTTP/1.1; try websocat \
         'ws://localhost:8082/ws?topics=orders'",
    )
    .header(header::UPGRADE, HeaderValue::from_static("websocket"))
    // An Upgrade header is hop by hop (RFC 9110, section 7.8).
    .header(header::CONNECTION, HeaderValue::from_static("upgrade"))
}

/// The subprotocol to answer with: ours if it is offered, none if nothing is.
fn subprotocol(headers: &HeaderMap) -> Result<Option<&'static str>, ApiError> {
    let mut offered = headers
        .get_all(header::SEC_WEBSOCKET_PROTOCOL)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .filter(|name| !name.is_empty())
        .peekable();
    if offered.peek().is_none() {
        return Ok(None);
    }
    if offered.any(|name| name == SUBPROTOCOL) {
        return Ok(Some(SUBPROTOCOL));
    }
    Err(ApiError::bad_request(format!(
        "none of the subprotocols offered is known; offer {SUBPROTOCOL}, also beside one that \
         carries a token"
    ))
    .at("Sec-WebSocket-Protocol"))
}

/// The short way, if the query is that.
fn short(query: Option<&str>) -> Result<Option<Short>, ApiError> {
    let mut query = Query::parse(query.unwrap_or_default())?;
    let short = Short {
        topics: query.take("topics")?,
        pattern: query.take("pattern")?,
        group: query.take("group")?,
        instance_id: query.take("instance_id")?,
        from: query.take("from")?,
        offset_reset: query.take("offset_reset")?,
        ack: query.take("ack")?,
        key_format: query.take("key_format")?,
        value_format: query.take("value_format")?,
        condition: query.take("where")?,
        fields: query.take("fields")?,
        on_lag: query.take("on_lag")?,
        max_rate: query.take("max_rate")?,
        conflate: query.take("conflate")?,
    };
    query.finish()?;
    Ok((short != Short::default()).then_some(short))
}

fn permit(
    gateway: &Gateway,
    principal: Option<&Principal>,
    address: Option<IpAddr>,
) -> Result<Permit, ApiError> {
    let found = gateway
        .sessions()
        .permit(principal.is_some(), address)
        .and_then(|mut permit| {
            if let Some(principal) = principal {
                permit.belongs_to(principal.identity())?;
            }
            Ok(permit)
        });
    found.map_err(|full| {
        let status = match full {
            Full::OfPrincipal | Full::OfAddress(_) => StatusCode::TOO_MANY_REQUESTS,
            Full::Draining | Full::Sessions | Full::Unknown | Full::Memory => {
                StatusCode::SERVICE_UNAVAILABLE
            }
        };
        ApiError::plain(status, full.to_string()).retry_after(RETRY_AFTER)
    })
}
