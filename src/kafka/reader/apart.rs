//! A page of several brokers, read from each of them by itself, because one was late when they were read
//! together. What the others have is the page; those that have not answered by then are named.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use tokio::time::{Instant, timeout_at};

use super::{FETCH_WAIT, LATE, Page, PageRequest, Reader, Reading, Span, timed_out};
use crate::kafka::apart::silent;
use crate::kafka::fault::Fault;

/// How much longer the others may take where one has records and all have waited for some.
const TOGETHER: Duration = Duration::from_millis(50);

/// Partitions by who leads them.
type Brokers = BTreeMap<Option<i32>, Vec<i32>>;

/// What one broker has, and why there is no more.
struct Part {
    leader: Option<i32>,
    partitions: Vec<i32>,
    reading: Reading,
    outcome: Result<(), Fault>,
}

impl Reader {
    /// Reads on from each broker by itself.
    pub(super) async fn page_apart(
        &self,
        request: &PageRequest,
        reading: Reading,
    ) -> Result<Page, Fault> {
        let mut open = reading.brokers();
        let count = open.len().max(1);
        let left = reading.until().saturating_duration_since(Instant::now());
        let mut answered: BTreeMap<Option<i32>, Arc<AtomicBool>> = BTreeMap::new();
        let mut parts: FuturesUnordered<BoxFuture<'_, Part>> = FuturesUnordered::new();
        for (leader, ids) in &open {
            let request = PageRequest {
                topic: Arc::clone(&request.topic),
                spans: spans(&reading, ids),
                limit: (request.limit / count).max(1),
                max_bytes: request.max_bytes / count,
                wait: if reading.waits { left } else { Duration::ZERO },
                isolation: request.isolation,
            };
            let of_broker = Reading::new(&request);
            answered.insert(*leader, Arc::clone(&of_broker.answered));
            parts.push(Box::pin(self.part(
                *leader,
                ids.clone(),
                request,
                of_broker,
            )));
        }
        let mut end = reading.until() + FETCH_WAIT;
        let mut done: Vec<Part> = Vec::new();
        while let Ok(Some(part)) = timeout_at(end, parts.next()).await {
            open.remove(&part.leader);
            if part.outcome.is_ok() && !(reading.waits && part.reading.records.is_empty()) {
                let more = if reading.waits { TOGETHER } else { LATE };
                end = end.min(Instant::now() + more);
            }
            done.push(part);
        }
        drop(parts);
        // One that has answered and had nothing yet is only left waiting.
        let mut waits = false;
        if reading.waits {
            open.retain(|leader, _| {
                let of = answered.get(leader);
                let has_answered = of.is_some_and(|of| of.load(Ordering::Relaxed));
                waits |= has_answered;
                !has_answered
            });
        }
        joined(request.limit, reading, done, &open, waits)
    }

    /// What one broker has of the page.
    async fn part(
        &self,
        leader: Option<i32>,
        partitions: Vec<i32>,
        request: PageRequest,
        mut reading: Reading,
    ) -> Part {
        let outcome = match self.handles.permit(Instant::now() + LATE).await {
            Ok(permit) => {
                reading.started();
                self.attempt(&permit, &request, &mut reading).await
            }
            Err(busy) => Err(busy),
        };
        Part {
            leader,
            partitions,
            reading,
            outcome,
        }
    }
}

/// Where these partitions go on.
fn spans(reading: &Reading, ids: &[i32]) -> Vec<Span> {
    let of_ids = reading.spans.iter().filter(|s| ids.contains(&s.partition));
    of_ids
        .map(|span| Span {
            from: *reading.next.get(&span.partition).unwrap_or(&span.from),
            ..*span
        })
        .collect()
}

/// One page of all parts. `open` are the partitions that have not answered; `well` is whether others have,
/// without being done.
fn joined(
    limit: usize,
    mut reading: Reading,
    parts: Vec<Part>,
    open: &Brokers,
    mut well: bool,
) -> Result<Page, Fault> {
    let mut unanswered: Vec<i32> = Vec::new();
    let mut fault: Option<Fault> = None;
    for part in parts {
        let some = !part.reading.records.is_empty();
        well |= some || part.outcome.is_ok();
        if let Err(other) = part.outcome {
            if !some && other.retriable {
                unanswered.extend(&part.partitions);
            }
            // The worst is told: what is wrong with the records themselves.
            if fault.as_ref().is_none_or(|known| known.retriable) {
                fault = Some(other);
            }
        }
        reading.next.extend(part.reading.next);
        for record in part.reading.records {
            if reading.records.len() < limit {
                reading.records.push(record);
                continue;
            }
            // It has no place on the page, and is the next one of its partition.
            let next = reading.next.entry(record.partition);
            let next = next.or_insert(record.offset);
            *next = (*next).min(record.offset);
        }
    }
    for ids in open.values() {
        let first = ids.first().copied().unwrap_or_default();
        fault.get_or_insert_with(|| silent(&reading.topic, first));
        unanswered.extend(ids);
    }
    if reading.records.is_empty() {
        match fault {
            Some(fault) if !well || !fault.retriable => return Err(fault),
            None if !well => return Err(timed_out("reading the topic")),
            _ => {}
        }
    }
    unanswered.sort_unstable();
    Ok(Page {
        unanswered,
        ..reading.page()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::fault::FaultKind;
    use crate::kafka::metadata::Topic;
    use crate::reader_options::Isolation;
    use crate::record::{ConsumerRecord, TimestampType};

    fn reading(partitions: &[i32]) -> Reading {
        let spans = partitions.iter().map(|id| Span {
            partition: *id,
            from: 10,
            end: 20,
        });
        Reading::new(&PageRequest {
            topic: Arc::new(Topic::led("t", 1, 3)),
            spans: spans.collect(),
            limit: 100,
            max_bytes: 1 << 20,
            wait: Duration::ZERO,
            isolation: Isolation::Committed,
        })
    }

    /// What a broker has of one partition: its records, from 10 on.
    fn part(id: i32, records: i64, outcome: Result<(), Fault>) -> Part {
        let mut reading = reading(&[id]);
        for offset in 10..10 + records {
            reading.records.push(ConsumerRecord {
                topic: Arc::from("t"),
                partition: id,
                offset,
                timestamp: 0,
                timestamp_type: TimestampType::Create,
                key: None,
                value: None,
                headers: Vec::new(),
            });
        }
        reading.next.insert(id, 10 + records);
        Part {
            leader: Some(id),
            partitions: vec![id],
            reading,
            outcome,
        }
    }

    fn places(page: &Page) -> Vec<(i32, i64)> {
        let place = |record: &ConsumerRecord| (record.partition, record.offset);
        page.records.iter().map(place).collect()
    }

    #[test]
    fn a_page_has_the_records_of_the_brokers_that_answered_and_skips_none_of_the_silent_one() {
        let silent: Brokers = [(Some(2), vec![2])].into();
        let parts = vec![part(0, 2, Ok(())), part(1, 2, Ok(()))];
        let page = joined(3, reading(&[0, 1, 2]), parts, &silent, false).unwrap();
        assert_eq!(places(&page), [(0, 10), (0, 11), (1, 10)]);
        assert_eq!(page.next, [(0, 12), (1, 11), (2, 10)]);
        assert_eq!(page.unanswered, [2]);
    }

    #[test]
    fn a_page_without_any_answer_and_one_of_damaged_records_alone_are_errors() {
        let silent: Brokers = [(Some(0), vec![0]), (Some(1), vec![1])].into();
        let fault = joined(9, reading(&[0, 1]), Vec::new(), &silent, false).unwrap_err();
        assert_eq!(fault.kind, FaultKind::TimedOut);

        let damaged = || Err(Fault::new(FaultKind::Other, "damaged"));
        assert!(!damaged().unwrap_err().retriable);
        let parts = vec![part(0, 0, Ok(())), part(1, 0, damaged())];
        let fault = joined(9, reading(&[0, 1]), parts, &Brokers::new(), false).unwrap_err();
        assert_eq!(fault.message, "damaged");
        let parts = vec![part(0, 1, Ok(())), part(1, 0, damaged())];
        let page = joined(9, reading(&[0, 1]), parts, &Brokers::new(), false).unwrap();
        assert_eq!((places(&page), page.unanswered), (vec![(0, 10)], vec![]));
    }
}
