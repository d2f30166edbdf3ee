//! Which complaint counts, and for what.

use rdkafka::error::RDKafkaErrorCode as Code;

use super::{ClientErrors, MOST_BYTES, essence};
use crate::kafka::fault::{Fault, FaultKind};

const LOGIN: &str =
    "sasl_ssl://b:1/bootstrap: SASL authentication error: no (after 3ms in state AUTH)";

fn given_up(client_errors: &ClientErrors, code: Code) -> Fault {
    client_errors.explain(code, Fault::from_librdkafka_code(code))
}

#[test]
fn a_record_that_was_given_up_gets_the_reason() {
    let client_errors = ClientErrors::default();
    let plain = given_up(&client_errors, Code::MessageTimedOut);
    assert_eq!(plain, Fault::from_librdkafka_code(Code::MessageTimedOut));

    client_errors.note(Code::Authentication, LOGIN);
    client_errors.note(Code::AllBrokersDown, "1/1 brokers are down");
    let fault = given_up(&client_errors, Code::MessageTimedOut);
    assert_eq!(fault.kind, FaultKind::Unauthenticated);
    assert!(
        fault.message.contains("SASL authentication error: no"),
        "{fault}"
    );
    assert!(!fault.message.contains("after 3ms"), "{fault}");
    // The broker's own word about a record stands.
    let own = given_up(&client_errors, Code::MessageSizeTooLarge);
    assert_eq!(own.kind, FaultKind::TooLarge);
}

#[test]
fn a_broken_connection_is_added_to_the_error_and_does_not_change_its_kind() {
    let client_errors = ClientErrors::default();
    client_errors.note(Code::BrokerTransportFailure, "b:1: Connect failed");
    let fault = given_up(&client_errors, Code::MessageTimedOut);
    assert_eq!(fault.kind, FaultKind::TimedOut);
    assert!(fault.retriable);
    assert!(fault.message.contains("Connect failed"), "{fault}");
    // An alert is a refusal, although it comes as a broken connection.
    client_errors.note(
        Code::BrokerTransportFailure,
        "b:1: ssl/tls alert bad certificate",
    );
    let fault = given_up(&client_errors, Code::MessageTimedOut);
    assert_eq!(fault.kind, FaultKind::Unauthenticated);
}

#[test]
fn client_errors_are_told_without_the_addresses_of_brokers() {
    let client_errors = ClientErrors::default();
    for (code, reason) in [
        (
            Code::BrokerTransportFailure,
            "kafka-1.internal:9092/1: Connect to ipv4#10.0.0.7:9092 failed",
        ),
        (
            Code::SSL,
            "ssl://kafka-1.internal:9092/1: SSL handshake failed with 10.0.0.7:9092",
        ),
    ] {
        client_errors.note(code, reason);
        let fault = given_up(&client_errors, Code::MessageTimedOut);
        assert!(fault.message.contains("broker 1: "), "{fault}");
        for place in ["internal", "10.0.0.7", "9092"] {
            assert!(!fault.message.contains(place), "{fault}");
        }
    }
}

#[test]
fn a_producer_without_any_right_to_write_gives_a_not_authorized_error() {
    let client_errors = ClientErrors::default();
    client_errors.note(Code::ClusterAuthorizationFailed, "Failed to acquire PID");
    for code in [Code::PurgeQueue, Code::Fatal] {
        let fault = given_up(&client_errors, code);
        assert_eq!(fault.kind, FaultKind::NotAuthorized);
        assert_eq!(fault.kafka_error, Some("CLUSTER_AUTHORIZATION_FAILED"));
        assert!(!fault.retriable);
    }
}

#[test]
fn the_producer_is_locked_out_only_when_its_login_fails_at_every_broker() {
    let client_errors = ClientErrors::default();
    assert_eq!(client_errors.locked_out(), None);
    // One broker of several.
    client_errors.note(Code::SSL, "b:1: certificate verify failed");
    assert_eq!(client_errors.locked_out(), None);
    client_errors.note(Code::AllBrokersDown, "2/2 brokers are down");
    assert!(client_errors.locked_out().is_some());
    // It comes again while it lasts, the other does not.
    client_errors.note(Code::SSL, "b:2: certificate verify failed");
    assert!(client_errors.locked_out().is_some());
    client_errors.over();
    assert_eq!(client_errors.locked_out(), None);
    // Brokers that are down lock nobody out.
    client_errors.note(Code::BrokerTransportFailure, "b:1: Connect failed");
    client_errors.note(Code::AllBrokersDown, "2/2 brokers are down");
    assert_eq!(client_errors.locked_out(), None);
}

#[test]
fn a_librdkafka_message_is_shortened_and_loses_its_counters() {
    assert_eq!(
        essence("a: b. (after 5ms in state X, 3 identical error(s) suppressed)"),
        "a: b"
    );
    let long = "ä".repeat(MOST_BYTES);
    assert!(essence(&long).len() <= MOST_BYTES);
}
