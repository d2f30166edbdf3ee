//! Several brokers: replicas on chosen brokers, leaders that are elected, and partitions that are moved.

use krafka::admin::{ListPartitionReassignmentsOptions, TopicPartition};
use reqwest::Method;
use serde_json::{Value, json};

use super::{BOUND, call_at, code};
use crate::support::broker::Broker;
use crate::support::eventually;
use crate::support::gateway::Gateway;
use crate::support::kafka_client::OutgoingRecord;

/// Which brokers are to get a partition and which to lose it, as another client sees it; `None` where it is not
/// being moved.
async fn moved(broker: &Broker, topic: &str, partition: i32) -> Option<(Vec<i32>, Vec<i32>)> {
    let kafka = krafka::Kafka::builder(broker.bootstrap()).connect().await;
    let admin = kafka.unwrap().admin();
    let options = ListPartitionReassignmentsOptions::default();
    let mut moved = admin.list_partition_reassignments(options).await.unwrap();
    let moved = moved.remove(&TopicPartition::new(topic, partition))?;
    Some((moved.adding_replicas, moved.removing_replicas))
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
async fn replicas_are_where_they_were_put_and_one_that_is_back_leads_again_when_elected() {
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

    // The preferred leader is not there.
    let elect = "/topics/placed/partitions/1/leader:elect";
    let post =
        async |path: &str, body: Option<&Value>| call_at(&gateway, Method::POST, path, body).await;
    let refused = post(elect, None).await;
    assert_eq!(code(&refused), (500, 50003), "{}", refused.text());
    let all = "/topics/-/partitions/-/leader:elect";
    let of_placed = json!({"partitions": [{"topic_name": "placed"}]});
    let some = post(all, Some(&of_placed)).await;
    assert_eq!(some.status, 207, "{}", some.text());
    let some = some.json();
    assert_eq!(
        some["data"],
        json!([{"topic_name": "placed", "partition_id": 0}])
    );
    assert_eq!(some["failures"][0]["partition_id"], 1);
    assert_eq!(some["failures"][0]["error_code"], 50003);
    for (entry, field, expected) in [
        (
            json!({"topic_name": "nowhere"}),
            "/partitions/0/topic_name",
            (404, 40403),
        ),
        (
            json!({"topic_name": "placed", "partition_id": 7}),
            "/partitions/0/partition_id",
            (404, 40402),
        ),
    ] {
        let reply = post(all, Some(&json!({"partitions": [entry]}))).await;
        assert_eq!(code(&reply), expected, "{}", reply.text());
        assert_eq!(reply.json()["field"], field);
    }

    broker.node(3).restart().await;
    let plain = broker.plain();
    eventually(BOUND, || async { plain.in_sync("placed", 1).await == 2 }).await;
    assert_eq!(
        plain.leader("placed", 1).await,
        Some(1),
        "it does not move by itself"
    );
    let elected = post(all, None).await;
    assert_eq!(elected.status, 200, "{}", elected.text());
    let elected = elected.json();
    let led = json!({"topic_name": "placed", "partition_id": 1});
    assert!(
        elected["data"].as_array().unwrap().contains(&led),
        "{elected}"
    );
    eventually(BOUND, || async {
        plain.leader("placed", 1).await == Some(3)
    })
    .await;
    // It is led as wanted already, which is no failure.
    let unclean = json!({"election_type": "UNCLEAN"});
    let again = post(elect, Some(&unclean)).await;
    assert_eq!(again.status, 200, "{}", again.text());
    assert_eq!(again.json()["data"], json!([led]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partition_is_moved_says_where_to_and_the_move_can_be_ended() {
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
    plain.create_topic_on("small", &[1], &[]).await;
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

    let put = async |path: &str, replicas: Value| {
        let body = json!({"replicas": replicas});
        call_at(&gateway, Method::PUT, path, Some(&body)).await
    };
    // Brokers and partitions that there are not.
    let nobody = put(one, json!([9])).await;
    assert_eq!(code(&nobody), (400, 40002), "{}", nobody.text());
    assert!(nobody.text().contains('9'), "{}", nobody.text());
    for (path, expected) in [
        ("/topics/moving/partitions/7/reassignment", (404, 40402)),
        ("/topics/nowhere/partitions/0/reassignment", (404, 40403)),
    ] {
        assert_eq!(code(&put(path, json!([2])).await), expected, "{path}");
    }
    let delete = async || call_at(&gateway, Method::DELETE, one, None).await;
    assert_eq!(code(&delete().await), (404, 404));
    assert_eq!(moved(&broker, "moving", 0).await, None);

    let moving = put(one, json!([2])).await;
    assert_eq!(moving.status, 200, "{}", moving.text());
    let moving = moving.json();
    assert_eq!(moving["kind"], "KafkaReassignment");
    assert_eq!(moving["adding_replicas"], json!([2]));
    assert_eq!(moving["removing_replicas"], json!([1]));
    let seen = moved(&broker, "moving", 0).await;
    assert_eq!(seen, Some((vec![2], vec![1])));
    assert_eq!(get(one).await.json(), moving);
    for list in [
        "/topics/-/partitions/-/reassignment",
        "/topics/moving/partitions/-/reassignment",
    ] {
        assert_eq!(get(list).await.json()["data"], json!([moving]), "{list}");
    }

    let ended = delete().await;
    assert_eq!(ended.status, 204, "{}", ended.text());
    assert_eq!(moved(&broker, "moving", 0).await, None);
    assert_eq!(plain.leader("moving", 0).await, Some(1));

    // Several at once: what Kafka refuses is named, and the other one is moved.
    let alter = "/topics/-/partitions/-/reassignment:alter";
    let post = async |data: Value| {
        let body = json!({"data": data});
        call_at(&gateway, Method::POST, alter, Some(&body)).await
    };
    let missing = json!([
        {"topic_name": "small", "partition_id": 0, "replicas": [2]},
        {"topic_name": "small", "partition_id": 3, "replicas": [2]},
    ]);
    // Until every broker has heard of the topic.
    eventually(BOUND, || async {
        code(&post(missing.clone()).await) == (404, 40402)
    })
    .await;
    let unknown = post(missing).await;
    assert_eq!(unknown.json()["field"], "/data/1/partition_id");
    assert_eq!(plain.leader("small", 0).await, Some(1), "nothing is moved");
    let some = post(json!([
        {"topic_name": "small", "partition_id": 0, "replicas": [2]},
        {"topic_name": "moving", "partition_id": 0, "operation": "DELETE"},
    ]));
    let some = some.await;
    assert_eq!(some.status, 207, "{}", some.text());
    let failures = some.json()["failures"].clone();
    assert_eq!(failures.as_array().unwrap().len(), 1, "{failures}");
    assert_eq!(failures[0]["topic_name"], "moving");
    assert_eq!(failures[0]["error_code"], 404);
    eventually(BOUND, || async {
        plain.leader("small", 0).await == Some(2)
    })
    .await;
}
