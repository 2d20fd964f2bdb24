//! Telling others the keys of third servers (server-server API, "Querying Keys Through Another
//! Server").
//!
//! Anybody may ask, so anybody can make us knock at a server. It is the guarded client that does,
//! each server is asked at most every few seconds, a few at a time and not for long, and of
//! servers that this one has nothing to do with nothing is kept.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use skerry_core::canonical::{Mode, Object, Value};
use skerry_core::names;
use skerry_store::schema::remote::KeyAnswer;
use skerry_store::{StoreError, blocking};

use super::known::last_answer;
use super::{Inner, KeyRing};

/// How many servers one query may ask for; the rest is passed over.
const SERVERS_MAX: usize = 100;
/// How long asking for them may take in all. What is known is told then.
const TIME: Duration = Duration::from_secs(20);

impl KeyRing {
    /// The keys of other servers, each answer signed by its server and by this one: the body of
    /// `/_matrix/key/v2/query`. By server, the ids of the keys that are asked for with the time,
    /// in ms since the epoch, until which they should be good; without ids all keys are meant.
    ///
    /// # Errors
    /// The store's.
    pub async fn notary(
        &self,
        asked: BTreeMap<String, BTreeMap<String, u64>>,
    ) -> Result<String, StoreError> {
        let inner = &self.inner;
        let now_ms = inner.clock.now_ms();
        let mut answers: Vec<Value> = Vec::new();
        let mut others = Vec::new();
        for (server, keys) in asked.into_iter().take(SERVERS_MAX) {
            if *server == *inner.own.name {
                answers.push(inner.own.object(now_ms).into());
            } else if names::is_server_name(&server) && inner.peers.policy().permits(&server) {
                others.push((Arc::from(server), keys));
            }
        }
        let until = tokio::time::Instant::now() + TIME;
        let looking = others.into_iter().map(|(server, keys)| async move {
            let fresh = inner.fresh(&server, &keys, now_ms);
            match tokio::time::timeout_at(until, fresh).await {
                Ok(found) => found,
                Err(_) => inner
                    .stored(&server)
                    .await
                    .map(|row| row.as_ref().and_then(parsed)),
            }
        });
        let found: Vec<Result<Option<Object>, StoreError>> = futures_util::stream::iter(looking)
            .buffer_unordered(SERVERS_MAX)
            .collect()
            .await;
        for object in found {
            if let Some(mut object) = object? {
                inner.own.key.sign_object(&inner.own.name, &mut object);
                answers.push(object.into());
            }
        }
        let mut body = Object::new();
        body.insert("server_keys", answers);
        Ok(body.to_string())
    }
}

impl Inner {
    /// An answer of a server that is good for so long: a stored one, else one that it is asked
    /// for, else the last there was.
    async fn fresh(
        &self,
        server: &Arc<str>,
        keys: &BTreeMap<String, u64>,
        now_ms: u64,
    ) -> Result<Option<Object>, StoreError> {
        let stored = self.stored(server).await?;
        let last = stored.as_ref().and_then(|row| Some((row, parsed(row)?)));
        if let Some((row, object)) = &last
            && is_fresh(row, object, keys, now_ms)
        {
            return Ok(Some(object.clone()));
        }
        let last = last.map(|(_, object)| object);
        // It is never closed.
        let _place = self.for_others.acquire().await;
        if let Some(new) = self.ask(server, false, |_| false).await? {
            return Ok(Some(new));
        }
        // Somebody else may have asked meanwhile.
        let stored = self.stored(server).await?;
        Ok(stored.as_ref().and_then(parsed).or(last))
    }

    async fn stored(&self, server: &Arc<str>) -> Result<Option<KeyAnswer>, StoreError> {
        let passing = self.passing.lock().get(server).cloned();
        if passing.is_some() {
            return Ok(passing);
        }
        let (store, server) = (Arc::clone(&self.store), Arc::clone(server));
        blocking(move || match store.server_nid(&server)? {
            Some(nid) => last_answer(&store.newest(), nid),
            None => Ok(None),
        })
        .await?
    }
}

fn parsed(row: &KeyAnswer) -> Option<Object> {
    Object::parse_within(row.json.as_bytes(), Mode::Lenient, usize::MAX).ok()
}

/// Whether a stored answer can be told again: it names the keys, is good for long enough, and has
/// not lived through the half of its time.
fn is_fresh(row: &KeyAnswer, object: &Object, keys: &BTreeMap<String, u64>, now_ms: u64) -> bool {
    let half = row.valid_until_ms.saturating_sub(row.fetched_ms) / 2;
    let named = |list: &str, id: &str| object.object(list).is_some_and(|all| all.get(id).is_some());
    let until_ms = keys.values().copied().max().unwrap_or(0).max(now_ms);
    now_ms < row.fetched_ms.saturating_add(half)
        && row.valid_until_ms >= until_ms
        && keys
            .keys()
            .all(|id| named("verify_keys", id) || named("old_verify_keys", id))
}
