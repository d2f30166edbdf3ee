//! How a session ends: what is acknowledged is committed, goodbye is said, and the group left.

use std::time::{Duration, Instant};

use super::{Closing, Phase, Session};
use crate::session::frame_queue::FrameQueue;
use crate::session::protocol::client::Bye;
use crate::session::protocol::close::Close;
use crate::session::protocol::server::{
    Committed, CommittedOffset, Drain, Error, Goodbye, ServerFrame,
};
use crate::session::subscription::group::Ending;

/// Within a draining gateway's time, what is kept for the last commits and frames.
const DRAIN_MARGIN: Duration = Duration::from_secs(2);

impl Session {
    /// Begins to end: commits what is acknowledged, then says goodbye.
    pub fn close(&mut self, close: Close, message: impl Into<String>, now: Instant) {
        self.close_with(
            Closing {
                close,
                message: message.into(),
                retry_after_ms: None,
                bye: None,
            },
            true,
            false,
            now,
        );
    }

    pub(super) fn close_with(&mut self, closing: Closing, commit: bool, leave: bool, now: Instant) {
        if matches!(self.phase, Phase::Closing | Phase::Closed) {
            return;
        }
        self.phase = Phase::Closing;
        self.closing = Some(closing);
        self.subscribing = None;
        self.behind.clear();
        self.lookup = None;
        self.drop_tails();
        let stay = self
            .group
            .as_ref()
            .is_some_and(|group| group.instance_id().is_some())
            && !leave;
        self.with_group(now, |group, context| {
            group.end(Ending::Session, commit, stay, context);
        });
        self.close_further();
    }

    /// Says goodbye once the last commit has its answer.
    pub(super) fn close_further(&mut self) {
        let committed = self
            .group
            .as_ref()
            .is_none_or(|group| group.has_committed());
        if self.phase != Phase::Closing || !committed {
            return;
        }
        let committed = self
            .group
            .as_ref()
            .map(|group| group.last_committed())
            .unwrap_or_default();
        if let Some(closing) = self.closing.clone() {
            if let Some(id) = closing.bye {
                let positions = committed.iter().map(|at| CommittedOffset {
                    topic: at.topic.clone(),
                    partition: at.partition,
                    offset: at.offset,
                    error: None,
                });
                self.send(&ServerFrame::Committed(Committed {
                    id,
                    sub: self.group.as_ref().map(|group| group.name().to_owned()),
                    positions: positions.collect(),
                }));
            }
            self.send(&ServerFrame::Goodbye(Goodbye {
                code: closing.close.code(),
                name: closing.close.name(),
                message: closing.message,
                retry_after_ms: closing.retry_after_ms,
                resume: None,
                committed,
            }));
        }
        self.phase = Phase::Closed;
    }

    pub(super) fn bye(&mut self, bye: Bye, now: Instant) {
        self.close_with(
            Closing {
                close: Close::Bye,
                message: "bye".to_owned(),
                retry_after_ms: None,
                bye: Some(bye.id),
            },
            bye.commit.unwrap_or(true),
            bye.leave.unwrap_or(false),
            now,
        );
    }

    /// The gateway is about to stop: nothing new, and an end once nothing is outstanding, at the
    /// latest after `grace`. The client is asked to connect again after `reconnect_after`.
    pub fn drain(&mut self, grace: Duration, reconnect_after: Duration, now: Instant) {
        if matches!(
            self.phase,
            Phase::Closing | Phase::Closed | Phase::Draining(_)
        ) {
            return;
        }
        let grace = grace.saturating_sub(DRAIN_MARGIN);
        let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(0);
        self.phase = Phase::Draining(now + grace);
        self.send(&ServerFrame::Drain(Drain {
            deadline_ms: ms(grace),
            resume: None,
            reconnect_after_ms: ms(reconnect_after),
            tails: self.tail_positions(),
        }));
        self.short = None;
        self.reconnect_after_ms = ms(reconnect_after);
        self.drain_further(now);
    }

    pub(super) fn drain_further(&mut self, now: Instant) {
        let Phase::Draining(until) = self.phase else {
            return;
        };
        let quiet = self.requests.is_empty()
            && self.behind.is_empty()
            && self.group.as_ref().is_none_or(|group| group.is_quiet());
        if !quiet && now < until {
            return;
        }
        self.close_with(
            Closing {
                close: Close::Drained,
                message: "the gateway stops; connect again".to_owned(),
                retry_after_ms: Some(self.reconnect_after_ms),
                bye: None,
            },
            true,
            false,
            now,
        );
    }

    /// The socket is gone: what is acknowledged is committed and the group left.
    pub fn lost(&mut self, now: Instant) {
        self.lost = true;
        self.close(Close::Bye, "the connection was lost", now);
        self.out = FrameQueue::default();
        self.phase = match self.phase {
            Phase::Closing => Phase::Closing,
            _ => Phase::Closed,
        };
    }

    /// What a change may have made possible.
    pub(super) fn settle(&mut self, now: Instant) {
        self.close_further();
        if matches!(self.phase, Phase::Draining(_)) {
            self.drain_further(now);
        }
    }
}

pub(super) fn draining() -> Error {
    Error {
        retriable: true,
        ..Error::new("draining", "the gateway is about to stop; connect again")
    }
}
