//! Topics are made, deleted and given more partitions.

use std::collections::BTreeMap;
use std::time::Duration;

use krafka::admin::{
    CreatePartitionsOptions, CreateTopicsOptions, DeleteTopicsOptions, DescribeTopicsOptions,
};

use super::{Admin, about_topic, bounded, no_answer};
use crate::kafka::fault::Fault;
use crate::reserved::{Keeper, keeper};

/// How many topics one request describes.
const TOPICS_AT_ONCE: usize = 500;

/// A topic to be created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewTopic {
    /// Its name.
    pub name: String,
    /// How many partitions; `None` is the broker's default.
    pub partitions: Option<i32>,
    /// How many replicas of each; `None` is the broker's default.
    pub replication: Option<i16>,
    /// The brokers that hold each partition, the preferred leader first, in the place of the two numbers;
    /// empty lets the controller choose.
    pub assignments: BTreeMap<i32, Vec<i32>>,
    /// Configuration that differs from the broker's defaults.
    pub configs: Vec<(String, String)>,
}

impl NewTopic {
    /// A topic as the broker makes them by default.
    pub fn with_broker_defaults(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            partitions: None,
            replication: None,
            assignments: BTreeMap::new(),
            configs: Vec::new(),
        }
    }

    fn to_krafka(&self) -> krafka::Result<krafka::admin::NewTopic> {
        use krafka::admin::NewTopic;
        let mut new = if self.assignments.is_empty() {
            let (partitions, replication) = (self.partitions, self.replication);
            NewTopic::new(
                self.name.as_str(),
                partitions.unwrap_or(-1),
                replication.unwrap_or(-1),
            )?
        } else {
            let assignments = self.assignments.clone().into_iter().collect();
            NewTopic::with_replica_assignment(self.name.as_str(), assignments)?
        };
        for (name, value) in &self.configs {
            new = new.with_config(name, value);
        }
        Ok(new)
    }
}

impl Admin {
    /// Creates `topic`, and answers when the controller has; the other brokers may need a moment
    /// more to hear of it. With `validate_only` the controller only says whether it would.
    ///
    /// # Errors
    ///
    /// `Exists`, `Invalid` (name, numbers, configuration, the broker's policy), `NotAuthorized`
    /// (one of Kafka's own topics among them), and whatever kept the controller from answering.
    pub async fn create_topic(
        &self,
        topic: &NewTopic,
        validate_only: bool,
        bound: Duration,
    ) -> Result<(), Fault> {
        if keeper(&topic.name) == Keeper::Kafka {
            return Err(Fault::kept_by_kafka(&topic.name));
        }
        let options = CreateTopicsOptions::default()
            .timeout(bound)
            .validate_only(validate_only);
        let client = &self.link(bound).await?.client;
        let call = client.create_topics([topic.to_krafka()?], options);
        let mut created = bounded(bound, call).await?;
        match created.remove(&topic.name) {
            Some(result) => result.map_err(Fault::from),
            None => Err(no_answer(&topic.name)),
        }
    }

    /// Deletes topic `name` with all of its records.
    ///
    /// # Errors
    ///
    /// `UnknownTopic`, `NotAuthorized`, `Invalid` where the brokers delete no topics, and whatever kept the
    /// controller from answering.
    pub(crate) async fn delete_topic(&self, name: &str, bound: Duration) -> Result<(), Fault> {
        let options = DeleteTopicsOptions::default().timeout(bound);
        let client = &self.link(bound).await?.client;
        let mut deleted = bounded(bound, client.delete_topics([name], options)).await?;
        match deleted.remove(name) {
            Some(result) => result.map_err(|error| about_topic(name, &error.into())),
            None => Err(no_answer(name)),
        }
    }

    /// Gives topic `name` as many partitions as `total` says, which must be more than it has.
    ///
    /// # Errors
    ///
    /// `UnknownTopic`, `NotAuthorized`, `Invalid`, and whatever kept the controller from answering.
    pub(crate) async fn add_partitions(
        &self,
        name: &str,
        total: i32,
        bound: Duration,
    ) -> Result<(), Fault> {
        let options = CreatePartitionsOptions::default().timeout(bound);
        let client = &self.link(bound).await?.client;
        let call = client.create_partitions([(name, total)], options);
        let mut added = bounded(bound, call).await?;
        match added.remove(name) {
            Some(result) => result.map_err(|error| about_topic(name, &error.into())),
            None => Err(no_answer(name)),
        }
    }

    /// What the gateway's own Kafka user may do with each of `topics`, as [`crate::kafka::metadata::Topic`] has
    /// it; a topic that is gone is left out.
    ///
    /// # Errors
    ///
    /// Whatever kept the brokers from answering.
    pub(crate) async fn rights(
        &self,
        topics: &[&str],
        bound: Duration,
    ) -> Result<BTreeMap<String, i32>, Fault> {
        let link = self.link(bound).await?;
        let mut rights = BTreeMap::new();
        for topics in topics.chunks(TOPICS_AT_ONCE) {
            let ask = |bound| {
                let options = DescribeTopicsOptions::default().timeout(bound);
                link.client.describe_topics(topics, options)
            };
            let described = link.any_broker(bound, ask).await?;
            for (name, described) in described {
                if let Ok(described) = described
                    && let Some(operations) = described.authorized_operations
                {
                    rights.insert(name, operations);
                }
            }
        }
        Ok(rights)
    }
}
