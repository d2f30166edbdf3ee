//! The bodies of writes and of their answers, as the OpenAPI document has them.

use utoipa::ToSchema;

use super::{NewRecord, WrittenRecord};
use crate::http::error::ErrorBody;

/// One record, or several
#[derive(Debug, ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "the shape is read by hand; this describes it")]
pub enum NewRecords {
    /// One.
    One(NewRecord),
    /// Several, which are written in this order.
    Many(Vec<NewRecord>),
}

/// The value of a record, byte for byte
#[derive(Debug, ToSchema)]
#[schema(value_type = String, format = Binary)]
#[expect(dead_code, reason = "the body is taken as it is; this describes it")]
pub struct RawValue(Vec<u8>);

/// Where the records were written
#[derive(Debug, ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "written by hand; this describes it")]
pub enum WrittenRecords {
    /// Of one record.
    One(WrittenRecord),
    /// Of an array, in its order.
    Many(Vec<WriteResult>),
}

/// What became of a record of an array
#[derive(Debug, ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "written by hand; this describes it")]
pub enum WriteResult {
    /// It was written.
    Written(WrittenRecord),
    /// It was not.
    Failed(ErrorBody),
}

/// A line of the answer to NDJSON
#[derive(Debug, ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "written by hand; this describes it")]
pub enum ResultLine {
    /// The record was written.
    Written(WrittenRecord),
    /// It was not.
    Failed(FailedLine),
    /// The last line, with `results=errors` or `summary`, or where the stream ends before its time.
    Last(LastLine),
}

/// Why the record of a line was not written
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "written by hand; this describes it")]
pub struct FailedLine {
    /// The line's number, from 1.
    line: u64,
    /// As in an error.
    error_code: u32,
    /// What is wrong.
    message: String,
}

/// How many records were written
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "written by hand; this describes it")]
pub struct LastLine {
    /// The numbers.
    summary: LineSummary,
    /// Only where the stream ended before its time: as in an error.
    error_code: Option<u32>,
    /// Why it did.
    message: Option<String>,
}

/// The numbers of a stream
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "written by hand; this describes it")]
pub struct LineSummary {
    /// The last line that was read.
    lines: u64,
    /// Records that were written.
    written: u64,
    /// Records that were not.
    failed: u64,
}
