//! Whose session it is: `hello` and `welcome`, tokens that are renewed, and tokens that expire.

use std::time::{Duration, Instant};

use super::produce_window::WINDOW;
use super::{HEARTBEAT_MS, Phase, Session};
use crate::auth::permission::{Denied, authorize};
use crate::auth::{Principal, notice};
use crate::session::effect::{Authenticated, Effect};
use crate::session::protocol::client::Hello;
use crate::session::protocol::close::Close;
use crate::session::protocol::server::{
    AuthExpiring, Done, Error, Inflight, Limits, ServerFrame, Subs, Welcome,
};
use crate::session::protocol::{Id, MINOR};
use crate::session::subscription::tail::MAX_TAILS;

/// How long after that the session ends.
pub(super) const EXPIRY_LEEWAY: Duration = Duration::from_secs(5);
/// What this gateway offers beyond the core.
const FEATURES: [&str; 2] = ["eof", "filter"];
/// Of these, what is on only for clients that ask for it.
const EOF: &str = "eof";
/// Longest `client` of `hello`, for the log.
const MAX_CLIENT: usize = 64;

impl Session {
    pub(super) fn hello(&mut self, hello: Hello, now: Instant) {
        if self.principal.is_some() {
            return self.ready(Some(hello), now);
        }
        match hello.token.clone() {
            Some(token) => {
                self.phase = Phase::Checking;
                self.renewing = Some(hello.id.clone());
                self.hello = Some(hello);
                self.effects.push(Effect::Authenticate(token));
            }
            None => self.close(
                Close::Unauthenticated,
                "hello has no token, and the upgrade had no credentials",
                now,
            ),
        }
    }

    pub(super) fn ready(&mut self, hello: Option<Hello>, now: Instant) {
        self.phase = Phase::Ready;
        self.welcome(hello, now);
        match self.short.take().map(|short| *short) {
            Some(Ok(short)) => self.subscribe(short, now),
            Some(Err(error)) => self.refuse_subscription(error, now),
            None => {}
        }
    }

    pub(super) fn ready_again(&mut self, hello: Hello, now: Instant) {
        match hello.token.clone() {
            // A second one is as good as `auth`, with `welcome` for an answer.
            Some(token) if !self.rules.open => {
                self.renewing = Some(hello.id.clone());
                self.hello = Some(hello);
                self.effects.push(Effect::Authenticate(token));
            }
            _ => {
                self.welcome(Some(hello), now);
            }
        }
    }

    pub(super) fn welcome(&mut self, hello: Option<Hello>, now: Instant) {
        let id = hello.as_ref().and_then(|hello| hello.id.clone());
        if let Some(ms) = hello.as_ref().and_then(|hello| hello.heartbeat_ms) {
            let ms = ms.clamp(HEARTBEAT_MS.0, HEARTBEAT_MS.1);
            self.heartbeat = Duration::from_millis(u64::try_from(ms).unwrap_or(20_000));
        }
        if let Some(features) = hello.as_ref().and_then(|hello| hello.features.as_ref()) {
            self.eof = features.iter().any(|feature| feature == EOF);
        }
        if let Some(client) = hello.and_then(|hello| hello.client) {
            let client: String = client.chars().take(MAX_CLIENT).collect();
            tracing::debug!(session = self.id, client, "a client says what it is");
        }
        let principal = self
            .principal
            .as_ref()
            .filter(|principal| !principal.is_anonymous())
            .map(|principal| principal.name().to_owned());
        let welcome = Welcome {
            id,
            session: self.id.clone(),
            resume: None,
            minor: MINOR,
            features: FEATURES.to_vec(),
            principal,
            limits: Limits {
                max_frame: self.rules.max_frame,
                produce_window: WINDOW,
                max_inflight: Inflight {
                    records: self.rules.max_inflight_records,
                    bytes: self.rules.max_inflight_bytes,
                },
                subs: Subs {
                    group: 1,
                    tail: u32::try_from(MAX_TAILS).unwrap_or(0),
                },
            },
            heartbeat_ms: u64::try_from(self.heartbeat.as_millis()).unwrap_or(0),
            server_time: self.clock.wall(now),
            resumed: false,
        };
        self.send(&ServerFrame::Welcome(welcome));
    }

    pub(super) fn auth(&mut self, id: Option<Id>, token: String, now: Instant) {
        if self.rules.open {
            return self.send(&ServerFrame::Ok(Done {
                id,
                ..Done::default()
            }));
        }
        if self.renewing.is_some() {
            let error = Error {
                id,
                retriable: true,
                ..Error::new("limit_exceeded", "another token is being checked")
            };
            return self.error(error, now);
        }
        self.renewing = Some(id);
        self.effects.push(Effect::Authenticate(token));
    }

    /// Whose the token is.
    pub fn authenticated(&mut self, found: Authenticated, now: Instant) {
        let Some(id) = self.renewing.take() else {
            return;
        };
        let hello = self.hello.take();
        if matches!(self.phase, Phase::Closing | Phase::Closed) {
            return;
        }
        let principal = match found {
            Ok(principal) if principal.is_known() => principal,
            // It went while it was looked at.
            Ok(_) => return self.close(Close::Unauthenticated, Denied::Gone.to_string(), now),
            Err(message) => return self.close(Close::Unauthenticated, message, now),
        };
        if self
            .principal
            .as_ref()
            .is_some_and(|known| known.identity() != principal.identity())
        {
            return self.close(
                Close::Unauthenticated,
                "the new token is another subject's",
                now,
            );
        }
        let is_first = self.phase == Phase::Checking || hello.is_some();
        if let Err(untold) = principal.begins_session(if is_first { "hello" } else { "auth" }) {
            return self.close(Close::Overloaded, untold.to_string(), now);
        }
        self.belongs_to(principal, now);
        if self.phase == Phase::Checking {
            return self.ready(hello, now);
        }
        match hello {
            Some(hello) => {
                self.welcome(Some(hello), now);
            }
            None => {
                self.send(&ServerFrame::Ok(Done {
                    id,
                    ..Done::default()
                }));
            }
        }
        self.check_kept_rights(authorize, now);
        self.check_tails(authorize, now);
    }

    /// The session is this principal's, until its credential expires. A credential that expires when the
    /// one before did is the same one, and the client has been told, or will be, all the same.
    pub(super) fn belongs_to(&mut self, principal: Principal, now: Instant) {
        let before = self.principal.as_ref().and_then(Principal::expires);
        let same = self.principal.is_some() && before == principal.expires();
        self.principal = Some(principal);
        if !same {
            self.warn_at = self.expires().map(|at| at - notice(at - now));
        }
    }

    pub(super) fn expires(&self) -> Option<Instant> {
        let principal = self.principal.as_ref()?;
        let (begun, wall_ms) = self.clock.begun();
        Some(begun + principal.time_left_from(wall_ms)?)
    }

    /// Tells the client once that its token is about to expire.
    pub(super) fn tell_expiry(&mut self, now: Instant) {
        let Some(at) = self.expires() else {
            return;
        };
        if self.warn_at.is_none_or(|warn| now < warn) {
            return;
        }
        self.warn_at = None;
        let left = at.saturating_duration_since(now);
        self.send(&ServerFrame::AuthExpiring(AuthExpiring {
            at: self.clock.wall(at),
            seconds: i64::try_from(left.as_secs()).unwrap_or(0),
            in_ms: i64::try_from(left.as_millis()).unwrap_or(0),
        }));
    }
}
