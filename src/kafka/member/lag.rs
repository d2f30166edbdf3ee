//! How far groups are behind: what is committed of each partition, against where it ends.
//!
//! Members tell what they commit. Where the partitions end is asked of the brokers every few seconds, for
//! all members of the process together, so that it is known while nothing is fetched as well. A partition
//! that has left the process is looked at for some time more, with what the group has committed asked of
//! Kafka: that a group has lost its last member is when somebody wants to know how far it is behind.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::{Instant, sleep};

use crate::auth::identity::Identity;
use crate::kafka::admin::{Admin, Isolation, OffsetQuery, OffsetSpec};
use crate::kafka::fault::FaultKind;
use crate::observe::lag::{self, Series};
use crate::record::TopicPartition;

/// A partition to be asked about, and the series that its end is for.
type Asked = ((Arc<str>, i32), Vec<Series>);

/// How often the brokers are asked where partitions end.
const ROUND: Duration = Duration::from_secs(5);
/// In every so many rounds Kafka is asked what groups have committed whose partitions have left.
const ROUNDS_OF_LEFT: u32 = 2;
/// How long a partition is looked at after it has left the process.
const KEPT: Duration = Duration::from_secs(600);
/// Most groups, and partitions, that have left and are looked at.
const MOST_LEFT_GROUPS: usize = 100;
const MOST_LEFT: usize = 2_000;

/// The lags of all groups that have members in this process. Clones share them.
#[derive(Debug, Clone)]
pub(super) struct Lags(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    admin: Admin,
    /// Longest wait for one answer.
    bound: Duration,
    known: Mutex<Known>,
}

/// What a member has of a partition. When it is dropped the partition has left the member.
#[derive(Debug)]
pub(super) struct Lag {
    of: Arc<Inner>,
    series: Series,
}

impl Lags {
    pub(super) fn new(admin: Admin, bound: Duration) -> Self {
        Self(Arc::new(Inner {
            admin,
            bound,
            known: Mutex::default(),
        }))
    }

    /// A member of `group` has the partition from now on, on behalf of `owner`. The group goes on at `next`, and the
    /// partition ends at `end`, as members with this isolation see it.
    pub(super) fn of(
        &self,
        group: &str,
        owner: Option<&Arc<Identity>>,
        partition: &TopicPartition,
        isolation: Isolation,
        next: i64,
        end: i64,
    ) -> Lag {
        let series = Series {
            group: Arc::from(group),
            topic: Arc::clone(&partition.topic),
            partition: partition.partition,
        };
        let mut known = self.0.known.lock();
        known.come(&series, owner, isolation, next, end);
        if !std::mem::replace(&mut known.is_asking, true) {
            tokio::spawn(ask(Arc::downgrade(&self.0)));
        }
        Lag {
            of: Arc::clone(&self.0),
            series,
        }
    }
}

impl Lag {
    /// The group has committed this offset, the next to read.
    pub(super) fn committed(&self, next: i64) {
        self.of.known.lock().committed(&self.series, next);
    }
}

impl Drop for Lag {
    fn drop(&mut self) {
        self.of.known.lock().leave(&self.series, Instant::now());
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        for series in self.known.get_mut().entries.keys() {
            lag::forget(series);
        }
    }
}

/// What is known of each partition of a group.
#[derive(Debug, Default)]
struct Known {
    entries: HashMap<Series, Entry>,
    is_asking: bool,
}

#[derive(Debug)]
struct Entry {
    isolation: Isolation,
    /// Members that have it; two for a moment when it moves within the process.
    members: u32,
    /// What is committed, or where the group began if nothing is.
    next: i64,
    end: i64,
    /// Since when no member has it.
    left: Option<Instant>,
    /// On whose behalf the first member had it.
    owner: Option<Arc<Identity>>,
}

impl Entry {
    fn say(&self, series: &Series) {
        let records = u64::try_from(self.end - self.next).unwrap_or(0);
        lag::set(series, self.owner.as_ref(), records);
    }
}

impl Known {
    fn come(
        &mut self,
        series: &Series,
        owner: Option<&Arc<Identity>>,
        isolation: Isolation,
        next: i64,
        end: i64,
    ) {
        let entry = self.entries.entry(series.clone()).or_insert(Entry {
            isolation,
            members: 0,
            next,
            end,
            left: None,
            owner: owner.cloned(),
        });
        entry.members += 1;
        entry.isolation = isolation;
        entry.next = next;
        entry.end = end;
        entry.left = None;
        entry.say(series);
    }

    fn committed(&mut self, series: &Series, next: i64) {
        if let Some(entry) = self.entries.get_mut(series) {
            entry.next = next;
            // It was written since the brokers were asked.
            entry.end = entry.end.max(next);
            entry.say(series);
        }
    }

    fn ends(&mut self, series: &Series, end: i64) {
        if let Some(entry) = self.entries.get_mut(series) {
            entry.end = end.max(entry.next);
            entry.say(series);
        }
    }

    fn leave(&mut self, series: &Series, now: Instant) {
        if let Some(entry) = self.entries.get_mut(series) {
            entry.members = entry.members.saturating_sub(1);
            if entry.members == 0 {
                entry.left = Some(now);
            }
        }
    }

    /// Forgets a partition that no member has.
    fn forget(&mut self, series: &Series) {
        if self
            .entries
            .get(series)
            .is_some_and(|entry| entry.members == 0)
        {
            self.entries.remove(series);
            lag::forget(series);
        }
    }

    /// Forgets what left too long ago, and what is too much; gives the rest of what has left, by group.
    fn left(&mut self, now: Instant) -> BTreeMap<Arc<str>, Vec<Series>> {
        let left = self.entries.iter();
        let left = left.filter_map(|(series, entry)| Some((entry.left?, series.clone())));
        let mut left: Vec<(Instant, Series)> = left.collect();
        // What left last is kept.
        left.sort_unstable_by(|one, other| other.cmp(one));
        let mut groups: BTreeMap<Arc<str>, Vec<Series>> = BTreeMap::new();
        for (nth, (since, series)) in left.into_iter().enumerate() {
            let is_full = groups.len() >= MOST_LEFT_GROUPS && !groups.contains_key(&series.group);
            if now.saturating_duration_since(since) >= KEPT || is_full || nth >= MOST_LEFT {
                self.forget(&series);
            } else {
                groups
                    .entry(Arc::clone(&series.group))
                    .or_default()
                    .push(series);
            }
        }
        groups
    }

    /// The partitions to be asked about, each once for an isolation, and whose they are.
    fn asked(&self, isolation: Isolation) -> Vec<Asked> {
        let mut asked: BTreeMap<(Arc<str>, i32), Vec<Series>> = BTreeMap::new();
        for (series, entry) in &self.entries {
            if entry.isolation == isolation {
                let of = (Arc::clone(&series.topic), series.partition);
                asked.entry(of).or_default().push(series.clone());
            }
        }
        asked.into_iter().collect()
    }
}

/// Asks for as long as there is something to ask.
async fn ask(inner: Weak<Inner>) {
    let mut round: u32 = 0;
    loop {
        sleep(ROUND).await;
        let Some(inner) = inner.upgrade() else {
            return;
        };
        let left = inner.known.lock().left(Instant::now());
        if round.is_multiple_of(ROUNDS_OF_LEFT) {
            inner.ask_committed(left).await;
        }
        round = round.wrapping_add(1);
        for isolation in [Isolation::Committed, Isolation::Uncommitted] {
            inner.ask_ends(isolation).await;
        }
        let mut known = inner.known.lock();
        if known.entries.is_empty() {
            // Under the lock: whoever comes next asks again.
            known.is_asking = false;
            return;
        }
    }
}

impl Inner {
    async fn ask_ends(&self, isolation: Isolation) {
        let asked = self.known.lock().asked(isolation);
        if asked.is_empty() {
            return;
        }
        let wanted: Vec<OffsetQuery> = asked
            .iter()
            .map(|((topic, partition), _)| {
                OffsetQuery::new(&**topic, *partition, OffsetSpec::Latest)
            })
            .collect();
        let found = self
            .admin
            .list_offsets(&wanted, isolation, self.bound)
            .await;
        let mut known = self.known.lock();
        for ((_, all), end) in asked.iter().zip(found) {
            for series in all {
                match &end {
                    Ok(Some(end)) => known.ends(series, *end),
                    Err(fault) if is_gone(fault.kind) => known.forget(series),
                    // What was known last is as good as anything.
                    Ok(None) | Err(_) => {}
                }
            }
        }
    }

    async fn ask_committed(&self, left: BTreeMap<Arc<str>, Vec<Series>>) {
        for (group, all) in left {
            let partitions: Vec<TopicPartition> = all
                .iter()
                .map(|series| TopicPartition::new(Arc::clone(&series.topic), series.partition))
                .collect();
            let asked = self.admin.group_offsets(&group, &partitions, self.bound);
            let found = asked.await;
            let mut known = self.known.lock();
            for (series, partition) in all.iter().zip(&partitions) {
                // Another member of this process may have it by now, and knows better.
                if known
                    .entries
                    .get(series)
                    .is_none_or(|entry| entry.left.is_none())
                {
                    continue;
                }
                match &found {
                    Ok(found) => match found.get(partition) {
                        Some(Ok(Some(next))) => known.committed(series, *next),
                        Some(Ok(None)) => known.forget(series),
                        Some(Err(fault)) if is_gone(fault.kind) => known.forget(series),
                        Some(Err(_)) | None => {}
                    },
                    Err(fault) if is_gone(fault.kind) => known.forget(series),
                    Err(_) => {}
                }
            }
        }
    }
}

/// Whether there is no such group, topic or partition any more.
fn is_gone(kind: FaultKind) -> bool {
    matches!(
        kind,
        FaultKind::NotFound | FaultKind::UnknownTopic | FaultKind::UnknownPartition
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(group: &str, partition: i32) -> Series {
        Series {
            group: Arc::from(group),
            topic: Arc::from("lags"),
            partition,
        }
    }

    fn lag(known: &Known, of: &Series) -> Option<i64> {
        known.entries.get(of).map(|entry| entry.end - entry.next)
    }

    #[tokio::test]
    async fn lag_is_the_end_less_what_is_committed() {
        let (mut known, of) = (Known::default(), series("g", 0));
        known.come(&of, None, Isolation::Committed, 10, 30);
        assert_eq!(lag(&known, &of), Some(20));
        known.committed(&of, 25);
        known.ends(&of, 40);
        assert_eq!(lag(&known, &of), Some(15));
        // Committed before the brokers have said that it is there.
        known.committed(&of, 42);
        assert_eq!(lag(&known, &of), Some(0));
        known.ends(&of, 41);
        assert_eq!(lag(&known, &of), Some(0));
    }

    #[tokio::test]
    async fn the_lag_of_a_partition_without_a_member_is_kept_for_a_time() {
        let (mut known, of) = (Known::default(), series("g", 0));
        let now = Instant::now();
        known.come(&of, None, Isolation::Committed, 0, 5);
        // It moves within the process.
        known.come(&of, None, Isolation::Committed, 2, 5);
        known.leave(&of, now);
        assert!(known.left(now + KEPT).is_empty());
        assert_eq!(lag(&known, &of), Some(3));
        known.forget(&of);
        assert_eq!(lag(&known, &of), Some(3), "a member has it");
        known.leave(&of, now);
        let left = known.left(now + KEPT / 2);
        assert_eq!(left[&of.group], std::slice::from_ref(&of));
        assert!(known.left(now + KEPT).is_empty());
        assert_eq!(lag(&known, &of), None);
    }

    #[tokio::test]
    async fn lags_of_partitions_without_a_member_take_bounded_room() {
        let mut known = Known::default();
        let now = Instant::now();
        for nth in 0..300 {
            let of = series(&format!("g{nth}"), 0);
            known.come(&of, None, Isolation::Committed, 0, 5);
            known.leave(&of, now + Duration::from_millis(nth));
        }
        for partition in 0..5_000 {
            let of = series("g299", partition);
            known.come(&of, None, Isolation::Committed, 0, 5);
            known.leave(&of, now);
        }
        let left = known.left(now + Duration::from_secs(1));
        assert!(left.len() <= MOST_LEFT_GROUPS);
        assert_eq!(
            known.entries.len(),
            left.values().map(Vec::len).sum::<usize>()
        );
        assert!(known.entries.len() <= MOST_LEFT);
        // Those that left last are there.
        assert!(left.contains_key("g298"));
        assert!(!left.contains_key("g0"));
    }
}
