//! What only the subscription of a group may be asked for, checked, with the rest filled in.

use std::time::Duration;

use crate::delivery::{self, Policy, WindowMode};
use crate::kafka::member;
use crate::reader_options::{Isolation, OffsetReset};
use crate::record::TopicPartition;
use crate::session::protocol::client::{AckMode, Dlq, From, FromName, OnDecodeError, Subscribe};
use crate::session::protocol::server::Error;
use crate::session::rules::Rules;
use crate::session::subscription::options::{
    Common, Topics, check_start, clamp, invalid, millis, start_time,
};

/// Longest group and instance id, as Kafka's own limit for names in its protocol is far higher.
const MAX_NAME: usize = 249;

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
    /// What subscriptions of every kind have.
    pub common: Common,
    /// The group.
    pub group: String,
    /// Of a static member.
    pub instance_id: Option<String>,
    /// Which topics.
    pub topics: Topics,
    /// Where a partition starts of which nothing is committed.
    pub from: member::GroupStart,
    /// The same where that does not say it.
    pub reset: OffsetReset,
    /// Which records of transactions are delivered.
    pub isolation: Isolation,
    /// How records are acknowledged and come again.
    pub policy: Policy,
    /// Where dead letters go.
    pub dead_letters: DeadLetters,
    /// How long a revoked partition waits.
    pub revoke_grace: Duration,
    /// How often is committed.
    pub commit_interval: Duration,
}

impl Options {
    /// Checks what a client asked for of a group. Numbers out of range are moved into it.
    ///
    /// # Errors
    ///
    /// What cannot be, with its field.
    pub fn new(mut asked: Subscribe, rules: &Rules) -> Result<Self, Error> {
        let is_name = |name: &String| !name.is_empty() && name.len() <= MAX_NAME;
        let expected = || format!("expected 1 to {MAX_NAME} bytes");
        let group = match &asked.group {
            Some(group) if is_name(group) => group.clone(),
            Some(_) => return Err(invalid("group", expected())),
            None => return Err(invalid("group", "mode group needs one")),
        };
        if !asked.instance_id.as_ref().is_none_or(is_name) {
            return Err(invalid("instance_id", expected()));
        }
        let topics = Topics::new(asked.topics.take(), asked.pattern.as_deref())?;
        let ack = *asked.ack.get_or_insert(AckMode::Individual);
        let ack = match ack {
            AckMode::Auto => delivery::AckMode::Auto,
            AckMode::Cumulative => delivery::AckMode::Cumulative,
            AckMode::Individual => delivery::AckMode::Individual,
            AckMode::Tx => {
                return Err(invalid("ack", "this gateway offers no transactions"));
            }
        };
        let mut common = Common::new(asked, FromName::Committed, rules)?;
        let asked = &mut common.asked;

        let dead_letters = match asked.dlq.take() {
            None | Some(Dlq::Off(true)) => DeadLetters::Default(rules.dead_letter_topic.clone()),
            Some(Dlq::Off(false)) => DeadLetters::Off,
            Some(Dlq::Topic(name)) => {
                crate::kafka::metadata::check_topic_name(&name)
                    .map_err(|fault| invalid("dlq", fault))?;
                DeadLetters::Topic(name)
            }
        };
        if dead_letters == DeadLetters::Off && common.on_decode_error == OnDecodeError::Dlq {
            return Err(invalid(
                "on_decode_error",
                "dlq needs a dead-letter topic, and dlq is false",
            ));
        }
        asked.dlq = Some(match &dead_letters {
            DeadLetters::Off => Dlq::Off(false),
            DeadLetters::Default(topic) | DeadLetters::Topic(topic) => Dlq::Topic(topic.clone()),
        });
        asked.offset_reset = reset(&common.from, asked.offset_reset)?;

        let ack_timeout_ms = match asked.ack_timeout_ms {
            Some(0) => 0,
            given => clamp(given, 60_000, 1_000, 600_000),
        };
        asked.ack_timeout_ms = Some(ack_timeout_ms);
        let max_deliveries = clamp(asked.max_deliveries, 5, 1, 1_000);
        asked.max_deliveries = Some(max_deliveries);
        let grace_default = i64::try_from(rules.revoke_grace.as_millis()).unwrap_or(1_000);
        let revoke_grace_ms = clamp(asked.revoke_grace_ms, grace_default, 0, 10_000);
        asked.revoke_grace_ms = Some(revoke_grace_ms);
        let commit_interval_ms = clamp(asked.commit_interval_ms, 1_000, 100, 60_000);
        asked.commit_interval_ms = Some(commit_interval_ms);

        let policy = Policy {
            ack,
            order: *asked.order.get_or_insert_default(),
            ack_timeout: (ack_timeout_ms > 0).then(|| millis(ack_timeout_ms)),
            max_deliveries: u32::try_from(max_deliveries).unwrap_or(u32::MAX),
            dead_letters: dead_letters != DeadLetters::Off,
            window: if common.credit {
                WindowMode::Credit
            } else {
                WindowMode::Outstanding {
                    records: common.window_records,
                    bytes: common.window_bytes,
                }
            },
            max_records: rules.max_inflight_records,
            max_bytes: rules.max_inflight_bytes,
            max_gap: rules.max_gap,
            max_waiting: rules.max_delayed,
        };
        Ok(Self {
            group,
            instance_id: asked.instance_id.clone(),
            topics,
            reset: asked.offset_reset.unwrap_or_default(),
            isolation: *asked.isolation.get_or_insert_default(),
            from: start(common.from.clone())?,
            policy,
            dead_letters,
            revoke_grace: millis(revoke_grace_ms),
            commit_interval: millis(commit_interval_ms),
            common,
        })
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
        From::Time { timestamp } => member::GroupStart::Time(start_time(timestamp)?),
        From::Positions(positions) => {
            let mut all = Vec::with_capacity(positions.len());
            for (index, at) in positions.into_iter().enumerate() {
                check_start(index, &at)?;
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
