//! `GET …/records`: what has come, in the format of the instance.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Extension;
use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, Version, header};
use axum::response::Response;
use bytes::Bytes;
use http_body::{Frame, SizeHint};

use super::errors::ReadErrors;
use super::{DELIVERY, InstanceCall, Name, has};
use crate::api::v2::media::{self, Embedded};
use crate::codec::encode::{base64, headers as write_headers, place_and_time, string};
use crate::config::HeaderForm;
use crate::consumer::{ConnectionRef, RecordDelivery};
use crate::gateway::Gateway;
use crate::http::error::ApiError;
use crate::http::extract::Query;
use crate::record::{ConsumerRecord as KafkaRecord, Header};
use crate::transport::connection::Connection;

/// Bytes after which a piece of an answer goes out.
const PIECE: usize = 64 << 10;

/// A record that was read
#[derive(Debug, utoipa::ToSchema)]
#[expect(dead_code, reason = "written by hand; this describes it")]
pub struct ConsumerRecord {
    /// The topic.
    #[schema(example = "orders")]
    topic: String,
    /// Base64, JSON or a string, by the instance's format; `null` where there is none.
    #[schema(value_type = Value, nullable)]
    key: (),
    /// The same of the value; `null` is a tombstone.
    #[schema(value_type = Value, nullable)]
    value: (),
    /// The partition.
    partition: i32,
    /// The offset.
    offset: i64,
    /// Milliseconds since 1970. Not in the reference.
    timestamp: i64,
    /// `append` when the timestamp is the broker's, of when the record was appended. Not in the
    /// reference.
    timestamp_type: Option<String>,
    /// Pairs of name and value; a value is a string, `null` or `{"b64": "…"}`. Not in the reference. Objects
    /// where `rest.record_headers` says so.
    #[schema(value_type = Vec<Vec<Value>>)]
    headers: (),
}

/// Read records
///
/// As soon as there are some, and at least `fetch.min.bytes` of them if the instance was made with it;
/// an empty array when none come in time. For the group to let the instance in a read waits up to five
/// seconds more. What is not written to the client is given again.
///
/// A client that must not miss an answer names the last one that it has in `Tidegate-Delivery`, `none` at
/// first: until it names an answer, that one is given again, and neither committed by the instance itself
/// nor by a commit that does not name it.
///
/// Needs `group` on the group, and `consume` on the topics.
#[utoipa::path(
    get,
    path = "/consumers/{group}/instances/{instance}/records",
    operation_id = "readConsumerRecordsV2",
    tag = "Compatible REST v2",
    params(
        Name,
        ("timeout" = Option<i64>, Query, description = "Milliseconds to wait for records; no longer than the instance's own `consumer.request.timeout.ms`, which 0 and less stand for", example = 1000),
        ("max_bytes" = Option<i64>, Query, description = "Most bytes of keys and values; one record always comes. 0 and less: the gateway's own limit", example = 300_000),
        ("Tidegate-Delivery" = Option<String>, Header, description = "The last answer that the client has, as that answer's own `Tidegate-Delivery` says; `none` before the first. The one before the last: that one is given again as it was. Not in the reference", example = "none"),
    ),
    responses(
        (status = 200, description = "The records, in order within a partition", headers(("Tidegate-Delivery" = String, description = "The name of this answer; that of the last one where there are no records")), content(
            (Vec<ConsumerRecord> = "application/vnd.kafka.binary.v2+json", example = json!([{"topic": "orders", "key": "Yy0xNw==", "value": "aGVsbG8=", "partition": 0, "offset": 42, "timestamp": 1_700_000_000_000_i64, "headers": [["source", "curl"]]}])),
            (Vec<ConsumerRecord> = "application/vnd.kafka.json.v2+json", example = json!([{"topic": "orders", "key": "c-17", "value": {"id": 1}, "partition": 0, "offset": 42, "timestamp": 1_700_000_000_000_i64, "headers": []}])),
            (Vec<ConsumerRecord> = "application/vnd.kafka.text.v2+json", example = json!([{"topic": "orders", "key": "c-17", "value": "hello", "partition": 0, "offset": 42, "timestamp": 1_700_000_000_000_i64, "headers": []}])),
            (Vec<ConsumerRecord> = "application/vnd.kafka.v2+json"),
            (Vec<ConsumerRecord> = "application/json"),
        )),
        ReadErrors,
    )
)]
pub async fn read(
    call: InstanceCall,
    connection: Option<Extension<Arc<Connection>>>,
    version: Version,
    headers: HeaderMap,
    query: Query,
) -> Result<Response, ApiError> {
    // Errors have the type that the client accepts, where it says one that there is.
    let error_type = media::of_consumer_answer(&headers);
    let (kind, params, handle) = async {
        let handle = call.instance()?;
        let kind = media::of_instance(&headers, handle.options().format)?;
        let params = ReadParams::parse(query, &call.gateway, handle.options().timeout)?;
        Ok((kind, params, handle))
    }
    .await
    .map_err(|error: ApiError| match error_type {
        Ok(kind) => error.typed(kind),
        Err(_) => error,
    })?;
    let shape = Shape {
        format: handle.options().format,
        headers: call.gateway.settings().rest.record_headers,
    };
    let has = has(&headers).map_err(|error| error.typed(kind))?;
    let connection_ref = connection.map(|Extension(connection)| ConnectionRef {
        connection,
        is_shared: version == Version::HTTP_2,
    });
    let read = handle.read(
        params.timeout,
        params.max_bytes,
        connection_ref,
        has,
        call.principal.clone(),
    );
    let delivery = call.ask(read).await.map_err(|error| error.typed(kind))?;
    let name = HeaderValue::from_str(delivery.name());
    let mut response = Response::new(Body::new(Records::new(delivery, shape)));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    if let Ok(name) = name {
        headers.insert(DELIVERY, name);
    }
    Ok(response)
}

/// The parameters of a read.
struct ReadParams {
    timeout: Duration,
    max_bytes: u64,
}

impl ReadParams {
    fn parse(mut query: Query, gateway: &Gateway, timeout: Duration) -> Result<Self, ApiError> {
        let milliseconds = query.take_as::<i64>("timeout", "a whole number of milliseconds")?;
        let max_bytes = query.take_as::<i64>("max_bytes", "a whole number of bytes")?;
        query.finish()?;
        let above_zero = |given: Option<i64>| u64::try_from(given?).ok().filter(|n| *n > 0);
        let most = gateway.settings().rest.consumer_request_max_bytes as u64;
        Ok(Self {
            timeout: above_zero(milliseconds)
                .map_or(timeout, |given| Duration::from_millis(given).min(timeout)),
            max_bytes: above_zero(max_bytes).map_or(most, |given| given.min(most)),
        })
    }
}

/// How records are written.
#[derive(Debug, Clone, Copy)]
pub(in crate::api::v2) struct Shape {
    pub(in crate::api::v2) format: Embedded,
    pub(in crate::api::v2) headers: HeaderForm,
}

/// Records that fit the format, as an array.
pub(in crate::api::v2) fn array(records: &[KafkaRecord], shape: Shape) -> Vec<u8> {
    let mut out = vec![b'['];
    for (index, record) in records.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        write(&mut out, record, shape);
    }
    out.push(b']');
    out
}

/// The body of an answer: an array, written piece by piece as the connection takes it.
struct Records {
    delivery: RecordDelivery,
    shape: Shape,
    next: usize,
    done: bool,
    /// The first piece. Where it is the only one, its length can be told beforehand.
    first: Option<Bytes>,
}

impl Records {
    fn new(delivery: RecordDelivery, shape: Shape) -> Self {
        let mut body = Self {
            delivery,
            shape,
            next: 0,
            done: false,
            first: None,
        };
        body.first = Some(body.piece());
        body
    }

    /// Whether all records are in pieces.
    fn is_written(&self) -> bool {
        self.next >= self.delivery.records().len()
    }

    fn piece(&mut self) -> Bytes {
        let records = self.delivery.records();
        let mut out = Vec::with_capacity(PIECE.min(records.len().saturating_mul(256)) + 1024);
        if self.next == 0 {
            out.push(b'[');
        }
        while let Some(record) = records.get(self.next)
            && out.len() < PIECE
        {
            if self.next > 0 {
                out.push(b',');
            }
            write(&mut out, record, self.shape);
            self.next += 1;
        }
        if self.next >= records.len() {
            out.push(b']');
        }
        out.into()
    }
}

impl http_body::Body for Records {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let body = self.get_mut();
        if body.done {
            return Poll::Ready(None);
        }
        let piece = match body.first.take() {
            Some(first) => first,
            None => body.piece(),
        };
        if body.is_written() {
            body.done = true;
            body.delivery.is_taken();
        }
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.done
    }

    fn size_hint(&self) -> SizeHint {
        match &self.first {
            Some(first) if self.is_written() => SizeHint::with_exact(first.len() as u64),
            _ if self.done => SizeHint::with_exact(0),
            _ => SizeHint::default(),
        }
    }
}

/// Writes one record. The instance has seen to it that it fits the format.
fn write(out: &mut Vec<u8>, record: &KafkaRecord, Shape { format, headers }: Shape) {
    out.extend_from_slice(b"{\"topic\":");
    string(out, &record.topic);
    out.extend_from_slice(b",\"key\":");
    content(out, record.key.as_deref(), format);
    out.extend_from_slice(b",\"value\":");
    content(out, record.value.as_deref(), format);
    place_and_time(out, record);
    match headers {
        HeaderForm::Pairs => write_headers(out, &record.headers),
        HeaderForm::NameValue => header_objects(out, &record.headers, "name"),
        HeaderForm::KeyValue => header_objects(out, &record.headers, "key"),
    }
    out.push(b'}');
}

/// Writes the field `headers` as other gateways have it, where there are some: objects whose name is under
/// `name`, with base64.
fn header_objects(out: &mut Vec<u8>, headers: &[Header], name: &str) {
    for (index, header) in headers.iter().enumerate() {
        out.extend_from_slice(if index == 0 { b",\"headers\":[" } else { b"," });
        out.push(b'{');
        string(out, name);
        out.push(b':');
        string(out, &header.name);
        out.extend_from_slice(b",\"value\":");
        match header.value.as_deref() {
            None => out.extend_from_slice(b"null"),
            Some(value) => base64(out, value),
        }
        out.push(b'}');
    }
    if !headers.is_empty() {
        out.push(b']');
    }
}

fn content(out: &mut Vec<u8>, bytes: Option<&[u8]>, format: Embedded) {
    match (bytes, format) {
        (None, _) => out.extend_from_slice(b"null"),
        (Some(bytes), Embedded::Json) => out.extend_from_slice(bytes),
        // It is UTF-8, as the instance has seen.
        (Some(bytes), Embedded::Text) => string(out, &String::from_utf8_lossy(bytes)),
        (Some(bytes), Embedded::Binary | Embedded::Schema(_)) => base64(out, bytes),
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;
    use crate::record::Header;
    use crate::record::TimestampType;

    fn record(offset: i64, value: &'static [u8]) -> KafkaRecord {
        KafkaRecord {
            topic: Arc::from("t"),
            partition: 3,
            offset,
            timestamp: 5,
            timestamp_type: TimestampType::Create,
            key: None,
            value: Some(Bytes::from_static(value)),
            headers: Vec::new(),
        }
    }

    async fn text(records: Vec<KafkaRecord>, format: Embedded) -> String {
        shaped(records, format, HeaderForm::Pairs).await
    }

    async fn shaped(records: Vec<KafkaRecord>, format: Embedded, headers: HeaderForm) -> String {
        let (delivery, _) = RecordDelivery::new(Arc::new(records), String::new(), None);
        let shape = Shape { format, headers };
        let bytes = Records::new(delivery, shape).collect().await.unwrap();
        String::from_utf8(bytes.to_bytes().to_vec()).unwrap()
    }

    #[tokio::test]
    async fn every_field_is_written_in_the_order_of_confluent_rest_proxy() {
        let mut one = record(7, b"\xff\xfe");
        one.key = Some(Bytes::from_static(b"k"));
        one.headers = vec![Header {
            name: "a".into(),
            value: None,
        }];
        assert_eq!(
            text(vec![one], Embedded::Binary).await,
            "[{\"topic\":\"t\",\"key\":\"aw==\",\"value\":\"//4=\",\"partition\":3,\"offset\":7,\
             \"timestamp\":5,\"headers\":[[\"a\",null]]}]"
        );
        let digits = b"{\"n\": 12345678901234567890.10}";
        assert_eq!(
            text(vec![record(1, digits), record(2, b"0")], Embedded::Json).await,
            "[{\"topic\":\"t\",\"key\":null,\"value\":{\"n\": 12345678901234567890.10},\
             \"partition\":3,\"offset\":1,\"timestamp\":5,\"headers\":[]},\
             {\"topic\":\"t\",\"key\":null,\"value\":0,\
             \"partition\":3,\"offset\":2,\"timestamp\":5,\"headers\":[]}]"
        );
        assert_eq!(text(Vec::new(), Embedded::Json).await, "[]");
    }

    #[tokio::test]
    async fn text_and_headers_are_written_as_other_gateways_do() {
        let mut one = record(7, "a \"b\" \u{e9}\n".as_bytes());
        one.headers = [("a", Some(&b"\xff"[..])), ("b", None)]
            .map(|(name, value)| Header {
                name: name.into(),
                value: value.map(Bytes::from_static),
            })
            .into();
        let records = vec![one, record(8, b"")];
        for (form, name) in [
            (HeaderForm::NameValue, "name"),
            (HeaderForm::KeyValue, "key"),
        ] {
            assert_eq!(
                shaped(records.clone(), Embedded::Text, form).await,
                format!(
                    "[{{\"topic\":\"t\",\"key\":null,\"value\":\"a \\\"b\\\" \u{e9}\\n\",\
                     \"partition\":3,\"offset\":7,\"timestamp\":5,\"headers\":[\
                     {{\"{name}\":\"a\",\"value\":\"/w==\"}},{{\"{name}\":\"b\",\"value\":null}}]}},\
                     {{\"topic\":\"t\",\"key\":null,\"value\":\"\",\
                     \"partition\":3,\"offset\":8,\"timestamp\":5}}]"
                )
            );
        }
    }

    #[tokio::test]
    async fn large_answers_come_in_pieces_and_are_the_same() {
        let records: Vec<KafkaRecord> = (0..5_000).map(|n| record(n, b"\"some value\"")).collect();
        let (delivery, receipt) = RecordDelivery::new(Arc::new(records), String::new(), None);
        let shape = Shape {
            format: Embedded::Json,
            headers: HeaderForm::Pairs,
        };
        let mut body = Records::new(delivery, shape);
        let mut whole = Vec::new();
        let mut pieces = 0;
        while let Some(frame) = body.frame().await {
            whole.extend_from_slice(frame.unwrap().data_ref().unwrap());
            pieces += 1;
        }
        assert!(pieces > 5, "{pieces}");
        let read: Vec<serde_json::Value> = serde_json::from_slice(&whole).unwrap();
        assert_eq!(read.len(), 5_000);
        assert_eq!(read[4_999]["offset"], 4_999);
        drop(body);
        assert_eq!(receipt.status(), crate::consumer::DeliveryStatus::Written);
    }
}
