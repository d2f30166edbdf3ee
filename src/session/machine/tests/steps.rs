//! Whatever happens in whatever order: nothing is passed over, nothing acknowledged comes again, frames
//! are answered in their order, and what is told to be committed is.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{Play, place};
use crate::delivery::DeadLetterId;
use crate::kafka::fault::{Fault, FaultKind};
use crate::kafka::member::{self, Command, Event, Release, SeekTo, Token};
use crate::record::TopicPartition;
use crate::session::effect::Effect;

/// What may happen to a session.
#[derive(Debug, Clone)]
enum Step {
    Offer(i32, u8),
    Frames,
    Ack(usize),
    Nack(usize, u16),
    Pass(u16),
    Revoke(i32),
    Lose(i32),
    Give(i32),
    Answer(bool),
    Seek(i32, u8),
    Letter(bool),
    Frame(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..3, 1..5_u8).prop_map(|(p, n)| Step::Offer(p, n)),
        6 => Just(Step::Frames),
        6 => any::<usize>().prop_map(Step::Ack),
        2 => (any::<usize>(), 0..2000_u16).prop_map(|(n, ms)| Step::Nack(n, ms)),
        4 => (0..3000_u16).prop_map(Step::Pass),
        2 => (0..3).prop_map(Step::Revoke),
        1 => (0..3).prop_map(Step::Lose),
        3 => (0..3).prop_map(Step::Give),
        4 => any::<bool>().prop_map(Step::Answer),
        1 => (0..3, 0..20_u8).prop_map(|(p, o)| Step::Seek(p, o)),
        2 => any::<bool>().prop_map(Step::Letter),
        1 => any::<usize>().prop_map(Step::Frame),
    ]
}

/// Frames that are odd in one way or another.
const ODD: [&str; 9] = [
    r#"{"type":"ping","t":{"a":[1]}}"#,
    r#"{"type":"ack","sub":"o","tags":[0,18446744073709551615]}"#,
    r#"{"type":"pause","sub":"o"}"#,
    r#"{"type":"resume","sub":"o"}"#,
    r#"{"type":"position","sub":"o","id":1}"#,
    r#"{"type":"commit","sub":"o","id":2}"#,
    r#"{"type":"extend","sub":"o","tags":[1,2,3],"ms":9223372036854775807}"#,
    r#"{"type":"nack","sub":"o","tags":[1],"delay_ms":-9223372036854775808,"dead_letter":true}"#,
    r#"{"type":"seek","sub":"o","positions":[{"topic":"orders","partition":0,"timestamp":9223372036854775807}]}"#,
];

/// A group of which the session is a member, as simple as can be.
struct Group {
    play: Play,
    /// What the session has, by partition: where its member reads next.
    assigned: BTreeMap<i32, i64>,
    committed: BTreeMap<i32, i64>,
    /// Acknowledged in the assignment that is, by partition.
    acked: BTreeMap<i32, BTreeSet<i64>>,
    /// Acknowledgements that have no answer yet: behind a commit that waits for a seek.
    acking: VecDeque<(u64, (i32, i64))>,
    /// Delivered and not known to be acknowledged, by tag.
    out: BTreeMap<u64, (i32, i64)>,
    /// Where the assignment of a partition began, after a seek the seek's target.
    start: BTreeMap<i32, i64>,
    /// How often each partition was assigned: a commit from before counts for nothing.
    times: BTreeMap<i32, u32>,
    asked: Vec<(Token, Asked)>,
    releases: Vec<(i32, tokio::sync::oneshot::Receiver<()>)>,
    letters: Vec<(DeadLetterId, i32, i64)>,
}

enum Asked {
    /// With which time each partition was assigned.
    Commit(Vec<(TopicPartition, i64, u32)>),
    Seek(Vec<(TopicPartition, i64)>),
    Ends,
}

impl Group {
    fn new() -> Self {
        let mut play = Play::open();
        play.subscribe(
            json!({"flow": {"records": 6}, "max_deliveries": 2, "ack_timeout_ms": 2000}),
        );
        Self {
            play,
            assigned: BTreeMap::new(),
            committed: BTreeMap::new(),
            acked: BTreeMap::new(),
            acking: VecDeque::new(),
            out: BTreeMap::new(),
            start: BTreeMap::new(),
            times: BTreeMap::new(),
            asked: Vec::new(),
            releases: Vec::new(),
            letters: Vec::new(),
        }
    }

    fn drop_partition(&mut self, partition: i32) {
        self.assigned.remove(&partition);
        self.acked.remove(&partition);
        self.out.retain(|_, (of, _)| *of != partition);
        self.letters.retain(|(_, of, _)| *of != partition);
    }

    /// Takes over what the session wants done.
    fn look(&mut self) {
        for effect in std::mem::take(&mut self.play.effects) {
            match effect {
                Effect::Command(Command::Commit { token, offsets }) => {
                    let offsets: Vec<_> = offsets.into_iter().map(|(p, o, _)| (p, o)).collect();
                    for (partition, offset) in &offsets {
                        let partition = partition.partition;
                        // All before it, from where this assignment began, has been acknowledged.
                        let acked = &self.acked[&partition];
                        let start = self.start[&partition];
                        for before in start..*offset {
                            assert!(
                                acked.contains(&before),
                                "{before} is passed over by {offset}"
                            );
                        }
                    }
                    let offsets = offsets.into_iter().map(|(p, o)| {
                        let time = self.times[&p.partition];
                        (p, o, time)
                    });
                    let offsets = offsets.collect();
                    self.asked.push((token, Asked::Commit(offsets)));
                }
                Effect::Command(Command::Seek { token, positions }) => {
                    let positions = positions.into_iter().map(|(p, to)| {
                        let at = match to {
                            SeekTo::Offset(at) => at,
                            _ => 0,
                        };
                        (p, at)
                    });
                    self.asked.push((token, Asked::Seek(positions.collect())));
                }
                Effect::Command(Command::Ends { token }) => self.asked.push((token, Asked::Ends)),
                Effect::DeadLetter { id, record, .. } => {
                    let text = |name: &str| {
                        let header = record.headers.iter().find(|h| h.name == name).unwrap();
                        String::from_utf8(header.value.clone().unwrap().to_vec()).unwrap()
                    };
                    let partition = text("original-partition").parse().unwrap();
                    let offset = text("original-offset").parse().unwrap();
                    self.letters.push((id, partition, offset));
                }
                _ => {}
            }
        }
        let Self {
            releases,
            assigned,
            acked,
            out,
            letters,
            ..
        } = self;
        releases.retain_mut(|(partition, release)| {
            use tokio::sync::oneshot::error::TryRecvError;
            if release.try_recv() != Err(TryRecvError::Closed) {
                return true;
            }
            assigned.remove(partition);
            acked.remove(partition);
            out.retain(|_, (of, _)| of != partition);
            letters.retain(|(_, of, _)| of != partition);
            false
        });
    }

    fn frames(&mut self) {
        let frames = self.play.frames();
        for (nth, frame) in frames.iter().enumerate() {
            match frame["type"].as_str() {
                Some("records") => self.delivered(frame),
                Some("acked") => {
                    let (tag, (partition, offset)) = self.acking.pop_front().unwrap();
                    assert_eq!(frame["id"], tag, "in the order in which they were sent");
                    // What was refused of it is said behind it, with the same id.
                    let next = frames.get(nth + 1);
                    let is_stale = next.is_some_and(|next| {
                        next["id"] == frame["id"] && next["code"] == "ack_stale"
                    });
                    // It may have come back in the meantime; then this did nothing.
                    if !is_stale {
                        self.acked.get_mut(&partition).unwrap().insert(offset);
                    }
                }
                Some("committed") => self.told_committed(frame),
                _ => {}
            }
        }
        assert!(self.play.session.group().is_none_or(|g| g.in_flight() <= 6));
    }

    /// What it says is what Kafka has, and of partitions that are still the session's.
    fn told_committed(&self, frame: &Value) {
        for at in frame["positions"].as_array().unwrap() {
            let partition = i32::try_from(at["partition"].as_i64().unwrap()).unwrap();
            if at["error"].is_null() {
                assert!(self.assigned.contains_key(&partition), "{frame}");
                let has = self.committed.get(&partition).copied();
                assert_eq!(at["offset"].as_i64(), has, "{frame}");
            }
        }
    }

    fn delivered(&mut self, frame: &Value) {
        for record in frame["records"].as_array().unwrap() {
            let partition = i32::try_from(record["partition"].as_i64().unwrap()).unwrap();
            let offset = record["offset"].as_i64().unwrap();
            let tag = record["tag"].as_u64().unwrap();
            assert!(
                !self.acked[&partition].contains(&offset),
                "{offset} was acknowledged and comes again"
            );
            self.out.retain(|_, at| *at != (partition, offset));
            self.out.insert(tag, (partition, offset));
        }
    }

    fn apply(&mut self, step: Step) {
        let is_going = |group: &Self, p: i32| group.releases.iter().any(|(of, _)| *of == p);
        match step {
            Step::Offer(partition, count) => {
                if let Some(next) = self.assigned.get_mut(&partition)
                    && !self.releases.iter().any(|(of, _)| *of == partition)
                {
                    let from = *next;
                    *next += i64::from(count);
                    let to = *next;
                    self.play.offer(partition, from..to);
                }
            }
            Step::Frames => self.frames(),
            Step::Ack(n) => {
                let Some((tag, at)) = nth(&self.out, n) else {
                    return;
                };
                self.play
                    .send(json!({"type": "ack", "sub": "o", "tags": [tag], "id": tag}));
                self.acking.push_back((tag, at));
                self.out.remove(&tag);
                self.frames();
            }
            Step::Nack(n, ms) => {
                if let Some((tag, _)) = nth(&self.out, n) {
                    let frame = json!({"type": "nack", "sub": "o", "tags": [tag], "delay_ms": ms});
                    self.play.send(frame);
                    self.out.remove(&tag);
                    self.frames();
                }
            }
            Step::Pass(ms) => self.play.pass(Duration::from_millis(u64::from(ms))),
            Step::Revoke(partition) => {
                // One revoke at a time, as the member does it.
                if self.assigned.contains_key(&partition) && self.releases.is_empty() {
                    let (release, released) = Release::new();
                    self.releases.push((partition, released));
                    self.play.member(Event::Revoking {
                        partitions: vec![place(partition)],
                        release,
                    });
                }
            }
            Step::Lose(partition) => {
                if self.assigned.contains_key(&partition) && self.releases.is_empty() {
                    self.play.member(Event::Lost(vec![place(partition)]));
                    self.drop_partition(partition);
                }
            }
            Step::Give(partition) => {
                if !self.assigned.contains_key(&partition) && self.releases.is_empty() {
                    let start = self.committed.get(&partition).copied();
                    let assigned = member::Assigned {
                        partition: place(partition),
                        start: start.unwrap_or(0),
                        committed: start,
                        end: 1_000,
                    };
                    self.start.insert(partition, assigned.start);
                    self.assigned.insert(partition, assigned.start);
                    self.acked.insert(partition, BTreeSet::new());
                    *self.times.entry(partition).or_default() += 1;
                    self.play.member(Event::Assigned {
                        added: vec![assigned],
                        all: self.assigned.keys().map(|p| place(*p)).collect(),
                    });
                }
            }
            Step::Answer(well) => {
                if self.asked.is_empty() {
                    return;
                }
                let (token, asked) = self.asked.remove(0);
                let failed = || Err(Fault::new(FaultKind::Unavailable, "away"));
                match asked {
                    Asked::Commit(offsets) => {
                        let results = offsets.into_iter().map(|(p, o, time)| {
                            let is_same = self.times[&p.partition] == time;
                            if well && is_same && self.assigned.contains_key(&p.partition) {
                                self.committed.insert(p.partition, o);
                            }
                            (p, if well { Ok(o) } else { failed() })
                        });
                        let results = results.collect();
                        self.play.member(Event::Committed { token, results });
                    }
                    Asked::Seek(positions) => {
                        let results = positions.into_iter().map(|(p, at)| {
                            let there = self.assigned.contains_key(&p.partition);
                            if well && there {
                                let partition = p.partition;
                                self.start.insert(partition, at);
                                self.assigned.insert(partition, at);
                                self.acked.insert(partition, BTreeSet::new());
                                self.out.retain(|_, (of, _)| *of != partition);
                                self.letters.retain(|(_, of, _)| *of != partition);
                            }
                            (p, if well && there { Ok(at) } else { failed() })
                        });
                        let results = results.collect();
                        self.play.member(Event::Seeked { token, results });
                    }
                    Asked::Ends => {
                        let results = self.assigned.keys().map(|p| (place(*p), Ok(1_000)));
                        let results = results.collect();
                        self.play.member(Event::Ends { token, results });
                    }
                }
                self.frames();
            }
            Step::Seek(partition, offset) => {
                if !is_going(self, partition) {
                    self.play.send(json!({"type": "seek", "sub": "o",
                        "positions": [{"topic": "orders", "partition": partition, "offset": offset}]}));
                }
            }
            Step::Letter(written) => {
                if let Some((id, partition, offset)) = self.letters.pop() {
                    let fault = Fault::new(FaultKind::Unavailable, "away");
                    let failed = (!written).then_some(&fault);
                    self.play.session.dead_lettered(id, failed, self.play.now);
                    self.play.collect();
                    if written && let Some(acked) = self.acked.get_mut(&partition) {
                        acked.insert(offset);
                    }
                }
            }
            Step::Frame(n) => {
                self.play.text(ODD[n % ODD.len()]);
                self.frames();
            }
        }
        self.look();
    }
}

fn nth(out: &BTreeMap<u64, (i32, i64)>, n: usize) -> Option<(u64, (i32, i64))> {
    if out.is_empty() {
        return None;
    }
    out.iter().nth(n % out.len()).map(|(tag, at)| (*tag, *at))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn nothing_is_passed_over_and_nothing_acknowledged_comes_again(
        steps in prop::collection::vec(step(), 1..150),
    ) {
        let mut group = Group::new();
        for step in steps {
            group.apply(step);
            if group.play.session.is_closed() {
                return Ok(());
            }
        }
    }

    #[test]
    fn no_text_makes_a_session_fail(texts in prop::collection::vec("\\PC{0,60}", 1..20)) {
        let mut play = Play::subscribed(json!({}));
        for text in texts {
            play.text(&text);
            play.frames();
        }
    }
}
