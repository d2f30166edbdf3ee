//! Whether answers are what the OpenAPI document says: that it has the path, the status and the media type, and
//! that the body is of the schema.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde_json::{Value, json};

use super::http::Reply;

static DOCUMENT: LazyLock<Value> = LazyLock::new(|| {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/openapi/openapi.json");
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
});

/// By method and template, split at slashes.
static OPERATIONS: LazyLock<BTreeMap<(String, Vec<String>), &'static Value>> =
    LazyLock::new(|| {
        let mut operations = BTreeMap::new();
        for (template, item) in DOCUMENT["paths"].as_object().unwrap() {
            for (method, operation) in item.as_object().unwrap() {
                let segments = template.split('/').map(str::to_owned).collect();
                operations.insert((method.to_uppercase(), segments), operation);
            }
        }
        operations
    });

/// The operation that serves a path: one whose template has the most segments in common with it.
fn operation(method: &str, path: &str) -> Option<&'static Value> {
    let path = path.split('?').next().unwrap();
    let segments: Vec<&str> = path.split('/').collect();
    let fits = |template: &[String]| {
        template.len() == segments.len()
            && template
                .iter()
                .zip(&segments)
                .all(|(template, segment)| template.starts_with('{') || template == segment)
    };
    let literal = |template: &[String]| template.iter().filter(|one| !one.starts_with('{')).count();
    OPERATIONS
        .iter()
        .filter(|((known, template), _)| known == method && fits(template))
        .max_by_key(|((_, template), _)| literal(template))
        .map(|(_, operation)| *operation)
}

/// Checks an answer of the gateway to `method` on `path`, from its first slash on.
pub fn check(method: &str, path: &str, reply: &Reply) {
    let place = format!("{method} {path} -> {}", reply.status);
    let operation = operation(method, path)
        .unwrap_or_else(|| panic!("{method} {path} is no operation of the document"));
    let response = &operation["responses"][reply.status.as_str()];
    assert!(
        response.is_object(),
        "{place}: the document has no such status"
    );
    let content = response["content"].as_object();
    let Some(content) = content.filter(|content| !content.is_empty()) else {
        assert!(
            reply.body.is_empty(),
            "{place}: the document says that there is no body"
        );
        return;
    };
    let kind = reply.header("content-type");
    let kind = kind.split(';').next().unwrap().trim();
    let of_kind = content
        .get(kind)
        .unwrap_or_else(|| panic!("{place}: the document has no {kind:?}"));
    let schema = json!({
        "$ref": "#/$defs/it",
        "$defs": {"it": of_kind["schema"]},
        "components": DOCUMENT["components"],
    });
    let validator = jsonschema::validator_for(&schema).unwrap();
    let body = reply.json();
    if let Err(error) = validator.validate(&body) {
        panic!("{place}: {error} at {}: {body}", error.instance_path());
    }
}
