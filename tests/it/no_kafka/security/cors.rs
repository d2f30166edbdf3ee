//! What a browser is told before and after a page of another origin calls.

use crate::support::gateway::Gateway;
use crate::support::http::{self, Reply, client};

const PAGE: &str = "https://app.example";
const RECORDS: &str = "/topics/orders/records";

async fn preflight(gateway: &Gateway, path: &str, method: &str, headers: &str) -> Reply {
    let request = client()
        .request(reqwest::Method::OPTIONS, gateway.url(path))
        .header("origin", PAGE)
        .header("access-control-request-method", method)
        .header("access-control-request-headers", headers);
    http::send(request).await
}

fn list(reply: &Reply, name: &str) -> Vec<String> {
    let values = reply.headers.get_all(name).iter();
    values
        .flat_map(|value| value.to_str().unwrap().split(','))
        .map(|entry| entry.trim().to_ascii_lowercase())
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn preflights_allow_every_method_and_header_of_the_document() {
    let gateway = Gateway::embedded()
        .set(
            "http.cors.origins",
            &format!("[\"{PAGE}\", \"http://b.example:81\"]"),
        )
        .start()
        .await;
    let document = http::get(&gateway.url("/openapi.json")).await.json();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let method = method.to_ascii_uppercase();
            let mut headers = vec![
                "authorization".to_owned(),
                "content-type".to_owned(),
                "content-encoding".to_owned(),
                "accept".to_owned(),
                "last-event-id".to_owned(),
                "x-request-id".to_owned(),
                "kafka-header-trace".to_owned(),
            ];
            let parameters = operation["parameters"].as_array();
            for parameter in parameters.into_iter().flatten() {
                if parameter["in"] == "header" {
                    headers.push(parameter["name"].as_str().unwrap().to_ascii_lowercase());
                }
            }
            let path = path.replace(['{', '}'], "");
            let reply = preflight(&gateway, &path, &method, &headers.join(",")).await;
            assert_eq!(reply.status, 200, "{method} {path}: {reply:?}");
            assert!(reply.body.is_empty());
            assert_eq!(reply.header("access-control-allow-origin"), PAGE);
            assert_eq!(reply.header("access-control-allow-credentials"), "true");
            let methods = list(&reply, "access-control-allow-methods");
            assert!(
                methods.contains(&method.to_ascii_lowercase()),
                "{methods:?}"
            );
            assert_eq!(list(&reply, "access-control-allow-headers"), headers);
            assert_eq!(reply.header("access-control-max-age"), "7200");
            assert!(list(&reply, "vary").contains(&"origin".to_owned()));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn headers_that_nobody_reads_are_not_allowed() {
    let gateway = Gateway::embedded()
        .set("http.cors.origins", PAGE)
        .start()
        .await;
    let asked = "Content-Type, X-Evil, Kafka-Header-B3, kafka-headers-x, Cookie";
    let reply = preflight(&gateway, RECORDS, "POST", asked).await;
    assert_eq!(
        list(&reply, "access-control-allow-headers"),
        ["content-type", "kafka-header-b3"]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_may_read_every_answer_and_its_headers() {
    let gateway = Gateway::embedded()
        .set("http.cors.origins", PAGE)
        .set("limits.requests_per_second", "1000")
        .start()
        .await;
    let url = gateway.url(RECORDS);
    let written = client()
        .post(&url)
        .header("origin", PAGE)
        .header("content-type", "text/plain")
        .body("1");
    let written = http::send(written).await;
    let one = gateway.url("/topics/orders/partitions/0/records/0");
    let raw = client()
        .get(one)
        .header("origin", PAGE)
        .header("accept", "application/octet-stream");
    let raw = http::send(raw).await;
    let missing = client().get(gateway.url("/nothing")).header("origin", PAGE);
    let missing = http::send(missing).await;
    for (reply, status) in [(&written, 200), (&raw, 200), (&missing, 404)] {
        assert_eq!(reply.status, status, "{reply:?}");
        assert_eq!(reply.header("access-control-allow-origin"), PAGE);
        assert!(list(reply, "vary").contains(&"origin".to_owned()));
        let exposed = list(reply, "access-control-expose-headers");
        for name in reply.headers.keys().map(|name| name.as_str()) {
            let safe = [
                "content-type",
                "content-length",
                "cache-control",
                "date",
                "vary",
                "content-security-policy",
                "x-content-type-options",
                "content-disposition",
            ];
            if !safe.contains(&name) && !name.starts_with("access-control-") {
                assert!(exposed.iter().any(|e| e == name), "{name}: {exposed:?}");
            }
        }
    }
    assert_eq!(raw.header("kafka-offset"), "0");
    assert_eq!(written.header("ratelimit-limit"), "1000");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_origins_no_answer_speaks_of_cors() {
    let gateway = Gateway::embedded().start().await;
    let own = client()
        .get(gateway.url("/"))
        .header("origin", gateway.url(""));
    let plain = client().get(gateway.url("/"));
    let options = client()
        .request(reqwest::Method::OPTIONS, gateway.url(RECORDS))
        .header("origin", gateway.url(""))
        .header("access-control-request-method", "POST");
    for (request, status) in [(own, 200), (plain, 200), (options, 405)] {
        let reply = http::send(request).await;
        assert_eq!(reply.status, status, "{reply:?}");
        let names: Vec<_> = reply.headers.keys().map(|name| name.as_str()).collect();
        assert!(
            names
                .iter()
                .all(|name| !name.starts_with("access-control-")),
            "{names:?}"
        );
        assert!(!list(&reply, "vary").contains(&"origin".to_owned()));
    }
    let refused = preflight(&gateway, RECORDS, "POST", "content-type").await;
    assert_eq!(refused.status, 403);
    assert_eq!(refused.header("access-control-allow-origin"), "");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn options_that_asks_nothing_is_no_preflight() {
    let gateway = Gateway::embedded()
        .set("http.cors.origins", PAGE)
        .start()
        .await;
    let request = client().request(reqwest::Method::OPTIONS, gateway.url(RECORDS));
    let reply = http::send(request).await;
    assert_eq!(reply.status, 405);
    assert_eq!(reply.json()["error_code"], 405);
}
