//! The OpenAPI document, assembled from the rows of the route list.

pub(super) mod common_responses;
mod constraints;
pub(super) mod error_responses;

use axum::http::header;
use axum::response::{IntoResponse, Response};
use utoipa::OpenApi;
use utoipa::openapi::Components;
use utoipa::openapi::security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme};

use super::routes;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Tidegate",
        description = "Apache Kafka for everything that speaks HTTP.\n\nEvery error has the same \
            shape: `error_code`, `message` and, where they help, `field`, `kafka_error`, \
            `retriable` and `request_id`. Every answer carries `X-Request-Id`."
    ),
    tags(
        (name = "Records", description = "Write and read a topic the plain way: no vendor media types, no consumer instance"),
        (name = "Administration", description = "Topics and consumer groups the plain way, for people with curl; REST v3 has more"),
        (name = "WebSocket", description = "Sessions over a WebSocket: members of consumer groups, and writing; the frames are in `/asyncapi.json`"),
        (name = "Compatible REST v2", description = "For clients written for Confluent REST Proxy and its kin; `Accept: application/json` works as well"),
        (name = "Compatible REST v3", description = "Administration, and writing while the connection stays open, for clients and tools written for Confluent REST Proxy"),
        (name = "Gateway", description = "The gateway itself"),
    )
)]
struct Base;

/// The document of the public listeners.
pub fn document() -> utoipa::openapi::OpenApi {
    let mut document = routes::document(Base::openapi());
    let bearer = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .bearer_format("JWT")
        .description(Some(
            "A JSON Web Token of a configured issuer, where `auth.mode` is `jwt`. Its scopes, \
             claims and roles are permissions `action:pattern`, such as `consume:orders.*`.",
        ))
        .build();
    let basic = HttpBuilder::new()
        .scheme(HttpAuthScheme::Basic)
        .description(Some(
            "A name and a password of `auth.users_file`, where there is one.",
        ))
        .build();
    let key = ApiKey::Header(ApiKeyValue::with_description(
        "X-API-Key",
        "An API key of `auth.users_file`, where there is one. It may also stand in `Authorization: \
         Bearer`, in the place of a token.",
    ));
    let components = document.components.get_or_insert_with(Components::new);
    components.add_security_scheme("bearer", SecurityScheme::Http(bearer));
    components.add_security_scheme("basic", SecurityScheme::Http(basic));
    components.add_security_scheme("apiKey", SecurityScheme::ApiKey(key));
    constraints::apply(&mut document);
    document
}

/// The document as it is served, printed by `tidegate openapi` and committed.
pub fn document_json() -> String {
    let mut json = serde_json::to_string_pretty(&document()).unwrap_or_default();
    json.push('\n');
    json
}

/// This document
#[utoipa::path(
    get,
    path = "/openapi.json",
    operation_id = "getOpenApi",
    tag = "Gateway",
    responses((status = 200, description = "OpenAPI 3.1", body = Object, content_type = "application/json"))
)]
pub async fn get() -> Response {
    static JSON: std::sync::LazyLock<String> = std::sync::LazyLock::new(document_json);
    ([(header::CONTENT_TYPE, "application/json")], JSON.as_str()).into_response()
}
