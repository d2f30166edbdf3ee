//! Where a partition starts that a member is given: at what the group has committed, and where there is
//! nothing, where the client wants to start.
//!
//! `latest` (and a time) is for what was there when the group came. What came later is new to the group as
//! a whole, and starts at its beginning, or its first records would never be read by anybody. So what is
//! there is looked at once, when the member subscribes: the topics, how many partitions they have, and
//! whether the group has committed anything in them.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::{GroupStart, OffsetReset, Options, SeekTo};
use crate::kafka::fault::Fault;
use crate::kafka::metadata::{Metadata, Topic};
use crate::kafka::offset_resolver::{OffsetResolver, ResolvedOffsets, all_failed};
use crate::record::TopicPartition;

/// How long what was found when the member subscribed is taken for what is so now.
const FRESH: Duration = Duration::from_secs(5);

/// A topic as it was when the member subscribed to it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Former {
    id: [u8; 16],
    partitions: usize,
    /// The group had committed something in it.
    is_committed: bool,
    found: Instant,
}

/// The topics that were there when the member subscribed to them.
#[derive(Debug, Clone, Default)]
pub(super) struct Before(HashMap<Arc<str>, Former>);

impl Before {
    /// Whether it can matter what was there, for those who start like this.
    pub(super) fn matters(options: &Options) -> bool {
        match &options.from {
            GroupStart::Earliest => false,
            GroupStart::Committed | GroupStart::Positions(_) => {
                options.reset != OffsetReset::Earliest
            }
            GroupStart::Latest | GroupStart::Time(_) => true,
        }
    }

    /// Looks at `topics`.
    ///
    /// # Errors
    ///
    /// What kept Kafka from answering.
    pub(super) async fn look(
        resolver: &OffsetResolver,
        metadata: &Metadata,
        topics: Vec<Arc<str>>,
    ) -> Result<Self, Fault> {
        let mut found = Vec::with_capacity(topics.len());
        let mut partitions = Vec::new();
        for name in topics {
            let topic = metadata.topic(&name).await?;
            let ids = topic.partitions.iter().map(|partition| partition.id);
            partitions.extend(ids.map(|id| TopicPartition::new(Arc::clone(&name), id)));
            found.push((name, topic));
        }
        if partitions.is_empty() {
            return Ok(Self::default());
        }
        let mut committed = HashSet::new();
        for (partition, offset) in resolver.committed(&partitions).await? {
            if offset?.is_some() {
                committed.insert(partition.topic);
            }
        }
        let now = Instant::now();
        let former = found.into_iter().map(|(name, topic)| {
            let former = Former {
                id: topic.id,
                partitions: topic.partitions.len(),
                is_committed: committed.contains(&name),
                found: now,
            };
            (name, former)
        });
        Ok(Self(former.collect()))
    }

    /// Whether it is known of the topic that it was there.
    pub(super) fn has(&self, topic: &str) -> bool {
        self.0.contains_key(topic)
    }

    /// Adds what was found of other topics, and forgets those that are not `wanted` any more.
    pub(super) fn update(&mut self, others: Self, wanted: &[Arc<str>]) {
        self.0.extend(others.0);
        self.0.retain(|topic, _| wanted.contains(topic));
    }

    /// How new a partition is of which the group has committed nothing. `topic` is what it is now.
    fn age(&self, partition: &TopicPartition, topic: Option<&Topic>) -> Age {
        let Some(former) = self.0.get(&partition.topic) else {
            return Age::Appeared;
        };
        let is_another = topic.is_some_and(|topic| topic.id != former.id);
        let number = usize::try_from(partition.partition).unwrap_or(usize::MAX);
        if is_another || number >= former.partitions {
            Age::Appeared
        } else if former.is_committed {
            Age::NewToGroup
        } else {
            Age::Old
        }
    }

    fn is_stale(&self, topic: &str) -> bool {
        let former = self.0.get(topic);
        former.is_some_and(|former| former.found.elapsed() > FRESH)
    }
}

/// How new a partition is of which the group has committed nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Age {
    /// It was there when the member subscribed, and the group knew as little of the topic.
    Old,
    /// It was there, but the group has read the topic without it.
    NewToGroup,
    /// It was not there when the member subscribed.
    Appeared,
}

/// Where a partition starts of which the group has committed nothing. `former` is where it started in this
/// member before.
fn aim(options: &Options, partition: &TopicPartition, age: Age, former: Option<i64>) -> SeekTo {
    if let GroupStart::Positions(positions) = &options.from
        && let Some((_, offset)) = positions.iter().find(|(named, _)| named == partition)
    {
        return SeekTo::Offset(*offset);
    }
    match (&options.from, options.reset, age) {
        (GroupStart::Earliest, ..) | (_, _, Age::Appeared) => SeekTo::Beginning,
        // It was to be told of such.
        (GroupStart::Committed | GroupStart::Positions(_), OffsetReset::Error, _) => {
            SeekTo::Committed
        }
        (_, _, Age::NewToGroup) => SeekTo::Beginning,
        (_, _, Age::Old) if former.is_some() => former.map_or(SeekTo::End, SeekTo::Offset),
        (GroupStart::Latest, ..) => SeekTo::End,
        (GroupStart::Time(time), ..) => SeekTo::Time(*time),
        (GroupStart::Committed | GroupStart::Positions(_), OffsetReset::Earliest, _) => {
            SeekTo::Beginning
        }
        (GroupStart::Committed | GroupStart::Positions(_), OffsetReset::Latest, _) => SeekTo::End,
    }
}

/// Who looks up where partitions start.
pub(super) struct Starter {
    pub(super) resolver: Arc<OffsetResolver>,
    pub(super) metadata: Metadata,
    pub(super) options: Arc<Options>,
    pub(super) before: Arc<Before>,
}

impl Starter {
    /// Where these start; each comes with where it started in this member before.
    pub(super) async fn starts(
        &self,
        partitions: &[(TopicPartition, Option<i64>)],
    ) -> ResolvedOffsets {
        let names = || partitions.iter().map(|(partition, _)| partition);
        let all: Vec<TopicPartition> = names().cloned().collect();
        let committed = match self.resolver.committed(&all).await {
            Ok(committed) => committed,
            Err(fault) => return all_failed(names(), &fault),
        };
        let has_none = |partition| matches!(committed.get(partition), Some(Ok(None)));
        let topics = self.topics(names().filter(|p| has_none(p))).await;
        let mut aims = Vec::with_capacity(partitions.len());
        let mut failed = HashMap::new();
        for (partition, former) in partitions {
            if !has_none(partition) {
                aims.push((partition.clone(), SeekTo::Committed));
                continue;
            }
            let topic = match topics.get(&partition.topic) {
                Some(Ok(topic)) => Some(&**topic),
                Some(Err(fault)) => {
                    failed.insert(partition, fault.clone());
                    continue;
                }
                None => None,
            };
            let age = self.before.age(partition, topic);
            let aim = aim(&self.options, partition, age, *former);
            aims.push((partition.clone(), aim));
        }
        let mut placed = self
            .resolver
            .resolve_with(&aims, &committed)
            .await
            .into_iter();
        names()
            .filter_map(|partition| match failed.remove(partition) {
                Some(fault) => Some((partition.clone(), Err(fault))),
                None => placed.next(),
            })
            .collect()
    }

    /// The topics as they are now, as far as they were there before: one may have been created again.
    async fn topics(
        &self,
        partitions: impl Iterator<Item = &TopicPartition>,
    ) -> HashMap<Arc<str>, Result<Arc<Topic>, Fault>> {
        let mut topics = HashMap::new();
        let names: HashSet<Arc<str>> = partitions.map(|p| Arc::clone(&p.topic)).collect();
        for name in names {
            if !self.before.has(&name) {
                continue;
            }
            if self.before.is_stale(&name) {
                self.metadata.invalidate(&name).await;
            }
            let topic = self.metadata.topic(&name).await;
            topics.insert(name, topic);
        }
        topics
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(from: GroupStart, reset: OffsetReset) -> Options {
        Options {
            from,
            reset,
            ..Options::new("web", ["orders"])
        }
    }

    fn at(partition: i32) -> TopicPartition {
        TopicPartition::new("orders", partition)
    }

    fn before(is_committed: bool) -> Before {
        let former = Former {
            id: [1; 16],
            partitions: 2,
            is_committed,
            found: Instant::now(),
        };
        Before(HashMap::from([(Arc::from("orders"), former)]))
    }

    #[test]
    fn latest_is_for_what_was_there_and_the_rest_starts_at_its_beginning() {
        let positions = || GroupStart::Positions(vec![(at(1), 7)]);
        let (begin, end) = (SeekTo::Beginning, SeekTo::End);
        for (from, reset, old, new_to_group, appeared) in [
            (
                GroupStart::Committed,
                OffsetReset::Latest,
                end,
                begin,
                begin,
            ),
            (
                GroupStart::Committed,
                OffsetReset::Earliest,
                begin,
                begin,
                begin,
            ),
            (
                GroupStart::Committed,
                OffsetReset::Error,
                SeekTo::Committed,
                SeekTo::Committed,
                begin,
            ),
            (GroupStart::Latest, OffsetReset::Latest, end, begin, begin),
            (
                GroupStart::Earliest,
                OffsetReset::Latest,
                begin,
                begin,
                begin,
            ),
            (
                GroupStart::Time(5),
                OffsetReset::Latest,
                SeekTo::Time(5),
                begin,
                begin,
            ),
            (positions(), OffsetReset::Latest, end, begin, begin),
        ] {
            let options = options(from, reset);
            for (age, expected) in [
                (Age::Old, old),
                (Age::NewToGroup, new_to_group),
                (Age::Appeared, appeared),
            ] {
                assert_eq!(
                    aim(&options, &at(0), age, None),
                    expected,
                    "{options:?} {age:?}"
                );
            }
        }
        let named = options(positions(), OffsetReset::Error);
        for age in [Age::Old, Age::NewToGroup, Age::Appeared] {
            assert_eq!(aim(&named, &at(1), age, None), SeekTo::Offset(7));
        }
    }

    #[test]
    fn a_partition_that_comes_back_uncommitted_starts_where_it_did() {
        let latest = options(GroupStart::Committed, OffsetReset::Latest);
        assert_eq!(aim(&latest, &at(0), Age::Old, Some(4)), SeekTo::Offset(4));
        // It may be of a topic that has gone, and would be missed in that of its name.
        assert_eq!(
            aim(&latest, &at(0), Age::Appeared, Some(4)),
            SeekTo::Beginning
        );
    }

    #[test]
    fn what_is_new_is_known_by_the_topics_partitions_commits_and_id() {
        let topic = |id| Topic::led("orders", id, 3);
        for (before, partition, id, age) in [
            (before(false), 1, 1, Age::Old),
            (before(true), 1, 1, Age::NewToGroup),
            (before(true), 2, 1, Age::Appeared),
            (before(true), 1, 2, Age::Appeared),
            (Before::default(), 0, 1, Age::Appeared),
        ] {
            assert_eq!(before.age(&at(partition), Some(&topic(id))), age);
        }
    }

    #[test]
    fn a_topic_that_is_subscribed_to_again_is_looked_at_again() {
        let mut known = before(true);
        known.update(Before::default(), &[Arc::from("others")]);
        assert!(!known.has("orders"));
        known.update(before(false), &[Arc::from("orders")]);
        assert!(known.has("orders"));
    }
}
