//! What becomes of records when the broker answers with an error, or does not answer: each its
//! clear outcome, and `maybe_written` exactly where the record may be in the topic.

use std::time::{Duration, Instant};

use krafka::error::ErrorCode;
use krafka::testing::{ApiKey, Control};
use serde_json::{Value, json};

use crate::support::fault::FaultBroker;
use crate::support::gateway::Gateway;
use crate::support::http::{self, Reply};
use crate::support::kafka_client::KafkaClient;
use crate::support::{eventually, metric};

const TOPIC: &str = "orders";
const BOUND: Duration = Duration::from_secs(60);

async fn faulty() -> FaultBroker {
    let broker = FaultBroker::start().await;
    broker.create_topic(TOPIC, 1);
    broker
}

/// A gateway that gives a record up after six seconds, and has its connection: what it is given is sent
/// long before that.
async fn impatient(broker: &FaultBroker) -> Gateway {
    let gateway = Gateway::builder(&broker.bootstrap())
        .set("kafka.producer.message.timeout.ms", "6000")
        .start()
        .await;
    eventually(BOUND, async || {
        post(&gateway, &json!("first")).await.status == 200
    })
    .await;
    gateway
}

async fn post(gateway: &Gateway, value: &Value) -> Reply {
    let url = gateway.url(&format!("/topics/{TOPIC}/records"));
    http::post_json(&url, &json!({ "value": value })).await
}

async fn texts(broker: &FaultBroker) -> Vec<String> {
    let records = KafkaClient::new(&broker.bootstrap())
        .consume_all(TOPIC)
        .await;
    records
        .iter()
        .filter_map(|record| record.text().map(str::to_owned))
        .collect()
}

/// The idempotent producer retries and the broker knows the batch: once, and the client never
/// hears of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_answer_is_asked_for_again_and_makes_no_duplicate() {
    let broker = faulty().await;
    let gateway = Gateway::start(&broker.bootstrap()).await;
    broker.lose_answers(ApiKey::Produce, 1);

    let reply = post(&gateway, &json!(1)).await;

    assert_eq!(reply.status, 200, "{reply:?}");
    assert_eq!(reply.json()["offset"], 0);
    assert_eq!(texts(&broker).await, ["1"]);
    assert!(broker.request_count(ApiKey::Produce) >= 2);
}

/// The result of a record that is written to `topic` in each of the three shapes over HTTP.
async fn written(gateway: &Gateway, before_each: impl Fn()) -> Vec<Value> {
    let url = gateway.url(&format!("/topics/{TOPIC}/records"));
    before_each();
    let json = http::post_json(&url, &json!({ "value": 1 })).await.json();
    before_each();
    let lines = http::client()
        .post(&url)
        .header("content-type", "application/x-ndjson")
        .body("{\"value\":1}\n");
    let line = http::send(lines).await.json();
    before_each();
    let v2 = http::client()
        .post(gateway.url(&format!("/topics/{TOPIC}")))
        .header("content-type", "application/vnd.kafka.json.v2+json")
        .body(r#"{"records":[{"value":1}]}"#);
    let v2 = http::send(v2).await.json()["offsets"][0].clone();
    assert_eq!(v2["error_code"], Value::Null, "{v2}");
    vec![json, line, v2]
}

/// What a broker says of a batch that it has taken before, and of which it does not know any more where it is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_written_record_whose_offset_is_not_known_says_why() {
    let broker = faulty().await;
    let gateway = Gateway::start(&broker.bootstrap()).await;
    let known_before = || {
        let code = ErrorCode::DuplicateSequenceNumber;
        let answer = move || Control::ApplyThen(Box::new(Control::Error(code)));
        broker.on_times(ApiKey::Produce, 1, move |_| answer());
    };
    for result in written(&gateway, known_before).await {
        assert_eq!(result["offset"], Value::Null, "{result}");
        assert_eq!(result["offset_unknown"], "retried", "{result}");
        assert_eq!(result["partition"], 0, "{result}");
    }
    for result in written(&gateway, || ()).await {
        assert!(result["offset"].is_i64(), "{result}");
        assert_eq!(result.get("offset_unknown"), None, "{result}");
    }
    let unasked = Gateway::builder(&broker.bootstrap())
        .set("kafka.producer.acks", "0")
        .start()
        .await;
    for result in written(&unasked, || ()).await {
        assert_eq!(result["offset"], Value::Null, "{result}");
        assert_eq!(result["offset_unknown"], "acks_0", "{result}");
    }
    // Each is there once; nobody waited for the last ones.
    eventually(BOUND, async || texts(&broker).await.len() == 9).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_whose_answer_never_came_is_maybe_written() {
    let broker = faulty().await;
    let gateway = impatient(&broker).await;
    broker.lose_answers(ApiKey::Produce, 10_000);

    let reply = post(&gateway, &json!("there")).await;

    assert_eq!(reply.status, 504, "{reply:?}");
    let body = reply.json();
    assert_eq!(body["maybe_written"], true, "{body}");
    assert_eq!(body["retriable"], true);
    broker.clear_hooks();
    assert_eq!(texts(&broker).await, [r#""first""#, r#""there""#]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_record_of_an_array_says_whether_it_may_be_there() {
    let broker = faulty().await;
    let gateway = impatient(&broker).await;
    broker.silence(ApiKey::Produce);

    let url = gateway.url(&format!("/topics/{TOPIC}/records"));
    let reply = http::post_json(&url, &json!([{"value": 1}, {"value": 2}])).await;

    assert_eq!(reply.status, 200, "{reply:?}");
    assert_eq!(reply.header("tidegate-failed-records"), "2", "{reply:?}");
    for outcome in reply.json().as_array().unwrap() {
        assert_eq!(outcome["maybe_written"], true, "{outcome}");
        assert_eq!(outcome["error_code"], 504, "{outcome}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_that_was_never_sent_is_certainly_not_written() {
    let broker = faulty().await;
    let gateway = impatient(&broker).await;
    broker.crash(0);
    // By then its connections have been seen to be gone: nothing is sent into one of them.
    eventually(BOUND, async || {
        let readiness = http::get(&gateway.management_url("/readyz")).await;
        readiness.status == 503
    })
    .await;

    let began = Instant::now();
    let reply = post(&gateway, &json!("never")).await;

    assert!(reply.status == 504 || reply.status == 503, "{reply:?}");
    let body = reply.json();
    assert_eq!(body["retriable"], true, "{body}");
    assert_eq!(body.get("maybe_written"), None, "{body}");
    assert!(began.elapsed() < Duration::from_secs(45));
    broker.restart(0);
    eventually(BOUND, async || {
        post(&gateway, &json!("later")).await.status == 200
    })
    .await;
    assert!(!texts(&broker).await.contains(&r#""never""#.to_owned()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_produce_error_that_passes_is_retried_and_not_seen_by_the_client() {
    for error in [
        ErrorCode::NotEnoughReplicas,
        ErrorCode::NotLeaderForPartition,
        ErrorCode::UnknownProducerId,
    ] {
        let broker = faulty().await;
        let gateway = Gateway::start(&broker.bootstrap()).await;
        assert_eq!(post(&gateway, &json!(0)).await.status, 200);
        broker.fail(ApiKey::Produce, 1, error);
        let reply = post(&gateway, &json!(1)).await;
        assert_eq!(reply.status, 200, "{error:?} {reply:?}");
        assert_eq!(texts(&broker).await, ["0", "1"], "{error:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_error_that_stays_is_passed_on_in_kafkas_words() {
    let broker = faulty().await;
    let gateway = Gateway::start(&broker.bootstrap()).await;
    for (error, status, name) in [
        (ErrorCode::MessageTooLarge, 413, "MESSAGE_TOO_LARGE"),
        (ErrorCode::InvalidTimestamp, 400, "INVALID_TIMESTAMP"),
        // The library refuses everything for this topic from then on, until it asks again.
        (
            ErrorCode::TopicAuthorizationFailed,
            403,
            "TOPIC_AUTHORIZATION_FAILED",
        ),
    ] {
        broker.fail_always(ApiKey::Produce, error);
        let reply = post(&gateway, &json!("refused")).await;
        broker.clear_hooks();
        assert_eq!(reply.status, status, "{reply:?}");
        let body = reply.json();
        assert_eq!(body["kafka_error"], name, "{body}");
        assert_eq!(body["retriable"], false, "{body}");
        assert_eq!(body.get("maybe_written"), None, "{body}");
    }
    // And none of them stays in the way of what comes after.
    eventually(BOUND, async || {
        post(&gateway, &json!("taken")).await.status == 200
    })
    .await;
    assert!(!texts(&broker).await.contains(&r#""refused""#.to_owned()));
}

/// The broker and librdkafka no longer agree on the sequence: the library gives its client up.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_producer_that_failed_for_good_is_replaced() {
    let broker = faulty().await;
    let gateway = Gateway::start(&broker.bootstrap()).await;
    assert_eq!(post(&gateway, &json!("before")).await.status, 200);
    // The first is refused for good after a while, and others wait behind it meanwhile.
    broker.on_times(ApiKey::Produce, 1, |_| {
        Control::DelayThen(
            Duration::from_millis(500),
            Box::new(Control::Error(ErrorCode::OutOfOrderSequenceNumber)),
        )
    });

    let values: Vec<Value> = (0..40).map(|n| json!(n)).collect();
    let replies = futures::future::join_all(values.iter().map(|value| post(&gateway, value))).await;

    let mut acknowledged = Vec::new();
    let mut possible = Vec::new();
    for (value, reply) in values.iter().zip(&replies) {
        let body = reply.json();
        if reply.status == 200 {
            acknowledged.push(value.to_string());
            continue;
        }
        assert_eq!(reply.status, 503, "{reply:?}");
        if body.get("maybe_written") == Some(&json!(true)) {
            possible.push(value.to_string());
        } else {
            assert_eq!(body["retriable"], true, "{body}");
            assert_eq!(reply.header("retry-after"), "1", "{reply:?}");
        }
    }
    // Only what was in the refused request is uncertain; it was sent before the others came.
    assert!(!possible.is_empty(), "no request failed for good");
    eventually(BOUND, async || {
        metric(&gateway, "kafka_producer_replaced_total").await == 1.0
    })
    .await;
    assert_eq!(post(&gateway, &json!("after")).await.status, 200);

    let there = texts(&broker).await;
    for value in &acknowledged {
        let times = there.iter().filter(|text| *text == value).count();
        assert_eq!(times, 1, "{value} in {there:?}");
    }
    for text in &there {
        assert!(
            acknowledged.contains(text)
                || possible.contains(text)
                || text == r#""before""#
                || text == r#""after""#,
            "{text} is in the topic although its client was told that it is not"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_producer_may_be_replaced_again_and_again() {
    let broker = faulty().await;
    let gateway = Gateway::start(&broker.bootstrap()).await;
    for round in 1..=3_u32 {
        assert_eq!(post(&gateway, &json!(round)).await.status, 200);
        broker.fail(ApiKey::Produce, 1, ErrorCode::OutOfOrderSequenceNumber);
        assert_ne!(post(&gateway, &json!("refused")).await.status, 200);
        eventually(BOUND, async || {
            metric(&gateway, "kafka_producer_replaced_total").await == f64::from(round)
        })
        .await;
    }
    assert_eq!(post(&gateway, &json!("last")).await.status, 200);
}
