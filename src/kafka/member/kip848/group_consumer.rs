//! The krafka consumer that is in the group, and what its rebalance callbacks leave for the member's task.
//!
//! krafka awaits the callbacks inside `poll`, which the task drives while it serves everything else; so
//! a callback puts a notice on the desk and, where krafka must wait, waits until the task has dealt with
//! it. The consumer is held by its `GroupConsumer` alone: the listener has a weak reference, since a
//! consumer that holds itself would never be dropped and would heartbeat for ever.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use krafka::consumer::{
    AutoOffsetReset, Consumer, ConsumerBuilder, ConsumerRebalanceListener, GroupProtocol,
};
use krafka::{CloseOptions, GroupMembershipOperation};
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};
use tokio::time::{MissedTickBehavior, timeout};

use super::super::connections::Permit;
use super::super::{Options, Shared, Timing};
use crate::kafka::client::ReaderTuning;
use crate::kafka::fault::{Fault, FaultKind};
use crate::kafka::metadata::Right;
use crate::reader_options::Isolation;

/// krafka's name of a partition; its topic is a `String`.
pub(super) type KrafkaPartition = krafka::consumer::TopicPartition;

/// Longest time that the broker holds a fetch: also the latest that a rebalance is noticed, and that
/// members on one handle wait for each other.
pub(super) const FETCH_WAIT: Duration = Duration::from_millis(500);
/// krafka's pause between two looks while every partition is backing off after errors; its own 10 ms
/// would keep a core busy when many members wait for a broker.
const IDLE: Duration = Duration::from_millis(100);
/// Longest time that krafka may take to look at the topics that it subscribes to.
const SUBSCRIBE: Duration = Duration::from_secs(10);
/// How often it is looked whether the group was left.
const LOOK: Duration = Duration::from_millis(5);
/// There may be thousands of sessions, each with a fetch in memory.
const SIZES: Sizes = Sizes {
    fetch: 1 << 20,
    partition: 512 << 10,
    records: 500,
};

/// How much a consumer may take at once.
pub(super) struct Sizes {
    /// Bytes of one fetch from one broker.
    pub(super) fetch: i32,
    /// Bytes of it from one partition. A larger record comes all the same.
    pub(super) partition: i32,
    /// Records of one batch, and of those that wait in krafka.
    pub(super) records: i32,
}

/// What all consumers of a member have in common.
pub(super) fn tuned(
    builder: ConsumerBuilder,
    tuning: &ReaderTuning,
    isolation: Isolation,
    sizes: &Sizes,
) -> ConsumerBuilder {
    builder
        .auto_offset_reset(AutoOffsetReset::None)
        .enable_auto_commit(false)
        .metrics_push(false)
        .isolation_level(isolation.into())
        .fetch_min_bytes(tuning.fetch_min_bytes.min(sizes.fetch))
        .fetch_max_bytes(sizes.fetch.min(tuning.fetch_max_bytes))
        .max_partition_fetch_bytes(sizes.partition.min(tuning.max_partition_fetch_bytes))
        .fetch_max_wait(FETCH_WAIT.min(tuning.fetch_max_wait))
        .max_poll_records(sizes.records)
        .max_buffered_records(sizes.records)
        .idle_poll_backoff(IDLE)
}

/// What a callback says.
pub(super) enum Notice {
    /// These partitions are new; they are paused, at no place yet.
    Assigned(Vec<KrafkaPartition>),
    /// These are being taken away as soon as the sender is dropped or used.
    Revoked(Vec<KrafkaPartition>, oneshot::Sender<()>),
    /// These are gone.
    Lost(Vec<KrafkaPartition>),
}

/// Where notices lie until the task takes them.
#[derive(Default)]
pub(super) struct Desk {
    notices: Mutex<VecDeque<Notice>>,
    bell: Notify,
    /// The member is leaving: nobody reads notices any more, and nothing waits.
    closed: AtomicBool,
}

impl Desk {
    fn put(&self, notice: Notice) {
        self.notices.lock().push_back(notice);
        self.bell.notify_one();
    }

    /// The next notice; nothing is lost when the future is dropped.
    pub(super) async fn notice(&self) -> Notice {
        loop {
            let notice = self.notices.lock().pop_front();
            match notice {
                Some(notice) => return notice,
                None => self.bell.notified().await,
            }
        }
    }

    /// Callbacks that wait are let go, and none waits any more.
    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::Release);
        // Their senders go with them.
        self.notices.lock().clear();
    }

    /// What lies there, without waiting.
    pub(super) fn take(&self) -> Option<Notice> {
        self.notices.lock().pop_front()
    }
}

/// Hears krafka's callbacks.
struct Listener {
    desk: Arc<Desk>,
    consumer: OnceLock<Weak<Consumer>>,
}

impl Listener {
    fn is_closed(&self) -> bool {
        self.desk.closed.load(Ordering::Acquire)
    }
}

impl ConsumerRebalanceListener for Listener {
    async fn on_partitions_assigned(&self, partitions: &[KrafkaPartition]) {
        if self.is_closed() {
            return;
        }
        // Before krafka looks for a place by itself: the member finds it, and says it first. With
        // some position and paused, krafka leaves a partition alone.
        if let Some(consumer) = self.consumer.get().and_then(Weak::upgrade) {
            for place in partitions {
                consumer.pause(&place.topic, &[place.partition]).await;
                if let Err(error) = consumer.seek(&place.topic, place.partition, 0).await {
                    tracing::debug!("a partition just assigned cannot be held back: {error}");
                }
            }
        }
        self.desk.put(Notice::Assigned(partitions.to_vec()));
    }

    async fn on_partitions_revoked(&self, partitions: &[KrafkaPartition]) {
        if self.is_closed() {
            return;
        }
        let (done, waiting) = oneshot::channel();
        self.desk.put(Notice::Revoked(partitions.to_vec(), done));
        // Bounded by the task. An error is that it let go of the notice.
        let _ = waiting.await;
    }

    async fn on_partitions_lost(&self, partitions: &[KrafkaPartition]) {
        if !self.is_closed() {
            self.desk.put(Notice::Lost(partitions.to_vec()));
        }
    }
}

/// A consumer of the group that has subscribed.
pub(super) struct GroupConsumer {
    pub(super) consumer: Arc<Consumer>,
    pub(super) desk: Arc<Desk>,
}

impl GroupConsumer {
    /// Subscribes to `options.topics` on the handle of `permit`; the group is joined by the first poll.
    pub(super) async fn make(
        shared: &Shared,
        timing: &Timing,
        options: &Options,
        permit: &Permit,
        was_member: bool,
    ) -> Result<Self, Fault> {
        let topics = options.topics.iter().map(|topic| &**topic);
        check_topics(shared, topics, was_member).await?;
        let kafka = permit.kafka().await?;
        let desk = Arc::<Desk>::default();
        let listener = Arc::new(Listener {
            desk: Arc::clone(&desk),
            consumer: OnceLock::new(),
        });
        let tuning = &shared.tuning;
        let builder = kafka.consumer(&options.group);
        let mut builder = tuned(builder, tuning, options.isolation, &SIZES)
            .group_protocol(GroupProtocol::Consumer)
            .rebalance_listener(Arc::clone(&listener))
            .max_poll_interval(timing.poll_interval);
        if let Some(instance_id) = &options.instance_id {
            builder = builder.group_instance_id(instance_id);
        }
        if let Some(rack) = &tuning.rack {
            builder = builder.client_rack(rack);
        }
        let consumer = Arc::new(builder.build().await?);
        // Set once, here.
        let _ = listener.consumer.set(Arc::downgrade(&consumer));
        let made = Self { consumer, desk };
        if let Err(fault) = subscribe(&made.consumer, options).await {
            made.leave(GroupMembershipOperation::Default, timing.leave)
                .await;
            return Err(fault);
        }
        Ok(made)
    }

    /// Leaves the group within `bound`. Callbacks that wait are let go, none waits any more. What the
    /// consumer then still does, which is to end its fetches, it does in the background: a broker holds a
    /// fetch for up to half a second.
    pub(super) fn leave(
        self,
        operation: GroupMembershipOperation,
        bound: Duration,
    ) -> impl Future<Output = ()> + Send + 'static {
        self.desk.close();
        async move {
            let consumer = Arc::clone(&self.consumer);
            let mut closing = tokio::spawn(async move {
                let options = CloseOptions::new()
                    .timeout(bound)
                    .group_membership_operation(operation);
                if let Err(error) = consumer.close_with(options).await {
                    tracing::debug!("leaving a group: {error}");
                }
            });
            let mut looks = tokio::time::interval(LOOK);
            looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                tokio::select! {
                    _ = &mut closing => return,
                    _ = looks.tick() => {
                        // krafka forgets it as soon as it has left, and before it ends the fetches.
                        let has_begun = self.consumer.is_closed();
                        if has_begun && self.consumer.subscription().await.is_empty() {
                            return;
                        }
                    }
                }
            }
        }
    }
}

/// Tells krafka of the topics of `options`: the poll that follows joins the group with them.
pub(super) async fn subscribe(consumer: &Consumer, options: &Options) -> Result<(), Fault> {
    let topics = options.topics.iter().map(|topic| &**topic);
    match timeout(SUBSCRIBE, consumer.subscribe(topics)).await {
        Ok(result) => Ok(result?),
        Err(_) => Err(Fault::new(
            FaultKind::TimedOut,
            "Kafka did not answer in time when topics were to be subscribed to.",
        )),
    }
}

/// Whether the topics exist and may be read: krafka waits without a word for a topic that does not come,
/// and tries a refused fetch again and again. Who `was_member` goes on without a topic that was deleted
/// meanwhile, and has it again once it is there again. No topic is created here: a member does not know
/// on whose behalf it reads, and whoever has it join has found the topics.
pub(super) async fn check_topics(
    shared: &Shared,
    topics: impl Iterator<Item = &str>,
    was_member: bool,
) -> Result<(), Fault> {
    let metadata = &shared.metadata;
    for name in topics {
        let granted = async {
            let topic = metadata.topic(name).await?;
            metadata.granted(topic, Right::Read).await
        };
        match granted.await {
            Err(fault) if was_member && fault.kind == FaultKind::UnknownTopic => {}
            granted => {
                granted?;
            }
        }
    }
    Ok(())
}

/// The fault of a broker without the protocol.
pub(super) fn unsupported() -> Fault {
    Fault {
        kafka_error: Some("UNSUPPORTED_VERSION"),
        ..Fault::new(
            FaultKind::Unsupported,
            "This broker has no consumer groups by KIP-848 (Kafka 4.0 and newer have, with \
             group.version 1), and groups by the classic protocol are not available yet. Use a newer \
             broker, or read without a group.",
        )
    }
}
