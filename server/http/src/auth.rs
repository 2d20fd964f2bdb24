//! Who asks.

use std::net::IpAddr;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use skerry_core::UserNid;

use crate::ApiError;

/// What a request brings to prove who sends it.
#[derive(Clone, Debug)]
pub struct Credentials<'a> {
    /// The access token, from the header or the query string.
    pub token: &'a str,
    /// Where the request comes from.
    pub peer: IpAddr,
    /// The client's own description of itself, cut to 512 bytes.
    pub user_agent: Option<&'a str>,
    /// `user_id` of the query: whom an application service acts as. Nothing for others.
    pub acts_as: Option<&'a str>,
    /// `device_id` of the query: the device with which an application service acts.
    pub device: Option<&'a str>,
}

/// The person and device behind a valid access token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requester {
    /// The full user id.
    pub user_id: Arc<str>,
    /// The user's number.
    pub user: UserNid,
    /// The device's id.
    pub device: Arc<str>,
    /// The hash under which the token is stored.
    pub token_hash: [u8; 32],
    /// A guest account.
    pub is_guest: bool,
    /// The account is locked: only log-outs are let through.
    pub locked: bool,
    /// The account is suspended: it may read and tidy up, not speak.
    pub suspended: bool,
    /// A server administrator.
    pub admin: bool,
    /// The id of the application service whose token it is; the user is then the one it acts
    /// as, and `device` is empty unless it named one.
    pub appservice: Option<Arc<str>>,
    /// Rate limits do not apply.
    pub unlimited: bool,
}

impl Requester {
    /// Within which the ids of transactions are unique: the device, or the application service
    /// that acts without one.
    #[must_use]
    pub fn txn_scope(&self) -> &str {
        match &self.appservice {
            Some(id) if self.device.is_empty() => id,
            _ => &self.device,
        }
    }
}

/// A request of another server, with what it was signed over (server-server API, "Request
/// Authentication").
#[derive(Clone, Copy, Debug)]
pub struct SignedRequest<'a> {
    /// The values of its `Authorization` headers that name the scheme `X-Matrix`: at least one.
    /// A server that signs with several keys sends several.
    pub proofs: &'a [&'a str],
    /// The method, in capitals.
    pub method: &'a str,
    /// Path and query as they came.
    pub uri: &'a str,
    /// The whole body; empty where there is none.
    pub body: &'a [u8],
}

/// Says who asks. `app` implements it over the account facade and the keys of other servers.
pub trait Authenticator: Send + Sync {
    /// Who the credentials belong to.
    ///
    /// # Errors
    /// [`ApiError::unknown_token`] for a token that is not valid (any more), with soft logout set
    /// where it only has to be refreshed; 500 where the store fails.
    fn authenticate<'a>(
        &'a self,
        credentials: Credentials<'a>,
    ) -> BoxFuture<'a, Result<Requester, ApiError>>;

    /// The name of the server that signed a request for us.
    ///
    /// # Errors
    /// 401 `M_UNAUTHORIZED` where no proof is good; 403 where we do not talk to the server.
    fn authenticate_server<'a>(
        &'a self,
        request: SignedRequest<'a>,
    ) -> BoxFuture<'a, Result<Arc<str>, ApiError>>;
}
