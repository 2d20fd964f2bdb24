//! Where authentication meets the tables: a token to the person behind it, by the accounts.

use std::sync::Arc;

use skerry_account::{AccountError, Accounts};
use skerry_http::{ApiError, Authenticator, BoxFuture, Credentials, Requester};

/// Asks the accounts.
pub struct TokenAuthenticator {
    accounts: Accounts,
}

impl TokenAuthenticator {
    /// Over these accounts.
    #[must_use]
    pub fn new(accounts: Accounts) -> TokenAuthenticator {
        TokenAuthenticator { accounts }
    }
}

impl Authenticator for TokenAuthenticator {
    fn authenticate<'a>(
        &'a self,
        credentials: Credentials<'a>,
    ) -> BoxFuture<'a, Result<Requester, ApiError>> {
        Box::pin(async move {
            let session = self
                .accounts
                .authenticate(credentials.token, credentials.peer)
                .await
                .map_err(refuse)?;
            Ok(Requester {
                user_id: Arc::clone(&session.user_id),
                user: session.user,
                device: Arc::clone(&session.device),
                token_hash: session.token,
                is_guest: session.guest,
                admin: session.admin,
            })
        })
    }
}

fn refuse(error: AccountError) -> ApiError {
    match error {
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
}
