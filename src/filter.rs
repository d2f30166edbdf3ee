//! Which records a client wants to see: by key, by headers, by comparisons on the value's JSON.
//!
//! A condition is `/price>=10;/type=="x";/a/b exists`: JSON Pointers (RFC 6901) with fixed
//! comparisons, all of which must hold. There is nothing in it that can take long: no expressions, no
//! patterns, at most eight comparisons. A value that is not JSON, or a pointer that leads nowhere,
//! holds for none but `!=`.
//!
//! A filter of a policy ([`Filter::policy`]) decides what may be shown, so it wants nothing that it
//! cannot judge: there a field that is missing, or that stands twice, holds for nothing at all.

mod field;
pub mod template;

use std::cmp::Ordering;
use std::collections::BTreeMap;

use serde::de::IgnoredAny;
use serde_json::Value;

use crate::record::ConsumerRecord;

/// Most comparisons of one condition.
const MOST: usize = 8;
/// Most levels of a pointer.
const DEEPEST: usize = 16;
/// Longest condition, in bytes.
const LONGEST: usize = 2 << 10;

/// What a filter is made from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Spec {
    /// Comparisons on the value.
    pub condition: Option<String>,
    /// The whole key.
    pub key: Option<String>,
    /// The beginning of the key.
    pub key_prefix: Option<String>,
    /// Headers: one of the name has the value.
    pub headers: BTreeMap<String, String>,
}

/// Why a condition cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("column {column}: {expected}")]
pub struct ConditionError {
    /// Where, in characters from 1.
    pub column: usize,
    /// What was expected there.
    pub expected: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Comparison {
    Exists,
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Condition {
    pointer: String,
    comparison: Comparison,
    against: Value,
}

/// A filter, ready to be asked.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Filter {
    conditions: Vec<Condition>,
    keys: Vec<Vec<u8>>,
    key_prefixes: Vec<Vec<u8>>,
    headers: Vec<(String, Vec<u8>)>,
    /// Whether it says what may be shown, and not only what a client wants to see.
    is_policy: bool,
}

/// What a comparison is with, as it was written.
enum Against {
    Value(Value),
    /// In a template: whatever the claim is.
    Claim(String),
}

impl Filter {
    /// A filter as `spec` says.
    ///
    /// # Errors
    ///
    /// The condition cannot be read.
    pub fn new(spec: &Spec) -> Result<Self, ConditionError> {
        let conditions = match &spec.condition {
            Some(text) => conditions(text)?,
            None => Vec::new(),
        };
        let bytes = |text: &String| text.clone().into_bytes();
        Ok(Self {
            conditions,
            keys: spec.key.iter().map(bytes).collect(),
            key_prefixes: spec.key_prefix.iter().map(bytes).collect(),
            headers: spec
                .headers
                .iter()
                .map(|(name, value)| (name.clone(), bytes(value)))
                .collect(),
            is_policy: false,
        })
    }

    /// The same filter, of a policy: it wants no record that it cannot judge without doubt.
    #[must_use]
    pub fn policy(self) -> Self {
        Self {
            is_policy: true,
            ..self
        }
    }

    /// Wants what both want.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        self.conditions.extend(other.conditions);
        self.keys.extend(other.keys);
        self.key_prefixes.extend(other.key_prefixes);
        self.headers.extend(other.headers);
        self.is_policy |= other.is_policy;
        self
    }

    /// Whether every record is wanted.
    pub fn is_all(&self) -> bool {
        self.conditions.is_empty()
            && self.keys.is_empty()
            && self.key_prefixes.is_empty()
            && self.headers.is_empty()
    }

    /// The one key that a record that is wanted has, if it is known.
    pub fn key(&self) -> Option<&[u8]> {
        self.keys.first().map(Vec::as_slice)
    }

    /// Whether the record is wanted. What costs least is asked first.
    pub fn wants(&self, record: &ConsumerRecord) -> bool {
        self.may_want(record) && self.wants_value(record)
    }

    /// Whether the record is wanted as far as its key and headers say, which costs little.
    pub fn may_want(&self, record: &ConsumerRecord) -> bool {
        let key = record.key.as_deref();
        if !self.keys.iter().all(|wanted| key == Some(wanted)) {
            return false;
        }
        let begins = |prefix: &Vec<u8>| key.is_some_and(|key| key.starts_with(prefix));
        if !self.key_prefixes.iter().all(begins) {
            return false;
        }
        self.headers
            .iter()
            .all(|(name, value)| self.wants_header(record, name, value))
    }

    /// Of a name that stands more than once a client means any, while a policy cannot tell which one
    /// the record's readers go by.
    fn wants_header(&self, record: &ConsumerRecord, name: &str, value: &[u8]) -> bool {
        let named = || record.headers.iter().filter(|header| header.name == name);
        let has = named().any(|header| header.value.as_deref() == Some(value));
        has && (!self.is_policy || named().nth(1).is_none())
    }

    fn wants_value(&self, record: &ConsumerRecord) -> bool {
        if self.conditions.is_empty() {
            return true;
        }
        let value = record.value.as_deref();
        if self.is_policy {
            return self.conditions.iter().all(|condition| {
                let found = value.and_then(|json| field::unambiguous(json, &condition.pointer));
                found.is_some_and(|found| condition.surely_holds(&found))
            });
        }
        let json = value
            .and_then(|value| serde_json::from_slice::<Value>(value).ok())
            .unwrap_or_default();
        self.conditions
            .iter()
            .all(|condition| match json.pointer(&condition.pointer) {
                Some(found) => condition.holds(found),
                None => condition.comparison == Comparison::NotEqual,
            })
    }
}

impl Condition {
    fn holds(&self, found: &Value) -> bool {
        let order = || order(found, &self.against);
        match self.comparison {
            Comparison::Exists => true,
            Comparison::Equal => same(found, &self.against),
            Comparison::NotEqual => !same(found, &self.against),
            Comparison::Less => order() == Some(Ordering::Less),
            Comparison::LessOrEqual => matches!(order(), Some(Ordering::Less | Ordering::Equal)),
            Comparison::Greater => order() == Some(Ordering::Greater),
            Comparison::GreaterOrEqual => {
                matches!(order(), Some(Ordering::Greater | Ordering::Equal))
            }
        }
    }

    /// The same of a policy, where things that cannot be compared are not different: 7 and "7" may well
    /// mean the same, and nobody can say what a list is to a text.
    fn surely_holds(&self, found: &Value) -> bool {
        let is_comparable = match self.comparison {
            Comparison::Exists => true,
            Comparison::NotEqual => are_comparable(found, &self.against),
            Comparison::Equal
            | Comparison::Less
            | Comparison::LessOrEqual
            | Comparison::Greater
            | Comparison::GreaterOrEqual => is_exact(found) && is_exact(&self.against),
        };
        is_comparable && self.holds(found)
    }
}

/// Whether two values that are not the same are surely different ones. Whatever is there is different
/// from null.
fn are_comparable(found: &Value, against: &Value) -> bool {
    match (found, against) {
        (Value::Number(_), Value::Number(_)) => is_exact(found) && is_exact(against),
        (Value::String(_), Value::String(_)) | (Value::Bool(_), Value::Bool(_)) => true,
        (_, Value::Null) => true,
        _ => false,
    }
}

/// Whether a number is held as it was written. Where integers are too large for 64 bits, and beyond
/// what a double counts one by one, different numbers become the same.
fn is_exact(value: &Value) -> bool {
    const COUNTED: f64 = 9_007_199_254_740_992.0;
    match value {
        Value::Number(number) if !number.is_i64() && !number.is_u64() => {
            number.as_f64().is_some_and(|float| float.abs() < COUNTED)
        }
        _ => true,
    }
}

/// 1 and 1.0 are the same number.
fn same(a: &Value, b: &Value) -> bool {
    a == b || (a.is_number() && b.is_number() && order(a, b) == Some(Ordering::Equal))
}

/// Numbers by value, strings by their code points; other things have no order.
fn order(a: &Value, b: &Value) -> Option<Ordering> {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => {
            // As doubles, large integers that are different would be the same.
            if let (Some(a), Some(b)) = (a.as_i64(), b.as_i64()) {
                return Some(a.cmp(&b));
            }
            if let (Some(a), Some(b)) = (a.as_u64(), b.as_u64()) {
                return Some(a.cmp(&b));
            }
            a.as_f64()?.partial_cmp(&b.as_f64()?)
        }
        (Value::String(a), Value::String(b)) => Some(a.cmp(b)),
        _ => None,
    }
}

/// Reads a condition without places for claims.
fn conditions(text: &str) -> Result<Vec<Condition>, ConditionError> {
    let parsed = parse(text, false)?.into_iter();
    let conditions = parsed.map(|(pointer, comparison, against)| Condition {
        pointer,
        comparison,
        against: match against {
            Against::Value(value) => value,
            // None is read without `claims`.
            Against::Claim(name) => Value::String(name),
        },
    });
    Ok(conditions.collect())
}

/// Reads a condition, with `claims` one that may have claims in the place of values. Strings may hold
/// `;` and comparison signs, so it is read from left to right.
fn parse(text: &str, claims: bool) -> Result<Vec<(String, Comparison, Against)>, ConditionError> {
    let mut reader = Reader {
        text,
        at: 0,
        claims,
    };
    if text.len() > LONGEST {
        return Err(reader.expected(&format!("a condition has at most {LONGEST} bytes")));
    }
    let mut all = Vec::new();
    loop {
        reader.spaces();
        if all.len() == MOST {
            return Err(reader.expected(&format!("at most {MOST} comparisons")));
        }
        all.push(reader.condition()?);
        reader.spaces();
        if reader.rest().is_empty() {
            return Ok(all);
        }
        if !reader.takes(";") {
            return Err(reader.expected("`;` and another comparison, or the end"));
        }
    }
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
    claims: bool,
}

impl<'a> Reader<'a> {
    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn spaces(&mut self) {
        let rest = self.rest();
        self.at += rest.len() - rest.trim_start().len();
    }

    fn takes(&mut self, token: &str) -> bool {
        let found = self.rest().starts_with(token);
        if found {
            self.at += token.len();
        }
        found
    }

    fn expected(&self, what: &str) -> ConditionError {
        let before = self.text.get(..self.at).unwrap_or(self.text);
        ConditionError {
            column: before.chars().count() + 1,
            expected: format!("expected {what}"),
        }
    }

    fn condition(&mut self) -> Result<(String, Comparison, Against), ConditionError> {
        let pointer = self.pointer()?;
        self.spaces();
        let comparison = if self.takes("==") {
            Comparison::Equal
        } else if self.takes("!=") {
            Comparison::NotEqual
        } else if self.takes("<=") {
            Comparison::LessOrEqual
        } else if self.takes(">=") {
            Comparison::GreaterOrEqual
        } else if self.takes("<") {
            Comparison::Less
        } else if self.takes(">") {
            Comparison::Greater
        } else if self.takes("exists") {
            Comparison::Exists
        } else {
            return Err(self.expected("==, !=, <, <=, >, >= or exists"));
        };
        let against = if comparison == Comparison::Exists {
            Against::Value(Value::Null)
        } else {
            self.spaces();
            self.value()?
        };
        Ok((pointer, comparison, against))
    }

    fn pointer(&mut self) -> Result<String, ConditionError> {
        let rest = self.rest();
        if !rest.starts_with('/') {
            return Err(self.expected("a JSON Pointer, which begins with /"));
        }
        let end = rest
            .find(|c: char| c.is_whitespace() || matches!(c, '=' | '!' | '<' | '>' | ';'))
            .unwrap_or(rest.len());
        let pointer = rest.get(..end).unwrap_or_default();
        if pointer.matches('/').count() > DEEPEST {
            return Err(self.expected(&format!("at most {DEEPEST} levels")));
        }
        self.at += end;
        Ok(pointer.to_owned())
    }

    /// A JSON string, number, true, false or null.
    fn value(&mut self) -> Result<Against, ConditionError> {
        let rest = self.rest();
        if self.claims && rest.starts_with('{') {
            let name = rest.get(1..).and_then(|rest| rest.split_once('}'));
            let Some((name, _)) = name else {
                return Err(self.expected("{claim}"));
            };
            let claim = template::claim_name(name).map_err(|what| ConditionError {
                expected: what,
                ..self.expected("")
            })?;
            self.at += name.len() + 2;
            return Ok(Against::Claim(claim));
        }
        let end = if rest.starts_with('"') {
            // Whatever stands in the string.
            let mut values = serde_json::Deserializer::from_str(rest).into_iter::<IgnoredAny>();
            let _ = values.next();
            values.byte_offset()
        } else {
            rest.find(|c: char| c.is_whitespace() || c == ';')
                .unwrap_or(rest.len())
        };
        match serde_json::from_str::<Value>(rest.get(..end).unwrap_or_default()) {
            Ok(value) if !value.is_array() && !value.is_object() => {
                self.at += end;
                Ok(Against::Value(value))
            }
            _ => Err(self.expected("a JSON string, number, true, false or null")),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;
    use crate::record::{Header, TimestampType};

    fn record(key: Option<&str>, value: &str, headers: &[(&str, &str)]) -> ConsumerRecord {
        let bytes = |text: &str| Bytes::copy_from_slice(text.as_bytes());
        ConsumerRecord {
            topic: Arc::from("t"),
            partition: 0,
            offset: 0,
            timestamp: 0,
            timestamp_type: TimestampType::Create,
            key: key.map(bytes),
            value: Some(bytes(value)),
            headers: headers
                .iter()
                .map(|(name, value)| Header {
                    name: (*name).to_owned(),
                    value: Some(bytes(value)),
                })
                .collect(),
        }
    }

    fn holds(condition: &str, value: &str) -> bool {
        let spec = Spec {
            condition: Some(condition.to_owned()),
            ..Spec::default()
        };
        Filter::new(&spec).unwrap().wants(&record(None, value, &[]))
    }

    #[test]
    fn comparisons_hold_as_written() {
        let value = r#"{"price":10,"type":"x;y","deep":{"a":[1,null]},"ok":true,"big":1e3}"#;
        for condition in [
            "/price>=10",
            "/price == 10.0",
            "/price<11;/price>9",
            r#"/type=="x;y""#,
            r#" /type > "x" ; /ok==true "#,
            "/deep/a/0 exists",
            "/deep/a/1==null",
            "/none!=1",
            "/big==1000",
            r#"/price!="10""#,
        ] {
            assert!(holds(condition, value), "{condition}");
        }
        for condition in [
            "/price>10",
            "/none==1",
            "/none exists",
            r#"/price>"1""#,
            "/ok>false",
            "/price>=10;/ok==false",
        ] {
            assert!(!holds(condition, value), "{condition}");
        }
        assert!(!holds("/a exists", "not json"));
    }

    #[test]
    fn large_integers_are_compared_whole() {
        let value = r#"{"id":18446744073709551614}"#;
        assert!(holds("/id==18446744073709551614", value));
        assert!(!holds("/id==18446744073709551615", value));
        assert!(holds("/id<18446744073709551615", value));
    }

    fn policy(condition: &str) -> Filter {
        let spec = Spec {
            condition: Some(condition.to_owned()),
            ..Spec::default()
        };
        Filter::new(&spec).unwrap().policy()
    }

    #[test]
    fn a_policy_shows_what_it_can_judge_alone() {
        let shows =
            |condition: &str, value: &str| policy(condition).wants(&record(None, value, &[]));
        for (condition, value) in [
            (r#"/a!="x""#, r#"{"a":"y"}"#),
            (r#"/a!="x""#, r#"{"a":"y","b":1,"b":2}"#),
            ("/a!=1", r#"{"a":2}"#),
            ("/a!=true", r#"{"a":false}"#),
            ("/a!=null", r#"{"a":[1]}"#),
            ("/a==null", r#"{"a":null}"#),
            ("/a==1;/a<1.5", r#"{"a":1.0}"#),
            ("/a exists", r#"{"a":null}"#),
        ] {
            assert!(shows(condition, value), "{condition} {value}");
        }
        for condition in [
            r#"/a!="x""#,
            "/a!=1",
            "/a!=null",
            r#"/a=="y""#,
            "/a exists",
            "/a<1",
            "/a>=1",
        ] {
            for value in [
                "",
                "null",
                "7",
                "not json",
                r#"{"a":"y""#,
                r#"{"a":"y"} {"a":"y"}"#,
                "{}",
                r#"{"b":"y"}"#,
                r#"{"a":"y","a":"y"}"#,
                r#"{"a":2,"a":2}"#,
                r#"{"a":"x","\u0061":"y"}"#,
            ] {
                assert!(!shows(condition, value), "{condition} {value}");
            }
            let mut gone = record(None, "", &[]);
            gone.value = None;
            assert!(!policy(condition).wants(&gone), "{condition}");
        }
    }

    #[test]
    fn in_a_policy_what_cannot_be_compared_is_not_different() {
        let shows =
            |condition: &str, value: &str| policy(condition).wants(&record(None, value, &[]));
        for (condition, value) in [
            (r#"/a!="7""#, r#"{"a":7}"#),
            ("/a!=7", r#"{"a":"7"}"#),
            (r#"/a!="x""#, r#"{"a":["x"]}"#),
            (r#"/a!="x""#, r#"{"a":{"b":"x"}}"#),
            (r#"/a!="x""#, r#"{"a":null}"#),
            (
                "/a==100000000000000000001",
                r#"{"a":100000000000000000002}"#,
            ),
            (
                "/a!=100000000000000000001",
                r#"{"a":100000000000000000002}"#,
            ),
            ("/a!=9007199254740993", r#"{"a":9007199254740993.0}"#),
        ] {
            assert!(!shows(condition, value), "{condition} {value}");
        }
    }

    #[test]
    fn a_policy_wants_its_header_once() {
        let spec = Spec {
            headers: BTreeMap::from([("h".to_owned(), "a".to_owned())]),
            ..Spec::default()
        };
        let (client, policy) = (
            Filter::new(&spec).unwrap(),
            Filter::new(&spec).unwrap().policy(),
        );
        let once = record(None, "1", &[("h", "a"), ("other", "b"), ("other", "c")]);
        assert!(client.wants(&once) && policy.wants(&once));
        for headers in [[("h", "a"), ("h", "b")], [("h", "a"), ("h", "a")]] {
            let twice = record(None, "1", &headers);
            assert!(client.wants(&twice) && !policy.wants(&twice) && !policy.may_want(&twice));
        }
        let both = client.and(policy);
        assert!(!both.wants(&record(None, "1", &[("h", "a"), ("h", "a")])));
    }

    #[test]
    fn what_cannot_be_read_is_said_with_its_column() {
        for (condition, column) in [
            ("", 1),
            ("price>1", 1),
            ("/price", 7),
            ("/price=1", 7),
            ("/price>", 8),
            ("/price>x", 8),
            ("/price>[1]", 8),
            ("/ä>1 /b>2", 6),
            ("/a exists;", 11),
        ] {
            let spec = Spec {
                condition: Some(condition.to_owned()),
                ..Spec::default()
            };
            let error = Filter::new(&spec).unwrap_err();
            assert_eq!(error.column, column, "{condition}: {error}");
        }
        let many = ["/a exists"; 9].join(";");
        let spec = Spec {
            condition: Some(many),
            ..Spec::default()
        };
        assert!(Filter::new(&spec).is_err());
    }

    #[test]
    fn keys_and_headers_are_compared_too() {
        let with = |spec: Spec| Filter::new(&spec).unwrap();
        let record = record(Some("user-1"), "1", &[("h", "a"), ("h", "b")]);
        let key = |key: &str| Spec {
            key: Some(key.to_owned()),
            ..Spec::default()
        };
        assert!(with(key("user-1")).wants(&record) && !with(key("user")).wants(&record));
        let prefix = |prefix: &str| Spec {
            key_prefix: Some(prefix.to_owned()),
            ..Spec::default()
        };
        assert!(with(prefix("user-")).wants(&record) && !with(prefix("x")).wants(&record));
        let header = |value: &str| Spec {
            headers: BTreeMap::from([("h".to_owned(), value.to_owned())]),
            ..Spec::default()
        };
        assert!(with(header("b")).wants(&record) && !with(header("c")).wants(&record));
    }

    proptest! {
        #[test]
        fn no_condition_makes_it_fail(text in "\\PC{0,80}", value in "\\PC{0,40}") {
            let spec = Spec { condition: Some(text), ..Spec::default() };
            if let Ok(filter) = Filter::new(&spec) {
                filter.wants(&record(None, &value, &[]));
            }
        }
    }
}
