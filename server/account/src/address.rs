//! Third-party ids: the e-mail addresses of accounts, and which identity servers tell of them
//! (client-server API, "Adding Account Administrative Contact Information").
//!
//! An address is in the rows of one account at most. It comes there only by a finished
//! [validation](crate::validation), in the batch that uses the validation up.

use serde_json::Value;
use skerry_core::UserNid;
use skerry_store::schema::address as t;
use skerry_store::{Expect, Scan, Snapshot, StoreError};

use crate::tx::Tx;
use crate::validation::{self, Proof};
use crate::{AccountError, Accounts, UiaScope};

pub use skerry_store::schema::address::Purpose;

/// The kind of address there is.
pub const EMAIL: &str = "email";
/// Longest address, in bytes (RFC 5321 allows 254).
const MAX_ADDRESS_BYTES: usize = 254;
/// Most addresses of one account.
const MAX_ADDRESSES: usize = 20;
/// Most entries of one account about identity servers.
const MAX_BINDINGS: usize = 100;
/// Longest name of an identity server, in bytes.
const MAX_SERVER_BYTES: usize = 255;

/// An address of an account, as its owner sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressView {
    /// The kind: `email`.
    pub medium: String,
    /// The address.
    pub address: String,
    /// When it was validated, in ms since the epoch.
    pub validated_ms: u64,
    /// When it was added, in ms since the epoch.
    pub added_ms: u64,
}

/// The form in which an address is compared.
///
/// # Errors
/// `MediumUnknown` for what is no e-mail address by its kind, `Invalid` for what cannot be one.
pub fn canonical(medium: &str, address: &str) -> Result<String, AccountError> {
    match medium {
        EMAIL => {}
        "msisdn" => {
            return Err(AccountError::MediumUnknown(
                "Phone numbers are not known here",
            ));
        }
        _ => {
            return Err(AccountError::MediumUnknown(
                "Not a kind of address known here",
            ));
        }
    }
    let address = address.trim().to_lowercase();
    let mut parts = address.split('@');
    let whole = (parts.next(), parts.next(), parts.next());
    let plain = |c: char| !c.is_whitespace() && !c.is_control() && !"<>,;:\\\"()[]".contains(c);
    match whole {
        (Some(name), Some(host), None)
            if !name.is_empty()
                && !host.is_empty()
                && address.len() <= MAX_ADDRESS_BYTES
                && address.chars().all(plain) =>
        {
            Ok(address)
        }
        _ => Err(AccountError::Invalid("This is not an e-mail address")),
    }
}

/// The form in which an address of any kind is compared: what identity servers know are not only
/// e-mail addresses.
///
/// # Errors
/// `Invalid` for what cannot be an address.
pub fn comparable(medium: &str, address: &str) -> Result<String, AccountError> {
    if medium == EMAIL {
        return canonical(medium, address);
    }
    let fits = |text: &str| !text.is_empty() && text.len() <= MAX_ADDRESS_BYTES;
    if !fits(medium) || !fits(address) {
        return Err(AccountError::Invalid("This is not an address"));
    }
    Ok(address.to_owned())
}

/// Whose address this is; `address` in the form in which it is compared.
///
/// # Errors
/// Those of the store.
pub fn owner(snap: &Snapshot, medium: &str, address: &str) -> Result<Option<UserNid>, StoreError> {
    snap.get::<t::AddressOwners>(&(medium.to_owned(), address.to_owned()))
}

/// Gives an account an address, in the batch that uses up its validation.
pub(crate) fn attach(tx: &mut Tx<'_>, user: UserNid, proof: &Proof) -> Result<(), AccountError> {
    let email = validation::use_up(tx, proof)?;
    let key = (EMAIL.to_owned(), email.clone());
    match tx.snap.get::<t::AddressOwners>(&key)? {
        Some(other) if other == user => return Ok(()),
        Some(_) => return Err(AccountError::AddressInUse),
        None => {}
    }
    let held = tx.snap.scan::<t::Addresses>(Scan::prefix(&user));
    if held.count() >= MAX_ADDRESSES {
        return Err(AccountError::TooLarge("At most 20 addresses"));
    }
    let row = t::Address {
        validated_ms: tx.now_ms(),
        added_ms: tx.now_ms(),
        pos: tx.w.stamp(),
    };
    // Another user's lane may give the address away at the same moment.
    tx.w.expect::<t::AddressOwners>(&key, Expect::Absent);
    tx.w.put::<t::AddressOwners>(&key, &user);
    tx.w.put::<t::Addresses>(&(user, key.0, email), &row);
    Ok(())
}

/// Takes all addresses of an account out. What identity servers were told stays noted, so that
/// they can be told otherwise.
pub(crate) fn forget_user(tx: &mut Tx<'_>, user: UserNid) -> Result<(), StoreError> {
    for row in tx.snap.scan::<t::Addresses>(Scan::prefix(&user)) {
        let ((_, medium, address), _) = row?;
        tx.w.delete::<t::AddressOwners>(&(medium, address));
    }
    tx.w.delete_range::<t::Addresses>(user);
    Ok(())
}

/// Who asks for one more address.
#[derive(Clone, Debug)]
pub enum AddBy {
    /// Whoever has the token (the deprecated call).
    Token(UserNid),
    /// The owner, who is asked for their password.
    Owner(UiaScope, Option<Value>),
}

impl Accounts {
    /// The addresses of a user.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn addresses(&self, user: UserNid) -> Result<Vec<AddressView>, AccountError> {
        self.read(move |_, snap| {
            let rows = snap.scan::<t::Addresses>(Scan::prefix(&user));
            let views = rows.map(|row| {
                row.map(|((_, medium, address), row)| AddressView {
                    medium,
                    address,
                    validated_ms: row.validated_ms,
                    added_ms: row.added_ms,
                })
            });
            Ok(views.collect::<Result<_, _>>()?)
        })
        .await
    }

    /// Adds an address that was validated.
    ///
    /// # Errors
    /// `Interactive`, `AddressUnproved`, `AddressInUse`; `MediumUnknown` where no mail is sent.
    pub async fn add_address(
        &self,
        by: AddBy,
        sid: String,
        client_secret: &str,
    ) -> Result<(), AccountError> {
        if !self.inner.settings.email {
            return Err(validation::off(Purpose::Add));
        }
        let user = match by {
            AddBy::Token(user) => user,
            AddBy::Owner(scope, auth) => {
                let user = scope.user.ok_or(AccountError::Forbidden("Not logged in"))?;
                self.prove_owner(scope, auth.as_ref()).await?;
                user
            }
        };
        let proof = self.proof(Purpose::Add, sid, client_secret);
        self.change_registering(Some(user), move |tx| attach(tx, user, &proof))
            .await
    }

    /// Takes an address out; nothing happens if there is none such.
    ///
    /// # Errors
    /// `MediumUnknown`, `Invalid`.
    pub async fn remove_address(
        &self,
        user: UserNid,
        medium: &str,
        address: &str,
    ) -> Result<(), AccountError> {
        let key = (medium.to_owned(), comparable(medium, address)?);
        self.change(user, move |tx| {
            if owner(&tx.snap, &key.0, &key.1)? == Some(user) {
                tx.w.delete::<t::AddressOwners>(&key);
                tx.w.delete::<t::Addresses>(&(user, key.0, key.1));
            }
            Ok(())
        })
        .await
    }

    /// Notes that an identity server tells of an address of a user.
    ///
    /// # Errors
    /// `TooLarge` beyond 100, `MediumUnknown`, `Invalid`.
    pub async fn note_binding(
        &self,
        user: UserNid,
        (medium, address): (&str, &str),
        id_server: &str,
    ) -> Result<(), AccountError> {
        if id_server.len() > MAX_SERVER_BYTES {
            return Err(AccountError::Invalid("Not the name of an identity server"));
        }
        let address = comparable(medium, address)?;
        let key = (user, medium.to_owned(), address, id_server.to_owned());
        self.change(user, move |tx| {
            let held = tx.snap.scan::<t::AddressBindings>(Scan::prefix(&user));
            if held.count() >= MAX_BINDINGS {
                return Err(AccountError::TooLarge("Too many bindings"));
            }
            let pos = tx.w.stamp();
            tx.w.put::<t::AddressBindings>(&key, &pos);
            Ok(())
        })
        .await
    }

    /// Notes that an identity server tells of an address no longer.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn forget_binding(&self, user: UserNid, bound: Binding) -> Result<(), AccountError> {
        let key = (user, bound.medium, bound.address, bound.id_server);
        self.change(user, move |tx| {
            tx.w.delete::<t::AddressBindings>(&key);
            Ok(())
        })
        .await
    }

    /// What identity servers tell of a user, as far as they were told through this server.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn bindings(&self, user: UserNid) -> Result<Vec<Binding>, AccountError> {
        self.read(move |_, snap| {
            let rows = snap.scan::<t::AddressBindings>(Scan::prefix(&user));
            let bindings = rows.map(|row| {
                row.map(|((_, medium, address, id_server), _)| Binding {
                    medium,
                    address,
                    id_server,
                })
            });
            Ok(bindings.collect::<Result<_, _>>()?)
        })
        .await
    }
}

/// An address that an identity server tells of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binding {
    /// The kind of address.
    pub medium: String,
    /// The address.
    pub address: String,
    /// The identity server.
    pub id_server: String,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::canonical;

    #[test]
    fn addresses_are_compared_in_lower_case() {
        assert_eq!(
            canonical("email", " Ada@Example.ORG ").unwrap(),
            "ada@example.org"
        );
        let long = format!("{}@x", "a".repeat(300));
        for wrong in [
            "",
            "a",
            "@",
            "a@",
            "@b",
            "a@b@c",
            "a b@c",
            "a@b\nc",
            "<a@b>",
            long.as_str(),
        ] {
            assert!(canonical("email", wrong).is_err(), "{wrong:?}");
        }
        assert!(canonical("msisdn", "4912345").is_err());
        assert!(canonical("pigeon", "a@b").is_err());
    }
}
