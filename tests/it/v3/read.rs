//! Reading records in v3's shapes: of a topic and of one partition, a page after the other.

use reqwest::Method;
use serde_json::{Value, json};

use super::{call, cluster_id, code, seen, url};
use crate::support::http::get;
use crate::support::kafka_client::OutgoingRecord;
use crate::support::{kafka, shared_gateway, topic};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_are_read_with_their_types_and_headers_until_the_end() {
    let name = topic("v3-read");
    let plain = kafka().await.plain();
    plain.create_topic(&name, 2, &[]).await;
    let time = 1_700_000_000_123;
    let written = [
        (0, Some(&b"k"[..]), Some(&b"{\"n\":1.10}"[..])),
        (0, None, Some(&b"text"[..])),
        (1, Some(&b"\xff"[..]), Some(&b"\xfe"[..])),
        (1, Some(&b"gone"[..]), None),
    ];
    for (partition, key, value) in written {
        let record = OutgoingRecord {
            topic: &name,
            partition: Some(partition),
            key,
            value,
            headers: &[("h", Some(b"v")), ("none", None)],
            timestamp: Some(time),
        };
        plain.produce(record).await;
    }
    let path = format!("/topics/{name}/partitions/0/records");

    let page = seen(&format!("{path}?from=earliest&limit=1")).await;
    let first = json!({
        "kind": "KafkaRecord",
        "cluster_id": cluster_id(shared_gateway().await).await,
        "topic_name": name,
        "partition_id": 0,
        "offset": 0,
        "timestamp": "2023-11-14T22:13:20.123Z",
        "headers": [{"name": "h", "value": "dg=="}, {"name": "none", "value": null}],
        "key": {"data": "k", "type": "STRING"},
        "value": {"data": {"n": 1.10}, "type": "JSON"},
    });
    assert_eq!(page["kind"], "KafkaRecordList");
    assert_eq!(page["metadata"]["self"], url(&path).await);
    assert_eq!(page["data"], json!([first]));
    let next = page["metadata"]["next"].as_str().unwrap();
    assert!(next.contains("limit=1"), "{next}");
    let second = get(next).await.json();
    assert_eq!(second["data"][0]["offset"], 1);
    assert_eq!(second["data"][0]["key"], Value::Null);
    assert_eq!(
        second["data"][0]["value"],
        json!({"data": "text", "type": "STRING"})
    );
    let end = get(second["metadata"]["next"].as_str().unwrap()).await;
    assert_eq!(end.json()["data"], json!([]));

    let whole = seen(&format!("/topics/{name}/records?from=earliest")).await;
    assert_eq!(whole["data"].as_array().unwrap().len(), 4);
    let other = seen(&format!(
        "/topics/{name}/partitions/1/records?from=earliest"
    ))
    .await;
    assert_eq!(
        other["data"][0]["key"],
        json!({"data": "/w==", "type": "BINARY"})
    );
    assert_eq!(
        other["data"][0]["value"],
        json!({"data": "/g==", "type": "BINARY"})
    );
    assert_eq!(other["data"][1]["value"], Value::Null);

    for (path, expected) in [
        (format!("/topics/{name}-no/records"), (404, 40401)),
        (format!("/topics/{name}/partitions/9/records"), (404, 40402)),
        (format!("/topics/{name}/partitions/x/records"), (404, 404)),
        (format!("/topics/{name}/partitions/-1/records"), (404, 404)),
        (
            format!("/topics/{name}/partitions/70000/records"),
            (404, 404),
        ),
        (format!("/topics/{name}/records?limit=0"), (400, 400)),
        (format!("/topics/{name}/records?form=earliest"), (400, 400)),
    ] {
        let reply = call(Method::GET, &path, None).await;
        assert_eq!(code(&reply), expected, "{path}: {}", reply.text());
    }
}
