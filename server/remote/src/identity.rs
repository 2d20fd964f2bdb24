//! Identity servers: those that clients name, for telling others which addresses a user has, and
//! for inviting people by their address (identity service API v2; client-server API,
//! "Third-party invites").
//!
//! The client brings the access token for the identity server; we have none of our own. Every
//! request goes out through the guarded client.

mod ask;
mod invite;

use std::sync::Arc;

use serde_json::{Value, json};
use skerry_account::address::Binding;
use skerry_account::{AccountError, Accounts, UiaScope};
use skerry_core::UserNid;
use skerry_core::canonical::{Mode, Object};
use skerry_core::keys::SigningKey;
use skerry_core::names;
use skerry_room::{RoomError, Rooms};

use crate::federation::{Federation, FederationError};
use crate::http::{HttpError, Request, Transport};

pub use invite::{AddressInvite, BoundInvite, OnBind};

/// How many identity servers are told that an account is closed.
const MAX_UNBOUND: usize = 100;
/// Longest access token for an identity server, in bytes.
const MAX_TOKEN_BYTES: usize = 1_024;

/// Why something that an identity server has a part in was not done.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// Not the name of a server.
    #[error("{0:?} is not the name of an identity server")]
    Name(String),
    /// A parameter is missing; says which.
    #[error("Missing parameter: {0}")]
    Missing(&'static str),
    /// The identity server refused; with its errcode.
    #[error("The identity server refused: {error}")]
    Refused {
        /// The errcode.
        errcode: String,
        /// What it said.
        error: String,
    },
    /// The identity server said something else than the API has it.
    #[error("The identity server's answer is not understood")]
    Answer,
    /// There was no answer.
    #[error("The identity server cannot be reached")]
    Unreachable(#[from] HttpError),
    /// An invite's signature is not that of the identity server, or its key was withdrawn.
    #[error("{0}")]
    Signature(&'static str),
    /// About the account.
    #[error("{0}")]
    Account(#[from] AccountError),
    /// About the room.
    #[error("{0}")]
    Room(#[from] RoomError),
    /// About a user of another server.
    #[error("{0}")]
    Elsewhere(#[from] FederationError),
}

/// What users ask of identity servers. A cheap handle: clone it freely.
#[derive(Clone)]
pub struct Identity {
    http: Arc<dyn Transport>,
    accounts: Accounts,
    rooms: Rooms,
    federation: Federation,
    key: Arc<SigningKey>,
}

/// A session that the user went through with an identity server.
#[derive(Clone, Debug)]
pub struct BindRequest {
    /// The identity server.
    pub id_server: String,
    /// The user's access token there.
    pub id_access_token: String,
    /// The session.
    pub sid: String,
    /// The secret it was begun with.
    pub client_secret: String,
}

impl Identity {
    /// Speaks through this transport; `key` signs what only this server may ask.
    #[must_use]
    pub fn new(
        http: Arc<dyn Transport>,
        accounts: Accounts,
        federation: Federation,
        key: Arc<SigningKey>,
    ) -> Identity {
        Identity {
            http,
            accounts,
            rooms: federation.rooms().clone(),
            federation,
            key,
        }
    }

    /// Lets an identity server tell that an address is a user's, and notes that it does.
    ///
    /// # Errors
    /// [`IdentityError`].
    pub async fn bind(&self, user: UserNid, ask: BindRequest) -> Result<(), IdentityError> {
        let url = url_of(&ask.id_server, "3pid/bind")?;
        let user_id = self.user_id(user).await?;
        let body = json!({
            "sid": ask.sid,
            "client_secret": ask.client_secret,
            "mxid": &*user_id,
        });
        let request = Request::post(&url)
            .bearer(checked_token(&ask.id_access_token)?)
            .json(&body);
        let bound = self.ask(request).await?;
        let text = |name: &str| bound.get(name).and_then(Value::as_str);
        let (medium, address) = text("medium")
            .zip(text("address"))
            .ok_or(IdentityError::Answer)?;
        self.accounts
            .note_binding(user, (medium, address), &ask.id_server)
            .await?;
        Ok(())
    }

    /// Lets identity servers no longer tell that an address is a user's: the one named, or all
    /// that were told through this server. True where each of them did it.
    ///
    /// # Errors
    /// [`IdentityError`]; a server that cannot do it is no error.
    pub async fn unbind(
        &self,
        user: UserNid,
        (medium, address): (&str, &str),
        id_server: Option<String>,
    ) -> Result<bool, IdentityError> {
        let at = skerry_account::address::comparable(medium, address)?;
        let servers: Vec<String> = match id_server {
            Some(named) => vec![named],
            None => {
                let bindings = self.accounts.bindings(user).await?;
                let same = bindings
                    .into_iter()
                    .filter(|binding| binding.medium == medium && binding.address == at);
                same.map(|binding| binding.id_server).collect()
            }
        };
        let mut all = !servers.is_empty();
        for id_server in servers {
            let binding = Binding {
                medium: medium.to_owned(),
                address: at.clone(),
                id_server,
            };
            all &= self.unbind_one(user, binding).await?;
        }
        Ok(all)
    }

    /// Lets every identity server forget a user whose account was closed. True where each did.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn unbind_all(&self, user: UserNid) -> Result<bool, IdentityError> {
        let bindings = self.accounts.bindings(user).await?;
        let mut all = true;
        for binding in bindings.into_iter().take(MAX_UNBOUND) {
            let server = binding.id_server.clone();
            match self.unbind_one(user, binding).await {
                Ok(done) => all &= done,
                Err(error) => {
                    tracing::warn!(%error, server, "an identity server still tells of a user");
                    all = false;
                }
            }
        }
        Ok(all)
    }

    /// Takes an address from an account, and lets identity servers forget it as
    /// [`Identity::unbind`] does. True where each of them did.
    ///
    /// # Errors
    /// Those of the account; identity servers hold nobody up.
    pub async fn remove(
        &self,
        user: UserNid,
        address: (&str, &str),
        id_server: Option<String>,
    ) -> Result<bool, IdentityError> {
        self.accounts
            .remove_address(user, address.0, address.1)
            .await?;
        match self.unbind(user, address, id_server).await {
            Err(IdentityError::Account(error)) => Err(error.into()),
            Err(error) => {
                tracing::warn!(%error, "an identity server still tells of an address");
                Ok(false)
            }
            done => done,
        }
    }

    /// Lets a user close their own account for good, after proving the password, and identity
    /// servers forget them. True where each did.
    ///
    /// # Errors
    /// As [`Accounts::deactivate_own`]; identity servers hold nobody up.
    pub async fn close_account(
        &self,
        scope: UiaScope,
        auth: Option<&Value>,
        erase: bool,
    ) -> Result<bool, IdentityError> {
        let user = scope.user;
        self.accounts.deactivate_own(scope, auth, erase).await?;
        match user {
            Some(user) => self.unbind_all(user).await,
            None => Ok(false),
        }
    }

    async fn unbind_one(&self, user: UserNid, binding: Binding) -> Result<bool, IdentityError> {
        let url = url_of(&binding.id_server, "3pid/unbind")?;
        let user_id = self.user_id(user).await?;
        let content = json!({
            "mxid": &*user_id,
            "threepid": { "medium": binding.medium, "address": binding.address },
        });
        let signed = self.signed(
            &binding.id_server,
            "/_matrix/identity/v2/3pid/unbind",
            &content,
        );
        let request = Request::post(&url)
            .header("authorization", &signed.ok_or(IdentityError::Answer)?)
            .json(&content);
        match self.ask(request).await {
            Ok(_) => {
                self.accounts.forget_binding(user, binding).await?;
                Ok(true)
            }
            // It does not know the binding, or does not let servers end one.
            Err(IdentityError::Refused { .. }) => Ok(false),
            Err(other) => Err(other),
        }
    }

    /// The header by which a server signs a request (server-server API, "Request
    /// Authentication").
    fn signed(&self, destination: &str, uri: &str, content: &Value) -> Option<String> {
        let origin = self.rooms.server_name();
        let whole = json!({
            "method": "POST",
            "uri": uri,
            "origin": origin,
            "destination": destination,
            "content": content,
        });
        let mut whole = Object::from_json(&whole, Mode::Strict).ok()?;
        self.key.sign_object(origin, &mut whole);
        let key = self.key.id();
        let signature = whole.object("signatures")?.object(origin)?.str(key)?;
        Some(format!(
            "X-Matrix origin=\"{origin}\",destination=\"{destination}\",key=\"{key}\",\
             sig=\"{signature}\""
        ))
    }

    async fn user_id(&self, user: UserNid) -> Result<Arc<str>, IdentityError> {
        let store = Arc::clone(self.accounts.store());
        let read = skerry_store::blocking(move || store.user_id(user)).await;
        let read = read.map_err(AccountError::from)?;
        Ok(read.map_err(AccountError::from)?)
    }
}

/// The address of an endpoint of an identity server.
fn url_of(id_server: &str, path: &str) -> Result<String, IdentityError> {
    if !names::is_server_name(id_server) {
        return Err(IdentityError::Name(id_server.to_owned()));
    }
    Ok(format!("https://{id_server}/_matrix/identity/v2/{path}"))
}

/// An access token that can stand in a header.
fn checked_token(token: &str) -> Result<&str, IdentityError> {
    if token.is_empty() || token.len() > MAX_TOKEN_BYTES {
        return Err(IdentityError::Missing("id_access_token"));
    }
    Ok(token)
}
