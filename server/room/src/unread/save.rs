//! Writing unread counts down now and then, for those who never say what they have read.

use skerry_core::{RoomNid, UserNid};
use skerry_store::StoreError;
use skerry_store::schema::room_read::Unread;

use super::UnreadCaches;
use crate::change::Outcome;
use crate::{RoomError, Rooms, Viewer};

/// Users and rooms remembered for saving; the counts of others are made anew when needed.
const UNSAVED_MAX: usize = 10_000;

impl UnreadCaches {
    /// Remembers that counts are to be saved.
    pub(crate) fn note_unsaved(&self, key: (UserNid, RoomNid)) {
        let mut unsaved = self.unsaved.lock();
        if unsaved.len() < UNSAVED_MAX {
            unsaved.insert(key);
        }
    }
}

impl Rooms {
    /// Writes down unread counts that took much work to make, so that a restart does not ask for
    /// that work again. To be called now and then, and before the end.
    ///
    /// # Errors
    /// The store's; what was not written then is made anew when needed.
    pub async fn save_unread(&self) -> Result<(), RoomError> {
        let unsaved = std::mem::take(&mut *self.inner.reads.unread.unsaved.lock());
        for (user, room) in unsaved {
            let lane = self.inner.reads.readers.lock(user).await;
            self.write(lane, move |this| this.save_unread_now(user, room))
                .await?;
        }
        Ok(())
    }

    fn save_unread_now(&self, user: UserNid, room: RoomNid) -> Result<Outcome<()>, StoreError> {
        let snap = self.newest();
        let Some(marks) = self.marks(&snap, room, user)? else {
            return Ok((Ok(()), self.store().barrier()));
        };
        let viewer = Viewer {
            user,
            user_id: self.store().user_id(user)?,
            device: "".into(),
        };
        let row = self
            .view(&snap, &viewer, room)?
            .unread_row(&marks, &marks)?;
        let mut w = self.store().write();
        w.put::<Unread>(&(user, room), &row);
        let applied = self.store().commit(w)?;
        if let Some(tally) = self.inner.reads.unread.tallies.get((user, room)) {
            tally.lock().unsaved = 0;
        }
        Ok((Ok(()), applied))
    }
}
