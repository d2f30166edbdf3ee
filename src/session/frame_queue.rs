//! Frames that wait to go out, and go before records.

use std::collections::VecDeque;

use bytes::Bytes;

use super::protocol::server::ServerFrame;

/// Smallest room in which a frame of records is begun.
pub(crate) const LEAST_ROOM: usize = 16 << 10;

/// What a `produce` request weighs in the window of what may be without an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Weight {
    /// Records.
    pub records: u64,
    /// Bytes of keys, values and headers.
    pub bytes: u64,
}

/// Frames in their order; with an answer to a `produce` request what that weighs, which counts until the
/// answer has gone out.
#[derive(Debug, Default)]
pub struct FrameQueue {
    frames: VecDeque<(Bytes, Option<Weight>)>,
    bytes: usize,
}

impl FrameQueue {
    pub(crate) fn push(&mut self, frame: &ServerFrame) {
        self.push_text(frame.text(), None);
    }

    pub(super) fn push_text(&mut self, text: String, answers: Option<Weight>) {
        self.bytes += text.len();
        self.frames.push_back((Bytes::from(text), answers));
    }

    pub(super) fn pop(&mut self) -> Option<(Bytes, Option<Weight>)> {
        let (text, answers) = self.frames.pop_front()?;
        self.bytes -= text.len();
        if self.frames.is_empty() && self.frames.capacity() > 64 {
            self.frames = VecDeque::new();
        }
        Some((text, answers))
    }

    /// Puts those of another behind.
    pub(super) fn append(&mut self, mut other: Self) {
        self.bytes += other.bytes;
        self.frames.append(&mut other.frames);
    }

    /// Takes back all but the first so many.
    pub(super) fn truncate(&mut self, frames: usize) {
        while self.frames.len() > frames
            && let Some((text, _)) = self.frames.pop_back()
        {
            self.bytes -= text.len();
        }
    }

    pub(super) fn len(&self) -> usize {
        self.frames.len()
    }

    /// Bytes of all of them.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}
