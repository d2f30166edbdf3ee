//! `GET /topics/{topic}/partitions/{partition}/records`: a page of one partition from an offset, without a
//! consumer instance, as Redpanda's proxy has it.

use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use tokio::time::Instant;

use super::consumers::records::{ConsumerRecord, Shape, array};
use super::consumers::{Unfit, fits, not_of_format};
use super::media::{self, Embedded};
use super::{error, partitions};
use crate::auth::Principal;
use crate::auth::policy::RecordVisibility;
use crate::filter::Filter;
use crate::gateway::Gateway;
use crate::http::error::ApiError;
use crate::http::extract::{Path, Query, unexpected};
use crate::kafka::metadata::Topic;
use crate::kafka::reader::Span;
use crate::kafka::{Cluster, SeekTo};
use crate::observe::topics::TopicReads;
use crate::read::allowed::while_allowed;
use crate::read::error::ReadError;
use crate::read::page::{PageLimits, PageLoop, PageTopic, Unanswered};
use crate::read::partitions::visibility;
use crate::read::start_offsets::Shown;
use crate::reader_options::Isolation;
use crate::record::{ConsumerRecord as KafkaRecord, TopicPartition};

/// Where to go on: the offset after the last record that was looked at, also where it is not shown.
const NEXT: HeaderName = HeaderName::from_static("tidegate-next-offset");
/// Longest wait for records.
const MAX_TIMEOUT: u64 = 25_000;
/// Most records of an answer.
const RECORDS: usize = 5_000;

/// Read a partition from an offset
///
/// As soon as there are records, and an empty array when none come in time; `Tidegate-Next-Offset` says where
/// to go on. The format is the one that `Accept` names, binary without it. Records of open and aborted
/// transactions are left out unless `[kafka.consumer]` says otherwise.
///
/// Needs `consume` on the topic. Which records are shown may depend on the token
/// (`auth.topic_filters`).
#[utoipa::path(
    get,
    path = "/topics/{topic}/partitions/{partition}/records",
    operation_id = "readPartitionV2",
    tag = "Compatible REST v2",
    params(
        ("topic" = String, Path, description = "The topic", example = "orders"),
        ("partition" = i32, Path, description = "The partition", example = 0),
        ("offset" = i64, Query, description = "The first offset to read", minimum = 0, example = 42),
        ("timeout" = Option<u64>, Query, description = "Milliseconds to wait for records; without it `rest.consumer_request_timeout_ms`", maximum = 25000, example = 1000),
        ("max_bytes" = Option<u64>, Query, description = "Most bytes of records; one record always comes. Without it `rest.consumer_request_max_bytes`", minimum = 1, example = 300_000),
    ),
    responses(
        (status = 200, description = "The records, in order", headers(("Tidegate-Next-Offset" = i64, description = "The `offset` to go on with")), content(
            (Vec<ConsumerRecord> = "application/vnd.kafka.binary.v2+json", example = json!([{"topic": "orders", "key": "Yy0xNw==", "value": "aGVsbG8=", "partition": 0, "offset": 42, "timestamp": 1_700_000_000_000_i64, "headers": []}])),
            (Vec<ConsumerRecord> = "application/vnd.kafka.json.v2+json"),
            (Vec<ConsumerRecord> = "application/vnd.kafka.text.v2+json"),
        )),
        (status = 408, description = "A record is not of the format (40801); the message says how to go on"),
        (status = 410, description = "The offset is no longer in the log; `earliest` says where it starts now"),
        error::PartitionErrors,
    )
)]
pub async fn read(
    gateway: Gateway,
    Path((topic, partition)): Path<(String, String)>,
    Extension(principal): Extension<Principal>,
    headers: HeaderMap,
    query: Query,
) -> Result<Response, ApiError> {
    let (kind, format) = media::of_partition(&headers)?;
    let reading = async {
        let partition = partitions::number(&partition)?;
        let mut asked = Asked::parse(query, &gateway)?;
        if let Some(left) = principal.time_left() {
            // Nothing is waited for after the credential has expired.
            asked.timeout = asked.timeout.min(left);
        }
        let names = [Arc::from(topic.as_str())];
        let visibility = visibility(&principal, &names)?;
        let topic = gateway.cluster().metadata.topic(&topic).await;
        let topic = topic.map_err(|fault| error::of_request(&fault))?;
        let known = topic.partition(partition);
        known.map_err(|fault| error::of_request(&fault))?;
        let reading = Reading {
            cluster: gateway.cluster(),
            topic,
            partition,
            format,
            visibility,
        };
        let names = [Arc::clone(&reading.topic.name)];
        let reads = reading.records(&asked);
        let (records, next) = while_allowed(&principal, &names, &reading.visibility, reads).await?;
        TopicReads::of(&names[0], principal.identity()).count(records.len() as u64);
        Ok((records, next))
    };
    let (records, next) = reading.await.map_err(|error: ApiError| error.typed(kind))?;
    let shape = Shape {
        format,
        headers: gateway.settings().rest.record_headers,
    };
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(kind)),
        (NEXT, HeaderValue::from(next)),
    ];
    Ok((headers, array(&records, shape)).into_response())
}

/// The parameters.
struct Asked {
    offset: i64,
    timeout: Duration,
    max_bytes: usize,
}

impl Asked {
    fn parse(mut query: Query, gateway: &Gateway) -> Result<Self, ApiError> {
        const OFFSET: &str = "the first offset to read, a whole number from 0";
        let rest = &gateway.settings().rest;
        let offset = query.take_as::<i64>("offset", OFFSET)?;
        let timeout = query.take_number("timeout", 0..=MAX_TIMEOUT)?;
        let max_bytes = query.take_number("max_bytes", 1..=u64::MAX)?;
        query.finish()?;
        let offset = match offset {
            Some(offset @ 0..) => offset,
            Some(offset) => return Err(unexpected("offset", &offset.to_string(), OFFSET)),
            None => {
                let message = format!("offset is missing; expected {OFFSET}");
                return Err(ApiError::bad_request(message).at("offset"));
            }
        };
        let longest = Duration::from_millis(MAX_TIMEOUT);
        let most = rest.consumer_request_max_bytes;
        Ok(Self {
            offset,
            timeout: timeout
                .map_or(rest.consumer_request_timeout, Duration::from_millis)
                .min(longest),
            max_bytes: max_bytes
                .and_then(|bytes| usize::try_from(bytes).ok())
                .map_or(most, |bytes| bytes.min(most)),
        })
    }
}

/// What is read, and what of it is shown.
struct Reading<'a> {
    cluster: &'a Cluster,
    topic: Arc<Topic>,
    partition: i32,
    format: Embedded,
    visibility: RecordVisibility,
}

impl Reading<'_> {
    /// The records, and the offset to go on with.
    async fn records(&self, asked: &Asked) -> Result<(Vec<KafkaRecord>, i64), ApiError> {
        let filter = Filter::default();
        let isolation = self.cluster.reader.isolation();
        let limits = PageLimits {
            shown: Shown {
                visibility: &self.visibility,
                filter: &filter,
                isolation,
            },
            limit: RECORDS,
            max_bytes: asked.max_bytes,
            until: Instant::now() + asked.timeout,
        };
        let topic = PageTopic {
            topic: Arc::clone(&self.topic),
            spans: vec![self.span(asked.offset, isolation).await?],
            unanswered: Unanswered::new(),
        };
        let mut page = PageLoop::new(self.cluster, limits, vec![topic]);
        page.run(Duration::ZERO)
            .await
            .map_err(|error| match error {
                ReadError::Kafka(fault) => error::of_request(&fault),
                ReadError::Gone { earliest, .. } => {
                    let low = earliest.first().map_or(asked.offset, |(_, low)| *low);
                    self.gone(asked.offset, low)
                }
                error => error.into(),
            })?;
        let next = page.topics.iter().flat_map(|of| &of.spans);
        let next = next.map(|span| span.from).next().unwrap_or(asked.offset);
        let (records, unfit) = self.fitting(page.records);
        match unfit {
            Some(unfit) if records.is_empty() => Err(not_of_format(&unfit, self.format)),
            Some(unfit) => Ok((records, unfit.offset)),
            None => Ok((records, next)),
        }
    }

    /// The partition from `at` on, if it can be read from there.
    async fn span(&self, at: i64, isolation: Isolation) -> Result<Span, ApiError> {
        let aims = [(self.partition, SeekTo::Offset(at))];
        let places = self.cluster.resolve(isolation, &self.topic.name, &aims);
        let places = places.await.map_err(|fault| error::of_request(&fault))?;
        let Some(place) = places.into_iter().next() else {
            let cause = "the place of an offset was asked for, and nothing came back";
            return Err(ApiError::internal(cause));
        };
        match place.missed {
            Some(at) if at < place.low => Err(self.gone(at, place.low)),
            Some(_) => {
                let message = format!("partition {} ends at offset {}", self.partition, place.last);
                Err(ApiError::plain(StatusCode::NOT_FOUND, message).at("offset"))
            }
            None => Ok(Span {
                partition: self.partition,
                from: at,
                // Behind what may be read there may still be open transactions.
                end: place.end.max(at),
            }),
        }
    }

    /// 410: the offset is not in the log any more.
    fn gone(&self, at: i64, low: i64) -> ApiError {
        let message = format!(
            "offset {at} is no longer in the log: partition {} starts at {low}; go on with \
             offset={low}",
            self.partition
        );
        ApiError::plain(StatusCode::GONE, message)
            .at("offset")
            .earliest([(self.partition, low)])
    }

    /// The records up to the first of them that is not of the format.
    fn fitting(&self, page: Vec<KafkaRecord>) -> (Vec<KafkaRecord>, Option<Unfit>) {
        let mut records = Vec::with_capacity(page.len());
        for record in page {
            if let Err(what) = fits(self.format, &record) {
                let partition = TopicPartition::new(Arc::clone(&record.topic), record.partition);
                return (records, Some(Unfit::new(partition, &record, what)));
            }
            records.push(record);
        }
        (records, None)
    }
}
