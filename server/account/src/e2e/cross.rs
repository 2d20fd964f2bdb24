//! `POST /keys/device_signing/upload`: a user's master, self-signing and user-signing keys.

use ruma_common::CanonicalJsonValue;
use ruma_common::canonical_json::CanonicalJsonObject;
use serde::Deserialize;
use serde_json::value::RawValue;
use skerry_core::UserNid;
use skerry_store::schema::account::Devices;
use skerry_store::schema::e2e::{CrossKeyRow, CrossKeyTable, CrossKind};
use skerry_store::{Snapshot, StoreError, Write};

use super::upload::maps_to_strings;
use super::{Keys, KeysError, Owner, lists, signatures, signed};

/// Longest cross-signing key object, in bytes.
const KEY_BYTES_MAX: usize = 65_536;
/// Longest public key, in bytes of base64.
const PUBLIC_BYTES_MAX: usize = 255;

/// All kinds, in the order in which they are checked and stored.
const KINDS: [CrossKind; 3] = [
    CrossKind::Master,
    CrossKind::SelfSigning,
    CrossKind::UserSigning,
];

/// The body of an upload, without `auth`.
#[derive(Debug, Default, Deserialize)]
pub struct CrossSigningUpload {
    /// The master key.
    #[serde(default)]
    pub master_key: Option<Box<RawValue>>,
    /// The self-signing key, signed by the master key.
    #[serde(default)]
    pub self_signing_key: Option<Box<RawValue>>,
    /// The user-signing key, signed by the master key.
    #[serde(default)]
    pub user_signing_key: Option<Box<RawValue>>,
}

/// What became of an upload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CrossSigningOutcome {
    /// The keys are stored, or were already.
    Stored,
    /// The user has to prove who they are first, since keys would be replaced.
    NeedsAuth,
}

/// A checked key.
pub(super) struct CrossKey {
    kind: CrossKind,
    pub(super) public: String,
    object: CanonicalJsonObject,
    json: String,
}

impl CrossKey {
    /// As it is stored.
    pub(super) fn into_row(self) -> CrossKeyRow {
        CrossKeyRow {
            public: self.public,
            json: self.json,
        }
    }
}

/// Whether a key is signed by the user's master key, named by its public part.
pub(super) fn is_signed_by(user_id: &str, key: &CrossKey, master: &str) -> bool {
    let master_id = format!("ed25519:{master}");
    let signature =
        signed::signatures_of(&key.object, user_id).find(|(key_id, _)| *key_id == master_id);
    let text = signed::signed_text(&key.object);
    signature.is_some_and(|(_, signature)| signed::verifies(&text, master, signature))
}

/// Whether a string is the public part of one of the user's cross-signing keys: such a string
/// must not become a device id.
///
/// # Errors
/// Those of the store.
pub fn is_cross_signing_key(
    snap: &Snapshot,
    user: UserNid,
    text: &str,
) -> Result<bool, StoreError> {
    for kind in KINDS {
        if snap
            .get::<CrossKeyTable>(&(user, kind))?
            .is_some_and(|row| row.public == text)
        {
            return Ok(true);
        }
    }
    Ok(false)
}

impl Keys {
    /// Stores cross-signing keys.
    ///
    /// * Without `authorized`, only a first upload and one that changes nothing go through; for
    ///   all else the outcome is [`CrossSigningOutcome::NeedsAuth`] and nothing is stored.
    /// * A self-signing or user-signing key must be signed by the master key that comes with it,
    ///   or else by the one stored.
    /// * A new master key takes away those other keys that did not come with it: they are not
    ///   signed by it.
    ///
    /// Spec: client-server API, `POST /keys/device_signing/upload`.
    ///
    /// # Errors
    /// [`KeysError::Shape`], [`KeysError::NoMaster`], [`KeysError::Signature`],
    /// [`KeysError::KeyIdInUse`] and those of the store.
    pub async fn upload_cross_signing(
        &self,
        owner: &Owner,
        upload: &CrossSigningUpload,
        authorized: bool,
    ) -> Result<CrossSigningOutcome, KeysError> {
        let owner = owner.clone();
        let keys = check(&owner.user_id, upload)?;
        self.in_lane(owner.user, move |this, w| {
            store(&this.store().newest(), w, &owner, keys, authorized)
        })
        .await
    }
}

fn store(
    snap: &Snapshot,
    w: &mut Write,
    owner: &Owner,
    keys: Vec<CrossKey>,
    authorized: bool,
) -> Result<CrossSigningOutcome, KeysError> {
    let mut old = Vec::with_capacity(KINDS.len());
    for kind in KINDS {
        old.push(snap.get::<CrossKeyTable>(&(owner.user, kind))?);
    }
    let old_of = |kind: CrossKind| {
        let at = KINDS.iter().position(|other| *other == kind);
        at.and_then(|at| old.get(at)).and_then(Option::as_ref)
    };
    check_against_store(snap, owner, &keys, old_of(CrossKind::Master))?;
    let same = |key: &CrossKey| old_of(key.kind).is_some_and(|row| row.json == key.json);
    let new_master = keys
        .iter()
        .any(|key| key.kind == CrossKind::Master && !same(key));
    if keys.iter().all(same) {
        return Ok(CrossSigningOutcome::Stored);
    }
    if old_of(CrossKind::Master).is_some() && !authorized {
        return Ok(CrossSigningOutcome::NeedsAuth);
    }
    let mut public = false;
    for kind in KINDS {
        let old = old_of(kind);
        let Some(key) = keys.iter().find(|key| key.kind == kind) else {
            if let Some(old) = old.filter(|_| new_master) {
                w.delete::<CrossKeyTable>(&(owner.user, kind));
                signatures::drop_about(snap, w, owner.user, &old.public)?;
            }
            continue;
        };
        if same(key) {
            continue;
        }
        public |= kind != CrossKind::UserSigning;
        if let Some(old) = old.filter(|old| old.public != key.public) {
            signatures::drop_about(snap, w, owner.user, &old.public)?;
        }
        let row = CrossKeyRow {
            public: key.public.clone(),
            json: key.json.clone(),
        };
        w.put::<CrossKeyTable>(&(owner.user, kind), &row);
    }
    if public {
        lists::note_own_keys(w, owner.user);
    } else {
        lists::note_private(w, owner.user, owner.user);
    }
    Ok(CrossSigningOutcome::Stored)
}

/// Checks what depends on what is stored: the signing master key, and the user's device ids.
fn check_against_store(
    snap: &Snapshot,
    owner: &Owner,
    keys: &[CrossKey],
    old_master: Option<&CrossKeyRow>,
) -> Result<(), KeysError> {
    let new_master = keys.iter().find(|key| key.kind == CrossKind::Master);
    let master = new_master
        .map(|key| &key.public)
        .or(old_master.map(|row| &row.public));
    for key in keys {
        if snap
            .get::<Devices>(&(owner.user, key.public.clone()))?
            .is_some()
        {
            return Err(KeysError::KeyIdInUse);
        }
        if key.kind == CrossKind::Master {
            continue;
        }
        let master = master.ok_or(KeysError::NoMaster)?;
        if !is_signed_by(&owner.user_id, key, master) {
            return Err(KeysError::Signature(
                "the key is not signed by the master key",
            ));
        }
    }
    Ok(())
}

/// Everything about an upload that can be judged without the store.
fn check(user_id: &str, upload: &CrossSigningUpload) -> Result<Vec<CrossKey>, KeysError> {
    let named = [
        (CrossKind::Master, "master", &upload.master_key),
        (
            CrossKind::SelfSigning,
            "self_signing",
            &upload.self_signing_key,
        ),
        (
            CrossKind::UserSigning,
            "user_signing",
            &upload.user_signing_key,
        ),
    ];
    let mut keys: Vec<CrossKey> = Vec::new();
    for (kind, usage, raw) in named {
        let Some(raw) = raw else { continue };
        let key = check_key(user_id, kind, usage, raw)?;
        if keys.iter().any(|other| other.public == key.public) {
            return Err(KeysError::Shape(
                "two keys have the same public key".to_owned(),
            ));
        }
        keys.push(key);
    }
    Ok(keys)
}

pub(super) fn check_key(
    user_id: &str,
    kind: CrossKind,
    usage: &str,
    raw: &RawValue,
) -> Result<CrossKey, KeysError> {
    let refuse = |what: &str| Err(KeysError::Shape(format!("{usage} key: {what}")));
    if raw.get().len() > KEY_BYTES_MAX {
        return refuse("too long");
    }
    let mut object = signed::object(raw, "a cross-signing key")?;
    object.remove("unsigned");
    if signed::string(&object, "user_id") != Some(user_id) {
        return refuse("user_id is not the user who uploads");
    }
    let usages = object.get("usage").and_then(CanonicalJsonValue::as_array);
    if !usages.is_some_and(|list| list.iter().any(|entry| entry.as_str() == Some(usage))) {
        return refuse("usage does not say so");
    }
    let public = object
        .get("keys")
        .and_then(CanonicalJsonValue::as_object)
        .and_then(|keys| {
            let mut keys = keys.iter();
            let (id, value) = keys.next().filter(|_| keys.len() == 0)?;
            let public = id.strip_prefix("ed25519:")?;
            (value.as_str() == Some(public)).then(|| public.to_owned())
        });
    let Some(public) = public.filter(|key| !key.is_empty() && key.len() <= PUBLIC_BYTES_MAX) else {
        return refuse("keys has to hold one ed25519 key under its own name");
    };
    let signatures = object.get("signatures").map(CanonicalJsonValue::as_object);
    if signatures.is_some_and(|map| !map.is_some_and(|map| map.values().all(maps_to_strings))) {
        return refuse("signatures does not map user ids to key ids to strings");
    }
    let json = signed::text(&object);
    Ok(CrossKey {
        kind,
        public,
        object,
        json,
    })
}
