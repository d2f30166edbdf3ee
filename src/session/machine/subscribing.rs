//! The subscription of a group, from `subscribe` to its end: its topics are looked up, its member joins,
//! tells what happens, and goes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Phase, Session, draining, url_subscription};
use crate::delivery::DeadLetterId;
use crate::kafka::fault::Fault;
use crate::kafka::member;
use crate::session::effect::Effect;
use crate::session::protocol::client::Subscribe;
use crate::session::protocol::close::Close;
use crate::session::protocol::server::{Error, ServerFrame, Unsubscribed};
use crate::session::protocol::topic_error::topic_error;
use crate::session::static_members::Foreign;
use crate::session::subscription::group::options::Options as GroupOptions;
use crate::session::subscription::group::{Ending, Group, Over};
use crate::session::subscription::options::{self, Options, Topics};

/// How often the topics that a pattern matches are looked up again.
pub(super) const PATTERN_REFRESH: Duration = Duration::from_secs(5);

impl Session {
    pub(super) fn subscribe(&mut self, asked: Subscribe, now: Instant) {
        let id = asked.id.clone();
        let sub: String = asked.sub.chars().take(64).collect();
        if let Err(error) = self.try_subscribe(asked) {
            let error = Error {
                id,
                sub: Some(sub),
                ..error
            };
            self.refuse_subscription(error, now);
        }
    }

    /// In the short way there is no frame to answer, so the session ends.
    pub(super) fn refuse_subscription(&mut self, error: Error, now: Instant) {
        let is_short = error
            .sub
            .as_deref()
            .is_none_or(|sub| sub == url_subscription::SUB);
        if !(is_short && std::mem::take(&mut self.is_short)) {
            // What the client has sent for it, or sends before it hears of this, is not its fault.
            self.ended.clone_from(&error.sub);
            return self.error(error, now);
        }
        let close = match error.code {
            "forbidden" => Close::Forbidden,
            "topic_not_found" => Close::NotFound,
            "kafka_unavailable" | "timeout" => Close::KafkaUnavailable,
            "kafka_error" => Close::Internal,
            "overrun" => Close::SlowConsumer,
            "limit_exceeded" | "draining" if error.retriable => Close::Overloaded,
            _ => Close::InvalidSubscription,
        };
        self.close(close, error.message, now);
    }

    fn try_subscribe(&mut self, asked: Subscribe) -> Result<(), Error> {
        if matches!(self.phase, Phase::Draining(_)) {
            return Err(draining());
        }
        options::check_sub(&asked.sub)?;
        if self.is_taken(&asked.sub) {
            return Err(Error {
                field: Some("sub".to_owned()),
                ..Error::new(
                    "already_subscribed",
                    format!("sub: {} is a subscription already", asked.sub),
                )
            });
        }
        match Options::new(asked, &self.rules)? {
            Options::Group(options) => self.open_group(options),
            Options::Tail(options) => self.open_tail(*options),
        }
    }

    /// Begins to make the subscription of a group; its name is not taken.
    fn open_group(&mut self, options: Box<GroupOptions>) -> Result<(), Error> {
        if self.group.is_some() || self.subscribing.is_some() {
            return Err(Error::new(
                "limit_exceeded",
                "a session has at most one group subscription",
            ));
        }
        self.check_rights(&options)?;
        self.look_up(options.topics.clone());
        self.subscribing = Some(options);
        Ok(())
    }

    /// Has the topics of the subscription looked up that is, or is being made.
    pub(super) fn look_up(&mut self, topics: Topics) {
        let ticket = self.next_lookup;
        self.next_lookup += 1;
        self.lookup = Some(ticket);
        self.effects.push(Effect::Resolve(ticket, topics));
    }

    /// Whether a subscription, or one that is being made, is called so.
    fn is_taken(&self, name: &str) -> bool {
        let group = self.group.as_ref().map(|group| group.name());
        let tails = self.tails.iter().map(|tail| tail.name());
        self.is_being_made(name) || group.into_iter().chain(tails).any(|taken| taken == name)
    }

    /// Whether a subscription is called so whose `subscribe` has no answer yet.
    pub(super) fn is_being_made(&self, name: &str) -> bool {
        let subscribing = self.subscribing.as_ref().map(|o| o.common.sub.as_str());
        let opening = self.opening.iter().map(|opening| opening.name());
        subscribing.into_iter().chain(opening).any(|of| of == name)
    }

    /// The topics of a subscription were found: those of a list all exist, those of a pattern are
    /// all there are.
    pub fn resolved(&mut self, ticket: u64, found: Result<Vec<Arc<str>>, Fault>, now: Instant) {
        // Of a subscription that is no more.
        if self.lookup != Some(ticket) {
            return;
        }
        self.lookup = None;
        match self.subscribing.take() {
            Some(options) => {
                self.begin_group(options, found, now);
                self.catch_up(now);
            }
            None => self.retopic(found, now),
        }
    }

    fn begin_group(
        &mut self,
        options: Box<GroupOptions>,
        found: Result<Vec<Arc<str>>, Fault>,
        now: Instant,
    ) {
        let id = options.common.id().cloned();
        let sub = options.common.sub.clone();
        let topics = found
            .map(|topics| self.allowed(&options.topics, topics))
            .map_err(|fault| topic_error(&fault))
            .and_then(|topics| {
                // The token may have been renewed since.
                self.check_rights(&options)?;
                let visibility = self.visibility(&topics)?;
                Ok((topics, visibility))
            });
        let (topics, visibility) = match topics {
            Ok(topics) => topics,
            Err(error) => {
                let error = Error {
                    id,
                    sub: Some(sub),
                    ..error
                };
                return self.refuse_subscription(error, now);
            }
        };
        self.send(&ServerFrame::Subscribed(Box::new(
            options.common.subscribed(&topics),
        )));
        self.next_pattern =
            matches!(options.topics, Topics::Pattern(_)).then(|| now + PATTERN_REFRESH);
        let mut group = Group::new(*options, topics, visibility, self.next_tag, now);
        group.set_pressure(self.pressure);
        self.group = Some(Box::new(group));
        self.with_group(now, |group, context| group.join(false, context));
    }

    /// Of topics that the group gave up, these are not there any more.
    pub fn missing(&mut self, topics: &[Arc<str>], now: Instant) {
        self.with_group(now, |group, context| group.missing(topics, context));
    }

    fn retopic(&mut self, found: Result<Vec<Arc<str>>, Fault>, now: Instant) {
        let asked = match &self.group {
            Some(group) => group.asked().clone(),
            None => return,
        };
        if let Ok(found) = found {
            let topics = self.allowed(&asked, found);
            // What still comes of topics that it had is shown as before.
            let before = self.group.iter().flat_map(|group| group.topics());
            let all: Vec<_> = topics.iter().chain(before).cloned().collect();
            if let Ok(visibility) = self.visibility(&all) {
                self.with_group(now, |group, context| {
                    group.retopic(topics, visibility, context)
                });
            }
        }
    }

    /// The topics as a member cannot be made of them.
    pub fn not_joined(&mut self, fault: Fault, now: Instant) {
        self.over(Over::Failed(fault), now);
    }

    /// The static member that it was to be is another principal's.
    pub fn instance_refused(&mut self, foreign: &Foreign, now: Instant) {
        self.over(Over::Refused(*foreign), now);
    }

    /// Something happened in the group.
    pub fn member(&mut self, event: member::Event, now: Instant) {
        let over = self.with_group(now, |group, context| group.event(event, context));
        if let Some(Some(over)) = over {
            self.over(over, now);
        }
        self.catch_up(now);
        self.settle(now);
    }

    /// What became of a dead letter.
    pub fn dead_lettered(&mut self, id: DeadLetterId, failed: Option<&Fault>, now: Instant) {
        self.with_group(now, |group, context| {
            group.dead_lettered(id, failed, context)
        });
        self.settle(now);
    }

    pub(super) fn over(&mut self, over: Over, now: Instant) {
        let Some(mut group) = self.group.take() else {
            return;
        };
        self.next_tag = group.next_tag();
        let counted = group.counted();
        self.counted = counted;
        self.next_pattern = None;
        self.lookup = None;
        let sub = group.name().to_owned();
        self.ended = Some(sub.clone());
        match over {
            Over::Ended(Ending::Unsubscribe(id)) => {
                self.send(&ServerFrame::Unsubscribed(Unsubscribed { id, sub }));
            }
            Over::Ended(Ending::Forbidden | Ending::Session) => {}
            Over::Refused(foreign) => {
                let error = Error {
                    sub: Some(sub),
                    field: Some("instance_id".to_owned()),
                    ..Error::new("forbidden", foreign.to_string())
                };
                self.refuse_subscription(error, now);
            }
            Over::Failed(fault) => {
                let fenced = matches!(
                    fault.kafka_error,
                    Some("FENCED_INSTANCE_ID" | "FENCED_MEMBER_EPOCH")
                );
                let taken = fault.kafka_error == Some("UNRELEASED_INSTANCE_ID");
                if fenced || taken {
                    let close = if fenced {
                        Close::Fenced
                    } else {
                        Close::TakenOver
                    };
                    return self.close(close, fault.message, now);
                }
                let error = Error {
                    sub: Some(sub),
                    ..topic_error(&fault)
                };
                self.refuse_subscription(error, now);
            }
        }
    }
}
