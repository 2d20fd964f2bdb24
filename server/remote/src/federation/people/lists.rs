//! Device lists of users of other servers, fetched when a client asks or an update was missed.

use std::sync::Arc;
use std::time::Duration;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use skerry_account::e2e::{self, FetchedList};
use skerry_core::UserNid;
use skerry_store::{StoreError, blocking};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::{Ask, Inner, People, Unanswered};

/// How long another server has to give a list.
const FETCH_WITHIN: Duration = Duration::from_secs(30);
/// How often a list is fetched again at once because something was missed meanwhile.
const ATTEMPTS: usize = 3;
/// How many lists are looked for at a time.
const DUE_AT_ONCE: usize = 64;
/// How often it is looked for lists whose time has come.
const LOOK_EVERY: Duration = Duration::from_secs(20);

/// The server in a user id.
pub(super) fn server_of(user_id: &str) -> &str {
    user_id.split_once(':').map_or("", |(_, server)| server)
}

/// A part of a path, or a value of a query.
pub(super) fn encoded(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

impl People {
    /// Fetches lists whose time has come until `stop` becomes true.
    pub(super) async fn fetch_lists(&self, mut stop: watch::Receiver<bool>) {
        while !*stop.borrow() {
            match self.fetch_due().await {
                Ok(true) => continue,
                Ok(false) => {}
                Err(StoreError::Closed) => return,
                Err(error) => tracing::warn!(%error, "device lists have to wait"),
            }
            tokio::select! {
                () = self.inner.stale.notified() => {}
                () = tokio::time::sleep(LOOK_EVERY) => {}
                _ = stop.wait_for(|stop| *stop) => {}
            }
        }
    }

    /// Fetches some lists whose time has come. Whether there may be more.
    async fn fetch_due(&self) -> Result<bool, StoreError> {
        let inner = Arc::clone(&self.inner);
        let due = move || {
            let due = e2e::lists_due(&inner.store.snapshot(), inner.clock.now_ms(), DUE_AT_ONCE)?;
            let named = due
                .into_iter()
                .map(|user| Ok((user, inner.store.user_id(user)?)));
            named.collect::<Result<Vec<_>, StoreError>>()
        };
        let due = blocking(due).await??;
        let more = due.len() == DUE_AT_ONCE;
        let mut fetches = JoinSet::new();
        for (user, user_id) in due {
            let inner = Arc::clone(&self.inner);
            fetches.spawn(async move { inner.fetch_list(&user_id, user).await });
        }
        while let Some(done) = fetches.join_next().await {
            match done {
                Ok(Err(Fetch::Store(error))) => return Err(error),
                Ok(Err(Fetch::Unanswered(error))) => {
                    tracing::debug!(%error, "a device list could not be fetched");
                }
                Ok(Ok(())) => {}
                Err(error) => tracing::error!(%error, "fetching a device list broke off"),
            }
        }
        Ok(more)
    }
}

/// Why a list was not fetched.
pub(super) enum Fetch {
    Store(StoreError),
    Unanswered(Unanswered),
}

impl From<StoreError> for Fetch {
    fn from(error: StoreError) -> Fetch {
        Fetch::Store(error)
    }
}

impl Inner {
    /// Fetches a user's list and follows it from there; done at once if it is up to date already.
    pub(super) async fn fetch_list(&self, user_id: &str, user: UserNid) -> Result<(), Fetch> {
        let _lane = self.fetching.lock(user).await;
        // Cannot fail: it is never closed.
        let _place = self.fetches.acquire().await.ok();
        for _ in 0..ATTEMPTS {
            let (store, snap_of) = (Arc::clone(&self.store), user);
            let fresh = blocking(move || e2e::is_fresh(&store.snapshot(), snap_of)).await??;
            if fresh {
                return Ok(());
            }
            let missed = self.keys.begin_fetch(user).await?;
            let list = match self.ask_list(user_id).await {
                Ok(list) => list,
                Err(error) => {
                    self.keys.fetch_failed(user).await?;
                    return Err(Fetch::Unanswered(error));
                }
            };
            match self.keys.put_list(user_id, user, missed, list).await {
                Ok(_) => {}
                Err(e2e::KeysError::Store(error)) => return Err(error.into()),
                Err(error) => {
                    self.keys.fetch_failed(user).await?;
                    return Err(Fetch::Unanswered(Unanswered(error.to_string())));
                }
            }
        }
        Ok(())
    }

    async fn ask_list(&self, user_id: &str) -> Result<FetchedList, Unanswered> {
        let path = format!("/_matrix/federation/v1/user/devices/{}", encoded(user_id));
        let server = server_of(user_id);
        let body = self.reach.ask(server, Ask::Get(path), FETCH_WITHIN).await?;
        serde_json::from_slice(&body).map_err(|error| Unanswered(error.to_string()))
    }
}
