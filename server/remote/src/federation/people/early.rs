//! What is said of people before it is known here that a room is shared with them: a server tells
//! how present its users are as soon as somebody has come into their room, and that may be here
//! before the join through it is.

use std::collections::HashMap;

use parking_lot::Mutex;
use skerry_account::PresenceAbroad;
use skerry_store::StoreError;

use super::Inner;

/// How many users are remembered; what is said of further ones is not.
const USERS_MAX: usize = 1_000;
/// For how long, in ms. A join through another server may take so long.
const KEPT_MS: u64 = 5 * 60_000;

/// The last that was said of users with whom no room is shared, and when.
#[derive(Default)]
pub(super) struct Early(Mutex<HashMap<String, (u64, PresenceAbroad)>>);

impl Early {
    fn put(&self, user_id: &str, now_ms: u64, told: PresenceAbroad) {
        let mut all = self.0.lock();
        if all.len() >= USERS_MAX {
            all.retain(|_, (at_ms, _)| at_ms.saturating_add(KEPT_MS) > now_ms);
        }
        if all.len() < USERS_MAX || all.contains_key(user_id) {
            all.insert(user_id.to_owned(), (now_ms, told));
        }
    }

    fn take(&self, user_id: &str, now_ms: u64) -> Option<PresenceAbroad> {
        let (at_ms, told) = self.0.lock().remove(user_id)?;
        (at_ms.saturating_add(KEPT_MS) > now_ms).then_some(told)
    }

    fn users(&self) -> Vec<String> {
        self.0.lock().keys().cloned().collect()
    }
}

impl Inner {
    /// Notes how present a user of another server is: at once if a room is shared with them, else
    /// as soon as one is.
    pub(super) fn note_presence(
        &self,
        user_id: &str,
        told: PresenceAbroad,
    ) -> Result<(), StoreError> {
        // First laid down, then looked: whichever of this and a join comes second finds the other.
        self.early.put(user_id, self.clock.now_ms(), told);
        self.note_early_of(user_id)
    }

    /// Somebody has come into a room: those who were spoken of too early may be known by now.
    pub(super) fn note_early(&self) -> Result<(), StoreError> {
        for user_id in self.early.users() {
            self.note_early_of(&user_id)?;
        }
        Ok(())
    }

    fn note_early_of(&self, user_id: &str) -> Result<(), StoreError> {
        let Some(user) = self.met(&self.store.snapshot(), user_id)? else {
            return Ok(());
        };
        if let Some(told) = self.early.take(user_id, self.clock.now_ms()) {
            self.accounts.presence().tell_abroad(user, told);
        }
        Ok(())
    }
}
