//! Which streams there are, and how many they may be: in all and of each principal.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::encoder::SharedEncoders;
use super::stall_detector::{StallDetector, WatchedReader};
use crate::auth::identity::Identity;
use crate::config::Settings;
use crate::limits::quota::{Exceeded, Share, Shares};
use crate::transport::connection::Connection;
use crate::transport::h2_reset::H2Reset;

/// How often streams are looked at whose reader may have stopped, and encoders that nobody uses any more.
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
    stalls: Arc<StallDetector>,
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

/// A stream's place among all; given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Permit {
    streams: Streams,
    transport: &'static str,
    share: Option<Share>,
    reader: Option<WatchedReader>,
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
                stalls: StallDetector::new(),
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
        let inner = &self.inner;
        let before = inner.open.fetch_add(1, Ordering::Relaxed);
        metrics::gauge!("stream_readers", "door" => transport).increment(1.0);
        // Dropped again where there are too many.
        let mut permit = Permit {
            streams: self.clone(),
            transport,
            share: None,
            reader: None,
        };
        if before >= inner.most {
            return Err(Full::Tails);
        }
        let share = inner.shares.take(principal);
        permit.share = Some(share.map_err(|Exceeded| Full::OfPrincipal)?);
        if let Some(connection) = connection {
            let (reader, is_only) = inner.stalls.watch(connection, H2Reset::current());
            permit.reader = Some(reader);
            if is_only {
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
        if !inner.stalls.check() {
            return;
        }
        inner.encoders.sweep();
    }
}

impl Permit {
    /// Those that it is one of.
    pub(crate) fn streams(&self) -> &Streams {
        &self.streams
    }

    /// Whether its reader reads, where that can be seen.
    pub(super) fn reader(&self) -> Option<&WatchedReader> {
        self.reader.as_ref()
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let inner = &self.streams.inner;
        inner.open.fetch_sub(1, Ordering::Relaxed);
        metrics::gauge!("stream_readers", "door" => self.transport).decrement(1.0);
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
    fn streams_are_bounded_in_all_and_by_principal_and_places_are_given_back() {
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
}
