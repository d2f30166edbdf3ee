//! WebSocket sessions, on a real Kafka.
//!
//! - `clients`: the clients of docs/websocket.md, on Node.js and Python
//! - `delivery`: what is delivered, and what may be committed of it
//! - `group_positions`: the position of a group from its first session on
//! - `groups`: sessions as members of consumer groups
//! - `python_member`: a group that a session shares with a Python client of Kafka
//! - `rebalance`: members come, go, die and take over
//! - `redelivery`: records that come again, and those that are given up
//! - `robustness`: clients that send nonsense, read nothing, write too much or vanish
//! - `seek`: where a subscription starts, and where it is told to go on
//! - `static_member_takeover`: a static member that connects again while its session before is still there
//! - `tail_failures`: cuts, slow sockets, and topics, rights and brokers that go
//! - `tail_keys`: tails that want one key
//! - `tails`: subscriptions without a group: where they begin and what they show
//! - `token_expiry`: tokens that expire, and rights that change, while a session goes on

mod clients;
mod delivery;
mod group_positions;
mod groups;
mod python_member;
mod rebalance;
mod redelivery;
mod robustness;
mod seek;
mod static_member_takeover;
mod tail_failures;
mod tail_keys;
pub mod tails;
mod token_expiry;
