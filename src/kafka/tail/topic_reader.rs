//! The one reader of a topic that is followed: from Kafka into the ring.
//!
//! Each broker that leads partitions of it has a broker fetcher (`broker_fetcher.rs`) with a consumer
//! without a group, so that one that is silent holds up none of the others' partitions. All fetchers are on
//! one handle, which no other reader shares, because a broker answers the requests of one connection one
//! after the other. Only where fetches may go to the nearest replica each fetcher has its own: they may all
//! meet at one broker. Nothing that a follower does slows a fetcher.
//!
//! Who leads is looked at now and then, and when a fetcher fails: fetchers whose partitions are others' by
//! then end, and new ones begin where they stopped. A fetcher is also begun anew where partitions stand
//! still although there is more to read.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures::StreamExt;
use futures::future::{AbortHandle, Abortable, BoxFuture, join_all};
use futures::stream::FuturesUnordered;
use parking_lot::Mutex;
use tokio::sync::{Notify, OnceCell};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::broker_fetcher::{BrokerFetcher, LONGEST_PAUSE, Leader, PAUSE};
use super::feed::Feed;
use super::follower::Ended;
use super::key_index::Changed;
use super::{Feeds, Kafka};
use crate::kafka::fault::{Fault, FaultKind};
use crate::kafka::fetcher::is_other_topic;
use crate::kafka::metadata::{Right, Topic};
use crate::kafka::watermarks::{Watermarks, watermarks};

/// How often it is looked whether the topic is still the same, who leads, and whether it has more
/// partitions.
const ROUND: Duration = Duration::from_secs(5);
/// Shortest time between two of these looks, whatever fails.
const SHORTEST_ROUND: Duration = Duration::from_millis(500);
/// How often partitions that stand still are asked for their ends.
const ENDS: Duration = Duration::from_secs(10);
/// How long a topic is read after its last follower has left.
const IDLE: Duration = Duration::from_secs(60);
/// From so many followers on they are woken at most every so often: a microsecond for each, and no
/// longer than this.
const CROWD: usize = 1_000;
const LONGEST_CROWD_PAUSE: Duration = Duration::from_millis(20);

/// Reads until nobody has followed for a while, or there is nothing to read any more.
pub(super) async fn run(kafka: Arc<Kafka>, feeds: Arc<Feeds>, feed: Arc<Feed>) {
    metrics::gauge!("tail_upstreams").increment(1.0);
    let shared = Shared {
        kafka,
        feeds: Arc::clone(&feeds),
        feed: Arc::clone(&feed),
        first: OnceLock::new(),
        silent: Mutex::default(),
        look: Notify::new(),
        waking: Mutex::new(Waking {
            woken: Instant::now(),
            keys: None,
        }),
    };
    let end = read(&shared).await;
    metrics::gauge!("tail_upstreams").decrement(1.0);
    feeds.forget(&feed);
    if let Some(why) = end {
        tracing::debug!(
            topic = &*feed.topic.name,
            "a topic is followed no more: {why}"
        );
        feed.end(why);
    }
}

/// Why a fetcher stops.
pub(super) enum Stop {
    /// Nobody follows.
    Idle,
    /// There is nothing more to read.
    Ended(Ended),
    /// It goes on with another consumer.
    Failed(Fault),
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

/// What the fetchers of a topic share.
pub(super) struct Shared {
    pub(super) kafka: Arc<Kafka>,
    pub(super) feeds: Arc<Feeds>,
    pub(super) feed: Arc<Feed>,
    /// The partitions that were there at first.
    first: OnceLock<Vec<i32>>,
    /// The fetchers whose brokers do not answer.
    silent: Mutex<BTreeSet<Leader>>,
    /// Who leads is to be looked at now.
    look: Notify,
    waking: Mutex<Waking>,
}

/// When followers are woken.
struct Waking {
    /// When they were last.
    woken: Instant,
    /// Those of keys who are to be woken by the fetcher that waits to do it, if one does.
    keys: Option<Vec<Changed>>,
}

impl Shared {
    /// The topic as it is now.
    pub(super) async fn topic(&self) -> Result<Arc<Topic>, Stop> {
        let metadata = &self.kafka.metadata;
        let known = metadata.topic(&self.feed.topic.name).await?;
        if known.id != self.feed.topic.id {
            return Err(Stop::Ended(Ended::Recreated));
        }
        Ok(metadata.granted(known, Right::Read).await?)
    }

    /// Where these partitions begin and end.
    pub(super) async fn watermarks(
        &self,
        topic: &Topic,
        partitions: &[i32],
    ) -> Result<Vec<Watermarks>, Fault> {
        let Kafka { admin, timeout, .. } = &*self.kafka;
        let isolation = self.feed.isolation;
        watermarks(admin, *timeout, isolation, &topic.name, partitions).await
    }

    /// Whether the partition was there when the topic was followed first.
    pub(super) fn was_there(&self, partition: i32) -> bool {
        let first = self.first.get();
        first.is_none_or(|first| first.contains(&partition))
    }

    /// Whether nobody has followed for a while.
    pub(super) fn is_over(&self) -> bool {
        self.feeds.is_over(&self.feed, IDLE)
    }

    /// The broker of a fetcher does not answer, or does again. While one does not, followers are told so.
    pub(super) fn silent(&self, leader: Leader, is: bool) {
        let mut silent = self.silent.lock();
        if is {
            silent.insert(leader);
        } else {
            silent.remove(&leader);
        }
        self.feed.is_down(!silent.is_empty());
    }

    /// Reading goes on after this.
    pub(super) async fn failed(&self, fault: &Fault) {
        metrics::counter!("tail_upstream_restarts_total").increment(1);
        let topic = &*self.feed.topic.name;
        tracing::debug!(topic, "following goes on after: {fault}");
        self.look_again().await;
    }

    /// Others may lead by now.
    pub(super) async fn look_again(&self) {
        self.kafka.metadata.invalidate(&self.feed.topic.name).await;
        self.look.notify_one();
    }

    /// Wakes the followers, of those of keys these: a crowd not for each record, and not for each fetcher.
    pub(super) async fn wake(&self, mut keys: Vec<Changed>) {
        let crowd = self.feed.crowd();
        let until = {
            let mut waking = self.waking.lock();
            if let Some(others) = &mut waking.keys {
                others.append(&mut keys);
                return;
            }
            let pause = if crowd >= CROWD {
                Duration::from_micros(crowd as u64).min(LONGEST_CROWD_PAUSE)
            } else {
                Duration::ZERO
            };
            waking.keys = Some(keys);
            waking.woken + pause
        };
        if until > Instant::now() {
            sleep_until(until).await;
        }
        self.wake_now();
    }

    fn wake_now(&self) {
        let keys = {
            let mut waking = self.waking.lock();
            waking.woken = Instant::now();
            waking.keys.take().unwrap_or_default()
        };
        self.feed.wake_for(&keys);
    }
}

/// One that runs.
struct Running {
    partitions: Vec<i32>,
    ends: AbortHandle,
}

/// The fetchers of a topic.
struct BrokerFetchers<'a> {
    shared: &'a Shared,
    running: BTreeMap<Leader, Running>,
    /// One that was ended is never polled again.
    futures: FuturesUnordered<Abortable<BoxFuture<'a, Option<Ended>>>>,
}

impl<'a> BrokerFetchers<'a> {
    /// Those that are wanted now. The ones that are already there go on, but for those of `wrong`.
    fn arrange(&mut self, topic: &Topic, wrong: &[i32]) {
        let mut wanted: BTreeMap<Leader, Vec<i32>> = BTreeMap::new();
        for partition in &topic.partitions {
            let of = wanted.entry(partition.leader).or_default();
            of.push(partition.id);
        }
        let mut ended = false;
        self.running.retain(|leader, fetcher| {
            let same = wanted.get(leader) == Some(&fetcher.partitions);
            let stays = same && !fetcher.partitions.iter().any(|id| wrong.contains(id));
            if !stays {
                ended = true;
                fetcher.ends.abort();
                self.shared.silent(*leader, false);
            }
            stays
        });
        if ended {
            // What one of them has read and not told of yet.
            self.shared.wake_now();
            self.shared.feed.wake();
        }
        let handle = self.shared.kafka.tuning.rack.is_none().then(Arc::default);
        for (leader, partitions) in wanted {
            if self.running.contains_key(&leader) {
                continue;
            }
            let handle: Option<Arc<OnceCell<krafka::Kafka>>> = handle.clone();
            let fetcher = BrokerFetcher::new(self.shared, leader, partitions.clone(), handle);
            let (ends, registration) = AbortHandle::new_pair();
            let future: BoxFuture<'a, Option<Ended>> = Box::pin(fetcher.run());
            self.futures.push(Abortable::new(future, registration));
            self.running.insert(leader, Running { partitions, ends });
        }
    }

    /// Until one of them says that all is over.
    async fn over(&mut self) -> Option<Ended> {
        loop {
            match self.futures.next().await {
                Some(Ok(end)) => return end,
                Some(Err(_)) => {}
                None => std::future::pending().await,
            }
        }
    }
}

async fn read(shared: &Shared) -> Option<Ended> {
    let mut pause = PAUSE;
    let topic = loop {
        match shared.topic().await {
            Ok(topic) => break topic,
            Err(Stop::Idle) => return None,
            Err(Stop::Ended(why)) => return Some(why),
            Err(Stop::Failed(fault)) => {
                shared.feed.is_down(true);
                shared.failed(&fault).await;
                sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
                if shared.is_over() {
                    return None;
                }
            }
        }
    };
    let there = topic.partitions.iter().map(|partition| partition.id);
    shared.first.get_or_init(|| there.collect());
    let mut fetchers = BrokerFetchers {
        shared,
        running: BTreeMap::new(),
        futures: FuturesUnordered::new(),
    };
    fetchers.arrange(&topic, &[]);
    let watch = Watch {
        asked: Instant::now(),
        before: BTreeMap::new(),
    };
    let mut looking = Box::pin(watch.next(shared));
    loop {
        let seen = tokio::select! {
            end = fetchers.over() => return end,
            seen = &mut looking => seen,
        };
        let (watch, seen) = seen;
        looking = Box::pin(watch.next(shared));
        match seen {
            Ok((topic, wrong)) => fetchers.arrange(&topic, &wrong),
            // It is not known; the reading shows by itself whether brokers answer.
            Err(Stop::Idle | Stop::Failed(_)) => {}
            Err(Stop::Ended(why)) => return Some(why),
        }
    }
}

/// Looks at the topic now and then.
struct Watch {
    /// When it was asked for ends.
    asked: Instant,
    /// How far each partition had been read when its end was last of interest.
    before: BTreeMap<i32, i64>,
}

/// The topic as it is now, and the partitions of it that stand still although there is more to read.
type Seen = (Arc<Topic>, Vec<i32>);

impl Watch {
    /// The next look.
    async fn next(mut self, shared: &Shared) -> (Self, Result<Seen, Stop>) {
        sleep(SHORTEST_ROUND).await;
        // It is early where a fetcher asks for it.
        let _ = timeout(ROUND - SHORTEST_ROUND, shared.look.notified()).await;
        let topic = match shared.topic().await {
            Ok(topic) => topic,
            Err(stop) => return (self, Err(stop)),
        };
        let wrong = if self.asked.elapsed() >= ENDS {
            self.asked = Instant::now();
            self.wrong(shared, &topic).await
        } else {
            Vec::new()
        };
        (self, Ok((topic, wrong)))
    }

    async fn wrong(&mut self, shared: &Shared, topic: &Topic) -> Vec<i32> {
        let mut still_at: BTreeMap<Leader, Vec<(i32, i64)>> = BTreeMap::new();
        {
            let ring = shared.feed.ring.read();
            for partition in &topic.partitions {
                let Some(next) = ring.next(partition.id) else {
                    continue;
                };
                if self.before.insert(partition.id, next) == Some(next) {
                    let of = still_at.entry(partition.leader).or_default();
                    of.push((partition.id, next));
                }
            }
        }
        // Each broker for itself: one that does not answer is not asked for the others' partitions.
        let asked = still_at.values().map(async |still_at| {
            let ids: Vec<i32> = still_at.iter().map(|(id, _)| *id).collect();
            let bounds = shared.watermarks(topic, &ids).await.unwrap_or_default();
            let ring = shared.feed.ring.read();
            let wrong = still_at.iter().zip(&bounds).filter(|((id, next), bound)| {
                // It may have moved while the broker was asked.
                ring.next(*id) == Some(*next) && *next != bound.end
            });
            wrong.map(|((id, _), _)| *id).collect::<Vec<i32>>()
        });
        join_all(asked).await.concat()
    }
}

/// Kafka did not answer in time, where it was doing this.
pub(super) fn still(what: &str) -> Fault {
    Fault::new(
        FaultKind::TimedOut,
        format!("{what}: no answer from Kafka in time"),
    )
}
