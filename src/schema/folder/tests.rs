use std::fs;

use tempfile::TempDir;

use super::*;

fn folder(files: &[(&str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        write(&folder, name, text);
    }
    folder
}

fn write(folder: &TempDir, name: &str, text: &str) {
    fs::write(folder.path().join(name), text).unwrap();
}

fn read(folder: &TempDir) -> Folder {
    Folder::read(folder.path()).unwrap()
}

fn value_schema<'a>(folder: &'a Folder, topic: &str) -> &'a Schema {
    folder.schema(topic, Part::Value).unwrap().unwrap()
}

const ADDRESS: &str = r#"{"type": "object", "required": ["street"]}"#;
const ORDER: &str = r#"{"properties": {"to": {"$ref": "address.json"}}}"#;

#[test]
fn files_are_found_by_topic_and_part_and_refer_to_each_other() {
    let folder = folder(&[
        ("orders-value.json", ORDER),
        ("orders-key.json", r#"{"type": "integer"}"#),
        ("a.b_c-key-value.json", "true"),
        ("address.json", ADDRESS),
        (".hidden-value.json", "{"),
        ("notes.txt", "{"),
        ("-value.json", "true"),
    ]);
    fs::create_dir(folder.path().join("sub")).unwrap();
    let read = read(&folder);
    let topics: Vec<&str> = read.topics().into_iter().collect();
    assert_eq!(topics, ["a.b_c-key", "orders"]);
    let orders = value_schema(&read, "orders");
    assert!(orders.accepts(br#"{"to": {"street": "x"}}"#));
    assert!(!orders.accepts(br#"{"to": {}}"#));
    assert!(
        read.schema("orders", Part::Key)
            .unwrap()
            .unwrap()
            .accepts(b"7")
    );
    assert!(read.schema("address", Part::Value).is_none());
    assert!(read.schema("hidden", Part::Value).is_none());
}

#[test]
fn a_reference_may_be_the_id_of_a_file_or_a_place_in_it() {
    let folder = folder(&[
        (
            "orders-value.json",
            r##"{"$id": "https://example.com/orders.json",
                "properties": {"to": {"$ref": "address.json#/$defs/street"}, "from": {"$ref": "#/$defs/own"}},
                "$defs": {"own": {"type": "null"}}}"##,
        ),
        (
            "somewhere else.json",
            r#"{"$id": "https://example.com/address.json", "$defs": {"street": {"type": "string"}}}"#,
        ),
        (
            "users-value.json",
            r#"{"$ref": "somewhere%20else.json#/$defs/street"}"#,
        ),
        // Older drafts have another word for it.
        (
            "old.json",
            r#"{"$schema": "http://json-schema.org/draft-04/schema#", "id": "urn:old", "type": "array"}"#,
        ),
        ("old-value.json", r#"{"$ref": "urn:old"}"#),
        // To each other, in a circle.
        (
            "ring-value.json",
            r#"{"properties": {"next": {"$ref": "ring.json"}}}"#,
        ),
        (
            "ring.json",
            r#"{"properties": {"next": {"$ref": "ring-value.json"}, "n": {"type": "null"}}}"#,
        ),
    ]);
    let read = read(&folder);
    let orders = value_schema(&read, "orders");
    assert!(orders.accepts(br#"{"to": "x", "from": null}"#));
    assert!(!orders.accepts(br#"{"to": 1}"#));
    assert!(!orders.accepts(br#"{"from": 1}"#));
    assert!(!value_schema(&read, "users").accepts(b"1"));
    assert!(value_schema(&read, "old").accepts(b"[]") && !value_schema(&read, "old").accepts(b"1"));
    let ring = value_schema(&read, "ring");
    assert!(!ring.accepts(br#"{"next": {"next": {"next": {"n": 1}}}}"#));
}

#[test]
fn everything_that_is_wrong_is_told_with_its_file() {
    let elsewhere = tempfile::tempdir().unwrap();
    write(&elsewhere, "secret.json", "true");
    let secret = elsewhere.path().join("secret.json");
    let folder = folder(&[
        ("a-value.json", "{"),
        ("b-value.json", r#"{"type": 1}"#),
        ("c-value.json", r#"{"$ref": "https://example.com/x.json"}"#),
        (
            "d-value.json",
            &format!(r#"{{"$ref": "file://{}"}}"#, secret.display()),
        ),
        (
            "e-value.json",
            &format!(r#"{{"$ref": "..{}"}}"#, secret.display()),
        ),
        ("f-value.json", r#"{"$id": "urn:same"}"#),
        ("g-value.json", r#"{"$id": "urn:same"}"#),
        ("h-value.json", r#"{"type": "object", "type": "string"}"#),
        ("i-value.json", "true"),
    ]);
    let problems = Folder::read(folder.path()).unwrap_err();
    let expected = [
        ("a-value.json", "not valid JSON: EOF"),
        ("b-value.json", "/type: "),
        ("c-value.json", "https://example.com/x.json"),
        ("d-value.json", "nothing is fetched"),
        ("e-value.json", "nothing is fetched"),
        ("g-value.json", "is that of f-value.json, too"),
        ("h-value.json", "has \"type\" twice"),
    ];
    assert_eq!(problems.len(), expected.len(), "{problems:#?}");
    for (problem, (file, reason)) in problems.iter().zip(expected) {
        let path = folder.path().join(file);
        assert!(
            problem.starts_with(&format!("{}: ", path.display())),
            "{problem}"
        );
        assert!(problem.contains(reason), "{problem}");
    }
}

#[test]
fn a_folder_that_cannot_be_read_is_told_and_one_that_is_empty_is_sound() {
    let problems = Folder::read(Path::new("/nowhere/schemas")).unwrap_err();
    assert!(
        problems[0].starts_with("/nowhere/schemas cannot be read: "),
        "{problems:?}"
    );
    assert!(read(&folder(&[])).topics().is_empty());
    let big = folder(&[("big-value.json", &format!("\"{}\"", "x".repeat(1 << 20)))]);
    let problems = Folder::read(big.path()).unwrap_err();
    assert!(
        problems[0].contains("more than 1048576 bytes"),
        "{problems:?}"
    );
}

#[test]
fn a_file_that_is_no_schema_any_more_keeps_its_version_and_the_others_go_on() {
    let folder = folder(&[
        ("orders-value.json", r#"{"type": "object"}"#),
        ("users-value.json", r#"{"type": "object"}"#),
    ]);
    let first = read(&folder);
    write(&folder, "orders-value.json", r#"{"type": "#);
    write(&folder, "users-value.json", r#"{"type": "array"}"#);
    write(&folder, "new-value.json", r#"{"type": "nothing"}"#);
    let (second, changes) = first.read_again(folder.path());
    assert_eq!(changes.taken, ["users-value.json"]);
    assert_eq!(changes.problems.len(), 2, "{changes:?}");
    assert!(value_schema(&second, "orders").accepts(b"{}"));
    assert!(!value_schema(&second, "orders").accepts(b"[]"));
    assert!(value_schema(&second, "users").accepts(b"[]"));
    let never_valid = second.schema("new", Part::Value).unwrap().unwrap_err();
    assert!(never_valid.contains("new-value.json"), "{never_valid}");

    write(&folder, "orders-value.json", r#"{"type": "array"}"#);
    fs::remove_file(folder.path().join("users-value.json")).unwrap();
    write(&folder, "new-value.json", "true");
    let (third, changes) = second.read_again(folder.path());
    assert_eq!(changes.taken, ["new-value.json", "orders-value.json"]);
    assert_eq!(changes.gone, ["users-value.json"]);
    assert!(changes.problems.is_empty(), "{changes:?}");
    assert!(value_schema(&third, "orders").accepts(b"[]"));
    assert!(value_schema(&third, "new").accepts(b"[]"));
    assert!(third.schema("users", Part::Value).is_none());
}

#[test]
fn a_schema_whose_reference_breaks_keeps_what_it_was() {
    let folder = folder(&[("orders-value.json", ORDER), ("address.json", ADDRESS)]);
    let first = read(&folder);
    // As it cannot be used, what refers to it goes on with what it was, changed or not.
    write(&folder, "address.json", r#"{"type": 7}"#);
    write(
        &folder,
        "orders-value.json",
        r#"{"required": ["to"], "properties": {"to": {"$ref": "address.json"}}}"#,
    );
    let (second, changes) = first.read_again(folder.path());
    assert_eq!(changes.taken, ["orders-value.json"]);
    assert_eq!(changes.problems.len(), 1, "{changes:?}");
    assert!(!value_schema(&second, "orders").accepts(b"{}"));
    assert!(!value_schema(&second, "orders").accepts(br#"{"to": {}}"#));
    // And when it is gone.
    fs::remove_file(folder.path().join("address.json")).unwrap();
    let (third, changes) = second.read_again(folder.path());
    assert_eq!(changes.gone, ["address.json"]);
    assert_eq!(changes.problems.len(), 1, "{changes:?}");
    assert!(!value_schema(&third, "orders").accepts(br#"{"to": {}}"#));
    assert!(value_schema(&third, "orders").accepts(br#"{"to": {"street": "x"}}"#));
    // The folder itself is gone.
    let (fourth, changes) = third.read_again(Path::new("/nowhere"));
    assert_eq!(
        (
            changes.taken.len(),
            changes.gone.len(),
            changes.problems.len()
        ),
        (0, 0, 1)
    );
    assert!(!value_schema(&fourth, "orders").accepts(b"{}"));
}
