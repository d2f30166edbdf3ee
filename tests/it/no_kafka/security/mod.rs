//! Who may do what, and what must not get through.
//!
//! - `audit_log`: who was let do what, from where, and who was not
//! - `browser`: a real page in Chromium tries to get at Kafka
//! - `connection_flood`: thousands of clients that hold what they can, beside one that wants to be served
//! - `cors`: what a browser is told when a page of another origin calls
//! - `credential_expiry`: what a token or a certificate has opened ends with it
//! - `csrf`: requests of pages of other sites
//! - `issuer_keys`: an issuer that changes, withdraws or no longer gives its keys
//! - `issuer_realms`: principals of the same subject whom different issuers name
//! - `issuer_settings`: what the settings of an issuer make of its tokens
//! - `oversized_tokens`: tokens and issuers that are large or without end
//! - `query_credentials`: answers to addresses with a credential in them
//! - `rate_limits`: requests, bytes and connections of one client
//! - `tickets`: tickets for event streams
//! - `tls`: TLS on both listeners
//! - `token_recipes`: the recipes of docs/security.md for tokens
//! - `topic_filters`: a record that a filter cannot judge
//! - `unauthenticated_clients`: clients without credentials cost next to nothing
//! - `users_file`: passwords and API keys of `auth.users_file`

#[cfg(feature = "embedded")]
mod audit_log;
mod browser;
mod connection_flood;
#[cfg(feature = "embedded")]
mod cors;
#[cfg(feature = "embedded")]
mod credential_expiry;
#[cfg(feature = "embedded")]
mod csrf;
#[cfg(feature = "embedded")]
mod issuer_keys;
#[cfg(feature = "embedded")]
mod issuer_realms;
#[cfg(feature = "embedded")]
mod issuer_settings;
#[cfg(feature = "embedded")]
mod oversized_tokens;
#[cfg(feature = "embedded")]
mod query_credentials;
#[cfg(feature = "embedded")]
mod rate_limits;
#[cfg(feature = "embedded")]
mod tickets;
mod tls;
#[cfg(feature = "embedded")]
mod token_recipes;
#[cfg(feature = "embedded")]
mod topic_filters;
#[cfg(feature = "embedded")]
mod unauthenticated_clients;
#[cfg(feature = "embedded")]
mod users_file;
