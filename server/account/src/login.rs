//! Logging in, refreshing tokens, logging out.

use skerry_core::UserNid;
use skerry_store::schema::account as t;
use skerry_store::schema::account::TokenKind;
use skerry_store::{Scan, StoreError};
use std::sync::Arc;

use crate::device::{check_device_id, check_display_name, drop_device, make_room};
use crate::register::NewDevice;
use crate::tx::Tx;
use crate::{AccountError, Accounts, TokenHash, address, e2e, hold, secret, username};

/// Says neither whether the name or the password was wrong.
pub(crate) const WRONG: AccountError = AccountError::Forbidden("Invalid username or password");

/// What a successful log-in gives.
#[derive(Clone, Debug)]
pub struct Grant {
    /// The account.
    pub user: UserNid,
    /// Its Matrix id.
    pub user_id: Arc<str>,
    /// The device, new or taken up again.
    pub device: String,
    /// The access token: shown this once.
    pub access_token: String,
    /// The refresh token, if the client said it can use one.
    pub refresh_token: Option<String>,
    /// How long the access token is good for, in ms; none: until it is logged out.
    pub expires_in_ms: Option<u64>,
}

/// How somebody says who they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LoginName {
    /// A localpart or a full user id.
    User(String),
    /// An address of their account.
    Address {
        /// What kind of address: `email`.
        medium: String,
        /// The address, as they wrote it.
        address: String,
    },
}

/// Who logs in, and with what.
#[derive(Clone, Debug)]
pub struct PasswordLogin {
    /// Who.
    pub who: LoginName,
    /// The password.
    pub password: String,
}

/// A log-in.
#[derive(Clone, Debug)]
pub struct LoginRequest {
    /// Who, and with what.
    pub by: PasswordLogin,
    /// The device to use.
    pub device: NewDevice,
}

impl Accounts {
    /// Logs in by password. A device that exists is taken up again, and its tokens replaced.
    ///
    /// # Errors
    /// `Forbidden` for a wrong name or password, which one is not said; `Deactivated`; `Busy`
    /// after too many wrong passwords.
    pub async fn log_in(&self, request: LoginRequest) -> Result<Grant, AccountError> {
        request.device.check()?;
        let PasswordLogin { who, password } = request.by;
        let name = self.named(who).await?;
        let (user, phc) = self.check_password(&name, password).await?;
        let device = request.device;
        self.change(user, move |tx| {
            let account = tx.snap.get::<t::Accounts>(&user)?;
            let account = account.filter(|account| !account.deactivated);
            let account = account.ok_or(AccountError::Deactivated)?;
            not_locked(tx, user)?;
            if account.password != phc {
                // Changed since it was checked.
                return Err(WRONG);
            }
            grant(tx, user, device)
        })
        .await
    }

    /// The name by which an account is looked up. An address that nobody has becomes a name that
    /// nobody has, so that both are refused alike.
    pub(crate) async fn named(&self, who: LoginName) -> Result<String, AccountError> {
        let (medium, address) = match who {
            LoginName::User(name) => return Ok(name),
            LoginName::Address { medium, address } => (medium, address),
        };
        let canonical = address::canonical(&medium, &address)?;
        self.read(
            move |inner, snap| match address::owner(snap, &medium, &canonical)? {
                Some(user) => Ok(inner.store.user_id(user)?.to_string()),
                None => Ok(canonical),
            },
        )
        .await
    }

    /// The account that name and password belong to, with the hash it was checked against.
    /// Takes as long for an unknown name. `Busy` after too many wrong ones.
    pub(crate) async fn check_password(
        &self,
        given: &str,
        password: String,
    ) -> Result<(UserNid, Option<String>), AccountError> {
        let name = username::meant(given, self.server_name()).unwrap_or_else(|| given.to_owned());
        let guesses = &self.inner.hasher.guesses;
        let (name, now) = (name.to_ascii_lowercase(), self.inner.clock.now_ms());
        guesses.check(&name, now)?;
        let given = given.to_owned();
        let found = self
            .read(move |inner, snap| {
                let Some(id) = username::meant(&given, &inner.settings.server_name) else {
                    return Ok(None);
                };
                for id in [id.clone(), id.to_ascii_lowercase()] {
                    if let Some(user) = inner.store.user_nid(&id)?
                        && let Some(account) = snap.get::<t::Accounts>(&user)?
                    {
                        return Ok(Some((user, account)));
                    }
                }
                Ok(None)
            })
            .await?;
        if found
            .as_ref()
            .is_some_and(|(_, account)| account.deactivated)
        {
            return Err(AccountError::Deactivated);
        }
        let phc = found
            .as_ref()
            .and_then(|(_, account)| account.password.clone());
        let right = self.inner.hasher.verify(password, phc.clone()).await?;
        match found {
            Some((user, _)) if right => {
                guesses.was_right(&name);
                Ok((user, phc))
            }
            _ => {
                guesses.was_wrong(&name, now);
                Err(WRONG)
            }
        }
    }

    /// The next pair of tokens for a refresh token. The refresh token stays good until one of
    /// the new tokens is used, so that a lost answer can be asked for again.
    ///
    /// # Errors
    /// `UnknownToken`.
    pub async fn refresh(&self, refresh_token: &str) -> Result<Grant, AccountError> {
        const UNKNOWN: AccountError = AccountError::UnknownToken { soft_logout: false };
        if refresh_token.len() > secret::MAX_TOKEN_BYTES {
            return Err(UNKNOWN);
        }
        let hash = secret::hash(&self.inner.settings.pepper, refresh_token);
        let find = move |row: Option<t::Token>| {
            row.filter(|row| row.kind == TokenKind::Refresh)
                .ok_or(UNKNOWN)
        };
        let user = self
            .read(move |_, snap| find(snap.get::<t::Tokens>(&hash)?))
            .await?
            .user;
        self.change(user, move |tx| {
            let token = find(tx.snap.get::<t::Tokens>(&hash)?)?;
            not_locked(tx, user)?;
            let key = (user, token.device.clone());
            let row = tx.snap.get::<t::Devices>(&key)?.ok_or(UNKNOWN)?;
            let (gone, kept) = if row.refresh == Some(hash) {
                ([row.previous, row.previous_access], row.access)
            } else if row.previous == Some(hash) {
                ([row.refresh, row.access], row.previous_access)
            } else {
                return Err(UNKNOWN);
            };
            revoke(tx, gone);
            let (fresh, mut row) = issue(tx, user, token.device, row, true)?;
            row.previous = Some(hash);
            row.previous_access = kept;
            tx.w.put::<t::Devices>(&key, &row);
            Ok(fresh)
        })
        .await
    }

    /// Logs one device out: its tokens, its keys and its messages are gone.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn log_out(&self, user: UserNid, device: &str) -> Result<(), AccountError> {
        let device = device.to_owned();
        self.change(user, move |tx| Ok(drop_device(tx, user, &device)?))
            .await
    }

    /// Logs all devices of a user out.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn log_out_all(&self, user: UserNid) -> Result<(), AccountError> {
        self.change(user, move |tx| Ok(drop_all_devices(tx, user, None)?))
            .await
    }
}

/// Who is locked gets no new tokens.
pub(crate) fn not_locked(tx: &Tx<'_>, user: UserNid) -> Result<(), AccountError> {
    match hold::of(&tx.snap, user)?.locked {
        true => Err(AccountError::Locked),
        false => Ok(()),
    }
}

/// Takes out all devices of a user, except perhaps one.
pub(crate) fn drop_all_devices(
    tx: &mut Tx<'_>,
    user: UserNid,
    except: Option<&str>,
) -> Result<(), StoreError> {
    let devices: Vec<String> = tx
        .snap
        .scan::<t::Devices>(Scan::prefix(&user))
        .map(|row| row.map(|((_, device), _)| device))
        .collect::<Result<_, _>>()?;
    for device in devices
        .iter()
        .filter(|device| Some(device.as_str()) != except)
    {
        drop_device(tx, user, device)?;
    }
    Ok(())
}

/// Logs a device in: makes it or takes it up again, with new tokens.
pub(crate) fn grant(
    tx: &mut Tx<'_>,
    user: UserNid,
    wanted: NewDevice,
) -> Result<Grant, AccountError> {
    let device = match wanted.device_id {
        Some(id) => id,
        None => secret::device_id(&mut *tx.inner.dice.dice()),
    };
    check_device_id(&device)?;
    let key = (user, device.clone());
    let row = match tx.snap.get::<t::Devices>(&key)? {
        Some(row) => {
            revoke(tx, tokens_of(&row));
            row
        }
        None => fresh_device(tx, user, &device, wanted.display_name)?,
    };
    let (grant, mut row) = issue(tx, user, device, row, wanted.refresh)?;
    row.pos = tx.w.stamp();
    tx.w.put::<t::Devices>(&key, &row);
    Ok(grant)
}

/// The row of a new device, without tokens; not yet written.
pub(crate) fn fresh_device(
    tx: &mut Tx<'_>,
    user: UserNid,
    device: &str,
    display_name: Option<String>,
) -> Result<t::Device, AccountError> {
    check_display_name(display_name.as_deref())?;
    if e2e::is_cross_signing_key(&tx.snap, user, device)? {
        let why = "The device id is the name of a cross-signing key";
        return Err(AccountError::Invalid(why));
    }
    make_room(tx, user)?;
    e2e::device_added(&tx.snap, &mut tx.w, user, device)?;
    Ok(t::Device {
        display_name,
        created_ms: tx.now_ms(),
        seen_ms: 0,
        seen_ip: None,
        access: None,
        refresh: None,
        previous: None,
        previous_access: None,
        pos: skerry_core::Pos::ZERO,
    })
}

/// Writes a new pair of tokens and puts their hashes into the device's row.
fn issue(
    tx: &mut Tx<'_>,
    user: UserNid,
    device: String,
    mut row: t::Device,
    refreshable: bool,
) -> Result<(Grant, t::Device), AccountError> {
    let pepper = &tx.inner.settings.pepper;
    let mut dice = tx.inner.dice.dice();
    let access_token = secret::token(&mut *dice, secret::ACCESS);
    let refresh_token = refreshable.then(|| secret::token(&mut *dice, secret::REFRESH));
    let lifetime = refreshable.then_some(tx.inner.settings.access_token_ms);
    let access = secret::hash(pepper, &access_token);
    let refresh = refresh_token
        .as_deref()
        .map(|token| secret::hash(pepper, token));
    let row_of = |kind, expires_ms| t::Token {
        user,
        device: device.clone(),
        kind,
        expires_ms,
    };
    let expires_ms = lifetime.map(|ms| tx.now_ms() + ms);
    tx.w.put::<t::Tokens>(&access, &row_of(TokenKind::Access, expires_ms));
    if let Some(refresh) = refresh {
        tx.w.put::<t::Tokens>(&refresh, &row_of(TokenKind::Refresh, None));
    }
    row.access = Some(access);
    row.refresh = refresh;
    row.previous = None;
    row.previous_access = None;
    let user_id = tx.inner.store.user_id(user)?;
    let expires_in_ms = lifetime;
    Ok((
        Grant {
            user,
            user_id,
            device,
            access_token,
            refresh_token,
            expires_in_ms,
        },
        row,
    ))
}

/// The hashes of all tokens of a device.
pub(crate) fn tokens_of(row: &t::Device) -> [Option<TokenHash>; 4] {
    [row.access, row.refresh, row.previous, row.previous_access]
}

/// Makes tokens worthless.
pub(crate) fn revoke(tx: &mut Tx<'_>, tokens: impl IntoIterator<Item = Option<TokenHash>>) {
    for token in tokens.into_iter().flatten() {
        tx.w.delete::<t::Tokens>(&token);
        tx.revoked.push(token);
    }
}
