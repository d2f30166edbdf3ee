//! Topics and brokers in the v2 API: on the embedded broker, and when Kafka refuses or is
//! not there.

use krafka::error::ErrorCode;
use krafka::testing::ApiKey;

use crate::support::fault::FaultBroker;
use crate::support::gateway::Gateway;
use crate::support::http::{client, get, send};

const V2: &str = "application/vnd.kafka.v2+json";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_embedded_broker_tells_no_configuration() {
    let gateway = Gateway::embedded().start().await;
    let url = gateway.url("/topics/first");
    let write = client()
        .post(&url)
        .header("content-type", "application/vnd.kafka.json.v2+json")
        .body("{\"records\":[{\"value\":1}]}");
    assert_eq!(send(write).await.status, 200);

    let reply = get(&url).await;

    assert_eq!(
        (reply.status.as_u16(), reply.header("content-type")),
        (200, V2)
    );
    let body = reply.json();
    assert_eq!(body["configs"], serde_json::json!({}));
    assert_eq!(body["partitions"][0]["replicas"][0]["in_sync"], true);
    let brokers = get(&gateway.url("/brokers")).await;
    assert_eq!(brokers.json()["brokers"].as_array().unwrap().len(), 1);
    let offsets = get(&gateway.url("/topics/first/partitions/0/offsets")).await;
    assert_eq!(offsets.json()["beginning_offset"], 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_right_at_the_broker_the_answer_is_403() {
    let kafka = FaultBroker::start().await;
    kafka.create_topic("secret", 1);
    let gateway = Gateway::start(&kafka.bootstrap()).await;
    kafka.fail_always(ApiKey::ListOffsets, ErrorCode::TopicAuthorizationFailed);

    let reply = get(&gateway.url("/topics/secret/partitions/0/offsets")).await;

    assert_eq!(reply.status, 403, "{}", reply.text());
    assert_eq!(reply.json()["error_code"], 40301);
    assert_eq!(reply.header("content-type"), V2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_kafka_is_worth_another_try() {
    let kafka = FaultBroker::start().await;
    kafka.create_topic("silent", 1);
    let gateway = Gateway::builder(&kafka.bootstrap())
        .set("kafka.metadata_timeout_ms", "300")
        .start()
        .await;
    kafka.silence(ApiKey::DescribeTopicPartitions);
    kafka.silence(ApiKey::Metadata);

    let reply = get(&gateway.url("/topics/silent/partitions")).await;

    assert_eq!(reply.status, 500, "{}", reply.text());
    let body = reply.json();
    assert_eq!(
        (&body["error_code"], &body["retriable"]),
        (&50003.into(), &true.into())
    );
    assert_eq!(reply.header("retry-after"), "1");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kafka_that_is_not_there_is_worth_another_try() {
    // Nothing listens on this port.
    let gateway = Gateway::builder("127.0.0.1:1")
        .set("kafka.metadata_timeout_ms", "300")
        .start()
        .await;
    for path in ["/topics", "/brokers", "/topics/orders"] {
        let reply = get(&gateway.url(path)).await;
        let body = reply.json();
        // Whether the refused connection or the time limit is noticed first is up to the client.
        let code = (reply.status.as_u16(), body["error_code"].as_u64().unwrap());
        assert!(
            matches!(code, (500, 50003) | (503, 50302)),
            "{path}: {body}"
        );
        assert_eq!(body["retriable"], true, "{path}");
        assert_eq!(reply.header("content-type"), V2, "{path}");
    }
}
