//! The records door: `/topics/{topic}/records`, the plain way to write and read a topic.

pub mod encode;
pub mod format;
pub mod json;
pub mod parse;
pub mod read;
pub mod write;

const JSON: &str = "application/json";
const NDJSON: &str = "application/x-ndjson";
