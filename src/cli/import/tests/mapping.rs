//! The tables of names: that they are sound, and that docs/compatibility.md prints them. `UPDATE_SNAPSHOTS=1`
//! writes it anew.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::Path;

use super::super::mapping::{Rule, Rules};
use super::super::{client, confluent, karapace, strimzi};
use crate::config::is_setting;
use crate::kafka::client::table_for_all;

const PRODUCTS: [(&str, Rules); 3] = [
    ("Confluent REST Proxy", confluent::RULES),
    ("Strimzi's bridge", strimzi::RULES),
    ("Karapace", karapace::RULES),
];

/// Settings that a later version has; until then the lines are comments that say so.
const TO_COME: [&str; 1] = ["schema.registry_url"];

fn property(path: &str) -> Option<&str> {
    ["properties", "producer", "consumer", "admin"]
        .iter()
        .find_map(|table| path.strip_prefix(&format!("kafka.{table}.")))
}

#[test]
fn every_row_leads_to_a_setting_or_says_why_not() {
    for (_, rules) in PRODUCTS {
        for (name, rule) in rules {
            if let Rule::To(path) = rule {
                let known = match property(path) {
                    Some(property) => table_for_all(property).is_some(),
                    None => is_setting(path) || TO_COME.contains(path),
                };
                assert!(known, "{name} -> {path}");
            }
        }
    }
    for (name, rule) in client::RULES {
        if let Rule::To(property) = rule {
            assert!(table_for_all(property).is_some(), "{name} -> {property}");
        }
    }
}

#[test]
fn every_name_has_one_row() {
    let tables = PRODUCTS
        .iter()
        .map(|(_, rules)| *rules)
        .chain([client::RULES]);
    for rules in tables {
        let names: BTreeSet<&str> = rules.iter().map(|(name, _)| *name).collect();
        assert_eq!(names.len(), rules.len());
    }
}

#[test]
fn the_mapping_in_the_docs_is_the_one_in_the_code() {
    const BEGIN: &str = "<!-- import: begin -->\n";
    const END: &str = "<!-- import: end -->";
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/compatibility.md");
    let text = std::fs::read_to_string(&path).expect("the page");
    let (before, rest) = text.split_once(BEGIN).expect("the tables' begin");
    let (_, after) = rest.split_once(END).expect("the tables' end");
    let expected = format!("{before}{BEGIN}{}{END}{after}", tables());
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some_and(|value| value == "1") {
        std::fs::write(&path, expected).expect("the page is written");
        return;
    }
    assert!(
        text == expected,
        "docs/compatibility.md is out of date: run `UPDATE_SNAPSHOTS=1 cargo test --lib import` and look at the difference"
    );
}

fn tables() -> String {
    let mut out = String::new();
    for (product, rules) in PRODUCTS {
        write_table(&mut out, &format!("From {product}"), rules);
    }
    write_table(
        &mut out,
        "Properties of Kafka's Java clients",
        client::RULES,
    );
    out
}

fn write_table(out: &mut String, title: &str, rules: Rules) {
    let mut row = |text: String| out.push_str(&text);
    row(format!("\n### {title}\n\n| Name | Becomes |\n|---|---|\n"));
    for (name, rule) in rules {
        let mut becomes = String::new();
        match rule {
            Rule::To(path) => {
                let _ = write!(becomes, "`{path}`");
                if TO_COME.contains(path) && !is_setting(path) {
                    becomes.push_str(" (not in this version)");
                }
            }
            Rule::Made(what) => becomes.push_str(what),
            Rule::Not(reason) => {
                let _ = write!(becomes, "nothing: {reason}");
            }
        }
        row(format!("| `{name}` | {becomes} |\n"));
    }
}
