//! The tail of docs/websocket.md on Node.js: it sees all, once, while the gateway is replaced.

use super::node::node;
use super::{BOUND, TcpProxy, broker};
use crate::support::doc_snippets::{block, put};
use crate::support::gateway::Gateway;
use crate::support::kafka_client::OutgoingRecord;
use crate::support::process::Supervised;
use crate::support::{eventually, topic};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_tail_of_the_document_misses_nothing_and_repeats_nothing() {
    let Some(mut node) = node().await else {
        return;
    };
    let plain = broker().await.plain();
    let first = Gateway::start(&broker().await.bootstrap()).await;
    let front = TcpProxy::of(&first).await;
    let name = topic("ws-page");
    plain.create_topic(&name, 2, &[]).await;
    let write = async |n: usize| {
        let record = OutgoingRecord {
            topic: &name,
            partition: Some(i32::try_from(n % 2).unwrap()),
            value: Some(b"{}"),
            ..OutgoingRecord::default()
        };
        plain.produce(record).await;
    };
    let text = block("websocket.md", "## Tails", "js");
    let text = put(&text, "localhost:8082", &front.address);
    let text = put(&text, "\"orders\"", &format!("{name:?}"));
    let mut client = Supervised::new("tidegate-client-");
    std::fs::write(client.folder().join("tail.mjs"), text).unwrap();
    node.arg(client.folder().join("tail.mjs"));
    client.spawn(&mut node);
    let seen = async |count: usize| {
        eventually(BOUND, async || {
            let lines = client.stdout().lines().count();
            assert!(lines <= count, "{}", client.stdout());
            lines == count
        })
        .await;
    };
    // It begins at the end, so it must stand there before anything is written: it has its place among all
    // streams before it knows where that is.
    eventually(BOUND, async || {
        crate::support::metric(&first, "tail_followers").await == 1.0
    })
    .await;
    for n in 0..10 {
        write(n).await;
    }
    seen(10).await;
    let second = Gateway::start(&broker().await.bootstrap()).await;
    front.lead_to(&second);
    let ended = tokio::spawn(first.terminate());
    for n in 10..40 {
        write(n).await;
    }
    assert!(ended.await.unwrap().status.success());
    seen(40).await;
    let stdout = client.stdout();
    for partition in 0..2 {
        let lines = stdout
            .lines()
            .filter(|l| l.starts_with(&format!("{partition} ")));
        let offsets: Vec<usize> = lines
            .map(|line| line.split(' ').nth(1).unwrap().parse().unwrap())
            .collect();
        assert_eq!(offsets, (0..20).collect::<Vec<_>>());
    }
    assert!(client.exited().is_none(), "{}", client.stderr());
}
