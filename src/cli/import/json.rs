//! Karapace's configuration: one JSON object of plain values.

use std::fmt;

use serde::Deserializer;
use serde::de::{Error, MapAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;

use super::{Entry, Unreadable};

/// Reads the object's members in order, as often as they stand there. A string comes without its quotes, everything
/// else as it is written; `null` is a member that is not set and is left out.
///
/// # Errors
/// It is not an object in JSON, with the line.
pub(super) fn read(text: &str) -> Result<Vec<Entry>, Unreadable> {
    let mut reader = serde_json::Deserializer::from_str(text);
    let wrong = |error: serde_json::Error| {
        // The library's own words can quote what it found, which may be a secret.
        let problem = match error.is_syntax() || error.is_eof() {
            true => format!("not valid JSON (column {})", error.column()),
            false => "expected one JSON object".to_owned(),
        };
        Unreadable::at(error.line(), problem)
    };
    let members = reader.deserialize_map(Members).map_err(wrong)?;
    reader.end().map_err(wrong)?;
    let mut entries = Vec::new();
    for (name, raw) in members {
        // Both are places in one text.
        let at = (raw.get().as_ptr() as usize).saturating_sub(text.as_ptr() as usize);
        let before = &text.as_bytes()[..at.min(text.len())];
        let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
        let value = match serde_json::from_str(raw.get()) {
            Ok(Value::Null) => continue,
            Ok(Value::String(value)) => value,
            // Numbers keep their digits.
            Ok(_) => raw.get().to_owned(),
            Err(_) => return Err(Unreadable::at(line, "the value cannot be read")),
        };
        entries.push(Entry { name, value, line });
    }
    Ok(entries)
}

/// Keeps members that a map would put one upon the other.
struct Members;

impl<'de> Visitor<'de> for Members {
    type Value = Vec<(String, &'de RawValue)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = Vec::new();
        while let Some(name) = map.next_key()? {
            members.push((name, map.next_value().map_err(A::Error::custom)?));
        }
        Ok(members)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_keep_their_lines_and_their_digits() {
        let text =
            "{\n \"a\": \"x\\ny\",\n \"b\": 10,\n\"c\": null, \"d\": false,\n\"a\": {\"e\": 1}}";
        let entries = read(text).expect("sound");
        let found: Vec<_> = entries
            .iter()
            .map(|e| (e.name.as_str(), e.value.as_str(), e.line))
            .collect();
        let expected = [
            ("a", "x\ny", 2),
            ("b", "10", 3),
            ("d", "false", 4),
            ("a", "{\"e\": 1}", 5),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn what_is_no_object_is_refused_with_its_line() {
        for (text, line) in [
            ("[1]", 1),
            ("{\n\"a\": \n}", 3),
            ("{}\n{}", 2),
            ("", 1),
            ("{\"a\": tru}", 1),
        ] {
            let error = read(text).expect_err("no object");
            assert_eq!(error.line.unwrap_or(1).max(1), line, "{text:?}");
        }
    }
}
