//! Transaction ids: the same request with the same id does nothing twice and is answered the
//! same, also after a restart.
//!
//! Whoever serves such a request takes [`Accounts::txn_lane`] first, so that two equal requests
//! in flight join; then looks up with [`lookup`], on the newest snapshot; and puts [`record`]
//! into the batch that does the work.

use skerry_core::UserNid;
use skerry_store::schema::account as t;
use skerry_store::{LaneGuard, Scan, Snapshot, Store, StoreError, Write};

use crate::{AccountError, Accounts};

/// Longest transaction id, in bytes.
pub const MAX_TXN_ID_BYTES: usize = 255;
/// Rows taken out by one sweep in one batch.
const SWEEP_ROWS: usize = 1_000;

/// Names a transaction: unique per device and endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TxnKey(UserNid, String, [u8; 16], String);

impl TxnKey {
    /// The transaction `txn_id` of this device at this endpoint; `path` is the request's path
    /// without the id.
    ///
    /// # Errors
    /// `Invalid` for an id that is empty or longer than 255 bytes.
    pub fn new(
        user: UserNid,
        device: &str,
        method: &str,
        path: &str,
        txn_id: &str,
    ) -> Result<TxnKey, AccountError> {
        if txn_id.is_empty() || txn_id.len() > MAX_TXN_ID_BYTES {
            return Err(AccountError::Invalid(
                "The transaction id must be 1 to 255 bytes long",
            ));
        }
        let mut hasher = blake3::Hasher::new();
        hasher
            .update(method.as_bytes())
            .update(b" ")
            .update(path.as_bytes());
        let mut hash = [0u8; 16];
        hasher.finalize_xof().fill(&mut hash);
        Ok(TxnKey(user, device.to_owned(), hash, txn_id.to_owned()))
    }

    fn row(&self) -> (UserNid, String, [u8; 16], String) {
        (self.0, self.1.clone(), self.2, self.3.clone())
    }
}

/// What a transaction was answered with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TxnAnswer {
    /// HTTP status.
    pub status: u16,
    /// Body: JSON, or whatever the recorder understands.
    pub answer: String,
}

/// What this transaction was answered with, if it was.
///
/// # Errors
/// Those of the store.
pub fn lookup(snap: &Snapshot, key: &TxnKey) -> Result<Option<TxnAnswer>, StoreError> {
    let row = snap.get::<t::Txns>(&key.row())?;
    Ok(row.map(|row| TxnAnswer {
        status: row.status,
        answer: row.answer,
    }))
}

/// Notes the answer in the batch that does the work.
pub fn record(w: &mut Write, key: &TxnKey, answer: &TxnAnswer, now_ms: u64) {
    let TxnAnswer { status, answer } = answer.clone();
    w.put::<t::Txns>(
        &key.row(),
        &t::Txn {
            status,
            answer,
            at_ms: now_ms,
        },
    );
}

/// Forgets all transactions of a device.
pub(crate) fn forget_device(w: &mut Write, user: UserNid, device: &str) {
    w.delete_range::<t::Txns>((user, device.to_owned()));
}

impl Accounts {
    /// Waits until no equal transaction is in flight, and holds others off until dropped.
    pub async fn txn_lane(&self, key: &TxnKey) -> LaneGuard<TxnKey> {
        self.inner.txns.lock(key.clone()).await
    }

    /// Takes out transactions older than `before_ms` (since the epoch). Called about daily.
    /// Gives back how many there were.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn sweep_txns(&self, before_ms: u64) -> Result<usize, AccountError> {
        let this = self.clone();
        let swept = skerry_store::blocking(move || this.sweep_txns_now(before_ms)).await??;
        Ok(swept)
    }

    fn sweep_txns_now(&self, before_ms: u64) -> Result<usize, StoreError> {
        let store = &self.inner.store;
        let mut swept = 0;
        let mut old = Vec::new();
        for row in store.snapshot().scan::<t::Txns>(Scan::all()) {
            let (key, row) = row?;
            if row.at_ms < before_ms {
                old.push(key);
            }
            if old.len() == SWEEP_ROWS {
                swept += delete_now(store, &std::mem::take(&mut old))?;
            }
        }
        Ok(swept + delete_now(store, &old)?)
    }
}

fn delete_now(
    store: &Store,
    keys: &[(UserNid, String, [u8; 16], String)],
) -> Result<usize, StoreError> {
    let mut w = store.write();
    for key in keys {
        w.delete::<t::Txns>(key);
    }
    let applied = if keys.is_empty() {
        store.barrier()
    } else {
        store.commit(w)?
    };
    store.wait_durable(&applied)?;
    Ok(keys.len())
}
