//! Lanes: streams that show records in the same way share what a record was made into.
//!
//! Those that stand at the same place share more: whole pieces, ids included. So at the head of a topic
//! a record costs a lane once and a stream next to nothing, whatever its filter.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use bytes::Bytes;
use metrics::Counter;
use parking_lot::Mutex;

use super::event_format::{Door, Undecodable};
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

/// Most pieces that a lane keeps, and bytes of those of all lanes.
const MOST_PIECES: usize = 32;
const MOST_PIECE_BYTES: usize = 16 << 20;
/// Below so many lanes nobody looks for those that are not used any more.
const FEW: usize = 64;

/// How a stream shows records, and which. Streams share what is made of records exactly when all of it is
/// the same.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct View {
    pub(crate) door: Door,
    pub(crate) formats: Formats,
    /// The value alone, without the record around it.
    pub(crate) bare: bool,
    pub(crate) fields: Option<Fields>,
    pub(crate) filter: Filter,
    /// Which records may be shown, whatever is wanted.
    pub(crate) visibility: RecordVisibility,
}

/// A view that streams share.
#[derive(Debug)]
pub(crate) struct Lane {
    id: u64,
    view: Arc<View>,
    made: Counter,
    /// Records given to readers of its door.
    pub(crate) delivered: Counter,
    pieces: Mutex<VecDeque<Arc<Piece>>>,
    /// A piece was made or used since the last sweep.
    used: AtomicBool,
    held: Arc<AtomicUsize>,
}

/// What some records were made into for a stream that stood before them.
#[derive(Debug)]
pub(super) struct Piece {
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

/// What tells one piece from another.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) entries: &'a [Arc<Entry>],
    pub(super) each: bool,
    pub(super) before: &'a Offsets,
    pub(super) after: &'a [(i32, i64)],
}

impl Piece {
    fn is_at(&self, place: Place<'_>) -> bool {
        let Place {
            entries: [first, ..],
            ..
        } = place
        else {
            return false;
        };
        Arc::ptr_eq(first, &self.first)
            && place.entries.len() == self.count
            && place
                .entries
                .last()
                .is_some_and(|last| Arc::ptr_eq(last, &self.last))
            && place.each == self.each
            && *place.before == self.before
            && *place.after == self.after
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        self.held.fetch_sub(self.out.len(), Ordering::Relaxed);
    }
}

/// The lanes that are in use.
#[derive(Debug)]
pub(crate) struct Lanes {
    known: Mutex<Known>,
    next: AtomicU64,
    held: Arc<AtomicUsize>,
}

#[derive(Debug)]
struct Known {
    of: HashMap<Arc<View>, Weak<Lane>>,
    sweep_at: usize,
}

impl Default for Lanes {
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

impl Lanes {
    /// The lane of a view.
    pub(crate) fn lane(&self, view: View) -> Arc<Lane> {
        let view = Arc::new(view);
        let mut known = self.known.lock();
        if let Some(lane) = known.of.get(&view).and_then(Weak::upgrade) {
            return lane;
        }
        if known.of.len() >= known.sweep_at {
            known.of.retain(|_, lane| lane.strong_count() > 0);
            known.sweep_at = FEW.max(2 * known.of.len());
        }
        let lane = Arc::new(Lane {
            id: self.next.fetch_add(1, Ordering::Relaxed),
            made: metrics::counter!("stream_records_encoded_total"),
            delivered: metrics::counter!("stream_records_delivered_total", "door" => view.door.name()),
            view: Arc::clone(&view),
            pieces: Mutex::default(),
            used: AtomicBool::new(false),
            held: Arc::clone(&self.held),
        });
        known.of.insert(view, Arc::downgrade(&lane));
        metrics::gauge!("stream_lanes").increment(1.0);
        lane
    }

    /// Lets go of the pieces of lanes that have not used any since the last call.
    pub(super) fn sweep(&self) {
        let known = self.known.lock();
        // Dropped when the lock is free.
        let lanes: Vec<Arc<Lane>> = known.of.values().filter_map(Weak::upgrade).collect();
        drop(known);
        for lane in lanes {
            if !lane.used.swap(false, Ordering::Relaxed) {
                lane.pieces.lock().clear();
            }
        }
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        metrics::gauge!("stream_lanes").decrement(1.0);
    }
}

impl Lane {
    pub(crate) fn door(&self) -> Door {
        self.view.door
    }

    /// Whether the values stand alone.
    pub(crate) fn is_bare(&self) -> bool {
        self.view.bare
    }

    /// A follower that sees the records of a topic that the lane may show: of one key alone, if that is
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

    /// The piece at this place, if another stream has made it.
    pub(super) fn piece(&self, place: Place<'_>) -> Option<Arc<Piece>> {
        let pieces = self.pieces.lock();
        let found = pieces.iter().rev().find(|piece| piece.is_at(place));
        if found.is_some() {
            self.used.store(true, Ordering::Relaxed);
        }
        found.map(Arc::clone)
    }

    /// Keeps a piece for the other streams, if there are any and there is room.
    pub(super) fn keep(lane: &Arc<Self>, place: Place<'_>, out: &Bytes, written: u64, moved: bool) {
        let ([first, ..], [.., last]) = (place.entries, place.entries) else {
            return;
        };
        let is_alone = Arc::strong_count(lane) < 2;
        let held = lane.held.load(Ordering::Relaxed);
        if is_alone || held + out.len() > MOST_PIECE_BYTES {
            return;
        }
        lane.held.fetch_add(out.len(), Ordering::Relaxed);
        let piece = Arc::new(Piece {
            first: Arc::clone(first),
            last: Arc::clone(last),
            count: place.entries.len(),
            each: place.each,
            before: place.before.clone(),
            after: place.after.to_vec(),
            out: out.clone(),
            written,
            moved,
            held: Arc::clone(&lane.held),
        });
        lane.used.store(true, Ordering::Relaxed);
        let mut pieces = lane.pieces.lock();
        if pieces.len() >= MOST_PIECES {
            pieces.pop_front();
        }
        pieces.push_back(piece);
    }

    /// The record as the lane shows it; `None` when it leaves it out. It is empty where it was to be
    /// marked as undecodable.
    pub(crate) fn of(&self, entry: &Entry) -> Option<Bytes> {
        // Where each principal sees its own, there are as many lanes: most records are in none of
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

impl View {
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
        if let Door::Ws(shape) = self.door {
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
        if self.door == Door::Sse {
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
        if self.door == Door::Sse {
            out.push(b'\n');
        }
        true
    }
}

/// Values that are JSON stand as they are, and JSON may have line ends between its parts; in strings
/// they are escaped. Both doors need one line.
fn one_line(json: &mut [u8]) {
    for byte in json {
        if matches!(byte, b'\n' | b'\r') {
            *byte = b' ';
        }
    }
}
