//! What a request for records may ask for beyond one whole topic: several topics as a page, parts of
//! them, one key, an end that has not come yet, and ids that are good in another cluster.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::streams::{Stream, ndjson, place, topic_of, write};
use crate::support::broker::Broker;
use crate::support::gateway::Gateway;
use crate::support::groups;
use crate::support::http::{get, post_json};
use crate::support::kafka_client::OutgoingRecord;
use crate::support::{kafka, shared_gateway, topic};

fn now_ms() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    i64::try_from(now.as_millis()).unwrap()
}

/// The places of a page's records, and its `next`.
async fn page(gateway: &Gateway, query: &str) -> (Vec<(String, i64, i64)>, String) {
    let reply = get(&gateway.url(&format!("/records?{query}"))).await;
    assert_eq!(reply.status, 200, "{query}: {}", reply.text());
    assert_eq!(reply.header("content-type"), "application/json");
    let page = reply.json();
    let place = |record: &Value| {
        (
            record["topic"].as_str().unwrap().to_owned(),
            record["partition"].as_i64().unwrap(),
            record["offset"].as_i64().unwrap(),
        )
    };
    let records = page["records"].as_array().unwrap().iter().map(place);
    let next = page["next"].as_str().unwrap().to_owned();
    (records.collect(), next)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_of_several_topics_have_every_record_once() {
    let (plain, gateway) = (kafka().await.plain(), shared_gateway().await);
    let long = topic_of(&plain, "long", 2).await;
    let short = topic_of(&plain, "short", 1).await;
    let empty = topic_of(&plain, "empty", 1).await;
    let mut expected = BTreeSet::new();
    for n in 0..40 {
        let offset = write(&plain, &long, n % 2, "1").await;
        expected.insert((long.clone(), i64::from(n % 2), offset));
    }
    for _ in 0..5 {
        let offset = write(&plain, &short, 0, "2").await;
        expected.insert((short.clone(), 0, offset));
    }
    let topics = format!("topics={long},{short},{empty}");
    let (first, mut next) = page(gateway, &format!("{topics}&from=earliest&limit=8")).await;
    assert_eq!(first.len(), 8);
    let of = |records: &[(String, i64, i64)], name: &str| {
        records.iter().filter(|(topic, ..)| topic == name).count()
    };
    assert_eq!(
        (of(&first, &long), of(&first, &short)),
        (4, 4),
        "each has its share"
    );
    let mut seen: Vec<_> = first;
    for limit in [1, 7, 100, 1] {
        let (records, more) = page(gateway, &format!("{topics}&from={next}&limit={limit}")).await;
        assert_eq!(records.len(), limit.min(45 - seen.len()));
        seen.extend(records);
        next = more;
    }
    assert_eq!(seen.len(), 45, "none of them twice");
    assert_eq!(seen.into_iter().collect::<BTreeSet<_>>(), expected);
    // Whichever has the first record ends the wait.
    let waiting = format!("{topics}&from={next}&wait=25000");
    let (waited, ()) = tokio::join!(page(gateway, &waiting), async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        write(&plain, &empty, 0, "3").await;
    });
    assert_eq!(waited.0, [(empty.clone(), 0, 0)]);
    let (latest, _) = page(gateway, &topics).await;
    assert_eq!(latest, []);
    let (last, _) = page(gateway, &format!("{topics}&from=-1")).await;
    assert_eq!(last.len(), 4, "one of each partition");
    let filtered = format!("{topics}&from=earliest&where=/==2&limit=3");
    assert_eq!(
        get(&gateway.url(&format!("/records?{filtered}")))
            .await
            .status,
        200
    );
    for (query, field) in [
        (format!("{topics}&from=0@1"), "from"),
        (format!("{topics}&timeout=1"), "timeout"),
        (format!("{topics}&where=x"), "where"),
        (format!("{topics}&limit=0"), "limit"),
    ] {
        let reply = get(&gateway.url(&format!("/records?{query}"))).await;
        assert_eq!(
            (reply.status, &reply.json()["field"]),
            (reqwest::StatusCode::BAD_REQUEST, &json!(field)),
            "{query}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_the_parts_that_are_named_are_read_of_several_topics() {
    let (plain, gateway) = (kafka().await.plain(), shared_gateway().await);
    let (orders, users) = (
        topic_of(&plain, "po", 4).await,
        topic_of(&plain, "pu", 2).await,
    );
    for partition in 0..4 {
        write(&plain, &orders, partition, "1").await;
    }
    for partition in 0..2 {
        write(&plain, &users, partition, "1").await;
    }
    let parts = format!("{orders}:0,{orders}:2-3,{users}:1");
    let query = format!("topics={orders},{users}&from=earliest&partitions={parts}");
    let expected: BTreeSet<_> = [(&orders, 0), (&orders, 2), (&orders, 3), (&users, 1)]
        .map(|(name, partition)| (name.clone(), partition, 0))
        .into();
    let (records, _) = page(gateway, &query).await;
    assert_eq!(records.into_iter().collect::<BTreeSet<_>>(), expected);
    let url = gateway.url(&format!("/records?{query}&until=end"));
    let mut stream = Stream::open(&url, None).await;
    let ready = stream.named("ready").await.json();
    assert_eq!(ready["from"][&orders], json!({"0": 0, "2": 0, "3": 0}));
    assert_eq!(ready["from"][&users], json!({"1": 0}));
    let records = stream.records(4).await;
    assert_eq!(records.iter().map(place).collect::<BTreeSet<_>>(), expected);
    // One that is not named is read whole.
    let query = format!("topics={orders},{users}&from=earliest&partitions={orders}:1");
    let (records, _) = page(gateway, &query).await;
    assert_eq!(records.len(), 3);
    let both = format!("topics={orders},{users}");
    for (parts, status) in [("0", 400), ("other:0", 400), (&*format!("{users}:2"), 404)] {
        for accept in ["application/json", "text/event-stream"] {
            let url = gateway.url(&format!("/records?{both}&partitions={parts}"));
            let request = crate::support::http::client()
                .get(url)
                .header("accept", accept);
            let reply = crate::support::http::send(request).await;
            assert_eq!(reply.status, status, "{parts}: {}", reply.text());
            assert_eq!(reply.json()["field"], "partitions", "{parts}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_may_end_at_a_time_that_has_not_come() {
    let (plain, gateway) = (kafka().await.plain(), shared_gateway().await);
    let name = topic_of(&plain, "ahead", 2).await;
    // Until then the stream must be there, and all of it be written.
    let end = now_ms() + 15_000;
    let stamped = async |partition: i32, timestamp: i64| {
        let record = OutgoingRecord {
            topic: &name,
            partition: Some(partition),
            value: Some(b"1"),
            timestamp: Some(timestamp),
            ..OutgoingRecord::default()
        };
        plain.produce(record).await.1
    };
    stamped(0, end - 16_000).await;
    let url = gateway.url(&format!("/topics/{name}/records?from=earliest&until={end}"));
    let mut stream = Stream::open(&url, None).await;
    stream.named("ready").await;
    stamped(0, end - 1).await;
    // The end of its partition, and what comes after it.
    stamped(0, end).await;
    stamped(0, end - 1).await;
    stamped(1, end - 1).await;
    let places: BTreeSet<_> = stream
        .records(3)
        .await
        .iter()
        .map(|event| {
            let (_, partition, offset) = place(event);
            (partition, offset)
        })
        .collect();
    assert_eq!(places, [(0, 0), (0, 1), (1, 0)].into());
    let last = stream.next().await.unwrap();
    assert_eq!(
        (&*last.name, &last.json()["reason"]),
        ("end", &json!("until")),
        "{last:?}"
    );
    assert!(now_ms() >= end, "partition 1 could have gone on");
    assert!(last.id.ends_with('~'));
    // The same once it has passed.
    let lines = ndjson(&url).await;
    assert_eq!(
        lines.iter().filter(|line| line["offset"].is_i64()).count(),
        3
    );
    // Where all ends are known there is nothing to wait for.
    stamped(1, now_ms() + 3_600_000).await;
    stamped(0, now_ms() + 3_600_000).await;
    let soon = now_ms() + 1_800_000;
    let url = gateway.url(&format!(
        "/topics/{name}/records?from=earliest&until={soon}"
    ));
    let lines = ndjson(&url).await;
    let offsets = lines.iter().filter(|line| line["offset"].is_i64()).count();
    assert_eq!(
        (offsets, &lines.last().unwrap()["event"]),
        (5, &json!("end"))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_key_is_read_from_its_partition_where_that_is_declared() {
    let plain = kafka().await.plain();
    let settings = "[[streams.keyed_topics]]\ntopic = \"java-*\"\n\
                    [[streams.keyed_topics]]\ntopic = \"crc-*\"\npartitioner = \"crc32\"\n";
    let gateway = Gateway::builder(&kafka().await.bootstrap())
        .file("tidegate.toml", settings)
        .start()
        .await;
    // The gateway's producer has Java's partitioner, unless it is told otherwise.
    let other = Gateway::builder(&kafka().await.bootstrap())
        .set("kafka.producer.partitioner", "consistent_random")
        .start()
        .await;
    let java = topic_of(&plain, "java", 7).await;
    let crc = topic_of(&plain, "crc", 7).await;
    let none = topic_of(&plain, "none", 7).await;
    let keys: Vec<String> = (0..20)
        .map(|n| format!("key-{n}-{}", "x".repeat(n)))
        .collect();
    for key in &keys {
        for (gateway, name) in [(&gateway, &java), (&gateway, &none), (&other, &crc)] {
            let url = gateway.url(&format!("/topics/{name}/records"));
            let reply = post_json(&url, &json!({"key": key, "value": key})).await;
            assert_eq!(reply.status, 200);
        }
    }
    for (name, partitions) in [(&java, 1), (&crc, 1), (&none, 7)] {
        for key in &keys {
            let path = format!("/topics/{name}/records?from=earliest&until=end&key={key}");
            let lines = ndjson(&gateway.url(&path)).await;
            let from = lines[0]["data"]["from"][name].as_object().unwrap();
            assert_eq!(from.len(), partitions, "{name}");
            let values: Vec<&Value> = lines.iter().filter_map(|line| line.get("value")).collect();
            assert_eq!(values, [&json!(key)], "{name}");
            let page = get(&gateway.url(&path)).await.json();
            assert_eq!(
                page["records"].as_array().unwrap().len(),
                1,
                "{name}: {page}"
            );
        }
    }
    // The partitions that are asked for are read, whatever the key.
    let path = format!("/topics/{java}/records?from=earliest&until=end&key=key-0-&partitions=0-6");
    let lines = ndjson(&gateway.url(&path)).await;
    assert_eq!(
        lines[0]["data"]["from"][&java].as_object().unwrap().len(),
        7
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ids_with_times_go_on_in_a_mirrored_cluster() {
    let name = topic("mirrored");
    let (here, there) = (kafka().await.plain(), groups::broker().await.plain());
    here.create_topic(&name, 2, &[]).await;
    there.create_topic(&name, 2, &[]).await;
    let base = now_ms() - 60_000;
    let copied = async |plain: &crate::support::kafka_client::KafkaClient, n: i64| {
        let value = n.to_string();
        let record = OutgoingRecord {
            topic: &name,
            partition: Some(i32::try_from(n % 2).unwrap()),
            value: Some(value.as_bytes()),
            timestamp: Some(base + n * 10),
            ..OutgoingRecord::default()
        };
        plain.produce(record).await;
    };
    // The mirror began earlier: its offsets are others.
    for n in -7..20 {
        copied(&there, n).await;
    }
    for n in 0..20 {
        copied(&here, n).await;
    }
    let path = format!("/topics/{name}/records");
    let url = shared_gateway().await.url(&path);
    let mut stream = Stream::open(&format!("{url}?from=earliest&ids=time"), None).await;
    let events = stream.records(10).await;
    let value = |event: &crate::streams::Event| event.json()["value"].as_i64().unwrap();
    let mut seen: BTreeSet<i64> = events.iter().map(value).collect();
    let id = events.last().unwrap().id.clone();
    drop(stream);
    // In the same cluster exactly.
    let mut again = Stream::open(&format!("{url}?ids=time"), Some(&id)).await;
    assert_eq!(again.named("ready").await.json()["exact"], true);
    let rest: Vec<i64> = again.records(10).await.iter().map(value).collect();
    assert!(rest.iter().all(|n| !seen.contains(n)), "{seen:?} {rest:?}");
    // In the other one at the last record of each partition, or at the beginning where there was none.
    let away = groups::gateway().await.url(&path);
    let url = format!("{away}?from=earliest&ids=time&until=end");
    let mut moved = Stream::open(&url, Some(&id)).await;
    let ready = moved.next().await.unwrap();
    assert_eq!(
        (&*ready.name, &ready.json()["exact"]),
        ("ready", &json!(false)),
        "{ready:?}"
    );
    let mut last_id = id;
    while let Some(event) = moved.next().await {
        match &*event.name {
            "" => {
                seen.insert(value(&event));
                last_id = event.id;
            }
            "end" => break,
            other => panic!("{other}: {event:?}"),
        }
    }
    let missing: Vec<i64> = (0..20).filter(|n| !seen.contains(n)).collect();
    assert!(missing.is_empty(), "{missing:?} of {seen:?}");
    // And from there back again: everything has been read, so only the last ones come.
    let back = shared_gateway().await.url(&path);
    let mut back = Stream::open(&format!("{back}?ids=time&until=end"), Some(&last_id)).await;
    let ready = back.named("ready").await.json();
    assert_eq!(ready["backlog"], 2, "{ready}");
    assert_eq!(ready["from"][&name], json!({"0": 9, "1": 9}));
    // One without times is of its own cluster only.
    let url = shared_gateway().await.url(&format!("{path}?from=-1"));
    let mut plain = Stream::open(&url, None).await;
    let id = plain.records(1).await[0].id.clone();
    let mut reset = Stream::open(&away, Some(&id)).await;
    assert!(
        reset.named("reset").await.json()["reason"]
            .to_string()
            .contains("another cluster")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_of_lines_that_shows_nothing_says_how_far_it_is() {
    let (plain, gateway) = (kafka().await.plain(), shared_gateway().await);
    let name = topic_of(&plain, "silent", 1).await;
    for _ in 0..10 {
        write(&plain, &name, 0, "1").await;
    }
    let path = format!("/topics/{name}/records?from=earliest&key=none&heartbeat=5&timeout=14000");
    let lines = ndjson(&gateway.url(&path)).await;
    let names: Vec<&str> = lines
        .iter()
        .filter_map(|line| line["event"].as_str())
        .collect();
    assert_eq!((names[0], names[names.len() - 1]), ("ready", "end"));
    // As a rule one: a busy machine may still be on its way over the records when the first is due.
    let told = &lines[lines
        .iter()
        .rposition(|line| line["event"] == "position")
        .unwrap()];
    let between = &names[1..names.len() - 1];
    assert!(
        between
            .iter()
            .all(|name| ["position", "lag"].contains(name)),
        "{names:?}"
    );
    assert_eq!(told["data"]["from"][&name], json!({"0": 10}));
    let id = told["id"].as_str().unwrap();
    let path = format!("/topics/{name}/records?last_event_id={id}&timeout=10");
    let lines = ndjson(&gateway.url(&path)).await;
    assert_eq!(lines[0]["data"]["from"][&name], json!({"0": 10}));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_cannot_catch_up_says_how_far_behind_it_is() {
    let broker = Broker::start().await;
    let plain = broker.plain();
    let name = topic_of(&plain, "behind", 1).await;
    let gateway = Gateway::builder(&broker.bootstrap())
        .set("streams.ring_bytes", "64 KiB")
        .start()
        .await;
    let base = now_ms();
    let stamped = async |count: i64, time: i64| {
        let value = vec![b'x'; 100_000];
        for n in 0..count {
            let record = OutgoingRecord {
                topic: &name,
                value: Some(&value),
                timestamp: Some(time + n),
                ..OutgoingRecord::default()
            };
            plain.produce(record).await;
        }
    };
    stamped(300, base).await;
    let url = gateway.url(&format!("/topics/{name}/records?meta=none&heartbeat=5"));
    // One reads what is new, so that there is something newest.
    let mut newest = Stream::open(&url, None).await;
    newest.named("ready").await;
    // Where that begins to read after the first one is written, this stream has it from Kafka: not so the
    // second.
    stamped(1, base + 300).await;
    newest.records(1).await;
    stamped(1, base + 1_000_000).await;
    newest.records(1).await;
    let mut behind = Stream::open(&format!("{url}&from=earliest"), None).await;
    behind.records(1).await;
    broker.pause();
    let lag = behind.named("lag").await.json();
    let records = lag["records"].as_i64().unwrap();
    assert!((1..302).contains(&records), "{lag}");
    let last = 301 - records;
    assert_eq!(lag["ms"], 1_000_000 - last, "{lag}");
    broker.resume();
    behind.records(usize::try_from(records).unwrap()).await;
}
