//! Limits the rate of requests and of body bytes, for each principal, or for each address where the
//! principal is anonymous: `limits.requests_per_second` and `limits.bytes_per_second`.
//!
//! Each is a bucket that holds one second's worth. A request without a place is refused with 429. A
//! body whose length is known pays when it begins, and is refused if it cannot; all others pay as
//! they are read, and the reader waits until the bucket has room, so that TCP slows the client down
//! and a stream goes on. A packed body is unpacked here and pays for what comes out of it, since that
//! is what costs work.
//!
//! The headers are `RateLimit-Limit`, `-Remaining` and `-Reset`, the three that most services send
//! and client libraries know, rather than the single `RateLimit` of later drafts.

use std::fmt;
use std::hash::Hash;
use std::num::NonZeroU32;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::CONTENT_ENCODING;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::future::BoxFuture;
use governor::clock::{Clock, DefaultClock};
use governor::middleware::{StateInformationMiddleware, StateSnapshot};
use governor::state::{InMemoryState, NotKeyed};
use governor::{NotUntil, Quota, RateLimiter};
use http_body::{Body as _, Frame, SizeHint};
use moka::policy::EvictionPolicy;
use moka::sync::Cache;
use tokio::sync::Mutex;
use xxhash_rust::xxh3::Xxh3Default;

use super::body::discard_unread;
use super::error::ApiError;
use super::{encoding, negotiate};
use crate::auth::Principal;
use crate::config::Settings;
use crate::transport::client_address::{TrustedProxies, counted_as};

const LIMIT: HeaderName = HeaderName::from_static("ratelimit-limit");
const REMAINING: HeaderName = HeaderName::from_static("ratelimit-remaining");
const RESET: HeaderName = HeaderName::from_static("ratelimit-reset");

/// Most principals and addresses whose buckets are kept; the one that called longest ago goes first.
const BUCKETS: u64 = 100_000;
/// A bucket that nobody asked for is full again after a second, so it need not be kept.
const IDLE: Duration = Duration::from_secs(60);
/// Finest step in which bytes are counted. Governor counts in whole nanoseconds for each step, so
/// that a rate of more steps a second would be off by more than 0.1 %.
const STEPS_PER_SECOND: u64 = 1_000_000;
/// A slowed body is read in pieces of this part of a second's worth, so that several that share a
/// bucket all get on, and none looks as if its client had fallen silent.
const PIECES_PER_SECOND: u64 = 16;

type Instant = <DefaultClock as Clock>::Instant;
type Limiter = RateLimiter<NotKeyed, InMemoryState, DefaultClock, StateInformationMiddleware>;

/// Who is counted: a hash, as names are as long as their issuers like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Who {
    Principal(u128),
    Address(u128),
    /// No address is known; only requests that no listener took.
    Unknown,
}

/// The limits, and the buckets of those who called lately.
pub struct RateLimits {
    requests: Option<NonZeroU32>,
    bytes: Option<ByteRate>,
    /// Longest time for a body that is read whole.
    body_time: Duration,
    max_body_bytes: u64,
    buckets: Cache<Who, Arc<Buckets>>,
    proxies: TrustedProxies,
}

/// Bytes a second, and how they are counted.
#[derive(Debug, Clone, Copy)]
struct ByteRate {
    per_second: u64,
    /// Bytes of one step.
    step: u64,
    steps_per_second: NonZeroU32,
}

/// The buckets of one principal or address.
struct Buckets {
    requests: Option<Limiter>,
    bytes: Option<Arc<ByteBucket>>,
}

struct ByteBucket {
    rate: ByteRate,
    limiter: Limiter,
    /// Whose turn it is to wait: first come, first served.
    turn: Mutex<()>,
}

/// A request that was let through.
pub struct Pass {
    standing: Option<Standing>,
    meter: Option<Meter>,
}

/// What `RateLimit-*` say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Standing {
    limit: u64,
    remaining: u64,
    /// Seconds until the bucket is full or, if the request was refused, has room for it.
    reset: u64,
}

/// How the rest of a body is paid for.
struct Meter {
    bucket: Arc<ByteBucket>,
    prepaid: u64,
}

impl fmt::Debug for RateLimits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RateLimits")
            .field("requests", &self.requests)
            .field("bytes", &self.bytes)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Pass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pass")
            .field("standing", &self.standing)
            .field("metered", &self.meter.is_some())
            .finish()
    }
}

impl RateLimits {
    /// The limits of `settings`; `None` when there are none, so that they cost nothing.
    pub fn new(settings: &Settings) -> Option<Arc<Self>> {
        let requests = NonZeroU32::new(settings.limits.requests_per_second);
        let bytes = ByteRate::new(settings.limits.bytes_per_second);
        if requests.is_none() && bytes.is_none() {
            return None;
        }
        Some(Arc::new(Self {
            requests,
            bytes,
            body_time: settings.http.request_timeout,
            max_body_bytes: u64::try_from(settings.http.max_body_bytes).unwrap_or(u64::MAX),
            buckets: Cache::builder()
                .max_capacity(BUCKETS)
                .time_to_idle(IDLE)
                // The default policy would at times not keep a new bucket, which then never fills.
                .eviction_policy(EvictionPolicy::lru())
                .build(),
            proxies: TrustedProxies::new(&settings.http.trusted_proxies),
        }))
    }

    /// Lets a request of `principal` through, or not.
    ///
    /// # Errors
    ///
    /// 429 over a limit; 413 for a body that the limit does not let arrive in time.
    pub fn check(
        &self,
        request: &Request,
        principal: Option<&Principal>,
    ) -> Result<Pass, ApiError> {
        let buckets = self.buckets_of(self.who(request, principal));
        let standing = match &buckets.requests {
            None => None,
            Some(limiter) => Some(match limiter.check() {
                Ok(state) => Standing::after(&state),
                Err(until) => {
                    let limit = u64::from(state_limit(&until));
                    return Err(refused(
                        limit,
                        wait(limiter, &until),
                        format!("more than {limit} requests a second (limits.requests_per_second)"),
                    ));
                }
            }),
        };
        let meter = match &buckets.bytes {
            Some(bucket) if !request.body().is_end_stream() => self.pay(bucket, request)?,
            _ => None,
        };
        Ok(Pass { standing, meter })
    }

    fn who(&self, request: &Request, principal: Option<&Principal>) -> Who {
        match principal {
            Some(principal) if !principal.is_anonymous() => {
                let mut hasher = Xxh3Default::new();
                principal.identity().hash(&mut hasher);
                Who::Principal(hasher.digest128())
            }
            _ => self
                .proxies
                .address_of(request.extensions(), request.headers())
                .map_or(Who::Unknown, |address| Who::Address(counted_as(address))),
        }
    }

    fn buckets_of(&self, who: Who) -> Arc<Buckets> {
        self.buckets.get_with(who, || {
            Arc::new(Buckets {
                requests: self.requests.map(|n| limiter(Quota::per_second(n))),
                bytes: self.bytes.map(|rate| {
                    Arc::new(ByteBucket {
                        rate,
                        limiter: limiter(Quota::per_second(rate.steps_per_second)),
                        turn: Mutex::new(()),
                    })
                }),
            })
        })
    }

    /// Takes what a body costs when its length is known, as far as the bucket goes.
    fn pay(&self, bucket: &Arc<ByteBucket>, request: &Request) -> Result<Option<Meter>, ApiError> {
        let metered = |prepaid| {
            Some(Meter {
                bucket: Arc::clone(bucket),
                prepaid,
            })
        };
        // The length of a packed body says nothing of what comes out of it.
        let pays_later =
            negotiate::is_ndjson(request.headers()) || encoding::is_packed(request.headers());
        let (false, Some(length)) = (pays_later, request.body().size_hint().exact()) else {
            return Ok(metered(0));
        };
        let rate = bucket.rate;
        let first = length.min(rate.per_second);
        let rest = length - first;
        let too_long =
            u128::from(rest) * 1000 > u128::from(rate.per_second) * self.body_time.as_millis();
        if too_long && length <= self.max_body_bytes {
            return Err(ApiError::too_large(format!(
                "{length} bytes do not arrive within {} ms (http.request_timeout_ms) at {} bytes a \
                 second (limits.bytes_per_second): send less at once, or a stream",
                self.body_time.as_millis(),
                rate.per_second
            )));
        }
        match bucket.take(first) {
            Ok(()) if rest == 0 => Ok(None),
            Ok(()) => Ok(metered(first)),
            Err(wait) => Err(refused(
                rate.per_second,
                wait,
                format!(
                    "more than {} bytes of bodies a second (limits.bytes_per_second)",
                    rate.per_second
                ),
            )),
        }
    }
}

impl ByteRate {
    fn new(per_second: u64) -> Option<Self> {
        let step = per_second.div_ceil(STEPS_PER_SECOND);
        let steps = per_second.checked_div(step)?;
        Some(Self {
            per_second,
            step,
            steps_per_second: NonZeroU32::new(u32::try_from(steps).unwrap_or(u32::MAX))?,
        })
    }

    /// Steps that so many bytes cost, at most what a full bucket holds.
    fn steps(self, bytes: u64) -> Option<NonZeroU32> {
        let steps = u32::try_from(bytes.div_ceil(self.step)).unwrap_or(u32::MAX);
        NonZeroU32::new(steps.min(self.steps_per_second.get()))
    }

    fn piece(self) -> u64 {
        (self.per_second / PIECES_PER_SECOND).max(1)
    }
}

impl ByteBucket {
    /// Takes what at most a second's worth of bytes costs, or says how long until it is there.
    fn take(&self, bytes: u64) -> Result<(), Duration> {
        let Some(steps) = self.rate.steps(bytes) else {
            return Ok(());
        };
        match self.limiter.check_n(steps) {
            Ok(Err(until)) => Err(wait(&self.limiter, &until)),
            // `steps` are never more than the bucket holds.
            Ok(Ok(_)) | Err(_) => Ok(()),
        }
    }

    /// The same at once, unless others are waiting.
    fn take_now(&self, bytes: u64) -> bool {
        self.turn
            .try_lock()
            .is_ok_and(|_turn| self.take(bytes).is_ok())
    }

    /// The same, waiting for the room.
    async fn take_in_turn(&self, bytes: u64) {
        let _turn = self.turn.lock().await;
        while let Err(wait) = self.take(bytes) {
            tokio::time::sleep(wait).await;
        }
    }
}

impl Standing {
    fn after(state: &StateSnapshot) -> Self {
        let limit = state.quota().burst_size().get();
        let remaining = state.remaining_burst_capacity();
        Self {
            limit: u64::from(limit),
            remaining: u64::from(remaining),
            // The bucket holds one second's worth.
            reset: u64::from(remaining < limit),
        }
    }

    fn headers(self) -> [(HeaderName, HeaderValue); 3] {
        [
            (LIMIT, HeaderValue::from(self.limit)),
            (REMAINING, HeaderValue::from(self.remaining)),
            (RESET, HeaderValue::from(self.reset)),
        ]
    }
}

/// Stands before a handler, after the guard has said who calls.
pub async fn limit(
    State(limits): State<Arc<RateLimits>>,
    request: Request,
    next: Next,
) -> Response {
    let pass = match limits.check(&request, request.extensions().get::<Principal>()) {
        Ok(pass) => pass,
        Err(error) => {
            let (parts, body) = request.into_parts();
            discard_unread(&parts.headers, body).await;
            return error.into_response();
        }
    };
    let request = match pass.meter {
        None => request,
        Some(meter) => match metered(request, meter) {
            Ok(request) => request,
            Err(error) => return error.into_response(),
        },
    };
    let mut response = next.run(request).await;
    if let Some(standing) = pass.standing {
        write(response.headers_mut(), standing);
    }
    response
}

/// The request with a body that is paid for as it is read. One that was packed is not any more: what is
/// counted is what comes out of it. One that nobody here unpacks is left to whoever refuses it.
fn metered(request: Request, meter: Meter) -> Result<Request, ApiError> {
    let (mut parts, mut body) = request.into_parts();
    if encoding::is_packed(&parts.headers) {
        body = encoding::decoded(&parts.headers, body)?;
        parts.headers.remove(CONTENT_ENCODING);
    }
    Ok(Request::from_parts(
        parts,
        Body::new(Metered::new(body, meter)),
    ))
}

fn write(headers: &mut HeaderMap, standing: Standing) {
    for (name, value) in standing.headers() {
        headers.insert(name, value);
    }
}

fn limiter(quota: Quota) -> Limiter {
    RateLimiter::direct(quota).with_middleware::<StateInformationMiddleware>()
}

fn state_limit(until: &NotUntil<Instant>) -> u32 {
    until.quota().burst_size().get()
}

fn wait(limiter: &Limiter, until: &NotUntil<Instant>) -> Duration {
    until.wait_time_from(limiter.clock().now())
}

/// 429 with its headers.
pub(super) fn refused(limit: u64, wait: Duration, message: String) -> ApiError {
    // Whole seconds, and never "now".
    let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
    let standing = Standing {
        limit,
        remaining: 0,
        reset: seconds.max(1),
    };
    let error = ApiError::plain(
        StatusCode::TOO_MANY_REQUESTS,
        format!("{message}; try again after Retry-After seconds"),
    )
    .retry_after(standing.reset);
    standing
        .headers()
        .into_iter()
        .fold(error, |error, (name, value)| error.header(name, value))
}

/// A body that is handed on in pieces as they are paid for.
struct Metered {
    inner: Body,
    meter: Meter,
    /// What was read and is not paid for yet.
    held: Bytes,
    paying: Option<(usize, BoxFuture<'static, ()>)>,
}

impl Metered {
    fn new(inner: Body, meter: Meter) -> Self {
        Self {
            inner,
            meter,
            held: Bytes::new(),
            paying: None,
        }
    }

    /// How much of what is held goes next, and whether it is paid for already.
    fn next_piece(&mut self) -> (usize, bool) {
        let held = self.held.len() as u64;
        let (length, paid) = match self.meter.prepaid.min(held) {
            0 => (held.min(self.meter.bucket.rate.piece()), false),
            prepaid => (prepaid, true),
        };
        if paid {
            self.meter.prepaid -= length;
        }
        // It is at most what is held.
        (usize::try_from(length).unwrap_or(self.held.len()), paid)
    }
}

impl http_body::Body for Metered {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = &mut *self;
        loop {
            if let Some((length, paying)) = &mut this.paying {
                ready!(paying.as_mut().poll(context));
                let piece = this.held.split_to(*length);
                this.paying = None;
                return Poll::Ready(Some(Ok(Frame::data(piece))));
            }
            if this.held.is_empty() {
                let frame = match ready!(Pin::new(&mut this.inner).poll_frame(context)) {
                    Some(Ok(frame)) => frame,
                    end => return Poll::Ready(end),
                };
                match frame.into_data() {
                    Ok(data) if data.is_empty() => continue,
                    Ok(data) => this.held = data,
                    Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
                }
            }
            let (length, paid) = this.next_piece();
            if paid || this.meter.bucket.take_now(length as u64) {
                let piece = this.held.split_to(length);
                return Poll::Ready(Some(Ok(Frame::data(piece))));
            }
            let bucket = Arc::clone(&this.meter.bucket);
            let paying = async move { bucket.take_in_turn(length as u64).await };
            this.paying = Some((length, Box::pin(paying)));
        }
    }

    fn is_end_stream(&self) -> bool {
        self.held.is_empty() && self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let held = self.held.len() as u64;
        let inner = self.inner.size_hint();
        let mut hint = SizeHint::new();
        hint.set_lower(inner.lower().saturating_add(held));
        if let Some(upper) = inner.upper() {
            hint.set_upper(upper.saturating_add(held));
        }
        hint
    }
}

#[cfg(test)]
mod tests;
