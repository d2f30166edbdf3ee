//! Preflights and answers, as a browser judges them.

use axum::body::Body;
use axum::http::StatusCode;
use axum::response::IntoResponse;

use super::*;

const PAGE: &str = "https://app.example";

async fn answer(origins: &[&str], request: axum::http::request::Builder) -> Response {
    let origins: Vec<String> = origins.iter().map(|&origin| origin.to_owned()).collect();
    let router = Router::new().fallback(|method: Method| async move {
        if method == Method::OPTIONS {
            return StatusCode::METHOD_NOT_ALLOWED.into_response();
        }
        [("tidegate-new", "1"), ("kafka-offset", "7"), ("other", "1")].into_response()
    });
    let methods = [Method::GET, Method::POST, Method::GET];
    allowed(router, &origins, methods)
        .oneshot(request.body(Body::empty()).unwrap())
        .await
        .unwrap()
}

fn get(response: &Response, name: &str) -> String {
    let values = response.headers().get_all(name).iter();
    values
        .map(|value| value.to_str().unwrap().to_ascii_lowercase())
        .collect::<Vec<_>>()
        .join(",")
}

fn preflight(origin: &str) -> axum::http::request::Builder {
    Request::builder()
        .method(Method::OPTIONS)
        .header("origin", origin)
        .header("access-control-request-method", "POST")
}

#[tokio::test]
async fn a_preflight_of_a_listed_origin_is_answered_whole() {
    let asked = "content-type,Authorization, kafka-header-trace,idempotency-key,x-evil,cookie,\
                 traceparent,TraceState,tidegate-delivery";
    let request = preflight(PAGE)
        .header("access-control-request-headers", asked)
        .header("access-control-request-private-network", "true");
    let response = answer(&[PAGE, "https://other.example"], request).await;

    assert_eq!(response.status(), StatusCode::OK);
    for (name, expected) in [
        ("access-control-allow-origin", PAGE),
        ("access-control-allow-credentials", "true"),
        ("access-control-allow-methods", "get,head,post"),
        (
            "access-control-allow-headers",
            "content-type,authorization,kafka-header-trace,idempotency-key,traceparent,tracestate,\
             tidegate-delivery",
        ),
        ("access-control-allow-private-network", "true"),
        ("access-control-max-age", "7200"),
    ] {
        assert_eq!(get(&response, name), expected, "{name}");
    }
    assert!(get(&response, "vary").contains("origin"));
}

#[tokio::test]
async fn a_preflight_of_another_origin_is_given_none() {
    for origin in ["https://evil.example", "null", "*"] {
        let response = answer(&[PAGE, "null", "*"], preflight(origin)).await;
        assert_eq!(get(&response, "access-control-allow-origin"), "");
    }
}

#[tokio::test]
async fn an_answer_exposes_what_its_page_may_read() {
    let request = Request::builder().header("origin", PAGE);
    let response = answer(&[PAGE], request).await;

    assert_eq!(get(&response, "access-control-allow-origin"), PAGE);
    assert_eq!(get(&response, "access-control-allow-credentials"), "true");
    assert!(get(&response, "vary").contains("origin"));
    let exposed = get(&response, "access-control-expose-headers");
    let exposed: Vec<&str> = exposed.split(',').map(str::trim).collect();
    for name in [
        "x-request-id",
        "retry-after",
        "ratelimit-remaining",
        "kafka-offset",
        "tidegate-new",
    ] {
        assert!(exposed.contains(&name), "{name} is not in {exposed:?}");
    }
    assert!(!exposed.contains(&"other"));
}

#[tokio::test]
async fn options_without_a_question_is_a_method_like_any_other() {
    for request in [
        Request::builder().method(Method::OPTIONS),
        Request::builder()
            .method(Method::OPTIONS)
            .header("origin", PAGE),
    ] {
        let response = answer(&[PAGE], request).await;
        assert_eq!(response.status(), StatusCode::METHOD_NOT_ALLOWED);
    }
}

#[tokio::test]
async fn without_origins_there_is_no_cors() {
    let response = answer(&[], Request::builder().header("origin", PAGE)).await;
    assert!(
        response
            .headers()
            .keys()
            .all(|name| !name.as_str().starts_with("access-control-") && name != "vary")
    );
    let response = answer(&[], preflight(PAGE)).await;
    assert_eq!(response.status(), StatusCode::METHOD_NOT_ALLOWED);
}
