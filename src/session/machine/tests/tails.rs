//! A session's tails with followers that are played by the test.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde_json::{Value, json};

use super::{Play, kinds};
use crate::kafka::fault::{Fault, FaultKind};
use crate::kafka::metadata::Topic;
use crate::kafka::tail::{self, Ended, Entry, Next};
use crate::position::{Offsets, ResumeTokens};
use crate::reader_options::Isolation;
use crate::record::{ConsumerRecord, TimestampType};
use crate::session::effect::{Effect, TailEffect};
use crate::session::model::frame_schema::check;
use crate::session::subscription::tail::open_tail::{Begun, BegunPart};
use crate::session::subscription::tail::{BEHIND, Came, DOWN, LOOK, LOOK_FOR_ENDS, put};
use crate::stream::encoder::SharedEncoders;

fn entry(partition: i32, offset: i64, value: &str) -> Arc<Entry> {
    keyed(partition, offset, None, value)
}

fn keyed(partition: i32, offset: i64, key: Option<&'static str>, value: &str) -> Arc<Entry> {
    Entry::alone(ConsumerRecord {
        topic: Arc::from("orders"),
        partition,
        offset,
        timestamp: 1,
        timestamp_type: TimestampType::Create,
        key: key.map(|key| Bytes::from_static(key.as_bytes())),
        value: Some(Bytes::copy_from_slice(value.as_bytes())),
        headers: Vec::new(),
    })
}

fn resume_tokens() -> ResumeTokens {
    let topic = Topic {
        name: Arc::from("orders"),
        id: [1; 16],
        internal: false,
        rights: None,
        partitions: Vec::new(),
    };
    ResumeTokens::new("cluster", &[&topic])
}

/// A session with the tail `t` of two partitions, both at 0, of which the first ends at 0.
struct Tailed {
    play: Play,
    id: u64,
    cursor: Offsets,
}

impl Tailed {
    fn new(options: Value) -> Self {
        let mut play = Play::open();
        let id = Self::open(&mut play, "t", options);
        let frames = play.frames();
        assert_eq!(frames[0]["type"], "subscribed");
        Self {
            play,
            id,
            cursor: vec![(0, 0), (1, 0)],
        }
    }

    fn open(play: &mut Play, sub: &str, mut options: Value) -> u64 {
        let frame = options.as_object_mut().unwrap();
        frame.insert("type".to_owned(), "subscribe".into());
        frame.insert("sub".to_owned(), sub.into());
        frame.insert("topics".to_owned(), json!(["orders"]));
        play.send(options);
        let Some(Effect::Tail(id, TailEffect::Open(ask))) = play.effects.pop() else {
            panic!("{:?} {:?}", play.frames(), play.effects);
        };
        let begun = Begun {
            owner: Arc::clone(&ask.principal),
            parts: vec![BegunPart {
                topic: Arc::from("orders"),
                starts: vec![(0, 0), (1, 0)],
                ends: vec![(0, 0), (1, 9)],
            }],
            resume_tokens: resume_tokens(),
            encoder: SharedEncoders::default().encoder(ask.view),
            gaps: Vec::new(),
            backlog: 9,
            isolation: Isolation::Committed,
        };
        assert!(play.session.tail_opened(id, Ok(begun), play.now));
        play.collect();
        id
    }

    fn wants(&self) -> Option<usize> {
        self.play.session.tail(self.id).unwrap().wants()
    }

    fn came(&mut self, next: Next) {
        self.came_behind(next, None, None);
    }

    /// It has moved, and has all of these partitions.
    fn came_to_ends(&mut self, ends: &[i32]) {
        let came = Came {
            next: Next::Moved,
            cursor: &self.cursor,
            ends: ends.to_vec(),
            lag: None,
            down: None,
        };
        let now = self.play.now;
        self.play.session.tail_came(self.id, 0, came, now);
        self.play.collect();
    }

    fn came_behind(&mut self, next: Next, lag: Option<i64>, down: Option<Instant>) {
        let came = Came {
            next,
            cursor: &self.cursor,
            ends: Vec::new(),
            lag,
            down,
        };
        let now = self.play.now;
        self.play.session.tail_came(self.id, 0, came, now);
        self.play.collect();
    }

    fn records(&mut self, partition: i32, offsets: std::ops::Range<i64>) {
        put(&mut self.cursor, partition, offsets.end);
        let entries = offsets
            .map(|offset| entry(partition, offset, "1"))
            .collect();
        self.came(Next::Records(entries));
    }

    /// Records of these keys, from an offset on.
    fn keys(&mut self, partition: i32, from: i64, keys: &[&'static str]) {
        let entries: Vec<_> = (from..)
            .zip(keys)
            .map(|(offset, key)| keyed(partition, offset, Some(key), "1"))
            .collect();
        put(&mut self.cursor, partition, from + entries.len() as i64);
        self.came(Next::Records(entries));
    }

    /// What goes before the socket has taken any of it.
    fn unflushed(&mut self) -> Vec<Value> {
        let mut frames = Vec::new();
        while let Some(text) = self.play.session.next_frame(1 << 20, self.play.now) {
            let frame: Value = serde_json::from_slice(&text).unwrap();
            check(&frame);
            frames.push(frame);
        }
        frames
    }

    fn position(&self) -> Vec<i64> {
        let tail = self.play.session.tail(self.id).unwrap();
        tail.positions().iter().map(|at| at.offset).collect()
    }
}

fn offsets(frames: &[Value]) -> Vec<i64> {
    let records = frames
        .iter()
        .filter_map(|frame| frame["records"].as_array());
    records
        .flatten()
        .map(|record| record["offset"].as_i64().unwrap())
        .collect()
}

#[test]
fn a_full_window_holds_records_until_the_socket_has_taken_some() {
    let mut tailed = Tailed::new(json!({"flow": {"records": 4}, "batch": {"records": 3}}));
    assert_eq!(tailed.wants(), Some(32 << 10));
    tailed.records(0, 0..10);
    assert_eq!(tailed.wants(), None, "what there is goes first");
    let frames = tailed.unflushed();
    assert_eq!(offsets(&frames), [0, 1, 2, 3]);
    assert_eq!(frames.len(), 2, "of three and of one");
    assert_eq!(tailed.position(), [4, 0]);
    tailed.play.session.flushed(tailed.play.now);
    assert_eq!(offsets(&tailed.unflushed()), [4, 5, 6, 7]);
    tailed.play.session.flushed(tailed.play.now);
    assert_eq!(offsets(&tailed.play.frames()), [8, 9]);
    assert!(tailed.wants().is_some());
    assert_eq!(tailed.position(), [10, 0]);
    assert_eq!(tailed.play.session.counted().0.delivered, 10);
}

#[test]
fn a_record_larger_than_the_window_goes_alone() {
    let mut tailed = Tailed::new(json!({"flow": {"bytes": 1024}, "batch": {"bytes": 1024}}));
    let value = format!("\"{}\"", "x".repeat(3_000));
    let entries = (0..2).map(|offset| entry(0, offset, &value)).collect();
    tailed.came(Next::Records(entries));
    assert_eq!(offsets(&tailed.unflushed()), [0]);
    tailed.play.session.flushed(tailed.play.now);
    assert_eq!(offsets(&tailed.unflushed()), [1]);
}

#[test]
fn held_bytes_count_until_the_socket_has_them_and_pressure_shrinks_the_window() {
    let mut tailed = Tailed::new(json!({}));
    tailed.records(0, 0..10);
    assert_eq!(tailed.play.session.held_bytes(), 10);
    tailed.unflushed();
    assert_eq!(
        tailed.play.session.held_bytes(),
        10,
        "until the socket has it"
    );
    tailed.play.session.flushed(tailed.play.now);
    assert_eq!(tailed.play.session.held_bytes(), 0);
    tailed.play.session.set_pressure(4);
    assert_eq!(tailed.wants(), Some(2 << 10));
    // One that comes later begins so.
    let id = Tailed::open(&mut tailed.play, "u", json!({"flow": {"records": 32}}));
    tailed.id = id;
    assert_eq!(tailed.wants(), Some(2 << 10));
    tailed.play.frames();
    tailed.records(0, 0..10);
    assert_eq!(offsets(&tailed.unflushed()), [0, 1], "32 / 2^4");
}

#[test]
fn a_gap_or_an_end_comes_after_the_records_before_it_without_lingering() {
    let mut tailed = Tailed::new(json!({"batch": {"linger_ms": 500}}));
    tailed.records(0, 0..2);
    assert_eq!(kinds(&tailed.play.frames()), [""; 0]);
    put(&mut tailed.cursor, 0, 5);
    tailed.came(Next::Gap(tail::Gap {
        partition: 0,
        from: 2,
        to: 5,
        reason: tail::GapReason::Overrun,
    }));
    // There is no more to wait for.
    let frames = tailed.play.frames();
    assert_eq!(kinds(&frames), ["records", "gap"]);
    assert_eq!(frames[1]["reason"], "overrun");
    assert_eq!(tailed.position(), [5, 0]);
    tailed.came(Next::Ended(Ended::Overrun));
    assert_eq!(tailed.wants(), None);
    let frames = tailed.play.frames();
    assert_eq!(kinds(&frames), ["error", "unsubscribed"]);
    assert_eq!(
        (&frames[0]["code"], &frames[0]["sub"]),
        (&json!("overrun"), &json!("t"))
    );
    assert_eq!(tailed.play.session.tails(), 0);
    // What the client had begun by then is not its fault.
    for _ in 0..60 {
        tailed.play.send(json!({"type": "pause", "sub": "t"}));
    }
    assert!(!tailed.play.session.is_closed());
}

#[test]
fn waiting_records_of_a_paused_partition_are_put_back() {
    let mut tailed = Tailed::new(json!({"flow": {"records": 2}}));
    tailed.records(0, 0..3);
    assert_eq!(offsets(&tailed.unflushed()), [0, 1]);
    tailed.play.send(json!({
        "type": "pause", "sub": "t", "partitions": [{"topic": "orders", "partition": 0}],
    }));
    let Some(Effect::Tail(
        _,
        TailEffect::Hold {
            held,
            rewound,
            index: 0,
        },
    )) = tailed.play.effects.pop()
    else {
        panic!("{:?}", tailed.play.effects);
    };
    assert_eq!((held, rewound), (vec![0], vec![(0, 2)]));
    assert_eq!(tailed.position(), [2, 0]);
    put(&mut tailed.cursor, 0, 2);
    tailed.play.frames();
    tailed.records(1, 0..2);
    assert_eq!(offsets(&tailed.play.frames()), [0, 1]);
    tailed.play.send(json!({"type": "resume", "sub": "t"}));
    let Some(Effect::Tail(_, TailEffect::Hold { held, rewound, .. })) = tailed.play.effects.pop()
    else {
        panic!("{:?}", tailed.play.effects);
    };
    assert!(held.is_empty() && rewound.is_empty());
}

#[test]
fn a_seek_drops_what_waits_and_says_where_each_has_gone() {
    let mut tailed = Tailed::new(json!({"flow": {"mode": "credit"}}));
    assert_eq!(tailed.wants(), None);
    tailed
        .play
        .send(json!({"type": "credit", "sub": "t", "records": 1}));
    tailed.records(0, 0..3);
    assert_eq!(offsets(&tailed.play.frames()), [0]);
    let to = |partition: i32| json!({"topic": "orders", "partition": partition, "offset": 7});
    tailed
        .play
        .send(json!({"type": "seek", "id": 1, "sub": "t", "positions": [to(0), to(1)]}));
    let Some(Effect::Tail(id, TailEffect::Seek(request, seeks))) = tailed.play.effects.pop() else {
        panic!("{:?}", tailed.play.effects);
    };
    let fault = Fault::new(FaultKind::TimedOut, "no answer");
    let results: Vec<_> = seeks.into_iter().zip([Ok(7), Err(fault)]).collect();
    let now = tailed.play.now;
    tailed.play.session.tail_sought(id, request, &results, now);
    let frame = tailed.play.frame();
    assert_eq!(frame["type"], "seeked");
    assert_eq!(frame["positions"][0]["offset"], 7);
    assert_eq!(frame["positions"][1]["offset"], -1);
    assert_eq!(frame["positions"][1]["error"], "timed_out");
    assert_eq!(tailed.position(), [7, 0]);
    tailed
        .play
        .send(json!({"type": "credit", "sub": "t", "records": 5}));
    assert!(tailed.play.frames().is_empty(), "nothing of before");
    assert!(tailed.wants().is_some());
    let twice = json!({"type": "seek", "id": 1, "sub": "t", "positions": [to(0), to(0)]});
    tailed.play.send(twice);
    assert_eq!(tailed.play.frame()["field"], "positions[1]");
    for _ in 0..8 {
        tailed.play.send(json!({"type": "position", "sub": "t"}));
    }
    assert!(tailed.play.frames().is_empty());
    tailed.play.send(json!({"type": "position", "sub": "t"}));
    assert_eq!(tailed.play.frame()["code"], "limit_exceeded");
}

#[test]
fn a_tail_that_is_behind_or_without_kafka_for_long_tells_its_state() {
    let mut tailed = Tailed::new(json!({}));
    let since = tailed.play.now;
    tailed.came_behind(Next::Health, None, Some(since));
    tailed.play.pass(Duration::from_secs(2));
    assert!(tailed.play.frames().is_empty());
    assert_eq!(tailed.play.session.next_tick(), Some(since + DOWN));
    tailed.play.pass(Duration::from_secs(1));
    let state = tailed.play.frame();
    assert_eq!(state["state"], "kafka_unavailable");
    assert_eq!(state["since"], 1_700_000_000_000_i64);
    assert_eq!(tailed.play.session.next_tick(), None);
    tailed.came(Next::Health);
    assert_eq!(tailed.play.frame()["state"], "active");

    tailed.came_behind(Next::Moved, Some(70), None);
    assert!(tailed.play.frames().is_empty());
    tailed.came_behind(Next::Moved, Some(60), None);
    tailed.play.pass(BEHIND);
    let state = tailed.play.frame();
    assert_eq!(
        (&state["state"], &state["detail"]),
        (&json!("behind"), &json!("60 offsets behind"))
    );
    tailed.came_behind(Next::Moved, Some(50), None);
    assert!(tailed.play.frames().is_empty(), "once");
    tailed.came(Next::Moved);
    assert_eq!(tailed.play.frame()["state"], "active");
}

#[test]
fn nothing_comes_after_drain_but_where_the_tails_stand() {
    let mut tailed = Tailed::new(json!({"flow": {"records": 2}}));
    tailed.records(0, 0..3);
    tailed.unflushed();
    let now = tailed.play.now;
    let grace = Duration::from_secs(10);
    tailed.play.session.drain(grace, grace, now);
    let frames = tailed.play.frames();
    assert_eq!(kinds(&frames), ["drain", "goodbye"]);
    let position = frames[0]["tails"][0]["position"].as_str().unwrap();
    assert_eq!(frames[0]["tails"][0]["sub"], "t");
    let at: &[(i32, i64)] = &[(0, 2), (1, 0)];
    assert_eq!(position, resume_tokens().encode([at].into_iter()));
    assert_eq!(tailed.play.session.tails(), 0);
}

#[test]
fn a_tail_that_is_no_more_when_kafka_answers_is_not_begun() {
    let mut play = Play::open();
    play.send(json!({"type": "subscribe", "sub": "t", "topics": ["orders"]}));
    let Some(Effect::Tail(id, TailEffect::Open(ask))) = play.effects.pop() else {
        panic!("{:?}", play.effects);
    };
    play.send(json!({"type": "subscribe", "sub": "t", "topics": ["orders"]}));
    assert!(
        play.frames().is_empty(),
        "whether it is one is not known yet"
    );
    play.send(json!({"type": "bye"}));
    play.frames();
    let begun = Begun {
        owner: Arc::clone(&ask.principal),
        parts: Vec::new(),
        resume_tokens: resume_tokens(),
        encoder: SharedEncoders::default().encoder(ask.view),
        gaps: Vec::new(),
        backlog: 0,
        isolation: Isolation::Committed,
    };
    assert!(!play.session.tail_opened(id, Ok(begun), play.now));
    assert!(play.frames().is_empty());
}

#[test]
fn no_subscription_keeps_others_from_their_turn() {
    let mut tailed = Tailed::new(json!({"batch": {"records": 1}}));
    let other = Tailed::open(&mut tailed.play, "u", json!({"batch": {"records": 1}}));
    tailed.play.frames();
    tailed.records(0, 0..3);
    tailed.id = other;
    tailed.cursor = vec![(0, 0), (1, 0)];
    tailed.records(0, 0..3);
    let frames = tailed.play.frames();
    let subs: Vec<&str> = frames.iter().map(|f| f["sub"].as_str().unwrap()).collect();
    assert_eq!(subs, ["t", "u", "t", "u", "t", "u"]);
}

#[test]
fn a_rate_lets_the_newest_through_and_the_position_stays_before_what_waits() {
    let mut tailed = Tailed::new(json!({"max_rate": 2.0}));
    let begun = tailed.play.now;
    tailed.records(1, 0..3);
    assert_eq!(offsets(&tailed.play.frames()), [2], "at once");
    assert_eq!(tailed.position(), [0, 3]);
    tailed.records(0, 0..5);
    tailed.records(1, 3..7);
    assert!(tailed.wants().is_some(), "newer ones take their places");
    assert!(tailed.play.frames().is_empty());
    assert_eq!(tailed.position(), [0, 3]);
    let half = Duration::from_millis(500);
    assert_eq!(tailed.play.session.next_tick(), Some(begun + half));
    tailed.play.pass(half);
    assert_eq!(offsets(&tailed.play.frames()), [6]);
    assert_eq!(tailed.position(), [5, 7], "past what was left out");
    assert_eq!(tailed.play.session.next_tick(), None, "nothing waits");
    assert_eq!(tailed.play.session.counted().0.delivered, 2);
}

#[test]
fn records_that_wait_for_credit_are_conflated_by_key() {
    let mut tailed = Tailed::new(json!({"flow": {"mode": "credit"}, "conflate": "key"}));
    tailed.keys(0, 0, &["a", "b", "a", "c"]);
    tailed.keys(1, 0, &["a"]);
    tailed.keys(0, 4, &["b"]);
    assert!(tailed.wants().is_some());
    assert_eq!(tailed.position(), [0, 0]);
    assert!(tailed.play.session.held_bytes() > 0);
    let credit = |n: i64| json!({"type": "credit", "sub": "t", "records": n});
    tailed.play.send(credit(2));
    let frames = tailed.play.frames();
    assert_eq!(offsets(&frames), [2, 3]);
    assert_eq!(tailed.position(), [4, 0], "what still waits comes again");
    tailed.play.send(credit(5));
    assert_eq!(offsets(&tailed.play.frames()), [0, 4]);
    assert_eq!(tailed.position(), [5, 1]);
    assert_eq!(tailed.play.session.held_bytes(), 0);
}

#[test]
fn records_of_a_frame_that_lingers_are_conflated_by_key() {
    let options = json!({"batch": {"linger_ms": 200}, "conflate": "key"});
    let mut tailed = Tailed::new(options);
    tailed.keys(0, 0, &["a", "b", "a"]);
    assert!(tailed.play.frames().is_empty());
    tailed.keys(0, 3, &["a"]);
    tailed.play.pass(Duration::from_millis(200));
    assert_eq!(offsets(&tailed.play.frames()), [1, 3]);
    assert_eq!(tailed.position(), [4, 0]);
    assert_eq!(tailed.play.session.next_tick(), None);
}

#[test]
fn a_due_record_without_credit_sets_no_timer() {
    let options = json!({"flow": {"mode": "credit"}, "max_rate": 10.0});
    let mut tailed = Tailed::new(options);
    tailed
        .play
        .send(json!({"type": "credit", "sub": "t", "records": 1}));
    tailed.records(0, 0..1);
    assert_eq!(offsets(&tailed.play.frames()), [0]);
    tailed.records(0, 1..2);
    assert!(tailed.play.session.next_tick().is_some());
    tailed.play.pass(Duration::from_millis(100));
    assert!(tailed.play.frames().is_empty());
    assert_eq!(tailed.play.session.next_tick(), None);
    tailed.records(0, 2..9);
    tailed
        .play
        .send(json!({"type": "credit", "sub": "t", "records": 1}));
    assert_eq!(offsets(&tailed.play.frames()), [8]);
}

#[test]
fn a_gap_comes_after_what_waits_and_does_not_wait_for_the_rate() {
    let mut tailed = Tailed::new(json!({"max_rate": 0.1}));
    tailed.records(0, 0..1);
    assert_eq!(offsets(&tailed.play.frames()), [0]);
    tailed.records(0, 1..4);
    put(&mut tailed.cursor, 0, 9);
    let gap = tail::Gap {
        partition: 0,
        from: 4,
        to: 9,
        reason: tail::GapReason::Retention,
    };
    tailed.came(Next::Gap(gap));
    assert_eq!(tailed.wants(), None, "it goes before what comes after it");
    let frames = tailed.play.frames();
    assert_eq!(kinds(&frames), ["records", "gap"]);
    assert_eq!(offsets(&frames), [3]);
    assert_eq!(tailed.position(), [9, 0]);
    assert!(tailed.wants().is_some());
}

#[test]
fn records_that_were_replaced_are_put_back_with_the_newest() {
    let held = |tailed: &mut Tailed| {
        let effects = std::mem::take(&mut tailed.play.effects);
        let holds = effects.into_iter().filter_map(|effect| match effect {
            Effect::Tail(_, TailEffect::Hold { held, rewound, .. }) => Some((held, rewound)),
            _ => None,
        });
        holds.collect::<Vec<_>>()
    };
    let pause = json!({
        "type": "pause", "sub": "t", "partitions": [{"topic": "orders", "partition": 1}],
    });
    let mut tailed = Tailed::new(json!({"flow": {"mode": "credit"}, "max_rate": 1.0}));
    tailed.records(0, 0..3);
    tailed.records(1, 0..4);
    tailed.play.send(pause.clone());
    let expected = [(vec![1], vec![(1, 0)]), (vec![1], vec![(0, 0)])];
    assert_eq!(held(&mut tailed), expected);
    assert_eq!(tailed.position(), [0, 0]);

    // Keys are of one partition.
    let mut tailed = Tailed::new(json!({"flow": {"mode": "credit"}, "conflate": "key"}));
    tailed.keys(0, 0, &["a", "a"]);
    tailed.keys(1, 0, &["a", "b"]);
    tailed.play.send(pause);
    assert_eq!(held(&mut tailed), [(vec![1], vec![(1, 0)])]);
    tailed
        .play
        .send(json!({"type": "credit", "sub": "t", "records": 9}));
    assert_eq!(offsets(&tailed.play.frames()), [1]);
    assert_eq!(tailed.position(), [2, 0]);

    // A seek too, but not of those that have gone elsewhere.
    let mut tailed = Tailed::new(json!({"flow": {"mode": "credit"}, "max_rate": 1.0}));
    tailed.records(0, 0..3);
    tailed.records(1, 0..4);
    let to = |partition: i32| json!({"topic": "orders", "partition": partition, "offset": 7});
    tailed
        .play
        .send(json!({"type": "seek", "sub": "t", "positions": [to(1)]}));
    let Some(Effect::Tail(id, TailEffect::Seek(request, seeks))) = tailed.play.effects.pop() else {
        panic!("{:?}", tailed.play.effects);
    };
    let results: Vec<_> = seeks.into_iter().zip([Ok(7)]).collect();
    let now = tailed.play.now;
    tailed.play.session.tail_sought(id, request, &results, now);
    tailed.play.collect();
    assert_eq!(held(&mut tailed), [(vec![], vec![(0, 0)])]);
    assert_eq!(tailed.position(), [0, 7]);
}

#[test]
fn the_position_in_drain_lies_before_records_that_still_wait() {
    let mut tailed = Tailed::new(json!({"max_rate": 0.5}));
    tailed.records(0, 0..3);
    assert_eq!(offsets(&tailed.play.frames()), [2]);
    tailed.records(0, 3..6);
    let now = tailed.play.now;
    let grace = Duration::from_secs(10);
    tailed.play.session.drain(grace, grace, now);
    let frames = tailed.play.frames();
    assert_eq!(kinds(&frames), ["drain", "goodbye"]);
    let at: &[(i32, i64)] = &[(0, 3), (1, 0)];
    assert_eq!(
        frames[0]["tails"][0]["position"],
        resume_tokens().encode([at].into_iter())
    );
}

/// Others' records wake nobody who wants one key; so it is looked at how far they have come.
#[test]
fn a_tail_of_one_key_looks_periodically_past_records_of_other_keys() {
    let looks = |tailed: &mut Tailed| {
        let effects = std::mem::take(&mut tailed.play.effects);
        let of_look = |effect: &Effect| matches!(effect, Effect::Tail(_, TailEffect::Look));
        effects.iter().filter(|effect| of_look(effect)).count()
    };
    let key = json!({"filter": {"key": "mine"}});
    let mut tailed = Tailed::new(key.clone());
    let begun = tailed.play.now;
    assert_eq!(tailed.play.session.next_tick(), Some(begun + LOOK));
    tailed.play.pass(LOOK);
    assert_eq!(looks(&mut tailed), 1);
    assert_eq!(tailed.play.session.next_tick(), Some(begun + 2 * LOOK));
    tailed.play.pass(Duration::from_millis(1));
    assert_eq!(looks(&mut tailed), 0);
    // What it saw counts; what waits is still before it.
    put(&mut tailed.cursor, 0, 7);
    tailed.came(Next::Moved);
    assert_eq!(tailed.position(), [7, 0]);

    let mut play = Play::open();
    play.send(json!({"type": "hello", "features": ["eof"]}));
    play.frames();
    let id = Tailed::open(&mut play, "t", key);
    let cursor = vec![(0, 0), (1, 0)];
    let mut tailed = Tailed { play, id, cursor };
    tailed.play.frames();
    let begun = tailed.play.now;
    assert_eq!(tailed.play.session.next_tick(), Some(begun + LOOK_FOR_ENDS));
    tailed.play.pass(LOOK_FOR_ENDS);
    assert_eq!(looks(&mut tailed), 1);
    for end in [4, 4, 6] {
        put(&mut tailed.cursor, 0, end);
        tailed.came_to_ends(&[0]);
    }
    let told: Vec<_> = tailed
        .play
        .frames()
        .iter()
        .map(|f| f["offset"].clone())
        .collect();
    assert_eq!(told, [4, 6], "once each");

    for all in [json!({}), json!({"filter": {"key_prefix": "m"}})] {
        let tailed = Tailed::new(all);
        assert_eq!(tailed.play.session.next_tick(), None);
    }
}

#[test]
fn a_rate_out_of_range_is_moved_into_it() {
    for (asked, will_be) in [(0.0, 0.1), (5e6, 1_000.0), (2.5, 2.5)] {
        let mut play = Play::open();
        Tailed::open(
            &mut play,
            "t",
            json!({"max_rate": asked, "conflate": "key"}),
        );
        let subscribed = play.frame();
        assert_eq!(subscribed["max_rate"], will_be);
        assert_eq!(subscribed["conflate"], "key");
    }
    let mut play = Play::open();
    for (field, value) in [("max_rate", json!(1)), ("conflate", json!("key"))] {
        let mut frame =
            json!({"type": "subscribe", "sub": "g", "group": "g", "topics": ["orders"]});
        frame[field] = value;
        play.send(frame);
        let error = play.frame();
        assert_eq!(error["code"], "invalid_subscription");
        assert_eq!(error["field"], field);
    }
}
