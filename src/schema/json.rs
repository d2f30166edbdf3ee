//! JSON Schema, drafts 4 to 2020-12 by `$schema`, and 2020-12 without one.
//!
//! What is in the patterns of a schema is matched in linear time, so that no text makes it take for ever;
//! the price is that there is no looking around and no going back in patterns. What a schema refers to is
//! found among the documents that it is compiled with, and nothing is ever fetched.

use std::collections::HashMap;
use std::sync::Arc;

use jsonschema::{PatternOptions, Retrieve, Uri, ValidationError, Validator};
use serde_json::Value;

use super::Part;
use super::checked_json;
use super::violation::{Violation, bounded, describe};

/// Largest pattern when it is compiled, in bytes.
const MAX_PATTERN: usize = 1 << 20;
/// Up to so many bytes of JSON everything that is wrong with it is looked for, in larger ones only the first.
const LOOK_FOR_ALL: usize = 64 << 10;
/// Most characters of what is wrong with a schema.
const MAX_PROBLEM: usize = 400;

/// A compiled schema.
#[derive(Debug)]
pub(super) struct JsonSchema(Validator);

/// The documents that schemas may refer to, by their addresses.
#[derive(Debug, Default, Clone)]
pub(super) struct Documents(Arc<HashMap<String, Arc<Value>>>);

impl Documents {
    pub(super) fn new(by_address: HashMap<String, Arc<Value>>) -> Self {
        Self(Arc::new(by_address))
    }
}

impl Retrieve for Documents {
    fn retrieve(
        &self,
        uri: &Uri<String>,
    ) -> Result<Value, Box<dyn std::error::Error + Send + Sync>> {
        let address = without_fragment(uri.as_str());
        match self.0.get(address) {
            Some(document) => Ok(Value::clone(document)),
            None => {
                Err("no file of schema.folder has this name or $id, and nothing is fetched".into())
            }
        }
    }
}

/// The address without what is behind `#`.
pub(super) fn without_fragment(address: &str) -> &str {
    address.split_once('#').map_or(address, |(base, _)| base)
}

impl JsonSchema {
    /// Compiles the `schema` that is at `address` among `documents`.
    ///
    /// # Errors
    ///
    /// What is wrong with it, in one line.
    pub(super) fn compile(
        schema: &Value,
        address: &str,
        documents: &Documents,
    ) -> Result<Self, String> {
        if !schema.is_object() && !schema.is_boolean() {
            return Err("expected a JSON object, true or false".to_owned());
        }
        jsonschema::options()
            .with_base_uri(address)
            .with_retriever(documents.clone())
            .with_pattern_options(PatternOptions::regex().size_limit(MAX_PATTERN))
            .should_validate_formats(true)
            .build(schema)
            .map(Self)
            .map_err(|error| problem(&error))
    }

    /// Whether `bytes` are JSON that is valid.
    pub(super) fn accepts(&self, bytes: &[u8]) -> bool {
        checked_json::parse(bytes).is_ok_and(|value| self.0.is_valid(&value))
    }

    /// What is wrong with `bytes`, which are the `part` of a record; the schema is known as `name`.
    pub(super) fn violation_in(&self, name: &str, part: Part, bytes: &[u8]) -> Option<Violation> {
        let value = match checked_json::parse(bytes) {
            Ok(value) => value,
            Err(error) => return Some(Violation::not_json(name, part, &error)),
        };
        if self.0.is_valid(&value) {
            return None;
        }
        let errors = if bytes.len() <= LOOK_FOR_ALL {
            self.0
                .iter_errors(&value)
                .map(|error| describe(&error))
                .collect()
        } else {
            let first = self.0.validate(&value).err();
            first.iter().map(describe).collect()
        };
        Some(Violation::of(name, part, errors))
    }
}

/// What is wrong with a schema.
fn problem(error: &ValidationError<'_>) -> String {
    let path = error.instance_path().as_str();
    let text = bounded(&error.to_string().replace('\n', " "), MAX_PROBLEM);
    match path {
        "" => text,
        path => format!("{}: {text}", bounded(path, MAX_PROBLEM)),
    }
}

#[cfg(test)]
mod tests;
