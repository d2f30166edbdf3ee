//! A raw value on `POST /topics/{topic}/records`, and `Idempotency-Key`.

use reqwest::RequestBuilder;

use crate::support::gateway::Gateway;
use crate::support::http::{Reply, client, send};
use crate::support::{kafka, topic};

async fn gateway_with_topic(partitions: i32) -> (Gateway, String) {
    let kafka = kafka().await;
    let topic = topic("raw");
    kafka.plain().create_topic(&topic, partitions, &[]).await;
    (Gateway::start(&kafka.bootstrap()).await, topic)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_other_body_is_one_value_byte_for_byte() {
    let (gateway, topic) = gateway_with_topic(3).await;
    let bytes: Vec<u8> = (0..=255).collect();
    let url = gateway.url(&format!(
        "/topics/{topic}/records?key=a%20b&partition=2&timestamp=1700000000000"
    ));
    let reply = send(
        client()
            .post(url)
            .header("content-type", "image/png")
            .header("Kafka-Header-Trace", "1")
            .header("Kafka-Header-Trace", "2")
            .body(bytes.clone()),
    )
    .await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert_eq!(reply.json()["partition"], 2);
    assert_eq!(reply.json()["timestamp"], 1_700_000_000_000_i64);
    let records = kafka().await.plain().consume_all(&topic).await;
    assert_eq!(records.len(), 1);
    assert_eq!(records[0].partition, 2);
    assert_eq!(records[0].key.as_deref(), Some(&b"a b"[..]));
    assert_eq!(records[0].value.as_deref(), Some(&bytes[..]));
    assert_eq!(records[0].timestamp, Some(1_700_000_000_000));
    let headers: Vec<(&str, Option<&[u8]>)> = records[0]
        .headers
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_deref()))
        .collect();
    assert_eq!(headers, [("trace", Some(&b"1"[..])), ("trace", Some(b"2"))]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_raw_value_is_checked_as_any_record() {
    let (gateway, topic) = gateway_with_topic(1).await;
    let post = |query: &str, body: Vec<u8>| {
        let url = gateway.url(&format!("/topics/{topic}/records{query}"));
        send(
            client()
                .post(url)
                .header("content-type", "text/plain")
                .body(body),
        )
    };
    for (query, size, status, code, field) in [
        ("?partition=9", 1, 404, 40402, "/partition"),
        ("?partition=-1", 1, 400, 400, "partition"),
        ("?timestamp=soon", 1, 400, 400, "timestamp"),
        ("?key=!&key_format=binary", 1, 400, 400, "key"),
        ("?value_format=json", 1, 400, 400, "value_format"),
        ("", 2 << 20, 413, 413, ""),
    ] {
        let reply = post(query, vec![b'x'; size]).await;
        let error = reply.json();
        assert_eq!(reply.status.as_u16(), status, "{query} {error}");
        assert_eq!(error["error_code"], code, "{query} {error}");
        assert_eq!(
            error["field"].as_str().unwrap_or_default(),
            field,
            "{error}"
        );
    }
    let empty = post("", vec![]).await;
    assert_eq!(empty.status, 200);
    let records = kafka().await.plain().consume_all(&topic).await;
    assert_eq!(records.len(), 1);
    assert_eq!(
        records[0].value.as_deref(),
        Some(&b""[..]),
        "a value, no tombstone"
    );
}

fn keyed(url: &str, key: &str, body: &str) -> RequestBuilder {
    client()
        .post(url)
        .header("content-type", "application/json")
        .header("idempotency-key", key)
        .body(body.to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_idempotency_key_writes_once() {
    let (gateway, topic) = gateway_with_topic(1).await;
    let url = gateway.url(&format!("/topics/{topic}/records"));
    let body = r#"[{"value":1},{"value":2}]"#;
    let replies: Vec<Reply> =
        futures::future::join_all((0..16).map(|_| send(keyed(&url, "order-17", body)))).await;
    let first = replies[0].text();
    assert!(
        replies
            .iter()
            .all(|reply| reply.status == 200 && reply.text() == first)
    );
    let replayed = replies
        .iter()
        .filter(|reply| reply.header("idempotency-replayed") == "true")
        .count();
    assert_eq!(replayed, 15);
    for (url, body) in [
        (url.clone(), r#"{"value":3}"#),
        (format!("{url}?key_format=string"), body),
    ] {
        let reply = send(keyed(&url, "order-17", body)).await;
        assert_eq!(reply.status, 422, "{}", reply.text());
        assert_eq!(reply.json()["field"], "Idempotency-Key");
    }
    let other = send(keyed(&url, "order-18", r#"{"value":3}"#)).await;
    assert_eq!(other.json()["offset"], 2);
    let bad = send(keyed(&url, &"k".repeat(300), r#"{"value":3}"#)).await;
    assert_eq!(bad.status, 400);
    let records = kafka().await.plain().consume_all(&topic).await;
    let values: Vec<&str> = records.iter().map(|r| r.text().unwrap()).collect();
    assert_eq!(values, ["1", "2", "3"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_request_does_not_use_up_its_key() {
    let (gateway, topic) = gateway_with_topic(1).await;
    let url = gateway.url(&format!("/topics/{topic}/records"));
    let refused = send(keyed(&url, "k", r#"{"valeu":1}"#)).await;
    assert_eq!(refused.status, 422);
    let mended = send(keyed(&url, "k", r#"{"value":1}"#)).await;
    assert_eq!(mended.status, 200, "{}", mended.text());
}
