//! A body that is neither JSON nor NDJSON is one value, byte for byte; what else a record has comes
//! as parameters and as headers `Kafka-Header-<name>`.

use axum::http::HeaderMap;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;

use crate::codec::format::Format;
use crate::http::error::ApiError;
use crate::http::extract::{Query, unexpected};
use crate::position::time_ms;
use crate::record::{Header, ProducerRecord};

/// HTTP header names are not case-sensitive and arrive in lower case, so the rest of the name does
/// too.
const PREFIX: &str = "kafka-header-";

/// What the parameters say of the record.
#[derive(Debug, Clone)]
pub struct Meta {
    key: Option<Bytes>,
    partition: Option<i32>,
    timestamp: Option<i64>,
}

impl Meta {
    /// Reads `key`, `key_format`, `partition` and `timestamp`.
    ///
    /// # Errors
    ///
    /// 400 that names the parameter and what was expected.
    pub fn parse(query: &mut Query) -> Result<Self, ApiError> {
        let format: Format = query
            .take_as("key_format", "auto, string or binary")?
            .unwrap_or_default();
        let key = query.take("key")?;
        let key = match (key, format) {
            (None, _) => None,
            (Some(key), Format::Auto | Format::String) => Some(key.into_bytes().into()),
            (Some(key), Format::Binary) => Some(
                STANDARD
                    .decode(&key)
                    .map_err(|_| unexpected("key", &key, "base64 (key_format is binary)"))?
                    .into(),
            ),
            (Some(_), Format::Json) => {
                return Err(unexpected("key_format", "json", "auto, string or binary"));
            }
        };
        let partition = super::partition(query)?;
        let timestamp = match query.take("timestamp")? {
            None => None,
            Some(text) => Some(time_ms(&text).filter(|ms| *ms > 0).ok_or_else(|| {
                unexpected(
                    "timestamp",
                    &text,
                    "milliseconds since 1970 (more than 0) or an ISO 8601 time",
                )
            })?),
        };
        Ok(Self {
            key,
            partition,
            timestamp,
        })
    }

    /// The record with `value`, and with the headers of the request that are meant for it.
    pub fn record(self, headers: &HeaderMap, value: Bytes) -> ProducerRecord {
        ProducerRecord {
            partition: self.partition,
            timestamp: self.timestamp,
            key: self.key,
            value: Some(value),
            headers: record_headers(headers),
        }
    }
}

/// What a request calls the `field` of its record: the value is the whole body, the key a parameter. `None`
/// is the body as a whole.
pub fn place(field: &str) -> Option<String> {
    match field.strip_prefix("/value") {
        Some("") => None,
        Some(inside) => Some(inside.to_owned()),
        None if field.starts_with("/key") => Some("key".to_owned()),
        None => Some(field.to_owned()),
    }
}

/// The headers `Kafka-Header-<name>`, repeats in their order.
pub fn record_headers(headers: &HeaderMap) -> Vec<Header> {
    headers
        .iter()
        .filter_map(|(name, value)| {
            let name = name.as_str().strip_prefix(PREFIX)?;
            Some(Header {
                name: name.to_owned(),
                value: Some(Bytes::copy_from_slice(value.as_bytes())),
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    fn meta(query: &str) -> Result<Meta, ApiError> {
        let mut query = Query::parse(query).unwrap();
        let meta = Meta::parse(&mut query)?;
        query.finish()?;
        Ok(meta)
    }

    #[test]
    fn parameters_and_headers_make_the_record() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("kafka-header-trace", "1"),
            ("content-type", "image/png"),
            ("kafka-header-trace", "2"),
            ("kafka-header-", ""),
        ] {
            headers.append(name, HeaderValue::from_static(value));
        }
        let meta = meta("key=a%20b&partition=2&timestamp=2023-11-14T22:13:20Z").unwrap();
        let record = meta.record(&headers, Bytes::from_static(b"\x00\xff"));
        assert_eq!(record.key.as_deref(), Some(&b"a b"[..]));
        assert_eq!(record.value.as_deref(), Some(&b"\x00\xff"[..]));
        assert_eq!(record.partition, Some(2));
        assert_eq!(record.timestamp, Some(1_700_000_000_000));
        let headers: Vec<(&str, &[u8])> = record
            .headers
            .iter()
            .map(|h| (h.name.as_str(), h.value.as_deref().unwrap()))
            .collect();
        assert_eq!(headers, [("trace", &b"1"[..]), ("trace", b"2"), ("", b"")]);
    }

    #[test]
    fn a_key_may_be_base64_and_an_empty_value_is_a_value() {
        let record = meta("key=%2Fw%3D%3D&key_format=binary")
            .unwrap()
            .record(&HeaderMap::new(), Bytes::new());
        assert_eq!(record.key.as_deref(), Some(&b"\xff"[..]));
        assert_eq!(record.value.as_deref(), Some(&b""[..]));
        assert_eq!(meta("key=").unwrap().key, Some(Bytes::new()));
        assert_eq!(meta("").unwrap().key, None);
    }

    #[test]
    fn the_parts_of_a_record_are_named_as_the_request_has_them() {
        for (field, expected) in [
            ("/value/price", Some("/price")),
            ("/value", None),
            ("/key", Some("key")),
            ("/key/id", Some("key")),
            ("/headers", Some("/headers")),
        ] {
            assert_eq!(place(field).as_deref(), expected, "{field}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        for (query, field) in [
            ("partition=-1", "partition"),
            ("partition=x", "partition"),
            ("timestamp=0", "timestamp"),
            ("timestamp=-5", "timestamp"),
            ("timestamp=soon", "timestamp"),
            ("key=!&key_format=binary", "key"),
            ("key=1&key_format=json", "key_format"),
            ("value_format=json", "value_format"),
        ] {
            let body = meta(query).unwrap_err().into_body();
            assert_eq!(body.field.as_deref(), Some(field), "{query}");
        }
    }
}
