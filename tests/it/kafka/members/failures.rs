//! Brokers and processes that are away, freeze, or die.

use std::collections::BTreeSet;
use std::time::Duration;

use tidegate::kafka::member::{Options, State, Timing};
use tokio::time::Instant;

use super::{LONG, Process, at, earliest, kafka, value};
use crate::support::broker::Broker;
use crate::support::topic;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: the broker is killed and started again"]
async fn members_last_longer_than_their_brokers() {
    // Sessions as long as they are by default: a member is back in time.
    let broker = Broker::builder()
        .fast_groups()
        .property("group.consumer.session.timeout.ms", "45000")
        .start()
        .await;
    let process = Process::new(&broker).await;
    let orders = topic("members-down");
    process.plain.create_topic(&orders, 2, &[]).await;
    process.write(&orders, 2, 0..20).await;
    // Longer than a broker takes to start, however busy the machine is.
    let timing = Timing {
        commit: LONG * 4,
        ..Timing::default()
    };
    let mut member = process.join_within(timing, earliest("down", &orders));
    member.until(|seen| seen.records.len() == 20).await;

    broker.kill();
    let killed = Instant::now();
    member
        .until(|seen| matches!(seen.state, Some(State::Unavailable(_))))
        .await;
    let noticed = killed.elapsed();
    // Five seconds where there is nothing else to do; what is not asked for shows after a request's
    // thirty.
    assert!(noticed < Duration::from_secs(25), "{noticed:?}");
    let first = member.order_commit(&[(at(&orders, 0), 3)]);
    let second = member.order_commit(&[(at(&orders, 0), 4)]);
    member.during(Duration::from_secs(3)).await;
    assert!(member.committed.is_empty());

    broker.restart().await;
    member.until(|seen| seen.state == Some(State::Active)).await;
    member.until(|seen| seen.committed.len() == 2).await;
    assert_eq!(member.committed[&first], [(at(&orders, 0), Ok(3))]);
    assert_eq!(member.committed[&second], [(at(&orders, 0), Ok(4))]);
    process.write(&orders, 2, 20..40).await;
    member.until(|seen| seen.records.len() >= 40).await;
    assert_eq!(member.records.len(), 40, "nothing twice");
    assert_eq!(member.values(), (0..40).collect());
    assert!(member.gaps.is_empty());
    assert_eq!(process.plain.committed("down", &orders, 0).await, Some(4));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: the broker stays frozen for longer than a session"]
async fn a_session_that_timed_out_is_lost_and_joined_again() {
    let broker = Broker::builder()
        .fast_groups()
        .property("group.consumer.session.timeout.ms", "3000")
        .start()
        .await;
    let process = Process::new(&broker).await;
    let orders = topic("members-frozen");
    process.plain.create_topic(&orders, 1, &[]).await;
    process.write(&orders, 1, 0..10).await;
    let mut member = process.join(earliest("frozen", &orders));
    member.until(|seen| seen.records.len() == 10).await;
    member.commit(&[(at(&orders, 0), 6)]).await;

    broker.pause();
    member
        .until(|seen| matches!(seen.state, Some(State::Unavailable(_))))
        .await;
    // Longer than the session, whatever the broker did when it stood still.
    member.during(Duration::from_secs(5)).await;
    broker.resume();

    member.until(|seen| seen.state == Some(State::Active)).await;
    process.write(&orders, 1, 10..20).await;
    // The broker may know before the member does that its time has run out: then a commit is refused.
    let end = Instant::now() + LONG;
    loop {
        assert!(Instant::now() < end, "{member:?}");
        member
            .until(|seen| seen.values() == (0..20).collect() && seen.assigned.len() == 1)
            .await;
        let token = member.order_commit(&[(at(&orders, 0), 20)]);
        member
            .until(|seen| seen.committed.contains_key(&token))
            .await;
        if member.committed[&token][0].1.is_ok() {
            break;
        }
    }
    if !member.lost.is_empty() {
        assert_eq!(member.starts[1].start, 6, "from what was committed");
    }
    assert_eq!(
        process.plain.committed("frozen", &orders, 0).await,
        Some(20)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_whose_process_died_is_replaced() {
    let process = Process::new(kafka().await).await;
    let orders = topic("members-died");
    process.plain.create_topic(&orders, 2, &[]).await;
    process.write(&orders, 2, 0..20).await;
    // A runtime that ends is a process that does: nobody takes leave.
    let dying = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let options = earliest("died", &orders);
    let place = at(&orders, 0);
    let read = dying.spawn(async move {
        let process = Process::new(kafka().await).await;
        let mut first = process.join(options);
        first.until(|seen| seen.records.len() == 20).await;
        first.commit(&[(place, 6)]).await;
        (process, first)
    });
    let died = read.await.unwrap();
    dying.shutdown_background();

    let mut second = process.join(earliest("died", &orders));
    second.until(|seen| seen.assigned.len() == 2).await;
    second.until(|seen| seen.records.len() == 14).await;
    let starts: BTreeSet<i64> = second.starts.iter().map(|one| one.start).collect();
    assert_eq!(starts, BTreeSet::from([0, 6]));
    std::mem::forget(died);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: starts three brokers and kills one"]
async fn a_coordinator_that_died_is_followed() {
    let broker = Broker::builder().nodes(3).fast_groups().start().await;
    let process = Process::new(&broker).await;
    let orders = topic("members-coordinator");
    process.plain.create_topic(&orders, 3, &[]).await;
    process.write(&orders, 3, 0..30).await;
    let mut members = Vec::new();
    for instance_id in [None, Some("one".to_owned())] {
        let group = format!("coordinator-{instance_id:?}");
        let mut member = process.join(Options {
            instance_id,
            ..earliest(&group, &orders)
        });
        member.until(|seen| seen.records.len() == 30).await;
        let offsets: Vec<_> = member.next.clone().into_iter().collect();
        member.commit(&offsets).await;
        members.push(member);
    }

    let coordinator = process.plain.leader("__consumer_offsets", 0).await.unwrap();
    broker.node(u32::try_from(coordinator).unwrap()).kill();
    process.write(&orders, 3, 30..60).await;

    for mut member in members {
        // While nobody coordinates, its time may run out: then it joins again, also during a commit.
        let mut committed = false;
        let end = Instant::now() + LONG;
        while !committed {
            assert!(Instant::now() < end, "{member:?}");
            member
                .until(|seen| seen.values() == (0..60).collect() && seen.assigned.len() == 3)
                .await;
            let offsets: Vec<_> = member.next.clone().into_iter().collect();
            let token = member.order_commit(&offsets);
            member
                .until(|seen| seen.committed.contains_key(&token))
                .await;
            let results = &member.committed[&token];
            committed = results.iter().all(|(_, result)| result.is_ok());
        }
        // What was committed before does not come again.
        assert_eq!(member.records.iter().filter(|r| value(r) < 30).count(), 30);
    }
}
