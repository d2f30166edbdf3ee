//! Where partitions begin and end, and where a time falls in them.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use futures::future::join_all;
use krafka::admin::{ListOffsetsOptions, OffsetSpec as Spec, TopicPartition};
use krafka::consumer::IsolationLevel;
use tokio::time::Instant;

use super::partitions::unmentioned;
use super::{Admin, bounded};
use crate::kafka::fault::Fault;
use crate::reader_options::Isolation;

/// How often a lookup by time is tried again while leaders move; krafka does not by itself.
const RETRY_PAUSE: Duration = Duration::from_millis(100);

/// A position to look up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum OffsetSpec {
    /// The first offset that is still there.
    Earliest,
    /// The end: the offset that the next record gets, or under [`Isolation::Committed`] the first
    /// one that belongs to an open transaction.
    Latest,
    /// The first record at or after this time, in milliseconds since the epoch.
    At(i64),
}

impl From<Isolation> for IsolationLevel {
    fn from(isolation: Isolation) -> Self {
        match isolation {
            Isolation::Committed => Self::ReadCommitted,
            Isolation::Uncommitted => Self::ReadUncommitted,
        }
    }
}

/// One lookup of an offset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OffsetQuery {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The position.
    pub spec: OffsetSpec,
}

impl OffsetQuery {
    /// Looks up `spec` in one partition.
    pub fn new(topic: impl Into<String>, partition: i32, spec: OffsetSpec) -> Self {
        Self {
            topic: topic.into(),
            partition,
            spec,
        }
    }
}

impl Admin {
    /// Looks up all of `wanted`, one answer for each in the same order. `None` is a time after the
    /// last record. A partition may be named several times. Ask [`Metadata`] first whether a topic
    /// exists: an unknown one may be answered as one without a leader.
    ///
    /// [`Metadata`]: crate::kafka::metadata::Metadata
    pub async fn list_offsets(
        &self,
        wanted: &[OffsetQuery],
        isolation: Isolation,
        bound: Duration,
    ) -> Vec<Result<Option<i64>, Fault>> {
        // One request to each leader for each position: a request can name a partition only once.
        let mut by_spec: BTreeMap<OffsetSpec, Vec<usize>> = BTreeMap::new();
        for (index, one) in wanted.iter().enumerate() {
            by_spec.entry(one.spec).or_default().push(index);
        }
        // Where a time is looked up the ends are asked for first: a record that is written between the two questions
        // would else lie before an end behind which "no record is that new" leads, and be passed over.
        let until = Instant::now() + bound;
        let has_time = by_spec.keys().any(|spec| matches!(spec, OffsetSpec::At(_)));
        let first = match has_time {
            true => by_spec.remove_entry(&OffsetSpec::Latest),
            false => None,
        };
        let ask = |(spec, indexes): (OffsetSpec, Vec<usize>)| async move {
            let bound = until.saturating_duration_since(Instant::now());
            let partitions: Vec<_> = indexes
                .iter()
                .filter_map(|index| wanted.get(*index))
                .map(|one| TopicPartition::new(one.topic.clone(), one.partition))
                .collect();
            let found = match spec {
                OffsetSpec::Earliest => {
                    self.edges(&partitions, Spec::Earliest, isolation, bound)
                        .await
                }
                OffsetSpec::Latest => {
                    self.edges(&partitions, Spec::Latest, isolation, bound)
                        .await
                }
                OffsetSpec::At(time) => self.at(&partitions, time, isolation, bound).await,
            };
            (indexes, partitions, found)
        };
        let mut found = Vec::new();
        if let Some(first) = first {
            found.push(ask(first).await);
        }
        found.extend(join_all(by_spec.into_iter().map(ask)).await);
        let mut answers: Vec<_> = wanted
            .iter()
            .map(|one| Err(unmentioned(&one.topic, one.partition)))
            .collect();
        for (indexes, partitions, found) in found {
            for (index, partition) in indexes.into_iter().zip(partitions) {
                let answer = match &found {
                    Ok(found) => found.get(&partition).cloned(),
                    Err(fault) => Some(Err(fault.clone())),
                };
                if let (Some(place), Some(answer)) = (answers.get_mut(index), answer) {
                    *place = answer;
                }
            }
        }
        answers
    }

    /// The beginning or end of each partition.
    async fn edges(
        &self,
        partitions: &[TopicPartition],
        spec: Spec,
        isolation: Isolation,
        bound: Duration,
    ) -> Result<HashMap<TopicPartition, Result<Option<i64>, Fault>>, Fault> {
        let options = ListOffsetsOptions::default()
            .timeout(bound)
            .read_committed(isolation == Isolation::Committed);
        let specs = partitions.iter().map(|partition| (partition.clone(), spec));
        let client = &self.link(bound).await?.client;
        let listed = bounded(bound, client.list_offsets(specs, options)).await?;
        Ok(listed
            .into_iter()
            .map(|(partition, result)| {
                let answer = result
                    .map(|listed| Some(listed.offset))
                    .map_err(|error| about(&partition, Fault::from(error)));
                (partition, answer)
            })
            .collect())
    }

    /// The first record at or after `time` in each partition.
    ///
    /// Not through the admin client: it takes the broker's "no such record" for a leader that does
    /// not know its end yet, and asks again until the bound is over.
    async fn at(
        &self,
        partitions: &[TopicPartition],
        time: i64,
        isolation: Isolation,
        bound: Duration,
    ) -> Result<HashMap<TopicPartition, Result<Option<i64>, Fault>>, Fault> {
        let deadline = Instant::now() + bound;
        let lookup = self.lookup(isolation, bound).await?;
        let mut answers = HashMap::with_capacity(partitions.len());
        let mut open: Vec<_> = partitions.to_vec();
        while !open.is_empty() {
            let names: Vec<_> = open
                .iter()
                .map(|partition| (partition.topic.as_str(), partition.partition))
                .collect();
            let left = deadline.saturating_duration_since(Instant::now());
            // A negative time would be read as one of the protocol's special positions.
            let ask = async { Ok::<_, Fault>(lookup.offsets_for_times(&names, time.max(0)).await) };
            let found = match bounded(left, ask).await {
                Ok(found) => found,
                Err(fault) => {
                    // Keep what the partitions themselves said in an earlier round.
                    for partition in open {
                        answers
                            .entry(partition)
                            .or_insert_with(|| Err(fault.clone()));
                    }
                    break;
                }
            };
            let mut again = Vec::new();
            for ((topic, number), result) in found {
                let partition = TopicPartition::new(topic, number);
                let answer = result
                    .map(|offset| Some(offset).filter(|offset| *offset >= 0))
                    .map_err(|error| about(&partition, Fault::from(error)));
                if answer.as_ref().is_err_and(|fault| fault.retriable) {
                    again.push(partition.clone());
                }
                answers.insert(partition, answer);
            }
            open = again;
            if deadline.saturating_duration_since(Instant::now()) <= RETRY_PAUSE {
                break;
            }
            if !open.is_empty() {
                tokio::time::sleep(RETRY_PAUSE).await;
            }
        }
        Ok(answers)
    }
}

/// A fault about one partition, which the broker's own words leave out.
fn about(partition: &TopicPartition, fault: Fault) -> Fault {
    Fault {
        message: format!(
            "Partition {} of topic {}: {}",
            partition.partition, partition.topic, fault.message
        ),
        ..fault
    }
}
