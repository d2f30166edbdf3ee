//! A Python with the Kafka and WebSocket clients that Python programs use, where there is one.
//!
//! `./test` names it in its environment, or leaves the tests that need it out and says so; a plain
//! `cargo test` fetches it itself.

use std::process::Command;

use super::blocking;
use super::subprocess::Subprocess;

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
    pub fn start(&self, script: &str, args: &[&str]) -> Subprocess {
        let mut command = Command::new(&self.0);
        command.arg(format!("{TESTS}/{script}")).args(args);
        Subprocess::start(command)
    }
}
