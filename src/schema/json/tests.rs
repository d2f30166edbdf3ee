use proptest::prelude::*;
use serde_json::json;

use super::*;

fn compiled(schema: &Value) -> Result<JsonSchema, String> {
    JsonSchema::compile(schema, "folder:///orders-value.json", &Documents::default())
}

fn schema(schema: &Value) -> JsonSchema {
    compiled(schema).unwrap()
}

fn violation(by: &JsonSchema, text: &str) -> Option<(String, String)> {
    let violation = by.violation_in("orders-value.json", Part::Value, text.as_bytes());
    assert_eq!(violation.is_none(), by.accepts(text.as_bytes()), "{text}");
    violation.map(|found| (found.field, found.message))
}

#[test]
fn a_violation_says_where_and_what_was_expected_and_found() {
    let by = schema(&json!({
        "type": "object",
        "properties": {
            "id": {"type": "integer", "minimum": 1},
            "name": {"type": ["string", "null"], "maxLength": 3},
            "kind": {"enum": ["a", "b"]},
            "version": {"const": 2},
            "code": {"pattern": "^[A-Z]+$"},
            "at": {"type": "string", "format": "date-time"},
            "lines": {"type": "array", "uniqueItems": true, "maxItems": 2, "items": {"type": "number"}},
            "one": {"oneOf": [{"type": "string"}, {"type": "number"}]},
            "never": false,
            "a/b~c": {"type": "boolean"},
        },
        "required": ["id"],
        "additionalProperties": false,
    }));
    assert_eq!(
        violation(&by, r#"{"id":1,"name":null,"at":"2026-01-31T12:00:00Z"}"#),
        None
    );
    for (text, field, problem) in [
        ("7", "/value", "expected object, found 7"),
        (
            "{}",
            "/value",
            "expected the field \"id\", found an empty object",
        ),
        (
            r#"{"id":"1"}"#,
            "/value/id",
            "at /id expected integer, found \"1\"",
        ),
        (
            r#"{"id":0}"#,
            "/value/id",
            "at /id expected at least 1, found 0",
        ),
        (
            r#"{"id":1.5}"#,
            "/value/id",
            "at /id expected integer, found 1.5",
        ),
        (
            r#"{"id":1,"name":"abcd"}"#,
            "/value/name",
            "expected at most 3 characters, found \"abcd\"",
        ),
        (
            r#"{"id":1,"name":[]}"#,
            "/value/name",
            "expected null or string, found an array of 0",
        ),
        (
            r#"{"id":1,"kind":"c"}"#,
            "/value/kind",
            "expected one of [\"a\",\"b\"], found \"c\"",
        ),
        (
            r#"{"id":1,"version":1}"#,
            "/value/version",
            "expected 2, found 1",
        ),
        (
            r#"{"id":1,"code":"x"}"#,
            "/value/code",
            "expected a text of the pattern ^[A-Z]+$, found \"x\"",
        ),
        (
            r#"{"id":1,"at":"noon"}"#,
            "/value/at",
            "expected a text of the format date-time, found \"noon\"",
        ),
        (
            r#"{"id":1,"lines":[1,1]}"#,
            "/value/lines",
            "expected items of which no two are the same",
        ),
        (
            r#"{"id":1,"lines":[1,"x"]}"#,
            "/value/lines/1",
            "at /lines/1 expected number, found \"x\"",
        ),
        (
            r#"{"id":1,"one":true}"#,
            "/value/one",
            "expected one of the kinds that are under oneOf, found true",
        ),
        (
            r#"{"id":1,"never":0}"#,
            "/value/never",
            "expected nothing here, found 0",
        ),
        (
            r#"{"id":1,"a/b~c":0}"#,
            "/value/a~1b~0c",
            "at /a~1b~0c expected boolean, found 0",
        ),
        (
            r#"{"id":1,"x":1,"y":2}"#,
            "/value",
            "no fields but those of the schema, found \"x\", \"y\"",
        ),
    ] {
        let (at, message) = violation(&by, text).unwrap_or_else(|| panic!("{text} is valid"));
        assert_eq!(at, field, "{text}");
        assert!(
            message.starts_with("The value is not valid by orders-value.json: "),
            "{message}"
        );
        assert!(message.contains(problem), "{text}: {message}");
    }
}

#[test]
fn what_is_not_json_is_told_as_that() {
    let by = schema(&json!(true));
    for text in ["", "abc", "{\"a\":1,\"a\":2}", "1 2"] {
        let (field, message) = violation(&by, text).unwrap();
        assert_eq!(field, "/value");
        assert!(message.contains("is not JSON that can be"), "{message}");
    }
    let key = by
        .violation_in("orders-key.json", Part::Key, b"abc")
        .unwrap();
    assert_eq!(key.field, "/key");
    assert!(key.message.contains("in quotes"), "{}", key.message);
}

#[test]
fn several_things_are_told_and_all_of_it_is_bounded() {
    let by = schema(&json!({"additionalProperties": {"type": "string"}}));
    let fields: Vec<String> = (0..50).map(|n| format!("\"f{n}\":{n}")).collect();
    let (field, message) = violation(&by, &format!("{{{}}}", fields.join(","))).unwrap();
    assert!(field.starts_with("/value/f"), "{field}");
    assert!(message.ends_with("; and 47 more."), "{message}");
    // Whatever a client sends, an answer does not grow with it.
    let long = "x".repeat(40_000);
    let nested = json!({&long: {&long: 1}}).to_string();
    for by in [
        by,
        schema(&json!({"additionalProperties": {"additionalProperties": {"type": "string"}}})),
        schema(&json!({"additionalProperties": false})),
        schema(&json!({"propertyNames": {"maxLength": 3}})),
        schema(&json!({"enum": (0..500).map(|n| format!("option {n}")).collect::<Vec<_>>()})),
    ] {
        for text in [&nested, &json!(long).to_string(), &"1".repeat(10_000)] {
            if let Some((field, message)) = violation(&by, text) {
                assert!(field.len() < 300, "{}", field.len());
                assert!(message.chars().count() < 1_500, "{}", message.len());
            }
        }
    }
}

#[test]
fn of_a_large_value_the_first_thing_is_told() {
    let by = schema(&json!({"items": {"type": "string"}}));
    let items: Vec<String> = (0..40_000).map(|n| n.to_string()).collect();
    let (field, message) = violation(&by, &format!("[{}]", items.join(","))).unwrap();
    assert_eq!(field, "/value/0");
    assert!(
        message.ends_with("at /0 expected string, found 0."),
        "{message}"
    );
}

#[test]
fn each_draft_is_what_its_schema_says_and_without_one_it_is_the_newest() {
    let exclusive =
        |draft: &str| schema(&json!({"$schema": draft, "minimum": 1, "exclusiveMinimum": true}));
    let by = exclusive("http://json-schema.org/draft-04/schema#");
    assert!(by.accepts(b"2") && !by.accepts(b"1"));
    for (draft, rule) in [
        (
            "http://json-schema.org/draft-06/schema#",
            json!({"contains": {"const": 1}}),
        ),
        (
            "http://json-schema.org/draft-07/schema#",
            json!({"if": true, "then": {"minItems": 1}}),
        ),
        (
            "https://json-schema.org/draft/2019-09/schema",
            json!({"contains": {"const": 1}, "minContains": 1}),
        ),
        (
            "https://json-schema.org/draft/2020-12/schema",
            json!({"prefixItems": [{"const": 1}], "minItems": 1}),
        ),
    ] {
        let mut rule = rule;
        rule["$schema"] = json!(draft);
        let by = schema(&rule);
        assert!(by.accepts(b"[1]") && !by.accepts(b"[]"), "{draft}");
    }
    let newest = schema(&json!({"prefixItems": [{"const": 1}]}));
    assert!(newest.accepts(b"[1]") && !newest.accepts(b"[2]"));
    assert!(compiled(&json!({"$schema": "https://example.com/mine"})).is_err());
}

#[test]
fn what_is_no_schema_is_refused_with_the_reason() {
    for (wrong, problem) in [
        (json!({"type": "strnig"}), "/type: "),
        (
            json!({"properties": {"a": {"minimum": "1"}}}),
            "/properties/a/minimum: ",
        ),
        (json!([]), "expected a JSON object"),
        (json!({"pattern": "("}), "pattern"),
        // Would go back and forth in a text.
        (json!({"pattern": "^(?=a)b"}), "pattern"),
        (json!({"pattern": "(a)\\1"}), "pattern"),
        (json!({"$ref": "#/$defs/gone"}), "gone"),
        (
            json!({"$ref": "https://example.com/address.json"}),
            "nothing is fetched",
        ),
        (json!({"$ref": "file:///etc/passwd"}), "nothing is fetched"),
        (json!({"$ref": "../../etc/passwd"}), "nothing is fetched"),
    ] {
        let found = compiled(&wrong).unwrap_err();
        assert!(found.contains(problem), "{wrong}: {found}");
        assert!(
            found.chars().count() < 1_000 && !found.contains('\n'),
            "{found}"
        );
    }
}

#[test]
fn a_schema_that_goes_round_in_circles_ends() {
    assert!(schema(&json!({"$ref": "#"})).accepts(b"1"));
    let tree = schema(&json!({
        "properties": {"left": {"$ref": "#"}, "right": {"$ref": "#"}, "n": {"type": "integer"}},
        "additionalProperties": false,
    }));
    assert!(tree.accepts(br#"{"left":{"n":1,"right":{"n":2}}}"#));
    assert!(!tree.accepts(br#"{"left":{"n":1,"right":{"n":"2"}}}"#));
    let deep = "{\"left\":".repeat(120) + "{}" + &"}".repeat(120);
    assert!(tree.accepts(deep.as_bytes()));
}

#[test]
fn a_pattern_takes_linear_time() {
    let by = schema(&json!({"pattern": "^(a+)+$"}));
    let text = format!("\"{}!\"", "a".repeat(100_000));
    assert!(!by.accepts(text.as_bytes()));
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 48, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::hash_map("[a-f]|.{0,6}", inner, 0..6)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

proptest! {
    /// Whatever is written: no panic, and what is refused says why.
    #[test]
    fn any_value_is_accepted_or_refused_with_a_reason(value in any_json(), bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        let by = schema(&json!({
            "$defs": {"node": {"anyOf": [
                {"type": ["string", "number"], "format": "uuid", "multipleOf": 0.01},
                {"type": "array", "uniqueItems": true, "contains": {"type": "integer"}},
                {"type": "object", "propertyNames": {"pattern": "^[a-c]"},
                 "patternProperties": {"^a": {"$ref": "#/$defs/node"}}, "unevaluatedProperties": false},
            ]}},
            "$ref": "#/$defs/node",
        }));
        for text in [value.to_string().into_bytes(), bytes] {
            let violation = by.violation_in("s", Part::Value, &text);
            prop_assert_eq!(violation.is_none(), by.accepts(&text));
            if let Some(violation) = violation {
                prop_assert!(!violation.message.is_empty());
            }
        }
    }
}
