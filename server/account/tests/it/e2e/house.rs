//! A store in a temporary directory with people and devices in it.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use ruma_common::CanonicalJsonValue;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use skerry_account::e2e::{Keys, Owner, QueriedKeys};
use skerry_account::{
    AccountSettings, Accounts, LoginName, LoginRequest, NewDevice, PasswordCost, PasswordLogin,
};
use skerry_core::fixtures::{FakeClock, SeededSource};
use skerry_core::keys::SigningKey;
use skerry_store::{Snapshot, Store, StoreOptions, Write};

pub const SERVER: &str = "skerry.test";
const ALONE: &str = "alone.test";
const PASSWORD: &str = "correct horse";

pub struct House {
    dir: tempfile::TempDir,
    server: &'static str,
    pub clock: Arc<FakeClock>,
    pub store: Arc<Store>,
    pub accounts: Accounts,
    pub keys: Keys,
}

fn open(dir: &std::path::Path, server: &str, clock: &Arc<FakeClock>) -> (Arc<Store>, Accounts) {
    let store = Store::open(dir, StoreOptions::for_tests()).unwrap();
    let mut settings = AccountSettings::new(server, [7; 32]);
    settings.password_cost = PasswordCost::Minimal;
    settings.federates = server != ALONE;
    let dice = Arc::new(SeededSource::new(1));
    let accounts = Accounts::new(store.clone(), clock.clone(), dice, settings).unwrap();
    (store, accounts)
}

impl House {
    pub fn new() -> House {
        House::of(SERVER)
    }

    /// A server of another name.
    pub fn of(server: &'static str) -> House {
        let (dir, clock) = (tempfile::tempdir().unwrap(), Arc::new(FakeClock::new()));
        let (store, accounts) = open(dir.path(), server, &clock);
        House {
            dir,
            server,
            clock,
            store,
            keys: accounts.keys(),
            accounts,
        }
    }

    /// A server that talks to no others.
    pub fn alone() -> House {
        House::of(ALONE)
    }

    pub fn clock_ms(&self) -> u64 {
        skerry_core::Clock::now_ms(&*self.clock)
    }

    /// Stops the server and starts it again.
    pub fn restart(self) -> House {
        let House {
            dir,
            server,
            clock,
            store,
            accounts,
            keys,
        } = self;
        drop((accounts, keys));
        store.close();
        drop(store);
        let (store, accounts) = open(dir.path(), server, &clock);
        House {
            dir,
            server,
            clock,
            store,
            keys: accounts.keys(),
            accounts,
        }
    }

    pub async fn person(&self, name: &str, devices: &[&str]) -> Owner {
        let user = self
            .accounts
            .create_user(name, PASSWORD.to_owned(), None)
            .await
            .unwrap();
        let owner = Owner {
            user_id: format!("@{name}:{}", self.server).into(),
            user,
        };
        for device in devices {
            self.log_in(&owner, device).await;
        }
        owner
    }

    pub async fn log_in(&self, owner: &Owner, device: &str) {
        let by = PasswordLogin {
            who: LoginName::User(owner.user_id.to_string()),
            password: PASSWORD.to_owned(),
        };
        let device = NewDevice {
            device_id: Some(device.to_owned()),
            display_name: None,
            refresh: false,
        };
        self.accounts
            .log_in(LoginRequest { by, device })
            .await
            .unwrap();
    }

    pub fn snap(&self) -> Snapshot {
        self.store.snapshot()
    }

    /// Commits, and waits until readers see it.
    pub fn commit(&self, w: Write) {
        let applied = self.store.commit(w).unwrap();
        self.store.wait_durable(&applied).unwrap();
    }

    /// Uploads a body of `/keys/upload`.
    pub async fn upload(&self, owner: &Owner, device: &str, body: Value) -> Value {
        let body = serde_json::from_str(&body.to_string()).unwrap();
        json!(
            self.keys
                .upload(owner, device, body)
                .await
                .unwrap()
                .one_time
        )
    }

    /// Claims one key and gives its id.
    pub async fn claim(&self, owner: &Owner, device: &str) -> Option<String> {
        let request = json!({ &*owner.user_id: { device: "signed_curve25519" } });
        let claimed = self
            .keys
            .claim(serde_json::from_value(request).unwrap())
            .await
            .unwrap();
        let mut devices = claimed.keys.into_iter().next()?.1.into_iter();
        devices.next()?.1.into_keys().next()
    }

    /// All keys of a user as another sees them.
    pub async fn query(&self, viewer: &Owner, owner: &Owner) -> QueriedKeys {
        let query = json!({ "device_keys": { &*owner.user_id: [] } });
        self.keys
            .query(viewer, serde_json::from_value(query).unwrap())
            .await
            .unwrap()
    }
}

/// JSON as it is taken from a request.
pub fn raw(value: Value) -> Box<RawValue> {
    RawValue::from_string(value.to_string()).unwrap()
}

/// One-time keys of the usual algorithm, one for each id.
pub fn one_time(ids: impl IntoIterator<Item = String>) -> Value {
    let keys: serde_json::Map<String, Value> = ids
        .into_iter()
        .map(|id| {
            (
                format!("signed_curve25519:{id}"),
                json!({ "key": format!("key of {id}") }),
            )
        })
        .collect();
    Value::Object(keys)
}

pub fn signing_key(seed: u8) -> SigningKey {
    SigningKey::from_seed(&[seed; 32], "1").unwrap()
}

pub fn public(key: &SigningKey) -> String {
    STANDARD_NO_PAD.encode(key.public_key())
}

/// Adds a signature of `user_id` under `key_id`.
pub fn sign(object: &mut Value, user_id: &str, key_id: &str, key: &SigningKey) {
    let mut bare = object.clone();
    bare.as_object_mut().unwrap().remove("signatures");
    bare.as_object_mut().unwrap().remove("unsigned");
    let text = CanonicalJsonValue::try_from(bare).unwrap().to_string();
    object["signatures"][user_id][key_id] = json!(key.sign(text.as_bytes()));
}

/// Identity keys of a device whose ed25519 key is made from a seed, signed by it.
pub fn device_keys(owner: &Owner, device: &str, seed: u8) -> Value {
    let key = signing_key(seed);
    let key_id = format!("ed25519:{device}");
    let mut object = json!({
        "user_id": &*owner.user_id,
        "device_id": device,
        "algorithms": ["m.olm.v1.curve25519-aes-sha2", "m.megolm.v1.aes-sha2"],
        "keys": {
            &key_id: public(&key),
            format!("curve25519:{device}"): "3C5BFWi2Y8MaVvjM8M22DBmh24PmgR0nPvJOIArzgyI",
        },
    });
    sign(&mut object, &owner.user_id, &key_id, &key);
    object
}

/// A cross-signing key made from a seed.
pub fn cross_key(owner: &Owner, usage: &str, seed: u8) -> Value {
    let public = public(&signing_key(seed));
    json!({
        "user_id": &*owner.user_id,
        "usage": [usage],
        "keys": { format!("ed25519:{public}"): public },
    })
}

/// The id under which a cross-signing key made from a seed signs.
pub fn cross_id(seed: u8) -> String {
    format!("ed25519:{}", public(&signing_key(seed)))
}

/// Parses what a facade gave as JSON text.
pub fn parsed(raw: &RawValue) -> Value {
    serde_json::from_str(raw.get()).unwrap()
}
