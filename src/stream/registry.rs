//! Which streams there are, how many they may be, and the end of those whose reader has stopped
//! reading.
//!
//! A body that is not read is simply not asked for more, so nothing here grows; but a reader that is
//! gone without a word would keep its place for ever. So a stream that has given a piece and is not
//! asked for the next one is cut: over HTTP/1, where no byte goes out on its connection either, by
//! resetting the connection; over HTTP/2 by resetting the stream, whatever else goes on on the
//! connection. Streams of a connection share its window, so one that is stuck may hold up the others:
//! the one that has waited longest goes first, and the others get the same time again.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::encoder::SharedEncoders;
use crate::auth::identity::Identity;
use crate::config::Settings;
use crate::http::connection::Connection;
use crate::http::h2_reset::H2Reset;
use crate::limits::quota::{Exceeded, Share, Shares};

/// How long a reader may read nothing while something waits for it.
const STALL: Duration = Duration::from_secs(30);
/// How often that is looked at.
const LOOK: Duration = Duration::from_secs(2);

/// All streams of the process. Clones share them.
#[derive(Debug, Clone)]
pub struct Streams {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    encoders: SharedEncoders,
    most: usize,
    open: AtomicUsize,
    shares: Shares,
    watched: Mutex<HashMap<u64, Arc<Watch>>>,
    next: AtomicU64,
    begun: Instant,
    /// `streams.heartbeat_s`.
    heartbeat: Duration,
    stopping: CancellationToken,
    /// Within this time they end when the process is about to stop.
    drain: Duration,
}

/// Why there is no place for a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Full {
    /// `limits.tails`.
    #[error("the gateway has as many streams as it may (limits.tails)")]
    Tails,
    /// `limits.tails_per_principal`.
    #[error("the principal has as many streams as it may (limits.tails_per_principal)")]
    OfPrincipal,
}

/// Whether a stream's reader reads.
#[derive(Debug)]
struct Watch {
    connection: Arc<Connection>,
    /// Ends the stream alone; `None` where it has the connection for itself.
    reset: Option<Arc<H2Reset>>,
    counted: AtomicBool,
    /// Since when the stream has not been asked for more, in ms since the registry began; 0 while it
    /// has nothing to give.
    waits: AtomicU64,
    written: AtomicU64,
}

/// A stream's place among all; given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Permit {
    streams: Streams,
    transport: &'static str,
    share: Option<Share>,
    id: u64,
    watch: Option<Arc<Watch>>,
}

impl Streams {
    /// None yet, by `settings`.
    pub fn new(settings: &Settings, stopping: &CancellationToken) -> Self {
        Self {
            inner: Arc::new(Inner {
                encoders: SharedEncoders::default(),
                most: settings.limits.tails,
                open: AtomicUsize::new(0),
                shares: Shares::new(settings, settings.limits.tails_per_principal),
                watched: Mutex::default(),
                next: AtomicU64::new(1),
                begun: Instant::now(),
                heartbeat: settings.streams.heartbeat,
                stopping: stopping.clone(),
                drain: settings.server.shutdown_grace / 4,
            }),
        }
    }

    /// Silence after which a stream shows that it is alive, unless its client asks for another time.
    pub(crate) fn heartbeat(&self) -> Duration {
        self.inner.heartbeat
    }

    /// Cancelled when the process is about to stop.
    pub(crate) fn stopping(&self) -> &CancellationToken {
        &self.inner.stopping
    }

    /// Within which time streams end then.
    pub(crate) fn drain(&self) -> Duration {
        self.inner.drain
    }

    pub(crate) fn encoders(&self) -> &SharedEncoders {
        &self.inner.encoders
    }

    /// A place for one more stream of `principal`, the answer to the request that is being served, over
    /// `connection`.
    pub(crate) fn permit(
        &self,
        transport: &'static str,
        principal: &Arc<Identity>,
        connection: Option<Arc<Connection>>,
    ) -> Result<Permit, Full> {
        self.permit_with(transport, principal, connection, H2Reset::current())
    }

    /// The same; `reset` ends the stream alone where others share the connection.
    fn permit_with(
        &self,
        transport: &'static str,
        principal: &Arc<Identity>,
        connection: Option<Arc<Connection>>,
        reset: Option<Arc<H2Reset>>,
    ) -> Result<Permit, Full> {
        let inner = &self.inner;
        let before = inner.open.fetch_add(1, Ordering::Relaxed);
        metrics::gauge!("stream_readers", "door" => transport).increment(1.0);
        // Dropped again where there are too many.
        let mut permit = Permit {
            streams: self.clone(),
            transport,
            share: None,
            id: inner.next.fetch_add(1, Ordering::Relaxed),
            watch: None,
        };
        if before >= inner.most {
            return Err(Full::Tails);
        }
        let share = inner.shares.take(principal);
        permit.share = Some(share.map_err(|Exceeded| Full::OfPrincipal)?);
        if let Some(connection) = connection {
            let watch = Arc::new(Watch {
                connection,
                reset,
                counted: AtomicBool::new(false),
                waits: AtomicU64::new(0),
                written: AtomicU64::new(0),
            });
            permit.watch = Some(Arc::clone(&watch));
            let mut watched = inner.watched.lock();
            let first = watched.is_empty();
            watched.insert(permit.id, watch);
            drop(watched);
            if first {
                tokio::spawn(look(Arc::downgrade(inner)));
            }
        }
        Ok(permit)
    }
}

/// Looks at the streams as long as there are any.
async fn look(inner: Weak<Inner>) {
    let mut ticks = interval(LOOK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let Some(inner) = inner.upgrade() else {
            return;
        };
        let watched = inner.watched.lock();
        if watched.is_empty() {
            return;
        }
        check(watched.values(), inner.now());
        drop(watched);
        inner.encoders.sweep();
    }
}

/// Ends those of `watched` whose reader has stopped.
fn check<'a>(watched: impl Iterator<Item = &'a Arc<Watch>> + Clone, now: u64) {
    // Of each connection that streams share, the one that has waited longest.
    let mut first: HashMap<*const Connection, &Watch> = HashMap::new();
    for watch in watched.clone() {
        if !watch.is_stuck(now) {
            continue;
        }
        if watch.reset.is_none() {
            watch.end();
            continue;
        }
        let of_connection = first.entry(Arc::as_ptr(&watch.connection)).or_insert(watch);
        if watch.waits() < of_connection.waits() {
            *of_connection = watch;
        }
    }
    if first.is_empty() {
        return;
    }
    for watch in first.values() {
        watch.end();
    }
    for watch in watched {
        if first.contains_key(&Arc::as_ptr(&watch.connection)) {
            watch.wait_anew(now);
        }
    }
}

impl Inner {
    fn now(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_millis()).map_or(u64::MAX, |now| now + 1)
    }
}

impl Watch {
    fn waits(&self) -> u64 {
        self.waits.load(Ordering::Relaxed)
    }

    /// Whether its reader has taken nothing for too long, and it is not ended yet.
    fn is_stuck(&self, now: u64) -> bool {
        let waits = self.waits();
        let ended = self.reset.as_ref().map_or_else(
            || self.connection.is_aborted(),
            |reset| reset.is_reset() || self.connection.is_aborted(),
        );
        if waits == 0 || ended {
            return false;
        }
        let written = self.connection.written();
        if self.reset.is_none() && self.written.swap(written, Ordering::Relaxed) != written {
            // Slow, but alive.
            self.wait_anew(now);
            return false;
        }
        now.saturating_sub(waits) >= u64::try_from(STALL.as_millis()).unwrap_or(u64::MAX)
    }

    /// If it waits, it does so from now on.
    fn wait_anew(&self, now: u64) {
        let waits = self.waits();
        if waits != 0 {
            // Where it has just been asked for more, that holds.
            let _ = self
                .waits
                .compare_exchange(waits, now, Ordering::Relaxed, Ordering::Relaxed);
        }
    }

    fn end(&self) {
        self.count();
        match &self.reset {
            Some(reset) => reset.reset(),
            None => self.connection.abort(),
        }
    }

    fn count(&self) {
        if !self.counted.swap(true, Ordering::Relaxed) {
            metrics::counter!("stream_readers_cut_total").increment(1);
        }
    }
}

impl Permit {
    /// Those that it is one of.
    pub(crate) fn streams(&self) -> &Streams {
        &self.streams
    }

    /// A piece was given out.
    pub(super) fn gave(&self) {
        if let Some(watch) = &self.watch {
            watch
                .waits
                .store(self.streams.inner.now(), Ordering::Relaxed);
        }
    }

    /// Whether others share the connection. Then only what it is asked for tells whether its reader
    /// reads, so it should not give much at once.
    pub(super) fn is_shared(&self) -> bool {
        self.watch
            .as_ref()
            .is_some_and(|watch| watch.reset.is_some())
    }

    /// The next piece is asked for.
    pub(super) fn is_asked(&self) {
        if let Some(watch) = &self.watch {
            watch.waits.store(0, Ordering::Relaxed);
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let inner = &self.streams.inner;
        inner.open.fetch_sub(1, Ordering::Relaxed);
        metrics::gauge!("stream_readers", "door" => self.transport).decrement(1.0);
        if let Some(watch) = &self.watch {
            inner.watched.lock().remove(&self.id);
            // The system may have been the first to give the reader up.
            if watch.connection.has_timed_out() {
                watch.count();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::AuthMode;

    fn named(name: &str) -> Arc<Identity> {
        Arc::new(Identity::of_token("issuer", name.to_owned()))
    }

    #[test]
    fn places_are_bounded_and_given_back() {
        let mut settings = Settings::default();
        settings.auth.mode = AuthMode::Jwt;
        settings.limits.tails = 3;
        settings.limits.tails_per_principal = 2;
        let streams = Streams::new(&settings, &CancellationToken::new());
        let one = streams.permit("sse", &named("ann"), None).unwrap();
        let _two = streams.permit("sse", &named("ann"), None).unwrap();
        assert_eq!(
            streams.permit("sse", &named("ann"), None).unwrap_err(),
            Full::OfPrincipal
        );
        let _three = streams.permit("ndjson", &named("bob"), None).unwrap();
        assert_eq!(
            streams.permit("sse", &named("eve"), None).unwrap_err(),
            Full::Tails
        );
        drop(one);
        streams.permit("sse", &named("ann"), None).unwrap();
    }

    fn stall() -> u64 {
        u64::try_from(STALL.as_millis()).unwrap()
    }

    fn look(streams: &Streams, now: u64) {
        check(streams.inner.watched.lock().values(), now);
    }

    #[tokio::test]
    async fn only_who_has_stopped_is_cut() {
        let streams = Streams::new(&Settings::default(), &CancellationToken::new());
        let connection = Arc::new(Connection::default());
        let permit = streams.permit("sse", &named(""), Some(Arc::clone(&connection)));
        let permit = permit.unwrap();
        let later = stall() + 10;
        look(&streams, later);
        assert!(!connection.is_aborted(), "there was nothing to read");
        permit.gave();
        permit.is_asked();
        look(&streams, later);
        assert!(!connection.is_aborted(), "it was read");
        permit.gave();
        look(&streams, later - 100);
        assert!(!connection.is_aborted(), "it has time");
        look(&streams, later + 1_000);
        assert!(connection.is_aborted());
        drop(permit);
        assert!(streams.inner.watched.lock().is_empty());
    }

    #[tokio::test]
    async fn of_streams_that_share_a_connection_the_one_that_has_waited_longest_is_cut() {
        let streams = Streams::new(&Settings::default(), &CancellationToken::new());
        let connection = Arc::new(Connection::default());
        let sit = || {
            let reset = Arc::new(H2Reset::default());
            let connection = Some(Arc::clone(&connection));
            let permit =
                streams.permit_with("sse", &named(""), connection, Some(Arc::clone(&reset)));
            (permit.unwrap(), reset)
        };
        let (stuck, of_stuck) = sit();
        let (held_up, of_held_up) = sit();
        let (_silent, of_silent) = sit();
        stuck.gave();
        held_up.gave();
        let watched = |permit: &Permit| Arc::clone(permit.watch.as_ref().unwrap());
        watched(&held_up).waits.fetch_add(5, Ordering::Relaxed);
        let later = stall() + 1_000;
        look(&streams, later);
        assert!(of_stuck.is_reset() && !connection.is_aborted());
        assert!(!of_held_up.is_reset() && !of_silent.is_reset());
        drop(stuck);
        look(&streams, later + stall() - 10);
        assert!(!of_held_up.is_reset(), "it has the same time again");
        look(&streams, later + stall() + 10);
        assert!(of_held_up.is_reset() && !of_silent.is_reset());
    }
}
