//! `EventSource` in Chromium.

use serde_json::{Value, json};

use super::{topic_of, write_numbers};
use crate::streams::PROMPT;
use crate::support::browser::Browser;
use crate::support::gateway::{Builder, Gateway};
use crate::support::tcp_proxy::TcpProxy;
use crate::support::tokens::token;
use crate::support::{eventually, http, kafka, metric, shared_gateway};

/// A page of the gateway's own address follows a topic to its end; it is cut in the middle.
async fn is_cut_and_comes_back(gateway: Builder, ticket: impl AsyncFn(&Gateway, &str) -> String) {
    let Some(browser) = Browser::find().await else {
        return;
    };
    let plain = kafka().await.plain();
    let name = topic_of(&plain, "page", 1).await;
    write_numbers(&plain, &name, 0..10).await;
    let gateway = gateway.start().await;
    let front = TcpProxy::of(&gateway).await;
    let query = format!(
        "from=earliest&until=0@20&retry=200{}",
        ticket(&gateway, &name).await
    );
    let steps = vec![
        json!({"open": front.url("/docs")}),
        json!({"stream": front.url(&format!("/topics/{name}/records?{query}"))}),
    ];
    let cut = async {
        let delivered = "stream_records_delivered_total";
        eventually(6 * PROMPT, async || metric(&gateway, delivered).await > 9.5).await;
        front.cut();
        write_numbers(&plain, &name, 10..25).await;
    };
    let (results, ()) = tokio::join!(browser.run(steps), cut);
    let events = results[1].as_array().unwrap();
    let offsets: Vec<i64> = events
        .iter()
        .filter(|event| event[0] == "message")
        .map(|event| event[1]["offset"].as_i64().unwrap())
        .collect();
    let others: Vec<&Value> = events
        .iter()
        .map(|event| &event[0])
        .filter(|name| *name != "message")
        .collect();
    // Whether or not the first `ready`, and all of the first ten, had got there when it was cut.
    assert_eq!(others[others.len().saturating_sub(2)..], ["ready", "end"]);
    assert!(others.len() <= 3, "{others:?}");
    assert_eq!(offsets, (0..20).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_that_is_cut_off_sees_all_once() {
    let gateway = Gateway::builder(&kafka().await.bootstrap());
    is_cut_and_comes_back(gateway, async |_: &Gateway, _: &str| String::new()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_with_a_ticket_comes_back_with_it() {
    let gateway = Gateway::builder(&kafka().await.bootstrap()).with_tokens();
    let ticket = async |gateway: &Gateway, topic: &str| {
        let wish = json!({"kind": "sse", "topics": [topic]});
        let request = http::client().post(gateway.url("/tickets")).json(&wish);
        let reply = http::send(request.bearer_auth(token("ann", "consume:*"))).await;
        assert_eq!(reply.status, 201, "{}", reply.text());
        format!("&ticket={}", reply.json()["ticket"].as_str().unwrap())
    };
    is_cut_and_comes_back(gateway, ticket).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_source_in_a_real_page_reads_to_the_end_and_stops() {
    let Some(browser) = Browser::find().await else {
        return;
    };
    let plain = kafka().await.plain();
    let name = topic_of(&plain, "page", 1).await;
    write_numbers(&plain, &name, 0..3).await;
    let gateway = shared_gateway().await;
    let query = "from=earliest&until=end&retry=100";
    let seen = browser
        .run(vec![
            json!({"open": gateway.url("/docs")}),
            json!({"stream": gateway.url(&format!("/topics/{name}/records?{query}"))}),
        ])
        .await;
    let seen = seen[1].as_array().unwrap();
    let types: Vec<&str> = seen
        .iter()
        .map(|event| event[0].as_str().unwrap())
        .collect();
    assert_eq!(types, ["ready", "message", "message", "message", "end"]);
    let values: Vec<i64> = seen
        .iter()
        .filter_map(|event| event[1]["value"]["n"].as_i64())
        .collect();
    assert_eq!(values, [0, 1, 2]);
}
