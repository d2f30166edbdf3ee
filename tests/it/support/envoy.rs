//! A real Envoy, as the recipe of docs/operations.md sets it up.
//!
//! `./test` names the program in its environment, or leaves the tests that need it out and says so; a
//! plain `cargo test` fetches it itself.

use std::process::Command;
use std::time::Duration;

use super::broker::free_port;
use super::doc_snippets::{block, put};
use super::http::client;
use super::process::Supervised;
use super::{blocking, eventually};

/// From its start to the first answer.
const BOUND: Duration = Duration::from_secs(60);
const HEADING: &str = "### Behind Envoy";
/// How the recipe begins what Envoy calls, and the one process that it calls.
const CLUSTERS: &str = "  clusters:\n";
const ENDPOINT: &str =
    "{ endpoint: { address: { socket_address: { address: 127.0.0.1, port_value: 8082 } } } }";

/// The program.
pub struct Envoy(String);

impl Envoy {
    /// `None` where there is none, which it says on standard error.
    pub async fn find() -> Option<Self> {
        if let Ok(program) = std::env::var("TIDEGATE_ENVOY") {
            return Some(Self(program));
        }
        blocking(|| {
            let fetch = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/envoy/fetch");
            let missing = match Command::new(fetch).output() {
                Ok(output) if output.status.success() => {
                    let program = String::from_utf8_lossy(&output.stdout);
                    return Some(Self(program.trim_end().to_owned()));
                }
                Ok(output) => String::from_utf8_lossy(&output.stderr).into_owned(),
                Err(error) => error.to_string(),
            };
            eprintln!("SKIPPED: no Envoy to test with: {missing}");
            None
        })
        .await
    }

    /// Starts it with this file, and waits until it answers.
    pub async fn start(&self, file: &str) -> Running {
        let port = free_port();
        let file = put(
            file,
            "address: 0.0.0.0, port_value: 8080",
            &format!("address: 127.0.0.1, port_value: {port}"),
        );
        let mut process = Supervised::new("tidegate-envoy-");
        let path = process.folder().join("envoy.yaml");
        std::fs::write(&path, file).unwrap();
        let mut command = Command::new(&self.0);
        command.arg("-c").arg(path).args([
            // Several run at a time, which otherwise share memory by a number.
            "--disable-hot-restart",
            "--concurrency",
            "1",
            "--log-level",
            "warning",
        ]);
        process.spawn(&mut command);
        let running = Running {
            url: format!("http://127.0.0.1:{port}"),
            process,
        };
        eventually(BOUND, async || {
            let answer = client().get(&running.url).send().await;
            answer.is_ok_and(|answer| answer.status() == 200)
        })
        .await;
        running
    }
}

/// An Envoy that answers. Dropping it kills it.
pub struct Running {
    /// Where it listens.
    pub url: String,
    process: Supervised,
}

impl Running {
    /// Sees that it takes nothing of the recipe for out of date.
    pub fn is_content(&self) {
        let warnings = self.process.stderr();
        assert!(!warnings.contains("deprecated"), "{warnings}");
    }
}

/// The recipe before one process.
pub fn recipe(address: &str) -> String {
    routed(None, &[("tidegate", &[address])])
}

/// The recipe with these routes in the place of its own, and clusters such as its own of these names, each
/// of processes with these addresses.
pub fn routed(routes: Option<&str>, clusters: &[(&str, &[&str])]) -> String {
    let whole = block("operations.md", HEADING, "yaml");
    let (head, cluster) = whole.split_once(CLUSTERS).expect("clusters are last");
    let head = match routes {
        None => head.to_owned(),
        Some(routes) => {
            let (first, _) = routes.split_once('\n').expect("several lines");
            let (above, _) = head
                .split_once(&format!("{first}\n"))
                .expect("the same field, as far in");
            format!("{above}{routes}")
        }
    };
    let clusters = clusters.iter().map(|(name, addresses)| {
        let endpoints: Vec<String> = addresses
            .iter()
            .map(|address| {
                let (_, port) = address.rsplit_once(':').unwrap();
                put(ENDPOINT, "8082", port)
            })
            .collect();
        let cluster = put(cluster, "name: tidegate", &format!("name: {name}"));
        put(&cluster, ENDPOINT, &endpoints.join(", "))
    });
    let clusters: String = clusters.collect();
    format!("{head}{CLUSTERS}{clusters}")
}
