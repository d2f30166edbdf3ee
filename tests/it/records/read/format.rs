//! How a record is shown: formats, times, tombstones, single records as JSON or as bytes.

use std::time::Duration;

use serde_json::{Value, json};

use super::{TestTopic, error_of, places, says};
use crate::streams::{Stream, ndjson};
use crate::support::http;
use crate::support::kafka_client::OutgoingRecord;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_is_shown_in_the_format_asked_for_else_in_one_that_holds_it() {
    type Content = Option<&'static [u8]>;
    let topic = TestTopic::open("shown", 1, &[]).await;
    let headers: [(&str, Option<&[u8]>); 4] = [
        ("a", Some(b"1")),
        ("b", None),
        ("a", Some(b"\xff\x00")),
        ("é", Some("\"é\"\n".as_bytes())),
    ];
    let records: [(Content, Content); 6] = [
        (Some(b"k"), Some(b"{\"n\": 12345678901234567890}")),
        (Some(b"17"), Some(b"plain \"text\"")),
        (Some(b"\xff"), Some(b"\xfe\xff")),
        (None, None),
        (Some(b""), Some(b"")),
        (Some(b"\"q\""), Some(b"[1,2]")),
    ];
    for (n, (key, value)) in records.into_iter().enumerate() {
        let record = OutgoingRecord {
            topic: &topic.name,
            key,
            value,
            headers: if n == 0 { &headers } else { &[] },
            timestamp: Some(1_700_000_000_000),
            ..OutgoingRecord::default()
        };
        topic.plain.produce(record).await;
    }

    let reply = topic.reply("from=earliest").await;
    // As text, since a JSON library loses digits.
    let expected = format!(
        r#"{{"records":[{{"topic":"{}","partition":0,"offset":0,"timestamp":1700000000000,"key":"k","value":{{"n": 12345678901234567890}},"headers":[["a","1"],["b",null],["a",{{"b64":"/wA="}}],["é","\"é\"\n"]]}},"#,
        topic.name
    );
    assert!(reply.text().starts_with(&expected), "{}", reply.text());

    // key, kf, value, vf
    let shown = async |query: &str| -> Vec<Value> {
        let page = topic.page(&format!("from=earliest&{query}")).await;
        let fields = |r: &Value| ["key", "kf", "value", "vf"].map(|name| r[name].clone());
        page.records.iter().map(|r| json!(fields(r))).collect()
    };
    assert_eq!(
        shown("").await[1..],
        [
            json!(["17", null, "plain \"text\"", "string"]),
            json!(["/w==", "binary", "/v8=", "binary"]),
            json!([null, null, null, "null"]),
            json!(["", null, "", "string"]),
            json!(["\"q\"", null, [1, 2], null]),
        ]
    );
    assert_eq!(
        shown("key_format=json&value_format=string").await[1..],
        [
            json!([17, null, "plain \"text\"", null]),
            json!(["/w==", "binary", "/v8=", "binary"]),
            json!([null, null, null, "null"]),
            json!(["", "string", "", null]),
            json!(["q", null, "[1,2]", null]),
        ]
    );
    assert_eq!(
        shown("key_format=binary&value_format=binary").await[1..4],
        [
            json!(["MTc=", null, "cGxhaW4gInRleHQi", null]),
            json!(["/w==", null, "/v8=", null]),
            json!([null, null, null, "null"]),
        ]
    );
    let one = http::get(&format!("{}?value_format=binary", topic.record(0, 5))).await;
    assert_eq!(one.json()["value"], "WzEsMl0=");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_timestamp_of_the_broker_is_marked() {
    let topic = TestTopic::open("append", 1, &[("message.timestamp.type", "LogAppendTime")]).await;
    topic.write(&json!({"value": 1, "timestamp": 1000})).await;
    let record = &topic.page("from=earliest").await.records[0];
    let in_kafka = topic.plain.consume_all(&topic.name).await[0].timestamp;
    assert!(in_kafka > Some(1_000));
    assert_eq!(record["timestamp"].as_i64(), in_kafka);
    assert_eq!(record["timestamp_type"], "append");

    let topic = TestTopic::open("create", 1, &[]).await;
    topic.write(&json!({"value": 1, "timestamp": 1000})).await;
    let record = &topic.page("from=earliest").await.records[0];
    assert_eq!(record["timestamp"], 1000);
    assert!(record.get("timestamp_type").is_none(), "{record}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tombstone_is_told_from_the_json_null() {
    let topic = TestTopic::open("nulls", 1, &[]).await;
    for value in [None, Some(b"null".as_slice())] {
        let record = OutgoingRecord {
            topic: &topic.name,
            key: Some(b"k"),
            value,
            ..OutgoingRecord::default()
        };
        topic.plain.produce(record).await;
    }
    let shown = |records: &[Value]| -> Vec<(Value, Value)> {
        let records = records.iter();
        records
            .map(|record| (record["value"].clone(), record["vf"].clone()))
            .collect()
    };
    let tombstone = (Value::Null, json!("null"));
    let url = format!(
        "{}/topics/{}/records?from=earliest&until=end",
        topic.gateway, topic.name
    );
    for (format, other) in [
        ("", (Value::Null, Value::Null)),
        ("&value_format=string", (json!("null"), Value::Null)),
        ("&value_format=binary", (json!("bnVsbA=="), Value::Null)),
        ("&fields=/a", (json!({}), Value::Null)),
    ] {
        let url = format!("{url}{format}");
        let expected = [tombstone.clone(), other];
        let page = http::get(&url).await.json();
        assert_eq!(
            shown(page["records"].as_array().unwrap()),
            expected,
            "{url}"
        );
        let lines = ndjson(&url).await.into_iter();
        let lines: Vec<Value> = lines.filter(|l| l.get("event").is_none()).collect();
        assert_eq!(shown(&lines), expected, "{url}");
        let mut stream = Stream::open(&url, None).await;
        let events = stream.records(2).await;
        let events: Vec<Value> = events.iter().map(|event| event.json()).collect();
        assert_eq!(shown(&events), expected, "{url}");
    }
    for (offset, vf) in [(0, json!("null")), (1, Value::Null)] {
        let record = http::get(&topic.record(0, offset)).await.json();
        assert_eq!((&record["value"], &record["vf"]), (&Value::Null, &vf));
    }
    // Where there are values alone, nothing is left to tell them by.
    assert_eq!(
        ndjson(&format!("{url}&meta=none")).await,
        [Value::Null, Value::Null]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn times_of_far_years_are_read_and_seconds_are_refused() {
    let topic = TestTopic::open("years", 1, &[]).await;
    topic.fill(&[3]).await;
    for (from, count) in [
        ("1960-01-01T00:00:00Z", 3),
        ("0001-01-01", 3),
        ("9999-12-31T23:59:59Z", 0),
    ] {
        let page = topic.page(&format!("from={from}")).await;
        assert_eq!(page.records.len(), count, "{from}");
        let url = format!(
            "{}/topics/{}/records?from={from}&until=end",
            topic.gateway, topic.name
        );
        let lines = ndjson(&url).await.into_iter();
        let records = lines.filter(|line| line.get("event").is_none());
        assert_eq!(records.count(), count, "{from}");
    }
    for accept in [
        "application/json",
        "application/x-ndjson",
        "text/event-stream",
    ] {
        let get = async |query: &str| {
            let url = format!("{}/topics/{}/records?{query}", topic.gateway, topic.name);
            http::send(http::client().get(url).header("accept", accept)).await
        };
        let error = error_of(&get("from=1700000000").await, 400, "from");
        says(&error, "1700000000000");
        says(&error, "2023-11-14T22:13:20Z");
        if accept != "application/json" {
            let error = error_of(&get("until=1700000000").await, 400, "until");
            says(&error, "1700000000000");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_record_comes_as_json_or_as_its_bytes() {
    let topic = TestTopic::open("single", 2, &[]).await;
    let image = b"\x89PNG\r\n\x00\xff";
    let record = OutgoingRecord {
        topic: &topic.name,
        partition: Some(1),
        key: Some(b"k"),
        value: Some(image),
        timestamp: Some(1_700_000_000_000),
        ..OutgoingRecord::default()
    };
    topic.plain.produce(record).await;
    topic
        .plain
        .produce(OutgoingRecord {
            value: None,
            ..record
        })
        .await;
    let get = async |partition: i32, offset: i64, accept: &str| {
        let request = http::client()
            .get(topic.record(partition, offset))
            .header("accept", accept);
        http::send(request).await
    };

    let reply = get(1, 0, "*/*").await;
    assert_eq!(reply.status, 200);
    assert_eq!(reply.header("content-type"), "application/json");
    assert_eq!(
        reply.json(),
        json!({"topic": topic.name, "partition": 1, "offset": 0, "timestamp": 1_700_000_000_000_i64,
            "key": "k", "value": "iVBORw0KAP8=", "vf": "binary", "headers": []})
    );
    let reply = get(1, 0, "application/octet-stream").await;
    assert_eq!(reply.status, 200);
    assert_eq!(reply.body, image);
    assert_eq!(reply.header("content-type"), "application/octet-stream");
    assert_eq!(reply.header("x-content-type-options"), "nosniff");
    assert_eq!(reply.header("content-length"), image.len().to_string());
    assert_eq!(reply.header("kafka-partition"), "1");
    assert_eq!(reply.header("kafka-offset"), "0");
    assert_eq!(reply.header("kafka-timestamp"), "1700000000000");
    let reply = get(1, 1, "application/octet-stream").await;
    assert_eq!(reply.status, 204);
    assert!(reply.body.is_empty());
    assert_eq!(reply.header("kafka-offset"), "1");
    let tombstone = get(1, 1, "application/json").await.json();
    assert_eq!(
        (&tombstone["value"], &tombstone["vf"]),
        (&Value::Null, &json!("null"))
    );

    let error = error_of(&get(1, 2, "*/*").await, 404, "offset");
    says(&error, "ends at offset 2");
    error_of(&get(0, 0, "*/*").await, 404, "offset");
    let error = error_of(&get(2, 0, "*/*").await, 404, "partition");
    assert_eq!(error["error_code"], 40402);
    says(
        &error_of(&get(-1, 0, "*/*").await, 400, "partition"),
        "whole number",
    );
    says(
        &error_of(&get(0, -1, "*/*").await, 400, "offset"),
        "whole number",
    );
    let error = error_of(&get(1, 0, "image/png").await, 406, "Accept");
    says(&error, "application/json, application/octet-stream");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_accept_of_other_types_is_refused_with_the_types_that_are_offered() {
    let topic = TestTopic::open("accept", 1, &[]).await;
    let request = http::client()
        .get(topic.records())
        .header("accept", "text/html, image/*");
    let error = error_of(&http::send(request).await, 406, "Accept");
    assert_eq!(error["error_code"], 406);
    says(&error, "application/json");
    let request = http::client()
        .get(topic.records())
        .header("accept", "text/html;q=0.9, application/json;q=0.1");
    assert_eq!(http::send(request).await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http_2_with_prior_knowledge_and_head_work() {
    let topic = TestTopic::open("versions", 1, &[]).await;
    topic.fill(&[3]).await;
    let url = format!("{}?from=earliest", topic.records());

    let client = reqwest::Client::builder()
        .http2_prior_knowledge()
        .timeout(Duration::from_secs(60))
        .build()
        .unwrap();
    let response = client.get(&url).send().await.unwrap();
    assert_eq!(response.version(), reqwest::Version::HTTP_2);
    assert_eq!(response.status(), 200);
    let page: Value = response.json().await.unwrap();
    assert_eq!(
        places(page["records"].as_array().unwrap()),
        [(0, 0), (0, 1), (0, 2)]
    );
    let body = json!({"value": "x".repeat(500_000)});
    let response = client
        .post(topic.records())
        .json(&body)
        .send()
        .await
        .unwrap();
    assert_eq!(
        (response.version(), response.status().as_u16()),
        (reqwest::Version::HTTP_2, 200)
    );
    let many = (0..20).map(async |_| {
        // Read at once: a stream that nobody reads holds up the others of its connection.
        let response = client.get(&url).send().await.unwrap();
        response.bytes().await.unwrap()
    });
    for body in futures::future::join_all(many).await {
        assert!(body.len() > 500_000);
    }
    let response = client.get(topic.record(9, 0)).send().await.unwrap();
    assert_eq!(response.status(), 404);

    for url in [url, topic.record(0, 1)] {
        let reply = http::send(http::client().head(&url)).await;
        assert_eq!(reply.status, 200);
        assert_eq!(reply.header("content-type"), "application/json");
        assert!(reply.body.is_empty());
        assert_ne!(reply.header("x-request-id"), "");
    }
    let reply = http::send(http::client().head(topic.record(0, 77))).await;
    assert_eq!(reply.status, 404);
    assert!(reply.body.is_empty());
}
