//! The metrics that have a consumer group's name in their labels. Whoever may use groups makes their names
//! up, so the series are counted: each principal has so many, and all have so many. Beyond that a group
//! goes into one series with others, unless one that nobody uses any more can make room. The recorder can
//! forget no series, so these are kept and written here.

use std::collections::HashMap;
use std::fmt::Write;
use std::sync::{Arc, LazyLock};

use parking_lot::Mutex;

use super::lag::escaped;
use crate::auth::identity::{Identity, Kind};

/// Most groups that have series of their own.
const MOST: usize = 1_000;
/// Most of them that are of one principal. Where no credentials are asked for all are of one, and only the
/// bound of all holds.
const MOST_OF_ONE: usize = 100;
/// The label that the rest share.
const OTHERS: &str = "(other)";

static GROUPS: LazyLock<Arc<Mutex<Groups>>> = LazyLock::new(Arc::default);

/// Who made a group's name up; `None` where the gateway itself has.
type Owner = Option<Arc<Identity>>;

#[derive(Debug, Default)]
struct Groups {
    own: HashMap<Arc<str>, Group>,
    others: Counts,
    /// How many of `own` are of each principal.
    of: HashMap<Owner, usize>,
    /// How often a group was left by its last user.
    left: u64,
}

#[derive(Debug)]
struct Group {
    owner: Owner,
    users: usize,
    /// The number under which the last of its users went.
    left: u64,
    counts: Counts,
}

#[derive(Debug, Default, Clone, Copy)]
struct Counts {
    instances: u64,
    rebalances: u64,
    had_instances: bool,
    had_rebalances: bool,
}

/// The metrics of a group, for one who uses it. Its series may go when all of these are dropped.
#[derive(Debug)]
pub struct GroupMetrics {
    groups: Arc<Mutex<Groups>>,
    /// `None`: it is one of the others.
    group: Option<Arc<str>>,
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

    fn using(groups: &Arc<Mutex<Groups>>, group: &str, owner: Option<&Arc<Identity>>) -> Self {
        Self {
            group: groups.lock().take(group, owner.cloned()),
            groups: Arc::clone(groups),
            is_instance: false,
        }
    }

    fn counted(mut self) -> Self {
        self.count(|counts| {
            counts.instances += 1;
            counts.had_instances = true;
        });
        self.is_instance = true;
        self
    }

    /// The partitions of a member of the group have changed.
    pub fn rebalanced(&self) {
        self.count(|counts| {
            counts.rebalances += 1;
            counts.had_rebalances = true;
        });
    }

    fn count(&self, change: impl FnOnce(&mut Counts)) {
        let mut groups = self.groups.lock();
        let Groups { own, others, .. } = &mut *groups;
        match self.group.as_ref().and_then(|name| own.get_mut(name)) {
            Some(group) => change(&mut group.counts),
            None => change(others),
        }
    }
}

impl Drop for GroupMetrics {
    fn drop(&mut self) {
        if self.is_instance {
            self.count(|counts| counts.instances = counts.instances.saturating_sub(1));
        }
        if let Some(name) = &self.group {
            self.groups.lock().leave(name);
        }
    }
}

impl Groups {
    /// One more uses the group; its name, if it has series of its own.
    fn take(&mut self, name: &str, owner: Owner) -> Option<Arc<str>> {
        if let Some((known, group)) = self.own.get_key_value(name) {
            let (known, users) = (Arc::clone(known), group.users + 1);
            if let Some(group) = self.own.get_mut(name) {
                group.users = users;
            }
            return Some(known);
        }
        let is_everyone = owner
            .as_ref()
            .is_none_or(|owner| owner.kind() == Kind::Anonymous);
        let of_one = self.of.get(&owner).copied().unwrap_or(0);
        if !is_everyone && of_one >= MOST_OF_ONE {
            self.make_room(|group| group.owner == owner)?;
        } else if self.own.len() >= MOST {
            self.make_room(|_| true)?;
        }
        *self.of.entry(owner.clone()).or_default() += 1;
        let name: Arc<str> = name.into();
        let group = Group {
            owner,
            users: 1,
            left: 0,
            counts: Counts::default(),
        };
        self.own.insert(Arc::clone(&name), group);
        Some(name)
    }

    /// Forgets the group of these that has been without users for the longest time, if there is one.
    fn make_room(&mut self, is_one: impl Fn(&Group) -> bool) -> Option<()> {
        let unused = self
            .own
            .iter()
            .filter(|(_, group)| group.users == 0 && is_one(group));
        let (name, _) = unused.min_by_key(|(_, group)| group.left)?;
        let name = Arc::clone(name);
        let gone = self.own.remove(&name)?;
        if let Some(count) = self.of.get_mut(&gone.owner) {
            *count -= 1;
            if *count == 0 {
                self.of.remove(&gone.owner);
            }
        }
        Some(())
    }

    fn leave(&mut self, name: &str) {
        self.left += 1;
        if let Some(group) = self.own.get_mut(name) {
            group.users = group.users.saturating_sub(1);
            group.left = self.left;
        }
    }

    fn render(&self, text: &mut String) {
        let mut all: Vec<(&str, &Counts)> = self
            .own
            .iter()
            .map(|(name, group)| (&**name, &group.counts))
            .collect();
        all.sort_unstable_by_key(|(name, _)| *name);
        all.push((OTHERS, &self.others));
        let rebalances = |counts: &Counts| counts.had_rebalances.then_some(counts.rebalances);
        let instances = |counts: &Counts| counts.had_instances.then_some(counts.instances);
        family(
            text,
            "# HELP kafka_group_rebalances_total Times that the partitions of a group member of this \
             process changed, by group\n# TYPE kafka_group_rebalances_total counter\n",
            "kafka_group_rebalances_total",
            all.iter().map(|(name, counts)| (*name, rebalances(counts))),
        );
        family(
            text,
            "# HELP rest_consumer_instances Consumer instances of the compatible REST API, by group\n\
             # TYPE rest_consumer_instances gauge\n",
            "rest_consumer_instances",
            all.iter().map(|(name, counts)| (*name, instances(counts))),
        );
    }
}

/// Writes the series of one metric that have a value.
fn family<'a>(
    text: &mut String,
    help: &str,
    metric: &str,
    series: impl Iterator<Item = (&'a str, Option<u64>)>,
) {
    let mut is_first = true;
    for (group, value) in series {
        let Some(value) = value else {
            continue;
        };
        if std::mem::take(&mut is_first) {
            text.push_str(help);
        }
        // Writing to a string does not fail.
        let _ = writeln!(text, "{metric}{{group=\"{}\"}} {value}", escaped(group));
    }
    if !is_first {
        text.push('\n');
    }
}

/// Writes all of them in Prometheus' text format.
pub(super) fn render(text: &mut String) {
    GROUPS.lock().render(text);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &str) -> Arc<Identity> {
        Arc::new(Identity::of_token("issuer", name.to_owned()))
    }

    fn rendered(groups: &Arc<Mutex<Groups>>) -> String {
        let mut text = String::new();
        groups.lock().render(&mut text);
        text
    }

    #[test]
    fn a_principal_fills_its_own_share_alone() {
        let groups = Arc::default();
        let (ann, bob) = (named("ann"), named("bob"));
        let anns: Vec<_> = (0..=MOST_OF_ONE)
            .map(|n| GroupMetrics::using(&groups, &format!("ann-{n}"), Some(&ann)))
            .collect();
        for metrics in &anns {
            metrics.rebalanced();
        }
        let bobs = GroupMetrics::using(&groups, "bob", Some(&bob)).counted();
        let text = rendered(&groups);
        assert!(
            text.contains("kafka_group_rebalances_total{group=\"ann-0\"} 1\n"),
            "{text}"
        );
        assert!(
            text.contains("kafka_group_rebalances_total{group=\"(other)\"} 1\n"),
            "{text}"
        );
        assert!(
            text.contains("rest_consumer_instances{group=\"bob\"} 1\n"),
            "{text}"
        );
        assert_eq!(groups.lock().own.len(), MOST_OF_ONE + 1);

        // What nobody uses any more stays until there is need for its room.
        drop((anns, bobs));
        let text = rendered(&groups);
        assert!(text.contains("group=\"ann-0\""), "{text}");
        assert!(
            text.contains("rest_consumer_instances{group=\"bob\"} 0\n"),
            "{text}"
        );
        let more = GroupMetrics::using(&groups, "ann-more", Some(&ann));
        more.rebalanced();
        let text = rendered(&groups);
        assert!(text.contains("group=\"ann-more\"} 1\n"), "{text}");
        assert!(!text.contains("group=\"ann-0\""), "{text}");
        assert!(text.contains("group=\"ann-1\""), "{text}");
        assert_eq!(groups.lock().own.len(), MOST_OF_ONE + 1);
    }

    #[test]
    fn all_have_a_bound_and_a_group_has_several_users() {
        let groups = Arc::default();
        let all: Vec<_> = (0..MOST)
            .map(|n| GroupMetrics::using(&groups, &n.to_string(), None))
            .collect();
        let again = GroupMetrics::using(&groups, "0", Some(&named("ann")));
        let one_more = GroupMetrics::using(&groups, "more", None);
        assert!(again.group.is_some() && one_more.group.is_none());
        drop(all);
        // The first is used still.
        let later = GroupMetrics::using(&groups, "later", None);
        assert!(later.group.is_some());
        assert!(groups.lock().own.contains_key("0"));
        assert!(!groups.lock().own.contains_key("1"));
    }
}
