//! What every API that reads goes by: which partitions of which topics are read, and what of them is shown.
//!
//! - `partitions.rs`: topics, partitions, and what the principal is shown of them
//! - `allowed.rs`: reads that take their time are judged again while they do
//! - `error.rs`: why nothing is read

pub(crate) mod allowed;
pub(crate) mod error;
pub(crate) mod partitions;
