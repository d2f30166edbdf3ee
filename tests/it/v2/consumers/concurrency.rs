//! A thousand instances at once.

use futures::StreamExt;
use futures::stream::iter;
use serde_json::json;

use super::{Consumer, from_earliest, numbers};
use crate::support::broker::Broker;
use crate::support::gateway::Gateway;
use crate::support::groups::fill;
use crate::support::{metric, topic};

/// Requests at once.
const AT_ONCE: usize = 50;
/// The most that an instance may cost whose topic has more than it may read ahead: 64 KiB of that, the
/// batches on their way to it, and its member. (One whose topic has nothing to read is the bench's.)
const MOST_KIB: u64 = 2_048;

fn rss_kib(gateway: &Gateway) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", gateway.pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let number = line.unwrap().split_whitespace().nth(1).unwrap();
    number.parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: a thousand instances join groups of their own"]
async fn a_thousand_instances_keep_a_bounded_memory() {
    const COUNT: u64 = 1_000;
    // With the usual intervals: a thousand members that each tell five times a second that they are
    // there would be all that a busy machine does.
    let kafka = Broker::start().await;
    let gateway = Gateway::builder(&kafka.bootstrap())
        .set("rest.consumer_instance_timeout_ms", "600000")
        .start()
        .await;
    let name = topic("v2-many");
    kafka.plain().create_topic(&name, 1, &[]).await;
    // So much that, were it all read ahead, it would be gigabytes.
    fill(&gateway, &name, 0, 0..20_000).await;
    let before = rss_kib(&gateway);
    // One for all of them: a connection for each would be over the limit for an address.
    let client = crate::support::http::client();

    let consumers: Vec<Consumer> = iter(0..COUNT)
        .map(|n| {
            let (gateway, name, client) = (&gateway, &name, &client);
            async move {
                let group = format!("{name}-{n}");
                let mut consumer = Consumer::make(gateway, &group, &from_earliest()).await;
                consumer.client = client.clone();
                consumer.subscribe(&[name]).await;
                consumer
            }
        })
        .buffer_unordered(AT_ONCE)
        .collect()
        .await;

    // One more is one too many.
    let url = gateway.url("/consumers/one-more");
    let refused = crate::support::http::post_json(&url, &json!({})).await;
    assert_eq!(refused.status, 503);
    // All of them have their first record, at once.
    let firsts: Vec<i64> = iter(&consumers)
        .map(|consumer| async {
            loop {
                let records = consumer.read("timeout=20000&max_bytes=1").await;
                if let Some(first) = numbers(&records).first() {
                    return *first;
                }
            }
        })
        .buffer_unordered(AT_ONCE)
        .collect()
        .await;
    assert!(firsts.iter().all(|first| *first == 0));
    let each = (rss_kib(&gateway) - before) / COUNT;
    eprintln!("{each} KiB for each of {COUNT} instances");
    assert!((metric(&gateway, "rest_consumer_instances").await - 1_000.0).abs() < 0.1);
    assert!(each < MOST_KIB, "{each} KiB each");

    iter(&consumers)
        .map(Consumer::delete)
        .buffer_unordered(AT_ONCE)
        .collect::<Vec<()>>()
        .await;
    assert!(metric(&gateway, "rest_consumer_instances").await < 0.1);
}
