use std::collections::BTreeSet;

use regex::Regex;
use serde_json::Value;

use super::{LONGEST_TOPIC_NAME, TOPIC_NAME};
use crate::api::openapi::document_json;
use crate::kafka::metadata::check_topic_name;

fn document() -> Value {
    serde_json::from_str(&document_json()).unwrap()
}

fn operations(document: &Value) -> impl Iterator<Item = (String, &Value)> {
    let paths = document["paths"].as_object().unwrap();
    paths.iter().flat_map(|(path, item)| {
        let item = item.as_object().unwrap();
        item.iter()
            .map(move |(method, operation)| (format!("{method} {path}"), operation))
    })
}

#[test]
fn the_pattern_of_topic_names_takes_what_the_gateway_takes() {
    let pattern = Regex::new(TOPIC_NAME).unwrap();
    let long = "a".repeat(LONGEST_TOPIC_NAME);
    let too_long = format!("{long}a");
    for name in [
        "a",
        "_",
        "-",
        ".a",
        "..a",
        "...",
        "....",
        "a.",
        "a..",
        "orders.eu-1_x",
        "",
        ".",
        "..",
        "a b",
        "ä",
        "a/b",
        "a\n",
        "*",
        &long,
        &too_long,
    ] {
        let fits = pattern.is_match(name) && name.len() <= LONGEST_TOPIC_NAME;
        assert_eq!(fits, check_topic_name(name).is_ok(), "{name:?}");
    }
}

#[test]
fn each_path_parameter_says_what_it_takes() {
    for (operation, described) in operations(&document()) {
        let parameters = described["parameters"].as_array().into_iter().flatten();
        for parameter in parameters.filter(|one| one["in"] == "path") {
            let schema = &parameter["schema"];
            let bounds = ["pattern", "minLength", "minimum"];
            let is_bound = bounds.iter().any(|bound| schema.get(bound).is_some());
            assert!(is_bound, "{operation}: {parameter}");
            if parameter["name"] == "topic"
                && described["operationId"] != "listDefaultTopicConfigsV3"
            {
                assert_eq!(schema["pattern"], TOPIC_NAME, "{operation}");
            }
        }
    }
}

#[test]
fn bodies_of_requests_have_no_other_fields() {
    fn look(at: &str, schema: &Value, document: &Value, seen: &mut BTreeSet<String>) {
        if let Some(to) = schema["$ref"].as_str() {
            if seen.insert(to.to_owned()) {
                look(to, document.pointer(&to[1..]).unwrap(), document, seen);
            }
            return;
        }
        if schema.get("properties").is_some() {
            assert_eq!(schema["additionalProperties"], false, "{at}");
        }
        let inner = ["properties", "oneOf", "allOf", "anyOf"].map(|name| &schema[name]);
        for one in inner {
            match one {
                Value::Object(map) => map.values().for_each(|one| look(at, one, document, seen)),
                Value::Array(list) => list.iter().for_each(|one| look(at, one, document, seen)),
                _ => {}
            }
        }
        if schema["items"].is_object() {
            look(at, &schema["items"], document, seen);
        }
    }
    let document = document();
    let mut seen = BTreeSet::new();
    for (operation, described) in operations(&document) {
        let Some(contents) = described["requestBody"]["content"].as_object() else {
            continue;
        };
        for content in contents.values() {
            look(&operation, &content["schema"], &document, &mut seen);
        }
    }
    assert!(seen.len() > 20, "{seen:?}");
}

#[test]
fn the_operations_that_are_named_here_are_there() {
    let document = document();
    let known: BTreeSet<&str> = operations(&document)
        .filter_map(|(_, described)| described["operationId"].as_str())
        .collect();
    for id in super::bodies::OPTIONAL {
        assert!(known.contains(id), "{id}");
    }
}

#[test]
fn whole_numbers_have_bounds() {
    for (operation, described) in operations(&document()) {
        let parameters = described["parameters"].as_array().into_iter().flatten();
        for parameter in parameters {
            let schema = &parameter["schema"];
            if schema["type"] == "integer" {
                assert!(schema["minimum"].is_i64(), "{operation}: {parameter}");
                assert!(schema["maximum"].is_i64(), "{operation}: {parameter}");
            }
        }
    }
}
