//! How often a password of one account may be guessed wrong, from wherever the guesses come.
//!
//! The limits of the door count by address; who has many addresses is held up here. It counts
//! names, also those that nobody has, so that it tells nothing about which exist. Only logging in
//! waits: devices that are logged in go on.

use std::collections::HashMap;

use parking_lot::Mutex;

use crate::AccountError;

/// How many wrong passwords in a row are let pass.
const BURST: u64 = 20;
/// After how long one more is, in ms.
const REFILL_MS: u64 = 30_000;
/// How many names are remembered; those with the fewest guesses are forgotten first.
const MAX_NAMES: usize = 4_096;

/// Wrong guesses by the hash of the name.
#[derive(Default)]
pub(crate) struct Guesses(Mutex<HashMap<[u8; 32], u64>>);

impl Guesses {
    /// Whether one more guess may be made, or when to come back. Guesses made at the same moment
    /// all pass, which are never more than passwords are hashed at once.
    ///
    /// # Errors
    /// `Busy`.
    pub(crate) fn check(&self, name: &str, now_ms: u64) -> Result<(), AccountError> {
        let paid_ms = self.0.lock().get(&hash(name)).copied().unwrap_or(0);
        let next = paid_ms.max(now_ms) + REFILL_MS;
        let limit = now_ms + BURST * REFILL_MS;
        if next > limit {
            return Err(AccountError::Busy {
                retry_after_ms: next - limit,
            });
        }
        Ok(())
    }

    /// Counts a wrong guess. What is owed never grows beyond the whole allowance, so that nobody
    /// is kept out for longer than that takes to come back.
    pub(crate) fn was_wrong(&self, name: &str, now_ms: u64) {
        let mut names = self.0.lock();
        if names.len() >= MAX_NAMES {
            names.retain(|_, paid_ms| *paid_ms > now_ms + BURST / 2 * REFILL_MS);
        }
        if names.len() >= MAX_NAMES {
            names.clear();
        }
        // Each guess costs time; a name is paid for up to this moment.
        let paid_ms = names.entry(hash(name)).or_default();
        let limit = now_ms + BURST * REFILL_MS;
        *paid_ms = ((*paid_ms).max(now_ms) + REFILL_MS).min(limit);
    }

    /// The password was right: whoever knows it owes nothing.
    pub(crate) fn was_right(&self, name: &str) {
        self.0.lock().remove(&hash(name));
    }
}

fn hash(name: &str) -> [u8; 32] {
    *blake3::hash(name.as_bytes()).as_bytes()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn wrong_guesses_run_out_and_come_back() {
        let guesses = Guesses::default();
        let now = 1_000_000_000;
        for _ in 0..BURST {
            guesses.check("@a:x", now).unwrap();
            guesses.was_wrong("@a:x", now);
        }
        guesses.was_wrong("@a:x", now);
        let refused = guesses.check("@a:x", now).err();
        assert!(matches!(
            refused,
            Some(AccountError::Busy {
                retry_after_ms: REFILL_MS
            })
        ));
        guesses.check("@b:x", now).unwrap();
        guesses.check("@a:x", now + REFILL_MS).unwrap();
        guesses.was_right("@a:x");
        guesses.check("@a:x", now).unwrap();
    }

    #[test]
    fn names_are_bounded_in_number() {
        let guesses = Guesses::default();
        for n in 0..3 * MAX_NAMES {
            guesses.was_wrong(&n.to_string(), 1_000);
        }
        assert!(guesses.0.lock().len() <= MAX_NAMES);
    }
}
