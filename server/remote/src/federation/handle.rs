//! Everything that has to do with other servers, put together.

use std::sync::Arc;

use skerry_core::keys::SigningKey;
use skerry_core::{Clock, DiceSource};
use skerry_room::Rooms;
use skerry_store::StoreError;

use super::approve::Approver;
use super::asked::Asked;
use super::carry::Carry;
use super::checker::Checker;
use super::desk::PolicyDesk;
use super::keyring::{KeyRing, KeyRingOptions, OldKey, Revoked};
use super::peers::{Peers, PeersOptions};
use super::policy::Policy;
use super::sender::{Sender, SenderOptions};

/// What a [`Federation`] is made of.
pub struct FederationOptions {
    /// This server's name.
    pub own_name: Arc<str>,
    /// Signs requests and events.
    pub key: Arc<SigningKey>,
    /// The rooms that are shared with other servers.
    pub rooms: Rooms,
    /// Carries requests.
    pub carry: Arc<dyn Carry>,
    /// Whom we talk with.
    pub policy: Policy,
    /// Servers that are believed about the keys of others.
    pub trusted: Vec<Arc<str>>,
    /// Keys that this server used before.
    pub old_keys: Vec<OldKey>,
    /// Keys that nobody may use.
    pub revoked: Revoked,
    /// This server as a policy server, if it is one.
    pub desk: Option<Arc<PolicyDesk>>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Chance.
    pub dice: Arc<dyn DiceSource>,
}

/// Everything that has to do with other servers. A cheap handle: clone it freely.
#[derive(Clone)]
pub struct Federation {
    pub(crate) rooms: Rooms,
    pub(crate) peers: Peers,
    pub(crate) keys: KeyRing,
    pub(crate) checker: Checker,
    pub(crate) sender: Sender,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) asked: Arc<Asked>,
    desk: Option<Arc<PolicyDesk>>,
}

impl Federation {
    /// Puts it together. Nothing is asked before somebody wants something, and nothing is sent
    /// before the sender runs.
    ///
    /// # Errors
    /// The store's.
    pub fn new(options: FederationOptions) -> Result<Federation, StoreError> {
        let store = options.rooms.store();
        let peers = Peers::new(PeersOptions {
            own_name: Arc::clone(&options.own_name),
            key: options.key,
            carry: options.carry,
            policy: options.policy.clone(),
            store: Arc::clone(store),
            clock: Arc::clone(&options.clock),
            dice: Arc::clone(&options.dice),
        })?;
        let keys = KeyRing::new(KeyRingOptions {
            store: Arc::clone(store),
            peers: peers.clone(),
            trusted: options.trusted,
            old_keys: options.old_keys,
            revoked: options.revoked,
            clock: Arc::clone(&options.clock),
        });
        let checker = Checker::new(
            options.own_name,
            options.policy,
            keys.clone(),
            Arc::clone(&options.clock),
        );
        let sender = Sender::new(SenderOptions {
            source: Arc::new(options.rooms.clone()),
            store: Arc::clone(store),
            peers: peers.clone(),
            clock: Arc::clone(&options.clock),
            dice: options.dice,
        });
        let approver = Approver::new(peers.clone(), options.desk.clone());
        options.rooms.ask_policy_by(Arc::new(approver));
        Ok(Federation {
            rooms: options.rooms,
            peers,
            keys,
            checker,
            sender,
            asked: Arc::new(Asked::new(Arc::clone(&options.clock))),
            clock: options.clock,
            desk: options.desk,
        })
    }

    /// Whether this server talks with others at all.
    #[must_use]
    pub fn is_enabled(&self) -> bool {
        self.peers.policy().is_enabled()
    }

    /// The rooms that are shared with other servers.
    #[must_use]
    pub fn rooms(&self) -> &Rooms {
        &self.rooms
    }

    /// Asks other servers.
    #[must_use]
    pub fn peers(&self) -> &Peers {
        &self.peers
    }

    /// The keys of all servers.
    #[must_use]
    pub fn keys(&self) -> &KeyRing {
        &self.keys
    }

    /// Checks what other servers have signed.
    #[must_use]
    pub fn checker(&self) -> &Checker {
        &self.checker
    }

    /// This server as a policy server, if it is one.
    #[must_use]
    pub fn desk(&self) -> Option<&Arc<PolicyDesk>> {
        self.desk.as_ref()
    }

    /// Tells other servers what happened.
    #[must_use]
    pub fn sender(&self) -> &Sender {
        &self.sender
    }

    /// The time.
    #[must_use]
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }
}
