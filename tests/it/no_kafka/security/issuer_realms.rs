//! Principals of the same subject whom different issuers name: each is somebody else, unless the settings
//! give their issuers one realm.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::eventually;
use crate::support::gateway::{Builder, Gateway};
use crate::support::http::{Reply, client, send};
use crate::support::tokens::{SECRET, claims, sign};
use crate::support::ws::{Client, at};

const OTHER: &str = "the other issuer's secret, as long as the first";
const BOUND: Duration = Duration::from_secs(60);

/// Two issuers, each with `more` in its table.
fn gateway(more: &str) -> Builder {
    let issuers = format!(
        r#"[{{ issuer = "https://issuer.test", secret_file = "secret"{more} }},
            {{ issuer = "https://other.test", secret_file = "other"{more} }}]"#
    );
    Gateway::embedded()
        .file("secret", SECRET)
        .file("other", OTHER)
        .set("auth.mode", "jwt")
        .set("auth.issuers", &issuers.replace('\n', " "))
        .set("telemetry.audit", "audit.log")
}

fn ours(scope: &str) -> String {
    sign(&claims("ann", scope), SECRET.as_bytes())
}

fn theirs(scope: &str) -> String {
    let mut claims = claims("ann", scope);
    claims["iss"] = json!("https://other.test");
    sign(&claims, OTHER.as_bytes())
}

async fn make(gateway: &Gateway, token: &str, name: &str) -> Reply {
    let request = client()
        .post(gateway.url("/consumers/web"))
        .header("content-type", "application/vnd.kafka.v2+json")
        .bearer_auth(token);
    send(request.body(json!({"name": name, "format": "json"}).to_string())).await
}

async fn delete(gateway: &Gateway, token: &str, name: &str) -> Reply {
    let url = gateway.url(&format!("/consumers/web/instances/{name}"));
    let request = client()
        .delete(url)
        .header("content-type", "application/vnd.kafka.v2+json");
    send(request.bearer_auth(token)).await
}

async fn write_once(gateway: &Gateway, token: &str, key: &str) -> Reply {
    let request = client()
        .post(gateway.url("/topics/orders/records"))
        .json(&json!({"value": 1}))
        .header("idempotency-key", key)
        .bearer_auth(token);
    send(request).await
}

/// What the audit log says of who wrote.
async fn writers(gateway: &Gateway) -> Vec<(Value, Value, Value)> {
    let path = gateway.folder().join("audit.log");
    let read = || {
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        let lines = text
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines
            .filter(|line| line["action"] == "produce")
            .map(|line| {
                let field = |name: &str| line[name].clone();
                (field("principal"), field("known_by"), field("issuer"))
            })
            .collect::<Vec<_>>()
    };
    eventually(BOUND, async || read().len() >= 2).await;
    read()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_subject_of_another_issuer_is_somebody_else() {
    let gateway = gateway("")
        .set("limits.instances_per_principal", "1")
        .start()
        .await;
    let all = "produce:* consume:* group:*";
    // An instance is its maker's, and so is the share of all.
    assert_eq!(make(&gateway, &ours(all), "one").await.status, 200);
    let foreign = delete(&gateway, &theirs(all), "one").await;
    assert!(
        matches!(foreign.status.as_u16(), 403 | 404),
        "{}",
        foreign.text()
    );
    let theirs_too = make(&gateway, &theirs(all), "two").await;
    assert_eq!(theirs_too.status, 200, "{}", theirs_too.text());
    assert_eq!(delete(&gateway, &ours(all), "one").await.status, 204);

    // A kept answer is given to whoever it was for.
    let first = write_once(&gateway, &ours(all), "k").await;
    let other = write_once(&gateway, &theirs(all), "k").await;
    let again = write_once(&gateway, &ours(all), "k").await;
    assert_eq!((first.status.as_u16(), other.status.as_u16()), (200, 200));
    assert_eq!(other.header("idempotency-replayed"), "");
    assert_eq!(again.header("idempotency-replayed"), "true");

    // A session is not handed over.
    let mut session = at(&gateway, "/ws").token(&ours(all)).connect().await;
    session.until("welcome").await;
    session
        .send(json!({"type": "auth", "id": 1, "token": ours(all)}))
        .await;
    assert_eq!(session.answer(1).await["type"], "ok");
    session
        .send(json!({"type": "auth", "id": 2, "token": theirs(all)}))
        .await;
    let closed = session.closed().await;
    assert!(
        closed.goodbye.unwrap()["message"]
            .as_str()
            .unwrap()
            .contains("another"),
        "it is closed"
    );

    let writers = writers(&gateway).await;
    for issuer in ["https://issuer.test", "https://other.test"] {
        let line = (json!("ann"), json!("token"), json!(issuer));
        assert!(writers.contains(&line), "{writers:?}");
    }
}

/// A session of the bearer of this token.
async fn session(gateway: &Gateway, token: &str) -> Client {
    let mut session = at(gateway, "/ws").token(token).connect().await;
    session.until("welcome").await;
    session
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_that_a_principal_has_in_a_group_is_refused_to_others() {
    let gateway = gateway("").start().await;
    let all = "produce:* consume:* group:*";
    assert_eq!(write_once(&gateway, &ours(all), "first").await.status, 200);

    let options = json!({"instance_id": "tab", "offset_reset": "earliest"});
    let mut before = session(&gateway, &ours(all)).await;
    before.subscribe("web", "orders", options.clone()).await;
    before.records(1).await;
    let mut other = session(&gateway, &theirs(all)).await;
    other
        .send(json!({
            "type": "subscribe", "sub": "o", "group": "web", "topics": ["orders"],
            "instance_id": "tab",
        }))
        .await;
    let error = other.until("error").await;
    assert_eq!(
        (&error["code"], &error["field"], &error["sub"]),
        (&json!("forbidden"), &json!("instance_id"), &json!("o")),
        "{error}"
    );
    // The owner reads on.
    assert_eq!(write_once(&gateway, &ours(all), "second").await.status, 200);
    before.records(1).await;
    // The same principal takes over, as ever.
    let mut next = session(&gateway, &ours(all)).await;
    next.subscribe("web", "orders", options).await;
    assert_eq!(before.closed().await.code, Some(4505));
    next.bye().await;
    other.bye().await;

    // A consumer instance is refused to whoever else makes one of its name, and stays.
    assert_eq!(make(&gateway, &ours(all), "one").await.status, 200);
    let taken = make(&gateway, &theirs(all), "one").await;
    assert_eq!(taken.status, 409, "{}", taken.text());
    assert_eq!(taken.json()["field"], "/name");
    assert_eq!(delete(&gateway, &ours(all), "one").await.status, 204);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_subject_of_two_issuers_in_one_realm_is_one_principal() {
    let gateway = gateway(r#", realm = "staff""#).start().await;
    let all = "produce:* consume:* group:*";
    assert_eq!(make(&gateway, &ours(all), "one").await.status, 200);
    assert_eq!(delete(&gateway, &theirs(all), "one").await.status, 204);
    assert_eq!(write_once(&gateway, &ours(all), "k").await.status, 200);
    let again = write_once(&gateway, &theirs(all), "k").await;
    assert_eq!(again.header("idempotency-replayed"), "true");
    let writers = writers(&gateway).await;
    assert_eq!(writers[0], (json!("ann"), json!("realm"), json!("staff")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_permission_may_name_the_issuer() {
    let gateway = gateway("").start().await;
    let scope = "produce:{iss}.{sub}.*";
    for (token, topic, status) in [
        // A topic's name has neither colons nor slashes, so that these match none.
        (ours(scope), "ann.a", 403),
        (ours("produce:{sub}.*"), "ann.a", 200),
        (theirs("produce:{sub}.*"), "ann.a", 200),
    ] {
        let request = client()
            .post(gateway.url(&format!("/topics/{topic}/records")))
            .json(&json!({"value": 1}))
            .bearer_auth(token);
        let reply = send(request).await;
        assert_eq!(reply.status, status, "{}", reply.text());
    }
}
