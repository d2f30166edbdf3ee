//! Topics, partitions and brokers as clients of the v2 API see them, on a real Kafka.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::broker::Broker;
use crate::support::gateway::Gateway;
use crate::support::http::{Reply, client, get, send};
use crate::support::kafka_client::OutgoingRecord;
use crate::support::{eventually, kafka, shared_gateway, topic};

const V2: &str = "application/vnd.kafka.v2+json";
const BOUND: Duration = Duration::from_secs(120);

async fn get_as(path: &str, accept: &str) -> Reply {
    let url = shared_gateway().await.url(path);
    send(client().get(url).header("accept", accept)).await
}

fn error_code(reply: &Reply) -> (u16, i64) {
    let code = reply.json()["error_code"].as_i64().unwrap();
    (reply.status.as_u16(), code)
}

fn record(topic: &str) -> OutgoingRecord<'_> {
    OutgoingRecord {
        topic,
        partition: Some(0),
        value: Some(b"x"),
        ..OutgoingRecord::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn topics_are_listed_by_name_without_kafkas_own() {
    let kafka = kafka().await;
    let (later, earlier) = (topic("v2-list-b"), topic("v2-list-a"));
    kafka.plain().create_topic(&later, 1, &[]).await;
    kafka.plain().create_topic(&earlier, 1, &[]).await;
    // Makes the broker create __consumer_offsets.
    kafka.plain().produce(record(&later)).await;
    kafka.plain().commit("v2-list", &later, 0, 1).await;
    // One of its own has no older list.
    let gateway = Gateway::start(&kafka.bootstrap()).await;

    let reply = get(&gateway.url("/topics")).await;

    assert_eq!(
        (reply.status.as_u16(), reply.header("content-type")),
        (200, V2)
    );
    let names: Vec<String> = serde_json::from_slice(&reply.body).unwrap();
    assert!(
        names.contains(&earlier) && names.contains(&later),
        "{names:?}"
    );
    assert!(names.is_sorted(), "{names:?}");
    assert!(
        !names.iter().any(|name| name.starts_with("__")),
        "{names:?}"
    );
    let internal = get(&gateway.url("/topics/__consumer_offsets")).await;
    assert_eq!(internal.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_has_its_configuration_and_partitions() {
    let name = topic("v2-topic");
    let plain = kafka().await.plain();
    plain
        .create_topic(&name, 2, &[("retention.ms", "123456789")])
        .await;

    let reply = get_as(&format!("/topics/{name}"), "*/*").await;

    assert_eq!(
        (reply.status.as_u16(), reply.header("content-type")),
        (200, V2)
    );
    // The order of the fields is Confluent REST Proxy's.
    let start = format!("{{\"name\":\"{name}\",\"configs\":{{");
    assert!(reply.text().starts_with(&start), "{}", reply.text());
    let body = reply.json();
    assert_eq!(body["configs"]["retention.ms"], "123456789");
    assert_eq!(body["configs"]["cleanup.policy"], "delete");
    let partitions = json!([
        {"partition": 0, "leader": 1, "replicas": [{"broker": 1, "leader": true, "in_sync": true}]},
        {"partition": 1, "leader": 1, "replicas": [{"broker": 1, "leader": true, "in_sync": true}]},
    ]);
    assert_eq!(body["partitions"], partitions);
    let list = get_as(&format!("/topics/{name}/partitions"), V2).await;
    assert_eq!(
        (list.header("content-type"), list.json()),
        (V2, partitions.clone())
    );
    let one = get_as(&format!("/topics/{name}/partitions/1"), V2).await;
    assert_eq!(one.json(), partitions[1]);
    assert_eq!(
        one.text(),
        "{\"partition\":1,\"leader\":1,\"replicas\":[{\"broker\":1,\"leader\":true,\"in_sync\":true}]}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn offsets_count_open_transactions_and_not_what_was_deleted() {
    let name = topic("v2-offsets");
    let plain = kafka().await.plain();
    plain.create_topic(&name, 1, &[]).await;
    for _ in 0..3 {
        plain.produce(record(&name)).await;
    }
    plain.delete_records(&name, 0, 2).await;
    let transaction = plain.transaction(&name).await;
    transaction.produce(record(&name)).await;

    let reply = get_as(&format!("/topics/{name}/partitions/0/offsets"), V2).await;

    assert_eq!(
        (reply.status.as_u16(), reply.header("content-type")),
        (200, V2)
    );
    assert_eq!(reply.text(), "{\"beginning_offset\":2,\"end_offset\":4}");
    transaction.abort().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_does_not_exist_has_the_codes_of_confluent_rest_proxy() {
    let name = topic("v2-missing");
    kafka().await.plain().create_topic(&name, 1, &[]).await;
    for path in ["", "/partitions", "/partitions/0", "/partitions/0/offsets"] {
        let reply = get_as(&format!("/topics/{name}-not{path}"), V2).await;
        assert_eq!(error_code(&reply), (404, 40403), "{path}");
        assert_eq!(reply.header("content-type"), V2);
        assert_eq!(reply.json()["field"], "topic");
    }
    for path in ["7", "-1", "7/offsets", "-1/offsets"] {
        let reply = get_as(&format!("/topics/{name}/partitions/{path}"), V2).await;
        assert_eq!(error_code(&reply), (404, 40402), "{path}");
    }
    for path in ["x", "1.5", "99999999999", "x/offsets"] {
        let reply = get_as(&format!("/topics/{name}/partitions/{path}"), V2).await;
        assert_eq!(error_code(&reply), (404, 404), "{path}");
        assert_eq!(reply.json()["field"], "partition");
    }
    let illegal = get_as("/topics/a%20b", V2).await;
    assert_eq!(error_code(&illegal), (400, 40002));
    let verb = client().request(Method::DELETE, shared_gateway().await.url("/brokers"));
    assert_eq!(error_code(&send(verb).await), (405, 405));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_answer_has_the_type_that_was_asked_for() {
    let name = topic("v2-types");
    kafka().await.plain().create_topic(&name, 1, &[]).await;
    let paths = [
        "/".to_owned(),
        "/topics".to_owned(),
        "/brokers".to_owned(),
        format!("/topics/{name}"),
        format!("/topics/{name}/partitions/0/offsets"),
    ];
    for path in paths {
        for (accept, kind) in [
            ("", V2),
            ("*/*", V2),
            ("application/*", V2),
            (V2, V2),
            ("application/vnd.kafka.v2+json; q=0.5, image/png", V2),
            ("application/json", "application/json"),
            ("application/json, */*;q=0.1", "application/json"),
        ] {
            let reply = get_as(&path, accept).await;
            let seen = (reply.status.as_u16(), reply.header("content-type"));
            assert_eq!(seen, (200, kind), "{path} {accept}");
        }
        for accept in ["image/png", "application/vnd.kafka.json.v2+json"] {
            let reply = get_as(&path, accept).await;
            assert_eq!(error_code(&reply), (406, 406), "{path} {accept}");
            assert_eq!(reply.header("content-type"), "application/json");
        }
    }
    let plain_error = get_as("/topics/not-there", "application/json").await;
    assert_eq!(plain_error.header("content-type"), "application/json");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slash_at_the_end_means_nothing() {
    let name = topic("v2-slash");
    kafka().await.plain().create_topic(&name, 1, &[]).await;
    for path in [
        "/topics",
        "/brokers",
        "/topics/{}",
        "/topics/{}/partitions/0",
    ] {
        let path = path.replace("{}", &name);
        let with = get_as(&format!("{path}/"), V2).await;
        assert_eq!(with.status, 200, "{path}");
        assert_eq!(with.header("content-type"), V2);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_root_answers_an_empty_object_to_get_and_post() {
    let url = shared_gateway().await.url("/");
    let reply = get(&url).await;
    assert_eq!((reply.header("content-type"), reply.text()), (V2, "{}"));

    let post = |kind: Option<&str>, body: &str| {
        let request = client().post(&url).body(body.to_owned());
        send(match kind {
            Some(kind) => request.header("content-type", kind),
            None => request,
        })
    };
    for (kind, body) in [
        (Some(V2), "{\"any\":{\"thing\":1}}"),
        (Some("application/json"), "{}"),
        (None, " {} "),
        (None, ""),
    ] {
        let reply = post(kind, body).await;
        assert_eq!((reply.status.as_u16(), reply.text()), (200, "{}"), "{body}");
        assert_eq!(reply.header("content-type"), V2);
    }
    for body in ["[]", "{", "1"] {
        let reply = post(Some(V2), body).await;
        assert_eq!(error_code(&reply), (400, 400), "{body}");
        assert_eq!(reply.header("content-type"), V2);
    }
    assert_eq!(
        error_code(&post(Some("text/plain"), "{}").await),
        (415, 415)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_down_replica_is_out_of_sync_and_its_partition_has_another_leader() {
    let kafka = Broker::builder()
        .nodes(2)
        .property("default.replication.factor", "2")
        .start()
        .await;
    let name = topic("v2-replicas");
    kafka.plain().create_topic(&name, 1, &[]).await;
    let leader = kafka.plain().leader(&name, 0).await.unwrap();
    let other = 3 - leader;
    let gateway = Gateway::start(&kafka.bootstrap()).await;
    let url = |path: &str| gateway.url(path);

    eventually(BOUND, async || {
        get(&url("/brokers")).await.text() == "{\"brokers\":[1,2]}"
    })
    .await;
    let replicas = |leads: &dyn Fn(i64) -> bool, in_sync: &dyn Fn(i64) -> bool, body: &Value| {
        let replicas = body["replicas"].as_array().unwrap();
        replicas.len() == 2
            && replicas.iter().all(|replica| {
                let broker = replica["broker"].as_i64().unwrap();
                replica["leader"] == leads(broker) && replica["in_sync"] == in_sync(broker)
            })
    };
    // A busy machine may keep a broker from its heartbeats, which puts it out of sync for a moment.
    eventually(BOUND, async || {
        let both = get(&url(&format!("/topics/{name}/partitions/0"))).await;
        let both = both.json();
        both["leader"] == leader && replicas(&|b| b == i64::from(leader), &|_| true, &both)
    })
    .await;

    kafka.node(u32::try_from(leader).unwrap()).stop().await;

    let path = format!("/topics/{name}/partitions/0");
    eventually(BOUND, || async {
        let reply = get(&url(&path)).await;
        let body = reply.json();
        let stays = |broker| broker == i64::from(other);
        reply.status == 200 && body["leader"] == other && replicas(&stays, &stays, &body)
    })
    .await;
}
