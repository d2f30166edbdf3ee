//! The sample file and the reference in `docs/` are what the code says. `UPDATE_SNAPSHOTS=1` rewrites
//! them.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use super::*;
use crate::config::schema::{KEYS, Key, TABLES};
use crate::config::show::default_toml;
use crate::config::{Settings, Source, sample};

#[test]
fn the_sample_loads_and_changes_nothing() {
    let loaded = load_text(&sample()).expect("the sample is sound");
    assert_eq!(loaded.settings, Settings::default());
    // Written out, this default would open every listener.
    assert_eq!(*loaded.source("auth.mode"), Source::Default);
}

/// The line without its mark of a comment, if that makes it a setting or a table.
fn uncommented(line: &str) -> &str {
    match line.strip_prefix("# ") {
        Some(rest) if toml::from_str::<toml::Table>(rest).is_ok_and(|table| !table.is_empty()) => {
            rest
        }
        _ => line,
    }
}

#[test]
fn the_sample_loads_with_every_comment_taken_away() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let lines: Vec<_> = sample()
        .lines()
        .map(|line| uncommented(line).to_owned())
        .collect();
    let mut text = lines
        .join("\n")
        .replace("bootstrap_servers = \"\"", "bootstrap_servers = \"a:1\"");
    // The files that it names are nobody's.
    for name in ["cert.pem", "key.pem", "clients.pem", "ticket.key"] {
        let path = folder.path().join(name);
        std::fs::write(&path, "0123456789abcdef0123456789abcdef").expect("the file is written");
        let quoted = |text: &str| format!(" = \"{text}\"");
        assert_eq!(text.matches(&quoted(name)).count(), 1, "{name}");
        text = text.replace(&quoted(name), &quoted(path.to_str().expect("text")));
    }
    let loaded = load_text(&text).expect("the examples are sound");
    assert_eq!(loaded.settings.kafka.producer["linger.ms"], "5");
    assert_eq!(loaded.settings.kafka.auto_create_topics, Some(false));
    for key in KEYS.iter().filter(|key| !key.is_open()) {
        assert_ne!(*loaded.source(key.path), Source::Default, "{}", key.path);
    }
    let auth = &loaded.settings.auth;
    assert_eq!(auth.issuers[0].audience, ["tidegate"]);
    assert_eq!(auth.roles["reader"], ["consume:*", "group:{sub}-*"]);
}

#[test]
fn the_sample_and_the_table_have_every_key_once() {
    let sample = sample();
    for key in KEYS {
        assert!(
            TABLES
                .iter()
                .any(|(table, _)| *table == key.table_and_name().0)
        );
        assert_eq!(
            KEYS.iter().filter(|other| other.path == key.path).count(),
            1
        );
        assert!(sample.contains(key.table_and_name().1), "{}", key.path);
    }
}

#[test]
fn the_committed_sample_is_the_printed_one() {
    same_as_file("tidegate.sample.toml", |_| sample());
}

#[test]
fn the_reference_lists_the_keys() {
    same_as_file("configuration.md", |text| {
        const BEGIN: &str = "<!-- keys: begin -->\n";
        const END: &str = "<!-- keys: end -->";
        let (before, rest) = text.split_once(BEGIN).expect("the table's begin");
        let (_, after) = rest.split_once(END).expect("the table's end");
        format!("{before}{BEGIN}{}{END}{after}", table_of_keys())
    });
}

fn table_of_keys() -> String {
    let mut out = String::from("| Key | Takes | Default | Meaning |\n|---|---|---|---|\n");
    for key in KEYS {
        writeln!(
            out,
            "| `{}` | {} | {} | {} |",
            key.path,
            key.kind.expects(),
            default_of(key),
            key.doc
        )
        .expect("a string takes everything");
    }
    out
}

fn default_of(key: &Key) -> String {
    match (key.when_unset, default_toml(key)) {
        (Some(meaning), _) => meaning.to_owned(),
        (None, Some(value)) => format!("`{value}`"),
        (None, None) => "none".to_owned(),
    }
}

/// Compares a file of `docs/` with what it should be, which may depend on what it is.
fn same_as_file(name: &str, expected: impl Fn(&str) -> String) {
    let path: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("docs")
        .join(name);
    let text = std::fs::read_to_string(&path).unwrap_or_default();
    let expected = expected(&text);
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some_and(|value| value == "1") {
        std::fs::write(&path, expected).expect("the file is written");
        return;
    }
    assert!(
        text == expected,
        "docs/{name} is out of date: run `UPDATE_SNAPSHOTS=1 cargo test --lib config` and look at the difference"
    );
}
