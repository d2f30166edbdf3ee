//! A queue that is full says so at once, and empties again.

use std::time::{Duration, Instant};

use serde_json::json;

use super::{Told, send};
use crate::support::broker::Broker;
use crate::support::eventually;
use crate::support::gateway::Gateway;
use crate::support::http;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: a broker stays frozen while the queue fills"]
async fn a_full_queue_is_said_at_once_and_empties_again() {
    let broker = Broker::start().await;
    let gateway = Gateway::builder(&broker.bootstrap())
        .set("kafka.producer.queue.buffering.max.messages", "200")
        .set("kafka.producer.queue.buffering.max.kbytes", "16384")
        // What waits does so until the broker goes on.
        .set("kafka.producer.message.timeout.ms", "120000")
        .start()
        .await;
    let plain = broker.plain();
    plain.create_topic("full", 1, &[]).await;
    let url = gateway.url("/topics/full/records");
    let http = http::client();
    assert_eq!(send(&http, &url, &json!({"value": 0})).await.status, 200);
    broker.pause();

    let posts = (1..=500_u64).map(|value| {
        let (http, url) = (http.clone(), url.clone());
        tokio::spawn(async move {
            let began = Instant::now();
            let reply = send(&http, &url, &json!({ "value": value })).await;
            (value, reply, began.elapsed())
        })
    });
    let posts: Vec<_> = posts.collect();
    // All but those that fit are answered although nothing moves.
    eventually(Duration::from_secs(30), async || {
        posts.iter().filter(|post| post.is_finished()).count() >= 400
    })
    .await;
    // Large records, to fill the queue's bytes and not only its places.
    let before = resident(&gateway);
    let large = json!({ "value": "x".repeat(900_000) });
    let larges: Vec<_> = (0..100)
        .map(|_| {
            let (http, url, large) = (http.clone(), url.clone(), large.clone());
            tokio::spawn(async move { send(&http, &url, &large).await })
        })
        .collect();
    for post in larges {
        let reply = post.await.unwrap();
        assert_eq!(reply.status, 503, "{reply:?}");
    }
    let grown = resident(&gateway).saturating_sub(before);
    println!("{} MiB more for 90 MB of refused records", grown >> 20);
    broker.resume();

    let mut told = Told::default();
    for post in posts {
        let (value, reply, took) = post.await.unwrap();
        let body = reply.json();
        if reply.status == 503 {
            assert!(took < Duration::from_secs(30), "{took:?}");
            assert_eq!(reply.header("retry-after"), "1");
            assert_eq!(body["retriable"], true, "{body}");
            assert_eq!(body.get("maybe_written"), None, "{body}");
        } else {
            assert_eq!(reply.status, 200, "{reply:?}");
        }
        told.outcome(value, &body);
    }
    assert_eq!((told.written.len(), told.not.len()), (100, 400));
    let reply = send(&http, &url, &json!({"value": 501})).await;
    told.outcome(501, &reply.json());
    assert_eq!(reply.status, 200, "{reply:?}");
    told.written.push((0, 0, 0));
    told.check(&plain, "full").await;
    assert!(grown < 128 << 20, "{grown} bytes more");
}

/// Bytes of memory that the gateway holds.
fn resident(gateway: &Gateway) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", gateway.pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let kib: u64 = line
        .and_then(|line| line.split_whitespace().nth(1))
        .unwrap()
        .parse()
        .unwrap();
    kib << 10
}
