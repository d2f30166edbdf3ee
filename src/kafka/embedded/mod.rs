//! A Kafka broker inside this process, for trying things out: krafka's test broker, in memory, on a
//! loopback port, gone at exit.
//!
//! It was made for tests, so it is given here what a broker that runs for hours needs: an id of its
//! own, a cap on its memory that holds for every client, and a broom for the logs it keeps of each
//! request (the broker walks through them at every request, so they must stay short).

#[cfg(test)]
mod tests;
mod usage;

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use krafka::error::ErrorCode;
use krafka::testing::{ApiKey, Control, FakeBroker};
use tokio::task::AbortHandle;

use super::fault::{Fault, FaultKind};
use crate::config::KafkaSettings;
use usage::{Tally, Usage};

/// How often the broker's requests are swept and, when there were writes, its memory is counted.
const TICK: Duration = Duration::from_millis(200);

/// Ticks after which memory is counted even though no write was seen.
const COUNT_ANYWAY: u32 = 25;

/// Requests that change how much is stored.
const CHANGES: [ApiKey; 5] = [
    ApiKey::Produce,
    ApiKey::EndTxn,
    ApiKey::InitProducerId,
    ApiKey::CreateTopics,
    ApiKey::DeleteTopics,
];

/// The broker; it stops when this is dropped.
#[derive(Debug)]
pub struct Embedded {
    bootstrap: String,
    cluster_id: Arc<str>,
    usage: Arc<Usage>,
    keeper: AbortHandle,
}

impl Drop for Embedded {
    fn drop(&mut self) {
        self.keeper.abort();
    }
}

impl Embedded {
    /// Starts a broker that stores at most `max_bytes` (`kafka.embedded_max_bytes`).
    ///
    /// # Errors
    ///
    /// `Unavailable` when no loopback port is to be had.
    pub async fn start(max_bytes: u64) -> Result<Self, Fault> {
        let broker = FakeBroker::start().await?;
        let cluster_id = random_id();
        broker.with_state(|state| state.cluster_id = cluster_id.clone());
        let usage = Arc::new(Usage::new(max_bytes));
        // Other clients may write to the broker directly, past `admit`. The code makes them give
        // up at once; with one that says "storage" they would try again and again.
        let full = Arc::clone(&usage);
        broker.on(ApiKey::Produce, move |_| {
            if full.is_full() {
                Control::Error(ErrorCode::PolicyViolation)
            } else {
                Control::Pass
            }
        });
        let bootstrap = broker.bootstrap_servers();
        let keeper = tokio::spawn(keep(broker, Arc::clone(&usage))).abort_handle();
        Ok(Self {
            bootstrap,
            cluster_id: cluster_id.into(),
            usage,
            keeper,
        })
    }

    /// The broker's address, `127.0.0.1:port`.
    pub fn bootstrap_servers(&self) -> &str {
        &self.bootstrap
    }

    /// The cluster's id, another one at each start.
    pub fn cluster_id(&self) -> &Arc<str> {
        &self.cluster_id
    }

    /// `settings` with this broker in the place of the bootstrap servers.
    pub fn settings(&self, settings: &KafkaSettings) -> KafkaSettings {
        KafkaSettings {
            bootstrap_servers: self.bootstrap.clone(),
            embedded: true,
            ..settings.clone()
        }
    }

    /// Bytes stored, as of the last count plus what was admitted since.
    pub fn used_bytes(&self) -> u64 {
        self.usage.used()
    }

    /// Asks for room for `bytes` that are about to be written, and counts them as written until
    /// the next count says what became of them.
    ///
    /// # Errors
    ///
    /// `StorageFull`.
    pub fn admit(&self, bytes: u64) -> Result<(), Fault> {
        self.usage.admit(bytes)
    }
}

/// Owns the broker: sweeps its logs of requests, and counts what it stores.
async fn keep(broker: FakeBroker, usage: Arc<Usage>) {
    let mut tally = Tally::default();
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut since_count = 0;
    // What was admitted before the last tick has reached the log by now, or never will.
    let mut settled = usage.admitted();
    loop {
        ticks.tick().await;
        let changed = CHANGES
            .iter()
            .any(|api_key| broker.request_count(*api_key) > 0);
        broker.clear_requests();
        since_count += 1;
        if changed || since_count >= COUNT_ANYWAY {
            since_count = 0;
            let admitted = usage.admitted();
            // Wakes every waiting fetch, so it is not done at every tick.
            let stored = broker.with_state(|state| {
                state.list_offsets_lookups.clear();
                state.leave_group_members.clear();
                state.consumer_group_heartbeats.clear();
                state.share_session_closes.clear();
                state.telemetry_pushes.clear();
                tally.count(state)
            });
            usage.counted(stored, settled);
            settled = admitted;
        }
    }
}

/// A cluster id in Kafka's form: 128 random bits in URL-safe base64.
fn random_id() -> String {
    URL_SAFE_NO_PAD.encode(fastrand::u128(..).to_be_bytes())
}

/// The fault when there is no room.
fn storage_full(used: u64, cap: u64) -> Fault {
    let mebibytes = |bytes: u64| bytes.div_ceil(1 << 20);
    Fault::new(
        FaultKind::StorageFull,
        format!(
            "The embedded broker's memory is full: it holds {} of at most {} MiB. Delete a topic, \
             raise kafka.embedded_max_bytes, or set kafka.bootstrap_servers to a real cluster.",
            mebibytes(used),
            mebibytes(cap)
        ),
    )
}
