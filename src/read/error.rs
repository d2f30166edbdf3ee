//! Why nothing is read. Each API says it in a shape of its own.

use crate::auth::failure_limiter::TooMany;
use crate::auth::permission::Denied;
use crate::auth::policy::NotVisible;
use crate::kafka::fault::Fault;
use crate::position::PositionError;

/// Why nothing is read.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub(crate) enum ReadError {
    /// The principal may not read one of the topics, or is none any more.
    #[error(transparent)]
    Denied(#[from] Denied),
    /// It is shown nothing of one of the topics.
    #[error(transparent)]
    NotVisible(#[from] NotVisible),
    /// It was refused too often.
    #[error("{} refusals in a second", .0.limit)]
    TooManyRefusals(TooMany),
    /// What it is shown has changed while it was read.
    #[error("other records are shown to you now (auth.topic_filters): ask again")]
    VisibilityChanged,
    /// What is asked for cannot be read in one go, or belongs to nothing that is read.
    #[error("{message}")]
    Invalid {
        /// The parameter at fault.
        field: &'static str,
        /// What is wrong, and what to do.
        message: String,
    },
    /// A topic has no such partition.
    #[error(transparent)]
    NoSuchPartition(Fault),
    /// Kafka does not know the topic, or could not be asked.
    #[error(transparent)]
    Topic(Fault),
    /// The position to read from cannot be used.
    #[error("from: {0}")]
    Position(PositionError),
    /// What is asked for is not in the log any more.
    #[error("{message}")]
    Gone {
        /// The parameter that asks for it.
        field: &'static str,
        /// What is wrong, and where to go on.
        message: String,
        /// The first offset that is still there, by partition.
        earliest: Vec<(i32, i64)>,
    },
    /// Kafka did not answer the read, or refused it.
    #[error(transparent)]
    Kafka(Fault),
}
