//! What the settings say of a topic: the first rule of `schema.topics` that matches it, and the defaults.

use crate::config::{SchemaMode, SchemaSettings};
use crate::glob::Glob;

/// What is asked of the keys, or of the values, of a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    /// Whatever they are.
    Nothing,
    /// To be valid by the schema, if there is one.
    ValidIfPresent,
    /// To be valid by the schema, and there must be one.
    Valid,
}

impl From<SchemaMode> for Asked {
    fn from(mode: SchemaMode) -> Self {
        match mode {
            SchemaMode::Off => Self::Nothing,
            SchemaMode::Check => Self::Valid,
            SchemaMode::CheckIfPresent => Self::ValidIfPresent,
        }
    }
}

/// The rules.
#[derive(Debug)]
pub(super) struct Policy {
    rules: Vec<(Glob, (Asked, Asked))>,
    /// For topics that none matches.
    default: (Asked, Asked),
}

impl Policy {
    pub(super) fn new(settings: &SchemaSettings) -> Self {
        let (key, value) = (settings.default_key, settings.default_value);
        let rules = settings.topics.iter().map(|rule| {
            let key = rule.key.unwrap_or(key).into();
            let value = rule.value.unwrap_or(value).into();
            (Glob::new(&rule.topic), (key, value))
        });
        Self {
            rules: rules.collect(),
            default: (key.into(), value.into()),
        }
    }

    /// What is asked of the keys and of the values of `topic`.
    pub(super) fn of(&self, topic: &str) -> (Asked, Asked) {
        let rule = self.rules.iter().find(|(glob, _)| glob.matches(topic));
        rule.map_or(self.default, |(_, asked)| *asked)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::TopicSchemaSettings;

    #[test]
    fn the_first_rule_that_matches_holds_and_the_defaults_fill_it_up() {
        let rule = |topic: &str, key, value| TopicSchemaSettings {
            topic: topic.to_owned(),
            key,
            value,
        };
        let policy = Policy::new(&SchemaSettings {
            default_key: SchemaMode::Off,
            topics: vec![
                rule("orders-raw", None, Some(SchemaMode::Off)),
                rule("orders*", Some(SchemaMode::Check), None),
                rule("*", None, Some(SchemaMode::Check)),
            ],
            ..SchemaSettings::default()
        });
        assert_eq!(policy.of("orders-raw"), (Asked::Nothing, Asked::Nothing));
        assert_eq!(
            policy.of("orders-eu"),
            (Asked::Valid, Asked::ValidIfPresent)
        );
        assert_eq!(policy.of("users"), (Asked::Nothing, Asked::Valid));
    }
}
