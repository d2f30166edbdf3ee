//! Settings that are read again while the gateway runs: on SIGHUP, and when the settings file or a file
//! with keys that it names has changed.
//!
//! All of it is read and judged as at start. Only if nothing is wrong, what may change is taken over
//! (`Settings::take_over`); else everything stays as it was.

use std::path::PathBuf;
use std::sync::Arc;

use tokio::signal::unix::Signal;
use tokio_util::sync::CancellationToken;

use super::LOOK;
use super::stamps::Stamps;
use crate::config::{ConfigError, Loaded, Settings};
use crate::gateway::Gateway;

/// Reads the settings from where they came from at start, with every rule.
pub type Read = dyn Fn() -> Result<Loaded, Vec<ConfigError>> + Send + Sync;

/// Where the settings came from.
pub struct Sources {
    read: Box<Read>,
    /// What of them is to be warned of.
    warnings: fn(&Loaded) -> Vec<String>,
    /// The settings file, which need not be there.
    file: PathBuf,
    /// Its state before it was read.
    seen: Stamps,
}

impl std::fmt::Debug for Sources {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sources")
            .field("file", &self.file)
            .finish_non_exhaustive()
    }
}

impl Sources {
    /// To be made before the settings are read for the first time, so that no change is missed.
    pub fn new(file: PathBuf, read: Box<Read>, warnings: fn(&Loaded) -> Vec<String>) -> Self {
        let seen = Stamps::now([file.as_path()]);
        Self {
            read,
            warnings,
            file,
            seen,
        }
    }

    /// Reads them.
    ///
    /// # Errors
    /// Everything that is wrong.
    pub fn read(&self) -> Result<Loaded, Vec<ConfigError>> {
        (self.read)()
    }
}

/// Keeps a gateway's settings as they are in their sources, as far as they may change.
pub(super) struct Reload {
    sources: Arc<Sources>,
    /// What holds now.
    running: Settings,
    seen: Stamps,
    failed: Option<Failed>,
    /// Settings that differ and need a restart, as they were told last.
    told: Vec<String>,
    warned: Vec<String>,
}

/// What is wrong with the last change. Files that belong together are rarely replaced in one instant, so it
/// is told if it is still so at the next look. And a file that is missing may come, so the next look reads
/// again, whatever has changed.
struct Failed {
    problem: String,
    is_told: bool,
}

/// What reading again came to.
enum Outcome {
    Same,
    TakenOver(Box<TakenOver>),
    Refused(String),
}

struct TakenOver {
    running: Settings,
    need_restart: Vec<String>,
    warnings: Vec<String>,
}

impl Reload {
    /// To be made before key files are read for the first time. `warned` is what was warned of at start.
    pub(super) fn new(sources: Sources, running: &Settings, warned: Vec<String>) -> Self {
        let seen = Stamps::now(running.auth.files()).and(sources.seen.clone());
        Self {
            sources: Arc::new(sources),
            running: running.clone(),
            seen,
            failed: None,
            told: Vec::new(),
            warned,
        }
    }

    /// Looks until `closing`.
    pub(super) async fn watch(
        mut self,
        gateway: Gateway,
        mut hangup: Signal,
        closing: CancellationToken,
    ) {
        loop {
            let asked = tokio::select! {
                () = closing.cancelled() => return,
                Some(()) = hangup.recv() => true,
                () = tokio::time::sleep(LOOK) => false,
            };
            let (sources, running) = (Arc::clone(&self.sources), self.running.clone());
            let (gateway, before) = (gateway.clone(), self.seen.clone());
            let again = asked || self.failed.is_some();
            let looked = tokio::task::spawn_blocking(move || {
                let now =
                    Stamps::now(running.auth.files()).and(Stamps::now([sources.file.as_path()]));
                let outcome = match again || now != before {
                    true => read_again(&sources, running, &gateway),
                    false => Outcome::Same,
                };
                (now, outcome)
            });
            let Ok((now, outcome)) = looked.await else {
                // It panicked, which the panic's own message says, or the runtime ends.
                continue;
            };
            match outcome {
                Outcome::TakenOver(taken) => {
                    self.failed = None;
                    self.tell(*taken, asked);
                }
                Outcome::Refused(problem) => {
                    let before = self.failed.take();
                    let before = before.filter(|failed| failed.problem == problem);
                    let is_new = before.is_none() || now != self.seen;
                    let was_told = before.is_some_and(|failed| failed.is_told);
                    if asked || (!is_new && !was_told) {
                        refuse(&problem);
                    }
                    self.failed = Some(Failed {
                        problem,
                        is_told: asked || was_told || !is_new,
                    });
                }
                Outcome::Same => {}
            }
            self.seen = now;
        }
    }

    fn tell(&mut self, taken: TakenOver, asked: bool) {
        tracing::info!("the settings and the files with keys were read again");
        if !taken.need_restart.is_empty() && (asked || taken.need_restart != self.told) {
            tracing::warn!(
                settings = taken.need_restart.join(", "),
                "these settings have changed and hold only after a restart"
            );
        }
        for warning in &taken.warnings {
            if !self.warned.contains(warning) {
                tracing::warn!("{warning}");
            }
        }
        // Files that are named only now are looked at from the next time on; until then they are new.
        self.running = taken.running;
        self.told = taken.need_restart;
        self.warned = taken.warnings;
    }
}

fn refuse(problem: &str) {
    metrics::counter!("settings_reload_failures_total").increment(1);
    tracing::warn!(
        problem,
        "changed settings or keys cannot be used: everything stays as it was"
    );
}

/// Takes over what the sources say now. Blocking, since files are.
fn read_again(sources: &Sources, mut running: Settings, gateway: &Gateway) -> Outcome {
    let loaded = match sources.read() {
        Ok(loaded) => loaded,
        Err(errors) => {
            let lines: Vec<String> = errors.iter().map(ToString::to_string).collect();
            return Outcome::Refused(lines.join("; "));
        }
    };
    let need_restart = running.take_over(&loaded.settings);
    if let Err(errors) = gateway.auth().reload(&running.auth) {
        return Outcome::Refused(errors.join("; "));
    }
    Outcome::TakenOver(Box::new(TakenOver {
        running,
        need_restart,
        warnings: (sources.warnings)(&loaded),
    }))
}
