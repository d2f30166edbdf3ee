//! Whether any broker answers, asked once for all members of the process.
//!
//! krafka keeps failed fetches and heartbeats to itself: a member whose brokers are gone only sees
//! nothing come. So somebody asks the cluster from time to time for as long as there are members.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use crate::kafka::fault::{Fault, FaultKind};
use crate::kafka::metadata::Metadata;

/// Pause between two questions.
const PAUSE: Duration = Duration::from_secs(1);
/// Longest wait for an answer.
const ANSWER: Duration = Duration::from_secs(2);
/// How long no broker must have answered to be called unavailable: with the two above, within five
/// seconds.
const SILENCE: Duration = Duration::from_secs(2);

/// What is known; `None` is that a broker answers.
pub(super) type Known = Option<Arc<Fault>>;

/// Asks while somebody watches.
#[derive(Debug)]
pub(super) struct Health {
    metadata: Metadata,
    known: Mutex<Option<watch::Sender<Known>>>,
}

impl Health {
    pub(super) fn new(metadata: Metadata) -> Self {
        Self {
            metadata,
            known: Mutex::new(None),
        }
    }

    /// What is known from now on. The asking ends with the last of these.
    pub(super) fn watch(&self) -> watch::Receiver<Known> {
        let mut known = self.known.lock();
        if let Some(sender) = &*known
            // Under the lock: the asking ends only after it has seen that nobody is left.
            && !sender.is_closed()
        {
            return sender.subscribe();
        }
        let (sender, receiver) = watch::channel(None);
        *known = Some(sender.clone());
        tokio::spawn(ask(self.metadata.clone(), sender));
        receiver
    }
}

async fn ask(metadata: Metadata, known: watch::Sender<Known>) {
    let mut silent_since: Option<Instant> = None;
    while !known.is_closed() {
        let asked = Instant::now();
        match timeout(ANSWER, metadata.cluster()).await {
            Ok(Ok(_)) => {
                silent_since = None;
                known.send_if_modified(|known| known.take().is_some());
            }
            Ok(Err(fault)) if !fault.retriable => {
                // A refusal is an answer.
                silent_since = None;
                known.send_if_modified(|known| known.take().is_some());
            }
            failed => {
                let fault = match failed {
                    Ok(Err(fault)) => fault,
                    _ => Fault::new(FaultKind::TimedOut, "No broker answers."),
                };
                let since = *silent_since.get_or_insert(asked);
                if since.elapsed() >= SILENCE {
                    known.send_if_modified(|known| {
                        let news = known.is_none();
                        *known = Some(Arc::new(fault));
                        news
                    });
                }
            }
        }
        tokio::select! {
            () = sleep(PAUSE) => {}
            () = known.closed() => {}
        }
    }
}
