//! The folder of schemas, read again when its files change.
//!
//! Files that refer to each other are rarely replaced in one instant, so a change is taken when nothing more
//! has changed at the next look. A file that cannot be used keeps its last valid version.

use std::sync::Arc;

use metrics::{Counter, Gauge};
use tokio_util::sync::CancellationToken;

use super::LOOK;
use super::stamps::Stamps;
use crate::config::SchemaSettings;
use crate::schema::Schemas;
use crate::schema::folder::{self, Changes};

/// The schemas, and the state of the files that they were read from.
pub(super) struct SchemaFolder {
    schemas: Arc<Schemas>,
    seen: Files,
    failures: Counter,
    invalid: Gauge,
}

/// The state of the folder, or why it cannot be told.
type Files = Result<Stamps, String>;

fn files(schemas: &std::path::Path) -> Files {
    let files = folder::list(schemas)?;
    Ok(Stamps::now(files.iter().map(std::path::PathBuf::as_path)))
}

impl SchemaFolder {
    /// Reads them; `None` when the settings name no folder.
    pub(super) fn load(settings: &SchemaSettings) -> Result<Option<Self>, Vec<String>> {
        // Before the files are read: what changes meanwhile is noticed later.
        let seen = settings.folder.as_deref().map(files);
        let Some((schemas, seen)) = Schemas::load(settings)?.zip(seen) else {
            return Ok(None);
        };
        Ok(Some(Self {
            schemas: Arc::new(schemas),
            seen,
            failures: metrics::counter!("schema_reload_failures_total"),
            invalid: metrics::gauge!("schema_files_invalid"),
        }))
    }

    pub(super) fn schemas(&self) -> Arc<Schemas> {
        Arc::clone(&self.schemas)
    }

    /// Watches the files until `closing`.
    pub(super) async fn watch(self, closing: CancellationToken) {
        let mut taken = self.seen.clone();
        let mut last = taken.clone();
        self.invalid.set(0.0);
        while closing
            .run_until_cancelled(tokio::time::sleep(LOOK))
            .await
            .is_some()
        {
            let schemas = Arc::clone(&self.schemas);
            let (before, at_last_look) = (taken.clone(), last);
            let looked = tokio::task::spawn_blocking(move || {
                let now = files(schemas.path());
                let is_to_be_taken = now != before && now == at_last_look;
                let changes = is_to_be_taken.then(|| schemas.reload());
                (now, changes)
            });
            let Ok((now, changes)) = looked.await else {
                // It panicked, which the panic's own message says, or the runtime ends.
                last = taken.clone();
                continue;
            };
            if let Some(changes) = changes {
                self.tell(&changes);
                taken = now.clone();
            }
            last = now;
        }
    }

    fn tell(&self, changes: &Changes) {
        let Changes {
            taken,
            gone,
            problems,
        } = changes;
        tracing::info!(
            changed = taken.join(", "),
            gone = gone.join(", "),
            "the schemas were read again"
        );
        for problem in problems {
            tracing::error!(
                problem,
                "a changed schema cannot be used: its last valid version stays, if it had one"
            );
        }
        if !problems.is_empty() {
            self.failures.increment(1);
        }
        #[expect(clippy::cast_precision_loss, reason = "files are few")]
        self.invalid.set(problems.len() as f64);
    }
}
