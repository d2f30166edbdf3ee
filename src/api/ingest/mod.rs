//! Streams of records into a topic, each answered as soon as it is known what became of it, while the
//! body is still coming in. [`WireFormat`] is what they look like: NDJSON of the records API, JSON objects
//! of REST v3.
//!
//! ```text
//! body --> items --> batches --begin--> producer          (in order, bounded)
//!                                          |
//! answer <---- results <---- outcomes <----'               (in order, bounded)
//! ```
//!
//! Nothing is held but the batches under way. When the producer's queue fills, or the client does
//! not read its results, no more of the body is read, and TCP slows the client down. Without
//! progress for `http.request_timeout_ms` the stream ends, with the count of what was written. So it
//! does when the client's token or certificate expires, and when it may not write here any more.

mod batches;
mod wire;

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::stream::{self, StreamExt};
use http_body_util::BodyExt;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};

use crate::auth::Principal;
use crate::auth::permission::{Action, Resource, reauthorize};
use crate::auth::standing::Changes;
use crate::gateway::Gateway;
use crate::http::body::{Full, Part, discard};
use crate::http::encoding;
use crate::http::error::ApiError;
use crate::http::request_id::RequestId;
use crate::write::OnInvalid;
pub(in crate::api) use batches::Outcomes;
use batches::{BATCH_BYTES, BATCH_RECORDS, Batch, Entry, UnderWay, entries};
pub(crate) use wire::{Item, Totals, WireFormat};

/// How long the body is still read after the last result, which does not end the answer before.
const LAST_READ: Duration = Duration::from_secs(2);
/// Pieces of the answer that may wait for the client to read.
const ANSWER_PIECES: usize = 4;

/// Most bytes of one item: what a record of the largest size takes as base64 or with escapes, and what stands
/// around it.
pub(crate) fn item_limit(gateway: &Gateway) -> usize {
    gateway.settings().limits.record_bytes * 2 + (64 << 10)
}

/// Who sends a stream.
pub(crate) struct Caller {
    pub(crate) gateway: Gateway,
    pub(crate) principal: Principal,
    /// Under which the log has the causes of errors.
    pub(crate) request_id: RequestId,
}

/// Starts a stream of `body` into `topic`, of which `read` has been read already, and answers with its
/// results.
pub(crate) fn answer<W: WireFormat>(
    caller: Caller,
    topic: Arc<str>,
    wire: W,
    read: Bytes,
    body: Body,
) -> Response {
    let Caller {
        gateway,
        principal,
        request_id,
    } = caller;
    let settings = gateway.settings();
    let (out, mut answers) = mpsc::channel(ANSWER_PIECES);
    let run = Ingest {
        stall: settings.http.request_timeout,
        expires: principal.expires_at(),
        batch_records: settings.limits.records_per_request.min(BATCH_RECORDS),
        part: gateway.bodies().part(&principal),
        changes: principal.changes(),
        lost: None,
        principal,
        request_id,
        topic,
        wire,
        gateway,
        batch: Batch::default(),
        under_way: UnderWay::default(),
        totals: Totals::default(),
        out,
    };
    tokio::spawn(run.run(read, body));
    let pieces = stream::poll_fn(move |context| answers.poll_recv(context));
    let body = Body::from_stream(pieces.map(Ok::<Bytes, std::convert::Infallible>));
    (
        [
            (header::CONTENT_TYPE, W::CONTENT_TYPE),
            (header::CACHE_CONTROL, "no-store, no-transform"),
        ],
        body,
    )
        .into_response()
}

/// A stream under way.
struct Ingest<W: WireFormat> {
    gateway: Gateway,
    principal: Principal,
    request_id: RequestId,
    topic: Arc<str>,
    wire: W,
    stall: Duration,
    /// When the client's credential does, and nothing more is taken.
    expires: Option<Instant>,
    /// Tells when the principal is to be judged again.
    changes: Changes,
    /// Why it may not write any more.
    lost: Option<ApiError>,
    batch_records: usize,
    /// What waits for the end of its item, among all bodies.
    part: Part,
    batch: Batch<W::Place>,
    under_way: UnderWay<W::Place>,
    totals: Totals,
    out: mpsc::Sender<Bytes>,
}

/// Why a stream ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// The body was read to its end.
    Whole,
    /// The client is gone.
    Gone,
    /// Nobody can tell what stands behind the last item, whose result says so.
    Broken,
    /// Nothing came for too long.
    NothingCame,
    /// The client does not read its results.
    NotRead,
    /// The gateway is about to stop.
    Stopping,
    /// There is no room for what waits of the body.
    Full(Full),
    /// The client's token or certificate has expired.
    Expired,
    /// The client is nobody any more, or may not write here any more: [`Ingest::lost`].
    Lost,
    /// What comes out of the packed body is far more than the client sends.
    TooDense,
    /// The packed body cannot be unpacked.
    Corrupt,
}

impl End {
    fn of(error: &axum::Error) -> Self {
        match encoding::Fault::of(error) {
            Some(encoding::Fault::TooDense) => Self::TooDense,
            Some(encoding::Fault::Corrupt(_)) => Self::Corrupt,
            Some(encoding::Fault::Broken(_)) | None => Self::Gone,
        }
    }
}

impl<W: WireFormat> Ingest<W> {
    async fn run(mut self, read: Bytes, mut body: Body) {
        let end = match self.take_data(&read).await {
            Ok(()) => self.read(&mut body).await,
            Err(end) => end,
        };
        // Batches that were handed over get their results whatever the reason.
        let end = match (end, self.drain().await) {
            (End::Whole, Err(worse)) => worse,
            (end, _) => end,
        };
        if let Some(last) = self.last_piece(end) {
            let _ = timeout(self.stall, self.out.send(last)).await;
        }
        if !matches!(end, End::Whole | End::Gone) {
            // The client may be writing still, and would not see the last result for the reset.
            discard(body, LAST_READ).await;
        }
    }

    /// Reads the body to its end, or to whatever ends it before.
    async fn read(&mut self, body: &mut Body) -> End {
        let stopping = self.gateway.stopping().clone();
        let mut expiry = pin!(reached(self.expires));
        loop {
            let room = self.under_way.has_room();
            tokio::select! {
                biased;
                () = stopping.cancelled() => return End::Stopping,
                () = &mut expiry => return End::Expired,
                () = self.changes.wait() => {
                    if self.lost().is_some() {
                        return End::Lost;
                    }
                }
                Some(entries) = self.under_way.next() => {
                    if let Err(end) = self.tell(entries).await {
                        return end;
                    }
                }
                frame = timeout(self.stall, body.frame()), if room => {
                    let data = match frame {
                        Err(_) => return End::NothingCame,
                        Ok(None) => break,
                        Ok(Some(Err(error))) => return End::of(&error),
                        Ok(Some(Ok(frame))) => frame.into_data().unwrap_or_default(),
                    };
                    if let Err(end) = self.take_data(&data).await {
                        return end;
                    }
                }
            }
        }
        while let Some(item) = self.wire.last_item() {
            // Behind the end there is nothing that could not be read.
            self.batch.take(item);
        }
        match self.hand_over().await {
            Ok(()) => End::Whole,
            Err(end) => end,
        }
    }

    /// Takes what has come of the body.
    async fn take_data(&mut self, data: &[u8]) -> Result<(), End> {
        self.wire.push(data);
        self.take_items().await?;
        self.part.keeps(self.wire.waiting()).map_err(End::Full)
    }

    /// Takes the whole items that have come, and hands them over a batch at a time.
    async fn take_items(&mut self) -> Result<(), End> {
        while let Some(item) = self.wire.next_item() {
            if self.batch.take(item) {
                self.hand_over().await?;
                return Err(End::Broken);
            }
            if self.batch.looked_at >= self.batch_records || self.batch.bytes >= BATCH_BYTES {
                self.hand_over().await?;
                while !self.under_way.has_room() {
                    if let Some(entries) = self.under_way.next().await {
                        self.tell(entries).await?;
                    }
                }
            }
        }
        self.hand_over().await
    }

    /// Why the client may not write any more, if it may not; judged where that may have changed.
    fn lost(&mut self) -> Option<&ApiError> {
        if self.changes.came() {
            let topic = Resource::Topic(&self.topic);
            let decided = reauthorize(&self.principal, Action::Produce, topic);
            self.lost = decided.err().map(ApiError::from);
        }
        self.lost.as_ref()
    }

    /// Hands the gathered batch to the producer, when that has room for it. What has come of a client
    /// that is gone, and was not handed over, is not written any more: it may have sent the same again.
    /// Nor is what waits while the credential expires or the right goes, and its items are told so.
    async fn hand_over(&mut self) -> Result<(), End> {
        let Batch {
            places,
            records,
            bytes,
            looked_at,
        } = std::mem::take(&mut self.batch);
        if places.is_empty() {
            if looked_at > 0 {
                // Blank items cost work too, and others are to get on meanwhile.
                tokio::task::yield_now().await;
            }
            return Ok(());
        }
        let gateway = self.gateway.clone();
        let writer = gateway.writer();
        let topic = Arc::clone(&self.topic);
        let mut room = pin!(writer.wait_for_capacity(&topic, self.stall));
        let ended = loop {
            tokio::select! {
                biased;
                () = self.out.closed() => return Err(End::Gone),
                () = reached(self.expires) => {
                    let error = "the token or certificate expired before the record was taken";
                    let error = ApiError::unauthenticated(Some("invalid_token"), error);
                    break Some((End::Expired, error));
                }
                () = self.changes.wait() => {
                    if let Some(error) = self.lost() {
                        break Some((End::Lost, error.clone()));
                    }
                }
                () = &mut room => break None,
            }
        };
        let count = places.len();
        if let Some((end, error)) = ended {
            let told = entries(places, Err(error));
            self.under_way.push(count, bytes, async { told });
            return Err(end);
        }
        let begun = writer
            .begin(
                &self.principal,
                &self.topic,
                records,
                OnInvalid::RejectRecord,
            )
            .await
            .map_err(|rejected| self.wire.rejected(rejected));
        self.under_way.push(count, bytes, async move {
            let outcomes = match begun {
                Ok(begun) => Ok(begun.outcomes().await),
                Err(error) => Err(error),
            };
            entries(places, outcomes)
        });
        Ok(())
    }

    /// Waits for the batches under way.
    async fn drain(&mut self) -> Result<(), End> {
        let mut ended = Ok(());
        while let Some(entries) = self.under_way.next().await {
            // After the client stopped reading, the rest is still counted.
            if ended.is_ok() {
                ended = self.tell(entries).await;
            } else {
                self.count(&entries);
            }
        }
        ended
    }

    fn count(&mut self, entries: &[Entry<W::Place>]) {
        for entry in entries {
            match entry.outcome {
                Ok(Ok(_)) => self.totals.written += 1,
                _ => self.totals.failed += 1,
            }
        }
    }

    /// Sends these results; waits for the client to read, but not for ever.
    async fn tell(&mut self, entries: Vec<Entry<W::Place>>) -> Result<(), End> {
        self.count(&entries);
        let piece = self.results(entries);
        if piece.is_empty() {
            // Nothing to say; but a client that is gone should not have the rest written.
            return if self.out.is_closed() {
                Err(End::Gone)
            } else {
                Ok(())
            };
        }
        match timeout(self.stall, self.out.send(piece.into())).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(End::Gone),
            Err(_) => Err(End::NotRead),
        }
    }

    fn results(&self, entries: Vec<Entry<W::Place>>) -> Vec<u8> {
        let mut out = Vec::new();
        for Entry { place, outcome } in entries {
            let result = match &outcome {
                Ok(Ok(written)) => Ok(written),
                Ok(Err(fault)) => Err(self.wire.refused(fault)),
                Err(error) => Err(error.clone().logged_under(self.request_id.as_str())),
            };
            self.wire.result(&mut out, place, result);
        }
        out
    }

    /// What stands behind the last result, where there is something left to say.
    fn last_piece(&self, end: End) -> Option<Bytes> {
        let Totals { written, .. } = self.totals;
        let ms = self.stall.as_millis();
        let error = match end {
            End::Gone => return None,
            End::Whole | End::Broken => None,
            End::NothingCame => Some(ApiError::plain(
                StatusCode::REQUEST_TIMEOUT,
                format!("nothing came for {ms} ms; {written} records were written before"),
            )),
            End::NotRead => Some(ApiError::plain(
                StatusCode::REQUEST_TIMEOUT,
                format!(
                    "the results were not read for {ms} ms; {written} records were written before: {}",
                    W::READ_HINT
                ),
            )),
            End::Expired => Some(ApiError::unauthenticated(
                Some("invalid_token"),
                format!(
                    "the token or certificate has expired; {written} records were written before: \
                     go on with a new one"
                ),
            )),
            End::Lost => self.lost.clone().map(|error| {
                let message = error.message().to_owned();
                error.saying(format!("{message}; {written} records were written before"))
            }),
            End::TooDense => Some(ApiError::too_large(format!(
                "{}; {written} records were written before",
                encoding::Fault::TooDense
            ))),
            End::Corrupt => Some(ApiError::bad_request(format!(
                "the body cannot be unpacked as gzip; {written} records were written before"
            ))),
            End::Full(full) => Some(full.error(&format!("{written} records were written before"))),
            End::Stopping => Some(
                ApiError::plain(
                    StatusCode::SERVICE_UNAVAILABLE,
                    format!("the gateway is stopping; {written} records were written before"),
                )
                .retry(),
            ),
        };
        let mut out = Vec::new();
        let error = error.map(|error| error.logged_under(self.request_id.as_str()));
        self.wire.end(&mut out, self.totals, error);
        (!out.is_empty()).then(|| out.into())
    }
}

/// Waits until then; for ever where there is no such time.
async fn reached(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}
