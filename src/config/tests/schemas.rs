//! `[schema]`: rules of topics, and what could check nothing.

use super::*;
use crate::config::{self, SchemaMode, TopicSchemaSettings};

#[test]
fn rules_of_schemas_are_read_and_shown() {
    let text = "[schema]\nfolder = \"schemas\"\ndefault_key = \"off\"\n\
         [[schema.topics]]\ntopic = \"orders.*\"\nvalue = \"check\"\n\
         [[schema.topics]]\ntopic = \"*\"\nkey = \"check_if_present\"\nvalue = \"off\"\n";
    let loaded = load_text(text).unwrap();
    let schema = &loaded.settings.schema;
    assert_eq!(schema.default_key, SchemaMode::Off);
    assert_eq!(schema.default_value, SchemaMode::CheckIfPresent);
    let rule = |topic: &str, key, value| TopicSchemaSettings {
        topic: topic.to_owned(),
        key,
        value,
    };
    let expected = [
        rule("orders.*", None, Some(SchemaMode::Check)),
        rule("*", Some(SchemaMode::CheckIfPresent), Some(SchemaMode::Off)),
    ];
    assert_eq!(schema.topics, expected);
    let shown = config::show(&loaded);
    let line = "topics = [{ topic = \"orders.*\", value = \"check\" }, \
                { topic = \"*\", key = \"check_if_present\", value = \"off\" }]";
    assert!(shown.contains(line), "{shown}");
}

#[test]
fn rules_of_schemas_that_cannot_be_meant_are_refused_by_field() {
    for (rule, expected) in [
        ("value = \"check\"", "schema.topics[0] (file"),
        ("topic = \"t\"", "says nothing: expected key, value or both"),
        (
            "topic = \"a b\"\nvalue = \"off\"",
            "schema.topics[0].topic (file",
        ),
        (
            "topic = \"t\"\nvalue = \"on\"",
            "expected \"off\", \"check\" or \"check_if_present\", got \"on\"",
        ),
        (
            "topic = \"t\"\nkey = \"encode\"",
            "\"encode\" needs a schema registry",
        ),
        ("topic = \"t\"\nvalu = \"off\"", "did you mean value?"),
    ] {
        let text = format!("[schema]\nfolder = \"schemas\"\n[[schema.topics]]\n{rule}\n");
        let errors = load_text(&text).unwrap_err();
        assert_eq!(errors.len(), 1, "{errors:?}");
        assert!(errors[0].contains(expected), "{rule}: {errors:?}");
    }
}

#[test]
fn what_could_check_nothing_without_a_folder_is_refused() {
    for (text, path) in [
        (
            "[schema]\ndefault_key = \"check\"\n",
            "schema.default_key (file",
        ),
        (
            "[schema]\ndefault_value = \"check\"\n",
            "schema.default_value (file",
        ),
        (
            "[[schema.topics]]\ntopic = \"t\"\nvalue = \"off\"\n",
            "schema.topics (file",
        ),
    ] {
        let errors = load_text(text).unwrap_err();
        assert_eq!(errors.len(), 1, "{errors:?}");
        assert!(errors[0].contains(path), "{errors:?}");
    }
    assert!(load_text("[schema]\ndefault_value = \"off\"\n").is_ok());
}
