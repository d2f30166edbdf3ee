//! How much the embedded broker stores, and whether more fits.

use std::collections::HashMap;

use krafka::testing::{ClusterState, PartitionState};
use parking_lot::Mutex;

use super::storage_full;
use crate::kafka::fault::Fault;

/// What a stored batch costs beside its bytes: its handle, and what the allocator keeps.
const BATCH_OVERHEAD: u64 = 96;

/// The running account.
#[derive(Debug)]
pub(super) struct Usage {
    cap: u64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// What the last count found in the broker's logs.
    stored: u64,
    /// All that was ever admitted.
    admitted: u64,
    /// How much of `admitted` is contained in `stored`, or came to nothing.
    settled: u64,
    warned: bool,
}

impl State {
    fn used(&self) -> u64 {
        self.stored
            .saturating_add(self.admitted.saturating_sub(self.settled))
    }
}

impl Usage {
    pub(super) fn new(cap: u64) -> Self {
        Self {
            cap,
            state: Mutex::default(),
        }
    }

    pub(super) fn used(&self) -> u64 {
        self.state.lock().used()
    }

    pub(super) fn is_full(&self) -> bool {
        self.used() >= self.cap
    }

    /// All that was ever admitted, in bytes.
    pub(super) fn admitted(&self) -> u64 {
        self.state.lock().admitted
    }

    /// Counts `bytes` as used if they fit.
    pub(super) fn admit(&self, bytes: u64) -> Result<(), Fault> {
        let mut state = self.state.lock();
        let used = state.used();
        if used.saturating_add(bytes) > self.cap {
            return Err(storage_full(used, self.cap));
        }
        state.admitted = state.admitted.saturating_add(bytes);
        self.warn(&mut state);
        Ok(())
    }

    /// Takes over a count. `settled` is what had been admitted so long before that none of it can
    /// still be on its way.
    pub(super) fn counted(&self, stored: u64, settled: u64) {
        let mut state = self.state.lock();
        state.stored = stored;
        state.settled = settled;
        self.warn(&mut state);
    }

    fn warn(&self, state: &mut State) {
        if !state.warned && state.used() >= self.cap / 2 {
            state.warned = true;
            tracing::warn!(
                used_bytes = state.used(),
                max_bytes = self.cap,
                "the embedded broker's memory is half full; above kafka.embedded_max_bytes it \
                 takes no more records"
            );
        }
    }
}

/// Counts what the broker's logs hold. Logs only grow at their ends, so each count looks only at
/// what is new: a log of a million small batches would otherwise hold up every request.
#[derive(Debug, Default)]
pub(super) struct Tally {
    topics: HashMap<String, Counted>,
}

#[derive(Debug, Default)]
struct Counted {
    /// A topic that was deleted and created again starts over.
    id: [u8; 16],
    partitions: Vec<Log>,
}

#[derive(Debug, Default, Clone)]
struct Log {
    batches: usize,
    bytes: u64,
}

impl Tally {
    /// Bytes that the broker holds in its logs.
    pub(super) fn count(&mut self, state: &ClusterState) -> u64 {
        self.topics
            .retain(|name, _| state.topics.contains_key(name));
        let mut sum = 0_u64;
        for (name, topic) in &state.topics {
            if !self.topics.contains_key(name) {
                self.topics.insert(name.clone(), Counted::default());
            }
            let Some(counted) = self.topics.get_mut(name) else {
                continue;
            };
            if counted.id != topic.topic_id {
                *counted = Counted {
                    id: topic.topic_id,
                    partitions: Vec::new(),
                };
            }
            counted
                .partitions
                .resize(topic.partitions.len(), Log::default());
            for (log, partition) in counted.partitions.iter_mut().zip(&topic.partitions) {
                log.catch_up(partition);
                sum = sum.saturating_add(log.bytes);
            }
        }
        sum
    }
}

impl Log {
    fn catch_up(&mut self, partition: &PartitionState) {
        if partition.log.len() < self.batches {
            *self = Self::default();
        }
        for batch in partition.log.iter().skip(self.batches) {
            self.bytes = self
                .bytes
                .saturating_add(batch.len() as u64)
                .saturating_add(BATCH_OVERHEAD);
        }
        self.batches = partition.log.len();
    }
}
