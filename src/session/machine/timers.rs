//! What time brings about in a session, and when.

use std::time::Instant;

use super::credentials::EXPIRY_LEEWAY;
use super::subscribing::PATTERN_REFRESH;
use super::{Phase, Session};
use crate::session::protocol::close::Close;
use crate::session::subscription::SessionContext;

impl Session {
    /// When [`Session::tick`] will have something to do.
    pub fn next_tick(&self) -> Option<Instant> {
        let phase = match self.phase {
            Phase::Opened(until) | Phase::Draining(until) => Some(until),
            Phase::Checking | Phase::Closing | Phase::Closed => None,
            Phase::Ready => self
                .is_idle()
                .then(|| self.last_frame + self.rules.idle_timeout),
        };
        let expiry = self.expires().filter(|_| !self.is_ending()).map(|at| {
            let ends = at + EXPIRY_LEEWAY;
            self.warn_at.map_or(ends, |warn| warn.min(ends))
        });
        let group = self.group.as_ref().and_then(|group| group.next_tick());
        let pattern = self.next_pattern.filter(|_| !self.is_ending());
        let tails = self.tails.iter().filter_map(|tail| tail.next_tick()).min();
        [phase, expiry, group, pattern, tails]
            .into_iter()
            .flatten()
            .min()
    }

    /// Nothing goes on but what the client may ask for next.
    fn is_idle(&self) -> bool {
        self.group.is_none()
            && self.subscribing.is_none()
            && self.requests.is_empty()
            && self.tails.is_empty()
            && self.opening.is_empty()
    }

    fn is_ending(&self) -> bool {
        matches!(self.phase, Phase::Closing | Phase::Closed)
    }

    /// Does what time has brought about.
    pub fn tick(&mut self, now: Instant) {
        match self.phase {
            Phase::Opened(until) if now >= until => {
                self.close(Close::HelloTimeout, "no hello with a token came", now);
            }
            Phase::Draining(until) if now >= until => self.drain_further(now),
            Phase::Ready if self.is_idle() && now >= self.last_frame + self.rules.idle_timeout => {
                self.close(
                    Close::IdleTimeout,
                    "no subscription, and no frame in a long time",
                    now,
                );
            }
            _ => {}
        }
        if !self.is_ending()
            && let Some(at) = self.expires()
        {
            self.tell_expiry(now);
            if now >= at + EXPIRY_LEEWAY {
                self.close(
                    Close::AuthExpired,
                    "the token or certificate has expired",
                    now,
                );
            }
        }
        if !self.is_ending() && self.next_pattern.is_some_and(|at| now >= at) {
            self.next_pattern = Some(now + PATTERN_REFRESH);
            if let Some(group) = &self.group
                && self.lookup.is_none()
            {
                self.look_up(group.asked().clone());
            }
        }
        for tail in &mut self.tails {
            tail.tick(&mut SessionContext {
                out: &mut self.out,
                effects: &mut self.effects,
                clock: self.clock,
                now,
            });
        }
        let over = self.with_group(now, |group, context| group.tick(context));
        if let Some(Some(over)) = over {
            self.over(over, now);
            self.catch_up(now);
        }
        self.settle(now);
    }
}
