//! A plan's memory: a few dozen bytes for each `mxc://`, for stores with millions of them.

use std::collections::HashMap;

use serde::Serialize;

/// Why media stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Rule {
    /// An administrator protects it.
    Protected,
    /// The configuration names it.
    Setting,
    /// A current state event of a room names it.
    State,
    /// An invite or a knock names it.
    Invite,
    /// A profile names it.
    Profile,
    /// Account data names it.
    AccountData,
    /// A pinned event names it.
    Pinned,
    /// It may be named by a message in a room that is kept as a whole.
    KeptRoom,
    /// A preview of a link that is still good shows it.
    Preview,
    /// It is not of a kind that was asked for.
    Kind,
    /// Somebody else uploaded it.
    Uploader,
    /// No readable event of the room names it.
    Room,
    /// It is too small.
    Small,
    /// It is too young.
    Young,
    /// The target is reached without it.
    Fits,
    /// It lies in the trash, and may lie there still.
    InTrash,
}

impl Rule {
    /// The same for people.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Self::Protected => "protected by an administrator",
            Self::Setting => "named in the configuration",
            Self::State => "named in a room's current state (avatars, image packs, ...)",
            Self::Invite => "named in an invite or a knock",
            Self::Profile => "named in a profile",
            Self::AccountData => "named in account data",
            Self::Pinned => "named in a pinned message",
            Self::KeptRoom => "may be named in a room of --keep-rooms",
            Self::Preview => "shown in a preview that is still good",
            Self::Kind => "of a kind that was not selected",
            Self::Uploader => "uploaded by somebody else",
            Self::Room => "not named in the room's readable messages",
            Self::Small => "not larger than --larger-than",
            Self::Young => "not older than --older-than",
            Self::Fits => "the target is reached without it",
            Self::InTrash => "in the trash already",
        }
    }

    /// Whether it is kept because it is needed, whatever was selected.
    #[must_use]
    pub fn is_need(self) -> bool {
        self < Self::Kind
    }
}

/// What becomes of an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It stays.
    Stays(Rule),
    /// It goes at once.
    Goes,
    /// It goes into the trash.
    Trash,
    /// It is in the trash, is named again, and comes back.
    Back,
}

/// One `mxc://`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Item {
    pub(crate) size: u64,
    /// Since when it is as old as it counts, in ms since the epoch.
    pub(crate) time_ms: u64,
    /// Where its id begins among the names.
    name: u32,
    /// Its blob, as a number.
    pub(crate) blob: u32,
    server: u32,
    name_len: u8,
    /// Of another server, or fetched for a preview: it can be fetched again.
    pub(crate) remote: bool,
    pub(crate) in_trash: bool,
    pub(crate) verdict: Verdict,
}

/// What was found about an item while it was added.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seen {
    pub(crate) time_ms: u64,
    pub(crate) remote: bool,
    pub(crate) in_trash: bool,
    pub(crate) verdict: Verdict,
}

/// All `mxc://` there are, and their blobs.
#[derive(Debug, Default)]
pub(crate) struct Items {
    pub(crate) list: Vec<Item>,
    names: String,
    servers: Vec<String>,
    by_server: HashMap<String, u32>,
    /// Beginnings of hashes; emptied when blobs have their numbers.
    hashes: Vec<([u8; 16], u32)>,
    pub(crate) blobs: Vec<BlobUse>,
    /// The beginnings of the blobs' hashes, in order.
    order: Vec<[u8; 16]>,
}

/// What refers to one blob.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct BlobUse {
    pub(crate) size: u64,
    /// Bytes of its thumbnails.
    pub(crate) thumbs: u64,
    /// How many `mxc://` that stay.
    pub(crate) live: u32,
    /// How many in the trash, and how many that come into it.
    pub(crate) trashed: u32,
    pub(crate) remote: bool,
}

/// The beginning of a hash, enough to tell blobs apart.
pub(crate) fn beginning(hash: &[u8; 32]) -> [u8; 16] {
    let (half, _) = hash.split_at(16);
    half.try_into().unwrap_or_default()
}

impl Items {
    /// Adds one. More than 2^32 of them, or 4 GiB of names, are passed over, and so kept.
    pub(crate) fn push(
        &mut self,
        (server, id): (&str, &str),
        (hash, size): (&[u8; 32], u64),
        seen: Seen,
    ) {
        let place = (
            u32::try_from(self.names.len()),
            u8::try_from(id.len()),
            u32::try_from(self.list.len()),
        );
        let (Ok(name), Ok(name_len), Ok(number)) = place else {
            return;
        };
        let server = match self.by_server.get(server) {
            Some(&known) => known,
            None => {
                let next = u32::try_from(self.servers.len()).unwrap_or(u32::MAX);
                self.servers.push(server.to_owned());
                self.by_server.insert(server.to_owned(), next);
                next
            }
        };
        self.names.push_str(id);
        self.hashes.push((beginning(hash), number));
        self.list.push(Item {
            size,
            time_ms: seen.time_ms,
            name,
            blob: 0,
            server,
            name_len,
            remote: seen.remote,
            in_trash: seen.in_trash,
            verdict: seen.verdict,
        });
    }

    /// Gives blobs their numbers, once all items are there.
    pub(crate) fn number_blobs(&mut self) {
        let mut hashes = std::mem::take(&mut self.hashes);
        hashes.sort_unstable();
        for (hash, number) in hashes {
            if self.order.last() != Some(&hash) {
                self.order.push(hash);
                self.blobs.push(BlobUse::default());
            }
            let blob = self.blobs.len().saturating_sub(1);
            let item = self.list.get_mut(number as usize);
            if let (Some(item), Some(used)) = (item, self.blobs.get_mut(blob)) {
                item.blob = u32::try_from(blob).unwrap_or(u32::MAX);
                used.size = item.size;
                used.remote |= item.remote && !item.in_trash;
                if item.in_trash {
                    used.trashed += 1;
                } else {
                    used.live += 1;
                }
            }
        }
    }

    /// The number of a blob that has items.
    pub(crate) fn blob(&self, hash: &[u8; 32]) -> Option<usize> {
        self.order.binary_search(&beginning(hash)).ok()
    }

    /// Server name and media id.
    pub(crate) fn name(&self, item: &Item) -> (&str, &str) {
        let start = item.name as usize;
        let id = self.names.get(start..start + usize::from(item.name_len));
        let server = self.servers.get(item.server as usize);
        (server.map_or("", String::as_str), id.unwrap_or(""))
    }
}
