//! Logs: text on a terminal, one JSON object a line elsewhere, always on standard error.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

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
        builder.json().flatten_event(true).try_init()
    } else {
        builder
            .with_ansi(std::io::stderr().is_terminal())
            .try_init()
    };
    if installed.is_err() {
        tracing::debug!("a log subscriber is installed already");
    }
    Ok(())
}
