//! Filters: JSON that a client keeps with us, to name it by id in its syncs.
//!
//! The id is made from the content, so that the same filter uploaded again is the same row.

use serde_json::Value;
use skerry_core::UserNid;
use skerry_store::schema::account as t;
use skerry_store::{Scan, Write};

use crate::{AccountError, Accounts};

/// Largest filter, in bytes of JSON.
const MAX_FILTER_BYTES: usize = 64 * 1024;
/// How many filters one user can have.
const MAX_FILTERS: usize = 500;

/// The number of a filter's content; `seed` sets contents apart that would share one.
fn number(json: &str, seed: u64) -> u64 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&seed.to_be_bytes()).update(json.as_bytes());
    let mut bits = [0u8; 8];
    hasher.finalize_xof().fill(&mut bits);
    u64::from_be_bytes(bits)
}

/// Takes all filters of a user out.
pub(crate) fn forget_user(w: &mut Write, user: UserNid) {
    w.delete_range::<t::Filters>(user);
}

impl Accounts {
    /// Keeps a filter and gives its id. The caller has checked that it is one.
    ///
    /// # Errors
    /// `TooLarge` beyond 64 KiB, or 500 filters.
    pub async fn create_filter(
        &self,
        user: UserNid,
        filter: &Value,
    ) -> Result<String, AccountError> {
        let json = filter.to_string();
        if json.len() > MAX_FILTER_BYTES {
            return Err(AccountError::TooLarge("A filter must be at most 64 KiB"));
        }
        self.change(user, move |tx| {
            let mut seed = 0;
            let n = loop {
                let n = number(&json, seed);
                match tx.snap.get::<t::Filters>(&(user, n))? {
                    Some(same) if same == json => return Ok(n.to_string()),
                    Some(_) => seed += 1,
                    None => break n,
                }
            };
            let scan = Scan::prefix(&user).limit(MAX_FILTERS);
            if tx.snap.scan::<t::Filters>(scan).count() >= MAX_FILTERS {
                return Err(AccountError::TooLarge("Too many filters"));
            }
            tx.w.put::<t::Filters>(&(user, n), &json);
            Ok(n.to_string())
        })
        .await
    }

    /// A filter, as JSON.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn filter(&self, user: UserNid, id: &str) -> Result<String, AccountError> {
        const NONE: AccountError = AccountError::NotFound("No such filter");
        let n: u64 = id.parse().map_err(|_| NONE)?;
        self.read(move |_, snap| snap.get::<t::Filters>(&(user, n))?.ok_or(NONE))
            .await
    }
}
