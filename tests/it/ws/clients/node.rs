//! On Node.js, with the `WebSocket` that browsers have too. Node.js has had it by itself since 22, and
//! since 20.10 when it is asked to.

use std::process::Command;

use super::do_as_the_document_says;
use super::scaling::scale;
use crate::support::blocking;

/// Node.js and what it is to be asked; `None` where there is none, which it says on standard error.
pub async fn node() -> Option<Command> {
    blocking(|| {
        let has_it = |flag: &str| {
            let check = "process.exit(typeof WebSocket === 'function' ? 0 : 1)";
            let output = Command::new("node").args([flag, "-e", check]).output();
            output.is_ok_and(|output| output.status.success())
        };
        let flags = ["--no-warnings", "--experimental-websocket"];
        let Some(flag) = flags.into_iter().find(|flag| has_it(flag)) else {
            eprintln!("SKIPPED: no Node.js with WebSocket (20.10 or newer) to test with");
            return None;
        };
        let mut command = Command::new("node");
        command.arg(flag);
        Some(command)
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_client_of_the_document_does_what_it_says() {
    if let Some(node) = node().await {
        do_as_the_document_says("js", "client.mjs", node).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: copies come and go while records are handled"]
async fn copies_of_the_client_come_and_go_and_no_record_is_handled_twice() {
    if let Some(node) = node().await {
        let slow = (
            "  if (value.total < 0)",
            "  await new Promise((done) => setTimeout(done, 20));\n  if (value.total < 0)",
        );
        scale("js", "client.mjs", slow, node).await;
    }
}
