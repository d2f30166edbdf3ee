//! How much of a tail goes out, on a real Kafka: credit, sizes of frames, pauses, seeks, rates, conflation.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{digits, follow, tail, topic_of, values, write};
use crate::support::gateway::Gateway;
use crate::support::kafka_client::OutgoingRecord;
use crate::support::ws::{Client, at, offsets};
use crate::support::{eventually, kafka, metric, shared_gateway};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tail_with_credit_sends_as_many_records_as_credit_allows() {
    let plain = kafka().await.plain();
    let name = digits(&plain).await;
    let mut client = Client::welcomed(shared_gateway().await).await;
    let flow = json!({"from": "earliest", "flow": {"mode": "credit"}});
    let subscribed = follow(&mut client, &name, flow).await;
    assert_eq!(subscribed["flow"], json!({"mode": "credit"}));
    client.silent(Duration::from_secs(1)).await;
    let credit =
        |records: i64| json!({"type": "credit", "id": "c", "sub": "t", "records": records});
    client.send(credit(3)).await;
    assert_eq!(offsets(&client.records(3).await), [0, 1, 2]);
    client.silent(Duration::from_secs(1)).await;
    client.send(credit(1)).await;
    client.send(credit(2)).await;
    assert_eq!(offsets(&client.records(3).await), [3, 4, 5]);
    client.silent(Duration::from_millis(500)).await;
    client.send_text(&credit(-1).to_string()).await;
    let error = client.answer("c").await;
    assert_eq!(error["field"], "records");
    client.send(credit(100)).await;
    assert_eq!(offsets(&client.records(4).await), [6, 7, 8, 9]);
    write(&plain, &name, 0, "10").await;
    assert_eq!(offsets(&client.records(1).await), [10]);
    // A window's room is not the client's to give.
    tail(&mut client, "w", &name, json!({})).await;
    let error = client
        .ask(json!({"type": "credit", "id": "w", "sub": "w", "records": 1}))
        .await;
    assert_eq!(error["type"], "error");
    client.bye().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frame_is_as_large_as_it_may_be_and_waits_as_long() {
    let plain = kafka().await.plain();
    let name = digits(&plain).await;
    let mut client = Client::welcomed(shared_gateway().await).await;
    let batch = json!({"from": "earliest", "batch": {"records": 3, "linger_ms": 1_500}});
    let begin = Instant::now();
    follow(&mut client, &name, batch).await;
    let mut sizes = Vec::new();
    while sizes.iter().sum::<usize>() < 10 {
        let frame = client.until("records").await;
        sizes.push(frame["records"].as_array().unwrap().len());
    }
    // The last one waits for more, and goes when none comes.
    assert_eq!(sizes, [3, 3, 3, 1]);
    assert!(
        begin.elapsed() >= Duration::from_millis(1_400),
        "{:?}",
        begin.elapsed()
    );
    client.bye().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pauses_hold_partitions_where_they_are() {
    let plain = kafka().await.plain();
    let name = topic_of(&plain, "tail-pause", 2).await;
    let mut client = Client::welcomed(shared_gateway().await).await;
    follow(&mut client, &name, json!({})).await;
    write(&plain, &name, 0, "0").await;
    client.records(1).await;
    let one = json!({"topic": name, "partition": 0});
    let ok = client
        .ask(json!({"type": "pause", "id": 1, "sub": "t", "partitions": [one]}))
        .await;
    assert_eq!(ok["paused"], json!([one]));
    for n in 1..4 {
        write(&plain, &name, 0, &n.to_string()).await;
        write(&plain, &name, 1, &n.to_string()).await;
    }
    let records = client.records(3).await;
    assert!(records.iter().all(|r| r["partition"] == 1), "{records:?}");
    client.silent(Duration::from_secs(1)).await;
    let mut positions = Value::Null;
    // The end is known when it has been read up to there, partition by partition.
    for n in 0.. {
        let asked = json!({"type": "position", "id": format!("2.{n}"), "sub": "t"});
        positions = client.ask(asked).await["positions"].take();
        assert_eq!(positions[0]["delivered"], 1);
        if positions[0]["end"] == 4 {
            break;
        }
        assert!(n < 60, "{positions}");
        client.silent(Duration::from_millis(500)).await;
    }
    assert_eq!(positions[0]["lag"], 3);
    assert_eq!(positions[1]["lag"], 0);
    let ok = client
        .ask(json!({"type": "pause", "id": 3, "sub": "t"}))
        .await;
    assert_eq!(ok["paused"].as_array().unwrap().len(), 2);
    write(&plain, &name, 1, "4").await;
    client.silent(Duration::from_secs(1)).await;
    let ok = client
        .ask(json!({"type": "resume", "id": 4, "sub": "t", "partitions": [one]}))
        .await;
    assert_eq!(ok["paused"], json!([{"topic": name, "partition": 1}]));
    assert_eq!(offsets(&client.records(3).await), [1, 2, 3]);
    client.silent(Duration::from_millis(500)).await;
    let ok = client
        .ask(json!({"type": "resume", "id": 5, "sub": "t"}))
        .await;
    assert_eq!(ok["paused"], json!([]));
    assert_eq!(values(&client.records(1).await), [4]);
    let error = client
        .ask(json!({"type": "pause", "id": 6, "sub": "t", "partitions": [{"topic": name, "partition": 9}]}))
        .await;
    assert_eq!(error["code"], "not_assigned");
    assert_eq!(error["field"], "partitions[0]");
    client.bye().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_seeked_all_is_from_the_new_position() {
    let plain = kafka().await.plain();
    let name = digits(&plain).await;
    let mut client = Client::welcomed(shared_gateway().await).await;
    // Not all of what has been read is given out when the seek comes.
    let options = json!({"from": "earliest", "flow": {"mode": "credit"}});
    follow(&mut client, &name, options).await;
    let credit = |records: i64| json!({"type": "credit", "sub": "t", "records": records});
    client.send(credit(2)).await;
    assert_eq!(offsets(&client.records(2).await), [0, 1]);
    let seek = |id: &str, to: Value| {
        let mut position = json!({"topic": name, "partition": 0});
        for (key, value) in to.as_object().unwrap() {
            position[key] = value.clone();
        }
        json!({"type": "seek", "id": id, "sub": "t", "positions": [position]})
    };
    for (id, to, at) in [
        ("back", json!({"offset": 0}), 0),
        ("on", json!({"offset": 7}), 7),
        ("beginning", json!({"offset": "beginning"}), 0),
        ("time", json!({"timestamp": 1}), 0),
    ] {
        let seeked = client.ask(seek(id, to)).await;
        assert_eq!(seeked["type"], "seeked", "{seeked}");
        assert_eq!(seeked["positions"][0]["offset"], at, "{id}");
        client.send(credit(2)).await;
        assert_eq!(offsets(&client.records(2).await), [at, at + 1], "{id}");
    }
    let seeked = client.ask(seek("end", json!({"offset": "end"}))).await;
    assert_eq!(seeked["positions"][0]["offset"], 10);
    client.send(credit(5)).await;
    client.silent(Duration::from_millis(500)).await;
    assert_eq!(
        client.ask(seek("beyond", json!({"offset": 99}))).await["positions"][0]["offset"],
        10
    );
    for (id, to, code) in [
        (
            "committed",
            json!({"offset": "committed"}),
            "invalid_for_tail",
        ),
        ("negative", json!({"offset": -1}), "invalid_frame"),
        (
            "both",
            json!({"offset": 1, "timestamp": 1}),
            "invalid_frame",
        ),
        (
            "other",
            json!({"offset": 1, "partition": 3}),
            "not_assigned",
        ),
    ] {
        let error = client.ask(seek(id, to)).await;
        assert_eq!(error["code"], code, "{error}");
        assert!(error["field"].as_str().unwrap().starts_with("positions[0]"));
    }
    let empty = json!({"type": "seek", "id": "none", "sub": "t", "positions": []});
    assert_eq!(client.ask(empty).await["field"], "positions");
    client.bye().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rate_leaves_out_what_comes_in_between_for_tails_too_and_never_the_newest() {
    let plain = kafka().await.plain();
    let name = topic_of(&plain, "tail-rate", 1).await;
    let gateway = shared_gateway().await;
    let path = format!("/ws?topics={name}&max_rate=2");
    let mut client = at(gateway, &path).connect().await;
    let subscribed = client.until("subscribed").await;
    assert_eq!(subscribed["max_rate"], 2.0);
    assert_eq!(subscribed["conflate"], Value::Null);
    let begun = Instant::now();
    for n in 0..100 {
        write(&plain, &name, 0, &n.to_string()).await;
    }
    let mut came = Vec::new();
    let mut places = Vec::new();
    while came.last() != Some(&99) {
        came.extend(offsets(&client.records(1).await));
        let ask = json!({"type": "position", "id": came.len(), "sub": "main"});
        places.push(client.ask(ask).await["position"].clone());
    }
    let took = begun.elapsed().as_secs_f64();
    assert!(came.windows(2).all(|two| two[0] < two[1]), "{came:?}");
    // One at once, and two a second from then on.
    assert!(
        (came.len() as f64) <= 2.0 + 2.0 * took,
        "{came:?} in {took} s"
    );
    assert!(came.len() < 100, "some are left out");
    client.bye().await;

    // Who goes on elsewhere gets what still waited, and nothing that it has.
    let mut client = Client::welcomed(gateway).await;
    for (place, seen) in [(&places[0], came[0]), (&places[places.len() - 1], 99)] {
        let again = follow(&mut client, &name, json!({"from": place})).await;
        let begins = again["positions"][0]["offset"].as_i64().unwrap();
        // The answer may have come after others that were sent meanwhile, but after nothing that waited.
        assert!(begins > seen, "{begins} of {came:?}");
        assert!(came.contains(&(begins - 1)), "{begins} of {came:?}");
        client
            .ask(json!({"type": "unsubscribe", "id": 1, "sub": "t"}))
            .await;
    }
    client.bye().await;
    for (query, field) in [
        ("max_rate=fast", "max_rate"),
        ("max_rate=NaN", "max_rate"),
        ("conflate=value", "conflate"),
        ("group=g&max_rate=1", "max_rate"),
        ("group=g&conflate=key", "conflate"),
    ] {
        let path = format!("/ws?topics={name}&{query}");
        let closed = at(gateway, &path).connect().await.closed().await;
        assert_eq!(closed.code, Some(4511), "{query}: {closed:?}");
        let goodbye = closed.goodbye.unwrap().to_string();
        assert!(goodbye.contains(field), "{query}: {goodbye}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_for_credit_is_conflated_by_key_and_comes_again_elsewhere() {
    let plain = kafka().await.plain();
    let name = topic_of(&plain, "tail-conflate", 1).await;
    for n in 0..300 {
        let (key, value) = (format!("k{}", n % 10), n.to_string());
        let record = OutgoingRecord {
            topic: &name,
            partition: Some(0),
            key: Some(key.as_bytes()),
            value: Some(value.as_bytes()),
            ..OutgoingRecord::default()
        };
        plain.produce(record).await;
    }
    // Its own, for others' records would be counted too.
    let gateway = Gateway::start(&kafka().await.bootstrap()).await;
    let mut client = Client::welcomed(&gateway).await;
    let options = json!({
        "from": "earliest", "flow": {"mode": "credit"}, "conflate": "key",
    });
    let subscribed = follow(&mut client, &name, options).await;
    assert_eq!(subscribed["conflate"], "key");
    // All of it is read while nothing may go.
    eventually(Duration::from_secs(60), async || {
        metric(&gateway, "stream_records_conflated_total").await >= 290.0
    })
    .await;
    let position = |id: i32| json!({"type": "position", "id": id, "sub": "t"});
    let delivered = |answer: &Value| answer["positions"][0]["delivered"].clone();
    let at_first = client.ask(position(1)).await;
    assert_eq!(delivered(&at_first), 0);
    client
        .send(json!({"type": "credit", "sub": "t", "records": 4}))
        .await;
    let first = client.records(4).await;
    assert_eq!(offsets(&first), [290, 291, 292, 293]);
    let then = client.ask(position(2)).await;
    assert_eq!(delivered(&then), 294);
    client.drop_dead();

    let mut client = Client::welcomed(&gateway).await;
    follow(&mut client, &name, json!({"from": then["position"]})).await;
    let rest = client.records(6).await;
    assert_eq!(offsets(&rest), [294, 295, 296, 297, 298, 299]);
    client.bye().await;
}
