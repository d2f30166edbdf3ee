//! Leaders that change, and brokers that freeze, die and come back, under a reader.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::{Walk, number, numbers, write, writer};
use crate::support::broker::Broker;
use crate::support::gateway::Gateway;
use crate::support::http;
use crate::support::{eventually, kafka, topic};

/// Writes to all partitions until told to stop.
struct Writes {
    task: tokio::task::JoinHandle<usize>,
    stop: Arc<AtomicBool>,
}

impl Writes {
    fn start(broker: &Broker, topic: &str, partitions: i32) -> Self {
        let producer = writer(
            broker,
            &[
                ("enable.idempotence", "true"),
                ("reconnect.backoff.max.ms", "500"),
            ],
        );
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, topic) = (Arc::clone(&stop), topic.to_owned());
        let task = tokio::spawn(async move {
            let mut count = 0;
            while !stopped.load(Ordering::Relaxed) {
                for partition in 0..partitions {
                    let next = u32::try_from(count).unwrap();
                    write(&producer, &topic, partition, &numbers(next..next + 5)).await;
                    count += 5;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            count
        });
        Self { task, stop }
    }

    async fn end(self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.unwrap()
    }
}

/// Walks a topic that is written to, while something happens to the brokers.
async fn walk_through<F: Future<Output = ()>>(
    broker: &Broker,
    trouble: impl FnOnce() -> F,
) -> Walk {
    let gateway = Gateway::start(&broker.bootstrap()).await;
    let plain = broker.plain();
    plain.create_topic("walked", 3, &[]).await;
    let writes = Writes::start(broker, "walked", 3);
    let mut walk = Walk::new(&gateway, "walked", 40);
    walk.until(1000).await;

    let over = AtomicBool::new(false);
    let walking = async {
        while !over.load(Ordering::Relaxed) {
            walk.page("&wait=2000").await;
        }
        walk
    };
    let troubling = async {
        trouble().await;
        over.store(true, Ordering::Relaxed);
    };
    let (mut walk, ()) = tokio::join!(walking, troubling);
    let count = walk.records.len();
    walk.until(count + 500).await;
    let written = writes.end().await;
    walk.until(written).await;
    walk.finish().await;
    walk.check(&plain, "walked").await;
    println!("{:#?}", walk.retried.iter().collect::<HashSet<_>>());
    walk
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: three brokers, each of which loses its leaderships once"]
async fn a_leader_change_skips_and_repeats_nothing() {
    let broker = Broker::builder().nodes(3).start().await;
    let plain = broker.plain();
    walk_through(&broker, async || {
        for node in 1..=3_u32 {
            broker.node(node).kill();
            let led = async |partition| {
                let leader = plain.leader("walked", partition).await;
                leader.is_some_and(|leader| leader != i32::try_from(node).unwrap())
            };
            eventually(Duration::from_secs(180), async || {
                led(0).await && led(1).await && led(2).await
            })
            .await;
            tokio::time::sleep(Duration::from_secs(3)).await;
            broker.node(node).restart().await;
            // Until it is in sync again: the next one that dies must not be the last in sync.
            let whole = async |partition| plain.in_sync("walked", partition).await == 3;
            eventually(Duration::from_secs(180), async || {
                whole(0).await && whole(1).await && whole(2).await
            })
            .await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: the broker stays frozen for ten seconds"]
async fn a_frozen_broker_skips_and_repeats_nothing() {
    let broker = Broker::start().await;
    walk_through(&broker, async || {
        broker.pause();
        tokio::time::sleep(Duration::from_secs(10)).await;
        broker.resume();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: one of three brokers stays frozen for ten seconds"]
async fn one_frozen_broker_of_three_skips_and_repeats_nothing() {
    let broker = Broker::builder().nodes(3).start().await;
    walk_through(&broker, async || {
        broker.node(1).pause();
        tokio::time::sleep(Duration::from_secs(10)).await;
        broker.node(1).resume();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: the only broker is killed and restarted, and stopped and restarted"]
async fn a_restarted_broker_skips_and_repeats_nothing() {
    let broker = Broker::start().await;
    walk_through(&broker, async || {
        broker.kill();
        tokio::time::sleep(Duration::from_secs(3)).await;
        broker.restart().await;
        tokio::time::sleep(Duration::from_secs(2)).await;
        broker.restart().await;
    })
    .await;
}

/// A page that waits for records, under which the broker freezes, or dies and comes back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: the broker is frozen for ten seconds, and killed"]
async fn an_open_wait_survives_its_broker() {
    let broker = Broker::start().await;
    let gateway = Gateway::start(&broker.bootstrap()).await;
    let plain = broker.plain();
    plain.create_topic("waited", 2, &[]).await;
    for n in 0..20 {
        plain.produce(number("waited", n % 2, &n.to_string())).await;
    }
    let mut walk = Walk::new(&gateway, "waited", 100);
    walk.finish().await;

    // Longest time for the trouble until a record is written, so that the page still waits then.
    let soon = Duration::from_secs(20);
    let trouble = async {
        let began = Instant::now();
        tokio::time::sleep(Duration::from_secs(4)).await;
        broker.pause();
        tokio::time::sleep(Duration::from_secs(10)).await;
        broker.resume();
        plain.produce(number("waited", 0, "100")).await;
        began.elapsed() < soon
    };
    let (came, in_time) = tokio::join!(walk.page("&wait=25000"), trouble);
    assert!(came == 1 || !in_time, "{:?}", walk.retried);
    walk.until(21).await;

    let trouble = async {
        let began = Instant::now();
        tokio::time::sleep(Duration::from_secs(4)).await;
        broker.kill();
        tokio::time::sleep(Duration::from_secs(2)).await;
        broker.restart().await;
        plain.produce(number("waited", 1, "101")).await;
        began.elapsed() < soon
    };
    let (came, in_time) = tokio::join!(walk.page("&wait=25000"), trouble);
    assert!(came == 1 || !in_time, "{:?}", walk.retried);
    walk.until(22).await;
    walk.check(&plain, "waited").await;

    // And one that waits in vain says why, and when it was told to.
    walk.retried.clear();
    let began = Instant::now();
    let trouble = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        broker.kill();
    };
    let (came, ()) = tokio::join!(walk.page("&wait=5000"), trouble);
    assert_eq!((came, walk.retried.len()), (0, 1));
    assert!(
        began.elapsed() < Duration::from_secs(40),
        "{:?}",
        began.elapsed()
    );
}

/// More than there are handles, each given up by its client in the middle.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_poll_whose_client_has_left_ends_and_costs_nothing() {
    let broker = kafka().await;
    let gateway = Gateway::builder(&broker.bootstrap())
        .set("telemetry.log_level", "info")
        .start()
        .await;
    let plain = broker.plain();
    let topic = topic("abandoned");
    plain.create_topic(&topic, 1, &[]).await;
    plain.produce(number(&topic, 0, "1")).await;
    let url = gateway.url(&format!("/topics/{topic}/records"));
    let waiting = format!("{url}?from=latest&wait=25000");
    let client = http::client();
    for _ in 0..6 {
        let waits: Vec<_> = (0..100)
            .map(|_| tokio::spawn(client.get(&waiting).send()))
            .collect();
        tokio::time::sleep(Duration::from_millis(300)).await;
        waits.iter().for_each(tokio::task::JoinHandle::abort);
        // What is left behind takes its leave, and until then there may be no room. It would not go by
        // itself within this time.
        eventually(Duration::from_secs(22), async || {
            let reply = http::get(&format!("{url}?from=earliest")).await;
            assert!(reply.status == 200 || reply.status == 503, "{reply:?}");
            reply.status == 200
        })
        .await;
    }
    // And waits are taken again: one that is refused says so at once.
    eventually(Duration::from_secs(60), async || {
        let reply = http::get(&format!("{url}?from=latest&wait=1")).await;
        assert!(reply.status == 200 || reply.status == 503, "{reply:?}");
        reply.status == 200
    })
    .await;
    let log = gateway.stderr();
    assert!(!log.contains("without close"), "{log}");
    assert!(!log.contains("panicked"), "{log}");
}
