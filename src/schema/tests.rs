use bytes::Bytes;
use tempfile::TempDir;

use super::*;
use crate::config::{SchemaMode, TopicSchemaSettings};

fn schemas(files: &[(&str, &str)], rules: &[(&str, SchemaMode, SchemaMode)]) -> (TempDir, Schemas) {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    let rule = |(topic, key, value): &(&str, SchemaMode, SchemaMode)| TopicSchemaSettings {
        topic: (*topic).to_owned(),
        key: Some(*key),
        value: Some(*value),
    };
    let settings = SchemaSettings {
        folder: Some(folder.path().to_owned()),
        topics: rules.iter().map(rule).collect(),
        ..SchemaSettings::default()
    };
    let schemas = Schemas::load(&settings).unwrap().unwrap();
    (folder, schemas)
}

fn record(key: Option<&'static str>, value: Option<&'static str>) -> ProducerRecord {
    let bytes = |text: &'static str| Bytes::from_static(text.as_bytes());
    ProducerRecord {
        key: key.map(bytes),
        value: value.map(bytes),
        ..ProducerRecord::default()
    }
}

/// The field at fault, and the message.
fn violation(schemas: &Schemas, topic: &str, record: &ProducerRecord) -> Option<(String, String)> {
    let asked = schemas.of(topic)?;
    let mut tally = Tally::default();
    let violation = asked.violation_in(record);
    assert_eq!(asked.accepts(record, &mut tally), violation.is_none());
    violation.map(|found| (found.field, found.message))
}

const FILES: [(&str, &str); 2] = [
    ("orders-value.json", r#"{"type": "object"}"#),
    ("orders-key.json", r#"{"type": "integer"}"#),
];

#[test]
fn by_default_topics_are_checked_that_have_a_schema() {
    let (_folder, schemas) = schemas(&FILES, &[]);
    assert!(schemas.of("users").is_none());
    assert_eq!(
        violation(&schemas, "orders", &record(Some("7"), Some("{}"))),
        None
    );
    let (field, _) = violation(&schemas, "orders", &record(Some("7"), Some("[]"))).unwrap();
    assert_eq!(field, "/value");
    let (field, _) = violation(&schemas, "orders", &record(Some("\"7\""), Some("{}"))).unwrap();
    assert_eq!(field, "/key");
}

#[test]
fn null_is_not_checked() {
    let (_folder, schemas) = schemas(&FILES, &[("*", SchemaMode::Check, SchemaMode::Check)]);
    assert_eq!(violation(&schemas, "orders", &record(None, None)), None);
    assert_eq!(violation(&schemas, "users", &record(None, None)), None);
    // The JSON null is a value like others.
    assert!(violation(&schemas, "orders", &record(None, Some("null"))).is_some());
}

#[test]
fn a_topic_that_must_have_a_schema_and_has_none_takes_nothing() {
    let (_folder, schemas) = schemas(&FILES, &[("*", SchemaMode::Off, SchemaMode::Check)]);
    assert_eq!(violation(&schemas, "users", &record(Some("x"), None)), None);
    let (field, message) = violation(&schemas, "users", &record(None, Some("{}"))).unwrap();
    assert_eq!(field, "/value");
    assert!(
        message.contains("users-value.json is missing in schema.folder"),
        "{message}"
    );
}

#[test]
fn a_new_file_that_is_no_schema_lets_nothing_through() {
    let (folder, schemas) = schemas(&FILES, &[]);
    std::fs::write(folder.path().join("users-value.json"), "{").unwrap();
    assert_eq!(schemas.reload().problems.len(), 1);
    let (_, message) = violation(&schemas, "users", &record(None, Some("{}"))).unwrap();
    assert!(
        message.contains("users-value.json in schema.folder is no valid schema"),
        "{message}"
    );
    std::fs::write(folder.path().join("users-value.json"), "true").unwrap();
    assert!(schemas.reload().problems.is_empty());
    assert_eq!(
        violation(&schemas, "users", &record(None, Some("{}"))),
        None
    );
}

#[test]
fn what_is_off_is_not_looked_at() {
    let (_folder, schemas) = schemas(&FILES, &[("orders", SchemaMode::Off, SchemaMode::Off)]);
    assert!(schemas.of("orders").is_none());
}

#[test]
fn checks_are_counted_by_part_and_result() {
    let (_folder, schemas) = schemas(
        &FILES,
        &[("*", SchemaMode::CheckIfPresent, SchemaMode::Check)],
    );
    let mut tally = Tally::default();
    for (topic, record) in [
        ("orders", record(Some("7"), Some("{}"))),
        ("orders", record(Some("x"), Some("{}"))),
        ("users", record(Some("x"), Some("{}"))),
        ("users", record(Some("x"), None)),
    ] {
        if let Some(asked) = schemas.of(topic) {
            asked.accepts(&record, &mut tally);
        }
    }
    assert_eq!(tally, Tally([[1, 1, 0], [2, 0, 1]]));
}
