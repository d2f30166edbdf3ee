//! Records that are not valid by their topic's schema, over every API: each says so in its own way, and
//! nothing that is not valid is in Kafka. What is valid is there byte for byte.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tokio::sync::OnceCell;

use crate::support::gateway::Gateway;
use crate::support::http::{Reply, client, post_text, send};
use crate::support::ws::{Client, tags};
use crate::support::{kafka, topic};

const ORDER: &str = r#"{
    "type": "object",
    "properties": {"id": {"type": "integer"}, "to": {"$ref": "address.json"}},
    "required": ["id"]
}"#;
const ADDRESS: &str = r#"{"type": "object", "properties": {"street": {"type": "string"}}}"#;

/// One topic for each test.
const TOPICS: [&str; 9] = [
    "one",
    "array",
    "ndjson",
    "raw",
    "v2",
    "stream",
    "batch",
    "ws",
    "letters.dlq",
];

/// A gateway before the shared Kafka, with a schema for the values of some topics.
struct Checked {
    gateway: Gateway,
    topics: BTreeMap<&'static str, String>,
}

async fn checked() -> &'static Checked {
    static SHARED: OnceCell<Checked> = OnceCell::const_new();
    SHARED
        .get_or_init(|| async {
            let kafka = kafka().await;
            let mut builder = Gateway::builder(&kafka.bootstrap())
                .set("kafka.metadata_timeout_ms", "30000")
                .set("schema.folder", "schemas")
                .file("schemas/address.json", ADDRESS);
            let mut topics = BTreeMap::new();
            for name in TOPICS {
                let topic = topic(&format!("schemas-{name}"));
                kafka.plain().create_topic(&topic, 1, &[]).await;
                builder = builder.file(&format!("schemas/{topic}-value.json"), ORDER);
                topics.insert(name, topic);
            }
            builder = builder.file(
                &format!("schemas/{}-key.json", topics["array"]),
                r#"{"type": ["string", "integer"], "maxLength": 3}"#,
            );
            let gateway = builder.start().await;
            Checked { gateway, topics }
        })
        .await
}

impl Checked {
    fn records(&self, name: &str) -> String {
        let topic = &self.topics[name];
        self.gateway.url(&format!("/topics/{topic}/records"))
    }

    async fn post(&self, path: &str, kind: &str, body: &str) -> Reply {
        let request = client().post(self.gateway.url(path));
        send(request.header("content-type", kind).body(body.to_owned())).await
    }

    /// The values in the topic, as a client sees them that knows nothing of the gateway.
    async fn stored(&self, name: &str) -> Vec<Option<String>> {
        let records = kafka().await.plain().consume_all(&self.topics[name]).await;
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        let values = records.into_iter().map(|record| record.value);
        values.map(|value| value.map(text)).collect()
    }
}

fn some(texts: &[&str]) -> Vec<Option<String>> {
    texts.iter().map(|text| Some((*text).to_owned())).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_record_over_the_records_api() {
    let checked = checked().await;
    let url = checked.records("one");

    let reply = post_text(&url, r#"{"value":{"id":1,"to":{"street":5}}}"#).await;
    assert_eq!(reply.status, 422, "{}", reply.text());
    let error = reply.json();
    assert_eq!(error["error_code"], 422);
    assert_eq!(error["field"], "/value/to/street");
    assert_eq!(error["retriable"], false);
    assert_eq!(error.get("records"), None);
    let topic = &checked.topics["one"];
    let message = format!(
        "The value is not valid by {topic}-value.json: at /to/street expected string, found 5."
    );
    assert_eq!(error["message"], message);
    let text = post_text(&url, r#"{"value":"x"}"#).await;
    assert_eq!(text.status, 422);
    assert_eq!(text.json()["field"], "/value");

    // Kept as it is: white space, the order of names, digits that no number in memory has.
    let value = r#"{ "to" : {},"id": 1.0, "n": 1.00000000000000000000001 }"#;
    let valid = post_text(&url, &format!(r#"{{"value":{value}}}"#)).await;
    assert_eq!(valid.status, 200, "{}", valid.text());
    // A deletion.
    let tombstone = post_text(&url, r#"{"key":"k","value":null}"#).await;
    assert_eq!(tombstone.status, 200, "{}", tombstone.text());

    assert_eq!(checked.stored("one").await, [Some(value.to_owned()), None]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_array_tells_of_every_bad_record_and_nothing_of_it_is_written() {
    let checked = checked().await;
    let url = checked.records("array");
    let body = json!([
        {"value": {"id": 1}},
        {"value": {"id": "2"}},
        {"key": "text", "value": {"id": 3}},
        {"value": null},
        {"value": [4]},
    ]);

    let reply = post_text(&url, &body.to_string()).await;

    assert_eq!(reply.status, 422, "{}", reply.text());
    let error = reply.json();
    assert_eq!(error["field"], "/1/value/id");
    let message = error["message"].as_str().unwrap();
    assert!(
        message.starts_with("3 of 5 records are not valid by the topic's schemas, and nothing was written. Record 1 (from 0): The value"),
        "{message}"
    );
    let told: Vec<(&Value, &Value)> = error["records"]
        .as_array()
        .unwrap()
        .iter()
        .map(|record| (&record["index"], &record["field"]))
        .collect();
    assert_eq!(
        told,
        [
            (&json!(1), &json!("/1/value/id")),
            (&json!(2), &json!("/2/key")),
            (&json!(4), &json!("/4/value")),
        ]
    );
    let key = error["records"][1]["message"].as_str().unwrap();
    assert!(key.contains("in quotes"), "{key}");
    assert!(checked.stored("array").await.is_empty());

    let url = format!("{url}?key_format=json");
    let good = r#"[{"key":"abc","value":{"id":1}},{"key":7,"value":{"id":2}},{"value":{"id":3}}]"#;
    let reply = post_text(&url, good).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    let long = post_text(&url, r#"[{"key":"abcd","value":{"id":1}}]"#).await;
    assert_eq!(long.status, 422, "{}", long.text());
    assert_eq!(
        checked.stored("array").await,
        some(&[r#"{"id":1}"#, r#"{"id":2}"#, r#"{"id":3}"#])
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_line_of_ndjson_has_its_error_and_the_others_are_written() {
    let checked = checked().await;
    let path = format!("/topics/{}/records", checked.topics["ndjson"]);
    let lines = "{\"value\":{\"id\":1}}\n{\"value\":{}}\n{\"value\":{\"id\":3}}\n";

    let reply = checked.post(&path, "application/x-ndjson", lines).await;

    assert_eq!(reply.status, 200, "{}", reply.text());
    let results: Vec<Value> = reply
        .text()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(results.len(), 3, "{results:?}");
    assert_eq!(results[0]["offset"], 0);
    assert_eq!(results[1]["error_code"], 422, "{}", results[1]);
    assert_eq!(results[1]["line"], 2);
    assert_eq!(results[1]["field"], "/value");
    assert_eq!(results[2]["offset"], 1);
    assert_eq!(
        checked.stored("ndjson").await,
        some(&[r#"{"id":1}"#, r#"{"id":3}"#])
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_raw_value_must_be_json_that_is_valid() {
    let checked = checked().await;
    let path = format!("/topics/{}/records", checked.topics["raw"]);

    for (body, field) in [
        ("hello", Value::Null),
        ("", Value::Null),
        (r#"{"id":1,"id":2}"#, Value::Null),
        (r#"{"id":"1"}"#, json!("/id")),
    ] {
        let reply = checked.post(&path, "application/octet-stream", body).await;
        assert_eq!(reply.status, 422, "{body}: {}", reply.text());
        assert_eq!(reply.json()["field"], field, "{body}");
    }
    let good = "{\"id\":\n1}";
    let reply = checked.post(&path, "text/plain", good).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert_eq!(checked.stored("raw").await, some(&[good]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn v2_refuses_the_whole_request_as_for_a_value_that_is_not_of_its_format() {
    let checked = checked().await;
    let path = format!("/topics/{}", checked.topics["v2"]);
    let json = "application/vnd.kafka.json.v2+json";
    let body = json!({"records": [{"value": {"id": 1}}, {"value": {"id": true}}, {"value": 3}]});

    let reply = checked.post(&path, json, &body.to_string()).await;

    assert_eq!(reply.status, 400, "{}", reply.text());
    let error = reply.json();
    assert_eq!(error["error_code"], 400);
    assert_eq!(error["field"], "/records/1/value/id");
    assert_eq!(error["records"][1]["field"], "/records/2/value");
    let message = error["message"].as_str().unwrap();
    assert!(
        message.starts_with("Bad Request: 2 of 3 records are not valid"),
        "{message}"
    );
    // Base64 of `hello` and of `{"id":7}`.
    let binary = "application/vnd.kafka.binary.v2+json";
    let to_partition = format!("{path}/partitions/0");
    let bad = r#"{"records":[{"value":"aGVsbG8="}]}"#;
    let reply = checked.post(&to_partition, binary, bad).await;
    assert_eq!(reply.status, 400, "{}", reply.text());
    let good = r#"{"records":[{"value":"eyJpZCI6N30="},{"value":null}]}"#;
    let reply = checked.post(&to_partition, binary, good).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    // What Kafka would refuse stays an entry of its own.
    let body = r#"{"records":[{"value":{"id":8}},{"value":{"id":9},"partition":5}]}"#;
    let reply = checked.post(&path, json, body).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert_eq!(reply.json()["offsets"][1]["error_code"], 50003);

    let stored = checked.stored("v2").await;
    assert_eq!(
        stored,
        [
            Some(r#"{"id":7}"#.to_owned()),
            None,
            Some(r#"{"id":8}"#.to_owned())
        ]
    );
}

async fn v3(checked: &Checked, name: &str, end: &str, body: &str) -> Reply {
    let cluster = kafka().await.plain().cluster_id().await;
    let topic = &checked.topics[name];
    let path = format!("/v3/clusters/{cluster}/topics/{topic}/{end}");
    checked.post(&path, "application/json", body).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn v3_answers_400_to_the_record_and_goes_on_with_the_stream() {
    let checked = checked().await;
    let value = |data: Value| json!({"value": {"type": "JSON", "data": data}}).to_string();
    let body = [
        value(json!({"id": 1})),
        value(json!({"id": null})),
        value(json!({"id": 3})),
    ];

    let reply = v3(checked, "stream", "records", &body.concat()).await;

    assert_eq!(reply.status, 200, "{}", reply.text());
    let results: Vec<Value> = reply
        .text()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let codes: Vec<&Value> = results.iter().map(|result| &result["error_code"]).collect();
    assert_eq!(codes, [200, 400, 200], "{results:?}");
    let message = results[1]["message"].as_str().unwrap();
    assert!(
        message.starts_with("Bad Request: The value is not valid by "),
        "{message}"
    );
    assert!(
        message.ends_with("at /id expected integer, found null."),
        "{message}"
    );
    assert_eq!(
        checked.stored("stream").await,
        some(&[r#"{"id":1}"#, r#"{"id":3}"#])
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn v3_has_the_bad_entries_of_a_batch_among_the_failures() {
    let checked = checked().await;
    let entry = |id: &str, kind: &str, data: Value| json!({"id": id, "value": {"type": kind, "data": data}});
    let body = json!({"entries": [
        entry("a", "STRING", json!("{\"id\":1}")),
        entry("b", "STRING", json!("no JSON")),
        entry("c", "JSON", json!({})),
        entry("d", "BINARY", json!("eyJpZCI6N30=")),
    ]});

    let reply = v3(checked, "batch", "records:batch", &body.to_string()).await;

    assert_eq!(reply.status, 207, "{}", reply.text());
    let ids = |list: &str| -> Vec<Value> {
        let reply = reply.json();
        let entries = reply[list].as_array().unwrap().iter();
        entries.map(|entry| entry["id"].clone()).collect()
    };
    assert_eq!(ids("successes"), ["a", "d"]);
    assert_eq!(ids("failures"), ["b", "c"]);
    for failure in reply.json()["failures"].as_array().unwrap() {
        assert_eq!(failure["error_code"], 400, "{failure}");
    }
    assert_eq!(
        checked.stored("batch").await,
        some(&[r#"{"id":1}"#, r#"{"id":7}"#])
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_is_told_of_each_bad_record_of_a_frame_and_the_others_are_written() {
    let checked = checked().await;
    let mut client = Client::welcomed(&checked.gateway).await;

    let answer = client
        .ask(
            json!({"type": "produce", "id": 1, "topic": checked.topics["ws"], "records": [
                {"value": {"id": 1}},
                {"value": {"id": "2"}},
                {"value": "!"},
                {"value": {"id": 4}},
                {"value": [5]},
            ]}),
        )
        .await;

    assert_eq!(answer["type"], "produced", "{answer}");
    let results = answer["results"].as_array().unwrap();
    let error = |at: usize| &results[at]["error"];
    assert_eq!(results[0]["offset"], 0);
    assert_eq!(error(1)["code"], "invalid_record", "{answer}");
    assert_eq!(error(1)["field"], "/records/1/value/id");
    assert_eq!(error(1)["retriable"], false);
    assert_eq!(error(2)["field"], "/records/2/value", "{answer}");
    assert_eq!(results[3]["offset"], 1);
    assert_eq!(error(4)["field"], "/records/4/value");
    assert_eq!(
        checked.stored("ws").await,
        some(&[r#"{"id":1}"#, r#"{"id":4}"#])
    );
}

/// A dead letter is what its record was, whatever the topic of dead letters asks of what clients write.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_letter_is_not_checked() {
    let checked = checked().await;
    let letters = checked.topics["letters.dlq"].clone();
    let (source, plain) = (topic("schemas-unchecked"), kafka().await.plain());
    plain.create_topic(&source, 1, &[]).await;
    let url = checked.gateway.url(&format!("/topics/{source}/records"));
    let written = post_text(&url, r#"{"value":"not an order"}"#).await;
    assert_eq!(written.status, 200, "{}", written.text());
    let mut client = Client::welcomed(&checked.gateway).await;
    let options = json!({"offset_reset": "earliest", "dlq": letters});
    client.subscribe(&source, &source, options).await;
    let records = client.records(1).await;
    let nack = json!({
        "type": "nack", "sub": "o", "id": 1, "tags": tags(&records), "dead_letter": true,
    });
    let answer = client.ask(nack).await;
    assert_eq!(answer["type"], "acked", "{answer}");
    client.bye().await;
    assert_eq!(
        checked.stored("letters.dlq").await,
        some(&[r#""not an order""#])
    );
}
