//! Who somebody of another server is, by an OpenID token of that server (server-server API,
//! "OpenID").

use serde::Deserialize;
use skerry_core::names;

use super::call::{QUICK, SMALL};
use super::fault::FederationError;
use super::paths::Path;
use super::{Federation, Limits};

/// Longest token that is asked about, in bytes.
const MAX_TOKEN_BYTES: usize = 1_024;

impl Federation {
    /// Whose an OpenID token of another server is, as that server says: a user of its own.
    ///
    /// # Errors
    /// What the other server says, also of a token that is not good; an answer that names nobody
    /// of that server.
    pub async fn openid_user(&self, server: &str, token: &str) -> Result<String, FederationError> {
        #[derive(Deserialize)]
        struct Answer {
            sub: String,
        }
        if token.len() > MAX_TOKEN_BYTES {
            return Err(FederationError::answer(server, "the token is too long"));
        }
        let path = Path::v1("openid/userinfo").query("access_token", token);
        let limits = Limits::new(QUICK, SMALL);
        let Answer { sub } = self.get(server, &path, limits).await?;
        let own = names::is_user_id(&sub) && names::server_of(&sub) == Some(server);
        if !own {
            return Err(FederationError::answer(
                server,
                "the user is none of its own",
            ));
        }
        Ok(sub)
    }
}
