//! Where a member starts, and that the group has a position from then on. What is committed is looked at
//! with the plain client.

use tidegate::kafka::fault::FaultKind;
use tidegate::kafka::member::{Assigned, Command, GroupStart, OffsetReset, Options};

use super::{Process, at, earliest, kafka};
use crate::support::topic;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_is_what_is_committed_or_where_from_and_reset_say_and_is_committed() {
    let process = Process::new(kafka().await).await;
    let orders = topic("members-from");
    process.plain.create_topic(&orders, 1, &[]).await;
    process.write(&orders, 1, 0..20).await;
    process.plain.delete_records(&orders, 0, 5).await;
    let place = at(&orders, 0);

    let positions = |offset| GroupStart::Positions(vec![(place.clone(), offset)]);
    for (n, (from, reset, committed, start, missed)) in [
        (GroupStart::Committed, OffsetReset::Earliest, None, 5, None),
        (GroupStart::Committed, OffsetReset::Latest, None, 20, None),
        (GroupStart::Earliest, OffsetReset::Latest, None, 5, None),
        (GroupStart::Latest, OffsetReset::Earliest, None, 20, None),
        (GroupStart::Time(0), OffsetReset::Latest, None, 5, None),
        (
            GroupStart::Time(i64::MAX),
            OffsetReset::Latest,
            None,
            20,
            None,
        ),
        (positions(11), OffsetReset::Latest, None, 11, None),
        (positions(1), OffsetReset::Latest, None, 5, Some(1)),
        (positions(99), OffsetReset::Earliest, None, 20, Some(99)),
        (
            GroupStart::Positions(Vec::new()),
            OffsetReset::Earliest,
            None,
            5,
            None,
        ),
        // What is committed comes first.
        (GroupStart::Committed, OffsetReset::Error, Some(7), 7, None),
        (
            GroupStart::Committed,
            OffsetReset::Earliest,
            Some(20),
            20,
            None,
        ),
        (
            GroupStart::Earliest,
            OffsetReset::Earliest,
            Some(7),
            7,
            None,
        ),
        (GroupStart::Latest, OffsetReset::Latest, Some(7), 7, None),
        (GroupStart::Time(0), OffsetReset::Latest, Some(7), 7, None),
        (positions(11), OffsetReset::Latest, Some(7), 7, None),
        // Below the log is its beginning, and above it its end.
        (
            GroupStart::Committed,
            OffsetReset::Earliest,
            Some(2),
            5,
            Some(2),
        ),
        (
            GroupStart::Committed,
            OffsetReset::Latest,
            Some(2),
            5,
            Some(2),
        ),
        (
            GroupStart::Committed,
            OffsetReset::Earliest,
            Some(99),
            20,
            Some(99),
        ),
        (
            GroupStart::Committed,
            OffsetReset::Latest,
            Some(99),
            20,
            Some(99),
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let group = format!("from-{n}");
        if let Some(offset) = committed {
            process.plain.commit(&group, &orders, 0, offset).await;
        }
        let mut member = process.join(Options {
            from,
            reset,
            ..Options::new(&*group, [&*orders])
        });
        member.until(|seen| !seen.starts.is_empty()).await;
        let expected = Assigned {
            partition: place.clone(),
            start,
            committed: Some(start),
            end: 20,
        };
        assert_eq!(member.starts, [expected], "{n}");
        let now = process.plain.committed(&group, &orders, 0).await;
        assert_eq!(now, Some(start), "{n}");
        let gap = missed.map(|from| (place.clone(), from, start));
        let rest = usize::try_from(20 - start).unwrap();
        member
            .until(|seen| seen.records.len() == rest && seen.gaps.len() == gap.iter().count())
            .await;
        assert_eq!(member.gaps, Vec::from_iter(gap), "{n}");
    }

    for (n, committed) in [None, Some(2), Some(99)].into_iter().enumerate() {
        let group = format!("from-nowhere-{n}");
        if let Some(offset) = committed {
            process.plain.commit(&group, &orders, 0, offset).await;
        }
        let mut nowhere = process.join(Options {
            reset: OffsetReset::Error,
            ..Options::new(&*group, [&*orders])
        });
        nowhere.until(|seen| seen.ended.is_some()).await;
        let fault = nowhere.ended.unwrap().unwrap();
        assert_eq!(fault.kind, FaultKind::OffsetOutOfRange);
        let named = format!("Partition 0 of topic {orders}");
        assert!(fault.message.contains(&named), "{fault}");
        let now = process.plain.committed(&group, &orders, 0).await;
        assert_eq!(now, committed, "nothing was committed");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_that_nobody_acknowledged_come_to_the_next_member() {
    let process = Process::new(kafka().await).await;
    let orders = topic("members-unacked");
    process.plain.create_topic(&orders, 2, &[]).await;
    process.write(&orders, 2, 0..20).await;
    let options = || Options::new("unacked", [&*orders]);
    let mut first = process.join(options());
    first.until(|seen| seen.assigned.len() == 2).await;
    process.write(&orders, 2, 20..26).await;
    first.until(|seen| seen.records.len() == 6).await;

    // A partition moves while its records are with the first.
    let mut second = process.join(options());
    first.until(|seen| !seen.revoked.is_empty()).await;
    second.until(|seen| seen.records.len() == 3).await;
    assert_eq!(
        (second.starts[0].start, second.starts[0].committed),
        (10, Some(10))
    );
    second.leave().await;
    // And back again, where the first has read it already.
    first.until(|seen| seen.records.len() == 9).await;

    // Neither of them lives.
    first.leave().await;
    process.write(&orders, 2, 26..28).await;
    let mut next = process.join(options());
    next.until(|seen| seen.records.len() == 8).await;
    assert_eq!(next.values(), (20..28).collect());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn from_is_for_a_group_that_has_committed_nothing() {
    let process = Process::new(kafka().await).await;
    let orders = topic("members-once");
    process.plain.create_topic(&orders, 2, &[]).await;
    process.write(&orders, 2, 0..20).await;
    let options = || Options {
        from: GroupStart::Earliest,
        ..Options::new("once", [&*orders])
    };
    let mut first = process.join(options());
    first.until(|seen| seen.records.len() == 20).await;
    let offsets = [(at(&orders, 0), 4), (at(&orders, 1), 4)];
    first.commit(&offsets).await;

    let mut second = process.join(options());
    first.until(|seen| !seen.revoked.is_empty()).await;
    second.until(|seen| !seen.starts.is_empty()).await;
    assert_eq!(second.starts[0].start, 4);
    second.leave().await;

    first.until(|seen| seen.assigned.len() == 2).await;
    assert_eq!(first.starts.len(), 3);
    assert_eq!(
        (first.starts[2].start, first.starts[2].committed),
        (4, Some(4))
    );
    for partition in 0..2 {
        let committed = process.plain.committed("once", &orders, partition).await;
        assert_eq!(committed, Some(4));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partition_that_is_new_to_the_group_starts_at_its_beginning() {
    let mut process = Process::new(kafka().await).await;
    for (n, (from, reset)) in [
        (GroupStart::Committed, OffsetReset::Latest),
        (GroupStart::Latest, OffsetReset::Latest),
        (GroupStart::Time(i64::MAX), OffsetReset::Latest),
        (GroupStart::Committed, OffsetReset::Error),
    ]
    .into_iter()
    .enumerate()
    {
        let orders = topic("members-new");
        process.plain.create_topic(&orders, 2, &[]).await;
        process.write(&orders, 2, 0..10).await;
        let group = format!("new-{n}");
        process.plain.commit(&group, &orders, 0, 5).await;
        let options = || Options {
            from: from.clone(),
            reset,
            ..Options::new(&*group, [&*orders])
        };
        let mut member = process.join(options());
        if reset == OffsetReset::Error {
            // It was there, and the group has not committed it.
            member.until(|seen| seen.ended.is_some()).await;
            process.plain.commit(&group, &orders, 1, 0).await;
            member = process.join(options());
        }
        member.until(|seen| seen.records.len() == 5).await;
        assert!(member.records.iter().all(|record| record.partition == 1));

        // One that is added, with records before anybody knows of it.
        process.plain.add_partitions(&orders, 3).await;
        // A producer keeps what it knew of the topic.
        process.plain = kafka().await.plain();
        process.write(&orders, 3, 11..12).await;
        member.until(|seen| seen.assigned.len() == 3).await;
        member.until(|seen| seen.values().contains(&11)).await;
        let added = member.starts.iter().find(|s| s.partition.partition == 2);
        let added = added.unwrap();
        assert_eq!((added.start, added.committed), (0, Some(0)));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_that_appears_starts_at_its_beginning_and_one_that_is_asked_for_where_it_was_to() {
    let process = Process::new(kafka().await).await;
    let names = ["first", "appears", "asked"].map(|name| topic(&format!("members-{name}")));
    let [first, appears, asked] = &names;
    for name in &names {
        process.plain.create_topic(name, 1, &[]).await;
        process.write(name, 1, 0..3).await;
    }
    let mut member = process.join(Options::new("appears", [first.as_str()]));
    member.until(|seen| seen.assigned.len() == 1).await;

    let all = |topics: &[&String]| topics.iter().map(|name| name.as_str().into()).collect();
    member.command(Command::Subscribe {
        topics: all(&[first, appears]),
        appeared: true,
    });
    member.until(|seen| seen.assigned.len() == 2).await;
    member.command(Command::Subscribe {
        topics: all(&[first, appears, asked]),
        appeared: false,
    });
    member.until(|seen| seen.assigned.len() == 3).await;

    let starts: Vec<_> = member
        .starts
        .iter()
        .map(|start| (&*start.partition.topic, start.start, start.committed))
        .collect();
    assert_eq!(
        starts,
        [
            (first.as_str(), 3, Some(3)),
            (appears.as_str(), 0, Some(0)),
            (asked.as_str(), 3, Some(3)),
        ]
    );
    member.until(|seen| seen.records.len() == 3).await;
    member.leave().await;
    let mut late = process.join(Options {
        appeared: vec![appears.as_str().into()],
        ..Options::new("appeared", [first.as_str(), appears.as_str()])
    });
    late.until(|seen| seen.assigned.len() == 2).await;
    late.until(|seen| seen.records.len() == 3).await;
    assert!(late.records.iter().all(|record| *record.topic == **appears));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_commits_no_starts_goes_on_where_it_started() {
    let process = Process::new(kafka().await).await;
    let orders = topic("members-uncommitted");
    process.plain.create_topic(&orders, 2, &[]).await;
    process.write(&orders, 2, 0..10).await;
    let mut first = process.join(Options {
        commit_starts: false,
        ..Options::new("uncommitted", [&*orders])
    });
    first.until(|seen| seen.assigned.len() == 2).await;
    assert!(first.starts.iter().all(|start| start.committed.is_none()));
    process.write(&orders, 2, 10..16).await;
    first.until(|seen| seen.records.len() == 6).await;

    let mut second = process.join(Options {
        commit_starts: false,
        ..earliest("uncommitted", &orders)
    });
    first.until(|seen| !seen.revoked.is_empty()).await;
    second.until(|seen| !seen.assigned.is_empty()).await;
    second.leave().await;

    first.until(|seen| seen.assigned.len() == 2).await;
    assert_eq!(first.starts[2].start, 5);
    first.until(|seen| seen.records.len() == 9).await;
    for partition in 0..2 {
        let committed = process.plain.committed("uncommitted", &orders, partition);
        assert_eq!(committed.await, None);
    }
}
