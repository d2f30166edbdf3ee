//! Configuration of topics and brokers: what is set, where, and changes of it.

use std::collections::HashMap;
use std::time::Duration;

use krafka::admin::{
    ConfigOp, ConfigResource, DescribeConfigsOptions, IncrementalAlterConfigsOptions,
};
use tokio::time::Instant;

use super::{Admin, bounded, no_answer};
use crate::kafka::fault::{Fault, FaultKind};

/// How many topics one request asks about: some 30 settings each, of 150 bytes with their synonyms.
const TOPICS_AT_ONCE: usize = 200;

/// What has settings.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum ConfigOwner {
    /// A topic, by name.
    Topic(String),
    /// A broker, by id: it is asked itself.
    Broker(i32),
    /// All brokers of the cluster that have no value of their own.
    AllBrokers,
}

impl ConfigOwner {
    fn to_krafka(&self) -> ConfigResource {
        match self {
            Self::Topic(name) => ConfigResource::topic(name.as_str()),
            Self::Broker(id) => ConfigResource::broker(*id),
            Self::AllBrokers => ConfigResource::broker_default(),
        }
    }

    /// A fault about it, which the broker's own words leave out.
    fn about(&self, fault: &Fault) -> Fault {
        let name = match self {
            Self::Topic(name) => return super::about_topic(name, fault),
            Self::Broker(id) => format!("Broker {id}"),
            Self::AllBrokers => "The brokers' defaults".to_owned(),
        };
        Fault {
            message: format!("{name}: {}", fault.message),
            ..fault.clone()
        }
    }

    fn unmentioned(&self) -> Fault {
        match self {
            Self::Topic(name) => no_answer(name),
            Self::Broker(_) | Self::AllBrokers => self.about(&Fault::new(
                FaultKind::Unavailable,
                "the answer does not mention it.",
            )),
        }
    }
}

/// A change of one setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ConfigChange {
    /// It gets this value.
    Set { name: String, value: String },
    /// It gets the value that it has where nobody sets it.
    Reset { name: String },
}

impl ConfigChange {
    /// Which setting it is.
    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Set { name, .. } | Self::Reset { name } => name,
        }
    }

    fn to_krafka(&self) -> ConfigOp {
        match self {
            Self::Set { name, value } => ConfigOp::set(name, value),
            Self::Reset { name } => ConfigOp::delete(name),
        }
    }
}

/// One setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigEntry {
    /// Its name, such as `retention.ms`.
    pub name: String,
    /// Its value; `None` when it has none or the broker keeps it secret.
    pub value: Option<String>,
    /// Nobody set it.
    pub is_default: bool,
    /// It cannot be changed.
    pub is_read_only: bool,
    /// A secret.
    pub is_sensitive: bool,
    /// Where it was set, in the protocol's words, such as `DYNAMIC_TOPIC_CONFIG`.
    pub source: &'static str,
    /// Where its value comes from and those that would apply in its place, the nearest first.
    pub synonyms: Vec<ConfigSynonym>,
}

/// A setting that stands behind another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigSynonym {
    /// Its name.
    pub name: String,
    /// Its value, if it has one and it is no secret.
    pub value: Option<String>,
    /// Where it was set.
    pub source: &'static str,
}

/// The source of a topic's own value.
const OF_TOPIC: &str = "DYNAMIC_TOPIC_CONFIG";
/// The source of a value that nobody set.
const OF_NOBODY: &str = "DEFAULT_CONFIG";

impl ConfigEntry {
    /// What the setting of a topic would be if the topic had no value of its own.
    pub(crate) fn without_topic(self) -> Self {
        if self.source != OF_TOPIC {
            return self;
        }
        let synonyms: Vec<ConfigSynonym> = self
            .synonyms
            .into_iter()
            .filter(|synonym| synonym.source != OF_TOPIC)
            .collect();
        let (value, source) = match synonyms.first() {
            Some(next) => (next.value.clone(), next.source),
            None => (None, OF_NOBODY),
        };
        Self {
            value,
            is_default: source == OF_NOBODY,
            source,
            synonyms,
            ..self
        }
    }
}

impl Admin {
    /// The settings of each of `owners`, by name. Topics are asked about some hundred at a time.
    ///
    /// # Errors
    ///
    /// `Unsupported` (the embedded broker), and whatever kept the brokers from answering. What is wrong with
    /// one owner is in its place.
    pub(crate) async fn configs(
        &self,
        owners: &[ConfigOwner],
        names: Option<&[String]>,
        bound: Duration,
    ) -> Result<Vec<(ConfigOwner, Result<Vec<ConfigEntry>, Fault>)>, Fault> {
        let until = Instant::now() + bound;
        let mut all = Vec::with_capacity(owners.len());
        for owners in owners.chunks(TOPICS_AT_ONCE) {
            let left = until.saturating_duration_since(Instant::now());
            let mut found = self.some_configs(owners, names, left).await?;
            for owner in owners {
                let entries = match found.remove(&owner.to_krafka()) {
                    Some(Ok(entries)) => Ok(sorted(entries)),
                    Some(Err(error)) => Err(owner.about(&error.into())),
                    None => Err(owner.unmentioned()),
                };
                all.push((owner.clone(), entries));
            }
        }
        Ok(all)
    }

    async fn some_configs(
        &self,
        owners: &[ConfigOwner],
        names: Option<&[String]>,
        bound: Duration,
    ) -> Result<HashMap<ConfigResource, krafka::Result<Vec<krafka::admin::ConfigEntry>>>, Fault>
    {
        let resources: Vec<ConfigResource> = owners.iter().map(ConfigOwner::to_krafka).collect();
        let link = self.link(bound).await?;
        let ask = |bound| {
            let mut options = DescribeConfigsOptions::default()
                .timeout(bound)
                .include_synonyms(true);
            if let Some(names) = names {
                options = options.config_names(names.to_vec());
            }
            link.client.describe_configs(resources.clone(), options)
        };
        let at_brokers = |owner: &ConfigOwner| matches!(owner, ConfigOwner::Broker(_));
        if owners.iter().any(at_brokers) {
            // Each broker tells of itself: there is no other one to ask.
            return bounded(bound, ask(bound)).await;
        }
        link.any_broker(bound, ask).await
    }

    /// Changes settings, all of an owner's or none; with `validate_only` the brokers look at the changes and
    /// make none.
    ///
    /// # Errors
    ///
    /// Whatever kept the brokers from answering. What is wrong with one owner's changes (`Invalid`,
    /// `UnknownTopic`, `NotAuthorized`) is in its place.
    pub(crate) async fn alter_configs(
        &self,
        changes: &[(ConfigOwner, Vec<ConfigChange>)],
        validate_only: bool,
        bound: Duration,
    ) -> Result<Vec<(ConfigOwner, Result<(), Fault>)>, Fault> {
        let asked = changes.iter().map(|(owner, changes)| {
            let changes = changes.iter().map(ConfigChange::to_krafka).collect();
            (owner.to_krafka(), changes)
        });
        let asked: Vec<(ConfigResource, Vec<ConfigOp>)> = asked.collect();
        let options = IncrementalAlterConfigsOptions::default()
            .timeout(bound)
            .validate_only(validate_only);
        let client = &self.link(bound).await?.client;
        let call = client.incremental_alter_configs(asked, options);
        let mut done = bounded(bound, call).await?;
        let answer = |(owner, _): &(ConfigOwner, Vec<ConfigChange>)| {
            let answer = match done.remove(&owner.to_krafka()) {
                Some(answer) => answer.map_err(|error| owner.about(&error.into())),
                None => Err(owner.unmentioned()),
            };
            (owner.clone(), answer)
        };
        Ok(changes.iter().map(answer).collect())
    }
}

fn sorted(entries: Vec<krafka::admin::ConfigEntry>) -> Vec<ConfigEntry> {
    let mut entries: Vec<ConfigEntry> = entries.into_iter().map(ConfigEntry::from).collect();
    entries.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    entries
}

impl From<krafka::admin::ConfigEntry> for ConfigEntry {
    fn from(entry: krafka::admin::ConfigEntry) -> Self {
        let source = source(entry.config_source);
        Self {
            name: entry.name,
            value: entry.value,
            // The flag is of protocol version 0; later ones say it by the source.
            is_default: entry.is_default || source == OF_NOBODY,
            is_read_only: entry.read_only,
            is_sensitive: entry.is_sensitive,
            source,
            synonyms: entry
                .synonyms
                .into_iter()
                .map(|synonym| ConfigSynonym {
                    name: synonym.name,
                    value: synonym.value,
                    source: self::source(synonym.source),
                })
                .collect(),
        }
    }
}

/// The protocol's name for where a configuration value was set.
fn source(number: i8) -> &'static str {
    match number {
        1 => OF_TOPIC,
        2 => "DYNAMIC_BROKER_CONFIG",
        3 => "DYNAMIC_DEFAULT_BROKER_CONFIG",
        4 => "STATIC_BROKER_CONFIG",
        5 => OF_NOBODY,
        6 => "DYNAMIC_BROKER_LOGGER_CONFIG",
        7 => "CLIENT_METRICS_CONFIG",
        8 => "DYNAMIC_GROUP_CONFIG",
        _ => "UNKNOWN",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn synonym(value: &str, source: &'static str) -> ConfigSynonym {
        ConfigSynonym {
            name: "log.retention.ms".to_owned(),
            value: Some(value.to_owned()),
            source,
        }
    }

    fn entry(source: &'static str, synonyms: Vec<ConfigSynonym>) -> ConfigEntry {
        ConfigEntry {
            name: "retention.ms".to_owned(),
            value: Some("1".to_owned()),
            is_default: source == OF_NOBODY,
            is_read_only: false,
            is_sensitive: false,
            source,
            synonyms,
        }
    }

    #[test]
    fn without_the_topics_own_value_the_next_synonym_decides() {
        let own = entry(
            OF_TOPIC,
            vec![
                synonym("1", OF_TOPIC),
                synonym("2", "STATIC_BROKER_CONFIG"),
                synonym("3", OF_NOBODY),
            ],
        );
        let new = own.without_topic();
        assert_eq!(new.value.as_deref(), Some("2"));
        assert_eq!(
            (new.source, new.is_default),
            ("STATIC_BROKER_CONFIG", false)
        );
        assert_eq!(new.synonyms.len(), 2);
        let bare = entry(OF_TOPIC, vec![synonym("1", OF_TOPIC)]).without_topic();
        assert_eq!((bare.value, bare.source), (None, OF_NOBODY));
        let default = entry(OF_NOBODY, vec![synonym("1", OF_NOBODY)]);
        assert_eq!(default.clone().without_topic(), default);
    }
}
