//! Where authentication meets the tables: a token to the person behind it, by the accounts; a
//! signed request to the server behind it, by its keys.

use std::sync::Arc;

use skerry_account::appservice::Acting;
use skerry_account::{AccountError, Accounts};
use skerry_core::canonical::{CanonicalError, Mode, canonical_object};
use skerry_http::{
    ApiError, Authenticator, BoxFuture, Credentials, LARGE_BODY, Requester, SignedRequest,
};
use skerry_remote::federation::{Federation, RequestFault};

/// Asks the accounts.
pub struct TokenAuthenticator {
    accounts: Accounts,
    federation: Federation,
}

impl TokenAuthenticator {
    /// Over these accounts, and the keys of other servers.
    #[must_use]
    pub fn new(accounts: Accounts, federation: Federation) -> TokenAuthenticator {
        TokenAuthenticator {
            accounts,
            federation,
        }
    }
}

impl Authenticator for TokenAuthenticator {
    fn authenticate<'a>(
        &'a self,
        credentials: Credentials<'a>,
    ) -> BoxFuture<'a, Result<Requester, ApiError>> {
        Box::pin(async move {
            let acting = self
                .accounts
                .act(credentials.token, credentials.acts_as, credentials.device)
                .await
                .map_err(refuse)?;
            if let Some(acting) = acting {
                return Ok(bridge(acting));
            }
            let session = self
                .accounts
                .authenticate(credentials.token, credentials.peer, credentials.user_agent)
                .await
                .map_err(refuse)?;
            Ok(Requester {
                user_id: Arc::clone(&session.user_id),
                user: session.user,
                device: Arc::clone(&session.device),
                token_hash: session.token,
                is_guest: session.guest,
                locked: session.locked,
                suspended: session.suspended,
                admin: session.admin,
                appservice: None,
                unlimited: false,
            })
        })
    }

    fn authenticate_server<'a>(
        &'a self,
        request: SignedRequest<'a>,
    ) -> BoxFuture<'a, Result<Arc<str>, ApiError>> {
        Box::pin(async move {
            // Numbers that were never canonical are checked as their server wrote them, and so is
            // what nests too deep to be an event: what is around it may be good.
            let parse = |body| canonical_object(body, Mode::Lenient, LARGE_BODY);
            let body = Some(request.body).filter(|body| !body.is_empty());
            // What is no JSON object cannot have been signed.
            let body = body.map(parse).transpose().map_err(|error| match error {
                CanonicalError::TooDeep(_) => ApiError::bad_json(error.to_string()),
                _ => ApiError::unauthorized(format!("The body cannot have been signed: {error}")),
            })?;
            let checker = self.federation.checker();
            let origin = checker
                .check_request(request.proofs, request.method, request.uri, body.as_deref())
                .await
                .map_err(unproved)?;
            // It is there: what waits for it because it was not reached is sent now.
            let heard = self.federation.sender().heard_from(&origin);
            heard.map_err(ApiError::internal)?;
            Ok(origin)
        })
    }
}

fn unproved(fault: RequestFault) -> ApiError {
    match fault {
        RequestFault::Denied => ApiError::forbidden(fault.to_string()),
        RequestFault::Store(error) => ApiError::internal(error),
        _ => ApiError::unauthorized(fault.to_string()),
    }
}

/// An application service, acting as a user.
fn bridge(acting: Acting) -> Requester {
    Requester {
        user_id: acting.user_id,
        user: acting.user,
        device: acting.device,
        token_hash: acting.token,
        is_guest: false,
        locked: acting.hold.locked,
        suspended: acting.hold.suspended,
        admin: acting.admin,
        appservice: Some(acting.appservice),
        unlimited: acting.unlimited,
    }
}

fn refuse(error: AccountError) -> ApiError {
    match error {
        AccountError::Forbidden(why) => ApiError::forbidden(why),
        AccountError::UnknownDevice => ApiError::unknown_device(error.to_string()),
        AccountError::UnknownToken { soft_logout } => {
            let refused = ApiError::unknown_token("The access token is not known or has expired");
            if soft_logout {
                refused.soft_logout()
            } else {
                refused
            }
        }
        AccountError::Deactivated => ApiError::unknown_token("The account was deactivated"),
        other => ApiError::internal(other),
    }
}

/// For the admin socket, on which nobody has a token: whoever can open it may do everything.
pub struct NoTokens;

impl Authenticator for NoTokens {
    fn authenticate<'a>(
        &'a self,
        _: Credentials<'a>,
    ) -> BoxFuture<'a, Result<Requester, ApiError>> {
        Box::pin(async { Err(ApiError::unknown_token("There are no tokens here")) })
    }

    fn authenticate_server<'a>(
        &'a self,
        _: SignedRequest<'a>,
    ) -> BoxFuture<'a, Result<Arc<str>, ApiError>> {
        Box::pin(async { Err(ApiError::unauthorized("There are no servers here")) })
    }
}
