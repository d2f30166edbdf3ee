//! The audit log (`telemetry.audit`): one JSON object a line for every decision about who may do
//! what, on standard error or in a file.
//!
//! Whoever decides hands an [`Entry`] over and goes on; a thread of its own writes, since a disk may
//! take its time. Between them is a queue with an end, of which no caller has more than a share: one
//! who asks for much must not drown what others do. When there is no room, entries are lost rather than
//! requests held up: `audit_entries_lost_total` counts them, and the next line that is written says
//! how many are missing before it. With `telemetry.audit_required` it is the other way round: what
//! cannot be told is not allowed, and what could not be written is written again until it is.
//!
//! What is decided, and for whom, is `auth::audit_context`'s to say.

use std::borrow::Cow;
use std::fs::{File, OpenOptions};
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Write};
use std::net::IpAddr;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use aws_lc_rs::digest::{SHA256, digest};
use serde::Serialize;
use tokio::sync::{mpsc, oneshot};

use crate::config::{AuditTo, TelemetrySettings};

/// Most entries that wait to be written; a line is 2 KiB at the most.
const QUEUE: usize = 8192;
/// Most of them that are of one caller.
const SHARE: u32 = 1024;
/// So many callers are told apart. Those who meet have a share together: which they are nobody can guess.
const SHARES: usize = 1024;
/// Most entries that are written at once.
const BATCH: usize = 512;
/// Longest text of a field, in characters: names are as long as their issuers like. Of what is longer
/// the line has the beginning and a hash, so that two of them are never taken for one.
const TEXT: usize = 256;
/// Bytes of that hash, a SHA-256, which are written.
const HASH: usize = 8;
/// Pause before lines that could not be written are tried again, where they have to be.
const AGAIN: Duration = Duration::from_secs(1);
/// Pause between two warnings of the same trouble.
const WARN_EVERY: Duration = Duration::from_secs(10);
/// The metric of entries that were not written.
const LOST: &str = "audit_entries_lost_total";

/// Where a request comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Origin {
    /// Its id, as in `X-Request-Id`: the client's own, if it sent one.
    pub request_id: String,
    /// The gateway's own id of it, which no client can choose.
    pub gateway_id: String,
    /// The client's address, as limits count it; `None` where no listener took the request.
    pub address: Option<IpAddr>,
    /// What was asked, by its method and its path without the query.
    pub method: String,
    /// See `method`.
    pub path: String,
}

/// Who asks, all that makes it this one and no other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Who {
    /// By what it is known: a token, a certificate.
    pub known_by: &'static str,
    /// Whose word that is; empty where nobody is asked.
    pub issuer: String,
    /// The name that it has there.
    pub name: String,
}

/// One decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// When it was made.
    pub time: jiff::Timestamp,
    /// Where the request comes from.
    pub origin: Arc<Origin>,
    /// Who asks; `None` where that could not be found out.
    pub principal: Option<Who>,
    /// What is to be done.
    pub action: &'static str,
    /// On what kind of thing.
    pub kind: &'static str,
    /// On what.
    pub resource: String,
    /// Whether it may be done.
    pub allowed: bool,
    /// Why.
    pub reason: String,
}

/// Takes entries. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Audit {
    sender: mpsc::Sender<Message>,
    lost: Arc<AtomicU64>,
    shares: Arc<Shares>,
    /// Nothing is allowed that cannot be told.
    required: bool,
    /// It tells of credentials that are valid, too.
    authentications: bool,
    /// The last lines could not be written.
    failing: Arc<AtomicBool>,
}

#[derive(Debug)]
enum Message {
    /// Whose share of the queue it has a place of.
    Entry(usize, Box<Entry>),
    /// Answered when all that came before is written.
    Flush(oneshot::Sender<()>),
}

impl Audit {
    /// Opens the log that `settings` ask for, if there is to be one.
    ///
    /// # Errors
    ///
    /// The file cannot be opened or the thread not started.
    pub fn open(settings: &TelemetrySettings) -> Result<Option<Self>, String> {
        let required = settings.audit_required;
        let output = match &settings.audit {
            AuditTo::Off => return Ok(None),
            AuditTo::Stderr => Output::Stderr,
            AuditTo::File(path) => Output::File(
                LogFile::open(path)
                    .map_err(|error| format!("cannot open {}: {error}", path.display()))?,
            ),
        };
        let (sender, receiver) = mpsc::channel(QUEUE);
        let lost = Arc::new(AtomicU64::new(0));
        let shares = Arc::new(Shares::new());
        let failing = Arc::new(AtomicBool::new(false));
        let scribe = Scribe {
            output,
            lost: Arc::clone(&lost),
            shares: Arc::clone(&shares),
            required,
            failing: Arc::clone(&failing),
            warned: None,
        };
        std::thread::Builder::new()
            .name("audit".to_owned())
            .spawn(move || scribe.run(receiver))
            .map_err(|error| format!("no thread for it: {error}"))?;
        Ok(Some(Self {
            sender,
            lost,
            shares,
            required,
            authentications: settings.audit_authentication,
            failing,
        }))
    }

    /// Whether it tells of every request whose credential is valid (`telemetry.audit_authentication`).
    pub fn tells_authentications(&self) -> bool {
        self.authentications
    }

    /// Whether anything may be allowed now: always, unless the log is required and cannot be written.
    pub fn is_ready(&self) -> bool {
        !self.required || (!self.failing.load(Ordering::Relaxed) && self.sender.capacity() > 0)
    }

    /// Hands an entry over, and tells whether what it allows may be done. Never waits.
    pub fn record(&self, entry: Entry) -> bool {
        if entry.allowed && !self.is_ready() {
            // It is not done, so the log has nothing to tell of it.
            return false;
        }
        let share = self.shares.of(&entry);
        let reason = if self.shares.take(share) {
            let entry = Message::Entry(share, Box::new(entry));
            if self.sender.try_send(entry).is_ok() {
                return true;
            }
            self.shares.give_back(share);
            "queue full"
        } else {
            "share full"
        };
        self.lost.fetch_add(1, Ordering::Relaxed);
        metrics::counter!(LOST, "reason" => reason).increment(1);
        !self.required
    }

    /// Waits, at most `bound`, until all that was handed over is written.
    pub async fn flush(&self, bound: Duration) {
        let (done, written) = oneshot::channel();
        let flush = async {
            if self.sender.send(Message::Flush(done)).await.is_ok() {
                let _ = written.await;
            }
        };
        if tokio::time::timeout(bound, flush).await.is_err() {
            tracing::warn!("the audit log could not be written to its end");
        }
    }
}

/// How many entries wait, by who has caused them.
#[derive(Debug)]
struct Shares {
    /// Secret, so that nobody can choose whom to meet.
    hasher: RandomState,
    waiting: Box<[AtomicU32]>,
}

impl Shares {
    fn new() -> Self {
        Self {
            hasher: RandomState::new(),
            waiting: (0..SHARES).map(|_| AtomicU32::new(0)).collect(),
        }
    }

    /// Whose share an entry takes of: the principal's, or the address's where there is none.
    fn of(&self, entry: &Entry) -> usize {
        let hash = match &entry.principal {
            Some(who) => self.hasher.hash_one((who.known_by, &who.issuer, &who.name)),
            None => self.hasher.hash_one(entry.origin.address),
        };
        // Less than their number.
        usize::try_from(hash % SHARES as u64).unwrap_or_default()
    }

    /// Takes a place, if there is one.
    fn take(&self, share: usize) -> bool {
        let Some(waiting) = self.waiting.get(share) else {
            return false;
        };
        let taken = waiting.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| {
            (count < SHARE).then_some(count + 1)
        });
        taken.is_ok()
    }

    fn give_back(&self, share: usize) {
        if let Some(waiting) = self.waiting.get(share) {
            waiting.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// The thread that writes.
struct Scribe {
    output: Output,
    lost: Arc<AtomicU64>,
    shares: Arc<Shares>,
    required: bool,
    failing: Arc<AtomicBool>,
    warned: Option<Instant>,
}

impl Scribe {
    fn run(mut self, mut entries: mpsc::Receiver<Message>) {
        let mut messages = Vec::new();
        let mut lines = Vec::new();
        while entries.blocking_recv_many(&mut messages, BATCH) > 0 {
            self.write(&mut messages, &mut lines);
        }
    }

    fn write(&mut self, messages: &mut Vec<Message>, lines: &mut Vec<u8>) {
        lines.clear();
        let lost = self.lost.swap(0, Ordering::Relaxed);
        if lost > 0 {
            let time = written(jiff::Timestamp::now());
            push(lines, &Gap { time, lost });
            self.warn(|| {
                tracing::warn!(
                    lost,
                    "entries of the audit log are lost: it cannot be written as fast as they come"
                )
            });
        }
        let mut waiting = Vec::new();
        let mut count = 0;
        for message in messages.drain(..) {
            match message {
                Message::Entry(share, entry) => {
                    push(lines, &Line::of(&entry));
                    count += 1;
                    self.shares.give_back(share);
                }
                Message::Flush(done) => waiting.push(done),
            }
        }
        loop {
            match self.output.write(lines) {
                Ok(None) => {}
                Ok(Some(error)) => self.warn(
                    || tracing::warn!(%error, "the audit log was moved away and cannot be opened anew; it goes on where it was"),
                ),
                Err(error) if self.required => {
                    self.failing.store(true, Ordering::Relaxed);
                    self.warn(|| {
                        tracing::warn!(%error, "the audit log cannot be written, and nothing is allowed until it can (telemetry.audit_required)")
                    });
                    std::thread::sleep(AGAIN);
                    continue;
                }
                Err(error) => {
                    self.lost.fetch_add(lost + count, Ordering::Relaxed);
                    metrics::counter!(LOST, "reason" => "write failed").increment(count);
                    self.warn(|| tracing::warn!(%error, "the audit log cannot be written"));
                }
            }
            break;
        }
        self.failing.store(false, Ordering::Relaxed);
        for done in waiting {
            let _ = done.send(());
        }
    }

    /// Says so, unless something was said just before.
    fn warn(&mut self, say: impl FnOnce()) {
        if self.warned.is_none_or(|at| at.elapsed() >= WARN_EVERY) {
            self.warned = Some(Instant::now());
            say();
        }
    }
}

/// An entry as it is written.
#[derive(Serialize)]
struct Line<'a> {
    time: String,
    request_id: &'a str,
    gateway_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<IpAddr>,
    method: Cow<'a, str>,
    path: Cow<'a, str>,
    principal: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    known_by: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    issuer: Option<Cow<'a, str>>,
    action: &'a str,
    kind: &'a str,
    resource: Cow<'a, str>,
    allowed: bool,
    reason: Cow<'a, str>,
}

/// Says that entries are missing here.
#[derive(Serialize)]
struct Gap {
    time: String,
    lost: u64,
}

impl<'a> Line<'a> {
    fn of(entry: &'a Entry) -> Self {
        let who = entry.principal.as_ref();
        Self {
            time: written(entry.time),
            request_id: &entry.origin.request_id,
            gateway_id: &entry.origin.gateway_id,
            address: entry.origin.address,
            method: short(&entry.origin.method),
            path: short(&entry.origin.path),
            principal: who.map(|who| short(&who.name)),
            known_by: who.map(|who| who.known_by),
            issuer: who
                .map(|who| short(&who.issuer))
                .filter(|issuer| !issuer.is_empty()),
            action: entry.action,
            kind: entry.kind,
            resource: short(&entry.resource),
            allowed: entry.allowed,
            reason: short(&entry.reason),
        }
    }
}

fn written(time: jiff::Timestamp) -> String {
    format!("{time:.3}")
}

/// The text, or its beginning and its hash.
pub fn short(text: &str) -> Cow<'_, str> {
    let Some((end, _)) = text.char_indices().nth(TEXT) else {
        return Cow::Borrowed(text);
    };
    let beginning = text.get(..end).unwrap_or_default();
    let hash = digest(&SHA256, text.as_bytes());
    let hash: String = hash
        .as_ref()
        .iter()
        .take(HASH)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    Cow::Owned(format!("{beginning}…sha256:{hash}"))
}

fn push(lines: &mut Vec<u8>, line: &impl Serialize) {
    // Neither a vector nor these types can fail it.
    if serde_json::to_writer(&mut *lines, line).is_ok() {
        lines.push(b'\n');
    }
}

enum Output {
    Stderr,
    File(LogFile),
}

impl Output {
    /// Writes whole lines. Tells why a file that was moved away could not be opened anew.
    fn write(&mut self, lines: &[u8]) -> io::Result<Option<io::Error>> {
        match self {
            Self::Stderr => io::stderr().lock().write_all(lines).map(|()| None),
            Self::File(file) => file.write(lines),
        }
    }
}

/// A file that is appended to, and opened anew when another one, or none, stands in its place: that
/// is how logs are rotated.
struct LogFile {
    path: PathBuf,
    file: File,
    /// Device and number, which a moved file keeps.
    id: (u64, u64),
    /// The last line may be without its end.
    torn: bool,
}

impl LogFile {
    fn open(path: &Path) -> io::Result<Self> {
        // To open a pipe would wait for who reads it.
        if std::fs::metadata(path).is_ok_and(|about| !about.is_file()) {
            return Err(io::Error::other("it is not a regular file"));
        }
        let mut options = OpenOptions::new();
        // It tells who did what, which is not for everyone on the machine.
        options.append(true).create(true).mode(0o600);
        let file = options.open(path)?;
        let about = file.metadata()?;
        Ok(Self {
            path: path.to_owned(),
            file,
            id: (about.dev(), about.ino()),
            torn: false,
        })
    }

    fn is_in_its_place(&self) -> bool {
        std::fs::metadata(&self.path).is_ok_and(|about| (about.dev(), about.ino()) == self.id)
    }

    fn write(&mut self, lines: &[u8]) -> io::Result<Option<io::Error>> {
        let mut trouble = None;
        if !self.is_in_its_place() {
            match Self::open(&self.path) {
                Ok(new) => *self = new,
                Err(error) => trouble = Some(error),
            }
        }
        if self.torn {
            self.file.write_all(b"\n")?;
            self.torn = false;
        }
        self.torn = true;
        self.file.write_all(lines)?;
        self.torn = false;
        Ok(trouble)
    }
}

#[cfg(test)]
mod tests;
