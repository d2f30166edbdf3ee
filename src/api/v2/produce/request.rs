//! From the JSON of a produce request to records. The body is parsed in one pass that copies
//! nothing; values that are JSON go on byte for byte.

use std::borrow::Cow;
use std::fmt;

use bytes::Bytes;
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::api::v2::media::{BINARY, Embedded, JSON};
use crate::codec::parse::{RecordFields, Text, escape_pointer, given, short, string};
use crate::http::error::ApiError;
use crate::record::ProducerRecord;

/// Reads the records of a body, whose keys and values are in `format`. Those that name no partition
/// of their own get `partition`, the path's; those that do must name the same.
///
/// # Errors
///
/// 400 for what is not JSON or not of the right shape, and for a key or value that is not in its
/// format; 422 for unknown and repeated fields, for no records, for a partition that is not the path's, and
/// for formats with a schema. The
/// JSON Pointer is in it where the fault is in one field.
pub(super) fn records(
    body: &Bytes,
    format: Embedded,
    partition: Option<i32>,
) -> Result<Vec<ProducerRecord>, ApiError> {
    if body.trim_ascii().is_empty() {
        return Err(no_records("the body is empty"));
    }
    let wire: Wire<'_> = serde_json::from_slice(body).map_err(|error| unreadable(&error))?;
    if let Some(misfit) = wire.misfit {
        return Err(misfit.at("", FIELDS));
    }
    let Some(mut records) = wire.records.filter(|records| !records.is_empty()) else {
        return Err(no_records("there are no records"));
    };
    for (index, record) in records.iter_mut().enumerate() {
        if let Some(misfit) = record.misfit.take() {
            return Err(misfit.at(&format!("/records/{index}"), RECORD_FIELDS));
        }
    }
    if let Embedded::Schema(name) = format {
        return Err(no_schemas(name, wire.has_schema));
    }
    records
        .iter()
        .enumerate()
        .map(|(index, wire)| record(body, &wire.fields, format, partition, index))
        .collect()
}

fn record(
    body: &Bytes,
    fields: &RecordFields<'_>,
    format: Embedded,
    partition: Option<i32>,
    index: usize,
) -> Result<ProducerRecord, ApiError> {
    let place = || format!("/records/{index}");
    let content = |raw: Option<&RawValue>, field: &str| match given(raw) {
        None => Ok(None),
        Some(raw) => format.content(body, raw, field).map(Some).map_err(|why| {
            let pointer = format!("{}/{field}", place());
            ApiError::bad_request(format!("Bad Request: {pointer}: {why}")).at(pointer)
        }),
    };
    let own = match given(fields.partition) {
        None => None,
        Some(raw) => own_partition(raw, index)?,
    };
    if let (Some(own), Some(of_path)) = (own, partition)
        && own != of_path
    {
        let pointer = format!("{}/partition", place());
        let message = format!(
            "{pointer}: the record is for partition {own}, and the path for partition {of_path}; leave \
             it out, or post to the topic"
        );
        return Err(ApiError::unprocessable(message).at(pointer));
    }
    Ok(ProducerRecord {
        partition: own.or(partition),
        key: content(fields.key, "key")?,
        value: content(fields.value, "value")?,
        timestamp: fields.timestamp().map_err(|unfit| unfit.at(&place()))?,
        headers: fields.headers(body).map_err(|unfit| unfit.at(&place()))?,
    })
}

/// A record's own partition, a number or a string that holds one, as Confluent REST Proxy takes it; an empty
/// string is none. 400 when it is not of the right type, 422 when it is below 0.
fn own_partition(raw: &RawValue, index: usize) -> Result<Option<i32>, ApiError> {
    let text = string(raw).unwrap_or(Cow::Borrowed(raw.get()));
    let refusal = match text.trim().parse::<i32>() {
        Ok(partition @ 0..) => return Ok(Some(partition)),
        Err(_) if text.trim().is_empty() => return Ok(None),
        Ok(_) => ApiError::unprocessable,
        Err(_) => ApiError::bad_request,
    };
    let pointer = format!("/records/{index}/partition");
    let given = short(raw);
    let message = format!("{pointer}: expected a whole number from 0, not {given}");
    Err(refusal(message).at(pointer))
}

fn no_records(what: &str) -> ApiError {
    ApiError::unprocessable(format!(
        "{what}; expected {{\"records\": [{{\"value\": …}}]}} with at least one record"
    ))
    .at("/records")
}

fn unreadable(error: &serde_json::Error) -> ApiError {
    if error.is_data() {
        ApiError::bad_request(format!("the body is not a produce request: {error}"))
    } else {
        ApiError::not_json(error)
    }
}

/// What Confluent REST Proxy answers while it has no schema registry.
fn no_schemas(format: &str, has_schema: bool) -> ApiError {
    ApiError::unprocessable(format!(
        "{format} needs a schema registry or a folder of schemas, which this version does not \
         offer; send {JSON} or {BINARY}"
    ))
    .coded(
        axum::http::StatusCode::UNPROCESSABLE_ENTITY,
        if has_schema { 42206 } else { 42207 },
    )
    .at("Content-Type")
}

/// A name that may not stand where it stands. It is told of only once the whole body has turned
/// out to be of the right shape.
struct Misfit {
    name: String,
    is_repeated: bool,
}

impl Misfit {
    fn at(self, place: &str, known: &[&str]) -> ApiError {
        let name: String = self.name.chars().take(80).collect();
        let message = if self.is_repeated {
            format!("{name} is given twice")
        } else {
            format!("Unrecognized field: {name}; expected {}", known.join(", "))
        };
        ApiError::unprocessable(message).at(format!("{place}/{}", escape_pointer(&name)))
    }
}

/// Keeps the first misfit.
fn note(slot: &mut Option<Box<Misfit>>, name: &str, is_repeated: bool) {
    slot.get_or_insert_with(|| {
        Box::new(Misfit {
            name: name.to_owned(),
            is_repeated,
        })
    });
}

/// The body.
#[derive(Default)]
struct Wire<'a> {
    records: Option<Vec<RecordWire<'a>>>,
    has_schema: bool,
    misfit: Option<Box<Misfit>>,
}

const FIELDS: &[&str] = &[
    "records",
    "key_schema",
    "key_schema_id",
    "value_schema",
    "value_schema_id",
];

impl<'de> Deserialize<'de> for Wire<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(WireVisitor)
    }
}

struct WireVisitor;

impl<'de> Visitor<'de> for WireVisitor {
    type Value = Wire<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with records")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Wire<'de>, A::Error> {
        let mut wire = Wire::default();
        let mut has_records = false;
        while let Some(Text(name)) = map.next_key()? {
            match &*name {
                "records" => {
                    if has_records {
                        note(&mut wire.misfit, &name, true);
                    }
                    has_records = true;
                    wire.records = map.next_value()?;
                }
                other if FIELDS.contains(&other) => {
                    wire.has_schema |= map.next_value::<Option<IgnoredAny>>()?.is_some();
                }
                other => {
                    note(&mut wire.misfit, other, false);
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(wire)
    }
}

/// A record as it stands in the body.
#[derive(Default)]
struct RecordWire<'a> {
    fields: RecordFields<'a>,
    misfit: Option<Box<Misfit>>,
}

const RECORD_FIELDS: &[&str] = &["key", "value", "partition", "timestamp", "headers"];

impl<'de> Deserialize<'de> for RecordWire<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(RecordVisitor)
    }
}

struct RecordVisitor;

impl<'de> Visitor<'de> for RecordVisitor {
    type Value = RecordWire<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a record: an object with key and value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RecordWire<'de>, A::Error> {
        let mut wire = RecordWire::default();
        while let Some(Text(name)) = map.next_key()? {
            let Some(slot) = wire.fields.slot(&name) else {
                note(&mut wire.misfit, &name, false);
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            let earlier = slot.replace(map.next_value()?);
            if earlier.is_some() {
                note(&mut wire.misfit, &name, true);
            }
        }
        Ok(wire)
    }
}

#[cfg(test)]
mod tests;
