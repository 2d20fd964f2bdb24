//! Accounts in a temporary directory, under a clock and dice of the test's own.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use serde_json::{Value, json};
use skerry_account::{
    AccountError, AccountSettings, Accounts, Grant, LoginName, LoginRequest, NewDevice,
    PasswordCost, PasswordLogin, Registered, Session, UiaScope,
};
use skerry_core::UserNid;
use skerry_core::fixtures::{FakeClock, SeededSource};
use skerry_store::{Snapshot, Store, StoreOptions};

pub const SERVER: &str = "skerry.test";
pub const PASSWORD: &str = "correct horse";
pub const PEER: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

pub struct Home {
    dir: tempfile::TempDir,
    settings: AccountSettings,
    pub store: Arc<Store>,
    pub clock: Arc<FakeClock>,
    pub accounts: Accounts,
}

impl Home {
    pub fn new() -> Home {
        Home::with(|_| {})
    }

    pub fn open() -> Home {
        Home::with(|settings| {
            settings.registration.enabled = true;
            settings.registration.open = true;
        })
    }

    pub fn with(change: impl FnOnce(&mut AccountSettings)) -> Home {
        let mut settings = AccountSettings::new(SERVER, [7; 32]);
        settings.password_cost = PasswordCost::Minimal;
        change(&mut settings);
        let dir = tempfile::tempdir().unwrap();
        let clock = Arc::new(FakeClock::new());
        let (store, accounts) = start(dir.path(), &settings, &clock, 1);
        Home {
            dir,
            settings,
            store,
            clock,
            accounts,
        }
    }

    /// Stops the server and starts it again.
    pub fn restart(self) -> Home {
        let Home {
            dir,
            settings,
            store,
            clock,
            accounts,
        } = self;
        drop(accounts);
        store.close();
        drop(store);
        let (store, accounts) = start(dir.path(), &settings, &clock, 2);
        Home {
            dir,
            settings,
            store,
            clock,
            accounts,
        }
    }

    pub fn snap(&self) -> Snapshot {
        self.store.snapshot()
    }

    pub async fn person(&self, name: &str) -> UserNid {
        self.accounts
            .create_user(name, PASSWORD.to_owned(), None)
            .await
            .unwrap()
    }

    pub async fn try_log_in(&self, user: &str, password: &str) -> Result<Grant, AccountError> {
        self.log_in_with(user, password, NewDevice::default()).await
    }

    pub async fn log_in_with(
        &self,
        user: &str,
        password: &str,
        device: NewDevice,
    ) -> Result<Grant, AccountError> {
        let by = PasswordLogin {
            who: LoginName::User(user.to_owned()),
            password: password.to_owned(),
        };
        self.accounts.log_in(LoginRequest { by, device }).await
    }

    /// Logs in on a device of that id.
    pub async fn log_in(&self, user: &str, device: &str) -> Grant {
        let device_id = Some(device.to_owned());
        let device = NewDevice {
            device_id,
            ..NewDevice::default()
        };
        self.log_in_with(user, PASSWORD, device).await.unwrap()
    }

    pub async fn authenticate(&self, token: &str) -> Result<Arc<Session>, AccountError> {
        self.accounts.authenticate(token, PEER, None).await
    }

    /// `POST /register` with this body.
    pub async fn register(&self, body: Value) -> Result<Registered, AccountError> {
        self.accounts
            .register(scope(None, "POST", "/register"), body)
            .await
    }

    /// Registers where registration is open.
    pub async fn register_dummy(&self, name: &str) -> Result<Registered, AccountError> {
        let auth = json!({ "type": "m.login.dummy" });
        self.register(json!({ "username": name, "password": PASSWORD, "auth": auth }))
            .await
    }
}

fn start(
    dir: &std::path::Path,
    settings: &AccountSettings,
    clock: &Arc<FakeClock>,
    seed: u64,
) -> (Arc<Store>, Accounts) {
    let store = Store::open(dir, StoreOptions::for_tests()).unwrap();
    let dice = Arc::new(SeededSource::new(seed));
    let accounts = Accounts::new(store.clone(), clock.clone(), dice, settings.clone()).unwrap();
    (store, accounts)
}

pub fn scope(user: Option<UserNid>, method: &str, path: &str) -> UiaScope {
    UiaScope {
        user,
        method: method.to_owned(),
        appservice: false,
        path: path.to_owned(),
    }
}

/// The body of a 401 of user-interactive authentication.
pub fn challenge<T: std::fmt::Debug>(result: Result<T, AccountError>) -> Value {
    match result {
        Err(AccountError::Interactive(body)) => *body,
        other => panic!("expected a challenge, got {other:?}"),
    }
}
