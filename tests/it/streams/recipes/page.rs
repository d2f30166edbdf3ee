//! Those for a page, in Chromium. `./test` skips them where there is none.

use serde_json::json;

use super::DOCUMENT;
use crate::streams::{PROMPT, topic_of, write};
use crate::support::browser::Browser;
use crate::support::doc_snippets::{block, put};
use crate::support::gateway::Gateway;
use crate::support::tcp_proxy::TcpProxy;
use crate::support::tokens::token;
use crate::support::{eventually, http, kafka, metric};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_lines_show_what_comes_and_go_on_after_a_cut() {
    let Some(browser) = Browser::find().await else {
        return;
    };
    let plain = kafka().await.plain();
    let topic = topic_of(&plain, "lines", 1).await;
    for n in 0..12 {
        write(&plain, &topic, 0, &n.to_string()).await;
    }
    let gateway = Gateway::start(&kafka().await.bootstrap()).await;
    let front = TcpProxy::of(&gateway).await;
    let code = put(&block(DOCUMENT, "## In a page", "js"), "orders", &topic);
    assert!(code.lines().count() <= 10);
    // What the gateway has written need not be with the page when it is cut off; the page says when it is.
    let seen = topic_of(&plain, "lines-seen", 1).await;
    let code = format!(
        "{code}\nsource.addEventListener('message', ({{ data }}) => {{\n\
         if (JSON.parse(data).value === 11) fetch('/topics/{seen}/records', {{ method: 'POST', \
         headers: {{ 'content-type': 'application/json' }}, body: '{{\"value\": 1}}' }}); }})"
    );
    let steps = vec![
        json!({"open": front.url("/docs")}),
        json!({"script": {"code": code, "until": "0 13 13"}}),
    ];
    let cut = async {
        eventually(6 * PROMPT, async || plain.watermarks(&seen, 0).await.1 == 1).await;
        front.cut();
        for n in 12..14 {
            write(&plain, &topic, 0, &n.to_string()).await;
        }
    };
    tokio::join!(browser.run(steps), cut);
    assert!(metric(&gateway, "stream_records_delivered_total").await < 12.5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ticket_lets_a_page_in_that_cannot_set_headers() {
    let Some(browser) = Browser::find().await else {
        return;
    };
    let plain = kafka().await.plain();
    let topic = topic_of(&plain, "ticket", 1).await;
    write(&plain, &topic, 0, "7").await;
    let gateway = Gateway::builder(&kafka().await.bootstrap())
        .with_tokens()
        .start()
        .await;
    let line = "set headers: with `auth.mode = \"jwt\"` get a ticket first and put it in the URL.";
    let code = put(&block(DOCUMENT, line, "js"), "orders", &topic);
    let code = put(&code, "?ticket=", "?from=earliest&ticket=");
    let code = put(&code, "new EventSource(", "const source = new EventSource(");
    let token = token("ann", "consume:*");
    let code = format!(
        "(async () => {{ const token = {token:?};\n{code}\n\
         source.onmessage = ({{ data }}) => console.log('came', JSON.parse(data).value); }})()"
    );
    let steps = vec![
        json!({"open": gateway.url("/docs")}),
        json!({"script": {"code": code, "until": "came 7"}}),
    ];
    browser.run(steps).await;
}

/// How many tickets the gateway has given.
async fn tickets(gateway: &Gateway) -> usize {
    let metrics = http::get(&gateway.management_url("/metrics")).await;
    let of_tickets = metrics.text().lines().filter(|line| {
        line.starts_with("http_requests_total{")
            && line.contains("route=\"/tickets\"")
            && line.contains("status=\"201\"")
    });
    let counts = of_tickets.map(|line| line.rsplit(' ').next().unwrap().parse::<usize>().unwrap());
    counts.sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: tickets expire"]
async fn a_page_gets_a_new_ticket_and_misses_nothing() {
    let Some(browser) = Browser::find().await else {
        return;
    };
    let plain = kafka().await.plain();
    let topic = topic_of(&plain, "tickets", 1).await;
    let gateway = Gateway::builder(&kafka().await.bootstrap())
        .with_tokens()
        .set("auth.sse_ticket_ttl_s", "4")
        .start()
        .await;
    let code = put(
        &block(DOCUMENT, "### A page that stays open", "js"),
        "orders",
        &topic,
    );
    let token = token("ann", "consume:*");
    // Numbers come all the while, and each once.
    let code = format!(
        "const token = async () => {token:?};\n\
         const seen = [];\n\
         const show = ({{ value }}) => {{ seen.push(value); console.log('seen', seen.join(' ')); }};\n\
         {code}"
    );
    let all: Vec<String> = (0..12).map(|n| n.to_string()).collect();
    let steps = vec![
        json!({"open": gateway.url("/docs")}),
        json!({"script": {"code": code, "until": format!("seen {}", all.join(" "))}}),
    ];
    let reading = browser.run(steps);
    let writing = async {
        // A page that was not there yet would not see them.
        eventually(6 * PROMPT, async || {
            metric(&gateway, "tail_upstreams").await > 0.5
        })
        .await;
        for (round, values) in all.chunks(3).enumerate() {
            eventually(PROMPT, async || tickets(&gateway).await > round).await;
            for value in values {
                write(&plain, &topic, 0, value).await;
            }
        }
    };
    tokio::join!(reading, writing);
}
