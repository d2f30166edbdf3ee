//! What ends a stream before its time. The API that streams says it to the client, in a shape of its own.

use std::sync::Arc;

use super::event_format::Transport;
use crate::kafka::fault::Fault;
use crate::read::error::ReadError;

/// What ends a stream before its time.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub(crate) enum StreamError {
    /// Kafka refused to go on, or did not answer.
    #[error(transparent)]
    Kafka(#[from] Fault),
    /// The principal may not read on, or is shown other records now.
    #[error(transparent)]
    NotAllowed(#[from] ReadError),
    /// The principal's credential has expired.
    #[error("the token or certificate has expired; connect again with a new one")]
    Expired,
    /// The topic of this name is another one now.
    #[error("topic {0} was deleted and created again; connect again")]
    Recreated(String),
    /// The stream is behind, and there is no room to read on from Kafka.
    #[error("too many others are catching up; connect again with the last id")]
    Busy,
}

/// Where the event of an error is written, and its id.
pub(crate) struct ErrorEvent<'a> {
    pub(crate) out: &'a mut Vec<u8>,
    pub(crate) transport: Transport,
    pub(crate) id: Option<&'a str>,
}

/// How an API tells its client, and its log, of an error. There is no event where lines are values.
pub(crate) type TellError = Arc<dyn Fn(StreamError, Option<ErrorEvent<'_>>) + Send + Sync>;
