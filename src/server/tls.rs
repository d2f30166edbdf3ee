//! TLS of both listeners: the handshake, within a time limit, and certificates that are read again
//! when their files change.
//!
//! A change makes a new configuration for the connections that come; those that are open keep the
//! one that they began with, so that none is dropped. Files that cannot be used leave things as
//! they are.

mod files;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;
use rustls::ServerConfig;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;

use crate::auth::certificate::{ClientCertificate, Unusable};
use crate::config::TlsSettings;
use crate::server::LOOK;
use crate::server::stamps::Stamps;
use crate::transport::connection::ConnectionStream;
use files::Loaded;

pub use files::TlsError;

/// Encrypted bytes that wait for a slow reader, for each connection: two full records.
const SEND_BUFFER: usize = 32 << 10;
/// Bounds on being polite to a client that speaks plain HTTP.
const FAREWELL: Duration = Duration::from_secs(1);
const FAREWELL_BYTES: usize = 64 << 10;

/// What a listener that speaks TLS needs.
#[derive(Debug)]
pub(super) struct Tls {
    settings: TlsSettings,
    /// The state of the files at start.
    seen: Stamps,
    current: RwLock<Arc<ServerConfig>>,
}

/// A connection after the handshake.
#[derive(Debug)]
pub(super) struct Secured<G> {
    pub(super) stream: TlsStream<ConnectionStream<TcpStream, G>>,
    /// What ALPN has decided; without ALPN it is HTTP/1.1.
    pub(super) http2: bool,
    pub(super) certificate: Option<ClientCertificate>,
}

/// Why there was no handshake.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("no TLS handshake in time")]
    Slow,
    #[error("plain HTTP on a TLS port")]
    Plain,
    #[error("{0}")]
    Handshake(#[from] io::Error),
    #[error("{0}")]
    Certificate(#[from] Unusable),
}

/// Says what is wrong with the files, if anything is.
///
/// # Errors
/// [`TlsError`]: the listeners could not start with them.
pub fn check(settings: &TlsSettings) -> Result<(), TlsError> {
    files::load(settings).map(drop)
}

impl Tls {
    /// Reads the files; `None` when the settings name none.
    pub(super) fn load(settings: &TlsSettings) -> Result<Option<Arc<Self>>, TlsError> {
        // Before the files are read: what changes meanwhile is noticed later.
        let seen = Stamps::now(settings.files());
        let Some(loaded) = files::load(settings)? else {
            return Ok(None);
        };
        warn_of_end(&loaded);
        Ok(Some(Arc::new(Self {
            settings: settings.clone(),
            seen,
            current: RwLock::new(Arc::new(loaded.config)),
        })))
    }

    /// The handshake of a new connection, to its end or the deadline.
    /// `guard` is dropped with the stream.
    pub(super) async fn accept<G: Unpin>(
        &self,
        stream: TcpStream,
        guard: G,
        deadline: Instant,
    ) -> Result<Secured<G>, Failure> {
        let mut first = [0];
        let seen = timeout_at(deadline, stream.peek(&mut first)).await;
        if seen.map_err(|_| Failure::Slow)?? == 0 {
            return Err(Failure::Handshake(io::ErrorKind::UnexpectedEof.into()));
        }
        // No TLS record begins with a letter, each method of HTTP does.
        if first[0].is_ascii_alphabetic() {
            let _ = timeout(FAREWELL, answer_plainly(stream)).await;
            return Err(Failure::Plain);
        }
        let acceptor = TlsAcceptor::from(Arc::clone(&self.current.read()));
        let handshake = acceptor.accept_with(ConnectionStream::new(stream, guard), |connection| {
            connection.set_buffer_limit(Some(SEND_BUFFER));
        });
        let stream = timeout_at(deadline, handshake)
            .await
            .map_err(|_| Failure::Slow)??;
        let (_, session) = stream.get_ref();
        let http2 = session.alpn_protocol() == Some(files::H2);
        let shown = session.peer_certificates().and_then(<[_]>::first);
        let certificate = shown.map(|der| ClientCertificate::read(der)).transpose()?;
        Ok(Secured {
            stream,
            http2,
            certificate,
        })
    }

    /// Watches the files until `closing`.
    pub(super) async fn watch(self: Arc<Self>, closing: CancellationToken) {
        let mut seen = self.seen.clone();
        let mut problem = None;
        while closing
            .run_until_cancelled(tokio::time::sleep(LOOK))
            .await
            .is_some()
        {
            let settings = self.settings.clone();
            let before = seen.clone();
            let looked = tokio::task::spawn_blocking(move || {
                let now = Stamps::now(settings.files());
                let read = (now != before).then(|| files::load(&settings));
                (now, read)
            });
            let Ok((now, read)) = looked.await else {
                // It panicked, which the panic's own message says, or the runtime ends.
                continue;
            };
            seen = now;
            match read {
                Some(Ok(Some(loaded))) => {
                    problem = None;
                    tracing::info!("the certificates were read again");
                    warn_of_end(&loaded);
                    *self.current.write() = Arc::new(loaded.config);
                }
                // A certificate and its key are rarely replaced in one instant: it is a problem
                // only if nothing has changed at the next look.
                Some(Err(error)) => problem = Some(error),
                Some(Ok(None)) => {}
                None => {
                    if let Some(error) = problem.take() {
                        metrics::counter!("tls_reload_failures_total").increment(1);
                        tracing::warn!(%error, "changed certificates cannot be used: the old ones stay");
                    }
                }
            }
        }
    }
}

/// A listener whose certificate has ended works for nobody who checks it.
fn warn_of_end(loaded: &Loaded) {
    let Some(ends) = loaded
        .ends
        .and_then(|ends| jiff::Timestamp::from_second(ends).ok())
    else {
        return;
    };
    if ends < jiff::Timestamp::now() {
        tracing::warn!(%ends, "tls.cert has expired");
    }
}

/// Tells a client that speaks plain HTTP what to do instead, and closes in such a way that it can
/// read that: with bytes of its own unread, the system would cut the connection.
async fn answer_plainly(mut stream: TcpStream) -> io::Result<()> {
    let body = "{\"error_code\":400,\"message\":\"this port speaks TLS: use https\"}\n";
    let answer = format!(
        "HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await?;
    let mut unread = [0; 4096];
    let mut left = FAREWELL_BYTES;
    while left > 0 {
        match stream.read(&mut unread).await? {
            0 => break,
            count => left = left.saturating_sub(count),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
