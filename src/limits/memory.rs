//! Bytes of records that are kept for clients until they take or acknowledge them, over all APIs that
//! keep any: WebSocket sessions and consumer instances. `limits.buffer_total_bytes` bounds them together.

use std::sync::atomic::{AtomicU64, Ordering};

/// What all of them keep, and may keep.
#[derive(Debug)]
pub struct Budget {
    kept: AtomicU64,
    most: u64,
}

impl Budget {
    /// For `most` bytes.
    pub fn new(most: u64) -> Self {
        Self {
            kept: AtomicU64::new(0),
            most,
        }
    }

    /// Somebody keeps `now` bytes, who kept `before`.
    pub fn keeps(&self, before: u64, now: u64) {
        if now >= before {
            self.kept.fetch_add(now - before, Ordering::Relaxed);
        } else {
            self.kept.fetch_sub(before - now, Ordering::Relaxed);
        }
    }

    /// How much of it is used, in tenths; more than ten where it is exceeded.
    pub fn tenths(&self) -> u64 {
        let kept = self.kept.load(Ordering::Relaxed);
        kept.saturating_mul(10) / self.most.max(1)
    }

    /// Nobody new may keep anything.
    pub fn is_used_up(&self) -> bool {
        self.kept.load(Ordering::Relaxed) >= self.most
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_budget_is_used_up_by_the_sum_of_what_all_keep() {
        let budget = Budget::new(1_000);
        budget.keeps(0, 700);
        budget.keeps(0, 200);
        assert!(budget.tenths() == 9 && !budget.is_used_up());
        budget.keeps(200, 300);
        assert!(budget.is_used_up());
        budget.keeps(700, 0);
        assert_eq!(budget.tenths(), 3);
    }
}
