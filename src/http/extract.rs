//! Path and query parameters, refused in our error shape when they cannot be read.

use std::borrow::Cow;
use std::str::FromStr;

use axum::extract::rejection::PathRejection;
use axum::extract::{FromRequestParts, Path as AxumPath};
use axum::http::request::Parts;
use percent_encoding::percent_decode_str;
use serde::de::DeserializeOwned;

use super::credentials::QUERY_CREDENTIALS;
use super::error::ApiError;
use super::own_url::Segment;

/// Path parameters.
#[derive(Debug, Clone, Copy)]
pub struct Path<T>(pub T);

impl<S, T> FromRequestParts<S> for Path<T>
where
    S: Send + Sync,
    T: DeserializeOwned + Send,
{
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        match AxumPath::<T>::from_request_parts(parts, state).await {
            Ok(AxumPath(value)) => Ok(Self(value)),
            Err(PathRejection::FailedToDeserializePathParams(error)) => {
                Err(ApiError::bad_request(error.body_text()).at("path"))
            }
            Err(rejection) => Err(ApiError::internal(format_args!(
                "the parameters of the path: {}",
                rejection.body_text()
            ))),
        }
    }
}

/// Query parameters, taken out one by one; what is left at the end was not expected.
#[derive(Debug, Default)]
pub struct Query {
    pairs: Vec<(String, String)>,
    known: Vec<&'static str>,
}

impl<S: Send + Sync> FromRequestParts<S> for Query {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        Self::parse(parts.uri.query().unwrap_or_default())
    }
}

impl Query {
    /// Splits and decodes a query string.
    ///
    /// # Errors
    ///
    /// 400 when percent-encoding is broken or does not give UTF-8; the parameter is named.
    pub fn parse(query: &str) -> Result<Self, ApiError> {
        let mut pairs = Vec::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let name = decode(name).ok_or_else(|| {
                ApiError::bad_request(format!(
                    "the name of the query parameter {name:?} is not valid percent-encoded UTF-8"
                ))
                .at("query")
            })?;
            let value = decode(value).ok_or_else(|| {
                ApiError::bad_request(format!("{name} is not valid percent-encoded UTF-8"))
                    .at(name.clone().into_owned())
            })?;
            // Credentials are the guard's; to everyone else they are not there.
            if !QUERY_CREDENTIALS.contains(&&*name) {
                pairs.push((name.into_owned(), value.into_owned()));
            }
        }
        Ok(Self {
            pairs,
            known: Vec::new(),
        })
    }

    /// The parameter's text, if it was given.
    ///
    /// # Errors
    ///
    /// 400 when it was given twice.
    pub fn take(&mut self, name: &'static str) -> Result<Option<String>, ApiError> {
        self.known.push(name);
        let Some(at) = self.pairs.iter().position(|(n, _)| n == name) else {
            return Ok(None);
        };
        let (_, value) = self.pairs.remove(at);
        if self.pairs.iter().any(|(n, _)| n == name) {
            return Err(ApiError::bad_request(format!("{name} is given more than once")).at(name));
        }
        Ok(Some(value))
    }

    /// The parameter's text, whatever the case of its name and with or without `-` and `_` in it. Of
    /// several the last one counts: who adds a spelling of its own adds it at the end.
    pub fn take_spelled(&mut self, name: &'static str) -> Option<String> {
        let plain = |name: &str| name.replace(['-', '_'], "").to_ascii_lowercase();
        self.known.push(name);
        let wanted = plain(name);
        let mut taken = None;
        self.pairs.retain_mut(|(given, value)| {
            let is = plain(given) == wanted;
            if is {
                taken = Some(std::mem::take(value));
            }
            !is
        });
        taken
    }

    /// The parameter's value, if it was given. `expected` completes "expected …".
    ///
    /// # Errors
    ///
    /// 400 that names the parameter and what was expected.
    pub fn take_as<T: FromStr>(
        &mut self,
        name: &'static str,
        expected: &str,
    ) -> Result<Option<T>, ApiError> {
        self.take(name)?
            .map(|text| text.parse().map_err(|_| unexpected(name, &text, expected)))
            .transpose()
    }

    /// A whole number within `range`, if it was given.
    ///
    /// # Errors
    ///
    /// 400 that names the parameter and the range.
    pub fn take_number(
        &mut self,
        name: &'static str,
        range: std::ops::RangeInclusive<u64>,
    ) -> Result<Option<u64>, ApiError> {
        let expected = format!("a whole number from {} to {}", range.start(), range.end());
        let number = self.take_as::<u64>(name, &expected)?;
        match number {
            Some(number) if !range.contains(&number) => {
                Err(unexpected(name, &number.to_string(), &expected))
            }
            _ => Ok(number),
        }
    }

    /// The parameters whose names begin with `prefix`, without it.
    pub fn take_prefixed(&mut self, prefix: &'static str) -> Vec<(String, String)> {
        self.known.push(prefix);
        let mut taken = Vec::new();
        self.pairs.retain_mut(|(name, value)| {
            let Some(rest) = name.strip_prefix(prefix) else {
                return true;
            };
            taken.push((rest.to_owned(), std::mem::take(value)));
            false
        });
        taken
    }

    /// All parameters of these names, in the order in which they were given.
    pub fn take_each(&mut self, names: &[&'static str]) -> Vec<(&'static str, String)> {
        self.known.extend(names);
        let mut taken = Vec::new();
        self.pairs.retain_mut(|(name, value)| {
            let Some(known) = names.iter().find(|known| **known == name.as_str()) else {
                return true;
            };
            taken.push((*known, std::mem::take(value)));
            false
        });
        taken
    }

    /// What has not been taken but this, to be put behind another query: each parameter with `&` before it.
    pub(crate) fn without(&self, name: &str) -> String {
        let kept = self.pairs.iter().filter(|(known, _)| known != name);
        kept.map(|(name, value)| format!("&{}={}", Segment(name), Segment(value)))
            .collect()
    }

    /// Refuses whatever has not been taken: a misspelt `from` must not read as "no `from`".
    ///
    /// # Errors
    ///
    /// 400 that names the first unknown parameter and the known ones.
    pub fn finish(self) -> Result<(), ApiError> {
        match self.pairs.first() {
            None => Ok(()),
            Some((name, _)) => Err(ApiError::bad_request(format!(
                "unknown query parameter {name}; expected {}",
                self.known.join(", ")
            ))
            .at(name.clone())),
        }
    }
}

/// 400 for a parameter that does not read as what was expected.
pub fn unexpected(name: &'static str, given: &str, expected: &str) -> ApiError {
    let given: String = given.chars().take(80).collect();
    ApiError::bad_request(format!("{name}: expected {expected}, not {given:?}")).at(name)
}

/// Decodes `+` and percent-encoding; `None` when a `%` is not followed by two hexadecimal digits or
/// the bytes are not UTF-8.
fn decode(text: &str) -> Option<Cow<'_, str>> {
    let bytes = text.as_bytes();
    if !bytes.iter().any(|b| matches!(b, b'%' | b'+')) {
        return Some(Cow::Borrowed(text));
    }
    let broken = bytes.iter().enumerate().any(|(at, b)| {
        *b == b'%'
            && !matches!(bytes.get(at + 1..at + 3), Some(hex) if hex.iter().all(u8::is_ascii_hexdigit))
    });
    if broken {
        return None;
    }
    let spaced = text.replace('+', " ");
    let decoded = percent_decode_str(&spaced).decode_utf8().ok()?.into_owned();
    Some(Cow::Owned(decoded))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(error: ApiError) -> String {
        let body = error.into_body();
        format!("{} [{}]", body.message, body.field.unwrap_or_default())
    }

    #[test]
    fn parameters_are_decoded_and_taken() {
        let mut query = Query::parse("from=a%20b+c&limit=5&&empty").unwrap();
        assert_eq!(query.take("from").unwrap().as_deref(), Some("a b c"));
        assert_eq!(query.take_number("limit", 1..=10).unwrap(), Some(5));
        assert_eq!(query.take("empty").unwrap().as_deref(), Some(""));
        assert_eq!(query.take("none").unwrap(), None);
        query.finish().unwrap();
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        for (query, says) in [
            ("from=%zz", "[from]"),
            ("from=%ff", "[from]"),
            ("%=1", "[query]"),
        ] {
            let error = message(Query::parse(query).unwrap_err());
            assert!(error.contains(says), "{error}");
        }
        let mut query = Query::parse("limit=x&from=a&from=b&form=c").unwrap();
        let error = message(query.take_number("limit", 1..=10).unwrap_err());
        assert_eq!(
            error,
            "limit: expected a whole number from 1 to 10, not \"x\" [limit]"
        );
        assert!(message(query.take("from").unwrap_err()).contains("more than once"));
        let mut query = Query::parse("form=c").unwrap();
        query.take("from").unwrap();
        let error = message(query.finish().unwrap_err());
        assert_eq!(error, "unknown query parameter form; expected from [form]");
    }

    #[test]
    fn a_name_is_taken_in_every_spelling_and_the_last_one_counts() {
        for name in [
            "last_event_id",
            "lastEventId",
            "lastEventID",
            "Last-Event-ID",
            "LASTEVENTID",
        ] {
            let mut query = Query::parse(&format!("from=1&{name}=a&limit=2")).unwrap();
            let taken = query.take_spelled("last_event_id");
            assert_eq!(taken.as_deref(), Some("a"), "{name}");
            assert!(
                query.take("from").unwrap().is_some() && query.take("limit").unwrap().is_some()
            );
            query.finish().unwrap();
        }
        let mut query = Query::parse("from=1&last_event_id=a&lastEventId=b&limit=2").unwrap();
        query.take("from").unwrap();
        assert_eq!(query.take_spelled("last_event_id").as_deref(), Some("b"));
        let mut query = Query::parse("last_event=a").unwrap();
        assert_eq!(query.take_spelled("last_event_id"), None);
        assert!(message(query.finish().unwrap_err()).contains("last_event_id"));
    }

    #[test]
    fn numbers_out_of_range_are_refused() {
        let mut query = Query::parse("limit=11&wait=-1").unwrap();
        assert!(query.take_number("limit", 1..=10).is_err());
        assert!(query.take_number("wait", 0..=10).is_err());
    }
}
