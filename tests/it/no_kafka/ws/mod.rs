//! WebSocket sessions without a real Kafka.
//!
//! - `frame_sizes`: what becomes of frames by their size
//! - `produce_window`: writing to a broker that is slow, or does not answer
//! - `upgrade`: what is asked before a session begins

#[cfg(feature = "embedded")]
mod frame_sizes;
mod produce_window;
#[cfg(feature = "embedded")]
mod upgrade;
