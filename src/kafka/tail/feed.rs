//! What is followed of one topic: its ring, who follows, and whether there is more to come.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;
use tokio::time::Instant;

use super::entry::Load;
use super::follower::Ended;
use super::key_index::Changed;
use super::ring::{Bound, Ring};
use super::{Followed, Login};
use crate::kafka::metadata::Topic;
use crate::reader_options::Isolation;

/// One topic that is followed at one isolation level.
#[derive(Debug)]
pub(super) struct Feed {
    /// By which login it is read.
    login: Login,
    pub(super) topic: Arc<Topic>,
    /// Which records of transactions are read.
    pub(super) isolation: Isolation,
    pub(super) ring: RwLock<Ring>,
    changed: watch::Sender<u64>,
    ended: OnceLock<Ended>,
    followers: AtomicUsize,
    /// Those of them who follow a key alone.
    keyed: AtomicUsize,
    /// When the last follower left.
    left: Mutex<Instant>,
    /// Since when it cannot be read.
    down: Mutex<Option<Instant>>,
}

impl Feed {
    pub(super) fn new(
        login: Login,
        topic: Arc<Topic>,
        isolation: Isolation,
        bound: Bound,
        load: Arc<Load>,
    ) -> Arc<Self> {
        Arc::new(Self {
            login,
            topic,
            isolation,
            ring: RwLock::new(Ring::new(bound, load)),
            changed: watch::Sender::new(0),
            ended: OnceLock::new(),
            followers: AtomicUsize::new(0),
            keyed: AtomicUsize::new(0),
            left: Mutex::new(Instant::now()),
            down: Mutex::default(),
        })
    }

    /// What is followed.
    pub(super) fn key(&self) -> Followed {
        (self.login, Arc::clone(&self.topic.name), self.isolation)
    }

    /// Counts up with everything that those who follow all of the topic, or only `key`, should look at.
    pub(super) fn changes(&self, key: Option<&Bytes>) -> watch::Receiver<u64> {
        match key {
            None => self.changed.subscribe(),
            Some(key) => {
                self.keyed.fetch_add(1, Ordering::Relaxed);
                self.ring.write().follow_key(key)
            }
        }
    }

    /// One who followed only `key` has left.
    pub(super) fn left_key(&self, key: &Bytes) {
        self.keyed.fetch_sub(1, Ordering::Relaxed);
        self.ring.write().leave_key(key);
    }

    /// Wakes all followers.
    pub(super) fn wake(&self) {
        let keys = self.ring.read().all_keys();
        self.wake_for(&keys);
    }

    /// Wakes those who follow all of the topic, and of the others these.
    pub(super) fn wake_for(&self, keys: &[Changed]) {
        let mut woken = self.changed.receiver_count();
        self.changed.send_modify(|count| *count += 1);
        for changed in keys {
            woken += changed.receiver_count();
            changed.send_modify(|count| *count += 1);
        }
        metrics::counter!("tail_wakes_total").increment(woken as u64);
    }

    /// How many are woken by every record.
    pub(super) fn crowd(&self) -> usize {
        self.followers()
            .saturating_sub(self.keyed.load(Ordering::Relaxed))
    }

    /// Nothing comes any more.
    pub(super) fn end(&self, why: Ended) {
        // The first reason counts.
        let _ = self.ended.set(why);
        self.wake();
    }

    pub(super) fn ended(&self) -> Option<Ended> {
        self.ended.get().cloned()
    }

    /// Kafka does not answer, or does again: followers are told.
    pub(super) fn is_down(&self, down: bool) {
        let mut since = self.down.lock();
        if since.is_some() == down {
            return;
        }
        *since = down.then(Instant::now);
        drop(since);
        self.wake();
    }

    /// Since when it cannot be read; `None` while it can.
    pub(super) fn down_since(&self) -> Option<Instant> {
        *self.down.lock()
    }

    pub(super) fn followers(&self) -> usize {
        self.followers.load(Ordering::Relaxed)
    }

    pub(super) fn joined(&self) {
        self.followers.fetch_add(1, Ordering::Relaxed);
        metrics::gauge!("tail_followers").increment(1.0);
    }

    pub(super) fn left(&self) {
        *self.left.lock() = Instant::now();
        self.followers.fetch_sub(1, Ordering::Relaxed);
        metrics::gauge!("tail_followers").decrement(1.0);
    }

    /// Whether nobody has followed for this long.
    pub(super) fn is_idle(&self, time: Duration) -> bool {
        self.followers() == 0 && self.left.lock().elapsed() >= time
    }
}
