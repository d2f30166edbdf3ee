//! What only a tail may be asked for, checked, with the rest filled in.

use std::sync::Arc;

use super::Flow;
use crate::auth::policy::RecordVisibility;
use crate::codec::projection::Fields;
use crate::kafka::tail::OnLag;
use crate::position::{PositionError, StartPosition};
use crate::session::protocol::client::{At, Conflate, From, FromName, OnDecodeError, Subscribe};
use crate::session::protocol::server::Error;
use crate::session::rules::Rules;
use crate::session::subscription::options::{Common, Topics, check_start, invalid, start_time};
use crate::stream::encoder::RecordView;
use crate::stream::event_format::{Shape, Transport, Undecodable};

/// Most topics of a tail.
const MAX_TOPICS: usize = 16;
/// Records a second, as streams have it.
const MIN_RATE: f64 = 0.1;
const MAX_RATE: f64 = 1_000.0;

/// A tail, checked.
#[derive(Debug)]
pub struct Options {
    /// What subscriptions of every kind have.
    pub common: Common,
    /// The topics.
    pub topics: Vec<Arc<str>>,
    /// Where it begins.
    pub from: StartPosition,
    /// How much may go.
    pub flow: Flow,
    /// What becomes of it when it falls behind.
    pub on_lag: OnLag,
    /// Most records a second.
    pub max_rate: Option<f64>,
    /// Of records that wait only the newest of each key goes.
    pub conflate: bool,
    /// How records are shown, and which.
    pub(crate) view: RecordView,
}

impl Options {
    /// Checks what a client asked for of a tail. Numbers out of range are moved into it.
    ///
    /// # Errors
    ///
    /// What cannot be, with its field.
    pub fn new(mut asked: Subscribe, rules: &Rules) -> Result<Self, Error> {
        if asked.pattern.is_some() {
            return Err(invalid(
                "pattern",
                "a tail follows topics by their names; give topics, or a group",
            ));
        }
        let Topics::Names(topics) = Topics::new(asked.topics.take(), None)? else {
            return Err(invalid("topics", "expected names"));
        };
        if topics.len() > MAX_TOPICS {
            return Err(invalid(
                "topics",
                format!("a tail has at most {MAX_TOPICS}"),
            ));
        }
        // Without `isolation`, what the gateway's readers are set to: known once it is open.
        let mut common = Common::new(asked, FromName::Latest, rules)?;
        let asked = &mut common.asked;

        let undecodable = match common.on_decode_error {
            _ if !common.strict => Undecodable::Deliver,
            OnDecodeError::Deliver => Undecodable::Deliver,
            OnDecodeError::Skip => Undecodable::Skip,
            OnDecodeError::Close => Undecodable::Mark,
            OnDecodeError::Dlq => {
                return Err(invalid(
                    "on_decode_error",
                    "a tail has no dead letters; deliver, skip or close",
                ));
            }
        };
        let fields = match &asked.fields {
            None => None,
            Some(text) => Some(
                Fields::parse(text)
                    .ok_or_else(|| invalid("fields", format!("expected {}", Fields::EXPECTED)))?,
            ),
        };
        asked.max_rate = asked.max_rate.map(|rate| rate.clamp(MIN_RATE, MAX_RATE));
        let view = RecordView {
            transport: Transport::Ws(Shape {
                max_record: common.max_record,
                undecodable,
            }),
            formats: common.formats,
            bare: false,
            fields,
            filter: common.filter.take().unwrap_or_default(),
            // Nothing, until it is known who asks.
            visibility: RecordVisibility::Of(Vec::new()),
        };
        Ok(Self {
            from: begin(common.from.clone(), &topics)?,
            flow: if common.credit {
                Flow::Credit {
                    records: 0,
                    bytes: None,
                }
            } else {
                Flow::Window {
                    records: common.window_records,
                    bytes: common.window_bytes,
                }
            },
            on_lag: *asked.on_lag.get_or_insert_default(),
            max_rate: asked.max_rate,
            conflate: asked.conflate == Some(Conflate::Key),
            view,
            topics,
            common,
        })
    }
}

fn begin(from: From, topics: &[Arc<str>]) -> Result<StartPosition, Error> {
    let expected = |what: &str| {
        invalid(
            "from",
            format!(
                "{what}; expected latest, earliest, -N (the last N of each partition), \
                 {{\"timestamp\": ms}}, a list of {{topic, partition, offset}}, a position that the \
                 gateway gave, an ISO 8601 time or topic:partition@offset,…"
            ),
        )
    };
    match from {
        From::Name(FromName::Latest) => Ok(StartPosition::Latest),
        From::Name(FromName::Earliest) => Ok(StartPosition::Earliest),
        From::Name(FromName::Committed) => {
            Err(expected("a tail has no group that could have committed"))
        }
        From::Time { timestamp } => start_time(timestamp).map(StartPosition::Time),
        From::Positions(positions) => written_out(&positions, topics),
        From::Last(count) => match count.checked_neg() {
            Some(count) if count >= 0 => Ok(StartPosition::Last(count)),
            _ => Err(expected("a number counts from the end")),
        },
        From::Text(text) => StartPosition::parse(&text.0).map_err(|error| match error {
            PositionError::Seconds(_) => invalid("from", error),
            _ => expected("this is none of what can be"),
        }),
    }
}

/// Positions as the text that says the same.
fn written_out(positions: &[At], topics: &[Arc<str>]) -> Result<StartPosition, Error> {
    if positions.is_empty() {
        return Err(invalid("from", "expected at least one position"));
    }
    let mut entries = Vec::with_capacity(positions.len());
    for (index, at) in positions.iter().enumerate() {
        check_start(index, at)?;
        if !topics.iter().any(|topic| **topic == *at.topic) {
            return Err(invalid(
                &format!("from[{index}].topic"),
                "expected one of the topics of this subscription",
            ));
        }
        entries.push(format!("{}:{}@{}", at.topic, at.partition, at.offset));
    }
    Ok(StartPosition::ResumeToken(entries.join(",")))
}
