//! Frames as they come, and what is said of those that cannot be.

use bytes::Bytes;

use super::*;

fn parse(text: &str) -> Result<ClientFrame, FrameError> {
    ClientFrame::parse(&Bytes::copy_from_slice(text.as_bytes()))
}

fn invalid(text: &str) -> (String, String) {
    match parse(text) {
        Err(FrameError::Invalid { field, message, .. }) => (field.unwrap_or_default(), message),
        other => panic!("{text}: {other:?}"),
    }
}

#[test]
fn a_frame_with_unknown_fields_is_read_without_them() {
    let frame = parse(r#"{"tags":[1,3],"type":"ack","sub":"o","more":{"a":1}}"#).unwrap();
    let ClientFrame::Ack(ack) = frame else {
        panic!("{frame:?}");
    };
    assert_eq!((ack.tags, ack.sub), (Some(vec![1, 3]), "o".to_owned()));
    let frame = parse(
        r#"{"type":"subscribe","id":1,"sub":"o","group":"g","topics":["orders"],
            "from":{"timestamp":5},"dlq":false,"flow":{"mode":"credit"}}"#,
    );
    let Ok(ClientFrame::Subscribe(subscribe)) = frame else {
        panic!("{frame:?}");
    };
    assert_eq!(subscribe.from, Some(From::Time { timestamp: 5 }));
    assert_eq!(subscribe.dlq, Some(Dlq::Off(false)));
    assert_eq!(subscribe.id, Some(Id::Number(1)));
}

#[test]
fn a_text_that_is_no_frame_is_fatal() {
    for text in [
        "",
        "{",
        "[]",
        "1",
        "null",
        "\"ack\"",
        "{}",
        r#"{"type":1}"#,
        r#"{"type":null}"#,
        r#"{"type":"ping","t":}"#,
        "{\"type\":\"ping\"}{}",
    ] {
        assert!(matches!(parse(text), Err(FrameError::Fatal(_))), "{text}");
    }
    let deep = format!(
        "{{\"type\":\"ping\",\"t\":{}1{}}}",
        "[".repeat(64),
        "]".repeat(64)
    );
    assert!(matches!(parse(&deep), Err(FrameError::Fatal(_))));
    let not_so = format!(
        "{{\"type\":\"ping\",\"t\":{}1{}}}",
        "[".repeat(63),
        "]".repeat(63)
    );
    assert!(parse(&not_so).is_ok());
}

#[test]
fn an_invalid_frame_is_refused_with_the_field_at_fault() {
    let unknown = parse(r#"{"type":"dance","id":"a"}"#);
    assert_eq!(
        unknown,
        Err(FrameError::UnknownType {
            id: Some(Id::Text("a".into())),
            kind: "dance".into()
        })
    );
    for (text, field) in [
        (r#"{"type":"ack"}"#, "sub"),
        (r#"{"type":"ack","sub":1}"#, "sub"),
        (r#"{"type":"ack","sub":"o","tags":[1,-1]}"#, "tags[1]"),
        (r#"{"type":"ack","sub":"o","tags":"1"}"#, "tags"),
        (r#"{"type":"nack","sub":"o"}"#, "tags"),
        (r#"{"type":"extend","sub":"o","tags":[]}"#, "ms"),
        (r#"{"type":"subscribe","sub":"o","ack":"never"}"#, "ack"),
        (r#"{"type":"subscribe","sub":"o","from":true}"#, "from"),
        (
            r#"{"type":"subscribe","sub":"o","flow":{"records":"x"}}"#,
            "flow.records",
        ),
        (
            r#"{"type":"seek","sub":"o","positions":[{"topic":"t"}]}"#,
            "positions[0].partition",
        ),
        (r#"{"type":"produce","topic":"t","records":[]}"#, "id"),
        (
            r#"{"type":"produce","id":1,"topic":"t","records":{}}"#,
            "records",
        ),
        (
            r#"{"type":"produce","id":1,"topic":"t","records":[],"value_format":"schema"}"#,
            "value_format",
        ),
        (r#"{"type":"ping","id":[]}"#, "id"),
        (r#"{"type":"ping","id":1.5}"#, "id"),
    ] {
        let (found, message) = invalid(text);
        assert_eq!(found, field, "{text}: {message}");
        assert!(message.starts_with(field), "{message}");
        assert!(!message.contains("at line"), "{message}");
    }
    let long = format!(r#"{{"type":"ping","id":"{}"}}"#, "a".repeat(65));
    assert_eq!(invalid(&long).0, "id");
}

#[test]
fn records_to_write_are_read_one_by_one() {
    let frame = parse(
        r#"{"type":"produce","id":"p","topic":"t","records":[{"key":"k","value":12345678901234567890},{"key":"k"},{"value":null}]}"#,
    );
    let Ok(ClientFrame::Produce(produced)) = frame else {
        panic!("{frame:?}");
    };
    let values: Vec<_> = produced
        .records
        .iter()
        .map(|record| record.as_ref().map(|r| r.value.clone()))
        .collect();
    assert_eq!(
        values[0],
        Ok(Some(Bytes::from_static(b"12345678901234567890")))
    );
    assert_eq!(
        values[1].as_ref().unwrap_err().field.as_deref(),
        Some("/value")
    );
    assert_eq!(values[2], Ok(None));
}
