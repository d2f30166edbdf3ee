//! Tidegate as its users meet it: the built binary, a real Kafka, and plain clients on both sides.
//!
//! One crate, so that one binary is linked. One file for each door or behaviour; what starts
//! brokers and gateways is in `support`. A test that can run without a real Kafka lives in
//! `no_kafka`: `./test` runs only those where there is no Java, and reports all others as skipped.
//! A test that takes more than some seconds is `#[ignore = "long: why"]`: `./test --all` runs it.

#![allow(
    clippy::unwrap_used,
    reason = "a test says that it failed by panicking, its helpers too"
)]

#[allow(
    dead_code,
    reason = "a box of tools: not each of them has a user at each time"
)]
mod support;

mod imported;
mod kafka;
mod lifecycle;
mod no_kafka;
mod readme;
mod records;
mod security;
mod streams;
mod support_selftest;
mod v2;
mod ws;
