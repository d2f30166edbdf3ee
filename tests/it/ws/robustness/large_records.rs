//! Records of a megabyte, and a byte more; values that grow sixfold as JSON.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use super::{broker, ends_as_too_large};
use crate::support::gateway::Gateway;
use crate::support::http::{client, send};
use crate::support::topic;
use crate::support::ws::Client;

const MIB: usize = 1 << 20;

fn bytes(count: usize) -> Vec<u8> {
    (0..count).map(|n| (n * 7 % 251) as u8).collect()
}

async fn subscribed(gateway: &Gateway, topic: &str, mut options: Value) -> Client {
    let mut client = Client::welcomed(gateway).await;
    options["offset_reset"] = "earliest".into();
    client
        .subscribe(&crate::support::topic("ws-large"), topic, options)
        .await;
    client
}

async fn fetch(gateway: &Gateway, href: &str) -> Vec<u8> {
    let request = client()
        .get(gateway.url(href))
        .header("accept", "application/octet-stream");
    let reply = send(request).await;
    assert_eq!(reply.status, 200, "{href}");
    reply.body
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_of_a_megabyte_goes_both_ways_and_one_byte_more_does_not() {
    let gateway = Gateway::start(&broker().await.bootstrap()).await;
    let topic = topic("ws-large");
    let plain = broker().await.plain();
    plain
        .create_topic(&topic, 1, &[("max.message.bytes", "2000000")])
        .await;
    let mut writer = Client::welcomed(&gateway).await;
    // Below the frame limit, and together with its key at the record limit.
    let value = BASE64.encode(bytes(MIB));
    let produced = writer
        .ask(json!({"type": "produce", "id": 1, "topic": topic, "value_format": "binary", "records": [{"value": value}]}))
        .await;
    assert_eq!(produced["results"][0]["offset"], 0, "{produced}");
    let over = BASE64.encode(bytes(MIB + 1));
    let produced = writer
        .ask(json!({"type": "produce", "id": 2, "topic": topic, "value_format": "binary", "records": [
            {"value": "AAAA"}, {"value": over}, {"value": "AAAB"},
        ]}))
        .await;
    let results = produced["results"].as_array().unwrap();
    assert_eq!(
        (&results[0]["offset"], &results[2]["offset"]),
        (&json!(1), &json!(2)),
        "{produced}"
    );
    assert_eq!(
        results[1]["error"]["code"], "message_too_large",
        "{produced}"
    );
    assert_eq!(results[1]["error"]["retriable"], false);

    // A window of a thousand bytes, and a frame that may be large: it comes, alone.
    let narrow = json!({"flow": {"records": 500, "bytes": 1_000}, "value_format": "binary", "max_record_bytes": 4 * MIB});
    let mut reader = subscribed(&gateway, &topic, narrow).await;
    let records = reader.until("records").await["records"].clone();
    assert_eq!(records.as_array().unwrap().len(), 1);
    assert_eq!(records[0]["value"], value, "the bytes");
    assert!(records[0].get("truncated").is_none());
    reader.ack(&[1]).await;
    let small = reader.records(2).await;
    assert_eq!(
        (&small[0]["value"], &small[1]["value"]),
        (&json!("AAAA"), &json!("AAAB"))
    );
    reader.bye().await;

    // Encoded, it is over what a record may be unless the client says more.
    let mut reader = subscribed(&gateway, &topic, json!({"value_format": "binary"})).await;
    let records = reader.records(3).await;
    let truncated = &records[0]["truncated"];
    assert_eq!(truncated["bytes"], MIB, "{truncated}");
    assert!(records[0]["value"].is_null() || records[0].get("value").is_none());
    assert!(fetch(&gateway, truncated["href"].as_str().unwrap()).await == bytes(MIB));
    reader.bye().await;

    // No stall: the session that wrote goes on, until a frame is over its limit.
    writer.send(json!({"type": "ping", "id": 3})).await;
    assert_eq!(writer.answer(3).await["type"], "pong");
    let too_large = format!(r#"{{"type":"ping","t":"{}"}}"#, "x".repeat(2 * MIB));
    writer.send_as_far_as_taken(Message::text(too_large)).await;
    ends_as_too_large(&gateway, &mut writer, 1.0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_grows_in_json_is_measured_as_it_is_sent() {
    let gateway = Gateway::start(&broker().await.bootstrap()).await;
    let topic = topic("ws-large");
    broker().await.plain().create_topic(&topic, 1, &[]).await;
    let mut writer = Client::welcomed(&gateway).await;
    // Six bytes each as JSON, or two.
    let values = [
        "\u{1}".repeat(150_000),
        "\u{1}".repeat(300_000),
        "\"".repeat(400_000),
        "\"".repeat(600_000),
    ];
    for (id, value) in values.iter().enumerate() {
        let produced = writer
            .ask(json!({"type": "produce", "id": id, "topic": topic, "value_format": "string", "records": [{"value": value}]}))
            .await;
        assert_eq!(produced["results"][0]["offset"], id, "{produced}");
    }
    let mut reader = subscribed(&gateway, &topic, json!({"value_format": "string"})).await;
    let records = reader.records(4).await;
    for (index, value) in values.iter().enumerate() {
        let record = &records[index];
        if index % 2 == 0 {
            assert!(
                record["value"] == **value && record.get("truncated").is_none(),
                "{index}"
            );
        } else {
            let truncated = &record["truncated"];
            assert_eq!(truncated["bytes"], value.len());
            let whole = fetch(&gateway, truncated["href"].as_str().unwrap()).await;
            assert!(whole == value.as_bytes(), "{index}");
        }
    }
    reader.bye().await;
    writer.bye().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_over_the_topics_own_limit_fails_alone() {
    let gateway = Gateway::start(&broker().await.bootstrap()).await;
    let topic = topic("ws-large");
    broker()
        .await
        .plain()
        .create_topic(&topic, 1, &[("max.message.bytes", "10000")])
        .await;
    let mut writer = Client::welcomed(&gateway).await;
    let produced = writer
        .ask(
            json!({"type": "produce", "id": 1, "topic": topic, "records": [
                {"value": 1}, {"value": "x".repeat(50_000)}, {"value": 2},
            ]}),
        )
        .await;
    let results = produced["results"].as_array().unwrap();
    assert!(
        results[0]["offset"].is_u64() && results[2]["offset"].is_u64(),
        "{produced}"
    );
    let error = &results[1]["error"];
    assert_eq!(error["code"], "message_too_large", "{produced}");
    assert!(error["kafka_error"].is_string(), "{produced}");
    writer.bye().await;
}
