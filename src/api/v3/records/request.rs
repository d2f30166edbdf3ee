//! From one JSON object to a record. Nothing is copied that can be shared; values that are JSON go on byte
//! for byte.

use std::borrow::Cow;
use std::fmt;

use axum::http::StatusCode;
use bytes::Bytes;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::answer::{DataType, Part, Parts};
use crate::codec::embedded::{Embedded, base64};
use crate::codec::parse::{RecordFields, Text, escape_pointer, given, short, string};
use crate::http::error::ApiError;
use crate::position::number_ms;
use crate::record::{Header, ProducerRecord};

/// Why an object is no record.
#[derive(Debug)]
pub(super) enum Refusal {
    /// It is no JSON.
    Broken(ApiError),
    /// It is JSON, and something in it is not acceptable.
    Unfit(ApiError),
}

impl From<ApiError> for Refusal {
    fn from(error: ApiError) -> Self {
        Self::Unfit(error)
    }
}

/// The fields of a record.
const FIELDS: [&str; 5] = ["partition_id", "headers", "key", "value", "timestamp"];
/// The fields of an entry of a batch: those of a record, and its id.
const ENTRY_FIELDS: [&str; 6] = ["partition_id", "headers", "key", "value", "timestamp", "id"];
/// The fields of a key or value.
const DATA_FIELDS: [&str; 7] = [
    "type",
    "data",
    "schema",
    "schema_id",
    "schema_version",
    "subject",
    "subject_name_strategy",
];

/// Reads a record, which is all of `body`.
///
/// # Errors
///
/// [`Refusal`], in the words and with the code that its result has.
pub(super) fn record(body: &Bytes) -> Result<(ProducerRecord, Parts), Refusal> {
    let object = Object::read(body, FIELDS).map_err(|error| not_an_object(body, &error))?;
    let fields = object.fields("")?;
    Ok(record_of(body, fields)?)
}

/// An entry of a batch: its id, as it stands there, and the record or what is wrong with it.
pub(super) struct Entry<'a> {
    pub(super) id: Option<&'a RawValue>,
    pub(super) record: Result<(ProducerRecord, Parts), ApiError>,
}

/// Reads an entry of a batch, which stands in `body`.
///
/// # Errors
///
/// 400 when it is no object.
pub(super) fn entry<'a>(body: &Bytes, raw: &'a RawValue) -> Result<Entry<'a>, ApiError> {
    let object = Object::read(raw.get().as_bytes(), ENTRY_FIELDS)
        .map_err(|error| bad("/entries", format!("expected objects: {error}")))?;
    let [.., id] = object.slots;
    let record = object
        .fields("")
        .and_then(|[partition, headers, key, value, timestamp, _]| {
            record_of(body, [partition, headers, key, value, timestamp])
        });
    Ok(Entry { id, record })
}

/// What `body` is, if it is no object.
fn not_an_object(body: &[u8], error: &serde_json::Error) -> Refusal {
    match serde_json::from_slice::<&RawValue>(body) {
        Err(syntax) => Refusal::Broken(broken(&syntax)),
        Ok(_) => Refusal::Unfit(ApiError::bad_request(format!(
            "Bad Request: Error processing message: {error}"
        ))),
    }
}

/// The error behind which nothing is read.
pub(super) fn broken(why: impl fmt::Display) -> ApiError {
    ApiError::bad_request(format!("Bad Request: Error processing JSON: {why}"))
}

fn bad(pointer: &str, why: impl fmt::Display) -> ApiError {
    ApiError::bad_request(format!("Bad Request: {pointer}: {why}"))
}

fn record_of(
    body: &Bytes,
    [partition_id, headers, key, value, timestamp]: [Option<&RawValue>; 5],
) -> Result<(ProducerRecord, Parts), ApiError> {
    let partition = given(partition_id).map(partition).transpose()?.flatten();
    let part = |raw: Option<&RawValue>, field: &'static str| match given(raw) {
        None => Ok((None, None)),
        Some(raw) => data(body, raw, field).map(|(bytes, part)| (bytes, Some(part))),
    };
    let (key, key_part) = part(key, "key")?;
    let (value, value_part) = part(value, "value")?;
    let record = ProducerRecord {
        partition,
        timestamp: given(timestamp).map(time).transpose()?,
        key,
        value,
        headers: given(headers).map_or_else(|| Ok(Vec::new()), record_headers)?,
    };
    let parts = Parts {
        key: key_part,
        value: value_part,
    };
    Ok((record, parts))
}

/// A number, or a string that holds one; an empty string is none.
fn partition(raw: &RawValue) -> Result<Option<i32>, ApiError> {
    let text = string(raw).unwrap_or(Cow::Borrowed(raw.get()));
    match text.trim().parse::<i32>() {
        Ok(partition @ 0..) => Ok(Some(partition)),
        Ok(negative) => Err(ApiError::new(
            StatusCode::NOT_FOUND,
            40402,
            format!("/partition_id: partitions are numbered from 0; there is no {negative}"),
        )),
        Err(_) if text.trim().is_empty() => Ok(None),
        Err(_) => Err(bad(
            "/partition_id",
            format!("expected a whole number from 0, not {}", short(raw)),
        )),
    }
}

/// Milliseconds, or an ISO 8601 time.
fn time(raw: &RawValue) -> Result<i64, ApiError> {
    let mut fields = RecordFields::default();
    if let Some(slot) = fields.slot("timestamp") {
        *slot = Some(raw);
    }
    let ms = fields.timestamp().map_err(|unfit| {
        let error = unfit.at("");
        ApiError::bad_request(format!("Bad Request: {error}"))
    })?;
    // Who sends seconds, as the reference takes them, would have records that retention deletes at once.
    match ms {
        Some(ms) if raw.get().starts_with(|c: char| c.is_ascii_digit()) => {
            number_ms(ms).map_err(|error| bad("/timestamp", error))
        }
        Some(ms) => Ok(ms),
        None => Err(bad("/timestamp", "expected a time")),
    }
}

fn record_headers(raw: &RawValue) -> Result<Vec<Header>, ApiError> {
    let headers: Vec<&RawValue> = serde_json::from_str(raw.get())
        .map_err(|_| bad("/headers", "expected an array of {\"name\", \"value\"}"))?;
    let header = |(index, raw): (usize, &RawValue)| {
        let place = format!("/headers/{index}");
        let object = Object::read(raw.get().as_bytes(), ["name", "value"]);
        let object = object.map_err(|_| bad(&place, "expected an object with name and value"))?;
        let [name, value] = object.fields(&place)?;
        let name = name.and_then(string);
        let name = name.ok_or_else(|| bad(&format!("{place}/name"), "expected a string"))?;
        let value = match given(value) {
            None => None,
            Some(raw) => {
                let bytes = string(raw)
                    .ok_or_else(|| "expected a base64 string or null".to_owned())
                    .and_then(|text| base64(&text));
                Some(bytes.map_err(|why| bad(&format!("{place}/value"), why))?)
            }
        };
        Ok(Header {
            name: name.into_owned(),
            value,
        })
    };
    headers.into_iter().enumerate().map(header).collect()
}

/// The bytes of a key or value, and what the result says of it.
fn data(
    body: &Bytes,
    raw: &RawValue,
    field: &'static str,
) -> Result<(Option<Bytes>, Part), ApiError> {
    let place = format!("/{field}");
    let object = Object::read(raw.get().as_bytes(), DATA_FIELDS);
    let object = object.map_err(|_| bad(&place, "expected an object with type and data"))?;
    let [
        kind,
        data,
        schema,
        schema_id,
        schema_version,
        subject,
        strategy,
    ] = object.fields(&place)?;
    let Some(data) = data else {
        let why = "there is no data; null is Kafka's null";
        return Err(bad(&place, why));
    };
    let kind = given(kind).map(|raw| data_type(raw, &place)).transpose()?;
    let schema = Schema {
        schema: of_string(schema, &place, "schema")?,
        schema_id: of_number(schema_id, &place, "schema_id")?,
        schema_version: of_number(schema_version, &place, "schema_version")?,
        subject: of_string(subject, &place, "subject")?,
        strategy: strategy_of(strategy, &place)?,
    };
    schema.may_stand_together(kind, &place)?;
    let Some((kind, format)) = kind.and_then(|kind| Some((kind, kind.embedded()?))) else {
        return Err(no_registry(schema.schema));
    };
    let bytes = match given(Some(data)) {
        None => None,
        Some(data) => {
            let bytes = format.content(body, data, field);
            Some(bytes.map_err(|why| bad(&format!("{place}/data"), why))?)
        }
    };
    let part = Part::new(kind, bytes.as_ref());
    Ok((bytes, part))
}

impl DataType {
    /// How its data stand in the body; `None` for those that need a schema.
    fn embedded(self) -> Option<Embedded> {
        match self {
            Self::Binary => Some(Embedded::Binary),
            Self::Json => Some(Embedded::Json),
            Self::String => Some(Embedded::Text),
            Self::Avro | Self::JsonSchema | Self::Protobuf => None,
        }
    }
}

fn data_type(raw: &RawValue, place: &str) -> Result<DataType, ApiError> {
    let text = string(raw);
    let found = DataType::ALL
        .into_iter()
        .find(|kind| text.as_deref() == Some(kind.name()));
    found.ok_or_else(|| {
        let names = DataType::ALL.map(DataType::name).join(", ");
        bad(
            &format!("{place}/type"),
            format!("expected one of {names}, not {}", short(raw)),
        )
    })
}

/// A strategy that finds a subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Strategy {
    Topic,
    Record,
    TopicAndRecord,
}

fn strategy_of(raw: Option<&RawValue>, place: &str) -> Result<Option<Strategy>, ApiError> {
    let Some(raw) = given(raw) else {
        return Ok(None);
    };
    match string(raw).as_deref() {
        Some("TOPIC_NAME") => Ok(Some(Strategy::Topic)),
        Some("RECORD_NAME") => Ok(Some(Strategy::Record)),
        Some("TOPIC_RECORD_NAME") => Ok(Some(Strategy::TopicAndRecord)),
        _ => Err(bad(
            &format!("{place}/subject_name_strategy"),
            "expected TOPIC_NAME, RECORD_NAME or TOPIC_RECORD_NAME",
        )),
    }
}

/// Whether there is a string.
fn of_string(raw: Option<&RawValue>, place: &str, name: &str) -> Result<bool, ApiError> {
    match given(raw).map(string) {
        None => Ok(false),
        Some(Some(_)) => Ok(true),
        Some(None) => Err(bad(&format!("{place}/{name}"), "expected a string")),
    }
}

/// Whether there is a number.
fn of_number(raw: Option<&RawValue>, place: &str, name: &str) -> Result<bool, ApiError> {
    let Some(raw) = given(raw) else {
        return Ok(false);
    };
    match raw.get().parse::<i32>() {
        Ok(_) => Ok(true),
        Err(_) => Err(bad(&format!("{place}/{name}"), "expected a whole number")),
    }
}

/// Which fields about a schema a key or value has.
#[derive(Debug, Clone, Copy)]
struct Schema {
    schema: bool,
    schema_id: bool,
    schema_version: bool,
    subject: bool,
    strategy: Option<Strategy>,
}

impl Schema {
    /// Whether these fields may stand beside each other and beside `type`, as in the reference.
    fn may_stand_together(self, kind: Option<DataType>, place: &str) -> Result<(), ApiError> {
        let own = [self.schema, self.schema_id, self.schema_version];
        let own = own.into_iter().filter(|is_given| *is_given).count();
        let names_subject = self.subject || self.strategy.is_some();
        let why = match kind {
            Some(kind) if kind.embedded().is_some() => {
                if own == 0 && !names_subject {
                    return Ok(());
                }
                format!(
                    "{} has no schema; leave out what speaks of one",
                    kind.name()
                )
            }
            _ if self.subject && self.strategy.is_some() => {
                "give subject or subject_name_strategy, not both".to_owned()
            }
            _ if own > 1 => "give one of schema, schema_id and schema_version".to_owned(),
            Some(kind) if !self.schema => {
                let kind = kind.name();
                format!(
                    "{kind} as the type needs schema; leave type out with schema_id or schema_version"
                )
            }
            None if self.schema => "schema needs type, which says what it is written in".to_owned(),
            None if !self.schema_id && self.strategy == Some(Strategy::Record) => {
                "RECORD_NAME needs schema or schema_id".to_owned()
            }
            _ => return Ok(()),
        };
        Err(bad(place, why))
    }
}

/// What the reference says while it has no schema registry.
fn no_registry(has_schema: bool) -> ApiError {
    let code = if has_schema { 42206 } else { 42207 };
    ApiError::unprocessable(format!(
        "Error: {code} : AVRO, JSONSCHEMA and PROTOBUF, and data without a type, need a schema registry, \
         which this version does not offer; send the type BINARY, JSON or STRING"
    ))
}

/// An object, with the fields of these names, and the first one that may not stand there.
struct Object<'a, const N: usize> {
    names: [&'static str; N],
    slots: [Option<&'a RawValue>; N],
    misfit: Option<Misfit>,
}

/// A name that may not stand where it stands.
struct Misfit {
    name: String,
    is_repeated: bool,
}

impl<'a, const N: usize> Object<'a, N> {
    /// Reads an object, which is all of `json`.
    fn read(json: &'a [u8], names: [&'static str; N]) -> Result<Self, serde_json::Error> {
        let mut deserializer = serde_json::Deserializer::from_slice(json);
        let object = Slots { names }.deserialize(&mut deserializer)?;
        deserializer.end()?;
        Ok(object)
    }

    /// Its fields, if it has no others; `place` is its JSON Pointer.
    fn fields(&self, place: &str) -> Result<[Option<&'a RawValue>; N], ApiError> {
        let Some(Misfit { name, is_repeated }) = &self.misfit else {
            return Ok(self.slots);
        };
        let pointer = format!("{place}/{}", escape_pointer(name));
        let why = match is_repeated {
            true => "it is given twice".to_owned(),
            false => format!("Unrecognized field; expected {}", self.names.join(", ")),
        };
        Err(bad(&pointer, why))
    }
}

struct Slots<const N: usize> {
    names: [&'static str; N],
}

impl<'de, const N: usize> DeserializeSeed<'de> for Slots<N> {
    type Value = Object<'de, N>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de, const N: usize> Visitor<'de> for Slots<N> {
    type Value = Object<'de, N>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an object with {}", self.names.join(", "))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut object = Object {
            names: self.names,
            slots: [None; N],
            misfit: None,
        };
        while let Some(Text(name)) = map.next_key()? {
            let at = self.names.iter().position(|known| *known == name);
            let is_repeated = match at.and_then(|at| object.slots.get_mut(at)) {
                Some(slot) => slot.replace(map.next_value()?).is_some(),
                None => {
                    map.next_value::<IgnoredAny>()?;
                    false
                }
            };
            if (is_repeated || at.is_none()) && object.misfit.is_none() {
                object.misfit = Some(Misfit {
                    name: name.into_owned(),
                    is_repeated,
                });
            }
        }
        Ok(object)
    }
}

#[cfg(test)]
mod tests;
