//! Shared encoders: streams that show records in the same way share what a record was made into.
//!
//! Those that stand at the same place share more: whole chunks, ids included. So at the head of a topic
//! a record costs an encoder once and a stream next to nothing, whatever its filter.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use bytes::Bytes;
use metrics::Counter;
use parking_lot::Mutex;

use super::event_format::{Transport, Undecodable};
use crate::auth::policy::RecordVisibility;
use crate::codec::encode;
use crate::codec::format::Format;
use crate::codec::frame_records::{self, Style};
use crate::codec::parse::Formats;
use crate::codec::projection::Fields;
use crate::filter::Filter;
use crate::kafka::tail::{Entry, Follow, Follower, Tails};
use crate::position::Offsets;
use crate::record::ConsumerRecord;

/// Most chunks that an encoder keeps, and bytes of those of all encoders.
const MOST_CHUNKS: usize = 32;
const MOST_CHUNK_BYTES: usize = 16 << 20;
/// Below so many encoders nobody looks for those that are not used any more.
const FEW: usize = 64;

/// How a stream shows records, and which. Streams share what is made of records exactly when all of it is
/// the same.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct RecordView {
    pub(crate) transport: Transport,
    pub(crate) formats: Formats,
    /// The value alone, without the record around it.
    pub(crate) bare: bool,
    pub(crate) fields: Option<Fields>,
    pub(crate) filter: Filter,
    /// Which records may be shown, whatever is wanted.
    pub(crate) visibility: RecordVisibility,
}

/// Makes the bytes of records for the streams that share a view.
#[derive(Debug)]
pub(crate) struct SharedEncoder {
    id: u64,
    view: Arc<RecordView>,
    made: Counter,
    /// Records given to readers over its transport.
    pub(crate) delivered: Counter,
    chunks: Mutex<VecDeque<Arc<EncodedChunk>>>,
    /// A chunk was made or used since the last sweep.
    used: AtomicBool,
    held: Arc<AtomicUsize>,
}

/// What some records were made into for a stream that stood before them.
#[derive(Debug)]
pub(super) struct EncodedChunk {
    /// The records: these are the same ones only if they are the same allocations.
    first: Arc<Entry>,
    last: Arc<Entry>,
    count: usize,
    /// Each of them has an id.
    each: bool,
    before: Offsets,
    after: Offsets,
    /// What is written.
    pub(super) out: Bytes,
    /// How many records that is.
    pub(super) written: u64,
    /// The last id is not of the place after all of the records.
    pub(super) moved: bool,
    held: Arc<AtomicUsize>,
}

/// The position of a chunk, which tells it from others.
#[derive(Debug, Clone, Copy)]
pub(super) struct ChunkPosition<'a> {
    pub(super) entries: &'a [Arc<Entry>],
    pub(super) each: bool,
    pub(super) before: &'a Offsets,
    pub(super) after: &'a [(i32, i64)],
}

impl EncodedChunk {
    fn is_at(&self, position: ChunkPosition<'_>) -> bool {
        let ChunkPosition {
            entries: [first, ..],
            ..
        } = position
        else {
            return false;
        };
        Arc::ptr_eq(first, &self.first)
            && position.entries.len() == self.count
            && position
                .entries
                .last()
                .is_some_and(|last| Arc::ptr_eq(last, &self.last))
            && position.each == self.each
            && *position.before == self.before
            && *position.after == self.after
    }
}

impl Drop for EncodedChunk {
    fn drop(&mut self) {
        self.held.fetch_sub(self.out.len(), Ordering::Relaxed);
    }
}

/// The encoders that are in use.
#[derive(Debug)]
pub(crate) struct SharedEncoders {
    known: Mutex<Known>,
    next: AtomicU64,
    held: Arc<AtomicUsize>,
}

#[derive(Debug)]
struct Known {
    of: HashMap<Arc<RecordView>, Weak<SharedEncoder>>,
    sweep_at: usize,
}

impl Default for SharedEncoders {
    fn default() -> Self {
        Self {
            known: Mutex::new(Known {
                of: HashMap::new(),
                sweep_at: FEW,
            }),
            next: AtomicU64::new(0),
            held: Arc::default(),
        }
    }
}

impl SharedEncoders {
    /// The encoder of a view.
    pub(crate) fn encoder(&self, view: RecordView) -> Arc<SharedEncoder> {
        let view = Arc::new(view);
        let mut known = self.known.lock();
        if let Some(encoder) = known.of.get(&view).and_then(Weak::upgrade) {
            return encoder;
        }
        if known.of.len() >= known.sweep_at {
            known.of.retain(|_, encoder| encoder.strong_count() > 0);
            known.sweep_at = FEW.max(2 * known.of.len());
        }
        let encoder = Arc::new(SharedEncoder {
            id: self.next.fetch_add(1, Ordering::Relaxed),
            made: metrics::counter!("stream_records_encoded_total"),
            delivered: metrics::counter!("stream_records_delivered_total", "door" => view.transport.name()),
            view: Arc::clone(&view),
            chunks: Mutex::default(),
            used: AtomicBool::new(false),
            held: Arc::clone(&self.held),
        });
        known.of.insert(view, Arc::downgrade(&encoder));
        metrics::gauge!("stream_lanes").increment(1.0);
        encoder
    }

    /// Lets go of the chunks of encoders that have not used any since the last call.
    pub(super) fn sweep(&self) {
        let known = self.known.lock();
        // Dropped when the lock is free.
        let encoders: Vec<Arc<SharedEncoder>> =
            known.of.values().filter_map(Weak::upgrade).collect();
        drop(known);
        for encoder in encoders {
            if !encoder.used.swap(false, Ordering::Relaxed) {
                encoder.chunks.lock().clear();
            }
        }
    }
}

impl Drop for SharedEncoder {
    fn drop(&mut self) {
        metrics::gauge!("stream_lanes").decrement(1.0);
    }
}

impl SharedEncoder {
    pub(crate) fn transport(&self) -> Transport {
        self.view.transport
    }

    /// Whether the values stand alone.
    pub(crate) fn is_bare(&self) -> bool {
        self.view.bare
    }

    /// A follower that sees the records of a topic that the encoder may show: of one key alone, if that is
    /// all that they can have.
    pub(crate) fn follow(&self, tails: &Tails, follow: Follow) -> Follower {
        let key = self.key(&follow.topic.name).map(Bytes::copy_from_slice);
        tails.follow_key(follow, key)
    }

    /// The key that all of its records of a topic have, if it is known.
    pub(crate) fn key(&self, topic: &str) -> Option<&[u8]> {
        let view = &self.view;
        view.filter.key().or_else(|| view.visibility.key(topic))
    }

    /// Which records it may show.
    pub(crate) fn visibility(&self) -> &RecordVisibility {
        &self.view.visibility
    }

    /// The chunk at this place, if another stream has made it.
    pub(super) fn chunk(&self, position: ChunkPosition<'_>) -> Option<Arc<EncodedChunk>> {
        let chunks = self.chunks.lock();
        let found = chunks.iter().rev().find(|chunk| chunk.is_at(position));
        if found.is_some() {
            self.used.store(true, Ordering::Relaxed);
        }
        found.map(Arc::clone)
    }

    /// Keeps a chunk for the other streams, if there are any and there is room.
    pub(super) fn keep(
        encoder: &Arc<Self>,
        position: ChunkPosition<'_>,
        out: &Bytes,
        written: u64,
        moved: bool,
    ) {
        let ([first, ..], [.., last]) = (position.entries, position.entries) else {
            return;
        };
        let is_alone = Arc::strong_count(encoder) < 2;
        let held = encoder.held.load(Ordering::Relaxed);
        if is_alone || held + out.len() > MOST_CHUNK_BYTES {
            return;
        }
        encoder.held.fetch_add(out.len(), Ordering::Relaxed);
        let chunk = Arc::new(EncodedChunk {
            first: Arc::clone(first),
            last: Arc::clone(last),
            count: position.entries.len(),
            each: position.each,
            before: position.before.clone(),
            after: position.after.to_vec(),
            out: out.clone(),
            written,
            moved,
            held: Arc::clone(&encoder.held),
        });
        encoder.used.store(true, Ordering::Relaxed);
        let mut chunks = encoder.chunks.lock();
        if chunks.len() >= MOST_CHUNKS {
            chunks.pop_front();
        }
        chunks.push_back(chunk);
    }

    /// The record as the encoder shows it; `None` when it leaves it out. It is empty where it was to be
    /// marked as undecodable.
    pub(crate) fn of(&self, entry: &Entry) -> Option<Bytes> {
        // Where each principal sees its own, there are as many encoders: most records are in none of
        // them, and are not to be kept for that.
        if !self.view.may_make(entry.record()) {
            return None;
        }
        entry.made(self.id, |record, out| {
            self.made.increment(1);
            self.view.make(record, out)
        })
    }
}

impl RecordView {
    fn may_make(&self, record: &ConsumerRecord) -> bool {
        self.visibility.may_show(record) && self.filter.may_want(record)
    }

    /// Writes the record to the end of `out`; `false` where it is left out.
    fn make(&self, record: &ConsumerRecord, out: &mut Vec<u8>) -> bool {
        if !self.visibility.shows(record) || !self.filter.wants(record) {
            return false;
        }
        let projected;
        let record = match &self.fields {
            None => record,
            Some(fields) => {
                projected = fields.of(record);
                &projected
            }
        };
        if let Transport::Ws(shape) = self.transport {
            let style = Style {
                formats: self.formats,
                max_record: shape.max_record,
                exact: shape.undecodable != Undecodable::Deliver,
            };
            if frame_records::untagged(out, record, style) {
                return true;
            }
            out.clear();
            return shape.undecodable == Undecodable::Mark;
        }
        out.reserve(160 + record.size());
        if self.transport == Transport::Sse {
            out.extend_from_slice(b"data: ");
        }
        let begin = out.len();
        if self.bare {
            let asked = match self.formats.value {
                Format::Auto => Format::Json,
                format => format,
            };
            encode::content(out, record.value.as_deref(), asked);
        } else {
            encode::record(out, record, self.formats);
        }
        one_line(&mut out[begin..]);
        out.push(b'\n');
        if self.transport == Transport::Sse {
            out.push(b'\n');
        }
        true
    }
}

/// Values that are JSON stand as they are, and JSON may have line ends between its parts; in strings
/// they are escaped. NDJSON and server-sent events need one line.
fn one_line(json: &mut [u8]) {
    for byte in json {
        if matches!(byte, b'\n' | b'\r') {
            *byte = b' ';
        }
    }
}
