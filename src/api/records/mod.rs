//! The records door: `/topics/{topic}/records`, the plain way to write and read a topic,
//! a page at a time or as it comes.

pub(crate) mod allowed;
pub mod follow;
mod page;
pub(crate) mod partitions;
pub mod read;
pub mod write;

const JSON: &str = "application/json";
const NDJSON: &str = "application/x-ndjson";
const EVENT_STREAM: &str = "text/event-stream";
