//! ACLs: made, found and deleted at a broker that goes by them, and what is said where the brokers have none.

use reqwest::Method;
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use super::{BOUND, call, call_at, cluster_id, code};
use crate::kafka::broker_security::{by_sasl, new_topic, password, secured};
use crate::support::gateway::Gateway;
use crate::support::http::{Reply, post_json};
use crate::support::secured::{PASSWORD, USER};
use crate::support::{eventually, topic};

/// A gateway whose Kafka user may do everything, before the broker with ACLs.
pub(super) async fn gateway() -> &'static Gateway {
    static SHARED: OnceCell<Gateway> = OnceCell::const_new();
    SHARED
        .get_or_init(|| async {
            Gateway::builder(&secured().await.bootstrap())
                .set("kafka.metadata_timeout_ms", "30000")
                .start()
                .await
        })
        .await
}

async fn ask(method: Method, path: &str, body: Option<&Value>) -> Reply {
    call_at(gateway().await, method, path, body).await
}

/// What is below the cluster in a URL.
async fn below(url: &str) -> String {
    let gateway = gateway().await;
    let cluster = gateway.url(&format!("/v3/clusters/{}", cluster_id(gateway).await));
    url.strip_prefix(&cluster).unwrap().to_owned()
}

async fn found(path: &str) -> Vec<Value> {
    let reply = ask(Method::GET, path, None).await;
    assert_eq!(reply.status, 200, "{path}: {}", reply.text());
    reply.json()["data"].as_array().unwrap().clone()
}

fn acl(fields: [&str; 7]) -> Value {
    let [
        resource_type,
        resource_name,
        pattern_type,
        principal,
        host,
        operation,
        permission,
    ] = fields;
    json!({
        "resource_type": resource_type,
        "resource_name": resource_name,
        "pattern_type": pattern_type,
        "principal": principal,
        "host": host,
        "operation": operation,
        "permission": permission,
    })
}

async fn write(gateway: &Gateway, topic: &str) -> u16 {
    let url = gateway.url(&format!("/topics/{topic}/records"));
    let reply = post_json(&url, &json!({"value": "x"})).await;
    reply.status.as_u16()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_acl_for_a_prefix_lets_a_user_write_until_it_is_deleted() {
    let kafka = secured().await;
    let topic = new_topic(kafka, "v3-acl").await;
    let (prefix, _) = topic.split_at(topic.len() - 1);
    let user = by_sasl(kafka, &password("SCRAM-SHA-512", "gateway", PASSWORD));
    let user = user.start().await;
    assert_eq!(write(&user, &topic).await, 403);

    // Kafka's words in any case.
    let body = acl(["topic", prefix, "Prefixed", USER, "*", "write", "ALLOW"]);
    let made = ask(Method::POST, "/acls", Some(&body)).await;
    assert_eq!((made.status.as_u16(), made.body.len()), (201, 0));
    let location = made.header("location");
    let own = below(location).await;
    assert_eq!(
        own,
        format!(
            "/acls?resource_type=TOPIC&resource_name={prefix}&pattern_type=PREFIXED\
             &principal=User%3Agateway&host=%2A&operation=WRITE&permission=ALLOW"
        )
    );
    eventually(BOUND, || async { found(&own).await.len() == 1 }).await;
    let expected = json!({
        "kind": "KafkaAcl",
        "metadata": {"self": location},
        "cluster_id": cluster_id(gateway().await).await,
        "resource_type": "TOPIC",
        "resource_name": prefix,
        "pattern_type": "PREFIXED",
        "principal": USER,
        "host": "*",
        "operation": "WRITE",
        "permission": "ALLOW",
    });
    let list = ask(Method::GET, &own, None).await.json();
    assert_eq!(list["kind"], "KafkaAclList");
    assert_eq!(list["metadata"], json!({"self": location, "next": null}));
    assert_eq!(list["data"], json!([expected]));
    let matching = format!("/acls?resource_type=topic&resource_name={topic}&pattern_type=");
    assert_eq!(
        found(&format!("{matching}match")).await,
        std::slice::from_ref(&expected)
    );
    assert!(found(&format!("{matching}any")).await.is_empty());
    eventually(BOUND, || async { write(&user, &topic).await == 200 }).await;

    let deleted = ask(Method::DELETE, &own, None).await;
    assert_eq!(deleted.status, 200, "{}", deleted.text());
    assert_eq!(deleted.json(), json!({"data": [expected]}));
    eventually(BOUND, || async { write(&user, &topic).await == 403 }).await;
    assert!(found(&own).await.is_empty());
    let again = ask(Method::DELETE, &own, None).await;
    assert_eq!(again.json(), json!({"data": []}));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_acls_are_made_and_those_that_kafka_refuses_are_told() {
    let name = topic("v3-acl-batch");
    let user = format!("User:{name}");
    let many = [
        acl([
            "USER",
            "bob",
            "PREFIXED",
            &user,
            "*",
            "CREATE_TOKENS",
            "ALLOW",
        ]),
        acl(["TOPIC", "b", "LITERAL", &user, "*", "READ", "ALLOW"]),
        acl(["TOPIC", "a", "PREFIXED", &user, "*", "READ", "DENY"]),
        acl(["TOPIC", "a", "LITERAL", &user, "10.0.0.1", "READ", "ALLOW"]),
        acl(["TOPIC", "a", "LITERAL", &user, "*", "WRITE", "ALLOW"]),
        acl(["TOPIC", "a", "LITERAL", &user, "*", "READ", "ALLOW"]),
        acl([
            "DELEGATION_TOKEN",
            "t",
            "LITERAL",
            &user,
            "*",
            "DESCRIBE",
            "ALLOW",
        ]),
        acl(["GROUP", "*", "LITERAL", &user, "*", "ALL", "ALLOW"]),
    ];
    let made = ask(Method::POST, "/acls:batch", Some(&json!({"data": many}))).await;
    assert_eq!((made.status.as_u16(), made.body.len()), (204, 0));
    let all = format!("/acls?principal={}", user.replace(':', "%3A"));
    eventually(BOUND, || async { found(&all).await.len() == 8 }).await;
    let seen: Vec<Value> = found(&all)
        .await
        .into_iter()
        .map(|mut one| {
            let fields = one.as_object_mut().unwrap();
            for name in ["kind", "metadata", "cluster_id"] {
                fields.remove(name).unwrap();
            }
            one
        })
        .collect();
    // By type of resource, name, pattern, user, host and operation, words in the order of Kafka's numbers.
    let [users, b, prefixed, host, writes, reads, tokens, group] = many;
    assert_eq!(
        seen,
        [reads, writes, host, prefixed, b, group, tokens, users]
    );

    let data = json!({"data": [
        acl(["CLUSTER", "elsewhere", "LITERAL", &user, "*", "ALTER", "ALLOW"]),
        acl(["CLUSTER", "kafka-cluster", "LITERAL", &user, "*", "ALTER", "ALLOW"]),
    ]});
    let partly = ask(Method::POST, "/acls:batch", Some(&data)).await;
    assert_eq!(partly.status, 207, "{}", partly.text());
    let failures = partly.json()["failures"].clone();
    assert_eq!(failures.as_array().unwrap().len(), 1);
    assert_eq!(failures[0]["resource_name"], "elsewhere");
    assert_eq!(failures[0]["error_code"], 40002);
    let cluster = format!("{all}&resource_type=cluster");
    eventually(BOUND, || async { found(&cluster).await.len() == 1 }).await;
    let refused = ask(Method::POST, "/acls", Some(&data["data"][0])).await;
    assert_eq!(code(&refused), (400, 40002));

    let own = format!("{all}&resource_type=any&pattern_type=any&operation=any&permission=any");
    let deleted = ask(Method::DELETE, &own, None).await.json();
    assert_eq!(deleted["data"].as_array().unwrap().len(), 9);
    eventually(BOUND, || async { found(&all).await.is_empty() }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_wrong_with_a_request_is_said_before_anything_is_done() {
    let name = topic("v3-acl-wrong");
    let user = format!("User:{name}");
    let good = acl(["TOPIC", &name, "LITERAL", &user, "*", "READ", "ALLOW"]);
    let with = |field: &str, value: Value| {
        let mut acl = good.clone();
        acl[field] = value;
        acl
    };
    let words = "resource_type=any&pattern_type=any&operation=any&permission=any";
    for (method, path, body, expected) in [
        (
            Method::GET,
            "/acls?operation=juggle".to_owned(),
            None,
            (404, 404),
        ),
        (
            Method::GET,
            "/acls?permission=unknown".to_owned(),
            None,
            (400, 400),
        ),
        (
            Method::DELETE,
            format!("/acls?resource_name={name}"),
            None,
            (400, 400),
        ),
        (
            Method::DELETE,
            format!("/acls?{words}&principl={user}"),
            None,
            (400, 400),
        ),
        (
            Method::DELETE,
            format!("/acls?{words}&principal="),
            None,
            (400, 400),
        ),
        (Method::POST, "/acls".to_owned(), None, (422, 42206)),
        (
            Method::POST,
            "/acls".to_owned(),
            Some(with("operation", json!("ANY"))),
            (400, 400),
        ),
        (
            Method::POST,
            "/acls".to_owned(),
            Some(with("pattern_type", json!("MATCH"))),
            (400, 400),
        ),
        (
            Method::POST,
            "/acls".to_owned(),
            Some(with("host", Value::Null)),
            (400, 400),
        ),
        (Method::POST, "/acls:batch".to_owned(), None, (422, 42206)),
        (
            Method::POST,
            "/acls:batch".to_owned(),
            Some(json!({})),
            (422, 42206),
        ),
        (
            Method::POST,
            "/acls:batch".to_owned(),
            Some(json!({"data": [good, with("principal", Value::Null)]})),
            (400, 400),
        ),
    ] {
        let reply = ask(method.clone(), &path, body.as_ref()).await;
        assert_eq!(code(&reply), expected, "{method} {path} {body:?}");
        let message = reply.json()["message"].as_str().unwrap().to_owned();
        assert_eq!(message.contains("juggle"), path.contains("juggle"));
    }
    let none = ask(Method::POST, "/acls:batch", Some(&json!({"data": []}))).await;
    assert_eq!(none.status, 204);
    assert!(
        found(&format!("/acls?resource_name={name}"))
            .await
            .is_empty()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kafka_user_without_the_right_sees_no_acls() {
    let kafka = secured().await;
    let reader = by_sasl(kafka, &password("PLAIN", "reader", PASSWORD));
    let reader = reader.start().await;
    let list = call_at(&reader, Method::GET, "/acls", None).await;
    assert_eq!(code(&list), (403, 40301), "{}", list.text());
    let name = topic("v3-acl-denied");
    let body = acl(["TOPIC", &name, "LITERAL", USER, "*", "READ", "ALLOW"]);
    let made = call_at(&reader, Method::POST, "/acls", Some(&body)).await;
    assert_eq!(code(&made), (403, 40301), "{}", made.text());
    let several = json!({"data": [body, body]});
    let made = call_at(&reader, Method::POST, "/acls:batch", Some(&several)).await;
    assert_eq!(code(&made), (403, 40301), "{}", made.text());
    assert!(
        found(&format!("/acls?resource_name={name}"))
            .await
            .is_empty()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn brokers_without_an_authorizer_have_no_acls() {
    let body = acl(["TOPIC", "t", "LITERAL", USER, "*", "READ", "ALLOW"]);
    let several = json!({"data": [body, body]});
    let words = "resource_type=any&pattern_type=any&operation=any&permission=any";
    for (method, path, body) in [
        (Method::GET, "/acls".to_owned(), None),
        (Method::POST, "/acls".to_owned(), Some(&body)),
        (Method::POST, "/acls:batch".to_owned(), Some(&several)),
        (Method::DELETE, format!("/acls?{words}"), None),
    ] {
        let reply = call(method.clone(), &path, body).await;
        assert_eq!(code(&reply), (400, 40002), "{method} {path}");
        assert_eq!(reply.json()["kafka_error"], "SECURITY_DISABLED");
    }
}
