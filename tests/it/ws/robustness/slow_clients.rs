//! Clients that read slowly, or not at all.

use std::time::{Duration, Instant};

use futures::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::io::AsyncReadExt;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::{Error, Message};

use super::{becomes, broker, fill_large, raw, resident};
use crate::support::gateway::Gateway;
use crate::support::kafka_client::OutgoingRecord;
use crate::support::ws::{Client, at, offsets};
use crate::support::{eventually, metric, topic};

/// How long records take from their writer to a session, one after the other.
async fn latencies(client: &mut Client, topic: &str, count: usize) -> Vec<Duration> {
    let plain = broker().await.plain();
    let mut all = Vec::with_capacity(count);
    for _ in 0..count {
        let begin = Instant::now();
        plain
            .produce(OutgoingRecord {
                topic,
                partition: Some(0),
                key: None,
                value: Some(b"1"),
                headers: &[],
                timestamp: None,
            })
            .await;
        let records = client.records(1).await;
        all.push(begin.elapsed());
        client.ack(&[records[0]["tag"].as_u64().unwrap()]).await;
    }
    all.sort_unstable();
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: half a gigabyte of backlog, and 20 s of a client that reads nothing"]
async fn a_client_that_stops_reading_costs_little_and_is_cut() {
    const SLOW: Duration = Duration::from_secs(20);
    let gateway = Gateway::builder(&broker().await.bootstrap())
        .set("websocket.slow_timeout_ms", &SLOW.as_millis().to_string())
        .start()
        .await;
    let plain = broker().await.plain();
    let (slow_topic, fast_topic) = (topic("ws-slow"), topic("ws-fast"));
    plain.create_topic(&slow_topic, 1, &[]).await;
    plain.create_topic(&fast_topic, 1, &[]).await;
    fill_large(&slow_topic, 50_000, 10_000).await;

    let mut fast = Client::welcomed(&gateway).await;
    fast.subscribe(&fast_topic, &fast_topic, json!({})).await;
    let before = latencies(&mut fast, &fast_topic, 100).await;
    let mut slow = raw(&gateway, "/ws").await;
    eventually(Duration::from_secs(60), async || {
        metric(&gateway, "websocket_sessions").await > 1.5
    })
    .await;
    let resting = resident(&gateway);

    // Wide open: nothing but the socket holds records back.
    let subscribe = json!({
        "type": "subscribe", "sub": "o", "group": slow_topic, "topics": [slow_topic],
        "offset_reset": "earliest", "flow": {"records": 10_000, "bytes": 32 << 20},
        "ack_timeout_ms": 0,
    });
    let begin = Instant::now();
    slow.send(Message::text(subscribe.to_string()))
        .await
        .unwrap();
    eventually(Duration::from_secs(60), async || {
        metric(&gateway, "websocket_records_in_flight").await > 5.0
    })
    .await;
    let mut peak = 0;
    let mut during = Vec::new();
    while during.is_empty() || begin.elapsed() < SLOW - Duration::from_secs(4) {
        during.extend(latencies(&mut fast, &fast_topic, 10).await);
        peak = peak.max(resident(&gateway));
        let sessions = metric(&gateway, "websocket_sessions").await;
        assert!(sessions == 2.0 || begin.elapsed() >= SLOW);
    }
    during.sort_unstable();
    let grown = peak.saturating_sub(resting);
    let p = |all: &[Duration], percent: usize| all[(all.len() * percent / 100).min(all.len() - 1)];
    let held = metric(&gateway, "websocket_records_in_flight").await;
    eprintln!(
        "RSS {resting} KiB, at most {peak} KiB while slow: {grown} KiB more; {held} records with the \
         slow client; fast p50/p99 {:?}/{:?} before, {:?}/{:?} during ({} records)",
        p(&before, 50),
        p(&before, 99),
        p(&during, 50),
        p(&during, 99),
        during.len(),
    );
    assert!(grown < 8 << 10, "{grown} KiB");
    // Were it held up, it would be so until the other one is cut.
    assert!(p(&during, 50) < p(&before, 50) * 2 + SLOW / 20);
    // Many times the group's session timeout has passed, and nobody has moved.
    assert_eq!(metric(&gateway, "kafka_group_rebalances_total").await, 2.0);

    eventually(SLOW + Duration::from_secs(60), async || {
        metric(&gateway, "websocket_sessions").await == 1.0
    })
    .await;
    assert!(begin.elapsed() >= SLOW);
    let mut came = 0;
    let error = loop {
        match timeout(Duration::from_secs(60), slow.next()).await.unwrap() {
            Some(Ok(Message::Text(text))) => {
                let frame: Value = serde_json::from_str(&text).unwrap();
                came += frame["records"].as_array().map_or(0, Vec::len);
            }
            Some(Ok(Message::Ping(_))) => {}
            Some(Err(error)) => break error,
            other => panic!("instead of a reset: {other:?}"),
        }
    };
    assert!(
        matches!(&error, Error::Io(error) if error.kind() == std::io::ErrorKind::ConnectionReset),
        "{error:?}"
    );
    // All that it had is somebody else's now.
    let mut next = Client::welcomed(&gateway).await;
    let assigned = next
        .subscribe(&slow_topic, &slow_topic, json!({"offset_reset": "latest"}))
        .await;
    eprintln!("{came} records had come to the slow client: {assigned}");
    // Where it began, and no further.
    assert_eq!(assigned["partitions"][0]["committed"], 0);
    let mut again = Client::welcomed(&gateway).await;
    next.bye().await;
    again
        .subscribe(
            &slow_topic,
            &slow_topic,
            json!({"offset_reset": "earliest"}),
        )
        .await;
    assert_eq!(
        offsets(&again.records(10).await)[..10],
        [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]
    );
    again.bye().await;
    fast.bye().await;
    becomes(&gateway, "websocket_records_in_flight", 0.0).await;
}

/// The peer vanishes without a word, or its process is stopped: its machine may still confirm what
/// it gets, but nobody answers.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_answers_no_ping_leaves_the_group() {
    let gateway = Gateway::builder(&broker().await.bootstrap())
        .set("websocket.ping_interval_ms", "3000")
        .start()
        .await;
    let topic = topic("ws-gone");
    broker().await.plain().create_topic(&topic, 1, &[]).await;
    super::fill(&gateway, &topic, 0, 0..3).await;
    let mut gone = raw(
        &gateway,
        &format!("/ws?topics={topic}&group={topic}&offset_reset=earliest&ack=individual"),
    )
    .await;
    // It answers until it has its records, however long a busy machine takes for that, and then no more.
    let mut had = 0;
    while had < 3 {
        let message = timeout(Duration::from_secs(60), gone.next()).await.unwrap();
        if let Message::Text(text) = message.unwrap().unwrap() {
            let frame: Value = serde_json::from_str(&text).unwrap();
            had += frame["records"].as_array().map_or(0, Vec::len);
        }
    }
    let mut next = Client::welcomed(&gateway).await;
    next.subscribe(&topic, &topic, json!({"offset_reset": "earliest"}))
        .await;
    let records = next.records(3).await;
    assert_eq!(offsets(&records), [0, 1, 2]);
    becomes(&gateway, "websocket_sessions", 1.0).await;
    // It was told why, if it ever looks.
    let mut came = Vec::new();
    let _ = gone.into_inner().read_to_end(&mut came).await;
    let close = [0x88, 9, 0x0f, 0xa3];
    assert!(came.windows(4).any(|bytes| bytes == close), "{came:?}");
    next.bye().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn windows_shrink_and_nobody_is_let_in_while_memory_is_short() {
    let gateway = Gateway::builder(&broker().await.bootstrap())
        .set("limits.buffer_total_bytes", "1048576")
        .start()
        .await;
    let topic = topic("ws-memory");
    broker().await.plain().create_topic(&topic, 1, &[]).await;
    fill_large(&topic, 1_000, 10_000).await;
    // Sessions, each with a group of its own, which take what comes and acknowledge nothing.
    let mut clients: Vec<(Client, Vec<u64>)> = Vec::new();
    let refused = loop {
        assert!(clients.len() < 60, "nobody was refused");
        let mut client = match at(&gateway, "/ws").try_connect().await {
            Ok(client) => client,
            Err(refused) => break refused,
        };
        let group = format!("{topic}-{}", clients.len());
        let flow = json!({
            "offset_reset": "earliest", "flow": {"records": 1_000, "bytes": 32 << 20},
            "ack_timeout_ms": 0,
        });
        client.subscribe(&group, &topic, flow).await;
        let mut tags: Vec<u64> = Vec::new();
        while let Some(frame) = client.next_within(Duration::from_secs(1)).await {
            if let Some(records) = frame["records"].as_array() {
                tags.extend(records.iter().map(|r| r["tag"].as_u64().unwrap()));
            }
        }
        assert!(tags.len() < 1_000, "its window has shrunk: {}", tags.len());
        clients.push((client, tags));
    };
    let with_each: Vec<usize> = clients.iter().map(|(_, tags)| tags.len()).collect();
    eprintln!("records of 10 KB with each session, until one was refused: {with_each:?}");
    assert_eq!(refused.status(), 503);
    let body = refused.body().as_deref().unwrap_or_default();
    assert!(String::from_utf8_lossy(body).contains("buffer_total_bytes"));
    // It recovers as the others end, and the first gets all that is left.
    let (mut client, mut tags) = clients.remove(0);
    for (client, _) in clients {
        client.bye().await;
    }
    let mut seen = tags.len();
    while seen < 1_000 {
        client.ack(&tags).await;
        let records = client.records(1).await;
        tags = records.iter().map(|r| r["tag"].as_u64().unwrap()).collect();
        seen += tags.len();
    }
    client.ack(&tags).await;
    becomes(&gateway, "websocket_records_in_flight", 0.0).await;
    Client::welcomed(&gateway).await.bye().await;
    client.bye().await;
}
