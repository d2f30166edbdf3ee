//! Which sessions there are, how much they keep together, and the word that the gateway stops.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::rules::Rules;
use super::socket::Limits;
use super::static_members::Claims;
use crate::auth::identity::Identity;
use crate::config::{AuthMode, Settings};
use crate::limits::memory::Budget;
use crate::limits::places::{Place, Places};
use crate::limits::quota::{Exceeded, Share, Shares};
use crate::transport::client_address::counted_as;

/// So many places of strangers one address may have, however few there are.
const OF_ADDRESS: usize = 8;

/// All sessions of the process. Clones share them.
#[derive(Debug, Clone)]
pub struct Sessions {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    rules: Arc<Rules>,
    limits: Limits,
    claims: Claims,
    tasks: TaskTracker,
    most: usize,
    open: AtomicUsize,
    most_unknown: usize,
    unknown: AtomicUsize,
    /// How many of these each address has.
    unknown_of: Arc<Places<u128>>,
    shares: Shares,
    budget: Arc<Budget>,
    drain: watch::Sender<Option<Duration>>,
    cut: CancellationToken,
}

/// Why there is no place for a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Full {
    /// The gateway is about to stop.
    #[error("the gateway is about to stop; connect again")]
    Draining,
    /// `limits.group_sessions`.
    #[error("the gateway has as many sessions as it may (limits.group_sessions)")]
    Sessions,
    /// `limits.unknown_sessions`.
    #[error(
        "the gateway has as many connections as it may whose clients have not said who they are \
         (limits.unknown_sessions): show a token or a ticket when you connect, or try again"
    )]
    Unknown,
    /// A quarter of `limits.unknown_sessions`.
    #[error(
        "this address has {0} connections whose clients have not said who they are, which is as many \
         as it may (a quarter of limits.unknown_sessions): show a token or a ticket when you connect, \
         or try again"
    )]
    OfAddress(usize),
    /// `limits.buffer_total_bytes`.
    #[error("the gateway has no memory for more sessions (limits.buffer_total_bytes)")]
    Memory,
    /// `limits.sessions_per_principal`.
    #[error("the principal has as many sessions as it may (limits.sessions_per_principal)")]
    OfPrincipal,
}

/// A session's place among all; given back when it is dropped.
#[derive(Debug)]
pub struct Permit {
    sessions: Sessions,
    /// Whose session it is is known: it is one of all, and none of the few of strangers.
    known: bool,
    /// That of the address which a stranger comes from.
    of_address: Option<Place<u128>>,
    share: Option<Share>,
    buffered: u64,
}

impl Sessions {
    /// None yet, by `settings`.
    pub fn new(settings: &Settings, budget: Arc<Budget>) -> Self {
        let of = &settings.websocket;
        let rules = Rules {
            open: settings.auth.mode == AuthMode::None,
            max_frame: of.max_message_bytes,
            hello_timeout: of.hello_timeout,
            idle_timeout: of.idle_timeout,
            revoke_grace: of.revoke_grace,
            max_inflight_records: of.max_inflight_records as u64,
            max_inflight_bytes: of.max_inflight_bytes as u64,
            max_gap: i64::try_from(of.max_gap).unwrap_or(i64::MAX),
            max_delayed: of.max_delayed,
            dead_letter_topic: of.dead_letter_topic.clone(),
        };
        Self {
            inner: Arc::new(Inner {
                rules: Arc::new(rules),
                limits: Limits::new(settings),
                claims: Claims::default(),
                tasks: TaskTracker::new(),
                most: settings.limits.group_sessions,
                open: AtomicUsize::new(0),
                most_unknown: settings.limits.unknown_sessions,
                unknown: AtomicUsize::new(0),
                unknown_of: Places::new((settings.limits.unknown_sessions / 4).max(OF_ADDRESS)),
                shares: Shares::new(settings, settings.limits.sessions_per_principal),
                budget,
                drain: watch::Sender::new(None),
                cut: CancellationToken::new(),
            }),
        }
    }

    /// What they are held to.
    pub fn rules(&self) -> &Arc<Rules> {
        &self.inner.rules
    }

    /// What their sockets are held to.
    pub fn limits(&self) -> Limits {
        self.inner.limits
    }

    /// Which of them have which static members.
    pub fn claims(&self) -> &Claims {
        &self.inner.claims
    }

    /// The tasks that they run in.
    pub fn tasks(&self) -> &TaskTracker {
        &self.inner.tasks
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.inner.open.load(Ordering::Relaxed) + self.inner.unknown.load(Ordering::Relaxed)
    }

    /// Tells all of them, and those that come, that the gateway stops within `grace`.
    pub fn drain(&self, grace: Duration) {
        self.inner.drain.send_replace(Some(grace));
        self.inner.tasks.close();
    }

    /// Ends what is left of them at once: their time is over.
    pub fn cut(&self) {
        self.inner.cut.cancel();
    }

    /// Cancelled when that happens.
    pub fn is_cut(&self) -> CancellationToken {
        self.inner.cut.clone()
    }

    /// Becomes some when the gateway is about to stop.
    pub fn draining(&self) -> watch::Receiver<Option<Duration>> {
        self.inner.drain.subscribe()
    }

    /// A place for one more, whose client at this address is known, or is not yet.
    ///
    /// # Errors
    ///
    /// [`Full`].
    pub fn permit(&self, known: bool, address: Option<IpAddr>) -> Result<Permit, Full> {
        if self.inner.drain.borrow().is_some() {
            return Err(Full::Draining);
        }
        if self.inner.budget.is_used_up() {
            return Err(Full::Memory);
        }
        self.inner.take(known)?;
        let of_address = match address {
            Some(address) if !known => {
                let place = self.inner.unknown_of.take(counted_as(address));
                if place.is_none() {
                    self.inner.give_back(known);
                    return Err(Full::OfAddress(self.inner.unknown_of.most()));
                }
                place
            }
            _ => None,
        };
        metrics::gauge!("websocket_sessions").increment(1.0);
        Ok(Permit {
            sessions: self.clone(),
            known,
            of_address,
            share: None,
            buffered: 0,
        })
    }

    /// By which power of two windows are divided, as much as memory is short.
    fn pressure(&self) -> u32 {
        match self.inner.budget.tenths() {
            0..8 => 0,
            8 => 2,
            9 => 4,
            _ => 8,
        }
    }
}

impl Inner {
    /// The places of those that are known, or of the others.
    fn places(&self, known: bool) -> &AtomicUsize {
        match known {
            true => &self.open,
            false => &self.unknown,
        }
    }

    fn take(&self, known: bool) -> Result<(), Full> {
        let (most, full) = match known {
            true => (self.most, Full::Sessions),
            false => (self.most_unknown, Full::Unknown),
        };
        if self.places(known).fetch_add(1, Ordering::Relaxed) >= most {
            self.give_back(known);
            return Err(full);
        }
        Ok(())
    }

    fn give_back(&self, known: bool) {
        self.places(known).fetch_sub(1, Ordering::Relaxed);
    }
}

impl Permit {
    /// The session is this principal's, which counts where credentials are asked for. If nobody was
    /// known before, it takes a place among all that are.
    ///
    /// # Errors
    ///
    /// [`Full::OfPrincipal`], [`Full::Sessions`].
    pub fn belongs_to(&mut self, principal: &Arc<Identity>) -> Result<(), Full> {
        if self
            .share
            .as_ref()
            .is_some_and(|share| share.is_of(principal))
        {
            return Ok(());
        }
        let inner = &self.sessions.inner;
        let share = inner.shares.take(principal);
        let share = share.map_err(|Exceeded| Full::OfPrincipal)?;
        if !self.known {
            inner.take(true)?;
            inner.give_back(false);
            self.of_address = None;
            self.known = true;
        }
        self.share = Some(share);
        Ok(())
    }

    /// The session keeps so many bytes now; by which power of two its windows are to be divided.
    pub fn holds(&mut self, bytes: u64) -> u32 {
        if bytes != self.buffered {
            self.sessions.inner.budget.keeps(self.buffered, bytes);
        }
        self.buffered = bytes;
        self.sessions.pressure()
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.holds(0);
        // Whoever sees in the metric that a place is free finds it free.
        self.share = None;
        let inner = &self.sessions.inner;
        inner.give_back(self.known);
        self.of_address = None;
        metrics::gauge!("websocket_sessions").decrement(1.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &str) -> Arc<Identity> {
        Arc::new(Identity::of_token("issuer", name.to_owned()))
    }

    fn sessions(mode: AuthMode) -> Sessions {
        let mut settings = Settings::default();
        settings.auth.mode = mode;
        settings.limits.group_sessions = 3;
        settings.limits.sessions_per_principal = 2;
        settings.limits.unknown_sessions = 2;
        settings.limits.buffer_total_bytes = 1_000;
        Sessions::new(
            &settings,
            Arc::new(Budget::new(settings.limits.buffer_total_bytes)),
        )
    }

    #[test]
    fn places_are_limited_and_free_again_when_sessions_end() {
        let sessions = sessions(AuthMode::Jwt);
        let mut permits: Vec<_> = (0..3)
            .map(|_| sessions.permit(true, None).unwrap())
            .collect();
        assert_eq!(sessions.permit(true, None).unwrap_err(), Full::Sessions);
        assert_eq!(sessions.count(), 3);
        permits[0].belongs_to(&named("ann")).unwrap();
        permits[0].belongs_to(&named("ann")).unwrap();
        permits[1].belongs_to(&named("ann")).unwrap();
        assert_eq!(permits[2].belongs_to(&named("ann")), Err(Full::OfPrincipal));
        permits[2].belongs_to(&named("bob")).unwrap();
        drop(permits.remove(0));
        let mut permit = sessions.permit(true, None).unwrap();
        permit.belongs_to(&named("ann")).unwrap();
        drop((permit, permits));
        assert_eq!(sessions.count(), 0);
        assert!(sessions.inner.shares.is_empty());
    }

    #[test]
    fn without_authentication_no_principal_is_limited_to_a_share() {
        let sessions = sessions(AuthMode::None);
        for _ in 0..2 {
            let mut permits: Vec<_> = (0..3)
                .map(|_| sessions.permit(true, None).unwrap())
                .collect();
            for permit in &mut permits {
                permit.belongs_to(&named("anonymous")).unwrap();
            }
        }
    }

    #[test]
    fn strangers_take_no_place_of_those_who_are_known() {
        let sessions = sessions(AuthMode::Jwt);
        let mut strangers: Vec<_> = (0..2)
            .map(|_| sessions.permit(false, None).unwrap())
            .collect();
        assert_eq!(sessions.permit(false, None).unwrap_err(), Full::Unknown);
        let mut permits: Vec<_> = (0..2)
            .map(|_| sessions.permit(true, None).unwrap())
            .collect();
        // One says who it is: it has a place among the others, and another stranger may come.
        strangers[0].belongs_to(&named("ann")).unwrap();
        strangers.push(sessions.permit(false, None).unwrap());
        assert_eq!(sessions.permit(true, None).unwrap_err(), Full::Sessions);
        assert_eq!(strangers[1].belongs_to(&named("bob")), Err(Full::Sessions));
        permits.pop();
        strangers[1].belongs_to(&named("bob")).unwrap();
        assert_eq!(sessions.count(), 4);
        drop((strangers, permits));
        assert_eq!(sessions.count(), 0);
        assert!(sessions.inner.shares.is_empty());
    }

    #[test]
    fn strangers_of_one_address_leave_places_to_those_of_others() {
        let mut settings = Settings::default();
        settings.auth.mode = AuthMode::Jwt;
        settings.limits.unknown_sessions = 40;
        let sessions = Sessions::new(&settings, Arc::new(Budget::new(1 << 20)));
        let one = Some(IpAddr::from([203, 0, 113, 1]));
        let another = Some(IpAddr::from([203, 0, 113, 2]));
        let mut permits: Vec<_> = (0..10)
            .map(|_| sessions.permit(false, one).unwrap())
            .collect();
        assert_eq!(
            sessions.permit(false, one).unwrap_err(),
            Full::OfAddress(10)
        );
        // Whoever is known is not counted, and whoever says who it is is so no more.
        let known = sessions.permit(true, one).unwrap();
        permits[0].belongs_to(&named("ann")).unwrap();
        permits.push(sessions.permit(false, one).unwrap());
        permits.extend((0..10).map(|_| sessions.permit(false, another).unwrap()));
        assert_eq!(
            sessions.permit(false, another).unwrap_err(),
            Full::OfAddress(10)
        );
        permits.remove(5);
        permits.push(sessions.permit(false, one).unwrap());
        // The customer of a provider has 64 bits of addresses.
        let of = |last| Some(IpAddr::from([0x2001, 0xdb8, 0, 1, 0, 0, 0, last]));
        permits.extend((0..10).map(|last| sessions.permit(false, of(last)).unwrap()));
        assert_eq!(
            sessions.permit(false, of(99)).unwrap_err(),
            Full::OfAddress(10)
        );
        drop((permits, known));
        assert_eq!(sessions.count(), 0);
        assert!(sessions.inner.unknown_of.is_empty());
    }

    #[test]
    fn windows_shrink_while_memory_is_short() {
        let sessions = sessions(AuthMode::None);
        let mut one = sessions.permit(true, None).unwrap();
        let mut two = sessions.permit(true, None).unwrap();
        assert_eq!(one.holds(700), 0);
        assert_eq!(two.holds(100), 2);
        assert_eq!(two.holds(200), 4);
        assert_eq!(two.holds(300), 8);
        assert_eq!(sessions.permit(true, None).unwrap_err(), Full::Memory);
        assert_eq!(one.holds(0), 0);
        drop(two);
        assert_eq!(sessions.inner.budget.tenths(), 0);
    }

    #[test]
    fn a_gateway_that_stops_takes_no_session() {
        let sessions = sessions(AuthMode::None);
        let told = sessions.draining();
        sessions.drain(Duration::from_secs(1));
        assert_eq!(*told.borrow(), Some(Duration::from_secs(1)));
        assert_eq!(sessions.permit(true, None).unwrap_err(), Full::Draining);
    }
}
