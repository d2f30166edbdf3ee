//! Answers that a client names, so that a lost one can be asked for again; and what is told of those whose
//! partitions have moved on.

use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::{BOUND, Consumer, created, from_earliest, numbers, refusal};
use crate::support::groups::{broker, fill, gateway};
use crate::support::http::{Reply, send};
use crate::support::{eventually, topic};

const DELIVERY: &str = "tidegate-delivery";

impl Consumer {
    /// Asks with what the client has.
    async fn naming(&self, method: Method, path: &str, has: &str) -> Reply {
        send(self.request(method, path).header(DELIVERY, has)).await
    }

    /// Reads one record; its value, and the name of the answer.
    async fn one_after(&self, has: &str) -> (i64, String) {
        let path = "/records?timeout=20000&max_bytes=1";
        let reply = self.naming(Method::GET, path, has).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
        let records: Vec<Value> = serde_json::from_slice(&reply.body).unwrap();
        let [number] = numbers(&records)[..] else {
            panic!("one record: {records:?}");
        };
        (number, reply.header(DELIVERY).to_owned())
    }
}

/// One that commits by itself, and what it is in.
async fn automatic(prefix: &str, records: i64) -> (Consumer, String, String) {
    let gateway = gateway().await;
    let name = created(prefix, 1).await;
    fill(gateway, &name, 0, 0..records).await;
    let group = topic(prefix);
    let mut body = from_earliest();
    body["auto.commit.enable"] = json!("true");
    let consumer = Consumer::make(gateway, &group, &body).await;
    consumer.subscribe(&[&name]).await;
    (consumer, group, name)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_is_given_again_until_it_is_named() {
    let (consumer, group, name) = automatic("v2-named", 4).await;
    let plain = broker().await.plain();
    let first = consumer.one_after("none").await;
    assert_eq!(first.0, 0);
    // The client, or one that takes its place, has heard nothing of it.
    assert_eq!(consumer.one_after("none").await, first);
    let second = consumer.one_after(&first.1).await;
    assert_eq!(second.0, 1);
    assert_ne!(second.1, first.1);
    for _ in 0..2 {
        assert_eq!(consumer.one_after(&first.1).await, second);
    }
    let third = consumer.one_after(&second.1).await;
    assert_eq!(third.0, 2);
    // Neither one that is past nor one of another instance.
    for other in [&*first.1, "00000000-1", "nonsense"] {
        let reply = consumer.naming(Method::GET, "/records", other).await;
        assert_eq!(refusal(&reply), (409, 40903, String::new()), "{other}");
    }
    let reply = consumer.naming(Method::GET, "/records", "").await;
    assert_eq!(refusal(&reply), (400, 400, "Tidegate-Delivery".into()));

    // The third was never named: it is not committed, and comes again to whoever reads next.
    consumer.delete().await;

    assert_eq!(plain.committed(&group, &name, 0).await, Some(2));
    let next = Consumer::make(gateway().await, &group, &from_earliest()).await;
    next.subscribe(&[&name]).await;
    assert_eq!(numbers(&next.read_all(2).await), [2, 3]);
    next.delete().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_delivery_that_a_delete_names_is_committed() {
    let (consumer, group, name) = automatic("v2-named-end", 3).await;
    let first = consumer.one_after("none").await;
    let second = consumer.one_after(&first.1).await;
    assert_eq!(second.0, 1);
    let reply = consumer.naming(Method::DELETE, "", "00000000-9").await;
    assert_eq!(refusal(&reply), (409, 40903, String::new()));
    let reply = consumer.naming(Method::DELETE, "", &second.1).await;
    assert_eq!(reply.status, 204, "{}", reply.text());
    let plain = broker().await.plain();
    assert_eq!(plain.committed(&group, &name, 0).await, Some(2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_hangs_up_misses_nothing_that_it_asks_for_again() {
    const RECORDS: i64 = 12;
    let (consumer, _, _) = automatic("v2-hang-up", RECORDS).await;
    let gateway = gateway().await;
    let path = consumer.base.strip_prefix(&gateway.url("")).unwrap();
    let mut has = "none".to_owned();
    let mut seen = Vec::new();
    while seen.len() < usize::try_from(RECORDS).unwrap() {
        // Its answer goes to nobody, or stays in the kernel of a client that is gone.
        let mut socket = TcpStream::connect(gateway.address()).await.unwrap();
        let head = format!(
            "GET {path}/records?timeout=20000&max_bytes=1 HTTP/1.1\r\nhost: localhost\r\n\
             {DELIVERY}: {has}\r\n\r\n"
        );
        socket.write_all(head.as_bytes()).await.unwrap();
        if seen.len() % 2 == 0 {
            // It comes, and is not read.
            let came = tokio::time::timeout(BOUND, socket.readable()).await;
            came.expect("an answer").unwrap();
        }
        drop(socket);

        let (number, delivery) = consumer.one_after(&has).await;
        seen.push(number);
        has = delivery;
    }
    assert_eq!(seen, (0..RECORDS).collect::<Vec<_>>());
    consumer.delete().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_without_a_body_is_of_what_the_client_names() {
    let gateway = gateway().await;
    let name = created("v2-named-commit", 1).await;
    fill(gateway, &name, 0, 0..3).await;
    let consumer = Consumer::of(gateway, &name).await;
    let first = consumer.one_after("none").await;
    // Whether it has come is not known.
    let reply = consumer.call(Method::POST, "/offsets", None).await;
    assert_eq!(refusal(&reply), (409, 40903, String::new()));
    assert!(
        reply.text().contains("Tidegate-Delivery"),
        "{}",
        reply.text()
    );
    let reply = consumer.naming(Method::POST, "/offsets", "none").await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert_ne!(consumer.committed(&name, &[0]).await, [(0, 1)]);
    assert_eq!(consumer.one_after("none").await, first);
    let reply = consumer.naming(Method::POST, "/offsets", &first.1).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert_eq!(consumer.committed(&name, &[0]).await, [(0, 1)]);
    // Now it is past.
    let second = consumer.one_after("none").await;
    assert_eq!(second.0, 1);
    // The place is left, so that there is nothing to be given again.
    let place = json!({"offsets": [{"topic": name, "partition": 0, "offset": 2}]});
    consumer.told("/positions", &place).await;
    assert_eq!(consumer.one_after(&first.1).await.0, 2);
    consumer.delete().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_without_a_body_says_what_has_moved_on_and_commits_the_rest() {
    let gateway = gateway().await;
    let name = topic("v2-moved-on");
    let plain = broker().await.plain();
    plain.create_topic(&name, 2, &[]).await;
    for partition in 0..2 {
        fill(gateway, &name, partition, 0..10).await;
    }
    let group = topic("v2-moved-on-group");
    let one = Consumer::make(gateway, &group, &from_earliest()).await;
    one.subscribe(&[&name]).await;
    one.read_all(20).await;
    let two = Consumer::make(gateway, &group, &from_earliest()).await;
    two.subscribe(&[&name]).await;
    eventually(BOUND, async || {
        one.assignments().await.len() == 1 && two.assignments().await.len() == 1
    })
    .await;
    let (ours, theirs) = (one.assignments().await[0].1, two.assignments().await[0].1);

    let reply = one.call(Method::POST, "/offsets", None).await;

    assert_eq!(refusal(&reply), (500, 50002, String::new()));
    let body = reply.json();
    let told = body["partitions"].as_array().unwrap();
    assert_eq!(told.len(), 1, "{body}");
    assert_eq!(told[0]["topic"], *name);
    assert_eq!(told[0]["partition"], theirs);
    assert!(told[0]["message"].as_str().unwrap().contains("moved on"));
    assert!(
        body["message"]
            .as_str()
            .unwrap()
            .contains(&format!("{name}:{theirs}"))
    );
    let committed = async |partition: i64| {
        let partition = i32::try_from(partition).unwrap();
        plain.committed(&group, &name, partition).await
    };
    assert_eq!(committed(ours).await, Some(10));
    assert_ne!(committed(theirs).await, Some(10));
    // It was told, and what is left is committed; the other has the rest.
    one.commit().await;
    assert_eq!(two.read_all(10).await.len(), 10);
    two.commit().await;
    assert_eq!(committed(theirs).await, Some(10));
    // By name, the same is said of the same partition.
    let named = json!({"offsets": [
        {"topic": name, "partition": theirs, "offset": 3},
        {"topic": name, "partition": ours, "offset": 4},
    ]});
    let reply = one.post("/offsets", &named).await;
    assert_eq!(refusal(&reply), (500, 50002, String::new()));
    assert_eq!(reply.json()["partitions"][0]["partition"], theirs);
    assert_eq!(
        (committed(ours).await, committed(theirs).await),
        (Some(5), Some(10))
    );
    one.delete().await;
    two.delete().await;
}
