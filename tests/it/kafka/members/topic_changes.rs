//! Topics that are not there, come, and go.

use std::collections::BTreeSet;

use tidegate::kafka::fault::FaultKind;
use tidegate::kafka::member::{Command, Options, State};

use super::{LONG, Process, at, earliest, kafka};
use crate::support::{eventually, topic};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_that_is_not_there_ends_the_member() {
    let process = Process::new(kafka().await).await;
    let mut member = process.join(Options::new("missing", [topic("members-missing")]));
    member.until(|seen| seen.ended.is_some()).await;
    assert_eq!(member.ended.unwrap().unwrap().kind, FaultKind::UnknownTopic);
    assert!(
        process
            .cluster
            .members
            .join(Options::new("", ["a"]))
            .is_err()
    );
    assert!(
        process
            .cluster
            .members
            .join(Options::new("a", [""; 0]))
            .is_err()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_comes_and_goes_under_a_subscription() {
    let mut process = Process::new(kafka().await).await;
    let orders = topic("members-comes");
    process.plain.create_topic(&orders, 1, &[]).await;
    process.write(&orders, 1, 0..10).await;
    let mut member = process.join(earliest("comes", &orders));
    member.until(|seen| seen.records.len() == 10).await;

    process.plain.add_partitions(&orders, 2).await;
    member.until(|seen| seen.assigned.len() == 2).await;
    // A producer keeps what it knew of the topic.
    process.plain = kafka().await.plain();
    process.write(&orders, 2, 11..12).await;
    member.until(|seen| seen.records.len() == 11).await;
    member.commit(&[(at(&orders, 0), 10)]).await;

    process.plain.delete_topic(&orders).await;
    member
        .until(|seen| seen.assigned.is_empty() && seen.state == Some(State::Active))
        .await;
    member.records.clear();

    // Another one under its name.
    process.plain = kafka().await.plain();
    process.plain.create_topic(&orders, 1, &[]).await;
    process.write(&orders, 1, 20..23).await;
    member
        .until(|seen| seen.values() == (20..23).collect())
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_created_again_at_once_is_another_topic() {
    let mut process = Process::new(kafka().await).await;
    let orders = topic("members-again");
    process.plain.create_topic(&orders, 1, &[]).await;
    process.write(&orders, 1, 0..10).await;
    let mut member = process.join(earliest("again", &orders));
    member.until(|seen| seen.records.len() == 10).await;
    process.plain.delete_topic(&orders).await;
    process.plain = kafka().await.plain();
    // The broker learns of both a moment later: until then records would be written to the old one.
    eventually(LONG, async || {
        process.plain.leader(&orders, 0).await.is_none()
    })
    .await;
    process.plain.create_topic(&orders, 1, &[]).await;
    process.write(&orders, 1, 20..23).await;

    member
        .until(|seen| seen.values().is_superset(&(20..23).collect()))
        .await;
    assert_eq!(member.records.len(), 13);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_subscribes_to_other_topics() {
    let process = Process::new(kafka().await).await;
    let (old, new) = (topic("members-old"), topic("members-new"));
    for name in [&old, &new] {
        process.plain.create_topic(name, 1, &[]).await;
        process.write(name, 1, 0..5).await;
    }
    let mut member = process.join(earliest("others", &old));
    member.until(|seen| seen.records.len() == 5).await;

    member.command(Command::Subscribe {
        topics: vec![new.as_str().into()],
        appeared: false,
    });

    member.until(|seen| seen.records.len() == 10).await;
    assert_eq!(member.assigned, BTreeSet::from([at(&new, 0)]));
    assert_eq!(member.revoked, [at(&old, 0)]);
}
