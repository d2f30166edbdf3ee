//! Tidegate as its users meet it: the built binary, a real Kafka, and plain clients on both sides.
//!
//! One crate, so that one binary is linked. One folder for each API, and in it one file for each behaviour:
//!
//! - `records`, `streams`, `ws`, `v2`, `v3`, `plain`: the APIs
//! - `kafka`: what Kafka decides and every API has to keep
//! - `security`: who may do what, and what must not get through
//! - `schemas`: what is checked before it is written, over every API
//! - `config`: settings, start and end of the process
//! - `no_kafka`: tests that can run without a real Kafka, in folders of the same names. `./test` runs only
//!   these where there is no Java, and reports all others as skipped
//! - `support`: what starts brokers and gateways, and `support_selftest`, which tests it
//! - `readme`: README.md, line by line
//!
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

mod config;
mod kafka;
mod no_kafka;
mod plain;
mod readme;
mod records;
mod schemas;
mod security;
mod streams;
mod support_selftest;
mod v2;
mod v3;
mod ws;
