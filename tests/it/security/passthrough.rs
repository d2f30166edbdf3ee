//! `kafka.identity = "passthrough"`: Kafka sees whoever asks, by the token that the gateway hands on, on
//! every way in. The broker checks the tokens itself, and has ACLs for some of these people.

use std::time::Duration;

use krafka::admin::{AclBinding, AclOperation, AclPermissionType, AclResourceType};
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use tokio::sync::OnceCell;
use tokio::time::timeout;

use crate::kafka::broker_security::{new_topic, secured};
use crate::support::broker::Broker;
use crate::support::gateway::{Builder, Gateway};
use crate::support::http::{self, Reply, client};
use crate::support::kafka_client::OutgoingRecord;
use crate::support::secured::KEY_ID;
use crate::support::tokens::{
    SECRET, claims, issuer_pem, seconds_from_now, sign, signed_by_issuer,
};
use crate::support::{eventually, metric, ws};

/// Until what must become so is so, on a busy machine too.
const BOUND: Duration = Duration::from_secs(60);

/// The gateway itself lets everybody do everything here, so that what is refused is Kafka's word.
const EVERYTHING: &str = "admin:*";

/// A token of the issuer that Kafka trusts, too.
fn token_for(subject: &str, seconds: i64) -> String {
    let mut claims = claims(subject, EVERYTHING);
    claims["iat"] = json!(seconds_from_now(0));
    claims["exp"] = json!(seconds_from_now(seconds));
    signed_by_issuer(&claims, KEY_ID)
}

fn token(subject: &str) -> String {
    token_for(subject, 3600)
}

/// A gateway that hands tokens on, beside which its own is in a file. It trusts one more issuer than Kafka.
fn passing_on(kafka: &Broker) -> Builder {
    let settings = r#"
[kafka]
identity = "passthrough"

[kafka.properties]
"security.protocol" = "SASL_SSL"
"ssl.ca.location" = "ca.pem"
"sasl.mechanism" = "OAUTHBEARER"
"sasl.oauthbearer.token.endpoint.url" = "TOKEN"

[auth]
mode = "jwt"

[[auth.issuers]]
issuer = "https://issuer.test"
audience = "tidegate"
key_file = "issuer.pem"

[[auth.issuers]]
issuer = "https://unknown.test"
audience = "tidegate"
secret_file = "secret"
"#;
    // The gateway looks for the file where it is told to, which is before it has a folder.
    let folder = kafka_folder();
    let file = folder.join("token");
    std::fs::write(&file, token("gateway")).unwrap();
    let settings = settings.replace("TOKEN", &format!("file://{}", file.display()));
    Gateway::builder(&kafka.tokens())
        .file("tidegate.toml", &settings)
        .file("ca.pem", kafka.secured().ca())
        .file("issuer.pem", &issuer_pem())
        .file("secret", SECRET)
}

/// A folder for the gateways' own tokens, which goes with the process.
fn kafka_folder() -> &'static std::path::Path {
    static FOLDER: std::sync::OnceLock<tempfile::TempDir> = std::sync::OnceLock::new();
    FOLDER.get_or_init(|| tempfile::tempdir().unwrap()).path()
}

/// The broker, which knows the gateway's own user.
async fn broker() -> &'static Broker {
    static READY: OnceCell<()> = OnceCell::const_new();
    let kafka = secured().await;
    let ready = READY.get_or_init(|| async {
        let kind = AclResourceType::Cluster;
        let (user, allow) = ("User:gateway", AclPermissionType::Allow);
        let describe = AclOperation::Describe;
        let rule = AclBinding::new(kind, "kafka-cluster", user, "*", describe, allow);
        kafka.acls(vec![rule]).await;
    });
    ready.await;
    kafka
}

async fn produce(kafka: &Broker, topic: &str, value: &str) {
    let record = OutgoingRecord {
        topic,
        value: Some(value.as_bytes()),
        ..OutgoingRecord::default()
    };
    kafka.plain().produce(record).await;
}

async fn write(gateway: &Gateway, topic: &str, token: &str, value: &str) -> Reply {
    let url = gateway.url(&format!("/topics/{topic}/records"));
    let body = json!({ "value": value });
    http::send(client().post(url).bearer_auth(token).json(&body)).await
}

async fn read(gateway: &Gateway, topic: &str, token: &str) -> Reply {
    let url = gateway.url(&format!("/topics/{topic}/records?from=earliest&limit=10"));
    http::send(client().get(url).bearer_auth(token)).await
}

/// What a stream shows until this text has come, or its whole answer when it is none.
async fn streamed(request: RequestBuilder, until: &str) -> (u16, String) {
    let mut response = request
        .header("accept", "text/event-stream")
        .send()
        .await
        .unwrap();
    let status = response.status().as_u16();
    let mut seen = String::new();
    let reading = async {
        while let Some(chunk) = response.chunk().await.unwrap() {
            seen.push_str(&String::from_utf8_lossy(&chunk));
            if seen.contains(until) {
                return;
            }
        }
    };
    timeout(BOUND, reading).await.expect("what is waited for");
    (status, seen)
}

fn is_denied_by_kafka(reply: &Reply) {
    assert_eq!(reply.status, 403, "{}", reply.text());
    assert_eq!(reply.json()["kafka_error"], "TOPIC_AUTHORIZATION_FAILED");
}

/// The session ends, as Kafka does not let it have what it is for.
async fn is_closed_by_kafka(mut session: ws::Client) {
    let closed = session.closed().await;
    assert_eq!(closed.code, Some(4503), "{closed:?}");
    let goodbye = closed.goodbye.unwrap().to_string();
    assert!(goodbye.contains("The broker refused the user"), "{goodbye}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kafka_lets_each_principal_do_what_its_own_acls_allow() {
    let kafka = broker().await;
    let topic = new_topic(kafka, "passed").await;
    let (both, reads) = (
        [AclOperation::Write, AclOperation::Read],
        [AclOperation::Read],
    );
    kafka.allow("User:ann", &topic, &both).await;
    kafka.allow("User:bob", &topic, &reads).await;
    let gateway = passing_on(kafka).start().await;
    let (ann, bob, carol) = (token("ann"), token("bob"), token("carol"));

    let reply = write(&gateway, &topic, &ann, "by ann").await;
    assert_eq!(reply.status, 200, "{}\n{}", reply.text(), gateway.stderr());
    is_denied_by_kafka(&write(&gateway, &topic, &bob, "by bob").await);
    is_denied_by_kafka(&write(&gateway, &topic, &carol, "by carol").await);
    for token in [&ann, &bob] {
        let reply = read(&gateway, &topic, token).await;
        assert_eq!(reply.status, 200, "{}\n{}", reply.text(), gateway.stderr());
        let values: Vec<Value> = reply.json()["records"].as_array().unwrap().clone();
        assert_eq!(values.len(), 1, "{values:?}");
        assert_eq!(values[0]["value"], "by ann");
    }
    let reply = read(&gateway, &topic, &carol).await;
    is_denied_by_kafka(&reply);
    // The list is what Kafka shows each of them.
    let list = async |token: &str| {
        let request = client().get(gateway.url("/topics")).bearer_auth(token);
        http::send(request).await.json().to_string()
    };
    assert!(list(&bob).await.contains(&topic));
    assert!(!list(&carol).await.contains(&topic));
    assert_eq!(metric(&gateway, "kafka_principal_clients").await as u64, 3);
    // The gateway's own user may do nothing with it, and is asked nothing.
    let own = token("gateway");
    is_denied_by_kafka(&read(&gateway, &topic, &own).await);
    for token in [&ann, &bob, &carol, &own] {
        assert!(!gateway.stderr().contains(token.as_str()));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_and_sessions_show_nobody_what_kafka_keeps_from_him() {
    let kafka = broker().await;
    let topic = new_topic(kafka, "passed-streams").await;
    kafka.allow("User:bob", &topic, &[AclOperation::Read]).await;
    let group = format!("{topic}-group");
    kafka.allow_group("User:bob", &group).await;
    produce(kafka, &topic, "first").await;
    let gateway = passing_on(kafka).start().await;
    let (bob, carol) = (token("bob"), token("carol"));
    let path = format!("/topics/{topic}/records?from=earliest");
    let stream = |token: &str| client().get(gateway.url(&path)).bearer_auth(token);
    // Bob's stream stays open, so that what Carol may not see is in memory.
    let mut open = stream(&bob)
        .header("accept", "text/event-stream")
        .send()
        .await
        .unwrap();
    assert_eq!(open.status(), 200);
    let (status, seen) = streamed(stream(&bob), "first").await;
    assert_eq!(status, 200, "{seen}");
    let (status, seen) = streamed(stream(&carol), "no such text").await;
    assert_eq!(status, 403, "{seen}");
    assert!(!seen.contains("first"), "{seen}");

    let tail = format!("/ws?topics={topic}&from=earliest");
    let mut session = ws::at(&gateway, &tail).token(&bob).connect().await;
    assert_eq!(session.records(1).await[0]["value"], "first");
    let session = ws::at(&gateway, &tail).token(&carol).connect().await;
    is_closed_by_kafka(session).await;
    // The first frame says who it is as well.
    let mut session = ws::at(&gateway, "/ws").connect().await;
    session.send(json!({"type": "hello", "token": bob})).await;
    session.until("welcome").await;
    let options = json!({"from": "earliest", "ack": "cumulative"});
    session.subscribe(&group, &topic, options).await;
    assert_eq!(session.records(1).await[0]["value"], "first");
    // A member needs what Kafka asks of a member.
    let mut session = ws::at(&gateway, "/ws").token(&bob).connect().await;
    session.until("welcome").await;
    let subscribe = json!({
        "type": "subscribe", "id": 1, "sub": "o", "topics": [topic], "group": "another-group",
    });
    session.send(subscribe).await;
    let refused = |frame: &Value| frame.to_string().contains("The broker refused the user");
    session.until_such("word of Kafka's ACLs", refused).await;

    let request = client()
        .post(gateway.url("/tickets"))
        .bearer_auth(&bob)
        .json(&json!({"kind": "sse", "topics": [topic]}));
    let reply = http::send(request).await;
    assert_eq!(reply.status, 201, "{}", reply.text());
    let ticket = reply.json()["ticket"].as_str().unwrap().to_owned();
    let by_ticket = gateway.url(&format!("{path}&ticket={ticket}"));
    let (status, seen) = streamed(client().get(by_ticket), "first").await;
    assert_eq!(status, 200, "{seen}");

    produce(kafka, &topic, "second").await;
    let reading = async {
        let mut seen = String::new();
        while !seen.contains("second") {
            let chunk = open.chunk().await.unwrap().expect("the stream goes on");
            seen.push_str(&String::from_utf8_lossy(&chunk));
        }
    };
    timeout(BOUND, reading).await.expect("what was written");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_instance_of_rest_v2_is_a_member_as_its_principal() {
    const V2: &str = "application/vnd.kafka.v2+json";
    let kafka = broker().await;
    let topic = new_topic(kafka, "passed-v2").await;
    kafka.allow("User:bob", &topic, &[AclOperation::Read]).await;
    let group = format!("{topic}-group");
    kafka.allow_group("User:bob", &group).await;
    produce(kafka, &topic, "{\"n\":1}").await;
    let gateway = passing_on(kafka).start().await;
    let bob = token("bob");
    let call = async |method: Method, url: &str, body: Option<Value>| {
        let mut request = client().request(method, url).bearer_auth(&bob);
        if let Some(body) = body {
            request = request.header("content-type", V2).body(body.to_string());
        }
        http::send(request).await
    };
    let url = gateway.url(&format!("/consumers/{group}"));
    let body = json!({"format": "json", "auto.offset.reset": "earliest"});
    let reply = call(Method::POST, &url, Some(body)).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    let base = reply.json()["base_uri"].as_str().unwrap().to_owned();
    let body = json!({"topics": [topic]});
    let reply = call(Method::POST, &format!("{base}/subscription"), Some(body)).await;
    assert_eq!(reply.status, 204, "{}", reply.text());
    eventually(BOUND * 2, async || {
        let reply = call(Method::GET, &format!("{base}/records?timeout=1000"), None).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
        reply.text().contains("\"n\":1")
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_handed_on_is_refused() {
    let kafka = broker().await;
    let topic = new_topic(kafka, "passed-not").await;
    let gateway = passing_on(kafka).start().await;
    // The gateway knows this issuer, Kafka does not.
    let mut foreign = claims("ann", EVERYTHING);
    foreign["iss"] = json!("https://unknown.test");
    foreign["iat"] = json!(seconds_from_now(0));
    let foreign = sign(&foreign, SECRET.as_bytes());
    let says = |reply: &Reply, status: u16, text: &str| {
        assert_eq!(reply.status, status, "{}", reply.text());
        assert!(reply.text().contains(text), "{}", reply.text());
    };
    for reply in [
        write(&gateway, &topic, &foreign, "x").await,
        read(&gateway, &topic, &foreign).await,
    ] {
        says(&reply, 401, "Kafka does not accept the token");
        assert!(reply.header("www-authenticate").contains("invalid_token"));
    }
    let (status, body, _) = ws::at(&gateway, "/ws").token(&foreign).refused().await;
    assert_eq!(status, 401, "{body}");
    let mut session = ws::at(&gateway, "/ws").connect().await;
    session
        .send(json!({"type": "hello", "token": foreign}))
        .await;
    let closed = session.closed().await;
    assert_eq!(closed.code, Some(4501), "{closed:?}");
    // Kafka's clients log in with what lasts a while.
    let short = token_for("ann", 25);
    says(
        &read(&gateway, &topic, &short).await,
        401,
        "expires too soon",
    );
    // What is for any principal needs no Kafka, and health is the gateway's own.
    let ready = http::get(&gateway.management_url("/readyz")).await;
    assert_eq!(ready.status, 200, "{}", ready.text());
    assert_eq!(metric(&gateway, "kafka_principal_clients").await as u64, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_have_a_bound_and_are_closed_when_nobody_uses_them() {
    let kafka = broker().await;
    let topic = new_topic(kafka, "passed-bound").await;
    for user in ["User:ann", "User:bob"] {
        kafka.allow(user, &topic, &[AclOperation::Read]).await;
    }
    produce(kafka, &topic, "there").await;
    let gateway = passing_on(kafka)
        .set("kafka.identity_clients", "1")
        .set("kafka.identity_idle_ms", "1000")
        .start()
        .await;
    let (ann, bob) = (token("ann"), token("bob"));
    let url = gateway.url(&format!("/topics/{topic}/records?from=earliest"));
    let request = client()
        .get(&url)
        .bearer_auth(&ann)
        .header("accept", "text/event-stream");
    let mut stream = request.send().await.unwrap();
    assert_eq!(stream.status(), 200);
    assert!(stream.chunk().await.unwrap().is_some());
    let reply = read(&gateway, &topic, &bob).await;
    assert_eq!(reply.status, 503, "{}", reply.text());
    assert!(reply.text().contains("kafka.identity_clients"));
    assert!(!reply.header("retry-after").is_empty());
    // What is in use stays, however long nothing comes.
    assert_eq!(metric(&gateway, "kafka_principal_clients").await as u64, 1);
    drop(stream);
    eventually(BOUND, async || {
        read(&gateway, &topic, &bob).await.status == 200
    })
    .await;
    eventually(BOUND, async || {
        metric(&gateway, "kafka_principal_clients").await as u64 == 0
    })
    .await;
    // They are made again when they are needed.
    assert_eq!(read(&gateway, &topic, &ann).await.status, 200);
}

/// Kafka ends connections whose tokens have run out. What is open goes on with a newer token that its
/// principal has shown meanwhile, wherever that was.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: a token runs out"]
async fn what_is_open_goes_on_with_a_newer_token() {
    let kafka = broker().await;
    let topic = new_topic(kafka, "passed-renewed").await;
    let rights = [AclOperation::Read, AclOperation::Write];
    kafka.allow("User:ann", &topic, &rights).await;
    let gateway = passing_on(kafka).start().await;
    let first = token_for("ann", 45);
    let tail = format!("/ws?topics={topic}&from=earliest");
    let mut session = ws::at(&gateway, &tail).token(&first).connect().await;
    session.until("subscribed").await;
    let reply = write(&gateway, &topic, &first, "0").await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert_eq!(session.records(1).await[0]["value"], "0");
    let second = token("ann");
    let auth = json!({"type": "auth", "id": "auth", "token": second});
    let answer = session.ask(auth).await;
    assert_eq!(answer["type"], "ok", "{answer}");
    let end = tokio::time::Instant::now() + Duration::from_secs(60);
    let mut n = 0;
    while tokio::time::Instant::now() < end {
        n += 1;
        let reply = write(&gateway, &topic, &second, &n.to_string()).await;
        assert_eq!(reply.status, 200, "{}\n{}", reply.text(), gateway.stderr());
        assert_eq!(session.records(1).await[0]["value"], n.to_string().as_str());
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}
