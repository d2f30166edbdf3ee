//! What each action allows, and what it implies.

use std::time::Duration;

use super::Resource::{Cluster, Group, Topic, Transaction};
use super::*;
use crate::auth::audit_context::AuditContext;
use crate::config::{AuditTo, TelemetrySettings};
use crate::observe::audit::{Audit, Origin};

fn is_allowed(permissions: &[&str], action: Action, resource: Resource<'_>) -> bool {
    let mallory = Identity::of_token("issuer", "mallory*".to_owned());
    let permissions = permissions
        .iter()
        .map(|text| Permission::parse(text, &mallory).unwrap())
        .collect();
    let principal = Principal::with_permissions("mallory*", permissions);
    authorize(&principal, action, resource).is_ok()
}

#[test]
fn an_action_allows_itself_and_what_it_implies() {
    assert!(is_allowed(
        &["produce:orders"],
        Action::Produce,
        Topic("orders")
    ));
    assert!(!is_allowed(
        &["produce:orders"],
        Action::Consume,
        Topic("orders")
    ));
    assert!(!is_allowed(
        &["produce:orders"],
        Action::Produce,
        Topic("payments")
    ));
    for implying in ["produce:orders", "consume:orders", "describe:orders"] {
        assert!(is_allowed(&[implying], Action::Describe, Topic("orders")));
    }
    assert!(is_allowed(&["group:web"], Action::Describe, Group("web")));
    assert!(!is_allowed(&["group:web"], Action::Describe, Topic("web")));
    assert!(!is_allowed(
        &["consume:web"],
        Action::Describe,
        Group("web")
    ));
    assert!(is_allowed(
        &["describe:web"],
        Action::Describe,
        Group("web")
    ));
    assert!(is_allowed(
        &["transact:t-*"],
        Action::Transact,
        Transaction("t-1")
    ));
    for action in [Action::Create, Action::Alter, Action::Delete] {
        assert!(is_allowed(&[&format!("{action}:x")], action, Topic("x")));
        assert!(!is_allowed(
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
        assert!(is_allowed(&["admin:*"], action, resource));
        assert!(!is_allowed(&[], action, resource));
    }
    assert!(!is_allowed(
        &["consume:*", "describe:*"],
        Action::Consume,
        Topic("__consumer_offsets")
    ));
    assert!(!is_allowed(
        &["consume:*", "describe:*"],
        Action::Describe,
        Topic("__consumer_offsets")
    ));
    assert!(!is_allowed(
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
    authorize(&Principal::anonymous(), Action::Admin, Cluster).unwrap();
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
            let allowed = authorize(&ann, action, resource);
            assert_eq!(allowed, Ok(()), "{own:?} {action}:{resource}");
            assert!(super::is_allowed(&ann, action, resource));
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
            let denied = authorize(&ann, action, resource);
            assert!(denied.is_err(), "{own:?} {action}:{resource}");
            assert!(!super::is_allowed(&ann, action, resource));
        }
        assert!(!ann.may_do_everything());
    }
    // The ceiling gives nothing of itself.
    let little = Principal::below("ann", list(&["consume:orders.eu"]), list(&["admin:*"]));
    assert!(authorize(&little, Action::Consume, Topic("orders.eu")).is_ok());
    assert!(authorize(&little, Action::Consume, Topic("orders.us")).is_err());
    assert!(!little.may_do_everything());
}

#[test]
fn what_is_above_the_ceiling_is_told_from_what_is_missing() {
    let ann = Identity::of_token("issuer", "ann".to_owned());
    let list = |text: &str| vec![Permission::parse(text, &ann).unwrap()];
    let ann = Principal::below("ann", list("produce:*"), list("consume:orders"));
    let denied = |action| {
        let denied = authorize(&ann, action, Topic("orders")).unwrap_err();
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

#[tokio::test]
async fn what_the_gateway_writes_itself_needs_no_permission_and_stands_in_the_audit_log() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.log");
    let settings = TelemetrySettings {
        audit: AuditTo::File(path.clone()),
        ..TelemetrySettings::default()
    };
    let audit = Audit::open(&settings).unwrap().unwrap();
    let origin = Origin {
        request_id: "r-1".to_owned(),
        gateway_id: "g-1".to_owned(),
        address: None,
        method: "GET".to_owned(),
        path: "/ws".to_owned(),
    };
    let audit_context = AuditContext::new(Some((&audit, origin)), None);
    // Neither a permission nor a ceiling, and a name that is for `admin` only.
    let ann = Principal::below("ann", Vec::new(), Vec::new()).with_audit_context(&audit_context);
    assert!(authorize(&ann, Action::Produce, Topic("__letters")).is_err());
    assert_eq!(is_written_by_gateway(&ann, "__letters"), Ok(()));
    assert!(!super::is_allowed(
        &ann,
        Action::Produce,
        Topic("__letters")
    ));
    audit.flush(Duration::from_secs(60)).await;
    let text = std::fs::read_to_string(&path).unwrap();
    let lines: Vec<serde_json::Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.len(), 2, "{text}");
    for (line, is_allowed) in lines.iter().zip([false, true]) {
        assert_eq!(line["principal"], "ann");
        assert_eq!(line["action"], "produce");
        assert_eq!(line["resource"], "__letters");
        assert_eq!(line["allowed"], is_allowed);
    }
    assert_eq!(
        lines[1]["reason"],
        "the gateway itself writes it (websocket.dead_letter_topic)"
    );
}
