//! `?partition=` of a write: for all records that name no partition of their own, whatever the body is.

use serde_json::Value;

use crate::support::http::{Reply, client, send};
use crate::support::{kafka, shared_gateway, topic_of};

async fn post(topic: &str, query: &str, kind: &str, body: &str) -> Reply {
    let url = shared_gateway()
        .await
        .url(&format!("/topics/{topic}/records?{query}"));
    let request = client().post(url).header("content-type", kind);
    send(request.body(body.to_owned())).await
}

/// The partitions in which a topic has these values.
async fn partitions(topic: &str) -> Vec<(String, i32)> {
    let records = kafka().await.plain().consume_all(topic).await;
    let mut found: Vec<_> = records
        .iter()
        .map(|record| (record.text().unwrap().to_owned(), record.partition))
        .collect();
    found.sort();
    found
}

fn expected(values: &[(&str, i32)]) -> Vec<(String, i32)> {
    let values = values.iter();
    values
        .map(|(value, at)| ((*value).to_owned(), *at))
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_of_every_body_go_to_the_partition_of_the_parameter() {
    const NDJSON: &str = "application/x-ndjson";
    let topic = topic_of(&kafka().await.plain(), "named", 3).await;
    // By their keys they would not all be in one partition.
    for (kind, body) in [
        ("application/json", r#"{"key":"a","value":1}"#),
        (
            "application/json",
            r#"[{"key":"b","value":2},{"key":"c","value":3,"partition":2},{"value":4,"partition":null}]"#,
        ),
        (
            NDJSON,
            "{\"key\":\"d\",\"value\":5}\n{\"value\":6,\"partition\":2}\n",
        ),
        ("text/plain", "7"),
    ] {
        let reply = post(&topic, "partition=2", kind, body).await;
        assert_eq!(reply.status, 200, "{body}: {}", reply.text());
        assert_eq!(reply.header("tidegate-failed-records"), "");
    }
    let all = ["1", "2", "3", "4", "5", "6", "7"].map(|value| (value, 2));
    assert_eq!(partitions(&topic).await, expected(&all));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_of_another_partition_is_refused_and_named() {
    let topic = topic_of(&kafka().await.plain(), "another", 3).await;
    for (body, field) in [
        (r#"{"value":1,"partition":0}"#, "/partition"),
        (r#"[{"value":1},{"value":2,"partition":0}]"#, "/1/partition"),
    ] {
        let reply = post(&topic, "partition=1", "application/json", body).await;
        let error = reply.json();
        assert_eq!(reply.status, 422, "{error}");
        assert_eq!(error["field"], field, "{error}");
        assert!(error["message"].as_str().unwrap().contains("partition 0"));
    }
    // Of a stream it is the line's error, and the others are written.
    let body = "{\"value\":3}\n{\"value\":4,\"partition\":2}\n{\"value\":5,\"partition\":1}\n";
    let reply = post(&topic, "partition=1", "application/x-ndjson", body).await;
    let lines: Vec<Value> = reply
        .text()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.len(), 3, "{lines:?}");
    assert_eq!(
        (
            &lines[1]["line"],
            &lines[1]["error_code"],
            &lines[1]["field"]
        ),
        (&2.into(), &422.into(), &"/partition".into()),
        "{lines:?}"
    );
    assert_eq!(
        partitions(&topic).await,
        expected(&[("3", 1), ("5", 1)]),
        "of the requests that were refused whole nothing is written"
    );

    let reply = post(&topic, "partition=-1", "application/json", r#"{"value":1}"#).await;
    assert_eq!(
        (reply.status.as_u16(), reply.json()["field"].as_str()),
        (400, Some("partition"))
    );
    let reply = post(&topic, "partition=3", "application/json", r#"{"value":1}"#).await;
    assert_eq!(
        (reply.status.as_u16(), &reply.json()["error_code"]),
        (404, &40402.into())
    );
}
