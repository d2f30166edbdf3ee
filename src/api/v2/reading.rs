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
use crate::gateway::Gateway;
use crate::http::error::ApiError;
use crate::http::extract::{Path, Query, unexpected};
use crate::kafka::Watermarks;
use crate::kafka::admin::Isolation;
use crate::kafka::metadata::Topic;
use crate::kafka::reader::{PageRequest, Span};
use crate::observe::topics::TopicReads;
use crate::read::allowed::while_allowed;
use crate::read::partitions::visibility;
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
            gateway: &gateway,
            principal: &principal,
            topic,
            partition,
            format,
            visibility,
            isolation: gateway.cluster().reader.isolation(),
        };
        while_allowed(
            &principal,
            &names,
            &reading.visibility,
            reading.records(&asked),
        )
        .await
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
    gateway: &'a Gateway,
    principal: &'a Principal,
    topic: Arc<Topic>,
    partition: i32,
    format: Embedded,
    visibility: RecordVisibility,
    isolation: Isolation,
}

impl Reading<'_> {
    /// The records, and the offset to go on with.
    async fn records(&self, asked: &Asked) -> Result<(Vec<KafkaRecord>, i64), ApiError> {
        let until = Instant::now() + asked.timeout;
        let mut at = asked.offset;
        loop {
            let bounds = self.watermarks(at).await?;
            let left = until.saturating_duration_since(Instant::now());
            let request = PageRequest {
                topic: Arc::clone(&self.topic),
                spans: vec![Span {
                    partition: self.partition,
                    from: at,
                    end: bounds.end.max(at),
                }],
                limit: RECORDS,
                max_bytes: asked.max_bytes,
                wait: left,
                isolation: self.isolation,
            };
            let page = self.gateway.cluster().reader.page(request).await;
            let page = page.map_err(|fault| error::of_request(&fault))?;
            let looked_at = page.records.len();
            let next = page.next.first().map_or(at, |(_, next)| *next).max(at);
            let (records, unfit) = self.fitting(page.records);
            let next = match unfit {
                Some(unfit) if records.is_empty() => {
                    return Err(not_of_format(&unfit, self.format));
                }
                Some(unfit) => unfit.offset,
                None => next,
            };
            if !records.is_empty() || Instant::now() >= until {
                TopicReads::of(&self.topic.name, self.principal.identity()).count(looked_at as u64);
                return Ok((records, next));
            }
            at = next;
        }
    }

    /// Where the partition starts and ends, if it can be read from `at`.
    async fn watermarks(&self, at: i64) -> Result<Watermarks, ApiError> {
        let cluster = self.gateway.cluster();
        let partitions = [self.partition];
        let bounds = cluster.watermarks_under(self.isolation, &self.topic.name, &partitions);
        let bounds = bounds.await.map_err(|fault| error::of_request(&fault))?;
        let Some(bounds) = bounds.into_iter().next() else {
            let cause = "the bounds of a partition were asked for, and none came back";
            return Err(ApiError::internal(cause));
        };
        let Watermarks { low, end, .. } = bounds;
        if at < low {
            let message = format!(
                "offset {at} is no longer in the log: partition {} starts at {low}; go on with \
                 offset={low}",
                self.partition
            );
            return Err(ApiError::plain(StatusCode::GONE, message)
                .at("offset")
                .earliest([(self.partition, low)]));
        }
        if at > end {
            // Behind what may be read there may still be open transactions.
            let whole = cluster
                .log_watermarks(&self.topic.name, self.partition)
                .await;
            let whole = whole.map_err(|fault| error::of_request(&fault))?;
            if at > whole.end {
                let message = format!("partition {} ends at offset {}", self.partition, whole.end);
                return Err(ApiError::plain(StatusCode::NOT_FOUND, message).at("offset"));
            }
        }
        Ok(bounds)
    }

    /// The records that are shown, up to the first of them that is not of the format.
    fn fitting(&self, page: Vec<KafkaRecord>) -> (Vec<KafkaRecord>, Option<Unfit>) {
        let mut records = Vec::with_capacity(page.len());
        for record in page {
            if !self.visibility.shows(&record) {
                continue;
            }
            if let Err(what) = fits(self.format, &record) {
                let partition = TopicPartition::new(Arc::clone(&record.topic), record.partition);
                return (records, Some(Unfit::new(partition, &record, what)));
            }
            records.push(record);
        }
        (records, None)
    }
}
