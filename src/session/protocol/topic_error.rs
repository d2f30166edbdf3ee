//! What Kafka's failure to serve a topic is called in an error frame.

use super::server::Error;
use crate::kafka::fault::{Fault, FaultKind};

pub(crate) fn topic_error(fault: &Fault) -> Error {
    let code = match fault.kind {
        FaultKind::UnknownTopic => "topic_not_found",
        FaultKind::NotAuthorized => "forbidden",
        FaultKind::Unavailable => "kafka_unavailable",
        FaultKind::TimedOut => "timeout",
        _ => "kafka_error",
    };
    Error::from_fault(code, fault)
}
