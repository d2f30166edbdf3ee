//! Records on their way to a client, and what became of them.
//!
//! Whoever has a parcel says when all of it was taken; a parcel that is dropped before that was not
//! delivered. One that was taken whole was delivered once the connection has flushed: until then it
//! stands in a buffer of this process, and goes down with the connection.
//!
//! Over HTTP/1 the task that takes a parcel is the one that flushes: it drops the parcel, whatever was
//! between the two (a packer), and flushes after that. Over HTTP/2 these are two tasks, and the flush may
//! come before the drop, so that the last piece counts as the moment: up to 32 KiB of an answer, which the
//! connection has in its own buffers, may then be taken for written when they are not.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use tokio::sync::Notify;

use crate::http::connection::Connection;
use crate::record::ConsumerRecord;

const ON_ITS_WAY: u8 = 0;
const TAKEN: u8 = 1;
const LOST: u8 = 2;

/// What became of a parcel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
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
    way: Option<Way>,
    settled: Notify,
}

/// The connection that a parcel goes over.
#[derive(Debug, Clone)]
pub struct Way {
    /// The connection.
    pub connection: Arc<Connection>,
    /// Whether others go over it at the same time, as over HTTP/2.
    pub is_shared: bool,
}

/// The records.
#[derive(Debug)]
pub struct Parcel {
    records: Arc<Vec<ConsumerRecord>>,
    /// The name of the answer.
    delivery: String,
    taken: bool,
    shared: Arc<Shared>,
}

/// Knows what becomes of a parcel.
#[derive(Debug)]
pub struct Receipt(Arc<Shared>);

impl Parcel {
    /// `records` for the client at the other end of `way`, as the answer `delivery`.
    pub fn new(
        records: Arc<Vec<ConsumerRecord>>,
        delivery: String,
        way: Option<Way>,
    ) -> (Self, Receipt) {
        let shared = Arc::new(Shared {
            state: AtomicU8::new(ON_ITS_WAY),
            flushes: AtomicU64::new(0),
            way,
            settled: Notify::new(),
        });
        let receipt = Receipt(Arc::clone(&shared));
        let parcel = Self {
            records,
            delivery,
            taken: false,
            shared,
        };
        (parcel, receipt)
    }

    /// The records.
    pub fn records(&self) -> &[ConsumerRecord] {
        &self.records
    }

    /// The name of the answer.
    pub fn delivery(&self) -> &str {
        &self.delivery
    }

    /// The last piece was taken.
    pub fn is_taken(&mut self) {
        self.taken = true;
        self.shared.count_flushes(true);
    }
}

impl Drop for Parcel {
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
        if let Some(way) = &self.way
            && way.is_shared == is_last_piece
        {
            self.flushes
                .store(way.connection.flushes(), Ordering::Relaxed);
        }
    }
}

impl Receipt {
    /// What is known now.
    pub fn fate(&self) -> Fate {
        let shared = &self.0;
        match shared.state.load(Ordering::Acquire) {
            ON_ITS_WAY => Fate::Open,
            LOST => Fate::Lost,
            _ => match &shared.way {
                None => Fate::Written,
                Some(Way { connection, .. }) => {
                    // Asked first: the last flush comes before the end.
                    let is_over = connection.is_over();
                    if connection.flushes() > shared.flushes.load(Ordering::Relaxed) {
                        Fate::Written
                    } else if is_over {
                        Fate::Lost
                    } else {
                        Fate::Open
                    }
                }
            },
        }
    }

    /// Waits until the parcel was taken whole or dropped.
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
    use crate::http::connection::ConnectionStream;

    fn wired() -> (ConnectionStream<DuplexStream>, DuplexStream) {
        let (ours, peer) = tokio::io::duplex(64);
        (ConnectionStream::new(ours, ()), peer)
    }

    fn way(stream: &ConnectionStream<DuplexStream>, is_shared: bool) -> Option<Way> {
        Some(Way {
            connection: Arc::clone(stream.connection()),
            is_shared,
        })
    }

    #[tokio::test]
    async fn over_a_shared_connection_the_flush_may_come_before_the_drop() {
        let (mut stream, _peer) = wired();
        let (mut parcel, receipt) = Parcel::new(Arc::default(), String::new(), way(&stream, true));
        parcel.is_taken();
        stream.flush().await.unwrap();
        drop(parcel);
        assert_eq!(receipt.fate(), Fate::Written);
    }

    #[tokio::test]
    async fn what_was_taken_is_delivered_when_the_connection_has_flushed() {
        let (mut stream, _peer) = wired();
        let (mut parcel, receipt) = Parcel::new(Arc::default(), String::new(), way(&stream, false));
        stream.flush().await.unwrap();
        assert_eq!(receipt.fate(), Fate::Open);
        parcel.is_taken();
        drop(parcel);
        receipt.settled().await;
        assert_eq!(receipt.fate(), Fate::Open, "it stands in a buffer");
        stream.flush().await.unwrap();
        assert_eq!(receipt.fate(), Fate::Written);
    }

    #[tokio::test]
    async fn what_goes_down_with_the_connection_is_lost() {
        let (stream, _peer) = wired();
        let (mut parcel, receipt) = Parcel::new(Arc::default(), String::new(), way(&stream, false));
        parcel.is_taken();
        drop(parcel);
        drop(stream);
        assert_eq!(receipt.fate(), Fate::Lost);
    }

    #[test]
    fn what_was_not_taken_whole_is_lost() {
        let (parcel, receipt) = Parcel::new(Arc::default(), String::new(), None);
        assert_eq!(receipt.fate(), Fate::Open);
        drop(parcel);
        assert_eq!(receipt.fate(), Fate::Lost);
    }
}
