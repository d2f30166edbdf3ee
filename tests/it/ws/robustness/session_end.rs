//! How sessions end with their gateway, and what is left of them.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use futures::StreamExt;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use super::{becomes, broker, fill, open_files, raw};
use crate::support::gateway::Gateway;
use crate::support::ws::{Client, at, offsets, tags};
use crate::support::{eventually, groups, kafka, metric, topic};

/// On a broker whose session timeout is Kafka's own, 45 s: who takes over sooner was told.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: a gateway's whole grace period, and Kafka's own heartbeats"]
async fn a_gateway_that_stops_hands_over_its_groups() {
    const GRACE: Duration = Duration::from_secs(20);
    let kafka = kafka().await;
    let start = || {
        Gateway::builder(&kafka.bootstrap())
            .set("shutdown_grace_ms", &GRACE.as_millis().to_string())
            .start()
    };
    let (stops, stays) = (start().await, start().await);
    let topic = topic("ws-drain");
    kafka.plain().create_topic(&topic, 2, &[]).await;
    for partition in 0..2 {
        fill(&stays, &topic, partition, 0..10).await;
    }
    let options = || json!({"offset_reset": "earliest", "ack_timeout_ms": 0});
    let mut acks = Client::welcomed(&stops).await;
    acks.subscribe(&topic, &topic, options()).await;
    let records = acks.records(20).await;
    // Beside it: one without a subscription, one that reads nothing, one that has said nothing.
    let mut idle = Client::welcomed(&stops).await;
    let _deaf = raw(&stops, "/ws").await;
    let other = format!("{topic}-other");
    let path = format!("/ws?topics={topic}&group={other}&offset_reset=earliest&ack=individual");
    let mut holds = at(&stops, &path).connect().await;
    holds.records(20).await;

    stops.ask_to_end();
    let begin = Instant::now();
    let drain = acks.until("drain").await;
    let most = GRACE.as_millis() as u64;
    assert!(drain["deadline_ms"].as_u64().unwrap() <= most, "{drain}");
    let refused = acks
        .ask(json!({"type": "produce", "id": 1, "topic": topic, "records": [{"value": 1}]}))
        .await;
    assert_eq!(
        (&refused["code"], &refused["retriable"]),
        (&json!("draining"), &json!(true))
    );
    let refused = acks
        .ask(json!({"type": "subscribe", "id": 2, "sub": "p", "group": "p", "topics": [topic]}))
        .await;
    assert_eq!(refused["code"], "draining");
    // Half of them, and then the rest: it ends as soon as nothing is outstanding.
    let all = tags(&records);
    acks.ack(&all[..10]).await;
    acks.ack(&all[10..]).await;
    let mut after: Vec<u64> = vec![drain["reconnect_after_ms"].as_u64().unwrap()];
    let closed = acks.closed().await;
    assert!(begin.elapsed() < GRACE / 2, "{:?}", begin.elapsed());
    assert_eq!(
        (closed.code, closed.reason.as_str()),
        (Some(1012), "drained")
    );
    let goodbye = closed.goodbye.unwrap();
    assert_eq!(goodbye["retry_after_ms"], after[0]);
    assert_eq!(
        goodbye["committed"].as_array().unwrap().len(),
        2,
        "{goodbye}"
    );
    for partition in 0..2 {
        let committed = kafka.plain().committed(&topic, &topic, partition).await;
        assert_eq!(committed, Some(10));
    }
    after.push(
        idle.until("drain").await["reconnect_after_ms"]
            .as_u64()
            .unwrap(),
    );
    assert_eq!(idle.closed().await.code, Some(1012));

    // Two members take over while the first gateway still waits for those that do not answer.
    let mut next = Client::welcomed(&stays).await;
    next.subscribe(&topic, &topic, options()).await;
    let mut seen = BTreeSet::new();
    let mut other_next = Client::welcomed(&stays).await;
    other_next.send(json!({"type": "subscribe", "id": 1, "sub": "o", "group": other, "topics": [topic], "offset_reset": "earliest"})).await;
    after.push(
        holds.until("drain").await["reconnect_after_ms"]
            .as_u64()
            .unwrap(),
    );
    assert_eq!(holds.closed().await.code, Some(1012));
    while seen.len() < 20 {
        for record in other_next.records(1).await {
            seen.insert((record["partition"].as_i64(), record["offset"].as_i64()));
        }
    }
    eprintln!(
        "the other group was taken over {:?} after SIGTERM",
        begin.elapsed()
    );
    assert!(
        begin.elapsed() < GRACE + Duration::from_secs(40),
        "{:?}",
        begin.elapsed()
    );
    let ended = stops.ended().await;
    assert!(ended.status.success(), "{}", ended.stderr);
    assert!(after.iter().collect::<BTreeSet<_>>().len() > 1, "{after:?}");
    assert!(after.iter().all(|ms| *ms <= most), "{after:?}");
    next.bye().await;
    other_next.bye().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_that_never_answer_do_not_hold_up_the_end() {
    const GRACE: Duration = Duration::from_secs(4);
    let gateway = Gateway::builder(&broker().await.bootstrap())
        .set("shutdown_grace_ms", &GRACE.as_millis().to_string())
        .start()
        .await;
    let topic = topic("ws-deaf");
    broker().await.plain().create_topic(&topic, 1, &[]).await;
    super::fill_large(&topic, 3_000, 10_000).await;
    let mut deaf = Vec::new();
    for number in 0..5 {
        let path = format!("/ws?topics={topic}&group={topic}-{number}&offset_reset=earliest");
        deaf.push(raw(&gateway, &path).await);
    }
    eventually(Duration::from_secs(60), async || {
        metric(&gateway, "websocket_records_delivered_total").await > 50.0
    })
    .await;
    gateway.ask_to_end();
    let begin = Instant::now();
    let ended = gateway.ended().await;
    eprintln!("ended after {:?}", begin.elapsed());
    assert!(ended.status.success(), "{}", ended.stderr);
    assert!(
        begin.elapsed() < GRACE + Duration::from_secs(20),
        "{:?}",
        begin.elapsed()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_gateways_records_go_to_another_after_the_session_timeout() {
    let bootstrap = broker().await.bootstrap();
    let (dies, lives) = (
        Gateway::start(&bootstrap).await,
        Gateway::start(&bootstrap).await,
    );
    let topic = topic("ws-killed");
    broker().await.plain().create_topic(&topic, 1, &[]).await;
    fill(&lives, &topic, 0, 0..100).await;
    let mut first = Client::welcomed(&dies).await;
    let options = || json!({"offset_reset": "earliest"});
    first.subscribe(&topic, &topic, options()).await;
    let records = first.records(100).await;
    let but_37: Vec<u64> = tags(&records)
        .into_iter()
        .filter(|tag| *tag != 38)
        .collect();
    first.ack(&but_37).await;
    first
        .ask(json!({"type": "commit", "sub": "o", "id": 1}))
        .await;
    // The answer need not say so: what is acknowledged is committed now and then without being asked.
    let plain = broker().await.plain();
    groups::committed(&plain, &topic, &topic, 0, 37).await;
    let mut second = Client::welcomed(&lives).await;
    second.send(json!({"type": "subscribe", "id": 1, "sub": "o", "group": topic, "topics": [topic], "offset_reset": "earliest"})).await;
    second.until("subscribed").await;
    dies.kill();
    let begin = Instant::now();
    let records = second.records(63).await;
    eprintln!("taken over {:?} after SIGKILL", begin.elapsed());
    assert_eq!(offsets(&records), (37..100).collect::<Vec<i64>>());
    second.bye().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_left_of_sessions_that_ended() {
    // Whose session timeout is Kafka's own, 45 s: a member left behind would show.
    let kafka = kafka().await;
    let gateway = Gateway::start(&kafka.bootstrap()).await;
    let topic = topic("ws-left");
    kafka.plain().create_topic(&topic, 3, &[]).await;
    for partition in 0..3 {
        fill(&gateway, &topic, partition, 0..50).await;
    }
    // One, so that what is opened once is open.
    let once = async || {
        let mut client = Client::welcomed(&gateway).await;
        client
            .subscribe(&topic, &topic, json!({"offset_reset": "earliest"}))
            .await;
        client
    };
    once().await.bye().await;
    becomes(&gateway, "websocket_sessions", 0.0).await;
    let closes = metric(&gateway, "websocket_closes_total").await;
    let files = open_files(&gateway);
    let mut ended = 0.0;
    for round in 0..3 {
        let mut clients = Vec::new();
        for _ in 0..12 {
            let mut client = Client::welcomed(&gateway).await;
            client
                .send(json!({"type": "subscribe", "id": 1, "sub": "o", "group": topic, "topics": [topic], "offset_reset": "earliest"}))
                .await;
            clients.push(client);
        }
        ended += clients.len() as f64;
        for (number, mut client) in clients.into_iter().enumerate() {
            match (number + round) % 4 {
                0 => client.bye().await,
                1 => client.drop_dead(),
                2 => {
                    client.send_text("nonsense").await;
                    assert_eq!(client.closed().await.code, Some(4500));
                }
                _ => {
                    client.until("subscribed").await;
                    client.send_message(Message::Close(None)).await;
                    client.closed().await;
                }
            }
        }
        becomes(&gateway, "websocket_sessions", 0.0).await;
        becomes(&gateway, "websocket_records_in_flight", 0.0).await;
        becomes(&gateway, "websocket_closes_total", closes + ended).await;
    }
    eventually(Duration::from_secs(60), async || {
        open_files(&gateway) <= files + 3
    })
    .await;
    // Nobody else is in the group: all is assigned to the next.
    let mut last = Client::welcomed(&gateway).await;
    let begin = Instant::now();
    let mut assigned = last
        .subscribe(&topic, &topic, json!({"offset_reset": "earliest"}))
        .await;
    // Kafka assigns at most once a second, and says so with a heartbeat.
    while assigned["assignment"].as_array().unwrap().len() < 3 {
        assigned = last.until("assigned").await;
    }
    assert!(
        begin.elapsed() < Duration::from_secs(38),
        "{:?}",
        begin.elapsed()
    );
    let position: Value = last
        .ask(json!({"type": "position", "sub": "o", "id": "p"}))
        .await;
    assert_eq!(position["positions"].as_array().unwrap().len(), 3);
    last.bye().await;
    let mut gone = raw(&gateway, "/ws").await;
    assert!(matches!(gone.next().await, Some(Ok(Message::Text(_)))));
    drop(gone);
    becomes(&gateway, "websocket_sessions", 0.0).await;
    let log = gateway.stderr();
    assert!(
        !log.contains("panicked") && !log.contains("were not finished in time"),
        "{log}"
    );
}
