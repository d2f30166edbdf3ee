//! Frames that are about a subscription which is there: acknowledgements, credit, positions.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::At;
use crate::position::{number_ms, time_ms};
use crate::session::protocol::{Id, Partition};

/// Ends a subscription
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
pub struct Unsubscribe {
    /// Comes back in `unsubscribed`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<Id>,
    /// The subscription.
    pub sub: String,
    /// Whether what is acknowledged is committed first.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(default = true)]
    pub commit: Option<bool>,
}

/// Says that records are done with
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
pub struct Ack {
    /// With it comes `acked`; without it nothing does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<Id>,
    /// The subscription.
    pub sub: String,
    /// Tags of records, at most 10000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tags: Option<Vec<u64>>,
    /// All that was delivered of these partitions, up to these offsets and with them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upto: Option<Vec<At>>,
    /// The acknowledgement belongs to the open transaction.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tx: Option<bool>,
}

/// Says that records could not be handled
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
pub struct Nack {
    /// With it comes `acked`; without it nothing does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<Id>,
    /// The subscription.
    pub sub: String,
    /// Tags of records, at most 10000.
    pub tags: Vec<u64>,
    /// How long until they come again, in milliseconds, at most 900000.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(default = 0)]
    pub delay_ms: Option<i64>,
    /// They become dead letters at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(default = false)]
    pub dead_letter: Option<bool>,
    /// Why, for the dead letter.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 256)]
    pub reason: Option<String>,
}

/// Asks for more time
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
pub struct Extend {
    /// With it comes `acked`; without it nothing does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<Id>,
    /// The subscription.
    pub sub: String,
    /// Tags of records, at most 10000.
    pub tags: Vec<u64>,
    /// From now, in milliseconds, at most 600000.
    pub ms: i64,
}

/// An offset to commit
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
pub struct CommitAt {
    /// The topic.
    pub topic: String,
    /// The partition's number.
    pub partition: i32,
    /// The next offset to read.
    pub offset: i64,
    /// Kept beside it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metadata: Option<String>,
}

/// Commits, and says when the broker has it
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
pub struct Commit {
    /// Comes back in `committed`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<Id>,
    /// The subscription.
    pub sub: String,
    /// These; all that may be committed where there are none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub positions: Option<Vec<CommitAt>>,
}

/// Asks for more records, where `flow.mode` is `credit`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
pub struct Credit {
    /// Comes back in an `error`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<Id>,
    /// The subscription.
    pub sub: String,
    /// How many more.
    #[schema(minimum = 0)]
    pub records: i64,
    /// How many more bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0)]
    pub bytes: Option<i64>,
}

/// Stops deliveries, or lets them go on
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
pub struct Pause {
    /// Comes back in `ok`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<Id>,
    /// The subscription.
    pub sub: String,
    /// These; all where there are none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub partitions: Option<Vec<Partition>>,
}

/// Where a seek goes
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(untagged, expecting = "an offset, beginning, end or committed")]
pub enum SeekOffset {
    /// To an offset.
    Offset(i64),
    /// By name.
    Name(SeekName),
}

/// Where a seek goes, by name
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum SeekName {
    /// To the first record that is still there.
    Beginning,
    /// After the last record.
    End,
    /// To what the group has committed.
    Committed,
}

/// A time: milliseconds since 1970, or as ISO 8601
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(
    untagged,
    expecting = "milliseconds since 1970, or an ISO 8601 time such as 2026-01-31T12:00:00Z"
)]
pub enum SeekTime {
    /// Milliseconds since 1970.
    Ms(i64),
    /// ISO 8601.
    Text(String),
}

impl SeekTime {
    /// What it may be.
    const EXPECTED: &str =
        "expected milliseconds since 1970, or an ISO 8601 time such as 2026-01-31T12:00:00Z";

    /// Milliseconds since 1970.
    ///
    /// # Errors
    ///
    /// What was expected instead.
    pub fn ms(&self) -> Result<i64, String> {
        let expected = || Self::EXPECTED.to_owned();
        match self {
            Self::Ms(ms) if *ms < 0 => Err(expected()),
            Self::Ms(ms) => number_ms(*ms).map_err(|error| error.to_string()),
            // Digits alone are a number that should have been one.
            Self::Text(text) if text.bytes().all(|b| b.is_ascii_digit()) => Err(expected()),
            Self::Text(text) => time_ms(text).map(|ms| ms.max(0)).ok_or_else(expected),
        }
    }
}

/// A position to seek to
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
pub struct SeekAt {
    /// The topic.
    pub topic: String,
    /// The partition's number.
    pub partition: i32,
    /// Where to; or `timestamp`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offset: Option<SeekOffset>,
    /// To the first record at or after this time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timestamp: Option<SeekTime>,
}

/// Goes on elsewhere
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
pub struct Seek {
    /// Comes back in `seeked`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<Id>,
    /// The subscription.
    pub sub: String,
    /// Where to.
    pub positions: Vec<SeekAt>,
}

/// Asks where the subscription stands
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
pub struct Position {
    /// Comes back in `positions`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<Id>,
    /// The subscription.
    pub sub: String,
}
