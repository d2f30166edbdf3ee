//! Redelivers what comes back from the client when its time has come, or makes a dead letter of it.

use std::time::{Duration, Instant};

use super::super::Reason;
use super::super::partition::{State, Trouble};
use super::super::tags::PartitionId;
use super::{DeadLetter, DeadLetterId, Ledger};
use crate::record::ConsumerRecord;

/// Pause before a dead letter is tried again, doubled each time up to the second.
const DEAD_LETTER_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_DEAD_LETTER_PAUSE: Duration = Duration::from_secs(30);

impl Ledger {
    /// What was in flight, and is out of the window already, comes back.
    pub(super) fn return_record(
        &mut self,
        id: PartitionId,
        seq: u64,
        due: Instant,
        dead_letter: bool,
        words: Option<String>,
        now: Instant,
    ) {
        let policy = &self.policy;
        let Some(partition) = self.partitions.get_mut(&id) else {
            return;
        };
        let Some(slot) = partition.get_mut(seq) else {
            return;
        };
        self.deadlines.forget(slot.tag);
        let exhausted = slot.deliveries >= policy.max_deliveries;
        let dead = policy.dead_letters && (dead_letter || exhausted);
        slot.state = if dead {
            State::DeadLettering
        } else {
            State::Waiting
        };
        // The rest of the fetch it came with must not be kept for as long as it is.
        if let Some(record) = &mut slot.record {
            detach(record);
        }
        let trouble = partition.troubled.entry(seq).or_insert_with(|| {
            self.waiting += 1;
            Trouble::default()
        });
        if dead {
            trouble.reason = Some(if dead_letter {
                Reason::Refused(words)
            } else {
                Reason::Exhausted(words)
            });
            self.dead.push_back(DeadLetterId { partition: id, seq });
        } else if due <= now {
            partition.ready.insert(seq);
        } else {
            trouble.due = Some(due);
            self.due.insert((due, id, seq));
        }
    }

    /// When [`Ledger::tick`] will have something to do.
    pub fn next_tick(&self) -> Option<Instant> {
        let due = self.due.first().map(|(due, _, _)| *due);
        due.into_iter().chain(self.deadlines.next()).min()
    }

    /// Does what time has brought about; returns how many records were not acknowledged in time.
    pub fn tick(&mut self, now: Instant) -> usize {
        let mut expired = 0;
        while let Some(range) = self.deadlines.pop(now) {
            for tag in self.tags.open_in(range) {
                if self.deadlines.is_moved(tag) {
                    continue;
                }
                if let Ok(Some((id, seq, _))) = self.in_flight_at(tag) {
                    expired += 1;
                    if let Some(slot) = self.partitions.get(&id).and_then(|p| p.get(seq)) {
                        self.window.expire(slot.bytes);
                    }
                    self.return_record(id, seq, now, false, None, now);
                }
            }
        }
        while let Some((due, id, seq)) = self.due.first().copied()
            && due <= now
        {
            self.due.remove(&(due, id, seq));
            let Some(partition) = self.partitions.get_mut(&id) else {
                continue;
            };
            if let Some(trouble) = partition.troubled.get_mut(&seq) {
                trouble.due = None;
            }
            match partition.get(seq).map(|slot| slot.state) {
                Some(State::Waiting) => {
                    partition.ready.insert(seq);
                }
                Some(State::DeadLettering) => {
                    self.dead.push_back(DeadLetterId { partition: id, seq });
                }
                _ => {}
            }
        }
        expired
    }

    /// The next record for the dead-letter topic.
    pub fn next_dead_letter(&mut self) -> Option<DeadLetter> {
        while let Some(id) = self.dead.pop_front() {
            let Some(partition) = self.partitions.get(&id.partition) else {
                continue;
            };
            let (Some(slot), Some(trouble)) =
                (partition.get(id.seq), partition.troubled.get(&id.seq))
            else {
                continue;
            };
            if let Some(record) = &slot.record {
                return Some(DeadLetter {
                    id,
                    record: record.clone(),
                    deliveries: slot.deliveries,
                    reason: trouble.reason.clone().unwrap_or(Reason::Exhausted(None)),
                });
            }
        }
        None
    }

    /// Whether the record of a dead letter is still here and waits for it to be written.
    pub fn is_dead_lettering(&self, id: DeadLetterId) -> bool {
        let partition = self.partitions.get(&id.partition);
        let slot = partition.and_then(|partition| partition.get(id.seq));
        slot.is_some_and(|slot| slot.state == State::DeadLettering)
    }

    /// What became of a dead letter: it was written, and its record is done with; or not, and it is
    /// tried again after a pause. True when it counted.
    pub fn dead_lettered(&mut self, id: DeadLetterId, written: bool, now: Instant) -> bool {
        let Some(partition) = self.partitions.get_mut(&id.partition) else {
            return false;
        };
        if partition.get(id.seq).map(|slot| slot.state) != Some(State::DeadLettering) {
            return false;
        }
        if written {
            self.finish(id.partition, id.seq);
            return true;
        }
        if let Some(trouble) = partition.troubled.get_mut(&id.seq) {
            let pause = DEAD_LETTER_PAUSE * 2_u32.pow(trouble.failures.min(6));
            let due = now + pause.min(LONGEST_DEAD_LETTER_PAUSE);
            trouble.failures += 1;
            trouble.due = Some(due);
            self.due.insert((due, id.partition, id.seq));
        }
        true
    }
}

/// Makes a record's bytes its own: they are a piece of a whole fetch.
fn detach(record: &mut ConsumerRecord) {
    let own = |bytes: &mut Option<bytes::Bytes>| {
        if let Some(bytes) = bytes {
            *bytes = bytes::Bytes::copy_from_slice(bytes);
        }
    };
    own(&mut record.key);
    own(&mut record.value);
    for header in &mut record.headers {
        own(&mut header.value);
    }
}
