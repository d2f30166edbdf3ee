//! `kafka_consumer_lag`, whose series go away: the recorder cannot forget one, and what it would say of a
//! partition that nobody looks at any more would be untrue. Whoever may use groups makes their names up, so
//! each principal has so many series.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use parking_lot::RwLock;

use super::labels::{family, label};
use super::shares::{Owner, Shares};
use crate::auth::identity::Identity;

/// Most series at once. A partition beyond these has none.
const MOST_SERIES: usize = 10_000;
/// Most of them that are of one principal.
const MOST_OF_ONE: usize = 1_000;

static LAGS: LazyLock<RwLock<Lags>> = LazyLock::new(RwLock::default);

#[derive(Debug)]
struct Lags {
    series: BTreeMap<Series, Lag>,
    shares: Shares,
}

#[derive(Debug)]
struct Lag {
    owner: Owner,
    records: u64,
}

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

/// The group has `records` still before it in the partition. A new series is `owner`'s, on whose behalf a
/// member has the partition; `None` is the gateway itself.
pub fn set(series: &Series, owner: Option<&Arc<Identity>>, records: u64) {
    LAGS.write().set(series, owner, records);
}

/// It is not known any more.
pub fn forget(series: &Series) {
    LAGS.write().forget(series);
}

/// Writes all of them in Prometheus' text format.
pub(super) fn render(text: &mut String) {
    LAGS.read().write(text);
}

impl Default for Lags {
    fn default() -> Self {
        Self {
            series: BTreeMap::new(),
            shares: Shares::new(MOST_SERIES, MOST_OF_ONE),
        }
    }
}

impl Lags {
    fn set(&mut self, series: &Series, owner: Option<&Arc<Identity>>, records: u64) {
        if let Some(lag) = self.series.get_mut(series) {
            lag.records = records;
            return;
        }
        let owner = owner.cloned();
        if self.shares.room(&owner).is_ok() {
            self.shares.take(&owner);
            self.series.insert(series.clone(), Lag { owner, records });
        }
    }

    fn forget(&mut self, series: &Series) {
        if let Some(lag) = self.series.remove(series) {
            self.shares.give_back(&lag.owner);
        }
    }

    fn write(&self, text: &mut String) {
        family(
            text,
            (
                "kafka_consumer_lag",
                "gauge",
                "Records between what a group has committed and the end, of partitions that members in \
                 this process have or had lately, by group, topic and partition",
            ),
            self.series.iter().map(|(series, lag)| {
                let labels = format!(
                    "{},{},{}",
                    label("group", &series.group),
                    label("topic", &series.topic),
                    label("partition", &series.partition.to_string())
                );
                (labels, lag.records)
            }),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(group: &str, partition: i32) -> Series {
        Series {
            group: Arc::from(group),
            topic: Arc::from("orders"),
            partition,
        }
    }

    fn written(lags: &Lags) -> String {
        let mut text = String::new();
        lags.write(&mut text);
        text
    }

    #[test]
    fn a_series_is_there_until_it_is_forgotten() {
        let (mut lags, series) = (Lags::default(), series("a \"b\\c\"\nd", 3));
        lags.set(&series, None, 7);
        lags.set(&series, None, 8);
        let text = written(&lags);
        let line = "kafka_consumer_lag{group=\"a \\\"b\\\\c\\\"\\nd\",topic=\"orders\",\
                    partition=\"3\"} 8\n";
        assert!(text.contains(line), "{text}");
        assert!(text.contains("# TYPE kafka_consumer_lag gauge\n"));
        lags.forget(&series);
        assert_eq!(written(&lags), "");
    }

    #[test]
    fn a_principal_fills_its_own_share_alone() {
        let named = |name: &str| Arc::new(Identity::of_token("issuer", name.to_owned()));
        let (ann, bob) = (named("ann"), named("bob"));
        let mut lags = Lags::default();
        for partition in 0..1_500 {
            lags.set(&series("anns", partition), Some(&ann), 1);
        }
        lags.set(&series("bobs", 0), Some(&bob), 2);
        assert_eq!(lags.series.len(), MOST_OF_ONE + 1);
        assert!(written(&lags).contains("{group=\"bobs\",topic=\"orders\",partition=\"0\"} 2\n"));
        // What is forgotten makes room for what had none, with its next number.
        lags.forget(&series("anns", 0));
        lags.set(&series("anns", 1_400), Some(&ann), 3);
        assert!(written(&lags).contains("partition=\"1400\"} 3\n"));
        assert_eq!(lags.series.len(), MOST_OF_ONE + 1);
    }

    #[test]
    fn series_of_lag_are_bounded() {
        let mut lags = Lags::default();
        for partition in 0..11_000 {
            lags.set(&series("g", partition), None, 1);
        }
        assert_eq!(lags.series.len(), MOST_SERIES);
    }
}
