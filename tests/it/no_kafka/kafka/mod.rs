//! What Kafka decides, with brokers that are none of Kafka's.
//!
//! - `broker_addresses`: no client is told where the brokers are
//! - `embedded_broker`: the embedded broker
//! - `members`: members of consumer groups before a broker that errs on command
//! - `topic_auto_creation`: who creates a topic by a first use

mod broker_addresses;
#[cfg(feature = "embedded")]
mod embedded_broker;
mod members;
#[cfg(feature = "embedded")]
mod topic_auto_creation;
