//! `[[auth.topic_filters]]`: a record that a filter cannot judge is shown to nobody that the filter is for.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::support::gateway::Gateway;
use crate::support::http::{Reply, client, send};
use crate::support::tokens::{SECRET, token};
use crate::support::ws::at;

const SETTINGS: &str = r#"
[auth]
mode = "jwt"

[[auth.issuers]]
issuer = "https://issuer.test"
audience = "tidegate"
secret_file = "secret"

[[auth.topic_filters]]
topic = "reports"
where = '/class!="secret"'

[[auth.topic_filters]]
topic = "tagged"
header.for = "{sub}"
"#;

async fn gateway() -> Gateway {
    Gateway::embedded()
        .file("secret", SECRET)
        .file("tidegate.toml", SETTINGS)
        .start()
        .await
}

async fn write(gateway: &Gateway, topic: &str, content_type: &str, body: String) {
    let request = client()
        .post(gateway.url(&format!("/topics/{topic}/records")))
        .header("content-type", content_type)
        .bearer_auth(token("root", "admin:*"))
        .body(body);
    let reply = send(request).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
}

async fn read(gateway: &Gateway, path: &str, scope: &str, accept: &str) -> Reply {
    let request = client().get(gateway.url(path)).header("accept", accept);
    send(request.bearer_auth(token("ann", scope))).await
}

fn offsets<'a>(records: impl IntoIterator<Item = &'a Value>) -> BTreeSet<i64> {
    let records = records.into_iter();
    records
        .filter_map(|record| record["offset"].as_i64())
        .collect()
}

/// The offsets that each API shows of a topic, which are the same ones.
async fn shown(gateway: &Gateway, topic: &str, scope: &str, written: i64) -> BTreeSet<i64> {
    let path = format!("/topics/{topic}/records?from=earliest");
    let page = read(gateway, &path, scope, "application/json").await;
    assert_eq!(page.status, 200, "{}", page.text());
    let of_page = offsets(page.json()["records"].as_array().unwrap());

    let path = format!("{path}&until=end");
    let stream = read(gateway, &path, scope, "application/x-ndjson").await;
    assert_eq!(stream.status, 200, "{}", stream.text());
    let lines: Vec<Value> = stream
        .text()
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect();
    assert_eq!(offsets(&lines), of_page, "the stream");

    for offset in 0..written {
        let path = format!("/topics/{topic}/partitions/0/records/{offset}");
        let one = read(gateway, &path, scope, "application/octet-stream").await;
        let expected = match of_page.contains(&offset) {
            true => 200,
            false => 404,
        };
        assert_eq!(one.status, expected, "{path}: {}", one.status);
    }

    // A tail gives the last record first where that is what is shown last.
    let mut tail = at(gateway, &format!("/ws?topics={topic}&from=earliest"))
        .token(&token("ann", scope))
        .connect()
        .await;
    let mut of_tail = BTreeSet::new();
    while of_tail.last() != of_page.last() {
        let frame = tail.until("records").await;
        of_tail.extend(offsets(frame["records"].as_array().unwrap()));
    }
    assert_eq!(of_tail, of_page, "the tail");
    of_page
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_value_that_a_filter_cannot_judge_is_not_shown() {
    let gateway = gateway().await;
    let values = [
        r#"{"class":"open"}"#,
        r#"{"class":"secret"}"#,
        r#"{"title":"no class"}"#,
        "not JSON",
        r#"{"class":"open""#,
        r#"{"class":"secret","class":"open"}"#,
        r#"{"class":"open","class":"secret"}"#,
        r#"{"class":"secret","\u0063lass":"open"}"#,
        r#"{"class":["secret"]}"#,
        r#"{"class":"open","title":1,"title":2}"#,
    ];
    for value in values {
        let octets = "application/octet-stream";
        write(&gateway, "reports", octets, value.to_owned()).await;
    }
    let count = i64::try_from(values.len()).unwrap();
    let seen = shown(&gateway, "reports", "consume:*", count).await;
    assert_eq!(seen, [0, 9].into());
    let seen = shown(&gateway, "reports", "admin:*", count).await;
    assert_eq!(seen, (0..count).collect());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_whose_filter_header_stands_twice_is_shown_to_nobody() {
    let gateway = gateway().await;
    for headers in [
        json!([["for", "ann"]]),
        json!([["for", "bob"], ["for", "ann"]]),
        json!([["for", "ann"], ["for", "ann"]]),
        json!([["other", "ann"]]),
        json!([["for", "ann"], ["other", "1"], ["other", "2"]]),
    ] {
        let record = json!({"value": 1, "headers": headers}).to_string();
        write(&gateway, "tagged", "application/json", record).await;
    }
    let seen = shown(&gateway, "tagged", "consume:*", 5).await;
    assert_eq!(seen, [0, 4].into());
}
