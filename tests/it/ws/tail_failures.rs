//! What befalls WebSocket tails on a real Kafka: cuts, slow sockets, gateways that stop, topics that go,
//! rights that go, brokers that are away.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use futures::StreamExt;
use serde_json::{Value, json};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{WebSocketStream, client_async};

use super::{follow, tail, topic_of, write};
use crate::streams::is_read_by_one;
use crate::support::broker::Broker;
use crate::support::gateway::Gateway;
use crate::support::kafka_client::{KafkaClient, OutgoingRecord};
use crate::support::tokens::{SECRET, token};
use crate::support::ws::{Client, at, offsets};
use crate::support::{eventually, kafka, metric, shared_gateway};

/// Longest wait for what must come.
const BOUND: Duration = Duration::from_secs(60);

/// A socket with little room at the client, which is read only when the test does so.
async fn narrow(gateway: &Gateway, path: &str) -> WebSocketStream<TcpStream> {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(8 << 10).unwrap();
    let stream = socket
        .connect(gateway.address().parse().unwrap())
        .await
        .unwrap();
    let url = format!("ws://{}{path}", gateway.address());
    client_async(url, stream).await.unwrap().0
}

/// The next frame of a socket; `None` at its end.
async fn next(socket: &mut WebSocketStream<TcpStream>) -> Option<Value> {
    loop {
        match timeout(BOUND, socket.next())
            .await
            .expect("a frame in time")?
        {
            Ok(Message::Text(text)) => {
                let frame: Value = serde_json::from_str(&text).unwrap();
                if frame["type"] != "heartbeat" {
                    return Some(frame);
                }
            }
            Ok(Message::Close(_)) | Err(_) => return None,
            Ok(_) => {}
        }
    }
}

/// Writes `count` values of `size` bytes to partition 0, which are numbers with spaces before them.
async fn fill(plain: &KafkaClient, topic: &str, range: std::ops::Range<usize>, size: usize) {
    let count = range.len();
    let written = futures::stream::iter(range)
        .map(|n| async move {
            let value = format!("{n:>size$}");
            let record = OutgoingRecord {
                topic,
                partition: Some(0),
                value: Some(value.as_bytes()),
                ..OutgoingRecord::default()
            };
            plain.produce(record).await
        })
        .buffer_unordered(500);
    assert_eq!(written.count().await, count);
}

/// Cut at any time and subscribed again from the offsets that came, a client misses nothing and sees
/// nothing twice; the second half of it on another gateway.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_is_cut_goes_on_where_it_was_here_or_elsewhere() {
    let plain = kafka().await.plain();
    let name = topic_of(&plain, "tail-cut", 3).await;
    let other = Gateway::start(&kafka().await.bootstrap()).await;
    let writer = tokio::spawn({
        let (plain, name) = (plain.clone(), name.clone());
        async move {
            for n in 0..600_i32 {
                write(&plain, &name, n % 3, &n.to_string()).await;
            }
        }
    });
    let mut next_of: BTreeMap<i64, i64> = (0..3).map(|partition| (partition, 0)).collect();
    let mut seen = 0;
    let mut cuts = 0;
    while seen < 600 {
        let gateway = if cuts % 2 == 0 {
            shared_gateway().await
        } else {
            &other
        };
        let mut client = Client::welcomed(gateway).await;
        let from: Vec<Value> = next_of
            .iter()
            .map(|(partition, offset)| json!({"topic": name, "partition": partition, "offset": offset}))
            .collect();
        let batch = json!({"records": 1 + cuts % 7});
        follow(&mut client, &name, json!({"from": from, "batch": batch})).await;
        for _ in 0..=(cuts * 7) % 20 {
            let Some(frame) = client.next_within(Duration::from_secs(5)).await else {
                break;
            };
            if frame["type"] == "state" {
                // On a busy machine it is behind for a moment, or Kafka late.
                continue;
            }
            assert_eq!(frame["type"], "records", "{frame}");
            for record in frame["records"].as_array().unwrap() {
                let next = next_of
                    .get_mut(&record["partition"].as_i64().unwrap())
                    .unwrap();
                assert_eq!(record["offset"].as_i64(), Some(*next), "{record}");
                *next += 1;
                seen += 1;
            }
        }
        client.drop_dead();
        cuts += 1;
        assert!(cuts < 2_000, "{seen} seen");
    }
    writer.await.unwrap();
    assert_eq!(
        next_of.values().copied().collect::<Vec<_>>(),
        [200, 200, 200]
    );
    assert!(cuts > 5, "{cuts}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn drain_says_where_each_tail_stands_and_another_gateway_goes_on_there() {
    let plain = kafka().await.plain();
    let (one, two) = (
        topic_of(&plain, "tail-drain", 2).await,
        topic_of(&plain, "tail-drain", 1).await,
    );
    let first = Gateway::start(&kafka().await.bootstrap()).await;
    let second = Gateway::start(&kafka().await.bootstrap()).await;
    let mut client = Client::welcomed(&first).await;
    tail(&mut client, "a", &one, json!({"from": "earliest"})).await;
    tail(&mut client, "b", &two, json!({"flow": {"mode": "credit"}})).await;
    for n in 0..4 {
        write(&plain, &one, n % 2, &n.to_string()).await;
        write(&plain, &two, 0, &n.to_string()).await;
    }
    client.records(4).await;
    client
        .send(json!({"type": "credit", "sub": "b", "records": 1}))
        .await;
    client.records(1).await;
    first.ask_to_end();
    let drain = client.until("drain").await;
    let tails = drain["tails"].as_array().unwrap().clone();
    assert_eq!(
        (&tails[0]["sub"], &tails[1]["sub"]),
        (&json!("a"), &json!("b"))
    );
    let closed = client.closed().await;
    assert_eq!(closed.code, Some(1012));
    assert!(first.ended().await.status.success());
    write(&plain, &one, 1, "4").await;
    let mut client = Client::welcomed(&second).await;
    tail(
        &mut client,
        "a",
        &one,
        json!({"from": tails[0]["position"]}),
    )
    .await;
    let records = client.records(1).await;
    assert_eq!(records[0]["value"], 4);
    tail(
        &mut client,
        "b",
        &two,
        json!({"from": tails[1]["position"]}),
    )
    .await;
    assert_eq!(offsets(&client.records(3).await), [1, 2, 3]);
    client.silent(Duration::from_millis(500)).await;
    client.bye().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_sockets_are_one_reader_of_kafka_and_a_record_is_encoded_once() {
    let plain = kafka().await.plain();
    let name = topic_of(&plain, "tail-crowd", 2).await;
    let gateway = Gateway::builder(&kafka().await.bootstrap())
        .set("limits.connections_per_address", "5000")
        .start()
        .await;
    let path = format!("/ws?topics={name}");
    let mut clients = Vec::new();
    for _ in 0..200 {
        let mut client = at(&gateway, &path).connect().await;
        client.until("subscribed").await;
        clients.push(client);
    }
    is_read_by_one(&gateway).await;
    assert_eq!(metric(&gateway, "stream_readers").await, 200.0);
    for n in 0..20 {
        write(&plain, &name, n % 2, &n.to_string()).await;
    }
    for client in &mut clients {
        assert_eq!(client.records(20).await.len(), 20);
    }
    assert_eq!(metric(&gateway, "stream_records_encoded_total").await, 20.0);
    assert_eq!(
        metric(&gateway, "stream_records_delivered_total").await,
        4_000.0
    );
    assert_eq!(
        metric(&gateway, "websocket_records_delivered_total").await,
        4_000.0
    );
    drop(clients);
    eventually(BOUND, async || {
        metric(&gateway, "stream_readers").await == 0.0
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_that_goes_or_comes_again_or_grows_under_a_tail() {
    let plain = kafka().await.plain();
    let (goes, grows) = (
        topic_of(&plain, "tail-goes", 1).await,
        topic_of(&plain, "tail-grows", 1).await,
    );
    let gateway = shared_gateway().await;
    let mut client = Client::welcomed(gateway).await;
    tail(&mut client, "goes", &goes, json!({})).await;
    tail(&mut client, "grows", &grows, json!({})).await;
    let mut short = at(gateway, &format!("/ws?topics={goes}")).connect().await;
    short.until("subscribed").await;
    plain.add_partitions(&grows, 2).await;
    write(&plain, &grows, 1, "1").await;
    let records = client.records(1).await;
    assert_eq!(
        (&records[0]["partition"], &records[0]["offset"]),
        (&json!(1), &json!(0))
    );
    plain.delete_topic(&goes).await;
    let error = client.until("error").await;
    assert_eq!(
        (&error["code"], &error["sub"]),
        (&json!("topic_not_found"), &json!("goes"))
    );
    assert_eq!(error["fatal"], false);
    assert_eq!(client.until("unsubscribed").await["sub"], "goes");
    let closed = short.closed().await;
    assert_eq!(closed.code, Some(4504), "{closed:?}");
    // The others go on.
    write(&plain, &grows, 0, "2").await;
    assert_eq!(client.records(1).await[0]["partition"], 0);
    // Another topic of the same name is another topic.
    plain.delete_topic(&grows).await;
    plain.create_topic(&grows, 1, &[]).await;
    let error = client.until("error").await;
    assert_eq!(
        (&error["code"], &error["sub"]),
        (&json!("topic_not_found"), &json!("grows"))
    );
    assert_eq!(client.until("unsubscribed").await["sub"], "grows");
    client.bye().await;
}

const GUARDED: &str = r#"
[auth]
mode = "jwt"

[limits]
tails = 4
tails_per_principal = 2

[[auth.issuers]]
issuer = "https://issuer.test"
audience = "tidegate"
secret_file = "secret"
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tail_needs_its_right_all_along_and_a_place() {
    let plain = kafka().await.plain();
    let (mine, other) = (
        topic_of(&plain, "tail-mine", 1).await,
        topic_of(&plain, "tail-other", 1).await,
    );
    let gateway = Gateway::builder(&kafka().await.bootstrap())
        .file("secret", SECRET)
        .file("tidegate.toml", GUARDED)
        .start()
        .await;
    let both = token("ann", &format!("consume:{mine} consume:{other}"));
    let connect = async |token: &str| {
        let mut client = at(&gateway, "/ws").token(token).connect().await;
        client.until("welcome").await;
        client
    };
    let mut poor = connect(&token("eve", "consume:nothing")).await;
    let denied = tail(&mut poor, "t", &mine, json!({})).await;
    assert_eq!(denied["code"], "forbidden", "{denied}");
    assert!(
        denied["message"]
            .as_str()
            .unwrap()
            .contains(&format!("consume:{mine}"))
    );

    let mut client = connect(&both).await;
    tail(&mut client, "mine", &mine, json!({})).await;
    tail(&mut client, "other", &other, json!({})).await;
    let third = tail(&mut client, "more", &mine, json!({})).await;
    assert_eq!(third["code"], "limit_exceeded");
    assert_eq!(third["retriable"], true);
    assert!(
        third["message"]
            .as_str()
            .unwrap()
            .contains("limits.tails_per_principal")
    );
    // A stream of another kind counts as well.
    let url = gateway.url(&format!("/topics/{mine}/records"));
    let stream = reqwest::Client::new()
        .get(&url)
        .header("accept", "text/event-stream");
    assert_eq!(
        stream.bearer_auth(&both).send().await.unwrap().status(),
        429
    );

    // A renewed token without one of the rights ends what needs it.
    let less = token("ann", &format!("consume:{mine}"));
    let ok = client
        .ask(json!({"type": "auth", "id": "renew", "token": less}))
        .await;
    assert_eq!(ok["type"], "ok");
    let error = client.until("error").await;
    assert_eq!(
        (&error["code"], &error["sub"]),
        (&json!("forbidden"), &json!("other"))
    );
    assert_eq!(client.until("unsubscribed").await["sub"], "other");
    write(&plain, &other, 0, "0").await;
    write(&plain, &mine, 0, "1").await;
    assert_eq!(client.records(1).await[0]["topic"], mine);
    // Its place is free for others.
    let third = tail(&mut client, "more", &mine, json!({})).await;
    assert_eq!(third["type"], "subscribed", "{third}");

    let mut bob = connect(&token("bob", &format!("consume:{mine}"))).await;
    tail(&mut bob, "1", &mine, json!({})).await;
    tail(&mut bob, "2", &mine, json!({})).await;
    let mut cid = connect(&token("cid", &format!("consume:{mine}"))).await;
    let full = tail(&mut cid, "1", &mine, json!({})).await;
    assert!(
        full["message"].as_str().unwrap().contains("(limits.tails)"),
        "{full}"
    );
    let short = at(&gateway, &format!("/ws?topics={mine}"));
    let mut short = short
        .token(&token("cid", &format!("consume:{mine}")))
        .connect()
        .await;
    assert_eq!(short.closed().await.code, Some(1013));
    bob.bye().await;
    eventually(BOUND, async || {
        metric(&gateway, "stream_readers").await == 2.0
    })
    .await;
    let taken = tail(&mut cid, "1", &mine, json!({})).await;
    assert_eq!(taken["type"], "subscribed");
    client.bye().await;
    cid.bye().await;
    poor.bye().await;
}

/// The three ways of those who do not keep up, beside one who does, with a ring that is small.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tail_that_falls_behind_catches_up_skips_or_ends_by_its_on_lag_and_slows_nobody() {
    const RECORDS: usize = 3_000;
    let plain = kafka().await.plain();
    let name = topic_of(&plain, "tail-slow", 1).await;
    let gateway = Gateway::builder(&kafka().await.bootstrap())
        .set("streams.ring_bytes", "1048576")
        .set("streams.ring_total_bytes", "1048576")
        // They are slow for as long as the others take, and not to be cut for it.
        .set("websocket.ping_interval_ms", "60000")
        .set("websocket.slow_timeout_ms", "300000")
        .start()
        .await;
    let mut slow = Vec::new();
    for on_lag in ["catchup", "skip", "close"] {
        // Small frames, and little that may be under way.
        let mut socket = narrow(&gateway, &format!("/ws?topics={name}&on_lag={on_lag}")).await;
        while next(&mut socket).await.unwrap()["type"] != "subscribed" {}
        slow.push((on_lag, socket));
    }
    let mut fast = at(&gateway, &format!("/ws?topics={name}")).connect().await;
    fast.until("subscribed").await;
    fill(&plain, &name, 0..RECORDS, 10_000).await;
    let seen = fast.records(RECORDS).await;
    assert_eq!(offsets(&seen), (0..3_000).collect::<Vec<_>>());
    // Those who are slow hold next to nothing of it.
    eventually(BOUND, async || {
        metric(&gateway, "tail_ring_bytes").await <= 1_200_000.0
    })
    .await;

    for (on_lag, mut socket) in slow {
        let mut seen: Vec<i64> = Vec::new();
        let mut gaps = Vec::new();
        let mut goodbye = false;
        while seen.len() < RECORDS {
            let Some(frame) = next(&mut socket).await else {
                break;
            };
            match frame["type"].as_str().unwrap() {
                "records" => seen.extend(offsets(frame["records"].as_array().unwrap())),
                "gap" => {
                    assert_eq!(frame["reason"], "overrun");
                    let at = |field: &str| frame[field].as_i64().unwrap();
                    assert_eq!(at("from"), seen.last().map_or(0, |last| last + 1));
                    gaps.push(at("from")..at("to"));
                }
                "state" => {}
                "goodbye" => {
                    assert_eq!(on_lag, "close", "{frame}");
                    assert_eq!(frame["code"], 4004);
                    goodbye = true;
                }
                other => panic!("{other}: {frame}"),
            }
            let missed: i64 = gaps.iter().map(|gap| gap.end - gap.start).sum();
            if on_lag == "skip" && i64::try_from(seen.len()).unwrap() + missed >= 3_000 {
                break;
            }
        }
        let mut sorted = seen.clone();
        sorted.sort_unstable();
        sorted.dedup();
        assert_eq!(seen, sorted, "{on_lag}: nothing twice, and in order");
        match on_lag {
            "catchup" => assert!(seen.len() == RECORDS && gaps.is_empty(), "{}", seen.len()),
            "skip" => assert!(!gaps.is_empty(), "{}", seen.len()),
            _ => {
                // Who takes the last frames too slowly may not get them, and is reset.
                assert!(gaps.len() == 1 || (gaps.is_empty() && !goodbye), "{gaps:?}");
                assert!(seen.len() < RECORDS);
                eventually(BOUND, async || {
                    metric(&gateway, r#"websocket_closes_total{code="4004"}"#).await == 1.0
                })
                .await;
            }
        }
    }
    fast.bye().await;
}

/// Hard scenario 3 for tails.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: a fifth of a gigabyte, and 15 s of a client that reads nothing"]
async fn a_tail_that_stops_reading_costs_little_and_is_cut() {
    const SLOW: Duration = Duration::from_secs(15);
    let plain = kafka().await.plain();
    let (big, small) = (
        topic_of(&plain, "tail-stuck", 1).await,
        topic_of(&plain, "tail-brisk", 1).await,
    );
    let gateway = Gateway::builder(&kafka().await.bootstrap())
        .set("websocket.slow_timeout_ms", &SLOW.as_millis().to_string())
        .start()
        .await;
    fill(&plain, &big, 0..20_000, 10_000).await;
    let mut fast = at(&gateway, &format!("/ws?topics={small}")).connect().await;
    fast.until("subscribed").await;
    let resident = || {
        let path = format!("/proc/{}/status", gateway.pid());
        let status = std::fs::read_to_string(path).unwrap();
        let line = status
            .lines()
            .find_map(|l| l.strip_prefix("VmRSS:"))
            .unwrap();
        line.split_whitespace()
            .next()
            .unwrap()
            .parse::<u64>()
            .unwrap()
    };
    let before = resident();
    let begin = Instant::now();
    let mut stuck = narrow(&gateway, &format!("/ws?topics={big}&from=earliest")).await;
    eventually(BOUND, async || {
        metric(&gateway, "stream_readers").await == 2.0
    })
    .await;
    let mut latencies = Vec::new();
    let mut peak = 0;
    while latencies.len() < 10 || begin.elapsed() < SLOW - Duration::from_secs(4) {
        let sent = Instant::now();
        write(&plain, &small, 0, "1").await;
        fast.records(1).await;
        latencies.push(sent.elapsed());
        peak = peak.max(resident());
    }
    latencies.sort_unstable();
    let (p50, p99) = (
        latencies[latencies.len() / 2],
        latencies[latencies.len() * 99 / 100],
    );
    let grown = peak.saturating_sub(before);
    eprintln!("{grown} KiB more while one reads nothing; beside it p50 {p50:?}, p99 {p99:?}");
    // Pages that are read for it are bounded, and so is what waits for its socket.
    assert!(grown < 48 << 10, "{grown} KiB");
    // Were it held up, it would be so until the other one is cut.
    assert!(p50 < SLOW / 10, "{p50:?}");
    eventually(BOUND, async || {
        metric(&gateway, "websocket_sessions").await == 1.0
    })
    .await;
    assert!(begin.elapsed() >= SLOW);
    while next(&mut stuck).await.is_some() {}
    eventually(BOUND, async || {
        metric(&gateway, "stream_readers").await == 1.0
    })
    .await;
    fast.bye().await;
}

/// Hard scenario 8 for tails.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: the broker is away for 30 s"]
async fn a_tail_outlives_a_broker_that_is_away() {
    let broker = Broker::start().await;
    let plain = broker.plain();
    let name = topic_of(&plain, "tail-away", 2).await;
    let gateway = Gateway::start(&broker.bootstrap()).await;
    let mut client = Client::welcomed(&gateway).await;
    follow(&mut client, &name, json!({})).await;
    // Nothing wakes this one but what is of its key, and news of Kafka.
    let mut keyed = Client::welcomed(&gateway).await;
    follow(&mut keyed, &name, json!({"filter": {"key": "k"}})).await;
    for n in 0..10 {
        write(&plain, &name, n % 2, &n.to_string()).await;
    }
    client.records(10).await;
    keyed.records(10).await;
    broker.stop().await;
    let gone = Instant::now();
    let away = |frame: &Value| frame["type"] == "state" && frame["state"] == "kafka_unavailable";
    client.until_such("kafka_unavailable", away).await;
    eprintln!("told after {:?}", gone.elapsed());
    keyed.until_such("kafka_unavailable", away).await;
    // The session is there all along, and so are its answers.
    while gone.elapsed() < Duration::from_secs(30) {
        for client in [&mut client, &mut keyed] {
            let pong = client.ask(json!({"type": "ping", "id": "p"})).await;
            assert_eq!(pong["type"], "pong");
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    broker.restart().await;
    let back = Instant::now();
    let active = |frame: &Value| frame["type"] == "state" && frame["state"] == "active";
    client.until_such("active", active).await;
    eprintln!("back after {:?}", back.elapsed());
    keyed.until_such("active", active).await;
    for n in 10..20 {
        write(&plain, &name, n % 2, &n.to_string()).await;
    }
    for client in [&mut client, &mut keyed] {
        let records = client.records(10).await;
        let places: BTreeSet<(i64, i64)> = records
            .iter()
            .map(|r| {
                (
                    r["partition"].as_i64().unwrap(),
                    r["offset"].as_i64().unwrap(),
                )
            })
            .collect();
        let wanted: BTreeSet<(i64, i64)> =
            (0..2).flat_map(|p| (5..10).map(move |o| (p, o))).collect();
        assert_eq!(places, wanted);
        client.silent(Duration::from_secs(1)).await;
    }
    client.bye().await;
    keyed.bye().await;
}
