//! Pages of other sites, as their requests look on the wire: refused at every endpoint, and nothing of
//! theirs reaches Kafka. `browser` does the same with a real one.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::fault::FaultBroker;
use crate::support::gateway::{Builder, Gateway};
use crate::support::http::{self, Reply, client, raw_request};
use crate::support::kafka_client::KafkaClient;

const TOPIC: &str = "orders";
const PAGE: &str = "https://app.example";

async fn broker() -> FaultBroker {
    let broker = FaultBroker::start().await;
    broker.create_topic(TOPIC, 1);
    broker
}

fn gateway(broker: &FaultBroker) -> Builder {
    Gateway::builder(&broker.bootstrap()).set("http.cors.origins", PAGE)
}

async fn post(gateway: &Gateway, headers: &[(&str, &str)]) -> Reply {
    let mut request = client()
        .post(gateway.url(&format!("/topics/{TOPIC}/records")))
        .header("content-type", "text/plain")
        .body("from a page");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    http::send(request).await
}

async fn written(broker: &FaultBroker) -> usize {
    let records = KafkaClient::new(&broker.bootstrap())
        .consume_all(TOPIC)
        .await;
    records.len()
}

/// Paths of the OpenAPI document with their methods, parameters filled in, and what is no path.
async fn endpoints(gateway: &Gateway) -> Vec<(String, String)> {
    let document = http::get(&gateway.url("/openapi.json")).await.json();
    let mut endpoints = vec![
        ("GET".to_owned(), "/no/such/path".to_owned()),
        ("PATCH".to_owned(), "/openapi.json".to_owned()),
        ("OPTIONS".to_owned(), "/topics/a/records".to_owned()),
    ];
    for (path, item) in document["paths"].as_object().unwrap() {
        let path = path
            .split('/')
            .map(|part| if part.starts_with('{') { "1" } else { part })
            .collect::<Vec<_>>()
            .join("/");
        for method in item.as_object().unwrap().keys() {
            endpoints.push((method.to_uppercase(), path.clone()));
        }
    }
    endpoints
}

fn assert_refused(reply: &Reply, header: &str, setting: &str) {
    let Value::Object(body) = reply.json() else {
        panic!("no object: {reply:?}");
    };
    assert_eq!(body["error_code"], reply.status.as_u16(), "{reply:?}");
    assert_eq!(body["field"], header, "{reply:?}");
    assert!(!reply.header("x-request-id").is_empty(), "{reply:?}");
    let message = body["message"].as_str().unwrap();
    assert!(
        message.contains(header) && message.contains(setting),
        "{message}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_endpoint_refuses_a_page_of_another_site() {
    let broker = broker().await;
    let gateway = gateway(&broker).start().await;
    let endpoints = endpoints(&gateway).await;
    assert!(endpoints.len() > 7, "{endpoints:?}");
    for (method, path) in endpoints {
        for (header, value) in [
            ("Origin", "https://evil.example"),
            ("Origin", "null"),
            ("Sec-Fetch-Site", "cross-site"),
        ] {
            let request = client()
                .request(method.parse().unwrap(), gateway.url(&path))
                .header(header, value);
            let reply = http::send(request).await;
            assert_eq!(reply.status, 403, "{method} {path} {value}");
            if method != "HEAD" {
                assert_refused(&reply, header, "http.cors.origins");
            }
        }
    }
    let metrics = gateway.management_url("/metrics");
    let request = client().get(metrics).header("Origin", PAGE);
    assert_eq!(http::send(request).await.status, 403);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_cross_site_request_writes_no_record() {
    let broker = broker().await;
    let gateway = gateway(&broker).start().await;
    let own = gateway.url("");
    for (headers, status) in [
        (vec![("origin", "https://evil.example")], 403),
        (vec![("origin", "null")], 403),
        (vec![("sec-fetch-site", "cross-site")], 403),
        (vec![("host", "evil.example")], 421),
        // The page's own name, which it has pointed at loopback.
        (
            vec![
                ("host", "evil.example"),
                ("origin", "http://evil.example"),
                ("sec-fetch-site", "same-origin"),
            ],
            421,
        ),
    ] {
        let reply = post(&gateway, &headers).await;
        assert_eq!(reply.status, status, "{headers:?}: {reply:?}");
    }
    assert_eq!(written(&broker).await, 0);

    for headers in [
        vec![],
        vec![("origin", PAGE), ("sec-fetch-site", "cross-site")],
        vec![("origin", own.as_str()), ("sec-fetch-site", "same-origin")],
        vec![("host", "localhost")],
    ] {
        let reply = post(&gateway, &headers).await;
        assert_eq!(reply.status, 200, "{headers:?}: {reply:?}");
    }
    assert_eq!(written(&broker).await, 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_leads_to_the_api_page_and_to_nothing_else() {
    let gateway = Gateway::embedded().start().await;
    let follow = async |path: &str| {
        let request = client()
            .get(gateway.url(path))
            .header("accept", "text/html")
            .header("sec-fetch-site", "cross-site")
            .header("sec-fetch-mode", "navigate")
            .header("sec-fetch-dest", "document");
        http::send(request).await.status.as_u16()
    };
    assert_eq!(follow("/").await, 200);
    assert_eq!(follow("/docs").await, 200);
    assert_eq!(follow("/docs/index.html").await, 200);
    assert_eq!(follow("/topics/orders/records").await, 403);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn allowed_hosts_are_further_names_of_the_gateway() {
    let gateway = Gateway::embedded()
        .set("http.allowed_hosts", "gateway.example")
        .start()
        .await;
    for (host, status) in [
        ("gateway.example", 200),
        ("GATEWAY.example:1", 200),
        ("other.example", 421),
    ] {
        let request = client().get(gateway.url("/")).header("host", host);
        let reply = http::send(request).await;
        assert_eq!(reply.status, status, "{host}");
        if status == 421 {
            assert_refused(&reply, "Host", "http.allowed_hosts");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_of_a_page_is_refused_on_every_address() {
    let gateway = Gateway::embedded()
        .arg("--listen")
        .arg("0.0.0.0:0")
        .set("auth.mode", "none")
        .set("advertised_url", "https://kafka.example/gw")
        .start()
        .await;
    let listeners = gateway.url("");
    let (_, port) = listeners.rsplit_once(':').unwrap();
    assert!(listeners.contains("0.0.0.0:"), "{listeners}");
    let url = format!("http://127.0.0.1:{port}/topics/{TOPIC}/records");
    // As a browser sends a page's own GET over plain HTTP: nothing but Host tells of it.
    for (host, status) in [
        ("evil.example", 421),
        ("kafka.example.evil", 421),
        ("kafka.example", 200),
        ("192.0.2.1:8082", 200),
        ("tidegate:8082", 200),
        ("tidegate.shop.svc.cluster.local", 200),
    ] {
        let post = client().post(&url).json(&json!({"value": 1}));
        let reply = http::send(post.header("host", host)).await;
        assert_eq!(reply.status, status, "{host}: {}", reply.text());
        let reply = http::send(client().get(&url).header("host", host)).await;
        assert_eq!(reply.status, status, "{host}: {}", reply.text());
        if status == 421 {
            assert_refused(&reply, "Host", "http.allowed_hosts");
            assert!(reply.text().contains("advertised_url"), "{}", reply.text());
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http2_names_its_host_in_another_place() {
    let gateway = Gateway::embedded().start().await;
    let client = reqwest::Client::builder()
        .http2_prior_knowledge()
        .resolve(
            "evil.example",
            gateway.address().parse().expect("host and port"),
        )
        .build()
        .unwrap();
    let port = gateway.address().rsplit(':').next().unwrap();
    let evil = client.get(format!("http://evil.example:{port}/"));
    assert_eq!(http::send(evil).await.status, 421);
    assert_eq!(http::send(client.get(gateway.url("/"))).await.status, 200);
    let own = client
        .get(gateway.url("/"))
        .header("origin", gateway.url(""));
    assert_eq!(http::send(own).await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proxy_tells_the_gateways_own_name_when_it_is_trusted() {
    let headers = |host: &str| {
        vec![
            ("x-forwarded-for".to_owned(), "203.0.113.7".to_owned()),
            ("x-forwarded-proto".to_owned(), "https".to_owned()),
            ("x-forwarded-host".to_owned(), host.to_owned()),
        ]
    };
    for (trusted, host, status) in [
        ("[\"127.0.0.1\"]", "gw.example", 200),
        ("[\"127.0.0.0/8\", \"::1\"]", "gw.example", 200),
        ("[\"127.0.0.1\"]", "other.example", 403),
        ("[]", "gw.example", 403),
    ] {
        let gateway = Gateway::embedded()
            .set("http.trusted_proxies", trusted)
            .start()
            .await;
        let mut request = client()
            .get(gateway.url("/"))
            .header("origin", "https://gw.example");
        for (name, value) in headers(host) {
            request = request.header(name, value);
        }
        assert_eq!(http::send(request).await.status, status, "{trusted} {host}");
    }
}

/// What no client library sends.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn odd_requests_have_clear_answers() {
    let gateway = Gateway::embedded().start().await;
    for (head, status) in [
        ("GET / HTTP/1.0\r\n\r\n", "200"),
        (
            "GET / HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\nConnection: close\r\n\r\n",
            "400",
        ),
        (
            "GET / HTTP/1.1\r\nHost: localhost\r\nOrigin: http://a\r\nOrigin: http://b\r\nConnection: close\r\n\r\n",
            "400",
        ),
        (
            "GET / HTTP/1.1\r\nHost: localhost\r\nOrigin:\r\nConnection: close\r\n\r\n",
            "403",
        ),
        (
            "GET / HTTP/1.1\r\nHost: \r\nConnection: close\r\n\r\n",
            "421",
        ),
        (
            "GET http://evil.example/ HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
            "421",
        ),
        (
            "GET / HTTP/1.1\r\nHost: \u{e9}vil\r\nConnection: close\r\n\r\n",
            "400",
        ),
    ] {
        let reply = raw_request(gateway.address(), head.as_bytes(), Duration::from_secs(60)).await;
        let got = reply.text.split(' ').nth(1).unwrap_or_default();
        assert_eq!(got, status, "{head:?}: {}", reply.text);
    }
    let long = format!("https://{}.example", "a".repeat(10_000));
    let request = client().get(gateway.url("/")).header("origin", long);
    let reply = http::send(request).await;
    assert_eq!(reply.status, 403);
    assert!(reply.body.len() < 1000, "{}", reply.body.len());
    assert_eq!(
        http::post_json(&gateway.url("/topics/a/records"), &json!({"value": 1}))
            .await
            .status,
        200
    );
}
