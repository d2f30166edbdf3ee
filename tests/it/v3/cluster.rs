//! The cluster, its brokers, and the settings of one broker and of all.

use reqwest::Method;
use serde_json::json;

use super::{BOUND, call, call_at, cluster_id, code, one_of, resource_name, seen, url};
use crate::support::broker::Broker;
use crate::support::gateway::Gateway;
use crate::support::http::{client, get, send};
use crate::support::{eventually, openapi, shared_gateway};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_one_cluster_is_listed_with_links_to_all_that_it_has() {
    let gateway = shared_gateway().await;
    let reply = get(&gateway.url("/v3/clusters")).await;
    openapi::check("GET", "/v3/clusters", &reply);
    let list = reply.json();
    let id = cluster_id(gateway).await;
    let cluster = json!({
        "kind": "KafkaCluster",
        "metadata": {"self": url("").await, "resource_name": format!("crn:///kafka={id}")},
        "cluster_id": id,
        "controller": {"related": url("/brokers/1").await},
        "acls": {"related": url("/acls").await},
        "brokers": {"related": url("/brokers").await},
        "broker_configs": {"related": url("/broker-configs").await},
        "consumer_groups": {"related": url("/consumer-groups").await},
        "topics": {"related": url("/topics").await},
        "partition_reassignments": {"related": url("/topics/-/partitions/-/reassignment").await},
    });
    assert_eq!(
        list,
        json!({
            "kind": "KafkaClusterList",
            "metadata": {"self": gateway.url("/v3/clusters"), "next": null},
            "data": [cluster],
        })
    );
    assert_eq!(seen("").await, cluster);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_cluster_is_not_found() {
    let gateway = shared_gateway().await;
    for (method, path) in [
        ("GET", "/v3/clusters/other"),
        ("GET", "/v3/clusters/other/brokers"),
        ("GET", "/v3/clusters/other/topics"),
        ("DELETE", "/v3/clusters/other/topics/t"),
    ] {
        let request = client().request(method.parse().unwrap(), gateway.url(path));
        let reply = send(request).await;
        openapi::check(method, path, &reply);
        assert_eq!(code(&reply), (404, 404), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_accept_that_rules_out_json_is_refused() {
    let gateway = shared_gateway().await;
    let request = client().get(gateway.url("/v3/clusters"));
    let reply = send(request.header("accept", "text/html")).await;
    assert_eq!(reply.status, 406);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_says_where_it_is() {
    let list = seen("/brokers").await;
    let broker = list["data"][0].clone();
    let port = broker["port"].as_i64().unwrap();
    let address = crate::support::kafka().await.bootstrap();
    assert!(address.ends_with(&format!(":{port}")), "{address}");
    assert_eq!(
        broker,
        json!({
            "kind": "KafkaBroker",
            "metadata": {"self": url("/brokers/1").await, "resource_name": resource_name("/broker=1").await},
            "cluster_id": cluster_id(shared_gateway().await).await,
            "broker_id": 1,
            "host": broker["host"],
            "port": port,
            "rack": null,
            "configs": {"related": url("/brokers/1/configs").await},
            "partition_replicas": {"related": url("/brokers/1/partition-replicas").await},
        })
    );
    assert_eq!(seen("/brokers/1").await, broker);
    for unknown in ["/brokers/77", "/brokers/x", "/brokers/77/configs"] {
        let reply = call(Method::GET, unknown, None).await;
        assert_eq!(code(&reply), (404, 404), "{unknown}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_brokers_settings_are_told_and_changed() {
    let broker = Broker::start().await;
    let gateway = Gateway::start(&broker.bootstrap()).await;
    let path = "/brokers/1/configs/compression.type";
    let get = async |path: &str| call_at(&gateway, Method::GET, path, None).await;
    let value = async || get(path).await.json()["value"].clone();

    let list = get("/brokers/1/configs").await.json();
    let setting = one_of(&list, "name", "compression.type");
    assert_eq!(setting["value"], "producer");
    assert_eq!(setting["source"], "DEFAULT_CONFIG");
    assert_eq!(setting["is_default"], true);
    assert_eq!(setting["broker_id"], 1);
    assert_eq!(get(path).await.json(), *setting);
    let all = get("/brokers/-/configs").await.json();
    assert_eq!(one_of(&all, "name", "compression.type"), setting);

    let put = json!({"value": "gzip"});
    let reply = call_at(&gateway, Method::PUT, path, Some(&put)).await;
    assert_eq!(reply.status, 204);
    eventually(BOUND, || async { value().await == "gzip" }).await;
    let reply = call_at(&gateway, Method::DELETE, path, None).await;
    assert_eq!(reply.status, 204);
    eventually(BOUND, || async { value().await == "producer" }).await;
    let alter = json!({"data": [
        {"name": "compression.type", "value": "lz4"},
        {"name": "max.connections.per.ip", "value": "1000"},
    ]});
    let reply = call_at(
        &gateway,
        Method::POST,
        "/brokers/1/configs:alter",
        Some(&alter),
    )
    .await;
    assert_eq!(reply.status, 204);
    eventually(BOUND, || async { value().await == "lz4" }).await;

    for (method, path, body, expected) in [
        (Method::GET, "/brokers/1/configs/no.such", None, (404, 404)),
        (
            Method::PUT,
            "/brokers/1/configs/no.such",
            Some(json!({"value": "1"})),
            (404, 404),
        ),
        (
            Method::PUT,
            path,
            Some(json!({"value": "none such"})),
            (400, 40002),
        ),
        (
            Method::DELETE,
            "/brokers/77/configs/compression.type",
            None,
            (404, 404),
        ),
    ] {
        let reply = call_at(&gateway, method.clone(), path, body.as_ref()).await;
        assert_eq!(code(&reply), expected, "{method} {path}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_what_is_set_for_all_brokers_is_told_of_all() {
    let broker = Broker::start().await;
    let gateway = Gateway::start(&broker.bootstrap()).await;
    let path = "/broker-configs/log.cleaner.backoff.ms";
    // Kafka sets some for itself.
    let is_told = async || {
        let reply = call_at(&gateway, Method::GET, "/broker-configs", None).await;
        let list = reply.json();
        let mut told = list["data"].as_array().unwrap().iter();
        told.any(|one| one["name"] == "log.cleaner.backoff.ms")
    };
    assert!(!is_told().await);
    let reply = call_at(&gateway, Method::GET, path, None).await;
    assert_eq!(code(&reply), (404, 404));

    let put = json!({"value": "12345"});
    let reply = call_at(&gateway, Method::PUT, path, Some(&put)).await;
    assert_eq!(reply.status, 204);
    eventually(BOUND, || async { is_told().await }).await;
    let one = call_at(&gateway, Method::GET, path, None).await.json();
    assert_eq!(one["config_type"], "BROKER");
    assert_eq!(one["value"], "12345");
    assert_eq!(one["source"], "DYNAMIC_DEFAULT_BROKER_CONFIG");
    let of_broker = call_at(
        &gateway,
        Method::GET,
        "/brokers/1/configs/log.cleaner.backoff.ms",
        None,
    );
    assert_eq!(of_broker.await.json()["value"], "12345");

    let alter = json!({"data": [{"name": "log.cleaner.backoff.ms", "operation": "DELETE"}]});
    let reply = call_at(
        &gateway,
        Method::POST,
        "/broker-configs:alter",
        Some(&alter),
    )
    .await;
    assert_eq!(reply.status, 204);
    eventually(BOUND, || async { !is_told().await }).await;
    let put = json!({"value": "x"});
    let reply = call_at(&gateway, Method::PUT, path, Some(&put)).await;
    assert_eq!(code(&reply), (400, 40002));
}
