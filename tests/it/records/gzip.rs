//! Compressed bodies in both directions, and a batch in which one record is refused.

use async_compression::tokio::write::{GzipDecoder, GzipEncoder};
use serde_json::Value;
use tokio::io::AsyncWriteExt;

use crate::support::gateway::Gateway;
use crate::support::http::{client, post_text, send};
use crate::support::{kafka, topic};

async fn gzip(text: &str) -> Vec<u8> {
    let mut encoder = GzipEncoder::new(Vec::new());
    encoder.write_all(text.as_bytes()).await.unwrap();
    encoder.shutdown().await.unwrap();
    encoder.into_inner()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn packed_bodies_are_read_and_large_answers_packed() {
    let kafka = kafka().await;
    let topic = topic("packed");
    kafka.plain().create_topic(&topic, 1, &[]).await;
    let gateway = Gateway::start(&kafka.bootstrap()).await;
    let url = gateway.url(&format!("/topics/{topic}/records"));
    for (kind, body) in [
        ("application/json", r#"[{"value":1},{"value":2}]"#),
        ("application/x-ndjson", "{\"value\":3}\n{\"value\":4}\n"),
        ("text/plain", "5"),
    ] {
        let reply = send(
            client()
                .post(&url)
                .header("content-type", kind)
                .header("content-encoding", "gzip")
                .body(gzip(body).await),
        )
        .await;
        assert_eq!(reply.status, 200, "{}", reply.text());
    }
    let records = kafka.plain().consume_all(&topic).await;
    let values: Vec<&str> = records.iter().map(|r| r.text().unwrap()).collect();
    assert_eq!(values, ["1", "2", "3", "4", "5"]);
    let brotli = client()
        .post(&url)
        .header("content-type", "application/json")
        .header("content-encoding", "br")
        .body("x");
    let reply = send(brotli).await;
    assert_eq!(
        (reply.status.as_u16(), reply.header("accept-encoding")),
        (415, "gzip")
    );

    let value = "v".repeat(5000);
    post_text(&url, &format!("{{\"value\":\"{value}\"}}")).await;
    let page = format!("{url}?from=earliest");
    let plain = send(client().get(&page)).await;
    assert_eq!(plain.header("content-encoding"), "");
    let packed = client()
        .get(&page)
        .header("accept-encoding", "gzip")
        .send()
        .await
        .unwrap();
    assert_eq!(packed.headers()["content-encoding"], "gzip");
    let bytes = packed.bytes().await.unwrap();
    assert!(bytes.len() < 1000, "{}", bytes.len());
    let mut decoder = GzipDecoder::new(Vec::new());
    decoder.write_all(&bytes).await.unwrap();
    decoder.shutdown().await.unwrap();
    let page: Value = serde_json::from_slice(&decoder.into_inner()).unwrap();
    assert_eq!(page["records"].as_array().unwrap().len(), 6);
    assert_eq!(page, plain.json());
}

/// Kafka takes or refuses a batch as a whole, and the producer makes batches of what comes together.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_refused_record_does_not_take_its_neighbours_with_it() {
    let kafka = kafka().await;
    let plain = kafka.plain();
    let small = topic("small");
    plain
        .create_topic(&small, 1, &[("max.message.bytes", "2000")])
        .await;
    let compacted = topic("compacted");
    plain
        .create_topic(&compacted, 1, &[("cleanup.policy", "compact")])
        .await;
    let gateway = Gateway::start(&kafka.bootstrap()).await;

    let url = gateway.url(&format!("/topics/{small}/records"));
    let large = "x".repeat(5000);
    let medium = "y".repeat(1500);
    let body = format!(
        r#"[{{"value":1}},{{"value":"{large}"}},{{"value":"{medium}"}},{{"value":"{medium}"}},{{"value":2}}]"#
    );
    let reply = post_text(&url, &body).await;
    assert_eq!(
        (
            reply.status.as_u16(),
            reply.header("tidegate-failed-records")
        ),
        (200, "1")
    );
    let outcomes = reply.json();
    assert_eq!(outcomes[1]["error_code"], 413, "{outcomes}");
    assert_eq!(outcomes[1]["kafka_error"], "MESSAGE_TOO_LARGE");
    let written = [0, 2, 3, 4].map(|at| outcomes[at]["offset"].as_i64().unwrap());
    let records = plain.consume_all(&small).await;
    assert_eq!(records.len(), 4);
    let lengths = [1, 1502, 1502, 1];
    for (offset, length) in written.iter().zip(lengths) {
        let record = records.iter().find(|r| r.offset == *offset).unwrap();
        assert_eq!(record.value.as_ref().unwrap().len(), length);
    }

    let url = gateway.url(&format!("/topics/{compacted}/records"));
    let body = r#"[{"key":"a","value":1,"headers":{"h":"1"},"timestamp":1700000000000},{"value":2},{"key":"b","value":3}]"#;
    let outcomes = post_text(&url, body).await.json();
    assert_eq!(outcomes[1]["kafka_error"], "INVALID_RECORD", "{outcomes}");
    let records = plain.consume_all(&compacted).await;
    assert_eq!(records.len(), 2);
    let first = records
        .iter()
        .find(|r| r.key.as_deref() == Some(b"a"))
        .unwrap();
    assert_eq!(Some(first.offset), outcomes[0]["offset"].as_i64());
    assert_eq!(first.timestamp, Some(1_700_000_000_000));
    assert_eq!(first.headers, [("h".to_owned(), Some(b"1".to_vec()))]);
}
