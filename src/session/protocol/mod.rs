//! The frames of the WebSocket protocol `tidegate.v1`: one type for each row of its tables, from
//! which the AsyncAPI document is made.
//!
//! - client/: what clients send, and what is wrong with what cannot be taken
//! - `server.rs`: what the gateway sends
//! - `topic_error.rs`: what a failure of Kafka is called in them
//! - `close.rs`: the codes that a connection is closed with
//! - `asyncapi.rs`: the document

pub mod asyncapi;
pub mod client;
pub mod close;
pub mod server;
pub(crate) mod topic_error;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The subprotocol's name: the protocol's major version.
pub const SUBPROTOCOL: &str = "tidegate.v1";
/// The protocol's minor version, in `welcome`.
pub const MINOR: u32 = 1;

/// What a client calls a request by, to find its answer: an integer, or a string of at most 64
/// characters.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(
    untagged,
    expecting = "an integer, or a string of at most 64 characters"
)]
pub enum Id {
    /// A number.
    Number(i64),
    /// A text.
    Text(String),
}

/// A partition of a topic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Partition {
    /// The topic.
    pub topic: String,
    /// The partition's number.
    pub partition: i32,
}
