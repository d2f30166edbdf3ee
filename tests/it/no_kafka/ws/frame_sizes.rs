//! What becomes of WebSocket frames by their size.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::gateway::Gateway;
use crate::support::ws::Client;

/// Far above the moment that it takes, and below the minutes after which the gateway would look at its
/// socket without being told to.
const SOON: Duration = Duration::from_secs(50);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_frame_is_answered_at_once() {
    let gateway = Gateway::embedded()
        .set("websocket.ping_interval_ms", "300000")
        .start()
        .await;
    let mut client = Client::welcomed(&gateway).await;
    // A task of the runtime may do so much at once: it is used up in the middle of these.
    for size in [100_000, 500_000, 900_000, 1_500_000, 2_000_000] {
        let text = "x".repeat(size);
        let start = Instant::now();
        let pong = client
            .ask(json!({"type": "ping", "id": size, "t": text}))
            .await;
        let took = start.elapsed();
        assert_eq!(pong["t"], text);
        assert!(took < SOON, "{size} bytes: {took:?}");
        client.ask(json!({"type": "ping", "id": "small"})).await;
    }
    client.bye().await;
}
