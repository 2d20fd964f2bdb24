//! Log lines, on standard output.

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt;

use crate::config::{Log, LogFormat};

/// The rules of rooms explain themselves event by event, as a warning where one loses in a fork,
/// which anybody can bring about: only who names them in `log.level` gets that.
const QUIET: &str = "ruma_state_res=error";

/// Sends log lines where the configuration says. Does nothing if somebody has done so before.
pub fn start(log: &Log) {
    let filter = EnvFilter::try_new(format!("{QUIET},{}", log.level))
        .unwrap_or_else(|_| EnvFilter::new(format!("{QUIET},info")));
    let terminal = std::io::IsTerminal::is_terminal(&std::io::stdout());
    let base = fmt().with_env_filter(filter).with_ansi(terminal);
    let started = match log.format {
        LogFormat::Text => base.try_init(),
        LogFormat::Json => base.json().flatten_event(true).try_init(),
        LogFormat::Journald => base.without_time().with_ansi(false).try_init(),
    };
    drop(started);
}
