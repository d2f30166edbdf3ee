//! The audit log: who was let do what, from where, and who was not.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

use crate::support::eventually;
use crate::support::gateway::{Builder, Gateway};
use crate::support::http::{self, Reply, client, handshake, send};
use crate::support::tokens::{SECRET, token};
use crate::support::ws;

const BOUND: Duration = Duration::from_secs(60);

fn gateway(audit: &str) -> Builder {
    Gateway::embedded()
        .with_tokens()
        .set("http.trusted_proxies", "127.0.0.1")
        .set("telemetry.audit", audit)
}

async fn ask(request: RequestBuilder, token: &str, id: &str) -> Reply {
    let request = match token {
        "" => request,
        token => request.header("authorization", format!("Bearer {token}")),
    };
    let request = request.header("x-forwarded-for", "203.0.113.7");
    send(request.header("x-request-id", id)).await
}

fn entries(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let whole = text.rsplit_once('\n').map_or("", |(lines, _)| lines);
    whole
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// What a request has left in the log: action, resource, whether it was allowed.
fn of(entries: &[Value], id: &str) -> Vec<(String, String, bool)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    entries
        .iter()
        .filter(|entry| entry["request_id"] == id)
        .map(|entry| {
            let allowed = entry["allowed"].as_bool().unwrap();
            (text(&entry["action"]), text(&entry["resource"]), allowed)
        })
        .collect()
}

fn told(action: &str, resource: &str, allowed: bool) -> Vec<(String, String, bool)> {
    vec![(action.to_owned(), resource.to_owned(), allowed)]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_decision_stands_in_the_log() {
    let gateway = gateway("audit.log").start().await;
    let records = gateway.url("/topics/orders/records");
    let tickets = gateway.url("/tickets");
    let post = |body: &'static str, kind: &str| {
        client()
            .post(&records)
            .header("content-type", kind)
            .body(body)
    };
    let one = || post(r#"{"value":1}"#, "application/json");
    let writer = token("ann", "produce:ord* consume:none");

    assert_eq!(ask(one(), &writer, "written").await.status, 200);
    let lines = "{\"value\":1}\n".repeat(5000).leak();
    let reply = ask(post(lines, "application/x-ndjson"), &writer, "streamed").await;
    assert_eq!(reply.status, 200);
    let read = ask(client().get(&records), &writer, "denied").await;
    assert_eq!(read.status, 403);
    assert_eq!(ask(one(), "", "nobody").await.status, 401);
    assert_eq!(ask(one(), "eyJ.nonsense.x", "forger").await.status, 401);
    let basic = one().header("authorization", "Basic YTpi");
    assert_eq!(ask(basic, "", "basic").await.status, 401);
    let list = client().get(gateway.url("/topics"));
    assert_eq!(ask(list, &writer, "listed").await.status, 200);
    let wish = client()
        .post(&tickets)
        .json(&json!({"kind": "sse", "topics": ["orders"]}));
    let minted = ask(wish, &writer, "minted").await;
    assert_eq!(minted.status, 201);
    let ticket = minted.json()["ticket"].as_str().unwrap().to_owned();
    let again = client().post(format!("{tickets}?ticket={ticket}"));
    assert_eq!(ask(again, "", "again").await.status, 403);
    let other = client().post(&tickets).json(&json!({"topics": ["x"]}));
    assert_eq!(ask(other, &writer, "other").await.status, 403);
    // Open to anyone: nothing is decided.
    assert_eq!(
        ask(client().get(gateway.url("/")), "", "open").await.status,
        200
    );

    let path = gateway.folder().join("audit.log");
    eventually(BOUND, async || !of(&entries(&path), "other").is_empty()).await;
    let all = entries(&path);
    assert_eq!(of(&all, "written"), told("produce", "orders", true));
    assert_eq!(of(&all, "streamed"), told("produce", "orders", true));
    assert_eq!(of(&all, "denied"), told("consume", "orders", false));
    for id in ["nobody", "forger", "basic"] {
        assert_eq!(of(&all, id), told("authenticate", "", false), "{id}");
    }
    assert_eq!(of(&all, "listed"), told("call", "GET /topics", true));
    let mut minted = told("call", "POST /tickets", true);
    minted.extend(told("mint", "sse for orders", true));
    assert_eq!(of(&all, "minted"), minted);
    // A ticket for streams is not for this route.
    assert_eq!(of(&all, "again"), told("call", "POST /tickets", false));
    assert_eq!(of(&all, "other")[1..], told("consume", "x", false));
    assert!(of(&all, "open").is_empty());

    let denied = all.iter().find(|e| e["request_id"] == "denied").unwrap();
    assert_eq!(denied["principal"], "ann");
    assert_eq!(denied["known_by"], "token");
    assert_eq!(denied["issuer"], "https://issuer.test");
    assert_eq!(denied["address"], "203.0.113.7", "behind the proxy");
    assert_eq!(denied["method"], "GET");
    assert_eq!(denied["path"], "/topics/orders/records");
    let reason = denied["reason"].as_str().unwrap();
    assert!(reason.contains("consume:orders is missing"), "{reason}");
    let written = all.iter().find(|e| e["request_id"] == "written").unwrap();
    assert_eq!(written["reason"], "the permission produce:ord*");
    let text = std::fs::read_to_string(&path).unwrap();
    for secret in [&writer, &ticket, SECRET, "eyJ"] {
        assert!(!text.contains(secret), "{text}");
    }

    // Rotated, as logrotate does it; and all is written before the end.
    std::fs::rename(&path, gateway.folder().join("audit.log.1")).unwrap();
    assert_eq!(ask(one(), &writer, "rotated").await.status, 200);
    eventually(BOUND, async || !entries(&path).is_empty()).await;
    assert_eq!(
        of(&entries(&path), "rotated"),
        told("produce", "orders", true)
    );
}

/// Whatever route there is, and whichever is added: what it decides is told.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_route_is_left_out() {
    let gateway = gateway("audit.log")
        .set("limits.refused_per_second", "0")
        .start()
        .await;
    let document = http::get(&gateway.url("/openapi.json")).await.json();
    let none = token("bob", "openid");
    let mut guarded = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            if operation.get("security").is_none() {
                continue;
            }
            let name = format!("{method}{path}");
            let path = path.replace(['{', '}'], "").replace("/topic/", "/orders/");
            let method: Method = method.to_uppercase().parse().unwrap();
            for (who, token) in [("nobody", ""), ("bob", none.as_str())] {
                let id = format!("{who}-{}", guarded.len());
                let request = client().request(method.clone(), gateway.url(&path));
                let request = match path.as_str() {
                    // Who shows nothing there is let in, to do so in the first frame.
                    "/ws" if token.is_empty() => continue,
                    "/ws" => handshake(request),
                    _ => request,
                };
                ask(request, token, &id).await;
                guarded.push((id, name.clone()));
            }
        }
    }
    assert!(guarded.len() > 10, "{guarded:?}");
    let path = gateway.folder().join("audit.log");
    let (last, _) = guarded.last().unwrap();
    eventually(BOUND, async || !of(&entries(&path), last).is_empty()).await;
    let all = entries(&path);
    for (id, name) in &guarded {
        let told = of(&all, id);
        assert!(!told.is_empty(), "{name} by {id}");
        if id.starts_with("nobody") {
            assert_eq!(
                told,
                [("authenticate".to_owned(), String::new(), false)],
                "{name}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_may_be_standard_error_and_is_whole_at_the_end() {
    let gateway = Gateway::embedded()
        .set("telemetry.audit", "stderr")
        .start()
        .await;
    let records = gateway.url("/topics/orders/records");
    for n in 0..20 {
        let one = client().post(&records).json(&json!({"value": n}));
        assert_eq!(ask(one, "", &format!("number-{n}")).await.status, 200);
    }
    let ended = gateway.terminate().await;
    let entries: Vec<Value> = ended
        .stderr
        .lines()
        .filter(|line| line.contains("\"action\":\"produce\""))
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(entries.len(), 20);
    assert_eq!(entries[19]["request_id"], "number-19");
    assert_eq!(entries[19]["principal"], "anonymous");
    assert_eq!(entries[19]["reason"], "auth.mode is none");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_cannot_be_opened_is_an_error_at_start() {
    for path in ["none/audit.log", "."] {
        let ended = Gateway::embedded()
            .set("telemetry.audit", path)
            .try_start()
            .await
            .err()
            .unwrap();
        assert_eq!(ended.status.code(), Some(2), "{}", ended.stderr);
        assert!(ended.stderr.contains("telemetry.audit"), "{}", ended.stderr);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_that_begin_and_credentials_that_are_valid_have_lines() {
    let gateway = gateway("audit.log")
        .set("telemetry.audit_required", "true")
        .set("telemetry.audit_authentication", "true")
        .start()
        .await;
    let writer = token("ann", "produce:orders");
    // Two requests to which the client gives one id are two all the same.
    let list = || client().get(gateway.url("/topics"));
    for _ in 0..2 {
        assert_eq!(ask(list(), &writer, "same").await.status, 200);
    }
    let session = ws::at(&gateway, "/ws").header("x-request-id", "session");
    let mut session = session.connect().await;
    session
        .send(json!({"type": "hello", "token": writer}))
        .await;
    session.until("welcome").await;
    let renewed = session
        .ask(json!({"type": "auth", "id": 1, "token": writer}))
        .await;
    assert_eq!(renewed["type"], "ok");
    session.bye().await;

    let path = gateway.folder().join("audit.log");
    let action = |all: &[Value], id: &str, wanted: &str| {
        let mut of = of(all, id);
        of.retain(|(action, ..)| action == wanted);
        of
    };
    eventually(BOUND, async || {
        action(&entries(&path), "session", "session").len() == 2
    })
    .await;
    let all = entries(&path);
    let mut begun = told("session", "hello", true);
    begun.extend(told("session", "auth", true));
    assert_eq!(action(&all, "session", "session"), begun);
    for id in ["session", "same"] {
        let mut valid = told("authenticate", "", true);
        valid.extend(valid.clone());
        assert_eq!(action(&all, id, "authenticate"), valid, "{id}");
    }
    let ids: BTreeSet<&str> = all
        .iter()
        .filter(|entry| entry["request_id"] == "same")
        .map(|entry| entry["gateway_id"].as_str().unwrap())
        .collect();
    assert_eq!(ids.len(), 2, "{ids:?}");
    assert!(!ids.contains("same"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_for_thousands_of_topics_leaves_no_thousands_of_lines() {
    let gateway = gateway("audit.log").start().await;
    let reader = token("ann", "consume:*");
    let topics: Vec<String> = (0..500).map(|n| format!("t{n}")).collect();
    let many = format!("/records?topics={}", topics.join(","));
    let reply = ask(client().get(gateway.url(&many)), &reader, "many").await;
    assert_eq!(reply.status, 400, "{}", reply.text());
    let list = client().get(gateway.url("/topics"));
    assert_eq!(ask(list, &reader, "last").await.status, 200);
    let path = gateway.folder().join("audit.log");
    eventually(BOUND, async || !of(&entries(&path), "last").is_empty()).await;
    assert!(of(&entries(&path), "many").is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_is_required_and_not_there_is_an_error_at_start() {
    let ended = Gateway::embedded()
        .set("telemetry.audit_required", "true")
        .try_start()
        .await
        .err()
        .unwrap();
    assert_eq!(ended.status.code(), Some(2), "{}", ended.stderr);
    for part in ["telemetry.audit_required", "telemetry.audit is"] {
        assert!(ended.stderr.contains(part), "{}", ended.stderr);
    }
}
