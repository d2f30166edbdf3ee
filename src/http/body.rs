//! Reading a request body whole, within a size, a time and what all bodies together may take.
//!
//! Bodies that wait in memory, because they have not come to their end or are being worked on, are
//! counted together: [`Bodies`]. A body counts until the last piece of it is gone. Beyond the total a
//! request gets a 503 rather than a place to wait in, so that those that are under way come to an end.
//! One principal has half of the total at the most (429 beyond it), so that others find room.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, StatusCode, header};
use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use parking_lot::Mutex;
use tokio::time::{Instant, timeout_at};

use super::encoding;
use super::error::ApiError;
use crate::auth::Principal;
use crate::auth::identity::Identity;
use crate::config::{HttpSettings, LimitSettings};

/// How much of a body that is over the limit is still read and thrown away: a client that writes
/// before it reads would otherwise meet a reset connection instead of the 413.
const DISCARD_BYTES: usize = 32 << 20;
/// How long that may take: as much as a slow client needs for a body of some megabytes.
const DISCARD_TIME: Duration = Duration::from_secs(10);
/// Most of a body that is read on a route that is open to everyone.
const OPEN_BYTES: usize = 512;
/// What a client that is over its limit is told of where it comes from.
const NAMED: &str = " (http.max_body_bytes)";
/// Seconds after which a client that found no room may try again.
const RETRY_AFTER: u64 = 1;
/// A smaller piece is copied out of what the connection was read into, which may be much larger.
const KEPT_AS_IT_IS: usize = 4 << 10;

/// The bytes of all bodies that wait in memory (`limits.body_total_bytes`). Clones share them.
#[derive(Debug, Clone)]
pub struct Bodies {
    inner: Arc<Total>,
}

#[derive(Debug)]
struct Total {
    kept: AtomicU64,
    most: u64,
    /// What each principal has of it. Everyone is not one of them.
    of: Mutex<HashMap<Arc<Identity>, u64>>,
    most_of_one: u64,
    /// `http_body_bytes`, which shows `kept`.
    shown: metrics::Gauge,
}

/// Why there is no room for a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Full {
    /// All bodies together would take so many bytes or more.
    #[error("the bodies of all requests under way are over {0} bytes (limits.body_total_bytes)")]
    Total(u64),
    /// The principal's bodies would.
    #[error(
        "the bodies of the principal's requests under way are over {0} bytes, half of \
         limits.body_total_bytes or one largest body"
    )]
    OfPrincipal(u64),
}

impl Full {
    /// The error of a request whose body it is; `more` is what else there is to say.
    pub fn error(self, more: &str) -> ApiError {
        let status = match self {
            Self::Total(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::OfPrincipal(_) => StatusCode::TOO_MANY_REQUESTS,
        };
        ApiError::plain(status, format!("{self}; {more}")).retry_after(RETRY_AFTER)
    }
}

impl Total {
    /// Counts so many bytes more of this principal. Without room for them nothing is counted.
    fn take(&self, bytes: u64, principal: Option<&Arc<Identity>>) -> Result<(), Full> {
        let before = self.kept.fetch_add(bytes, Ordering::Relaxed);
        let taken = match before.saturating_add(bytes) > self.most {
            true => Err(Full::Total(self.most)),
            false => principal.map_or(Ok(()), |one| self.take_of(bytes, one)),
        };
        match taken {
            Ok(()) => self.shown.increment(for_gauge(bytes)),
            Err(_) => {
                self.kept.fetch_sub(bytes, Ordering::Relaxed);
            }
        }
        taken
    }

    fn take_of(&self, bytes: u64, principal: &Arc<Identity>) -> Result<(), Full> {
        let mut of = self.of.lock();
        let before = of.get(principal).copied().unwrap_or_default();
        let after = before.saturating_add(bytes);
        if after > self.most_of_one {
            return Err(Full::OfPrincipal(self.most_of_one));
        }
        of.insert(Arc::clone(principal), after);
        Ok(())
    }

    fn give_back(&self, bytes: u64, principal: Option<&Arc<Identity>>) {
        if bytes == 0 {
            return;
        }
        if let Some(principal) = principal {
            let mut of = self.of.lock();
            if let Some(kept) = of.get_mut(principal) {
                *kept = kept.saturating_sub(bytes);
                if *kept == 0 {
                    of.remove(principal);
                }
            }
        }
        self.shown.decrement(for_gauge(bytes));
        self.kept.fetch_sub(bytes, Ordering::Relaxed);
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a gauge is a float, and bodies are far smaller than 2^52"
)]
fn for_gauge(bytes: u64) -> f64 {
    bytes as f64
}

impl Bodies {
    /// None yet, by these settings.
    pub fn new(limits: &LimitSettings, http: &HttpSettings) -> Self {
        let most = limits.body_total_bytes;
        let one_body = u64::try_from(http.max_body_bytes).unwrap_or(u64::MAX);
        Self {
            inner: Arc::new(Total {
                kept: AtomicU64::new(0),
                most,
                of: Mutex::default(),
                // Half of a small total might be less than one body may have.
                most_of_one: (most / 2).max(one_body),
                shown: metrics::gauge!("http_body_bytes"),
            }),
        }
    }

    /// The part of one body of this principal, which has nothing yet.
    pub fn part(&self, principal: &Principal) -> Part {
        Part {
            total: Arc::clone(&self.inner),
            principal: (!principal.is_anonymous()).then(|| Arc::clone(principal.identity())),
            bytes: 0,
        }
    }

    /// What all of them keep now.
    #[cfg(test)]
    fn kept(&self) -> u64 {
        self.inner.kept.load(Ordering::Relaxed)
    }

    /// Whether no principal has any.
    #[cfg(test)]
    fn is_nobodys(&self) -> bool {
        self.inner.of.lock().is_empty()
    }
}

/// What one body keeps; given back when it is dropped.
#[derive(Debug)]
pub struct Part {
    total: Arc<Total>,
    /// `None` where all callers are one.
    principal: Option<Arc<Identity>>,
    bytes: u64,
}

impl Part {
    /// The body keeps so many bytes now.
    ///
    /// # Errors
    ///
    /// [`Full`]. The part is as it was.
    pub fn keeps(&mut self, bytes: usize) -> Result<(), Full> {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        let principal = self.principal.as_ref();
        if bytes <= self.bytes {
            self.total.give_back(self.bytes - bytes, principal);
        } else if let Err(full) = self.total.take(bytes - self.bytes, principal) {
            metrics::counter!("http_bodies_refused_total").increment(1);
            return Err(full);
        }
        self.bytes = bytes;
        Ok(())
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        self.total.give_back(self.bytes, self.principal.as_ref());
    }
}

/// A body with what it counts for.
struct Kept {
    bytes: Bytes,
    _part: Part,
}

impl AsRef<[u8]> for Kept {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// Reads the whole body within the limits of `settings`, into this part.
///
/// # Errors
///
/// As [`read`].
pub async fn read_within(
    part: Part,
    settings: &HttpSettings,
    headers: &HeaderMap,
    body: Body,
) -> Result<Bytes, ApiError> {
    let HttpSettings {
        max_body_bytes,
        request_timeout,
        ..
    } = *settings;
    collect(
        Some(part),
        headers,
        body,
        (max_body_bytes, NAMED),
        request_timeout,
    )
    .await
}

/// Reads the whole body into this part: at most `limit` bytes, within `time`. A packed one is unpacked; the limit
/// holds for what comes out.
///
/// # Errors
///
/// 413 over the limit, 408 when it does not arrive in time, 400 when the client breaks off, 415 for
/// an encoding other than gzip, 503 over the total of all bodies, 429 over the principal's part of it.
pub async fn read(
    part: Part,
    headers: &HeaderMap,
    body: Body,
    limit: usize,
    time: Duration,
) -> Result<Bytes, ApiError> {
    collect(Some(part), headers, body, (limit, ""), time).await
}

/// What comes of a body on a route that is open to everyone: nothing is read beyond some hundred
/// bytes, not even to be thrown away.
pub fn of_anyone(body: Body) -> Body {
    Body::new(Limited::new(body, OPEN_BYTES))
}

/// Reads the whole body of someone unknown, which is short, and so has no part in what is counted.
///
/// # Errors
///
/// As [`read`].
pub async fn read_of_anyone(
    headers: &HeaderMap,
    body: Body,
    time: Duration,
) -> Result<Bytes, ApiError> {
    collect(None, headers, of_anyone(body), (OPEN_BYTES, ""), time).await
}

async fn collect(
    mut part: Option<Part>,
    headers: &HeaderMap,
    body: Body,
    limit: (usize, &'static str),
    time: Duration,
) -> Result<Bytes, ApiError> {
    let (limit, named) = limit;
    let declared = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.parse::<usize>().ok());
    if declared.is_some_and(|length| length > limit) {
        discard_unread(headers, body).await;
        return Err(over(limit, named));
    }
    let mut body = encoding::decoded(headers, body)?;
    let deadline = Instant::now() + time;
    let mut first: Option<Bytes> = None;
    let mut whole = BytesMut::new();
    loop {
        let frame = match timeout_at(deadline, body.frame()).await {
            Ok(Some(Ok(frame))) => frame,
            Ok(None) => break,
            Ok(Some(Err(error))) if is_over(&error) => return Err(over(limit, named)),
            Ok(Some(Err(error))) => return Err(broken(&error)),
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
            drop((first, whole, part));
            discard(body, DISCARD_TIME).await;
            return Err(over(limit, named));
        }
        if let Some(part) = &mut part
            && let Err(full) = part.keeps(so_far + data.len())
        {
            drop((first, whole));
            part.keeps(0).ok();
            discard(body, DISCARD_TIME).await;
            let error = full.error("try again after Retry-After seconds");
            return Err(error.header(
                header::CONNECTION,
                header::HeaderValue::from_static("close"),
            ));
        }
        // Most bodies come in one piece, which is taken as it is.
        match first.take() {
            None if whole.is_empty() && data.len() >= KEPT_AS_IT_IS => first = Some(data),
            Some(start) => {
                whole.reserve(declared.unwrap_or(0).max(start.len() + data.len()));
                whole.extend_from_slice(&start);
                whole.extend_from_slice(&data);
            }
            None => whole.extend_from_slice(&data),
        }
    }
    let bytes = first.unwrap_or_else(|| whole.freeze());
    Ok(match part {
        Some(part) if !bytes.is_empty() => Bytes::from_owner(Kept { bytes, _part: part }),
        _ => bytes,
    })
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

/// Whether a body ended because no more of it is read.
fn is_over(error: &axum::Error) -> bool {
    let mut error: Option<&dyn std::error::Error> = Some(error);
    while let Some(cause) = error {
        if cause.is::<LengthLimitError>() {
            return true;
        }
        error = cause.source();
    }
    false
}

fn broken(error: &axum::Error) -> ApiError {
    match encoding::Fault::of(error) {
        Some(fault @ encoding::Fault::TooDense) => ApiError::too_large(fault.to_string()),
        Some(fault @ encoding::Fault::Corrupt(_)) => ApiError::bad_request(fault.to_string()),
        Some(encoding::Fault::Broken(_)) | None => {
            ApiError::bad_request(format!("the body broke off: {error}"))
        }
    }
}

fn over(limit: usize, named: &str) -> ApiError {
    ApiError::too_large(format!(
        "the body is over the limit of {limit} bytes{named}"
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

#[cfg(test)]
mod tests {
    use super::*;

    fn bodies(most: u64) -> Bodies {
        let limits = LimitSettings {
            body_total_bytes: most,
            ..LimitSettings::default()
        };
        let http = HttpSettings {
            max_body_bytes: 1_000,
            ..HttpSettings::default()
        };
        Bodies::new(&limits, &http)
    }

    fn named(name: &str) -> Principal {
        Principal::with_permissions(name, Vec::new())
    }

    async fn read(bodies: &Bodies, pieces: &[usize]) -> Result<Bytes, ApiError> {
        read_of(&Principal::anonymous(), bodies, pieces).await
    }

    async fn read_of(
        principal: &Principal,
        bodies: &Bodies,
        pieces: &[usize],
    ) -> Result<Bytes, ApiError> {
        let pieces: Vec<_> = pieces
            .iter()
            .map(|length| Ok::<_, std::io::Error>(Bytes::from(vec![b'x'; *length])))
            .collect();
        let body = Body::from_stream(futures::stream::iter(pieces));
        super::read(
            bodies.part(principal),
            &HeaderMap::new(),
            body,
            1 << 20,
            Duration::from_secs(5),
        )
        .await
    }

    #[tokio::test]
    async fn a_body_counts_until_the_last_piece_of_it_is_gone() {
        let bodies = bodies(1 << 20);
        for pieces in [&[100][..], &[100, 9_000], &[9_000], &[9_000, 1, 9_000]] {
            let length: usize = pieces.iter().sum();
            let body = read(&bodies, pieces).await.unwrap();
            assert_eq!(body, vec![b'x'; length]);
            assert_eq!(bodies.kept(), length as u64);
            let piece = body.slice(3..4);
            drop(body);
            assert_eq!(bodies.kept(), length as u64, "a piece keeps all of it");
            drop(piece);
            assert_eq!(bodies.kept(), 0);
        }
        assert!(read(&bodies, &[]).await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn bodies_over_the_total_are_told_to_come_again() {
        let bodies = bodies(10_000);
        let first = read(&bodies, &[4_000, 2_000]).await.unwrap();
        let error = read(&bodies, &[3_000, 2_000]).await.unwrap_err();
        assert_eq!(error.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert!(error.message().contains("limits.body_total_bytes"));
        assert_eq!(bodies.kept(), 6_000, "what was refused keeps nothing");
        let second = read(&bodies, &[4_000]).await.unwrap();
        drop((first, second));
        read(&bodies, &[10_000]).await.unwrap();
        assert_eq!(bodies.kept(), 0);
    }

    #[tokio::test]
    async fn a_principal_leaves_half_of_the_total_to_others() {
        let bodies = bodies(10_000);
        let (ann, bob) = (named("ann"), named("bob"));
        let first = read_of(&ann, &bodies, &[3_000]).await.unwrap();
        let error = read_of(&ann, &bodies, &[1_000, 2_000]).await.unwrap_err();
        assert_eq!(error.status(), StatusCode::TOO_MANY_REQUESTS);
        assert!(error.message().contains("over 5000 bytes"), "{error:?}");
        let second = read_of(&ann, &bodies, &[2_000]).await.unwrap();
        let others = read_of(&bob, &bodies, &[5_000]).await.unwrap();
        // Together they have all of it.
        let error = read_of(&bob, &bodies, &[1]).await.unwrap_err();
        assert_eq!(error.status(), StatusCode::SERVICE_UNAVAILABLE);
        drop((first, second));
        read_of(&ann, &bodies, &[5_000]).await.unwrap();
        drop(others);
        assert_eq!(bodies.kept(), 0);
        assert!(bodies.is_nobodys());
    }

    #[tokio::test]
    async fn one_largest_body_has_room_whatever_the_total() {
        let bodies = bodies(1_500);
        read_of(&named("ann"), &bodies, &[1_000]).await.unwrap();
        let error = read_of(&named("ann"), &bodies, &[1_001]).await.unwrap_err();
        assert_eq!(error.status(), StatusCode::TOO_MANY_REQUESTS);
    }
}
