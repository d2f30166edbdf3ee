//! Partitions that were chosen by hand: read by pages without the group knowing, each page when the
//! client asks for it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::{AUTO_COMMIT, Instance, InstanceError, Options, Source};
use crate::kafka::fault::{Fault, FaultKind};
use crate::kafka::member::SeekTo;
use crate::kafka::metadata::Topic;
use crate::kafka::reader::{PageRequest, Span};
use crate::kafka::{Cluster, Watermarks};
use crate::record::{ConsumerRecord, TopicPartition};

/// Most records of a page.
const RECORDS: usize = 5_000;
/// Longest wait of one page; longer waits are several.
const WAIT: Duration = Duration::from_secs(10);
/// How much later than asked a read may be that is waiting for Kafka's answers, and not for records.
const SLACK: Duration = Duration::from_secs(2);
/// Pause before another try.
const PAUSE: Duration = Duration::from_millis(250);
/// The offset of a partition that has no place to begin at.
const NOWHERE: i64 = -1;

/// Where to read on in the partitions of a topic.
pub(super) type Places = Vec<(Arc<str>, Vec<(i32, i64)>)>;

/// What was read.
#[derive(Debug, Default)]
pub(super) struct Filled {
    records: Vec<ConsumerRecord>,
    next: Vec<(TopicPartition, i64)>,
    /// Places that are not in the log any more, and where reading goes on instead.
    pub(super) moved: Vec<(TopicPartition, i64)>,
}

impl Instance {
    /// Reads these partitions in the place of those before.
    pub(super) async fn assign(
        &mut self,
        partitions: Vec<TopicPartition>,
    ) -> Result<(), InstanceError> {
        if matches!(self.source, Source::Subscribed(_)) {
            return Err(InstanceError::IllegalState(
                "this instance subscribes to topics; DELETE its subscription first to assign \
                 partitions"
                    .to_owned(),
            ));
        }
        self.settle(super::SETTLING).await?;
        if partitions.is_empty() {
            return self.unsubscribe().await;
        }
        let aims: Vec<(TopicPartition, SeekTo)> = partitions
            .iter()
            .filter(|partition| !self.buffer.has(partition))
            .map(|partition| (partition.clone(), SeekTo::Committed))
            .collect();
        let options = Arc::clone(&self.options);
        let asked =
            self.cluster
                .members
                .places(&options.group, options.isolation, options.reset, &aims);
        let mut places = Vec::with_capacity(aims.len());
        let mut starts = Vec::new();
        for (partition, spot) in asked.await {
            let place = match spot {
                Ok(spot) => {
                    if spot.committed != Some(spot.at) {
                        starts.push((partition.clone(), spot.at));
                    }
                    spot.at
                }
                // A seek may still give it one; if not, the read says what is missing.
                Err(fault) if fault.kind == FaultKind::OffsetOutOfRange => NOWHERE,
                Err(fault) => return Err(fault.into()),
            };
            places.push((partition, place));
        }
        // Before the first record: one that is never acknowledged is left to whoever comes next.
        self.commit_starts(&starts).await?;
        for before in self.buffer.partitions() {
            if !partitions.contains(&before) {
                self.buffer.remove(&before, None);
            }
        }
        for (partition, place) in places {
            self.buffer.place(partition, place, None);
        }
        for (partition, start) in starts {
            if self.options.auto_commit {
                self.buffer.committed(&partition, start);
            }
        }
        self.source = Source::Assigned;
        if self.options.auto_commit && self.commit_at.is_none() {
            self.commit_at = Some(Instant::now() + AUTO_COMMIT);
        }
        self.keep_count();
        Ok(())
    }

    /// Where to read on.
    pub(super) fn places(&self) -> Places {
        let topics = self.topics().into_iter();
        let mut places: Places = topics
            .map(|topic| {
                let next = self.buffer.reads_on(&topic);
                (topic, next)
            })
            .collect();
        // Not always the same one first.
        if !places.is_empty() {
            let first = fastrand::usize(0..places.len());
            places.rotate_left(first);
        }
        places
    }

    /// Puts into the buffer what was read.
    pub(super) fn filled(&mut self, filled: Filled) {
        for (partition, to) in &filled.moved {
            self.buffer.gap(partition, *to);
        }
        self.buffer.put(filled.records, &filled.next);
        self.keep_count();
    }
}

/// Reads what there is at these places, or waits for the first records that come; nothing if none come
/// before `until`.
///
/// # Errors
///
/// What kept Kafka from answering until then, and what another try would not change.
pub(super) async fn fill(
    cluster: &Cluster,
    options: &Options,
    places: &Places,
    max_bytes: usize,
    until: Instant,
) -> Result<Filled, Fault> {
    loop {
        let bound = until + SLACK;
        let attempt = attempt(cluster, options, places, max_bytes, until);
        let attempted = timeout_at(bound, attempt).await.unwrap_or_else(|_| {
            Err(Fault::new(
                FaultKind::TimedOut,
                "Kafka did not answer the read in time.",
            ))
        });
        let fault = match attempted {
            Ok(filled) => {
                let nothing = filled.records.is_empty() && filled.moved.is_empty();
                if nothing && Instant::now() < until && filled.next.is_empty() {
                    continue;
                }
                return Ok(filled);
            }
            Err(fault) => fault,
        };
        let again = Instant::now() + PAUSE;
        if !fault.retriable || again >= until {
            return Err(fault);
        }
        sleep_until(again).await;
    }
}

async fn attempt(
    cluster: &Cluster,
    options: &Options,
    places: &Places,
    max_bytes: usize,
    until: Instant,
) -> Result<Filled, Fault> {
    let mut filled = Filled::default();
    let mut left = max_bytes;
    let mut waiting = Vec::with_capacity(places.len());
    for (name, places) in places {
        let topic = cluster.metadata.topic(name).await?;
        let places = in_log(cluster, options, &topic, places, &mut filled).await?;
        let numbers: Vec<i32> = places.keys().copied().collect();
        let bounds = answered(cluster, options, &topic, &numbers).await?;
        let spans: Vec<Span> = bounds
            .iter()
            .map(|bound| {
                let from = places.get(&bound.partition).copied().unwrap_or(bound.low);
                Span {
                    partition: bound.partition,
                    from,
                    end: bound.end.max(from),
                }
            })
            .collect();
        let request = PageRequest {
            topic: Arc::clone(&topic),
            spans,
            limit: RECORDS,
            max_bytes: left,
            wait: Duration::ZERO,
            isolation: options.isolation,
        };
        if request.spans.iter().all(|span| span.from >= span.end) {
            waiting.push(request);
            continue;
        }
        let page = cluster.reader.page(request);
        take(&mut filled, &topic.name, page.await?);
        let taken: usize = filled.records.iter().map(ConsumerRecord::size).sum();
        left = max_bytes.saturating_sub(taken);
        if left == 0 || filled.records.len() >= RECORDS {
            return Ok(filled);
        }
    }
    let now = Instant::now();
    if !filled.records.is_empty() || !filled.next.is_empty() || now >= until {
        return Ok(filled);
    }
    // What of the others is under way when one has records is read anew the next time.
    let wait = (until - now).min(WAIT);
    let mut pages: FuturesUnordered<_> = waiting
        .into_iter()
        .map(|request| {
            let name = Arc::clone(&request.topic.name);
            let request = PageRequest { wait, ..request };
            async move {
                let page = cluster.reader.page(request);
                (name, page.await)
            }
        })
        .collect();
    while let Some((name, page)) = pages.next().await {
        let page = page?;
        if !page.records.is_empty() {
            take(&mut filled, &name, page);
            break;
        }
    }
    Ok(filled)
}

fn take(filled: &mut Filled, topic: &Arc<str>, page: crate::kafka::reader::Page) {
    let page = page.to_keep();
    filled.records.extend(page.records);
    let next = page.next.into_iter();
    filled.next.extend(
        next.map(|(partition, next)| (TopicPartition::new(Arc::clone(topic), partition), next)),
    );
}

/// The bounds of these partitions, as far as their brokers answer; when none does, why.
async fn answered(
    cluster: &Cluster,
    options: &Options,
    topic: &Topic,
    partitions: &[i32],
) -> Result<Vec<Watermarks>, Fault> {
    let asked = cluster.watermarks_of_each(options.isolation, topic, partitions);
    let mut known = Vec::with_capacity(partitions.len());
    let mut fault = None;
    for answer in asked.await {
        match answer {
            Ok(bounds) => known.push(bounds),
            Err(refused) if !refused.retriable => return Err(refused),
            Err(silent) => fault = Some(silent),
        }
    }
    match fault {
        Some(fault) if known.is_empty() => Err(fault),
        _ => Ok(known),
    }
}

/// The places; what is not in the log any more goes on at the nearest that is, and what has none where
/// `auto.offset.reset` says.
async fn in_log(
    cluster: &Cluster,
    options: &Options,
    topic: &Topic,
    places: &[(i32, i64)],
    filled: &mut Filled,
) -> Result<BTreeMap<i32, i64>, Fault> {
    let numbers: Vec<i32> = places.iter().map(|(partition, _)| *partition).collect();
    let bounds = answered(cluster, options, topic, &numbers).await?;
    let mut found: BTreeMap<i32, i64> = places.iter().copied().collect();
    // What does not answer is read the next time.
    found.retain(|id, _| bounds.iter().any(|bound| bound.partition == *id));
    let mut aims = Vec::new();
    for bound in bounds {
        if let Some(at) = found.get(&bound.partition)
            && !(bound.low..=bound.end).contains(at)
        {
            let partition = TopicPartition::new(Arc::clone(&topic.name), bound.partition);
            let aim = match *at {
                NOWHERE => SeekTo::Committed,
                at => SeekTo::Offset(at),
            };
            aims.push((partition, aim));
        }
    }
    if aims.is_empty() {
        return Ok(found);
    }
    let asked = cluster
        .members
        .places(&options.group, options.isolation, options.reset, &aims);
    for (partition, place) in asked.await {
        let at = place?.at;
        if found.insert(partition.partition, at) != Some(at) {
            filled.moved.push((partition, at));
        }
    }
    Ok(found)
}
