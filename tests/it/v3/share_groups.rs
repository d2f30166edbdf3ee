//! Share groups: their members, where they start, how that is moved and forgotten, and how a group is deleted. The same
//! the plain way.

use std::time::Duration;

use krafka::Kafka;
use krafka::admin::{
    ConfigOp, ConfigResource, DescribeShareGroupOffsetsOptions, IncrementalAlterConfigsOptions,
    SharePartitionOffset, TopicPartition,
};
use krafka::share_consumer::ShareConsumer;
use reqwest::Method;
use serde_json::{Value, json};

use super::{BOUND, call_at, cluster_id, code};
use crate::support::gateway::Gateway;
use crate::support::groups::{broker, fill, gateway};
use crate::support::http::{Reply, client, send};
use crate::support::{eventually, openapi, topic};

async fn ask(method: Method, path: &str, body: Option<&Value>) -> Reply {
    call_at(gateway().await, method, path, body).await
}

async fn seen(path: &str) -> Value {
    let reply = ask(Method::GET, path, None).await;
    assert_eq!(reply.status, 200, "{path}: {}", reply.text());
    reply.json()
}

/// The same the plain way.
async fn plainly(method: Method, path: &str, body: Option<&Value>) -> Reply {
    let request = client().request(method.clone(), gateway().await.url(path));
    let reply = send(match body {
        Some(body) => request.json(body),
        None => request,
    })
    .await;
    openapi::check(method.as_str(), path, &reply);
    reply
}

async fn kafka() -> Kafka {
    let bootstrap = broker().await.bootstrap();
    Kafka::builder(bootstrap).connect().await.unwrap()
}

/// A member of a share group, which is in it while it is polled.
async fn member(kafka: &Kafka, name: &str) -> ShareConsumer {
    let member = kafka.share_consumer(name).build().await.unwrap();
    member.subscribe([name]).await.unwrap();
    member
}

async fn poll(member: &ShareConsumer) -> Vec<(i32, i64)> {
    let records = member.poll(Duration::from_millis(200)).await.unwrap();
    records
        .iter()
        .map(|one| (one.partition, one.offset))
        .collect()
}

/// A topic of two partitions with five records in each, and a member of a share group that has acknowledged all of them:
/// before that Kafka keeps no start of the group.
async fn read_by_one(kafka: &Kafka, name: &str) -> ShareConsumer {
    let plain = broker().await.plain();
    plain.create_topic(name, 2, &[]).await;
    for partition in [0, 1] {
        fill(gateway().await, name, partition, 0..5).await;
    }
    let from = ConfigOp::Set {
        name: "share.auto.offset.reset".to_owned(),
        value: "earliest".to_owned(),
    };
    let changes = [(ConfigResource::group(name), vec![from])];
    let options = IncrementalAlterConfigsOptions::default();
    let admin = kafka.admin();
    let altered = admin.incremental_alter_configs(changes, options).await;
    assert!(altered.unwrap().values().all(Result::is_ok));
    let member = member(kafka, name).await;
    eventually(BOUND, || async {
        poll(&member).await;
        lags_at_kafka(kafka, name).await == [Some(0), Some(0)]
    })
    .await;
    member
}

/// The same with a member who has left.
async fn left_by_one(kafka: &Kafka, name: &str) {
    read_by_one(kafka, name).await.close().await.unwrap();
    let path = format!("/share-groups/{name}");
    eventually(BOUND, || async { seen(&path).await["state"] == "EMPTY" }).await;
}

/// Where a group starts in both partitions, as another client sees it.
async fn starts_at_kafka(kafka: &Kafka, name: &str) -> [Option<i64>; 2] {
    let found = offsets_at_kafka(kafka, name).await;
    found.map(|one| one.map(|one| one.start_offset).filter(|start| *start >= 0))
}

/// How many records it has yet to deliver. Kafka may move the start on later than it counts them.
async fn lags_at_kafka(kafka: &Kafka, name: &str) -> [Option<i64>; 2] {
    let found = offsets_at_kafka(kafka, name).await;
    found.map(|one| one.filter(|one| one.start_offset >= 0)?.lag)
}

async fn offsets_at_kafka(kafka: &Kafka, name: &str) -> [Option<SharePartitionOffset>; 2] {
    let options = DescribeShareGroupOffsetsOptions::default();
    let admin = kafka.admin();
    let found = admin.describe_share_group_offsets(name, options).await;
    let mut found = found.unwrap_or_default();
    [0, 1].map(|partition| found.remove(&TopicPartition::new(name, partition))?.ok())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_share_group_with_a_member_is_described() {
    let name = topic("v3-share");
    let kafka = kafka().await;
    let member = read_by_one(&kafka, &name).await;
    let path = format!("/share-groups/{name}");
    eventually(BOUND, || async {
        poll(&member).await;
        let group = seen(&path).await;
        group["partition_count"] == 2 && group["state"] == "STABLE"
    })
    .await;

    let gateway: &Gateway = gateway().await;
    let cluster = cluster_id(gateway).await;
    let url = |path: &str| gateway.url(&format!("/v3/clusters/{cluster}{path}"));
    let group = seen(&path).await;
    let expected = json!({
        "kind": "KafkaShareGroup",
        "metadata": {
            "self": url(&path),
            "resource_name": format!("crn:///kafka={cluster}/share-group={name}"),
        },
        "cluster_id": cluster,
        "share_group_id": name,
        "partition_assignor": group["partition_assignor"],
        "state": "STABLE",
        "consumer_count": 1,
        "partition_count": 2,
        "coordinator": {"related": url("/brokers/1")},
        "consumers": {"related": url(&format!("{path}/consumers"))},
        "offsets": {"related": url(&format!("{path}/offsets"))},
    });
    assert_eq!(group, expected);
    let list = seen(&format!("/share-groups?prefix={name}")).await;
    assert_eq!(list["kind"], "KafkaShareGroupList");
    assert_eq!(list["data"], json!([group]));
    // It is no group of consumers.
    let others = seen(&format!("/consumer-groups?prefix={name}")).await;
    assert_eq!(others["data"], json!([]));

    let consumers = seen(&format!("{path}/consumers")).await;
    assert_eq!(consumers["kind"], "KafkaShareGroupConsumerList");
    let consumer = &consumers["data"][0];
    let id = consumer["consumer_id"].as_str().unwrap();
    assert_eq!(id, member.member_id());
    assert_eq!(consumer["kind"], "KafkaShareGroupConsumer");
    assert_eq!(consumer["group_id"], name);
    assert!(
        consumer["host"].as_str().unwrap().starts_with("127.0.0.1"),
        "{consumer}"
    );
    // Its client made it up in base64, which may have slashes.
    let own = format!("{path}/consumers/{}", id.replace('/', "%2F"));
    assert_eq!(seen(&own).await, *consumer);
    let assignments = seen(&format!("{own}/assignments")).await;
    let data = assignments["data"].as_array().unwrap().iter();
    let partitions: Vec<_> = data
        .map(|one| (&one["topic_name"], one["partition_id"].as_i64().unwrap()))
        .collect();
    assert_eq!(partitions, [(&json!(name), 0), (&json!(name), 1)]);
    let one = seen(&format!("{own}/assignments/{name}/partitions/1")).await;
    assert_eq!(one, assignments["data"][1]);
    for missing in [
        format!("{path}-no"),
        format!("{path}-no/consumers"),
        format!("{path}-no/offsets"),
        format!("{path}/consumers/nobody"),
        format!("{path}/consumers/nobody/assignments"),
        format!("{own}/assignments/{name}/partitions/9"),
    ] {
        let reply = ask(Method::GET, &missing, None).await;
        assert_eq!(code(&reply), (404, 404), "{missing}: {}", reply.text());
    }

    // What is about the whole group waits until nobody is in it.
    poll(&member).await;
    let reset = json!({"to": "earliest"});
    for (method, path, body) in [
        (Method::DELETE, path.clone(), None),
        (Method::POST, format!("{path}/offsets:alter"), Some(&reset)),
        (Method::DELETE, format!("{path}/offsets/{name}"), None),
    ] {
        let refused = ask(method.clone(), &path, body).await;
        assert_eq!(
            code(&refused),
            (409, 409),
            "{method} {path}: {}",
            refused.text()
        );
        assert!(refused.text().contains("1 members"), "{}", refused.text());
    }

    let plain = plainly(Method::GET, &format!("/groups/{name}"), None).await;
    assert_eq!(plain.status, 200, "{}", plain.text());
    let plain = plain.json();
    assert_eq!(plain["protocol"], "share");
    assert_eq!(plain["members"][0]["member"], id);
    assert_eq!(plain["members"][0]["partitions"], 2);
    assert_eq!(plain["partitions"].as_array().unwrap().len(), 2);
    assert_eq!(plain["lag"], 0);
    member.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_a_share_group_starts_is_moved() {
    let name = topic("v3-share-reset");
    let kafka = kafka().await;
    left_by_one(&kafka, &name).await;
    let path = format!("/share-groups/{name}");

    let offsets = seen(&format!("{path}/offsets")).await;
    assert_eq!(offsets["kind"], "KafkaShareGroupOffsetList");
    let starts = |list: &Value| -> Vec<(i64, Option<i64>, Option<i64>)> {
        let number = |one: &Value, field: &str| one[field].as_i64();
        let data = list["data"].as_array().unwrap().iter();
        data.map(|one| {
            assert_eq!(one["topic_name"], name);
            (
                number(one, "partition_id").unwrap(),
                number(one, "start_offset"),
                number(one, "lag"),
            )
        })
        .collect()
    };
    let before = starts_at_kafka(&kafka, &name).await;
    assert_eq!(
        starts(&offsets),
        [(0, before[0], Some(0)), (1, before[1], Some(0))]
    );
    let first = seen(&format!("{path}/offsets?page_size=1")).await;
    assert_eq!(starts(&first).len(), 1);
    assert!(first["metadata"]["next"].is_string());

    let alter = format!("{path}/offsets:alter");
    let dry = json!({"to": "earliest", "dry_run": true});
    let dry = ask(Method::POST, &alter, Some(&dry)).await;
    assert_eq!(dry.status, 200, "{}", dry.text());
    assert_eq!(dry.json()["data"].as_array().unwrap().len(), 2);
    assert_eq!(starts_at_kafka(&kafka, &name).await, before);

    let some = json!({"offsets": [{"topic_name": name, "partition_id": 0, "start_offset": 3}]});
    let altered = ask(Method::POST, &alter, Some(&some)).await;
    assert_eq!(altered.status, 200, "{}", altered.text());
    let data = json!([{
        "topic_name": name,
        "partition_id": 0,
        "previous_start_offset": before[0],
        "start_offset": 3,
    }]);
    assert_eq!(altered.json()["data"], data);
    eventually(BOUND, || async {
        starts_at_kafka(&kafka, &name).await == [Some(3), before[1]]
    })
    .await;
    let plain = plainly(Method::GET, &format!("/groups/{name}"), None).await;
    assert_eq!(plain.json()["lag"], 2, "{}", plain.text());
    for (body, expected) in [
        (json!({}), (422, 422)),
        (
            json!({"offsets": [{"topic_name": name, "partition_id": 0, "start_offset": 99}]}),
            (422, 422),
        ),
        (
            json!({"to": "earliest", "topics": [format!("{name}-no")]}),
            (404, 40403),
        ),
        (
            json!({"offsets": [{"topic": name, "partition": 0, "offset": 1}]}),
            (422, 422),
        ),
    ] {
        let refused = ask(Method::POST, &alter, Some(&body)).await;
        assert_eq!(code(&refused), expected, "{body}: {}", refused.text());
    }

    // The plain way does it too.
    let reset = json!({"to": "earliest", "topics": [name]});
    let offsets = format!("/groups/{name}/offsets");
    let done = plainly(Method::POST, &offsets, Some(&reset)).await;
    assert_eq!(done.status, 200, "{}", done.text());
    eventually(BOUND, || async {
        starts_at_kafka(&kafka, &name).await == [Some(0), Some(0)]
    })
    .await;
    assert_eq!(lags_at_kafka(&kafka, &name).await, [Some(5), Some(5)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_share_group_is_listed_with_its_kind_and_forgotten() {
    let name = topic("v3-share-delete");
    let kafka = kafka().await;
    left_by_one(&kafka, &name).await;
    let path = format!("/share-groups/{name}");
    let list = |protocol: &'static str| {
        let path = format!("/groups?prefix={name}&protocol={protocol}");
        async move { plainly(Method::GET, &path, None).await.json() }
    };
    let listed = list("share").await;
    let expected = json!([
        {"group": name, "state": "Empty", "protocol": "share", "coordinator": 1},
    ]);
    assert_eq!(listed, expected);
    assert_eq!(list("consumer").await, json!([]));
    let unknown = plainly(Method::GET, "/groups?protocol=any", None).await;
    assert_eq!(unknown.status, 400);

    let no_such = ask(Method::DELETE, &format!("{path}/offsets/{name}-no"), None).await;
    assert_eq!(code(&no_such), (404, 404), "{}", no_such.text());
    let one = format!("/groups/{name}/offsets?topic={name}&partition=0");
    let refused = plainly(Method::DELETE, &one, None).await;
    assert_eq!(refused.status, 400, "{}", refused.text());
    let forgotten = ask(Method::DELETE, &format!("{path}/offsets/{name}"), None).await;
    assert_eq!(forgotten.status, 204, "{}", forgotten.text());
    eventually(BOUND, || async {
        starts_at_kafka(&kafka, &name).await == [None, None]
    })
    .await;

    // A group of another kind is not deleted here.
    let other = format!("{name}-other");
    broker().await.plain().commit(&other, &name, 0, 0).await;
    let refused = ask(Method::DELETE, &format!("/share-groups/{other}"), None).await;
    assert_eq!(code(&refused), (404, 404), "{}", refused.text());
    assert_eq!(
        broker().await.plain().committed(&other, &name, 0).await,
        Some(0)
    );

    let deleted = ask(Method::DELETE, &path, None).await;
    assert_eq!(deleted.status, 204, "{}", deleted.text());
    for method in [Method::GET, Method::DELETE] {
        let gone = ask(method, &path, None).await;
        assert_eq!(code(&gone), (404, 404));
    }
    assert_eq!(list("share").await, json!([]));
}
