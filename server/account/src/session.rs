//! What happens with the token of each request: from memory when warm, else one look-up.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::{Mutex, RwLock};
use skerry_core::UserNid;
use skerry_store::schema::account as t;
use skerry_store::schema::account::TokenKind;
use skerry_store::{Applied, Snapshot, StoreError, blocking};

use crate::facade::Inner;
use crate::login::revoke;
use crate::{AccountError, Accounts, TokenHash, secret};

/// How often a device's last-seen time is noted at most, in ms.
const TOUCH_EVERY_MS: u64 = 60_000;
/// How many devices' last-seen times are written in one batch.
const SEEN_PER_BATCH: usize = 256;
/// How many devices' last-seen times wait in memory at most to be written.
const MAX_SEEN: usize = 50_000;

/// Who a request comes from.
#[derive(Debug)]
pub struct Session {
    /// Whose access token it is.
    pub user: UserNid,
    /// The same as a Matrix id.
    pub user_id: Arc<str>,
    /// The device.
    pub device: Arc<str>,
    /// Whether the account is a guest's.
    pub guest: bool,
    /// Whether the account may use the admin API.
    pub admin: bool,
    /// Whether the account is locked.
    pub locked: bool,
    /// Whether the account is suspended.
    pub suspended: bool,
    /// The token's keyed hash: names this log-in, tells nothing about the token.
    pub token: TokenHash,
    expires_ms: Option<u64>,
    /// A refreshed token not used yet: the tokens before it are still good.
    unconfirmed: AtomicBool,
    touched_ms: AtomicU64,
}

/// When and from where a device was last seen.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) at_ms: u64,
    pub(crate) ip: IpAddr,
    pub(crate) agent: Option<String>,
}

/// Sessions in memory.
///
/// A look-up that goes to the store reads the *newest* state: a token revoked a moment ago is
/// refused even before its revocation is durable. `generation` counts revocations, so that a
/// look-up that began before one cannot put back what it took out.
pub(crate) struct Sessions {
    map: RwLock<HashMap<TokenHash, Arc<Session>>>,
    generation: AtomicU64,
    capacity: usize,
    seen: Mutex<HashMap<(UserNid, Arc<str>), Seen>>,
}

impl Sessions {
    pub(crate) fn new(capacity: usize) -> Sessions {
        Sessions {
            map: RwLock::default(),
            generation: AtomicU64::new(0),
            capacity: capacity.max(1),
            seen: Mutex::default(),
        }
    }

    /// Forgets sessions by token, and all sessions of some users; after the commit that made
    /// them invalid.
    pub(crate) fn forget(&self, tokens: &[TokenHash], users: &[UserNid]) {
        if tokens.is_empty() && users.is_empty() {
            return;
        }
        let mut map = self.map.write();
        self.generation.fetch_add(1, Ordering::AcqRel);
        for token in tokens {
            map.remove(token);
        }
        if !users.is_empty() {
            map.retain(|_, session| !users.contains(&session.user));
        }
    }

    fn keep(&self, session: &Arc<Session>, generation: u64) {
        let mut map = self.map.write();
        if self.generation.load(Ordering::Acquire) != generation {
            return;
        }
        if map.len() >= self.capacity {
            // Any will do: whoever is thrown out pays one look-up.
            let some: Vec<TokenHash> = map.keys().take(self.capacity / 16 + 1).copied().collect();
            for token in some {
                map.remove(&token);
            }
        }
        map.insert(session.token, session.clone());
    }

    /// When a device was last seen, as far as it is not written yet.
    pub(crate) fn seen(&self, user: UserNid, device: &str) -> Option<Seen> {
        self.seen.lock().get(&(user, Arc::from(device))).cloned()
    }

    fn touch(&self, session: &Session, now_ms: u64, (ip, agent): (IpAddr, Option<&str>)) {
        let last = session.touched_ms.load(Ordering::Relaxed);
        if now_ms.saturating_sub(last) < TOUCH_EVERY_MS && last != 0 {
            return;
        }
        session.touched_ms.store(now_ms, Ordering::Relaxed);
        let mut seen = self.seen.lock();
        let key = (session.user, session.device.clone());
        if seen.len() < MAX_SEEN || seen.contains_key(&key) {
            let agent = agent.map(str::to_owned);
            let at_ms = now_ms;
            seen.insert(key, Seen { at_ms, ip, agent });
        }
    }
}

impl Accounts {
    /// Whose token this is. `agent` is what the client says of itself.
    ///
    /// # Errors
    /// [`AccountError::UnknownToken`], with `soft_logout` where the token has only expired.
    pub async fn authenticate(
        &self,
        token: &str,
        peer: IpAddr,
        agent: Option<&str>,
    ) -> Result<Arc<Session>, AccountError> {
        const UNKNOWN: AccountError = AccountError::UnknownToken { soft_logout: false };
        if token.len() > secret::MAX_TOKEN_BYTES {
            return Err(UNKNOWN);
        }
        let hash = secret::hash(&self.inner.settings.pepper, token);
        let warm = self.inner.sessions.map.read().get(&hash).cloned();
        let session = match warm {
            Some(session) => session,
            None => {
                let inner = self.inner.clone();
                blocking(move || inner.look_up(hash))
                    .await??
                    .ok_or(UNKNOWN)?
            }
        };
        let now = self.inner.clock.now_ms();
        if session.expires_ms.is_some_and(|at| at <= now) {
            return Err(AccountError::UnknownToken { soft_logout: true });
        }
        if session.unconfirmed.load(Ordering::Acquire)
            && let Err(error) = self.confirm(&session).await
        {
            // The token is good all the same: a disk that takes no writes must not end reading.
            tracing::debug!(%error, "the tokens before a refresh are not revoked yet");
        }
        self.inner.sessions.touch(&session, now, (peer, agent));
        Ok(session)
    }

    /// The first use of a refreshed token shows that its owner has it, so the tokens before it
    /// have served.
    async fn confirm(&self, session: &Arc<Session>) -> Result<(), AccountError> {
        let (user, device, token) = (session.user, session.device.to_string(), session.token);
        self.change(user, move |tx| {
            let key = (user, device);
            let Some(mut row) = tx.snap.get::<t::Devices>(&key)? else {
                return Ok(());
            };
            if row.access == Some(token) && row.previous.is_some() {
                revoke(tx, [row.previous.take(), row.previous_access.take()]);
                tx.w.put::<t::Devices>(&key, &row);
            }
            Ok(())
        })
        .await?;
        session.unconfirmed.store(false, Ordering::Release);
        Ok(())
    }

    /// Writes the last-seen times that are only in memory so far. Called every few minutes and
    /// at the end; losing them in a crash loses nothing that anyone was promised.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn write_last_seen(&self) -> Result<(), AccountError> {
        let seen = std::mem::take(&mut *self.inner.sessions.seen.lock());
        let seen: Vec<_> = seen.into_iter().collect();
        for some in seen.chunks(SEEN_PER_BATCH) {
            let lanes = some.iter().map(|((user, _), _)| *user).collect();
            let lanes = self.inner.lanes.lock_many(lanes).await;
            let (this, some) = (self.clone(), some.to_vec());
            let applied = blocking(move || {
                let _lanes = lanes;
                this.inner.write_seen(&some)
            })
            .await??;
            self.inner.store.durable(&applied).await?;
        }
        Ok(())
    }
}

impl Inner {
    fn write_seen(&self, seen: &[((UserNid, Arc<str>), Seen)]) -> Result<Applied, StoreError> {
        let snap = self.store.newest();
        let mut w = self.store.write();
        for ((user, device), seen) in seen {
            let key = (*user, device.to_string());
            if let Some(mut row) = snap.get::<t::Devices>(&key)?
                && row.seen_ms < seen.at_ms
            {
                row.seen_ms = seen.at_ms;
                row.seen_ip = Some(seen.ip.to_string());
                w.put::<t::Devices>(&key, &row);
                if let Some(agent) = &seen.agent {
                    w.put::<t::DeviceAgents>(&key, agent);
                }
            }
        }
        if w.is_empty() {
            return Ok(self.store.barrier());
        }
        self.store.commit(w)
    }

    pub(crate) fn look_up(&self, hash: TokenHash) -> Result<Option<Arc<Session>>, StoreError> {
        let generation = self.sessions.generation.load(Ordering::Acquire);
        let session = self.session_of(&self.store.newest(), hash)?.map(Arc::new);
        if let Some(session) = &session {
            self.sessions.keep(session, generation);
        }
        Ok(session)
    }

    fn session_of(&self, snap: &Snapshot, hash: TokenHash) -> Result<Option<Session>, StoreError> {
        let Some(token) = snap.get::<t::Tokens>(&hash)? else {
            return Ok(None);
        };
        if token.kind != TokenKind::Access {
            return Ok(None);
        }
        let Some(account) = snap.get::<t::Accounts>(&token.user)? else {
            return Ok(None);
        };
        let device = snap.get::<t::Devices>(&(token.user, token.device.clone()))?;
        let (Some(device), false) = (device, account.deactivated) else {
            return Ok(None);
        };
        let hold = crate::hold::of(snap, token.user)?;
        Ok(Some(Session {
            user: token.user,
            user_id: self.store.user_id(token.user)?,
            device: token.device.into(),
            guest: account.guest,
            admin: account.admin,
            locked: hold.locked,
            suspended: hold.suspended,
            token: hash,
            expires_ms: token.expires_ms,
            unconfirmed: AtomicBool::new(device.previous.is_some() && device.access == Some(hash)),
            touched_ms: AtomicU64::new(0),
        }))
    }
}
