//! The compatible REST API, version 3: what clients and tools written for Confluent REST Proxy's `/v3` call.
//! docs/compatibility.md has a line for everything in which it differs on purpose.
//!
//! - `call.rs`: what every endpoint takes out of a request: whose it is, its cluster, its body
//! - `resource.rs`: the shapes that all answers share: links, names, lists; `page.rs`: lists a page at a time
//! - `error.rs`: its errors, and what the OpenAPI document says of them
//! - `clusters.rs`, `brokers.rs`, `log_dirs.rs`, `topics.rs`, `partitions.rs`, `reassignments.rs`: one resource each;
//!   `elections.rs`: leaders of partitions are elected
//! - `acls.rs`, `quotas.rs`, `scram_users.rs`: whom the brokers let do what, how much of it, and who can log in there
//! - `configs/`: settings of topics, of brokers and of all brokers
//! - `groups/`: consumer groups, their members and lags; `share_groups/`: share groups
//! - `transactions/`: transactions, producers, and the transactions that hang
//! - `records/`: writing, as a stream and in batches

pub mod acls;
pub mod brokers;
mod call;
pub mod clusters;
pub mod configs;
pub mod elections;
mod error;
pub mod groups;
pub mod log_dirs;
mod page;
pub mod partitions;
pub mod quotas;
pub mod reassignments;
pub mod records;
mod resource;
pub mod scram_users;
pub mod share_groups;
pub mod topics;
pub mod transactions;
