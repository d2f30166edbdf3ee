//! Filters with places for what a token says: `key = "{sub}"`, `where = '/tenant=={org.id}'`.
//!
//! A filter is taken apart when the settings are read, and what is filled in later is a value in a
//! place that is known to hold one. So whatever stands in a claim, it is compared and never read as
//! part of the filter. What cannot be filled in makes no filter: nothing is left out of one.
//!
//! `{name}` in a text is the claim's text; `{{` and `}}` are the braces themselves. In `where`, a
//! place in a string (`"{sub}"`) compares with a text, one without quotes (`{level}`) with whatever
//! the claim is: a text, a number, true or false.

use serde_json::Value;

use super::{Against, Comparison, Condition, Filter, Spec};

/// A filter with places in it.
#[derive(Debug, Clone, PartialEq)]
pub struct Template {
    conditions: Vec<(String, Comparison, Place)>,
    key: Option<Text>,
    key_prefix: Option<Text>,
    headers: Vec<(String, Text)>,
}

/// Why a template cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{problem}")]
pub struct TemplateError {
    /// Which part of it, as the settings name it: `key`, `where`, `header.tenant`.
    pub field: String,
    /// What was expected.
    pub problem: String,
}

/// Why a template cannot be filled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unfilled {
    /// It is not there, or it is empty.
    #[error("the claim {0}, which the token does not have")]
    Missing(String),
    /// It is a list, say.
    #[error("the claim {0} as a text, a number, true or false")]
    WrongKind(String),
}

/// Text and places.
#[derive(Debug, Clone, PartialEq)]
struct Text(Vec<Piece>);

#[derive(Debug, Clone, PartialEq)]
enum Piece {
    Text(String),
    Claim(String),
}

/// What a comparison is with.
#[derive(Debug, Clone, PartialEq)]
enum Place {
    Value(Value),
    Text(Text),
    Claim(String),
}

impl Template {
    /// A template as `spec` says.
    ///
    /// # Errors
    ///
    /// The first part of it that cannot be read.
    pub fn new(spec: &Spec) -> Result<Self, TemplateError> {
        let text = |field: &str, text: &str| {
            Text::new(text).map_err(|problem| TemplateError {
                field: field.to_owned(),
                problem,
            })
        };
        let one = |field: &str, given: &Option<String>| {
            let read = given.as_ref().map(|given| text(field, given));
            read.transpose()
        };
        let of_where = |problem: String| TemplateError {
            field: "where".to_owned(),
            problem,
        };
        let mut conditions = Vec::new();
        if let Some(given) = &spec.condition {
            let parsed = super::parse(given, true).map_err(|error| of_where(error.to_string()))?;
            for (pointer, comparison, against) in parsed {
                if pointer.contains(['{', '}']) {
                    let problem =
                        format!("{pointer}: a claim can stand only for what is compared with");
                    return Err(of_where(problem));
                }
                let place = match against {
                    Against::Claim(name) => Place::Claim(name),
                    Against::Value(Value::String(given)) => Place::Text(text("where", &given)?),
                    Against::Value(value) => Place::Value(value),
                };
                conditions.push((pointer, comparison, place));
            }
        }
        let headers = spec.headers.iter().map(|(name, value)| {
            let value = text(&format!("header.{name}"), value)?;
            Ok((name.clone(), value))
        });
        Ok(Self {
            conditions,
            key: one("key", &spec.key)?,
            key_prefix: one("key_prefix", &spec.key_prefix)?,
            headers: headers.collect::<Result<_, _>>()?,
        })
    }

    /// The claims that it names.
    pub fn claims(&self) -> Vec<&str> {
        let mut texts: Vec<&Text> = self.key.iter().chain(&self.key_prefix).collect();
        texts.extend(self.headers.iter().map(|(_, text)| text));
        let mut names = Vec::new();
        for (_, _, place) in &self.conditions {
            match place {
                Place::Text(text) => texts.push(text),
                Place::Claim(name) => names.push(name.as_str()),
                Place::Value(_) => {}
            }
        }
        for piece in texts.iter().flat_map(|text| &text.0) {
            if let Piece::Claim(name) = piece {
                names.push(name);
            }
        }
        names
    }

    /// The filter with what `claim` gives in its places.
    ///
    /// # Errors
    ///
    /// The first claim that is missing, empty, or of a kind that cannot be compared.
    pub fn fill<'a>(&self, claim: &impl Fn(&str) -> Option<&'a Value>) -> Result<Filter, Unfilled> {
        let bytes = |text: &Text| text.fill(claim).map(String::into_bytes);
        let one = |text: &Option<Text>| text.iter().map(bytes).collect::<Result<Vec<_>, _>>();
        let conditions = self.conditions.iter().map(|(pointer, comparison, place)| {
            let against = match place {
                Place::Value(value) => value.clone(),
                Place::Text(text) => Value::String(text.fill(claim)?),
                Place::Claim(name) => comparable(name, claim)?.clone(),
            };
            Ok(Condition {
                pointer: pointer.clone(),
                comparison: *comparison,
                against,
            })
        });
        let headers = self
            .headers
            .iter()
            .map(|(name, text)| Ok((name.clone(), bytes(text)?)));
        Ok(Filter {
            conditions: conditions.collect::<Result<_, _>>()?,
            keys: one(&self.key)?,
            key_prefixes: one(&self.key_prefix)?,
            headers: headers.collect::<Result<_, _>>()?,
            // Places for claims are what only policies have.
            is_policy: true,
        })
    }
}

impl Text {
    fn new(text: &str) -> Result<Self, String> {
        let mut pieces = Vec::new();
        let mut plain = String::new();
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}']) {
            let (before, brace) = rest.split_at(at);
            plain.push_str(before);
            let after = brace.get(1..).unwrap_or_default();
            // Doubled, a brace is one.
            if let Some(after) = brace.strip_prefix("{{").or(brace.strip_prefix("}}")) {
                plain.push_str(brace.get(..1).unwrap_or_default());
                rest = after;
                continue;
            }
            let Some((name, after)) = after.split_once('}').filter(|_| brace.starts_with('{'))
            else {
                return Err(format!(
                    "{text}: expected {{claim}}, or {{{{ and }}}} for the braces themselves"
                ));
            };
            let name = claim_name(name)?;
            if !plain.is_empty() {
                pieces.push(Piece::Text(std::mem::take(&mut plain)));
            }
            pieces.push(Piece::Claim(name));
            rest = after;
        }
        plain.push_str(rest);
        if !plain.is_empty() {
            pieces.push(Piece::Text(plain));
        }
        Ok(Self(pieces))
    }

    fn fill<'a>(&self, claim: &impl Fn(&str) -> Option<&'a Value>) -> Result<String, Unfilled> {
        let mut out = String::new();
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => out.push_str(text),
                Piece::Claim(name) => match comparable(name, claim)? {
                    Value::String(text) => out.push_str(text),
                    other => out.push_str(&other.to_string()),
                },
            }
        }
        Ok(out)
    }
}

/// A claim's name, or a path of names with dots between them.
pub(super) fn claim_name(name: &str) -> Result<String, String> {
    let sound = name.split('.').all(|part| !part.trim().is_empty()) && !name.contains('{');
    match sound {
        true => Ok(name.to_owned()),
        false => Err(format!(
            "{{{name}}}: expected the name of a claim, or a path of names with dots between them"
        )),
    }
}

/// What the claim says. One that is empty says nothing: as the beginning of a key it would let
/// everything through.
fn comparable<'a>(
    name: &str,
    claim: &impl Fn(&str) -> Option<&'a Value>,
) -> Result<&'a Value, Unfilled> {
    match claim(name) {
        None | Some(Value::Null) => Err(Unfilled::Missing(name.to_owned())),
        Some(Value::String(text)) if text.is_empty() => Err(Unfilled::Missing(name.to_owned())),
        Some(value @ (Value::String(_) | Value::Number(_) | Value::Bool(_))) => Ok(value),
        Some(Value::Array(_) | Value::Object(_)) => Err(Unfilled::WrongKind(name.to_owned())),
    }
}

#[cfg(test)]
mod tests;
