//! What is kept of a topic for its readers, and how much memory that takes.

use super::{Stream, topic_of, write};
use crate::support::gateway::Gateway;
use crate::support::{kafka, metric};

const MIB: f64 = 1024.0 * 1024.0;
/// What may be kept of the topic.
const RING: f64 = 2.0 * MIB;
/// What a process needs more after thousands of requests, whatever is kept.
const WORK: f64 = 4.0 * MIB;

/// Written one by one, each record comes in an answer of its own, which is many times as large.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: thousands of records, one after the other"]
async fn small_records_that_come_one_at_a_time_take_no_more_memory_than_is_counted() {
    let kafka = kafka().await;
    let plain = kafka.plain();
    let name = topic_of(&plain, "ring-memory", 1).await;
    let gateway = Gateway::builder(&kafka.bootstrap())
        .set("streams.ring_bytes", "2097152")
        .start()
        .await;
    let url = gateway.url(&format!("/topics/{name}/records"));
    let mut stream = Stream::open(&url, None).await;
    stream.named("ready").await;
    let value = "x".repeat(100);
    let memory = async || metric(&gateway, "process_resident_memory_bytes").await;
    let mut before = 0.0;
    // About three times as many as are kept.
    for number in 0..8_000 {
        if number == 200 {
            before = memory().await;
        }
        let offset = write(&plain, &name, 0, &value).await;
        stream.records(1).await;
        assert_eq!(offset, number);
    }
    let kept = metric(&gateway, "tail_ring_bytes").await;
    assert!(kept > 0.9 * RING && kept < 1.05 * RING, "{kept}");
    let grown = memory().await - before;
    println!("{:.1} MiB for {:.1} MiB", grown / MIB, kept / MIB);
    assert!(grown <= 1.5 * RING + WORK, "{:.1} MiB", grown / MIB);
    assert!(gateway.terminate().await.status.success());
}
