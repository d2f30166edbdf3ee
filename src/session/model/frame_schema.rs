//! Whether a frame is as the AsyncAPI document says.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde_json::{Value, json};

/// Checks a frame against the document.
///
/// # Panics
///
/// It differs.
pub(crate) fn check(frame: &Value) {
    static SCHEMAS: LazyLock<BTreeMap<String, jsonschema::Validator>> = LazyLock::new(|| {
        let document = crate::session::protocol::asyncapi::document();
        let messages = document["components"]["messages"].as_object();
        let messages = messages.expect("the document has messages");
        messages
            .iter()
            .map(|(kind, message)| {
                let schema = json!({
                    "$ref": message["payload"]["$ref"],
                    "components": document["components"],
                });
                let validator = jsonschema::validator_for(&schema).expect("a schema");
                (kind.clone(), validator)
            })
            .collect()
    });
    let kind = frame["type"].as_str().expect("a type");
    let schema = SCHEMAS.get(kind).unwrap_or_else(|| panic!("{frame}"));
    if let Err(error) = schema.validate(frame) {
        panic!("{frame}: {error}");
    }
}
