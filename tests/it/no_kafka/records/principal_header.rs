//! `kafka.principal_header`: every record that the gateway writes says who wrote it, and no client can
//! say so itself.

use reqwest::RequestBuilder;
use serde_json::{Value, json};

use crate::support::gateway::{Builder, Gateway};
use crate::support::http::{Reply, client, post_json, send};
use crate::support::tokens::token;
use crate::support::ws::{self, at};

const V2_JSON: &str = "application/vnd.kafka.json.v2+json";
const ANN: &str = r#"{"known_by":"token","issuer":"https://issuer.test","principal":"ann"}"#;

fn naming(gateway: Builder) -> Builder {
    gateway.set("kafka.principal_header", "written-by")
}

/// A gateway and a token of Ann's.
async fn gateway() -> (Gateway, String) {
    let gateway = naming(Gateway::embedded().with_tokens()).start().await;
    (gateway, token("ann", "produce:* consume:*"))
}

fn post(gateway: &Gateway, path: &str, kind: &str, body: impl ToString) -> RequestBuilder {
    client()
        .post(gateway.url(path))
        .bearer_auth(token("ann", "produce:* consume:*"))
        .header("content-type", kind)
        .body(body.to_string())
}

async fn written(request: RequestBuilder) -> Reply {
    let reply = send(request).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    reply
}

async fn session(gateway: &Gateway, token: &str) -> ws::Client {
    let mut session = at(gateway, "/ws").token(token).connect().await;
    session.until("welcome").await;
    session
}

/// The headers of all records of `orders`, by their values.
async fn headers(gateway: &Gateway, token: &str) -> Vec<(Value, Value)> {
    let url = gateway.url("/topics/orders/records?from=earliest");
    let page = written(client().get(url).bearer_auth(token)).await.json();
    let records = page["records"].as_array().unwrap();
    records
        .iter()
        .map(|record| (record["value"].clone(), record["headers"].clone()))
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_way_of_writing_says_who_wrote() {
    let (gateway, ann) = gateway().await;
    let to = "/topics/orders/records";
    let own = json!({"trace": "1"});
    let record = |value: &str| json!({"value": value, "headers": own, "partition": 0});
    let json = "application/json";
    written(post(&gateway, to, json, record("one"))).await;
    written(post(&gateway, to, json, json!([record("array")]))).await;
    let ndjson = "application/x-ndjson";
    written(post(&gateway, to, ndjson, record("ndjson"))).await;
    let raw = post(
        &gateway,
        "/topics/orders/records?partition=0",
        "text/plain",
        "\"raw\"",
    );
    written(raw.header("kafka-header-trace", "1")).await;
    let v2 = |value: &str| json!({"records": [record(value)]});
    written(post(&gateway, "/topics/orders", V2_JSON, v2("v2"))).await;
    let partition = "/topics/orders/partitions/0";
    written(post(&gateway, partition, V2_JSON, v2("v2-partition"))).await;
    let mut session = session(&gateway, &ann).await;
    let produced = session
        .ask(json!({
            "type": "produce", "id": 1, "topic": "orders",
            "records": [{"value": "ws", "headers": [["trace", "1"]], "partition": 0}],
        }))
        .await;
    assert_eq!(produced["type"], "produced", "{produced}");
    session.bye().await;

    let all = headers(&gateway, &ann).await;
    let values: Vec<&Value> = all.iter().map(|(value, _)| value).collect();
    assert_eq!(
        values,
        ["one", "array", "ndjson", "raw", "v2", "v2-partition", "ws"]
    );
    for (value, headers) in &all {
        assert_eq!(
            *headers,
            json!([["trace", "1"], ["written-by", ANN]]),
            "{value}"
        );
    }
}

fn assert_forged(error: &Value, field: &str) {
    assert_eq!(error["field"], field, "{error}");
    let message = error["message"].as_str().unwrap();
    assert!(message.contains("kafka.principal_header"), "{message}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_way_of_writing_lets_a_client_say_so() {
    let (gateway, ann) = gateway().await;
    let mut session = session(&gateway, &ann).await;
    let to = "/topics/orders/records";
    let good = json!({"value": "good", "partition": 0});
    let mut of_others = 0;
    for name in ["written-by", "Written-By", "original-written-by"] {
        let forged = json!({"value": "forged", "partition": 0, "headers": [[name, ANN]]});
        // Of one request nothing is written.
        let one = send(post(&gateway, to, "application/json", &forged)).await;
        assert_eq!(one.status, 422, "{}", one.text());
        assert_forged(&one.json(), "/headers");
        let two = json!([good, forged]);
        let two = send(post(&gateway, to, "application/json", two)).await;
        assert_eq!(two.status, 422, "{}", two.text());
        assert_forged(&two.json(), "/1/headers");
        let raw = post(&gateway, to, "text/plain", "forged");
        let raw = send(raw.header(format!("kafka-header-{name}"), ANN)).await;
        assert_eq!(raw.status, 422, "{}", raw.text());
        assert_forged(&raw.json(), "/headers");

        // Where each record has a result of its own, the others are written.
        let lines = format!("{good}\n{forged}\n{good}\n");
        let lines = written(post(&gateway, to, "application/x-ndjson", lines)).await;
        let lines: Vec<Value> = lines
            .text()
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert!(lines[0]["offset"].is_i64() && lines[2]["offset"].is_i64());
        assert_eq!(
            (&lines[1]["line"], &lines[1]["error_code"]),
            (&2.into(), &422.into())
        );
        assert_forged(&lines[1], "/headers");
        let records = json!({"records": [good, forged]});
        for path in ["/topics/orders", "/topics/orders/partitions/0"] {
            let reply = written(post(&gateway, path, V2_JSON, &records))
                .await
                .json();
            let (first, second) = (&reply["offsets"][0], &reply["offsets"][1]);
            assert_eq!(first["error_code"], Value::Null, "{reply}");
            assert_eq!(second["error_code"], 50002, "{reply}");
            let error = second["error"].as_str().unwrap();
            assert!(
                error.starts_with("headers: ") && error.contains(name),
                "{error}"
            );
        }
        // The first is none at all, so that places differ from those in the batch that is handed on.
        let produced = session
            .ask(json!({
                "type": "produce", "id": name, "topic": "orders",
                "records": [{"value": 1, "partition": -1}, good, forged],
            }))
            .await;
        let results = &produced["results"];
        assert_eq!(
            results[0]["error"]["field"], "/records/0/partition",
            "{produced}"
        );
        assert!(results[1]["offset"].is_i64(), "{produced}");
        assert_eq!(results[2]["error"]["code"], "invalid_record", "{produced}");
        assert_forged(&results[2]["error"], "/records/2/headers");
        of_others += 5;
    }
    session.bye().await;
    let all = headers(&gateway, &ann).await;
    assert_eq!(all.len(), of_others);
    for (value, headers) in all {
        assert_eq!(
            (value, headers),
            ("good".into(), json!([["written-by", ANN]]))
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_authentication_it_says_so_and_unasked_it_is_not_there() {
    let gateway = naming(Gateway::embedded()).start().await;
    let url = gateway.url("/topics/orders/records");
    let one = json!({"value": 1});
    assert_eq!(post_json(&url, &one).await.status, 200);
    let anonymous = r#"{"known_by":"anonymous","issuer":"","principal":"anonymous"}"#;
    let records = headers(&gateway, "").await;
    assert_eq!(records, [(1.into(), json!([["written-by", anonymous]]))]);
    let forged = json!({"value": 1, "headers": {"written-by": "x"}});
    assert_eq!(post_json(&url, &forged).await.status, 422);

    let gateway = Gateway::embedded().start().await;
    let url = gateway.url("/topics/orders/records");
    assert_eq!(post_json(&url, &forged).await.status, 200);
    let records = headers(&gateway, "").await;
    assert_eq!(records, [(1.into(), json!([["written-by", "x"]]))]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_that_no_header_should_have_is_an_error_at_start() {
    let long = "x".repeat(65);
    for name in [
        "written by",
        "written\tby",
        &long,
        "error",
        "Original-Topic",
    ] {
        let ended = Gateway::embedded()
            .set("kafka.principal_header", name)
            .try_start()
            .await
            .err()
            .unwrap_or_else(|| panic!("{name:?}"));
        assert_eq!(ended.status.code(), Some(2), "{name:?}: {}", ended.stderr);
        let says = ended.stderr.contains("kafka.principal_header");
        assert!(says, "{name:?}: {}", ended.stderr);
    }
}
