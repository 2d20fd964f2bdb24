//! A test whose server logs a warning or an error fails: either something is wrong, or the line
//! should not have been written.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io;
use std::sync::{Arc, Mutex, OnceLock};

use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::MakeWriter;

/// The lines of this process. Tests run side by side in it, so a line may be blamed on the wrong
/// one; it says itself what it is about.
static LINES: OnceLock<Lines> = OnceLock::new();

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<String>>>);

impl io::Write for Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0
            .lock()
            .unwrap()
            .push(String::from_utf8_lossy(line).into_owned());
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Lines {
    type Writer = Lines;

    fn make_writer(&self) -> Lines {
        self.clone()
    }
}

/// Looks at the log when it is dropped.
pub(crate) struct LogCheck(Lines);

impl LogCheck {
    /// Begins to listen, if nobody does yet.
    pub(crate) fn start() -> LogCheck {
        let lines = LINES.get_or_init(|| {
            let lines = Lines::default();
            let subscriber = tracing_subscriber::fmt()
                .with_max_level(LevelFilter::WARN)
                .with_ansi(false)
                .with_writer(lines.clone())
                .finish();
            // Somebody else may listen already, who then shows the lines.
            let _ = tracing::subscriber::set_global_default(subscriber);
            lines
        });
        LogCheck(lines.clone())
    }
}

impl Drop for LogCheck {
    fn drop(&mut self) {
        let mut lines = std::mem::take(&mut *self.0.0.lock().unwrap());
        // What loses in a fork is said by the library that finds it, and is nothing to be warned of.
        lines.retain(|line| !line.contains(" ruma_state_res::"));
        if !lines.is_empty() && !std::thread::panicking() {
            panic!("unexpected log lines:\n{}", lines.concat());
        }
    }
}
