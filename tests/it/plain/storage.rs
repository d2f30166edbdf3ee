//! How large a topic is, and how its oldest records are deleted.

use reqwest::Method;
use serde_json::Value;

use super::{call, error};
use crate::support::kafka_client::OutgoingRecord;
use crate::support::{kafka, shared_gateway, topic};

async fn written(prefix: &str, records: usize) -> String {
    let name = topic(prefix);
    let plain = kafka().await.plain();
    plain.create_topic(&name, 2, &[]).await;
    for _ in 0..records {
        let record = OutgoingRecord {
            topic: &name,
            partition: Some(1),
            value: Some(b"some bytes"),
            ..OutgoingRecord::default()
        };
        plain.produce(record).await;
    }
    name
}

/// Where each partition began, and where it begins then.
fn moved(reply: &Value) -> Vec<(i64, i64)> {
    let partitions = reply["partitions"].as_array().unwrap().iter();
    let number = |one: &Value, field: &str| one[field].as_i64().unwrap();
    partitions
        .map(|one| (number(one, "before"), number(one, "after")))
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_has_records_and_bytes_and_a_rate() {
    let name = written("size", 6).await;
    let path = format!("/topics/{name}/size");
    let reply = call(shared_gateway().await, Method::GET, &path, None).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    let size = reply.json();
    assert_eq!(size["records"], 6);
    // All of them came within the last minute.
    assert_eq!(size["records_per_second"], 0.1);
    let bytes = size["bytes"].as_i64().unwrap();
    assert!(bytes > 60, "{bytes}");
    assert_eq!(size["bytes_of_replicas"], bytes);
    assert_eq!(size["partitions"][0]["records"], 0);
    assert_eq!(size["partitions"][1]["latest_offset"], 6);
    let unknown = call(
        shared_gateway().await,
        Method::GET,
        "/topics/size-no/size",
        None,
    )
    .await;
    assert_eq!(error(&unknown), (404, 40401, "topic".to_owned()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_oldest_records_are_deleted_up_to_a_place() {
    let gateway = shared_gateway().await;
    let name = written("delete-records", 6).await;
    let path = format!("/topics/{name}/records");
    let plain = kafka().await.plain();
    let delete = async |query: &str| {
        let path = format!("{path}?{query}");
        let reply = call(gateway, Method::DELETE, &path, None).await;
        assert_eq!(reply.status, 200, "{query}: {}", reply.text());
        moved(&reply.json())
    };

    assert_eq!(delete("before=2&partition=1&dry_run=true").await, [(0, 2)]);
    assert_eq!(plain.watermarks(&name, 1).await, (0, 6));
    assert_eq!(delete("before=2&partition=1").await, [(0, 2)]);
    assert_eq!(plain.watermarks(&name, 1).await, (2, 6));
    // Nothing is so old.
    assert_eq!(
        delete("before=2020-01-01T00:00:00Z").await,
        [(0, 0), (2, 2)]
    );
    assert_eq!(delete("before=latest").await, [(0, 0), (2, 6)]);
    assert_eq!(plain.watermarks(&name, 1).await, (6, 6));

    for (query, expected) in [
        ("before=99&partition=1", (422, 422, "before")),
        ("before=1&partition=1", (422, 422, "before")),
        ("before=1&partition=9", (404, 40402, "partition")),
        ("before=1", (400, 400, "before")),
        ("", (400, 400, "before")),
        ("before=latest&force=true", (400, 400, "force")),
    ] {
        let reply = call(gateway, Method::DELETE, &format!("{path}?{query}"), None).await;
        let (status, code, field) = error(&reply);
        assert_eq!((status, code, &*field), expected, "{query}");
    }
    let own = "/topics/__consumer_offsets/records?before=latest";
    let refused = call(gateway, Method::DELETE, own, None).await;
    assert_eq!(error(&refused), (403, 40301, "topic".to_owned()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_of_a_compacted_topic_are_not_deleted() {
    let name = topic("delete-compacted");
    let plain = kafka().await.plain();
    plain
        .create_topic(&name, 1, &[("cleanup.policy", "compact")])
        .await;
    let record = OutgoingRecord {
        topic: &name,
        key: Some(b"k"),
        value: Some(b"v"),
        ..OutgoingRecord::default()
    };
    plain.produce(record).await;
    let path = format!("/topics/{name}/records?before=latest");
    let refused = call(shared_gateway().await, Method::DELETE, &path, None).await;
    let (status, code, _) = error(&refused);
    assert_eq!((status, code), (400, 40002), "{}", refused.text());
    assert_eq!(plain.watermarks(&name, 0).await, (0, 1));
}
