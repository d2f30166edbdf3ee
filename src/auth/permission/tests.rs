use proptest::prelude::*;

use super::Resource::{Cluster, Group, Topic, Transaction};
use super::*;

fn may(permissions: &[&str], action: Action, resource: Resource<'_>) -> bool {
    let permissions = permissions
        .iter()
        .map(|text| Permission::parse(text, "mallory*").unwrap())
        .collect();
    let principal = Principal::with_permissions("mallory*", permissions);
    decide(&principal, action, resource).is_ok()
}

#[test]
fn a_pattern_is_a_glob_over_the_whole_name() {
    for (pattern, name, expected) in [
        ("orders", "orders", true),
        ("orders", "orders2", false),
        ("orders", "order", false),
        ("orders.*", "orders.eu", true),
        ("orders.*", "orders", false),
        ("*", "", true),
        ("*", "anything", true),
        ("*.eu", "orders.eu", true),
        ("*.eu", "orders.eu.old", false),
        ("a*b*c", "aXbYc", true),
        ("a*b*c", "abc", true),
        ("a*b*c", "acb", false),
        ("a*a", "a", false),
        ("a**c", "abc", true),
        ("", "", true),
        ("", "x", false),
        ("or?ers", "orders", false),
    ] {
        let matched = Pattern::parse(pattern, "s").matches(name);
        assert_eq!(matched, expected, "{pattern} {name}");
    }
}

#[test]
fn the_subject_stands_for_itself() {
    let pattern = Pattern::parse("user.{sub}.*", "a*b");
    assert!(pattern.matches("user.a*b.x"));
    assert!(!pattern.matches("user.aXb.x"));
    assert!(!Pattern::parse("{sub}", "{sub}*").matches("{sub}x"));
}

#[test]
fn an_action_allows_itself_and_what_it_implies() {
    assert!(may(&["produce:orders"], Action::Produce, Topic("orders")));
    assert!(!may(&["produce:orders"], Action::Consume, Topic("orders")));
    assert!(!may(
        &["produce:orders"],
        Action::Produce,
        Topic("payments")
    ));
    for implying in ["produce:orders", "consume:orders", "describe:orders"] {
        assert!(may(&[implying], Action::Describe, Topic("orders")));
    }
    assert!(may(&["group:web"], Action::Describe, Group("web")));
    assert!(!may(&["group:web"], Action::Describe, Topic("web")));
    assert!(!may(&["consume:web"], Action::Describe, Group("web")));
    assert!(may(&["describe:web"], Action::Describe, Group("web")));
    assert!(may(&["transact:t-*"], Action::Transact, Transaction("t-1")));
    for action in [Action::Create, Action::Alter, Action::Delete] {
        assert!(may(&[&format!("{action}:x")], action, Topic("x")));
        assert!(!may(
            &["produce:x", "consume:x", "describe:x"],
            action,
            Topic("x")
        ));
    }
}

#[test]
fn admin_is_everything_and_internal_topics_are_for_admin() {
    for (action, resource) in [
        (Action::Produce, Topic("x")),
        (Action::Consume, Topic("__consumer_offsets")),
        (Action::Group, Group("g")),
        (Action::Admin, Cluster),
    ] {
        assert!(may(&["admin:*"], action, resource));
        assert!(!may(&[], action, resource));
    }
    assert!(!may(
        &["consume:*", "describe:*"],
        Action::Consume,
        Topic("__consumer_offsets")
    ));
    assert!(!may(
        &["consume:*", "describe:*"],
        Action::Describe,
        Topic("__consumer_offsets")
    ));
    assert!(!may(
        &["produce:*", "consume:*", "group:*"],
        Action::Admin,
        Cluster
    ));
}

#[test]
fn what_is_no_permission_is_told() {
    for (text, error) in [
        ("openid", PermissionError::Shape),
        ("produce:", PermissionError::Shape),
        ("read:orders", PermissionError::Action),
        ("Produce:orders", PermissionError::Action),
        ("admin:orders", PermissionError::Admin),
    ] {
        assert_eq!(Permission::parse(text, "s"), Err(error), "{text}");
    }
}

#[test]
fn without_authentication_everyone_may_do_everything() {
    decide(&Principal::anonymous(), Action::Admin, Cluster).unwrap();
}

/// The glob as its definition says it, slowly.
fn slowly(pattern: &[u8], name: &[u8]) -> bool {
    match pattern.split_first() {
        None => name.is_empty(),
        Some((b'*', rest)) => (0..=name.len()).any(|at| slowly(rest, &name[at..])),
        Some((first, rest)) => name.first() == Some(first) && slowly(rest, &name[1..]),
    }
}

proptest! {
    #[test]
    fn globs_match_as_defined(pattern in "[ab*]{0,8}", name in "[ab]{0,8}") {
        let fast = Pattern::parse(&pattern, "").matches(&name);
        prop_assert_eq!(fast, slowly(pattern.as_bytes(), name.as_bytes()));
    }
}
