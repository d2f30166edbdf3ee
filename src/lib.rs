//! Tidegate gives Apache Kafka to everything that speaks HTTP.
pub mod cli;
pub mod config;
pub mod healthcheck;
pub mod kafka;
pub mod record;
