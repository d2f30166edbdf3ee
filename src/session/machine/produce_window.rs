//! Records that a client writes over its socket: how many may be without an answer, and the answers
//! of requests that may be sent again.

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::{Duration, Instant};

use crate::session::frame_queue::Weight;
use crate::session::protocol::Id;
use crate::session::protocol::server::ProduceWindow;

/// What may be without an answer.
pub const WINDOW: ProduceWindow = ProduceWindow {
    requests: 100,
    records: 10_000,
    bytes: 8 << 20,
};
/// A client that keeps beyond its window for so long is closed.
const LONGEST_OVERRUN: Duration = Duration::from_secs(30);
/// Answers that are remembered: this many, for this long, of so many bytes together.
const REMEMBERED: usize = 1_000;
const REMEMBERED_FOR: Duration = Duration::from_secs(300);
const REMEMBERED_BYTES: usize = 256 << 10;

/// What becomes of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Admission {
    /// It is inside the window.
    Admitted,
    /// It was answered before, with these results as JSON.
    Answered(String),
    /// It is being answered.
    Open,
    /// It is outside of the window; with true, and has been for too long.
    Overrun(bool),
}

#[derive(Debug)]
struct Answer {
    id: Id,
    results: String,
    at: Instant,
}

/// A session's produce requests.
#[derive(Debug, Default)]
pub struct Producing {
    requests: u64,
    records: u64,
    bytes: u64,
    open: HashSet<Id>,
    overrun_since: Option<Instant>,
    answers: VecDeque<Answer>,
    answered: HashMap<Id, u32>,
    remembered_bytes: usize,
}

impl Producing {
    /// Whether the request `id` may go on.
    pub fn admit(&mut self, id: &Id, weight: Weight, now: Instant) -> Admission {
        if self.open.contains(id) {
            return Admission::Open;
        }
        self.forget(now);
        if self.answered.contains_key(id)
            && let Some(answer) = self.answers.iter().rfind(|answer| answer.id == *id)
        {
            return Admission::Answered(answer.results.clone());
        }
        let fits = self.requests < WINDOW.requests
            && (self.requests == 0
                || (self.records + weight.records <= WINDOW.records
                    && self.bytes + weight.bytes <= WINDOW.bytes));
        if !fits {
            let since = *self.overrun_since.get_or_insert(now);
            return Admission::Overrun(now.duration_since(since) >= LONGEST_OVERRUN);
        }
        self.overrun_since = None;
        self.requests += 1;
        self.records += weight.records;
        self.bytes += weight.bytes;
        self.open.insert(id.clone());
        Admission::Admitted
    }

    /// The request has its answer: these results, unless nothing of it was looked at and it may be
    /// sent again.
    pub fn answered(&mut self, id: &Id, results: Option<&str>, now: Instant) {
        self.open.remove(id);
        let Some(results) = results else {
            return;
        };
        if results.len() > REMEMBERED_BYTES / 4 {
            return;
        }
        self.remembered_bytes += results.len();
        *self.answered.entry(id.clone()).or_default() += 1;
        self.answers.push_back(Answer {
            id: id.clone(),
            results: results.to_owned(),
            at: now,
        });
        self.forget(now);
    }

    /// The answer has gone out: its place is free.
    pub fn gone(&mut self, weight: Weight) {
        self.requests = self.requests.saturating_sub(1);
        self.records = self.records.saturating_sub(weight.records);
        self.bytes = self.bytes.saturating_sub(weight.bytes);
    }

    /// Bytes of what has no answer yet.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether nothing waits for an answer.
    pub fn is_quiet(&self) -> bool {
        self.open.is_empty()
    }

    fn forget(&mut self, now: Instant) {
        while let Some(oldest) = self.answers.front()
            && (self.answers.len() > REMEMBERED
                || self.remembered_bytes > REMEMBERED_BYTES
                || now.duration_since(oldest.at) > REMEMBERED_FOR)
        {
            if let Some(oldest) = self.answers.pop_front() {
                self.remembered_bytes -= oldest.results.len();
                if let Some(count) = self.answered.get_mut(&oldest.id) {
                    *count -= 1;
                    if *count == 0 {
                        self.answered.remove(&oldest.id);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: Weight = Weight {
        records: 1,
        bytes: 100,
    };

    #[test]
    fn a_request_beyond_the_window_is_not_admitted() {
        let now = Instant::now();
        let mut producing = Producing::default();
        for id in 0..100 {
            assert_eq!(
                producing.admit(&Id::Number(id), ONE, now),
                Admission::Admitted
            );
        }
        assert_eq!(
            producing.admit(&Id::Number(100), ONE, now),
            Admission::Overrun(false)
        );
        producing.answered(&Id::Number(0), Some("[]"), now);
        assert_eq!(
            producing.admit(&Id::Number(100), ONE, now),
            Admission::Overrun(false),
            "the answer has not gone out"
        );
        let late = now + Duration::from_secs(31);
        assert_eq!(
            producing.admit(&Id::Number(100), ONE, late),
            Admission::Overrun(true)
        );
        producing.gone(ONE);
        assert_eq!(
            producing.admit(&Id::Number(100), ONE, late),
            Admission::Admitted
        );
        let large = Weight {
            records: 1,
            bytes: 100 << 20,
        };
        let mut producing = Producing::default();
        assert_eq!(
            producing.admit(&Id::Number(1), large, now),
            Admission::Admitted,
            "alone, so that it is not refused for ever"
        );
    }

    #[test]
    fn a_request_sent_again_is_answered_as_the_first_time() {
        let now = Instant::now();
        let mut producing = Producing::default();
        let id = Id::Text("a".into());
        assert_eq!(producing.admit(&id, ONE, now), Admission::Admitted);
        assert_eq!(producing.admit(&id, ONE, now), Admission::Open);
        producing.answered(&id, Some("[1]"), now);
        assert_eq!(
            producing.admit(&id, ONE, now),
            Admission::Answered("[1]".into())
        );
        let late = now + Duration::from_secs(301);
        assert_eq!(producing.admit(&id, ONE, late), Admission::Admitted);
        producing.answered(&id, None, late);
        assert_eq!(producing.admit(&id, ONE, late), Admission::Admitted);
    }

    #[test]
    fn remembered_answers_take_bounded_memory() {
        let now = Instant::now();
        let mut producing = Producing::default();
        for id in 0..5_000 {
            let id = Id::Number(id);
            producing.admit(&id, ONE, now);
            producing.answered(&id, Some(&"x".repeat(1_000)), now);
            producing.gone(ONE);
        }
        assert!(producing.remembered_bytes <= REMEMBERED_BYTES);
        assert_eq!(producing.answers.len(), producing.answered.len());
        assert!(producing.is_quiet());
    }
}
