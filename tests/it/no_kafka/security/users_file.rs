//! Passwords and API keys of `auth.users_file`, on the running gateway.

use std::time::Duration;

use serde_json::json;
use tokio::time::timeout;

use crate::support::eventually;
use crate::support::gateway::{Builder, Gateway};
use crate::support::http::{Reply, client, send};
use crate::support::tokens::{SECRET, token};
use crate::support::ws;

/// Any wait; the gateway looks at its files every two seconds, and a busy machine takes its time.
const BOUND: Duration = Duration::from_secs(60);

const KEY: &str = "tgk_0123456789abcdefghijklmnopqrstuvwxyzABCDEFG";
/// Of [`KEY`], as `printf %s "$KEY" | sha256sum` prints it.
const KEY_HASH: &str = "d3b351c2cd6300c7c3de4c285865ba809f1a008106abf28b319584f6617d0cbe";

const ROLES: &str = "[auth.roles]\nclerk = [\"produce:orders\", \"consume:orders\"]\n";

fn user(name: &str, password: &str, given: &str) -> String {
    format!("{name}:{}:{given}\n", bcrypt::hash(password, 4).unwrap())
}

fn key(given: &str) -> String {
    format!("svc:$sha256${KEY_HASH}:{given}\n")
}

fn people() -> String {
    format!(
        "# people\n{}{}{}",
        user("ann", "right:\u{e4}", "clerk"),
        user("bob", "other", "consume:orders"),
        key("clerk")
    )
}

fn builder() -> Builder {
    Gateway::embedded()
        .file("tidegate.toml", ROLES)
        .file("users", &people())
        .set("auth.mode", "users")
        .set("auth.users_file", "users")
        // A session that a test does not look at answers no pings.
        .set("websocket.ping_interval_ms", PINGS)
}

fn records(gateway: &Gateway) -> String {
    gateway.url("/topics/orders/records")
}

async fn write_as(gateway: &Gateway, name: &str, password: &str) -> Reply {
    let post = client().post(records(gateway));
    send(
        post.basic_auth(name, Some(password))
            .json(&json!({"value": 1})),
    )
    .await
}

async fn write_with(gateway: &Gateway, header: &str, value: &str) -> Reply {
    let post = client().post(records(gateway)).header(header, value);
    send(post.json(&json!({"value": 1}))).await
}

/// Longer than any test.
const PINGS: &str = "600000";

const ANN: &str = "right:\u{e4}";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_is_let_in_by_the_password_and_may_do_what_the_line_gives() {
    let gateway = builder().start().await;
    // The second time it is remembered.
    for _ in 0..2 {
        let reply = write_as(&gateway, "ann", ANN).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
    }
    for (name, password) in [
        ("ann", "wrong"),
        ("ann", ""),
        ("nobody", "wrong"),
        ("svc", KEY),
    ] {
        let reply = write_as(&gateway, name, password).await;
        assert_eq!(reply.status, 401, "{name}");
        let message = reply.json()["message"].clone();
        assert_eq!(message, "the name or the password is wrong", "{name}");
    }
    let denied = write_as(&gateway, "bob", "other").await;
    assert_eq!(denied.status, 403, "{}", denied.text());
    assert!(
        denied.text().contains("produce:orders"),
        "{}",
        denied.text()
    );
    let read = client()
        .get(records(&gateway))
        .basic_auth("bob", Some("other"));
    assert_eq!(send(read).await.status, 200);

    let nothing = send(client().get(records(&gateway))).await;
    assert_eq!(nothing.status, 401);
    for part in ["Authorization: Basic", "X-API-Key"] {
        assert!(nothing.text().contains(part), "{}", nothing.text());
    }
    let offered: Vec<_> = nothing.headers.get_all("www-authenticate").iter().collect();
    assert!(
        offered
            .iter()
            .any(|value| value.as_bytes().starts_with(b"Basic ")),
        "{offered:?}"
    );
    // No issuer, no token.
    let token = token("ann", "produce:orders");
    let reply = write_with(&gateway, "authorization", &format!("Bearer {token}")).await;
    assert_eq!(reply.status, 401);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_is_taken_in_both_headers_beside_tokens() {
    let gateway = builder_with_tokens().start().await;
    for (header, value) in [
        ("x-api-key", KEY.to_owned()),
        ("authorization", format!("Bearer {KEY}")),
        (
            "authorization",
            format!("Bearer {}", token("ann", "produce:orders")),
        ),
    ] {
        let reply = write_with(&gateway, header, &value).await;
        assert_eq!(reply.status, 200, "{header}: {}", reply.text());
    }
    let wrong = KEY.replace('0', "1");
    for (header, value) in [
        ("x-api-key", wrong.clone()),
        ("x-api-key", token("ann", "produce:orders")),
        ("x-api-key", "tgk_".to_owned()),
        ("authorization", format!("Bearer {wrong}")),
    ] {
        let reply = write_with(&gateway, header, &value).await;
        assert_eq!(reply.status, 401, "{header}: {}", reply.text());
        assert!(!reply.text().contains(&value), "{}", reply.text());
    }
    let reply = write_as(&gateway, "ann", ANN).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
}

fn builder_with_tokens() -> Builder {
    Gateway::embedded()
        .file("tidegate.toml", ROLES)
        .file("users", &people())
        .file("secret", SECRET)
        .set("auth.mode", "jwt")
        .set(
            "auth.issuers",
            r#"[{ issuer = "https://issuer.test", audience = "tidegate", secret_file = "secret" }]"#,
        )
        .set("auth.users_file", "users")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_file_is_read_again_and_who_is_gone_has_no_session_any_more() {
    let gateway = builder().start().await;
    assert_eq!(write_as(&gateway, "ann", ANN).await.status, 200);
    let mut session = ws::at(&gateway, "/ws").connect().await;
    session.send(json!({"type": "hello", "token": KEY})).await;
    assert_eq!(session.until("welcome").await["principal"], "svc");
    // The answer to an id is kept, so each has its own.
    let produce = |id: u64| json!({"type": "produce", "id": id, "topic": "orders", "records": [{"value": 1}]});
    assert_eq!(session.ask(produce(1)).await["type"], "produced");

    // A broken file changes nothing.
    gateway.replace_file("users", "ann:secret:clerk\n");
    eventually(BOUND, async || {
        gateway.stderr().contains("settings or keys cannot be used")
    })
    .await;
    assert_eq!(write_as(&gateway, "ann", ANN).await.status, 200);

    gateway.replace_file("users", &user("ann", "new", "clerk"));
    eventually(BOUND, async || {
        write_as(&gateway, "ann", "new").await.status == 200
    })
    .await;
    assert_eq!(write_as(&gateway, "ann", ANN).await.status, 401);
    assert_eq!(write_with(&gateway, "x-api-key", KEY).await.status, 401);
    let closed = session.closed().await;
    assert_eq!(
        (closed.code, closed.reason.as_str()),
        (Some(4501), "unauthenticated")
    );
}

/// Reads on until the text holds this.
async fn read_until(stream: &mut reqwest::Response, text: &mut String, wanted: &str) {
    while !text.contains(wanted) {
        let piece = timeout(BOUND, stream.chunk()).await.unwrap().unwrap();
        let piece = piece.unwrap_or_else(|| panic!("it ended before {wanted}: {text}"));
        *text += &String::from_utf8_lossy(&piece);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_user_and_a_key_have_open_ends_with_their_lines() {
    let gateway = builder().start().await;
    assert_eq!(write_as(&gateway, "ann", ANN).await.status, 200);
    let stream = |accept: &str, request: reqwest::RequestBuilder| {
        timeout(BOUND, request.header("accept", accept).send())
    };
    let from_start = format!("{}?from=earliest", records(&gateway));
    let of_ann = client().get(&from_start).basic_auth("ann", Some(ANN));
    let mut sse = stream("text/event-stream", of_ann).await.unwrap().unwrap();
    let of_key = client().get(&from_start).header("x-api-key", KEY);
    let mut lines = stream("application/x-ndjson", of_key)
        .await
        .unwrap()
        .unwrap();
    let of_bob = client().get(&from_start).basic_auth("bob", Some("other"));
    let mut goes_on = stream("text/event-stream", of_bob).await.unwrap().unwrap();
    let (mut events, mut told, mut still) = (String::new(), String::new(), String::new());
    read_until(&mut sse, &mut events, "\"value\":1").await;
    read_until(&mut lines, &mut told, "\"value\":1").await;
    read_until(&mut goes_on, &mut still, "\"value\":1").await;

    // Ann has another password, the key is gone, and Bob stays as he was.
    // His hash has a salt, so his line is taken from the file.
    let kept = std::fs::read_to_string(gateway.folder().join("users")).unwrap();
    let kept = kept.lines().find(|line| line.starts_with("bob:")).unwrap();
    gateway.replace_file("users", &format!("{}{kept}\n", user("ann", "new", "clerk")));
    for (stream, text) in [(&mut sse, &mut events), (&mut lines, &mut told)] {
        read_until(stream, text, "40101").await;
        let end = async {
            let mut rest = String::new();
            while let Some(piece) = stream.chunk().await.unwrap() {
                rest += &String::from_utf8_lossy(&piece);
            }
            rest
        };
        let rest = timeout(BOUND, end).await.expect("it ends");
        assert!(!rest.contains("value"), "{rest}");
    }
    assert!(events.contains("event: stream-error"), "{events}");
    let post = client().post(records(&gateway)).json(&json!({"value": 2}));
    let written = send(post.basic_auth("ann", Some("new"))).await;
    assert_eq!(written.status, 200, "{}", written.text());
    read_until(&mut goes_on, &mut still, "\"value\":2").await;
    assert!(!still.contains("stream-error"), "{still}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ticket_opens_nothing_when_its_user_is_gone() {
    let gateway = builder().start().await;
    assert_eq!(write_as(&gateway, "ann", ANN).await.status, 200);
    let mint = async |name: &str, password: &str| {
        let wish = client().post(gateway.url("/tickets"));
        let wish = wish
            .basic_auth(name, Some(password))
            .json(&json!({"kind": "sse"}));
        let minted = send(wish).await;
        assert_eq!(minted.status, 201, "{}", minted.text());
        minted.json()["ticket"].as_str().unwrap().to_owned()
    };
    let (ann, bob) = (mint("ann", ANN).await, mint("bob", "other").await);
    let shown = async |ticket: &str| {
        let url = format!("{}?ticket={ticket}", records(&gateway));
        send(client().get(url)).await.status
    };
    assert_eq!(shown(&ann).await, 200);
    assert_eq!(shown(&bob).await, 200);
    let file = std::fs::read_to_string(gateway.folder().join("users")).unwrap();
    let bob_line = file.lines().find(|line| line.starts_with("bob:")).unwrap();
    // Bob keeps his password and loses what he may read.
    let bob_line = bob_line.replace("consume:orders", "consume:other");
    gateway.replace_file("users", &format!("{bob_line}\n"));
    eventually(BOUND, async || shown(&ann).await == 401).await;
    assert_eq!(shown(&bob).await, 403);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn passwords_open_streams_and_sessions() {
    let gateway = builder().start().await;
    assert_eq!(write_as(&gateway, "ann", ANN).await.status, 200);
    let read = client()
        .get(format!("{}?from=earliest", records(&gateway)))
        .basic_auth("ann", Some(ANN))
        .header("accept", "text/event-stream");
    let mut stream = timeout(BOUND, read.send()).await.unwrap().unwrap();
    assert_eq!(stream.status(), 200);
    let mut text = String::new();
    while !text.contains("\"value\":1") {
        let piece = timeout(BOUND, stream.chunk()).await.unwrap().unwrap();
        text += &String::from_utf8_lossy(&piece.expect("the stream goes on"));
    }
    drop(stream);

    // ann:right:ä and ann:wrong
    let with = |basic: &str| ws::at(&gateway, "/ws").header("authorization", basic);
    let mut session = with("Basic YW5uOnJpZ2h0OsOk").connect().await;
    assert_eq!(session.until("welcome").await["principal"], "ann");
    session.bye().await;
    let (status, _, _) = with("Basic YW5uOndyb25n").refused().await;
    assert_eq!(status, 401);

    let wish = client()
        .post(gateway.url("/tickets"))
        .basic_auth("ann", Some(ANN))
        .json(&json!({"kind": "sse"}));
    let minted = send(wish).await;
    assert_eq!(minted.status, 201, "{}", minted.text());
    let ticket = minted.json()["ticket"].as_str().unwrap().to_owned();
    let read = client().get(format!("{}?ticket={ticket}", records(&gateway)));
    assert_eq!(send(read).await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_guesses_is_slowed_down_and_who_was_let_in_is_not() {
    let gateway = builder()
        .set("limits.refused_per_second", "1")
        .start()
        .await;
    assert_eq!(write_as(&gateway, "ann", ANN).await.status, 200);
    // Many at once, so that a slow machine sends more than one a second too.
    eventually(BOUND, async || {
        let many = (0..20).map(|n| {
            let guess = format!("guess-{n}");
            let gateway = &gateway;
            async move { write_as(gateway, "ann", &guess).await.status }
        });
        let many = futures::future::join_all(many).await;
        assert!(
            many.iter()
                .all(|status| [401, 429, 503].contains(&status.as_u16())),
            "{many:?}"
        );
        many.iter().any(|status| *status == 429)
    })
    .await;
    for _ in 0..5 {
        let (wrong, right) = tokio::join!(
            write_as(&gateway, "eve", "guess"),
            write_as(&gateway, "ann", ANN)
        );
        assert!(
            [401, 429].contains(&wrong.status.as_u16()),
            "{}",
            wrong.status
        );
        assert_eq!(right.status, 200, "{}", right.text());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_users_file_is_judged_before_anything_listens() {
    let ended = |builder: Builder| async move {
        match builder.try_start().await {
            Ok(_) => panic!("it started"),
            Err(ended) => ended.stderr,
        }
    };
    let without = Gateway::embedded().set("auth.mode", "users");
    assert!(ended(without).await.contains("auth.users_file"));
    let broken = builder().file("users", "ann:plain text:clerk\n");
    let said = ended(broken).await;
    assert!(
        said.contains("users line 1") && !said.contains("plain text"),
        "{said}"
    );

    let gateway = builder().start().await;
    let made = gateway
        .run(&["key", "--name", "new", "--roles", "clerk"])
        .await;
    let key = made.stderr.trim().strip_prefix("key: ").unwrap().to_owned();
    gateway.replace_file("users", &made.stdout);
    eventually(BOUND, async || {
        write_with(&gateway, "x-api-key", &key).await.status == 200
    })
    .await;
}
