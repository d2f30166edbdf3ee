//! What operators see: metrics, logs, health.

pub mod logging;
pub mod metrics;
