//! A body that is one JSON object, its fields taken one by one, as Confluent REST Proxy reads them: what is no
//! JSON or of the wrong type is 400, a field that is not known, is missing or has an impossible value 422. Each
//! error names the field by its JSON Pointer.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;

use axum::http::StatusCode;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::error::ApiError;
use crate::codec::parse::{Text, escape_pointer, given, short, string, whole};

/// Most elements of a list.
pub(crate) const MOST: usize = 10_000;

/// An object of a body, its fields taken one by one.
pub(crate) struct Object<'a> {
    at: String,
    fields: Vec<(Cow<'a, str>, &'a RawValue)>,
}

/// Without its values, one of which may be a password.
impl fmt::Debug for Object<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.fields.iter().map(|(name, _)| name);
        f.debug_list().entries(names).finish()
    }
}

struct Fields<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de> Deserialize<'de> for Fields<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct FieldsVisitor;
        impl<'de> Visitor<'de> for FieldsVisitor {
            type Value = Fields<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields<'de>, A::Error> {
                let mut fields = Vec::new();
                while let Some(Text(name)) = map.next_key()? {
                    fields.push((name, map.next_value()?));
                }
                Ok(Fields(fields))
            }
        }
        deserializer.deserialize_map(FieldsVisitor)
    }
}

/// 400 for a value that is not of its type.
pub(crate) fn wrong(at: &str, expected: &str, raw: &RawValue) -> ApiError {
    ApiError::bad_request(format!("{at}: expected {expected}, not {}", short(raw)))
        .at(at.to_owned())
}

/// 422 for a value that is of its type and cannot be.
pub(crate) fn unacceptable(at: &str, what: impl fmt::Display) -> ApiError {
    ApiError::unprocessable(format!("{at}: {what}")).at(at.to_owned())
}

impl<'a> Object<'a> {
    /// The whole body, which may have these fields; `None` when there is no body.
    ///
    /// # Errors
    ///
    /// 400, and 422 for a field that is not known or is given twice.
    pub(crate) fn body(body: &'a [u8], known: &[&str]) -> Result<Option<Self>, ApiError> {
        if body.trim_ascii().is_empty() {
            return Ok(None);
        }
        let raw: &RawValue =
            serde_json::from_slice(body).map_err(|error| ApiError::not_json(&error))?;
        if given(Some(raw)).is_none() {
            return Ok(None);
        }
        Self::read(raw, String::new(), known).map(Some)
    }

    fn read(raw: &'a RawValue, at: String, known: &[&str]) -> Result<Self, ApiError> {
        let Ok(Fields(fields)) = serde_json::from_str(raw.get()) else {
            if at.is_empty() {
                let message = format!("expected an object, not {}", short(raw));
                return Err(ApiError::bad_request(message));
            }
            return Err(wrong(&at, "an object", raw));
        };
        let mut seen = HashSet::new();
        for (name, _) in &fields {
            let shown: String = name.chars().take(80).collect();
            let pointer = format!("{at}/{}", escape_pointer(&shown));
            let message = if !known.contains(&&**name) {
                format!("Unrecognized field: {shown}; expected {}", known.join(", "))
            } else if !seen.insert(name.clone()) {
                format!("{shown} is given twice")
            } else {
                continue;
            };
            return Err(ApiError::unprocessable(message).at(pointer));
        }
        Ok(Self { at, fields })
    }

    /// Where the field stands.
    pub(crate) fn pointer(&self, name: &str) -> String {
        format!("{}/{name}", self.at)
    }

    /// The field's value; `null` is none.
    pub(crate) fn get(&self, name: &str) -> Option<&'a RawValue> {
        let (_, raw) = self.fields.iter().find(|(known, _)| known == name)?;
        given(Some(*raw))
    }

    /// A string. A number or a truth value is its text, as Confluent REST Proxy takes it.
    ///
    /// # Errors
    ///
    /// 400 for anything else.
    pub(crate) fn text(&self, name: &str) -> Result<Option<Cow<'a, str>>, ApiError> {
        let Some(raw) = self.get(name) else {
            return Ok(None);
        };
        if let Some(text) = string(raw) {
            return Ok(Some(text));
        }
        match raw.get().as_bytes().first() {
            Some(b'{' | b'[' | b'"') => Err(wrong(&self.pointer(name), "a string", raw)),
            _ => Ok(Some(Cow::Borrowed(raw.get()))),
        }
    }

    /// A whole number; a string that holds one is as good, as Confluent REST Proxy takes it.
    ///
    /// # Errors
    ///
    /// 400 for anything else.
    pub(crate) fn number(&self, name: &str) -> Result<Option<i64>, ApiError> {
        let Some(raw) = self.get(name) else {
            return Ok(None);
        };
        let text = string(raw).unwrap_or(Cow::Borrowed(raw.get()));
        match whole(text.trim()) {
            Some(number) => Ok(Some(number)),
            None => Err(wrong(&self.pointer(name), "a whole number", raw)),
        }
    }

    /// True or false; a string that says so is as good.
    ///
    /// # Errors
    ///
    /// 400 for anything else.
    pub(crate) fn truth(&self, name: &str) -> Result<Option<bool>, ApiError> {
        let Some(raw) = self.get(name) else {
            return Ok(None);
        };
        let text = string(raw).unwrap_or(Cow::Borrowed(raw.get()));
        match &*text {
            "true" => Ok(Some(true)),
            "false" => Ok(Some(false)),
            _ => Err(wrong(&self.pointer(name), "true or false", raw)),
        }
    }

    /// An object, which may have these fields.
    ///
    /// # Errors
    ///
    /// 400 for anything else, 422 for a field that is not known or is given twice.
    pub(crate) fn object(&self, name: &str, known: &[&str]) -> Result<Option<Self>, ApiError> {
        let Some(raw) = self.get(name) else {
            return Ok(None);
        };
        Self::read(raw, self.pointer(name), known).map(Some)
    }

    /// An object whose names are data, each once.
    ///
    /// # Errors
    ///
    /// 400 for anything else, 422 for a name that is given twice or too many of them.
    pub(crate) fn members(
        &self,
        name: &str,
    ) -> Result<Option<Vec<(String, &'a RawValue)>>, ApiError> {
        let Some(raw) = self.get(name) else {
            return Ok(None);
        };
        let at = self.pointer(name);
        let Ok(Fields(fields)) = serde_json::from_str(raw.get()) else {
            return Err(wrong(&at, "an object", raw));
        };
        if fields.len() > MOST {
            return Err(unacceptable(&at, format!("at most {MOST} at once")));
        }
        let mut seen = HashSet::new();
        for (name, _) in &fields {
            if !seen.insert(name.clone()) {
                let shown: String = name.chars().take(80).collect();
                let at = format!("{at}/{}", escape_pointer(&shown));
                return Err(unacceptable(&at, "is given twice"));
            }
        }
        let members = fields.into_iter();
        Ok(Some(
            members
                .map(|(name, raw)| (name.into_owned(), raw))
                .collect(),
        ))
    }

    /// A value that has to be there.
    ///
    /// # Errors
    ///
    /// 422 where it is not.
    pub(crate) fn needed<T>(&self, name: &str, value: Option<T>) -> Result<T, ApiError> {
        value.ok_or_else(|| unacceptable(&self.pointer(name), "is missing"))
    }

    pub(crate) fn list(&self, name: &str) -> Result<Option<Vec<&'a RawValue>>, ApiError> {
        let Some(raw) = self.get(name) else {
            return Ok(None);
        };
        let list: Vec<&RawValue> = serde_json::from_str(raw.get())
            .map_err(|_| wrong(&self.pointer(name), "an array", raw))?;
        if list.len() > MOST {
            let at = self.pointer(name);
            return Err(unacceptable(&at, format!("at most {MOST} at once")));
        }
        Ok(Some(list))
    }

    pub(crate) fn objects(
        &self,
        name: &str,
        known: &[&str],
    ) -> Result<Option<Vec<Object<'a>>>, ApiError> {
        let Some(list) = self.list(name)? else {
            return Ok(None);
        };
        let at = self.pointer(name);
        let objects = list.into_iter().enumerate();
        objects
            .map(|(index, raw)| Object::read(raw, format!("{at}/{index}"), known))
            .collect::<Result<_, _>>()
            .map(Some)
    }
}

/// A body without which there is nothing to do.
pub(crate) fn needed(field: &'static str, what: &str) -> ApiError {
    ApiError::unprocessable(format!("the body is empty; expected {what}")).at(field)
}

/// 422 with a code that the status does not tell.
pub(crate) fn coded(code: u32, at: String, what: impl fmt::Display) -> ApiError {
    unacceptable(&at, what).coded(StatusCode::UNPROCESSABLE_ENTITY, code)
}
