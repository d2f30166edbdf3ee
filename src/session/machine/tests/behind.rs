//! Frames that wait for the answer to one before them.

use std::sync::Arc;

use serde_json::{Value, json};

use super::super::behind::MOST_FRAMES;
use super::{Play, kinds, place};
use crate::kafka::fault::Fault;
use crate::kafka::member::{Command, Event};
use crate::session::effect::{Effect, TailEffect};
use crate::session::protocol::server::Error;

fn subscribe(sub: &str) -> Value {
    json!({"type": "subscribe", "sub": sub, "id": sub, "group": "g", "topics": ["orders"],
        "flow": {"mode": "credit"}})
}

/// The order to seek that the member was given, answered with `at`.
fn seeked(play: &mut Play, at: i64) {
    let Some(Command::Seek { token, positions }) = play.command() else {
        panic!("no seek was ordered");
    };
    let results = positions.into_iter().map(|(p, _)| (p, Ok(at))).collect();
    play.member(Event::Seeked { token, results });
}

#[test]
fn frames_behind_a_subscribe_wait_for_its_answer_and_others_do_not() {
    let mut play = Play::open();
    play.send(subscribe("o"));
    play.send(json!({"type": "credit", "sub": "o", "records": 3}));
    play.send(json!({"type": "pause", "sub": "o", "id": "pause"}));
    play.send(json!({"type": "commit", "sub": "o", "id": "commit"}));
    play.send(json!({"type": "ack", "sub": "o", "id": "ack", "tags": [7]}));
    play.send(json!({"type": "ack", "sub": "x", "id": "other", "tags": [7]}));
    play.send(json!({"type": "ping", "id": "ping"}));
    let frames = play.frames();
    assert_eq!(kinds(&frames), ["error", "pong"], "{frames:?}");
    assert_eq!(frames[0]["code"], "unknown_sub");
    play.resolve(&["orders"]);
    let frames = play.frames();
    assert_eq!(
        kinds(&frames),
        ["subscribed", "ok", "committed", "acked", "error"],
        "{frames:?}"
    );
    assert_eq!(
        (&frames[3]["id"], &frames[4]["id"]),
        (&json!("ack"), &json!("ack"))
    );
    assert_eq!(frames[4]["code"], "ack_unknown");
    assert!(matches!(play.effects.pop(), Some(Effect::Join(_))));
    // The credit has not been lost.
    let assigned = crate::kafka::member::Assigned {
        partition: place(0),
        start: 0,
        committed: None,
        end: 9,
    };
    play.member(Event::Assigned {
        added: vec![assigned],
        all: vec![place(0)],
    });
    play.offer(0, 0..9);
    let frames = play.frames();
    assert_eq!(
        frames.last().unwrap()["records"].as_array().unwrap().len(),
        3
    );
}

#[test]
fn a_subscription_that_failed_refuses_what_waited_and_makes_way_for_the_next() {
    let mut play = Play::open();
    play.send(subscribe("o"));
    for _ in 0..60 {
        play.send(json!({"type": "ack", "sub": "o", "tags": [1]}));
    }
    // Each of these would have been refused for the one that is being made.
    play.send(subscribe("o"));
    play.send(subscribe("p"));
    play.send(json!({"type": "unsubscribe", "sub": "p", "id": "end"}));
    assert!(play.frames().is_empty());
    let Some(Effect::Resolve(ticket, _)) = play.effects.pop() else {
        panic!("nothing is looked up");
    };
    let fault = Fault::unknown_topic("orders");
    play.session.resolved(ticket, Err(fault), play.now);
    play.collect();
    let frames = play.frames();
    assert_eq!(frames.len(), 61, "not the client's fault");
    assert_eq!(frames[0]["code"], "topic_not_found");
    assert!(
        frames[1..]
            .iter()
            .all(|frame| frame["code"] == "unknown_sub")
    );
    play.resolve(&["orders"]);
    let frames = play.frames();
    assert_eq!(kinds(&frames), ["subscribed", "error", "error"]);
    assert_eq!(frames[0]["id"], "o");
    assert_eq!(frames[2]["id"], "end");
    // The one behind the other still has its turn: there is a group already.
    assert_eq!(
        (&frames[1]["id"], &frames[1]["code"]),
        (&json!("p"), &json!("limit_exceeded"))
    );
}

#[test]
fn a_tail_that_is_unsubscribed_before_it_is_open_does_not_stay_open() {
    let mut play = Play::open();
    play.send(json!({"type": "subscribe", "sub": "t", "topics": ["orders"]}));
    play.send(json!({"type": "credit", "sub": "t", "records": 3}));
    play.send(json!({"type": "unsubscribe", "sub": "t", "id": 1}));
    assert!(play.frames().is_empty());
    let Some(Effect::Tail(id, TailEffect::Open(_))) = play.effects.pop() else {
        panic!("{:?}", play.effects);
    };
    let failed = Error::new("topic_not_found", "there is none");
    play.session.tail_opened(id, Err(failed), play.now);
    play.collect();
    let frames = play.frames();
    let codes: Vec<_> = frames.iter().map(|frame| &frame["code"]).collect();
    assert_eq!(codes, ["topic_not_found", "unknown_sub", "unknown_sub"]);
}

#[test]
fn frames_that_wait_are_limited_and_count_as_held_bytes() {
    let mut play = Play::open();
    play.send(subscribe("o"));
    for _ in 0..MOST_FRAMES {
        play.send(json!({"type": "ack", "sub": "o", "tags": [1]}));
    }
    assert!(play.frames().is_empty());
    assert!(play.session.held_bytes() > 20 * MOST_FRAMES as u64);
    play.send(json!({"type": "ack", "sub": "o", "tags": [1], "id": "more"}));
    let error = play.frame();
    assert_eq!(
        (&error["code"], &error["retriable"]),
        (&json!("limit_exceeded"), &json!(true))
    );
    assert_eq!(error["id"], "more");
    play.send(json!({"type": "bye"}));
    assert_eq!(play.goodbye(), 1000);
    assert_eq!(play.session.held_bytes(), 0);
}

#[test]
fn a_commit_behind_a_seek_commits_where_the_seek_went() {
    let mut play = Play::subscribed(json!({}));
    play.offer(0, 0..10);
    play.frames();
    play.send(json!({"type": "ack", "sub": "o", "tags": [1, 2, 3]}));
    play.send(json!({"type": "commit", "sub": "o", "id": 1}));
    assert_eq!(play.commits(), [(0, 3), (1, 0)]);
    for (id, to) in [(2, 7), (3, 1)] {
        play.frames();
        play.send(json!({"type": "seek", "sub": "o",
            "positions": [{"topic": "orders", "partition": 0, "offset": to}]}));
        play.send(json!({"type": "commit", "sub": "o", "id": id}));
        play.send(json!({"type": "ack", "sub": "o", "id": "late", "tags": [4]}));
        assert!(play.frames().is_empty(), "they wait for the seek");
        seeked(&mut play, to);
        assert_eq!(play.commits(), [(0, to)]);
        let frames = play.frames();
        let committed = frames.iter().find(|frame| frame["type"] == "committed");
        let positions = committed.unwrap()["positions"].as_array().unwrap();
        // What it answers is what Kafka has, also of the partition that stood still.
        let all: Vec<_> = positions
            .iter()
            .map(|at| (&at["partition"], &at["offset"]))
            .collect();
        assert_eq!(all, [(&json!(0), &json!(to)), (&json!(1), &json!(0))]);
        assert_eq!(
            frames.iter().filter(|f| f["id"] == "late").count(),
            2,
            "{frames:?}"
        );
    }
    // Nothing is left to commit: Kafka has it.
    play.send(json!({"type": "commit", "sub": "o", "id": 4}));
    assert!(play.commits().is_empty());
    let frames = play.frames();
    let positions = frames[0]["positions"].as_array().unwrap();
    let of_first = positions.iter().find(|at| at["partition"] == 0);
    assert_eq!(of_first.unwrap()["offset"], 1);
}

#[test]
fn the_end_waits_for_a_commit_behind_a_seek() {
    let mut play = Play::subscribed(json!({}));
    play.send(json!({"type": "seek", "sub": "o", "id": "seek",
        "positions": [{"topic": "orders", "partition": 1, "offset": 5}]}));
    play.send(json!({"type": "commit", "sub": "o", "id": "commit"}));
    play.send(json!({"type": "bye", "id": "bye"}));
    assert!(play.frames().is_empty());
    seeked(&mut play, 5);
    assert_eq!(play.commits(), [(0, 0), (1, 5)]);
    let frames = play.frames();
    assert_eq!(
        kinds(&frames),
        ["seeked", "committed", "committed", "goodbye"]
    );
    let last = frames[3]["committed"].as_array().unwrap();
    assert_eq!(last[1]["offset"], 5);
}

#[test]
fn a_seek_alone_commits_nothing() {
    let mut play = Play::subscribed(json!({"commit_interval_ms": 100}));
    play.send(json!({"type": "seek", "sub": "o",
        "positions": [{"topic": "orders", "partition": 0, "offset": 5}]}));
    seeked(&mut play, 5);
    play.pass(std::time::Duration::from_secs(2));
    play.send(json!({"type": "bye"}));
    assert!(play.commits().is_empty());
}

#[test]
fn a_subscription_by_a_pattern_without_a_topic_waits_for_one() {
    let mut play = Play::open();
    play.send(json!({"type": "subscribe", "sub": "o", "id": 1, "group": "g", "pattern": "ord.*"}));
    play.resolve(&["payments"]);
    let frames = play.frames();
    assert_eq!(kinds(&frames), ["subscribed", "state"]);
    assert_eq!(
        (&frames[1]["state"], frames[1]["detail"].is_string()),
        (&json!("joining"), true)
    );
    play.pass(std::time::Duration::from_secs(5));
    play.resolve(&["payments"]);
    assert!(play.frames().is_empty() && play.effects.is_empty());
    play.pass(std::time::Duration::from_secs(5));
    play.resolve(&["payments", "orders"]);
    let Some(Effect::Join(options)) = play.effects.pop() else {
        panic!("it does not join");
    };
    assert_eq!(options.topics, [Arc::from("orders")]);
    play.member(Event::State(crate::kafka::member::State::Joining(None)));
    let state = play.frame();
    assert_eq!(
        (&state["state"], &state["detail"]),
        (&json!("joining"), &Value::Null)
    );
    // A question of a subscription that is no more is not the next one's answer.
    play.pass(std::time::Duration::from_secs(5));
    let Some(Effect::Resolve(ticket, _)) = play.effects.pop() else {
        panic!("nothing is looked up");
    };
    play.send(json!({"type": "unsubscribe", "sub": "o"}));
    play.member(Event::Ended(None));
    play.frames();
    play.send(subscribe("p"));
    let all = vec![Arc::from("orders"), Arc::from("secret")];
    play.session.resolved(ticket, Ok(all), play.now);
    assert!(play.frames().is_empty(), "it is not this one's");
}

#[test]
fn a_group_behind_one_that_is_being_left_begins_after_it() {
    let mut play = Play::subscribed(json!({}));
    play.send(json!({"type": "unsubscribe", "sub": "o", "id": "left"}));
    play.send(subscribe("o"));
    play.send(json!({"type": "credit", "sub": "o", "records": 1}));
    assert!(play.frames().is_empty());
    assert!(matches!(play.command(), Some(Command::Leave { .. })));
    play.member(Event::Ended(None));
    assert_eq!(kinds(&play.frames()), ["revoked", "unsubscribed"]);
    play.resolve(&["orders"]);
    assert_eq!(kinds(&play.frames()), ["subscribed"]);
}
