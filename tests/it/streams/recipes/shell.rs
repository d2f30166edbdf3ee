//! Those for a shell.

use std::process::Command;

use serde_json::{Value, json};

use super::DOCUMENT;
use crate::streams::{PROMPT, Stream, topic_of, write};
use crate::support::doc_snippets::{block, put};
use crate::support::gateway::Gateway;
use crate::support::kafka_client::KafkaClient;
use crate::support::process::Supervised;
use crate::support::{blocking, eventually, kafka, metric};

/// The commands below a line of the document, without what is said about them.
pub(super) fn commands(heading: &str) -> Vec<String> {
    let block = block(DOCUMENT, heading, "");
    let commands = block.split("\n\n").map(|command| {
        let lines = command.lines().filter(|line| !line.starts_with('#'));
        lines.collect::<Vec<_>>().join("\n")
    });
    commands.collect()
}

/// A command that reads on for ever; its end is that of the gateway, when it was sent this many records.
/// What it has printed.
pub(super) async fn run(gateway: Gateway, command: &str, records: u32) -> String {
    let mut shell = Supervised::new("tidegate-shell-");
    let command = put(command, "localhost:8082", gateway.address());
    let mut bash = Command::new("bash");
    bash.args(["-o", "pipefail", "-c", &command]);
    shell.spawn(&mut bash);
    eventually(PROMPT, async || {
        let delivered = metric(&gateway, "stream_records_delivered_total").await;
        delivered > f64::from(records) - 0.5
    })
    .await;
    assert!(gateway.terminate().await.status.success());
    let (status, stdout, stderr) =
        blocking(move || (shell.wait(PROMPT), shell.stdout(), shell.stderr())).await;
    assert!(
        status.is_some_and(|status| status.success()),
        "{command}: {status:?} {stdout}{stderr}"
    );
    stdout
}

pub(super) async fn gateway() -> Gateway {
    Gateway::start(&kafka().await.bootstrap()).await
}

async fn orders(plain: &KafkaClient, prefix: &str) -> String {
    let topic = topic_of(plain, prefix, 1).await;
    for (id, amount, currency) in [
        (1, 50, "EUR"),
        (2, 100, "EUR"),
        (3, 700, "USD"),
        (4, 900, "EUR"),
    ] {
        let order = json!({"id": id, "amount": amount, "currency": currency});
        write(plain, &topic, 0, &order.to_string()).await;
    }
    topic
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_shell_recipe_prints_the_records_that_are_there_and_ends() {
    let plain = kafka().await.plain();
    let topic = orders(&plain, "shell").await;
    let command = put(&commands("## In a shell")[1], "orders", &topic);
    // It ends by itself; the gateway is not what ends it.
    let printed = run(gateway().await, &command, 4).await;
    let lines: Vec<Value> = printed
        .lines()
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.len(), 4);
    assert_eq!(lines[3], json!({"id": 4, "amount": 900, "currency": "EUR"}));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_shell_recipe_prints_parts_of_selected_records_of_two_topics() {
    let plain = kafka().await.plain();
    let (one, two) = (orders(&plain, "one").await, orders(&plain, "two").await);
    let command = put(&commands("## In a shell")[2], "orders", &one);
    let command = put(&command, "payments", &two);
    // It begins with what is new.
    let command = put(
        &command,
        "--data-urlencode 'where",
        "--data-urlencode 'from=earliest' --data-urlencode 'where",
    );
    let printed = run(gateway().await, &command, 4).await;
    let data: Vec<Value> = printed
        .lines()
        .filter_map(|line| serde_json::from_str(line.strip_prefix("data: ")?).ok())
        .collect();
    let values: Vec<&Value> = data
        .iter()
        .map(|data| &data["value"])
        .filter(|value| !value.is_null())
        .collect();
    assert_eq!(values.len(), 4, "{printed}");
    for value in values {
        assert!(
            [
                json!({"id": 2, "amount": 100}),
                json!({"id": 4, "amount": 900})
            ]
            .contains(value),
            "{value}"
        );
    }
    assert!(printed.contains("event: drain"), "{printed}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_cut_it_goes_on_with_the_last_id() {
    let plain = kafka().await.plain();
    let topic = orders(&plain, "id").await;
    let gateway = gateway().await;
    let url = gateway.url(&format!("/topics/{topic}/records?from=earliest"));
    let id = Stream::open(&url, None).await.records(2).await[1]
        .id
        .clone();
    let heading = "After a cut, go on with the id of the last event:";
    let command = put(&commands(heading)[0], "orders", &topic);
    // Two of the four were delivered to the first, at least.
    eventually(PROMPT, async || {
        metric(&gateway, "stream_readers").await < 0.5
    })
    .await;
    let before = metric(&gateway, "stream_records_delivered_total").await;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a small count"
    )]
    let wanted = before as u32 + 2;
    let printed = run(gateway, &format!("id={id}\n{command}"), wanted).await;
    let offsets: Vec<i64> = printed
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line.strip_prefix("data: ")?).ok())
        .filter_map(|data| data["offset"].as_i64())
        .collect();
    assert_eq!(offsets, [2, 3], "{printed}");
}
