//! What every handler is given. Built in one place and handed down; there are no globals.

use std::sync::Arc;

use crate::config::Settings;
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
}

impl Gateway {
    /// Puts the parts together.
    pub fn new(settings: Settings, cluster: Arc<Cluster>) -> Self {
        let writer = Writer::new(Arc::clone(&cluster), &settings.limits);
        Self {
            inner: Arc::new(Inner {
                settings,
                cluster,
                writer,
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

    /// The one way to write.
    pub fn writer(&self) -> &Writer {
        &self.inner.writer
    }
}
