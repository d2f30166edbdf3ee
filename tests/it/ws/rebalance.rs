//! Members come, go, die and take over, on a real Kafka: what each session is told, what is
//! committed by then, and what whoever has a partition next gets.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use crate::support::gateway::Gateway;
use crate::support::groups::{assigned, broker, committed, fill, gateway, place, spot};
use crate::support::kafka_client::{KafkaClient, OutgoingRecord};
use crate::support::ws::{Client, at, offsets, tags};
use crate::support::{eventually, http, topic};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rebalance_commits_what_is_acknowledged_in_its_grace() {
    let (gateway, plain) = (gateway().await, broker().await.plain());
    let topic = topic("ws-rebalance");
    plain.create_topic(&topic, 4, &[]).await;
    for partition in 0..4 {
        fill(gateway, &topic, partition, 0..10).await;
    }
    // Long enough that only an acknowledgement or the grace can move a commit.
    let options = json!({
        "offset_reset": "earliest", "revoke_grace_ms": 10000, "commit_interval_ms": 60000,
    });
    let mut first = Client::welcomed(gateway).await;
    let mut given = first.subscribe(&topic, &topic, options.clone()).await;
    while given["assignment"].as_array().unwrap().len() < 4 {
        given = first.until("assigned").await;
    }
    let held = first.records(40).await;
    let tag_of: BTreeMap<(i64, i64), u64> = held.iter().map(spot).zip(tags(&held)).collect();
    let own: BTreeSet<i64> = held.iter().map(|record| spot(record).0).collect();
    assert_eq!(own, (0..4).collect());

    let mut second = Client::welcomed(gateway).await;
    let mut asked = options;
    asked["type"] = "subscribe".into();
    asked["sub"] = "o".into();
    asked["group"] = topic.clone().into();
    asked["topics"] = json!([topic]);
    second.send(asked).await;

    let revoking = first.until("revoking").await;
    let epoch = &revoking["epoch"];
    assert_eq!(
        epoch.as_i64(),
        given["epoch"].as_i64().map(|before| before + 1)
    );
    assert_eq!(revoking["deadline_ms"], 10000);
    let going: Vec<i64> = revoking["partitions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|partition| place(partition).1)
        .collect();
    assert_eq!(going.len(), 2);
    assert_eq!(revoking["outstanding"], 20);
    // Of the one all but one, of the other all before a hole.
    let acked: Vec<(i64, i64)> = (0..10)
        .filter(|offset| *offset != 7)
        .map(|offset| (going[0], offset))
        .chain([0, 1, 2, 4].map(|offset| (going[1], offset)))
        .collect();
    let acks: Vec<u64> = acked.iter().map(|spot| tag_of[spot]).collect();
    first.ack(&acks).await;

    let revoked = first.until("revoked").await;
    assert_eq!(revoked["reason"], "rebalance");
    assert_eq!(&revoked["epoch"], epoch);
    let said: BTreeMap<i64, (i64, i64)> = revoked["partitions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|p| {
            let number = |name: &str| p[name].as_i64().unwrap();
            (
                number("partition"),
                (number("committed"), number("unacked")),
            )
        })
        .collect();
    assert_eq!(said, [(going[0], (7, 1)), (going[1], (3, 6))].into());
    for (partition, (offset, _)) in &said {
        let partition = i32::try_from(*partition).unwrap();
        let found = plain.committed(&topic, &topic, partition).await;
        assert_eq!(found, Some(*offset));
    }

    let starts = assigned(&mut second, 2).await;
    for (partition, (offset, _)) in &said {
        let start = &starts[&(topic.clone(), *partition)];
        assert_eq!(
            (&start["start"], &start["committed"]),
            (&json!(offset), &json!(offset))
        );
    }
    let again: Vec<(i64, i64)> = second.records(3 + 7).await.iter().map(spot).collect();
    assert!(again.iter().all(|spot| going.contains(&spot.0)));
    // A late one says what became of the record, and costs nothing but itself.
    let late = first
        .ask(json!({"type": "ack", "sub": "o", "id": "late", "tags": [tag_of[&(going[0], 7)]]}))
        .await;
    let late = match late["type"].as_str() {
        Some("acked") => first.until("error").await,
        _ => late,
    };
    assert_eq!(
        (&late["code"], &late["epoch"]),
        (&json!("ack_stale"), epoch)
    );
    assert_eq!(late["committed"], 7);
    assert_eq!(late["fatal"], false);

    // All that the second got again was not acknowledged, the records behind a hole apart, which
    // Kafka has no place for.
    let low: BTreeMap<i64, i64> = said.iter().map(|(p, (offset, _))| (*p, *offset)).collect();
    let all: BTreeSet<(i64, i64)> = acked.iter().chain(&again).copied().collect();
    for partition in &going {
        for offset in 0..10 {
            assert!(all.contains(&(*partition, offset)), "{partition} {offset}");
        }
    }
    assert!(
        again
            .iter()
            .all(|(partition, offset)| *offset >= low[partition])
    );
    assert_eq!(again.iter().collect::<BTreeSet<_>>().len(), again.len());

    // What stayed went on all the while.
    let stayed: Vec<u64> = tag_of
        .iter()
        .filter(|((partition, _), _)| !going.contains(partition))
        .map(|(_, tag)| *tag)
        .collect();
    first.ack(&stayed).await;
    let done = first
        .ask(json!({"type": "commit", "sub": "o", "id": "c"}))
        .await;
    assert_eq!(done["positions"].as_array().unwrap().len(), 2);
    first.bye().await;
    // Nothing is left behind by it: the second gets the other partitions at their ends.
    let starts = assigned(&mut second, 4).await;
    assert!(
        starts.values().all(|start| start["start"] == 10),
        "{starts:?}"
    );
    second.bye().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_without_a_partition_is_active_with_none() {
    let (gateway, plain) = (gateway().await, broker().await.plain());
    let topic = topic("ws-larger");
    plain.create_topic(&topic, 1, &[]).await;
    let mut first = Client::welcomed(gateway).await;
    first.subscribe(&topic, &topic, json!({})).await;
    let mut second = Client::welcomed(gateway).await;
    let subscribe = json!({"type": "subscribe", "sub": "o", "group": topic, "topics": [topic]});
    second.send(subscribe).await;
    let none = second.until("assigned").await;
    assert_eq!(
        (&none["partitions"], &none["assignment"]),
        (&json!([]), &json!([]))
    );
    assert_eq!(none["epoch"], 1);
    let active = |frame: &Value| frame["type"] == "state" && frame["state"] == "active";
    second.until_such("state active", active).await;
    first.bye().await;
    assigned(&mut second, 1).await;
    fill(gateway, &topic, 0, 0..1).await;
    assert_eq!(offsets(&second.records(1).await), [0]);
    second.bye().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_that_share_connections_get_every_record() {
    let plain = broker().await.plain();
    let gateway = Gateway::builder(&broker().await.bootstrap())
        .set("websocket.own_connections", "2")
        .start()
        .await;
    let topic = topic("ws-shared");
    plain.create_topic(&topic, 4, &[]).await;
    let options = json!({
        "type": "subscribe", "sub": "o", "group": topic, "topics": [topic],
        "offset_reset": "earliest",
    });
    let mut clients = Vec::new();
    for _ in 0..4 {
        let mut client = Client::welcomed(&gateway).await;
        client.send(options.clone()).await;
        client.until("assigned").await;
        clients.push(client);
    }
    for partition in 0..4 {
        fill(&gateway, &topic, partition, 0..500).await;
    }
    // They may wait for each other, so that silence does not mean that all have come.
    let is_done = Arc::new(AtomicBool::new(false));
    let got: Vec<_> = clients
        .into_iter()
        .map(|mut client| {
            let is_done = Arc::clone(&is_done);
            tokio::spawn(async move {
                let mut got = Vec::new();
                while !is_done.load(Ordering::Relaxed) {
                    let frame = client.next_within(Duration::from_millis(200)).await;
                    if let Some(frame) = frame.filter(|frame| frame["type"] == "records") {
                        let records = frame["records"].as_array().unwrap();
                        got.extend(records.iter().map(spot));
                        client.ack(&tags(records)).await;
                    }
                }
                client.bye().await;
                got
            })
        })
        .collect();
    for partition in 0..4 {
        committed(&plain, &topic, &topic, partition, 500).await;
    }
    is_done.store(true, Ordering::Relaxed);
    let mut all = BTreeSet::new();
    for got in got {
        all.extend(got.await.unwrap());
    }
    assert_eq!(all.len(), 4 * 500);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_that_was_killed_is_replaced() {
    let (other, plain) = (gateway().await, broker().await.plain());
    let killed = Gateway::start(&broker().await.bootstrap()).await;
    let topic = topic("ws-killed");
    plain.create_topic(&topic, 2, &[]).await;
    for partition in 0..2 {
        fill(other, &topic, partition, 0..50).await;
    }
    let options = json!({
        "type": "subscribe", "sub": "o", "group": topic, "topics": [topic],
        "offset_reset": "earliest", "commit_interval_ms": 100,
    });
    let mut first = Client::welcomed(&killed).await;
    first.send(options.clone()).await;
    assigned(&mut first, 2).await;
    let records = first.records(100).await;
    let acked: Vec<u64> = records
        .iter()
        .filter(|record| spot(record).1 < 30)
        .map(|record| record["tag"].as_u64().unwrap())
        .collect();
    first.ack(&acked).await;
    for partition in 0..2 {
        committed(&plain, &topic, &topic, partition, 30).await;
    }
    killed.kill();
    assert_eq!(first.closed().await.code, None);

    let restarted = Gateway::start(&broker().await.bootstrap()).await;
    let mut second = Client::welcomed(&restarted).await;
    second.send(options).await;
    let starts = assigned(&mut second, 2).await;
    assert!(
        starts.values().all(|start| start["start"] == 30),
        "{starts:?}"
    );
    let mut rest: Vec<_> = second.records(40).await.iter().map(spot).collect();
    rest.sort_unstable();
    let expected: Vec<_> = (0..2).flat_map(|p| (30..50).map(move |o| (p, o))).collect();
    assert_eq!(rest, expected);
    second.bye().await;
}

/// Writes to each of three partitions; the gateway itself need not know of them yet.
async fn grow(plain: &KafkaClient, topic: &str, numbers: std::ops::Range<i32>) {
    for partition in 0..3 {
        for n in numbers.clone() {
            let value = n.to_string();
            let record = OutgoingRecord {
                topic,
                partition: Some(partition),
                value: Some(value.as_bytes()),
                ..OutgoingRecord::default()
            };
            plain.produce(record).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn partitions_are_added_and_a_topic_goes_under_a_subscription() {
    let (gateway, plain) = (gateway().await, broker().await.plain());
    let (stays, goes) = (topic("ws-stays"), topic("ws-goes"));
    plain.create_topic(&stays, 1, &[]).await;
    plain.create_topic(&goes, 1, &[]).await;
    let mut client = Client::welcomed(gateway).await;
    let options = json!({"topics": [stays, goes], "offset_reset": "earliest"});
    client.subscribe(&stays, &stays, options).await;
    fill(gateway, &goes, 0, 0..2).await;
    let records = client.records(2).await;
    plain.add_partitions(&stays, 3).await;
    assigned(&mut client, 4).await;
    grow(&plain, &stays, 0..2).await;
    let more = client.records(6).await;
    let partitions: BTreeSet<_> = more.iter().map(|record| spot(record).0).collect();
    assert_eq!(partitions, (0..3).collect());
    client.ack(&tags(&more)).await;

    plain.delete_topic(&goes).await;
    let gone = client.until("revoked").await;
    assert_eq!(gone["partitions"][0]["topic"], goes);
    let late = client
        .ask(json!({"type": "ack", "sub": "o", "id": 1, "tags": tags(&records)}))
        .await;
    let late = match late["type"].as_str() {
        Some("acked") => client.until("error").await,
        _ => late,
    };
    assert_eq!(late["code"], "ack_stale");
    grow(&plain, &stays, 2..4).await;
    assert_eq!(client.records(6).await.len(), 6);
    for partition in 0..3 {
        committed(&plain, &stays, &stays, partition, 2).await;
    }
    client.bye().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pattern_follows_the_topics_that_match_it() {
    let (gateway, plain) = (gateway().await, broker().await.plain());
    let name = topic("ws-pattern");
    let (first, second, other) = (
        format!("{name}.a"),
        format!("{name}.b"),
        format!("x{name}.a"),
    );
    plain.create_topic(&first, 1, &[]).await;
    plain.create_topic(&other, 1, &[]).await;
    // The gateway's list of all topics may be a second old.
    eventually(Duration::from_secs(60), async || {
        let list = http::get(&gateway.url("/topics")).await.json();
        list.as_array().unwrap().contains(&json!(first))
    })
    .await;
    let mut client = Client::welcomed(gateway).await;
    let subscribed = client
        .ask(json!({
            "type": "subscribe", "id": 1, "sub": "o", "group": name,
            "pattern": format!("{name}\\.[ab]"), "offset_reset": "earliest",
        }))
        .await;
    assert_eq!(subscribed["topics"], json!([first]));
    assigned(&mut client, 1).await;
    plain.create_topic(&second, 1, &[]).await;
    assigned(&mut client, 2).await;
    for topic in [&first, &second, &other] {
        fill(gateway, topic, 0, 0..1).await;
    }
    let records = client.records(2).await;
    let topics: BTreeSet<_> = records
        .iter()
        .map(|r| r["topic"].as_str().unwrap())
        .collect();
    assert_eq!(topics, [first.as_str(), second.as_str()].into());
    client.bye().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscription_ends_and_begins_again() {
    let (gateway, plain) = (gateway().await, broker().await.plain());
    let topic = topic("ws-again");
    plain.create_topic(&topic, 1, &[]).await;
    fill(gateway, &topic, 0, 0..6).await;
    let mut client = Client::welcomed(gateway).await;
    let options = json!({"offset_reset": "earliest", "commit_interval_ms": 60000});
    client.subscribe(&topic, &topic, options.clone()).await;
    let twice = client
        .ask(json!({"type": "subscribe", "id": 2, "sub": "o", "group": topic, "topics": [topic]}))
        .await;
    assert_eq!(twice["code"], "already_subscribed");
    let another = client
        .ask(json!({"type": "subscribe", "id": 3, "sub": "p", "group": topic, "topics": [topic]}))
        .await;
    assert_eq!(another["code"], "limit_exceeded");
    let records = client.records(6).await;
    client.ack(&tags(&records)[..3]).await;
    let gone = client
        .ask(json!({"type": "unsubscribe", "id": 4, "sub": "o"}))
        .await;
    assert_eq!(gone["type"], "unsubscribed");
    assert_eq!(client.until("revoked").await["reason"], "unsubscribe");
    assert_eq!(plain.committed(&topic, &topic, 0).await, Some(3));
    let unknown = client
        .ask(json!({"type": "ack", "sub": "o", "tags": [4], "id": 5}))
        .await;
    assert_eq!(unknown["code"], "unknown_sub");

    let assigned = client.subscribe(&topic, &topic, options.clone()).await;
    assert_eq!(assigned["partitions"][0]["start"], 3);
    let records = client.records(3).await;
    assert_eq!(offsets(&records), [3, 4, 5]);
    assert!(tags(&records)[0] > 6, "tags go on rising");
    client.ack(&tags(&records)).await;
    let gone = client
        .ask(json!({"type": "unsubscribe", "id": 6, "sub": "o", "commit": false}))
        .await;
    assert_eq!(gone["type"], "unsubscribed");
    assert_eq!(
        plain.committed(&topic, &topic, 0).await,
        Some(3),
        "commit: false"
    );
    let assigned = client.subscribe(&topic, &topic, options).await;
    assert_eq!(assigned["partitions"][0]["start"], 3);
    client.bye().await;
    eventually(Duration::from_secs(60), async || {
        at(gateway, "/ws").try_connect().await.is_ok()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_was_away_too_long_cannot_turn_back_a_commit() {
    let (other, plain) = (gateway().await, broker().await.plain());
    // Who is frozen may be so for long, and hears from nobody in that time.
    let frozen = Gateway::builder(&broker().await.bootstrap())
        .set("websocket.ping_interval_ms", "600000")
        .start()
        .await;
    let topic = topic("ws-zombie");
    plain.create_topic(&topic, 1, &[]).await;
    fill(other, &topic, 0, 0..10).await;
    let options = json!({"offset_reset": "earliest", "commit_interval_ms": 100});
    let mut first = Client::welcomed(&frozen).await;
    first.subscribe(&topic, &topic, options.clone()).await;
    let records = first.records(10).await;
    frozen.pause();
    // Waits in the connection until it is back.
    first.ack(&tags(&records)[..3]).await;
    let mut second = Client::welcomed(other).await;
    let assigned = second.subscribe(&topic, &topic, options).await;
    assert_eq!(assigned["partitions"][0]["start"], 0);
    let again = second.records(10).await;
    second.ack(&tags(&again)).await;
    committed(&plain, &topic, &topic, 0, 10).await;
    frozen.resume();
    let lost = first.until("revoked").await;
    assert_eq!(lost["reason"], "lost");
    first.ack(&tags(&records)[3..5]).await;
    let stale = first
        .until_such("ack_stale", |frame| frame["code"] == "ack_stale")
        .await;
    assert_eq!(stale["epoch"], lost["epoch"]);
    let back = |frame: &Value| frame["type"] == "state" && frame["state"] == "active";
    first.until_such("state active", back).await;
    let end = Instant::now() + Duration::from_millis(700);
    while Instant::now() < end {
        assert_eq!(plain.committed(&topic, &topic, 0).await, Some(10));
    }
    // It is a member like any other again.
    second.bye().await;
    fill(other, &topic, 0, 10..12).await;
    assert_eq!(offsets(&first.records(2).await), [10, 11]);
    first.bye().await;
}

/// What one client of a group does in its time there.
struct Stay {
    got: Vec<(i64, i64)>,
    /// All that it acknowledged was committed.
    is_settled: bool,
}

/// Reads and acknowledges for some time, then leaves, with a word or without.
async fn stay(gateway: &Gateway, topic: &str, time: Duration, says_bye: bool) -> Stay {
    let mut client = Client::welcomed(gateway).await;
    let subscribe = json!({
        "type": "subscribe", "sub": "o", "group": topic, "topics": [topic],
        "offset_reset": "earliest", "revoke_grace_ms": 10000, "commit_interval_ms": 200,
        "flow": {"records": 50}, "ack": "cumulative",
    });
    client.send(subscribe).await;
    let end = Instant::now() + time;
    let mut got = Vec::new();
    while Instant::now() < end {
        let left = end - Instant::now();
        let Some(frame) = client.next_within(left).await else {
            break;
        };
        assert_ne!(frame["type"], "error", "{frame}");
        if frame["type"] == "records" {
            let records = frame["records"].as_array().unwrap();
            got.extend(records.iter().map(spot));
            client.ack(&tags(records)).await;
        }
    }
    if says_bye {
        client.bye().await;
    } else {
        client.drop_dead();
    }
    Stay {
        got,
        is_settled: says_bye,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: members come and go for twenty seconds"]
async fn no_record_is_lost_while_members_come_and_go() {
    const RECORDS: i64 = 800;
    let (here, plain) = (gateway().await, broker().await.plain());
    let there: &'static Gateway =
        Box::leak(Box::new(Gateway::start(&broker().await.bootstrap()).await));
    let topic = topic("ws-churn");
    plain.create_topic(&topic, 6, &[]).await;
    let name: &'static str = Box::leak(topic.clone().into_boxed_str());
    let writing = tokio::spawn(async move {
        for n in (0..RECORDS).step_by(40) {
            for partition in 0..6 {
                fill(here, name, partition, n..n + 40).await;
            }
            tokio::time::sleep(Duration::from_millis(600)).await;
        }
    });
    let mut stays = Vec::new();
    for n in 0..14_u32 {
        let gateway = if n % 2 == 0 { here } else { there };
        // Half of them say nothing when they go.
        let time = Duration::from_millis(4_000 + u64::from(n % 3) * 1_000);
        stays.push(tokio::spawn(stay(gateway, name, time, n % 4 < 2)));
        tokio::time::sleep(Duration::from_millis(1_300)).await;
    }
    let mut seen: BTreeMap<(i64, i64), u32> = BTreeMap::new();
    let mut settled: BTreeMap<(i64, i64), u32> = BTreeMap::new();
    for stay in stays {
        let stay = stay.await.unwrap();
        for spot in stay.got {
            *seen.entry(spot).or_default() += 1;
            if stay.is_settled {
                *settled.entry(spot).or_default() += 1;
            }
        }
    }
    writing.await.unwrap();
    let mut last = Client::welcomed(here).await;
    let options =
        json!({"offset_reset": "earliest", "commit_interval_ms": 100, "ack": "cumulative"});
    last.subscribe(name, name, options).await;
    // All may have been seen before all is committed: of those that said nothing.
    let is_committed = async || {
        for partition in 0..6 {
            if plain.committed(name, name, partition).await != Some(RECORDS) {
                return false;
            }
        }
        true
    };
    let end = Instant::now() + Duration::from_secs(120);
    while !is_committed().await {
        assert!(Instant::now() < end, "{} were seen", seen.len());
        while let Some(frame) = last.next_within(Duration::from_millis(500)).await {
            if frame["type"] == "records" {
                let records = frame["records"].as_array().unwrap();
                last.ack(&tags(records)).await;
                for record in records {
                    *seen.entry(spot(record)).or_default() += 1;
                }
            }
        }
    }
    assert_eq!(i64::try_from(seen.len()).unwrap(), 6 * RECORDS);
    last.bye().await;
    assert!(
        settled.values().all(|times| *times == 1),
        "acknowledged, committed, and again"
    );
    let twice = seen.values().filter(|times| **times > 1).count();
    // At most a window for each of those that went without a word.
    assert!(twice <= 7 * 50, "{twice} came twice");
}
