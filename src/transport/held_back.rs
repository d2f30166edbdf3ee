//! Refusals to a connection whose requests are all refused come a little later each.
//!
//! A loop that sends what cannot be taken, and sends it again as soon as it is refused, is never slowed
//! by Kafka, as others are: three such loops took a fifth of the rate of sixty good writers. So after
//! some refusals in a row each further one is held back. The first request that is not refused ends it.
//! Only that connection waits. Refusals for a token, a right or a path that does not exist are limited
//! for their address too (`limits.refused_per_second`).

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use axum::http::StatusCode;

/// Refusals in a row that are answered at once: more than a person, or a test of a program, makes.
const AT_ONCE: u32 = 100;
/// How long each refusal after them is held back.
const HOLD: Duration = Duration::from_millis(10);

/// How many requests of one connection have been refused in a row.
#[derive(Debug, Default)]
pub struct Refused(AtomicU32);

impl Refused {
    /// A request of the connection gets this answer: how long that is held back.
    pub fn answered(&self, status: StatusCode) -> Option<Duration> {
        if !status.is_client_error() {
            // Most connections are never refused anything, and need no write here.
            if self.0.load(Ordering::Relaxed) > 0 {
                self.0.store(0, Ordering::Relaxed);
            }
            return None;
        }
        let before = self.0.load(Ordering::Relaxed);
        if before >= AT_ONCE {
            return Some(HOLD);
        }
        // Requests of HTTP/2 may meet here; one that is not counted does no harm.
        self.0.store(before + 1, Ordering::Relaxed);
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_delayed_only_after_refusals_in_a_row() {
        let refused = Refused::default();
        let bad = StatusCode::BAD_REQUEST;
        for _ in 0..AT_ONCE {
            assert_eq!(refused.answered(bad), None);
        }
        assert_eq!(refused.answered(bad), Some(HOLD));
        assert_eq!(
            refused.answered(StatusCode::UNPROCESSABLE_ENTITY),
            Some(HOLD)
        );
        for good in [StatusCode::OK, StatusCode::SERVICE_UNAVAILABLE] {
            assert_eq!(refused.answered(good), None);
            for _ in 0..AT_ONCE {
                assert_eq!(refused.answered(bad), None);
            }
            assert_eq!(refused.answered(bad), Some(HOLD));
        }
    }
}
