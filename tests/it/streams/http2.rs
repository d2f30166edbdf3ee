//! Over HTTP/2: many streams on one connection, of which none is in the way of another.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::future::join_all;
use reqwest::{Client, Version};

use super::{PROMPT, Stream, place, topic_of, write};
use crate::support::certs::Authority;
use crate::support::gateway::Gateway;
use crate::support::kafka_client::OutgoingRecord;
use crate::support::{eventually, kafka, metric_over};

/// A gateway without TLS and one with it, each with a client that speaks HTTP/2 to it, and one for its
/// metrics.
async fn both() -> [(Gateway, Client, Client); 2] {
    let bootstrap = kafka().await.bootstrap();
    let plain = Gateway::start(&bootstrap).await;
    let prior = Client::builder().http2_prior_knowledge().build().unwrap();
    let authority = Authority::new();
    let own = authority.server("a gateway");
    let secured = Gateway::builder(&bootstrap)
        .file("server.pem", &own.cert)
        .file("server.key", &own.key)
        .set("tls.cert", "server.pem")
        .set("tls.key", "server.key")
        .start()
        .await;
    // No bound for a whole answer: streams have no end.
    let negotiated = authority
        .http()
        .timeout(Duration::from_secs(600))
        .build()
        .unwrap();
    // A connection for each request: one that was idle for long may be closed just when it is taken again.
    let [metrics, secured_metrics] = [Client::builder(), authority.http()]
        .map(|builder| builder.pool_max_idle_per_host(0).timeout(PROMPT))
        .map(|builder| builder.build().unwrap());
    [
        (plain, prior, metrics),
        (secured, negotiated, secured_metrics),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_share_a_connection_and_one_that_is_not_read_holds_up_no_other() {
    let plain = kafka().await.plain();
    for (gateway, client, metrics) in both().await {
        let metric = async |name: &str| metric_over(&metrics, &gateway, name).await;
        let name = topic_of(&plain, "h2", 2).await;
        let url = gateway.url(&format!("/topics/{name}/records"));
        let mut streams = Vec::new();
        for _ in 0..20 {
            let mut stream = Stream::of(&client, &url, None).await;
            assert_eq!(stream.response.version(), Version::HTTP_2);
            stream.named("ready").await;
            streams.push(stream);
        }
        assert!((metric("http_connections").await - 1.0).abs() < 0.1);
        // More than the windows of the stream hold, and what is buffered beside them.
        let value = format!("\"{}\"", "x".repeat(100_000));
        let stopped = streams.pop().unwrap();
        for round in 0..6 {
            let write = async {
                for n in 0..20 {
                    let record = OutgoingRecord {
                        topic: &name,
                        partition: Some(n % 2),
                        value: Some(value.as_bytes()),
                        ..OutgoingRecord::default()
                    };
                    plain.produce(record).await;
                }
            };
            // At the same time: what one leaves unread fills the window of all of them. And while it is
            // written, which may take longer than those may wait that are not read.
            let read = streams.iter_mut().map(|stream| stream.records(20));
            let ((), came) = tokio::join!(write, join_all(read));
            for records in came {
                let places: BTreeSet<_> = records.iter().map(place).collect();
                let wanted = (0..20).map(|n| (name.clone(), n % 2, round * 10 + n / 2));
                assert_eq!(places, wanted.collect());
            }
        }
        // One goes on where it was, over the same connection, while the others stay.
        let left = streams.pop().unwrap();
        let id = left.parser.resume.clone();
        drop(left);
        eventually(PROMPT, async || metric("stream_readers").await < 19.5).await;
        write(&plain, &name, 1, "7").await;
        let mut again = Stream::of(&client, &url, id.as_deref()).await;
        assert_eq!(place(&again.records(1).await[0]), (name.clone(), 1, 60));
        for stream in &mut streams {
            assert_eq!(place(&stream.records(1).await[0]).2, 60);
        }
        assert!((metric("http_connections").await - 1.0).abs() < 0.1);
        drop(stopped);
        eventually(PROMPT, async || metric("stream_readers").await < 19.5).await;

        // At the end each is told when to come back, and the connection ends in good order.
        gateway.ask_to_end();
        let mut retries = BTreeSet::new();
        for mut stream in streams.into_iter().chain([again]) {
            let drain = stream.named("drain").await;
            assert_eq!(stream.next().await, None);
            assert_eq!(stream.parser.retry, drain.json()["retry"].as_u64());
            retries.insert(stream.parser.retry);
        }
        assert!(retries.len() > 5, "{retries:?}");
        assert!(gateway.ended().await.status.success());
    }
}
