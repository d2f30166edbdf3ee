use proptest::prelude::*;

use super::*;

const DEPTH: usize = 4;

/// The values of a stream that comes in these pieces. What is over a limit is named, and so is what cannot be
/// cut.
fn cut(limit: usize, pieces: &[&[u8]]) -> Vec<String> {
    let mut values = Values::new(limit, DEPTH);
    let mut found = Vec::new();
    let mut take = |value: Value| {
        found.push(match value {
            Value::Whole(bytes) => String::from_utf8(bytes.to_vec()).unwrap(),
            other => format!("{other:?}"),
        });
    };
    for piece in pieces {
        values.push(piece);
        while let Some(value) = values.next_value() {
            take(value);
        }
    }
    while let Some(value) = values.last_value() {
        take(value);
    }
    found
}

fn whole(limit: usize, text: &str) -> Vec<String> {
    cut(limit, &[text.as_bytes()])
}

#[test]
fn values_need_nothing_between_them() {
    assert_eq!(
        whole(100, "{\"a\":1}{}\r\n[1,{\"b\":[]}] {\"c\":{}}"),
        ["{\"a\":1}", "{}", "[1,{\"b\":[]}]", "{\"c\":{}}"]
    );
    assert_eq!(whole(100, " \r\n\t"), [""; 0]);
}

#[test]
fn braces_and_quotes_in_strings_end_nothing() {
    let object = r#"{"a}\"{[":"\\","b":"]\\\"}"}"#;
    assert_eq!(whole(100, &format!("{object}{object}")), [object; 2]);
    let text = r#""a\"b {""#;
    assert_eq!(whole(100, &format!("{text}{{}}{text}")), [text, "{}", text]);
}

#[test]
fn numbers_and_names_end_where_something_else_begins() {
    assert_eq!(
        whole(100, "1 -2.5e3{}true[]null\"x\"no"),
        ["1", "-2.5e3", "{}", "true", "[]", "null", "\"x\"", "no"]
    );
}

#[test]
fn a_byte_that_begins_no_value_ends_the_stream() {
    for stray in ['}', ']', ',', ':'] {
        let text = format!("{{}}{stray}{{}}");
        assert_eq!(
            whole(100, &text),
            ["{}".to_owned(), format!("Stray({stray:?})")]
        );
    }
    assert_eq!(whole(100, "1,2"), ["1", "Stray(',')"]);
}

#[test]
fn what_the_end_of_the_stream_cuts_is_unfinished() {
    for text in ["{", "{\"a\":1", "[[]", "\"abc", "\"a\\", "{\"a\":\"}"] {
        assert_eq!(whole(100, text), ["Unfinished"], "{text}");
    }
}

#[test]
fn a_value_over_the_limit_is_reported_once_and_the_next_one_is_read() {
    let long = format!("{{\"a\":\"{}\"}}", "}".repeat(40));
    let text = format!("{{}}{long}[1]");
    for size in 1..=text.len() {
        let pieces: Vec<&[u8]> = text.as_bytes().chunks(size).collect();
        assert_eq!(cut(20, &pieces), ["{}", "TooLong", "[1]"], "{size}");
    }
    // As long as may be.
    let fits = format!("\"{}\"", "x".repeat(18));
    assert_eq!(whole(20, &format!("{fits}{fits}")), [fits.as_str(); 2]);
    assert_eq!(whole(19, &fits), ["TooLong"]);
    assert_eq!(whole(20, &"1".repeat(21)), ["TooLong"]);
    // The end of the stream is not told of again.
    assert_eq!(cut(3, &[b"{\"abc", b"def"]), ["TooLong"]);
}

#[test]
fn a_value_over_the_limit_holds_no_memory() {
    let mut values = Values::new(1_000, DEPTH);
    values.push(b"{\"a\":\"");
    assert_eq!(values.next_value(), None);
    for _ in 0..100 {
        values.push(&[b'x'; 500]);
        let _ = values.next_value();
        assert!(values.waiting() <= 1_500);
    }
    values.push(b"\"}{}");
    assert_eq!(
        values.next_value(),
        Some(Value::Whole(Bytes::from_static(b"{}")))
    );
    assert_eq!(values.waiting(), 0);
}

#[test]
fn a_value_that_is_too_deep_is_reported_once_and_the_next_one_is_read() {
    let deepest = "[".repeat(DEPTH) + &"]".repeat(DEPTH);
    let deeper = "[".repeat(DEPTH + 3) + &"]".repeat(DEPTH + 3);
    let text = format!("{deepest}{deeper}{{}}{deeper}1");
    let expected = [deepest.as_str(), "TooDeep", "{}", "TooDeep", "1"];
    for size in 1..=text.len() {
        let pieces: Vec<&[u8]> = text.as_bytes().chunks(size).collect();
        assert_eq!(cut(100, &pieces), expected, "{size}");
    }
    let endless = "[".repeat(1_000);
    assert_eq!(whole(100, &endless), ["TooDeep"]);
}

#[test]
fn nothing_is_taken_behind_the_end() {
    let mut values = Values::new(10, DEPTH);
    values.push(b"}");
    assert_eq!(values.next_value(), Some(Value::Stray('}')));
    values.push(b"{}");
    assert_eq!(values.next_value(), None);
    assert_eq!(values.last_value(), None);
    assert_eq!(values.waiting(), 0);
}

#[test]
fn every_cut_of_a_text_in_two_gives_the_same_values() {
    let long = "b".repeat(100);
    let text = format!(
        "{{\"key\":{{\"type\":\"STRING\",\"data\":\"ü\\u00e9\\\"{{\"}}}} [1,\"]\"]\r\n\"a\\\\\"12 true{{}}\
         [[[[[[]]]]]]{{\"a\":\"{long}\"}}null"
    );
    let bytes = text.as_bytes();
    let expected = cut(80, &[bytes]);
    assert_eq!(expected.len(), 9);
    for at in 0..=bytes.len() {
        let (first, second) = bytes.split_at(at);
        assert_eq!(cut(80, &[first, second]), expected, "{at}");
    }
    let single: Vec<&[u8]> = bytes.chunks(1).collect();
    assert_eq!(cut(80, &single), expected);
}

proptest! {
    #[test]
    fn pieces_change_nothing(
        text in "[\\[\\]{}\",:\\\\ 1at]{0,60}",
        cuts in prop::collection::vec(0_usize..60, 0..6),
    ) {
        let bytes = text.as_bytes();
        let mut cuts: Vec<usize> = cuts.into_iter().map(|at| at.min(bytes.len())).collect();
        cuts.sort_unstable();
        let mut pieces = Vec::new();
        let mut from = 0;
        for at in cuts {
            pieces.push(&bytes[from..at]);
            from = at;
        }
        pieces.push(&bytes[from..]);
        prop_assert_eq!(cut(20, &pieces), cut(20, &[bytes]));
    }

    #[test]
    fn what_json_is_comes_out_whole(numbers in prop::collection::vec(any::<i64>(), 0..20), text in ".{0,20}") {
        let values: Vec<String> = numbers
            .iter()
            .map(|n| serde_json::json!({"n": n, "text": text, "list": [text, n]}).to_string())
            .collect();
        prop_assert_eq!(whole(10_000, &values.concat()), values);
    }
}
