//! Which state a client wants of a room (`required_state`).

use std::collections::{BTreeMap, BTreeSet};

const ANY: &str = "*";
const LAZY: &str = "$LAZY";
const ME: &str = "$ME";
const MEMBER: &str = "m.room.member";

/// Entries remembered of earlier requests of a room, beyond those of the last.
const REMEMBERED_MAX: usize = 500;

/// A set of types and keys of state events.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Required {
    /// All state.
    all: bool,
    /// Members are told as the timeline needs them.
    pub lazy: bool,
    /// Keys wanted of whatever type.
    any_type: BTreeSet<Box<str>>,
    types: BTreeMap<Box<str>, Keys>,
}

/// Keys wanted of one type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Keys {
    All,
    These(BTreeSet<Box<str>>),
}

impl Required {
    /// The set that a client names; `me` is who `$ME` stands for.
    pub(super) fn new(pairs: &[(String, String)], me: &str) -> Required {
        let mut required = Required::default();
        for (kind, key) in pairs {
            required.add(kind, if key == ME { me } else { key });
        }
        required
    }

    fn add(&mut self, kind: &str, key: &str) {
        match (kind, key) {
            (ANY, ANY) => self.all = true,
            (MEMBER, LAZY) => self.lazy = true,
            (_, LAZY) => {}
            (ANY, key) => drop(self.any_type.insert(key.into())),
            (kind, ANY) => drop(self.types.insert(kind.into(), Keys::All)),
            (kind, key) => {
                let none = || Keys::These(BTreeSet::new());
                if let Keys::These(keys) = self.types.entry(kind.into()).or_insert_with(none) {
                    keys.insert(key.into());
                }
            }
        }
    }

    /// Whether a state event is wanted for what it is, not for the timeline's sake.
    pub(super) fn wants(&self, kind: &str, key: &str) -> bool {
        self.all
            || self.any_type.contains(key)
            || match self.types.get(kind) {
                Some(Keys::All) => true,
                Some(Keys::These(keys)) => keys.contains(key),
                None => false,
            }
    }

    /// Whether all of the state has to be gone through to find what is wanted.
    pub(super) fn is_wide(&self) -> bool {
        self.all || !self.any_type.is_empty()
    }

    /// Whether all members are wanted.
    pub(super) fn wants_members(&self) -> bool {
        self.is_wide() || self.types.get(MEMBER) == Some(&Keys::All)
    }

    /// The types and which keys of each.
    pub(super) fn types(&self) -> impl Iterator<Item = (&str, &Keys)> {
        self.types.iter().map(|(kind, keys)| (&**kind, keys))
    }

    /// Whether everything that `other` wants is wanted here too.
    pub(super) fn covers(&self, other: &Required) -> bool {
        let lazy = self.lazy || !other.lazy || self.wants_members();
        let covers = |kind: &str, keys: &Keys| match keys {
            Keys::All => self.types.get(kind) == Some(&Keys::All),
            Keys::These(keys) => keys.iter().all(|key| self.wants(kind, key)),
        };
        lazy && (self.all
            || (!other.all
                && other.any_type.is_subset(&self.any_type)
                && other.types.iter().all(|(kind, keys)| covers(kind, keys))))
    }

    /// Adds what `other` wants.
    pub(super) fn extend(&mut self, other: &Required) {
        self.all |= other.all;
        self.lazy |= other.lazy;
        self.any_type.extend(other.any_type.iter().cloned());
        for (kind, keys) in &other.types {
            match (self.types.get_mut(kind), keys) {
                (Some(Keys::All), _) => {}
                (Some(Keys::These(mine)), Keys::These(keys)) => mine.extend(keys.iter().cloned()),
                _ => drop(self.types.insert(kind.clone(), keys.clone())),
            }
        }
    }

    /// Both together, for what a client was told of so far; only `now` if that is too much to
    /// remember.
    pub(super) fn remembered(before: &Required, now: &Required) -> Required {
        let mut both = now.clone();
        both.extend(before);
        // How members are told is as it was asked for last.
        both.lazy = now.lazy;
        if both.entries() > now.entries() + REMEMBERED_MAX {
            return now.clone();
        }
        both
    }

    fn entries(&self) -> usize {
        let keys = self.types.values().map(|keys| match keys {
            Keys::All => 1,
            Keys::These(keys) => keys.len(),
        });
        self.any_type.len() + keys.sum::<usize>()
    }

    /// Memory taken, about.
    pub(super) fn bytes(&self) -> usize {
        let keys = |keys: &Keys| match keys {
            Keys::All => 0,
            Keys::These(keys) => keys.iter().map(|key| key.len()).sum(),
        };
        let types = self
            .types
            .iter()
            .map(|(kind, of)| 64 + kind.len() + keys(of));
        let any_type = self.any_type.iter().map(|key| key.len());
        128 + 64 * self.entries() + types.sum::<usize>() + any_type.sum::<usize>()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn required(pairs: &[(&str, &str)]) -> Required {
        let pairs: Vec<_> = pairs
            .iter()
            .map(|(kind, key)| ((*kind).to_owned(), (*key).to_owned()))
            .collect();
        Required::new(&pairs, "@me:x")
    }

    #[test]
    fn wildcards_stand_for_types_and_keys() {
        let some = required(&[("m.room.name", ""), ("m.space.child", "*"), ("*", "$ME")]);
        assert!(some.wants("m.room.name", "") && !some.wants("m.room.name", "x"));
        assert!(some.wants("m.space.child", "!a:b") && some.wants("m.anything", "@me:x"));
        assert!(!some.wants("m.room.topic", "") && some.wants_members());
        let all = required(&[("m.room.name", ""), ("*", "*")]);
        assert!(all.wants("x", "y") && all.covers(&some) && !some.covers(&all));
        let lazy = required(&[("m.room.member", "$LAZY"), ("m.room.member", "$ME")]);
        assert!(lazy.lazy && lazy.wants("m.room.member", "@me:x"));
        assert!(!lazy.wants("m.room.member", "@you:x") && !lazy.wants_members());
    }

    #[test]
    fn long_names_weigh_what_they_take() {
        let kind = "x".repeat(255);
        let long = required(&[(&kind, &kind), ("*", &kind)]);
        assert!(long.bytes() > 3 * 255 && required(&[]).bytes() < 255);
    }

    #[test]
    fn sets_are_compared_and_joined() {
        let name = required(&[("m.room.name", "")]);
        let names = required(&[("m.room.name", "*")]);
        let topic = required(&[("m.room.topic", ""), ("m.room.member", "$LAZY")]);
        assert!(names.covers(&name) && !name.covers(&names) && !name.covers(&topic));
        let mut both = name.clone();
        both.extend(&topic);
        assert!(both.covers(&name) && both.covers(&topic) && !topic.covers(&both));
        let remembered = Required::remembered(&topic, &name);
        assert!(remembered.wants("m.room.topic", "") && !remembered.lazy);
        let many: Vec<(String, String)> = (0..600).map(|n| ("x".into(), n.to_string())).collect();
        let many = Required::new(&many, "@me:x");
        assert_eq!(Required::remembered(&many, &name), name);
        assert!(Required::remembered(&name, &many).covers(&many));
    }
}
