//! Between bytes and what clients see: records out of request bodies, and records as JSON, for every API.
//!
//! - `format.rs`: what a key or value is taken as
//! - `embedded.rs`: the same in the v2 API's words
//! - `parse.rs`: from the JSON of a request to records
//! - `encode.rs`: from records to JSON
//! - `error.rs`: why a body could not be taken
//! - `json.rs`: checks on raw JSON text
//! - `projection.rs`: parts of values
//! - `frame_records.rs`: the `records` frame of sessions

pub mod embedded;
pub mod encode;
pub mod error;
pub mod format;
pub mod frame_records;
pub mod json;
pub mod parse;
pub mod projection;
