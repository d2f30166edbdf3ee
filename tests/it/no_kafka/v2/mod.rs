//! The v2 API without a real Kafka.
//!
//! - `consumers`: consumer instances when the broker errs
//! - `error_codes`: the table of error codes in docs/compatibility.md
//! - `metadata`: topics and brokers on the embedded broker, and when Kafka refuses
//! - `produce`: writing when the broker errs

#[cfg(feature = "embedded")]
mod consumers;
mod error_codes;
mod metadata;
mod produce;
