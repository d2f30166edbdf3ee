//! A group that a session shares with a plain Python client of Kafka: each does its part, and either
//! takes over from the other.

use std::collections::BTreeMap;

use serde_json::json;

use crate::support::groups::{assigned, broker, committed, fill, gateway, spot};
use crate::support::python::Python;
use crate::support::subprocess::Subprocess;
use crate::support::topic;
use crate::support::ws::{Client, tags};

/// How often each record came.
type Seen = BTreeMap<(i64, i64), u32>;

/// Reads the script's lines until `done` holds of one.
async fn follow(script: &mut Subprocess, seen: &mut Seen, name: &str, count: usize) {
    let mut has: Vec<i64> = Vec::new();
    loop {
        let line = script.line().await.expect("the script goes on");
        if let Some(offset) = line["offset"].as_i64() {
            *seen
                .entry((line["partition"].as_i64().unwrap(), offset))
                .or_default() += 1;
        }
        let places = |name: &str| -> Vec<i64> {
            let list = line[name].as_array().into_iter().flatten();
            list.map(|n| n.as_i64().unwrap()).collect()
        };
        has.extend(places("assigned"));
        let gone = places("revoked");
        has.retain(|partition| !gone.contains(partition));
        assert!(line.get("error").is_none(), "{line}");
        let counted = match name {
            "records" => seen.len(),
            _ => has.len(),
        };
        if counted == count {
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_shares_a_group_with_a_python_client() {
    let Some(python) = Python::find().await else {
        return;
    };
    let (gateway, plain) = (gateway().await, broker().await.plain());
    let topic = topic("ws-python");
    plain.create_topic(&topic, 4, &[]).await;
    let bootstrap = broker().await.bootstrap();
    let mut script = python.start("member.py", &[&bootstrap, &topic, &topic]);
    let mut there = Seen::new();
    follow(&mut script, &mut there, "assigned", 4).await;

    let mut client = Client::welcomed(gateway).await;
    client
        .send(json!({
            "type": "subscribe", "sub": "o", "group": topic, "topics": [topic],
            "offset_reset": "earliest", "commit_interval_ms": 100,
        }))
        .await;
    assigned(&mut client, 2).await;
    for partition in 0..4 {
        fill(gateway, &topic, partition, 0..100).await;
    }
    let mut here = Seen::new();
    let records = client.records(200).await;
    for record in &records {
        *here.entry(spot(record)).or_default() += 1;
    }
    client.ack(&tags(&records)).await;
    follow(&mut script, &mut there, "records", 200).await;
    for partition in 0..4 {
        committed(&plain, &topic, &topic, partition, 100).await;
    }
    assert!(here.values().chain(there.values()).all(|times| *times == 1));
    assert!(here.keys().all(|spot| !there.contains_key(spot)));

    // The session takes over from the script …
    script.tell("leave");
    while script.line().await.is_some() {}
    script.ended().await;
    let starts = assigned(&mut client, 4).await;
    assert!(
        starts.values().all(|start| start["start"] == 100),
        "{starts:?}"
    );
    for partition in 0..4 {
        fill(gateway, &topic, partition, 100..150).await;
    }
    let records = client.records(200).await;
    for record in &records {
        *here.entry(spot(record)).or_default() += 1;
    }
    assert_eq!(here.len(), 400);
    assert!(here.values().all(|times| *times == 1));
    let half: Vec<u64> = records
        .iter()
        .filter(|record| spot(record).1 < 120)
        .map(|record| record["tag"].as_u64().unwrap())
        .collect();
    client.ack(&half).await;
    client.bye().await;

    // … and a script from the session: exactly what was not acknowledged comes again.
    let mut script = python.start("member.py", &[&bootstrap, &topic, &topic]);
    let mut there = Seen::new();
    follow(&mut script, &mut there, "records", 4 * 30).await;
    let expected: Vec<_> = (0..4)
        .flat_map(|p| (120..150).map(move |o| (p, o)))
        .collect();
    assert_eq!(there.keys().copied().collect::<Vec<_>>(), expected);
    for partition in 0..4 {
        committed(&plain, &topic, &topic, partition, 150).await;
    }
    script.tell("leave");
    script.ended().await;
}
