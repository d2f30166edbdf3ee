//! The v2 API, on a real Kafka.
//!
//! - `consumers`: consumer instances
//! - `metadata`: topics, partitions and brokers
//! - `produce`: writing, seen in the topic by a plain client

mod consumers;
mod metadata;
mod produce;
