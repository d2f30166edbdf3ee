//! What a topic's configuration asks of records, so that one which the broker would refuse need not go
//! into a batch with others: a broker takes or refuses a batch as a whole.
//!
//! ```text
//! known("orders") --never waits--> the rules as last heard, asked for again every 30 s
//!        |
//!        '--a record breaks one--> confirmed("orders"): no older than a second, or no refusal
//! ```
//!
//! Nothing here is needed to write. While the rules are not known, because nobody has asked yet or the
//! gateway's Kafka user may not describe configurations, the broker decides.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use moka::future::Cache;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::kafka::admin::{Admin, ConfigEntry};
use crate::kafka::fault::Fault;
use crate::record::ProducerRecord;

/// Most topics whose rules are kept.
const CAPACITY: u64 = 10_000;

/// How old rules may be before they are asked for again, beside the writing. Rules that have become
/// stricter are found out sooner, when the broker refuses a record by them.
const RENEW: Duration = Duration::from_secs(30);

/// How old rules may be that a record is refused by.
const CONFIRM: Duration = Duration::from_secs(1);

/// How long a record that breaks the rules may wait for newer ones; then the broker decides.
const PATIENCE: Duration = Duration::from_secs(2);

/// Most topics whose rules are asked for at the same time, beside the writing. A topic that finds no
/// place is asked for at one of its next writes.
const AT_ONCE: usize = 32;

/// How far the gateway's clock and a broker's may be apart: a timestamp this close to a bound is the
/// broker's to judge.
const CLOCKS: i64 = 60_000;

/// What every batch has beside its records.
const BATCH_OVERHEAD: usize = 61;

/// What a topic's configuration asks of a record.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rules {
    /// The topic is compacted: a record needs a key.
    needs_key: bool,
    /// `max.message.bytes`.
    most_bytes: Option<usize>,
    /// How far a timestamp may lie before and after the broker's time, in milliseconds; `None` where it
    /// does not matter.
    before: Option<i64>,
    after: Option<i64>,
}

impl Rules {
    /// What these configuration values ask.
    fn of(configs: &[ConfigEntry]) -> Self {
        let value = |name: &str| {
            let found = configs.iter().find(|config| config.name == name)?;
            found.value.as_deref()
        };
        let number = |name: &str| value(name)?.parse::<i64>().ok();
        // `i64::MAX` is Kafka's word for no bound.
        let bound = |name: &str| number(name).filter(|bound| *bound != i64::MAX);
        // Kafka 3.6 to 3.9 have both the newer names and the older one, and follow the older one where
        // the newer is not set; before them there is only the older, after them only the newer.
        let older = bound("message.timestamp.difference.max.ms");
        let broker_stamps = value("message.timestamp.type") == Some("LogAppendTime");
        let stamped = |name| bound(name).or(older).filter(|_| !broker_stamps);
        Self {
            needs_key: value("cleanup.policy")
                .is_some_and(|policy| policy.split(',').any(|one| one.trim() == "compact")),
            most_bytes: number("max.message.bytes").and_then(|bytes| usize::try_from(bytes).ok()),
            before: stamped("message.timestamp.before.max.ms"),
            after: stamped("message.timestamp.after.max.ms"),
        }
    }

    /// What the broker would say of `record` at `now` (ms since the epoch), as far as it is certain
    /// beforehand. `compressed`: the producer compresses, so a record's size says nothing about the
    /// batch's.
    pub fn fault_in(&self, record: &ProducerRecord, now: i64, compressed: bool) -> Option<Fault> {
        if self.needs_key && record.key.is_none() {
            return Some(Fault::from_protocol_code(
                INVALID_RECORD,
                Some("the topic is compacted, and the record has no key"),
            ));
        }
        let size = record.size();
        if let Some(most) = self.most_bytes
            && !compressed
            && size.saturating_add(BATCH_OVERHEAD) > most
        {
            let detail = format!(
                "key, value and headers are {size} bytes, and the topic's max.message.bytes is {most}"
            );
            return Some(Fault::from_protocol_code(MESSAGE_TOO_LARGE, Some(&detail)));
        }
        // The library puts its own time in the place of 0.
        let stamp = record.timestamp.filter(|stamp| *stamp != 0)?;
        let age = now.saturating_sub(stamp);
        let beyond = |bound: Option<i64>, distance: i64| {
            bound.filter(|bound| distance > bound.saturating_add(CLOCKS))
        };
        let detail = if let Some(bound) = beyond(self.before, age) {
            format!("{stamp} is more than {bound} ms before now")
        } else if let Some(bound) = beyond(self.after, age.saturating_neg()) {
            format!("{stamp} is more than {bound} ms after now")
        } else {
            return None;
        };
        Some(Fault::from_protocol_code(INVALID_TIMESTAMP, Some(&detail)))
    }
}

/// The protocol's numbers for what a record is refused with.
const MESSAGE_TOO_LARGE: i16 = 10;
const INVALID_TIMESTAMP: i16 = 32;
const INVALID_RECORD: i16 = 87;

/// What was heard of a topic's rules, and when.
#[derive(Debug, Clone)]
struct Heard {
    /// `None` where nobody said.
    rules: Option<Arc<Rules>>,
    at: Instant,
}

/// The rules of the topics that are written to.
#[derive(Debug)]
pub(super) struct RuleBook {
    admin: Admin,
    timeout: Duration,
    heard: Cache<Arc<str>, Heard>,
    /// The topics whose rules are being asked for beside the writing.
    asking: Mutex<HashSet<Arc<str>>>,
}

impl RuleBook {
    pub(super) fn new(admin: Admin, timeout: Duration) -> Self {
        Self {
            admin,
            timeout: timeout.min(PATIENCE),
            heard: Cache::new(CAPACITY),
            asking: Mutex::default(),
        }
    }

    /// The rules of `topic` as they were last heard, which may be never. Asks for newer ones beside
    /// the caller when they are old.
    pub(super) async fn known(self: &Arc<Self>, topic: &Arc<str>) -> Option<Arc<Rules>> {
        let heard = self.heard.get(topic).await;
        let is_old = |heard: &Heard| heard.at.elapsed() >= RENEW;
        if heard.as_ref().is_none_or(is_old) && self.may_ask(topic) {
            let (book, topic) = (Arc::clone(self), Arc::clone(topic));
            tokio::spawn(async move {
                book.confirmed(&topic).await;
                book.asking.lock().remove(&topic);
            });
        }
        heard?.rules
    }

    fn may_ask(&self, topic: &Arc<str>) -> bool {
        let mut asking = self.asking.lock();
        asking.len() < AT_ONCE && asking.insert(Arc::clone(topic))
    }

    /// The rules of `topic` as a broker said them at most a second ago; asked for once for all who wait.
    pub(super) async fn confirmed(&self, topic: &Arc<str>) -> Option<Arc<Rules>> {
        let asked = async {
            let configs = self.admin.topic_configs(topic, self.timeout).await;
            if let Err(fault) = &configs {
                tracing::debug!(topic = &**topic, "the topic's rules are not known: {fault}");
            }
            Heard {
                rules: configs.ok().map(|configs| Arc::new(Rules::of(&configs))),
                at: Instant::now(),
            }
        };
        let entry = self.heard.entry(Arc::clone(topic));
        let is_old = |heard: &Heard| heard.at.elapsed() >= CONFIRM;
        entry
            .or_insert_with_if(asked, is_old)
            .await
            .into_value()
            .rules
    }

    /// A broker refused a record that these rules let through.
    pub(super) async fn doubt(&self, topic: &str) {
        // Not once for each record that is refused.
        if let Some(heard) = self.heard.get(topic).await
            && heard.at.elapsed() >= CONFIRM
        {
            self.heard.invalidate(topic).await;
        }
    }

    /// The topic is another one now, or was changed.
    pub(super) async fn forget(&self, topic: &str) {
        self.heard.invalidate(topic).await;
    }
}

#[cfg(test)]
mod tests;
