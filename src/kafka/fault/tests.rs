//! Every code of either library becomes a fault that says something.

use ::krafka::error::{ErrorCode, KrafkaError, ProtocolErrorKind};
use rdkafka::types::RDKafkaErrorCode as Code;

use super::{Fault, FaultKind, protocol};

#[test]
fn the_table_has_every_code_once_and_in_order() {
    assert_eq!(
        protocol::TABLE.len(),
        usize::try_from(i32::from(protocol::LAST) - i32::from(protocol::FIRST) + 1).unwrap()
    );
    for (row, code) in protocol::TABLE.iter().zip(protocol::FIRST..) {
        assert_eq!(row.code, code);
        assert!(
            row.name.chars().all(|c| c.is_ascii_uppercase() || c == '_'),
            "{}",
            row.name
        );
        assert!(row.message.ends_with('.'), "{}", row.name);
    }
}

#[test]
fn every_protocol_code_that_krafka_knows_has_a_name() {
    for code in protocol::FIRST..=protocol::LAST {
        let known = ErrorCode::from_i16(code);
        assert!(!matches!(known, ErrorCode::Unknown(_)), "{code}");
        let fault = Fault::from(KrafkaError::broker(known, format!("{known:?}")));
        let row = protocol::TABLE
            .iter()
            .find(|row| row.code == code)
            .expect("a row");
        assert_eq!(fault.kafka_error, Some(row.name));
        assert_eq!(
            fault.message, row.message,
            "krafka's echo of the code adds nothing"
        );
    }
}

#[test]
fn librdkafka_names_the_same_codes() {
    // A few whose names differ between the library and the protocol.
    for (code, name) in [
        (Code::Unknown, "UNKNOWN_SERVER_ERROR"),
        (Code::InvalidMessage, "CORRUPT_MESSAGE"),
        (Code::NotLeaderForPartition, "NOT_LEADER_OR_FOLLOWER"),
        (Code::MessageSizeTooLarge, "MESSAGE_TOO_LARGE"),
        (Code::InvalidTopic, "INVALID_TOPIC_EXCEPTION"),
        (Code::MessageBatchTooLarge, "RECORD_LIST_TOO_LARGE"),
        (Code::InvalidTransactionalState, "INVALID_TXN_STATE"),
        (Code::RebootstrapRequired, "REBOOTSTRAP_REQUIRED"),
    ] {
        assert_eq!(Fault::from_librdkafka_code(code).kafka_error, Some(name));
    }
}

#[test]
fn protocol_errors_have_the_kind_and_retriability_that_the_apis_rely_on() {
    for (code, kind, retriable) in [
        (
            Code::UnknownTopicOrPartition,
            FaultKind::UnknownTopic,
            false,
        ),
        (
            Code::TopicAuthorizationFailed,
            FaultKind::NotAuthorized,
            false,
        ),
        (
            Code::SaslAuthenticationFailed,
            FaultKind::Unauthenticated,
            false,
        ),
        (Code::MessageSizeTooLarge, FaultKind::TooLarge, false),
        (Code::NotEnoughReplicas, FaultKind::Unavailable, true),
        (Code::LeaderNotAvailable, FaultKind::Unavailable, true),
        (Code::RequestTimedOut, FaultKind::TimedOut, true),
        (Code::ThrottlingQuotaExceeded, FaultKind::Throttled, true),
        (Code::TopicAlreadyExists, FaultKind::Exists, false),
        (Code::OffsetOutOfRange, FaultKind::OffsetOutOfRange, false),
        (Code::UnsupportedVersion, FaultKind::Unsupported, false),
        (Code::GroupIdNotFound, FaultKind::NotFound, false),
    ] {
        let fault = Fault::from_librdkafka_code(code);
        assert_eq!((fault.kind, fault.retriable), (kind, retriable), "{code:?}");
    }
}

#[test]
fn librdkafkas_own_errors_have_no_protocol_name_unless_the_broker_has_the_same() {
    for (code, kind, retriable, name) in [
        (Code::MessageTimedOut, FaultKind::TimedOut, true, None),
        (Code::OperationTimedOut, FaultKind::TimedOut, true, None),
        (Code::QueueFull, FaultKind::QueueFull, true, None),
        (
            Code::UnknownTopic,
            FaultKind::UnknownTopic,
            false,
            Some("UNKNOWN_TOPIC_OR_PARTITION"),
        ),
        (
            Code::UnknownPartition,
            FaultKind::UnknownPartition,
            false,
            Some("UNKNOWN_TOPIC_OR_PARTITION"),
        ),
        (Code::AllBrokersDown, FaultKind::Unavailable, true, None),
        (
            Code::BrokerTransportFailure,
            FaultKind::Unavailable,
            true,
            None,
        ),
        (Code::Resolve, FaultKind::Unavailable, true, None),
        (Code::Fatal, FaultKind::Unavailable, true, None),
        (Code::PurgeQueue, FaultKind::Unavailable, true, None),
        (Code::PurgeInflight, FaultKind::Unavailable, true, None),
        (
            Code::Authentication,
            FaultKind::Unauthenticated,
            false,
            None,
        ),
        (Code::SSL, FaultKind::Unauthenticated, false, None),
        (Code::InvalidArgument, FaultKind::Invalid, false, None),
        (Code::InvalidDifferentRecord, FaultKind::Invalid, true, None),
        (Code::NotImplemented, FaultKind::Unsupported, false, None),
    ] {
        let fault = Fault::from_librdkafka_code(code);
        assert_eq!(
            (fault.kind, fault.retriable, fault.kafka_error),
            (kind, retriable, name),
            "{code:?}"
        );
        assert!(!fault.maybe_written, "the producer says this, not the code");
    }
}

#[test]
fn every_librdkafka_code_has_a_message() {
    use rdkafka::types::RDKafkaRespErr;
    for number in -200..=129 {
        let Ok(native) = RDKafkaRespErr::try_from(number) else {
            continue;
        };
        let fault = Fault::from_librdkafka_code(native.into());
        assert!(fault.message.len() > 8, "{number}: {}", fault.message);
        assert!(fault.kafka_error.is_some() || number <= -100, "{number}");
    }
}

#[test]
fn what_the_broker_says_beside_the_code_is_kept() {
    let fault = Fault::from(KrafkaError::broker(
        ErrorCode::PolicyViolation,
        "topics need an owner",
    ));
    assert_eq!(fault.kafka_error, Some("POLICY_VIOLATION"));
    assert!(fault.message.contains("topics need an owner"));
}

#[test]
fn an_unknown_code_keeps_its_number() {
    let fault = Fault::from_protocol_code(4711, None);
    assert_eq!(fault.kafka_error, None);
    assert!(fault.message.contains("4711"));
    assert_eq!(Fault::from_protocol_code(i16::MIN, None).kafka_error, None);
}

#[test]
fn a_broken_connection_that_is_a_refusal_or_a_wrong_protocol_is_recognised() {
    let fault = |cause: &str| {
        let error = std::io::Error::new(std::io::ErrorKind::NotConnected, cause.to_owned());
        Fault::from(KrafkaError::network(error))
    };
    let alert = fault("last error: network error: received fatal alert: CertificateUnknown");
    assert_eq!(alert.kind, FaultKind::Unauthenticated);
    assert!(
        alert.message.contains("ssl.certificate.location"),
        "{alert}"
    );
    // What a TLS listener answers to someone who speaks without: 0x15 0x03 0x03 0x00.
    let tls = fault("message size 352518912 exceeds maximum 104857600");
    assert_eq!(tls.kind, FaultKind::Unavailable);
    assert!(tls.message.contains("security.protocol"), "{tls}");
    let other = fault("message size 452518912 exceeds maximum 104857600");
    assert!(!other.message.contains("security.protocol"), "{other}");
}

#[test]
fn krafkas_words_have_no_broker_addresses() {
    const ADDRESS: &str = "kafka-1.internal:9092";
    let words = format!("connection to {ADDRESS} failed");
    let network = std::io::Error::new(std::io::ErrorKind::NotConnected, words.clone());
    for error in [
        KrafkaError::network(network),
        KrafkaError::timeout(&words),
        KrafkaError::auth(&words),
        KrafkaError::config(&words),
        KrafkaError::closed(&words),
        KrafkaError::illegal_state(&words),
        KrafkaError::delivery_timeout(true, &words),
        KrafkaError::protocol_kind(ProtocolErrorKind::TruncatedFrame, &words),
        KrafkaError::broker(ErrorCode::NotController, &words),
    ] {
        let fault = Fault::from(&error);
        assert!(
            fault.message.contains("connection to a broker failed"),
            "{fault}"
        );
        assert!(!fault.message.contains("kafka-1"), "{fault}");
    }
}

#[test]
fn krafkas_own_errors_keep_their_meaning() {
    let refused = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
    for (error, kind, retriable) in [
        (KrafkaError::network(refused), FaultKind::Unavailable, true),
        (
            KrafkaError::timeout("ListOffsets"),
            FaultKind::TimedOut,
            true,
        ),
        (
            KrafkaError::auth("bad password"),
            FaultKind::Unauthenticated,
            false,
        ),
        (KrafkaError::config("no"), FaultKind::Invalid, false),
        (
            KrafkaError::unknown_topic("t"),
            FaultKind::UnknownTopic,
            false,
        ),
        (
            KrafkaError::no_offset(vec![("t".into(), 3)]),
            FaultKind::OffsetOutOfRange,
            false,
        ),
        (KrafkaError::closed("gone"), FaultKind::Unavailable, true),
        (KrafkaError::illegal_state("x"), FaultKind::Other, false),
        (
            KrafkaError::protocol_kind(ProtocolErrorKind::UnknownApiVersion, "x"),
            FaultKind::Unsupported,
            false,
        ),
        (
            KrafkaError::protocol_kind(ProtocolErrorKind::TruncatedFrame, "x"),
            FaultKind::Unavailable,
            true,
        ),
        (
            KrafkaError::protocol_kind(ProtocolErrorKind::CrcMismatch, "x"),
            FaultKind::Other,
            false,
        ),
    ] {
        let fault = Fault::from(&error);
        assert_eq!(
            (fault.kind, fault.retriable),
            (kind, retriable),
            "{error:?}"
        );
    }
    assert!(Fault::from(KrafkaError::delivery_timeout(true, "x")).maybe_written);
    assert!(!Fault::from(KrafkaError::delivery_timeout(false, "x")).maybe_written);
}
