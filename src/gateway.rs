//! What every handler is given. Built in one place and handed down; there are no globals.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use bytes::Bytes;
use tokio_util::sync::CancellationToken;

use crate::auth::{Authenticator, Principal};
use crate::config::Settings;
use crate::consumer::registry::Instances;
use crate::http::body::{self, Bodies};
use crate::http::error::ApiError;
use crate::http::idempotency::Answers;
use crate::kafka::Cluster;
use crate::limits::memory::Budget;
use crate::passthrough::{KafkaClients, NoClients, PrincipalClients};
use crate::session::registry::Sessions;
use crate::stream::registry::Streams;
use crate::write::Writer;

/// The parts that handlers work with. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Gateway {
    inner: Arc<Inner>,
    /// What it works with for whoever asks.
    clients: Arc<KafkaClients>,
}

#[derive(Debug)]
struct Inner {
    settings: Settings,
    /// The gateway's own.
    own: Arc<KafkaClients>,
    /// `None`: Kafka sees the gateway alone.
    of_principals: Option<PrincipalClients>,
    auth: Authenticator,
    answers: Answers,
    bodies: Bodies,
    sessions: Sessions,
    streams: Streams,
    instances: Instances,
    stopping: CancellationToken,
}

impl Gateway {
    /// Puts the parts together. `stopping` is cancelled when the process is about to stop.
    pub fn new(
        settings: Settings,
        cluster: Arc<Cluster>,
        auth: Authenticator,
        stopping: CancellationToken,
    ) -> Self {
        let budget = Arc::new(Budget::new(settings.limits.buffer_total_bytes));
        let sessions = Sessions::new(&settings, Arc::clone(&budget));
        let streams = Streams::new(&settings);
        let instances = Instances::new(&settings, budget);
        let bodies = Bodies::new(&settings.limits, &settings.http);
        let of_principals = PrincipalClients::new(&settings, &cluster, &stopping);
        let own = Arc::new(KafkaClients::new(cluster, &settings));
        Self {
            clients: Arc::clone(&own),
            inner: Arc::new(Inner {
                settings,
                own,
                of_principals,
                auth,
                answers: Answers::default(),
                bodies,
                sessions,
                streams,
                instances,
                stopping,
            }),
        }
    }

    /// The settings that the process was started with.
    pub fn settings(&self) -> &Settings {
        &self.inner.settings
    }

    /// The same, which works with Kafka as `principal` where Kafka is to see who asks (`kafka.identity`).
    ///
    /// # Errors
    ///
    /// [`NoClients`].
    pub async fn of(&self, principal: &Principal) -> Result<Self, NoClients> {
        let clients = match &self.inner.of_principals {
            Some(all) => all.of(principal).await?,
            None => Arc::clone(&self.inner.own),
        };
        Ok(Self {
            inner: Arc::clone(&self.inner),
            clients,
        })
    }

    /// Kafka: metadata, reading, administration.
    pub fn cluster(&self) -> &Cluster {
        &self.clients.cluster
    }

    /// What it works with, for what outlives the request.
    pub fn clients(&self) -> &Arc<KafkaClients> {
        &self.clients
    }

    /// Puts what is true of the Kafka clients at this moment into the metrics.
    pub fn observe(&self) {
        self.inner.own.cluster.observe();
    }

    /// Waits until what was handed to the producers has its answers, at most `bound` (and a little more to
    /// close what is left); returns how many records are left without one.
    pub async fn close(&self, bound: Duration) -> usize {
        let own = self.inner.own.cluster.close(bound);
        let of_principals = async {
            match &self.inner.of_principals {
                Some(all) => all.close_all(bound).await,
                None => 0,
            }
        };
        let (own, of_principals) = tokio::join!(own, of_principals);
        own + of_principals
    }

    /// Who is asking.
    pub fn auth(&self) -> &Authenticator {
        &self.inner.auth
    }

    /// The answers that are kept for `Idempotency-Key`.
    pub fn answers(&self) -> &Answers {
        &self.inner.answers
    }

    /// Whether requests are welcome: Kafka has answered lately, and the process is not about to stop.
    ///
    /// # Errors
    ///
    /// Why they are not, for whoever asks about health.
    pub async fn ready(&self) -> Result<(), String> {
        if self.stopping().is_cancelled() {
            return Err("the gateway is stopping".to_owned());
        }
        let answered = self.inner.own.cluster.probe().await;
        answered.map_err(|fault| format!("Kafka: {fault}"))
    }

    /// The bodies of requests that wait in memory.
    pub fn bodies(&self) -> &Bodies {
        &self.inner.bodies
    }

    /// The whole body of a request, whose principal the guard has found.
    ///
    /// # Errors
    ///
    /// As [`body::read`].
    pub async fn body(&self, parts: &Parts, body: Body) -> Result<Bytes, ApiError> {
        // Without the guard nobody is known, and nobody's body is read.
        let principal = parts.extensions.get::<Principal>();
        let principal = principal.ok_or_else(|| {
            ApiError::internal("a body is to be read of a request without a principal")
        })?;
        let part = self.bodies().part(principal);
        body::read_within(part, &self.settings().http, &parts.headers, body).await
    }

    /// The WebSocket sessions.
    pub fn sessions(&self) -> &Sessions {
        &self.inner.sessions
    }

    /// The streams of records.
    pub fn streams(&self) -> &Streams {
        &self.inner.streams
    }

    /// The consumer instances of the compatible REST API.
    pub fn instances(&self) -> &Instances {
        &self.inner.instances
    }

    /// Cancelled when the process is about to stop: what would go on for ever ends then.
    pub fn stopping(&self) -> &CancellationToken {
        &self.inner.stopping
    }

    /// The one way to write.
    pub fn writer(&self) -> &Writer {
        &self.clients.writer
    }

    /// The same for what the gateway writes as itself, whoever asks.
    pub fn own_writer(&self) -> &Writer {
        &self.inner.own.writer
    }
}

/// What a handler behind the guard works with: for its principal, whom Kafka may see.
impl FromRequestParts<Gateway> for Gateway {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, gateway: &Gateway) -> Result<Self, ApiError> {
        // Without the guard nobody is known, and nothing is done for nobody.
        let principal = parts.extensions.get::<Principal>();
        let principal = principal.ok_or_else(|| {
            ApiError::internal("a handler asks for Kafka clients without a principal")
        })?;
        Ok(gateway.of(principal).await?)
    }
}
