//! What the client of one subscription has, has acknowledged and will get again.
//!
//! What must hold at all times, and is tested against a simple model:
//!
//! - what may be committed is never beyond the first record that is not acknowledged;
//! - what is acknowledged is not delivered again;
//! - what is not acknowledged is never passed over: it is delivered, again and again, or becomes a
//!   dead letter, or goes with its partition to whoever has it next;
//! - a record leaves the window once for each time that it entered.
//!
//! Its files:
//!
//! - `mod.rs`: what a ledger is made of
//! - `assignment.rs`: what Kafka gives and takes
//! - `deliver.rs`: what goes out
//! - `acknowledging.rs`: what the client says of it
//! - `redeliver.rs`: what comes back, and dead letters
//! - `commits.rs`: what is to be committed

mod acknowledging;
mod assignment;
mod commits;
mod deliver;
mod redeliver;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::time::Instant;

use super::deadlines::Deadlines;
use super::partition::Partition;
use super::tags::{PartitionId, Tags};
use super::window::Window;
use super::{AckMode, Policy, Reason};
use crate::record::{ConsumerRecord, TopicPartition};

/// A record that goes out.
#[derive(Debug)]
pub struct Delivery<'a> {
    /// Unique in the session, and rising.
    pub tag: u64,
    /// How often it has been delivered, with this time.
    pub deliveries: u32,
    /// The record.
    pub record: &'a ConsumerRecord,
}

/// What became of a record that could go out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It goes out.
    Taken,
    /// It is done with, unseen.
    Skip,
    /// It becomes a dead letter, unseen.
    DeadLetter(Reason),
    /// It does not fit any more; it is asked for again next time.
    Full,
}

/// Most that goes out at once.
#[derive(Debug, Clone, Copy)]
pub struct Take {
    /// Records.
    pub records: usize,
    /// Bytes of keys, values and headers; a larger record goes alone.
    pub bytes: u64,
}

/// What went out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Took {
    /// How many records.
    pub records: usize,
    /// Those of them that went out before.
    pub redelivered: usize,
    /// The tag after the last one.
    pub end: u64,
    /// There is, or may be, more.
    pub more: bool,
}

/// Why an acknowledgement was not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refused {
    /// This tag was never given.
    Unknown {
        /// The tag.
        tag: u64,
    },
    /// It was given and is no longer valid.
    Stale {
        /// The tag.
        tag: u64,
        /// What became of it.
        why: Stale,
    },
}

/// Why a tag is no longer valid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stale {
    /// The record was refused, or its deadline passed, and comes again under another tag or has.
    Superseded(TopicPartition),
    /// Its partition was taken away or sought.
    Gone {
        /// The partition.
        partition: TopicPartition,
        /// The session's count of assignment changes with which it went.
        epoch: u64,
        /// What had been committed by then.
        committed: Option<i64>,
    },
}

/// What is left of a partition that goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Left {
    /// The first offset that is not acknowledged.
    pub low: i64,
    /// What is committed, as far as is known.
    pub committed: Option<i64>,
    /// Records that were delivered and are not acknowledged.
    pub unacked: u64,
}

/// Where a partition stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The partition.
    pub partition: TopicPartition,
    /// The next offset that will be delivered for the first time.
    pub delivered: i64,
    /// The first offset that is not acknowledged.
    pub acked: i64,
    /// What is committed, as far as is known.
    pub committed: Option<i64>,
}

/// Partitions that are to be held back, and those that are not any more.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Flow {
    /// Enough of these is waiting here.
    pub hold: Vec<TopicPartition>,
    /// Too little of these.
    pub go_on: Vec<TopicPartition>,
}

/// Names a dead letter until it is known what became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct DeadLetterId {
    partition: PartitionId,
    seq: u64,
}

/// A record for the dead-letter topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// To be given back with what became of it.
    pub id: DeadLetterId,
    /// The record.
    pub record: ConsumerRecord,
    /// How often it was delivered.
    pub deliveries: u32,
    /// Why it is one.
    pub reason: Reason,
}

/// A partition that was taken away.
#[derive(Debug)]
struct Gone {
    partition: TopicPartition,
    epoch: u64,
    committed: Option<i64>,
}

/// The state of one subscription's deliveries.
#[derive(Debug)]
pub struct Ledger {
    policy: Policy,
    partitions: BTreeMap<PartitionId, Partition>,
    ids: HashMap<TopicPartition, PartitionId>,
    next_id: PartitionId,
    /// Whose turn it is, by place in `order`.
    turn: usize,
    order: Vec<PartitionId>,
    tags: Tags,
    window: Window,
    deadlines: Deadlines,
    /// What waits for its time to go out again.
    due: BTreeSet<(Instant, PartitionId, u64)>,
    /// Records that have come back and are not acknowledged.
    waiting: usize,
    dead: VecDeque<DeadLetterId>,
    gone: BTreeMap<PartitionId, Gone>,
    held_bytes: u64,
}

impl Ledger {
    /// A ledger that gives tags from `first_tag` on.
    pub fn new(policy: Policy, first_tag: u64) -> Self {
        let auto = policy.ack == AckMode::Auto;
        Self {
            partitions: BTreeMap::new(),
            ids: HashMap::new(),
            next_id: 0,
            turn: 0,
            order: Vec::new(),
            tags: Tags::new(first_tag.max(1)),
            window: Window::new(policy.window, policy.max_records, policy.max_bytes),
            deadlines: Deadlines::new(policy.ack_timeout.filter(|_| !auto)),
            due: BTreeSet::new(),
            waiting: 0,
            dead: VecDeque::new(),
            gone: BTreeMap::new(),
            held_bytes: 0,
            policy,
        }
    }

    /// The tag that will be given next.
    pub fn next_tag(&self) -> u64 {
        self.tags.next()
    }

    /// Records and bytes in flight.
    pub fn in_flight(&self) -> (u64, u64) {
        self.window.in_flight()
    }

    /// Bytes of all records that are kept here.
    pub fn held_bytes(&self) -> u64 {
        self.held_bytes
    }

    /// Whether `partition` is assigned.
    pub fn has(&self, partition: &TopicPartition) -> bool {
        self.ids.contains_key(partition)
    }

    /// Whether the client has paused `partition`.
    pub fn is_paused(&self, partition: &TopicPartition) -> bool {
        self.get(partition).is_some_and(|p| p.paused)
    }

    fn get(&self, partition: &TopicPartition) -> Option<&Partition> {
        self.partitions.get(self.ids.get(partition)?)
    }

    fn get_mut(&mut self, partition: &TopicPartition) -> Option<&mut Partition> {
        self.partitions.get_mut(self.ids.get(partition)?)
    }

    /// More credit.
    pub fn credit(&mut self, records: u64, bytes: Option<u64>) {
        self.window.credit(records, bytes);
    }

    /// Divides what may be in flight by two to this power, while memory is short.
    pub fn set_pressure(&mut self, pressure: u32) {
        self.window.set_pressure(pressure);
    }

    /// The client wants nothing of `partition`, or does again. False when it is not assigned.
    pub fn pause(&mut self, partition: &TopicPartition, paused: bool) -> bool {
        self.get_mut(partition).is_some_and(|partition| {
            partition.paused = paused;
            true
        })
    }

    /// All assigned partitions.
    pub fn partitions(&self) -> impl Iterator<Item = &TopicPartition> {
        self.partitions.values().map(|partition| &partition.key)
    }

    /// Records that were never delivered.
    pub fn queued(&self) -> u64 {
        self.partitions.values().map(Partition::queued).sum()
    }
}
