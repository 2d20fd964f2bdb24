//! Making accounts.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use serde::Deserialize;
use serde_json::Value;
use skerry_core::UserNid;
use skerry_store::Expect;
use skerry_store::schema::account as t;

use crate::appservice::users;
use crate::device::{check_device_id, check_display_name};
use crate::login::{Grant, grant, not_locked};
use crate::tx::Tx;
use crate::uia::Flow;
use crate::validation::Proof;
use crate::{
    AccountError, Accounts, Stage, UiaScope, address, guest, profile, registration_token, secret,
    user,
};

/// The device to log in on.
#[derive(Clone, Debug, Default)]
pub struct NewDevice {
    /// Its id; none: a new one is made.
    pub device_id: Option<String>,
    /// Its name, if it is new.
    pub display_name: Option<String>,
    /// Whether the client can refresh tokens.
    pub refresh: bool,
}

impl NewDevice {
    pub(crate) fn check(&self) -> Result<(), AccountError> {
        check_display_name(self.display_name.as_deref())?;
        self.device_id.as_deref().map_or(Ok(()), check_device_id)
    }
}

/// A request to register, without its `auth`.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Registration {
    /// The wanted localpart; none: a random one is made.
    #[serde(default)]
    pub username: Option<String>,
    /// The password.
    #[serde(default)]
    pub password: Option<String>,
    /// Make the account only: no device, no token.
    #[serde(default)]
    pub inhibit_login: bool,
    /// The device's id.
    #[serde(default)]
    pub device_id: Option<String>,
    /// The device's name.
    #[serde(default)]
    pub initial_device_display_name: Option<String>,
    /// Whether the client can refresh tokens.
    #[serde(default)]
    pub refresh_token: bool,
    /// A guest's token: their account becomes this one.
    #[serde(default)]
    pub guest_access_token: Option<String>,
}

/// A new account.
#[derive(Clone, Debug)]
pub struct Registered {
    /// Its Matrix id.
    pub user_id: Arc<str>,
    /// Its number.
    pub user: UserNid,
    /// The log-in, unless it was not wanted.
    pub grant: Option<Grant>,
}

/// What an account is made of, whoever makes it.
#[derive(Clone, Debug, Default)]
pub(crate) struct NewAccount {
    pub(crate) username: Option<String>,
    pub(crate) password: Option<String>,
    /// None: admin exactly if this is the first person.
    pub(crate) admin: Option<bool>,
    pub(crate) guest: bool,
    /// The guest who gets a full account.
    pub(crate) upgrade: Option<UserNid>,
    /// The address that was shown.
    pub(crate) email: Option<Proof>,
    pub(crate) display_name: Option<String>,
    pub(crate) registration_token: Option<String>,
    pub(crate) terms: Option<String>,
    /// The id of the application service that makes it.
    pub(crate) appservice: Option<Arc<str>>,
    /// The server's own account, whose name nobody else gets.
    pub(crate) service: bool,
}

impl Accounts {
    /// Whether someone could register this name.
    ///
    /// # Errors
    /// `InvalidUsername`, `UserInUse`.
    pub async fn check_available(&self, wanted: &str) -> Result<(), AccountError> {
        let name = self.wanted_localpart(wanted, None)?;
        self.check_unused(&name).await
    }

    /// Registers by user-interactive authentication. `body` is the request's whole body: what
    /// later requests of a session leave out is taken from its first.
    ///
    /// # Errors
    /// `Forbidden` where registration is disabled, `Interactive` until the stages are passed,
    /// `InvalidUsername`, `UserInUse`, `Missing` without a password.
    pub async fn register(&self, scope: UiaScope, body: Value) -> Result<Registered, AccountError> {
        let settings = &self.inner.settings.registration;
        if !settings.enabled {
            return Err(AccountError::Forbidden("Registration is disabled"));
        }
        let (auth, body) = self.complete_from_session(body)?;
        let wanted = parse(&body)?;
        let now = self.inner.clock.now_ms();
        let session = auth
            .as_ref()
            .and_then(|auth| auth.get("session"))
            .and_then(Value::as_str);
        // Sent twice at once, a form still makes one account.
        let _turn = match session {
            Some(id) => Some(self.inner.forms.lock(id.to_owned()).await),
            None => None,
        };
        let made = session.and_then(|id| self.inner.uia.registered(id, now));
        let name = wanted.username.as_deref().filter(|_| made.is_none());
        let upgrade = match (&wanted.guest_access_token, made) {
            (Some(token), None) => Some(self.guest_of(token, name).await?),
            _ => None,
        };
        if let (Some(name), None) = (name, upgrade) {
            self.check_available(name).await?;
        }
        let flows = self.registration_flows();
        let pass = self
            .interactive(scope, &flows, auth.as_ref(), Some(body))
            .await?;
        let device = (!wanted.inhibit_login).then_some(NewDevice {
            device_id: wanted.device_id,
            display_name: wanted.initial_device_display_name,
            refresh: wanted.refresh_token,
        });
        if let Some(user) = self.inner.uia.registered(&pass.session, now) {
            return self.register_again(user, device).await;
        }
        let account = NewAccount {
            username: wanted.username,
            password: Some(wanted.password.ok_or(AccountError::Missing("password"))?),
            upgrade,
            email: pass.email,
            registration_token: pass.registration_token,
            terms: settings.terms.as_ref().map(|terms| terms.version.clone()),
            ..NewAccount::default()
        };
        let (user, grant) = self.create(account, device).await?;
        self.inner.uia.note_registered(&pass.session, user);
        Ok(Registered {
            user_id: self.inner.store.user_id(user)?,
            user,
            grant,
        })
    }

    /// The answer was lost on the way, and the client asks again in the same session.
    async fn register_again(
        &self,
        user: UserNid,
        device: Option<NewDevice>,
    ) -> Result<Registered, AccountError> {
        let user_id = self.inner.store.user_id(user)?;
        let grant = match device {
            Some(device) => Some(
                self.change(user, move |tx| {
                    // Meanwhile an administrator may have come by.
                    if !user::is_active(&tx.snap, user)? {
                        return Err(AccountError::Deactivated);
                    }
                    not_locked(tx, user)?;
                    grant(tx, user, device)
                })
                .await?,
            ),
            None => None,
        };
        Ok(Registered {
            user_id,
            user,
            grant,
        })
    }

    /// The flows that registration offers. An address is shown instead of nothing, or on top.
    fn registration_flows(&self) -> Vec<Flow> {
        let settings = &self.inner.settings.registration;
        let mut stages = Vec::new();
        if !settings.open {
            stages.push(Stage::RegistrationToken);
        }
        if settings.terms.is_some() {
            stages.push(Stage::Terms);
        }
        let mut flows = Vec::new();
        if self.inner.settings.email {
            flows.push([stages.as_slice(), &[Stage::Email]].concat());
        }
        if flows.is_empty() || !settings.email_required {
            if stages.is_empty() {
                stages.push(Stage::Dummy);
            }
            flows.insert(0, stages);
        }
        flows
    }

    /// Splits `auth` off, and fills in from the session's first request.
    fn complete_from_session(&self, body: Value) -> Result<(Option<Value>, Value), AccountError> {
        let Value::Object(mut body) = body else {
            return Err(AccountError::BadJson("The body must be an object"));
        };
        let auth = body.remove("auth").filter(|auth| !auth.is_null());
        if auth.as_ref().is_some_and(|auth| !auth.is_object()) {
            return Err(AccountError::BadJson("auth must be an object"));
        }
        let session = auth
            .as_ref()
            .and_then(|auth| auth.get("session"))
            .and_then(Value::as_str);
        let now = self.inner.clock.now_ms();
        let first = session.and_then(|id| self.inner.uia.remembered(id, now));
        if let Some(Value::Object(first)) = first {
            for (key, value) in first {
                body.entry(key).or_insert(value);
            }
        }
        Ok((auth, Value::Object(body)))
    }

    /// Makes an account and perhaps logs it in, in one batch.
    pub(crate) async fn create(
        &self,
        new: NewAccount,
        device: Option<NewDevice>,
    ) -> Result<(UserNid, Option<Grant>), AccountError> {
        if let Some(device) = &device {
            device.check()?;
        }
        let user = match new.upgrade {
            Some(guest) => guest,
            None => self.unused(&new).await?,
        };
        let phc = match new.password.clone() {
            Some(password) => Some(self.inner.hasher.hash(password).await?),
            None => None,
        };
        self.change_registering(Some(user), move |tx| {
            write_account(tx, user, new, phc, device)
        })
        .await
    }

    /// The number of a user who has no account yet.
    async fn unused(&self, new: &NewAccount) -> Result<UserNid, AccountError> {
        let name = match &new.username {
            Some(name) => self.wanted_localpart(name, new.appservice.as_ref())?,
            None => secret::localpart(&mut *self.inner.dice.dice()),
        };
        if !new.service {
            self.check_unused(&name).await?;
        }
        let id = format!("@{name}:{}", self.server_name());
        let inner = self.inner.clone();
        Ok(skerry_store::blocking(move || inner.store.intern_user(&id)).await??)
    }

    /// A name taken is refused before the expensive hash.
    async fn check_unused(&self, name: &str) -> Result<(), AccountError> {
        if self.inner.settings.service_name.as_deref() == Some(name) {
            return Err(AccountError::UserInUse);
        }
        let id = format!("@{name}:{}", self.server_name());
        self.read(move |inner, snap| match inner.store.user_nid(&id)? {
            Some(nid) if user::exists(snap, nid)? => Err(AccountError::UserInUse),
            _ => Ok(()),
        })
        .await
    }
}

pub(crate) fn parse(body: &Value) -> Result<Registration, AccountError> {
    // `null` stands for a field left out.
    let mut body = body.clone();
    if let Some(map) = body.as_object_mut() {
        map.retain(|_, value| !value.is_null());
    }
    serde_json::from_value(body)
        .map_err(|_| AccountError::BadJson("A parameter of the registration has the wrong type"))
}

fn write_account(
    tx: &mut Tx<'_>,
    user: UserNid,
    new: NewAccount,
    password: Option<String>,
    device: Option<NewDevice>,
) -> Result<(UserNid, Option<Grant>), AccountError> {
    let old = tx.snap.get::<t::Accounts>(&user)?;
    match (&old, new.upgrade) {
        (None, None) => tx.w.expect::<t::Accounts>(&user, Expect::Absent),
        (Some(row), Some(_)) if row.guest && !row.deactivated => guest::leave_guesthood(tx, user)?,
        _ => return Err(AccountError::UserInUse),
    }
    if let Some(token) = new.registration_token {
        registration_token::consume(tx, token)?;
    }
    if let Some(proof) = new.email {
        address::attach(tx, user, &proof)?;
    }
    let settled = tx.inner.settled.load(Ordering::Acquire) || user::any_person(&tx.snap)?;
    let admin = match new.admin {
        Some(admin) => admin,
        None => !settled && !new.guest && new.appservice.is_none(),
    };
    if let Some(appservice) = &new.appservice {
        users::put_maker(tx, user, appservice);
    }
    let row = t::Account {
        password,
        admin,
        guest: new.guest,
        deactivated: false,
        erased: false,
        created_ms: tx.now_ms(),
        terms: new.terms,
        pos: tx.w.stamp(),
    };
    tx.w.put::<t::Accounts>(&user, &row);
    if old.is_none() {
        profile::begin(tx, user, new.display_name)?;
    }
    let grant = match device {
        Some(device) => Some(grant(tx, user, device)?),
        None => None,
    };
    Ok((user, grant))
}
