//! Whether brokers answer, asked all the time, so that whoever wants to know is told at once.
//!
//! A question goes to any broker, and to another one while there is no answer (`admin`): one that is silent
//! among several changes nothing. Only when none of them has answered for a while is the cluster away.
//!
//! Each broker is asked by itself, too, now and then, so that the log names those that do not answer: what
//! the client libraries say of broken connections names none.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use super::admin::Admin;
use super::fault::{Fault, FaultKind};
use super::metadata::{Cluster, Metadata};

/// Pause between two questions. Two of them may go unanswered before the cluster counts as away.
const PAUSE: Duration = Duration::from_secs(2);
/// How long no broker must have answered for the cluster to be away.
const SILENCE: Duration = Duration::from_secs(5);
/// Pause between two questions to each broker, and the longest wait for its answer.
const ROUND: Duration = Duration::from_secs(5);
const ANSWER: Duration = Duration::from_secs(3);
/// How long one waits who asks before anything is known, just after the start.
const FIRST: Duration = Duration::from_millis(500);

/// What is known.
#[derive(Debug, Clone, Default)]
struct Known {
    /// What a broker said last, and when.
    answer: Option<(Instant, Arc<Cluster>)>,
    /// Why the question after that had no answer.
    fault: Option<Fault>,
}

/// The asking. It ends when this is dropped.
#[derive(Debug)]
pub(super) struct Pulse {
    known: watch::Receiver<Known>,
}

impl Pulse {
    /// Asks from now on.
    pub(super) fn start(metadata: Metadata, admin: Admin) -> Self {
        let (sender, known) = watch::channel(Known::default());
        let sender = Arc::new(sender);
        tokio::spawn(ask(metadata, Arc::clone(&sender)));
        tokio::spawn(ask_each(admin, sender));
        Self { known }
    }

    /// Whether a broker has answered lately, from what is known.
    ///
    /// # Errors
    ///
    /// Why none has.
    pub(super) async fn beats(&self) -> Result<(), Fault> {
        let mut known = self.known.clone();
        // It fails only when the asking is over.
        let first = known.wait_for(|known| known.answer.is_some() || known.fault.is_some());
        let _ = timeout(FIRST, first).await;
        known.borrow().is_there(Instant::now())
    }

    /// The cluster as a broker described it last; `None` until one has.
    pub(super) fn cluster(&self) -> Option<Arc<Cluster>> {
        let known = self.known.borrow();
        known
            .answer
            .as_ref()
            .map(|(_, cluster)| Arc::clone(cluster))
    }
}

impl Known {
    fn is_there(&self, now: Instant) -> Result<(), Fault> {
        let lately = |at: &Instant| now.saturating_duration_since(*at) < SILENCE;
        if self.answer.as_ref().is_some_and(|(at, _)| lately(at)) {
            return Ok(());
        }
        let fault = self.fault.clone();
        Err(fault.unwrap_or_else(|| Fault::new(FaultKind::TimedOut, "No broker has answered.")))
    }
}

/// Asks each broker by itself, and logs which of them does not answer, and which does again.
async fn ask_each(admin: Admin, known: Arc<watch::Sender<Known>>) {
    // Also those that the cluster has given up meanwhile: they may come back.
    let mut silent: BTreeSet<i32> = BTreeSet::new();
    loop {
        tokio::select! {
            () = sleep(ROUND) => {}
            () = known.closed() => return,
        }
        let cluster = {
            let known = known.borrow();
            // When none answers, that is what is logged.
            let answer = known.answer.as_ref().filter(|_| known.fault.is_none());
            answer.map(|(_, cluster)| Arc::clone(cluster))
        };
        let Some(cluster) = cluster.filter(|cluster| cluster.brokers.len() > 1) else {
            continue;
        };
        let asked = cluster.brokers.iter().map(async |broker| {
            let answer = admin.ping(broker.id, ANSWER).await;
            (broker, answer)
        });
        for (broker, answer) in join_all(asked).await {
            let address = format!("{}:{}", broker.host, broker.port);
            match answer {
                Ok(()) => {
                    if silent.remove(&broker.id) {
                        tracing::info!(broker = broker.id, address, "the broker answers again");
                    }
                }
                Err(fault) => {
                    if silent.insert(broker.id) {
                        tracing::warn!(
                            broker = broker.id,
                            address,
                            "the broker does not answer: {fault}"
                        );
                    }
                }
            }
        }
    }
}

async fn ask(metadata: Metadata, known: Arc<watch::Sender<Known>>) {
    let mut away = false;
    loop {
        // It is bounded by `kafka.metadata_timeout_ms`.
        let answer = tokio::select! {
            answer = metadata.cluster() => answer,
            () = known.closed() => return,
        };
        known.send_modify(|known| match answer {
            Ok(cluster) => {
                known.answer = Some((Instant::now(), cluster));
                known.fault = None;
            }
            Err(fault) => known.fault = Some(fault),
        });
        let is_there = known.borrow().is_there(Instant::now());
        match is_there {
            Ok(()) if std::mem::take(&mut away) => tracing::info!("Kafka answers again"),
            Err(fault) if !std::mem::replace(&mut away, true) => {
                tracing::warn!("Kafka does not answer: {fault}");
            }
            _ => {}
        }
        tokio::select! {
            () = sleep(PAUSE) => {}
            () = known.closed() => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(answered: Option<Instant>, fault: Option<&str>) -> Known {
        let cluster = Cluster {
            id: None,
            controller: None,
            brokers: Vec::new(),
        };
        Known {
            answer: answered.map(|at| (at, Arc::new(cluster))),
            fault: fault.map(|text| Fault::new(FaultKind::Unavailable, text)),
        }
    }

    #[test]
    fn kafka_is_away_after_a_long_silence_and_not_after_one_unanswered_request() {
        let at = Instant::now();
        let since = |secs| at + Duration::from_secs(secs);
        known(Some(at), None).is_there(at).unwrap();
        known(Some(at), Some("none")).is_there(since(4)).unwrap();
        let fault = known(Some(at), Some("none")).is_there(since(6));
        assert_eq!(fault.unwrap_err().message, "none");
        known(Some(at), None).is_there(since(6)).unwrap_err();
    }

    #[test]
    fn a_cluster_that_has_never_answered_is_away() {
        let now = Instant::now();
        known(None, None).is_there(now).unwrap_err();
        let fault = known(None, Some("refused")).is_there(now).unwrap_err();
        assert_eq!(fault.message, "refused");
    }
}
