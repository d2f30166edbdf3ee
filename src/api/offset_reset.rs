//! The body by which offsets of a group are moved, which two APIs read: where to, and in which partitions.

use std::collections::HashSet;

use crate::admin::groups::reset::{ResetScope, ResetTo};
use crate::http::error::ApiError;
use crate::http::json_object::{Object, unacceptable, wrong};
use crate::position::{number_ms, time_ms};
use crate::record::TopicPartition;

/// The fields of the body.
pub(super) const FIELDS: &[&str] = &["to", "shift", "offsets", "topics", "partitions", "dry_run"];

/// What an API calls the parts of a partition.
#[derive(Debug)]
pub(super) struct Names {
    topic: &'static str,
    partition: &'static str,
    offset: &'static str,
}

/// The names of the plain API.
pub(super) const PLAIN: Names = Names {
    topic: "topic",
    partition: "partition",
    offset: "offset",
};

/// Those of REST v3.
pub(super) const V3: Names = Names {
    topic: "topic_name",
    partition: "partition_id",
    offset: "start_offset",
};

/// What a body asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) to: ResetTo,
    pub(super) scope: ResetScope,
    pub(super) dry_run: bool,
}

/// Reads a body, which may have [`FIELDS`].
///
/// # Errors
///
/// 400 and 422, naming the field.
pub(super) fn wanted(body: Option<Object<'_>>, names: &Names) -> Result<Wanted, ApiError> {
    const ONE: &str = "expected one of to, shift and offsets";
    let Some(body) = body else {
        return Err(ApiError::unprocessable(format!("the body is empty; {ONE}")).at("/to"));
    };
    let (to, shift, offsets) = (place(&body)?, body.number("shift")?, offsets(&body, names)?);
    let to = match (to, shift, offsets) {
        (Some(to), None, None) => to,
        (None, Some(by), None) => ResetTo::Shift(by),
        (None, None, Some(offsets)) => ResetTo::Offsets(offsets),
        (None, None, None) => return Err(unacceptable("/to", format!("is missing; {ONE}"))),
        _ => return Err(unacceptable("/to", ONE)),
    };
    let scope = scope(&body, names)?;
    if matches!(to, ResetTo::Offsets(_)) && scope != ResetScope::Committed {
        return Err(unacceptable(
            "/offsets",
            "expected without topics and partitions",
        ));
    }
    let dry_run = body.truth("dry_run")?.unwrap_or(false);
    Ok(Wanted { to, scope, dry_run })
}

fn place(body: &Object<'_>) -> Result<Option<ResetTo>, ApiError> {
    const EXPECTED: &str =
        "earliest, latest, an ISO 8601 time (2026-05-01T12:00:00Z), or milliseconds since 1970";
    let Some(raw) = body.get("to") else {
        return Ok(None);
    };
    let text = body.text("to")?.unwrap_or_default();
    let to = match &*text {
        "earliest" => Some(ResetTo::Earliest),
        "latest" => Some(ResetTo::Latest),
        time => {
            let is_number = time.bytes().all(|digit| digit.is_ascii_digit());
            let at = time_ms(time);
            if is_number && at.is_some_and(|ms| number_ms(ms).is_err()) {
                return Err(wrong(
                    "/to",
                    "milliseconds since 1970, which have 13 digits today",
                    raw,
                ));
            }
            at.map(ResetTo::Time)
        }
    };
    to.map(Some).ok_or_else(|| wrong("/to", EXPECTED, raw))
}

fn scope(body: &Object<'_>, names: &Names) -> Result<ResetScope, ApiError> {
    let topics = body.topics("topics")?;
    let partitions = body.objects("partitions", &[names.topic, names.partition])?;
    match (topics, partitions) {
        (None, None) => Ok(ResetScope::Committed),
        (Some(topics), None) => Ok(ResetScope::Topics(topics)),
        (None, Some(list)) => {
            let partitions = list
                .iter()
                .map(|one| one.partition_by(names.topic, names.partition))
                .collect::<Result<_, _>>()?;
            Ok(ResetScope::Partitions(partitions))
        }
        (Some(_), Some(_)) => Err(unacceptable(
            "/partitions",
            "expected topics, or partitions: not both",
        )),
    }
}

fn offsets(
    body: &Object<'_>,
    names: &Names,
) -> Result<Option<Vec<(TopicPartition, i64)>>, ApiError> {
    let Some(list) = body.objects("offsets", &[names.topic, names.partition, names.offset])? else {
        return Ok(None);
    };
    let mut offsets: Vec<(TopicPartition, i64)> = Vec::with_capacity(list.len());
    let mut seen = HashSet::new();
    for object in &list {
        let partition = object.partition_by(names.topic, names.partition)?;
        let offset = object.needed(names.offset, object.natural(names.offset)?)?;
        if !seen.insert(partition.clone()) {
            return Err(unacceptable(
                &object.pointer(names.partition),
                "is named twice",
            ));
        }
        offsets.push((partition, offset));
    }
    Ok(Some(offsets))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn read(body: &str) -> Result<Wanted, ApiError> {
        wanted(Object::body(body.as_bytes(), FIELDS)?, &PLAIN)
    }

    #[test]
    fn a_reset_says_where_to_and_of_which_partitions() {
        let to = |body: &str| read(body).unwrap().to;
        assert_eq!(to(r#"{"to":"earliest"}"#), ResetTo::Earliest);
        assert_eq!(to(r#"{"to":"latest"}"#), ResetTo::Latest);
        assert_eq!(to(r#"{"to":1000}"#), ResetTo::Time(1000));
        assert_eq!(to(r#"{"to":"1970-01-01T00:00:01Z"}"#), ResetTo::Time(1000));
        assert_eq!(to(r#"{"shift":-5}"#), ResetTo::Shift(-5));
        let place = TopicPartition::new("t", 1);
        assert_eq!(
            to(r#"{"offsets":[{"topic":"t","partition":1,"offset":7}]}"#),
            ResetTo::Offsets(vec![(place.clone(), 7)])
        );
        let whole = read(r#"{"to":"latest","dry_run":true}"#).unwrap();
        assert_eq!((whole.scope, whole.dry_run), (ResetScope::Committed, true));
        let topics = read(r#"{"to":"latest","topics":["a","a","b"]}"#).unwrap();
        let expected = ResetScope::Topics(vec![Arc::from("a"), Arc::from("b")]);
        assert_eq!(topics.scope, expected);
        let one = read(r#"{"to":"latest","partitions":[{"topic":"t","partition":1}]}"#).unwrap();
        assert_eq!(one.scope, ResetScope::Partitions(vec![place]));
    }

    #[test]
    fn what_is_wrong_with_a_reset_is_named() {
        for (body, expected) in [
            ("", (422, "/to")),
            ("{}", (422, "/to")),
            ("[", (400, "")),
            (r#"{"to":"soon"}"#, (400, "/to")),
            (r#"{"to":1777636800}"#, (400, "/to")),
            (r#"{"to":"1777636800"}"#, (400, "/to")),
            (r#"{"to":{}}"#, (400, "/to")),
            (r#"{"to":"latest","shift":1}"#, (422, "/to")),
            (r#"{"shift":"x"}"#, (400, "/shift")),
            (r#"{"to":"latest","topics":"t"}"#, (400, "/topics")),
            (r#"{"to":"latest","topics":["a b"]}"#, (400, "/topics/0")),
            (
                r#"{"to":"latest","topics":[],"partitions":[]}"#,
                (422, "/partitions"),
            ),
            (
                r#"{"to":"latest","partitions":[{"topic":"t"}]}"#,
                (422, "/partitions/0/partition"),
            ),
            (
                r#"{"to":"latest","partitions":[{"topic":"t","partition":-1}]}"#,
                (422, "/partitions/0/partition"),
            ),
            (
                r#"{"offsets":[{"topic":"t","partition":0,"offset":-1}]}"#,
                (422, "/offsets/0/offset"),
            ),
            (
                r#"{"offsets":[{"topic":"t","partition":0,"offset":1},{"topic":"t","partition":0,"offset":2}]}"#,
                (422, "/offsets/1/partition"),
            ),
            (
                r#"{"offsets":[{"topic":"t","partition":0,"offset":1}],"topics":["t"]}"#,
                (422, "/offsets"),
            ),
            (r#"{"to":"latest","dry":true}"#, (422, "/dry")),
            (
                r#"{"offsets":[{"topic_name":"t","partition_id":0,"start_offset":1}]}"#,
                (422, "/offsets/0/topic_name"),
            ),
        ] {
            let error = read(body).unwrap_err();
            let status = error.status().as_u16();
            let field = error.into_body().field.unwrap_or_default();
            assert_eq!((status, &*field), expected, "{body}");
        }
    }

    #[test]
    fn version_3_has_names_of_its_own() {
        let body = r#"{"offsets":[{"topic_name":"t","partition_id":1,"start_offset":7}]}"#;
        let read = wanted(Object::body(body.as_bytes(), FIELDS).unwrap(), &V3).unwrap();
        let expected = ResetTo::Offsets(vec![(TopicPartition::new("t", 1), 7)]);
        assert_eq!(read.to, expected);
    }
}
