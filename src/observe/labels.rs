//! Series whose label is a name that clients make up, such as a topic's or a group's. The recorder can
//! forget no series, so these are kept and written here: each principal has so many names, and all have so
//! many. A name beyond that counts into the series that all such names share, unless one that nobody uses
//! any more can make room.
//!
//! ```text
//! take("orders", ann) --known-------------------------> its label
//!        |
//!        +--new, a place is left----------------------> a label of its own, one of Ann's
//!        +--new, none is left, one is out of use------> that one goes, and makes room
//!        +--new, none is left-------------------------> "(other)"
//! ```

use std::collections::HashMap;
use std::fmt::Write;
use std::ops::Deref;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use parking_lot::RwLock;

use super::shares::{Full, Owner, Shares};
use crate::auth::identity::Identity;

/// Most names that have series of their own.
pub(super) const MOST: usize = 1_000;
/// Most of them that are of one principal.
pub(super) const MOST_OF_ONE: usize = 100;
/// The label that the rest share.
pub(super) const OTHERS: &str = "(other)";

/// From when times are counted.
static BEGINNING: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Nanoseconds since the beginning.
fn now() -> u64 {
    nanos(BEGINNING.elapsed())
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// When names that nobody uses lose their places.
#[derive(Debug, Clone, Copy)]
pub(super) struct Keeping {
    /// For so long after its last use none makes room for another.
    pub(super) at_least: Duration,
    /// So long after its last use it goes in any case.
    pub(super) at_most: Duration,
}

/// The names that have series, and what is counted of each.
#[derive(Debug)]
pub(super) struct Labels<C> {
    at_least: u64,
    at_most: u64,
    others: Arc<Entry<C>>,
    names: RwLock<Names<C>>,
}

#[derive(Debug)]
struct Names<C> {
    own: HashMap<Arc<str>, Arc<Entry<C>>>,
    shares: Shares,
    /// Before these moments no place can become free, of all places and of a principal's: it is not worth
    /// looking for one.
    full: u64,
    full_of: HashMap<Owner, u64>,
}

#[derive(Debug)]
struct Entry<C> {
    owner: Owner,
    counts: C,
    /// When it was left by its last user.
    left: AtomicU64,
    /// There is no such thing any more.
    is_gone: AtomicBool,
}

/// What is counted under a label, for one who uses it. Its series may go when all of these are dropped.
#[derive(Debug)]
pub(super) struct Label<C>(Arc<Entry<C>>);

impl<C> Deref for Label<C> {
    type Target = C;

    fn deref(&self) -> &C {
        &self.0.counts
    }
}

impl<C> Drop for Label<C> {
    fn drop(&mut self) {
        self.0.left.store(now(), Ordering::Relaxed);
    }
}

impl<C> Entry<C> {
    fn new(owner: Owner, counts: C) -> Arc<Self> {
        Arc::new(Self {
            owner,
            counts,
            left: AtomicU64::new(now()),
            is_gone: AtomicBool::new(false),
        })
    }

    /// Whether somebody uses it. Asked under the lock to write, under which nobody can begin to.
    fn is_used(self: &Arc<Self>) -> bool {
        Arc::strong_count(self) > 1
    }

    /// The moment that is `after` its last use; long past when it is gone.
    fn ends(&self, after: u64) -> u64 {
        if self.is_gone.load(Ordering::Relaxed) {
            0
        } else {
            self.left.load(Ordering::Relaxed).saturating_add(after)
        }
    }
}

impl<C: Default> Labels<C> {
    pub(super) fn new(keeping: Keeping) -> Self {
        Self {
            at_least: nanos(keeping.at_least),
            at_most: nanos(keeping.at_most),
            others: Entry::new(None, C::default()),
            names: RwLock::new(Names {
                own: HashMap::new(),
                shares: Shares::new(MOST, MOST_OF_ONE),
                full: 0,
                full_of: HashMap::new(),
            }),
        }
    }

    /// The label of `name` for one who uses it. A new one is `owner`'s.
    pub(super) fn take(&self, name: &str, owner: Option<&Arc<Identity>>) -> Label<C> {
        Label(self.entry(name, owner.cloned(), now))
    }

    fn entry(&self, name: &str, owner: Owner, now: impl Fn() -> u64) -> Arc<Entry<C>> {
        {
            let names = self.names.read();
            if let Some(entry) = names.get(name) {
                return entry;
            }
            if let Err(full) = names.shares.room(&owner)
                && names.is_full(full, &owner, now())
            {
                return Arc::clone(&self.others);
            }
        }
        let mut names = self.names.write();
        // Somebody else may have been faster.
        if let Some(entry) = names.get(name) {
            return entry;
        }
        if let Err(full) = names.shares.room(&owner)
            && !names.make_room(full, &owner, self.at_least, now())
        {
            return Arc::clone(&self.others);
        }
        names.shares.take(&owner);
        let entry = Entry::new(owner, C::default());
        names.own.insert(name.into(), Arc::clone(&entry));
        entry
    }

    /// What this name stood for is no more: its label goes as soon as nobody uses it.
    pub(super) fn gone(&self, name: &str) {
        if !self.names.read().own.contains_key(name) {
            return;
        }
        let mut names = self.names.write();
        if let Some(entry) = names.own.get(name) {
            if entry.is_used() {
                entry.is_gone.store(true, Ordering::Relaxed);
            } else {
                names.forget(name);
            }
        }
    }

    /// The series of one metric, whose label is called `name`: those of which `look` tells a value.
    pub(super) fn series<'a, T: 'a>(
        &self,
        name: &'a str,
        look: impl Fn(&C) -> Option<T>,
    ) -> impl Iterator<Item = (String, T)> + 'a {
        let all = self.all(look).into_iter();
        all.filter_map(move |(of, value)| Some((label(name, &of), value?)))
    }

    /// What `look` makes of each label that there is, by name, and of the one that others share. Labels
    /// that were not used for too long go first.
    pub(super) fn all<T>(&self, look: impl Fn(&C) -> T) -> Vec<(Arc<str>, T)> {
        self.forget_unused(now());
        let names = self.names.read();
        let mut all: Vec<_> = names
            .own
            .iter()
            .map(|(name, entry)| (Arc::clone(name), look(&entry.counts)))
            .collect();
        drop(names);
        all.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
        all.push((OTHERS.into(), look(&self.others.counts)));
        all
    }

    fn forget_unused(&self, now: u64) {
        let mut names = self.names.write();
        let is_over = |entry: &Arc<Entry<C>>| !entry.is_used() && entry.ends(self.at_most) <= now;
        let over = names.own.iter().filter(|(_, entry)| is_over(entry));
        let over: Vec<Arc<str>> = over.map(|(name, _)| Arc::clone(name)).collect();
        for name in over {
            names.forget(&name);
        }
    }
}

impl<C> Names<C> {
    fn get(&self, name: &str) -> Option<Arc<Entry<C>>> {
        let entry = self.own.get(name)?;
        if entry.is_gone.load(Ordering::Relaxed) {
            // There is one of this name again.
            entry.is_gone.store(false, Ordering::Relaxed);
        }
        Some(Arc::clone(entry))
    }

    /// Whether it is known that no place can be made yet.
    fn is_full(&self, full: Full, owner: &Owner, now: u64) -> bool {
        now < match full {
            Full::All => self.full,
            Full::Own => self.full_of.get(owner).copied().unwrap_or(0),
        }
    }

    /// Forgets the label of these that has been without users for the longest time, if that is long enough.
    fn make_room(&mut self, full: Full, owner: &Owner, at_least: u64, now: u64) -> bool {
        let unused = self.own.iter().filter(|(_, entry)| {
            let is_one = match full {
                Full::All => true,
                Full::Own => entry.owner == *owner,
            };
            is_one && !entry.is_used()
        });
        let ends = unused.map(|(name, entry)| (entry.ends(at_least), name));
        let first = ends.min().map(|(ends, name)| (ends, Arc::clone(name)));
        match first {
            Some((ends, name)) if ends <= now => {
                self.forget(&name);
                true
            }
            // One that is in use now is left later than any that is not.
            first => {
                let until = first.map_or(now.saturating_add(at_least), |(ends, _)| ends);
                match full {
                    Full::All => self.full = until,
                    Full::Own => {
                        self.full_of.insert(owner.clone(), until);
                    }
                }
                false
            }
        }
    }

    fn forget(&mut self, name: &str) {
        if let Some(entry) = self.own.remove(name) {
            self.shares.give_back(&entry.owner);
            self.full_of.remove(&entry.owner);
        }
    }
}

/// What is counted of something that a label may never have been about, where it has been.
pub(super) fn shown(is_shown: &AtomicBool, value: &AtomicU64) -> Option<u64> {
    let is_shown = is_shown.load(Ordering::Relaxed);
    is_shown.then(|| value.load(Ordering::Relaxed))
}

/// Writes the series of one metric that there are: their labels, as [`label`] has them, and values.
pub(super) fn family<T: std::fmt::Display>(
    text: &mut String,
    (metric, kind, help): (&str, &str, &str),
    series: impl Iterator<Item = (String, T)>,
) {
    let mut is_first = true;
    // Writing to a string does not fail.
    for (labels, value) in series {
        if std::mem::take(&mut is_first) {
            let _ = writeln!(text, "# HELP {metric} {help}\n# TYPE {metric} {kind}");
        }
        let _ = writeln!(text, "{metric}{{{labels}}} {value}");
    }
    if !is_first {
        text.push('\n');
    }
}

/// A label with its value. The name of a group may have any characters.
pub(super) fn label(name: &str, value: &str) -> String {
    let mut label = format!("{name}=\"");
    for char in value.chars() {
        match char {
            '\\' => label.push_str("\\\\"),
            '"' => label.push_str("\\\""),
            '\n' => label.push_str("\\n"),
            other => label.push(other),
        }
    }
    label.push('"');
    label
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);
    const HOUR: Duration = Duration::from_secs(3600);

    type Counts = AtomicU64;

    fn labels() -> Labels<Counts> {
        Labels::new(Keeping {
            at_least: MINUTE,
            at_most: HOUR,
        })
    }

    fn named(name: &str) -> Arc<Identity> {
        Arc::new(Identity::of_token("issuer", name.to_owned()))
    }

    fn count(label: &Label<Counts>) {
        label.fetch_add(1, Ordering::Relaxed);
    }

    fn shown(labels: &Labels<Counts>) -> Vec<(Arc<str>, u64)> {
        labels.all(|count| count.load(Ordering::Relaxed))
    }

    fn has(labels: &Labels<Counts>, name: &str) -> bool {
        labels.names.read().own.contains_key(name)
    }

    fn later(labels: &Labels<Counts>, name: &str, owner: &Arc<Identity>, after: Duration) {
        let at = now() + nanos(after);
        let entry = labels.entry(name, Some(Arc::clone(owner)), || at);
        count(&Label(entry));
    }

    #[test]
    fn a_principal_fills_its_own_share_alone() {
        let labels = labels();
        let (ann, bob) = (named("ann"), named("bob"));
        for nth in 0..MOST_OF_ONE + 5 {
            count(&labels.take(&format!("ann-{nth}"), Some(&ann)));
        }
        // Another's label is used by whoever has need of it.
        count(&labels.take("ann-0", Some(&bob)));
        count(&labels.take("bob", Some(&bob)));
        let shown = shown(&labels);
        assert_eq!(shown.len(), MOST_OF_ONE + 2);
        assert!(shown.contains(&("ann-0".into(), 2)));
        assert!(shown.contains(&("bob".into(), 1)));
        assert_eq!(shown.last(), Some(&(OTHERS.into(), 5)));
    }

    #[test]
    fn the_one_unused_longest_makes_room_when_it_was_not_used_lately() {
        let labels = labels();
        let ann = named("ann");
        let used = labels.take("ann-0", Some(&ann));
        for nth in 1..MOST_OF_ONE {
            count(&labels.take(&format!("ann-{nth}"), Some(&ann)));
        }
        later(&labels, "new", &ann, MINUTE / 2);
        assert!(!has(&labels, "new"), "all of them were used lately");
        later(&labels, "new", &ann, MINUTE * 2);
        assert!(has(&labels, "new"));
        assert!(has(&labels, "ann-0"), "it is used");
        assert!(!has(&labels, "ann-1"));
        assert!(has(&labels, "ann-2"));
        assert_eq!(shown(&labels).last(), Some(&(OTHERS.into(), 1)));
        drop(used);
    }

    #[test]
    fn a_label_that_is_unused_for_too_long_is_forgotten_and_others_keep_their_sum() {
        let labels = labels();
        let used = labels.take("used", None);
        count(&labels.take("unused", None));
        count(&Label(Arc::clone(&labels.others)));
        labels.forget_unused(now() + nanos(HOUR / 2));
        assert!(has(&labels, "unused"));
        labels.forget_unused(now() + nanos(HOUR * 2));
        assert!(has(&labels, "used") && !has(&labels, "unused"));
        // It begins anew, and what was counted among the others stays.
        count(&labels.take("unused", None));
        let expected = [("unused", 1), ("used", 0), (OTHERS, 1)];
        assert_eq!(
            shown(&labels),
            expected.map(|(name, n)| (Arc::from(name), n))
        );
        drop(used);
    }

    #[test]
    fn a_label_that_is_gone_is_dropped_once_nobody_uses_it() {
        let labels = labels();
        count(&labels.take("unused", None));
        labels.gone("unused");
        assert!(!has(&labels, "unused"));
        let used = labels.take("used", None);
        labels.gone("used");
        count(&used);
        assert!(has(&labels, "used"));
        drop(used);
        assert_eq!(shown(&labels), [(Arc::from(OTHERS), 0)]);
        // One that is there again in time stays.
        let used = labels.take("again", None);
        labels.gone("again");
        drop(used);
        drop(labels.take("again", None));
        assert_eq!(shown(&labels).len(), 2);
    }

    #[test]
    fn labels_are_bounded_and_further_values_count_as_others() {
        let labels = labels();
        for nth in 0..=MOST {
            count(&labels.take(&nth.to_string(), None));
        }
        assert_eq!(shown(&labels).len(), MOST + 1);
        assert_eq!(shown(&labels).last(), Some(&(OTHERS.into(), 1)));
        later(&labels, "new", &named("ann"), MINUTE * 2);
        assert!(has(&labels, "new") && !has(&labels, "0"));
    }

    #[test]
    fn a_label_may_have_any_characters() {
        assert_eq!(label("group", "a \"b\\c\"\nd"), r#"group="a \"b\\c\"\nd""#);
    }
}
