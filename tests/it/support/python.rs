//! A Python with the Kafka and WebSocket clients that Python programs use, where there is one.
//!
//! `./test` names it in its environment, or leaves the tests that need it out and says so; a plain
//! `cargo test` fetches it itself.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::{blocking, eventually};

/// Longest wait for a line.
const BOUND: Duration = Duration::from_secs(60);

const TESTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/python");

/// Where the interpreter is.
pub struct Python(String);

impl Python {
    /// `None` where there is none, which it says on standard error.
    pub async fn find() -> Option<Self> {
        if let Ok(python) = std::env::var("TIDEGATE_PYTHON") {
            return Some(Self(python));
        }
        blocking(|| {
            let missing = match Command::new(format!("{TESTS}/fetch")).output() {
                Ok(output) if output.status.success() => {
                    let python = String::from_utf8_lossy(&output.stdout);
                    return Some(Self(python.trim_end().to_owned()));
                }
                Ok(output) => String::from_utf8_lossy(&output.stderr).into_owned(),
                Err(error) => error.to_string(),
            };
            eprintln!("SKIPPED: no Python to test with: {missing}");
            None
        })
        .await
    }

    /// The interpreter.
    pub fn program(&self) -> &str {
        &self.0
    }

    /// Starts a script of `tests/python`, which prints lines of JSON.
    pub fn start(&self, script: &str, args: &[&str]) -> Script {
        let mut child = Command::new(&self.0)
            .arg(format!("{TESTS}/{script}"))
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("Python starts");
        let output = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = mpsc::unbounded_channel();
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Script {
            input: child.stdin.take(),
            lines,
            child,
        }
    }
}

/// A script at work. Dropping it kills it; it also ends when its standard input does.
pub struct Script {
    child: Child,
    input: Option<ChildStdin>,
    lines: mpsc::UnboundedReceiver<String>,
}

impl Script {
    /// The next line; `None` at its end. Nothing is lost when the future is dropped.
    pub async fn line(&mut self) -> Option<Value> {
        let line = timeout(BOUND, self.lines.recv()).await;
        let line = line.expect("a line comes")?;
        Some(serde_json::from_str(&line).unwrap())
    }

    /// Writes a line to it.
    pub fn tell(&mut self, line: &str) {
        let input = self.input.as_mut().unwrap();
        writeln!(input, "{line}").unwrap();
    }

    /// Waits until it has ended well.
    pub async fn ended(mut self) {
        eventually(BOUND, || {
            let ended = self.child.try_wait().unwrap().is_some();
            std::future::ready(ended)
        })
        .await;
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
