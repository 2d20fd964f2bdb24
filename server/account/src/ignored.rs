//! Whom a user ignores: read from `m.ignored_user_list` of their account data.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::Value;
use skerry_core::{Pos, UserNid};
use skerry_store::{Snapshot, Store, StoreError};

use crate::{Accounts, data};

/// The type of account data that says whom a user ignores.
pub const IGNORED_USERS: &str = "m.ignored_user_list";
/// How many users' lists are kept parsed.
const MAX_CACHED: usize = 4_096;

/// A parsed list, and the position of the datum it was parsed from, under the store's generation:
/// a position that was lost with what was written there is given out again.
type Parsed = ((u64, Pos), Arc<HashSet<UserNid>>);

/// Parsed lists. Each belongs to one position of the datum, so it is right for every snapshot
/// that shows the datum at that position.
#[derive(Default)]
pub(crate) struct IgnoredCache(Mutex<HashMap<UserNid, Parsed>>);

impl Accounts {
    /// Whom a user ignores. Ids that this server has never seen are left out: nothing they sent
    /// can be here. A list with such ids is not kept parsed, since they may turn up later.
    ///
    /// # Errors
    /// Those of the store.
    pub fn ignored(
        &self,
        snap: &Snapshot,
        user: UserNid,
    ) -> Result<Arc<HashSet<UserNid>>, StoreError> {
        let Some(datum) = data::one(snap, user, None, IGNORED_USERS)? else {
            return Ok(Arc::default());
        };
        let at = (self.inner.store.generation(), datum.pos);
        if let Some((held, ignored)) = self.inner.ignored.0.lock().get(&user)
            && *held == at
        {
            return Ok(ignored.clone());
        }
        let (ignored, complete) = parse(&self.inner.store, user, &datum.json)?;
        let ignored = Arc::new(ignored);
        if !complete {
            return Ok(ignored);
        }
        let mut cache = self.inner.ignored.0.lock();
        if cache.len() >= MAX_CACHED {
            cache.clear();
        }
        cache.insert(user, (at, ignored.clone()));
        Ok(ignored)
    }
}

/// The users of a list, and whether all of its ids are known.
fn parse(store: &Store, user: UserNid, json: &str) -> Result<(HashSet<UserNid>, bool), StoreError> {
    let mut ignored = HashSet::new();
    let mut complete = true;
    let content: Value = serde_json::from_str(json).unwrap_or_default();
    let listed = content.get("ignored_users").and_then(Value::as_object);
    for id in listed.into_iter().flat_map(|users| users.keys()) {
        match store.user_nid(id)? {
            Some(other) if other != user => {
                ignored.insert(other);
            }
            Some(_) => {}
            None => complete = false,
        }
    }
    Ok((ignored, complete))
}
