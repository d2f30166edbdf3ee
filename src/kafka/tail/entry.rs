//! A record that several followers share, with what it was made into for each lane of them.
//!
//! A lane is a way to see records: a door, formats, a filter. Followers of one lane get the same
//! bytes, made by the first of them that asks. What a lane is, is its owner's business; here it is a
//! number.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;

use crate::record::Delivered;

/// What an entry costs beside the bytes of its record.
const OVERHEAD: usize = 192;
/// Most lanes whose bytes are kept with one record; beyond them the oldest is made again when it is
/// asked for.
const MOST_LANES: usize = 8;

/// Bytes that are held, here and in the process.
#[derive(Debug)]
pub(super) struct Load {
    here: AtomicUsize,
    total: Arc<AtomicUsize>,
}

impl Load {
    pub(super) fn new(total: Arc<AtomicUsize>) -> Self {
        Self {
            here: AtomicUsize::new(0),
            total,
        }
    }

    pub(super) fn bytes(&self) -> usize {
        self.here.load(Ordering::Relaxed)
    }

    pub(super) fn total(&self) -> usize {
        self.total.load(Ordering::Relaxed)
    }

    fn add(&self, bytes: usize) {
        self.here.fetch_add(bytes, Ordering::Relaxed);
        self.total.fetch_add(bytes, Ordering::Relaxed);
    }

    fn sub(&self, bytes: usize) {
        self.here.fetch_sub(bytes, Ordering::Relaxed);
        self.total.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// What a lane made of a record; `None`: the lane leaves it out.
type Made = Option<Bytes>;

/// A record, shared.
#[derive(Debug)]
pub struct Entry {
    record: Delivered,
    made: Mutex<Vec<(u64, Made)>>,
    weight: AtomicUsize,
    load: Arc<Load>,
}

impl Entry {
    pub(super) fn new(record: Delivered, load: &Arc<Load>) -> Arc<Self> {
        let weight = record.size() + OVERHEAD;
        load.add(weight);
        Arc::new(Self {
            record,
            made: Mutex::default(),
            weight: AtomicUsize::new(weight),
            load: Arc::clone(load),
        })
    }

    /// A record that nobody else has.
    #[cfg(test)]
    pub(crate) fn alone(record: Delivered) -> Arc<Self> {
        Self::new(record, &Arc::new(Load::new(Arc::default())))
    }

    /// The record.
    pub fn record(&self) -> &Delivered {
        &self.record
    }

    /// What `lane` makes of the record: kept, or made now; `None` when the lane leaves it out.
    pub fn made(&self, lane: u64, make: impl FnOnce(&Delivered) -> Option<Bytes>) -> Option<Bytes> {
        let mut made = self.made.lock();
        if let Some((_, kept)) = made.iter().find(|(of, _)| *of == lane) {
            return kept.clone();
        }
        let new = make(&self.record);
        let bytes = new.as_ref().map_or(0, Bytes::len);
        if made.len() >= MOST_LANES {
            let (_, old) = made.remove(0);
            let old = old.as_ref().map_or(0, Bytes::len);
            self.weight.fetch_sub(old, Ordering::Relaxed);
            self.load.sub(old);
        }
        made.push((lane, new.clone()));
        self.weight.fetch_add(bytes, Ordering::Relaxed);
        self.load.add(bytes);
        new
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.load.sub(*self.weight.get_mut());
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::record;
    use super::*;

    #[test]
    fn a_lane_makes_a_record_once_and_all_of_it_is_counted() {
        let total = Arc::new(AtomicUsize::new(0));
        let load = Arc::new(Load::new(Arc::clone(&total)));
        let entry = Entry::new(record(0, 7), &load);
        let before = load.bytes();
        let first = entry.made(1, |_| Some(Bytes::from_static(b"seen")));
        let again = entry.made(1, |_| panic!("made twice"));
        assert_eq!(first, again);
        assert_eq!(entry.made(2, |_| None), None);
        assert_eq!(entry.made(2, |_| panic!("asked twice")), None);
        assert_eq!(load.bytes(), before + 4);
        for lane in 3..40 {
            entry.made(lane, |_| Some(Bytes::from_static(b"12345678")));
        }
        assert_eq!(load.bytes(), before + 8 * MOST_LANES);
        drop(entry);
        assert_eq!((load.bytes(), load.total()), (0, 0));
    }
}
