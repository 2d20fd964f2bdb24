//! How many mails go to one address, whoever asks for them: a mailbox is not to be filled by
//! strangers.

use std::collections::HashMap;

use parking_lot::Mutex;

use crate::AccountError;

/// How many mails may go at once.
const BURST: u64 = 5;
/// After how long one more may, in ms.
const REFILL_MS: u64 = 12 * 60_000;
/// How many addresses are remembered.
const MAX_ADDRESSES: usize = 4_096;

/// By the hash of the address: up to when its mails are paid for.
#[derive(Default)]
pub(crate) struct Letters(Mutex<HashMap<[u8; 32], u64>>);

impl Letters {
    /// Counts one mail.
    ///
    /// # Errors
    /// `Busy` after too many.
    pub(crate) fn take(&self, address: &str, now_ms: u64) -> Result<(), AccountError> {
        let mut paid = self.0.lock();
        if paid.len() >= MAX_ADDRESSES {
            paid.retain(|_, until| *until > now_ms);
        }
        if paid.len() >= MAX_ADDRESSES {
            paid.clear();
        }
        let hash = *blake3::hash(address.as_bytes()).as_bytes();
        let until = paid.entry(hash).or_default();
        let next = (*until).max(now_ms) + REFILL_MS;
        let limit = now_ms + BURST * REFILL_MS;
        if next > limit {
            return Err(AccountError::Busy {
                retry_after_ms: next - limit,
            });
        }
        *until = next;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn a_mailbox_gets_five_and_then_one_in_twelve_minutes() {
        let letters = Letters::default();
        for _ in 0..BURST {
            letters.take("a@b", 1_000).unwrap();
        }
        assert!(letters.take("a@b", 1_000).is_err());
        letters.take("c@d", 1_000).unwrap();
        letters.take("a@b", 1_000 + REFILL_MS).unwrap();
        for n in 0..2 * MAX_ADDRESSES {
            letters.take(&n.to_string(), 0).unwrap();
        }
        assert!(letters.0.lock().len() <= MAX_ADDRESSES);
    }
}
