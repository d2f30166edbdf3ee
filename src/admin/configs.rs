//! Settings of topics and brokers: what they are, and changes of them.

use std::collections::BTreeSet;

use super::AdminError;
use super::topics::check_not_kafkas;
use crate::auth::Principal;
use crate::auth::permission::{Action, Resource, authorize};
use crate::kafka::Cluster;
use crate::kafka::admin::{ConfigChange, ConfigEntry, ConfigOwner};
use crate::kafka::fault::{Fault, FaultKind};
use crate::kafka::metadata::check_topic_name;

/// The settings of one topic or broker, or of all brokers, by name. The route has asked for the permission.
///
/// # Errors
///
/// [`AdminError::NoSuchBroker`] and [`AdminError::Kafka`].
pub(crate) async fn of(
    cluster: &Cluster,
    owner: &ConfigOwner,
) -> Result<Vec<ConfigEntry>, AdminError> {
    named(cluster, owner, None).await
}

/// One of them.
///
/// # Errors
///
/// The same, and [`AdminError::NoSuchConfig`].
pub(crate) async fn one(
    cluster: &Cluster,
    owner: &ConfigOwner,
    name: &str,
) -> Result<ConfigEntry, AdminError> {
    let names = [name.to_owned()];
    let mut entries = named(cluster, owner, Some(&names)).await?.into_iter();
    entries
        .find(|entry| entry.name == name)
        .ok_or_else(|| AdminError::NoSuchConfig(name.to_owned()))
}

/// Those of these names that there are, or all.
async fn named(
    cluster: &Cluster,
    owner: &ConfigOwner,
    names: Option<&[String]>,
) -> Result<Vec<ConfigEntry>, AdminError> {
    check_broker(cluster, owner).await?;
    let told = cluster.configs(std::slice::from_ref(owner), names).await;
    match told.map_err(AdminError::Kafka)?.pop() {
        Some((_, entries)) => entries.map_err(AdminError::Kafka),
        None => Ok(Vec::new()),
    }
}

/// The settings of several topics or brokers. What is wrong with one is in its place.
///
/// # Errors
///
/// What kept the brokers from answering.
pub(crate) async fn of_each(
    cluster: &Cluster,
    owners: &[ConfigOwner],
) -> Result<Vec<(ConfigOwner, Result<Vec<ConfigEntry>, Fault>)>, Fault> {
    cluster.configs(owners, None).await
}

/// Changes settings of one topic or broker, or of all brokers: all of them or none. The route has asked for the
/// permission.
///
/// # Errors
///
/// [`AdminError`]; that there is no such setting is found before anything is changed.
pub(crate) async fn alter(
    cluster: &Cluster,
    owner: ConfigOwner,
    changes: Vec<ConfigChange>,
    validate_only: bool,
) -> Result<(), AdminError> {
    check_changeable(&owner)?;
    check_names(cluster, &owner, &changes).await?;
    let asked = [(owner, changes)];
    let altered = cluster.alter_configs(&asked, validate_only).await;
    for (_, answer) in altered.map_err(AdminError::Kafka)? {
        answer.map_err(AdminError::Kafka)?;
    }
    Ok(())
}

/// Changes settings of several topics for `principal`, who needs `alter` on each: all of a topic's or none.
/// Answers with the topics whose changes Kafka refused.
///
/// # Errors
///
/// [`AdminError`], when nothing was changed: a permission, a topic or a setting is missing.
pub(crate) async fn alter_topics(
    cluster: &Cluster,
    principal: &Principal,
    changes: Vec<(String, Vec<ConfigChange>)>,
    validate_only: bool,
) -> Result<Vec<(String, Fault)>, AdminError> {
    for (name, _) in &changes {
        check_topic_name(name).map_err(AdminError::Name)?;
        authorize(principal, Action::Alter, Resource::Topic(name))?;
        check_not_kafkas(name)?;
    }
    let changes: Vec<(ConfigOwner, Vec<ConfigChange>)> = changes
        .into_iter()
        .map(|(name, changes)| (ConfigOwner::Topic(name), changes))
        .collect();
    let owners: Vec<ConfigOwner> = changes.iter().map(|(owner, _)| owner.clone()).collect();
    let told = cluster.configs(&owners, None).await;
    for ((_, told), (_, changes)) in told.map_err(AdminError::Kafka)?.into_iter().zip(&changes) {
        known(&told.map_err(AdminError::Kafka)?, changes)?;
    }
    let altered = cluster.alter_configs(&changes, validate_only).await;
    let refused = altered.map_err(AdminError::Kafka)?.into_iter();
    Ok(refused
        .filter_map(|(owner, answer)| match (owner, answer) {
            (ConfigOwner::Topic(name), Err(fault)) => Some((name, fault)),
            _ => None,
        })
        .collect())
}

/// What a topic that is made now gets where its maker says nothing: read from a topic that `principal` may describe,
/// without that topic's own values. `None` where there is no topic to read it from.
///
/// # Errors
///
/// What kept the brokers from answering.
pub(crate) async fn of_new_topic(
    cluster: &Cluster,
    principal: &Principal,
) -> Result<Option<Vec<ConfigEntry>>, Fault> {
    // One may be deleted meanwhile, or be closed to the gateway's own Kafka user.
    const TRIED: usize = 3;
    let topics = super::topics::visible(cluster, principal).await?;
    for topic in topics.iter().take(TRIED) {
        let owner = [ConfigOwner::Topic(topic.name.to_string())];
        match cluster.configs(&owner, None).await?.pop() {
            Some((_, Ok(entries))) => {
                let entries = entries.into_iter().map(ConfigEntry::without_topic);
                return Ok(Some(entries.collect()));
            }
            Some((_, Err(fault)))
                if matches!(
                    fault.kind,
                    FaultKind::UnknownTopic | FaultKind::NotAuthorized
                ) => {}
            Some((_, Err(fault))) => return Err(fault),
            None => {}
        }
    }
    Ok(None)
}

fn check_changeable(owner: &ConfigOwner) -> Result<(), AdminError> {
    match owner {
        ConfigOwner::Topic(name) => check_not_kafkas(name),
        ConfigOwner::Broker(_) | ConfigOwner::AllBrokers => Ok(()),
    }
}

async fn check_broker(cluster: &Cluster, owner: &ConfigOwner) -> Result<(), AdminError> {
    let ConfigOwner::Broker(id) = owner else {
        return Ok(());
    };
    let known = cluster.metadata.brokers().await;
    let is_there = known
        .map_err(AdminError::Kafka)?
        .iter()
        .any(|b| b.id == *id);
    is_there.then_some(()).ok_or(AdminError::NoSuchBroker(*id))
}

/// Settings that brokers take while they run and do not list.
const UNLISTED: [&str; 3] = [
    "leader.replication.throttled.rate",
    "follower.replication.throttled.rate",
    "replica.alter.log.dirs.io.max.bytes.per.second",
];

/// Whether the owner has all the settings that are to be changed: Kafka takes any name for a broker, and so would
/// take one that is misspelt.
async fn check_names(
    cluster: &Cluster,
    owner: &ConfigOwner,
    changes: &[ConfigChange],
) -> Result<(), AdminError> {
    let mut entries = of(cluster, owner).await?;
    let changes: Vec<ConfigChange> = match owner {
        ConfigOwner::Topic(_) => changes.to_vec(),
        ConfigOwner::Broker(_) | ConfigOwner::AllBrokers => {
            let listed = changes.iter().filter(|one| !UNLISTED.contains(&one.name()));
            listed.cloned().collect()
        }
    };
    if *owner == ConfigOwner::AllBrokers {
        // Of all brokers only those are told that are set: which there are, any broker tells.
        let brokers = cluster
            .metadata
            .brokers()
            .await
            .map_err(AdminError::Kafka)?;
        if let Some(any) = brokers.first() {
            entries.extend(of(cluster, &ConfigOwner::Broker(any.id)).await?);
        }
    }
    known(&entries, &changes)
}

fn known(entries: &[ConfigEntry], changes: &[ConfigChange]) -> Result<(), AdminError> {
    let names: BTreeSet<&str> = entries.iter().map(|entry| &*entry.name).collect();
    match changes.iter().find(|change| !names.contains(change.name())) {
        Some(unknown) => Err(AdminError::NoSuchConfig(unknown.name().to_owned())),
        None => Ok(()),
    }
}
