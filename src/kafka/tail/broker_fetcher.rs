//! A broker fetcher reads those partitions of a followed topic that one broker leads.
//!
//! krafka joins the fetches of a round: a consumer that fetches from several brokers is as late as the
//! slowest of them, and when one does not answer at all, none of its partitions goes on. So each broker's
//! partitions have a consumer of their own, and a broker that is silent holds up no others. There are as
//! many fetches as a consumer of all would make, and as many fetchers as brokers that lead.
//!
//! After a failed fetch, which only a counter of krafka's shows (`kafka::fetcher`), the broker fetcher goes
//! on with a new handle, which knows the cluster as it is now. What is in the ring stays, and the new
//! consumer begins where the last one stopped.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use krafka::consumer::{Consumer, ConsumerRecord};
use tokio::sync::OnceCell;
use tokio::time::{Instant, sleep, timeout};

use super::follower::Ended;
use super::topic_reader::{Shared, Stop, still};
use crate::kafka::append_time::Begun;
use crate::kafka::client::{self, Role};
use crate::kafka::consumer_guard::ConsumerGuard;
use crate::kafka::copied::copied;
use crate::kafka::fault::{Fault, FaultKind};
use crate::kafka::fetcher::{self, FetchLimits, delivered};
use crate::kafka::metadata::Topic;

/// How long a broker holds a fetch that finds nothing.
const FETCH_WAIT: Duration = Duration::from_millis(500);
/// After this a broker that has not answered a fetch counts as silent: much longer than one that finds
/// nothing takes to say so.
const LATE: Duration = Duration::from_secs(2);
/// Longest wait for a poll in all. The request itself times out earlier.
const LONGEST_POLL: Duration = Duration::from_secs(30);
/// Bytes of one fetch, in all and of one partition. A larger record comes all the same. Where little is to be
/// kept of the topic, a fetch is at most its eighth part: it is in memory beside that.
const FETCH_BYTES: i32 = 8 << 20;
const LEAST_FETCH_BYTES: i32 = 256 << 10;
const FETCHES_KEPT: usize = 8;
const PARTITION_BYTES: i32 = 1 << 20;
/// Records of one poll.
const RECORDS: i32 = 5_000;
/// First and longest pause before a failed fetcher goes on.
pub(super) const PAUSE: Duration = Duration::from_millis(250);
pub(super) const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// Longest time to get a consumer to its place.
const ATTACH: Duration = Duration::from_secs(30);
/// How often records may fail to be decoded in a row before they count as damaged in the log.
const UNDECODABLE: u32 = 5;

/// Who leads the partitions of a fetcher; `None` while nobody does.
pub(super) type Leader = Option<i32>;

/// The partitions of one broker.
pub(super) struct BrokerFetcher<'a> {
    shared: &'a Shared,
    leader: Leader,
    partitions: Vec<i32>,
    /// Shared with the fetchers that begin at the same time, until it fails.
    handle: Option<Arc<OnceCell<krafka::Kafka>>>,
    pause: Duration,
    undecodable: u32,
}

impl<'a> BrokerFetcher<'a> {
    /// Of these partitions, which `leader` leads. `handle` is shared with others, where there is one.
    pub(super) fn new(
        shared: &'a Shared,
        leader: Leader,
        partitions: Vec<i32>,
        handle: Option<Arc<OnceCell<krafka::Kafka>>>,
    ) -> Self {
        Self {
            shared,
            leader,
            partitions,
            handle,
            pause: PAUSE,
            undecodable: 0,
        }
    }

    /// Reads until nobody has followed for a while (`None`), or there is nothing to read any more.
    pub(super) async fn run(mut self) -> Option<Ended> {
        loop {
            let attached = timeout(ATTACH, self.attach()).await;
            let stop = match attached {
                Err(_) => Stop::Failed(still("connecting to Kafka")),
                Ok(Err(stop)) => stop,
                Ok(Ok(attached)) => self.follow(attached.consumer()).await,
            };
            let fault = match stop {
                Stop::Idle => return None,
                Stop::Ended(why) => return Some(why),
                Stop::Failed(fault) => fault,
            };
            self.handle = None;
            self.shared.silent(self.leader, true);
            self.shared.failed(&fault).await;
            sleep(self.pause).await;
            self.pause = (self.pause * 2).min(LONGEST_PAUSE);
            if self.shared.is_over() {
                return None;
            }
        }
    }

    /// A consumer that stands where the ring goes on.
    async fn attach(&mut self) -> Result<ConsumerGuard, Stop> {
        let topic = self.shared.topic().await?;
        let places = self.places(&topic).await?;
        let connecting = || client::krafka(&self.shared.kafka.clients, Role::Reader);
        let handle = match &self.handle {
            Some(shared) => shared.get_or_try_init(connecting).await?.clone(),
            None => connecting().await?,
        };
        let attached = ConsumerGuard::new(self.consumer(&handle).await?);
        let consumer = attached.consumer();
        fetcher::assign(consumer, &topic.name, &places).await?;
        fetcher::same_topic(consumer, &self.shared.kafka.metadata, &topic, ATTACH).await?;
        let feed = &self.shared.feed;
        let mut ring = feed.ring.write();
        for (partition, offset) in &places {
            ring.begin(*partition, *offset);
        }
        drop(ring);
        self.shared.silent(self.leader, false);
        feed.wake();
        Ok(attached)
    }

    /// Where each partition goes on: where the ring stopped, as far as that is in the log; at the end
    /// at first; and at the beginning where a partition came into being meanwhile.
    async fn places(&self, topic: &Topic) -> Result<Vec<(i32, i64)>, Stop> {
        let bounds = self.shared.watermarks(topic, &self.partitions).await?;
        let ring = self.shared.feed.ring.read();
        Ok(bounds
            .iter()
            .map(|bound| {
                let place = match ring.next(bound.partition) {
                    Some(next) => next.clamp(bound.low, bound.end.max(bound.low)),
                    None if self.shared.was_there(bound.partition) => bound.end,
                    None => bound.low,
                };
                (bound.partition, place)
            })
            .collect())
    }

    async fn consumer(&self, handle: &krafka::Kafka) -> Result<Consumer, Fault> {
        let tuning = &self.shared.kafka.tuning;
        let kept = self.shared.feed.ring.read().most_bytes() / FETCHES_KEPT;
        let fetch_bytes = i32::try_from(kept).unwrap_or(FETCH_BYTES);
        let fetch_bytes = fetch_bytes.clamp(LEAST_FETCH_BYTES, FETCH_BYTES);
        let limits = FetchLimits {
            partition_bytes: PARTITION_BYTES.min(fetch_bytes),
            bytes: fetch_bytes,
            wait: FETCH_WAIT,
            records: RECORDS,
        };
        fetcher::consumer(handle, tuning, self.shared.feed.isolation, limits).await
    }

    /// Polls until there is a reason to stop.
    async fn follow(&mut self, consumer: &Consumer) -> Stop {
        let shared = self.shared;
        let mut fetches = 0;
        let mut begun = Begun::default();
        loop {
            let mut records = match self.poll(consumer).await {
                Ok(records) => records,
                Err(stop) => return stop,
            };
            if let Err(fault) = shared.kafka.times.put(&mut records, &mut begun).await {
                // The ring has none of them: they are read again.
                return Stop::Failed(fault);
            }
            let count = records.len() as u64;
            let some = count > 0;
            if some {
                self.pause = PAUSE;
                self.undecodable = 0;
            }
            // What the ring keeps is copied before it is held, and the answers are gone then.
            let records = copied(records.into_iter().map(delivered).collect());
            let now = Instant::now();
            let keys = {
                let mut ring = shared.feed.ring.write();
                for record in records {
                    ring.push(record, now);
                }
                ring.trim(now);
                ring.join()
            };
            // Whoever sees them counted finds them in the ring.
            metrics::counter!("tail_records_total").increment(count);
            let moved = self.reach(consumer).await;
            if some || moved {
                shared.wake(keys).await;
                shared.feeds.relieve();
            }
            let of = consumer.metrics().consumer;
            let fetched = of.fetches.saturating_sub(fetches);
            metrics::counter!("tail_upstream_fetches_total").increment(fetched);
            fetches = of.fetches;
            // A consumer that knows of no leader asks nobody, and says nothing of it.
            shared.silent(self.leader, !some && fetched == 0);
            if fetcher::fetches_fail(consumer) {
                return Stop::Failed(still("reading the topic"));
            }
            if shared.is_over() {
                return Stop::Idle;
            }
        }
    }

    /// The next records. A broker that is late is waited for, since its answer still counts.
    async fn poll(&mut self, consumer: &Consumer) -> Result<Vec<ConsumerRecord>, Stop> {
        let mut polling = pin!(consumer.poll(FETCH_WAIT));
        let longest = Instant::now() + LONGEST_POLL;
        let polled = loop {
            if let Ok(polled) = timeout(LATE, polling.as_mut()).await {
                break polled;
            }
            self.shared.silent(self.leader, true);
            if Instant::now() >= longest {
                return Err(Stop::Failed(still("reading the topic")));
            }
            self.shared.look_again().await;
        };
        let error = match polled {
            Ok(records) => return Ok(records),
            Err(error) => error,
        };
        let undecodable = error.protocol_error_kind().is_some();
        let fault = Fault::from(error);
        Err(if undecodable {
            self.undecodable += 1;
            if self.undecodable < UNDECODABLE {
                Stop::Failed(fault)
            } else {
                Stop::Ended(Ended::Failed(fault))
            }
        } else if fault.kind == FaultKind::OffsetOutOfRange {
            // The log lost its beginning, or its end: there are new places to begin at.
            Stop::Failed(fault)
        } else {
            fault.into()
        })
    }

    /// Takes note of how far the consumer has come over what is not delivered.
    async fn reach(&self, consumer: &Consumer) -> bool {
        let feed = &self.shared.feed;
        let mut reached = Vec::with_capacity(self.partitions.len());
        for partition in &self.partitions {
            if let Some(offset) = consumer.position(&feed.topic.name, *partition).await {
                reached.push((*partition, offset));
            }
        }
        let mut ring = feed.ring.write();
        let mut moved = false;
        for (partition, offset) in reached {
            moved |= ring.reached(partition, offset);
        }
        moved
    }
}
