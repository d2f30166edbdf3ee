//! `tidegate config show`: every setting, its value and what set it, with secrets masked. The output
//! is a TOML document in which the sources are comments.

use std::collections::BTreeMap;

use super::load::Loaded;
use super::schema::{KEYS, Key, ValueKind};
use super::value::{list_to_toml, quote};
use super::{Properties, Settings};

/// What is shown in place of a secret.
const MASK: &str = "********";

/// One line a setting: `path = value  # source`.
pub fn show(loaded: &Loaded) -> String {
    let mut settings = loaded.settings.clone();
    let mut lines: Vec<(String, String)> = Vec::new();
    for key in KEYS {
        if key.is_open() {
            lines.extend(entry_lines(loaded, &mut settings, key));
            continue;
        }
        let source = loaded.source(key.path).to_string();
        let line = match key.kind.to_toml(&mut settings) {
            Some(_) if key.secret => format!("{} = {}", key.path, quote(MASK)),
            Some(value) => format!("{} = {value}", key.path),
            None => match key.when_unset {
                Some(meaning) => format!("# {} is unset: {meaning}", key.path),
                None => format!("# {} is unset", key.path),
            },
        };
        lines.push((line, source));
    }
    let width = lines.iter().map(|(line, _)| line.chars().count()).max();
    // Long values should not push every source off the screen.
    let width = width.unwrap_or_default().min(60);
    lines
        .iter()
        .map(|(line, source)| format!("{line:width$}  # {}\n", one_line(source)))
        .collect()
}

/// A line for each entry of a table that takes any name.
fn entry_lines(loaded: &Loaded, settings: &mut Settings, key: &Key) -> Vec<(String, String)> {
    let entries: Vec<(String, String)> = match &key.kind {
        ValueKind::Properties(place) => masked(place(settings))
            .into_iter()
            .map(|(name, value)| (name, quote(&value)))
            .collect(),
        ValueKind::Roles(place) => place(settings)
            .iter()
            .map(|(name, permissions)| (name.clone(), list_to_toml(permissions)))
            .collect(),
        _ => Vec::new(),
    };
    if entries.is_empty() {
        let source = loaded.source(key.path).to_string();
        return vec![(format!("{} = {{}}", key.path), source)];
    }
    let line = |(name, value): (String, String)| {
        let source = loaded.source(&format!("{}.{name}", key.path)).to_string();
        (format!("{}.{} = {value}", key.path, quote(&name)), source)
    };
    entries.into_iter().map(line).collect()
}

/// Whether a librdkafka property's value must not be shown. It errs on the safe side: a token
/// endpoint's URL, say, can hold credentials.
pub fn is_secret_property(name: &str) -> bool {
    const WORDS: [&str; 7] = [
        "password",
        "passphrase",
        "secret",
        "token",
        "key.pem",
        "jaas",
        "oauthbearer.config",
    ];
    let name = name.to_ascii_lowercase();
    // `ssl_key` is an older spelling of `ssl.key.pem`; "extensions" are sent along with a token.
    let whole = ["ssl_key", "sasl.oauthbearer.extensions"];
    WORDS.iter().any(|word| name.contains(word)) || whole.contains(&name.as_str())
}

/// The same properties with their secrets masked.
pub(super) fn masked(properties: &Properties) -> BTreeMap<String, String> {
    let mask = |(name, value): (&String, &String)| {
        let value = if is_secret_property(name) {
            MASK
        } else {
            value
        };
        (name.clone(), value.to_owned())
    };
    properties.iter().map(mask).collect()
}

/// A comment must end where its line ends, whatever a path contains.
fn one_line(text: &str) -> String {
    let escape = |c: char| -> String {
        if c.is_control() {
            c.escape_debug().collect()
        } else {
            c.into()
        }
    };
    text.chars().map(escape).collect()
}

/// The default of a key as TOML; `None` when it has no plain one.
pub(super) fn default_toml(key: &Key) -> Option<String> {
    match key.when_unset {
        Some(_) => None,
        None => key.kind.to_toml(&mut Settings::default()),
    }
}
