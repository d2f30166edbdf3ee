//! A static member of a group that connects again while the session before it is still there.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::gateway::Gateway;
use crate::support::ws::Client;
use crate::support::{kafka, topic};

/// Far above the moment that it takes, and below the ten seconds after which a session that does not
/// get its group left is given up.
const SOON: Duration = Duration::from_secs(8);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_is_taken_over_leaves_at_once() {
    let kafka = kafka().await;
    let gateway = Gateway::start(&kafka.bootstrap()).await;
    let topic = topic("ws-takeover");
    kafka.plain().create_topic(&topic, 1, &[]).await;
    let mut before = Client::welcomed(&gateway).await;
    let options = json!({"instance_id": "tab"});
    before.subscribe(&topic, &topic, options.clone()).await;
    // A machine that stands still for so long does not do so each time.
    let mut longest = Duration::MAX;
    for _ in 0..3 {
        if longest < SOON {
            break;
        }
        longest = Duration::ZERO;
        for _ in 0..8 {
            let mut next = Client::welcomed(&gateway).await;
            let start = Instant::now();
            next.subscribe(&topic, &topic, options.clone()).await;
            longest = longest.max(start.elapsed());
            let closed = before.closed().await;
            assert_eq!(closed.code, Some(4505));
            assert_eq!(closed.reason, "taken_over");
            before = next;
        }
    }
    assert!(longest < SOON, "{longest:?}");
    before.bye().await;
}
