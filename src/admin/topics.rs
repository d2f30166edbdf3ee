//! Topics as an administrator sees them: which there are, how they are set, and how one is made.

use std::sync::Arc;

use super::AdminError;
use crate::auth::Principal;
use crate::auth::permission::{Action, Resource, authorize, is_allowed};
use crate::kafka::Cluster;
use crate::kafka::admin::{NewTopic, TopicConfig};
use crate::kafka::fault::Fault;
use crate::kafka::metadata::{Topic, check_topic_name};
use crate::reserved::{Keeper, keeper};

/// A topic and how it is set.
#[derive(Debug)]
pub(crate) struct TopicDescription {
    pub(crate) topic: Arc<Topic>,
    /// By name, the broker's defaults included. Empty where the broker tells nobody (the embedded one).
    pub(crate) configs: Vec<TopicConfig>,
}

/// The names of the topics that `principal` may describe, sorted, without Kafka's internal ones. Names that
/// are left out are no refusals.
///
/// # Errors
///
/// What kept the brokers from answering.
pub(crate) async fn visible(
    cluster: &Cluster,
    principal: &Principal,
) -> Result<Vec<Arc<str>>, Fault> {
    let topics = cluster.metadata.topics().await?;
    let visible = topics.iter().filter(|topic| {
        !topic.internal && is_allowed(principal, Action::Describe, Resource::Topic(&topic.name))
    });
    Ok(visible.map(|topic| Arc::clone(&topic.name)).collect())
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

/// Makes a topic for `principal`, who needs `admin` on it.
///
/// # Errors
///
/// [`AdminError`].
pub(crate) async fn create(
    cluster: &Cluster,
    principal: &Principal,
    topic: &NewTopic,
) -> Result<(), AdminError> {
    check_new_name(&topic.name)?;
    authorize(principal, Action::Admin, Resource::Topic(&topic.name))?;
    let made = cluster.create_topic(topic).await;
    made.map_err(AdminError::Kafka)
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
}
