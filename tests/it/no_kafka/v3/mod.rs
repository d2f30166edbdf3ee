//! The v3 API where there is no real Kafka: who may do what, what the embedded broker cannot do, and what is said
//! where a broker refuses or does not answer.

mod produce;

use krafka::error::ErrorCode;
use krafka::testing::ApiKey;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::fault::FaultBroker;
use crate::support::gateway::Gateway;
use crate::support::http::{Reply, client, send};
use crate::support::openapi;
use crate::support::tokens::token;

/// A request to what stands below the cluster, with a token where one is needed.
async fn call(
    gateway: &Gateway,
    token: Option<&str>,
    method: Method,
    path: &str,
    body: Option<Value>,
) -> Reply {
    let with_token = |request: reqwest::RequestBuilder| match token {
        Some(token) => request.bearer_auth(token),
        None => request,
    };
    let list = send(with_token(client().get(gateway.url("/v3/clusters")))).await;
    let id = list.json()["data"][0]["cluster_id"]
        .as_str()
        .unwrap()
        .to_owned();
    let path = format!("/v3/clusters/{id}{path}");
    let request = with_token(client().request(method.clone(), gateway.url(&path)));
    let reply = send(match &body {
        Some(body) => request.json(body),
        None => request,
    })
    .await;
    openapi::check(method.as_str(), &path, &reply);
    reply
}

fn code(reply: &Reply) -> (u16, u64) {
    let code = reply.json()["error_code"].as_u64().unwrap();
    (reply.status.as_u16(), code)
}

const EVERY_ACL: &str = "/acls?resource_type=any&pattern_type=any&operation=any&permission=any";

fn acl() -> Value {
    json!({
        "resource_type": "TOPIC", "resource_name": "t", "pattern_type": "LITERAL",
        "principal": "User:alice", "host": "*", "operation": "READ", "permission": "ALLOW",
    })
}

fn quota() -> Value {
    json!({"data": [
        {"entity": {"user": "alice"}, "quotas": [{"name": "producer_byte_rate", "value": 1024}]},
    ]})
}

const MOVES: &str = "/topics/-/partitions/-/reassignment:alter";
const ELECTIONS: &str = "/topics/-/partitions/-/leader:elect";

fn moves() -> Value {
    json!({"data": [{"topic_name": "orders-1", "partition_id": 0, "replicas": [1]}]})
}

fn scram_password() -> Value {
    json!({"mechanism": "SCRAM-SHA-256", "password": "alice-pass-5"})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_operation_needs_its_permission() {
    let gateway = Gateway::embedded().with_tokens().start().await;
    let create = |name: &str| json!({"topic_name": name});
    let maker = token("maker", "create:orders*");
    let made = call(
        &gateway,
        Some(&maker),
        Method::POST,
        "/topics",
        Some(create("orders-1")),
    );
    assert_eq!(made.await.status, 201);
    let other = call(
        &gateway,
        Some(&maker),
        Method::POST,
        "/topics",
        Some(create("bills")),
    );
    assert_eq!(code(&other.await), (403, 40301));

    let set = json!({"value": "1"});
    let several = json!({"data": [
        {"topic_name": "orders-1", "configs": [{"name": "retention.ms", "value": "1"}]},
    ]});
    let one = "/topics/orders-1";
    // What is asked, and the permission without which it is refused.
    for (method, path, body, needed) in [
        (Method::GET, one.to_owned(), None, "describe:orders-1"),
        (
            Method::GET,
            format!("{one}/configs"),
            None,
            "describe:orders-1",
        ),
        (
            Method::GET,
            format!("{one}/partitions"),
            None,
            "describe:orders-1",
        ),
        (
            Method::GET,
            format!("{one}/partitions/0/offset"),
            None,
            "describe:orders-1",
        ),
        (
            Method::GET,
            format!("{one}/partitions/0/replicas"),
            None,
            "describe:orders-1",
        ),
        (
            Method::PATCH,
            one.to_owned(),
            Some(json!({"partitions_count": 4})),
            "alter:orders-1",
        ),
        (
            Method::PUT,
            format!("{one}/configs/retention.ms"),
            Some(set.clone()),
            "alter:orders-1",
        ),
        (
            Method::DELETE,
            format!("{one}/configs/retention.ms"),
            None,
            "alter:orders-1",
        ),
        (
            Method::POST,
            "/topics/-/configs:alter".to_owned(),
            Some(several),
            "alter:orders-1",
        ),
        (
            Method::GET,
            "/brokers/1/configs".to_owned(),
            None,
            "describe:*",
        ),
        (
            Method::GET,
            "/brokers/-/configs".to_owned(),
            None,
            "describe:*",
        ),
        (
            Method::GET,
            "/broker-configs".to_owned(),
            None,
            "describe:*",
        ),
        (
            Method::PUT,
            "/brokers/1/configs/x".to_owned(),
            Some(set.clone()),
            "admin:*",
        ),
        (
            Method::PUT,
            "/broker-configs/x".to_owned(),
            Some(set.clone()),
            "admin:*",
        ),
        (Method::GET, "/acls".to_owned(), None, "admin:*"),
        (Method::POST, "/acls".to_owned(), Some(acl()), "admin:*"),
        (
            Method::POST,
            "/acls:batch".to_owned(),
            Some(json!({"data": [acl()]})),
            "admin:*",
        ),
        (Method::DELETE, EVERY_ACL.to_owned(), None, "admin:*"),
        (Method::GET, "/quotas".to_owned(), None, "admin:*"),
        (
            Method::POST,
            "/quotas:alter".to_owned(),
            Some(quota()),
            "admin:*",
        ),
        (Method::GET, "/scram-users".to_owned(), None, "admin:*"),
        (
            Method::GET,
            "/scram-users/alice".to_owned(),
            None,
            "admin:*",
        ),
        (
            Method::PUT,
            "/scram-users/alice".to_owned(),
            Some(scram_password()),
            "admin:*",
        ),
        (
            Method::DELETE,
            "/scram-users/alice".to_owned(),
            None,
            "admin:*",
        ),
        (
            Method::PUT,
            format!("{one}/partitions/0/reassignment"),
            Some(json!({"replicas": [1]})),
            "admin:*",
        ),
        (
            Method::DELETE,
            format!("{one}/partitions/0/reassignment"),
            None,
            "admin:*",
        ),
        (Method::POST, MOVES.to_owned(), Some(moves()), "admin:*"),
        (
            Method::POST,
            format!("{one}/partitions/0/leader:elect"),
            None,
            "admin:*",
        ),
        (Method::POST, ELECTIONS.to_owned(), None, "admin:*"),
        (Method::GET, "/transactions".to_owned(), None, "admin:*"),
        (Method::GET, "/transactions/t".to_owned(), None, "admin:*"),
        (
            Method::GET,
            "/hanging-transactions".to_owned(),
            None,
            "admin:*",
        ),
        (
            Method::POST,
            format!("{one}/partitions/0/transactions:abort"),
            Some(json!({"producer_id": 1})),
            "admin:*",
        ),
        (
            Method::GET,
            format!("{one}/partitions/0/producers"),
            None,
            "describe:orders-1",
        ),
        (
            Method::GET,
            "/share-groups/g".to_owned(),
            None,
            "describe:g",
        ),
        (
            Method::GET,
            "/share-groups/g/consumers".to_owned(),
            None,
            "describe:g",
        ),
        (
            Method::GET,
            "/share-groups/g/offsets".to_owned(),
            None,
            "describe:g",
        ),
        (
            Method::DELETE,
            "/share-groups/g".to_owned(),
            None,
            "group:g",
        ),
        (
            Method::POST,
            "/share-groups/g/offsets:alter".to_owned(),
            Some(json!({"to": "earliest"})),
            "group:g",
        ),
        (
            Method::DELETE,
            "/share-groups/g/offsets/orders-1".to_owned(),
            None,
            "group:g",
        ),
        (Method::DELETE, one.to_owned(), None, "delete:orders-1"),
    ] {
        let place = format!("{method} {path}");
        let all = "produce:* consume:* group:* create:* transact:*";
        let without = match needed.split_once(':').unwrap().0 {
            "describe" => "create:* transact:*".to_owned(),
            "delete" => format!("{all} describe:* alter:*"),
            "alter" => format!("{all} describe:* delete:*"),
            "group" => "produce:* consume:* describe:* create:* alter:* delete:*".to_owned(),
            _ => format!("{all} describe:* alter:* delete:*"),
        };
        let without = token("without", &without);
        let refused = call(
            &gateway,
            Some(&without),
            method.clone(),
            &path,
            body.clone(),
        )
        .await;
        assert_eq!(code(&refused), (403, 40301), "{place}");
        let with = token("with", needed);
        let allowed = call(&gateway, Some(&with), method, &path, body).await;
        assert_ne!(allowed.status, 403, "{place}: {}", allowed.text());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lists_show_what_may_be_described() {
    let gateway = Gateway::embedded().with_tokens().start().await;
    let maker = token("maker", "create:*");
    for name in ["seen", "hidden"] {
        let body = json!({"topic_name": name});
        let made = call(&gateway, Some(&maker), Method::POST, "/topics", Some(body)).await;
        assert_eq!(made.status, 201, "{}", made.text());
    }
    let viewer = token("viewer", "describe:seen");
    for (path, field) in [
        ("/topics", "topic_name"),
        ("/brokers/0/partition-replicas", "topic_name"),
    ] {
        let list = call(&gateway, Some(&viewer), Method::GET, path, None)
            .await
            .json();
        let data = list["data"].as_array().unwrap().iter();
        let names: Vec<&str> = data.map(|one| one[field].as_str().unwrap()).collect();
        assert_eq!(names, ["seen"], "{path}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_embedded_broker_cannot_do_is_said() {
    let gateway = Gateway::embedded().start().await;
    let body = json!({"topic_name": "t", "partitions_count": 3});
    let made = call(&gateway, None, Method::POST, "/topics", Some(body)).await;
    assert_eq!(made.status, 201, "{}", made.text());
    assert_eq!(made.json()["partitions_count"], 3);
    for (method, path, body) in [
        (Method::GET, "/topics/t/configs", None),
        (Method::GET, "/topics/t/configs/retention.ms", None),
        (Method::GET, "/topics/t/default-configs", None),
        (
            Method::PUT,
            "/topics/t/configs/retention.ms",
            Some(json!({"value": "1"})),
        ),
        (
            Method::PATCH,
            "/topics/t",
            Some(json!({"partitions_count": 4})),
        ),
        (Method::GET, "/brokers/0/configs", None),
        (Method::GET, "/broker-configs", None),
        (Method::GET, "/topics/-/partitions/-/reassignment", None),
        (
            Method::PUT,
            "/topics/t/partitions/0/reassignment",
            Some(json!({"replicas": [1]})),
        ),
        (Method::DELETE, "/topics/t/partitions/0/reassignment", None),
        (
            Method::POST,
            MOVES,
            Some(json!({"data": [{"topic_name": "t", "partition_id": 0, "replicas": [1]}]})),
        ),
        (Method::POST, "/topics/t/partitions/0/leader:elect", None),
        (Method::POST, ELECTIONS, None),
        (Method::GET, "/acls", None),
        (Method::POST, "/acls", Some(acl())),
        (
            Method::POST,
            "/acls:batch",
            Some(json!({"data": [acl(), acl()]})),
        ),
        (Method::DELETE, EVERY_ACL, None),
        (Method::GET, "/quotas", None),
        (Method::POST, "/quotas:alter", Some(quota())),
        (Method::GET, "/scram-users", None),
        (Method::GET, "/scram-users/alice", None),
        (Method::PUT, "/scram-users/alice", Some(scram_password())),
        (Method::DELETE, "/scram-users/alice", None),
        (Method::GET, "/transactions", None),
        (Method::GET, "/transactions?running_longer_than_ms=1", None),
        (Method::GET, "/transactions/t", None),
        (Method::GET, "/topics/t/partitions/0/producers", None),
        (
            Method::POST,
            "/topics/t/partitions/0/transactions:abort",
            Some(json!({"producer_id": 1})),
        ),
        (Method::GET, "/hanging-transactions", None),
        (Method::GET, "/share-groups", None),
        (Method::GET, "/share-groups/g", None),
        (Method::DELETE, "/share-groups/g", None),
        (Method::GET, "/share-groups/g/offsets", None),
        (
            Method::POST,
            "/share-groups/g/offsets:alter",
            Some(json!({"to": "earliest"})),
        ),
        (Method::DELETE, "/share-groups/g/offsets/t", None),
    ] {
        let reply = call(&gateway, None, method.clone(), path, body).await;
        assert_eq!(code(&reply), (501, 501), "{method} {path}");
        let message = reply.json()["message"].clone();
        assert_eq!(
            message, "not supported by the embedded broker",
            "{method} {path}"
        );
    }
    let deleted = call(&gateway, None, Method::DELETE, "/topics/t", None).await;
    assert_eq!(deleted.status, 204);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_kafka_says_has_the_codes_of_confluent_rest_proxy() {
    let kafka = FaultBroker::start().await;
    kafka.create_topic("t", 1);
    let gateway = Gateway::builder(&kafka.bootstrap())
        .set("kafka.metadata_timeout_ms", "2000")
        .start()
        .await;
    let create = || Some(json!({"topic_name": "new"}));
    for (error, expected) in [
        (ErrorCode::PolicyViolation, (400, 40002)),
        (ErrorCode::TopicAuthorizationFailed, (403, 40301)),
        (ErrorCode::ThrottlingQuotaExceeded, (429, 42901)),
    ] {
        kafka.fail_always(ApiKey::CreateTopics, error);
        let reply = call(&gateway, None, Method::POST, "/topics", create()).await;
        assert_eq!(code(&reply), expected, "{error:?}");
        kafka.fail_always(ApiKey::DeleteTopics, error);
        let reply = call(&gateway, None, Method::DELETE, "/topics/t", None).await;
        assert_eq!(code(&reply), expected, "{error:?}");
        kafka.clear_hooks();
    }
    kafka.silence(ApiKey::CreateTopics);
    let reply = call(&gateway, None, Method::POST, "/topics", create()).await;
    assert_eq!(code(&reply), (500, 50003));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_older_brokers_lack_is_named() {
    let kafka = FaultBroker::start().await;
    kafka.create_topic("t", 1);
    let gateway = Gateway::builder(&kafka.bootstrap()).start().await;
    let reset = || Some(json!({"to": "earliest"}));
    for (method, path, body, missing) in [
        (Method::GET, "/share-groups", None, "share groups (KIP-932)"),
        (
            Method::GET,
            "/share-groups/g",
            None,
            "share groups (KIP-932)",
        ),
        (
            Method::DELETE,
            "/share-groups/g",
            None,
            "share groups (KIP-932)",
        ),
        (
            Method::GET,
            "/share-groups/g/offsets",
            None,
            "share groups (KIP-932)",
        ),
        (
            Method::POST,
            "/share-groups/g/offsets:alter",
            reset(),
            "share groups (KIP-932)",
        ),
        (
            Method::GET,
            "/transactions?running_longer_than_ms=1",
            None,
            "Kafka 3.8",
        ),
        (Method::GET, "/transactions", None, "ListTransactions"),
        (
            Method::GET,
            "/hanging-transactions",
            None,
            "DescribeProducers",
        ),
    ] {
        let reply = call(&gateway, None, method.clone(), path, body).await;
        assert_eq!(
            code(&reply),
            (501, 501),
            "{method} {path}: {}",
            reply.text()
        );
        assert!(reply.text().contains(missing), "{path}: {}", reply.text());
    }
}
