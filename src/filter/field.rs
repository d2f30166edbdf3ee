//! One field of a JSON text, for filters that decide what may be shown: it is found only where every
//! reader of the text finds the same.
//!
//! Of a name that stands twice in an object some readers take the first value and some the last. A
//! writer who uses that shows one of them to the gateway and the other to the clients, so such a field
//! counts as not there. What the pointer does not lead through is skipped, and only has to be JSON.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

/// What stands at a JSON Pointer (RFC 6901) in `json`. `None` where that is not JSON, where nothing
/// stands there, and where a name on the way stands twice in its object.
pub(super) fn unambiguous(json: &[u8], pointer: &str) -> Option<Value> {
    // Skipped strings are not checked for this.
    let text = std::str::from_utf8(json).ok()?;
    let mut reader = serde_json::Deserializer::from_str(text);
    let found = At(pointer).deserialize(&mut reader).ok()?;
    reader.end().ok()?;
    found
}

/// Reads a value for what stands at the pointer in it. Pointers have a limited depth, so this does not
/// nest deeper than that.
struct At<'a>(&'a str);

/// Reads the name of a field: whether it is this one.
struct IsNamed<'a>(&'a str);

impl<'de> DeserializeSeed<'de> for At<'_> {
    type Value = Option<Value>;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Self::Value, D::Error> {
        match self.0.is_empty() {
            true => serde::Deserialize::deserialize(reader).map(Some),
            false => reader.deserialize_any(self),
        }
    }
}

impl<'de> Visitor<'de> for At<'_> {
    type Value = Option<Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let (name, rest) = first(self.0);
        let mut found = None;
        while let Some(is_it) = map.next_key_seed(IsNamed(&name))? {
            if !is_it {
                map.next_value::<IgnoredAny>()?;
            } else if found.is_some() {
                return Err(A::Error::custom("a name stands twice"));
            } else {
                found = Some(map.next_value_seed(At(rest))?);
            }
        }
        Ok(found.flatten())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let (name, rest) = first(self.0);
        let wanted = index(&name);
        let mut found = None;
        for at in 0.. {
            if wanted == Some(at) {
                match list.next_element_seed(At(rest))? {
                    Some(value) => found = value,
                    None => break,
                }
            } else if list.next_element::<IgnoredAny>()?.is_none() {
                break;
            }
        }
        Ok(found)
    }

    // The pointer leads into these, where nothing is.

    fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_str<E>(self, _: &str) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }
}

impl<'de> DeserializeSeed<'de> for IsNamed<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<bool, D::Error> {
        reader.deserialize_str(self)
    }
}

impl Visitor<'_> for IsNamed<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E>(self, name: &str) -> Result<bool, E> {
        Ok(name == self.0)
    }
}

/// The first name of a pointer that is not empty, and the rest of the pointer.
fn first(pointer: &str) -> (Cow<'_, str>, &str) {
    let names = pointer.strip_prefix('/').unwrap_or(pointer);
    let end = names.find('/').unwrap_or(names.len());
    let (name, rest) = names.split_at(end);
    let name = match name.contains('~') {
        true => name.replace("~1", "/").replace("~0", "~").into(),
        false => name.into(),
    };
    (name, rest)
}

/// The place in a list that a name of a pointer stands for: without a sign, and without zeros before it.
fn index(name: &str) -> Option<usize> {
    let plain = name.bytes().all(|byte| byte.is_ascii_digit());
    if !plain || (name.len() > 1 && name.starts_with('0')) {
        return None;
    }
    name.parse().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_field_is_found_where_it_stands_once() {
        let text = br#"{"a":{"b":[1,{"c/d":"x"}],"":null},"e":{"big":1e999,"big":1},"f":"\ud800"}"#;
        for (pointer, found) in [
            ("/a/b/0", Some(json!(1))),
            ("/a/b/1/c~1d", Some(json!("x"))),
            ("/a/b", Some(json!([1, {"c/d": "x"}]))),
            ("/a/", Some(Value::Null)),
            ("/a/b/2", None),
            ("/a/b/00", None),
            ("/a/b/+0", None),
            ("/a/b/0/x", None),
            ("/none", None),
            ("/e/big", None),
            ("/f", None),
        ] {
            assert_eq!(unambiguous(text, pointer), found, "{pointer}");
        }
    }

    #[test]
    fn a_field_that_stands_twice_is_not_found() {
        for text in [
            r#"{"a":{"b":1,"b":2}}"#,
            r#"{"a":{"b":1,"b":1}}"#,
            r#"{"a":{"b":1},"a":{"b":2}}"#,
            r#"{"a":{"b":1},"a":{}}"#,
            r#"{"a":{},"a":{"b":1}}"#,
            r#"{"a":7,"a":{"b":1}}"#,
            r#"{"a":{"b":1},"\u0061":{"b":2}}"#,
        ] {
            assert_eq!(unambiguous(text.as_bytes(), "/a/b"), None, "{text}");
        }
        let other = br#"{"c":1,"c":2,"a":{"b":1,"d":1,"d":2}}"#;
        assert_eq!(unambiguous(other, "/a/b"), Some(json!(1)));
    }

    #[test]
    fn what_is_not_json_has_no_fields() {
        let deep = format!("{}1{}", "[".repeat(10_000), "]".repeat(10_000));
        for text in [
            &b""[..],
            b"a",
            b"{\"a\":1",
            b"{\"a\":1}}",
            b"{\"a\":1} x",
            b"{\"a\":1,\"b\":\"\xff\"}",
            b"{'a':1}",
            format!("{{\"a\":{deep}}}").as_bytes(),
        ] {
            assert_eq!(unambiguous(text, "/a"), None);
        }
        let beside = format!("{{\"b\":{deep},\"a\":1}}");
        assert_eq!(unambiguous(beside.as_bytes(), "/a"), Some(json!(1)));
    }

    proptest! {
        /// Where nothing stands twice, it is what the library finds.
        #[test]
        fn the_field_scanner_finds_what_serde_json_finds(
            json in prop::sample::select(vec![
                json!({"a": {"b": [1, 2.5, "x"], "~": true}}),
                json!([[{"a": 1}], null, "a"]),
                json!({"0": {"1": -1}, "a": {"a": {"a": false}}}),
                json!("a"),
            ]),
            names in prop::collection::vec(
                prop::sample::select(vec!["a", "b", "0", "1", "01", "", "~0", "~1", "-"]), 1..4,
            ),
        ) {
            let pointer = format!("/{}", names.join("/"));
            let found = unambiguous(json.to_string().as_bytes(), &pointer);
            prop_assert_eq!(found.as_ref(), json.pointer(&pointer));
        }
    }
}
