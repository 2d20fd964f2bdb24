//! The worker's side: shut in, then pictures until there are no more.

use std::{
    collections::BTreeMap,
    io::{self, BufReader, BufWriter},
};

use landlock::{ABI, Access as _, AccessFs, Ruleset, RulesetAttr as _};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, TargetArch};

use super::wire;
use crate::picture::make;

/// What a worker may ask of the kernel: memory, its two pipes, and to end.
const CALLS: &[i64] = &[
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_mmap,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_mprotect,
    libc::SYS_madvise,
    libc::SYS_brk,
    libc::SYS_futex,
    libc::SYS_clock_gettime,
    libc::SYS_getrandom,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_sched_yield,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_tgkill,
    libc::SYS_restart_syscall,
    libc::SYS_exit,
    libc::SYS_exit_group,
];

/// Makes thumbnails of what comes by standard input until that ends. Where the kernel has
/// Landlock and seccomp, no file can be opened and no socket made any more.
///
/// # Errors
/// A pipe that is broken, or an order that is none.
pub fn serve() -> io::Result<()> {
    // Before the door is shut: what is opened lazily at first use.
    let (mut from, mut to) = (
        BufReader::new(io::stdin().lock()),
        BufWriter::new(io::stdout().lock()),
    );
    shut_in();
    while let Some((source, order)) = wire::read_order(&mut from)? {
        let answer = make(&source, &order);
        drop(source);
        wire::write_answer(&mut to, &answer)?;
    }
    Ok(())
}

/// As far as the kernel goes along; the bounds on memory and time hold in any case.
fn shut_in() {
    let ruleset = Ruleset::default()
        .handle_access(AccessFs::from_all(ABI::V3))
        .and_then(Ruleset::create);
    let _ = ruleset.and_then(landlock::RulesetCreated::restrict_self);
    let _ = filter().map(|program| seccompiler::apply_filter(&program));
}

/// Everything else fails with `EPERM`.
fn filter() -> Option<BpfProgram> {
    let calls: BTreeMap<i64, Vec<_>> = CALLS.iter().map(|call| (*call, Vec::new())).collect();
    let arch = TargetArch::try_from(std::env::consts::ARCH).ok()?;
    let refused = SeccompAction::Errno(u32::try_from(libc::EPERM).ok()?);
    let filter = SeccompFilter::new(calls, refused, SeccompAction::Allow, arch).ok()?;
    filter.try_into().ok()
}
