//! Records on their way into a piece: as they are, shared with the other streams of the encoder, or thinned
//! out.

use std::sync::Arc;

use bytes::Bytes;
use tokio::time::Instant;

use super::super::encoder::{ChunkPosition, SharedEncoder};
use super::super::event_format::Transport;
use super::{PIECE, RecordStream};
use crate::kafka::tail::{Entry, Follower};

/// Above so many partitions only the last event of a piece has an id.
const FEW_PARTITIONS: usize = 8;

impl RecordStream {
    /// Whether each record has an id.
    pub(super) fn each_has_id(&self) -> bool {
        let partitions: usize = self.sent.iter().map(Vec::len).sum();
        self.encoder.transport() == Transport::Sse
            && (self.every_id || partitions <= FEW_PARTITIONS)
    }

    pub(super) fn records(&mut self, index: usize, entries: &[Arc<Entry>]) {
        if self.latest.is_some() {
            return self.keep_latest(index, entries);
        }
        // What other streams of the encoder write too: where there is one topic, the position tells all.
        let shareable = self.left.is_none()
            && self.ahead.is_none()
            && self.times.is_none()
            && self.followers.len() == 1;
        let before = if shareable {
            self.sent.first().cloned().unwrap_or_default()
        } else {
            Vec::new()
        };
        let each = self.each_has_id();
        let after = self.followers.get(index).map(Follower::cursor);
        let position = ChunkPosition {
            entries,
            each,
            before: &before,
            after: after.unwrap_or_default(),
        };
        if shareable && let Some(chunk) = self.encoder.chunk(position) {
            self.catch_up_with(index);
            if let Some(entry) = entries.last() {
                let record = entry.record();
                self.passed(index, record.partition, record.timestamp);
            }
            self.moved = chunk.moved;
            self.give(&chunk.out);
            return self.count(index, chunk.written);
        }
        let so_far = self.take();
        let written = self.write(index, entries, each);
        let out = Bytes::from(std::mem::take(&mut self.out));
        if shareable && let Some(after) = self.sent.first() {
            let position = ChunkPosition {
                entries,
                each,
                before: &before,
                after,
            };
            SharedEncoder::keep(&self.encoder, position, &out, written, self.moved);
        }
        self.give(&so_far);
        self.give(&out);
        self.count(index, written);
        if self.left == Some(0) {
            self.end("limit", None);
        }
    }

    pub(super) fn count(&self, index: usize, written: u64) {
        if written > 0 {
            self.encoder.delivered.increment(written);
            if let Some(read) = self.read.get(index) {
                read.count(written);
            }
        }
    }

    /// Writes records, and tells how many are shown.
    pub(super) fn write(&mut self, index: usize, entries: &[Arc<Entry>], each: bool) -> u64 {
        let mut written = 0;
        // The last one waits, so that an id may be put before it.
        let mut held: Option<Bytes> = None;
        for entry in entries {
            if !self.is_before_end(index, entry) {
                continue;
            }
            let made = self.encoder.of(entry);
            if made.is_some()
                && let Some(held) = held.take()
            {
                if each {
                    self.put_id();
                }
                self.out.extend_from_slice(&held);
            }
            // An id is of the place after its own record, and of what was passed over since.
            let record = entry.record();
            self.pass(index, record.partition, record.offset);
            self.passed(index, record.partition, record.timestamp);
            if let Some(made) = made {
                held = Some(made);
                written += 1;
                if let Some(left) = &mut self.left {
                    *left -= 1;
                    if *left == 0 {
                        break;
                    }
                }
            }
        }
        if self.left != Some(0) {
            self.catch_up_with(index);
        }
        if let Some(held) = held {
            if self.encoder.transport() == Transport::Sse {
                self.put_id();
            }
            self.out.extend_from_slice(&held);
        }
        written
    }

    pub(super) fn is_before_end(&mut self, index: usize, entry: &Entry) -> bool {
        match &mut self.ahead {
            Some(ahead) => ahead.takes(index, entry.record()),
            None => true,
        }
    }

    /// The position moves over a record.
    pub(super) fn pass(&mut self, index: usize, partition: i32, offset: i64) {
        if let Some(sent) = self.sent.get_mut(index) {
            match sent.binary_search_by_key(&partition, |(id, _)| *id) {
                Ok(at) => {
                    if let Some((_, next)) = sent.get_mut(at) {
                        *next = offset + 1;
                    }
                }
                Err(at) => sent.insert(at, (partition, offset + 1)),
            }
            self.moved = true;
        }
    }

    /// Takes in records of which only the newest are to be written.
    pub(super) fn keep_latest(&mut self, index: usize, entries: &[Arc<Entry>]) {
        for entry in entries {
            if !self.is_before_end(index, entry) {
                continue;
            }
            let made = self.encoder.of(entry);
            if let (Some(made), Some(latest)) = (made, &mut self.latest) {
                latest.came(index, entry.record(), made);
            }
        }
        self.catch_up_with(index);
    }

    /// Writes what may leave of what waits, up to a piece of it; or all of it.
    pub(super) fn write_latest(&mut self, all: bool) {
        if self.latest.is_none() {
            return;
        }
        let now = Instant::now();
        let each = self.each_has_id();
        let sse = self.encoder.transport() == Transport::Sse;
        while !self.over && (all || self.shared.len() + self.out.len() < PIECE) {
            let Some(latest) = &mut self.latest else {
                return;
            };
            let Some(waiting) = latest.leave(now, all) else {
                return;
            };
            let last = latest.is_empty();
            let due = latest.due().is_some_and(|due| due > now);
            self.pass(waiting.index, waiting.partition, waiting.offset);
            self.passed(waiting.index, waiting.partition, waiting.timestamp);
            if last {
                // What was replaced or left out lies before it.
                for index in 0..self.followers.len() {
                    self.catch_up_with(index);
                }
            }
            if each || (sse && (last || due)) {
                self.put_id();
            }
            self.own().extend_from_slice(&waiting.made);
            self.count(waiting.index, 1);
            if let Some(left) = &mut self.left {
                *left -= 1;
                if *left == 0 {
                    return self.end("limit", None);
                }
            }
        }
    }

    /// What has been passed has this time.
    pub(super) fn passed(&mut self, index: usize, partition: i32, time: i64) {
        if let Some(last) = self.last.get_mut(index) {
            *last = Some(time);
        }
        if let Some(times) = self.times.as_mut().and_then(|times| times.get_mut(index)) {
            times.insert(partition, time);
        }
    }
}
