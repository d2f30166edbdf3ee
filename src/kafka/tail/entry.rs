//! A record that several followers share, with what it was made into by each encoder.
//!
//! An encoder is a way to see records: an API, formats, a filter. Followers of one encoder get the same
//! bytes, made by the first of them that asks. What an encoder is, is its owner's business; here it is a
//! number.
//!
//! What is counted is memory, not only bytes of records: of small ones most is what stands around them.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::record::{ConsumerRecord, Header};

/// What the allocator adds to each allocation: its own word, and what is left over by rounding up.
const ALLOCATION: usize = 16;
/// What shared bytes cost beside themselves: their allocation, and the one that counts who shares them.
const SHARED: usize = 32 + 2 * ALLOCATION;
/// The counts in front of what an `Arc` holds.
const COUNTS: usize = 2 * size_of::<usize>();
/// A place in the ring. A queue that grows doubles, so there are up to twice as many as entries.
const PLACE: usize = 2 * size_of::<(Instant, Arc<Entry>)>();
/// What an entry costs beside the bytes of its record. Small records share their bytes with others, large
/// ones do not.
const OVERHEAD: usize = size_of::<Entry>() + COUNTS + ALLOCATION + PLACE + SHARED;
/// What an encoder's bytes cost beside themselves.
const MADE: usize = size_of::<(u64, Made)>() + ALLOCATION + SHARED;
/// Most encoders whose bytes are kept with one record; beyond them the oldest is made again when it is
/// asked for.
const MOST_ENCODERS: usize = 8;

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

/// What an encoder made of a record; `None`: the encoder leaves it out.
type Made = Option<Bytes>;

/// A record, shared.
#[derive(Debug)]
pub struct Entry {
    record: ConsumerRecord,
    made: Mutex<Vec<(u64, Made)>>,
    weight: AtomicUsize,
    load: Arc<Load>,
}

impl Entry {
    pub(super) fn new(record: ConsumerRecord, load: &Arc<Load>) -> Arc<Self> {
        let weight = memory(&record);
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
    pub(crate) fn alone(record: ConsumerRecord) -> Arc<Self> {
        Self::new(record, &Arc::new(Load::new(Arc::default())))
    }

    /// The record.
    pub fn record(&self) -> &ConsumerRecord {
        &self.record
    }

    /// What `encoder` makes of the record: kept, or made now, which is written to the end of a buffer;
    /// `None` when the encoder leaves it out, which `make` says by `false`.
    pub fn made(
        &self,
        encoder: u64,
        make: impl FnOnce(&ConsumerRecord, &mut Vec<u8>) -> bool,
    ) -> Option<Bytes> {
        let mut made = self.made.lock();
        if let Some((_, kept)) = made.iter().find(|(of, _)| *of == encoder) {
            return kept.clone();
        }
        let new = exactly(|out| make(&self.record, out));
        if made.len() >= MOST_ENCODERS {
            let (_, old) = made.remove(0);
            let old = memory_of_made(&old);
            self.weight.fetch_sub(old, Ordering::Relaxed);
            self.load.sub(old);
        }
        let bytes = memory_of_made(&new);
        // Most have one encoder.
        made.reserve_exact(1);
        made.push((encoder, new.clone()));
        self.weight.fetch_add(bytes, Ordering::Relaxed);
        self.load.add(bytes);
        new
    }
}

/// What a record keeps of memory, with its entry.
fn memory(record: &ConsumerRecord) -> usize {
    let headers = match record.headers.len() {
        0 => 0,
        some => ALLOCATION + some * (size_of::<Header>() + ALLOCATION),
    };
    record.size() + OVERHEAD + headers
}

/// What is kept for an encoder.
fn memory_of_made(made: &Made) -> usize {
    MADE + made.as_ref().map_or(0, Bytes::len)
}

/// What `make` writes, in bytes of just that size: it is kept, and the room that it was written in is not.
fn exactly(make: impl FnOnce(&mut Vec<u8>) -> bool) -> Option<Bytes> {
    let mut out = ROOM.take();
    out.clear();
    let made = make(&mut out).then(|| Bytes::copy_from_slice(&out));
    if out.capacity() <= MOST_ROOM {
        ROOM.set(out);
    }
    made
}

/// Most of the room that is kept for the next record.
const MOST_ROOM: usize = 64 << 10;

thread_local! {
    /// What encoders write in.
    static ROOM: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
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
    fn an_encoder_makes_a_record_once_and_all_of_it_is_counted() {
        let total = Arc::new(AtomicUsize::new(0));
        let load = Arc::new(Load::new(Arc::clone(&total)));
        let entry = Entry::new(record(0, 7), &load);
        let before = load.bytes();
        let write = |text: &'static [u8]| {
            move |_: &ConsumerRecord, out: &mut Vec<u8>| {
                out.extend_from_slice(text);
                true
            }
        };
        let first = entry.made(1, write(b"seen"));
        let again = entry.made(1, |_, _| panic!("made twice"));
        assert_eq!(first.as_deref(), Some(&b"seen"[..]));
        assert_eq!(first, again);
        let left_out = entry.made(2, |_, out| {
            out.extend_from_slice(b"half of it");
            false
        });
        assert_eq!(left_out, None);
        assert_eq!(entry.made(2, |_, _| panic!("asked twice")), None);
        assert_eq!(load.bytes(), before + 2 * MADE + 4);
        for encoder in 3..40 {
            entry.made(encoder, write(b"12345678"));
        }
        assert_eq!(load.bytes(), before + MOST_ENCODERS * (MADE + 8));
        drop(entry);
        assert_eq!((load.bytes(), load.total()), (0, 0));
    }

    #[test]
    fn what_an_encoder_made_keeps_no_more_than_its_own_bytes() {
        let entry = Entry::alone(record(0, 7));
        entry.made(1, |_, out| {
            out.reserve(50_000);
            out.extend_from_slice(b"short");
            true
        });
        let made = std::mem::take(&mut *entry.made.lock());
        assert_eq!(made.capacity(), 1);
        let (_, made) = made.into_iter().next().unwrap();
        let made = made.unwrap().try_into_mut().unwrap();
        assert_eq!((&made[..], made.capacity()), (&b"short"[..], 5));
    }
}
