//! Where a stream begins and ends, in offsets. A position that cannot be used does not end a stream: an
//! `EventSource` that is refused never comes back. It is told, and where the stream begins instead.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::auth::policy::RecordVisibility;
use crate::filter::Filter;
use crate::kafka::admin::Isolation;
use crate::kafka::fault::Fault;
use crate::kafka::metadata::Topic;
use crate::kafka::tail::{Gap, GapReason};
use crate::kafka::{Cluster, Last, Watermarks};
use crate::position::{self, Offsets, PositionError, Since, StartPosition, Times};
use crate::read::partitions::Part;
use crate::record::ConsumerRecord;
use crate::stream::now_ms;
use crate::stream::params::{Origin, Until};

/// Where a stream begins.
#[derive(Debug)]
pub(crate) struct Start {
    /// For each part.
    pub(crate) offsets: Vec<Offsets>,
    /// Why it does not begin where it was asked to.
    pub(crate) reset: Option<String>,
    /// What was asked for and is not in the log any more, with the index of the part.
    pub(crate) gaps: Vec<(usize, Gap)>,
    /// Records and what else has an offset between here and the end.
    pub(crate) backlog: i64,
    pub(crate) until: Option<Vec<Offsets>>,
    /// In the place of `until`, where the time has not come yet: the ends that are known already.
    pub(crate) ahead: Option<(i64, Vec<BTreeMap<i32, i64>>)>,
    /// The position was one of another cluster, and was found by its times.
    pub(crate) by_time: bool,
    /// The times of the last records before the start, as far as they are known.
    pub(crate) times: Vec<BTreeMap<i32, i64>>,
}

/// Which records a client is shown.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shown<'a> {
    pub(crate) visibility: &'a RecordVisibility,
    pub(crate) filter: &'a Filter,
    /// Whether those of open and aborted transactions are.
    pub(crate) isolation: Isolation,
}

impl Shown<'_> {
    /// Where the last `count` of these records begin in each of the partitions.
    pub(crate) async fn last(
        self,
        cluster: &Cluster,
        topic: &Arc<Topic>,
        bounds: &[Watermarks],
        count: i64,
    ) -> Arc<[i64]> {
        let shows =
            |record: &ConsumerRecord| self.visibility.shows(record) && self.filter.wants(record);
        let last = Last {
            topic,
            bounds,
            count,
            isolation: self.isolation,
            shows: &shows,
            view: (self.visibility.clone(), self.filter.clone()),
        };
        cluster.last(last).await
    }
}

/// How much older than the start of a stream a record may be that comes only after it: clocks differ,
/// and what is written takes its time.
const LATE: i64 = 60_000;

/// A resume token that the request gave, decoded before there is an answer.
pub(crate) fn resume_token(
    text: &str,
    cluster_id: &str,
    parts: &[Part],
) -> Result<Vec<Offsets>, PositionError> {
    let topics: Vec<&Topic> = parts.iter().map(|part| &*part.topic).collect();
    position::decode(text, cluster_id, &topics)
}

/// Finds out.
pub(crate) async fn resolve(
    cluster: &Cluster,
    cluster_id: &str,
    parts: &[Part],
    origin: &Origin,
    fallback: &StartPosition,
    until: Option<&Until>,
    shown: Shown<'_>,
) -> Result<Start, Fault> {
    let isolation = shown.isolation;
    let mut reset = None;
    let text = match origin {
        Origin::Id(text) | Origin::From(StartPosition::ResumeToken(text)) => Some(text),
        Origin::From(_) => None,
    };
    let topics: Vec<&Topic> = parts.iter().map(|part| &*part.topic).collect();
    let read = text.map(|text| position::read(text, cluster_id, &topics));
    let (resume_tokens, times, since) = match read {
        None => (None, None, None),
        Some(Ok(position)) => (position.offsets, position.times, position.since),
        Some(Err(error)) => {
            reset = Some(match error {
                PositionError::Unreadable => "it is no position of a stream".to_owned(),
                error => error.to_string(),
            });
            (None, None, None)
        }
    };
    // A resume token that cannot be used says nothing; what stands beside it does.
    let from = match fallback {
        StartPosition::ResumeToken(_) => &StartPosition::Latest,
        from => from,
    };
    let ends = match until {
        Some(Until::ResumeToken(text)) => resume_token(text, cluster_id, parts).ok(),
        _ => None,
    };
    let mut start = Start {
        offsets: Vec::with_capacity(parts.len()),
        reset,
        gaps: Vec::new(),
        backlog: 0,
        until: until.map(|_| Vec::new()),
        ahead: None,
        by_time: resume_tokens.is_none() && times.is_some(),
        times: Vec::with_capacity(parts.len()),
    };
    let now = now_ms();
    if let Some(Until::Time(time)) = until
        && *time > now
    {
        start.until = None;
        start.ahead = Some((*time, Vec::new()));
    }
    for (index, part) in parts.iter().enumerate() {
        let name = &part.topic.name;
        let at = async |time: Option<i64>| match time {
            Some(time) => {
                let partitions = &part.partitions;
                cluster.offsets_at(isolation, name, partitions, time).await
            }
            None => Ok(Vec::new()),
        };
        let begins = match (&resume_tokens, from) {
            (None, StartPosition::Time(time)) => Some(*time),
            _ => None,
        };
        let ends_at = match until {
            Some(Until::Time(time)) => Some(*time),
            _ => None,
        };
        let known = times.as_ref().and_then(|times| times.get(index));
        let wanted = match (&resume_tokens, known) {
            (None, Some(known)) => elsewhere(part, known),
            // Of a page for which some brokers did not answer.
            _ => since_of(part, since.as_ref().and_then(|since| since.get(index))),
        };
        let (bounds, begins, ends_at, found) = tokio::try_join!(
            cluster.watermarks_under(isolation, name, &part.partitions),
            at(begins),
            at(ends_at),
            cluster.offsets_at_each(isolation, name, &wanted),
        )?;
        let last_ones = match (&resume_tokens, from) {
            (None, StartPosition::Last(count)) => {
                let topic = &part.topic;
                Some(shown.last(cluster, topic, &bounds, *count).await)
            }
            _ => None,
        };
        let of = |resume_tokens: &Option<Vec<Offsets>>, partition: i32| {
            let offsets = resume_tokens.as_ref()?.get(index)?;
            let (_, offset) = offsets.iter().find(|(id, _)| *id == partition)?;
            Some(*offset)
        };
        let mut start_times = BTreeMap::new();
        let mut known_ends = BTreeMap::new();
        let mut offsets = Offsets::with_capacity(bounds.len());
        let mut last = Offsets::with_capacity(bounds.len());
        for (nth, bound) in bounds.iter().enumerate() {
            let time_of = |times: &[Option<i64>]| times.get(nth).copied().flatten();
            let by_time = wanted.iter().position(|(id, _)| *id == bound.partition);
            // Where there is none so new, it goes on with what comes.
            let timed = by_time.map(|at| found.get(at).copied().flatten().unwrap_or(bound.end));
            let asked = timed.unwrap_or_else(|| match (&resume_tokens, from) {
                // One that the resume token does not know came into being after it.
                (Some(_), _) => of(&resume_tokens, bound.partition).unwrap_or(bound.low),
                (None, StartPosition::Latest | StartPosition::ResumeToken(_)) => bound.end,
                (None, StartPosition::Earliest) => bound.low,
                (None, StartPosition::Last(_)) => last_ones
                    .as_ref()
                    .and_then(|starts| starts.get(nth).copied())
                    .unwrap_or(bound.end),
                (None, StartPosition::Time(_)) => time_of(&begins).unwrap_or(bound.end),
            });
            let offset = start.within(index, part, bound, asked);
            start.backlog += bound.end - offset;
            let of_id = known.and_then(|known| known.iter().find(|(id, _)| *id == bound.partition));
            let time = match (of_id.and_then(|(_, time)| *time), by_time, from) {
                (Some(time), ..) => Some(time),
                (None, Some(at), _) => wanted.get(at).map(|(_, time)| *time),
                (None, None, _) if resume_tokens.is_some() => None,
                (None, None, StartPosition::Latest) => Some(now - LATE),
                (None, None, StartPosition::Earliest) => Some(0),
                (None, None, StartPosition::Time(time)) => Some(*time),
                (None, None, StartPosition::Last(_) | StartPosition::ResumeToken(_)) => None,
            };
            start_times.extend(time.map(|time| (bound.partition, time)));
            if start.ahead.is_some()
                && let Some(end) = time_of(&ends_at)
            {
                known_ends.insert(bound.partition, end.max(offset));
            }
            offsets.push((bound.partition, offset));
            let end = match until {
                None | Some(Until::End) => bound.end,
                Some(Until::Time(_)) => time_of(&ends_at).unwrap_or(bound.end),
                Some(Until::ResumeToken(_)) => of(&ends, bound.partition).unwrap_or(bound.end),
            };
            last.push((bound.partition, end));
        }
        start.offsets.push(offsets);
        start.times.push(start_times);
        if let Some((_, ends)) = &mut start.ahead {
            ends.push(known_ends);
        }
        if let Some(until) = &mut start.until {
            until.push(last);
        }
    }
    Ok(start)
}

/// From which times on those of its partitions begin that had no place yet.
pub(crate) fn since_of(part: &Part, since: Option<&Since>) -> Vec<(i32, i64)> {
    let since = since.into_iter().flatten().copied();
    since
        .filter(|(id, _)| part.partitions.contains(id))
        .collect()
}

/// At which time each partition goes on in another cluster than the one that the position is of. Where
/// that has other partitions, a key's records may be in any of them, and all go on at the oldest time.
fn elsewhere(part: &Part, known: &Times) -> Vec<(i32, i64)> {
    let time_of = |partition: &i32| {
        let (_, time) = known.iter().find(|(id, _)| id == partition)?;
        Some((*partition, *time))
    };
    let same = part.partitions.len() == known.len() || !part.all;
    let own: Option<Vec<_>> = part.partitions.iter().map(time_of).collect();
    if let Some(own) = own.filter(|_| same) {
        // Those whose time is not known begin as `from` says.
        let timed = own.into_iter().filter_map(|(id, time)| Some((id, time?)));
        return timed.collect();
    }
    let oldest = known.iter().filter_map(|(_, time)| *time).min();
    let all = part.partitions.iter().map(|id| Some((*id, oldest?)));
    all.flatten().collect()
}

impl Start {
    /// An offset that is in the log, or is the next one.
    fn within(&mut self, index: usize, part: &Part, bound: &Watermarks, asked: i64) -> i64 {
        if asked < bound.low {
            let gap = Gap {
                partition: bound.partition,
                from: asked,
                to: bound.low,
                reason: GapReason::Retention,
            };
            self.gaps.push((index, gap));
            return bound.low;
        }
        if asked > bound.end {
            self.reset = Some(format!(
                "offset {asked} is beyond the end of {}:{}, which is {}",
                part.topic.name, bound.partition, bound.end
            ));
            return bound.end;
        }
        asked
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::metadata::Partition;

    fn part(partitions: std::ops::Range<i32>, all: bool) -> Part {
        let known = partitions.clone().map(|id| Partition {
            id,
            leader: Some(1),
            replicas: vec![1],
            isr: vec![1],
            offline: vec![],
        });
        Part {
            topic: Arc::new(Topic {
                name: Arc::from("t"),
                id: [1; 16],
                internal: false,
                rights: None,
                partitions: known.collect(),
            }),
            partitions: partitions.collect(),
            all,
        }
    }

    #[test]
    fn in_another_cluster_the_oldest_time_counts_where_partitions_differ() {
        let known = vec![(0, Some(50)), (1, None), (2, Some(40))];
        assert_eq!(elsewhere(&part(0..3, true), &known), [(0, 50), (2, 40)]);
        assert_eq!(elsewhere(&part(2..3, false), &known), [(2, 40)]);
        let all = |count: i32| (0..count).map(|id| (id, 40)).collect::<Vec<_>>();
        assert_eq!(elsewhere(&part(0..4, true), &known), all(4));
        assert_eq!(elsewhere(&part(0..2, true), &known), all(2));
        assert_eq!(elsewhere(&part(0..2, true), &vec![(0, None)]), []);
    }
}
