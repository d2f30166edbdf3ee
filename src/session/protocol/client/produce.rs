//! `produce`: each record is read by itself, so that one that is none does not keep the others from being written.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::Format;
use super::parse::{Wrong, fields};
use crate::codec::error::DecodeError;
use crate::codec::parse::{self, Formats};
use crate::record::ProducerRecord;
use crate::session::protocol::Id;

/// Writes records
#[derive(Debug, Deserialize)]
struct ProduceWire<'a> {
    id: Id,
    topic: String,
    #[serde(borrow)]
    records: Vec<&'a RawValue>,
    key_format: Option<Format>,
    value_format: Option<Format>,
    tx: Option<bool>,
}

/// Writes records
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[schema(as = Produce)]
pub struct ProduceSchema {
    /// Comes back in `produced`.
    pub id: Id,
    /// The topic.
    pub topic: String,
    /// The records.
    #[schema(min_items = 1)]
    pub records: Vec<ProduceRecord>,
    /// How keys are written: `auto` unless said otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_format: Option<Format>,
    /// How values are written: `auto`, which is `json`, unless said otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value_format: Option<Format>,
    /// They belong to the open transaction.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tx: Option<bool>,
}

/// A record to write
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct ProduceRecord {
    /// The key; null where there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<serde_json::Value>,
    /// The value; null is a tombstone.
    #[schema(required)]
    pub value: Option<serde_json::Value>,
    /// Pairs of a name and a string, null or `{"b64": "…"}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub headers: Option<Vec<(String, serde_json::Value)>>,
    /// The partition; without it the key decides.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub partition: Option<i32>,
    /// Milliseconds since 1970, or an ISO 8601 time; without it now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timestamp: Option<serde_json::Value>,
}

/// A `produce` frame, read.
#[derive(Debug, Clone, PartialEq)]
pub struct Produced {
    /// Comes back with the answer.
    pub id: Id,
    /// The topic.
    pub topic: String,
    /// Each record, or what is wrong with it.
    pub records: Vec<Result<ProducerRecord, Unfit>>,
    /// They belong to the open transaction.
    pub tx: bool,
}

/// A record that is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unfit {
    /// The field at fault.
    pub field: Option<String>,
    /// What is wrong with it.
    pub message: String,
}

impl From<DecodeError> for Unfit {
    fn from(error: DecodeError) -> Self {
        match error {
            DecodeError::Unreadable(message) => Self {
                field: None,
                message,
            },
            DecodeError::Unacceptable { pointer, message } => Self {
                field: Some(pointer),
                message,
            },
        }
    }
}

pub(super) fn produce(text: &Bytes) -> Result<Produced, Wrong> {
    let wire: ProduceWire<'_> = fields(text)?;
    let format = |format: Option<Format>, field: &str| {
        format.unwrap_or(Format::Auto).known().ok_or_else(|| {
            let message = format!("{field}: schema is not offered by this gateway");
            Wrong::Field(Some(field.to_owned()), message)
        })
    };
    let formats = Formats {
        key: format(wire.key_format, "key_format")?,
        value: format(wire.value_format, "value_format")?,
    };
    let records = wire
        .records
        .into_iter()
        .map(|raw| {
            let body = text.slice_ref(raw.get().as_bytes());
            parse::one(&body, formats).map_err(Unfit::from)
        })
        .collect();
    Ok(Produced {
        id: wire.id,
        topic: wire.topic,
        records,
        tx: wire.tx.unwrap_or(false),
    })
}
