//! CORS: which pages of other origins may call, and what they may see, from `http.cors.origins`.
//!
//! Origins are exact, so credentials may be allowed. Without origins nothing of this is there: the
//! answers have no CORS header and `OPTIONS` is a method like any other.

use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use axum::middleware::{self, Next};
use axum::response::Response;
use tower::{Layer, ServiceExt};
use tower_http::cors::{AllowHeaders, AllowOrigin, CorsLayer};

/// How long a browser may keep the answer to a preflight: the longest that any of them takes.
const MAX_AGE: Duration = Duration::from_secs(7200);

/// Request headers that the API reads, beside those that need no permission.
const ALLOWED: [HeaderName; 11] = [
    header::AUTHORIZATION,
    HeaderName::from_static("x-api-key"),
    header::CONTENT_TYPE,
    header::CONTENT_ENCODING,
    header::ACCEPT,
    HeaderName::from_static("idempotency-key"),
    HeaderName::from_static("last-event-id"),
    HeaderName::from_static("x-request-id"),
    HeaderName::from_static("tidegate-delivery"),
    HeaderName::from_static("traceparent"),
    HeaderName::from_static("tracestate"),
];
/// Beginning of the request headers that become a record's.
const ALLOWED_PREFIX: &str = "kafka-header-";

/// Answer headers that a page may read, beside those that need no permission.
const EXPOSED: [HeaderName; 14] = [
    HeaderName::from_static("x-request-id"),
    header::RETRY_AFTER,
    header::LOCATION,
    header::ALLOW,
    header::WWW_AUTHENTICATE,
    HeaderName::from_static("ratelimit-limit"),
    HeaderName::from_static("ratelimit-remaining"),
    HeaderName::from_static("ratelimit-reset"),
    HeaderName::from_static("idempotency-replayed"),
    HeaderName::from_static("tidegate-broker"),
    HeaderName::from_static("tidegate-failed-records"),
    HeaderName::from_static("kafka-partition"),
    HeaderName::from_static("kafka-offset"),
    HeaderName::from_static("kafka-timestamp"),
];
/// Beginnings of further ones, which are named where they occur.
const EXPOSED_PREFIXES: [&str; 2] = ["kafka-", "tidegate-"];

/// `router` with CORS around it for these origins, or as it is when there are none. `methods` are
/// those of the routes.
pub fn allowed(
    router: Router,
    origins: &[String],
    methods: impl IntoIterator<Item = Method>,
) -> Router {
    let origins: Vec<HeaderValue> = origins
        .iter()
        // The layer would take the first for "any"; the second is anybody's.
        .filter(|origin| !matches!(origin.as_str(), "*" | "null"))
        .filter_map(|origin| HeaderValue::from_str(origin).ok())
        .collect();
    if origins.is_empty() {
        return router;
    }
    let mut methods: Vec<Method> = methods.into_iter().chain([Method::HEAD]).collect();
    methods.sort_by(|a, b| a.as_str().cmp(b.as_str()));
    methods.dedup();
    let cors = CorsLayer::new()
        .allow_origin(AllowOrigin::list(origins))
        .allow_credentials(true)
        // A public page that calls a gateway in a private network, in browsers that ask for it.
        .allow_private_network(true)
        .allow_methods(methods)
        .allow_headers(AllowHeaders::mirror_request())
        .expose_headers(EXPOSED)
        .max_age(MAX_AGE);
    let around = middleware::from_fn_with_state(router.clone(), around);
    Router::new().fallback_service(around.layer(cors.layer(router)))
}

/// What the layer does not do itself. `router` is what stands behind it.
async fn around(State(router): State<Router>, mut request: Request, next: Next) -> Response {
    if request.method() == Method::OPTIONS {
        if !is_preflight(request.headers()) {
            // The layer would answer it all the same, and with success.
            return router
                .oneshot(request)
                .await
                .unwrap_or_else(|never| match never {});
        }
        // The layer repeats what is asked for, so what is not allowed must not be asked for.
        let asked = allowed_of(request.headers());
        let headers = request.headers_mut();
        match HeaderValue::from_str(&asked) {
            Ok(asked) if !asked.is_empty() => {
                headers.insert(header::ACCESS_CONTROL_REQUEST_HEADERS, asked);
            }
            _ => {
                headers.remove(header::ACCESS_CONTROL_REQUEST_HEADERS);
            }
        }
        return next.run(request).await;
    }
    let mut response = next.run(request).await;
    if let Some(further) = further_exposed(response.headers()) {
        response
            .headers_mut()
            .append(header::ACCESS_CONTROL_EXPOSE_HEADERS, further);
    }
    response
}

fn is_preflight(headers: &HeaderMap) -> bool {
    headers.contains_key(header::ORIGIN)
        && headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
}

/// Of the headers that a preflight asks for, those that the API reads.
fn allowed_of(headers: &HeaderMap) -> String {
    let asked = headers
        .get_all(header::ACCESS_CONTROL_REQUEST_HEADERS)
        .iter()
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(','))
        .map(|name| name.trim().to_ascii_lowercase());
    let allowed = asked.filter(|name| {
        name.starts_with(ALLOWED_PREFIX) || ALLOWED.iter().any(|allowed| allowed.as_str() == name)
    });
    allowed.collect::<Vec<_>>().join(",")
}

/// Names in an answer that begin as what may be read does and are not in the list.
fn further_exposed(headers: &HeaderMap) -> Option<HeaderValue> {
    let names: Vec<&str> = headers
        .keys()
        .filter(|name| !EXPOSED.contains(name))
        .map(HeaderName::as_str)
        .filter(|name| {
            EXPOSED_PREFIXES
                .iter()
                .any(|prefix| name.starts_with(prefix))
        })
        .collect();
    if names.is_empty() {
        return None;
    }
    HeaderValue::from_str(&names.join(",")).ok()
}

#[cfg(test)]
mod tests;
