//! What an instance has read from Kafka: records that wait for the client, those that are on their way
//! to it, and how far it is in each partition. Knows neither Kafka nor HTTP.
//!
//! A record is *out* from the moment that it is put into an answer until it is known what became of
//! that answer: it was written, and the partition's position moves on; or it was not, and the record is
//! the next that is given, or the answer is given again as it was. Only what is written counts as
//! delivered.
//!
//! What was delivered of a partition and not committed when that was taken away is remembered until the
//! next commit of what was delivered: the client must hear that this is not in it.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use crate::record::{ConsumerRecord, TopicPartition};

/// The records of one partition, as far as they are known here.
#[derive(Debug)]
struct Part {
    /// Tells this assignment of the partition, and each new place in it, from others.
    turn: u64,
    /// How far what was delivered from its place on is committed.
    confirmed: i64,
    /// The offset after the last record that was delivered.
    delivered: i64,
    /// The same before the last answer: the client has come back since.
    handled: i64,
    /// The offset after what was read, records that are never delivered counted.
    passed: i64,
    /// What the group has committed, as far as is known.
    committed: Option<i64>,
    /// Records that wait.
    waiting: usize,
}

/// Records in an answer whose fate is not known yet.
#[derive(Debug)]
struct Out {
    records: Arc<Vec<ConsumerRecord>>,
    /// Which turn of each partition they are of.
    turns: HashMap<TopicPartition, u64>,
}

/// A partition that was taken away.
#[derive(Debug)]
struct Gone {
    turn: u64,
    /// The offset after the last record that was delivered.
    delivered: i64,
    /// How far the group has committed, or is about to.
    committed: i64,
}

/// Why no record was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unfit {
    /// Where the record is.
    pub partition: TopicPartition,
    /// Its offset.
    pub offset: i64,
    /// What cannot be shown: `key` or `value`.
    pub what: &'static str,
    /// Key and value could be shown as text.
    pub is_text: bool,
}

impl Unfit {
    /// Of a record, which is in this partition.
    pub fn new(partition: TopicPartition, record: &ConsumerRecord, what: &'static str) -> Self {
        let is_text = |bytes: &Option<bytes::Bytes>| {
            let bytes = bytes.as_deref().unwrap_or_default();
            std::str::from_utf8(bytes).is_ok()
        };
        Self {
            partition,
            offset: record.offset,
            what,
            is_text: is_text(&record.key) && is_text(&record.value),
        }
    }
}

/// See the module.
#[derive(Debug, Default)]
pub struct RecordBuffer {
    parts: HashMap<TopicPartition, Part>,
    waiting: VecDeque<ConsumerRecord>,
    /// Bytes of memory that wait.
    bytes: usize,
    /// Of these, bytes as `max_bytes` counts them.
    payload: u64,
    /// The same that are out.
    out_bytes: usize,
    turns: u64,
    out: Option<Out>,
    gone: HashMap<TopicPartition, Gone>,
}

/// Bytes as `max_bytes` counts them: of the key and the value.
fn counted(record: &ConsumerRecord) -> u64 {
    let length = |bytes: &Option<bytes::Bytes>| bytes.as_ref().map_or(0, |b| b.len() as u64);
    length(&record.key) + length(&record.value)
}

/// Bytes of memory: of small records most is not what they carry.
fn footprint(record: &ConsumerRecord) -> usize {
    record.size() + size_of::<ConsumerRecord>()
}

fn place(record: &ConsumerRecord) -> TopicPartition {
    TopicPartition::new(Arc::clone(&record.topic), record.partition)
}

impl RecordBuffer {
    /// All partitions, sorted.
    pub fn partitions(&self) -> Vec<TopicPartition> {
        let mut partitions: Vec<TopicPartition> = self.parts.keys().cloned().collect();
        partitions.sort_unstable();
        partitions
    }

    /// Whether the partition is there.
    pub fn has(&self, partition: &TopicPartition) -> bool {
        self.parts.contains_key(partition)
    }

    /// Bytes that are kept.
    pub fn bytes(&self) -> usize {
        self.bytes + self.out_bytes
    }

    /// Bytes that wait.
    pub fn waiting_bytes(&self) -> usize {
        self.bytes
    }

    /// Bytes of keys and values that wait.
    pub fn payload(&self) -> u64 {
        self.payload
    }

    /// Whether records wait.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Puts a partition at `start`: it was assigned, or is to be read from there. What was there of it
    /// before is not given any more.
    pub fn place(&mut self, partition: TopicPartition, start: i64, committed: Option<i64>) {
        self.drop_waiting(&partition);
        self.turns += 1;
        // It has come back, and what was delivered of it was committed, or is to be given no more.
        if self
            .gone
            .get(&partition)
            .is_some_and(|gone| gone.delivered <= start)
        {
            self.gone.remove(&partition);
        }
        let part = Part {
            turn: self.turns,
            confirmed: start,
            delivered: start,
            handled: start,
            passed: start,
            committed,
            waiting: 0,
        };
        self.parts.insert(partition, part);
    }

    /// The same of a partition that is there already.
    pub fn seek(&mut self, partition: &TopicPartition, to: i64) {
        if let Some(part) = self.parts.get(partition) {
            let committed = part.committed;
            self.place(partition.clone(), to, committed);
        }
    }

    /// Takes a partition away, with what waits of it. `committing` is the offset that is being committed
    /// for it, if one is.
    pub fn remove(&mut self, partition: &TopicPartition, committing: Option<i64>) {
        self.drop_waiting(partition);
        let Some(part) = self.parts.remove(partition) else {
            return;
        };
        let committed = committing.map_or(part.confirmed, |at| at.max(part.confirmed));
        let is_out = self.out.as_ref().and_then(|out| out.turns.get(partition));
        if part.delivered > committed || is_out == Some(&part.turn) {
            let gone = Gone {
                turn: part.turn,
                delivered: part.delivered,
                committed,
            };
            self.gone.insert(partition.clone(), gone);
        }
    }

    /// Partitions that were taken away before what was delivered of them was committed, each told once.
    pub fn moved_on(&mut self) -> Vec<TopicPartition> {
        let out = self.out.as_ref();
        let mut moved = Vec::new();
        self.gone.retain(|partition, gone| {
            if gone.delivered > gone.committed {
                moved.push(partition.clone());
            }
            // Of what is out it is still to be heard whether it was delivered.
            out.is_some_and(|out| out.turns.get(partition) == Some(&gone.turn))
        });
        for partition in &moved {
            if let Some(gone) = self.gone.get_mut(partition) {
                gone.committed = gone.delivered;
            }
        }
        moved.sort_unstable();
        moved
    }

    /// The client has said itself what is to be committed of this partition.
    pub fn is_told(&mut self, partition: &TopicPartition) {
        self.gone.remove(partition);
    }

    /// Takes everything away.
    pub fn clear(&mut self) {
        *self = Self {
            turns: self.turns,
            ..Self::default()
        };
    }

    fn drop_waiting(&mut self, partition: &TopicPartition) {
        let Some(part) = self.parts.get_mut(partition) else {
            return;
        };
        if part.waiting == 0 {
            return;
        }
        part.waiting = 0;
        let (bytes, payload) = (&mut self.bytes, &mut self.payload);
        self.waiting.retain(|record| {
            let stays = record.partition != partition.partition || record.topic != partition.topic;
            if !stays {
                *bytes -= footprint(record);
                *payload -= counted(record);
            }
            stays
        });
    }

    /// What was read, and the next offset of each partition that moved.
    pub fn put(&mut self, records: Vec<ConsumerRecord>, next: &[(TopicPartition, i64)]) {
        let mut last: Option<(TopicPartition, usize)> = None;
        for record in records {
            let same = last.as_ref().is_some_and(|(partition, _)| {
                partition.partition == record.partition && partition.topic == record.topic
            });
            if !same {
                self.count(last.take());
                last = Some((place(&record), 0));
            }
            let known = last
                .as_ref()
                .is_some_and(|(partition, _)| self.parts.contains_key(partition));
            if !known {
                continue;
            }
            if let Some((_, count)) = &mut last {
                *count += 1;
            }
            self.bytes += footprint(&record);
            self.payload += counted(&record);
            self.waiting.push_back(record);
        }
        self.count(last);
        for (partition, next) in next {
            if let Some(part) = self.parts.get_mut(partition) {
                part.passed = part.passed.max(*next);
            }
        }
    }

    fn count(&mut self, of: Option<(TopicPartition, usize)>) {
        if let Some((partition, count)) = of
            && let Some(part) = self.parts.get_mut(&partition)
        {
            part.waiting += count;
        }
    }

    /// The log begins or ends elsewhere than was thought: reading goes on at `to`.
    pub fn gap(&mut self, partition: &TopicPartition, to: i64) {
        if let Some(part) = self.parts.get_mut(partition) {
            if to < part.delivered {
                part.confirmed = part.confirmed.min(to);
                part.delivered = to;
                part.handled = part.handled.min(to);
            }
            part.passed = to;
        }
    }

    /// Where to read on in each partition of `topic`.
    pub fn reads_on(&self, topic: &str) -> Vec<(i32, i64)> {
        let of_topic = self.parts.iter().filter(|(p, _)| &*p.topic == topic);
        let mut next: Vec<_> = of_topic
            .map(|(p, part)| (p.partition, part.passed))
            .collect();
        next.sort_unstable();
        next
    }

    /// Takes what waits, oldest first: at least one record, no more than `max_bytes` of keys and
    /// values. Records of topics that are not `wanted` stay where they are; those that `shows` says no of
    /// are passed over. `fits` says whether a record can be shown in the format; the first that cannot
    /// is where an answer ends.
    ///
    /// # Errors
    ///
    /// The record that cannot be shown, if it is the first.
    pub fn take(
        &mut self,
        max_bytes: u64,
        wanted: impl Fn(&str) -> bool,
        shows: impl Fn(&ConsumerRecord) -> bool,
        fits: impl Fn(&ConsumerRecord) -> Result<(), &'static str>,
    ) -> Result<Arc<Vec<ConsumerRecord>>, Unfit> {
        let mut taken: Vec<ConsumerRecord> = Vec::with_capacity(self.waiting.len());
        let mut kept = Vec::new();
        let mut sum = 0;
        let mut unfit = None;
        let mut topic: Option<(Arc<str>, bool)> = None;
        while let Some(record) = self.waiting.pop_front() {
            let is_wanted = match &topic {
                Some((known, is_wanted)) if Arc::ptr_eq(known, &record.topic) => *is_wanted,
                _ => {
                    let is_wanted = wanted(&record.topic);
                    topic = Some((Arc::clone(&record.topic), is_wanted));
                    is_wanted
                }
            };
            if !is_wanted {
                kept.push(record);
                continue;
            }
            if !shows(&record) {
                self.pass_over(&record);
                continue;
            }
            let size = counted(&record);
            if !taken.is_empty() && sum + size > max_bytes {
                self.waiting.push_front(record);
                break;
            }
            if let Err(what) = fits(&record) {
                unfit = Some(Unfit::new(place(&record), &record, what));
                self.waiting.push_front(record);
                break;
            }
            sum += size;
            taken.push(record);
        }
        for record in kept.into_iter().rev() {
            self.waiting.push_front(record);
        }
        if taken.is_empty()
            && let Some(unfit) = unfit
        {
            return Err(unfit);
        }
        let mut turns: HashMap<TopicPartition, u64> = HashMap::new();
        for run in taken.chunk_by(|a, b| a.partition == b.partition && a.topic == b.topic) {
            let Some(first) = run.first() else { continue };
            let partition = place(first);
            if let Some(part) = self.parts.get_mut(&partition) {
                part.waiting = part.waiting.saturating_sub(run.len());
                turns.insert(partition, part.turn);
            }
        }
        let bytes: usize = taken.iter().map(footprint).sum();
        self.bytes -= bytes;
        self.payload -= sum;
        let records = Arc::new(taken);
        if !records.is_empty() {
            self.out_bytes = bytes;
            self.out = Some(Out {
                records: Arc::clone(&records),
                turns,
            });
        }
        Ok(records)
    }

    /// A record that waited is not to be given to anybody.
    fn pass_over(&mut self, record: &ConsumerRecord) {
        self.bytes -= footprint(record);
        self.payload -= counted(record);
        if let Some(part) = self.parts.get_mut(&place(record)) {
            part.waiting = part.waiting.saturating_sub(1);
        }
    }

    /// What is out was written to the client. Gives its records.
    pub fn written(&mut self) -> Option<Arc<Vec<ConsumerRecord>>> {
        let out = self.out.take()?;
        self.out_bytes = 0;
        for run in out
            .records
            .chunk_by(|a, b| a.partition == b.partition && a.topic == b.topic)
        {
            let Some(last) = run.last() else { continue };
            let partition = place(last);
            if let Some(part) = self.parts.get_mut(&partition)
                && out.turns.get(&partition) == Some(&part.turn)
            {
                part.delivered = part.delivered.max(last.offset + 1);
            } else if let Some(gone) = self.gone.get_mut(&partition)
                && out.turns.get(&partition) == Some(&gone.turn)
            {
                gone.delivered = gone.delivered.max(last.offset + 1);
            }
        }
        Some(out.records)
    }

    /// Whether an answer is out.
    pub fn is_out(&self) -> bool {
        self.out.is_some()
    }

    /// The records of the answer that is out, to be given once more: those of them that `shows` says yes
    /// of, and whose partitions are still at the place that they were read from. `None` if none is left:
    /// then nothing is out any more.
    pub fn again(
        &mut self,
        shows: impl Fn(&ConsumerRecord) -> bool,
    ) -> Option<Arc<Vec<ConsumerRecord>>> {
        let out = self.out.as_mut()?;
        let parts = &self.parts;
        let is_current = |partition: &TopicPartition, turn: &u64| {
            parts.get(partition).is_some_and(|part| part.turn == *turn)
        };
        if !out.turns.iter().all(|(p, turn)| is_current(p, turn)) {
            out.turns.retain(|p, turn| is_current(p, turn));
            let kept = out.records.iter();
            let kept = kept.filter(|record| out.turns.contains_key(&place(record)));
            out.records = Arc::new(kept.cloned().collect());
            self.out_bytes = out.records.iter().map(footprint).sum();
        }
        let records = if out.records.iter().all(&shows) {
            Arc::clone(&out.records)
        } else {
            let shown = out.records.iter().filter(|record| shows(record));
            Arc::new(shown.cloned().collect())
        };
        if records.is_empty() {
            self.lost();
            return None;
        }
        Some(records)
    }

    /// What is out was not: it waits again, before all else.
    pub fn lost(&mut self) {
        let Some(out) = self.out.take() else {
            return;
        };
        self.out_bytes = 0;
        for record in out.records.iter().rev() {
            let partition = place(record);
            if let Some(part) = self.parts.get_mut(&partition)
                && out.turns.get(&partition) == Some(&part.turn)
            {
                part.waiting += 1;
                self.bytes += footprint(record);
                self.payload += counted(record);
                self.waiting.push_front(record.clone());
            }
        }
        self.gone.retain(|_, gone| gone.delivered > gone.committed);
    }

    /// The client has come back: what was delivered to it before counts as handled.
    pub fn came_back(&mut self) {
        let out = self.out.as_ref();
        for (partition, part) in &mut self.parts {
            part.handled = reached(partition, part, out);
        }
    }

    /// What is to be committed of what was delivered: the offset of the next record of each partition
    /// in which that is not what is committed already.
    pub fn delivered(&self) -> Vec<(TopicPartition, i64)> {
        let out = self.out.as_ref();
        self.uncommitted(|partition, part| reached(partition, part, out))
    }

    /// The same of what was handled.
    pub fn handled(&self) -> Vec<(TopicPartition, i64)> {
        self.uncommitted(|_, part| part.handled)
    }

    fn uncommitted(
        &self,
        offset: impl Fn(&TopicPartition, &Part) -> i64,
    ) -> Vec<(TopicPartition, i64)> {
        let mut offsets: Vec<_> = self
            .parts
            .iter()
            .map(|(partition, part)| (partition.clone(), offset(partition, part)))
            .filter(|(partition, offset)| {
                let part = self.parts.get(partition);
                part.is_some_and(|part| part.committed != Some(*offset))
            })
            .collect();
        offsets.sort_unstable();
        offsets
    }

    /// The group has committed this.
    pub fn committed(&mut self, partition: &TopicPartition, offset: i64) {
        if let Some(part) = self.parts.get_mut(partition) {
            part.committed = Some(offset);
            part.confirmed = offset;
        }
    }
}

/// The offset of the next record: after what was delivered, and where nothing more is known of the
/// partition, after what is never delivered too.
fn reached(partition: &TopicPartition, part: &Part, out: Option<&Out>) -> i64 {
    let is_out = out.is_some_and(|out| out.turns.get(partition) == Some(&part.turn));
    if part.waiting == 0 && !is_out {
        part.delivered.max(part.passed)
    } else {
        part.delivered
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;
    use crate::record::TimestampType;

    fn at(partition: i32) -> TopicPartition {
        TopicPartition::new("t", partition)
    }

    fn record(partition: i32, offset: i64, bytes: usize) -> ConsumerRecord {
        ConsumerRecord {
            topic: Arc::from("t"),
            partition,
            offset,
            timestamp: 1,
            timestamp_type: TimestampType::Create,
            key: None,
            value: Some(Bytes::from(vec![b'x'; bytes])),
            headers: Vec::new(),
        }
    }

    fn buffer(counts: &[i64]) -> RecordBuffer {
        let mut buffer = RecordBuffer::default();
        for (partition, count) in counts.iter().enumerate() {
            let partition = i32::try_from(partition).unwrap();
            buffer.place(at(partition), 0, None);
            let records = (0..*count).map(|offset| record(partition, offset, 10));
            buffer.put(records.collect(), &[(at(partition), *count)]);
        }
        buffer
    }

    fn take(buffer: &mut RecordBuffer, max_bytes: u64) -> Vec<(i32, i64)> {
        let taken = buffer
            .take(max_bytes, |_| true, |_| true, |_| Ok(()))
            .unwrap();
        taken.iter().map(|r| (r.partition, r.offset)).collect()
    }

    #[test]
    fn records_that_a_filter_hides_are_passed_over() {
        let mut buffer = buffer(&[4, 2]);
        let shows = |record: &ConsumerRecord| record.partition == 0 && record.offset % 2 == 0;
        let taken = buffer.take(15, |_| true, shows, |_| Ok(())).unwrap();
        assert_eq!(taken.len(), 1, "the next would be too much");
        buffer.written();
        assert_eq!(buffer.delivered(), [(at(0), 1), (at(1), 0)]);
        let taken = buffer.take(99, |_| true, shows, |_| Ok(())).unwrap();
        assert_eq!(taken.iter().map(|r| r.offset).collect::<Vec<_>>(), [2]);
        assert!(buffer.is_empty() && buffer.payload() == 0 && buffer.waiting_bytes() == 0);
        buffer.written();
        assert_eq!(buffer.delivered(), [(at(0), 4), (at(1), 2)]);
    }

    #[test]
    fn one_record_always_comes_and_no_more_than_fit() {
        let mut buffer = buffer(&[5]);
        assert_eq!(take(&mut buffer, 1), [(0, 0)]);
        buffer.written();
        assert_eq!(take(&mut buffer, 25), [(0, 1), (0, 2)]);
        buffer.written();
        assert_eq!(take(&mut buffer, u64::MAX), [(0, 3), (0, 4)]);
        assert_eq!(buffer.waiting_bytes(), 0);
        buffer.written();
        assert_eq!(buffer.bytes(), 0);
    }

    #[test]
    fn only_what_was_written_is_delivered() {
        let mut buffer = buffer(&[3]);
        take(&mut buffer, 20);
        assert_eq!(buffer.delivered(), [(at(0), 0)], "it is on its way");
        buffer.lost();
        assert_eq!(take(&mut buffer, 20), [(0, 0), (0, 1)], "again");
        buffer.written();
        assert_eq!(buffer.delivered(), [(at(0), 2)]);
        assert_eq!(
            buffer.handled(),
            [(at(0), 0)],
            "the client has not come back"
        );
        buffer.came_back();
        assert_eq!(buffer.handled(), [(at(0), 2)]);
        buffer.committed(&at(0), 2);
        assert_eq!(buffer.delivered(), []);
    }

    #[test]
    fn offsets_without_a_record_are_passed_once_all_before_them_is_delivered() {
        let mut buffer = RecordBuffer::default();
        buffer.place(at(0), 5, None);
        buffer.put(vec![record(0, 6, 1)], &[(at(0), 9)]);
        assert_eq!(buffer.delivered(), [(at(0), 5)]);
        take(&mut buffer, 9);
        buffer.written();
        assert_eq!(buffer.delivered(), [(at(0), 9)]);
        assert_eq!(buffer.reads_on("t"), [(0, 9)]);
    }

    #[test]
    fn records_of_a_revoked_partition_do_not_come_any_more() {
        let mut buffer = buffer(&[2, 2]);
        assert_eq!(take(&mut buffer, 10), [(0, 0)]);
        buffer.remove(&at(0), None);
        buffer.lost();
        assert_eq!(take(&mut buffer, 99), [(1, 0), (1, 1)]);
        buffer.written();
        assert_eq!(buffer.partitions(), [at(1)]);
        buffer.seek(&at(1), 1);
        assert_eq!(buffer.delivered(), [(at(1), 1)]);
    }

    #[test]
    fn what_was_delivered_of_a_partition_that_moved_on_is_told_once() {
        let mut buffer = buffer(&[2, 2, 2]);
        assert_eq!(take(&mut buffer, 30), [(0, 0), (0, 1), (1, 0)]);
        buffer.written();
        buffer.committed(&at(0), 2);
        for partition in 0..3 {
            buffer.remove(&at(partition), None);
        }
        assert_eq!(
            buffer.moved_on(),
            [at(1)],
            "the first is committed, nothing of the third was delivered"
        );
        assert_eq!(buffer.moved_on(), []);
    }

    #[test]
    fn a_commit_of_before_a_seek_does_not_cover_what_came_after_it() {
        let mut buffer = RecordBuffer::default();
        buffer.place(at(0), 0, Some(9));
        buffer.seek(&at(0), 3);
        buffer.put(vec![record(0, 3, 1)], &[(at(0), 4)]);
        take(&mut buffer, 99);
        buffer.written();
        buffer.remove(&at(0), None);
        assert_eq!(buffer.moved_on(), [at(0)]);
    }

    #[test]
    fn an_answer_that_arrives_after_its_partition_has_moved_on_is_told_too() {
        let mut buffer = buffer(&[2, 2]);
        take(&mut buffer, 99);
        buffer.remove(&at(0), None);
        buffer.remove(&at(1), Some(0));
        assert_eq!(buffer.moved_on(), [], "it may not have arrived");
        buffer.written();
        assert_eq!(buffer.moved_on(), [at(0), at(1)]);

        buffer.place(at(0), 0, None);
        buffer.put((0..2).map(|n| record(0, n, 10)).collect(), &[(at(0), 2)]);
        take(&mut buffer, 99);
        buffer.remove(&at(0), None);
        buffer.lost();
        assert_eq!(buffer.moved_on(), [], "it did not");
    }

    #[test]
    fn a_partition_that_comes_back_behind_what_was_delivered_is_not_told() {
        let mut buffer = buffer(&[2, 2]);
        take(&mut buffer, 99);
        buffer.written();
        buffer.remove(&at(0), None);
        buffer.remove(&at(1), None);
        buffer.place(at(0), 2, Some(2));
        buffer.place(at(1), 1, Some(1));
        assert_eq!(buffer.moved_on(), [at(1)], "its second record comes again");
    }

    #[test]
    fn an_answer_is_given_again_as_far_as_it_is_still_the_clients() {
        let mut buffer = buffer(&[2, 2]);
        assert_eq!(take(&mut buffer, 99).len(), 4);
        let again = buffer.again(|_| true).unwrap();
        assert_eq!(again.len(), 4);
        assert_eq!(buffer.delivered(), [(at(0), 0), (at(1), 0)]);
        buffer.remove(&at(0), None);
        let again = buffer.again(|record| record.offset > 0).unwrap();
        assert_eq!(
            again
                .iter()
                .map(|r| (r.partition, r.offset))
                .collect::<Vec<_>>(),
            [(1, 1)]
        );
        buffer.written();
        assert_eq!(
            buffer.delivered(),
            [(at(1), 2)],
            "what is not shown is passed"
        );
        assert_eq!(buffer.bytes(), 0);
        assert!(buffer.again(|_| true).is_none());
    }

    #[test]
    fn a_seek_does_not_let_an_older_answer_move_it() {
        let mut buffer = buffer(&[3]);
        take(&mut buffer, 99);
        buffer.seek(&at(0), 1);
        buffer.written();
        assert_eq!(buffer.delivered(), [(at(0), 1)]);
    }

    #[test]
    fn a_record_that_cannot_be_shown_is_where_an_answer_ends() {
        let mut buffer = buffer(&[3]);
        let fits = |r: &ConsumerRecord| match r.offset {
            1 => Err("value"),
            _ => Ok(()),
        };
        let taken = buffer.take(99, |_| true, |_| true, fits).unwrap();
        assert_eq!(taken.len(), 1);
        buffer.written();
        let unfit = buffer.take(99, |_| true, |_| true, fits).unwrap_err();
        assert_eq!((unfit.offset, unfit.what), (1, "value"));
        assert_eq!(buffer.delivered(), [(at(0), 1)]);
        buffer.seek(&at(0), 2);
        assert!(buffer.is_empty(), "reading goes on there");
    }

    #[test]
    fn a_read_of_no_wanted_topic_leaves_the_records_in_the_buffer() {
        let mut buffer = buffer(&[1]);
        assert_eq!(
            buffer
                .take(99, |_| false, |_| true, |_| Ok(()))
                .unwrap()
                .len(),
            0
        );
        assert!(!buffer.is_empty());
        assert_eq!(take(&mut buffer, 99), [(0, 0)]);
    }

    proptest! {
        /// Whatever becomes of the answers, each record is delivered once and in order.
        #[test]
        fn each_record_of_the_buffer_is_delivered_once_and_in_order(
            counts in proptest::collection::vec(0..20_i64, 1..4),
            answers in proptest::collection::vec((1..60_u64, any::<bool>()), 0..80),
        ) {
            let mut buffer = buffer(&counts);
            let mut got: Vec<Vec<i64>> = vec![Vec::new(); counts.len()];
            for (max, is_written) in answers.into_iter().chain([(u64::MAX, true)]) {
                let taken = take(&mut buffer, max);
                if is_written {
                    buffer.written();
                    for (partition, offset) in taken {
                        got[usize::try_from(partition).unwrap()].push(offset);
                    }
                } else {
                    buffer.lost();
                }
                for (partition, offset) in buffer.delivered() {
                    let given = &got[usize::try_from(partition.partition).unwrap()];
                    prop_assert_eq!(offset, i64::try_from(given.len()).unwrap());
                }
            }
            for (offsets, count) in got.iter().zip(&counts) {
                prop_assert_eq!(offsets, &(0..*count).collect::<Vec<_>>());
            }
            prop_assert_eq!((buffer.bytes(), buffer.payload()), (0, 0));
        }
    }
}
