//! Topics and positions that change or go away, under a stream and between a cut and the return: the
//! client is told, and never gets an error of the gateway's own.

use std::collections::BTreeSet;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;
use tokio::time::timeout;

use super::{PROMPT, Stream, ndjson, place, topic_of, write};
use crate::support::gateway::Gateway;
use crate::support::kafka_client::OutgoingRecord;
use crate::support::{eventually, http, kafka, metric, shared_gateway};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_that_is_deleted_or_grows_under_a_stream() {
    let plain = kafka().await.plain();
    let name = topic_of(&plain, "grows", 1).await;
    let url = shared_gateway()
        .await
        .url(&format!("/topics/{name}/records"));
    let mut stream = Stream::open(&url, None).await;
    stream.named("ready").await;
    plain.add_partitions(&name, 2).await;
    write(&plain, &name, 1, "1").await;
    let record = stream.records(1).await;
    assert_eq!((place(&record[0]).1, place(&record[0]).2), (1, 0));
    plain.delete_topic(&name).await;
    let end = stream.named("end").await;
    assert_eq!(end.json()["reason"], "topic deleted");
    assert_eq!(stream.next().await, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_that_grew_or_went_between_a_cut_and_the_return() {
    let plain = kafka().await.plain();
    let name = topic_of(&plain, "grew", 1).await;
    write(&plain, &name, 0, "0").await;
    let gateway = shared_gateway().await;
    let url = gateway.url(&format!("/topics/{name}/records"));
    let mut stream = Stream::open(&format!("{url}?from=earliest"), None).await;
    let id = stream.records(1).await[0].id.clone();
    drop(stream);
    plain.add_partitions(&name, 3).await;
    // A client that has not seen the topic with one partition.
    let plain = kafka().await.plain();
    for partition in 0..3 {
        write(&plain, &name, partition, "1").await;
    }
    // What the gateway knows of a topic may be some seconds old; the stream notices by itself.
    let mut stream = Stream::open(&url, Some(&id)).await;
    let ready = stream.named("ready").await.json();
    assert_eq!(ready["exact"], true);
    let came: BTreeSet<_> = stream.records(3).await.iter().map(place).collect();
    let wanted =
        [(0, 1), (1, 0), (2, 0)].map(|(partition, offset)| (name.clone(), partition, offset));
    assert_eq!(came, wanted.into());
    let id = stream.parser.resume.clone().unwrap();
    drop(stream);

    plain.delete_topic(&name).await;
    let ask = async |agent: &str| {
        let request = http::client()
            .get(&url)
            .header("accept", "text/event-stream");
        let request = request
            .header("last-event-id", &id)
            .header("user-agent", agent);
        http::send(request).await
    };
    eventually(PROMPT, async || ask("a client").await.status == 404).await;
    // It will not be there later either: an EventSource may stop.
    assert_eq!(ask("Mozilla/5.0 (X11)").await.status, 404);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_created_again_between_a_cut_and_the_return_is_told_as_a_reset() {
    let plain = kafka().await.plain();
    let name = topic_of(&plain, "again", 1).await;
    for n in 0..3 {
        write(&plain, &name, 0, &n.to_string()).await;
    }
    // One gateway has read the old topic and knows it; the other hears of it for the first time.
    let knows = Gateway::start(&kafka().await.bootstrap()).await;
    let path = format!("/topics/{name}/records");
    let mut stream = Stream::open(&format!("{}?from=earliest", knows.url(&path)), None).await;
    let id = stream.records(2).await[1].id.clone();
    drop(stream);
    plain.delete_topic(&name).await;
    eventually(PROMPT, async || plain.leader(&name, 0).await.is_none()).await;
    plain.create_topic(&name, 1, &[]).await;
    // As many records as before, so that the offsets alone say nothing.
    for n in 10..13 {
        write(&plain, &name, 0, &n.to_string()).await;
    }
    let fresh = Gateway::start(&kafka().await.bootstrap()).await;
    for gateway in [&fresh, &knows] {
        let url = format!("{}?from=earliest", gateway.url(&path));
        // At most once it is sent away, by the gateway that has to learn of it.
        let mut id = id.clone();
        let mut stream = Stream::open(&url, Some(&id)).await;
        let mut first = stream.next().await.unwrap();
        if first.name == "ready" {
            let said = stream.named("stream-error").await;
            assert!(said.data.contains("created again"), "{}", said.data);
            assert_eq!(stream.next().await, None);
            id = stream.parser.resume.clone().unwrap();
            stream = Stream::open(&url, Some(&id)).await;
            first = stream.next().await.unwrap();
        }
        assert_eq!(first.name, "reset", "{}", first.data);
        let reason = first.json()["reason"].as_str().unwrap().to_owned();
        assert!(reason.contains("created again"), "{reason}");
        assert_eq!(stream.named("ready").await.json()["exact"], false);
        let values = stream.records(3).await;
        let values: Vec<i64> = values
            .iter()
            .map(|event| event.json()["value"].as_i64().unwrap())
            .collect();
        assert_eq!(values, [10, 11, 12]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_created_again_under_a_stream_sends_it_away_to_come_back() {
    let plain = kafka().await.plain();
    let name = topic_of(&plain, "under", 1).await;
    write(&plain, &name, 0, "0").await;
    let gateway = Gateway::start(&kafka().await.bootstrap()).await;
    let url = gateway.url(&format!("/topics/{name}/records?from=earliest"));
    let mut stream = Stream::open(&url, None).await;
    stream.records(1).await;
    // Under a gateway that does not see the moment between.
    gateway.pause();
    plain.delete_topic(&name).await;
    eventually(PROMPT, async || plain.leader(&name, 0).await.is_none()).await;
    plain.create_topic(&name, 1, &[]).await;
    for n in 1..3 {
        write(&plain, &name, 0, &n.to_string()).await;
    }
    gateway.resume();
    let said = stream.named("stream-error").await;
    assert!(said.data.contains("created again"), "{}", said.data);
    assert_eq!(stream.next().await, None);
    // With the id that it has, it is told that all begins anew.
    let mut stream = Stream::open(&url, stream.parser.resume.as_deref()).await;
    assert_eq!(stream.next().await.unwrap().name, "reset");
    let records = stream.records(2).await;
    assert_eq!(records[0].json()["value"], 1);
}

/// However an id is broken, there is a stream, and it says where it begins.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_id_is_an_error() {
    let plain = kafka().await.plain();
    let name = topic_of(&plain, "ids", 2).await;
    for n in 0..6 {
        write(&plain, &name, n % 2, &n.to_string()).await;
    }
    let gateway = shared_gateway().await;
    let path = format!("/topics/{name}/records");
    let url = gateway.url(&path);
    let mut stream = Stream::open(&format!("{url}?from=earliest"), None).await;
    let id = stream.records(6).await[5].id.clone();
    let bytes = URL_SAFE_NO_PAD.decode(&id).unwrap();
    // What is read with an id: whether there was a reset, and the reason.
    let begins = async |id: &str| -> Option<String> {
        let mut stream = Stream::open(&format!("{url}?from=earliest"), Some(id)).await;
        let first = stream.next().await.unwrap();
        if first.name == "ready" {
            return None;
        }
        assert_eq!(first.name, "reset", "{id}: {}", first.data);
        let ready = stream.next().await.unwrap();
        assert_eq!(
            (ready.name.as_str(), &ready.json()["exact"]),
            ("ready", &json!(false))
        );
        Some(first.json()["reason"].as_str().unwrap().to_owned())
    };
    assert_eq!(begins(&id).await, None);
    for length in 1..id.len() {
        assert!(begins(&id[..length]).await.is_some(), "{length} of {id}");
    }
    let mut resets = 0;
    for at in 0..bytes.len() {
        for bit in [1, 0x80] {
            let mut broken = bytes.clone();
            broken[at] ^= bit;
            resets += u32::from(begins(&URL_SAFE_NO_PAD.encode(broken)).await.is_some());
        }
    }
    assert!(resets > 10, "{resets}");
    for id in [
        "A~B",
        "%00",
        "id: 1",
        &format!("{id}{id}"),
        &format!("{id}="),
    ] {
        assert!(begins(id).await.is_some(), "{id}");
    }
    // Of the future: the last number is the offset of the last partition.
    let mut future = bytes.clone();
    *future.last_mut().unwrap() = 0x7f;
    let reason = begins(&URL_SAFE_NO_PAD.encode(future)).await.unwrap();
    assert!(reason.contains("offset 127 is beyond the end"), "{reason}");
    // Of another cluster, with a topic of the same name.
    let other = Gateway::embedded().start().await;
    http::post_json(&other.url(&path), &json!({"value": 1})).await;
    let mut stream = Stream::open(&format!("{}?from=earliest", other.url(&path)), None).await;
    let foreign = stream.records(1).await[0].id.clone();
    let reason = begins(&foreign).await.unwrap();
    assert!(reason.contains("another cluster"), "{reason}");
    // Lines of NDJSON say the same.
    let query = format!("from=earliest&last_event_id={foreign}&until=end");
    let lines = ndjson(&format!("{url}?{query}")).await;
    assert_eq!(
        (&lines[0]["event"], &lines[1]["event"]),
        (&json!("reset"), &json!("ready"))
    );
    assert_eq!(lines.len(), 9);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_condition_that_cannot_be_read_names_the_column() {
    let plain = kafka().await.plain();
    let name = topic_of(&plain, "where", 1).await;
    let url = shared_gateway()
        .await
        .url(&format!("/topics/{name}/records"));
    for (condition, column) in [
        ("/price>", 8),
        ("price>1", 1),
        ("/a==1;;/b==2", 7),
        ("/a==\"x", 5),
        ("/a=>1", 3),
        ("/ä==1 /b", 7),
    ] {
        for accept in ["text/event-stream", "application/x-ndjson"] {
            let encoded: String = condition.bytes().map(|b| format!("%{b:02X}")).collect();
            let request = http::client().get(format!("{url}?where={encoded}"));
            let reply = http::send(request.header("accept", accept)).await;
            assert_eq!(reply.status, 400, "{condition}");
            assert_eq!(reply.json()["field"], "where");
            let said = reply.json()["message"].as_str().unwrap().to_owned();
            assert!(
                said.contains(&format!("column {column}:")),
                "{condition}: {said}"
            );
        }
    }
}

/// Records that were deleted before a slow reader came to them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn retention_that_overtakes_a_reader_is_a_gap() {
    const COUNT: i64 = 300;
    let plain = kafka().await.plain();
    let name = topic_of(&plain, "overtaken", 1).await;
    let value = format!("\"{}\"", "x".repeat(100_000));
    for _ in 0..COUNT {
        let record = OutgoingRecord {
            topic: &name,
            value: Some(value.as_bytes()),
            ..OutgoingRecord::default()
        };
        plain.produce(record).await;
    }
    let url = shared_gateway()
        .await
        .url(&format!("/topics/{name}/records"));
    let mut stream = Stream::open(&format!("{url}?from=earliest"), None).await;
    stream.named("ready").await;
    // What is on its way to a client that does not read is far less than all of it.
    plain.delete_records(&name, 0, COUNT - 10).await;
    let mut next = 0;
    let mut gap = None;
    while next < COUNT {
        let event = stream.next().await.unwrap();
        match event.name.as_str() {
            "" => {
                assert_eq!(place(&event).2, next);
                next += 1;
            }
            "gap" => {
                let data = event.json();
                assert_eq!(data["reason"], "retention");
                assert_eq!(data["from"], next);
                next = data["to"].as_i64().unwrap();
                assert!(gap.replace(next).is_none(), "one gap");
            }
            other => assert_eq!(other, "lag"),
        }
    }
    assert_eq!(gap, Some(COUNT - 10));
}

/// An end that is not there yet is waited for, and not by asking Kafka all the time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_end_in_the_future_is_waited_for_quietly() {
    let plain = kafka().await.plain();
    let name = topic_of(&plain, "later", 1).await;
    for n in 0..3 {
        write(&plain, &name, 0, &n.to_string()).await;
    }
    let gateway = Gateway::start(&kafka().await.bootstrap()).await;
    let url = gateway.url(&format!("/topics/{name}/records"));
    let mut stream = Stream::open(&format!("{url}?from=earliest&until=0@5"), None).await;
    stream.records(3).await;
    let silent = timeout(Duration::from_secs(3), stream.next()).await;
    assert!(silent.is_err(), "{silent:?}");
    let pages = metric(&gateway, "tail_catchup_pages_total").await;
    assert!(pages < 20.0, "{pages} reads");
    for n in 3..7 {
        write(&plain, &name, 0, &n.to_string()).await;
    }
    let offsets: Vec<i64> = stream
        .records(2)
        .await
        .iter()
        .map(|event| place(event).2)
        .collect();
    assert_eq!(offsets, [3, 4]);
    assert_eq!(stream.named("end").await.json()["reason"], "until");
    assert_eq!(stream.next().await, None);
}

/// Cut off between two gaps, a client comes back to before both.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_several_gaps_only_the_last_one_has_an_id() {
    let plain = kafka().await.plain();
    let name = topic_of(&plain, "gaps", 3).await;
    for n in 0..9 {
        write(&plain, &name, n % 3, &n.to_string()).await;
    }
    for partition in 0..3 {
        plain.delete_records(&name, partition, 2).await;
    }
    let url = shared_gateway()
        .await
        .url(&format!("/topics/{name}/records?from=0@1,1@0,2@2"));
    let mut stream = Stream::open(&url, None).await;
    let ready = stream.next().await.unwrap();
    assert_eq!((ready.name.as_str(), ready.id.as_str()), ("ready", ""));
    assert_eq!(ready.json()["exact"], false);
    let first = stream.next().await.unwrap();
    assert_eq!((first.name.as_str(), first.id.as_str()), ("gap", ""));
    let second = stream.next().await.unwrap();
    assert_eq!(second.name, "gap");
    let told = [&first, &second].map(|gap| {
        let gap = gap.json();
        ["partition", "from", "to"].map(|field| gap[field].as_i64().unwrap())
    });
    assert_eq!(told, [[0, 1, 2], [1, 0, 2]]);
    let mut again = Stream::open(&url, Some(&second.id)).await;
    assert_eq!(again.named("ready").await.json()["exact"], true);
    assert_eq!(again.records(3).await.len(), 3);
}
