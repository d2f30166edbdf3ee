//! `[schema]`: where schemas are, and which topics' records are checked by them.

use std::path::PathBuf;

use super::load::{ConfigError, Loaded};
use super::tables::{self, Read, topic_pattern, unknown_field};
use super::value::{Raw, name_of, quote};

const FIELDS: [&str; 3] = ["topic", "key", "value"];

/// `[schema]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SchemaSettings {
    /// `folder`: where the files of schemas are.
    pub folder: Option<PathBuf>,
    /// `default_key`: what becomes of the keys of topics that no rule matches.
    pub default_key: SchemaMode,
    /// `default_value`: the same of their values.
    pub default_value: SchemaMode,
    /// `[[schema.topics]]`: the first that matches a topic holds for it.
    pub topics: Vec<TopicSchemaSettings>,
}

impl Default for SchemaSettings {
    fn default() -> Self {
        Self {
            folder: None,
            default_key: SchemaMode::CheckIfPresent,
            default_value: SchemaMode::CheckIfPresent,
            topics: Vec::new(),
        }
    }
}

/// One entry of `[[schema.topics]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicSchemaSettings {
    /// `topic`: a pattern of names.
    pub topic: String,
    /// `key`; `None` is `default_key`.
    pub key: Option<SchemaMode>,
    /// `value`; `None` is `default_value`.
    pub value: Option<SchemaMode>,
}

/// What becomes of a key or value that is to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SchemaMode {
    /// Nothing is looked at.
    Off,
    /// It must be valid by its schema, and there must be one.
    Check,
    /// It must be valid by its schema where there is one.
    CheckIfPresent,
}

impl SchemaMode {
    /// Every mode by its name in the settings.
    pub const NAMES: [(&'static str, Self); 3] = [
        ("off", Self::Off),
        ("check", Self::Check),
        ("check_if_present", Self::CheckIfPresent),
    ];

    /// What a setting of this type takes, for messages and the reference.
    pub(super) const EXPECTS: &'static str = "\"off\", \"check\" or \"check_if_present\"";

    /// Reads a mode.
    pub(super) fn read(raw: &Raw) -> Result<Self, String> {
        let text = raw.text().map(str::trim);
        if text == Some("encode") {
            return Err(format!(
                "\"encode\" needs a schema registry, which this version does not offer: expected {}",
                Self::EXPECTS
            ));
        }
        let named = Self::NAMES.iter().find(|(name, _)| text == Some(name));
        named
            .map(|(_, mode)| *mode)
            .ok_or_else(|| format!("expected {}, got {}", Self::EXPECTS, raw.quoted()))
    }

    fn quoted(self) -> String {
        quote(name_of(self, &Self::NAMES).unwrap_or_default())
    }
}

/// Reads `[[schema.topics]]`.
pub(super) fn read(path: &str, raw: &Raw, at: usize) -> Read<TopicSchemaSettings> {
    let example = "topic = \"orders\", value = \"check\"";
    tables::read(path, raw, at, example, read_one)
}

fn read_one(read: &mut Read<TopicSchemaSettings>, path: &str, raw: &Raw, at: usize) {
    let Some((entries, at)) = read.entries(path, raw, at) else {
        return;
    };
    let problems_before = read.problems.len();
    let (mut topic, mut key, mut value) = (None, None, None);
    for entry in entries {
        let field = format!("{path}.{}", entry.name);
        let problem = match entry.name.as_str() {
            "topic" => topic_pattern(&entry.value).map(|text| topic = Some(text)),
            "key" => SchemaMode::read(&entry.value).map(|mode| key = Some(mode)),
            "value" => SchemaMode::read(&entry.value).map(|mode| value = Some(mode)),
            unknown => Err(unknown_field(unknown, &FIELDS, "a rule of schemas")),
        };
        match problem {
            Ok(()) => read.places.push((field, entry.at)),
            Err(text) => read.refuse(&field, entry.at, text),
        }
    }
    if read.problems.len() > problems_before {
        return;
    }
    match topic {
        None => read.refuse(path, at, "has no topic: expected a pattern of topics"),
        Some(_) if key.is_none() && value.is_none() => {
            read.refuse(path, at, "says nothing: expected key, value or both");
        }
        Some(topic) => read.items.push(TopicSchemaSettings { topic, key, value }),
    }
}

/// The list as TOML has it on one line.
pub(super) fn to_toml(topics: &[TopicSchemaSettings]) -> String {
    let one = |rule: &TopicSchemaSettings| {
        let mut fields = vec![format!("topic = {}", quote(&rule.topic))];
        for (name, mode) in [("key", rule.key), ("value", rule.value)] {
            fields.extend(mode.map(|mode| format!("{name} = {}", mode.quoted())));
        }
        format!("{{ {} }}", fields.join(", "))
    };
    let all: Vec<_> = topics.iter().map(one).collect();
    format!("[{}]", all.join(", "))
}

/// Without a folder there is no schema, so that what must have one could never be written, and what is said
/// of the others would do nothing.
pub(super) fn objections(loaded: &Loaded) -> Vec<ConfigError> {
    let schema = &loaded.settings.schema;
    if schema.folder.is_some() {
        return Vec::new();
    }
    let mut errors = Vec::new();
    for (path, mode) in [
        ("schema.default_key", schema.default_key),
        ("schema.default_value", schema.default_value),
    ] {
        if mode == SchemaMode::Check {
            let problem = "\"check\", but there is no schema.folder, so that there are no schemas: name the folder";
            errors.push(loaded.error(path, problem));
        }
    }
    if !schema.topics.is_empty() {
        let problem = "set without schema.folder, so that there are no schemas: name the folder";
        errors.push(loaded.error("schema.topics", problem));
    }
    errors
}
