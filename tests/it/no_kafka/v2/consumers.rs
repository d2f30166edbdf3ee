//! Consumer instances when the broker errs: the rows of Confluent REST Proxy's table that only it can bring
//! about.

use std::time::Duration;

use krafka::error::ErrorCode;
use krafka::testing::ApiKey;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::eventually;
use crate::support::fault::FaultBroker;
use crate::support::gateway::Gateway;
use crate::support::http::{Reply, client, send};

/// Longest wait for a line of the log.
const BOUND: Duration = Duration::from_secs(60);

/// A gateway before the broker, and the address of an instance on it.
async fn start(kafka: &FaultBroker) -> (Gateway, String) {
    kafka.create_topic("orders", 1);
    let gateway = Gateway::builder(&kafka.bootstrap())
        .set("kafka.metadata_timeout_ms", "5000")
        .start()
        .await;
    let made = client().post(gateway.url("/consumers/web"));
    let made = send(made.body(r#"{"name":"one","auto.commit.enable":false}"#)).await;
    let base = made.json()["base_uri"].as_str().unwrap().to_owned();
    (gateway, base)
}

async fn call(method: Method, url: &str, body: &Value) -> Reply {
    send(client().request(method, url).body(body.to_string())).await
}

fn place() -> Value {
    json!({"partitions": [{"topic": "orders", "partition": 0}]})
}

fn code(reply: &Reply) -> (u16, i64) {
    let code = reply.json()["error_code"].as_i64().unwrap();
    (reply.status.as_u16(), code)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_error_of_kafka_has_the_code_of_confluent_rest_proxy() {
    let kafka = FaultBroker::start().await;
    let (_gateway, base) = start(&kafka).await;
    let offsets = format!("{base}/offsets");
    let good = call(Method::GET, &offsets, &place()).await;
    assert_eq!(good.text(), "{\"offsets\":[]}");
    for (error, expected) in [
        (ErrorCode::GroupAuthorizationFailed, (403, 40301)),
        (ErrorCode::SaslAuthenticationFailed, (401, 40101)),
        (ErrorCode::ThrottlingQuotaExceeded, (429, 42901)),
        (ErrorCode::InvalidGroupId, (400, 40002)),
        (ErrorCode::Unknown(-1), (500, 50002)),
        (ErrorCode::CoordinatorLoadInProgress, (500, 50003)),
    ] {
        kafka.fail_always(ApiKey::OffsetFetch, error);
        let reply = call(Method::GET, &offsets, &place()).await;
        kafka.clear_hooks();
        assert_eq!(code(&reply), expected, "{error:?}: {}", reply.text());
        let is_retriable = [42901, 50003].contains(&expected.1);
        assert_eq!(!reply.header("retry-after").is_empty(), is_retriable);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_that_fails_says_why() {
    let kafka = FaultBroker::start().await;
    let (_gateway, base) = start(&kafka).await;
    let subscription = format!("{base}/subscription");
    let subscribed = call(Method::POST, &subscription, &json!({"topics": ["orders"]})).await;
    assert_eq!(subscribed.status, 204);
    let commit = json!({"offsets": [{"topic": "orders", "partition": 0, "offset": 0}]});
    let offsets = format!("{base}/offsets");
    assert_eq!(call(Method::POST, &offsets, &commit).await.status, 200);
    for (error, expected) in [
        (ErrorCode::GroupAuthorizationFailed, (403, 40301)),
        (ErrorCode::OffsetMetadataTooLarge, (413, 413)),
        (ErrorCode::Unknown(-1), (500, 50002)),
    ] {
        kafka.fail_always(ApiKey::OffsetCommit, error);
        let reply = call(Method::POST, &offsets, &commit).await;
        kafka.clear_hooks();
        assert_eq!(code(&reply), expected, "{error:?}: {}", reply.text());
    }
    assert_eq!(call(Method::POST, &offsets, &commit).await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_of_an_instance_that_its_group_refuses_says_why() {
    let kafka = FaultBroker::start().await;
    let (_gateway, base) = start(&kafka).await;
    let heartbeat = ApiKey::ConsumerGroupHeartbeat;
    kafka.fail_always(heartbeat, ErrorCode::GroupAuthorizationFailed);
    let subscription = format!("{base}/subscription");
    let subscribed = call(Method::POST, &subscription, &json!({"topics": ["orders"]})).await;
    assert_eq!(subscribed.status, 204);
    let records = format!("{base}/records?timeout=20000");
    for _ in 0..2 {
        let reply = call(Method::GET, &records, &Value::Null).await;
        // The first wait may end before the broker has answered.
        if reply.text() != "[]" {
            assert_eq!(code(&reply), (403, 40301), "{}", reply.text());
        }
    }
    // As soon as it may, it does.
    kafka.clear_hooks();
    let written = client().post(format!(
        "{}/topics/orders/records",
        base.split("/consumers").next().unwrap()
    ));
    assert_eq!(send(written.json(&json!({"value": 1}))).await.status, 200);
    let end = tokio::time::Instant::now() + Duration::from_secs(80);
    let beginning = format!("{base}/positions/beginning");
    loop {
        let place = json!({"partitions": []});
        call(Method::POST, &beginning, &place).await;
        let reply = call(Method::GET, &records, &Value::Null).await;
        if reply.status == 200 && reply.json()[0]["offset"] == 0 {
            break;
        }
        assert!(tokio::time::Instant::now() < end, "{}", reply.text());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_broker_it_is_said_that_there_is_none() {
    let gateway = Gateway::builder("127.0.0.1:1")
        .set("kafka.metadata_timeout_ms", "500")
        .start()
        .await;
    // Making one needs no broker.
    let made = client().post(gateway.url("/consumers/web"));
    let made = send(made.body("{\"name\":\"one\"}")).await;
    assert_eq!(made.status, 200);
    let base = gateway.url("/consumers/web/instances/one");
    for (method, path, body) in [
        (Method::POST, "/subscription", json!({"topics": ["orders"]})),
        (Method::POST, "/assignments", place()),
        (Method::GET, "/offsets", place()),
    ] {
        let reply = call(method, &format!("{base}{path}"), &body).await;
        let code = code(&reply);
        assert!(
            [(503, 50302), (500, 50003)].contains(&code),
            "{path}: {}",
            reply.text()
        );
        assert!(!reply.header("retry-after").is_empty(), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_base_uri_of_a_host_that_a_client_made_up_is_logged_once() {
    const WORDS: &str = "set advertised_url";
    let kafka = FaultBroker::start().await;
    let gateway = Gateway::builder(&kafka.bootstrap()).start().await;
    let make = async |host: &str| {
        let request = client()
            .post(gateway.url("/consumers/web"))
            .header("host", host);
        let made = send(request).await;
        assert_eq!(made.status, 200, "{}", made.text());
        made.json()["base_uri"].as_str().unwrap().to_owned()
    };
    let said = || gateway.stderr().matches(WORDS).count();
    // The gateway knows that name of its own.
    make("localhost:8082").await;
    assert_eq!(said(), 0);
    for host in ["gateway:8082", "other:8082"] {
        let base = make(host).await;
        assert!(base.starts_with(&format!("http://{host}/")), "{base}");
    }
    eventually(BOUND, async || said() > 0).await;
    let log = gateway.terminate().await.stderr;
    assert_eq!(log.matches(WORDS).count(), 1, "{log}");
    assert!(log.contains("gateway:8082"), "{log}");
}
