//! Why records were not written, and what becomes of the others of their batch.

use std::fmt;

use crate::auth::permission::Denied;
use crate::kafka::fault::Fault;

/// What becomes of a batch in which one record breaks a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnInvalid {
    /// Nothing is written, and the first record at fault is named, or all that are not valid by their schemas.
    RejectBatch,
    /// Nothing is written where a key or value is not valid by its schema; a record that breaks another rule
    /// gets an error of its own.
    RejectBatchOfInvalid,
    /// The record gets an error of its own and the others are written.
    RejectRecord,
}

/// Why nothing of a batch was written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// The principal may not write here.
    #[error(transparent)]
    Denied(#[from] Denied),
    /// Kafka does not know the topic, or could not be asked.
    #[error(transparent)]
    Kafka(#[from] Fault),
    /// More records than `limits.records_per_request`.
    #[error("{given} records in one request; the limit is {limit} (limits.records_per_request)")]
    TooMany {
        /// How many were sent.
        given: usize,
        /// How many are allowed.
        limit: usize,
    },
    /// One record breaks a rule.
    #[error("{fault}")]
    Record {
        /// The record's place in the batch, from 0.
        index: usize,
        /// The field at fault.
        field: Field,
        /// What is wrong with it.
        fault: Fault,
    },
    /// Records are not valid by the topic's schemas.
    #[error("{0}")]
    Invalid(InvalidRecords),
}

/// The part of a record that breaks a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field {
    /// The record as a whole.
    Record,
    /// Its `partition`.
    Partition,
    /// Its `headers`.
    Headers,
}

/// The records of a batch that are not valid by the topic's schemas.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidRecords {
    /// The first of them, in their order; at least one.
    pub told: Vec<InvalidRecord>,
    /// How many there are.
    pub count: usize,
    /// How many records the batch has.
    pub of: usize,
}

/// A record that is not valid by the topic's schemas.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidRecord {
    /// Its place in the batch, from 0.
    pub index: usize,
    /// What is wrong with it.
    pub fault: Fault,
}

impl fmt::Display for InvalidRecords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { told, count, of } = self;
        let first = told.first();
        match first {
            Some(record) if *of == 1 => write!(f, "{}", record.fault),
            _ => {
                write!(
                    f,
                    "{count} of {of} records are not valid by the topic's schemas, and nothing was written."
                )?;
                first.map_or(Ok(()), |InvalidRecord { index, fault }| {
                    write!(f, " Record {index} (from 0): {fault}")
                })
            }
        }
    }
}
