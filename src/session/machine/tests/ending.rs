//! Partitions that go, subscriptions and sessions that end: what is acknowledged is committed first.

use std::time::Duration;

use serde_json::json;

use super::{Play, kinds, place, release, tags};
use crate::kafka::fault::{Fault, FaultKind};
use crate::kafka::member::{self, Command, Event};
use crate::session::effect::Effect;

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
fn a_subscription_that_kafka_ends_is_told_with_an_error() {
    let mut play = Play::subscribed(json!({}));
    play.member(Event::Ended(Some(Fault::unknown_topic("orders"))));
    let frames = play.frames();
    assert_eq!(kinds(&frames), ["revoked", "error"]);
    assert_eq!(frames[1]["code"], "topic_not_found");
    assert!(!play.session.is_closed());
}

#[test]
fn the_answer_to_a_commit_leaves_out_a_partition_that_was_handed_on() {
    for comes_back in [false, true] {
        let mut play = Play::subscribed(json!({}));
        play.offer(0, 0..3);
        play.frames();
        play.send(json!({"type": "ack", "sub": "o", "tags": [1, 2, 3]}));
        play.send(json!({"type": "commit", "sub": "o", "id": 1}));
        play.member(Event::Lost(vec![place(0)]));
        if comes_back {
            // Somebody else may have committed meanwhile.
            play.member(Event::Assigned {
                added: vec![member::Assigned {
                    partition: place(0),
                    start: 2,
                    committed: Some(2),
                    end: 9,
                }],
                all: vec![place(0), place(1)],
            });
        }
        play.frames();
        assert_eq!(play.commits(), [(0, 3), (1, 0)]);
        let committed = play.frame();
        let said = |nth: usize| {
            let at = &committed["positions"][nth];
            (
                at["partition"].clone(),
                at["offset"].clone(),
                at["error"].clone(),
            )
        };
        assert_eq!(said(0), (json!(0), json!(-1), json!("not_assigned")));
        assert_eq!(said(1), (json!(1), json!(0), json!(null)));
        play.send(json!({"type": "position", "sub": "o"}));
        let Some(Command::Ends { token }) = play.command() else {
            panic!("it asks nobody");
        };
        let results = vec![(place(0), Ok(9)), (place(1), Ok(9))];
        play.member(Event::Ends { token, results });
        let positions = play.frame();
        if comes_back {
            let back = positions["positions"].as_array().unwrap().iter();
            let mut back = back.filter(|at| at["partition"] == 0);
            assert_eq!(back.next().unwrap()["committed"], 2);
        }
    }
}

#[test]
fn topics_that_are_gone_are_told_and_the_subscription_goes_on() {
    let mut play = Play::subscribed(json!({}));
    play.member(Event::Lost(vec![place(0)]));
    assert_eq!(kinds(&play.frames()), ["revoked"]);
    assert!(
        play.effects.is_empty(),
        "it has another partition of the topic"
    );
    play.member(Event::Lost(vec![place(1)]));
    let Some(Effect::LookFor(topics)) = play.effects.pop() else {
        panic!("nobody looks whether it is gone");
    };
    play.session.missing(&topics, play.now);
    let frames = play.frames();
    assert_eq!(kinds(&frames), ["revoked", "error"]);
    assert_eq!(frames[1]["code"], "topic_not_found");
    assert!(play.session.group().is_some());
}
