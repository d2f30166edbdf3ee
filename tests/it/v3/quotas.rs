//! Client quotas: set, found, taken away, and what Kafka refuses.

use reqwest::Method;
use serde_json::{Value, json};

use super::{BOUND, call, cluster_id, code, seen, url};
use crate::support::{eventually, shared_gateway, topic};

async fn alter(data: Value) -> crate::support::http::Reply {
    call(Method::POST, "/quotas:alter", Some(&json!({"data": data}))).await
}

/// The quotas that a search finds, each with whose they are.
async fn found(query: &str) -> Vec<(Value, Value)> {
    let list = seen(&format!("/quotas?{query}")).await;
    let data = list["data"].as_array().unwrap().iter();
    data.map(|one| (one["entity"].clone(), one["quotas"].clone()))
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn quotas_of_a_user_are_set_found_and_taken_away() {
    let user = topic("v3-quota");
    let set = alter(json!([
        {"entity": {"user": user}, "quotas": [
            {"name": "producer_byte_rate", "value": 1048576},
            {"name": "request_percentage", "value": 12.5},
        ]},
        {"entity": {"user": user, "default": ["client_id"]}, "quotas": [
            {"name": "consumer_byte_rate", "value": 524288},
        ]},
    ]))
    .await;
    assert_eq!((set.status.as_u16(), set.body.len()), (204, 0));
    let all = format!("user={user}");
    eventually(BOUND, || async { found(&all).await.len() == 2 }).await;

    let path = format!("/quotas?user={user}&strict=true");
    let list = seen(&path).await;
    let own = url(&path).await;
    assert_eq!(
        list,
        json!({
            "kind": "KafkaClientQuotaList",
            "metadata": {"self": own, "next": null},
            "data": [{
                "kind": "KafkaClientQuota",
                "metadata": {"self": own},
                "cluster_id": cluster_id(shared_gateway().await).await,
                "entity": {"user": user},
                "quotas": [
                    {"name": "producer_byte_rate", "value": 1048576.0},
                    {"name": "request_percentage", "value": 12.5},
                ],
            }],
        })
    );
    let everyones = found(&format!("user={user}&default=client_id")).await;
    let quotas = json!([{"name": "consumer_byte_rate", "value": 524288.0}]);
    let whose = json!({"user": user, "default": ["client_id"]});
    assert_eq!(everyones, [(whose, quotas)]);
    assert!(found(&format!("user={user}-other")).await.is_empty());

    let delete = |names: &[&str]| -> Value {
        let one = |name: &&str| json!({"name": name, "operation": "DELETE"});
        names.iter().map(one).collect()
    };
    let changes = json!([
        {"entity": {"user": user}, "quotas": delete(&["producer_byte_rate", "request_percentage"])},
        {"entity": {"user": user, "default": ["client_id"]}, "quotas": delete(&["consumer_byte_rate"])},
    ]);
    let dry = json!({"data": changes, "validate_only": true});
    let dry = call(Method::POST, "/quotas:alter", Some(&dry)).await;
    assert_eq!(dry.status, 204);
    assert_eq!(found(&all).await.len(), 2);
    assert_eq!(alter(changes).await.status, 204);
    eventually(BOUND, || async { found(&all).await.is_empty() }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_kafka_refuses_is_told_and_the_rest_is_done() {
    let user = topic("v3-quota-refused");
    let good = json!({"entity": {"user": user}, "quotas": [
        {"name": "producer_byte_rate", "value": 1000},
    ]});
    // Quotas for connections are of addresses only.
    let bad = json!({"entity": {"client_id": user}, "quotas": [
        {"name": "connection_creation_rate", "value": 10},
    ]});
    let refused = alter(json!([bad])).await;
    assert_eq!(code(&refused), (400, 40002), "{}", refused.text());
    let partly = alter(json!([bad, good])).await;
    assert_eq!(partly.status, 207, "{}", partly.text());
    let failures = partly.json()["failures"].clone();
    assert_eq!(failures.as_array().unwrap().len(), 1);
    assert_eq!(failures[0]["entity"], json!({"client_id": user}));
    assert_eq!(failures[0]["error_code"], 40002);
    let all = format!("user={user}");
    eventually(BOUND, || async { found(&all).await.len() == 1 }).await;
    let away = json!([{"entity": {"user": user}, "quotas": [
        {"name": "producer_byte_rate", "operation": "DELETE"},
    ]}]);
    assert_eq!(alter(away).await.status, 204);

    assert_eq!(alter(json!([])).await.status, 204);
    let empty = call(Method::POST, "/quotas:alter", None).await;
    assert_eq!(code(&empty), (422, 42206));
    let twice = alter(json!([good, good])).await;
    assert_eq!(code(&twice), (422, 422));
    let unknown = call(Method::GET, "/quotas?default=planet", None).await;
    assert_eq!(code(&unknown), (400, 400));
}
