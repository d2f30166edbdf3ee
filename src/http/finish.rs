//! The outermost layer: gives every request its id, writes every error's body, counts and logs.

use std::time::Instant;

use axum::Router;
use axum::body::Body;
use axum::extract::{MatchedPath, Request};
use axum::http::{HeaderName, HeaderValue, StatusCode, Uri, header};
use axum::middleware::{self, Next};
use axum::response::Response;
use tower::Layer;

use super::error::ApiError;
use super::request_id::{RequestId, X_REQUEST_ID};

/// Stands in every answer while the trial broker is in use, so that nobody takes it for a cluster.
const TIDEGATE_BROKER: HeaderName = HeaderName::from_static("tidegate-broker");

/// The route that answered, put into the response by the routes' own layer so that metrics have a
/// bounded label.
#[derive(Debug, Clone)]
pub struct AnsweredBy(pub MatchedPath);

/// Settings of this layer.
#[derive(Debug, Clone, Copy)]
pub struct Finish {
    /// Write one log line for each request.
    pub access_log: bool,
    /// Say in each answer that the broker is the embedded one.
    pub embedded: bool,
}

/// `router` with this layer around it. It stands outside of all that a router's own layers can
/// reach: axum adds `Allow` to a 405 after those have run.
pub fn finished(router: Router, settings: Finish) -> Router {
    let layer = middleware::from_fn_with_state(settings, finish);
    Router::new().fallback_service(layer.layer(router))
}

/// Runs the request and finishes its answer.
async fn finish(
    axum::extract::State(settings): axum::extract::State<Finish>,
    mut request: Request,
    next: Next,
) -> Response {
    let started = Instant::now();
    let id = RequestId::of(request.headers());
    request.extensions_mut().insert(id.clone());
    let method = request.method().clone();
    let path = settings.access_log.then(|| request.uri().path().to_owned());
    drop_trailing_slash(request.uri_mut());
    let mut response = next.run(request).await;
    response.headers_mut().insert(X_REQUEST_ID, id.value());
    if settings.embedded {
        response
            .headers_mut()
            .insert(TIDEGATE_BROKER, HeaderValue::from_static("embedded"));
    }
    if response.status().is_client_error() || response.status().is_server_error() {
        write_error(&mut response, &id);
    }
    let status = response.status();
    let route = response
        .extensions()
        .get::<AnsweredBy>()
        .map_or("none", |AnsweredBy(route)| route.as_str())
        .to_owned();
    crate::observe::metrics::request(&method, &route, status, started.elapsed());
    if let Some(path) = path {
        tracing::info!(
            target: "tidegate::access",
            request_id = id.as_str(), %method, path, status = status.as_u16(),
            duration_us = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX),
            "request"
        );
    }
    response
}

/// Clients of the reference may end a path with a slash, which means nothing there or here.
fn drop_trailing_slash(uri: &mut Uri) {
    let path = uri.path();
    let shorter = path.strip_suffix('/');
    let Some(shorter) = shorter.filter(|path| !path.is_empty() && !path.ends_with('/')) else {
        return;
    };
    let path_and_query = match uri.query() {
        Some(query) => format!("{shorter}?{query}"),
        None => shorter.to_owned(),
    };
    let mut parts = uri.clone().into_parts();
    // Part of a valid path is one, so neither of these fails; if it did, the path would stay.
    if let Ok(path_and_query) = path_and_query.parse() {
        parts.path_and_query = Some(path_and_query);
        if let Ok(changed) = Uri::from_parts(parts) {
            *uri = changed;
        }
    }
}

/// Errors from handlers carry an [`ApiError`]; those that axum or a layer made (405, 404) have only
/// a status, and get our shape here.
fn write_error(response: &mut Response, id: &RequestId) {
    let error = match response.extensions_mut().remove::<ApiError>() {
        Some(error) => error,
        None if response.headers().contains_key(header::CONTENT_TYPE)
            && response.status() != StatusCode::METHOD_NOT_ALLOWED =>
        {
            return;
        }
        None => bare(response),
    };
    if error.status().is_server_error() {
        tracing::warn!(
            request_id = id.as_str(),
            status = error.status().as_u16(),
            error = ?error,
            "request failed"
        );
    }
    let content_type = HeaderValue::from_static(error.content_type());
    let mut body = error.into_body();
    body.request_id = Some(id.as_str().to_owned());
    let json = serde_json::to_vec(&body).unwrap_or_default();
    let headers = response.headers_mut();
    headers.remove(header::CONTENT_LENGTH);
    headers.insert(header::CONTENT_TYPE, content_type);
    *response.body_mut() = Body::from(json);
}

fn bare(response: &Response) -> ApiError {
    let status = response.status();
    let allow = response
        .headers()
        .get(header::ALLOW)
        .and_then(|value| value.to_str().ok());
    match (status, allow) {
        (StatusCode::METHOD_NOT_ALLOWED, Some(allow)) => ApiError::plain(
            status,
            format!("this path does not take that method; it takes {allow}"),
        ),
        _ => ApiError::plain(status, status.canonical_reason().unwrap_or("error")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slash_at_the_end_means_nothing() {
        for (given, becomes) in [
            ("/topics/", "/topics"),
            ("/topics/?a=/", "/topics?a=/"),
            ("/topics", "/topics"),
            ("/topics//", "/topics//"),
            ("/", "/"),
            ("//", "//"),
            ("http://kafka:8082/topics/", "http://kafka:8082/topics"),
            ("*", "*"),
        ] {
            let mut uri: Uri = given.parse().unwrap();
            drop_trailing_slash(&mut uri);
            assert_eq!(uri.to_string(), becomes);
        }
    }
}
