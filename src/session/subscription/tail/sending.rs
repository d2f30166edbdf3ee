//! What of a tail goes out, frame by frame, as far as its flow lets it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use super::{Flow, Given, Item, Tail, put, undecoded};
use crate::codec::frame_records::Joined;
use crate::session::frame_queue::LEAST_ROOM;
use crate::session::subscription::SessionContext;

impl Tail {
    /// The next frame, if there is something that may go, in about so many bytes.
    ///
    /// # Errors
    ///
    /// A record cannot be decoded, and the session is to end for it.
    pub fn next_frame(
        &mut self,
        room: usize,
        context: &mut SessionContext<'_>,
    ) -> Result<Given, String> {
        if self.is_any_latest() {
            return if room < LEAST_ROOM || !self.is_latest_worth_sending(context.now) {
                Ok(Given::Nothing)
            } else {
                self.frame_of_latest(room, context)
            };
        }
        while let Some(item) = self.queue.front() {
            match item {
                Item::Record(..) => break,
                Item::Gap(index, gap) => {
                    let (index, gap) = (*index, *gap);
                    self.queue.pop_front();
                    self.gap(index, gap, context);
                    if let Some(part) = self.parts.get_mut(index) {
                        put(&mut part.sent, gap.partition, gap.to);
                    }
                    self.arrive(context);
                }
                Item::Ended(index, ended) => {
                    let topic = self.parts.get(*index).map(|part| Arc::clone(&part.topic));
                    return Ok(Given::Ended(topic.unwrap_or_default(), ended.clone()));
                }
            }
        }
        if room < LEAST_ROOM || !self.is_worth_sending(context.now) {
            return Ok(Given::Nothing);
        }
        self.frame(room, context)
    }

    /// Whether there is something, and it is enough or has waited long enough.
    pub(super) fn is_worth_sending(&self, now: Instant) -> bool {
        let waits = self.lingers.is_some_and(|since| now < since + self.linger);
        // Behind what waits there is something else: then there is no more to wait for.
        let all_records = self.queued_records == self.queue.len();
        !self.queue.is_empty()
            && (self.lingered
                || !waits
                || !all_records
                || self.queued_records >= self.batch_records
                || self.queued_bytes >= self.batch_bytes)
    }

    pub(super) fn frame(
        &mut self,
        room: usize,
        context: &mut SessionContext<'_>,
    ) -> Result<Given, String> {
        let encoder = Arc::clone(&self.encoder);
        let mut frame: Option<Joined> = None;
        let mut bytes = 0;
        let mut passed = false;
        while let Some(Item::Record(index, entry)) = self.queue.front() {
            let (index, entry) = (*index, Arc::clone(entry));
            let record = entry.record();
            let size = record.size() as u64;
            let begun = frame.as_ref().map_or((0, 0), |f| (f.records(), f.len()));
            let full =
                begun.0 >= self.batch_records || bytes + size > self.batch_bytes || begun.1 >= room;
            if !self.has_room(size) || (begun.0 > 0 && full) {
                break;
            }
            if let Some(made) = encoder.of(&entry) {
                if made.is_empty() {
                    if frame.is_some() {
                        // What came before it goes out first.
                        break;
                    }
                    return Err(undecoded(&record.topic, record.partition, record.offset));
                }
                if begun.0 > 0 && begun.1 + made.len() > room {
                    break;
                }
                let name = &self.name;
                frame
                    .get_or_insert_with(|| Joined::new(name, made.len()))
                    .add(&made);
                bytes += size;
                self.spend(size);
                if let Some(part) = self.parts.get(index) {
                    part.read.count(1);
                }
            }
            let (partition, next) = (record.partition, record.offset + 1);
            if let Some(part) = self.parts.get_mut(index) {
                put(&mut part.sent, partition, next);
            }
            self.queue.pop_front();
            self.queued_records -= 1;
            self.queued_bytes = self.queued_bytes.saturating_sub(size);
            passed = true;
        }
        if passed {
            self.lingers =
                (self.queued_records > 0 && !self.linger.is_zero()).then_some(context.now);
            self.lingered = false;
            self.arrive(context);
        }
        // What a burst needed is not kept.
        if self.queue.is_empty() && self.queue.capacity() > 64 {
            self.queue = VecDeque::new();
        }
        Ok(self.given(frame))
    }

    /// Counts what goes.
    pub(super) fn given(&mut self, frame: Option<Joined>) -> Given {
        let Some(frame) = frame else {
            return Given::Nothing;
        };
        let count = frame.records() as u64;
        self.encoder.delivered.increment(count);
        self.delivered += count;
        Given::Frame(frame.finish())
    }

    /// Whether one more record of so many bytes may go. One that is larger than the window goes alone.
    pub(super) fn has_room(&self, size: u64) -> bool {
        match self.flow {
            Flow::Window { records, bytes } => {
                let (given, of) = self.out;
                given == 0
                    || (given < (records >> self.pressure).max(1)
                        && of + size <= (bytes >> self.pressure))
            }
            Flow::Credit { records, bytes } => records > 0 && bytes.is_none_or(|bytes| bytes > 0),
        }
    }

    pub(super) fn spend(&mut self, size: u64) {
        self.out.0 += 1;
        self.out.1 += size;
        if let Flow::Credit { records, bytes } = &mut self.flow {
            *records = records.saturating_sub(1);
            if let Some(bytes) = bytes {
                *bytes = bytes.saturating_sub(size);
            }
        }
    }

    /// All that was given by `next_frame` has been taken by the socket.
    pub fn flushed(&mut self) {
        self.out = (0, 0);
    }
}
