//! What every API that reads goes by: which partitions of which topics are read, and what of them is shown.
//!
//! - `partitions.rs`: topics, partitions, and what the principal is shown of them
//! - `allowed.rs`: reads that take their time are judged again while they do
//! - `start_offsets.rs`: where each partition starts
//! - `page.rs`: the loop that reads pages
//! - `error.rs`: why nothing is read

pub(crate) mod allowed;
pub(crate) mod error;
pub(crate) mod page;
pub(crate) mod partitions;
pub(crate) mod start_offsets;
