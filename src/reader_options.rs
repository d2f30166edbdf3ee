//! Choices that a reader has, one type for the frames, the parameters and the engines. The comments of the
//! variants stand in the AsyncAPI document.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Which records of transactions are delivered
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Deserialize, Serialize, ToSchema)]
pub enum Isolation {
    /// Those that were committed.
    #[default]
    #[serde(rename = "read_committed")]
    Committed,
    /// All.
    #[serde(rename = "read_uncommitted")]
    Uncommitted,
}

impl Isolation {
    /// Reads the value of Kafka's `isolation.level`.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "read_committed" => Some(Self::Committed),
            "read_uncommitted" => Some(Self::Uncommitted),
            _ => None,
        }
    }
}

/// Where a partition starts of which nothing is committed
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum OffsetReset {
    /// After the last record.
    #[default]
    Latest,
    /// At the first record that is still there.
    Earliest,
    /// Nowhere: the subscription ends with an error.
    Error,
}

/// What becomes of a tail that cannot keep up with its topics
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnLag {
    /// It is read from Kafka what it missed.
    #[default]
    Catchup,
    /// It goes on with what is new, after a `gap`.
    Skip,
    /// It ends, after a `gap`.
    Close,
}
