//! User-interactive authentication (spec, client-server API, section of that name).
//!
//! A session belongs to one kind of request: the same user, method and path. It lives in memory,
//! bounded in number and time: losing it means that the client proves itself once more.

use std::collections::HashMap;

use parking_lot::Mutex;
use serde_json::{Value, json};
use skerry_core::UserNid;

use crate::login::WRONG;
use crate::registration_token::is_good;
use crate::{AccountError, Accounts, secret, username};

/// How long a session is good for, in ms.
const SESSION_MS: u64 = 15 * 60_000;
/// How many sessions are kept; beyond it the oldest go.
const MAX_SESSIONS: usize = 4_096;
/// Largest request body remembered with a session, in bytes.
const MAX_REMEMBERED_BYTES: usize = 4_096;

/// A step by which a client proves something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The account's password.
    Password,
    /// A registration token.
    RegistrationToken,
    /// Nothing at all.
    Dummy,
    /// Agreement to the terms.
    Terms,
}

impl Stage {
    /// Its name in the protocol.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Stage::Password => "m.login.password",
            Stage::RegistrationToken => "m.login.registration_token",
            Stage::Dummy => "m.login.dummy",
            Stage::Terms => "m.login.terms",
        }
    }

    fn named(name: &str) -> Option<Stage> {
        [
            Stage::Password,
            Stage::RegistrationToken,
            Stage::Dummy,
            Stage::Terms,
        ]
        .into_iter()
        .find(|stage| stage.name() == name)
    }
}

/// What a session is good for: the same request again, by the same user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UiaScope {
    /// The user of the request's access token; none at registration.
    pub user: Option<UserNid>,
    /// The request's method.
    pub method: String,
    /// The request's path.
    pub path: String,
    /// An application service acts as the user: there is nothing that it could prove.
    pub appservice: bool,
}

impl UiaScope {
    fn hash(&self) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new();
        let user = self.user.map_or(0, |user| user.0);
        hasher.update(&user.to_be_bytes());
        hasher.update(self.method.as_bytes()).update(b" ");
        hasher.update(self.path.as_bytes());
        *hasher.finalize().as_bytes()
    }
}

/// Proof that user-interactive authentication was completed.
#[derive(Clone, Debug, Default)]
pub struct UiaPass {
    /// The session it was done in.
    pub session: String,
    /// The registration token that was shown; it is not used up yet.
    pub registration_token: Option<String>,
}

#[derive(Clone, Debug)]
struct UiaSession {
    /// The scope's hash: paths can be long.
    scope: [u8; 32],
    until_ms: u64,
    completed: Vec<Stage>,
    registration_token: Option<String>,
    remembered: Option<Value>,
    registered: Option<UserNid>,
}

/// Sessions by id.
#[derive(Default)]
pub(crate) struct UiaSessions(Mutex<HashMap<String, UiaSession>>);

impl UiaSessions {
    /// Opens a session; throws the expired ones out, and the oldest if there are too many.
    fn open(&self, id: String, scope: [u8; 32], remembered: Option<Value>, now_ms: u64) {
        let mut map = self.0.lock();
        if map.len() >= MAX_SESSIONS {
            map.retain(|_, session| session.until_ms > now_ms);
        }
        if map.len() >= MAX_SESSIONS {
            let oldest = map
                .iter()
                .min_by_key(|(_, s)| s.until_ms)
                .map(|(id, _)| id.clone());
            oldest.map(|id| map.remove(&id));
        }
        let until_ms = now_ms + SESSION_MS;
        let session = UiaSession {
            scope,
            until_ms,
            completed: Vec::new(),
            registration_token: None,
            remembered,
            registered: None,
        };
        map.insert(id, session);
    }

    fn find(&self, id: &str, now_ms: u64) -> Option<UiaSession> {
        self.0
            .lock()
            .get(id)
            .filter(|session| session.until_ms > now_ms)
            .cloned()
    }

    fn update(&self, id: &str, change: impl FnOnce(&mut UiaSession)) {
        if let Some(session) = self.0.lock().get_mut(id) {
            change(session);
        }
    }

    pub(crate) fn close(&self, id: &str) {
        self.0.lock().remove(id);
    }

    /// What the first request of a registration session asked for.
    pub(crate) fn remembered(&self, id: &str, now_ms: u64) -> Option<Value> {
        self.find(id, now_ms)?.remembered
    }

    /// Which account a registration session made.
    pub(crate) fn registered(&self, id: &str, now_ms: u64) -> Option<UserNid> {
        self.find(id, now_ms)?.registered
    }

    pub(crate) fn note_registered(&self, id: &str, user: UserNid) {
        self.update(id, |session| {
            session.registered = Some(user);
            session.remembered = None;
        });
    }
}

/// Why a stage was not passed: errcode and text that go into the 401.
type StageFailure = (&'static str, &'static str);

impl Accounts {
    /// Asks the owner of an account for their password before something that matters.
    /// `auth` is the `auth` of the request's body.
    ///
    /// # Errors
    /// [`AccountError::Interactive`] with the body of the 401 until the stage is passed.
    pub async fn prove_owner(
        &self,
        scope: UiaScope,
        auth: Option<&Value>,
    ) -> Result<UiaPass, AccountError> {
        if scope.appservice {
            return Ok(UiaPass::default());
        }
        let pass = self
            .interactive(scope, &[Stage::Password], auth, None)
            .await?;
        self.inner.uia.close(&pass.session);
        Ok(pass)
    }

    /// Goes one step in a session; all `stages` have to be passed, in any order.
    pub(crate) async fn interactive(
        &self,
        scope: UiaScope,
        stages: &[Stage],
        auth: Option<&Value>,
        remember: Option<Value>,
    ) -> Result<UiaPass, AccountError> {
        let now = self.inner.clock.now_ms();
        let given = auth
            .and_then(|auth| auth.get("session"))
            .and_then(Value::as_str);
        let known = given.and_then(|id| Some((id.to_owned(), self.inner.uia.find(id, now)?)));
        let (id, session) = match known {
            Some((id, session)) => (id, Some(session)),
            None => {
                let id = secret::opaque(&mut *self.inner.dice.dice());
                let remember = remember.filter(|v| v.to_string().len() <= MAX_REMEMBERED_BYTES);
                self.inner.uia.open(id.clone(), scope.hash(), remember, now);
                (id, None)
            }
        };
        if session
            .as_ref()
            .is_some_and(|session| session.scope != scope.hash())
        {
            return Err(AccountError::Forbidden(
                "This session was begun for another request",
            ));
        }
        let failure = match auth {
            None => None,
            Some(_) if given.is_some() && session.is_none() => {
                Some(("M_UNKNOWN", "Unknown or expired session"))
            }
            Some(auth) => self.step(&id, &scope, stages, auth).await?.err(),
        };
        let session = self.inner.uia.find(&id, now);
        let completed = session
            .as_ref()
            .map_or(&[][..], |session| &session.completed);
        if failure.is_none() && stages.iter().all(|stage| completed.contains(stage)) {
            let registration_token = session.and_then(|session| session.registration_token);
            return Ok(UiaPass {
                session: id,
                registration_token,
            });
        }
        Err(AccountError::Interactive(Box::new(
            self.challenge(&id, stages, completed, failure),
        )))
    }

    async fn step(
        &self,
        id: &str,
        scope: &UiaScope,
        stages: &[Stage],
        auth: &Value,
    ) -> Result<Result<(), StageFailure>, AccountError> {
        let Some(kind) = auth.get("type") else {
            return Ok(Ok(()));
        };
        let Some(kind) = kind.as_str() else {
            return Err(AccountError::BadJson("auth.type must be a string"));
        };
        let Some(stage) = Stage::named(kind).filter(|stage| stages.contains(stage)) else {
            return Ok(Err((
                "M_UNRECOGNIZED",
                "This stage is not part of any flow",
            )));
        };
        let mut shown = None;
        match stage {
            Stage::Dummy | Stage::Terms => {}
            Stage::Password => match self.password_stage(scope, auth).await {
                Ok(true) => {}
                Ok(false) => {
                    return Err(AccountError::Forbidden(
                        "This is not the account that the request is for",
                    ));
                }
                Err(AccountError::Forbidden(why)) => return Ok(Err(("M_FORBIDDEN", why))),
                Err(other) => return Err(other),
            },
            Stage::RegistrationToken => {
                let token = auth.get("token").and_then(Value::as_str);
                let token = token.ok_or(AccountError::Missing("token"))?.to_owned();
                let now = self.inner.clock.now_ms();
                if !self
                    .read({
                        let token = token.clone();
                        move |_, snap| Ok(is_good(snap, &token, now)?)
                    })
                    .await?
                {
                    return Ok(Err(("M_FORBIDDEN", "Invalid registration token")));
                }
                shown = Some(token);
            }
        }
        self.inner.uia.update(id, |session| {
            if !session.completed.contains(&stage) {
                session.completed.push(stage);
            }
            if shown.is_some() {
                session.registration_token = shown;
            }
        });
        Ok(Ok(()))
    }

    /// Checks name and password; whether they are those of the very account of the request.
    async fn password_stage(&self, scope: &UiaScope, auth: &Value) -> Result<bool, AccountError> {
        let password = auth.get("password").and_then(Value::as_str);
        let password = password
            .ok_or(AccountError::Missing("password"))?
            .to_owned();
        let owner = scope.user.ok_or(WRONG)?;
        let identifier = auth.get("identifier");
        let kind = identifier
            .and_then(|i| i.get("type"))
            .and_then(Value::as_str);
        if kind.is_some_and(|kind| kind != "m.id.user") {
            return Err(WRONG);
        }
        let named = identifier
            .and_then(|i| i.get("user"))
            .or_else(|| auth.get("user"));
        let name = match named.map(Value::as_str) {
            Some(Some(name)) => name.to_owned(),
            Some(None) => return Err(AccountError::BadJson("The user must be a string")),
            None => self.inner.store.user_id(owner)?.to_string(),
        };
        // Asked before the password is looked at: what a session of one's own says must not
        // tell whether somebody else's password is right.
        let meant = username::meant(&name, self.server_name());
        let own = self.inner.store.user_id(owner)?;
        let is_own = |id: &String| **id == *own || id.to_ascii_lowercase() == *own;
        if !meant.as_ref().is_some_and(is_own) {
            return Ok(false);
        }
        let (user, _) = self.check_password(&name, password).await?;
        Ok(user == owner)
    }

    fn challenge(
        &self,
        id: &str,
        stages: &[Stage],
        completed: &[Stage],
        failure: Option<StageFailure>,
    ) -> Value {
        let names = |stages: &[Stage]| stages.iter().map(|s| s.name()).collect::<Vec<_>>();
        let mut params = serde_json::Map::new();
        if let Some(terms) = &self.inner.settings.registration.terms
            && stages.contains(&Stage::Terms)
        {
            params.insert(Stage::Terms.name().to_owned(), terms.params.clone());
        }
        let mut body = json!({
            "session": id,
            "flows": [{ "stages": names(stages) }],
            "params": params,
            "completed": names(completed),
        });
        if let (Some((errcode, error)), Some(map)) = (failure, body.as_object_mut()) {
            map.insert("errcode".to_owned(), errcode.into());
            map.insert("error".to_owned(), error.into());
        }
        body
    }
}
