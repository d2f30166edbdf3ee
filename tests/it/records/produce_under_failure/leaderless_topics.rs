//! Topics without a leader or enough replicas, beside topics that have both.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;

use super::{Told, send, steadily};
use crate::support::broker::Broker;
use crate::support::gateway::Gateway;
use crate::support::http;
use crate::support::{eventually, metric};

#[derive(Clone, Copy, PartialEq)]
enum Trouble {
    Killed,
    Frozen,
}

/// How long a record for a dead broker waits; a good deal longer than one for a healthy one may take.
const GIVEN_UP: Duration = Duration::from_secs(20);

/// A topic that only a dead broker has, beside one that all have.
async fn beside_the_dead(trouble: Trouble) {
    let broker = Broker::builder().nodes(3).start().await;
    let plain = broker.plain();
    let gateway = Gateway::builder(&broker.bootstrap())
        .set("kafka.producer.queue.buffering.max.messages", "400")
        .set(
            "kafka.producer.message.timeout.ms",
            &GIVEN_UP.as_millis().to_string(),
        )
        .start()
        .await;
    plain.create_topic_on("dead", &[3], &[]).await;
    plain.create_topic_on("healthy", &[1, 2, 1, 2], &[]).await;
    let dead = gateway.url("/topics/dead/records");
    let http = http::client();
    let mut told = Told::default();
    // Both are known before: the first request for a topic asks any broker about it, and if that is
    // the frozen one it gets a 504 and asks another one the next time.
    let known = gateway.url("/topics/healthy/records");
    for partition in 0..4 {
        let reply = send(&http, &known, &json!({"value": 0, "partition": partition})).await;
        assert_eq!(reply.status, 200, "{reply:?}");
    }
    let first = send(&http, &dead, &json!({"value": 1_000_000})).await;
    told.outcome(1_000_000, &first.json());
    match trouble {
        Trouble::Killed => broker.node(3).kill(),
        Trouble::Frozen => broker.node(3).pause(),
    }

    let stop = Arc::new(AtomicBool::new(false));
    let healthy = steadily(&gateway, "healthy", &stop);
    let began = Instant::now();
    let posts: Vec<_> = (0..600_u64)
        .map(|value| {
            let (http, dead) = (http.clone(), dead.clone());
            tokio::spawn(async move {
                let began = Instant::now();
                let reply = send(&http, &dead, &json!({ "value": value })).await;
                (value, reply, began.elapsed())
            })
        })
        .collect();
    let (mut refused, mut waited) = (0, 0);
    for post in posts {
        let (value, reply, took) = post.await.unwrap();
        let body = reply.json();
        assert!(reply.status == 503 || reply.status == 504, "{reply:?}");
        assert!(took < GIVEN_UP + Duration::from_secs(35), "{took:?}");
        if body["message"].as_str().unwrap().contains("queue is full") {
            refused += 1;
        } else {
            waited += 1;
            if trouble == Trouble::Killed {
                assert_eq!(body["kafka_error"], "LEADER_NOT_AVAILABLE", "{body}");
                assert_eq!(body.get("maybe_written"), None, "{body}");
            }
        }
        told.outcome(value, &body);
    }
    println!(
        "{waited} waited for the dead topic, {refused} were refused, {:?}",
        began.elapsed()
    );
    assert!(waited <= 200, "{waited} of 400 places");
    stop.store(true, Ordering::Relaxed);
    let (count, slowest, failures) = healthy.await.unwrap();
    println!("healthy: {count} posts, the slowest took {slowest:?}");
    assert!(failures.is_empty(), "{failures:?}");
    assert!(slowest < GIVEN_UP - Duration::from_secs(4), "{slowest:?}");

    match trouble {
        Trouble::Killed => broker.node(3).restart().await,
        Trouble::Frozen => broker.node(3).resume(),
    }
    let end = Instant::now() + Duration::from_secs(180);
    for value in 2_000_000.. {
        let reply = send(&http, &dead, &json!({ "value": value })).await;
        told.outcome(value, &reply.json());
        if reply.status == 200 {
            break;
        }
        assert!(
            Instant::now() < end,
            "the topic does not come back: {reply:?}"
        );
    }
    told.check(&plain, "dead").await;
    let replaced = metric(&gateway, "kafka_producer_replaced_total").await;
    println!("producers replaced: {replaced}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: three brokers, of which one stays dead until records are given up"]
async fn a_topic_without_a_leader_leaves_the_others_alone() {
    beside_the_dead(Trouble::Killed).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: three brokers, of which one stays frozen until records are given up"]
async fn a_frozen_broker_leaves_the_topics_of_others_alone() {
    beside_the_dead(Trouble::Frozen).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: a record waits for a second replica as long as it may"]
async fn too_few_replicas_are_named() {
    let broker = Broker::builder().nodes(2).start().await;
    let plain = broker.plain();
    let gateway = Gateway::builder(&broker.bootstrap())
        .set("kafka.producer.message.timeout.ms", "4000")
        .start()
        .await;
    plain
        .create_topic("pair", 1, &[("min.insync.replicas", "2")])
        .await;
    let url = gateway.url("/topics/pair/records");
    assert_eq!(
        http::post_json(&url, &json!({"value": 1})).await.status,
        200
    );
    let leader = plain.leader("pair", 0).await.unwrap();
    broker.node(if leader == 1 { 2 } else { 1 }).kill();

    // Until the dead one is out of the replicas in sync, its acknowledgement is waited for.
    let end = Instant::now() + Duration::from_secs(180);
    let refused = loop {
        let began = Instant::now();
        let reply = http::post_json(&url, &json!({"value": 2})).await;
        assert!(began.elapsed() < Duration::from_secs(4 + 35));
        assert!(reply.status == 503 || reply.status == 504, "{reply:?}");
        let body = reply.json();
        println!("{:?} {body}", began.elapsed());
        assert_eq!(body["retriable"], true, "{body}");
        if body["kafka_error"] == "NOT_ENOUGH_REPLICAS" && body.get("maybe_written").is_none() {
            break reply;
        }
        assert!(Instant::now() < end, "{body}");
    };
    assert_eq!(refused.status, 503);

    broker.node(if leader == 1 { 2 } else { 1 }).restart().await;
    eventually(Duration::from_secs(120), async || {
        http::post_json(&url, &json!({"value": 3})).await.status == 200
    })
    .await;
}
