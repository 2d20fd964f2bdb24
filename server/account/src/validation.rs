//! Validation of e-mail addresses: a mail with a link, the link opened, and the proof used once.
//!
//! A session's id is made from what was asked (purpose, address, the client's secret), so that
//! asking again continues the same session. The token in the mail is made from the server's
//! secret and never stored. The mail is an item of the outbox in the same batch as the session.
//!
//! Nothing here tells a stranger whether an address has an account: whoever owns the mailbox
//! learns it from the mail.

use serde::{Deserialize, Serialize};
use skerry_core::UserNid;
use skerry_store::outbox::{self, Dest};
use skerry_store::schema::address as t;
use skerry_store::{Scan, Snapshot};
use subtle::ConstantTimeEq as _;

use crate::address::{self, EMAIL, Purpose};
use crate::facade::Inner;
use crate::tx::Tx;
use crate::{AccountError, Accounts};

/// How long a session is good for after the last mail, in ms.
const VALIDATION_MS: u64 = 24 * 3_600_000;
/// How many sessions are kept at most.
const MAX_VALIDATIONS: usize = 10_000;
/// Longest link that a client may want to be followed, in bytes.
const MAX_LINK_BYTES: usize = 2_048;
/// Longest secret of a client, in bytes (spec).
const MAX_SECRET_BYTES: usize = 255;

/// A request for a mail with a link.
#[derive(Clone, Debug, Deserialize)]
pub struct ValidationRequest {
    /// What only the client knows: 1 to 255 of `A-Za-z0-9.=_-`.
    pub client_secret: String,
    /// The address.
    pub email: String,
    /// Higher than before: send another mail.
    pub send_attempt: u64,
    /// Where to go afterwards.
    #[serde(default)]
    pub next_link: Option<String>,
}

/// A proof that a client holds: it began a session, and its link was opened.
#[derive(Clone, Debug)]
pub(crate) struct Proof {
    pub(crate) purpose: Purpose,
    pub(crate) sid: String,
    pub(crate) secret: [u8; 32],
}

/// What became of opening a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opened {
    /// What the validation is for.
    pub purpose: Purpose,
    /// The address.
    pub email: String,
    /// Where the client wants the person to go next.
    pub next_link: Option<String>,
}

/// A mail to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Letter {
    /// The address.
    pub to: String,
    /// What it is about.
    pub about: LetterKind,
}

/// What a mail says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LetterKind {
    /// Open this link.
    Link {
        /// What for.
        purpose: Purpose,
        /// The session.
        sid: String,
        /// The token that belongs to it.
        token: String,
    },
    /// Somebody wanted to use the address, which belongs to an account already: its user id.
    Taken(String),
}

/// A mail in the outbox.
#[derive(Serialize, Deserialize)]
enum Item {
    Link(String),
    Taken(String),
}

/// The refusal where no mail is sent, with the spec's code for each purpose.
pub(crate) fn off(purpose: Purpose) -> AccountError {
    const WHY: &str = "This server sends no e-mail";
    match purpose {
        Purpose::Add => AccountError::MediumUnknown(WHY),
        Purpose::Register | Purpose::Password => AccountError::AddressDenied(WHY),
    }
}

fn keyed(inner: &Inner, context: &str, parts: &[&[u8]]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new_derive_key(context);
    hasher.update(&inner.settings.pepper);
    for part in parts {
        hasher.update(&(part.len() as u64).to_be_bytes());
        hasher.update(part);
    }
    *hasher.finalize().as_bytes()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn token(inner: &Inner, sid: &str, row: &t::Validation) -> String {
    let parts = [sid.as_bytes(), &row.salt];
    let bytes = keyed(inner, "skerry validation token", &parts);
    hex(&bytes[..20])
}

fn secret_hash(inner: &Inner, secret: &str) -> [u8; 32] {
    keyed(inner, "skerry validation secret", &[secret.as_bytes()])
}

fn check(request: &ValidationRequest) -> Result<String, AccountError> {
    let secret = &request.client_secret;
    let legal = |c: char| c.is_ascii_alphanumeric() || ".=_-".contains(c);
    if secret.is_empty() || secret.len() > MAX_SECRET_BYTES || !secret.chars().all(legal) {
        let why = "client_secret must be 1 to 255 characters out of A-Za-z0-9.=_-";
        return Err(AccountError::Invalid(why));
    }
    if let Some(link) = &request.next_link {
        let web = link.starts_with("https://") || link.starts_with("http://");
        if !web || link.len() > MAX_LINK_BYTES || link.chars().any(char::is_control) {
            return Err(AccountError::Invalid(
                "next_link must be a link to a web page",
            ));
        }
    }
    address::canonical(EMAIL, &request.email)
}

/// Takes a finished validation, once; gives its address.
pub(crate) fn use_up(tx: &mut Tx<'_>, proof: &Proof) -> Result<String, AccountError> {
    let email = proved(&tx.snap, proof, tx.now_ms())?;
    tx.w.delete::<t::Validations>(&proof.sid);
    Ok(email)
}

/// The address that a proof proves.
fn proved(snap: &Snapshot, proof: &Proof, now_ms: u64) -> Result<String, AccountError> {
    let row = snap.get::<t::Validations>(&proof.sid)?;
    let good = |row: &t::Validation| {
        row.purpose == proof.purpose
            && row.expires_ms > now_ms
            && row.validated_ms.is_some()
            && bool::from(row.secret.ct_eq(&proof.secret))
    };
    let row = row.filter(good).ok_or(AccountError::AddressUnproved)?;
    Ok(row.email)
}

/// The session whose mail had this link.
fn linked(
    inner: &Inner,
    snap: &Snapshot,
    sid: &str,
    given: &str,
) -> Result<t::Validation, AccountError> {
    const GONE: AccountError = AccountError::NotFound("This link is not known, or too old");
    let row = snap.get::<t::Validations>(&sid.to_owned())?.ok_or(GONE)?;
    let right = token(inner, sid, &row).as_bytes().ct_eq(given.as_bytes());
    if row.expires_ms <= inner.clock.now_ms() || !bool::from(right) {
        return Err(GONE);
    }
    Ok(row)
}

fn opened(row: t::Validation) -> Opened {
    Opened {
        purpose: row.purpose,
        email: row.email,
        next_link: row.next_link,
    }
}

/// Makes room for one more session: those that are over go, else the oldest that nobody has
/// finished. Strangers begin them, and must not keep others from it.
fn make_room(tx: &mut Tx<'_>) -> Result<(), AccountError> {
    let now = tx.now_ms();
    let rows = tx
        .snap
        .scan::<t::Validations>(Scan::all().limit(MAX_VALIDATIONS));
    let (mut held, mut old) = (0, Vec::new());
    let mut oldest: Option<(u64, String)> = None;
    for row in rows {
        let (sid, row) = row?;
        held += 1;
        if row.expires_ms <= now {
            old.push(sid);
        } else if row.validated_ms.is_none()
            && oldest.as_ref().is_none_or(|(at, _)| row.expires_ms < *at)
        {
            oldest = Some((row.expires_ms, sid));
        }
    }
    if held >= MAX_VALIDATIONS && old.is_empty() {
        let Some((_, sid)) = oldest else {
            return Err(AccountError::Busy {
                retry_after_ms: 60_000,
            });
        };
        old.push(sid);
    }
    for sid in old {
        tx.w.delete::<t::Validations>(&sid);
    }
    Ok(())
}

/// Whether the mail has the link, or says that the address is taken; none: no mail at all. The
/// session is made in each case, so that the time it takes tells nothing.
fn item_for(
    tx: &Tx<'_>,
    purpose: Purpose,
    email: &str,
    sid: &str,
) -> Result<Option<Item>, AccountError> {
    let owner: Option<UserNid> = address::owner(&tx.snap, EMAIL, email)?;
    Ok(match (purpose, owner) {
        (Purpose::Password, None) => None,
        (Purpose::Register | Purpose::Add, Some(owner)) => {
            Some(Item::Taken(tx.inner.store.user_id(owner)?.to_string()))
        }
        _ => Some(Item::Link(sid.to_owned())),
    })
}

impl Accounts {
    /// Begins to validate an address: a mail is on its way once this is answered. Gives the id of
    /// the session.
    ///
    /// # Errors
    /// `AddressDenied` or `MediumUnknown` where no mail is sent at all; `Invalid`; `Busy` after
    /// too many mails to one address.
    pub async fn request_validation(
        &self,
        purpose: Purpose,
        request: ValidationRequest,
    ) -> Result<String, AccountError> {
        if !self.inner.settings.email {
            return Err(off(purpose));
        }
        let email = check(&request)?;
        let secret = secret_hash(&self.inner, &request.client_secret);
        let parts: [&[u8]; 3] = [&[purpose.code()], email.as_bytes(), &secret];
        let sid = hex(&keyed(&self.inner, "skerry validation session", &parts)[..16]);
        let now = self.inner.clock.now_ms();
        let mut salt = [0; 16];
        self.inner.dice.dice().fill(&mut salt);
        self.change_registering(None, move |tx| {
            let old = tx.snap.get::<t::Validations>(&sid)?;
            let old = old.filter(|row| row.expires_ms > now);
            if old
                .as_ref()
                .is_some_and(|row| row.attempt >= request.send_attempt)
            {
                return Ok(sid);
            }
            tx.inner.letters.take(&email, now)?;
            if old.is_none() {
                make_room(tx)?;
            }
            let row = t::Validation {
                purpose,
                email,
                secret,
                salt: old.as_ref().map_or(salt, |row| row.salt),
                attempt: request.send_attempt,
                next_link: request.next_link,
                expires_ms: now + VALIDATION_MS,
                validated_ms: old.and_then(|row| row.validated_ms),
                pos: tx.w.stamp(),
            };
            if let Some(item) = item_for(tx, purpose, &row.email, &sid)? {
                let whole = (&row.email, item);
                let bytes = serde_json::to_vec(&whole).map_err(|_| UNWRITABLE)?;
                outbox::queue(&mut tx.w, &Dest::Mail, &bytes);
            }
            tx.w.put::<t::Validations>(&sid, &row);
            Ok(sid)
        })
        .await
    }

    /// What a link in a mail is about, before it counts as opened.
    ///
    /// # Errors
    /// `NotFound` for a link that is not ours or too old.
    pub async fn validation_link(&self, sid: &str, token: &str) -> Result<Opened, AccountError> {
        let (sid, token) = (sid.to_owned(), token.to_owned());
        self.read(move |inner, snap| Ok(opened(linked(inner, snap, &sid, &token)?)))
            .await
    }

    /// The link in a mail was opened: the address is the person's.
    ///
    /// # Errors
    /// `NotFound` for a link that is not ours or too old.
    pub async fn open_validation(&self, sid: &str, token: &str) -> Result<Opened, AccountError> {
        let (sid, token) = (sid.to_owned(), token.to_owned());
        self.change_registering(None, move |tx| {
            let mut row = linked(tx.inner, &tx.snap, &sid, &token)?;
            if row.validated_ms.is_none() {
                row.validated_ms = Some(tx.now_ms());
                row.pos = tx.w.stamp();
                tx.w.put::<t::Validations>(&sid, &row);
            }
            Ok(opened(row))
        })
        .await
    }

    /// What a client shows as proof.
    pub(crate) fn proof(&self, purpose: Purpose, sid: String, client_secret: &str) -> Proof {
        Proof {
            purpose,
            sid,
            secret: secret_hash(&self.inner, client_secret),
        }
    }

    /// The address that a proof proves; it is not used up.
    pub(crate) async fn proved(&self, proof: Proof) -> Result<String, AccountError> {
        let now = self.inner.clock.now_ms();
        self.read(move |_, snap| proved(snap, &proof, now)).await
    }

    /// The mail that an item of the outbox stands for; none where it is not worth sending any
    /// more. Blocks on the store.
    ///
    /// # Errors
    /// Those of the store.
    pub fn letter(&self, snap: &Snapshot, item: &[u8]) -> Result<Option<Letter>, AccountError> {
        let Ok((to, item)) = serde_json::from_slice::<(String, Item)>(item) else {
            return Ok(None);
        };
        let about = match item {
            Item::Taken(user_id) => LetterKind::Taken(user_id),
            Item::Link(sid) => {
                let row = snap.get::<t::Validations>(&sid)?;
                let now = self.inner.clock.now_ms();
                let open = |row: &t::Validation| row.validated_ms.is_none() && row.expires_ms > now;
                let Some(row) = row.filter(open) else {
                    return Ok(None);
                };
                LetterKind::Link {
                    purpose: row.purpose,
                    token: token(&self.inner, &sid, &row),
                    sid,
                }
            }
        };
        Ok(Some(Letter { to, about }))
    }
}

const UNWRITABLE: AccountError = AccountError::Invalid("The address cannot be written down");
