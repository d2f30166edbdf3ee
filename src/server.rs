//! The process: listeners, connections, graceful drain.
//!
//! Order at start: bind (so that a taken port is the first thing said), connect to Kafka, serve.
//! Order at the end: readiness turns red, no new connections, requests under way get
//! `shutdown_grace_ms`, what was handed to the producer is flushed, the rest is cut. A second signal
//! ends the process at once.

mod activity;
mod addresses;
mod connection;
mod listener;
mod reload;
mod schemas;
mod stamps;
mod tls;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::api::management::{self, Management};
use crate::api::routes;
use crate::auth::Authenticator;
use crate::config::{KafkaIdentity, Settings};
use crate::consumer::registry::Instances;
use crate::gateway::Gateway;
use crate::kafka::Cluster;
use crate::observe;
use crate::observe::audit::Audit;
use crate::session::registry::Sessions;
use connection::HttpServer;
use listener::Listener;
use reload::Reload;
use schemas::SchemaFolder;
use tls::Tls;

pub use reload::Sources;
pub use tls::{TlsError, check as check_tls};

/// Longest time for the producer to hand over what is left after the requests have ended.
const LAST_FLUSH: Duration = Duration::from_secs(5);

/// Longest time for the audit log to be written to its end.
const LAST_LINES: Duration = Duration::from_secs(2);

/// Longest time for sessions that were cut to be gone.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// How often files that may be replaced are looked at.
const LOOK: Duration = Duration::from_secs(2);

/// Pause between two rounds of the metrics' upkeep.
const METRICS_UPKEEP: Duration = Duration::from_secs(5);

/// Why the process could not serve, or not to its end.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// An address cannot be listened on.
    #[error("{setting}: cannot listen on {address}: {cause}")]
    Bind {
        /// The setting that named it.
        setting: &'static str,
        /// The address.
        address: String,
        /// What the system says.
        cause: std::io::Error,
    },
    /// The certificates cannot be used.
    #[error("{0}")]
    Tls(#[from] TlsError),
    /// The Kafka clients cannot be made.
    #[error("{0}")]
    Kafka(#[from] crate::kafka::fault::Fault),
    /// The audit log cannot be opened.
    #[error("telemetry.audit: {0}")]
    Audit(String),
    /// The schemas cannot be used.
    #[error("schema.folder: {}", .0.join("; "))]
    Schemas(Vec<String>),
    /// Keys that tokens are checked with cannot be read.
    #[error("{}", .0.join("; "))]
    Auth(Vec<String>),
    /// Signals, metrics: what only a broken system refuses.
    #[error("{0}")]
    System(String),
    /// A second signal came while requests were under way.
    #[error("stopped at once by a second signal; requests under way were cut")]
    Cut,
}

/// Serves until SIGTERM or SIGINT, then drains. `settings` were read from `sources`, which are read again
/// when they change; `warned` is what the log was told of them.
///
/// # Errors
///
/// [`ServeError`]; all but [`ServeError::Cut`] before anything was served.
pub async fn serve(
    settings: Settings,
    sources: Sources,
    warned: Vec<String>,
) -> Result<(), ServeError> {
    let metrics = observe::metrics::install().map_err(|e| ServeError::System(e.to_string()))?;
    let mut signals = Signals::new()?;
    let hangup = listened_to(SignalKind::hangup())?;
    raise_open_files();
    let public = Listener::bind_all("listen", &settings.server.listen).await?;
    let management_addresses: Vec<String> =
        settings.server.management_listen.iter().cloned().collect();
    let management = Listener::bind_all("management.listen", &management_addresses).await?;
    let tls = Tls::load(&settings.tls)?;
    let reload = Reload::new(sources, &settings, warned);
    let schemas = SchemaFolder::load(&settings.schema).map_err(ServeError::Schemas)?;

    let audit = Audit::open(&settings.telemetry).map_err(ServeError::Audit)?;
    let cluster = Cluster::start(&settings.kafka, &settings.limits, &settings.websocket).await?;
    let cluster = Arc::new(cluster.streaming(&settings.streams));
    let stopping = CancellationToken::new();
    let gateway = Gateway::new(
        settings.clone(),
        Arc::clone(&cluster),
        schemas.as_ref().map(SchemaFolder::schemas),
        Authenticator::new(
            &settings.auth,
            settings.tls.client_ca.is_some(),
            audit.clone(),
            settings.limits.refused_per_second,
        )
        .map_err(ServeError::Auth)?
        .keeping_tokens(settings.kafka.identity == KafkaIdentity::Passthrough),
        stopping.clone(),
    );
    let closing = CancellationToken::new();
    let connections = TaskTracker::new();

    let management_closing = CancellationToken::new();
    tokio::spawn(reload.watch(gateway.clone(), hangup, management_closing.clone()));
    if let Some(schemas) = schemas {
        tokio::spawn(schemas.watch(management_closing.clone()));
    }
    tokio::spawn(upkeep(metrics.clone()));
    let public_addresses = addresses(&public);
    let management_addresses = addresses(&management);
    let router = routes::router(gateway.clone());
    let server = Arc::new(HttpServer::new(&settings, router).with_tls(tls.clone()));
    for listener in public {
        tokio::spawn(listener.run(Arc::clone(&server), connections.clone(), closing.clone()));
    }
    let kafka = gateway.clone();
    let sessions = gateway.sessions().clone();
    let instances = gateway.instances().clone();
    let router: Router = management::router(Management {
        gateway,
        metrics,
        process: observe::metrics::process(),
    });
    let management_server =
        Arc::new(HttpServer::management(&settings, router).with_tls(tls.clone()));
    let management_connections = TaskTracker::new();
    for listener in management {
        tokio::spawn(listener.run(
            Arc::clone(&management_server),
            management_connections.clone(),
            management_closing.clone(),
        ));
    }
    let scheme = if tls.is_some() { "https" } else { "http" };
    if let Some(tls) = tls {
        tokio::spawn(tls.watch(management_closing.clone()));
    }
    announce(scheme, &public_addresses, &management_addresses, &cluster);

    signals.next().await;
    tracing::info!("stopping: requests under way may finish");
    stopping.cancel();
    sessions.drain(settings.server.shutdown_grace);
    instances.drain();
    closing.cancel();
    connections.close();
    let drained = tokio::select! {
        () = drain(&connections, &sessions, &instances, settings.server.shutdown_grace, &kafka) => Ok(()),
        () = signals.next() => Err(ServeError::Cut),
    };
    management_closing.cancel();
    if let Some(audit) = audit {
        audit.flush(LAST_LINES).await;
    }
    drained
}

/// Waits for the requests and sessions under way, then for what was handed to the producer.
async fn drain(
    connections: &TaskTracker,
    sessions: &Sessions,
    instances: &Instances,
    grace: Duration,
    kafka: &Gateway,
) {
    let all = async {
        connections.wait().await;
        sessions.tasks().wait().await;
        instances.tasks().wait().await;
    };
    if tokio::time::timeout(grace, all).await.is_err() {
        tracing::warn!(
            open = connections.len(),
            sessions = sessions.count(),
            instances = instances.count(),
            "connections were cut after the grace period"
        );
        sessions.cut();
        let _ = tokio::time::timeout(LAST_WORDS, sessions.tasks().wait()).await;
    }
    let left = kafka.close(LAST_FLUSH).await;
    if left > 0 {
        tracing::warn!(
            records = left,
            "records without an answer from Kafka at the end"
        );
    }
}

/// A socket is an open file, and the limit that a process begins with is often a thousand.
fn raise_open_files() {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let raised = rustix::process::Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    if limit.current == limit.maximum {
        return;
    }
    match rustix::process::setrlimit(rustix::process::Resource::Nofile, raised) {
        Ok(()) => tracing::info!(limit = limit.maximum, "the limit of open files was raised"),
        Err(error) => tracing::warn!(%error, "the limit of open files could not be raised"),
    }
}

/// The recorder keeps every duration until it is told to sort them into buckets. Scrapes tell it too,
/// but not everyone scrapes.
async fn upkeep(metrics: PrometheusHandle) {
    let mut ticks = tokio::time::interval(METRICS_UPKEEP);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        metrics.run_upkeep();
    }
}

/// The one line that scripts wait for. It is not a log line: it always comes, in this form.
fn announce(scheme: &str, public: &[SocketAddr], management: &[SocketAddr], cluster: &Cluster) {
    let list = |addresses: &[SocketAddr]| {
        addresses
            .iter()
            .map(|address| format!("{scheme}://{address}"))
            .collect::<Vec<_>>()
            .join(",")
    };
    let management = if management.is_empty() {
        "off".to_owned()
    } else {
        list(management)
    };
    if cluster.is_embedded() {
        eprintln!(
            "no Kafka is configured: this is a trial on an embedded broker, in memory, gone at exit \
             (use --bootstrap-servers for a real one)"
        );
    }
    eprintln!(
        "tidegate ready listen={} management={management} broker={}",
        list(public),
        cluster.bootstrap_servers()
    );
}

fn addresses(listeners: &[Listener]) -> Vec<SocketAddr> {
    listeners.iter().map(Listener::address).collect()
}

fn listened_to(kind: SignalKind) -> Result<Signal, ServeError> {
    signal(kind).map_err(|error| ServeError::System(format!("signals: {error}")))
}

/// SIGTERM and SIGINT. Once they are listened to, neither ends the process by itself any more.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> Result<Self, ServeError> {
        Ok(Self {
            terminate: listened_to(SignalKind::terminate())?,
            interrupt: listened_to(SignalKind::interrupt())?,
        })
    }

    /// Waits for the next of them.
    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
