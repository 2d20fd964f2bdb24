//! The facade: what everyone else holds of this crate.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use skerry_core::{Clock, DiceSource, UserNid};
use skerry_store::{Lanes, Store};

use crate::appservice::Registry;
use crate::e2e::Queues;
use crate::ignored::IgnoredCache;
use crate::job::JobBell;
use crate::letters::Letters;
use crate::login_token::LoginTokens;
use crate::password::Hasher;
use crate::presence::PresenceBoard;
use crate::push_rule::RulesCache;
use crate::session::Sessions;
use crate::shared_secret::Nonces;
use crate::txn::TxnKey;
use crate::uia::UiaSessions;
use crate::{AccountError, AccountSettings, Ephemeral};

/// Accounts, devices and everything kept for them. A cheap handle: clone it freely.
#[derive(Clone)]
pub struct Accounts {
    pub(crate) inner: Arc<Inner>,
}

/// What all handles share.
pub(crate) struct Inner {
    pub(crate) store: Arc<Store>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) dice: Arc<dyn DiceSource>,
    pub(crate) settings: AccountSettings,
    /// One writer per user.
    pub(crate) lanes: Lanes<UserNid>,
    /// One registration at a time: who is first, and how often a token was used.
    pub(crate) registering: Lanes<()>,
    /// One request at a time of each registration session.
    pub(crate) forms: Lanes<String>,
    /// Transactions in flight.
    pub(crate) txns: Lanes<TxnKey>,
    pub(crate) hasher: Hasher,
    pub(crate) sessions: Sessions,
    pub(crate) uia: UiaSessions,
    pub(crate) nonces: Nonces,
    pub(crate) login_tokens: LoginTokens,
    pub(crate) appservices: Registry,
    /// One change of the application services at a time.
    pub(crate) registry_lane: Lanes<()>,
    pub(crate) ephemeral: Arc<Ephemeral>,
    pub(crate) presence: PresenceBoard,
    pub(crate) rules: RulesCache,
    pub(crate) ignored: IgnoredCache,
    pub(crate) bell: JobBell,
    pub(crate) queues: Queues,
    pub(crate) letters: Letters,
    /// Known to be true once a person (not a guest) has an account here.
    pub(crate) settled: AtomicBool,
}

impl Accounts {
    /// The accounts of a store.
    ///
    /// # Errors
    /// Only where the settings cannot be used.
    pub fn new(
        store: Arc<Store>,
        clock: Arc<dyn Clock>,
        dice: Arc<dyn DiceSource>,
        settings: AccountSettings,
    ) -> Result<Accounts, AccountError> {
        let hasher = Hasher::new(settings.password_cost, dice.clone())?;
        let ephemeral = Arc::new(Ephemeral::new(&mut *dice.dice()));
        let inner = Inner {
            lanes: Lanes::new(),
            registering: Lanes::new(),
            forms: Lanes::new(),
            txns: Lanes::new(),
            hasher,
            sessions: Sessions::new(settings.cached_sessions),
            uia: UiaSessions::default(),
            nonces: Nonces::default(),
            login_tokens: LoginTokens::default(),
            appservices: Registry::default(),
            registry_lane: Lanes::new(),
            presence: PresenceBoard::new(ephemeral.clone(), clock.clone()),
            ephemeral,
            rules: RulesCache::default(),
            ignored: IgnoredCache::default(),
            bell: JobBell::default(),
            queues: Queues::default(),
            letters: Letters::default(),
            settled: AtomicBool::new(false),
            store,
            clock,
            dice,
            settings,
        };
        inner.read_appservices()?;
        Ok(Accounts {
            inner: Arc::new(inner),
        })
    }

    /// The store the accounts are in.
    #[must_use]
    pub fn store(&self) -> &Arc<Store> {
        &self.inner.store
    }

    /// The part after the colon of the ids of this server's users.
    #[must_use]
    pub fn server_name(&self) -> &str {
        &self.inner.settings.server_name
    }

    /// What the configuration decided.
    #[must_use]
    pub fn settings(&self) -> &AccountSettings {
        &self.inner.settings
    }

    /// The lanes of users: whoever plans a change of a user's rows on the newest snapshot holds
    /// that user's lane until it is committed.
    #[must_use]
    pub fn lanes(&self) -> &Lanes<UserNid> {
        &self.inner.lanes
    }

    /// The position of everything that lives in memory only: presence and typing.
    #[must_use]
    pub fn ephemeral(&self) -> &Arc<Ephemeral> {
        &self.inner.ephemeral
    }

    /// Who is online.
    #[must_use]
    pub fn presence(&self) -> &PresenceBoard {
        &self.inner.presence
    }
}
