//! How often a client may do what costs us something: frames that were refused, and frames in all.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// So many refused frames in this time end the session.
const MOST_ERRORS: usize = 50;
const ERROR_TIME: Duration = Duration::from_secs(60);
/// Frames a second, other than those that are part of every delivery.
const FRAMES_PER_SECOND: u32 = 2_000;

/// Counts refused frames.
#[derive(Debug, Default)]
pub struct Errors {
    times: VecDeque<Instant>,
}

impl Errors {
    /// One more; false when that is too many.
    pub fn count(&mut self, now: Instant) -> bool {
        while self
            .times
            .front()
            .is_some_and(|time| now.duration_since(*time) > ERROR_TIME)
        {
            self.times.pop_front();
        }
        self.times.push_back(now);
        self.times.len() < MOST_ERRORS
    }
}

/// Counts frames.
#[derive(Debug)]
pub struct Rate {
    left: u32,
    since: Instant,
}

impl Rate {
    /// A full bucket.
    pub fn new(now: Instant) -> Self {
        Self {
            left: FRAMES_PER_SECOND,
            since: now,
        }
    }

    /// One more; false when that is too many.
    pub fn admits(&mut self, now: Instant) -> bool {
        if now.duration_since(self.since) >= Duration::from_secs(1) {
            self.since = now;
            self.left = FRAMES_PER_SECOND;
        }
        let admitted = self.left > 0;
        self.left = self.left.saturating_sub(1);
        admitted
    }
}
