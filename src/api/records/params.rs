//! The parameters of reads, taken from the query.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::http::HeaderMap;

use crate::api::records::read::isolation;
use crate::api::records::write::formats;
use crate::codec::projection::Fields;
use crate::filter::{Filter, Spec};
use crate::http::error::ApiError;
use crate::http::extract::{Query, unexpected};
use crate::kafka::Cluster;
use crate::kafka::tail::OnLag;
use crate::position::{PositionError, StartPosition};
use crate::read::error::ReadError;
use crate::read::partitions::{EXPECTED, Partitions};
use crate::stream::params::{Asked, Origin, Until};

/// Longest text of a filter's key or header.
const LONGEST: usize = 4 << 10;
/// Most headers of a filter.
const MOST_HEADERS: usize = 8;
/// Longest `timeout`, in milliseconds: a day.
const LONGEST_TIMEOUT: u64 = 86_400_000;

/// Takes the parameter `partitions`; without it, all are meant.
pub(super) fn partitions(query: &mut Query) -> Result<Partitions, ApiError> {
    match query.take("partitions")? {
        None => Ok(Partitions::default()),
        Some(text) => {
            Partitions::parse(&text).ok_or_else(|| unexpected("partitions", &text, EXPECTED))
        }
    }
}

impl Asked {
    /// Takes all parameters of the query.
    pub(super) fn parse(
        query: &mut Query,
        headers: &HeaderMap,
        cluster: &Cluster,
    ) -> Result<Self, ApiError> {
        let fallback = match query.take("from")? {
            None => StartPosition::Latest,
            Some(text) => StartPosition::parse(&text).map_err(ReadError::Position)?,
        };
        // Clients that stand in for a browser's `EventSource` repeat it in the query, as `lastEventId`.
        let in_query = query.take_spelled("last_event_id");
        // What is not text is no id of ours: it is told so, as any other.
        let in_header = headers
            .get("last-event-id")
            .map(|value| value.to_str().unwrap_or("?").to_owned());
        let ids = in_header.into_iter().chain(in_query);
        let origin = match ids.into_iter().find(|id| !id.is_empty()) {
            Some(id) => Origin::Id(id),
            None => Origin::From(fallback.clone()),
        };
        let until = match query.take("until")? {
            None => None,
            Some(text) => Some(until(&text)?),
        };
        let partitions = partitions(query)?;
        let fields = Fields::take(query)?;
        let bare = match query.take("meta")?.as_deref() {
            None | Some("full") => false,
            Some("none") => true,
            Some(other) => return Err(unexpected("meta", other, "full or none")),
        };
        let on_lag = match query.take("on_lag")?.as_deref() {
            None | Some("catchup") => OnLag::Catchup,
            Some("skip") => OnLag::Skip,
            Some("close") => OnLag::Close,
            Some(other) => return Err(unexpected("on_lag", other, "catchup, skip or close")),
        };
        let ids = query.take("ids")?;
        let (mut every_id, mut timed) = (false, false);
        for id in ids.iter().flat_map(|ids| ids.split(',')) {
            match id.trim() {
                "every" => every_id = true,
                "time" => timed = true,
                other => return Err(unexpected("ids", other, "every, time, or both")),
            }
        }
        let max_rate = match query.take("max_rate")? {
            None => None,
            Some(text) => match text.parse::<f64>() {
                Ok(rate) if (0.1..=1_000.0).contains(&rate) => Some(rate),
                _ => {
                    let expected = "records a second, from 0.1 to 1000";
                    return Err(unexpected("max_rate", &text, expected));
                }
            },
        };
        let conflate = match query.take("conflate")?.as_deref() {
            None => false,
            Some("key") => true,
            Some(other) => return Err(unexpected("conflate", other, "key")),
        };
        Ok(Self {
            origin,
            fallback,
            until,
            limit: query.take_number("limit", 1..=u64::MAX)?,
            timeout: query
                .take_number("timeout", 1..=LONGEST_TIMEOUT)?
                .map(Duration::from_millis),
            partitions,
            filter: filter(query)?,
            fields,
            formats: formats(query)?,
            bare,
            on_lag,
            heartbeat: query
                .take_number("heartbeat", 5..=60)?
                .map(Duration::from_secs),
            retry: query.take_number("retry", 1..=600_000)?,
            every_id,
            timed,
            max_rate,
            conflate,
            isolation: isolation(query, cluster)?,
        })
    }
}

impl Fields {
    /// Takes the parameter `fields`.
    pub(super) fn take(query: &mut Query) -> Result<Option<Self>, ApiError> {
        let Some(text) = query.take("fields")? else {
            return Ok(None);
        };
        let fields =
            Self::parse(&text).ok_or_else(|| unexpected("fields", &text, Self::EXPECTED))?;
        Ok(Some(fields))
    }
}

fn until(text: &str) -> Result<Until, ApiError> {
    let expected = || {
        unexpected(
            "until",
            text,
            "end, a time (ISO 8601 or milliseconds), or a position such as topic:partition@offset,…",
        )
    };
    if text == "end" {
        return Ok(Until::End);
    }
    match StartPosition::parse(text) {
        Ok(StartPosition::Time(time)) => Ok(Until::Time(time)),
        Ok(StartPosition::ResumeToken(resume_token)) => Ok(Until::ResumeToken(resume_token)),
        Err(error @ PositionError::Seconds(_)) => {
            Err(ApiError::bad_request(format!("until: {error}")).at("until"))
        }
        _ => Err(expected()),
    }
}

/// Takes the parameters that say which records are wanted.
pub(crate) fn filter(query: &mut Query) -> Result<Filter, ApiError> {
    let mut headers = BTreeMap::new();
    for (name, value) in query.take_prefixed("header.") {
        if headers.insert(name.clone(), value).is_some() {
            let field = format!("header.{name}");
            return Err(
                ApiError::bad_request(format!("{field} is given more than once")).at(field),
            );
        }
    }
    if headers.len() > MOST_HEADERS {
        return Err(ApiError::bad_request(format!("at most {MOST_HEADERS} headers")).at("header."));
    }
    let spec = Spec {
        condition: query.take("where")?,
        key: query.take("key")?,
        key_prefix: query.take("key_prefix")?,
        headers,
    };
    let texts = spec.key.iter().chain(&spec.key_prefix);
    let texts = texts.chain(spec.headers.iter().flat_map(|(name, value)| [name, value]));
    if texts.into_iter().any(|text| text.len() > LONGEST) {
        return Err(ApiError::bad_request(format!(
            "a key or header to compare with has at most {LONGEST} bytes"
        ))
        .at("key"));
    }
    Filter::new(&spec).map_err(|error| ApiError::bad_request(format!("where: {error}")).at("where"))
}
