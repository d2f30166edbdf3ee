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
use crate::http::own_url::OwnUrl;
use crate::kafka::Cluster;
use crate::limits::memory::Budget;
use crate::passthrough::{KafkaClients, NoClients, PrincipalClients};
use crate::schema::Schemas;
use crate::session;
use crate::session::registry::Sessions;
use crate::stream::limits::Streams;
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
    kafka: PrincipalClients,
    auth: Arc<Authenticator>,
    answers: Answers,
    bodies: Bodies,
    sessions: Arc<session::Services>,
    instances: Instances,
    own_url: OwnUrl,
    stopping: CancellationToken,
}

impl Gateway {
    /// Puts the parts together. `stopping` is cancelled when the process is about to stop.
    pub(crate) fn new(
        settings: Settings,
        cluster: Arc<Cluster>,
        schemas: Option<Arc<Schemas>>,
        auth: Authenticator,
        stopping: CancellationToken,
    ) -> Self {
        let budget = Arc::new(Budget::new(settings.limits.buffer_total_bytes));
        let kafka = PrincipalClients::new(&settings, cluster, schemas, &stopping);
        let auth = Arc::new(auth);
        let sessions = session::Services {
            sessions: Sessions::new(&settings, Arc::clone(&budget)),
            streams: Streams::new(&settings, &stopping),
            auth: Arc::clone(&auth),
            kafka: kafka.clone(),
        };
        Self {
            clients: Arc::clone(kafka.own()),
            inner: Arc::new(Inner {
                kafka,
                auth,
                answers: Answers::default(),
                bodies: Bodies::new(&settings.limits, &settings.http),
                sessions: Arc::new(sessions),
                instances: Instances::new(&settings, budget),
                own_url: OwnUrl::new(&settings),
                stopping,
                settings,
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
        let clients = self.inner.kafka.of(principal).await?;
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
        self.inner.kafka.own().cluster.observe();
    }

    /// Waits until what was handed to the producers has its answers, at most `bound` (and a little more to
    /// close what is left); returns how many records are left without one.
    pub async fn close(&self, bound: Duration) -> usize {
        self.inner.kafka.close(bound).await
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
        let answered = self.inner.kafka.own().cluster.probe().await;
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
        let principal = known(parts, "a body")?;
        let part = self.bodies().part(principal);
        body::read_within(part, &self.settings().http, &parts.headers, body).await
    }

    /// The WebSocket sessions.
    pub fn sessions(&self) -> &Sessions {
        &self.inner.sessions.sessions
    }

    /// What sessions are served with.
    pub fn session_services(&self) -> &Arc<session::Services> {
        &self.inner.sessions
    }

    /// The streams of records.
    pub fn streams(&self) -> &Streams {
        &self.inner.sessions.streams
    }

    /// The consumer instances of the REST v2 API.
    pub fn instances(&self) -> &Instances {
        &self.inner.instances
    }

    /// How clients reach this process.
    pub(crate) fn own_url(&self) -> &OwnUrl {
        &self.inner.own_url
    }

    /// Cancelled when the process is about to stop: what would go on for ever ends then.
    pub fn stopping(&self) -> &CancellationToken {
        &self.inner.stopping
    }

    /// The one way to write.
    pub fn writer(&self) -> &Writer {
        &self.clients.writer
    }
}

/// What a handler behind the guard works with: for its principal, whom Kafka may see.
impl FromRequestParts<Gateway> for Gateway {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, gateway: &Gateway) -> Result<Self, ApiError> {
        Ok(gateway.of(known(parts, "Kafka")?).await?)
    }
}

/// Whom the guard has let in, for `what` a handler asks for. Without the guard nobody is known, and nothing
/// is done for nobody.
fn known<'a>(parts: &'a Parts, what: &str) -> Result<&'a Principal, ApiError> {
    parts.extensions.get().ok_or_else(|| {
        ApiError::internal(format_args!(
            "a handler asks for {what} in a request without a principal"
        ))
    })
}
