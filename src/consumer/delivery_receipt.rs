//! Records on their way to a client, and what became of them.
//!
//! Whoever has a delivery says when all of it was taken; one that is dropped before that was not
//! delivered. One that was taken whole was delivered once the connection has flushed: until then it
//! stands in a buffer of this process, and goes down with the connection.
//!
//! Over HTTP/1 the task that takes a delivery is the one that flushes: it drops the delivery, whatever was
//! between the two (a packer), and flushes after that. Over HTTP/2 these are two tasks, and the flush may
//! come before the drop, so that the last piece counts as the moment: up to 32 KiB of an answer, which the
//! connection has in its own buffers, may then be taken for written when they are not.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use tokio::sync::Notify;

use crate::record::ConsumerRecord;
use crate::transport::connection::Connection;

const ON_ITS_WAY: u8 = 0;
const TAKEN: u8 = 1;
const LOST: u8 = 2;

/// What became of a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeliveryStatus {
    /// That is not known yet.
    Open,
    /// It was written to the client.
    Written,
    /// It was not, or not all of it.
    Lost,
}

#[derive(Debug)]
struct Shared {
    state: AtomicU8,
    /// How often the connection had flushed when the last piece was taken.
    flushes: AtomicU64,
    connection_ref: Option<ConnectionRef>,
    settled: Notify,
}

/// The connection that a delivery goes over.
#[derive(Debug, Clone)]
pub struct ConnectionRef {
    /// The connection.
    pub connection: Arc<Connection>,
    /// Whether others go over it at the same time, as over HTTP/2.
    pub is_shared: bool,
}

/// The records of an answer. Dropped before all of them were taken, they are lost.
#[derive(Debug)]
pub struct RecordDelivery {
    records: Arc<Vec<ConsumerRecord>>,
    /// The name of the answer.
    name: String,
    taken: bool,
    shared: Arc<Shared>,
}

/// Knows what becomes of a delivery.
#[derive(Debug)]
pub struct DeliveryReceipt(Arc<Shared>);

impl RecordDelivery {
    /// `records` for the client at the other end of the connection, as the answer of this name.
    pub fn new(
        records: Arc<Vec<ConsumerRecord>>,
        name: String,
        connection_ref: Option<ConnectionRef>,
    ) -> (Self, DeliveryReceipt) {
        let shared = Arc::new(Shared {
            state: AtomicU8::new(ON_ITS_WAY),
            flushes: AtomicU64::new(0),
            connection_ref,
            settled: Notify::new(),
        });
        let receipt = DeliveryReceipt(Arc::clone(&shared));
        let delivery = Self {
            records,
            name,
            taken: false,
            shared,
        };
        (delivery, receipt)
    }

    /// The records.
    pub fn records(&self) -> &[ConsumerRecord] {
        &self.records
    }

    /// The name of the answer.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The last piece was taken.
    pub fn is_taken(&mut self) {
        self.taken = true;
        self.shared.count_flushes(true);
    }
}

impl Drop for RecordDelivery {
    fn drop(&mut self) {
        let shared = &self.shared;
        shared.count_flushes(false);
        let state = if self.taken { TAKEN } else { LOST };
        shared.state.store(state, Ordering::Release);
        shared.settled.notify_one();
    }
}

impl Shared {
    /// Notes how often the connection has flushed by now, if this is the moment for it.
    fn count_flushes(&self, is_last_piece: bool) {
        if let Some(connection_ref) = &self.connection_ref
            && connection_ref.is_shared == is_last_piece
        {
            self.flushes
                .store(connection_ref.connection.flushes(), Ordering::Relaxed);
        }
    }
}

impl DeliveryReceipt {
    /// What is known now.
    pub fn status(&self) -> DeliveryStatus {
        let shared = &self.0;
        match shared.state.load(Ordering::Acquire) {
            ON_ITS_WAY => DeliveryStatus::Open,
            LOST => DeliveryStatus::Lost,
            _ => match &shared.connection_ref {
                None => DeliveryStatus::Written,
                Some(ConnectionRef { connection, .. }) => {
                    // Asked first: the last flush comes before the end.
                    let is_over = connection.is_over();
                    if connection.flushes() > shared.flushes.load(Ordering::Relaxed) {
                        DeliveryStatus::Written
                    } else if is_over {
                        DeliveryStatus::Lost
                    } else {
                        DeliveryStatus::Open
                    }
                }
            },
        }
    }

    /// Waits until the delivery was taken whole or dropped.
    pub async fn settled(&self) {
        if self.0.state.load(Ordering::Acquire) == ON_ITS_WAY {
            self.0.settled.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncWriteExt, DuplexStream};

    use super::*;
    use crate::transport::connection::ConnectionStream;

    fn wired() -> (ConnectionStream<DuplexStream>, DuplexStream) {
        let (ours, peer) = tokio::io::duplex(64);
        (ConnectionStream::new(ours, ()), peer)
    }

    fn connection_ref(
        stream: &ConnectionStream<DuplexStream>,
        is_shared: bool,
    ) -> Option<ConnectionRef> {
        Some(ConnectionRef {
            connection: Arc::clone(stream.connection()),
            is_shared,
        })
    }

    #[tokio::test]
    async fn over_a_shared_connection_the_flush_may_come_before_the_drop() {
        let (mut stream, _peer) = wired();
        let (mut delivery, receipt) =
            RecordDelivery::new(Arc::default(), String::new(), connection_ref(&stream, true));
        delivery.is_taken();
        stream.flush().await.unwrap();
        drop(delivery);
        assert_eq!(receipt.status(), DeliveryStatus::Written);
    }

    #[tokio::test]
    async fn an_answer_is_delivered_when_its_connection_has_flushed_it() {
        let (mut stream, _peer) = wired();
        let (mut delivery, receipt) = RecordDelivery::new(
            Arc::default(),
            String::new(),
            connection_ref(&stream, false),
        );
        stream.flush().await.unwrap();
        assert_eq!(receipt.status(), DeliveryStatus::Open);
        delivery.is_taken();
        drop(delivery);
        receipt.settled().await;
        assert_eq!(
            receipt.status(),
            DeliveryStatus::Open,
            "it stands in a buffer"
        );
        stream.flush().await.unwrap();
        assert_eq!(receipt.status(), DeliveryStatus::Written);
    }

    #[tokio::test]
    async fn an_answer_is_lost_when_its_connection_ends_before_the_flush() {
        let (stream, _peer) = wired();
        let (mut delivery, receipt) = RecordDelivery::new(
            Arc::default(),
            String::new(),
            connection_ref(&stream, false),
        );
        delivery.is_taken();
        drop(delivery);
        drop(stream);
        assert_eq!(receipt.status(), DeliveryStatus::Lost);
    }

    #[test]
    fn an_answer_that_was_dropped_before_its_end_is_lost() {
        let (delivery, receipt) = RecordDelivery::new(Arc::default(), String::new(), None);
        assert_eq!(receipt.status(), DeliveryStatus::Open);
        drop(delivery);
        assert_eq!(receipt.status(), DeliveryStatus::Lost);
    }
}
