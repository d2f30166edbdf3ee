//! The tests that need no real Kafka. `./test` knows them by this module's name.

#[cfg(feature = "embedded")]
mod embedded;
mod openapi;
mod attack;
mod cors;
mod cross_site;
mod producing_faults;
mod reading_faults;
mod support_selftest;
mod tls;
mod v2_metadata;
mod v2_produce;
