//! The C library's allocator, kept from hoarding.
//!
//! glibc makes an arena for nearly every thread that allocates at the same time as another, up
//! to eight for each core, and memory freed in one serves no other. With blocking work on many
//! threads this held 390 MiB after a load for which two arenas need 160, at the same speed. And
//! what is free inside an arena goes back to the system only when asked for.

#[cfg(all(target_os = "linux", target_env = "gnu"))]
mod glibc {
    use std::ffi::c_int;

    /// `M_ARENA_MAX` of `malloc.h`.
    const ARENA_MAX: c_int = -8;
    /// Arenas for all threads together.
    const ARENAS: c_int = 2;

    unsafe extern "C" {
        safe fn mallopt(param: c_int, value: c_int) -> c_int;
        safe fn malloc_trim(pad: usize) -> c_int;
    }

    pub(super) fn settle() {
        // It says 0 when it does not know the option; then all stays as it is.
        let _ = mallopt(ARENA_MAX, ARENAS);
    }

    pub(super) fn give_back() {
        let _ = malloc_trim(0);
    }
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
mod glibc {
    pub(super) fn settle() {}
    pub(super) fn give_back() {}
}

/// To be called once, before there are threads.
pub(crate) fn settle() {
    glibc::settle();
}

/// Gives memory back to the system that is free but held. Takes some milliseconds.
pub(crate) fn give_back() {
    glibc::give_back();
}

/// Memory of this process, in bytes; 0 where nobody says.
pub(crate) fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}
