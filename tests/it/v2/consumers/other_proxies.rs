//! What clients of Karapace, of Redpanda's proxy and of Strimzi's bridge have beside what Confluent REST Proxy has.

use serde_json::{Value, json};

use super::{BOUND, Consumer, V2, created, from_earliest, produced, refusal};
use crate::support::gateway::Gateway;
use crate::support::groups::{broker, gateway};
use crate::support::http::{Reply, client, send};
use crate::support::topic;

const TEXT: &str = "application/vnd.kafka.text.v2+json";

async fn post(gateway: &Gateway, path: &str, kind: &str, body: &Value) -> Reply {
    let request = client().post(gateway.url(path));
    send(request.header("content-type", kind).body(body.to_string())).await
}

/// One of a group of its own that reads text from the beginning.
async fn of_text(gateway: &Gateway, topic_name: &str) -> Consumer {
    let mut body = from_earliest();
    body["format"] = json!("text");
    let consumer = Consumer::make(gateway, &topic("v2-peers-group"), &body).await;
    consumer.subscribe(&[topic_name]).await;
    consumer
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn text_goes_in_and_out_as_strings() {
    let gateway = gateway().await;
    let name = created("v2-text", 1).await;
    let path = format!("/topics/{name}");
    let records = json!({"records": [
        {"key": "c-17", "value": "a \"b\" \u{e9}\n"}, {"key": "", "value": null}, {"value": "{}"},
    ]});
    let reply = post(gateway, &path, TEXT, &records).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    let written = broker().await.plain().consume_all(&name).await;
    let bytes = |text: &str| Some(text.as_bytes().to_vec());
    assert_eq!(
        written
            .iter()
            .map(|record| (record.key.clone(), record.value.clone()))
            .collect::<Vec<_>>(),
        [
            (bytes("c-17"), bytes("a \"b\" \u{e9}\n")),
            (bytes(""), None),
            (None, bytes("{}"))
        ]
    );
    // Only strings are text, and nothing of a request with another is written.
    for (value, field) in [
        (json!({"value": "x", "key": 1}), "key"),
        (json!({"value": {"a": 1}}), "value"),
    ] {
        let body = json!({"records": [{"value": "good"}, value]});
        let reply = post(gateway, &path, TEXT, &body).await;
        let at = format!("/records/1/{field}");
        assert_eq!(refusal(&reply), (400, 400, at), "{}", reply.text());
    }

    let consumer = of_text(gateway, &name).await;
    let mut read = Vec::new();
    let until = tokio::time::Instant::now() + BOUND;
    while read.len() < 3 {
        assert!(tokio::time::Instant::now() < until, "{read:?}");
        let request = consumer.request(reqwest::Method::GET, "/records?timeout=20000");
        let reply = send(request.header("accept", TEXT)).await;
        assert_eq!(
            (reply.status.as_u16(), reply.header("content-type")),
            (200, TEXT)
        );
        read.extend(serde_json::from_slice::<Vec<Value>>(&reply.body).unwrap());
    }
    let of_both: Vec<(&Value, &Value)> = read.iter().map(|r| (&r["key"], &r["value"])).collect();
    assert_eq!(
        of_both,
        [
            (&json!("c-17"), &json!("a \"b\" \u{e9}\n")),
            (&json!(""), &Value::Null),
            (&Value::Null, &json!("{}"))
        ]
    );
    let request = consumer.request(reqwest::Method::GET, "/records");
    let reply = send(request.header("accept", super::JSON)).await;
    assert_eq!(refusal(&reply), (406, 40601, "Accept".into()));
    consumer.delete().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_text_is_40801_until_it_is_passed_over() {
    let gateway = gateway().await;
    let name = created("v2-no-text", 1).await;
    produced(&name, &[b"one", b"\xff", b"three"]).await;
    let consumer = of_text(gateway, &name).await;
    assert_eq!(consumer.read_all(1).await[0]["value"], "one");
    let reply = consumer.get("/records").await;
    assert_eq!(refusal(&reply), (408, 40801, String::new()));
    let message = reply.json()["message"].as_str().unwrap().to_owned();
    assert!(message.contains("UTF-8"), "{message}");
    let offset = json!({"offsets": [{"topic": name, "partition": 0, "offset": 2}]});
    consumer.told("/positions", &offset).await;
    assert_eq!(consumer.read_all(1).await[0]["value"], "three");
    consumer.delete().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn headers_are_taken_in_every_form_and_given_in_the_one_that_is_set() {
    let shared = gateway().await;
    let name = created("v2-header-forms", 1).await;
    let records = json!({"records": [
        {"value": 1, "headers": [{"name": "a", "value": "/w=="}, {"name": "b", "value": null}]},
        {"value": 2, "headers": [{"key": "a", "value": "eA=="}]},
        {"value": 3, "headers": [["a", "y"]]},
        {"value": 4},
    ]});
    let path = format!("/topics/{name}");
    let reply = post(shared, &path, super::JSON, &records).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    let written = broker().await.plain().consume_all(&name).await;
    let a = |value: &[u8]| vec![("a".to_owned(), Some(value.to_vec()))];
    let mut first = a(b"\xff");
    first.push(("b".to_owned(), None));
    let headers: Vec<_> = written
        .iter()
        .map(|record| record.headers.clone())
        .collect();
    assert_eq!(headers, [first, a(b"x"), a(b"y"), Vec::new()]);

    for form in ["pairs", "name_value", "key_value"] {
        let gateway = Gateway::builder(&broker().await.bootstrap())
            .set("rest.record_headers", form)
            .start()
            .await;
        let consumer = Consumer::of(&gateway, &name).await;
        let read = consumer.read_all(4).await;
        let expected = match form {
            "pairs" => [
                json!([["a", {"b64": "/w=="}], ["b", null]]),
                json!([["a", "x"]]),
                json!([["a", "y"]]),
                json!([]),
            ],
            _ => {
                let name = form.split('_').next().unwrap();
                [
                    json!([{name: "a", "value": "/w=="}, {name: "b", "value": null}]),
                    json!([{name: "a", "value": "eA=="}]),
                    json!([{name: "a", "value": "eQ=="}]),
                    // There is none.
                    Value::Null,
                ]
            }
        };
        for (record, expected) in read.iter().zip(&expected) {
            assert_eq!(&record["headers"], expected, "{form}");
        }
        assert_eq!(read[3].get("headers").is_some(), form == "pairs");
        consumer.delete().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_produce_request_with_async_is_answered_only_where_a_record_failed() {
    let gateway = gateway().await;
    let name = created("v2-async", 1).await;
    let good = json!({"records": [{"value": 1}]});
    for path in ["", "/partitions/0"] {
        let path = format!("/topics/{name}{path}?async=true");
        let reply = post(gateway, &path, super::JSON, &good).await;
        assert_eq!((reply.status.as_u16(), &*reply.body), (204, &b""[..]));
    }
    let path = format!("/topics/{name}?async=false&else=1");
    assert_eq!(post(gateway, &path, super::JSON, &good).await.status, 200);
    // All three are there when the answers are.
    let written = broker().await.plain().consume_all(&name).await;
    assert_eq!(written.len(), 3);
    let bad = json!({"records": [{"value": 1, "partition": 7}, {"value": 2}]});
    let path = format!("/topics/{name}?async=true");
    let reply = post(gateway, &path, super::JSON, &bad).await;
    assert_eq!(reply.status, 200);
    let body = reply.json();
    assert_eq!(body["offsets"][0]["error_code"], 50003, "{body}");
    assert_eq!(body["offsets"][1]["offset"], 3, "{body}");
    let path = format!("/topics/{name}?async=1");
    let reply = post(gateway, &path, V2, &good).await;
    assert_eq!(reply.status, 415);
    let reply = post(gateway, &path, super::JSON, &good).await;
    assert_eq!(refusal(&reply), (400, 400, "async".into()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn offsets_in_partitions_are_those_of_the_next_records() {
    let gateway = gateway().await;
    let name = created("v2-redpanda", 1).await;
    let consumer = Consumer::of(gateway, &name).await;
    consumer.has(1).await;
    let partitions = json!({"partitions": [{"topic": name, "partition": 0, "offset": 6}]});
    let reply = consumer.post("/offsets", &partitions).await;
    assert_eq!((reply.status.as_u16(), reply.text()), (200, "[]"));
    let group = consumer.base.split('/').nth(4).unwrap();
    let plain = broker().await.plain();
    assert_eq!(plain.committed(group, &name, 0).await, Some(6));
    let offsets = json!({"offsets": [{"topic": name, "partition": 0, "offset": 6}]});
    assert_eq!(consumer.post("/offsets", &offsets).await.status, 200);
    assert_eq!(plain.committed(group, &name, 0).await, Some(7));
    consumer.delete().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partition_is_read_from_an_offset_without_an_instance() {
    let gateway = gateway().await;
    let name = created("v2-page", 2).await;
    produced(&name, &[b"1", b"22", b"no JSON", b"\xff"]).await;
    let plain = broker().await.plain();
    let written = plain.consume_all(&name).await;
    let partition = written[0].partition;
    let written: Vec<_> = written
        .iter()
        .filter(|r| r.partition == partition)
        .collect();
    let end = written.len();
    let path = |query: &str| format!("/topics/{name}/partitions/{partition}/records?{query}");
    let read = async |query: &str, accept: &str| {
        let request = client().get(gateway.url(&path(query)));
        send(request.header("accept", accept)).await
    };
    // Without a type, binary; up to the end, and no further.
    let reply = read("offset=0&timeout=20000", "*/*").await;
    assert_eq!(
        (reply.status.as_u16(), reply.header("content-type")),
        (200, super::BINARY)
    );
    assert_eq!(reply.header("tidegate-next-offset"), end.to_string());
    let records: Vec<Value> = serde_json::from_slice(&reply.body).unwrap();
    assert_eq!(records.len(), end);
    for (record, written) in records.iter().zip(&written) {
        assert_eq!(record["topic"], *name);
        assert_eq!(record["partition"], partition);
        assert_eq!(record["offset"], written.offset);
    }
    let reply = read(&format!("offset={end}&timeout=10"), super::BINARY).await;
    assert_eq!((reply.status.as_u16(), reply.text()), (200, "[]"));
    assert_eq!(reply.header("tidegate-next-offset"), end.to_string());
    for (query, expected) in [
        (format!("offset={}", end + 1), (404, 404, "offset")),
        ("timeout=1".to_owned(), (400, 400, "offset")),
        ("offset=-1".to_owned(), (400, 400, "offset")),
        ("offset=x".to_owned(), (400, 400, "offset")),
        ("offset=0&timeout=x".to_owned(), (400, 400, "timeout")),
        ("offset=0&max_bytes=0".to_owned(), (400, 400, "max_bytes")),
        ("offset=0&limit=1".to_owned(), (400, 400, "limit")),
    ] {
        let (status, code, field) = refusal(&read(&query, "*/*").await);
        assert_eq!((status, code, &*field), expected, "{query}");
    }
    let other = client().get(gateway.url(&format!("/topics/{name}/partitions/7/records?offset=0")));
    assert_eq!(refusal(&send(other).await).1, 40402);
    assert_eq!(refusal(&read("offset=0", "application/json").await).0, 406);
    // What is gone is told, with where the log begins.
    plain.delete_records(&name, partition, 1).await;
    let reply = read("offset=0", "*/*").await;
    assert_eq!(refusal(&reply), (410, 410, "offset".into()));
    assert_eq!(reply.json()["earliest"][partition.to_string()], 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_of_json_ends_before_what_is_none() {
    let gateway = gateway().await;
    let name = created("v2-page-json", 1).await;
    produced(&name, &[b"1", b"22", b"no JSON", b"\xff"]).await;
    let read = async |query: &str, accept: &str| {
        let path = format!("/topics/{name}/partitions/0/records?timeout=20000&{query}");
        send(client().get(gateway.url(&path)).header("accept", accept)).await
    };
    let reply = read("offset=0&max_bytes=1", super::JSON).await;
    assert_eq!(
        super::numbers(&serde_json::from_slice::<Vec<Value>>(&reply.body).unwrap()),
        [1]
    );
    assert_eq!(reply.header("tidegate-next-offset"), "1");
    let reply = read("offset=0", super::JSON).await;
    assert_eq!(
        super::numbers(&serde_json::from_slice::<Vec<Value>>(&reply.body).unwrap()),
        [1, 22]
    );
    assert_eq!(reply.header("tidegate-next-offset"), "2");
    let reply = read("offset=2", super::JSON).await;
    assert_eq!(refusal(&reply), (408, 40801, String::new()));
    assert!(reply.text().contains("text or binary"), "{}", reply.text());
    let reply = read("offset=2&max_bytes=1", TEXT).await;
    assert_eq!(reply.json()[0]["value"], "no JSON");
    // One that comes ends the wait.
    let waiting = read("offset=4", super::BINARY);
    let writing = produced(&name, &[b"late"]);
    let (reply, ()) = tokio::join!(waiting, writing);
    assert_eq!(reply.json()[0]["value"], "bGF0ZQ==");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_is_made_as_the_body_says() {
    let gateway = gateway().await;
    let name = topic("v2-made-topic");
    let body = json!({"topic_name": name, "partitions_count": 3, "replication_factor": 1});
    let reply = post(gateway, "/admin/topics", super::JSON, &body).await;
    assert_eq!(reply.status, 201, "{}", reply.text());
    assert!(reply.body.is_empty());
    let plain = broker().await.plain();
    for partition in 0..3 {
        assert!(plain.leader(&name, partition).await.is_some());
    }
    // It can be written to at once.
    let records = json!({"records": [{"value": 1, "partition": 2}]});
    let reply = post(gateway, &format!("/topics/{name}"), super::JSON, &records).await;
    assert_eq!(reply.json()["offsets"][0]["offset"], 0, "{}", reply.text());
    let again = post(gateway, "/admin/topics", V2, &body).await;
    assert_eq!(refusal(&again), (409, 409, "/topic_name".into()));
    for (body, expected) in [
        (json!({}), (422, 422, "/topic_name")),
        (
            json!({"topic_name": "__consumer_offsets"}),
            (422, 422, "/topic_name"),
        ),
        (json!({"topic_name": "a b"}), (400, 40002, "/topic_name")),
        (
            json!({"topic_name": "t", "partitions_count": 0}),
            (422, 422, "/partitions_count"),
        ),
    ] {
        let reply = post(gateway, "/admin/topics", V2, &body).await;
        let (status, code, field) = refusal(&reply);
        assert_eq!((status, code, &*field), expected, "{body}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn health_is_told_to_clients_only_where_that_is_set() {
    let shared = gateway().await;
    let get = async |gateway: &Gateway, path: &str| send(client().get(gateway.url(path))).await;
    for path in ["/healthy", "/ready", "/_health"] {
        let reply = get(shared, path).await;
        assert_eq!(refusal(&reply).0, 404);
        let message = reply.json()["message"].as_str().unwrap().to_owned();
        assert!(
            message.contains("/readyz") && message.contains("http.health_paths"),
            "{message}"
        );
    }
    let open = Gateway::builder(&broker().await.bootstrap())
        .set("http.health_paths", "true")
        .start()
        .await;
    for (path, status) in [("/healthy", 204), ("/ready", 204), ("/_health", 200)] {
        let reply = get(&open, path).await;
        assert_eq!(reply.status, status, "{path}: {}", reply.text());
    }
    let away = Gateway::builder("127.0.0.1:1")
        .set("http.health_paths", "true")
        .start()
        .await;
    assert_eq!(get(&away, "/healthy").await.status, 204);
    assert_eq!(refusal(&get(&away, "/ready").await).0, 503);
}
