//! Writing over a socket to a broker that is slow, or does not answer: the window, and its end.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use krafka::testing::ApiKey;
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::support::fault::FaultBroker;
use crate::support::gateway::Gateway;
use crate::support::kafka_client::KafkaClient;
use crate::support::ws::Client;

const TOPIC: &str = "orders";

fn produce(id: u64) -> Value {
    json!({"type": "produce", "id": id, "topic": TOPIC, "records": [{"value": id, "partition": 0}]})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_beyond_the_window_is_refused_by_its_id_and_may_come_again() {
    const REQUESTS: u64 = 1_000;
    let broker = FaultBroker::start().await;
    broker.create_topic(TOPIC, 1);
    let gateway = Gateway::start(&broker.bootstrap()).await;
    let mut client = Client::welcomed(&gateway).await;
    client.ask(produce(REQUESTS)).await;
    broker.delay(ApiKey::Produce, Duration::from_millis(1_500));
    let begin = Instant::now();
    for id in 0..REQUESTS {
        client.send(produce(id)).await;
    }
    client.send(json!({"type": "ping", "id": "p"})).await;
    let mut answers: BTreeMap<u64, Value> = BTreeMap::new();
    let mut pong = None;
    while (answers.len() as u64) < REQUESTS || pong.is_none() {
        let frame = client.next().await;
        match frame["id"].as_u64() {
            Some(id) => assert!(answers.insert(id, frame).is_none(), "{id} twice"),
            None => {
                assert_eq!(frame["type"], "pong", "{frame}");
                pong = Some((begin.elapsed(), answers.len()));
            }
        }
    }
    let written: Vec<u64> = answers
        .iter()
        .filter(|(_, frame)| frame["type"] == "produced")
        .map(|(id, _)| *id)
        .collect();
    for (id, frame) in &answers {
        if !written.contains(id) {
            assert_eq!(frame["code"], "produce_overrun", "{frame}");
            assert_eq!(frame["retriable"], true, "{frame}");
            assert!(frame["retry_after_ms"].is_u64(), "{frame}");
        }
    }
    eprintln!("{} written, pong after {pong:?}", written.len());
    assert!(
        (100..REQUESTS as usize).contains(&written.len()),
        "{}",
        written.len()
    );
    // What was refused may come again, and again is what was written: each is in the topic once.
    broker.clear_hooks();
    for id in 0..REQUESTS {
        let mut answer = client.ask(produce(id)).await;
        while answer["code"] == "produce_overrun" {
            sleep(Duration::from_millis(20)).await;
            answer = client.ask(produce(id)).await;
        }
        assert_eq!(answer["type"], "produced", "{answer}");
        assert_eq!(
            answer["duplicate"] == true,
            written.contains(&id),
            "{answer}"
        );
    }
    let records = KafkaClient::new(&broker.bootstrap())
        .consume_all(TOPIC)
        .await;
    let mut values: Vec<u64> = records
        .iter()
        .map(|r| r.text().unwrap().parse().unwrap())
        .collect();
    let first = values.split_off(1);
    assert_eq!(values, [REQUESTS]);
    assert_eq!(
        first[..written.len()],
        written,
        "in the order of the requests"
    );
    let mut all = first;
    all.sort_unstable();
    assert_eq!(all, (0..REQUESTS).collect::<Vec<_>>());
    client.bye().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: half a minute beyond the window"]
async fn only_lasting_abuse_ends_the_session() {
    let broker = FaultBroker::start().await;
    broker.create_topic(TOPIC, 1);
    // Records given up in the meantime would make room.
    let gateway = Gateway::builder(&broker.bootstrap())
        .set("kafka.producer.message.timeout.ms", "120000")
        .start()
        .await;
    let mut client = Client::welcomed(&gateway).await;
    client.ask(produce(1_000)).await;
    broker.silence(ApiKey::Produce);
    for id in 0..100 {
        client.send(produce(id)).await;
    }
    let begin = Instant::now();
    for id in 100.. {
        client.send(produce(id)).await;
        let frame = client.next().await;
        if frame["type"] == "goodbye" {
            break;
        }
        assert_eq!(frame["code"], "produce_overrun", "{frame}");
        assert!(begin.elapsed() < Duration::from_secs(100));
        sleep(Duration::from_millis(200)).await;
    }
    assert!(
        begin.elapsed() >= Duration::from_secs(29),
        "{:?}",
        begin.elapsed()
    );
    let closed = client.closed().await;
    assert_eq!(
        (closed.code, closed.reason.as_str()),
        (Some(4008), "rate_limited")
    );
}
