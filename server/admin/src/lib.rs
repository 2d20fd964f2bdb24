//! The admin API, and with it the work behind the command line.
//!
//! Its endpoints keep the paths and shapes of Synapse's admin API where that has them, because
//! scripts for it exist; what it has no path for lies under `/_skerry/admin`. They ask for no
//! token: they are served on the admin socket alone, which only its owner can open.
//!
//! It deliberately knows no configuration and no socket: `app` serves it. Start reading at
//! [`ROUTES`].

mod error;
mod tokens;
mod users;

use skerry_account::Accounts;
use skerry_http::{Route, route};

/// What the admin endpoints work on.
pub struct Admin {
    /// People and their devices.
    pub accounts: Accounts,
    /// The version of this program.
    pub version: &'static str,
}

/// All admin endpoints.
pub const ROUTES: &[Route<Admin>] = &[
    route!(GET "/_synapse/admin/v1/server_version", None, Free, users::server_version),
    route!(POST "/_skerry/admin/v1/users", None, Free, users::create),
    route!(GET "/_synapse/admin/v2/users", None, Free, users::list),
    route!(
        POST "/_synapse/admin/v1/reset_password/{userId}", None, Free, users::reset_password
    ),
    route!(POST "/_synapse/admin/v1/deactivate/{userId}", None, Free, users::deactivate),
    route!(PUT "/_synapse/admin/v1/users/{userId}/admin", None, Free, users::set_admin),
    route!(GET "/_synapse/admin/v1/registration_tokens", None, Free, tokens::list),
    route!(POST "/_synapse/admin/v1/registration_tokens/new", None, Free, tokens::create),
    route!(DELETE "/_synapse/admin/v1/registration_tokens/{token}", None, Free, tokens::revoke),
];
