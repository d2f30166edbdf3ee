//! The record as every API sees it, on its way in and on its way out.

use std::sync::Arc;

use bytes::Bytes;

/// A record header. Names may repeat; order is kept; a value may be null (KIP-82).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// The header's name.
    pub name: String,
    /// The header's value; `None` is Kafka's null.
    pub value: Option<Bytes>,
}

/// A record to be written. Its topic stands beside it, once for the whole batch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProducerRecord {
    /// The partition that the client asked for; `None` leaves it to the partitioner.
    pub partition: Option<i32>,
    /// Milliseconds since the epoch; `None` is now.
    pub timestamp: Option<i64>,
    /// `None` is Kafka's null key.
    pub key: Option<Bytes>,
    /// `None` is a tombstone.
    pub value: Option<Bytes>,
    /// In the order given.
    pub headers: Vec<Header>,
}

impl ProducerRecord {
    /// Bytes of key, value and headers together, as the record limit counts them.
    pub fn size(&self) -> usize {
        size(self.key.as_ref(), self.value.as_ref(), &self.headers)
    }
}

fn size(key: Option<&Bytes>, value: Option<&Bytes>, headers: &[Header]) -> usize {
    key.map_or(0, Bytes::len)
        + value.map_or(0, Bytes::len)
        + headers
            .iter()
            .map(|h| h.name.len() + h.value.as_ref().map_or(0, Bytes::len))
            .sum::<usize>()
}

/// The metadata of a record that was written: where it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordMetadata {
    /// The partition.
    pub partition: i32,
    /// The record's offset.
    pub offset: Result<i64, Unplaced>,
    /// Milliseconds since the epoch, as stored by the broker.
    pub timestamp: i64,
}

/// Why the offset of a record that was written is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unplaced {
    /// The broker was not asked to say anything (`acks=0`).
    Unasked,
    /// The answer to the first try was lost. The broker has the record once, and says so when it is sent
    /// again, but not where.
    Retried,
}

impl Unplaced {
    /// Its name in answers.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unasked => "acks_0",
            Self::Retried => "retried",
        }
    }
}

/// A partition of a topic.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicPartition {
    /// The topic.
    pub topic: Arc<str>,
    /// The partition's number.
    pub partition: i32,
}

impl TopicPartition {
    /// The partition numbered `partition` of `topic`.
    pub fn new(topic: impl Into<Arc<str>>, partition: i32) -> Self {
        Self {
            topic: topic.into(),
            partition,
        }
    }
}

/// What a record's timestamp says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimestampType {
    /// The producer's clock.
    Create,
    /// The broker's clock when it appended the record (`message.timestamp.type=LogAppendTime`).
    Append,
}

/// A record read from Kafka.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsumerRecord {
    /// The topic, shared by the records of one fetch.
    pub topic: Arc<str>,
    /// The partition.
    pub partition: i32,
    /// The offset.
    pub offset: i64,
    /// Milliseconds since the epoch.
    pub timestamp: i64,
    /// What `timestamp` says.
    pub timestamp_type: TimestampType,
    /// `None` is Kafka's null key.
    pub key: Option<Bytes>,
    /// `None` is a tombstone.
    pub value: Option<Bytes>,
    /// In wire order.
    pub headers: Vec<Header>,
}

impl ConsumerRecord {
    /// Bytes of key, value and headers together.
    pub fn size(&self) -> usize {
        size(self.key.as_ref(), self.value.as_ref(), &self.headers)
    }
}
