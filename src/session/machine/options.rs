//! A subscription's options: what the client asked for, checked, with the rest filled in.

use std::sync::Arc;
use std::time::Duration;

use crate::codec::parse::Formats;
use crate::delivery::{self, Policy, WindowMode};
use crate::filter::{Filter, Spec};
use crate::kafka::admin::Isolation;
use crate::kafka::member;
use crate::position::number_ms;
use crate::record::TopicPartition;
use crate::session::machine::Rules;
use crate::session::protocol::client::{
    AckMode, Batch, Dlq, Flow, FlowMode, Format, From, FromName, Mode, OffsetReset, OnDecodeError,
    Order, Subscribe,
};
use crate::session::protocol::server::{Error, Subscribed};
use crate::session::protocol::{Id, client};
use crate::topic_pattern::Pattern;

/// Longest `sub`, in characters.
const MAX_SUB: usize = 64;
/// Most topics of a subscription.
const MAX_TOPICS: usize = 64;
/// Longest group and instance id, as Kafka's own limit for names in its protocol is far higher.
const MAX_NAME: usize = 249;
/// Largest record in a frame that a client may ask for: the largest record, escaped.
pub(super) const MAX_RECORD: i64 = 8 << 20;

/// Which topics.
#[derive(Debug, Clone)]
pub enum Topics {
    /// These.
    Names(Vec<Arc<str>>),
    /// All that match.
    Pattern(Pattern),
}

/// Where dead letters go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeadLetters {
    /// Nowhere: records come again without end.
    Off,
    /// To the topic that the settings make of the record's own.
    Default(String),
    /// To the client's choice, for which it needs the right.
    Topic(String),
}

impl DeadLetters {
    /// The topic for a record of `topic`.
    pub fn topic(&self, topic: &str) -> Option<String> {
        match self {
            Self::Off => None,
            Self::Default(pattern) => Some(pattern.replace("{topic}", topic)),
            Self::Topic(name) => Some(name.clone()),
        }
    }
}

/// A subscription of a group, checked.
#[derive(Debug)]
pub struct Options {
    /// What the client calls it by.
    pub sub: String,
    /// The group.
    pub group: String,
    /// Of a static member.
    pub instance_id: Option<String>,
    /// Which topics.
    pub topics: Topics,
    /// Where a partition starts of which nothing is committed.
    pub from: member::GroupStart,
    /// The same where that does not say it.
    pub reset: member::OffsetReset,
    /// Which records of transactions are delivered.
    pub isolation: Isolation,
    /// How records are acknowledged and come again.
    pub policy: Policy,
    /// The window's mode.
    pub credit: bool,
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
    /// Where dead letters go.
    pub dead_letters: DeadLetters,
    /// How long a revoked partition waits.
    pub revoke_grace: Duration,
    /// Which records are wanted.
    pub filter: Option<Filter>,
    /// How often is committed.
    pub commit_interval: Duration,
    /// Largest record in a frame.
    pub max_record: usize,
    /// What is said of all this.
    said: Box<Subscribed>,
}

pub(super) fn invalid(field: &str, message: impl std::fmt::Display) -> Error {
    Error {
        field: Some(field.to_owned()),
        ..Error::new("invalid_subscription", format!("{field}: {message}"))
    }
}

pub(super) fn clamp(given: Option<i64>, default: i64, low: i64, high: i64) -> i64 {
    given.unwrap_or(default).clamp(low, high.max(low))
}

pub(super) fn millis(ms: i64) -> Duration {
    Duration::from_millis(u64::try_from(ms).unwrap_or(0))
}

/// What a subscription is: what it says, or of a group if it names one.
pub(super) fn mode(asked: &Subscribe) -> Mode {
    asked.mode.unwrap_or(if asked.group.is_some() {
        Mode::Group
    } else {
        Mode::Tail
    })
}

pub(super) fn check_sub(sub: &str) -> Result<(), Error> {
    if sub.is_empty() || sub.chars().count() > MAX_SUB {
        return Err(invalid(
            "sub",
            format!("expected 1 to {MAX_SUB} characters"),
        ));
    }
    Ok(())
}

pub(super) fn formats(key: Format, value: Format) -> Result<Formats, Error> {
    let known = |format: Format, field: &str| {
        let schema = "this gateway offers no schemas; auto, json, string or binary";
        format.known().ok_or_else(|| invalid(field, schema))
    };
    Ok(Formats {
        key: known(key, "key_format")?,
        value: known(value, "value_format")?,
    })
}

impl std::convert::From<client::Isolation> for Isolation {
    fn from(asked: client::Isolation) -> Self {
        match asked {
            client::Isolation::ReadCommitted => Self::Committed,
            client::Isolation::ReadUncommitted => Self::Uncommitted,
        }
    }
}

impl std::convert::From<Isolation> for client::Isolation {
    fn from(isolation: Isolation) -> Self {
        match isolation {
            Isolation::Committed => Self::ReadCommitted,
            Isolation::Uncommitted => Self::ReadUncommitted,
        }
    }
}

impl Options {
    /// Checks what a client asked for of a group. Numbers out of range are moved into it.
    ///
    /// # Errors
    ///
    /// What cannot be, with its field.
    pub fn new(asked: Subscribe, rules: &Rules) -> Result<Self, Error> {
        check_sub(&asked.sub)?;
        for (field, given) in [
            ("fields", asked.fields.is_some()),
            ("on_lag", asked.on_lag.is_some()),
            ("max_rate", asked.max_rate.is_some()),
            ("conflate", asked.conflate.is_some()),
        ] {
            if given {
                return Err(invalid(field, "only of a tail, which has no group"));
            }
        }
        let group = match asked.group {
            Some(group) if !group.is_empty() && group.len() <= MAX_NAME => group,
            Some(_) => {
                return Err(invalid("group", format!("expected 1 to {MAX_NAME} bytes")));
            }
            None => return Err(invalid("group", "mode group needs one")),
        };
        if asked
            .instance_id
            .as_ref()
            .is_some_and(|id| id.is_empty() || id.len() > MAX_NAME)
        {
            return Err(invalid(
                "instance_id",
                format!("expected 1 to {MAX_NAME} bytes"),
            ));
        }
        let topics = topics(asked.topics, asked.pattern.as_deref())?;
        let ack = asked.ack.unwrap_or(AckMode::Individual);
        let ack_mode = match ack {
            AckMode::Auto => delivery::AckMode::Auto,
            AckMode::Cumulative => delivery::AckMode::Cumulative,
            AckMode::Individual => delivery::AckMode::Individual,
            AckMode::Tx => {
                return Err(invalid("ack", "this gateway offers no transactions"));
            }
        };
        let from = asked.from.unwrap_or(From::Name(FromName::Committed));
        let key_format = asked.key_format.unwrap_or(Format::String);
        let value_format = asked.value_format.unwrap_or(Format::Json);
        let formats = formats(key_format, value_format)?;
        let on_decode_error = asked.on_decode_error.unwrap_or_default();
        let dead_letters = match &asked.dlq {
            None | Some(Dlq::Off(true)) => DeadLetters::Default(rules.dead_letter_topic.clone()),
            Some(Dlq::Off(false)) => DeadLetters::Off,
            Some(Dlq::Topic(name)) => {
                crate::kafka::metadata::check_topic_name(name)
                    .map_err(|fault| invalid("dlq", fault))?;
                DeadLetters::Topic(name.clone())
            }
        };
        if dead_letters == DeadLetters::Off && on_decode_error == OnDecodeError::Dlq {
            return Err(invalid(
                "on_decode_error",
                "dlq needs a dead-letter topic, and dlq is false",
            ));
        }
        let pace = Pace::new(asked.flow, asked.batch, rules);
        let ack_timeout_ms = match asked.ack_timeout_ms {
            Some(0) => 0,
            given => clamp(given, 60_000, 1_000, 600_000),
        };
        let max_deliveries = clamp(asked.max_deliveries, 5, 1, 1_000);
        let grace_default = i64::try_from(rules.revoke_grace.as_millis()).unwrap_or(1_000);
        let revoke_grace_ms = clamp(asked.revoke_grace_ms, grace_default, 0, 10_000);
        let commit_interval_ms = clamp(asked.commit_interval_ms, 1_000, 100, 60_000);
        let max_record_bytes = clamp(asked.max_record_bytes, 1 << 20, 1 << 10, MAX_RECORD);
        let order = asked.order.unwrap_or_default();
        let isolation = asked.isolation.unwrap_or_default();
        let offset_reset = reset(&from, asked.offset_reset)?;
        let filter = asked.filter.as_ref().map(filter).transpose()?;
        let policy = Policy {
            ack: ack_mode,
            order: match order {
                Order::Partition => delivery::Order::Partition,
                Order::Relaxed => delivery::Order::Relaxed,
            },
            ack_timeout: (ack_timeout_ms > 0).then(|| millis(ack_timeout_ms)),
            max_deliveries: u32::try_from(max_deliveries).unwrap_or(u32::MAX),
            dead_letters: dead_letters != DeadLetters::Off,
            window: if pace.credit {
                WindowMode::Credit
            } else {
                WindowMode::Outstanding {
                    records: pace.records,
                    bytes: pace.bytes,
                }
            },
            max_records: rules.max_inflight_records,
            max_bytes: rules.max_inflight_bytes,
            max_gap: rules.max_gap,
            max_waiting: rules.max_delayed,
        };
        let said = Subscribed {
            id: asked.id,
            sub: asked.sub.clone(),
            mode: Mode::Group,
            topics: Vec::new(),
            pattern: match &topics {
                Topics::Names(_) => None,
                Topics::Pattern(pattern) => Some(pattern.text.clone()),
            },
            group: Some(group.clone()),
            instance_id: asked.instance_id.clone(),
            from: from.clone(),
            offset_reset,
            ack: Some(ack),
            flow: pace.flow,
            batch: pace.batch,
            key_format,
            value_format,
            on_decode_error,
            isolation: Some(isolation),
            ack_timeout_ms: Some(ack_timeout_ms),
            max_deliveries: Some(max_deliveries),
            dlq: Some(match &dead_letters {
                DeadLetters::Off => Dlq::Off(false),
                DeadLetters::Default(topic) | DeadLetters::Topic(topic) => {
                    Dlq::Topic(topic.clone())
                }
            }),
            revoke_grace_ms: Some(revoke_grace_ms),
            order: Some(order),
            filter: asked.filter,
            commit_interval_ms: Some(commit_interval_ms),
            max_record_bytes,
            fields: None,
            on_lag: None,
            max_rate: None,
            conflate: None,
            positions: None,
            position: None,
            backlog: None,
        };
        Ok(Self {
            sub: asked.sub,
            group,
            instance_id: asked.instance_id,
            from: start(from)?,
            reset: match offset_reset.unwrap_or_default() {
                OffsetReset::Earliest => member::OffsetReset::Earliest,
                OffsetReset::Latest => member::OffsetReset::Latest,
                OffsetReset::Error => member::OffsetReset::Error,
            },
            isolation: isolation.into(),
            policy,
            credit: pace.credit,
            batch_records: pace.batch_records,
            batch_bytes: pace.batch_bytes,
            linger: pace.linger,
            formats,
            strict: on_decode_error != OnDecodeError::Deliver
                && (key_format != Format::Auto || value_format != Format::Auto),
            on_decode_error,
            dead_letters,
            revoke_grace: millis(revoke_grace_ms),
            filter,
            commit_interval: millis(commit_interval_ms),
            max_record: usize::try_from(max_record_bytes).unwrap_or(1 << 20),
            said: Box::new(said),
            topics,
        })
    }

    /// What the client is told of its subscription.
    pub fn subscribed(&self, topics: &[Arc<str>]) -> Subscribed {
        Subscribed {
            topics: topics.iter().map(|topic| topic.to_string()).collect(),
            ..(*self.said).clone()
        }
    }

    /// The request's id.
    pub fn id(&self) -> Option<&Id> {
        self.said.id.as_ref()
    }
}

/// How much goes out at once, of groups and tails alike. Numbers out of range are moved into it.
pub(super) struct Pace {
    /// The client says how much may go.
    pub(super) credit: bool,
    /// Most records of the window.
    pub(super) records: u64,
    /// Most bytes of the window.
    pub(super) bytes: u64,
    /// Most records of a frame.
    pub(super) batch_records: usize,
    /// Most bytes of a frame.
    pub(super) batch_bytes: u64,
    /// How long a frame waits for more.
    pub(super) linger: Duration,
    /// What is said of the window.
    pub(super) flow: Flow,
    /// What is said of frames.
    pub(super) batch: Batch,
}

impl Pace {
    pub(super) fn new(flow: Option<Flow>, batch: Option<Batch>, rules: &Rules) -> Self {
        let flow = flow.unwrap_or_default();
        let mode = flow.mode.unwrap_or_default();
        let credit = mode == FlowMode::Credit;
        let records = clamp(flow.records, 500, 1, signed(rules.max_inflight_records));
        let bytes = clamp(
            flow.bytes,
            4 << 20,
            1 << 10,
            signed(rules.max_inflight_bytes),
        );
        let batch = batch.unwrap_or_default();
        let batch_records = clamp(batch.records, 100, 1, 10_000);
        let batch_bytes = clamp(batch.bytes, 256 << 10, 1 << 10, 1 << 20);
        let linger_ms = clamp(batch.linger_ms, 0, 0, 10_000);
        Self {
            credit,
            records: unsigned(records),
            bytes: unsigned(bytes),
            batch_records: usize::try_from(batch_records).unwrap_or(1),
            batch_bytes: unsigned(batch_bytes),
            linger: millis(linger_ms),
            flow: Flow {
                mode: Some(mode),
                records: (!credit).then_some(records),
                bytes: (!credit).then_some(bytes),
            },
            batch: Batch {
                records: Some(batch_records),
                bytes: Some(batch_bytes),
                linger_ms: Some(linger_ms),
            },
        }
    }
}

pub(super) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

pub(super) fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

pub(super) fn topics(names: Option<Vec<String>>, pattern: Option<&str>) -> Result<Topics, Error> {
    match (names, pattern) {
        (Some(_), Some(_)) => Err(invalid("pattern", "topics or pattern, not both")),
        (None, None) => Err(invalid("topics", "topics or pattern is missing")),
        (None, Some(pattern)) => Pattern::new(pattern)
            .map(Topics::Pattern)
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
            Ok(Topics::Names(all))
        }
    }
}

/// Where a partition starts of which nothing is committed, as far as `from` does not say it: `offset_reset`
/// is short for `from`, so that the two must not differ. A time has no such short form.
fn reset(from: &From, given: Option<OffsetReset>) -> Result<Option<OffsetReset>, Error> {
    let (same, name) = match from {
        From::Name(FromName::Earliest) => (Some(OffsetReset::Earliest), "\"earliest\""),
        From::Name(FromName::Latest) => (Some(OffsetReset::Latest), "\"latest\""),
        From::Time { .. } => (None, "a time"),
        // Of what these say nothing of.
        From::Name(FromName::Committed) | From::Positions(_) | From::Last(_) | From::Text(_) => {
            return Ok(Some(given.unwrap_or_default()));
        }
    };
    if given.is_some() && given != same {
        return Err(invalid(
            "offset_reset",
            format!(
                "it differs from from, which is {name}; both say where a partition starts of which the \
                 group has committed nothing, so give one of them"
            ),
        ));
    }
    Ok(same)
}

fn start(from: From) -> Result<member::GroupStart, Error> {
    Ok(match from {
        From::Name(FromName::Committed) => member::GroupStart::Committed,
        From::Name(FromName::Earliest) => member::GroupStart::Earliest,
        From::Name(FromName::Latest) => member::GroupStart::Latest,
        From::Time { timestamp } => {
            if timestamp < 0 {
                return Err(invalid(
                    "from.timestamp",
                    "expected milliseconds since 1970",
                ));
            }
            let time = number_ms(timestamp);
            member::GroupStart::Time(time.map_err(|error| invalid("from.timestamp", error))?)
        }
        From::Positions(positions) => {
            let mut all = Vec::with_capacity(positions.len());
            for (index, at) in positions.into_iter().enumerate() {
                if at.offset < 0 || at.partition < 0 {
                    return Err(invalid(
                        &format!("from[{index}]"),
                        "a partition and an offset are 0 or more",
                    ));
                }
                all.push((TopicPartition::new(at.topic, at.partition), at.offset));
            }
            member::GroupStart::Positions(all)
        }
        From::Last(_) | From::Text(_) => {
            return Err(invalid(
                "from",
                "expected committed, earliest, latest, {\"timestamp\": ms} or a list of {topic, \
                 partition, offset}; others are for tails, which have no group",
            ));
        }
    })
}

pub(super) fn filter(spec: &client::FilterSpec) -> Result<Filter, Error> {
    let spec = Spec {
        condition: spec.condition.clone(),
        key: spec.key.clone(),
        key_prefix: spec.key_prefix.clone(),
        headers: spec.headers.clone().unwrap_or_default(),
    };
    Filter::new(&spec).map_err(|error| invalid("filter.where", error))
}
