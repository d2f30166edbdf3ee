//! `PUT` and `DELETE /topics/{topic}`.

use reqwest::Method;
use serde_json::json;

use super::{call, error};
use crate::support::{kafka, shared_gateway, topic};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_is_made_once_and_the_same_request_succeeds_again() {
    let gateway = shared_gateway().await;
    let name = topic("put");
    let path = format!("/topics/{name}");
    let body = json!({"partitions": 3, "replication": 1, "configs": {"retention.ms": "12345"}});

    let dry = call(
        gateway,
        Method::PUT,
        &format!("{path}?dry_run=true"),
        Some(&body),
    )
    .await;
    assert_eq!(dry.status, 200, "{}", dry.text());
    let plain = kafka().await.plain();
    assert!(!plain.topics().await.contains(&name));
    let made = call(gateway, Method::PUT, &path, Some(&body)).await;
    assert_eq!(made.status, 201, "{}", made.text());
    let expected = json!({"topic": name, "created": true, "partitions": 3, "replication": 1});
    assert_eq!(made.json(), expected);
    assert!(plain.topics().await.contains(&name));
    let again = call(gateway, Method::PUT, &path, Some(&body)).await;
    assert_eq!(again.status, 200, "{}", again.text());
    assert_eq!(again.json()["created"], false);
    let bare = call(gateway, Method::PUT, &path, None).await;
    assert_eq!(bare.status, 200, "{}", bare.text());
    for (other, difference) in [
        (json!({"partitions": 4}), "it has 3 partitions"),
        (
            json!({"configs": {"retention.ms": 1}}),
            "its retention.ms is 12345",
        ),
    ] {
        let conflict = call(gateway, Method::PUT, &path, Some(&other)).await;
        assert_eq!(error(&conflict), (409, 409, "topic".to_owned()));
        assert!(conflict.text().contains(difference), "{}", conflict.text());
    }

    let deleted = call(gateway, Method::DELETE, &path, None).await;
    assert_eq!(deleted.status, 204);
    assert!(!plain.topics().await.contains(&name));
    let gone = call(gateway, Method::DELETE, &path, None).await;
    assert_eq!(error(&gone), (404, 40401, "topic".to_owned()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_without_a_body_is_as_the_brokers_make_topics() {
    let gateway = shared_gateway().await;
    let name = topic("put-bare");
    let made = call(gateway, Method::PUT, &format!("/topics/{name}"), None).await;
    assert_eq!(made.status, 201, "{}", made.text());
    assert_eq!(made.json()["partitions"], 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_made_or_deleted_is_refused_with_the_reason() {
    let gateway = shared_gateway().await;
    let name = topic("put-bad");
    let path = format!("/topics/{name}");
    for (body, expected) in [
        (json!({"partitions": 0}), (422, 422, "/partitions")),
        (json!({"partition": 1}), (422, 422, "/partition")),
        (json!({"replication": 9}), (400, 40002, "topic")),
        (json!({"configs": {"no.such": "1"}}), (400, 40002, "topic")),
        (
            json!({"configs": {"retention.ms": "x"}}),
            (400, 40002, "topic"),
        ),
    ] {
        let refused = call(gateway, Method::PUT, &path, Some(&body)).await;
        let (status, code, field) = error(&refused);
        assert_eq!((status, code, &*field), expected, "{body}");
    }
    for (method, path, expected) in [
        (Method::PUT, "/topics/a%20b", (400, 40002)),
        (Method::PUT, "/topics/__consumer_offsets", (403, 40301)),
        (Method::DELETE, "/topics/__consumer_offsets", (403, 40301)),
        (Method::PUT, "/topics/t?dry_run=maybe", (400, 400)),
        (Method::PUT, "/topics/t?dry=true", (400, 400)),
        (Method::DELETE, "/topics/t?force=true", (400, 400)),
    ] {
        let refused = call(gateway, method.clone(), path, None).await;
        let (status, code, _) = error(&refused);
        assert_eq!((status, code), expected, "{method} {path}");
    }
    assert!(!kafka().await.plain().topics().await.contains(&name));
}
