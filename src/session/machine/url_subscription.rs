//! The short way: `/ws?topics=orders&group=web` subscribes at once, so that a client that only
//! prints what comes needs to send nothing.

use std::str::FromStr;

use serde::Deserialize;
use serde::de::value::{Error as ValueError, StrDeserializer};
use serde::de::{DeserializeOwned, IntoDeserializer};

use crate::position::{number_ms, time_ms};
use crate::session::protocol::client::{AckMode, FilterSpec, From, FromText, Subscribe};
use crate::session::protocol::server::Error;

/// The name of the subscription.
pub(super) const SUB: &str = "main";

/// The query's parameters, as they came.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Short {
    /// `topics`, separated by commas.
    pub topics: Option<String>,
    /// `pattern`.
    pub pattern: Option<String>,
    /// `group`.
    pub group: Option<String>,
    /// `instance_id`.
    pub instance_id: Option<String>,
    /// `from`.
    pub from: Option<String>,
    /// `offset_reset`.
    pub offset_reset: Option<String>,
    /// `ack`.
    pub ack: Option<String>,
    /// `key_format`.
    pub key_format: Option<String>,
    /// `value_format`.
    pub value_format: Option<String>,
    /// `where`.
    pub condition: Option<String>,
    /// `fields`.
    pub fields: Option<String>,
    /// `on_lag`.
    pub on_lag: Option<String>,
    /// `max_rate`.
    pub max_rate: Option<String>,
    /// `conflate`.
    pub conflate: Option<String>,
}

impl Short {
    /// The `subscribe` frame that says the same.
    ///
    /// # Errors
    ///
    /// A parameter that says nothing of the kind.
    pub fn subscribe(self) -> Result<Subscribe, Error> {
        let topics = self.topics.map(|topics| {
            let names = topics.split(',').map(str::trim).filter(|n| !n.is_empty());
            names.map(str::to_owned).collect()
        });
        let is_tail = self.group.is_none();
        let ack = named(self.ack, "ack")?;
        Ok(Subscribe {
            sub: SUB.to_owned(),
            topics,
            pattern: self.pattern,
            group: self.group,
            instance_id: self.instance_id,
            from: self
                .from
                .as_deref()
                .map(|text| from(text, is_tail))
                .transpose()?,
            offset_reset: named(self.offset_reset, "offset_reset")?,
            ack: ack.or((!is_tail).then_some(AckMode::Auto)),
            key_format: named(self.key_format, "key_format")?,
            value_format: named(self.value_format, "value_format")?,
            filter: self.condition.map(|condition| FilterSpec {
                condition: Some(condition),
                ..FilterSpec::default()
            }),
            fields: self.fields,
            on_lag: named(self.on_lag, "on_lag")?,
            max_rate: self.max_rate.as_deref().map(rate).transpose()?,
            conflate: named(self.conflate, "conflate")?,
            ..Subscribe::default()
        })
    }
}

fn wrong(field: &str, message: impl std::fmt::Display) -> Error {
    Error {
        field: Some(field.to_owned()),
        ..Error::new("invalid_subscription", format!("{field}: {message}"))
    }
}

/// A value by its name in the protocol.
fn named<T: DeserializeOwned>(text: Option<String>, field: &str) -> Result<Option<T>, Error> {
    let Some(text) = text else {
        return Ok(None);
    };
    let name: StrDeserializer<'_, ValueError> = text.as_str().into_deserializer();
    T::deserialize(name)
        .map(Some)
        .map_err(|error| wrong(field, error))
}

fn rate(text: &str) -> Result<f64, Error> {
    let rate = f64::from_str(text).ok().filter(|rate| rate.is_finite());
    rate.ok_or_else(|| wrong("max_rate", "expected records a second, from 0.1 to 1000"))
}

fn from(text: &str, is_tail: bool) -> Result<From, Error> {
    if is_tail {
        // Its options read what is no name.
        let name: StrDeserializer<'_, ValueError> = text.into_deserializer();
        return Ok(match Deserialize::deserialize(name) {
            Ok(name) => From::Name(name),
            Err(_) => From::Text(FromText(text.to_owned())),
        });
    }
    if let Some(time) = time_ms(text) {
        let timestamp = match text.bytes().all(|b| b.is_ascii_digit()) {
            true => number_ms(time).map_err(|error| wrong("from", error))?,
            false => time.max(0),
        };
        return Ok(From::Time { timestamp });
    }
    let name: StrDeserializer<'_, ValueError> = text.into_deserializer();
    match Deserialize::deserialize(name) {
        Ok(name) => Ok(From::Name(name)),
        Err(_) => positions(text).ok_or_else(|| {
            wrong(
                "from",
                "expected committed, earliest, latest, a time (ISO 8601 or milliseconds) or \
                 topic:partition@offset,…",
            )
        }),
    }
}

fn positions(text: &str) -> Option<From> {
    let all = text.split(',').map(|entry| {
        let (place, offset) = entry.trim().split_once('@')?;
        let (topic, partition) = place.rsplit_once(':')?;
        Some(crate::session::protocol::client::At {
            topic: topic.to_owned(),
            partition: i32::from_str(partition).ok()?,
            offset: i64::from_str(offset).ok()?,
        })
    });
    all.collect::<Option<Vec<_>>>().map(From::Positions)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::protocol::client::{Conflate, Format, FromName};

    fn short(from: Option<&str>, ack: Option<&str>) -> Result<Subscribe, Error> {
        Short {
            topics: Some("orders, payments,".to_owned()),
            group: Some("web".to_owned()),
            from: from.map(str::to_owned),
            ack: ack.map(str::to_owned),
            value_format: Some("binary".to_owned()),
            ..Short::default()
        }
        .subscribe()
    }

    #[test]
    fn a_query_makes_the_same_subscription_as_a_frame() {
        let subscribe = short(Some("earliest"), None).unwrap();
        assert_eq!(
            subscribe.topics,
            Some(vec!["orders".to_owned(), "payments".to_owned()])
        );
        assert_eq!(subscribe.ack, Some(AckMode::Auto));
        assert_eq!(subscribe.value_format, Some(Format::Binary));
        assert_eq!(subscribe.from, Some(From::Name(FromName::Earliest)));
        let time = short(Some("1970-01-01T00:00:05Z"), Some("cumulative")).unwrap();
        assert_eq!(time.from, Some(From::Time { timestamp: 5_000 }));
        assert_eq!(time.ack, Some(AckMode::Cumulative));
        let at = short(Some("orders:0@7"), None).unwrap();
        assert!(matches!(at.from, Some(From::Positions(p)) if p[0].offset == 7));
    }

    #[test]
    fn a_query_without_a_group_makes_a_tail() {
        let tail = Short {
            topics: Some("orders".to_owned()),
            from: Some("-10".to_owned()),
            on_lag: Some("skip".to_owned()),
            max_rate: Some("2.5".to_owned()),
            conflate: Some("key".to_owned()),
            condition: Some("/a exists".to_owned()),
            ..Short::default()
        };
        let tail = tail.subscribe().unwrap();
        assert_eq!((tail.ack, tail.group, tail.mode), (None, None, None));
        assert_eq!(tail.from, Some(From::Text(FromText("-10".to_owned()))));
        assert_eq!(tail.max_rate, Some(2.5));
        assert_eq!(tail.conflate, Some(Conflate::Key));
        assert_eq!(tail.filter.unwrap().condition.as_deref(), Some("/a exists"));
    }

    #[test]
    fn an_invalid_query_is_refused_with_the_parameter_at_fault() {
        assert_eq!(
            short(Some("now"), None).unwrap_err().field.as_deref(),
            Some("from")
        );
        let ack = short(None, Some("never")).unwrap_err();
        assert_eq!(ack.field.as_deref(), Some("ack"));
        assert!(ack.message.contains("cumulative"), "{}", ack.message);
        for rate in ["fast", "NaN", "inf", ""] {
            let short = Short {
                max_rate: Some(rate.to_owned()),
                ..Short::default()
            };
            let error = short.subscribe().unwrap_err();
            assert_eq!(error.field.as_deref(), Some("max_rate"), "{rate}");
        }
    }
}
