//! What is read from a produce request, and how the rest is refused.

use proptest::prelude::*;

use super::*;

fn read(json: &str, format: Embedded) -> Result<Vec<ProducerRecord>, ApiError> {
    records(&Bytes::copy_from_slice(json.as_bytes()), format, None)
}

fn one(json: &str, format: Embedded) -> ProducerRecord {
    let body = format!("{{\"records\":[{json}]}}");
    read(&body, format).unwrap().remove(0)
}

/// Status, code, and the field at fault.
fn refused(json: &str, format: Embedded) -> (u16, u32, String) {
    let error = read(json, format).unwrap_err();
    let status = error.status().as_u16();
    let body = error.into_body();
    (
        status,
        body.error_code,
        body.field.unwrap_or_default().into_owned(),
    )
}

fn bytes(text: &str) -> Option<Bytes> {
    Some(Bytes::copy_from_slice(text.as_bytes()))
}

#[test]
fn json_values_are_kept_byte_for_byte() {
    for value in [
        "12345678901234567890.10",
        "1e400",
        "{ \"b\" : 1,\n \"a\": \"\\u00e9\" }",
        "\"\"",
        "0",
        "false",
        "[]",
        "\"\\ud800\"",
    ] {
        let record = one(&format!("{{\"value\": {value} }}"), Embedded::Json);
        assert_eq!(record.value, bytes(value));
    }
    assert_eq!(one("{\"value\":null}", Embedded::Json).value, None);
    assert_eq!(one("{}", Embedded::Json), ProducerRecord::default());
}

#[test]
fn a_json_key_has_the_bytes_that_confluent_rest_proxy_would_write() {
    for (given, written) in [
        ("\"c-17\"", "\"c-17\""),
        ("{ \"id\" : 1,\t\"n\": [ 1, 2 ] }", "{\"id\":1,\"n\":[1,2]}"),
        ("\"a b\"", "\"a b\""),
        ("{\"a b\" : \" \\\" } \"}", "{\"a b\":\" \\\" } \"}"),
        ("\"M\\u00fcller\\/\\u000a\"", "\"Müller/\\n\""),
        ("[ \"\\\\\" , \"x\" ]", "[\"\\\\\",\"x\"]"),
        ("\"\\ud800\"", "\"\\ud800\""),
        ("12345678901234567890.10", "12345678901234567890.10"),
    ] {
        let record = one(&format!("{{\"key\":{given}}}"), Embedded::Json);
        assert_eq!(record.key, bytes(written), "{given}");
    }
    assert_eq!(one("{\"key\": null}", Embedded::Json).key, None);
}

proptest! {
    #[test]
    fn a_json_key_keeps_its_meaning(value in json()) {
        let spaced = serde_json::to_string_pretty(&value).unwrap();
        let record = one(&format!("{{\"key\":{spaced}}}"), Embedded::Json);
        let compact = serde_json::to_string(&value).unwrap();
        let expected = (compact != "null").then(|| Bytes::from(compact));
        prop_assert_eq!(record.key, expected);
    }
}

fn json() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        any::<String>().prop_map(Into::into),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Into::into),
            prop::collection::vec((any::<String>(), inner), 0..4)
                .prop_map(|pairs| serde_json::Value::Object(pairs.into_iter().collect())),
        ]
    })
}

#[test]
fn base64_is_read_as_confluent_rest_proxy_reads_it() {
    for (text, value) in [
        ("aGVsbG8=", "hello"),
        ("aGVsbG8", "hello"),
        ("aGVs\\u0062G8=", "hello"),
        ("", ""),
        ("QR==", "A"),
        ("Pj4+Pz8/", ">>>???"),
    ] {
        let record = one(&format!("{{\"value\":\"{text}\"}}"), Embedded::Binary);
        assert_eq!(record.value, bytes(value), "{text}");
    }
    for value in [
        "\"a GVsbG8=\"",
        "\"aGVsbG8=\\n\"",
        "\"Pj4-Pz8_\"",
        "\"aGV=sbG8\"",
        "\"A\"",
        "\"\\ud800\"",
        "1",
        "{}",
        "true",
    ] {
        let body = format!("{{\"records\":[{{}},{{\"value\":{value}}}]}}");
        let expected = (400, 400, "/records/1/value".to_owned());
        assert_eq!(refused(&body, Embedded::Binary), expected, "{value}");
        let error = read(&body, Embedded::Binary).unwrap_err();
        assert!(error.into_body().message.starts_with("Bad Request:"));
    }
}

#[test]
fn a_record_is_for_the_paths_partition_or_refused() {
    let body = Bytes::from_static(
        b"{\"records\":[{\"partition\":\" 2\"},{\"partition\":null},{\"partition\":\"\"}],\"key_schema\":null}",
    );
    let partitions = |path| -> Vec<Option<i32>> {
        let records = records(&body, Embedded::Json, path).unwrap();
        records.iter().map(|record| record.partition).collect()
    };
    assert_eq!(partitions(Some(2)), [Some(2), Some(2), Some(2)]);
    assert_eq!(partitions(None), [Some(2), None, None]);
    let error = records(&body, Embedded::Json, Some(1)).unwrap_err();
    assert_eq!(error.status().as_u16(), 422);
    let field = error.into_body().field.unwrap_or_default();
    assert_eq!(field, "/records/0/partition");
}

#[test]
fn headers_and_timestamps_may_be_given() {
    let record = one(
        "{\"timestamp\":\"2026-01-01T00:00:00Z\",\"headers\":{\"a\":\"1\"}}",
        Embedded::Binary,
    );
    assert_eq!(record.timestamp, Some(1_767_225_600_000));
    assert_eq!(record.headers[0].value, bytes("1"));
    for (field, json) in [
        ("timestamp", "{\"timestamp\":0}"),
        ("headers", "{\"headers\":7}"),
    ] {
        let body = format!("{{\"records\":[{json}]}}");
        let expected = (422, 422, format!("/records/0/{field}"));
        assert_eq!(refused(&body, Embedded::Json), expected);
    }
}

#[test]
fn no_records_are_refused() {
    for body in [
        "",
        " \n",
        "{}",
        "{\"records\":null}",
        "{\"records\":[]}",
        "{\"key_schema\":\"x\"}",
    ] {
        let expected = (422, 422, "/records".to_owned());
        assert_eq!(refused(body, Embedded::Json), expected, "{body}");
    }
}

#[test]
fn unknown_and_repeated_fields_are_named() {
    for (body, field) in [
        ("{\"records\":[{}],\"record/s\":1}", "/record~1s"),
        ("{\"records\":[{},{\"val\":{\"a\":1}}]}", "/records/1/val"),
        (
            "{\"records\":[{\"value\":1,\"value\":2}]}",
            "/records/0/value",
        ),
        ("{\"records\":[{}],\"records\":[{}]}", "/records"),
    ] {
        let expected = (422, 422, field.to_owned());
        assert_eq!(refused(body, Embedded::Json), expected, "{body}");
    }
    let error = read("{\"records\":[{\"val\":1}]}", Embedded::Json).unwrap_err();
    let message = error.into_body().message;
    assert!(message.starts_with("Unrecognized field: val"), "{message}");
}

#[test]
fn what_is_no_json_or_of_another_shape_is_a_bad_request() {
    for body in [
        "{",
        "{\"records\":[{}]} x",
        "[]",
        "7",
        "null",
        "{\"records\":{}}",
        "{\"records\":\"x\"}",
        "{\"records\":[1]}",
        "{\"records\":[null]}",
        "{\"records\":[[]]}",
    ] {
        let expected = (400, 400, String::new());
        assert_eq!(refused(body, Embedded::Json), expected, "{body}");
    }
    for (partition, status) in [
        ("\"x\"", 400),
        ("1.5", 400),
        ("\"-1\"", 422),
        ("2147483648", 400),
        ("-1", 422),
    ] {
        let body = format!("{{\"records\":[{{\"partition\":{partition}}}]}}");
        let expected = (status, u32::from(status), "/records/0/partition".to_owned());
        assert_eq!(refused(&body, Embedded::Json), expected, "{body}");
    }
    let not_utf8 = Bytes::from_static(b"{\"records\":[{\"value\":\"\xff\"}]}");
    let error = records(&not_utf8, Embedded::Json, None).unwrap_err();
    assert_eq!(error.status().as_u16(), 400);
}

#[test]
fn a_value_nested_too_deep_is_refused() {
    let deep = format!("{}{}", "[".repeat(1001), "]".repeat(1001));
    for field in ["key", "value"] {
        let body = format!("{{\"records\":[{{\"{field}\":{deep}}}]}}");
        let expected = (400, 400, format!("/records/0/{field}"));
        assert_eq!(refused(&body, Embedded::Json), expected);
    }
}

#[test]
fn formats_with_a_schema_say_that_there_is_none() {
    let format = Embedded::Schema("Avro");
    for (body, code) in [
        ("{\"records\":[{\"value\":1}]}", 42207),
        ("{\"records\":[{\"value\":1}],\"value_schema\":null}", 42207),
        (
            "{\"records\":[{\"value\":1}],\"value_schema\":\"{}\"}",
            42206,
        ),
        ("{\"records\":[{\"value\":1}],\"key_schema_id\":7}", 42206),
    ] {
        let expected = (422, code, "Content-Type".to_owned());
        assert_eq!(refused(body, format), expected, "{body}");
    }
    assert_eq!(refused("{\"records\":[]}", format).1, 422);
}
