//! What goes out: frames that wait, which of them and of the subscriptions' records is next, heartbeats.

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::{Phase, Session};
use crate::session::protocol::close::Close;
use crate::session::protocol::server::{Error, Heartbeat, ServerFrame};

impl Session {
    pub(super) fn send(&mut self, frame: &ServerFrame) {
        if !self.lost && self.phase != Phase::Closed {
            self.out.push(frame);
        }
    }

    /// Says an error; too many that are the client's own end the session.
    pub(super) fn error(&mut self, error: Error, now: Instant) {
        let excused = matches!(
            error.code,
            "produce_overrun"
                | "rate_limited"
                | "ack_stale"
                | "kafka_error"
                | "kafka_unavailable"
                | "timeout"
                | "draining"
                | "overrun"
        );
        self.send(&ServerFrame::Error(error));
        if !excused && !self.errors.count(now) {
            self.close(
                Close::TooManyErrors,
                "50 frames in a minute were refused",
                now,
            );
        }
    }

    /// The next text to send. `room` is how many bytes of records may go; 0 asks only for what must
    /// not wait for records.
    pub fn next_frame(&mut self, room: usize, now: Instant) -> Option<Bytes> {
        if let Some((text, answers)) = self.out.pop() {
            if let (Some(weight), Some(producing)) = (answers, &mut self.producing) {
                producing.gone(weight);
            }
            return Some(text);
        }
        // Draining, nothing new goes out.
        if self.phase != Phase::Ready {
            return None;
        }
        // Each subscription is asked first once in a while, so that none keeps the others from it.
        let count = self.tails.len() + 1;
        for nth in 0..count {
            let at = (self.turn + nth) % count;
            let frame = match at.checked_sub(1) {
                Some(tail) => self.next_of_tail(tail, room, now),
                None => self.next_of_group(room, now),
            };
            if let Some(frame) = frame {
                self.turn = (at + 1) % count;
                return Some(Bytes::from(frame));
            }
            // Something that goes first may have come of it.
            if let Some((text, _)) = self.out.pop() {
                return Some(text);
            }
            if self.phase != Phase::Ready {
                return None;
            }
        }
        None
    }

    fn next_of_group(&mut self, room: usize, now: Instant) -> Option<Vec<u8>> {
        match self.with_group(now, |group, context| group.next_frame(room, context))? {
            Ok(frame) => frame,
            Err(message) => {
                self.close(Close::DecodeError, message, now);
                None
            }
        }
    }

    /// All that was given by [`Session::next_frame`] has been taken by the socket.
    pub fn flushed(&mut self, now: Instant) {
        self.with_group(now, |group, context| group.flushed(context));
        for tail in &mut self.tails {
            tail.flushed();
        }
        self.settle(now);
    }

    /// After how long without a frame a heartbeat is due.
    pub fn heartbeat_after(&self) -> Option<Duration> {
        matches!(self.phase, Phase::Ready | Phase::Draining(_)).then_some(self.heartbeat)
    }

    /// The text of a heartbeat.
    pub fn heartbeat(&self, now: Instant) -> Bytes {
        let t = self.clock.wall(now);
        ServerFrame::Heartbeat(Heartbeat { t }).text().into()
    }
}
