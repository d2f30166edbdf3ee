//! Streams of records: tails over HTTP. They go on as records come, and a client that was cut off goes on
//! where it was. The requests for them, and their answers, are in `api/records/stream.rs`.
//!
//! - `params.rs`: what is asked of one
//! - `until_time.rs`: an end that has not come yet
//! - `start_offsets.rs`: where it begins and ends, in offsets
//! - `run.rs`: the stream
//! - `error.rs`: what ends it before its time
//! - `encoder.rs`: what a record is made into, once for all streams that show it alike
//! - `event_format.rs`: the wire shapes
//! - `limits.rs`: how many there may be; `stall_detector.rs`: the end of those that nobody reads

pub(crate) mod encoder;
pub(crate) mod error;
pub(crate) mod event_format;
pub mod limits;
pub(crate) mod params;
pub(crate) mod run;
mod stall_detector;
pub(crate) mod start_offsets;
mod until_time;
