//! Resolves where a partition starts or goes on to an offset: what was asked for, held against the log.
//! Every read goes by it: pages, streams, tails, consumer instances and group members.
//!
//! An offset is never guessed. What could not be looked up is an error, which the caller tries again; a
//! member that jumped because a broker did not answer would lose or repeat records.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crate::kafka::admin::{Admin, Isolation, OffsetQuery, OffsetSpec};
use crate::kafka::fault::{Fault, FaultKind};
use crate::kafka::watermarks::Watermarks;
use crate::reader_options::OffsetReset;
use crate::record::TopicPartition;

/// Where a read of a partition starts or goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SeekTo {
    /// At this offset, or what is nearest to it in the log.
    Offset(i64),
    /// At the first record that is still there.
    Beginning,
    /// After the last record.
    End,
    /// At the committed offset, or where [`OffsetReset`] says.
    Committed,
    /// At the first record at or after this time, in milliseconds since the epoch; where no record is that
    /// new, after the last one.
    Time(i64),
}

/// Looks offsets up, for a member of `group` where there is one.
#[derive(Debug, Clone)]
pub(super) struct OffsetResolver {
    pub(super) admin: Admin,
    /// Empty where nothing is committed.
    pub(super) group: Arc<str>,
    pub(super) isolation: Isolation,
    pub(super) reset: OffsetReset,
    /// Longest wait for one answer.
    pub(super) bound: Duration,
}

/// The offset to go to, and what was found on the way to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResolvedOffset {
    /// The offset of the next record.
    pub at: i64,
    /// The offset that was wanted and is not in the log.
    pub missed: Option<i64>,
    /// What the group has committed, if that was asked.
    pub committed: Option<i64>,
    /// The first offset that is still in the log.
    pub low: i64,
    /// Where the log ends under the isolation.
    pub end: i64,
    /// Where the log ends, open transactions counted, if an offset was `missed`; else perhaps `end`.
    pub last: i64,
}

impl ResolvedOffset {
    /// The watermarks of the partition.
    pub fn watermarks(&self, partition: i32) -> Watermarks {
        Watermarks {
            partition,
            low: self.low,
            end: self.end,
        }
    }
}

/// What a group has committed for each partition; `None` is nothing.
pub(super) type CommittedOffsets = HashMap<TopicPartition, Result<Option<i64>, Fault>>;

/// One answer for each partition.
pub(super) type ResolvedOffsets = Vec<(TopicPartition, Result<ResolvedOffset, Fault>)>;

/// The offset that is wanted and the one that is committed, as far as there are such.
type Offsets = Result<(Option<i64>, Option<i64>), Fault>;

/// What the brokers say of a log.
#[derive(Debug, Clone, Copy)]
struct Log {
    start: i64,
    /// Under the isolation.
    end: i64,
    /// Open transactions counted.
    last: i64,
}

impl OffsetResolver {
    /// The place of each of `aims`. The committed offset comes with each if one of them wants it or
    /// `committed` is asked for.
    pub(super) async fn resolve(
        &self,
        aims: &[(TopicPartition, SeekTo)],
        committed: bool,
    ) -> ResolvedOffsets {
        let committed = if committed || aims.iter().any(|(_, aim)| *aim == SeekTo::Committed) {
            let partitions: Vec<TopicPartition> = aims.iter().map(|(p, _)| p.clone()).collect();
            match self.committed(&partitions).await {
                Ok(found) => found,
                Err(fault) => return all_failed(aims.iter().map(|(p, _)| p), &fault),
            }
        } else {
            HashMap::new()
        };
        self.resolve_with(aims, &committed).await
    }

    /// What the group has committed for each.
    pub(super) async fn committed(
        &self,
        partitions: &[TopicPartition],
    ) -> Result<CommittedOffsets, Fault> {
        self.admin
            .group_offsets(&self.group, partitions, self.bound)
            .await
    }

    /// The place of each of `aims`, where it is known what is committed.
    pub(super) async fn resolve_with(
        &self,
        aims: &[(TopicPartition, SeekTo)],
        committed: &CommittedOffsets,
    ) -> ResolvedOffsets {
        let (logs, times) = self.logs(aims).await;
        let wanted: Vec<Offsets> = aims
            .iter()
            .zip(times)
            .map(|((partition, aim), time)| {
                let committed = committed.get(partition).cloned().transpose()?.flatten();
                let wanted = match aim {
                    SeekTo::Offset(offset) => Some(*offset),
                    SeekTo::Committed => committed,
                    SeekTo::Time(_) => time?,
                    SeekTo::Beginning | SeekTo::End => None,
                };
                Ok((wanted, committed))
            })
            .collect();
        let logs = self.with_last(aims, logs, &wanted).await;
        aims.iter()
            .zip(logs)
            .zip(wanted)
            .map(|(((partition, aim), log), wanted)| {
                let place = log.and_then(|log| {
                    let (wanted, committed) = wanted?;
                    let (at, missed) = settle(*aim, wanted, log, self.reset)
                        .map_err(|why| self.no_offset(partition, why))?;
                    Ok(ResolvedOffset {
                        at,
                        missed,
                        committed,
                        low: log.start,
                        end: log.end,
                        last: log.last,
                    })
                });
                (partition.clone(), place)
            })
            .collect()
    }

    /// Where each of `partitions` ends.
    pub(super) async fn ends(
        &self,
        partitions: &[TopicPartition],
    ) -> Vec<(TopicPartition, Result<i64, Fault>)> {
        let wanted: Vec<OffsetQuery> = partitions
            .iter()
            .map(|p| OffsetQuery::new(&*p.topic, p.partition, OffsetSpec::Latest))
            .collect();
        let found = self
            .admin
            .list_offsets(&wanted, self.isolation, self.bound)
            .await;
        partitions
            .iter()
            .cloned()
            .zip(found)
            .map(|(partition, end)| {
                let end = end.and_then(|end| end.ok_or_else(|| unknown_end(&partition)));
                (partition, end)
            })
            .collect()
    }

    /// The bounds of each log, and the offset of the time asked for, where one was.
    async fn logs(
        &self,
        aims: &[(TopicPartition, SeekTo)],
    ) -> (Vec<Result<Log, Fault>>, Vec<Result<Option<i64>, Fault>>) {
        let mut wanted = Vec::with_capacity(aims.len() * 2);
        for (partition, aim) in aims {
            let mut want = |spec| {
                wanted.push(OffsetQuery::new(
                    &*partition.topic,
                    partition.partition,
                    spec,
                ));
            };
            want(OffsetSpec::Earliest);
            want(OffsetSpec::Latest);
            if let SeekTo::Time(time) = aim {
                want(OffsetSpec::At(*time));
            }
        }
        let mut found = self
            .admin
            .list_offsets(&wanted, self.isolation, self.bound)
            .await
            .into_iter();
        let mut logs = Vec::with_capacity(aims.len());
        let mut times = Vec::with_capacity(aims.len());
        for (partition, aim) in aims {
            let mut next = || found.next().unwrap_or(Ok(None));
            let bounds = (next(), next());
            let time = match aim {
                SeekTo::Time(_) => next(),
                _ => Ok(None),
            };
            let log = match bounds {
                (Ok(Some(start)), Ok(Some(end))) => Ok(Log {
                    start,
                    end,
                    last: end,
                }),
                (Err(fault), _) | (_, Err(fault)) => Err(fault),
                _ => Err(unknown_end(partition)),
            };
            logs.push(log);
            times.push(time);
        }
        (logs, times)
    }

    /// What lies between the last stable offset and the end is in the log, though not to be read yet;
    /// only where a place seems to lie beyond the end is that worth a question.
    async fn with_last(
        &self,
        aims: &[(TopicPartition, SeekTo)],
        mut logs: Vec<Result<Log, Fault>>,
        wanted: &[Offsets],
    ) -> Vec<Result<Log, Fault>> {
        if self.isolation == Isolation::Uncommitted {
            return logs;
        }
        let beyond: Vec<usize> = logs
            .iter()
            .zip(wanted)
            .enumerate()
            .filter_map(|(index, pair)| match pair {
                (Ok(log), Ok((Some(offset), _))) if *offset > log.end => Some(index),
                _ => None,
            })
            .collect();
        if beyond.is_empty() {
            return logs;
        }
        let asked: Vec<OffsetQuery> = beyond
            .iter()
            .filter_map(|index| aims.get(*index))
            .map(|(p, _)| OffsetQuery::new(&*p.topic, p.partition, OffsetSpec::Latest))
            .collect();
        let found = self
            .admin
            .list_offsets(&asked, Isolation::Uncommitted, self.bound)
            .await;
        for (index, last) in beyond.into_iter().zip(found) {
            let Some(log) = logs.get_mut(index) else {
                continue;
            };
            match (log.as_mut(), last) {
                (Ok(known), Ok(Some(last))) => known.last = last,
                (_, Err(fault)) => *log = Err(fault),
                _ => {}
            }
        }
        logs
    }

    fn no_offset(&self, partition: &TopicPartition, why: NoOffset) -> Fault {
        let TopicPartition { topic, partition } = partition;
        let what = match why {
            NoOffset::NothingCommitted => {
                format!("group {} has committed nothing for it", self.group)
            }
            NoOffset::NotInLog(offset) => format!("offset {offset} is not in the log"),
        };
        Fault {
            kafka_error: Some("OFFSET_OUT_OF_RANGE"),
            ..Fault::new(
                FaultKind::OffsetOutOfRange,
                format!(
                    "Partition {partition} of topic {topic} has no place to start at: {what}, and \
                     nothing else was to be tried. Commit an offset, or say where to start instead."
                ),
            )
        }
    }
}

/// Why there is no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum NoOffset {
    NothingCommitted,
    NotInLog(i64),
}

/// The offset to go to, and the one that was wanted if it is not in the log.
fn settle(
    aim: SeekTo,
    wanted: Option<i64>,
    log: Log,
    reset: OffsetReset,
) -> Result<(i64, Option<i64>), NoOffset> {
    let by_reset = |why| match reset {
        OffsetReset::Earliest => Ok(log.start),
        OffsetReset::Latest => Ok(log.end),
        OffsetReset::Error => Err(why),
    };
    match (aim, wanted) {
        (SeekTo::Beginning, _) => Ok((log.start, None)),
        // No record is that new.
        (SeekTo::End, _) | (SeekTo::Time(_), None) => Ok((log.end, None)),
        (SeekTo::Committed | SeekTo::Offset(_), None) => {
            Ok((by_reset(NoOffset::NothingCommitted)?, None))
        }
        (_, Some(offset)) if (log.start..=log.last).contains(&offset) => Ok((offset, None)),
        (_, Some(offset)) if reset == OffsetReset::Error => Err(NoOffset::NotInLog(offset)),
        // The nearest that there is: `reset` is for those who have no offset.
        (_, Some(offset)) if offset < log.start => Ok((log.start, Some(offset))),
        (_, Some(offset)) => Ok((log.end, Some(offset))),
    }
}

pub(super) fn all_failed<'a>(
    partitions: impl Iterator<Item = &'a TopicPartition>,
    fault: &Fault,
) -> ResolvedOffsets {
    partitions
        .map(|partition| (partition.clone(), Err(fault.clone())))
        .collect()
}

fn unknown_end(partition: &TopicPartition) -> Fault {
    Fault::new(
        FaultKind::Unavailable,
        format!(
            "The broker did not say where partition {} of topic {} starts and ends.",
            partition.partition, partition.topic
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: Log = Log {
        start: 10,
        end: 20,
        last: 25,
    };

    #[test]
    fn an_offset_in_the_log_is_taken_as_it_is_whatever_the_reset() {
        for offset in [10, 15, 20, 25] {
            for reset in [
                OffsetReset::Earliest,
                OffsetReset::Latest,
                OffsetReset::Error,
            ] {
                let place = settle(SeekTo::Committed, Some(offset), LOG, reset);
                assert_eq!(place, Ok((offset, None)));
            }
        }
    }

    #[test]
    fn an_offset_outside_the_log_goes_to_the_nearer_edge_whatever_the_reset_is() {
        for (offset, edge) in [(0, 10), (9, 10), (26, 20)] {
            for aim in [SeekTo::Offset(offset), SeekTo::Committed] {
                let settled = |reset| settle(aim, Some(offset), LOG, reset);
                assert_eq!(settled(OffsetReset::Earliest), Ok((edge, Some(offset))));
                assert_eq!(settled(OffsetReset::Latest), Ok((edge, Some(offset))));
                assert_eq!(settled(OffsetReset::Error), Err(NoOffset::NotInLog(offset)));
            }
        }
    }

    #[test]
    fn nothing_committed_is_no_gap() {
        let settled = |reset| settle(SeekTo::Committed, None, LOG, reset);
        assert_eq!(settled(OffsetReset::Earliest), Ok((10, None)));
        assert_eq!(settled(OffsetReset::Latest), Ok((20, None)));
        assert_eq!(settled(OffsetReset::Error), Err(NoOffset::NothingCommitted));
    }

    #[test]
    fn a_time_after_the_last_record_is_the_end() {
        assert_eq!(
            settle(SeekTo::Time(1), None, LOG, OffsetReset::Error),
            Ok((20, None))
        );
    }
}
