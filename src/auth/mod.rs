//! Who is asking, and what they may do.

pub mod permission;

use std::sync::Arc;

/// Whoever sent a request. Every handler is given one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    name: Arc<str>,
}

impl Principal {
    /// The principal of everyone where `auth.mode` is `none`.
    pub fn anonymous() -> Self {
        Self {
            name: Arc::from("anonymous"),
        }
    }

    /// The name, for logs and for limits that are counted per principal.
    pub fn name(&self) -> &str {
        &self.name
    }
}
