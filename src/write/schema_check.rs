//! Whether the records of a batch are valid by the topic's schemas.

use futures::future::BoxFuture;

use crate::kafka::fault::{Fault, FaultKind};
use crate::observe::topics::TopicWrites;
use crate::record::ProducerRecord;
use crate::schema::{Schemas, Tally, TopicSchemas};

use super::error::{InvalidRecord, InvalidRecords, OnInvalid, WriteError};

/// Most records that are told of a batch of which nothing is written.
const MOST_TOLD: usize = 100;
/// After so many bytes others have their turn: to check is work without a wait.
const BYTES_A_TURN: usize = 64 << 10;

/// A batch on its way.
pub(super) struct Records<'a> {
    pub(super) records: &'a [ProducerRecord],
    pub(super) on_invalid: OnInvalid,
    pub(super) metrics: &'a TopicWrites,
}

/// Adds the records that are not valid to `faults`, which come in the records' order.
///
/// # Errors
///
/// [`WriteError::Invalid`] where nothing is to be written for them.
pub(super) fn check<'a>(
    schemas: &'a Schemas,
    topic: &'a str,
    records: Records<'a>,
    faults: &'a mut Vec<(usize, Fault)>,
) -> BoxFuture<'a, Result<(), WriteError>> {
    // Boxed, so that those who check nothing have no larger future for it.
    Box::pin(async move {
        let Some(asked) = schemas.of(topic) else {
            return Ok(());
        };
        let mut tally = Tally::default();
        let result = check_all(&asked, records, faults, &mut tally).await;
        schemas.count(tally);
        result
    })
}

async fn check_all(
    asked: &TopicSchemas<'_>,
    batch: Records<'_>,
    faults: &mut Vec<(usize, Fault)>,
    tally: &mut Tally,
) -> Result<(), WriteError> {
    let Records {
        records,
        on_invalid,
        metrics,
    } = batch;
    let most = match on_invalid {
        OnInvalid::RejectBatch | OnInvalid::RejectBatchOfInvalid => MOST_TOLD,
        OnInvalid::RejectRecord => usize::MAX,
    };
    let mut known = 0;
    let mut told = Vec::new();
    let (mut count, mut bytes) = (0, 0);
    for (index, record) in records.iter().enumerate() {
        if faults.get(known).is_some_and(|(at, _)| *at == index) {
            known += 1;
            continue;
        }
        bytes += record.size();
        if bytes >= BYTES_A_TURN {
            bytes = 0;
            tokio::task::yield_now().await;
        }
        if asked.accepts(record, tally) {
            continue;
        }
        count += 1;
        if told.len() < most {
            let fault = fault_in(asked, record);
            metrics.refused(fault.name());
            told.push(InvalidRecord { index, fault });
        }
    }
    if count == 0 {
        return Ok(());
    }
    if on_invalid == OnInvalid::RejectRecord {
        faults.extend(told.into_iter().map(|record| (record.index, record.fault)));
        faults.sort_by_key(|(index, _)| *index);
        return Ok(());
    }
    Err(WriteError::Invalid(InvalidRecords {
        told,
        count,
        of: records.len(),
    }))
}

/// Why a record is not accepted. One of which nothing more can be said is refused all the same.
fn fault_in(asked: &TopicSchemas<'_>, record: &ProducerRecord) -> Fault {
    let Some(violation) = asked.violation_in(record) else {
        let message = "The record is not valid by the topic's schemas.";
        return Fault::new(FaultKind::InvalidBySchema, message);
    };
    Fault {
        field: Some(violation.field.into()),
        ..Fault::new(FaultKind::InvalidBySchema, violation.message)
    }
}
