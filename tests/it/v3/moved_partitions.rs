//! Several brokers: replicas on chosen brokers, and a partition that is being moved.

use krafka::admin::{AlterPartitionReassignmentsOptions, TopicPartition};
use reqwest::Method;
use serde_json::{Value, json};

use super::{BOUND, call_at, code};
use crate::support::broker::Broker;
use crate::support::eventually;
use crate::support::gateway::Gateway;
use crate::support::kafka_client::OutgoingRecord;

/// Has the first partition of a topic moved to these brokers.
async fn move_partition(broker: &Broker, topic: &str, to: &[i32]) {
    let kafka = krafka::Kafka::builder(broker.bootstrap()).connect().await;
    let admin = kafka.unwrap().admin();
    let partition = TopicPartition::new(topic, 0);
    let target = [(partition.clone(), Some(to.to_vec()))];
    let options = AlterPartitionReassignmentsOptions::default();
    let mut moved = admin
        .alter_partition_reassignments(target, options)
        .await
        .unwrap();
    moved.remove(&partition).unwrap().unwrap();
}

/// The brokers that a list of replicas names, and whether each is in sync.
fn replicas(list: &Value) -> Vec<(i64, bool)> {
    let data = list["data"].as_array().unwrap().iter();
    data.map(|one| {
        (
            one["broker_id"].as_i64().unwrap(),
            one["is_in_sync"].as_bool().unwrap(),
        )
    })
    .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_are_where_they_were_put_and_a_broker_that_is_gone_is_not_in_sync() {
    let broker = Broker::builder().nodes(3).start().await;
    let gateway = Gateway::start(&broker.bootstrap()).await;
    let get = async |path: &str| {
        let reply = call_at(&gateway, Method::GET, path, None).await;
        assert_eq!(reply.status, 200, "{path}: {}", reply.text());
        reply.json()
    };
    let create = json!({
        "topic_name": "placed",
        "replicas_assignments": {"0": [2, 3], "1": [3, 1]},
    });
    let made = call_at(&gateway, Method::POST, "/topics", Some(&create)).await;
    assert_eq!(made.status, 201, "{}", made.text());
    assert_eq!(made.json()["replication_factor"], 2);
    assert_eq!(made.json()["partitions_count"], 2);
    let too_many = json!({"topic_name": "many", "replication_factor": 4});
    let refused = call_at(&gateway, Method::POST, "/topics", Some(&too_many)).await;
    assert_eq!(code(&refused), (400, 40002));

    let brokers = get("/brokers").await;
    let ids = brokers["data"].as_array().unwrap().iter();
    let ids: Vec<i64> = ids.map(|one| one["broker_id"].as_i64().unwrap()).collect();
    assert_eq!(ids, [1, 2, 3]);
    eventually(BOUND, || async {
        replicas(&get("/topics/placed/partitions/0/replicas").await) == [(2, true), (3, true)]
    })
    .await;
    let of_first = get("/brokers/1/partition-replicas").await;
    let of_placed = of_first["data"].as_array().unwrap().iter();
    let of_placed: Vec<&Value> = of_placed
        .filter(|one| one["topic_name"] == "placed")
        .collect();
    assert_eq!(of_placed.len(), 1);
    assert_eq!(of_placed[0]["partition_id"], 1);

    broker.node(3).stop().await;
    eventually(BOUND, || async {
        replicas(&get("/topics/placed/partitions/0/replicas").await) == [(2, true), (3, false)]
    })
    .await;
    // What is left leads.
    eventually(BOUND, || async {
        let leader = get("/topics/placed/partitions/1").await["leader"].clone();
        leader["related"]
            .as_str()
            .is_some_and(|url| url.ends_with("/replicas/1"))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partition_that_is_being_moved_says_where_to() {
    let broker = Broker::builder().nodes(2).start().await;
    let gateway = Gateway::start(&broker.bootstrap()).await;
    // Held back for long enough to be seen.
    let hold = json!({"data": [
        {"name": "leader.replication.throttled.rate", "value": "1"},
        {"name": "follower.replication.throttled.rate", "value": "1"},
    ]});
    for id in [1, 2] {
        let path = format!("/brokers/{id}/configs:alter");
        let held = call_at(&gateway, Method::POST, &path, Some(&hold)).await;
        assert_eq!(held.status, 204, "{}", held.text());
    }
    let plain = broker.plain();
    let slow = [
        ("leader.replication.throttled.replicas", "*"),
        ("follower.replication.throttled.replicas", "*"),
    ];
    plain.create_topic_on("moving", &[1], &slow).await;
    // A fetch is let through whole whenever the rate of the last seconds has come down, so there is enough for
    // minutes.
    for _ in 0..30 {
        let value = vec![b'x'; 500_000];
        let record = OutgoingRecord {
            topic: "moving",
            partition: Some(0),
            value: Some(&value),
            ..OutgoingRecord::default()
        };
        plain.produce(record).await;
    }
    let get = async |path: &str| call_at(&gateway, Method::GET, path, None).await;
    let one = "/topics/moving/partitions/0/reassignment";
    assert_eq!(code(&get(one).await), (404, 404));
    assert_eq!(
        get("/topics/-/partitions/-/reassignment").await.json()["data"],
        json!([])
    );

    move_partition(&broker, "moving", &[2]).await;

    let moved = get(one).await;
    assert_eq!(moved.status, 200, "{}", moved.text());
    let moved = moved.json();
    assert_eq!(moved["kind"], "KafkaReassignment");
    assert_eq!(moved["adding_replicas"], json!([2]));
    assert_eq!(moved["removing_replicas"], json!([1]));
    for list in [
        "/topics/-/partitions/-/reassignment",
        "/topics/moving/partitions/-/reassignment",
    ] {
        assert_eq!(get(list).await.json()["data"], json!([moved]), "{list}");
    }
}
