//! The one reader of a topic that is followed: from Kafka into the ring.
//!
//! It is a krafka consumer without a group on a handle of its own, because a broker answers the
//! requests of one connection one after the other. Nothing that a follower does slows it.
//!
//! krafka keeps a failed fetch to itself, and asks nobody whether the leader has moved. So its counter
//! of errors is watched, and where partitions stand still although there is more to read: then it goes
//! on with a new handle, which knows the cluster as it is now. What is in the ring stays, and the new
//! consumer begins where the last one stopped.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use krafka::consumer::{AutoOffsetReset, Consumer, IsolationLevel, TopicPartition};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::feed::Feed;
use super::follower::Ended;
use super::keyed::Changed;
use super::{Feeds, Kafka};
use crate::kafka::admin::Isolation;
use crate::kafka::bounds::{Bounds, bounds};
use crate::kafka::client::{self, Role};
use crate::kafka::fault::{Fault, FaultKind};
use crate::kafka::metadata::{Right, Topic};
use crate::kafka::reader::{INCONSISTENT_TOPIC_ID, delivered, is_other_topic};

/// How long a broker holds a fetch that finds nothing.
const FETCH_WAIT: Duration = Duration::from_millis(500);
/// Bytes of one fetch, in all and of one partition. A larger record comes all the same.
const FETCH_BYTES: i32 = 8 << 20;
const PARTITION_BYTES: i32 = 1 << 20;
/// Records of one poll.
const RECORDS: i32 = 5_000;
/// How often it is looked whether the topic is still the same, and has more partitions.
const ROUND: Duration = Duration::from_secs(5);
/// In how many of these rounds a topic that is silent is asked for its offsets.
const OFFSET_ROUNDS: u32 = 2;
/// First and longest pause before a failed reader goes on.
const PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// How long a topic is read after its last follower has left.
const IDLE: Duration = Duration::from_secs(60);
/// Longest time for a consumer to take its leave.
const CLOSE: Duration = Duration::from_secs(2);
/// Longest time to get a consumer to its place.
const ATTACH: Duration = Duration::from_secs(30);
/// How often records may fail to be decoded in a row before they count as damaged in the log.
const UNDECODABLE: u32 = 5;
/// From so many followers on they are woken at most every so often: a microsecond for each, and no
/// longer than this.
const CROWD: usize = 1_000;
const LONGEST_CROWD_PAUSE: Duration = Duration::from_millis(20);

/// Reads until nobody has followed for a while, or there is nothing to read any more.
pub(super) async fn run(kafka: Arc<Kafka>, feeds: Arc<Feeds>, feed: Arc<Feed>) {
    metrics::gauge!("tail_upstreams").increment(1.0);
    let mut upstream = Upstream {
        kafka,
        feeds: Arc::clone(&feeds),
        feed: Arc::clone(&feed),
        pause: PAUSE,
        undecodable: 0,
        woken: Instant::now(),
    };
    let end = upstream.read().await;
    metrics::gauge!("tail_upstreams").decrement(1.0);
    feeds.forget(&feed);
    if let Some(why) = end {
        tracing::debug!(
            topic = &*feed.topic.name,
            ?why,
            "a topic is followed no more"
        );
        feed.end(why);
    }
}

/// Why a consumer is done.
enum Stop {
    /// Nobody follows.
    Idle,
    /// There is nothing more to read.
    Ended(Ended),
    /// Another one goes on.
    Failed(Fault),
    /// There are more partitions.
    Grown,
}

impl From<Fault> for Stop {
    fn from(fault: Fault) -> Self {
        if is_other_topic(&fault) {
            return Self::Ended(Ended::Recreated);
        }
        match fault.kind {
            FaultKind::UnknownTopic => Self::Ended(Ended::Deleted),
            _ if fault.retriable => Self::Failed(fault),
            _ => Self::Ended(Ended::Failed(fault)),
        }
    }
}

struct Upstream {
    kafka: Arc<Kafka>,
    feeds: Arc<Feeds>,
    feed: Arc<Feed>,
    pause: Duration,
    undecodable: u32,
    woken: Instant,
}

impl Upstream {
    async fn read(&mut self) -> Option<Ended> {
        loop {
            let attached = timeout(ATTACH, self.attach()).await;
            let stop = match attached {
                Err(_) => Stop::Failed(still("connecting to Kafka")),
                Ok(Err(stop)) => stop,
                Ok(Ok((consumer, partitions))) => {
                    let stop = self.follow(&consumer, &partitions).await;
                    // In the background: the next one need not wait for it.
                    tokio::spawn(async move {
                        let options = krafka::CloseOptions::new().timeout(CLOSE);
                        let _ = consumer.close_with(options).await;
                    });
                    stop
                }
            };
            match stop {
                Stop::Idle => return None,
                Stop::Ended(why) => return Some(why),
                Stop::Grown => {}
                Stop::Failed(fault) => {
                    self.feed.is_down(true);
                    metrics::counter!("tail_upstream_restarts_total").increment(1);
                    let topic = &*self.feed.topic.name;
                    tracing::debug!(topic, "following goes on after: {fault}");
                    self.kafka.metadata.invalidate(topic).await;
                    sleep(self.pause).await;
                    self.pause = (self.pause * 2).min(LONGEST_PAUSE);
                    if self.feeds.is_over(&self.feed, IDLE) {
                        return None;
                    }
                }
            }
        }
    }

    /// The topic as it is now.
    async fn topic(&self) -> Result<Arc<Topic>, Stop> {
        let metadata = &self.kafka.metadata;
        let known = metadata.topic(&self.feed.topic.name).await?;
        if known.id != self.feed.topic.id {
            return Err(Stop::Ended(Ended::Recreated));
        }
        Ok(metadata.granted(known, Right::Read).await?)
    }

    /// A consumer that stands where the ring goes on.
    async fn attach(&mut self) -> Result<(Consumer, Vec<i32>), Stop> {
        let topic = self.topic().await?;
        let partitions: Vec<i32> = topic.partitions.iter().map(|p| p.id).collect();
        let places = self.places(&topic, &partitions).await?;
        let handle = client::krafka(&self.kafka.clients, Role::Reader).await?;
        let consumer = self.consumer(&handle).await?;
        let name: &str = &topic.name;
        let fault = |error: krafka::error::KrafkaError| Stop::from(Fault::from(error));
        consumer
            .assign(name, partitions.clone())
            .await
            .map_err(fault)?;
        let seeks = places
            .iter()
            .map(|(partition, offset)| (TopicPartition::new(name, *partition), *offset));
        consumer.seek_many(seeks).await.map_err(fault)?;
        if let Ok(known) = consumer.fetch_metadata(Some(name)).await {
            let other = known.topics.iter().any(|found| {
                found.name == *name
                    && found.topic_id != topic.id
                    && found.topic_id != [0; 16]
                    && topic.id != [0; 16]
            });
            if other {
                self.kafka.metadata.invalidate(name).await;
                return Err(Fault::from_protocol_code(INCONSISTENT_TOPIC_ID, None).into());
            }
        }
        let mut ring = self.feed.ring.write();
        for (partition, offset) in &places {
            ring.begin(*partition, *offset);
        }
        drop(ring);
        self.feed.is_down(false);
        self.feed.wake();
        Ok((consumer, partitions))
    }

    /// Where each partition goes on: where the ring stopped, as far as that is in the log; at the end
    /// at first; and at the beginning where a partition came into being meanwhile.
    async fn places(&self, topic: &Topic, partitions: &[i32]) -> Result<Vec<(i32, i64)>, Stop> {
        let bounds = self.bounds(topic, partitions).await?;
        let ring = self.feed.ring.read();
        let fresh = ring.partitions().next().is_none();
        Ok(bounds
            .iter()
            .map(|bound| {
                let place = match ring.next(bound.partition) {
                    Some(next) => next.clamp(bound.low, bound.end.max(bound.low)),
                    None if fresh => bound.end,
                    None => bound.low,
                };
                (bound.partition, place)
            })
            .collect())
    }

    async fn bounds(&self, topic: &Topic, partitions: &[i32]) -> Result<Vec<Bounds>, Fault> {
        let Kafka { admin, timeout, .. } = &*self.kafka;
        let isolation = self.feed.isolation;
        bounds(admin, *timeout, isolation, &topic.name, partitions).await
    }

    async fn consumer(&self, handle: &krafka::Kafka) -> Result<Consumer, Fault> {
        let tuning = &self.kafka.tuning;
        let mut builder = handle
            .consumer_without_group()
            .auto_offset_reset(AutoOffsetReset::None)
            .isolation_level(match self.feed.isolation {
                Isolation::Committed => IsolationLevel::ReadCommitted,
                Isolation::Uncommitted => IsolationLevel::ReadUncommitted,
            })
            .enable_auto_commit(false)
            .metrics_push(false)
            .max_partition_fetch_bytes(PARTITION_BYTES.min(tuning.max_partition_fetch_bytes))
            .fetch_max_bytes(FETCH_BYTES.min(tuning.fetch_max_bytes))
            .fetch_max_wait(FETCH_WAIT.min(tuning.fetch_max_wait))
            .max_poll_records(RECORDS)
            .max_buffered_records(RECORDS);
        if let Some(rack) = &tuning.rack {
            builder = builder.client_rack(rack);
        }
        builder.build().await.map_err(Fault::from)
    }

    /// Polls until there is a reason to stop.
    async fn follow(&mut self, consumer: &Consumer, partitions: &[i32]) -> Stop {
        let mut round = Instant::now() + ROUND;
        let mut rounds = 0;
        let mut fetches = 0;
        let mut silent: BTreeMap<i32, i64> = BTreeMap::new();
        loop {
            // Much longer than a broker that finds nothing takes to say so.
            let mut late = false;
            let polled = timeout(FETCH_WAIT * 4, consumer.poll(FETCH_WAIT)).await;
            let records = match polled {
                Ok(Ok(records)) => records,
                Ok(Err(error)) if error.protocol_error_kind().is_some() => {
                    self.undecodable += 1;
                    let fault = Fault::from(error);
                    return if self.undecodable < UNDECODABLE {
                        Stop::Failed(fault)
                    } else {
                        Stop::Ended(Ended::Failed(fault))
                    };
                }
                Ok(Err(error)) => {
                    let fault = Fault::from(error);
                    // The log lost its beginning, or its end: there are new places to begin at.
                    return if fault.kind == FaultKind::OffsetOutOfRange {
                        Stop::Failed(fault)
                    } else {
                        fault.into()
                    };
                }
                Err(_) => {
                    late = true;
                    Vec::new()
                }
            };
            let some = !records.is_empty();
            if some {
                self.pause = PAUSE;
                self.undecodable = 0;
                metrics::counter!("tail_records_total").increment(records.len() as u64);
            }
            let now = Instant::now();
            let keys = {
                let mut ring = self.feed.ring.write();
                for record in records {
                    ring.push(delivered(record), now);
                }
                ring.trim(now);
                ring.join()
            };
            let moved = self.reach(consumer, partitions).await;
            if some || moved {
                self.wake(&keys).await;
                self.feeds.relieve();
            }
            let of = consumer.metrics().consumer;
            let fetched = of.fetches.saturating_sub(fetches);
            metrics::counter!("tail_upstream_fetches_total").increment(fetched);
            fetches = of.fetches;
            // A consumer that knows of no leader asks nobody, and says nothing of it.
            self.feed.is_down(late || (!some && fetched == 0));
            if of.errors > 0 {
                return Stop::Failed(still("reading the topic"));
            }
            if self.feeds.is_over(&self.feed, IDLE) {
                return Stop::Idle;
            }
            if now >= round {
                round = now + ROUND;
                rounds += 1;
                let looked = rounds % OFFSET_ROUNDS == 0;
                if let Err(stop) = self.look(partitions, looked.then_some(&mut silent)).await {
                    return stop;
                }
            }
        }
    }

    /// Whether the topic is as it was; and with `silent`, whether a partition stands still that has
    /// more to read.
    async fn look(
        &self,
        partitions: &[i32],
        silent: Option<&mut BTreeMap<i32, i64>>,
    ) -> Result<(), Stop> {
        let topic = match self.topic().await {
            Ok(topic) => topic,
            // It is not known; the reading shows by itself whether brokers answer.
            Err(Stop::Failed(_)) => return Ok(()),
            Err(stop) => return Err(stop),
        };
        if topic.partitions.len() > partitions.len() {
            return Err(Stop::Grown);
        }
        let Some(silent) = silent else {
            return Ok(());
        };
        let still_at: Vec<(i32, i64)> = {
            let ring = self.feed.ring.read();
            partitions
                .iter()
                .filter_map(|partition| {
                    let next = ring.next(*partition)?;
                    let before = silent.insert(*partition, next);
                    (before == Some(next)).then_some((*partition, next))
                })
                .collect()
        };
        if still_at.is_empty() {
            return Ok(());
        }
        let asked: Vec<i32> = still_at.iter().map(|(partition, _)| *partition).collect();
        let Ok(bounds) = self.bounds(&topic, &asked).await else {
            return Ok(());
        };
        let ring = self.feed.ring.read();
        let wrong = still_at
            .iter()
            .zip(&bounds)
            .any(|((partition, next), bound)| {
                // It may have moved while the broker was asked.
                ring.next(*partition) == Some(*next) && *next != bound.end
            });
        if wrong {
            return Err(Stop::Failed(still("reading the topic")));
        }
        Ok(())
    }

    /// Takes note of how far the consumer has come over what is not delivered.
    async fn reach(&self, consumer: &Consumer, partitions: &[i32]) -> bool {
        let mut reached = Vec::with_capacity(partitions.len());
        for partition in partitions {
            if let Some(offset) = consumer.position(&self.feed.topic.name, *partition).await {
                reached.push((*partition, offset));
            }
        }
        let mut ring = self.feed.ring.write();
        let mut moved = false;
        for (partition, offset) in reached {
            moved |= ring.reached(partition, offset);
        }
        moved
    }

    /// Wakes the followers, of those of keys these: a crowd not for each record.
    async fn wake(&mut self, keys: &[Changed]) {
        let crowd = self.feed.crowd();
        if crowd >= CROWD {
            let pause = Duration::from_micros(crowd as u64).min(LONGEST_CROWD_PAUSE);
            sleep_until(self.woken + pause).await;
        }
        self.woken = Instant::now();
        self.feed.wake_for(keys);
    }
}

fn still(what: &str) -> Fault {
    Fault::new(
        FaultKind::TimedOut,
        format!("{what}: no answer from Kafka in time"),
    )
}
