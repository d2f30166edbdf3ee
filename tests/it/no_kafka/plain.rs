//! Administration the plain way where there is no real Kafka: who may do what, and what the embedded broker cannot do.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::gateway::Gateway;
use crate::support::http::{Reply, client, send};
use crate::support::openapi;
use crate::support::tokens::token;

async fn call(
    gateway: &Gateway,
    token: Option<&str>,
    method: Method,
    path: &str,
    body: Option<&Value>,
) -> Reply {
    let mut request = client().request(method.clone(), gateway.url(path));
    if let Some(token) = token {
        request = request.bearer_auth(token);
    }
    let reply = send(match body {
        Some(body) => request.json(body),
        None => request,
    })
    .await;
    openapi::check(method.as_str(), path, &reply);
    reply
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_operation_needs_its_permission() {
    let gateway = Gateway::embedded().with_tokens().start().await;
    let reset = json!({"to": "earliest"});
    for (method, path, body, needed) in [
        (Method::PUT, "/topics/orders", None, "create:orders"),
        (Method::GET, "/topics/orders/size", None, "describe:orders"),
        (
            Method::DELETE,
            "/topics/orders/records?before=latest",
            None,
            "delete:orders",
        ),
        (Method::DELETE, "/topics/orders", None, "delete:orders"),
        (Method::GET, "/groups/g", None, "describe:g"),
        (Method::DELETE, "/groups/g", None, "group:g"),
        (Method::POST, "/groups/g/offsets", Some(&reset), "group:g"),
        (
            Method::DELETE,
            "/groups/g/offsets?topic=t",
            None,
            "group:g consume:t",
        ),
    ] {
        let all = [
            "produce", "consume", "describe", "group", "create", "alter", "delete", "transact",
        ];
        let action = needed.split_once(':').unwrap().0;
        // To produce, to consume and to be a member of a group imply to describe.
        let others = all.iter().filter(|other| {
            **other != action
                && (action != "describe" || !["produce", "consume", "group"].contains(other))
        });
        let others: Vec<String> = others.map(|other| format!("{other}:*")).collect();
        let without = token("without", &others.join(" "));
        let refused = call(&gateway, Some(&without), method.clone(), path, body).await;
        assert_eq!(refused.status, 403, "{method} {path}");
        let with = token("with", needed);
        let allowed = call(&gateway, Some(&with), method.clone(), path, body).await;
        assert_ne!(allowed.status, 403, "{method} {path}: {}", allowed.text());
    }
    let nobody = call(&gateway, None, Method::GET, "/groups", None).await;
    assert_eq!(nobody.status, 401);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_embedded_broker_cannot_do_is_said() {
    let gateway = Gateway::embedded().start().await;
    let made = call(&gateway, None, Method::PUT, "/topics/t", None).await;
    assert_eq!(made.status, 201, "{}", made.text());
    let again = call(&gateway, None, Method::PUT, "/topics/t", None).await;
    assert_eq!(again.status, 200, "{}", again.text());
    for (method, path) in [
        (Method::GET, "/groups"),
        (Method::DELETE, "/topics/t/records?before=latest"),
    ] {
        let reply = call(&gateway, None, method.clone(), path, None).await;
        assert_eq!(reply.status, 501, "{method} {path}: {}", reply.text());
        let message = reply.json()["message"].clone();
        assert_eq!(message, "not supported by the embedded broker");
    }
    let size = call(&gateway, None, Method::GET, "/topics/t/size", None).await;
    assert_eq!(size.status, 200, "{}", size.text());
    assert_eq!(size.json()["bytes"], Value::Null);
    let deleted = call(&gateway, None, Method::DELETE, "/topics/t", None).await;
    assert_eq!(deleted.status, 204);
}
