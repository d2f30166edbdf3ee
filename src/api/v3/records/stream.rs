//! The wire format of streamed produce: JSON objects, one behind the other, and a result object for each.

use std::sync::Arc;

use super::answer::{self, Parts};
use super::request::{self, Refusal};
use super::values::{Value, Values};
use crate::api::ingest::{Item, Totals, WireFormat};
use crate::codec::json::MAX_DEPTH;
use crate::http::error::ApiError;
use crate::kafka::fault::Fault;
use crate::record::RecordMetadata;
use crate::write::WriteError;

/// What stands behind each result, as in the reference.
const SEPARATOR: &[u8] = b"\r\n";
/// Deepest nesting of an object: that of data, in a key or value, in a record.
const DEPTH: usize = MAX_DEPTH + 2;

/// The wire format.
pub(super) struct Objects {
    cluster: Arc<str>,
    topic: Arc<str>,
    values: Values,
}

impl Objects {
    /// Objects of at most `limit` bytes, whose records go to `topic` of `cluster`.
    pub(super) fn new(cluster: Arc<str>, topic: Arc<str>, limit: usize) -> Self {
        Self {
            cluster,
            topic,
            values: Values::new(limit, DEPTH),
        }
    }
}

fn item(value: Value) -> Item<Parts> {
    let none = Parts::default();
    match value {
        Value::Whole(bytes) => match request::record(&bytes) {
            Ok((record, parts)) => Item::Record(record, parts),
            Err(Refusal::Unfit(error)) => Item::Unfit(error, none),
            Err(Refusal::Broken(error)) => Item::Broken(error, none),
        },
        Value::TooLong => Item::Unfit(
            ApiError::too_large("the object is longer than twice limits.record_bytes and 64 KiB"),
            none,
        ),
        Value::TooDeep => Item::Unfit(
            ApiError::bad_request(format!(
                "Bad Request: the object is nested deeper than {DEPTH} levels"
            )),
            none,
        ),
        Value::Stray(found) => Item::Broken(
            request::broken(format_args!("expected an object, not {found:?}")),
            none,
        ),
        Value::Unfinished => Item::Broken(
            request::broken("the body ended in the middle of an object"),
            none,
        ),
    }
}

impl WireFormat for Objects {
    type Place = Parts;

    const CONTENT_TYPE: &'static str = "application/json";
    const READ_HINT: &'static str = "read while you send";

    fn push(&mut self, data: &[u8]) {
        self.values.push(data);
    }

    fn waiting(&self) -> usize {
        self.values.waiting()
    }

    fn next_item(&mut self) -> Option<Item<Parts>> {
        self.values.next_value().map(item)
    }

    fn last_item(&mut self) -> Option<Item<Parts>> {
        self.values.last_value().map(item)
    }

    fn refused(&self, fault: &Fault) -> ApiError {
        answer::refused(fault)
    }

    fn rejected(&self, error: WriteError) -> ApiError {
        answer::rejected(error)
    }

    fn result(&self, out: &mut Vec<u8>, parts: Parts, result: Result<&RecordMetadata, ApiError>) {
        out.push(b'{');
        match result {
            Ok(at) => {
                out.extend_from_slice(b"\"error_code\":200,");
                answer::written(out, &self.cluster, &self.topic, parts, at);
            }
            Err(error) => answer::failed(out, error),
        }
        out.push(b'}');
        out.extend_from_slice(SEPARATOR);
    }

    fn end(&self, out: &mut Vec<u8>, _: Totals, error: Option<ApiError>) {
        if let Some(error) = error {
            self.result(out, Parts::default(), Err(error));
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::kafka::fault::FaultKind;

    fn objects() -> Objects {
        Objects::new("c-1".into(), "orders".into(), 1_000)
    }

    /// The items of a body: a record's value, or status and whether the stream ends.
    fn items(body: &[u8]) -> Vec<Result<Option<Bytes>, (u16, bool)>> {
        let mut wire = objects();
        wire.push(body);
        let mut found = Vec::new();
        while let Some(item) = wire.next_item().or_else(|| wire.last_item()) {
            found.push(match item {
                Item::Record(record, _) => Ok(record.value),
                Item::Unfit(error, _) => Err((error.status().as_u16(), false)),
                Item::Broken(error, _) => Err((error.status().as_u16(), true)),
                Item::Blank => continue,
            });
        }
        found
    }

    #[test]
    fn what_is_no_object_is_unfit_and_what_is_no_json_ends_the_stream() {
        let record = r#"{"value":{"type":"STRING","data":"x"}}"#;
        let x = || Ok(Some(Bytes::from_static(b"x")));
        for unfit in ["1", "\"a\"", "[]", "null", "{\"valeu\":1}", "{\"value\":1}"] {
            let body = format!("{record}{unfit} {record}");
            assert_eq!(
                items(body.as_bytes()),
                [x(), Err((400, false)), x()],
                "{unfit}"
            );
        }
        for broken in ["{\"a\":}", "nul", "{\"a\" 1}", "[1,]", "{a:1}", "01"] {
            let body = format!("{record}{broken}");
            assert_eq!(items(body.as_bytes()), [x(), Err((400, true))], "{broken}");
        }
        for broken in ["}", ",", "{\"a\"", "\"abc"] {
            let body = format!("{record}{broken}");
            assert_eq!(items(body.as_bytes()), [x(), Err((400, true))], "{broken}");
        }
        let not_utf8 = b"{\"value\":{\"type\":\"STRING\",\"data\":\"\xff\"}}";
        assert_eq!(items(not_utf8), [Err((400, true))]);
        let long = format!("{record}{{\"a\":\"{}\"}}{record}", "x".repeat(2_000));
        assert_eq!(items(long.as_bytes()), [x(), Err((413, false)), x()]);
    }

    #[test]
    fn every_result_ends_with_a_line_end() {
        let mut out = Vec::new();
        let fault = Fault::new(FaultKind::TooLarge, "too large");
        let wire = objects();
        let error = wire.refused(&fault);
        wire.result(&mut out, Parts::default(), Err(error));
        wire.end(&mut out, Totals::default(), None);
        wire.end(
            &mut out,
            Totals::default(),
            Some(ApiError::bad_request("no")),
        );
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "{\"error_code\":413,\"message\":\"too large\"}\r\n{\"error_code\":400,\"message\":\"no\"}\r\n"
        );
    }
}
