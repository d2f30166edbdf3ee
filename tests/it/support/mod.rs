//! What the tests are built from: brokers, gateways, a plain Kafka client and HTTP helpers.
//!
//! - `broker`: a real Kafka, of one node or several, that can be stopped, paused and restarted
//! - `browser`: a real Chromium, and pages for it
//! - `certs`: certificates, and a TLS client that tells how a handshake went
//! - `doc_snippets`: the commands and configurations in the docs, as they stand there
//! - `envoy`: a real Envoy
//! - `fault`: a broker that answers with the error a test orders
//! - `gateway`: the built binary, started and watched
//! - `groups`: what tests of sessions in consumer groups share
//! - `http`: requests in a line, and bytes on a socket for what no client library would send
//! - `kafka_client`: a Kafka client that owes nothing to Tidegate, to see what is really in a topic
//! - `nginx`: a real nginx
//! - `node`: Node.js with packages of npm
//! - `openapi`: whether answers are what the OpenAPI document says
//! - `process`: how all of these are stopped, whatever becomes of the test
//! - `python`: a Python with the Kafka, WebSocket and event-stream clients of PyPI
//! - `secured`: the certificates, users and ACLs of a broker that lets in only whom it knows
//! - `subprocess`: a program in another language that takes part in a test
//! - `tcp_proxy`: an address that stays while gateways change, and cuts connections
//! - `tokens`: tokens, good and forged, and an issuer that serves its keys
//! - `ws`: a WebSocket client that checks every frame against the AsyncAPI document
//!
//! Most tests share one broker, `kafka()`, and keep apart by `topic("orders")`, a name no other
//! test has. A test that stops or pauses its broker starts one of its own.

pub mod broker;
pub mod browser;
pub mod certs;
pub mod doc_snippets;
pub mod envoy;
pub mod fault;
pub mod gateway;
pub mod groups;
pub mod http;
pub mod kafka_client;
pub mod nginx;
pub mod node;
pub mod openapi;
pub mod process;
pub mod python;
pub mod secured;
pub mod subprocess;
pub mod tcp_proxy;
pub mod tokens;
pub mod ws;

use std::future::Future;
use std::panic::Location;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::sync::OnceCell;
use tokio::time::Instant;

use broker::Broker;
use gateway::Gateway;
use kafka_client::KafkaClient;

/// The broker that the tests of this binary share: one node, started by the first that asks.
///
/// It never becomes a value that is dropped; `process` says what ends it.
pub async fn kafka() -> &'static Broker {
    static SHARED: OnceCell<Broker> = OnceCell::const_new();
    SHARED
        .get_or_init(|| Broker::builder().never_killed().start())
        .await
}

/// A gateway before the shared broker, for tests that change nothing of it: with the default settings,
/// but that it has more patience with a Kafka on a busy machine.
pub async fn shared_gateway() -> &'static Gateway {
    static SHARED: OnceCell<Gateway> = OnceCell::const_new();
    SHARED
        .get_or_init(|| async {
            Gateway::builder(&kafka().await.bootstrap())
                .set("kafka.metadata_timeout_ms", "30000")
                .start()
                .await
        })
        .await
}

/// A topic name that starts as asked and that no other test or run has.
pub fn topic(prefix: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let n = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("{prefix}-{}-{n}", std::process::id())
}

/// A new topic, whose name starts as asked.
pub async fn topic_of(plain: &KafkaClient, prefix: &str, partitions: i32) -> String {
    let name = topic(prefix);
    plain.create_topic(&name, partitions, &[]).await;
    name
}

/// Waits until the condition holds, and fails the caller's test when `bound` has passed.
#[track_caller]
pub fn eventually<C, F>(bound: Duration, mut condition: C) -> impl Future<Output = ()>
where
    C: FnMut() -> F,
    F: Future<Output = bool>,
{
    let caller = Location::caller();
    async move {
        let end = Instant::now() + bound;
        while !condition().await {
            assert!(
                Instant::now() < end,
                "{caller}: what should become true had not after {bound:?}"
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// Runs blocking work off the test's runtime; a panic in it is the caller's.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(value) => value,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

/// What a gateway logs is for those who run it: no value stands there as the code writes it for itself.
#[track_caller]
pub fn assert_readable(log: &str) {
    const OF_CODE: [&str; 9] = [
        "Some(", "None,", "Ok(", "Err(", "Os {", "Custom {", "kind:", "Error {", "Fault {",
    ];
    let of_code = |line: &&str| OF_CODE.iter().any(|of_code| line.contains(of_code));
    let bad = log.lines().find(of_code);
    assert_eq!(bad, None, "a value of the code in the log");
}

/// What a metric without labels stands at now, 0 when it has not been counted yet; the sum over its
/// labels when it has some.
pub async fn metric(gateway: &Gateway, name: &str) -> f64 {
    metric_over(&http::client(), gateway, name).await
}

/// The same of a gateway that this client can talk to.
pub async fn metric_over(client: &reqwest::Client, gateway: &Gateway, name: &str) -> f64 {
    let reply = http::send(client.get(gateway.management_url("/metrics"))).await;
    assert_eq!(reply.status, 200);
    let values = reply.text().lines().filter_map(|line| {
        let rest = line.strip_prefix(name)?;
        rest.starts_with([' ', '{'])
            .then(|| rest.rsplit(' ').next())?
    });
    values.fold(0.0, |sum, value| sum + value.parse::<f64>().unwrap())
}
