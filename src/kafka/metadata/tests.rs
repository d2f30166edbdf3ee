//! Single flight, freshness, staleness and creation against krafka's test broker.

use std::time::{Duration, Instant};

use futures::future::join_all;
use krafka::error::ErrorCode;
use krafka::testing::{ApiKey, Control, FakeBroker};

use super::{Metadata, MetadataOptions, Right, Topic, check_topic_name};
use crate::kafka::admin::Admin;
use crate::kafka::fault::{Fault, FaultKind};

/// Far beyond all that is waited for here, on a busy machine too.
const LONG: Duration = Duration::from_secs(60);

fn quick() -> MetadataOptions {
    MetadataOptions {
        timeout: LONG,
        fresh: Duration::from_millis(300),
        unknown: Duration::from_millis(300),
        ..MetadataOptions::default()
    }
}

/// What is known is believed for longer than any test lasts.
fn lasting() -> MetadataOptions {
    MetadataOptions {
        timeout: LONG,
        fresh: LONG,
        unknown: LONG,
        ..MetadataOptions::default()
    }
}

async fn started(options: MetadataOptions) -> (FakeBroker, Metadata) {
    let broker = FakeBroker::start().await.expect("a broker");
    let kafka = broker
        .kafka()
        .request_timeout(LONG)
        .connect_timeout(LONG)
        .connect()
        .await
        .expect("connected");
    broker.clear_requests();
    (broker, Metadata::new(Admin::new(kafka), options))
}

/// Asks many times at the same moment.
async fn flood(metadata: &Metadata, name: &str) -> Vec<Result<std::sync::Arc<Topic>, Fault>> {
    join_all((0..200).map(|_| metadata.topic(name))).await
}

async fn expire(options: &MetadataOptions) {
    tokio::time::sleep(options.fresh.max(options.unknown) + Duration::from_millis(50)).await;
}

#[tokio::test]
async fn many_who_ask_at_once_cost_one_request() {
    let (broker, metadata) = started(lasting()).await;
    broker.create_topic("orders", 3);
    for answer in flood(&metadata, "orders").await {
        let topic = answer.expect("it exists");
        assert_eq!(&*topic.name, "orders");
        assert_eq!(topic.partitions.len(), 3);
        assert_eq!(Some(topic.id), broker.topic_id("orders"));
    }
    assert_eq!(broker.request_count(ApiKey::Metadata), 1);
    metadata.topic("orders").await.expect("kept");
    assert_eq!(broker.request_count(ApiKey::Metadata), 1);
}

#[tokio::test]
async fn an_unknown_topic_is_remembered_for_a_moment() {
    let (broker, metadata) = started(lasting()).await;
    for answer in flood(&metadata, "nope").await {
        let fault = answer.expect_err("it does not exist");
        assert_eq!(fault.kind, FaultKind::UnknownTopic);
        assert_eq!(fault.kafka_error, Some("UNKNOWN_TOPIC_OR_PARTITION"));
        assert!(fault.message.contains("nope"));
    }
    assert_eq!(broker.request_count(ApiKey::Metadata), 1);
    let options = quick();
    let (broker, metadata) = started(options.clone()).await;
    metadata.topic("nope").await.expect_err("not yet");
    broker.create_topic("nope", 1);
    expire(&options).await;
    metadata.topic("nope").await.expect("it exists by now");
}

#[tokio::test]
async fn a_change_is_seen_after_the_freshness_or_at_once_when_told() {
    let (broker, metadata) = started(lasting()).await;
    broker.create_topic("t", 1);
    metadata.topic("t").await.expect("one");
    broker.add_partitions("t", 2);
    assert_eq!(metadata.topic("t").await.expect("kept").partitions.len(), 1);
    metadata.invalidate("t").await;
    assert_eq!(metadata.topic("t").await.expect("new").partitions.len(), 2);

    let options = quick();
    let (broker, metadata) = started(options.clone()).await;
    broker.create_topic("t", 2);
    let first = metadata.topic("t").await.expect("one");
    broker.delete_topic("t");
    broker.create_topic("t", 1);
    expire(&options).await;
    let second = metadata.topic("t").await.expect("another");
    assert_ne!(first.id, second.id);
    assert_eq!(second.partitions.len(), 1);
    broker.delete_topic("t");
    expire(&options).await;
    let fault = metadata.topic("t").await.expect_err("deleted");
    assert_eq!(fault.kind, FaultKind::UnknownTopic);
}

#[tokio::test]
async fn a_known_topic_outlives_an_outage_and_nothing_else_does() {
    let options = MetadataOptions {
        timeout: Duration::from_millis(700),
        ..quick()
    };
    let (broker, metadata) = started(options.clone()).await;
    broker.create_topic("known", 1);
    asked_until_known(&metadata, "known").await;
    broker.crash(0);
    expire(&options).await;
    let started = Instant::now();
    metadata.topic("known").await.expect("what was known");
    assert!(started.elapsed() < Duration::from_secs(20));
    // Without asking again: in less time than that takes, unless the machine stands still.
    let mut took = Duration::MAX;
    for _ in 0..20 {
        let started = Instant::now();
        metadata.topic("known").await.expect("what was known");
        took = took.min(started.elapsed());
    }
    assert!(took < Duration::from_millis(100), "{took:?}");
    let fault = metadata.topic("other").await.expect_err("nobody to ask");
    assert!(
        matches!(fault.kind, FaultKind::Unavailable | FaultKind::TimedOut),
        "{fault:?}"
    );
    broker.restart(0);
    broker.delete_topic("known");
    let end = Instant::now() + LONG;
    loop {
        metadata.invalidate("known").await;
        let fault = metadata.topic("known").await.expect_err("deleted");
        if fault.kind == FaultKind::UnknownTopic {
            break;
        }
        assert!(Instant::now() < end, "{fault:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Asks until there is an answer, which a busy machine may not have within a short time limit.
async fn asked_until_known(metadata: &Metadata, name: &str) {
    let end = Instant::now() + LONG;
    while let Err(fault) = metadata.topic(name).await {
        assert!(Instant::now() < end, "{fault:?}");
    }
}

#[tokio::test]
async fn nothing_is_served_that_is_too_old() {
    let options = MetadataOptions {
        timeout: Duration::from_millis(500),
        stale: Duration::from_millis(600),
        ..quick()
    };
    let (broker, metadata) = started(options).await;
    broker.create_topic("t", 1);
    asked_until_known(&metadata, "t").await;
    broker.crash(0);
    tokio::time::sleep(Duration::from_secs(1)).await;
    metadata.topic("t").await.expect_err("too old");
}

#[tokio::test]
async fn a_refusal_is_not_served_as_an_outage() {
    let options = quick();
    let (broker, metadata) = started(options.clone()).await;
    broker.create_topic("t", 1);
    metadata.topic("t").await.expect("it exists");
    expire(&options).await;
    broker.on(ApiKey::Metadata, |_| {
        Control::Error(ErrorCode::TopicAuthorizationFailed)
    });
    let fault = metadata.topic("t").await.expect_err("refused");
    assert_eq!(fault.kind, FaultKind::NotAuthorized, "{fault:?}");
}

#[tokio::test]
async fn one_who_goes_away_does_not_take_the_answer_from_the_others() {
    let (broker, metadata) = started(lasting()).await;
    broker.create_topic("t", 1);
    broker.on_once(ApiKey::Metadata, |_| {
        Control::Delay(Duration::from_millis(300))
    });
    let first = {
        let metadata = metadata.clone();
        tokio::spawn(async move { metadata.topic("t").await })
    };
    tokio::time::sleep(Duration::from_millis(50)).await;
    let second = {
        let metadata = metadata.clone();
        tokio::spawn(async move { metadata.topic("t").await })
    };
    tokio::time::sleep(Duration::from_millis(50)).await;
    first.abort();
    second.await.expect("not aborted").expect("it exists");
    assert_eq!(broker.request_count(ApiKey::Metadata), 1);
}

#[tokio::test]
async fn a_topic_is_created_once_however_many_need_it() {
    let options = MetadataOptions {
        auto_create: true,
        ..lasting()
    };
    let (broker, metadata) = started(options).await;
    for answer in join_all((0..200).map(|_| metadata.ensure_topic("new"))).await {
        assert_eq!(answer.expect("created").partitions.len(), 1);
    }
    assert_eq!(broker.request_count(ApiKey::CreateTopics), 1);
    let requests = broker.request_count(ApiKey::Metadata);
    metadata.topic("new").await.expect("known");
    assert_eq!(broker.request_count(ApiKey::Metadata), requests);
}

#[tokio::test]
async fn without_auto_create_an_unknown_topic_is_not_created() {
    let (broker, metadata) = started(MetadataOptions::default()).await;
    let fault = metadata.ensure_topic("new").await.expect_err("unknown");
    assert_eq!(fault.kind, FaultKind::UnknownTopic);
    assert_eq!(broker.request_count(ApiKey::CreateTopics), 0);
}

#[tokio::test]
async fn a_reader_that_may_not_create_a_topic_is_told_that_there_is_none() {
    let options = MetadataOptions {
        auto_create: true,
        unknown: Duration::ZERO,
        ..MetadataOptions::default()
    };
    let (broker, metadata) = started(options).await;
    let fault = metadata.topic_to_use("new", false).await;
    assert_eq!(fault.expect_err("none").kind, FaultKind::UnknownTopic);
    assert_eq!(broker.request_count(ApiKey::CreateTopics), 0);
    metadata.topic_to_use("new", true).await.expect("created");
    metadata.topic_to_use("new", false).await.expect("there");
}

#[tokio::test]
async fn a_topic_of_kafka_or_its_tools_is_not_created() {
    let options = MetadataOptions {
        auto_create: true,
        ..MetadataOptions::default()
    };
    let (broker, metadata) = started(options).await;
    for name in ["__consumer_offsets", "__consumer.offsets", "__tool"] {
        let fault = metadata.ensure_topic(name).await.expect_err("unknown");
        assert_eq!(fault.kind, FaultKind::UnknownTopic, "{fault}");
    }
    assert_eq!(broker.request_count(ApiKey::CreateTopics), 0);
}

#[tokio::test]
async fn a_topic_that_another_process_has_just_created_is_used() {
    let options = MetadataOptions {
        auto_create: true,
        ..MetadataOptions::default()
    };
    let (broker, metadata) = started(options).await;
    metadata.topic("new").await.expect_err("not yet");
    broker.create_topic("new", 4);
    let topic = metadata.ensure_topic("new").await.expect("it exists");
    assert_eq!(topic.partitions.len(), 4);
}

#[tokio::test]
async fn a_new_topic_without_leaders_is_waited_for_but_not_for_ever() {
    let options = MetadataOptions {
        auto_create: true,
        timeout: Duration::from_millis(600),
        ..MetadataOptions::default()
    };
    let (broker, metadata) = started(options).await;
    metadata.topic("new").await.expect_err("not yet");
    broker.create_topic("new", 1);
    broker.set_leader("new", 0, -1);
    let started = Instant::now();
    let fault = metadata.ensure_topic("new").await.expect_err("no leader");
    assert_eq!(fault.kind, FaultKind::TimedOut, "{fault:?}");
    assert!(started.elapsed() < Duration::from_secs(20));
}

#[tokio::test]
async fn a_refused_creation_is_told_as_it_is() {
    let options = MetadataOptions {
        auto_create: true,
        ..MetadataOptions::default()
    };
    let (broker, metadata) = started(options).await;
    broker.on(ApiKey::CreateTopics, |_| {
        Control::Error(ErrorCode::PolicyViolation)
    });
    let fault = metadata.ensure_topic("new").await.expect_err("refused");
    assert_eq!(fault.kafka_error, Some("POLICY_VIOLATION"));
}

#[tokio::test]
async fn the_list_and_the_cluster_are_asked_for_once() {
    let options = MetadataOptions {
        cluster_id: Some("here".into()),
        ..MetadataOptions::default()
    };
    let (broker, metadata) = started(options).await;
    broker.create_topic("b", 1);
    broker.create_topic("a", 2);
    let lists = join_all((0..50).map(|_| metadata.topics())).await;
    for list in lists {
        let list = list.expect("a list");
        let names: Vec<_> = list.iter().map(|topic| &*topic.name).collect();
        assert_eq!(names, ["a", "b"]);
        assert_eq!(list[0].partitions[1].id, 1);
    }
    assert_eq!(broker.request_count(ApiKey::Metadata), 1);
    let cluster = metadata.cluster().await.expect("a cluster");
    assert_eq!(cluster.id.as_deref(), Some("here"));
    assert_eq!(metadata.brokers().await.expect("brokers").len(), 1);
}

#[test]
fn a_partition_that_is_not_there_is_answered_with_those_that_are() {
    let topic = Topic {
        name: "t".into(),
        id: [0; 16],
        internal: false,
        partitions: Vec::new(),
        rights: None,
    };
    let fault = topic.partition(0).expect_err("none");
    assert_eq!(fault.kind, FaultKind::UnknownPartition);
    assert_eq!(
        Fault::unknown_partition("t", 9, 3).message,
        "Topic t has no partition 9: its partitions are 0 to 2."
    );
}

#[test]
fn names_are_checked_as_kafka_does() {
    for good in ["a", "A.b_c-9", "...", &"x".repeat(249)] {
        check_topic_name(good).expect(good);
    }
    for bad in ["", ".", "..", "a b", "a/b", "ü", &"x".repeat(250)] {
        let fault = check_topic_name(bad).expect_err(bad);
        assert_eq!(fault.kind, FaultKind::Invalid);
    }
}

#[tokio::test]
async fn a_bad_name_reaches_no_broker() {
    let (broker, metadata) = started(MetadataOptions::default()).await;
    let fault = metadata.topic("a b").await.expect_err("not a name");
    assert_eq!(fault.kind, FaultKind::Invalid);
    assert!(broker.requests().is_empty());
}

#[test]
fn a_right_is_missing_only_where_the_broker_says_so() {
    let topic = |rights| Topic {
        name: "t".into(),
        id: [0; 16],
        internal: false,
        partitions: Vec::new(),
        rights,
    };
    let describe = 1 << 8;
    let read = 1 << 3;
    // Older brokers, and those that answer a question that they do not understand.
    for unsaid in [None, Some(0), Some(i32::MIN)] {
        topic(unsaid).grants(Right::Read).expect("not refused");
    }
    topic(Some(describe | read))
        .grants(Right::Read)
        .expect("granted");
    let fault = topic(Some(describe | read))
        .grants(Right::Write)
        .expect_err("refused");
    assert_eq!(fault.kind, FaultKind::NotAuthorized);
    assert_eq!(fault.kafka_error, Some("TOPIC_AUTHORIZATION_FAILED"));
    assert!(fault.message.contains("Write on topic t"), "{fault}");
}
