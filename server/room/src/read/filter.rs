//! Which events a client wants (spec: `RoomEventFilter`).

use serde::Deserialize;

/// Longest list a filter may hold; longer ones are refused, for they are compared event by event.
const LIST_MAX: usize = 1_000;

/// Which events of rooms a client wants. Absent lists let everything through.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(default)]
pub struct EventFilter {
    /// The most events wanted; each endpoint has a default and a bound of its own.
    pub limit: Option<u64>,
    /// Event types wanted; `*` stands for any characters.
    pub types: Option<Vec<String>>,
    /// Event types not wanted; stronger than `types`.
    pub not_types: Vec<String>,
    /// Senders wanted.
    pub senders: Option<Vec<String>>,
    /// Senders not wanted; stronger than `senders`.
    pub not_senders: Vec<String>,
    /// Rooms wanted.
    pub rooms: Option<Vec<String>>,
    /// Rooms not wanted; stronger than `rooms`.
    pub not_rooms: Vec<String>,
    /// Only events with (or only those without) `url` in their content.
    pub contains_url: Option<bool>,
    /// Only events to which a user of these has related another event.
    pub related_by_senders: Option<Vec<String>>,
    /// Only events to which another event relates in one of these ways.
    pub related_by_rel_types: Option<Vec<String>>,
    /// Only events that relate to another in one of these ways (MSC3874).
    #[serde(rename = "org.matrix.msc3874.rel_types")]
    pub rel_types: Option<Vec<String>>,
    /// Only events that relate to no other in one of these ways; stronger than `rel_types`.
    #[serde(rename = "org.matrix.msc3874.not_rel_types")]
    pub not_rel_types: Vec<String>,
    /// Only the member events of those whose events are shown.
    pub lazy_load_members: bool,
    /// With `lazy_load_members`: also those the client was given before.
    pub include_redundant_members: bool,
    /// Unread counts per thread (sync only).
    pub unread_thread_notifications: bool,
}

/// What a filter looks at in an event.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// The event's type.
    pub kind: &'a str,
    /// The user id of its sender.
    pub sender: &'a str,
    /// Whether its content has a `url`; asked only if the filter wants to know.
    pub has_url: Option<bool>,
}

impl EventFilter {
    /// Reads a filter. `None` if it is not one, or holds a list of more than 1,000 entries.
    #[must_use]
    pub fn parse(json: &str) -> Option<EventFilter> {
        // A struct would also read from an array.
        if !json.trim_start().starts_with('{') {
            return None;
        }
        let filter: EventFilter = serde_json::from_str(json).ok()?;
        filter.is_bounded().then_some(filter)
    }

    /// Whether no list is longer than what is accepted.
    #[must_use]
    pub fn is_bounded(&self) -> bool {
        let optional = [
            &self.types,
            &self.senders,
            &self.rooms,
            &self.related_by_senders,
            &self.related_by_rel_types,
            &self.rel_types,
        ];
        optional
            .iter()
            .all(|list| list.as_ref().is_none_or(|list| list.len() <= LIST_MAX))
            && [
                &self.not_types,
                &self.not_senders,
                &self.not_rooms,
                &self.not_rel_types,
            ]
            .iter()
            .all(|list| list.len() <= LIST_MAX)
    }

    /// Whether every event of a wanted room passes (but for relations, see [`Self::by_relation`]).
    #[must_use]
    pub fn passes_all(&self) -> bool {
        self.types.is_none()
            && self.not_types.is_empty()
            && self.senders.is_none()
            && self.not_senders.is_empty()
            && self.contains_url.is_none()
    }

    /// Whether events are chosen by what relates to them.
    #[must_use]
    pub fn by_relation(&self) -> bool {
        self.related_by_senders.is_some() || self.related_by_rel_types.is_some()
    }

    /// Whether an event passes that relates to another in this way, or to none.
    #[must_use]
    pub fn wants_relation(&self, rel_type: Option<&str>) -> bool {
        let among = |list: &[String]| rel_type.is_some_and(|name| list.iter().any(|n| n == name));
        !among(&self.not_rel_types) && self.rel_types.as_ref().is_none_or(|list| among(list))
    }

    /// Whether it matters to the filter how an event relates to others.
    #[must_use]
    pub fn looks_at_relations(&self) -> bool {
        self.rel_types.is_some() || !self.not_rel_types.is_empty()
    }

    /// Whether events of this room are wanted.
    #[must_use]
    pub fn wants_room(&self, room_id: &str) -> bool {
        !self.not_rooms.iter().any(|other| other == room_id)
            && self
                .rooms
                .as_ref()
                .is_none_or(|list| list.iter().any(|other| other == room_id))
    }

    /// Whether an event passes by its own facts: type, sender, `url`.
    #[must_use]
    pub fn wants(&self, facts: Facts<'_>) -> bool {
        if self
            .not_types
            .iter()
            .any(|glob| glob_matches(glob, facts.kind))
            || self.not_senders.iter().any(|other| other == facts.sender)
        {
            return false;
        }
        let types = self.types.as_ref();
        let senders = self.senders.as_ref();
        types.is_none_or(|list| list.iter().any(|glob| glob_matches(glob, facts.kind)))
            && senders.is_none_or(|list| list.iter().any(|other| other == facts.sender))
            && self
                .contains_url
                .is_none_or(|want| facts.has_url == Some(want))
    }

    /// Whether lists, if any, name a type: for reading only what is asked of a state.
    #[must_use]
    pub fn wants_type(&self, kind: &str) -> bool {
        !self.not_types.iter().any(|glob| glob_matches(glob, kind))
            && self
                .types
                .as_ref()
                .is_none_or(|list| list.iter().any(|glob| glob_matches(glob, kind)))
    }
}

/// Whether a text matches a pattern in which `*` stands for any characters, also for none.
#[must_use]
pub fn glob_matches(pattern: &str, text: &str) -> bool {
    let Some((head, rest)) = pattern.split_once('*') else {
        return pattern == text;
    };
    let Some(mut text) = text.strip_prefix(head) else {
        return false;
    };
    let mut rest = rest;
    while let Some((piece, after)) = rest.split_once('*') {
        // The leftmost place is always good enough: a `*` follows that takes up the difference.
        let Some(at) = text.find(piece) else {
            return false;
        };
        text = text.get(at + piece.len()..).unwrap_or_default();
        rest = after;
    }
    text.ends_with(rest)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn globs() {
        for (pattern, text, expected) in [
            ("m.room.*", "m.room.name", true),
            ("m.room.*", "m.room.", true),
            ("m.room.*", "m.roo", false),
            ("*", "", true),
            ("*.name", "m.room.name", true),
            ("m*e", "m.room.name", true),
            ("m*name*e", "m.room.name", false),
            ("a*b*c", "aXbYbZc", true),
            ("a*a", "a", false),
            ("m.room.name", "m.room.name", true),
            ("m.room.name", "m.room.names", false),
        ] {
            assert_eq!(glob_matches(pattern, text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn relations() {
        let wants = |json: &str, rel_type| {
            let filter = EventFilter::parse(json).unwrap();
            filter.looks_at_relations() && filter.wants_relation(rel_type)
        };
        let only = r#"{"org.matrix.msc3874.rel_types":["m.thread"]}"#;
        let but = r#"{"org.matrix.msc3874.not_rel_types":["m.thread"]}"#;
        let both = r#"{"org.matrix.msc3874.rel_types":["m.thread"],
            "org.matrix.msc3874.not_rel_types":["m.thread"]}"#;
        for (json, thread, other, none) in [
            (only, true, false, false),
            (but, false, true, true),
            (both, false, false, false),
        ] {
            assert_eq!(wants(json, Some("m.thread")), thread, "{json}");
            assert_eq!(wants(json, Some("m.annotation")), other, "{json}");
            assert_eq!(wants(json, None), none, "{json}");
        }
        assert!(!EventFilter::parse("{}").unwrap().looks_at_relations());
    }

    #[test]
    fn not_lists_win() {
        let filter = EventFilter::parse(
            r#"{"types":["m.*"],"not_types":["m.room.member"],"senders":["@a:x","@b:x"],
                "not_senders":["@b:x"],"contains_url":true,"unknown":1}"#,
        )
        .unwrap();
        let facts = |kind, sender, url| Facts {
            kind,
            sender,
            has_url: Some(url),
        };
        assert!(filter.wants(facts("m.room.message", "@a:x", true)));
        assert!(!filter.wants(facts("m.room.message", "@a:x", false)));
        assert!(!filter.wants(facts("m.room.message", "@b:x", true)));
        assert!(!filter.wants(facts("m.room.member", "@a:x", true)));
        assert!(!filter.wants(facts("x.y", "@a:x", true)));
        assert!(
            EventFilter::parse("[]").is_none() && EventFilter::parse("{\"types\":3}").is_none()
        );
        let long = format!("{{\"types\":[{}\"x\"]}}", "\"x\",".repeat(1_000));
        assert!(EventFilter::parse(&long).is_none());
    }
}
