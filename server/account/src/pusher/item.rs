//! What waits in the outbox for a pusher.

use serde::{Deserialize, Serialize};
use skerry_core::{EventNid, RoomNid, UserNid};
use skerry_store::Write;
use skerry_store::outbox::{self, Dest};

use super::PusherKey;

/// One notification on its way. Everything but what is said here is looked up when it is sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PushItem {
    /// An event notifies a user.
    Event {
        /// Whom.
        user: u64,
        /// At which pusher; none while it is held back for all of them.
        key: Option<(String, String)>,
        /// The room.
        room: u64,
        /// The event.
        event: u64,
        /// The actions of the rule that matched, as JSON.
        actions: String,
        /// When the event came, in ms since the epoch.
        at_ms: u64,
    },
    /// The number of unread messages changed without a new one.
    Badge {
        /// Whose.
        user: u64,
        /// At which pusher.
        key: (String, String),
    },
    /// A pusher has to prove that it is reached (MSC4174).
    Activate {
        /// Whose.
        user: u64,
        /// Which.
        key: (String, String),
        /// What it has to send back.
        token: String,
    },
}

impl PushItem {
    /// A notification of an event.
    #[must_use]
    pub fn event(
        user: UserNid,
        key: Option<&PusherKey>,
        (room, event): (RoomNid, EventNid),
        actions: String,
        at_ms: u64,
    ) -> PushItem {
        PushItem::Event {
            user: user.0,
            key: key.map(|key| (key.app_id.clone(), key.pushkey.clone())),
            room: room.0,
            event: event.0,
            actions,
            at_ms,
        }
    }

    /// Reads what [`PushItem::queue`] wrote; `None` if it is something else.
    #[must_use]
    pub fn read(bytes: &[u8]) -> Option<PushItem> {
        serde_json::from_slice(bytes).ok()
    }

    /// Adds it to a queue, in a batch.
    pub fn queue(&self, w: &mut Write, dest: &Dest) {
        // Plain values: they can be written.
        let bytes = serde_json::to_vec(self).unwrap_or_default();
        outbox::queue(w, dest, &bytes);
    }

    /// Whose it is.
    #[must_use]
    pub fn user(&self) -> UserNid {
        let (PushItem::Event { user, .. }
        | PushItem::Badge { user, .. }
        | PushItem::Activate { user, .. }) = self;
        UserNid(*user)
    }

    /// For which pusher it is; none while it is held back for all of them.
    #[must_use]
    pub fn key(&self) -> Option<PusherKey> {
        let (app_id, pushkey) = match self {
            PushItem::Event { key, .. } => key.clone()?,
            PushItem::Badge { key, .. } | PushItem::Activate { key, .. } => key.clone(),
        };
        Some(PusherKey { app_id, pushkey })
    }
}
