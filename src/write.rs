//! The one write pipeline. Every door hands its records to [`Writer::submit`], and nothing else
//! calls the producer: permission, limits and schema checks stand here once, for every door.

use std::sync::Arc;

use crate::auth::Principal;
use crate::auth::permission::{self, Action, Denied};
use crate::kafka::Cluster;
use crate::kafka::fault::{Fault, FaultKind};
use crate::kafka::metadata::Topic;
use crate::kafka::producer::Outcome;
use crate::record::Outgoing;

/// What becomes of a batch in which one record breaks a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strictness {
    /// Nothing is written and the first record at fault is named.
    Whole,
    /// The record gets an error of its own and the others are written.
    EachRecord,
}

/// Why nothing of a batch was written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Rejected {
    /// The principal may not write here.
    #[error(transparent)]
    Denied(#[from] Denied),
    /// Kafka does not know the topic, or could not be asked.
    #[error(transparent)]
    Kafka(#[from] Fault),
    /// More records than `limits.records_per_request`.
    #[error("{given} records in one request; the limit is {limit}")]
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
}

/// The part of a record that breaks a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field {
    /// The record as a whole.
    Record,
    /// Its `partition`.
    Partition,
}

/// The write pipeline.
#[derive(Debug)]
pub struct Writer {
    cluster: Arc<Cluster>,
    record_bytes: usize,
    records_per_request: usize,
}

impl Writer {
    /// A pipeline that writes to `cluster` within `limits`.
    pub fn new(cluster: Arc<Cluster>, limits: &crate::config::LimitSettings) -> Self {
        Self {
            cluster,
            record_bytes: limits.record_bytes,
            records_per_request: limits.records_per_request,
        }
    }

    /// Writes `records` to `topic` in order, on behalf of `principal`, and answers with one outcome
    /// for each in the same order.
    ///
    /// # Errors
    ///
    /// [`Rejected`] when nothing was written: no permission, an unknown topic, too many records,
    /// or, under [`Strictness::Whole`], a record that breaks a rule.
    pub async fn submit(
        &self,
        principal: &Principal,
        topic: &str,
        records: Vec<Outgoing>,
        strictness: Strictness,
    ) -> Result<Vec<Outcome>, Rejected> {
        permission::decide(principal, Action::Produce, topic)?;
        if records.len() > self.records_per_request {
            return Err(Rejected::TooMany {
                given: records.len(),
                limit: self.records_per_request,
            });
        }
        let topic = self.cluster.metadata.ensure_topic(topic).await?;
        let faults = self.check(&topic, &records, strictness)?;
        self.cluster
            .admit(records.iter().map(|r| r.size() as u64).sum())?;
        let outcomes = if faults.is_empty() {
            self.cluster.producer.send(&topic.name, records).await
        } else {
            self.send_the_good(&topic, records, faults).await
        };
        self.learn(&topic, &outcomes).await;
        Ok(outcomes)
    }

    /// The rules that can be checked before Kafka is asked. Faults come in the records' order.
    fn check(
        &self,
        topic: &Topic,
        records: &[Outgoing],
        strictness: Strictness,
    ) -> Result<Vec<(usize, Fault)>, Rejected> {
        let mut faults = Vec::new();
        for (index, record) in records.iter().enumerate() {
            let Some((field, fault)) = self.fault_in(topic, record) else {
                continue;
            };
            if strictness == Strictness::Whole {
                return Err(Rejected::Record {
                    index,
                    field,
                    fault,
                });
            }
            faults.push((index, fault));
        }
        Ok(faults)
    }

    fn fault_in(&self, topic: &Topic, record: &Outgoing) -> Option<(Field, Fault)> {
        let size = record.size();
        if size > self.record_bytes {
            let limit = self.record_bytes;
            return Some((
                Field::Record,
                Fault::new(
                    FaultKind::TooLarge,
                    format!("key, value and headers are {size} bytes; a record may have {limit}"),
                ),
            ));
        }
        let partition = record.partition?;
        let fault = topic.partition(partition).err()?;
        Some((Field::Partition, fault))
    }

    async fn send_the_good(
        &self,
        topic: &Topic,
        records: Vec<Outgoing>,
        faults: Vec<(usize, Fault)>,
    ) -> Vec<Outcome> {
        let mut faults = faults.into_iter().peekable();
        let mut good = Vec::with_capacity(records.len());
        let mut outcomes: Vec<Option<Outcome>> = Vec::with_capacity(records.len());
        for (index, record) in records.into_iter().enumerate() {
            match faults.next_if(|(at, _)| *at == index) {
                Some((_, fault)) => outcomes.push(Some(Err(Box::new(fault)))),
                None => {
                    good.push(record);
                    outcomes.push(None);
                }
            }
        }
        let mut sent = self
            .cluster
            .producer
            .send(&topic.name, good)
            .await
            .into_iter();
        outcomes
            .into_iter()
            .filter_map(|outcome| outcome.or_else(|| sent.next()))
            .collect()
    }

    /// A topic that turned out to be gone or changed is asked for again by the next request.
    async fn learn(&self, topic: &Topic, outcomes: &[Outcome]) {
        let changed = outcomes.iter().any(|outcome| {
            outcome.as_ref().is_err_and(|fault| {
                matches!(
                    fault.kind,
                    FaultKind::UnknownTopic | FaultKind::UnknownPartition
                )
            })
        });
        if changed {
            self.cluster.metadata.invalidate(&topic.name).await;
        }
    }
}
