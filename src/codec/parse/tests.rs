use proptest::prelude::*;

use super::*;

fn parse(text: &str) -> Result<Parsed, DecodeError> {
    body(&Bytes::copy_from_slice(text.as_bytes()), Formats::default())
}

fn parse_as(text: &str, key: Format, value: Format) -> Result<Parsed, DecodeError> {
    body(
        &Bytes::copy_from_slice(text.as_bytes()),
        Formats { key, value },
    )
}

fn one_of(parsed: Result<Parsed, DecodeError>) -> ProducerRecord {
    match parsed.unwrap() {
        Parsed::One(record) => record,
        Parsed::Many(records) => panic!("an array of {}", records.len()),
    }
}

/// Pointer and message of a record that was refused.
fn unacceptable(parsed: Result<Parsed, DecodeError>) -> (String, String) {
    match parsed.unwrap_err() {
        DecodeError::Unacceptable { pointer, message } => (pointer, message),
        DecodeError::Unreadable(message) => panic!("it was not read: {message}"),
    }
}

/// Message about a body that could not be read.
fn unreadable(parsed: Result<Parsed, DecodeError>) -> String {
    match parsed.unwrap_err() {
        DecodeError::Unreadable(message) => message,
        DecodeError::Unacceptable { message, .. } => panic!("it was read: {message}"),
    }
}

fn bytes(text: &str) -> Option<Bytes> {
    Some(Bytes::copy_from_slice(text.as_bytes()))
}

#[test]
fn values_are_kept_byte_for_byte() {
    for value in [
        r#"{"total": 12345678901234567890, "x" : 1.50e+400}"#,
        "0",
        "false",
        r#""""#,
        "[ ]",
        r#""\ud83d\ude00 \u0000""#,
    ] {
        let record = one_of(parse(&format!(r#" {{"value": {value} }} "#)));
        assert_eq!(record.value, bytes(value));
        assert_eq!(record.key, None);
    }
    assert_eq!(one_of(parse(r#"{"value":null}"#)).value, None);
}

#[test]
fn keys_are_their_utf8_or_their_text() {
    let key = |text: &str| one_of(parse(&format!(r#"{{"key":{text},"value":1}}"#))).key;
    assert_eq!(key(r#""c-17""#), bytes("c-17"));
    assert_eq!(key(r#""\u00e9\n""#), bytes("é\n"));
    assert_eq!(key(r#""""#), bytes(""));
    assert_eq!(key("17"), bytes("17"));
    assert_eq!(key(r#"{"a" :1}"#), bytes(r#"{"a" :1}"#));
    assert_eq!(key("null"), None);
}

#[test]
fn formats_decide_what_is_stored() {
    let text = r#"{"key":"aGk=","value":"aGk="}"#;
    let record = one_of(parse_as(text, Format::Binary, Format::Binary));
    assert_eq!((record.key, record.value), (bytes("hi"), bytes("hi")));
    let record = one_of(parse_as(text, Format::Json, Format::String));
    assert_eq!(
        (record.key, record.value),
        (bytes(r#""aGk=""#), bytes("aGk="))
    );
    let (field, _) = unacceptable(parse_as(r#"{"value":"a!"}"#, Format::Auto, Format::Binary));
    assert_eq!(field, "/value");
    let (field, message) = unacceptable(parse_as(
        r#"[{"value":"x"},{"value":1}]"#,
        Format::Auto,
        Format::String,
    ));
    assert_eq!(field, "/1/value");
    assert!(message.contains("JSON string"), "{message}");
}

#[test]
fn headers_come_as_an_object_or_as_pairs() {
    let headers = |text: &str| {
        one_of(parse(&format!(r#"{{"value":1,"headers":{text}}}"#)))
            .headers
            .into_iter()
            .map(|h| (h.name, h.value))
            .collect::<Vec<_>>()
    };
    assert_eq!(
        headers(r#"{"b":"1","a":null,"b":{"b64":"/w=="},"":""}"#),
        vec![
            ("b".into(), bytes("1")),
            ("a".into(), None),
            ("b".into(), Some(Bytes::from_static(b"\xff"))),
            (String::new(), bytes("")),
        ]
    );
    assert_eq!(
        headers(r#"[["x","1"],["x","2\n"]]"#),
        vec![("x".into(), bytes("1")), ("x".into(), bytes("2\n"))]
    );
    // As Karapace and Strimzi's bridge have them.
    assert_eq!(
        headers(
            r#"[{"name":"a","value":"/w=="},{"value":null,"name":"b"},{"key":"c","value":""},["d","1"]]"#
        ),
        vec![
            ("a".into(), Some(Bytes::from_static(b"\xff"))),
            ("b".into(), None),
            ("c".into(), bytes("")),
            ("d".into(), bytes("1")),
        ]
    );
    assert_eq!(headers("null"), vec![]);
    for bad in [
        "1",
        "\"x\"",
        r#"{"a":1}"#,
        r#"{"a":["1"]}"#,
        r#"[["a"]]"#,
        r#"[["a","b","c"]]"#,
        r#"[[1,"b"]]"#,
        r#"{"a":{"b64":"!"}}"#,
        r#"[{"name":"a"}]"#,
        r#"[{"value":""}]"#,
        r#"[{"name":"a","value":"!"}]"#,
        r#"[{"name":"a","value":1}]"#,
        r#"[{"name":"a","key":"a","value":""}]"#,
        r#"[{"name":"a","value":"","c":1}]"#,
        r#"{"a":{"b63":""}}"#,
        r#"{"a":{"b64":"","c":1}}"#,
    ] {
        let (field, message) = unacceptable(parse(&format!(r#"[{{"value":1,"headers":{bad}}}]"#)));
        assert_eq!(field, "/0/headers", "{bad}");
        assert!(!message.contains("line"), "{message}");
    }
}

#[test]
fn partition_and_timestamp_are_checked() {
    let record = one_of(parse(
        r#"{"value":1,"partition":3,"timestamp":1700000000000}"#,
    ));
    assert_eq!(
        (record.partition, record.timestamp),
        (Some(3), Some(1_700_000_000_000))
    );
    let record = one_of(parse(
        r#"{"value":1,"partition":null,"timestamp":"2023-11-14T22:13:20Z"}"#,
    ));
    assert_eq!(
        (record.partition, record.timestamp),
        (None, Some(1_700_000_000_000))
    );
    for (bad, at) in [
        (r#"{"value":1,"partition":-1}"#, "/partition"),
        (r#"{"value":1,"partition":"0"}"#, "/partition"),
        (r#"{"value":1,"partition":1.5}"#, "/partition"),
        (r#"{"value":1,"partition":9999999999}"#, "/partition"),
        (r#"{"value":1,"timestamp":-5}"#, "/timestamp"),
        (r#"{"value":1,"timestamp":0}"#, "/timestamp"),
        (r#"{"value":1,"timestamp":"yesterday"}"#, "/timestamp"),
        (r#"{"value":1,"timestamp":[]}"#, "/timestamp"),
        (r#"{"key":"a"}"#, "/value"),
        (r#"{"value":1,"valeu":2}"#, "/valeu"),
        (r#"{"value":1,"a/b~":2}"#, "/a~1b~0"),
        (r#"{"value":1,"value":2}"#, "/value"),
    ] {
        let (field, _) = unacceptable(parse(bad));
        assert_eq!(field, at, "{bad}");
        let (field, _) = unacceptable(parse(&format!(r#"[{{"value":1}},{bad}]"#)));
        assert_eq!(field, format!("/1{at}"), "{bad}");
    }
}

#[test]
fn what_is_not_a_record_is_refused() {
    for (bad, at) in [
        ("1", "/"),
        ("\"x\"", "/"),
        ("null", "/"),
        ("[1]", "/0"),
        ("[[]]", "/0"),
    ] {
        let (field, message) = unacceptable(parse(bad));
        assert_eq!(field, at, "{bad}: {message}");
        assert!(message.contains("a record"), "{message}");
    }
    assert_eq!(parse("[]").unwrap(), Parsed::Many(vec![]));
}

#[test]
fn broken_json_is_told_by_line_and_column() {
    for bad in [
        "{\"value\":\n 1,}",
        "{\"value\":tru}",
        "[{\"value\":1},]",
        "{\"value\":1} x",
        "{\"value\":\"\u{1}\"}",
        "[{\"value\":1}",
    ] {
        let message = unreadable(parse(bad));
        assert!(
            message.contains("line ") && message.contains("column "),
            "{message}"
        );
    }
    let message = unreadable(parse(" \n"));
    assert!(message.contains("empty"), "{message}");
    assert!(
        body(
            &Bytes::from_static(b"{\"value\":\"\xff\"}"),
            Formats::default()
        )
        .is_err()
    );
}

#[test]
fn deep_nesting_is_an_error_and_not_a_crash() {
    let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
    assert!(parse(&format!(r#"{{"value":{}}}"#, nested(MAX_DEPTH))).is_ok());
    for depth in [MAX_DEPTH + 1, 100_000] {
        for (text, at) in [
            (format!(r#"{{"value":{}}}"#, nested(depth)), "/value"),
            (format!(r#"{{"value":1,"key":{}}}"#, nested(depth)), "/key"),
            (
                format!(r#"{{"value":1,"headers":{}}}"#, nested(depth)),
                "/headers",
            ),
        ] {
            let (field, _) = unacceptable(parse(&text));
            assert_eq!(field, at);
        }
    }
    assert!(parse(&nested(100_000)).is_err());
    assert!(parse(&"[".repeat(100_000)).is_err());
    assert!(parse(&"{\"value\":".repeat(100_000)).is_err());
    // Brackets inside strings do not count.
    let text = format!(r#"{{"value":["{}"]}}"#, "[\\\"".repeat(2 * MAX_DEPTH));
    assert!(parse(&text).is_ok());
}

proptest! {
    #[test]
    fn garbage_never_panics(text in "\\PC{0,80}", bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
        let _ = parse(&text);
        let _ = body(&Bytes::from(bytes), Formats { key: Format::Binary, value: Format::String });
    }

    #[test]
    fn json_like_garbage_never_panics(
        text in r#"[\[\]{}",:\\ntrue0-9 ]{0,60}"#,
    ) {
        let _ = parse(&text);
        let _ = parse(&format!(r#"{{"value":1,"headers":{text}}}"#));
        let _ = parse(&format!(r#"[{{"value":{text}}}]"#));
    }

    #[test]
    fn any_value_comes_through_as_it_was(value in "[^\"\\\\\\p{C}]{0,40}") {
        let json = format!("\"{value}\"");
        let record = one_of(parse(&format!(r#"{{"key":{json},"value":{json}}}"#)));
        prop_assert_eq!(record.key.as_deref(), Some(value.as_bytes()));
        prop_assert_eq!(record.value.as_deref(), Some(json.as_bytes()));
    }
}
