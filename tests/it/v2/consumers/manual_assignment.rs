//! Partitions that are assigned by hand.

use reqwest::Method;
use serde_json::json;

use super::{BOUND, Consumer, created, from_earliest, numbers, refusal};
use crate::support::broker::Broker;
use crate::support::gateway::Gateway;
use crate::support::groups::{broker, fill, gateway};
use crate::support::{eventually, topic};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn chosen_partitions_of_several_topics_are_read_and_committed() {
    let gateway = gateway().await;
    let (one, two) = (topic("v2-hand"), topic("v2-hand"));
    let plain = broker().await.plain();
    for name in [&one, &two] {
        plain.create_topic(name, 3, &[]).await;
        for partition in 0..3 {
            let start = i64::from(partition) * 10;
            fill(gateway, name, partition, start..start + 3).await;
        }
    }
    let group = topic("v2-hand-group");
    let consumer = Consumer::make(gateway, &group, &from_earliest()).await;
    let partitions = json!({"partitions": [
        {"topic": one, "partition": 2}, {"topic": one, "partition": 0},
        {"topic": two, "partition": 1}, {"topic": two, "partition": 1},
    ]});

    consumer.told("/assignments", &partitions).await;

    // By name, which need not be the order in which they were made.
    let mut expected = [(one.clone(), 0), (one.clone(), 2), (two.clone(), 1)];
    expected.sort();
    assert_eq!(consumer.assignments().await, expected);
    let mut values = numbers(&consumer.read_all(9).await);
    values.sort_unstable();
    assert_eq!(values, [0, 1, 2, 10, 11, 12, 20, 21, 22]);
    assert!(consumer.read("timeout=2000").await.is_empty());
    consumer.commit().await;
    assert_eq!(consumer.committed(&one, &[0, 1, 2]).await, [(0, 3), (2, 3)]);
    assert_eq!(plain.committed(&group, &two, 1).await, Some(3));
    // As given, too.
    let offsets = json!({"offsets": [{"topic": one, "partition": 0, "offset": 0}]});
    assert_eq!(consumer.post("/offsets", &offsets).await.status, 200);
    assert_eq!(plain.committed(&group, &one, 0).await, Some(1));
    // What comes to any of them ends a wait.
    let reading = tokio::spawn(async move { (consumer.read_all(1).await, consumer) });
    fill(gateway, &two, 1, 99..100).await;
    let (records, consumer) = reading.await.unwrap();
    assert_eq!(numbers(&records), [99]);
    // Others in their place: the committed offset is where reading goes on.
    let partitions = json!({"partitions": [{"topic": one, "partition": 1}]});
    consumer.told("/assignments", &partitions).await;
    assert_eq!(consumer.assignments().await, [(one.clone(), 1)]);
    assert_eq!(numbers(&consumer.read_all(3).await), [10, 11, 12]);
    let partitions = json!({"partitions": [{"topic": one, "partition": 0}]});
    consumer.told("/assignments", &partitions).await;
    assert_eq!(numbers(&consumer.read_all(2).await), [1, 2]);
    // None at all.
    consumer
        .told("/assignments", &json!({"partitions": []}))
        .await;
    assert!(consumer.assignments().await.is_empty());
    consumer.delete().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_text_is_kept_with_an_offset() {
    let gateway = gateway().await;
    let name = topic("v2-hand-text");
    let plain = broker().await.plain();
    plain.create_topic(&name, 3, &[]).await;
    let group = topic("v2-hand-text-group");
    let consumer = Consumer::make(gateway, &group, &from_earliest()).await;
    let partitions = json!({"partitions": [{"topic": name, "partition": 0}]});
    consumer.told("/assignments", &partitions).await;
    let text = "noted: ünï, 100%";
    let offsets = json!({"offsets": [
        {"topic": name, "partition": 0, "offset": 6, "metadata": text},
        {"topic": name, "partition": 1, "offset": 1, "metadata": "not the last word"},
        {"topic": name, "partition": 1, "offset": 4, "metadata": "the last word"},
        {"topic": name, "partition": 2, "offset": 0},
    ]});

    let reply = consumer.post("/offsets", &offsets).await;

    assert_eq!((reply.status.as_u16(), reply.text()), (200, "[]"));
    for (partition, offset, text) in [(0, 7, text), (1, 5, "the last word"), (2, 1, "")] {
        let committed = plain.committed_with_text(&group, &name, partition).await;
        assert_eq!(committed, Some((offset, text.to_owned())), "{partition}");
        let wanted = json!({"partitions": [{"topic": name, "partition": partition}]});
        let reply = consumer.call(Method::GET, "/offsets", Some(&wanted)).await;
        let expected = json!({"offsets": [
            {"topic": name, "partition": partition, "offset": offset, "metadata": text},
        ]});
        assert_eq!(reply.json(), expected);
    }
    // The next one without a text has none.
    let offsets = json!({"offsets": [{"topic": name, "partition": 0, "offset": 7}]});
    assert_eq!(consumer.post("/offsets", &offsets).await.status, 200);
    let committed = plain.committed_with_text(&group, &name, 0).await;
    assert_eq!(committed, Some((8, String::new())));
    consumer.delete().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_texts_are_kept_at_once() {
    let gateway = gateway().await;
    let name = topic("v2-hand-texts");
    let plain = broker().await.plain();
    plain.create_topic(&name, 1, &[]).await;
    let groups: Vec<String> = (0..30).map(|_| topic("v2-hand-texts-group")).collect();
    let commits = groups.iter().map(async |group| {
        let consumer = Consumer::make(gateway, group, &from_earliest()).await;
        let partitions = json!({"partitions": [{"topic": name, "partition": 0}]});
        consumer.told("/assignments", &partitions).await;
        let offsets = json!({"offsets": [
            {"topic": name, "partition": 0, "offset": 0, "metadata": group},
        ]});
        let reply = consumer.post("/offsets", &offsets).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
        consumer.delete().await;
    });
    futures::future::join_all(commits).await;
    for group in &groups {
        let committed = plain.committed_with_text(group, &name, 0).await;
        assert_eq!(committed, Some((1, group.clone())));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_text_for_a_kafka_that_is_away_is_refused_in_time_and_kept_later() {
    let kafka = Broker::builder().fast_groups().start().await;
    let gateway = Gateway::builder(&kafka.bootstrap())
        .set("kafka.metadata_timeout_ms", "1500")
        .start()
        .await;
    let name = topic("v2-hand-text-away");
    kafka.plain().create_topic(&name, 1, &[]).await;
    let group = topic("v2-hand-text-away-group");
    let consumer = Consumer::make(&gateway, &group, &from_earliest()).await;
    // In the short time that there is, a broker that has just been started may not yet have what it
    // keeps offsets in.
    let partitions = json!({"partitions": [{"topic": name, "partition": 0}]});
    eventually(BOUND, async || {
        consumer.post("/assignments", &partitions).await.status == 204
    })
    .await;
    let offsets = json!({"offsets": [
        {"topic": name, "partition": 0, "offset": 1, "metadata": "kept"},
    ]});
    // The topic is known, so that it is the commit that has to wait.
    eventually(BOUND, async || {
        consumer.post("/offsets", &offsets).await.status == 200
    })
    .await;
    kafka.pause();

    let reply = consumer.post("/offsets", &offsets).await;

    assert!(reply.status.is_server_error(), "{}", reply.text());
    kafka.resume();
    eventually(BOUND, async || {
        consumer.post("/offsets", &offsets).await.status == 200
    })
    .await;
    let committed = kafka.plain().committed_with_text(&group, &name, 0).await;
    assert_eq!(committed, Some((2, "kept".to_owned())));
    consumer.delete().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_else_commits_for_a_group_with_members() {
    let gateway = gateway().await;
    let name = topic("v2-hand-members");
    let plain = broker().await.plain();
    plain.create_topic(&name, 1, &[]).await;
    fill(gateway, &name, 0, 0..2).await;
    let group = topic("v2-hand-members-group");
    let member = Consumer::make(gateway, &group, &from_earliest()).await;
    member.subscribe(&[&name]).await;
    member.has(1).await;
    let alone = Consumer::make(gateway, &group, &from_earliest()).await;
    let partitions = json!({"partitions": [{"topic": name, "partition": 0}]});
    alone.told("/assignments", &partitions).await;
    assert_eq!(alone.read_all(2).await.len(), 2);

    let reply = alone.call(Method::POST, "/offsets", None).await;

    assert_eq!(refusal(&reply).1, 40903);
    let offsets = json!({"offsets": [
        {"topic": name, "partition": 0, "offset": 0, "metadata": "by nobody"},
    ]});
    let reply = alone.post("/offsets", &offsets).await;
    assert_eq!(refusal(&reply).1, 40903);
    assert_eq!(plain.committed(&group, &name, 0).await, None);
    member.delete().await;
    eventually(BOUND, async || {
        alone.call(Method::POST, "/offsets", None).await.status == 200
    })
    .await;
    assert_eq!(plain.committed(&group, &name, 0).await, Some(2));
    alone.delete().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_instance_with_assigned_partitions_commits_by_itself() {
    let gateway = gateway().await;
    let name = topic("v2-hand-auto");
    let plain = broker().await.plain();
    plain.create_topic(&name, 1, &[]).await;
    fill(gateway, &name, 0, 0..4).await;
    let group = topic("v2-hand-auto-group");
    let mut body = from_earliest();
    body["auto.commit.enable"] = json!(true);
    let consumer = Consumer::make(gateway, &group, &body).await;
    let partitions = json!({"partitions": [{"topic": name, "partition": 0}]});
    consumer.told("/assignments", &partitions).await;
    assert_eq!(consumer.read("max_bytes=2").await.len(), 2);
    assert_eq!(consumer.read("max_bytes=1").await.len(), 1);
    eventually(BOUND, async || {
        plain.committed(&group, &name, 0).await == Some(2)
    })
    .await;
    consumer.delete().await;
    assert_eq!(plain.committed(&group, &name, 0).await, Some(3));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_place_to_begin_at_a_read_says_so_and_a_seek_helps() {
    let gateway = gateway().await;
    let name = created("v2-hand-none", 1).await;
    fill(gateway, &name, 0, 0..2).await;
    let mut body = from_earliest();
    body["auto.offset.reset"] = json!("none");
    for by_hand in [true, false] {
        let consumer = Consumer::make(gateway, &topic("v2-hand-none-group"), &body).await;
        if by_hand {
            let partitions = json!({"partitions": [{"topic": name, "partition": 0}]});
            consumer.told("/assignments", &partitions).await;
        } else {
            consumer.subscribe(&[&name]).await;
        }
        let reply = consumer.get("/records").await;
        assert_eq!(refusal(&reply).1, 50002, "{by_hand}");
        let message = reply.json()["message"].as_str().unwrap().to_owned();
        assert!(message.contains("no place to start"), "{message}");
        if by_hand {
            let beginning = json!({"partitions": []});
            consumer.told("/positions/beginning", &beginning).await;
            assert_eq!(numbers(&consumer.read_all(2).await), [0, 1]);
        } else {
            // The instance goes on trying, and says it each time.
            let reply = consumer.get("/records").await;
            assert_eq!(refusal(&reply).1, 50002);
        }
        consumer.delete().await;
    }
}
