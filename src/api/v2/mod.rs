//! The compatible REST API, version 2: what clients written for Confluent REST Proxy, Karapace,
//! Strimzi's bridge or Redpanda's proxy call. docs/compatibility.md has a line for everything in
//! which it differs from Confluent REST Proxy on purpose.
//!
//! - `media`: its media types, and which one a request gets; `answer`: answers of that type
//! - `error`: its error codes
//! - `topics`, `partitions`, `brokers`, `produce`: one resource each
//! - `reading`, `admin`, `health`: what only Redpanda's proxy, Strimzi's bridge or Karapace have
//! - `consumers`: consumer instances

pub mod admin;
mod answer;
pub mod brokers;
pub mod consumers;
pub mod error;
pub mod health;
pub mod media;
pub mod partitions;
pub mod produce;
pub mod reading;
pub mod topics;
