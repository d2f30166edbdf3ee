//! How many of something each has, and may have: connections of an address, sessions of a principal.
//! Only who has any has an entry, so there are never more entries than places taken.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

use parking_lot::Mutex;

/// The places of one kind.
#[derive(Debug)]
pub struct Places<K> {
    most: usize,
    taken: Mutex<HashMap<K, usize>>,
}

/// One of somebody's; given back when it is dropped.
#[derive(Debug)]
pub struct Place<K: Eq + Hash> {
    places: Arc<Places<K>>,
    of: K,
}

impl<K: Clone + Eq + Hash> Places<K> {
    /// At most `most` for each.
    pub fn new(most: usize) -> Arc<Self> {
        Arc::new(Self {
            most,
            taken: Mutex::default(),
        })
    }

    /// The most that each may have.
    pub fn most(&self) -> usize {
        self.most
    }

    /// One more for `of`; `None`: it has as many as it may.
    pub fn take(self: &Arc<Self>, of: K) -> Option<Place<K>> {
        let mut taken = self.taken.lock();
        let count = taken.get(&of).copied().unwrap_or_default();
        if count >= self.most {
            return None;
        }
        taken.insert(of.clone(), count + 1);
        Some(Place {
            places: Arc::clone(self),
            of,
        })
    }

    /// Whether nobody has any.
    #[cfg(test)]
    pub fn is_empty(&self) -> bool {
        self.taken.lock().is_empty()
    }
}

impl<K: Eq + Hash> Place<K> {
    /// Whose it is.
    pub fn of(&self) -> &K {
        &self.of
    }
}

impl<K: Eq + Hash> Drop for Place<K> {
    fn drop(&mut self) {
        let mut taken = self.places.taken.lock();
        if let Some(count) = taken.get_mut(&self.of) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&self.of);
            }
        }
    }
}
