//! Which partitions of which topics a request reads.

use std::ops::RangeInclusive;
use std::sync::Arc;

use super::error::ReadError;
use crate::auth::Principal;
use crate::auth::policy::{self, RecordVisibility};
use crate::config::KeyedTopicSettings;
use crate::filter::Filter;
use crate::glob::Glob;
use crate::kafka::metadata::Topic;
use crate::kafka::{Cluster, partitioner};
use crate::position::MAX_PARTITIONS;

/// What [`Partitions::parse`] takes.
pub(crate) const EXPECTED: &str =
    "a list such as 0,2-3, or orders:0,orders:2-3,users:1 of several topics";

/// What is read of a topic.
#[derive(Debug, Clone)]
pub(crate) struct Part {
    pub(crate) topic: Arc<Topic>,
    /// Sorted.
    pub(crate) partitions: Vec<i32>,
    /// All of them, and those that come into being.
    pub(crate) all: bool,
}

/// The parameter `partitions`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Partitions {
    /// `None`: of the one topic that is read.
    of: Vec<(Option<String>, RangeInclusive<i32>)>,
}

/// What a request reads, and what of it is shown.
pub(crate) struct Scope {
    pub(crate) parts: Vec<Part>,
    pub(crate) visibility: RecordVisibility,
}

impl Partitions {
    /// As in a position, a number without a topic is of the topic before it.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut topic = None;
        let ranges = text.split(',').map(|part| {
            let part = part.trim();
            let range = match part.rsplit_once(':') {
                Some((name, range)) => {
                    topic = Some(name.trim().to_owned());
                    range
                }
                None => part,
            };
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            let (first, last) = (first.parse::<u16>().ok()?, last.parse::<u16>().ok()?);
            (first <= last).then(|| (topic.clone(), i32::from(first)..=i32::from(last)))
        });
        let of = ranges.collect::<Option<_>>()?;
        Some(Self { of })
    }

    /// Each part must be of a topic that is read.
    fn check(&self, topics: &[String]) -> Result<(), ReadError> {
        let problem = self.of.iter().find_map(|(name, range)| match name {
            None if topics.len() > 1 => Some(format!(
                "partitions: of which topic is {}? Name it, as in {}:{0}",
                range.start(),
                topics.first().map_or("orders", String::as_str)
            )),
            Some(name) if !topics.contains(name) => Some(format!(
                "partitions: this request does not read topic {name:.200}"
            )),
            _ => None,
        });
        match problem {
            None => Ok(()),
            Some(problem) => Err(ReadError::Invalid {
                field: "partitions",
                message: problem,
            }),
        }
    }

    /// The partitions of `topic` that are meant. A topic that is not named is read whole.
    fn choose(&self, topic: &Arc<Topic>) -> Result<Part, ReadError> {
        let ranges: Vec<_> = self
            .of
            .iter()
            .filter(|(name, _)| name.as_ref().is_none_or(|name| **name == *topic.name))
            .map(|(_, range)| range)
            .collect();
        for partition in ranges
            .iter()
            .flat_map(|range| [*range.start(), *range.end()])
        {
            topic
                .partition(partition)
                .map_err(ReadError::NoSuchPartition)?;
        }
        let chosen = |id: &i32| ranges.is_empty() || ranges.iter().any(|range| range.contains(id));
        let ids = topic.partitions.iter().map(|partition| partition.id);
        Ok(Part {
            topic: Arc::clone(topic),
            partitions: ids.filter(chosen).collect(),
            all: ranges.is_empty(),
        })
    }
}

impl Part {
    /// Where all records of `key` lie in one partition, only that one is read.
    fn of_key(&mut self, key: Option<&[u8]>, keyed: &[KeyedTopicSettings]) {
        let Some(key) = key.filter(|_| self.all) else {
            return;
        };
        let declared = keyed
            .iter()
            .find(|keyed| Glob::new(&keyed.topic).matches(&self.topic.name));
        let partition = declared.and_then(|declared| {
            let count = self.topic.partitions.len();
            partitioner::partition(declared.partitioner, key, count)
        });
        if let Some(partition) = partition
            && self.topic.partition(partition).is_ok()
        {
            self.partitions = vec![partition];
            self.all = false;
        }
    }
}

impl Scope {
    /// What `principal` reads of `topics` in `cluster` that `partitions` and `filter` ask for. The permissions have
    /// been asked for; which records they show is asked here.
    ///
    /// # Errors
    ///
    /// [`ReadError`].
    pub(crate) async fn new(
        cluster: &Cluster,
        keyed_topics: &[KeyedTopicSettings],
        principal: &Principal,
        topics: &[String],
        partitions: &Partitions,
        filter: &Filter,
    ) -> Result<Self, ReadError> {
        let names: Vec<Arc<str>> = topics.iter().map(|name| Arc::from(name.as_str())).collect();
        let visibility = visibility(principal, &names)?;
        partitions.check(topics)?;
        let mut parts = Vec::with_capacity(topics.len());
        for name in topics {
            let mut part = partitions.choose(&known(cluster, name).await?)?;
            let key = filter.key().or_else(|| visibility.key(name));
            part.of_key(key, keyed_topics);
            parts.push(part);
        }
        let count: usize = parts.iter().map(|part| part.partitions.len()).sum();
        if count > MAX_PARTITIONS {
            let (field, fewer) = match topics {
                [_] => ("partitions", "name some of them"),
                _ => ("topics", "name fewer, or some of their partitions"),
            };
            return Err(ReadError::Invalid {
                field,
                message: format!("{count} partitions; one read may have {MAX_PARTITIONS}: {fewer}"),
            });
        }
        Ok(Self { parts, visibility })
    }
}

/// What `principal` is shown of `topics`. To be shown nothing counts as being refused.
///
/// # Errors
///
/// [`ReadError::NotVisible`], or that it was so too often.
pub(crate) fn visibility(
    principal: &Principal,
    topics: &[Arc<str>],
) -> Result<RecordVisibility, ReadError> {
    policy::visibility(principal, topics).map_err(|not_visible| {
        let counted = principal.audit_context().count();
        counted.map_or_else(ReadError::TooManyRefusals, |()| not_visible.into())
    })
}

/// The topic that the request names.
pub(crate) async fn known(cluster: &Cluster, topic: &str) -> Result<Arc<Topic>, ReadError> {
    cluster
        .metadata
        .topic(topic)
        .await
        .map_err(ReadError::Topic)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Partitioner;

    fn topic(name: &str, partitions: i32) -> Arc<Topic> {
        Arc::new(Topic::led(name, 1, partitions))
    }

    fn chosen(text: &str, topic: &Arc<Topic>) -> Vec<i32> {
        let partitions = Partitions::parse(text).unwrap();
        partitions.choose(topic).unwrap().partitions
    }

    #[test]
    fn a_partition_with_a_topic_is_chosen_of_that_topic_only() {
        let (orders, users) = (topic("orders", 5), topic("users", 2));
        assert_eq!(chosen("0,2-3", &orders), [0, 2, 3]);
        let text = "orders:0, orders:3-4,users:1";
        assert_eq!(chosen(text, &orders), [0, 3, 4]);
        assert_eq!(chosen(text, &users), [1]);
        assert_eq!(chosen("orders:0,3,users:1", &orders), [0, 3]);
        assert_eq!(chosen("orders:0", &users), [0, 1], "it is read whole");
        let both = ["orders".to_owned(), "users".to_owned()];
        let check = |text: &str, topics: &[String]| {
            let checked = Partitions::parse(text).unwrap().check(topics);
            checked.map_err(|error| error.to_string())
        };
        assert_eq!(check(text, &both), Ok(()));
        assert_eq!(check("1", &both[..1]), Ok(()));
        assert!(check("1", &both).unwrap_err().contains("orders:1"));
        assert!(check(text, &both[..1]).unwrap_err().contains("users"));
        for bad in ["", "x", "3-2", "orders:", "orders:x", "0,,1", "-1", "70000"] {
            assert_eq!(Partitions::parse(bad), None, "{bad}");
        }
        let beyond = Partitions::parse("2").unwrap().choose(&users);
        assert!(matches!(beyond, Err(ReadError::NoSuchPartition(_))));
    }

    #[test]
    fn a_key_has_its_partition_only_where_that_is_declared() {
        let keyed = [KeyedTopicSettings {
            topic: "ord*".to_owned(),
            partitioner: Partitioner::Murmur2,
        }];
        let narrowed = |text: &str, name: &str, key: Option<&[u8]>| {
            let mut part = Partitions::parse(text)
                .unwrap_or_default()
                .choose(&topic(name, 7))
                .unwrap();
            part.of_key(key, &keyed);
            (part.partitions.len(), part.all)
        };
        assert_eq!(narrowed("", "orders", Some(b"k")), (1, false));
        assert_eq!(narrowed("", "orders", None), (7, true));
        assert_eq!(narrowed("", "orders", Some(b"")), (7, true));
        assert_eq!(narrowed("", "users", Some(b"k")), (7, true));
        assert_eq!(
            narrowed("0-1", "orders", Some(b"k")),
            (2, false),
            "as asked"
        );
    }
}
