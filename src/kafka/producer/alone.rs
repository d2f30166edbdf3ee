//! A second try for records that may have been refused for what stood beside them.
//!
//! A broker takes or refuses a whole batch: a batch that is larger than the topic's
//! `max.message.bytes`, or holds one record that the topic does not take, is refused with all that is
//! in it, and librdkafka makes batches across requests. So a record that was refused in this way goes
//! out once more in a batch of its own, through a client that makes no others. What is refused then
//! is refused for its own sake.
//!
//! Order within a partition is not kept for these records.

use std::sync::Arc;

use parking_lot::Mutex;
use rdkafka::ClientConfig;
use rdkafka::error::RDKafkaErrorCode as Code;
use rdkafka::message::{BorrowedMessage, Headers, Message, OwnedHeaders};
use rdkafka::producer::BaseRecord;
use tokio::sync::mpsc;

use super::login::Login;
use super::{Context, Live, Outcome, Ticket, fault_of};

/// A record on its way to a batch of its own. It still counts as held, so the queue of these is
/// bounded by what the producer admits.
pub(super) struct Refused {
    ticket: Ticket,
    /// What it was refused with.
    outcome: Outcome,
    topic: String,
    partition: i32,
    timestamp: Option<i64>,
    key: Option<Vec<u8>>,
    payload: Option<Vec<u8>>,
    headers: Option<OwnedHeaders>,
}

/// Whether a record may have been refused because of its neighbours.
pub(super) fn may_be_a_neighbours_fault(code: Option<Code>) -> bool {
    matches!(
        code,
        Some(
            Code::MessageSizeTooLarge
                | Code::MessageBatchTooLarge
                | Code::InvalidRecord
                | Code::InvalidTimestamp
        )
    )
}

impl Refused {
    /// A copy of the record, which librdkafka frees after its delivery report.
    pub(super) fn new(message: &BorrowedMessage<'_>, ticket: Ticket, outcome: Outcome) -> Self {
        Self {
            timestamp: ticket.timestamp,
            ticket,
            outcome,
            topic: message.topic().to_owned(),
            partition: message.partition(),
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
}

/// The client that makes batches of one, made when it is first needed.
struct Alone {
    config: ClientConfig,
    login: Arc<Login>,
    live: Mutex<Option<Arc<Live>>>,
}

impl Alone {
    fn send(&self, refused: Refused) {
        let Some(live) = self.live() else {
            return refused.give_up();
        };
        let Refused {
            ticket,
            outcome,
            topic,
            partition,
            timestamp,
            key,
            payload,
            headers,
        } = refused;
        let mut native =
            BaseRecord::<[u8], [u8], Box<Ticket>>::with_opaque_to(&topic, Box::new(ticket));
        // The partition that was chosen the first time.
        native.partition = (partition >= 0).then_some(partition);
        native.timestamp = timestamp;
        native.key = key.as_deref();
        native.payload = payload.as_deref();
        native.headers = headers;
        if let Err((error, native)) = live.client().send(native) {
            tracing::debug!(%error, "a record was not sent again");
            native.delivery_opaque.resolve(outcome);
            // A client that failed for good is let go; the next record makes a new one.
            if error.rdkafka_error_code() == Some(Code::Fatal) {
                *self.live.lock() = None;
            }
        }
    }

    fn live(&self) -> Option<Arc<Live>> {
        let mut live = self.live.lock();
        if live.is_none() {
            let context = Context {
                reports: Arc::default(),
                refused: None,
            };
            match self.config.create_with_context(context) {
                Ok(client) => {
                    let client = Arc::new(Live {
                        client: Some(client),
                    });
                    self.login.add(&client);
                    *live = Some(client);
                }
                Err(error) => tracing::error!(
                    "the client for records on their own cannot be made: {}",
                    fault_of(&error)
                ),
            }
        }
        live.clone()
    }
}

/// Starts the task that sends refused records again; it ends when the sender is dropped.
pub(super) fn start(config: &ClientConfig, login: &Arc<Login>) -> mpsc::UnboundedSender<Refused> {
    let (sender, mut refused) = mpsc::unbounded_channel::<Refused>();
    let mut config = config.clone();
    config.set("batch.num.messages", "1");
    let alone = Arc::new(Alone {
        config,
        login: Arc::clone(login),
        live: Mutex::new(None),
    });
    tokio::spawn(async move {
        while let Some(record) = refused.recv().await {
            let alone = Arc::clone(&alone);
            // Making the client blocks for a millisecond or two; sending does not.
            let sent = tokio::task::spawn_blocking(move || alone.send(record)).await;
            if let Err(error) = sent {
                tracing::error!(%error, "a record was not sent again");
            }
        }
    });
    sender
}
