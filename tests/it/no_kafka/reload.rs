//! Roles, keys and the ticket key that are read again while the gateway runs.

use std::time::Duration;

use serde_json::json;

use crate::support::eventually;
use crate::support::gateway::{Builder, Gateway};
use crate::support::http::{Reply, client, post_json, send};
use crate::support::tokens::{SECRET, claims, sign, token};
use crate::support::ws;

/// The gateway looks at its files every two seconds; a busy machine takes its time.
const BOUND: Duration = Duration::from_secs(60);

/// Longer than any test.
const PINGS: &str = "600000";

const OTHER_SECRET: &str = "another shared secret, long enough for HS256 as well";

/// Settings in which the role `clerk` has these permissions, with other lines at the top.
fn settings(top: &str, clerk: &str) -> String {
    format!(
        r#"{top}
[auth]
mode = "jwt"
roles_claim = "roles"
ticket_key_file = "ticket"

[[auth.issuers]]
issuer = "https://issuer.test"
audience = "tidegate"
secret_file = "secret"

[auth.roles]
clerk = [{clerk}]
"#
    )
}

fn builder() -> Builder {
    Gateway::embedded()
        .file("tidegate.toml", &settings("", r#""produce:orders""#))
        .file("secret", SECRET)
        .file("ticket", "3c6e0b8a9c15224a8228b9a98ca1531d1e47c6d29c7b5a04")
        // A session that a test does not look at answers no pings.
        .set("websocket.ping_interval_ms", PINGS)
}

/// A token that has nothing but the role.
fn clerk() -> String {
    let mut claims = claims("ann", "");
    claims["roles"] = json!(["clerk"]);
    sign(&claims, SECRET.as_bytes())
}

async fn read(gateway: &Gateway, token: &str) -> Reply {
    send(
        client()
            .get(gateway.url("/topics/orders/records"))
            .bearer_auth(token),
    )
    .await
}

async fn write(gateway: &Gateway, token: &str) -> Reply {
    let post = client().post(gateway.url("/topics/orders/records"));
    send(post.bearer_auth(token).json(&json!({"value": 1}))).await
}

async fn reads(gateway: &Gateway, token: &str, status: u16) {
    eventually(BOUND, async || read(gateway, token).await.status == status).await;
}

async fn writes(gateway: &Gateway, token: &str, status: u16) {
    eventually(BOUND, async || write(gateway, token).await.status == status).await;
}

async fn logs(gateway: &Gateway, text: &str) {
    eventually(BOUND, async || gateway.stderr().contains(text)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_role_gains_and_loses_permissions_by_sighup_also_in_sessions_that_are_open() {
    let gateway = builder().start().await;
    let clerk = clerk();
    writes(&gateway, &clerk, 200).await;
    reads(&gateway, &clerk, 403).await;
    let mut session = ws::at(&gateway, "/ws").token(&clerk).connect().await;
    session.until("welcome").await;
    // The answer to an id is kept, so each has its own.
    let produce = |id: u64| json!({"type": "produce", "id": id, "topic": "orders", "records": [{"value": 1}]});
    assert_eq!(session.ask(produce(1)).await["type"], "produced");

    gateway.replace_file("tidegate.toml", &settings("", r#""consume:orders""#));
    gateway.reload();
    reads(&gateway, &clerk, 200).await;
    writes(&gateway, &clerk, 403).await;
    let refused = session.ask(produce(2)).await;
    assert_eq!(refused["type"], "error", "{refused}");
    assert_eq!(refused["code"], "forbidden", "{refused}");

    // The file is noticed without a signal, too.
    let both = r#""consume:orders", "produce:orders""#;
    gateway.replace_file("tidegate.toml", &settings("", both));
    writes(&gateway, &clerk, 200).await;
    assert_eq!(session.ask(produce(3)).await["type"], "produced");
    session.bye().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settings_that_are_broken_change_nothing_and_are_told_once() {
    let gateway = builder().start().await;
    let clerk = clerk();
    writes(&gateway, &clerk, 200).await;
    let broken = settings("", r#""consume:orders", "fly:orders""#);
    gateway.replace_file("tidegate.toml", &broken);
    logs(&gateway, "changed settings or keys cannot be used").await;
    logs(&gateway, "auth.roles.clerk").await;
    assert_eq!(write(&gateway, &clerk).await.status, 200);
    assert_eq!(read(&gateway, &clerk).await.status, 403);
    let told = || {
        let stderr = gateway.stderr();
        stderr
            .matches("changed settings or keys cannot be used")
            .count()
    };
    // A file with a key is not taken either, until all is well; it is told of again by whoever asks.
    gateway.reload();
    eventually(BOUND, async || told() >= 2).await;
    gateway.replace_file("tidegate.toml", &settings("", r#""consume:orders""#));
    reads(&gateway, &clerk, 200).await;
    assert_eq!(told(), 2, "{}", gateway.stderr());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_needs_a_restart_is_named_and_the_rest_holds() {
    let gateway = builder().start().await;
    let clerk = clerk();
    writes(&gateway, &clerk, 200).await;
    let text = settings(
        "advertised_url = \"http://gw.example\"",
        r#""consume:orders""#,
    );
    gateway.replace_file("tidegate.toml", &text);
    gateway.reload();
    reads(&gateway, &clerk, 200).await;
    logs(&gateway, "hold only after a restart").await;
    logs(&gateway, "advertised_url").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replaced_secret_takes_the_place_of_the_one_before() {
    let gateway = builder().start().await;
    let old = token("ann", "produce:orders");
    let new = sign(&claims("ann", "produce:orders"), OTHER_SECRET.as_bytes());
    writes(&gateway, &old, 200).await;
    assert_eq!(write(&gateway, &new).await.status, 401);
    // Too short for a secret: the one before stays.
    gateway.replace_file("secret", "short");
    logs(&gateway, "settings or keys cannot be used").await;
    assert_eq!(write(&gateway, &old).await.status, 200);
    gateway.replace_file("secret", OTHER_SECRET);
    writes(&gateway, &new, 200).await;
    writes(&gateway, &old, 401).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tickets_of_a_replaced_key_are_taken_until_they_expire() {
    let gateway = builder().start().await;
    writes(&gateway, &clerk(), 200).await;
    let reader = token("ann", "consume:orders");
    let mint = async || {
        let wish = client().post(gateway.url("/tickets")).bearer_auth(&reader);
        let reply = send(wish.json(&json!({"kind": "sse"}))).await;
        assert_eq!(reply.status, 201, "{}", reply.text());
        reply.json()["ticket"].as_str().unwrap().to_owned()
    };
    let shown = async |ticket: &str| {
        let url = gateway.url(&format!("/topics/orders/records?ticket={ticket}"));
        send(client().get(url)).await.status
    };
    let old = mint().await;
    assert_eq!(shown(&old).await, 200);
    gateway.replace_file(
        "ticket",
        "a04e1f2ab8a6e3d9b703c6e0b8a9c15224a8228b9a98ca1531",
    );
    logs(&gateway, "the ticket key was replaced").await;
    assert_eq!(shown(&old).await, 200);
    assert_eq!(shown(&mint().await).await, 200);
    let reply = post_json(&gateway.url("/tickets?ticket=nonsense"), &json!({})).await;
    assert_eq!(reply.status, 401);
}
