//! From the JSON of a request body to records, with every byte of a JSON value as it was sent.
//!
//! Bodies are parsed in one pass. Only when that fails is the body looked at again, piece by piece,
//! to say which record and which field is at fault.

mod named_partition;

use std::borrow::Cow;
use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::de::{self, Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::error::DecodeError;
use super::format::Format;
use super::json::{MAX_DEPTH, deeper_than};
use crate::position::time_ms;
use crate::record::{Header, ProducerRecord};
pub use named_partition::in_partition;

/// The formats of a request's keys and values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Formats {
    /// `key_format`.
    pub key: Format,
    /// `value_format`.
    pub value: Format,
}

/// The records of a body.
#[derive(Debug, PartialEq, Eq)]
pub enum Parsed {
    /// The body was one object.
    One(ProducerRecord),
    /// The body was an array.
    Many(Vec<ProducerRecord>),
}

/// Reads a whole body: one record, or an array of them.
///
/// # Errors
///
/// What is not JSON, with line and column; or a record that is not acceptable, with the JSON Pointer of the
/// field.
pub fn body(body: &Bytes, formats: Formats) -> Result<Parsed, DecodeError> {
    match body.iter().find(|b| !b.is_ascii_whitespace()) {
        None => Err(DecodeError::Unreadable(
            "the body is empty; expected a JSON object with a value, or an array of them"
                .to_owned(),
        )),
        Some(b'[') => {
            let wires: Vec<Wire<'_>> =
                serde_json::from_slice(body).map_err(|error| diagnose_array(body, &error))?;
            wires
                .into_iter()
                .enumerate()
                .map(|(index, wire)| {
                    record(body, wire, formats).map_err(|fault| fault.at(&format!("/{index}")))
                })
                .collect::<Result<_, _>>()
                .map(Parsed::Many)
        }
        Some(_) => one(body, formats).map(Parsed::One),
    }
}

/// Reads one record. Also used for a line of NDJSON.
///
/// # Errors
///
/// As [`body`].
pub fn one(body: &Bytes, formats: Formats) -> Result<ProducerRecord, DecodeError> {
    let wire =
        serde_json::from_slice::<Wire<'_>>(body).map_err(|error| diagnose(body, &error, ""))?;
    record(body, wire, formats).map_err(|fault| fault.at(""))
}

/// A record of this API as it stands in the body.
struct Wire<'a>(RecordFields<'a>);

/// The fields of a record as they stand in a body of any API. Nothing is copied.
#[derive(Default)]
pub struct RecordFields<'a> {
    /// `key`.
    pub key: Option<&'a RawValue>,
    /// `value`.
    pub value: Option<&'a RawValue>,
    headers: Option<&'a RawValue>,
    /// `partition`.
    pub partition: Option<&'a RawValue>,
    timestamp: Option<&'a RawValue>,
}

impl<'a> RecordFields<'a> {
    /// The place of the field `name`; `None` when a record has none of this name.
    pub fn slot(&mut self, name: &str) -> Option<&mut Option<&'a RawValue>> {
        Some(match name {
            "key" => &mut self.key,
            "value" => &mut self.value,
            "headers" => &mut self.headers,
            "partition" => &mut self.partition,
            "timestamp" => &mut self.timestamp,
            _ => return None,
        })
    }

    /// `timestamp`: milliseconds, or an ISO 8601 time; `None` is now.
    ///
    /// # Errors
    ///
    /// What was there instead.
    pub fn timestamp(&self) -> Result<Option<i64>, Unfit> {
        given(self.timestamp).map(timestamp).transpose()
    }

    /// `headers`: an object, or an array of pairs. The fields stand in `body`.
    ///
    /// # Errors
    ///
    /// The header that cannot be one.
    pub fn headers(&self, body: &Bytes) -> Result<Vec<Header>, Unfit> {
        given(self.headers).map_or_else(|| Ok(Vec::new()), |raw| headers(body, raw))
    }
}

const FIELDS: &[&str] = &["key", "value", "headers", "partition", "timestamp"];

impl<'de> Deserialize<'de> for Wire<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(WireVisitor)
    }
}

struct WireVisitor;

impl<'de> Visitor<'de> for WireVisitor {
    type Value = Wire<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a record: an object with value and, where wanted, key, headers, partition and timestamp")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Wire<'de>, A::Error> {
        let mut fields = RecordFields::default();
        while let Some(Text(name)) = map.next_key()? {
            let slot = fields
                .slot(&name)
                .ok_or_else(|| de::Error::unknown_field(&name, FIELDS))?;
            if slot.is_some() {
                return Err(de::Error::custom(format_args!("{name} is given twice")));
            }
            *slot = Some(map.next_value()?);
        }
        Ok(Wire(fields))
    }
}

/// What is wrong with one record, before it is known where the record stands.
pub struct Unfit {
    field: &'static str,
    detail: String,
}

impl Unfit {
    fn new(field: &'static str, detail: impl Into<String>) -> Self {
        Self {
            field,
            detail: detail.into(),
        }
    }

    /// The error for the record whose JSON Pointer is `place`.
    pub fn at(self, place: &str) -> DecodeError {
        let Self { field, detail } = self;
        let pointer = format!("{place}/{field}");
        let message = format!("{pointer}: {detail}");
        DecodeError::unacceptable(pointer, message)
    }
}

fn record(body: &Bytes, Wire(wire): Wire<'_>, formats: Formats) -> Result<ProducerRecord, Unfit> {
    let value = wire.value.ok_or_else(|| {
        Unfit::new(
            "value",
            "a record needs a value; null is a tombstone (it deletes the key in a compacted topic)",
        )
    })?;
    let value = match formats.value {
        Format::Auto => content(body, value, Format::Json, "value")?,
        format => content(body, value, format, "value")?,
    };
    let key = match wire.key {
        None => None,
        Some(key) => match formats.key {
            Format::Auto if key.get().starts_with('"') => {
                content(body, key, Format::String, "key")?
            }
            Format::Auto => content(body, key, Format::Json, "key")?,
            format => content(body, key, format, "key")?,
        },
    };
    Ok(ProducerRecord {
        partition: given(wire.partition).map(partition).transpose()?,
        timestamp: wire.timestamp()?,
        key,
        value,
        headers: wire.headers(body)?,
    })
}

/// A field whose absence and whose null mean the same.
pub fn given(raw: Option<&RawValue>) -> Option<&RawValue> {
    raw.filter(|raw| raw.get() != "null")
}

/// The bytes of a key or value. `None` is Kafka's null.
fn content(
    body: &Bytes,
    raw: &RawValue,
    format: Format,
    field: &'static str,
) -> Result<Option<Bytes>, Unfit> {
    let text = raw.get();
    if text == "null" {
        return Ok(None);
    }
    match format {
        Format::Auto | Format::Json => {
            if deeper_than(text.as_bytes(), MAX_DEPTH) {
                return Err(Unfit::new(
                    field,
                    format!("nested deeper than {MAX_DEPTH} levels"),
                ));
            }
            Ok(Some(body.slice_ref(text.as_bytes())))
        }
        Format::String => {
            let string = string(raw).ok_or_else(|| {
                Unfit::new(field, "expected a JSON string (the format is string)")
            })?;
            Ok(Some(shared(body, string)))
        }
        Format::Binary => {
            let string = string(raw).ok_or_else(|| {
                Unfit::new(field, "expected a base64 string (the format is binary)")
            })?;
            let bytes = STANDARD
                .decode(string.as_bytes())
                .map_err(|error| Unfit::new(field, not_base64(&error)))?;
            Ok(Some(bytes.into()))
        }
    }
}

/// The text of a JSON string; `None` when it is not one, or has half of a surrogate pair.
pub fn string(raw: &RawValue) -> Option<Cow<'_, str>> {
    let text = raw.get();
    let inner = text.strip_prefix('"')?.strip_suffix('"')?;
    if inner.contains('\\') {
        serde_json::from_str::<String>(text).ok().map(Cow::Owned)
    } else {
        Some(Cow::Borrowed(inner))
    }
}

/// The text as bytes that share the body's allocation where they can.
pub fn shared(body: &Bytes, text: Cow<'_, str>) -> Bytes {
    match text {
        Cow::Borrowed("") => Bytes::new(),
        Cow::Borrowed(text) => body.slice_ref(text.as_bytes()),
        Cow::Owned(text) => text.into(),
    }
}

/// A whole number, as JSON has them: `1.0` is one too.
pub fn whole(text: &str) -> Option<i64> {
    /// Beyond it not every whole number has a place among the others.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    if let Ok(number) = text.parse() {
        return Some(number);
    }
    let number: f64 = text.parse().ok()?;
    #[expect(
        clippy::cast_possible_truncation,
        reason = "it is whole, and far below the largest"
    )]
    let whole = (number.fract() == 0.0 && number.abs() < EXACT).then_some(number as i64);
    whole
}

fn partition(raw: &RawValue) -> Result<i32, Unfit> {
    whole(raw.get())
        .and_then(|partition| i32::try_from(partition).ok())
        .filter(|partition| *partition >= 0)
        .ok_or_else(|| {
            Unfit::new(
                "partition",
                format!("expected a whole number from 0, not {}", short(raw)),
            )
        })
}

fn timestamp(raw: &RawValue) -> Result<i64, Unfit> {
    let number = whole(raw.get());
    // librdkafka reads 0 as "now", which is not what a client that sends 0 means.
    number
        .or_else(|| {
            string(raw)
                .filter(|text| text.contains('-'))
                .and_then(|text| time_ms(&text))
        })
        .filter(|ms| *ms > 0)
        .ok_or_else(|| {
            Unfit::new(
                "timestamp",
                format!(
                    "expected milliseconds since 1970 (more than 0) or an ISO 8601 time, not {}",
                    short(raw)
                ),
            )
        })
}

/// The start of a value, for an error that shows it.
pub fn short(raw: &RawValue) -> String {
    raw.get().chars().take(40).collect()
}

fn headers(body: &Bytes, raw: &RawValue) -> Result<Vec<Header>, Unfit> {
    let HeadersWire(pairs) = serde_json::from_str(raw.get())
        .map_err(|error| Unfit::new("headers", strip_place(&error)))?;
    pairs
        .into_iter()
        .map(|(name, value)| {
            let value = match value {
                HeaderWire::Null => None,
                HeaderWire::Text(text) => Some(shared(body, text)),
                HeaderWire::Base64(text) => {
                    let bytes = STANDARD.decode(text.as_bytes()).map_err(|error| {
                        Unfit::new(
                            "headers",
                            format!("{name}: the value is {}", not_base64(&error)),
                        )
                    })?;
                    Some(bytes.into())
                }
            };
            Ok(Header {
                name: name.into_owned(),
                value,
            })
        })
        .collect()
}

/// Headers as an object (names may repeat; order is kept), or as an array of pairs, or of objects as other
/// gateways have them.
struct HeadersWire<'a>(Vec<(Cow<'a, str>, HeaderWire<'a>)>);

enum HeaderWire<'a> {
    Null,
    Text(Cow<'a, str>),
    Base64(Cow<'a, str>),
}

impl<'de> Deserialize<'de> for HeadersWire<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(HeadersVisitor)
    }
}

struct HeadersVisitor;

impl<'de> Visitor<'de> for HeadersVisitor {
    type Value = HeadersWire<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "an object of headers, an array of [name, value] pairs or one of {\"name\", \"value\"} objects \
             whose values are base64",
        )
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut pairs = Vec::new();
        while let Some(name) = map.next_key::<Text<'de>>()? {
            pairs.push((name.0, map.next_value()?));
        }
        Ok(HeadersWire(pairs))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut pairs = Vec::new();
        while let Some(Pair(name, value)) = seq.next_element()? {
            pairs.push((name, value));
        }
        Ok(HeadersWire(pairs))
    }
}

/// One header of an array.
struct Pair<'a>(Cow<'a, str>, HeaderWire<'a>);

impl<'de> Deserialize<'de> for Pair<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(PairVisitor)
    }
}

struct PairVisitor;

impl<'de> Visitor<'de> for PairVisitor {
    type Value = Pair<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a [name, value] pair or an object with name and value")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let wrong = |length| de::Error::invalid_length(length, &"a pair of name and value");
        let name = seq.next_element::<Text<'de>>()?.ok_or_else(|| wrong(0))?;
        let value = seq.next_element()?.ok_or_else(|| wrong(1))?;
        match seq.next_element::<IgnoredAny>()? {
            None => Ok(Pair(name.0, value)),
            Some(_) => Err(wrong(3)),
        }
    }

    /// As Karapace and Confluent's v3 have it, with `name`, or Strimzi, with `key`. The value is base64
    /// there, or null.
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut name = None;
        let mut value = None;
        while let Some(Text(field)) = map.next_key()? {
            let is_repeated = match &*field {
                "name" | "key" => name.replace(map.next_value::<Text<'de>>()?.0).is_some(),
                "value" => value
                    .replace(map.next_value::<Option<Text<'de>>>()?)
                    .is_some(),
                _ => {
                    let known = &["name", "value"];
                    return Err(de::Error::unknown_field(&field, known));
                }
            };
            if is_repeated {
                return Err(de::Error::custom(format!("{field} is given twice")));
            }
        }
        let name = name.ok_or_else(|| de::Error::missing_field("name"))?;
        let value = match value {
            Some(Some(text)) => HeaderWire::Base64(text.0),
            Some(None) => HeaderWire::Null,
            None => return Err(de::Error::missing_field("value")),
        };
        Ok(Pair(name, value))
    }
}

/// A string that borrows where it can; serde's own `Cow` always copies inside other types.
pub struct Text<'a>(pub Cow<'a, str>);

impl<'de> Deserialize<'de> for Text<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextVisitor;
        impl<'de> Visitor<'de> for TextVisitor {
            type Value = Text<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }
            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Borrowed(text)))
            }
            fn visit_str<E>(self, text: &str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(TextVisitor)
    }
}

impl<'de> Deserialize<'de> for HeaderWire<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ValueVisitor;
        impl<'de> Visitor<'de> for ValueVisitor {
            type Value = HeaderWire<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a header value: a string, null or {\"b64\": \"…\"}")
            }
            fn visit_unit<E>(self) -> Result<Self::Value, E> {
                Ok(HeaderWire::Null)
            }
            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(HeaderWire::Text(Cow::Borrowed(text)))
            }
            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(HeaderWire::Text(Cow::Owned(text.to_owned())))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let Some(name) = map.next_key::<Text<'de>>()? else {
                    return Err(de::Error::missing_field("b64"));
                };
                if name.0 != "b64" {
                    return Err(de::Error::unknown_field(&name.0, &["b64"]));
                }
                let text = map.next_value::<Text<'de>>()?;
                if let Some(extra) = map.next_key::<Text<'de>>()? {
                    return Err(de::Error::unknown_field(&extra.0, &["b64"]));
                }
                Ok(HeaderWire::Base64(text.0))
            }
        }
        deserializer.deserialize_any(ValueVisitor)
    }
}

/// serde_json's message without its "at line 1 column 5", which counts from a field's start here.
fn strip_place(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.rfind(" at line ") {
        Some(at) => text.get(..at).unwrap_or(&text).to_owned(),
        None => text,
    }
}

/// Says what is wrong with a record that could not be read, `place` being its JSON Pointer.
fn diagnose(json: &[u8], error: &serde_json::Error, place: &str) -> DecodeError {
    // Not JSON at all, wherever the fault is: line and column are what helps.
    if let Err(syntax) = serde_json::from_slice::<&RawValue>(json) {
        return DecodeError::not_json(&syntax);
    }
    // JSON, and an object, so one of its names is at fault.
    if serde_json::from_slice::<std::collections::HashMap<String, IgnoredAny>>(json).is_ok() {
        let detail = strip_place(error);
        let field = detail
            .split('`')
            .nth(1)
            .or_else(|| detail.strip_suffix(" is given twice"))
            .map(str::to_owned);
        let pointer = match field {
            Some(field) => format!("{place}/{}", escape_pointer(&field)),
            None => place.to_owned(),
        };
        let message = format!("{pointer}: {detail}");
        return DecodeError::unacceptable(pointer, message);
    }
    let place = if place.is_empty() { "/" } else { place };
    DecodeError::unacceptable(place, format!("{place}: {}", strip_place(error)))
}

fn diagnose_array(json: &[u8], error: &serde_json::Error) -> DecodeError {
    match serde_json::from_slice::<Vec<&RawValue>>(json) {
        Err(syntax) => DecodeError::not_json(&syntax),
        Ok(items) => items
            .iter()
            .enumerate()
            .find_map(|(index, item)| {
                let json = item.get().as_bytes();
                let error = serde_json::from_slice::<Wire<'_>>(json).err()?;
                Some(diagnose(json, &error, &format!("/{index}")))
            })
            .unwrap_or_else(|| DecodeError::not_json(error)),
    }
}

/// A name as one step of a JSON Pointer.
pub fn escape_pointer(name: &str) -> String {
    let name: String = name.chars().take(80).collect();
    name.replace('~', "~0").replace('/', "~1")
}

/// What is wrong with base64. Many tools wrap it, and nothing shows that in an error about a byte.
pub fn not_base64(error: &base64::DecodeError) -> String {
    match error {
        base64::DecodeError::InvalidByte(at, b'\n' | b'\r') => {
            format!("not valid base64: it has a line break at character {at}; send it in one line")
        }
        base64::DecodeError::InvalidByte(at, b' ' | b'\t') => {
            format!("not valid base64: it has white space at character {at}")
        }
        other => format!("not valid base64: {other}"),
    }
}

#[cfg(test)]
mod tests;
