//! The record that goes to the dead-letter topic: the original, and headers that say where it came
//! from and why it did not stay there.

use bytes::Bytes;

use crate::record::{ConsumerRecord, Header, ProducerRecord};

/// Why a record became a dead letter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// The client said so, with its own words if it gave some.
    Refused(Option<String>),
    /// It was delivered as often as the subscription allows.
    Exhausted(Option<String>),
    /// It could not be decoded as asked for.
    Decode(String),
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Refused(Some(words)) | Self::Exhausted(Some(words)) | Self::Decode(words) => {
                f.write_str(words)
            }
            Self::Refused(None) => f.write_str("refused by the consumer"),
            Self::Exhausted(None) => f.write_str("not acknowledged in time, or refused, too often"),
        }
    }
}

/// The dead letter of `record`, which was delivered `deliveries` times. `failed_at` is the time as
/// ISO 8601. Key, value and headers stay as they are; headers of earlier dead letters too.
pub fn dead_letter(
    record: &ConsumerRecord,
    deliveries: u32,
    reason: &Reason,
    failed_at: &str,
) -> ProducerRecord {
    let added = [
        ("error", reason.to_string()),
        ("original-topic", record.topic.to_string()),
        ("original-partition", record.partition.to_string()),
        ("original-offset", record.offset.to_string()),
        ("original-timestamp", record.timestamp.to_string()),
        ("failed-at", failed_at.to_owned()),
        ("deliveries", deliveries.to_string()),
    ];
    let mut headers = record.headers.clone();
    headers.extend(added.into_iter().map(|(name, value)| Header {
        name: name.to_owned(),
        value: Some(Bytes::from(value)),
    }));
    ProducerRecord {
        partition: None,
        timestamp: None,
        key: record.key.clone(),
        value: record.value.clone(),
        headers,
    }
}
