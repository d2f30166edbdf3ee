//! A session between a client and a member that are both played by the test. Every frame that it
//! sends is checked against the AsyncAPI document.
//!
//! - `mod.rs`: the play
//! - `credentials.rs`: tokens and rights
//! - `frames.rs`: frames that may not come
//! - `behind.rs`: frames that wait for the answer to one before them
//! - `delivering.rs`: records that are delivered and acknowledged
//! - `ending.rs`: partitions that go, and ends
//! - `producing.rs`: records that a client writes
//! - `tails.rs`: tails, with followers that the test plays
//!
//! Whatever happens in whatever order is in `session/model/`.

mod behind;
mod credentials;
mod delivering;
mod ending;
mod frames;
mod producing;
mod tails;

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde_json::{Value, json};

use super::Session;
use crate::auth::Principal;
use crate::auth::permission::Permission;
use crate::kafka::member::{self, Command, Event, Release};
use crate::record::{ConsumerRecord, TimestampType, TopicPartition};
use crate::session::clock::Clock;
use crate::session::effect::Effect;
use crate::session::model::frame_schema::check;
use crate::session::rules::Rules;

fn rules(open: bool) -> Arc<Rules> {
    Arc::new(Rules {
        open,
        max_frame: 2 << 20,
        hello_timeout: Duration::from_secs(5),
        idle_timeout: Duration::from_secs(300),
        revoke_grace: Duration::from_secs(1),
        max_inflight_records: 10_000,
        max_inflight_bytes: 32 << 20,
        max_gap: 10_000,
        max_delayed: 1_000,
        dead_letter_topic: "{topic}.dlq".to_owned(),
    })
}

fn place(partition: i32) -> TopicPartition {
    TopicPartition::new("orders", partition)
}

fn record(partition: i32, offset: i64) -> ConsumerRecord {
    ConsumerRecord {
        topic: Arc::from("orders"),
        partition,
        offset,
        timestamp: 1,
        timestamp_type: TimestampType::Create,
        key: None,
        value: Some(Bytes::from_static(b"{\"n\":1}")),
        headers: Vec::new(),
    }
}

fn permissions(list: &[&str]) -> Vec<Permission> {
    list.iter()
        .map(|text| {
            Permission::parse(
                text,
                &crate::auth::identity::Identity::of_token("issuer", "ann".to_owned()),
            )
            .unwrap()
        })
        .collect()
}

/// The test's side of a session.
struct Play {
    session: Session,
    now: Instant,
    effects: Vec<Effect>,
}

impl Play {
    fn new(principal: Option<Principal>, open: bool) -> Self {
        let now = Instant::now();
        let clock = Clock::new(now, 1_700_000_000_000);
        let session = Session::new("s".to_owned(), rules(open), principal, None, clock, now);
        let mut play = Self {
            session,
            now,
            effects: Vec::new(),
        };
        play.collect();
        play
    }

    fn open() -> Self {
        let mut play = Self::new(Some(Principal::anonymous()), true);
        assert_eq!(kinds(&play.frames()), ["welcome"]);
        play
    }

    /// With a group of two partitions, 0 and 1, from offset 0.
    fn subscribed(options: Value) -> Self {
        let mut play = Self::open();
        play.subscribe(options);
        let assigned = (0..2).map(|p| member::Assigned {
            partition: place(p),
            start: 0,
            committed: None,
            end: 100,
        });
        play.member(Event::Assigned {
            added: assigned.collect(),
            all: vec![place(0), place(1)],
        });
        assert_eq!(kinds(&play.frames()), ["assigned", "state"]);
        play
    }

    fn subscribe(&mut self, mut options: Value) {
        let frame = options.as_object_mut().unwrap();
        frame.insert("type".to_owned(), "subscribe".into());
        frame.insert("sub".to_owned(), "o".into());
        frame.insert("group".to_owned(), "g".into());
        frame.insert("topics".to_owned(), json!(["orders"]));
        self.send(options);
        self.resolve(&["orders"]);
        assert_eq!(kinds(&self.frames()), ["subscribed"]);
        assert!(matches!(self.effects.pop(), Some(Effect::Join(_))));
    }

    /// Answers the question for topics that was asked last.
    fn resolve(&mut self, topics: &[&str]) {
        let is_question = |effect: &Effect| matches!(effect, Effect::Resolve(..));
        let at = self.effects.iter().rposition(is_question);
        let Some(Effect::Resolve(ticket, _)) = at.map(|at| self.effects.remove(at)) else {
            panic!("nothing is looked up");
        };
        let topics = topics.iter().map(|topic| Arc::from(*topic)).collect();
        self.session.resolved(ticket, Ok(topics), self.now);
        self.collect();
    }

    fn collect(&mut self) {
        self.effects.extend(self.session.effects());
    }

    fn send(&mut self, frame: Value) {
        self.text(&frame.to_string());
    }

    fn text(&mut self, text: &str) {
        let text = Bytes::copy_from_slice(text.as_bytes());
        self.session.text(&text, self.now);
        self.collect();
    }

    fn member(&mut self, event: Event) {
        self.session.member(event, self.now);
        self.collect();
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.session.tick(self.now);
        self.collect();
    }

    /// All that goes out now, flushed.
    fn frames(&mut self) -> Vec<Value> {
        let mut frames = Vec::new();
        while let Some(text) = self.session.next_frame(1 << 20, self.now) {
            let frame: Value = serde_json::from_slice(&text).unwrap();
            check(&frame);
            frames.push(frame);
        }
        self.session.flushed(self.now);
        self.collect();
        frames
    }

    /// The one frame that goes out now.
    fn frame(&mut self) -> Value {
        let frames = self.frames();
        assert_eq!(frames.len(), 1, "{frames:?}");
        frames.into_iter().next().unwrap()
    }

    fn offer(&mut self, partition: i32, offsets: std::ops::Range<i64>) {
        let next = vec![(place(partition), offsets.end)];
        let records = offsets.map(|o| record(partition, o)).collect();
        self.member(Event::Records { records, next });
    }

    /// The commits that the member was told of, answered.
    fn commits(&mut self) -> Vec<(i32, i64)> {
        let mut commits = Vec::new();
        let mut answers = Vec::new();
        self.effects.retain_mut(|effect| match effect {
            Effect::Command(Command::Commit { token, offsets }) => {
                commits.extend(offsets.iter().map(|(p, o, _)| (p.partition, *o)));
                let results = offsets.iter().map(|(p, o, _)| (p.clone(), Ok(*o)));
                answers.push((*token, results.collect::<Vec<_>>()));
                false
            }
            _ => true,
        });
        for (token, results) in answers {
            self.member(Event::Committed { token, results });
        }
        commits
    }

    fn command(&mut self) -> Option<Command> {
        let index = self
            .effects
            .iter()
            .position(|effect| matches!(effect, Effect::Command(_)))?;
        match self.effects.remove(index) {
            Effect::Command(command) => Some(command),
            _ => None,
        }
    }

    /// The code of the goodbye that goes out now.
    fn goodbye(&mut self) -> u64 {
        let frames = self.frames();
        let last = frames.last().unwrap();
        assert_eq!(last["type"], "goodbye", "{frames:?}");
        assert!(self.session.is_closed());
        last["code"].as_u64().unwrap()
    }
}

fn kinds(frames: &[Value]) -> Vec<String> {
    let kinds = frames.iter().map(|frame| frame["type"].as_str().unwrap());
    kinds.map(str::to_owned).collect()
}

fn tags(frame: &Value) -> Vec<u64> {
    let records = frame["records"].as_array().unwrap();
    records.iter().map(|r| r["tag"].as_u64().unwrap()).collect()
}

fn release() -> (Release, tokio::sync::oneshot::Receiver<()>) {
    Release::new()
}
