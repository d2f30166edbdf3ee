//! The recipes of docs/operations.md and docs/compatibility.md for Envoy, with a real one. `./test` skips
//! these where there is none.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use reqwest::Client;
use serde_json::{Value, json};
use tokio::time::{Instant, timeout};

use super::nginx_instances::{find_their_process, gateway};
use crate::support::doc_snippets::{block, put};
use crate::support::envoy::{Envoy, Running, recipe, routed};
use crate::support::gateway::{Builder, Gateway};
use crate::support::http::{get, send};

use crate::support::ws::{Client as Session, at_url};
use crate::support::{eventually, metric};

const BOUND: Duration = Duration::from_secs(60);
/// What Envoy takes for the longest answer of a route that does not say.
const ROUTE_DEFAULT: Duration = Duration::from_secs(15);
/// Where clients come from: Envoy calls the gateway from 127.0.0.1.
const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));

/// Envoy before a gateway, with these texts of the recipe in the place of others. `None` without an Envoy.
async fn fronted(gateway: Builder, instead: &[(&str, &str)]) -> Option<(Gateway, Running)> {
    let envoy = Envoy::find().await?;
    let toml = block("operations.md", "### Behind Envoy", "toml");
    let gateway = gateway.file("tidegate.toml", &toml).start().await;
    let recipe = recipe(gateway.address());
    let recipe = instead
        .iter()
        .fold(recipe, |recipe, (from, to)| put(&recipe, from, to));
    let running = envoy.start(&recipe).await;
    Some((gateway, running))
}

fn of_client() -> Client {
    Client::builder().local_address(CLIENT).build().unwrap()
}

/// A session behind `front` that has `orders` from the beginning.
async fn session(front: &str, group: &str) -> Session {
    let url = format!("{front}/ws?topics=orders&group={group}&from=earliest");
    at_url(&url).connect().await
}

/// An open stream of `orders`.
async fn stream(front: &str) -> reqwest::Response {
    let url = format!("{front}/topics/orders/records?from=earliest&heartbeat=5");
    let request = Client::new().get(url).header("accept", "text/event-stream");
    let response = timeout(BOUND, request.send()).await.unwrap().unwrap();
    assert_eq!(response.status(), 200);
    response
}

/// Reads on until this text has come; false if the stream ends before.
async fn comes(stream: &mut reqwest::Response, text: &str) -> bool {
    let read = async {
        let mut all = String::new();
        while !all.contains(text) {
            match stream.chunk().await {
                Ok(Some(chunk)) => all.push_str(&String::from_utf8_lossy(&chunk)),
                Ok(None) | Err(_) => return false,
            }
        }
        true
    };
    timeout(BOUND, read).await.expect("the text or an end")
}

async fn write(front: &str, value: Value) {
    let records = format!("{front}/topics/orders/records");
    let reply = send(Client::new().post(records).json(&json!({"value": value}))).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_find_the_process_that_has_the_instance() {
    let Some(envoy) = Envoy::find().await else {
        return;
    };
    let (one, two) = (gateway("gw-1").await, gateway("gw-2").await);
    let routes = block("compatibility.md", "### Behind Envoy", "yaml");
    let (first, second) = (one.address(), two.address());
    let recipe = routed(
        Some(&routes),
        &[
            ("gateway_1", &[first]),
            ("gateway_2", &[second]),
            ("gateways", &[first, second]),
        ],
    );
    let running = envoy.start(&recipe).await;
    find_their_process(&running.url, &one, &two).await;
    running.is_content();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forwarded_headers_that_a_client_forges_are_not_believed() {
    let gateway = Gateway::embedded()
        .with_tokens()
        .set("telemetry.audit", "audit.log");
    let Some((gateway, running)) = fronted(gateway, &[]).await else {
        return;
    };
    let topics = format!("{}/topics", running.url);
    let evil = "https://evil.example";
    let forged = [
        ("x-forwarded-host", "evil.example"),
        ("x-forwarded-proto", "https"),
        ("forwarded", "for=203.0.113.7;host=evil.example;proto=https"),
        ("x-forwarded-for", "203.0.113.7"),
    ];
    for (origin, status) in [(running.url.as_str(), 401), (evil, 403)] {
        for forged in forged {
            let request = of_client().get(&topics).header("origin", origin);
            let reply = send(request.header(forged.0, forged.1)).await;
            assert_eq!(
                reply.status,
                status,
                "{origin} {forged:?}: {}",
                reply.text()
            );
        }
    }
    let audit = gateway.folder().join("audit.log");
    let entries = || -> Vec<Value> {
        let text = std::fs::read_to_string(&audit).unwrap_or_default();
        let whole = text.rsplit_once('\n').map_or("", |(lines, _)| lines);
        let lines = whole.lines();
        lines
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    };
    eventually(BOUND, async || entries().len() >= forged.len()).await;
    for entry in entries() {
        assert_eq!(entry["address"], CLIENT.to_string(), "{entry}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_go_through() {
    let Some((_gateway, running)) = fronted(Gateway::embedded(), &[]).await else {
        return;
    };
    let mut session = session(&running.url, "web").await;
    let produce = json!({"type": "produce", "id": 1, "topic": "orders", "records": [{"value": 7}]});
    assert_eq!(session.ask(produce).await["results"][0]["offset"], 0);
    assert_eq!(session.records(1).await[0]["value"], 7);
    session.bye().await;
    let evil = at_url(&format!("{}/ws", running.url)).header("origin", "https://evil.example");
    assert_eq!(evil.refused().await.0, 403);
}

/// So that it is the recipe's `0s` that keeps streams open.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_time_for_the_whole_answer_would_cut_a_stream() {
    let instead = [("timeout: 0s }", "timeout: 3s }")];
    let Some((_gateway, running)) = fronted(Gateway::embedded(), &instead).await else {
        return;
    };
    write(&running.url, json!("first")).await;
    let mut stream = stream(&running.url).await;
    // On a machine that needs so long for the first record, there was the end already.
    if comes(&mut stream, "first").await {
        assert!(!comes(&mut stream, "what is never written").await, "an end");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: outlasts what Envoy would do by default, 15 s"]
async fn streams_and_sessions_outlast_the_times_of_envoy() {
    let gateway = Gateway::embedded().set("websocket.ping_interval_ms", "1000");
    // Shorter than the recipe has it, and still longer than heartbeats and pings.
    let instead = [("stream_idle_timeout: 120s", "stream_idle_timeout: 12s")];
    let Some((_gateway, running)) = fronted(gateway, &instead).await else {
        return;
    };
    write(&running.url, json!("first")).await;
    let mut stream = stream(&running.url).await;
    assert!(comes(&mut stream, "first").await);
    let mut session = session(&running.url, "web").await;
    assert_eq!(session.records(1).await[0]["value"], "first");
    let begun = Instant::now();
    // From Kafka comes nothing, so nothing but heartbeats and pings.
    while begun.elapsed() < ROUTE_DEFAULT + Duration::from_secs(5) {
        session.next_within(Duration::from_secs(1)).await;
    }
    write(&running.url, json!("late")).await;
    assert!(comes(&mut stream, "late").await);
    assert_eq!(session.records(1).await[0]["value"], "late");
    session.bye().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_sessions_go_through_than_envoy_lets_by_default() {
    // They answer no ping, and must all be there at the end.
    let gateway = Gateway::embedded().set("websocket.ping_interval_ms", "100000");
    let Some((gateway, running)) = fronted(gateway, &[]).await else {
        return;
    };
    let mut sessions = Vec::new();
    while sessions.len() < 1_100 {
        let some = (0..50).map(|_| at_url(&format!("{}/ws", running.url)).connect());
        sessions.extend(futures::future::join_all(some).await);
    }
    eventually(BOUND, async || {
        metric(&gateway, "websocket_sessions").await == 1_100.0
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn envoy_closes_a_connection_that_it_does_not_use_before_the_gateway_does() {
    // The gateway would after its own time, which is longer here than what is waited for.
    let gateway = Gateway::embedded().set("http.request_timeout_ms", "300000");
    let instead = [("idle_timeout: 20s", "idle_timeout: 0.2s")];
    let Some((gateway, running)) = fronted(gateway, &instead).await else {
        return;
    };
    assert_eq!(get(&format!("{}/topics", running.url)).await.status, 200);
    eventually(BOUND, async || {
        metric(&gateway, "http_connections").await == 0.0
    })
    .await;
}
