//! Globs next to their definition.

use proptest::prelude::*;

use super::*;

#[test]
fn a_glob_is_about_the_whole_name() {
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
        assert_eq!(
            Glob::new(pattern).matches(name),
            expected,
            "{pattern} {name}"
        );
    }
}

#[test]
fn a_value_stands_for_itself() {
    let glob = Glob::with("user.{sub}.*", &[("{sub}", "a*b")]);
    assert!(glob.matches("user.a*b.x"));
    assert!(!glob.matches("user.aXb.x"));
    assert!(!Glob::with("{sub}", &[("{sub}", "{sub}*")]).matches("{sub}x"));
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
        let fast = Glob::new(&pattern).matches(&name);
        prop_assert_eq!(fast, slowly(pattern.as_bytes(), name.as_bytes()));
    }
}

#[test]
fn a_value_that_looks_like_a_place_is_text() {
    let glob = Glob::with("{iss}/{sub}.*", &[("{sub}", "{iss}"), ("{iss}", "{sub}")]);
    assert!(glob.matches("{sub}/{iss}.x"));
}
