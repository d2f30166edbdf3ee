//! What each action allows, and what it implies.

use super::Resource::{Cluster, Group, Topic, Transaction};
use super::*;

fn may(permissions: &[&str], action: Action, resource: Resource<'_>) -> bool {
    let mallory = Identity::of_token("issuer", "mallory*".to_owned());
    let permissions = permissions
        .iter()
        .map(|text| Permission::parse(text, &mallory).unwrap())
        .collect();
    let principal = Principal::with_permissions("mallory*", permissions);
    decide(&principal, action, resource).is_ok()
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
        assert_eq!(
            Permission::parse(text, &Identity::anonymous()),
            Err(error),
            "{text}"
        );
    }
}

#[test]
fn without_authentication_everyone_may_do_everything() {
    decide(&Principal::anonymous(), Action::Admin, Cluster).unwrap();
}

#[test]
fn nothing_is_allowed_above_a_ceiling() {
    let ann = Identity::of_token("issuer", "ann".to_owned());
    let list = |texts: &[&str]| {
        let texts = texts.iter();
        texts
            .map(|text| Permission::parse(text, &ann).unwrap())
            .collect::<Vec<_>>()
    };
    let most = ["consume:orders.*", "group:{sub}-*", "describe:*"];
    for own in [&["admin:*"][..], &["consume:*", "group:*", "produce:*"]] {
        let ann = Principal::below("ann", list(own), list(&most));
        for (action, resource) in [
            (Action::Consume, Topic("orders.eu")),
            (Action::Describe, Topic("orders.eu")),
            (Action::Group, Group("ann-web")),
            (Action::Describe, Topic("payments")),
        ] {
            let allowed = decide(&ann, action, resource);
            assert_eq!(allowed, Ok(()), "{own:?} {action}:{resource}");
            assert!(super::may(&ann, action, resource));
        }
        for (action, resource) in [
            (Action::Consume, Topic("payments")),
            (Action::Produce, Topic("orders.eu")),
            (Action::Group, Group("bob-web")),
            (Action::Consume, Topic("__consumer_offsets")),
            (Action::Describe, Topic("__consumer_offsets")),
            (Action::Transact, Transaction("t")),
            (Action::Admin, Cluster),
        ] {
            let denied = decide(&ann, action, resource);
            assert!(denied.is_err(), "{own:?} {action}:{resource}");
            assert!(!super::may(&ann, action, resource));
        }
        assert!(!ann.may_do_everything());
    }
    // The ceiling gives nothing of itself.
    let little = Principal::below("ann", list(&["consume:orders.eu"]), list(&["admin:*"]));
    assert!(decide(&little, Action::Consume, Topic("orders.eu")).is_ok());
    assert!(decide(&little, Action::Consume, Topic("orders.us")).is_err());
    assert!(!little.may_do_everything());
}

#[test]
fn what_is_above_the_ceiling_is_told_from_what_is_missing() {
    let ann = Identity::of_token("issuer", "ann".to_owned());
    let list = |text: &str| vec![Permission::parse(text, &ann).unwrap()];
    let ann = Principal::below("ann", list("produce:*"), list("consume:orders"));
    let denied = |action| {
        let denied = decide(&ann, action, Topic("orders")).unwrap_err();
        denied.to_string()
    };
    let above = denied(Action::Produce);
    assert!(
        above.contains("produce:orders is above") && above.contains("permissions_allowed"),
        "{above}"
    );
    assert!(denied(Action::Consume).contains("consume:orders is missing"));
}

#[test]
fn a_first_use_creates_a_topic_for_those_who_may_write_to_it_or_create_it() {
    let may_create = |permission: &str, topic: &str| {
        let ann = Identity::of_token("issuer", "ann".to_owned());
        let permissions = vec![Permission::parse(permission, &ann).unwrap()];
        may_create(&Principal::with_permissions("ann", permissions), topic)
    };
    for permission in ["produce:orders", "create:orders", "admin:*"] {
        assert!(may_create(permission, "orders"), "{permission}");
    }
    for permission in [
        "consume:*",
        "describe:*",
        "alter:*",
        "delete:*",
        "group:*",
        "produce:other",
    ] {
        assert!(!may_create(permission, "orders"), "{permission}");
    }
    assert!(super::may_create(&Principal::anonymous(), "orders"));
}
