//! Which streams there are, how many they may be, and the end of those whose reader has stopped
//! reading.
//!
//! A body that is not read is simply not asked for more, so nothing here grows; but a reader that is
//! gone without a word would keep its place for ever. So a stream that has given a piece and is not
//! asked for the next one, while no byte goes out on its connection, is cut.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::lane::Lanes;
use crate::config::{AuthMode, Settings};
use crate::http::wire::Wire;

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
    lanes: Lanes,
    most: usize,
    most_of_one: usize,
    counts_principals: bool,
    open: AtomicUsize,
    of_principal: Mutex<HashMap<String, usize>>,
    watched: Mutex<HashMap<u64, Arc<Watch>>>,
    next: AtomicU64,
    begun: Instant,
}

/// Why there is no place for a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Full {
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
    wire: Arc<Wire>,
    /// Since when the stream has not been asked for more, in ms since the registry began; 0 while it
    /// has nothing to give.
    waits: AtomicU64,
    written: AtomicU64,
}

/// A stream's place among all; given back when it is dropped.
#[derive(Debug)]
pub(super) struct Seat {
    streams: Streams,
    door: &'static str,
    principal: Option<String>,
    id: u64,
    watch: Option<Arc<Watch>>,
}

impl Streams {
    /// None yet, by `settings`.
    pub fn new(settings: &Settings) -> Self {
        Self {
            inner: Arc::new(Inner {
                lanes: Lanes::default(),
                most: settings.limits.tails,
                most_of_one: settings.limits.tails_per_principal,
                counts_principals: settings.auth.mode != AuthMode::None,
                open: AtomicUsize::new(0),
                of_principal: Mutex::default(),
                watched: Mutex::default(),
                next: AtomicU64::new(1),
                begun: Instant::now(),
            }),
        }
    }

    pub(super) fn lanes(&self) -> &Lanes {
        &self.inner.lanes
    }

    /// A place for one more stream of `principal` over `wire`.
    pub(super) fn seat(
        &self,
        door: &'static str,
        principal: &str,
        wire: Option<Arc<Wire>>,
    ) -> Result<Seat, Full> {
        let inner = &self.inner;
        let before = inner.open.fetch_add(1, Ordering::Relaxed);
        metrics::gauge!("stream_readers", "door" => door).increment(1.0);
        // Dropped again where there are too many.
        let mut seat = Seat {
            streams: self.clone(),
            door,
            principal: None,
            id: inner.next.fetch_add(1, Ordering::Relaxed),
            watch: None,
        };
        if before >= inner.most {
            return Err(Full::Tails);
        }
        if inner.counts_principals {
            let mut counts = inner.of_principal.lock();
            let count = counts.entry(principal.to_owned()).or_default();
            if *count >= inner.most_of_one {
                return Err(Full::OfPrincipal);
            }
            *count += 1;
            drop(counts);
            seat.principal = Some(principal.to_owned());
        }
        if let Some(wire) = wire {
            let watch = Arc::new(Watch {
                wire,
                waits: AtomicU64::new(0),
                written: AtomicU64::new(0),
            });
            seat.watch = Some(Arc::clone(&watch));
            let mut watched = inner.watched.lock();
            let first = watched.is_empty();
            watched.insert(seat.id, watch);
            drop(watched);
            if first {
                tokio::spawn(look(Arc::downgrade(inner)));
            }
        }
        Ok(seat)
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
        let now = inner.now();
        for watch in watched.values() {
            watch.check(now);
        }
    }
}

impl Inner {
    fn now(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_millis()).map_or(u64::MAX, |now| now + 1)
    }
}

impl Watch {
    fn check(&self, now: u64) {
        let waits = self.waits.load(Ordering::Relaxed);
        if waits == 0 || self.wire.is_aborted() {
            return;
        }
        let written = self.wire.written();
        if self.written.swap(written, Ordering::Relaxed) != written {
            // Slow, but alive.
            let _ = self
                .waits
                .compare_exchange(waits, now, Ordering::Relaxed, Ordering::Relaxed);
            return;
        }
        if now.saturating_sub(waits) >= u64::try_from(STALL.as_millis()).unwrap_or(u64::MAX) {
            metrics::counter!("stream_readers_cut_total").increment(1);
            self.wire.abort();
        }
    }
}

impl Seat {
    /// A piece was given out.
    pub(super) fn gave(&self) {
        if let Some(watch) = &self.watch {
            watch
                .waits
                .store(self.streams.inner.now(), Ordering::Relaxed);
        }
    }

    /// The next piece is asked for.
    pub(super) fn is_asked(&self) {
        if let Some(watch) = &self.watch {
            watch.waits.store(0, Ordering::Relaxed);
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let inner = &self.streams.inner;
        inner.open.fetch_sub(1, Ordering::Relaxed);
        metrics::gauge!("stream_readers", "door" => self.door).decrement(1.0);
        if self.watch.is_some() {
            inner.watched.lock().remove(&self.id);
        }
        if let Some(principal) = self.principal.take() {
            let mut counts = inner.of_principal.lock();
            if let Some(count) = counts.get_mut(&principal) {
                *count -= 1;
                if *count == 0 {
                    counts.remove(&principal);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_bounded_and_given_back() {
        let mut settings = Settings::default();
        settings.auth.mode = AuthMode::Jwt;
        settings.limits.tails = 3;
        settings.limits.tails_per_principal = 2;
        let streams = Streams::new(&settings);
        let one = streams.seat("sse", "ann", None).unwrap();
        let _two = streams.seat("sse", "ann", None).unwrap();
        assert_eq!(
            streams.seat("sse", "ann", None).unwrap_err(),
            Full::OfPrincipal
        );
        let _three = streams.seat("ndjson", "bob", None).unwrap();
        assert_eq!(streams.seat("sse", "eve", None).unwrap_err(), Full::Tails);
        drop(one);
        streams.seat("sse", "ann", None).unwrap();
    }

    #[tokio::test]
    async fn only_who_has_stopped_is_cut() {
        let streams = Streams::new(&Settings::default());
        let wire = Arc::new(Wire::default());
        let seat = streams.seat("sse", "", Some(Arc::clone(&wire))).unwrap();
        let watch = Arc::clone(seat.watch.as_ref().unwrap());
        let later = u64::try_from(STALL.as_millis()).unwrap() + 10;
        watch.check(later);
        assert!(!wire.is_aborted(), "there was nothing to read");
        seat.gave();
        seat.is_asked();
        watch.check(later);
        assert!(!wire.is_aborted(), "it was read");
        seat.gave();
        watch.check(later - 100);
        assert!(!wire.is_aborted(), "it has time");
        watch.check(later + 1_000);
        assert!(wire.is_aborted());
        drop(seat);
        assert!(streams.inner.watched.lock().is_empty());
    }
}
