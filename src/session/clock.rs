//! The time of day, as it follows from the time that is handed to a session.

use std::time::Instant;

/// The time of day at some moment, so that all later ones follow from it.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    at: Instant,
    wall_ms: i64,
}

impl Clock {
    /// It is `wall_ms` milliseconds after 1970 at `at`.
    pub fn new(at: Instant, wall_ms: i64) -> Self {
        Self { at, wall_ms }
    }

    /// Milliseconds since 1970.
    pub fn wall(&self, now: Instant) -> i64 {
        let passed = now.saturating_duration_since(self.at).as_millis();
        self.wall_ms + i64::try_from(passed).unwrap_or(0)
    }

    /// As ISO 8601.
    pub fn iso(&self, now: Instant) -> String {
        jiff::Timestamp::from_millisecond(self.wall(now))
            .map(|time| time.to_string())
            .unwrap_or_default()
    }

    /// The moment from which it counts, and the time of day then.
    pub(crate) fn begun(&self) -> (Instant, i64) {
        (self.at, self.wall_ms)
    }
}
