//! A program in another language that does its part of a test, and prints lines of JSON.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::eventually;

/// Longest wait for a line.
const BOUND: Duration = Duration::from_secs(120);

/// A script at work. Dropping it kills it; it also ends when its standard input does.
pub struct Subprocess {
    child: Child,
    input: Option<ChildStdin>,
    lines: mpsc::UnboundedReceiver<String>,
}

impl Subprocess {
    /// Starts it.
    pub fn start(mut command: Command) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a program that was found starts");
        let output = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = mpsc::unbounded_channel();
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Self {
            input: child.stdin.take(),
            lines,
            child,
        }
    }

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

impl Drop for Subprocess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
