//! Members of consumer groups before a broker that errs on command, and before the embedded one.

use std::time::Duration;

use krafka::error::ErrorCode;
use krafka::testing::ApiKey;
use tidegate::config::Settings;
use tidegate::kafka::Cluster;
use tidegate::kafka::fault::{Fault, FaultKind};
use tidegate::kafka::member::{Command, Event, Member, OffsetReset, Options, State, Timing};
use tidegate::record::TopicPartition;
use tokio::time::{Instant, timeout};

use crate::support::eventually;
use crate::support::fault::FaultBroker;
use crate::support::kafka_client::{KafkaClient, OutgoingRecord};

const LONG: Duration = Duration::from_secs(60);

/// A broker that has the topic that the members read: they create none.
async fn broker() -> FaultBroker {
    let broker = FaultBroker::start().await;
    broker.create_topic("orders", 1);
    broker
}

async fn cluster(bootstrap: &str) -> Cluster {
    let mut settings = Settings::default();
    settings.kafka.bootstrap_servers = bootstrap.to_owned();
    settings.kafka.metadata_timeout = Duration::from_secs(2);
    Cluster::start(&settings.kafka, &settings.limits, &settings.websocket)
        .await
        .unwrap()
}

fn earliest() -> Options {
    Options {
        reset: OffsetReset::Earliest,
        ..Options::new("web", ["orders"])
    }
}

async fn event(member: &mut Member) -> Event {
    let event = timeout(LONG, member.event()).await;
    event.expect("an event").expect("it has not ended")
}

/// Takes events until one is wanted.
async fn wanted<T>(member: &mut Member, mut want: impl FnMut(Event) -> Option<T>) -> T {
    loop {
        if let Some(found) = want(event(member).await) {
            return found;
        }
    }
}

async fn end(member: &mut Member) -> Option<Fault> {
    wanted(member, |event| match event {
        Event::Ended(fault) => Some(fault),
        _ => None,
    })
    .await
}

async fn assigned(member: &mut Member) -> (i64, Option<i64>) {
    wanted(member, |event| match event {
        Event::Assigned { added, .. } => added.first().map(|one| (one.start, one.committed)),
        _ => None,
    })
    .await
}

async fn records(member: &mut Member) -> usize {
    wanted(member, |event| match event {
        Event::Records { records, .. } if !records.is_empty() => Some(records.len()),
        _ => None,
    })
    .await
}

async fn committed(member: &mut Member, wanted_token: u64) -> Result<i64, Fault> {
    wanted(member, |event| match event {
        Event::Committed { token, mut results } if token == wanted_token => {
            results.pop().map(|(_, result)| result)
        }
        _ => None,
    })
    .await
}

fn commit(member: &Member, token: u64, offset: i64) {
    let offsets = vec![(TopicPartition::new("orders", 0), offset, None)];
    member.command(Command::Commit { token, offsets }).unwrap();
}

async fn write(bootstrap: &str, count: usize) {
    let plain = KafkaClient::new(bootstrap);
    for _ in 0..count {
        let record = OutgoingRecord {
            topic: "orders",
            partition: Some(0),
            value: Some(b"1"),
            ..OutgoingRecord::default()
        };
        plain.produce(record).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_embedded_broker_has_groups() {
    let settings = Settings::default();
    let cluster = Cluster::start(&settings.kafka, &settings.limits, &settings.websocket);
    let cluster = cluster.await.unwrap();
    cluster.metadata.ensure_topic("orders").await.unwrap();
    let mut member = cluster.members.join(earliest()).unwrap();
    assert_eq!(assigned(&mut member).await, (0, Some(0)));
    write(cluster.bootstrap_servers(), 1).await;
    assert_eq!(records(&mut member).await, 1);
    commit(&member, 1, 1);
    assert_eq!(committed(&mut member, 1).await, Ok(1));
    member.command(Command::Leave { stay: false }).unwrap();
    assert_eq!(end(&mut member).await, None);

    let mut next = cluster.members.join(earliest()).unwrap();
    assert_eq!(assigned(&mut next).await, (1, Some(1)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_error_that_no_retry_helps_against_ends_the_member() {
    let broker = broker().await;
    let cluster = cluster(&broker.bootstrap()).await;
    for (error, kind) in [
        (
            ErrorCode::GroupAuthorizationFailed,
            FaultKind::NotAuthorized,
        ),
        (
            ErrorCode::TopicAuthorizationFailed,
            FaultKind::NotAuthorized,
        ),
        (ErrorCode::GroupMaxSizeReached, FaultKind::Unavailable),
        (ErrorCode::UnsupportedVersion, FaultKind::Unsupported),
        (ErrorCode::InvalidGroupId, FaultKind::Invalid),
    ] {
        broker.clear_hooks();
        broker.fail_always(ApiKey::ConsumerGroupHeartbeat, error);
        let mut member = cluster.members.join(earliest()).unwrap();
        let fault = end(&mut member).await.expect("a fault");
        assert_eq!(fault.kind, kind, "{error:?}");
        assert!(member.event().await.is_none());
        assert!(member.command(Command::Ends { token: 1 }).is_err());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_without_the_protocol_is_told_so() {
    let broker = broker().await;
    broker.set_api_versions(ApiKey::ConsumerGroupHeartbeat, 9, 9);
    let cluster = cluster(&broker.bootstrap()).await;

    let mut member = cluster.members.join(earliest()).unwrap();

    let fault = end(&mut member).await.expect("a fault");
    assert_eq!(fault.kind, FaultKind::Unsupported);
    assert!(fault.message.contains("KIP-848"), "{fault}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fenced_member_loses_its_partitions_and_joins_again() {
    let broker = broker().await;
    let cluster = cluster(&broker.bootstrap()).await;
    let mut member = cluster.members.join(earliest()).unwrap();
    assigned(&mut member).await;

    broker.fail(
        ApiKey::ConsumerGroupHeartbeat,
        1,
        ErrorCode::FencedMemberEpoch,
    );

    let lost = wanted(&mut member, |event| match event {
        Event::Lost(partitions) => Some(partitions),
        _ => None,
    });
    assert_eq!(lost.await, [TopicPartition::new("orders", 0)]);
    assert_eq!(assigned(&mut member).await, (0, Some(0)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_place_is_guessed_while_it_cannot_be_looked_up() {
    let broker = broker().await;
    let cluster = cluster(&broker.bootstrap()).await;
    let mut first = cluster.members.join(earliest()).unwrap();
    assigned(&mut first).await;
    write(&broker.bootstrap(), 5).await;
    records(&mut first).await;
    commit(&first, 1, 3);
    assert_eq!(committed(&mut first, 1).await, Ok(3));
    first.command(Command::Leave { stay: false }).unwrap();
    end(&mut first).await;

    for (api, error) in [
        (ApiKey::OffsetFetch, ErrorCode::CoordinatorLoadInProgress),
        (ApiKey::OffsetFetch, ErrorCode::Unknown(-1)),
        (ApiKey::ListOffsets, ErrorCode::NotLeaderForPartition),
    ] {
        broker.fail_always(api, error);
        let mut member = cluster.members.join(earliest()).unwrap();
        let nothing = timeout(Duration::from_secs(3), assigned(&mut member));
        assert!(nothing.await.is_err(), "{api:?} {error:?}");
        broker.clear_hooks();
        assert_eq!(assigned(&mut member).await, (3, Some(3)));
        assert_eq!(records(&mut member).await, 2);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_delivered_while_its_start_cannot_be_committed() {
    let broker = broker().await;
    let cluster = cluster(&broker.bootstrap()).await;
    write(&broker.bootstrap(), 3).await;
    // Shorter than the pauses between its tries, so that the place is looked up again, too.
    let timing = Timing {
        commit: Duration::from_millis(500),
        ..Timing::default()
    };
    let members = cluster.members.with_timing(timing);
    for error in [
        ErrorCode::CoordinatorLoadInProgress,
        ErrorCode::StaleMemberEpoch,
        ErrorCode::UnknownTopicOrPartition,
    ] {
        let group = format!("{error:?}");
        let options = || Options {
            group: group.clone(),
            ..earliest()
        };
        broker.fail_always(ApiKey::OffsetCommit, error);
        let mut member = members.join(options()).unwrap();
        let nothing = timeout(Duration::from_secs(3), async {
            wanted(&mut member, |event| match event {
                Event::Assigned { added, .. } if added.is_empty() => None,
                Event::Assigned { .. } | Event::Records { .. } => Some(event),
                _ => None,
            })
            .await
        });
        assert!(nothing.await.is_err(), "{error:?}");
        broker.clear_hooks();
        assert_eq!(assigned(&mut member).await, (0, Some(0)), "{error:?}");
        assert_eq!(records(&mut member).await, 3);
        member.command(Command::Leave { stay: false }).unwrap();
        end(&mut member).await;
    }

    broker.fail_always(ApiKey::OffsetCommit, ErrorCode::GroupAuthorizationFailed);
    let mut member = members
        .join(Options {
            group: "refused".to_owned(),
            ..earliest()
        })
        .unwrap();
    let fault = end(&mut member).await.expect("a fault");
    assert_eq!(fault.kind, FaultKind::NotAuthorized);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_is_tried_until_it_is_answered_or_its_time_is_over() {
    let broker = broker().await;
    let cluster = cluster(&broker.bootstrap()).await;
    // Five refusals take some three seconds.
    let timing = Timing {
        commit: Duration::from_secs(15),
        ..Timing::default()
    };
    let mut member = cluster
        .members
        .with_timing(timing)
        .join(earliest())
        .unwrap();
    assigned(&mut member).await;

    broker.fail(
        ApiKey::OffsetCommit,
        5,
        ErrorCode::CoordinatorLoadInProgress,
    );
    commit(&member, 1, 1);
    commit(&member, 2, 2);
    assert_eq!(committed(&mut member, 1).await, Ok(1));
    assert_eq!(committed(&mut member, 2).await, Ok(2));

    broker.fail_always(ApiKey::OffsetCommit, ErrorCode::CoordinatorLoadInProgress);
    commit(&member, 3, 3);
    let given = Instant::now();
    let fault = committed(&mut member, 3).await.unwrap_err();
    assert!(fault.retriable, "{fault}");
    assert!(given.elapsed() < Duration::from_secs(45), "{given:?}");

    broker.clear_hooks();
    broker.fail(ApiKey::OffsetCommit, 1, ErrorCode::GroupAuthorizationFailed);
    commit(&member, 4, 4);
    let fault = committed(&mut member, 4).await.unwrap_err();
    assert_eq!(fault.kind, FaultKind::NotAuthorized);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_moved_is_followed() {
    let broker = FaultBroker::cluster(3).await;
    broker.create_topic("orders", 1);
    broker.set_leader("orders", 0, 0);
    broker.set_group_coordinator("web", 1);
    let cluster = cluster(&broker.bootstrap()).await;
    let mut member = cluster.members.join(earliest()).unwrap();
    assigned(&mut member).await;
    write(&broker.bootstrap(), 1).await;
    records(&mut member).await;

    // krafka does not ask where it is: it is refused a connection, and says nothing.
    broker.crash(0);
    broker.set_leader("orders", 0, 2);
    write(&broker.bootstrap(), 1).await;

    records(&mut member).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_is_dropped_stops_to_heartbeat() {
    let broker = broker().await;
    let cluster = cluster(&broker.bootstrap()).await;
    let mut member = cluster.members.join(earliest()).unwrap();
    assigned(&mut member).await;
    assert_eq!(cluster.members.seats(), (1, 0));

    drop(member);

    eventually(LONG, async || {
        let last = broker.consumer_group_heartbeats().pop();
        cluster.members.seats() == (0, 0) && last.is_some_and(|last| last.member_epoch == -1)
    })
    .await;
    let seen = broker.consumer_group_heartbeats();
    let (count, gone) = (seen.len(), seen[seen.len() - 1].member_id.clone());
    // A member heartbeats each second while it lives: several times of the next one's are long enough.
    let mut next = cluster.members.join(earliest()).unwrap();
    assigned(&mut next).await;
    eventually(LONG, async || {
        let seen = broker.consumer_group_heartbeats();
        let after = &seen[count..];
        assert!(after.iter().all(|one| one.member_id != gone), "{after:?}");
        after.len() >= 6
    })
    .await;
}

/// A heartbeat that was on its way when the topics changed is answered after it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_topics_are_subscribed_to_while_a_heartbeat_is_under_way() {
    let broker = broker().await;
    let cluster = cluster(&broker.bootstrap()).await;
    let mut member = cluster.members.join(earliest()).unwrap();
    assigned(&mut member).await;
    // Nearly always one is: the next is sent a second after the last one was.
    broker.delay(ApiKey::ConsumerGroupHeartbeat, Duration::from_millis(900));
    for round in 0..4 {
        let more = format!("more-{round}");
        broker.create_topic(&more, 1);
        let topics = vec!["orders".into(), more.as_str().into()];
        let seen = broker.request_count(ApiKey::ConsumerGroupHeartbeat);
        eventually(LONG, async || {
            broker.request_count(ApiKey::ConsumerGroupHeartbeat) > seen
        })
        .await;
        member
            .command(Command::Subscribe {
                topics,
                appeared: false,
            })
            .unwrap();
        wanted(&mut member, |event| match event {
            Event::Assigned { all, .. } => all.iter().any(|one| *one.topic == *more).then_some(()),
            _ => None,
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_that_is_down_is_waited_for() {
    // A port of which nobody who binds any free one becomes the owner.
    let cluster = cluster("127.0.0.1:1").await;

    let mut member = cluster.members.join(earliest()).unwrap();

    let fault = wanted(&mut member, |event| match event {
        Event::State(State::Joining(fault)) => fault,
        event => panic!("{event:?}"),
    });
    let fault = fault.await;
    assert!(fault.retriable, "{fault}");
    commit(&member, 1, 1);
    assert!(committed(&mut member, 1).await.is_err());
    member.command(Command::Leave { stay: false }).unwrap();
    assert_eq!(end(&mut member).await, None);
}
