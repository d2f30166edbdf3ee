//! Writing through the v2 API, seen in the topic by a plain client, on a real Kafka.

use serde_json::{Value, json};

use crate::support::gateway::Gateway;
use crate::support::http::{Reply, client, send};
use crate::support::kafka_client::{OutgoingRecord, StoredRecord};
use crate::support::{kafka, shared_gateway, topic};

const V2: &str = "application/vnd.kafka.v2+json";
const JSON: &str = "application/vnd.kafka.json.v2+json";
const BINARY: &str = "application/vnd.kafka.binary.v2+json";

async fn post(path: &str, kind: &str, body: &str) -> Reply {
    let url = shared_gateway().await.url(path);
    let request = client().post(url).body(body.to_owned());
    send(if kind.is_empty() {
        request
    } else {
        request.header("content-type", kind)
    })
    .await
}

/// A new topic, and the path of it.
async fn new_topic(prefix: &str, partitions: i32) -> (String, String) {
    let name = topic(prefix);
    let plain = kafka().await.plain();
    plain.create_topic(&name, partitions, &[]).await;
    let path = format!("/topics/{name}");
    (name, path)
}

async fn read(topic: &str) -> Vec<StoredRecord> {
    kafka().await.plain().consume_all(topic).await
}

fn refusal(reply: &Reply) -> (u16, i64) {
    let code = reply.json()["error_code"].as_i64().unwrap();
    (reply.status.as_u16(), code)
}

fn codes(reply: &Reply) -> Vec<Value> {
    let body = reply.json();
    let entries = body["offsets"].as_array().unwrap();
    entries.iter().map(|e| e["error_code"].clone()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn json_is_written_as_it_was_sent_and_answered_with_nulls() {
    let (name, path) = new_topic("v2-json", 1).await;
    let body = r#"{"records":[
        {"key":"c-17","value":{"n": 12345678901234567890.10}},
        {"value":""},{"value":0},{"value":false},{"value":null},{}
    ]}"#;

    let reply = post(&path, &format!("{JSON}; charset=utf-8"), body).await;

    assert_eq!(
        (reply.status.as_u16(), reply.header("content-type")),
        (200, V2)
    );
    let entries: Vec<String> = (0..6)
        .map(|n| format!(r#"{{"partition":0,"offset":{n},"error_code":null,"error":null}}"#))
        .collect();
    let entries = entries.join(",");
    assert_eq!(
        reply.text(),
        format!(r#"{{"offsets":[{entries}],"key_schema_id":null,"value_schema_id":null}}"#)
    );
    let records = read(&name).await;
    let texts: Vec<Option<&str>> = records.iter().map(StoredRecord::text).collect();
    let first = r#"{"n": 12345678901234567890.10}"#;
    assert_eq!(
        texts,
        [
            Some(first),
            Some("\"\""),
            Some("0"),
            Some("false"),
            None,
            None
        ]
    );
    assert_eq!(records[0].key.as_deref(), Some(&b"\"c-17\""[..]));
    assert_eq!(records[1].key, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn binary_is_decoded_and_nothing_is_read_without_a_content_type() {
    let (name, path) = new_topic("v2-binary", 1).await;
    let body = r#"{"records":[{"key":"a2V5","value":"/wD+"},{"value":"aGVsbG8"}]}"#;

    assert_eq!(post(&path, BINARY, body).await.status, 200);
    // What it is does not show, and JSON could be taken for base64.
    let bare = client().post(shared_gateway().await.url(&path)).body(body);
    for reply in [post(&path, "", body).await, send(bare).await] {
        assert_eq!(refusal(&reply), (415, 415));
        let message = reply.json()["message"].as_str().unwrap().to_owned();
        assert!(
            message.contains(JSON) && message.contains(BINARY),
            "{message}"
        );
        assert!(reply.header("accept").contains(BINARY));
    }

    let records = read(&name).await;
    assert_eq!(records.len(), 2);
    assert_eq!(records[0].key.as_deref(), Some(&b"key"[..]));
    assert_eq!(records[0].value.as_deref(), Some(&b"\xff\x00\xfe"[..]));
    assert_eq!(records[1].text(), Some("hello"));
    // As tools wrap it.
    let wrapped = r#"{"records":[{"value":"aGVs\nbG8="}]}"#;
    let reply = post(&path, BINARY, wrapped).await;
    assert_eq!(refusal(&reply), (400, 400));
    let message = reply.json()["message"].as_str().unwrap().to_owned();
    assert!(message.contains("line break"), "{message}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_goes_where_other_clients_put_it() {
    let (name, path) = new_topic("v2-key", 5).await;
    for n in 0..8 {
        let key = format!("\"kéy {n}\"");
        kafka()
            .await
            .plain()
            .produce(OutgoingRecord {
                topic: &name,
                key: Some(key.as_bytes()),
                value: Some(b"plain"),
                ..OutgoingRecord::default()
            })
            .await;
        // Escaped, as many JSON libraries write it.
        let body = format!(r#"{{"records":[{{"key": "k\u00e9y {n}","value":"ours"}}]}}"#);
        assert_eq!(post(&path, JSON, &body).await.status, 200);
    }
    let mut places = std::collections::HashMap::<_, Vec<i32>>::new();
    for record in read(&name).await {
        places.entry(record.key).or_default().push(record.partition);
    }
    assert_eq!(places.len(), 8);
    for (key, partitions) in places {
        assert!(matches!(partitions[..], [a, b] if a == b), "{key:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_records_partition_is_the_paths_or_the_request_is_refused() {
    let (name, path) = new_topic("v2-partition", 3).await;
    let body =
        r#"{"records":[{"value":1},{"value":2,"partition":"2"},{"value":3,"partition":null}]}"#;

    let reply = post(&format!("{path}/partitions/2"), JSON, body).await;
    let other = r#"{"records":[{"value":1},{"value":2,"partition":0}]}"#;
    let refused = post(&format!("{path}/partitions/2"), JSON, other).await;
    let to_topic = post(&path, JSON, r#"{"records":[{"value":4,"partition":"0"}]}"#).await;

    assert_eq!(refusal(&refused), (422, 422));
    assert_eq!(refused.json()["field"], "/records/1/partition");
    assert_eq!(to_topic.json()["offsets"][0]["partition"], 0);

    let partitions: Vec<i64> = reply.json()["offsets"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| entry["partition"].as_i64().unwrap())
        .collect();
    assert_eq!(partitions, [2, 2, 2]);
    let seen: Vec<i32> = read(&name).await.iter().map(|r| r.partition).collect();
    assert_eq!(seen, [0, 2, 2, 2]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn headers_and_timestamp_are_written() {
    let (name, path) = new_topic("v2-headers", 1).await;
    let body = r#"{"records":[
        {"value":"eA==","timestamp":1700000000123,"headers":[["a","1"],["a",null],["b",{"b64":"/w=="}]]},
        {"value":"eA==","timestamp":"2023-11-14T22:13:20.123Z","headers":{"c":"2"}}
    ]}"#;

    assert_eq!(post(&path, BINARY, body).await.status, 200);

    let records = read(&name).await;
    let expected = [
        ("a".to_owned(), Some(b"1".to_vec())),
        ("a".to_owned(), None),
        ("b".to_owned(), Some(vec![0xff])),
    ];
    assert_eq!(records[0].headers, expected);
    assert_eq!(records[0].timestamp, Some(1_700_000_000_123));
    assert_eq!(records[1].timestamp, Some(1_700_000_000_123));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_key_or_value_that_does_not_fit_and_nothing_is_written() {
    let (name, path) = new_topic("v2-unfit", 1).await;
    let last = [
        r#"{"value":"not base64!"}"#,
        r#"{"value":{"a":1}}"#,
        r#"{"key":7}"#,
    ];
    for last in last {
        let body = format!(r#"{{"records":[{{"value":"eA=="}},{last}]}}"#);
        let reply = post(&path, BINARY, &body).await;
        assert_eq!(refusal(&reply), (400, 400), "{last}");
        assert_eq!(reply.header("content-type"), V2);
        let body = reply.json();
        let message = body["message"].as_str().unwrap();
        assert!(message.starts_with("Bad Request:"), "{message}");
        assert!(body["field"].as_str().unwrap().starts_with("/records/1/"));
    }
    assert_eq!(read(&name).await, []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_that_are_not_produce_requests_are_told_apart() {
    let (name, path) = new_topic("v2-bodies", 1).await;
    for (body, status) in [
        ("", 422),
        ("{}", 422),
        (r#"{"records":[]}"#, 422),
        (r#"{"records":[{"value":1}],"x":1}"#, 422),
        (r#"{"records":[{"valeu":1}]}"#, 422),
        (r#"{"records":[{"value":1,"partition":-1}]}"#, 422),
        (r#"{"records":[{"value":1,"partition":"x"}]}"#, 400),
        (r#"{"records":{"value":1}}"#, 400),
        (r#"{"records":[{"value":1}"#, 400),
        ("[1]", 400),
    ] {
        let reply = post(&path, JSON, body).await;
        assert_eq!(refusal(&reply), (status, i64::from(status)), "{body}");
        assert_eq!(reply.header("content-type"), V2, "{body}");
    }
    assert_eq!(read(&name).await, []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_content_types_are_refused_with_what_to_send() {
    let (name, path) = new_topic("v2-types", 1).await;
    let body = r#"{"records":[{"value":"eA=="}]}"#;
    for kind in [
        V2,
        "application/json",
        "application/octet-stream",
        "text/plain",
    ] {
        let reply = post(&path, kind, body).await;
        assert_eq!(refusal(&reply), (415, 415), "{kind}");
        assert_eq!(reply.header("content-type"), "application/json");
        assert!(reply.header("accept").contains(JSON));
        let message = reply.json()["message"].as_str().unwrap().to_owned();
        assert!(message.contains(JSON), "{message}");
        assert_eq!(message.contains("/records"), kind == "application/json");
    }
    let url = shared_gateway().await.url(&path);
    let request = client().post(&url).body(body).header("content-type", V2);
    let reply = send(request.header("accept", V2)).await;
    assert_eq!(reply.header("content-type"), V2);
    for (part, body) in [
        (
            "avro",
            r#"{"records":[{"value":1}],"value_schema":"\"int\""}"#,
        ),
        (
            "jsonschema",
            r#"{"records":[{"value":1}],"value_schema_id":1}"#,
        ),
        ("protobuf", r#"{"records":[{"value":1}]}"#),
    ] {
        let reply = post(
            &path,
            &format!("application/vnd.kafka.{part}.v2+json"),
            body,
        )
        .await;
        let code = if body.contains("schema") {
            42206
        } else {
            42207
        };
        assert_eq!(refusal(&reply), (422, code), "{part}");
        let message = reply.json()["message"].as_str().unwrap().to_owned();
        assert!(message.contains("schema registry"), "{message}");
    }
    assert_eq!(read(&name).await, []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn accept_decides_the_type_of_the_answer() {
    let (name, path) = new_topic("v2-accept", 1).await;
    let url = shared_gateway().await.url(&path);
    let send_as = |accept: &'static str| {
        let request = client().post(&url).body(r#"{"records":[{"value":1}]}"#);
        let request = request.header("content-type", JSON);
        send(request.header("accept", accept))
    };
    for (accept, kind) in [
        ("*/*", V2),
        (V2, V2),
        ("application/json", "application/json"),
    ] {
        let reply = send_as(accept).await;
        assert_eq!(
            (reply.status.as_u16(), reply.header("content-type")),
            (200, kind)
        );
    }
    for accept in ["image/png", JSON] {
        assert_eq!(refusal(&send_as(accept).await), (406, 406));
    }
    assert_eq!(read(&name).await.len(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_kafka_does_not_have_is_said_of_each_record() {
    let (name, path) = new_topic("v2-unknown", 2).await;
    let body = r#"{"records":[{"value":1},{"value":2}]}"#;

    let reply = post(&format!("{path}-not"), JSON, body).await;
    assert_eq!(reply.status, 200);
    assert_eq!(codes(&reply), [50003, 50003]);
    assert_eq!(reply.header("tidegate-failed-records"), "2");
    let entry = reply.json()["offsets"][0].clone();
    assert_eq!(entry["kafka_error"], "UNKNOWN_TOPIC_OR_PARTITION");
    assert_eq!(
        (&entry["partition"], &entry["offset"]),
        (&Value::Null, &Value::Null)
    );
    assert!(entry["error"].as_str().unwrap().contains("does not exist"));

    let reply = post("/topics/a%20b", JSON, body).await;
    assert_eq!(
        (reply.status.as_u16(), codes(&reply)),
        (200, vec![json!(50002); 2])
    );

    for partition in ["7", "-1"] {
        let reply = post(&format!("{path}/partitions/{partition}"), JSON, body).await;
        assert_eq!(
            (reply.status.as_u16(), codes(&reply)),
            (200, vec![json!(50003); 2])
        );
    }
    let mixed = r#"{"records":[{"value":1,"partition":7},{"value":2,"partition":1}]}"#;
    assert_eq!(
        codes(&post(&path, JSON, mixed).await),
        [json!(50003), Value::Null]
    );
    assert_eq!(read(&name).await.len(), 1);

    let reply = post(&format!("{path}/partitions/x"), JSON, body).await;
    assert_eq!(refusal(&reply), (404, 404));
    assert_eq!(reply.json()["field"], "partition");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_record_that_is_too_large_leaves_the_others_written() {
    let (name, path) = new_topic("v2-large", 1).await;
    let (small, large) = ("x".repeat(100), "x".repeat(1 << 20));
    let body = json!({"records": [{"value": small}, {"value": large}, {"value": small}]});

    let reply = post(&path, JSON, &body.to_string()).await;

    assert_eq!(reply.status, 200);
    assert_eq!(codes(&reply), [Value::Null, json!(50002), Value::Null]);
    assert_eq!(read(&name).await.len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_records_keep_their_order() {
    let (name, path) = new_topic("v2-many", 1).await;
    let records: Vec<Value> = (0..10_000).map(|n| json!({"value": n})).collect();

    let reply = post(&path, JSON, &json!({"records": records}).to_string()).await;

    let offsets: Vec<i64> = reply.json()["offsets"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| entry["offset"].as_i64().unwrap())
        .collect();
    assert!(offsets.iter().copied().eq(0..10_000), "{offsets:?}");
    let seen = read(&name).await;
    assert!((0..10_000).all(|n| seen[n].text() == Some(&n.to_string())));

    let records: Vec<Value> = (0..10_001).map(|n| json!({"value": n})).collect();
    let reply = post(&path, JSON, &json!({"records": records}).to_string()).await;
    assert_eq!(refusal(&reply), (413, 413));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_is_created_where_that_is_wanted() {
    let gateway = Gateway::builder(&kafka().await.bootstrap())
        .set("kafka.auto_create_topics", "true")
        .set("kafka.metadata_timeout_ms", "30000")
        .start()
        .await;
    let name = topic("v2-created");
    let request = client()
        .post(gateway.url(&format!("/topics/{name}")))
        .header("content-type", JSON)
        .body(r#"{"records":[{"value":1}]}"#);

    let reply = send(request).await;

    assert_eq!(
        (reply.status.as_u16(), codes(&reply)),
        (200, vec![Value::Null])
    );
    assert_eq!(read(&name).await.len(), 1);
}
