use std::sync::Arc;

use bytes::Bytes;

use super::*;
use crate::record::{Header, Unplaced};

fn of(key: Option<&'static [u8]>, value: Option<&'static [u8]>) -> ConsumerRecord {
    ConsumerRecord {
        topic: Arc::from("orders"),
        partition: 1,
        offset: 42,
        timestamp: 1_700_000_000_000,
        timestamp_type: TimestampType::Create,
        key: key.map(Bytes::from_static),
        value: value.map(Bytes::from_static),
        headers: vec![],
    }
}

fn json(given: &ConsumerRecord, formats: Formats) -> String {
    let mut out = Vec::new();
    record(&mut out, given, formats);
    let text = String::from_utf8(out).unwrap();
    serde_json::from_str::<serde_json::Value>(&text).unwrap();
    text
}

fn formats(key: Format, value: Format) -> Formats {
    Formats { key, value }
}

#[test]
fn a_json_value_goes_out_byte_for_byte() {
    let given = of(Some(b"c-17"), Some(b"{ \"n\" : 12345678901234567890.50 }"));
    assert_eq!(
        json(&given, Formats::default()),
        r#"{"topic":"orders","partition":1,"offset":42,"timestamp":1700000000000,"key":"c-17","value":{ "n" : 12345678901234567890.50 },"headers":[]}"#
    );
}

#[test]
fn a_tombstone_says_so_in_every_format_and_a_json_null_does_not() {
    for format in [Format::Auto, Format::Json, Format::String, Format::Binary] {
        let text = json(&of(None, None), formats(format, format));
        assert!(
            text.contains(r#""key":null,"value":null,"vf":"null","headers""#),
            "{text}"
        );
    }
    let text = json(&of(None, Some(b"null")), Formats::default());
    assert!(text.contains(r#""value":null,"headers""#), "{text}");
}

#[test]
fn what_does_not_fit_goes_out_in_the_next_format_and_says_so() {
    let text = json(&of(Some(b"\xff"), Some(b"plain")), Formats::default());
    assert!(
        text.contains(r#""key":"/w==","value":"plain","kf":"binary","vf":"string""#),
        "{text}"
    );
    let text = json(&of(Some(b"17"), Some(b"\xff")), Formats::default());
    assert!(
        text.contains(r#""key":"17","value":"/w==","vf":"binary""#),
        "{text}"
    );
    let text = json(
        &of(Some(b"17"), Some(b"{}")),
        formats(Format::Json, Format::String),
    );
    assert!(
        text.contains(r#""key":17,"value":"{}","headers""#),
        "{text}"
    );
    let text = json(
        &of(Some(b"17"), Some(b"{}")),
        formats(Format::Binary, Format::Binary),
    );
    assert!(
        text.contains(r#""key":"MTc=","value":"e30=","headers""#),
        "{text}"
    );
}

#[test]
fn what_only_looks_like_json_is_a_string() {
    for bad in [&b"{\"a\":}"[..], b"", b"nul", b"1 2", b"\"\xc3\"", b"[1,2"] {
        let given = ConsumerRecord {
            value: Some(Bytes::copy_from_slice(bad)),
            ..of(None, None)
        };
        let text = json(&given, Formats::default());
        assert!(text.contains(r#""vf":""#), "{text}");
    }
    let deep = "[".repeat(100_000) + &"]".repeat(100_000);
    let given = ConsumerRecord {
        value: Some(deep.into()),
        ..of(None, None)
    };
    assert!(json(&given, Formats::default()).contains(r#""vf":"string""#));
}

#[test]
fn headers_keep_order_repeats_and_nulls() {
    let header = |name: &str, value: Option<&'static [u8]>| Header {
        name: name.to_owned(),
        value: value.map(Bytes::from_static),
    };
    let given = ConsumerRecord {
        headers: vec![
            header("a", Some(b"1")),
            header("b\"", None),
            header("a", Some(b"\xff")),
        ],
        timestamp_type: TimestampType::Append,
        ..of(None, None)
    };
    let text = json(&given, Formats::default());
    assert!(
        text.ends_with(r#""headers":[["a","1"],["b\"",null],["a",{"b64":"/w=="}]]}"#),
        "{text}"
    );
    assert!(text.contains(r#""timestamp_type":"append""#));
}

#[test]
fn a_place_says_why_it_has_no_offset() {
    let mut out = Vec::new();
    let at = RecordMetadata {
        partition: 0,
        offset: Ok(3),
        timestamp: 9,
    };
    written(&mut out, "orders", &at);
    out.push(b'\n');
    for why in [Unplaced::Retried, Unplaced::Unasked] {
        let at = RecordMetadata {
            partition: 1,
            offset: Err(why),
            timestamp: 9,
        };
        written(&mut out, "orders", &at);
        out.push(b'\n');
    }
    assert_eq!(
        String::from_utf8(out).unwrap(),
        "{\"topic\":\"orders\",\"partition\":0,\"offset\":3,\"timestamp\":9}\n\
         {\"topic\":\"orders\",\"partition\":1,\"offset\":null,\"offset_unknown\":\"retried\",\"timestamp\":9}\n\
         {\"topic\":\"orders\",\"partition\":1,\"offset\":null,\"offset_unknown\":\"acks_0\",\"timestamp\":9}\n"
    );
}
