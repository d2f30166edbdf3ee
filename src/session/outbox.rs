//! Frames on their way into a socket. A server's frames are a short head and the text as it is, so
//! they are written from where they were made: the library that reads frames would copy each into a
//! buffer that never shrinks, which ten thousand sessions could not afford.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use tokio::io::AsyncWrite;

/// Texts up to this are copied behind each other, so that many go out in one write.
const SMALL: usize = 2 << 10;
/// How much is gathered before it is written.
const GATHERED: usize = 16 << 10;
/// What an empty outbox keeps.
const KEPT: usize = 4 << 10;

/// First bytes of frames that are one message each.
const TEXT: u8 = 0x81;
const CLOSE: u8 = 0x88;
const PING: u8 = 0x89;

/// The frames that the socket has not taken yet: heads and small texts, and behind them at most one
/// large text.
#[derive(Debug, Default)]
pub struct Outbox {
    gathered: Vec<u8>,
    sent: usize,
    large: Bytes,
}

impl Outbox {
    /// Whether the socket has taken everything.
    pub fn is_empty(&self) -> bool {
        self.sent == self.gathered.len() && self.large.is_empty()
    }

    /// Whether it must be written before more is put in.
    pub fn is_full(&self) -> bool {
        !self.large.is_empty() || self.gathered.len() >= GATHERED
    }

    /// A text frame; not while it is full.
    pub fn text(&mut self, text: Bytes) {
        self.head(TEXT, text.len());
        if text.len() <= SMALL {
            self.gathered.extend_from_slice(&text);
        } else {
            self.large = text;
        }
    }

    /// A ping; not while it is full.
    pub fn ping(&mut self) {
        self.head(PING, 0);
    }

    /// A close frame; without a code where the peer's had none. Not while it is full.
    pub fn close(&mut self, code: Option<u16>, reason: &str) {
        let Some(code) = code else {
            return self.head(CLOSE, 0);
        };
        self.head(CLOSE, 2 + reason.len());
        self.gathered.extend_from_slice(&code.to_be_bytes());
        self.gathered.extend_from_slice(reason.as_bytes());
    }

    /// Whole frames that somebody else has made; not while it is full.
    pub fn frames(&mut self, frames: &[u8]) {
        self.gathered.extend_from_slice(frames);
    }

    fn head(&mut self, first: u8, length: usize) {
        self.gathered.push(first);
        match (u8::try_from(length), u16::try_from(length)) {
            (Ok(length @ ..126), _) => self.gathered.push(length),
            (_, Ok(length)) => {
                self.gathered.push(126);
                self.gathered.extend_from_slice(&length.to_be_bytes());
            }
            _ => {
                self.gathered.push(127);
                let length = length as u64;
                self.gathered.extend_from_slice(&length.to_be_bytes());
            }
        }
    }

    /// Writes all that there is. What is left when this waits goes on where it stopped.
    pub fn poll_write(
        &mut self,
        mut stream: Pin<&mut (impl AsyncWrite + ?Sized)>,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        while !self.is_empty() {
            let gathered = self.gathered.get(self.sent..).unwrap_or_default();
            let written = if gathered.is_empty() {
                stream.as_mut().poll_write(context, &self.large)
            } else if self.large.is_empty() {
                stream.as_mut().poll_write(context, gathered)
            } else {
                let slices = [IoSlice::new(gathered), IoSlice::new(&self.large)];
                stream.as_mut().poll_write_vectored(context, &slices)
            };
            let written = ready!(written)?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            let of_gathered = written.min(self.gathered.len() - self.sent);
            self.sent += of_gathered;
            self.large.advance(written - of_gathered);
        }
        self.sent = 0;
        self.large = Bytes::new();
        if self.gathered.capacity() > KEPT {
            self.gathered = Vec::new();
        } else {
            self.gathered.clear();
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::AsyncReadExt;
    use tokio_tungstenite::WebSocketStream;
    use tokio_tungstenite::tungstenite::Message;
    use tokio_tungstenite::tungstenite::protocol::Role;

    use futures::StreamExt;

    use super::*;

    #[tokio::test]
    async fn a_client_reads_what_was_put_in() {
        let (mut ours, peer) = tokio::io::duplex(7);
        let mut peer = WebSocketStream::from_raw_socket(peer, Role::Client, None).await;
        let lengths = [
            0,
            1,
            125,
            126,
            127,
            SMALL,
            SMALL + 1,
            65_535,
            65_536,
            300_000,
            3,
        ];
        let text = |length| Bytes::from("x".repeat(length));
        let writer = tokio::spawn(async move {
            let mut outbox = Outbox::default();
            for length in lengths {
                if outbox.is_full() {
                    poll_fn(|c| outbox.poll_write(Pin::new(&mut ours), c))
                        .await
                        .unwrap();
                    assert!(outbox.is_empty() && !outbox.is_full());
                }
                outbox.text(text(length));
            }
            outbox.ping();
            outbox.close(Some(4003), "no_pong");
            poll_fn(|c| outbox.poll_write(Pin::new(&mut ours), c))
                .await
                .unwrap();
            assert!(outbox.gathered.capacity() <= KEPT);
            ours
        });
        for length in lengths {
            let Some(Ok(Message::Text(got))) = peer.next().await else {
                panic!("no text of {length}");
            };
            assert_eq!(got.len(), length);
        }
        assert!(matches!(peer.next().await, Some(Ok(Message::Ping(_)))));
        let Some(Ok(Message::Close(Some(close)))) = peer.next().await else {
            panic!("no close");
        };
        assert_eq!(u16::from(close.code), 4003);
        assert_eq!(close.reason.as_str(), "no_pong");
        let mut ours = writer.await.unwrap();
        let _ = ours.read_u8().await;
    }
}
