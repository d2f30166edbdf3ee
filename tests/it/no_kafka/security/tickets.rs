//! Tickets for event streams: they read records, for the page that asked, and do nothing else.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::gateway::{Builder, Gateway};
use crate::support::http::{Reply, client, post_json, send};
use crate::support::tokens::token;
use crate::support::ws::at;

const PAGE: &str = "https://app.example";
const EVERYTHING: &str = "admin:*";

fn jwt() -> Builder {
    Gateway::embedded()
        .with_tokens()
        .set("http.cors.origins", PAGE)
}

async fn ticket(gateway: &Gateway, scope: &str, body: Value, origin: Option<&str>) -> String {
    let mut request = client()
        .post(gateway.url("/tickets"))
        .json(&body)
        .bearer_auth(token("ann", scope));
    if let Some(origin) = origin {
        request = request.header("origin", origin);
    }
    let reply = send(request).await;
    assert_eq!(reply.status, 201, "{}", reply.text());
    reply.json()["ticket"].as_str().unwrap().to_owned()
}

async fn write(gateway: &Gateway, topic: &str) {
    let url = gateway.url(&format!("/topics/{topic}/records"));
    let request = client().post(url).json(&json!({"value": topic}));
    let reply = send(request.bearer_auth(token("root", EVERYTHING))).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
}

async fn show(
    gateway: &Gateway,
    method: &Method,
    path: &str,
    ticket: &str,
    origin: Option<&str>,
) -> Reply {
    let sign = if path.contains('?') { '&' } else { '?' };
    let url = gateway.url(&format!("{path}{sign}ticket={ticket}"));
    let mut request = client().request(method.clone(), url);
    if *method == Method::POST {
        request = request.json(&json!({"value": 1}));
    }
    if let Some(origin) = origin {
        request = request.header("origin", origin);
    }
    send(request).await
}

/// Every operation of the document that is not open to all, its parameters filled in.
async fn operations(gateway: &Gateway) -> Vec<(Method, String)> {
    let document = send(client().get(gateway.url("/openapi.json")))
        .await
        .json();
    let mut operations = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        let filled = path
            .replace("{topic}", "orders")
            .replace("{partition}", "0")
            .replace("{offset}", "0")
            .replace("{group}", "web")
            .replace("{instance}", "one");
        for (method, operation) in item.as_object().unwrap() {
            if operation.get("security").is_some() {
                operations.push((method.to_uppercase().parse().unwrap(), filled.clone()));
            }
        }
    }
    operations
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_ticket_reads_records_and_nothing_else() {
    let gateway = jwt().start().await;
    for topic in ["orders", "payments"] {
        write(&gateway, topic).await;
    }
    let all = ticket(&gateway, EVERYTHING, json!({"kind": "sse"}), None).await;
    let mut read = Vec::new();
    for (method, path) in operations(&gateway).await {
        if path == "/ws" {
            continue;
        }
        let path = match path.as_str() {
            "/records" => "/records?topics=orders,payments".to_owned(),
            _ => path,
        };
        let reply = show(&gateway, &method, &path, &all, None).await;
        if reply.status == 403 {
            let message = reply.json()["message"].as_str().unwrap().to_owned();
            assert!(message.contains("kind sse"), "{method} {path}: {message}");
        } else {
            read.push(format!("{method} {path}"));
        }
    }
    read.sort();
    assert_eq!(
        read,
        [
            "GET /records?topics=orders,payments",
            "GET /topics/orders/partitions/0/records",
            "GET /topics/orders/partitions/0/records/0",
            "GET /topics/orders/records",
            "GET /v3/clusters/{cluster}/topics/orders/partitions/0/records",
            "GET /v3/clusters/{cluster}/topics/orders/records",
        ]
    );
    let (status, ..) = at(&gateway, &format!("/ws?ticket={all}")).refused().await;
    assert_eq!(status, 401);

    // Of the topics that it names alone, and of what its principal may consume.
    let some = json!({"kind": "sse", "topics": ["orders"]});
    let some = ticket(&gateway, "consume:*", some, None).await;
    let own = ticket(
        &gateway,
        "consume:orders produce:*",
        json!({"kind": "sse"}),
        None,
    )
    .await;
    let none = ticket(&gateway, "describe:*", json!({"kind": "sse"}), None).await;
    for (ticket, topic, status) in [
        (&some, "orders", 200),
        (&some, "payments", 403),
        (&own, "orders", 200),
        (&own, "payments", 403),
        (&none, "orders", 403),
    ] {
        let path = format!("/topics/{topic}/records");
        let reply = show(&gateway, &Method::GET, &path, ticket, None).await;
        assert_eq!(reply.status, status, "{topic} {}", reply.text());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_ticket_is_for_the_page_that_asked_for_it() {
    let gateway = jwt().start().await;
    write(&gateway, "orders").await;
    let own = gateway.url("");
    let of_page = ticket(&gateway, "consume:*", json!({"kind": "sse"}), Some(PAGE)).await;
    let of_own = ticket(&gateway, "consume:*", json!({"kind": "sse"}), Some(&own)).await;
    let of_none = ticket(&gateway, "consume:*", json!({"kind": "sse"}), None).await;
    for (ticket, origin, status) in [
        (&of_page, Some(PAGE), 200),
        (&of_page, Some(own.as_str()), 401),
        (&of_page, None, 401),
        // A browser names no origin when a page reads from where it came from.
        (&of_own, None, 200),
        (&of_own, Some(own.as_str()), 200),
        (&of_own, Some(PAGE), 401),
        (&of_none, None, 200),
        (&of_none, Some(PAGE), 200),
    ] {
        let reply = show(
            &gateway,
            &Method::GET,
            "/topics/orders/records",
            ticket,
            origin,
        )
        .await;
        assert_eq!(reply.status, status, "{origin:?} {}", reply.text());
        if status == 401 {
            assert!(reply.text().contains("another origin"), "{}", reply.text());
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_reads_in_a_ticket_who_may_do_what() {
    let gateway = jwt().start().await;
    for kind in ["sse", "ws"] {
        let ticket = ticket(&gateway, "consume:orders", json!({"kind": kind}), None).await;
        for part in ticket.split('.') {
            let bytes = URL_SAFE_NO_PAD.decode(part).unwrap_or_else(|_| part.into());
            for word in ["ann", "consume", "orders", "issuer.test"] {
                let found = bytes.windows(word.len()).any(|at| at == word.as_bytes());
                assert!(!found, "{kind}: {word}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ticket_made_without_authentication_opens_nothing_where_authentication_is_on() {
    const KEY: &str = "a ticket key of at least thirty-two bytes";
    let open = Gateway::embedded()
        .file("ticket.key", KEY)
        .set("auth.ticket_key_file", "ticket.key")
        .start()
        .await;
    let reply = post_json(&open.url("/tickets"), &json!({"kind": "sse"})).await;
    assert_eq!(reply.status, 201, "{}", reply.text());
    let of_all = reply.json()["ticket"].as_str().unwrap().to_owned();
    let gateway = jwt()
        .file("ticket.key", KEY)
        .set("auth.ticket_key_file", "ticket.key")
        .start()
        .await;
    write(&gateway, "orders").await;
    let reply = show(
        &gateway,
        &Method::GET,
        "/topics/orders/records",
        &of_all,
        None,
    )
    .await;
    assert_eq!(reply.status, 403, "{}", reply.text());
}
