//! Keys that are known, and what they are good for.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use skerry_core::ServerNid;
use skerry_core::canonical::{Mode, Object};
use skerry_store::schema::remote::{KeyAnswer, KeyAnswers, OlderKeyAnswers, ServerKey, ServerKeys};
use skerry_store::{Scan, Snapshot, StoreError};

use super::notary::names_key;

/// How many keys of one server are kept.
const KEYS_MAX: usize = 256;
/// How many earlier answers of one server are kept.
const OLDER_MAX: usize = 8;

/// What is known of a server's keys.
#[derive(Clone, Debug, Default)]
pub(super) struct Known {
    /// By key id.
    pub(super) keys: BTreeMap<String, ServerKey>,
}

/// What keys have to be good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Moment {
    /// A request that is to be believed at this time, in ms since the epoch. A key that was given
    /// up signs no more requests.
    Request(u64),
    /// An event of this time, in ms since the epoch.
    Signed(u64),
    /// An event of this time in a room whose version (1 to 4) does not look at how long keys are
    /// good. A key that was given up before is not good all the same.
    Whenever(u64),
}

impl Moment {
    pub(super) fn allows(self, key: &ServerKey) -> bool {
        match self {
            Moment::Request(at_ms) => !key.retired && at_ms <= key.valid_until_ms,
            Moment::Signed(at_ms) => at_ms <= key.valid_until_ms,
            Moment::Whenever(at_ms) => !key.retired || at_ms <= key.valid_until_ms,
        }
    }
}

/// Keys that somebody needs.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    /// Whose.
    pub(crate) server: Arc<str>,
    /// Any of these.
    pub(crate) key_ids: BTreeSet<String>,
    /// What for.
    pub(crate) moment: Moment,
}

impl Wanted {
    /// Whether one of the keys is known and good for it.
    pub(super) fn is_met(&self, known: &Known) -> bool {
        let mut ids = self.key_ids.iter();
        ids.any(|id| {
            known
                .keys
                .get(id)
                .is_some_and(|key| self.moment.allows(key))
        })
    }
}

/// Keys that were found, by server.
#[derive(Default)]
pub(crate) struct Keys(HashMap<Arc<str>, Arc<Known>>);

impl Keys {
    pub(super) fn insert(&mut self, server: Arc<str>, known: Arc<Known>) {
        self.0.insert(server, known);
    }

    pub(super) fn take(&mut self, server: &str) -> Option<Arc<Known>> {
        self.0.remove(server)
    }

    /// Whether a key that somebody needs is among them.
    pub(crate) fn meet(&self, wanted: &Wanted) -> bool {
        let known = self.0.get(&wanted.server);
        known.is_some_and(|known| wanted.is_met(known))
    }

    /// A key, if it is known and good for this.
    pub(crate) fn get(&self, server: &str, key_id: &str, moment: Moment) -> Option<[u8; 32]> {
        let key = self.0.get(server)?.keys.get(key_id)?;
        moment.allows(key).then_some(key.public)
    }
}

impl Known {
    /// What the store has.
    pub(super) fn read(snap: &Snapshot, server: ServerNid) -> Result<Known, StoreError> {
        let rows = snap.scan::<ServerKeys>(Scan::prefix(&server).limit(KEYS_MAX));
        let keys = rows.map(|row| row.map(|((_, id), key)| (id, key)));
        Ok(Known {
            keys: keys.collect::<Result<_, _>>()?,
        })
    }

    /// Adds what was learned; says which rows changed. A server's own word about a key replaces
    /// an earlier one, hearsay does not: with it, a key is only good for longer, or given up.
    pub(super) fn learn(
        &mut self,
        learned: Vec<(String, ServerKey)>,
        first_hand: bool,
    ) -> Vec<(String, ServerKey)> {
        let mut changed = Vec::new();
        for (id, mut key) in learned {
            match self.keys.get(&id) {
                Some(before) if before.public != key.public && !first_hand => continue,
                Some(before) if before.public == key.public && before.retired == key.retired => {
                    key.valid_until_ms = key.valid_until_ms.max(before.valid_until_ms);
                }
                Some(before) if before.retired && !first_hand => continue,
                Some(_) => {}
                None if self.keys.len() >= KEYS_MAX => continue,
                None => {}
            }
            if self.keys.get(&id) != Some(&key) {
                self.keys.insert(id.clone(), key.clone());
                changed.push((id, key));
            }
        }
        changed
    }

    /// Memory it takes, roughly, in bytes.
    pub(super) fn bytes(&self) -> usize {
        let keys = self.keys.keys().map(|id| id.len() + 120);
        200 + keys.sum::<usize>()
    }
}

/// What a server said that is still of use to others, newest first.
pub(super) fn answers_of(snap: &Snapshot, server: ServerNid) -> Result<Vec<KeyAnswer>, StoreError> {
    let mut answers: Vec<KeyAnswer> = snap.get::<KeyAnswers>(&server)?.into_iter().collect();
    answers.extend(snap.get::<OlderKeyAnswers>(&server)?.unwrap_or_default());
    Ok(answers)
}

/// Of what a server said before, newest first, what is still of use beside its newest answer: it
/// names keys that nothing newer does.
pub(super) fn still_of_use(newest: &Object, before: Vec<KeyAnswer>) -> Vec<KeyAnswer> {
    let mut newer = vec![newest.clone()];
    let mut kept = Vec::new();
    for row in before {
        let Ok(object) = Object::parse_within(row.json.as_bytes(), Mode::Lenient, usize::MAX)
        else {
            continue;
        };
        let is_new = |id: &str| !newer.iter().any(|answer| names_key(answer, id));
        let mut lists = ["verify_keys", "old_verify_keys"].into_iter();
        let says_more = lists.any(|list| {
            let ids = object.object(list).into_iter().flat_map(Object::iter);
            ids.into_iter().any(|(id, _)| is_new(id))
        });
        if says_more && kept.len() < OLDER_MAX {
            kept.push(row);
            newer.push(object);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(public: u8, valid_until_ms: u64, retired: bool) -> ServerKey {
        ServerKey {
            public: [public; 32],
            valid_until_ms,
            retired,
        }
    }

    #[test]
    fn a_key_is_good_until_its_time_and_a_retired_one_nowhere_after_it() {
        let (current, retired) = (key(1, 100, false), key(1, 100, true));
        for (moment, of_current, of_retired) in [
            (Moment::Request(100), true, false),
            (Moment::Request(101), false, false),
            (Moment::Signed(100), true, true),
            (Moment::Signed(101), false, false),
            (Moment::Whenever(100), true, true),
            (Moment::Whenever(101), true, false),
        ] {
            assert_eq!(moment.allows(&current), of_current, "{moment:?}");
            assert_eq!(moment.allows(&retired), of_retired, "{moment:?}");
        }
    }

    #[test]
    fn hearsay_does_not_replace_what_a_server_said_itself() {
        let mut known = Known::default();
        let mut learn = |key: ServerKey, first_hand| {
            let changed = known.learn(vec![("ed25519:a".to_owned(), key)], first_hand);
            (changed.len(), known.keys.get("ed25519:a").cloned())
        };
        assert_eq!(
            learn(key(1, 50, false), false),
            (1, Some(key(1, 50, false)))
        );
        assert_eq!(
            learn(key(2, 90, false), false),
            (0, Some(key(1, 50, false)))
        );
        assert_eq!(learn(key(1, 40, false), true), (0, Some(key(1, 50, false))));
        assert_eq!(learn(key(1, 60, false), true), (1, Some(key(1, 60, false))));
        assert_eq!(learn(key(1, 55, true), false), (1, Some(key(1, 55, true))));
        assert_eq!(learn(key(1, 99, false), false), (0, Some(key(1, 55, true))));
        assert_eq!(learn(key(2, 90, false), true), (1, Some(key(2, 90, false))));
    }
}
