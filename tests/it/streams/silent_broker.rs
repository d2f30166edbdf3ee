//! One broker of several that is silent (frozen, so that its connections stay and nothing answers): it holds
//! up the partitions that it leads, and no others.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use super::{Stream, place, write};
use crate::support::broker::Broker;
use crate::support::gateway::Gateway;
use crate::support::{eventually, http, metric, topic};

/// The node that is frozen.
const SILENT: i32 = 3;
/// How long records are written meanwhile: longer than any timeout of a reader's request.
const WHILE: Duration = Duration::from_secs(25);
/// Longest way of a record that nothing holds up, on a machine that is busy, but for moments.
const PROMPT: Duration = Duration::from_secs(5);

/// Longest time until a page is read, or has failed.
const PAGE: Duration = Duration::from_secs(45);
/// Longest time until a broker that was silent, or a partition that another leads by now, is read again.
const BACK: Duration = Duration::from_secs(60);

/// The next record of `stream`, which comes within `bound`. Every other event but a sign of lag is wrong.
async fn record(stream: &mut Stream, bound: Duration) -> (String, i64, i64) {
    let end = Instant::now() + bound;
    loop {
        let event = timeout(end - Instant::now(), stream.next()).await;
        let event = event.unwrap_or_else(|_| panic!("no record within {bound:?}"));
        let event = event.expect("the stream stays open");
        match event.name.as_str() {
            "" => return place(&event),
            "lag" => {}
            other => panic!("{other}: {}", event.data),
        }
    }
}

/// A gateway, and a stream of the topic from its beginning that is ready.
async fn followed(kafka: &Broker, name: &str) -> (Gateway, Stream) {
    let gateway = Gateway::start(&kafka.bootstrap()).await;
    let url = gateway.url(&format!("/topics/{name}/records?from=earliest&heartbeat=5"));
    let mut stream = Stream::open(&url, None).await;
    stream.named("ready").await;
    (gateway, stream)
}

/// The median, the 99th percentile and the longest of them.
fn summary(mut times: Vec<Duration>) -> String {
    times.sort_unstable();
    let at = |percent: usize| times[(times.len() * percent / 100).min(times.len() - 1)];
    format!(
        "{} records, p50 {:?}, p99 {:?}, longest {:?}",
        times.len(),
        at(50),
        at(99),
        at(100)
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: a broker is frozen for half a minute"]
async fn a_silent_broker_holds_up_only_the_partitions_that_it_leads() {
    let kafka = Broker::builder().nodes(3).start().await;
    let plain = kafka.plain();
    let name = topic("silent");
    plain
        .create_topic_on(&name, &[1, 2, SILENT, 1, 2, SILENT], &[])
        .await;
    let others = [0, 1, 3, 4];
    let (gateway, mut stream) = followed(&kafka, &name).await;

    let mut wanted = BTreeSet::new();
    let mut seen = BTreeSet::new();
    let mut healthy = Vec::new();
    for n in 0..60 {
        let partition = n % 6;
        let begun = Instant::now();
        let offset = write(&plain, &name, partition, "well").await;
        wanted.insert((name.clone(), i64::from(partition), offset));
        assert!(seen.insert(record(&mut stream, BACK).await));
        healthy.push(begun.elapsed());
    }
    assert_eq!(seen, wanted);
    println!("all well: {}", summary(healthy));

    // As many fetches as one reader of all brokers makes: each holds one for half a second.
    let fetches = async || metric(&gateway, "tail_upstream_fetches_total").await;
    let (begun, before) = (Instant::now(), fetches().await);
    sleep(Duration::from_secs(5)).await;
    let idle = fetches().await - before;
    println!("idle: {idle} fetches in {:?}", begun.elapsed());
    assert!(idle <= 3.0 * (begun.elapsed().as_secs_f64() / 0.5 + 2.0));

    kafka.node(SILENT.unsigned_abs()).pause();
    let frozen = Instant::now();
    let mut times = Vec::new();
    // Every page is an answer in time, or an error. Those of the others' partitions come, but for some that
    // began with a question to the broker that is silent.
    let page = gateway.url(&format!("/topics/{name}/records?from=earliest&limit=10000"));
    let pages = tokio::spawn(async move {
        let mut came = 0;
        while frozen.elapsed() < WHILE || (came == 0 && frozen.elapsed() < 4 * WHILE) {
            for (of, query) in [("others", "&partitions=0,1,3,4"), ("all", "")] {
                let begun = Instant::now();
                let reply = http::get(&format!("{page}{query}")).await;
                println!("page of {of}: {} after {:?}", reply.status, begun.elapsed());
                let status = reply.status.as_u16();
                assert!([200, 503, 504].contains(&status), "{}", reply.text());
                assert!(begun.elapsed() < PAGE);
                came += u32::from(of == "others" && status == 200);
            }
            sleep(Duration::from_secs(1)).await;
        }
        came
    });
    for n in 0.. {
        if frozen.elapsed() >= WHILE {
            break;
        }
        let partition = others[n % others.len()];
        let begun = Instant::now();
        let offset = write(&plain, &name, partition, "silent").await;
        wanted.insert((name.clone(), i64::from(partition), offset));
        assert!(seen.insert(record(&mut stream, BACK).await));
        times.push(begun.elapsed());
        sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(seen, wanted);
    // One by one: were they held up, each request to the silent broker would take longer than that.
    let late = times.iter().filter(|time| **time > PROMPT).count();
    println!("one silent, {late} late: {}", summary(times));
    assert!(late <= 1, "{late}");
    assert!(pages.await.unwrap() > 0);

    kafka.node(SILENT.unsigned_abs()).resume();
    for partition in [2, 5, 0] {
        let offset = write(&plain, &name, partition, "again").await;
        let expected = (name.clone(), i64::from(partition), offset);
        let begun = Instant::now();
        assert_eq!(record(&mut stream, BACK).await, expected);
        println!("partition {partition} after {:?}", begun.elapsed());
    }
    assert!(gateway.terminate().await.status.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: three brokers, and leaders that move"]
async fn partitions_whose_leader_falls_silent_go_on_when_another_leads_them() {
    let kafka = Broker::builder().nodes(3).start().await;
    let plain = kafka.plain();
    let name = topic("moved");
    plain
        .create_topic(&name, 6, &[("min.insync.replicas", "1")])
        .await;
    let (gateway, mut stream) = followed(&kafka, &name).await;
    let mut wanted = BTreeSet::new();
    let mut seen = BTreeSet::new();
    let silent = plain.leader(&name, 0).await.unwrap();
    for round in 0..3 {
        match round {
            0 => {}
            1 => {
                kafka.node(silent.unsigned_abs()).pause();
                eventually(Duration::from_secs(60), async || {
                    for partition in 0..6 {
                        let leader = plain.leader(&name, partition).await;
                        if leader.is_none_or(|leader| leader == silent) {
                            return false;
                        }
                    }
                    true
                })
                .await;
            }
            _ => kafka.node(silent.unsigned_abs()).resume(),
        }
        let begun = Instant::now();
        // One that waits for no answer of the silent broker.
        let plain = kafka.plain();
        for n in 0..60 {
            let partition = n % 6;
            let offset = write(&plain, &name, partition, "x").await;
            wanted.insert((name.clone(), i64::from(partition), offset));
        }
        let written = begun.elapsed();
        // What a producer tried again may be in Kafka twice.
        for record in plain.consume_all(&name).await {
            wanted.insert((name.clone(), i64::from(record.partition), record.offset));
        }
        while seen != wanted {
            let record = record(&mut stream, BACK).await;
            assert!(seen.insert(record.clone()), "{record:?} comes again");
        }
        let read = begun.elapsed();
        println!("round {round}: all written after {written:?}, and read after {read:?}");
    }
    assert!(gateway.terminate().await.status.success());
}
