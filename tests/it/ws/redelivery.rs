//! Records that come again, on a real Kafka: refusals, deadlines, and what waits for them. Those that are
//! given up are in `dead_letters`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::dead_letters::header;
use crate::support::gateway::Gateway;
use crate::support::groups::{broker, committed, fill, gateway, spot};
use crate::support::kafka_client::KafkaClient;
use crate::support::topic;
use crate::support::ws::{Client, offsets, tags};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handler_that_never_answers_starves_nobody() {
    let (gateway, plain) = (gateway().await, broker().await.plain());
    let topic = topic("ws-silent");
    plain.create_topic(&topic, 1, &[]).await;
    let dead = format!("{topic}.dead");
    plain.create_topic(&dead, 1, &[]).await;
    fill(gateway, &topic, 0, 0..6).await;
    let mut client = Client::welcomed(gateway).await;
    let options = json!({
        "offset_reset": "earliest", "commit_interval_ms": 100, "flow": {"records": 3},
        "ack_timeout_ms": 1000, "max_deliveries": 2, "order": "relaxed", "dlq": dead,
    });
    client.subscribe(&topic, &topic, options).await;
    let mut came = BTreeMap::new();
    for record in client.records(12).await {
        came.entry(spot(&record).1)
            .or_insert_with(Vec::new)
            .push(record["deliveries"].as_i64().unwrap());
    }
    assert!(
        came.len() == 6 && came.values().all(|times| *times == [1, 2]),
        "{came:?}"
    );
    committed(&plain, &topic, &topic, 0, 6).await;
    // All is over; a late acknowledgement hurts nobody.
    client.ack(&[1, 2, 3]).await;
    client.bye().await;
    let letters = plain.consume_all(&dead).await;
    let mut origins: Vec<_> = letters
        .iter()
        .map(|letter| header(letter, "original-offset").unwrap().to_owned())
        .collect();
    origins.sort_unstable();
    assert_eq!(origins, ["0", "1", "2", "3", "4", "5"]);
    assert!(
        letters
            .iter()
            .all(|letter| header(letter, "deliveries") == Some("2"))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: deadlines that a busy machine can keep"]
async fn an_old_tag_is_dead_and_more_time_may_be_asked_for() {
    let (gateway, plain) = (gateway().await, broker().await.plain());
    let topic = topic("ws-extend");
    plain.create_topic(&topic, 1, &[]).await;
    fill(gateway, &topic, 0, 0..2).await;
    let mut client = Client::welcomed(gateway).await;
    let options = json!({
        "offset_reset": "earliest", "ack_timeout_ms": 5000, "order": "relaxed",
    });
    client.subscribe(&topic, &topic, options).await;
    let records = client.records(2).await;
    let tags_of = tags(&records);
    let asked = Instant::now();
    let more = json!({"type": "extend", "sub": "o", "id": 1, "tags": [tags_of[0]], "ms": 12000});
    assert_eq!(client.ask(more).await["type"], "acked");
    let second = client.records(1).await;
    assert_eq!(
        (offsets(&second), &second[0]["deliveries"]),
        (vec![1], &json!(2))
    );
    client.ack(&tags(&second)).await;
    let stale = client
        .ask(json!({"type": "ack", "sub": "o", "id": 2, "tags": [tags_of[1]]}))
        .await;
    // Its record is acknowledged under the later tag, so nothing is wrong any more.
    assert_eq!(stale["type"], "acked", "{stale}");
    let first = client.records(1).await;
    assert_eq!(
        (offsets(&first), &first[0]["deliveries"]),
        (vec![0], &json!(2))
    );
    assert!(
        asked.elapsed() > Duration::from_millis(11_900),
        "{:?}",
        asked.elapsed()
    );
    for kind in ["ack", "nack", "extend"] {
        let mut frame = json!({"type": kind, "sub": "o", "id": kind, "tags": [tags_of[0]]});
        if kind == "extend" {
            frame["ms"] = 1000.into();
        }
        let answer = client.ask(frame).await;
        let error = match answer["type"].as_str() {
            Some("acked") => client.until("error").await,
            _ => answer,
        };
        assert_eq!(error["code"], "ack_stale", "{kind}");
        assert_eq!(error["epoch"], 1);
    }
    client.ack(&tags(&first)).await;
    client.bye().await;
    assert_eq!(plain.committed(&topic, &topic, 0).await, Some(2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn others_go_on_where_the_order_is_relaxed_and_what_waits_is_bounded() {
    let plain = broker().await.plain();
    let gateway = Gateway::builder(&broker().await.bootstrap())
        .set("websocket.max_delayed", "10")
        .start()
        .await;
    let topic = topic("ws-relaxed");
    plain.create_topic(&topic, 1, &[]).await;
    fill(&gateway, &topic, 0, 0..40).await;
    let mut client = Client::welcomed(&gateway).await;
    let options = json!({
        "offset_reset": "earliest", "order": "relaxed", "flow": {"records": 5},
        "commit_interval_ms": 100,
    });
    client.subscribe(&topic, &topic, options).await;
    let began = Instant::now();
    for expected in [0..5, 5..10] {
        let records = client.records(5).await;
        assert_eq!(offsets(&records), expected.collect::<Vec<_>>());
        let tags = tags(&records);
        let refusal = json!({"type": "nack", "sub": "o", "tags": tags, "delay_ms": 2000});
        client.send(refusal).await;
    }
    // As many wait as may: nothing new until they have come again.
    let mut again = Vec::new();
    let mut all = Vec::new();
    while all.len() < 40 {
        let records = client.records(1).await;
        if again.is_empty() {
            assert!(
                began.elapsed() > Duration::from_millis(1_900),
                "{:?}",
                began.elapsed()
            );
        }
        again.extend(
            records
                .iter()
                .filter(|r| r["deliveries"] == 2)
                .map(|r| spot(r).1),
        );
        all.extend(offsets(&records));
        client.ack(&tags(&records)).await;
    }
    again.sort_unstable();
    assert_eq!(again, (0..10).collect::<Vec<_>>());
    all.sort_unstable();
    assert_eq!(all, (0..40).collect::<Vec<_>>());
    committed(&plain, &topic, &topic, 0, 40).await;
    client.bye().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_new_comes_before_a_refused_record_is_done_with() {
    let (gateway, plain) = (gateway().await, broker().await.plain());
    let topic = topic("ws-order");
    plain.create_topic(&topic, 2, &[]).await;
    fill(gateway, &topic, 0, 0..10).await;
    let mut client = Client::welcomed(gateway).await;
    let options = json!({"offset_reset": "earliest", "flow": {"records": 20}});
    client.subscribe(&topic, &topic, options).await;
    let records = client.records(10).await;
    let tags_of = tags(&records);
    let nack =
        |tag: u64| json!({"type": "nack", "sub": "o", "id": tag, "tags": [tag], "delay_ms": 4000});
    // The third is refused first, and still comes after the first.
    for tag in [tags_of[2], tags_of[0]] {
        client.send(nack(tag)).await;
    }
    for tag in [tags_of[2], tags_of[0]] {
        assert_eq!(client.answer(tag).await["type"], "acked");
    }
    client.ack(&tags_of[3..]).await;
    fill(gateway, &topic, 0, 10..15).await;
    let first = client.records(1).await;
    assert_eq!(spot(&first[0]), (0, 0));
    fill(gateway, &topic, 1, 0..3).await;
    let other = client.records(3).await;
    assert!(
        other.iter().all(|record| spot(record).0 == 1),
        "the other partition goes on"
    );
    client.silent(Duration::from_millis(500)).await;
    client.ack(&tags(&first)).await;
    let third = client.records(1).await;
    assert_eq!(
        (spot(&third[0]), &third[0]["deliveries"]),
        ((0, 2), &json!(2))
    );
    client.silent(Duration::from_millis(300)).await;
    client.ack(&tags(&third)).await;
    assert_eq!(offsets(&client.records(5).await), [10, 11, 12, 13, 14]);
    // The second was never answered for.
    client.bye().await;
    assert_eq!(plain.committed(&topic, &topic, 0).await, Some(1));
}

/// Looks again and again that no commit passes what waits.
async fn watch(plain: KafkaClient, topic: String, waits: Arc<Mutex<Vec<BTreeSet<i64>>>>) {
    loop {
        for partition in 0..4 {
            let committed = plain.committed(&topic, &topic, partition).await;
            let index = usize::try_from(partition).unwrap();
            let first = waits.lock()[index].first().copied();
            let (committed, first) = (committed.unwrap_or(0), first.unwrap_or(i64::MAX));
            assert!(committed <= first, "{committed} is beyond {first}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: thousands of records, some of which are left until their deadline"]
async fn a_storm_of_refusals_loses_nothing() {
    const RECORDS: i64 = 500;
    let (gateway, plain) = (gateway().await, broker().await.plain());
    for order in ["partition", "relaxed"] {
        let topic = topic("ws-storm");
        plain.create_topic(&topic, 4, &[]).await;
        let dead = format!("{topic}.dlq");
        plain.create_topic(&dead, 1, &[]).await;
        for partition in 0..4 {
            fill(gateway, &topic, partition, 0..RECORDS).await;
        }
        let mut client = Client::welcomed(gateway).await;
        let options = json!({
            "offset_reset": "earliest", "ack_timeout_ms": 8000, "max_deliveries": 4,
            "commit_interval_ms": 100, "order": order, "flow": {"records": 300},
        });
        client.subscribe(&topic, &topic, options).await;
        let waits: Vec<BTreeSet<i64>> = (0..4).map(|_| (0..RECORDS).collect()).collect();
        let waits = Arc::new(Mutex::new(waits));
        // Beside it, because to look takes longer than to acknowledge.
        let watching = tokio::spawn(watch(plain.clone(), topic.clone(), Arc::clone(&waits)));
        let mut times: BTreeMap<(i64, i64), (i64, u64)> = BTreeMap::new();
        // Acknowledged too late, by what came and by what was said.
        let (mut repeated, mut late) = (BTreeSet::new(), BTreeSet::new());
        let mut note = |frame: &Value| {
            if frame["code"] == "ack_stale" {
                let tags = frame["tags"].as_array().unwrap();
                // An error names no more of them.
                assert!(tags.len() < 100, "{frame}");
                late.extend(tags.iter().map(|tag| tag.as_u64().unwrap()));
            }
        };
        while waits.lock().iter().any(|waits| !waits.is_empty()) {
            let frame = client.next().await;
            note(&frame);
            if frame["type"] != "records" {
                assert!(
                    frame["type"] != "error" || frame["code"] == "ack_stale",
                    "{frame}"
                );
                continue;
            }
            let mut acks = Vec::new();
            let mut refusals = Vec::new();
            for record in frame["records"].as_array().unwrap() {
                let (partition, offset) = spot(record);
                let deliveries = record["deliveries"].as_i64().unwrap();
                let tag = record["tag"].as_u64().unwrap();
                let before = times.insert((partition, offset), (deliveries, tag));
                let (before, last) = before.unwrap_or_default();
                assert_eq!(deliveries, before + 1, "{record}");
                let mut waits = waits.lock();
                let waits = &mut waits[usize::try_from(partition).unwrap()];
                if waits.insert(offset) {
                    repeated.insert(last);
                }
                // One in a hundred is refused to its end, a few are left to their deadline.
                match offset % 100 {
                    50 if deliveries == 4 => {
                        waits.remove(&offset);
                        refusals.push((tag, 0));
                    }
                    99 if deliveries == 1 && offset % 500 == 499 => {}
                    n if n == 50 || (n % 10 == 0 && deliveries == 1) => {
                        refusals.push((tag, fastrand::u64(0..50)));
                    }
                    _ => {
                        waits.remove(&offset);
                        acks.push(tag);
                    }
                }
            }
            for (tag, delay) in refusals {
                let nack = json!({"type": "nack", "sub": "o", "tags": [tag], "delay_ms": delay});
                client.send(nack).await;
            }
            fastrand::shuffle(&mut acks);
            for acks in acks.chunks(90) {
                client.ack(acks).await;
            }
        }
        // What was said to an acknowledgement may come after its record has come again.
        client
            .ask(json!({"type": "ping", "id": "all answered"}))
            .await;
        while let Some(frame) = client.next_within(Duration::ZERO).await {
            note(&frame);
        }
        for partition in 0..4 {
            committed(&plain, &topic, &topic, partition, RECORDS).await;
        }
        watching.abort();
        if let Err(error) = watching.await {
            assert!(error.is_cancelled(), "{error}");
        }
        client.bye().await;
        let letters = plain.consume_all(&dead).await;
        let origins: BTreeSet<_> = letters
            .iter()
            .map(|letter| {
                let of = |name| header(letter, name).unwrap().parse::<i64>().unwrap();
                (of("original-partition"), of("original-offset"))
            })
            .collect();
        assert_eq!(letters.len(), origins.len(), "each of them once");
        // Of 4 partitions 5 each, and what the client was too late for as often as that.
        let poison = origins.iter().filter(|(_, offset)| offset % 100 == 50);
        assert_eq!(poison.count(), 20);
        assert!(
            repeated.is_subset(&late),
            "acknowledged in time, and again: {repeated:?} {late:?}"
        );
    }
}
