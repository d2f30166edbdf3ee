//! `kafka_consumer_lag`, the one metric whose series go away: the recorder cannot forget one, and what it
//! would say of a partition that nobody looks at any more would be untrue.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::{Arc, LazyLock};

use parking_lot::RwLock;

/// Most series at once. A partition beyond these has none.
const MOST_SERIES: usize = 10_000;

/// What the metric is called, and what it says.
const HELP: &str = "# HELP kafka_consumer_lag Records between what a group has committed and the end, of \
                    partitions that members in this process have or had lately, by group, topic and \
                    partition\n# TYPE kafka_consumer_lag gauge\n";

static SERIES: LazyLock<RwLock<BTreeMap<Series, u64>>> = LazyLock::new(RwLock::default);

/// A partition of a group.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Series {
    /// The group.
    pub group: Arc<str>,
    /// The topic.
    pub topic: Arc<str>,
    /// The partition's number.
    pub partition: i32,
}

/// The group has `records` still before it in the partition.
pub fn set(series: &Series, records: u64) {
    let mut all = SERIES.write();
    if let Some(value) = all.get_mut(series) {
        *value = records;
    } else if all.len() < MOST_SERIES {
        all.insert(series.clone(), records);
    }
}

/// It is not known any more.
pub fn forget(series: &Series) {
    SERIES.write().remove(series);
}

/// Writes all of them in Prometheus' text format.
pub(super) fn render(text: &mut String) {
    let all = SERIES.read();
    if all.is_empty() {
        return;
    }
    text.push_str(HELP);
    for (series, records) in all.iter() {
        let (group, topic) = (escaped(&series.group), escaped(&series.topic));
        let partition = series.partition;
        // Writing to a string does not fail.
        let _ = writeln!(
            text,
            "kafka_consumer_lag{{group=\"{group}\",topic=\"{topic}\",partition=\"{partition}\"}} {records}"
        );
    }
    text.push('\n');
}

/// The text of a label. The name of a group may have any characters.
pub(super) fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            '\\' => escaped.push_str("\\\\"),
            '"' => escaped.push_str("\\\""),
            '\n' => escaped.push_str("\\n"),
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_series_is_there_until_it_is_forgotten() {
        let series = Series {
            group: Arc::from("a \"b\\c\"\nd"),
            topic: Arc::from("observed-lag"),
            partition: 3,
        };
        let rendered = || {
            let mut text = String::new();
            render(&mut text);
            text
        };
        set(&series, 7);
        set(&series, 8);
        let line = "kafka_consumer_lag{group=\"a \\\"b\\\\c\\\"\\nd\",topic=\"observed-lag\",\
                    partition=\"3\"} 8\n";
        assert!(rendered().contains(line), "{}", rendered());
        assert!(rendered().contains("# TYPE kafka_consumer_lag gauge\n"));
        forget(&series);
        assert!(!rendered().contains("observed-lag"));
    }
}
