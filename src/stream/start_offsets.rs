//! Where a stream begins and ends, in offsets. A position that cannot be used does not end a stream: an
//! `EventSource` that is refused never comes back. It is told, and where the stream begins instead.

use std::collections::BTreeMap;

use crate::kafka::fault::Fault;
use crate::kafka::metadata::Topic;
use crate::kafka::tail::{Gap, GapReason};
use crate::kafka::{Cluster, ResolvedOffset};
use crate::position::{self, Offsets, PositionError, StartPosition, Times, now_ms};
use crate::read::partitions::Part;
use crate::read::start_offsets::{Shown, StartQuery, since_of};
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
        let ends_at = match until {
            Some(Until::Time(time)) => Some(*time),
            _ => None,
        };
        let known = times.as_ref().and_then(|times| times.get(index));
        let query = StartQuery {
            from,
            resume_token: resume_tokens.as_ref().and_then(|all| all.get(index)),
            times: match (&resume_tokens, known) {
                (None, Some(known)) => elsewhere(part, known),
                // Of a page for which some brokers did not answer.
                _ => since_of(part, since.as_ref().and_then(|since| since.get(index))),
            },
        };
        let (found, ends_at) = tokio::try_join!(query.resolve(cluster, part, shown), at(ends_at))?;
        let ends = ends.as_ref().and_then(|all| all.get(index));
        let mut start_times = BTreeMap::new();
        let mut known_ends = BTreeMap::new();
        let mut offsets = Offsets::with_capacity(found.len());
        let mut last = Offsets::with_capacity(found.len());
        for (nth, (id, found)) in part.partitions.iter().zip(&found).enumerate() {
            let id = *id;
            let end_at = ends_at.get(nth).copied().flatten();
            start.note_missed(index, part, id, found);
            let offset = found.at;
            // What lies behind open transactions may be ahead of what can be read.
            start.backlog += (found.end - offset).max(0);
            let of_id = known.and_then(|known| known.iter().find(|(known, _)| *known == id));
            let time = match (of_id.and_then(|(_, time)| *time), query.time_of(id), from) {
                (Some(time), ..) | (None, Some(time), _) => Some(time),
                (None, None, _) if resume_tokens.is_some() => None,
                (None, None, StartPosition::Latest) => Some(now - LATE),
                (None, None, StartPosition::Earliest) => Some(0),
                (None, None, StartPosition::Time(time)) => Some(*time),
                (None, None, StartPosition::Last(_) | StartPosition::ResumeToken(_)) => None,
            };
            start_times.extend(time.map(|time| (id, time)));
            if start.ahead.is_some()
                && let Some(end) = end_at
            {
                known_ends.insert(id, end.max(offset));
            }
            offsets.push((id, offset));
            let end = match until {
                None | Some(Until::End) => found.end,
                Some(Until::Time(_)) => end_at.unwrap_or(found.end),
                Some(Until::ResumeToken(_)) => ends
                    .and_then(|of| of.iter().find(|(known, _)| *known == id))
                    .map_or(found.end, |(_, end)| *end),
            };
            last.push((id, end));
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
    /// Takes note of an offset that was asked for and is not in the log.
    fn note_missed(&mut self, index: usize, part: &Part, partition: i32, found: &ResolvedOffset) {
        let Some(missed) = found.missed else {
            return;
        };
        if missed < found.low {
            let gap = Gap {
                partition,
                from: missed,
                to: found.low,
                reason: GapReason::Retention,
            };
            self.gaps.push((index, gap));
        } else {
            self.reset = Some(format!(
                "offset {missed} is beyond the end of {}:{partition}, which is {}",
                part.topic.name, found.last
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

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
