//! A user's relation to a room.

use std::fmt;

/// The `membership` of an `m.room.member` event.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum Membership {
    /// Asked to come in by a member.
    Invite = 1,
    /// Taking part.
    Join = 2,
    /// Asking to be let in.
    Knock = 3,
    /// Left, was removed, declined, or was never there.
    Leave = 4,
    /// Kept out.
    Ban = 5,
}

impl Membership {
    /// All of them.
    pub const ALL: [Membership; 5] = [
        Membership::Invite,
        Membership::Join,
        Membership::Knock,
        Membership::Leave,
        Membership::Ban,
    ];

    /// As it stands in an event.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Membership::Invite => "invite",
            Membership::Join => "join",
            Membership::Knock => "knock",
            Membership::Leave => "leave",
            Membership::Ban => "ban",
        }
    }

    /// From what stands in an event; `None` for anything else.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|m| m.as_str() == text)
    }

    /// A small number for stored rows; see [`Self::from_code`].
    #[must_use]
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// From the number that [`Self::code`] gave.
    #[must_use]
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|m| m.code() == code)
    }
}

impl fmt::Display for Membership {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
