//! Follows topics: however many follow one, it is read from Kafka once.
//!
//! ```text
//! Kafka --topic reader (one a topic, a fetcher a broker)--> ring --+--> follower: a cursor
//!   |                                                              +--> follower
//!   '------------catch-up pages (a bounded pool)-------------------+--> follower that is not in the ring
//! ```
//!
//! - `topic_reader.rs`: the one reader, from the first follower until a minute after the last
//! - `broker_fetcher.rs`: the part of it that reads from one broker
//! - `ring.rs`: what it has read lately, bounded by bytes and age
//! - `key_index.rs`: of the keys that are followed alone, where their records stand in it
//! - `feed.rs`: the two together, and who follows
//! - `follower.rs`: a cursor, and whether it reads from the ring or from Kafka
//! - `catch_up.rs`: the pages that are read for those who are not in the ring
//! - `entry.rs`: a record that all of them share, with what encoders made of it
//! - `conflation.rs`: for those who take in more than they give on, the newest of what waits
//!
//! Followers pull: there is no queue for each, and none of them slows another. Those who see a topic at
//! another isolation level, or with a Kafka login of their own, have a topic reader and a ring of their own;
//! all of them share the bounds on memory and on reads.

mod broker_fetcher;
mod catch_up;
pub mod conflation;
mod entry;
mod feed;
mod follower;
mod key_index;
mod ring;
#[cfg(test)]
mod tests;
mod topic_reader;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use parking_lot::Mutex;

use self::catch_up::{CatchUpPool, Shared, Source};
use self::entry::Load;
use self::feed::Feed;
use self::ring::Bound;
use super::admin::{Admin, Isolation};
use super::append_time::AppendTimes;
use super::client::{Clients, ReaderTuning};
use super::fault::Fault;
use super::metadata::{Metadata, Topic};
use super::reader::{Page, PageRequest, Reader};
use super::watermarks::{Watermarks, watermarks};
use crate::config::StreamSettings;

pub use self::entry::Entry;
pub use self::follower::{Ended, Follow, Follower, Gap, GapReason, Next};
pub use crate::reader_options::OnLag;

/// How topics are read.
#[derive(Debug)]
pub(super) struct Kafka {
    pub(super) clients: Clients,
    pub(super) tuning: ReaderTuning,
    pub(super) reader: Arc<Reader>,
    pub(super) times: AppendTimes,
    pub(super) metadata: Metadata,
    pub(super) admin: Admin,
    pub(super) timeout: Duration,
}

impl Source for Kafka {
    fn page(&self, request: PageRequest) -> BoxFuture<'_, Result<Page, Fault>> {
        Box::pin(self.reader.page(request))
    }

    fn watermarks<'a>(
        &'a self,
        isolation: Isolation,
        topic: &'a str,
        partitions: &'a [i32],
    ) -> BoxFuture<'a, Result<Vec<Watermarks>, Fault>> {
        let Self { admin, timeout, .. } = self;
        Box::pin(watermarks(admin, *timeout, isolation, topic, partitions))
    }
}

/// By which login it is read, a topic, and which records of transactions are read of it.
type Followed = (Login, Arc<str>, Isolation);

/// Tells the Kafka logins of the process from each other: what one may read, another may not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
struct Login(u64);

/// The topics that are followed.
#[derive(Debug)]
struct Feeds {
    of: Mutex<HashMap<Followed, Arc<Feed>>>,
    bound: Bound,
    most_total: usize,
    total: Arc<AtomicUsize>,
    /// How many other logins there have been.
    logins: AtomicU64,
}

/// Makes followers.
#[derive(Debug)]
pub struct Tails {
    kafka: Arc<Kafka>,
    login: Login,
    feeds: Arc<Feeds>,
    catch_up: Arc<CatchUpPool>,
}

impl Tails {
    pub(super) fn new(kafka: Kafka, settings: StreamSettings) -> Self {
        Self::over(Arc::new(kafka), &settings)
    }

    /// The same, as `settings` say. Nobody follows yet.
    pub(super) fn by(self, settings: StreamSettings) -> Self {
        Self::over(self.kafka, &settings)
    }

    fn over(kafka: Arc<Kafka>, settings: &StreamSettings) -> Self {
        let source: Arc<dyn Source> = Arc::clone(&kafka) as _;
        Self {
            feeds: Feeds::new(settings),
            catch_up: catch_up_pool(source, settings),
            login: Login::default(),
            kafka,
        }
    }

    /// Makes followers that read by another login. They share the bounds with these, and no record.
    pub(super) fn beside(&self, kafka: Kafka) -> Self {
        let kafka = Arc::new(kafka);
        let login = Login(self.feeds.logins.fetch_add(1, Ordering::Relaxed) + 1);
        Self {
            catch_up: Arc::new(self.catch_up.beside(login, Arc::clone(&kafka) as _)),
            login,
            feeds: Arc::clone(&self.feeds),
            kafka,
        }
    }

    /// A new follower; the first one of a topic and an isolation level starts their reader. One that ends at known offsets
    /// needs none.
    pub fn follow(&self, follow: Follow) -> Follower {
        self.follow_key(follow, None)
    }

    /// The same of the records with `key` alone. Others neither wake it nor are they looked at.
    pub fn follow_key(&self, follow: Follow, key: Option<Bytes>) -> Follower {
        let feed = if follow.until.is_some() {
            let feed = self
                .feeds
                .feed(self.login, Arc::clone(&follow.topic), follow.isolation);
            feed.joined();
            feed
        } else {
            let (feed, new) = self.feeds.join(self.login, &follow.topic, follow.isolation);
            if new {
                let kafka = Arc::clone(&self.kafka);
                let feeds = Arc::clone(&self.feeds);
                tokio::spawn(topic_reader::run(kafka, feeds, Arc::clone(&feed)));
            }
            feed
        };
        Follower::new(
            Arc::clone(&self.feeds),
            feed,
            Arc::clone(&self.catch_up),
            follow,
            key,
        )
    }

    /// Puts what is true at this moment into the metrics.
    pub(super) fn observe(&self) {
        let oldest = {
            let of = self.feeds.of.lock();
            let ages = of.values().map(|feed| feed.ring.read().age());
            ages.max().unwrap_or_default()
        };
        let bytes = self.feeds.held();
        #[expect(clippy::cast_precision_loss, reason = "a metric")]
        metrics::gauge!("tail_ring_bytes").set(bytes as f64);
        metrics::gauge!("tail_ring_age_seconds").set(oldest.as_secs_f64());
        #[expect(clippy::cast_precision_loss, reason = "a metric")]
        metrics::gauge!("tail_catchup_bytes").set(self.catch_up.held() as f64);
    }
}

fn catch_up_pool(source: Arc<dyn Source>, settings: &StreamSettings) -> Arc<CatchUpPool> {
    let StreamSettings {
        catchup_readers,
        catchup_bytes,
        ..
    } = settings;
    let shared = Shared::new(*catchup_readers, *catchup_bytes);
    Arc::new(CatchUpPool::new(source, Login::default(), shared))
}

impl Feeds {
    fn new(settings: &StreamSettings) -> Arc<Self> {
        Arc::new(Self {
            of: Mutex::default(),
            bound: Bound {
                bytes: settings.ring_bytes,
                age: settings.ring_age,
            },
            most_total: settings.ring_total_bytes,
            total: Arc::default(),
            logins: AtomicU64::new(0),
        })
    }

    fn feed(&self, login: Login, topic: Arc<Topic>, isolation: Isolation) -> Arc<Feed> {
        let load = Load::new(Arc::clone(&self.total));
        Feed::new(login, topic, isolation, self.bound, Arc::new(load))
    }

    /// One more follower of the topic, and whether it is the first.
    fn join(&self, login: Login, topic: &Arc<Topic>, isolation: Isolation) -> (Arc<Feed>, bool) {
        let key = (login, Arc::clone(&topic.name), isolation);
        let mut of = self.of.lock();
        // Under the lock, as the decision to stop is.
        if let Some(feed) = of.get(&key)
            && feed.topic.id == topic.id
            && feed.ended().is_none()
        {
            feed.joined();
            return (Arc::clone(feed), false);
        }
        let feed = self.feed(login, Arc::clone(topic), isolation);
        feed.joined();
        of.insert(key, Arc::clone(&feed));
        (feed, true)
    }

    fn left(&self, feed: &Feed) {
        let _of = self.of.lock();
        feed.left();
    }

    /// Whether nobody has followed for this long: then it is forgotten, and nobody will.
    fn is_over(&self, feed: &Arc<Feed>, time: Duration) -> bool {
        if !feed.is_idle(time) {
            return false;
        }
        let mut of = self.of.lock();
        if !feed.is_idle(time) {
            return false;
        }
        let key = feed.key();
        if of.get(&key).is_some_and(|known| Arc::ptr_eq(known, feed)) {
            of.remove(&key);
        }
        true
    }

    fn forget(&self, feed: &Arc<Feed>) {
        let mut of = self.of.lock();
        let key = feed.key();
        if of.get(&key).is_some_and(|known| Arc::ptr_eq(known, feed)) {
            of.remove(&key);
        }
    }

    /// Where all rings together are too large, those that nobody reads are emptied first, then the
    /// largest ones let go of what is oldest.
    fn relieve(&self) {
        if self.held() <= self.most_total {
            return;
        }
        let mut all: Vec<Arc<Feed>> = self.of.lock().values().cloned().collect();
        for feed in all.iter().filter(|feed| feed.followers() == 0) {
            feed.ring.write().clear();
        }
        all.sort_by_cached_key(|feed| std::cmp::Reverse(feed.ring.read().bytes()));
        for feed in &all {
            feed.ring.write().relieve(self.most_total);
        }
    }

    fn held(&self) -> usize {
        self.total.load(Ordering::Relaxed)
    }
}
