//! The position of a group from its first session on: what a session has and does not acknowledge comes
//! to whoever is next, whatever becomes of the session, and what is new to the group is not missed. What is
//! committed is looked at with the plain client.

use serde_json::{Value, json};

use crate::support::gateway::Gateway;
use crate::support::groups::{assigned, broker, committed, fill, gateway};
use crate::support::kafka_client::OutgoingRecord;
use crate::support::topic;
use crate::support::ws::{Client, at, offsets, tags};

/// A time that is later than all that the tests write.
const LATER: i64 = 4_000_000_000_000;

/// Options with which nothing is committed by itself while a test runs.
fn with(ack: &str, mut options: Value) -> Value {
    options["ack"] = ack.into();
    options["commit_interval_ms"] = 60_000.into();
    options
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_session_did_not_acknowledge_comes_again_in_every_mode_and_from_every_start() {
    let (gateway, plain) = (gateway().await, broker().await.plain());
    let starts = |topic: &str| {
        [
            (json!({}), 3),
            (json!({"from": "latest"}), 3),
            (json!({"from": {"timestamp": LATER}}), 3),
            (
                json!({"from": [{"topic": topic, "partition": 0, "offset": 2}]}),
                2,
            ),
            (json!({"offset_reset": "earliest"}), 0),
            (json!({"from": "earliest"}), 0),
        ]
    };
    let of_mode = |ack: &'static str| {
        let plain = &plain;
        async move {
            let topic = topic("ws-unacked");
            plain.create_topic(&topic, 1, &[]).await;
            fill(gateway, &topic, 0, 0..3).await;
            let mut end = 3;
            for (n, (start, old)) in starts(&topic).into_iter().enumerate() {
                let group = format!("{topic}-{n}");
                // What `latest` means moves with the cases before.
                let first = if old == 3 { end } else { old };
                let mut client = Client::welcomed(gateway).await;
                let given = client
                    .subscribe(&group, &topic, with(ack, start.clone()))
                    .await;
                let partition = &given["partitions"][0];
                assert_eq!(
                    (&partition["start"], &partition["committed"]),
                    (&json!(first), &json!(first)),
                    "{ack} {start}"
                );
                let now = plain.committed(&group, &topic, 0).await;
                assert_eq!(now, Some(first), "{ack} {start}");
                fill(gateway, &topic, 0, end..end + 1).await;
                end += 1;
                let count = usize::try_from(end - first).unwrap();
                client.records(count).await;
                client.drop_dead();

                // Written between its death and the next assignment.
                fill(gateway, &topic, 0, end..end + 1).await;
                end += 1;
                let mut next = Client::welcomed(gateway).await;
                next.subscribe(&group, &topic, with(ack, start.clone()))
                    .await;
                // A mode without acknowledgements has handled what was sent.
                let from = if ack == "auto" { end - 1 } else { first };
                let mut seen = Vec::new();
                while seen.last() != Some(&(end - 1)) {
                    seen.extend(offsets(&next.records(1).await));
                }
                if ack == "auto" {
                    assert!(seen.contains(&from), "{ack} {start} {seen:?}");
                } else {
                    assert_eq!(seen, (first..end).collect::<Vec<_>>(), "{ack} {start}");
                }
                next.bye().await;
            }
        }
    };
    futures::future::join_all(["individual", "cumulative", "auto"].map(of_mode)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_is_committed_though_the_session_takes_nothing() {
    let (gateway, plain) = (gateway().await, broker().await.plain());
    let topic = topic("ws-takes-nothing");
    plain.create_topic(&topic, 1, &[]).await;
    fill(gateway, &topic, 0, 0..3).await;
    for (n, (options, paused)) in [
        (json!({"flow": {"mode": "credit"}}), false),
        (json!({"flow": {"records": 1}}), false),
        (json!({}), true),
    ]
    .into_iter()
    .enumerate()
    {
        let group = format!("{topic}-{n}");
        let (_, end) = plain.watermarks(&topic, 0).await;
        let mut client = Client::welcomed(gateway).await;
        client
            .subscribe(&group, &topic, with("individual", options.clone()))
            .await;
        if paused {
            let pause = json!({"type": "pause", "sub": "o", "id": 1});
            client.ask(pause).await;
        }
        assert_eq!(plain.committed(&group, &topic, 0).await, Some(end));
        fill(gateway, &topic, 0, end..end + 2).await;
        client.drop_dead();
        let mut next = Client::welcomed(gateway).await;
        next.subscribe(&group, &topic, with("individual", json!({})))
            .await;
        assert_eq!(offsets(&next.records(2).await), [end, end + 1], "{options}");
        next.bye().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partition_that_moves_takes_its_records_along() {
    let (gateway, plain) = (gateway().await, broker().await.plain());
    let topic = topic("ws-moves-along");
    plain.create_topic(&topic, 2, &[]).await;
    for partition in 0..2 {
        fill(gateway, &topic, partition, 0..5).await;
    }
    let options = || with("individual", json!({"revoke_grace_ms": 0}));
    let mut first = Client::welcomed(gateway).await;
    let given = first.subscribe(&topic, &topic, options()).await;
    if given["assignment"].as_array().unwrap().len() < 2 {
        assigned(&mut first, 2).await;
    }
    for partition in 0..2 {
        fill(gateway, &topic, partition, 5..8).await;
    }
    first.records(6).await;

    let mut second = Client::welcomed(gateway).await;
    second.subscribe(&topic, &topic, options()).await;
    let revoked = first.until("revoked").await;
    assert_eq!(
        (
            &revoked["partitions"][0]["unacked"],
            &revoked["partitions"][0]["committed"]
        ),
        (&json!(3), &json!(5))
    );
    assert_eq!(offsets(&second.records(3).await), [5, 6, 7]);
    first.bye().await;
    second.bye().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_of_a_gateway_that_is_killed_come_to_the_next() {
    let kafka = broker().await;
    let plain = kafka.plain();
    let killed = Gateway::start(&kafka.bootstrap()).await;
    let topic = topic("ws-killed-latest");
    plain.create_topic(&topic, 1, &[]).await;
    fill(&killed, &topic, 0, 0..3).await;
    let mut client = Client::welcomed(&killed).await;
    client.subscribe(&topic, &topic, json!({})).await;
    fill(&killed, &topic, 0, 3..5).await;
    assert_eq!(client.records(2).await.len(), 2);

    killed.kill();

    let gateway = gateway().await;
    fill(gateway, &topic, 0, 5..6).await;
    let mut next = Client::welcomed(gateway).await;
    next.subscribe(&topic, &topic, json!({})).await;
    assert_eq!(offsets(&next.records(3).await), [3, 4, 5]);
    next.bye().await;
}

/// Ways in which a session is over that has two records, handled neither: what it is told first, and
/// whatever ends it.
#[derive(Debug, Clone, Copy)]
enum Over {
    /// They are to come again later.
    Delayed,
    /// They are to become dead letters, which their topic does not take.
    DeadLetters,
    /// The gateway stops, and has told so.
    Drained,
    /// The gateway does not answer the group any more, so that it loses the partition.
    Frozen,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_that_wait_in_a_session_come_to_the_next_however_it_ends() {
    let kafka = broker().await;
    let plain = kafka.plain();
    let case = |over: Over| {
        let plain = &plain;
        async move {
            let gone = Gateway::start(&kafka.bootstrap()).await;
            let topic = topic("ws-waits");
            plain.create_topic(&topic, 1, &[]).await;
            let dead = format!("{topic}.dlq");
            plain
                .create_topic(&dead, 1, &[("max.message.bytes", "1")])
                .await;
            fill(&gone, &topic, 0, 0..3).await;
            let mut client = Client::welcomed(&gone).await;
            client
                .subscribe(&topic, &topic, with("individual", json!({})))
                .await;
            fill(&gone, &topic, 0, 3..5).await;
            let records = client.records(2).await;
            assert_eq!(offsets(&records), [3, 4], "{over:?}");
            let mut nack =
                json!({"type": "nack", "id": "nack", "sub": "o", "tags": tags(&records)});
            match over {
                Over::Delayed => {
                    nack["delay_ms"] = 600_000.into();
                    assert_eq!(client.ask(nack).await["type"], "acked");
                    client.drop_dead();
                }
                Over::DeadLetters => {
                    nack["dead_letter"] = true.into();
                    assert_eq!(client.ask(nack).await["type"], "acked");
                    client.drop_dead();
                }
                Over::Drained => {
                    gone.ask_to_end();
                    client.until("drain").await;
                    client.closed().await;
                }
                Over::Frozen => gone.pause(),
            }

            let gateway = gateway().await;
            let mut next = Client::welcomed(gateway).await;
            next.subscribe(&topic, &topic, with("individual", json!({})))
                .await;
            assert_eq!(offsets(&next.records(2).await), [3, 4], "{over:?}");
            next.bye().await;
        }
    };
    let all = [
        Over::Delayed,
        Over::DeadLetters,
        Over::Drained,
        Over::Frozen,
    ];
    futures::future::join_all(all.map(case)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workers_that_start_together_start_at_the_end() {
    let (gateway, plain) = (gateway().await, broker().await.plain());
    let topic = topic("ws-together");
    plain.create_topic(&topic, 4, &[]).await;
    for partition in 0..4 {
        fill(gateway, &topic, partition, 0..3).await;
    }
    let workers = (0..4).map(|_| async {
        let mut client = Client::welcomed(gateway).await;
        client.subscribe(&topic, &topic, json!({})).await;
        client
    });
    let mut clients = futures::future::join_all(workers).await;
    for partition in 0..4 {
        committed(&plain, &topic, &topic, partition, 3).await;
    }
    for partition in 0..4 {
        fill(gateway, &topic, partition, 3..4).await;
    }
    // All are in the group, and each has one or is about to.
    let mut seen = 0;
    while seen < 4 {
        let nexts = clients.iter_mut().map(|client| Box::pin(client.next()));
        let (frame, ..) = futures::future::select_all(nexts).await;
        if frame["type"] == "records" {
            let records = frame["records"].as_array().unwrap();
            assert_eq!(offsets(records), [3], "{frame}");
            seen += 1;
        }
    }
    for client in clients {
        client.bye().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: a pattern is looked at every five seconds, and the group learns of partitions late"]
async fn partitions_and_topics_that_appear_under_a_subscription_start_at_their_beginning() {
    let (gateway, plain) = (gateway().await, broker().await.plain());
    let prefix = topic("ws-appears");
    let (old, new) = (format!("{prefix}-old"), format!("{prefix}-new"));
    plain.create_topic(&old, 1, &[]).await;
    fill(gateway, &old, 0, 0..5).await;
    let mut client = Client::welcomed(gateway).await;
    let subscribe = json!({
        "type": "subscribe", "id": 1, "sub": "o", "group": prefix, "pattern": format!("{prefix}-.*"),
    });
    assert_eq!(client.ask(subscribe).await["type"], "subscribed");
    let given = client.until("assigned").await;
    assert_eq!(given["partitions"][0]["start"], 5);

    plain.add_partitions(&old, 3).await;
    plain.create_topic(&new, 2, &[]).await;
    // It has known nothing of these.
    let writer = broker().await.plain();
    for (topic, partition) in [(&old, 1), (&old, 2), (&new, 0), (&new, 1)] {
        for _ in 0..3 {
            let record = OutgoingRecord {
                topic,
                partition: Some(partition),
                value: Some(b"1"),
                ..OutgoingRecord::default()
            };
            writer.produce(record).await;
        }
    }
    let mut seen = Vec::new();
    while seen.len() < 12 {
        seen.extend(client.records(1).await);
    }
    client.ack(&tags(&seen)).await;
    for (topic, partition) in [(&old, 1), (&old, 2), (&new, 0), (&new, 1)] {
        let of = |record: &&Value| record["topic"] == **topic && record["partition"] == partition;
        let of: Vec<Value> = seen.iter().filter(of).cloned().collect();
        assert_eq!(offsets(&of), [0, 1, 2], "{topic} {partition}");
        committed(&plain, &prefix, topic, partition, 3).await;
    }
    client.bye().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_position_outside_the_log_goes_to_the_nearest_record() {
    let (gateway, plain) = (gateway().await, broker().await.plain());
    let topic = topic("ws-outside");
    plain.create_topic(&topic, 1, &[]).await;
    fill(gateway, &topic, 0, 0..20).await;
    plain.delete_records(&topic, 0, 12).await;
    for (n, (reset, position, start, reason)) in [
        ("latest", 5, 12, "retention"),
        ("earliest", 5, 12, "retention"),
        ("latest", 25, 20, "reset"),
        ("earliest", 25, 20, "reset"),
    ]
    .into_iter()
    .enumerate()
    {
        let group = format!("{topic}-{n}");
        plain.commit(&group, &topic, 0, position).await;
        let mut client = Client::welcomed(gateway).await;
        let options = with("individual", json!({"offset_reset": reset}));
        let given = client.subscribe(&group, &topic, options).await;
        assert_eq!(given["partitions"][0]["start"], start, "{n}");
        let gap = client.until("gap").await;
        assert_eq!(
            (&gap["from"], &gap["to"], &gap["reason"]),
            (&json!(position), &json!(start), &json!(reason))
        );
        assert_eq!(plain.committed(&group, &topic, 0).await, Some(start), "{n}");
        if start == 12 {
            assert_eq!(client.records(1).await[0]["offset"], 12);
        }
        client.bye().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn from_and_offset_reset_that_differ_are_refused() {
    let gateway = gateway().await;
    let mut client = Client::welcomed(gateway).await;
    for (from, reset) in [
        (json!("earliest"), "latest"),
        (json!("latest"), "earliest"),
        (json!("earliest"), "error"),
        (json!({"timestamp": 5}), "latest"),
    ] {
        let subscribe = json!({
            "type": "subscribe", "id": 1, "sub": "o", "group": "ws-differ", "topics": ["ws-differ"],
            "from": from, "offset_reset": reset,
        });
        let error = client.ask(subscribe).await;
        assert_eq!(
            (&error["type"], &error["field"]),
            (&json!("error"), &json!("offset_reset")),
            "{error}"
        );
    }
    client.bye().await;
    let path = "/ws?topics=ws-differ&group=ws-differ&from=earliest&offset_reset=latest";
    let mut client = at(gateway, path).connect().await;
    let closed = client.closed().await;
    assert_eq!(closed.code, Some(4511));
}
