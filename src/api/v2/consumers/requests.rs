//! The bodies of this resource: partitions, offsets and times.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::api::fields::topic_name;
use crate::codec::parse::{short, string};
use crate::http::error::ApiError;
use crate::http::extract::{Query, unexpected};
use crate::http::json_object::{MOST, Object, needed, unacceptable, wrong};
use crate::position::time_ms;
use crate::record::TopicPartition;

/// Longest text that is kept with a commit; brokers take 4,096 bytes (`offset.metadata.max.bytes`)
/// unless they are told otherwise.
const MAX_METADATA: usize = 64 << 10;
/// The last second of the year 9999.
const LAST_SECOND: f64 = 253_402_300_799.0;

impl Object<'_> {
    fn offset(&self) -> Result<i64, ApiError> {
        let offset = self.needed("offset", self.number("offset")?)?;
        // One more is what is committed.
        if !(0..i64::MAX).contains(&offset) {
            return Err(unacceptable(
                &self.pointer("offset"),
                format!("expected a whole number from 0, not {offset}"),
            ));
        }
        Ok(offset)
    }

    fn metadata(&self) -> Result<Option<String>, ApiError> {
        let text = self.text("metadata")?;
        if text.as_ref().is_some_and(|text| text.len() > MAX_METADATA) {
            let at = self.pointer("metadata");
            return Err(unacceptable(&at, format!("at most {MAX_METADATA} bytes")));
        }
        Ok(text.map(Cow::into_owned))
    }

    /// Milliseconds since 1970, from an ISO 8601 time or seconds since then, with a fraction or not.
    fn timestamp(&self) -> Result<i64, ApiError> {
        const EXPECTED: &str = "an ISO 8601 time (2026-05-01T12:00:00Z), or seconds since 1970";
        let raw = self.needed("timestamp", self.get("timestamp"))?;
        if let Some(text) = string(raw) {
            return text
                .contains('-')
                .then(|| time_ms(&text))
                .flatten()
                .map(|ms| ms.max(0))
                .ok_or_else(|| wrong(&self.pointer("timestamp"), EXPECTED, raw));
        }
        let seconds: f64 = raw
            .get()
            .parse()
            .map_err(|_| wrong(&self.pointer("timestamp"), EXPECTED, raw))?;
        if !(0.0..=LAST_SECOND).contains(&seconds) {
            return Err(unacceptable(
                &self.pointer("timestamp"),
                format!("expected {EXPECTED}, not {} (milliseconds?)", short(raw)),
            ));
        }
        #[expect(clippy::cast_possible_truncation, reason = "far below the largest")]
        let ms = (seconds * 1000.0) as i64;
        Ok(ms)
    }
}

/// The partitions that the parameters `topic` and `partition` name, a topic before its partitions:
/// `topic=orders&partition=0&partition=1`, or `partition=0,1`. None where there are no such parameters.
///
/// # Errors
///
/// 400 that names the parameter; 400 with 40002 for a name that no topic can have.
pub(super) fn queried(query: &mut Query) -> Result<Vec<TopicPartition>, ApiError> {
    const EXPECTED: &str = "whole numbers from 0, with commas between them";
    let mut topic: Option<(Arc<str>, bool)> = None;
    let mut partitions = Vec::new();
    let mut seen = HashSet::new();
    let without = |topic: &Option<(Arc<str>, bool)>| match topic {
        Some((name, false)) => {
            let message =
                format!("partition: expected after topic={name}, whose partition is asked for");
            Err(ApiError::bad_request(message).at("partition"))
        }
        _ => Ok(()),
    };
    for (name, value) in query.take_each(&["topic", "partition"]) {
        if name == "topic" {
            without(&topic)?;
            topic = Some((topic_name(&value, "topic")?, false));
            continue;
        }
        let Some((topic, has_some)) = &mut topic else {
            let message = "topic: expected before partition, whose topic it names";
            return Err(ApiError::bad_request(message).at("topic"));
        };
        *has_some = true;
        for number in value.split(',') {
            let partition = match number.trim().parse::<i32>() {
                Ok(partition @ 0..) => partition,
                _ => return Err(unexpected("partition", &value, EXPECTED)),
            };
            let partition = TopicPartition::new(Arc::clone(topic), partition);
            if partitions.len() >= MOST {
                let message = format!("partition: at most {MOST} at once");
                return Err(ApiError::bad_request(message).at("partition"));
            }
            if seen.insert(partition.clone()) {
                partitions.push(partition);
            }
        }
    }
    without(&topic)?;
    Ok(partitions)
}

/// A body without partitions.
pub(super) fn no_partitions() -> ApiError {
    needed(
        "/partitions",
        "{\"partitions\": [{\"topic\": …, \"partition\": …}]}",
    )
}

/// `{"partitions":[{"topic","partition"}]}`; `None` without a body.
///
/// # Errors
///
/// 400 and 422, naming the field.
pub(super) fn partitions(body: &[u8]) -> Result<Option<Vec<TopicPartition>>, ApiError> {
    let Some(body) = Object::body(body, &["partitions"])? else {
        return Ok(None);
    };
    let list = body.objects("partitions", &["topic", "partition"])?;
    let list = body.needed("partitions", list)?;
    let mut partitions = Vec::with_capacity(list.len());
    let mut seen = HashSet::new();
    for object in list {
        let partition = object.partition()?;
        if seen.insert(partition.clone()) {
            partitions.push(partition);
        }
    }
    Ok(Some(partitions))
}

/// An offset as a client names it, and the text beside it.
pub(super) type Named = (TopicPartition, i64, Option<String>);

/// What is to be committed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Commits {
    /// The field that it stands in.
    pub(super) field: &'static str,
    /// The offset of the next record of each partition.
    pub(super) offsets: Vec<Named>,
}

/// `{"offsets":[{"topic","partition","offset","metadata"?}]}`, whose offsets are those of the last records
/// that were handled, as in Confluent REST Proxy; or, as Redpanda's proxy has it,
/// `{"partitions":[{"topic","partition","offset"}]}`, whose offsets are those of the next ones. `None` without
/// a body, and where it has neither.
///
/// # Errors
///
/// 400 and 422, naming the field.
pub(super) fn commits(body: &[u8]) -> Result<Option<Commits>, ApiError> {
    let Some(body) = Object::body(body, &["offsets", "partitions"])? else {
        return Ok(None);
    };
    let of_reference = body.objects("offsets", &OFFSET)?;
    let of_redpanda = body.objects("partitions", &OFFSET_ALONE)?;
    let (field, list, more) = match (of_reference, of_redpanda) {
        (None, None) => return Ok(None),
        (Some(list), None) => ("offsets", list, 1),
        (None, Some(list)) => ("partitions", list, 0),
        (Some(_), Some(_)) => {
            let what =
                "expected offsets, of the last records, or partitions, of the next ones: not both";
            return Err(unacceptable("/partitions", what));
        }
    };
    let mut offsets: Vec<Named> = Vec::with_capacity(list.len());
    let mut places = HashMap::new();
    for object in &list {
        let (partition, offset, text) = named(object)?;
        // The last word on a partition holds, as in Confluent REST Proxy.
        let at = *places.entry(partition.clone()).or_insert(offsets.len());
        let named = (partition, offset + more, text);
        match offsets.get_mut(at) {
            Some(before) => *before = named,
            None => offsets.push(named),
        }
    }
    Ok(Some(Commits { field, offsets }))
}

const OFFSET_ALONE: [&str; 3] = ["topic", "partition", "offset"];
const OFFSET: [&str; 4] = ["topic", "partition", "offset", "metadata"];
const TIMESTAMP: [&str; 4] = ["topic", "partition", "timestamp", "metadata"];

fn named(object: &Object<'_>) -> Result<Named, ApiError> {
    Ok((object.partition()?, object.offset()?, object.metadata()?))
}

/// Places to go on at: an offset, or a time in milliseconds since 1970.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Positions {
    /// By offset.
    pub(super) offsets: Vec<(TopicPartition, i64)>,
    /// By time.
    pub(super) times: Vec<(TopicPartition, i64)>,
}

/// `{"offsets":[…],"timestamps":[{"topic","partition","timestamp","metadata"?}]}`; `None` without a
/// body.
///
/// # Errors
///
/// 400 and 422, naming the field.
pub(super) fn positions(body: &[u8]) -> Result<Option<Positions>, ApiError> {
    let Some(body) = Object::body(body, &["offsets", "timestamps"])? else {
        return Ok(None);
    };
    let mut positions = Positions {
        offsets: Vec::new(),
        times: Vec::new(),
    };
    for object in body.objects("offsets", &OFFSET)?.unwrap_or_default() {
        let (partition, offset, _) = named(&object)?;
        positions.offsets.push((partition, offset));
    }
    for object in body.objects("timestamps", &TIMESTAMP)?.unwrap_or_default() {
        object.metadata()?;
        positions
            .times
            .push((object.partition()?, object.timestamp()?));
    }
    Ok(Some(positions))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal<T: std::fmt::Debug>(read: Result<T, ApiError>) -> (u16, u32, String) {
        let error = read.unwrap_err();
        let status = error.status().as_u16();
        let body = error.into_body();
        let field = body.field.unwrap_or_default().into_owned();
        (status, body.error_code, field)
    }

    #[test]
    fn what_is_wrong_is_named_field_by_field() {
        for (body, expected) in [
            ("{", (400, 400, "")),
            ("[]", (400, 400, "")),
            ("{\"a\":1}", (422, 422, "/a")),
            ("{\"offsets\":[],\"offsets\":[]}", (422, 422, "/offsets")),
            ("{\"offsets\":{}}", (400, 400, "/offsets")),
            ("{\"offsets\":[1]}", (400, 400, "/offsets/0")),
            ("{\"offsets\":[{}]}", (422, 422, "/offsets/0/topic")),
            (
                "{\"offsets\":[{\"topic\":{},\"partition\":0,\"offset\":1}]}",
                (400, 400, "/offsets/0/topic"),
            ),
            (
                "{\"offsets\":[{\"topic\":\"a b\",\"partition\":0,\"offset\":1}]}",
                (400, 40002, "/offsets/0/topic"),
            ),
            (
                "{\"offsets\":[{\"topic\":\"t\",\"offset\":1}]}",
                (422, 422, "/offsets/0/partition"),
            ),
            (
                "{\"offsets\":[{\"topic\":\"t\",\"partition\":-1,\"offset\":1}]}",
                (422, 422, "/offsets/0/partition"),
            ),
            (
                "{\"offsets\":[{\"topic\":\"t\",\"partition\":0,\"offset\":-1}]}",
                (422, 422, "/offsets/0/offset"),
            ),
            (
                "{\"offsets\":[{\"topic\":\"t\",\"partition\":0,\"offset\":9223372036854775807}]}",
                (422, 422, "/offsets/0/offset"),
            ),
            (
                "{\"offsets\":[{\"topic\":\"t\",\"partition\":0,\"offset\":1.5}]}",
                (400, 400, "/offsets/0/offset"),
            ),
            (
                "{\"offsets\":[{\"topic\":\"t\",\"partition\":0,\"offset\":1,\"x\":1}]}",
                (422, 422, "/offsets/0/x"),
            ),
            (
                "{\"offsets\":[],\"partitions\":[]}",
                (422, 422, "/partitions"),
            ),
        ] {
            let (status, code, field) = refusal(commits(body.as_bytes()));
            assert_eq!((status, code, &*field), expected, "{body}");
        }
    }

    #[test]
    fn offsets_are_read_with_their_text() {
        let body =
            "{\"offsets\":[{\"topic\":\"t\",\"partition\":\"2\",\"offset\":7,\"metadata\":\"m\"}]}";
        let read = commits(body.as_bytes()).unwrap().unwrap();
        let expected = (TopicPartition::new("t", 2), 8, Some("m".to_owned()));
        assert_eq!((read.field, read.offsets), ("offsets", vec![expected]));
        let body = "{\"partitions\":[{\"topic\":\"t\",\"partition\":2,\"offset\":7}]}";
        let read = commits(body.as_bytes()).unwrap().unwrap();
        let expected = (TopicPartition::new("t", 2), 7, None);
        assert_eq!((read.field, read.offsets), ("partitions", vec![expected]));
        for nothing in ["", " ", "null", "{}", "{\"offsets\":null}"] {
            assert!(commits(nothing.as_bytes()).unwrap().is_none(), "{nothing}");
        }
    }

    #[test]
    fn partitions_may_be_named_in_the_query() {
        let read = |query: &str| {
            let mut query = Query::parse(query).unwrap();
            queried(&mut query)
        };
        let both = [("a", 0), ("a", 2), ("b", 1)];
        let both = both.map(|(topic, partition)| TopicPartition::new(topic, partition));
        let query = "topic=a&partition=0,2&partition=0&topic=b&partition=1";
        assert_eq!(read(query).unwrap(), both);
        assert_eq!(read("").unwrap(), []);
        for (query, field) in [
            ("topic=a", "partition"),
            ("topic=a&topic=b&partition=0", "partition"),
            ("partition=0", "topic"),
            ("partition=0&topic=a", "topic"),
            ("topic=a&partition=x", "partition"),
            ("topic=a&partition=-1", "partition"),
            ("topic=a&partition=", "partition"),
            ("topic=a%20b&partition=0", "topic"),
        ] {
            let (status, _, at) = refusal(read(query));
            assert_eq!((status, &*at), (400, field), "{query}");
        }
    }

    proptest::proptest! {
        #[test]
        fn nothing_that_comes_makes_it_panic(
            body in proptest::prelude::any::<Vec<u8>>(),
            word in "(\\{|\\}|\\[|\\]|\"offsets\"|\"topic\"|:|,|-?[0-9]{1,20}|\"[a-z]*\"|null){0,30}",
        ) {
            for body in [&body[..], word.as_bytes()] {
                let _ = (commits(body), partitions(body), positions(body));
            }
        }
    }

    #[test]
    fn times_are_iso_8601_or_seconds() {
        let read = |time: &str| {
            let body = format!(
                "{{\"timestamps\":[{{\"topic\":\"t\",\"partition\":0,\"timestamp\":{time}}}]}}"
            );
            positions(body.as_bytes()).map(|read| read.unwrap().times[0].1)
        };
        assert_eq!(read("\"1970-01-01T00:00:01Z\"").unwrap(), 1_000);
        assert_eq!(read("1.5").unwrap(), 1_500);
        assert_eq!(read("1700000000").unwrap(), 1_700_000_000_000);
        assert_eq!(refusal(read("\"soon\"")).0, 400);
        // Milliseconds, most likely.
        assert_eq!(refusal(read("1700000000000")).0, 422);
        assert_eq!(refusal(read("-1")).2, "/timestamps/0/timestamp");
    }
}
