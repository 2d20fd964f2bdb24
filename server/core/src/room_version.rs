//! Which room versions there are, and what each one asks for.

use std::fmt;

use ruma_common::RoomVersionId;
use ruma_common::room_version_rules::{EventIdFormatVersion, RoomVersionRules};

use crate::canonical::Mode;

/// A room version that this server knows: 1 to 12.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RoomVersion(u8);

/// How an event id comes about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EventIdFormat {
    /// `$random:server`, chosen by the sender's server and part of the event (versions 1 and 2).
    Chosen,
    /// `$` and the reference hash in standard base64 (version 3).
    Hash,
    /// `$` and the reference hash in URL-safe base64 (version 4 and up).
    UrlSafeHash,
}

const RULES: [RoomVersionRules; 12] = [
    RoomVersionRules::V1,
    RoomVersionRules::V2,
    RoomVersionRules::V3,
    RoomVersionRules::V4,
    RoomVersionRules::V5,
    RoomVersionRules::V6,
    RoomVersionRules::V7,
    RoomVersionRules::V8,
    RoomVersionRules::V9,
    RoomVersionRules::V10,
    RoomVersionRules::V11,
    RoomVersionRules::V12,
];

const NAMES: [&str; 12] = [
    "1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12",
];

impl RoomVersion {
    /// Room version 1, which is also what a create event without `room_version` means.
    pub const V1: RoomVersion = RoomVersion(1);
    /// Room version 2.
    pub const V2: RoomVersion = RoomVersion(2);
    /// Room version 3.
    pub const V3: RoomVersion = RoomVersion(3);
    /// Room version 6.
    pub const V6: RoomVersion = RoomVersion(6);
    /// Room version 10.
    pub const V10: RoomVersion = RoomVersion(10);
    /// Room version 11.
    pub const V11: RoomVersion = RoomVersion(11);
    /// Room version 12.
    pub const V12: RoomVersion = RoomVersion(12);
    /// What new rooms get unless asked otherwise.
    pub const DEFAULT: RoomVersion = RoomVersion(12);

    /// Every supported version, in order. All of them are stable.
    pub fn all() -> impl Iterator<Item = RoomVersion> {
        (1..=12).map(RoomVersion)
    }

    /// From the identifier in a create event or a request; `None` if it is not supported.
    #[must_use]
    pub fn parse(id: &str) -> Option<Self> {
        Self::all().find(|version| version.as_str() == id)
    }

    /// From the number that [`Self::number`] gives.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        (1..=12).contains(&number).then_some(RoomVersion(number))
    }

    /// The version as a number, for stored rows.
    #[must_use]
    pub const fn number(self) -> u8 {
        self.0
    }

    /// The identifier.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        NAMES.get(usize::from(self.0) - 1).copied().unwrap_or("12")
    }

    /// ruma's name of it.
    #[must_use]
    pub fn id(self) -> RoomVersionId {
        RoomVersionId::try_from(self.as_str()).unwrap_or(RoomVersionId::V12)
    }

    /// ruma's rules of it.
    #[must_use]
    pub fn rules(self) -> &'static RoomVersionRules {
        // A number outside the table cannot be made; the last row stands in.
        static TABLE: [RoomVersionRules; 12] = RULES;
        let [.., last] = &TABLE;
        TABLE.get(usize::from(self.0) - 1).unwrap_or(last)
    }

    /// How event ids come about.
    #[must_use]
    pub fn event_id_format(self) -> EventIdFormat {
        match self.rules().event_id_format {
            EventIdFormatVersion::V1 => EventIdFormat::Chosen,
            EventIdFormatVersion::V2 => EventIdFormat::Hash,
            _ => EventIdFormat::UrlSafeHash,
        }
    }

    /// Whether `prev_events` and `auth_events` name events together with their hashes
    /// (versions 1 and 2).
    #[must_use]
    pub const fn references_have_hashes(self) -> bool {
        self.0 <= 2
    }

    /// Which numbers events may hold: strict from version 6 on.
    #[must_use]
    pub const fn json_mode(self) -> Mode {
        if self.0 >= 6 {
            Mode::Strict
        } else {
            Mode::Lenient
        }
    }

    /// Whether the room id is the create event's id with another sigil, and so the create event
    /// itself has none (version 12).
    #[must_use]
    pub const fn room_id_is_create_event_id(self) -> bool {
        self.0 >= 12
    }

    /// Whether creators stand above all power levels (version 12).
    #[must_use]
    pub const fn creators_are_privileged(self) -> bool {
        self.0 >= 12
    }

    /// Whether a redaction names its target inside `content` (version 11 and up).
    #[must_use]
    pub const fn redacts_in_content(self) -> bool {
        self.0 >= 11
    }

    /// Whether the create event still names its `creator` in `content` (up to version 10).
    #[must_use]
    pub const fn creator_in_content(self) -> bool {
        self.0 <= 10
    }

    /// Whether `knock` exists (version 7 and up).
    #[must_use]
    pub const fn has_knock(self) -> bool {
        self.0 >= 7
    }

    /// Whether `restricted` join rules exist (version 8 and up).
    #[must_use]
    pub const fn has_restricted(self) -> bool {
        self.0 >= 8
    }

    /// Whether `knock_restricted` join rules exist (version 10 and up).
    #[must_use]
    pub const fn has_knock_restricted(self) -> bool {
        self.0 >= 10
    }

    /// Whether power levels must be integers, not strings holding one (version 10 and up).
    #[must_use]
    pub const fn integer_power_levels(self) -> bool {
        self.0 >= 10
    }

    /// Whether a signing key's validity period counts (version 5 and up).
    #[must_use]
    pub const fn enforces_key_validity(self) -> bool {
        self.0 >= 5
    }
}

impl Default for RoomVersion {
    fn default() -> Self {
        Self::DEFAULT
    }
}

impl fmt::Display for RoomVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for RoomVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RoomVersion({})", self.0)
    }
}
