//! What `max_rate` and `conflate` leave out, and streams that want one key.

use std::collections::{BTreeMap, BTreeSet};

use tokio::time::Instant;

use super::{PROMPT, Reader, fill, gateway, path, topic_of, write};
use crate::streams::is_read_by_one;
use crate::support::{eventually, http, kafka, metric};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rate_leaves_out_what_comes_in_between_and_never_the_newest() {
    let plain = kafka().await.plain();
    let name = topic_of(&plain, "rate", 1).await;
    let gateway = gateway(&[]).await;
    let mut reader = Reader::open(&gateway, &path(&name, "max_rate=2"), None, 64 << 10).await;
    reader.named("ready").await;
    let begun = Instant::now();
    for n in 0..100 {
        write(&plain, &name, None, &n.to_string()).await;
    }
    let mut offsets = Vec::new();
    let mut ids = Vec::new();
    while offsets.last() != Some(&99) {
        offsets.extend(reader.offsets(1).await);
        ids.push(reader.id.clone());
    }
    let took = begun.elapsed().as_secs_f64();
    assert!(offsets.windows(2).all(|two| two[0] < two[1]), "{offsets:?}");
    // One at once, and two a second from then on.
    assert!(
        (offsets.len() as f64) <= 2.0 + 2.0 * took,
        "{offsets:?} in {took} s"
    );
    assert!(offsets.len() < 100, "some are left out");
    // What is behind an id comes once, what is before it does not.
    let mut again = Reader::open(&gateway, &path(&name, ""), Some(&ids[0]), 64 << 10).await;
    assert_eq!(again.offsets(1).await, [offsets[0] + 1]);
    let last = ids.last().map(String::as_str);
    let mut newest = Reader::open(&gateway, &path(&name, ""), last, 64 << 10).await;
    assert_eq!(newest.named("ready").await["from"][&name]["0"], 100);
    // At the end there is nothing to wait for.
    let begun = Instant::now();
    let all = path(&name, "from=earliest&until=end&max_rate=0.1");
    let records = Reader::open(&gateway, &all, None, 64 << 10)
        .await
        .rest()
        .await;
    assert!(records.len() as f64 <= 2.0 + begun.elapsed().as_secs_f64() / 10.0);
    assert_eq!(records.last().unwrap()["offset"], 99);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_is_conflated_by_key_and_the_newest_of_each_comes() {
    let plain = kafka().await.plain();
    let name = topic_of(&plain, "conflate", 1).await;
    let gateway = gateway(&[]).await;
    let query = path(&name, "from=earliest&conflate=key");
    let mut reader = Reader::open(&gateway, &query, None, 4 << 10).await;
    reader.named("ready").await;
    // Nothing is read meanwhile, for less than the half minute after which it would be cut. What the system
    // takes comes as it was.
    fill(&gateway, &name, 0, 8_000).await;
    let mut newest: BTreeMap<String, i64> = BTreeMap::new();
    let mut ids = Vec::new();
    let mut offsets = Vec::new();
    while newest.values().filter(|offset| **offset >= 7_990).count() < 10 {
        let event = reader.next().await.unwrap();
        if event.name.is_empty() {
            let key = event.data["key"].as_str().unwrap().to_owned();
            let offset = event.data["offset"].as_i64().unwrap();
            newest.insert(key, offset);
            offsets.push(offset);
            ids.push(reader.id.clone());
        }
    }
    assert!(offsets.windows(2).all(|two| two[0] < two[1]));
    assert!(offsets.len() < 6_500, "{} came", offsets.len());
    // Whoever comes back in the middle of the last ten gets the others of them.
    let id = &ids[ids.len() - 4];
    let mut again = Reader::open(&gateway, &path(&name, "conflate=key"), Some(id), 64 << 10).await;
    assert_eq!(again.offsets(3).await, offsets[offsets.len() - 3..]);
    let end = path(&name, "from=earliest&until=end&conflate=key&max_rate=1000");
    let records = Reader::open(&gateway, &end, None, 1 << 20)
        .await
        .rest()
        .await;
    let last: BTreeMap<&str, i64> = records
        .iter()
        .map(|r| (r["key"].as_str().unwrap(), r["offset"].as_i64().unwrap()))
        .collect();
    assert_eq!(
        last.values().copied().collect::<BTreeSet<_>>(),
        (7_990..8_000).collect()
    );
    for (query, field) in [
        ("max_rate=0", "max_rate"),
        ("max_rate=NaN", "max_rate"),
        ("max_rate=2000", "max_rate"),
        ("conflate=value", "conflate"),
    ] {
        let url = gateway.url(&path(&name, query));
        let reply = http::send(
            http::client()
                .get(&url)
                .header("accept", "text/event-stream"),
        )
        .await;
        assert_eq!(reply.status, 400, "{query}: {}", reply.text());
        assert_eq!(reply.json()["field"], field);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_of_one_key_gets_its_records_whatever_else_comes() {
    let plain = kafka().await.plain();
    let name = topic_of(&plain, "keys", 1).await;
    let gateway = gateway(&[("streams.ring_bytes", "200000")]).await;
    let mut readers = Vec::new();
    for key in 0..20 {
        let query = path(&name, &format!("key=k{key}&on_lag=skip&heartbeat=5"));
        let mut reader = Reader::open(&gateway, &query, None, 64 << 10).await;
        reader.named("ready").await;
        readers.push(reader);
    }
    assert!((metric(&gateway, "stream_lanes").await - 20.0).abs() < 0.1);
    is_read_by_one(&gateway).await;
    // Ten keys, and more than the ring holds; nothing is new to the other ten readers.
    fill(&gateway, &name, 0, 100).await;
    for reader in &mut readers[..10] {
        assert_eq!(reader.offsets(10).await.len(), 10);
    }
    let pages = metric(&gateway, "tail_catchup_pages_total").await;
    for _ in 0..5 {
        fill(&gateway, &name, 0, 100).await;
        for reader in &mut readers[..10] {
            assert_eq!(reader.offsets(10).await.len(), 10);
        }
    }
    write(&plain, &name, Some("k17"), "1").await;
    assert_eq!(readers[17].offsets(1).await, [600]);
    assert!((metric(&gateway, "tail_catchup_pages_total").await - pages).abs() < 0.1);
    // In silence the position moves all the same.
    let silent = &mut readers[12];
    while silent.id.is_empty()
        || silent
            .line()
            .await
            .is_some_and(|line| !line.starts_with("id: "))
    {}
    drop(readers);
    eventually(PROMPT, async || {
        metric(&gateway, "stream_lanes").await < 0.1
    })
    .await;
}
