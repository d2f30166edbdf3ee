//! The tests that need no real Kafka. `./test` knows them by this module's name.

mod producing_faults;
#[cfg(feature = "embedded")]
mod embedded;
mod openapi;
mod reading_faults;
mod support_selftest;
