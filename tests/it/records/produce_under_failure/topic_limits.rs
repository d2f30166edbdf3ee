//! Topics that refuse what is larger than their limit, and topics that are deleted.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::LONGEST;
use crate::support::gateway::Gateway;
use crate::support::http;
use crate::support::{eventually, kafka, topic};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topics_own_limit_refuses_what_is_larger() {
    let plain = kafka().await.plain();
    let gateway = Gateway::start(&kafka().await.bootstrap()).await;
    let topic = topic("limited");
    plain
        .create_topic(&topic, 1, &[("max.message.bytes", "2000")])
        .await;
    let url = gateway.url(&format!("/topics/{topic}/records"));

    let reply = http::post_json(&url, &json!({"value": "x".repeat(3000)})).await;
    assert_eq!(reply.status, 413, "{reply:?}");
    let body = reply.json();
    assert_eq!(body["kafka_error"], "MESSAGE_TOO_LARGE", "{body}");
    assert_eq!(body["retriable"], false, "{body}");
    assert_eq!(body.get("maybe_written"), None, "{body}");

    let reply = http::post_json(&url, &json!({"value": "small"})).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    assert_eq!(plain.consume_all(&topic).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_that_was_deleted_meanwhile_is_said_to_be_gone() {
    let plain = kafka().await.plain();
    let gateway = Gateway::start(&kafka().await.bootstrap()).await;
    let topic = topic("deleted");
    plain.create_topic(&topic, 1, &[]).await;
    let url = gateway.url(&format!("/topics/{topic}/records"));
    assert_eq!(
        http::post_json(&url, &json!({"value": 1})).await.status,
        200
    );
    plain.delete_topic(&topic).await;

    eventually(Duration::from_secs(120), async || {
        let began = Instant::now();
        let reply = http::post_json(&url, &json!({"value": 2})).await;
        assert!(began.elapsed() < LONGEST);
        // The deletion may not have reached the broker yet.
        assert!(
            [200, 404, 503, 504].contains(&reply.status.as_u16()),
            "{reply:?}"
        );
        if reply.status == 404 {
            assert_eq!(reply.json()["error_code"], 40401, "{reply:?}");
        }
        reply.status == 404
    })
    .await;

    plain.create_topic(&topic, 1, &[]).await;
    eventually(Duration::from_secs(120), async || {
        http::post_json(&url, &json!({"value": "again"}))
            .await
            .status
            == 200
    })
    .await;
    let records = plain.consume_all(&topic).await;
    assert_eq!(records.last().unwrap().text(), Some(r#""again""#));
}

/// Together they are larger than the topic takes at once, one by one they are not; but for one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_small_records_fit_a_topic_with_a_small_limit() {
    let plain = kafka().await.plain();
    let gateway = Gateway::start(&kafka().await.bootstrap()).await;
    let topic = topic("small");
    plain
        .create_topic(&topic, 2, &[("max.message.bytes", "2000")])
        .await;
    let url = gateway.url(&format!("/topics/{topic}/records"));
    let record = |n: usize, size: usize| {
        json!({
            "key": n.to_string(), "value": format!("{n:0>size$}"), "partition": n % 2,
            "timestamp": 1_700_000_000_000_u64 + n as u64, "headers": [["n", n.to_string()]],
        })
    };
    let mut body: Vec<Value> = (0..100).map(|n| record(n, 200)).collect();
    body[77] = record(77, 3000);

    let reply = http::post_json(&url, &json!(body)).await;

    assert_eq!(reply.status, 200, "{reply:?}");
    assert_eq!(
        reply.header("tidegate-failed-records"),
        "1",
        "{}",
        reply.text()
    );
    let outcomes = reply.json();
    assert_eq!(
        outcomes[77]["kafka_error"], "MESSAGE_TOO_LARGE",
        "{outcomes}"
    );
    let records = plain.consume_all(&topic).await;
    assert_eq!(records.len(), 99);
    for record in &records {
        let n: usize = std::str::from_utf8(record.key.as_deref().unwrap())
            .unwrap()
            .parse()
            .unwrap();
        assert_eq!(record.text(), Some(format!("\"{n:0>200}\"").as_str()));
        assert_eq!(record.timestamp, Some(1_700_000_000_000 + n as i64));
        assert_eq!(
            record.headers[0].1.as_deref(),
            Some(n.to_string().as_bytes())
        );
        assert_eq!(outcomes[n]["offset"], record.offset, "{n}");
        assert_eq!(outcomes[n]["partition"], record.partition, "{n}");
    }

    // Single records of many clients come into one batch, too.
    body.remove(77);
    let posts = body.iter().map(|record| http::post_json(&url, record));
    for reply in futures::future::join_all(posts).await {
        assert_eq!(reply.status, 200, "{reply:?}");
    }
}
