//! The TCP connection under a request, as far as a handler may deal with it: how many bytes have
//! gone out, and an end by force.
//!
//! HTTP needs neither. A WebSocket session does: it must tell a peer that reads slowly from one that
//! has stopped, and must not leave a megabyte in the system's hands for the latter.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::task::AtomicWaker;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::held_back::Refused;

/// The handle, in each request's extensions. Over HTTP/2 several requests share a connection, and
/// its end is the end of all of them.
#[derive(Debug, Default)]
pub struct Connection {
    written: AtomicU64,
    flushes: AtomicU64,
    aborted: AtomicBool,
    timed_out: AtomicBool,
    over: AtomicBool,
    refused: Refused,
    reader: AtomicWaker,
    writer: AtomicWaker,
}

impl Connection {
    /// Bytes that the system has taken so far, as they go over the network: with TLS, encrypted ones.
    pub fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    /// How often all that was to be written has been handed to the system. Over HTTP/1 a body whose
    /// last piece was taken before a flush has gone out with it.
    pub fn flushes(&self) -> u64 {
        self.flushes.load(Ordering::Acquire)
    }

    /// How its requests have been answered.
    pub fn refused(&self) -> &Refused {
        &self.refused
    }

    /// Whether the connection is gone: nothing more goes out.
    pub fn is_over(&self) -> bool {
        self.over.load(Ordering::Acquire)
    }

    /// From now on reads and writes fail, and when the connection is dropped it is reset: what the
    /// system still holds for the peer is thrown away.
    pub fn abort(&self) {
        self.aborted.store(true, Ordering::Release);
        self.reader.wake();
        self.writer.wake();
    }

    /// Whether [`abort`](Self::abort) was called.
    pub fn is_aborted(&self) -> bool {
        self.aborted.load(Ordering::Acquire)
    }

    /// Whether the system gave the peer up, because it took nothing for too long
    /// (`TCP_USER_TIMEOUT`) or was gone.
    pub fn has_timed_out(&self) -> bool {
        self.timed_out.load(Ordering::Relaxed)
    }

    fn check(&self) -> io::Result<()> {
        if self.is_aborted() {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        Ok(())
    }

    /// Hands on what an operation came to. One that waits is woken by [`abort`](Self::abort), and
    /// fails if that came first.
    fn or_abort<T>(
        &self,
        came: Poll<io::Result<T>>,
        waker: &AtomicWaker,
        context: &Context<'_>,
    ) -> Poll<io::Result<T>> {
        if let Poll::Ready(Err(error)) = &came
            && error.kind() == io::ErrorKind::TimedOut
        {
            self.timed_out.store(true, Ordering::Relaxed);
        }
        if came.is_pending() {
            waker.register(context.waker());
            if let Err(aborted) = self.check() {
                return Poll::Ready(Err(aborted));
            }
        }
        came
    }

    fn count(&self, written: &Poll<io::Result<usize>>) {
        if let Poll::Ready(Ok(bytes)) = written {
            // No more than 64 bits' worth: a `usize` fits.
            self.written.fetch_add(*bytes as u64, Ordering::Relaxed);
        }
    }
}

/// What can be ended without the peer's consent.
pub trait Reset {
    /// Makes the drop that follows a reset.
    fn reset(&self);
}

impl Reset for TcpStream {
    fn reset(&self) {
        // What fails here leaves an ordinary close, and there is nobody to tell.
        let _ = socket2::SockRef::from(self).set_linger(Some(Duration::ZERO));
    }
}

/// A stream with its [`Connection`], and with what is to be given back when the stream ends (a place among
/// the connections).
#[derive(Debug)]
pub struct ConnectionStream<S: Reset, G = ()> {
    stream: S,
    connection: Arc<Connection>,
    _guard: G,
}

impl<S: Reset, G> ConnectionStream<S, G> {
    /// The stream, watched.
    pub fn new(stream: S, guard: G) -> Self {
        Self {
            stream,
            connection: Arc::default(),
            _guard: guard,
        }
    }

    /// Its handle.
    pub fn connection(&self) -> &Arc<Connection> {
        &self.connection
    }
}

impl<S: Reset, G> Drop for ConnectionStream<S, G> {
    fn drop(&mut self) {
        if self.connection.is_aborted() {
            self.stream.reset();
        }
        self.connection.over.store(true, Ordering::Release);
    }
}

impl<S: Reset + AsyncRead + Unpin, G: Unpin> AsyncRead for ConnectionStream<S, G> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.connection.check()?;
        let read = Pin::new(&mut this.stream).poll_read(context, buffer);
        this.connection
            .or_abort(read, &this.connection.reader, context)
    }
}

impl<S: Reset + AsyncWrite + Unpin, G: Unpin> AsyncWrite for ConnectionStream<S, G> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.connection.check()?;
        let written = Pin::new(&mut this.stream).poll_write(context, bytes);
        this.connection.count(&written);
        this.connection
            .or_abort(written, &this.connection.writer, context)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.connection.check()?;
        let written = Pin::new(&mut this.stream).poll_write_vectored(context, slices);
        this.connection.count(&written);
        this.connection
            .or_abort(written, &this.connection.writer, context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.connection.check()?;
        let flushed = Pin::new(&mut this.stream).poll_flush(context);
        if matches!(flushed, Poll::Ready(Ok(()))) {
            this.connection.flushes.fetch_add(1, Ordering::AcqRel);
        }
        this.connection
            .or_abort(flushed, &this.connection.writer, context)
    }

    /// Nothing is said to a peer that is to be reset.
    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.connection.check()?;
        let shut = Pin::new(&mut this.stream).poll_shutdown(context);
        this.connection
            .or_abort(shut, &this.connection.writer, context)
    }
}

#[cfg(test)]
impl Reset for tokio::io::DuplexStream {
    fn reset(&self) {}
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    async fn pair() -> (ConnectionStream<TcpStream>, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let peer = TcpStream::connect(listener.local_addr().unwrap());
        let (taken, peer) = tokio::join!(listener.accept(), peer);
        (ConnectionStream::new(taken.unwrap().0, ()), peer.unwrap())
    }

    #[tokio::test]
    async fn what_goes_out_is_counted() {
        let (mut ours, mut peer) = pair().await;
        ours.write_all(b"twelve bytes").await.unwrap();
        assert_eq!(ours.connection().written(), 12);
        let connection = Arc::clone(ours.connection());
        let before = connection.flushes();
        ours.flush().await.unwrap();
        assert_eq!(connection.flushes(), before + 1);
        assert!(!connection.is_over());
        let mut read = [0; 12];
        peer.read_exact(&mut read).await.unwrap();
        drop(ours);
        assert_eq!(peer.read(&mut read).await.unwrap(), 0, "an ordinary end");
        assert!(connection.is_over());
    }

    #[tokio::test]
    async fn an_abort_fails_what_waits_and_resets_the_peer() {
        let (mut ours, mut peer) = pair().await;
        let connection = Arc::clone(ours.connection());
        let waiting = tokio::spawn(async move {
            let read = ours.read_u8().await.map_err(|error| error.kind());
            let written = ours.write_u8(1).await.map_err(|error| error.kind());
            (read, written)
        });
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert!(!waiting.is_finished());
        connection.abort();
        let (read, written) = waiting.await.unwrap();
        assert_eq!(read, Err(io::ErrorKind::ConnectionAborted));
        assert_eq!(written, Err(io::ErrorKind::ConnectionAborted));
        let end = peer.read_u8().await.unwrap_err();
        assert_eq!(end.kind(), io::ErrorKind::ConnectionReset);
    }
}
