//! A real page in Chromium tries to get at Kafka: what of it arrives, and what the page learns. And the
//! client of docs/websocket.md, in a page that is let in.
//!
//! Each name under `.example` leads to this machine in that browser, as the owner of a name could
//! make it do.

use serde_json::{Value, json};

use crate::support::browser::{Browser, Pages};
use crate::support::fault::FaultBroker;
use crate::support::gateway::Gateway;
use crate::support::http;
use crate::support::kafka_client::KafkaClient;

const TOPIC: &str = "orders";
const RECORDS: &str = "/topics/orders/records";

async fn broker() -> FaultBroker {
    let broker = FaultBroker::start().await;
    broker.create_topic(TOPIC, 1);
    broker
}

async fn written(broker: &FaultBroker) -> Vec<String> {
    let records = KafkaClient::new(&broker.bootstrap())
        .consume_all(TOPIC)
        .await;
    records
        .iter()
        .filter_map(|record| record.text().map(str::to_owned))
        .collect()
}

/// How many GETs the gateway has answered with this status, ours of the metrics left out.
async fn gets(gateway: &Gateway, status: u16) -> f64 {
    let metrics = http::get(&gateway.management_url("/metrics")).await;
    let status = format!("status=\"{status}\"");
    let counts = metrics.text().lines().filter(|line| {
        line.starts_with("http_requests_total{")
            && line.contains("method=\"GET\"")
            && line.contains(&status)
            && !(status.contains("200") && line.contains("route=\"none\""))
    });
    counts.fold(0.0, |sum, line| {
        sum + line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()
    })
}

/// All that a page can send to a gateway, each with another value, so that Kafka tells which came.
fn tries(url: &str) -> Vec<Value> {
    let post = |mode: &str, kind: &str, body: &str| {
        json!({"fetch": {
            "url": url,
            "options": {
                "method": "POST", "mode": mode, "body": body,
                "headers": {"content-type": kind},
            },
        }})
    };
    vec![
        post("no-cors", "text/plain", "simple"),
        post("cors", "text/plain", "simple in cors mode"),
        json!({"fetch": {
            "url": url,
            "options": {
                "method": "POST",
                "credentials": "include",
                "body": r#"{"value":"with a preflight"}"#,
                "headers": {
                    "content-type": "application/json",
                    "authorization": "Bearer x",
                    "idempotency-key": "one",
                    "x-request-id": "of-the-page",
                    "kafka-header-trace": "1",
                },
            },
            "headers": ["x-request-id", "content-type"],
        }}),
        json!({"fetch": {"url": format!("{url}?from=earliest"), "options": {"mode": "no-cors"}}}),
        json!({"fetch": {"url": format!("{url}?from=earliest")}}),
        json!({"image": format!("{url}?from=earliest&limit=1")}),
        json!({"events": format!("{url}?from=earliest&limit=2")}),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_of_another_site_gets_nowhere() {
    let Some(browser) = Browser::find().await else {
        return;
    };
    let broker = broker().await;
    let gateway = Gateway::start(&broker.bootstrap()).await;
    let pages = Pages::start().await;
    let url = gateway.url(RECORDS);

    // Another site, and another port of this machine, which browsers call the same site.
    for (number, page) in ["evil.example", "127.0.0.1"].into_iter().enumerate() {
        let mut steps = vec![json!({"open": format!("http://{page}:{}/", pages.port)})];
        steps.extend(tries(&url));
        steps.push(json!({"form": {"url": url, "text": "{\"value\":\"form\"}"}}));
        let seen = browser.run(steps).await;

        let nothing = json!({"error": "TypeError"});
        let opaque = json!({"type": "opaque", "status": 0, "headers": {}});
        assert_eq!(seen[0], json!({"status": 200, "title": "A page"}));
        assert_eq!(seen[1], opaque, "{page}");
        assert_eq!(seen[2], nothing, "{page}");
        assert_eq!(seen[3], nothing, "{page}");
        assert_eq!(seen[4], opaque, "{page}");
        assert_eq!(seen[5], nothing, "{page}");
        assert_eq!(seen[6]["fired"], "error", "{page}");
        assert_eq!(seen[7]["fired"], "error", "{page}");
        // The two fetches, the picture and the events.
        assert_eq!(
            gets(&gateway, 403).await,
            4.0 * (number + 1) as f64,
            "{page}"
        );
        assert_eq!(gets(&gateway, 200).await, 0.0, "{page}");
        assert_eq!(seen[8]["status"], 403, "{page}");
        assert_eq!(written(&broker).await, [""; 0], "{page}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_of_a_listed_origin_may_call_and_no_other() {
    let Some(browser) = Browser::find().await else {
        return;
    };
    let broker = broker().await;
    let pages = Pages::start().await;
    let origin = format!("http://app.example:{}", pages.port);
    let gateway = Gateway::builder(&broker.bootstrap())
        .set("http.cors.origins", &origin)
        .start()
        .await;
    let url = gateway.url(RECORDS);

    let mut steps = vec![json!({"open": format!("http://evil.example:{}/", pages.port)})];
    steps.extend(tries(&url));
    let seen = browser.run(steps).await;
    assert_eq!(seen[3], json!({"error": "TypeError"}));
    assert_eq!(written(&broker).await, [""; 0]);
    assert_eq!(
        (gets(&gateway, 200).await, gets(&gateway, 403).await),
        (0.0, 4.0)
    );

    let mut steps = vec![json!({"open": format!("{origin}/")})];
    steps.extend(tries(&url));
    let raw = gateway.url("/topics/orders/partitions/0/records/0");
    steps.push(json!({"fetch": {
        "url": raw,
        "options": {"headers": {"accept": "application/octet-stream"}},
        "headers": ["kafka-partition", "kafka-offset", "x-request-id"],
    }}));
    steps.push(json!({"fetch": {
        "url": gateway.url("/topics/missing/records"),
        "headers": ["x-request-id"],
    }}));
    let seen = browser.run(steps).await;
    // A simple POST has an Origin too, so it is let in; the page asked not to see the answer.
    assert_eq!(seen[1]["type"], "opaque");
    assert_eq!(seen[2]["status"], 200, "{}", seen[2]);
    assert_eq!(
        seen[3],
        json!({"type": "cors", "status": 200, "headers": {
            "x-request-id": "of-the-page", "content-type": "application/json",
        }})
    );
    // A GET that is no CORS request does not say who asks.
    assert_eq!(seen[4]["type"], "opaque");
    assert_eq!(seen[5]["status"], 200, "{}", seen[5]);
    assert_eq!(seen[6]["fired"], "error");
    assert_eq!(seen[7]["fired"], "open");
    assert_eq!(seen[8]["status"], 200, "{}", seen[8]);
    assert_eq!(seen[8]["headers"]["kafka-offset"], "0");
    assert!(seen[8]["headers"]["x-request-id"].is_string());
    assert_eq!(seen[9]["status"], 404, "{}", seen[9]);
    assert!(seen[9]["headers"]["x-request-id"].is_string());
    // A fetch in its cors mode, the events, and the record; not the opaque fetch and the picture, nor
    // the four of the other page.
    assert_eq!(gets(&gateway, 200).await, 3.0);
    assert_eq!(gets(&gateway, 403).await, 6.0);
    let values = written(&broker).await;
    assert_eq!(
        values,
        ["simple", "simple in cors mode", "\"with a preflight\""]
    );
}

/// The page's name leads to the gateway, so that the browser takes both for one origin.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_that_was_pointed_at_the_gateway_opens_nothing() {
    let Some(browser) = Browser::find().await else {
        return;
    };
    let broker = broker().await;
    let gateway = Gateway::start(&broker.bootstrap()).await;
    let port = gateway.address().rsplit(':').next().unwrap();
    let rebound = format!("http://rebound.example:{port}");

    let mut steps = vec![json!({"open": format!("{rebound}/docs/index.html")})];
    steps.extend(tries(&format!("{rebound}{RECORDS}")));
    let seen = browser.run(steps).await;

    assert_eq!(seen[0]["status"], 421);
    for (step, saw) in seen[1..6].iter().enumerate() {
        assert_eq!(saw["status"], 421, "step {step}: {saw}");
    }
    assert_eq!(gets(&gateway, 200).await, 0.0);
    assert_eq!(written(&broker).await, [""; 0]);

    let gateway = Gateway::builder(&broker.bootstrap())
        .set("http.allowed_hosts", "rebound.example")
        .start()
        .await;
    let port = gateway.address().rsplit(':').next().unwrap();
    let rebound = format!("http://rebound.example:{port}");
    let mut steps = vec![json!({"open": format!("{rebound}/docs/index.html")})];
    steps.extend(tries(&format!("{rebound}{RECORDS}")));
    let seen = browser.run(steps).await;
    for (step, saw) in seen[..4].iter().enumerate() {
        assert_eq!(saw["status"], 200, "step {step}: {saw}");
    }
    assert_eq!(written(&broker).await.len(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_api_page_works_and_a_link_leads_to_it() {
    let Some(browser) = Browser::find().await else {
        return;
    };
    let broker = broker().await;
    let gateway = Gateway::start(&broker.bootstrap()).await;
    let pages = Pages::start().await;
    let page = json!({"open": format!("http://blog.example:{}/", pages.port)});
    let seen = browser
        .run(vec![
            page.clone(),
            json!({"link": gateway.url("/docs")}),
            // What the page itself does: same origin, with a body that needs no preflight there.
            json!({"fetch": {"url": RECORDS, "options": {
                "method": "POST", "body": "{\"value\":\"tried out\"}",
                "headers": {"content-type": "application/json"},
            }}}),
            json!({"fetch": {"url": "/openapi.json"}}),
            page,
            json!({"link": gateway.url(RECORDS)}),
        ])
        .await;
    assert_eq!(seen[1], json!({"status": 200, "title": "Swagger UI"}));
    assert_eq!(seen[2]["status"], 200, "{}", seen[2]);
    assert_eq!(seen[3]["status"], 200, "{}", seen[3]);
    assert_eq!(seen[5]["status"], 403, "{}", seen[5]);
    assert_eq!(written(&broker).await, ["\"tried out\""]);
}

#[cfg(feature = "embedded")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_client_of_the_document_runs_in_a_page() {
    use std::time::Duration;

    use crate::support::doc_snippets::{block, put};
    use crate::support::eventually;
    use crate::support::ws::Client;

    let Some(browser) = Browser::find().await else {
        return;
    };
    let pages = Pages::start().await;
    let page = format!("http://app.example:{}", pages.port);
    let gateway = Gateway::embedded()
        .set("http.cors.origins", &format!("[{page:?}]"))
        .start()
        .await;
    let orders = json!([
        {"key": "a", "value": {"id": 1, "total": 10}},
        {"key": "b", "value": {"id": 2, "total": -1}},
        {"key": "a", "value": {"id": 3, "total": 30}},
    ]);
    let reply = http::post_json(&gateway.url(RECORDS), &orders).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    let code = block("websocket.md", "## A whole client", "js");
    let code = put(&code, "localhost:8082", gateway.address());
    let more = "group: \"billing\", instance_id: \"tab\", max_deliveries: 2";
    let code = put(&code, "group: \"billing\"", more);
    let steps = vec![
        json!({"open": format!("{page}/")}),
        json!({"script": {"code": code, "until": "ended"}}),
    ];
    let read = async |topic: &str| {
        let url = gateway.url(&format!("/topics/{topic}/records?from=earliest"));
        let reply = http::get(&url).await;
        match reply.status.as_u16() {
            200 => reply.json()["records"].as_array().unwrap().clone(),
            _ => Vec::new(),
        }
    };
    let (seen, ()) = tokio::join!(browser.run(steps), async {
        eventually(Duration::from_secs(120), async || {
            read("invoices").await.len() == 2 && read("orders.dlq").await.len() == 1
        })
        .await;
        let mut other = Client::welcomed(&gateway).await;
        other
            .subscribe("billing", TOPIC, json!({"instance_id": "tab"}))
            .await;
        other.bye().await;
    });
    assert_eq!(seen[1]["said"], "ended 4505 taken_over");
    let invoices = read("invoices").await;
    assert_eq!(invoices[1]["value"], json!({"order": 3, "total": 30}));
    assert_eq!(
        read("orders.dlq").await[0]["headers"][0],
        json!(["error", "the total is negative"])
    );
}
