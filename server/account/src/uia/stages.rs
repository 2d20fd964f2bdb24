//! The stages of user-interactive authentication, one by one.

use serde_json::Value;

use super::{Flow, Stage, StageFailure, UiaScope};
use crate::address::Purpose;
use crate::login::{LoginName, WRONG};
use crate::registration_token::is_good;
use crate::validation::Proof;
use crate::{AccountError, Accounts, username};

/// What somebody shows on a fallback page.
#[derive(Clone, Debug)]
pub enum Shown {
    /// They agree to the terms.
    Agreed,
    /// A registration token.
    Token(String),
}

/// What a passed stage leaves in the session.
#[derive(Default)]
struct Left {
    registration_token: Option<String>,
    email: Option<Proof>,
}

type Passed = Result<Left, StageFailure>;

impl Accounts {
    /// Whether a session is open and has this stage in a flow; true where it was passed already.
    /// For the fallback pages.
    ///
    /// # Errors
    /// `NotFound` for an unknown session, or one without this stage.
    pub fn uia_stage(&self, session: &str, stage: Stage) -> Result<bool, AccountError> {
        let found = self.inner.uia.find(session, self.inner.clock.now_ms());
        let found = found.filter(|session| session.stages.contains(&stage));
        let session = found.ok_or(AccountError::NotFound("Unknown or expired session"))?;
        Ok(session.completed.contains(&stage))
    }

    /// Passes a stage on a fallback page.
    ///
    /// # Errors
    /// `NotFound` for an unknown session, or one without this stage; `Forbidden` for a
    /// registration token that is not good.
    pub async fn pass_stage(&self, session: &str, shown: Shown) -> Result<(), AccountError> {
        let (stage, passed) = match shown {
            Shown::Agreed => (Stage::Terms, Ok(Left::default())),
            Shown::Token(token) => {
                self.uia_stage(session, Stage::RegistrationToken)?;
                (Stage::RegistrationToken, self.token_stage(token).await?)
            }
        };
        self.uia_stage(session, stage)?;
        match passed {
            Ok(left) => {
                self.note_passed(session, stage, left);
                Ok(())
            }
            Err((_, why)) => Err(AccountError::Forbidden(why)),
        }
    }

    fn note_passed(&self, session: &str, stage: Stage, left: Left) {
        self.inner.uia.update(session, |session| {
            if !session.completed.contains(&stage) {
                session.completed.push(stage);
            }
            if left.registration_token.is_some() {
                session.registration_token = left.registration_token;
            }
            if left.email.is_some() {
                session.email = left.email;
            }
        });
    }

    pub(super) async fn step(
        &self,
        id: &str,
        scope: &UiaScope,
        flows: &[Flow],
        auth: &Value,
    ) -> Result<Result<(), StageFailure>, AccountError> {
        let Some(kind) = auth.get("type") else {
            return Ok(Ok(()));
        };
        let Some(kind) = kind.as_str() else {
            return Err(AccountError::BadJson("auth.type must be a string"));
        };
        let offered = |stage: &Stage| flows.iter().any(|flow| flow.contains(stage));
        let Some(stage) = Stage::named(kind).filter(offered) else {
            return Ok(Err((
                "M_UNRECOGNIZED",
                "This stage is not part of any flow",
            )));
        };
        let passed = match stage {
            Stage::Dummy | Stage::Terms => Ok(Left::default()),
            Stage::Password => self.password_stage(scope, auth).await?,
            Stage::RegistrationToken => {
                let token = auth.get("token").and_then(Value::as_str);
                let token = token.ok_or(AccountError::Missing("token"))?;
                self.token_stage(token.to_owned()).await?
            }
            Stage::Email => self.email_stage(scope, auth).await?,
        };
        Ok(passed.map(|left| self.note_passed(id, stage, left)))
    }

    async fn token_stage(&self, token: String) -> Result<Passed, AccountError> {
        let (asked, now) = (token.clone(), self.inner.clock.now_ms());
        let good = self
            .read(move |_, snap| Ok(is_good(snap, &asked, now)?))
            .await?;
        Ok(match good {
            true => Ok(Left {
                registration_token: Some(token),
                email: None,
            }),
            false => Err(("M_FORBIDDEN", "Invalid registration token")),
        })
    }

    /// Looks whether the address was validated for this very purpose.
    async fn email_stage(&self, scope: &UiaScope, auth: &Value) -> Result<Passed, AccountError> {
        let creds = auth.get("threepid_creds").or(auth.get("threepidCreds"));
        let text = |name| {
            creds
                .and_then(|creds| creds.get(name))
                .and_then(Value::as_str)
        };
        let sid = text("sid").ok_or(AccountError::Missing("threepid_creds.sid"))?;
        let secret = text("client_secret");
        let secret = secret.ok_or(AccountError::Missing("threepid_creds.client_secret"))?;
        let purpose = match scope.path.ends_with("/register") {
            true => Purpose::Register,
            false => Purpose::Password,
        };
        let proof = self.proof(purpose, sid.to_owned(), secret);
        match self.proved(proof.clone()).await {
            Ok(_) => Ok(Ok(Left {
                registration_token: None,
                email: Some(proof),
            })),
            Err(AccountError::AddressUnproved) => Ok(Err((
                "M_THREEPID_AUTH_FAILED",
                "The address was not validated",
            ))),
            Err(other) => Err(other),
        }
    }

    async fn password_stage(&self, scope: &UiaScope, auth: &Value) -> Result<Passed, AccountError> {
        match self.owner_password(scope, auth).await {
            Ok(true) => Ok(Ok(Left::default())),
            Ok(false) => Err(AccountError::Forbidden(
                "This is not the account that the request is for",
            )),
            Err(AccountError::Forbidden(why)) => Ok(Err(("M_FORBIDDEN", why))),
            Err(other) => Err(other),
        }
    }

    /// Checks name and password; whether they are those of the very account of the request.
    async fn owner_password(&self, scope: &UiaScope, auth: &Value) -> Result<bool, AccountError> {
        let password = auth.get("password").and_then(Value::as_str);
        let password = password
            .ok_or(AccountError::Missing("password"))?
            .to_owned();
        let owner = scope.user.ok_or(WRONG)?;
        let name = match named(auth)? {
            Some(name) => self.named(name).await?,
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
}

/// Whom an `auth` with a password names, if anybody.
fn named(auth: &Value) -> Result<Option<LoginName>, AccountError> {
    let identifier = auth.get("identifier");
    let text = |name: &str| {
        let given = identifier
            .and_then(|i| i.get(name))
            .or_else(|| auth.get(name));
        match given {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(_) => Err(AccountError::BadJson("The identifier must hold strings")),
        }
    };
    let kind = identifier
        .and_then(|i| i.get("type"))
        .and_then(Value::as_str);
    match kind {
        None | Some("m.id.user") => Ok(text("user")?.map(LoginName::User)),
        Some("m.id.thirdparty") => Ok(Some(LoginName::Address {
            medium: text("medium")?.ok_or(AccountError::Missing("identifier.medium"))?,
            address: text("address")?.ok_or(AccountError::Missing("identifier.address"))?,
        })),
        Some(_) => Err(WRONG),
    }
}
