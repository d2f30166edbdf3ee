//! Node.js and the packages that `tests/browser/package.json` names, where they are.
//!
//! `./test` names their folder in its environment, or leaves the tests that need it out and says so; a
//! plain `cargo test` fetches them itself.

use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

use super::blocking;
use super::subprocess::Subprocess;

/// Where scripts for it are.
pub const TESTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/browser");

/// Node.js, with these packages.
pub struct Node {
    /// The folder of the packages.
    pub modules: String,
}

impl Node {
    /// `None` where there is none, which it says on standard error.
    pub async fn find() -> Option<Self> {
        blocking(|| match Self::look() {
            Ok(node) => Some(node),
            Err(missing) => {
                eprintln!("SKIPPED: no Node.js to test with: {missing}");
                None
            }
        })
        .await
    }

    /// The same, or what is missing.
    pub fn look() -> Result<Self, String> {
        program("node")?;
        if let Ok(modules) = std::env::var("TIDEGATE_BROWSER_MODULES") {
            return Ok(Self { modules });
        }
        let fetch = Command::new(format!("{TESTS}/fetch")).output();
        let output = fetch.map_err(|error| error.to_string())?;
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into_owned());
        }
        let modules = String::from_utf8_lossy(&output.stdout);
        Ok(Self {
            modules: modules.trim_end().to_owned(),
        })
    }

    /// Starts a script of `tests/browser`, whose only argument is this order in JSON.
    pub fn start(&self, script: &str, order: &Value) -> Subprocess {
        let mut command = Command::new("node");
        command
            .arg(format!("{TESTS}/{script}"))
            .arg(order.to_string());
        Subprocess::start(command)
    }
}

/// Where a program is, or that it is nowhere.
pub fn program(name: &str) -> Result<PathBuf, String> {
    let folders = std::env::var_os("PATH").unwrap_or_default();
    let found: Option<PathBuf> = std::env::split_paths(&folders)
        .map(|folder| folder.join(name))
        .find(|file| file.is_file());
    found.ok_or_else(|| format!("{name} is not installed"))
}
