//! Ends streams whose reader has stopped reading.
//!
//! A body that is not read is simply not asked for more, so nothing here grows; but a reader that is
//! gone without a word would keep its place for ever. So a stream that has given a piece and is not
//! asked for the next one is cut: over HTTP/1, where no byte goes out on its connection either, by
//! resetting the connection; over HTTP/2 by resetting the stream, whatever else goes on on the
//! connection. Streams of a connection share its window, so one that is stuck may hold up the others:
//! the one that has waited longest goes first, and the others get the same time again.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::transport::connection::Connection;
use crate::transport::h2_reset::H2Reset;

/// How long a reader may read nothing while something waits for it.
const STALL: Duration = Duration::from_secs(30);

/// All readers that are watched.
#[derive(Debug)]
pub(super) struct StallDetector {
    watched: Mutex<HashMap<u64, Arc<Watch>>>,
    next: AtomicU64,
    begun: Instant,
}

/// Whether a stream's reader reads.
#[derive(Debug)]
struct Watch {
    connection: Arc<Connection>,
    /// Ends the stream alone; `None` where it has the connection for itself.
    reset: Option<Arc<H2Reset>>,
    counted: AtomicBool,
    /// Since when the stream has not been asked for more, in ms since the detector was made; 0 while it
    /// has nothing to give.
    waits: AtomicU64,
    written: AtomicU64,
}

/// The reader of a stream, watched until this is dropped.
#[derive(Debug)]
pub(super) struct WatchedReader {
    detector: Arc<StallDetector>,
    id: u64,
    watch: Arc<Watch>,
}

impl StallDetector {
    /// One that watches nobody yet.
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            watched: Mutex::default(),
            next: AtomicU64::new(1),
            begun: Instant::now(),
        })
    }

    /// Watches one more reader, and says whether it is the only one. `reset` ends the stream alone where
    /// others share the connection.
    pub(super) fn watch(
        self: &Arc<Self>,
        connection: Arc<Connection>,
        reset: Option<Arc<H2Reset>>,
    ) -> (WatchedReader, bool) {
        let watch = Arc::new(Watch {
            connection,
            reset,
            counted: AtomicBool::new(false),
            waits: AtomicU64::new(0),
            written: AtomicU64::new(0),
        });
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let mut watched = self.watched.lock();
        let is_only = watched.is_empty();
        watched.insert(id, Arc::clone(&watch));
        drop(watched);
        let detector = Arc::clone(self);
        let reader = WatchedReader {
            detector,
            id,
            watch,
        };
        (reader, is_only)
    }

    /// Ends the streams whose reader has stopped; false when there is none to look at.
    pub(super) fn check(&self) -> bool {
        let watched = self.watched.lock();
        if watched.is_empty() {
            return false;
        }
        check(watched.values(), self.now());
        true
    }

    fn now(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_millis()).map_or(u64::MAX, |now| now + 1)
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

impl WatchedReader {
    /// A piece was given out.
    pub(super) fn gave(&self) {
        let now = self.detector.now();
        self.watch.waits.store(now, Ordering::Relaxed);
    }

    /// Whether others share the connection. Then only what the stream is asked for tells whether its reader
    /// reads, so it should not give much at once.
    pub(super) fn is_shared(&self) -> bool {
        self.watch.reset.is_some()
    }

    /// The next piece is asked for.
    pub(super) fn is_asked(&self) {
        self.watch.waits.store(0, Ordering::Relaxed);
    }
}

impl Drop for WatchedReader {
    fn drop(&mut self) {
        self.detector.watched.lock().remove(&self.id);
        // The system may have been the first to give the reader up.
        if self.watch.connection.has_timed_out() {
            self.watch.count();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stall() -> u64 {
        u64::try_from(STALL.as_millis()).unwrap()
    }

    fn look(detector: &StallDetector, now: u64) {
        check(detector.watched.lock().values(), now);
    }

    #[test]
    fn only_a_stream_whose_reader_has_stopped_is_ended() {
        let detector = StallDetector::new();
        let connection = Arc::new(Connection::default());
        let (reader, is_only) = detector.watch(Arc::clone(&connection), None);
        assert!(is_only && detector.check());
        let later = stall() + 10;
        look(&detector, later);
        assert!(!connection.is_aborted(), "there was nothing to read");
        reader.gave();
        reader.is_asked();
        look(&detector, later);
        assert!(!connection.is_aborted(), "it was read");
        reader.gave();
        look(&detector, later - 100);
        assert!(!connection.is_aborted(), "it has time");
        look(&detector, later + 1_000);
        assert!(connection.is_aborted());
        drop(reader);
        assert!(!detector.check(), "nobody is watched any more");
    }

    #[test]
    fn of_streams_that_share_a_connection_the_one_that_has_waited_longest_is_ended() {
        let detector = StallDetector::new();
        let connection = Arc::new(Connection::default());
        let watch = || {
            let reset = Arc::new(H2Reset::default());
            let (reader, _) = detector.watch(Arc::clone(&connection), Some(Arc::clone(&reset)));
            (reader, reset)
        };
        let (stuck, of_stuck) = watch();
        let (held_up, of_held_up) = watch();
        let (_silent, of_silent) = watch();
        stuck.gave();
        held_up.gave();
        held_up.watch.waits.fetch_add(5, Ordering::Relaxed);
        let later = stall() + 1_000;
        look(&detector, later);
        assert!(of_stuck.is_reset() && !connection.is_aborted());
        assert!(!of_held_up.is_reset() && !of_silent.is_reset());
        drop(stuck);
        look(&detector, later + stall() - 10);
        assert!(!of_held_up.is_reset(), "it has the same time again");
        look(&detector, later + stall() + 10);
        assert!(of_held_up.is_reset() && !of_silent.is_reset());
    }
}
