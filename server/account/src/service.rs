//! The account in whose name the server itself speaks. Nobody can log in to it.

use serde_json::Value;
use skerry_core::UserNid;

use crate::register::NewAccount;
use crate::{AccountError, Accounts, profile};

impl Accounts {
    /// The server's own account of this name, made if it is not there yet, with this display name
    /// and avatar (none: as it is).
    ///
    /// # Errors
    /// `Invalid` where the name belongs to somebody who can log in; `InvalidUsername`.
    pub async fn service_account(
        &self,
        name: &str,
        display_name: Option<String>,
        avatar_url: Option<String>,
    ) -> Result<UserNid, AccountError> {
        let user = match self.find_user(name).await {
            Ok(user) => user,
            Err(AccountError::NotFound(_)) => {
                let account = NewAccount {
                    username: Some(name.to_owned()),
                    admin: Some(false),
                    service: true,
                    ..NewAccount::default()
                };
                match self.create(account, None).await {
                    // Two notices at once: the other one made it.
                    Err(AccountError::UserInUse) => self.find_user(name).await?,
                    made => made?.0,
                }
            }
            Err(error) => return Err(error),
        };
        self.change(user, move |tx| {
            let row = tx
                .snap
                .get::<skerry_store::schema::account::Accounts>(&user)?;
            if row.is_none_or(|row| row.password.is_some() || row.deactivated) {
                return Err(AccountError::Invalid(
                    "The name of the server's own account belongs to somebody else",
                ));
            }
            let fields = [
                (profile::DISPLAY_NAME, display_name),
                (profile::AVATAR_URL, avatar_url),
            ];
            for (field, value) in fields {
                if let Some(value) = value {
                    profile::write_field(tx, user, field, &Value::String(value))?;
                }
            }
            Ok(user)
        })
        .await
    }
}
