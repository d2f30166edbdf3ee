//! Where streams begin and end, what they say of themselves, and requests for streams that cannot be.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, timeout};

use super::{PROMPT, Stream, ndjson, place, topic_of, write};
use crate::support::gateway::Gateway;
use crate::support::kafka_client::OutgoingRecord;
use crate::support::{http, kafka, shared_gateway};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_says_where_it_begins_and_goes_on_as_records_come() {
    let plain = kafka().await.plain();
    let name = topic_of(&plain, "sse", 2).await;
    write(&plain, &name, 0, r#"{"n":0}"#).await;
    write(&plain, &name, 1, "not\nJSON").await;
    let url = shared_gateway()
        .await
        .url(&format!("/topics/{name}/records"));
    let mut stream = Stream::open(&format!("{url}?from=earliest"), None).await;
    let header = |name: &str| stream.headers()[name].to_str().unwrap().to_owned();
    assert_eq!(header("content-type"), "text/event-stream");
    assert_eq!(header("cache-control"), "no-store, no-transform");
    assert_eq!(header("x-accel-buffering"), "no");
    let ready = stream.next().await.unwrap();
    assert_eq!(ready.name, "ready");
    assert_eq!(ready.json()["asked"], "earliest");
    assert_eq!(ready.json()["exact"], true);
    assert_eq!(ready.json()["backlog"], 2);
    assert_eq!(ready.json()["from"][&name], json!({"0": 0, "1": 0}));
    let retry = stream.parser.retry.unwrap();
    assert!((1_000..=5_000).contains(&retry) && stream.parser.comments == 1);
    let first = stream.records(2).await;
    let values: BTreeSet<String> = first
        .iter()
        .map(|e| e.json()["value"].to_string())
        .collect();
    assert_eq!(
        values,
        [r#""not\nJSON""#.into(), r#"{"n":0}"#.into()].into()
    );
    // The ring takes over.
    for n in 1..50 {
        write(&plain, &name, 0, &format!("{{ \"n\":\n{n} }}")).await;
    }
    let more = stream.records(49).await;
    let offsets: Vec<i64> = more.iter().map(|event| place(event).2).collect();
    assert_eq!(offsets, (1..50).collect::<Vec<i64>>());
    assert_eq!(more[3].json()["value"], json!({"n": 4}));
    // The id of an event is the place after it.
    let mut again = Stream::open(&url, Some(&more[9].id)).await;
    assert_eq!(again.named("ready").await.json()["exact"], true);
    assert_eq!(place(&again.records(1).await[0]).2, 11);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn positions_and_ends_are_what_was_asked_for() {
    let plain = kafka().await.plain();
    let name = topic_of(&plain, "ends", 1).await;
    for n in 0..20 {
        write(&plain, &name, 0, &n.to_string()).await;
    }
    let url = shared_gateway()
        .await
        .url(&format!("/topics/{name}/records"));
    let values = async |query: &str| -> Vec<i64> {
        let lines = ndjson(&format!("{url}?{query}")).await;
        assert_eq!(lines[0]["event"], "ready", "{query}");
        let end = lines.last().unwrap();
        assert_eq!(end["event"], "end", "{query}");
        assert!(end["id"].as_str().unwrap().ends_with('~'));
        lines
            .iter()
            .filter_map(|line| line["value"].as_i64())
            .collect()
    };
    let all = |range: std::ops::Range<i64>| range.collect::<Vec<_>>();
    assert_eq!(values("from=earliest&until=end").await, all(0..20));
    assert_eq!(values("from=-5&until=end").await, all(15..20));
    assert_eq!(values("from=0@7&until=0@9").await, all(7..9));
    assert_eq!(values("from=earliest&limit=3").await, all(0..3));
    assert_eq!(values("from=latest&timeout=300").await, all(0..0));
    assert_eq!(values("from=2020-01-01&until=end").await, all(0..20));
    assert_eq!(values("from=latest&until=end").await, all(0..0));
    assert_eq!(
        values("from=earliest&until=end&partitions=0&fields=/x&on_lag=skip")
            .await
            .len(),
        0,
        "numbers have no fields"
    );
    let bare = http::client()
        .get(format!("{url}?from=earliest&limit=3&meta=none"))
        .header("accept", "application/x-ndjson");
    assert_eq!(http::send(bare).await.text(), "\n0\n1\n2\n");
    // Who comes back after the end is told that there is no more.
    let lines = ndjson(&format!("{url}?from=earliest&limit=3")).await;
    let id = lines.last().unwrap()["id"].as_str().unwrap().to_owned();
    let back = http::client()
        .get(&url)
        .header("accept", "text/event-stream")
        .header("last-event-id", id);
    assert_eq!(http::send(back).await.status, 204);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_records_that_are_wanted_come_and_the_position_moves_all_the_same() {
    let plain = kafka().await.plain();
    let name = topic_of(&plain, "filter", 1).await;
    for n in 0..10 {
        let record = OutgoingRecord {
            topic: &name,
            key: Some(if n % 2 == 0 { b"even" } else { b"odd" }),
            value: Some(&format!(r#"{{"n":{n},"x":"{n}"}}"#).into_bytes()),
            headers: &[("from", Some(if n < 5 { b"a" } else { b"b" }))],
            ..OutgoingRecord::default()
        };
        plain.produce(record).await;
    }
    let url = shared_gateway()
        .await
        .url(&format!("/topics/{name}/records"));
    let values = async |query: &str| -> Vec<Value> {
        let lines = ndjson(&format!("{url}?from=earliest&until=end&{query}")).await;
        let records = lines.into_iter().filter(|line| line["event"].is_null());
        records.map(|line| line["value"].clone()).collect()
    };
    let numbers = async |query: &str| -> Vec<i64> {
        let values = values(query).await;
        values
            .iter()
            .map(|value| value["n"].as_i64().unwrap())
            .collect()
    };
    assert_eq!(numbers("key=odd").await, [1, 3, 5, 7, 9]);
    assert_eq!(numbers("key_prefix=ev&header.from=b").await, [6, 8]);
    assert_eq!(numbers("where=/n>=8").await, [8, 9]);
    assert_eq!(values("where=/n==3&fields=/x").await, [json!({"x": "3"})]);
    // A stream that shows nothing still tells how far it is, as soon as it was asked to.
    let seldom = Gateway::builder(&kafka().await.bootstrap())
        .set("streams.heartbeat_s", "60")
        .start()
        .await;
    let path = format!("/topics/{name}/records?from=earliest&key=none&heartbeat=5");
    let mut silent = Stream::open(&seldom.url(&path), None).await;
    let mut last = silent.named("ready").await.id;
    let begun = Instant::now();
    loop {
        while silent.parser.last_id == last {
            let chunk = timeout(PROMPT, silent.response.chunk()).await.unwrap();
            let events = silent.parser.push(&chunk.unwrap().unwrap());
            assert!(events.iter().all(|event| event.name == "lag"), "{events:?}");
        }
        last.clone_from(&silent.parser.last_id);
        let mut again = Stream::open(&url, Some(&last)).await;
        let ready = again.named("ready").await.json();
        if ready["from"][&name] == json!({"0": 10}) {
            break;
        }
        // It may tell of it while it is still on its way over them.
        assert!(ready["from"][&name]["0"].as_i64() < Some(10), "{ready}");
    }
    assert!(begun.elapsed() < Duration::from_secs(50));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_read_is_named() {
    let plain = kafka().await.plain();
    let name = topic_of(&plain, "bad", 1).await;
    let gateway = shared_gateway().await;
    for (query, field) in [
        ("from=yesterday", "from"),
        ("from=9@1", "from"),
        ("until=later", "until"),
        ("until=x:0@1", "until"),
        ("limit=0", "limit"),
        ("timeout=x", "timeout"),
        ("where=/a%3D1", "where"),
        ("where=/price%3E", "where"),
        ("fields=a", "fields"),
        ("meta=some", "meta"),
        ("on_lag=wait", "on_lag"),
        ("heartbeat=1", "heartbeat"),
        ("retry=0", "retry"),
        ("ids=some", "ids"),
        ("partitions=7", "partition"),
        ("key_format=xml", "key_format"),
        ("form=latest", "form"),
        ("header.a=1&header.a=2", "header.a"),
    ] {
        for accept in ["text/event-stream", "application/x-ndjson"] {
            let url = gateway.url(&format!("/topics/{name}/records?{query}"));
            let reply = http::send(http::client().get(&url).header("accept", accept)).await;
            assert!(
                reply.status == 400 || reply.status == 404,
                "{query}: {}",
                reply.status
            );
            let said = reply.json()["field"]
                .as_str()
                .unwrap_or_default()
                .to_owned();
            assert!(said.starts_with(field), "{query}: {}", reply.text());
        }
    }
    let said = http::send(
        http::client()
            .get(gateway.url(&format!("/topics/{name}/records?where=/price%3E")))
            .header("accept", "text/event-stream"),
    )
    .await;
    assert!(said.text().contains("column 8"), "{}", said.text());
    for (path, status) in [
        ("/records", 400),
        ("/records?topics=,", 400),
        ("/records?topics=no-such-topic-here", 404),
        ("/records?topics=a%20b", 400),
    ] {
        let reply = http::get(&gateway.url(path)).await;
        assert_eq!(reply.status, status, "{path}: {}", reply.text());
    }
}
