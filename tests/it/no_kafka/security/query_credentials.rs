//! Answers to addresses with a credential in them, which no cache may keep.

use reqwest::Method;

use crate::support::gateway::{Builder, Gateway};
use crate::support::http::{client, send};
use crate::support::tokens::token;

fn with_tokens() -> Builder {
    Gateway::embedded().with_tokens()
}

async fn is_kept_out_of_caches(gateway: &Gateway, method: Method, path: &str, status: u16) {
    let reply = send(client().request(method.clone(), gateway.url(path))).await;
    assert_eq!(reply.status, status, "{method} {path}: {}", reply.text());
    let said = reply.header("cache-control").to_owned();
    let mut directives = said.split(',').map(str::trim);
    assert!(
        directives.any(|one| one == "no-store"),
        "{method} {path}: {said}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_to_a_credential_in_the_query_is_kept_out_of_caches_whatever_it_is() {
    let gateway = with_tokens()
        .set("auth.allow_query_token", "true")
        .start()
        .await;
    let (ann, root) = (token("ann", "consume:web"), token("root", "admin:*"));
    let by = |path: &str, token: &str| {
        let sign = if path.contains('?') { '&' } else { '?' };
        format!("{path}{sign}access_token={token}")
    };
    for (method, path, status) in [
        (Method::GET, by("/topics", &root), 200),
        (Method::HEAD, by("/topics", &root), 200),
        (Method::GET, by("/", &root), 200),
        (Method::GET, by("/openapi.json", &root), 200),
        (Method::GET, by("/topics/none/records", &root), 404),
        (Method::GET, by("/topics/orders/records", &ann), 403),
        (Method::GET, by("/no/such/path", &root), 404),
        (Method::DELETE, by("/openapi.json", &root), 405),
        (Method::GET, by("/topics", "forged"), 401),
        (Method::GET, "/topics?ticket=forged".to_owned(), 401),
    ] {
        is_kept_out_of_caches(&gateway, method, &path, status).await;
    }
    // Where a cache asks, it is told otherwise only for addresses without credentials.
    let plain = send(client().get(gateway.url("/openapi.json"))).await;
    assert_eq!(plain.header("cache-control"), "");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_credential_in_the_query_is_kept_out_of_caches_too() {
    let gateway = with_tokens().start().await;
    let path = format!("/topics?access_token={}", token("ann", "admin:*"));
    is_kept_out_of_caches(&gateway, Method::GET, &path, 401).await;
    let open = Gateway::embedded().start().await;
    is_kept_out_of_caches(&open, Method::GET, &path, 200).await;
}
