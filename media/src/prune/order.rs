//! What a prune is asked to do.

use serde::{Deserialize, Serialize};
use skerry_store::schema::media::ThumbUse;

/// Which media a prune may delete, and how far it goes. What is named anywhere that counts is kept
/// whatever this says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Order {
    /// Copies of other servers' media, and pictures of link previews.
    pub remote: bool,
    /// What people of this server uploaded.
    pub local: bool,
    /// Thumbnails; they can be made again.
    pub thumbnails: bool,
    /// Only what is at least so old, in ms.
    pub older_than_ms: u64,
    /// What counts as old.
    pub by: By,
    /// Only what is larger than so many bytes.
    pub larger_than: u64,
    /// Only what this user uploaded.
    pub uploader: Option<String>,
    /// Only what the readable events of this room name.
    pub room: Option<String>,
    /// Only as much as is needed, least recently used first.
    pub target: Option<Target>,
    /// Rooms whose media is kept as a whole, because messages in them cannot be read.
    pub keep_rooms: Vec<String>,
    /// What becomes of the trash.
    pub trash: Emptying,
    /// Look for files without rows and rows without files, and remove them.
    pub check: bool,
}

/// How age is counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum By {
    /// From when it was last looked at; from when it came, where nobody has.
    #[default]
    Access,
    /// From when it came.
    Created,
}

impl By {
    /// The time that counts of a thumbnail.
    pub(crate) fn of_thumb(self, row: &ThumbUse) -> u64 {
        match self {
            Self::Access => row.used_ms,
            Self::Created => row.made_ms,
        }
    }
}

/// How much may be left, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// Of everything together.
    Store(u64),
    /// Of other servers' media.
    Remote(u64),
}

/// What becomes of the trash.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Emptying {
    /// It stays.
    #[default]
    No,
    /// What has lain there for the grace period goes.
    Due,
    /// The same, and then the oldest until so many bytes are free.
    Oldest(u64),
    /// All of it goes.
    All,
}

impl Order {
    /// What makes no sense, in words.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn check(&self) -> Result<(), String> {
        let about_media = self.uploader.is_some() || self.room.is_some();
        if self.thumbnails && about_media {
            return Err(
                "thumbnails belong to bytes, not to people or rooms; they go with their originals"
                    .to_owned(),
            );
        }
        if matches!(self.target, Some(Target::Remote(_))) && (self.local || self.thumbnails) {
            return Err("a target for other servers' media is about no other".to_owned());
        }
        let nothing = !self.remote && !self.local && !self.thumbnails;
        if nothing && self.trash == Emptying::No && !self.check {
            return Err("nothing is selected".to_owned());
        }
        Ok(())
    }
}
