//! How many streams there may be, in all and of one principal, what they share, and the
//! end of those that nobody reads.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, stream};
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::Instant;

use super::{PROMPT, Stream, is_read_by_one, topic_of, write};
use crate::support::gateway::Gateway;
use crate::support::kafka_client::OutgoingRecord;
use crate::support::tokens::token;
use crate::support::{eventually, http, kafka, metric};

/// A page gone wild, on one connection: it gets what one principal may have, and others lose nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_that_opens_ten_thousand_streams_gets_its_share() {
    const SHARE: usize = 40;
    let plain = kafka().await.plain();
    let name = topic_of(&plain, "wild", 1).await;
    let gateway = Gateway::builder(&kafka().await.bootstrap())
        .with_tokens()
        .set("limits.tails_per_principal", &SHARE.to_string())
        .start()
        .await;
    let url = gateway.url(&format!("/topics/{name}/records"));
    let page = reqwest::Client::builder()
        .http2_prior_knowledge()
        .build()
        .unwrap();
    let ann = token("ann", "consume:*");
    let open: Mutex<Vec<Stream>> = Mutex::default();
    let refused: Mutex<BTreeMap<String, usize>> = Mutex::default();
    let (page, url, ann, open, refused) = (&page, &url, &ann, &open, &refused);
    stream::iter(0..10_000_u32)
        .for_each_concurrent(100, |n| async move {
            let mut request = page.get(url).header("accept", "text/event-stream");
            if n % 2 == 0 {
                request = request.header("user-agent", "Mozilla/5.0 (X11)");
            }
            let mut response = request.bearer_auth(ann).send().await.unwrap();
            if response.status() == 429 {
                *refused.lock().entry("429".into()).or_default() += 1;
                return;
            }
            assert_eq!(response.status(), 200);
            // An EventSource that is refused would never come back: it is told to wait long.
            let first = response.chunk().await.unwrap().unwrap();
            if first.starts_with(b"retry: 30000\n") {
                let rest = response.text().await.unwrap();
                let said = format!("{}{rest}", String::from_utf8_lossy(&first));
                assert!(said.contains("event: stream-error\n"), "{said}");
                assert!(said.contains("limits.tails_per_principal"), "{said}");
                *refused.lock().entry("told to wait".into()).or_default() += 1;
                return;
            }
            open.lock().push(response.into());
        })
        .await;
    assert_eq!(open.lock().len(), SHARE);
    let refused: usize = refused.lock().values().sum();
    assert_eq!(refused, 10_000 - SHARE);
    // Those that were told to wait may be ending still.
    eventually(PROMPT, async || {
        (metric(&gateway, "stream_readers").await - 40.0).abs() < 0.1
    })
    .await;
    // Somebody else is not concerned.
    let bob = token("bob", "consume:*");
    let response = page.get(url).header("accept", "text/event-stream");
    let response = response.bearer_auth(&bob).send().await.unwrap();
    Stream::from(response).named("ready").await;
    // When some are closed there is place again.
    open.lock().truncate(SHARE - 1);
    eventually(PROMPT, async || {
        let request = page.get(url).header("accept", "text/event-stream");
        request.bearer_auth(ann).send().await.unwrap().status() == 200
    })
    .await;
}

async fn asks_and_never_reads(gateway: &Gateway, path: &str) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4 << 10).unwrap();
    let address = gateway.address();
    let mut stream = socket.connect(address.parse().unwrap()).await.unwrap();
    let request =
        format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nAccept: text/event-stream\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    stream
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_has_stopped_does_not_hold_up_the_end() {
    let plain = kafka().await.plain();
    let name = topic_of(&plain, "holds", 1).await;
    let value = format!("\"{}\"", "x".repeat(500_000));
    for _ in 0..20 {
        let record = OutgoingRecord {
            topic: &name,
            value: Some(value.as_bytes()),
            ..OutgoingRecord::default()
        };
        plain.produce(record).await;
    }
    let gateway = Gateway::builder(&kafka().await.bootstrap())
        .set("shutdown_grace_ms", "2000")
        .start()
        .await;
    let path = format!("/topics/{name}/records?from=earliest");
    let stopped = asks_and_never_reads(&gateway, &path).await;
    let mut other = Stream::open(&gateway.url(&path), None).await;
    eventually(PROMPT, async || {
        metric(&gateway, "stream_readers").await > 1.5
    })
    .await;
    other.records(20).await;
    gateway.ask_to_end();
    let begun = Instant::now();
    other.named("drain").await;
    let ended = gateway.ended().await;
    assert!(ended.status.success(), "{}", ended.stderr);
    // Less than the half minute after which it would have been cut.
    assert!(begun.elapsed() < Duration::from_secs(25));
    drop(stopped);
}

/// A client that takes nothing although there is something.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: a reader is waited for half a minute"]
async fn a_reader_that_stops_reading_is_cut_and_gives_its_place_back() {
    let plain = kafka().await.plain();
    let name = topic_of(&plain, "stops", 1).await;
    let gateway = Gateway::builder(&kafka().await.bootstrap())
        .set("limits.tails", "2")
        .start()
        .await;
    let path = format!("/topics/{name}/records");
    let url = gateway.url(&path);
    let mut other = Stream::open(&url, None).await;
    other.named("ready").await;
    let mut stopped = asks_and_never_reads(&gateway, &path).await;
    eventually(PROMPT, async || {
        metric(&gateway, "stream_readers").await > 1.5
    })
    .await;
    let ask = || {
        http::client()
            .get(&url)
            .header("accept", "text/event-stream")
    };
    assert_eq!(
        http::send(ask()).await.status,
        503,
        "there is no third place"
    );
    // More than a socket holds, all of which the other one reads as it comes.
    let value: Arc<str> = format!("\"{}\"", "x".repeat(100_000)).into();
    let begun = Instant::now();
    let mut cut = None;
    let mut count = 0;
    while cut.is_none() || count < 200 {
        let record = OutgoingRecord {
            topic: &name,
            value: Some(value.as_bytes()),
            ..OutgoingRecord::default()
        };
        plain.produce(record).await;
        count += 1;
        other.records(1).await;
        if count > 150 {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        if cut.is_none() && metric(&gateway, "stream_readers_cut_total").await > 0.5 {
            cut = Some(begun.elapsed());
        }
        assert!(begun.elapsed() < Duration::from_secs(300));
    }
    let cut = cut.unwrap();
    assert!(cut > Duration::from_secs(25), "{cut:?}");
    assert!((metric(&gateway, "stream_readers_cut_total").await - 1.0).abs() < 0.1);
    eventually(PROMPT, async || {
        metric(&gateway, "stream_readers").await < 1.5
    })
    .await;
    // The connection was reset: it is not that it got everything after all.
    let mut got = Vec::new();
    let ended = tokio::time::timeout(PROMPT, stopped.read_to_end(&mut got)).await;
    assert!(ended.unwrap().is_err(), "{} bytes", got.len());
    let mut third = Stream::open(&url, None).await;
    third.named("ready").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_readers_of_a_topic_are_one_reader_of_kafka() {
    let plain = kafka().await.plain();
    let name = topic_of(&plain, "many", 2).await;
    let gateway = Gateway::builder(&kafka().await.bootstrap())
        .set("limits.connections_per_address", "5000")
        .start()
        .await;
    let url = gateway.url(&format!("/topics/{name}/records"));
    let mut streams = Vec::new();
    for _ in 0..300 {
        let mut stream = Stream::open(&url, None).await;
        stream.named("ready").await;
        streams.push(stream);
    }
    is_read_by_one(&gateway).await;
    assert!((metric(&gateway, "stream_readers").await - 300.0).abs() < 0.1);
    for n in 0..20 {
        write(&plain, &name, n % 2, &n.to_string()).await;
    }
    for stream in &mut streams {
        stream.records(20).await;
    }
    assert!((metric(&gateway, "stream_records_encoded_total").await - 20.0).abs() < 0.1);
    assert!((metric(&gateway, "stream_records_delivered_total").await - 6_000.0).abs() < 0.1);
    assert!(metric(&gateway, "tail_catchup_pages_total").await < 10.0);
    drop(streams);
    eventually(PROMPT, async || {
        metric(&gateway, "stream_readers").await < 0.1
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn there_are_only_so_many_streams() {
    let plain = kafka().await.plain();
    let name = topic_of(&plain, "limit", 1).await;
    let gateway = Gateway::builder(&kafka().await.bootstrap())
        .set("limits.tails", "2")
        .start()
        .await;
    let url = gateway.url(&format!("/topics/{name}/records"));
    let one = Stream::open(&url, None).await;
    let _two = Stream::open(&url, None).await;
    let ask = || {
        http::client()
            .get(&url)
            .header("accept", "text/event-stream")
    };
    let reply = http::send(ask()).await;
    assert_eq!(reply.status, 503);
    assert!(!reply.header("retry-after").is_empty());
    // An EventSource that is refused never comes back.
    let browser = http::send(ask().header("user-agent", "Mozilla/5.0 (X11)")).await;
    assert_eq!(browser.status, 200);
    assert!(
        browser.text().starts_with("retry: 30000\n"),
        "{}",
        browser.text()
    );
    drop(one);
    eventually(PROMPT, async || {
        metric(&gateway, "stream_readers").await < 1.5
    })
    .await;
    Stream::open(&url, None).await;
}
