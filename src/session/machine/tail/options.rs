//! A tail's options: what the client asked for, checked, with the rest filled in.

use std::sync::Arc;
use std::time::Duration;

use super::super::Rules;
use super::super::options::{
    MAX_RECORD, Pace, Topics, check_sub, clamp, filter, formats, invalid, topics,
};
use super::Flow;
use crate::auth::policy::RecordVisibility;
use crate::codec::projection::Fields;
use crate::kafka::admin::Isolation;
use crate::kafka::tail::OnLag;
use crate::position::{PositionError, StartPosition, number_ms};
use crate::session::protocol::Id;
use crate::session::protocol::client::{
    self, At, Conflate, Format, FromName, Mode, OnDecodeError, Subscribe,
};
use crate::session::protocol::server::{Error, Subscribed};
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
    /// What the client calls it by.
    pub sub: String,
    /// The topics.
    pub topics: Vec<Arc<str>>,
    /// Where it begins.
    pub from: StartPosition,
    /// How much may go.
    pub flow: Flow,
    /// Most records of a frame.
    pub batch_records: usize,
    /// Most bytes of a frame.
    pub batch_bytes: u64,
    /// How long a frame waits for more.
    pub linger: Duration,
    /// What becomes of it when it falls behind.
    pub on_lag: OnLag,
    /// Most records a second.
    pub max_rate: Option<f64>,
    /// Of records that wait only the newest of each key goes.
    pub conflate: bool,
    /// How records are shown, and which.
    pub(crate) view: RecordView,
    /// What is said of all this.
    said: Subscribed,
}

impl Options {
    /// Checks what a client asked for. Numbers out of range are moved into it.
    ///
    /// # Errors
    ///
    /// What cannot be, with its field.
    pub fn new(asked: Subscribe, rules: &Rules) -> Result<Self, Error> {
        check_sub(&asked.sub)?;
        of_groups(&asked)?;
        if asked.pattern.is_some() {
            return Err(invalid(
                "pattern",
                "a tail follows topics by their names; give topics, or a group",
            ));
        }
        let Topics::Names(topics) = topics(asked.topics, None)? else {
            return Err(invalid("topics", "expected names"));
        };
        if topics.len() > MAX_TOPICS {
            return Err(invalid(
                "topics",
                format!("a tail has at most {MAX_TOPICS}"),
            ));
        }
        let said_from = asked.from.unwrap_or(client::From::Name(FromName::Latest));
        let key_format = asked.key_format.unwrap_or(Format::String);
        let value_format = asked.value_format.unwrap_or(Format::Json);
        let formats = formats(key_format, value_format)?;
        let on_decode_error = asked.on_decode_error.unwrap_or_default();
        let any_format = key_format == Format::Auto && value_format == Format::Auto;
        let undecodable = match on_decode_error {
            _ if any_format => Undecodable::Deliver,
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
        let pace = Pace::new(asked.flow, asked.batch, rules);
        let max_record_bytes = clamp(asked.max_record_bytes, 1 << 20, 1 << 10, MAX_RECORD);
        let fields = match &asked.fields {
            None => None,
            Some(text) => Some(
                Fields::parse(text)
                    .ok_or_else(|| invalid("fields", format!("expected {}", Fields::EXPECTED)))?,
            ),
        };
        let on_lag = asked.on_lag.unwrap_or_default();
        let max_rate = asked.max_rate.map(|rate| rate.clamp(MIN_RATE, MAX_RATE));
        let view = RecordView {
            transport: Transport::Ws(Shape {
                max_record: usize::try_from(max_record_bytes).unwrap_or(1 << 20),
                undecodable,
            }),
            formats,
            bare: false,
            fields,
            filter: asked
                .filter
                .as_ref()
                .map(filter)
                .transpose()?
                .unwrap_or_default(),
            // Nothing, until it is known who asks.
            visibility: RecordVisibility::Of(Vec::new()),
        };
        Ok(Self {
            said: Subscribed {
                id: asked.id,
                sub: asked.sub.clone(),
                mode: Mode::Tail,
                topics: topics.iter().map(|topic| topic.to_string()).collect(),
                pattern: None,
                group: None,
                instance_id: None,
                from: said_from.clone(),
                offset_reset: None,
                ack: None,
                flow: pace.flow,
                batch: pace.batch,
                key_format,
                value_format,
                on_decode_error,
                // Without it, what the gateway's readers are set to: known once it is open.
                isolation: asked.isolation,
                ack_timeout_ms: None,
                max_deliveries: None,
                dlq: None,
                revoke_grace_ms: None,
                order: None,
                filter: asked.filter,
                commit_interval_ms: None,
                max_record_bytes,
                fields: asked.fields,
                on_lag: Some(on_lag),
                max_rate,
                conflate: asked.conflate,
                positions: None,
                position: None,
                backlog: None,
            },
            sub: asked.sub,
            from: begin(said_from, &topics)?,
            flow: if pace.credit {
                Flow::Credit {
                    records: 0,
                    bytes: None,
                }
            } else {
                Flow::Window {
                    records: pace.records,
                    bytes: pace.bytes,
                }
            },
            batch_records: pace.batch_records,
            batch_bytes: pace.batch_bytes,
            linger: pace.linger,
            on_lag: match on_lag {
                client::OnLag::Catchup => OnLag::Catchup,
                client::OnLag::Skip => OnLag::Skip,
                client::OnLag::Close => OnLag::Close,
            },
            max_rate,
            conflate: asked.conflate == Some(Conflate::Key),
            view,
            topics,
        })
    }

    /// The request's id.
    pub fn id(&self) -> Option<&Id> {
        self.said.id.as_ref()
    }

    /// Which records of transactions it is to see, as asked.
    pub fn isolation(&self) -> Option<Isolation> {
        self.said.isolation.map(Isolation::from)
    }

    /// What the client is told of its subscription, but for where it stands.
    pub fn subscribed(self) -> Subscribed {
        self.said
    }
}

/// What only groups have is refused: whoever asks for it expects something of it.
fn of_groups(asked: &Subscribe) -> Result<(), Error> {
    let given = [
        ("group", asked.group.is_some()),
        ("instance_id", asked.instance_id.is_some()),
        ("offset_reset", asked.offset_reset.is_some()),
        ("ack", asked.ack.is_some()),
        ("ack_timeout_ms", asked.ack_timeout_ms.is_some()),
        ("max_deliveries", asked.max_deliveries.is_some()),
        ("dlq", asked.dlq.is_some()),
        ("revoke_grace_ms", asked.revoke_grace_ms.is_some()),
        ("order", asked.order.is_some()),
        ("commit_interval_ms", asked.commit_interval_ms.is_some()),
    ];
    if let Some((field, _)) = given.iter().find(|(_, given)| *given) {
        return Err(invalid(
            field,
            "only of a group; a tail (mode tail, or no group) has no group, acknowledgements or \
             commits",
        ));
    }
    Ok(())
}

fn begin(from: client::From, topics: &[Arc<str>]) -> Result<StartPosition, Error> {
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
        client::From::Name(FromName::Latest) => Ok(StartPosition::Latest),
        client::From::Name(FromName::Earliest) => Ok(StartPosition::Earliest),
        client::From::Name(FromName::Committed) => {
            Err(expected("a tail has no group that could have committed"))
        }
        client::From::Time { timestamp } if timestamp >= 0 => number_ms(timestamp)
            .map(StartPosition::Time)
            .map_err(|error| invalid("from.timestamp", error)),
        client::From::Time { .. } => Err(invalid(
            "from.timestamp",
            "expected milliseconds since 1970",
        )),
        client::From::Positions(positions) => written_out(&positions, topics),
        client::From::Last(count) => match count.checked_neg() {
            Some(count) if count >= 0 => Ok(StartPosition::Last(count)),
            _ => Err(expected("a number counts from the end")),
        },
        client::From::Text(text) => StartPosition::parse(&text.0).map_err(|error| match error {
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
        if at.offset < 0 || at.partition < 0 {
            return Err(invalid(
                &format!("from[{index}]"),
                "a partition and an offset are 0 or more",
            ));
        }
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
