//! Administration of the cluster for every API that offers it: what a principal may see and change of it,
//! in front of `kafka::admin`. Each decision is in the audit log, as `auth::permission` puts it there.
//!
//! - `topics.rs`: topics are listed, described, made, changed and deleted
//! - `configs.rs`: settings of topics and brokers
//! - `groups.rs`: consumer groups are listed, described and deleted, their lag is told; `groups/reset.rs` moves
//!   what they have committed
//! - `partitions.rs`: partitions are moved to other brokers, and their leaders elected
//! - `storage.rs`: how large topics are, and how their oldest records are deleted

pub(crate) mod configs;
pub(crate) mod groups;
pub(crate) mod partitions;
pub(crate) mod storage;
pub(crate) mod topics;

use crate::auth::permission::Denied;
use crate::kafka::fault::Fault;
use crate::record::TopicPartition;

/// Why nothing is changed. Each API says it in a shape of its own.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub(crate) enum AdminError {
    /// The principal may not do it.
    #[error(transparent)]
    Denied(#[from] Denied),
    /// The name cannot be a topic's.
    #[error(transparent)]
    Name(Fault),
    /// The name is one of those that Kafka and the tools around it keep for themselves.
    #[error("names that begin with two underscores are Kafka's own")]
    Reserved,
    /// The topic is Kafka's own, which nobody changes.
    #[error("topic {0} is Kafka's own: it is read only here, whatever the permissions")]
    ReadOnly(String),
    /// There is no such setting.
    #[error("there is no setting {0}")]
    NoSuchConfig(String),
    /// There is no such broker.
    #[error("there is no broker {0}")]
    NoSuchBroker(i32),
    /// The group has members, who would go on from where they are.
    #[error(
        "group {group} has {members} members: stop them first, since they would go on from where they are"
    )]
    HasMembers { group: String, members: usize },
    /// The group has committed nothing for the partition, so there is nothing to count from.
    #[error("the group has committed nothing for partition {} of topic {}", .0.partition, .0.topic)]
    NothingCommitted(TopicPartition),
    /// The offset is not in the log.
    #[error(
        "partition {} of topic {} has offsets {low} to {end}, and {offset} is none of them",
        .partition.partition, .partition.topic
    )]
    OutsideLog {
        partition: TopicPartition,
        offset: i64,
        low: i64,
        end: i64,
    },
    /// Kafka refused it, or did not answer.
    #[error(transparent)]
    Kafka(Fault),
}
