//! What operators see: metrics, logs, health, and who was let do what.

pub mod audit;
#[cfg(test)]
pub(crate) mod captured_logs;
pub mod groups;
mod labels;
pub mod lag;
pub mod logging;
pub mod metrics;
mod shares;
pub mod topics;
