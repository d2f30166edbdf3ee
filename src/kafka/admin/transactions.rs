//! Transactions at their coordinators, and the producers that partitions know.
//!
//! A transaction that hangs is one that a partition has open and no coordinator knows. krafka's own call aborts what a
//! coordinator knows, in all of its partitions; here the marker is written to one partition, as
//! `kafka-transactions.sh abort` does.

use std::time::Duration;

use krafka::__private::kafka_metadata;
use krafka::__private::protocol::{
    ApiKey, WritableTxnMarker, WritableTxnMarkerTopic, WriteTxnMarkersRequest,
    WriteTxnMarkersResponse,
};
use krafka::admin::{
    DescribeProducersOptions, DescribeTransactionsOptions, ListTransactionsOptions, ProducerState,
    TransactionDescription,
};
use tokio::time::Instant;

use super::partitions::{from_krafka, take, to_krafka, unmentioned};
use super::request::{self, Question};
use super::{Admin, Link, bounded};
use crate::kafka::fault::{Fault, FaultKind};
use crate::record::TopicPartition;

/// How many transactions, or partitions, one call asks for.
const AT_ONCE: usize = 1_000;

/// The states of a transaction, in Kafka's words.
pub(crate) const TRANSACTION_STATES: [&str; 8] = [
    "Empty",
    "Ongoing",
    "PrepareCommit",
    "PrepareAbort",
    "CompleteCommit",
    "CompleteAbort",
    "PrepareEpochFence",
    "Dead",
];

/// Which transactions: those that fit all that is said.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct TransactionFilter {
    /// In one of these states; empty is any.
    pub(crate) states: Vec<&'static str>,
    /// Of one of these producers; empty is any.
    pub(crate) producer_ids: Vec<i64>,
    /// Open for longer than this.
    pub(crate) running_longer_than: Option<Duration>,
}

/// A transaction that there is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ListedTransaction {
    /// Its transactional id.
    pub(crate) id: String,
    /// The producer that has it.
    pub(crate) producer_id: i64,
    /// Its state in Kafka's words.
    pub(crate) state: String,
    /// The broker that coordinates it.
    pub(crate) coordinator: i32,
}

/// A transaction as its coordinator knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DescribedTransaction {
    /// Its transactional id.
    pub(crate) id: String,
    /// Its state in Kafka's words.
    pub(crate) state: String,
    pub(crate) producer_id: i64,
    pub(crate) producer_epoch: i16,
    /// After how long its coordinator aborts it.
    pub(crate) timeout: Duration,
    /// When it began, in milliseconds since 1970; `None` while none is open.
    pub(crate) started_ms: Option<i64>,
    /// The partitions that are in it, in order.
    pub(crate) partitions: Vec<TopicPartition>,
}

/// A producer that a partition knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ActiveProducer {
    pub(crate) id: i64,
    pub(crate) epoch: i32,
    /// The number of its last record; `None` where the partition does not know it.
    pub(crate) last_sequence: Option<i32>,
    /// The time of its last record, in milliseconds since 1970.
    pub(crate) last_timestamp: Option<i64>,
    /// The epoch of the coordinator that ended its last transaction; `None` where none has been ended here.
    pub(crate) coordinator_epoch: Option<i32>,
    /// Where its open transaction begins; `None` where it has none open.
    pub(crate) transaction_start: Option<i64>,
}

impl From<ProducerState> for ActiveProducer {
    fn from(state: ProducerState) -> Self {
        Self {
            id: state.producer_id,
            epoch: state.producer_epoch,
            last_sequence: (state.last_sequence >= 0).then_some(state.last_sequence),
            last_timestamp: (state.last_timestamp >= 0).then_some(state.last_timestamp),
            coordinator_epoch: (state.coordinator_epoch >= 0).then_some(state.coordinator_epoch),
            transaction_start: state.current_transaction_start_offset,
        }
    }
}

fn described(id: String, found: TransactionDescription) -> DescribedTransaction {
    let mut partitions: Vec<TopicPartition> = found.partitions.iter().map(from_krafka).collect();
    partitions.sort_unstable();
    DescribedTransaction {
        id,
        state: found.state,
        producer_id: found.producer_id,
        producer_epoch: found.producer_epoch,
        timeout: found.timeout,
        started_ms: (found.start_time_ms >= 0).then_some(found.start_time_ms),
        partitions,
    }
}

impl Admin {
    /// The transactions that fit `filter`, by id: every broker is asked for those that it coordinates.
    ///
    /// # Errors
    ///
    /// What kept the first broker from answering that did not: its transactions would be missing. `Unsupported` where
    /// one does not know how to look for those that are open for long.
    pub(crate) async fn transactions(
        &self,
        filter: &TransactionFilter,
        bound: Duration,
    ) -> Result<Vec<ListedTransaction>, Fault> {
        let until = Instant::now() + bound;
        let link = self.link(bound).await?;
        let mut options = ListTransactionsOptions::default()
            .states(filter.states.iter().map(ToString::to_string).collect())
            .producer_ids(filter.producer_ids.clone());
        if let Some(least) = filter.running_longer_than {
            bounded(bound, all_know_durations(link)).await?;
            options = options.min_duration(least);
        }
        let left = until.saturating_duration_since(Instant::now());
        let call = link.client.list_transactions(options.timeout(left));
        let mut transactions = Vec::new();
        for (coordinator, listed) in bounded(left, call).await? {
            transactions.extend(listed?.into_iter().map(|one| ListedTransaction {
                id: one.transactional_id,
                producer_id: one.producer_id,
                state: one.state,
                coordinator,
            }));
        }
        transactions.sort_unstable_by(|a, b| a.id.cmp(&b.id));
        // One whose coordinator moves at this moment may be listed by two.
        transactions.dedup_by(|a, b| a.id == b.id);
        Ok(transactions)
    }

    /// Describes each of these transactional ids, at its coordinator.
    ///
    /// # Errors
    ///
    /// What kept the brokers from answering. `NotFound` for one that there is not, and what is wrong with one, is in
    /// its place.
    pub(crate) async fn describe_transactions(
        &self,
        ids: &[String],
        bound: Duration,
    ) -> Result<Vec<Result<DescribedTransaction, Fault>>, Fault> {
        let until = Instant::now() + bound;
        let client = &self.link(bound).await?.client;
        let mut all = Vec::with_capacity(ids.len());
        for ids in ids.chunks(AT_ONCE) {
            let left = until.saturating_duration_since(Instant::now());
            let options = DescribeTransactionsOptions::default().timeout(left);
            let call = client.describe_transactions(ids, options);
            let mut found = bounded(left, call).await?;
            all.extend(ids.iter().map(|id| match found.remove(id) {
                Some(Ok(found)) => Ok(described(id.clone(), found)),
                Some(Err(error)) => Err(about_transaction(id, error.into())),
                None => Err(no_such_transaction(id)),
            }));
        }
        Ok(all)
    }

    /// The producers that each of `partitions` knows, by id: each leader is asked once for so many of its partitions.
    /// krafka looks for a partition that is not there until its time is over, so that none is to be among them.
    ///
    /// # Errors
    ///
    /// What kept the brokers from answering. What is wrong with one partition is in its place.
    pub(crate) async fn producers(
        &self,
        partitions: &[TopicPartition],
        bound: Duration,
    ) -> Result<Vec<Result<Vec<ActiveProducer>, Fault>>, Fault> {
        let until = Instant::now() + bound;
        let client = &self.link(bound).await?.client;
        let mut all = Vec::with_capacity(partitions.len());
        for partitions in partitions.chunks(AT_ONCE) {
            let left = until.saturating_duration_since(Instant::now());
            let options = DescribeProducersOptions::default().timeout(left);
            let call = client.describe_producers(partitions.iter().map(to_krafka), options);
            let mut found = bounded(left, call).await?;
            all.extend(partitions.iter().map(|partition| {
                let states = take(&mut found, partition)?;
                let mut producers: Vec<ActiveProducer> =
                    states.into_iter().map(ActiveProducer::from).collect();
                producers.sort_unstable_by_key(|producer| producer.id);
                Ok(producers)
            }));
        }
        Ok(all)
    }

    /// Writes to `partition` that the open transaction of `producer` is aborted.
    ///
    /// # Errors
    ///
    /// `NotAuthorized`; `INVALID_PRODUCER_EPOCH` and `TRANSACTION_COORDINATOR_FENCED` where the producer has gone on
    /// since; what kept the leader from answering.
    pub(crate) async fn abort_transaction(
        &self,
        partition: &TopicPartition,
        producer: &ActiveProducer,
        bound: Duration,
    ) -> Result<(), Fault> {
        let producer_epoch = i16::try_from(producer.epoch).map_err(|_| {
            let message = format!("{} is no epoch of a producer.", producer.epoch);
            Fault::new(FaultKind::Invalid, message)
        })?;
        let marker = WritableTxnMarker {
            producer_id: producer.id,
            producer_epoch,
            transaction_result: false,
            topics: vec![WritableTxnMarkerTopic {
                name: partition.topic.to_string(),
                partition_indexes: vec![partition.partition],
            }],
            // Of a partition to which no coordinator has written yet, any epoch is newer.
            coordinator_epoch: producer.coordinator_epoch.unwrap_or(0),
            // That of a marker with the producer's own epoch: those of the newer version have the next one.
            transaction_version: WritableTxnMarker::legacy_transaction_version(),
        };
        let question = Question {
            key: ApiKey::WriteTxnMarkers,
            versions: 1..=2,
            request: WriteTxnMarkersRequest {
                markers: vec![marker],
            },
            missing: "the abort of single transactions (WriteTxnMarkers)",
        };
        let link = self.link(bound).await?;
        bounded(bound, write_marker(link, partition, &question)).await
    }
}

/// Writes a marker at the partition's leader, which is looked for once more where it has just moved.
async fn write_marker(
    link: &Link,
    partition: &TopicPartition,
    question: &Question<WriteTxnMarkersRequest>,
) -> Result<(), Fault> {
    let metadata = kafka_metadata(&link.kafka);
    let mut is_second = false;
    loop {
        let leader = metadata.get_leader_connection(&partition.topic, partition.partition);
        let answer: WriteTxnMarkersResponse = request::ask(&*leader.await?, question).await?;
        let of_partition = answer
            .markers
            .iter()
            .flat_map(|marker| &marker.topics)
            .filter(|topic| topic.name == *partition.topic)
            .flat_map(|topic| &topic.partitions)
            .find(|one| one.partition_index == partition.partition);
        let found =
            of_partition.ok_or_else(|| unmentioned(&partition.topic, partition.partition))?;
        match request::wrong(found.error_code, None) {
            None => return Ok(()),
            // A leader that is none writes nothing.
            Some(fault) if !is_second && fault.kafka_error == Some("NOT_LEADER_OR_FOLLOWER") => {
                metadata.force_refresh(Some(&[&*partition.topic])).await?;
                is_second = true;
            }
            Some(fault) => return Err(fault),
        }
    }
}

/// Whether each broker knows how to look for transactions that are open for long: krafka asks the others for all of
/// them.
async fn all_know_durations(link: &Link) -> Result<(), Fault> {
    /// The first version with a duration.
    const WITH_DURATION: i16 = 1;
    for broker in request::brokers(link).await? {
        let connection = request::connection(link, broker).await?;
        let version = connection.negotiate_api_version(
            ApiKey::ListTransactions,
            WITH_DURATION,
            WITH_DURATION,
        );
        if version.is_none() {
            return Err(request::unsupported(
                "a search for transactions by how long they are open (KIP-994, Kafka 3.8)",
            ));
        }
    }
    Ok(())
}

fn no_such_transaction(id: &str) -> Fault {
    Fault {
        kafka_error: Some("TRANSACTIONAL_ID_NOT_FOUND"),
        ..Fault::new(
            FaultKind::NotFound,
            format!("No producer has used transactional id {id}, or none lately."),
        )
    }
}

/// A fault about a transactional id, which the broker's own words leave out.
fn about_transaction(id: &str, fault: Fault) -> Fault {
    if fault.kind == FaultKind::NotFound {
        return no_such_transaction(id);
    }
    Fault {
        message: format!("Transactional id {id}: {}", fault.message),
        ..fault
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_names_the_transactional_id() {
        let unknown = about_transaction("t", Fault::from_protocol_code(105, None));
        assert_eq!(unknown.kind, FaultKind::NotFound);
        assert!(unknown.message.contains("transactional id t"), "{unknown}");
        let refused = about_transaction("t", Fault::from_protocol_code(53, None));
        assert_eq!(refused.kind, FaultKind::NotAuthorized);
        assert!(
            refused.message.starts_with("Transactional id t: "),
            "{refused}"
        );
    }
}
