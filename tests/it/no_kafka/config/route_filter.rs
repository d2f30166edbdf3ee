//! Routes that are switched off by `http.allow` and `http.block`.

use serde_json::json;

use crate::support::gateway::Gateway;
use crate::support::http::{self, client, send};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_blocked_route_is_answered_as_if_it_did_not_exist() {
    let gateway = Gateway::embedded()
        .set("auth.mode", "none")
        .set(
            "http.block",
            r#"["POST /topics/{topic}/records", "/brokers", "/docs*"]"#,
        )
        .start()
        .await;
    let records = gateway.url("/topics/orders/records");
    let post = http::post_json(&records, &json!({"value": 1})).await;
    assert_eq!(post.status, 405, "{post:?}");
    assert_eq!(post.header("allow"), "GET, DELETE");
    assert_eq!(post.json()["error_code"], 405);
    let message = post.json()["message"].as_str().unwrap().to_owned();
    assert!(message.contains("switched off"), "{message}");
    // The other method of the same path, and another way to write.
    assert_eq!(http::get(&records).await.status, 404, "no such topic yet");
    let v2 = client()
        .post(gateway.url("/topics/orders"))
        .header("content-type", "application/vnd.kafka.json.v2+json")
        .body(r#"{"records":[{"value":1}]}"#);
    assert_eq!(send(v2).await.status, 200);
    assert_eq!(http::get(&records).await.status, 200);
    for path in ["/brokers", "/brokers/", "/docs", "/docs/index.css"] {
        let reply = http::get(&gateway.url(path)).await;
        assert_eq!(reply.status, 404, "{path}");
        assert_eq!(reply.json()["error_code"], 404, "{path}");
    }
    assert_eq!(http::get(&gateway.url("/topics")).await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_an_allow_list_only_its_routes_exist() {
    let gateway = Gateway::embedded()
        .set("http.allow", "GET /topics*")
        .start()
        .await;
    assert_eq!(http::get(&gateway.url("/topics")).await.status, 200);
    assert_eq!(http::get(&gateway.url("/openapi.json")).await.status, 404);
    let post = http::post_json(&gateway.url("/tickets"), &json!({})).await;
    assert_eq!(post.status, 405);
    assert_eq!(post.header("allow"), "");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pattern_that_names_no_route_is_an_error_at_start() {
    let ended = Gateway::embedded()
        .set("http.block", "POST /topic/*")
        .set("http.allow", "get /topics")
        .try_start()
        .await
        .err()
        .unwrap();
    assert_eq!(ended.status.code(), Some(2), "{}", ended.stderr);
    for said in ["http.block", "\"POST /topic/*\"", "http.allow", "capitals"] {
        assert!(ended.stderr.contains(said), "{said}: {}", ended.stderr);
    }
}
