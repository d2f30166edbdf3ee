//! One listening socket: takes connections and hands each to its HTTP server, within that one's limit.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpStream, lookup_host};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::ServeError;
use super::connection::{Ends, Full, HttpServer};

/// Connections that the system may hold before they are taken.
const BACKLOG: u32 = 1024;
/// Silence after which the system asks whether the peer is still there, and between such questions.
const KEEPALIVE: Duration = Duration::from_secs(30);
/// What the system keeps of what a peer has no room for. By itself that would be megabytes for each
/// peer that does not read, and a slow peer would look stuck between one megabyte and the next.
#[cfg(target_os = "linux")]
const NOT_SENT: u32 = 128 << 10;
/// Pause after the system refuses a connection, usually because file descriptors ran out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A bound socket.
#[derive(Debug)]
pub(super) struct Listener {
    socket: TcpListener,
    address: SocketAddr,
}

impl Listener {
    /// Binds every address that `addresses` names; `localhost` is two on most systems, of which one
    /// is enough.
    pub(super) async fn bind_all(
        setting: &'static str,
        addresses: &[String],
    ) -> Result<Vec<Self>, ServeError> {
        let mut listeners = Vec::new();
        for address in addresses {
            let listener = Self::bind(address)
                .await
                .map_err(|cause| ServeError::Bind {
                    setting,
                    address: address.clone(),
                    cause,
                })?;
            listeners.push(listener);
        }
        Ok(listeners)
    }

    async fn bind(address: &str) -> std::io::Result<Self> {
        let mut last = std::io::Error::from(std::io::ErrorKind::AddrNotAvailable);
        for candidate in lookup_host(address).await? {
            match listen(candidate) {
                Ok(socket) => {
                    let address = socket.local_addr()?;
                    return Ok(Self { socket, address });
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// The address, with the real port where 0 was asked for.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Takes connections until `closing` is cancelled.
    pub(super) async fn run(
        self,
        server: Arc<HttpServer>,
        connections: TaskTracker,
        closing: CancellationToken,
    ) {
        loop {
            let accepted = tokio::select! {
                () = closing.cancelled() => return,
                accepted = self.socket.accept() => accepted,
            };
            let (stream, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be taken");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let place = match server.place(peer.ip()) {
                Ok(place) => place,
                Err(Full(reason)) => {
                    metrics::counter!("http_connections_refused_total", "reason" => reason)
                        .increment(1);
                    continue;
                }
            };
            tune(&stream, server.patience());
            let server = Arc::clone(&server);
            let closing = closing.clone();
            let ends = Ends {
                peer,
                listener: self.address,
            };
            connections.spawn(async move { server.serve(stream, place, ends, closing).await });
        }
    }
}

fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv6() {
        tokio::net::TcpSocket::new_v6()?
    } else {
        tokio::net::TcpSocket::new_v4()?
    };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Answers go out at once, and a peer that vanished is noticed. One that reads nothing counts as such
/// after `patience`: the system does not tell them apart.
fn tune(stream: &TcpStream, patience: Duration) {
    let _ = stream.set_nodelay(true);
    let socket = SockRef::from(stream);
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE)
        .with_interval(KEEPALIVE);
    let _ = socket.set_tcp_keepalive(&keepalive);
    #[cfg(target_os = "linux")]
    {
        let _ = socket.set_tcp_user_timeout(Some(patience));
        let _ = socket.set_tcp_notsent_lowat(NOT_SENT);
    }
}
