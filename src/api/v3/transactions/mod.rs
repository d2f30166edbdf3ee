//! `/v3/clusters/{cluster}/transactions`: transactions as their coordinators know them. Not in Confluent REST Proxy.
//!
//! - `producers.rs`: the producers that a partition knows
//! - `hanging.rs`: transactions that no coordinator knows any more are found and aborted

pub mod hanging;
pub mod producers;

use std::time::Duration;

use axum::response::Response;
use serde::{Deserialize, Serialize};

use super::call::{Call, not_found, shown};
use super::error::Errors;
use super::groups::upper_snake;
use super::page::{PageParams, PrefixParam};
use super::resource::{Metadata, Related, resource};
use crate::admin::transactions;
use crate::api::json::ok;
use crate::http::error::ApiError;
use crate::http::extract::{Path, Query, unexpected};
use crate::kafka::admin::{
    DescribedTransaction, ListedTransaction, TRANSACTION_STATES, TransactionFilter,
};
use crate::kafka::fault::FaultKind;
use crate::record::TopicPartition;

resource!(
    /// Transactions
    TransactionList of ListedTransactionInfo: TransactionKind, TransactionListKind, "KafkaTransaction", "KafkaTransactionList"
);

/// A transaction in a list
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct ListedTransactionInfo {
    kind: TransactionKind,
    metadata: Metadata,
    /// The cluster's id.
    cluster_id: String,
    /// Its transactional id.
    #[schema(example = "billing-1")]
    transactional_id: String,
    /// Its state in Kafka's words.
    #[schema(example = "ONGOING")]
    state: String,
    /// The producer that has it.
    #[schema(example = 4000)]
    producer_id: i64,
    /// The broker that coordinates it.
    coordinator: Related,
}

/// A transaction
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Transaction {
    kind: TransactionKind,
    metadata: Metadata,
    /// The cluster's id.
    cluster_id: String,
    /// Its transactional id.
    #[schema(example = "billing-1")]
    transactional_id: String,
    /// Its state in Kafka's words.
    #[schema(example = "ONGOING")]
    state: String,
    /// The producer that has it.
    #[schema(example = 4000)]
    producer_id: i64,
    /// How often the producer has been fenced, or begun anew.
    #[schema(example = 0)]
    producer_epoch: i16,
    /// After how many milliseconds its coordinator aborts it.
    #[schema(example = 60000)]
    timeout_ms: u64,
    /// When it began, in milliseconds since 1970; `null` while none is open.
    #[schema(required = true, example = 1777636800000_i64)]
    start_timestamp: Option<i64>,
    /// The broker that coordinates it; `null` where that is not known at the moment.
    #[schema(required = true)]
    coordinator: Option<Related>,
    /// The partitions that are in it, of the topics that the caller may describe, by topic and number.
    partitions: Vec<TransactionPartition>,
}

/// A partition that is in a transaction
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct TransactionPartition {
    /// The topic.
    #[schema(example = "orders")]
    topic_name: String,
    /// The partition.
    partition_id: i32,
    /// The partition.
    partition: Related,
    /// The producers that it knows.
    producers: Related,
}

/// The transaction that a path names.
#[derive(Debug, Deserialize)]
pub struct TransactionPath {
    transactional_id: String,
}

fn listed(call: &Call, one: &ListedTransaction) -> ListedTransactionInfo {
    let links = &call.links;
    ListedTransactionInfo {
        kind: TransactionKind::It,
        metadata: links.metadata(&["transactions", &one.id], &[("transaction", &one.id)]),
        cluster_id: links.id(),
        transactional_id: one.id.clone(),
        state: upper_snake(&one.state),
        producer_id: one.producer_id,
        coordinator: links.related(&["brokers", &one.coordinator.to_string()]),
    }
}

fn described(call: &Call, one: DescribedTransaction, coordinator: Option<i32>) -> Transaction {
    let links = &call.links;
    let partition = |at: &TopicPartition| {
        let (topic, number) = (&*at.topic, at.partition.to_string());
        TransactionPartition {
            topic_name: topic.to_owned(),
            partition_id: at.partition,
            partition: links.related(&["topics", topic, "partitions", &number]),
            producers: links.related(&["topics", topic, "partitions", &number, "producers"]),
        }
    };
    Transaction {
        kind: TransactionKind::It,
        metadata: links.metadata(&["transactions", &one.id], &[("transaction", &one.id)]),
        cluster_id: links.id(),
        state: upper_snake(&one.state),
        producer_id: one.producer_id,
        producer_epoch: one.producer_epoch,
        timeout_ms: u64::try_from(one.timeout.as_millis()).unwrap_or(u64::MAX),
        start_timestamp: one.started_ms,
        coordinator: coordinator.map(|broker| links.related(&["brokers", &broker.to_string()])),
        partitions: one.partitions.iter().map(partition).collect(),
        transactional_id: one.id,
    }
}

/// Which transactions are asked for.
fn filter(query: &mut Query) -> Result<TransactionFilter, ApiError> {
    let mut filter = TransactionFilter::default();
    for word in of_list(query.take("state")?.as_deref()) {
        let plain = word.replace('_', "");
        let state = TRANSACTION_STATES
            .into_iter()
            .find(|state| state.eq_ignore_ascii_case(&plain));
        let state = state.ok_or_else(|| {
            let known: Vec<String> = TRANSACTION_STATES.into_iter().map(upper_snake).collect();
            unexpected("state", word, &known.join(", "))
        })?;
        filter.states.push(state);
    }
    for word in of_list(query.take("producer_id")?.as_deref()) {
        let id = word.parse().ok().filter(|id| *id >= 0);
        let id = id.ok_or_else(|| unexpected("producer_id", word, "a whole number from 0"))?;
        filter.producer_ids.push(id);
    }
    let longer = query.take_number("running_longer_than_ms", 0..=u64::from(u32::MAX))?;
    filter.running_longer_than = longer.map(Duration::from_millis);
    Ok(filter)
}

/// The words of a list with commas.
fn of_list(list: Option<&str>) -> impl Iterator<Item = &str> {
    let words = list.unwrap_or_default().split(',').map(str::trim);
    words.filter(|word| !word.is_empty())
}

/// List the transactions
///
/// By transactional id: those that fit all that is asked for, as their coordinators know them. Kafka keeps a transactional
/// id for some days after its last transaction. Not in the reference.
///
/// Needs `admin` on the cluster.
#[utoipa::path(
    get,
    path = "/v3/clusters/{cluster}/transactions",
    operation_id = "listTransactionsV3",
    tag = "Compatible REST v3",
    params(
        ("cluster" = String, Path, description = "The cluster's id"),
        ("state" = Option<String>, Query, description = "Only those in this state, or in one of several with commas between them: `EMPTY`, `ONGOING`, `PREPARE_COMMIT`, `PREPARE_ABORT`, `COMPLETE_COMMIT`, `COMPLETE_ABORT`, `PREPARE_EPOCH_FENCE`, `DEAD`", example = "ONGOING"),
        ("producer_id" = Option<String>, Query, description = "Only those of this producer, or of one of several with commas between them", example = "4000"),
        ("running_longer_than_ms" = Option<u64>, Query, description = "Only those that have been open for longer than this; brokers before Kafka 3.8 cannot tell (501)", example = 60000),
        PageParams,
        PrefixParam,
    ),
    responses(
        (status = 200, description = "The transactions", body = TransactionList),
        Errors,
    )
)]
pub async fn list(mut call: Call) -> Result<Response, ApiError> {
    let page = call.page()?;
    let filter = filter(&mut call.query)?;
    call.no_other_parameters()?;
    let found = call.cluster().transactions(&filter).await;
    let found = found.map_err(|fault| call.fault(&fault))?;
    let page = page.of_names(call.links.url(&["transactions"]), found, |one| &one.id);
    let data = page.data.iter().map(|one| listed(&call, one));
    ok(&TransactionList::new(page.metadata, data.collect()))
}

/// Describe a transaction
///
/// Not in the reference.
///
/// Needs `admin` on the cluster.
#[utoipa::path(
    get,
    path = "/v3/clusters/{cluster}/transactions/{transactional_id}",
    operation_id = "getTransactionV3",
    tag = "Compatible REST v3",
    params(
        ("cluster" = String, Path, description = "The cluster's id"),
        ("transactional_id" = String, Path, description = "The transactional id", example = "billing-1"),
    ),
    responses(
        (status = 200, description = "The transaction; 404 for a transactional id that no coordinator knows", body = Transaction),
        Errors,
    )
)]
pub async fn get(call: Call, Path(path): Path<TransactionPath>) -> Result<Response, ApiError> {
    let id = &path.transactional_id;
    let found = transactions::describe(call.cluster(), &call.principal, id).await;
    let (found, coordinator) = found.map_err(|fault| match fault.kind {
        FaultKind::NotFound => not_found(
            &format!("Transactional id {}", shown(id)),
            "transactional_id",
        ),
        _ => call.fault(&fault),
    })?;
    ok(&described(&call, found, coordinator))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(query: &str) -> Result<TransactionFilter, ApiError> {
        filter(&mut Query::parse(query).unwrap())
    }

    #[test]
    fn a_filter_has_states_producers_and_a_time() {
        let found = read("state=ongoing,PREPARE_COMMIT&producer_id=7,8&running_longer_than_ms=5");
        let expected = TransactionFilter {
            states: vec!["Ongoing", "PrepareCommit"],
            producer_ids: vec![7, 8],
            running_longer_than: Some(Duration::from_millis(5)),
        };
        assert_eq!(found.unwrap(), expected);
        assert_eq!(read("").unwrap(), TransactionFilter::default());
        for (query, field) in [
            ("state=open", "state"),
            ("producer_id=-1", "producer_id"),
            ("producer_id=x", "producer_id"),
            ("running_longer_than_ms=-1", "running_longer_than_ms"),
        ] {
            let error = read(query).unwrap_err().into_body();
            assert_eq!(error.field.as_deref(), Some(field), "{query}");
        }
    }
}
