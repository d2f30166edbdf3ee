//! What a stream of records looks like, which the engine leaves to each API.

use crate::http::error::ApiError;
use crate::kafka::fault::Fault;
use crate::record::{ProducerRecord, RecordMetadata};
use crate::write::WriteError;

/// What a stream of records, and the answer to it, look like.
pub(crate) trait WireFormat: Send + 'static {
    /// What a result says of its item beside the outcome.
    type Place: Send + 'static;

    /// The media type of the answer.
    const CONTENT_TYPE: &'static str;
    /// What a client is told to do that does not read its results.
    const READ_HINT: &'static str;

    /// Takes more of the body.
    fn push(&mut self, data: &[u8]);

    /// Bytes that wait for the end of their item.
    fn waiting(&self) -> usize;

    /// The next whole item.
    fn next_item(&mut self) -> Option<Item<Self::Place>>;

    /// What is left when the body has ended and [`WireFormat::next_item`] has no more.
    fn last_item(&mut self) -> Option<Item<Self::Place>>;

    /// The error of a record that Kafka refused.
    fn refused(&self, fault: &Fault) -> ApiError {
        ApiError::from_fault(fault)
    }

    /// The error of each record of a batch of which nothing was written.
    fn rejected(&self, error: WriteError) -> ApiError {
        ApiError::from_rejected(error, |_| String::new())
    }

    /// Writes the result of an item.
    fn result(
        &self,
        out: &mut Vec<u8>,
        place: Self::Place,
        result: Result<&RecordMetadata, ApiError>,
    );

    /// Writes what stands behind the last result; `error` is why the stream ends before its time.
    fn end(&self, out: &mut Vec<u8>, totals: Totals, error: Option<ApiError>);
}

/// What a stream consists of.
pub(crate) enum Item<P> {
    /// Nothing that has a result; it costs the work of looking at it all the same.
    Blank,
    /// A record.
    Record(ProducerRecord, P),
    /// What cannot be written. The items behind it can be.
    Unfit(ApiError, P),
    /// What cannot be read, so that nobody knows where the next item begins.
    Broken(ApiError, P),
}

/// How many records were written, and how many were not.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Totals {
    pub(crate) written: u64,
    pub(crate) failed: u64,
}
