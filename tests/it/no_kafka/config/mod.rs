//! The gateway's settings, its metrics, and the proxies in front of it.
//!
//! - `envoy`: the recipes of the docs for Envoy
//! - `group_metrics`: the names of groups in metrics
//! - `nginx`: the recipe of docs/security.md for nginx
//! - `nginx_instances`: the recipe of docs/compatibility.md for nginx before several processes
//! - `reload`: roles and keys that are read again while the gateway runs
//! - `route_filter`: routes that `http.allow` and `http.block` switch off
//! - `topic_metrics`: the names of topics in metrics

#[cfg(feature = "embedded")]
mod envoy;
#[cfg(feature = "embedded")]
mod group_metrics;
#[cfg(feature = "embedded")]
mod nginx;
#[cfg(feature = "embedded")]
mod nginx_instances;
#[cfg(feature = "embedded")]
mod reload;
#[cfg(feature = "embedded")]
mod route_filter;
#[cfg(feature = "embedded")]
mod topic_metrics;
