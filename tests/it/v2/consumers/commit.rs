//! Offsets: committed as given, as delivered, and by the instance itself.

use reqwest::Method;
use serde_json::json;

use super::{BOUND, Consumer, from_earliest, numbers, refusal};
use crate::support::groups::{broker, fill, gateway};
use crate::support::{eventually, topic};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_without_a_body_is_of_what_was_delivered() {
    let gateway = gateway().await;
    let name = topic("v2-commit");
    let plain = broker().await.plain();
    plain.create_topic(&name, 1, &[]).await;
    fill(gateway, &name, 0, 0..50).await;
    let consumer = Consumer::of(gateway, &name).await;
    assert!(consumer.committed(&name, &[0]).await.is_empty());
    let asked = format!("/offsets?topic={name}&partition=0");
    assert_eq!(consumer.get(&asked).await.text(), "{\"offsets\":[]}");

    // Much more than this was read ahead.
    let records = consumer.read("timeout=20000&max_bytes=3").await;
    assert_eq!(numbers(&records), [0, 1, 2]);
    consumer.commit().await;

    assert_eq!(consumer.committed(&name, &[0]).await, [(0, 3)]);
    // For clients that cannot send a body with it.
    let queried = consumer.get(&asked).await.json();
    assert_eq!(queried["offsets"][0]["offset"], 3, "{queried}");
    let group = consumer.base.split('/').nth(4).unwrap();
    assert_eq!(plain.committed(group, &name, 0).await, Some(3));
    // An empty object is no list either.
    consumer.read("timeout=20000&max_bytes=2").await;
    assert_eq!(consumer.post("/offsets", &json!({})).await.text(), "[]");
    assert_eq!(consumer.committed(&name, &[0]).await, [(0, 5)]);
    consumer.delete().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_more_than_what_a_client_names_is_committed_with_its_text() {
    let gateway = gateway().await;
    let name = topic("v2-commit-named");
    let plain = broker().await.plain();
    plain.create_topic(&name, 2, &[]).await;
    let consumer = Consumer::of(gateway, &name).await;
    consumer.has(2).await;
    let offsets = json!({"offsets": [
        {"topic": name, "partition": 0, "offset": 6, "metadata": "noted"},
        {"topic": name, "partition": 1, "offset": 1},
        // The last word holds.
        {"topic": name, "partition": 1, "offset": 4},
    ]});

    // A slash at the end is nothing.
    let reply = consumer.post("/offsets/", &offsets).await;

    assert_eq!((reply.status.as_u16(), reply.text()), (200, "[]"));
    let wanted = json!({"partitions": [
        {"topic": name, "partition": 1}, {"topic": name, "partition": 0},
    ]});
    let reply = consumer.call(Method::GET, "/offsets", Some(&wanted)).await;
    let expected = format!(
        "{{\"offsets\":[{{\"topic\":\"{name}\",\"partition\":1,\"offset\":5,\"metadata\":\"\"}},\
         {{\"topic\":\"{name}\",\"partition\":0,\"offset\":7,\"metadata\":\"noted\"}}]}}"
    );
    assert_eq!((reply.status.as_u16(), reply.text()), (200, &*expected));
    let group = consumer.base.split('/').nth(4).unwrap();
    assert_eq!(plain.committed(group, &name, 0).await, Some(7));
    // Without waiting for it.
    let later = json!({"offsets": [{"topic": name, "partition": 0, "offset": 8}]});
    let reply = consumer.post("/offsets?async=true", &later).await;
    assert_eq!((reply.status.as_u16(), reply.text()), (200, "[]"));
    eventually(BOUND, async || {
        consumer.committed(&name, &[0]).await == [(0, 9)]
    })
    .await;
    consumer.delete().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_instance_commits_by_itself_what_the_client_is_done_with() {
    let gateway = gateway().await;
    let name = topic("v2-auto");
    let plain = broker().await.plain();
    plain.create_topic(&name, 1, &[]).await;
    fill(gateway, &name, 0, 0..9).await;
    let group = topic("v2-auto-group");
    let mut body = from_earliest();
    // As in Confluent REST Proxy, it does unless told otherwise.
    body.as_object_mut().unwrap().remove("auto.commit.enable");
    let consumer = Consumer::make(gateway, &group, &body).await;
    consumer.subscribe(&[&name]).await;
    assert_eq!(consumer.read("timeout=20000&max_bytes=4").await.len(), 4);
    assert_eq!(consumer.read("timeout=20000&max_bytes=2").await.len(), 2);
    // It came back for the second answer, so it is done with the first; not yet with the second.
    eventually(BOUND, async || {
        plain.committed(&group, &name, 0).await == Some(4)
    })
    .await;

    // By this it says that it is done with everything.
    consumer.delete().await;

    assert_eq!(plain.committed(&group, &name, 0).await, Some(6));
    let next = Consumer::make(gateway, &group, &body).await;
    next.subscribe(&[&name]).await;
    assert_eq!(numbers(&next.read_all(3).await), [6, 7, 8]);
    let ended = next.call(Method::DELETE, "/subscription", None).await;
    assert_eq!(ended.status, 204);
    assert_eq!(plain.committed(&group, &name, 0).await, Some(9));
    next.delete().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_instance_that_does_not_commit_leaves_everything_to_come_again() {
    let gateway = gateway().await;
    let name = topic("v2-manual");
    let plain = broker().await.plain();
    plain.create_topic(&name, 1, &[]).await;
    fill(gateway, &name, 0, 0..3).await;
    let group = topic("v2-manual-group");
    for _ in 0..2 {
        let consumer = Consumer::make(gateway, &group, &from_earliest()).await;
        consumer.subscribe(&[&name]).await;
        assert_eq!(numbers(&consumer.read_all(3).await), [0, 1, 2]);
        consumer.delete().await;
    }
    assert_eq!(plain.committed(&group, &name, 0).await, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_for_a_partition_that_moved_on_is_refused() {
    let gateway = gateway().await;
    let name = topic("v2-moved");
    let plain = broker().await.plain();
    plain.create_topic(&name, 2, &[]).await;
    let group = topic("v2-moved-group");
    let one = Consumer::make(gateway, &group, &from_earliest()).await;
    one.subscribe(&[&name]).await;
    one.has(2).await;
    let two = Consumer::make(gateway, &group, &from_earliest()).await;
    two.subscribe(&[&name]).await;
    eventually(BOUND, async || {
        one.read("timeout=50").await;
        one.assignments().await.len() == 1 && two.assignments().await.len() == 1
    })
    .await;
    let theirs = two.assignments().await[0].1;
    let offsets = json!({"offsets": [{"topic": name, "partition": theirs, "offset": 5}]});

    let reply = one.post("/offsets", &offsets).await;

    assert_eq!(refusal(&reply).1, 50002);
    let partition = i32::try_from(theirs).unwrap();
    assert_eq!(plain.committed(&group, &name, partition).await, None);
    one.delete().await;
    two.delete().await;
}
