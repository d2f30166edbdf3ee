//! The one place that calls librdkafka's C API directly, for what the safe wrapper leaves out.
#![expect(
    unsafe_code,
    reason = "the wrapper does not expose these calls; each block says why it is sound"
)]

use std::ffi::{CStr, CString, c_char};

use rdkafka::bindings::{
    rd_kafka_message_status, rd_kafka_msg_status_t, rd_kafka_oauthbearer_set_token,
};
use rdkafka::client::{Client, ClientContext};
use rdkafka::message::BorrowedMessage;
use rdkafka::types::RDKafkaRespErr;

use super::client::Token;

/// A token without an end gets this one, in milliseconds since the epoch: the year 9999. The
/// library wants to know, and only to ask for the next token in time.
const NO_END: i64 = 253_370_764_800_000;

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

/// Gives `client` the token that its connections log in with from now on, and wakes those that wait
/// for one. The wrapper can only be asked for tokens, on the thread that reports deliveries, and
/// passes no SASL extensions on.
///
/// # Errors
///
/// Why the library does not take it; never shows the token.
pub(super) fn set_token<C: ClientContext>(client: &Client<C>, token: &Token) -> Result<(), String> {
    let text = |text: &str| CString::new(text).map_err(|_| "it holds a zero byte".to_owned());
    let value = text(token.value())?;
    let principal = text(token.principal())?;
    let mut extensions = Vec::with_capacity(token.extensions().len() * 2);
    for (name, value) in token.extensions() {
        extensions.push(text(name)?);
        extensions.push(text(value)?);
    }
    let mut pointers: Vec<*const c_char> = extensions.iter().map(|text| text.as_ptr()).collect();
    let mut message: [c_char; 512] = [0; 512];
    // SAFETY: the client is alive as long as it is borrowed, and thread-safe. All strings end in a
    // zero byte and outlive the call, which copies them; `pointers` holds as many as it says, an
    // even number. The library writes at most the given length to `message`, zero byte included.
    let code = unsafe {
        rd_kafka_oauthbearer_set_token(
            client.native_ptr(),
            value.as_ptr(),
            token.expires().unwrap_or(NO_END),
            principal.as_ptr(),
            pointers.as_mut_ptr(),
            pointers.len(),
            message.as_mut_ptr(),
            message.len(),
        )
    };
    if code == RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR {
        return Ok(());
    }
    if let Some(last) = message.last_mut() {
        *last = 0;
    }
    // SAFETY: the last byte of `message` is zero, so the string ends within it.
    let message = unsafe { CStr::from_ptr(message.as_ptr()) };
    Err(message.to_string_lossy().into_owned())
}
