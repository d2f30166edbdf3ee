//! Who may do what, what is shown to whom, and requests that must not get through, on a real Kafka.
//!
//! - `auth`: tokens, permissions and tickets on every route
//! - `bad_input`: what clients must not send
//! - `passthrough`: Kafka sees the client's own identity
//! - `secrets_in_logs`: no log has a secret
//! - `tls`: the records API over TLS
//! - `topic_filters`: `[[auth.topic_filters]]`, through every API

mod auth;
mod bad_input;
mod passthrough;
mod secrets_in_logs;
mod tls;
mod topic_filters;
