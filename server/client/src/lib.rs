//! The client-server endpoints: thin handlers, one file per family.
//!
//! A handler translates, calls one facade method, renders. It deliberately knows no table, loops
//! over no members and never makes two facade writes in a row; where two are needed, the facade
//! lacks a method.
//!
//! Start reading at [`routes`]; each file lists its endpoints in `ROUTES` at its top.

mod account;
mod account_data;
mod alias;
mod backup;
mod bridge;
mod capabilities;
mod create;
mod dehydrated;
mod delayed;
mod devices;
mod directory;
mod event_stream;
mod events;
mod fault;
mod filters;
mod in_room;
mod initial_sync;
mod json_list;
mod json_object;
mod keys;
mod login;
mod members;
mod membership;
mod messages;
mod moderation;
mod openid;
mod pages;
mod people;
mod presence;
mod profile;
mod push_rules;
mod pushers;
mod reading;
mod receipts;
mod register;
mod relations;
mod rendezvous;
mod report;
mod rtc;
mod scope;
mod search;
mod send;
mod standing;
mod state;
mod summary;
mod sync;
mod sync_sliding;
mod sync_v3;
mod tags;
mod thread_subscriptions;
mod threepid;
mod to_device;
mod typing;
mod upgrade;
mod versions;
mod voip;

use std::sync::Arc;

pub use rendezvous::Rendezvous;
pub use rtc::{Calls, SERVICE_PATH};
use skerry_account::Accounts;
use skerry_core::{Clock, DiceSource};
use skerry_http::Route;
use skerry_remote::appservice::Bridges;
use skerry_remote::federation::Federation;
use skerry_remote::federation::people::People;
use skerry_remote::identity::Identity;
use skerry_room::Rooms;
use skerry_store::Store;
use skerry_sync::Sync;
pub use voip::{Turn, TurnLogin};

/// What every handler gets.
pub struct Ctx {
    /// What calls go over.
    pub calls: Calls,
    /// Devices that are about to log in.
    pub rendezvous: Rendezvous,
    /// For snapshots to hand to query functions; never for tables.
    pub store: Arc<Store>,
    /// People and their devices.
    pub accounts: Accounts,
    /// Rooms.
    pub rooms: Rooms,
    /// What changed.
    pub sync: Sync,
    /// Identity servers.
    pub identity: Identity,
    /// Application services.
    pub bridges: Bridges,
    /// People of other servers and their devices.
    pub people: People,
    /// Other servers.
    pub federation: Federation,
    /// What the operator chose.
    pub config: ClientConfig,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Random bytes.
    pub dice: Arc<dyn DiceSource>,
}

/// The operator's choices that endpoints themselves act on; facades have their own.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// The part of user ids after the colon.
    pub server_name: Arc<str>,
    /// Where clients reach this server, without a slash at the end.
    pub base_url: String,
    /// Whether guests may register.
    pub guests: bool,
    /// Whether the public room directory answers those who are not logged in.
    pub directory_without_auth: bool,
    /// The version of new rooms.
    pub default_room_version: String,
    /// The public key by which push services recognise this server (MSC4174).
    pub vapid: String,
    /// The secret for `/_synapse/admin/v1/register`; empty: the endpoint does not exist.
    pub shared_secret: String,
}

/// All endpoints of this crate.
#[must_use]
pub fn routes() -> Vec<Route<Ctx>> {
    let lists: &[&[Route<Ctx>]] = &[
        account::ROUTES,
        account_data::ROUTES,
        backup::ROUTES,
        bridge::ROUTES,
        capabilities::ROUTES,
        devices::ROUTES,
        filters::ROUTES,
        keys::ROUTES,
        login::ROUTES,
        moderation::ROUTES,
        openid::ROUTES,
        presence::ROUTES,
        profile::ROUTES,
        push_rules::ROUTES,
        pushers::ROUTES,
        register::ROUTES,
        sync::ROUTES,
        sync_sliding::ROUTES,
        event_stream::ROUTES,
        events::ROUTES,
        initial_sync::ROUTES,
        members::ROUTES,
        messages::ROUTES,
        receipts::ROUTES,
        relations::ROUTES,
        rendezvous::ROUTES,
        rtc::ROUTES,
        voip::ROUTES,
        state::ROUTES,
        typing::ROUTES,
        tags::ROUTES,
        thread_subscriptions::ROUTES,
        threepid::ROUTES,
        to_device::ROUTES,
        versions::ROUTES,
        upgrade::ROUTES,
        search::ROUTES,
        send::ROUTES,
        membership::ROUTES,
        directory::ROUTES,
        summary::ROUTES,
        people::ROUTES,
        report::ROUTES,
        create::ROUTES,
        dehydrated::ROUTES,
        delayed::ROUTES,
        alias::ROUTES,
    ];
    let mut routes = lists.concat();
    routes.extend(pages::routes());
    standing::lay(&mut routes);
    routes
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use skerry_http::{Auth, Rate};

    use super::routes;

    /// Whatever looks at a password, and whatever searches through many rows for one answer.
    #[test]
    fn what_can_be_guessed_and_what_costs_much_is_limited() {
        let passwords = [
            "/login",
            "/refresh",
            "/account/password",
            "/account/deactivate",
            "/delete_devices",
            "/keys/device_signing/upload",
        ];
        let costly = [
            "/messages",
            "/context/{eventId}",
            "/timestamp_to_event",
            "/relations/{eventId}",
            "/threads",
            "/publicRooms",
            "/search",
            "/keys/query",
            "/keys/claim",
        ];
        for (paths, rate) in [(&passwords[..], Rate::Login), (&costly[..], Rate::Heavy)] {
            for path in paths {
                let routes = routes();
                let named = routes.iter().filter(|route| route.path.ends_with(path));
                let asked: Vec<Rate> = named
                    .filter(|route| *path != "/login" || route.verb.as_str() == "POST")
                    .map(|route| route.rate)
                    .collect();
                assert!(!asked.is_empty(), "{path}");
                assert!(
                    asked.iter().all(|asked| *asked == rate),
                    "{path}: {asked:?}"
                );
            }
        }
        let open = routes().into_iter().filter(|route| {
            route.auth == Auth::None && route.verb.as_str() != "GET" && route.rate == Rate::Free
        });
        assert_eq!(open.count(), 0, "strangers write nothing without a limit");
    }
}
