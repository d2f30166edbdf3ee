//! Where a read without a group starts: what `from`, or a resume token, means in the log of each partition.
//! Pages, streams and tails ask here; what they do about an offset that is not in the log is theirs.

use std::sync::Arc;

use super::partitions::Part;
use crate::auth::policy::RecordVisibility;
use crate::filter::Filter;
use crate::kafka::fault::Fault;
use crate::kafka::metadata::Topic;
use crate::kafka::{Cluster, Last, ResolvedOffset, SeekTo, Watermarks};
use crate::position::{Offsets, Since, StartPosition};
use crate::reader_options::Isolation;
use crate::record::ConsumerRecord;

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
    async fn last(
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

/// Where the partitions of one topic are to start.
#[derive(Debug)]
pub(crate) struct StartQuery<'a> {
    /// Where those start of which nothing else is said.
    pub(crate) from: &'a StartPosition,
    /// The offsets of a resume token, which stands in the place of `from`. A partition that it does not know
    /// came into being after it was written, and starts at its beginning.
    pub(crate) resume_token: Option<&'a Offsets>,
    /// Partitions that start at the first record of a time of their own (ms since 1970).
    pub(crate) times: Vec<(i32, i64)>,
}

impl StartQuery<'_> {
    /// The time of its own that a partition starts at.
    pub(crate) fn time_of(&self, partition: i32) -> Option<i64> {
        find(&self.times, partition)
    }

    /// What is asked of each partition of `part`, in their order.
    pub(crate) fn aims(&self, part: &Part) -> Vec<(i32, SeekTo)> {
        let aim = |id: &i32| (*id, self.aim(*id));
        part.partitions.iter().map(aim).collect()
    }

    fn aim(&self, partition: i32) -> SeekTo {
        if let Some(time) = self.time_of(partition) {
            return SeekTo::Time(time);
        }
        if let Some(offsets) = self.resume_token {
            return find(offsets, partition).map_or(SeekTo::Beginning, SeekTo::Offset);
        }
        match self.from {
            // The last records are counted back from the end, once that is known.
            StartPosition::Latest | StartPosition::Last(_) => SeekTo::End,
            StartPosition::Earliest => SeekTo::Beginning,
            StartPosition::Time(time) => SeekTo::Time(*time),
            // A resume token that cannot be used says nothing.
            StartPosition::ResumeToken(_) => SeekTo::End,
        }
    }

    /// Where each partition of `part` starts.
    ///
    /// # Errors
    ///
    /// The first partition's that could not be asked.
    pub(crate) async fn resolve(
        &self,
        cluster: &Cluster,
        part: &Part,
        shown: Shown<'_>,
    ) -> Result<Vec<ResolvedOffset>, Fault> {
        let aims = self.aims(part);
        let found = cluster.resolve(shown.isolation, &part.topic.name, &aims);
        let mut found: Vec<_> = found.await?.into_iter().map(Ok).collect();
        self.count_back(cluster, part, shown, &mut found).await;
        found.into_iter().collect()
    }

    /// Where the last records that are shown begin, where these were asked for, in the partitions of `part`
    /// that have answered.
    pub(crate) async fn count_back(
        &self,
        cluster: &Cluster,
        part: &Part,
        shown: Shown<'_>,
        found: &mut [Result<ResolvedOffset, Fault>],
    ) {
        let (StartPosition::Last(count), None) = (self.from, self.resume_token) else {
            return;
        };
        let mut counted: Vec<(i32, &mut ResolvedOffset)> = part
            .partitions
            .iter()
            .zip(found)
            .filter(|(id, _)| self.time_of(**id).is_none())
            .filter_map(|(id, found)| Some((*id, found.as_mut().ok()?)))
            .collect();
        let bounds: Vec<Watermarks> = counted
            .iter()
            .map(|(id, found)| found.watermarks(*id))
            .collect();
        let starts = shown.last(cluster, &part.topic, &bounds, *count).await;
        for ((_, found), start) in counted.iter_mut().zip(starts.iter()) {
            found.at = *start;
        }
    }
}

/// From which times on those of its partitions begin that had no place yet.
pub(crate) fn since_of(part: &Part, since: Option<&Since>) -> Vec<(i32, i64)> {
    let since = since.into_iter().flatten().copied();
    since
        .filter(|(id, _)| part.partitions.contains(id))
        .collect()
}

fn find(of: &[(i32, i64)], partition: i32) -> Option<i64> {
    let (_, found) = of.iter().find(|(id, _)| *id == partition)?;
    Some(*found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn aims(query: &StartQuery<'_>) -> Vec<SeekTo> {
        let part = Part {
            topic: Arc::new(Topic::led("t", 1, 3)),
            partitions: vec![0, 1, 2],
            all: true,
        };
        let aims = query.aims(&part);
        aims.into_iter().map(|(_, aim)| aim).collect()
    }

    #[test]
    fn every_partition_starts_where_from_says() {
        let cases = [
            (StartPosition::Latest, SeekTo::End),
            (StartPosition::Earliest, SeekTo::Beginning),
            (StartPosition::Last(5), SeekTo::End),
            (StartPosition::Time(7), SeekTo::Time(7)),
            (StartPosition::ResumeToken("bad".to_owned()), SeekTo::End),
        ];
        for (from, aim) in cases {
            let query = StartQuery {
                from: &from,
                resume_token: None,
                times: Vec::new(),
            };
            assert_eq!(aims(&query), [aim; 3], "{from:?}");
        }
    }

    #[test]
    fn a_partition_that_a_resume_token_does_not_know_starts_at_its_time_or_its_beginning() {
        let query = StartQuery {
            from: &StartPosition::Latest,
            resume_token: Some(&vec![(0, 42)]),
            times: vec![(1, 1_000)],
        };
        let expected = [SeekTo::Offset(42), SeekTo::Time(1_000), SeekTo::Beginning];
        assert_eq!(aims(&query), expected);
    }
}
