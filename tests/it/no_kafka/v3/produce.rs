//! Writing through the v3 API when the broker errs, and with tokens.

use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt, stream};
use krafka::error::ErrorCode;
use krafka::testing::ApiKey;
use reqwest::Body;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::support::fault::FaultBroker;
use crate::support::gateway::Gateway;
use crate::support::http::{client, post_text, send};
use crate::support::tokens::{SECRET, claims, seconds_from_now, sign, token};
use crate::v3::cluster_id;

const BOUND: Duration = Duration::from_secs(90);
const RECORD: &str = r#"{"value":{"type":"STRING","data":"x"}}"#;
const BATCH: &str = r#"{"entries":[{"id":"1","value":{"type":"STRING","data":"x"}}]}"#;

async fn start(kafka: &FaultBroker) -> (Gateway, String) {
    kafka.create_topic("orders", 1);
    let gateway = Gateway::builder(&kafka.bootstrap())
        .set("kafka.producer.message.timeout.ms", "6000")
        .start()
        .await;
    let cluster = cluster_id(&gateway).await;
    let url = gateway.url(&format!("/v3/clusters/{cluster}/topics/orders/records"));
    (gateway, url)
}

/// The result of one record that is streamed.
async fn streamed(url: &str) -> Value {
    let reply = post_text(url, RECORD).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    serde_json::from_str(reply.text().strip_suffix("\r\n").unwrap()).unwrap()
}

/// The failure of a batch of one record.
async fn failure(url: &str) -> Value {
    let reply = post_text(&format!("{url}:batch"), BATCH).await;
    assert_eq!(reply.status, 207, "{}", reply.text());
    assert_eq!(reply.header("tidegate-failed-records"), "1");
    reply.json()["failures"][0].clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_broker_refuses_is_in_the_results() {
    let kafka = FaultBroker::start().await;
    let (_gateway, url) = start(&kafka).await;
    // What may have been refused for another's sake is tried again by itself.
    for (error, code, name) in [
        (ErrorCode::PolicyViolation, 50002, "POLICY_VIOLATION"),
        (
            ErrorCode::TopicAuthorizationFailed,
            40301,
            "TOPIC_AUTHORIZATION_FAILED",
        ),
    ] {
        kafka.fail_always(ApiKey::Produce, error);
        let result = streamed(&url).await;
        assert_eq!(result["error_code"], code, "{result}");
        assert_eq!(result["kafka_error"], name);
        assert_eq!(result["offset"], Value::Null);
        let failed = failure(&url).await;
        assert_eq!(
            (&failed["id"], &failed["error_code"]),
            (&json!("1"), &json!(code))
        );
        kafka.clear_hooks();
        // After a missing right the library refuses everything for the topic until it asks again.
        if error == ErrorCode::PolicyViolation {
            assert_eq!(streamed(&url).await["error_code"], 200);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_acknowledgement_is_worth_another_try_and_says_what_that_risks() {
    let kafka = FaultBroker::start().await;
    let (_gateway, url) = start(&kafka).await;
    // Connected, the second record leaves long before its time is over.
    assert_eq!(streamed(&url).await["offset"], 0);
    kafka.silence(ApiKey::Produce);

    let result = streamed(&url).await;

    assert_eq!(result["error_code"], 50003, "{result}");
    assert_eq!(result["maybe_written"], true);
}

/// A gateway with the embedded broker that asks for tokens, and the path of `orders`.
async fn with_tokens() -> (Gateway, String) {
    let gateway = Gateway::embedded().with_tokens().start().await;
    let list = client()
        .get(gateway.url("/v3/clusters"))
        .bearer_auth(token("ann", "produce:orders"));
    let list = send(list).await.json();
    let cluster = list["data"][0]["cluster_id"].as_str().unwrap();
    let path = format!("/v3/clusters/{cluster}/topics/orders/records");
    (gateway, path)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_permission_that_is_missing_is_told_before_the_stream() {
    let (gateway, path) = with_tokens().await;
    for (end, body) in [("", RECORD), (":batch", BATCH)] {
        for (scope, status) in [("consume:orders", 403), ("produce:bills", 403)] {
            let request = client().post(gateway.url(&format!("{path}{end}")));
            let request = request.header("content-type", "application/json");
            let reply = send(request.bearer_auth(token("ann", scope)).body(body)).await;
            assert_eq!(reply.status, status, "{scope}");
            assert_eq!(reply.json()["error_code"], 40301);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_ends_with_its_token() {
    let (gateway, path) = with_tokens().await;
    // Long enough to be used before, on a busy machine.
    let mut expiring = claims("ann", "produce:orders");
    expiring["exp"] = seconds_from_now(20).into();
    let (feed, mut fed) = mpsc::channel::<&'static str>(1);
    let body = stream::poll_fn(move |context| fed.poll_recv(context))
        .map(|text| Ok::<_, std::io::Error>(Bytes::from_static(text.as_bytes())));
    let request = client()
        .post(gateway.url(&path))
        .bearer_auth(sign(&expiring, SECRET.as_bytes()))
        .header("content-type", "application/json")
        .body(Body::wrap_stream(body));
    let reply = tokio::spawn(request.send());
    feed.send(RECORD).await.unwrap();
    let reply = timeout(BOUND, reply).await.unwrap().unwrap().unwrap();
    assert_eq!(reply.status(), 200);
    let text = timeout(BOUND, reply.text())
        .await
        .expect("it ends")
        .unwrap();
    drop(feed);
    let codes: Vec<Value> = text
        .split_terminator("\r\n")
        .map(|result| serde_json::from_str::<Value>(result).unwrap()["error_code"].clone())
        .collect();
    assert_eq!(codes, [200, 40101], "{text}");
    assert!(text.contains("expired; 1 records were written"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_embedded_broker_is_said_of_each_record() {
    let gateway = Gateway::embedded()
        .set("kafka.embedded_max_bytes", "1 MiB")
        .start()
        .await;
    let cluster = cluster_id(&gateway).await;
    let url = gateway.url(&format!("/v3/clusters/{cluster}/topics/first/records"));
    let large = json!({"value": {"type": "STRING", "data": "x".repeat(900 * 1024)}}).to_string();
    let codes = async || {
        let reply = post_text(&url, &large).await;
        let result: Value = serde_json::from_str(reply.text().trim_end()).unwrap();
        result["error_code"].as_i64().unwrap()
    };
    assert_eq!(codes().await, 200);
    assert_eq!(codes().await, 507);
}
