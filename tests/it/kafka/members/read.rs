//! What a member reads, where it starts, and what it commits.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tidegate::kafka::admin::Isolation;
use tidegate::kafka::fault::FaultKind;
use tidegate::kafka::member::{Command, GroupStart, OffsetReset, Options, SeekTo, State, Timing};

use super::{LONG, Process, at, earliest, kafka};
use crate::support::kafka_client::OutgoingRecord;
use crate::support::{eventually, topic};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_reads_commits_and_leaves() {
    let process = Process::new(kafka().await).await;
    let orders = topic("members-orders");
    process.plain.create_topic(&orders, 3, &[]).await;
    process.write(&orders, 3, 0..30).await;

    let mut member = process.join(earliest("reads-and-commits", &orders));
    member.until(|seen| seen.records.len() == 30).await;

    assert_eq!(member.values(), (0..30).collect());
    assert_eq!(member.states[0], State::Joining(None));
    assert_eq!(member.state, Some(State::Active));
    for start in &member.starts {
        assert_eq!((start.start, start.committed, start.end), (0, Some(0), 10));
    }
    let ends = member.ends().await;
    assert_eq!(ends, member.next, "all of it was read");
    let offsets: Vec<_> = member.next.clone().into_iter().collect();
    member.commit(&offsets).await;
    member.commit(&[(at(&orders, 1), 7)]).await;
    member.leave().await;

    let mut committed = Vec::new();
    for partition in 0..3 {
        let plain = &process.plain;
        committed.push(
            plain
                .committed("reads-and-commits", &orders, partition)
                .await,
        );
    }
    assert_eq!(committed, [Some(10), Some(7), Some(10)]);

    let mut next = process.join(earliest("reads-and-commits", &orders));
    next.until(|seen| seen.records.len() == 3).await;
    assert_eq!(next.values(), BTreeSet::from([22, 25, 28]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: nobody takes events for several poll intervals"]
async fn a_member_whose_events_are_not_taken_stays_and_gives_all_records() {
    let process = Process::new(kafka().await).await;
    let orders = topic("members-slow");
    process.plain.create_topic(&orders, 2, &[]).await;
    process.write(&orders, 2, 0..6000).await;
    let timing = Timing {
        poll_interval: Duration::from_secs(2),
        ..Timing::default()
    };
    let mut member = process.join_within(timing, earliest("slow", &orders));
    member.until(|seen| !seen.records.is_empty()).await;

    // Several times what a member may be silent for, and longer than its session.
    tokio::time::sleep(Duration::from_secs(12)).await;

    member.until(|seen| seen.records.len() == 6000).await;
    assert_eq!(member.values(), (0..6000).collect());
    assert!(member.lost.is_empty() && member.revoked.is_empty());
    assert_eq!(member.assignments, 1);
    let offsets: Vec<_> = member.next.clone().into_iter().collect();
    member.commit(&offsets).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paused_partition_is_silent_and_a_seek_goes_anywhere() {
    let process = Process::new(kafka().await).await;
    let orders = topic("members-seek");
    process.plain.create_topic(&orders, 2, &[]).await;
    process.write(&orders, 2, 0..20).await;
    let mut member = process.join(earliest("seek", &orders));
    member.until(|seen| seen.records.len() == 20).await;
    let (zero, one) = (at(&orders, 0), at(&orders, 1));

    member.command(Command::Pause(vec![zero.clone(), at(&orders, 9)]));
    // Commands are served in order: it is paused when the next one is answered.
    member.ends().await;
    process.write(&orders, 2, 20..40).await;
    member
        .until(|seen| seen.next[&at(&seen.records[0].topic, 1)] == 20)
        .await;
    member.during(Duration::from_secs(1)).await;
    assert_eq!(member.next[&zero], 10, "nothing of what is paused");
    member.command(Command::Resume(vec![zero.clone()]));
    member.until(|seen| seen.records.len() == 40).await;

    member.commit(&[(one.clone(), 12)]).await;
    let time = member
        .records
        .iter()
        .find(|r| r.partition == 1 && r.offset == 15)
        .unwrap();
    let (time, later) = (time.timestamp, time.timestamp + 3_600_000);
    for (to, offset) in [
        (SeekTo::Offset(3), 3),
        (SeekTo::Beginning, 0),
        (SeekTo::Committed, 12),
        (SeekTo::End, 20),
        (SeekTo::Time(later), 20),
        // Behind the log: its end.
        (SeekTo::Offset(21), 20),
    ] {
        member.records.clear();
        assert_eq!(member.seek(one.clone(), to).await, Ok(offset), "{to:?}");
        // All that comes from now on comes from there, which `note` checks.
        let missing = usize::try_from(20 - offset).unwrap();
        member.records.clear();
        member.until(|seen| seen.records.len() == missing).await;
        assert!(member.records.iter().all(|record| record.partition == 1));
    }
    let found = member.seek(one.clone(), SeekTo::Time(time)).await.unwrap();
    assert!((10..=15).contains(&found), "{found}");

    let strange = member.seek(at(&orders, 7), SeekTo::Beginning).await;
    assert_eq!(strange.unwrap_err().kind, FaultKind::NotFound);
    assert!(member.gaps.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn aborted_records_and_markers_are_passed_over() {
    let process = Process::new(kafka().await).await;
    let orders = topic("members-transactions");
    process.plain.create_topic(&orders, 1, &[]).await;
    let record = |value: &'static str| OutgoingRecord {
        topic: &orders,
        partition: Some(0),
        value: Some(value.as_bytes()),
        ..OutgoingRecord::default()
    };
    process.plain.produce(record("0")).await;
    let aborted = process.plain.transaction("members-aborts").await;
    aborted.produce(record("1")).await;
    aborted.abort().await;
    let kept = process.plain.transaction("members-commits").await;
    kept.produce(record("2")).await;
    kept.commit().await;
    let place = at(&orders, 0);

    let mut member = process.join(earliest("transactions", &orders));
    // A record, an aborted one and its marker, a kept one and its marker.
    member.until(|seen| seen.next.get(&place) == Some(&5)).await;
    assert_eq!(member.values(), BTreeSet::from([0, 2]));
    assert_eq!(member.ends().await, member.next, "the lag is none");

    // Only markers and what was aborted.
    let aborted = process.plain.transaction("members-aborts").await;
    aborted.produce(record("3")).await;
    member.during(Duration::from_secs(1)).await;
    assert_eq!(member.ends().await[&place], 5, "open is not there yet");
    aborted.abort().await;
    member.until(|seen| seen.next[&place] == 7).await;
    assert_eq!(member.ends().await[&place], 7);

    let mut other = process.join(Options {
        isolation: Isolation::Uncommitted,
        ..earliest("transactions-all", &orders)
    });
    other.until(|seen| seen.next.get(&place) == Some(&7)).await;
    assert_eq!(other.values(), BTreeSet::from([0, 1, 2, 3]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_retention_took_is_a_gap() {
    let process = Process::new(kafka().await).await;
    for (reset, to) in [
        (OffsetReset::Earliest, Some(15)),
        (OffsetReset::Latest, Some(15)),
        (OffsetReset::Error, None),
    ] {
        let orders = topic("members-gap");
        // Of one broker, whose fetches are of both partitions.
        process.plain.create_topic_on(&orders, &[1, 1], &[]).await;
        process.write(&orders, 2, 0..10).await;
        let group = format!("gap-{reset:?}");
        let mut member = process.join(Options {
            reset,
            from: GroupStart::Earliest,
            ..Options::new(&*group, [&*orders])
        });
        member.until(|seen| seen.records.len() == 10).await;
        let place = at(&orders, 0);
        member.command(Command::Pause(vec![place.clone()]));
        // Commands are served in order: it is paused when the next one is answered. And a fetch that
        // is under way, which may bring what is paused, has ended when a record of another partition
        // comes that was written after that.
        member.ends().await;
        process.write(&orders, 2, 1..2).await;
        member.until(|seen| seen.records.len() == 11).await;
        process.write(&orders, 2, 10..40).await;
        process.plain.delete_records(&orders, 0, 15).await;

        member.command(Command::Resume(vec![place.clone()]));

        let Some(to) = to else {
            member.until(|seen| seen.ended.is_some()).await;
            let fault = member.ended.unwrap().unwrap();
            assert_eq!(fault.kind, FaultKind::OffsetOutOfRange);
            assert!(fault.message.contains("Partition 0"), "{fault}");
            continue;
        };
        member.until(|seen| !seen.gaps.is_empty()).await;
        assert_eq!(member.gaps, [(place.clone(), 5, to)]);
        let committed = process.plain.committed(&group, &orders, 0).await;
        assert_eq!(committed, Some(to), "before the first record");
        member
            .until(|seen| seen.next[&place] == 20 && seen.next[&at(&orders, 1)] == 21)
            .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metrics_tell_of_lag_rebalances_and_commits() {
    // The only test of this binary that has the process' recorder.
    let metrics = tidegate::observe::metrics::install().unwrap();
    let process = Process::new(kafka().await).await;
    let orders = topic("members-lag");
    process.plain.create_topic(&orders, 1, &[]).await;
    process.write(&orders, 1, 0..4000).await;
    let of = |name: &str| {
        let rendered = tidegate::observe::metrics::render(&metrics);
        let line = rendered
            .lines()
            .find(|line| line.starts_with(name) && line.contains("lag-group"))?;
        line.rsplit(' ').next()?.parse::<f64>().ok()
    };
    let lag = || {
        of(&format!(
            "kafka_consumer_lag{{group=\"lag-group\",topic=\"{orders}\""
        ))
    };

    let mut member = process.join(earliest("lag-group", &orders));
    // Nobody takes them.
    eventually(LONG, || async { lag().is_some_and(|lag| lag > 1000.0) }).await;
    member.until(|seen| seen.records.len() == 4000).await;
    // Nothing is committed yet.
    assert_eq!(lag(), Some(4000.0));
    assert!(of("kafka_group_rebalances_total").is_some_and(|count| count >= 1.0));
    member.commit(&[(at(&orders, 0), 4000)]).await;
    assert!(
        metrics
            .render()
            .contains("kafka_commit_duration_seconds_count")
    );
    assert_eq!(lag(), Some(0.0));
    // More is written, and nobody reads it.
    member.command(Command::Pause(vec![at(&orders, 0)]));
    process.write(&orders, 1, 4000..4010).await;
    eventually(LONG, || async { lag() == Some(10.0) }).await;
    member.leave().await;
    // The group has no member any more: somebody else commits for it, and then its topic goes.
    process.write(&orders, 1, 4010..4020).await;
    eventually(LONG, || async { lag() == Some(20.0) }).await;
    process.plain.commit("lag-group", &orders, 0, 4015).await;
    eventually(LONG, || async { lag() == Some(5.0) }).await;
    process.plain.delete_topic(&orders).await;
    eventually(LONG, || async { lag().is_none() }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_tells_what_became_of_each_partition() {
    let process = Process::new(kafka().await).await;
    let orders = topic("members-each");
    process.plain.create_topic(&orders, 3, &[]).await;
    let mut member = process.join(earliest("each", &orders));
    member.until(|seen| seen.assigned.len() == 3).await;

    let text = |length| Some("x".repeat(length));
    member.command(Command::Commit {
        token: 7,
        offsets: vec![
            (at(&orders, 0), 1, text(4)),
            // More than a broker keeps.
            (at(&orders, 1), 2, text(5000)),
            (at(&orders, 2), 3, None),
            (at(&orders, 9), 4, None),
        ],
    });
    member.until(|seen| seen.committed.contains_key(&7)).await;

    let results: BTreeMap<_, _> = member.committed.remove(&7).unwrap().into_iter().collect();
    assert_eq!(results[&at(&orders, 0)], Ok(1));
    let refused = results[&at(&orders, 1)].clone().unwrap_err();
    assert_eq!(refused.kafka_error, Some("OFFSET_METADATA_TOO_LARGE"));
    assert_eq!(results[&at(&orders, 2)], Ok(3));
    let strange = results[&at(&orders, 9)].clone().unwrap_err();
    assert_eq!(strange.kind, FaultKind::NotFound);
    let mut committed = Vec::new();
    for partition in 0..3 {
        committed.push(process.plain.committed("each", &orders, partition).await);
    }
    assert_eq!(committed, [Some(1), Some(0), Some(3)]);
}
