//! The gateway as a client of a Kafka that lets in only whom it knows: every way to log in through
//! both client libraries, what refused logins and certificates look like from outside, and what the
//! ACLs of the gateway's own user mean for those who come over HTTP.

use std::time::{Duration, Instant};

use krafka::admin::{AclBinding, AclOperation, AclPermissionType, AclResourceType};
use serde_json::json;
use tokio::sync::OnceCell;

use crate::support::broker::Broker;
use crate::support::gateway::{self, Gateway};
use crate::support::http::{self, Reply};
use crate::support::kafka_client::OutgoingRecord;
use crate::support::secured::{CERTIFIED, PASSWORD, READER, Secured, TokenEndpoint, USER, token};
use crate::support::{eventually, metric, topic, topic_of};

/// Longest time for an answer while the gateway cannot log in: less than it would wait for one of Kafka.
const REFUSED: Duration = Duration::from_secs(10);
/// Until what must become so is so, on a busy machine too.
const BOUND: Duration = Duration::from_secs(60);

const HOUR: Duration = Duration::from_secs(3600);

pub(crate) type Properties = Vec<(&'static str, String)>;

/// The broker of these tests, shared by them as `kafka()` is by others.
pub(crate) async fn secured() -> &'static Broker {
    static SHARED: OnceCell<Broker> = OnceCell::const_new();
    SHARED
        .get_or_init(|| {
            let broker = Broker::builder().secured(Secured::new());
            broker.never_killed().start()
        })
        .await
}

fn table(name: &str, properties: &Properties) -> String {
    let lines = properties.iter().map(|(n, v)| format!("{n:?} = {v:?}\n"));
    format!("[{name}]\n{}", lines.collect::<String>())
}

/// A gateway with these settings, in a folder with the certificates beside it.
fn gateway(kafka: &Broker, bootstrap: &str, settings: &str) -> gateway::Builder {
    let keys = kafka.secured();
    Gateway::builder(bootstrap)
        .file("tidegate.toml", settings)
        .file("ca.pem", keys.ca())
        .file("other-ca.pem", keys.other_ca())
        .file("client.pem", &keys.client().cert)
        .file("client.key", &keys.client().key)
        .file("stranger.pem", &keys.stranger().cert)
        .file("stranger.key", &keys.stranger().key)
}

/// A gateway at the SASL listener, with `[kafka.properties]`.
pub(crate) fn by_sasl(kafka: &Broker, properties: &Properties) -> gateway::Builder {
    let settings = table("kafka.properties", properties);
    gateway(kafka, &kafka.sasl(), &settings)
}

fn sasl(mechanism: &str, more: &[(&'static str, &str)]) -> Properties {
    let mut all = vec![
        ("security.protocol", "SASL_SSL".to_owned()),
        ("ssl.ca.location", "ca.pem".to_owned()),
        ("sasl.mechanism", mechanism.to_owned()),
    ];
    all.extend(
        more.iter()
            .map(|(name, value)| (*name, (*value).to_owned())),
    );
    all
}

pub(crate) fn password(mechanism: &str, user: &str, password: &str) -> Properties {
    sasl(
        mechanism,
        &[("sasl.username", user), ("sasl.password", password)],
    )
}

pub(crate) fn from_endpoint(url: &str, secret: &str) -> Properties {
    sasl(
        "OAUTHBEARER",
        &[
            ("sasl.oauthbearer.method", "oidc"),
            ("sasl.oauthbearer.token.endpoint.url", url),
            ("sasl.oauthbearer.client.id", TokenEndpoint::CLIENT[0]),
            ("sasl.oauthbearer.client.secret", secret),
            ("sasl.oauthbearer.scope", "kafka"),
        ],
    )
}

fn certificate(name: &str) -> Properties {
    vec![
        ("security.protocol", "SSL".to_owned()),
        ("ssl.ca.location", "ca.pem".to_owned()),
        ("ssl.certificate.location", format!("{name}.pem")),
        ("ssl.key.location", format!("{name}.key")),
    ]
}

pub(crate) async fn new_topic(kafka: &Broker, prefix: &str) -> String {
    topic_of(&kafka.plain(), prefix, 1).await
}

async fn write(gateway: &Gateway, topic: &str, value: &str) -> Reply {
    let url = gateway.url(&format!("/topics/{topic}/records"));
    http::post_json(&url, &json!({ "value": value })).await
}

async fn read(gateway: &Gateway, topic: &str) -> Reply {
    let url = gateway.url(&format!("/topics/{topic}/records?from=earliest&limit=10"));
    http::get(&url).await
}

async fn ready(gateway: &Gateway) -> Reply {
    http::get(&gateway.management_url("/readyz")).await
}

/// Writes through librdkafka and reads through krafka.
async fn round_trip(gateway: &Gateway, kafka: &Broker, topic: &str) {
    eventually(BOUND, async || ready(gateway).await.status == 200).await;
    let reply = write(gateway, topic, "there").await;
    assert_eq!(reply.status, 200, "{}\n{}", reply.text(), gateway.stderr());
    let reply = read(gateway, topic).await;
    assert_eq!(reply.status, 200, "{}\n{}", reply.text(), gateway.stderr());
    assert_eq!(reply.json()["records"][0]["value"], "there");
    let records = kafka.plain().consume_all(topic).await;
    assert_eq!(records[0].text(), Some("\"there\""));
    shows_no_secret(&gateway.stderr());
}

fn shows_no_secret(text: &str) {
    // The first part of any token that nobody signed.
    for secret in [
        PASSWORD,
        "wrong-pass-1",
        TokenEndpoint::CLIENT[1],
        "eyJhbGciOiJub25lIn0",
    ] {
        assert!(!text.contains(secret), "{secret} in {text}");
    }
}

/// That the gateway is locked out, says why, and lets nobody wait.
async fn locked_out(gateway: &Gateway, why: &str) {
    let readiness = async || {
        let reply = ready(gateway).await;
        (reply.status.as_u16(), reply.text().to_owned())
    };
    // TLS alerts come after the handshake: the first connection may just seem to break.
    eventually(BOUND, async || {
        let (status, text) = readiness().await;
        assert_eq!(status, 503, "{text}");
        text.contains(why)
    })
    .await;
    for write_it in [true, false] {
        // On a busy machine a question may run into its time limit before it has been refused.
        eventually(BOUND, async || {
            let began = Instant::now();
            let reply = if write_it {
                write(gateway, "any", "x").await
            } else {
                read(gateway, "any").await
            };
            let quick = began.elapsed() < REFUSED;
            assert!([503, 504].contains(&reply.status.as_u16()), "{reply:?}");
            shows_no_secret(reply.text());
            quick && reply.status == 503 && reply.text().contains(why)
        })
        .await;
    }
    shows_no_secret(&gateway.stderr());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn passwords_let_both_clients_in() {
    let kafka = secured().await;
    for mechanism in ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] {
        let topic = new_topic(kafka, "passwords").await;
        let rights = [AclOperation::Write, AclOperation::Read];
        kafka.allow(USER, &topic, &rights).await;
        let properties = password(mechanism, "gateway", PASSWORD);
        let gateway = by_sasl(kafka, &properties).start().await;
        round_trip(&gateway, kafka, &topic).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_commits_a_text_logs_in_too() {
    let kafka = secured().await;
    let endpoint = TokenEndpoint::start(HOUR).await;
    let by_token = from_endpoint(&endpoint.url(), TokenEndpoint::CLIENT[1]);
    for properties in [password("SCRAM-SHA-512", "gateway", PASSWORD), by_token] {
        let topic = new_topic(kafka, "texts").await;
        kafka.allow(USER, &topic, &[AclOperation::Read]).await;
        let gateway = by_sasl(kafka, &properties).start().await;
        let instances = gateway.url(&format!("/consumers/{topic}"));
        let made = http::post_json(&instances, &json!({"name": "texts"})).await;
        assert_eq!(made.status, 200, "{}", made.text());
        let offsets = json!({"offsets": [
            {"topic": topic, "partition": 0, "offset": 0, "metadata": "noted"},
        ]});
        let url = format!("{instances}/instances/texts/offsets");

        eventually(BOUND, async || {
            let denied = http::post_json(&url, &offsets).await;
            assert_ne!(denied.status, 200, "{}", denied.text());
            denied.status == 403 && denied.text().contains("GROUP_AUTHORIZATION_FAILED")
        })
        .await;

        kafka.allow_group(USER, &topic).await;
        eventually(BOUND, async || {
            http::post_json(&url, &offsets).await.status == 200
        })
        .await;
        let committed = kafka.plain().committed_with_text(&topic, &topic, 0).await;
        assert_eq!(committed, Some((1, "noted".to_owned())));
        shows_no_secret(&gateway.stderr());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_lets_both_clients_in() {
    let kafka = secured().await;
    let topic = new_topic(kafka, "certificates").await;
    let rights = [AclOperation::Write, AclOperation::Read];
    kafka.allow(CERTIFIED, &topic, &rights).await;
    let settings = table("kafka.properties", &certificate("client"));
    let gateway = gateway(kafka, &kafka.mutual(), &settings).start().await;
    round_trip(&gateway, kafka, &topic).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_of_an_endpoint_let_both_clients_in() {
    let kafka = secured().await;
    let topic = new_topic(kafka, "tokens").await;
    let rights = [AclOperation::Write, AclOperation::Read];
    kafka.allow(USER, &topic, &rights).await;
    let endpoint = TokenEndpoint::start(HOUR).await;
    let properties = from_endpoint(&endpoint.url(), TokenEndpoint::CLIENT[1]);
    let gateway = by_sasl(kafka, &properties).start().await;
    round_trip(&gateway, kafka, &topic).await;
    // One for all clients and their connections.
    assert_eq!(endpoint.asked(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_file_that_comes_late_lets_both_clients_in() {
    let kafka = secured().await;
    let topic = new_topic(kafka, "token-files").await;
    let rights = [AclOperation::Write, AclOperation::Read];
    kafka.allow(USER, &topic, &rights).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    let properties = sasl(
        "OAUTHBEARER",
        &[
            (
                "sasl.oauthbearer.token.endpoint.url",
                &format!("file://{}", file.display()),
            ),
            ("sasl.oauthbearer.extensions", "logicalCluster=lkc-1"),
        ],
    );
    let gateway = by_sasl(kafka, &properties).start().await;
    locked_out(&gateway, "No such file").await;
    std::fs::write(&file, token("gateway", HOUR)).unwrap();
    eventually(BOUND, async || ready(&gateway).await.status == 200).await;
    round_trip(&gateway, kafka, &topic).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: tokens run out, twice"]
async fn tokens_are_renewed_before_they_run_out() {
    let kafka = secured().await;
    let topic = new_topic(kafka, "renewed").await;
    let rights = [AclOperation::Write, AclOperation::Read];
    kafka.allow(USER, &topic, &rights).await;
    let endpoint = TokenEndpoint::start(Duration::from_secs(45)).await;
    let properties = from_endpoint(&endpoint.url(), TokenEndpoint::CLIENT[1]);
    let gateway = by_sasl(kafka, &properties).start().await;
    let end = Instant::now() + Duration::from_secs(100);
    while Instant::now() < end {
        let reply = write(&gateway, &topic, "x").await;
        assert_eq!(reply.status, 200, "{}\n{}", reply.text(), gateway.stderr());
        let reply = read(&gateway, &topic).await;
        assert_eq!(reply.status, 200, "{}\n{}", reply.text(), gateway.stderr());
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    assert!((7..=14).contains(&endpoint.asked()), "{}", endpoint.asked());
    shows_no_secret(&gateway.stderr());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_password_is_said_at_once() {
    let kafka = secured().await;
    for mechanism in ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] {
        let properties = password(mechanism, "gateway", "wrong-pass-1");
        let gateway = by_sasl(kafka, &properties).start().await;
        locked_out(&gateway, "Authentication failed").await;
        eventually(BOUND, async || {
            gateway.stderr().contains("Authentication failed")
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_is_not_to_be_had_or_not_taken_is_said_at_once() {
    let kafka = secured().await;
    let endpoint = TokenEndpoint::start(HOUR).await;
    let properties = from_endpoint(&endpoint.url(), "wrong-pass-1");
    let gateway = by_sasl(kafka, &properties).start().await;
    locked_out(&gateway, "answered 401 with invalid_client").await;

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, "a-token-that-this-broker-does-not-know").unwrap();
    let url = format!("file://{}", file.display());
    let properties = sasl(
        "OAUTHBEARER",
        &[("sasl.oauthbearer.token.endpoint.url", &url)],
    );
    let gateway = by_sasl(kafka, &properties).start().await;
    locked_out(&gateway, "invalid_token").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_that_one_side_does_not_trust_are_said_at_once() {
    let kafka = secured().await;
    let mut properties = password("PLAIN", "gateway", PASSWORD);
    properties[1].1 = "other-ca.pem".to_owned();
    let unknown_ca = by_sasl(kafka, &properties).start().await;
    locked_out(&unknown_ca, "UnknownIssuer").await;
    // librdkafka's words, in the log.
    eventually(BOUND, async || {
        unknown_ca
            .stderr()
            .contains("ssl.ca.location is correctly configured")
    })
    .await;

    let settings = table("kafka.properties", &certificate("stranger"));
    let stranger = gateway(kafka, &kafka.mutual(), &settings).start().await;
    locked_out(&stranger, "The broker refused the gateway in TLS").await;

    let mut none = certificate("none");
    none.truncate(2);
    let settings = table("kafka.properties", &none);
    let none = gateway(kafka, &kafka.mutual(), &settings).start().await;
    locked_out(&none, "The broker refused the gateway in TLS").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forgotten_security_protocol_is_guessed() {
    let kafka = secured().await;
    let gateway = gateway(kafka, &kafka.sasl(), "").start().await;
    locked_out(&gateway, "set security.protocol").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_producer_that_alone_is_locked_out_says_why() {
    let kafka = secured().await;
    let topic = new_topic(kafka, "producer-only").await;
    let rights = [AclOperation::Write, AclOperation::Read];
    kafka.allow(USER, &topic, &rights).await;
    let settings = format!(
        "{}{}",
        table("kafka.properties", &password("PLAIN", "gateway", PASSWORD)),
        table(
            "kafka.producer",
            &vec![
                ("sasl.password", "wrong-pass-1".to_owned()),
                ("message.timeout.ms", "30000".to_owned()),
            ],
        )
    );
    let gateway = gateway(kafka, &kafka.sasl(), &settings).start().await;
    let reply = write(&gateway, &topic, "x").await;
    assert_eq!(reply.status, 503, "{}", reply.text());
    let body = reply.json();
    assert!(
        body["message"]
            .as_str()
            .unwrap()
            .contains("Authentication failed"),
        "{body}"
    );
    assert_eq!(body.get("maybe_written"), None, "{body}");
    eventually(BOUND, async || {
        let readiness = ready(&gateway).await;
        readiness.status == 503 && readiness.text().contains("cannot log in")
    })
    .await;
    assert_eq!(read(&gateway, &topic).await.status, 200);
    shows_no_secret(&gateway.stderr());
}

/// What the broker's refusal looks like over HTTP.
fn refused(reply: &Reply, kafka_error: &str) {
    assert_eq!(reply.status, 403, "{}", reply.text());
    let body = reply.json();
    assert_eq!(body["error_code"], 40301, "{body}");
    assert_eq!(body["kafka_error"], kafka_error, "{body}");
    assert_eq!(body["retriable"], false, "{body}");
    let message = body["message"].as_str().unwrap();
    assert!(
        message.contains("The broker refused the user that the gateway is to it"),
        "{body}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_acl_denies_is_a_403_that_names_the_broker() {
    const DENIED: &str = "TOPIC_AUTHORIZATION_FAILED";
    let kafka = secured().await;
    let properties = password("SCRAM-SHA-512", "gateway", PASSWORD);
    let gateway = by_sasl(kafka, &properties).start().await;
    for (rights, denied, may_write, may_read) in [
        (&[][..], None, false, false),
        (&[AclOperation::Describe], None, false, false),
        (&[AclOperation::Read], None, false, true),
        (&[AclOperation::Write], None, true, false),
        // Who may not describe is not told that the topic is there.
        (
            &[AclOperation::Write, AclOperation::Read],
            Some(AclOperation::Describe),
            false,
            false,
        ),
        (&[AclOperation::All], Some(AclOperation::Read), true, false),
    ] {
        let topic = new_topic(kafka, "denied").await;
        kafka.plain().produce(outgoing(&topic)).await;
        kafka.allow(USER, &topic, rights).await;
        let deny = |operation| {
            let kind = AclResourceType::Topic;
            let deny = AclPermissionType::Deny;
            AclBinding::new(kind, topic.clone(), USER, "*", operation, deny)
        };
        kafka.acls(denied.into_iter().map(deny).collect()).await;

        let began = Instant::now();
        let written = write(&gateway, &topic, "x").await;
        let page = read(&gateway, &topic).await;
        assert!(began.elapsed() < REFUSED, "{rights:?}");
        let case = format!("{rights:?} {denied:?}");
        match may_write {
            true => assert_eq!(written.status, 200, "{case}: {}", written.text()),
            false => refused(&written, DENIED),
        }
        match may_read {
            true => assert_eq!(page.status, 200, "{case}: {}", page.text()),
            false => refused(&page, DENIED),
        }
        let records = kafka.plain().consume_all(&topic).await;
        assert_eq!(records.len(), 1 + usize::from(may_write), "{case}");
    }
    // What is not there looks the same as what may not be seen.
    refused(&read(&gateway, &topic("absent")).await, DENIED);
}

fn outgoing(topic: &str) -> OutgoingRecord<'_> {
    OutgoingRecord {
        topic,
        value: Some(b"first"),
        ..OutgoingRecord::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_whose_kafka_user_may_only_read_is_ready_and_does_not_replace_its_producer() {
    let kafka = secured().await;
    let topic = new_topic(kafka, "read-only").await;
    kafka.plain().produce(outgoing(&topic)).await;
    kafka.allow(READER, &topic, &[AclOperation::Read]).await;
    let properties = password("PLAIN", "reader", PASSWORD);
    let gateway = by_sasl(kafka, &properties).start().await;
    assert_eq!(read(&gateway, &topic).await.status, 200);
    // An idempotent producer asks for its id when it starts, and fails for good without a right to
    // write to any topic.
    eventually(BOUND, async || {
        gateway.stderr().contains("may write to no topic")
    })
    .await;
    for _ in 0..5 {
        refused(
            &write(&gateway, &topic, "x").await,
            "TOPIC_AUTHORIZATION_FAILED",
        );
    }
    // As long as the gateway waits between two replacements, so that one would show.
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(metric(&gateway, "kafka_producer_replaced_total").await, 0.0);
    assert_eq!(ready(&gateway).await.status, 200);

    // The right comes while the gateway runs.
    kafka.allow(READER, &topic, &[AclOperation::Write]).await;
    // A client that was refused a moment ago is not replaced yet.
    eventually(BOUND, async || {
        write(&gateway, &topic, "x").await.status == 200
    })
    .await;
    assert_eq!(kafka.plain().consume_all(&topic).await.len(), 2);
}
