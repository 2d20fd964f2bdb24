//! Log lines, on standard output.

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt;

use crate::config::{Log, LogFormat};

/// Sends log lines where the configuration says. Does nothing if somebody has done so before.
pub fn start(log: &Log) {
    let filter = EnvFilter::try_new(&log.level).unwrap_or_else(|_| EnvFilter::new("info"));
    let terminal = std::io::IsTerminal::is_terminal(&std::io::stdout());
    let base = fmt().with_env_filter(filter).with_ansi(terminal);
    let started = match log.format {
        LogFormat::Text => base.try_init(),
        LogFormat::Json => base.json().flatten_event(true).try_init(),
        LogFormat::Journald => base.without_time().with_ansi(false).try_init(),
    };
    drop(started);
}
