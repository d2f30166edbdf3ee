//! Records that are given up, on a real Kafka: the dead letters, and who may write them.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use crate::support::gateway::Gateway;
use crate::support::groups::{broker, committed, fill, gateway, spot};
use crate::support::kafka_client::{OutgoingRecord, StoredRecord};
use crate::support::tokens::token;
use crate::support::ws::{Client, at, offsets, tags};
use crate::support::{eventually, http, topic};

pub(super) fn header<'a>(record: &'a StoredRecord, name: &str) -> Option<&'a str> {
    let found = record.headers.iter().find(|(known, _)| known == name)?;
    std::str::from_utf8(found.1.as_deref()?).ok()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_poisoned_record_becomes_one_dead_letter() {
    const POISON: i64 = 25;
    let (gateway, plain) = (gateway().await, broker().await.plain());
    let topic = topic("ws-poison");
    plain.create_topic(&topic, 1, &[]).await;
    fill(gateway, &topic, 0, 0..POISON).await;
    // Written as it is: to serde_json the number would be another text.
    let poison = OutgoingRecord {
        topic: &topic,
        partition: Some(0),
        key: Some(b"k"),
        value: Some(br#"{"bad":1.50}"#),
        headers: &[("mine", Some(b"1")), ("mine", None)],
        ..OutgoingRecord::default()
    };
    plain.produce(poison).await;
    fill(gateway, &topic, 0, POISON + 1..50).await;
    let mut client = Client::welcomed(gateway).await;
    // One at a time, so that the order of frames is the order of deliveries.
    let options = json!({
        "offset_reset": "earliest", "commit_interval_ms": 100, "flow": {"records": 1},
    });
    client.subscribe(&topic, &topic, options).await;
    let mut came: Vec<(i64, i64)> = Vec::new();
    let mut refused_at = BTreeMap::new();
    while came.iter().filter(|(offset, _)| *offset == POISON).count() < 5 {
        let record = client.records(1).await.remove(0);
        let (offset, deliveries) = (spot(&record).1, record["deliveries"].as_i64().unwrap());
        assert_eq!(record["redelivered"] == true, deliveries > 1);
        came.push((offset, deliveries));
        let tag = tags(&[record]);
        if offset == POISON {
            let refusal = json!({"type": "nack", "sub": "o", "tags": tag, "reason": "poison"});
            client.send(refusal).await;
        } else if offset % 10 == 0 && deliveries == 1 {
            refused_at.insert(offset, Instant::now());
            let refusal = json!({"type": "nack", "sub": "o", "tags": tag, "delay_ms": 200});
            client.send(refusal).await;
        } else {
            if let Some(at) = refused_at.get(&offset) {
                assert!(
                    at.elapsed() >= Duration::from_millis(195),
                    "{:?}",
                    at.elapsed()
                );
            }
            client.ack(&tag).await;
        }
    }
    let expected: Vec<(i64, i64)> = (0..=POISON)
        .flat_map(|offset| {
            let times = match offset {
                POISON => 5,
                offset if offset % 10 == 0 => 2,
                _ => 1,
            };
            (1..=times).map(move |n| (offset, n))
        })
        .collect();
    assert_eq!(came, expected);

    // There is no dead-letter topic: the record stays, nothing passes it, and the client hears why.
    let cannot = |frame: &Value| {
        frame["type"] == "state"
            && frame["detail"]
                .as_str()
                .is_some_and(|text| text.contains("dead letter"))
    };
    client.until_such("state with a dead letter", cannot).await;
    client.until_such("another try", cannot).await;
    committed(&plain, &topic, &topic, 0, POISON).await;
    assert_eq!(
        client
            .next_within(Duration::from_millis(300))
            .await
            .filter(|f| f["type"] == "records"),
        None
    );
    let position = client
        .ask(json!({"type": "position", "sub": "o", "id": 1}))
        .await;
    assert_eq!(position["positions"][0]["acked"], POISON);
    assert_eq!(plain.committed(&topic, &topic, 0).await, Some(POISON));

    let dead = format!("{topic}.dlq");
    plain.create_topic(&dead, 1, &[]).await;
    let mut rest = Vec::new();
    while rest.last() != Some(&49) {
        let records = client.records(1).await;
        rest.extend(offsets(&records));
        client.ack(&tags(&records)).await;
    }
    assert_eq!(rest, (POISON + 1..50).collect::<Vec<_>>());
    committed(&plain, &topic, &topic, 0, 50).await;
    client.bye().await;
    let letters = plain.consume_all(&dead).await;
    assert_eq!(letters.len(), 1);
    let letter = &letters[0];
    assert_eq!(
        (letter.key.as_deref(), letter.text()),
        (Some(&b"k"[..]), Some(r#"{"bad":1.50}"#))
    );
    assert_eq!(
        letter.headers[..2],
        [
            ("mine".to_owned(), Some(b"1".to_vec())),
            ("mine".to_owned(), None),
        ]
    );
    let offset = POISON.to_string();
    for (name, value) in [
        ("error", "poison"),
        ("original-topic", topic.as_str()),
        ("original-partition", "0"),
        ("original-offset", offset.as_str()),
        ("deliveries", "5"),
    ] {
        assert_eq!(header(letter, name), Some(value), "{name}");
    }
    let stamp = header(letter, "original-timestamp").unwrap();
    assert!(stamp.parse::<i64>().unwrap() > 1_600_000_000_000);
    assert!(header(letter, "failed-at").unwrap().ends_with('Z'));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_may_be_given_up_at_once() {
    let (gateway, plain) = (gateway().await, broker().await.plain());
    let topic = topic("ws-given-up");
    plain.create_topic(&topic, 1, &[]).await;
    plain.create_topic(&format!("{topic}.dlq"), 1, &[]).await;
    fill(gateway, &topic, 0, 0..3).await;
    let mut client = Client::welcomed(gateway).await;
    let options = json!({"offset_reset": "earliest", "commit_interval_ms": 100});
    client.subscribe(&topic, &topic, options).await;
    let records = client.records(3).await;
    let nack = json!({
        "type": "nack", "sub": "o", "id": 1, "tags": [tags(&records)[1]], "dead_letter": true,
    });
    assert_eq!(client.ask(nack).await["type"], "acked");
    client.ack(&tags(&records)).await;
    committed(&plain, &topic, &topic, 0, 3).await;
    let letters = plain.consume_all(&format!("{topic}.dlq")).await;
    assert_eq!(letters.len(), 1);
    assert_eq!(
        header(&letters[0], "error"),
        Some("refused by the consumer")
    );
    client.bye().await;

    let mut client = Client::welcomed(gateway).await;
    let group = format!("{topic}-none");
    let options = json!({"offset_reset": "earliest", "dlq": false, "max_deliveries": 1});
    client.subscribe(&group, &topic, options).await;
    let records = client.records(3).await;
    let nack = json!({
        "type": "nack", "sub": "o", "id": 1, "tags": [tags(&records)[0]], "dead_letter": true,
    });
    let refused = client.ask(nack).await;
    assert_eq!(
        (&refused["code"], &refused["field"]),
        (&json!("invalid_frame"), &json!("dead_letter"))
    );
    let mut tag = tags(&records)[0];
    for times in 2..5 {
        client
            .send(json!({"type": "nack", "sub": "o", "tags": [tag]}))
            .await;
        let again = client.records(1).await;
        assert_eq!(
            (offsets(&again), &again[0]["deliveries"]),
            (vec![0], &json!(times))
        );
        tag = tags(&again)[0];
    }
    client.bye().await;
}

/// The gateway's own choice of a topic needs no right of the client's, so that the log is where it stands
/// who had it written.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_letter_stands_in_the_audit_log_and_says_whose_session_gave_it_up() {
    // Also where the gateway's choice is a topic that a client may write to only with `admin`.
    for dead_letter_topic in ["{topic}.dlq", "__{topic}.dlq"] {
        gives_up_a_record_without_a_right_to_write(dead_letter_topic).await;
    }
}

async fn gives_up_a_record_without_a_right_to_write(dead_letter_topic: &str) {
    let broker = broker().await;
    let gateway = Gateway::builder(&broker.bootstrap())
        .with_tokens()
        .set("telemetry.audit", "audit.log")
        .set("kafka.principal_header", "written-by")
        .set("kafka.metadata_timeout_ms", "30000")
        .set("websocket.dead_letter_topic", dead_letter_topic)
        .start()
        .await;
    let (plain, topic) = (broker.plain(), topic("ws-told"));
    let dead = dead_letter_topic.replace("{topic}", &topic);
    plain.create_topic(&topic, 1, &[]).await;
    plain.create_topic(&dead, 1, &[]).await;
    let bob = token("bob", &format!("produce:{topic}"));
    let one = http::client().post(gateway.url(&format!("/topics/{topic}/records")));
    let written = http::send(one.bearer_auth(bob).json(&json!({"value": 1}))).await;
    assert_eq!(written.status, 200, "{}", written.text());
    // Without a right to write anything.
    let ann = token("ann", &format!("consume:{topic} group:{topic}"));
    let connecting = at(&gateway, "/ws")
        .token(&ann)
        .header("x-request-id", "ann");
    let mut client = connecting.connect().await;
    client.until("welcome").await;
    // The same topic of the client's own choice needs the permission.
    let own_choice = json!({
        "type": "subscribe", "id": 1, "sub": "o", "group": topic, "topics": [topic], "dlq": dead,
    });
    assert_eq!(client.ask(own_choice).await["code"], "forbidden");
    let options = json!({"offset_reset": "earliest", "commit_interval_ms": 100});
    client.subscribe(&topic, &topic, options).await;
    let records = client.records(1).await;
    let nack = json!({
        "type": "nack", "sub": "o", "id": 2, "tags": tags(&records), "dead_letter": true,
    });
    assert_eq!(client.ask(nack).await["type"], "acked");
    committed(&plain, &topic, &topic, 0, 1).await;
    client.bye().await;

    let letters = plain.consume_all(&dead).await;
    assert_eq!(letters.len(), 1);
    let by = |name| {
        format!(r#"{{"known_by":"token","issuer":"https://issuer.test","principal":"{name}"}}"#)
    };
    assert_eq!(header(&letters[0], "written-by"), Some(&*by("ann")));
    assert_eq!(
        header(&letters[0], "original-written-by"),
        Some(&*by("bob"))
    );
    let names = letters[0].headers.iter().map(|(name, _)| name);
    assert_eq!(names.filter(|name| *name == "written-by").count(), 1);

    let path = gateway.folder().join("audit.log");
    let lines = || -> Vec<Value> {
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        let whole = text.rsplit_once('\n').map_or("", |(lines, _)| lines);
        let lines = whole
            .lines()
            .map(|line| serde_json::from_str(line).unwrap());
        lines
            .filter(|line: &Value| line["action"] == "produce" && line["resource"] == dead)
            .collect()
    };
    eventually(Duration::from_secs(60), async || lines().len() > 1).await;
    let lines = lines();
    for line in &lines {
        assert_eq!(line["principal"], "ann", "{line}");
        assert_eq!(line["request_id"], "ann", "{line}");
    }
    // What the client asked for is refused; what the gateway does by itself is not.
    assert_eq!(lines[0]["allowed"], false, "{lines:?}");
    for line in &lines[1..] {
        assert_eq!(line["allowed"], true, "{line}");
    }
}
