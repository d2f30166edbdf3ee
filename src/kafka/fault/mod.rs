//! What went wrong on the way to or from Kafka, in Kafka's own words.
//!
//! Both client libraries' errors become a [`Fault`] here, so that the APIs need one table to turn
//! Kafka's errors into theirs. `protocol` is the table of the protocol's error codes, `librdkafka`
//! and `krafka` turn each library's errors into faults by it. Faults reach clients, so `addresses` takes
//! out of the libraries' words where the brokers are.

pub(super) mod addresses;
mod krafka;
mod librdkafka;
mod protocol;
#[cfg(test)]
mod tests;

/// A failed operation on Kafka.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Fault {
    /// What kind of failure it is; decides the HTTP status.
    pub kind: FaultKind,
    /// The protocol's name of the error, such as `UNKNOWN_TOPIC_OR_PARTITION`, where it has one.
    pub kafka_error: Option<&'static str>,
    /// For people: what happened and, where there is something to do, what to do next.
    pub message: String,
    /// The same operation may succeed if tried again.
    pub retriable: bool,
    /// The record may have been written although no acknowledgement came (produce only): trying
    /// again can make a duplicate.
    pub maybe_written: bool,
    /// The JSON Pointer, from the record on, to what of it is at fault.
    pub field: Option<Box<str>>,
}

/// The kinds of failure that callers tell apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FaultKind {
    /// The topic does not exist.
    UnknownTopic,
    /// The topic exists, the partition does not.
    UnknownPartition,
    /// The group, member or other named thing does not exist.
    NotFound,
    /// The broker refused the user that the gateway is to it (ACLs), or the topic is one that nobody may
    /// write to.
    NotAuthorized,
    /// The broker did not accept the gateway's credentials.
    Unauthenticated,
    /// The request made no sense to the broker.
    Invalid,
    /// The record has a header that only the gateway writes.
    ReservedHeader,
    /// The record's key or value is not valid by the topic's schema.
    InvalidBySchema,
    /// The thing to be created exists already.
    Exists,
    /// The record is larger than the topic or the broker takes.
    TooLarge,
    /// The offset is not in the log any more, or not yet.
    OffsetOutOfRange,
    /// No leader, not enough replicas, brokers unreachable.
    Unavailable,
    /// No answer in time.
    TimedOut,
    /// The producer's queue is full; nothing was sent.
    QueueFull,
    /// The broker throttles: a quota was exceeded.
    Throttled,
    /// This broker does not offer the operation.
    Unsupported,
    /// The embedded broker's memory is full.
    StorageFull,
    /// Anything else.
    Other,
}

impl Fault {
    /// A name for metrics: the protocol's, or ours where it has none.
    pub fn name(&self) -> &'static str {
        self.kafka_error.unwrap_or(match self.kind {
            FaultKind::UnknownTopic => "unknown_topic",
            FaultKind::UnknownPartition => "unknown_partition",
            FaultKind::NotFound => "not_found",
            FaultKind::NotAuthorized => "not_authorized",
            FaultKind::Unauthenticated => "unauthenticated",
            FaultKind::Invalid => "invalid",
            FaultKind::ReservedHeader => "reserved_header",
            FaultKind::InvalidBySchema => "invalid_by_schema",
            FaultKind::Exists => "exists",
            FaultKind::TooLarge => "too_large",
            FaultKind::OffsetOutOfRange => "offset_out_of_range",
            FaultKind::Unavailable => "unavailable",
            FaultKind::TimedOut => "timed_out",
            FaultKind::QueueFull => "queue_full",
            FaultKind::Throttled => "throttled",
            FaultKind::Unsupported => "unsupported",
            FaultKind::StorageFull => "storage_full",
            FaultKind::Other => "other",
        })
    }

    /// A fault without a protocol name; `retriable` follows from the kind.
    pub fn new(kind: FaultKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            kafka_error: None,
            message: message.into(),
            retriable: matches!(
                kind,
                FaultKind::Unavailable
                    | FaultKind::TimedOut
                    | FaultKind::QueueFull
                    | FaultKind::Throttled
            ),
            maybe_written: false,
            field: None,
        }
    }

    /// `topic` is not in the cluster.
    pub fn unknown_topic(topic: &str) -> Self {
        Self {
            kafka_error: Some("UNKNOWN_TOPIC_OR_PARTITION"),
            ..Self::new(
                FaultKind::UnknownTopic,
                format!("Topic {topic} does not exist. Create it, or check its name."),
            )
        }
    }

    /// `topic` is one of Kafka's own ([`crate::reserved`]), which nobody writes to.
    pub fn kept_by_kafka(topic: &str) -> Self {
        Self {
            kafka_error: Some("INVALID_TOPIC_EXCEPTION"),
            ..Self::new(
                FaultKind::NotAuthorized,
                format!(
                    "Topic {topic} is Kafka's own: nobody may write to it or create it here, \
                     whatever the permissions. Write to another topic."
                ),
            )
        }
    }

    /// `topic` is in the cluster but has only `partitions` partitions, and `partition` is not one
    /// of them.
    pub fn unknown_partition(topic: &str, partition: i32, partitions: usize) -> Self {
        let numbers = match partitions {
            0 => "it has none at the moment".to_owned(),
            1 => "its only partition is 0".to_owned(),
            n => format!("its partitions are 0 to {}", n - 1),
        };
        Self {
            kafka_error: Some("UNKNOWN_TOPIC_OR_PARTITION"),
            ..Self::new(
                FaultKind::UnknownPartition,
                format!("Topic {topic} has no partition {partition}: {numbers}."),
            )
        }
    }

    /// The fault for an error code of the Kafka protocol. `detail` is what the broker or the
    /// client library said beside the code; it is added to the message when it says more.
    pub fn from_protocol_code(code: i16, detail: Option<&str>) -> Self {
        protocol::fault(code, detail)
    }
}
