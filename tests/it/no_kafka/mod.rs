//! The tests that need no real Kafka. `./test` knows them by this module's name.

#[cfg(feature = "embedded")]
mod envoy;
#[cfg(feature = "embedded")]
mod group_metrics;
mod kafka;
#[cfg(feature = "embedded")]
mod nginx;
#[cfg(feature = "embedded")]
mod nginx_instances;
mod openapi;
mod records;
#[cfg(feature = "embedded")]
mod reload;
mod security;
mod security_policy;
mod support_selftest;
#[cfg(feature = "embedded")]
mod switched_off;
#[cfg(feature = "embedded")]
mod topic_metrics;
mod v2;
mod ws;
