//! Signing keys of other servers, and ours as others ask for them (server-server API,
//! "Retrieving server keys").
//!
//! A key is looked for in memory, in the store, at its server, and at the servers that the
//! operator trusts with that. What is known is kept for good: old events were signed with keys
//! that nobody publishes any more.

mod answer;
mod fetch;
mod known;
mod notary;
mod own;
mod revoked;

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use skerry_core::Clock;
use skerry_store::schema::remote::KeyAnswer;
use skerry_store::{Cache, Lanes, Store, StoreError};
use tokio::sync::Semaphore;

use super::peers::Peers;

use fetch::Tried;
use known::Known;
pub(crate) use known::{Keys, Moment, Wanted};
pub use notary::KeysAsked;
pub use own::OldKey;
use own::Own;
pub use revoked::{Revoked, RevokedError};

#[cfg(feature = "fixtures")]
pub(super) use answer::{answered_by, from_notary};

/// How much memory the keys of other servers may take, in bytes.
const CACHE_BYTES: usize = 4 << 20;
/// How much memory answers may take that are passed on to others and not kept, in bytes.
const PASSING_BYTES: usize = 1 << 20;
/// How many servers are asked for others at a time, for all who use us as a notary together.
const NOTARY_AT_ONCE: usize = 16;

/// What a [`KeyRing`] is made of.
pub struct KeyRingOptions {
    /// Keeps the keys.
    pub store: Arc<Store>,
    /// Whom to ask.
    pub peers: Peers,
    /// Servers that are believed about the keys of others.
    pub trusted: Vec<Arc<str>>,
    /// Keys that this server used before.
    pub old_keys: Vec<OldKey>,
    /// Keys that nobody may use.
    pub revoked: Revoked,
    /// The time.
    pub clock: Arc<dyn Clock>,
}

/// The keys of all servers. A cheap handle: clone it freely.
#[derive(Clone)]
pub struct KeyRing {
    inner: Arc<Inner>,
}

struct Inner {
    store: Arc<Store>,
    peers: Peers,
    trusted: Vec<Arc<str>>,
    own: Own,
    revoked: Mutex<Arc<Revoked>>,
    clock: Arc<dyn Clock>,
    cache: Mutex<Cache<Arc<str>, Arc<Known>>>,
    /// Answers of servers that are asked for others, and with which this one has nothing to do.
    passing: Mutex<Cache<Arc<str>, Vec<KeyAnswer>>>,
    /// So that of many who look for the same server's keys, one asks it.
    asking: Lanes<Arc<str>>,
    tried: Mutex<HashMap<Arc<str>, Tried>>,
    for_others: Semaphore,
}

impl KeyRing {
    /// Knows what the store has.
    #[must_use]
    pub fn new(options: KeyRingOptions) -> KeyRing {
        let own = Own::new(
            Arc::clone(options.peers.own_name()),
            Arc::clone(options.peers.key()),
            options.old_keys,
        );
        KeyRing {
            inner: Arc::new(Inner {
                store: options.store,
                peers: options.peers,
                trusted: options.trusted,
                own,
                revoked: Mutex::new(Arc::new(options.revoked)),
                clock: options.clock,
                cache: Mutex::new(Cache::new(CACHE_BYTES)),
                passing: Mutex::new(Cache::new(PASSING_BYTES)),
                asking: Lanes::new(),
                tried: Mutex::default(),
                for_others: Semaphore::new(NOTARY_AT_ONCE),
            }),
        }
    }

    /// This server's keys, as others ask for them: the body of `GET /_matrix/key/v2/server`.
    #[must_use]
    pub fn own_keys(&self) -> String {
        self.inner.own.published(self.inner.clock.now_ms())
    }

    /// From now on nobody may use these keys, also those that are known already, and all others
    /// may be used.
    pub fn revoke(&self, revoked: Revoked) {
        *self.inner.revoked.lock() = Arc::new(revoked);
        // What is kept was kept under the old list; it is read again, and filtered.
        self.inner.cache.lock().clear();
    }

    /// The keys that are wanted, as far as they can be found; asks for those that are not known.
    ///
    /// # Errors
    /// The store's.
    pub(crate) async fn find(&self, wanted: Vec<Wanted>) -> Result<Keys, StoreError> {
        self.inner.find(wanted).await
    }

    /// The same without asking anybody.
    ///
    /// # Errors
    /// The store's.
    pub(crate) async fn known(&self, wanted: &[Wanted]) -> Result<Keys, StoreError> {
        let servers = wanted.iter().map(|one| Arc::clone(&one.server)).collect();
        let mut keys = Keys::default();
        self.inner.look_up(&mut keys, servers).await?;
        Ok(keys)
    }
}

#[cfg(test)]
mod tests;
