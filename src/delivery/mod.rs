//! What every consuming API shares: which records a client has, what it has acknowledged, what may
//! be committed, and what comes again. Knows neither sockets nor Kafka; time is an argument.
//!
//! ```text
//! offer --> queued --take--> in flight --ack--------------------> acked --> the commit moves on
//!             ^                 |   \--nack, deadline--> waiting --take--> in flight again
//!             |                 |                           \--too often--> dead letter --> acked
//!             +--- the client's window decides how much is in flight
//! ```
//!
//! - ledger/: all of it for one subscription
//! - `partition.rs`: the records of one partition, from the first that is not acknowledged
//! - `tags.rs`: from a tag to its record, whatever the number of tags that are out
//! - `deadlines.rs`: when what is in flight comes again
//! - `window.rs`: how much may be in flight
//! - `dead_letter.rs`: the record that goes to the dead-letter topic

mod dead_letter;
mod deadlines;
mod ledger;
mod partition;
mod tags;
#[cfg(test)]
mod tests;
mod window;

use std::time::Duration;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

pub use dead_letter::{Reason, dead_letter};
pub use ledger::{
    DeadLetter, DeadLetterId, Delivery, Flow, Ledger, Left, Place, Refused, Stale, Take, Took,
    Verdict,
};
pub use window::WindowMode;

/// How a client acknowledges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AckMode {
    /// It does not: what was written to its connection is acknowledged.
    Auto,
    /// One acknowledgement stands for all before it in its partition.
    Cumulative,
    /// One by one, in any order.
    Individual,
}

/// What a record that comes again means to those after it
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// Those of its partition wait.
    #[default]
    Partition,
    /// They go on.
    Relaxed,
}

/// How records of one subscription are delivered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// How the client acknowledges.
    pub ack: AckMode,
    /// What a record that comes again means to those after it.
    pub order: Order,
    /// How long a record may be in flight before it comes again; `None` is for ever.
    pub ack_timeout: Option<Duration>,
    /// How often a record is delivered before it becomes a dead letter.
    pub max_deliveries: u32,
    /// Whether records become dead letters at all; otherwise they come again without end.
    pub dead_letters: bool,
    /// How much may be in flight.
    pub window: WindowMode,
    /// Most records in flight, whatever the window.
    pub max_records: u64,
    /// Most bytes in flight, whatever the window.
    pub max_bytes: u64,
    /// Most offsets from the first that is not acknowledged to the last delivered, in a partition.
    pub max_gap: i64,
    /// Most records that wait to come again before nothing new is delivered.
    pub max_waiting: usize,
}
