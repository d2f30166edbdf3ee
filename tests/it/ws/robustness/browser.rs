//! A page in a real browser, which can set no header on its socket.

use serde_json::{Value, json};

use super::broker;
use crate::support::browser::{Browser, Pages};
use crate::support::gateway::Gateway;
use crate::support::http::{client, send};
use crate::support::tokens::token;
use crate::support::topic;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_gets_records_by_a_ticket_or_a_subprotocol_and_a_foreign_one_nothing() {
    let Some(browser) = Browser::find().await else {
        return;
    };
    let pages = Pages::start().await;
    let origin = format!("http://app.example:{}", pages.port);
    let gateway = Gateway::builder(&broker().await.bootstrap())
        .with_tokens()
        .set("http.cors.origins", &origin)
        .start()
        .await;
    let topic = topic("ws-page");
    broker().await.plain().create_topic(&topic, 1, &[]).await;
    let token = token("ann", "consume:* group:* produce:*");
    let write = client()
        .post(gateway.url(&format!("/topics/{topic}/records")))
        .bearer_auth(&token)
        .json(&json!([{"value": {"n": 1}}, {"value": {"n": 2}}]));
    assert_eq!(send(write).await.status, 200);
    let url = |group: &str| {
        let path = format!("/ws?topics={topic}&group={topic}-{group}&offset_reset=earliest");
        gateway.url(&path).replacen("http", "ws", 1)
    };
    let ticket = json!({"url": gateway.url("/tickets"), "token": token});
    let bearer = format!("tidegate.bearer.{token}");
    let steps = |page: &str| {
        vec![
            json!({"open": format!("http://{page}:{}/", pages.port)}),
            json!({"socket": {
                "url": url("ticket"), "ticket": ticket, "protocols": ["tidegate.v1"],
                "type": "records", "count": 1,
            }}),
            json!({"socket": {
                "url": url("bearer"), "protocols": ["tidegate.v1", bearer],
                "type": "records", "count": 1,
            }}),
        ]
    };
    let seen = browser.run(steps("app.example")).await;
    for seen in &seen[1..] {
        assert_eq!(
            (&seen["opened"], &seen["code"]),
            (&json!(true), &json!(1000)),
            "{seen}"
        );
        assert_eq!(seen["protocol"], "tidegate.v1");
        let records = seen["frames"][0]["records"].as_array().unwrap();
        assert_eq!(records[0]["value"], json!({"n": 1}), "{seen}");
    }
    // It cannot even ask for a ticket, so it comes with the token alone.
    let mut foreign = steps("evil.example");
    foreign.remove(1);
    let seen = browser.run(foreign).await;
    let nothing: [Value; 0] = [];
    assert_eq!(
        (&seen[1]["opened"], &seen[1]["code"]),
        (&json!(false), &json!(1006))
    );
    assert_eq!(seen[1]["frames"], json!(nothing));
}
