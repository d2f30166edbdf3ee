//! Topics that are created again, and partitions that are added, under a reader.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use super::{Walk, numbers, write, writer};
use crate::support::gateway::Gateway;
use crate::support::http;
use crate::support::{eventually, kafka, topic};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: a topic is deleted and created again four times"]
async fn a_topic_created_again_is_not_taken_for_the_old_one() {
    let broker = kafka().await;
    let gateway = Gateway::builder(&broker.bootstrap())
        .set("telemetry.log_level", "info,krafka=debug")
        .start()
        .await;
    let plain = broker.plain();
    let topic = topic("again");
    let producer = writer(broker, &[]);
    for round in 0..4_u32 {
        plain.create_topic(&topic, 1, &[]).await;
        let first = round * 1000;
        // Fewer or more than before, so that old offsets are beyond the end or within the log.
        let count = [50, 20, 200, 200][round as usize];
        write(&producer, &topic, 0, &numbers(first..first + count)).await;
        // What is known of the old one is believed for some seconds; its records never come.
        let mut walk = Walk::new(&gateway, &topic, 10);
        eventually(Duration::from_secs(60), async || {
            let reply = http::get(&format!("{}&from=earliest", walk.url)).await;
            assert!(
                [200, 404, 503, 504].contains(&reply.status.as_u16()),
                "{reply:?}"
            );
            reply.status == 200
        })
        .await;
        for _ in 0..3 {
            walk.page("").await;
        }
        if round == 0 {
            walk.finish().await;
            assert_eq!(walk.records.len(), 50);
        }
        let old = walk.next.clone();
        let values: HashSet<u64> = walk.records.iter().map(|r| r.2.as_u64().unwrap()).collect();
        assert!(
            values.iter().all(|value| value / 1000 == u64::from(round)),
            "{values:?} in round {round}"
        );
        plain.delete_topic(&topic).await;
        eventually(Duration::from_secs(60), async || {
            plain.leader(&topic, 0).await.is_none()
        })
        .await;
        plain.create_topic(&topic, 1, &[]).await;
        write(&producer, &topic, 0, &numbers(900_000..900_300)).await;
        // The old position gives nothing of the new topic, at no time.
        let mut walk = Walk::new(&gateway, &topic, 10);
        walk.next = old;
        let mut kinds = HashSet::new();
        let end = Instant::now() + Duration::from_secs(60);
        loop {
            let reply = walk.ask("").await;
            kinds.insert(reply.status.as_u16());
            assert!(
                [400, 404, 503, 504].contains(&reply.status.as_u16()),
                "{}",
                reply.text()
            );
            if reply.status == 400 && reply.text().contains("created again") {
                break;
            }
            assert!(Instant::now() < end, "{}", reply.text());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        println!("{kinds:?}");
        let mut walk = Walk::new(&gateway, &topic, 100);
        walk.finish().await;
        walk.check(&plain, &topic).await;
        plain.delete_topic(&topic).await;
        eventually(Duration::from_secs(60), async || {
            plain.leader(&topic, 0).await.is_none()
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn partitions_added_during_a_walk_are_read_from_their_start() {
    let broker = kafka().await;
    let gateway = Gateway::start(&broker.bootstrap()).await;
    let plain = broker.plain();
    let topic = topic("grown");
    plain.create_topic(&topic, 1, &[]).await;
    let producer = writer(broker, &[]);
    write(&producer, &topic, 0, &numbers(0..50)).await;
    let mut walk = Walk::new(&gateway, &topic, 20);
    walk.until(20).await;

    plain.add_partitions(&topic, 3).await;
    let producer = writer(broker, &[]);
    write(&producer, &topic, 1, &numbers(100..150)).await;
    write(&producer, &topic, 2, &numbers(200..250)).await;

    walk.until(150).await;
    walk.finish().await;
    walk.check(&plain, &topic).await;
}
