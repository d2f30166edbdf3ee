//! Tokens that expire while a session goes on, and rights that come and go with them and with the settings,
//! on a real Kafka.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::OnceCell;
use tokio::time::Instant;

use crate::support::gateway::Gateway;
use crate::support::groups::{assigned, broker, committed, gateway, write};
use crate::support::tokens::{
    SECRET, claims, clerk, seconds_from_now, settings_of_clerk, sign, token,
};
use crate::support::topic;
use crate::support::ws::{Client, at, offsets, tags};

/// A gateway that takes tokens of the tests' secret.
async fn guarded() -> &'static Gateway {
    static SHARED: OnceCell<Gateway> = OnceCell::const_new();
    const SETTINGS: &str = r#"
[auth]
mode = "jwt"

[[auth.issuers]]
issuer = "https://issuer.test"
audience = "tidegate"
secret_file = "secret"
"#;
    SHARED
        .get_or_init(|| async {
            Gateway::builder(&broker().await.bootstrap())
                .file("secret", SECRET)
                .file("tidegate.toml", SETTINGS)
                .start()
                .await
        })
        .await
}

fn expiring(subject: &str, scope: &str, seconds: i64) -> String {
    let mut claims = claims(subject, scope);
    claims["exp"] = seconds_from_now(seconds).into();
    sign(&claims, SECRET.as_bytes())
}

async fn connect(token: &str) -> Client {
    let mut client = at(guarded().await, "/ws").token(token).connect().await;
    client.until("welcome").await;
    client
}

/// A topic with ten records.
async fn orders() -> String {
    let topic = topic("ws-orders");
    broker().await.plain().create_topic(&topic, 1, &[]).await;
    let records: Vec<Value> = (0..10).map(|n| json!({"value": n})).collect();
    write(gateway().await, &topic, json!(records)).await;
    topic
}

fn rights(topic: &str) -> String {
    format!("consume:{topic} group:{topic} produce:{topic}-out")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: a token of half a minute is warned of after two thirds of it"]
async fn a_token_that_is_renewed_in_time_interrupts_nothing() {
    let topic = orders().await;
    let mut client = connect(&expiring("ann", &rights(&topic), 30)).await;
    client
        .subscribe(&topic, &topic, json!({"offset_reset": "earliest"}))
        .await;
    let records = client.records(10).await;
    let told = client.until("auth_expiring").await;
    // A third of what there was.
    let in_ms = told["in_ms"].as_i64().unwrap();
    assert!((0..=10_000).contains(&in_ms), "{in_ms}");
    assert_eq!(told["in"], in_ms / 1_000);
    let renew = |token: String| json!({"type": "auth", "id": "renew", "token": token});
    let ok = client.ask(renew(token("ann", &rights(&topic)))).await;
    assert_eq!(ok["type"], "ok");
    client.silent(Duration::from_millis(500)).await;
    client.ack(&tags(&records)).await;
    committed(&broker().await.plain(), &topic, &topic, 0, 10).await;
    client.bye().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_subjects_token_and_a_bad_one_end_the_session() {
    let topic = orders().await;
    for wrong in [token("bob", "admin:*"), "no token at all".to_owned()] {
        let mut client = connect(&token("ann", &rights(&topic))).await;
        let group = crate::support::topic("ws-renewed");
        let scope = format!("{} group:{group}", rights(&topic));
        let ok = client
            .ask(json!({"type": "auth", "id": 0, "token": token("ann", &scope)}))
            .await;
        assert_eq!(ok["type"], "ok");
        client
            .subscribe(&group, &topic, json!({"offset_reset": "earliest"}))
            .await;
        let records = client.records(10).await;
        client.ack(&tags(&records)[..4]).await;
        client
            .send(json!({"type": "auth", "id": 1, "token": wrong}))
            .await;
        let closed = client.closed().await;
        assert_eq!(
            (closed.code, closed.reason.as_str()),
            (Some(4501), "unauthenticated")
        );
        let plain = broker().await.plain();
        assert_eq!(plain.committed(&group, &topic, 0).await, Some(4));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_right_ends_the_subscription_that_needs_it_and_no_more() {
    let plain = broker().await.plain();
    for lost in ["consume", "group"] {
        // Each with a group that has committed nothing yet.
        let topic = orders().await;
        plain.create_topic(&format!("{topic}-out"), 1, &[]).await;
        let scope = rights(&topic);
        let mut client = connect(&token("ann", &scope)).await;
        client
            .subscribe(&topic, &topic, json!({"from": "earliest"}))
            .await;
        let records = client.records(10).await;
        client.ack(&tags(&records)[..4]).await;
        let fewer = scope.replace(&format!("{lost}:{topic}"), "");
        client
            .send(json!({"type": "auth", "id": 1, "token": token("ann", &fewer)}))
            .await;
        assert_eq!(client.answer(1).await["type"], "ok");
        let error = client.until("error").await;
        assert_eq!(
            (&error["code"], &error["sub"]),
            (&json!("forbidden"), &json!("o"))
        );
        let revoked = client.until("revoked").await;
        assert_eq!(revoked["partitions"][0]["unacked"], 6);
        assert_eq!(plain.committed(&topic, &topic, 0).await, Some(4));
        // All else goes on.
        let out = format!("{topic}-out");
        let produced = client
            .ask(json!({"type": "produce", "id": 2, "topic": out, "records": [{"value": 1}]}))
            .await;
        assert_eq!(produced["type"], "produced");
        let again = client
            .ask(json!({"type": "subscribe", "id": 3, "sub": "o", "group": topic, "topics": [topic]}))
            .await;
        assert_eq!(again["code"], "forbidden");
        let ok = client
            .ask(json!({"type": "auth", "id": 4, "token": token("ann", &scope)}))
            .await;
        assert_eq!(ok["type"], "ok");
        let started = client.subscribe(&topic, &topic, json!({})).await;
        assert_eq!(started["partitions"][0]["start"], 4);
        client.bye().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_role_that_loses_its_right_gives_the_records_of_its_sessions_to_others() {
    let topic = orders().await;
    let settings = |clerk: &str| settings_of_clerk("", "", clerk);
    let group = format!("\"group:{topic}\"");
    let gateway = Gateway::builder(&broker().await.bootstrap())
        .file("secret", SECRET)
        .file(
            "tidegate.toml",
            &settings(&format!("{group}, \"consume:{topic}\"")),
        )
        .start()
        .await;
    let mut client = at(&gateway, "/ws").token(&clerk()).connect().await;
    client.until("welcome").await;
    client
        .subscribe(&topic, &topic, json!({"from": "earliest"}))
        .await;
    let records = client.records(10).await;
    client.ack(&tags(&records)[..4]).await;

    // Without a signal: the file is noticed.
    gateway.replace_file("tidegate.toml", &settings(&group));
    let error = client.until("error").await;
    assert_eq!(
        (&error["code"], &error["sub"]),
        (&json!("forbidden"), &json!("o"))
    );
    let revoked = client.until("revoked").await;
    assert_eq!(revoked["partitions"][0]["unacked"], 6);
    let plain = broker().await.plain();
    assert_eq!(plain.committed(&topic, &topic, 0).await, Some(4));

    let mut heir = at(&gateway, "/ws")
        .token(&token("bob", &rights(&topic)))
        .connect()
        .await;
    heir.until("welcome").await;
    heir.subscribe(&topic, &topic, json!({})).await;
    assert_eq!(offsets(&heir.records(6).await), [4, 5, 6, 7, 8, 9]);
    heir.bye().await;
    // The session itself goes on.
    let again = client
        .ask(json!({"type": "subscribe", "id": 3, "sub": "o", "group": topic, "topics": [topic]}))
        .await;
    assert_eq!(again["code"], "forbidden");
    client.bye().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: a token that lasts until a busy machine has done what comes before its end"]
async fn a_session_ends_with_its_token() {
    let topic = orders().await;
    let plain = broker().await.plain();
    let out = format!("{topic}-out");
    plain.create_topic(&out, 1, &[]).await;
    let mut client = connect(&expiring("ann", &rights(&topic), 15)).await;
    let began = Instant::now();
    client.until("auth_expiring").await;
    let options = json!({"offset_reset": "earliest", "commit_interval_ms": 60000});
    client.subscribe(&topic, &topic, options).await;
    let records = client.records(10).await;
    client.ack(&tags(&records)[..4]).await;
    let mut written = 0;
    let goodbye = loop {
        let frame = json!({
            "type": "produce", "id": written, "topic": out, "records": [{"value": 1}],
        });
        client.send(frame).await;
        let frame = client
            .until_such("an answer or goodbye", |frame| {
                frame["id"] == written || frame["type"] == "goodbye"
            })
            .await;
        match frame["type"].as_str() {
            Some("produced") => written += 1,
            _ => break frame,
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    assert_eq!(
        (&goodbye["code"], &goodbye["name"]),
        (&json!(4001), &json!("auth_expired"))
    );
    assert_eq!(goodbye["committed"][0]["offset"], 4);
    // Fifteen seconds of token, and five of leeway for clocks.
    assert!(
        began.elapsed() < Duration::from_secs(45),
        "{:?}",
        began.elapsed()
    );
    assert_eq!(plain.committed(&topic, &topic, 0).await, Some(4));
    // The last request may have been under way when the end came, with no time left for its answer.
    let there = plain.consume_all(&out).await.len();
    assert!(
        there == written || there == written + 1,
        "{there}, {written}: nothing after its end"
    );
    let mut heir = connect(&token("bob", &rights(&topic))).await;
    heir.subscribe(&topic, &topic, json!({})).await;
    assert_eq!(offsets(&heir.records(6).await), [4, 5, 6, 7, 8, 9]);
    heir.bye().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscription_needs_the_rights_to_its_group_and_its_topics() {
    let (mine, other) = (orders().await, orders().await);
    let plain = broker().await.plain();
    let pattern = format!("({mine}|{other})");
    let list = json!([mine, other]);
    let cases = [
        (format!("consume:{mine} consume:{other}"), "the group"),
        (format!("group:{mine} consume:{mine}"), "one of the topics"),
        (
            format!("group:{mine} produce:{mine} produce:{other}"),
            "to read is not to write",
        ),
    ];
    for (scope, what) in cases {
        let mut client = connect(&token("ann", &scope)).await;
        let refused = client
            .ask(json!({"type": "subscribe", "id": 1, "sub": "o", "group": mine, "topics": list}))
            .await;
        assert_eq!(refused["code"], "forbidden", "{what}: {refused}");
        client.bye().await;
    }
    let mut client = connect(&token("ann", &format!("group:{mine} consume:{mine}"))).await;
    let hidden = client
        .ask(json!({
            "type": "subscribe", "id": 1, "sub": "o", "group": mine, "pattern": other,
        }))
        .await;
    assert_eq!(
        hidden["topics"],
        json!([]),
        "one that may not be read does not show"
    );
    client
        .send(json!({"type": "unsubscribe", "sub": "o"}))
        .await;
    let own = client
        .ask(json!({
            "type": "subscribe", "id": 2, "sub": "o", "group": mine, "pattern": pattern,
            "offset_reset": "earliest",
        }))
        .await;
    assert_eq!(own["topics"], json!([mine]));
    assigned(&mut client, 1).await;
    assert!(
        client
            .records(10)
            .await
            .iter()
            .all(|record| record["topic"] == mine)
    );
    // A dead-letter topic of its own needs the right to write it.
    client.bye().await;
    let mut client = connect(&token("ann", &rights(&mine))).await;
    let refused = client
        .ask(json!({
            "type": "subscribe", "id": 1, "sub": "o", "group": mine, "topics": [mine], "dlq": other,
        }))
        .await;
    assert_eq!(refused["code"], "forbidden");
    // The gateway's own choice does not.
    plain.create_topic(&format!("{mine}.dlq"), 1, &[]).await;
    client
        .subscribe(&mine, &mine, json!({"from": "earliest"}))
        .await;
    let records = client.records(10).await;
    let nack = json!({"type": "nack", "sub": "o", "tags": tags(&records), "dead_letter": true});
    client.send(nack).await;
    committed(&plain, &mine, &mine, 0, 10).await;
    assert_eq!(plain.consume_all(&format!("{mine}.dlq")).await.len(), 10);
    client.bye().await;
}
