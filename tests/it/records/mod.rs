//! Writing and reading records over HTTP, on a real Kafka: `/topics/{topic}/records`.
//!
//! - `added_partitions`: topics whose partitions change under those who write to them
//! - `from_last_n`: `from=-N`, the last records
//! - `gzip`: compressed bodies in both directions
//! - `ndjson`: NDJSON in, a stream of results out
//! - `partition_parameter`: `?partition=` for all records of a write
//! - `produce_under_failure`: what was acknowledged is in Kafka exactly once, whatever becomes of brokers
//! - `raw`: a raw value as a body, and `Idempotency-Key`
//! - `read`: pages and single records
//! - `read_under_failure`: pages neither skip nor repeat, whatever becomes of brokers and topics
//! - `refused_batches`: records that a topic refuses, beside records of other clients that it takes
//! - `silent_broker`: pages and readiness while one broker of several does not answer
//! - `write`: what a client writes, and what is then in Kafka

mod added_partitions;
mod from_last_n;
mod gzip;
mod ndjson;
mod partition_parameter;
mod produce_under_failure;
mod raw;
mod read;
mod read_under_failure;
mod refused_batches;
mod silent_broker;
mod write;
