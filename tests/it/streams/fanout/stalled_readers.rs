//! Readers that have stopped: they cost the others nothing, and are cut.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use super::{CROWD, PROMPT, Reader, fill, gateway, path, topic_of, write};
use crate::support::{eventually, kafka, metric};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_that_have_stopped_do_not_hold_up_one_that_reads() {
    // More than the system takes for one, and not so many that it comes near the half minute after which those
    // that have stopped are cut.
    const RECORDS: usize = 6_000;
    let plain = kafka().await.plain();
    let name = topic_of(&plain, "stopped", 1).await;
    let gateway = gateway(&[
        ("streams.catchup_readers", "4"),
        ("streams.catchup_bytes", "8388608"),
    ])
    .await;
    fill(&gateway, &name, 0, RECORDS).await;
    let mut stopped = Vec::new();
    for n in 0..40 {
        let from = path(&name, &format!("from=0@{n}&until=end"));
        stopped.push(Reader::open(&gateway, &from, None, 4 << 10).await);
    }
    eventually(PROMPT, async || {
        metric(&gateway, "stream_readers").await > 39.5
            && metric(&gateway, "tail_catchup_pages_total").await > 39.5
            && metric(&gateway, "tail_catchup_readers").await < 0.5
    })
    .await;
    let all = path(&name, "from=earliest&until=end");
    let mut fast = Reader::open(&gateway, &all, None, 1 << 20).await;
    let records = fast.rest().await;
    let offsets: Vec<i64> = records
        .iter()
        .map(|record| record["offset"].as_i64().unwrap())
        .collect();
    assert_eq!(offsets, (0..6_000).collect::<Vec<_>>());
    assert!(metric(&gateway, "tail_catchup_bytes").await < 16e6);
    // It has not waited for their end.
    assert!(metric(&gateway, "stream_readers_cut_total").await < 0.5);
    assert!(
        metric(&gateway, "stream_readers").await > 39.5,
        "they have stopped"
    );
    // One whose page was dropped goes on where it was.
    let mut late = stopped.swap_remove(7);
    let offsets = late.rest().await;
    assert_eq!(offsets.len(), RECORDS - 7);
    assert_eq!(offsets.last().unwrap()["offset"], 5_999);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: readers must have stopped for half a minute"]
async fn each_reader_that_has_stopped_is_cut_and_counted() {
    let plain = kafka().await.plain();
    let name = topic_of(&plain, "cut", 1).await;
    let gateway = gateway(&[]).await;
    fill(&gateway, &name, 0, 12_000).await;
    let mut stopped = Vec::new();
    for _ in 0..5 {
        stopped.push(Reader::open(&gateway, &path(&name, "from=earliest"), None, 4 << 10).await);
    }
    let mut reads = Reader::open(&gateway, &path(&name, ""), None, 64 << 10).await;
    reads.named("ready").await;
    eventually(CROWD, async || {
        metric(&gateway, "stream_readers_cut_total").await > 4.5
    })
    .await;
    assert!((metric(&gateway, "stream_readers_cut_total").await - 5.0).abs() < 0.1);
    eventually(PROMPT, async || {
        (metric(&gateway, "stream_readers").await - 1.0).abs() < 0.1
    })
    .await;
    write(&plain, &name, None, "1").await;
    assert_eq!(reads.offsets(1).await, [12_000]);
}

/// The connection is alive, answers pings and serves another stream; the stream that is not read is
/// reset all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: a reader must have stopped for half a minute"]
async fn over_http2_the_stream_that_is_not_read_is_reset_and_the_others_go_on() {
    let plain = kafka().await.plain();
    let name = topic_of(&plain, "cut2", 1).await;
    let gateway = gateway(&[]).await;
    fill(&gateway, &name, 0, 3_000).await;
    let client = reqwest::Client::builder()
        .http2_prior_knowledge()
        .http2_initial_stream_window_size(64 << 10)
        .http2_initial_connection_window_size(4 << 20)
        .build()
        .unwrap();
    let open = async |query: &str| {
        let request = client.get(gateway.url(&path(&name, query)));
        let request = request.header("accept", "text/event-stream");
        timeout(PROMPT, request.send()).await.unwrap().unwrap()
    };
    let begun = Instant::now();
    let mut stuck = open("from=earliest").await;
    let mut reads = open("from=latest").await;
    eventually(PROMPT, async || {
        metric(&gateway, "http_connections").await < 1.5
            && metric(&gateway, "stream_readers").await > 1.5
    })
    .await;
    let mut text = String::new();
    // What is written before it stands at the end does not come.
    while !text.contains("event: ready") {
        let chunk = timeout(PROMPT, reads.chunk()).await.unwrap().unwrap();
        text.push_str(std::str::from_utf8(&chunk.expect("it begins")).unwrap());
    }
    let mut written = 0;
    while metric(&gateway, "stream_readers_cut_total").await < 0.5 {
        assert!(begun.elapsed() < CROWD);
        write(&plain, &name, None, &format!("\"mark {written}\"")).await;
        let mark = format!("mark {written}");
        written += 1;
        let begun = Instant::now();
        while !text.contains(&mark) {
            assert!(begun.elapsed() < PROMPT, "{mark} does not come");
            let chunk = timeout(PROMPT, reads.chunk()).await.unwrap().unwrap();
            text.push_str(std::str::from_utf8(&chunk.expect("it goes on")).unwrap());
        }
        sleep(Duration::from_millis(500)).await;
    }
    assert!(
        begun.elapsed() > Duration::from_secs(28),
        "{:?}",
        begun.elapsed()
    );
    eventually(PROMPT, async || {
        (metric(&gateway, "stream_readers").await - 1.0).abs() < 0.1
    })
    .await;
    assert!((metric(&gateway, "stream_readers_cut_total").await - 1.0).abs() < 0.1);
    // What had come before can be read; then it is an error, and not an end.
    let error = loop {
        match timeout(PROMPT, stuck.chunk()).await.unwrap() {
            Ok(chunk) => assert!(chunk.is_some(), "an end that looks like one that was meant"),
            Err(error) => break error,
        }
    };
    assert!(format!("{error:?}").contains("CANCEL"), "{error:?}");
    // The place is free, and the connection serves new streams.
    let again = open("from=latest").await;
    assert_eq!(again.status(), 200);
    assert!(metric(&gateway, "http_connections").await < 1.5);
}
