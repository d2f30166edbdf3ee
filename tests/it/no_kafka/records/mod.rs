//! Reading and writing records without a real Kafka.
//!
//! - `gzip_limits`: compressed bodies are bounded by what comes out of them
//! - `principal_header`: `kafka.principal_header`, who wrote a record
//! - `produce_faults`: what becomes of records when the broker answers with an error, or not at all
//! - `read_faults`: what a reader sees then

#[cfg(feature = "embedded")]
mod gzip_limits;
#[cfg(feature = "embedded")]
mod principal_header;
mod produce_faults;
mod read_faults;
