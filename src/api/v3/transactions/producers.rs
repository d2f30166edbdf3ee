//! `…/topics/{topic}/partitions/{partition}/producers`: the producers that a partition knows.

use std::sync::Arc;

use axum::response::Response;
use serde::Serialize;

use crate::admin::transactions;
use crate::api::json::ok;
use crate::api::v3::call::Call;
use crate::api::v3::error::Errors;
use crate::api::v3::page::PageParams;
use crate::api::v3::partitions::PartitionPath;
use crate::api::v3::resource::resource;
use crate::http::error::ApiError;
use crate::http::extract::Path;
use crate::kafka::admin::ActiveProducer;
use crate::record::TopicPartition;

resource!(
    /// Producers that a partition knows
    ProducerList of Producer: ProducerKind, ProducerListKind, "KafkaProducer", "KafkaProducerList"
);

/// A producer that a partition knows: an idempotent one, or one with transactions
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Producer {
    kind: ProducerKind,
    /// The cluster's id.
    cluster_id: String,
    /// The topic.
    #[schema(example = "orders")]
    topic_name: String,
    /// The partition.
    partition_id: i32,
    /// The producer's id.
    #[schema(example = 4000)]
    producer_id: i64,
    /// How often it has been fenced, or begun anew.
    #[schema(example = 0)]
    producer_epoch: i32,
    /// The number of its last record; `null` where the partition does not know it.
    #[schema(required = true)]
    last_sequence: Option<i32>,
    /// The time of its last record, in milliseconds since 1970.
    #[schema(required = true, example = 1777636800000_i64)]
    last_timestamp: Option<i64>,
    /// The epoch of the coordinator that ended its last transaction here; `null` where none has.
    #[schema(required = true)]
    coordinator_epoch: Option<i32>,
    /// The offset at which its open transaction begins; `null` where none is open.
    #[schema(required = true)]
    current_transaction_start_offset: Option<i64>,
}

impl Producer {
    pub(super) fn of(call: &Call, at: &TopicPartition, producer: &ActiveProducer) -> Self {
        Self {
            kind: ProducerKind::It,
            cluster_id: call.links.id(),
            topic_name: at.topic.to_string(),
            partition_id: at.partition,
            producer_id: producer.id,
            producer_epoch: producer.epoch,
            last_sequence: producer.last_sequence,
            last_timestamp: producer.last_timestamp,
            coordinator_epoch: producer.coordinator_epoch,
            current_transaction_start_offset: producer.transaction_start,
        }
    }
}

/// List the producers that a partition knows
///
/// Idempotent ones and those with transactions, by id. Kafka forgets one that has written nothing for a day. Not in the
/// reference.
///
/// Needs `describe` on the topic.
#[utoipa::path(
    get,
    path = "/v3/clusters/{cluster}/topics/{topic}/partitions/{partition}/producers",
    operation_id = "listProducersV3",
    tag = "Compatible REST v3",
    params(
        ("cluster" = String, Path, description = "The cluster's id"),
        ("topic" = String, Path, description = "The topic", example = "orders"),
        ("partition" = i32, Path, description = "The partition", example = 0),
        PageParams,
    ),
    responses(
        (status = 200, description = "The producers", body = ProducerList),
        Errors,
    )
)]
pub async fn list(mut call: Call, Path(path): Path<PartitionPath>) -> Result<Response, ApiError> {
    let page = call.page()?;
    let number = path.number()?;
    let at = TopicPartition::new(Arc::from(&*path.topic), number);
    let found = transactions::producers(call.cluster(), &at).await;
    let found = found.map_err(|fault| call.fault(&fault))?;
    let (topic, number) = (&path.topic, number.to_string());
    let url = call
        .links
        .url(&["topics", topic, "partitions", &number, "producers"]);
    let page = page.of_keys(url, found, |producer| producer.id)?;
    let data = page.data.iter();
    let data = data.map(|producer| Producer::of(&call, &at, producer));
    ok(&ProducerList::new(page.metadata, data.collect()))
}
