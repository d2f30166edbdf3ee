//! The response layer, the outermost one: gives every request its id, writes every error's body, answers
//! for handlers that panic, keeps answers out of caches whose addresses hold credentials, counts and logs,
//! and holds refusals back where nothing else is answered (`transport/held_back.rs`).

use std::any::Any;
use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use axum::Router;
use axum::body::Body;
use axum::extract::{MatchedPath, Request};
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use futures::FutureExt;
use futures::future::BoxFuture;
use tower::Service;

use super::credentials;
use super::error::ApiError;
use super::request_id::{RequestId, X_REQUEST_ID};
use crate::observe::metrics::Requests;
use crate::transport::connection::Connection;

/// Stands in every answer while the trial broker is in use, so that nobody takes it for a cluster.
const TIDEGATE_BROKER: HeaderName = HeaderName::from_static("tidegate-broker");

/// The route that answered, put into the response by the routes' own layer so that metrics have a
/// bounded label.
#[derive(Debug, Clone)]
pub struct AnsweredBy(pub MatchedPath);

/// Settings of the response layer.
#[derive(Debug, Clone, Copy)]
pub struct ResponseSettings {
    /// Write one log line for each request.
    pub access_log: bool,
    /// Say in each answer that the broker is the embedded one.
    pub embedded: bool,
    /// Give each request an id of the gateway's own beside the client's, for the audit log.
    pub audited: bool,
}

/// `router` with this layer around it. It stands outside of all that a router's own layers can
/// reach: axum adds `Allow` to a 405 after those have run.
pub fn with_response_layer(router: Router, settings: ResponseSettings) -> Router {
    Router::new().fallback_service(ResponseLayer {
        router,
        settings,
        requests: Arc::default(),
    })
}

/// The layer. A service written out, because every request passes here and each of axum's own
/// middlewares costs it two allocations and a copy of all that is inside.
#[derive(Clone)]
struct ResponseLayer {
    router: Router,
    settings: ResponseSettings,
    requests: Arc<Requests>,
}

impl Service<Request> for ResponseLayer {
    type Response = Response;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        // A router is always ready.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request) -> Self::Future {
        let started = Instant::now();
        let tracked = self.settings.audited || self.settings.access_log;
        let id = RequestId::of(request.headers(), tracked);
        let method = request.method().clone();
        let access_log = self.settings.access_log;
        let path = access_log.then(|| request.uri().path().to_owned());
        let has_query_credentials = credentials::are_in(request.uri().query());
        drop_trailing_slash(request.uri_mut());
        request.extensions_mut().insert(id.clone());
        let connection = request.extensions().get::<Arc<Connection>>().cloned();
        let mut router = self.router.clone();
        let (settings, requests) = (self.settings, Arc::clone(&self.requests));
        Box::pin(async move {
            let answer = async move {
                match router.call(request).await {
                    Ok(response) => response,
                    Err(never) => match never {},
                }
            };
            let mut response = caught(answer).await;
            if settings.embedded {
                response
                    .headers_mut()
                    .insert(TIDEGATE_BROKER, HeaderValue::from_static("embedded"));
            }
            let status = response.status();
            if status.is_client_error() || status.is_server_error() {
                write_error(&mut response, &id, method == Method::HEAD);
            }
            if has_query_credentials {
                forbid_caching(&mut response);
            }
            let route = match response.extensions().get::<AnsweredBy>() {
                Some(AnsweredBy(route)) => route.as_str(),
                None => "none",
            };
            requests.count(&method, route, status, started.elapsed());
            if let Some(path) = path {
                tracing::info!(
                    target: "tidegate::access",
                    request_id = id.as_str(), gateway_id = id.own(), %method, path, status = status.as_u16(),
                    duration_us = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX),
                    "request"
                );
            }
            response.headers_mut().insert(X_REQUEST_ID, id.into_value());
            if let Some(hold) =
                connection.and_then(|connection| connection.refused().answered(status))
            {
                tokio::time::sleep(hold).await;
            }
            Ok(response)
        })
    }
}

/// The answer, or 500 where there is a panic instead of one.
pub async fn caught(answer: impl Future<Output = Response>) -> Response {
    match unwound(answer).await {
        Ok(response) => response,
        Err(panicked) => panicked.into_response(),
    }
}

/// What `work` comes to; a panic is an error inside the gateway, whose cause is what the panic said.
pub(super) async fn unwound<T>(work: impl Future<Output = T>) -> Result<T, ApiError> {
    // Nothing that a panic may have left in pieces is looked at afterwards.
    let ended = AssertUnwindSafe(work).catch_unwind().await;
    ended.map_err(|cause| panicked(&*cause))
}

fn panicked(cause: &(dyn Any + Send)) -> ApiError {
    let said = cause
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| cause.downcast_ref::<&str>().copied())
        .unwrap_or("unknown");
    ApiError::internal(format_args!("a handler panicked: {said}"))
}

/// A cache would keep the answer under an address with a credential in it (RFC 6750, section 2.3). An
/// answer that forbids caching may say more beside that, so it keeps its own words.
fn forbid_caching(response: &mut Response) {
    let headers = response.headers_mut();
    let forbids = headers.get_all(header::CACHE_CONTROL).iter().any(|value| {
        let directives = value.to_str().unwrap_or_default().split(',');
        directives
            .map(str::trim)
            .any(|one| one.eq_ignore_ascii_case("no-store"))
    });
    if !forbids {
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
}

/// Clients of Confluent REST Proxy may end a path with a slash, which means nothing there or here.
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
/// a status, and get our shape here. What the gateway could not do is logged here, with its cause.
fn write_error(response: &mut Response, id: &RequestId, head_only: bool) {
    let mut error = match response.extensions_mut().remove::<ApiError>() {
        Some(error) => error,
        // Whatever its body says, nobody has logged it.
        None if response.status() == StatusCode::INTERNAL_SERVER_ERROR => {
            ApiError::internal("an answer was made with this status and without a cause")
        }
        None if response.headers().contains_key(header::CONTENT_TYPE)
            && response.status() != StatusCode::METHOD_NOT_ALLOWED =>
        {
            return;
        }
        None => bare(response),
    };
    if let Some(cause) = error.take_cause() {
        tracing::error!(
            request_id = id.as_str(),
            status = error.status().as_u16(),
            %cause,
            error = error.message(),
            "request failed"
        );
    } else if error.status().is_server_error() {
        tracing::warn!(
            request_id = id.as_str(),
            status = error.status().as_u16(),
            error = error.message(),
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
    *response.body_mut() = if head_only {
        // As a GET would say it. Over HTTP/1 hyper leaves the body out by itself, over HTTP/2 not.
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(json.len()));
        Body::empty()
    } else {
        Body::from(json)
    };
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
    use axum::http::HeaderMap;
    use http_body_util::BodyExt;

    use crate::kafka::fault::{Fault, FaultKind};
    use crate::observe::captured_logs::CapturedLogs;

    async fn answer(method: Method) -> (StatusCode, HeaderMap, serde_json::Value) {
        let panics = Router::new().fallback(async || -> StatusCode { panic!("a test") });
        answer_of(panics, method).await
    }

    async fn answer_of(
        router: Router,
        method: Method,
    ) -> (StatusCode, HeaderMap, serde_json::Value) {
        let settings = ResponseSettings {
            access_log: false,
            embedded: false,
            audited: false,
        };
        let mut request = Request::new(Body::empty());
        *request.method_mut() = method;
        let answered = with_response_layer(router, settings).call(request).await;
        let (head, body) = answered.unwrap().into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let json = serde_json::from_slice(&body).unwrap_or_default();
        (head.status, head.headers, json)
    }

    #[tokio::test]
    async fn a_panic_is_answered_in_our_error_shape() {
        let (status, headers, body) = answer(Method::GET).await;
        assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!(body["error_code"], 500);
        assert_eq!(body["request_id"], headers[X_REQUEST_ID].to_str().unwrap());
    }

    #[tokio::test]
    async fn every_500_has_its_cause_in_the_log_under_the_requests_id() {
        let returned = async || ApiError::internal("no page to read");
        let panics = async || -> StatusCode { panic!("a test") };
        let says_why = async || -> StatusCode { panic!("a test of {}", "formats") };
        // As axum refuses what a handler wants that no layer has put there.
        let by_axum = async |_: axum::Extension<()>| StatusCode::OK;
        for (router, cause) in [
            (Router::new().fallback(returned), "no page to read"),
            (Router::new().fallback(panics), "a handler panicked: a test"),
            (
                Router::new().fallback(says_why),
                "a handler panicked: a test of formats",
            ),
            (
                Router::new().fallback(by_axum),
                "an answer was made with this status and without a cause",
            ),
        ] {
            let logs = CapturedLogs::start();
            let (status, headers, body) = answer_of(router, Method::GET).await;
            assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR, "{cause}");
            let failed: Vec<_> = logs
                .lines()
                .into_iter()
                .filter(|line| line["message"] == "request failed")
                .collect();
            assert_eq!(failed.len(), 1, "{failed:?}");
            assert_eq!(failed[0]["level"], "ERROR");
            assert_eq!(failed[0]["cause"], cause);
            assert_eq!(failed[0]["status"], 500);
            assert_eq!(
                failed[0]["request_id"],
                headers[X_REQUEST_ID].to_str().unwrap()
            );
            assert_eq!(failed[0]["request_id"], body["request_id"]);
            assert!(!body.to_string().contains(cause), "{body}");
        }
    }

    #[tokio::test]
    async fn what_kafka_refused_is_in_the_log_under_the_requests_id() {
        let fault = Fault::new(FaultKind::Other, "the disk is gone");
        let refused = async move || ApiError::from_fault(&fault);
        let logs = CapturedLogs::start();
        let (status, headers, _) = answer_of(Router::new().fallback(refused), Method::GET).await;
        assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);
        let lines = logs.lines();
        assert_eq!(lines[0]["error"], "the disk is gone");
        assert_eq!(
            lines[0]["request_id"],
            headers[X_REQUEST_ID].to_str().unwrap()
        );
    }

    #[tokio::test]
    async fn no_cache_keeps_an_answer_by_a_credential() {
        for (own, expected) in [
            (None, "no-store"),
            (Some("public, max-age=60"), "no-store"),
            (Some("No-Store, no-transform"), "No-Store, no-transform"),
        ] {
            let answers = move |uri: Uri| async move {
                if uri.path() != "/there" {
                    return StatusCode::NOT_FOUND.into_response();
                }
                let mut response = StatusCode::OK.into_response();
                if let Some(own) = own {
                    let own = HeaderValue::from_static(own);
                    response.headers_mut().insert(header::CACHE_CONTROL, own);
                }
                response
            };
            let settings = ResponseSettings {
                access_log: false,
                embedded: false,
                audited: false,
            };
            let router = Router::new().fallback(answers);
            for (uri, is_kept_out) in [
                ("/there?access_token=a", true),
                ("/there/?from=1&ticket=a", true),
                ("/nowhere?access_token=a", true),
                ("/there?from=1", false),
            ] {
                let mut request = Request::new(Body::empty());
                *request.uri_mut() = Uri::from_static(uri);
                let answered = with_response_layer(router.clone(), settings)
                    .call(request)
                    .await;
                let answered = answered.unwrap();
                let said = answered.headers().get(header::CACHE_CONTROL);
                let said = said.map(|value| value.to_str().unwrap());
                let wanted = match (is_kept_out, answered.status()) {
                    (true, StatusCode::OK) => Some(expected),
                    (true, _) => Some("no-store"),
                    (false, _) => own,
                };
                assert_eq!(said, wanted, "{uri} {own:?}");
            }
        }
    }

    #[tokio::test]
    async fn head_gets_no_body() {
        let (status, headers, body) = answer(Method::HEAD).await;
        assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);
        assert!(headers.contains_key(X_REQUEST_ID));
        assert_eq!(body, serde_json::Value::Null);
    }
}
