//! A client that writes more than may be written, while it reads and acknowledges on the same socket.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use futures::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;

use super::{becomes, broker, raw, resident};
use crate::support::gateway::Gateway;
use crate::support::topic;
use crate::support::ws::check;

const BOUND: Duration = Duration::from_secs(300);

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "long: 100,000 requests"]
async fn a_flood_of_requests_is_answered_one_by_one_and_holds_up_nothing() {
    const REQUESTS: usize = 100_000;
    let gateway = Gateway::start(&broker().await.bootstrap()).await;
    let topic = topic("ws-flood");
    let plain = broker().await.plain();
    plain.create_topic(&topic, 4, &[]).await;
    let (mut write, mut read) = raw(&gateway, "/ws").await.split();
    let subscribe = json!({
        "type": "subscribe", "sub": "o", "group": topic, "topics": [topic], "offset_reset": "earliest",
    });
    write
        .send(Message::text(subscribe.to_string()))
        .await
        .unwrap();
    let (acks, mut to_ack) = tokio::sync::mpsc::unbounded_channel::<Message>();
    let resting = resident(&gateway);
    let begin = Instant::now();
    let writer = tokio::spawn(async move {
        for id in 0..REQUESTS {
            let frame = json!({
                "type": "produce", "id": id, "topic": topic,
                "records": [{"value": id, "partition": id % 4}],
            });
            write.feed(Message::text(frame.to_string())).await.unwrap();
            while let Ok(ack) = to_ack.try_recv() {
                write.feed(ack).await.unwrap();
            }
            if id % 2_000 == 0 {
                let t = begin.elapsed().as_millis() as u64;
                let ping = json!({"type": "ping", "t": t});
                write.feed(Message::text(ping.to_string())).await.unwrap();
            }
        }
        write.flush().await.unwrap();
        while let Some(ack) = to_ack.recv().await {
            write.send(ack).await.unwrap();
        }
        topic
    });
    let mut answers: HashMap<u64, &'static str> = HashMap::new();
    let mut delivered: HashMap<u64, Vec<u64>> = HashMap::new();
    let (mut written, mut received, mut pongs) = (0, 0, 0);
    let mut slowest = Duration::ZERO;
    let mut peak = 0;
    while answers.len() < REQUESTS || received < written {
        let message = timeout(BOUND, read.next())
            .await
            .expect("the gateway answers");
        let Some(Ok(Message::Text(text))) = message else {
            assert!(matches!(message, Some(Ok(Message::Ping(_)))), "{message:?}");
            continue;
        };
        let frame: Value = serde_json::from_str(&text).unwrap();
        if answers.len().is_multiple_of(100) {
            check(&frame);
        }
        match frame["type"].as_str().unwrap() {
            "produced" => {
                let result = &frame["results"][0];
                assert!(result["offset"].is_u64(), "{frame}");
                written += 1;
                let id = frame["id"].as_u64().unwrap();
                assert_eq!(answers.insert(id, "produced"), None, "{frame}");
            }
            "error" => {
                let code = match frame["code"].as_str().unwrap() {
                    "produce_overrun" => "produce_overrun",
                    "rate_limited" => "rate_limited",
                    _ => panic!("{frame}"),
                };
                assert_eq!(frame["retriable"], true);
                let id = frame["id"].as_u64().expect("an id");
                assert_eq!(answers.insert(id, code), None, "{frame}");
            }
            "records" => {
                let records = frame["records"].as_array().unwrap();
                for record in records {
                    let partition = record["partition"].as_u64().unwrap();
                    delivered
                        .entry(partition)
                        .or_default()
                        .push(record["value"].as_u64().unwrap());
                }
                received += records.len();
                let tags: Vec<&Value> = records.iter().map(|r| &r["tag"]).collect();
                let ack = json!({"type": "ack", "sub": "o", "tags": tags});
                acks.send(Message::text(ack.to_string())).unwrap();
            }
            "pong" => {
                let sent = Duration::from_millis(frame["t"].as_u64().unwrap());
                slowest = slowest.max(begin.elapsed().saturating_sub(sent));
                pongs += 1;
            }
            _ => {}
        }
        if answers.len().is_multiple_of(1_000) {
            peak = peak.max(resident(&gateway));
        }
    }
    drop((acks, read));
    let topic = writer.await.unwrap();
    let count = |what| answers.values().filter(|answer| **answer == what).count();
    eprintln!(
        "{written} written, {} overrun, {} over the rate, in {:?}; {pongs} pongs, the slowest after \
         {slowest:?}; RSS {resting} KiB, at most {peak} KiB",
        count("produce_overrun"),
        count("rate_limited"),
        begin.elapsed(),
    );
    assert_eq!(pongs, REQUESTS / 2_000);
    assert!(peak - resting < 64 << 10, "{} KiB", peak - resting);
    assert_eq!(received, written);
    let mut in_kafka: HashMap<u64, Vec<u64>> = HashMap::new();
    for record in plain.consume_all(&topic).await {
        let value = record.text().unwrap().parse().unwrap();
        in_kafka
            .entry(record.partition as u64)
            .or_default()
            .push(value);
    }
    assert_eq!(in_kafka.values().map(Vec::len).sum::<usize>(), written);
    for (partition, values) in &in_kafka {
        assert!(
            values.is_sorted_by(|a, b| a < b),
            "partition {partition} in order"
        );
        assert_eq!(delivered.get(partition), Some(values));
    }
    becomes(&gateway, "websocket_sessions", 0.0).await;
}
