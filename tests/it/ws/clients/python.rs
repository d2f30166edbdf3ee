//! On Python with `websockets`, which also sends what browsers cannot: messages in pieces, and pings.

use std::process::Command;

use serde_json::json;

use super::scaling::scale;
use super::{BOUND, broker, do_as_the_document_says};
use crate::support::blocking;
use crate::support::gateway::Gateway;
use crate::support::process::Supervised;
use crate::support::python::Python;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_client_of_the_document_does_what_it_says() {
    if let Some(python) = Python::find().await {
        let python = Command::new(python.program());
        do_as_the_document_says("python", "client.py", python).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: copies come and go while records are handled"]
async fn copies_of_the_client_come_and_go_and_no_record_is_handled_twice() {
    if let Some(python) = Python::find().await {
        let slow = (
            "    if record[\"value\"][\"total\"] < 0:",
            "    await asyncio.sleep(0.02)\n    if record[\"value\"][\"total\"] < 0:",
        );
        let python = Command::new(python.program());
        scale("python", "client.py", slow, python).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_in_pieces_and_pings_of_both_sides_go_through() {
    let Some(python) = Python::find().await else {
        return;
    };
    // Pings of the gateway come several times while the script waits, for longer than it would be waited for
    // without a pong.
    let gateway = Gateway::builder(&broker().await.bootstrap())
        .set("websocket.ping_interval_ms", "3000")
        .set("websocket.max_message_bytes", "65536")
        .start()
        .await;
    let mut command = Command::new(python.program());
    command
        .arg(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/python/frames.py"
        ))
        .arg(gateway.url("/ws").replacen("http", "ws", 1));
    let (status, stdout, stderr) = blocking(move || {
        let mut script = Supervised::new("tidegate-client-");
        script.spawn(&mut command);
        (script.wait(BOUND), script.stdout(), script.stderr())
    })
    .await;
    assert!(
        status.is_some_and(|status| status.success()),
        "{status:?}: {stdout}{stderr}"
    );
    let seen: serde_json::Value = serde_json::from_str(&stdout).expect(&stderr);
    let text = "näive ☃ 𝄞".repeat(40);
    for kind in ["bytes", "empty_pieces", "ping_between_pieces"] {
        assert_eq!(seen[kind], json!({"type": "pong", "id": kind, "t": text}));
    }
    assert_eq!(seen["ping"], true, "a ping with a payload has its pong");
    assert_eq!(seen["after_silence"]["id"], "still here");
    assert_eq!(seen["binary"], json!([1003, "binary_not_supported"]));
    assert_eq!(seen["pieces_too_large"], json!([1009, "message_too_large"]));
    assert_eq!(seen["no_utf8"], json!([1007, "invalid_utf8"]));
    assert_eq!(seen["bye"], json!([1000, "bye"]));
    // It offered to compress, and was told no.
    assert_eq!(seen["extensions"], json!([]));
    assert_eq!(seen["subprotocol"], "tidegate.v1");
}
