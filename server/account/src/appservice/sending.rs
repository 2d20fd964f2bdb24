//! The transaction that is on its way to an application service.
//!
//! It is written down before it is sent: whatever happens, the same number is always sent with
//! the same body, and what has not arrived is not forgotten.

use skerry_core::{Pos, UserNid};
use skerry_store::outbox::{self, Dest};
use skerry_store::schema::appservice as t;
use skerry_store::schema::e2e::ToDeviceTable;
use skerry_store::{Snapshot, StoreError, Write};

/// A transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transaction {
    /// Its number: larger than all before.
    pub number: u64,
    /// The last item of the queue that is in it.
    pub upto: Pos,
    /// Its body, as JSON.
    pub body: Vec<u8>,
}

/// What waits to be sent to an application service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Waiting {
    /// How many items.
    pub items: usize,
    /// Since when it cannot be reached, in ms since the epoch; none: it was reached last.
    pub failing_since_ms: Option<u64>,
}

/// What waits to be sent to an application service.
///
/// # Errors
/// Those of the store.
pub fn waiting(snap: &Snapshot, id: &str) -> Result<Waiting, StoreError> {
    let dest = Dest::Appservice(id.to_owned());
    let standing = outbox::standing(snap, &dest)?;
    let failing = standing.filter(|standing| standing.failures > 0);
    Ok(Waiting {
        items: outbox::positions(snap, &dest)?.len(),
        failing_since_ms: failing.map(|standing| standing.failing_since_ms),
    })
}

/// The transaction that has not arrived yet, and the number of the newest one; 0 before the
/// first.
///
/// # Errors
/// Those of the store.
pub fn on_its_way(snap: &Snapshot, id: &str) -> Result<(Option<Transaction>, u64), StoreError> {
    let Some(row) = snap.get::<t::Sending>(&id.to_owned())? else {
        return Ok((None, 0));
    };
    let number = row.number;
    let transaction = row.body.map(|body| Transaction {
        number,
        upto: row.upto,
        body,
    });
    Ok((transaction, number))
}

/// Writes down a transaction that is to be sent next.
pub fn put(w: &mut Write, id: &str, transaction: &Transaction) {
    let row = t::Progress {
        number: transaction.number,
        upto: transaction.upto,
        body: Some(transaction.body.clone()),
    };
    w.put::<t::Sending>(&id.to_owned(), &row);
}

/// Notes that nothing is on its way any more.
///
/// # Errors
/// Those of the store.
pub fn put_arrived(w: &mut Write, snap: &Snapshot, id: &str) -> Result<(), StoreError> {
    let key = id.to_owned();
    if let Some(mut row) = snap.get::<t::Sending>(&key)?
        && row.body.take().is_some()
    {
        w.put::<t::Sending>(&key, &row);
    }
    Ok(())
}

/// A message that waits for a device, at its place; none once the device has it.
///
/// # Errors
/// Those of the store.
pub fn message(
    snap: &Snapshot,
    user: UserNid,
    device: &str,
    pos: Pos,
) -> Result<Option<String>, StoreError> {
    let row = snap.get::<ToDeviceTable>(&(user, device.to_owned(), pos))?;
    Ok(row.map(|row| row.json))
}
