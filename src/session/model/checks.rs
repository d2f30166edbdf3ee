//! What must hold between a session, its client and its group, whatever happens.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use serde_json::Value;

use super::frame_schema;
use crate::delivery::DeadLetterId;
use crate::record::TopicPartition;
use crate::session::protocol::Id;
use crate::session::protocol::client::{Ack, ClientFrame};

/// What the ids begin with of acknowledgements and of records to write, whose answers are counted.
pub(super) const ACK: &str = "ack-";
pub(super) const PRODUCE: &str = "produce-";

/// A record, in one assignment of its partition: a seek begins another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct At {
    partition: i32,
    epoch: u64,
    offset: i64,
}

/// An acknowledgement without an answer.
#[derive(Debug)]
struct Acking {
    id: String,
    /// With their tags; whether the client still had them as far as it knows.
    records: Vec<(u64, At, bool)>,
}

/// What was seen so far, as far as it says what may come.
#[derive(Debug, Default)]
pub(super) struct Checks {
    auto: bool,
    cumulative: bool,
    /// Most records in flight.
    window: Option<u64>,
    last_tag: u64,
    tags: BTreeMap<u64, At>,
    /// Acknowledged before they were given: where such a frame waits for another, it may count.
    early: BTreeSet<u64>,
    /// What the client has and has said nothing of, by tag.
    with_client: BTreeMap<u64, At>,
    /// The epochs of the partitions that the member has.
    epochs: BTreeMap<i32, u64>,
    last_epoch: u64,
    /// How often each partition was assigned: a commit from before counts for nothing.
    assignments: BTreeMap<i32, u32>,
    offered: BTreeSet<(i32, i64)>,
    /// Offered to the session, and not yet something that it may pass over.
    open: BTreeSet<(i32, i64)>,
    /// What is not to come again: acknowledged, or written as a dead letter.
    done: BTreeSet<(i32, i64)>,
    /// Acknowledgements in their order.
    acking: VecDeque<Acking>,
    /// What is committed because of an acknowledgement that has no answer yet.
    relied_on: BTreeSet<At>,
    /// In `auto`: given to the socket and not flushed.
    unflushed: Vec<(i32, i64)>,
    dead_letters: HashMap<DeadLetterId, At>,
    /// Frames that ask to write, less the answers, by their ids.
    writes: BTreeMap<String, i64>,
    /// What the group has committed.
    committed: BTreeMap<i32, i64>,
    /// The same, and whose partitions they were, at any time since the socket took all that there was.
    was_committed: BTreeSet<(i32, i64)>,
    was_assigned: BTreeSet<i32>,
    closed: bool,
}

impl Checks {
    pub(super) fn new(auto: bool, cumulative: bool, window: Option<u64>) -> Self {
        Self {
            auto,
            cumulative: cumulative && !auto,
            window,
            ..Self::default()
        }
    }

    /// The tag of one of the records that the client has.
    pub(super) fn tag(&self, nth: u8) -> Option<u64> {
        let at = usize::from(nth).checked_rem(self.with_client.len())?;
        self.with_client.keys().nth(at).copied()
    }

    /// What is committed of a partition.
    pub(super) fn committed_of(&self, partition: i32) -> Option<i64> {
        self.committed.get(&partition).copied()
    }

    // The member.

    pub(super) fn assigned(&mut self, partition: i32) {
        *self.assignments.entry(partition).or_default() += 1;
        self.was_assigned.insert(partition);
        self.begins(partition);
    }

    /// The partition goes on elsewhere: what was delivered of it cannot be acknowledged any more.
    pub(super) fn begins(&mut self, partition: i32) {
        self.forget(partition);
        self.last_epoch += 1;
        self.epochs.insert(partition, self.last_epoch);
    }

    pub(super) fn taken_away(&mut self, partition: i32) {
        self.forget(partition);
        self.epochs.remove(&partition);
    }

    /// The session's member is none any more.
    pub(super) fn left(&mut self) {
        for partition in std::mem::take(&mut self.epochs).into_keys() {
            self.forget(partition);
        }
    }

    fn forget(&mut self, partition: i32) {
        self.open.retain(|(of, _)| *of != partition);
        self.done.retain(|(of, _)| *of != partition);
        self.unflushed.retain(|(of, _)| *of != partition);
        self.with_client.retain(|_, at| at.partition != partition);
    }

    pub(super) fn offered(&mut self, partition: i32, offsets: std::ops::Range<i64>) {
        self.open.extend(offsets.clone().map(|o| (partition, o)));
        self.offered.extend(offsets.map(|o| (partition, o)));
    }

    /// The session wants this committed: nothing beyond a record that the client is not done with, and nothing of a
    /// partition, or beyond a record, that it does not have. Gives back which assignments it is of.
    pub(super) fn commits(
        &mut self,
        offsets: &[(TopicPartition, i64, Option<String>)],
        next: &BTreeMap<i32, i64>,
    ) -> Vec<u32> {
        for (partition, offset, _) in offsets {
            let partition = partition.partition;
            let epoch = self.epochs.get(&partition).copied();
            let epoch = epoch.unwrap_or_else(|| panic!("{partition} is not assigned"));
            let next = next.get(&partition).copied().unwrap_or_default();
            assert!(
                *offset <= next,
                "{offset} of {partition} is committed, and {next} comes next"
            );
            let passed = self
                .open
                .range((partition, i64::MIN)..(partition, *offset))
                .map(|(partition, offset)| At {
                    partition: *partition,
                    epoch,
                    offset: *offset,
                });
            for at in passed {
                assert!(
                    self.acking.iter().any(|ack| ack.has(at)),
                    "{at:?} is passed over by {offset}"
                );
                self.relied_on.insert(at);
            }
        }
        let assignment = |(partition, ..): &(TopicPartition, i64, Option<String>)| {
            let times = self.assignments.get(&partition.partition);
            times.copied().unwrap_or_default()
        };
        offsets.iter().map(assignment).collect()
    }

    /// The group has committed what the session wanted to in one of its assignments.
    pub(super) fn was_committed(&mut self, partition: i32, offset: i64, assignment: u32) {
        let is_same = self.assignments.get(&partition) == Some(&assignment);
        if is_same && self.epochs.contains_key(&partition) {
            self.committed.insert(partition, offset);
            self.was_committed.insert((partition, offset));
        }
    }

    pub(super) fn dead_letter(&mut self, id: DeadLetterId, partition: i32, offset: i64) {
        let epoch = self.epochs.get(&partition).copied().unwrap_or_default();
        let at = At {
            partition,
            epoch,
            offset,
        };
        self.dead_letters.insert(id, at);
    }

    pub(super) fn dead_lettered(&mut self, id: DeadLetterId, well: bool) {
        if let Some(at) = self.dead_letters.remove(&id)
            && well
        {
            self.is_done(at, true);
        }
    }

    // The client.

    /// What a frame allows to be passed over, whether or not it is taken, and which answers are to come.
    pub(super) fn sends(&mut self, frame: &ClientFrame) {
        match frame {
            ClientFrame::Ack(ack) => self.acks(ack),
            ClientFrame::Nack(nack) => {
                for tag in &nack.tags {
                    self.with_client.remove(tag);
                }
            }
            ClientFrame::Commit(commit) => {
                for at in commit.positions.iter().flatten() {
                    self.open
                        .retain(|(p, o)| *p != at.partition || *o >= at.offset);
                }
            }
            ClientFrame::Produce(produced) => {
                if let Id::Text(id) = &produced.id
                    && id.starts_with(PRODUCE)
                {
                    *self.writes.entry(id.clone()).or_default() += 1;
                }
            }
            _ => {}
        }
    }

    fn acks(&mut self, ack: &Ack) {
        let tags: Vec<u64> = ack.tags.iter().flatten().copied().collect();
        let known = tags.iter().filter_map(|tag| {
            let had = self.with_client.contains_key(tag);
            Some((*tag, *self.tags.get(tag)?, had))
        });
        let records: Vec<_> = known.collect();
        let unknown = tags.iter().filter(|tag| !self.tags.contains_key(tag));
        self.early.extend(unknown);
        for tag in &tags {
            self.with_client.remove(tag);
        }
        for at in ack.upto.iter().flatten() {
            self.open
                .retain(|(p, o)| *p != at.partition || *o > at.offset);
        }
        let id = match &ack.id {
            Some(Id::Text(id)) if id.starts_with(ACK) => Some(id),
            _ => None,
        };
        if id.is_none() || self.cumulative {
            for (_, at, _) in &records {
                self.is_done(*at, false);
                if self.cumulative && self.epochs.get(&at.partition) == Some(&at.epoch) {
                    self.open
                        .retain(|(p, o)| *p != at.partition || *o > at.offset);
                }
            }
        }
        if let Some(id) = id {
            let id = id.clone();
            self.acking.push_back(Acking { id, records });
        }
    }

    /// Nothing of it needs to come again; where that is `known`, it must not.
    fn is_done(&mut self, at: At, known: bool) {
        if self.epochs.get(&at.partition) == Some(&at.epoch) {
            self.open.remove(&(at.partition, at.offset));
            if known {
                self.done.insert((at.partition, at.offset));
            }
        }
    }

    /// The socket took these, in their order: all that there was beside records. What a session says to be committed
    /// while it `is_ending` may be of an assignment that is over.
    pub(super) fn took(&mut self, frames: &[Value], is_ending: bool) {
        for (nth, frame) in frames.iter().enumerate() {
            frame_schema::check(frame);
            assert!(!self.closed, "nothing comes after goodbye: {frame}");
            let id = frame["id"].as_str().unwrap_or_default();
            match frame["type"].as_str().unwrap_or_default() {
                "records" => self.delivered(frame),
                "goodbye" => self.closed = true,
                "committed" if !is_ending => self.told_committed(frame),
                "produced" => self.written(id, frame),
                "error" if id.starts_with(PRODUCE) => self.written(id, frame),
                // What was refused of it is said behind it, with the same id.
                "acked" if id.starts_with(ACK) => {
                    let mut behind = frames.iter().skip(nth + 1);
                    self.acked(id, behind.find(|other| is_answer(other, "error", id)));
                }
                "error" if id.starts_with(ACK) => {
                    let mut before = frames.iter().take(nth);
                    if !before.any(|other| is_answer(other, "acked", id)) {
                        self.not_acked(id);
                    }
                }
                _ => {}
            }
        }
        self.was_committed = self.committed.iter().map(|(p, o)| (*p, *o)).collect();
        self.was_assigned = self.epochs.keys().copied().collect();
    }

    /// The acknowledgement that is answered: those before it never are.
    fn answered(&mut self, id: &str) -> Acking {
        let at = self.acking.iter().position(|ack| ack.id == id);
        let at = at.unwrap_or_else(|| panic!("{id} is answered in its order, and once"));
        self.acking.drain(..at);
        self.acking.pop_front().expect("it was found")
    }

    fn acked(&mut self, id: &str, refused: Option<&Value>) {
        let ack = self.answered(id);
        let is_unknown = refused.is_some_and(|refused| refused["code"] == "ack_unknown");
        let refused = refused.and_then(|refused| refused["tags"].as_array());
        let is_refused =
            |tag: u64| refused.is_some_and(|tags| tags.iter().any(|refused| *refused == tag));
        let (stale, taken): (Vec<_>, Vec<_>) = ack
            .records
            .into_iter()
            .partition(|(tag, ..)| is_refused(*tag));
        for (_, at, had) in taken {
            // Beside a tag that was never given, none is told to be stale.
            self.relied_on.remove(&at);
            self.is_done(at, had && !is_unknown);
        }
        for (_, at, _) in stale {
            self.not_done(at);
        }
    }

    fn not_acked(&mut self, id: &str) {
        for (_, at, _) in self.answered(id).records {
            self.not_done(at);
        }
    }

    /// An acknowledgement of it was refused.
    fn not_done(&mut self, at: At) {
        let is_said_again = self.acking.iter().any(|ack| ack.has(at));
        assert!(
            is_said_again || !self.relied_on.contains(&at),
            "{at:?} was committed, and its acknowledgement was refused"
        );
    }

    fn written(&mut self, id: &str, frame: &Value) {
        let left = self.writes.get_mut(id).expect("it was asked for");
        *left -= 1;
        assert!(*left >= 0, "one answer for each request: {frame}");
    }

    /// What it says is what Kafka has, and of partitions that are still the session's.
    fn told_committed(&self, frame: &Value) {
        for at in frame["positions"].as_array().expect("positions") {
            if at["error"].is_null() {
                let partition = partition_of(at);
                let offset = at["offset"].as_i64().expect("an offset");
                assert!(self.was_assigned.contains(&partition), "{frame}");
                assert!(
                    self.committed.get(&partition) == Some(&offset)
                        || self.was_committed.contains(&(partition, offset)),
                    "{frame}: {:?}",
                    self.committed
                );
            }
        }
    }

    fn delivered(&mut self, frame: &Value) {
        let records = frame["records"].as_array().expect("records");
        assert!(!records.is_empty());
        for record in records {
            let tag = record["tag"].as_u64().expect("a tag");
            assert!(tag > self.last_tag, "tags rise");
            self.last_tag = tag;
            let partition = partition_of(record);
            let offset = record["offset"].as_i64().expect("an offset");
            let epoch = self.epochs.get(&partition).copied();
            let epoch = epoch.unwrap_or_else(|| panic!("not assigned: {frame}"));
            assert!(self.offered.contains(&(partition, offset)), "{record}");
            assert!(
                !self.done.contains(&(partition, offset)),
                "{offset} of {partition} was acknowledged and comes again"
            );
            let at = At {
                partition,
                epoch,
                offset,
            };
            self.with_client.retain(|_, other| *other != at);
            self.with_client.insert(tag, at);
            self.tags.insert(tag, at);
            if self.early.contains(&tag) {
                self.is_done(at, false);
            }
            if self.auto {
                self.unflushed.push((partition, offset));
            }
        }
    }

    /// The socket is done with what it took.
    pub(super) fn flushed(&mut self) {
        for at in std::mem::take(&mut self.unflushed) {
            self.open.remove(&at);
        }
    }

    pub(super) fn in_flight(&self, records: u64) {
        if let Some(window) = self.window {
            assert!(records <= window, "{records} are in flight");
        }
    }
}

impl Acking {
    fn has(&self, at: At) -> bool {
        self.records.iter().any(|(_, other, _)| *other == at)
    }
}

fn is_answer(frame: &Value, kind: &str, id: &str) -> bool {
    frame["type"] == kind && frame["id"] == id
}

fn partition_of(at: &Value) -> i32 {
    let partition = at["partition"].as_i64().expect("a partition");
    i32::try_from(partition).expect("a partition")
}
