//! How far the sending to an application service has come.
//!
//! A transaction is written down before it is sent, in the batch that takes what it holds off
//! the queue: whatever happens, the same number is always sent with the same body, and what
//! has not arrived is not forgotten.

use skerry_core::Pos;
use skerry_store::schema::appservice as t;
use skerry_store::{Snapshot, StoreError, Write};

use crate::AccountError;
use crate::tx::Tx;

/// A transaction on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transaction {
    /// Its number: larger than all before, also before a loss of all data.
    pub number: u64,
    /// Its body, as JSON.
    pub body: Vec<u8>,
}

/// How far the sending to an application service has come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// The number of the newest transaction; 0 before the first.
    pub number: u64,
    /// Up to where the log was looked through; none: never.
    pub followed: Option<Pos>,
    /// The transaction that has not arrived yet.
    pub on_its_way: Option<Transaction>,
}

/// How far the sending to an application service has come.
///
/// # Errors
/// Those of the store.
pub fn progress(snap: &Snapshot, id: &str) -> Result<Progress, StoreError> {
    let row = snap.get::<t::Sending>(&id.to_owned())?;
    Ok(row.map_or_else(Progress::default, |row| Progress {
        number: row.number,
        followed: (row.followed > Pos::ZERO).then_some(row.followed),
        on_its_way: row.body.map(|body| Transaction {
            number: row.number,
            body,
        }),
    }))
}

/// Writes down a transaction that is to be sent next, in the batch that empties the queue.
pub fn put(w: &mut Write, id: &str, transaction: &Transaction, followed: Pos) {
    let row = t::Progress {
        number: transaction.number,
        followed,
        body: Some(transaction.body.clone()),
    };
    w.put::<t::Sending>(&id.to_owned(), &row);
}

/// Notes that nothing is on its way, and up to where the log was looked through.
pub fn put_idle(w: &mut Write, id: &str, number: u64, followed: Pos) {
    let row = t::Progress {
        number,
        followed,
        body: None,
    };
    w.put::<t::Sending>(&id.to_owned(), &row);
}

/// Nothing more is sent; the number stays, should the application service come back.
pub(super) fn stop(tx: &mut Tx<'_>, id: &str) -> Result<(), AccountError> {
    let key = id.to_owned();
    if let Some(mut row) = tx.snap.get::<t::Sending>(&key)? {
        row.body = None;
        row.followed = Pos::ZERO;
        tx.w.put::<t::Sending>(&key, &row);
    }
    Ok(())
}
