//! Frames that wait for the answer to one before them: what is about a subscription that is still being
//! made, a group behind one that is being left, and a commit behind a seek. They are handled in their order, as soon as that answer is known.
//! `ping`, `produce` and `auth` are about no subscription, and wait for nothing.

use std::collections::VecDeque;
use std::time::Instant;

use super::{Phase, Session};
use crate::session::protocol::client::{ClientFrame, Mode};
use crate::session::protocol::server::Error;
use crate::session::subscription::options;

/// Most frames that wait, and most bytes of them.
pub(super) const MOST_FRAMES: usize = 1_000;
const MOST_BYTES: usize = 1 << 20;

/// The frames that wait, in the order in which they came.
#[derive(Debug, Default)]
pub(super) struct Behind {
    frames: VecDeque<(ClientFrame, usize)>,
    bytes: usize,
}

impl Behind {
    pub(super) fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// Bytes of the frames.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    fn take(&mut self, at: usize) -> Option<ClientFrame> {
        let (frame, bytes) = self.frames.remove(at)?;
        self.bytes -= bytes;
        if self.frames.is_empty() {
            // There is no room for it in each session.
            self.frames = VecDeque::new();
        }
        Some(frame)
    }
}

/// The subscription that a frame is about, also where the frame makes it.
fn about(frame: &ClientFrame) -> Option<&str> {
    match frame {
        ClientFrame::Subscribe(asked) => Some(&asked.sub),
        frame => frame.sub(),
    }
}

impl Session {
    /// Takes a frame of this size that has to wait; gives back one that may be handled.
    pub(super) fn put_behind(
        &mut self,
        frame: ClientFrame,
        bytes: usize,
        now: Instant,
    ) -> Option<ClientFrame> {
        if !self.has_to_wait(&frame, self.behind.frames.len()) {
            return Some(frame);
        }
        if self.behind.frames.len() >= MOST_FRAMES || self.behind.bytes + bytes > MOST_BYTES {
            let error = Error {
                id: frame.id().cloned(),
                sub: about(&frame).map(|sub| sub.chars().take(64).collect()),
                retriable: true,
                retry_after_ms: Some(100),
                ..Error::new(
                    "limit_exceeded",
                    format!(
                        "{MOST_FRAMES} frames, or {MOST_BYTES} bytes of them, wait for the answer to \
                         one before them; wait for it"
                    ),
                )
            };
            self.error(error, now);
            return None;
        }
        self.behind.bytes += bytes;
        self.behind.frames.push_back((frame, bytes));
        None
    }

    /// Whether a frame has to wait for an answer, or behind one of the first `ahead` that do.
    fn has_to_wait(&self, frame: &ClientFrame, ahead: usize) -> bool {
        let mut ahead = self
            .behind
            .frames
            .iter()
            .take(ahead)
            .map(|(frame, _)| frame);
        // The session's end would overtake a commit that the client has asked for.
        if matches!(frame, ClientFrame::Bye(_)) {
            return ahead.any(|other| matches!(other, ClientFrame::Commit(_)));
        }
        let Some(sub) = about(frame) else {
            return false;
        };
        let waits = match frame {
            // A session has one group: whether it has is known when that answer is, or `unsubscribed`.
            ClientFrame::Subscribe(asked) if options::mode(asked) == Mode::Group => {
                let group = self.group.as_ref();
                self.subscribing.is_some() || group.is_some_and(|group| group.is_leaving())
            }
            // It commits where the next record will be read.
            ClientFrame::Commit(_) => self
                .group
                .as_ref()
                .is_some_and(|group| group.name() == sub && group.is_seeking()),
            _ => false,
        };
        waits || self.is_being_made(sub) || ahead.any(|other| about(other) == Some(sub))
    }

    /// Handles what need not wait any more.
    pub(super) fn catch_up(&mut self, now: Instant) {
        let mut at = 0;
        while let Some((frame, _)) = self.behind.frames.get(at) {
            if matches!(self.phase, Phase::Closing | Phase::Closed) {
                return self.behind.clear();
            }
            if self.has_to_wait(frame, at) {
                at += 1;
            } else if let Some(frame) = self.behind.take(at) {
                self.handle(frame, now);
            }
        }
    }
}
