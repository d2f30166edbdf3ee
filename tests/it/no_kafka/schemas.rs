//! The folder of schemas: at start, while it changes, and what an answer says at the most.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::gateway::{Builder, Gateway};
use crate::support::http::{Reply, get, post_json};
use crate::support::ws::Client;
use crate::support::{eventually, metric};

/// The gateway looks at its files every two seconds, and takes what is the same twice; a busy machine takes
/// its time.
const BOUND: Duration = Duration::from_secs(60);

const OBJECT: &str = r#"{"type": "object"}"#;
const ARRAY: &str = r#"{"type": "array"}"#;

fn builder() -> Builder {
    Gateway::embedded()
        .set("schema.folder", "schemas")
        .file("schemas/orders-value.json", OBJECT)
}

async fn post(gateway: &Gateway, topic: &str, value: Value) -> Reply {
    let url = gateway.url(&format!("/topics/{topic}/records"));
    post_json(&url, &json!({ "value": value })).await
}

async fn status(gateway: &Gateway, topic: &str, value: Value) -> u16 {
    post(gateway, topic, value).await.status.as_u16()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broken_file_at_start_is_named_with_every_other_and_nothing_listens() {
    let Err(ended) = builder()
        .file("schemas/a-value.json", "{")
        .file("schemas/b-key.json", r#"{"type": "strnig"}"#)
        .try_start()
        .await
    else {
        panic!("it started");
    };
    assert_eq!(ended.status.code(), Some(2), "{}", ended.stderr);
    for line in [
        "schemas/a-value.json: not valid JSON: EOF",
        "schemas/b-key.json: /type: ",
    ] {
        assert!(ended.stderr.contains(line), "{}", ended.stderr);
    }
    assert!(!ended.stderr.contains("orders-value"), "{}", ended.stderr);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settings_that_could_check_nothing_are_refused() {
    let refused = async |key: &str, value: &str, words: &str| {
        let Err(ended) = Gateway::embedded().set(key, value).try_start().await else {
            panic!("it started with {key}={value}");
        };
        assert_eq!(ended.status.code(), Some(2), "{}", ended.stderr);
        assert!(ended.stderr.contains(words), "{}", ended.stderr);
    };
    refused("schema.folder", "nowhere", "nowhere cannot be read").await;
    refused("schema.default_value", "check", "there is no schema.folder").await;
    let rule = r#"[{ topic = "orders", value = "check" }]"#;
    refused("schema.topics", rule, "set without schema.folder").await;
    let rule = r#"[{ topic = "orders", value = "encode" }]"#;
    refused("schema.topics", rule, "needs a schema registry").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn policies_go_by_topic_and_a_missing_schema_fails_closed() {
    let gateway = builder()
        .file("schemas/raw-orders-value.json", OBJECT)
        .set(
            "schema.topics",
            r#"[{ topic = "raw-*", value = "off" }, { topic = "*-strict", value = "check" }]"#,
        )
        .start()
        .await;
    assert_eq!(status(&gateway, "orders", json!([])).await, 422);
    assert_eq!(status(&gateway, "orders", json!({})).await, 200);
    assert_eq!(status(&gateway, "raw-orders", json!([])).await, 200);
    assert_eq!(status(&gateway, "other", json!([])).await, 200);
    let missing = post(&gateway, "users-strict", json!({})).await;
    assert_eq!(missing.status, 422, "{}", missing.text());
    let error = missing.json();
    assert_eq!(error["field"], "/value");
    let message = error["message"].as_str().unwrap();
    assert!(
        message.contains("users-strict-value.json is missing in schema.folder"),
        "{message}"
    );
    for (labels, count) in [
        (r#"schema_checks_total{part="value",result="valid"}"#, 1.0),
        (r#"schema_checks_total{part="value",result="invalid"}"#, 1.0),
        (
            r#"schema_checks_total{part="value",result="no_schema"}"#,
            1.0,
        ),
        (r#"schema_checks_total{part="key",result="valid"}"#, 0.0),
    ] {
        let text = get(&gateway.management_url("/metrics")).await;
        let line = format!("{labels} {count}");
        assert!(text.text().contains(&line), "no {line} in {}", text.text());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn schemas_are_read_again_and_one_that_broke_keeps_its_last_version() {
    let gateway = builder().start().await;
    assert_eq!(status(&gateway, "orders", json!({})).await, 200);
    assert_eq!(metric(&gateway, "schema_files_invalid").await, 0.0);

    gateway.replace_file("schemas/orders-value.json", ARRAY);
    eventually(BOUND, async || {
        status(&gateway, "orders", json!([])).await == 200
    })
    .await;
    assert_eq!(status(&gateway, "orders", json!({})).await, 422);

    // Broken, beside one that is new.
    gateway.replace_file("schemas/orders-value.json", r#"{"type": "#);
    gateway.replace_file("schemas/users-value.json", OBJECT);
    eventually(BOUND, async || {
        status(&gateway, "users", json!([])).await == 422
    })
    .await;
    assert_eq!(status(&gateway, "orders", json!([])).await, 200);
    assert_eq!(status(&gateway, "orders", json!({})).await, 422);
    assert!(gateway.stderr().contains("a changed schema cannot be used"));
    assert!(
        gateway
            .stderr()
            .contains("schemas/orders-value.json: not valid JSON")
    );
    assert_eq!(metric(&gateway, "schema_reload_failures_total").await, 1.0);
    assert_eq!(metric(&gateway, "schema_files_invalid").await, 1.0);

    gateway.replace_file("schemas/orders-value.json", OBJECT);
    eventually(BOUND, async || {
        status(&gateway, "orders", json!({})).await == 200
    })
    .await;
    assert_eq!(metric(&gateway, "schema_files_invalid").await, 0.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_about_many_bad_records_is_bounded() {
    let gateway = builder().start().await;
    let long = "x".repeat(2_000);
    let records: Vec<Value> = (0..1_000).map(|_| json!({ "value": long })).collect();
    let url = gateway.url("/topics/orders/records");
    let reply = post_json(&url, &Value::from(records)).await;
    assert_eq!(reply.status, 422);
    let error = reply.json();
    assert_eq!(error["records"].as_array().unwrap().len(), 100);
    assert_eq!(error["records"][99]["index"], 99);
    let message = error["message"].as_str().unwrap();
    assert!(
        message.starts_with("1000 of 1000 records are not valid"),
        "{message}"
    );
    assert!(reply.text().len() < 100 * 400, "{}", reply.text().len());

    // Over a socket each record has its result, and no result is long.
    let mut client = Client::welcomed(&gateway).await;
    let records: Vec<Value> = (0..500).map(|_| json!({ "value": long })).collect();
    let answer = client
        .ask(json!({"type": "produce", "id": 1, "topic": "orders", "records": records}))
        .await;
    let results = answer["results"].as_array().unwrap();
    assert_eq!(results.len(), 500);
    assert!(
        answer.to_string().len() < 500 * 400,
        "{}",
        answer.to_string().len()
    );
}
