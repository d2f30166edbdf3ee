//! When the broker appended records, for topics with its clock (`message.timestamp.type=LogAppendTime`).
//!
//! Such a broker writes its time once for a batch, in the batch's header, and leaves the producer's times
//! in the records. krafka reads those, and tells only that the time is of the other kind. So the headers
//! of such batches are fetched once more, on a connection of their own, before anyone sees the records.
//! Records with the producer's time cost nothing here.
//!
//! krafka has no call for a single fetch: its messages and connections are reached by its feature
//! `internal`, so that they log in, and find leaders, as every other reader does.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use futures::future::try_join_all;
use krafka::__private::kafka_metadata;
use krafka::__private::protocol::{
    ApiKey, FetchPartitionRequest, FetchRequest, FetchResponse, FetchTopicRequest,
    RecordBatchHeader, VersionedDecode, VersionedEncode, versions,
};
use krafka::Kafka;
use krafka::consumer::{ConsumerRecord, TimestampType};
use parking_lot::Mutex;
use tokio::time::{Instant, sleep, timeout};

use super::client::{self, Clients, Role};
use super::fault::{Fault, FaultKind};
use super::fetcher::INCONSISTENT_TOPIC_ID;
use crate::record::TopicPartition;

/// Longest time for the headers of some records; whoever waits for them reads the records again then.
const LONGEST: Duration = Duration::from_secs(4);
/// Longest time for one fetch.
const ATTEMPT: Duration = Duration::from_secs(2);
/// Pause before a failed one is tried again.
const PAUSE: Duration = Duration::from_millis(100);
/// Bytes of one fetch, at least and at most; in between they follow the records. A larger batch comes all
/// the same.
const LEAST_BYTES: usize = 16 << 10;
const MOST_BYTES: usize = 1 << 20;
/// Most that Kafka adds to a record, about.
const OVERHEAD: usize = 64;
/// The newest version of a fetch that names topics, and the oldest that is asked for.
const LAST_BY_NAME: i16 = 12;
const OLDEST: i16 = 4;

/// A batch, by its header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Batch {
    first: i64,
    last: i64,
    /// The broker's time, where it is the one that counts.
    appended: Option<i64>,
}

impl Batch {
    fn has(&self, offset: i64) -> bool {
        (self.first..=self.last).contains(&offset)
    }
}

/// The batches of which a reader has had only some records yet. Each consumer has its own: it is of
/// one topic, and not of the next one of that name.
#[derive(Debug, Default)]
pub(super) struct Begun(HashMap<TopicPartition, Batch>);

/// Asks for append times.
#[derive(Clone)]
pub(super) struct AppendTimes {
    inner: Arc<Inner>,
}

struct Inner {
    clients: Clients,
    /// Made when the first record needs it.
    handle: Mutex<Option<Kafka>>,
}

impl std::fmt::Debug for AppendTimes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AppendTimes")
            .field("connected", &self.inner.handle.lock().is_some())
            .finish_non_exhaustive()
    }
}

impl AppendTimes {
    /// Connects as `clients` says, when a record needs it.
    pub(super) fn new(clients: Clients) -> Self {
        Self {
            inner: Arc::new(Inner {
                clients,
                handle: Mutex::default(),
            }),
        }
    }

    /// Puts the broker's time on the records that have it. `begun` is the consumer's own.
    ///
    /// # Errors
    ///
    /// What kept the headers from coming: then the records must not be used, and are to be read again.
    /// That happens within some seconds.
    pub(super) async fn put(
        &self,
        records: &mut [ConsumerRecord],
        begun: &mut Begun,
    ) -> Result<(), Fault> {
        let mut places: BTreeMap<TopicPartition, Vec<usize>> = BTreeMap::new();
        for (index, record) in records.iter().enumerate() {
            if record.timestamp_type == TimestampType::LogAppendTime {
                let place = TopicPartition::new(Arc::clone(&record.topic), record.partition);
                places.entry(place).or_default().push(index);
            }
        }
        if places.is_empty() {
            return Ok(());
        }
        let found = {
            let records = &*records;
            try_join_all(places.iter().map(|(place, indexes)| {
                let of: Vec<&ConsumerRecord> =
                    indexes.iter().filter_map(|at| records.get(*at)).collect();
                self.times(place, of, begun.0.get(place).copied())
            }))
            .await?
        };
        for ((place, indexes), (times, last)) in places.into_iter().zip(found) {
            for (index, time) in indexes.into_iter().zip(times) {
                if let Some(record) = records.get_mut(index) {
                    record.timestamp = time;
                }
            }
            match last {
                Some(batch) => begun.0.insert(place, batch),
                None => begun.0.remove(&place),
            };
        }
        Ok(())
    }

    /// The times of these records of one partition, in order, and the last batch if there is more of it.
    async fn times(
        &self,
        place: &TopicPartition,
        records: Vec<&ConsumerRecord>,
        begun: Option<Batch>,
    ) -> Result<(Vec<i64>, Option<Batch>), Fault> {
        let until = Instant::now() + LONGEST;
        let mut times = Vec::with_capacity(records.len());
        let mut batches: VecDeque<Batch> = begun.into_iter().collect();
        while let Some(record) = records.get(times.len()) {
            let offset = record.offset;
            // Records come in the order of their offsets, and so do batches.
            while batches.front().is_some_and(|batch| batch.last < offset) {
                batches.pop_front();
            }
            if let Some(time) = batches
                .front()
                .filter(|batch| batch.has(offset))
                .and_then(|batch| batch.appended)
            {
                times.push(time);
                continue;
            }
            let left = records.iter().skip(times.len());
            let bytes = left.map(|record| size(record) + OVERHEAD).sum();
            batches = self.batches(place, offset, bytes, until).await?;
        }
        let last = records.last().map(|record| record.offset);
        let more = batches.front().copied();
        Ok((times, more.filter(|batch| Some(batch.last) > last)))
    }

    /// The batches from the one that has this offset on.
    async fn batches(
        &self,
        place: &TopicPartition,
        offset: i64,
        bytes: usize,
        until: Instant,
    ) -> Result<VecDeque<Batch>, Fault> {
        loop {
            let fetched = timeout(ATTEMPT, self.fetch(place, offset, bytes)).await;
            let timed = |batch: &Batch| batch.has(offset) && batch.appended.is_some();
            let fault = match fetched {
                Ok(Ok(batches)) if batches.iter().any(timed) => return Ok(batches),
                Ok(Ok(_)) => Fault::new(
                    FaultKind::Unavailable,
                    format!(
                        "The broker did not say when it appended offset {offset} of {}:{}.",
                        place.topic, place.partition
                    ),
                ),
                Ok(Err(fault)) => fault,
                Err(_) => {
                    // Its connection may be one that nobody answers on.
                    self.inner.handle.lock().take();
                    Fault::new(
                        FaultKind::TimedOut,
                        format!(
                            "reading when records of {}:{} were appended: no answer from Kafka in time",
                            place.topic, place.partition
                        ),
                    )
                }
            };
            // All else may come of what the handle knows of the topic, which is asked for anew.
            let hopeless = matches!(
                fault.kind,
                FaultKind::OffsetOutOfRange | FaultKind::NotAuthorized
            );
            if hopeless || Instant::now() + PAUSE >= until {
                return Err(fault);
            }
            tracing::debug!(
                topic = &*place.topic,
                "append times are asked for again after: {fault}"
            );
            self.refresh(&place.topic).await;
            sleep(PAUSE).await;
        }
    }

    async fn fetch(
        &self,
        place: &TopicPartition,
        offset: i64,
        bytes: usize,
    ) -> Result<VecDeque<Batch>, Fault> {
        let kafka = self.handle().await?;
        let metadata = kafka_metadata(&kafka);
        let connection = metadata
            .get_leader_connection(&place.topic, place.partition)
            .await?;
        let id = metadata.topic_id_for_name(&place.topic);
        let version = connection
            .negotiate_api_version(ApiKey::Fetch, versions::FETCH_MAX, OLDEST)
            .unwrap_or(OLDEST);
        let version = match id {
            Some(_) => version,
            None => version.min(LAST_BY_NAME),
        };
        let most = i32::try_from(bytes.clamp(LEAST_BYTES, MOST_BYTES)).unwrap_or(i32::MAX);
        let mut partition = FetchPartitionRequest::default();
        partition.partition = place.partition;
        partition.fetch_offset = offset;
        partition.partition_max_bytes = most;
        let mut topic = FetchTopicRequest::default();
        topic.topic = place.topic.to_string();
        topic.topic_id = id;
        topic.partitions = vec![partition];
        // Without a session, and with what is not committed: the records are known to be there.
        let mut request = FetchRequest::default();
        request.max_wait_ms = i32::try_from(ATTEMPT.as_millis() / 2).unwrap_or(1_000);
        request.min_bytes = 1;
        request.max_bytes = most;
        request.topics = vec![topic];
        let mut answer = connection
            .send_request(ApiKey::Fetch, version, |buffer| {
                request.encode_versioned(version, buffer)
            })
            .await?;
        let answer = FetchResponse::decode_versioned(version, &mut answer)?;
        connection.notify_throttle(answer.throttle_time_ms);
        check(answer.error_code.to_i16())?;
        let mut partitions = answer.responses.iter().flat_map(|of| &of.partitions);
        let Some(found) = partitions.find(|found| found.partition == place.partition) else {
            return Err(Fault::from_protocol_code(INCONSISTENT_TOPIC_ID, None));
        };
        check(found.error_code.to_i16())?;
        Ok(headers(found.records.as_deref().unwrap_or_default()))
    }

    async fn handle(&self) -> Result<Kafka, Fault> {
        let known = self.inner.handle.lock().clone();
        if let Some(kafka) = known {
            return Ok(kafka);
        }
        let made = client::krafka(&self.inner.clients, Role::Reader).await?;
        // Another one may have been quicker.
        Ok(self.inner.handle.lock().get_or_insert(made).clone())
    }

    /// Who leads may be another one now.
    async fn refresh(&self, topic: &str) {
        let known = self.inner.handle.lock().clone();
        if let Some(kafka) = known {
            let topics = [topic];
            let refreshed = kafka_metadata(&kafka).force_refresh(Some(&topics));
            // What keeps it from coming shows when it is asked again.
            let _ = timeout(ATTEMPT, refreshed).await;
        }
    }
}

fn check(code: i16) -> Result<(), Fault> {
    match code {
        0 => Ok(()),
        code => Err(Fault::from_protocol_code(code, None)),
    }
}

fn size(record: &ConsumerRecord) -> usize {
    let of = |bytes: &Option<bytes::Bytes>| bytes.as_ref().map_or(0, bytes::Bytes::len);
    let headers = record
        .headers
        .iter()
        .map(|(name, value)| name.len() + of(value));
    of(&record.key) + of(&record.value) + headers.sum::<usize>()
}

/// The batches that these bytes hold; of the last one the header is enough.
fn headers(mut bytes: &[u8]) -> VecDeque<Batch> {
    let mut batches = VecDeque::new();
    while let Ok(header) = RecordBatchHeader::peek(bytes) {
        let by_broker = header.attributes.timestamp_type == TimestampType::LogAppendTime;
        batches.push_back(Batch {
            first: header.base_offset,
            last: header.last_offset(),
            appended: by_broker.then_some(header.max_timestamp),
        });
        bytes = bytes.get(header.total_size()..).unwrap_or_default();
    }
    batches
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A batch of these offsets with `rest` bytes behind its header, cut off where those end.
    fn batch(first: i64, last: i64, by_broker: bool, time: i64, rest: usize) -> Vec<u8> {
        let length = i32::try_from(RecordBatchHeader::SIZE - 12 + rest).unwrap();
        let attributes: i16 = if by_broker { 1 << 3 } else { 0 };
        let mut bytes = Vec::new();
        bytes.extend(first.to_be_bytes());
        bytes.extend(length.to_be_bytes());
        bytes.extend(0_i32.to_be_bytes());
        bytes.push(2);
        bytes.extend(0_u32.to_be_bytes());
        bytes.extend(attributes.to_be_bytes());
        bytes.extend(i32::try_from(last - first).unwrap().to_be_bytes());
        // The producer's first time, and the time of the batch.
        bytes.extend(7_i64.to_be_bytes());
        bytes.extend(time.to_be_bytes());
        bytes.extend([0; 8 + 2 + 4 + 4]);
        assert_eq!(bytes.len(), RecordBatchHeader::SIZE);
        bytes.resize(RecordBatchHeader::SIZE + rest, 0);
        bytes
    }

    #[test]
    fn batches_are_known_by_their_headers_also_where_the_last_one_is_cut_off() {
        let mut bytes = batch(10, 12, true, 500, 40);
        bytes.extend(batch(13, 13, false, 600, 0));
        bytes.extend(batch(14, 20, true, 700, 100));
        bytes.truncate(bytes.len() - 60);
        let of = |first, last, appended| Batch {
            first,
            last,
            appended,
        };
        let all = [
            of(10, 12, Some(500)),
            of(13, 13, None),
            of(14, 20, Some(700)),
        ];
        assert_eq!(headers(&bytes), all);
        // Where even its header is not whole, it is for the next fetch.
        bytes.truncate(bytes.len() - 45);
        assert_eq!(headers(&bytes), &all[..2]);
        assert!(headers(&[]).is_empty() && headers(b"no batch at all").is_empty());
        assert!(all[0].has(10) && all[0].has(12) && !all[0].has(13));
    }
}
