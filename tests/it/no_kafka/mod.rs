//! The tests that need no real Kafka. `./test` knows them by this module's name.

mod config;
mod kafka;
mod openapi;
mod plain;
mod records;
mod schemas;
mod security;
mod security_policy;
mod support_selftest;
mod v2;
mod v3;
mod ws;
