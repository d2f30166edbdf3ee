//! `/groups`: groups are listed and described with their lag; what they have committed is moved and deleted.

use reqwest::Method;
use serde_json::{Value, json};

use super::{BOUND, call, error};
use crate::support::groups::{broker, fill, gateway};
use crate::support::kafka_client::OutgoingRecord;
use crate::support::{eventually, topic};

async fn get(path: &str) -> Value {
    let reply = call(gateway().await, Method::GET, path, None).await;
    assert_eq!(reply.status, 200, "{path}: {}", reply.text());
    reply.json()
}

/// A topic of two partitions with ten records in each.
async fn filled(prefix: &str) -> String {
    let name = topic(prefix);
    broker().await.plain().create_topic(&name, 2, &[]).await;
    for partition in [0, 1] {
        fill(gateway().await, &name, partition, 0..10).await;
    }
    name
}

/// What a reset did to each partition: before and after.
fn moves(result: &Value) -> Vec<(i64, Option<i64>, i64)> {
    let partitions = result["partitions"].as_array().unwrap().iter();
    partitions
        .map(|one| {
            (
                one["partition"].as_i64().unwrap(),
                one["before"].as_i64(),
                one["after"].as_i64().unwrap(),
            )
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_is_listed_and_described_with_its_lag() {
    let name = filled("groups").await;
    let plain = broker().await.plain();
    let member = plain.member(&name, &name).await;
    eventually(BOUND, || async { member.partitions().await == 2 }).await;
    // Nothing is committed, so that there is no lag to be told.
    assert_eq!(plain.committed(&name, &name, 0).await, None);

    let list = get(&format!("/groups?prefix={name}")).await;
    assert_eq!(list[0]["group"], name);
    assert_eq!(list[0]["protocol"], "consumer");
    assert_eq!(list[0]["coordinator"], 1);
    let group = get(&format!("/groups/{name}")).await;
    assert_eq!(group["group"], name);
    assert_eq!(group["protocol"], "consumer");
    let members = group["members"].as_array().unwrap();
    assert_eq!(members.len(), 1);
    assert_eq!(members[0]["partitions"], 2);
    assert_eq!(group["partitions"], json!([]));
    assert_eq!(group["lag"], 0);
    let refused = call(
        gateway().await,
        Method::DELETE,
        &format!("/groups/{name}"),
        None,
    )
    .await;
    assert_eq!(error(&refused), (409, 409, "group".to_owned()));
    let reset = json!({"to": "earliest", "topics": [name]});
    let path = format!("/groups/{name}/offsets");
    let refused = call(gateway().await, Method::POST, &path, Some(&reset)).await;
    assert_eq!(error(&refused), (409, 409, "group".to_owned()));
    assert!(refused.text().contains("1 members"), "{}", refused.text());
    member.leave().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_group_has_committed_is_moved_to_any_kind_of_place() {
    let name = filled("groups-reset").await;
    let plain = broker().await.plain();
    // After the records that are there; Kafka takes times up to an hour ahead of its clock.
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let later = i64::try_from(now.unwrap().as_millis()).unwrap() + 1_800_000;
    let late = OutgoingRecord {
        topic: &name,
        partition: Some(0),
        value: Some(b"late"),
        timestamp: Some(later),
        ..OutgoingRecord::default()
    };
    plain.produce(late).await;
    plain.commit(&name, &name, 0, 5).await;
    plain.commit(&name, &name, 1, 7).await;
    let path = format!("/groups/{name}/offsets");
    let reset = async |body: Value| {
        let reply = call(gateway().await, Method::POST, &path, Some(&body)).await;
        assert_eq!(reply.status, 200, "{body}: {}", reply.text());
        moves(&reply.json())
    };
    let committed = async || {
        let of = |partition| plain.committed(&name, &name, partition);
        (of(0).await.unwrap(), of(1).await.unwrap())
    };

    let dry = reset(json!({"to": "earliest", "dry_run": true})).await;
    assert_eq!(dry, [(0, Some(5), 0), (1, Some(7), 0)]);
    assert_eq!(committed().await, (5, 7));
    assert_eq!(
        reset(json!({"shift": -2})).await,
        [(0, Some(5), 3), (1, Some(7), 5)]
    );
    assert_eq!(committed().await, (3, 5));
    // Not further than the log goes.
    assert_eq!(
        reset(json!({"shift": 100})).await,
        [(0, Some(3), 11), (1, Some(5), 10)]
    );
    assert_eq!(
        reset(json!({"shift": -100})).await,
        [(0, Some(11), 0), (1, Some(10), 0)]
    );
    assert_eq!(
        reset(json!({"to": "latest"})).await,
        [(0, Some(0), 11), (1, Some(0), 10)]
    );
    let time = reset(json!({"to": later, "topics": [name]})).await;
    assert_eq!(time, [(0, Some(11), 10), (1, Some(10), 10)]);
    let one = json!({"to": "earliest", "partitions": [{"topic": name, "partition": 1}]});
    assert_eq!(reset(one).await, [(1, Some(10), 0)]);
    let named = json!({"offsets": [{"topic": name, "partition": 0, "offset": 4}]});
    assert_eq!(reset(named).await, [(0, Some(10), 4)]);
    assert_eq!(committed().await, (4, 0));

    for (body, expected) in [
        (
            json!({"offsets": [{"topic": name, "partition": 0, "offset": 99}]}),
            (422, 422, "/offsets"),
        ),
        (
            json!({"to": "latest", "partitions": [{"topic": name, "partition": 9}]}),
            (404, 40402, "partition"),
        ),
        (
            json!({"to": "latest", "topics": [format!("{name}-no")]}),
            (404, 40401, "topic"),
        ),
        (json!({"to": "soon"}), (400, 400, "/to")),
        (json!({}), (422, 422, "/to")),
    ] {
        let reply = call(gateway().await, Method::POST, &path, Some(&body)).await;
        let (status, code, field) = error(&reply);
        assert_eq!((status, code, &*field), expected, "{body}");
        assert_eq!(committed().await, (4, 0));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_that_is_not_there_may_be_given_a_place_to_start() {
    let name = filled("groups-new").await;
    let path = format!("/groups/{name}/offsets");
    let body = json!({"to": "latest", "topics": [name]});
    let reply = call(gateway().await, Method::POST, &path, Some(&body)).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert_eq!(moves(&reply.json()), [(0, None, 10), (1, None, 10)]);
    let plain = broker().await.plain();
    assert_eq!(plain.committed(&name, &name, 1).await, Some(10));
    let uncommitted = filled("groups-uncommitted").await;
    let shift = json!({"shift": 1, "topics": [uncommitted]});
    let refused = call(gateway().await, Method::POST, &path, Some(&shift)).await;
    assert_eq!(error(&refused), (422, 422, "/shift".to_owned()));
    let nothing = call(
        gateway().await,
        Method::POST,
        &format!("/groups/{name}-no/offsets"),
        Some(&json!({"to": "latest"})),
    )
    .await;
    assert_eq!(nothing.json()["partitions"], json!([]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_group_has_committed_is_deleted_by_topic_and_partition() {
    let name = filled("groups-forget").await;
    let plain = broker().await.plain();
    for partition in [0, 1] {
        plain.commit(&name, &name, partition, 3).await;
    }
    let path = format!("/groups/{name}/offsets?topic={name}");

    let one = call(
        gateway().await,
        Method::DELETE,
        &format!("{path}&partition=1"),
        None,
    )
    .await;
    assert_eq!(one.status, 204, "{}", one.text());
    assert_eq!(plain.committed(&name, &name, 1).await, None);
    assert_eq!(plain.committed(&name, &name, 0).await, Some(3));
    let all = call(gateway().await, Method::DELETE, &path, None).await;
    assert_eq!(all.status, 204, "{}", all.text());
    assert_eq!(plain.committed(&name, &name, 0).await, None);
    let again = call(gateway().await, Method::DELETE, &path, None).await;
    assert_eq!(error(&again).0, 404);
    let without = format!("/groups/{name}/offsets");
    let refused = call(gateway().await, Method::DELETE, &without, None).await;
    assert_eq!(error(&refused), (400, 400, "topic".to_owned()));

    let gone = call(
        gateway().await,
        Method::DELETE,
        &format!("/groups/{name}"),
        None,
    )
    .await;
    // Kafka forgets a group without members and commits by itself, sooner or later.
    assert!(
        [204, 404].contains(&gone.status.as_u16()),
        "{}",
        gone.text()
    );
}
