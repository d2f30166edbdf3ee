//! Lanes: streams that show records in the same way share what a record was made into.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use bytes::Bytes;
use metrics::Counter;
use parking_lot::Mutex;

use super::fields::Fields;
use super::frames::Door;
use crate::api::records::encode;
use crate::api::records::format::Format;
use crate::api::records::parse::Formats;
use crate::auth::policy::Sight;
use crate::filter::Filter;
use crate::kafka::tail::Entry;
use crate::record::Delivered;

/// How a stream shows records, and which.
#[derive(Debug, Clone)]
pub(super) struct View {
    pub(super) door: Door,
    pub(super) formats: Formats,
    /// The value alone, without the record around it.
    pub(super) bare: bool,
    pub(super) fields: Option<Fields>,
    pub(super) filter: Filter,
    /// Which records may be shown, whatever is wanted.
    pub(super) sight: Sight,
}

/// A view that streams share.
#[derive(Debug)]
pub(super) struct Lane {
    id: u64,
    view: View,
    made: Counter,
    /// Records given to readers of its door.
    pub(super) delivered: Counter,
}

/// The lanes that are in use.
#[derive(Debug, Default)]
pub(super) struct Lanes {
    of: Mutex<HashMap<String, Weak<Lane>>>,
    next: AtomicU64,
}

impl Lanes {
    /// The lane of a view.
    pub(super) fn lane(&self, view: View) -> Arc<Lane> {
        // What is seen alike is written alike.
        let key = format!("{view:?}");
        let mut of = self.of.lock();
        if let Some(lane) = of.get(&key).and_then(Weak::upgrade) {
            return lane;
        }
        of.retain(|_, lane| lane.strong_count() > 0);
        let lane = Arc::new(Lane {
            id: self.next.fetch_add(1, Ordering::Relaxed),
            made: metrics::counter!("stream_records_encoded_total"),
            delivered: metrics::counter!("stream_records_delivered_total", "door" => view.door.name()),
            view,
        });
        of.insert(key, Arc::downgrade(&lane));
        #[expect(clippy::cast_precision_loss, reason = "a metric")]
        metrics::gauge!("stream_lanes").set(of.len() as f64);
        lane
    }
}

impl Lane {
    pub(super) fn door(&self) -> Door {
        self.view.door
    }

    /// Whether the values stand alone.
    pub(super) fn is_bare(&self) -> bool {
        self.view.bare
    }

    /// The record as the lane shows it; `None` when it leaves it out.
    pub(super) fn of(&self, entry: &Entry) -> Option<Bytes> {
        // Where each principal sees its own, there are as many lanes: most records are in none of
        // them, and are not to be kept for that.
        if !self.view.may_make(entry.record()) {
            return None;
        }
        entry.made(self.id, |record| {
            self.made.increment(1);
            self.view.make(record)
        })
    }
}

impl View {
    fn may_make(&self, record: &Delivered) -> bool {
        self.sight.may_show(record) && self.filter.may_want(record)
    }

    fn make(&self, record: &Delivered) -> Option<Bytes> {
        if !self.sight.shows(record) || !self.filter.wants(record) {
            return None;
        }
        let mut out = Vec::with_capacity(160 + record.size());
        if self.door == Door::Sse {
            out.extend_from_slice(b"data: ");
        }
        let begin = out.len();
        let projected;
        let record = match &self.fields {
            None => record,
            Some(fields) => {
                projected = fields.of(record);
                &projected
            }
        };
        if self.bare {
            let asked = match self.formats.value {
                Format::Auto => Format::Json,
                format => format,
            };
            encode::content(&mut out, record.value.as_deref(), asked);
        } else {
            encode::record(&mut out, record, self.formats);
        }
        one_line(&mut out[begin..]);
        out.push(b'\n');
        if self.door == Door::Sse {
            out.push(b'\n');
        }
        Some(out.into())
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
