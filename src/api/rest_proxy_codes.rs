//! The error codes of Confluent REST Proxy, which its versions 2 and 3 share, where they differ from the table
//! that all APIs here share.

use axum::http::StatusCode;

use crate::http::error::ApiError;
use crate::kafka::fault::{Fault, FaultKind};

/// Kafka refused, and would again.
const REFUSED: u32 = 50002;
/// Kafka could not, and may the next time.
const RETRIABLE: u32 = 50003;
/// The gateway's credentials are not accepted.
const UNAUTHENTICATED: u32 = 40101;
/// The gateway's Kafka user lacks a right.
const NOT_AUTHORIZED: u32 = 40301;

/// The error that a request which failed at Kafka gets.
pub fn of_request(fault: &Fault) -> ApiError {
    let error = ApiError::from_fault(fault);
    let error = match fault.kind {
        FaultKind::UnknownTopic | FaultKind::Invalid => error.at("topic"),
        FaultKind::UnknownPartition => error.at("partition"),
        _ => error,
    };
    match code_of_request(fault) {
        Some((status, code)) => error.coded(status, code),
        None => error,
    }
}

/// Status and code, where the shared table has others.
pub(crate) fn code_of_request(fault: &Fault) -> Option<(StatusCode, u32)> {
    Some(match fault.kind {
        FaultKind::UnknownTopic => (StatusCode::NOT_FOUND, 40403),
        FaultKind::Unauthenticated => (StatusCode::UNAUTHORIZED, UNAUTHENTICATED),
        FaultKind::Exists => (StatusCode::BAD_REQUEST, 40002),
        // The brokers could, and are set up not to.
        FaultKind::Unsupported if fault.kafka_error == Some("SECURITY_DISABLED") => {
            (StatusCode::BAD_REQUEST, 40002)
        }
        // What has a code of its own keeps it: a broker that cannot be reached.
        FaultKind::Unavailable if is_unreachable(fault) => return None,
        FaultKind::Unavailable | FaultKind::TimedOut | FaultKind::QueueFull => {
            (StatusCode::INTERNAL_SERVER_ERROR, RETRIABLE)
        }
        FaultKind::Other if fault.retriable => (StatusCode::INTERNAL_SERVER_ERROR, RETRIABLE),
        _ => return None,
    })
}

fn is_unreachable(fault: &Fault) -> bool {
    matches!(fault.kafka_error, None | Some("BROKER_NOT_AVAILABLE"))
}

/// The code in the entry of a record that was not written. A topic or partition that does not
/// exist counts as retriable, as it does for Kafka's own clients.
pub fn of_record(fault: &Fault) -> u32 {
    match fault.kind {
        FaultKind::NotAuthorized => NOT_AUTHORIZED,
        FaultKind::Unauthenticated => UNAUTHENTICATED,
        FaultKind::UnknownTopic | FaultKind::UnknownPartition => RETRIABLE,
        _ if fault.retriable => RETRIABLE,
        _ => REFUSED,
    }
}

/// The status of an answer with an entry of this code, where it is not 200.
pub fn status_of_record(code: u32) -> Option<StatusCode> {
    match code {
        UNAUTHENTICATED => Some(StatusCode::UNAUTHORIZED),
        NOT_AUTHORIZED => Some(StatusCode::FORBIDDEN),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(fault: &Fault) -> (u16, u32) {
        let error = of_request(fault);
        (error.status().as_u16(), error.into_body().error_code)
    }

    #[test]
    fn requests_get_the_error_codes_of_confluent_rest_proxy() {
        // LEADER_NOT_AVAILABLE, TOPIC_AUTHORIZATION_FAILED, SASL_AUTHENTICATION_FAILED,
        // INVALID_TOPIC_EXCEPTION, TOPIC_ALREADY_EXISTS, SECURITY_DISABLED,
        // THROTTLING_QUOTA_EXCEEDED, BROKER_NOT_AVAILABLE, unknown
        for (protocol, expected) in [
            (5, (500, 50003)),
            (7, (500, 50003)),
            (29, (403, 40301)),
            (58, (401, 40101)),
            (17, (400, 40002)),
            (36, (400, 40002)),
            (54, (400, 40002)),
            (89, (429, 42901)),
            (8, (503, 50302)),
            (-1, (500, 50002)),
        ] {
            let fault = Fault::from_protocol_code(protocol, None);
            assert_eq!(code(&fault), expected, "{protocol}");
        }
        assert_eq!(code(&Fault::unknown_topic("t")), (404, 40403));
        assert_eq!(code(&Fault::unknown_partition("t", 7, 3)), (404, 40402));
        let unreachable = Fault::new(FaultKind::Unavailable, "no connection");
        assert_eq!(code(&unreachable), (503, 50302));
        assert_eq!(
            code(&Fault::new(FaultKind::TimedOut, "no answer")),
            (500, 50003)
        );
    }

    #[test]
    fn records_are_refused_or_worth_another_try() {
        for (protocol, expected) in [
            (10, 50002),
            (19, 50003),
            (29, 40301),
            (58, 40101),
            (44, 50002),
        ] {
            let fault = Fault::from_protocol_code(protocol, None);
            assert_eq!(of_record(&fault), expected, "{protocol}");
        }
        assert_eq!(of_record(&Fault::unknown_topic("t")), 50003);
        assert_eq!(of_record(&Fault::unknown_partition("t", 7, 3)), 50003);
        assert_eq!(of_record(&Fault::new(FaultKind::QueueFull, "full")), 50003);
    }
}
