//! Sends again records that the broker refused through no fault of their own, or may have.
//!
//! A broker takes or refuses a whole batch: a batch that is larger than the topic's
//! `max.message.bytes`, or holds one record that the topic does not take, is refused with all that is
//! in it, and librdkafka makes batches across requests.
//!
//! | what is said of the record | how it goes out again |
//! |---|---|
//! | another one of its batch was at fault | with others; after some times, because others may be at fault again, alone |
//! | it is at fault, or nobody says which one is | alone ([`super::isolated_retry`]): what is refused then is refused for its own sake |
//! | the client does not know its topic or partition, or has just dropped it | with others, once the client has asked for them anew |
//!
//! Order within a partition is not kept for these records. They still count as held, so there are no
//! more of them than the producer admits.

use std::collections::HashSet;
use std::sync::{Arc, Weak};
use std::time::Duration;

use rdkafka::error::RDKafkaErrorCode as Code;
use rdkafka::message::{BorrowedMessage, Headers, Message, OwnedHeaders};
use rdkafka::producer::BaseRecord;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::Instant;

use super::informed::ask;
use super::isolated_retry::IsolatedRetry;
use super::{Live, Outcome, Producer, Ticket};

/// How often a record goes out with others after it was refused for another's sake.
const WITH_OTHERS: u8 = 3;

/// Most records that are taken from the queue of these at a time.
const LOT: usize = 1000;

/// How long a client that is full, or is being replaced, is waited for.
const PATIENCE: Duration = Duration::from_secs(2);

/// Pause between looks at it.
const PAUSE: Duration = Duration::from_millis(10);

/// How a record goes out again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Resend {
    WithOthers,
    Alone,
    /// The client asks for the topic's partitions first.
    Informed,
}

/// How a record that was certainly not written goes out again, if it does. `tries` is how often it
/// has gone out again so far.
///
/// librdkafka gives the others of a batch a code of their own only where a broker named several at
/// fault; where it named one, all have that one's code.
pub(super) fn resend_for(code: Option<Code>, tries: u8) -> Option<Resend> {
    match code? {
        Code::InvalidDifferentRecord if tries < WITH_OTHERS => Some(Resend::WithOthers),
        Code::InvalidDifferentRecord
        | Code::MessageSizeTooLarge
        | Code::MessageBatchTooLarge
        | Code::InvalidRecord
        | Code::InvalidTimestamp
        | Code::InvalidMessage
        | Code::PolicyViolation => Some(Resend::Alone),
        // `BrokerDestroy` is what librdkafka says of records that wait in the queue of a partition which
        // it drops: the topic was deleted, or made anew with fewer partitions.
        Code::UnknownPartition
        | Code::UnknownTopic
        | Code::UnknownTopicOrPartition
        | Code::BrokerDestroy => (tries == 0).then_some(Resend::Informed),
        _ => None,
    }
}

/// A record on its way to another try.
pub(super) struct Refused {
    ticket: Ticket,
    /// What it was refused with.
    outcome: Outcome,
    resend: Resend,
    topic: String,
    /// The one that was chosen the first time.
    partition: Option<i32>,
    key: Option<Vec<u8>>,
    payload: Option<Vec<u8>>,
    headers: Option<OwnedHeaders>,
}

impl Refused {
    /// A copy of the record, which librdkafka frees after its delivery report.
    pub(super) fn new(
        message: &BorrowedMessage<'_>,
        ticket: Ticket,
        outcome: Outcome,
        resend: Resend,
    ) -> Self {
        Self {
            partition: match resend {
                // It may be one that there is no more.
                Resend::Informed => ticket.partition,
                _ => Some(message.partition()).filter(|partition| *partition >= 0),
            },
            ticket,
            outcome,
            resend,
            topic: message.topic().to_owned(),
            key: message.key().map(<[u8]>::to_vec),
            payload: message.payload().map(<[u8]>::to_vec),
            headers: message
                .headers()
                .filter(|headers| headers.count() > 0)
                .map(rdkafka::message::BorrowedHeaders::detach),
        }
    }

    /// Leaves it at the refusal.
    pub(super) fn give_up(self) {
        self.ticket.resolve(self.outcome);
    }

    pub(super) fn topic(&self) -> &str {
        &self.topic
    }

    /// Hands the record to the client that `client` names, and asks it for one again, with the reason,
    /// as long as that one does not take it, until `deadline`. Blocks.
    pub(super) fn hand_to(
        self,
        deadline: Instant,
        mut client: impl FnMut(Option<Code>) -> Option<Arc<Live>>,
    ) {
        let Self {
            mut ticket,
            outcome,
            topic,
            partition,
            key,
            payload,
            headers,
            ..
        } = self;
        ticket.tries = ticket.tries.saturating_add(1);
        let timestamp = ticket.timestamp;
        let mut native =
            BaseRecord::<[u8], [u8], Box<Ticket>>::with_opaque_to(&topic, Box::new(ticket));
        native.partition = partition;
        native.timestamp = timestamp;
        native.key = key.as_deref();
        native.payload = payload.as_deref();
        native.headers = headers;
        let mut reason = None;
        while let Some(live) = client(reason) {
            let Err((error, back)) = live.client().send(native) else {
                return;
            };
            native = back;
            tracing::debug!(%error, "a record was not sent again yet");
            reason = error.rdkafka_error_code();
            if Instant::now() >= deadline {
                break;
            }
            std::thread::sleep(PAUSE);
        }
        native.delivery_opaque.resolve(outcome);
    }
}

impl Producer {
    /// Hands a refused record to the client at work, or to the one that takes its place. Blocks.
    fn hand_over(&self, refused: Refused, deadline: Instant) {
        refused.hand_to(deadline, |reason| match reason {
            None | Some(Code::QueueFull) => Some(Arc::clone(&self.live.read())),
            Some(Code::Fatal) => {
                self.reports.failed.notify_one();
                Some(Arc::clone(&self.live.read()))
            }
            Some(_) => None,
        });
    }
}

/// Starts the task that sends refused records again; it ends when nobody can send it any.
pub(super) fn start(
    producer: Weak<Producer>,
    retry: IsolatedRetry,
    mut refused: mpsc::UnboundedReceiver<Refused>,
) {
    tokio::spawn(async move {
        let retry = Arc::new(retry);
        let one_by_one = Arc::new(Semaphore::new(1));
        let mut lot = Vec::new();
        while refused.recv_many(&mut lot, LOT).await > 0 {
            let lot = std::mem::take(&mut lot);
            let Some(producer) = producer.upgrade() else {
                lot.into_iter().for_each(Refused::give_up);
                continue;
            };
            let (behind, lot): (Vec<_>, Vec<_>) = lot
                .into_iter()
                .partition(|refused| refused.resend == Resend::Informed);
            if !behind.is_empty() {
                let (producer, one_by_one) = (Arc::clone(&producer), Arc::clone(&one_by_one));
                tokio::spawn(async move {
                    // It is never closed.
                    let _turn = one_by_one.acquire().await;
                    informed(producer, behind).await;
                });
            }
            let retry = Arc::clone(&retry);
            blocking(move |deadline| {
                for refused in lot {
                    match refused.resend {
                        Resend::Alone => retry.send(refused, deadline),
                        Resend::WithOthers | Resend::Informed => {
                            producer.hand_over(refused, deadline)
                        }
                    }
                }
            })
            .await;
        }
    });
}

/// Has the client ask for the partitions of these records' topics, and sends them again.
async fn informed(producer: Arc<Producer>, behind: Vec<Refused>) {
    let topics: HashSet<&str> = behind.iter().map(Refused::topic).collect();
    let live = Arc::clone(&producer.live.read());
    let asked = topics
        .into_iter()
        .map(|topic| ask(&live, Arc::from(topic), |_| true));
    futures::future::join_all(asked).await;
    blocking(move |deadline| {
        for refused in behind {
            producer.hand_over(refused, deadline);
        }
    })
    .await;
}

/// Handing over is quick, but may have to wait for a client: for all these records together until then.
async fn blocking(work: impl FnOnce(Instant) + Send + 'static) {
    let deadline = Instant::now() + PATIENCE;
    if let Err(error) = tokio::task::spawn_blocking(move || work(deadline)).await {
        tracing::error!(%error, "records were not sent again");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_code_decides_how_a_refused_record_is_sent_again() {
        let cases = [
            (Code::InvalidDifferentRecord, 0, Some(Resend::WithOthers)),
            (Code::InvalidDifferentRecord, 2, Some(Resend::WithOthers)),
            (Code::InvalidDifferentRecord, 3, Some(Resend::Alone)),
            (Code::InvalidRecord, 0, Some(Resend::Alone)),
            (Code::InvalidTimestamp, 0, Some(Resend::Alone)),
            (Code::MessageSizeTooLarge, 1, Some(Resend::Alone)),
            (Code::UnknownPartition, 0, Some(Resend::Informed)),
            (Code::UnknownTopic, 1, None),
            (Code::BrokerDestroy, 0, Some(Resend::Informed)),
            (Code::BrokerDestroy, 1, None),
            (Code::MessageTimedOut, 0, None),
            (Code::TopicAuthorizationFailed, 0, None),
        ];
        for (code, tries, expected) in cases {
            assert_eq!(resend_for(Some(code), tries), expected, "{code:?} {tries}");
        }
        assert_eq!(resend_for(None, 0), None);
    }
}
