//! The tests that need no real Kafka. `./test` knows them by this module's name.

mod attack;
#[cfg(feature = "embedded")]
mod audit;
#[cfg(feature = "embedded")]
mod bad_tokens;
mod browser;
#[cfg(feature = "embedded")]
mod cors;
#[cfg(feature = "embedded")]
mod cross_site;
#[cfg(feature = "embedded")]
mod envoy;
#[cfg(feature = "embedded")]
mod expiry;
#[cfg(feature = "embedded")]
mod group_metrics;
#[cfg(feature = "embedded")]
mod identities;
#[cfg(feature = "embedded")]
mod issuer_keys;
#[cfg(feature = "embedded")]
mod issuer_rules;
mod kafka;
#[cfg(feature = "embedded")]
mod nginx;
#[cfg(feature = "embedded")]
mod nginx_instances;
mod openapi;
#[cfg(feature = "embedded")]
mod query_credentials;
#[cfg(feature = "embedded")]
mod rates;
#[cfg(feature = "embedded")]
mod recipes;
#[cfg(feature = "embedded")]
mod record_visibility;
mod records;
#[cfg(feature = "embedded")]
mod reload;
mod security_policy;
#[cfg(feature = "embedded")]
mod strangers;
mod support_selftest;
#[cfg(feature = "embedded")]
mod switched_off;
#[cfg(feature = "embedded")]
mod tickets;
mod tls;
#[cfg(feature = "embedded")]
mod topic_metrics;
#[cfg(feature = "embedded")]
mod users;
mod v2;
mod ws;
