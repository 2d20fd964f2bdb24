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

use super::known::answers_of;
use super::{Inner, KeyRing};

/// How many servers one query may ask for; the rest is passed over.
const SERVERS_MAX: usize = 100;
/// How long asking for them may take in all. What is known is told then.
const TIME: Duration = Duration::from_secs(20);

/// What somebody wants to know of a server's keys. Times are in ms since the epoch; none: they
/// should be good now.
#[derive(Clone, Debug, Default)]
pub struct KeysAsked {
    /// The ids of the keys, and until when each should be good; empty: all keys are meant.
    pub ids: BTreeMap<String, Option<u64>>,
    /// Until when keys should be good where no ids are named.
    pub until_ms: Option<u64>,
}

impl KeyRing {
    /// The keys of other servers, each answer signed by its server and by this one: the body of
    /// `/_matrix/key/v2/query`.
    ///
    /// # Errors
    /// The store's.
    pub async fn notary(&self, asked: BTreeMap<String, KeysAsked>) -> Result<String, StoreError> {
        let inner = &self.inner;
        let now_ms = inner.clock.now_ms();
        let mut answers: Vec<Value> = Vec::new();
        let mut others = Vec::new();
        for (server, asked) in asked.into_iter().take(SERVERS_MAX) {
            if *server == *inner.own.name {
                answers.push(inner.own.object(now_ms).into());
            } else if names::is_server_name(&server) && inner.peers.policy().permits(&server) {
                others.push((Arc::from(server), asked));
            }
        }
        let until = tokio::time::Instant::now() + TIME;
        let looking = others.into_iter().map(|(server, asked)| async move {
            let fresh = inner.fresh(&server, &asked, now_ms);
            match tokio::time::timeout_at(until, fresh).await {
                Ok(found) => found,
                Err(_) => Ok(asked.choose(inner.said(&server).await?)),
            }
        });
        let found: Vec<Result<Vec<Object>, StoreError>> = futures_util::stream::iter(looking)
            .buffer_unordered(SERVERS_MAX)
            .collect()
            .await;
        for objects in found {
            for mut object in objects? {
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
    /// Answers of a server that are good for so long: stored ones, else one that it is asked for
    /// and what is stored by then.
    async fn fresh(
        &self,
        server: &Arc<str>,
        asked: &KeysAsked,
        now_ms: u64,
    ) -> Result<Vec<Object>, StoreError> {
        let said = self.said(server).await?;
        if !asked.is_met(&said, now_ms) {
            // It is never closed.
            let _place = self.for_others.acquire().await;
            self.ask_again(server).await?;
            return Ok(asked.choose(self.said(server).await?));
        }
        Ok(asked.choose(said))
    }

    /// What a server said that is still known, newest first.
    async fn said(&self, server: &Arc<str>) -> Result<Vec<Said>, StoreError> {
        let passing = self.passing.lock().get(server).cloned();
        let rows = match passing {
            Some(rows) => rows,
            None => {
                let (store, server) = (Arc::clone(&self.store), Arc::clone(server));
                let read = blocking(move || match store.server_nid(&server)? {
                    Some(nid) => answers_of(&store.newest(), nid),
                    None => Ok(Vec::new()),
                });
                read.await??
            }
        };
        Ok(rows.into_iter().filter_map(Said::read).collect())
    }
}

/// An answer that a server gave, and what is known of it.
struct Said {
    row: KeyAnswer,
    object: Object,
}

impl Said {
    fn read(row: KeyAnswer) -> Option<Said> {
        let object = Object::parse_within(row.json.as_bytes(), Mode::Lenient, usize::MAX).ok()?;
        Some(Said { row, object })
    }

    fn names(&self, id: &str) -> bool {
        names_key(&self.object, id)
    }

    /// Whether it can be told again: it is good for as long as is wanted; where nobody says how
    /// long that is, it has not lived through the half of its time.
    fn is_good(&self, until_ms: Option<u64>, now_ms: u64) -> bool {
        let row = &self.row;
        let half = row.valid_until_ms.saturating_sub(row.fetched_ms) / 2;
        match until_ms {
            Some(until_ms) => row.valid_until_ms >= until_ms,
            None => row.valid_until_ms >= now_ms && now_ms < row.fetched_ms.saturating_add(half),
        }
    }
}

/// Whether an answer names a key, as one in use or as one of before.
pub(super) fn names_key(answer: &Object, id: &str) -> bool {
    let named = |list: &str| answer.object(list).is_some_and(|all| all.get(id).is_some());
    named("verify_keys") || named("old_verify_keys")
}

impl KeysAsked {
    /// Whether what a server said does for it.
    fn is_met(&self, said: &[Said], now_ms: u64) -> bool {
        let mut ids = self.ids.iter();
        let newest = |id: &str| said.iter().find(|one| one.names(id));
        match self.ids.is_empty() {
            true => said
                .first()
                .is_some_and(|one| one.is_good(self.until_ms, now_ms)),
            false => ids.all(|(id, until)| newest(id).is_some_and(|s| s.is_good(*until, now_ms))),
        }
    }

    /// The answers that say most about what is asked: of each key the newest that names it, and
    /// where none does the newest of all.
    fn choose(&self, said: Vec<Said>) -> Vec<Object> {
        let mut open: Vec<&String> = self.ids.keys().collect();
        let (mut chosen, mut newest) = (Vec::new(), None);
        for one in said {
            let before = open.len();
            open.retain(|id| !one.names(id));
            if open.len() < before {
                chosen.push(one.object);
            } else if newest.is_none() {
                newest = Some(one.object);
            }
        }
        if chosen.is_empty() {
            chosen.extend(newest);
        }
        chosen
    }
}
