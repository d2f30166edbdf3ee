//! WebSocket sessions as members of consumer groups, on a real Kafka: deliveries, acknowledgements,
//! commits, rebalances.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::groups::{broker, committed, fill, gateway};
use crate::support::topic;
use crate::support::ws::{Client, at, offsets, tags};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_come_are_acknowledged_and_committed() {
    let (gateway, plain) = (gateway().await, broker().await.plain());
    let topic = topic("ws-plain");
    plain.create_topic(&topic, 1, &[]).await;
    fill(gateway, &topic, 0, 0..5).await;
    let mut client = Client::welcomed(gateway).await;
    let assigned = client
        .subscribe(&topic, &topic, json!({"offset_reset": "earliest"}))
        .await;
    assert_eq!(assigned["epoch"], 1);
    let partition = &assigned["partitions"][0];
    assert_eq!(
        (
            &partition["start"],
            &partition["committed"],
            &partition["end"]
        ),
        (&json!(0), &json!(0), &json!(5))
    );
    let records = client.records(5).await;
    assert_eq!(offsets(&records), [0, 1, 2, 3, 4]);
    assert_eq!(tags(&records), [1, 2, 3, 4, 5]);
    assert_eq!(records[3]["value"], 3);
    client.ack(&[1, 2, 4, 5]).await;
    committed(&plain, &topic, &topic, 0, 2).await;
    // Kafka knows a moment before the gateway does.
    let mut at = Value::Null;
    let end = Instant::now() + Duration::from_secs(60);
    while at["committed"] != 2 {
        assert!(Instant::now() < end, "{at}");
        let position = client
            .ask(json!({"type": "position", "sub": "o", "id": 1}))
            .await;
        at = position["positions"][0].clone();
    }
    assert_eq!((&at["delivered"], &at["acked"]), (&json!(5), &json!(2)));
    assert_eq!((&at["committed"], &at["lag"]), (&json!(2), &json!(3)));
    let acked = client
        .ask(json!({"type": "ack", "sub": "o", "tags": [3], "id": 2}))
        .await;
    assert_eq!(acked["positions"][0]["offset"], 5);
    let now = client
        .ask(json!({"type": "commit", "sub": "o", "id": 3}))
        .await;
    // Nothing, when the interval was over just before.
    let said = now["positions"].as_array().unwrap();
    assert!(said.iter().all(|at| at["offset"] == 5), "{now}");
    assert_eq!(now["type"], "committed");
    assert_eq!(plain.committed(&topic, &topic, 0).await, Some(5));
    client.bye().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_short_way_prints_records_with_no_frame_sent() {
    let (gateway, plain) = (gateway().await, broker().await.plain());
    let topic = topic("ws-short");
    plain.create_topic(&topic, 1, &[]).await;
    fill(gateway, &topic, 0, 0..3).await;
    let path = format!("/ws?topics={topic}&group={topic}&offset_reset=earliest");
    let mut client = at(gateway, &path).connect().await;
    let records = client.records(3).await;
    assert_eq!(offsets(&records), [0, 1, 2]);
    committed(&plain, &topic, &topic, 0, 3).await;
    client.bye().await;
    let unknown = format!("/ws?topics={topic}-none&group={topic}");
    let mut client = at(gateway, &unknown).connect().await;
    let closed = client.closed().await;
    assert_eq!(closed.code, Some(4504));
    assert_eq!(closed.goodbye.unwrap()["name"], closed.reason);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_are_written_over_the_socket() {
    let (gateway, plain) = (gateway().await, broker().await.plain());
    let topic = topic("ws-produce");
    plain.create_topic(&topic, 1, &[]).await;
    let mut client = Client::welcomed(gateway).await;
    let produced = client
        .ask(
            json!({"type": "produce", "id": "p1", "topic": topic, "records": [
                {"key": "k", "value": {"n": 1}, "headers": [["h", "v"]]},
                {"value": "x", "partition": 9},
                {"value": null, "key": "k"},
            ]}),
        )
        .await;
    let results = produced["results"].as_array().unwrap();
    assert_eq!(results[0]["offset"], 0);
    assert_eq!(results[1]["error"]["code"], "invalid_record");
    assert_eq!(results[2]["offset"], 1);
    let records = plain.consume_all(&topic).await;
    assert_eq!(records.len(), 2);
    assert_eq!(records[0].text(), Some(r#"{"n":1}"#));
    let missing = client
        .ask(json!({"type": "produce", "id": "p2", "topic": "no-such-topic", "records": [{"value": 1}]}))
        .await;
    assert_eq!(missing["code"], "topic_not_found");
    assert_eq!(missing["field"], "topic");
    client.bye().await;
}
