//! Reading a request body whole, within a size and a time.

use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, StatusCode, header};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use tokio::time::{Instant, timeout_at};

use super::encoding;
use super::error::ApiError;
use crate::config::HttpSettings;

/// How much of a body that is over the limit is still read and thrown away: a client that writes
/// before it reads would otherwise meet a reset connection instead of the 413.
const DISCARD_BYTES: usize = 32 << 20;
/// How long that may take: as much as a slow client needs for a body of some megabytes.
const DISCARD_TIME: Duration = Duration::from_secs(10);

/// Reads the whole body within the limits of `settings`.
///
/// # Errors
///
/// As [`read`].
pub async fn read_within(
    settings: &HttpSettings,
    headers: &HeaderMap,
    body: Body,
) -> Result<Bytes, ApiError> {
    let HttpSettings {
        max_body_bytes,
        request_timeout,
        ..
    } = *settings;
    read(headers, body, max_body_bytes, request_timeout).await
}

/// Reads the whole body: at most `limit` bytes, within `time`. A packed one is unpacked; the limit
/// holds for what comes out.
///
/// # Errors
///
/// 413 over the limit, 408 when it does not arrive in time, 400 when the client breaks off, 415 for
/// an encoding other than gzip.
pub async fn read(
    headers: &HeaderMap,
    body: Body,
    limit: usize,
    time: Duration,
) -> Result<Bytes, ApiError> {
    let declared = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.parse::<usize>().ok());
    if declared.is_some_and(|length| length > limit) {
        discard_unread(headers, body).await;
        return Err(over(limit));
    }
    let mut body = encoding::decoded(headers, body)?;
    let deadline = Instant::now() + time;
    let mut first: Option<Bytes> = None;
    let mut whole = BytesMut::new();
    loop {
        let frame = match timeout_at(deadline, body.frame()).await {
            Ok(Some(Ok(frame))) => frame,
            Ok(None) => break,
            Ok(Some(Err(error))) => {
                return Err(ApiError::bad_request(format!(
                    "the body broke off: {error}"
                )));
            }
            Err(_) => return Err(slow(time)),
        };
        let Ok(data) = frame.into_data() else {
            continue;
        };
        if data.is_empty() {
            continue;
        }
        let so_far = first.as_ref().map_or(whole.len(), Bytes::len);
        if so_far + data.len() > limit {
            drop(whole);
            discard(body, DISCARD_TIME).await;
            return Err(over(limit));
        }
        // Most bodies come in one piece, which is taken as it is.
        match first.take() {
            None if whole.is_empty() => first = Some(data),
            Some(start) => {
                whole.reserve(declared.unwrap_or(0).max(start.len() + data.len()));
                whole.extend_from_slice(&start);
                whole.extend_from_slice(&data);
            }
            None => whole.extend_from_slice(&data),
        }
    }
    Ok(first.unwrap_or_else(|| whole.freeze()))
}

/// [`discard`] for a body of which nothing was read. A client that asks first (`Expect`) has sent
/// nothing yet, and will not after a refusal; any other may not read before it has written all.
pub async fn discard_unread(headers: &HeaderMap, body: Body) {
    if !headers.contains_key(header::EXPECT) {
        discard(body, DISCARD_TIME).await;
    }
}

/// Reads on for at most `time` and throws it away, so that the client gets to see an early answer.
pub async fn discard(mut body: Body, time: Duration) {
    let deadline = Instant::now() + time;
    let mut left = DISCARD_BYTES;
    while let Ok(Some(Ok(frame))) = timeout_at(deadline, body.frame()).await {
        let length = frame.data_ref().map_or(0, Bytes::len);
        if length > left {
            return;
        }
        left -= length;
    }
}

fn over(limit: usize) -> ApiError {
    ApiError::too_large(format!(
        "the body is over the limit of {limit} bytes (http.max_body_bytes)"
    ))
    .header(
        header::CONNECTION,
        header::HeaderValue::from_static("close"),
    )
}

fn slow(time: Duration) -> ApiError {
    ApiError::plain(
        StatusCode::REQUEST_TIMEOUT,
        format!(
            "the body did not arrive within {} ms (http.request_timeout_ms)",
            time.as_millis()
        ),
    )
    .header(
        header::CONNECTION,
        header::HeaderValue::from_static("close"),
    )
}
