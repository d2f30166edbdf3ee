//! What a reader meets when a broker answers a fetch with an error, or not at all: the records all
//! the same where that is possible, else a clear answer within its bound, and never a 500.

use std::time::{Duration, Instant};

use krafka::error::ErrorCode;
use krafka::testing::{ApiKey, Control};
use serde_json::{Value, json};

use crate::support::fault::FaultBroker;
use crate::support::gateway::Gateway;
use crate::support::http::{self, Reply};
use crate::support::{assert_readable, eventually};

const TOPIC: &str = "orders";

/// Longest time for a page that cannot be read.
const PAGE: Duration = Duration::from_secs(55);

/// Five records on a broker, and a gateway that has read them once.
async fn read_once(broker: &FaultBroker) -> Gateway {
    broker.create_topic(TOPIC, 1);
    let gateway = Gateway::builder(&broker.bootstrap())
        .set("telemetry.log_level", "info")
        .start()
        .await;
    let url = gateway.url(&format!("/topics/{TOPIC}/records"));
    let body: Vec<Value> = (0..5).map(|n| json!({ "value": n })).collect();
    assert_eq!(http::post_json(&url, &json!(body)).await.status, 200);
    assert_eq!(page(&gateway).await.status, 200);
    gateway
}

async fn page(gateway: &Gateway) -> Reply {
    let began = Instant::now();
    let reply = http::get(&gateway.url(&format!("/topics/{TOPIC}/records?from=earliest"))).await;
    assert!(began.elapsed() < PAGE, "{:?}", began.elapsed());
    reply
}

fn values(reply: &Reply) -> Vec<Value> {
    assert_eq!(reply.status, 200, "{reply:?}");
    let body = reply.json();
    let records = body["records"].as_array().unwrap();
    records
        .iter()
        .map(|record| record["value"].clone())
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fetch_that_fails_is_tried_again() {
    let broker = FaultBroker::start().await;
    let gateway = read_once(&broker).await;
    broker.disconnect(ApiKey::Fetch, 3);
    assert_eq!(values(&page(&gateway).await), [0, 1, 2, 3, 4]);

    for error in [
        ErrorCode::NotLeaderForPartition,
        ErrorCode::UnknownLeaderEpoch,
        ErrorCode::FencedLeaderEpoch,
        ErrorCode::OffsetNotAvailable,
        ErrorCode::UnknownTopicOrPartition,
        ErrorCode::FetchSessionIdNotFound,
        ErrorCode::InvalidFetchSessionEpoch,
    ] {
        broker.fail(ApiKey::Fetch, 2, error);
        assert_eq!(values(&page(&gateway).await), [0, 1, 2, 3, 4], "{error:?}");
    }
    assert!(
        !gateway.stderr().contains("without close"),
        "{}",
        gateway.stderr()
    );
    assert_readable(&gateway.stderr());
}

/// The handle that is at hand knows the old leader, which is gone and cannot say so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_moved_while_nobody_read_is_found() {
    let broker = FaultBroker::cluster(3).await;
    let gateway = read_once(&broker).await;
    let old = broker.request_nodes(ApiKey::Fetch)[0];
    let new = (old + 1) % 3;
    broker.crash(old);
    broker.set_broker_online(old, false);
    broker.set_leader(TOPIC, 0, new);

    let mut reply = page(&gateway).await;
    let end = Instant::now() + Duration::from_secs(180);
    while reply.status != 200 {
        // The offsets are asked of the old leader until that is known to be gone.
        assert!(reply.status == 503 || reply.status == 504, "{reply:?}");
        assert!(Instant::now() < end, "{reply:?}");
        reply = page(&gateway).await;
    }
    assert_eq!(values(&reply), [0, 1, 2, 3, 4]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idle_handles_outlive_a_restart_of_the_broker() {
    let broker = FaultBroker::start().await;
    let gateway = read_once(&broker).await;
    broker.crash(0);
    let reply = page(&gateway).await;
    assert!(reply.status == 503 || reply.status == 504, "{reply:?}");
    assert_eq!(reply.json()["retriable"], true);
    broker.restart(0);
    eventually(Duration::from_secs(60), async || {
        page(&gateway).await.status == 200
    })
    .await;
    assert_eq!(values(&page(&gateway).await), [0, 1, 2, 3, 4]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_truncated_under_the_read_is_gone() {
    let broker = FaultBroker::start().await;
    let gateway = read_once(&broker).await;
    // Not for one fetch only: that may be the one by which the reader before takes its leave.
    broker.fail_always(ApiKey::Fetch, ErrorCode::OffsetOutOfRange);
    let reply = page(&gateway).await;
    broker.clear_hooks();
    assert_eq!(reply.status, 410, "{reply:?}");
    assert_eq!(reply.json()["kafka_error"], "OFFSET_OUT_OF_RANGE");
    assert_eq!(values(&page(&gateway).await).len(), 5);
}

/// The broker holds the connection and answers nothing on it any more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: a page waits as long as it may"]
async fn a_silent_broker_is_a_timeout_and_does_not_spoil_what_comes_after() {
    let broker = FaultBroker::start().await;
    let gateway = read_once(&broker).await;
    broker.silence(ApiKey::Fetch);
    for _ in 0..3 {
        let reply = page(&gateway).await;
        assert!(reply.status == 503 || reply.status == 504, "{reply:?}");
        assert_eq!(reply.json()["retriable"], true);
    }
    broker.clear_hooks();
    assert_eq!(values(&page(&gateway).await), [0, 1, 2, 3, 4]);
    assert!(
        !gateway.stderr().contains("without close"),
        "{}",
        gateway.stderr()
    );
    assert_readable(&gateway.stderr());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damaged_records_are_said_to_be_damaged() {
    let broker = FaultBroker::start().await;
    let gateway = read_once(&broker).await;
    broker.on(ApiKey::Fetch, |_| Control::CorruptRecords);
    let reply = page(&gateway).await;
    assert_eq!(reply.status, 500, "{reply:?}");
    let body = reply.json();
    assert_eq!(body["error_code"], 50002, "{body}");
    assert_eq!(body["retriable"], false, "{body}");
    let message = body["message"].as_str().unwrap();
    assert!(
        message.contains("cannot be decoded") && message.contains("0@0"),
        "{body}"
    );
    broker.clear_hooks();
    assert_eq!(values(&page(&gateway).await), [0, 1, 2, 3, 4]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: a page waits as long as it may"]
async fn a_refused_fetch_ends_in_its_bound() {
    let broker = FaultBroker::start().await;
    let gateway = read_once(&broker).await;
    broker.fail_always(ApiKey::Fetch, ErrorCode::TopicAuthorizationFailed);
    let reply = page(&gateway).await;
    // krafka does not say why, so neither can the answer.
    assert_eq!(reply.status, 504, "{reply:?}");
    broker.clear_hooks();
    assert_eq!(values(&page(&gateway).await), [0, 1, 2, 3, 4]);
}
