//! A session's tails: which there are, and how they come and go.

use std::sync::Arc;
use std::time::Instant;

use super::Session;
use crate::auth::permission::{Action, Authorize, Resource, authorize};
use crate::kafka::Watermarks;
use crate::kafka::fault::Fault;
use crate::kafka::tail::Ended;
use crate::session::effect::{Effect, TailEffect};
use crate::session::frame_queue::FrameQueue;
use crate::session::protocol::Id;
use crate::session::protocol::close::Close;
use crate::session::protocol::server::{Error, ServerFrame, TailPosition, Unsubscribed};
use crate::session::protocol::topic_error::topic_error;
use crate::session::subscription::SessionContext;
use crate::session::subscription::tail::options::Options;
use crate::session::subscription::tail::{Came, Given, MAX_TAILS, Tail, open_tail};

/// A tail that is being opened.
#[derive(Debug)]
pub(super) struct Opening {
    id: u64,
    options: Options,
}

impl Opening {
    pub(super) fn name(&self) -> &str {
        &self.options.common.sub
    }
}

impl Session {
    /// The tail with this id.
    pub fn tail(&self, id: u64) -> Option<&Tail> {
        self.tails.iter().find(|tail| tail.id() == id)
    }

    /// How many tails there are.
    pub fn tails(&self) -> usize {
        self.tails.len()
    }

    /// Where each of them stands.
    pub(super) fn tail_positions(&self) -> Vec<TailPosition> {
        let tails = self.tails.iter();
        tails
            .map(|tail| TailPosition {
                sub: tail.name().to_owned(),
                position: tail.position(),
            })
            .collect()
    }

    /// A tail, with where it puts what is to be sent and done.
    pub(super) fn with_tail<T>(
        &mut self,
        id: u64,
        now: Instant,
        act: impl FnOnce(&mut Tail, &mut SessionContext<'_>) -> T,
    ) -> Option<T> {
        let tail = self.tails.iter_mut().find(|tail| tail.id() == id)?;
        let mut context = SessionContext {
            out: &mut self.out,
            effects: &mut self.effects,
            clock: self.clock,
            now,
        };
        Some(act(tail, &mut context))
    }

    /// Begins to open a tail; its name is not taken.
    pub(super) fn open_tail(&mut self, mut options: Options) -> Result<(), Error> {
        if self.tails.len() + self.opening.len() >= MAX_TAILS {
            return Err(Error::new(
                "limit_exceeded",
                format!("a session has at most {MAX_TAILS} tails (welcome.limits.subs)"),
            ));
        }
        self.check_topics(&options.topics, authorize)?;
        options.view.visibility = self.visibility(&options.topics)?;
        let Some(principal) = &self.principal else {
            return Err(Error::new("forbidden", "nobody is known yet"));
        };
        let id = self.next_tail;
        self.next_tail += 1;
        let ask = open_tail::Ask {
            topics: options.topics.clone(),
            from: options.from.clone(),
            on_lag: options.on_lag,
            isolation: options.common.isolation(),
            view: options.view.clone(),
            principal: Arc::clone(principal.identity()),
        };
        self.effects
            .push(Effect::Tail(id, TailEffect::Open(Box::new(ask))));
        self.opening.push(Opening { id, options });
        Ok(())
    }

    fn check_topics(&self, topics: &[Arc<str>], ask: Authorize) -> Result<(), Error> {
        let Some(principal) = &self.principal else {
            return Err(Error::new("forbidden", "nobody is known yet"));
        };
        for topic in topics {
            ask(principal, Action::Consume, Resource::Topic(topic))
                .map_err(|denied| Error::new("forbidden", denied.to_string()))?;
        }
        Ok(())
    }

    /// What came of opening a tail; whether it is one now, and its followers are needed.
    pub fn tail_opened(
        &mut self,
        id: u64,
        found: Result<open_tail::Begun, Error>,
        now: Instant,
    ) -> bool {
        let is_open = self.opened(id, found, now);
        self.catch_up(now);
        is_open
    }

    fn opened(&mut self, id: u64, found: Result<open_tail::Begun, Error>, now: Instant) -> bool {
        let Some(at) = self.opening.iter().position(|opening| opening.id == id) else {
            return false;
        };
        let opening = self.opening.swap_remove(at);
        let options = opening.options;
        // The token may have been renewed since, or the gateway be about to stop.
        let begun = found.and_then(|begun| {
            if matches!(self.phase, super::Phase::Draining(_)) {
                return Err(super::draining());
            }
            self.check_topics(&options.topics, authorize)?;
            self.check_visibility(&options.view.visibility, &options.topics)?;
            Ok(begun)
        });
        let begun = match begun {
            Ok(begun) => begun,
            Err(error) => {
                let error = Error {
                    id: options.common.id().cloned(),
                    sub: Some(options.common.sub),
                    ..error
                };
                self.refuse_subscription(error, now);
                return false;
            }
        };
        let (backlog, isolation) = (begun.backlog, begun.isolation);
        // What it has to say of its beginning comes after `subscribed`, which says where that is.
        let mut said = FrameQueue::default();
        let mut context = SessionContext {
            out: &mut said,
            effects: &mut self.effects,
            clock: self.clock,
            now,
        };
        let tail = Tail::new(id, &options, begun, self.eof, self.pressure, &mut context);
        let mut subscribed = options.common.subscribed(&options.topics);
        subscribed.positions = Some(tail.positions());
        subscribed.position = Some(tail.position());
        subscribed.backlog = Some(backlog);
        subscribed.isolation = Some(isolation);
        self.send(&ServerFrame::Subscribed(Box::new(subscribed)));
        self.out.append(said);
        // Most have one, and there is no room for more in each session.
        self.tails.reserve_exact(1);
        self.tails.push(tail);
        true
    }

    /// Something came of the follower of a tail's topic.
    pub fn tail_came(&mut self, id: u64, index: usize, came: Came<'_>, now: Instant) {
        self.with_tail(id, now, |tail, context| tail.came(index, came, context));
    }

    /// Where a seek has gone: the followers are there already.
    pub fn tail_sought(
        &mut self,
        id: u64,
        request: Option<Id>,
        results: &[(open_tail::Seek, Result<i64, Fault>)],
        now: Instant,
    ) {
        self.with_tail(id, now, |tail, context| {
            tail.sought(request, results, context)
        });
    }

    /// Where the log of each partition ends, as far as Kafka has said.
    pub fn tail_ends(
        &mut self,
        id: u64,
        request: Option<Id>,
        found: &[(Arc<str>, Vec<Watermarks>)],
        now: Instant,
    ) {
        self.with_tail(id, now, |tail, context| tail.ends(request, found, context));
    }

    pub(super) fn tail_named(&self, name: &str) -> Option<u64> {
        let found = self.tails.iter().find(|tail| tail.name() == name);
        found.map(|tail| tail.id())
    }

    /// The tail is no more; with `say` the client is told.
    pub(super) fn drop_tail(&mut self, id: u64, request: Option<Id>, say: bool) {
        let Some(at) = self.tails.iter().position(|tail| tail.id() == id) else {
            return;
        };
        let mut tail = self.tails.remove(at);
        self.counted.delivered += tail.delivered();
        let sub = tail.name().to_owned();
        self.ended = Some(sub.clone());
        if say {
            self.send(&ServerFrame::Unsubscribed(Unsubscribed {
                id: request,
                sub,
            }));
        }
    }

    /// Drops all of them, and those that are being opened: the session ends.
    pub(super) fn drop_tails(&mut self) {
        self.opening.clear();
        for mut tail in std::mem::take(&mut self.tails) {
            self.counted.delivered += tail.delivered();
        }
    }

    /// The next frame of the tail at this place, if it has one that may go.
    pub(super) fn next_of_tail(&mut self, at: usize, room: usize, now: Instant) -> Option<Vec<u8>> {
        let id = self.tails.get(at)?.id();
        match self.with_tail(id, now, |tail, context| tail.next_frame(room, context))? {
            Ok(Given::Frame(frame)) => Some(frame),
            Ok(Given::Nothing) => None,
            Ok(Given::Ended(topic, ended)) => {
                self.tail_ended(id, &topic, &ended, now);
                None
            }
            Err(message) => {
                self.close(Close::DecodeError, message, now);
                None
            }
        }
    }

    /// Nothing comes any more of one of its topics: it is over, and the client is told why.
    fn tail_ended(&mut self, id: u64, topic: &str, ended: &Ended, now: Instant) {
        let Some(sub) = self.tail(id).map(|tail| tail.name().to_owned()) else {
            return;
        };
        let error = match ended {
            Ended::Deleted => Error::new(
                "topic_not_found",
                format!("topic {topic} was deleted; subscribe again when there is one"),
            ),
            Ended::Recreated => Error::new(
                "topic_not_found",
                format!(
                    "topic {topic} was deleted and created again: its offsets mean other records \
                     now; subscribe again"
                ),
            ),
            Ended::Overrun => Error {
                retriable: true,
                ..Error::new(
                    "overrun",
                    format!(
                        "the subscription could not keep up with topic {topic}, and on_lag is close"
                    ),
                )
            },
            Ended::Busy => Error {
                retriable: true,
                retry_after_ms: Some(30_000),
                ..Error::new(
                    "limit_exceeded",
                    "too many others are catching up; subscribe again later, from where this one \
                     stood",
                )
            },
            Ended::Failed(fault) => topic_error(fault),
            // It has no end.
            Ended::Until => Error::new("kafka_error", "the topic came to an end"),
        };
        // The position is of use to whoever goes on later.
        self.drop_tail(id, None, false);
        let error = Error {
            sub: Some(sub.clone()),
            ..error
        };
        self.refuse_subscription(error, now);
        self.send(&ServerFrame::Unsubscribed(Unsubscribed { id: None, sub }));
    }

    /// A right that the principal does not have any more, by a new token or now, ends the tails that need it,
    /// and so does another visibility.
    pub(super) fn check_tails(&mut self, ask: Authorize, now: Instant) {
        let check = |tail: &Tail| {
            let topics: Vec<Arc<str>> = tail.topics().cloned().collect();
            self.check_topics(&topics, ask)?;
            self.check_visibility(tail.visibility(), &topics)
        };
        let denied = self.tails.iter().filter_map(|tail| {
            let error = check(tail).err()?;
            Some((tail.id(), tail.name().to_owned(), error))
        });
        let denied: Vec<(u64, String, Error)> = denied.collect();
        for (id, sub, error) in denied {
            let error = Error {
                sub: Some(sub),
                ..error
            };
            self.error(error, now);
            self.drop_tail(id, None, true);
        }
    }
}
