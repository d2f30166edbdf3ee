//! A group subscription: what its member of the group tells, what the client acknowledges, and the
//! commits between the two. A state machine without I/O: it says what is to be sent and what the
//! member is to be told, and is told what came of it.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::options::{Options, Topics};
use super::{Clock, Effect, Out};
use crate::api::records::format::Format;
use crate::api::ws::protocol::client::{
    Ack, Commit, Extend, Nack, OnDecodeError, Pause, Seek, SeekName, SeekOffset,
};
use crate::api::ws::protocol::records::Writer;
use crate::api::ws::protocol::server::{
    Acked, Assigned, AssignedPartition, Committed, CommittedOffset, Done, Error, Gap, GapReason,
    Offset, PartitionPosition, Positions, Revoked, RevokedPartition, RevokedReason, Revoking,
    Seeked, ServerFrame, State, StateName,
};
use crate::api::ws::protocol::{Id, Partition};
use crate::auth::policy::Sight;
use crate::delivery::{
    self, AckMode, DeadLetterId, Ledger, Left, Reason, Refused, Stale, Take, Verdict,
};
use crate::kafka::fault::{Fault, FaultKind};
use crate::kafka::member::{self, Command, Event, Release, SeekTo, Token};
use crate::record::{Delivered, Outgoing, TopicPartition};

/// Most tags in one frame.
const MAX_TAGS: usize = 10_000;
/// Longest delay of a nack, and longest extension.
const MAX_DELAY_MS: i64 = 900_000;
const MAX_EXTENSION_MS: i64 = 600_000;
/// Longest reason of a nack, in characters.
const MAX_REASON: usize = 256;
/// Longest wait for a commit when partitions go or the session ends.
const LAST_COMMIT: Duration = Duration::from_secs(5);
/// Longest wait for a member that was told to leave.
const LEAVING: Duration = Duration::from_secs(10);
/// Requests of the client that wait for Kafka at once.
const MAX_WAITING: usize = 8;
/// Dead letters on their way at once.
const MAX_DEAD_LETTERS: usize = 16;
/// Tags that an error repeats.
const MOST_TAGS_SAID: usize = 100;
/// Smallest room in which a frame is begun.
const LEAST_ROOM: usize = 16 << 10;

/// Why a subscription ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// The client asked for it, with this id.
    Unsubscribe(Option<Id>),
    /// It lost a right.
    Forbidden,
    /// The session ends.
    Session,
}

/// What became of a subscription that is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Over {
    /// It ended as it was to.
    Ended(Ending),
    /// Kafka ended it.
    Failed(Fault),
}

/// What an answer from Kafka is for.
#[derive(Debug)]
enum Waiting {
    /// A commit that time brought about.
    Interval,
    /// A `commit` frame, with partitions whose offsets were refused before Kafka was asked.
    Commit(Option<Id>),
    /// The commit before partitions go.
    Revoke,
    /// The commit before the subscription ends.
    Last,
    Seek(Option<Id>, Vec<TopicPartition>),
    Position(Option<Id>),
}

/// Partitions that are about to go.
#[derive(Debug)]
struct Going {
    partitions: Vec<TopicPartition>,
    /// When the client's time is over, or with `committing` the commit's.
    until: Instant,
    committing: bool,
    _release: Release,
}

#[derive(Debug)]
enum Leaving {
    /// What is acknowledged is being committed.
    Committing { until: Instant, stay: bool },
    /// The member has been told to leave.
    Told { until: Instant },
}

/// The subscription.
#[derive(Debug)]
pub struct Subscription {
    options: Options,
    topics: Vec<Arc<str>>,
    /// Which records of them the principal is shown.
    sight: Sight,
    ledger: Ledger,
    epoch: u64,
    /// The last change took partitions away: those that come with it have the same number.
    taken_away: bool,
    state: Option<StateName>,
    starts: HashMap<TopicPartition, i64>,
    going: Option<Going>,
    leaving: Option<(Leaving, Ending)>,
    waiting: HashMap<Token, Waiting>,
    next_token: Token,
    next_commit: Instant,
    dead_letters: HashSet<DeadLetterId>,
    /// Since when a frame waits for more records.
    lingers: Option<Instant>,
    /// It has waited long enough, and goes as soon as it can.
    lingered: bool,
    counted: Counted,
}

/// What is counted for the metrics, until it is taken.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Counted {
    /// Records delivered.
    pub delivered: u64,
    /// Of them, again.
    pub redelivered: u64,
    /// Records acknowledged by the client, one by one or in ranges, counted by frame.
    pub acks: u64,
    /// Records that could not be handled.
    pub nacks: u64,
    /// Records that were not acknowledged in time.
    pub expired: u64,
    /// Dead letters written.
    pub dead_letters: u64,
    /// Changes of the assignment.
    pub rebalances: u64,
}

/// Where a subscription puts what is to be sent and done.
pub struct Sink<'a> {
    /// Frames that go before records.
    pub out: &'a mut Out,
    /// What is to be done.
    pub effects: &'a mut Vec<Effect>,
    /// The time of day.
    pub clock: Clock,
    /// Now.
    pub now: Instant,
}

impl Sink<'_> {
    fn send(&mut self, frame: &ServerFrame) {
        self.out.push(frame);
    }

    fn tell(&mut self, command: Command) {
        self.effects.push(Effect::Command(command));
    }
}

fn wire(partition: &TopicPartition) -> Partition {
    Partition {
        topic: partition.topic.to_string(),
        partition: partition.partition,
    }
}

fn wires(partitions: &[TopicPartition]) -> Vec<Partition> {
    partitions.iter().map(wire).collect()
}

fn offset(partition: &TopicPartition, offset: i64) -> Offset {
    Offset {
        topic: partition.topic.to_string(),
        partition: partition.partition,
        offset,
    }
}

impl Subscription {
    /// A subscription to `topics`, whose member is being made; tags begin with `first_tag`.
    pub fn new(
        options: Options,
        topics: Vec<Arc<str>>,
        sight: Sight,
        first_tag: u64,
        now: Instant,
    ) -> Self {
        Self {
            ledger: Ledger::new(options.policy.clone(), first_tag),
            topics,
            sight,
            epoch: 0,
            taken_away: false,
            state: None,
            starts: HashMap::new(),
            going: None,
            leaving: None,
            waiting: HashMap::new(),
            next_token: 1,
            next_commit: now + options.commit_interval,
            dead_letters: HashSet::new(),
            lingers: None,
            lingered: false,
            counted: Counted::default(),
            options,
        }
    }

    /// What the client calls it by.
    pub fn name(&self) -> &str {
        &self.options.sub
    }

    /// The group.
    pub fn group(&self) -> &str {
        &self.options.group
    }

    /// Of a static member.
    pub fn instance_id(&self) -> Option<&str> {
        self.options.instance_id.as_deref()
    }

    /// Its topics now.
    pub fn topics(&self) -> &[Arc<str>] {
        &self.topics
    }

    /// Which records of them are shown.
    pub fn sees(&self) -> &Sight {
        &self.sight
    }

    /// Which topics were asked for.
    pub fn asked(&self) -> &Topics {
        &self.options.topics
    }

    /// The first tag that a later subscription may give.
    pub fn next_tag(&self) -> u64 {
        self.ledger.next_tag()
    }

    /// Bytes of records that are kept.
    pub fn held_bytes(&self) -> u64 {
        self.ledger.held_bytes()
    }

    /// Records with the client.
    pub fn in_flight(&self) -> u64 {
        self.ledger.in_flight().0
    }

    /// What is committed of each partition, as far as is known.
    pub fn last_committed(&self) -> Vec<Offset> {
        let places = self.ledger.places().into_iter();
        places
            .filter_map(|place| Some(offset(&place.partition, place.committed?)))
            .collect()
    }

    /// Whether it is about to end.
    pub fn is_leaving(&self) -> bool {
        self.leaving.is_some()
    }

    /// What was counted since this was last asked.
    pub fn counted(&mut self) -> Counted {
        std::mem::take(&mut self.counted)
    }

    /// Divides what may be in flight by two to this power, while memory is short.
    pub fn squeeze(&mut self, squeeze: u32) {
        self.ledger.squeeze(squeeze);
    }

    /// Whether all that the client has is acknowledged and nothing waits for Kafka.
    pub fn is_quiet(&self) -> bool {
        self.ledger.in_flight().0 == 0 && self.dead_letters.is_empty() && self.going.is_none()
    }

    fn token(&mut self, waiting: Waiting) -> Token {
        let token = self.next_token;
        self.next_token += 1;
        self.waiting.insert(token, waiting);
        token
    }

    fn state(&mut self, state: StateName, detail: Option<String>, sink: &mut Sink<'_>) {
        if self.state == Some(state) && detail.is_none() {
            return;
        }
        self.state = Some(state);
        sink.send(&ServerFrame::State(State {
            sub: self.options.sub.clone(),
            state,
            since: sink.clock.wall(sink.now),
            detail,
            partitions: None,
        }));
    }

    // What the member tells.

    /// Something happened in the group. `Some` when the subscription is over.
    pub fn event(&mut self, event: Event, sink: &mut Sink<'_>) -> Option<Over> {
        match event {
            Event::State(state) => self.changed(state, sink),
            Event::Assigned { added, all } => self.assigned(added, &all, sink),
            Event::Records { records, next } => self.records(records, &next, sink),
            Event::Gap {
                partition,
                from,
                to,
            } => self.gap(&partition, from, to, sink),
            Event::Revoking {
                partitions,
                release,
            } => self.revoking(partitions, release, sink),
            Event::Lost(partitions) => {
                self.going = None;
                self.epoch += 1;
                self.taken_away = true;
                self.counted.rebalances += 1;
                self.gone(&partitions, RevokedReason::Lost, sink);
            }
            Event::Committed { token, results } => return self.committed(token, results, sink),
            Event::Seeked { token, results } => self.seeked(token, results, sink),
            Event::Ends { token, results } => self.ends(token, &results, sink),
            Event::Ended(fault) => return Some(self.ended(fault, sink)),
        }
        None
    }

    fn changed(&mut self, state: member::State, sink: &mut Sink<'_>) {
        let (name, detail) = match state {
            member::State::Joining(fault) => (StateName::Joining, fault),
            member::State::Active => (StateName::Active, None),
            member::State::Unavailable(fault) => (StateName::KafkaUnavailable, Some(fault)),
        };
        self.state(name, detail.map(|fault| fault.message), sink);
    }

    fn assigned(
        &mut self,
        added: Vec<member::Assigned>,
        all: &[TopicPartition],
        sink: &mut Sink<'_>,
    ) {
        if !std::mem::take(&mut self.taken_away) {
            self.epoch += 1;
        }
        self.counted.rebalances += 1;
        let mut partitions = Vec::with_capacity(added.len());
        for new in added {
            partitions.push(AssignedPartition {
                topic: new.partition.topic.to_string(),
                partition: new.partition.partition,
                start: new.start,
                committed: new.committed,
                end: new.end,
            });
            self.starts.insert(new.partition.clone(), new.start);
            self.ledger.assign(new.partition, new.start, new.committed);
        }
        if self.leaving.is_some() {
            return;
        }
        sink.send(&ServerFrame::Assigned(Assigned {
            sub: self.options.sub.clone(),
            epoch: self.epoch,
            partitions,
            assignment: wires(all),
            cooperative: true,
        }));
        self.state(StateName::Active, None, sink);
    }

    fn records(
        &mut self,
        mut records: Vec<Delivered>,
        next: &[(TopicPartition, i64)],
        sink: &mut Sink<'_>,
    ) {
        // As with the client's own filter, what is left out counts as acknowledged.
        records.retain(|record| self.sight.shows(record));
        if let Some(filter) = &self.options.filter {
            records.retain(|record| filter.wants(record));
        }
        self.ledger.offer(records, next);
        self.flow(sink);
    }

    /// Tells the member which partitions to hold back.
    fn flow(&mut self, sink: &mut Sink<'_>) {
        let flow = self.ledger.flow();
        if !flow.hold.is_empty() {
            sink.tell(Command::Pause(flow.hold));
        }
        if !flow.go_on.is_empty() {
            sink.tell(Command::Resume(flow.go_on));
        }
        let gaps = self.ledger.new_gaps();
        if !gaps.is_empty() {
            sink.send(&ServerFrame::State(State {
                sub: self.options.sub.clone(),
                state: StateName::Paused,
                since: sink.clock.wall(sink.now),
                detail: Some("gap".to_owned()),
                partitions: Some(wires(&gaps)),
            }));
        }
    }

    fn gap(&mut self, partition: &TopicPartition, from: i64, to: i64, sink: &mut Sink<'_>) {
        let reason = if to < from {
            // The log is another one: what is out cannot be acknowledged in it.
            self.ledger.sought(partition, to, self.epoch);
            GapReason::Reset
        } else {
            self.ledger.offer(Vec::new(), &[(partition.clone(), to)]);
            GapReason::Retention
        };
        sink.send(&ServerFrame::Gap(Gap {
            sub: self.options.sub.clone(),
            topic: partition.topic.to_string(),
            partition: partition.partition,
            from,
            to,
            reason,
        }));
    }

    fn unacked(&self, partitions: &[TopicPartition]) -> u64 {
        partitions.iter().map(|p| self.ledger.unacked(p)).sum()
    }

    fn revoking(&mut self, partitions: Vec<TopicPartition>, release: Release, sink: &mut Sink<'_>) {
        if self.leaving.is_some() {
            // What is to be committed is on its way already.
            for partition in &partitions {
                self.ledger.revoke(partition, self.epoch);
            }
            return;
        }
        self.epoch += 1;
        self.taken_away = true;
        self.counted.rebalances += 1;
        for partition in &partitions {
            self.ledger.seeking(partition, true);
        }
        let outstanding = self.unacked(&partitions);
        let grace = self.options.revoke_grace;
        if outstanding > 0 {
            self.state(StateName::Rebalancing, None, sink);
            sink.send(&ServerFrame::Revoking(Revoking {
                sub: self.options.sub.clone(),
                epoch: self.epoch,
                partitions: wires(&partitions),
                deadline_ms: u64::try_from(grace.as_millis()).unwrap_or(0),
                outstanding,
            }));
        }
        self.going = Some(Going {
            partitions,
            until: sink.now + grace,
            committing: false,
            _release: release,
        });
        self.revoke_further(sink);
    }

    /// Takes the next step towards letting revoked partitions go.
    fn revoke_further(&mut self, sink: &mut Sink<'_>) {
        let Some(going) = &self.going else {
            return;
        };
        if going.committing {
            if sink.now >= going.until {
                self.let_go(sink);
            }
            return;
        }
        if sink.now < going.until && self.unacked(&going.partitions) > 0 {
            return;
        }
        let partitions = going.partitions.clone();
        let offsets = self.commits_of(&partitions);
        // One that is under way may be of these partitions, and `revoked` says what came of it.
        if offsets.is_empty() && !self.is_committing() {
            return self.let_go(sink);
        }
        if let Some(going) = &mut self.going {
            going.committing = true;
            going.until = sink.now + LAST_COMMIT;
        }
        if offsets.is_empty() {
            return;
        }
        let token = self.token(Waiting::Revoke);
        sink.tell(Command::Commit { token, offsets });
    }

    /// Whether a commit waits for its answer.
    fn is_committing(&self) -> bool {
        self.waiting
            .values()
            .any(|waiting| !matches!(waiting, Waiting::Seek(..) | Waiting::Position(_)))
    }

    /// What is to be committed of these partitions although they are not delivered any more.
    fn commits_of(
        &mut self,
        partitions: &[TopicPartition],
    ) -> Vec<(TopicPartition, i64, Option<String>)> {
        for partition in partitions {
            self.ledger.seeking(partition, false);
        }
        let commits = self.ledger.commits();
        for partition in partitions {
            self.ledger.seeking(partition, true);
        }
        commits
            .into_iter()
            .map(|(partition, offset)| (partition, offset, None))
            .collect()
    }

    fn let_go(&mut self, sink: &mut Sink<'_>) {
        if let Some(going) = self.going.take() {
            self.gone(&going.partitions, RevokedReason::Rebalance, sink);
            self.state(StateName::Active, None, sink);
        }
    }

    /// Partitions are not this session's any more.
    fn gone(&mut self, partitions: &[TopicPartition], reason: RevokedReason, sink: &mut Sink<'_>) {
        let mut left = Vec::with_capacity(partitions.len());
        for partition in partitions {
            let Some(Left {
                committed, unacked, ..
            }) = self.ledger.revoke(partition, self.epoch)
            else {
                continue;
            };
            self.starts.remove(partition);
            left.push(RevokedPartition {
                topic: partition.topic.to_string(),
                partition: partition.partition,
                committed,
                unacked,
            });
        }
        if left.is_empty() {
            return;
        }
        sink.send(&ServerFrame::Revoked(Revoked {
            sub: self.options.sub.clone(),
            epoch: self.epoch,
            partitions: left,
            reason,
        }));
    }

    fn committed(
        &mut self,
        token: Token,
        results: Vec<(TopicPartition, Result<i64, Fault>)>,
        sink: &mut Sink<'_>,
    ) -> Option<Over> {
        let waiting = self.waiting.remove(&token)?;
        let mut said = Vec::with_capacity(results.len());
        let mut failed: Option<Fault> = None;
        for (partition, result) in results {
            match result {
                Ok(at) => {
                    self.ledger.committed(&partition, at, true);
                    said.push(CommittedOffset {
                        topic: partition.topic.to_string(),
                        partition: partition.partition,
                        offset: at,
                        error: None,
                    });
                }
                Err(fault) => {
                    let at = self.ledger.requested_of(&partition).unwrap_or(-1);
                    self.ledger.committed(&partition, at, false);
                    said.push(CommittedOffset {
                        topic: partition.topic.to_string(),
                        partition: partition.partition,
                        offset: at,
                        error: Some(fault.name().to_owned()),
                    });
                    failed = Some(fault);
                }
            }
        }
        match waiting {
            Waiting::Commit(id) => sink.send(&ServerFrame::Committed(Committed {
                id,
                sub: Some(self.options.sub.clone()),
                positions: said,
            })),
            Waiting::Interval => {
                if let Some(fault) = failed {
                    sink.send(&ServerFrame::Error(Error {
                        sub: Some(self.options.sub.clone()),
                        ..Error::from_fault(
                            "kafka_error",
                            &Fault {
                                message: format!(
                                    "A commit failed and will be tried again: {}",
                                    fault.message
                                ),
                                ..fault
                            },
                        )
                    }));
                }
            }
            Waiting::Revoke | Waiting::Last | Waiting::Seek(..) | Waiting::Position(_) => {}
        }
        // The answers come in the order of the commits, so none is left when the last has come.
        if !self.is_committing() {
            if self.going.as_ref().is_some_and(|going| going.committing) {
                self.let_go(sink);
            }
            self.leave_now(sink);
        }
        None
    }

    fn seeked(
        &mut self,
        token: Token,
        results: Vec<(TopicPartition, Result<i64, Fault>)>,
        sink: &mut Sink<'_>,
    ) {
        let Some(Waiting::Seek(id, partitions)) = self.waiting.remove(&token) else {
            return;
        };
        for partition in &partitions {
            self.ledger.seeking(partition, false);
        }
        let mut stale = Vec::new();
        let mut positions = Vec::with_capacity(results.len());
        for (partition, result) in results {
            let (at, error) = match result {
                Ok(at) => (at, None),
                Err(fault) => (-1, Some(fault.name().to_owned())),
            };
            if error.is_none()
                && let Some(left) = self.ledger.sought(&partition, at, self.epoch)
                && left.unacked > 0
            {
                stale.push(RevokedPartition {
                    topic: partition.topic.to_string(),
                    partition: partition.partition,
                    committed: left.committed,
                    unacked: left.unacked,
                });
            }
            positions.push(CommittedOffset {
                topic: partition.topic.to_string(),
                partition: partition.partition,
                offset: at,
                error,
            });
        }
        if !stale.is_empty() {
            sink.send(&ServerFrame::Revoked(Revoked {
                sub: self.options.sub.clone(),
                epoch: self.epoch,
                partitions: stale,
                reason: RevokedReason::Seek,
            }));
        }
        sink.send(&ServerFrame::Seeked(Seeked {
            id,
            sub: self.options.sub.clone(),
            positions,
        }));
        self.flow(sink);
    }

    fn ends(
        &mut self,
        token: Token,
        results: &[(TopicPartition, Result<i64, Fault>)],
        sink: &mut Sink<'_>,
    ) {
        let Some(Waiting::Position(id)) = self.waiting.remove(&token) else {
            return;
        };
        let end_of = |partition: &TopicPartition| {
            let found = results.iter().find(|(of, _)| of == partition);
            found.and_then(|(_, end)| end.as_ref().ok().copied())
        };
        let positions = self.ledger.places().into_iter().map(|place| {
            let end = end_of(&place.partition);
            let from = place
                .committed
                .or_else(|| self.starts.get(&place.partition).copied());
            PartitionPosition {
                topic: place.partition.topic.to_string(),
                partition: place.partition.partition,
                delivered: place.delivered,
                acked: Some(place.acked),
                committed: place.committed,
                end,
                lag: end.zip(from).map(|(end, from)| (end - from).max(0)),
            }
        });
        sink.send(&ServerFrame::Positions(Positions {
            id,
            sub: self.options.sub.clone(),
            positions: positions.collect(),
            position: None,
        }));
    }

    fn ended(&mut self, fault: Option<Fault>, sink: &mut Sink<'_>) -> Over {
        self.going = None;
        let reason = match (&self.leaving, &fault) {
            (Some((_, Ending::Session)), _) => None,
            (Some(_), _) => Some(RevokedReason::Unsubscribe),
            (None, _) => Some(RevokedReason::Kafka),
        };
        if let Some(reason) = reason {
            let all: Vec<_> = self.ledger.partitions().cloned().collect();
            self.gone(&all, reason, sink);
        }
        match (self.leaving.take(), fault) {
            (Some((_, ending)), _) => Over::Ended(ending),
            (None, Some(fault)) => Over::Failed(fault),
            (None, None) => Over::Failed(Fault::new(
                FaultKind::Unavailable,
                "The membership in the group ended.",
            )),
        }
    }

    // What the client wants.

    fn of(&self, frame: &str) -> String {
        format!("{frame}: subscription {} ", self.options.sub)
    }

    /// `ack`.
    ///
    /// # Errors
    ///
    /// A field that cannot be.
    pub fn ack(&mut self, ack: Ack, sink: &mut Sink<'_>) -> Result<Option<Error>, Error> {
        if ack.tx == Some(true) {
            return Err(field(
                "tx",
                "this subscription is in no transaction; leave tx out",
            ));
        }
        let tags = ack.tags.unwrap_or_default();
        let upto = ack.upto.unwrap_or_default();
        if tags.is_empty() && upto.is_empty() {
            return Err(field("tags", "tags or upto is missing"));
        }
        check_count(&tags)?;
        let refused = self.ledger.ack(&tags);
        let mut error = self.refused(refused);
        for at in &upto {
            let partition = TopicPartition::new(at.topic.as_str(), at.partition);
            if !self.ledger.ack_through(&partition, at.offset) {
                error = Some(Error {
                    field: Some("upto".to_owned()),
                    ..Error::new(
                        "not_assigned",
                        format!(
                            "upto: partition {} of topic {} is not assigned to this session",
                            at.partition, at.topic
                        ),
                    )
                });
            }
        }
        self.counted.acks += (tags.len() + upto.len()) as u64;
        self.after_acks(ack.id.filter(|_| error.is_none()), sink);
        Ok(error)
    }

    /// `nack`.
    ///
    /// # Errors
    ///
    /// A field that cannot be.
    pub fn nack(&mut self, nack: Nack, sink: &mut Sink<'_>) -> Result<Option<Error>, Error> {
        check_count(&nack.tags)?;
        let delay = bounded(nack.delay_ms.unwrap_or(0), MAX_DELAY_MS);
        let dead_letter = nack.dead_letter.unwrap_or(false);
        if dead_letter && !self.options.policy.dead_letters {
            return Err(field(
                "dead_letter",
                "this subscription has no dead-letter topic (dlq is false)",
            ));
        }
        let reason = nack.reason.map(|reason| shortened(&reason));
        let mut refused = Vec::new();
        for tag in &nack.tags {
            let done = self
                .ledger
                .nack(*tag, sink.now, delay, dead_letter, reason.clone());
            refused.extend(done.err());
        }
        self.counted.nacks += nack.tags.len() as u64;
        let error = self.refused(refused);
        self.after_acks(nack.id.filter(|_| error.is_none()), sink);
        Ok(error)
    }

    /// `extend`.
    ///
    /// # Errors
    ///
    /// A field that cannot be.
    pub fn extend(&mut self, extend: Extend, sink: &mut Sink<'_>) -> Result<Option<Error>, Error> {
        check_count(&extend.tags)?;
        if extend.ms <= 0 {
            return Err(field("ms", "expected more than 0 milliseconds"));
        }
        let time = bounded(extend.ms, MAX_EXTENSION_MS);
        let mut refused = Vec::new();
        for tag in &extend.tags {
            refused.extend(self.ledger.extend(*tag, sink.now, time).err());
        }
        let error = self.refused(refused);
        self.after_acks(extend.id.filter(|_| error.is_none()), sink);
        Ok(error)
    }

    /// The answer to an acknowledgement, where an error is not its answer, and what it makes possible.
    fn after_acks(&mut self, id: Option<Id>, sink: &mut Sink<'_>) {
        if let Some(id) = id {
            let positions = self.ledger.places();
            sink.send(&ServerFrame::Acked(Acked {
                id,
                positions: positions
                    .iter()
                    .map(|place| offset(&place.partition, place.acked))
                    .collect(),
            }));
        }
        self.dead(sink);
        self.revoke_further(sink);
        self.flow(sink);
    }

    /// One error for all tags that were refused in the same way.
    fn refused(&self, refused: Vec<Refused>) -> Option<Error> {
        let mut unknown = Vec::new();
        let mut stale = Vec::new();
        let mut gone = None;
        for refused in refused {
            match refused {
                Refused::Unknown { tag } => unknown.push(tag),
                Refused::Stale { tag, why } => {
                    stale.push(tag);
                    gone = Some(why);
                }
            }
        }
        let say = |mut tags: Vec<u64>| {
            tags.truncate(MOST_TAGS_SAID);
            Some(tags)
        };
        if !unknown.is_empty() {
            return Some(Error {
                sub: Some(self.options.sub.clone()),
                message: format!("tag {} was never given in this session", unknown[0]),
                tags: say(unknown),
                ..Error::new("ack_unknown", "")
            });
        }
        let why = gone?;
        let (message, epoch, committed) = match why {
            Stale::Superseded(partition) => (
                format!(
                    "tag {} is no longer valid: its record was refused or its deadline passed, and \
                     it comes again under another tag",
                    stale[0]
                ),
                self.epoch,
                self.ledger.committed_of(&partition),
            ),
            Stale::Gone {
                partition,
                epoch,
                committed,
            } => (
                format!(
                    "tag {} is no longer valid: partition {} of topic {} was taken away or sought \
                     with epoch {epoch}",
                    stale[0], partition.partition, partition.topic
                ),
                epoch,
                committed,
            ),
        };
        Some(Error {
            sub: Some(self.options.sub.clone()),
            tags: say(stale),
            epoch: Some(epoch),
            committed,
            ..Error::new("ack_stale", message)
        })
    }

    /// `credit`.
    ///
    /// # Errors
    ///
    /// A field that cannot be.
    pub fn credit(&mut self, records: i64, bytes: Option<i64>) -> Result<(), Error> {
        if !self.options.credit {
            return Err(Error {
                field: Some("sub".to_owned()),
                ..Error::new(
                    "invalid_frame",
                    self.of("credit") + "has flow.mode window: acknowledgements make room there",
                )
            });
        }
        let number = |number: i64, name: &str| {
            u64::try_from(number).map_err(|_| field(name, "expected a number from 0"))
        };
        let records = number(records, "records")?;
        let bytes = bytes.map(|bytes| number(bytes, "bytes")).transpose()?;
        self.ledger.credit(records, bytes);
        Ok(())
    }

    /// `pause` and `resume`.
    ///
    /// # Errors
    ///
    /// A partition that is not assigned.
    pub fn pause(&mut self, pause: Pause, paused: bool, sink: &mut Sink<'_>) -> Result<(), Error> {
        let partitions: Vec<TopicPartition> = match pause.partitions {
            None => self.ledger.partitions().cloned().collect(),
            Some(named) => named
                .into_iter()
                .map(|p| TopicPartition::new(p.topic, p.partition))
                .collect(),
        };
        if let Some(index) = partitions.iter().position(|p| !self.ledger.has(p)) {
            return Err(not_assigned(
                &format!("partitions[{index}]"),
                &partitions[index],
            ));
        }
        for partition in &partitions {
            self.ledger.pause(partition, paused);
        }
        let now_paused: Vec<Partition> = self
            .ledger
            .partitions()
            .filter(|p| self.ledger.is_paused(p))
            .map(wire)
            .collect();
        sink.send(&ServerFrame::Ok(Done {
            id: pause.id,
            sub: Some(self.options.sub.clone()),
            paused: Some(now_paused),
        }));
        Ok(())
    }

    /// `seek`.
    ///
    /// # Errors
    ///
    /// A field that cannot be.
    pub fn seek(&mut self, seek: Seek, sink: &mut Sink<'_>) -> Result<(), Error> {
        self.admit_waiting()?;
        if seek.positions.is_empty() {
            return Err(field("positions", "expected at least one"));
        }
        let mut positions = Vec::with_capacity(seek.positions.len());
        for (index, at) in seek.positions.into_iter().enumerate() {
            let place = |name: &str| format!("positions[{index}]{name}");
            let partition = TopicPartition::new(at.topic, at.partition);
            let to = match (at.offset, at.timestamp) {
                (Some(_), Some(_)) => {
                    return Err(field(&place(".timestamp"), "offset or timestamp, not both"));
                }
                (None, None) => {
                    return Err(field(&place(".offset"), "offset or timestamp is missing"));
                }
                (Some(SeekOffset::Offset(offset)), None) if offset < 0 => {
                    return Err(field(&place(".offset"), "an offset is 0 or more"));
                }
                (Some(SeekOffset::Offset(offset)), None) => SeekTo::Offset(offset),
                (Some(SeekOffset::Name(SeekName::Beginning)), None) => SeekTo::Beginning,
                (Some(SeekOffset::Name(SeekName::End)), None) => SeekTo::End,
                (Some(SeekOffset::Name(SeekName::Committed)), None) => SeekTo::Committed,
                (None, Some(time)) if time < 0 => {
                    return Err(field(
                        &place(".timestamp"),
                        "expected milliseconds since 1970",
                    ));
                }
                (None, Some(time)) => SeekTo::Time(time),
            };
            if !self.ledger.has(&partition) {
                return Err(not_assigned(&place(""), &partition));
            }
            if self.is_going(&partition) {
                return Err(not_assigned(&place(""), &partition));
            }
            if positions.iter().any(|(other, _)| *other == partition) {
                return Err(field(&place(""), "this partition is there twice"));
            }
            positions.push((partition, to));
        }
        let partitions: Vec<_> = positions.iter().map(|(p, _)| p.clone()).collect();
        let under_way = self.waiting.values().any(|waiting| match waiting {
            Waiting::Seek(_, others) => others.iter().any(|other| partitions.contains(other)),
            _ => false,
        });
        if under_way {
            return Err(Error {
                retriable: true,
                ..Error::new(
                    "limit_exceeded",
                    "a seek of one of these partitions is under way; wait for seeked",
                )
            });
        }
        for partition in &partitions {
            self.ledger.seeking(partition, true);
        }
        let token = self.token(Waiting::Seek(seek.id, partitions));
        sink.tell(Command::Seek { token, positions });
        Ok(())
    }

    fn is_going(&self, partition: &TopicPartition) -> bool {
        self.going
            .as_ref()
            .is_some_and(|going| going.partitions.contains(partition))
    }

    /// `commit`.
    ///
    /// # Errors
    ///
    /// A field that cannot be.
    pub fn commit(&mut self, commit: Commit, sink: &mut Sink<'_>) -> Result<(), Error> {
        self.admit_waiting()?;
        let offsets = match commit.positions {
            None => {
                let commits = self.ledger.commits();
                commits.into_iter().map(|(p, o)| (p, o, None)).collect()
            }
            Some(positions) => {
                let mut offsets = Vec::with_capacity(positions.len());
                for (index, at) in positions.into_iter().enumerate() {
                    let place = |name: &str| format!("positions[{index}]{name}");
                    let partition = TopicPartition::new(at.topic, at.partition);
                    let Some(delivered) = self.ledger.delivered_of(&partition) else {
                        return Err(not_assigned(&place(""), &partition));
                    };
                    if at.offset < 0 || at.offset > delivered {
                        return Err(field(
                            &place(".offset"),
                            format!(
                                "expected the next offset to read, 0 to {delivered} (what has been \
                                 delivered)"
                            ),
                        ));
                    }
                    offsets.push((partition, at.offset, at.metadata));
                }
                // Whoever commits an offset is done with what is before it.
                for (partition, offset, _) in &offsets {
                    self.ledger.ack_through(partition, offset - 1);
                    self.ledger.requested(partition, *offset);
                }
                offsets
            }
        };
        if offsets.is_empty() {
            sink.send(&ServerFrame::Committed(Committed {
                id: commit.id,
                sub: Some(self.options.sub.clone()),
                positions: Vec::new(),
            }));
            return Ok(());
        }
        let token = self.token(Waiting::Commit(commit.id));
        sink.tell(Command::Commit { token, offsets });
        Ok(())
    }

    /// `position`.
    ///
    /// # Errors
    ///
    /// Too many requests wait for Kafka.
    pub fn position(&mut self, id: Option<Id>, sink: &mut Sink<'_>) -> Result<(), Error> {
        self.admit_waiting()?;
        let token = self.token(Waiting::Position(id));
        sink.tell(Command::Ends { token });
        Ok(())
    }

    fn admit_waiting(&self) -> Result<(), Error> {
        let of_client = self
            .waiting
            .values()
            .filter(|w| !matches!(w, Waiting::Interval | Waiting::Revoke | Waiting::Last));
        admit(of_client.count())
    }

    /// The topics that the pattern matches have changed.
    pub fn retopic(&mut self, topics: Vec<Arc<str>>, sight: Sight, sink: &mut Sink<'_>) {
        if self.leaving.is_none() && topics != self.topics && !topics.is_empty() {
            self.sight = sight;
            self.topics.clone_from(&topics);
            sink.tell(Command::Subscribe(topics));
        }
    }

    /// Begins to end: commits what is acknowledged, if `commit`, and leaves the group. A static
    /// member keeps its place if `stay`.
    pub fn end(&mut self, ending: Ending, commit: bool, stay: bool, sink: &mut Sink<'_>) {
        if let Some((_, why)) = &mut self.leaving {
            // The session's end overtakes that of the subscription.
            *why = ending;
            return;
        }
        let offsets: Vec<_> = if commit {
            let all: Vec<_> = self.ledger.partitions().cloned().collect();
            self.commits_of(&all)
        } else {
            Vec::new()
        };
        let until = sink.now + LAST_COMMIT;
        self.leaving = Some((Leaving::Committing { until, stay }, ending));
        if !offsets.is_empty() {
            let token = self.token(Waiting::Last);
            sink.tell(Command::Commit { token, offsets });
        } else if !self.is_committing() {
            self.leave_now(sink);
        }
    }

    fn leave_now(&mut self, sink: &mut Sink<'_>) {
        if let Some((leaving, _)) = &mut self.leaving
            && let Leaving::Committing { stay, .. } = *leaving
        {
            *leaving = Leaving::Told {
                until: sink.now + LEAVING,
            };
            // Only now: what was to be committed of it has been.
            self.going = None;
            sink.tell(Command::Leave { stay });
        }
    }

    /// Whether the last commit has been answered, or there was none: all that is left is to leave.
    pub fn has_committed(&self) -> bool {
        matches!(self.leaving, Some((Leaving::Told { .. }, _)))
    }

    // Time.

    /// When [`Subscription::tick`] will have something to do.
    pub fn next_tick(&self) -> Option<Instant> {
        let leaving = self.leaving.as_ref().map(|(leaving, _)| match leaving {
            Leaving::Committing { until, .. } | Leaving::Told { until } => *until,
        });
        if leaving.is_some() {
            return leaving;
        }
        let going = self.going.as_ref().map(|going| going.until);
        let lingers = self.lingers.map(|since| since + self.options.linger);
        [going, lingers, self.ledger.next_tick(), self.commit_at()]
            .into_iter()
            .flatten()
            .min()
    }

    /// A session with nothing to commit is not woken for it.
    fn commit_at(&self) -> Option<Instant> {
        self.ledger.has_commits().then_some(self.next_commit)
    }

    /// Does what time has brought about. `Some` when the subscription is over.
    pub fn tick(&mut self, sink: &mut Sink<'_>) -> Option<Over> {
        if let Some((leaving, ending)) = &self.leaving {
            match leaving {
                Leaving::Committing { until, .. } if sink.now >= *until => self.leave_now(sink),
                Leaving::Told { until } if sink.now >= *until => {
                    return Some(Over::Ended(ending.clone()));
                }
                _ => {}
            }
            return None;
        }
        self.counted.expired += self.ledger.tick(sink.now) as u64;
        if let Some(since) = self.lingers
            && sink.now >= since + self.options.linger
        {
            // The frame may still have to wait for room, and this must not be asked until then.
            self.lingers = None;
            self.lingered = true;
        }
        self.dead(sink);
        self.revoke_further(sink);
        if sink.now >= self.next_commit && self.ledger.has_commits() {
            self.next_commit = sink.now + self.options.commit_interval;
            let busy = self
                .waiting
                .values()
                .any(|w| matches!(w, Waiting::Interval));
            // While Kafka is away one commit waits, and the next says all that came meanwhile.
            if !busy {
                let offsets: Vec<_> = self
                    .ledger
                    .commits()
                    .into_iter()
                    .map(|(partition, offset)| (partition, offset, None))
                    .collect();
                if !offsets.is_empty() {
                    let token = self.token(Waiting::Interval);
                    sink.tell(Command::Commit { token, offsets });
                }
            }
        }
        self.flow(sink);
        None
    }

    // Dead letters.

    /// Sends the dead letters that there are on their way.
    fn dead(&mut self, sink: &mut Sink<'_>) {
        while self.dead_letters.len() < MAX_DEAD_LETTERS
            && let Some(letter) = self.ledger.next_dead_letter()
        {
            let Some(topic) = self.options.dead_letters.topic(&letter.record.topic) else {
                continue;
            };
            let failed_at = sink.clock.iso(sink.now);
            let record: Outgoing = delivery::dead_letter(
                &letter.record,
                letter.deliveries,
                &letter.reason,
                &failed_at,
            );
            self.dead_letters.insert(letter.id);
            sink.effects.push(Effect::DeadLetter {
                id: letter.id,
                topic,
                own: matches!(
                    self.options.dead_letters,
                    super::options::DeadLetters::Default(_)
                ),
                record,
            });
        }
    }

    /// What became of a dead letter.
    pub fn dead_lettered(&mut self, id: DeadLetterId, failed: Option<&Fault>, sink: &mut Sink<'_>) {
        self.dead_letters.remove(&id);
        let counted = self.ledger.dead_lettered(id, failed.is_none(), sink.now);
        match failed {
            None if counted => self.counted.dead_letters += 1,
            Some(fault) if counted && self.leaving.is_none() => {
                sink.send(&ServerFrame::State(State {
                    sub: self.options.sub.clone(),
                    state: self.state.unwrap_or(StateName::Active),
                    since: sink.clock.wall(sink.now),
                    detail: Some(format!(
                        "a dead letter could not be written and is tried again: {}",
                        fault.message
                    )),
                    partitions: None,
                }));
            }
            _ => {}
        }
        self.dead(sink);
        self.revoke_further(sink);
        self.flow(sink);
    }

    // Deliveries.

    /// The next frame of records, if there are some that may go, in about so many bytes.
    /// `Err` when a record cannot be decoded and the session is to end for it.
    pub fn next_frame(
        &mut self,
        room: usize,
        sink: &mut Sink<'_>,
    ) -> Result<Option<Vec<u8>>, String> {
        if room < LEAST_ROOM || self.leaving.is_some() {
            return Ok(None);
        }
        let options = &self.options;
        if !options.linger.is_zero() && !self.is_worth_sending(sink.now) {
            return Ok(None);
        }
        let options = &self.options;
        let bytes = options.batch_bytes.min(room as u64);
        let most = Take {
            records: options.batch_records,
            bytes,
        };
        let mut writer: Option<Writer> = None;
        let mut undecodable = None;
        let strict = options.strict;
        let took = self.ledger.take(sink.now, most, |delivery| {
            let writer = writer.get_or_insert_with(|| {
                Writer::new(
                    &options.sub,
                    options.formats,
                    options.max_record,
                    (delivery.record.size() + 192).max(512),
                )
            });
            if !writer.is_empty() && writer.len() >= room {
                return Verdict::Full;
            }
            if writer.add(delivery.tag, delivery.deliveries, delivery.record, strict) {
                return Verdict::Taken;
            }
            let why = undecoded(delivery.record, options);
            match options.on_decode_error {
                OnDecodeError::Skip => Verdict::Skip,
                OnDecodeError::Dlq => Verdict::DeadLetter(Reason::Decode(why)),
                OnDecodeError::Close | OnDecodeError::Deliver => {
                    undecodable = Some(why);
                    Verdict::Full
                }
            }
        });
        self.counted.delivered += took.records as u64;
        self.counted.redelivered += took.redelivered as u64;
        if took.records > 0 {
            self.lingers = None;
            self.lingered = false;
        }
        self.dead(sink);
        self.flow(sink);
        let frame = writer
            .filter(|writer| !writer.is_empty())
            .map(Writer::finish);
        match (frame, undecodable) {
            // What came before it goes out first.
            (None, Some(why)) => Err(why),
            (frame, _) => Ok(frame),
        }
    }

    /// Whether a frame is full enough, or has waited long enough.
    fn is_worth_sending(&mut self, now: Instant) -> bool {
        let queued = self.ledger.queued();
        if queued == 0 {
            // What comes again does not wait.
            return true;
        }
        if self.lingered {
            return true;
        }
        if queued >= self.options.batch_records as u64 {
            return true;
        }
        let since = *self.lingers.get_or_insert(now);
        now >= since + self.options.linger
    }

    /// All that was given by `next_frame` has been taken by the socket.
    pub fn flushed(&mut self, sink: &mut Sink<'_>) {
        if self.options.policy.ack == AckMode::Auto {
            self.ledger.flushed(self.ledger.next_tag());
            self.revoke_further(sink);
            self.flow(sink);
        }
    }
}

fn undecoded(record: &Delivered, options: &Options) -> String {
    let name = |format: Format| format.name();
    format!(
        "the record at offset {} of partition {} of topic {} is not what was asked for (key {}, \
         value {})",
        record.offset,
        record.partition,
        record.topic,
        name(options.formats.key),
        name(options.formats.value)
    )
}

pub(super) fn field(name: &str, message: impl std::fmt::Display) -> Error {
    Error {
        field: Some(name.to_owned()),
        ..Error::new("invalid_frame", format!("{name}: {message}"))
    }
}

fn not_assigned(name: &str, partition: &TopicPartition) -> Error {
    Error {
        field: Some(name.to_owned()),
        ..Error::new(
            "not_assigned",
            format!(
                "{name}: partition {} of topic {} is not assigned to this session",
                partition.partition, partition.topic
            ),
        )
    }
}

/// Whether one more request of the client may wait for Kafka beside these.
pub(super) fn admit(waiting: usize) -> Result<(), Error> {
    if waiting < MAX_WAITING {
        return Ok(());
    }
    Err(Error {
        retriable: true,
        retry_after_ms: Some(100),
        ..Error::new(
            "limit_exceeded",
            format!("{MAX_WAITING} requests wait for Kafka; wait for their answers"),
        )
    })
}

fn check_count(tags: &[u64]) -> Result<(), Error> {
    if tags.len() > MAX_TAGS {
        return Err(field("tags", format!("expected at most {MAX_TAGS}")));
    }
    Ok(())
}

fn bounded(ms: i64, most: i64) -> Duration {
    Duration::from_millis(u64::try_from(ms.clamp(0, most)).unwrap_or(0))
}

fn shortened(reason: &str) -> String {
    reason.chars().take(MAX_REASON).collect()
}
