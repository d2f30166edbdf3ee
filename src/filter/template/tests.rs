//! What a claim may do to a filter: be compared with, and nothing else.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::record::{ConsumerRecord, Header, TimestampType};

fn record(key: &str, value: &str, header: &str) -> ConsumerRecord {
    let bytes = |text: &str| bytes::Bytes::copy_from_slice(text.as_bytes());
    ConsumerRecord {
        topic: Arc::from("t"),
        partition: 0,
        offset: 0,
        timestamp: 0,
        timestamp_type: TimestampType::Create,
        key: Some(bytes(key)),
        value: Some(bytes(value)),
        headers: vec![Header {
            name: "h".to_owned(),
            value: Some(bytes(header)),
        }],
    }
}

fn spec(field: &str, text: &str) -> Spec {
    let text = text.to_owned();
    let mut spec = Spec::default();
    match field {
        "key" => spec.key = Some(text),
        "key_prefix" => spec.key_prefix = Some(text),
        "header.h" => spec.headers = BTreeMap::from([("h".to_owned(), text)]),
        _ => spec.condition = Some(text),
    }
    spec
}

fn fill(field: &str, text: &str, claims: &Value) -> Result<Filter, Unfilled> {
    let template = Template::new(&spec(field, text)).unwrap();
    template.fill(&|name| claims.get(name))
}

#[test]
fn claims_stand_in_their_places() {
    let claims = json!({"sub": "ann", "org.id": 7, "eu": true});
    let shows = |field: &str, text: &str, record: &ConsumerRecord| {
        fill(field, text, &claims).unwrap().wants(record)
    };
    let of_ann = record(
        "ann",
        r#"{"owner":"ann","org":7,"eu":true,"no":"7"}"#,
        "7/ann",
    );
    let of_bob = record(
        "bob",
        r#"{"owner":"bob","org":70,"eu":false,"no":"8"}"#,
        "7/bob",
    );
    for (field, text) in [
        ("key", "{sub}"),
        ("key_prefix", "a{{"),
        ("key_prefix", "{sub}"),
        ("header.h", "{org.id}/{sub}"),
        ("where", r#"/owner=="{sub}""#),
        ("where", "/org=={org.id};/eu == {eu}"),
        ("where", r#"/no=="{org.id}""#),
    ] {
        assert!(!shows(field, text, &of_bob), "{field}={text}");
        assert_eq!(shows(field, text, &of_ann), !text.contains("{{"), "{text}");
    }
    assert!(shows("key", "{{{sub}}}", &record("{ann}", "1", "")));
    let template = Template::new(&Spec {
        key: Some("{a}-{b.c}".to_owned()),
        ..spec("where", r#"/x=={d};/y=="{e}";/z==1"#)
    });
    let template = template.unwrap();
    let mut names = template.claims();
    names.sort_unstable();
    assert_eq!(names, ["a", "b.c", "d", "e"]);
}

#[test]
fn what_is_missing_or_empty_makes_no_filter() {
    let claims = json!({"empty": "", "null": null, "list": ["a"], "table": {"a": 1}});
    for field in ["key", "key_prefix", "header.h", "where"] {
        for (name, missing) in [
            ("none", true),
            ("empty", true),
            ("null", true),
            ("list", false),
            ("table", false),
        ] {
            let text = match field {
                "where" => format!("/a=={{{name}}}"),
                _ => format!("x{{{name}}}"),
            };
            let expected = match missing {
                true => Unfilled::Missing(name.to_owned()),
                false => Unfilled::WrongKind(name.to_owned()),
            };
            assert_eq!(fill(field, &text, &claims), Err(expected), "{field}={text}");
        }
    }
}

#[test]
fn what_cannot_be_read_is_named() {
    for (field, text) in [
        ("key", "{"),
        ("key", "}"),
        ("key", "{}"),
        ("key_prefix", "a{b"),
        ("header.h", "{a..b}"),
        ("where", "/a=={"),
        ("where", "/a=={}"),
        ("where", r#"/a=="{""#),
        ("where", "/{sub}==1"),
        ("where", "{sub}"),
        ("where", "/a=={b}c"),
    ] {
        let error = Template::new(&spec(field, text)).unwrap_err();
        assert_eq!(error.field, field, "{text}: {error}");
    }
}

proptest! {
    /// Whatever stands in the claim, what is shown is what equals it.
    #[test]
    fn a_claim_is_compared_and_never_read(claim in ".{1,40}", other in ".{0,40}") {
        let claims = json!({"sub": claim});
        let value = |owner: &str| json!({"owner": owner, "x": 1}).to_string();
        for text in [r#"/owner=="{sub}""#, "/owner=={sub}", r#"/x==1;/owner=="{sub}";/x<2"#] {
            let filter = fill("where", text, &claims).unwrap();
            prop_assert!(filter.wants(&record("", &value(&claim), "")));
            prop_assert_eq!(filter.wants(&record("", &value(&other), "")), other == claim);
        }
        let filter = fill("key", "{sub}", &claims).unwrap();
        prop_assert!(filter.wants(&record(&claim, "", "")));
        prop_assert_eq!(filter.wants(&record(&other, "", "")), other == claim);
    }

    #[test]
    fn syntax_in_a_claim_opens_nothing(
        claim in prop::sample::select(vec![
            r#"" ; /a exists"#, r#"x";/owner!=""#, "{sub}", "}}", r"\", "\"", ";", "/owner exists", "*",
        ]),
    ) {
        let claims = json!({"sub": claim});
        for text in [r#"/owner=="{sub}""#, "/owner=={sub}"] {
            let filter = fill("where", text, &claims).unwrap();
            let wanted = filter.wants(&record("", r#"{"owner":"bob","a":1}"#, ""));
            prop_assert!(!wanted);
        }
    }

    #[test]
    fn no_template_makes_it_fail(text in "\\PC{0,60}") {
        for field in ["key", "key_prefix", "header.h", "where"] {
            if let Ok(template) = Template::new(&spec(field, &text)) {
                let _ = template.fill(&|_| None);
            }
        }
    }
}
