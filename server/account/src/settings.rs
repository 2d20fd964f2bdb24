//! What the configuration decides about accounts.

use std::sync::Arc;

use serde_json::Value;

use crate::appservice;
use crate::pusher::GatewayCheck;

/// How hard passwords are hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum PasswordCost {
    /// argon2id with 19 MiB and two passes.
    #[default]
    Default,
    /// As little as argon2id allows: for tests.
    Minimal,
}

/// Terms that people agree to when they register.
#[derive(Clone, Debug)]
pub struct Terms {
    /// Version, noted in the account.
    pub version: String,
    /// The `params` of the stage `m.login.terms`, as in the spec.
    pub params: Value,
}

/// Who may register, and how.
#[derive(Clone, Debug, Default)]
pub struct RegistrationSettings {
    /// Whether the client API registers anyone at all.
    pub enabled: bool,
    /// Whether no registration token is needed.
    pub open: bool,
    /// Whether an e-mail address has to be shown; only where mail is sent.
    pub email_required: bool,
    /// Enables registration by a shared secret; must not be empty.
    pub shared_secret: Option<String>,
    /// Terms to agree to.
    pub terms: Option<Terms>,
}

/// What the configuration decides about accounts.
#[derive(Clone)]
pub struct AccountSettings {
    /// The part after the colon of the ids of this server's users.
    pub server_name: String,
    /// Who may register.
    pub registration: RegistrationSettings,
    /// Whether guests may register.
    pub guests: bool,
    /// Whether this server sends e-mail, and so keeps addresses.
    pub email: bool,
    /// Whether this server talks to other Matrix servers.
    pub federates: bool,
    /// Whether other servers are told the names of devices.
    pub tells_device_names: bool,
    /// How hard passwords are hashed.
    pub password_cost: PasswordCost,
    /// How long an access token that can be refreshed is good for, in ms.
    pub access_token_ms: u64,
    /// Secret key under which tokens are hashed.
    pub pepper: [u8; 32],
    /// Localpart of the account in whose name the server speaks: nobody can register it.
    pub service_name: Option<String>,
    /// Says of a host whether push gateways on it may be reached without TLS.
    pub plain_gateway: GatewayCheck,
    /// How many sessions are kept in memory so that a request's token needs no look-up on disk.
    pub cached_sessions: usize,
    /// Application services that the configuration names.
    pub appservices: Vec<appservice::Registration>,
}

impl AccountSettings {
    /// Closed registration, no guests, and usual limits.
    #[must_use]
    pub fn new(server_name: &str, pepper: [u8; 32]) -> AccountSettings {
        AccountSettings {
            server_name: server_name.to_owned(),
            registration: RegistrationSettings::default(),
            guests: false,
            email: false,
            federates: false,
            tells_device_names: false,
            password_cost: PasswordCost::Default,
            access_token_ms: 60 * 60 * 1000,
            pepper,
            service_name: None,
            plain_gateway: Arc::new(|_| false),
            cached_sessions: 20_000,
            appservices: Vec::new(),
        }
    }
}
