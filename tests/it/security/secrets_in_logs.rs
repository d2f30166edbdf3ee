//! No log has a secret in it, whatever the level: a busy run with everything that is secret in
//! it, and then a look at all that the gateway has said.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use krafka::admin::AclOperation;
use reqwest::{Client, RequestBuilder};
use serde_json::json;

use crate::kafka::broker_security::{Properties, by_sasl, from_endpoint, password, secured};
use crate::support::broker::Broker;
use crate::support::gateway::{Builder, Gateway};
use crate::support::http::{client, get, send};
use crate::support::secured::{PASSWORD, TokenEndpoint, USER};
use crate::support::tokens::{SECRET, claims, sign, token};
use crate::support::topic;
use crate::support::ws::at;

const TICKET_KEY: &str = "the key that signs tickets, long enough";

/// A gateway that says all that it can.
fn talkative(kafka: &Broker, mut properties: Properties) -> Builder {
    properties.push(("debug", "security,broker,protocol,conf".to_owned()));
    by_sasl(kafka, &properties)
        .file("secret", SECRET)
        .file("ticket.key", TICKET_KEY)
        .set("auth.mode", "jwt")
        .set(
            "auth.issuers",
            r#"[{ issuer = "https://issuer.test", audience = "tidegate", secret_file = "secret" }]"#,
        )
        .set("auth.ticket_key_file", "ticket.key")
        .set("auth.allow_query_token", "true")
        .set("telemetry.log_level", "trace")
        .set("telemetry.access_log", "true")
        .set("telemetry.audit", "audit.log")
}

fn bearer(request: RequestBuilder, token: &str) -> RequestBuilder {
    request.header("authorization", format!("Bearer {token}"))
}

/// Shows all that is secret to the gateway, in each place that takes it. Gives back what was shown, and
/// what the gateway has answered.
async fn busy(gateway: &Gateway, topic: &str) -> (Vec<String>, String) {
    let mut said = String::new();
    let good = token("ann", "produce:* consume:*");
    let forged = sign(
        &claims("mallory", "admin:*"),
        b"another secret, of much the same length",
    );
    let denied = token("bob", "openid");
    let records = gateway.url(&format!("/topics/{topic}/records"));
    let two = Client::builder().http2_prior_knowledge().build().unwrap();
    for http in [client(), two] {
        let one = json!({ "value": 1 });
        let write = send(bearer(http.post(&records).json(&one), &good)).await;
        assert_eq!(write.status, 200, "{}\n{}", write.text(), gateway.stderr());
        for (token, status) in [(&good, 200), (&forged, 401), (&denied, 403)] {
            let read = send(bearer(http.get(&records), token)).await;
            assert_eq!(read.status, status);
            said.push_str(&format!("{read:?} {}\n", read.text()));
            let read = send(http.get(format!("{records}?access_token={token}"))).await;
            assert_eq!(read.status, status);
        }
    }
    let wish = client()
        .post(gateway.url("/tickets"))
        .json(&json!({"kind": "sse"}));
    let minted = send(bearer(wish, &good)).await.json();
    let ticket = minted["ticket"].as_str().unwrap().to_owned();
    let page = get(&format!("{records}?from=earliest&ticket={ticket}")).await;
    assert_eq!(page.status, 200, "{}", page.text());
    let once = over_sockets(gateway, topic, [&good, &forged], &mut said).await;
    // In the wrong places, and in the wrong shape.
    let odd = [
        client().get(format!("{records}?ticket={ticket}x")),
        client().get(format!("{records}?ticket={good}")),
        client().get(format!("{records}?tickets={ticket}&access_token={good}")),
        client().get(&records).header("authorization", &good),
        client().get(&records).header(
            "authorization",
            format!("Basic {}", BASE64.encode(PASSWORD)),
        ),
        client().get(gateway.url(&format!("/nowhere?access_token={good}"))),
    ];
    for request in odd {
        let refused = send(request).await;
        assert!(refused.status.is_client_error());
        said.push_str(&format!("{refused:?} {}\n", refused.text()));
    }
    let mut shown = vec![good, forged, denied, ticket, once];
    // The part that makes a token good, by itself.
    let signatures = shown.iter().filter_map(|token| token.rsplit('.').next());
    let signatures: Vec<String> = signatures.map(str::to_owned).collect();
    shown.extend(signatures);
    (shown, said)
}

/// Shows tokens in each way that a WebSocket has, and a ticket, which is given back.
async fn over_sockets(
    gateway: &Gateway,
    topic: &str,
    tokens: [&String; 2],
    said: &mut String,
) -> String {
    const PROTOCOL: &str = "sec-websocket-protocol";
    let [good, forged] = tokens;
    let wish = client().post(gateway.url("/tickets"));
    let minted = send(bearer(wish, good)).await.json();
    let ticket = minted["ticket"].as_str().unwrap().to_owned();
    let ways = [
        at(gateway, "/ws").token(good),
        at(gateway, &format!("/ws?ticket={ticket}")),
        at(gateway, &format!("/ws?access_token={good}")),
        at(gateway, "/ws").header(PROTOCOL, &format!("tidegate.v1, tidegate.bearer.{good}")),
    ];
    for way in ways {
        let mut session = way.connect().await;
        said.push_str(&session.until("welcome").await.to_string());
        session
            .send(json!({"type": "auth", "id": 1, "token": good}))
            .await;
        said.push_str(&session.answer(1).await.to_string());
        session.bye().await;
    }
    let refused = [
        at(gateway, "/ws").token(forged),
        at(gateway, &format!("/ws?ticket={ticket}")),
        at(gateway, &format!("/ws?access_token={forged}")),
        at(gateway, "/ws").header(PROTOCOL, &format!("tidegate.v1, tidegate.bearer.{forged}")),
        at(gateway, "/ws").header(PROTOCOL, &format!("tidegate.bearer.{good}")),
        at(gateway, &format!("/ws?topics={topic}&token={good}")),
    ];
    for way in refused {
        let (status, body, headers) = way.refused().await;
        assert!((400..=401).contains(&status), "{body}");
        said.push_str(&format!("{body} {headers:?}"));
    }
    for (frame, code) in [
        (json!({"type": "hello", "id": 1, "token": good}), None),
        (json!({"type": "hello", "token": forged}), Some(4501)),
        // In the wrong place, and in the wrong shape.
        (json!({"type": "ping", "t": {"token": good}}), Some(4500)),
        (json!({"type": "hello", "token": [good]}), Some(4500)),
    ] {
        let mut session = at(gateway, "/ws").connect().await;
        session.send_text(&frame.to_string()).await;
        if code.is_none() {
            said.push_str(&session.answer(1).await.to_string());
            session.send(json!({"type": "auth", "token": forged})).await;
        }
        let closed = session.closed().await;
        assert_eq!(closed.code, code.or(Some(4501)), "{closed:?}");
        said.push_str(&format!("{closed:?}"));
    }
    ticket
}

async fn says_nothing_of(gateway: Gateway, said: &str, secrets: &[String]) {
    let folder = gateway.folder();
    let log = gateway.stderr();
    assert!(log.contains("TRACE") && log.contains("librdkafka"), "{log}");
    let audit = std::fs::read_to_string(folder.join("audit.log")).unwrap();
    let metrics = get(&gateway.management_url("/metrics")).await;
    let shown = gateway.run(&["config", "show"]).await;
    let ended = gateway.terminate().await;
    let places = [
        ("log", &ended.stderr),
        ("standard output", &ended.stdout),
        ("audit log", &audit),
        ("metrics", &metrics.text().to_owned()),
        ("answers", &said.to_owned()),
        ("config show", &shown.stdout),
        ("config show's errors", &shown.stderr),
    ];
    for (place, text) in places {
        for secret in secrets {
            let at = text.find(secret.as_str());
            let line = at.map(|at| {
                let from = text[..at].rfind('\n').map_or(0, |at| at + 1);
                text[from..].lines().next().unwrap_or_default()
            });
            assert_eq!(line, None, "{secret} is in the {place}");
        }
    }
}

fn kept(kafka: &[&str]) -> Vec<String> {
    let kept = [SECRET, TICKET_KEY, PASSWORD].iter().chain(kafka);
    let mut kept: Vec<String> = kept.map(|&secret| secret.to_owned()).collect();
    kept.push(BASE64.encode(PASSWORD));
    kept.push(BASE64.encode(format!("\0gateway\0{PASSWORD}")));
    kept.push(BASE64.encode(TokenEndpoint::CLIENT.join(":")));
    kept
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_log_holds_a_token_a_ticket_or_a_password() {
    let kafka = secured().await;
    for mechanism in ["PLAIN", "SCRAM-SHA-256"] {
        let topic = topic("secrets");
        kafka.plain().create_topic(&topic, 1, &[]).await;
        kafka
            .allow(USER, &topic, &[AclOperation::Write, AclOperation::Read])
            .await;
        let properties = password(mechanism, "gateway", PASSWORD);
        let gateway = talkative(kafka, properties).start().await;
        let (mut secrets, said) = busy(&gateway, &topic).await;
        secrets.extend(kept(&[]));
        says_nothing_of(gateway, &said, &secrets).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_log_holds_what_a_token_endpoint_gives_or_takes() {
    let kafka = secured().await;
    let topic = topic("secrets");
    kafka.plain().create_topic(&topic, 1, &[]).await;
    kafka
        .allow(USER, &topic, &[AclOperation::Write, AclOperation::Read])
        .await;
    let endpoint = TokenEndpoint::start(Duration::from_secs(3600)).await;
    let properties = from_endpoint(&endpoint.url(), TokenEndpoint::CLIENT[1]);
    let gateway = talkative(kafka, properties).start().await;
    let (mut secrets, said) = busy(&gateway, &topic).await;
    // The first part of any token that nobody signed.
    secrets.extend(kept(&[TokenEndpoint::CLIENT[1], "eyJhbGciOiJub25lIn0"]));
    says_nothing_of(gateway, &said, &secrets).await;
}
