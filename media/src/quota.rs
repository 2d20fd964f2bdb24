//! How much may be stored: what each person may upload in all, and what stays free on the disk.

use std::collections::HashMap;

use skerry_core::UserNid;
use skerry_store::{
    Disk as _, RealDisk, Scan, Write,
    schema::media::{MediaTable, Usage},
};

use crate::{
    Blobs, MediaError,
    blobs::{NOBODY, Settings},
};

/// What is said to who has no room left.
#[derive(Debug, Clone)]
pub struct QuotaWords {
    quota: u64,
    info_uri: String,
}

impl QuotaWords {
    fn of(settings: &Settings) -> Self {
        Self {
            quota: settings.user_quota,
            info_uri: settings.info_uri.clone(),
        }
    }

    /// The same as an error.
    pub fn refusal(&self) -> MediaError {
        MediaError::Quota {
            quota: self.quota,
            info_uri: self.info_uri.clone(),
        }
    }
}

impl Blobs {
    /// How much a person may still upload, in bytes; none: as much as they like.
    pub(crate) fn left(&self, uploader: UserNid) -> Result<Option<(u64, QuotaWords)>, MediaError> {
        if self.settings.user_quota == 0 || uploader == NOBODY {
            return Ok(None);
        }
        let used = self.used(uploader)?;
        let left = self.settings.user_quota.saturating_sub(used);
        Ok(Some((left, QuotaWords::of(&self.settings))))
    }

    fn used(&self, uploader: UserNid) -> Result<u64, MediaError> {
        let used = self.store.newest().get::<Usage>(&uploader);
        Ok(used.map_err(MediaError::Store)?.unwrap_or(0))
    }

    /// Counts a file of this size for its uploader, in the write that names it. Inside their lane:
    /// two uploads at once do not both take the last room.
    pub(crate) fn charge(
        &self,
        w: &mut Write,
        uploader: UserNid,
        size: u64,
    ) -> Result<(), MediaError> {
        let used = self.used(uploader)?.saturating_add(size);
        let quota = self.settings.user_quota;
        if quota > 0 && uploader != NOBODY && used > quota {
            return Err(QuotaWords::of(&self.settings).refusal());
        }
        w.put::<Usage>(&uploader, &used);
        Ok(())
    }

    /// Whether so many bytes leave enough free on the disk.
    pub(crate) fn space_for(&self, length: u64) -> Result<(), MediaError> {
        let free = RealDisk.free_bytes(self.store.dir());
        let free = free.map_err(MediaError::file)?;
        if free.saturating_sub(length) < self.settings.free_disk_floor {
            return Err(MediaError::BelowFloor {
                admin_contact: self.settings.admin_contact.clone(),
            });
        }
        Ok(())
    }

    /// Counts what was uploaded before anything was counted. Only at start.
    pub(crate) fn count_usage(&self) -> Result<(), MediaError> {
        let snap = self.store.newest();
        if snap.scan::<Usage>(Scan::all()).next().is_some() {
            return Ok(());
        }
        let mut used: HashMap<UserNid, u64> = HashMap::new();
        for row in snap.scan::<MediaTable>(Scan::all()) {
            let (_, media) = row.map_err(MediaError::Store)?;
            let sum = used.entry(media.uploader).or_default();
            *sum = sum.saturating_add(media.size);
        }
        if used.is_empty() {
            return Ok(());
        }
        let mut w = self.store.write();
        for (uploader, sum) in used {
            w.put::<Usage>(&uploader, &sum);
        }
        self.store.commit(w).map(|_| ()).map_err(MediaError::Store)
    }
}
