//! The errors that the producer's client reports apart from those of records.
//!
//! librdkafka reports connections, TLS and logins nowhere but through its error callback, and what
//! becomes of a record then is only that its time ran out. What was said last is kept here, so that
//! the answer to the record, and readiness, can say why.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use rdkafka::error::RDKafkaErrorCode as Code;
use tokio::time::Instant;

use crate::kafka::fault::addresses::without_addresses;
use crate::kafka::fault::{Fault, FaultKind};

/// How long a complaint counts. While its cause lasts it comes again: librdkafka says the same about
/// a broker at most every 30 s.
const COUNTS: Duration = Duration::from_secs(45);

/// How long the same complaint is not logged again.
const LOGGED: Duration = Duration::from_secs(30);

/// Longest part of it that is kept.
const MOST_BYTES: usize = 400;

/// The last complaint, until a record is acknowledged.
#[derive(Debug, Default)]
pub(super) struct ClientErrors {
    /// Whether there may be one: acknowledgements come by the million.
    any: AtomicBool,
    last: Mutex<Option<ClientError>>,
}

#[derive(Debug)]
struct ClientError {
    at: Instant,
    logged: Instant,
    /// In the words of the library, as they are logged.
    reason: String,
    /// The same as clients are told it.
    told: String,
    fault: Fault,
    /// No broker at all is connected.
    all_down: bool,
}

impl ClientErrors {
    /// Notes a complaint and logs it, unless it was just logged: each comes at least twice.
    pub(super) fn note(&self, code: Code, reason: &str) {
        let now = Instant::now();
        let mut last = self.last.lock();
        let all_down = code == Code::AllBrokersDown;
        let old = last.take_if(|old| now.duration_since(old.at) > COUNTS || !all_down);
        if let Some(kept) = last.as_mut() {
            // It follows what they are down for.
            kept.all_down = true;
            return;
        }
        let reason = essence(reason);
        let same = old.as_ref().filter(|old| old.reason == reason);
        let logged = match same {
            Some(old) if now.duration_since(old.logged) < LOGGED => old.logged,
            _ => {
                tracing::warn!(error = %code, reason, "producer");
                now
            }
        };
        let told = without_addresses(&reason).into_owned();
        *last = Some(ClientError {
            at: now,
            logged,
            fault: fault(code, &told),
            told,
            reason,
            all_down: all_down || old.is_some_and(|old| old.all_down),
        });
        self.any.store(true, Ordering::Relaxed);
    }

    /// A record was acknowledged.
    pub(super) fn over(&self) {
        if self.any.load(Ordering::Relaxed) && self.any.swap(false, Ordering::Relaxed) {
            *self.last.lock() = None;
        }
    }

    /// What is said of a record that was given up under `code`, which says nothing of why.
    pub(super) fn explain(&self, code: Code, fault: Fault) -> Fault {
        let given_up = matches!(
            code,
            Code::MessageTimedOut | Code::PurgeQueue | Code::PurgeInflight | Code::Fatal
        );
        if !given_up {
            return fault;
        }
        let last = self.last.lock();
        let Some(error) = last.as_ref().filter(|t| t.at.elapsed() <= COUNTS) else {
            return fault;
        };
        match error.fault.kind {
            FaultKind::Unauthenticated | FaultKind::NotAuthorized => error.fault.clone(),
            _ => Fault {
                message: format!(
                    "{} The Kafka client's last complaint: {}.",
                    fault.message, error.told
                ),
                ..fault
            },
        }
    }

    /// Why nothing can be written at all, if that is for TLS or for the login.
    pub(super) fn locked_out(&self) -> Option<Fault> {
        let last = self.last.lock();
        let error = last.as_ref()?;
        let out = error.all_down
            && error.fault.kind == FaultKind::Unauthenticated
            && error.at.elapsed() <= COUNTS;
        out.then(|| error.fault.clone())
    }
}

fn fault(code: Code, reason: &str) -> Fault {
    let refused = |what: &str, check: &str| {
        Fault::new(
            FaultKind::Unauthenticated,
            format!("The producer {what}: {reason}. Check {check}."),
        )
    };
    match code {
        Code::Authentication | Code::SaslAuthenticationFailed => {
            refused("cannot log in to Kafka", "the sasl.* properties")
        }
        Code::SSL => refused("has no TLS connection to Kafka", "the ssl.* properties"),
        // An alert from the broker: it ends the connection after the handshake.
        Code::BrokerTransportFailure if reason.contains("tls alert") => refused(
            "was refused by Kafka in TLS",
            "the client's certificate, ssl.certificate.location",
        ),
        // Asked for when the client starts, so it is about no topic.
        Code::ClusterAuthorizationFailed => Fault {
            kafka_error: Some("CLUSTER_AUTHORIZATION_FAILED"),
            ..Fault::new(
                FaultKind::NotAuthorized,
                "The broker refused the user that the gateway is to it: it may write to \
                 no topic. Add an ACL for it that allows Write on the topic (before Kafka 2.8 also \
                 IdempotentWrite on the cluster).",
            )
        },
        other => Fault {
            message: format!("{} ({reason})", Fault::from_librdkafka_code(other).message),
            ..Fault::from_librdkafka_code(other)
        },
    }
}

/// Without what changes each time, such as "(after 5ms in state CONNECT)", and not too long.
fn essence(reason: &str) -> String {
    let end = reason.rfind(" (after ").unwrap_or(reason.len());
    let mut text = reason[..end].trim_end_matches('.').to_owned();
    let mut end = text.len().min(MOST_BYTES);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
    text
}

#[cfg(test)]
mod tests;
