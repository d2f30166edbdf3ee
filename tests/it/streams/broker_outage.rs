//! A broker that is away under open streams: they stay open, miss nothing, and repeat nothing.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::{Stream, place, topic_of, write};
use crate::support::broker::Broker;
use crate::support::gateway::Gateway;
use crate::support::{assert_readable, http, topic};

/// How long it is away.
const AWAY: Duration = Duration::from_secs(30);

#[derive(Clone, Copy)]
enum Outage {
    Killed,
    Frozen,
}

/// Kafka as a whole: killed, and then frozen, so that its connections stay and nothing answers.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: a broker is away for half a minute, twice"]
async fn streams_stay_open_while_the_broker_is_away_and_miss_nothing() {
    let kafka = Broker::start().await;
    let plain = kafka.plain();
    let (one, two) = (
        topic_of(&plain, "away", 2).await,
        topic_of(&plain, "away", 1).await,
    );
    let gateway = Gateway::start(&kafka.bootstrap()).await;
    let url = gateway.url(&format!("/records?topics={one},{two}&heartbeat=5"));
    let only = gateway.url(&format!("/topics/{one}/records?from=earliest&heartbeat=5"));
    let mut streams = vec![
        Stream::open(&format!("{url}&from=earliest"), None).await,
        Stream::open(&url, None).await,
        Stream::open(&only, None).await,
    ];
    for stream in &mut streams {
        stream.named("ready").await;
    }
    let mut round = 0;
    let mut wanted = BTreeSet::new();
    let mut seen = vec![BTreeSet::new(); streams.len()];
    for outage in [Some(Outage::Killed), Some(Outage::Frozen), None] {
        for n in 0..60 {
            let topic = if n % 3 == 2 { &two } else { &one };
            let partition = if n % 3 == 2 { 0 } else { n % 3 };
            let value = format!("{round}");
            let offset = write(&plain, topic, partition, &value).await;
            wanted.insert((topic.clone(), i64::from(partition), offset));
            round += 1;
        }
        for (stream, seen) in streams.iter_mut().zip(&mut seen) {
            let of: BTreeSet<_> = wanted
                .iter()
                .filter(|(topic, ..)| {
                    !stream.response.url().path().contains("/topics/") || *topic == one
                })
                .cloned()
                .collect();
            let begun = Instant::now();
            while *seen != of {
                let event = timeout(Duration::from_secs(120), stream.next()).await;
                let event = event.unwrap_or_else(|_| panic!("{} of {}", seen.len(), of.len()));
                let event = event.expect("the stream stays open");
                match event.name.as_str() {
                    "" => assert!(seen.insert(place(&event)), "{event:?} comes again"),
                    "lag" => {}
                    other => panic!("{other}: {}", event.data),
                }
                assert!(begun.elapsed() < Duration::from_secs(180));
            }
        }
        let Some(outage) = outage else {
            break;
        };
        let comments: Vec<usize> = streams
            .iter()
            .map(|stream| stream.parser.comments)
            .collect();
        match outage {
            Outage::Killed => kafka.kill(),
            Outage::Frozen => kafka.pause(),
        }
        // All the while there are signs of life, and nothing else.
        let away = Instant::now();
        while away.elapsed() < AWAY {
            for stream in &mut streams {
                let chunk = timeout(Duration::from_secs(60), stream.response.chunk()).await;
                let chunk = chunk.expect("a sign of life").unwrap();
                let chunk = chunk.expect("the stream stays open");
                let events = stream.parser.push(&chunk);
                assert!(events.iter().all(|event| event.name == "lag"), "{events:?}");
            }
        }
        for (stream, before) in streams.iter().zip(comments) {
            assert!(stream.parser.comments > before + 2);
        }
        // Who comes now is not left waiting for ever, and a browser is not sent away for ever.
        let request = http::client()
            .get(&only)
            .header("accept", "text/event-stream");
        let response = request
            .header("user-agent", "Mozilla/5.0 (X11)")
            .send()
            .await;
        assert_eq!(response.unwrap().status(), 200);
        // Nor by a gateway that has never seen this Kafka, and whoever has an id is no browser perhaps,
        // but an EventSource.
        let fresh = Gateway::start(&kafka.bootstrap()).await;
        let request = http::client()
            .get(fresh.url(&format!("/topics/{one}/records")))
            .header("accept", "text/event-stream")
            .header(
                "last-event-id",
                streams[2].parser.resume.as_deref().unwrap(),
            );
        let told = http::send(request).await;
        assert_eq!(told.status, 200, "{}", told.text());
        assert!(told.text().starts_with("retry: 30000\n"), "{}", told.text());
        assert!(
            told.text().contains("event: stream-error\n"),
            "{}",
            told.text()
        );
        match outage {
            Outage::Killed => kafka.restart().await,
            Outage::Frozen => kafka.resume(),
        }
    }
    assert_readable(&gateway.stderr());
    assert!(gateway.terminate().await.status.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: brokers are stopped and started"]
async fn open_streams_survive_leader_changes_and_a_restart() {
    let kafka = Broker::builder().nodes(3).start().await;
    let plain = kafka.plain();
    let name = topic("moves");
    plain
        .create_topic(&name, 3, &[("min.insync.replicas", "1")])
        .await;
    let gateway = Gateway::start(&kafka.bootstrap()).await;
    let url = gateway.url(&format!("/topics/{name}/records"));
    let mut stream = Stream::open(&format!("{url}?from=earliest"), None).await;
    stream.named("ready").await;
    let mut wanted = BTreeSet::new();
    for round in 0..3_u32 {
        for n in 0..30 {
            let offset = write(&plain, &name, n % 3, &n.to_string()).await;
            wanted.insert((name.clone(), i64::from(n % 3), offset));
        }
        kafka.node(round % 3 + 1).restart().await;
    }
    for n in 0..3 {
        let offset = write(&plain, &name, n, "last").await;
        wanted.insert((name.clone(), i64::from(n), offset));
    }
    // What a producer tried again while leaders moved may be in Kafka twice.
    for record in plain.consume_all(&name).await {
        wanted.insert((name.clone(), i64::from(record.partition), record.offset));
    }
    let got = timeout(Duration::from_secs(180), stream.records(wanted.len())).await;
    let got: Vec<_> = got.expect("all records").iter().map(place).collect();
    assert_eq!(got.len(), wanted.len());
    assert_eq!(got.into_iter().collect::<BTreeSet<_>>(), wanted);
}
