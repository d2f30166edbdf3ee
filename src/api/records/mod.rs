//! The records door: `/topics/{topic}/records`, the plain way to write and read a topic.

mod encode;
mod format;
mod json;
mod parse;
pub mod read;
pub mod write;

const JSON: &str = "application/json";
const NDJSON: &str = "application/x-ndjson";
