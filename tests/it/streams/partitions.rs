//! Many partitions: where ids stand, how long they get, and where it is too many.

use std::collections::BTreeSet;

use futures::{StreamExt, stream};

use super::{Stream, place, topic_of, write};
use crate::support::broker::Broker;
use crate::support::gateway::Gateway;
use crate::support::kafka_client::KafkaClient;
use crate::support::{http, kafka, shared_gateway};

/// The longest header that common proxies let through.
const HEADER: usize = 8 << 10;

/// One record in each partition.
async fn in_each(plain: &KafkaClient, name: &str, partitions: i32) {
    stream::iter(0..partitions)
        .map(|partition| write(plain, name, partition, "1"))
        .buffered(100)
        .count()
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn up_to_eight_partitions_each_event_has_an_id_and_above_the_last_one_of_those_sent_together()
{
    let plain = kafka().await.plain();
    for (partitions, query, each) in [
        (8, "", true),
        (9, "", false),
        (9, "&ids=every", true),
        (20, "", false),
    ] {
        let name = topic_of(&plain, "many", partitions).await;
        in_each(&plain, &name, partitions).await;
        in_each(&plain, &name, partitions).await;
        let count = usize::try_from(2 * partitions).unwrap();
        let url = shared_gateway()
            .await
            .url(&format!("/topics/{name}/records?from=earliest{query}"));
        let mut stream = Stream::open(&url, None).await;
        let ready = stream.named("ready").await.id;
        let events = stream.records(count).await;
        let ids: BTreeSet<&str> = events
            .iter()
            .map(|event| event.id.as_str())
            .filter(|id| *id != ready)
            .collect();
        if each {
            assert_eq!(ids.len(), count, "{partitions}{query}");
        } else {
            // They are few and small: they come in one page, or in a few where writing went on.
            assert!(ids.len() < count / 2, "{partitions}: {} ids", ids.len());
        }
        let last = &events[count - 1].id;
        assert_ne!(last, &ready);
        // With any of them one goes on exactly after what stood up to there.
        let mut seen: BTreeSet<_> = BTreeSet::new();
        for (at, event) in events.iter().enumerate() {
            seen.insert(place(event));
            let is_own = event.id != ready && (at == 0 || events[at - 1].id != event.id);
            if !is_own || at == count - 1 {
                continue;
            }
            let mut again = Stream::open(&url, Some(&event.id)).await;
            let rest = again.records(count - at - 1).await;
            let rest: BTreeSet<_> = rest.iter().map(place).collect();
            assert!(rest.is_disjoint(&seen));
            assert_eq!(rest.len() + seen.len(), count);
        }
        write(&plain, &name, 0, "2").await;
        let mut again = Stream::open(&url, Some(last)).await;
        assert_eq!(place(&again.records(1).await[0]).2, 2);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: topics with five hundred partitions"]
async fn as_many_partitions_as_an_id_can_hold_and_no_more() {
    // Of its own: so many partitions keep a broker from all else for a while.
    let broker = Broker::start().await;
    let plain = broker.plain();
    let one = topic_of(&plain, "one-more", 1).await;
    let most = topic_of(&plain, "most", 512).await;
    // They have leaders before they are there.
    in_each(&plain, &most, 512).await;
    // One that waits for as long as a busy broker takes to answer for so many.
    let start = async || {
        Gateway::builder(&broker.bootstrap())
            .set("kafka.metadata_timeout_ms", "60000")
            .start()
            .await
    };
    let gateway = start().await;
    let url = gateway.url(&format!("/topics/{most}/records"));
    let mut stream = Stream::open(&url, None).await;
    let ready = stream.named("ready").await;
    assert_eq!(ready.json()["from"][&most].as_object().unwrap().len(), 512);
    in_each(&plain, &most, 512).await;
    stream.records(512).await;
    let id = stream.parser.resume.clone().unwrap();
    assert!(id.len() < HEADER, "{}", id.len());
    in_each(&plain, &most, 512).await;
    let mut again = Stream::open(&url, Some(&id)).await;
    assert_eq!(again.named("ready").await.json()["exact"], true);
    let records = again.records(512).await;
    assert!(records.iter().all(|event| place(event).2 == 2));
    let places: BTreeSet<_> = records.iter().map(place).collect();
    assert_eq!(places.len(), 512);

    let refused = async |path: &str, field: &str| {
        for accept in ["text/event-stream", "application/x-ndjson"] {
            let request = http::client()
                .get(gateway.url(path))
                .header("accept", accept);
            let reply = http::send(request.header("user-agent", "Mozilla/5.0 (X11)")).await;
            assert_eq!(reply.status, 400, "{path}: {}", reply.text());
            let said = reply.json();
            assert_eq!(said["field"], field, "{said}");
            let message = said["message"].as_str().unwrap();
            assert!(
                message.contains("513") && message.contains("512"),
                "{message}"
            );
        }
    };
    refused(&format!("/records?topics={most},{one}"), "topics").await;
    plain.add_partitions(&most, 513).await;
    // A gateway that has not heard of the topic before.
    let fresh = start().await;
    let path = format!("/topics/{most}/records");
    let request = http::client()
        .get(fresh.url(&path))
        .header("accept", "text/event-stream");
    let reply = http::send(request).await;
    assert_eq!(reply.status, 400, "{}", reply.text());
    assert_eq!(reply.json()["field"], "partitions", "{}", reply.text());
    let mut some = Stream::open(
        &format!("{}?partitions=1-512&from=earliest", fresh.url(&path)),
        None,
    )
    .await;
    assert_eq!(some.records(1_533).await.len(), 1_533);
}
