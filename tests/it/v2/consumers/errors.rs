//! Confluent REST Proxy's table of errors, row by row, as far as a request can bring them about. Those that
//! only a broker can are in `no_kafka::v2::consumers`.

use reqwest::Method;
use serde_json::{Value, json};

use super::{BINARY, Consumer, JSON, V2, created, from_earliest, make, numbers, produced, refusal};
use crate::support::groups::{fill, gateway};
use crate::support::http::{client, send};
use crate::support::topic;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_instance_cannot_be_made_with_is_named() {
    let gateway = gateway().await;
    let group = topic("v2-unmade");
    for (body, expected) in [
        (json!({"format": "string"}), (422, 422, "/format")),
        (json!({"format": "xml"}), (422, 422, "/format")),
        (json!({"format": ["json"]}), (400, 400, "/format")),
        (json!({"format": "avro"}), (422, 42207, "/format")),
        (json!({"format": "JSONSchema"}), (422, 42207, "/format")),
        (json!({"format": "protobuf"}), (422, 42207, "/format")),
        (
            json!({"auto.offset.reset": "soon"}),
            (422, 42204, "/auto.offset.reset"),
        ),
        (
            json!({"auto.commit.enable": "maybe"}),
            (422, 42204, "/auto.commit.enable"),
        ),
        (
            json!({"fetch.min.bytes": -2}),
            (422, 40001, "/fetch.min.bytes"),
        ),
        (
            json!({"fetch.min.bytes": 10_000_001}),
            (422, 40001, "/fetch.min.bytes"),
        ),
        (
            json!({"responseMinBytes": 10_000_001}),
            (422, 40001, "/responseMinBytes"),
        ),
        (
            json!({"fetch.min.bytes": "many"}),
            (400, 400, "/fetch.min.bytes"),
        ),
        (
            json!({"consumer.request.timeout.ms": -1}),
            (422, 42204, "/consumer.request.timeout.ms"),
        ),
        (
            json!({"consumer.request.timeout.ms": 600_001}),
            (422, 42204, "/consumer.request.timeout.ms"),
        ),
        (
            json!({"isolation.level": "serializable"}),
            (422, 42204, "/isolation.level"),
        ),
        (json!({"name": ""}), (422, 422, "/name")),
        (json!({"name": ".."}), (422, 422, "/name")),
        (json!({"name": "x".repeat(250)}), (422, 422, "/name")),
        (
            json!({"max.poll.records": 5}),
            (422, 422, "/max.poll.records"),
        ),
        (json!([]), (400, 400, "")),
        (json!("one"), (400, 400, "")),
    ] {
        let reply = make(gateway, &group, &body).await;
        let (status, code, field) = refusal(&reply);
        assert_eq!((status, code, &*field), expected, "{body}");
        assert_eq!(reply.header("content-type"), V2, "{body}");
    }
    let url = gateway.url(&format!("/consumers/{group}"));
    let post = async |kind: &str, body: &str| {
        send(
            client()
                .post(&url)
                .header("content-type", kind)
                .body(body.to_owned()),
        )
        .await
    };
    assert_eq!(refusal(&post(V2, "{").await).1, 400);
    assert_eq!(refusal(&post(V2, "{\"name\":1,\"name\":2}").await).1, 422);
    assert_eq!(refusal(&post("text/plain", "{}").await).1, 415);
    assert_eq!(refusal(&post("application/xml", "{}").await).1, 415);
    // The types of records are taken, too, and numbers as strings as Confluent REST Proxy takes them.
    for kind in [BINARY, JSON, "application/json"] {
        let body = "{\"fetch.min.bytes\":\"-1\",\"auto.commit.enable\":true,\"format\":\"JSON\"}";
        assert_eq!(post(kind, body).await.status, 200, "{kind}");
    }
    let unacceptable = client().post(&url).header("accept", "image/png");
    assert_eq!(refusal(&send(unacceptable).await).1, 406);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unknown_instance_is_40403_at_every_endpoint() {
    let gateway = gateway().await;
    let group = topic("v2-nobody");
    let named = Consumer::make(gateway, &group, &json!({"name": "one"})).await;
    let body = json!({"partitions": []});
    for base in [
        gateway.url(&format!("/consumers/{group}/instances/two")),
        // Of another group.
        gateway.url("/consumers/others/instances/one"),
    ] {
        for (method, path) in [
            (Method::DELETE, ""),
            (Method::POST, "/subscription"),
            (Method::GET, "/subscription"),
            (Method::DELETE, "/subscription"),
            (Method::POST, "/assignments"),
            (Method::GET, "/assignments"),
            (Method::GET, "/records"),
            (Method::POST, "/offsets"),
            (Method::GET, "/offsets"),
            (Method::POST, "/positions"),
            (Method::POST, "/positions/beginning"),
            (Method::POST, "/positions/end"),
        ] {
            let name = format!("{method} {path}");
            let request = client().request(method, format!("{base}{path}"));
            let reply = send(request.header("content-type", V2).body(body.to_string())).await;
            assert_eq!(refusal(&reply), (404, 40403, "instance".into()), "{name}");
            assert_eq!(reply.header("content-type"), V2, "{name}");
        }
    }
    named.delete().await;
    // Neither is a path below, or another verb.
    let other = send(client().get(gateway.url(&format!("/consumers/{group}")))).await;
    assert_eq!(refusal(&other).1, 405);
    let other = send(client().get(format!("{}/lag", named.base))).await;
    assert_eq!(refusal(&other).1, 404);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_instance_cannot_do_in_its_state_is_40903() {
    let gateway = gateway().await;
    let name = created("v2-state", 1).await;
    let consumer = Consumer::alone(gateway).await;
    let subscribe = json!({"topics": [name]});
    let pattern = json!({"topic_pattern": name});
    let assign = json!({"partitions": [{"topic": name, "partition": 0}]});
    let refused = async |path: &str, body: &Value| {
        let reply = consumer.post(path, body).await;
        assert_eq!(refusal(&reply).1, 40903, "{path} {body}");
        let message = reply.json()["message"].as_str().unwrap().to_owned();
        assert!(message.starts_with("Illegal state:"), "{message}");
    };
    // Neither topics nor partitions.
    assert_eq!(refusal(&consumer.get("/records").await).1, 40903);
    consumer.told("/assignments", &assign).await;
    refused("/subscription", &subscribe).await;
    refused("/subscription", &pattern).await;
    assert_eq!(
        consumer
            .call(Method::DELETE, "/subscription", None)
            .await
            .status,
        204
    );
    consumer.told("/subscription", &subscribe).await;
    // Another one takes its place: 40901 is defined there and never thrown.
    consumer.told("/subscription", &subscribe).await;
    refused("/assignments", &assign).await;
    refused("/subscription", &pattern).await;
    assert_eq!(
        consumer
            .call(Method::DELETE, "/subscription", None)
            .await
            .status,
        204
    );
    consumer.told("/subscription", &pattern).await;
    refused("/subscription", &subscribe).await;
    consumer.delete().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_are_judged_field_by_field() {
    let gateway = gateway().await;
    let name = created("v2-bodies", 1).await;
    let consumer = Consumer::of(gateway, &name).await;
    let at = |topic: &str, partition: Value| json!({"topic": topic, "partition": partition});
    let one = |mut place: Value, field: &str, value: Value| {
        place[field] = value;
        place
    };
    let good = at(&name, json!(0));
    let missing = topic("v2-not-there");
    for (path, body, expected) in [
        (
            "/subscription",
            json!({"topics": "t"}),
            (400, 400, "/topics"),
        ),
        (
            "/subscription",
            json!({"topics": [1]}),
            (400, 400, "/topics/0"),
        ),
        (
            "/subscription",
            json!({"topics": ["a b"]}),
            (400, 40002, "/topics/0"),
        ),
        (
            "/subscription",
            json!({"topic_pattern": "("}),
            (422, 422, "/topic_pattern"),
        ),
        ("/subscription", json!({"topic": "t"}), (422, 422, "/topic")),
        ("/assignments", json!({}), (422, 422, "/partitions")),
        (
            "/assignments",
            json!({"partitions": {}}),
            (400, 400, "/partitions"),
        ),
        (
            "/assignments",
            json!({"partitions": [{}]}),
            (422, 422, "/partitions/0/topic"),
        ),
        (
            "/assignments",
            json!({"partitions": [at(&name, json!("x"))]}),
            (400, 400, "/partitions/0/partition"),
        ),
        (
            "/assignments",
            json!({"partitions": [at(&name, json!(-1))]}),
            (422, 422, "/partitions/0/partition"),
        ),
        (
            "/assignments",
            json!({"partitions": [good, at(&missing, json!(0))]}),
            (404, 40403, "/partitions/1/topic"),
        ),
        (
            "/assignments",
            json!({"partitions": [at(&name, json!(7))]}),
            (404, 40402, "/partitions/0/partition"),
        ),
        (
            "/offsets",
            json!({"offsets": [good]}),
            (422, 422, "/offsets/0/offset"),
        ),
        (
            "/offsets",
            json!({"offsets": [one(good.clone(), "offset", json!(-1))]}),
            (422, 422, "/offsets/0/offset"),
        ),
        (
            "/offsets",
            json!({"offsets": [one(good.clone(), "offset", json!(1.5))]}),
            (400, 400, "/offsets/0/offset"),
        ),
        (
            "/offsets",
            json!({"offsets": [one(at(&missing, json!(0)), "offset", json!(1))]}),
            (404, 40403, "/offsets/0/topic"),
        ),
        (
            "/offsets",
            json!({"offsets": [one(at(&name, json!(9)), "offset", json!(1))]}),
            (404, 40402, "/offsets/0/partition"),
        ),
        ("/offsets", json!({"commits": []}), (422, 422, "/commits")),
        ("/offsets?async=soon", json!({}), (400, 400, "async")),
        (
            "/positions",
            json!({"offsets": [one(good.clone(), "offset", json!(-5))]}),
            (422, 422, "/offsets/0/offset"),
        ),
        (
            "/positions",
            json!({"offsets": [one(at(&missing, json!(0)), "offset", json!(1))]}),
            (404, 40403, "/offsets/0/topic"),
        ),
        (
            "/positions",
            json!({"timestamps": [one(good.clone(), "timestamp", json!("soon"))]}),
            (400, 400, "/timestamps/0/timestamp"),
        ),
        (
            "/positions",
            json!({"timestamps": [one(good.clone(), "timestamp", json!(1_700_000_000_000_i64))]}),
            (422, 422, "/timestamps/0/timestamp"),
        ),
        ("/positions/beginning", json!({}), (422, 422, "/partitions")),
        (
            "/positions/end",
            json!({"partitions": [at(&missing, json!(0))]}),
            (404, 40403, "/partitions/0/topic"),
        ),
    ] {
        let reply = consumer.post(path, &body).await;
        let (status, code, field) = refusal(&reply);
        assert_eq!((status, code, &*field), expected, "{path} {body}");
        assert_eq!(reply.header("content-type"), V2);
    }
    // No body at all.
    for path in [
        "/subscription",
        "/assignments",
        "/positions",
        "/positions/beginning",
    ] {
        let reply = consumer.call(Method::POST, path, None).await;
        assert_eq!(refusal(&reply).1, 422, "{path}");
    }
    let reply = consumer.get("/offsets").await;
    assert_eq!(refusal(&reply), (422, 422, "/partitions".into()));
    let message = reply.json()["message"].as_str().unwrap().to_owned();
    assert!(
        message.contains("topic=") && message.contains("empty"),
        "{message}"
    );
    for (query, expected) in [
        (format!("topic={name}"), (400, 400, "partition")),
        ("partition=0".to_owned(), (400, 400, "topic")),
        (format!("topic={name}&partition=x"), (400, 400, "partition")),
        (
            format!("topic={name}&partition=7"),
            (404, 40402, "/partitions/0/partition"),
        ),
        (format!("topics={name}"), (400, 400, "topics")),
    ] {
        let reply = consumer.get(&format!("/offsets?{query}")).await;
        let (status, code, field) = refusal(&reply);
        assert_eq!((status, code, &*field), expected, "{query}");
    }
    let unknown = json!({"partitions": [at(&missing, json!(0))]});
    let reply = consumer.call(Method::GET, "/offsets", Some(&unknown)).await;
    assert_eq!(refusal(&reply), (404, 40403, "/partitions/0/topic".into()));
    for (query, field) in [
        ("timeout=abc", "timeout"),
        ("timeout=1.5", "timeout"),
        ("max_bytes=many", "max_bytes"),
        ("timeout=1&timeout=2", "timeout"),
        ("limit=1", "limit"),
    ] {
        let reply = consumer.get(&format!("/records?{query}")).await;
        assert_eq!(refusal(&reply), (400, 400, field.into()), "{query}");
    }
    // Zero and less are the default, as in Confluent REST Proxy.
    fill(gateway, &name, 0, 0..1).await;
    assert_eq!(numbers(&consumer.read("timeout=-1&max_bytes=0").await), [0]);
    consumer.delete().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_that_is_not_json_is_40801_until_it_is_passed_over() {
    let gateway = gateway().await;
    let name = created("v2-poison", 1).await;
    produced(&name, &[b"0", b"{broken", b"2", b"\xff"]).await;
    let consumer = Consumer::of(gateway, &name).await;
    // What is good before it comes first.
    assert_eq!(numbers(&consumer.read_all(1).await), [0]);
    for _ in 0..2 {
        let reply = consumer.get("/records").await;
        assert_eq!(refusal(&reply), (408, 40801, String::new()));
        let message = reply.json()["message"].as_str().unwrap().to_owned();
        assert!(message.contains("offset 1"), "{message}");
        assert!(message.contains("format text or binary"), "{message}");
    }
    let offset = json!({"offsets": [{"topic": name, "partition": 0, "offset": 2}]});
    consumer.told("/positions", &offset).await;
    assert_eq!(numbers(&consumer.read_all(1).await), [2]);
    let reply = consumer.get("/records").await;
    assert_eq!(refusal(&reply), (408, 40801, String::new()));
    let message = reply.json()["message"].as_str().unwrap().to_owned();
    assert!(
        message.contains("format binary"),
        "no text either: {message}"
    );
    consumer.delete().await;
    // As base64 it is a record like any other.
    let mut body = from_earliest();
    body["format"] = json!("binary");
    let consumer = Consumer::make(gateway, &topic("v2-poison-group"), &body).await;
    consumer.subscribe(&[&name]).await;
    let records = consumer.read_all(4).await;
    assert_eq!(records[1]["value"], "e2Jyb2tlbg==");
    consumer.delete().await;
}
