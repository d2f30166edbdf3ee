//! Writing through the v2 API when the broker errs.

use krafka::error::ErrorCode;
use krafka::testing::ApiKey;
use serde_json::{Value, json};

use crate::support::fault::FaultBroker;
use crate::support::gateway::Gateway;
use crate::support::http::{Reply, client, send};

async fn produce(gateway: &Gateway, topic: &str) -> Reply {
    let request = client()
        .post(gateway.url(&format!("/topics/{topic}")))
        .header("content-type", "application/vnd.kafka.json.v2+json")
        .body("{\"records\":[{\"value\":1}]}");
    send(request).await
}

async fn start(kafka: &FaultBroker) -> Gateway {
    kafka.create_topic("orders", 1);
    Gateway::builder(&kafka.bootstrap())
        .set("kafka.producer.message.timeout.ms", "6000")
        .start()
        .await
}

fn entry(reply: &Reply) -> Value {
    reply.json()["offsets"][0].clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_by_the_broker_is_in_the_entry() {
    let kafka = FaultBroker::start().await;
    let gateway = start(&kafka).await;
    // It is tried again by itself, in case it was refused for another's sake.
    kafka.fail(ApiKey::Produce, 2, ErrorCode::PolicyViolation);

    let reply = produce(&gateway, "orders").await;

    assert_eq!(reply.status, 200, "{}", reply.text());
    let entry = entry(&reply);
    assert_eq!(entry["error_code"], 50002);
    assert_eq!(entry["kafka_error"], "POLICY_VIOLATION");
    assert_eq!(entry["maybe_written"], Value::Null);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_right_gives_the_whole_answer_403() {
    let kafka = FaultBroker::start().await;
    let gateway = start(&kafka).await;
    kafka.fail(ApiKey::Produce, 1, ErrorCode::TopicAuthorizationFailed);

    let reply = produce(&gateway, "orders").await;

    assert_eq!(reply.status, 403, "{}", reply.text());
    assert_eq!(
        reply.header("content-type"),
        "application/vnd.kafka.v2+json"
    );
    let body = reply.json();
    assert_eq!(body["offsets"][0]["error_code"], 40301);
    assert_eq!(body["value_schema_id"], Value::Null);
    assert_eq!(body["error_code"], Value::Null);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refused_credentials_give_the_whole_answer_401() {
    let kafka = FaultBroker::start().await;
    kafka.require_sasl_plain("gateway", "right");
    kafka.create_topic("orders", 1);
    let gateway = Gateway::builder(&kafka.bootstrap())
        .set("kafka.properties.security.protocol", "SASL_PLAINTEXT")
        .set("kafka.properties.sasl.mechanism", "PLAIN")
        .set("kafka.properties.sasl.username", "gateway")
        .set("kafka.properties.sasl.password", "wrong")
        .start()
        .await;

    let reply = produce(&gateway, "orders").await;

    assert_eq!(reply.status, 401, "{}", reply.text());
    assert_eq!(entry(&reply)["error_code"], 40101);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_acknowledgement_is_worth_another_try_and_says_what_that_risks() {
    let kafka = FaultBroker::start().await;
    let gateway = start(&kafka).await;
    // Connected, the second record leaves long before its time is over.
    assert_eq!(entry(&produce(&gateway, "orders").await)["offset"], 0);
    kafka.silence(ApiKey::Produce);

    let reply = produce(&gateway, "orders").await;

    assert_eq!(reply.status, 200, "{}", reply.text());
    let entry = entry(&reply);
    assert_eq!(
        (&entry["error_code"], &entry["maybe_written"]),
        (&json!(50003), &json!(true))
    );
    assert_eq!(entry["offset"], Value::Null);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kafka_that_does_not_answer_is_said_of_each_record() {
    let kafka = FaultBroker::start().await;
    let gateway = start(&kafka).await;
    kafka.silence(ApiKey::DescribeTopicPartitions);
    kafka.silence(ApiKey::Metadata);

    let reply = produce(&gateway, "orders").await;

    assert_eq!(reply.status, 200, "{}", reply.text());
    let entry = entry(&reply);
    assert_eq!(entry["error_code"], 50003);
    assert_eq!(entry["maybe_written"], Value::Null);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_embedded_broker_refuses_the_request() {
    let gateway = Gateway::embedded()
        .set("kafka.embedded_max_bytes", "1 MiB")
        .start()
        .await;
    let value = "x".repeat(900 * 1024);
    let request = || {
        client()
            .post(gateway.url("/topics/first"))
            .header("content-type", "application/vnd.kafka.json.v2+json")
            .body(json!({"records": [{"value": value}]}).to_string())
    };
    assert_eq!(send(request()).await.status, 200);
    let reply = send(request()).await;
    assert_eq!(reply.status, 507, "{}", reply.text());
    assert_eq!(
        reply.header("content-type"),
        "application/vnd.kafka.v2+json"
    );
}
