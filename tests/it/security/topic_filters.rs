//! `[[auth.topic_filters]]`: a client is shown what its token lets it see of a topic, by whichever
//! API it comes, and whatever it asks for.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::gateway::Gateway;
use crate::support::groups::{broker, committed};
use crate::support::http::{Reply, client, send};
use crate::support::kafka_client::{KafkaClient, OutgoingRecord};
use crate::support::tokens::{SECRET, claims, sign};
use crate::support::ws::{Client, at, offsets};
use crate::support::{eventually, topic};
use crate::ws::tail;

/// Topics by their prefix: `mine-` by key, `firm-` by tenant and value, `tagged-` by header.
const FILTERS: &str = r#"
[auth]
mode = "jwt"

[[auth.issuers]]
issuer = "https://issuer.test"
audience = "tidegate"
secret_file = "secret"

[[auth.topic_filters]]
topic = "mine-*"
key = "{sub}"

[[auth.topic_filters]]
topic = "firm-*"
key_prefix = "{org.tenant}/"

[[auth.topic_filters]]
topic = "firm-*"
where = '/owner=="{sub}";/level<={org.level}'

[[auth.topic_filters]]
topic = "tagged-*"
header.for = "{sub}"
"#;

async fn gateway() -> Gateway {
    Gateway::builder(&broker().await.bootstrap())
        .file("secret", SECRET)
        .file("tidegate.toml", FILTERS)
        .start()
        .await
}

fn token(subject: &str, more: &Value) -> String {
    let mut claims = claims(subject, "consume:* group:*");
    for (name, value) in more.as_object().unwrap() {
        claims[name] = value.clone();
    }
    sign(&claims, SECRET.as_bytes())
}

async fn get(url: &str, token: &str, accept: &str) -> Reply {
    let request = client().request(Method::GET, url);
    let request = request.header("authorization", format!("Bearer {token}"));
    send(request.header("accept", accept)).await
}

/// The offsets of what an answer shows, in whichever form it came.
fn shown(reply: &Reply) -> BTreeSet<i64> {
    assert_eq!(reply.status, 200, "{}", reply.text());
    let offset = |record: &Value| record["offset"].as_i64();
    if reply.header("content-type") == "application/json" {
        let page = reply.json();
        return page["records"]
            .as_array()
            .unwrap()
            .iter()
            .filter_map(offset)
            .collect();
    }
    let lines = reply.text().lines();
    let lines = lines.map(|line| line.strip_prefix("data: ").unwrap_or(line));
    let records = lines.filter_map(|line| serde_json::from_str::<Value>(line).ok());
    records.filter_map(|record| offset(&record)).collect()
}

async fn session(gateway: &Gateway, token: &str) -> Client {
    let mut client = at(gateway, "/ws").token(token).connect().await;
    client.send(json!({"type": "hello", "id": 1})).await;
    client.until("welcome").await;
    client
}

async fn write(plain: &KafkaClient, topic: &str, key: &str, value: &str, tag: &str) {
    plain
        .produce(OutgoingRecord {
            topic,
            key: Some(key.as_bytes()),
            value: Some(value.as_bytes()),
            headers: &[("for", Some(tag.as_bytes()))],
            ..OutgoingRecord::default()
        })
        .await;
}

/// What each API shows of a topic, and with these parameters.
async fn everywhere(gateway: &Gateway, name: &str, token: &str, more: &str) -> BTreeSet<i64> {
    let mut all = Vec::new();
    for accept in [
        "application/json",
        "application/x-ndjson",
        "text/event-stream",
    ] {
        for path in [
            format!("/topics/{name}/records?from=earliest&until=end{more}"),
            format!("/records?topics={name}&from=earliest&until=end{more}"),
        ] {
            let reply = get(&gateway.url(&path), token, accept).await;
            all.push((path, accept, shown(&reply)));
        }
    }
    let (_, _, first) = all[0].clone();
    for (path, accept, offsets) in all {
        assert_eq!(offsets, first, "{path} {accept}");
    }
    first
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_api_shows_only_the_records_that_the_token_lets_through() {
    let (gateway, plain) = (gateway().await, broker().await.plain());
    let name = topic("mine");
    plain.create_topic(&name, 1, &[]).await;
    for key in ["ann", "bob", "ann", "anna", "bob"] {
        write(&plain, &name, key, r#"{"n":1}"#, "").await;
    }
    let (ann, bob) = (token("ann", &json!({})), token("bob", &json!({})));
    assert_eq!(everywhere(&gateway, &name, &ann, "").await, [0, 2].into());
    assert_eq!(everywhere(&gateway, &name, &bob, "").await, [1, 4].into());
    // What the client asks for narrows it, and never widens it.
    for more in ["&key=bob", "&key_prefix=b", "&key=anna", "&where=/n==2"] {
        let seen = everywhere(&gateway, &name, &ann, more).await;
        assert!(seen.is_empty(), "{more}: {seen:?}");
    }
    let all = everywhere(&gateway, &name, &ann, "&where=/n==1&key=ann").await;
    assert_eq!(all, [0, 2].into());
    // The single record: what is not shown is not there.
    for (offset, status) in [(0, 200), (1, 404), (2, 200), (3, 404)] {
        for accept in ["application/json", "application/octet-stream"] {
            let path = format!("/topics/{name}/partitions/0/records/{offset}");
            let reply = get(&gateway.url(&path), &ann, accept).await;
            assert_eq!(reply.status, status, "{offset}: {}", reply.text());
        }
    }
    let admin = sign(&claims("root", "admin:*"), SECRET.as_bytes());
    assert_eq!(everywhere(&gateway, &name, &admin, "").await.len(), 5);
    // A page goes on until it is full.
    let path = format!("/topics/{name}/records?from=earliest&limit=2");
    let reply = get(&gateway.url(&path), &bob, "application/json").await;
    assert_eq!(shown(&reply), [1, 4].into());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn claims_of_every_kind_are_compared_and_a_missing_one_shows_nothing() {
    let (gateway, plain) = (gateway().await, broker().await.plain());
    let (firm, tagged) = (topic("firm"), topic("tagged"));
    plain.create_topic(&firm, 1, &[]).await;
    plain.create_topic(&tagged, 1, &[]).await;
    for (key, owner, level) in [
        ("acme/1", "ann", 1),
        ("acme/2", "ann", 9),
        ("acme/3", "bob", 1),
        ("acme2/4", "ann", 1),
    ] {
        let value = json!({"owner": owner, "level": level}).to_string();
        write(&plain, &firm, key, &value, "").await;
        write(&plain, &tagged, key, &value, owner).await;
    }
    let org = |tenant: &str, level: Value| json!({"org": {"tenant": tenant, "level": level}});
    let ann = token("ann", &org("acme", json!(5)));
    assert_eq!(everywhere(&gateway, &firm, &ann, "").await, [0].into());
    assert_eq!(
        everywhere(&gateway, &tagged, &ann, "").await,
        [0, 1, 3].into()
    );
    // Syntax in a claim is text like any other.
    let evil = r#"" ; /level exists"#;
    let evil = token(evil, &org("acme", json!(5)));
    assert!(everywhere(&gateway, &firm, &evil, "").await.is_empty());
    for (more, word) in [
        (json!({}), "the claim org.tenant"),
        (org("", json!(5)), "the claim org.tenant"),
        (
            json!({"org": {"tenant": ["acme"], "level": 5}}),
            "as a text, a number",
        ),
        (json!({"org": {"tenant": "acme"}}), "the claim org.level"),
        (org("acme", Value::Null), "the claim org.level"),
    ] {
        let token = token("ann", &more);
        for path in [
            format!("/topics/{firm}/records?from=earliest"),
            format!("/records?topics={tagged},{firm}&from=earliest"),
            format!("/topics/{firm}/partitions/0/records/0"),
        ] {
            for accept in [
                "application/json",
                "application/x-ndjson",
                "text/event-stream",
            ] {
                if path.contains("partitions") && accept != "application/json" {
                    continue;
                }
                let reply = get(&gateway.url(&path), &token, accept).await;
                assert_eq!(reply.status, 403, "{path} {accept} {more}");
                let message = reply.json()["message"].to_string();
                assert!(message.contains("auth.topic_filters["), "{message}");
                assert!(message.contains(word), "{message}");
            }
        }
        assert_eq!(everywhere(&gateway, &tagged, &token, "").await.len(), 3);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ticket_shows_what_its_token_would() {
    let (gateway, plain) = (gateway().await, broker().await.plain());
    let name = topic("firm");
    plain.create_topic(&name, 1, &[]).await;
    write(&plain, &name, "acme/1", r#"{"owner":"ann","level":1}"#, "").await;
    write(&plain, &name, "acme/2", r#"{"owner":"bob","level":1}"#, "").await;
    for (claims, seen) in [
        (
            json!({"org": {"tenant": "acme", "level": 1}}),
            Some([0].into()),
        ),
        (
            json!({"org": {"tenant": "other", "level": 1}}),
            Some([].into()),
        ),
        (json!({}), None),
    ] {
        let request = client()
            .post(gateway.url("/tickets"))
            .header("authorization", format!("Bearer {}", token("ann", &claims)))
            .json(&json!({"kind": "sse"}));
        let ticket = send(request).await.json()["ticket"]
            .as_str()
            .unwrap()
            .to_owned();
        let path = format!("/topics/{name}/records?from=earliest&until=end&ticket={ticket}");
        let request = client().get(gateway.url(&path));
        let reply = send(request.header("accept", "text/event-stream")).await;
        match seen {
            Some(seen) => assert_eq!(shown(&reply), seen),
            None => assert_eq!(reply.status, 403, "{}", reply.text()),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_session_is_delivered_only_what_it_may_see() {
    let (gateway, plain) = (gateway().await, broker().await.plain());
    let name = topic("mine");
    plain.create_topic(&name, 1, &[]).await;
    for key in ["bob", "ann", "bob", "ann", "bob"] {
        write(&plain, &name, key, "1", "").await;
    }
    let mut client = session(&gateway, &token("ann", &json!({}))).await;
    let options = json!({"offset_reset": "earliest"});
    client.subscribe(&name, &name, options).await;
    let records = client.records(2).await;
    let offsets: Vec<i64> = records
        .iter()
        .map(|r| r["offset"].as_i64().unwrap())
        .collect();
    assert_eq!(offsets, [1, 3]);
    // What is left out counts as acknowledged.
    let tags = [&records[0]["tag"], &records[1]["tag"]];
    let ack = json!({"type": "ack", "sub": "o", "tags": tags, "id": 2});
    let acked = client.ask(ack).await;
    // The last one, which is left out, may have been read by then or not.
    let position = &acked["positions"][0]["offset"];
    assert!(*position == 4 || *position == 5, "{acked}");
    committed(&plain, &name, &name, 0, 5).await;
    client.bye().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tail_shows_only_what_its_token_lets_one_see() {
    let (gateway, plain) = (gateway().await, broker().await.plain());
    let (name, firm) = (topic("mine"), topic("firm"));
    plain.create_topic(&name, 1, &[]).await;
    plain.create_topic(&firm, 1, &[]).await;
    for key in ["bob", "ann", "bob", "ann", "bob"] {
        write(&plain, &name, key, "1", "").await;
    }
    let mut client = session(&gateway, &token("ann", &json!({}))).await;
    let subscribed = tail(&mut client, "t", &name, json!({"from": "earliest"})).await;
    assert_eq!(subscribed["type"], "subscribed", "{subscribed}");
    assert_eq!(offsets(&client.records(2).await), [1, 3]);
    for key in ["bob", "ann"] {
        write(&plain, &name, key, "2", "").await;
    }
    assert_eq!(offsets(&client.records(1).await), [6]);
    // What the client asks for narrows it, and never widens it.
    let bobs = json!({"from": "earliest", "filter": {"key": "bob"}});
    let subscribed = tail(&mut client, "b", &name, bobs).await;
    assert_eq!(subscribed["type"], "subscribed", "{subscribed}");
    write(&plain, &name, "bob", "3", "").await;
    write(&plain, &name, "ann", "3", "").await;
    let came = client.until("records").await;
    assert_eq!(
        (&came["sub"], &came["records"][0]["offset"]),
        (&json!("t"), &json!(8))
    );
    let error = tail(&mut client, "f", &firm, json!({})).await;
    assert_eq!(error["code"], "forbidden", "{error}");
    let message = error["message"].as_str().unwrap();
    assert!(message.contains("auth.topic_filters[1]"), "{message}");
    client.bye().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consumer_instance_is_given_only_what_it_may_see() {
    let (gateway, plain) = (gateway().await, broker().await.plain());
    let (name, firm) = (topic("mine"), topic("firm"));
    plain.create_topic(&name, 1, &[]).await;
    plain.create_topic(&firm, 1, &[]).await;
    for key in ["bob", "ann", "bob", "ann", "bob"] {
        write(&plain, &name, key, "1", "").await;
    }
    let ann = token("ann", &json!({}));
    let post = async |path: &str, body: Value| {
        let request = client().request(Method::POST, gateway.url(path));
        let request = request.header("authorization", format!("Bearer {ann}"));
        let request = request.header("content-type", "application/vnd.kafka.v2+json");
        send(request.body(body.to_string())).await
    };
    let group = format!("/consumers/{name}");
    let options = json!({
        "format": "binary", "auto.offset.reset": "earliest", "auto.commit.enable": "false",
    });
    for by_hand in [true, false] {
        let instance = if by_hand { "hand" } else { "member" };
        let mut options = options.clone();
        options["name"] = json!(instance);
        let made = post(&group, options).await;
        assert_eq!(made.status, 200, "{}", made.text());
        let at = format!("{group}/instances/{instance}");
        let of = |topic: &str| match by_hand {
            false => ("subscription", json!({"topics": [topic]})),
            true => (
                "assignments",
                json!({"partitions": [{"topic": topic, "partition": 0}]}),
            ),
        };
        let (resource, body) = of(&firm);
        let refused = post(&format!("{at}/{resource}"), body).await;
        assert_eq!(refused.status, 403, "{}", refused.text());
        assert!(
            refused.text().contains("auth.topic_filters[1]"),
            "{}",
            refused.text()
        );
        let (resource, body) = of(&name);
        let taken = post(&format!("{at}/{resource}"), body).await;
        assert_eq!(taken.status, 204, "{}", taken.text());
        let records = gateway.url(&format!("{at}/records?timeout=20000"));
        let mut seen = Vec::new();
        let begun = Instant::now();
        while seen.len() < 2 {
            assert!(
                begun.elapsed() < Duration::from_secs(120),
                "{by_hand}: {seen:?}"
            );
            let reply = get(&records, &ann, "*/*").await;
            assert_eq!(reply.status, 200, "{}", reply.text());
            let came = reply.json();
            let came = came.as_array().unwrap().iter();
            seen.extend(came.map(|record| record["offset"].as_i64().unwrap()));
        }
        assert_eq!(seen, [1, 3]);
        if !by_hand {
            // What is left out counts as delivered, and as committed.
            eventually(Duration::from_secs(120), async || {
                let more = gateway.url(&format!("{at}/records?timeout=100"));
                assert_eq!(get(&more, &ann, "*/*").await.text(), "[]");
                let done = post(&format!("{at}/offsets"), json!({})).await;
                assert_eq!(done.status, 200, "{}", done.text());
                plain.committed(&name, &name, 0).await == Some(5)
            })
            .await;
        }
        let request = client().request(Method::DELETE, gateway.url(&at));
        let gone = send(request.header("authorization", format!("Bearer {ann}"))).await;
        assert_eq!(gone.status, 204, "{}", gone.text());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_session_without_the_claim_is_refused() {
    let (gateway, plain) = (gateway().await, broker().await.plain());
    let (name, other) = (topic("firm"), topic("free"));
    plain.create_topic(&name, 1, &[]).await;
    plain.create_topic(&other, 1, &[]).await;
    let bare = token("ann", &json!({}));
    let mut client = session(&gateway, &bare).await;
    let subscribe = json!({
        "type": "subscribe", "id": 2, "sub": "o", "group": name, "topics": [other, name],
    });
    let error = client.ask(subscribe).await;
    assert_eq!(error["code"], "forbidden", "{error}");
    let message = error["message"].as_str().unwrap();
    assert!(message.contains("auth.topic_filters[1]"), "{message}");
    // Of a pattern, it is as if the topic were not there.
    let id = name.rsplit('-').next().unwrap();
    let subscribe = json!({
        "type": "subscribe", "id": 3, "sub": "o", "group": name, "pattern": format!("firm-.*{id}"),
    });
    let waits = client.ask(subscribe).await;
    assert_eq!(waits["topics"], json!([]), "{waits}");
    assert_eq!(client.until("state").await["state"], "joining");
    client.bye().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_token_that_sees_other_records_ends_the_subscription() {
    let (gateway, plain) = (gateway().await, broker().await.plain());
    let name = topic("firm");
    plain.create_topic(&name, 1, &[]).await;
    let of = |tenant: &str| token("ann", &json!({"org": {"tenant": tenant, "level": 1}}));
    let mut client = session(&gateway, &of("acme")).await;
    client
        .subscribe(&name, &name, json!({"offset_reset": "earliest"}))
        .await;
    let renewed = json!({"type": "auth", "id": 2, "token": of("acme")});
    assert_eq!(client.ask(renewed).await["type"], "ok");
    write(&plain, &name, "acme/1", r#"{"owner":"ann","level":1}"#, "").await;
    assert_eq!(client.records(1).await[0]["key"], "acme/1");
    let subscribed = tail(&mut client, "t", &name, json!({})).await;
    assert_eq!(subscribed["type"], "subscribed", "{subscribed}");
    client
        .send(json!({"type": "auth", "id": 3, "token": of("other")}))
        .await;
    for sub in ["o", "t"] {
        let ends = |frame: &Value| frame["type"] == "error" && frame["sub"] == sub;
        let error = client.until_such("the end of both", ends).await;
        assert_eq!(error["code"], "forbidden", "{error}");
        assert!(
            error["message"].to_string().contains("auth.topic_filters"),
            "{error}"
        );
    }
    client.bye().await;
}
