//! From records to the JSON of an answer. Values that are JSON go out byte for byte, so that a
//! number comes back with every digit.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::format::Format;
use super::json::value;
use super::parse::Formats;
use crate::record::{ConsumerRecord, Header, RecordMetadata, TimestampType, Unplaced};

/// Writes one record that was read.
pub fn record(out: &mut Vec<u8>, record: &ConsumerRecord, formats: Formats) {
    out.push(b'{');
    fields(out, record, formats, true);
    out.push(b'}');
}

/// Writes the fields of a record, without the braces; with `tombstones`, a null value is said to be
/// one, which tells it from the JSON `null`. Tells whether the key or the value is in another format
/// than the one asked for.
pub fn fields(
    out: &mut Vec<u8>,
    record: &ConsumerRecord,
    formats: Formats,
    tombstones: bool,
) -> bool {
    out.extend_from_slice(b"\"topic\":");
    string(out, &record.topic);
    place_and_time(out, record);
    out.extend_from_slice(b",\"key\":");
    let asked = match formats.key {
        Format::Auto => Format::String,
        format => format,
    };
    let kf = content(out, record.key.as_deref(), asked);
    out.extend_from_slice(b",\"value\":");
    let asked = match formats.value {
        Format::Auto => Format::Json,
        format => format,
    };
    let vf = content(out, record.value.as_deref(), asked);
    let null = (tombstones && record.value.is_none()).then_some("null");
    for (name, format) in [
        ("kf", kf.map(Format::name)),
        ("vf", vf.map(Format::name).or(null)),
    ] {
        if let Some(format) = format {
            out.extend_from_slice(b",\"");
            out.extend_from_slice(name.as_bytes());
            out.extend_from_slice(b"\":\"");
            out.extend_from_slice(format.as_bytes());
            out.push(b'"');
        }
    }
    headers(out, &record.headers);
    kf.is_some() || vf.is_some()
}

/// Writes where in its topic a record stands, and its time, with the comma before it.
pub fn place_and_time(out: &mut Vec<u8>, record: &ConsumerRecord) {
    out.extend_from_slice(b",\"partition\":");
    number(out, i64::from(record.partition));
    out.extend_from_slice(b",\"offset\":");
    number(out, record.offset);
    out.extend_from_slice(b",\"timestamp\":");
    number(out, record.timestamp);
    if record.timestamp_type == TimestampType::Append {
        out.extend_from_slice(b",\"timestamp_type\":\"append\"");
    }
}

/// Writes the field `headers`, with the comma before it.
pub fn headers(out: &mut Vec<u8>, headers: &[Header]) {
    out.extend_from_slice(b",\"headers\":[");
    for (index, header) in headers.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        out.push(b'[');
        string(out, &header.name);
        out.push(b',');
        match header.value.as_deref() {
            None => out.extend_from_slice(b"null"),
            Some(value) => match std::str::from_utf8(value) {
                Ok(text) => string(out, text),
                Err(_) => {
                    out.extend_from_slice(b"{\"b64\":");
                    base64(out, value);
                    out.push(b'}');
                }
            },
        }
        out.push(b']');
    }
    out.push(b']');
}

/// Writes where a record was written.
pub fn written(out: &mut Vec<u8>, topic: &str, at: &RecordMetadata) {
    out.extend_from_slice(b"{\"topic\":");
    string(out, topic);
    out.extend_from_slice(b",\"partition\":");
    number(out, i64::from(at.partition));
    out.extend_from_slice(b",\"offset\":");
    offset(out, at.offset);
    out.extend_from_slice(b",\"timestamp\":");
    number(out, at.timestamp);
    out.push(b'}');
}

/// Writes a string as JSON.
pub fn string(out: &mut Vec<u8>, text: &str) {
    json(out, text);
}

/// Writes a value as JSON.
pub fn json<T: serde::Serialize + ?Sized>(out: &mut Vec<u8>, value: &T) {
    let before = out.len();
    // Strings and plain structs always serialise, and a Vec takes every write.
    if serde_json::to_writer(&mut *out, value).is_err() {
        out.truncate(before);
        out.extend_from_slice(b"null");
    }
}

/// Writes a number.
pub fn number(out: &mut Vec<u8>, number: i64) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// Writes the offset of a record that was written; where it is not known, `null` and a field that says
/// why.
pub fn offset(out: &mut Vec<u8>, offset: Result<i64, Unplaced>) {
    match offset {
        Ok(offset) => number(out, offset),
        Err(why) => {
            out.extend_from_slice(b"null,\"offset_unknown\":");
            string(out, why.name());
        }
    }
}

/// Writes bytes as a base64 string.
pub fn base64(out: &mut Vec<u8>, bytes: &[u8]) {
    out.push(b'"');
    let start = out.len();
    out.resize(start + bytes.len().div_ceil(3) * 4, 0);
    // It was given the room that it needs.
    let written = out
        .get_mut(start..)
        .map_or(Ok(0), |room| STANDARD.encode_slice(bytes, room))
        .unwrap_or(0);
    out.truncate(start + written);
    out.push(b'"');
}

/// Writes a key or value in the format asked for, else in the next one that can hold it; returns
/// the format when it is not the one asked for.
pub fn content(out: &mut Vec<u8>, bytes: Option<&[u8]>, asked: Format) -> Option<Format> {
    let Some(bytes) = bytes else {
        out.extend_from_slice(b"null");
        return None;
    };
    if asked == Format::Json
        && let Some(text) = value(bytes)
    {
        out.extend_from_slice(text.as_bytes());
        return None;
    }
    if asked != Format::Binary
        && let Ok(text) = std::str::from_utf8(bytes)
    {
        string(out, text);
        return (asked != Format::String).then_some(Format::String);
    }
    base64(out, bytes);
    (asked != Format::Binary).then_some(Format::Binary)
}

#[cfg(test)]
mod tests;
