//! What the principal may do and is shown, asked when it subscribes and again when its token is renewed, and
//! when what the gateway knows of principals has been read again.

use std::sync::Arc;
use std::time::Instant;

use super::{Closing, Session};
use crate::auth::permission::{
    Action, Authorize, Denied, Resource, authorize, is_allowed, reauthorize,
};
use crate::auth::policy::{self, RecordVisibility};
use crate::kafka::fault::Fault;
use crate::reserved::{Keeper, keeper};
use crate::session::protocol::close::Close;
use crate::session::protocol::server::Error;
use crate::session::protocol::topic_error::topic_error;
use crate::session::subscription::group::Ending;
use crate::session::subscription::group::options::{DeadLetters, Options};
use crate::session::subscription::options::Topics;

impl Session {
    pub(super) fn check_rights(&self, options: &Options) -> Result<(), Error> {
        let Some(principal) = &self.principal else {
            return Err(Error::new("forbidden", "nobody is known yet"));
        };
        let forbidden = |denied: Denied| Error::new("forbidden", denied.to_string());
        authorize(principal, Action::Group, Resource::Group(&options.group)).map_err(forbidden)?;
        if let Topics::Names(names) = &options.topics {
            for name in names {
                authorize(principal, Action::Consume, Resource::Topic(name)).map_err(forbidden)?;
            }
        }
        if let DeadLetters::Topic(topic) = &options.dead_letters {
            authorize(principal, Action::Produce, Resource::Topic(topic)).map_err(forbidden)?;
            if keeper(topic) == Keeper::Kafka {
                return Err(topic_error(&Fault::kept_by_kafka(topic)));
            }
        }
        Ok(())
    }

    /// Which of their records the principal is shown.
    pub(super) fn visibility(&self, topics: &[Arc<str>]) -> Result<RecordVisibility, Error> {
        let Some(principal) = &self.principal else {
            return Err(Error::new("forbidden", "nobody is known yet"));
        };
        policy::visibility(principal, topics)
            .map_err(|not_visible| Error::new("forbidden", not_visible.to_string()))
    }

    /// What the principal is shown must still be this.
    pub(super) fn check_visibility(
        &self,
        visibility: &RecordVisibility,
        topics: &[Arc<str>],
    ) -> Result<(), Error> {
        if self.visibility(topics)? == *visibility {
            return Ok(());
        }
        Err(Error::new(
            "forbidden",
            "other records are shown to you now (auth.topic_filters): subscribe again",
        ))
    }

    /// Of what a pattern finds, what the principal may consume.
    pub(super) fn allowed(&self, asked: &Topics, found: Vec<Arc<str>>) -> Vec<Arc<str>> {
        let Topics::Pattern(pattern) = asked else {
            return found;
        };
        let Some(principal) = &self.principal else {
            return Vec::new();
        };
        let mut topics = found;
        topics.retain(|name| {
            pattern.matches(name)
                && is_allowed(principal, Action::Consume, Resource::Topic(name))
                && policy::may_see(principal, name)
        });
        topics.sort_unstable();
        topics
    }

    /// Roles, users or issuers' keys were read again: whoever is no principal any more has no session, and a
    /// subscription ends whose right is gone.
    pub fn rights_changed(&mut self, now: Instant) {
        match &self.principal {
            None => {}
            // It leaves the group at once, also as a static member: it does not come back.
            Some(principal) if !principal.is_known() => {
                let closing = Closing {
                    close: Close::Unauthenticated,
                    message: Denied::Gone.to_string(),
                    retry_after_ms: None,
                    bye: None,
                };
                self.close_with(closing, true, true, now);
            }
            Some(_) => {
                self.check_kept_rights(reauthorize, now);
                self.check_tails(reauthorize, now);
            }
        }
    }

    /// A right that the principal does not have any more, by a new token or now, ends the subscription that needs it. So does a claim
    /// by which the new one is shown other records: what waits to be delivered was picked by the old.
    pub(super) fn check_kept_rights(&mut self, ask: Authorize, now: Instant) {
        let (Some(group), Some(principal)) = (&self.group, &self.principal) else {
            return;
        };
        if group.is_leaving() {
            return;
        }
        let of_group = ask(principal, Action::Group, Resource::Group(group.group()));
        let of_topics = group.topics().iter().map(|topic| {
            let denied = ask(principal, Action::Consume, Resource::Topic(topic));
            denied.map(|_| ())
        });
        let denied = std::iter::once(of_group)
            .chain(of_topics)
            .find_map(Result::err);
        let seen: Vec<_> = group.sees().topics().cloned().collect();
        let sees_other = || self.check_visibility(group.sees(), &seen).err();
        let denied = denied
            .map(|denied| Error::new("forbidden", denied.to_string()))
            .or_else(sees_other);
        if let Some(denied) = denied {
            let error = Error {
                sub: Some(group.name().to_owned()),
                ..denied
            };
            self.error(error, now);
            self.with_group(now, |group, context| {
                group.end(Ending::Forbidden, true, false, context);
            });
        }
    }
}
