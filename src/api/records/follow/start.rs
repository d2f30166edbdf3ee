//! Where a stream begins and ends, in offsets. A position that cannot be used does not end a stream: an
//! `EventSource` that is refused never comes back. It is told, and where the stream begins instead.

use super::asked::{Origin, Until};
use crate::api::records::partitions::Part;
use crate::kafka::fault::Fault;
use crate::kafka::metadata::Topic;
use crate::kafka::tail::{Gap, GapReason};
use crate::kafka::{Bounds, Cluster};
use crate::position::{self, From, Offsets, PositionError};

/// Where a stream begins.
#[derive(Debug)]
pub(super) struct Start {
    /// For each part.
    pub(super) offsets: Vec<Offsets>,
    /// Why it does not begin where it was asked to.
    pub(super) reset: Option<String>,
    /// What was asked for and is not in the log any more, with the index of the part.
    pub(super) gaps: Vec<(usize, Gap)>,
    /// Records and what else has an offset between here and the end.
    pub(super) backlog: i64,
    pub(super) until: Option<Vec<Offsets>>,
}

/// A vector that the request gave, decoded before there is an answer.
pub(super) fn vector(
    text: &str,
    cluster_id: &str,
    parts: &[Part],
) -> Result<Vec<Offsets>, PositionError> {
    let topics: Vec<&Topic> = parts.iter().map(|part| &*part.topic).collect();
    position::decode(text, cluster_id, &topics)
}

/// Finds out.
pub(super) async fn resolve(
    cluster: &Cluster,
    cluster_id: &str,
    parts: &[Part],
    origin: &Origin,
    fallback: &From,
    until: Option<&Until>,
) -> Result<Start, Fault> {
    let mut reset = None;
    let text = match origin {
        Origin::Id(text) | Origin::From(From::Vector(text)) => Some(text),
        Origin::From(_) => None,
    };
    let vectors = text.and_then(|text| match vector(text, cluster_id, parts) {
        Ok(vectors) => Some(vectors),
        Err(PositionError::Unreadable) => {
            reset = Some("it is no position of a stream".to_owned());
            None
        }
        Err(error) => {
            reset = Some(error.to_string());
            None
        }
    });
    // A vector that cannot be used says nothing; what stands beside it does.
    let from = match fallback {
        From::Vector(_) => &From::Latest,
        from => from,
    };
    let ends = match until {
        Some(Until::Vector(text)) => vector(text, cluster_id, parts).ok(),
        _ => None,
    };
    let mut start = Start {
        offsets: Vec::with_capacity(parts.len()),
        reset,
        gaps: Vec::new(),
        backlog: 0,
        until: until.map(|_| Vec::new()),
    };
    for (index, part) in parts.iter().enumerate() {
        let name = &part.topic.name;
        let at = async |time: Option<i64>| match time {
            Some(time) => cluster.offsets_at(name, &part.partitions, time).await,
            None => Ok(Vec::new()),
        };
        let begins = match (&vectors, from) {
            (None, From::Time(time)) => Some(*time),
            _ => None,
        };
        let ends_at = match until {
            Some(Until::Time(time)) => Some(*time),
            _ => None,
        };
        let (bounds, begins, ends_at) = tokio::try_join!(
            cluster.bounds(name, &part.partitions),
            at(begins),
            at(ends_at)
        )?;
        let of = |vectors: &Option<Vec<Offsets>>, partition: i32| {
            let offsets = vectors.as_ref()?.get(index)?;
            let (_, offset) = offsets.iter().find(|(id, _)| *id == partition)?;
            Some(*offset)
        };
        let mut offsets = Offsets::with_capacity(bounds.len());
        let mut last = Offsets::with_capacity(bounds.len());
        for (nth, bound) in bounds.iter().enumerate() {
            let time_of = |times: &[Option<i64>]| times.get(nth).copied().flatten();
            let asked = match (&vectors, from) {
                // One that the vector does not know came into being after it.
                (Some(_), _) => of(&vectors, bound.partition).unwrap_or(bound.low),
                (None, From::Latest | From::Vector(_)) => bound.end,
                (None, From::Earliest) => bound.low,
                (None, From::Last(count)) => bound.low.max(bound.end.saturating_sub(*count)),
                (None, From::Time(_)) => time_of(&begins).unwrap_or(bound.end),
            };
            let offset = start.within(index, part, bound, asked);
            start.backlog += bound.end - offset;
            offsets.push((bound.partition, offset));
            let end = match until {
                None | Some(Until::End) => bound.end,
                Some(Until::Time(_)) => time_of(&ends_at).unwrap_or(bound.end),
                Some(Until::Vector(_)) => of(&ends, bound.partition).unwrap_or(bound.end),
            };
            last.push((bound.partition, end));
        }
        start.offsets.push(offsets);
        if let Some(until) = &mut start.until {
            until.push(last);
        }
    }
    Ok(start)
}

impl Start {
    /// An offset that is in the log, or is the next one.
    fn within(&mut self, index: usize, part: &Part, bound: &Bounds, asked: i64) -> i64 {
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
