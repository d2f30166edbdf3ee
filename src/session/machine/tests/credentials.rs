//! Tokens, and the rights that come and go with them.

use std::time::Duration;

use serde_json::json;

use super::{Play, permissions};
use crate::auth::Principal;
use crate::kafka::member::Command;
use crate::session::effect::Effect;
use crate::session::static_members::Foreign;

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
fn a_subscription_whose_right_goes_while_its_topics_are_looked_up_is_refused() {
    let ann = |list: &[&str]| Principal::with_permissions("ann", permissions(list));
    let mut play = Play::new(Some(ann(&["consume:*", "group:*"])), false);
    play.frames();
    play.send(json!({"type": "subscribe", "sub": "o", "group": "g", "topics": ["orders"]}));
    play.send(json!({"type": "auth", "token": "t"}));
    let fewer = ann(&["consume:*"]);
    play.session.authenticated(Ok(fewer), play.now);
    assert_eq!(play.frame()["type"], "ok");
    play.resolve(&["orders"]);
    assert_eq!(play.frame()["code"], "forbidden");
    assert!(play.session.group().is_none());
}

#[test]
fn a_role_that_loses_a_right_ends_what_needs_it_and_leaves_the_session() {
    let all = ["consume:*", "group:*", "produce:*"];
    for (left, kept) in [
        (["consume:other", "group:*"], false),
        (["consume:*", "produce:*"], false),
        (["consume:orders", "group:g"], true),
    ] {
        let (ann, change) = Principal::with_role("ann", &all);
        let mut play = Play::new(Some(ann), false);
        play.frames();
        play.subscribe(json!({}));
        play.session.rights_changed(play.now);
        play.collect();
        assert!(play.frames().is_empty(), "all is as it was");
        change(Some(&left));
        play.session.rights_changed(play.now);
        play.collect();
        if kept {
            assert!(play.frames().is_empty());
            assert!(
                play.session
                    .group()
                    .is_some_and(|group| !group.is_leaving())
            );
            continue;
        }
        let error = play.frame();
        assert_eq!(
            (&error["code"], &error["sub"]),
            (&json!("forbidden"), &json!("o"))
        );
        let leaves = |command| matches!(command, Some(Command::Leave { stay: false }));
        assert!(leaves(play.command()));
        // It is said once, and the session goes on.
        play.session.rights_changed(play.now);
        play.collect();
        assert!(play.frames().is_empty());
        assert!(play.session.end().is_none());
    }
}

#[test]
fn a_session_whose_principal_is_removed_ends() {
    let (ann, change) = Principal::with_role("ann", &["consume:*", "group:*"]);
    let mut play = Play::new(Some(ann.clone()), false);
    play.frames();
    play.subscribe(json!({"instance_id": "tab"}));
    change(None);
    play.session.rights_changed(play.now);
    play.collect();
    // A static member leaves, too: it does not come back.
    assert!(matches!(
        play.command(),
        Some(Command::Leave { stay: false })
    ));
    assert_eq!(play.goodbye(), 4501);

    // One that goes while its token is looked at.
    let mut play = Play::new(None, false);
    play.send(json!({"type": "hello", "token": "t"}));
    play.session.authenticated(Ok(ann), play.now);
    assert_eq!(play.goodbye(), 4501);
    // Before anybody is known there is nothing to judge.
    let mut play = Play::new(None, false);
    play.session.rights_changed(play.now);
    assert!(play.frames().is_empty() && play.session.end().is_none());
}

#[test]
fn a_static_member_of_another_principal_is_refused_by_name() {
    let mut play = Play::open();
    play.subscribe(json!({"instance_id": "tab"}));
    play.frames();
    play.session.instance_refused(&Foreign, play.now);
    let error = play.frame();
    assert_eq!(
        (&error["code"], &error["sub"], &error["field"]),
        (&json!("forbidden"), &json!("o"), &json!("instance_id"))
    );
    assert_eq!(error["retriable"], false);
    assert!(play.session.group().is_none());
    assert!(play.session.end().is_none());
}

#[test]
fn a_token_that_expires_ends_the_session_unless_it_is_renewed() {
    let at = 1_700_000_000 + 200;
    let token = |name: &str, list: &[&str]| Principal::expiring(name, permissions(list), at);
    let later = |name: &str, list: &[&str]| Principal::expiring(name, permissions(list), at + 600);
    let all = ["consume:*", "group:*"];
    let start = || {
        let mut play = Play::new(Some(token("ann", &all)), false);
        play.frames();
        play.subscribe(json!({}));
        play.pass(Duration::from_secs(139));
        assert!(play.frames().is_empty());
        play.pass(Duration::from_secs(1));
        let expiring = play.frame();
        assert_eq!(expiring["type"], "auth_expiring");
        assert_eq!(
            (&expiring["in"], &expiring["in_ms"]),
            (&json!(60), &json!(60_000))
        );
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
fn a_credential_that_expires_beyond_what_clocks_count_keeps_its_session() {
    for at in [u64::MAX, i64::MAX as u64, i64::MAX as u64 / 1000] {
        let ann = Principal::expiring("ann", permissions(&["consume:*"]), at);
        let mut play = Play::new(Some(ann), false);
        play.pass(Duration::from_secs(60));
        assert!(!play.session.is_closed(), "{at}");
        let frames = play.frames();
        assert!(frames.iter().all(|f| f["type"] != "auth_expiring"), "{at}");
    }
}

#[test]
fn the_expiry_of_a_short_credential_is_told_once_and_shortly_before() {
    let at = 1_700_000_000 + 30;
    let token = |expires| Principal::expiring("ann", permissions(&["consume:*"]), expires);
    let mut play = Play::new(Some(token(at)), false);
    play.frames();
    let told = |play: &mut Play| {
        let frames = play.frames();
        let told = frames.iter().filter(|f| f["type"] == "auth_expiring");
        told.map(|frame| frame["in_ms"].as_i64().unwrap())
            .collect::<Vec<_>>()
    };
    play.pass(Duration::from_secs(19));
    assert!(told(&mut play).is_empty());
    play.pass(Duration::from_secs(1));
    assert_eq!(told(&mut play), [10_000]);
    // The client knows nothing better than to show the same one again.
    for _ in 0..100 {
        play.send(json!({"type": "auth", "token": "the same"}));
        play.session.authenticated(Ok(token(at)), play.now);
        play.pass(Duration::from_millis(10));
    }
    assert!(told(&mut play).is_empty());
    // A newer one is another.
    play.send(json!({"type": "auth", "token": "newer"}));
    play.session.authenticated(Ok(token(at + 20)), play.now);
    assert!(told(&mut play).is_empty());
    play.pass(Duration::from_secs(20));
    assert_eq!(told(&mut play), [9_000]);
}

#[test]
fn a_subscription_without_the_right_to_its_group_or_a_topic_is_refused() {
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
fn a_dead_letter_topic_of_the_clients_choice_needs_the_right_to_write_to_it() {
    for (right, topic, code) in [
        ("produce:orders", "letters", "forbidden"),
        ("produce:letters", "letters", ""),
        ("produce:*", "__letters", "forbidden"),
        ("admin:*", "__letters", ""),
        ("admin:*", "__consumer_offsets", "forbidden"),
        ("admin:*", "__transaction_state", "forbidden"),
    ] {
        let list = ["group:g", "consume:orders", right];
        let ann = Principal::with_permissions("ann", permissions(&list));
        let mut play = Play::new(Some(ann), false);
        play.frames();
        play.send(json!({
            "type": "subscribe", "sub": "o", "group": "g", "topics": ["orders"], "dlq": topic,
        }));
        let frames = play.frames();
        let said = frames
            .first()
            .map_or("", |frame| frame["code"].as_str().unwrap());
        assert_eq!(said, code, "{right} {topic}");
    }
}
