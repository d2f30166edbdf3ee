//! `fields`: parts of a value, named by JSON Pointers. What is not there is left out, and numbers keep
//! their digits.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};

use serde_json::value::RawValue;

use crate::codec::encode;
use crate::record::ConsumerRecord;

/// Most pointers, and most steps of one.
const MOST: usize = 32;
const DEEPEST: usize = 16;

/// The parts that are wanted, as the tree of their names.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(crate) struct Fields {
    under: BTreeMap<String, Self>,
}

impl Fields {
    /// What the parameter expects, for its error.
    pub(crate) const EXPECTED: &'static str =
        "JSON Pointers separated by commas, such as /id,/customer/name (at most 32)";

    /// Reads the parameter.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut fields = Self::default();
        let pointers: Vec<&str> = text.split(',').map(str::trim).collect();
        if pointers.len() > MOST {
            return None;
        }
        for pointer in pointers {
            let steps: Vec<String> = pointer
                .strip_prefix('/')?
                .split('/')
                .map(|step| step.replace("~1", "/").replace("~0", "~"))
                .collect();
            if steps.len() > DEEPEST {
                return None;
            }
            let mut node = &mut fields;
            for step in steps {
                node = node.under.entry(step).or_default();
            }
        }
        Some(fields)
    }

    /// The record with these parts of its value. A value that is not JSON stays as it is.
    pub(crate) fn of(&self, record: &ConsumerRecord) -> ConsumerRecord {
        let mut record = record.clone();
        let json = record
            .value
            .as_deref()
            .and_then(|value| serde_json::from_slice::<&RawValue>(value).ok());
        if let Some(json) = json {
            let mut out = Vec::new();
            self.write(&mut out, json);
            record.value = Some(out.into());
        }
        record
    }

    fn write(&self, out: &mut Vec<u8>, json: &RawValue) {
        if self.under.is_empty() {
            out.extend_from_slice(json.get().as_bytes());
            return;
        }
        out.push(b'{');
        let begin = out.len();
        let object: Option<HashMap<Cow<'_, str>, &RawValue>> =
            serde_json::from_str(json.get()).ok();
        let array: Option<Vec<&RawValue>> = match object {
            Some(_) => None,
            None => serde_json::from_str(json.get()).ok(),
        };
        for (name, under) in &self.under {
            let found = match (&object, &array) {
                (Some(object), _) => object.get(name.as_str()).copied(),
                (None, Some(array)) => name
                    .parse::<usize>()
                    .ok()
                    .and_then(|index| array.get(index).copied()),
                (None, None) => None,
            };
            if let Some(found) = found {
                if out.len() > begin {
                    out.push(b',');
                }
                encode::string(out, name);
                out.push(b':');
                under.write(out, found);
            }
        }
        out.push(b'}');
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::record::TimestampType;

    fn pick(fields: &str, value: &'static str) -> String {
        let record = ConsumerRecord {
            topic: Arc::from("t"),
            partition: 0,
            offset: 0,
            timestamp: 0,
            timestamp_type: TimestampType::Create,
            key: None,
            value: Some(value.into()),
            headers: Vec::new(),
        };
        let picked = Fields::parse(fields).unwrap().of(&record).value.unwrap();
        String::from_utf8(picked.to_vec()).unwrap()
    }

    #[test]
    fn parts_keep_their_place_and_their_digits() {
        let value = r#"{"id":12345678901234567890.10,"a":{"b":[1,{"c":null}],"d":2},"x/y":3}"#;
        assert_eq!(pick("/id", value), r#"{"id":12345678901234567890.10}"#);
        assert_eq!(
            pick("/a/b/1/c, /x~1y,/none", value),
            r#"{"a":{"b":{"1":{"c":null}}},"x/y":3}"#
        );
        assert_eq!(pick("/a,/a/d", value), r#"{"a":{"d":2}}"#);
        assert_eq!(pick("/a", "not json"), "not json");
        assert_eq!(pick("/a", "7"), "{}");
        for bad in ["", "id", "/a,", "a/b"] {
            assert_eq!(Fields::parse(bad), None, "{bad}");
        }
    }
}
