//! `[[auth.topic_filters]]` and `[[streams.keyed_topics]]`: what is said of topics by pattern. Whether
//! a filter can be read is for `auth::policy` to say.

use std::collections::BTreeMap;

use super::tables::{self, Read, one_text, topic_pattern, unknown_field};
use super::value::{Raw, name_of, quote};
use super::{KeyedTopicSettings, Partitioner, TopicFilterSettings};

const FILTER_FIELDS: [&str; 5] = ["topic", "key", "key_prefix", "header", "where"];
const KEYED_FIELDS: [&str; 2] = ["topic", "partitioner"];

/// Reads `[[auth.topic_filters]]`.
pub(super) fn read_filters(path: &str, raw: &Raw, at: usize) -> Read<TopicFilterSettings> {
    let example = "topic = \"orders\", key = \"{sub}\"";
    tables::read(path, raw, at, example, read_filter)
}

fn read_filter(read: &mut Read<TopicFilterSettings>, path: &str, raw: &Raw, at: usize) {
    let Some((entries, at)) = read.entries(path, raw, at) else {
        return;
    };
    let problems_before = read.problems.len();
    let mut filter = TopicFilterSettings::default();
    for entry in entries {
        let field = format!("{path}.{}", entry.name);
        let value = &entry.value;
        let problem = match entry.name.as_str() {
            "topic" => topic_pattern(value).map(|text| filter.topic = text),
            "key" => one_text(value).map(|text| filter.key = Some(text)),
            "key_prefix" => one_text(value).map(|text| filter.key_prefix = Some(text)),
            "header" => headers(value).map(|headers| filter.headers = headers),
            "where" => one_text(value).map(|text| filter.condition = Some(text)),
            unknown => Err(unknown_field(unknown, &FILTER_FIELDS, "a topic filter")),
        };
        match problem {
            Ok(()) => read.places.push((field, entry.at)),
            Err(text) => read.refuse(&field, entry.at, text),
        }
    }
    if read.problems.len() > problems_before {
        return;
    }
    if filter.topic.is_empty() {
        return read.refuse(path, at, "has no topic: expected a pattern of topics");
    }
    let shows_all = filter.key.is_none()
        && filter.key_prefix.is_none()
        && filter.headers.is_empty()
        && filter.condition.is_none();
    if shows_all {
        return read.refuse(
            path,
            at,
            "filters nothing: expected one or several of key, key_prefix, header and where",
        );
    }
    read.items.push(filter);
}

fn headers(raw: &Raw) -> Result<BTreeMap<String, String>, String> {
    const EXPECTED: &str = "expected header.NAME = \"value\"";
    let Raw::Table(entries) = raw else {
        return Err(format!("{EXPECTED}, got {}", raw.kind()));
    };
    if entries.is_empty() {
        return Err(format!("{EXPECTED}, got nothing"));
    }
    let one = |entry: &super::value::Entry| {
        let value = one_text(&entry.value).map_err(|text| match entry.value {
            Raw::Table(_) => format!(
                "{}: {text}; a name with dots stands in quotes, as in header.\"a.b\"",
                entry.name
            ),
            _ => format!("{}: {text}", entry.name),
        })?;
        Ok((entry.name.clone(), value))
    };
    entries.iter().map(one).collect()
}

/// Reads `[[streams.keyed_topics]]`.
pub(super) fn read_keyed(path: &str, raw: &Raw, at: usize) -> Read<KeyedTopicSettings> {
    let example = "topic = \"orders\", partitioner = \"murmur2\"";
    tables::read(path, raw, at, example, read_one_keyed)
}

fn read_one_keyed(read: &mut Read<KeyedTopicSettings>, path: &str, raw: &Raw, at: usize) {
    let Some((entries, at)) = read.entries(path, raw, at) else {
        return;
    };
    let problems_before = read.problems.len();
    let (mut topic, mut partitioner) = (None, Partitioner::default());
    for entry in entries {
        let field = format!("{path}.{}", entry.name);
        let value = &entry.value;
        let problem = match entry.name.as_str() {
            "topic" => topic_pattern(value).map(|text| topic = Some(text)),
            "partitioner" => {
                let named = Partitioner::NAMES
                    .iter()
                    .find(|(name, _)| value.text() == Some(name));
                match named {
                    Some((_, named)) => {
                        partitioner = *named;
                        Ok(())
                    }
                    None => Err(format!(
                        "expected \"murmur2\" (Java's clients, the gateway) or \"crc32\" \
                         (librdkafka's consistent), got {}",
                        value.quoted()
                    )),
                }
            }
            unknown => Err(unknown_field(unknown, &KEYED_FIELDS, "a keyed topic")),
        };
        match problem {
            Ok(()) => read.places.push((field, entry.at)),
            Err(text) => read.refuse(&field, entry.at, text),
        }
    }
    match topic {
        Some(topic) => read.items.push(KeyedTopicSettings { topic, partitioner }),
        None if read.problems.len() > problems_before => {}
        None => read.refuse(path, at, "has no topic: expected a pattern of topics"),
    }
}

/// The list as TOML has it on one line.
pub(super) fn filters_to_toml(filters: &[TopicFilterSettings]) -> String {
    let one = |filter: &TopicFilterSettings| {
        let mut fields = vec![format!("topic = {}", quote(&filter.topic))];
        let texts = [
            ("key", &filter.key),
            ("key_prefix", &filter.key_prefix),
            ("where", &filter.condition),
        ];
        for (name, text) in texts {
            fields.extend(
                text.as_ref()
                    .map(|text| format!("{name} = {}", quote(text))),
            );
        }
        for (name, value) in &filter.headers {
            fields.push(format!("header.{} = {}", quote(name), quote(value)));
        }
        format!("{{ {} }}", fields.join(", "))
    };
    let all: Vec<_> = filters.iter().map(one).collect();
    format!("[{}]", all.join(", "))
}

/// The list as TOML has it on one line.
pub(super) fn keyed_to_toml(topics: &[KeyedTopicSettings]) -> String {
    let one = |keyed: &KeyedTopicSettings| {
        format!(
            "{{ topic = {}, partitioner = {} }}",
            quote(&keyed.topic),
            quote(name_of(keyed.partitioner, &Partitioner::NAMES).unwrap_or_default())
        )
    };
    let all: Vec<_> = topics.iter().map(one).collect();
    format!("[{}]", all.join(", "))
}
