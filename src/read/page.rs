//! Pages: some records of one or several topics, and where the next page goes on.
//!
//! Several topics are read one after the other, each at first up to its share of the page, so that a
//! long one does not keep the others from it. Where a filter leaves records out, reading goes on until
//! the page is full or there is nothing more, for a few seconds at the most: what was passed over then
//! is behind `next`, as what is on the page is.
//!
//! A broker that does not answer is not waited for where others do: the page has what they have, and
//! names the partitions that did not answer. In `next` these stay where they were.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::{join_all, try_join_all};
use tokio::time::{Instant, sleep_until};

use super::error::ReadError;
use super::partitions::{Part, Scope};
use super::start_offsets::{Shown, StartQuery, since_of};
use crate::kafka::fault::{Fault, FaultKind};
use crate::kafka::metadata::Topic;
use crate::kafka::reader::{self, PageRequest, Span};
use crate::kafka::{self, Cluster, ResolvedOffset, SeekTo, Watermarks};
use crate::position::{self, Offsets, Position, PositionError, Since, StartPosition, now_ms};
use crate::record::ConsumerRecord;

/// How long is read on for records that are wanted where others are left out.
const LOOKING: Duration = Duration::from_secs(5);
/// How often several topics are looked at while none of them has anything. One is waited for at the
/// broker; several would each hold a connection meanwhile.
const LOOK: Duration = Duration::from_millis(200);
/// Records that are read at once at least where most of them may be left out. What has no place on
/// the page is read again for the next one.
const LOOKED_AT: usize = 1_000;
/// How much older than the request a record may be that comes only after it: a partition that has not
/// answered begins so long before it, where its end or its last records were asked for.
const EARLIER_MS: i64 = 60_000;
/// How long those topics are waited for, from the beginning on, none of whose brokers answer while those
/// of others do.
const PATIENCE: Duration = Duration::from_millis(700);

/// How much of which records a page has.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PageLimits<'a> {
    pub(crate) shown: Shown<'a>,
    /// Most records.
    pub(crate) limit: usize,
    /// Most bytes of them; one record always comes, whatever its size.
    pub(crate) max_bytes: usize,
    /// Until when the first record is waited for.
    pub(crate) until: Instant,
}

/// Records of a scope, and where to go on.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) records: Vec<ConsumerRecord>,
    /// The resume token of the next page.
    pub(crate) next: String,
    /// Of each part of the scope, which of its partitions have not answered.
    pub(crate) unanswered: Vec<Unanswered>,
}

/// Reads a page of `scope` from `from` on.
///
/// # Errors
///
/// A position that cannot be used or is no longer in the log, and what kept every broker from answering.
pub(crate) async fn read(
    cluster: &Cluster,
    scope: &Scope,
    from: &StartPosition,
    limits: PageLimits<'_>,
) -> Result<Page, ReadError> {
    let cluster_id = cluster.id().await.map_err(ReadError::Kafka)?;
    let starts = starts(cluster, scope, from, limits.shown, &cluster_id).await?;
    let since: Vec<Since> = starts.iter().map(|of| of.since.clone()).collect();
    let topics = scope.parts.iter().zip(starts).map(|(part, of)| PageTopic {
        topic: Arc::clone(&part.topic),
        spans: of.spans,
        unanswered: of.unanswered,
    });
    let mut page = PageLoop::new(cluster, limits, topics.collect());
    page.run(LOOKING).await?;
    let topics: Vec<&Topic> = page.topics.iter().map(|of| &*of.topic).collect();
    let next: Vec<Offsets> = page.topics.iter().map(PageTopic::next).collect();
    let next = position::encode_since(&cluster_id, &topics, &next, &since);
    Ok(Page {
        next,
        unanswered: page.topics.into_iter().map(|of| of.unanswered).collect(),
        records: page.records,
    })
}

/// Partitions whose brokers did not answer, each with why there is nothing of it.
pub(crate) type Unanswered = BTreeMap<i32, String>;

/// What a page reads of one topic.
#[derive(Debug)]
pub(crate) struct PageTopic {
    pub(crate) topic: Arc<Topic>,
    /// Where each partition goes on, and where its log ended when it was asked.
    pub(crate) spans: Vec<Span>,
    pub(crate) unanswered: Unanswered,
}

impl PageTopic {
    /// Where each partition goes on.
    fn next(&self) -> Offsets {
        let next = self.spans.iter().map(|span| (span.partition, span.from));
        next.collect()
    }

    /// What can be read: those of its partitions that answer.
    fn open(&self) -> Vec<Span> {
        let answers = |span: &&Span| !self.unanswered.contains_key(&span.partition);
        self.spans.iter().filter(answers).copied().collect()
    }
}

/// The loop that reads a page.
#[derive(Debug)]
pub(crate) struct PageLoop<'a> {
    cluster: &'a Cluster,
    limits: PageLimits<'a>,
    /// Records may be left out.
    filtered: bool,
    /// Where each topic goes on.
    pub(crate) topics: Vec<PageTopic>,
    /// What has been read.
    pub(crate) records: Vec<ConsumerRecord>,
    bytes: usize,
}

impl<'a> PageLoop<'a> {
    pub(crate) fn new(
        cluster: &'a Cluster,
        limits: PageLimits<'a>,
        topics: Vec<PageTopic>,
    ) -> Self {
        let Shown {
            visibility, filter, ..
        } = limits.shown;
        Self {
            cluster,
            limits,
            filtered: visibility.hides() || !filter.is_all(),
            topics,
            records: Vec::new(),
            bytes: 0,
        }
    }

    /// Reads until the page is full, there is nothing more, or, where that holds at once, until a record has
    /// come or the wait is over. Where records are left out, it looks for others for `looking` at the most,
    /// or for as long as it waits.
    ///
    /// # Errors
    ///
    /// What kept Kafka from answering, where there are no records yet.
    pub(crate) async fn run(&mut self, looking: Duration) -> Result<(), ReadError> {
        let until = self.limits.until;
        let stop = Instant::now() + looking;
        loop {
            self.fill(stop.max(until)).await?;
            if !self.records.is_empty() || Instant::now() >= until {
                return Ok(());
            }
            match self.ready().is_empty() {
                true => self.wait(until).await?,
                // There is something, and it does not come.
                false => sleep_until(until.min(Instant::now() + LOOK)).await,
            }
        }
    }

    /// Reads what there is.
    async fn fill(&mut self, stop: Instant) -> Result<(), ReadError> {
        loop {
            let mut ready = self.ready();
            let left = self.limits.limit.saturating_sub(self.records.len());
            if ready.is_empty() || left == 0 {
                return Ok(());
            }
            // Where the page has no place for all, it is not always the same ones.
            if ready.len() > left {
                fastrand::shuffle(&mut ready);
                ready.truncate(left);
            }
            let count = ready.len();
            for (nth, index) in ready.into_iter().enumerate() {
                let share = left / count + usize::from(nth < left % count);
                let bytes = self.limits.max_bytes.saturating_sub(self.bytes) / (count - nth);
                let page = match self.page(index, share, bytes, Duration::ZERO).await {
                    Ok(page) => page,
                    // The next page meets the error again.
                    Err(_) if !self.records.is_empty() => return Ok(()),
                    Err(error) => return Err(error),
                };
                if !self.take(index, page) {
                    return Ok(());
                }
            }
            let once = self.topics.len() == 1 && !self.filtered;
            if once || Instant::now() >= stop {
                return Ok(());
            }
        }
    }

    /// Waits until there may be something.
    async fn wait(&mut self, until: Instant) -> Result<(), ReadError> {
        if let [only] = &*self.topics
            && !only.open().is_empty()
        {
            let wait = until.saturating_duration_since(Instant::now());
            let PageLimits {
                limit, max_bytes, ..
            } = self.limits;
            let page = self.page(0, limit, max_bytes, wait).await?;
            self.take(0, page);
            return Ok(());
        }
        sleep_until(until.min(Instant::now() + LOOK)).await;
        let isolation = self.limits.shown.isolation;
        let bounds = join_all(self.topics.iter().map(async |of| {
            let ids: Vec<i32> = of.open().iter().map(|span| span.partition).collect();
            let bounds = self.cluster.watermarks_of_each(isolation, &of.topic, &ids);
            ids.iter().copied().zip(bounds.await).collect::<Vec<_>>()
        }))
        .await;
        for (of, bounds) in self.topics.iter_mut().zip(bounds) {
            for (partition, bound) in bounds {
                match bound {
                    Ok(bound) => {
                        let spans = of.spans.iter_mut();
                        for span in spans.filter(|span| span.partition == partition) {
                            span.end = span.end.max(bound.end);
                        }
                    }
                    Err(fault) if fault.retriable => {
                        of.unanswered.insert(partition, fault.message);
                    }
                    Err(fault) => return Err(ReadError::Kafka(fault)),
                }
            }
        }
        Ok(())
    }

    /// The topics that have something to read.
    fn ready(&self) -> Vec<usize> {
        let has = |of: &PageTopic| of.open().iter().any(|span| span.from < span.end);
        let topics = self.topics.iter().enumerate();
        topics
            .filter(|(_, of)| has(of))
            .map(|(index, _)| index)
            .collect()
    }

    /// Reads of one topic.
    async fn page(
        &self,
        index: usize,
        limit: usize,
        max_bytes: usize,
        wait: Duration,
    ) -> Result<reader::Page, ReadError> {
        let Some(of) = self.topics.get(index) else {
            return Ok(reader::Page::default());
        };
        let request = PageRequest {
            topic: Arc::clone(&of.topic),
            spans: of.open(),
            limit: match self.filtered {
                true => limit.max(LOOKED_AT),
                false => limit,
            },
            max_bytes,
            wait,
            isolation: self.limits.shown.isolation,
        };
        read_spans(self.cluster, request).await
    }

    /// Puts what was read on the page; `false` when no more has a place on it. What has none is for
    /// the next page, and so is what comes after it in its partition.
    fn take(&mut self, index: usize, page: reader::Page) -> bool {
        let Some(of) = self.topics.get_mut(index) else {
            return false;
        };
        for id in page.unanswered {
            let message = kafka::silent(&of.topic, id).message;
            of.unanswered.insert(id, message);
        }
        let Shown {
            visibility, filter, ..
        } = self.limits.shown;
        let mut put_back: Offsets = Vec::new();
        for record in page.records {
            if put_back.iter().any(|(id, _)| *id == record.partition) {
                continue;
            }
            if !visibility.shows(&record) || !filter.wants(&record) {
                continue;
            }
            let size = record.size();
            let first = self.records.is_empty();
            let full = self.records.len() >= self.limits.limit
                || self.bytes + size > self.limits.max_bytes;
            if full && !first {
                put_back.push((record.partition, record.offset));
                continue;
            }
            self.bytes += size;
            self.records.push(record);
        }
        let mut moved = false;
        for span in &mut of.spans {
            let found_in = |offsets: &[(i32, i64)]| {
                let found = offsets.iter().find(|(id, _)| *id == span.partition);
                found.map(|(_, offset)| *offset)
            };
            let next = found_in(&put_back).or_else(|| found_in(&page.next));
            if let Some(next) = next {
                moved |= next > span.from;
                span.from = next;
                span.end = span.end.max(next);
            }
        }
        put_back.is_empty() && moved
    }
}

/// Reads, and says where the log starts when it was truncated after the bounds had been asked for.
///
/// # Errors
///
/// [`ReadError::Gone`], and what kept Kafka from answering.
pub(crate) async fn read_spans(
    cluster: &Cluster,
    request: PageRequest,
) -> Result<reader::Page, ReadError> {
    let topic = Arc::clone(&request.topic);
    let spans = request.spans.iter();
    let asked: Offsets = spans.map(|span| (span.partition, span.from)).collect();
    let fault = match cluster.reader.page(request).await {
        Ok(page) => return Ok(page),
        Err(fault) => fault,
    };
    if fault.kind == FaultKind::OffsetOutOfRange {
        let partitions: Vec<i32> = asked.iter().map(|(partition, _)| *partition).collect();
        let bounds = cluster.watermarks(&topic.name, &partitions).await;
        let bounds = bounds.map_err(ReadError::Kafka)?;
        let truncated = bounds
            .iter()
            .zip(&asked)
            .any(|(bound, (_, offset))| *offset < bound.low);
        if truncated {
            return Err(gone(&topic, &asked, &bounds));
        }
    }
    Err(ReadError::Kafka(fault))
}

/// What was asked for is not in the log any more.
fn gone(topic: &Topic, asked: &[(i32, i64)], bounds: &[Watermarks]) -> ReadError {
    let lost: Vec<String> = asked
        .iter()
        .filter_map(|(partition, offset)| {
            let bound = bounds.iter().find(|bound| bound.partition == *partition)?;
            (*offset < bound.low).then(|| {
                format!(
                    "{}:{partition} starts at {}, after {offset}",
                    topic.name, bound.low
                )
            })
        })
        .collect();
    ReadError::Gone {
        field: "from",
        message: format!(
            "no longer in the log: {}; go on with from=earliest",
            lost.join(", ")
        ),
        earliest: bounds.iter().map(|b| (b.partition, b.low)).collect(),
    }
}

/// Where a part begins.
#[derive(Default)]
struct Starts {
    /// What is read; of partitions that have not answered nothing, but from where on.
    spans: Vec<Span>,
    /// Partitions that have not answered, and whose place is not known either.
    since: Since,
    unanswered: Unanswered,
}

/// Turns `from` into offsets.
async fn starts(
    cluster: &Cluster,
    scope: &Scope,
    from: &StartPosition,
    shown: Shown<'_>,
    cluster_id: &str,
) -> Result<Vec<Starts>, ReadError> {
    let parts = &scope.parts;
    let topics: Vec<&Topic> = parts.iter().map(|part| &*part.topic).collect();
    let position = match from {
        StartPosition::ResumeToken(text) => {
            let position = position::read(text, cluster_id, &topics);
            Some(position.map_err(ReadError::Position)?)
        }
        _ => None,
    };
    let resume_tokens = match &position {
        None => None,
        Some(Position {
            offsets: Some(offsets),
            ..
        }) => Some(offsets),
        Some(_) => return Err(ReadError::Position(PositionError::Foreign)),
    };
    let since = position.as_ref().and_then(|all| all.since.as_ref());
    let (some, answered) = tokio::sync::watch::channel(false);
    let patience = Instant::now() + PATIENCE;
    let of_parts = parts.iter().enumerate().map(async |(index, part)| {
        let query = StartQuery {
            from,
            resume_token: resume_tokens.and_then(|all| all.get(index)),
            times: since_of(part, since.and_then(|all| all.get(index))),
        };
        let aims = query.aims(part);
        let mut others = answered.clone();
        let patience = async {
            // It fails only when all are there.
            let _ = others.wait_for(|some| *some).await;
            sleep_until(patience).await;
        };
        let mut found = tokio::select! {
            found = cluster.resolve_each(shown.isolation, &part.topic, &aims) => found,
            () = patience => silent(part),
        };
        some.send_modify(|some| *some |= found.iter().any(Result::is_ok));
        query.count_back(cluster, part, shown, &mut found).await;
        starts_of(part, &query, &aims, &found)
    });
    let (starts, faults): (Vec<_>, Vec<_>) = try_join_all(of_parts).await?.into_iter().unzip();
    match faults.into_iter().flatten().next() {
        // Nobody has answered, so there is no page.
        Some(fault) if !*some.borrow() => Err(ReadError::Kafka(fault)),
        _ => Ok(starts),
    }
}

/// No broker of the part has answered.
fn silent(part: &Part) -> Vec<Result<ResolvedOffset, Fault>> {
    let fault = |id: &i32| Err(kafka::silent(&part.topic, *id));
    part.partitions.iter().map(fault).collect()
}

/// Where the part begins, and why it cannot where some of its partitions have not answered.
fn starts_of(
    part: &Part,
    query: &StartQuery<'_>,
    aims: &[(i32, SeekTo)],
    found: &[Result<ResolvedOffset, Fault>],
) -> Result<(Starts, Option<Fault>), ReadError> {
    check_in_log(part, query, found)?;
    let mut starts = Starts::default();
    let mut first = None;
    for ((partition, aim), found) in aims.iter().zip(found) {
        let partition = *partition;
        let fault = match found {
            Ok(found) => {
                starts.spans.push(Span {
                    partition,
                    from: found.at,
                    end: found.end.max(found.at),
                });
                continue;
            }
            Err(fault) if fault.retriable => fault,
            Err(fault) => return Err(ReadError::Kafka(fault.clone())),
        };
        first.get_or_insert_with(|| fault.clone());
        starts.unanswered.insert(partition, fault.message.clone());
        match aim {
            SeekTo::Offset(offset) => starts.spans.push(Span {
                partition,
                from: *offset,
                end: *offset,
            }),
            SeekTo::Time(time) => starts.since.push((partition, *time)),
            SeekTo::End => {
                let time = (now_ms() - EARLIER_MS).max(0);
                starts.since.push((partition, time));
            }
            // It is left out of the resume token, and begins at its beginning.
            SeekTo::Beginning | SeekTo::Committed => {}
        }
    }
    Ok((starts, first))
}

/// Whether the offsets of a resume token are in the log.
fn check_in_log(
    part: &Part,
    query: &StartQuery<'_>,
    found: &[Result<ResolvedOffset, Fault>],
) -> Result<(), ReadError> {
    let Some(resume_token) = query.resume_token else {
        return Ok(());
    };
    let known: Vec<(i32, &ResolvedOffset)> = part
        .partitions
        .iter()
        .zip(found)
        .filter_map(|(id, found)| Some((*id, found.as_ref().ok()?)))
        .collect();
    let missed = known
        .iter()
        .filter_map(|(id, found)| Some((*id, *found, found.missed?)));
    if missed.clone().any(|(_, found, offset)| offset < found.low) {
        let bounds: Vec<Watermarks> = known.iter().map(|(id, of)| of.watermarks(*id)).collect();
        return Err(gone(&part.topic, resume_token, &bounds));
    }
    match missed.into_iter().next() {
        None => Ok(()),
        Some((partition, found, offset)) => Err(ReadError::Invalid {
            field: "from",
            message: format!(
                "offset {offset} is beyond the end of {}:{partition}, which is {}",
                part.topic.name, found.last
            ),
        }),
    }
}
