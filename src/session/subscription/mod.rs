//! What the kinds of subscriptions of a session have in common: the group, in `machine/group/`, and the
//! tail, in `machine/tail/`.
//!
//! - `options.rs`: what a client may ask for, and what it is told of it

pub mod options;
