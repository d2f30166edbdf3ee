//! Frames that may not come, or not so many.

use std::time::Duration;

use proptest::prelude::*;
use serde_json::json;

use super::{Play, kinds};
use crate::kafka::member::Event;

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
fn late_acknowledgements_of_a_subscription_that_ended_do_not_end_the_session() {
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
fn each_bad_frame_is_answered_with_its_error_and_too_many_end_the_session() {
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
            json!({"type": "seek", "sub": "o", "positions": [{"topic": "orders", "partition": 0, "timestamp": "soon"}]}),
            "invalid_frame",
            "positions[0].timestamp",
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
fn a_text_that_is_no_frame_ends_the_session() {
    let mut play = Play::open();
    play.text("{");
    assert_eq!(play.goodbye(), 4500);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn no_text_makes_a_session_fail(texts in prop::collection::vec("\\PC{0,60}", 1..20)) {
        let mut play = Play::subscribed(json!({}));
        for text in texts {
            play.text(&text);
            play.frames();
        }
    }
}
