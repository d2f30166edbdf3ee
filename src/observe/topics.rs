//! The metrics that have a topic's name in their labels. Whoever may create topics makes their names up,
//! so the labels are counted ([`super::labels`]). Where many records go through, their number costs an
//! addition: whoever writes or reads has the topic's counters at hand.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use parking_lot::Mutex;

use super::labels::{Keeping, Label, Labels, family, label, shown};
use crate::auth::identity::Identity;

/// A topic keeps its label for an hour after it was used, and for a minute when another topic needs the
/// place.
const KEEPING: Keeping = Keeping {
    at_least: Duration::from_secs(60),
    at_most: Duration::from_secs(3600),
};

static TOPICS: LazyLock<Labels<Counts>> = LazyLock::new(|| Labels::new(KEEPING));

#[derive(Debug, Default)]
struct Counts {
    is_written: AtomicBool,
    produced: AtomicU64,
    produced_bytes: AtomicU64,
    /// By name. Few records have any.
    errors: Mutex<BTreeMap<&'static str, u64>>,
    is_read: AtomicBool,
    read: AtomicU64,
}

/// The metrics of a topic, for one who writes to it.
#[derive(Debug)]
pub struct TopicWrites(Label<Counts>);

/// The metrics of a topic, for one who reads it.
#[derive(Debug)]
pub struct TopicReads(Label<Counts>);

impl TopicWrites {
    /// For records to `topic` on behalf of `owner`, or of the gateway itself.
    pub fn of(topic: &str, owner: Option<&Arc<Identity>>) -> Self {
        Self::in_labels(&TOPICS, topic, owner)
    }

    fn in_labels(labels: &Labels<Counts>, topic: &str, owner: Option<&Arc<Identity>>) -> Self {
        let label = labels.take(topic, owner);
        begin(&label.is_written);
        Self(label)
    }

    /// A record of so many bytes was acknowledged.
    pub fn produced(&self, bytes: u64) {
        self.0.produced.fetch_add(1, Ordering::Relaxed);
        self.0.produced_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// A record is not written; `error` is one of the names of faults.
    pub fn refused(&self, error: &'static str) {
        *self.0.errors.lock().entry(error).or_default() += 1;
    }
}

impl TopicReads {
    /// For records of `topic` that are given to `owner`.
    pub fn of(topic: &str, owner: &Arc<Identity>) -> Self {
        Self::in_labels(&TOPICS, topic, owner)
    }

    fn in_labels(labels: &Labels<Counts>, topic: &str, owner: &Arc<Identity>) -> Self {
        let label = labels.take(topic, Some(owner));
        begin(&label.is_read);
        Self(label)
    }

    /// So many records were given out.
    pub fn count(&self, records: u64) {
        self.0.read.fetch_add(records, Ordering::Relaxed);
    }
}

/// Has a series shown from now on. It is shown already but for the first time.
fn begin(is_shown: &AtomicBool) {
    if !is_shown.load(Ordering::Relaxed) {
        is_shown.store(true, Ordering::Relaxed);
    }
}

/// Kafka says that there is no such topic.
pub fn gone(topic: &str) {
    TOPICS.gone(topic);
}

/// Writes all of them in Prometheus' text format.
pub(super) fn render(text: &mut String) {
    write(&TOPICS, text);
}

fn write(labels: &Labels<Counts>, text: &mut String) {
    family(
        text,
        (
            "kafka_messages_produced_total",
            "counter",
            "Records acknowledged by Kafka, by topic",
        ),
        labels.series("topic", |of| shown(&of.is_written, &of.produced)),
    );
    family(
        text,
        (
            "kafka_bytes_produced_total",
            "counter",
            "Bytes of keys, values and headers acknowledged by Kafka, by topic",
        ),
        labels.series("topic", |of| shown(&of.is_written, &of.produced_bytes)),
    );
    let errors = labels.series("topic", |of| Some(of.errors.lock().clone()));
    family(
        text,
        (
            "kafka_produce_errors_total",
            "counter",
            "Records that Kafka did not acknowledge, by topic and error",
        ),
        errors.flat_map(|(topic, errors)| {
            let of_error =
                move |(error, count)| (format!("{topic},{}", label("error", error)), count);
            errors.into_iter().map(of_error)
        }),
    );
    family(
        text,
        (
            "kafka_messages_read_total",
            "counter",
            "Records given to clients, by topic",
        ),
        labels.series("topic", |of| shown(&of.is_read, &of.read)),
    );
}

#[cfg(test)]
mod tests {
    use super::super::labels::MOST_OF_ONE;
    use super::*;

    fn named(name: &str) -> Arc<Identity> {
        Arc::new(Identity::of_token("issuer", name.to_owned()))
    }

    fn written(labels: &Labels<Counts>) -> String {
        let mut text = String::new();
        write(labels, &mut text);
        text
    }

    #[test]
    fn what_is_written_and_read_is_counted_by_topic() {
        let labels = Labels::new(KEEPING);
        let ann = named("ann");
        let writes = TopicWrites::in_labels(&labels, "orders", Some(&ann));
        writes.produced(10);
        writes.produced(5);
        writes.refused("MESSAGE_TOO_LARGE");
        TopicReads::in_labels(&labels, "users", &ann).count(3);
        let expected = "\
# HELP kafka_messages_produced_total Records acknowledged by Kafka, by topic
# TYPE kafka_messages_produced_total counter
kafka_messages_produced_total{topic=\"orders\"} 2

# HELP kafka_bytes_produced_total Bytes of keys, values and headers acknowledged by Kafka, by topic
# TYPE kafka_bytes_produced_total counter
kafka_bytes_produced_total{topic=\"orders\"} 15

# HELP kafka_produce_errors_total Records that Kafka did not acknowledge, by topic and error
# TYPE kafka_produce_errors_total counter
kafka_produce_errors_total{topic=\"orders\",error=\"MESSAGE_TOO_LARGE\"} 1

# HELP kafka_messages_read_total Records given to clients, by topic
# TYPE kafka_messages_read_total counter
kafka_messages_read_total{topic=\"users\"} 3

";
        assert_eq!(written(&labels), expected);
    }

    #[test]
    fn a_principal_cannot_take_the_labels_of_others() {
        let labels = Labels::new(KEEPING);
        let ann = named("ann");
        for nth in 0..MOST_OF_ONE * 20 {
            TopicWrites::in_labels(&labels, &format!("made-up-{nth}"), Some(&ann)).produced(1);
        }
        TopicReads::in_labels(&labels, "orders", &named("bob")).count(1);
        let text = written(&labels);
        let rest = MOST_OF_ONE * 19;
        for line in [
            "kafka_messages_produced_total{topic=\"made-up-0\"} 1\n".to_owned(),
            format!("kafka_messages_produced_total{{topic=\"(other)\"}} {rest}\n"),
            "kafka_messages_read_total{topic=\"orders\"} 1\n".to_owned(),
        ] {
            assert!(text.contains(&line), "no {line} in\n{text}");
        }
    }

    #[test]
    fn the_series_of_a_deleted_topic_end() {
        let topic = "observe-topics-deleted";
        TopicWrites::of(topic, None).produced(1);
        let rendered = || {
            let mut text = String::new();
            render(&mut text);
            text
        };
        assert!(rendered().contains(topic));
        gone(topic);
        assert!(!rendered().contains(topic));
    }
}
