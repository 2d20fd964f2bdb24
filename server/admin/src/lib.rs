//! The admin API, and with it the work behind the command line.
//!
//! Its endpoints keep the paths and shapes of Synapse's admin API where that has them, because
//! scripts for it exist; what it has no path for lies under `/_skerry/admin`. They ask for no
//! token: they are served on the admin socket alone, which only its owner can open. Some are
//! served to clients too, where they ask for an administrator's token ([`TOKEN_ROUTES`]).
//!
//! It deliberately knows no configuration and no socket: `app` serves it. Start reading at
//! [`ROUTES`].

mod appservices;
mod error;
mod federation;
mod media;
mod notices;
mod prune;
mod reports;
mod tokens;
mod users;

use std::sync::Arc;

use skerry_account::Accounts;
use skerry_http::{ApiError, Call, Route, route};
use skerry_media::Blobs;
use skerry_media::prune::Pruner;
use skerry_remote::federation::Federation;
use skerry_room::Rooms;

/// What the admin endpoints work on.
pub struct Admin {
    /// People and their devices.
    pub accounts: Accounts,
    /// Rooms.
    pub rooms: Rooms,
    /// Media.
    pub blobs: Arc<Blobs>,
    /// Deleting it.
    pub pruner: Pruner,
    /// Other servers.
    pub federation: Federation,
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
    route!(GET "/_skerry/admin/v1/appservices", None, Free, appservices::list),
    route!(POST "/_skerry/admin/v1/appservices", None, Free, appservices::register),
    route!(GET "/_skerry/admin/v1/appservices/{id}", None, Free, appservices::show),
    route!(DELETE "/_skerry/admin/v1/appservices/{id}", None, Free, appservices::unregister),
    route!(POST "/_synapse/admin/v1/send_server_notice", None, Free, notices::send),
    route!(PUT "/_synapse/admin/v1/send_server_notice/{txnId}", None, Free, notices::send_once),
    route!(GET "/_synapse/admin/v1/event_reports", None, Free, reports::of_events),
    route!(GET "/_synapse/admin/v1/event_reports/{reportId}", None, Free, reports::of_event),
    route!(DELETE "/_synapse/admin/v1/event_reports/{reportId}", None, Free, reports::close),
    route!(GET "/_synapse/admin/v1/user_reports", None, Free, reports::of_users),
    route!(GET "/_synapse/admin/v1/user_reports/{reportId}", None, Free, reports::of_user),
    route!(DELETE "/_synapse/admin/v1/user_reports/{reportId}", None, Free, reports::close),
    route!(
        POST "/_synapse/admin/v1/media/quarantine/{serverName}/{mediaId}",
        None, Free, media::quarantine
    ),
    route!(
        POST "/_synapse/admin/v1/media/unquarantine/{serverName}/{mediaId}",
        None, Free, media::unquarantine
    ),
    route!(
        POST "/_synapse/admin/v1/user/{userId}/media/quarantine",
        None, Free, media::quarantine_user
    ),
    route!(
        POST "/_synapse/admin/v1/room/{roomId}/media/quarantine",
        None, Free, prune::quarantine_room
    ),
    route!(POST "/_synapse/admin/v1/media/protect/{mediaId}", None, Free, media::protect),
    route!(POST "/_synapse/admin/v1/media/unprotect/{mediaId}", None, Free, media::unprotect),
    route!(POST "/_skerry/admin/v1/media/blocked_hashes/{hash}", None, Free, media::block_hash),
    route!(DELETE "/_skerry/admin/v1/media/blocked_hashes/{hash}", None, Free, media::unblock_hash),
    route!(POST "/_skerry/admin/v1/media/prune/plans", None, Free, prune::plan),
    route!(GET "/_skerry/admin/v1/media/prune/plans/{plan}/items", None, Free, prune::items),
    route!(POST "/_skerry/admin/v1/media/prune/explain", None, Free, prune::explain),
    route!(POST "/_skerry/admin/v1/media/prune/runs", None, Free, prune::start),
    route!(GET "/_skerry/admin/v1/media/prune/runs/{run}", None, Free, prune::run),
    route!(POST "/_skerry/admin/v1/media/verify", None, Free, prune::verify),
    route!(GET "/_skerry/admin/v1/media/trash", None, Free, prune::trash),
    route!(POST "/_skerry/admin/v1/media/trash/restore", None, Free, prune::restore),
    route!(GET "/_synapse/admin/v1/federation/destinations", None, Free, federation::list),
    route!(
        GET "/_synapse/admin/v1/federation/destinations/{destination}",
        None, Free, federation::show
    ),
    route!(
        POST "/_synapse/admin/v1/federation/destinations/{destination}/reset_connection",
        None, Free, federation::reset
    ),
    route!(GET "/_skerry/admin/v1/reports", None, Free, reports::all),
    route!(GET "/_skerry/admin/v1/reports/{reportId}", None, Free, reports::show),
    route!(DELETE "/_skerry/admin/v1/reports/{reportId}", None, Free, reports::close),
];

/// Those of them that are served to clients too, for administrators.
pub const TOKEN_ROUTES: &[Route<Admin>] = &[
    route!(POST "/_synapse/admin/v1/send_server_notice", Token, Send, notices::send),
    route!(PUT "/_synapse/admin/v1/send_server_notice/{txnId}", Token, Send, notices::send_once),
    route!(GET "/_synapse/admin/v1/event_reports", Token, Heavy, reports::of_events),
    route!(GET "/_synapse/admin/v1/event_reports/{reportId}", Token, Heavy, reports::of_event),
    route!(DELETE "/_synapse/admin/v1/event_reports/{reportId}", Token, Send, reports::close),
    route!(GET "/_synapse/admin/v1/user_reports", Token, Heavy, reports::of_users),
    route!(GET "/_synapse/admin/v1/user_reports/{reportId}", Token, Heavy, reports::of_user),
    route!(DELETE "/_synapse/admin/v1/user_reports/{reportId}", Token, Send, reports::close),
    route!(
        POST "/_synapse/admin/v1/media/quarantine/{serverName}/{mediaId}",
        Token, Send, media::quarantine
    ),
    route!(
        POST "/_synapse/admin/v1/media/unquarantine/{serverName}/{mediaId}",
        Token, Send, media::unquarantine
    ),
    route!(
        POST "/_synapse/admin/v1/user/{userId}/media/quarantine",
        Token, Heavy, media::quarantine_user
    ),
    route!(
        POST "/_synapse/admin/v1/room/{roomId}/media/quarantine",
        Token, Heavy, prune::quarantine_room
    ),
    route!(POST "/_synapse/admin/v1/media/protect/{mediaId}", Token, Send, media::protect),
    route!(POST "/_synapse/admin/v1/media/unprotect/{mediaId}", Token, Send, media::unprotect),
    route!(POST "/_skerry/admin/v1/media/blocked_hashes/{hash}", Token, Send, media::block_hash),
    route!(
        DELETE "/_skerry/admin/v1/media/blocked_hashes/{hash}", Token, Send, media::unblock_hash
    ),
    route!(POST "/_skerry/admin/v1/media/prune/plans", Token, Heavy, prune::plan),
    route!(GET "/_skerry/admin/v1/media/prune/plans/{plan}/items", Token, Heavy, prune::items),
    route!(POST "/_skerry/admin/v1/media/prune/explain", Token, Heavy, prune::explain),
    route!(POST "/_skerry/admin/v1/media/prune/runs", Token, Heavy, prune::start),
    route!(GET "/_skerry/admin/v1/media/prune/runs/{run}", Token, Heavy, prune::run),
    route!(POST "/_skerry/admin/v1/media/verify", Token, Heavy, prune::verify),
    route!(GET "/_skerry/admin/v1/media/trash", Token, Heavy, prune::trash),
    route!(POST "/_skerry/admin/v1/media/trash/restore", Token, Heavy, prune::restore),
    route!(GET "/_synapse/admin/v1/federation/destinations", Token, Heavy, federation::list),
    route!(
        GET "/_synapse/admin/v1/federation/destinations/{destination}",
        Token, Heavy, federation::show
    ),
    route!(
        POST "/_synapse/admin/v1/federation/destinations/{destination}/reset_connection",
        Token, Send, federation::reset
    ),
    route!(GET "/_skerry/admin/v1/reports", Token, Heavy, reports::all),
    route!(GET "/_skerry/admin/v1/reports/{reportId}", Token, Heavy, reports::show),
    route!(DELETE "/_skerry/admin/v1/reports/{reportId}", Token, Send, reports::close),
];

/// Who has a token needs an administrator's; who has none came by the socket.
///
/// # Errors
/// 403 `M_FORBIDDEN`.
pub(crate) fn admin_only(call: &Call) -> Result<(), ApiError> {
    match call.requester_opt() {
        Some(requester) if !requester.admin => {
            Err(ApiError::forbidden("You are not a server administrator"))
        }
        _ => Ok(()),
    }
}
