//! Logs: text on a terminal, one JSON object a line elsewhere, always on standard error.

use std::io::IsTerminal;

use tracing::{Level, Metadata};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::{LogFormat, TelemetrySettings};

/// Installs the subscriber for the whole process. A second call has no effect.
///
/// # Errors
///
/// `telemetry.log_level` is not a filter.
pub fn install(settings: &TelemetrySettings) -> Result<(), String> {
    let filter = EnvFilter::try_new(&settings.log_level).map_err(|error| {
        format!("not a log filter such as info or tidegate=debug,info: {error}")
    })?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    let json = match settings.log_format {
        LogFormat::Json => true,
        LogFormat::Text => false,
        LogFormat::Auto => !std::io::stderr().is_terminal(),
    };
    let installed = if json {
        let subscriber = builder.json().flatten_event(true).finish();
        subscriber.with(filter_fn(keeps_secrets)).try_init()
    } else {
        let subscriber = builder.with_ansi(std::io::stderr().is_terminal()).finish();
        subscriber.with(filter_fn(keeps_secrets)).try_init()
    };
    if installed.is_err() {
        tracing::debug!("a log subscriber is installed already");
    }
    Ok(())
}

/// What reads WebSocket frames writes them out at its lowest level, with the tokens that are in them.
fn keeps_secrets(metadata: &Metadata<'_>) -> bool {
    *metadata.level() != Level::TRACE || !metadata.target().starts_with("tungstenite")
}
