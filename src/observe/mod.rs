//! What operators see: metrics, logs, health, and who was let do what.

pub mod audit;
pub mod groups;
mod labels;
pub mod lag;
pub mod logging;
pub mod metrics;
mod shares;
pub mod topics;
