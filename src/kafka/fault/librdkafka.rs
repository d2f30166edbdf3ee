//! librdkafka's error codes as faults: the broker's by the protocol table, its own (below -100)
//! one by one.

use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaErrorCode as Code;

use super::addresses::told_without_addresses;
use super::{Fault, FaultKind, protocol};

impl Fault {
    /// The fault for one of librdkafka's error codes. Whether a record was perhaps written is for
    /// the producer to say, which knows the message's status: `maybe_written` is false here.
    pub fn from_librdkafka_code(code: Code) -> Self {
        let number = code as i32;
        if let Ok(number) = i16::try_from(number)
            && (protocol::FIRST..=protocol::LAST).contains(&number)
        {
            return protocol::fault(number, None);
        }
        local(code)
    }
}

impl From<KafkaError> for Fault {
    fn from(error: KafkaError) -> Self {
        match &error {
            // These are about what we handed over, never about the broker.
            KafkaError::ClientConfig(_, description, property, _) => Self::new(
                FaultKind::Invalid,
                format!("librdkafka does not take {property}: {description}"),
            ),
            KafkaError::ClientCreation(description) => Self::new(
                FaultKind::Invalid,
                format!(
                    "librdkafka could not start with these properties: {}",
                    told_without_addresses(description)
                ),
            ),
            other => match other.rdkafka_error_code() {
                Some(code) => Self::from_librdkafka_code(code),
                None => Self::new(FaultKind::Other, told_without_addresses(&other.to_string())),
            },
        }
    }
}

/// A code that librdkafka made itself, without a broker.
fn local(code: Code) -> Fault {
    let unavailable = |message: &str| Fault::new(FaultKind::Unavailable, message);
    let once_more = |fault: Fault| Fault {
        retriable: true,
        ..fault
    };
    let named = |name, fault: Fault| Fault {
        kafka_error: Some(name),
        ..fault
    };
    match code {
        Code::MessageTimedOut => Fault::new(
            FaultKind::TimedOut,
            "No acknowledgement came within the delivery time (message.timeout.ms). Try again \
             when the brokers answer.",
        ),
        Code::OperationTimedOut | Code::TimedOutQueue => Fault::new(
            FaultKind::TimedOut,
            "Kafka did not answer in time. Try again when the brokers answer.",
        ),
        Code::QueueFull => Fault::new(
            FaultKind::QueueFull,
            "The producer's queue is full: Kafka takes records more slowly than they come in. \
             Nothing was sent; try again in a moment.",
        ),
        Code::UnknownTopic => named(
            "UNKNOWN_TOPIC_OR_PARTITION",
            Fault::new(
                FaultKind::UnknownTopic,
                "The topic does not exist. Create it, or check its name.",
            ),
        ),
        Code::UnknownPartition => named(
            "UNKNOWN_TOPIC_OR_PARTITION",
            Fault::new(
                FaultKind::UnknownPartition,
                "The topic has no such partition. Leave the partition out, or ask for the topic's \
                 partitions.",
            ),
        ),
        Code::ISRInsufficient => named(
            "NOT_ENOUGH_REPLICAS",
            unavailable("The partition has fewer replicas in sync than min.insync.replicas asks."),
        ),
        Code::AllBrokersDown => {
            unavailable("No broker can be reached. Check bootstrap_servers and the brokers.")
        }
        Code::BrokerTransportFailure => {
            unavailable("The connection to the broker failed. Check that it runs and is reachable.")
        }
        Code::Resolve => unavailable(
            "A broker's host name cannot be resolved. Check bootstrap_servers and the brokers' \
             advertised.listeners.",
        ),
        Code::NodeUpdate
        | Code::UnknownBroker
        | Code::DestroyBroker
        | Code::WaitingForCoordinator
        | Code::WaitCache
        | Code::Retry
        | Code::Interrupted
        | Code::InProgress
        | Code::PreviousInProgress => {
            unavailable("The cluster's brokers are changing. Try again in a moment.")
        }
        Code::BrokerDestroy => unavailable(
            "The record's partition is gone, or the gateway's client is being closed. Try again, on \
             another process if this one ends.",
        ),
        Code::Fatal => unavailable(
            "The producer hit an error that it cannot recover from and is replaced. Try again.",
        ),
        Code::PurgeQueue => {
            unavailable("The record was dropped from the queue before it was sent.")
        }
        Code::PurgeInflight => {
            unavailable("The record was given up while it was on its way to the broker.")
        }
        Code::InvalidDifferentRecord => once_more(Fault::new(
            FaultKind::Invalid,
            "Another record of the same batch was refused, and so this one was not written \
             either. Send it again without the other.",
        )),
        Code::Authentication => Fault::new(
            FaultKind::Unauthenticated,
            "The broker did not accept the gateway's credentials. Check sasl.mechanism, \
             sasl.username and sasl.password.",
        ),
        Code::SSL => Fault::new(
            FaultKind::Unauthenticated,
            "The TLS handshake with the broker failed. Check security.protocol, ssl.ca.location \
             and the client's certificate.",
        ),
        Code::InvalidArgument | Code::InvalidType => Fault::new(
            FaultKind::Invalid,
            "The client library was given an invalid argument.",
        ),
        Code::KeySerialization | Code::ValueSerialization => Fault::new(
            FaultKind::Invalid,
            "The record's key or value could not be encoded.",
        ),
        Code::UnsupportedFeature | Code::NotImplemented | Code::NotConfigured => Fault::new(
            FaultKind::Unsupported,
            "The broker, or this build's client library, does not offer the operation.",
        ),
        Code::UnknownGroup | Code::NoEnt => Fault::new(
            FaultKind::NotFound,
            "The group or other named thing does not exist.",
        ),
        Code::NoOffset | Code::AutoOffsetReset | Code::PartitionEOF | Code::LogTruncation => {
            Fault::new(
                FaultKind::OffsetOutOfRange,
                "The partition has no record at that offset.",
            )
        }
        Code::Fenced => Fault::new(
            FaultKind::Other,
            "A newer client with the same identity took over; this one may not go on.",
        ),
        Code::BadMessage | Code::Underflow | Code::Partial | Code::BadCompression => {
            Fault::new(FaultKind::Other, "The broker's answer could not be read.")
        }
        Code::AssignmentLost | Code::PollExceeded | Code::Outdated => once_more(Fault::new(
            FaultKind::Other,
            "The group moved on without this member, which has to join again.",
        )),
        other => Fault::new(
            FaultKind::Other,
            format!("The Kafka client failed: {other}"),
        ),
    }
}
