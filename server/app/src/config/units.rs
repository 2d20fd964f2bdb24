//! What the machine has.

pub use skerry_core::units::{bytes, duration, show_bytes};

/// A quarter of this machine's memory, at least 128 MiB and at most 1 GiB.
pub(super) fn quarter_of_memory() -> u64 {
    let total = std::fs::read_to_string("/proc/meminfo")
        .ok()
        .and_then(|text| {
            let line = text.lines().find(|line| line.starts_with("MemTotal:"))?;
            line.split_ascii_whitespace().nth(1)?.parse::<u64>().ok()
        });
    (total.unwrap_or(2 << 20) * 1024 / 4).clamp(128 << 20, 1 << 30)
}
