//! The tests that need no real Kafka. `./test` knows them by this module's name.

mod attack;
#[cfg(feature = "embedded")]
mod embedded;
mod openapi;
mod producing_faults;
mod reading_faults;
mod support_selftest;
mod tls;
mod v2_metadata;
mod v2_produce;
