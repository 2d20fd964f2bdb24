//! User-interactive authentication (spec, client-server API, section of that name).
//!
//! A session belongs to one kind of request: the same user, method and path. It lives in memory,
//! bounded in number and time: losing it means that the client proves itself once more. A stage
//! is passed by the request itself, or on a fallback page, which names the session alone.

mod sessions;
mod stages;

use serde_json::{Value, json};
use skerry_core::UserNid;

use crate::{AccountError, Accounts, secret};

pub(crate) use sessions::UiaSessions;
pub use stages::Shown;

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
    /// An e-mail address that was validated.
    Email,
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
            Stage::Email => "m.login.email.identity",
        }
    }

    /// The stage of a name in the protocol.
    #[must_use]
    pub fn named(name: &str) -> Option<Stage> {
        [
            Stage::Password,
            Stage::RegistrationToken,
            Stage::Dummy,
            Stage::Terms,
            Stage::Email,
        ]
        .into_iter()
        .find(|stage| stage.name() == name)
    }
}

/// Stages, all of which have to be passed, in any order.
pub(crate) type Flow = Vec<Stage>;

/// What a session is good for: the same request again, by the same user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UiaScope {
    /// The user of the request's access token; none at registration.
    pub user: Option<UserNid>,
    /// The request's method.
    pub method: String,
    /// The request's path.
    pub path: String,
    /// Whether an application service asks, which proves nothing but its token.
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
    /// The address that was shown; its validation is not used up yet.
    pub(crate) email: Option<crate::validation::Proof>,
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
            .interactive(scope, &[vec![Stage::Password]], auth, None)
            .await?;
        self.inner.uia.close(&pass.session);
        Ok(pass)
    }

    /// Goes one step in a session; all stages of one of the `flows` have to be passed.
    pub(crate) async fn interactive(
        &self,
        scope: UiaScope,
        flows: &[Flow],
        auth: Option<&Value>,
        remember: Option<Value>,
    ) -> Result<UiaPass, AccountError> {
        let now = self.inner.clock.now_ms();
        let auth = auth.filter(|auth| !auth.is_null());
        if auth.is_some_and(|auth| !auth.is_object()) {
            return Err(AccountError::BadJson("auth must be an object"));
        }
        let given = auth
            .and_then(|auth| auth.get("session"))
            .and_then(Value::as_str);
        let known = given.and_then(|id| Some((id.to_owned(), self.inner.uia.find(id, now)?)));
        let (id, session) = match known {
            Some((id, session)) => (id, Some(session)),
            None => {
                let id = secret::opaque(&mut *self.inner.dice.dice());
                let remember = remember.filter(|v| v.to_string().len() <= MAX_REMEMBERED_BYTES);
                let session = sessions::Session::new(&scope, flows, remember, now);
                self.inner.uia.open(id.clone(), session, now);
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
            Some(auth) => self.step(&id, &scope, flows, auth).await?.err(),
        };
        let session = self.inner.uia.find(&id, now);
        let completed = session
            .as_ref()
            .map_or(&[][..], |session| &session.completed);
        let passed = |flow: &Flow| flow.iter().all(|stage| completed.contains(stage));
        if failure.is_none() && flows.iter().any(passed) {
            return Ok(UiaPass {
                session: id,
                registration_token: session
                    .as_ref()
                    .and_then(|session| session.registration_token.clone()),
                email: session.and_then(|session| session.email),
            });
        }
        Err(AccountError::Interactive(Box::new(
            self.challenge(&id, flows, completed, failure),
        )))
    }

    fn challenge(
        &self,
        id: &str,
        flows: &[Flow],
        completed: &[Stage],
        failure: Option<StageFailure>,
    ) -> Value {
        let names = |stages: &[Stage]| stages.iter().map(|s| s.name()).collect::<Vec<_>>();
        let mut params = serde_json::Map::new();
        if let Some(terms) = &self.inner.settings.registration.terms
            && flows.iter().any(|flow| flow.contains(&Stage::Terms))
        {
            params.insert(Stage::Terms.name().to_owned(), terms.params.clone());
        }
        let flows: Vec<Value> = flows
            .iter()
            .map(|flow| json!({ "stages": names(flow) }))
            .collect();
        let mut body = json!({
            "session": id,
            "flows": flows,
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
