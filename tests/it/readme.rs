//! Follows README.md line by line: every command of its `console` blocks is run, and what it prints
//! is compared with the lines below it, where `…` stands for anything. Only websocat is played: all it
//! does is to print what comes.

use std::process::Command;
use std::time::Duration;

use futures::StreamExt;
use tokio::time::{Instant, timeout_at};
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::Message;

use crate::support::broker::Broker;
use crate::support::gateway::Gateway;

/// A command of the README and what it says comes back.
#[derive(Debug)]
struct Step {
    command: String,
    expected: String,
}

fn steps() -> Vec<Step> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/README.md");
    let text = std::fs::read_to_string(path).unwrap();
    let mut steps: Vec<Step> = Vec::new();
    let mut inside = false;
    for line in text.lines() {
        match line {
            "```console" => inside = true,
            "```" => inside = false,
            _ if !inside => {}
            _ => match (line.strip_prefix("$ "), steps.last_mut()) {
                (Some(command), _) => steps.push(Step {
                    command: command.to_owned(),
                    expected: String::new(),
                }),
                (None, Some(step)) => {
                    step.expected.push_str(line);
                    step.expected.push('\n');
                }
                (None, None) => panic!("output before any command: {line}"),
            },
        }
    }
    steps
}

/// Whether `text` reads as `pattern`, in which `…` stands for anything.
fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.trim(), text.trim());
    let mut parts = pattern.split('…');
    let Some(mut rest) = parts.next().and_then(|first| text.strip_prefix(first)) else {
        return false;
    };
    let mut parts: Vec<&str> = parts.collect();
    let Some(last) = parts.pop() else {
        return rest.is_empty();
    };
    for part in parts {
        match rest.split_once(part) {
            Some((_, after)) => rest = after,
            None => return false,
        }
    }
    rest.ends_with(last)
}

/// Starts what a `serve` line says: the binary instead of cargo, on free ports.
async fn serve(command: &str, kafka: &Broker) -> Gateway {
    let arguments = command
        .strip_prefix("cargo run --release -- serve")
        .unwrap();
    let mut builder = if arguments.contains("--bootstrap-servers") {
        Gateway::builder(&kafka.bootstrap())
    } else {
        Gateway::embedded()
    };
    let rest = arguments.replace("--bootstrap-servers localhost:9092", "");
    for argument in rest.split_whitespace() {
        builder = builder.arg(argument);
    }
    builder.start().await
}

/// What comes over a WebSocket, a line for each message, until it reads as expected.
async fn websocat(url: &str, expected: &str) -> String {
    let end = Instant::now() + Duration::from_secs(120);
    let (mut socket, _) = connect_async(url).await.unwrap();
    let mut printed = String::new();
    while !matches(expected, &printed) {
        match timeout_at(end, socket.next()).await {
            Ok(Some(Ok(Message::Text(line)))) => {
                printed.push_str(&line);
                printed.push('\n');
            }
            Ok(Some(Ok(Message::Ping(_)))) => {}
            _ => break,
        }
    }
    printed
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_command_does_what_it_says() {
    // One of its own: the README writes to topics by their plain names.
    let kafka = Broker::start().await;
    let mut gateway: Option<Gateway> = None;
    let steps = steps();
    assert!(steps.len() > 10, "{steps:?}");
    for step in steps {
        if step.command.contains("-- serve") {
            drop(gateway.take());
            let started = serve(&step.command, &kafka).await;
            let expected = step
                .expected
                .replace("127.0.0.1:8082", started.address())
                .replace(
                    "http://127.0.0.1:9082",
                    started.management_url("").trim_end_matches('/'),
                )
                .replace("localhost:9092", &kafka.bootstrap());
            let said = started.stderr();
            assert!(
                said.lines().any(|line| matches(&expected, line)),
                "expected {expected}in\n{said}"
            );
            gateway = Some(started);
            continue;
        }
        let serving = gateway.as_ref().unwrap();
        let management = serving.management_url("");
        let management = management
            .trim_start_matches("http://")
            .trim_end_matches('/');
        let command = step
            .command
            .replace("localhost:8082", serving.address())
            .replace("localhost:9082", management);
        if let Some(url) = command.strip_prefix("websocat ") {
            let printed = websocat(url.trim_matches('\''), &step.expected).await;
            assert!(
                matches(&step.expected, &printed),
                "$ {}\nexpected:\n{}\ngot:\n{printed}",
                step.command,
                step.expected
            );
            continue;
        }
        let running = tokio::task::spawn_blocking(move || {
            Command::new("bash")
                .args(["-o", "pipefail", "-c", &command])
                .output()
                .unwrap()
        });
        let output = tokio::time::timeout(Duration::from_secs(180), running)
            .await
            .unwrap()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(
            output.status.success() && matches(&step.expected, &text),
            "$ {}\nexpected:\n{}\ngot:\n{text}",
            step.command,
            step.expected
        );
    }
}

#[test]
fn an_ellipsis_in_expected_output_matches_any_text() {
    assert!(matches("a…c", "abbc"));
    assert!(matches("…c…", "abcd"));
    assert!(matches("a\n", "a"));
    assert!(!matches("a…c", "abd"));
    assert!(!matches("a", "ab"));
}
