//! Static members of a group: a session that comes again with the same instance id takes over from the one
//! before, and no partition moves.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use crate::support::broker::Broker;
use crate::support::gateway::Gateway;
use crate::support::groups::{assigned, broker, epochs, fill, gateway};
use crate::support::ws::{Client, offsets, tags};
use crate::support::{kafka, topic};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_later_session_of_an_instance_takes_over() {
    let (gateway, plain) = (gateway().await, broker().await.plain());
    let topic = topic("ws-taken");
    plain.create_topic(&topic, 1, &[]).await;
    fill(gateway, &topic, 0, 0..4).await;
    let options = json!({
        "instance_id": "one", "offset_reset": "earliest", "commit_interval_ms": 60000,
    });
    let mut first = Client::welcomed(gateway).await;
    first.subscribe(&topic, &topic, options.clone()).await;
    let records = first.records(4).await;
    // Answered, because what is on its way in one connection is not waited for by another.
    let acked = first
        .ask(json!({"type": "ack", "sub": "o", "id": 1, "tags": tags(&records)[..2]}))
        .await;
    assert_eq!(acked["type"], "acked");
    let before = epochs(broker().await, &topic);
    let mut second = Client::welcomed(gateway).await;
    let assigned = second.subscribe(&topic, &topic, options).await;
    assert_eq!(assigned["partitions"][0]["start"], 2);
    let closed = first.closed().await;
    assert_eq!(
        (closed.code, closed.reason.as_str()),
        (Some(4505), "taken_over")
    );
    assert_eq!(closed.goodbye.unwrap()["committed"][0]["offset"], 2);
    assert_eq!(offsets(&second.records(2).await), [2, 3]);
    assert_eq!(
        epochs(broker().await, &topic),
        before,
        "nobody else notices"
    );
    second.bye().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_process_waits_until_an_instance_is_given_up() {
    let (here, plain) = (gateway().await, broker().await.plain());
    let there = Gateway::start(&broker().await.bootstrap()).await;
    let topic = topic("ws-elsewhere");
    plain.create_topic(&topic, 1, &[]).await;
    fill(here, &topic, 0, 0..4).await;
    let options = json!({"instance_id": "one", "offset_reset": "earliest"});
    let mut first = Client::welcomed(here).await;
    first.subscribe(&topic, &topic, options.clone()).await;
    let records = first.records(4).await;
    first.ack(&tags(&records)[..3]).await;

    let mut asked = options;
    asked["type"] = "subscribe".into();
    asked["sub"] = "o".into();
    asked["group"] = topic.clone().into();
    asked["topics"] = json!([topic]);
    let mut second = Client::welcomed(&there).await;
    second.send(asked).await;
    let waits = |frame: &Value| {
        frame["type"] == "state" && frame["state"] == "joining" && frame.get("detail").is_some()
    };
    second.until_such("state joining, and why", waits).await;
    // The first is none the worse for it.
    let pong = first.ask(json!({"type": "ping", "id": 1})).await;
    assert_eq!(pong["type"], "pong");
    first.bye().await;
    let starts = assigned(&mut second, 1).await;
    assert_eq!(starts[&(topic, 0)]["start"], 3);
    second.bye().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: a minute until an instance id that another process has is given up"]
async fn an_instance_that_another_process_keeps_is_given_up() {
    let (here, plain) = (gateway().await, broker().await.plain());
    let there = Gateway::start(&broker().await.bootstrap()).await;
    let topic = topic("ws-kept");
    plain.create_topic(&topic, 1, &[]).await;
    let options = json!({
        "type": "subscribe", "sub": "o", "group": topic, "topics": [topic], "instance_id": "one",
    });
    let mut first = Client::welcomed(here).await;
    first.send(options.clone()).await;
    assigned(&mut first, 1).await;
    let mut second = Client::welcomed(&there).await;
    second.send(options).await;
    // The helpers' own bound is shorter than what is waited for here.
    let goodbye = async {
        loop {
            match second.next_within(Duration::from_secs(80)).await {
                Some(frame) if frame["type"] == "goodbye" => return frame,
                Some(_) => {}
                None => panic!("it still waits: {}", there.stderr()),
            }
        }
    };
    // Who does not read answers no ping, and is given up.
    let reading = async {
        loop {
            first.next_within(Duration::from_secs(1)).await;
        }
    };
    let goodbye = tokio::select! {
        goodbye = goodbye => goodbye,
        () = reading => unreachable!("it reads on"),
    };
    assert_eq!(
        (&goodbye["code"], &goodbye["name"]),
        (&json!(4505), &json!("taken_over"))
    );
    let pong = first.ask(json!({"type": "ping", "id": 1})).await;
    assert_eq!(pong["type"], "pong");
    first.bye().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: five seconds of reloads, and a broker of its own"]
async fn a_page_that_reloads_fifty_times_makes_no_rebalance() {
    // Its members are given time: on a busy machine three seconds are not enough to tell a page that
    // reloads from one that is gone.
    let broker = Broker::builder()
        .fast_groups()
        .property("group.consumer.session.timeout.ms", "15000")
        .start()
        .await;
    let (gateway, plain) = (&Gateway::start(&broker.bootstrap()).await, broker.plain());
    let topic = topic("ws-reload");
    plain.create_topic(&topic, 2, &[]).await;
    let mut other = Client::welcomed(gateway).await;
    other
        .subscribe(&topic, &topic, json!({"instance_id": "other"}))
        .await;
    let options = json!({
        "type": "subscribe", "sub": "o", "group": topic, "topics": [topic],
        "instance_id": "page", "offset_reset": "earliest",
    });
    let mut page = Client::welcomed(gateway).await;
    page.send(options.clone()).await;
    assigned(&mut page, 1).await;
    assigned(&mut other, 1).await;
    let before = epochs(&broker, &topic);
    let began = Instant::now();
    for n in 0..50_u32 {
        // As often as five seconds allow, and each second one without a word.
        tokio::time::sleep_until(began + Duration::from_millis(100) * n).await;
        let next = Client::welcomed(gateway).await;
        let last = std::mem::replace(&mut page, next);
        if n % 2 == 0 {
            last.drop_dead();
        } else {
            drop(last.bye_unheard().await);
        }
        page.send(options.clone()).await;
    }
    assigned(&mut page, 1).await;
    let log = broker.node(1).log();
    let told: Vec<&str> = log.lines().filter(|line| line.contains(&topic)).collect();
    assert_eq!(epochs(&broker, &topic), before, "{}", told.join("\n"));
    // The other one has been left alone.
    let pong = other.ask(json!({"type": "ping", "id": 1})).await;
    assert_eq!(pong["type"], "pong");
    let noticed = other.until_such("pong or a change", |_| true);
    let noticed = tokio::time::timeout(Duration::from_millis(300), noticed).await;
    if let Ok(frame) = noticed {
        assert!(
            !["assigned", "revoking", "revoked"].contains(&frame["type"].as_str().unwrap()),
            "{frame}"
        );
    }
    for partition in 0..2 {
        fill(gateway, &topic, partition, 0..3).await;
    }
    assert_eq!(page.records(3).await.len(), 3);
    assert_eq!(other.records(3).await.len(), 3);
    page.bye().await;
    other.bye().await;
}

/// Far above the moment that it takes, and below the ten seconds after which a session that does not
/// get its group left is given up.
const SOON: Duration = Duration::from_secs(8);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_is_taken_over_leaves_at_once() {
    let kafka = kafka().await;
    let gateway = Gateway::start(&kafka.bootstrap()).await;
    let topic = topic("ws-takeover");
    kafka.plain().create_topic(&topic, 1, &[]).await;
    let mut before = Client::welcomed(&gateway).await;
    let options = json!({"instance_id": "tab"});
    before.subscribe(&topic, &topic, options.clone()).await;
    // A machine that stands still for so long does not do so each time.
    let mut longest = Duration::MAX;
    for _ in 0..3 {
        if longest < SOON {
            break;
        }
        longest = Duration::ZERO;
        for _ in 0..8 {
            let mut next = Client::welcomed(&gateway).await;
            let start = Instant::now();
            next.subscribe(&topic, &topic, options.clone()).await;
            longest = longest.max(start.elapsed());
            let closed = before.closed().await;
            assert_eq!(closed.code, Some(4505));
            assert_eq!(closed.reason, "taken_over");
            before = next;
        }
    }
    assert!(longest < SOON, "{longest:?}");
    before.bye().await;
}
