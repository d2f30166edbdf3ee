//! The other side of a session: a client, a member of its group, Kafka and a socket, as simple as can be.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::checks::{ACK, Checks, PRODUCE};
use super::steps::{Letter, Setup, Step, To};
use crate::auth::Principal;
use crate::delivery::DeadLetterId;
use crate::kafka::fault::{Fault, FaultKind};
use crate::kafka::member::{Assigned, Command, Event, Release, SeekTo, State, Token};
use crate::record::{
    ConsumerRecord, ProducerRecord, RecordMetadata, TimestampType, TopicPartition,
};
use crate::session::clock::Clock;
use crate::session::effect::Effect;
use crate::session::machine::Session;
use crate::session::protocol::client::ClientFrame;
use crate::session::rules::Rules;

const TOPIC: &str = "orders";
const SUB: &str = "o";
const PARTITIONS: u8 = 3;
/// Room in the socket for all that there is.
const ROOM: usize = 1 << 20;

fn place(partition: i32) -> TopicPartition {
    TopicPartition::new(TOPIC, partition)
}

fn number(partition: u8) -> i32 {
    i32::from(partition % PARTITIONS)
}

fn unavailable() -> Fault {
    Fault::new(FaultKind::Unavailable, "no broker answers")
}

/// Both sides of a session, and what must hold between them.
pub(super) struct Play {
    session: Session,
    now: Instant,
    options: Value,
    prompt: bool,
    checks: Checks,
    joined: bool,
    told_to_leave: bool,
    /// The next offset of each partition that the member has.
    assigned: BTreeMap<i32, i64>,
    /// What is being revoked: one partition at a time.
    going: Option<(i32, oneshot::Receiver<()>)>,
    /// What waits for an answer; of a commit, which assignments it is of.
    commands: VecDeque<(Command, Vec<u32>)>,
    dead_letters: VecDeque<DeadLetterId>,
    writing: VecDeque<(u64, usize)>,
    /// The number that comes back with the topics that were looked up last.
    lookup: u64,
    acks: u64,
    /// Behind a seek waits a frame that says of offsets, and not of records, that the client is done with them.
    waits_behind_seek: bool,
    draining: bool,
}

impl Play {
    pub(super) fn new(setup: Setup) -> Self {
        let now = Instant::now();
        let narrow = setup.narrow;
        let rules = Arc::new(Rules {
            open: true,
            max_frame: 2 << 20,
            hello_timeout: Duration::from_secs(5),
            idle_timeout: Duration::from_secs(300),
            revoke_grace: Duration::from_secs(1),
            max_inflight_records: if narrow { 100 } else { 10_000 },
            max_inflight_bytes: if narrow { 1 << 20 } else { 32 << 20 },
            max_gap: if narrow { 50 } else { 10_000 },
            max_delayed: if narrow { 10 } else { 1_000 },
            dead_letter_topic: "{topic}.dlq".to_owned(),
        });
        let options = json!({
            "type": "subscribe", "id": "s", "sub": SUB, "group": "g", "topics": [TOPIC],
            "ack": match (setup.auto, setup.cumulative) {
                (true, _) => "auto",
                (false, true) => "cumulative",
                (false, false) => "individual",
            },
            "order": if setup.relaxed { "relaxed" } else { "partition" },
            "flow": {
                "mode": if setup.credit { "credit" } else { "window" },
                "records": setup.window,
            },
            "dlq": match setup.dlq {
                0 => Value::Null,
                1 => json!("letters"),
                _ => json!(false),
            },
            "ack_timeout_ms": setup.ack_timeout_ms,
            "batch": {"records": 7, "linger_ms": setup.linger_ms},
            "max_deliveries": setup.max_deliveries,
            "instance_id": if setup.static_member { json!("i") } else { Value::Null },
        });
        let clock = Clock::new(now, 1_700_000_000_000);
        let principal = Some(Principal::anonymous());
        let window = (!setup.credit).then_some(setup.window);
        Self {
            session: Session::new("s".to_owned(), rules, principal, None, clock, now),
            now,
            options,
            prompt: setup.prompt,
            checks: Checks::new(setup.auto, setup.cumulative, window),
            joined: false,
            told_to_leave: false,
            assigned: BTreeMap::new(),
            going: None,
            commands: VecDeque::new(),
            dead_letters: VecDeque::new(),
            writing: VecDeque::new(),
            lookup: 0,
            acks: 0,
            waits_behind_seek: false,
            draining: false,
        }
    }

    pub(super) fn step(&mut self, step: Step) {
        self.happens(step);
        if self.prompt {
            self.take(ROOM);
            self.flushed();
        }
        let group = self.session.group();
        self.checks.in_flight(group.map_or(0, |g| g.in_flight()));
    }

    fn happens(&mut self, step: Step) {
        match step {
            Step::Text(text) => self.foreign(text),
            Step::Ack(nth) => {
                if let Some(tag) = self.checks.tag(nth) {
                    self.ack(&json!([tag]), true);
                }
            }
            Step::AckTags { tags, id } => self.ack(&json!(tags), id),
            Step::AckUpTo { partition, offset } => {
                let upto = json!([at(partition, &offset.into())]);
                self.send(&json!({"type": "ack", "sub": SUB, "upto": upto}));
            }
            Step::Nack { nth, delay } => {
                if let Some(tag) = self.checks.tag(nth) {
                    self.send(
                        &json!({"type": "nack", "sub": SUB, "tags": [tag], "delay_ms": delay}),
                    );
                }
            }
            Step::NackTags { tags, delay, dead } => self.send(&json!({
                "type": "nack", "sub": SUB, "tags": tags, "delay_ms": delay, "dead_letter": dead,
            })),
            Step::Extend { tag, ms } => {
                self.send(&json!({"type": "extend", "sub": SUB, "tags": [tag], "ms": ms}));
            }
            Step::Commit(position) => {
                let mut frame = json!({"type": "commit", "sub": SUB, "id": "c"});
                if let Some((partition, offset)) = position {
                    frame["positions"] = json!([at(partition, &offset.into())]);
                }
                self.send(&frame);
            }
            Step::Credit { records, bytes } => self
                .send(&json!({"type": "credit", "sub": SUB, "records": records, "bytes": bytes})),
            Step::Pause { partition, on } => {
                let kind = if on { "pause" } else { "resume" };
                let mut frame = json!({"type": kind, "sub": SUB});
                if let Some(partition) = partition {
                    frame["partitions"] = json!([{"topic": TOPIC, "partition": number(partition)}]);
                }
                self.send(&frame);
            }
            Step::Seek { partition, to } => {
                let to = match to {
                    To::Offset(offset) => json!(offset),
                    To::Beginning => json!("beginning"),
                    To::End => json!("end"),
                    To::Committed => json!("committed"),
                };
                let positions = json!([at(partition, &to)]);
                self.send(&json!({"type": "seek", "sub": SUB, "positions": positions}));
            }
            Step::Produce { id, records } => {
                let id = format!("{PRODUCE}{id}");
                let records = vec![json!({"value": 1}); usize::from(records % 4)];
                self.send(
                    &json!({"type": "produce", "id": id, "topic": TOPIC, "records": records}),
                );
            }
            Step::Position => self.send(&json!({"type": "position", "sub": SUB})),
            Step::Hello => self.send(&json!({"type": "hello", "id": "h"})),
            Step::Subscribe => {
                let options = self.options.clone();
                self.send(&options);
            }
            Step::Unsubscribe { commit } => {
                self.send(&json!({"type": "unsubscribe", "sub": SUB, "commit": commit}));
            }
            Step::Bye { commit } => self.send(&json!({"type": "bye", "commit": commit})),
            Step::Gone => {
                self.session.lost(self.now);
                self.apply();
            }
            Step::Resolved(found) => {
                let found = if found {
                    Ok(vec![Arc::from(TOPIC)])
                } else {
                    Err(Fault::new(
                        FaultKind::UnknownTopic,
                        "there is no such topic",
                    ))
                };
                self.session.resolved(self.lookup, found, self.now);
                self.apply();
            }
            Step::Assign(partition) => self.assign(number(partition)),
            Step::Revoke(partition) => self.revoke(number(partition)),
            Step::Lost(partition) => self.lose(number(partition)),
            Step::Offer {
                partition,
                records,
                hidden,
            } => self.offer(number(partition), records, hidden),
            Step::Gap { partition, forward } => self.gap(number(partition), forward),
            Step::Answer(well) => self.answer(well),
            Step::DeadLetter(letter) => self.dead_lettered(letter),
            Step::Written(well) => self.written(well),
            Step::State(state) => self.member(Event::State(match state % 3 {
                0 => State::Joining(Some(unavailable())),
                1 => State::Active,
                _ => State::Unavailable(unavailable()),
            })),
            Step::Ended(asked) => {
                if self.joined && (self.told_to_leave || !asked) {
                    let fault = (!self.told_to_leave)
                        .then(|| Fault::new(FaultKind::NotAuthorized, "the right was taken away"));
                    self.left(fault);
                }
            }
            Step::TakeAll => {
                self.take(ROOM);
                self.flushed();
            }
            Step::Take(room) => self.take(usize::try_from(room % (1 << 21)).unwrap_or(0)),
            Step::Flushed => self.flushed(),
            Step::Pass(ms) => self.pass(Duration::from_millis(u64::from(ms))),
            Step::Drain(ms) => {
                let time = Duration::from_millis(u64::from(ms));
                self.draining = true;
                self.session.drain(time, time, self.now);
                self.apply();
            }
            Step::Pressure(pressure) => self.session.set_pressure(u32::from(pressure)),
        }
    }

    // The client.

    /// A text that others made: not one that subscribes in another way, or has the id of a frame whose answers
    /// are counted.
    fn foreign(&mut self, text: String) {
        if let Ok(frame) = ClientFrame::parse(&Bytes::copy_from_slice(text.as_bytes()))
            && matches!(frame, ClientFrame::Subscribe(_))
        {
            return;
        }
        let id = serde_json::from_str::<Value>(&text)
            .ok()
            .and_then(|frame| Some(frame.get("id")?.as_str()?.to_owned()));
        if !id.is_some_and(|id| id.starts_with(ACK) || id.starts_with(PRODUCE)) {
            self.text(text);
        }
    }

    fn send(&mut self, frame: &Value) {
        self.text(frame.to_string());
    }

    fn text(&mut self, text: String) {
        let text = Bytes::from(text);
        if let Ok(frame) = ClientFrame::parse(&text) {
            self.checks.sends(&frame);
            let by_offsets = match &frame {
                ClientFrame::Ack(ack) => ack.upto.is_some(),
                ClientFrame::Commit(commit) => commit.positions.is_some(),
                _ => false,
            };
            self.waits_behind_seek |= by_offsets && self.is_seeking();
        }
        self.session.text(&text, self.now);
        self.apply();
    }

    fn ack(&mut self, tags: &Value, id: bool) {
        let mut frame = json!({"type": "ack", "sub": SUB, "tags": tags});
        if id {
            self.acks += 1;
            frame["id"] = format!("{ACK}{}", self.acks).into();
        }
        self.send(&frame);
    }

    // The socket, and time.

    fn take(&mut self, room: usize) {
        let mut frames: Vec<Value> = Vec::new();
        while let Some(text) = self.session.next_frame(room, self.now) {
            frames.push(serde_json::from_slice(&text).expect("JSON"));
        }
        // One that is about to end waits for no commit before it lets go of a partition.
        let is_ending = self.draining
            || self.session.end().is_some()
            || self.session.group().is_none_or(|group| group.is_leaving());
        self.checks.took(&frames, is_ending);
        self.apply();
    }

    fn flushed(&mut self) {
        self.checks.flushed();
        self.session.flushed(self.now);
        self.apply();
    }

    /// Lets time pass, as the driver does: ticks when the session wants one.
    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        let mut turns = 0;
        while let Some(at) = self.session.next_tick()
            && at <= end
        {
            self.now = self.now.max(at);
            self.session.tick(self.now);
            self.apply();
            turns += 1;
            assert!(turns < 20_000, "a tick moves the next one");
        }
        self.now = end;
    }

    // The member, and Kafka.

    fn member(&mut self, event: Event) {
        if self.joined {
            self.session.member(event, self.now);
            self.apply();
        }
    }

    fn left(&mut self, fault: Option<Fault>) {
        self.session.member(Event::Ended(fault), self.now);
        self.over();
        self.apply();
    }

    fn over(&mut self) {
        self.joined = false;
        self.told_to_leave = false;
        self.assigned.clear();
        self.checks.left();
        self.going = None;
        self.commands.clear();
        self.waits_behind_seek = false;
    }

    /// Does what the session wants done, as far as that is not a step of its own.
    fn apply(&mut self) {
        loop {
            let effects = self.session.effects();
            if effects.is_empty() {
                break;
            }
            for effect in effects {
                self.does(effect);
            }
        }
        // The member lets go of what it was allowed to.
        if let Some((partition, released)) = &mut self.going
            && !matches!(
                released.try_recv(),
                Err(oneshot::error::TryRecvError::Empty)
            )
        {
            let partition = *partition;
            self.going = None;
            self.assigned.remove(&partition);
            self.checks.taken_away(partition);
        }
    }

    fn does(&mut self, effect: Effect) {
        match effect {
            Effect::Join(options) => {
                if self.joined {
                    // One that does not leave in time is dropped for the next.
                    assert!(self.told_to_leave, "one member at a time");
                    self.over();
                }
                assert!(!options.topics.is_empty());
                self.joined = true;
            }
            Effect::Command(Command::Leave { .. }) if !self.joined => {
                self.session.member(Event::Ended(None), self.now);
                self.over();
            }
            Effect::Command(Command::Leave { .. }) => self.told_to_leave = true,
            Effect::Command(command) => {
                let assignments = match &command {
                    Command::Commit { offsets, .. } => self.checks.commits(offsets, &self.assigned),
                    _ => Vec::new(),
                };
                self.commands.push_back((command, assignments));
            }
            Effect::DeadLetter { id, record, .. } => {
                let partition = header(&record, "original-partition");
                let partition = i32::try_from(partition).expect("a partition");
                let offset = header(&record, "original-offset");
                self.checks.dead_letter(id, partition, offset);
                self.dead_letters.push_back(id);
            }
            Effect::Produce {
                ticket, records, ..
            } => self.writing.push_back((ticket, records.len())),
            Effect::Resolve(ticket, _) => self.lookup = ticket,
            // Nobody says that they are gone.
            Effect::LookFor(_) => {}
            Effect::Authenticate(_) | Effect::Tail(..) => {}
        }
    }

    fn assign(&mut self, partition: i32) {
        if !self.joined || self.told_to_leave || self.assigned.contains_key(&partition) {
            return;
        }
        let committed = self.checks.committed_of(partition);
        let start = committed.unwrap_or(0);
        self.assigned.insert(partition, start);
        self.checks.assigned(partition);
        let all = self.assigned.keys().copied().map(place).collect();
        self.member(Event::Assigned {
            added: vec![Assigned {
                partition: place(partition),
                start,
                committed,
                end: 1_000,
            }],
            all,
        });
    }

    fn revoke(&mut self, partition: i32) {
        if !self.joined || self.going.is_some() || !self.assigned.contains_key(&partition) {
            return;
        }
        let (release, released) = Release::new();
        self.going = Some((partition, released));
        self.member(Event::Revoking {
            partitions: vec![place(partition)],
            release,
        });
    }

    /// While a partition is being revoked, a member that loses any has lost them all.
    fn lose(&mut self, partition: i32) {
        if !self.joined || !self.assigned.contains_key(&partition) {
            return;
        }
        let lost: Vec<i32> = match self.going {
            None => vec![partition],
            Some(_) => self.assigned.keys().copied().collect(),
        };
        for partition in &lost {
            self.assigned.remove(partition);
            self.checks.taken_away(*partition);
        }
        self.member(Event::Lost(lost.into_iter().map(place).collect()));
    }

    fn is_going(&self, partition: i32) -> bool {
        self.going.as_ref().is_some_and(|(of, _)| *of == partition)
    }

    fn is_seeking(&self) -> bool {
        let mut commands = self.commands.iter();
        commands.any(|(command, _)| matches!(command, Command::Seek { .. }))
    }

    fn offer(&mut self, partition: i32, records: u8, hidden: u8) {
        if self.is_going(partition) || !self.joined || self.told_to_leave {
            return;
        }
        // Such a frame would be about records that come after it.
        if self.waits_behind_seek {
            return;
        }
        let Some(next) = self.assigned.get_mut(&partition) else {
            return;
        };
        let offsets = *next..*next + i64::from(records);
        *next = offsets.end + i64::from(hidden);
        let next = vec![(place(partition), *next)];
        self.checks.offered(partition, offsets.clone());
        let records = offsets.map(|offset| ConsumerRecord {
            topic: Arc::from(TOPIC),
            partition,
            offset,
            timestamp: 1,
            timestamp_type: TimestampType::Create,
            key: None,
            value: Some(Bytes::from_static(b"{\"n\":1}")),
            headers: Vec::new(),
        });
        let records = records.collect();
        self.member(Event::Records { records, next });
    }

    fn gap(&mut self, partition: i32, forward: bool) {
        let Some(from) = self.assigned.get(&partition).copied() else {
            return;
        };
        if self.is_going(partition) || self.told_to_leave || !self.joined {
            return;
        }
        let to = if forward { from + 10 } else { 0 };
        self.assigned.insert(partition, to);
        if to < from {
            // What is in this log is not what was in the last one.
            self.checks.begins(partition);
        }
        self.member(Event::Gap {
            partition: place(partition),
            from,
            to,
        });
    }

    /// The member's answer to the first command that waits for one.
    fn answer(&mut self, well: bool) {
        let Some((command, assignments)) = self.commands.pop_front() else {
            return;
        };
        let outcome = |offset: i64| {
            if well { Ok(offset) } else { Err(unavailable()) }
        };
        match command {
            Command::Commit { token, offsets } => {
                let mut results = Vec::new();
                for ((partition, offset, _), assignment) in offsets.into_iter().zip(assignments) {
                    if well {
                        let partition = partition.partition;
                        self.checks.was_committed(partition, offset, assignment);
                    }
                    results.push((partition, outcome(offset)));
                }
                self.member(Event::Committed { token, results });
            }
            Command::Seek { token, positions } => {
                let mut results: Vec<(TopicPartition, Result<i64, Fault>)> = Vec::new();
                for (partition, to) in positions {
                    let next = self.assigned.get(&partition.partition).copied();
                    let at = match to {
                        SeekTo::Offset(offset) => offset,
                        SeekTo::Beginning => 0,
                        _ => next.unwrap_or(0),
                    };
                    if well && next.is_some() {
                        self.assigned.insert(partition.partition, at);
                        // What is before it is passed over, and what is after it comes again.
                        self.checks.begins(partition.partition);
                    }
                    let result = next.ok_or_else(unavailable).and_then(|_| outcome(at));
                    results.push((partition, result));
                }
                self.member(Event::Seeked { token, results });
            }
            Command::Ends { token } => self.ends(token, well),
            Command::Pause(_) | Command::Resume(_) | Command::Subscribe { .. } => {}
            Command::Leave { .. } => unreachable!("kept apart"),
        }
        // Another one may have waited behind this one, and the frame behind that.
        self.waits_behind_seek &= self.is_seeking();
    }

    fn ends(&mut self, token: Token, well: bool) {
        let results = self.assigned.iter().map(|(partition, next)| {
            let end = if well {
                Ok(*next)
            } else {
                Err(Fault::new(FaultKind::TimedOut, "late"))
            };
            (place(*partition), end)
        });
        let results = results.collect();
        self.member(Event::Ends { token, results });
    }

    fn dead_lettered(&mut self, letter: Letter) {
        let Some(id) = self.dead_letters.pop_front() else {
            return;
        };
        self.checks.dead_lettered(id, letter == Letter::Written);
        let fault = match letter {
            Letter::Written => None,
            Letter::Unavailable => Some(unavailable()),
            Letter::NoTopic => Some(Fault::new(
                FaultKind::UnknownTopic,
                "there is no such topic",
            )),
        };
        self.session.dead_lettered(id, fault.as_ref(), self.now);
        self.apply();
    }

    fn written(&mut self, well: bool) {
        let Some((ticket, records)) = self.writing.pop_front() else {
            return;
        };
        let outcome = |_| {
            if well {
                return Ok(RecordMetadata {
                    partition: 0,
                    offset: Ok(1),
                    timestamp: 1,
                });
            }
            Err(Box::new(Fault::new(FaultKind::TimedOut, "late")))
        };
        let outcomes = (0..records).map(outcome).collect();
        self.session.produced(ticket, Ok(outcomes), self.now);
        self.apply();
    }

    /// Whatever came before: the client goes, the member answers, and all is over in time.
    pub(super) fn end(&mut self) {
        self.session.lost(self.now);
        self.apply();
        for _ in 0..40 {
            while !self.commands.is_empty() {
                self.answer(true);
            }
            if self.told_to_leave {
                self.left(None);
            }
            self.pass(Duration::from_secs(1));
        }
        assert!(self.session.is_over(), "{:?}", self.session);
        assert!(self.going.is_none(), "what is revoked is let go");
    }
}

/// A position in a frame.
fn at(partition: u8, offset: &Value) -> Value {
    json!({"topic": TOPIC, "partition": number(partition), "offset": offset})
}

fn header(record: &ProducerRecord, name: &str) -> i64 {
    let found = record.headers.iter().find(|header| header.name == name);
    let value = found.and_then(|header| header.value.as_deref());
    let text = std::str::from_utf8(value.expect("a header")).expect("text");
    text.parse().expect("a number")
}
