//! How partitions are fetched without a group: a krafka consumer that is assigned by hand. What pages
//! ([`super::reader`]) and followed topics (`tail::broker_fetcher`) both have to know of krafka stands here.
//!
//! - It keeps a failed fetch to itself, and asks nobody whether the leader has moved. Only its counter of
//!   errors shows it ([`fetches_fail`]); a new handle knows the cluster as it is now.
//! - It fetches by the topic's id as its handle knows it, so a handle may mean a topic that was deleted
//!   ([`same_topic`]).
//! - It waits for the slowest of the brokers that it fetches from, so those who cannot wait have a consumer
//!   for each broker.

use std::time::Duration;

use krafka::Kafka;
use krafka::consumer::{
    AutoOffsetReset, Consumer, ConsumerRecord as KafkaRecord, TimestampType, TopicPartition,
};
use tokio::time::timeout;

use super::admin::Isolation;
use super::client::ReaderTuning;
use super::fault::Fault;
use super::metadata::{Metadata, Topic};
use crate::record::{ConsumerRecord, Header, TimestampType as RecordTime};

/// The protocol's number for "the topic was deleted and created again".
pub(super) const INCONSISTENT_TOPIC_ID: i16 = 103;

/// Bounds of one fetch. What the settings allow bounds them too.
#[derive(Debug, Clone, Copy)]
pub(super) struct FetchLimits {
    /// Most bytes of one partition; a larger record comes all the same.
    pub(super) partition_bytes: i32,
    /// Most bytes in all.
    pub(super) bytes: i32,
    /// How long a broker holds a fetch that finds nothing.
    pub(super) wait: Duration,
    /// Most records of a poll, and in krafka's buffer.
    pub(super) records: i32,
}

/// A consumer that nothing is assigned to yet.
///
/// # Errors
///
/// krafka refuses it.
pub(super) async fn consumer(
    kafka: &Kafka,
    tuning: &ReaderTuning,
    isolation: Isolation,
    limits: FetchLimits,
) -> Result<Consumer, Fault> {
    let mut builder = kafka
        .consumer_without_group()
        .auto_offset_reset(AutoOffsetReset::None)
        .isolation_level(isolation.into())
        .enable_auto_commit(false)
        .metrics_push(false)
        .max_partition_fetch_bytes(limits.partition_bytes.min(tuning.max_partition_fetch_bytes))
        .fetch_max_bytes(limits.bytes.min(tuning.fetch_max_bytes))
        .fetch_max_wait(limits.wait.min(tuning.fetch_max_wait))
        .max_poll_records(limits.records)
        .max_buffered_records(limits.records);
    if let Some(rack) = &tuning.rack {
        builder = builder.client_rack(rack);
    }
    builder.build().await.map_err(Fault::from)
}

/// Lets the consumer read these partitions of `topic`, each from its offset on.
///
/// # Errors
///
/// Its handle does not know the topic, and no broker tells of it.
pub(super) async fn assign(
    consumer: &Consumer,
    topic: &str,
    places: &[(i32, i64)],
) -> Result<(), Fault> {
    let partitions = places.iter().map(|(partition, _)| *partition).collect();
    consumer.assign(topic, partitions).await?;
    let seeks = places
        .iter()
        .map(|(partition, offset)| (TopicPartition::new(topic, *partition), *offset));
    consumer.seek_many(seeks).await?;
    Ok(())
}

/// Whether the consumer's handle means this topic, and not one of the same name that was there before it or
/// has taken its place. It says so from what it knows already, unless that has just become too old; where
/// it does not know within `bound` it is taken to be right.
///
/// # Errors
///
/// It is another topic, which `metadata` then asks about anew.
pub(super) async fn same_topic(
    consumer: &Consumer,
    metadata: &Metadata,
    topic: &Topic,
    bound: Duration,
) -> Result<(), Fault> {
    let Ok(Ok(known)) = timeout(bound, consumer.fetch_metadata(Some(&topic.name))).await else {
        return Ok(());
    };
    let is_other = known.topics.iter().any(|found| {
        found.name == *topic.name
            && found.topic_id != topic.id
            // Brokers before 2.8 tell no ids.
            && found.topic_id != [0; 16]
            && topic.id != [0; 16]
    });
    if is_other {
        metadata.invalidate(&topic.name).await;
        return Err(Fault::from_protocol_code(INCONSISTENT_TOPIC_ID, None));
    }
    Ok(())
}

/// Whether the topic of that name is another one than was asked for.
pub(super) fn is_other_topic(fault: &Fault) -> bool {
    fault.kafka_error == Some("INCONSISTENT_TOPIC_ID")
}

/// Whether a fetch of the consumer has failed.
pub(super) fn fetches_fail(consumer: &Consumer) -> bool {
    consumer.metrics().consumer.errors > 0
}

/// A record of krafka's as ours.
pub(super) fn delivered(record: KafkaRecord) -> ConsumerRecord {
    ConsumerRecord {
        topic: record.topic,
        partition: record.partition,
        offset: record.offset,
        timestamp: record.timestamp,
        timestamp_type: match record.timestamp_type {
            TimestampType::LogAppendTime => RecordTime::Append,
            _ => RecordTime::Create,
        },
        key: record.key,
        value: record.value,
        headers: record
            .headers
            .into_iter()
            .map(|(name, value)| Header { name, value })
            .collect(),
    }
}
