//! `…/hanging-transactions` finds open transactions that no coordinator knows, and `…/transactions:abort` of a partition
//! ends one: what `kafka-transactions.sh find-hanging` and `abort` do.

use std::sync::Arc;
use std::time::Duration;

use axum::response::Response;
use serde::Serialize;

use super::producers::Producer;
use crate::admin::transactions::{self, HangingScope, HangingTransaction, OpenTransaction};
use crate::api::json::ok;
use crate::api::v3::call::{Call, JsonBody};
use crate::api::v3::error::{BodyErrors, Errors};
use crate::api::v3::page::{PageParams, Pair, PrefixParam};
use crate::api::v3::partitions::PartitionPath;
use crate::api::v3::resource::{ListMetadata, Related};
use crate::http::error::{ApiError, ErrorBody};
use crate::http::extract::{Path, Query, unexpected};
use crate::http::json_object::unacceptable;
use crate::record::TopicPartition;

/// How old the last record of a transaction has to be: as long as Kafka lets transactions take by default.
const OLDER_THAN_MS: u64 = 900_000;

/// What the resource is
#[derive(Debug, Clone, Copy, Serialize, utoipa::ToSchema)]
pub enum HangingTransactionKind {
    /// The only one.
    #[serde(rename = "KafkaHangingTransaction")]
    It,
}

/// What the list is of
#[derive(Debug, Clone, Copy, Serialize, utoipa::ToSchema)]
pub enum HangingTransactionListKind {
    /// The only one.
    #[serde(rename = "KafkaHangingTransactionList")]
    It,
}

/// Transactions that hang
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct HangingTransactionList {
    kind: HangingTransactionListKind,
    metadata: ListMetadata,
    /// The transactions.
    data: Vec<HangingTransactionInfo>,
    /// The partitions that could not be looked at: what hangs there is not in `data`.
    unchecked: Vec<UncheckedPartition>,
}

/// A transaction that a partition has open and no coordinator knows
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = HangingTransaction)]
pub struct HangingTransactionInfo {
    kind: HangingTransactionKind,
    /// The cluster's id.
    cluster_id: String,
    /// The topic.
    #[schema(example = "orders")]
    topic_name: String,
    /// The partition.
    partition_id: i32,
    /// The partition.
    partition: Related,
    /// The producer.
    #[schema(example = 4000)]
    producer_id: i64,
    /// How often the producer has been fenced, or begun anew.
    #[schema(example = 0)]
    producer_epoch: i32,
    /// The transactional id that the producer has; `null` where no coordinator knows it.
    #[schema(required = true, example = "billing-1")]
    transactional_id: Option<String>,
    /// The offset at which the transaction begins: readers of what is committed see nothing from there on.
    start_offset: i64,
    /// The time of its last record, in milliseconds since 1970.
    #[schema(required = true, example = 1777636800000_i64)]
    last_timestamp: Option<i64>,
    /// The epoch of the coordinator that ended the producer's last transaction here; `null` where none has.
    #[schema(required = true)]
    coordinator_epoch: Option<i32>,
    /// Where a POST aborts it.
    abort: Related,
}

/// A partition that could not be looked at
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct UncheckedPartition {
    /// The topic.
    topic_name: String,
    /// The partition.
    partition_id: i32,
    /// As in an error.
    #[schema(example = 50003)]
    error_code: u32,
    /// Why.
    message: String,
}

/// Which open transaction is aborted: that of a producer, or the one that begins at an offset
#[derive(Debug, utoipa::ToSchema)]
#[expect(dead_code, reason = "the shape is read by hand; this describes it")]
pub struct AbortTransaction {
    /// The producer. Or `start_offset`.
    #[schema(minimum = 0, example = 4000)]
    producer_id: Option<i64>,
    /// The offset at which it begins. Or `producer_id`.
    #[schema(minimum = 0)]
    start_offset: Option<i64>,
    /// `true`: also where its coordinator knows it and would end it. In its other partitions it may be committed
    /// nevertheless.
    force: Option<bool>,
}

fn described(call: &Call, one: HangingTransaction) -> HangingTransactionInfo {
    let links = &call.links;
    let (topic, number) = (&*one.at.topic, one.at.partition.to_string());
    HangingTransactionInfo {
        kind: HangingTransactionKind::It,
        cluster_id: links.id(),
        topic_name: topic.to_owned(),
        partition_id: one.at.partition,
        partition: links.related(&["topics", topic, "partitions", &number]),
        producer_id: one.producer.id,
        producer_epoch: one.producer.epoch,
        transactional_id: one.transactional_id,
        start_offset: one.start,
        last_timestamp: one.producer.last_timestamp,
        coordinator_epoch: one.producer.coordinator_epoch,
        abort: links.action(
            &["topics", topic, "partitions", &number, "transactions"],
            "abort",
        ),
    }
}

/// Where to look, and for how old ones.
fn scope(query: &mut Query) -> Result<(HangingScope, Duration), ApiError> {
    const NUMBER: &str = "a whole number from 0";
    let mut number = |name| {
        let given = query.take_as::<i32>(name, NUMBER)?;
        match given {
            Some(below @ ..0) => Err(unexpected(name, &below.to_string(), NUMBER)),
            given => Ok(given),
        }
    };
    let (partition, broker) = (number("partition")?, number("broker")?);
    let topic = query.take("topic")?;
    if let (Some(partition), None) = (partition, &topic) {
        let expected = "topic beside it, whose partition it is";
        return Err(unexpected("partition", &partition.to_string(), expected));
    }
    let older_than = query.take_number("older_than_ms", 0..=u64::from(u32::MAX))?;
    let scope = HangingScope {
        topic,
        partition,
        broker,
    };
    Ok((
        scope,
        Duration::from_millis(older_than.unwrap_or(OLDER_THAN_MS)),
    ))
}

/// The order of the list: by topic, partition and producer.
fn key(one: &HangingTransaction) -> Pair<Pair<String, i32>, i64> {
    Pair(Pair::of(&one.at), one.producer.id)
}

/// Find transactions that hang
///
/// Open in a partition for longer than a transaction may take, and known to no coordinator, so that nobody ends them and
/// readers of what is committed wait. The leaders are asked what is open in their partitions, then the coordinators for
/// those producers. A search looks at 20,000 partitions at most: name a topic or a broker where there are more. Not in
/// the reference.
///
/// Needs `admin` on the cluster.
#[utoipa::path(
    get,
    path = "/v3/clusters/{cluster}/hanging-transactions",
    operation_id = "listHangingTransactionsV3",
    tag = "Compatible REST v3",
    params(
        ("cluster" = String, Path, description = "The cluster's id"),
        ("topic" = Option<String>, Query, description = "Only in this topic", example = "orders"),
        ("partition" = Option<i32>, Query, description = "Only in this partition of the topic", minimum = 0),
        ("broker" = Option<i32>, Query, description = "Only in partitions that this broker leads", minimum = 0),
        ("older_than_ms" = Option<u64>, Query, description = "Only those whose last record is older than this; without it 900000, which is how long Kafka lets transactions take by default (`transaction.max.timeout.ms`)", example = 900000),
        PageParams,
        PrefixParam,
    ),
    responses(
        (status = 200, description = "The transactions, by topic, partition and producer", body = HangingTransactionList),
        (status = 422, description = "The search has to be narrower", body = ErrorBody),
        Errors,
    )
)]
pub async fn list(mut call: Call) -> Result<Response, ApiError> {
    let page = call.page()?;
    let (scope, older_than) = scope(&mut call.query)?;
    call.no_other_parameters()?;
    let found = transactions::hanging(call.cluster(), &call.principal, &scope, older_than).await;
    let found = found.map_err(|error| call.refused(error))?;
    let url = call.links.url(&["hanging-transactions"]);
    let page = page.of_named_keys(url, found.found, |one| &one.at.topic, key)?;
    let data = page.data.into_iter().map(|one| described(&call, one));
    let unchecked = found.unchecked.into_iter().map(|(at, fault)| {
        let error = call.fault(&fault).into_body();
        UncheckedPartition {
            topic_name: at.topic.to_string(),
            partition_id: at.partition,
            error_code: error.error_code,
            message: error.message,
        }
    });
    ok(&HangingTransactionList {
        kind: HangingTransactionListKind::It,
        metadata: page.metadata,
        data: data.collect(),
        unchecked: unchecked.collect(),
    })
}

/// Abort a transaction that hangs
///
/// In this partition: the leader writes that the producer's open transaction is aborted, with the epochs that the
/// partition has of it. Where a coordinator knows the transaction it is refused (409): that one ends it, and aborted in
/// one partition it may still be committed in others. Kafka's own topics are no exception here: a commit of offsets may
/// hang too. Not in the reference.
///
/// Needs `admin` on the cluster.
#[utoipa::path(
    post,
    path = "/v3/clusters/{cluster}/topics/{topic}/partitions/{partition}/transactions:abort",
    operation_id = "abortTransactionV3",
    tag = "Compatible REST v3",
    params(
        ("cluster" = String, Path, description = "The cluster's id"),
        ("topic" = String, Path, description = "The topic", example = "orders"),
        ("partition" = i32, Path, description = "The partition", example = 0),
    ),
    request_body(
        content = AbortTransaction,
        examples(
            ("of a producer" = (value = json!({"producer_id": 4000}))),
            ("from an offset" = (value = json!({"start_offset": 42}))),
        ),
    ),
    responses(
        (status = 200, description = "It is aborted; the answer is the producer as it was before", body = Producer),
        (status = 409, description = "Its coordinator knows it and ends it (409)", body = ErrorBody),
        BodyErrors,
    )
)]
pub async fn abort(
    call: Call,
    Path(path): Path<PartitionPath>,
    body: JsonBody,
) -> Result<Response, ApiError> {
    let number = path.number()?;
    let (which, force) = asked(&body)?;
    let at = TopicPartition::new(Arc::from(&*path.topic), number);
    let aborted = transactions::abort(call.cluster(), &at, which, force).await;
    let aborted = aborted.map_err(|error| call.refused(error))?;
    ok(&Producer::of(&call, &at, &aborted))
}

fn asked(body: &JsonBody) -> Result<(OpenTransaction, bool), ApiError> {
    const ONE: &str = "expected one of producer_id and start_offset";
    let body = body.object(&["producer_id", "start_offset", "force"])?;
    let producer = body.natural("producer_id")?;
    let which = match (producer, body.natural("start_offset")?) {
        (Some(id), None) => OpenTransaction::OfProducer(id),
        (None, Some(offset)) => OpenTransaction::From(offset),
        (Some(_), Some(_)) => return Err(unacceptable("/start_offset", ONE)),
        (None, None) => {
            return Err(unacceptable("/producer_id", format!("is missing; {ONE}")));
        }
    };
    Ok((which, body.truth("force")?.unwrap_or(false)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_abort_names_a_producer_or_an_offset() {
        let read = |body: &str| asked(&JsonBody::of(body));
        let by_producer = read(r#"{"producer_id":7}"#).unwrap();
        assert_eq!(by_producer, (OpenTransaction::OfProducer(7), false));
        let by_offset = read(r#"{"start_offset":0,"force":true}"#).unwrap();
        assert_eq!(by_offset, (OpenTransaction::From(0), true));
        for (body, expected) in [
            ("", (422, "")),
            ("{}", (422, "/producer_id")),
            (
                r#"{"producer_id":1,"start_offset":1}"#,
                (422, "/start_offset"),
            ),
            (r#"{"producer_id":-1}"#, (422, "/producer_id")),
            (r#"{"start_offset":"x"}"#, (400, "/start_offset")),
            (r#"{"start_offset":1,"force":"x"}"#, (400, "/force")),
            (r#"{"offset":1}"#, (422, "/offset")),
        ] {
            let error = read(body).unwrap_err();
            let status = error.status().as_u16();
            let field = error.into_body().field.unwrap_or_default();
            assert_eq!((status, &*field), expected, "{body}");
        }
    }

    #[test]
    fn a_search_may_be_narrowed() {
        let read = |query: &str| scope(&mut Query::parse(query).unwrap());
        let (all, older_than) = read("").unwrap();
        assert_eq!(all, HangingScope::default());
        assert_eq!(older_than, Duration::from_secs(15 * 60));
        let (narrow, older_than) = read("topic=t&partition=3&broker=1&older_than_ms=0").unwrap();
        let expected = HangingScope {
            topic: Some("t".to_owned()),
            partition: Some(3),
            broker: Some(1),
        };
        assert_eq!((narrow, older_than), (expected, Duration::ZERO));
        for (query, field) in [
            ("partition=1", "partition"),
            ("topic=t&partition=-1", "partition"),
            ("broker=x", "broker"),
            ("older_than_ms=-5", "older_than_ms"),
        ] {
            let error = read(query).unwrap_err().into_body();
            assert_eq!(error.field.as_deref(), Some(field), "{query}");
        }
    }

    #[test]
    fn pages_are_in_the_order_of_partitions() {
        let at = |partition, id| {
            key(&HangingTransaction {
                at: TopicPartition::new("t", partition),
                producer: crate::kafka::admin::ActiveProducer {
                    id,
                    epoch: 0,
                    last_sequence: None,
                    last_timestamp: None,
                    coordinator_epoch: None,
                    transaction_start: Some(0),
                },
                start: 0,
                transactional_id: None,
            })
        };
        assert!(at(2, 500) < at(10, 7));
        assert!(at(2, 9) < at(2, 10));
    }
}
