//! The log: `tracing` events to standard error.

use std::io::{IsTerminal as _, stderr};

use anyhow::{Context as _, Result};
use tracing_subscriber::{EnvFilter, fmt};

use crate::options::LogFormat;

/// What is logged when `RUST_LOG` says nothing.
const DEFAULT_FILTER: &str = "info";

/// Starts the log of this process.
pub(crate) fn start(format: LogFormat) -> Result<()> {
    let filter = match std::env::var("RUST_LOG") {
        Ok(text) if !text.is_empty() => EnvFilter::try_new(&text).with_context(|| format!("RUST_LOG is `{text}`"))?,
        _ => EnvFilter::new(DEFAULT_FILTER),
    };
    let log = fmt().with_env_filter(filter).with_writer(stderr);
    let started = match format {
        LogFormat::Text => log.with_ansi(stderr().is_terminal()).try_init(),
        LogFormat::Json => log.json().try_init(),
    };
    started.map_err(|error| anyhow::anyhow!("could not start the log: {error}"))
}
