//! Records that are delivered, acknowledged and committed, and those that cannot be.

use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};

use super::{Play, kinds, place, record, tags};
use crate::kafka::fault::{Fault, FaultKind};
use crate::kafka::member::{self, Command, Event, SeekTo};
use crate::record::ConsumerRecord;
use crate::session::effect::Effect;
use crate::session::protocol::close::Close;

#[test]
fn a_subscription_made_while_memory_is_short_begins_with_a_smaller_window() {
    let mut play = Play::open();
    play.session.set_pressure(2);
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
    assert_eq!(play.commits(), [(0, 3), (1, 0)], "where nothing came, too");
    let committed = play.frame();
    assert_eq!(committed["positions"][0]["offset"], 3);
}

#[test]
fn a_commit_of_what_is_being_committed_waits_for_that_commit() {
    let mut play = Play::subscribed(json!({}));
    play.offer(0, 0..3);
    play.send(json!({"type": "commit", "sub": "o", "id": 0}));
    assert_eq!(play.commits(), [(0, 0), (1, 0)]);
    play.frames();
    play.send(json!({"type": "ack", "sub": "o", "tags": [1, 2, 3]}));
    play.pass(Duration::from_secs(1));
    play.send(json!({"type": "commit", "sub": "o", "id": 1}));
    assert!(play.frames().is_empty(), "Kafka does not have it yet");
    assert_eq!(play.commits(), [(0, 3)]);
    let committed = play.frame();
    assert_eq!(
        (&committed["type"], &committed["id"]),
        (&json!("committed"), &json!(1))
    );
    assert_eq!(committed["positions"][0]["offset"], 3);
    play.send(json!({"type": "commit", "sub": "o", "id": 2}));
    assert_eq!(play.frame()["positions"], committed["positions"], "it has");
}

#[test]
fn a_frame_that_has_lingered_sets_no_timer_while_the_socket_takes_nothing() {
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
fn records_are_acknowledged_by_their_flush_in_auto_mode() {
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
fn a_deadline_that_has_passed_is_no_next_tick() {
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
fn no_record_from_before_a_seek_comes_after_seeked() {
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
    let state = play.frame();
    assert_eq!(
        (&state["type"], &state["detail"]),
        (&json!("state"), &json!(null))
    );
    play.pass(Duration::from_secs(2));
    assert_eq!(play.commits(), [(0, 1)]);
}

#[test]
fn a_record_that_cannot_be_decoded_is_handled_as_on_decode_error_says() {
    let broken = |partition, offset| ConsumerRecord {
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
