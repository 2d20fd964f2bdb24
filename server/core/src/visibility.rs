//! History visibility: whether a user may see an event.
//!
//! Everything is decided by the room's state at the event, so the answer for an event and a user
//! changes only when the user joins (for `shared`). Spec: client-server API, "Room History
//! Visibility".

#[cfg(test)]
mod tests;

use crate::Membership;
use crate::canonical::Object;

/// The `history_visibility` of a room, from the most open to the most closed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
#[repr(u8)]
pub enum HistoryVisibility {
    /// Everyone, also who never joined.
    WorldReadable = 1,
    /// Everyone who joins later. The default, also for values nobody knows.
    #[default]
    Shared = 2,
    /// Members from their invite on.
    Invited = 3,
    /// Members from their join on.
    Joined = 4,
}

impl HistoryVisibility {
    /// From the string in the event; unknown ones mean `shared`.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        match text {
            "world_readable" => Self::WorldReadable,
            "invited" => Self::Invited,
            "joined" => Self::Joined,
            _ => Self::Shared,
        }
    }

    /// From the content of the `m.room.history_visibility` event, if the room has one.
    #[must_use]
    pub fn of(content: Option<&Object>) -> Self {
        content
            .and_then(|content| content.str("history_visibility"))
            .map_or(Self::Shared, Self::parse)
    }

    /// As it stands in the event.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::WorldReadable => "world_readable",
            Self::Shared => "shared",
            Self::Invited => "invited",
            Self::Joined => "joined",
        }
    }
}

/// What decides about one event and one user.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct View {
    /// The room's visibility in the state before the event.
    pub visibility: HistoryVisibility,
    /// For an `m.room.history_visibility` event: what it sets.
    pub visibility_after: Option<HistoryVisibility>,
    /// The user's membership in the state before the event; `None` if there was none.
    pub membership: Option<Membership>,
    /// For the user's own `m.room.member` event: what it sets.
    pub membership_after: Option<Membership>,
    /// Whether the user joined at any point after the event, or is joined now.
    pub joined_since: bool,
}

impl View {
    /// Of an event that changes neither the visibility nor the user's own membership.
    #[must_use]
    pub const fn plain(
        visibility: HistoryVisibility,
        membership: Option<Membership>,
        joined_since: bool,
    ) -> Self {
        View {
            visibility,
            visibility_after: None,
            membership,
            membership_after: None,
            joined_since,
        }
    }

    /// Whether the user may see the event: if the state before or after it would allow it.
    #[must_use]
    pub fn allows(self) -> bool {
        let visibilities = [Some(self.visibility), self.visibility_after];
        let memberships = [Some(self.membership), self.membership_after.map(Some)];
        visibilities.into_iter().flatten().any(|visibility| {
            let seen = |membership| seen(visibility, membership, self.joined_since);
            memberships.into_iter().flatten().any(seen)
        })
    }
}

fn seen(visibility: HistoryVisibility, membership: Option<Membership>, joined_since: bool) -> bool {
    match (visibility, membership) {
        (HistoryVisibility::WorldReadable, _) | (_, Some(Membership::Join)) => true,
        (HistoryVisibility::Shared, _) => joined_since,
        (HistoryVisibility::Invited, membership) => membership == Some(Membership::Invite),
        (HistoryVisibility::Joined, _) => false,
    }
}
