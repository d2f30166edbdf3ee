//! Everything that talks to brokers, and nothing that knows HTTP or JSON.
//!
//! librdkafka (through `rdkafka`) produces; `krafka` reads and administrates. Neither library is
//! named outside this folder, so that either can be replaced.

pub mod admin;
pub mod client;
#[cfg(feature = "embedded")]
pub mod embedded;
pub mod fault;
pub mod metadata;
