//! NDJSON: a record on each line, read as they come, with a result line for each while the body is
//! still coming in.
//!
//! ```text
//! body --> lines --> batches --begin--> producer          (in order, bounded)
//!                                          |
//! answer <-- result lines <-- outcomes <---'               (in order, bounded)
//! ```
//!
//! Nothing is held but the batches under way. When the producer's queue fills, or the client does
//! not read its results, no more of the body is read, and TCP slows the client down. Without
//! progress for `http.request_timeout_ms` the stream ends, with the count of what was written. So it
//! does when the client's token or certificate expires, and when it may not write here any more.

use std::pin::pin;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::{self, FuturesOrdered, StreamExt};
use http_body_util::BodyExt;
use serde::Serialize;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};

use super::lines::{Content, Line, Lines};
use crate::api::records::NDJSON;
use crate::auth::Principal;
use crate::auth::permission::{Action, Resource, reauthorize};
use crate::auth::standing::Changes;
use crate::codec::encode;
use crate::codec::parse::{self, Formats};
use crate::gateway::Gateway;
use crate::http::body::{Full, Part, discard};
use crate::http::encoding;
use crate::http::error::{ApiError, ErrorBody};
use crate::http::request_id::RequestId;
use crate::kafka::metadata::Topic;
use crate::kafka::producer::Outcome;
use crate::record::ProducerRecord;
use crate::write::OnInvalid;

/// Most records and bytes that go to the producer together.
const BATCH_RECORDS: usize = 1_000;
const BATCH_BYTES: usize = 1 << 20;
/// Most batches of one stream whose outcomes are still open.
const BATCHES_UNDER_WAY: usize = 8;
/// How long the body is still read after the last line, which does not end the answer before.
const LAST_READ: Duration = Duration::from_secs(2);
/// Pieces of the answer that may wait for the client to read.
const ANSWER_PIECES: usize = 4;

/// Which result lines the client wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Results {
    /// One for each record.
    #[default]
    All,
    /// Those of records that were not written, and a summary at the end.
    Errors,
    /// The summary.
    Summary,
}

impl Results {
    /// What the parameter expects, for its error.
    pub const EXPECTED: &'static str = "all, errors or summary";
}

impl FromStr for Results {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "all" => Ok(Self::All),
            "errors" => Ok(Self::Errors),
            "summary" => Ok(Self::Summary),
            _ => Err(()),
        }
    }
}

/// Who sends a stream.
pub(super) struct Caller {
    pub(super) gateway: Gateway,
    pub(super) principal: Principal,
    pub(super) request_id: RequestId,
}

/// Starts the stream and answers with its results.
///
/// # Errors
///
/// Those that hold for the whole stream: no permission, an unknown topic.
pub(super) async fn answer(
    caller: Caller,
    topic: &str,
    formats: Formats,
    results: Results,
    body: Body,
) -> Result<Response, ApiError> {
    let Caller {
        gateway,
        principal,
        request_id,
    } = caller;
    let topic = gateway
        .writer()
        .open(&principal, topic)
        .await
        .map_err(|rejected| ApiError::from_rejected(rejected, |_| String::new()))?;
    let settings = gateway.settings();
    let limit = settings.limits.record_bytes * 2 + (64 << 10);
    let (out, mut answers) = mpsc::channel(ANSWER_PIECES);
    let run = NdjsonIngest {
        stall: settings.http.request_timeout,
        expires: principal.expires_at(),
        batch_records: settings.limits.records_per_request.min(BATCH_RECORDS),
        part: gateway.bodies().part(&principal),
        changes: principal.changes(),
        lost: None,
        principal,
        request_id,
        topic,
        formats,
        results,
        lines: Lines::new(limit),
        gateway,
        batch: Batch::default(),
        under_way: FuturesOrdered::new(),
        totals: Totals::default(),
        out,
    };
    tokio::spawn(run.run(body));
    let pieces = stream::poll_fn(move |context| answers.poll_recv(context));
    let body = Body::from_stream(pieces.map(Ok::<Bytes, std::convert::Infallible>));
    Ok((
        [
            (header::CONTENT_TYPE, NDJSON),
            (header::CACHE_CONTROL, "no-store, no-transform"),
        ],
        body,
    )
        .into_response())
}

/// A stream under way.
struct NdjsonIngest {
    gateway: Gateway,
    principal: Principal,
    /// Under which the log has the causes of errors.
    request_id: RequestId,
    topic: Arc<Topic>,
    formats: Formats,
    results: Results,
    stall: Duration,
    /// When the client's credential does, and nothing more is taken.
    expires: Option<Instant>,
    /// Tells when the principal is to be judged again.
    changes: Changes,
    /// Why it may not write any more.
    lost: Option<ApiError>,
    batch_records: usize,
    lines: Lines,
    /// What waits for the end of its line, among all bodies.
    part: Part,
    batch: Batch,
    under_way: FuturesOrdered<BoxFuture<'static, Vec<Entry>>>,
    totals: Totals,
    out: mpsc::Sender<Bytes>,
}

/// What is being gathered for the producer.
#[derive(Default)]
struct Batch {
    /// One for each line: its number, and the error of one that holds no record.
    lines: Vec<(u64, Option<ApiError>)>,
    records: Vec<ProducerRecord>,
    bytes: usize,
    /// Lines that were looked at, blank ones too.
    looked_at: usize,
}

/// What became of a line.
struct Entry {
    line: u64,
    outcome: Result<Outcome, ApiError>,
}

#[derive(Debug, Clone, Copy, Default, Serialize)]
struct Totals {
    /// The last line that was read.
    lines: u64,
    written: u64,
    failed: u64,
}

/// Why a stream ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// The body was read to its end.
    Whole,
    /// The client is gone.
    Gone,
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
    /// The client is nobody any more, or may not write here any more: [`NdjsonIngest::lost`].
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

impl NdjsonIngest {
    async fn run(mut self, mut body: Body) {
        let end = self.read(&mut body).await;
        // Batches that were handed over get their results whatever the reason.
        let end = match (end, self.drain().await) {
            (End::Whole, Err(worse)) => worse,
            (end, _) => end,
        };
        if let Some(last) = self.last_line(end) {
            let _ = timeout(self.stall, self.out.send(last)).await;
        }
        if !matches!(end, End::Whole | End::Gone) {
            // The client may be writing still, and would not see the last line for the reset.
            discard(body, LAST_READ).await;
        }
    }

    /// Reads the body to its end, or to whatever ends it before.
    async fn read(&mut self, body: &mut Body) -> End {
        let stopping = self.gateway.stopping().clone();
        let mut expiry = pin!(reached(self.expires));
        loop {
            let room = self.under_way.len() < BATCHES_UNDER_WAY;
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
                    self.lines.push(&data);
                    if let Err(end) = self.take_lines().await {
                        return end;
                    }
                    if let Err(full) = self.part.keeps(self.lines.waiting()) {
                        return End::Full(full);
                    }
                }
            }
        }
        while let Some(line) = self.lines.last_line() {
            self.take(line);
        }
        match self.hand_over().await {
            Ok(()) => End::Whole,
            Err(end) => end,
        }
    }

    /// Takes the whole lines that have come, and hands them over a batch at a time.
    async fn take_lines(&mut self) -> Result<(), End> {
        while let Some(line) = self.lines.next_line() {
            self.take(line);
            if self.batch.looked_at >= self.batch_records || self.batch.bytes >= BATCH_BYTES {
                self.hand_over().await?;
                while self.under_way.len() >= BATCHES_UNDER_WAY {
                    if let Some(entries) = self.under_way.next().await {
                        self.tell(entries).await?;
                    }
                }
            }
        }
        self.hand_over().await
    }

    fn take(&mut self, line: Line) {
        self.batch.looked_at += 1;
        let record = match line.content {
            Content::Blank => return,
            Content::Bytes(bytes) => parse::one(&bytes, self.formats).map_err(ApiError::from),
            Content::TooLong => Err(ApiError::too_large(
                "the line is longer than twice limits.record_bytes and 64 KiB",
            )),
        };
        self.totals.lines = line.number;
        match record {
            Ok(record) => {
                self.batch.bytes += record.size();
                self.batch.records.push(record);
                self.batch.lines.push((line.number, None));
            }
            Err(error) => self.batch.lines.push((line.number, Some(error))),
        }
    }

    /// Why the client may not write any more, if it may not; judged where that may have changed.
    fn lost(&mut self) -> Option<&ApiError> {
        if self.changes.came() {
            let topic = Resource::Topic(&self.topic.name);
            let decided = reauthorize(&self.principal, Action::Produce, topic);
            self.lost = decided.err().map(ApiError::from);
        }
        self.lost.as_ref()
    }

    /// Hands the gathered batch to the producer, when that has room for it. What has come of a client
    /// that is gone, and was not handed over, is not written any more: it may have sent the same again.
    /// Nor is what waits while the credential expires or the right goes, and its lines are told so.
    async fn hand_over(&mut self) -> Result<(), End> {
        let Batch {
            lines,
            records,
            looked_at,
            ..
        } = std::mem::take(&mut self.batch);
        if lines.is_empty() {
            if looked_at > 0 {
                // Blank lines cost work too, and others are to get on meanwhile.
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
        if let Some((end, error)) = ended {
            let told = entries(lines, Err(error));
            self.under_way.push_back(Box::pin(async { told }));
            return Err(end);
        }
        let begun = writer
            .begin(
                &self.principal,
                &self.topic.name,
                records,
                OnInvalid::RejectRecord,
            )
            .await
            .map_err(|rejected| ApiError::from_rejected(rejected, |_| String::new()));
        self.under_way.push_back(Box::pin(async move {
            let outcomes = match begun {
                Ok(begun) => Ok(begun.outcomes().await),
                Err(error) => Err(error),
            };
            entries(lines, outcomes)
        }));
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

    fn count(&mut self, entries: &[Entry]) {
        for entry in entries {
            match entry.outcome {
                Ok(Ok(_)) => self.totals.written += 1,
                _ => self.totals.failed += 1,
            }
        }
    }

    /// Sends the results of a batch; waits for the client to read, but not for ever.
    async fn tell(&mut self, entries: Vec<Entry>) -> Result<(), End> {
        self.count(&entries);
        let piece = self.result_lines(&entries);
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

    fn result_lines(&self, entries: &[Entry]) -> Vec<u8> {
        let mut out = Vec::new();
        for Entry { line, outcome } in entries {
            match outcome {
                Ok(Ok(written)) => {
                    if self.results == Results::All {
                        encode::written(&mut out, &self.topic.name, written);
                        out.push(b'\n');
                    }
                }
                _ if self.results == Results::Summary => {}
                Ok(Err(fault)) => error_line(&mut out, *line, ApiError::from_fault(fault)),
                Err(error) => {
                    let error = error.clone().logged_under(self.request_id.as_str());
                    error_line(&mut out, *line, error);
                }
            }
        }
        out
    }

    /// The line after the last result, where there is something left to say.
    fn last_line(&self, end: End) -> Option<Bytes> {
        let Totals { written, .. } = self.totals;
        let ms = self.stall.as_millis();
        let error = match end {
            End::Gone => return None,
            End::Whole => None,
            End::NothingCame => Some(ApiError::plain(
                StatusCode::REQUEST_TIMEOUT,
                format!("nothing came for {ms} ms; {written} records were written before"),
            )),
            End::NotRead => Some(ApiError::plain(
                StatusCode::REQUEST_TIMEOUT,
                format!(
                    "the results were not read for {ms} ms; {written} records were written before: \
                     read while you send, or ask for results=summary"
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
        if error.is_none() && self.results == Results::All {
            return None;
        }
        let last = LastLine {
            summary: self.totals,
            error: error.map(|error| error.logged_under(self.request_id.as_str()).into_body()),
        };
        let mut line = Vec::new();
        encode::json(&mut line, &last);
        line.push(b'\n');
        Some(line.into())
    }
}

/// Waits until then; for ever where there is no such time.
async fn reached(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

#[derive(Serialize)]
struct LastLine {
    summary: Totals,
    #[serde(flatten)]
    error: Option<ErrorBody>,
}

/// The outcome of each line of a batch, in order.
fn entries(
    lines: Vec<(u64, Option<ApiError>)>,
    outcomes: Result<Vec<Outcome>, ApiError>,
) -> Vec<Entry> {
    let (mut outcomes, whole) = match outcomes {
        Ok(outcomes) => (outcomes.into_iter(), None),
        Err(error) => (Vec::new().into_iter(), Some(error)),
    };
    lines
        .into_iter()
        .map(|(line, unfit)| Entry {
            line,
            outcome: match unfit {
                Some(error) => Err(error),
                None => outcomes.next().ok_or_else(|| {
                    whole.clone().unwrap_or_else(|| {
                        ApiError::internal("the producer gave fewer outcomes than it got records")
                    })
                }),
            },
        })
        .collect()
}

#[derive(Serialize)]
struct ErrorLine {
    line: u64,
    #[serde(flatten)]
    error: ErrorBody,
}

fn error_line(out: &mut Vec<u8>, line: u64, error: ApiError) {
    let error = ErrorLine {
        line,
        error: error.into_body(),
    };
    encode::json(out, &error);
    out.push(b'\n');
}
