//! What every handler is given. Built in one place and handed down; there are no globals.

use std::sync::Arc;

use axum::body::Body;
use axum::http::request::Parts;
use bytes::Bytes;
use tokio_util::sync::CancellationToken;

use crate::api::budget::Budget;
use crate::api::records::follow::registry::Streams;
use crate::api::v2::consumers::registry::Instances;
use crate::api::ws::registry::Sessions;
use crate::auth::{Authenticator, Principal};
use crate::config::Settings;
use crate::http::body::{self, Bodies};
use crate::http::error::ApiError;
use crate::http::idempotency::Answers;
use crate::kafka::Cluster;
use crate::write::Writer;

/// The parts that handlers work with. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Gateway {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    settings: Settings,
    cluster: Arc<Cluster>,
    writer: Writer,
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
        let instances = Instances::new(&settings, Arc::clone(&cluster), budget);
        let bodies = Bodies::new(&settings.limits, &settings.http);
        let writer = Writer::new(Arc::clone(&cluster), &settings);
        Self {
            inner: Arc::new(Inner {
                settings,
                cluster,
                writer,
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

    /// Kafka: metadata, reading, administration.
    pub fn cluster(&self) -> &Cluster {
        &self.inner.cluster
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
        let answered = self.cluster().probe().await;
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
        let principal = principal.ok_or_else(ApiError::internal)?;
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

    /// The consumer instances of the compatible REST door.
    pub fn instances(&self) -> &Instances {
        &self.inner.instances
    }

    /// Cancelled when the process is about to stop: what would go on for ever ends then.
    pub fn stopping(&self) -> &CancellationToken {
        &self.inner.stopping
    }

    /// The one way to write.
    pub fn writer(&self) -> &Writer {
        &self.inner.writer
    }
}
