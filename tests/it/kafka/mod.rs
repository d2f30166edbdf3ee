//! What Kafka decides and every API has to keep: membership of groups, logins, transactions, times, topics of
//! its own.
//!
//! - `broker_security`: logging in to Kafka by every mechanism, and the ACLs of the gateway's own user
//! - `internal_topics`: topics that Kafka and its tools keep for themselves
//! - `isolation_level`: what readers see of open and aborted transactions
//! - `log_append_time`: topics whose records have the broker's time
//! - `members`: members of consumer groups, below every API

pub mod broker_security;
mod internal_topics;
mod isolation_level;
pub mod log_append_time;
mod members;
