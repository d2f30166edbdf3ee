//! Members that share a group: partitions that are revoked and given, members that come and go.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tidegate::kafka::member::{Command, Options, State, Timing};
use tidegate::record::TopicPartition;
use tokio::time::Instant;

use super::{LONG, Process, Watched, at, earliest, kafka, value};
use crate::support::{eventually, topic};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoke_waits_for_its_release_and_takes_commits() {
    let process = Process::new(kafka().await).await;
    let orders = topic("members-revoked");
    process.plain.create_topic(&orders, 4, &[]).await;
    process.write(&orders, 4, 0..40).await;
    // Not over before all of this is done.
    let timing = Timing {
        release: LONG * 2,
        ..Timing::default()
    };
    let mut first = process.join_within(timing, earliest("revoked", &orders));
    first.releases = false;
    first.until(|seen| seen.records.len() == 40).await;

    let mut second = process.join(earliest("revoked", &orders));
    first.until(|seen| seen.release.is_some()).await;
    let revoked = first.revoked.clone();
    assert_eq!(revoked.len(), 2);
    // Long enough for the other one to get them, if it could.
    second.during(Duration::from_secs(3)).await;
    assert!(second.starts.is_empty(), "{second:?}");
    let offsets: Vec<_> = revoked.iter().map(|p| (p.clone(), 6)).collect();
    first.commit(&offsets).await;
    // Ordered before the release, and not waited for.
    let token = first.order_commit(&[(revoked[0].clone(), 8)]);
    first.release = None;

    second.until(|seen| seen.assigned.len() == 2).await;
    for start in &second.starts {
        let committed = if start.partition == revoked[0] { 8 } else { 6 };
        assert_eq!((start.start, start.committed), (committed, Some(committed)));
    }
    second.until(|seen| seen.records.len() == 6).await;
    first
        .until(|seen| seen.committed.contains_key(&token))
        .await;
    assert_eq!(first.committed[&token], [(revoked[0].clone(), Ok(8))]);
    // What is another one's is not overwritten.
    let late = first.order_commit(&[(revoked[0].clone(), 3)]);
    first.until(|seen| seen.committed.contains_key(&late)).await;
    assert!(first.committed[&late][0].1.is_err());
    let committed = process
        .plain
        .committed("revoked", &orders, revoked[0].partition);
    assert_eq!(committed.await, Some(8));
    assert!(first.lost.is_empty() && second.lost.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dropped_member_gives_its_partitions_to_the_others() {
    let process = Process::new(kafka().await).await;
    let orders = topic("members-dropped");
    process.plain.create_topic(&orders, 2, &[]).await;
    process.write(&orders, 2, 0..10).await;
    let first = process.join(earliest("dropped", &orders));
    let mut second = process.join(earliest("dropped", &orders));
    second.until(|seen| !seen.assigned.is_empty()).await;

    drop(first);

    second.until(|seen| seen.assigned.len() == 2).await;
    // Where it started, and nothing of what it had.
    for partition in 0..2 {
        let committed = process.plain.committed("dropped", &orders, partition);
        assert_eq!(committed.await, Some(0));
    }
    drop(second);
    // Nothing keeps a consumer: their seats are free.
    eventually(LONG, || async { process.cluster.members.seats() == (0, 0) }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_release_that_is_held_too_long_is_not_waited_for() {
    let process = Process::new(kafka().await).await;
    let orders = topic("members-held");
    process.plain.create_topic(&orders, 2, &[]).await;
    let timing = Timing {
        release: Duration::from_secs(2),
        ..Timing::default()
    };
    let mut first = process.join_within(timing, earliest("held", &orders));
    first.releases = false;
    first.until(|seen| seen.assigned.len() == 2).await;

    let mut second = process.join(earliest("held", &orders));
    first.until(|seen| !seen.lost.is_empty()).await;

    assert!(first.release.is_some());
    assert_eq!(first.lost, first.revoked);
    second.until(|seen| seen.assigned.len() == 1).await;
    first.until(|seen| seen.assigned.len() == 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_static_member_waits_for_its_instance_id() {
    let process = Process::new(kafka().await).await;
    let orders = topic("members-static");
    process.plain.create_topic(&orders, 1, &[]).await;
    process.write(&orders, 1, 0..10).await;
    let options = Options {
        instance_id: Some("one".to_owned()),
        ..earliest("static", &orders)
    };
    let mut first = process.join(options.clone());
    first.until(|seen| seen.records.len() == 10).await;
    first.commit(&[(at(&orders, 0), 10)]).await;

    let mut second = process.join(options.clone());
    second
        .until(|seen| {
            matches!(&seen.state, Some(State::Joining(Some(fault)))
            if fault.kafka_error == Some("UNRELEASED_INSTANCE_ID"))
        })
        .await;
    first.command(Command::Leave { stay: true });
    first.until(|seen| seen.ended.is_some()).await;
    assert_eq!(first.ended, Some(None));

    second.until(|seen| seen.assigned.len() == 1).await;
    assert_eq!(second.starts[0].start, 10);

    let timing = Timing {
        unreleased: Duration::from_secs(3),
        ..Timing::default()
    };
    let mut third = process.join_within(timing, options);
    third.until(|seen| seen.ended.is_some()).await;
    let fault = third.ended.unwrap().unwrap();
    assert_eq!(fault.kafka_error, Some("UNRELEASED_INSTANCE_ID"));
    second.leave().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_members_than_partitions_wait_for_one() {
    let process = Process::new(kafka().await).await;
    let orders = topic("members-more");
    process.plain.create_topic(&orders, 1, &[]).await;
    let mut first = process.join(earliest("more", &orders));
    first.until(|seen| seen.assigned.len() == 1).await;

    let mut second = process.join(earliest("more", &orders));
    second
        .until(|seen| seen.state == Some(State::Active) && seen.assignments > 0)
        .await;
    assert!(second.assigned.is_empty());
    first.leave().await;
    second.until(|seen| seen.assigned.len() == 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_members_share_connections() {
    let process = Process::with_connections(kafka().await, 2).await;
    let orders = topic("members-many");
    process.plain.create_topic(&orders, 1, &[]).await;
    process.write(&orders, 1, 0..1).await;

    let joins = (0..200).map(|n| {
        let mut member = process.join(earliest(&format!("many-{n}"), &orders));
        async move {
            member.until(|seen| seen.records.len() == 1).await;
            member
        }
    });
    let mut members = futures::future::join_all(joins).await;
    assert_eq!(process.cluster.members.seats(), (2, 198));

    process.write(&orders, 1, 1..2).await;
    let reads = members
        .iter_mut()
        .map(|member| member.until(|seen| seen.records.len() == 2));
    futures::future::join_all(reads).await;
    futures::future::join_all(members.into_iter().map(Watched::leave)).await;
    assert_eq!(process.cluster.members.seats(), (0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: twenty seconds of members that come and go"]
async fn nothing_is_lost_while_members_come_and_go() {
    let process = Process::new(kafka().await).await;
    let orders = topic("members-churn");
    process.plain.create_topic(&orders, 8, &[]).await;
    let end = Instant::now() + Duration::from_secs(20);
    let writing = async {
        let mut written = 0;
        while Instant::now() < end {
            process.write(&orders, 8, written..written + 100).await;
            written += 100;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        written
    };
    // What was committed, and how often each record was.
    let counted = std::sync::Mutex::new(BTreeMap::<i32, u32>::new());
    let reading = async {
        let handle = async |seen: &mut Watched| {
            let records = std::mem::take(&mut seen.records);
            if records.is_empty() {
                return;
            }
            let mine: Vec<_> = records
                .iter()
                .filter(|r| seen.assigned.contains(&at(&r.topic, r.partition)))
                .collect();
            let mut next = BTreeMap::new();
            for record in &mine {
                next.insert(at(&record.topic, record.partition), record.offset + 1);
            }
            let values: Vec<(TopicPartition, i32)> = mine
                .iter()
                .map(|r| (at(&r.topic, r.partition), value(r)))
                .collect();
            let offsets: Vec<_> = next.into_iter().collect();
            let token = seen.order_commit(&offsets);
            seen.until(|seen| seen.committed.contains_key(&token)).await;
            let results = seen.committed.remove(&token).unwrap();
            let mut counted = counted.lock().unwrap();
            for (partition, value) in values {
                if results.iter().any(|(p, r)| *p == partition && r.is_ok()) {
                    *counted.entry(value).or_default() += 1;
                }
            }
        };
        let mut members: Vec<Watched> = Vec::new();
        let mut round = 0;
        while Instant::now() < end {
            round += 1;
            match round % 3 {
                // One is dropped without a word, one leaves.
                0 if members.len() > 2 => drop(members.remove(0)),
                1 if members.len() > 2 => {
                    let mut member = members.remove(0);
                    handle(&mut member).await;
                    member.leave().await;
                }
                _ => members.push(process.join(earliest("churn", &orders))),
            }
            let until = Instant::now() + Duration::from_millis(1500);
            while Instant::now() < until {
                for member in &mut members {
                    member.during(Duration::from_millis(20)).await;
                    handle(member).await;
                }
            }
        }
        members
    };
    let (written, mut members) = tokio::join!(writing, reading);
    let mut last = process.join(earliest("churn", &orders));
    for member in members.drain(..) {
        member.leave().await;
    }
    let total = async |last: &Watched| {
        let mut all: BTreeSet<i32> = counted.lock().unwrap().keys().copied().collect();
        all.extend(last.values());
        all.len()
    };
    let all = usize::try_from(written).unwrap();
    let bound = Instant::now() + LONG;
    while total(&last).await < all {
        assert!(Instant::now() < bound, "{} of {all}", total(&last).await);
        last.during(Duration::from_millis(200)).await;
    }
    let twice = counted.lock().unwrap().values().filter(|n| **n > 1).count();
    assert!(
        twice * 50 < all,
        "{twice} of {all} were committed more than once"
    );
}
