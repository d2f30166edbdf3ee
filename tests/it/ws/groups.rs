//! WebSocket sessions as members of consumer groups, on a real Kafka: deliveries, acknowledgements,
//! commits, rebalances.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::gateway::Gateway;
use crate::support::groups::{broker, committed, fill, gateway};
use crate::support::ws::{Client, at, offsets, tags};
use crate::support::{eventually, http, topic};

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
async fn frames_behind_a_subscribe_are_handled_in_order() {
    let (gateway, plain) = (gateway().await, broker().await.plain());
    let topic = topic("ws-behind");
    plain.create_topic(&topic, 1, &[]).await;
    fill(gateway, &topic, 0, 0..5).await;
    let mut client = Client::welcomed(gateway).await;
    let frames = [
        json!({"type": "subscribe", "id": 1, "sub": "o", "group": topic, "topics": [topic],
            "offset_reset": "earliest", "flow": {"mode": "credit"}}),
        json!({"type": "credit", "sub": "o", "records": 2}),
        json!({"type": "ack", "id": 2, "sub": "o", "tags": [1]}),
        json!({"type": "subscribe", "id": 3, "sub": "t", "topics": [topic], "from": "earliest",
            "flow": {"mode": "credit"}}),
        json!({"type": "pause", "id": 5, "sub": "t"}),
        json!({"type": "unsubscribe", "id": 6, "sub": "t"}),
        json!({"type": "credit", "id": 7, "sub": "t", "records": 2}),
    ];
    client
        .send_texts(frames.map(|frame| frame.to_string()))
        .await;
    let mut answers = Vec::new();
    let mut records = Vec::new();
    while answers.len() < 7 || records.len() < 2 {
        let frame = client.next().await;
        if frame["id"].is_number() {
            let kind = frame["type"].as_str().unwrap().to_owned();
            answers.push((frame["id"].as_i64().unwrap(), kind));
        }
        records.extend(frame["records"].as_array().into_iter().flatten().cloned());
    }
    let of = |sub: &[i64]| -> Vec<(i64, String)> {
        let found = answers.iter().filter(|(id, _)| sub.contains(id));
        found.cloned().collect()
    };
    let expected = |list: &[(i64, &str)]| -> Vec<(i64, String)> {
        list.iter()
            .map(|(id, kind)| (*id, (*kind).to_owned()))
            .collect()
    };
    let group = [(1, "subscribed"), (2, "acked"), (2, "error")];
    assert_eq!(of(&[1, 2]), expected(&group));
    let tail = [
        (3, "subscribed"),
        (5, "ok"),
        (6, "unsubscribed"),
        (7, "error"),
    ];
    assert_eq!(of(&[3, 5, 6, 7]), expected(&tail));
    // The credit of the group has not been lost.
    assert_eq!(offsets(&records), [0, 1]);
    client.bye().await;
}

/// The subscription of the address is there from the first frame on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_behind_the_short_way_are_handled_in_order() {
    let (gateway, plain) = (gateway().await, broker().await.plain());
    let topic = topic("ws-short-behind");
    plain.create_topic(&topic, 1, &[]).await;
    fill(gateway, &topic, 0, 0..3).await;
    for group in ["", &format!("&group={topic}&offset_reset=earliest")] {
        let path = format!("/ws?topics={topic}{group}&from=earliest");
        let mut client = at(gateway, &path).connect().await;
        let frames = [
            json!({"type": "pause", "id": 1, "sub": "main"}),
            json!({"type": "resume", "id": 2, "sub": "main"}),
            json!({"type": "pause", "id": 3, "sub": "none"}),
        ];
        client
            .send_texts(frames.map(|frame| frame.to_string()))
            .await;
        let mut answers = Vec::new();
        let mut records = Vec::new();
        while answers.len() < 3 || records.len() < 3 {
            let frame = client.next().await;
            if let Some(id) = frame["id"].as_i64() {
                answers.push((id, frame["type"].as_str().unwrap().to_owned()));
            }
            records.extend(frame["records"].as_array().into_iter().flatten().cloned());
        }
        answers.sort_unstable();
        let expected = [(1, "ok"), (2, "ok"), (3, "error")];
        assert_eq!(answers, expected.map(|(id, kind)| (id, kind.to_owned())));
        assert_eq!(offsets(&records), [0, 1, 2]);
        client.bye().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_topic_is_told_and_the_others_go_on() {
    let (gateway, plain) = (gateway().await, broker().await.plain());
    let (stays, goes) = (topic("ws-stays"), topic("ws-goes"));
    for name in [&stays, &goes] {
        plain.create_topic(name, 1, &[]).await;
        fill(gateway, name, 0, 0..1).await;
    }
    let mut client = Client::welcomed(gateway).await;
    let options = json!({"offset_reset": "earliest", "topics": [stays, goes]});
    client.subscribe(&stays, &stays, options).await;
    client.records(2).await;
    plain.delete_topic(&goes).await;
    let revoked = client.until("revoked").await;
    assert_eq!(revoked["partitions"][0]["topic"], goes.as_str());
    let error = client.until("error").await;
    assert_eq!(
        (&error["code"], &error["sub"]),
        (&json!("topic_not_found"), &json!("o"))
    );
    assert!(
        error["message"].as_str().unwrap().contains(&goes),
        "{error}"
    );
    fill(gateway, &stays, 0, 1..2).await;
    let records = client.records(1).await;
    assert_eq!(records[0]["topic"], stays.as_str());
    client.bye().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pattern_waits_for_its_first_topic() {
    let (gateway, plain) = (gateway().await, broker().await.plain());
    let name = topic("ws-later");
    let mut client = Client::welcomed(gateway).await;
    let subscribe = json!({"type": "subscribe", "id": 1, "sub": "o", "group": name,
        "pattern": format!("{name}.*"), "offset_reset": "earliest"});
    assert_eq!(client.ask(subscribe).await["type"], "subscribed");
    let state = client.until("state").await;
    assert_eq!(state["state"], "joining");
    assert!(
        state["detail"].as_str().unwrap().contains("pattern"),
        "{state}"
    );
    let path = format!("/ws?pattern={name}.*&group={name}-short&offset_reset=earliest");
    let mut short = at(gateway, &path).connect().await;
    assert_eq!(short.until("state").await["state"], "joining");
    plain.create_topic(&name, 1, &[]).await;
    fill(gateway, &name, 0, 0..2).await;
    assert_eq!(offsets(&client.records(2).await), [0, 1]);
    assert_eq!(offsets(&short.records(2).await), [0, 1]);
    client.bye().await;
    short.bye().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_lag_gauge_is_the_end_less_what_is_committed() {
    let plain = broker().await.plain();
    let gateway = Gateway::start(&broker().await.bootstrap()).await;
    let topic = topic("ws-lag");
    plain.create_topic(&topic, 1, &[]).await;
    fill(&gateway, &topic, 0, 0..100).await;
    let lag_is = async |expected: Option<i64>| {
        let url = gateway.management_url("/metrics");
        let line =
            format!("kafka_consumer_lag{{group=\"{topic}\",topic=\"{topic}\",partition=\"0\"}} ");
        eventually(Duration::from_secs(60), async || {
            let text = http::get(&url).await.text().to_owned();
            let value = text
                .lines()
                .find_map(|of| of.strip_prefix(&line)?.parse().ok());
            value == expected
        })
        .await;
    };
    let mut client = Client::welcomed(&gateway).await;
    let options = json!({"offset_reset": "earliest", "flow": {"records": 10}, "ack_timeout_ms": 0});
    client.subscribe(&topic, &topic, options).await;
    let records = client.records(10).await;
    client.ack(&tags(&records)[..1]).await;
    // The window is full, and nothing is fetched.
    lag_is(Some(99)).await;
    fill(&gateway, &topic, 0, 100..150).await;
    lag_is(Some(149)).await;
    client
        .ask(json!({"type": "pause", "id": 1, "sub": "o"}))
        .await;
    client.ack(&tags(&records)).await;
    lag_is(Some(140)).await;
    client.bye().await;
    // Without a member it is what Kafka says, until the group is no more to be heard of.
    fill(&gateway, &topic, 0, 150..160).await;
    lag_is(Some(150)).await;
    plain.commit(&topic, &topic, 0, 160).await;
    lag_is(Some(0)).await;
    plain.delete_topic(&topic).await;
    lag_is(None).await;
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
