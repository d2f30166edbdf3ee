//! Administration of the cluster for every API that offers it: what a principal may see and change of it,
//! in front of `kafka::admin`. Each decision is in the audit log, as `auth::permission` puts it there.
//!
//! - `topics.rs`: topics are listed, described, made, changed and deleted
//! - `configs.rs`: settings of topics and brokers
//! - `partitions.rs`: partitions that are being moved to other brokers

pub(crate) mod configs;
pub(crate) mod partitions;
pub(crate) mod topics;

use crate::auth::permission::Denied;
use crate::kafka::fault::Fault;

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
    /// Kafka refused it, or did not answer.
    #[error(transparent)]
    Kafka(Fault),
}
