//! The one write pipeline. Every API hands its records to [`Writer::submit`], or a stream of them
//! to [`Writer::begin`], and nothing else calls the producer: permission, limits and what a topic asks
//! of records stand here once, for every API.

mod error;
mod principal_header;
mod schema_check;

use std::sync::Arc;
use std::time::Duration;

use crate::auth::Principal;
use crate::auth::permission::{self, Action, Resource};
use crate::kafka::Cluster;
use crate::kafka::fault::{Fault, FaultKind};
use crate::kafka::metadata::{Rules, Topic};
use crate::kafka::producer::{Outcome, Sending, Sent};
use crate::observe::topics::TopicWrites;
use crate::record::ProducerRecord;
use crate::schema::Schemas;
pub use error::{Field, InvalidRecord, InvalidRecords, OnInvalid, WriteError};
use principal_header::PrincipalHeader;
use schema_check::Records;

/// Longest time to ask the cluster why a record was not taken.
const EXPLAIN: Duration = Duration::from_secs(2);

/// Whose words records are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Origin {
    /// A client's, which cannot speak for the gateway, and whose keys and values are checked.
    Client,
    /// The gateway's own, around a record that stood in a topic.
    Gateway,
}

/// The write pipeline.
#[derive(Debug)]
pub struct Writer {
    cluster: Arc<Cluster>,
    record_bytes: usize,
    records_per_request: usize,
    principal_header: Option<PrincipalHeader>,
    /// `None` where nothing is checked.
    schemas: Option<Arc<Schemas>>,
}

/// A batch that was handed over; [`PendingBatch::outcomes`] waits for what becomes of it.
#[derive(Debug)]
pub struct PendingBatch {
    sending: Sending,
    /// The records that were not handed over, by their place in the batch, in order.
    faults: Vec<(usize, Fault)>,
    topic: Arc<Topic>,
    cluster: Arc<Cluster>,
}

impl Writer {
    /// A pipeline that writes to `cluster` by `settings` what is valid by `schemas`.
    pub(crate) fn new(
        cluster: Arc<Cluster>,
        settings: &crate::config::Settings,
        schemas: Option<Arc<Schemas>>,
    ) -> Self {
        let header = settings.kafka.principal_header.as_deref();
        Self {
            cluster,
            record_bytes: settings.limits.record_bytes,
            records_per_request: settings.limits.records_per_request,
            principal_header: header.map(PrincipalHeader::new),
            schemas,
        }
    }

    /// Writes `records` to `topic` in order, on behalf of `principal`, and answers with one outcome
    /// for each in the same order.
    ///
    /// # Errors
    ///
    /// [`WriteError`] when nothing was written: no permission, an unknown topic, too many records,
    /// or, where `on_invalid` says so, a record that breaks a rule.
    pub async fn submit(
        &self,
        principal: &Principal,
        topic: &str,
        records: Vec<ProducerRecord>,
        on_invalid: OnInvalid,
    ) -> Result<Vec<Outcome>, WriteError> {
        let begun = self.begin(principal, topic, records, on_invalid).await?;
        Ok(begun.outcomes().await)
    }

    /// Writes a dead letter of a session of `principal` to the topic of the client's choice, for which the
    /// principal needs its permission as for any record. Its headers are those of a record that stood in a
    /// topic, and so are as they are.
    ///
    /// # Errors
    ///
    /// As [`Writer::submit`] under [`OnInvalid::RejectBatch`].
    pub async fn submit_dead_letter(
        &self,
        principal: &Principal,
        topic: &str,
        letter: ProducerRecord,
    ) -> Result<Vec<Outcome>, WriteError> {
        permission::authorize(principal, Action::Produce, Resource::Topic(topic))?;
        self.write_dead_letter(principal, topic, letter).await
    }

    /// The same to the topic of the gateway's own choice (`websocket.dead_letter_topic`): the gateway itself
    /// writes there, so that no permission of the principal's is asked for, and the audit log says whose
    /// session had it write. The topic is created only for a principal that might create it by a use of its
    /// own, and Kafka's own topics are written to by nobody.
    ///
    /// # Errors
    ///
    /// As [`Writer::submit`] under [`OnInvalid::RejectBatch`]; of permissions only
    /// [`Denied::Untold`](crate::auth::permission::Denied::Untold).
    pub async fn write_as_gateway(
        &self,
        principal: &Principal,
        topic: &str,
        letter: ProducerRecord,
    ) -> Result<Vec<Outcome>, WriteError> {
        permission::is_written_by_gateway(principal, topic)?;
        self.write_dead_letter(principal, topic, letter).await
    }

    /// What both have in common, once it may be done.
    async fn write_dead_letter(
        &self,
        principal: &Principal,
        topic: &str,
        mut letter: ProducerRecord,
    ) -> Result<Vec<Outcome>, WriteError> {
        if let Some(header) = &self.principal_header {
            header.set_aside(&mut letter);
        }
        let may_create = permission::may_create(principal, topic);
        let (letter, on_invalid) = (vec![letter], OnInvalid::RejectBatch);
        let origin = Origin::Gateway;
        let begun = self.begin_with(principal, topic, letter, on_invalid, origin, may_create);
        match begun.await {
            Err(WriteError::Kafka(fault))
                if fault.kind == FaultKind::UnknownTopic && !may_create =>
            {
                Err(WriteError::Kafka(not_created(topic, fault)))
            }
            begun => Ok(begun?.outcomes().await),
        }
    }

    /// The first half of [`Writer::submit`]: checks the records and hands them over. Batches that
    /// are begun one after the other stand in the topic in that order.
    ///
    /// # Errors
    ///
    /// As [`Writer::submit`].
    pub async fn begin(
        &self,
        principal: &Principal,
        topic: &str,
        records: Vec<ProducerRecord>,
        on_invalid: OnInvalid,
    ) -> Result<PendingBatch, WriteError> {
        permission::authorize(principal, Action::Produce, Resource::Topic(topic))?;
        let origin = Origin::Client;
        // Whoever may write to a topic may have its first use create it.
        self.begin_with(principal, topic, records, on_invalid, origin, true)
            .await
    }

    /// [`Writer::begin`] once it is decided that `topic` may be written to.
    async fn begin_with(
        &self,
        principal: &Principal,
        topic: &str,
        mut records: Vec<ProducerRecord>,
        on_invalid: OnInvalid,
        origin: Origin,
        may_create: bool,
    ) -> Result<PendingBatch, WriteError> {
        if records.len() > self.records_per_request {
            return Err(WriteError::TooMany {
                given: records.len(),
                limit: self.records_per_request,
            });
        }
        let mut topic = self.cluster.writable(topic, may_create).await?;
        if lacks_any(&topic, &records) {
            topic = Box::pin(self.looked_at_again(topic)).await?;
        }
        let mut faults = self.check(&topic, &records, on_invalid, origin)?;
        let metrics = TopicWrites::of(&topic.name, Some(principal.identity()));
        if let Some(schemas) = &self.schemas
            && origin == Origin::Client
        {
            let records = Records {
                records: &records,
                on_invalid,
                metrics: &metrics,
            };
            schema_check::check(schemas, &topic.name, records, &mut faults).await?;
        }
        if let Some(header) = &self.principal_header {
            header.put_on(principal.identity(), &mut records);
        }
        self.check_rules(&topic, &records, &mut faults, &metrics)
            .await;
        self.cluster
            .admit(records.iter().map(|r| r.size() as u64).sum())?;
        if !faults.is_empty() {
            let mut bad = faults.iter().map(|(index, _)| *index).peekable();
            let mut index = 0..;
            records.retain(|_| bad.next_if(|at| Some(*at) == index.next()).is_none());
        }
        let sending = self.cluster.producer.begin(&topic, records, metrics).await;
        Ok(PendingBatch {
            sending,
            faults,
            topic,
            cluster: Arc::clone(&self.cluster),
        })
    }

    /// Whether `principal` may write to `topic`, and whether it is there: what a stream asks before
    /// it begins.
    ///
    /// # Errors
    ///
    /// As [`Writer::submit`].
    pub async fn open(&self, principal: &Principal, topic: &str) -> Result<Arc<Topic>, WriteError> {
        permission::authorize(principal, Action::Produce, Resource::Topic(topic))?;
        Ok(self.cluster.writable(topic, true).await?)
    }

    /// Waits, at most `bound`, until the producer has room for more records of `topic`.
    pub async fn wait_for_capacity(&self, topic: &str, bound: Duration) {
        let producer = &self.cluster.producer;
        producer.wait_for_capacity(topic, bound).await;
    }

    /// The rules that can be checked before Kafka is asked. Faults come in the records' order.
    fn check(
        &self,
        topic: &Topic,
        records: &[ProducerRecord],
        on_invalid: OnInvalid,
        origin: Origin,
    ) -> Result<Vec<(usize, Fault)>, WriteError> {
        let mut faults = Vec::new();
        for (index, record) in records.iter().enumerate() {
            let Some((field, fault)) = self.fault_in(topic, record, origin) else {
                continue;
            };
            if on_invalid == OnInvalid::RejectBatch {
                return Err(WriteError::Record {
                    index,
                    field,
                    fault,
                });
            }
            faults.push((index, fault));
        }
        Ok(faults)
    }

    /// The topic as the cluster knows it now: partitions may just have been added.
    async fn looked_at_again(&self, topic: Arc<Topic>) -> Result<Arc<Topic>, Fault> {
        match self.cluster.metadata.confirmed(&topic.name).await {
            Ok(now) => Ok(now),
            Err(fault) if fault.kind == FaultKind::UnknownTopic => Err(fault),
            Err(_) => Ok(topic),
        }
    }

    /// Adds the records that the topic's configuration rules out to `faults`, which come in the
    /// records' order. Unlike the other rules this one spares the others whatever the strictness: it
    /// is what the broker would say of each record, and what is not known here yet it does say.
    async fn check_rules(
        &self,
        topic: &Topic,
        records: &[ProducerRecord],
        faults: &mut Vec<(usize, Fault)>,
        metrics: &TopicWrites,
    ) {
        let metadata = &self.cluster.metadata;
        let Some(rules) = metadata.rules(topic).await else {
            return;
        };
        let now = jiff::Timestamp::now().as_millisecond();
        let compresses = self.cluster.producer.compresses();
        let fault_in =
            |rules: &Rules, record: &ProducerRecord| rules.fault_in(record, now, compresses);
        if !records.iter().any(|r| fault_in(&rules, r).is_some()) {
            return;
        }
        // They may have changed: what was heard long ago refuses nothing.
        let Some(rules) = Box::pin(metadata.confirmed_rules(topic)).await else {
            return;
        };
        let known = std::mem::take(faults);
        let mut known = known.into_iter().peekable();
        for (index, record) in records.iter().enumerate() {
            if let Some(fault) = known.next_if(|(at, _)| *at == index) {
                faults.push(fault);
            } else if let Some(fault) = fault_in(&rules, record) {
                metrics.refused(fault.name());
                faults.push((index, fault));
            }
        }
    }

    fn fault_in(
        &self,
        topic: &Topic,
        record: &ProducerRecord,
        origin: Origin,
    ) -> Option<(Field, Fault)> {
        let size = record.size();
        if size > self.record_bytes {
            let limit = self.record_bytes;
            return Some((
                Field::Record,
                Fault::new(
                    FaultKind::TooLarge,
                    format!(
                        "Key, value and headers are {size} bytes; a record may have {limit} \
                         (limits.record_bytes)."
                    ),
                ),
            ));
        }
        if origin == Origin::Client
            && let Some(header) = &self.principal_header
            && let Some(fault) = header.fault_in(record)
        {
            return Some((Field::Headers, fault));
        }
        let partition = record.partition?;
        let fault = topic.partition(partition).err()?;
        Some((Field::Partition, fault))
    }
}

impl PendingBatch {
    /// One outcome for each record of the batch, in its order.
    pub async fn outcomes(self) -> Vec<Outcome> {
        let Sent {
            outcomes: mut sent,
            timed_out,
        } = self.sending.sent().await;
        if !timed_out.is_empty() {
            // Boxed, as in `learn`: what is seldom done must not make every request's future large.
            Box::pin(explain(&self.cluster, &self.topic, &mut sent, &timed_out)).await;
        }
        learn(&self.cluster, &self.topic, &mut sent).await;
        if self.faults.is_empty() {
            return sent;
        }
        let mut all = Vec::with_capacity(sent.len() + self.faults.len());
        let mut sent = sent.into_iter();
        for (index, fault) in self.faults {
            all.extend(sent.by_ref().take(index - all.len()));
            all.push(Err(Box::new(fault)));
        }
        all.extend(sent);
        all
    }
}

/// There is no topic for a dead letter, and its principal lacks the right to have it created.
fn not_created(topic: &str, fault: Fault) -> Fault {
    Fault {
        message: format!(
            "Topic {topic} does not exist. Create it, or give the session's principal the permission \
             create:{topic} or produce:{topic}, with which kafka.auto_create_topics creates it."
        ),
        ..fault
    }
}

/// Whether a record names a partition that `topic` does not have.
fn lacks_any(topic: &Topic, records: &[ProducerRecord]) -> bool {
    let mut named = records.iter().filter_map(|record| record.partition);
    named.any(|partition| topic.partition(partition).is_err())
}

/// A topic that turned out to be gone or changed is asked for again. librdkafka says of one that is
/// gone that it has no such partition, even to those who named none.
async fn learn(cluster: &Cluster, topic: &Topic, outcomes: &mut [Outcome]) {
    let unknown = |outcome: &Outcome| {
        outcome.as_ref().is_err_and(|fault| {
            matches!(
                fault.kind,
                FaultKind::UnknownTopic | FaultKind::UnknownPartition
            )
        })
    };
    let is_refused = |outcome: &Outcome| {
        let of_the_record = |kind| matches!(kind, FaultKind::Invalid | FaultKind::TooLarge);
        outcome
            .as_ref()
            .is_err_and(|fault| of_the_record(fault.kind))
    };
    if outcomes.iter().any(is_refused) {
        Box::pin(cluster.metadata.doubt_rules(topic)).await;
    }
    if !outcomes.iter().any(unknown) {
        return;
    }
    Box::pin(cluster.metadata.invalidate(&topic.name)).await;
    if let Err(fault) = cluster.metadata.topic(&topic.name).await
        && fault.kind == FaultKind::UnknownTopic
    {
        for outcome in outcomes.iter_mut().filter(|outcome| unknown(outcome)) {
            *outcome = Err(Box::new(fault.clone()));
        }
    }
}

/// librdkafka tries again and again until the time is over and then says only that: what the
/// cluster says about the partition tells people, and their retries, what is wrong.
async fn explain(
    cluster: &Cluster,
    topic: &Topic,
    outcomes: &mut [Outcome],
    timed_out: &[(usize, Option<i32>)],
) {
    let mut partitions: Vec<i32> = timed_out.iter().filter_map(|(_, p)| *p).collect();
    partitions.sort_unstable();
    partitions.dedup();
    if partitions.is_empty() {
        return;
    }
    let asked = cluster.why_unwritable(&topic.name, &partitions);
    let Ok(reasons) = tokio::time::timeout(EXPLAIN, asked).await else {
        return;
    };
    for (index, partition) in timed_out {
        let reason = partition.and_then(|p| reasons.iter().find(|(place, _)| *place == p));
        if let Some((_, reason)) = reason
            && let Some(Err(fault)) = outcomes.get_mut(*index)
        {
            **fault = Fault {
                maybe_written: fault.maybe_written,
                ..reason.clone()
            };
        }
    }
}
