//! Writing records over HTTP, and what is then really in Kafka.

use serde_json::{Value, json};

use crate::support::gateway::Gateway;
use crate::support::http::{self, Reply};
use crate::support::kafka_client::{OutgoingRecord, StoredRecord};
use crate::support::{kafka, shared_gateway, topic};

/// A topic of this test's own, and the path to its records.
async fn fresh(prefix: &str, partitions: i32, configs: &[(&str, &str)]) -> (String, String) {
    let name = topic(prefix);
    kafka()
        .await
        .plain()
        .create_topic(&name, partitions, configs)
        .await;
    let url = shared_gateway()
        .await
        .url(&format!("/topics/{name}/records"));
    (name, url)
}

/// Posts a body that must be taken, and gives the answer's JSON.
async fn written(url: &str, body: &str) -> Value {
    let reply = http::post_text(url, body).await;
    assert_eq!(reply.status, 200, "{body}: {}", reply.text());
    assert_eq!(reply.header("content-type"), "application/json");
    assert_eq!(reply.header("tidegate-failed-records"), "", "{body}");
    reply.json()
}

async fn in_kafka(topic: &str) -> Vec<StoredRecord> {
    kafka().await.plain().consume_all(topic).await
}

fn now_ms() -> i64 {
    let since_1970 = std::time::UNIX_EPOCH.elapsed().unwrap();
    i64::try_from(since_1970.as_millis()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_object_is_one_record_and_the_answer_says_where_it_is() {
    let (topic, url) = fresh("one", 1, &[]).await;
    let before = now_ms();

    let first = written(&url, r#"{"key":"c-17","value":{"id":1}}"#).await;
    let second = written(&url, r#" { "value" : "x" } "#).await;

    assert_eq!(
        (&first["topic"], &first["partition"], &first["offset"]),
        (&json!(topic), &json!(0), &json!(0))
    );
    assert_eq!(second["offset"], 1);
    let records = in_kafka(&topic).await;
    assert_eq!(records[0].key.as_deref(), Some(&b"c-17"[..]));
    assert_eq!(records[0].text(), Some(r#"{"id":1}"#));
    assert_eq!(records[1].key, None);
    assert_eq!(records[1].text(), Some(r#""x""#));
    for (answer, record) in [first, second].iter().zip(&records) {
        let fields = answer.as_object().unwrap();
        assert_eq!(
            fields.keys().collect::<Vec<_>>(),
            ["offset", "partition", "timestamp", "topic"]
        );
        let timestamp = answer["timestamp"].as_i64();
        assert_eq!(timestamp, record.timestamp);
        assert!(
            timestamp.is_some_and(|ms| (before..=now_ms()).contains(&ms)),
            "{answer}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_array_is_written_and_answered_in_its_order() {
    let (topic, url) = fresh("many", 3, &[]).await;
    let body: Vec<Value> = (0..300)
        .map(|n| json!({"partition": n % 3, "value": n}))
        .collect();

    let answer = written(&url, &Value::from(body).to_string()).await;

    let answer = answer.as_array().unwrap();
    assert_eq!(answer.len(), 300);
    for (n, at) in answer.iter().enumerate() {
        assert_eq!(at["topic"], topic);
        assert_eq!(at["partition"], n % 3);
        assert_eq!(at["offset"], n / 3);
        assert!(at["timestamp"].is_i64(), "{at}");
    }
    for record in in_kafka(&topic).await {
        let n = record.offset * 3 + i64::from(record.partition);
        assert_eq!(record.text(), Some(n.to_string().as_str()));
    }
    assert_eq!(written(&url, "[]").await, json!([]));
    assert_eq!(written(&url, r#"[{"value":1}]"#).await[0]["topic"], topic);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_value_keeps_every_byte() {
    let (topic, url) = fresh("bytes", 1, &[]).await;
    let values = [
        "12345678901234567890",
        "0.1000000000000000055511151231257827021181583404541015625",
        "1e400",
        "-0.0",
        "0",
        "false",
        "true",
        r#""""#,
        r#""\u00e9 é \/ \n""#,
        "[]",
        r#"{"b":1, "a":{"total":12345678901234567890},"b":2 }"#,
        "[1 ,\n\t2]",
    ];
    let body: Vec<String> = values
        .iter()
        .map(|v| format!(r#"{{"value":{v}}}"#))
        .collect();

    written(&url, &format!("[{}]", body.join(","))).await;
    written(&url, r#"{"value":   12345678901234567890   }"#).await;

    let records = in_kafka(&topic).await;
    let texts: Vec<&str> = records.iter().filter_map(StoredRecord::text).collect();
    assert_eq!(texts[..values.len()], values);
    assert_eq!(texts[values.len()..], ["12345678901234567890"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn null_is_a_tombstone_and_nothing_else_is() {
    let (topic, url) = fresh("tombstone", 1, &[("cleanup.policy", "compact")]).await;

    written(
        &url,
        r#"[{"key":"a","value":0},{"key":"a","value":""},{"key":"a","value":null}]"#,
    )
    .await;
    let formatted = format!("{url}?value_format=string");
    written(
        &formatted,
        r#"[{"key":"a","value":""},{"key":"a","value":null}]"#,
    )
    .await;
    let formatted = format!("{url}?value_format=binary");
    written(
        &formatted,
        r#"[{"key":"a","value":""},{"key":"a","value":null}]"#,
    )
    .await;

    let values: Vec<Option<Vec<u8>>> = in_kafka(&topic)
        .await
        .into_iter()
        .map(|r| r.value)
        .collect();
    let expected = [
        Some("0"),
        Some(r#""""#),
        None,
        Some(""),
        None,
        Some(""),
        None,
    ];
    assert_eq!(values, expected.map(|v| v.map(|v| v.as_bytes().to_vec())));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn headers_come_as_an_object_or_as_pairs() {
    let (topic, url) = fresh("headers", 1, &[]).await;

    written(
        &url,
        r#"[
            {"value":1,"headers":{"source":"curl","none":null,"raw":{"b64":"/wA="},"empty":""}},
            {"value":2,"headers":[["a","1"],["b",null],["a",{"b64":"AQID"}],["a","é\n"],["",""]]},
            {"value":3,"headers":{"a":"1","a":"2"}},
            {"value":4,"headers":{}},
            {"value":5,"headers":[]},
            {"value":6,"headers":null},
            {"value":7}
        ]"#,
    )
    .await;

    let headers: Vec<Vec<(String, Option<Vec<u8>>)>> = in_kafka(&topic)
        .await
        .into_iter()
        .map(|r| r.headers)
        .collect();
    let pair = |name: &str, value: Option<&[u8]>| (name.to_owned(), value.map(<[u8]>::to_vec));
    assert_eq!(
        headers[0],
        [
            pair("source", Some(b"curl")),
            pair("none", None),
            pair("raw", Some(&[0xff, 0])),
            pair("empty", Some(b"")),
        ]
    );
    assert_eq!(
        headers[1],
        [
            pair("a", Some(b"1")),
            pair("b", None),
            pair("a", Some(&[1, 2, 3])),
            pair("a", Some("é\n".as_bytes())),
            pair("", Some(b"")),
        ]
    );
    assert_eq!(headers[2], [pair("a", Some(b"1")), pair("a", Some(b"2"))]);
    assert!(headers[3..].iter().all(Vec::is_empty), "{headers:?}");
    assert_eq!(headers.len(), 7);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_and_values_are_read_in_the_format_asked_for() {
    type Content = Option<&'static [u8]>;
    let (topic, url) = fresh("formats", 1, &[]).await;
    let cases: &[(&str, &str, Content, Content)] = &[
        (
            "",
            r#"{"key":"c-17","value":"v"}"#,
            Some(b"c-17"),
            Some(b"\"v\""),
        ),
        ("", r#"{"key":"","value":1}"#, Some(b""), Some(b"1")),
        (
            "",
            r#"{"key":"\u00e9","value":1}"#,
            Some("é".as_bytes()),
            Some(b"1"),
        ),
        ("", r#"{"key":17,"value":1}"#, Some(b"17"), Some(b"1")),
        ("", r#"{"key":false,"value":1}"#, Some(b"false"), Some(b"1")),
        (
            "",
            r#"{"key":{"a": 1.50},"value":1}"#,
            Some(b"{\"a\": 1.50}"),
            Some(b"1"),
        ),
        ("", r#"{"key":null,"value":1}"#, None, Some(b"1")),
        (
            "?key_format=auto&value_format=auto",
            r#"{"key":"k","value":"v"}"#,
            Some(b"k"),
            Some(b"\"v\""),
        ),
        (
            "?key_format=json",
            r#"{"key":"k","value":1}"#,
            Some(b"\"k\""),
            Some(b"1"),
        ),
        (
            "?value_format=json",
            r#"{"value":"v"}"#,
            None,
            Some(b"\"v\""),
        ),
        (
            "?key_format=string&value_format=string",
            r#"{"key":"k\n","value":"{\"a\":1}"}"#,
            Some(b"k\n"),
            Some(b"{\"a\":1}"),
        ),
        (
            "?key_format=binary&value_format=binary",
            r#"{"key":"AP8=","value":"/////w=="}"#,
            Some(&[0, 255]),
            Some(&[255; 4]),
        ),
    ];

    for (query, body, _, _) in cases {
        written(&format!("{url}{query}"), body).await;
    }

    let records = in_kafka(&topic).await;
    for ((query, body, key, value), record) in cases.iter().zip(&records) {
        assert_eq!(record.key.as_deref(), *key, "{query} {body}");
        assert_eq!(record.value.as_deref(), *value, "{query} {body}");
    }
    assert_eq!(records.len(), cases.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn partition_and_timestamp_are_the_clients_where_it_gives_them() {
    let (topic, url) = fresh("placed", 4, &[]).await;

    let answer = written(
        &url,
        r#"[
            {"key":"k","value":1,"partition":3,"timestamp":1700000000123},
            {"key":"k","value":2,"partition":0,"timestamp":"2023-11-14T22:13:20.123Z"},
            {"key":"k","value":3,"partition":0,"timestamp":1},
            {"key":"k","value":4,"partition":null,"timestamp":null}
        ]"#,
    )
    .await;

    assert_eq!(answer[0]["partition"], 3);
    assert_eq!(answer[0]["timestamp"], 1_700_000_000_123_i64);
    assert_eq!(answer[1]["partition"], 0);
    assert_eq!(answer[1]["timestamp"], 1_700_000_000_123_i64);
    assert_eq!(answer[2]["timestamp"], 1);
    let records = in_kafka(&topic).await;
    let at = |n: usize| {
        let (partition, offset) = (&answer[n]["partition"], &answer[n]["offset"]);
        records
            .iter()
            .find(|r| *partition == r.partition && *offset == r.offset)
            .unwrap()
    };
    assert_eq!(at(0).timestamp, Some(1_700_000_000_123));
    assert_eq!(at(1).timestamp, Some(1_700_000_000_123));
    assert_eq!(at(2).timestamp, Some(1));
    assert_eq!(at(3).timestamp, answer[3]["timestamp"].as_i64());
    assert_eq!(records.len(), 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_goes_to_the_partition_that_a_java_client_would_choose() {
    const PARTITIONS: i32 = 12;
    let (topic, url) = fresh("murmur2", PARTITIONS, &[]).await;
    let plain = kafka().await.plain();
    // Key and Java's murmur2 hash of it.
    let known = [
        ("21", -973_932_308_i32),
        ("foobar", -790_332_482),
        ("a-little-bit-long-string", -985_981_536),
        ("a-little-bit-longer-string", -1_486_304_829),
        (
            "lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8",
            -58_897_971,
        ),
        ("abc", 479_470_107),
    ];

    for (key, hash) in known {
        let body = json!({"key": key, "value": 1}).to_string();
        let expected = (hash & i32::MAX) % PARTITIONS;
        assert_eq!(written(&url, &body).await["partition"], expected, "{key}");
    }
    // The same by a client of another make.
    for n in 0..20 {
        let key = format!("customer-{n}");
        let body = json!({"key": key, "value": 1}).to_string();
        let ours = written(&url, &body).await;
        let (theirs, _) = plain
            .produce(OutgoingRecord {
                topic: &topic,
                key: Some(key.as_bytes()),
                ..OutgoingRecord::default()
            })
            .await;
        assert_eq!(ours["partition"], theirs, "{key}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_that_does_not_exist_is_created_only_where_that_is_set() {
    let kafka = kafka().await;
    let off = topic("not-created");
    let url = shared_gateway()
        .await
        .url(&format!("/topics/{off}/records"));

    let reply = http::post_text(&url, r#"{"value":1}"#).await;
    assert_eq!(reply.status, 404);
    let error = reply.json();
    assert_eq!(error["error_code"], 40401);
    assert_eq!(error["kafka_error"], "UNKNOWN_TOPIC_OR_PARTITION");
    assert_eq!(error["field"], "topic");
    assert_eq!(error["retriable"], false);
    assert!(error["message"].as_str().unwrap().contains(&off), "{error}");
    assert_eq!(kafka.plain().leader(&off, 0).await, None);

    let gateway = Gateway::builder(&kafka.bootstrap())
        .set("kafka.auto_create_topics", "true")
        .set("kafka.metadata_timeout_ms", "30000")
        .start()
        .await;
    let on = topic("created");
    let url = gateway.url(&format!("/topics/{on}/records"));
    // All at once: the topic is created for one, and the others wait for it.
    let replies =
        futures::future::join_all((0..8).map(|_| http::post_text(&url, r#"{"value":1}"#)));
    for reply in replies.await {
        assert_eq!(reply.status, 200, "{}", reply.text());
    }
    assert_eq!(in_kafka(&on).await.len(), 8);
    // Reading creates nothing.
    let unread = topic("read-only");
    let reply = http::get(&gateway.url(&format!("/topics/{unread}/records"))).await;
    assert_eq!(reply.status, 404);
    assert_eq!(kafka.plain().leader(&unread, 0).await, None);
}

fn assert_too_large(error: &Value) {
    assert_eq!(error["error_code"], 413, "{error}");
    assert_eq!(error["kafka_error"], "MESSAGE_TOO_LARGE", "{error}");
    assert_eq!(error["retriable"], false, "{error}");
    assert!(
        error["message"]
            .as_str()
            .unwrap()
            .contains("max.message.bytes"),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_that_the_topic_refuses_is_an_error_in_its_place() {
    let (topic, url) = fresh("small", 2, &[("max.message.bytes", "2000")]).await;
    let large = "x".repeat(5000);

    let reply = http::post_text(&url, &json!({"value": large}).to_string()).await;
    assert_eq!(reply.status, 413);
    assert_too_large(&reply.json());
    assert_eq!(reply.json()["request_id"], reply.header("x-request-id"));

    let body = json!([
        {"value": "a", "partition": 0},
        {"value": large, "partition": 1},
        {"value": "b", "partition": 0},
    ]);
    let reply: Reply = http::post_json(&url, &body).await;
    assert_eq!(reply.status, 200);
    assert_eq!(reply.header("tidegate-failed-records"), "1");
    let answer = reply.json();
    assert_eq!(answer[0]["offset"], 0);
    assert_too_large(&answer[1]);
    assert_eq!(answer[2]["offset"], 1);
    let records = in_kafka(&topic).await;
    let texts: Vec<&str> = records.iter().filter_map(StoredRecord::text).collect();
    assert_eq!(texts, [r#""a""#, r#""b""#]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_brokers_clock_is_answered_where_the_topic_keeps_that() {
    let configs = [("message.timestamp.type", "LogAppendTime")];
    let (topic, url) = fresh("append-time", 1, &configs).await;

    let answer = written(&url, r#"{"value":1,"timestamp":1000}"#).await;

    let timestamp = answer["timestamp"].as_i64();
    assert!(
        timestamp.is_some_and(|ms| ms > 1_700_000_000_000),
        "{answer}"
    );
    assert_eq!(in_kafka(&topic).await[0].timestamp, timestamp);
}
