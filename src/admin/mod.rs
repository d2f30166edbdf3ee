//! Administration of the cluster for every API that offers it: what a principal may see and change of it,
//! in front of `kafka::admin`. Each decision is in the audit log, as `auth::permission` puts it there.
//!
//! - `topics.rs`: topics are listed, described, made, changed and deleted
//! - `configs.rs`: settings of topics and brokers
//! - `groups.rs`: consumer groups are listed, described and deleted, their lag is told; `groups/reset.rs` moves
//!   what they have committed, `groups/share.rs` is about share groups
//! - `partitions.rs`: partitions are moved to other brokers, and their leaders elected
//! - `storage.rs`: how large topics are, and how their oldest records are deleted
//! - `transactions.rs`: transactions, the producers of partitions, and the transactions that hang

pub(crate) mod configs;
pub(crate) mod groups;
pub(crate) mod partitions;
pub(crate) mod storage;
pub(crate) mod topics;
pub(crate) mod transactions;

use crate::auth::Principal;
use crate::auth::permission::{Action, Denied, Resource, is_allowed};
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
    /// The partition has no open transaction that is meant.
    #[error("partition {} of topic {} has no such open transaction", .0.partition, .0.topic)]
    NoOpenTransaction(TopicPartition),
    /// A coordinator knows the transaction, and will end it.
    #[error(
        "the transaction does not hang: its coordinator knows it by transactional id {0} and ends it. Aborted in one \
         partition it may still be committed in its others; with force it is aborted here nevertheless"
    )]
    TransactionRuns(String),
    /// A search would look at more partitions than one may.
    #[error(
        "these are {found} partitions, and one search looks at {most} at most: name a topic or a broker"
    )]
    TooManyPartitions { found: usize, most: usize },
    /// A search has found more open transactions than one may ask the coordinators for.
    #[error(
        "{found} producers have transactions as old as that, and one search asks for {most} at most: name a topic, a \
         broker or a longer time"
    )]
    TooManyTransactions { found: usize, most: usize },
    /// Kafka refused it, or did not answer.
    #[error(transparent)]
    Kafka(Fault),
}

/// Whether `principal` may be told of a partition: of its topic. One that is left out is no refusal.
fn may_see(principal: &Principal, partition: &TopicPartition) -> bool {
    let topic = Resource::Topic(&partition.topic);
    is_allowed(principal, Action::Describe, topic)
}
