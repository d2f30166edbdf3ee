//! The metrics that have a consumer group's name in their labels. Whoever may use groups makes their names
//! up, so the labels are counted ([`super::labels`]).

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use super::labels::{Keeping, Label, Labels, family, shown};
use crate::auth::identity::Identity;

/// A group keeps its label until another group needs the place: that it has no member any more is when
/// somebody may want to know how it went.
const KEEPING: Keeping = Keeping {
    at_least: Duration::ZERO,
    at_most: Duration::MAX,
};

static GROUPS: LazyLock<Labels<Counts>> = LazyLock::new(|| Labels::new(KEEPING));

#[derive(Debug, Default)]
struct Counts {
    had_instances: AtomicBool,
    instances: AtomicU64,
    had_rebalances: AtomicBool,
    rebalances: AtomicU64,
}

/// The metrics of a group, for one who uses it. Its series may go when all of these are dropped.
#[derive(Debug)]
pub struct GroupMetrics {
    label: Label<Counts>,
    is_instance: bool,
}

impl GroupMetrics {
    /// For a member of `group` on behalf of `owner`.
    pub fn of_member(group: &str, owner: Option<&Arc<Identity>>) -> Self {
        Self::using(&GROUPS, group, owner)
    }

    /// For a consumer instance, which is counted until this is dropped.
    pub fn of_instance(group: &str, owner: &Arc<Identity>) -> Self {
        Self::using(&GROUPS, group, Some(owner)).counted()
    }

    fn using(groups: &Labels<Counts>, group: &str, owner: Option<&Arc<Identity>>) -> Self {
        Self {
            label: groups.take(group, owner),
            is_instance: false,
        }
    }

    fn counted(mut self) -> Self {
        self.label.instances.fetch_add(1, Ordering::Relaxed);
        self.label.had_instances.store(true, Ordering::Relaxed);
        self.is_instance = true;
        self
    }

    /// The partitions of a member of the group have changed.
    pub fn rebalanced(&self) {
        self.label.rebalances.fetch_add(1, Ordering::Relaxed);
        self.label.had_rebalances.store(true, Ordering::Relaxed);
    }
}

impl Drop for GroupMetrics {
    fn drop(&mut self) {
        if self.is_instance {
            self.label.instances.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// Writes all of them in Prometheus' text format.
pub(super) fn render(text: &mut String) {
    write(&GROUPS, text);
}

fn write(groups: &Labels<Counts>, text: &mut String) {
    family(
        text,
        (
            "kafka_group_rebalances_total",
            "counter",
            "Times that the partitions of a group member of this process changed, by group",
        ),
        groups.series("group", |of| shown(&of.had_rebalances, &of.rebalances)),
    );
    family(
        text,
        (
            "rest_consumer_instances",
            "gauge",
            "Consumer instances of the compatible REST API, by group",
        ),
        groups.series("group", |of| shown(&of.had_instances, &of.instances)),
    );
}

#[cfg(test)]
mod tests {
    use super::super::labels::MOST_OF_ONE;
    use super::*;

    fn named(name: &str) -> Arc<Identity> {
        Arc::new(Identity::of_token("issuer", name.to_owned()))
    }

    fn written(groups: &Labels<Counts>) -> String {
        let mut text = String::new();
        write(groups, &mut text);
        text
    }

    #[test]
    fn what_happens_to_a_group_is_counted() {
        let groups = Labels::new(KEEPING);
        let (ann, bob) = (named("ann"), named("bob"));
        GroupMetrics::using(&groups, "anns", Some(&ann)).rebalanced();
        let bobs = GroupMetrics::using(&groups, "bobs", Some(&bob)).counted();
        let before = "\
# HELP kafka_group_rebalances_total Times that the partitions of a group member of this process changed, by group
# TYPE kafka_group_rebalances_total counter
kafka_group_rebalances_total{group=\"anns\"} 1

# HELP rest_consumer_instances Consumer instances of the compatible REST API, by group
# TYPE rest_consumer_instances gauge
rest_consumer_instances{group=\"bobs\"} 1

";
        assert_eq!(written(&groups), before);
        drop(bobs);
        let after = before.replace("bobs\"} 1", "bobs\"} 0");
        assert_eq!(written(&groups), after);
    }

    #[test]
    fn the_series_of_an_unused_group_stays_until_its_room_is_needed() {
        let groups = Labels::new(KEEPING);
        let ann = named("ann");
        let anns: Vec<_> = (0..=MOST_OF_ONE)
            .map(|n| GroupMetrics::using(&groups, &format!("ann-{n}"), Some(&ann)))
            .collect();
        for metrics in &anns {
            metrics.rebalanced();
        }
        let text = written(&groups);
        assert!(text.contains("{group=\"ann-0\"} 1\n"), "{text}");
        assert!(text.contains("{group=\"(other)\"} 1\n"), "{text}");
        drop(anns);
        let text = written(&groups);
        assert!(text.contains("{group=\"ann-0\"} 1\n"), "{text}");
        GroupMetrics::using(&groups, "ann-more", Some(&ann)).rebalanced();
        let text = written(&groups);
        assert!(text.contains("{group=\"ann-more\"} 1\n"), "{text}");
        assert!(!text.contains("group=\"ann-0\""), "{text}");
        assert!(text.contains("group=\"ann-1\""), "{text}");
    }
}
