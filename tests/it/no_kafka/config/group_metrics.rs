//! The names of groups in metrics: whoever may use groups makes them up, so that each principal has so many
//! and nobody takes the room of others.

use reqwest::Method;
use serde_json::json;

use crate::support::gateway::Gateway;
use crate::support::http::{client, get, send};
use crate::support::tokens::token;

/// How many groups of one principal have labels of their own.
const OF_ONE: usize = 100;

async fn make(gateway: &Gateway, token: &str, group: &str) {
    let request = client()
        .post(gateway.url(&format!("/consumers/{group}")))
        .header("content-type", "application/vnd.kafka.v2+json")
        .bearer_auth(token);
    let made = send(request.body(json!({"name": "one"}).to_string())).await;
    assert_eq!(made.status, 200, "{}", made.text());
}

/// The value of the series of this group, if it has one.
async fn instances(gateway: &Gateway, group: &str) -> Option<u64> {
    let reply = get(&gateway.management_url("/metrics")).await;
    let start = format!("rest_consumer_instances{{group=\"{group}\"}} ");
    let text = reply.text();
    let value = text.lines().find_map(|line| line.strip_prefix(&start))?;
    Some(value.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_principal_takes_no_label_of_others_and_unused_ones_are_freed() {
    let gateway = Gateway::embedded()
        .with_tokens()
        .set("limits.instances_per_principal", "200")
        .start()
        .await;
    let (ann, bob) = (token("ann", "group:*"), token("bob", "group:*"));
    for n in 0..=OF_ONE {
        make(&gateway, &ann, &format!("ann-{n}")).await;
    }
    make(&gateway, &bob, "bob").await;
    assert_eq!(instances(&gateway, "ann-0").await, Some(1));
    assert_eq!(instances(&gateway, &format!("ann-{OF_ONE}")).await, None);
    assert_eq!(instances(&gateway, "(other)").await, Some(1));
    assert_eq!(instances(&gateway, "bob").await, Some(1));

    let url = gateway.url("/consumers/ann-0/instances/one");
    let deleted = send(client().request(Method::DELETE, url).bearer_auth(&ann)).await;
    assert_eq!(deleted.status, 204, "{}", deleted.text());
    assert_eq!(instances(&gateway, "ann-0").await, Some(0));
    make(&gateway, &ann, "ann-more").await;
    assert_eq!(instances(&gateway, "ann-more").await, Some(1));
    assert_eq!(instances(&gateway, "ann-0").await, None);
}
