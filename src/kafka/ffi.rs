//! The one place that calls librdkafka's C API directly, for what the safe wrapper leaves out.
#![expect(
    unsafe_code,
    reason = "the wrapper does not expose these calls; each block says why it is sound"
)]

use rdkafka::bindings::{rd_kafka_message_status, rd_kafka_msg_status_t};
use rdkafka::message::BorrowedMessage;

/// What librdkafka knows of a record that failed, or that was acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Persisted {
    /// It never reached a broker, or the broker refused it.
    No,
    /// It was sent and no answer came back: it may be in the log.
    Maybe,
    /// It is in the log.
    Yes,
}

/// The persistence status of a record in a delivery report.
pub(super) fn persisted(message: &BorrowedMessage<'_>) -> Persisted {
    // SAFETY: `ptr` is librdkafka's own message, which the borrow keeps alive; the call only reads
    // a field of it and is documented for use on delivery reports.
    let status = unsafe { rd_kafka_message_status(message.ptr()) };
    match status {
        rd_kafka_msg_status_t::RD_KAFKA_MSG_STATUS_NOT_PERSISTED => Persisted::No,
        rd_kafka_msg_status_t::RD_KAFKA_MSG_STATUS_POSSIBLY_PERSISTED => Persisted::Maybe,
        rd_kafka_msg_status_t::RD_KAFKA_MSG_STATUS_PERSISTED => Persisted::Yes,
    }
}
