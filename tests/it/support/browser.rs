//! A real browser, where there is one, and a page for it to open.
//!
//! `tests/browser/run.mjs` drives Debian's Chromium through playwright-core. `./test` names both in
//! its environment, or leaves the tests of browsers out and says so; a plain `cargo test` looks for
//! them itself.

use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::blocking;
use super::node::{Node, TESTS, program};
use super::process::Supervised;

/// A cold start of Chromium on a busy machine, and all steps of a test.
const BOUND: Duration = Duration::from_secs(400);

/// Where the browser is.
pub struct Browser {
    chromium: String,
    modules: String,
}

impl Browser {
    /// `None` where there is none, which it says on standard error.
    pub async fn find() -> Option<Self> {
        blocking(|| match Self::look() {
            Ok(browser) => Some(browser),
            Err(missing) => {
                eprintln!("SKIPPED: no browser to test with: {missing}");
                None
            }
        })
        .await
    }

    fn look() -> Result<Self, String> {
        let node = Node::look()?;
        let chromium = program("chromium").or_else(|_| program("chromium-browser"))?;
        Ok(Self {
            chromium: chromium.to_string_lossy().into_owned(),
            modules: node.modules,
        })
    }

    /// Does these steps in one tab of a new browser; what the page saw of each.
    pub async fn run(&self, steps: Vec<Value>) -> Vec<Value> {
        let asked = steps.len();
        let mut order = json!({
            "chromium": self.chromium, "modules": self.modules, "steps": steps,
        });
        let results: Vec<Value> = blocking(move || {
            let mut process = Supervised::new("tidegate-browser-");
            let profile = process.folder().join("profile");
            order["profile"] = profile.to_string_lossy().into_owned().into();
            let mut command = Command::new("node");
            command
                .arg(format!("{TESTS}/run.mjs"))
                .arg(order.to_string())
                // Chromium wants to write beside its profile too.
                .env("HOME", process.folder());
            process.spawn(&mut command);
            let status = process.wait(BOUND);
            assert!(
                status.is_some_and(|status| status.success()),
                "{status:?}: {}\n{}",
                process.stdout(),
                process.stderr()
            );
            serde_json::from_str(&process.stdout()).expect("results in JSON")
        })
        .await;
        assert_eq!(results.len(), asked);
        results
    }
}

/// A server of one empty page, for any path and any name.
pub struct Pages {
    pub port: u16,
    task: JoinHandle<()>,
}

impl Pages {
    pub async fn start() -> Self {
        const PAGE: &str = "<!doctype html><title>A page</title><body></body>";
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let answer = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: {}\r\n\
             Connection: close\r\n\r\n{PAGE}",
            PAGE.len()
        );
        let task = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let answer = answer.clone();
                tokio::spawn(async move {
                    let mut request = [0; 8192];
                    let _ = stream.read(&mut request).await;
                    let _ = stream.write_all(answer.as_bytes()).await;
                });
            }
        });
        Self { port, task }
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        self.task.abort();
    }
}
