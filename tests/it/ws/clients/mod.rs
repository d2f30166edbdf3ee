//! WebSocket clients that others wrote: the ones of docs/websocket.md, run as they stand there but for
//! names and addresses, on Node.js and on Python with its `websockets`, which have nothing in common
//! with ours.

mod node;
mod python;
mod scaling;
mod tail;

use std::collections::BTreeMap;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::broker::Broker;
use crate::support::doc_snippets::{block, put};
use crate::support::gateway::Gateway;
use crate::support::process::Supervised;
use crate::support::tcp_proxy::TcpProxy;
use crate::support::ws::Client;
use crate::support::{blocking, eventually, http, topic};

const BOUND: Duration = Duration::from_secs(120);

/// A broker whose groups rebalance quickly, which the tests of this folder share.
async fn broker() -> &'static Broker {
    static SHARED: tokio::sync::OnceCell<Broker> = tokio::sync::OnceCell::const_new();
    SHARED
        .get_or_init(|| async { Broker::builder().fast_groups().start().await })
        .await
}

async fn order(gateway: &Gateway, topic: &str, ids: std::ops::Range<i64>) {
    let orders: Vec<Value> = ids
        .map(|id| {
            let total = if id == 7 { -1 } else { id * 10 };
            let rest = if id == 9 {
                "x".repeat(1_000)
            } else {
                String::new()
            };
            json!({"key": format!("order-{id}{rest}"), "value": {"id": id, "total": total}})
        })
        .collect();
    let url = gateway.url(&format!("/topics/{topic}/records"));
    let reply = http::post_json(&url, &json!(orders)).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
}

/// The client of the document in this language, with names and an address of the test's, and more options
/// of its subscription.
fn whole_client(
    language: &str,
    address: &str,
    group: &str,
    orders: &str,
    invoices: &str,
    more: &[(&str, &str)],
) -> String {
    let text = block("websocket.md", "## A whole client", language);
    let code = text.lines().filter(|line| !line.is_empty()).count();
    assert!(code <= 60, "{code} lines");
    let quoted = |name: &str| format!("{name:?}");
    let text = put(&text, "localhost:8082", address);
    let text = put(&text, &quoted("billing"), &quoted(group));
    let text = put(&text, &quoted("orders"), &quoted(orders));
    let text = put(&text, &quoted("invoices"), &quoted(invoices));
    let of_language = |name: &str| match language {
        "js" => name.to_owned(),
        _ => quoted(name),
    };
    let before = format!("{}: \"earliest\"", of_language("offset_reset"));
    let options = more
        .iter()
        .map(|(name, value)| format!(", {}: {value}", of_language(name)));
    let after = before.clone() + &options.collect::<String>();
    put(&text, &before, &after)
}

/// Runs the client of the document in this language: it makes invoices of orders, one of which cannot
/// be handled and one's invoice not be written, stays with its group while the gateway is replaced, and ends when another session has
/// its instance id. `name` is the file's, and `program` what runs it.
async fn do_as_the_document_says(language: &str, name: &str, mut program: Command) {
    let plain = broker().await.plain();
    let first = Gateway::start(&broker().await.bootstrap()).await;
    let front = TcpProxy::of(&first).await;
    let orders = topic("ws-orders");
    let (invoices, dead, group) = (
        format!("{orders}-invoices"),
        format!("{orders}.dlq"),
        format!("{orders}-billing"),
    );
    for topic in [&orders, &dead] {
        plain.create_topic(topic, 1, &[]).await;
    }
    plain
        .create_topic(&invoices, 1, &[("max.message.bytes", "500")])
        .await;
    order(&first, &orders, 0..20).await;

    // Beside what is written there: an instance id, and not as much patience.
    let more = [("instance_id", "\"till\""), ("max_deliveries", "2")];
    let text = whole_client(language, &front.address, &group, &orders, &invoices, &more);
    let mut client = Supervised::new("tidegate-client-");
    std::fs::write(client.folder().join(name), text).unwrap();
    program.arg(client.folder().join(name));
    client.spawn(&mut program);

    let invoiced = async |ids: std::ops::Range<i64>| {
        eventually(BOUND, async || {
            let records = plain.consume_all(&invoices).await;
            let found: BTreeMap<i64, Value> = records
                .iter()
                .map(|record| serde_json::from_str::<Value>(record.text().unwrap()).unwrap())
                .map(|invoice| (invoice["order"].as_i64().unwrap(), invoice))
                .collect();
            assert!(!found.contains_key(&7) && !found.contains_key(&9));
            ids.clone().filter(|id| ![7, 9].contains(id)).all(|id| {
                found
                    .get(&id)
                    .is_some_and(|invoice| invoice["total"] == id * 10)
            })
        })
        .await;
    };
    let committed = async |offset: i64| {
        eventually(BOUND, async || {
            plain.committed(&group, &orders, 0).await == Some(offset)
        })
        .await;
    };
    invoiced(0..20).await;
    committed(20).await;
    let letters = plain.consume_all(&dead).await;
    assert_eq!(letters.len(), 2);
    // Which of them is given up first depends on when they come again.
    let of = |key: &[u8]| {
        let found = letters.iter();
        let mut found = found.filter(|letter| letter.key.as_ref().unwrap().starts_with(key));
        found.next().expect("a dead letter")
    };
    of(b"order-9x");
    let letter = of(b"order-7");
    let header = |name: &str| {
        let found = letter.headers.iter().find(|(of, _)| of == name);
        let value = found.and_then(|(_, value)| value.as_deref()).unwrap();
        String::from_utf8(value.to_vec()).unwrap()
    };
    assert_eq!(header("error"), "the total is negative");
    assert_eq!(header("original-topic"), orders);
    assert_eq!(header("original-offset"), "7");
    assert_eq!(header("deliveries"), "2");

    // Another gateway takes the place of the first, which tells its sessions to connect again.
    let second = Gateway::start(&broker().await.bootstrap()).await;
    front.lead_to(&second);
    let ended = first.terminate().await;
    assert!(ended.status.success(), "{}", ended.stderr);
    order(&second, &orders, 20..30).await;
    invoiced(20..30).await;
    committed(30).await;
    assert!(client.exited().is_none(), "{}", client.stdout());

    let mut other = Client::welcomed(&second).await;
    other
        .subscribe(&group, &orders, json!({"instance_id": "till"}))
        .await;
    let (status, stdout, stderr) = blocking(move || {
        let status = client.wait(BOUND);
        (status, client.stdout(), client.stderr())
    })
    .await;
    assert!(
        status.is_some_and(|status| status.success()),
        "{status:?}: {stdout}{stderr}"
    );
    assert!(stdout.contains("ended 4505 taken_over"), "{stdout}{stderr}");
    other.bye().await;
}
