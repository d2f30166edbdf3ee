//! Topics: made, described, given more partitions and deleted; their partitions, ends and replicas.

use reqwest::Method;
use serde_json::{Value, json};

use super::{call, call_at, cluster_id, code, make, one_of, resource_name, seen, url};
use crate::support::gateway::Gateway;
use crate::support::http::{client, send};
use crate::support::kafka_client::OutgoingRecord;
use crate::support::{kafka, shared_gateway, topic};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_is_made_described_grown_and_deleted() {
    let name = topic("v3-life");
    let path = format!("/topics/{name}");
    let create = json!({
        "topic_name": name,
        "partitions_count": 2,
        "replication_factor": 1,
        "configs": [{"name": "retention.ms", "value": "123456789"}],
    });
    let made = call(Method::POST, "/topics", Some(&create)).await;
    assert_eq!(made.status, 201, "{}", made.text());
    assert_eq!(made.header("location"), url(&path).await);
    let described = json!({
        "kind": "KafkaTopic",
        "metadata": {"self": url(&path).await, "resource_name": resource_name(&format!("/topic={name}")).await},
        "cluster_id": cluster_id(shared_gateway().await).await,
        "topic_name": name,
        "is_internal": false,
        "replication_factor": 1,
        "partitions_count": 2,
        "partitions": {"related": url(&format!("{path}/partitions")).await},
        "configs": {"related": url(&format!("{path}/configs")).await},
        "partition_reassignments": {"related": url(&format!("{path}/partitions/-/reassignment")).await},
        "authorized_operations": [],
    });
    assert_eq!(made.json(), described);
    assert_eq!(seen(&path).await, described);
    assert_eq!(
        *one_of(&seen("/topics").await, "topic_name", &name),
        described
    );
    let plain = kafka().await.plain();
    assert!(plain.topics().await.contains(&name));
    let retention = seen(&format!("{path}/configs/retention.ms")).await;
    assert_eq!(retention["value"], "123456789");

    let again = call(Method::POST, "/topics", Some(&create)).await;
    assert_eq!(code(&again), (400, 40002));
    let grow = json!({"partitions_count": 5});
    let grown = call(Method::PATCH, &path, Some(&grow)).await;
    assert_eq!(grown.status, 200, "{}", grown.text());
    assert_eq!(grown.json()["partitions_count"], 5);
    let partitions = seen(&format!("{path}/partitions")).await;
    assert_eq!(partitions["data"].as_array().unwrap().len(), 5);
    for smaller in [5, 1, 0] {
        let shrink = json!({"partitions_count": smaller});
        let refused = call(Method::PATCH, &path, Some(&shrink)).await;
        assert_eq!(code(&refused), (400, 40002), "{smaller}");
    }

    let deleted = call(Method::DELETE, &path, None).await;
    assert_eq!((deleted.status.as_u16(), deleted.body.len()), (204, 0));
    assert!(!plain.topics().await.contains(&name));
    for method in [Method::GET, Method::DELETE] {
        let gone = call(method, &path, None).await;
        assert_eq!(code(&gone), (404, 40403));
    }
    let gone = call(Method::PATCH, &path, Some(&grow)).await;
    assert_eq!(code(&gone), (404, 40403));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_may_be_asked_for_without_being_made() {
    let name = topic("v3-dry");
    let dry = json!({"topic_name": name, "validate_only": true});
    let reply = call(Method::POST, "/topics", Some(&dry)).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    // As the brokers make topics.
    assert_eq!(reply.json()["partitions_count"], 1);
    assert_eq!(reply.json()["replication_factor"], 1);
    let assigned = json!({
        "topic_name": name,
        "replicas_assignments": {"0": [1], "1": [1], "2": [1]},
        "validate_only": true,
    });
    let reply = call(Method::POST, "/topics", Some(&assigned)).await;
    assert_eq!(reply.json()["partitions_count"], 3);
    let refused = json!({"topic_name": name, "replication_factor": 5, "validate_only": true});
    let reply = call(Method::POST, "/topics", Some(&refused)).await;
    assert_eq!(code(&reply), (400, 40002));
    assert!(!kafka().await.plain().topics().await.contains(&name));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_that_cannot_be_made_is_refused_with_the_reason() {
    let name = topic("v3-bad");
    for (body, expected) in [
        (
            json!({"topic_name": name, "partitions_count": 0}),
            (400, 40002),
        ),
        (
            json!({"topic_name": name, "partitions_count": -7}),
            (400, 40002),
        ),
        (
            json!({"topic_name": name, "replication_factor": 9}),
            (400, 40002),
        ),
        (
            json!({"topic_name": name, "configs": [{"name": "no.such", "value": "1"}]}),
            (400, 40002),
        ),
        (
            json!({"topic_name": name, "configs": [{"name": "retention.ms", "value": "x"}]}),
            (400, 40002),
        ),
        (
            json!({"topic_name": name, "replicas_assignments": {"0": [77]}}),
            (400, 40002),
        ),
        (json!({"topic_name": "a b"}), (422, 42206)),
        (json!({"topic_name": "__consumer_offsets"}), (403, 40301)),
        (json!({"topic_name": name, "unknown": 1}), (422, 422)),
        (json!({}), (400, 400)),
    ] {
        let reply = call(Method::POST, "/topics", Some(&body)).await;
        assert_eq!(code(&reply), expected, "{body}");
    }
    let empty = call(Method::POST, "/topics", None).await;
    assert_eq!(code(&empty), (422, 42206));
    let broken = client().post(url("/topics").await).body("{");
    assert_eq!(code(&send(broken).await), (400, 400));
    let text = client().post(url("/topics").await).body("{}");
    assert_eq!(
        send(text.header("content-type", "text/plain")).await.status,
        415
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kafkas_own_topics_are_neither_changed_nor_deleted() {
    let plain = kafka().await.plain();
    let name = topic("v3-own");
    plain.create_topic(&name, 1, &[]).await;
    // Makes the broker create __consumer_offsets.
    plain.commit("v3-own", &name, 0, 1).await;
    let own = "/topics/__consumer_offsets";
    let grow = json!({"partitions_count": 99});
    let set = json!({"value": "1"});
    for (method, path, body) in [
        (Method::DELETE, own.to_owned(), None),
        (Method::PATCH, own.to_owned(), Some(&grow)),
        (
            Method::PUT,
            format!("{own}/configs/retention.ms"),
            Some(&set),
        ),
        (Method::DELETE, format!("{own}/configs/retention.ms"), None),
    ] {
        let reply = call(method.clone(), &path, body).await;
        assert_eq!(code(&reply), (403, 40301), "{method} {path}");
    }
    assert_eq!(seen(own).await["is_internal"], true);
    let list = seen("/topics").await;
    let names = list["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| &one["topic_name"]);
    assert!(!names.clone().any(|name| name == "__consumer_offsets"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lists_of_topics_come_a_page_at_a_time_and_by_prefix() {
    let prefix = topic("v3-pages");
    let plain = kafka().await.plain();
    let mut names: Vec<String> = (0..5).map(|n| format!("{prefix}-{n}")).collect();
    for name in &names {
        plain.create_topic(name, 1, &[]).await;
    }
    let gateway = Gateway::start(&kafka().await.bootstrap()).await;
    let path = format!("/topics?page_size=2&prefix={prefix}");
    let mut page = call_at(&gateway, Method::GET, &path, None).await.json();
    let mut found = Vec::new();
    loop {
        let data = page["data"].as_array().unwrap();
        assert!(data.len() <= 2);
        found.extend(
            data.iter()
                .map(|one| one["topic_name"].as_str().unwrap().to_owned()),
        );
        let Some(next) = page["metadata"]["next"].as_str() else {
            break;
        };
        page = crate::support::http::get(next).await.json();
    }
    names.sort();
    assert_eq!(found, names);
    let whole = call_at(
        &gateway,
        Method::GET,
        &format!("/topics?prefix={prefix}"),
        None,
    )
    .await;
    assert_eq!(whole.json()["data"].as_array().unwrap().len(), 5);
    assert_eq!(whole.json()["metadata"]["next"], Value::Null);
    let bad = call_at(&gateway, Method::GET, "/topics?page_size=0", None).await;
    assert_eq!(code(&bad), (400, 400));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_may_be_done_with_a_topic_is_told_where_it_is_asked_for() {
    let name = topic("v3-rights");
    make(&name, 1, &[]).await;
    let all = json!([
        "READ",
        "WRITE",
        "CREATE",
        "DELETE",
        "ALTER",
        "DESCRIBE",
        "DESCRIBE_CONFIGS",
        "ALTER_CONFIGS",
    ]);
    for query in [
        "include_authorized_operations=true",
        "includeAuthorizedOperations=true",
    ] {
        let one = seen(&format!("/topics/{name}?{query}")).await;
        assert_eq!(one["authorized_operations"], all, "{query}");
        let list = seen(&format!("/topics?prefix={name}&{query}")).await;
        assert_eq!(list["data"][0]["authorized_operations"], all, "{query}");
    }
    let bad = call(
        Method::GET,
        "/topics?include_authorized_operations=maybe",
        None,
    )
    .await;
    assert_eq!(code(&bad), (400, 400));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partition_has_its_ends_and_replicas() {
    let name = topic("v3-partitions");
    let plain = kafka().await.plain();
    make(&name, 2, &[]).await;
    for _ in 0..3 {
        let record = OutgoingRecord {
            topic: &name,
            partition: Some(1),
            value: Some(b"x"),
            ..OutgoingRecord::default()
        };
        plain.produce(record).await;
    }
    plain.delete_records(&name, 1, 2).await;
    let path = format!("/topics/{name}/partitions/1");
    let crn = resource_name(&format!("/topic={name}/partition=1")).await;
    let id = cluster_id(shared_gateway().await).await;

    let partition = json!({
        "kind": "KafkaPartition",
        "metadata": {"self": url(&path).await, "resource_name": crn},
        "cluster_id": id,
        "topic_name": name,
        "partition_id": 1,
        "leader": {"related": url(&format!("{path}/replicas/1")).await},
        "replicas": {"related": url(&format!("{path}/replicas")).await},
        "reassignment": {"related": url(&format!("{path}/reassignment")).await},
    });
    assert_eq!(seen(&path).await, partition);
    let list = seen(&format!("/topics/{name}/partitions")).await;
    assert_eq!(list["data"][1], partition);
    assert_eq!(list["kind"], "KafkaPartitionList");
    let offset = format!("{path}/offset");
    let ends = json!({
        "kind": "KafkaPartitionWithOffsets",
        "metadata": {"self": url(&offset).await, "resource_name": format!("{crn}/offset_type=earliest_and_latest")},
        "cluster_id": id,
        "topic_name": name,
        "partition_id": 1,
        "earliest_offset": 2,
        "latest_offset": 3,
    });
    assert_eq!(seen(&offset).await, ends);
    let named = format!("{offset}?offset_type=EARLIEST_AND_LATEST");
    assert_eq!(seen(&named).await, ends);
    let replica = json!({
        "kind": "KafkaReplica",
        "metadata": {"self": url(&format!("{path}/replicas/1")).await, "resource_name": format!("{crn}/replica=1")},
        "cluster_id": id,
        "topic_name": name,
        "partition_id": 1,
        "broker_id": 1,
        "is_leader": true,
        "is_in_sync": true,
        "broker": {"related": url("/brokers/1").await},
    });
    assert_eq!(seen(&format!("{path}/replicas/1")).await, replica);
    assert_eq!(
        seen(&format!("{path}/replicas")).await["data"],
        json!([replica])
    );
    let of_broker = seen("/brokers/1/partition-replicas").await;
    assert!(of_broker["data"].as_array().unwrap().contains(&replica));

    for (path, expected) in [
        (format!("/topics/{name}/partitions/9"), (404, 404)),
        (format!("/topics/{name}/partitions/x"), (404, 404)),
        (format!("/topics/{name}/partitions/9/offset"), (404, 40402)),
        (format!("{path}/replicas/9"), (404, 404)),
        (format!("{path}/reassignment"), (404, 404)),
        (format!("{offset}?offset_type=latest"), (400, 400)),
        (format!("/topics/{name}-no/partitions"), (404, 40403)),
        (format!("/topics/{name}-no/partitions/0"), (404, 40403)),
        ("/topics/a%20b".to_owned(), (400, 40002)),
    ] {
        let reply = call(Method::GET, &path, None).await;
        assert_eq!(code(&reply), expected, "{path}");
    }
}
