//! Cuts a byte stream into lines, within a limit: the framing of NDJSON, without I/O.

use bytes::{Buf, Bytes, BytesMut};
use memchr::memchr;

/// One line of the stream.
#[derive(Debug, PartialEq, Eq)]
pub struct Line {
    /// Its number, from 1; blank lines count.
    pub number: u64,
    /// What it holds.
    pub content: Content,
}

/// What a line holds.
#[derive(Debug, PartialEq, Eq)]
pub enum Content {
    /// Its bytes, without the line end.
    Bytes(Bytes),
    /// Nothing, or spaces.
    Blank,
    /// It is longer than the limit; its bytes are thrown away.
    TooLong,
}

/// The cutter. Holds one unfinished line at the most.
#[derive(Debug)]
pub struct Lines {
    limit: usize,
    buffer: BytesMut,
    /// Bytes at the start of the buffer that are known to hold no line end.
    searched: usize,
    /// In the middle of a line that is longer than the limit.
    skipping: bool,
    number: u64,
}

impl Lines {
    /// Lines of at most `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self {
            limit,
            buffer: BytesMut::new(),
            searched: 0,
            skipping: false,
            number: 0,
        }
    }

    /// More of the stream.
    pub fn push(&mut self, data: &[u8]) {
        self.buffer.extend_from_slice(data);
    }

    /// Bytes that wait for the end of their line.
    pub fn waiting(&self) -> usize {
        self.buffer.len()
    }

    /// The next whole line.
    pub fn next_line(&mut self) -> Option<Line> {
        loop {
            let rest = self.buffer.get(self.searched..).unwrap_or_default();
            let Some(found) = memchr(b'\n', rest) else {
                self.searched = self.buffer.len();
                return self.cut_over_long();
            };
            let end = self.searched + found;
            let line = self.buffer.split_to(end).freeze();
            self.buffer.advance(1);
            self.searched = 0;
            self.number += 1;
            if std::mem::take(&mut self.skipping) {
                // Its error went out when the limit was passed.
                continue;
            }
            return Some(self.line(line));
        }
    }

    /// The last line, which need not have a line end. Call it when the stream has ended and
    /// [`Lines::next_line`] has no more.
    pub fn last_line(&mut self) -> Option<Line> {
        let line = self.buffer.split().freeze();
        self.searched = 0;
        if line.is_empty() || self.skipping {
            return None;
        }
        self.number += 1;
        Some(self.line(line))
    }

    /// An unfinished line that has outgrown the limit is reported once and thrown away.
    fn cut_over_long(&mut self) -> Option<Line> {
        // A carriage return at the end may belong to the line end.
        let text = self.buffer.strip_suffix(b"\r").unwrap_or(&self.buffer);
        if text.len() <= self.limit && !self.skipping {
            return None;
        }
        self.buffer.clear();
        self.searched = 0;
        let first = !std::mem::replace(&mut self.skipping, true);
        first.then_some(Line {
            number: self.number + 1,
            content: Content::TooLong,
        })
    }

    fn line(&self, mut bytes: Bytes) -> Line {
        if bytes.last() == Some(&b'\r') {
            bytes.truncate(bytes.len() - 1);
        }
        let content = if bytes.len() > self.limit {
            Content::TooLong
        } else if bytes.iter().all(u8::is_ascii_whitespace) {
            Content::Blank
        } else {
            Content::Bytes(bytes)
        };
        Line {
            number: self.number,
            content,
        }
    }
}

#[cfg(test)]
mod tests;
