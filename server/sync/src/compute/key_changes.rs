//! `GET /keys/changes`: the part of a sync about lists of devices, asked for alone.

use super::Query;
use crate::delta::DeviceLists;
use crate::{Request, Sync, SyncError};

impl Query<'_> {
    /// Changed and left users since the request's token; nobody without one.
    fn key_changes(&self) -> Result<DeviceLists, SyncError> {
        let Some(since) = self.req.since.map(|token| token.pos) else {
            return Ok(DeviceLists::default());
        };
        if since > self.snap.head() {
            return Err(SyncError::UnknownPos);
        }
        let mut mine = None;
        let changes = self.changes(&mut mine)?;
        let moves = self.moves(&changes)?;
        Ok(self.device_lists(&changes, &moves, &mut mine, since)?)
    }
}

impl Sync {
    /// Whose devices changed, and who left all shared rooms, since the request's token. What
    /// changed after the end of the span a client asks about is told as well: only the last
    /// change of each user is known, and naming a user too often does no harm.
    ///
    /// # Errors
    /// [`SyncError::UnknownPos`]; the store's.
    pub async fn key_changes(&self, request: Request) -> Result<DeviceLists, SyncError> {
        let this = self.clone();
        skerry_store::blocking(move || {
            let snap = this.inner.store.snapshot();
            Query::new(&this.inner, &snap, &request).key_changes()
        })
        .await?
    }
}
