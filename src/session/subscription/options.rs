//! What a client asks for with `subscribe`: what subscriptions of every kind have is checked here, with
//! the rest filled in, and so is which fields a kind has. What only one kind has is in its own `options.rs`.

use std::sync::Arc;
use std::time::Duration;

use super::group::options::Options as GroupOptions;
use super::tail::options::Options as TailOptions;
use crate::codec::parse::Formats;
use crate::filter::{Filter, Spec};
use crate::position::number_ms;
use crate::reader_options::Isolation;
use crate::session::protocol::Id;
use crate::session::protocol::client::{
    At, Batch, FilterSpec, Flow, FlowMode, Format, From, FromName, Mode, OnDecodeError, Subscribe,
};
use crate::session::protocol::server::{Error, Subscribed};
use crate::session::rules::Rules;
use crate::topic_pattern::Pattern;

/// Longest `sub`, in characters.
const MAX_SUB: usize = 64;
/// Most topics of a subscription.
const MAX_TOPICS: usize = 64;
/// Largest record in a frame that a client may ask for: the largest record, escaped.
const MAX_RECORD: i64 = 8 << 20;

/// A subscription of either kind, checked.
#[derive(Debug)]
pub enum Options {
    /// Of a group.
    Group(Box<GroupOptions>),
    /// Of a tail.
    Tail(Box<TailOptions>),
}

impl Options {
    /// Checks what a client asked for. Its name has been checked.
    ///
    /// # Errors
    ///
    /// What cannot be, with its field.
    pub fn new(asked: Subscribe, rules: &Rules) -> Result<Self, Error> {
        let mode = mode(&asked);
        check_kind(&asked, mode)?;
        Ok(match mode {
            Mode::Group => Self::Group(Box::new(GroupOptions::new(asked, rules)?)),
            Mode::Tail => Self::Tail(Box::new(TailOptions::new(asked, rules)?)),
        })
    }
}

/// Which topics.
#[derive(Debug, Clone)]
pub enum Topics {
    /// These.
    Names(Vec<Arc<str>>),
    /// All that match.
    Pattern(Pattern),
}

impl Topics {
    /// Checks the topics that a client asked for.
    ///
    /// # Errors
    ///
    /// What cannot be, with its field.
    pub fn new(names: Option<Vec<String>>, pattern: Option<&str>) -> Result<Self, Error> {
        match (names, pattern) {
            (Some(_), Some(_)) => Err(invalid("pattern", "topics or pattern, not both")),
            (None, None) => Err(invalid("topics", "topics or pattern is missing")),
            (None, Some(pattern)) => Pattern::new(pattern)
                .map(Self::Pattern)
                .map_err(|error| invalid("pattern", error)),
            (Some(names), None) => {
                if names.is_empty() || names.len() > MAX_TOPICS {
                    return Err(invalid(
                        "topics",
                        format!("expected 1 to {MAX_TOPICS} names"),
                    ));
                }
                let mut all: Vec<Arc<str>> = Vec::with_capacity(names.len());
                for (index, name) in names.into_iter().enumerate() {
                    crate::kafka::metadata::check_topic_name(&name)
                        .map_err(|fault| invalid(&format!("topics[{index}]"), fault))?;
                    let name = Arc::from(name);
                    if !all.contains(&name) {
                        all.push(name);
                    }
                }
                Ok(Self::Names(all))
            }
        }
    }
}

/// What subscriptions of every kind have, checked.
#[derive(Debug)]
pub struct Common {
    /// What the client calls it by.
    pub sub: String,
    /// Where it starts, as the client said it.
    pub from: From,
    /// The client says how much may go.
    pub credit: bool,
    /// Most records of the window, where it does not.
    pub window_records: u64,
    /// Most bytes of the window.
    pub window_bytes: u64,
    /// Most records of a frame.
    pub batch_records: usize,
    /// Most bytes of a frame.
    pub batch_bytes: u64,
    /// How long a frame waits for more.
    pub linger: Duration,
    /// How keys and values are written.
    pub formats: Formats,
    /// A fallback of these is a decode error.
    pub strict: bool,
    /// What a decode error does.
    pub on_decode_error: OnDecodeError,
    /// Which records are wanted.
    pub filter: Option<Filter>,
    /// Largest record in a frame.
    pub max_record: usize,
    /// What the client asked for, which its kind of subscription completes by what it does without being
    /// asked: the client is told all of it.
    pub(crate) asked: Box<Subscribe>,
    mode: Mode,
    key_format: Format,
    value_format: Format,
    max_record_bytes: i64,
}

impl Common {
    /// Checks what a client asked for. It starts at `start` unless that says otherwise. Numbers out of
    /// range are moved into it.
    ///
    /// # Errors
    ///
    /// What cannot be, with its field.
    pub fn new(mut asked: Subscribe, start: FromName, rules: &Rules) -> Result<Self, Error> {
        let key_format = asked.key_format.unwrap_or(Format::String);
        let value_format = asked.value_format.unwrap_or(Format::Json);
        let known = |format: Format, field: &str| {
            let schema = "this gateway offers no schemas; auto, json, string or binary";
            format.known().ok_or_else(|| invalid(field, schema))
        };
        let formats = Formats {
            key: known(key_format, "key_format")?,
            value: known(value_format, "value_format")?,
        };
        let filter = asked.filter.as_ref().map(filter).transpose()?;
        let on_decode_error = asked.on_decode_error.unwrap_or_default();
        let max_record_bytes = clamp(asked.max_record_bytes, 1 << 20, 1 << 10, MAX_RECORD);

        let flow = asked.flow.unwrap_or_default();
        let flow_mode = flow.mode.unwrap_or_default();
        let credit = flow_mode == FlowMode::Credit;
        let most = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        let records = clamp(flow.records, 500, 1, most(rules.max_inflight_records));
        let bytes = clamp(flow.bytes, 4 << 20, 1 << 10, most(rules.max_inflight_bytes));
        asked.flow = Some(Flow {
            mode: Some(flow_mode),
            records: (!credit).then_some(records),
            bytes: (!credit).then_some(bytes),
        });

        let batch = asked.batch.unwrap_or_default();
        let batch_records = clamp(batch.records, 100, 1, 10_000);
        let batch_bytes = clamp(batch.bytes, 256 << 10, 1 << 10, 1 << 20);
        let linger_ms = clamp(batch.linger_ms, 0, 0, 10_000);
        asked.batch = Some(Batch {
            records: Some(batch_records),
            bytes: Some(batch_bytes),
            linger_ms: Some(linger_ms),
        });

        let unsigned = |number: i64| u64::try_from(number).unwrap_or(0);
        Ok(Self {
            sub: asked.sub.clone(),
            from: asked.from.take().unwrap_or(From::Name(start)),
            credit,
            window_records: unsigned(records),
            window_bytes: unsigned(bytes),
            batch_records: usize::try_from(batch_records).unwrap_or(1),
            batch_bytes: unsigned(batch_bytes),
            linger: millis(linger_ms),
            formats,
            strict: on_decode_error != OnDecodeError::Deliver
                && (key_format != Format::Auto || value_format != Format::Auto),
            on_decode_error,
            filter,
            max_record: usize::try_from(max_record_bytes).unwrap_or(1 << 20),
            mode: mode(&asked),
            asked: Box::new(asked),
            key_format,
            value_format,
            max_record_bytes,
        })
    }

    /// The request's id.
    pub fn id(&self) -> Option<&Id> {
        self.asked.id.as_ref()
    }

    /// Which records of transactions it is to see, if the client said it.
    pub fn isolation(&self) -> Option<Isolation> {
        self.asked.isolation
    }

    /// What the client is told of its subscription, which has these topics now.
    pub fn subscribed(&self, topics: &[Arc<str>]) -> Subscribed {
        let asked = (*self.asked).clone();
        Subscribed {
            id: asked.id,
            sub: asked.sub,
            mode: self.mode,
            topics: topics.iter().map(|topic| topic.to_string()).collect(),
            pattern: asked.pattern,
            group: asked.group,
            instance_id: asked.instance_id,
            from: self.from.clone(),
            offset_reset: asked.offset_reset,
            ack: asked.ack,
            flow: asked.flow.unwrap_or_default(),
            batch: asked.batch.unwrap_or_default(),
            key_format: self.key_format,
            value_format: self.value_format,
            on_decode_error: self.on_decode_error,
            isolation: asked.isolation,
            ack_timeout_ms: asked.ack_timeout_ms,
            max_deliveries: asked.max_deliveries,
            dlq: asked.dlq,
            revoke_grace_ms: asked.revoke_grace_ms,
            order: asked.order,
            filter: asked.filter,
            commit_interval_ms: asked.commit_interval_ms,
            max_record_bytes: self.max_record_bytes,
            fields: asked.fields,
            on_lag: asked.on_lag,
            max_rate: asked.max_rate,
            conflate: asked.conflate,
            positions: None,
            position: None,
            backlog: None,
        }
    }
}

/// What a subscription is: what it says, or of a group if it names one.
pub fn mode(asked: &Subscribe) -> Mode {
    asked.mode.unwrap_or(if asked.group.is_some() {
        Mode::Group
    } else {
        Mode::Tail
    })
}

/// Checks what the client calls the subscription by.
pub(crate) fn check_sub(sub: &str) -> Result<(), Error> {
    if sub.is_empty() || sub.chars().count() > MAX_SUB {
        return Err(invalid(
            "sub",
            format!("expected 1 to {MAX_SUB} characters"),
        ));
    }
    Ok(())
}

/// Refuses what only other kinds have: whoever asks for it expects something of it.
fn check_kind(asked: &Subscribe, mode: Mode) -> Result<(), Error> {
    let fields = [
        (Mode::Tail, "fields", asked.fields.is_some()),
        (Mode::Tail, "on_lag", asked.on_lag.is_some()),
        (Mode::Tail, "max_rate", asked.max_rate.is_some()),
        (Mode::Tail, "conflate", asked.conflate.is_some()),
        (Mode::Group, "group", asked.group.is_some()),
        (Mode::Group, "instance_id", asked.instance_id.is_some()),
        (Mode::Group, "offset_reset", asked.offset_reset.is_some()),
        (Mode::Group, "ack", asked.ack.is_some()),
        (
            Mode::Group,
            "ack_timeout_ms",
            asked.ack_timeout_ms.is_some(),
        ),
        (
            Mode::Group,
            "max_deliveries",
            asked.max_deliveries.is_some(),
        ),
        (Mode::Group, "dlq", asked.dlq.is_some()),
        (
            Mode::Group,
            "revoke_grace_ms",
            asked.revoke_grace_ms.is_some(),
        ),
        (Mode::Group, "order", asked.order.is_some()),
        (
            Mode::Group,
            "commit_interval_ms",
            asked.commit_interval_ms.is_some(),
        ),
    ];
    let other = |(of, _, given): &&(Mode, &str, bool)| *of != mode && *given;
    let Some((of, field, _)) = fields.iter().find(other) else {
        return Ok(());
    };
    let message = match of {
        Mode::Tail => "only of a tail, which has no group",
        Mode::Group => {
            "only of a group; a tail (mode tail, or no group) has no group, acknowledgements or \
             commits"
        }
    };
    Err(invalid(field, message))
}

/// A time that a subscription starts at, in milliseconds since 1970.
pub(crate) fn start_time(timestamp: i64) -> Result<i64, Error> {
    if timestamp < 0 {
        return Err(invalid(
            "from.timestamp",
            "expected milliseconds since 1970",
        ));
    }
    number_ms(timestamp).map_err(|error| invalid("from.timestamp", error))
}

/// Checks one of the offsets that a subscription starts at, the one at `index`.
pub(crate) fn check_start(index: usize, at: &At) -> Result<(), Error> {
    if at.offset < 0 || at.partition < 0 {
        return Err(invalid(
            &format!("from[{index}]"),
            "a partition and an offset are 0 or more",
        ));
    }
    Ok(())
}

pub(crate) fn invalid(field: &str, message: impl std::fmt::Display) -> Error {
    Error {
        field: Some(field.to_owned()),
        ..Error::new("invalid_subscription", format!("{field}: {message}"))
    }
}

pub(crate) fn clamp(given: Option<i64>, default: i64, low: i64, high: i64) -> i64 {
    given.unwrap_or(default).clamp(low, high.max(low))
}

pub(crate) fn millis(ms: i64) -> Duration {
    Duration::from_millis(u64::try_from(ms).unwrap_or(0))
}

fn filter(spec: &FilterSpec) -> Result<Filter, Error> {
    let spec = Spec {
        condition: spec.condition.clone(),
        key: spec.key.clone(),
        key_prefix: spec.key_prefix.clone(),
        headers: spec.headers.clone().unwrap_or_default(),
    };
    Filter::new(&spec).map_err(|error| invalid("filter.where", error))
}
