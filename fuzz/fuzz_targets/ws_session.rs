//! A whole WebSocket session, played between a client and a group member that do anything in any order.
#![no_main]

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arbitrary::Arbitrary;
use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};
use tidegate::auth::Principal;
use tidegate::delivery::DeadLetterId;
use tidegate::kafka::fault::{Fault, FaultKind};
use tidegate::kafka::member::{Assigned, Command, Event, Release, SeekTo, State, Token};
use tidegate::record::{ConsumerRecord, RecordMetadata, TimestampType, TopicPartition};
use tidegate::session::clock::Clock;
use tidegate::session::effect::Effect;
use tidegate::session::machine::Session;
use tidegate::session::protocol::client::ClientFrame;
use tidegate::session::rules::Rules;
use tokio::sync::oneshot;

/// What happens next. Tags, offsets and ids are small, so that they hit.
#[derive(Debug, Arbitrary)]
enum Step {
    // The client.
    Text(String),
    Ack {
        tags: Vec<u8>,
        id: bool,
    },
    AckUpTo {
        partition: u8,
        offset: u8,
    },
    Nack {
        tags: Vec<u8>,
        delay: u16,
        dead: bool,
    },
    Extend {
        tag: u8,
        ms: u16,
    },
    Commit(Option<(u8, u8)>),
    Credit {
        records: u8,
        bytes: Option<u8>,
    },
    Pause {
        partition: Option<u8>,
        on: bool,
    },
    Seek {
        partition: u8,
        to: To,
    },
    Produce {
        id: u8,
        records: u8,
    },
    Position,
    Hello,
    Subscribe,
    Unsubscribe {
        commit: bool,
    },
    Bye {
        commit: bool,
    },
    Gone,
    // The member of the group.
    Resolved(bool),
    Assign(u8),
    Revoke(u8),
    Lost(u8),
    Offer {
        partition: u8,
        records: u8,
        hidden: u8,
    },
    Gap {
        partition: u8,
        forward: bool,
    },
    Answer(bool),
    DeadLetter(bool),
    Written(bool),
    State(u8),
    Ended(bool),
    // The socket, and time.
    Take(u32),
    Flushed,
    Pass(u16),
    Drain(u16),
    Pressure(u8),
}

#[derive(Debug, Arbitrary)]
enum To {
    Offset(u8),
    Beginning,
    End,
    Committed,
}

#[derive(Debug, Arbitrary)]
struct Input {
    auto: bool,
    cumulative: bool,
    relaxed: bool,
    credit: bool,
    dlq: bool,
    small_window: bool,
    ack_timeout: bool,
    linger: bool,
    static_member: bool,
    steps: Vec<Step>,
}

const PARTITIONS: u8 = 3;

fn place(partition: i32) -> TopicPartition {
    TopicPartition::new("t", partition)
}

fn number(partition: u8) -> i32 {
    i32::from(partition % PARTITIONS)
}

/// Both sides of a session, and what must hold between them.
struct Play {
    session: Session,
    now: Instant,
    options: Value,
    auto: bool,
    cumulative: bool,
    joined: bool,
    told_to_leave: bool,
    /// The next offset of each partition that the member has.
    assigned: BTreeMap<i32, i64>,
    going: Option<(Vec<i32>, oneshot::Receiver<()>)>,
    commands: VecDeque<Command>,
    dead: VecDeque<DeadLetterId>,
    dead_offsets: HashMap<DeadLetterId, (i32, i64)>,
    writing: VecDeque<(u64, usize)>,
    last_tag: u64,
    tags: BTreeMap<u64, (i32, i64)>,
    /// In `auto`: given to the socket and not flushed.
    unflushed: Vec<(i32, i64)>,
    /// Offered to the session, and not yet something that it may pass over.
    open: BTreeSet<(i32, i64)>,
    offered: BTreeSet<(i32, i64)>,
    /// The number that comes back with the topics that were looked up last.
    lookup: u64,
    /// Frames that ask to write under an id, and their answers.
    asked: BTreeMap<String, i64>,
    closed: bool,
}

impl Play {
    fn new(input: &Input) -> Self {
        let now = Instant::now();
        let rules = Arc::new(Rules {
            open: true,
            max_frame: 2 << 20,
            hello_timeout: Duration::from_secs(5),
            idle_timeout: Duration::from_secs(300),
            revoke_grace: Duration::from_secs(1),
            max_inflight_records: 100,
            max_inflight_bytes: 1 << 20,
            max_gap: 50,
            max_delayed: 10,
            dead_letter_topic: "{topic}.dlq".to_owned(),
        });
        let window = if input.small_window { 3 } else { 50 };
        let options = json!({
            "type": "subscribe", "id": "s", "sub": "o", "group": "g", "topics": ["t"],
            "ack": match (input.auto, input.cumulative) {
                (true, _) => "auto",
                (false, true) => "cumulative",
                (false, false) => "individual",
            },
            "order": if input.relaxed { "relaxed" } else { "partition" },
            "flow": {"mode": if input.credit { "credit" } else { "window" }, "records": window},
            "dlq": if input.dlq { json!("letters") } else { json!(false) },
            "ack_timeout_ms": if input.ack_timeout { 1_000 } else { 0 },
            "batch": {"records": 7, "linger_ms": if input.linger { 50 } else { 0 }},
            "max_deliveries": 3,
            "instance_id": if input.static_member { json!("i") } else { Value::Null },
        });
        let clock = Clock::new(now, 1_700_000_000_000);
        let principal = Some(Principal::anonymous());
        Self {
            session: Session::new("s".to_owned(), rules, principal, None, clock, now),
            now,
            options,
            auto: input.auto,
            cumulative: input.cumulative && !input.auto,
            joined: false,
            told_to_leave: false,
            assigned: BTreeMap::new(),
            going: None,
            commands: VecDeque::new(),
            dead: VecDeque::new(),
            dead_offsets: HashMap::new(),
            writing: VecDeque::new(),
            last_tag: 0,
            tags: BTreeMap::new(),
            unflushed: Vec::new(),
            open: BTreeSet::new(),
            offered: BTreeSet::new(),
            lookup: 0,
            asked: BTreeMap::new(),
            closed: false,
        }
    }

    /// The client may be said to be done with these.
    fn done(&mut self, partition: i32, offsets: impl Fn(i64) -> bool) {
        self.open.retain(|(p, o)| *p != partition || !offsets(*o));
    }

    fn text(&mut self, text: String) {
        let text = Bytes::from(text);
        if let Ok(frame) = ClientFrame::parse(&text) {
            self.means(&frame);
        }
        self.session.text(&text, self.now);
        self.apply();
    }

    /// What a frame allows to be passed over, whether or not it is taken.
    fn means(&mut self, frame: &ClientFrame) {
        match frame {
            ClientFrame::Ack(ack) => {
                for tag in ack.tags.iter().flatten() {
                    if let Some((partition, offset)) = self.tags.get(tag).copied() {
                        let all_before = self.cumulative;
                        self.done(partition, |o| o == offset || (all_before && o < offset));
                    }
                }
                for at in ack.upto.iter().flatten() {
                    self.done(at.partition, |o| o <= at.offset);
                }
            }
            ClientFrame::Commit(commit) => {
                for at in commit.positions.iter().flatten() {
                    self.done(at.partition, |o| o < at.offset);
                }
            }
            ClientFrame::Produce(produced) => {
                let id = serde_json::to_string(&produced.id).expect("an id");
                *self.asked.entry(id).or_default() += 1;
            }
            _ => {}
        }
    }

    fn member(&mut self, event: Event) {
        if self.joined {
            self.session.member(event, self.now);
            self.apply();
        }
    }

    fn over(&mut self) {
        self.joined = false;
        self.told_to_leave = false;
        self.assigned.clear();
        self.open.clear();
        self.unflushed.clear();
        self.going = None;
        self.commands.clear();
    }

    /// Does what the session wants done, as far as that is not a step of its own.
    fn apply(&mut self) {
        loop {
            let effects = self.session.effects();
            if effects.is_empty() {
                break;
            }
            for effect in effects {
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
                        if let Command::Commit { offsets, .. } = &command {
                            self.check_commit(offsets);
                        }
                        self.commands.push_back(command);
                    }
                    Effect::DeadLetter { id, record, .. } => {
                        let header = |name: &str| {
                            let found = record.headers.iter().find(|h| h.name == name);
                            let value = found.and_then(|h| h.value.as_deref()).expect("a header");
                            std::str::from_utf8(value).expect("text").parse::<i64>()
                        };
                        let partition = header("original-partition").expect("a number");
                        let offset = header("original-offset").expect("a number");
                        let partition = i32::try_from(partition).expect("a partition");
                        self.dead_offsets.insert(id, (partition, offset));
                        self.dead.push_back(id);
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
        }
        // The member lets go of what it was allowed to.
        if let Some((partitions, released)) = &mut self.going
            && !matches!(
                released.try_recv(),
                Err(oneshot::error::TryRecvError::Empty)
            )
        {
            for partition in std::mem::take(partitions) {
                self.assigned.remove(&partition);
                self.open.retain(|(p, _)| *p != partition);
                self.unflushed.retain(|(p, _)| *p != partition);
            }
            self.going = None;
        }
    }

    /// Nothing is committed beyond a record that the client is not done with.
    fn check_commit(&self, offsets: &[(TopicPartition, i64, Option<String>)]) {
        for (partition, offset, _) in offsets {
            let passed = self
                .open
                .range((partition.partition, i64::MIN)..(partition.partition, *offset));
            assert_eq!(passed.count(), 0, "{partition:?} {offset}: {:?}", self.open);
        }
    }

    fn take(&mut self, room: usize) {
        while let Some(text) = self.session.next_frame(room, self.now) {
            let frame: Value = serde_json::from_slice(&text).expect("JSON");
            assert!(!self.closed, "nothing comes after goodbye");
            match frame["type"].as_str().expect("a type") {
                "records" => self.records(&frame),
                "goodbye" => self.closed = true,
                "produced" => self.answered(&frame),
                "error" if frame["id"] != Value::Null => {
                    let id = frame["id"].to_string();
                    if self.asked.contains_key(&id) {
                        self.answered(&frame);
                    }
                }
                _ => {}
            }
            self.apply();
        }
    }

    fn answered(&mut self, frame: &Value) {
        let left = self.asked.get_mut(&frame["id"].to_string());
        let left = left.expect("it was asked for");
        *left -= 1;
        assert!(*left >= 0, "one answer for each request: {frame}");
    }

    fn records(&mut self, frame: &Value) {
        let records = frame["records"].as_array().expect("records");
        assert!(!records.is_empty());
        for record in records {
            let tag = record["tag"].as_u64().expect("a tag");
            assert!(tag > self.last_tag, "tags rise");
            self.last_tag = tag;
            let partition = record["partition"].as_i64().expect("a partition");
            let partition = i32::try_from(partition).expect("a partition");
            let offset = record["offset"].as_i64().expect("an offset");
            assert!(self.assigned.contains_key(&partition), "{frame}");
            assert!(self.offered.contains(&(partition, offset)), "{record}");
            self.tags.insert(tag, (partition, offset));
            if self.auto {
                self.unflushed.push((partition, offset));
            }
        }
    }

    fn offer(&mut self, partition: i32, records: u8, hidden: u8) {
        let going = self
            .going
            .iter()
            .any(|(going, _)| going.contains(&partition));
        let seeking = self.commands.iter().any(|command| {
            matches!(command, Command::Seek { positions, .. }
                if positions.iter().any(|(p, _)| p.partition == partition))
        });
        if going || seeking || !self.joined || self.told_to_leave {
            return;
        }
        let Some(next) = self.assigned.get_mut(&partition) else {
            return;
        };
        let first = *next;
        *next += i64::from(records % 20) + i64::from(hidden % 20);
        let offsets = first..first + i64::from(records % 20);
        let next = *next;
        self.open.extend(offsets.clone().map(|o| (partition, o)));
        self.offered.extend(offsets.clone().map(|o| (partition, o)));
        let records = offsets.map(|offset| ConsumerRecord {
            topic: Arc::from("t"),
            partition,
            offset,
            timestamp: 1,
            timestamp_type: TimestampType::Create,
            key: None,
            value: Some(Bytes::from_static(b"{\"n\":1}")),
            headers: Vec::new(),
        });
        let records = records.collect();
        self.member(Event::Records {
            records,
            next: vec![(place(partition), next)],
        });
    }

    /// The member's answer to the first command that waits for one.
    fn answer(&mut self, well: bool) {
        let Some(command) = self.commands.pop_front() else {
            return;
        };
        let fault = || Fault::new(FaultKind::Unavailable, "no broker answers");
        let outcome = |offset: i64| if well { Ok(offset) } else { Err(fault()) };
        match command {
            Command::Commit { token, offsets } => {
                let results = offsets.into_iter().map(|(p, o, _)| (p, outcome(o)));
                let results = results.collect();
                self.member(Event::Committed { token, results });
            }
            Command::Seek { token, positions } => {
                let mut results: Vec<(TopicPartition, Result<i64, Fault>)> = Vec::new();
                for (partition, to) in positions {
                    let at = match to {
                        SeekTo::Offset(offset) => offset,
                        SeekTo::Beginning => 0,
                        _ => self
                            .assigned
                            .get(&partition.partition)
                            .copied()
                            .unwrap_or(0),
                    };
                    let has = self.assigned.contains_key(&partition.partition);
                    if well && has {
                        self.assigned.insert(partition.partition, at);
                        // What is before it is passed over, and what is after it comes again.
                        self.open.retain(|(p, _)| *p != partition.partition);
                        self.unflushed.retain(|(p, _)| *p != partition.partition);
                    }
                    let result = if has { outcome(at) } else { Err(fault()) };
                    results.push((partition, result));
                }
                self.member(Event::Seeked { token, results });
            }
            Command::Ends { token } => self.ends(token, well),
            Command::Pause(_) | Command::Resume(_) | Command::Subscribe { .. } => {}
            Command::Leave { .. } => unreachable!("kept apart"),
        }
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

    /// Lets time pass, as the shell does: ticks when the session wants one.
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

    fn step(&mut self, step: Step) {
        let sub = "o";
        match step {
            Step::Text(text) => self.text(text),
            Step::Ack { tags, id } => {
                let mut frame = json!({"type": "ack", "sub": sub, "tags": tags});
                if id {
                    frame["id"] = "a".into();
                }
                self.text(frame.to_string());
            }
            Step::AckUpTo { partition, offset } => {
                let upto = json!([{"topic": "t", "partition": number(partition), "offset": offset}]);
                self.text(json!({"type": "ack", "sub": sub, "upto": upto}).to_string());
            }
            Step::Nack { tags, delay, dead } => self.text(
                json!({"type": "nack", "sub": sub, "tags": tags, "delay_ms": delay, "dead_letter": dead})
                    .to_string(),
            ),
            Step::Extend { tag, ms } => self
                .text(json!({"type": "extend", "sub": sub, "tags": [tag], "ms": ms}).to_string()),
            Step::Commit(at) => {
                let mut frame = json!({"type": "commit", "sub": sub, "id": "c"});
                if let Some((partition, offset)) = at {
                    frame["positions"] =
                        json!([{"topic": "t", "partition": number(partition), "offset": offset}]);
                }
                self.text(frame.to_string());
            }
            Step::Credit { records, bytes } => self.text(
                json!({"type": "credit", "sub": sub, "records": records, "bytes": bytes}).to_string(),
            ),
            Step::Pause { partition, on } => {
                let kind = if on { "pause" } else { "resume" };
                let mut frame = json!({"type": kind, "sub": sub});
                if let Some(partition) = partition {
                    frame["partitions"] =
                        json!([{"topic": "t", "partition": number(partition)}]);
                }
                self.text(frame.to_string());
            }
            Step::Seek { partition, to } => {
                let to = match to {
                    To::Offset(offset) => json!(offset),
                    To::Beginning => json!("beginning"),
                    To::End => json!("end"),
                    To::Committed => json!("committed"),
                };
                let at = json!([{"topic": "t", "partition": number(partition), "offset": to}]);
                self.text(json!({"type": "seek", "sub": sub, "positions": at}).to_string());
            }
            Step::Produce { id, records } => {
                let records = vec![json!({"value": 1}); usize::from(records % 4)];
                self.text(
                    json!({"type": "produce", "id": id, "topic": "t", "records": records})
                        .to_string(),
                );
            }
            Step::Position => self.text(json!({"type": "position", "sub": sub}).to_string()),
            Step::Hello => self.text(json!({"type": "hello", "id": "h"}).to_string()),
            Step::Subscribe => {
                let text = self.options.to_string();
                self.text(text);
            }
            Step::Unsubscribe { commit } => self
                .text(json!({"type": "unsubscribe", "sub": sub, "commit": commit}).to_string()),
            Step::Bye { commit } => self.text(json!({"type": "bye", "commit": commit}).to_string()),
            Step::Gone => {
                self.session.lost(self.now);
                self.apply();
            }
            Step::Resolved(found) => {
                let found = if found {
                    Ok(vec![Arc::from("t")])
                } else {
                    Err(Fault::new(FaultKind::UnknownTopic, "there is no such topic"))
                };
                self.session.resolved(self.lookup, found, self.now);
                self.apply();
            }
            Step::Assign(partition) => self.assign(number(partition)),
            Step::Revoke(partition) => self.revoke(number(partition)),
            Step::Lost(partition) => {
                let partition = number(partition);
                if self.joined && self.assigned.remove(&partition).is_some() {
                    self.open.retain(|(p, _)| *p != partition);
                    self.unflushed.retain(|(p, _)| *p != partition);
                    self.member(Event::Lost(vec![place(partition)]));
                }
            }
            Step::Offer {
                partition,
                records,
                hidden,
            } => self.offer(number(partition), records, hidden),
            Step::Gap { partition, forward } => self.gap(number(partition), forward),
            Step::Answer(well) => self.answer(well),
            Step::DeadLetter(well) => {
                if let Some(id) = self.dead.pop_front() {
                    if let Some((partition, offset)) = self.dead_offsets.remove(&id)
                        && well
                    {
                        self.done(partition, |o| o == offset);
                    }
                    let fault = Fault::new(FaultKind::UnknownTopic, "there is no such topic");
                    let failed = (!well).then_some(&fault);
                    self.session.dead_lettered(id, failed, self.now);
                    self.apply();
                }
            }
            Step::Written(well) => {
                if let Some((ticket, records)) = self.writing.pop_front() {
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
            }
            Step::State(state) => {
                let fault = Fault::new(FaultKind::Unavailable, "no broker answers");
                self.member(Event::State(match state % 3 {
                    0 => State::Joining(Some(fault)),
                    1 => State::Active,
                    _ => State::Unavailable(fault),
                }));
            }
            Step::Ended(asked) => {
                if self.joined && (self.told_to_leave || !asked) {
                    let fault = (!self.told_to_leave)
                        .then(|| Fault::new(FaultKind::NotAuthorized, "the right was taken away"));
                    self.session.member(Event::Ended(fault), self.now);
                    self.over();
                    self.apply();
                }
            }
            Step::Take(room) => self.take(usize::try_from(room % (1 << 21)).unwrap_or(0)),
            Step::Flushed => self.flushed(),
            Step::Pass(ms) => self.pass(Duration::from_millis(u64::from(ms))),
            Step::Drain(ms) => {
                let time = Duration::from_millis(u64::from(ms));
                self.session.drain(time, time, self.now);
                self.apply();
            }
            Step::Pressure(pressure) => self.session.set_pressure(u32::from(pressure)),
        }
    }

    fn flushed(&mut self) {
        for at in std::mem::take(&mut self.unflushed) {
            self.open.remove(&at);
        }
        self.session.flushed(self.now);
        self.apply();
    }

    fn assign(&mut self, partition: i32) {
        if !self.joined || self.told_to_leave || self.assigned.contains_key(&partition) {
            return;
        }
        self.assigned.insert(partition, 0);
        let all = self.assigned.keys().copied().map(place).collect();
        self.member(Event::Assigned {
            added: vec![Assigned {
                partition: place(partition),
                start: 0,
                committed: None,
                end: 100,
            }],
            all,
        });
    }

    fn revoke(&mut self, partition: i32) {
        if !self.joined || self.going.is_some() || !self.assigned.contains_key(&partition) {
            return;
        }
        let (release, released) = Release::new();
        self.going = Some((vec![partition], released));
        self.member(Event::Revoking {
            partitions: vec![place(partition)],
            release,
        });
    }

    fn gap(&mut self, partition: i32, forward: bool) {
        let going = self
            .going
            .iter()
            .any(|(going, _)| going.contains(&partition));
        let Some(from) = self.assigned.get(&partition).copied() else {
            return;
        };
        if going || self.told_to_leave || !self.joined {
            return;
        }
        let to = if forward { from + 10 } else { 0 };
        self.assigned.insert(partition, to);
        if to < from {
            self.open.retain(|(p, _)| *p != partition);
            self.unflushed.retain(|(p, _)| *p != partition);
        }
        self.member(Event::Gap {
            partition: place(partition),
            from,
            to,
        });
    }

    /// Whatever came before: the client goes, the member answers, and all is over in time.
    fn end(&mut self) {
        self.session.lost(self.now);
        self.apply();
        for _ in 0..40 {
            while !self.commands.is_empty() {
                self.answer(true);
            }
            if self.told_to_leave {
                self.session.member(Event::Ended(None), self.now);
                self.over();
                self.apply();
            }
            self.pass(Duration::from_secs(1));
        }
        assert!(self.session.is_over(), "{:?}", self.session);
        assert!(self.going.is_none(), "what is revoked is let go");
    }
}

fuzz_target!(|input: Input| {
    let mut play = Play::new(&input);
    play.take(1 << 20);
    // Most of the time into the middle of it.
    play.step(Step::Subscribe);
    play.step(Step::Resolved(true));
    play.step(Step::Assign(0));
    for step in input.steps {
        play.step(step);
    }
    play.end();
});
