//! The watermarks of partitions: where each starts and where it ends.

use std::time::Duration;

use super::admin::{Admin, Isolation, OffsetQuery, OffsetSpec};
use super::fault::{Fault, FaultKind};

/// The first and the end offset of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Watermarks {
    /// The partition.
    pub partition: i32,
    /// The first offset that is still in the log.
    pub low: i64,
    /// The offset after the last record that may be read: transactions that are still open, and
    /// what comes after them, are not counted.
    pub end: i64,
}

/// Where each of `partitions` starts and where what may be read under `isolation` ends.
pub(super) async fn watermarks(
    admin: &Admin,
    bound: Duration,
    isolation: Isolation,
    topic: &str,
    partitions: &[i32],
) -> Result<Vec<Watermarks>, Fault> {
    let found = each(admin, bound, isolation, topic, partitions).await;
    found.into_iter().collect()
}

/// The same, with an answer for each partition.
pub(super) async fn each(
    admin: &Admin,
    bound: Duration,
    isolation: Isolation,
    topic: &str,
    partitions: &[i32],
) -> Vec<Result<Watermarks, Fault>> {
    let wanted: Vec<OffsetQuery> = partitions
        .iter()
        .flat_map(|partition| {
            [OffsetSpec::Earliest, OffsetSpec::Latest]
                .map(|spec| OffsetQuery::new(topic, *partition, spec))
        })
        .collect();
    let found = admin.list_offsets(&wanted, isolation, bound).await;
    let mut found = found.into_iter();
    let mut next = || match found.next() {
        Some(Ok(Some(offset))) => Ok(offset),
        Some(Err(fault)) => Err(fault),
        Some(Ok(None)) | None => Err(unknown_watermarks(topic)),
    };
    partitions
        .iter()
        .map(|partition| {
            let (low, end) = (next(), next());
            Ok(Watermarks {
                partition: *partition,
                low: low?,
                end: end?,
            })
        })
        .collect()
}

/// The broker left out a partition's start or end.
pub(super) fn unknown_watermarks(topic: &str) -> Fault {
    Fault::new(
        FaultKind::Unavailable,
        format!("The broker did not say where topic {topic} starts and ends."),
    )
}
