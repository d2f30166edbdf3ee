//! Cuts a byte stream into the JSON values that stand in it one after the other, within limits: the framing
//! of streamed produce, without I/O. It looks no closer than it must to find where a value ends; whether it
//! is JSON shows when it is read.

use bytes::{Buf, Bytes, BytesMut};
use memchr::memchr2;

/// One value of the stream.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Value {
    /// Its bytes, without the white space around it.
    Whole(Bytes),
    /// It is longer than the limit; its bytes are thrown away.
    TooLong,
    /// Arrays and objects stand in each other deeper than the limit; its bytes are thrown away.
    TooDeep,
    /// A byte that begins no value, so that nobody knows where the next one begins. Nothing follows.
    Stray(char),
    /// The stream ended in the middle of it. Nothing follows.
    Unfinished,
}

/// Where in the stream the cutter is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Between two values.
    Between,
    /// In a number, `true`, `false`, `null`, or what looks like one.
    Scalar,
    /// In an array or object, or about to end it.
    Nested,
    /// In a string.
    String,
    /// In a string, behind a backslash.
    Escape,
    /// Behind what cannot be cut.
    End,
}

/// The cutter. Holds one unfinished value at the most.
#[derive(Debug)]
pub(super) struct Values {
    limit: usize,
    max_depth: usize,
    buffer: BytesMut,
    /// Bytes at the start of the buffer that were looked at.
    scanned: usize,
    place: Place,
    depth: usize,
    /// In the middle of a value that is over a limit, of which the client has been told.
    skipping: bool,
}

impl Values {
    /// Values of at most `limit` bytes, in which arrays and objects stand at most `max_depth` deep in each
    /// other.
    pub(super) fn new(limit: usize, max_depth: usize) -> Self {
        Self {
            limit,
            max_depth,
            buffer: BytesMut::new(),
            scanned: 0,
            place: Place::Between,
            depth: 0,
            skipping: false,
        }
    }

    /// More of the stream.
    pub(super) fn push(&mut self, data: &[u8]) {
        if self.place != Place::End {
            self.buffer.extend_from_slice(data);
        }
    }

    /// Bytes that wait for the end of their value.
    pub(super) fn waiting(&self) -> usize {
        self.buffer.len()
    }

    /// The next whole value.
    pub(super) fn next_value(&mut self) -> Option<Value> {
        loop {
            if let Some(stray) = self.begin() {
                return Some(stray);
            }
            if matches!(self.place, Place::Between | Place::End) {
                return None;
            }
            if self.find_end() {
                let value = self.buffer.split_to(self.scanned).freeze();
                let was_told = self.between();
                if was_told {
                    continue;
                }
                return Some(if value.len() > self.limit {
                    Value::TooLong
                } else {
                    Value::Whole(value)
                });
            }
            return self.over_limit();
        }
    }

    /// The last value. Call it when the stream has ended and [`Values::next_value`] has no more.
    pub(super) fn last_value(&mut self) -> Option<Value> {
        let place = std::mem::replace(&mut self.place, Place::End);
        let value = self.buffer.split().freeze();
        self.scanned = 0;
        match place {
            Place::Between | Place::End => None,
            _ if self.skipping => None,
            // The end of the stream is as good as white space.
            Place::Scalar => Some(Value::Whole(value)),
            Place::Nested | Place::String | Place::Escape => Some(Value::Unfinished),
        }
    }

    /// Passes over white space to where a value begins.
    fn begin(&mut self) -> Option<Value> {
        if self.place != Place::Between {
            return None;
        }
        let blank = self.buffer.iter().take_while(|byte| is_blank(**byte));
        let blank = blank.count();
        self.buffer.advance(blank);
        let first = *self.buffer.first()?;
        self.place = match first {
            b'{' | b'[' => {
                self.depth = 1;
                Place::Nested
            }
            b'"' => Place::String,
            _ if is_end_of_scalar(first) => Place::End,
            _ => Place::Scalar,
        };
        if self.place == Place::End {
            self.buffer.clear();
            return Some(Value::Stray(char::from(first)));
        }
        self.scanned = 1;
        None
    }

    /// Looks at what has come; `true` when the value ends at `scanned`.
    fn find_end(&mut self) -> bool {
        while let Some(rest) = self.buffer.get(self.scanned..)
            && let Some(&byte) = rest.first()
        {
            match self.place {
                Place::String => match memchr2(b'"', b'\\', rest) {
                    None => self.scanned = self.buffer.len(),
                    Some(at) => {
                        self.scanned += at + 1;
                        if rest.get(at) == Some(&b'\\') {
                            self.place = Place::Escape;
                        } else if self.depth == 0 {
                            return true;
                        } else {
                            self.place = Place::Nested;
                        }
                    }
                },
                Place::Escape => {
                    self.scanned += 1;
                    self.place = Place::String;
                }
                Place::Nested => {
                    self.scanned += 1;
                    match byte {
                        b'"' => self.place = Place::String,
                        b'{' | b'[' => self.depth += 1,
                        b'}' | b']' => {
                            self.depth -= 1;
                            if self.depth == 0 {
                                return true;
                            }
                        }
                        _ => {}
                    }
                    if self.depth > self.max_depth && !self.skipping {
                        return false;
                    }
                }
                Place::Scalar => {
                    if is_blank(byte) || is_end_of_scalar(byte) {
                        return true;
                    }
                    self.scanned += 1;
                }
                Place::Between | Place::End => return false,
            }
        }
        false
    }

    /// An unfinished value that has outgrown a limit is reported once and thrown away.
    fn over_limit(&mut self) -> Option<Value> {
        let is_too_deep = self.depth > self.max_depth && self.scanned <= self.limit;
        if !is_too_deep && self.buffer.len() <= self.limit && !self.skipping {
            return None;
        }
        self.buffer.advance(self.scanned);
        self.scanned = 0;
        let first = !std::mem::replace(&mut self.skipping, true);
        first.then_some(match is_too_deep {
            true => Value::TooDeep,
            false => Value::TooLong,
        })
    }

    /// Stands behind a value now; `true` when its error went out before.
    fn between(&mut self) -> bool {
        self.scanned = 0;
        self.depth = 0;
        self.place = Place::Between;
        std::mem::take(&mut self.skipping)
    }
}

/// White space of JSON.
fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}

/// What ends a number or a name and is not white space.
fn is_end_of_scalar(byte: u8) -> bool {
    matches!(byte, b'{' | b'}' | b'[' | b']' | b'"' | b',' | b':')
}

#[cfg(test)]
mod tests;
