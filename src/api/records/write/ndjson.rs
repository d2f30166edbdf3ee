//! NDJSON: a record on each line, read as they come, with a result line for each while the body is
//! still coming in. The engine is `api::ingest`.

use std::str::FromStr;
use std::sync::Arc;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use serde::Serialize;

use super::lines::{Content, Line, Lines};
use crate::api::ingest::{self, Caller, Item, Totals, WireFormat};
use crate::api::records::NDJSON;
use crate::codec::encode;
use crate::codec::parse::{self, Formats};
use crate::http::error::{ApiError, ErrorBody};
use crate::record::RecordMetadata;

/// Which result lines the client wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Results {
    /// One for each record.
    #[default]
    All,
    /// Those of records that were not written, and a summary at the end.
    Errors,
    /// The summary.
    Summary,
}

impl Results {
    /// What the parameter expects, for its error.
    pub const EXPECTED: &'static str = "all, errors or summary";
}

impl FromStr for Results {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "all" => Ok(Self::All),
            "errors" => Ok(Self::Errors),
            "summary" => Ok(Self::Summary),
            _ => Err(()),
        }
    }
}

/// What the parameters say of all lines.
pub(super) struct Shape {
    pub(super) formats: Formats,
    /// Where records go that name no partition of their own.
    pub(super) partition: Option<i32>,
    pub(super) results: Results,
}

/// Starts the stream and answers with its results.
///
/// # Errors
///
/// Those that hold for the whole stream: no permission, an unknown topic.
pub(super) async fn answer(
    caller: Caller,
    topic: &str,
    shape: Shape,
    body: Body,
) -> Result<Response, ApiError> {
    let topic = caller
        .gateway
        .writer()
        .open(&caller.principal, topic)
        .await
        .map_err(|rejected| ApiError::from_rejected(rejected, |_| String::new()))?;
    let topic = Arc::clone(&topic.name);
    let wire = Ndjson {
        topic: Arc::clone(&topic),
        shape,
        lines: Lines::new(ingest::item_limit(&caller.gateway)),
        last: 0,
    };
    Ok(ingest::answer(caller, topic, wire, Bytes::new(), body))
}

/// The wire format.
struct Ndjson {
    topic: Arc<str>,
    shape: Shape,
    lines: Lines,
    /// The last line that was read.
    last: u64,
}

impl Ndjson {
    fn item(&mut self, line: Line) -> Item<u64> {
        let record = match line.content {
            Content::Blank => return Item::Blank,
            Content::Bytes(bytes) => parse::one(&bytes, self.shape.formats)
                .and_then(|record| parse::in_partition(record, self.shape.partition))
                .map_err(ApiError::from),
            Content::TooLong => Err(ApiError::too_large(
                "the line is longer than twice limits.record_bytes and 64 KiB",
            )),
        };
        self.last = line.number;
        match record {
            Ok(record) => Item::Record(record, line.number),
            Err(error) => Item::Unfit(error, line.number),
        }
    }
}

impl WireFormat for Ndjson {
    /// The line's number.
    type Place = u64;

    const CONTENT_TYPE: &'static str = NDJSON;
    const READ_HINT: &'static str = "read while you send, or ask for results=summary";

    fn push(&mut self, data: &[u8]) {
        self.lines.push(data);
    }

    fn waiting(&self) -> usize {
        self.lines.waiting()
    }

    fn next_item(&mut self) -> Option<Item<u64>> {
        let line = self.lines.next_line()?;
        Some(self.item(line))
    }

    fn last_item(&mut self) -> Option<Item<u64>> {
        let line = self.lines.last_line()?;
        Some(self.item(line))
    }

    fn result(&self, out: &mut Vec<u8>, line: u64, result: Result<&RecordMetadata, ApiError>) {
        match result {
            Ok(written) => {
                if self.shape.results == Results::All {
                    encode::written(out, &self.topic, written);
                    out.push(b'\n');
                }
            }
            Err(_) if self.shape.results == Results::Summary => {}
            Err(error) => {
                let error = error.into_body();
                encode::json(out, &ErrorLine { line, error });
                out.push(b'\n');
            }
        }
    }

    fn end(&self, out: &mut Vec<u8>, totals: Totals, error: Option<ApiError>) {
        if error.is_none() && self.shape.results == Results::All {
            return;
        }
        let last = LastLine {
            summary: Summary {
                lines: self.last,
                written: totals.written,
                failed: totals.failed,
            },
            error: error.map(ApiError::into_body),
        };
        encode::json(out, &last);
        out.push(b'\n');
    }
}

#[derive(Serialize)]
struct LastLine {
    summary: Summary,
    #[serde(flatten)]
    error: Option<ErrorBody>,
}

#[derive(Serialize)]
struct Summary {
    lines: u64,
    written: u64,
    failed: u64,
}

#[derive(Serialize)]
struct ErrorLine {
    line: u64,
    #[serde(flatten)]
    error: ErrorBody,
}
