//! Members whose partitions several brokers lead: none of these holds up what the others have.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use tidegate::kafka::member::{Command, SeekTo, State};
use tokio::time::{Instant, sleep};

use super::{LONG, Process, Watched, at, earliest};
use crate::support::broker::Broker;
use crate::support::kafka_client::OutgoingRecord;
use crate::support::{eventually, topic};

/// Half of what a broker holds a fetch for that finds nothing: the median way of a record that waits for
/// no such fetch is far below, of one that does above.
const PROMPT: Duration = Duration::from_millis(250);

/// Writes a record, takes events until it has come, and says how long that took.
async fn way(process: &Process, member: &mut Watched, topic: &str, partition: i32) -> Duration {
    let begun = Instant::now();
    let record = OutgoingRecord {
        topic,
        partition: Some(partition),
        value: Some(b"0"),
        ..OutgoingRecord::default()
    };
    let (partition, offset) = process.plain.produce(record).await;
    let place = at(topic, partition);
    member
        .until(|seen| seen.next.get(&place).is_some_and(|next| *next > offset))
        .await;
    begun.elapsed()
}

/// What all but `percent` of them are below.
fn quantile(mut times: Vec<Duration>, percent: usize) -> Duration {
    times.sort_unstable();
    println!(
        "{} records, p50 {:?}, p99 {:?}, longest {:?}",
        times.len(),
        times[times.len() / 2],
        times[times.len() * 99 / 100],
        times[times.len() - 1],
    );
    times[times.len() * percent / 100]
}

/// A topic whose partitions these nodes lead, and a member of a group of its own that has all of them.
async fn joined(process: &Process, group: &str, nodes: &[i32]) -> (String, Watched) {
    let name = topic(&format!("members-{group}"));
    process.plain.create_topic_on(&name, nodes, &[]).await;
    let mut member = process.join(earliest(group, &name));
    member
        .until(|seen| seen.assigned.len() == nodes.len())
        .await;
    (name, member)
}

/// That each record of the topic came once.
async fn assert_exact(process: &Process, members: &[&Watched], topic: &str, partitions: i32) {
    let mut wanted = BTreeSet::new();
    for partition in 0..partitions {
        let (_, end) = process.plain.watermarks(topic, partition).await;
        wanted.extend((0..end).map(|offset| (partition, offset)));
    }
    let mut seen = BTreeSet::new();
    for record in members.iter().flat_map(|member| &member.records) {
        let place = (record.partition, record.offset);
        assert!(seen.insert(place), "{place:?} comes again");
    }
    assert_eq!(seen, wanted);
}

/// Takes events until all that is in the topic has come.
async fn read_all(process: &Process, member: &mut Watched, topic: &str, partitions: i32) {
    for partition in 0..partitions {
        let (_, end) = process.plain.watermarks(topic, partition).await;
        let place = at(topic, partition);
        member
            .until(|seen| seen.next.get(&place).is_some_and(|next| *next >= end))
            .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_come_at_once_while_other_brokers_have_nothing_new() {
    let broker = Broker::builder().nodes(3).fast_groups().start().await;
    let process = Process::new(&broker).await;
    let (orders, mut member) = joined(&process, "prompt", &[1, 2, 3]).await;

    let mut times = Vec::new();
    for _ in 0..100 {
        times.push(way(&process, &mut member, &orders, 0).await);
    }

    assert!(quantile(times, 50) < PROMPT);
    assert_exact(&process, &[&member], &orders, 3).await;
    member.leave().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: a broker is frozen for a while"]
async fn a_silent_broker_holds_up_only_what_it_leads() {
    others_go_on(false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: a broker is away for a while"]
async fn partitions_without_a_leader_hold_up_no_others() {
    others_go_on(true).await;
}

/// While one broker of three is away, the only one that has its partition: killed or frozen.
async fn others_go_on(killed: bool) {
    // The offsets are on one broker alone: a commit waits for no replica that is silent.
    let broker = Broker::builder()
        .nodes(3)
        .property("offsets.topic.replication.factor", "1")
        .start()
        .await;
    let process = Process::new(&broker).await;
    let (orders, mut member) = joined(&process, "silent", &[1, 2, 3]).await;
    for n in 0..30 {
        way(&process, &mut member, &orders, n % 3).await;
    }
    let coordinator = process.plain.leader("__consumer_offsets", 0).await.unwrap();
    let silent = if coordinator == 3 { 2 } else { 3 };
    let others: Vec<i32> = (0..3).filter(|p| p + 1 != silent).collect();

    let node = broker.node(silent.unsigned_abs());
    if killed {
        node.kill();
    } else {
        node.pause();
    }
    let frozen = Instant::now();
    let mut times = Vec::new();
    while frozen.elapsed() < Duration::from_secs(20) {
        for partition in &others {
            times.push(way(&process, &mut member, &orders, *partition).await);
            let place = at(&orders, *partition);
            let next = member.next[&place];
            member.commit(&[(place, next)]).await;
        }
        sleep(Duration::from_millis(50)).await;
    }
    // Without a fetcher for each broker, each of them takes some five seconds.
    assert!(times.len() >= 40, "{} records", times.len());
    assert!(quantile(times, 90) < Duration::from_secs(1));

    if killed {
        node.restart().await;
    } else {
        node.resume();
    }
    for partition in 0..3 {
        way(&process, &mut member, &orders, partition).await;
    }
    assert_exact(&process, &[&member], &orders, 3).await;
    assert!(
        member.lost.is_empty() && member.gaps.is_empty(),
        "{member:?}"
    );
    member.leave().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: brokers are killed and come back"]
async fn nothing_is_lost_or_comes_again_while_leaders_move() {
    let broker = Broker::builder()
        .nodes(3)
        .property("offsets.topic.replication.factor", "1")
        // Leaders come back to their brokers at once.
        .property("leader.imbalance.check.interval.seconds", "1")
        .property("leader.imbalance.per.broker.percentage", "0")
        .start()
        .await;
    let process = Process::new(&broker).await;
    let orders = topic("members-moved");
    let once = [("min.insync.replicas", "1")];
    process.plain.create_topic(&orders, 6, &once).await;
    let mut member = process.join(earliest("moved", &orders));
    member.until(|seen| seen.assigned.len() == 6).await;
    let coordinator = process.plain.leader("__consumer_offsets", 0).await.unwrap();
    let others: Vec<i32> = (1..=3).filter(|id| *id != coordinator).collect();
    let node = |id: i32| broker.node(id.unsigned_abs());

    let over = Arc::new(AtomicBool::new(false));
    let written = Arc::new(AtomicUsize::new(0));
    let writing = {
        let (plain, orders) = (broker.plain(), orders.clone());
        let (over, written) = (Arc::clone(&over), Arc::clone(&written));
        tokio::spawn(async move {
            for n in 0.. {
                if over.load(Ordering::Relaxed) {
                    break;
                }
                let record = OutgoingRecord {
                    topic: &orders,
                    partition: Some(n % 6),
                    value: Some(b"0"),
                    ..OutgoingRecord::default()
                };
                plain.produce(record).await;
                written.fetch_add(1, Ordering::Relaxed);
                sleep(Duration::from_millis(5)).await;
            }
        })
    };
    let changing = async {
        // How many brokers lead in the end.
        let led_by = async |count: usize| {
            eventually(LONG, async || {
                let plain = broker.plain();
                let mut leaders = BTreeSet::new();
                for partition in 0..6 {
                    leaders.insert(plain.leader(&orders, partition).await);
                }
                leaders.len() == count && !leaders.contains(&None)
            })
            .await;
            // Some seconds of records.
            let enough = written.load(Ordering::Relaxed) + 500;
            eventually(LONG, async || written.load(Ordering::Relaxed) >= enough).await;
        };
        led_by(3).await;
        node(others[0]).kill();
        led_by(2).await;
        node(others[1]).kill();
        led_by(1).await;
        node(others[0]).restart().await;
        node(others[1]).restart().await;
        led_by(3).await;
        over.store(true, Ordering::Relaxed);
    };
    // Events are taken meanwhile.
    tokio::select! {
        () = changing => {}
        () = member.during(LONG * 5) => panic!("leaders did not move"),
    }
    writing.await.unwrap();

    read_all(&process, &mut member, &orders, 6).await;
    assert_exact(&process, &[&member], &orders, 6).await;
    assert!(
        member.gaps.is_empty() && member.lost.is_empty(),
        "{member:?}"
    );
    let mut times = Vec::new();
    for _ in 0..60 {
        times.push(way(&process, &mut member, &orders, 0).await);
    }
    assert!(quantile(times, 50) < PROMPT);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pauses_seeks_and_rebalances_hold_for_partitions_of_several_brokers() {
    let broker = Broker::builder().nodes(3).fast_groups().start().await;
    let process = Process::new(&broker).await;
    let orders = topic("members-lanes");
    let nodes = [1, 2, 3, 1, 2, 3];
    process.plain.create_topic_on(&orders, &nodes, &[]).await;
    process.write(&orders, 6, 0..600).await;
    let mut first = process.join(earliest("lanes", &orders));
    first.until(|seen| seen.records.len() == 600).await;

    // One of each broker, and all of one.
    let paused: Vec<_> = [0, 1, 3].map(|partition| at(&orders, partition)).into();
    for round in 1..=5 {
        first.command(Command::Pause(paused.clone()));
        // An answer that comes after the pause: it has been served.
        first.ends().await;
        let held: Vec<i64> = paused.iter().map(|place| first.next[place]).collect();
        process
            .write(&orders, 6, 600 * round..600 * (round + 1))
            .await;
        for partition in [2, 4, 5] {
            let place = at(&orders, partition);
            let end = i64::from(100 * (round + 1));
            first.until(|seen| seen.next[&place] == end).await;
        }
        first.during(Duration::from_millis(700)).await;
        let still: Vec<i64> = paused.iter().map(|place| first.next[place]).collect();
        assert_eq!(still, held, "nothing of what is paused");
        first.command(Command::Resume(paused.clone()));
        read_all(&process, &mut first, &orders, 6).await;
    }
    assert_exact(&process, &[&first], &orders, 6).await;

    // Sent elsewhere while records come: what comes after the answer is from there on, which `note`
    // checks, and all of it.
    for (round, partition) in [0, 4, 2, 5, 1, 3].into_iter().enumerate() {
        let place = at(&orders, partition);
        let round = i32::try_from(round).unwrap();
        let from = 3600 + 600 * round;
        let writing = process.write(&orders, 6, from..from + 600);
        let seeking = first.seek(place.clone(), SeekTo::Offset(i64::from(round) * 50));
        let ((), sought) = tokio::join!(writing, seeking);
        assert_eq!(sought, Ok(i64::from(round) * 50));
        first.records.clear();
        let start = first.next[&place];
        read_all(&process, &mut first, &orders, 6).await;
        let of = first.records.iter().filter(|r| r.partition == partition);
        let offsets: Vec<i64> = of.map(|record| record.offset).collect();
        let (_, end) = process.plain.watermarks(&orders, partition).await;
        assert_eq!(offsets, (start..end).collect::<Vec<_>>());
    }
    assert!(first.gaps.is_empty());

    // Shared with another, and back.
    let offsets: Vec<_> = first.next.clone().into_iter().collect();
    first.commit(&offsets).await;
    first.records.clear();
    let mut second = process.join(earliest("lanes", &orders));
    let both = async |first: &mut Watched, second: &mut Watched, count: usize| {
        let end = Instant::now() + LONG;
        while first.records.len() + second.records.len() < count
            || first.assigned.len() != 3
            || second.assigned.len() != 3
        {
            assert!(Instant::now() < end, "{first:?} {second:?}");
            first.during(Duration::from_millis(50)).await;
            second.during(Duration::from_millis(50)).await;
        }
    };
    both(&mut first, &mut second, 0).await;
    process.write(&orders, 6, 0..600).await;
    both(&mut first, &mut second, 600).await;
    first.during(Duration::from_millis(500)).await;
    second.during(Duration::from_millis(500)).await;
    assert_eq!(first.records.len() + second.records.len(), 600);
    let mut times = Vec::new();
    let mine = first.assigned.first().unwrap().partition;
    for _ in 0..60 {
        times.push(way(&process, &mut first, &orders, mine).await);
    }
    assert!(quantile(times, 50) < PROMPT);
    let of_second: Vec<_> = second
        .assigned
        .iter()
        .map(|place| (place.clone(), second.next[place]))
        .collect();
    second.commit(&of_second).await;
    let second = second.leave().await;
    first.until(|seen| seen.assigned.len() == 6).await;
    process.write(&orders, 6, 0..600).await;
    read_all(&process, &mut first, &orders, 6).await;
    first.during(Duration::from_millis(500)).await;
    let count = first.records.len() + second.records.len();
    assert_eq!(count, 600 + 60 + 600, "nothing lost, nothing twice");
    assert_eq!(first.state, Some(State::Active));
    assert!(first.lost.is_empty() && first.gaps.is_empty());
    first.leave().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_read_ahead_of_a_paused_partition_does_not_hold_up_others() {
    let broker = Broker::builder().nodes(2).fast_groups().start().await;
    let process = Process::new(&broker).await;
    for nodes in [[1, 1].as_slice(), &[1, 1, 2]] {
        let orders = topic("members-ahead");
        process.plain.create_topic_on(&orders, nodes, &[]).await;
        process.write(&orders, 2, 0..10_000).await;
        let mut member = process.join(earliest(&orders, &orders));
        // In the midst of them: as many as one answer holds are with the client library by now.
        member.until(|seen| seen.records.len() > 1_000).await;
        for paused in [0, 1] {
            let (paused, other) = (at(&orders, paused), at(&orders, 1 - paused));
            member.command(Command::Pause(vec![paused.clone()]));
            let way = member.next[&other] + 2_000;
            member.until(|seen| seen.next[&other] >= way).await;
            member.command(Command::Resume(vec![paused]));
        }
        member.until(|seen| seen.records.len() == 10_000).await;
        assert_exact(&process, &[&member], &orders, 2).await;
        member.leave().await;
    }
}
