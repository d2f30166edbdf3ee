//! One connection: which version of HTTP it speaks, and the limits that hold for it.
//!
//! hyper's connection types are used directly, since `axum::serve` hides the buffer sizes and
//! timeouts that memory per connection and slow clients depend on. The version is found out here
//! under a timeout, because hyper's own detection waits without one; with TLS, ALPN decides it.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use super::activity::Activity;
use super::addresses::{Addresses, Counted};
use super::tls::Tls;
use crate::auth::certificate::ClientCertificate;
use crate::config::Settings;
use crate::transport::client_address::ListenerAddress;
use crate::transport::connection::{Connection, ConnectionStream};
use crate::transport::h2_reset;

/// What a connection of HTTP/2 with prior knowledge starts with (RFC 9113, section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Longest time for the first bytes of a connection, which tell its version. With TLS these are the
/// handshake, and the preface if it is to be HTTP/2.
const FIRST_BYTES: Duration = Duration::from_secs(10);
/// Pause between looks at a preface that has come only in part.
const PREFACE_POLL: Duration = Duration::from_millis(20);
/// HTTP/2: streams at once, bytes buffered for each, and the ping that finds dead peers.
const H2_STREAMS: u32 = 200;
const H2_SEND_BUFFER: usize = 32 << 10;
const H2_PING: Duration = Duration::from_secs(20);
const H2_PONG: Duration = Duration::from_secs(10);
/// How long what was sent may wait for the peer, at least.
const PATIENCE: Duration = Duration::from_secs(30);
/// Connections on the management listener.
const MANAGEMENT_CONNECTIONS: usize = 64;

/// The router behind a listener, and the limits of its connections.
#[derive(Debug)]
pub(super) struct HttpServer {
    router: Router,
    tls: Option<Arc<Tls>>,
    places: Arc<Semaphore>,
    addresses: Option<Addresses>,
    head_bytes: usize,
    head_time: Duration,
    patience: Duration,
    counted: bool,
}

/// Both ends of a connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ends {
    /// Who connected.
    pub(super) peer: SocketAddr,
    /// The address that the listener was bound to.
    pub(super) listener: SocketAddr,
}

/// A connection's place among `limits.connections`, and among those of its address.
#[derive(Debug)]
pub(super) struct Place {
    _permit: OwnedSemaphorePermit,
    _of_address: Option<Counted>,
    /// Last, so that whoever sees in the metric that a place is free finds it free.
    _shown: Shown,
}

/// A connection in the metric, where it is shown there.
#[derive(Debug)]
struct Shown(bool);

/// No place is left; the name of the limit, for the metric.
pub(super) struct Full(pub(super) &'static str);

impl Shown {
    fn new(counted: bool) -> Self {
        if counted {
            metrics::gauge!("http_connections").increment(1.0);
        }
        Self(counted)
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        if self.0 {
            metrics::gauge!("http_connections").decrement(1.0);
        }
    }
}

impl HttpServer {
    /// The public server.
    pub(super) fn new(settings: &Settings, router: Router) -> Self {
        Self {
            router,
            tls: None,
            places: Arc::new(Semaphore::new(settings.limits.connections)),
            addresses: Some(Addresses::new(settings)),
            head_bytes: settings.http.max_header_bytes,
            head_time: settings.http.request_timeout,
            // A session that does not read is to be ended by its own rule, which says why.
            patience: PATIENCE.max(settings.websocket.slow_timeout + Duration::from_secs(10)),
            counted: true,
        }
    }

    /// The management server.
    pub(super) fn management(settings: &Settings, router: Router) -> Self {
        Self {
            places: Arc::new(Semaphore::new(MANAGEMENT_CONNECTIONS)),
            addresses: None,
            counted: false,
            ..Self::new(settings, router)
        }
    }

    /// How long what was sent may wait for the peer before the connection is given up.
    pub(super) fn patience(&self) -> Duration {
        self.patience
    }

    /// The same server, where connections speak TLS if this is some.
    pub(super) fn with_tls(self, tls: Option<Arc<Tls>>) -> Self {
        Self { tls, ..self }
    }

    /// A place for one more connection from this address, if there is one.
    pub(super) fn place(&self, address: IpAddr) -> Result<Place, Full> {
        let permit = Arc::clone(&self.places)
            .try_acquire_owned()
            .map_err(|_| Full("connections"))?;
        let of_address = match &self.addresses {
            None => None,
            Some(addresses) => addresses
                .count(address)
                .map_err(|()| Full("connections_per_address"))?,
        };
        Ok(Place {
            _permit: permit,
            _of_address: of_address,
            _shown: Shown::new(self.counted),
        })
    }

    /// Serves one connection to its end, or until `closing` and the end of what is under way.
    /// `place` is given up with the stream, which may outlive this: a WebSocket goes on with it.
    pub(super) async fn serve(
        &self,
        stream: TcpStream,
        place: Place,
        ends: Ends,
        closing: CancellationToken,
    ) {
        // Each of the ways is a state of its own size, on the heap so that a connection has only its own.
        if let Some(tls) = &self.tls {
            return Box::pin(self.serve_tls(tls, stream, place, ends, closing)).await;
        }
        let version = tokio::select! {
            version = version_of(&stream) => version,
            () = closing.cancelled() => return,
        };
        let stream = ConnectionStream::new(stream, place);
        let service = self.service(ends, stream.connection(), None);
        let ended = match version {
            Some(Version::One) => Box::pin(self.serve_h1(stream, service, closing)).await,
            Some(Version::Two) => Box::pin(self.serve_h2(stream, service, closing)).await,
            None => return,
        };
        if let Err(error) = ended {
            tracing::debug!(peer = %ends.peer, %error, "a connection ended early");
        }
    }

    async fn serve_tls(
        &self,
        tls: &Tls,
        stream: TcpStream,
        place: Place,
        ends: Ends,
        closing: CancellationToken,
    ) {
        let deadline = Instant::now() + FIRST_BYTES;
        let accepted = tokio::select! {
            accepted = tls.accept(stream, place, deadline) => accepted,
            () = closing.cancelled() => return,
        };
        let mut secured = match accepted {
            Ok(secured) => secured,
            Err(failure) => {
                metrics::counter!("tls_handshake_failures_total").increment(1);
                let peer = ends.peer;
                tracing::debug!(%peer, %failure, "a connection without a TLS handshake");
                return;
            }
        };
        let connection = Arc::clone(secured.stream.get_ref().0.connection());
        let service = self.service(ends, &connection, secured.certificate);
        let ended = if secured.http2 {
            let preface = tokio::select! {
                preface = takes_preface(&mut secured.stream, deadline) => preface,
                () = closing.cancelled() => return,
            };
            if !preface {
                return;
            }
            // hyper reads the preface for itself, so it is put back in front.
            let (read, write) = tokio::io::split(secured.stream);
            let stream = tokio::io::join(PREFACE.chain(read), write);
            Box::pin(self.serve_h2(stream, service, closing)).await
        } else {
            Box::pin(self.serve_h1(secured.stream, service, closing)).await
        };
        if let Err(error) = ended {
            tracing::debug!(peer = %ends.peer, %error, "a connection ended early");
        }
    }

    async fn serve_h1<S>(
        &self,
        stream: S,
        service: RouterService,
        closing: CancellationToken,
    ) -> hyper::Result<()>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.head_time)
            .max_buf_size(self.head_bytes)
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades();
        let mut connection = std::pin::pin!(connection);
        tokio::select! {
            ended = connection.as_mut() => ended,
            () = closing.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        }
    }

    async fn serve_h2<S>(
        &self,
        stream: S,
        service: RouterService,
        closing: CancellationToken,
    ) -> hyper::Result<()>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let activity = Activity::default();
        let head_bytes = u32::try_from(self.head_bytes).unwrap_or(u32::MAX);
        let connection = http2::Builder::new(h2_reset::Executor)
            .timer(TokioTimer::new())
            .max_concurrent_streams(H2_STREAMS)
            .max_send_buf_size(H2_SEND_BUFFER)
            .max_header_list_size(head_bytes)
            .keep_alive_interval(H2_PING)
            .keep_alive_timeout(H2_PONG)
            .serve_connection(TokioIo::new(stream), activity.of(service));
        let mut connection = std::pin::pin!(connection);
        tokio::select! {
            ended = connection.as_mut() => ended,
            () = closing.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
            () = activity.idle_for(self.head_time) => {
                connection.as_mut().graceful_shutdown();
                // A peer that does not play its part in this is cut off.
                loop {
                    match timeout(H2_PONG, connection.as_mut()).await {
                        Ok(ended) => return ended,
                        Err(_) if activity.is_idle() => return Ok(()),
                        Err(_) => {}
                    }
                }
            }
        }
    }

    fn service(
        &self,
        ends: Ends,
        connection: &Arc<Connection>,
        certificate: Option<ClientCertificate>,
    ) -> RouterService {
        RouterService {
            router: self.router.clone(),
            ends,
            connection: Arc::clone(connection),
            certificate,
        }
    }
}

/// The router as hyper calls it, with both addresses in each request, and whom the peer's
/// certificate names if it has shown one.
#[derive(Clone)]
struct RouterService {
    router: Router,
    ends: Ends,
    connection: Arc<Connection>,
    certificate: Option<ClientCertificate>,
}

impl hyper::service::Service<Request<Incoming>> for RouterService {
    type Response = axum::response::Response;
    type Error = std::convert::Infallible;
    type Future = axum::routing::future::RouteFuture<Self::Error>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let mut request = request.map(Body::new);
        let Ends { peer, listener } = self.ends;
        let extensions = request.extensions_mut();
        extensions.insert(Arc::clone(&self.connection));
        extensions.insert(ConnectInfo(peer));
        extensions.insert(ListenerAddress(listener));
        if let Some(certificate) = &self.certificate {
            extensions.insert(certificate.clone());
        }
        // A router is always ready.
        tower::Service::call(&mut self.router.clone(), request)
    }
}

enum Version {
    One,
    Two,
}

/// Looks at the first bytes without taking them. `None` when none come in time or the peer is gone.
async fn version_of(stream: &TcpStream) -> Option<Version> {
    let deadline = Instant::now() + FIRST_BYTES;
    let mut first = [0_u8; PREFACE.len()];
    loop {
        let count = timeout_at(deadline, stream.peek(&mut first))
            .await
            .ok()?
            .ok()?;
        let seen = first.get(..count)?;
        if seen.is_empty() {
            return None;
        }
        if seen == PREFACE {
            return Some(Version::Two);
        }
        if !PREFACE.starts_with(seen) {
            return Some(Version::One);
        }
        // Part of the preface, or the `P` of a POST that came alone: look again shortly.
        if Instant::now() + PREFACE_POLL >= deadline {
            return None;
        }
        tokio::time::sleep(PREFACE_POLL).await;
    }
}

/// Takes the preface of HTTP/2 from a connection that ALPN has decided for it: hyper would wait for
/// it without a bound. False when something else comes, or nothing in time.
async fn takes_preface(stream: &mut (impl AsyncRead + Unpin), deadline: Instant) -> bool {
    let mut first = [0_u8; PREFACE.len()];
    let read = timeout_at(deadline, stream.read_exact(&mut first)).await;
    matches!(read, Ok(Ok(_))) && first == PREFACE
}
