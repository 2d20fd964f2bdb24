//! The one shape of every change: lane, newest snapshot, plan, one commit, durable, answer.

use std::sync::Arc;

use skerry_core::UserNid;
use skerry_store::{Applied, Snapshot, StoreError, Write, blocking};

use crate::appservice::Appservice;
use crate::facade::Inner;
use crate::{AccountError, Accounts, TokenHash};

/// A change being planned: what it sees, and what it writes.
pub(crate) struct Tx<'a> {
    pub(crate) inner: &'a Inner,
    /// The newest applied state.
    pub(crate) snap: Snapshot,
    /// The batch.
    pub(crate) w: Write,
    /// Tokens that are worthless once the batch is applied.
    pub(crate) revoked: Vec<TokenHash>,
    /// Users whose sessions in memory are out of date once the batch is applied.
    pub(crate) stale: Vec<UserNid>,
    /// Whether the batch leaves work for rooms.
    pub(crate) rings: bool,
    /// All application services, where the batch changes them.
    pub(crate) appservices: Option<Vec<Arc<Appservice>>>,
}

impl Tx<'_> {
    /// The time of the change, in ms since the epoch.
    pub(crate) fn now_ms(&self) -> u64 {
        self.inner.clock.now_ms()
    }
}

impl Accounts {
    /// Does one change of one user's rows and answers when it is durable. A refusal waits too:
    /// it was decided on what may not be durable yet.
    pub(crate) async fn change<T: Send + 'static>(
        &self,
        user: UserNid,
        plan: impl FnOnce(&mut Tx<'_>) -> Result<T, AccountError> + Send + 'static,
    ) -> Result<T, AccountError> {
        let lane = self.inner.lanes.lock(user).await;
        self.run(lane, plan).await
    }

    /// The same, alone among all registrations, and in the lane of `user` besides.
    pub(crate) async fn change_registering<T: Send + 'static>(
        &self,
        user: Option<UserNid>,
        plan: impl FnOnce(&mut Tx<'_>) -> Result<T, AccountError> + Send + 'static,
    ) -> Result<T, AccountError> {
        let registering = self.inner.registering.lock(()).await;
        let lane = match user {
            Some(user) => Some(self.inner.lanes.lock(user).await),
            None => None,
        };
        self.run((registering, lane), plan).await
    }

    async fn run<T: Send + 'static, G: Send + 'static>(
        &self,
        guard: G,
        plan: impl FnOnce(&mut Tx<'_>) -> Result<T, AccountError> + Send + 'static,
    ) -> Result<T, AccountError> {
        let this = self.clone();
        let (answer, applied) = blocking(move || {
            let _guard = guard;
            this.inner.run_now(plan)
        })
        .await??;
        self.inner.store.durable(&applied).await?;
        answer
    }

    /// Reads from the published state on a blocking thread.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        query: impl FnOnce(&Inner, &Snapshot) -> Result<T, AccountError> + Send + 'static,
    ) -> Result<T, AccountError> {
        let this = self.clone();
        blocking(move || query(&this.inner, &this.inner.store.snapshot())).await?
    }
}

type Outcome<T> = (Result<T, AccountError>, Applied);

impl Inner {
    fn run_now<T>(
        &self,
        plan: impl FnOnce(&mut Tx<'_>) -> Result<T, AccountError>,
    ) -> Result<Outcome<T>, StoreError> {
        let mut tx = Tx {
            inner: self,
            snap: self.store.newest(),
            w: self.store.write(),
            revoked: Vec::new(),
            stale: Vec::new(),
            rings: false,
            appservices: None,
        };
        let answer = match plan(&mut tx) {
            Err(AccountError::Store(error)) => return Err(error),
            answer => answer,
        };
        if answer.is_err() || tx.w.is_empty() {
            return Ok((answer, self.store.barrier()));
        }
        let applied = self.store.commit(tx.w)?;
        self.sessions.forget(&tx.revoked, &tx.stale);
        self.settle_appservices(tx.appservices);
        if tx.rings {
            // Who hears the bell reads the published state, so it has to be there by then. Done
            // here, on the blocking thread, since the caller may have hung up.
            self.store.wait_durable(&applied)?;
            self.bell.ring();
        }
        Ok((answer, applied))
    }
}
