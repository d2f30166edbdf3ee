//! `POST /tickets`: a ticket for a page that cannot set a header.

use axum::Extension;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::auth::Principal;
use crate::auth::permission::{Action, Resource, authorize, is_allowed};
use crate::auth::ticket::{NotMinted, Purpose};
use crate::gateway::Gateway;
use crate::http::body;
use crate::http::error::{ApiError, ErrorBody};

/// Largest body: a list of topics.
const MAX_BODY: usize = 256 << 10;
/// Most topics of a ticket, which has to fit into a URL.
const MAX_TOPICS: usize = 50;

/// What a ticket is to be for
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TicketRequest {
    /// `ws` (the default): good for one WebSocket within 30 s, and only for a page of the origin that
    /// asks for it. `sse`: for `GET` of records, event
    /// streams among them, until it expires, and for nothing else.
    #[serde(default, rename = "kind")]
    #[schema(value_type = Option<String>, example = "sse")]
    purpose: Option<Purpose>,
    /// Only these topics; without it, all that you may read (or write, over a WebSocket).
    #[schema(example = json!(["orders"]))]
    topics: Option<Vec<String>>,
}

/// A ticket
#[derive(Debug, Serialize, ToSchema)]
pub struct Ticket {
    /// Goes into the URL as `?ticket=`.
    ticket: String,
    /// When it expires, in milliseconds since 1970.
    expires_at: u64,
    /// In how many milliseconds.
    expires_in_ms: u64,
}

/// Get a ticket for a WebSocket or an event stream
///
/// `new WebSocket()` and `EventSource` cannot set headers. A ticket stands in for your token in their
/// URL. It never outlives the token, cannot be used to get another ticket, and is good for pages of the
/// origin that asked for it alone.
///
/// Needs no permission beyond those that the ticket is to stand for.
#[utoipa::path(
    post,
    path = "/tickets",
    operation_id = "createTicket",
    tag = "Gateway",
    request_body(content = TicketRequest, description = "What it is for; may be empty", example = json!({"kind": "sse", "topics": ["orders"]})),
    responses(
        (status = 201, description = "The ticket", body = Ticket, example = json!({"ticket": "eyJ…", "expires_at": 1_700_000_030_000_u64, "expires_in_ms": 30_000})),
        (status = 400, description = "The body is not JSON", body = ErrorBody),
        (status = 403, description = "Neither reading nor writing a topic is allowed, or a ticket was shown instead of a token", body = ErrorBody),
        (status = 422, description = "A field is not as expected", body = ErrorBody),
        (status = 503, description = "The issuer's keys cannot be had now", body = ErrorBody),
    )
)]
pub async fn create(
    State(gateway): State<Gateway>,
    Extension(principal): Extension<Principal>,
    request: Request,
) -> Result<Response, ApiError> {
    let (parts, body) = request.into_parts();
    let page = parts.headers.get(header::ORIGIN);
    let page = page.and_then(|page| page.to_str().ok()).map(str::to_owned);
    let time = gateway.settings().http.request_timeout;
    let part = gateway.bodies().part(&principal);
    let body = body::read(part, &parts.headers, body, MAX_BODY, time).await?;
    let asked: TicketRequest = if body.iter().all(u8::is_ascii_whitespace) {
        TicketRequest::default()
    } else {
        serde_json::from_slice(&body).map_err(|error| refused(&error))?
    };
    if let Some(topics) = &asked.topics {
        check_topics(&principal, topics)?;
    }
    let minted = gateway
        .auth()
        .tickets()
        .mint(
            &principal,
            asked.purpose.unwrap_or(Purpose::WebSocket),
            asked.topics,
            page,
        )
        .map_err(|error| not_minted(&error))?;
    let ticket = Ticket {
        ticket: minted.ticket,
        expires_at: minted.expires * 1000,
        expires_in_ms: minted.lasts * 1000,
    };
    Ok((
        StatusCode::CREATED,
        [(header::CACHE_CONTROL, "no-store")],
        axum::Json(ticket),
    )
        .into_response())
}

fn check_topics(principal: &Principal, topics: &[String]) -> Result<(), ApiError> {
    if topics.is_empty() || topics.len() > MAX_TOPICS {
        return Err(
            ApiError::unprocessable(format!("topics: expected 1 to {MAX_TOPICS} names"))
                .at("/topics"),
        );
    }
    for (index, topic) in topics.iter().enumerate() {
        // Writing is as good; reading is what the message is about.
        if is_allowed(principal, Action::Produce, Resource::Topic(topic)) {
            continue;
        }
        if let Err(denied) = authorize(principal, Action::Consume, Resource::Topic(topic)) {
            return Err(ApiError::from(denied).at(format!("/topics/{index}")));
        }
    }
    Ok(())
}

fn not_minted(error: &NotMinted) -> ApiError {
    match error {
        NotMinted::ByTicket => ApiError::new(StatusCode::FORBIDDEN, 40301, error.to_string()),
        NotMinted::Untold(denied) => denied.clone().into(),
        NotMinted::Unsealed(_) => ApiError::internal(error),
    }
}

fn refused(error: &serde_json::Error) -> ApiError {
    match error.classify() {
        serde_json::error::Category::Data => ApiError::unprocessable(error.to_string()),
        _ => ApiError::not_json(error),
    }
}
