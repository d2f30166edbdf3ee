//! Everything that talks to brokers, and nothing that knows HTTP or JSON.
//!
//! librdkafka (through `rdkafka`) produces; `krafka` reads and administrates. Neither library is
//! named outside this folder, so that either can be replaced.

pub mod admin;
mod apart;
mod append_time;
pub mod client;
mod cluster;
mod consumer_guard;
mod copied;
#[cfg(feature = "embedded")]
pub mod embedded;
pub mod fault;
mod fetcher;
mod ffi;
mod last;
pub mod member;
pub mod metadata;
mod offset_resolver;
pub mod partitioner;
pub mod producer;
mod pulse;
pub mod reader;
pub mod tail;
mod watermarks;

pub use apart::silent;
pub use client::Role;
pub use cluster::Cluster;
pub use last::Last;
pub use offset_resolver::{ResolvedOffset, SeekTo};
pub use watermarks::Watermarks;
