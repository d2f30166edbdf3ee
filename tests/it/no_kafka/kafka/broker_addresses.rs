//! Clients are not told where the brokers are, whatever goes wrong on the way there. The log tells.

use std::time::Duration;

use serde_json::json;

use crate::support::eventually;
use crate::support::gateway::Gateway;
use crate::support::http::{get, post_json};
use crate::support::ws::Client;

const BOUND: Duration = Duration::from_secs(60);
/// A port of which nobody who binds any free one becomes the owner.
const AWAY: &str = "127.0.0.1:1";

fn assert_no_address(text: &str) {
    assert!(
        !text.contains(AWAY) && !text.contains("127.0.0.1"),
        "{text}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn errors_have_no_broker_addresses_and_the_log_has_them() {
    let gateway = Gateway::builder(AWAY)
        .set("kafka.metadata_timeout_ms", "2000")
        .set("http.health_paths", "true")
        .start()
        .await;
    let written = post_json(&gateway.url("/topics/orders/records"), &json!({"value": 1})).await;
    let read = get(&gateway.url("/topics/orders/records")).await;
    let listed = get(&gateway.url("/topics")).await;
    for reply in [written, read, listed] {
        assert!(reply.status.is_server_error(), "{}", reply.text());
        assert_no_address(reply.text());
    }
    let ready = get(&gateway.url("/ready")).await;
    assert_eq!(ready.status, 503, "{}", ready.text());
    assert_no_address(ready.text());

    let mut session = Client::welcomed(&gateway).await;
    let subscribe = json!({
        "type": "subscribe", "id": 1, "sub": "o", "group": "g", "topics": ["orders"],
    });
    let refused = session.ask(subscribe).await;
    assert_eq!(refused["type"], "error", "{refused}");
    assert_no_address(&refused.to_string());

    eventually(BOUND, async || {
        let log = gateway.stderr();
        let tells = ["Kafka's client reports a failure", "no broker of"];
        log.lines()
            .any(|line| line.contains(AWAY) && tells.iter().any(|words| line.contains(words)))
    })
    .await;
}
