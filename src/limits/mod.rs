//! How much of something each may have, and all together.
//!
//! - `places.rs`: how many of something each has, whoever that is
//! - `quota.rs`: how many of something each principal has
//! - `memory.rs`: bytes that are kept for clients, counted together

pub mod memory;
pub mod places;
pub mod quota;
