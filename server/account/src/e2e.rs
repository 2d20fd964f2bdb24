//! End-to-end encryption, as far as a server has part in it.
//!
//! Devices publish identity keys, one-time keys and fallback keys; users publish cross-signing keys
//! and signatures; devices leave messages for each other and back up their room keys. The server
//! checks shape and ownership, hands each one-time key out once, tells others that something
//! changed, and understands none of the ciphertext.
//!
//! * Writes are methods of [`Keys`], had by [`Accounts::keys`]. They run in the lane of the user
//!   whose rows they change: the same lane in which devices are made and deleted, so that no key
//!   outlives its device.
//! * Reads are functions that take a [`Snapshot`], for `/sync` above all: [`key_counts`],
//!   [`waiting`], [`last_message`], [`list_pos`], [`lists_changed`], [`private_changes`].
//! * [`forget_device`] and [`forget_user`] add to a batch of the caller what has to go with a
//!   device or an account; [`device_added`] and [`device_renamed`] what others learn.
//!
//! Users of other servers: `remote.rs` follows their device lists, `outgoing.rs` and `served.rs` tell
//! their servers of ours, `direct.rs` is about messages between devices across servers.
//!
//! Start reading in `upload.rs`, then `claim.rs`.

mod backup;
mod checked;
mod claim;
mod counts;
mod cross;
mod dehydrated;
mod direct;
mod forget;
mod lists;
mod outgoing;
mod query;
mod remote;
mod served;
mod signatures;
mod signed;
mod to_device;
mod upload;

use std::sync::Arc;

use skerry_core::UserNid;
use skerry_store::{Applied, Store, StoreError, Write, blocking};

use crate::Accounts;

pub use backup::{
    BackupError, BackupInfo, BackupKeys, KeysChanged, NewBackup, RoomBackup, SessionBackup, Which,
};
pub use checked::{AnsweredClaim, AnsweredKeys};
pub use claim::{ClaimRequest, Claimed};
pub use counts::{KeyCounts, key_counts};
pub use cross::{CrossSigningOutcome, CrossSigningUpload, is_cross_signing_key};
pub use dehydrated::{Dehydrated, NewDehydrated};
pub use forget::{device_added, device_renamed, forget_device, forget_user};
pub use lists::{list_pos, lists_changed, private_changes};
pub use outgoing::late_servers;
pub use query::{KeyQuery, QueriedKeys};
pub use remote::{
    FetchedList, ListUpdate, SigningKeyUpdate, Taken, is_followed, is_fresh, is_of, lists_due,
    unfollow,
};
pub use served::ServedList;
pub use signatures::{SignatureFailure, SignatureFailures, SignatureUpload};
pub(crate) use to_device::Queues;
pub use to_device::{
    MESSAGES_PER_SYNC, Messages, Sender, ToDeviceError, Waiting, last_message, put_message, waiting,
};
pub use upload::KeyUpload;

/// The writing side of end-to-end encryption; a cheap handle.
#[derive(Clone)]
pub struct Keys {
    accounts: Accounts,
}

/// Why keys were not taken or not found.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// The request does not have the shape it should have, or names somebody else's device.
    #[error("{0}")]
    Shape(String),
    /// A one-time key of this id is already stored with another content.
    #[error("one-time key {0} is already uploaded with another content")]
    KeyTaken(String),
    /// More one-time keys than a device may have waiting.
    #[error("this device has too many one-time keys")]
    TooMany,
    /// A signature that has to be there is missing or wrong.
    #[error("{0}")]
    Signature(&'static str),
    /// A self-signing or user-signing key came without any master key, here or before.
    #[error("no master key is known")]
    NoMaster,
    /// A public key is the same as one of the user's device ids.
    #[error("a public key is the same as a device id")]
    KeyIdInUse,
    /// The device was deleted meanwhile.
    #[error("the device does not exist")]
    NoDevice,
    /// The store failed.
    #[error("{0}")]
    Store(#[from] StoreError),
}

/// A local user, by both names.
#[derive(Clone, Debug)]
pub struct Owner {
    /// The Matrix id.
    pub user_id: Arc<str>,
    /// The number in the store.
    pub user: UserNid,
}

impl Accounts {
    /// End-to-end encryption's part of the accounts.
    #[must_use]
    pub fn keys(&self) -> Keys {
        Keys {
            accounts: self.clone(),
        }
    }
}

impl Keys {
    fn store(&self) -> &Arc<Store> {
        &self.accounts.inner.store
    }

    /// Whether a user id belongs to this server.
    #[must_use]
    pub fn is_local(&self, user_id: &str) -> bool {
        server_of(user_id) == Some(self.accounts.server_name())
    }

    /// The number of a local user who may exist.
    fn local_nid(&self, user_id: &str) -> Result<Option<UserNid>, StoreError> {
        if self.is_local(user_id) {
            self.store().user_nid(user_id)
        } else {
            Ok(None)
        }
    }

    /// Runs `plan` in the user's lane on a blocking thread, and waits until what it applied or
    /// decided on is durable. A refusal waits too.
    async fn in_lane<T, E, F>(&self, user: UserNid, plan: F) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
        F: FnOnce(&Keys, &mut Write) -> Result<T, E> + Send + 'static,
    {
        let (answer, applied) = self.apply_in_lane(user, plan).await?;
        self.store().durable(&applied).await?;
        answer
    }

    /// The same without the wait, which is left to the caller.
    async fn apply_in_lane<T, E, F>(
        &self,
        user: UserNid,
        plan: F,
    ) -> Result<(Result<T, E>, Applied), StoreError>
    where
        T: Send + 'static,
        E: Send + 'static,
        F: FnOnce(&Keys, &mut Write) -> Result<T, E> + Send + 'static,
    {
        let lane = self.accounts.inner.lanes.lock(user).await;
        let keys = self.clone();
        blocking(move || {
            let _lane = lane;
            let mut w = keys.store().write();
            let answer = plan(&keys, &mut w);
            keys.finish(answer, w)
        })
        .await?
    }

    /// Commits what was planned; a refusal, and a plan that writes nothing, become a wait for
    /// what they were decided on.
    fn finish<T, E>(
        &self,
        answer: Result<T, E>,
        w: Write,
    ) -> Result<(Result<T, E>, Applied), StoreError> {
        if answer.is_err() || w.is_empty() {
            return Ok((answer, self.store().barrier()));
        }
        Ok((answer, self.store().commit(w)?))
    }

    /// Reads from the published state on a blocking thread.
    async fn read<T, E, F>(&self, query: F) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
        F: FnOnce(&Keys, &skerry_store::Snapshot) -> Result<T, E> + Send + 'static,
    {
        let keys = self.clone();
        blocking(move || query(&keys, &keys.store().snapshot())).await?
    }
}

/// The server name of a user id, if it looks like one.
pub(crate) fn server_of(user_id: &str) -> Option<&str> {
    user_id
        .strip_prefix('@')?
        .split_once(':')
        .map(|(_, server)| server)
}
