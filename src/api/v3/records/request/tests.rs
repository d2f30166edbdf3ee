//! What is read from an object, and which fields may stand together.

use proptest::prelude::*;

use super::*;

fn read(json: &str) -> Result<(ProducerRecord, Parts), Refusal> {
    record(&Bytes::copy_from_slice(json.as_bytes()))
}

fn one(json: &str) -> ProducerRecord {
    match read(json) {
        Ok((record, _)) => record,
        Err(refusal) => panic!("{json}: {refusal:?}"),
    }
}

/// Status, code and message of an object that is unfit.
fn unfit(json: &str) -> (u16, u32, String) {
    match read(json) {
        Err(Refusal::Unfit(error)) => {
            let status = error.status().as_u16();
            let body = error.into_body();
            (status, body.error_code, body.message)
        }
        other => panic!("{json}: {other:?}"),
    }
}

fn bytes(text: &str) -> Option<Bytes> {
    Some(Bytes::copy_from_slice(text.as_bytes()))
}

#[test]
fn every_type_has_its_bytes_and_its_size() {
    for (kind, data, expected, size) in [
        ("BINARY", "\"/wD+\"", Some(&b"\xff\x00\xfe"[..]), 3),
        ("BINARY", "\"eA\"", Some(b"x"), 1),
        ("STRING", "\"k\\u00e9y\"", Some("kéy".as_bytes()), 4),
        ("STRING", "\"\"", Some(b""), 0),
        ("JSON", "{\"n\": 1.50 }", Some(b"{\"n\": 1.50 }"), 12),
        ("JSON", "0", Some(b"0"), 1),
        ("JSON", "\"\"", Some(b"\"\""), 2),
        ("BINARY", "null", None, -1),
        ("STRING", "null", None, -1),
        ("JSON", "null", None, -1),
    ] {
        let json = format!("{{\"value\":{{\"type\":\"{kind}\",\"data\":{data}}}}}");
        let (record, parts) = read(&json).unwrap();
        assert_eq!(record.value.as_deref(), expected, "{json}");
        let expected_part = Part::new(
            DataType::ALL
                .into_iter()
                .find(|k| k.name() == kind)
                .unwrap(),
            record.value.as_ref(),
        );
        assert_eq!(parts.value, Some(expected_part));
        let mut out = Vec::new();
        let at = crate::record::RecordMetadata {
            partition: 0,
            offset: Ok(0),
            timestamp: 0,
        };
        super::super::answer::written(&mut out, "c", "t", parts, &at);
        let text = String::from_utf8(out).unwrap();
        let shown = format!("\"value\":{{\"type\":\"{kind}\",\"size\":{size}}}");
        assert!(text.ends_with(&shown), "{text}");
        assert_eq!(parts.key, None);
    }
}

#[test]
fn a_json_key_has_the_bytes_that_confluent_rest_proxy_would_write() {
    let record = one(
        r#"{"key":{"type":"JSON","data":{ "id" : 1 }},"value":{"type":"JSON","data":{ "id" : 1 }}}"#,
    );
    assert_eq!(record.key, bytes("{\"id\":1}"));
    assert_eq!(record.value, bytes("{ \"id\" : 1 }"));
}

#[test]
fn what_is_absent_or_null_is_kafkas_null() {
    for json in [
        "{}",
        r#"{"key":null,"value":null,"headers":null,"partition_id":null,"timestamp":null}"#,
    ] {
        let (record, parts) = read(json).unwrap();
        assert_eq!(record, ProducerRecord::default());
        assert_eq!(parts, Parts::default());
    }
}

#[test]
fn headers_are_base64_and_keep_their_order() {
    let record = one(
        r#"{"headers":[{"name":"a","value":"MQ=="},{"name":"b","value":null},{"name":"a"},{"value":"","name":"c"}]}"#,
    );
    let headers: Vec<_> = record
        .headers
        .iter()
        .map(|header| (header.name.as_str(), header.value.as_deref()))
        .collect();
    assert_eq!(
        headers,
        [
            ("a", Some(&b"1"[..])),
            ("b", None),
            ("a", None),
            ("c", Some(b""))
        ]
    );
    for headers in [
        "{}",
        "[1]",
        "[{}]",
        r#"[{"name":null,"value":"MQ=="}]"#,
        r#"[{"name":"a","value":1}]"#,
        r#"[{"name":"a","value":"!"}]"#,
        r#"[{"name":"a","valeu":"MQ=="}]"#,
        r#"[{"name":"a","name":"b"}]"#,
    ] {
        let (status, code, message) = unfit(&format!("{{\"headers\":{headers}}}"));
        assert_eq!((status, code), (400, 400), "{headers}");
        assert!(message.starts_with("Bad Request: /headers"), "{message}");
    }
}

#[test]
fn a_time_is_iso_8601_or_milliseconds() {
    for (given, ms) in [
        ("\"2023-11-14T22:13:20.123Z\"", 1_700_000_000_123),
        ("\"2023-11-14T23:13:20.123+01:00\"", 1_700_000_000_123),
        ("1700000000123", 1_700_000_000_123),
        ("1", 1),
    ] {
        let record = one(&format!("{{\"timestamp\":{given}}}"));
        assert_eq!(record.timestamp, Some(ms), "{given}");
    }
    // Ten digits are seconds that someone meant, as the reference takes them.
    for given in [
        "1700000000",
        "1700000000.123",
        "\"now\"",
        "true",
        "-1",
        "0",
        "[]",
    ] {
        let (status, code, message) = unfit(&format!("{{\"timestamp\":{given}}}"));
        assert_eq!((status, code), (400, 400), "{given}");
        assert!(message.starts_with("Bad Request: /timestamp"), "{message}");
    }
}

#[test]
fn a_partition_is_a_number_from_0() {
    for (given, partition) in [("0", Some(0)), ("\"7\"", Some(7)), ("\"\"", None)] {
        let record = one(&format!("{{\"partition_id\":{given}}}"));
        assert_eq!(record.partition, partition);
    }
    let (status, code, _) = unfit("{\"partition_id\":-1}");
    assert_eq!((status, code), (404, 40402));
    for given in ["1.5", "\"x\"", "true", "99999999999", "{}"] {
        let (status, code, message) = unfit(&format!("{{\"partition_id\":{given}}}"));
        assert_eq!((status, code), (400, 400), "{given}");
        assert!(
            message.starts_with("Bad Request: /partition_id"),
            "{message}"
        );
    }
}

#[test]
fn data_that_are_not_of_their_type_are_named() {
    for (part, pointer) in [
        (r#"{"type":"BINARY","data":"!"}"#, "/data"),
        (r#"{"type":"BINARY","data":7}"#, "/data"),
        (r#"{"type":"BINARY","data":"aGVs\nbG8="}"#, "/data"),
        (r#"{"type":"STRING","data":{}}"#, "/data"),
        (r#"{"type":"STRING","data":"\ud800"}"#, "/data"),
        (r#"{"type":"binary","data":"eA=="}"#, "/type"),
        (r#"{"type":"XML","data":"eA=="}"#, "/type"),
        (r#"{"type":7,"data":"eA=="}"#, "/type"),
        (r#"{"type":"STRING"}"#, ": there is no data"),
        (r#"{"type":"STRING","data":"x","date":1}"#, "/date"),
        (r#"{"type":"STRING","data":"x","data":"y"}"#, "/data"),
        (r#""x""#, ": expected an object"),
        (
            r#"{"type":"STRING","data":"x","schema_id":"1"}"#,
            "/schema_id",
        ),
        (r#"{"type":"STRING","data":"x","schema":1}"#, "/schema"),
        (
            r#"{"type":"STRING","data":"x","subject_name_strategy":"topic_name"}"#,
            "/subject_name_strategy",
        ),
    ] {
        for field in ["key", "value"] {
            let (status, code, message) = unfit(&format!("{{\"{field}\":{part}}}"));
            assert_eq!((status, code), (400, 400), "{part}");
            let start = format!("Bad Request: /{field}{pointer}");
            assert!(message.starts_with(&start), "{start}: {message}");
        }
    }
    let deep = "[".repeat(1_001) + &"]".repeat(1_001);
    let json = format!("{{\"value\":{{\"type\":\"JSON\",\"data\":{deep}}}}}");
    assert!(unfit(&json).2.contains("deeper"));
}

/// What is said of a value with these fields beside its data: the status, and whether a raw schema counts.
fn said(fields: &str) -> (u16, Option<u32>) {
    let json = format!("{{\"value\":{{{fields}\"data\":null}}}}");
    match read(&json) {
        Ok(_) => (200, None),
        Err(Refusal::Unfit(error)) => {
            let text = error.message().strip_prefix("Error: ").map(str::to_owned);
            let code = text.and_then(|text| text.get(..5)?.parse().ok());
            (error.status().as_u16(), code)
        }
        Err(Refusal::Broken(error)) => panic!("{json}: {error:?}"),
    }
}

#[test]
fn fields_about_schemas_may_stand_together_as_in_the_reference() {
    const SCHEMA: &str = r#""schema":"\"int\"","#;
    const ID: &str = r#""schema_id":1,"#;
    const VERSION: &str = r#""schema_version":1,"#;
    const SUBJECT: &str = r#""subject":"s","#;
    const RECORD_NAME: &str = r#""subject_name_strategy":"RECORD_NAME","#;
    const TOPIC_NAME: &str = r#""subject_name_strategy":"TOPIC_NAME","#;
    const NULLS: &str = r#""schema":null,"schema_id":null,"subject":null,"#;
    let bad = (400, None);
    let needs = |code| (422, Some(code));
    for plain in ["BINARY", "STRING", "JSON"] {
        let kind = format!("\"type\":\"{plain}\",");
        assert_eq!(said(&kind), (200, None));
        assert_eq!(said(&format!("{kind}{NULLS}")), (200, None));
        for field in [SCHEMA, ID, VERSION, SUBJECT, RECORD_NAME, TOPIC_NAME] {
            assert_eq!(said(&format!("{kind}{field}")), bad, "{plain} {field}");
        }
    }
    for with_schema in ["AVRO", "JSONSCHEMA", "PROTOBUF"] {
        let kind = format!("\"type\":\"{with_schema}\",");
        for (fields, expected) in [
            (String::new(), bad),
            (ID.to_owned(), bad),
            (VERSION.to_owned(), bad),
            (SUBJECT.to_owned(), bad),
            (SCHEMA.to_owned(), needs(42206)),
            (format!("{SCHEMA}{SUBJECT}"), needs(42206)),
            (format!("{SCHEMA}{RECORD_NAME}"), needs(42206)),
            (format!("{SCHEMA}{ID}"), bad),
            (format!("{SCHEMA}{VERSION}"), bad),
            (format!("{SCHEMA}{SUBJECT}{TOPIC_NAME}"), bad),
        ] {
            assert_eq!(
                said(&format!("{kind}{fields}")),
                expected,
                "{with_schema} {fields}"
            );
        }
    }
    for (fields, expected) in [
        (String::new(), needs(42207)),
        (ID.to_owned(), needs(42207)),
        (VERSION.to_owned(), needs(42207)),
        (SUBJECT.to_owned(), needs(42207)),
        (format!("{ID}{RECORD_NAME}"), needs(42207)),
        (format!("{VERSION}{TOPIC_NAME}"), needs(42207)),
        (format!("{VERSION}{RECORD_NAME}"), bad),
        (RECORD_NAME.to_owned(), bad),
        (format!("{ID}{VERSION}"), bad),
        (format!("{SUBJECT}{TOPIC_NAME}"), bad),
        (SCHEMA.to_owned(), bad),
    ] {
        assert_eq!(said(&fields), expected, "{fields}");
    }
}

#[test]
fn unknown_and_repeated_fields_are_named() {
    for (json, pointer) in [
        ("{\"partition\":1}", "/partition"),
        ("{\"id\":\"1\"}", "/id"),
        ("{\"value\":null,\"value\":null}", "/value"),
        ("{\"a/b\":1}", "/a~1b"),
    ] {
        let (status, code, message) = unfit(json);
        assert_eq!((status, code), (400, 400));
        let start = format!("Bad Request: {pointer}: ");
        assert!(message.starts_with(&start), "{message}");
    }
    assert!(unfit("{\"partition\":1}").2.contains("Unrecognized field"));
}

#[test]
fn what_is_no_json_is_broken_whatever_stands_before_it() {
    for json in [
        "{",
        "{\"a\":1,}",
        "{\"a\":1}}",
        "{\"x\":1,\"y\":}",
        "nul",
        "",
        "{\"a\":1 \"b\":2}",
    ] {
        assert!(matches!(read(json), Err(Refusal::Broken(_))), "{json}");
    }
    for json in ["[]", "1", "\"a\"", "null", "true"] {
        assert!(matches!(read(json), Err(Refusal::Unfit(_))), "{json}");
    }
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in ".{0,60}") {
        let _ = read(&text);
        let _ = read(&format!("{{\"value\":{text}}}"));
        let _ = read(&format!("{{\"value\":{{\"type\":\"JSON\",\"data\":{text}}},\"headers\":[{text}]}}"));
    }
}
