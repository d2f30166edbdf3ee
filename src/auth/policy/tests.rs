//! Which records whom is shown.

use super::super::identity::Identity;
use super::super::permission::Permission;
use super::super::{Grants, Inner};
use super::*;
use crate::record::TimestampType;

fn policies(filters: &[(&str, &str)]) -> Arc<Policies> {
    let filters = filters.iter().map(|(topic, key)| TopicFilterSettings {
        topic: (*topic).to_owned(),
        key: Some((*key).to_owned()),
        ..TopicFilterSettings::default()
    });
    let settings = AuthSettings {
        topic_filters: filters.collect(),
        ..AuthSettings::default()
    };
    Arc::new(Policies::new(&settings).unwrap())
}

fn principal(permission: &str, claims: &[(&str, &str)], policies: &Arc<Policies>) -> Principal {
    let claims = claims
        .iter()
        .map(|(name, value)| ((*name).to_owned(), Value::from(*value)));
    let ann = Identity::of_token("https://id.example", "ann".to_owned());
    let permission = Permission::parse(permission, &ann).unwrap();
    Principal::from_inner(Inner {
        claims: claims.collect(),
        ..Inner::of(ann, Grants::These(vec![permission]))
    })
    .under(policies)
}

fn record(topic: &str, key: &str) -> ConsumerRecord {
    ConsumerRecord {
        topic: Arc::from(topic),
        partition: 0,
        offset: 0,
        timestamp: 0,
        timestamp_type: TimestampType::Create,
        key: Some(bytes::Bytes::copy_from_slice(key.as_bytes())),
        value: None,
        headers: Vec::new(),
    }
}

fn sees(principal: &Principal, topics: &[&str]) -> Result<RecordVisibility, NotVisible> {
    let topics: Vec<Arc<str>> = topics.iter().map(|name| Arc::from(*name)).collect();
    visibility(principal, &topics)
}

#[test]
fn all_filters_that_match_a_topic_hold() {
    let policies = policies(&[("orders*", "{sub}"), ("orders.eu", "{tenant}")]);
    assert_eq!(policies.claims(), ["tenant"]);
    let ann = principal("consume:*", &[("tenant", "acme")], &policies);
    let visibility = sees(&ann, &["orders.us", "users"]).unwrap();
    assert!(visibility.shows(&record("orders.us", "ann")));
    assert!(!visibility.shows(&record("orders.us", "bob")));
    assert!(
        visibility.shows(&record("users", "bob")),
        "no filter is about it"
    );
    assert!(
        !visibility.shows(&record("payments", "ann")),
        "it was not asked for"
    );
    assert_eq!(visibility.key("orders.us"), Some(b"ann".as_slice()));
    assert_eq!(visibility.key("users"), None);
    let both = sees(&ann, &["orders.eu"]).unwrap();
    assert!(!both.shows(&record("orders.eu", "ann")) && !both.shows(&record("orders.eu", "acme")));
}

#[test]
fn a_missing_claim_shows_nothing_and_names_the_filter() {
    let policies = policies(&[("users", "x"), ("orders", "{tenant}")]);
    let ann = principal("consume:*", &[], &policies);
    let not_visible = sees(&ann, &["users", "orders"]).unwrap_err();
    assert_eq!(
        not_visible.to_string(),
        "auth.topic_filters[1] shows records of topic orders by the claim tenant, which the token \
         does not have"
    );
    assert!(!may_see(&ann, "orders") && may_see(&ann, "users"));
}

#[test]
fn only_admin_and_a_gateway_without_authentication_see_everything() {
    let policies = policies(&[("orders", "{tenant}")]);
    for permission in ["consume:*", "alter:*", "consume:orders"] {
        let ann = principal(permission, &[("tenant", "acme")], &policies);
        assert!(sees(&ann, &["orders"]).unwrap().hides(), "{permission}");
    }
    let admin = principal("admin:*", &[], &policies);
    assert_eq!(sees(&admin, &["orders"]), Ok(RecordVisibility::Everything));
    let all = Principal::anonymous().under(&policies);
    assert_eq!(sees(&all, &["orders"]), Ok(RecordVisibility::Everything));
}

#[test]
fn what_cannot_be_read_is_said_with_its_path() {
    let filter = |key: Option<&str>, condition: Option<&str>| TopicFilterSettings {
        topic: "t".to_owned(),
        key: key.map(str::to_owned),
        condition: condition.map(str::to_owned),
        ..TopicFilterSettings::default()
    };
    let settings = AuthSettings {
        topic_filters: vec![
            filter(Some("{sub}"), None),
            filter(Some("{"), None),
            filter(None, Some("/a=={b};c")),
        ],
        ..AuthSettings::default()
    };
    let problems = problems(&settings);
    let paths: Vec<&str> = problems.iter().map(|(path, _)| path.as_str()).collect();
    assert_eq!(
        paths,
        ["auth.topic_filters[1].key", "auth.topic_filters[2].where"]
    );
    assert!(problems[1].1.contains("column 9"), "{problems:?}");
    assert_eq!(Policies::new(&settings).unwrap_err().len(), 2);
}

#[test]
fn a_principal_that_no_api_has_let_in_is_shown_nothing() {
    let policies = policies(&[]);
    let ann = principal("admin:*", &[], &policies);
    assert_eq!(sees(&ann, &["orders"]), Ok(RecordVisibility::Everything));
    let everything = Grants::Everything;
    let unsaid = Principal::from_inner(Inner::of(Arc::clone(ann.identity()), everything));
    assert!(matches!(
        sees(&unsaid, &["orders"]),
        Err(NotVisible::Unsaid { .. })
    ));
    assert!(!may_see(&unsaid, "orders") && may_see(&ann, "orders"));
}

#[test]
fn admin_below_a_ceiling_is_shown_what_filters_leave() {
    let policies = policies(&[("orders", "{sub}")]);
    let all = |text: &str| {
        let ann = Identity::of_token("issuer", "ann".to_owned());
        vec![Permission::parse(text, &ann).unwrap()]
    };
    let below = |most: &str| Principal::below("ann", all("admin:*"), all(most)).under(&policies);
    assert_eq!(
        sees(&below("admin:*"), &["orders"]),
        Ok(RecordVisibility::Everything)
    );
    let visibility = sees(&below("consume:*"), &["orders"]).unwrap();
    assert_ne!(visibility, RecordVisibility::Everything);
}

#[test]
fn a_filter_may_name_the_issuer() {
    let policies = policies(&[("orders", "{iss}/{sub}")]);
    assert!(policies.claims().is_empty());
    let ann = principal("consume:*", &[], &policies);
    let visibility = sees(&ann, &["orders"]).unwrap();
    assert!(visibility.shows(&record("orders", "https://id.example/ann")));
    assert!(!visibility.shows(&record("orders", "https://other.example/ann")));
}
