//! Output. A reader that went away (`skerry user list | head -1`) is no error.

use std::io::Write;

pub(crate) use skerry_core::units::day;

/// Prints text as it is.
pub(crate) fn text(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// Prints a line.
pub(crate) fn line(line: &str) {
    text(&format!("{line}\n"));
}
