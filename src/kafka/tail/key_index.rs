//! The keys of a topic that are followed alone: where their records stand in the ring, and whom to wake.
//!
//! A record's key is looked up once, whatever the number of keys that are followed; and who waits for its
//! key may be sure that nothing of it came as long as it was not woken, however much the ring has let go
//! of meanwhile.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::watch;

/// Counts up with everything that those who follow a key should look at.
pub(super) type Changed = Arc<watch::Sender<u64>>;

/// A key that is followed.
#[derive(Debug)]
struct FollowedKey {
    followers: usize,
    /// From which place on the key's records are known.
    since: u64,
    places: VecDeque<u64>,
    /// The last of them that the ring has let go of.
    lost: Option<u64>,
    changed: Changed,
    woken: bool,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct KeyIndex {
    of: HashMap<Bytes, FollowedKey>,
    /// Those with something new.
    new: Vec<Bytes>,
}

impl KeyIndex {
    /// One more follows `key`; what comes at `end` or later will be known.
    pub(super) fn follow(&mut self, key: &Bytes, end: u64) -> watch::Receiver<u64> {
        let keyed = self.of.entry(key.clone()).or_insert_with(|| FollowedKey {
            followers: 0,
            since: end,
            places: VecDeque::new(),
            lost: None,
            changed: Arc::new(watch::Sender::new(0)),
            woken: false,
        });
        keyed.followers += 1;
        keyed.changed.subscribe()
    }

    pub(super) fn leave(&mut self, key: &Bytes) {
        if let Some(keyed) = self.of.get_mut(key) {
            keyed.followers -= 1;
            if keyed.followers == 0 {
                self.of.remove(key);
            }
        }
    }

    /// A record with this key stands at `place`.
    pub(super) fn came(&mut self, key: &Bytes, place: u64) {
        if self.of.is_empty() {
            return;
        }
        if let Some(keyed) = self.of.get_mut(key) {
            keyed.places.push_back(place);
            if !keyed.woken {
                keyed.woken = true;
                self.new.push(key.clone());
            }
        }
    }

    /// The record with this key at `place` stands there no more.
    pub(super) fn went(&mut self, key: &Bytes, place: u64) {
        if self.of.is_empty() {
            return;
        }
        if let Some(keyed) = self.of.get_mut(key)
            && keyed.places.front() == Some(&place)
        {
            keyed.places.pop_front();
            keyed.lost = Some(place);
        }
    }

    /// What came before `place` is not known any more.
    pub(super) fn forget(&mut self, place: u64) {
        for keyed in self.of.values_mut() {
            keyed.since = place;
            keyed.places.clear();
            keyed.lost = None;
        }
    }

    /// Those with something new since the last call.
    pub(super) fn changed(&mut self) -> Vec<Changed> {
        let mut changed = Vec::with_capacity(self.new.len());
        for key in self.new.drain(..) {
            if let Some(keyed) = self.of.get_mut(&key) {
                keyed.woken = false;
                changed.push(Arc::clone(&keyed.changed));
            }
        }
        changed
    }

    pub(super) fn all(&self) -> Vec<Changed> {
        let changed = self.of.values().map(|keyed| &keyed.changed);
        changed.map(Arc::clone).collect()
    }

    /// Whether all of the key's records at or after `place` are known, and none of them is gone.
    pub(super) fn has_all(&self, key: &Bytes, place: u64) -> bool {
        self.of
            .get(key)
            .is_some_and(|keyed| place >= keyed.since && keyed.lost.is_none_or(|lost| lost < place))
    }

    /// Where the key's records at or after `place` stand; `None` where they are not known.
    pub(super) fn after(&self, key: &Bytes, place: u64) -> Option<impl Iterator<Item = u64>> {
        let keyed = self.of.get(key).filter(|keyed| place >= keyed.since)?;
        let from = keyed.places.partition_point(|at| *at < place);
        Some(keyed.places.range(from..).copied())
    }
}
