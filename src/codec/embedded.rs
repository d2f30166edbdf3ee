//! How keys and values are embedded in bodies of the compatible APIs.

use base64::Engine;
use base64::alphabet;
use base64::engine::general_purpose::{GeneralPurpose, NO_PAD};
use bytes::Bytes;
use serde_json::value::RawValue;

use super::json::{MAX_DEPTH, deeper_than};
use super::parse::{not_base64, shared, string};

/// Base64 as Confluent REST Proxy reads it: the standard alphabet without white space; padding may be
/// missing, and the bits that pad the last character are not looked at.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    NO_PAD.with_decode_allow_trailing_bits(true),
);

/// How keys and values stand in a body of records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Embedded {
    /// As base64.
    Binary,
    /// As they are.
    Json,
    /// As JSON strings of the same text.
    Text,
    /// By a schema, in the format of this name.
    Schema(&'static str),
}

impl Embedded {
    /// The bytes of the `key` or `value` (`field` says which) `raw`, which is not `null` and stands in `body`.
    ///
    /// # Errors
    ///
    /// What was expected instead.
    pub(crate) fn content(
        self,
        body: &Bytes,
        raw: &RawValue,
        field: &str,
    ) -> Result<Bytes, String> {
        let text = raw.get();
        match self {
            Self::Binary => {
                let text = string(raw).ok_or("expected a base64 string (the format is binary)")?;
                base64(&text)
            }
            Self::Text => string(raw)
                .map(|text| shared(body, text))
                .ok_or_else(|| "expected a string (the format is text)".to_owned()),
            Self::Json | Self::Schema(_) => {
                if deeper_than(text.as_bytes(), MAX_DEPTH) {
                    return Err(format!("nested deeper than {MAX_DEPTH} levels"));
                }
                Ok(match field {
                    "key" => key(body, text),
                    _ => body.slice_ref(text.as_bytes()),
                })
            }
        }
    }
}

/// The bytes that base64 stands for.
///
/// # Errors
///
/// What is wrong with it.
pub(crate) fn base64(text: &str) -> Result<Bytes, String> {
    match BASE64.decode(text.trim_end_matches('=')) {
        Ok(bytes) => Ok(bytes.into()),
        Err(error) => Err(not_base64(&error)),
    }
}

/// The bytes of a JSON key. The reference writes JSON anew, and keys are compared byte by byte, to
/// choose a partition and to compact: one that was written through Confluent REST Proxy must keep its
/// bytes, so white space goes and characters that need no escape lose it.
fn key(body: &Bytes, text: &str) -> Bytes {
    if text.bytes().all(|b| b != b'\\' && !b.is_ascii_whitespace()) {
        return body.slice_ref(text.as_bytes());
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('"') {
        let (between, strings) = rest.split_at(at);
        let (string, after) = strings.split_at(end_of_string(strings));
        out.extend(between.chars().filter(|c| !c.is_ascii_whitespace()));
        // Half of a surrogate pair is no string here, and stays as it was sent.
        match serde_json::from_str::<String>(string).map(|s| serde_json::to_string(&s)) {
            Ok(Ok(shortest)) => out.push_str(&shortest),
            _ => out.push_str(string),
        }
        rest = after;
    }
    out.extend(rest.chars().filter(|c| !c.is_ascii_whitespace()));
    out.into()
}

/// Where the string that `json` starts with ends, its quotes included.
fn end_of_string(json: &str) -> usize {
    let mut escaped = true;
    for (at, byte) in json.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return at + 1,
            _ => {}
        }
    }
    json.len()
}
