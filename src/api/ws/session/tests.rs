//! A session between a client and a member that are both played by the test. Every frame that it
//! sends is checked against the AsyncAPI document.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use bytes::Bytes;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::auth::permission::Permission;
use crate::delivery::DeadLetterId;
use crate::kafka::fault::{Fault, FaultKind};
use crate::kafka::member::{self, Command, Event, Release, SeekTo, Token};
use crate::record::{Delivered, TimestampType, TopicPartition, Written};
use crate::write::Rejected;

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

/// Checks a frame against the document.
pub(super) fn check(frame: &Value) {
    static SCHEMAS: LazyLock<BTreeMap<String, jsonschema::Validator>> = LazyLock::new(|| {
        let document = crate::api::ws::protocol::asyncapi::document();
        let messages = document["components"]["messages"].as_object().unwrap();
        messages
            .iter()
            .map(|(kind, message)| {
                let schema = json!({
                    "$ref": message["payload"]["$ref"],
                    "components": document["components"],
                });
                (kind.clone(), jsonschema::validator_for(&schema).unwrap())
            })
            .collect()
    });
    let kind = frame["type"].as_str().unwrap();
    let schema = SCHEMAS.get(kind).unwrap_or_else(|| panic!("{frame}"));
    if let Err(error) = schema.validate(frame) {
        panic!("{frame}: {error}");
    }
}

fn place(partition: i32) -> TopicPartition {
    TopicPartition::new("orders", partition)
}

fn record(partition: i32, offset: i64) -> Delivered {
    Delivered {
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
        .map(|text| Permission::parse(text, "ann").unwrap())
        .collect()
}

/// The test's side of a session.
pub(super) struct Play {
    pub(super) session: Session,
    pub(super) now: Instant,
    pub(super) effects: Vec<Effect>,
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

    pub(super) fn open() -> Self {
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
        assert!(matches!(self.effects.pop(), Some(Effect::Resolve(_))));
        self.session
            .resolved(Ok(vec![Arc::from("orders")]), self.now);
        self.collect();
        assert_eq!(kinds(&self.frames()), ["subscribed"]);
        assert!(matches!(self.effects.pop(), Some(Effect::Join(_))));
    }

    pub(super) fn collect(&mut self) {
        self.effects.extend(self.session.effects());
    }

    pub(super) fn send(&mut self, frame: Value) {
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

    pub(super) fn pass(&mut self, time: Duration) {
        self.now += time;
        self.session.tick(self.now);
        self.collect();
    }

    /// All that goes out now, flushed.
    pub(super) fn frames(&mut self) -> Vec<Value> {
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
    pub(super) fn frame(&mut self) -> Value {
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

pub(super) fn kinds(frames: &[Value]) -> Vec<String> {
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

#[test]
fn who_subscribes_while_memory_is_short_begins_with_less() {
    let mut play = Play::open();
    play.session.squeeze(2);
    play.subscribe(json!({"flow": {"records": 8}, "offset_reset": "earliest"}));
    play.member(Event::Assigned {
        added: vec![member::Assigned {
            partition: place(0),
            start: 0,
            committed: None,
            end: 100,
        }],
        all: vec![place(0)],
    });
    play.frames();
    play.offer(0, 0..20);
    let frames = play.frames();
    let count: usize = frames.iter().map(|frame| tags(frame).len()).sum();
    assert_eq!(count, 2, "a window of 8, divided by four");
}

#[test]
fn a_frame_over_the_rate_is_answered_under_its_id() {
    let mut play = Play::open();
    for id in 0..2_003 {
        play.send(json!({"type": "auth", "token": "t", "id": id}));
        let frame = play.frame();
        assert_eq!(frame["id"], id);
        if id < 2_000 {
            assert_eq!(frame["type"], "ok");
        } else {
            assert_eq!(frame["code"], "rate_limited");
            assert_eq!(frame["retriable"], true);
        }
    }
    play.send(json!({"type": "ping", "id": "p"}));
    assert_eq!(play.frame()["type"], "pong");
    play.pass(Duration::from_secs(1));
    play.send(json!({"type": "auth", "token": "t", "id": "later"}));
    assert_eq!(play.frame()["type"], "ok");
}

#[test]
fn answers_that_nobody_reads_end_the_session() {
    let frames = [
        json!({"type": "ping", "t": "x".repeat(500)}),
        json!({"type": "auth", "token": "t", "id": "over the rate"}),
    ];
    for frame in frames {
        let mut play = Play::open();
        let mut sent = 0;
        while play.session.end().is_none() {
            play.send(frame.clone());
            sent += 1;
            assert!(sent < 100_000);
        }
        assert!(play.session.held_bytes() < 5 << 20);
        assert_eq!(play.goodbye(), 4004);
    }
}

#[test]
fn a_session_without_credentials_waits_for_hello() {
    let mut play = Play::new(None, false);
    assert!(play.frames().is_empty());
    play.pass(Duration::from_secs(5));
    assert_eq!(play.goodbye(), 4507);

    let mut play = Play::new(None, false);
    play.send(json!({"type": "ping"}));
    assert_eq!(play.goodbye(), 4500);

    let mut play = Play::new(None, false);
    play.send(json!({"type": "hello"}));
    assert_eq!(play.goodbye(), 4501);

    let mut play = Play::new(None, false);
    play.send(json!({"type": "hello", "id": 7, "token": "t", "heartbeat_ms": 1}));
    assert!(matches!(play.effects.pop(), Some(Effect::Authenticate(t)) if t == "t"));
    let ann = Principal::with_permissions("ann", permissions(&["consume:*"]));
    play.session.authenticated(Ok(ann), play.now);
    let welcome = play.frame();
    assert_eq!(welcome["id"], 7);
    assert_eq!(welcome["principal"], "ann");
    assert_eq!(welcome["heartbeat_ms"], 5_000);

    let mut play = Play::new(None, false);
    play.send(json!({"type": "hello", "token": "t"}));
    play.session.authenticated(Err("no".to_owned()), play.now);
    assert_eq!(play.goodbye(), 4501);
}

#[test]
fn hello_is_the_first_frame_or_none() {
    let mut play = Play::open();
    play.send(json!({"type": "hello", "id": "h"}));
    let welcome = play.frame();
    assert_eq!(
        (&welcome["type"], &welcome["id"]),
        (&json!("welcome"), &json!("h"))
    );
    play.send(json!({"type": "hello", "id": "again"}));
    let error = play.frame();
    assert_eq!(error["code"], "unexpected_hello");
    assert_eq!(error["id"], "again");
}

#[test]
fn records_are_delivered_acknowledged_and_committed() {
    let mut play = Play::subscribed(json!({}));
    play.offer(0, 0..3);
    let records = play.frame();
    assert_eq!(records["sub"], "o");
    assert_eq!(tags(&records), [1, 2, 3]);
    assert_eq!(records["records"][0]["value"], json!({"n": 1}));
    play.send(json!({"type": "ack", "sub": "o", "tags": [1, 3]}));
    assert!(play.frames().is_empty(), "no id, no answer");
    play.pass(Duration::from_secs(1));
    assert_eq!(play.commits(), [(0, 1)]);
    play.send(json!({"type": "ack", "sub": "o", "tags": [2], "id": 5}));
    let acked = play.frame();
    assert_eq!(acked["id"], 5);
    assert_eq!(acked["positions"][0]["offset"], 3);
    play.send(json!({"type": "commit", "sub": "o", "id": 6}));
    assert!(play.frames().is_empty(), "after the broker answered");
    assert_eq!(play.commits(), [(0, 3)]);
    let committed = play.frame();
    assert_eq!(committed["positions"][0]["offset"], 3);
}

#[test]
fn a_frame_that_has_waited_long_enough_wakes_nobody_while_the_socket_is_stuck() {
    let mut play = Play::subscribed(json!({"batch": {"linger_ms": 50}}));
    play.offer(0, 0..3);
    assert!(play.frames().is_empty(), "it waits for more");
    play.pass(Duration::from_millis(50));
    let next = play.session.next_tick();
    assert!(next.is_none_or(|at| at > play.now), "{next:?}");
    assert_eq!(tags(&play.frame()), [1, 2, 3]);
    play.offer(0, 3..4);
    assert!(play.frames().is_empty(), "the next one waits again");
}

#[test]
fn nothing_comes_after_goodbye() {
    let mut play = Play::subscribed(json!({}));
    play.send(json!({"type": "bye"}));
    // The member has not left yet.
    play.member(Event::State(member::State::Joining(Some(Fault::new(
        FaultKind::Unavailable,
        "no broker answers",
    )))));
    assert_eq!(play.goodbye(), 1000);
}

#[test]
fn auto_acknowledges_what_was_flushed() {
    let mut play = Play::subscribed(json!({"ack": "auto"}));
    play.offer(1, 0..5);
    let text = play.session.next_frame(1 << 20, play.now).unwrap();
    let frame: Value = serde_json::from_slice(&text).unwrap();
    assert_eq!(tags(&frame).len(), 5);
    play.pass(Duration::from_secs(1));
    assert_eq!(play.commits(), [], "it is not flushed");
    play.session.flushed(play.now);
    play.pass(Duration::from_secs(1));
    assert_eq!(play.commits(), [(1, 5)]);
}

#[test]
fn a_revoked_partition_waits_for_acknowledgements_and_their_commit() {
    let mut play = Play::subscribed(json!({}));
    play.offer(0, 0..4);
    play.frames();
    let (hold, mut released) = release();
    play.member(Event::Revoking {
        partitions: vec![place(0)],
        release: hold,
    });
    let frames = play.frames();
    let revoking = &frames[1];
    assert_eq!(revoking["type"], "revoking");
    assert_eq!(revoking["outstanding"], 4);
    assert_eq!(revoking["epoch"], 2);
    play.send(json!({"type": "ack", "sub": "o", "tags": [1, 2]}));
    assert!(released.try_recv().is_err() && play.commits().is_empty());
    play.pass(Duration::from_secs(1));
    assert!(
        matches!(
            released.try_recv(),
            Err(tokio::sync::oneshot::error::TryRecvError::Empty)
        ),
        "not before the commit is answered"
    );
    assert_eq!(play.commits(), [(0, 2)]);
    assert!(
        matches!(
            released.try_recv(),
            Err(tokio::sync::oneshot::error::TryRecvError::Closed)
        ),
        "now it is"
    );
    let frames = play.frames();
    assert_eq!(frames[0]["type"], "revoked");
    let left = &frames[0]["partitions"][0];
    assert_eq!(
        (&left["committed"], &left["unacked"]),
        (&json!(2), &json!(2))
    );
    play.send(json!({"type": "ack", "sub": "o", "tags": [3], "id": 1}));
    let frames = play.frames();
    let error = frames.iter().find(|f| f["type"] == "error").unwrap();
    assert_eq!(error["code"], "ack_stale");
    assert_eq!(
        (&error["epoch"], &error["committed"]),
        (&json!(2), &json!(2))
    );
    play.member(Event::Assigned {
        added: Vec::new(),
        all: vec![place(1)],
    });
    assert_eq!(play.frame()["epoch"], 2, "the same change");
}

#[test]
fn a_revoke_waits_for_a_commit_that_is_under_way() {
    let mut play = Play::subscribed(json!({}));
    play.offer(0, 0..3);
    play.frames();
    play.send(json!({"type": "ack", "sub": "o", "tags": [1, 2, 3]}));
    play.pass(Duration::from_secs(1));
    let (hold, mut released) = release();
    play.member(Event::Revoking {
        partitions: vec![place(0)],
        release: hold,
    });
    assert!(play.frames().is_empty());
    assert!(released.try_recv() == Err(tokio::sync::oneshot::error::TryRecvError::Empty));
    assert_eq!(play.commits(), [(0, 3)]);
    let revoked = &play.frames()[0];
    assert_eq!(revoked["type"], "revoked");
    assert_eq!(revoked["partitions"][0]["committed"], 3);
    assert!(released.try_recv().is_err(), "let go");
}

#[test]
fn a_session_says_goodbye_after_the_commit_that_is_under_way() {
    let mut play = Play::subscribed(json!({}));
    play.offer(0, 0..3);
    play.frames();
    play.send(json!({"type": "ack", "sub": "o", "tags": [1, 2, 3]}));
    play.pass(Duration::from_secs(1));
    play.send(json!({"type": "bye"}));
    assert!(play.frames().is_empty());
    assert_eq!(play.commits(), [(0, 3)]);
    let frames = play.frames();
    assert_eq!(kinds(&frames), ["committed", "goodbye"]);
    assert_eq!(frames[0]["positions"][0]["offset"], 3);
    assert_eq!(frames[1]["committed"][0]["offset"], 3);
}

#[test]
fn a_right_that_goes_while_topics_are_looked_up_is_missed() {
    let ann = |list: &[&str]| Principal::with_permissions("ann", permissions(list));
    let mut play = Play::new(Some(ann(&["consume:*", "group:*"])), false);
    play.frames();
    play.send(json!({"type": "subscribe", "sub": "o", "group": "g", "topics": ["orders"]}));
    play.send(json!({"type": "auth", "token": "t"}));
    let fewer = ann(&["consume:*"]);
    play.session.authenticated(Ok(fewer), play.now);
    assert_eq!(play.frame()["type"], "ok");
    play.session
        .resolved(Ok(vec![Arc::from("orders")]), play.now);
    assert_eq!(play.frame()["code"], "forbidden");
    assert!(play.session.group().is_none());
}

#[test]
fn late_acknowledgements_of_a_subscription_that_ended_cost_nothing() {
    let mut play = Play::subscribed(json!({}));
    play.offer(0, 0..60);
    play.frames();
    play.send(json!({"type": "unsubscribe", "sub": "o"}));
    for tag in 1..=30 {
        play.send(json!({"type": "ack", "sub": "o", "tags": [tag]}));
        assert_eq!(play.frame()["code"], "unknown_sub");
    }
    play.member(Event::Ended(None));
    assert_eq!(kinds(&play.frames()), ["revoked", "unsubscribed"]);
    for tag in 31..=60 {
        play.send(json!({"type": "ack", "sub": "o", "tags": [tag]}));
        assert_eq!(play.frame()["code"], "unknown_sub");
    }
    // Of one that never was, it is too much in the end.
    for _ in 0..51 {
        play.send(json!({"type": "ack", "sub": "p", "tags": [1]}));
    }
    assert_eq!(play.goodbye(), 4510);
}

#[test]
fn no_deadline_stays_in_the_past() {
    let linger = json!({"batch": {"linger_ms": 100}});
    let mut play = Play::subscribed(linger);
    play.offer(0, 0..3);
    assert!(play.frames().is_empty());
    play.pass(Duration::from_millis(100));
    // There is no room for records.
    assert!(play.session.next_frame(0, play.now).is_none());
    assert!(play.session.next_tick().is_none_or(|at| at > play.now));
    assert_eq!(play.frames()[0]["type"], "records");

    let mut play = Play::open();
    let produce = json!({"type": "produce", "id": 1, "topic": "t", "records": [{"value": 1}]});
    play.send(produce);
    play.pass(Duration::from_secs(400));
    assert!(play.frames().is_empty(), "it waits for an answer");
    assert!(play.session.next_tick().is_none_or(|at| at > play.now));
}

#[test]
fn a_revoke_with_nothing_outstanding_does_not_wait() {
    let mut play = Play::subscribed(json!({}));
    let (hold, mut released) = release();
    play.member(Event::Revoking {
        partitions: vec![place(0), place(1)],
        release: hold,
    });
    assert!(matches!(
        released.try_recv(),
        Err(tokio::sync::oneshot::error::TryRecvError::Closed)
    ));
    assert!(kinds(&play.frames()).contains(&"revoked".to_owned()));
}

#[test]
fn after_seeked_nothing_old_comes() {
    let mut play = Play::subscribed(json!({}));
    play.offer(0, 0..5);
    play.frames();
    play.send(json!({"type": "seek", "sub": "o", "id": 1,
        "positions": [{"topic": "orders", "partition": 0, "offset": "beginning"}]}));
    let Some(Command::Seek { token, positions }) = play.command() else {
        panic!("no seek");
    };
    assert_eq!(positions, [(place(0), SeekTo::Beginning)]);
    play.offer(0, 5..8);
    assert!(play.frames().is_empty(), "nothing while it is under way");
    play.member(Event::Seeked {
        token,
        results: vec![(place(0), Ok(0))],
    });
    let frames = play.frames();
    assert_eq!(kinds(&frames), ["revoked", "seeked"]);
    assert_eq!(frames[0]["reason"], "seek");
    play.offer(0, 0..2);
    let again = play.frame();
    assert_eq!(again["records"][0]["offset"], 0);
    assert_eq!(tags(&again), [6, 7]);
    play.send(json!({"type": "seek", "sub": "o",
        "positions": [{"topic": "orders", "partition": 9, "offset": 1}]}));
    assert_eq!(play.frame()["code"], "not_assigned");
}

#[test]
fn bad_frames_are_named_and_too_many_end_the_session() {
    let mut play = Play::subscribed(json!({}));
    for (frame, code, field) in [
        (json!({"type": "dance"}), "unknown_type", "type"),
        (
            json!({"type": "ack", "sub": "x", "tags": [1]}),
            "unknown_sub",
            "sub",
        ),
        (json!({"type": "ack", "sub": "o"}), "invalid_frame", "tags"),
        (
            json!({"type": "ack", "sub": "o", "tags": [99]}),
            "ack_unknown",
            "",
        ),
        (
            json!({"type": "extend", "sub": "o", "tags": [1], "ms": 0}),
            "invalid_frame",
            "ms",
        ),
        (
            json!({"type": "credit", "sub": "o", "records": 1}),
            "invalid_frame",
            "sub",
        ),
        (
            json!({"type": "commit", "sub": "o", "positions": [{"topic": "orders", "partition": 0, "offset": 9}]}),
            "invalid_frame",
            "positions[0].offset",
        ),
        (
            json!({"type": "pause", "sub": "o", "partitions": [{"topic": "orders", "partition": 5}]}),
            "not_assigned",
            "partitions[0]",
        ),
        (
            json!({"type": "subscribe", "sub": "o", "group": "g", "topics": ["t"]}),
            "already_subscribed",
            "sub",
        ),
        (
            json!({"type": "subscribe", "sub": "p", "group": "g", "topics": ["t"]}),
            "limit_exceeded",
            "",
        ),
        (
            json!({"type": "subscribe", "sub": "p", "topics": ["t"], "ack": "auto"}),
            "invalid_subscription",
            "ack",
        ),
        (
            json!({"type": "subscribe", "sub": "p", "group": "g", "topics": ["t/"]}),
            "invalid_subscription",
            "topics[0]",
        ),
        (
            json!({"type": "subscribe", "sub": "p", "group": "g", "pattern": "("}),
            "invalid_subscription",
            "pattern",
        ),
        (
            json!({"type": "subscribe", "sub": "p", "group": "g", "topics": ["t"], "filter": {"where": "x"}}),
            "invalid_subscription",
            "filter.where",
        ),
        (
            json!({"type": "produce", "id": 1, "topic": "t", "records": []}),
            "invalid_frame",
            "records",
        ),
    ] {
        play.send(frame.clone());
        let error = play.frame();
        assert_eq!(error["type"], "error", "{frame}");
        assert_eq!(error["code"], code, "{frame}: {error}");
        assert_eq!(
            error["field"].as_str().unwrap_or(""),
            field,
            "{frame}: {error}"
        );
        assert_eq!(error["fatal"], false);
    }
    for _ in 0..40 {
        play.send(json!({"type": "dance"}));
    }
    play.commits();
    play.member(Event::Ended(None));
    assert_eq!(play.goodbye(), 4510);
}

#[test]
fn what_is_no_frame_ends_the_session() {
    let mut play = Play::open();
    play.text("{");
    assert_eq!(play.goodbye(), 4500);
}

#[test]
fn records_are_written_and_each_request_is_answered_once() {
    let mut play = Play::open();
    play.send(json!({"type": "produce", "id": "p", "topic": "t",
        "records": [{"value": 1}, {"key": "no value"}, {"value": 2}]}));
    let Some(Effect::Produce {
        ticket, records, ..
    }) = play.effects.pop()
    else {
        panic!("nothing to write");
    };
    assert_eq!(records.len(), 2);
    play.send(json!({"type": "produce", "id": "p", "topic": "t", "records": [{"value": 1}]}));
    assert_eq!(play.frame()["code"], "duplicate_id");
    let written = |offset| {
        Ok(Written {
            partition: 0,
            offset: Some(offset),
            timestamp: 1,
        })
    };
    let too_large = Err(Box::new(Fault::new(FaultKind::TooLarge, "too large")));
    play.session
        .produced(ticket, Ok(vec![written(4), too_large]), play.now);
    let produced = play.frame();
    assert_eq!(produced["results"][0]["offset"], 4);
    assert_eq!(produced["results"][1]["error"]["code"], "invalid_record");
    assert_eq!(produced["results"][1]["error"]["field"], "/records/1/value");
    assert_eq!(produced["results"][2]["error"]["code"], "message_too_large");
    play.send(json!({"type": "produce", "id": "p", "topic": "t", "records": [{"value": 1}]}));
    let again = play.frame();
    assert_eq!(again["duplicate"], true);
    assert_eq!(again["results"], produced["results"]);
}

#[test]
fn a_topic_that_can_have_no_such_name_is_named() {
    let mut play = Play::open();
    play.send(json!({"type": "produce", "id": 1, "topic": "t/", "records": [{"value": 1}]}));
    let Some(Effect::Produce { ticket, .. }) = play.effects.pop() else {
        panic!("nothing to write");
    };
    let fault = crate::kafka::metadata::check_topic_name("t/").unwrap_err();
    let rejected = Err(Rejected::Kafka(fault));
    play.session.produced(ticket, rejected, play.now);
    let error = play.frame();
    assert_eq!(
        (&error["code"], &error["field"]),
        (&json!("invalid_frame"), &json!("topic"))
    );
}

#[test]
fn beyond_the_window_nothing_is_written() {
    let mut play = Play::open();
    for id in 0..=100 {
        play.send(json!({"type": "produce", "id": id, "topic": "t", "records": [{"value": 1}]}));
    }
    assert_eq!(play.effects.len(), 100);
    let error = play.frame();
    assert_eq!(error["code"], "produce_overrun");
    assert_eq!(error["id"], 100);
    play.pass(Duration::from_secs(31));
    play.send(json!({"type": "produce", "id": 200, "topic": "t", "records": [{"value": 1}]}));
    assert_eq!(play.goodbye(), 4008);
}

#[test]
fn a_token_that_expires_ends_the_session_unless_it_is_renewed() {
    let at = 1_700_000_000 + 70;
    let token = |name: &str, list: &[&str]| Principal::expiring(name, permissions(list), at);
    let later = |name: &str, list: &[&str]| Principal::expiring(name, permissions(list), at + 600);
    let all = ["consume:*", "group:*"];
    let start = || {
        let mut play = Play::new(Some(token("ann", &all)), false);
        play.frames();
        play.subscribe(json!({}));
        play.pass(Duration::from_secs(9));
        assert!(play.frames().is_empty());
        play.pass(Duration::from_secs(1));
        let expiring = play.frame();
        assert_eq!(expiring["type"], "auth_expiring");
        assert_eq!(expiring["in_ms"], 60_000);
        play
    };
    let mut play = start();
    play.pass(Duration::from_secs(64));
    assert!(!play.session.is_closed());
    play.pass(Duration::from_secs(1));
    assert_eq!(play.goodbye(), 4001);

    let mut play = start();
    play.send(json!({"type": "auth", "id": 1, "token": "new"}));
    play.session.authenticated(Ok(later("ann", &all)), play.now);
    assert_eq!(play.frame()["type"], "ok");
    play.pass(Duration::from_secs(120));
    assert!(!play.session.is_closed());

    let mut play = start();
    play.send(json!({"type": "auth", "token": "another's"}));
    play.session.authenticated(Ok(later("bob", &all)), play.now);
    assert_eq!(play.goodbye(), 4501);

    let mut play = start();
    play.send(json!({"type": "auth", "token": "less"}));
    play.session
        .authenticated(Ok(later("ann", &["group:*"])), play.now);
    let frames = play.frames();
    let error = frames.iter().find(|f| f["type"] == "error").unwrap();
    assert_eq!(error["code"], "forbidden");
    play.collect();
    assert!(matches!(play.command(), Some(Command::Leave { .. })));
    assert!(!play.session.is_closed(), "the others live");
}

#[test]
fn rights_are_needed_for_the_group_and_each_topic() {
    for (list, code) in [
        (&["consume:*"][..], "forbidden"),
        (&["group:*"][..], "forbidden"),
        (&["group:g", "consume:orders"][..], ""),
    ] {
        let ann = Principal::with_permissions("ann", permissions(list));
        let mut play = Play::new(Some(ann), false);
        play.frames();
        play.send(json!({"type": "subscribe", "sub": "o", "group": "g", "topics": ["orders"]}));
        let frames = play.frames();
        let said = frames
            .first()
            .map_or("", |frame| frame["code"].as_str().unwrap());
        assert_eq!(said, code, "{list:?}");
    }
}

#[test]
fn a_draining_session_ends_once_nothing_is_outstanding() {
    let mut play = Play::subscribed(json!({}));
    play.offer(0, 0..2);
    play.frames();
    play.session.drain(
        Duration::from_secs(10),
        Duration::from_millis(3170),
        play.now,
    );
    let drain = play.frame();
    assert_eq!(drain["reconnect_after_ms"], 3170);
    play.send(json!({"type": "subscribe", "sub": "p", "group": "g", "topics": ["t"]}));
    assert_eq!(play.frame()["code"], "draining");
    play.offer(0, 2..4);
    assert!(play.frames().is_empty(), "nothing new");
    play.send(json!({"type": "ack", "sub": "o", "tags": [1, 2]}));
    assert_eq!(play.commits(), [(0, 2)]);
    let frames = play.frames();
    let goodbye = frames.last().unwrap();
    assert_eq!(goodbye["code"], 1012);
    assert_eq!(goodbye["retry_after_ms"], 3170);
    assert_eq!(goodbye["committed"][0]["offset"], 2);
    assert!(matches!(
        play.command(),
        Some(Command::Leave { stay: false })
    ));
    assert!(play.session.is_closed() && !play.session.is_over());
    play.member(Event::Ended(None));
    assert!(play.session.is_over());

    let mut play = Play::subscribed(json!({}));
    play.offer(0, 0..2);
    play.frames();
    play.session
        .drain(Duration::from_secs(10), Duration::ZERO, play.now);
    play.frames();
    play.pass(Duration::from_secs(8));
    assert_eq!(play.goodbye(), 1012, "at the latest");
}

#[test]
fn bye_commits_and_a_static_member_stays() {
    let mut play = Play::subscribed(json!({"instance_id": "i"}));
    play.offer(0, 0..2);
    play.frames();
    play.send(json!({"type": "ack", "sub": "o", "tags": [1]}));
    play.send(json!({"type": "bye", "id": 3}));
    assert_eq!(play.commits(), [(0, 1)]);
    let frames = play.frames();
    assert_eq!(kinds(&frames), ["committed", "goodbye"]);
    assert_eq!(frames[0]["id"], 3);
    assert!(matches!(
        play.command(),
        Some(Command::Leave { stay: true })
    ));
}

#[test]
fn a_lost_socket_commits_what_was_acknowledged() {
    let mut play = Play::subscribed(json!({}));
    play.offer(0, 0..2);
    play.frames();
    play.send(json!({"type": "ack", "sub": "o", "tags": [1]}));
    play.session.lost(play.now);
    play.collect();
    assert_eq!(play.commits(), [(0, 1)]);
    assert!(matches!(play.command(), Some(Command::Leave { .. })));
    assert!(play.frames().is_empty());
    play.member(Event::Ended(None));
    assert!(play.session.is_over());
}

#[test]
fn unsubscribing_commits_and_leaves() {
    let mut play = Play::subscribed(json!({}));
    play.offer(0, 0..2);
    play.frames();
    play.send(json!({"type": "ack", "sub": "o", "tags": [1]}));
    play.send(json!({"type": "unsubscribe", "sub": "o", "id": 9}));
    assert_eq!(play.commits(), [(0, 1)]);
    assert!(matches!(play.command(), Some(Command::Leave { .. })));
    play.member(Event::Ended(None));
    let frames = play.frames();
    assert_eq!(kinds(&frames), ["revoked", "unsubscribed"]);
    assert_eq!(frames[1]["id"], 9);
    play.subscribe(json!({}));
    play.member(Event::Assigned {
        added: vec![member::Assigned {
            partition: place(0),
            start: 1,
            committed: Some(1),
            end: 2,
        }],
        all: vec![place(0)],
    });
    play.offer(0, 1..2);
    let frames = play.frames();
    assert_eq!(tags(frames.last().unwrap()), [3], "tags go on rising");
}

#[test]
fn dead_letters_go_to_their_topic_and_hold_the_commit_back() {
    let mut play = Play::subscribed(json!({"max_deliveries": 1}));
    play.offer(0, 0..1);
    play.frames();
    play.send(json!({"type": "nack", "sub": "o", "tags": [1], "reason": "no good"}));
    let Some(Effect::DeadLetter {
        id,
        topic,
        own,
        record,
    }) = play.effects.pop()
    else {
        panic!("no dead letter");
    };
    assert_eq!((topic.as_str(), own), ("orders.dlq", true));
    let header = |name: &str| {
        let found = record.headers.iter().find(|h| h.name == name).unwrap();
        String::from_utf8(found.value.clone().unwrap().to_vec()).unwrap()
    };
    assert_eq!(header("error"), "no good");
    assert_eq!(header("original-offset"), "0");
    play.pass(Duration::from_secs(2));
    assert_eq!(play.commits(), []);
    let fault = Fault::new(FaultKind::UnknownTopic, "no such topic");
    play.session.dead_lettered(id, Some(&fault), play.now);
    let state = play.frame();
    assert!(state["detail"].as_str().unwrap().contains("no such topic"));
    play.pass(Duration::from_secs(1));
    let again = play
        .effects
        .iter()
        .any(|e| matches!(e, Effect::DeadLetter { .. }));
    assert!(again, "it is tried again");
    play.session.dead_lettered(id, None, play.now);
    play.pass(Duration::from_secs(2));
    assert_eq!(play.commits(), [(0, 1)]);
}

#[test]
fn a_subscription_that_kafka_ends_is_said_to() {
    let mut play = Play::subscribed(json!({}));
    play.member(Event::Ended(Some(Fault::unknown_topic("orders"))));
    let frames = play.frames();
    assert_eq!(kinds(&frames), ["revoked", "error"]);
    assert_eq!(frames[1]["code"], "topic_not_found");
    assert!(!play.session.is_closed());
}

#[test]
fn decode_errors_do_as_asked() {
    let broken = |partition, offset| Delivered {
        value: Some(Bytes::from_static(b"\xff")),
        ..record(partition, offset)
    };
    let offer = |play: &mut Play| {
        let next = vec![(place(0), 2)];
        let records = vec![broken(0, 0), record(0, 1)];
        play.member(Event::Records { records, next });
    };
    let mut play = Play::subscribed(json!({"on_decode_error": "skip"}));
    offer(&mut play);
    assert_eq!(play.frame()["records"][0]["offset"], 1);
    let mut play = Play::subscribed(json!({"on_decode_error": "deliver"}));
    offer(&mut play);
    assert_eq!(play.frame()["records"][0]["vf"], "binary");
    let mut play = Play::subscribed(json!({"on_decode_error": "dlq", "order": "relaxed"}));
    offer(&mut play);
    assert_eq!(play.frame()["records"][0]["offset"], 1);
    assert!(matches!(
        play.effects.pop(),
        Some(Effect::DeadLetter { .. })
    ));
    let mut play = Play::subscribed(json!({"on_decode_error": "close"}));
    offer(&mut play);
    play.frames();
    play.member(Event::Ended(None));
    assert!(play.session.is_closed());
    assert_eq!(play.session.end().unwrap().close, Close::DecodeError);
}

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
    /// Delivered and not known to be acknowledged, by tag.
    out: BTreeMap<u64, (i32, i64)>,
    /// Where the assignment of a partition began, after a seek the seek's target.
    start: BTreeMap<i32, i64>,
    asked: Vec<(Token, Asked)>,
    releases: Vec<(i32, tokio::sync::oneshot::Receiver<()>)>,
    letters: Vec<(DeadLetterId, i32, i64)>,
}

enum Asked {
    Commit(Vec<(TopicPartition, i64)>),
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
            out: BTreeMap::new(),
            start: BTreeMap::new(),
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
        for frame in self.play.frames() {
            if frame["type"] != "records" {
                continue;
            }
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
        assert!(self.play.session.group().is_none_or(|g| g.in_flight() <= 6));
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
                    .send(json!({"type": "ack", "sub": "o", "tags": [tag], "id": 1}));
                let frames = self.play.frames();
                self.out.remove(&tag);
                // It may have come back in the meantime; then this did nothing.
                let stale = frames.iter().any(|f| f["code"] == "ack_stale");
                if !stale {
                    self.acked.get_mut(&at.0).unwrap().insert(at.1);
                }
                for frame in &frames {
                    self.seen(frame);
                }
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
                        let results = offsets.into_iter().map(|(p, o)| {
                            if well && self.assigned.contains_key(&p.partition) {
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

    fn seen(&mut self, frame: &Value) {
        if frame["type"] == "records" {
            for record in frame["records"].as_array().unwrap() {
                let partition = i32::try_from(record["partition"].as_i64().unwrap()).unwrap();
                let offset = record["offset"].as_i64().unwrap();
                assert!(!self.acked[&partition].contains(&offset));
                self.out.retain(|_, at| *at != (partition, offset));
                self.out
                    .insert(record["tag"].as_u64().unwrap(), (partition, offset));
            }
        }
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
