//! Consumer groups: listed, described with their members, how far they are behind, and deleted.

use reqwest::Method;
use serde_json::{Value, json};

use super::{BOUND, call_at, cluster_id, code, one_of};
use crate::support::gateway::Gateway;
use crate::support::groups::{broker, fill, gateway};
use crate::support::kafka_client::GroupMember;
use crate::support::{eventually, topic};

async fn get(path: &str) -> Value {
    let reply = call_at(gateway().await, Method::GET, path, None).await;
    assert_eq!(reply.status, 200, "{path}: {}", reply.text());
    reply.json()
}

async fn url(path: &str) -> String {
    let gateway: &Gateway = gateway().await;
    gateway.url(&format!("/v3/clusters/{}{path}", cluster_id(gateway).await))
}

/// A topic of two partitions with five records in each, and a member of a group that reads both.
async fn read_by_one(name: &str) -> GroupMember {
    let plain = broker().await.plain();
    plain.create_topic(name, 2, &[]).await;
    for partition in [0, 1] {
        fill(gateway().await, name, partition, 0..5).await;
    }
    let member = plain.member(name, name).await;
    eventually(BOUND, || async { member.partitions().await == 2 }).await;
    member
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_with_a_member_is_described() {
    let name = topic("v3-group");
    let member = read_by_one(&name).await;
    let path = format!("/consumer-groups/{name}");
    let crn = format!(
        "crn:///kafka={}/consumer-group={name}",
        cluster_id(gateway().await).await
    );
    eventually(BOUND, || async { get(&path).await["state"] == "STABLE" }).await;

    let group = get(&path).await;
    assert_eq!(
        group,
        json!({
            "kind": "KafkaConsumerGroup",
            "metadata": {"self": url(&path).await, "resource_name": crn},
            "cluster_id": cluster_id(gateway().await).await,
            "consumer_group_id": name,
            "is_simple": false,
            "partition_assignor": group["partition_assignor"],
            "state": "STABLE",
            "type": "CONSUMER",
            "is_mixed_consumer_group": false,
            "coordinator": {"related": url("/brokers/1").await},
            "consumers": {"related": url(&format!("{path}/consumers")).await},
            "lag_summary": {"related": url(&format!("{path}/lag-summary")).await},
        })
    );
    assert!(!group["partition_assignor"].as_str().unwrap().is_empty());
    let list = get(&format!("/consumer-groups?prefix={name}")).await;
    assert_eq!(list["kind"], "KafkaConsumerGroupList");
    assert_eq!(list["data"], json!([group]));

    let consumers = get(&format!("{path}/consumers")).await;
    let consumer = &consumers["data"][0];
    assert_eq!(consumers["data"].as_array().unwrap().len(), 1);
    assert_eq!(consumer["client_id"], "rdkafka");
    assert_eq!(consumer["instance_id"], Value::Null);
    assert!(
        consumer["host"].as_str().unwrap().starts_with("127.0.0.1"),
        "{consumer}"
    );
    let id = consumer["consumer_id"].as_str().unwrap();
    // Its client made it up in base64, which has slashes.
    let id = id.replace('/', "%2F");
    let own = format!("{path}/consumers/{id}");
    assert_eq!(get(&own).await, *consumer);
    let assignments = get(&format!("{own}/assignments")).await;
    let partitions: Vec<_> = assignments["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| {
            (
                one["topic_name"].as_str().unwrap(),
                one["partition_id"].as_i64().unwrap(),
            )
        })
        .collect();
    assert_eq!(partitions, [(&*name, 0), (&*name, 1)]);
    let one = get(&format!("{own}/assignments/{name}/partitions/1")).await;
    assert_eq!(one, assignments["data"][1]);
    assert_eq!(
        one["lag"]["related"],
        url(&format!("{path}/lags/{name}/partitions/1")).await
    );
    for missing in [
        format!("{path}-no"),
        format!("{path}-no/consumers"),
        format!("{path}-no/lags"),
        format!("{path}/consumers/nobody"),
        format!("{path}/consumers/nobody/assignments"),
        format!("{own}/assignments/{name}/partitions/9"),
        // It has committed nothing.
        format!("{path}/lags"),
        format!("{path}/lag-summary"),
    ] {
        let reply = call_at(gateway().await, Method::GET, &missing, None).await;
        assert_eq!(code(&reply), (404, 404), "{missing}");
    }
    let refused = call_at(gateway().await, Method::DELETE, &path, None).await;
    assert_eq!(code(&refused), (409, 409), "{}", refused.text());
    member.leave().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_lag_of_a_group_is_told_by_partition_and_in_all() {
    let name = topic("v3-lag");
    let plain = broker().await.plain();
    plain.create_topic(&name, 3, &[]).await;
    for partition in [0, 1, 2] {
        fill(gateway().await, &name, partition, 0..10).await;
    }
    for (partition, offset) in [(0, 8), (1, 3), (2, 10)] {
        plain.commit(&name, &name, partition, offset).await;
    }
    let path = format!("/consumer-groups/{name}");

    let lags = get(&format!("{path}/lags")).await;
    let found: Vec<_> = lags["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| {
            let number = |field: &str| one[field].as_i64().unwrap();
            (
                number("partition_id"),
                number("current_offset"),
                number("log_end_offset"),
                number("lag"),
            )
        })
        .collect();
    // The largest first.
    assert_eq!(found, [(1, 3, 10, 7), (0, 8, 10, 2), (2, 10, 10, 0)]);
    let first = &lags["data"][0];
    assert_eq!(first["kind"], "KafkaConsumerLag");
    assert_eq!(first["topic_name"], name);
    assert_eq!(first["consumer_id"], "");
    assert_eq!(first["instance_id"], Value::Null);
    assert_eq!(
        get(&format!("{path}/lags/{name}/partitions/1")).await,
        *first
    );
    let missing = format!("{path}/lags/{name}/partitions/7");
    let reply = call_at(gateway().await, Method::GET, &missing, None).await;
    assert_eq!(code(&reply), (404, 404));

    let summary = get(&format!("{path}/lag-summary")).await;
    assert_eq!(summary["kind"], "KafkaConsumerGroupLagSummary");
    assert_eq!(summary["max_lag"], 7);
    assert_eq!(summary["total_lag"], 9);
    assert_eq!(summary["max_lag_partition_id"], 1);
    assert_eq!(summary["max_lag_topic_name"], name);
    assert_eq!(
        summary["max_lag_partition"]["related"],
        url(&format!("/topics/{name}/partitions/1")).await
    );
    let group = get(&path).await;
    assert_eq!(
        (&group["state"], &group["is_simple"]),
        (&json!("EMPTY"), &json!(true))
    );

    // An open transaction is behind what may be read.
    let transaction = plain.transaction(&name).await;
    let record = crate::support::kafka_client::OutgoingRecord {
        topic: &name,
        partition: Some(2),
        value: Some(b"x"),
        ..Default::default()
    };
    transaction.produce(record).await;
    let open = get(&format!("{path}/lags/{name}/partitions/2")).await;
    assert_eq!(open["log_end_offset"], 10);
    transaction.commit().await;
    eventually(BOUND, || async {
        let now = get(&format!("{path}/lags/{name}/partitions/2")).await;
        // The record and the marker of the transaction.
        now["log_end_offset"] == 12
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_without_members_is_deleted_with_its_commits() {
    let name = topic("v3-group-delete");
    let plain = broker().await.plain();
    plain.create_topic(&name, 1, &[]).await;
    plain.commit(&name, &name, 0, 0).await;
    let path = format!("/consumer-groups/{name}");
    let listed = get(&format!("/consumer-groups?prefix={name}")).await;
    one_of(&listed, "consumer_group_id", &name);

    let deleted = call_at(gateway().await, Method::DELETE, &path, None).await;

    assert_eq!(deleted.status, 204, "{}", deleted.text());
    assert_eq!(plain.committed(&name, &name, 0).await, None);
    for method in [Method::GET, Method::DELETE] {
        let gone = call_at(gateway().await, method, &path, None).await;
        assert_eq!(code(&gone), (404, 404));
    }
}
