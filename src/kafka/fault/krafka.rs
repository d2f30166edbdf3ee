//! krafka's errors as faults.

use krafka::error::{KrafkaError, ProtocolErrorKind};

use super::addresses::told_without_addresses;
use super::{Fault, FaultKind};

impl From<KrafkaError> for Fault {
    fn from(error: KrafkaError) -> Self {
        Self::from(&error)
    }
}

impl From<&KrafkaError> for Fault {
    fn from(error: &KrafkaError) -> Self {
        match error {
            KrafkaError::Broker { code, message } => {
                // krafka repeats the code where the broker sent no text of its own.
                let detail = Some(message.as_str()).filter(|m| *m != format!("{code:?}"));
                let detail = detail.map(told_without_addresses);
                Self::from_protocol_code(code.to_i16(), detail.as_deref())
            }
            KrafkaError::Network(source) => {
                from_network(&told_without_addresses(&source.to_string()))
            }
            KrafkaError::Timeout { operation } => Self::new(
                FaultKind::TimedOut,
                format!(
                    "Kafka did not answer in time: {}.",
                    told_without_addresses(operation)
                ),
            ),
            KrafkaError::DeliveryTimeout {
                possibly_written,
                message,
            } => Self {
                maybe_written: *possibly_written,
                ..Self::new(
                    FaultKind::TimedOut,
                    format!(
                        "No acknowledgement came in time: {}.",
                        told_without_addresses(message)
                    ),
                )
            },
            KrafkaError::Auth { message, .. } => Self::new(
                FaultKind::Unauthenticated,
                format!(
                    "The broker and the gateway do not accept each other: {}. Check the sasl.* and \
                     ssl.* properties.",
                    told_without_addresses(message)
                ),
            ),
            KrafkaError::Protocol { kind, message } => {
                from_protocol_kind(*kind, &told_without_addresses(message))
            }
            KrafkaError::Config { message } => Self::new(
                FaultKind::Invalid,
                format!(
                    "The Kafka client refuses this: {}",
                    told_without_addresses(message)
                ),
            ),
            KrafkaError::UnknownTopic { topic } => Self::unknown_topic(topic),
            // Asked for with a reset policy of "none": the position was outside of the log.
            KrafkaError::NoOffset { .. } => Self {
                kafka_error: Some("OFFSET_OUT_OF_RANGE"),
                ..Self::new(
                    FaultKind::OffsetOutOfRange,
                    format!("{error}: the position is not in the log any more, or not yet."),
                )
            },
            KrafkaError::Fenced { message } => Self::new(
                FaultKind::Other,
                format!(
                    "A newer client with the same identity took over: {}",
                    told_without_addresses(message)
                ),
            ),
            KrafkaError::TransactionAbortable { message } => Self {
                kafka_error: Some("TRANSACTION_ABORTABLE"),
                ..Self::new(
                    FaultKind::Other,
                    format!(
                        "The transaction must be aborted: {}",
                        told_without_addresses(message)
                    ),
                )
            },
            KrafkaError::OutOfOrderSequence { .. } => Self {
                kafka_error: Some("OUT_OF_ORDER_SEQUENCE_NUMBER"),
                ..Self::new(FaultKind::Other, error.to_string())
            },
            KrafkaError::Closed { message } => Self::new(
                FaultKind::Unavailable,
                format!(
                    "The Kafka client is closed: {}",
                    told_without_addresses(message)
                ),
            ),
            other => Self {
                retriable: other.is_retriable(),
                ..Self::new(
                    FaultKind::Other,
                    format!(
                        "The Kafka client failed: {}",
                        told_without_addresses(&other.to_string())
                    ),
                )
            },
        }
    }
}

/// A connection that was not made or broke. Whom a broker does not let in by TLS is told so only
/// after the handshake, which then looks like a broken connection.
fn from_network(cause: &str) -> Fault {
    /// What rustls says when the other side sent an alert.
    const ALERT: &str = "received fatal alert";
    /// The beginning of a TLS alert, read as the length of an answer: 0x1503 and two bytes more.
    const ALERT_AS_LENGTH: &str = "message size 35251";
    if cause.contains(ALERT) {
        return Fault::new(
            FaultKind::Unauthenticated,
            format!(
                "The broker refused the gateway in TLS: {cause}. Check the client's certificate, \
                 ssl.certificate.location."
            ),
        );
    }
    let advice = if cause.contains(ALERT_AS_LENGTH) {
        "It answers in TLS: set security.protocol to SASL_SSL or SSL"
    } else {
        "Check bootstrap_servers and the brokers"
    };
    Fault::new(
        FaultKind::Unavailable,
        format!("Kafka cannot be reached: {cause}. {advice}."),
    )
}

fn from_protocol_kind(kind: ProtocolErrorKind, message: &str) -> Fault {
    match kind {
        ProtocolErrorKind::UnknownApiVersion => Fault {
            kafka_error: Some("UNSUPPORTED_VERSION"),
            ..Fault::new(
                FaultKind::Unsupported,
                format!("This broker does not offer the operation: {message}."),
            )
        },
        ProtocolErrorKind::FrameTooLarge => Fault::new(
            FaultKind::TooLarge,
            format!("The request is larger than Kafka takes: {message}."),
        ),
        kind if kind.is_retriable() => Fault::new(
            FaultKind::Unavailable,
            format!("The broker's answer was cut short or made no sense: {message}."),
        ),
        _ => Fault::new(
            FaultKind::Other,
            format!("The broker's answer could not be read: {message}."),
        ),
    }
}
