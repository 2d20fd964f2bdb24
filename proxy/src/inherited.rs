//! Sockets that whoever started us holds open for us, as systemd does (`LISTEN_FDS`).

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd, RawFd};

/// The first descriptor that is passed.
const FIRST: RawFd = 3;
/// More sockets than this are a mistake.
const MOST: RawFd = 64;

/// Sockets that were passed to this process, until listeners claim them.
#[derive(Debug, Default)]
pub struct Inherited {
    sockets: Vec<(String, RawFd)>,
}

impl Inherited {
    /// As the environment says. It stays open here as long as the process runs: also while a
    /// listener ends, nobody is refused, and whoever starts next finds them waiting.
    #[must_use]
    pub fn from_environment() -> Inherited {
        let variable = |name| std::env::var(name).unwrap_or_default();
        Inherited::described(
            std::process::id(),
            &variable("LISTEN_PID"),
            &variable("LISTEN_FDS"),
            &variable("LISTEN_FDNAMES"),
        )
    }

    fn described(process: u32, pid: &str, count: &str, names: &str) -> Inherited {
        // They may have been meant for our parent.
        if pid.parse() != Ok(process) {
            return Inherited::default();
        }
        let count = count.parse::<RawFd>().unwrap_or(0).clamp(0, MOST);
        let mut names = names.split(':');
        let sockets = (FIRST..FIRST + count)
            .map(|fd| (names.next().unwrap_or("").to_owned(), fd))
            .collect();
        Inherited { sockets }
    }

    /// All sockets of this name, or the one with this number; each can be claimed once.
    ///
    /// # Errors
    /// A descriptor that is not open.
    pub(crate) fn claim(&mut self, name: &str) -> io::Result<Vec<OwnedFd>> {
        let number = name.parse::<RawFd>().ok();
        let wanted = |(own, fd): &(String, RawFd)| own == name || Some(*fd) == number;
        let (claimed, rest) = std::mem::take(&mut self.sockets)
            .into_iter()
            .partition(wanted);
        self.sockets = rest;
        claimed.into_iter().map(|(_, fd)| copy(fd)).collect()
    }

    /// What nobody claimed so far, as `name` or number.
    #[must_use]
    pub fn left(&self) -> Vec<String> {
        let name = |(name, fd): &(String, RawFd)| match name.as_str() {
            "" => fd.to_string(),
            name => name.to_owned(),
        };
        self.sockets.iter().map(name).collect()
    }
}

/// A descriptor of our own for the same socket, which programs that we start do not get; nor do
/// they get the first.
fn copy(fd: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: the number was passed to this process as an open descriptor, and nobody in it
    // closes the number; were it closed nevertheless, the calls below fail with EBADF.
    let passed = unsafe { BorrowedFd::borrow_raw(fd) };
    rustix::io::fcntl_setfd(passed, rustix::io::FdFlags::CLOEXEC)?;
    passed.try_clone_to_owned()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn names_and_numbers() {
        let none = |pid: &str, count: &str| Inherited::described(7, pid, count, "").left();
        assert!(none("8", "2").is_empty());
        assert!(none("", "").is_empty());
        assert!(none("7", "-1").is_empty());
        assert!(none("7", "many").is_empty());
        assert_eq!(none("7", "2000000000").len(), 64);
        let passed = Inherited::described(7, "7", "3", "https:https");
        assert_eq!(passed.left(), ["https", "https", "5"]);
    }

    #[test]
    fn what_is_not_open_is_an_error() {
        let mut passed = Inherited::described(7, "7", "64", "a");
        assert!(passed.claim("none").unwrap().is_empty());
        assert!(passed.claim("66").is_err());
        assert_eq!(passed.left().len(), 63);
    }
}
