//! Limits how often one address may be refused (`limits.refused_per_second`). To find out that a token is bad
//! costs a signature check, so whoever sends nothing else is told to wait before it is looked at.
//!
//! Only refusals count, so that it does not matter how many good callers share an address; and whoever
//! shows a token that was verified before is let in all the same, whatever his neighbours do. A token
//! that cannot be judged, because its issuer's keys cannot be had, is refused like any other.
//!
//! Buckets hold one second's worth, as those of `http::rate_limit` do. They are not governor's, since a
//! bucket must be looked into here without taking from it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use moka::policy::EvictionPolicy;
use moka::sync::Cache;
use parking_lot::Mutex;

/// Most addresses whose buckets are kept; the one that was refused longest ago goes first.
const BUCKETS: u64 = 100_000;
/// What a full bucket holds.
const HOLDS: Duration = Duration::from_secs(1);
/// A bucket that was left alone for so long is full.
const IDLE: Duration = Duration::from_secs(2);

/// An address was refused too often.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooMany {
    /// `limits.refused_per_second`.
    pub limit: u32,
    /// How long until it is listened to again.
    pub wait: Duration,
}

/// Limits refusals, and knows which addresses were refused lately.
#[derive(Debug)]
pub struct FailureLimiter {
    limit: u32,
    /// Time in which a bucket gets one place back.
    step: Duration,
    /// When each bucket is full again.
    full_at: Cache<u128, Arc<Mutex<Instant>>>,
    started: Instant,
    /// Milliseconds from then to the last refusal of anyone: mostly long enough ago for no bucket to
    /// be worth a look.
    last: AtomicU64,
}

impl FailureLimiter {
    /// `None` without a limit.
    pub fn new(per_second: u32) -> Option<Self> {
        Some(Self {
            limit: per_second,
            step: HOLDS.checked_div(per_second)?,
            full_at: Cache::builder()
                .max_capacity(BUCKETS)
                .time_to_idle(IDLE)
                .eviction_policy(EvictionPolicy::lru())
                .build(),
            started: Instant::now(),
            last: AtomicU64::new(0),
        })
    }

    /// Counts a refusal of `who`.
    ///
    /// # Errors
    ///
    /// [`TooMany`] when there was no room for it.
    pub fn count(&self, who: u128) -> Result<(), TooMany> {
        let now = Instant::now();
        self.last.store(self.millis(now).max(1), Ordering::Relaxed);
        let bucket = self.full_at.get_with(who, || Arc::new(Mutex::new(now)));
        let mut full_at = bucket.lock();
        self.room(*full_at, now)?;
        *full_at = (*full_at).max(now) + self.step;
        Ok(())
    }

    /// Whether there is room for another refusal of `who`.
    ///
    /// # Errors
    ///
    /// [`TooMany`] when there is none.
    pub fn check(&self, who: u128) -> Result<(), TooMany> {
        let last = self.last.load(Ordering::Relaxed);
        if last == 0 {
            return Ok(());
        }
        let now = Instant::now();
        let since = self.millis(now).saturating_sub(last);
        if u128::from(since) > HOLDS.as_millis() {
            return Ok(());
        }
        match self.full_at.get(&who) {
            Some(full_at) => self.room(*full_at.lock(), now),
            None => Ok(()),
        }
    }

    fn room(&self, full_at: Instant, now: Instant) -> Result<(), TooMany> {
        let missing = full_at.saturating_duration_since(now) + self.step;
        match missing.checked_sub(HOLDS) {
            Some(wait) if !wait.is_zero() => Err(TooMany {
                limit: self.limit,
                wait,
            }),
            _ => Ok(()),
        }
    }

    fn millis(&self, now: Instant) -> u64 {
        let since = now.duration_since(self.started).as_millis();
        u64::try_from(since).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_address_is_refused_so_often_and_then_not_listened_to() {
        // Where the machine stands still for half a second, a place has come back meanwhile.
        let used_up = || {
            let failure_limiter = FailureLimiter::new(2).unwrap();
            assert_eq!(failure_limiter.check(1), Ok(()));
            for _ in 0..2 {
                assert_eq!(failure_limiter.check(1), Ok(()));
                assert_eq!(failure_limiter.count(1), Ok(()));
            }
            let over = failure_limiter.check(1).err()?;
            failure_limiter
                .count(1)
                .is_err()
                .then_some((failure_limiter, over))
        };
        let (failure_limiter, over) = (0..20).find_map(|_| used_up()).unwrap();
        assert_eq!(over.limit, 2);
        assert!(over.wait <= Duration::from_millis(500), "{over:?}");
        assert_eq!(failure_limiter.check(2), Ok(()), "somebody else");
        // What was not let in takes nothing, so it does not put the end off.
        std::thread::sleep(over.wait + Duration::from_millis(20));
        assert_eq!(failure_limiter.count(1), Ok(()));
    }

    #[test]
    fn a_limit_of_zero_makes_no_failure_limiter() {
        assert!(FailureLimiter::new(0).is_none());
        let fast = FailureLimiter::new(1_000_000).unwrap();
        assert_eq!(fast.count(1), Ok(()));
    }
}
