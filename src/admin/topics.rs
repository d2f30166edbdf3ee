//! Topics as an administrator sees them: which there are, how they are set, and how they are made, changed and
//! deleted.

use std::sync::Arc;

use super::AdminError;
use crate::auth::Principal;
use crate::auth::permission::{Action, Resource, authorize, is_allowed};
use crate::kafka::Cluster;
use crate::kafka::admin::{ConfigEntry, ConfigOwner, NewTopic};
use crate::kafka::fault::{Fault, FaultKind};
use crate::kafka::metadata::{Topic, check_topic_name};
use crate::reserved::{Keeper, keeper};

/// A topic and how it is set.
#[derive(Debug)]
pub(crate) struct TopicDescription {
    pub(crate) topic: Arc<Topic>,
    /// By name, the broker's defaults included. Empty where the broker tells nobody (the embedded one).
    pub(crate) configs: Vec<ConfigEntry>,
}

/// What may be done with a topic: an operation of Kafka's ACLs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operation {
    Read = 3,
    Write = 4,
    Create = 5,
    Delete = 6,
    Alter = 7,
    Describe = 8,
    DescribeConfigs = 10,
    AlterConfigs = 11,
}

impl Operation {
    const ALL: [Self; 8] = [
        Self::Read,
        Self::Write,
        Self::Create,
        Self::Delete,
        Self::Alter,
        Self::Describe,
        Self::DescribeConfigs,
        Self::AlterConfigs,
    ];

    /// Its name in Kafka's ACLs.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Read => "READ",
            Self::Write => "WRITE",
            Self::Create => "CREATE",
            Self::Delete => "DELETE",
            Self::Alter => "ALTER",
            Self::Describe => "DESCRIBE",
            Self::DescribeConfigs => "DESCRIBE_CONFIGS",
            Self::AlterConfigs => "ALTER_CONFIGS",
        }
    }

    /// What a principal needs here to do it.
    const fn action(self) -> Action {
        match self {
            Self::Read => Action::Consume,
            Self::Write => Action::Produce,
            Self::Create => Action::Create,
            Self::Delete => Action::Delete,
            Self::Alter | Self::AlterConfigs => Action::Alter,
            Self::Describe | Self::DescribeConfigs => Action::Describe,
        }
    }
}

/// The topics that `principal` may describe, sorted, without Kafka's internal ones. Topics that are left out are
/// no refusals.
///
/// # Errors
///
/// What kept the brokers from answering.
pub(crate) async fn visible(
    cluster: &Cluster,
    principal: &Principal,
) -> Result<Vec<Arc<Topic>>, Fault> {
    let topics = cluster.metadata.topics().await?;
    let visible = topics.iter().filter(|topic| {
        !topic.internal && is_allowed(principal, Action::Describe, Resource::Topic(&topic.name))
    });
    Ok(visible.map(Arc::clone).collect())
}

/// Describes a topic. The route has asked for the permission.
///
/// # Errors
///
/// `UnknownTopic`, `NotAuthorized` at the broker, and what kept the brokers from answering.
pub(crate) async fn describe(cluster: &Cluster, name: &str) -> Result<TopicDescription, Fault> {
    Ok(TopicDescription {
        topic: cluster.metadata.topic(name).await?,
        configs: cluster.topic_configs(name).await?.unwrap_or_default(),
    })
}

/// What `principal` may do with each of `topics`: what both its permissions and the rights of the gateway's own
/// Kafka user allow. Nothing where the brokers do not tell the latter (before Kafka 3.7).
///
/// # Errors
///
/// What kept the brokers from answering.
pub(crate) async fn operations(
    cluster: &Cluster,
    principal: &Principal,
    topics: &[Arc<Topic>],
) -> Result<Vec<Vec<Operation>>, Fault> {
    let names: Vec<&str> = topics.iter().map(|topic| &*topic.name).collect();
    let rights = cluster.topic_rights(&names).await?;
    let allowed = |name: &str| {
        let bits = rights.get(name).copied().unwrap_or(0);
        let operations = Operation::ALL.into_iter().filter(|operation| {
            bits & (1 << *operation as i32) != 0
                && is_allowed(principal, operation.action(), Resource::Topic(name))
        });
        operations.collect()
    };
    Ok(names.into_iter().map(allowed).collect())
}

/// Whether a topic of this name can be made at all.
///
/// # Errors
///
/// [`AdminError::Name`] and [`AdminError::Reserved`].
pub(crate) fn check_new_name(name: &str) -> Result<(), AdminError> {
    check_topic_name(name).map_err(AdminError::Name)?;
    match keeper(name) {
        Keeper::Users => Ok(()),
        Keeper::Tools | Keeper::Kafka => Err(AdminError::Reserved),
    }
}

/// Whether a topic of this name may be changed by anybody.
///
/// # Errors
///
/// [`AdminError::ReadOnly`].
pub(super) fn check_not_kafkas(name: &str) -> Result<(), AdminError> {
    match keeper(name) {
        Keeper::Users | Keeper::Tools => Ok(()),
        Keeper::Kafka => Err(AdminError::ReadOnly(name.to_owned())),
    }
}

/// Makes a topic for `principal`, who needs `create` on it; or with `validate_only` asks Kafka whether it would
/// make it.
///
/// # Errors
///
/// [`AdminError`].
pub(crate) async fn create(
    cluster: &Cluster,
    principal: &Principal,
    topic: &NewTopic,
    validate_only: bool,
) -> Result<(), AdminError> {
    check_new_name(&topic.name)?;
    authorize(principal, Action::Create, Resource::Topic(&topic.name))?;
    let made = cluster.create_topic(topic, validate_only).await;
    made.map_err(AdminError::Kafka)
}

/// How many partitions, and how many replicas of each, `topic` would have: where it does not say, as the brokers
/// make topics. `None` where they do not tell (the embedded one).
///
/// # Errors
///
/// What kept the brokers from answering.
pub(crate) async fn planned_size(
    cluster: &Cluster,
    topic: &NewTopic,
) -> Result<(Option<i32>, Option<i16>), Fault> {
    const PARTITIONS: &str = "num.partitions";
    const REPLICATION: &str = "default.replication.factor";
    if let Some(replicas) = topic.assignments.values().next() {
        let partitions = i32::try_from(topic.assignments.len()).ok();
        return Ok((partitions, i16::try_from(replicas.len()).ok()));
    }
    if topic.partitions.is_some() && topic.replication.is_some() {
        return Ok((topic.partitions, topic.replication));
    }
    let known = cluster.metadata.cluster().await?;
    let Some(broker) = known.brokers.first() else {
        return Ok((topic.partitions, topic.replication));
    };
    let names = [PARTITIONS.to_owned(), REPLICATION.to_owned()];
    let broker = [ConfigOwner::Broker(broker.id)];
    let told = match cluster.configs(&broker, Some(&names)).await {
        Ok(mut told) => told.pop().map_or(Ok(Vec::new()), |(_, told)| told)?,
        Err(fault) if fault.kind == FaultKind::Unsupported => Vec::new(),
        Err(fault) => return Err(fault),
    };
    let value = |name: &str| told.iter().find(|entry| entry.name == name)?.value.clone();
    let number = |name| value(name).and_then(|value| value.parse().ok());
    let replication = value(REPLICATION).and_then(|value| value.parse().ok());
    Ok((
        topic.partitions.or_else(|| number(PARTITIONS)),
        topic.replication.or(replication),
    ))
}

/// Deletes a topic. The route has asked for the permission.
///
/// # Errors
///
/// [`AdminError::ReadOnly`] and [`AdminError::Kafka`].
pub(crate) async fn delete(cluster: &Cluster, name: &str) -> Result<(), AdminError> {
    check_topic_name(name).map_err(AdminError::Name)?;
    check_not_kafkas(name)?;
    let deleted = cluster.delete_topic(name).await;
    deleted.map_err(AdminError::Kafka)
}

/// Gives a topic as many partitions as `total` says, and answers with the topic as it is then. The route has
/// asked for the permission.
///
/// # Errors
///
/// [`AdminError::ReadOnly`] and [`AdminError::Kafka`].
pub(crate) async fn add_partitions(
    cluster: &Cluster,
    name: &str,
    total: i32,
) -> Result<Arc<Topic>, AdminError> {
    check_topic_name(name).map_err(AdminError::Name)?;
    check_not_kafkas(name)?;
    let added = cluster.add_partitions(name, total).await;
    added.map_err(AdminError::Kafka)?;
    let least = usize::try_from(total).unwrap_or(0);
    let settled = cluster.settled_topic(name, least).await;
    settled.map_err(AdminError::Kafka)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_kafka_keeps_or_cannot_have_are_told_apart() {
        assert_eq!(check_new_name("orders"), Ok(()));
        for reserved in ["__consumer_offsets", "__consumer.offsets", "__mine"] {
            assert_eq!(
                check_new_name(reserved),
                Err(AdminError::Reserved),
                "{reserved}"
            );
        }
        for bad in ["", ".", "a b", &"x".repeat(250)] {
            let refused = check_new_name(bad);
            assert!(matches!(refused, Err(AdminError::Name(_))), "{bad}");
        }
    }

    #[test]
    fn kafkas_own_topics_are_changed_by_nobody_and_those_of_tools_by_administrators() {
        assert_eq!(check_not_kafkas("orders"), Ok(()));
        assert_eq!(check_not_kafkas("__mine"), Ok(()));
        let own = "__consumer_offsets";
        let refused = Err(AdminError::ReadOnly(own.to_owned()));
        assert_eq!(check_not_kafkas(own), refused);
    }
}
