//! What all sessions of a process are held to.

use std::time::Duration;

/// What all sessions of a process are held to.
#[derive(Debug, Clone)]
pub struct Rules {
    /// `auth.mode` is `none`.
    pub open: bool,
    /// Largest frame.
    pub max_frame: usize,
    /// How long a `hello` may take where one is needed.
    pub hello_timeout: Duration,
    /// How long a session may do nothing.
    pub idle_timeout: Duration,
    /// How long a revoked partition waits, unless the client says.
    pub revoke_grace: Duration,
    /// Most records with a client.
    pub max_inflight_records: u64,
    /// Most bytes with a client.
    pub max_inflight_bytes: u64,
    /// Most offsets between the first record that is not acknowledged and the last delivered.
    pub max_gap: i64,
    /// Most records that wait to come again.
    pub max_delayed: usize,
    /// The dead-letter topic, with `{topic}` for the record's own.
    pub dead_letter_topic: String,
}
