//! The tests that need no real Kafka. `./test` knows them by this module's name.

mod attack;
mod browser;
#[cfg(feature = "embedded")]
mod cors;
#[cfg(feature = "embedded")]
mod cross_site;
#[cfg(feature = "embedded")]
mod embedded;
mod members;
mod openapi;
mod producing_faults;
#[cfg(feature = "embedded")]
mod rates;
mod reading_faults;
mod support_selftest;
mod tls;
mod v2_metadata;
mod v2_produce;
